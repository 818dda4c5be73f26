"""Reading: the hot tail, and cold segments against plain sendfile."""

from functools import partial

from .bench import Line, at_least, median
from .machine import drop_page_cache, say

# Small enough for any tail cache, large enough not to be one response.
HOT_BYTES = 16 << 20
# A cold read is over in half a second and depends on what the device (or the host below it) has in
# its own cache; many short alternating pairs even that out.
COLD_PAIRS_PER_ROUND = 4


def measure_hot(bench):
    """Fetches what was just produced, over and over, beside a sendfile of cached pages."""
    floor, broker_rates = [], []
    for number in range(1, bench.rounds + 1):
        say(f"hot consume, round {number} of {bench.rounds}")
        window = ["--seconds", bench.seconds, "--warm-up-seconds", 0.5]
        with bench.sendfile_server() as server:
            # The same amount over and over, so that both sides are equally kind to the caches.
            figures = bench.fetch("floor", server, *window, "--file-bytes", HOT_BYTES)
            floor.append(figures["gb_per_s"])
        with bench.start_broker() as broker:
            bench.create_topic(broker, "hot")
            bench.fill(broker, "hot", HOT_BYTES)
            figures = bench.fetch("kafka", broker, *window, "--topic", "hot")
            broker_rates.append(figures["gb_per_s"])
    line = Line("hot_consume_gbps", "hot consume, 1 MiB a fetch", "GB/s", floor, broker_rates)
    line.note = "absolute; floor column: sendfile, pages cached"
    return [at_least(line, median(broker_rates), 2.5)]


def measure_cold(bench):
    """Reads a log once with nothing cached, against a sendfile of an equally cold file."""
    rates = {"floor": [], "broker": []}
    warm = {"floor": [], "broker": []}
    say("writing the log that is read cold")
    with bench.start_broker() as broker:
        bench.create_topic(broker, "cold")
        bench.fill(broker, "cold", bench.fill_bytes)
    for number in range(1, bench.rounds * COLD_PAIRS_PER_ROUND + 1):
        say(f"cold consume, pair {number} of {bench.rounds * COLD_PAIRS_PER_ROUND}")
        with bench.sendfile_server() as server:
            arguments = ["--file-bytes", bench.fill_bytes]
            drop = partial(drop_page_cache, bench.work / "sendfile-floor")
            rates["floor"].append(read(bench, "floor", server, arguments, drop))
            warm["floor"].append(read(bench, "floor", server, arguments))
        # A restarted broker has an empty tail cache.
        with bench.start_broker(fresh=False) as broker:
            arguments = ["--topic", "cold"]
            drop = partial(drop_page_cache, bench.data_dir)
            rates["broker"].append(read(bench, "kafka", broker, arguments, drop))
            warm["broker"].append(read(bench, "kafka", broker, arguments))
    line = Line("cold_consume_ratio", "cold consume, 1 MiB a fetch", "GB/s", **rates)
    at_least(line, median(rates["broker"]) / median(rates["floor"]), 0.80)
    second = Line("", "  again, pages cached", "GB/s", **warm)
    second.value = median(warm["broker"]) / median(warm["floor"])
    return [line, second]


def read(bench, protocol, server, arguments, prepare=lambda: None):
    """GB/s of reading everything once."""
    return bench.fetch(protocol, server, *arguments, prepare=prepare)["gb_per_s"]
