"""Starts the broker under test with a fresh data directory, and stops it as an operator does.

Both are checks of their own: it must say `ready` in time, and end with exit code 0 on SIGTERM.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

START_LIMIT_S = 30
STOP_LIMIT_S = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A context manager: whatever happens inside, no process is left behind."""

    def __init__(self, binary, report, more=()):
        self.more = more
        self.binary = binary.resolve()
        self.report = report
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self.directory = Path(tempfile.mkdtemp(prefix="highwater-interop-"))
        self.log = self.directory / "broker.log"
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        """Starts it and waits for a line with `ready`; returns whether that came."""
        began = time.monotonic()
        ready = threading.Event()
        ended = threading.Event()
        words = ["serve", "--data-dir", self.directory / "data", "--listen", self.bootstrap]
        # A new group waits this long for more members. Dozens of groups one after the other
        # would spend most of a run there; `apache-kafka` leaves it out in the same way.
        words += ["--set", "group_initial_rebalance_delay_ms=0"]
        try:
            self.process = subprocess.Popen(
                [str(word) for word in (self.binary, *words, "--cores", 2, *self.more)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # Metrics on any free port: another broker of this machine may have the usual one.
                env=os.environ | {"HIGHWATER_OPS_LISTEN": "127.0.0.1:0"},
            )
        except OSError as error:
            self.report.add("broker", "start", "fail", 0, str(error))
            return False

        def copy():
            with self.log.open("w") as log:
                for line in self.process.stdout:
                    log.write(line)
                    log.flush()
                    if "ready" in line:
                        ready.set()
            ended.set()
            ready.set()

        threading.Thread(target=copy, daemon=True).start()
        ready.wait(START_LIMIT_S)
        if ready.is_set() and not ended.is_set():
            self.report.add("broker", "start", "ok", elapsed_ms(began))
            return True
        why = "ended at once" if ended.is_set() else f"not ready within {START_LIMIT_S} s"
        self.report.add("broker", "start", "fail", elapsed_ms(began), why)
        self.show_log()
        return False

    def stop(self):
        """SIGTERM; anything but exit code 0 in time is a failure."""
        began = time.monotonic()
        if self.process.poll() is not None:
            why = f"was gone before, exit code {self.process.returncode}"
        else:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(STOP_LIMIT_S)
                why = None if code == 0 else f"exit code {code} on SIGTERM, expected 0"
            except subprocess.TimeoutExpired:
                why = f"still running {STOP_LIMIT_S} s after SIGTERM"
        self.report.add("broker", "stop", "fail" if why else "ok", elapsed_ms(began), why)
        if self.report.count("fail"):
            self.show_log()

    def show_log(self):
        tail = self.log.read_text()[-4000:].strip() if self.log.exists() else ""
        self.report.say(f"what the broker wrote, at the end:\n{tail or '(nothing)'}")


def elapsed_ms(began):
    return round((time.monotonic() - began) * 1000)
