"""Damage to the bytes of segments: header fields, records, blocks, and batches inside of batches."""

import struct

import damage_base as bases
import damage_format as disk
from damage_kinds import NotHere, add, kind

PLACES = ("sealed", "active")
SECTOR = 512


def flip_field(damage, name, place):
    partition, segment, batch = damage.any_batch(place)
    at, size = disk.FIELDS[name]
    damage.flip(segment.path, batch.position + at + damage.rng.randrange(size))
    if name == "batch_length":
        damage.extend(partition, "segment")


def flip_record(damage, place):
    _, segment, batch = damage.any_batch(place)
    at = damage.rng.randrange(disk.HEADER_BYTES, len(batch.data))
    damage.flip(segment.path, batch.position + at, damage.rng.randrange(1, 256))


def flip_last_byte(damage, place):
    _, segment, batch = damage.any_batch(place)
    damage.flip(segment.path, batch.stop - 1)


for _place in PLACES:
    for _field in disk.FIELDS:
        add(f"flip {_field} ({_place})", flip_field, _field, _place)
    add(f"flip in records ({_place})", flip_record, _place)
    add(f"flip last byte ({_place})", flip_last_byte, _place)


def offset_moves(damage, place):
    """A record that would be read under another offset: no checksum covers the base offset."""
    _, segment, batch = damage.any_batch(place)
    by = damage.rng.choice((-1, 1, len(segment.batches), bases.FAR_OFFSET))
    damage.set_field(segment, batch, "base_offset", batch.base + by)


def offsets_move_together(damage, place):
    """Every batch from one on says an offset one higher: they chain, but for one gap."""
    partition, segment, batch = damage.any_batch(place)
    for one in segment.batches:
        if one.base >= batch.base:
            damage.set_field(segment, one, "base_offset", one.base + 1)
    damage.extend(partition, "segment")


def length_covers_two(damage, place):
    """The length field reaches to the end of the next batch."""
    partition, segment, _ = damage.any_batch(place)
    at = damage.rng.randrange(len(segment.batches) - 1)
    batch, following = segment.batches[at : at + 2]
    damage.set_field(segment, batch, "batch_length", following.stop - batch.position - 12)
    damage.extend(partition, "segment")


def length_is(damage, place, value):
    partition, segment, batch = damage.any_batch(place)
    damage.set_field(segment, batch, "batch_length", value)
    damage.extend(partition, "segment")


def neighbours_change_places(damage, place):
    _, segment, _ = damage.any_batch(place)
    at = damage.rng.randrange(len(segment.batches) - 1)
    first, second = segment.batches[at : at + 2]
    damage.write(segment.path, first.position, second.data + first.data)
    damage.say(f"{segment.path}: batches {first.base} and {second.base} exchanged")


def batch_twice(damage, place):
    """A batch is overwritten by the one before it: a write that went to the wrong place."""
    partition, segment, _ = damage.any_batch(place)
    at = damage.rng.randrange(len(segment.batches) - 1)
    first, second = segment.batches[at : at + 2]
    damage.write(segment.path, second.position, first.data[: len(second.data)])
    if len(first.data) < len(second.data):
        rest = len(second.data) - len(first.data)
        damage.write(segment.path, second.stop - rest, damage.rng.randbytes(rest))
    damage.say(f"{segment.path}: batch {second.base} overwritten by {first.base}")
    damage.extend(partition, "segment")


for _place in PLACES:
    add(f"base offset of a batch moved ({_place})", offset_moves, _place)
    add(f"base offsets moved together ({_place})", offsets_move_together, _place)
    add(f"length covers two batches ({_place})", length_covers_two, _place)
    add(f"length is huge ({_place})", length_is, _place, 0x7FFF_FFFF)
    add(f"length is zero ({_place})", length_is, _place, 0)
    add(f"neighbouring batches exchanged ({_place})", neighbours_change_places, _place)
    add(f"batch written over the next ({_place})", batch_twice, _place)


def aligned(damage, segment, size):
    """Start of any piece of `size` bytes that holds batches."""
    first, last = disk.BLOCK // size, (segment.stop - 1) // size
    return damage.rng.randint(first, last) * size


def zero_piece(damage, place, size):
    partition, segment, _ = damage.any_batch(place)
    at = aligned(damage, segment, size)
    damage.zero(segment.path, at, min(size, damage.path(segment.path).stat().st_size - at))
    damage.extend(partition, "segment")


def garbage_block(damage, place):
    partition, segment, _ = damage.any_batch(place)
    at = aligned(damage, segment, disk.BLOCK)
    damage.write(segment.path, at, damage.rng.randbytes(segment.stop - at)[: disk.BLOCK])
    damage.say(f"{segment.path}: a block of garbage at {at}")
    damage.extend(partition, "segment")


def block_from_elsewhere(damage, place):
    """A block that was meant for another segment of the same partition."""
    partition, segment, _ = damage.any_batch(place)
    other = damage.rng.choice([one for one in partition.segments if one is not segment])
    source, at = aligned(damage, other, disk.BLOCK), aligned(damage, segment, disk.BLOCK)
    block = damage.read(other.path)[source : source + disk.BLOCK]
    damage.write(segment.path, at, block)
    damage.say(f"{segment.path}: block at {at} is that of {other.path} at {source}")
    damage.extend(partition, "segment")


def zero_batch(damage, place):
    partition, segment, batch = damage.any_batch(place)
    damage.zero(segment.path, batch.position, len(batch.data))
    damage.extend(partition, "segment")


def zero_to_the_end(damage, place):
    _, segment, batch = damage.any_batch(place)
    damage.zero(segment.path, batch.position, segment.stop - batch.position)


def zero_file(damage, place):
    _, segment, _ = damage.any_batch(place)
    damage.zero(segment.path, 0, damage.path(segment.path).stat().st_size)


for _place in PLACES:
    add(f"zeroed sector ({_place})", zero_piece, _place, SECTOR)
    add(f"zeroed block ({_place})", zero_piece, _place, disk.BLOCK)
    add(f"zeroed 16 KiB ({_place})", zero_piece, _place, 4 * disk.BLOCK)
    add(f"block of garbage ({_place})", garbage_block, _place)
    add(f"block of another segment ({_place})", block_from_elsewhere, _place)
    add(f"zeroed batch ({_place})", zero_batch, _place)
    add(f"zeroed to the end ({_place})", zero_to_the_end, _place)
    add(f"zeroed file ({_place})", zero_file, _place)


# Batches inside of the records of a damaged batch.


def outer_batch(damage, nesting):
    """A batch whose last record holds a batch of this kind; the place is the seed's."""
    partition = damage.base.partition("nested")
    wanted = bases.NESTINGS.index(nesting)
    found = [
        (segment, batch)
        for segment in partition.segments
        for batch in segment.batches
        if batch.base // 3 % len(bases.NESTINGS) == wanted
    ]
    return partition, *damage.rng.choice(found)


def damage_header(damage, segment, batch):
    field = damage.rng.choice(("base_offset", "magic", "crc", "attributes", "record_count"))
    at, size = disk.FIELDS[field]
    damage.flip(segment.path, batch.position + at + damage.rng.randrange(size))


def damage_record(damage, segment, batch):
    at = batch.position + batch.data.index(b"before-")
    damage.flip(segment.path, at + damage.rng.randrange(7))


def damage_length(damage, segment, batch):
    at, size = disk.FIELDS["batch_length"]
    damage.flip(segment.path, batch.position + at + damage.rng.randrange(size))


def damage_whole_header(damage, segment, batch):
    damage.zero(segment.path, batch.position, disk.HEADER_BYTES)


def batch_in_value(damage, nesting, destroy):
    partition, segment, batch = outer_batch(damage, nesting)
    destroy(damage, segment, batch)
    if destroy in (damage_length, damage_whole_header):
        damage.extend(partition, "segment")


for _nesting in bases.NESTINGS:
    _name = f"batch in a value, {_nesting.replace('_', ' ')}"
    add(f"{_name}: header", batch_in_value, _nesting, damage_header)
    add(f"{_name}: record", batch_in_value, _nesting, damage_record)
    add(f"{_name}: length", batch_in_value, _nesting, damage_length)
    add(f"{_name}: header gone", batch_in_value, _nesting, damage_whole_header)


@kind("forged batch behind the end")
def forged_behind_end(damage):
    """A whole batch far above the log's end, in the zeros behind it: it must not become the end."""
    partition = damage.any_partition()
    segment = partition.active
    forged = disk.moved(segment.batches[-1].data, bases.FAR_OFFSET)
    damage.write(segment.path, segment.stop + 100, forged)
    damage.say(f"{segment.path}: a batch of offset {bases.FAR_OFFSET} at {segment.stop + 100}")


@kind("garbage behind the end")
def garbage_behind_end(damage):
    segment = damage.any_partition().active
    damage.write(segment.path, segment.stop, damage.rng.randbytes(damage.rng.randint(1, 9000)))
    damage.say(f"{segment.path}: garbage at {segment.stop}, behind the last batch")


@kind("flip in the tail of a load")
def flip_in_busy_tail(damage):
    """The last writes before a kill: the ledger need not know them yet, so they may be cut, told."""
    if damage.base.variant != "kill":
        raise NotHere("there was no load")
    partition = damage.base.partition(bases.BUSY)
    segment = partition.active
    batch = damage.rng.choice(segment.batches[-3:])
    damage.flip(segment.path, batch.position + damage.rng.randrange(17, len(batch.data)))
    damage.extend(partition, "segment")
    damage.ambiguous[partition.key] = batch.base


@kind("flips everywhere")
def flips_everywhere(damage):
    """One bit in each of several batches of one partition."""
    partition = damage.any_partition()
    for segment in partition.segments:
        batch = damage.batch(segment)
        damage.flip(segment.path, batch.position + damage.rng.randrange(len(batch.data)))
    damage.extend(partition, "segment")


@kind("offset and length of a batch zeroed")
def zero_front(damage):
    partition, segment, batch = damage.any_batch(damage.rng.choice(PLACES))
    damage.write(segment.path, batch.position, struct.pack(">qi", 0, 0))
    damage.say(f"{segment.path}: base offset and length of batch {batch.base} zeroed")
    damage.extend(partition, "segment")
