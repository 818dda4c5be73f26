"""Highwater's data directory as a destroyer sees it: segments and where each batch lies in them.

Written from ARCHITECTURE.md ("On disk"), shares nothing with the broker. It reads only directories
that are whole; what it knows of the superblock, the marks ledger and the checkpoint is where they are.
"""

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import kafka_frames as kafka

BLOCK = 4096
HEADER_BYTES = 61
SEGMENT_NAME = re.compile(r"^(\d{20})-(\d+)\.log$")
SEGMENT_MAGIC = b"HWSEGMNT"
METADATA, OFFSETS = "__cluster_metadata", "__consumer_offsets"

# Name -> (position in the batch, bytes) of each header field; all are big endian.
FIELDS = {
    "base_offset": (0, 8),
    "batch_length": (8, 4),
    "leader_epoch": (12, 4),
    "magic": (16, 1),
    "crc": (17, 4),
    "attributes": (21, 2),
    "last_offset_delta": (23, 4),
    "base_timestamp": (27, 8),
    "max_timestamp": (35, 8),
    "producer_id": (43, 8),
    "producer_epoch": (51, 2),
    "base_sequence": (53, 4),
    "record_count": (57, 4),
}


@dataclass
class Batch:
    """One batch: its offsets, where it lies in its file, its bytes."""

    base: int
    end: int
    position: int
    data: bytes
    timestamp: int

    @property
    def stop(self):
        return self.position + len(self.data)


@dataclass
class Segment:
    """One segment file that has its final name."""

    path: str
    base: int
    epoch: int
    batches: list = field(default_factory=list)

    @property
    def end(self):
        return self.batches[-1].end if self.batches else self.base

    @property
    def stop(self):
        """Position behind the last batch."""
        return self.batches[-1].stop if self.batches else BLOCK

    def sidecar(self, kind):
        return f"{self.path.removesuffix('.log')}.{kind}"


@dataclass
class Partition:
    """One partition's directory, relative to the data directory."""

    topic: str
    topic_id: str
    index: int
    directory: str
    segments: list = field(default_factory=list)

    @property
    def key(self):
        return (self.topic, self.index)

    @property
    def batches(self):
        return [batch for segment in self.segments for batch in segment.batches]

    @property
    def end(self):
        return self.segments[-1].end if self.segments else 0

    @property
    def sealed(self):
        return self.segments[:-1]

    @property
    def active(self):
        return self.segments[-1]


def read_batches(content):
    """The batches behind the header block, up to the first byte that is none."""
    found, at = [], BLOCK
    while at + HEADER_BYTES <= len(content):
        base, length = struct.unpack_from(">qi", content, at)
        magic, stop = content[at + 16], at + 12 + length
        if length < HEADER_BYTES - 12 or magic != 2 or stop > len(content):
            break
        data = bytes(content[at:stop])
        last, = struct.unpack_from(">i", data, FIELDS["last_offset_delta"][0])
        timestamp, = struct.unpack_from(">q", data, FIELDS["max_timestamp"][0])
        found.append(Batch(base, base + last + 1, at, data, timestamp))
        at = stop
    return found


def scan(data_dir):
    """{(topic, partition): Partition} of a directory that is whole."""
    data_dir = Path(data_dir)
    partitions = {}
    for directory in sorted(data_dir.glob("topics/*/*/*")):
        relative = str(directory.relative_to(data_dir))
        _, topic, topic_id, index = relative.split("/")
        partition = Partition(topic, topic_id, int(index), relative)
        for file in sorted(directory.iterdir()):
            name = SEGMENT_NAME.match(file.name)
            if name:
                segment = Segment(f"{relative}/{file.name}", int(name[1]), int(name[2]))
                segment.batches = read_batches(file.read_bytes())
                partition.segments.append(segment)
        partitions[partition.key] = partition
    return partitions


def crc_is_right(data):
    crc, = struct.unpack_from(">I", data, FIELDS["crc"][0])
    return kafka.crc32c(data[FIELDS["attributes"][0] :]) == crc


def with_right_crc(data):
    crc = struct.pack(">I", kafka.crc32c(data[FIELDS["attributes"][0] :]))
    return data[: FIELDS["crc"][0]] + crc + data[FIELDS["attributes"][0] :]


def moved(data, base=None, epoch=None):
    """A batch under another base offset or epoch; its checksum covers neither."""
    head = bytearray(data[:16])
    if base is not None:
        struct.pack_into(">q", head, 0, base)
    if epoch is not None:
        struct.pack_into(">i", head, 12, epoch)
    return bytes(head) + data[16:]
