"""The command `perf/count`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import instructions
from .callgrind import CountFailed, run_piece
from .machine import REPOSITORY, say, target_dir

BASELINES = REPOSITORY / "perf" / "baselines" / "instructions.json"
PACKAGE = "highwater-perf-micro"
# What changes the code that is built, other than the sources and the compiler.
BUILD_OVERRIDES = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS")
PROFILE_OVERRIDES = "CARGO_PROFILE_RELEASE_"

HELP = """\
Counts the instructions that each piece of the hot path takes, and holds them against baselines.

A count does not depend on what else the machine does: the same binary gives the same numbers. It
fails (exit code 1) when a piece takes more than 5 % more than its baseline, and names the functions
that grew. With another compiler, C library or valgrind than the baselines' the limit is 15 %, and
with another kind of processor nothing is judged. Exit code 2: it could not count.

examples:
  perf/count                        build, count, compare (seconds, and the build)
  perf/count --only turn_fetch_1k   one piece
  perf/count --json > counts.json   exactly one JSON object; the table is on stderr
  perf/count --update               these are the baselines from now on: say why in the commit
"""


class CannotCount(Exception):
    """Something that counting needs is not there; the message says what."""


def parse(arguments):
    """Reads the command line; argparse answers --help and mistakes."""
    parser = argparse.ArgumentParser(prog="perf/count", description=HELP,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PIECE", help="count only these")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--update", action="store_true", help="rewrite the baselines")
    parser.add_argument("--binary", type=Path, metavar="PATH",
                        help=f"count this {PACKAGE} instead of building one")
    options = parser.parse_args(arguments)
    if options.update and options.only:
        parser.error("--update renews all baselines: they are of one compiler")
    return options


def find_valgrind():
    """Where valgrind is."""
    found = shutil.which("valgrind")
    if found is None:
        raise CannotCount(
            "valgrind is missing; install it with your package manager (apt-get install valgrind)"
        )
    return found


def first_line(*command):
    """What a command says first."""
    try:
        result = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True,
                                check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotCount(f"{' '.join(command)}: {error}") from error
    return result.stdout.splitlines()[0]


def processor():
    """The part of the processor's abilities that valgrind passes on and libraries choose by."""
    machine = os.uname().machine
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    return f"{machine} with avx2" if "avx2" in flags else machine


def toolchain(valgrind):
    """What the counts depend on beside the sources."""
    return {
        "compiler": first_line("rustc", "--version"),
        "libc": os.confstr("CS_GNU_LIBC_VERSION"),
        "processor": processor(),
        "valgrind": first_line(valgrind, "--version"),
    }


def built():
    """Cargo's target directory, wherever this was called: cargo runs in the repository."""
    return REPOSITORY / target_dir()


def build():
    """Builds the program that has the pieces, as the broker is built; returns where it is."""
    command = ["cargo", "build", "--release", "--quiet", "-p", PACKAGE]
    say("building: " + " ".join(command))
    environment = {
        name: value for name, value in os.environ.items()
        if name not in BUILD_OVERRIDES and not name.startswith(PROFILE_OVERRIDES)
    }
    try:
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=sys.stderr,
                                check=False)
    except OSError as error:
        raise CannotCount(f"cargo: {error}") from error
    if result.returncode != 0:
        raise CannotCount("the build failed; its errors are above")
    return built() / "release" / PACKAGE


def pieces_of(binary, only):
    """The pieces that a program has, or those asked for."""
    try:
        listed = subprocess.run([binary], text=True, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotCount(f"{binary} does not list its pieces: {error}") from error
    known = listed.stdout.split()
    unknown = [piece for piece in only or [] if piece not in known]
    if unknown:
        raise CannotCount(f"there is no piece {unknown[0]}; there are {', '.join(known)}")
    return [piece for piece in known if not only or piece in only]


def count_all(valgrind, binary, pieces):
    """Entries by piece. Several run at once: counts do not mind."""
    profiles = built() / "highwater-perf-count"
    profiles.mkdir(parents=True, exist_ok=True)
    say(f"counting {len(pieces)} pieces; profiles for callgrind_annotate in {profiles}")

    def count_one(piece):
        return run_piece(valgrind, binary, piece, profiles / f"{piece}.out")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(count_one, pieces))
    return {piece: instructions.entry(count) for piece, count in zip(pieces, counts)}


def read_baselines():
    """The baselines, empty when there are none yet."""
    try:
        return json.loads(BASELINES.read_text())
    except FileNotFoundError:
        return {"toolchain": {}, "pieces": {}}
    except ValueError as error:
        raise CannotCount(f"{BASELINES}: {error}; perf/count --update writes it anew") from error


def count(options):
    """Counts and compares; returns the exit code."""
    valgrind = find_valgrind()
    here = toolchain(valgrind)
    binary = (options.binary or build()).resolve()
    counts = count_all(valgrind, binary, pieces_of(binary, options.only))
    kept = read_baselines()
    baselines = kept["pieces"]
    if options.only:
        baselines = {piece: baselines[piece] for piece in options.only if piece in baselines}
    other = instructions.differences(kept["toolchain"], here)
    comparable = instructions.is_comparable(kept["toolchain"], here)
    tolerance = instructions.TOLERANCE_ELSEWHERE if other else instructions.TOLERANCE
    changes = instructions.compare(baselines, counts, tolerance)
    out = sys.stderr if options.json else sys.stdout
    print(instructions.table(changes), file=out)
    for difference in other:
        print(f"not the baselines' toolchain: {difference}", file=out)
    print(f"instructions per operation; too much is {tolerance:.0%} above the baseline", file=out)
    if not comparable:
        print("another processor than the baselines' runs other code: nothing is judged", file=out)
    if options.json:
        found = instructions.as_json(changes, here, kept["toolchain"], tolerance)
        print(json.dumps(found, indent=2))
    if options.update:
        BASELINES.parent.mkdir(exist_ok=True)
        BASELINES.write_text(
            json.dumps({"toolchain": here, "pieces": counts}, indent=1) + "\n"
        )
        say(f"wrote {BASELINES}")
        return 0
    return 1 if comparable and any(change.is_too_much for change in changes) else 0


def main(arguments):
    """Runs the command; returns its exit code."""
    try:
        return count(parse(arguments))
    except (CannotCount, CountFailed, subprocess.TimeoutExpired) as error:
        print(f"perf/count: {error}", file=sys.stderr)
        return 2
