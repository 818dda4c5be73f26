"""Runs every suite's steps against Apache Kafka and against Highwater; started by `kafka-tools`.

Both sides do a step at the same time, then what they printed is compared; `compare.py` says how.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import broker
import either_broker
import install
import own_lag
import steps_configs
import steps_console
import steps_data
import steps_groups
import steps_perf
import steps_topics
from compare import compare, listing
from side import Side
from step import File, Mark, Start, Step

SUITES = (
    *steps_topics.SUITES,
    *steps_console.SUITES,
    *steps_groups.SUITES,
    *steps_configs.SUITES,
    *steps_data.SUITES,
    *steps_perf.SUITES,
)
# Apache Kafka's controller answers before its broker has applied a change.
SETTLE_S = 0.2
# As Apache Kafka is configured by `apache-kafka`.
HIGHWATER_OPTIONS = ("--node-id", "1", "--set", "group_initial_rebalance_delay_ms=0")


def options():
    parser = argparse.ArgumentParser(
        prog="scripts/interop/kafka-tools",
        description="Kafka's own command-line tools against Highwater and against Apache Kafka.",
    )
    parser.add_argument("--start", metavar="HIGHWATER", required=True, help="the binary to run")
    names = [suite.name for suite in SUITES]
    parser.add_argument("--only", metavar="TOOL,TOOL", help=f"of: {', '.join(names)}")
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", help="an Apache Kafka that runs already and is empty"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--show", action="store_true", help="also what is printed the same")
    chosen = parser.parse_args()
    chosen.only = chosen.only.split(",") if chosen.only else names
    unknown = sorted(set(chosen.only) - set(names))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}")
    return chosen


class Report:
    """Collects what the steps gave and prints it as it comes; also what the broker's start says."""

    def __init__(self, as_json):
        self.as_json = as_json
        self.out = sys.stderr if as_json else sys.stdout
        self.rows = []

    def say(self, text=""):
        print(text, file=self.out, flush=True)

    def step(self, suite, step, status, note, diff):
        self.rows.append(
            {"tool": suite, "step": step, "status": status, "note": note, "diff": diff}
        )
        line = f"{status:<10} {suite:<20} {step}"
        self.say(f"{line}: {note}" if note else line)
        # By design, what differs is known: the document has it.
        for row in diff if status != "by design" else ():
            self.say(f"    {row}")

    def add(self, client, check, status, ms, note=None):
        """What `broker.Broker` says of its start and its stop."""
        if status != "ok":
            self.step(client, check, "differs", note or f"{ms} ms", [])

    def count(self, status):
        return sum(row["status"] == status for row in self.rows)

    def close(self, seconds):
        """Prints the table and the summary; returns the exit code."""
        statuses = ("same", "by design", "differs", "broken")
        self.say()
        self.say(f"{'':<20} " + " ".join(f"{status:>9}" for status in statuses))
        for name in dict.fromkeys(row["tool"] for row in self.rows):
            rows = [row["status"] for row in self.rows if row["tool"] == name]
            self.say(f"{name:<20} " + " ".join(f"{rows.count(s):>9}" for s in statuses))
        counts = {status: self.count(status) for status in statuses}
        if self.as_json:
            print(
                json.dumps({"steps": self.rows, **counts, "seconds": round(seconds, 1)}, indent=1)
            )
        self.say(f"{seconds:.0f} s")
        self.say("kafka-tools: " + ", ".join(f"{n} {status}" for status, n in counts.items()))
        return 1 if counts["differs"] or counts["broken"] or not counts["same"] else 0


def apache_kafka(chosen):
    """Its address, for a `with`: the one that was named, or one that is started and stopped."""
    if chosen.kafka:
        return contextlib.nullcontext(chosen.kafka)
    return either_broker.kafka(", --kafka names it")


def judge_own_lag(suite, step, result, highwater, report):
    """Where a tool printed a group's lag, our own command has to print the same."""
    diff = own_lag.differences(highwater.binary, highwater.bootstrap, result.out)
    if diff is not None:
        report.step(suite.name, f"{step.name}, our own command",
                    "differs" if diff else "same", None, diff)


def run_suite(suite, sides, highwater, report, show):
    with ThreadPoolExecutor(len(sides)) as pool:
        for step in suite.steps:
            results = list(pool.map(lambda side, step=step: side.do(step), sides))
            if isinstance(step, Step) and step.changes():
                time.sleep(SETTLE_S)
            if isinstance(step, (Mark, File)):
                continue
            if isinstance(step, Start):
                failed = [result for result in results if result.code != 0 or result.err]
                if failed:
                    report.step(suite.name, step.name, "broken", failed[0].err, [])
                continue
            if isinstance(step, Step) and step.silent:
                for result, side in zip(results, sides):
                    if result.code != step.code:
                        note = f"exit code {result.code} with {side.name}: {result.err}"
                        report.step(suite.name, step.name, "broken", note, [])
                continue
            status, note, diff = compare(results, sides, step)
            report.step(suite.name, step.name, status, note, diff)
            if show and status == "same":
                for line in listing(results[0], sides[0], step):
                    report.say(f"    {line}")
            judge_own_lag(suite, step, results[1], highwater, report)


def run(chosen, kafka, directory, report):
    with broker.Broker(Path(chosen.start), report, HIGHWATER_OPTIONS) as highwater:
        if not highwater.start():
            return
        with (
            Side("kafka", kafka, directory / "kafka") as first,
            Side("highwater", highwater.bootstrap, directory / "highwater") as second,
        ):
            for suite in SUITES:
                if suite.name in chosen.only:
                    run_suite(suite, (first, second), highwater, report, chosen.show)
        highwater.stop()


def main():
    # A terminated run unwinds like an interrupted one, and so leaves no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = options()
    install.install(["tools"])
    report = Report(chosen.json)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="highwater-tools-") as directory:
        with apache_kafka(chosen) as kafka:
            run(chosen, kafka, Path(directory), report)
    return report.close(time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
