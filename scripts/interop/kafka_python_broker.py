"""The broker under test as kafka-python sees it: create, produce, read, and group members."""

import contextlib
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from checks import END, START, TIMEOUT_S, Read, equal, expect
from group_checks import SESSION_MS
from kafka_python_admin import AdminRequests

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}

# A member whose pattern matches a new topic joins again only once it has fresh metadata within one
# poll, and that comes no sooner than the client's retry backoff of 100 ms.
SHORTEST_POLL_MS = 250


class Member(ConsumerRebalanceListener):
    """A consumer that counts what happens to it; without a topic it is in no group."""

    def __init__(self, topic=None, **config):
        self.revoked = []
        self.assignments = 0
        self.consumer = KafkaConsumer(**config)
        if topic is not None and topic.startswith("^"):
            self.consumer.subscribe(pattern=topic, listener=self)
        elif topic is not None:
            self.consumer.subscribe([topic], listener=self)

    def on_partitions_assigned(self, assigned):
        self.assignments += bool(assigned)

    def on_partitions_revoked(self, revoked):
        self.revoked += [one.partition for one in revoked]

    def poll(self, wait_ms):
        found = self.consumer.poll(timeout_ms=max(wait_ms, SHORTEST_POLL_MS))
        return [as_read(record) for records in found.values() for record in records]

    def owned(self):
        return sorted((one.topic, one.partition) for one in self.consumer.assignment())

    def commit(self, topic, offset, metadata=""):
        self.consumer.commit(at(topic, offset, metadata), timeout_ms=TIMEOUT_S * 1000)

    def commit_later(self, topic, offset, answer):
        def answered(_, response):
            answer(response if isinstance(response, Exception) else None)

        self.consumer.commit_async(at(topic, offset), callback=answered)

    def pause(self, topic, partition):
        self.consumer.pause(TopicPartition(topic, partition))

    def resume(self, topic, partition):
        self.consumer.resume(TopicPartition(topic, partition))

    def close(self):
        self.consumer.close(autocommit=False)


class Broker(AdminRequests):
    """The broker under test as this client sees it; every topic name gets the run's prefix."""

    LZ4_NEEDS_COORDINATOR = False
    # The producer takes only bytes as the value of a header, and no record without both.
    NULL_HEADERS = False
    NEEDS_KEY_OR_VALUE = True
    DESCRIBE_CREATES = False
    PRODUCE_NAMES_INVALID_TOPIC = True
    CONTENT_NOTE = "the client refuses null headers, and a null key together with a null value"

    def __init__(self, bootstrap, prefix):
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def produce(self, topic, records, acks="all", codec="none", largest=None):
        """Sends all, then waits; returns [(partition, offset)], raises on any delivery error."""
        config = {"acks": int(acks) if acks.isdigit() else acks, "enable_idempotence": False}
        if codec != "none":
            config["compression_type"] = codec
        if largest is not None:
            config["max_request_size"] = largest
        # A linger keeps what is sent together in one batch.
        with self.producer(linger_ms=50, **config) as producer:
            return send_all(producer, topic, records)

    def produce_idempotent(self, topic, records):
        """Sends in small pipelined batches; returns the offsets and the producer's id."""
        with self.producer(enable_idempotence=True, batch_size=300) as producer:
            offsets = [offset for _, offset in send_all(producer, topic, records)]
            # kafka-python tells the id nowhere else.
            return offsets, producer._transaction_manager.producer_id_and_epoch.producer_id

    @contextlib.contextmanager
    def producer(self, **config):
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, max_block_ms=TIMEOUT_S * 1000, **config
        )
        with contextlib.closing(producer):
            yield producer

    def consumer(self, reset="none", wait_ms=50):
        config = {"auto_offset_reset": reset, "fetch_max_wait_ms": wait_ms}
        return Member(bootstrap_servers=self.bootstrap, group_id=None, **config)

    def read(self, topic, partitions=(0,), offset=START, at_least=0, reset="none"):
        """Reads by assignment up to the end of every partition, and until `at_least` records."""
        with contextlib.closing(self.consumer(reset)) as member:
            consumer = member.consumer
            assigned = [TopicPartition(topic, partition) for partition in partitions]
            consumer.assign(assigned)
            for one in assigned:
                if offset == START:
                    consumer.seek_to_beginning(one)
                else:
                    consumer.seek(one, offset)
            ends = consumer.end_offsets(assigned)
            read = []
            deadline = time.monotonic() + TIMEOUT_S
            while len(read) < at_least or any(consumer.position(p) != ends[p] for p in assigned):
                expect(time.monotonic() < deadline, f"only {len(read)} records of {ends}")
                read += member.poll(100)
            return read

    def parked(self, topic, wait_ms):
        """A consumer at the end of partition 0, whose fetches wait that long for a record."""
        member = self.consumer(wait_ms=wait_ms)
        end = TopicPartition(topic, 0)
        member.consumer.assign([end])
        member.consumer.seek_to_end(end)
        expect(member.consumer.position(end, timeout_ms=TIMEOUT_S * 1000) is not None, "no end")
        equal(member.poll(100), [], "records before the end")
        return member

    def offset_at(self, topic, timestamp):
        at_time = {TopicPartition(topic, 0): timestamp}
        with contextlib.closing(self.consumer()) as member:
            (found,) = member.consumer.offsets_for_times(at_time).values()
        return END if found is None else found.offset

    def join(self, group, topic, strategy="range", instance=None):
        return Member(
            topic,
            bootstrap_servers=self.bootstrap,
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=300,
            metadata_max_age_ms=1000,
            partition_assignment_strategy=[ASSIGNORS[strategy]],
        )

    @staticmethod
    def error_code(function):
        """The protocol's error code that calling `function` raises; fails when it raises none."""
        try:
            function()
        except errors.OffsetOutOfRangeError:
            return errors.OffsetOutOfRangeError.errno
        except errors.BrokerResponseError as raised:
            return raised.errno
        except ValueError as raised:
            # The producer judges the names of topics itself.
            expect("Topic name" in str(raised), f"ValueError: {raised}")
            return errors.InvalidTopicError.errno
        raise AssertionError("no error, expected one")


def send_all(producer, topic, records):
    futures = [
        producer.send(
            topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            partition=record.partition,
            timestamp_ms=record.timestamp,
        )
        for record in records
    ]
    sent = [future.get(TIMEOUT_S) for future in futures]
    return [(one.partition, one.offset) for one in sent]


def at(topic, offset, metadata=""):
    return {TopicPartition(topic, 0): OffsetAndMetadata(offset, metadata, -1)}


def as_read(record):
    return Read(
        record.partition,
        record.offset,
        record.key,
        record.value,
        record.headers,
        record.timestamp,
    )
