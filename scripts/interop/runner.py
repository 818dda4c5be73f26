"""Runs every client's checks against one broker and reports; started by `run`.

Each client is a program of its own that prints one JSON line per check. Here those lines become
the report, and whatever a client owed but did not report becomes a failure.
"""

import argparse
import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import api_versions
import install
from behaviours import BEHAVIOURS, CLIENTS, LIMITS, NAMES, QUICK, owed_by
from broker import Broker
from checks import LARGE_RECORD_BYTES

# One check of one client. A check waits TIMEOUT_S at most for an answer, a few times in a row;
# the longest of a healthy client, a session that expires, takes some ten seconds.
CHECK_LIMIT_S = 60
# All checks of one client; a healthy one needs about a minute. The matrix as a whole is bounded
# by this times the number of clients, and each is started again after a check that hung.
CLIENT_LIMIT_S = 300


def options():
    parser = argparse.ArgumentParser(
        prog="scripts/interop/run",
        description="Tests a Kafka-protocol broker with clients written by others.",
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--bootstrap", metavar="HOST:PORT", help="a broker that runs already")
    target.add_argument("--start", metavar="HIGHWATER", help="a binary to start and to stop")
    target.add_argument("--install-only", action="store_true", help="install the clients, no test")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="default: %(default)s")
    subset = parser.add_mutually_exclusive_group()
    subset.add_argument("--only", metavar="CHECK,CHECK", help="run these checks alone")
    subset.add_argument("--quick", action="store_true", help="the subset for CI")
    parser.add_argument("--peer", default="highwater", choices=("highwater", "kafka"))
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    chosen = parser.parse_args()
    chosen.clients = chosen.clients.split(",")
    every = QUICK if chosen.quick else NAMES
    chosen.only = chosen.only.split(",") if chosen.only else list(every)
    for name, known in ((chosen.clients, CLIENTS), (chosen.only, NAMES)):
        unknown = sorted(set(name) - set(known))
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return chosen


class Report:
    """Collects results and prints each as it comes, to stderr when stdout is for JSON."""

    def __init__(self, as_json):
        self.results = []
        self.versions = {}
        self.as_json = as_json
        self.out = sys.stderr if as_json else sys.stdout

    def say(self, text=""):
        print(text, file=self.out, flush=True)

    def add(self, client, check, status, ms, note=None):
        self.results.append(
            {"client": client, "check": check, "status": status, "ms": ms, "note": note}
        )
        word = {"ok": "ok   ", "skip": "limit", "fail": "FAIL "}[status]
        line = f"{word}  {client:<12} {check:<20} {ms:>6} ms"
        self.say(f"{line}  {note}" if note else line)

    def count(self, status):
        return sum(result["status"] == status for result in self.results)

    def table(self, clients):
        """Behaviours down, clients across; a dot where that client does not owe it."""
        cell = {(r["client"], r["check"]): r["status"] for r in self.results}
        tested = {check for _, check in cell}
        cell.update({key: "limit" for key in LIMITS if key[1] in tested})
        words = {"ok": "ok", "skip": "limit", "fail": "FAIL", "limit": "limit", None: "."}
        self.say()
        self.say(f"{'':<20} " + " ".join(f"{client:<12}" for client in clients))
        for name, meaning, _ in BEHAVIOURS:
            row = [cell.get((client, name)) for client in clients]
            if any(row):
                cells = " ".join(f"{words[status]:<12}" for status in row)
                self.say(f"{name:<20} {cells} {meaning}")
        for client, reason in sorted({(client, why) for (client, _), why in LIMITS.items()}):
            if client in clients:
                self.say(f"limit: {client}: {reason}")
        for result in self.results:
            if result["status"] == "skip":
                self.say(f"limit: {result['client']}: {result['check']}: {result['note']}")
        self.say()

    def close(self, clients, seconds):
        """Prints the summary; returns the exit code."""
        self.table(clients)
        failed, skipped = self.count("fail"), self.count("skip")
        summary = f"interop: {self.count('ok')} passed, {failed} failed"
        if self.as_json:
            document = {
                "versions": self.versions,
                "checks": self.results,
                "passed": self.count("ok"),
                "failed": failed,
                "skipped": skipped,
                "seconds": round(seconds, 1),
            }
            print(json.dumps(document, indent=1))
        self.say(f"{seconds:.0f} s")
        self.say(summary + (f", {skipped} at a client's limit" if skipped else ""))
        return 1 if failed or not self.count("ok") else 0


def program(client):
    """The command that runs a client's checks, without the arguments all of them take."""
    if client == "java":
        classpath = f"{install.JAVA_CLASSES}:{install.JAVA_LIBRARIES}/*"
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"
        return ["java", "-Xmx256m", quiet, "-cp", classpath, "highwater.interop.Main"]
    if client in ("franz-go", "sarama"):
        return [str(install.CACHE / "go" / client)]
    if client == "rdkafka":
        return [str(install.CACHE / "rdkafka-target" / "release" / "rdkafka")]
    if client == "kafkajs":
        path = f"NODE_PATH={install.NODE_MODULES}"
        return ["env", path, "node", str(install.HERE / "kafkajs" / "main.js")]
    if client == "kcat":
        return [str(install.VENV_PYTHON), str(install.HERE / "kcat.py")]
    python = install.VENV_PYTHON if client == "confluent" else install.PURE_PYTHON_BIN
    return [str(python), str(install.HERE / f"{client.replace('-', '_')}_client.py")]


def versions(clients):
    """The versions that really are installed, by client."""
    found = {}
    if "kcat" in clients:
        text = install.run(["kcat", "-V"])
        found["kcat"] = next(line for line in text.splitlines() if line.startswith("Version"))
        if f"Version {install.KCAT_VERSION} " not in found["kcat"]:
            install.say(f"kcat is not {install.KCAT_VERSION}, for which this suite was written")
    if "confluent" in clients:
        code = "import confluent_kafka as c; print(c.__version__, 'librdkafka', c.libversion()[0])"
        found["confluent"] = install.run([install.VENV_PYTHON, "-c", code]).strip()
    for client in sorted({"kafka-python", "aiokafka"} & set(clients)):
        code = f"import importlib.metadata as m; print(m.version({client!r}))"
        found[client] = install.run([install.PURE_PYTHON_BIN, "-c", code]).strip()
    if "java" in clients:
        (jar,) = install.JAVA_LIBRARIES.glob("kafka-clients-*.jar")
        found["java"] = jar.stem
    modules = {"franz-go": "github.com/twmb/franz-go", "sarama": "github.com/IBM/sarama"}
    for client, module in modules.items():
        if client in clients:
            found[client] = pinned(install.HERE / "go" / "go.mod", module)
    if "rdkafka" in clients:
        found["rdkafka"] = pinned(install.HERE / "rdkafka" / "Cargo.toml", "rdkafka =")
    if "kafkajs" in clients:
        package = json.loads((install.NODE_MODULES / "kafkajs" / "package.json").read_text())
        found["kafkajs"] = f"{package['version']}, node {install.run(['node', '--version']).strip()}"
    return found


def pinned(file, start):
    """The first line of that file that names it so."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return next((line for line in lines if line.startswith(start)), f"not in {file.name}")


class Unfinished(Exception):
    """The client was stopped during a check; the message says why."""


class Hopeless(Exception):
    """No further check can succeed; the message says why."""


def run_client(client, bootstrap, prefix, checks, report):
    """Runs one client; every one of `checks` ends up in the report.

    A check during which the client hangs or ends has failed, and the client is started again for
    those that are left: one bad cell costs no other.
    """
    began = time.monotonic()
    missing = list(checks)
    starts = 0
    try:
        while missing:
            starts += 1
            why = run_once(client, bootstrap, f"{prefix}-{client}-{starts}", missing, began, report)
            if missing:
                report.add(client, missing.pop(0), "fail", 0, why)
                answering(bootstrap)
    except Hopeless as error:
        for check in missing:
            report.add(client, check, "fail", 0, f"not run: {error}")
    report.say(f"{client} took {time.monotonic() - began:.0f} s")


def run_once(client, bootstrap, prefix, missing, began, report):
    """Starts the client for all that is missing, takes off what it reports; returns its end."""
    command = [*program(client), "--bootstrap", bootstrap]
    command += ["--prefix", prefix, "--checks", ",".join(missing)]
    failed_before = report.count("fail")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            env={**os.environ, "LARGE_RECORD_BYTES": str(LARGE_RECORD_BYTES)},
        )
        try:
            for result in results_of(process, began):
                missing.remove(result["check"])
                report.add(**result)
                if result["status"] == "fail":
                    # Without a broker every other check would wait for its time limit.
                    answering(bootstrap)
            why = f"the client ended with exit code {process.wait(CHECK_LIMIT_S)}"
        except (Unfinished, ValueError, subprocess.TimeoutExpired) as error:
            why = str(error)
        finally:
            # The whole session: a kcat that outlives its script would read for ever.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            errors.seek(0)
            tail = errors.read()[-4000:].strip()
            if tail and (missing or report.count("fail") > failed_before):
                report.say(f"what {client} wrote to stderr, at the end:\n{tail}")
        return why


def answering(bootstrap):
    try:
        api_versions.api_versions(bootstrap)
    except (OSError, ValueError) as error:
        raise Hopeless(f"the broker stopped answering: {error}") from None


def results_of(process, began):
    """Yields results as the client prints them; raises when waiting on is no use."""
    lines = queue.Queue()

    def feed():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=feed, daemon=True).start()
    while True:
        left_s = began + CLIENT_LIMIT_S - time.monotonic()
        if left_s <= 0:
            raise Hopeless(f"the client took longer than {CLIENT_LIMIT_S} s")
        try:
            line = lines.get(timeout=min(CHECK_LIMIT_S, left_s))
        except queue.Empty:
            if left_s > CHECK_LIMIT_S:
                raise Unfinished(f"the check took longer than {CHECK_LIMIT_S} s") from None
            continue
        if line is None:
            return
        yield json.loads(line)


def test(bootstrap, chosen, report):
    try:
        served = api_versions.api_versions(bootstrap)
    except (OSError, ValueError) as error:
        report.add("broker", "answer", "fail", 0, f"{bootstrap}: {error}")
        return
    report.say(f"broker at {bootstrap} serves {len(served)} requests")
    prefix = f"interop-{secrets.token_hex(4)}"
    for number, client in enumerate(chosen.clients, 1):
        checks = [name for name in owed_by(client, chosen.peer) if name in chosen.only]
        report.say(f"client {number} of {len(chosen.clients)}: {client}, {len(checks)} checks")
        if checks:
            run_client(client, bootstrap, prefix, checks, report)


def main():
    # A terminated run unwinds like an interrupted one, and so leaves no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = options()
    install.install(chosen.clients)
    report = Report(chosen.json)
    report.versions = versions(chosen.clients)
    for client, version in report.versions.items():
        report.say(f"{client}: {version}")
    if chosen.install_only:
        return 0
    started = time.monotonic()
    if chosen.bootstrap:
        test(chosen.bootstrap, chosen, report)
    else:
        with Broker(Path(chosen.start), report) as broker:
            if broker.start():
                test(broker.bootstrap, chosen, report)
                broker.stop()
    return report.close(chosen.clients, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
