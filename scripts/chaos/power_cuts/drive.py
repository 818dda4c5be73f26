"""A drive with a volatile cache that remembers everything that was asked of it, in order.

It owns the contents that the machine under test sees and the event log: a write arrives, a flush
arrives, either is done. From the log `replay` makes the disk as of any moment. Commands are
finished late and out of order on purpose, as drives do: a flush covers the writes that were
reported done before it arrived, and no others.

It does not decide what a power cut leaves; that is `replay`. How it is reached (NVMe over TCP, a
file) is in `nvme_tcp` and `fuse_file`.
"""

import ctypes
import heapq
import mmap
import multiprocessing
import os
import random
import struct
import time

# kind, number of the command, offset in bytes, length in bytes; a write's data follows.
EVENT = struct.Struct("<BIQI")
WRITE, WRITE_THROUGH, FLUSH, DONE = range(4)

# Longest time in seconds a command takes. Long enough for commands to overlap.
WRITE_SECONDS_MAX, FLUSH_SECONDS_MAX = 0.0008, 0.002


def new_counter():
    """How many events are logged: written by the drive's process, read by the load's."""
    return multiprocessing.RawValue(ctypes.c_uint64, 0)


class Drive:
    """Contents, event log, and the commands under way."""

    def __init__(self, image_path, log_path, counter, seed):
        self.bytes = os.path.getsize(image_path)
        with open(image_path, "r+b") as image:
            self.contents = mmap.mmap(image.fileno(), self.bytes)
        self.log = open(log_path, "wb", buffering=1 << 20)
        self.counter = counter
        self.number = 0
        self.under_way = []  # heap of (when it is done, number, what to call then)
        self.rng = random.Random(seed)

    def read(self, offset, length):
        return self.contents[offset : offset + length]

    def write(self, offset, data, through, reply):
        """`through` is FUA: on the medium when it is done. `reply` is called when it is."""
        self.contents[offset : offset + len(data)] = data
        self._log(WRITE_THROUGH if through else WRITE, offset, len(data), data)
        self._finish_later(WRITE_SECONDS_MAX, reply)

    def flush(self, reply):
        self._log(FLUSH, 0, 0)
        self._finish_later(FLUSH_SECONDS_MAX, reply)

    def finish_due(self):
        """Finishes what is due; seconds until the next is, or None."""
        while self.under_way:
            when, number, reply = self.under_way[0]
            remaining = when - time.monotonic()
            if remaining > 0:
                return remaining
            heapq.heappop(self.under_way)
            # Logged before anybody is told: who was told of it finds it in the log.
            self._append(DONE, number, 0, 0)
            reply()
        return None

    def close(self):
        self.log.close()

    def _log(self, kind, offset, length, data=b""):
        self.number += 1
        self._append(kind, self.number, offset, length, data)

    def _append(self, kind, number, offset, length, data=b""):
        self.log.write(EVENT.pack(kind, number, offset, length))
        self.log.write(data)
        self.counter.value += 1

    def _finish_later(self, seconds_max, reply):
        when = time.monotonic() + self.rng.random() * seconds_max
        heapq.heappush(self.under_way, (when, self.number, reply))


def events(log_path):
    """Yields (kind, number, offset, data) of a drive's log."""
    with open(log_path, "rb", buffering=1 << 20) as log:
        while len(head := log.read(EVENT.size)) == EVENT.size:
            kind, number, offset, length = EVENT.unpack(head)
            data = log.read(length) if kind in (WRITE, WRITE_THROUGH) else b""
            yield kind, number, offset, data
