"""Descriptors that are open and do nothing, in processes that do nothing.

What watches over a machine, by `/proc/PID/fd` for one, may take longer the more there are. What a
broker with many connections suffers from that is not the broker's: a machine without the connections
is compared with it fairly only when it has as many descriptors.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

from .machine import CannotMeasure, check_descriptors


class StillDescriptors:
    """As many in each of two processes, like the ends of connections; open until the `with` ends."""

    def __init__(self, core, count):
        command = [sys.executable, "-B", "-m", "harness.still_descriptors", str(core), str(count)]
        root = Path(__file__).resolve().parent.parent
        self.processes = [
            subprocess.Popen(
                command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]

    def __enter__(self):
        # Answers when all are open.
        if not all(process.stdout.readline() for process in self.processes):
            self.__exit__()
            raise CannotMeasure("descriptors could not be opened: raise the limit of open files")
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.communicate()


def hold(core, count):
    """Opens them, says so, and keeps them until standard input ends."""
    os.sched_setaffinity(0, {core})
    check_descriptors(count + 100)
    still = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    print(len(still), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(*(int(argument) for argument in sys.argv[1:]))
