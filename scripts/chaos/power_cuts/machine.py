"""One run of the virtual machine: its drive's process, qemu, and what its console tells.

The machine ends by being killed; nothing in it is stopped cleanly.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import time

from broker_process import free_port
from power_cuts import drive, fuse_file, guest, nvme_tcp
from power_cuts.replay import copy_sparse

BOOT_SECONDS_MAX = 240


class DriveProcess:
    """The drive, in a process of its own: as NVMe over TCP, or as a file."""

    def __init__(self, directory, base, seed):
        """`base` is the disk as it starts, a file that is only read."""
        self.directory = directory
        self.image, self.log = directory / "contents", directory / "events"
        copy_sparse(base, self.image)
        self.counter = drive.new_counter()
        self.seed = seed
        self.mount_point = None
        self.stop_read, self.stop_write = os.pipe()

    def start_nvme(self):
        """Listens; the port."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._start(lambda one: nvme_tcp.Controller(one, listener))
        return listener.getsockname()[1]

    def start_file(self):
        """Mounts; the path of the file that is the drive."""
        self.mount_point = self.directory / "drive"
        self.mount_point.mkdir(exist_ok=True)
        self._start(lambda one: fuse_file.FuseFile(one, self.mount_point))
        while not os.path.ismount(self.mount_point):
            assert self.process.is_alive(), "the drive's file system could not be mounted"
            time.sleep(0.01)
        return self.mount_point / "disk"

    def _start(self, front):
        def run():
            os.close(self.stop_write)
            one = drive.Drive(self.image, self.log, self.counter, self.seed)
            front(one).serve(self.stop_read)
            one.close()

        self.process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
        self.process.start()

    def position(self):
        """How many events are logged by now."""
        return self.counter.value

    def stop(self):
        if self.mount_point is not None:
            subprocess.run(["umount", "-l", self.mount_point], check=False)
        os.close(self.stop_write)
        self.process.join(10)
        os.close(self.stop_read)
        self.image.unlink()


class BootError(RuntimeError):
    """The machine did not come up."""


class Machine:
    """Boots on construction; `wait_ready` returns when the broker serves."""

    def __init__(self, directory, kernel, binary, setup, drive_process, settings):
        self.console_path = directory / "console"
        self.broker_port = free_port()
        disk, drive_port = [], 0
        if setup.disk == "nvme":
            drive_port = drive_process.start_nvme()
        else:
            path = drive_process.start_file()
            disk = ["-drive", f"file={path},format=raw,if=virtio,cache=writeback,discard=ignore"]
        archive = directory / "initrd"
        archive.write_bytes(guest.initial_file_system(
            kernel, binary, setup, drive_port, nvme_tcp.NAME, settings
        ))
        network = f"user,id=net,hostfwd=tcp:127.0.0.1:{self.broker_port}-10.0.2.15:9092"
        accelerator = "kvm" if setup.kvm else "tcg,thread=multi"
        command = [
            "qemu-system-x86_64", "-accel", accelerator, "-cpu", "max", "-smp", str(setup.cores),
            "-m", "1024", "-display", "none", "-no-reboot", "-nodefaults",
            "-serial", f"file:{self.console_path}",
            "-kernel", kernel.image, "-initrd", archive,
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check",
            "-netdev", network, "-device", "virtio-net-pci,netdev=net", *disk,
        ]
        self.errors = open(directory / "qemu-errors", "w+")
        self.process = subprocess.Popen(command, stdout=self.errors, stderr=self.errors)

    def console(self):
        try:
            return self.console_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_ready(self):
        """Facts by name, when the broker says that it is ready."""
        deadline = time.monotonic() + BOOT_SECONDS_MAX
        while "highwater: ready on" not in (told := self.console()):
            if self.process.poll() is not None or time.monotonic() > deadline or "FAILED" in told:
                self.errors.seek(0)
                tail = "\n".join(told.splitlines()[-30:])
                raise BootError(f"the machine did not come up:\n{tail}\n{self.errors.read()}")
            time.sleep(0.1)
        facts = {}
        for line in told.splitlines():
            if line.startswith("FACT "):
                name, _, value = line.removeprefix("FACT ").strip().partition("=")
                facts[name] = value
        checks = json.loads(facts.pop("doctor"))["checks"]
        facts["doctor"] = {check["check"]: check["found"] for check in checks}
        return facts

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()
