"""`perf/run peers`: measures, and writes perf/REPORT.md with its plots."""

import dataclasses
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from . import kafka, peers, peers_report
from .machine import REPOSITORY, CannotMeasure, check_descriptors, say, target_dir

HELP = """\
Holds Highwater against Apache Kafka on this machine, under the same load.

Kafka comes from Maven Central into the cache of scripts/interop (so do java and Maven, if they are
missing, and matplotlib for the plots) and runs in two modes: without sync, its default, and with
flush.messages=1. Both brokers run on one core first, then on all. The report is perf/REPORT.md, its
plots and all figures are below perf/report; with --quick both go to Cargo's target directory.
Missed targets do not change the exit code; it is 1 only when something could not be measured.

examples:
  perf/run peers                          three rounds: about 25 minutes
  perf/run peers --quick                  one round, short windows: a smoke test of some minutes
  perf/run peers --json > peers.json      exactly one JSON object; progress is on stderr
  perf/run peers --no-build --binary target/release/highwater
  perf/run peers --render perf/report/figures.json    write the report again, measure nothing

perf/report/reading.txt, if it exists, is put into the report: what a person says about the figures.
"""
INSTALL = REPOSITORY / "scripts" / "interop" / "install.py"
READING = "reading.txt"


def add_options(command):
    """Options beside those of every measurement."""
    command.add_argument("--rate", type=float, default=500, metavar="N",
                         help="records due per second where latencies are compared (default 500, "
                              "which a Kafka that syncs each record can do on one core)")
    command.add_argument("--report-dir", type=Path, metavar="DIR",
                         help="where REPORT.md goes, with its plots in report/ below")
    command.add_argument("--render", type=Path, metavar="FIGURES",
                         help="write the report of figures that were measured before")


def report_dir(options):
    """Where the report goes: a smoke run must not replace a measurement."""
    if options.report_dir:
        return options.report_dir
    if options.quick:
        return target_dir() / "highwater-perf-peers"
    return REPOSITORY / "perf"


def measure(bench, options):
    """All figures and what the report says about how they came about."""
    kafka.fetch()
    check_descriptors(peers.DESCRIPTORS)
    timing = peers.QUICK if options.quick else peers.FULL
    if options.quick:
        bench.rounds = 1
    found = peers.Peers(bench, timing, options.rate)
    found.measure()
    return collected(found, bench, options)


def collected(found, bench, options):
    """What was found, as one object that can be stored and rendered again."""
    cores = [len(placement.server) for placement in found.placements]
    return {
        "figures": found.figures,
        "ladders": found.ladders,
        "curves": found.curves,
        "bounded": {key: sorted(pairs) for key, pairs in found.bounded.items()},
        "half_knees": [[*key, rate] for key, rate in found.half_knees.items()],
        "failures": found.failures,
        "warnings": found.bench_client.warnings,
        "noise": bench.noise.describe(),
        "rounds": bench.rounds,
        "rate": options.rate,
        "quick": options.quick,
        "made": f"Measured on {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}.",
        "method": dataclasses.asdict(found.timing) | {
            "knee_ms": peers.KNEE_P99_MS, "record_bytes": peers.RECORD_BYTES,
            "connections": peers.CONNECTIONS, "bulk_connections": peers.BULK_CONNECTIONS,
            "bulk_in_flight": peers.BULK_IN_FLIGHT, "half_knee_min": peers.HALF_KNEE_MIN,
        },
        "machine": machine(bench, found),
        "kafka_settings": all_settings(cores),
        "kafka_unchanged": kafka.UNCHANGED,
        "highwater_settings": f"`--cores` and `first_core` as placed, `idle={bench.idle}`",
    }


def all_settings(cores):
    """java's settings and the broker's, once where both placements have the same."""
    found = [list(setting) for setting in kafka.java_settings()]
    for setting, wide in zip(kafka.node_settings(cores[0], True),
                             kafka.node_settings(cores[-1], True)):
        value = setting.value
        if wide.value != value:
            value = f"{value} on one core, {wide.value} on all"
        found.append([setting.name, value, setting.why])
    return found


def machine(bench, found):
    """What the figures were measured on, and what was measured."""
    kafka_version, java_version = kafka.versions()
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kib = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    one = found.placements[0]
    return [
        ["processor", f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores"],
        ["memory", f"{memory_kib / 2**20:.1f} GiB"],
        ["kernel", platform.release()],
        ["filesystem", filesystem(bench.work)],
        ["placement", f"broker on core {min(one.server)}, load on core {one.client}"],
        ["Highwater", f"{printed([bench.broker, '--version'])}, "
                      f"repository at {printed(['git', 'rev-parse', '--short', 'HEAD'])}"],
        ["Apache Kafka", f"{kafka_version}, KRaft, broker and controller in one process"],
        ["java", java_version],
    ]


def printed(command):
    """The first line a command prints."""
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return (result.stdout.splitlines() or ["unknown"])[0].strip()


def filesystem(directory):
    """Device, type and options of a directory's filesystem."""
    best = ["", "unknown", "", ""]
    for line in Path("/proc/mounts").read_text().splitlines():
        device, where, kind, flags = line.split()[:4]
        inside = where == "/" or f"{directory}/".startswith(f"{where}/")
        if inside and len(where) >= len(best[0]):
            best = [where, device, kind, flags]
    return f"{best[2]} on {best[1]} ({best[3]})"


def write(data, directory, store):
    """REPORT.md, plots and figures; where there is no matplotlib, all but the plots."""
    plots = directory / "report"
    plots.mkdir(parents=True, exist_ok=True)
    if store:
        (plots / "figures.json").write_text(json.dumps(data, indent=1) + "\n")
    reading = plots / READING
    text = peers_report.markdown(data, reading.read_text() if reading.exists() else "")
    (directory / "REPORT.md").write_text(text)
    draw(plots)
    say(f"the report is {directory / 'REPORT.md'}")


def draw(plots):
    """The plots, by a Python that has matplotlib."""
    if subprocess.run([sys.executable, INSTALL, "plots"], stdout=2, check=False).returncode != 0:
        raise CannotMeasure("matplotlib could not be installed; the report has no plots")
    sys.path.insert(0, str(INSTALL.parent))
    from install import PLOTS_VENV  # noqa: PLC0415

    script = Path(__file__).with_name("plots.py")
    command = [PLOTS_VENV / "bin" / "python", "-B", script, plots / "figures.json", plots]
    if subprocess.run(command, stdout=2, check=False).returncode != 0:
        raise CannotMeasure("the plots could not be drawn; the reason is above")


def report(data, options):
    """Writes the report and prints what was asked for; the exit code."""
    code = 1 if data["failures"] else 0
    try:
        if options.render:
            write(data, options.render.resolve().parents[1], store=False)
        else:
            write(data, report_dir(options), store=True)
    except CannotMeasure as failure:
        say(f"peers: {failure}")
        code = 1
    if options.json:
        say(peers_report.plain_summary(data))
        print(peers_report.as_json(data))
    else:
        print(peers_report.plain_summary(data))
    return code
