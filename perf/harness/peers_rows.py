"""What the side-by-side with Kafka judges: rows, ratios, targets. Pure: figures in, rows out.

Figures are `figures[placement][side][metric]`, a list with one number for each round. Every ratio
is made so that larger is better for Highwater: of medians, Kafka's time over ours, our rate over
Kafka's.
"""

import statistics
from collections import namedtuple
from dataclasses import dataclass

HIGHWATER, KAFKA, KAFKA_SYNC, FLOOR = "highwater", "kafka", "kafka_sync", "floor"
ONE_CORE, ALL_CORES = "one_core", "all_cores"
LABELS = {
    HIGHWATER: "Highwater (durable)",
    KAFKA: "Kafka (no sync)",
    KAFKA_SYNC: "Kafka (flush.messages=1)",
    FLOOR: "floor (durable-server)",
}
PLACEMENTS = {ONE_CORE: "broker on one core", ALL_CORES: "broker on all cores"}

# `better` says which is better, a smaller or a larger figure; `scale` divides it for the table.
Comparison = namedtuple("Comparison", "key what unit scale metric peer better target")
SMALLER, LARGER = "smaller", "larger"

MICROSECONDS = ("us", 1)
MEBIBYTES = ("MiB", 1 << 20)
MEGABYTES = ("MB", 1e6)

COMPARISONS = [
    Comparison("sync_p50", "produce at a fixed rate, p50", *MICROSECONDS, "p50_us", KAFKA_SYNC,
               SMALLER, 5),
    Comparison("sync_p99", "produce at a fixed rate, p99", *MICROSECONDS, "p99_us", KAFKA_SYNC,
               SMALLER, 5),
    Comparison("nosync_p99", "produce at a fixed rate, p99", *MICROSECONDS, "p99_us", KAFKA,
               SMALLER, 2),
    Comparison("p999_at_half_knee", "at half of Kafka's knee, p99.9", *MICROSECONDS,
               "half_knee_p99_9_us", KAFKA, SMALLER, 3),
    Comparison("p999_at_half_knee_sync", "at half of Kafka's knee, p99.9", *MICROSECONDS,
               "half_sync_knee_p99_9_us", KAFKA_SYNC, SMALLER, 3),
    Comparison("knee", "highest rate with p99 < 5 ms", "/s", 1, "knee_per_s", KAFKA, LARGER, 3),
    Comparison("knee_sync", "highest rate with p99 < 5 ms", "/s", 1, "knee_per_s", KAFKA_SYNC,
               LARGER, 3),
    Comparison("produce_bytes_per_cpu", "produced per CPU second of the broker", *MEGABYTES,
               "produce_bytes_per_cpu_s", KAFKA, LARGER, 4),
    Comparison("consume_bytes_per_cpu", "consumed per CPU second of the broker", *MEGABYTES,
               "consume_bytes_per_cpu_s", KAFKA, LARGER, 3),
    Comparison("memory", "resident memory after the load", *MEBIBYTES, "resident_bytes", KAFKA,
               SMALLER, 4),
    Comparison("start", "process start to first acknowledged record", "ms", 1e-3, "start_s", KAFKA,
               SMALLER, 10),
]
# Without a target: they explain the others.
CONTEXT = [
    Comparison("", "produce at a fixed rate, p50", *MICROSECONDS, "p50_us", KAFKA, SMALLER, None),
    Comparison("", "produce at a fixed rate, p99.9", *MICROSECONDS, "p99_9_us", KAFKA_SYNC,
               SMALLER, None),
    Comparison("", "produce at a fixed rate, p99.9", *MICROSECONDS, "p99_9_us", KAFKA, SMALLER,
               None),
    Comparison("", "produced in a closed loop", "MB/s", 1e6, "produce_bytes_per_s", KAFKA, LARGER,
               None),
    Comparison("", "produced in a closed loop", "MB/s", 1e6, "produce_bytes_per_s", KAFKA_SYNC,
               LARGER, None),
    Comparison("", "produced per CPU second of the broker", *MEGABYTES, "produce_bytes_per_cpu_s",
               KAFKA_SYNC, LARGER, None),
    Comparison("", "produced per CPU second of the machine less the load's", *MEGABYTES,
               "produce_bytes_per_machine_s", KAFKA, LARGER, None),
    Comparison("", "consumed", "MB/s", 1e6, "consume_bytes_per_s", KAFKA, LARGER, None),
]
KEYS = [comparison.key for comparison in COMPARISONS]
# Highwater against itself.
PARTITIONS_KEY, PARTITIONS_MIN = "many_partitions", 0.60
END_TO_END_KEY, END_TO_END_MAX = "end_to_end", 2.0


@dataclass
class Row:
    """One line of the report. `value` is judged against `target`."""

    key: str
    what: str
    unit: str
    left: list
    right: list
    right_label: str
    value: float | None
    target: str = ""
    met: bool | None = None
    bound: str = ""


def ratio(left, right, better):
    """Of medians, so that larger is better for the left side; None without figures or for zero."""
    if not left or not right:
        return None
    ours, theirs = statistics.median(left), statistics.median(right)
    over, under = (theirs, ours) if better == SMALLER else (ours, theirs)
    return over / under if under > 0 else None


def scaled(samples, scale):
    return [sample / scale for sample in samples]


def compare(comparison, sides, bounded=frozenset()):
    """A row of Highwater against Kafka.

    `bounded` names the (side, metric) that are only bounds: a Kafka that held no rate at all counts
    with the lowest that was tried, and its ratio is at least what is shown.
    """
    left = sides.get(HIGHWATER, {}).get(comparison.metric, [])
    right = sides.get(comparison.peer, {}).get(comparison.metric, [])
    value = ratio(left, right, comparison.better)
    row = Row(
        comparison.key, comparison.what, comparison.unit, scaled(left, comparison.scale),
        scaled(right, comparison.scale), LABELS[comparison.peer], value,
    )
    if (comparison.peer, comparison.metric) in bounded:
        row.bound = "at least"
    if (HIGHWATER, comparison.metric) in bounded:
        row.bound = "at most"
    if comparison.target is not None:
        row.target = f">= {comparison.target:g}"
        row.met = judged(value, row.bound, comparison.target)
    return row


def judged(value, bound, target):
    """Whether a target is met; None when nothing was measured. At most x does not meet x."""
    if value is None:
        return None
    return value >= target and bound != "at most"


def comparisons(figures, placement, bounded=frozenset()):
    """The judged rows of a placement."""
    sides = figures.get(placement, {})
    return [compare(comparison, sides, bounded) for comparison in COMPARISONS]


def context(figures, placement):
    """The rows of a placement that are not judged, as far as they were measured."""
    sides = figures.get(placement, {})
    rows = [compare(comparison, sides) for comparison in CONTEXT]
    return [row for row in rows if row.value is not None]


def against_ourselves(figures):
    """Many partitions against one, and end to end against produce, for each side that has it."""
    rows = []
    for suffix, how in (("", "one record a request"), ("_batched", "64 in flight")):
        for side in (HIGHWATER, KAFKA):
            found = figures.get(ONE_CORE, {}).get(side, {})
            one = found.get(f"one_partitions{suffix}_per_s", [])
            many = found.get(f"many_partitions{suffix}_per_s", [])
            key = PARTITIONS_KEY + suffix if side == HIGHWATER else ""
            row = Row(key, f"{LABELS[side]}: 1,000 partitions, {how}", "records/s", many, one,
                      "one partition", ratio(many, one, LARGER))
            if key == PARTITIONS_KEY:
                row.target = f">= {PARTITIONS_MIN:g}"
                row.met = None if row.value is None else row.value >= PARTITIONS_MIN
            rows.append(row)
    for side in (HIGHWATER, KAFKA):
        found = figures.get(ONE_CORE, {}).get(side, {})
        ends, produce = found.get("end_to_end_p99_us", []), found.get("p99_us", [])
        row = Row(
            END_TO_END_KEY if side == HIGHWATER else "", f"{LABELS[side]}: end to end, p99", "us",
            ends, produce, "produce, p99", ratio(ends, produce, LARGER),
        )
        if side == HIGHWATER:
            row.target = f"<= {END_TO_END_MAX:g}"
            row.met = None if row.value is None else row.value <= END_TO_END_MAX
        rows.append(row)
    return rows


def against_the_floor(figures):
    """Highwater over the raw server at the same rate; smaller is better here, one is the floor."""
    sides = figures.get(ONE_CORE, {})
    rows = []
    for metric, name in (("p50_us", "p50"), ("p99_us", "p99"), ("p99_9_us", "p99.9")):
        ours = sides.get(HIGHWATER, {}).get(metric, [])
        floor = sides.get(FLOOR, {}).get(metric, [])
        rows.append(Row(f"floor_{name.replace('.', '')}", f"produce at a fixed rate, {name}", "us",
                        ours, floor, LABELS[FLOOR], ratio(ours, floor, LARGER)))
    return rows


def as_object(figures, bounded):
    """The object `--json` prints: one number a key, null for what was not measured."""
    found = {}
    for placement, prefix in ((ONE_CORE, ""), (ALL_CORES, "all_cores_")):
        for row in comparisons(figures, placement, bounded.get(placement, frozenset())):
            found[prefix + row.key] = row.value
    for row in against_ourselves(figures) + against_the_floor(figures):
        if row.key:
            found[row.key] = row.value
    return found


def held(reached_per_s, due_per_s):
    """Whether a rate was served, to two hundredths: a window cuts off what is under way."""
    return reached_per_s >= 0.98 * due_per_s
