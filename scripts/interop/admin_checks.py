"""Checks of the admin requests and of errors, the same for every Python client.

Beside what data_checks.py needs a client's broker offers `describe`, `delete`, `grow`,
`configs_of`, `alter`, `list_offset`, `delete_records`, `topics`, `brokers`, `create_named` and
`consumer_is_told`. Error codes are those of the protocol, whatever the client calls them.
"""

import time

from checks import END, START, Record, compressible, equal, eventually, expect, numbered, verify

UNKNOWN_TOPIC, OFFSET_OUT_OF_RANGE, TOO_LARGE, INVALID_TOPIC = 3, 1, 10, 17
TOPIC_EXISTS, INVALID_PARTITIONS, INVALID_CONFIG = 36, 37, 40
# The sources of a config's value, and the newest record among the timestamps, in the protocol.
DYNAMIC_TOPIC, DEFAULT, MAX_TIMESTAMP = 1, 5, -3


def checks(broker):
    def unknown_topic():
        topic = f"{broker.prefix}-never-created"
        unknown = UNKNOWN_TOPIC
        if not broker.DESCRIBE_CREATES:
            equal(broker.error_code(lambda: broker.describe(topic)), unknown, "describe")
        equal(broker.error_code(lambda: broker.delete(topic)), unknown, "delete")
        equal(broker.error_code(lambda: broker.grow(topic, 3)), unknown, "create partitions")
        broker.consumer_is_told(topic, unknown)

    def invalid_topic():
        for name in ("bad/name", "bad name", "..", "x" * 250):
            code = broker.error_code(lambda: broker.create_named(name))
            equal(code, INVALID_TOPIC, f"create {name[:20]!r}")
        if broker.PRODUCE_NAMES_INVALID_TOPIC:
            code = broker.error_code(lambda: broker.produce("bad/name", numbered(1)))
            equal(code, INVALID_TOPIC, "produce")

    def too_large():
        topic = broker.create("too-large", max_message_bytes="20000")
        big = [Record(0, None, compressible(40_000))]
        code = broker.error_code(lambda: broker.produce(topic, big))
        equal(code, TOO_LARGE, "error code")
        broker.produce(topic, numbered(1))
        verify(broker.read(topic), numbered(1))

    def topic_exists():
        broker.create("topic-exists")
        code = broker.error_code(lambda: broker.create("topic-exists"))
        equal(code, TOPIC_EXISTS, "error code")

    def describe_topic():
        topic = broker.create("describe-topic", partitions=3)
        partitions = broker.describe(topic)
        equal([one.id for one in partitions], [0, 1, 2], "partitions")
        brokers = broker.brokers()
        for one in partitions:
            expect(set(one.replicas) <= brokers, f"{one.replicas} are not among {brokers}")
            expect(one.leader in one.replicas, "leader is not a replica")
            expect(one.leader in one.isr, "leader not in sync")

    def describe_configs():
        topic = broker.create("describe-configs", retention_ms="7200000")
        configs = broker.configs_of(topic)
        equal(configs["retention.ms"].value, "7200000", "retention.ms")
        equal(configs["retention.ms"].source, DYNAMIC_TOPIC, "its source")
        equal(configs["cleanup.policy"].value, "delete", "cleanup.policy")
        equal(configs["cleanup.policy"].source, DEFAULT, "its source")
        for name in ("retention.bytes", "segment.bytes", "max.message.bytes"):
            expect(name in configs, f"{name} is missing")
            int(configs[name].value)

    def alter_configs():
        topic = broker.create("alter-configs", retention_ms="7200000")
        default = broker.configs_of(topic)["max.message.bytes"].value
        broker.alter(topic, "max.message.bytes", "34567")
        limit = lambda: broker.configs_of(topic)["max.message.bytes"].value
        eventually(lambda: limit() == "34567", "altered")
        equal(broker.configs_of(topic)["retention.ms"].value, "7200000", "the config left alone")
        big = [Record(0, None, compressible(40_000))]
        code = broker.error_code(lambda: broker.produce(topic, big))
        equal(code, TOO_LARGE, "above the new limit")
        broker.alter(topic, "max.message.bytes", None)
        eventually(lambda: limit() == default, "back at the default")
        broker.produce(topic, big)
        code = broker.error_code(lambda: broker.alter(topic, "retention.ms", "soon"))
        equal(code, INVALID_CONFIG, "a value that is no number")
        code = broker.error_code(lambda: broker.alter(topic, "no.such.config", "1"))
        equal(code, INVALID_CONFIG, "a name that does not exist")

    def create_partitions():
        topic = broker.create("create-partitions")
        broker.produce(topic, numbered(3))
        broker.grow(topic, 4)
        eventually(lambda: len(broker.describe(topic)) == 4, "four partitions")
        records = numbered(3) + [record for p in (1, 2, 3) for record in numbered(5, p)]
        broker.produce(topic, records[3:])
        verify(broker.read(topic, range(4)), records)
        code = broker.error_code(lambda: broker.grow(topic, 2))
        equal(code, INVALID_PARTITIONS, "fewer than there are")

    def list_offsets():
        topic = broker.create("list-offsets", partitions=3)
        base = int(time.time()) * 1000 - 60_000
        ages = [1000, 5000, 2000]
        for age in ages:
            broker.produce(topic, [Record(0, None, b"own batch", (), base + age)])
        broker.produce(topic, [Record(1, None, b"one batch", (), base + age) for age in ages])
        for partition in (0, 1):
            equal(broker.list_offset(topic, START, partition).offset, 0, "earliest")
            equal(broker.list_offset(topic, END, partition).offset, 3, "latest")
            after = broker.list_offset(topic, base + 1500, partition)
            equal((after.offset, after.timestamp), (1, base + 5000), "first at or after a time")
            newest = broker.list_offset(topic, MAX_TIMESTAMP, partition)
            equal((newest.offset, newest.timestamp), (1, base + 5000), f"max of {partition}")
        equal(broker.list_offset(topic, END, 2).offset, 0, "end of nothing")
        equal(broker.list_offset(topic, MAX_TIMESTAMP, 2).offset, -1, "max of nothing")

    def delete_records():
        topic = broker.create("delete-records")
        broker.produce(topic, numbered(20))
        equal(broker.delete_records(topic, 12), 12, "low watermark in the answer")
        eventually(lambda: broker.list_offset(topic, START).offset == 12, "earliest is 12")
        verify(broker.read(topic), numbered(20)[12:], first_offset=12)
        code = broker.error_code(lambda: broker.read(topic, offset=3))
        expect(
            code == OFFSET_OUT_OF_RANGE,
            f"reading a deleted offset: error code {code}",
        )
        code = broker.error_code(lambda: broker.delete_records(topic, 21))
        equal(code, OFFSET_OUT_OF_RANGE, "deleting beyond the end")
        broker.produce(topic, numbered(1, prefix="after"))
        expected = numbered(20)[12:] + numbered(1, prefix="after")
        verify(broker.read(topic), expected, first_offset=12)

    def delete_topic():
        topic = broker.create("delete-topic")
        broker.produce(topic, numbered(5, prefix="old"))
        broker.delete(topic)
        listed = lambda: topic in broker.topics()
        eventually(lambda: not listed(), "the topic is gone")
        equal(broker.create("delete-topic"), topic, "created again")
        eventually(listed, "the topic is back")
        equal(broker.list_offset(topic, END).offset, 0, "end of the new topic")
        broker.produce(topic, numbered(3, prefix="new"))
        verify(broker.read(topic), numbered(3, prefix="new"))

    def refuse_compact():
        code = broker.error_code(lambda: broker.create("refuse-compact", cleanup_policy="compact"))
        equal(code, INVALID_CONFIG, "create")
        topic = broker.create("refuse-compact-later")
        set_compact = lambda: broker.alter(topic, "cleanup.policy", "compact")
        equal(broker.error_code(set_compact), INVALID_CONFIG, "alter")

    return {
        "unknown-topic": unknown_topic,
        "invalid-topic": invalid_topic,
        "too-large": too_large,
        "topic-exists": topic_exists,
        "describe-topic": describe_topic,
        "describe-configs": describe_configs,
        "alter-configs": alter_configs,
        "create-partitions": create_partitions,
        "list-offsets": list_offsets,
        "delete-records": delete_records,
        "delete-topic": delete_topic,
        "refuse-compact": refuse_compact,
    }
