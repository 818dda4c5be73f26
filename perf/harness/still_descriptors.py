"""Holds descriptors that do nothing, in a process that does nothing else: `CORE COUNT`.

What watches over a machine, by `/proc/PID/fd` for one, may take longer the more there are. What a
broker with many connections suffers from that is not the broker's: a machine without the connections
is compared with it fairly only when it has as many descriptors.

A program of its own, for a `processes.Holder`: all are open when its line comes, and until its input
ends. The limit of open files is that of who starts it.
"""

import json
import os
import socket
import sys


def main(core, count):
    os.sched_setaffinity(0, {core})
    still = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    print(json.dumps({"descriptors": len(still)}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
