"""kafka-topics: create, describe, alter, list, delete, and what goes wrong with each."""

from step import ByDesign, Order, Step, Suite

TOPICS = Suite(
    "topics",
    [
        Step("create", "topics --create --topic t-one --partitions 3 --replication-factor 1"),
        Step("create with defaults", "topics --create --topic t-default"),
        Step(
            "create with configuration",
            "topics --create --topic t-config --partitions 2"
            " --config retention.ms=3600000 --config max.message.bytes=2000000",
        ),
        Step(
            "create with assignment", "topics --create --topic t-assigned --replica-assignment 1,1"
        ),
        Step("create that exists", "topics --create --topic t-one --partitions 3", code=1),
        Step("create if not exists", "topics --create --if-not-exists --topic t-one"),
        Step("create, a name with dot", "topics --create --topic t.dotted"),
        Step(
            "create, names that collide",
            "topics --create --topic t_dotted",
            code=1,
            by_design=ByDesign(
                "no metric is named after a topic, so t.x and t_x may both exist",
                r"t_dotted|^exit code|WORDING$|^ \(org.apache.kafka.tools.TopicCommand\)$",
            ),
        ),
        Step("not collided", "topics --delete --topic t_dotted --if-exists", silent=True),
        Step("create, bad name", "topics --create --topic 'no/good'", code=1),
        Step("create, name too long", f"topics --create --topic {'x' * 250}", code=1),
        Step("create, no partitions", "topics --create --topic t-none --partitions 0", code=1),
        Step(
            "create, too many replicas",
            "topics --create --topic t-three --replication-factor 3",
            code=1,
        ),
        Step("create, no replicas", "topics --create --topic t-bad --replication-factor 0", code=1),
        Step("create, reserved name", "topics --create --topic __cluster_metadata", code=1),
        Step("create, a dot", "topics --create --topic .", code=1),
        Step("create, no name", "topics --create --topic ''", code=1),
        Step(
            "create, far too many",
            "topics --create --topic t-bad --partitions 200000",
            code=1,
            by_design=ByDesign(
                "other limits: partitions_max of the node, not 10000 a request",
                r"^ERROR .*(PolicyViolation|InvalidPartitions)Exception",
            ),
        ),
        Step(
            "create, unknown configuration",
            "topics --create --topic t-bad --config no.such.key=1",
            code=1,
        ),
        Step(
            "create, bad configuration value",
            "topics --create --topic t-bad --config retention.ms=soon",
            code=1,
        ),
        Step(
            "create, configuration out of range",
            "topics --create --topic t-bad --config min.insync.replicas=0",
            code=1,
        ),
        Step(
            "create, assigned to an unknown broker",
            "topics --create --topic t-bad --replica-assignment 7",
            code=1,
        ),
        Step("list", "topics --list"),
        Step("list by pattern", "topics --list --topic 't-(one|default)'"),
        Step("list without internal", "topics --list --exclude-internal"),
        Step("describe", "topics --describe --topic t-one"),
        Step(
            "describe for its id",
            "topics --describe --topic t-one",
            silent=True,
            capture=("topic_id", r"TopicId: (\S+)"),
        ),
        Step("describe by id", "topics --describe --topic-id {topic_id}"),
        Step("describe with configuration", "topics --describe --topic t-config"),
        Step("describe by pattern", "topics --describe --topic 't-.*'", order=Order.SORTED),
        Step("describe all", "topics --describe --exclude-internal", order=Order.SORTED),
        Step(
            "describe one page each",
            "topics --describe --topic t-one --partition-size-limit-per-response 1",
        ),
        Step("describe unknown", "topics --describe --topic t-unknown", code=1),
        Step("describe unknown if exists", "topics --describe --topic t-unknown --if-exists"),
        Step(
            "describe unknown id",
            "topics --describe --topic-id 8BgmfpMLTiOgkoyeUgo2VA",
            code=1,
        ),
        Step("describe under-replicated", "topics --describe --under-replicated-partitions"),
        Step("describe unavailable", "topics --describe --unavailable-partitions"),
        Step("describe under min isr", "topics --describe --under-min-isr-partitions"),
        Step(
            "describe at min isr",
            "topics --describe --at-min-isr-partitions --exclude-internal",
            order=Order.SORTED,
        ),
        Step(
            "describe with overrides",
            "topics --describe --topics-with-overrides --exclude-internal",
            order=Order.SORTED,
        ),
        Step("alter", "topics --alter --topic t-one --partitions 5"),
        Step("alter, described", "topics --describe --topic t-one"),
        Step(
            "alter, assigned",
            "topics --alter --topic t-default --partitions 2 --replica-assignment 1,1",
        ),
        Step(
            "alter, assigned too little",
            "topics --alter --topic t-default --partitions 4 --replica-assignment 1,1",
            code=1,
        ),
        Step(
            "alter, assigned to an unknown broker",
            "topics --alter --topic t-default --partitions 3 --replica-assignment 1,1,7",
            code=1,
        ),
        Step("alter to as many", "topics --alter --topic t-one --partitions 5", code=1),
        Step("alter to fewer", "topics --alter --topic t-one --partitions 2", code=1),
        Step("alter unknown", "topics --alter --topic t-unknown --partitions 2", code=1),
        Step(
            "alter unknown if exists",
            "topics --alter --topic t-unknown --partitions 2 --if-exists",
        ),
        Step("delete", "topics --delete --topic t-one"),
        Step("delete by pattern", "topics --delete --topic 't-(config|assigned)'"),
        Step("delete unknown", "topics --delete --topic t-unknown", code=1),
        Step("delete unknown if exists", "topics --delete --topic t-unknown --if-exists"),
        Step("list after deletion", "topics --list --exclude-internal"),
        Step("create again", "topics --create --topic t-one --partitions 1"),
        Step("describe again", "topics --describe --topic t-one"),
        Step(
            "create with two in sync",
            "topics --create --topic t-sync --config min.insync.replicas=2",
            by_design=ByDesign(
                "a topic that no acks=all could ever be written to is refused at once",
                r"^exit code|t-sync|WORDING$|^ \(org.apache.kafka.tools.TopicCommand\)$",
            ),
        ),
        Step("clean up", "topics --delete --topic 't[-.].*'"),
        Step("list nothing", "topics --list --exclude-internal"),
    ],
)

SUITES = (TOPICS,)
