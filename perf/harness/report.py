"""The table for people and the object for scripts."""

import json

KEYS = [
    "durable_p50_ratio",
    "durable_p99_ratio",
    "durable_64_rate_ratio",
    "batched_write_ratio",
    "hot_consume_gbps",
    "cold_consume_ratio",
    "hot_path_allocs_per_request",
    "start_20k_partitions_s",
    "idle_partition_bytes",
    "forwarded_p50_ratio",
]
ISOLATION_KEYS = ["isolation_p99_9_ratio", "isolation_p99_9_bare_ratio", "isolation_memory_ratio",
                  "idle_connection_bytes"]
HEAD = ["measured", "unit", "floor median (min..max)", "broker median (min..max)", "value",
        "target", "met"]

ISOLATION_HEAD = ["measured", "unit", "quiet median (min..max)", "storm median (min..max)",
                  *HEAD[4:]]


def number(value):
    """Three significant digits, without exponents."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"


def spread(samples):
    """Median and range of some samples."""
    if not samples:
        return ""
    ordered = sorted(samples)
    middle = len(ordered) // 2
    value = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return f"{number(value)} ({number(ordered[0])}..{number(ordered[-1])})"


def row(line):
    """A line's cells."""
    met = {None: "", True: "yes", False: "NO"}[line.met]
    return [line.what, line.unit, spread(line.floor), spread(line.broker), number(line.value),
            line.target, met]


def table(lines, failures, noise, head=HEAD):
    """The whole report as text."""
    rows = [head] + [row(line) for line in lines]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(head))]
    text = []
    for index, cells in enumerate(rows):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths)]
        text.append("  ".join(padded).rstrip())
        if index == 0:
            text.append("  ".join("-" * width for width in widths))
    notes = [f"{line.what.strip()}: {line.note}" for line in lines if line.note]
    text += ["", *notes, noise]
    text += [f"NOT MEASURED {name}: {reason}" for name, reason in failures]
    judged = [line for line in lines if line.met is not None]
    met = sum(line.met for line in judged)
    text.append(f"{met} of {len(judged)} measured targets met")
    return "\n".join(text)


def as_json(lines, keys=KEYS):
    """Exactly the promised keys; null where nothing was measured."""
    values = {line.key: line.value for line in lines if line.key}
    return json.dumps({key: values.get(key) for key in keys})
