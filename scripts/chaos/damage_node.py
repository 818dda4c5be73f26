"""Damage to what the whole node rests on: superblock, marks ledgers, checkpoint, metadata log, the log
of offsets; and old copies of each, in every combination.
"""

import itertools
import shutil
from pathlib import Path

import damage_base as bases
import damage_format as disk
from damage_bytes import aligned
from damage_kinds import NotHere, add, kind

SUPERBLOCK_COPIES = 4
COPIES = ("a", "b")


# The superblock.


def flip_superblock(damage, copies):
    damage.may_refuse = True
    for copy in damage.rng.sample(range(SUPERBLOCK_COPIES), copies):
        damage.flip("superblock", copy * disk.BLOCK + damage.rng.randrange(64))


for _copies in (1, 2, 3, 4):
    add(f"flip in {_copies} of 4 copies of the superblock", flip_superblock, _copies)


@kind("superblock deleted")
def delete_superblock(damage):
    damage.may_refuse = True
    damage.path("superblock").unlink()
    damage.say("superblock: deleted")


@kind("superblock zeroed")
def zero_superblock(damage):
    damage.may_refuse = True
    damage.zero("superblock", 0, SUPERBLOCK_COPIES * disk.BLOCK)


# Marks ledgers. All records are there: they must be served, and nothing cut.


def ledgers(damage, core="*", copy="*"):
    return sorted(
        str(path.relative_to(damage.root)) for path in damage.path("marks").glob(f"core-{core}-?{copy}")
    )


def written_blocks(damage, relative):
    content = damage.read(relative)
    return [
        at for at in range(0, len(content), disk.BLOCK) if any(content[at : at + disk.BLOCK])
    ]


def damage_ledger(damage, copies, how):
    core = damage.rng.randrange(bases.CORES)
    both = [file for copy in copies for file in ledgers(damage, core, copy)]
    for number in sorted({file[:-1] for file in both}):
        files = [file for file in both if file.startswith(number)]
        blocks = written_blocks(damage, files[0])
        if not blocks:
            continue
        at = damage.rng.choice(blocks) + damage.rng.randrange(200)
        for file in files:
            if how == "flip":
                damage.flip(file, at)
            else:
                damage.zero(file, at - at % disk.BLOCK, disk.BLOCK)


for _how in ("flip", "zeroed block"):
    add(f"{_how} in one copy of the marks ledger", damage_ledger, ("a",), _how)
    add(f"{_how} in the other copy of the marks ledger", damage_ledger, ("b",), _how)
    add(f"{_how} in both copies of the marks ledger", damage_ledger, COPIES, _how)


def delete_ledgers(damage, core, copy):
    damage.not_vouched = copy == "*"
    core = damage.rng.randrange(bases.CORES) if core == "one" else core
    for file in ledgers(damage, core, copy):
        damage.path(file).unlink()
        damage.say(f"{file}: deleted")


add("one copy of the marks ledgers deleted", delete_ledgers, "*", "a")
add("marks ledger of a core deleted", delete_ledgers, "one", "*")
add("all marks ledgers deleted", delete_ledgers, "*", "*")


def cut_ledgers(damage, length):
    damage.not_vouched = True
    for file in ledgers(damage):
        damage.cut(file, length)


add("marks ledgers cut to nothing", cut_ledgers, 0)
add("marks ledgers cut to a block", cut_ledgers, disk.BLOCK)


@kind("marks ledgers of two cores exchanged")
def exchange_ledgers(damage):
    for first in ledgers(damage, 0):
        second = first.replace("core-0", "core-1")
        a, b = damage.read(first), damage.read(second)
        damage.path(first).write_bytes(b)
        damage.path(second).write_bytes(a)
    damage.say("marks of core 0 and core 1 exchanged")


def remove(damage, names):
    damage.not_vouched = "marks" in names
    damage.may_refuse = bool({"topics", "superblock"} & set(names))
    for name in names:
        path = damage.path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    damage.say(f"gone: {', '.join(names)}")
    # A kill leaves no checkpoint: without these three there is nothing that was ever written.
    all_gone = {"marks", "topics", "superblock"} <= set(names)
    if all_gone and not damage.path("checkpoint").exists():
        damage.rolled_back, damage.not_vouched = True, False


for _names in (
    ("marks",), ("checkpoint",), ("marks", "checkpoint"), ("topics",), ("marks", "topics"),
    ("marks", "superblock"), ("marks", "topics", "checkpoint"), ("checkpoint", "topics"),
    ("marks", "topics", "superblock"),
):
    add(f"{' and '.join(_names)} gone", remove, _names)


# The checkpoint: only a shortcut.


def damage_checkpoint(damage, how):
    files = sorted(damage.path("checkpoint").glob("core-*"))
    if not files:
        raise NotHere("a kill leaves no checkpoint")
    if how == "exchanged":
        contents = [file.read_bytes() for file in files]
        for file, content in zip(files, reversed(contents)):
            file.write_bytes(content)
    file = damage.rng.choice(files)
    relative, size = str(file.relative_to(damage.root)), file.stat().st_size
    if how == "flip":
        damage.flip(relative, damage.rng.randrange(size))
    elif how == "cut":
        damage.cut(relative, damage.rng.randrange(size))
    elif how == "zeroed":
        damage.zero(relative, 0, size)
    damage.say(f"checkpoint: {how}")


for _how in ("flip", "cut", "zeroed", "exchanged"):
    add(f"checkpoint: {_how}", damage_checkpoint, _how)


# The metadata log: without it nobody knows what topics there are.


def metadata(damage):
    damage.may_refuse = True
    return damage.base.partition(disk.METADATA)


def topics_unknown(damage, from_offset):
    """Topics whose record may be lost are not served, but their data stays."""
    for partition in damage.base.partitions.values():
        damage.extend(partition, "node")


@kind("flip in the metadata log")
def flip_metadata(damage):
    segment = metadata(damage).active
    batch = damage.batch(segment)
    damage.flip(segment.path, batch.position + damage.rng.randrange(len(batch.data)))
    topics_unknown(damage, batch.base)


@kind("flip in the last record of the metadata log")
def flip_last_metadata(damage):
    segment = metadata(damage).active
    batch = segment.batches[-1]
    damage.flip(segment.path, batch.position + damage.rng.randrange(len(batch.data)))
    topics_unknown(damage, batch.base)


@kind("block of the metadata log zeroed")
def zero_metadata(damage):
    segment = metadata(damage).active
    damage.zero(segment.path, aligned(damage, segment, disk.BLOCK), disk.BLOCK)
    topics_unknown(damage, 0)


@kind("metadata log cut")
def cut_metadata(damage):
    segment = metadata(damage).active
    batch = damage.batch(segment)
    damage.cut(segment.path, batch.position)
    topics_unknown(damage, batch.base)


@kind("metadata log deleted")
def delete_metadata(damage):
    damage.may_refuse = True
    shutil.rmtree(damage.path(f"topics/{disk.METADATA}"))
    damage.say("metadata log deleted")
    topics_unknown(damage, 0)


@kind("marks ledgers and end of the metadata log gone")
def cut_metadata_and_marks(damage):
    """A shorter metadata log and nothing that says how long it was: unknown topics must stay."""
    remove(damage, ("marks",))
    segment = metadata(damage).active
    batch = damage.rng.choice(segment.batches[2:])
    damage.zero(segment.path, batch.position, segment.stop - batch.position)
    topics_unknown(damage, batch.base)


# The log of offsets.


def offsets_partition(damage):
    return damage.base.partition(disk.OFFSETS, damage.rng.randrange(2))


def flip_offsets(damage, which):
    segment = offsets_partition(damage).active
    batch = segment.batches[which] if which is not None else damage.rng.choice(segment.batches)
    damage.flip(segment.path, batch.position + damage.rng.randrange(17, len(batch.data)))


add("flip in the log of offsets", flip_offsets, None)
add("flip in the first batch of the log of offsets", flip_offsets, 0)
add("flip in the last batch of the log of offsets", flip_offsets, -1)


@kind("base offset flipped in the log of offsets")
def flip_offsets_base(damage):
    segment = offsets_partition(damage).active
    batch = damage.rng.choice(segment.batches)
    damage.flip(segment.path, batch.position + damage.rng.randrange(8))


@kind("block of the log of offsets zeroed")
def zero_offsets(damage):
    segment = offsets_partition(damage).active
    damage.zero(segment.path, aligned(damage, segment, disk.BLOCK), disk.BLOCK)


@kind("log of offsets zeroed to the end")
def zero_offsets_end(damage):
    segment = offsets_partition(damage).active
    batch = damage.rng.choice(segment.batches)
    damage.zero(segment.path, batch.position, segment.stop - batch.position)


@kind("log of offsets cut")
def cut_offsets(damage):
    segment = offsets_partition(damage).active
    damage.cut(segment.path, damage.rng.choice(segment.batches).position)


@kind("segment of the log of offsets deleted")
def delete_offsets_segment(damage):
    segment = offsets_partition(damage).active
    damage.path(segment.path).unlink()
    damage.say(f"{segment.path}: deleted")


@kind("log of offsets deleted")
def delete_offsets(damage):
    shutil.rmtree(damage.path(f"topics/{disk.OFFSETS}"))
    damage.say("log of offsets deleted")


@kind("log of offsets and marks ledgers gone")
def delete_offsets_and_marks(damage):
    remove(damage, ("marks",))
    shutil.rmtree(damage.path(f"topics/{disk.OFFSETS}"))
    damage.say("log of offsets deleted")


# Old copies.

PARTS = ("superblock", "marks", "checkpoint", "metadata", "segments")


def restore(damage, old, part):
    if part == "superblock":
        shutil.copyfile(f"{old}/superblock", damage.path("superblock"))
    elif part in ("marks", "checkpoint"):
        shutil.rmtree(damage.path(part), ignore_errors=True)
        shutil.copytree(f"{old}/{part}", damage.path(part))
    elif part == "metadata":
        shutil.rmtree(damage.path(f"topics/{disk.METADATA}"))
        shutil.copytree(f"{old}/topics/{disk.METADATA}", damage.path(f"topics/{disk.METADATA}"))
    else:
        restore_segments(damage, old)


def restore_segments(damage, old):
    """Files of the same name are replaced; newer ones stay, or go as well."""
    newer_go = damage.rng.randrange(2) == 0
    for directory in sorted(Path(f"{old}/topics").iterdir()):
        if directory.name == disk.METADATA:
            continue
        if newer_go:
            shutil.rmtree(damage.path(f"topics/{directory.name}"))
        shutil.copytree(directory, damage.path(f"topics/{directory.name}"), dirs_exist_ok=True)
    damage.say("newer segments gone" if newer_go else "newer segments stay")


def old_copies(damage, parts):
    old = damage.rng.choice(damage.base.olds)
    for part in parts:
        restore(damage, old, part)
    damage.say(f"{', '.join(parts)} of {Path(old).name}")
    damage.may_refuse = bool({"superblock", "metadata"} & set(parts))
    damage.not_vouched = "marks" in parts and "superblock" not in parts
    # Where segments, ledgers and superblock went back together, nothing says that there was more.
    damage.rolled_back = {"superblock", "marks", "segments"} <= set(parts)
    damage.end_unknown = {"marks", "segments"} <= set(parts)
    if "segments" in parts:
        for partition in damage.base.partitions.values():
            damage.extend(partition, "partition")
    if "metadata" in parts:
        topics_unknown(damage, 0)


for _count in range(1, len(PARTS) + 1):
    for _parts in itertools.combinations(PARTS, _count):
        add(f"old copy of {', '.join(_parts)}", old_copies, _parts)
