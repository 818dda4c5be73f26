"""Tests of the count's own decisions: `cd perf && python3 -m unittest harness.test_instructions`."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from harness import count_command
from harness.callgrind import Count, CountFailed, read_profile
from harness.instructions import (
    TOLERANCE, as_json, compare, differences, entry, growth, table,
)

# Two functions that call a third; names are given once and then by number.
PROFILE = """\
# callgrind format
version: 1
cmd: ./pieces a_piece
positions: line
events: Ir
summary: 175

fl=(1) meter.rs
fn=(1) highwater_perf_micro::meter::counted
10 5
cfi=(2) produce.rs
cfn=(2) highwater_broker::produce::check_batch
calls=2 40
+1 170

fl=(2)
fn=(2)
40 20
fi=(3) ptr.rs
+2 10
fe=(2)
cfn=(3) crc_fast::update.llvm.123
calls=2 7
* 140

fl=(4) update.rs
fn=(3)
7 100
-2 40
"""


def piece(instructions, functions, inclusive=None):
    return {"instructions": instructions, "functions": functions, "inclusive": inclusive or {}}


class ProfileTest(unittest.TestCase):
    def test_own_and_inclusive_costs_by_function(self):
        count = read_profile(PROFILE)
        self.assertEqual(count.total, 175)
        self.assertEqual(count.own, {
            "highwater_perf_micro::meter::counted": 5,
            "highwater_broker::produce::check_batch": 30,
            "crc_fast::update": 140,
        })
        self.assertEqual(count.inclusive["highwater_broker::produce::check_batch"], 170)
        self.assertEqual(count.inclusive["crc_fast::update"], 140)

    def test_costs_that_do_not_add_up_are_refused(self):
        with self.assertRaises(CountFailed):
            read_profile(PROFILE.replace("summary: 175", "summary: 176"))

    def test_an_entry_is_per_operation_and_keeps_the_inclusive_costs_of_our_own(self):
        count = Count(10, 1004, {"a": 996, "b": 4}, {"highwater_store::a": 996, "memcpy": 4})
        self.assertEqual(entry(count), piece(100, {"a": 100}, {"highwater_store::a": 100}))

    def test_what_only_measures_is_not_ours(self):
        names = ["highwater_perf_micro::meter::counted", "highwater_reactor::testing::with_frame",
                 "<highwater_broker::shard::Shard as highwater_reactor::service::Service>::on_frame"]
        count = Count(1, 3, {}, dict.fromkeys(names, 1))
        self.assertEqual(list(entry(count)["inclusive"]), names[2:])


class CompareTest(unittest.TestCase):
    def test_five_percent_is_taken_and_more_is_not(self):
        before = {"a": piece(1000, {}), "b": piece(1000, {}), "c": piece(1000, {})}
        now = {"a": piece(1050, {}), "b": piece(1051, {}), "c": piece(10, {})}
        changes = compare(before, now, TOLERANCE)
        self.assertEqual([change.is_too_much for change in changes], [False, True, False])

    def test_the_function_that_grew_most_is_named_with_those_it_is_in(self):
        update, check, crc = "crc_fast::update", "highwater_b::check", "highwater_a::crc"
        before = piece(10_240, {update: 1600, check: 300}, {check: 2000, crc: 1640})
        now = piece(11_900, {update: 3200, check: 360}, {check: 3700, crc: 3280})
        lines = table(compare({"batch_check": before}, {"batch_check": now}, TOLERANCE)).split("\n")
        self.assertIn("TOO MUCH", lines[1])
        self.assertEqual(lines[2], (
            "batch_check: 10,240 -> 11,900 (+16 %): "
            "crc_fast::update +1,600 (in highwater_a::crc, in highwater_b::check)"
        ))

    def test_a_function_of_our_own_needs_no_place_and_a_new_one_counts_whole(self):
        before = piece(100, {"highwater_a::old": 100}, {"highwater_a::old": 100})
        now = piece(200, {"highwater_a::old": 110, "highwater_a::new": 90},
                    {"highwater_a::old": 200, "highwater_a::new": 90})
        [change] = compare({"a": before}, {"a": now}, TOLERANCE)
        self.assertEqual(change.grown, ["highwater_a::new +90", "highwater_a::old +10"])

    def test_a_piece_on_one_side_only_fails(self):
        changes = compare({"gone": piece(1, {})}, {"new": piece(1, {})}, TOLERANCE)
        self.assertEqual([(change.piece, change.is_too_much) for change in changes],
                         [("new", True), ("gone", True)])
        text = table(changes)
        self.assertIn("new: no baseline", text)
        self.assertIn("gone: a baseline but no such piece", text)

    def test_growth_is_the_largest_first_and_leaves_out_what_shrank(self):
        found = growth({"a": 5, "b": 5, "c": 5}, {"a": 6, "b": 9, "c": 1, "d": 2})
        self.assertEqual(found, [("b", 4), ("d", 2), ("a", 1)])

    def test_another_toolchain_is_said_and_none_is_not(self):
        here = {"compiler": "rustc 2", "libc": "glibc 2"}
        self.assertEqual(differences({"compiler": "rustc 1", "libc": "glibc 2"}, here),
                         ["compiler was rustc 1, is rustc 2"])
        self.assertEqual(differences({}, here), [])

    def test_json_has_every_piece(self):
        changes = compare({"a": piece(100, {})}, {"a": piece(110, {"f": 110})}, TOLERANCE)
        found = as_json(changes, {"processor": "any"}, {}, TOLERANCE)
        self.assertEqual(found["pieces"]["a"]["baseline"], 100)
        self.assertEqual(found["pieces"]["a"]["now"], 110)
        self.assertTrue(found["pieces"]["a"]["too_much"])
        self.assertAlmostEqual(found["pieces"]["a"]["change"], 0.10)


class CommandTest(unittest.TestCase):
    """The command with a toolchain and counts made up."""

    HERE = {"compiler": "rustc 1", "libc": "glibc 2", "processor": "any", "valgrind": "v"}

    def run_with(self, baselines, instructions, *arguments):
        """The exit code, what it printed, and the baselines afterwards."""
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
            kept = Path(directory) / "instructions.json"
            if baselines is not None:
                kept.write_text(json.dumps(baselines))
            found = {
                "BASELINES": kept,
                "find_valgrind": lambda: "valgrind",
                "toolchain": lambda valgrind: self.HERE,
                "build": lambda: Path("pieces"),
                "pieces_of": lambda binary, only: ["a"],
                "count_all": lambda valgrind, binary, pieces: {"a": piece(instructions, {})},
            }
            for name, value in found.items():
                stack.enter_context(mock.patch.object(count_command, name, value))
            out, errors = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                code = count_command.main(list(arguments))
            after = json.loads(kept.read_text()) if kept.exists() else None
            return code, out.getvalue(), after

    def baselines(self, compiler="rustc 1"):
        return {"toolchain": {**self.HERE, "compiler": compiler}, "pieces": {"a": piece(1000, {})}}

    def test_exit_code_says_whether_anything_is_too_much(self):
        self.assertEqual(self.run_with(self.baselines(), 1050)[0], 0)
        self.assertEqual(self.run_with(self.baselines(), 1051)[0], 1)
        self.assertEqual(self.run_with(None, 1000)[0], 1)

    def test_another_compiler_widens_the_limit_and_is_said(self):
        code, text, _ = self.run_with(self.baselines("rustc 0"), 1150)
        self.assertEqual(code, 0)
        self.assertIn("compiler was rustc 0, is rustc 1", text)
        self.assertIn("15%", text)
        self.assertEqual(self.run_with(self.baselines("rustc 0"), 1151)[0], 1)

    def test_another_processor_is_said_and_nothing_is_judged(self):
        baselines = self.baselines()
        baselines["toolchain"]["processor"] = "other"
        code, text, _ = self.run_with(baselines, 2000)
        self.assertEqual(code, 0)
        self.assertIn("processor was other, is any", text)
        self.assertIn("nothing is judged", text)

    def test_update_writes_the_baselines_and_does_not_fail(self):
        code, _, after = self.run_with(self.baselines("rustc 0"), 2000, "--update")
        self.assertEqual(code, 0)
        self.assertEqual(after, {"toolchain": self.HERE, "pieces": {"a": piece(2000, {})}})

    def test_without_update_the_baselines_stay(self):
        self.assertEqual(self.run_with(self.baselines(), 1)[2], self.baselines())

    def test_json_is_all_that_standard_output_gets(self):
        code, text, _ = self.run_with(self.baselines(), 2000, "--json")
        self.assertEqual(code, 1)
        self.assertEqual(json.loads(text)["pieces"]["a"]["now"], 2000)

    def test_without_valgrind_it_says_how_to_get_it(self):
        errors = io.StringIO()
        with mock.patch("shutil.which", return_value=None), contextlib.redirect_stderr(errors):
            self.assertEqual(count_command.main([]), 2)
        self.assertIn("apt-get install valgrind", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
