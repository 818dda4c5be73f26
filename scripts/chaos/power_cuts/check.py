"""Reads what a power cut left, through the broker started on it, and counts what is wrong.

Every partition is read from its start; what is found is held against what was sent and what had
been acknowledged before the cut. Then idempotent producers go on where they stopped: their last
batches are sent again with the same sequence numbers, and must not be there twice.
"""

import dataclasses
import struct

import kafka_frames as kafka
from power_cuts.load import identity

RESUME_STEPS_MAX = 200
OFFSET_OUT_OF_RANGE = 1
HEADER_BYTES = 61


@dataclasses.dataclass
class Outcome:
    """Sums over cuts. `ledgers` counts cuts after which the marks ledger alone was called damaged."""

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    holes: int = 0
    misplaced: int = 0
    foreign: int = 0
    refused: int = 0
    damages: int = 0
    not_resumed: int = 0
    cuts_with_loss: int = 0
    ledgers: int = 0

    def add(self, other):
        for field in dataclasses.fields(self):
            mine = getattr(self, field.name)
            setattr(self, field.name, mine + getattr(other, field.name))

    def bad(self):
        """Everything that a promise forbids."""
        return (
            self.lost + self.duplicated + self.holes + self.misplaced + self.foreign
            + self.refused + self.damages + self.not_resumed
        )


def stored_batches(data):
    """(base offset, records, identity) of every whole batch. The client's CRC is in the identity.
    Bytes that are no batch at all are one foreign record."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        end = at + 12 + length
        if end < at + HEADER_BYTES:
            yield base, 1, identity(data[at:])
            return
        if end > len(data):
            return
        yield base, struct.unpack_from(">i", data, at + 57)[0], identity(data[at:end])
        at = end


class PartitionCheck:
    """One partition after one cut."""

    def __init__(self, connection, partition, place):
        self.connection, self.partition = connection, partition
        self.must_be = {
            number: offset for at, number, offset in partition.acknowledged if at <= place
        }
        self.found = {}  # batch number: offset
        self.outcome = Outcome()
        self.end = 0
        self.told = ""

    def run(self, by_identity, resume):
        self._read(by_identity)
        outcome, batches = self.outcome, self.partition.batches
        outcome.acknowledged = sum(batches[number].records for number in self.must_be)
        for number, offset in self.must_be.items():
            if number not in self.found:
                outcome.lost += batches[number].records
            elif self.found[number] != offset:
                outcome.misplaced += batches[number].records
        if resume and outcome.bad() == 0 and self.partition.index % 2 == 0:
            self._produce_on()
        return outcome

    def _read(self, by_identity):
        offset = 0
        while True:
            error, high_watermark, _, data = self._fetch(offset)
            if error:
                self.outcome.holes += 1
                offset = self._resume(offset)
                if offset is None:
                    return
                continue
            before = offset
            for base, records, key in stored_batches(data):
                if base + records > offset:
                    offset = self._place(base, records, key, offset, by_identity)
            self.end = offset
            if offset >= high_watermark or offset == before:
                self.outcome.holes += offset < high_watermark
                return

    def _fetch(self, offset):
        partition = self.partition
        return kafka.fetch(self.connection, partition.topic, partition.index, offset)

    def _place(self, base, records, key, offset, by_identity):
        """Notes a batch; the offset behind it."""
        self.outcome.holes += base != offset
        known = by_identity.get(key)
        if known is None or known[0] is not self.partition:
            self.outcome.foreign += records
        elif known[1].number in self.found:
            self.outcome.duplicated += records
        else:
            self.found[known[1].number] = base
        return base + records

    def _resume(self, offset):
        """Behind an offset that cannot be read: the next batch that can, or None."""
        bases = [batch.base for batch in self.partition.batches if batch.base > offset]
        for base in bases[:RESUME_STEPS_MAX]:
            error = self._fetch(base)[0]
            if error == 0:
                return base
            if error == OFFSET_OUT_OF_RANGE:
                return None
        return None

    def _produce_on(self):
        """The last two that are there again, and the two that follow: each once, at its place."""
        batches = self.partition.batches
        following = max(self.found, default=-1) + 1
        for batch in batches[max(following - 2, 0) : following + 2]:
            body = kafka.produce_body(self.partition.topic, self.partition.index, batch.bytes)
            answer = self.connection.call(kafka.PRODUCE, 8, body)
            _, error, offset = kafka.parse_produce(answer)
            if error or offset != batch.base:
                again = "again" if batch.number < following else "next"
                self.told = f" (batch {batch.number} {again}: error {error}, offset {offset}"
                self.told += f" for {batch.base})"
                self.outcome.not_resumed += 1
                return
            self.end = max(self.end, offset + batch.records)
        if following < len(batches):
            self._read_on(batches[following : following + 2])

    def _read_on(self, batches):
        """What was just produced is there once and nothing behind it."""
        start = batches[0].base
        error, high_watermark, _, data = self._fetch(start)
        there = [key for base, _, key in stored_batches(data) if base >= start]
        if error or high_watermark != self.end or there != [identity(one.bytes) for one in batches]:
            self.told = f" (produced on, then error {error}, end {high_watermark} for {self.end})"
            self.outcome.not_resumed += 1


def check(port, partitions, by_identity, place, resume):
    """What the broker at `port` has after a cut at `place`; (outcome, sentences about failures).
    `resume` has idempotent producers go on."""
    connection = kafka.Connection("127.0.0.1", port)
    total, told = Outcome(), []
    for partition in partitions:
        one = PartitionCheck(connection, partition, place)
        outcome = one.run(by_identity, resume)
        if outcome.bad():
            told.append(f"{partition.name()}: " + ", ".join(
                f"{value} {name}" for name, value in dataclasses.asdict(outcome).items() if value
            ) + one.told)
        total.add(outcome)
    connection.close()
    total.cuts, total.cuts_with_loss = 1, int(total.lost > 0)
    return total, told
