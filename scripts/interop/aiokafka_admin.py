"""aiokafka: the admin requests, as the checks of every Python client ask for them.

What aiokafka cannot send at all (see `LIMITS` in behaviours.py) has no method here.
"""

import contextlib

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import for_code

from checks import END, START, Config, Listed, Partition, equal
from group_checks import Group


def raise_for(code):
    if code:
        raise for_code(code)


class AdminRequests:
    """A mixin: it needs the `admin` client, the `prefix`, `wait_for` and `consumer`."""

    def create(self, name, partitions=1, **configs):
        """Creates a topic, one replica each, and returns its full name."""
        topic = f"{self.prefix}-{name}"
        configs = {key.replace("_", "."): value for key, value in configs.items()}
        self.create_named(topic, partitions, configs)
        return topic

    def create_named(self, name, partitions=1, configs=None):
        new = NewTopic(name, partitions, 1, topic_configs=configs or {})
        answer = self.wait_for(self.admin.create_topics([new]))
        for _, code, *_ in answer.topic_errors:
            raise_for(code)

    def topics(self):
        return self.wait_for(self.admin.list_topics())

    def brokers(self):
        found = self.wait_for(self.admin.describe_cluster())
        return {one["node_id"] for one in found["brokers"]}

    def partitions_of(self, topic):
        return [one.id for one in self.describe(topic)]

    def describe(self, topic):
        (found,) = self.wait_for(self.admin.describe_topics([topic]))
        raise_for(found["error_code"])
        facts = (found["topic"], found["is_internal"])
        equal(facts, (topic, False), "name, and whether internal")
        keys = ("partition", "leader", "replicas", "isr")
        return sorted(Partition(*(one[key] for key in keys)) for one in found["partitions"])

    def delete(self, topic):
        answer = self.wait_for(self.admin.delete_topics([topic]))
        for _, code in answer.topic_error_codes:
            raise_for(code)

    def grow(self, topic, total):
        self.wait_for(self.admin.create_partitions({topic: NewPartitions(total)}))

    def configs_of(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self.wait_for(self.admin.describe_configs([resource]))
        (found,) = answer.to_object()["resources"]
        raise_for(found["error_code"])
        entries = found["config_entries"]
        return {
            one["config_names"]: Config(one["config_value"], one["config_source"])
            for one in entries
        }

    def alter(self, topic, name, value):
        """Sets one config by the request that resets all others of that topic."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        (answer,) = self.wait_for(self.admin.alter_configs([resource]))
        for code, *_ in answer.resources:
            raise_for(code)

    def delete_records(self, topic, offset):
        """Deletes what is before that offset of partition 0; returns the beginning after it."""
        at = TopicPartition(topic, 0)
        asked = {at: RecordsToDelete(before_offset=offset)}
        return self.wait_for(self.admin.delete_records(asked))[at]

    def list_offset(self, topic, time_ms, partition=0):
        """START, END, or the first record at or after a time; the newest is a limit."""
        at = TopicPartition(topic, partition)
        with contextlib.closing(self.consumer()) as member:
            if time_ms == START:
                return Listed(self.wait_for(member.consumer.beginning_offsets([at]))[at], -1)
            if time_ms == END:
                return Listed(self.wait_for(member.consumer.end_offsets([at]))[at], -1)
            found = self.wait_for(member.consumer.offsets_for_times({at: time_ms}))[at]
            return Listed(found.offset, found.timestamp)

    def consumer_is_told(self, topic, code):
        """A consumer learns that there is no such topic, and reads nothing of it.

        aiokafka retries the error itself; what it tells is the absence of the topic.
        """
        with contextlib.closing(self.consumer()) as member:
            equal(topic in self.wait_for(member.consumer.topics()), False, "listed")
            self.wait_for(self.assign(member.consumer, [TopicPartition(topic, 0)], 0))
            equal(member.poll(500), [], "records of a topic that does not exist")

    def committed(self, group, topic):
        at = TopicPartition(topic, 0)
        asked = self.admin.list_consumer_group_offsets(group, partitions=[at])
        found = self.wait_for(asked)[at]
        return found.offset, found.metadata

    def groups(self):
        """Protocol types by group, as ListGroups tells them."""
        return {one[0]: one[1] for one in self.wait_for(self.admin.list_consumer_groups())}

    def group(self, name):
        (answer,) = self.wait_for(self.admin.describe_consumer_groups([name]))
        (found,) = answer.to_object()["groups"]
        raise_for(found["error_code"])
        members = [owned_by(one["member_assignment"]) for one in found["members"]]
        return Group(found["state"], found["protocol_type"], found["protocol"], members)


def owned_by(assignment):
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return sorted((topic, number) for topic, numbers in decoded.assignment for number in numbers)
