"""What a broker costs beside time: allocations on the hot path, starting, idle partitions."""

import time

from .bench import Line, at_most, median
from .durable import moved
from .machine import CannotMeasure, say

TOPICS = 20
START_S_MAX = 10
IDLE_PARTITION_BYTES_MAX = 4096
# Below this it is background work (preparing a segment, say), not the path of a request.
ALLOCATIONS_PER_REQUEST_MAX = 0.005
SETTLE_S = 2


def measure_allocations(bench):
    """Counts allocations while produce and fetch run; connections and buffers exist by then."""
    samples = []
    for number in range(1, bench.rounds + 1):
        say(f"allocations, round {number} of {bench.rounds}")
        with bench.start_broker() as broker:
            samples.append(allocations_per_request(bench, broker))
    line = Line("hot_path_allocs_per_request", "allocations per request", "", [], samples)
    return [at_most(line, median(samples), ALLOCATIONS_PER_REQUEST_MAX)]


def allocations_per_request(bench, broker):
    """Both loads run through the whole window, so no connection is opened or closed in it."""
    bench.create_topic(broker, "hot", partitions=2)
    produce = ["--topic", "hot", "--partition", 1, "--connections", 4]
    bench.fill(broker, "hot", 16 << 20)
    warm_up_s, window_s = 2.0, bench.seconds
    timing = ["--seconds", window_s + 2, "--warm-up-seconds", warm_up_s]
    loads = [
        bench.load("durable-load", "kafka", broker, *timing, *produce),
        bench.load("fetch-load", "kafka", broker, *timing, "--topic", "hot"),
    ]
    time.sleep(warm_up_s)
    before = broker.counters()
    time.sleep(window_s)
    after = broker.counters()
    for load in loads:
        load.result()
    requests = moved(before, after, "requests")
    if requests == 0:
        raise CannotMeasure("the broker counted no request while it was loaded")
    return moved(before, after, "allocations") / requests


def measure_partitions(bench):
    """Starts with many partitions after a clean stop, and what each costs while idle."""
    say("resident memory without partitions")
    empty = []
    for _ in range(bench.rounds):
        with bench.start_broker(cores=2) as broker:
            time.sleep(SETTLE_S)
            empty.append(broker.resident_bytes())
    say(f"creating {bench.partitions} partitions")
    with bench.start_broker(cores=2) as broker:
        for topic in range(TOPICS):
            bench.create_topic(broker, f"idle-{topic}", bench.partitions // TOPICS)
    start_s, full = [], []
    for number in range(1, bench.rounds + 1):
        say(f"starting with {bench.partitions} partitions, round {number} of {bench.rounds}")
        bench.noise.settle()
        with bench.start_broker(cores=2, fresh=False) as broker:
            start_s.append(broker.ready_s)
            time.sleep(SETTLE_S)
            full.append(broker.resident_bytes())
    starts = Line("start_20k_partitions_s", f"start with {bench.partitions} partitions", "s",
                  [], start_s)
    idle = Line("idle_partition_bytes", "memory of an idle partition", "B", [],
                [(resident - median(empty)) / bench.partitions for resident in full])
    return [
        at_most(starts, median(start_s), START_S_MAX),
        at_most(idle, median(idle.broker), IDLE_PARTITION_BYTES_MAX),
    ]
