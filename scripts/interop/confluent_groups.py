"""confluent-kafka: members of consumer groups and the requests about groups."""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions as GroupPartitions

from checks import END, TIMEOUT_S, equal
from confluent_broker import COORDINATOR_ERRORS, Broker, as_read, error_code
from group_checks import SESSION_MS, Group

STATES = {"STABLE": "Stable", "EMPTY": "Empty"}


class Member:
    """A consumer that counts what happens to it; without a topic it is in no group."""

    def __init__(self, config, topic):
        self.revoked = []
        self.assignments = 0
        self.answer = None
        self.consumer = Consumer({**config, "on_commit": self.on_commit})
        if topic is not None:
            watch = {"on_assign": self.on_assign, "on_revoke": self.on_revoke}
            self.consumer.subscribe([topic], **watch)

    def on_assign(self, _, partitions):
        self.assignments += bool(partitions)

    def on_revoke(self, _, partitions):
        self.revoked += [one.partition for one in partitions]

    def on_commit(self, error, _):
        if self.answer is not None:
            self.answer(error)

    def poll(self, wait_ms):
        read = []
        for message in self.consumer.consume(1000, wait_ms / 1000):
            error = message.error()
            if error is None:
                read.append(as_read(message))
            elif error.code() not in {*COORDINATOR_ERRORS, KafkaError._PARTITION_EOF}:
                raise KafkaException(error)
        return read

    def owned(self):
        return sorted((one.topic, one.partition) for one in self.consumer.assignment())

    def commit(self, topic, offset, metadata=""):
        at = TopicPartition(topic, 0, offset, metadata)
        (done,) = self.consumer.commit(offsets=[at], asynchronous=False)
        if done.error is not None:
            raise KafkaException(done.error)

    def commit_later(self, topic, offset, answer):
        self.answer = answer
        self.consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=True)

    def pause(self, topic, partition):
        self.consumer.pause([TopicPartition(topic, partition)])

    def resume(self, topic, partition):
        self.consumer.resume([TopicPartition(topic, partition)])

    def close(self):
        self.consumer.close()


class GroupBroker(Broker):
    """The broker with what the group checks ask of it."""

    error_code = staticmethod(error_code)

    def parked(self, topic, wait_ms):
        """A consumer at the end of partition 0, whose fetches wait that long for a record."""
        member = self.join("interop-never-joined", None, **{"fetch.wait.max.ms": wait_ms})
        member.consumer.assign([TopicPartition(topic, 0, END)])
        # The end of the partition is reported once the position is known.
        equal(self.read_on(member.consumer, {0}), [], "records before the end")
        return member

    def join(self, group, topic, strategy="range", instance=None, **more):
        if instance is not None:
            more["group.instance.id"] = instance
        config = self.config(
            **{
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": topic is None,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 300,
                "topic.metadata.refresh.interval.ms": 1000,
                "partition.assignment.strategy": strategy,
                **more,
            }
        )
        return Member(config, topic)

    def committed(self, group, topic):
        asked = [GroupPartitions(group, [TopicPartition(topic, 0)])]
        answer = self.admin.list_consumer_group_offsets(asked)[group].result(TIMEOUT_S)
        (found,) = answer.topic_partitions
        return found.offset, found.metadata or ""

    def reset(self, group, topic, offset):
        asked = [GroupPartitions(group, [TopicPartition(topic, 0, offset)])]
        answer = self.admin.alter_consumer_group_offsets(asked)[group].result(TIMEOUT_S)
        for done in answer.topic_partitions:
            if done.error is not None:
                raise KafkaException(done.error)

    def groups(self):
        """Protocol types by group, as ListGroups tells them."""
        found = self.admin.list_groups(timeout=TIMEOUT_S)
        return {group.id: group.protocol_type for group in found}

    def group(self, name):
        found = self.admin.describe_consumer_groups([name])[name].result(TIMEOUT_S)
        members = [
            sorted((one.topic, one.partition) for one in member.assignment.topic_partitions)
            for member in found.members
        ]
        kind = "simple" if found.is_simple_consumer_group else "consumer"
        state = STATES.get(found.state.name, found.state.name)
        return Group(state, kind, found.partition_assignor, members)

    def delete_group(self, name):
        self.admin.delete_consumer_groups([name])[name].result(TIMEOUT_S)
