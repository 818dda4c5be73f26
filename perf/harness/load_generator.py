"""`highwater bench`, the load generator both brokers are measured with, and what it reports."""

import subprocess

from .machine import CannotMeasure
from .peers_rows import held
from .processes import finish

PRODUCE = "produce"
END_TO_END = "end to end"
FETCH = "fetch"


class LoadGenerator:
    """Runs `highwater bench` on the client's core; collects its warnings."""

    def __init__(self, binary, core):
        self.binary = binary
        self.core = core
        # What it warned of, and during what.
        self.warnings = []

    def run(self, kind, address, topic, *arguments, seconds, what):
        """The report of one run, as it printed it."""
        command = [self.binary, "bench", kind, "--bootstrap-server", address, "--topic", topic]
        command += ["--seconds", seconds, "--threads", 1, "--first-core", self.core, "--json", "--quiet"]
        command = [str(part) for part in (*command, *arguments)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        report = finish(process, command)
        for warning in report.get("warnings", []):
            self.warnings.append((what, warning["kind"], warning["text"]))
        return report


def produce_arguments(record_bytes, connections, pace, warm_up_s):
    """Flags of a load of random records with acks=all; `pace` is a rate, a closed loop, a ladder."""
    return [
        "--record-bytes", record_bytes, "--payload", "random", "--acks", "all", *pace,
        "--connections", connections, "--warm-up-seconds", warm_up_s,
    ]


def series_of(report, name):
    """A series of the only run; refuses what was not wholly measured."""
    if len(report["runs"]) != 1:
        raise CannotMeasure(f"the bench reports {len(report['runs'])} runs; expected is one")
    return checked(report["runs"][0], name)


def checked(run, name):
    """A run's series of that name, if it has samples and no errors."""
    for series in run["series"]:
        if series["name"] != name:
            continue
        if series["errors"] > 0:
            raise CannotMeasure(f"{series['errors']} requests of {run['label']} ({name}) failed: "
                                f"{series.get('error_examples')}")
        if series["records"] == 0:
            raise CannotMeasure(f"{run['label']} ({name}) counted no record")
        return series
    names = ", ".join(series["name"] for series in run["series"])
    raise CannotMeasure(f"the bench reports no series {name!r}, but {names}")


def ladder_of(report):
    """The steps of a ladder: the rate due, whether it was reached, p50 and p99 in microseconds.

    Requests that fail are no failure of the measurement here: a rate may well be too high.
    """
    steps = []
    for run in report["runs"]:
        for series in run["series"]:
            if series["name"] != PRODUCE or series["latency"]["samples"] == 0:
                continue
            due_per_s = run["rate_target_per_s"]
            steps.append({
                "rate_per_s": due_per_s,
                "reached": series["errors"] == 0 and held(series["records_per_s"], due_per_s),
                "p50_us": series["latency"]["p50_us"], "p99_us": series["latency"]["p99_us"],
            })
    if not steps:
        raise CannotMeasure("no step of the ladder was answered at all")
    return sorted(steps, key=lambda step: step["rate_per_s"])
