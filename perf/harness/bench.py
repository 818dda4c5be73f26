"""What every measurement shares: binaries, directories, durations, and lines of the table."""

import contextlib
import os
import shutil
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .machine import interrupt_core, say
from .processes import Broker, Cores, FloorServer, Holder, Load, ended_ticks, run_tool

STILL_DESCRIPTORS = Path(__file__).with_name("still_descriptors.py")


@dataclass
class Line:
    """One line of the table. `value` is judged; the samples show where it comes from."""

    key: str
    what: str
    unit: str
    floor: list = field(default_factory=list)
    broker: list = field(default_factory=list)
    value: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


def median(samples):
    return statistics.median(samples)


def at_most(line, value, limit):
    """Judges `value` against an upper limit."""
    line.value, line.target, line.met = value, f"<= {limit:g}", value <= limit
    return line


def at_least(line, value, limit):
    """Judges `value` against a lower limit."""
    line.value, line.target, line.met = value, f">= {limit:g}", value >= limit
    return line


@dataclass
class Bench:
    """The binaries and how long and often to measure."""

    floor: object
    broker: object
    work: object
    rounds: int
    seconds: float
    fill_bytes: int
    partitions: int
    idle: str
    noise: object
    cores: Cores = Cores(server=0, client=1)

    def serve_where_the_disk_interrupts(self):
        """Puts servers of one core where the disk's interrupts are handled, if that is one of ours.

        The kernel finishes a durable write on that core: what the clients do there would be in its
        way, however little the server itself is disturbed.
        """
        if interrupt_core(self.work) == self.cores.client:
            self.cores = Cores(server=self.cores.client, client=self.cores.server)
        say(f"the server is on core {self.cores.server}, all else on core {self.cores.client}")

    def durable_server(self):
        """The raw durable server on a fresh file."""
        file = self.work / "durable-floor"
        return FloorServer(
            self.floor, self.cores.server, "durable-server", "--file", file, "--idle", self.idle
        )

    def sendfile_server(self):
        """The raw sendfile server; its file is written once and kept."""
        file = self.work / "sendfile-floor"
        return FloorServer(
            self.floor, self.cores.server, "sendfile-server", "--file", file, "--file-bytes", self.fill_bytes
        )

    def start_broker(self, cores=1, fresh=True, settings=()):
        """The broker, on an empty data directory when `fresh`."""
        data_dir = self.data_dir
        if fresh:
            shutil.rmtree(data_dir, ignore_errors=True)
            # Deleted blocks may be discarded on the device; have that over before measuring.
            os.sync()
        first_core = self.cores.server if cores == 1 else 0
        return Broker(self.broker, data_dir, first_core, cores, [f"idle={self.idle}", *settings])

    @property
    def data_dir(self):
        return self.work / "broker-data"

    def create_topic(self, broker, topic, partitions=1):
        run_tool(
            self.floor, "create-topic", "--connect", broker.address, "--topic", topic,
            "--partitions", partitions,
        )

    def load(self, subcommand, protocol, server, *arguments, yields=False):
        where = (protocol, server.address)
        return Load(self.floor, self.cores.client, subcommand, *where, *arguments, yields=yields)

    def hold_connections(self, server, connections):
        """Idle connections to a server; `figures` says how they were opened."""
        command = [self.floor, "idle-connections", "--connect", server.address]
        return Holder([*command, "--core", self.cores.client, "--connections", connections])

    @contextlib.contextmanager
    def hold_descriptors(self, count):
        """As many descriptors in each of two processes, like the ends of connections."""
        command = [sys.executable, STILL_DESCRIPTORS, self.cores.client, count]
        with Holder(command), Holder(command):
            yield

    def warm_up_s(self):
        """How long a load runs before it is measured."""
        return max(0.5, self.seconds / 4)

    def append(self, protocol, server, *arguments):
        """Appends for the usual time on a quiet machine; the load's figures."""
        timing = ["--seconds", self.seconds, "--warm-up-seconds", self.warm_up_s()]
        return self.steady(server, "durable-load", protocol, *timing, *arguments)

    def steady(self, server, subcommand, protocol, *arguments, prepare=lambda: None):
        """A load's figures from a quiet moment; `prepare` runs before each attempt."""

        def run():
            prepare()
            return self.load(subcommand, protocol, server, *arguments).result()

        return self.noise.steady(lambda: ended_ticks() + server.cpu_ticks(), run)

    def fill(self, broker, topic, total_bytes):
        """Produces `total_bytes` in batches of 1 MiB."""
        return self.load(
            "durable-load", "kafka", broker, "--topic", topic, "--batch-bytes", 1 << 20,
            "--in-flight", 4, "--total-bytes", total_bytes, "--warm-up-seconds", 0,
            "--seconds", 600,
        ).result()

    def fetch(self, protocol, server, *arguments, prepare=lambda: None):
        """Reads in pieces of 1 MiB on a quiet machine; the load's figures."""
        return self.steady(server, "fetch-load", protocol, *arguments, prepare=prepare)

    def device_rates(self):
        """The device's sequential direct write rates on a quiet machine."""
        file = self.work / "sequential"
        return self.noise.steady(
            ended_ticks,
            lambda: run_tool(self.floor, "sequential-write", "--file", file, "--core", 0),
        )
