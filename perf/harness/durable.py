"""Durable appends: one in flight, 64 connections, large batches, and forwarding between cores."""

from .bench import Line, at_least, at_most, median
from .machine import CannotMeasure, say

CONNECTIONS = 64
# What is asked of a produce path, however fast the device is, in GB/s.
BATCHED_GB_PER_S_MAX = 1.2
FORWARD_ATTEMPTS = 6


def measure_durable(bench):
    """Round by round: the yardstick, then the broker, each with 1 and with 64 connections."""
    single = {"floor": [], "broker": []}
    many = {"floor": [], "broker": []}
    for number in range(1, bench.rounds + 1):
        say(f"durable appends, round {number} of {bench.rounds}")
        with bench.durable_server() as server:
            single["floor"].append(bench.append("floor", server))
            many["floor"].append(bench.append("floor", server, "--connections", CONNECTIONS))
        with bench.start_broker() as broker:
            bench.create_topic(broker, "floor")
            single["broker"].append(bench.append("kafka", broker))
            many["broker"].append(bench.append("kafka", broker, "--connections", CONNECTIONS))
    lines = [
        at_most(*compare("durable_p50_ratio", "1 KiB, one in flight, p50", "us", single,
                         "p50_us"), 1.3),
        at_most(*compare("durable_p99_ratio", "1 KiB, one in flight, p99", "us", single,
                         "p99_us"), 2.0),
        at_least(*compare("durable_64_rate_ratio", f"1 KiB, {CONNECTIONS} connections", "/s",
                          many, "rate_per_s"), 0.70),
    ]
    for name, what in (("p50_us", "p50"), ("p99_us", "p99")):
        line, value = compare("", f"  the same, {what}", "us", many, name)
        line.value = value
        lines.append(line)
    return lines


def compare(key, what, unit, samples, name):
    """A line of both sides' samples and the ratio of their medians, broker over floor."""
    floor = [sample[name] for sample in samples["floor"]]
    broker = [sample[name] for sample in samples["broker"]]
    line = Line(key, what, unit, floor, broker)
    return line, median(broker) / median(floor)


def measure_batched(bench):
    """Batches of 1 MiB against the device's own sequential direct write rate."""
    device, allocated, broker_rates = [], [], []
    for number in range(1, bench.rounds + 1):
        say(f"batched produce, round {number} of {bench.rounds}")
        rates = bench.device_rates()
        device.append(rates["written_gb_per_s"])
        allocated.append(rates["fallocated_gb_per_s"])
        with bench.start_broker() as broker:
            bench.create_topic(broker, "floor")
            figures = bench.append(
                "kafka", broker, "--batch-bytes", 1 << 20, "--in-flight", 4
            )
            broker_rates.append(figures["mb_per_s"] / 1000)
    attainable = min(median(device), BATCHED_GB_PER_S_MAX)
    line = Line("batched_write_ratio", "1 MiB batches, 4 in flight", "GB/s", device, broker_rates)
    line.note = f"of min(device, {BATCHED_GB_PER_S_MAX} GB/s)"
    at_least(line, median(broker_rates) / attainable, 0.70)
    return [line, Line("", "  device, allocated blocks", "GB/s", allocated)]


def measure_forwarded(bench):
    """One connection on core 0: a partition of core 0 against a partition of core 1.

    Which core owns what is not assumed: a run that moved bytes between cores was forwarded, and
    the core that counted its requests is the one its connection lives on.
    """
    local, forwarded = [], []
    with bench.start_broker(cores=2, settings=["steering=false"]) as broker:
        bench.create_topic(broker, "floor", partitions=2)
        for number in range(1, bench.rounds + 1):
            say(f"forwarding between cores, round {number} of {bench.rounds}")
            pair = forwarding_pair(bench, broker)
            local.append(pair[False])
            forwarded.append(pair[True])
    line = Line("forwarded_p50_ratio", "forwarded against local, p50", "us", local, forwarded)
    line.note = "floor column: the broker, not forwarded"
    return [at_most(line, median(forwarded) / median(local), 1.2)]


def forwarding_pair(bench, broker):
    """One local and one forwarded p50 of connections on core 0.

    The broker deals new connections to its cores in turn, so both kinds turn up after a few runs.
    """
    pair = {}
    for attempt in range(FORWARD_ATTEMPTS):
        partition = attempt // 2 % 2
        before = broker.counters()
        figures = bench.append("kafka", broker, "--partition", partition)
        after = broker.counters()
        forwarded = moved(before, after, "forwarded_bytes") > 0
        if busiest_core(before, after) == 0:
            pair.setdefault(forwarded, figures["p50_us"])
        if len(pair) == 2:
            return pair
    raise CannotMeasure(
        f"{FORWARD_ATTEMPTS} connections brought no pair of a local and a forwarded partition "
        "on core 0; does the broker deal connections to its cores in turn, and is "
        "steering=false heeded?"
    )


def moved(before, after, name):
    """How much a counter, summed over the cores, has grown."""
    return sum(core[name] for core in after) - sum(core[name] for core in before)


def busiest_core(before, after):
    """The core that counted most requests in between."""
    grown = {core["core"]: core["requests"] for core in after}
    for core in before:
        grown[core["core"]] -= core["requests"]
    return max(grown, key=grown.get)
