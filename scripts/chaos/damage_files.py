"""Damage to files: cut, deleted, exchanged, foreign ones added; header blocks and sidecars."""

import os
import shutil
import struct

import damage_format as disk
import kafka_frames as kafka
from damage_bytes import PLACES
from damage_kinds import add, kind

PREPARED_NUMBER = 77


# Cut and deleted.


def cut_file(damage, place, where):
    partition, segment, batch = damage.any_batch(place)
    damage.extend(partition, "block")
    length = {
        "in a batch": batch.position + damage.rng.randrange(1, len(batch.data)),
        "between batches": batch.position,
        "at a block": batch.position - batch.position % disk.BLOCK,
        "to its header": disk.BLOCK,
        "to nothing": 0,
    }[where]
    damage.cut(segment.path, length)


for _place in PLACES:
    for _where in ("in a batch", "between batches", "at a block", "to its header", "to nothing"):
        add(f"cut {_where} ({_place})", cut_file, _place, _where)


def delete_segment(damage, at, with_sidecars):
    partition = damage.any_partition()
    segment = partition.segments[at]
    damage.path(segment.path).unlink()
    damage.say(f"{segment.path}: deleted")
    if with_sidecars:
        for name in ("index", "producers"):
            damage.path(segment.sidecar(name)).unlink(missing_ok=True)


add("first segment deleted", delete_segment, 0, True)
add("middle segment deleted", delete_segment, 2, True)
add("middle segment deleted, sidecars stay", delete_segment, 2, False)
add("last sealed segment deleted", delete_segment, -2, True)
add("active segment deleted", delete_segment, -1, True)


@kind("all segments of a partition deleted")
def delete_all_segments(damage):
    for segment in damage.any_partition().segments:
        damage.path(segment.path).unlink()
        damage.say(f"{segment.path}: deleted")


@kind("partition's directory deleted")
def delete_partition(damage):
    directory = damage.any_partition().directory
    shutil.rmtree(damage.path(directory))
    damage.say(f"{directory}: deleted")


@kind("topic's directory deleted")
def delete_topic(damage):
    topic = damage.any_partition().topic
    shutil.rmtree(damage.path(f"topics/{topic}"))
    damage.say(f"topics/{topic}: deleted")


# Exchanged.


def exchange(damage, first, second):
    a, b = damage.read(first), damage.read(second)
    damage.path(first).write_bytes(b)
    damage.path(second).write_bytes(a)
    damage.say(f"{first} and {second} exchanged")


@kind("sealed segments exchanged")
def exchange_sealed(damage):
    partition = damage.any_partition()
    first, second = damage.rng.sample(partition.sealed, 2)
    exchange(damage, first.path, second.path)
    if damage.rng.randrange(2):
        exchange(damage, first.sidecar("index"), second.sidecar("index"))
    damage.extend(partition, "partition")


@kind("sealed and active segment exchanged")
def exchange_with_active(damage):
    partition = damage.any_partition()
    exchange(damage, damage.rng.choice(partition.sealed).path, partition.active.path)
    damage.extend(partition, "partition")


@kind("segments of two partitions exchanged")
def exchange_partitions(damage):
    first, second = damage.base.partition("plain", 0), damage.base.partition("plain", 1)
    place = damage.rng.randrange(len(first.segments))
    exchange(damage, first.segments[place].path, second.segments[place].path)
    damage.extend(first, "partition")
    damage.extend(second, "partition")


@kind("directories of two partitions exchanged")
def exchange_directories(damage):
    first, second = damage.base.partition("idem", 0), damage.base.partition("idem", 1)
    spare = damage.path(first.directory + ".spare")
    damage.path(first.directory).rename(spare)
    damage.path(second.directory).rename(damage.path(first.directory))
    spare.rename(damage.path(second.directory))
    damage.say(f"{first.directory} and {second.directory} exchanged")
    damage.extend(first, "partition")
    damage.extend(second, "partition")


@kind("segment overwritten by another one")
def overwrite_segment(damage):
    partition = damage.any_partition()
    source, target = damage.rng.sample(partition.segments, 2)
    shutil.copyfile(damage.path(source.path), damage.path(target.path))
    damage.say(f"{target.path} holds a copy of {source.path}")
    damage.extend(partition, "partition")


@kind("segment renamed to a later offset")
def rename_segment(damage):
    partition = damage.any_partition()
    segment = damage.rng.choice(partition.segments)
    wrong = f"{partition.directory}/{segment.base + 1:020}-{segment.epoch}.log"
    damage.path(segment.path).rename(damage.path(wrong))
    damage.say(f"{segment.path} renamed to {wrong}")
    damage.extend(partition, "partition")


@kind("segment renamed to a later epoch")
def rename_epoch(damage):
    partition = damage.any_partition()
    segment = damage.rng.choice(partition.segments)
    wrong = f"{partition.directory}/{segment.base:020}-{segment.epoch + 1}.log"
    damage.path(segment.path).rename(damage.path(wrong))
    damage.say(f"{segment.path} renamed to {wrong}")
    damage.extend(partition, "partition")


# Header blocks: they repeat what name and neighbours say, and may be made anew.


def flip_header_block(damage, place):
    _, segment, _ = damage.any_batch(place)
    damage.flip(segment.path, damage.rng.choice((0, 8, 12, 28, 44, 52, 60, 200, disk.BLOCK - 1)))


def zero_header_block(damage, place):
    _, segment, _ = damage.any_batch(place)
    damage.zero(segment.path, 0, disk.BLOCK)


def header_of_another(damage, place):
    partition, segment, _ = damage.any_batch(place)
    other = damage.rng.choice([one for one in partition.segments if one is not segment])
    damage.write(segment.path, 0, damage.read(other.path)[: disk.BLOCK])
    damage.say(f"{segment.path}: header block of {other.path}")
    damage.extend(partition, "partition")


def header_of_another_partition(damage, place):
    partition, other = damage.base.partition("plain", 0), damage.base.partition("idem", 0)
    segment = damage.segment(partition, place)
    damage.write(segment.path, 0, damage.read(other.segments[0].path)[: disk.BLOCK])
    damage.say(f"{segment.path}: header block of {other.segments[0].path}")
    damage.extend(partition, "partition")


def header_version(damage, place):
    """A newer layout: nobody may guess at its bytes."""
    partition, segment, _ = damage.any_batch(place)
    block = bytearray(damage.read(segment.path)[: disk.BLOCK])
    struct.pack_into("<I", block, 8, 99)
    struct.pack_into("<I", block, disk.BLOCK - 4, kafka.crc32c(block[:-4]))
    damage.write(segment.path, 0, block)
    damage.say(f"{segment.path}: header says layout 99")
    damage.extend(partition, "partition")


for _place in PLACES:
    add(f"flip in header block ({_place})", flip_header_block, _place)
    add(f"zeroed header block ({_place})", zero_header_block, _place)
    add(f"header block of another segment ({_place})", header_of_another, _place)
    add(f"header block of another partition ({_place})", header_of_another_partition, _place)
    add(f"header block of a newer layout ({_place})", header_version, _place)


# Sidecars: made anew whenever they do not fit.


def sidecars(damage, name, partition):
    """Those that are there: the first segment has no snapshot of producers, the active one no index."""
    files = [segment.sidecar(name) for segment in partition.segments]
    return [file for file in files if damage.path(file).exists()]


def flip_sidecar(damage, name):
    partition = damage.any_partition(topics=("idem",))
    file = damage.rng.choice(sidecars(damage, name, partition))
    damage.flip(file, damage.rng.randrange(damage.path(file).stat().st_size))


def remove_sidecars(damage, name):
    partition = damage.any_partition(topics=("idem",))
    for segment in partition.segments:
        damage.path(segment.sidecar(name)).unlink(missing_ok=True)
    damage.say(f"{partition.directory}: no .{name} left")


def sidecar_of_another(damage, name):
    partition = damage.any_partition(topics=("idem",))
    exchange(damage, *damage.rng.sample(sidecars(damage, name, partition), 2))


def sidecar_of_another_partition(damage, name):
    """Written by this node for a partition of the same shape: only its contents can tell."""
    first, second = damage.base.partition("idem", 0), damage.base.partition("idem", 1)
    number = damage.rng.randrange(2)
    files = [sidecars(damage, name, partition)[number] for partition in (first, second)]
    exchange(damage, *files)


def garbage_sidecar(damage, name):
    partition = damage.any_partition(topics=("idem",))
    file = damage.rng.choice(sidecars(damage, name, partition))
    damage.path(file).write_bytes(damage.rng.randbytes(damage.rng.choice((0, 31, 300, 9000))))
    damage.say(f"{file}: garbage")


for _name in ("index", "producers"):
    add(f"flip in .{_name}", flip_sidecar, _name)
    add(f"all .{_name} deleted", remove_sidecars, _name)
    add(f".{_name} of another segment", sidecar_of_another, _name)
    add(f".{_name} of another partition", sidecar_of_another_partition, _name)
    add(f"garbage in .{_name}", garbage_sidecar, _name)


# Files and directories that are not ours, or not any more.


@kind("foreign files in a partition's directory")
def foreign_files(damage):
    partition = damage.any_partition()
    damage.create(f"{partition.directory}/notes.txt", b"do not delete")
    damage.create(f"{partition.directory}/.nfs000000000001", damage.rng.randbytes(100))
    damage.create(f"{partition.directory}/{'9' * 20}-x.log", damage.rng.randbytes(9000))


@kind("directory with the name of a segment")
def directory_as_segment(damage):
    partition = damage.any_partition()
    name = f"{partition.directory}/{partition.end + 5:020}-0.log"
    damage.path(name).mkdir()
    damage.create(f"{name}/inside", b"do not delete")


@kind("pipe and dangling link with names of segments")
def special_files(damage):
    partition = damage.any_partition()
    os.mkfifo(damage.path(f"{partition.directory}/{partition.end + 5:020}-0.log"))
    os.symlink("nowhere", damage.path(f"{partition.directory}/{partition.end + 6:020}-0.log"))
    damage.say(f"{partition.directory}: a pipe and a dangling link named as segments")
    damage.extend(partition, "partition")


@kind("garbage with the name of a segment")
def garbage_segment(damage):
    partition = damage.any_partition()
    base = partition.end + damage.rng.choice((0, 5, 1000))
    damage.create(f"{partition.directory}/{base:020}-0.log", damage.rng.randbytes(3 * disk.BLOCK))
    # No batch in it and nothing acknowledged there: as a segment torn at its creation, it may go.
    damage.added.clear()
    damage.extend(partition, "partition")


@kind("segment far above the end")
def far_segment(damage):
    """A copy of a segment, renamed: its header and its batches say other offsets."""
    partition = damage.any_partition()
    source = damage.rng.choice(partition.segments)
    damage.create(f"{partition.directory}/{10**12:020}-0.log", damage.read(source.path))
    damage.extend(partition, "partition")


@kind("directory of an unknown topic")
def unknown_topic(damage):
    """As after a lost metadata log: the data of a topic that nobody knows is somebody's data."""
    partition = damage.any_partition()
    for segment in partition.segments:
        name = segment.path.rsplit("/", 1)[1]
        damage.create(f"topics/unknown/AAAAAAAAAAAAAAAAAAAAAQ/0/{name}", damage.read(segment.path))


@kind("directory of an unknown partition")
def unknown_partition(damage):
    partition = damage.any_partition()
    directory = partition.directory.rsplit("/", 1)[0]
    for segment in partition.segments:
        name = segment.path.rsplit("/", 1)[1]
        damage.create(f"{directory}/40/{name}", damage.read(segment.path))


@kind("foreign directories")
def foreign_directories(damage):
    damage.create("topics/README", b"do not delete")
    damage.create("topics/plain/backup/0/notes", b"do not delete")
    damage.create("lost+found/inode", b"do not delete")
    damage.create("topics/plain/lost+found/x", b"do not delete")


# Prepared files with contents.


def prepared(damage, content, keep):
    partition = damage.any_partition()
    name = f"{partition.directory}/prepared-{PREPARED_NUMBER}.log"
    made = content(damage, partition)
    if keep:
        damage.create(name, made)
        damage.extend(partition, "partition")
    else:
        damage.path(name).write_bytes(made)
        damage.say(f"{name}: {len(made)} bytes added")


def copy_of_sealed(damage, partition):
    return damage.read(damage.rng.choice(partition.sealed).path)


def front_of_active(damage, partition):
    """Fewer batches than the finished file: taken instead of it, acknowledged records vanish."""
    content = damage.read(partition.active.path)
    stop = partition.active.batches[1].stop
    return content[:stop] + bytes(len(content) - stop)


def segment_of_other_partition(damage, partition):
    others = [one for key, one in damage.base.partitions.items() if key != partition.key]
    others = [one for one in others if one.topic[0] != "_"]
    return damage.read(damage.rng.choice(others).active.path)


def old_garbage(damage, _partition):
    return damage.rng.randbytes(4 * disk.BLOCK)


add("prepared file is a copy of a sealed segment", prepared, copy_of_sealed, False)
add("prepared file is the front of the active segment", prepared, front_of_active, False)
add("prepared file is of another partition", prepared, segment_of_other_partition, True)
add("prepared file is garbage", prepared, old_garbage, False)


@kind("active segment has the name of a prepared file")
def active_as_prepared(damage):
    """As when the rename did not reach the disk: harmless."""
    partition = damage.any_partition()
    name = f"{partition.directory}/prepared-{PREPARED_NUMBER}.log"
    damage.path(partition.active.path).rename(damage.path(name))
    damage.say(f"{partition.active.path} renamed to {name}")
    damage.renamed[partition.active.path] = name
