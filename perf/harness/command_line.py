"""The commands of `perf/run`."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from . import consume, durable, footprint, isolation, omission, peers_command, report
from .bench import Bench
from .machine import CannotMeasure, Noise, build, check_cores, check_descriptors, say, target_dir

MEASURES = {
    "durable": durable.measure_durable,
    "batched": durable.measure_batched,
    "hot": consume.measure_hot,
    "cold": consume.measure_cold,
    "allocations": footprint.measure_allocations,
    "partitions": footprint.measure_partitions,
    "forwarded": durable.measure_forwarded,
}

FLOOR_HELP = """\
Holds the broker against raw programs that do the same work without being a broker.

Yardstick and broker run alternately on this machine, the server pinned to core 0 and the client
to core 1; each line shows medians, the range over the rounds, and whether its target is met.
Missed targets do not change the exit code; it is 1 only when something could not be measured.

examples:
  perf/run floor                          everything, three rounds: about ten minutes
  perf/run floor --quick                  everything once or twice, short: about two minutes
  perf/run floor --only durable --rounds 5
  perf/run floor --json > floor.json      exactly one JSON object; progress is on stderr
"""


ISOLATION_HELP = """\
Measures how much of a storm a producer feels.

Durable produce of single records, an open loop at a fixed rate, is timed alone, alone with as many
descriptors open on the machine as the storm opens, and beside 10,000 idle connections and 100
consumers that read a log from the disk; the broker runs on core 0, everything else on core 1. The
broker's resident memory in the storm is held against its budget.
Missed targets do not change the exit code; it is 1 only when something could not be measured.

examples:
  perf/run isolation                      five rounds: about seven minutes
  perf/run isolation --quick              a smoke test
  perf/run isolation --rate 5000 --rounds 9
  perf/run isolation --json > isolation.json
"""
# Descriptors that are no connections, on either side.
DESCRIPTORS_BESIDE = 500


def parse(arguments):
    """Reads the command line; argparse answers --help and mistakes."""
    parser = argparse.ArgumentParser(prog="perf/run", description="Performance measurements.")
    commands = parser.add_subparsers(dest="command", required=True)
    floor = commands.add_parser(
        "floor",
        help="hold the broker against the machine's raw limits",
        description=FLOOR_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    floor.add_argument("--only", nargs="+", choices=MEASURES, metavar="NAME",
                       help="measure only these: " + ", ".join(MEASURES))
    isolated = commands.add_parser(
        "isolation",
        help="time a producer beside idle connections and cold consumers",
        description=ISOLATION_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    isolated.add_argument("--rate", type=float, default=1000, metavar="N",
                          help="records due per second (default 1000)")
    isolated.add_argument("--connections", type=int, default=10_000, metavar="N",
                          help="idle connections (default 10000)")
    isolated.add_argument("--consumers", type=int, default=100, metavar="N",
                          help="consumers of the cold log (default 100)")
    isolated.add_argument("--set", dest="settings", action="append", default=[],
                          metavar="KEY=VALUE", help="a setting of the broker; may be repeated")
    beside_kafka = commands.add_parser(
        "peers",
        help="hold the broker against Apache Kafka",
        description=peers_command.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    peers_command.add_options(beside_kafka)
    omitting = commands.add_parser(
        "omission",
        help="prove that the load generator omits nothing",
        description=omission.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    omission.add_options(omitting)
    for command in (floor, beside_kafka, omitting):
        add_common(command)
    add_common(isolated, rounds=5)
    options = parser.parse_args(arguments)
    if options.binary and not options.no_build:
        parser.error("--binary measures what is there: give --no-build too")
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; allowed is 1 or more")
    return options


def add_common(command, rounds=3):
    """Options of every measurement."""
    command.add_argument("--json", action="store_true", help="print one JSON object, no table")
    command.add_argument("--rounds", type=int, default=rounds, metavar="N",
                         help=f"rounds (default {rounds})")
    command.add_argument("--quick", action="store_true",
                         help="short windows and little data: a smoke test, not a measurement")
    command.add_argument("--idle", choices=["sleep", "adaptive", "spin"], default="adaptive",
                         help="how yardstick and broker wait for work (default adaptive)")
    command.add_argument("--patience", type=float, default=20, metavar="SECONDS",
                         help="wait this long for a quiet machine before each measurement")
    command.add_argument("--work-dir", type=Path, metavar="DIR",
                         help="where data goes; must be on the disk to measure and support O_DIRECT")
    command.add_argument("--no-build", action="store_true", help="use the binaries that are there")
    command.add_argument("--binary", type=Path, metavar="PATH",
                         help="the highwater to measure, with --no-build; highwater-floor is taken "
                              "from beside it, if it is there")


def make_bench(options):
    """The bench the options describe."""
    binaries = target_dir() / "release"
    broker = options.binary.resolve() if options.binary else binaries / "highwater"
    floor = broker.with_name("highwater-floor")
    bench = Bench(
        floor=floor if floor.is_file() else binaries / "highwater-floor",
        broker=broker,
        # A directory of our own: it is deleted at the end, and --work-dir may hold other things.
        work=(options.work_dir or target_dir()).resolve() / "highwater-perf-floor",
        rounds=min(options.rounds, 2) if options.quick else options.rounds,
        seconds=2.0 if options.quick else 5.0,
        fill_bytes=(256 if options.quick else 1024) << 20,
        partitions=20_000,
        idle=options.idle,
        noise=Noise(options.patience),
    )
    for binary in (bench.floor, bench.broker):
        if not binary.is_file():
            raise CannotMeasure(f"{binary} is missing; leave out --no-build to build it")
    bench.work.mkdir(parents=True, exist_ok=True)
    return bench


def measure(bench, names):
    """All lines, and what could not be measured and why."""
    lines, failures = [], []
    for name in names:
        try:
            lines += MEASURES[name](bench)
        except CannotMeasure as failure:
            say(f"{name}: {failure}")
            failures.append((name, str(failure)))
    return lines, failures


def measure_isolation(bench, options):
    """Longer windows and more data than elsewhere: a thousandth of the requests is what counts."""
    bench.seconds = 5.0 if options.quick else 20.0
    bench.fill_bytes = (512 if options.quick else 3072) << 20
    try:
        check_descriptors(options.connections + DESCRIPTORS_BESIDE)
        return isolation.measure_isolation(bench, options), []
    except CannotMeasure as failure:
        say(f"isolation: {failure}")
        return [], [("isolation", str(failure))]


def judge(bench, options):
    """Measures lines, prints their table or object; the exit code."""
    if options.command == "isolation":
        lines, failures = measure_isolation(bench, options)
        keys, head = report.ISOLATION_KEYS, report.ISOLATION_HEAD
    else:
        lines, failures = measure(bench, options.only or list(MEASURES))
        keys, head = report.KEYS, report.HEAD
    text = report.table(lines, failures, bench.noise.describe(), head)
    if options.json:
        say(text)
        print(report.as_json(lines, keys))
    else:
        print(text)
    return 1 if failures else 0


def run(options):
    """Runs a command that measures; the exit code."""
    check_cores()
    if not options.no_build:
        build()
    bench = make_bench(options)
    try:
        if options.command == "peers":
            return peers_command.report(peers_command.measure(bench, options), options)
        if options.command == "omission":
            return omission.prove(bench, options)
        return judge(bench, options)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)


def main(arguments):
    """Runs a command; the exit code."""
    options = parse(arguments)
    try:
        if options.command == "peers" and options.render:
            return peers_command.report(json.loads(options.render.read_text()), options)
        return run(options)
    except CannotMeasure as failure:
        say(f"perf/run: {failure}")
        return 1
    finally:
        sys.stdout.flush()
