"""What the Python clients share: running checks, reporting them, and comparing records.

A check is a function without arguments that raises on failure, raises Skip when the client
cannot show it, and may return a note. Each outcome is one JSON line on stdout.
"""

import argparse
import json
import random
import sys
import time
import traceback
from collections import namedtuple

# Longest wait for any single answer; a healthy broker on loopback needs milliseconds.
TIMEOUT_S = 20

# The value of `large-record`. With its batch around it this is a little more than brokers and
# clients allow by default, so both are told to allow twice as much. `runner.py` hands it to the
# programs in other languages as LARGE_RECORD_BYTES.
LARGE_RECORD_BYTES = 1_048_576

# librdkafka ties lz4 to the coordinator request that came with the same Kafka release.
NO_LZ4 = (
    "stored and read back, but uncompressed: "
    "librdkafka uses lz4 only where FindCoordinator is served"
)

Record = namedtuple(
    "Record", "partition key value headers timestamp", defaults=(0, None, None, (), None)
)
# Where to read from, as the protocol numbers it.
START, END = -2, -1

# One partition as a topic's description has it, with the numbers of brokers.
Partition = namedtuple("Partition", "id leader replicas isr")
# A config's value and where it comes from, and an offset with its record's timestamp.
Config = namedtuple("Config", "value source")
Listed = namedtuple("Listed", "offset timestamp")
Read = namedtuple("Read", "partition offset key value headers timestamp")


class Skip(Exception):
    """The client cannot show this here; the message says why."""


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--prefix", required=True, help="start of every topic name")
    parser.add_argument("--checks", required=True, type=lambda names: names.split(","))
    return parser.parse_args()


def run_all(client, names, functions):
    """Runs the checks of those names in order, printing one JSON line for each."""
    for name in names:
        started = time.monotonic()
        status, note = "ok", None
        try:
            note = functions[name]()
        except Skip as reason:
            status, note = "skip", str(reason)
        except Exception as error:  # a check may fail in any way; the report says which
            status, note = "fail", f"{type(error).__name__}: {error} ({where(error)})"
        line = {
            "client": client,
            "check": name,
            "status": status,
            "ms": round((time.monotonic() - started) * 1000),
            "note": note,
        }
        print(json.dumps(line), flush=True)


def delete_own_topics(broker):
    """Leaves the broker as it was found; what cannot be deleted is no failure here."""
    try:
        for name in broker.topics():
            if name.startswith(broker.prefix):
                broker.delete(name)
    except Exception as error:  # each client has errors of its own
        print(f"topics of this run stay: {error}", file=sys.stderr)


def where(error):
    """File and line of the check, rather than of what it called."""
    frames = [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    files = ("kcat", "data_checks", "admin_checks", "group_checks")
    own = [frame for frame in frames if frame.startswith(files)]
    return (own or frames)[-1]


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


def equal(actual, expected, what):
    expect(actual == expected, f"{what}: got {short(actual)}, expected {short(expected)}")


def short(value):
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:120]}... ({len(text)} characters)"


def eventually(condition, what):
    """Waits until it is so: other nodes, and a client's own view, may trail what was acknowledged."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        expect(time.monotonic() < deadline, f"still not so: {what}")
        time.sleep(0.05)


def numbered(count, partition=0, prefix="value"):
    """`count` distinct records for one partition, with keys."""
    return [
        Record(partition, b"key-%d" % i, f"{prefix}-{partition}-{i}".encode()) for i in range(count)
    ]


def verify(read, expected, first_offset=0):
    """Checks count, offset continuity from `first_offset`, and all content, per partition.

    `read` may interleave partitions; within one, order matters. `first_offset` holds for every
    partition. A timestamp is compared only where the expected record sets one.
    """
    equal(len(read), len(expected), "records read")
    for partition in sorted({record.partition for record in expected}):
        got = [record for record in read if record.partition == partition]
        want = [record for record in expected if record.partition == partition]
        equal(len(got), len(want), f"records of partition {partition}")
        for index, (actual, wanted) in enumerate(zip(got, want, strict=True)):
            at = f"partition {partition} offset {first_offset + index}"
            equal(actual.offset, first_offset + index, f"{at}: offset")
            equal(actual.key, wanted.key, f"{at}: key")
            equal(actual.value, wanted.value, f"{at}: value")
            equal(list(actual.headers), list(wanted.headers), f"{at}: headers")
            expect(actual.timestamp and actual.timestamp > 0, f"{at}: no timestamp")
            if wanted.timestamp is not None:
                equal(actual.timestamp, wanted.timestamp, f"{at}: timestamp")


def compressible(size):
    """Text of exactly that size, which every codec shrinks at least fivefold."""
    line = b"the high-water mark is the offset below which all is committed\n"
    return (line * (size // len(line) + 1))[:size]


def incompressible(size, seed=1):
    """Bytes of exactly that size without visible pattern, the same on every run."""
    return random.Random(seed).randbytes(size)
