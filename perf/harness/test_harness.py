"""Tests of the harness's own decisions: `python3 -m unittest discover -s perf/harness -t perf`."""

import json
import unittest

from harness.bench import Line, at_least, at_most
from harness.durable import busiest_core, forwarding_pair
from harness import machine
from harness.machine import ATTEMPTS, CannotMeasure, Noise
from harness.report import KEYS, as_json, number, spread, table


class ReportTest(unittest.TestCase):
    def test_json_has_exactly_the_promised_keys(self):
        line = at_most(Line("durable_p50_ratio", "p50", "us"), 1.25, 1.3)
        found = json.loads(as_json([line, Line("", "extra", "us", value=3.0)]))
        self.assertEqual(list(found), KEYS)
        self.assertEqual(found["durable_p50_ratio"], 1.25)
        self.assertIsNone(found["hot_consume_gbps"])

    def test_limits_are_inclusive(self):
        self.assertTrue(at_most(Line("", "", ""), 2.0, 2.0).met)
        self.assertFalse(at_most(Line("", "", ""), 2.01, 2.0).met)
        self.assertTrue(at_least(Line("", "", ""), 0.7, 0.7).met)
        self.assertFalse(at_least(Line("", "", ""), 0.69, 0.7).met)

    def test_spread_is_median_and_range(self):
        self.assertEqual(spread([300.0, 100.0, 200.0]), "200 (100..300)")
        self.assertEqual(spread([1.0, 2.0]), "1.50 (1.00..2.00)")
        self.assertEqual(spread([]), "")
        self.assertEqual(number(0.00012), "0.0001")

    def test_table_names_misses_and_failures(self):
        line = at_least(Line("hot_consume_gbps", "hot", "GB/s", [], [1.0]), 1.0, 2.5)
        text = table([line], [("cold", "no topic")], "quiet")
        self.assertIn("NO", text)
        self.assertIn("NOT MEASURED cold: no topic", text)
        self.assertIn("0 of 1 measured targets met", text)


class FakeBroker:
    """Deals connections to cores 0, 1, 0, 1, ...; core 1 owns partition 0."""

    def __init__(self, deals=True):
        self.deals = deals
        self.connection = 0
        self.requests = [0, 0]
        self.forwarded = [0, 0]

    def counters(self):
        return [
            {"core": core, "requests": self.requests[core],
             "forwarded_bytes": self.forwarded[core], "allocations": 0}
            for core in (0, 1)
        ]

    def run(self, partition):
        core = self.connection % 2 if self.deals else 1
        self.connection += 1
        self.requests[core] += 1000
        owner = 1 - partition
        if core != owner:
            self.forwarded[core] += 1
        return {"p50_us": 300.0 if core != owner else 200.0}


class FakeBench:
    def append(self, _protocol, broker, _flag, partition):
        return broker.run(partition)


class ForwardingTest(unittest.TestCase):
    def test_a_pair_on_core_0_is_found_by_the_counters(self):
        self.assertEqual(forwarding_pair(FakeBench(), FakeBroker()), {True: 300.0, False: 200.0})

    def test_no_pair_is_said_and_not_guessed(self):
        with self.assertRaises(CannotMeasure):
            forwarding_pair(FakeBench(), FakeBroker(deals=False))

    def test_the_busiest_core_is_by_growth(self):
        before = [{"core": 0, "requests": 900}, {"core": 1, "requests": 0}]
        after = [{"core": 0, "requests": 910}, {"core": 1, "requests": 50}]
        self.assertEqual(busiest_core(before, after), 1)


class NoiseTest(unittest.TestCase):
    def measure(self, busy_ticks):
        """Attempts of 100 ticks each, of which `busy_ticks` are busy and 40 our own."""
        noise = Noise(patience_s=0)
        noise.settle = lambda: None
        clock = {"busy": 0, "total": 0, "own": 0, "attempt": 0}

        def run():
            clock["busy"] += busy_ticks[clock["attempt"]]
            clock["total"] += 100
            clock["own"] += 40
            clock["attempt"] += 1
            return clock["attempt"]

        machine.cpu_times, kept = lambda: (clock["busy"], clock["total"]), machine.cpu_times
        try:
            return noise, noise.steady(lambda: clock["own"], run)
        finally:
            machine.cpu_times = kept

    def test_a_quiet_attempt_is_kept_at_once(self):
        noise, result = self.measure([45])
        self.assertEqual(result, 1)
        self.assertIn("1 measurements, 0 repeated", noise.describe())

    def test_a_noisy_attempt_is_made_again(self):
        _, result = self.measure([90, 50])
        self.assertEqual(result, 2)

    def test_the_least_noisy_is_kept_and_told(self):
        noise, result = self.measure([99, 70, 80, 90])
        self.assertEqual((ATTEMPTS, result), (4, 2))
        self.assertIn("(up to 30%)", noise.describe())


if __name__ == "__main__":
    unittest.main()
