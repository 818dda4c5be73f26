"""Tests of the arithmetic behind the proof that the load generator omits nothing."""

import unittest

from harness.omission import check, label, tolerance, waiting_quantile

PAUSE_S, PERIOD_S = 0.2, 5.0
QUIET = {"p50_us": 300.0}


def sampled(rate, pauses, pause_s):
    """Sorted waits of a load that omits nothing, in microseconds: each from when it was due."""
    waits = []
    for index in range(round(rate * PERIOD_S * pauses)):
        into_period_s = index / rate % PERIOD_S
        waits.append(max(0.0, pause_s - into_period_s) * 1e6 + QUIET["p50_us"])
    return sorted(waits)


def latency(waits):
    """The percentiles that are checked."""
    return {"p99_us": waits[int(len(waits) * 0.99)], "p99_9_us": waits[int(len(waits) * 0.999)]}


class OmissionTest(unittest.TestCase):
    def test_the_quantile_function_is_that_of_uniform_waits(self):
        self.assertAlmostEqual(waiting_quantile(0.99, PAUSE_S, PERIOD_S), 0.150)
        self.assertAlmostEqual(waiting_quantile(0.999, PAUSE_S, PERIOD_S), 0.195)
        self.assertAlmostEqual(waiting_quantile(1, PAUSE_S, PERIOD_S), PAUSE_S)
        self.assertEqual(waiting_quantile(0.95, PAUSE_S, PERIOD_S), 0)

    def test_an_open_loop_holds(self):
        found = check(latency(sampled(1000, 6, PAUSE_S)), QUIET, [PAUSE_S] * 6, PERIOD_S, 1000, 20_000)
        self.assertTrue(all(checked.holds for checked in found))

    def test_a_closed_loop_does_not(self):
        # One request in flight: one of each pause waits, the others are never sent.
        waits = sorted([QUIET["p50_us"]] * 29_000 + [PAUSE_S * 1e6] * 6)
        found = check(latency(waits), QUIET, [PAUSE_S] * 6, PERIOD_S, 1000, 20_000)
        self.assertFalse(any(checked.holds for checked in found))

    def test_leaving_out_a_quarter_of_what_waited_is_seen(self):
        waits = sampled(1000, 6, PAUSE_S)
        late = [wait for wait in waits if wait > QUIET["p50_us"]]
        kept = waits[: len(waits) - len(late)] + late[: len(late) * 3 // 4]
        found = check(latency(kept), QUIET, [PAUSE_S] * 6, PERIOD_S, 1000, 20_000)
        self.assertFalse(all(checked.holds for checked in found))

    def test_a_backlog_excuses_only_what_is_larger(self):
        either, above = tolerance(0.99, PAUSE_S, PERIOD_S, 1000, 2000)
        self.assertAlmostEqual(above["backlog"], 0.2)
        self.assertNotIn("backlog", either)

    def test_names_are_as_people_write_them(self):
        self.assertEqual([label("p99_us"), label("p99_9_us")], ["p99", "p99.9"])


if __name__ == "__main__":
    unittest.main()
