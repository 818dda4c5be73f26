"""Blocks that the disk does not give: reading them fails with EIO.

The case's directory lies in a btrfs image. Its blocks have checksums, so a byte changed in the image,
behind the filesystem's back, makes the kernel answer EIO for that block, to every way of reading.
"""

import mmap
import os
import shutil
import subprocess

import damage_format as disk
from damage_kinds import NotHere, add
from damage_node import ledgers, written_blocks

IMAGE_BYTES = 160 << 20


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise NotHere(f"{words[0]}: {done.stderr.strip() or done.stdout.strip()}")


def mount(image, directory):
    run("mount", "-o", "loop", image, str(directory))


def into_image(damage):
    """Moves the case's directory into a btrfs image that is mounted in its place."""
    if os.geteuid() != 0 or not shutil.which("mkfs.btrfs"):
        raise NotHere("needs root and mkfs.btrfs (Debian: btrfs-progs)")
    image = f"{damage.root}.btrfs"
    aside = damage.root.with_name(damage.root.name + ".aside")
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    damage.cleanups.append(lambda: os.unlink(image))
    run("mkfs.btrfs", "-q", "-M", "-d", "single", "-m", "single", image)
    damage.root.rename(aside)
    damage.root.mkdir()
    mount(image, damage.root)
    damage.cleanups.append(lambda: subprocess.run(["umount", "-l", str(damage.root)], check=False))
    shutil.copytree(aside, damage.root, dirs_exist_ok=True)
    shutil.rmtree(aside)
    return image


def break_blocks(damage, image, places):
    """Makes blocks of files unreadable: (path, position)."""
    wanted = []
    for relative, at in places:
        block = damage.read(relative)[at : at + disk.BLOCK]
        assert any(block), "a block of zeros cannot be found in the image"
        wanted.append(block)
    run("umount", str(damage.root))
    with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as bytes_of:
        for (relative, at), block in zip(places, wanted):
            found = bytes_of.find(block)
            assert found >= 0, f"{relative} block {at} is not in the image"
            bytes_of[found + 7] ^= 0x55
    mount(image, damage.root)
    for relative, at in places:
        damage.unreadable.add((relative, at))
        damage.say(f"{relative}: block at {at} cannot be read")
        with open(damage.path(relative), "rb", buffering=0) as file:
            file.seek(at)
            try:
                file.read(disk.BLOCK)
            except OSError:
                continue
            raise NotHere("the kernel gives the block all the same")


def unreadable_in_segment(damage, place, blocks):
    image = into_image(damage)
    partition, segment, batch = damage.any_batch(place)
    first = batch.position - batch.position % disk.BLOCK
    places = [
        (segment.path, at)
        for at in range(first, segment.stop, disk.BLOCK)[:blocks]
    ]
    break_blocks(damage, image, places)
    damage.extend(partition, "segment")


def unreadable_header(damage, place):
    image = into_image(damage)
    partition, segment, _ = damage.any_batch(place)
    break_blocks(damage, image, [(segment.path, 0)])
    damage.extend(partition, "segment")


def unreadable_offsets(damage):
    image = into_image(damage)
    segment = damage.base.partition(disk.OFFSETS, damage.rng.randrange(2)).active
    break_blocks(damage, image, [(segment.path, disk.BLOCK)])


def unreadable_metadata(damage):
    image = into_image(damage)
    damage.may_refuse = True
    segment = damage.base.partition(disk.METADATA).active
    break_blocks(damage, image, [(segment.path, disk.BLOCK)])
    for partition in damage.base.partitions.values():
        damage.extend(partition, "node")


def unreadable_file(damage, relative):
    """One of the copies: two of the ledger, four of the superblock."""
    image = into_image(damage)
    if relative == "superblock":
        damage.may_refuse = True
        # The four are alike, and the first is found first in the image.
        break_blocks(damage, image, [(relative, 0)])
        return
    for file in ledgers(damage, 0, "a"):
        written = written_blocks(damage, file)
        if written:
            break_blocks(damage, image, [(file, damage.rng.choice(written))])
            return


for _place in ("sealed", "active"):
    add(f"unreadable block ({_place})", unreadable_in_segment, _place, 1)
    add(f"unreadable blocks ({_place})", unreadable_in_segment, _place, 3)
    add(f"unreadable header block ({_place})", unreadable_header, _place)
add("unreadable block of the log of offsets", unreadable_offsets)
add("unreadable block of the metadata log", unreadable_metadata)
add("unreadable copy of the marks ledger", unreadable_file, "marks")
add("unreadable copy of the superblock", unreadable_file, "superblock")
