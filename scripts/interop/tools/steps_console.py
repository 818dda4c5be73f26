"""kafka-console-producer and kafka-console-consumer."""

from step import ByDesign, Order, Step, Suite

FORMAT = "org.apache.kafka.tools.consumer"
# Reads until nothing came for that long, which ends with exit code 0.
IDLE = "--timeout-ms 2000"

PRODUCER = Suite(
    "console-producer",
    [
        Step("topic", "topics --create --topic p-one --partitions 1", silent=True),
        Step("lines", "console-producer --topic p-one", stdin="one\ntwo\nthree\n"),
        Step("no lines", "console-producer --topic p-one"),
        Step(
            "acks=0", "console-producer --topic p-one --request-required-acks 0", stdin="acks-0\n"
        ),
        Step(
            "acks=1", "console-producer --topic p-one --request-required-acks 1", stdin="acks-1\n"
        ),
        Step(
            "acks=all",
            "console-producer --topic p-one --request-required-acks all",
            stdin="acks-all\n",
        ),
        Step("one at a time", "console-producer --topic p-one --sync", stdin="s-1\ns-2\n"),
        *(
            Step(
                f"compressed, {codec}",
                f"console-producer --topic p-one --compression-codec {codec}",
                stdin=f"{codec}-1\n{codec}-2\n",
            )
            for codec in ("none", "gzip", "snappy", "lz4", "zstd")
        ),
        Step(
            "keys",
            "console-producer --topic p-one --reader-property parse.key=true"
            " --reader-property key.separator=:",
            stdin="k1:v1\nk2:v2:more\n:empty\n",
        ),
        Step(
            "headers, key and null marker",
            "console-producer --topic p-one --reader-property parse.key=true"
            " --reader-property parse.headers=true --reader-property null.marker=NULL",
            stdin="h1:a,h2:b\tkey\tvalue\nh1:NULL\tNULL\tNULL\nNULL\tkey\tvalue\n",
        ),
        Step(
            "no separator in a line",
            "console-producer --topic p-one --reader-property parse.key=true",
            stdin="nothing\n",
            code=1,
        ),
        Step(
            "no separator, ignored",
            "console-producer --topic p-one --reader-property parse.key=true"
            " --reader-property ignore.error=true",
            stdin="nothing\n",
        ),
        Step(
            "not idempotent",
            "console-producer --topic p-one --command-property enable.idempotence=false",
            stdin="plain\n",
        ),
        Step(
            "too large for the producer",
            "console-producer --topic p-one --command-property max.request.size=100",
            stdin="x" * 200 + "\n",
        ),
        Step(
            "topic of small records",
            "topics --create --topic p-small --config max.message.bytes=100",
            silent=True,
        ),
        Step("too large for the topic", "console-producer --topic p-small", stdin="x" * 200 + "\n"),
        Step(
            "too large for the topic, one at a time",
            "console-producer --topic p-small --sync",
            stdin="x" * 200 + "\n",
            code=1,
        ),
        Step(
            "internal topic",
            "console-producer --topic __consumer_offsets"
            " --command-property delivery.timeout.ms=3000 --command-property"
            " request.timeout.ms=1000",
            stdin="never\n",
        ),
        Step(
            "topic of append times",
            "topics --create --topic p-append --config message.timestamp.type=LogAppendTime",
            silent=True,
        ),
        Step(
            "append times",
            "console-producer --topic p-append --compression-codec lz4",
            stdin="a\nb\nc\n",
        ),
        Step(
            "append times, read",
            "console-consumer --topic p-append --from-beginning"
            " --max-messages 3 --timeout-ms 15000 --formatter-property print.timestamp=true",
        ),
        Step("append times, the latest", "get-offsets --topic p-append --time -3"),
        Step(
            "bad topic name",
            "console-producer --topic 'no/good' --max-block-ms 3000",
            stdin="lost\n",
        ),
        Step("topic made by asking", "console-producer --topic p-made", stdin="first\n"),
        Step("topic made by asking, described", "topics --describe --topic p-made"),
        Step(
            "no broker",
            "console-producer --topic p-one --max-block-ms 1000"
            " --command-property bootstrap.servers=127.0.0.1:1",
            stdin="lost\n",
            hide=((r"^WARN .*NetworkClient.*\n", ""),),
        ),
        Step(
            "all that arrived",
            f"console-consumer --topic p-one --from-beginning {IDLE}"
            " --formatter-property print.key=true --formatter-property print.headers=true"
            " --formatter-property print.offset=true --formatter-property print.partition=true",
        ),
        Step(
            "what arrived of small records",
            f"console-consumer --topic p-small --from-beginning {IDLE}"
            " --formatter-property print.offset=true",
        ),
    ],
)


def reads(name, options, records=None, **more):
    """A step that reads c-one, three partitions: so many records, or until no more come."""
    end = f"--max-messages {records} --timeout-ms 15000" if records else IDLE
    return Step(name, f"console-consumer --topic c-one {end} {options}", **more)


def shows(*properties):
    return " ".join(f"--formatter-property {word}" for word in properties)


def internal(name, formatter, by_design=None):
    """A step that reads what was committed for groups with a name: a document a line."""
    return Step(
        name,
        f"console-consumer --topic __consumer_offsets --from-beginning {IDLE}"
        f" --formatter {FORMAT}.{formatter}",
        order=Order.SET,
        hide=(
            (r"\}\{", "}\n{"),
            (r'^\{"key".*"group":"(?!c-).*\n?', ""),
            (r"total of \d+", "total of N"),
        ),
        by_design=by_design,
    )


CLASSIC_ONLY = ByDesign("Highwater has the classic group protocol only", "")

CONSUMER = Suite(
    "console-consumer",
    [
        Step("topic", "topics --create --topic c-one --partitions 3", silent=True),
        Step(
            "fill",
            "console-producer --topic c-one --reader-property parse.key=true"
            " --reader-property key.separator=:",
            stdin="".join(f"key-{n}:value-{n}\n" for n in range(20)),
            silent=True,
        ),
        reads("from the beginning", "--from-beginning", order=Order.SORTED),
        reads("a partition", "--partition 0 --offset earliest"),
        reads("a partition by offset", "--partition 1 --offset 2"),
        reads("a partition's end", "--partition 2 --offset latest"),
        reads("a partition, some", "--partition 0 --offset 1", records=2),
        reads("beyond the end", "--partition 0 --offset 1000"),
        reads(
            "beyond the end, no reset",
            "--partition 0 --offset 1000 --command-property auto.offset.reset=none",
        ),
        reads("unknown partition", "--partition 9 --offset earliest"),
        reads("offset without partition", "--offset 3", code=1),
        reads("bad offset", "--partition 0 --offset soon", code=1),
        Step("no topic", "console-consumer --from-beginning", code=1),
        Step("bad topic name", "console-consumer --topic 'no/good' --timeout-ms 3000"),
        Step(
            "unknown topic, not made",
            "console-consumer --topic c-unknown --timeout-ms 3000"
            " --command-property allow.auto.create.topics=false",
        ),
        Step(
            "unknown topic's partition",
            "console-consumer --topic c-unknown --partition 0"
            " --offset earliest --timeout-ms 2000 --command-property"
            " allow.auto.create.topics=false",
        ),
        Step(
            "two topics by pattern",
            f"console-consumer --include 'c-one|p-append' --from-beginning {IDLE}",
            order=Order.SORTED,
        ),
        Step(
            "topics by pattern",
            f"console-consumer --include 'c-o.*' --from-beginning {IDLE}",
            order=Order.SORTED,
        ),
        reads(
            "read committed",
            "--from-beginning --isolation-level read_committed",
            records=20,
            order=Order.SORTED,
        ),
        reads(
            "every property",
            "--partition 0 --offset earliest "
            + shows(
                "print.timestamp=true",
                "print.key=true",
                "print.offset=true",
                "print.epoch=true",
                "print.partition=true",
                "print.headers=true",
                "key.separator=|",
            ),
            records=6,
        ),
        reads(
            "keys, no values",
            "--partition 0 --offset earliest " + shows("print.key=true", "print.value=false"),
            records=6,
        ),
        reads(
            "line separator",
            "--partition 0 --offset earliest " + shows("line.separator=;"),
            records=6,
        ),
        reads(
            "a deserializer that fails",
            "--partition 0 --offset earliest --value-deserializer"
            " org.apache.kafka.common.serialization.LongDeserializer",
            code=1,
        ),
        reads(
            "a deserializer that fails, skipped",
            "--partition 0 --offset earliest"
            " --skip-message-on-error --value-deserializer"
            " org.apache.kafka.common.serialization.LongDeserializer",
        ),
        reads("lifecycle events", "--from-beginning --enable-systest-events", order=Order.SORTED),
        reads(
            "logging formatter",
            f"--partition 0 --offset earliest --formatter {FORMAT}.LoggingMessageFormatter",
        ),
        reads(
            "no formatter",
            f"--partition 0 --offset earliest --formatter {FORMAT}.NoOpMessageFormatter",
        ),
        reads(
            "with a group, some",
            "--group c-group --from-beginning",
            records=7,
            hide=((r"^value-\d+$", "value"),),
        ),
        reads(
            "with a group, the rest",
            "--group c-group --from-beginning",
            hide=((r"^value-\d+$", "value"),),
        ),
        reads("with a group, nothing left", "--group c-group --from-beginning"),
        reads("two groups", "--group c-group --command-property group.id=other", code=1),
        reads(
            "static member",
            "--group c-static --from-beginning --command-property group.instance.id=one",
            records=20,
            order=Order.SORTED,
        ),
        reads(
            "cooperative",
            "--group c-cooperative --from-beginning --command-property"
            " partition.assignment.strategy="
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            records=20,
            order=Order.SORTED,
        ),
        reads(
            "no group, no commits",
            "--group c-manual --from-beginning --command-property enable.auto.commit=false",
            records=20,
            order=Order.SORTED,
        ),
        reads(
            "no group, no commits, again",
            "--group c-manual --from-beginning --command-property enable.auto.commit=false",
            records=20,
            order=Order.SORTED,
        ),
        reads(
            "bad session timeout",
            "--group c-session --command-property"
            " session.timeout.ms=100 --command-property heartbeat.interval.ms=30",
        ),
        reads("empty group id", "--group ''", code=1),
        reads(
            "the new protocol",
            "--group c-new --from-beginning --command-property group.protocol=consumer",
            records=20,
            order=Order.SORTED,
            by_design=CLASSIC_ONLY,
        ),
        internal(
            "committed offsets",
            "OffsetsMessageFormatter",
            ByDesign(
                "Highwater writes version 3 of the value, one that Kafka reads and has written",
                r'"version":[34],',
            ),
        ),
        internal(
            "groups' metadata",
            "GroupMetadataMessageFormatter",
            ByDesign(
                "Kafka also writes a group before its first rebalance, and removes one without"
                " offsets later",
                r'"generation":0,|"group":"c-manual"\}\},"value":null\}$',
            ),
        ),
    ],
)

SUITES = (PRODUCER, CONSUMER)
