"""What a kind of damage is: a name, and a function that destroys something in a copy of a base.

The function says what it did and how far the loss may reach beyond the bytes it destroyed; which
batches those are is found out by comparing every batch's bytes with the base's.
"""

import hashlib
import random
from pathlib import Path

import damage_format as disk

KINDS = {}

# How far an undamaged batch may be kept back, with the reason that is printed.
REACHES = {
    "batch": "nothing but the damaged batches",
    "block": "the part of a block that the file ends in: segments are whole blocks",
    "segment": "the rest of the segment: no proven place to go on",
    "partition": "the partition",
    "node": "the node: superblock or metadata log",
}


class NotHere(Exception):
    """The kind makes no sense for this base, or cannot be made on this machine."""


def kind(name):
    def register(function):
        assert name not in KINDS, name
        KINDS[name] = function
        return function

    return register


def add(name, function, *arguments):
    """Registers a kind that is a function with arguments of its own."""
    kind(name)(lambda damage: function(damage, *arguments))


class Damage:
    """One case: a copy of a base, and what is done to it."""

    def __init__(self, base, directory, name, seed):
        self.base, self.root = base, Path(directory)
        text = f"{name}/{base.variant}/{seed}".encode()
        self.rng = random.Random(hashlib.sha256(text).digest())
        self.done = []
        # Partition -> how far the loss may reach beyond what is destroyed.
        self.reach = {}
        # Start of the loss in a partition whose last writes the ledger need not know yet.
        self.ambiguous = {}
        # The start may be refused.
        self.may_refuse = False
        # Everything that tells of later data was rolled back: its loss cannot be noticed.
        self.rolled_back = False
        # Segments and what says how far they went were rolled back, and that is told: new records get
        # offsets of lost ones.
        self.end_unknown = False
        # What was acknowledged is not known any more, though all is there: to be told.
        self.not_vouched = False
        # Blocks that the disk does not give: (path, position).
        self.unreadable = set()
        # Files that hold what they did, under another name: {old: new}.
        self.renamed = {}
        # Files that were added and must stay.
        self.added = []
        # Things to be undone at the end.
        self.cleanups = []

    def say(self, text):
        self.done.append(text)

    def extend(self, partition, reach):
        self.reach[partition.key] = reach

    # Bytes.

    def path(self, relative):
        return self.root / relative

    def read(self, relative):
        return self.path(relative).read_bytes()

    def write(self, relative, position, data):
        with open(self.path(relative), "r+b") as file:
            file.seek(position)
            file.write(data)

    def flip(self, relative, position, bits=None):
        """Flips bits of one byte: any one bit, unless told which."""
        bits = bits or 1 << self.rng.randrange(8)
        old = self.read(relative)[position]
        self.write(relative, position, bytes([old ^ bits]))
        self.say(f"{relative} byte {position}: {old:#04x} to {old ^ bits:#04x}")

    def zero(self, relative, position, length):
        self.write(relative, position, bytes(length))
        self.say(f"{relative}: {length} zeros at {position}")

    def cut(self, relative, length):
        with open(self.path(relative), "r+b") as file:
            file.truncate(length)
        self.say(f"{relative}: cut to {length} bytes")

    def create(self, relative, content):
        self.path(relative).parent.mkdir(parents=True, exist_ok=True)
        self.path(relative).write_bytes(content)
        self.added.append(relative)
        self.say(f"{relative}: {len(content)} bytes added")

    # Places.

    def any_partition(self, topics=("plain", "plain", "idem", "idem", "gzip", "checked")):
        topic = self.rng.choice(topics)
        return self.base.partition(topic, self.rng.randrange(2) if topic in ("plain", "idem") else 0)

    def segment(self, partition, place):
        """Any sealed one, or the active one."""
        return partition.active if place == "active" else self.rng.choice(partition.sealed)

    def batch(self, segment):
        """The first one, the last, or one between."""
        if self.rng.randrange(3) == 0:
            return segment.batches[0]
        if self.rng.randrange(2) == 0:
            return segment.batches[-1]
        return self.rng.choice(segment.batches[1:-1])

    def any_batch(self, place, **where):
        partition = self.any_partition(**where)
        segment = self.segment(partition, place)
        return partition, segment, self.batch(segment)

    def field_value(self, segment, batch, name):
        position, size = disk.FIELDS[name]
        return int.from_bytes(batch.data[position : position + size], "big"), size

    def set_field(self, segment, batch, name, value):
        position, size = disk.FIELDS[name]
        self.write(segment.path, batch.position + position, (value % (1 << 8 * size)).to_bytes(size, "big"))
        self.say(f"{segment.path} batch {batch.base}: {name} is {value}")

    # What it came to.

    def content(self, relative):
        """A file's bytes, None where it is gone; blocks that cannot be read are zeros."""
        path = self.path(relative)
        if not path.is_file() and relative in self.renamed:
            path = self.path(self.renamed[relative])
        if not path.is_file():
            return None
        if not any(file == relative for file, _ in self.unreadable):
            return path.read_bytes()
        content = bytearray(path.stat().st_size)
        with open(path, "rb", buffering=0) as file:
            for at in range(0, len(content), disk.BLOCK):
                if (relative, at) not in self.unreadable:
                    file.seek(at)
                    block = file.read(disk.BLOCK)
                    content[at : at + len(block)] = block
        return bytes(content)

    def destroyed(self):
        """{partition: {base offset of each batch that is not where it was, as it was}}"""
        lost = {}
        for key, partition in self.base.partitions.items():
            gone = set()
            for segment in partition.segments:
                content = self.content(segment.path)
                for batch in segment.batches:
                    if content is None or content[batch.position : batch.stop] != batch.data:
                        gone.add(batch.base)
            if gone:
                lost[key] = gone
        return lost

    def allowed(self, lost):
        """{partition: {base offset of each batch that may be missing}}, by the stated reach."""
        allowed = {key: set(bases) for key, bases in lost.items()}
        for key, reach in self.reach.items():
            partition = self.base.partitions[key]
            if reach in ("partition", "node"):
                allowed[key] = {batch.base for batch in partition.batches}
                continue
            for segment in partition.segments:
                hit = [one.base for one in segment.batches if one.base in lost.get(key, ())]
                if reach == "block" and hit:
                    size = self.path(segment.path).stat().st_size
                    whole = size - size % disk.BLOCK
                    rest = {one.base for one in segment.batches if one.stop > whole}
                    allowed[key] = allowed.get(key, set()) | rest
                if reach == "segment" and hit:
                    rest = {one.base for one in segment.batches if one.base >= min(hit)}
                    allowed[key] = allowed.get(key, set()) | rest
        return allowed

    def close(self):
        for cleanup in reversed(self.cleanups):
            cleanup()
