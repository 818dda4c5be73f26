"""kafka-configs, for topics, brokers and what else has configuration."""

from step import ByDesign, File, Order, Step, Suite


def configs(name, options, **more):
    return Step(name, f"configs {options}", **more)


KEYS = ByDesign(
    "no effect here: all is on disk at once, nothing is recompressed or kept elsewhere",
    r"^ (compression\.\w+\.level|flush\.(ms|messages)|preallocate|(local|remote)\.\S+)=",
)
COMPACT = ByDesign("compaction does not exist: cleanup.policy=compact is refused", "")
OWN_FILE = ByDesign("Highwater has a configuration file of its own, with its own keys", r"^ [a-z]")
UNKNOWN_KEY = ByDesign("a key that nothing reads is refused, as a topic's is", "")
NO_LOGGERS = ByDesign("there are no loggers to set one by one", "")
NO_QUOTAS = ByDesign("there are no quotas: the requests are not served", "")
NO_GROUP_CONFIGURATION = ByDesign("Highwater has the classic group protocol only", "")

TOPIC = "--entity-type topics --entity-name cfg-one"
TOPICS = (
    Step("topic", "topics --create --topic cfg-one --config retention.ms=3600000", silent=True),
    Step("topic", "topics --create --topic cfg-two", silent=True),
    configs("topic, describe", f"--describe {TOPIC}"),
    configs("topic, describe, short", "--describe --topic cfg-one"),
    configs("topic, describe without any", "--describe --topic cfg-two"),
    configs("topic, describe all", f"--describe --all {TOPIC}", by_design=KEYS),
    configs("topic, describe unknown", "--describe --topic cfg-unknown"),
    configs("topics, describe", "--describe --entity-type topics", order=Order.SORTED),
    configs("topic, alter", f"--alter {TOPIC} --add-config max.message.bytes=2000000"),
    configs(
        "topic, alter two",
        f"--alter {TOPIC} --add-config segment.bytes=1048576,retention.bytes=10485760",
    ),
    configs("topic, altered", f"--describe {TOPIC}"),
    configs("topic, alter again", f"--alter {TOPIC} --add-config retention.ms=7200000"),
    configs("topic, alter to the default", f"--alter {TOPIC} --add-config segment.ms=604800000"),
    configs("topic, altered again", f"--describe {TOPIC}"),
    configs("topic, list value", f"--alter {TOPIC} --add-config cleanup.policy=[delete]"),
    configs("topic, list value, described", f"--describe {TOPIC}"),
    configs("topic, delete", f"--alter {TOPIC} --delete-config max.message.bytes"),
    configs("topic, delete what is not set", f"--alter {TOPIC} --delete-config flush.ms", code=1),
    configs("topic, delete unknown", f"--alter {TOPIC} --delete-config no.such.key", code=1),
    configs(
        "topic, add and delete",
        f"--alter {TOPIC} --add-config flush.messages=10 --delete-config retention.ms",
    ),
    configs("topic, deleted", f"--describe {TOPIC}"),
    configs("topic, bad value", f"--alter {TOPIC} --add-config retention.ms=soon", code=1),
    configs("topic, value out of range", f"--alter {TOPIC} --add-config retention.ms=-2", code=1),
    configs(
        "topic, bad word", f"--alter {TOPIC} --add-config message.timestamp.type=Never", code=1
    ),
    configs("topic, bad boolean", f"--alter {TOPIC} --add-config preallocate=maybe", code=1),
    configs("topic, unknown key", f"--alter {TOPIC} --add-config no.such.key=1", code=1),
    configs(
        "topic, one of two is bad",
        f"--alter {TOPIC} --add-config retention.ms=1000,segment.ms=never",
        code=1,
    ),
    configs("topic, none of the two", f"--describe {TOPIC}"),
    configs(
        "topic, unknown topic", "--alter --topic cfg-unknown --add-config retention.ms=1", code=1
    ),
    File("topic.properties", "retention.ms=1234567\nmin.insync.replicas=1\n"),
    configs("topic, from a file", f"--alter {TOPIC} --add-config-file {{dir}}/topic.properties"),
    configs("topic, from a file, described", f"--describe {TOPIC}"),
    configs("topic, seen by topics", "--describe --topic cfg-one"),
    configs(
        "topic, compact", f"--alter {TOPIC} --add-config cleanup.policy=compact", by_design=COMPACT
    ),
)

BROKER = "--entity-type brokers --entity-name 1"
DEFAULT = "--entity-type brokers --entity-default"
BROKERS = (
    configs("broker, describe", f"--describe {BROKER}"),
    configs("broker, describe all", f"--describe --all {BROKER}", by_design=OWN_FILE),
    configs("broker, describe default", f"--describe {DEFAULT}"),
    configs("brokers, describe", "--describe --entity-type brokers"),
    configs("broker, alter", f"--alter {BROKER} --add-config log.retention.ms=86400000"),
    configs("broker, altered", f"--describe {BROKER}"),
    configs("broker default, alter", f"--alter {DEFAULT} --add-config log.segment.bytes=10485760"),
    configs("broker default, altered", f"--describe {DEFAULT}"),
    configs("broker and default, described", f"--describe {BROKER}"),
    Step(
        "broker default, seen by a topic",
        "configs --describe --all --topic cfg-two",
        hide=((r"^(?! (segment.bytes|retention.ms)=).*\n?", ""),),
    ),
    configs(
        "broker, two keys",
        f"--alter {BROKER} --add-config message.max.bytes=2000000,log.retention.bytes=10485760",
    ),
    configs("broker, two keys, described", f"--describe {BROKER}"),
    configs(
        "broker, delete",
        f"--alter {BROKER} --delete-config log.retention.ms,message.max.bytes,log.retention.bytes",
    ),
    configs("broker default, delete", f"--alter {DEFAULT} --delete-config log.segment.bytes"),
    configs("broker, deleted", f"--describe {BROKER}"),
    configs("broker default, deleted", f"--describe {DEFAULT}"),
    configs(
        "broker, delete what is not set",
        f"--alter {BROKER} --delete-config log.retention.ms",
        code=1,
    ),
    configs("broker, bad value", f"--alter {BROKER} --add-config log.retention.ms=soon", code=1),
    configs("broker, read-only key", f"--alter {BROKER} --add-config broker.id=7", code=1),
    configs(
        "broker default, only for one",
        f"--alter {DEFAULT} --add-config listeners=PLAINTEXT://:1",
        code=1,
    ),
    configs(
        "broker, unknown key",
        f"--alter {BROKER} --add-config no.such.key=1",
        by_design=UNKNOWN_KEY,
    ),
    configs(
        "broker, unknown key, delete",
        f"--alter {BROKER} --delete-config no.such.key",
        by_design=UNKNOWN_KEY,
    ),
    configs("broker, unknown broker", "--describe --broker 7"),
    configs("broker, bad broker", "--describe --broker seven", code=1),
)

OTHERS = (
    configs(
        "broker logger, describe",
        "--describe --broker-logger 1",
        order=Order.SORTED,
        by_design=NO_LOGGERS,
    ),
    configs(
        "broker logger, alter",
        "--alter --broker-logger 1 --add-config kafka.server.KafkaApis=DEBUG",
        by_design=NO_LOGGERS,
    ),
    configs("users, describe", "--describe --entity-type users", by_design=NO_QUOTAS),
    configs("clients, describe", "--describe --entity-type clients", by_design=NO_QUOTAS),
    configs(
        "client, alter",
        "--alter --client c --add-config producer_byte_rate=1000000",
        by_design=NO_QUOTAS,
    ),
    configs(
        "client, delete",
        "--alter --client c --delete-config producer_byte_rate",
        by_design=NO_QUOTAS,
    ),
    configs("ips, describe", "--describe --entity-type ips", by_design=NO_QUOTAS),
    configs("client metrics, describe", "--describe --entity-type client-metrics"),
    configs("group, describe", "--describe --group cfg-group"),
    configs(
        "group, alter",
        "--alter --group cfg-group --add-config consumer.session.timeout.ms=50000",
        by_design=NO_GROUP_CONFIGURATION,
    ),
)

USAGE = (
    configs("no entity", "--describe", code=1),
    configs("no such entity", "--describe --entity-type rooms", code=1),
    configs("alter nothing", f"--alter {TOPIC}", code=1),
    configs("bad syntax", f"--alter {TOPIC} --add-config retention.ms", code=1),
)

CONFIGS = Suite("configs", [*TOPICS, *BROKERS, *OTHERS, *USAGE])

SUITES = (CONFIGS,)
