"""File systems in image files: made, mounted through a loop device, and found below LVM and LUKS.

This machine's kernel need not know LVM: a fresh volume group with one volume holds it in one piece,
one MiB into the disk. LUKS is decrypted by qemu-img.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
import time

from power_cuts import guest

LVM_DATA_BYTES = 1 << 20
UNMOUNT_SECONDS_MAX = 60
MAKE = {
    "ext4": "mkfs.ext4 -q -F -E nodiscard",
    "ext4-journal": "mkfs.ext4 -q -F -E nodiscard",
    "ext4-fscrypt": "mkfs.ext4 -q -F -E nodiscard -O encrypt",
    "xfs": "mkfs.xfs -q -f -K -m reflink=0",
    "xfs-reflink": "mkfs.xfs -q -f -K -m reflink=1",
    "btrfs": "mkfs.btrfs -q -f -K",
}
OPTIONS = {"ext4-journal": "data=journal"}
# struct fscrypt_add_key_arg, fscrypt_policy_v2
ADD_ENCRYPTION_KEY, SET_ENCRYPTION_POLICY = 0xC0506617, 0x800C6613
KEY = bytes(range(64))


def make(path, filesystem):
    run([*MAKE[filesystem].split(), path])


def kind(filesystem):
    return filesystem.partition("-")[0]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def loop_device(path, offset=0):
    device = run(["losetup", "--find", "--show", "--offset", str(offset), path])
    try:
        yield device
    finally:
        run(["losetup", "--detach", device])


@contextlib.contextmanager
def mounted(device, filesystem, mount_point):
    """Mounts a device; an fscrypt directory gets its key, and its policy when it is new."""
    options = ["-o", OPTIONS[filesystem]] if filesystem in OPTIONS else []
    run(["mount", "-t", kind(filesystem), *options, device, mount_point])
    try:
        if filesystem == "ext4-fscrypt":
            unlock(mount_point)
        yield mount_point
    finally:
        unmount(mount_point)


def unmount(mount_point):
    """A killed broker's io_uring lets go of its files a moment after the process is gone."""
    deadline = time.monotonic() + UNMOUNT_SECONDS_MAX
    while True:
        try:
            return run(["umount", mount_point])
        except RuntimeError as error:
            if "busy" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def crash_image(setup, image, mount_point):
    """The file system in a crash image of that set-up, mounted (its journal is replayed)."""
    offset = LVM_DATA_BYTES if setup.stack == "lvm" else 0
    if setup.stack == "luks":
        image = decrypt(image)
    with loop_device(image, offset) as device:
        with mounted(device, setup.filesystem, mount_point) as directory:
            yield directory


def decrypt(image):
    """A copy of a LUKS disk in the clear."""
    clear = image.with_suffix(".clear")
    run([
        "qemu-img", "convert", "--object", f"secret,id=key,data={guest.PASSPHRASE}",
        "--image-opts", f"driver=luks,key-secret=key,file.filename={image}", "-O", "raw", clear,
    ])
    return clear


def unlock(mount_point):
    """Adds the key to a file system and encrypts the directory `highwater` unless it is."""
    directory = os.path.join(mount_point, "highwater")
    os.makedirs(directory, exist_ok=True)
    root = os.open(mount_point, os.O_RDONLY)
    # key_spec {type identifier = 2, reserved, 32 bytes}, raw_size, key_id, reserved[8], raw
    argument = bytearray(struct.pack("<II32sII32x", 2, 0, bytes(32), len(KEY), 0) + KEY)
    fcntl.ioctl(root, ADD_ENCRYPTION_KEY, argument)
    os.close(root)
    identifier = bytes(argument[8:24])
    # version 2, AES-256-XTS, AES-256-CTS, padding 32
    policy = struct.pack("<BBBB4x16s", 2, 1, 4, 3, identifier)
    # The same policy again is no error.
    encrypted = os.open(directory, os.O_RDONLY)
    fcntl.ioctl(encrypted, SET_ENCRYPTION_POLICY, policy)
    os.close(encrypted)


def block_queue(path):
    """(write_cache, fua) of the device a directory is on, as the kernel tells."""
    number = os.stat(path).st_dev
    queue = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/queue"
    try:
        with open(f"{queue}/write_cache") as cache, open(f"{queue}/fua") as fua:
            return cache.read().strip(), fua.read().strip()
    except FileNotFoundError:
        return "unknown", "unknown"
