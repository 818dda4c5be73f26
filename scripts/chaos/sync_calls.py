"""What a broker syncs, from its first system call to its last, as strace sees it.

Three rules, for every thread by itself. Who writes to a file by a call syncs that file before it is
renamed and before the thread goes on to another one. Who makes, renames or removes a name syncs the
directory it is in. Who makes a segment syncs it. What goes through the ring is no system call and is
not seen here: the tests of `net/reactor` look at its effect.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from broker_process import Broker, free_port

TRACED = (
    "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,"
    "fsync,fdatasync,write,writev,pwrite64,pwritev,pwritev2"
)
LINE = re.compile(r"^(?P<name>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"^\d+<(?P<path>[^>]*)>")
WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2"}
SYNCS = {"fsync", "fdatasync"}
NAMES = {
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat",
    "rmdir",
}
# Nothing rests on these.
FREE_NAMES = re.compile(r"/(lock|\.direct-io-probe-\d+)$")
TRACER_ENDS_SECONDS_MAX = 30


def calls_of(path):
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = LINE.match(line)
        if match and int(match["result"]) >= 0:
            yield match["name"], match["rest"]


class Debts:
    """What one thread has still to sync."""

    def __init__(self, root):
        self.root = root
        self.files = set()
        self.directories = {}
        self.wrong = []
        self.counted = {"files synced": 0, "directories synced": 0, "segments made": 0}
        self.durable_segments = set()

    def ours(self, path):
        return path.startswith(self.root + "/") and not FREE_NAMES.search(path)

    def owes_directory(self, path, why):
        if self.ours(path):
            self.directories[os.path.dirname(path)] = why

    def see(self, name, rest):
        names = QUOTED.findall(rest)
        if name in ("openat", "open", "creat"):
            self.see_open(names[0] if names else "", rest)
        elif name in NAMES:
            if name.startswith("rename") and names and names[0] in self.files:
                self.wrong.append(f"{names[0]} is renamed and was not synced")
            for path in names:
                self.owes_directory(path, f"{name} of {path}")
        else:
            match = DESCRIPTOR.match(rest)
            path = match["path"] if match else ""
            if name in WRITES and self.ours(path):
                for other in self.files - {path}:
                    self.wrong.append(f"{other} was not synced before {path} was written")
                self.files = {path}
            elif name in SYNCS:
                self.see_sync(path)

    def see_open(self, path, rest):
        if not self.ours(path):
            return
        if "O_CREAT" in rest:
            self.owes_directory(path, f"{path} was made")
            if path.endswith(".log"):
                self.counted["segments made"] += 1
                self.files.add(path)
        if "O_DSYNC" in rest and path.endswith(".log"):
            self.durable_segments.add(path)

    def see_sync(self, path):
        if path in self.files:
            self.files.discard(path)
            self.counted["files synced"] += 1
        if path in self.directories:
            del self.directories[path]
            self.counted["directories synced"] += 1

    def at_the_end(self):
        self.wrong += [f"{path} was never synced" for path in sorted(self.files)]
        for path, why in self.directories.items():
            # A directory that is gone went with what was in it.
            if os.path.isdir(path):
                self.wrong.append(f"{path} was not synced: {why}")
        return self.wrong


def wait_for_tracer(output, pid):
    """The tracer writes on for a moment when the traced process has ended."""
    deadline = time.monotonic() + TRACER_ENDS_SECONDS_MAX
    main_thread = Path(output) / f"t.{pid}"
    while "+++" not in main_thread.read_text(encoding="utf-8", errors="replace")[-200:]:
        assert time.monotonic() < deadline, "strace does not write the end of the trace"
        time.sleep(0.05)


def check(binary, work):
    """Runs `work(broker)` with a broker that is traced from start to stop, and holds its calls to
    the rules."""
    if not shutil.which("strace"):
        sys.exit("strace is missing: apt-get install strace")
    data_dir = tempfile.mkdtemp(prefix="highwater-sync-calls-", dir=".")
    try:
        with tempfile.TemporaryDirectory() as output:
            command = [
                "strace", "-D", "-ff", "-y", "-s", "4096", "-e", f"trace={TRACED}",
                "-o", f"{output}/t", os.path.abspath(binary),
            ]
            broker = Broker(binary, data_dir, free_port(), command=command)
            work(broker)
            broker.stop()
            wait_for_tracer(output, broker.process.pid)
            judge(sorted(Path(output).iterdir()), os.path.realpath(data_dir))
    finally:
        shutil.rmtree(data_dir, ignore_errors=True)


def judge(traces, root):
    wrong, totals, durable = [], {}, set()
    for trace in traces:
        debts = Debts(root)
        for name, rest in calls_of(trace):
            debts.see(name, rest)
        wrong += debts.at_the_end()
        durable |= debts.durable_segments
        for what, count in debts.counted.items():
            totals[what] = totals.get(what, 0) + count
    assert not wrong, "not synced:\n  " + "\n  ".join(wrong[:10])
    assert all(totals.values()), f"the trace shows too little: {totals}"
    assert durable, "no segment was opened with O_DSYNC"
    seen = ", ".join(f"{count} {what}" for what, count in totals.items())
    print(f"  syncs: {seen}; {len(durable)} segments opened with O_DSYNC")
