"""kafka-get-offsets, kafka-delete-records, kafka-log-dirs; and what asks about the whole node."""

from step import ByDesign, File, Mark, Order, Step, Suite

KEYED = "--reader-property parse.key=true --reader-property key.separator=:"


def lines(first, count):
    return "".join(f"key-{n}:value-{n}\n" for n in range(first, first + count))


def offsets(name, options, topic="go-one", **more):
    return Step(name, f"get-offsets --topic {topic} {options}", **more)


GET_OFFSETS = Suite(
    "get-offsets",
    [
        Step("topic", "topics --create --topic go-one --partitions 3", silent=True),
        Step("topic", "topics --create --topic go-empty", silent=True),
        Step("fill", f"console-producer --topic go-one {KEYED}", stdin=lines(0, 20), silent=True),
        Mark("middle"),
        Step("fill", f"console-producer --topic go-one {KEYED}", stdin=lines(20, 9), silent=True),
        Mark("last"),
        Step("fill", f"console-producer --topic go-one {KEYED}", stdin=lines(7, 1), silent=True),
        offsets("by default", ""),
        *(
            offsets(f"time {time}", f"--time {time}")
            for time in (
                *("-1", "-2", "-4", "-5", "-6"),
                *("latest", "earliest", "earliest-local", "latest-tiered"),
            )
        ),
        # The other partitions' last records may have the same time or not.
        *(
            offsets(f"time {time}", f"--partitions 1 --time {time}")
            for time in ("-3", "max-timestamp")
        ),
        offsets("since the last mark", "--time {last_ms}"),
        offsets("long ago", "--time 0"),
        offsets("between", "--time {middle_ms}"),
        offsets("in the future", "--time 3000000000000"),
        *(
            offsets(f"empty, time {time}", f"--time {time}", "go-empty")
            for time in ("-1", "-2", "-3", "0")
        ),
        offsets("bad time", "--time soon", code=1),
        offsets("negative time", "--time -100"),
        offsets("some partitions", "--partitions 0,2"),
        offsets("unknown partition", "--partitions 7", code=1),
        offsets("bad partition", "--partitions one", code=1),
        offsets("by pattern", "", "'go-.*'"),
        offsets("unknown topic", "", "go-unknown", code=1),
        Step("partitions by pattern", "get-offsets --topic-partitions 'go-o.*:1-2,go-empty'"),
        Step("both", "get-offsets --topic go-one --topic-partitions go-one:0", code=1),
        Step(
            "without internal",
            "get-offsets --exclude-internal-topics --topic-partitions 'go-.*,__consumer_offsets:0'",
        ),
    ],
)


def document(*partitions):
    rows = ",".join(
        f'{{{{"topic":"{topic}","partition":{partition},"offset":{offset}}}}}'
        for topic, partition, offset in partitions
    )
    return f'{{{{"version":1,"partitions":[{rows}]}}}}'


def deletes(name, *partitions, text=None, **more):
    """The document's file, and the step that hands it over."""
    file = f"delete-{name.replace(' ', '-').replace(',', '')}.json"
    return (
        File(file, text or document(*partitions)),
        Step(
            name,
            f"delete-records --offset-json-file {{dir}}/{file}"
            " --command-config {dir}/hasty.properties",
            order=Order.SORTED,
            **more,
        ),
    )


DELETE_RECORDS = Suite(
    "delete-records",
    [
        Step("topic", "topics --create --topic dr-one --partitions 3", silent=True),
        Step("fill", f"console-producer --topic dr-one {KEYED}", stdin=lines(0, 30), silent=True),
        # An unknown topic may come to be: the tool asks for it until its time is up.
        File("hasty.properties", "request.timeout.ms=1000\ndefault.api.timeout.ms=2000\n"),
        *deletes("to an offset", ("dr-one", 0, 3)),
        Step("beginnings", "get-offsets --topic dr-one --time -2"),
        *deletes("again", ("dr-one", 0, 3)),
        *deletes("below the beginning", ("dr-one", 0, 1)),
        *deletes("beyond the end", ("dr-one", 0, 1000)),
        *deletes("two partitions", ("dr-one", 1, 2), ("dr-one", 2, 1)),
        *deletes("to the end", ("dr-one", 2, -1)),
        *deletes("bad offset", ("dr-one", 1, -2)),
        *deletes("unknown topic", ("dr-unknown", 0, 1)),
        *deletes("unknown partition", ("dr-one", 9, 1)),
        *deletes("one of two unknown", ("dr-one", 1, 3), ("dr-one", 9, 1)),
        *deletes("a partition twice", ("dr-one", 1, 3), ("dr-one", 1, 4), code=1),
        *deletes("no version", text='{{"partitions":[]}}'),
        *deletes("other version", text='{{"version":2,"partitions":[]}}', code=1),
        *deletes("no partitions", text='{{"version":1}}', code=1),
        *deletes("no document", text="nothing", code=1),
        *deletes("no topic name", text='{{"version":1,"partitions":[{{"partition":0}}]}}', code=1),
        Step("no file", "delete-records --offset-json-file {dir}/absent.json", code=1),
        Step("beginnings after all", "get-offsets --topic dr-one --time -2"),
        Step("ends after all", "get-offsets --topic dr-one --time -1"),
        Step(
            "what is left",
            "console-consumer --topic dr-one --from-beginning --timeout-ms 2000"
            " --formatter-property print.offset=true --formatter-property print.partition=true",
            order=Order.SORTED,
        ),
        Step(
            "read what is gone",
            "console-consumer --topic dr-one --partition 0 --offset 1"
            " --max-messages 1 --timeout-ms 15000 --formatter-property print.offset=true"
            " --command-property auto.offset.reset=earliest",
        ),
    ],
)

SIZES = (r'"size":\d+', '"size":N')
DIRECTORY = (r'"logDir":"[^"]+"', '"logDir":"DIR"')
LOG_DIRS = Suite(
    "log-dirs",
    [
        Step("topic", "topics --create --topic ld-one --partitions 2", silent=True),
        Step("topic", "topics --create --topic ld-two", silent=True),
        Step("fill", f"console-producer --topic ld-one {KEYED}", stdin=lines(0, 9), silent=True),
        Step(
            "two topics", "log-dirs --describe --topic-list ld-one,ld-two", hide=(SIZES, DIRECTORY)
        ),
        Step(
            "a topic of a broker",
            "log-dirs --describe --broker-list 1 --topic-list ld-two",
            hide=(SIZES, DIRECTORY),
        ),
        Step("unknown topic", "log-dirs --describe --topic-list ld-unknown", hide=(DIRECTORY,)),
        Step("unknown broker", "log-dirs --describe --broker-list 7", code=1),
        Step("bad broker", "log-dirs --describe --broker-list seven", code=1),
        Step("no describe", "log-dirs --topic-list ld-one", code=1),
    ],
)


def not_served(name, command, request, **more):
    return Step(name, command, by_design=ByDesign(f"{request} is not served", ""), **more)


NODE = Suite(
    "node",
    [
        Step("cluster id", "cluster cluster-id"),
        Step("endpoints", "cluster list-endpoints"),
        Step("fenced endpoints", "cluster list-endpoints --include-fenced-brokers"),
        not_served("unregister", "cluster unregister --id 7", "UnregisterBroker", code=1),
        Step(
            "api versions",
            "broker-api-versions",
            by_design=ByDesign(
                "Highwater serves no transactions, access control or new group protocols",
                r"^ \w+\(\d+\): ",
            ),
        ),
        Step(
            "features",
            "features describe",
            by_design=ByDesign(
                "Highwater has no levels of features to switch",
                r"^Feature: ",
            ),
        ),
        not_served("quorum", "metadata-quorum describe --status", "DescribeQuorum"),
        not_served("transactions", "transactions list", "ListTransactions"),
        not_served("access lists", "acls --list", "DescribeAcls", code=1),
        not_served(
            "leader election",
            "leader-election --election-type preferred --all-topic-partitions",
            "ElectLeaders",
        ),
        not_served("reassignments", "reassign-partitions --list", "ListPartitionReassignments"),
    ],
)

SUITES = (GET_OFFSETS, DELETE_RECORDS, LOG_DIRS, NODE)
