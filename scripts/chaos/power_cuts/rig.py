"""One run: a broker on a drive that remembers, a load, and power cuts at random moments of it.

Set-ups by name: `nvme` and `virtio` are virtual machines, `+lvm` and `+luks` stack a device on
them, `loop` is the light form, a loop device of this machine; `/xfs` and the like name the file
system. The order is: the load runs, everything is killed, then one disk after the other is made
from the log, mounted here and read.
"""

import dataclasses
import pickle
import random
import shutil
import tempfile
import time
from pathlib import Path

from power_cuts import check, disks, kernel
from power_cuts.load import Load, identity
from power_cuts.machine import BootError, DriveProcess, Machine
from power_cuts.replay import Replay, copy_sparse, places

DISK_BYTES = 512 << 20
SENTENCES_MAX = 12


@dataclasses.dataclass(frozen=True)
class Setup:
    disk: str  # nvme, virtio, loop
    stack: str | None
    filesystem: str
    cores: int = 2
    kvm: bool = False

    @staticmethod
    def named(name, kvm=False):
        place, _, filesystem = name.partition("/")
        disk, _, stack = place.partition("+")
        filesystem = filesystem or "ext4"
        if disk not in ("nvme", "virtio", "loop") or stack not in ("", "lvm", "luks"):
            raise ValueError(f"{name} is no set-up; nvme, virtio+lvm or loop/xfs are")
        if filesystem not in disks.MAKE or (disk == "loop" and stack):
            raise ValueError(f"{name} is no set-up: loop has no stack, file systems are "
                             + ", ".join(disks.MAKE))
        return Setup(disk, stack or None, filesystem, kvm=kvm)

    def name(self):
        stack = f"+{self.stack}" if self.stack else ""
        filesystem = "" if self.filesystem == "ext4" else f"/{self.filesystem}"
        return self.disk + stack + filesystem


@dataclasses.dataclass
class Recording:
    """What a load left: the log of the drive and what was acknowledged when."""

    log: Path
    base: Path
    begin: int
    end: int
    partitions: list
    facts: dict

    def records(self):
        """Acknowledged in all."""
        return sum(partition.acknowledged_records() for partition in self.partitions)


class Run:
    """A set-up under one seed, in a directory of its own."""

    def __init__(self, system, setup, seed, seconds, say, beside=None, directory=None):
        """`beside`, given the mounted directory, is something that goes on during the load (loop
        only), as a context. `directory` has a recording of before."""
        self.system, self.setup, self.seed, self.seconds = system, setup, seed, seconds
        self.say, self.beside = say, beside
        self.directory = Path(directory or tempfile.mkdtemp(
            prefix="highwater-power-cut-", dir=work_directory()
        ))
        self.mount_point = self.directory / "mount"
        self.mount_point.mkdir(exist_ok=True)
        self.failures = []

    def recorded(self):
        """The recording of before."""
        return pickle.loads((self.directory / "recording").read_bytes())

    def record(self):
        base = self.directory / "base"
        with open(base, "wb") as image:
            image.truncate(DISK_BYTES)
        if self.setup.disk == "loop":
            disks.make(base, self.setup.filesystem)
        try:
            return self._record_once(base)
        except BootError as error:
            # Emulated on a busy machine, a kernel's timers may fail it.
            self.say(f"  {error}\n  once more")
            return self._record_once(base)
        except BaseException:
            self.close()
            raise

    def _record_once(self, base):
        drive = DriveProcess(self.directory, base, self.seed)
        try:
            if self.setup.disk == "loop":
                return self._record_loop(drive, base)
            return self._record_machine(drive, base)
        finally:
            drive.stop()

    def _record_machine(self, drive, base):
        machine = Machine(
            self.directory, kernel.fetch(self.say), self.system.binary, self.setup, drive,
            self.system.settings(),
        )
        try:
            facts = machine.wait_ready()
            return self._load(machine.broker_port, drive, base, facts)
        except (AssertionError, OSError) as error:
            tail = "\n".join(machine.console().splitlines()[-20:])
            raise RuntimeError(f"{error}\nthe machine's console ends with:\n{tail}") from error
        finally:
            machine.kill()

    def _record_loop(self, drive, base):
        with disks.loop_device(drive.start_file()) as device:
            with disks.mounted(device, self.setup.filesystem, self.mount_point) as directory:
                cache, fua = disks.block_queue(directory)
                facts = {"write_cache": cache, "fua": fua, **self.system.facts(directory)}
                broker = self.system.start(directory)
                try:
                    return self._load(broker.port, drive, base, facts)
                finally:
                    broker.kill()

    def _load(self, port, drive, base, facts):
        load = Load(port, drive.position, self.seed)
        load.create_topic()
        begin = drive.position()
        if self.beside is None:
            load.run(self.seconds)
        else:
            with self.beside(self.mount_point):
                load.run(self.seconds)
        # Until here only: what the kernel writes back at the end is no part of it.
        end = drive.position()
        load.close()
        recording = Recording(drive.log, base, begin, end, load.partitions, facts)
        (self.directory / "recording").write_bytes(pickle.dumps(recording))
        return recording

    def cut(self, recording, cuts):
        """Cuts the power so many times; what came of it, in sum."""
        rng = random.Random(f"cuts {self.seed}")
        moments = places(recording.log, recording.begin, recording.end, cuts, rng)
        by_identity = {
            identity(batch.bytes): (partition, batch)
            for partition in recording.partitions
            for batch in partition.batches
        }
        moving = self.directory / "moving"
        copy_sparse(recording.base, moving)
        replay = Replay(recording.log, moving)
        total, told = check.Outcome(), time.monotonic()
        for done, place in enumerate(moments, 1):
            replay.advance(place)
            image = self.directory / "cut"
            replay.cut(image, rng)
            total.add(self._examine(image, recording, by_identity, place))
            image.unlink()
            if time.monotonic() - told > 10 or done == cuts:
                told = time.monotonic()
                self.say(f"  {done} of {cuts} cuts, {total.lost} records lost")
        replay.close()
        return total

    def _examine(self, image, recording, by_identity, place):
        """One crash image, mounted, started on, read."""
        started = [one for one in recording.partitions
                   if one.acknowledged and one.acknowledged[0][0] <= place]
        try:
            with disks.crash_image(self.setup, image, self.mount_point) as directory:
                damages, ledgers = self.system.examine(directory)
                broker = self.system.start(directory)
                try:
                    outcome, told = check.check(
                        broker.port, started, by_identity, place, self.system.resumes
                    )
                finally:
                    broker.kill()
        except (RuntimeError, OSError, AssertionError) as error:
            outcome, told = check.Outcome(cuts=1, refused=1), [str(error)]
            damages, ledgers = [], []
        outcome.damages += len(damages)
        outcome.ledgers += bool(ledgers)
        for sentence in [*told, *damages]:
            if len(self.failures) < SENTENCES_MAX:
                self.failures.append(f"cut at {place}: {sentence}")
        return outcome

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)


def work_directory():
    """Memory where there is enough of it: every cut copies and mounts a disk."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > 4 * DISK_BYTES:
        return shared
    return Path(tempfile.gettempdir())
