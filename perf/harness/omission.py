"""The proof that `highwater bench` omits nothing: a broker that is paused, and arithmetic.

A load generator that waits for an answer before it sends the next request does not ask while a
broker stands still, and so hardly sees it. This one counts from when a request was due. A broker
that is stopped for 200 ms every 5 s must then show it in exact numbers: of all requests 4 % are due
within a pause, evenly over it, and each waits for the pause's end. So p99, with 3 % of all above the
quiet rest and 1 % above itself, lies a quarter of the pause below its whole length.
"""

import json
import os
import signal
import statistics
import threading
import time
from dataclasses import dataclass

from .load_generator import PRODUCE, LoadGenerator, produce_arguments, series_of
from .machine import CannotMeasure, interrupt_core, say
from .processes import Cores, ended_ticks

HELP = """\
Proves that the load generator omits nothing that a standing broker costs.

A broker is stopped (SIGSTOP) for 200 ms every 5 s under `highwater bench produce` at a fixed rate.
Its p99 and p99.9 must then be what arithmetic says: 4 % of the requests are due within a pause,
evenly, and each waits until its end, so that p99 is 150 ms and p99.9 is 195 ms, plus what a request
takes on a quiet broker. What a closed loop would have said is shown beside it. The exit code is 1
when a percentile is further off than the tolerance, whose parts are printed.

examples:
  perf/run omission                       about a minute
  perf/run omission --quick               fewer pauses
  perf/run omission --json
  perf/run omission --no-build --binary target/release/highwater
"""
TOPIC = "paused"
RECORD_BYTES = 1024
CONNECTIONS = 4
PAUSE_S = 0.2
PERIOD_S = 5.0
PAUSES, QUICK_PAUSES = 6, 3
WARM_UP_S = 2.0
QUANTILES = {"p99_us": 0.99, "p99_9_us": 0.999}
# Starting, stopping and being scheduled again take the kernel this long at most, on a core that
# another process may be using: two scheduler slices of 4 ms.
SCHEDULING_S = 0.008
# A histogram with three significant digits.
HISTOGRAM_SHARE = 0.001


@dataclass
class Checked:
    """A percentile as measured and as computed, in microseconds."""

    name: str
    measured_us: float
    expected_us: float
    below_us: float
    above_us: float

    @property
    def holds(self):
        off_us = self.measured_us - self.expected_us
        return -self.below_us <= off_us <= self.above_us


def waiting_quantile(quantile, pause_s, period_s):
    """How long the request at a quantile waits for the end of a pause, in seconds.

    A share `pause_s / period_s` of all requests waits, evenly between nothing and the whole pause.
    """
    share = pause_s / period_s
    return pause_s * max(0.0, 1 - (1 - quantile) / share)


def tolerance(quantile, pause_s, period_s, rate, capacity):
    """How far off a percentile may be, in seconds: the parts by name, in either direction.

    Either way:
    * stopping and going on are scheduled, and so is the load: that moves a pause's ends;
    * requests are due one by one, and a histogram has digits.
    Above only: what has piled up in a pause is worked off at the broker's capacity, not at once, and
    those that become due meanwhile wait too. An omission makes a percentile smaller, never larger.
    """
    either = {
        "scheduling": SCHEDULING_S,
        "spacing": 1 / rate,
        "digits": waiting_quantile(quantile, pause_s, period_s) * HISTOGRAM_SHARE,
    }
    return either, {"backlog": pause_s * rate / max(1.0, capacity - rate)}


def check(latency, quiet, pauses_s, period_s, rate, capacity):
    """Each percentile against what it must be. `quiet` is the latency without pauses."""
    pause_s = statistics.mean(pauses_s)
    found = []
    for name, quantile in QUANTILES.items():
        expected_s = waiting_quantile(quantile, pause_s, period_s) + quiet["p50_us"] / 1e6
        either, above = tolerance(quantile, pause_s, period_s, rate, capacity)
        below_us = sum(either.values()) * 1e6
        above_us = below_us + sum(above.values()) * 1e6
        found.append(Checked(name, latency[name], expected_s * 1e6, below_us, above_us))
    return found


class Pauser:
    """Stops a process for a while, every so often, in a thread; keeps how long each pause was."""

    def __init__(self, process_id, pauses, first_s):
        self.process_id = process_id
        self.pauses = pauses
        self.first_s = first_s
        self.lengths_s = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        begin = time.monotonic() + self.first_s
        for index in range(self.pauses):
            # By the clock, not by the length of earlier waits: pauses stay a period apart.
            if self.over.wait(max(0, begin + index * PERIOD_S - time.monotonic())):
                return
            os.kill(self.process_id, signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                time.sleep(PAUSE_S)
            finally:
                os.kill(self.process_id, signal.SIGCONT)
            self.lengths_s.append(time.monotonic() - stopped)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def add_options(command):
    """Options beside those of every measurement."""
    command.add_argument("--rate", type=float, default=1000, metavar="N",
                         help="records due per second (default 1000)")


def place(bench):
    """The broker where the disk's interrupts are, everything else on the other core."""
    if interrupt_core(bench.work) == bench.cores.client:
        bench.cores = Cores(server=bench.cores.client, client=bench.cores.server)
    os.sched_setaffinity(0, {bench.cores.client})


def prove(bench, options):
    """Measures quiet, paused and in a closed loop; prints all; the exit code."""
    place(bench)
    pauses = QUICK_PAUSES if options.quick else PAUSES
    window_s = pauses * PERIOD_S
    client = LoadGenerator(bench.broker, bench.cores.client)
    open_loop = ["--rate", options.rate]
    closed_loop = ["--closed-loop", "--in-flight", 1]
    with bench.start_broker() as broker:
        bench.create_topic(broker, TOPIC)

        def run(pace, seconds, what, connections=CONNECTIONS):
            arguments = produce_arguments(RECORD_BYTES, connections, pace, WARM_UP_S)
            return bench.noise.once(
                lambda: ended_ticks() + broker.cpu_ticks(),
                lambda: series_of(client.run(
                    PRODUCE, broker.address, TOPIC, *arguments, seconds=seconds, what=what
                ), PRODUCE),
            )

        def paused(pace, what, connections=CONNECTIONS):
            # The first pause well within the measured time, and no more than fit into it.
            with Pauser(broker.process.pid, pauses, WARM_UP_S + PERIOD_S / 2) as pauser:
                series = run(pace, window_s, what, connections)
            if len(pauser.lengths_s) != pauses:
                raise CannotMeasure(f"{len(pauser.lengths_s)} of {pauses} pauses were made")
            return series, pauser.lengths_s

        bench.noise.settle()
        say("quiet, and how much the broker can do")
        quiet = run(open_loop, PERIOD_S, "quiet")["latency"]
        capacity = run(["--closed-loop", "--in-flight", 16], PERIOD_S, "capacity")["records_per_s"]
        say(f"{pauses} pauses under an open loop")
        series, lengths_s = paused(open_loop, "open loop")
        say(f"{pauses} pauses under a closed loop")
        closed, _ = paused(closed_loop, "closed loop", connections=1)
    found = check(series["latency"], quiet, lengths_s, PERIOD_S, options.rate, capacity)
    tell(found, series, quiet, closed["latency"], lengths_s, capacity, bench, options)
    return 0 if all(checked.holds for checked in found) else 1


def tell(found, series, quiet, closed, lengths_s, capacity, bench, options):
    """Prints the proof, as one JSON object if asked for."""
    pause_s = statistics.mean(lengths_s)
    either, above = tolerance(0.99, pause_s, PERIOD_S, options.rate, capacity)
    lines = [
        f"{len(lengths_s)} pauses of {pause_s * 1000:.1f} ms, one every {PERIOD_S:g} s; "
        f"{series['records_per_s']:.0f} records/s of {options.rate:g}/s due",
        f"{'':8} {'measured':>10} {'computed':>10} {'off by':>9} {'allowed':>12}  "
        f"{'quiet':>8} {'closed loop':>12}",
    ]
    for checked in found:
        off_us = checked.measured_us - checked.expected_us
        numbers = (checked.measured_us, checked.expected_us, off_us, quiet[checked.name],
                   closed[checked.name])
        measured, expected, off, still, loop = (f"{value / 1000:.1f}" for value in numbers)
        allowed = f"-{checked.below_us / 1000:.1f}..+{checked.above_us / 1000:.1f}"
        lines.append(
            f"{label(checked.name):8} {measured:>10} {expected:>10} {off:>9} {allowed:>12}  "
            f"{still:>8} {loop:>12}  ms  {'holds' if checked.holds else 'DOES NOT HOLD'}"
        )
    lines += [f"allowed for p99: {in_ms(either)}; above also {in_ms(above)}", bench.noise.describe()]
    if options.json:
        say("\n".join(lines))
        print(json.dumps({
            checked.name: {
                "measured_us": checked.measured_us, "expected_us": checked.expected_us,
                "below_us": checked.below_us, "above_us": checked.above_us, "holds": checked.holds,
                "quiet_us": quiet[checked.name], "closed_loop_us": closed[checked.name],
            } for checked in found
        }))
    else:
        print("\n".join(lines))


def in_ms(parts):
    """Parts of a tolerance as words."""
    return ", ".join(f"{name} {part_s * 1000:.1f} ms" for name, part_s in parts.items())


def label(name):
    """`p99_9_us` as p99.9."""
    return name.removesuffix("_us").replace("_", ".")
