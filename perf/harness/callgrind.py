"""Runs one piece under callgrind and reads what it counted, function by function."""

import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field

# Collecting is on while this function runs: `perf/micro/src/meter.rs`.
TOGGLE = "*highwater_perf_micro::meter::counted*"
# Valgrind counts a string instruction once per byte, and glibc copies longer runs with one. Without
# them a copy counts its vector instructions, of 32 bytes each, and longer runs stay comparable.
TUNABLES = ":".join(
    f"glibc.cpu.x86_rep_{name}_threshold={1 << 30}" for name in ("movsb", "stosb")
)
# Nothing else is in the environment, whose size moves the stack.
ENVIRONMENT = {"GLIBC_TUNABLES": TUNABLES}
TIMEOUT_S = 120

NAME = re.compile(r"\((\d+)\)(?: (.*))?")
# Added by the compiler or by callgrind to tell copies of one function apart.
COPY = re.compile(r"(\.llvm\.\d+|'\d+|\.cold|\.part\.\d+)+$")


class CountFailed(Exception):
    """A piece could not be counted; the message says why."""


@dataclass
class Count:
    """What some operations took: in all, in each function, and in each function and its callees."""

    operations: int = 0
    total: int = 0
    own: dict = field(default_factory=dict)
    inclusive: dict = field(default_factory=dict)


def read_profile(text):
    """Reads callgrind's output format (positions by line, one event).

    Names are given in full once and then by number; a call's line is followed by what it cost,
    which belongs to the callee.
    """
    names = {}

    def name_of(value):
        number, given = NAME.fullmatch(value).groups()
        if given is not None:
            names[number] = COPY.sub("", given)
        return names[number]

    count = Count()
    own, called = defaultdict(int), defaultdict(int)
    function, is_call = None, False
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and key == "fn":
            function = name_of(value)
        elif separator and key == "cfn":
            name_of(value)
        elif separator and key == "calls":
            is_call = True
        elif line.startswith("summary:"):
            count.total = int(line.split()[1])
        elif function is not None and line[:1] in tuple("0123456789+-*"):
            words = line.split()
            cost = int(words[1]) if len(words) > 1 else 0
            (called if is_call else own)[function] += cost
            is_call = False
    count.own = {name: cost for name, cost in own.items() if cost > 0}
    count.inclusive = {
        name: own[name] + called[name]
        for name in own.keys() | called.keys()
        if own[name] + called[name] > 0
    }
    if sum(count.own.values()) != count.total:
        raise CountFailed(
            f"callgrind's total is {count.total}, its functions add up to {sum(count.own.values())}"
        )
    return count


def run_piece(valgrind, binary, piece, output):
    """Counts one piece; its profile stays at `output`.

    The program is started by a relative name from its own directory: how long its path is must not
    move the stack either.
    """
    command = [
        valgrind, "--tool=callgrind", f"--callgrind-out-file={output}",
        "--collect-atstart=no", f"--toggle-collect={TOGGLE}", f"./{binary.name}", piece,
    ]
    result = subprocess.run(
        command, cwd=binary.parent, env=ENVIRONMENT, text=True, capture_output=True,
        timeout=TIMEOUT_S, check=False,
    )
    operations = re.search(r"^operations (\d+)$", result.stdout, re.MULTILINE)
    if result.returncode != 0 or operations is None:
        raise CountFailed(f"{piece} under {valgrind}:\n{result.stderr.strip()}")
    count = read_profile(output.read_text())
    count.operations = int(operations.group(1))
    if count.total == 0:
        raise CountFailed(f"{piece}: nothing was counted; is {TOGGLE} still its meter's name?")
    return count
