"""Tests of the side-by-side with Kafka: ratios, targets, rendering, the first record's bytes."""

import json
import struct
import unittest

from harness import first_record, kafka, peers_report, peers_rows
from harness.load_generator import checked, ladder_of, series_of
from harness.machine import CannotMeasure
from harness.peers_rows import ALL_CORES, HIGHWATER, KAFKA, KAFKA_SYNC, LARGER, ONE_CORE, SMALLER


def figures(**changes):
    """Figures of one core that meet every target by exactly nothing."""
    found = {
        HIGHWATER: {
            "p50_us": [100.0, 90.0, 110.0], "p99_us": [200.0], "half_knee_p99_9_us": [300.0],
            "half_sync_knee_p99_9_us": [300.0], "knee_per_s": [3000.0],
            "produce_bytes_per_cpu_s": [4e9], "consume_bytes_per_cpu_s": [3e9],
            "resident_bytes": [100 << 20], "start_s": [0.1], "end_to_end_p99_us": [400.0],
            "one_partitions_per_s": [1000.0], "many_partitions_per_s": [600.0],
        },
        KAFKA: {
            "p99_us": [400.0], "half_knee_p99_9_us": [900.0], "knee_per_s": [1000.0],
            "produce_bytes_per_cpu_s": [1e9], "consume_bytes_per_cpu_s": [1e9],
            "resident_bytes": [400 << 20], "start_s": [1.0],
        },
        KAFKA_SYNC: {
            "p50_us": [500.0], "p99_us": [1000.0], "half_sync_knee_p99_9_us": [900.0],
            "knee_per_s": [1000.0],
        },
    }
    for path, value in changes.items():
        side, metric = path.split("__")
        found[side][metric] = value
    return {ONE_CORE: found}


def data(found, **changes):
    """All a report needs."""
    return {
        "figures": found, "ladders": [], "curves": [], "bounded": {}, "half_knees": [],
        "failures": [], "warnings": [], "noise": "quiet", "rounds": 3, "rate": 500, "quick": False,
        "made": "Measured on a day.", "machine": [["kernel", "6.1"]], "kafka_settings":
        [["num.io.threads", "4", "because"]], "kafka_unchanged": [["log4j", "errors"]],
        "highwater_settings": "none",
        "method": {"before_s": 6, "step_s": 2, "ladder_from": 250, "knee_ms": 5,
                   "record_bytes": 1024, "connections": 4, "bulk_connections": 16,
                   "bulk_in_flight": 16, "fill_mb": 512, "half_knee_min": 100},
    } | changes


class RatioTest(unittest.TestCase):
    def test_larger_is_better_for_us_whatever_is_measured(self):
        self.assertEqual(peers_rows.ratio([10.0], [50.0], SMALLER), 5.0)
        self.assertEqual(peers_rows.ratio([50.0], [10.0], LARGER), 5.0)

    def test_it_is_of_medians(self):
        self.assertEqual(peers_rows.ratio([1.0, 10.0, 1000.0], [20.0, 20.0, 1.0], SMALLER), 2.0)

    def test_nothing_measured_and_zero_make_none(self):
        self.assertIsNone(peers_rows.ratio([], [1.0], SMALLER))
        self.assertIsNone(peers_rows.ratio([0.0], [1.0], SMALLER))


class RowsTest(unittest.TestCase):
    def rows(self, **changes):
        return {row.key: row for row in peers_rows.comparisons(figures(**changes), ONE_CORE)}

    def test_targets_are_inclusive(self):
        self.assertEqual([row.key for row in self.rows().values() if not row.met], [])

    def test_each_key_is_judged_by_its_own_figures(self):
        for comparison in peers_rows.COMPARISONS:
            worse = 1e12 if comparison.better == SMALLER else 1.0
            rows = self.rows(**{f"highwater__{comparison.metric}": [worse]})
            self.assertFalse(rows[comparison.key].met, comparison.key)

    def test_the_sides_are_those_that_the_targets_name(self):
        rows = self.rows(kafka_sync__p50_us=[200.0], kafka__p99_us=[100.0])
        self.assertEqual(rows["sync_p50"].value, 2.0)
        self.assertEqual(rows["sync_p99"].value, 5.0)
        self.assertEqual(rows["nosync_p99"].value, 0.5)

    def test_a_bound_of_theirs_meets_and_a_bound_of_ours_does_not(self):
        for side, bound, met in ((KAFKA, "at least", True), (HIGHWATER, "at most", False)):
            rows = peers_rows.comparisons(figures(), ONE_CORE, {(side, "knee_per_s")})
            row = next(row for row in rows if row.key == "knee")
            self.assertEqual((row.bound, row.met), (bound, met))

    def test_what_was_not_measured_is_not_judged(self):
        row = self.rows(kafka__start_s=[])["start"]
        self.assertIsNone(row.value)
        self.assertIsNone(row.met)

    def test_against_ourselves_smaller_shares_and_longer_ways_are_missed(self):
        found = {row.key: row for row in peers_rows.against_ourselves(figures()) if row.key}
        self.assertTrue(found["many_partitions"].met)
        self.assertTrue(found["end_to_end"].met)
        slow = figures(highwater__many_partitions_per_s=[599.0],
                       highwater__end_to_end_p99_us=[401.0])
        found = {row.key: row for row in peers_rows.against_ourselves(slow) if row.key}
        self.assertFalse(found["many_partitions"].met)
        self.assertFalse(found["end_to_end"].met)


class ReportTest(unittest.TestCase):
    def test_json_has_the_promised_keys_and_null_for_the_rest(self):
        found = json.loads(peers_report.as_json(data(figures(kafka__start_s=[]))))
        for key in ("sync_p50 sync_p99 nosync_p99 p999_at_half_knee knee produce_bytes_per_cpu "
                    "consume_bytes_per_cpu memory start").split():
            self.assertIn(key, found)
        self.assertEqual(found["sync_p50"], 5.0)
        self.assertIsNone(found["start"])
        self.assertIsNone(found["all_cores_knee"])

    def test_the_report_names_misses_bounds_failures_and_what_a_person_wrote(self):
        text = peers_report.markdown(
            data(figures(highwater__start_s=[1.0]), failures=[["Kafka", "it fell over"]],
                 bounded={ONE_CORE: [[KAFKA, "knee_per_s"]]}, quick=True),
            "A reading of it.",
        )
        self.assertIn("missed: `start` (1.00)", text)
        self.assertIn("at least 3.00", text)
        self.assertIn("it fell over", text)
        self.assertIn("A reading of it.", text)
        self.assertIn("smoke run", text)
        self.assertNotIn("on all cores\n", text)

    def test_a_rate_that_was_not_held_is_said(self):
        held = data(figures(kafka_sync__reached_per_s=[500.0, 499.0, 300.0]))
        self.assertEqual(peers_report.overload_sentence(held, ONE_CORE), "")
        found = data(figures(kafka_sync__reached_per_s=[500.0, 300.0, 300.0]))
        text = peers_report.overload_sentence(found, ONE_CORE)
        self.assertIn("Kafka (flush.messages=1) reached only 300/s", text)

    def test_warnings_are_counted_by_kind(self):
        rows = peers_report.grouped([["a", "clock", "x"], ["b", "clock", "y"], ["c", "errors", "z"]])
        self.assertEqual(rows, [["clock", 2, "a", "x"], ["errors", 1, "c", "z"]])


class LoadGeneratorTest(unittest.TestCase):
    def run_of(self, **changes):
        series = {"name": "produce", "records": 10, "errors": 0, "records_per_s": 5.0,
                  "latency": {"samples": 10, "p50_us": 1.0, "p99_us": 2.0}} | changes
        return {"label": "5/s", "rate_target_per_s": 5.0, "series": [series]}

    def test_errors_and_silence_are_no_measurement(self):
        self.assertEqual(checked(self.run_of(), "produce")["records"], 10)
        for run in (self.run_of(errors=1), self.run_of(records=0), self.run_of(name="fetch")):
            with self.assertRaises(CannotMeasure):
                checked(run, "produce")

    def test_one_run_is_expected(self):
        with self.assertRaises(CannotMeasure):
            series_of({"runs": [self.run_of(), self.run_of()]}, "produce")

    def test_a_ladder_has_many_and_some_do_not_reach_their_rate(self):
        runs = [self.run_of(), self.run_of(errors=1), self.run_of(records_per_s=4.0)]
        self.assertEqual([step["reached"] for step in ladder_of({"runs": runs})],
                         [True, False, False])
        silent = self.run_of(latency={"samples": 0, "p50_us": 0.0, "p99_us": 0.0})
        with self.assertRaises(CannotMeasure):
            ladder_of({"runs": [silent]})


class FirstRecordTest(unittest.TestCase):
    def test_the_checksum_is_castagnoli(self):
        self.assertEqual(first_record.crc32c(b"123456789"), 0xE3069283)

    def test_numbers_are_zigzag(self):
        self.assertEqual(first_record.varint(-1), b"\x01")
        self.assertEqual(first_record.varint(1024), b"\x80\x10")

    def test_lengths_and_checksum_cover_what_they_should(self):
        frame = first_record.produce_request("t", b"value", 1234)
        self.assertEqual(struct.unpack_from(">i", frame)[0], len(frame) - 4)
        batch = first_record.record_batch(b"value", 1234)
        self.assertEqual(struct.unpack_from(">i", batch, 8)[0], len(batch) - 12)
        self.assertEqual(struct.unpack_from(">I", batch, 17)[0], first_record.crc32c(batch[21:]))
        self.assertTrue(frame.endswith(batch))
        self.assertEqual(struct.unpack_from(">qq", batch, 27), (1234, 1234))

    def test_refusals_and_strange_answers_are_told(self):
        head = struct.pack(">iih", 1, 1, 1) + b"t" + struct.pack(">ii", 1, 0)
        accepted = head + struct.pack(">hqqi", 0, 7, -1, 0)
        self.assertEqual(first_record.check_answer(accepted, "t"), 7)
        for answer in (head + struct.pack(">hqqi", 6, -1, -1, 0), head, accepted[1:]):
            with self.assertRaises(ValueError):
                first_record.check_answer(answer, "t")


class KafkaSettingsTest(unittest.TestCase):
    def test_only_the_syncing_mode_flushes(self):
        self.assertIn("log.flush.interval.messages=1\n",
                      kafka.properties_of(kafka.node_settings(1, True)))
        self.assertNotIn("flush", kafka.properties_of(kafka.node_settings(1, False)))

    def test_threads_fit_the_cores(self):
        lines = kafka.properties_of(kafka.node_settings(2, False)).splitlines()
        self.assertEqual(lines, ["num.network.threads=2", "num.io.threads=4"])

    def test_java_gets_a_fixed_heap_and_the_documented_collector(self):
        options = kafka.java_options()
        self.assertIn("-Xms1g", options)
        self.assertIn("-Xmx1g", options)
        self.assertIn("-XX:+UseG1GC", options)


if __name__ == "__main__":
    unittest.main()
