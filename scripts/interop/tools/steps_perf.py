"""The performance tools, and the verifiable producer and consumer of Kafka's own tests."""

from step import ByDesign, File, Order, Step, Suite

RATES = (r"[\d.]+ (records/sec|MB/sec|ms)", r"N \1")


def produces(name, options, **more):
    return Step(name, f"producer-perf-test --topic perf-one {options}", hide=(RATES,), **more)


PRODUCER = Suite(
    "producer-perf-test",
    [
        Step("topic", "topics --create --topic perf-one --partitions 1", silent=True),
        produces("records", "--num-records 5000 --record-size 100 --throughput -1"),
        produces(
            "acks=all, zstd",
            "--num-records 1000 --record-size 1000 --throughput -1"
            " --command-property acks=all compression.type=zstd",
        ),
        produces(
            "acks=0",
            "--num-records 1000 --record-size 100 --throughput -1 --command-property acks=0",
        ),
        produces("throttled", "--num-records 200 --record-size 10 --throughput 1000"),
        produces("counting", "--num-records 100 --payload-monotonic --throughput -1"),
        File("payload.txt", "first\nsecond\nthird\n"),
        produces(
            "from a file", "--num-records 100 --payload-file {dir}/payload.txt --throughput -1"
        ),
        produces(
            "warmed up", "--num-records 1000 --record-size 10 --throughput -1 --warmup-records 100"
        ),
        produces(
            "too large",
            "--num-records 1 --record-size 1048500 --throughput -1"
            " --command-property max.request.size=2000000",
        ),
        produces("no size", "--num-records 1 --throughput -1", code=1),
        Step("how many", "get-offsets --topic perf-one"),
        produces(
            "in transactions",
            "--num-records 10 --record-size 10 --throughput -1 --transactional-id perf-tx",
            by_design=ByDesign("there are no transactions", ""),
        ),
    ],
)

# time, time, MB, MB/s, records, records/s, rebalance ms, fetch ms, MB/s, records/s
MEASURED = (
    r"^DATETIME, DATETIME, ([\d.]+), [\d.]+, (\d+), .*",
    r"DATETIME, DATETIME, \1, N, \2, N",
)


def consumes(name, options, **more):
    return Step(name, f"consumer-perf-test --topic perf-two {options}", hide=(MEASURED,), **more)


CONSUMER = Suite(
    "consumer-perf-test",
    [
        Step("topic", "topics --create --topic perf-two --partitions 1", silent=True),
        Step(
            "fill",
            "producer-perf-test --topic perf-two --num-records 5000 --record-size 100"
            " --throughput -1",
            silent=True,
        ),
        consumes("records", "--num-records 5000"),
        consumes("no header", "--num-records 5000 --hide-header"),
        consumes("with a group", "--num-records 5000 --group perf-group"),
        consumes("nothing left", "--num-records 10 --group perf-group --timeout 1000"),
        consumes("more than there are", "--num-records 6000 --timeout 1000"),
        consumes("small fetches", "--num-records 5000 --fetch-size 1000"),
        consumes("no number", "", code=1),
    ],
)


TIMES = ByDesign(
    "timestamps are judged by the batch's header: the error is the batch's, not each record's",
    '"producer_send_error".*Invalid(Record|Timestamp)Exception',
)


def verifiable(name, options, topic="v-one", **more):
    hide = ((r'"avg_throughput":[\d.E]+', '"avg_throughput":N'),)
    return Step(name, f"verifiable-producer --topic {topic} {options}", hide=hide, **more)


VERIFIABLE = Suite(
    "verifiable",
    [
        Step("topic", "topics --create --topic v-one --partitions 1", silent=True),
        verifiable("records", "--max-messages 10"),
        verifiable("acks=0", "--max-messages 5 --acks 0"),
        verifiable("acks=1", "--max-messages 5 --acks 1"),
        verifiable("keys again and again", "--max-messages 6 --repeating-keys 3"),
        verifiable(
            "prefixed, timed",
            "--max-messages 3 --value-prefix 7 --throughput 100"
            " --message-create-time 1700000000000",
        ),
        Step(
            "topic",
            "topics --create --topic v-late --config message.timestamp.type=CreateTime"
            " --config message.timestamp.before.max.ms=3600000",
            silent=True,
        ),
        verifiable(
            "too old",
            "--max-messages 2 --message-create-time 1000",
            topic="v-late",
            by_design=TIMES,
        ),
        verifiable(
            "too new",
            "--max-messages 2 --message-create-time 4000000000000",
            topic="v-late",
            by_design=TIMES,
        ),
        verifiable("topic made by asking", "--max-messages 3", topic="v-made"),
        Step(
            "all of them",
            "console-consumer --topic v-one --partition 0 --offset earliest"
            " --max-messages 29 --timeout-ms 15000 --formatter-property print.key=true",
        ),
        Step(
            "consumer",
            "verifiable-consumer --topic v-one --group-id v-group --max-messages 29 --verbose",
            order=Order.SORTED,
        ),
        Step(
            "consumer again",
            "verifiable-consumer --topic v-one --group-id v-group --max-messages 1",
            code="timeout",
            limit_s=4,
            order=Order.SORTED,
        ),
        Step(
            "consumer, resets",
            "verifiable-consumer --topic v-one --group-id v-other"
            " --reset-policy latest --max-messages 1",
            code="timeout",
            limit_s=4,
            order=Order.SORTED,
        ),
    ],
)

LATENCY = Suite(
    "e2e-latency",
    [
        Step("topic", "topics --create --topic e2e-one --partitions 1", silent=True),
        Step(
            "one at a time",
            "e2e-latency --topic e2e-one --num-records 200 --producer-acks 1 --record-size 10",
            hide=((r"\d+(\.\d+)?", "N"),),
        ),
        Step(
            "acks=all",
            "e2e-latency --topic e2e-one --num-records 50 --producer-acks all --record-size 10",
            hide=((r"\d+(\.\d+)?", "N"),),
        ),
    ],
)

SUITES = (PRODUCER, CONSUMER, LATENCY, VERIFIABLE)
