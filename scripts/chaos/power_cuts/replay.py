"""Makes the disk as of a moment of a drive's log, as a power cut at that moment may leave it.

What a finished flush or a finished write-through (FUA) covers is there. Every other write that had
arrived is there, is not, or is torn at a sector, as the random numbers have it. Of one sector the
last writes to arrive win, so older contents may come out, never mixed ones.

Moments are visited in order: the base image only moves forward, and a cut is a copy of it with the
writes in doubt applied. It knows nothing of what the bytes mean.
"""

import os

from power_cuts.drive import DONE, FLUSH, WRITE, WRITE_THROUGH, events

SECTOR_BYTES = 512
COPY_BYTES = 4 << 20


def places(log_path, begin, end, cuts, rng):
    """So many moments between two, in order: half of them any, half the last before a flush is
    done, and of four such the one that most writes precede."""
    flushes, flush_ends, writes = set(), [], 0
    for at, (kind, number, _, _) in enumerate(events(log_path)):
        if kind == FLUSH:
            flushes.add(number)
        elif kind == WRITE:
            writes += 1
        elif kind == DONE and number in flushes and begin <= at <= end:
            flush_ends.append((writes, at))
            writes = 0

    def place():
        if flush_ends and rng.random() < 0.5:
            return max(rng.choices(flush_ends, k=4))[1]
        return rng.randint(begin, end)

    return sorted(place() for _ in range(cuts))


class PendingWrite:
    """A write that arrived; kept until it and all before it are known to be on the medium."""

    __slots__ = ("offset", "data", "through", "done", "durable")

    def __init__(self, offset, data, through):
        self.offset, self.data, self.through = offset, data, through
        self.done = self.durable = False


class Replay:
    """One walk through a log, over a base image that starts as the disk started."""

    def __init__(self, log_path, base_path):
        self.events = events(log_path)
        self.base_path = base_path
        self.base = os.open(base_path, os.O_RDWR)
        self.position = 0
        self.pending = []
        self.writes = {}  # number: PendingWrite not done yet
        self.flushes = {}  # number: the writes it covers

    def advance(self, position):
        """To the moment when `position` events had happened."""
        while self.position < position:
            kind, number, offset, data = next(self.events)
            self.position += 1
            if kind == DONE:
                self._done(number)
            elif kind == FLUSH:
                self.flushes[number] = [write for write in self.pending if write.done]
            else:
                write = PendingWrite(offset, data, kind == WRITE_THROUGH)
                self.writes[number] = write
                self.pending.append(write)

    def _done(self, number):
        write = self.writes.pop(number, None)
        if write is not None:
            write.done, write.durable = True, write.through
        for covered in self.flushes.pop(number, ()):
            covered.durable = True
        settled = 0
        while settled < len(self.pending) and self.pending[settled].durable:
            os.pwrite(self.base, self.pending[settled].data, self.pending[settled].offset)
            settled += 1
        del self.pending[:settled]

    def in_doubt(self):
        """How many writes a cut now may or may not leave."""
        return sum(not write.durable for write in self.pending)

    def cut(self, target_path, rng):
        """Writes one disk that a power cut now may leave."""
        copy_sparse(self.base_path, target_path)
        present = rng.choice((0.0, 0.0, 0.1, 0.5, 0.9, 1.0))
        torn = rng.choice((0.0, 0.0, 0.2, 0.6))
        target = os.open(target_path, os.O_WRONLY)
        for write in self.pending:
            if write.durable:
                os.pwrite(target, write.data, write.offset)
            elif rng.random() < torn:
                _write_torn(target, write, rng)
            elif rng.random() < present:
                os.pwrite(target, write.data, write.offset)
        os.close(target)

    def close(self):
        os.close(self.base)


def _write_torn(target, write, rng):
    """Some sectors of it: the front, the back, or any."""
    sectors = max(len(write.data) // SECTOR_BYTES, 1)
    at = rng.randrange(sectors + 1)
    way = rng.randrange(3)
    for sector in range(sectors):
        there = (sector < at, sector >= at, rng.random() < 0.5)[way]
        if there:
            start = sector * SECTOR_BYTES
            data = write.data[start : start + SECTOR_BYTES]
            os.pwrite(target, data, write.offset + start)


def copy_sparse(source_path, target_path):
    """A fresh copy that reads and writes only what is not a hole."""
    with open(source_path, "rb", buffering=0) as source, open(target_path, "wb", buffering=0) as target:
        end = os.fstat(source.fileno()).st_size
        os.ftruncate(target.fileno(), end)
        at = 0
        while at < end:
            try:
                start = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole follows
                return
            at = os.lseek(source.fileno(), start, os.SEEK_HOLE)
            while start < at:
                piece = os.pread(source.fileno(), min(COPY_BYTES, at - start), start)
                os.pwrite(target.fileno(), piece, start)
                start += len(piece)
