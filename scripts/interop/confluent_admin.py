"""confluent-kafka: checks of the admin requests and of errors."""

import time

from confluent_kafka import KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource
from confluent_kafka.admin import NewPartitions, NewTopic, OffsetSpec, ResourceType

from checks import TIMEOUT_S, Record, compressible, equal, expect, numbered, verify
from confluent_broker import error_code


def checks(broker):
    admin = broker.admin

    def configs_of(topic):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return admin.describe_configs([resource])[resource].result(TIMEOUT_S)

    def alter(topic, name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)

    def describe(topic):
        collection = TopicCollection([topic])
        return admin.describe_topics(collection)[topic].result(TIMEOUT_S)

    def delete(topic):
        admin.delete_topics([topic], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)

    def grow(topic, total):
        new = NewPartitions(topic, total)
        admin.create_partitions([new], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)

    def list_offset(topic, spec, partition=0):
        at = TopicPartition(topic, partition)
        return admin.list_offsets({at: spec})[at].result(TIMEOUT_S)

    def eventually(condition, what):
        """Other nodes, and the client's own view, may trail an acknowledged change."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            expect(time.monotonic() < deadline, f"still not so: {what}")
            time.sleep(0.05)

    def unknown_topic():
        topic = f"{broker.prefix}-never-created"
        unknown = KafkaError.UNKNOWN_TOPIC_OR_PART
        equal(error_code(lambda: describe(topic)), unknown, "describe")
        equal(error_code(lambda: delete(topic)), unknown, "delete")
        equal(error_code(lambda: grow(topic, 3)), unknown, "create partitions")
        # By default librdkafka gives a topic thirty seconds to appear.
        consumer = broker.consumer(**{"topic.metadata.propagation.max.ms": 0})
        try:
            broker.background_errors.clear()
            consumer.assign([TopicPartition(topic, 0, 0)])
            eventually(lambda: consumer_error(consumer, unknown), "the consumer is told")
        finally:
            consumer.close()

    def consumer_error(consumer, code):
        equal([message for message in consumer.consume(10, 0.1) if not message.error()], [], "read")
        return code in [error.code() for error in broker.background_errors]

    def invalid_topic():
        for name in ("bad/name", "bad name", "..", "x" * 250):
            create = lambda: admin.create_topics([NewTopic(name, 1, 1)])[name].result(TIMEOUT_S)
            equal(error_code(create), KafkaError.TOPIC_EXCEPTION, f"create {name[:20]!r}")
        code = error_code(lambda: broker.produce("bad/name", numbered(1)))
        equal(code, KafkaError.TOPIC_EXCEPTION, "produce")

    def too_large():
        topic = broker.create("too-large", max_message_bytes="20000")
        big = [Record(0, None, compressible(40_000))]
        code = error_code(lambda: broker.produce(topic, big))
        equal(code, KafkaError.MSG_SIZE_TOO_LARGE, "error code")
        broker.produce(topic, numbered(1))
        verify(broker.read(topic), numbered(1))

    def topic_exists():
        broker.create("topic-exists")
        code = error_code(lambda: broker.create("topic-exists"))
        equal(code, KafkaError.TOPIC_ALREADY_EXISTS, "error code")

    def describe_topic():
        topic = broker.create("describe-topic", partitions=3)
        description = describe(topic)
        equal(description.name, topic, "name")
        equal(description.is_internal, False, "internal")
        equal([p.id for p in description.partitions], [0, 1, 2], "partitions")
        brokers = {node.id for node in admin.describe_cluster().result(TIMEOUT_S).nodes}
        for partition in description.partitions:
            expect(partition.leader is not None, f"partition {partition.id} without leader")
            replicas = [node.id for node in partition.replicas]
            expect(set(replicas) <= brokers, f"replicas {replicas} are not among {brokers}")
            expect(partition.leader.id in replicas, "leader is not a replica")
            expect(partition.leader.id in [node.id for node in partition.isr], "leader not in sync")

    def describe_configs():
        topic = broker.create("describe-configs", retention_ms="7200000")
        configs = configs_of(topic)
        equal(configs["retention.ms"].value, "7200000", "retention.ms")
        equal(configs["retention.ms"].source, ConfigSource.DYNAMIC_TOPIC_CONFIG.value, "its source")
        equal(configs["cleanup.policy"].value, "delete", "cleanup.policy")
        equal(configs["cleanup.policy"].source, ConfigSource.DEFAULT_CONFIG.value, "its source")
        for name in ("retention.bytes", "segment.bytes", "max.message.bytes"):
            expect(name in configs, f"{name} is missing")
            int(configs[name].value)

    def alter_configs():
        topic = broker.create("alter-configs", retention_ms="7200000")
        default = configs_of(topic)["max.message.bytes"].value
        alter(topic, "max.message.bytes", "34567", AlterConfigOpType.SET)
        limit = lambda: configs_of(topic)["max.message.bytes"].value
        eventually(lambda: limit() == "34567", "altered")
        equal(configs_of(topic)["retention.ms"].value, "7200000", "the config left alone")
        big = [Record(0, None, compressible(40_000))]
        code = error_code(lambda: broker.produce(topic, big))
        equal(code, KafkaError.MSG_SIZE_TOO_LARGE, "above the new limit")
        alter(topic, "max.message.bytes", None, AlterConfigOpType.DELETE)
        eventually(lambda: limit() == default, "back at the default")
        broker.produce(topic, big)
        code = error_code(lambda: alter(topic, "retention.ms", "soon", AlterConfigOpType.SET))
        equal(code, KafkaError.INVALID_CONFIG, "a value that is no number")
        code = error_code(lambda: alter(topic, "no.such.config", "1", AlterConfigOpType.SET))
        equal(code, KafkaError.INVALID_CONFIG, "a name that does not exist")

    def create_partitions():
        topic = broker.create("create-partitions")
        broker.produce(topic, numbered(3))
        grow(topic, 4)
        eventually(lambda: len(describe(topic).partitions) == 4, "four partitions")
        records = numbered(3) + [record for p in (1, 2, 3) for record in numbered(5, p)]
        broker.produce(topic, records[3:])
        verify(broker.read(topic, range(4)), records)
        code = error_code(lambda: grow(topic, 2))
        equal(code, KafkaError.INVALID_PARTITIONS, "fewer than there are")

    def list_offsets():
        topic = broker.create("list-offsets", partitions=3)
        base = int(time.time()) * 1000 - 60_000
        ages = [1000, 5000, 2000]
        for age in ages:
            broker.produce(topic, [Record(0, None, b"own batch", (), base + age)])
        broker.produce(topic, [Record(1, None, b"one batch", (), base + age) for age in ages])
        for partition in (0, 1):
            equal(list_offset(topic, OffsetSpec.earliest(), partition).offset, 0, "earliest")
            equal(list_offset(topic, OffsetSpec.latest(), partition).offset, 3, "latest")
            after = list_offset(topic, OffsetSpec.for_timestamp(base + 1500), partition)
            equal((after.offset, after.timestamp), (1, base + 5000), "first at or after a time")
            newest = list_offset(topic, OffsetSpec.max_timestamp(), partition)
            equal((newest.offset, newest.timestamp), (1, base + 5000), f"max of {partition}")
        equal(list_offset(topic, OffsetSpec.latest(), 2).offset, 0, "end of nothing")
        equal(list_offset(topic, OffsetSpec.max_timestamp(), 2).offset, -1, "max of nothing")

    def delete_records():
        topic = broker.create("delete-records")
        broker.produce(topic, numbered(20))
        at = TopicPartition(topic, 0, 12)
        deleted = admin.delete_records([at])[at].result(TIMEOUT_S)
        equal(deleted.low_watermark, 12, "low watermark in the answer")
        eventually(lambda: list_offset(topic, OffsetSpec.earliest()).offset == 12, "earliest is 12")
        verify(broker.read(topic), numbered(20)[12:], first_offset=12)
        code = error_code(lambda: broker.read(topic, offset=3))
        expect(
            code in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET),
            f"reading a deleted offset: error code {code}",
        )
        beyond = TopicPartition(topic, 0, 21)
        code = error_code(lambda: admin.delete_records([beyond])[beyond].result(TIMEOUT_S))
        equal(code, KafkaError.OFFSET_OUT_OF_RANGE, "deleting beyond the end")
        broker.produce(topic, numbered(1, prefix="after"))
        expected = numbered(20)[12:] + numbered(1, prefix="after")
        verify(broker.read(topic), expected, first_offset=12)

    def delete_topic():
        topic = broker.create("delete-topic")
        broker.produce(topic, numbered(5, prefix="old"))
        delete(topic)
        listed = lambda: topic in admin.list_topics(timeout=TIMEOUT_S).topics
        eventually(lambda: not listed(), "the topic is gone")
        equal(broker.create("delete-topic"), topic, "created again")
        eventually(listed, "the topic is back")
        equal(list_offset(topic, OffsetSpec.latest()).offset, 0, "end of the new topic")
        broker.produce(topic, numbered(3, prefix="new"))
        verify(broker.read(topic), numbered(3, prefix="new"))

    def refuse_compact():
        code = error_code(lambda: broker.create("refuse-compact", cleanup_policy="compact"))
        equal(code, KafkaError.INVALID_CONFIG, "create")
        topic = broker.create("refuse-compact-later")
        set_compact = lambda: alter(topic, "cleanup.policy", "compact", AlterConfigOpType.SET)
        equal(error_code(set_compact), KafkaError.INVALID_CONFIG, "alter")

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
