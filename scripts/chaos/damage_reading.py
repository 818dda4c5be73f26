"""Reads a whole node after a restart and holds every answer against what was acknowledged.

Protocol code of its own (kafka_frames). Served bytes are compared with the bytes that were on disk
before the damage, so a right checksum over wrong content is seen.
"""

import struct
import time
from dataclasses import dataclass, field

import damage_base as bases
import damage_format as disk
import kafka_frames as kafka

NOT_READY = (5, 6, 14, 15, 16)  # no leader yet, groups being loaded
# How long a reading waits for what is not ready, all in all; and one after another waited in vain.
READY_S, READY_AGAIN_S = 5, 0.3
WAIT_MS = 300
EARLIEST, LATEST = -2, -1
RANDOM_STARTS = 3


@dataclass
class PartitionReading:
    """What one partition answered."""

    served: set = field(default_factory=set)  # base offsets of batches served exactly
    # Offset -> error; "end" where it is beyond it, "closed" where the connection was.
    refused: dict = field(default_factory=dict)
    unverified: set = field(default_factory=set)  # base offsets whose bytes a client's CRC refuses
    latest: tuple = (0, 0)
    earliest: tuple = (0, 0)


@dataclass
class Reading:
    partitions: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)  # group -> (error, {partition: offset})
    violations: list = field(default_factory=list)  # (verdict, text)

    def accuse(self, verdict, text):
        self.violations.append((verdict, text))


class Reader:
    """Reads everything from one running broker."""

    def __init__(self, connect, base, touched, rng, end_unknown, ready_s=READY_S):
        self.connect, self.base, self.rng = connect, base, rng
        self.connection = connect()
        self.waited_in_vain = False
        self.deadline = time.monotonic() + ready_s
        # Nothing tells where the log ended: a time behind it finds nothing, rightly.
        self.end_unknown = end_unknown
        # Partitions read from every batch's start, not from a few.
        self.touched = touched
        self.reading = Reading()

    def everything(self, appended):
        """`appended`: {partition: [(base offset, batch)]} acknowledged since."""
        for key in self.base.model.ends:
            self.partition(key, appended.get(key, []))
        for group in self.base.model.commits:
            self.reading.commits[group] = self.committed(group)
        self.connection.close()
        return self.reading

    def partition(self, key, appended):
        self.key, self.found = key, PartitionReading()
        self.reading.partitions[key] = self.found
        disk_batches = self.base.partitions[key].batches
        self.known = {batch.base: batch for batch in disk_batches}
        self.contents = {batch.data[16:]: batch.base for batch in disk_batches}
        for base, data in appended:
            count, = struct.unpack_from(">i", data, disk.FIELDS["record_count"][0])
            self.known[base] = disk.Batch(base, base + count, 0, disk.moved(data, base, bases.EPOCH), 0)
        self.starts = sorted(self.known)
        self.end = max((batch.end for batch in self.known.values()), default=0)
        self.found.earliest = self.listed(EARLIEST)
        self.found.latest = self.listed(LATEST)
        self.through(0)
        self.from_starts()
        self.by_timestamp(disk_batches)

    def listed(self, timestamp):
        return self.ready(
            lambda: kafka.list_offset_answer(self.connection, *self.key, timestamp)
        )

    def ready(self, ask):
        """The answer, as soon as it is no request to come back later."""
        while True:
            answer = ask()
            if answer[0] not in NOT_READY:
                return answer
            if time.monotonic() > self.deadline:
                self.waited_in_vain = True
                return answer
            time.sleep(0.02)

    def fetch(self, offset, bytes_max=8 << 20):
        """(error, high-water mark, log start, record bytes); the error may be "closed"."""
        try:
            answer = self.ready(
                lambda: kafka.fetch(self.connection, *self.key, offset, bytes_max)
            )
            if answer[0] == 0 and not answer[3] and offset < answer[1]:
                answer = kafka.fetch(self.connection, *self.key, offset, bytes_max, WAIT_MS)
            return answer
        except ConnectionError:
            # Where the broker has died, this fails.
            self.connection = self.connect()
            return "closed", 0, 0, b""

    def next_start(self, offset):
        """The next batch's start: a reader that was refused goes on there."""
        return min((start for start in self.starts if start > offset), default=self.end)

    def through(self, offset):
        """From an offset to the end, over whatever is refused."""
        while offset < self.end:
            error, high_watermark, _, data = self.fetch(offset)
            if error or not data:
                self.refused(offset, error, high_watermark)
                offset = self.next_start(offset)
            else:
                offset = self.compare(offset, data, self.found.served)

    def refused(self, offset, error, high_watermark):
        if error == 0 and offset < high_watermark:
            self.reading.accuse(
                "silent gap",
                f"{self.key}: nothing at {offset} and no error, high-water mark {high_watermark}",
            )
        self.found.refused[offset] = error or "end"

    def from_starts(self):
        """Single batches: every one of a partition that was damaged, a few of the others."""
        starts = self.starts
        if self.key not in self.touched:
            starts = self.rng.sample(starts, min(RANDOM_STARTS, len(starts)))
        for start in starts:
            batch = self.known[start]
            offset = self.rng.randrange(batch.base, batch.end)
            error, high_watermark, _, data = self.fetch(offset, 1)
            if error or not data:
                self.refused(offset, error, high_watermark)
                self.found.served.discard(start)
            else:
                self.compare(offset, data, set(), only_first=True)

    def compare(self, offset, data, served, only_first=False):
        """Holds served bytes against those known; returns the offset where a reader goes on."""
        at, expected = 0, offset
        while at + disk.HEADER_BYTES <= len(data):
            base, length = struct.unpack_from(">qi", data, at)
            stop = at + 12 + length
            if length < disk.HEADER_BYTES - 12:
                self.found.unverified.add(expected)
                return self.next_start(expected)
            if stop > len(data):
                if at == 0:
                    self.found.unverified.add(expected)
                    return self.next_start(expected)
                return expected
            served_bytes, known = data[at:stop], self.known.get(base)
            if known is None or known.data != served_bytes:
                self.unlike(expected, base, served_bytes)
                return self.next_start(expected)
            if not (known.base <= expected < known.end) or (at and known.base != expected):
                self.misplaced(offset, expected, known)
            served.add(base)
            expected, at = known.end, stop
            if only_first:
                break
        if at == 0:
            self.found.unverified.add(expected)
            return self.next_start(expected)
        return expected if expected > offset else self.next_start(offset)

    def misplaced(self, asked, expected, known):
        verdict = "silent gap" if known.base > expected else "wrong offset"
        self.reading.accuse(
            verdict,
            f"{self.key}: asked for {asked}, the batch {known.base}..{known.end} came where "
            f"{expected} was to come",
        )

    def unlike(self, expected, base, data):
        """Bytes that are not those stored: what does a client make of them?"""
        if data[16] != 2 or not disk.crc_is_right(data):
            self.found.unverified.add(expected)
            return
        content = self.contents.get(data[16:])
        if content is not None and content != base:
            text = f"the batch of {content} is served as {base}, where {expected} was to come"
            self.reading.accuse("wrong offset", f"{self.key}: {text}")
            return
        what = "header fields differ" if content is not None else "never written by anyone"
        self.reading.accuse("wrong bytes", f"{self.key}: batch served as {base}: {what}")

    def by_timestamp(self, batches):
        batches = [batch for batch in batches if batch.end <= self.base.model.ends[self.key]]
        if self.key not in self.touched:
            batches = self.rng.sample(batches, min(RANDOM_STARTS, len(batches)))
        for batch in batches:
            error, offset = self.listed(batch.timestamp)
            if error or offset == batch.base:
                continue
            served = batch.base in self.found.served
            if not served and self.end_unknown or self.leads_into_loss(offset, batch.base):
                continue
            if served or offset > batch.base or offset < 0:
                verdict = "wrong offset" if served else "silent gap"
                self.reading.accuse(
                    verdict, f"{self.key}: by timestamp: {offset} instead of {batch.base}"
                )

    def leads_into_loss(self, offset, base):
        """The start of a loss that ends here: an earlier record may have had the time, and who reads
        on from there is told."""
        between = [start for start in self.starts if offset <= start < base]
        return offset in between and not self.found.served.intersection(between)

    def committed(self, group):
        partitions = list(range(bases.TOPICS["plain"]))
        return self.ready(
            lambda: kafka.offset_fetch(self.connection, group, "plain", partitions)
        )


def group_partition(group, partitions=2):
    """Kafka's choice: Java's hash of the name."""
    code = 0
    for letter in group:
        code = (31 * code + ord(letter)) & 0xFFFFFFFF
    return (code & 0x7FFFFFFF) % partitions
