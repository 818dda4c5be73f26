"""Highwater beside Apache Kafka: the same load, the same cores, the same disk, in turn.

A round runs Kafka without sync, Kafka with a sync for every record, and Highwater; rounds follow one
another, so that what slows the machine for a while slows all three. Kafka comes first because the
rate of one measurement, half of its knee, is only known then; all rounds use the rate of the first.
"""

import os
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass

from . import kafka, peers_rows
from .first_record import acknowledges, produce_one
from .load_generator import (
    END_TO_END, FETCH, PRODUCE, LoadGenerator, ladder_of, produce_arguments, series_of,
)
from .machine import CannotMeasure, cpu_times, interrupt_core, say
from .peers_rows import ALL_CORES, FLOOR, HIGHWATER, KAFKA, KAFKA_SYNC, ONE_CORE
from .processes import Broker, ended_ticks, run_tool

RECORD_BYTES = 1024
KNEE_P99_MS = 5
# Where later rounds begin to look for it, so that they take a few steps only.
KNEE_BELOW = 0.8
LADDER_FLOOR = 0.25
# Below, there are too few records for a p99.9.
HALF_KNEE_MIN = 100
STEP_WARM_UP_S = 0.5
# Reading that only ends the filling.
FILL_S = 0.5
CONNECTIONS = 4
IN_FLIGHT = 64
# What keeps a broker as busy as it can be.
BULK_CONNECTIONS = 16
BULK_IN_FLIGHT = 16
MANY_PARTITIONS = 1000
MANY_PRODUCERS = 100
SMALL_RECORD_BYTES = 100
# Kafka uses some descriptors for each partition.
DESCRIPTORS = 16_000
TOPICS = ("timed", "bulk")
ORDER = (KAFKA, KAFKA_SYNC, HIGHWATER)
CREATE_INTERVAL_S = 0.2
# What is kept of a latency for the plots.
CURVE = ("samples", "p50_us", "p90_us", "p99_us", "p99_9_us", "p99_99_us", "max_us")


@dataclass
class Timing:
    """Seconds of each window, what is read, and the rates of the ladder."""

    warm_up_s: float
    before_s: float
    rate_s: float
    half_knee_s: float
    step_s: float
    bulk_s: float
    many_s: float
    fill_mb: int
    ladder_from: float
    ladder_to: float


FULL = Timing(1.5, 5, 6, 5, 2, 3, 2, 512, 1000, 200_000)
QUICK = Timing(0.5, 2, 2, 2, 1, 2, 2, 128, 1000, 64_000)


@dataclass
class Placement:
    """Where broker and load run."""

    key: str
    server: set
    client: int


def placements(bench):
    """One core for the broker and another for the load; then all cores for the broker."""
    cores = sorted(os.sched_getaffinity(0))
    # The kernel finishes a durable write where the disk's interrupts are handled: the broker's core.
    server = interrupt_core(bench.work)
    if server not in cores:
        server = cores[0]
    client = next(core for core in cores if core != server)
    say(f"the broker is on core {server}, then on all; the load is on core {client}")
    return [Placement(ONE_CORE, {server}, client), Placement(ALL_CORES, set(cores), client)]


class Peers:
    """The measurements and what they found."""

    def __init__(self, bench, timing, rate):
        self.bench = bench
        self.timing = timing
        self.rate = rate
        self.placements = placements(bench)
        self.figures = {}
        self.ladders = []
        self.curves = []
        # Metrics that are only bounds, by placement: (side, metric).
        self.bounded = defaultdict(set)
        # Half of Kafka's knee in the first round, by placement and Kafka's mode.
        self.half_knees = {}
        self.failures = []
        self.bench_client = LoadGenerator(bench.broker, self.placements[0].client)

    def measure(self):
        """All rounds of all placements; what fails is noted and the rest goes on."""
        # This process and the tools it runs stay out of the broker's way.
        os.sched_setaffinity(0, {self.placements[0].client})
        for placement in self.placements:
            for number in range(1, self.bench.rounds + 1):
                for side in ORDER:
                    say(f"{peers_rows.PLACEMENTS[placement.key]}, round {number} of "
                        f"{self.bench.rounds}: {peers_rows.LABELS[side]}")
                    self.attempt(placement, side, lambda: self.session(placement, side))
                if placement.key == ONE_CORE:
                    self.attempt(placement, FLOOR, lambda: self.floor(placement))

    def attempt(self, placement, side, run):
        """Runs a session; one that cannot be measured does not stop the others."""
        try:
            run()
        except CannotMeasure as failure:
            where = f"{peers_rows.LABELS[side]}, {peers_rows.PLACEMENTS[placement.key]}"
            say(f"{where}: {failure}")
            self.failures.append((where, str(failure)))

    def note(self, placement, side, metric, value):
        """One more figure of a metric."""
        sides = self.figures.setdefault(placement.key, {}).setdefault(side, {})
        sides.setdefault(metric, []).append(value)

    def session(self, placement, side):
        """Everything that is measured of one broker in one round, from its start to its end."""
        start = self.prepared(placement, side)
        with start(acknowledges(TOPICS[0], RECORD_BYTES)) as server:
            self.note(placement, side, "start_s", server.ready_s)
            session = Session(self, placement, side, server)
            session.warm()
            for measurement in session.measurements():
                self.attempt(placement, side, measurement)

    def prepared(self, placement, side):
        """A node with topics, stopped in good order; returns how to start it."""
        start = self.new_node(placement, side)
        with start() as server:
            for topic in TOPICS:
                self.create_topic(server, topic, 1)
                server.try_until(
                    lambda: produce_one(server.address, topic, b"first"), CREATE_INTERVAL_S,
                    "take a record",
                )
        return start

    def new_node(self, placement, side):
        """A node with an empty directory; returns what starts it and takes `ready`."""
        if side == HIGHWATER:
            data_dir = self.bench.data_dir
            shutil.rmtree(data_dir, ignore_errors=True)
            os.sync()
            first_core, settings = min(placement.server), [f"idle={self.bench.idle}"]
            return lambda ready=None: Broker(
                self.bench.broker, data_dir, first_core, len(placement.server), settings, ready
            )
        directory = self.bench.work / "kafka"
        return kafka.KafkaNode(directory, placement.server, side == KAFKA_SYNC).start

    def create_topic(self, server, topic, partitions):
        """Creates a topic; a broker that has just started may not take it at once."""

        def create():
            try:
                run_tool(self.bench.floor, "create-topic", "--connect", server.address,
                         "--topic", topic, "--partitions", partitions)
            except CannotMeasure as failure:
                raise ValueError(str(failure)) from None

        server.try_until(create, CREATE_INTERVAL_S, f"create the topic {topic}")

    def floor(self, placement):
        """The raw durable server at the same rate; it speaks no Kafka, so its own load drives it."""
        self.bench.cores = self.bench.cores._replace(
            server=min(placement.server), client=placement.client
        )
        with self.bench.durable_server() as server:
            self.bench.noise.settle()
            figures = self.bench.load(
                "durable-load", "floor", server, "--rate", self.rate, "--connections", CONNECTIONS,
                "--in-flight", IN_FLIGHT, "--seconds", self.timing.rate_s,
                "--warm-up-seconds", self.timing.warm_up_s,
            ).result()
        for metric in ("p50_us", "p99_us", "p99_9_us"):
            self.note(placement, FLOOR, metric, figures[metric])


class Session:
    """The measurements of one running broker."""

    def __init__(self, peers, placement, side, server):
        self.peers = peers
        self.timing = peers.timing
        self.placement = placement
        self.side = side
        self.server = server
        # Clock ticks of the last run: the broker's, and the machine's less the load's.
        self.spent = [0, 0]

    def note(self, metric, value):
        self.peers.note(self.placement, self.side, metric, value)

    def measurements(self):
        """What is measured, in this order; one that fails does not stop the next."""
        found = [self.fixed_rate, self.knee, self.half_knees, self.bulk]
        if self.placement.key == ONE_CORE and self.side != KAFKA_SYNC:
            found += [self.end_to_end, self.many_partitions]
        return found

    def run(self, kind, topic, *arguments, seconds, what):
        """One run of the load generator, watched for noise."""
        peers = self.peers
        what = f"{peers_rows.LABELS[self.side]}, {peers_rows.PLACEMENTS[self.placement.key]}: {what}"
        peers.bench.noise.settle()

        def watched():
            before = self.ticks()
            report = peers.bench_client.run(
                kind, self.server.address, topic, *arguments, seconds=seconds, what=what
            )
            self.spent = [after - earlier for earlier, after in zip(before, self.ticks())]
            return report

        return peers.bench.noise.once(lambda: ended_ticks() + self.server.cpu_ticks(), watched)

    def ticks(self):
        """CPU time of the broker, and of the machine less what the loads used."""
        return self.server.cpu_ticks(), cpu_times()[0] - ended_ticks()

    def at_rate(self, kind, rate, seconds, what):
        """A run in an open loop; its whole report."""
        arguments = produce_arguments(
            RECORD_BYTES, CONNECTIONS, ["--rate", rate], self.timing.warm_up_s
        )
        return self.run(kind, TOPICS[0], *arguments, seconds=seconds, what=what)

    def closed_loop(self, topic, record_bytes, connections, in_flight, seconds, warm_up_s, what):
        """A run in a closed loop over all partitions in turn; its series."""
        pace = ["--closed-loop", "--in-flight", in_flight, "--spread", "round-robin"]
        arguments = produce_arguments(record_bytes, connections, pace, warm_up_s)
        report = self.run(PRODUCE, topic, *arguments, seconds=seconds, what=what)
        return series_of(report, PRODUCE)

    def warm(self):
        """Load before anything is timed, longer than a broker needs that compiles as it runs."""
        self.closed_loop(TOPICS[0], RECORD_BYTES, BULK_CONNECTIONS, 1, self.timing.before_s, 0,
                         "before measuring")

    def fixed_rate(self):
        """Latency at the rate that is the same for all."""
        report = self.at_rate(PRODUCE, self.peers.rate, self.timing.rate_s, "at a fixed rate")
        series = series_of(report, PRODUCE)
        latency = series["latency"]
        for metric in ("p50_us", "p99_us", "p99_9_us"):
            self.note(metric, latency[metric])
        self.note("reached_per_s", series["records_per_s"])
        self.peers.curves.append({
            "placement": self.placement.key, "side": self.side, "rate_per_s": self.peers.rate,
            **{name: latency[name] for name in CURVE if name in latency},
        })

    def knee(self):
        """The highest rate held with p99 below the bound."""
        timing = self.timing
        known = self.peers.figures[self.placement.key][self.side].get("knee_per_s")
        rate_from = timing.ladder_from
        if known:
            # One unlucky step of a round must not make the next begin at the bottom.
            rate_from = max(max(known) * KNEE_BELOW, timing.ladder_from * LADDER_FLOOR)
        pace = ["--ladder", "--p99-bound-ms", KNEE_P99_MS, "--rate-from", f"{rate_from:.0f}",
                "--rate-to", timing.ladder_to]
        arguments = produce_arguments(RECORD_BYTES, CONNECTIONS, pace, STEP_WARM_UP_S)
        report = self.run(PRODUCE, TOPICS[0], *arguments, seconds=timing.step_s, what="ladder")
        steps = ladder_of(report)
        self.peers.ladders.append(
            {"placement": self.placement.key, "side": self.side, "steps": steps}
        )
        knee = report.get("knee")
        rate = knee["rate_per_s"] if knee else min(step["rate_per_s"] for step in steps)
        if not knee:
            say(f"  p99 was {KNEE_P99_MS} ms or more at every rate; {rate:g}/s counts")
            self.peers.bounded[self.placement.key].add((self.side, "knee_per_s"))
        self.note("knee_per_s", rate)
        if self.side != HIGHWATER:
            half = max(rate / 2, HALF_KNEE_MIN)
            self.peers.half_knees.setdefault((self.placement.key, self.side), half)

    def half_knees(self):
        """Latency at half of Kafka's knee: a Kafka at its own, Highwater at either."""
        metrics = {KAFKA: "half_knee_p99_9_us", KAFKA_SYNC: "half_sync_knee_p99_9_us"}
        for mode, metric in metrics.items():
            rate = self.peers.half_knees.get((self.placement.key, mode))
            if rate is None or self.side not in (HIGHWATER, mode):
                continue
            report = self.at_rate(PRODUCE, rate, self.timing.half_knee_s,
                                  f"at half the knee of {peers_rows.LABELS[mode]}")
            self.note(metric, series_of(report, PRODUCE)["latency"]["p99_9_us"])

    def bulk(self):
        """Bytes per CPU second and per second, written and then read; memory in between."""
        series = self.closed_loop(TOPICS[1], RECORD_BYTES, BULK_CONNECTIONS, BULK_IN_FLIGHT,
                                  self.timing.bulk_s, 0, "closed loop")
        self.note_cost("produce", series)
        self.note("resident_bytes", self.server.resident_bytes())
        # The same amount for all, written before what is measured.
        reading = ["--fill-mb", self.timing.fill_mb, "--warm-up-seconds", 0]
        self.run("consume", TOPICS[1], *reading, seconds=FILL_S, what="filling")
        report = self.run("consume", TOPICS[1], *reading, seconds=self.timing.bulk_s,
                          what="consume")
        self.note_cost("consume", series_of(report, FETCH))

    def note_cost(self, name, series):
        """What the last run cost; it had no warm-up, so that its bytes are all there were."""
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        broker_s, machine_s = (max(1, ticks) / ticks_per_s for ticks in self.spent)
        self.note(f"{name}_bytes_per_cpu_s", series["bytes"] / broker_s)
        self.note(f"{name}_bytes_per_machine_s", series["bytes"] / machine_s)
        self.note(f"{name}_bytes_per_s", series["bytes_per_s"])

    def end_to_end(self):
        """From when a record was due to when a consumer has it."""
        report = self.at_rate("end-to-end", self.peers.rate, self.timing.rate_s, "end to end")
        latency = series_of(report, END_TO_END)["latency"]
        self.note("end_to_end_p50_us", latency["p50_us"])
        self.note("end_to_end_p99_us", latency["p99_us"])

    def many_partitions(self):
        """Throughput of small records from many producers: one partition, then a thousand.

        Once with one record a request, so that both have the same requests, and once with many in
        flight: to one partition those share batches, spread over a thousand they cannot.
        """
        for topic, partitions, name in (("one", 1, "one"), ("many", MANY_PARTITIONS, "many")):
            self.peers.create_topic(self.server, topic, partitions)
            # Kafka answers before it has made all logs.
            time.sleep(1)
            for in_flight, suffix in ((1, ""), (IN_FLIGHT, "_batched")):
                series = self.closed_loop(
                    topic, SMALL_RECORD_BYTES, MANY_PRODUCERS, in_flight, self.timing.many_s, 1,
                    f"{partitions} partitions, {in_flight} in flight",
                )
                self.note(f"{name}_partitions{suffix}_per_s", series["records_per_s"])
