"""Servers under measurement and the loads run against them.

A server runs pinned to one core (unless it is given more), a load pins itself to another.
"""

import json
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections import deque, namedtuple

from .machine import CannotMeasure, free_port, process_ticks, yield_to_others

READY = re.compile(r"\bready\b")
# Where a server and its load run.
Cores = namedtuple("Cores", "server client")
READY_S = 180
STOP_S = 120
COUNTERS_S = 10
LOAD_S = 900
LINES_KEPT = 200
# Metrics on any free port: another broker of this machine may have the usual one. What a measurement
# deletes makes room for the next.
OF_BROKERS = {"HIGHWATER_OPS_LISTEN": "127.0.0.1:0", "HIGHWATER_DELETE_RETENTION_HOURS": "0"}


class Server:
    """A process that serves when it prints a line with `ready`, or when `ready` returns.

    `ready(server)` replaces the wait for that line: it tries what a client would.
    """

    def __init__(self, command, cores, environment=None, ready=None):
        self.command = [str(part) for part in command]
        self.lines = deque(maxlen=LINES_KEPT)
        self.changed = threading.Condition()
        self.ended = False
        self.ready_line = ""
        started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | OF_BROKERS | (environment or {}),
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            if ready is None:
                self.ready_line = self._wait_for(READY.search, READY_S, "be ready")
            else:
                ready(self)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.ready_s = time.monotonic() - started

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _wait_for(self, wanted, timeout_s, what):
        """The first line that is wanted; lines are consumed on the way."""
        end = time.monotonic() + timeout_s
        seen = deque(maxlen=20)
        with self.changed:
            while True:
                while self.lines:
                    line = self.lines.popleft()
                    seen.append(line)
                    if wanted(line):
                        return line
                left = end - time.monotonic()
                if self.ended or left <= 0:
                    reason = "ended" if self.ended else f"took more than {timeout_s} s"
                    output = "\n  ".join(seen)
                    raise CannotMeasure(
                        f"{self.command[0]} {reason} before it could {what}; it said:\n  {output}"
                    )
                self.changed.wait(left)

    def try_until(self, attempt, interval_s, what):
        """Calls `attempt` until it returns without an OSError or ValueError; for `ready`."""
        end = time.monotonic() + READY_S
        while True:
            try:
                return attempt()
            except (OSError, ValueError) as failure:
                reason = f"ended with code {self.process.poll()}"
                if self.process.poll() is None:
                    reason = f"took more than {READY_S} s"
                    if time.monotonic() < end:
                        time.sleep(interval_s)
                        continue
                with self.changed:
                    output = "\n  ".join(list(self.lines)[-20:])
                raise CannotMeasure(
                    f"{self.command[0]} {reason} before it could {what} ({failure}); it said:"
                    f"\n  {output}"
                ) from None

    def cpu_ticks(self):
        """CPU time this process has used, in clock ticks."""
        return process_ticks(self.process.pid)

    def resident_bytes(self):
        """Resident memory, from /proc."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise CannotMeasure("no VmRSS in /proc; is this Linux?")

    def stop(self):
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise CannotMeasure(f"{self.command[0]} did not stop within {STOP_S} s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class FloorServer(Server):
    """A yardstick; the port is in its ready line."""

    def __init__(self, floor, core, subcommand, *arguments):
        listen = ["--listen", "127.0.0.1:0", "--core", core]
        super().__init__([floor, subcommand, *listen, *arguments], {core})
        self.address = self.ready_line.split()[-1]


class OrderlyServer(Server):
    """A server that has to end in good order, which its exit code tells."""

    NAME = "the broker"
    CODES = (0,)

    def stop(self):
        code = super().stop()
        if code not in self.CODES:
            raise CannotMeasure(f"{self.NAME} ended with code {code} after SIGTERM")
        return code

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            # Already failing: end it without hiding the first error.
            self.process.kill()
            self.process.wait()


class Broker(OrderlyServer):
    """The broker, reached by its documented command line only."""

    def __init__(self, binary, data_dir, first_core, cores, settings, ready=None):
        self.address = f"127.0.0.1:{free_port()}"
        command = [binary, "serve", "--data-dir", data_dir, "--listen", self.address]
        command += ["--cores", cores, "--set", f"first_core={first_core}"]
        for setting in settings:
            command += ["--set", setting]
        super().__init__(command, set(range(first_core, first_core + cores)), ready=ready)

    def told(self):
        """What the broker tells about itself when asked by SIGUSR1."""
        self.process.send_signal(signal.SIGUSR1)
        line = self._wait_for(
            lambda line: '"event":"counters"' in line.replace(" ", ""),
            COUNTERS_S,
            "print its counters",
        )
        return json.loads(line[line.index("{") :])

    def counters(self):
        """The per-core counters."""
        return self.told()["cores"]

    def memory_budget_bytes(self):
        """The memory the broker says it stays within."""
        return self.told()["memory_budget_bytes"]


class Load:
    """A load running on the client's core; `result` waits for its figures.

    One that `yields` is of the scheduling class SCHED_IDLE: it runs while nothing else wants to.
    """

    def __init__(self, floor, core, subcommand, protocol, address, *arguments, yields=False):
        command = [floor, subcommand, "--protocol", protocol, "--connect", address]
        command += ["--core", core, *arguments]
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=yield_to_others if yields else None,
        )

    def cpu_ticks(self):
        """CPU time this process has used, in clock ticks."""
        return process_ticks(self.process.pid)

    def result(self):
        """The figures the load printed."""
        return finish(self.process, self.command)


class Holder:
    """A command that holds something open until the end of the `with`, which is that of its input.

    Its first line, one JSON object, says that all is open; `figures` has it.
    """

    def __init__(self, command):
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise CannotMeasure(f"{' '.join(self.command)}: {errors.strip()}")
        self.figures = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()


def ended_ticks():
    """CPU time of all our children that have ended, in clock ticks."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((usage.ru_utime + usage.ru_stime) * os.sysconf("SC_CLK_TCK"))


def finish(process, command):
    """Waits for a command that prints one JSON object."""
    try:
        output, errors = process.communicate(timeout=LOAD_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise CannotMeasure(f"took more than {LOAD_S} s: {' '.join(command)}") from None
    if process.returncode != 0:
        raise CannotMeasure(f"{' '.join(command)}: {errors.strip()}")
    return json.loads(output) if output.strip() else {}


def run_tool(floor, subcommand, *arguments):
    """Runs a subcommand that is no server and gives the JSON object it printed."""
    command = [str(part) for part in (floor, subcommand, *arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return finish(process, command)
