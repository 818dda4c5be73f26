"""A broker under test: start it, wait until it says ready, kill it or stop it."""

import json
import os
import signal
import socket
import subprocess
import threading


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment():
    """Metrics on any free port: another broker of this machine may have the usual one."""
    return os.environ | {"HIGHWATER_OPS_LISTEN": "127.0.0.1:0"}


class Broker:
    """One run of `highwater serve`. Log lines are kept; the last ones explain a failed start."""

    LOG_LINES_MAX = 1000

    def __init__(self, binary, data_dir, port, cores=2, sets=(), command=()):
        """`command` runs instead of the binary and is given its arguments."""
        command = [
            *(command or [binary]), "serve", "--data-dir", data_dir, "--listen", f"127.0.0.1:{port}",
            "--cores", str(cores), "--set", "log_format=human",
        ]
        for pair in sets:
            command += ["--set", pair]
        self.port = port
        self.data_dir = data_dir
        self.log = []
        self.lines = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        for line in self.process.stdout:
            self.lines.append(line)
            if "ready" in line:
                return
        self.process.wait()
        self.reader.join()
        raise RuntimeError(
            f"the broker did not start (exit code {self.process.returncode}):\n"
            + "".join(self.log[-20:])
        )

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            del self.log[: -self.LOG_LINES_MAX]

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Stops it cleanly; the exit code must be 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.reader.join()
        assert code == 0, f"clean stop ended with code {code}:\n" + "".join(self.log[-20:])


def verify_log(binary, data_dir):
    """What a killed or stopped broker left is no damage to `highwater log verify`. Its summary."""
    done = subprocess.run(
        [binary, "log", "verify", data_dir, "--json"], capture_output=True, text=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    damages = [finding for finding in told if finding.get("gravity") == "damage"]
    assert done.returncode == 0 and not damages, f"log verify: {damages or done.stderr}"
    return told[-1]
