"""confluent-kafka: the admin requests, as the checks of every Python client ask for them."""

import time

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin import NewPartitions, NewTopic, OffsetSpec, ResourceType

from checks import END, START, TIMEOUT_S, Config, Listed, Partition, equal, expect

SPECS = {START: OffsetSpec.earliest, END: OffsetSpec.latest, -3: OffsetSpec.max_timestamp}


class AdminRequests:
    """A mixin: it needs the `admin` client, `consumer` and `background_errors`."""

    def create_named(self, name):
        self.admin.create_topics([NewTopic(name, 1, 1)])[name].result(TIMEOUT_S)

    def topics(self):
        return list(self.admin.list_topics(timeout=TIMEOUT_S).topics)

    def brokers(self):
        return {node.id for node in self.admin.describe_cluster().result(TIMEOUT_S).nodes}

    def partitions_of(self, topic):
        return sorted(self.admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)

    def describe(self, topic):
        found = self.admin.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
        equal((found.name, found.is_internal), (topic, False), "name, and whether internal")
        return [
            Partition(
                one.id,
                one.leader and one.leader.id,
                [node.id for node in one.replicas],
                [node.id for node in one.isr],
            )
            for one in found.partitions
        ]

    def delete(self, topic):
        self.admin.delete_topics([topic], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)

    def grow(self, topic, total):
        new = NewPartitions(topic, total)
        self.admin.create_partitions([new], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)

    def configs_of(self, topic):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource])[resource].result(TIMEOUT_S)
        return {name: Config(entry.value, entry.source) for name, entry in found.items()}

    def alter(self, topic, name, value):
        """Sets one config, or restores its default where the value is None."""
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)

    def list_offset(self, topic, time_ms, partition=0):
        """START, END, the newest timestamp, or the first record at or after a time."""
        at = TopicPartition(topic, partition)
        spec = SPECS[time_ms]() if time_ms in SPECS else OffsetSpec.for_timestamp(time_ms)
        found = self.admin.list_offsets({at: spec})[at].result(TIMEOUT_S)
        return Listed(found.offset, found.timestamp)

    def delete_records(self, topic, offset):
        """Deletes what is before that offset of partition 0; returns the beginning after it."""
        at = TopicPartition(topic, 0, offset)
        return self.admin.delete_records([at])[at].result(TIMEOUT_S).low_watermark

    def consumer_is_told(self, topic, code):
        """A consumer assigned to that topic learns of that error, and reads nothing."""
        # By default librdkafka gives a topic thirty seconds to appear.
        consumer = self.consumer(**{"topic.metadata.propagation.max.ms": 0})
        try:
            self.background_errors.clear()
            consumer.assign([TopicPartition(topic, 0, 0)])
            deadline = time.monotonic() + TIMEOUT_S
            while code not in [error.code() for error in self.background_errors]:
                expect(time.monotonic() < deadline, f"the consumer is not told of error {code}")
                read = [one for one in consumer.consume(10, 0.1) if not one.error()]
                equal(read, [], "records of a topic that does not exist")
        finally:
            consumer.close()
