"""Whether some clients are felt by others: durable produce alone, and beside a storm.

The storm is 10,000 connections that said hello and fell silent, and 100 consumers that read a log
nothing of which is in memory. All windows are of one run, one broker, one load: an open loop at a
fixed rate, each request's time counted from when it was due.

Quiet is a machine with as many open descriptors as in the storm, held by processes that do nothing:
what watches over a machine may take longer the more there are, whoever has them. The same without
them is measured as well, and shown as the bare machine.
"""

import contextlib
import os
import threading
import time

from .bench import Line, at_most, median
from .machine import drop_page_cache, process_ticks, say, yield_to_others
from .processes import ended_ticks

P99_9_RATIO_MAX = 1.5
MEMORY_RATIO_MAX = 1.05
COLD_TOPIC = "cold"
CONNECTIONS = 4
IN_FLIGHT = 64
SETTLE_S = 1
# Until every consumer has its first answers.
STORM_WARM_UP_S = 1
# Data in the page cache is not cold: it is dropped as fast as it is read.
DROP_INTERVAL_S = 0.2
QUANTILES = ["p50_us", "p99_us", "p99_9_us", "p99_99_us"]


class ColdKeeper:
    """Drops the page cache of a directory again and again, in a thread on the client's core."""

    def __init__(self, directory, core):
        self.directory = directory
        self.core = core
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        # On Linux both belong to the thread, not to the process.
        os.sched_setaffinity(0, {self.core})
        yield_to_others()
        while not self.over.wait(DROP_INTERVAL_S):
            # Segments come and go meanwhile.
            with contextlib.suppress(FileNotFoundError):
                drop_page_cache(self.directory)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def measure_isolation(bench, options):
    """Round by round: bare, quiet, then with idle connections and cold consumers."""
    bench.serve_where_the_disk_interrupts()
    say(f"writing {bench.fill_bytes >> 20} MiB that are read cold")
    with bench.start_broker() as broker:
        bench.create_topic(broker, COLD_TOPIC)
        bench.create_topic(broker, "timed")
        bench.fill(broker, COLD_TOPIC, bench.fill_bytes)
    rounds = []
    for number in range(1, bench.rounds + 1):
        say(f"isolation, round {number} of {bench.rounds}")
        # A restarted broker has an empty tail cache.
        with bench.start_broker(fresh=False, settings=options.settings) as broker:
            rounds.append(one_round(bench, broker, options))
    return lines_of(rounds, options)


def one_round(bench, broker, options):
    """The figures of one broker: the bare machine, quiet, and beside the storm."""
    drop_page_cache(bench.data_dir)
    bench.noise.settle()
    found = {"budget_bytes": broker.memory_budget_bytes()}
    found["bare"] = timed(bench, broker, options, [])
    with bench.hold_descriptors(options.connections):
        time.sleep(SETTLE_S)
        found["quiet"] = timed(bench, broker, options, [])
    time.sleep(SETTLE_S)
    before = broker.resident_bytes()
    with bench.hold_connections(broker, options.connections) as idle:
        time.sleep(SETTLE_S)
        found["open_s"] = idle.figures["open_s"]
        resident = [broker.resident_bytes()]
        found["idle_connection_bytes"] = (resident[0] - before) / options.connections
        with ColdKeeper(bench.data_dir / "topics" / COLD_TOPIC, bench.cores.client):
            storm_s = bench.seconds + STORM_WARM_UP_S + bench.warm_up_s() + 1
            consumers = bench.load(
                "fetch-load", "kafka", broker, "--topic", COLD_TOPIC, "--seconds", storm_s,
                "--connections", options.consumers, yields=True,
            )
            time.sleep(STORM_WARM_UP_S)
            found["storm"] = timed(bench, broker, options, [consumers])
            resident.append(broker.resident_bytes())
            found["cold_gb_per_s"] = consumers.result()["gb_per_s"]
    found["resident_bytes"] = max(resident)
    found["counters"] = broker.counters()
    return found


def timed(bench, broker, options, others):
    """Durable produce at the fixed rate. It is not repeated for noise: the rounds are."""

    def own_ticks():
        running = sum(process.cpu_ticks() for process in [broker, *others])
        return ended_ticks() + process_ticks(os.getpid()) + running

    def run():
        return bench.load(
            "durable-load", "kafka", broker, "--topic", "timed", "--rate", options.rate,
            "--connections", CONNECTIONS, "--in-flight", IN_FLIGHT,
            "--seconds", bench.seconds, "--warm-up-seconds", bench.warm_up_s(),
        ).result()

    return bench.noise.once(own_ticks, run)


def lines_of(rounds, options):
    """The table: each quantile quiet and in the storm, memory, and what the storm was like."""
    lines = []
    for name in QUANTILES:
        line = beside(rounds, "quiet", name)
        lines.append(line)
        if name == "p99_9_us":
            line.key = "isolation_p99_9_ratio"
            line.what += f", {options.rate:g}/s"
            at_most(line, line.value, P99_9_RATIO_MAX)
            bare = beside(rounds, "bare", name)
            bare.key = "isolation_p99_9_bare_ratio"
            bare.note = "quiet column: no descriptors open besides the broker's and the load's"
            bare.what += ", bare machine"
            lines.append(bare)
    resident = [found["resident_bytes"] / 2**20 for found in rounds]
    budgets = [found["budget_bytes"] / 2**20 for found in rounds]
    memory = Line("isolation_memory_ratio", "resident memory in the storm", "MiB", budgets, resident)
    memory.note = "floor column: the memory budget"
    lines.append(at_most(memory, median(resident) / median(budgets), MEMORY_RATIO_MAX))
    idle = Line("idle_connection_bytes", f"memory of one of {options.connections} connections",
                "B", [], [found["idle_connection_bytes"] for found in rounds])
    idle.value = median(idle.broker)
    cold = Line("", f"cold consume, {options.consumers} consumers", "GB/s", [],
                [found["cold_gb_per_s"] for found in rounds])
    opened = Line("", "opening the connections", "s", [], [found["open_s"] for found in rounds])
    return [*lines, idle, cold, opened]


def beside(rounds, window, name):
    """A quantile of the storm beside that of another window of the same rounds."""
    before = [found[window][name] for found in rounds]
    storm = [found["storm"][name] for found in rounds]
    label = name.removesuffix("_us").replace("_", ".")
    line = Line("", f"durable produce, {label}", "us", before, storm)
    # Of each round by itself: what slows the machine down slows all windows of a round.
    line.value = median([after / alone for alone, after in zip(before, storm)])
    return line
