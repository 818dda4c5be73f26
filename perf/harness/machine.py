"""What the machine is doing: builds, free cores and ports, noise, the page cache."""

import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Above this share of busy CPU time by others a figure says little.
QUIET_BUSY_MAX = 0.10
SAMPLE_S = 0.25
# How often a measurement is made in the hope of a quiet moment.
ATTEMPTS = 4


class CannotMeasure(Exception):
    """Something that a measurement needs is not there; the message says what."""


def say(text):
    """Progress, on standard error: standard output belongs to the result."""
    print(text, file=sys.stderr, flush=True)


def target_dir():
    """Cargo's target directory."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")


def build():
    """Builds both release binaries."""
    command = ["cargo", "build", "--release", "-p", "highwater-floor", "-p", "highwater-broker"]
    say("building: " + " ".join(command))
    result = subprocess.run(command, cwd=REPOSITORY, stdout=sys.stderr, check=False)
    if result.returncode != 0:
        raise CannotMeasure("the build failed; its errors are above")


def check_cores():
    """The server runs on core 0, the client on core 1; both must be ours to use."""
    allowed = os.sched_getaffinity(0)
    if not {0, 1} <= allowed:
        raise CannotMeasure(f"cores 0 and 1 are needed; this process may use {sorted(allowed)}")


def interrupt_core(directory):
    """The core that handles nine tenths of the interrupts of a directory's disk, or None."""
    device = os.stat(directory).st_dev
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    lists = [parent / "msi_irqs" for parent in node.parents if (parent / "msi_irqs").is_dir()]
    if not lists:
        return None
    numbers = {f"{entry.name}:" for entry in lists[0].iterdir()}
    header, *rows = Path("/proc/interrupts").read_text().splitlines()
    counts = [0] * len(header.split())
    for row in rows:
        number, *words = row.split()
        if number in numbers:
            counts = [count + int(word) for count, word in zip(counts, words)]
    most = max(counts)
    return counts.index(most) if most > 0 and most >= 0.9 * sum(counts) else None


def check_descriptors(wanted):
    """Raises the limit of open files as far as `wanted`, or says that it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CannotMeasure(
            f"the limit of open files is {hard}; {wanted} are needed: raise it (ulimit -Hn), or ask "
            "for fewer connections"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_port():
    """A TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_times():
    """Busy and total clock ticks of all cores since boot.

    Waiting for I/O counts as idle, and so does interrupt work: it serves the sockets and the disk
    under measurement and is charged to no process.
    """
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    user, nice, system, _idle, _io_wait, _interrupts, _soft_interrupts, stolen = fields
    return user + nice + system + stolen, sum(fields)


def busy_share():
    """Share of CPU time that others use right now."""
    busy_before, total_before = cpu_times()
    time.sleep(SAMPLE_S)
    busy_after, total_after = cpu_times()
    return (busy_after - busy_before) / max(1, total_after - total_before)


def yield_to_others():
    """From here on this thread runs only while nothing else wants its core.

    A low priority would not do: the scheduler lets a running thread finish its slice of up to three
    milliseconds, unless the thread is of the class SCHED_IDLE.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def process_ticks(process_id):
    """CPU time a running process has used, in clock ticks."""
    with open(f"/proc/{process_id}/stat", encoding="ascii") as stat:
        # The name, in parentheses, may hold spaces; user and system time are fields 14, 15.
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Noise:
    """Keeps others' work out of the figures.

    Waits for a quiet machine before a measurement, and measures again when others worked during
    it. What they used is all busy time less that of the server and the load themselves.
    """

    def __init__(self, patience_s):
        self.patience_s = patience_s
        self.kept_shares = []
        self.repeated = 0

    def settle(self):
        """Waits until others leave the CPU alone, at most the given patience."""
        end = time.monotonic() + self.patience_s
        while busy_share() > QUIET_BUSY_MAX and time.monotonic() < end:
            pass

    def steady(self, own_ticks, run):
        """The result of `run` from the quietest of up to `ATTEMPTS` attempts.

        `own_ticks` gives the CPU time of the processes under measurement so far.
        """
        attempts = []
        for _ in range(ATTEMPTS):
            self.settle()
            attempts.append(self.watched(own_ticks, run))
            if attempts[-1][0] <= QUIET_BUSY_MAX:
                break
        self.repeated += len(attempts) - 1
        share, result = min(attempts, key=lambda attempt: attempt[0])
        self.kept_shares.append(share)
        return result

    def once(self, own_ticks, run):
        """The result of `run`, made once: for figures that are only worth something as a pair."""
        share, result = self.watched(own_ticks, run)
        self.kept_shares.append(share)
        return result

    @staticmethod
    def watched(own_ticks, run):
        """The share of the CPU that others used while `run` ran, and its result."""
        own_before, (busy_before, total_before) = own_ticks(), cpu_times()
        result = run()
        own_after, (busy_after, total_after) = own_ticks(), cpu_times()
        others = (busy_after - busy_before) - (own_after - own_before)
        return max(0, others) / max(1, total_after - total_before), result

    def describe(self):
        """One sentence for the report."""
        loud = [share for share in self.kept_shares if share > QUIET_BUSY_MAX]
        text = f"{len(self.kept_shares)} measurements, {self.repeated} repeated for noise"
        if not loud:
            return f"{text}; others used at most {QUIET_BUSY_MAX:.0%} of the CPU during each"
        return (
            f"{text}; still, others used more than {QUIET_BUSY_MAX:.0%} of the CPU during "
            f"{len(loud)} of them (up to {max(loud):.0%}): measure again on a quiet machine"
        )


def drop_page_cache(path):
    """Drops the cached pages of a file or of all files below a directory."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
