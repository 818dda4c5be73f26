"""What the isolation measurement makes of its rounds, and that its descriptors are there."""

import os
import sys
import unittest
from argparse import Namespace

from . import report
from .bench import STILL_DESCRIPTORS
from .isolation import QUANTILES, lines_of
from .processes import Holder


def a_round(bare_us, quiet_us, storm_us):
    windows = {"bare": bare_us, "quiet": quiet_us, "storm": storm_us}
    found = {window: dict.fromkeys(QUANTILES, value) for window, value in windows.items()}
    sizes = {"resident_bytes": 100 << 20, "budget_bytes": 900 << 20, "idle_connection_bytes": 4096}
    return found | sizes | {"cold_gb_per_s": 0.2, "open_s": 1.0}


class Isolation(unittest.TestCase):
    def lines(self, *rounds):
        options = Namespace(rate=1000, connections=10_000, consumers=100)
        return {line.key: line for line in lines_of(list(rounds), options) if line.key}

    def test_the_ratio_is_of_the_quiet_window_round_by_round(self):
        lines = self.lines(a_round(2, 4, 5), a_round(2, 8, 10), a_round(3, 4, 12))
        self.assertEqual(set(lines), set(report.ISOLATION_KEYS))
        self.assertEqual(lines["isolation_p99_9_ratio"].value, 1.25)
        self.assertTrue(lines["isolation_p99_9_ratio"].met)
        self.assertEqual(lines["isolation_p99_9_bare_ratio"].value, 4)
        self.assertIsNone(lines["isolation_p99_9_bare_ratio"].met)

    def test_a_producer_that_feels_the_storm_misses(self):
        self.assertFalse(self.lines(a_round(2, 4, 7))["isolation_p99_9_ratio"].met)

    def test_still_descriptors_are_open_until_the_end(self):
        core = min(os.sched_getaffinity(0))
        with Holder([sys.executable, STILL_DESCRIPTORS, core, 40]) as still:
            self.assertEqual(still.figures, {"descriptors": 40})
            self.assertGreater(len(os.listdir(f"/proc/{still.process.pid}/fd")), 40)
        self.assertEqual(still.process.returncode, 0)


if __name__ == "__main__":
    unittest.main()
