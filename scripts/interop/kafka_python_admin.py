"""kafka-python: the admin requests, as the checks of every Python client ask for them."""

import contextlib

from kafka import TopicPartition, errors
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType
from kafka.admin._configs import ConfigSourceType
from kafka.structs import OffsetAndMetadata

from checks import Config, Listed, Partition, equal
from group_checks import Group

# alter_configs and delete_groups answer with the text or the name of an error.
BY_NAME = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.BrokerResponseError)
}


def raise_named(outcome):
    """Raises the error whose name or text that is; `OK` is none."""
    if outcome == "OK":
        return
    if outcome in BY_NAME:
        raise BY_NAME[outcome]
    code = int(outcome.removeprefix("[Error ").partition("]")[0])
    raise errors.for_code(code)(outcome)


def owned_by(assignment):
    """The partitions in an assignment as kafka-python decodes it; empty bytes are none."""
    topics = assignment["assigned_partitions"] if assignment else []
    return sorted((one["topic"], number) for one in topics for number in one["partitions"])


class AdminRequests:
    """A mixin: it needs the `admin` client, the `prefix` and `consumer`."""

    def create(self, name, partitions=1, **configs):
        """Creates a topic, one replica each, and returns its full name."""
        topic = f"{self.prefix}-{name}"
        configs = {key.replace("_", "."): value for key, value in configs.items()}
        new = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        self.admin.create_topics({topic: new})
        return topic

    def create_named(self, name):
        self.admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})

    def topics(self):
        return self.admin.list_topics()

    def brokers(self):
        return {one["broker_id"] for one in self.admin.describe_cluster()["brokers"]}

    def partitions_of(self, topic):
        return [one.id for one in self.describe(topic)]

    def describe(self, topic):
        (found,) = self.admin.describe_topics([topic])
        if found["error_code"]:
            raise errors.for_code(found["error_code"])
        facts = (found["name"], found["is_internal"])
        equal(facts, (topic, False), "name, and whether internal")
        keys = ("partition_index", "leader_id", "replica_nodes", "isr_nodes")
        return sorted(Partition(*(one[key] for key in keys)) for one in found["partitions"])

    def delete(self, topic):
        self.admin.delete_topics([topic])

    def grow(self, topic, total):
        self.admin.create_partitions({topic: total})

    def configs_of(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource], config_filter="all")["topic"][topic]
        source = lambda one: ConfigSourceType[one["config_source"]].value
        return {name: Config(one["value"], source(one)) for name, one in found.items()}

    def alter(self, topic, name, value):
        """Sets one config, or restores its default where the value is None."""
        operation = AlterConfigOp.DELETE if value is None else AlterConfigOp.SET
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: (operation, value)})
        # The broker is to judge the name, not the client.
        altered = self.admin.alter_configs([resource], raise_on_unknown=False)
        raise_named(altered["topic"][topic])

    def list_offset(self, topic, time_ms, partition=0):
        """START, END, the newest timestamp, or the first record at or after a time."""
        at = TopicPartition(topic, partition)
        found = self.admin.list_partition_offsets({at: time_ms})[at]
        return Listed(found.offset, found.timestamp)

    def delete_records(self, topic, offset):
        """Deletes what is before that offset of partition 0; returns the beginning after it."""
        at = TopicPartition(topic, 0)
        return self.admin.delete_records({at: offset})[at]["low_watermark"]

    def consumer_is_told(self, topic, code):
        """A consumer learns that there is no such topic, and reads nothing of it.

        kafka-python retries the error itself; what it tells is the absence of partitions.
        """
        equal(code, errors.UnknownTopicOrPartitionError.errno, "the error to be told of")
        with contextlib.closing(self.consumer()) as member:
            equal(member.consumer.partitions_for_topic(topic) or set(), set(), "partitions")
            member.consumer.assign([TopicPartition(topic, 0)])
            member.consumer.seek(TopicPartition(topic, 0), 0)
            equal(member.poll(500), [], "records of a topic that does not exist")

    def committed(self, group, topic):
        found = self.admin.list_group_offsets({group: [TopicPartition(topic, 0)]})[group]
        one = found[TopicPartition(topic, 0)]
        return one.offset, one.metadata

    def reset(self, group, topic, offset):
        offsets = {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}
        for outcome in self.admin.alter_group_offsets(group, offsets).values():
            if outcome is not errors.NoError:
                raise outcome

    def groups(self):
        """Protocol types by group, as ListGroups tells them."""
        return {one["group_id"]: one["protocol_type"] for one in self.admin.list_groups()}

    def group(self, name):
        found = self.admin.describe_groups([name])[name]
        equal(found["error"], None, "error of the description")
        members = [owned_by(one["member_assignment"]) for one in found["members"]]
        state = (found["group_state"], found["protocol_type"], found["protocol_data"])
        return Group(*state, members)

    def delete_group(self, name):
        raise_named(self.admin.delete_groups([name])[name])
