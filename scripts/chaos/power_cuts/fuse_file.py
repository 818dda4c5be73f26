"""The drive as one file, `disk`, of a FUSE file system of our own: for a loop device of this
machine, or as the image behind a virtual machine's virtio disk.

A write to the file is a write to the drive, fsync is a flush; there is no write-through. The
kernel protocol is spoken on /dev/fuse directly. Owns the mount; everything else is `drive`.
"""

import ctypes
import errno
import os
import select
import stat
import struct

DISK = 2
WRITE_BYTES_MAX = 1 << 20
LOOKUP, FORGET, GETATTR, SETATTR = 1, 2, 3, 4
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 14, 15, 16, 17, 18, 20, 25, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 28, 29, 36, 38, 42
BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 5, 1 << 22, 1
HEAD = struct.Struct("<IIQQIIII")

_libc = ctypes.CDLL(None, use_errno=True)


class FuseFile:
    """Mounted while it exists; `serve` answers."""

    def __init__(self, drive, mount_point):
        self.drive, self.mount_point = drive, mount_point
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other"
        failed = _libc.mount(b"power-cut", str(mount_point).encode(), b"fuse", 0, options.encode())
        if failed:
            raise OSError(ctypes.get_errno(), f"FUSE cannot be mounted at {mount_point}")

    def serve(self, stop):
        """Until `stop` (a pipe) can be read or is closed, or the file system is unmounted."""
        while True:
            timeout = self.drive.finish_due()
            ready = select.select([self.device, stop], [], [], timeout)[0]
            if stop in ready:
                return
            if self.device in ready and not self._take():
                return

    def _take(self):
        """Handles one request; false when there will be no more."""
        try:
            request = os.read(self.device, WRITE_BYTES_MAX + 4096)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                return True
            return False
        _, opcode, unique, node, *_ = HEAD.unpack_from(request)
        if opcode == READ:
            offset, size = struct.unpack_from("<QI", request, HEAD.size + 8)
            self._answer(unique, self.drive.read(offset, size))
        elif opcode == WRITE:
            offset, size = struct.unpack_from("<QI", request, HEAD.size + 8)
            data = request[HEAD.size + 40 : HEAD.size + 40 + size]
            done = struct.pack("<II", size, 0)
            self.drive.write(offset, data, False, lambda: self._answer(unique, done))
        elif opcode == FSYNC:
            self.drive.flush(lambda: self._answer(unique))
        elif opcode not in (FORGET, BATCH_FORGET, INTERRUPT):
            self._other(opcode, unique, node, request)
        return True

    def _other(self, opcode, unique, node, request):
        if opcode == INIT:
            _, _, ahead, flags = struct.unpack_from("<IIII", request, HEAD.size)
            flags &= BIG_WRITES | MAX_PAGES
            pages = WRITE_BYTES_MAX // 4096
            self._answer(unique, struct.pack(
                "<IIIIHHIIHHI28x", 7, 31, ahead, flags, 64, 48, WRITE_BYTES_MAX, 1, pages, 0, 0,
            ))
        elif opcode == LOOKUP and request[HEAD.size :].rstrip(b"\0") == b"disk":
            head = struct.pack("<QQQQII", DISK, 0, 3600, 3600, 0, 0)
            self._answer(unique, head + self._attributes(DISK))
        elif opcode == LOOKUP:
            self._answer(unique, error=errno.ENOENT)
        elif opcode in (GETATTR, SETATTR):
            self._answer(unique, struct.pack("<QII", 3600, 0, 0) + self._attributes(node))
        elif opcode in (OPEN, OPENDIR):
            self._answer(unique, struct.pack("<QII", 1, DIRECT_IO, 0))
        elif opcode == STATFS:
            self._answer(unique, struct.pack("<QQQQQIIII24x", 0, 0, 0, 1, 0, 4096, 255, 4096, 0))
        elif opcode in (RELEASE, RELEASEDIR, FLUSH, READDIR, DESTROY):
            self._answer(unique)
        else:
            self._answer(unique, error=errno.ENOSYS)

    def _attributes(self, node):
        size = self.drive.bytes if node == DISK else 4096
        mode = stat.S_IFREG | 0o600 if node == DISK else stat.S_IFDIR | 0o755
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0,
        )

    def _answer(self, unique, data=b"", error=0):
        try:
            os.write(self.device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)
        except FileNotFoundError:
            pass  # whoever asked was interrupted
