"""The report of the side-by-side with Kafka: Markdown, and the JSON object of `--json`."""

import json
import statistics

from . import peers_rows
from .peers_rows import ALL_CORES, HIGHWATER, KAFKA, KAFKA_SYNC, LABELS, ONE_CORE, PLACEMENTS
from .report import number, spread

HEAD = ["measured", "unit", "Highwater", "against", "other side", "ratio", "target", "met"]
FLOOR_HEAD = ["measured", "unit", "Highwater", "floor", "ratio"]
MET = {None: "", True: "yes", False: "**no**"}

METHOD = """\
* **Alternation.** A round runs Kafka without sync, Kafka with `flush.messages=1`, and Highwater, each
  with a new directory and a new process; {rounds} rounds follow one another for each placement.
  Tables show medians with the range over the rounds; ratios are of medians.
* **Placement.** First the broker is confined to one core with all its threads, the one that handles
  the disk's interrupts, and the load has another. Then the broker may use all cores, and the load
  shares one of them. Targets are judged in both; the one-core figures are those of `--json`'s plain
  keys, because there the load does not disturb the broker.
* **One load.** `highwater bench` drives all of them: records of {record_bytes} random bytes, `acks=all`,
  one topic of one partition, {connections} connections. Latency counts from the moment a record was due
  (open loop), not from when it could be sent; `perf/run omission` proves that of the load.
* **Warm-up.** Before anything is timed, each broker is under load for {before_s:g} s, so that java has
  compiled what is hot; each window has its own warm-up on top.
* **Same guarantee or not.** Highwater acknowledges what is on the disk. So does Kafka with
  `flush.messages=1`. Kafka's default acknowledges what is in the page cache of one machine; with one
  node, a power loss takes it. Where that mode is compared with, Highwater is still durable.
* **Knee.** The highest rate of the ladder that was reached with p99 below {knee_ms} ms, in steps of
  {step_s:g} s, to a twentieth: up from {ladder_from:g}/s in the first round, then from a little below the
  first round's knee. Where none was held, the lowest rate tried counts and the ratio is a bound. Half
  of a knee is of the first round's, and at least {half_knee_min:g}/s.
* **CPU.** User and system time of the broker's process, from `/proc`, over a run without warm-up. To
  produce, {bulk_connections} connections have {bulk_in_flight} records in flight each in a closed loop; to
  consume, one consumer reads a log of at least {fill_mb} MiB again and again. Work that the kernel
  does for a broker in threads of its own (writing back the page cache for Kafka, completing direct
  writes for Highwater) is in the line of the machine less the load.
* **Memory.** `VmRSS` right after that load; what it has in the page cache does not count.
* **Start.** From starting the process, with a directory that holds two topics and was left in good
  order, to the first acknowledged record, tried every 2 ms over a plain socket.
* **Floor.** `highwater-floor durable-server` writes the same bytes durably without being a broker. It
  speaks no Kafka: `durable-load` drives it, open loop at the same rate.
"""

WHY = """\
* **Durable produce.** Kafka calls `fsync` on a file that grows, inside the partition's lock: each flush
  commits the filesystem's journal, and requests to a partition wait for one another. Highwater writes
  with `O_DIRECT|O_DSYNC` into blocks that exist already, and everything that arrives while a write is
  under way rides the next one.
* **Without sync.** Kafka's time is then handing a request between its network and I/O threads, and
  what the collector and the compiler take from it; the tail is theirs and that of the page cache's
  write-back. Highwater's includes the disk.
* **Knee.** One record a request: what counts is the cost of a request. A p99 of {knee_ms} ms is also
  what a stall of the disk of some milliseconds costs if it comes to one request in a hundred; it
  hits the durable sides most.
* **CPU.** Highwater copies a batch once, does not decompress or rebuild it, and changes no thread on
  the way. Kafka sends fetched data by `sendfile` too; its cost is per request and per thread change.
* **Memory.** Kafka's is mostly heap, which a collector lets grow to the size it was given. Highwater's
  buffers have bounds; the tail cache is the largest.
* **Start.** A virtual machine that loads classes and interprets at first, and a raft quorum of one
  that elects itself; Highwater reads its superblock, its checkpoint and the metadata log.
"""


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def cells(row):
    """A row's cells."""
    value = number(row.value)
    if row.bound and value:
        value = f"{row.bound} {value}"
    name = f"{row.what} (`{row.key}`)" if row.key else row.what
    return [name, row.unit, spread(row.left), row.right_label, spread(row.right), value, row.target,
            MET[row.met]]


def target_counts(rows):
    """How many judged rows there are and how many are met."""
    found = [row.met for row in rows if row.met is not None]
    return sum(found), len(found)


def summary(data):
    """A sentence for each placement."""
    lines = []
    for placement in (ONE_CORE, ALL_CORES):
        rows = rows_of(data, placement)
        if placement == ONE_CORE:
            rows = rows + peers_rows.against_ourselves(data["figures"])
        met, judged = target_counts(rows)
        if judged == 0:
            continue
        missed = [f"`{row.key}` ({number(row.value)})" for row in rows if row.met is False]
        text = f"* With the {PLACEMENTS[placement]}, {met} of {judged} targets are met"
        lines.append(text + (f"; missed: {', '.join(missed)}." if missed else "."))
    return "\n".join(lines)


def rows_of(data, placement):
    return peers_rows.comparisons(data["figures"], placement, bounded_of(data, placement))


def bounded_of(data, placement):
    """The metrics of a placement that are only bounds."""
    return {tuple(pair) for pair in data["bounded"].get(placement, [])}


def placement_section(data, placement):
    """The judged and the other rows of a placement."""
    rows = rows_of(data, placement)
    if all(row.value is None for row in rows):
        return []
    more = peers_rows.context(data["figures"], placement)
    head = PLACEMENTS[placement]
    found = [
        f"## {head[0].upper()}{head[1:]}",
        f"The fixed rate is {data['rate']:g} records a second.{overload_sentence(data, placement)}"
        f"{half_knee_sentence(data, placement)}",
        table(HEAD, [cells(row) for row in rows]),
    ]
    if more:
        found += ["Beside the targets:", table(HEAD[:6], [cells(row)[:6] for row in more])]
    return found + [f"![p99 over rate](report/ladder-{placement}.svg)",
                    f"![latency by percentile](report/percentiles-{placement}.svg)"]


def overload_sentence(data, placement):
    """Says who did not hold the fixed rate: such latencies are those of a queue that grows."""
    found = []
    for side in (HIGHWATER, KAFKA, KAFKA_SYNC):
        samples = data["figures"].get(placement, {}).get(side, {}).get("reached_per_s")
        if samples and not peers_rows.held(statistics.median(samples), data["rate"]):
            found.append(f"{LABELS[side]} reached only {statistics.median(samples):.0f}/s")
    if not found:
        return ""
    return (f" **{' and '.join(found)}**: those latencies are of a queue that grew until the end, "
            "and ratios with them say that the rate was too high, not how much.")


def half_knee_sentence(data, placement):
    """Which rates half of Kafka's knees are."""
    rates = [f"{rate:g}/s for {LABELS[side]}" for (found, side, rate) in data["half_knees"]
             if found == placement]
    return f" Half of Kafka's knee is {' and '.join(rates)}." if rates else ""


def own_section(data):
    """Highwater against itself and against the floor."""
    rows = [row for row in peers_rows.against_ourselves(data["figures"]) if row.value is not None]
    found = []
    if rows:
        found = [
            "## Many partitions, end to end",
            "1,000 partitions against one: records of 100 bytes, 100 producers in a closed loop, the "
            "broker on one core. With one record a request both have the same requests, and that is "
            "judged; with 64 in flight, those to one partition share batches, and those that go to a "
            "thousand in turn cannot. End to end, from due to consumed, against produce alone at the "
            "same rate.",
            table(HEAD, [cells(row) for row in rows]),
        ]
    rows = [row for row in peers_rows.against_the_floor(data["figures"]) if row.value is not None]
    if rows:
        found += [
            "## The floor",
            "The raw durable server at the same rate in the same rounds: what the disk and the "
            "kernel take without a broker. One is the floor.",
            table(FLOOR_HEAD, [[row.what, row.unit, spread(row.left), spread(row.right),
                                number(row.value)] for row in rows]),
        ]
    return found


def settings_section(data):
    """Versions, machine and every setting with its reason."""
    machine = table(["what", "value"], [[name, value] for name, value in data["machine"]])
    settings = [[f"`{name}`", f"`{value}`", why] for name, value, why in data["kafka_settings"]]
    return [
        "## Machine and versions", machine,
        "## Settings",
        f"Kafka, as its documentation advises (operations, Java version, hardware and OS):",
        table(["setting", "value", "why"], settings),
        "Left alone:",
        table(["what", "how"], [[f"`{name}`", how] for name, how in data["kafka_unchanged"]]),
        f"Highwater: defaults, and {data['highwater_settings']}.",
    ]


def noise_section(data):
    """What disturbed the measurement, and what the load generator said."""
    found = ["## Noise and warnings", data["noise"] + "."]
    if data["warnings"]:
        found.append("The load generator warned:")
        found.append(table(["kind", "times", "first", "text"], grouped(data["warnings"])))
    for where, reason in data["failures"]:
        found.append(f"**Not measured**: {where}: {reason}")
    return found


def grouped(warnings):
    """Warnings by kind: how many, and the first."""
    kinds = {}
    for what, kind, text in warnings:
        kinds.setdefault(kind, []).append((what, text))
    return [[kind, len(found), *found[0]] for kind, found in sorted(kinds.items())]


def markdown(data, reading=""):
    """The whole report. `reading` is what a person wrote about these figures."""
    caution = "" if not data["quick"] else (
        "> **A smoke run** (`--quick`): short windows, few rounds. It shows that everything runs; "
        "its figures mean little.\n"
    )
    method = METHOD.format(rounds=data["rounds"], **data["method"])
    parts = [
        "# Highwater beside Apache Kafka",
        "Written by `perf/run peers`; do not edit. " + data["made"],
        caution,
        "Each ratio is made so that larger is better for Highwater: Kafka's time over ours, our rate "
        "over Kafka's.",
        summary(data),
        "![ratios against targets](report/ratios.svg)",
        reading.strip(),
        *placement_section(data, ONE_CORE),
        *placement_section(data, ALL_CORES),
        *own_section(data),
        "## Where the differences come from", WHY.format(**data["method"]),
        "## Method", method,
        *settings_section(data),
        *noise_section(data),
        "All figures of all rounds are in [report/figures.json](report/figures.json).",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def as_json(data):
    """Exactly one object."""
    bounded = {placement: bounded_of(data, placement) for placement in (ONE_CORE, ALL_CORES)}
    return json.dumps(peers_rows.as_object(data["figures"], bounded))


def plain_summary(data):
    """The judged rows for a terminal."""
    lines = [summary(data), ""]
    for placement in (ONE_CORE, ALL_CORES):
        for row in rows_of(data, placement):
            if row.value is not None:
                lines.append(f"{placement:10} {row.key:24} {row.bound or '':9}{number(row.value):>8}"
                             f"  {row.target:7} {'met' if row.met else 'MISSED'}")
    for row in peers_rows.against_ourselves(data["figures"]):
        if row.met is not None:
            lines.append(f"{ONE_CORE:10} {row.key:24} {'':9}{number(row.value):>8}"
                         f"  {row.target:7} {'met' if row.met else 'MISSED'}")
    lines += ["", data["noise"]]
    lines += [f"NOT MEASURED {where}: {reason}" for where, reason in data["failures"]]
    return "\n".join(lines)
