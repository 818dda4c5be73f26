"""The broker under test as aiokafka sees it: create, produce, read, and group members.

aiokafka is asyncio: one event loop runs in a thread for the life of the program, and every
request here is a coroutine that the caller waits for.
"""

import asyncio
import contextlib
import threading
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from aiokafka_admin import AdminRequests
from checks import END, START, TIMEOUT_S, Read, equal, expect
from group_checks import SESSION_MS

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait_for(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(TIMEOUT_S)


class Member(ConsumerRebalanceListener):
    """A consumer that counts what happens to it; without a topic it is in no group."""

    def __init__(self, topic=None, **config):
        self.revoked = []
        self.assignments = 0
        wait_for(self.start(topic, config))

    async def start(self, topic, config):
        self.consumer = AIOKafkaConsumer(**config)
        if topic is not None and topic.startswith("^"):
            self.consumer.subscribe(pattern=topic, listener=self)
        elif topic is not None:
            self.consumer.subscribe([topic], listener=self)
        await self.consumer.start()

    async def on_partitions_assigned(self, assigned):
        self.assignments += bool(assigned)

    async def on_partitions_revoked(self, revoked):
        self.revoked += [one.partition for one in revoked]

    def poll(self, wait_ms):
        found = wait_for(self.consumer.getmany(timeout_ms=wait_ms))
        return [as_read(record) for records in found.values() for record in records]

    def owned(self):
        return sorted((one.topic, one.partition) for one in self.consumer.assignment())

    def commit(self, topic, offset, metadata=""):
        wait_for(self.consumer.commit(at(topic, offset, metadata)))

    def commit_later(self, topic, offset, answer):
        task = self.consumer.commit(at(topic, offset))
        done = asyncio.run_coroutine_threadsafe(task, LOOP)
        done.add_done_callback(lambda future: answer(future.exception()))

    def pause(self, topic, partition):
        LOOP.call_soon_threadsafe(self.consumer.pause, TopicPartition(topic, partition))

    def resume(self, topic, partition):
        LOOP.call_soon_threadsafe(self.consumer.resume, TopicPartition(topic, partition))

    def close(self):
        wait_for(self.consumer.stop())


class Broker(AdminRequests):
    """The broker under test as this client sees it; every topic name gets the run's prefix."""

    LZ4_NEEDS_COORDINATOR = False
    NULL_HEADERS = True
    NEEDS_KEY_OR_VALUE = True
    # Its admin metadata requests allow creation, and its producer retries any topic error until its
    # timeout, then calls it an unknown topic (client.py, _wait_on_metadata).
    DESCRIBE_CREATES = True
    PRODUCE_NAMES_INVALID_TOPIC = False
    CONTENT_NOTE = "the client refuses a null key together with a null value"

    def __init__(self, bootstrap, prefix):
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.admin = wait_for(self.connect())

    async def connect(self):
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        return admin

    def wait_for(self, coroutine):
        return wait_for(coroutine)

    def produce(self, topic, records, acks="all", codec="none", largest=None):
        """Sends all, then waits; returns [(partition, offset)], raises on any delivery error."""
        config = {"acks": int(acks) if acks.isdigit() else acks}
        if codec != "none":
            config["compression_type"] = codec
        if largest is not None:
            config["max_request_size"] = largest
        # A linger keeps what is sent together in one batch.
        return wait_for(self.send_all(topic, records, linger_ms=50, **config))[0]

    def produce_idempotent(self, topic, records):
        """Sends in small batches; returns the offsets and the producer's id."""
        config = {"enable_idempotence": True, "max_batch_size": 300}
        sent, producer = wait_for(self.send_all(topic, records, **config))
        # aiokafka tells the id nowhere else.
        return [offset for _, offset in sent], producer._txn_manager.producer_id

    async def send_all(self, topic, records, **config):
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **config)
        await producer.start()
        try:
            futures = [
                await producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                    timestamp_ms=record.timestamp,
                )
                for record in records
            ]
            sent = await asyncio.gather(*futures)
        finally:
            await producer.stop()
        return [one and (one.partition, one.offset) for one in sent], producer

    def consumer(self, reset="none", wait_ms=50):
        return Member(
            bootstrap_servers=self.bootstrap, auto_offset_reset=reset, fetch_max_wait_ms=wait_ms
        )

    def read(self, topic, partitions=(0,), offset=START, at_least=0, reset="none"):
        """Reads by assignment up to the end of every partition, and until `at_least` records."""
        assigned = [TopicPartition(topic, partition) for partition in partitions]
        with contextlib.closing(self.consumer(reset)) as member:
            wait_for(self.assign(member.consumer, assigned, offset))
            ends = wait_for(member.consumer.end_offsets(assigned))
            read = []
            deadline = time.monotonic() + TIMEOUT_S
            while len(read) < at_least or not self.at_end(member.consumer, ends):
                expect(time.monotonic() < deadline, f"only {len(read)} records of {ends}")
                read += member.poll(100)
            return read

    @staticmethod
    async def assign(consumer, assigned, offset):
        consumer.assign(assigned)
        if offset == START:
            await consumer.seek_to_beginning(*assigned)
        elif offset == END:
            await consumer.seek_to_end(*assigned)
        else:
            for one in assigned:
                consumer.seek(one, offset)

    @staticmethod
    def at_end(consumer, ends):
        return all(wait_for(consumer.position(one)) == end for one, end in ends.items())

    def parked(self, topic, wait_ms):
        """A consumer at the end of partition 0, whose fetches wait that long for a record."""
        member = self.consumer(wait_ms=wait_ms)
        wait_for(self.assign(member.consumer, [TopicPartition(topic, 0)], END))
        equal(member.poll(100), [], "records before the end")
        return member

    def offset_at(self, topic, timestamp):
        at_time = {TopicPartition(topic, 0): timestamp}
        with contextlib.closing(self.consumer()) as member:
            (found,) = wait_for(member.consumer.offsets_for_times(at_time)).values()
        return END if found is None else found.offset

    def join(self, group, topic, strategy="range", instance=None):
        expect(strategy == "range", f"aiokafka has no assignor {strategy}")
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
            partition_assignment_strategy=[RangePartitionAssignor],
        )

    def reset(self, group, topic, offset):
        """What aiokafka has for it: a consumer of the group that is assigned, not subscribed."""
        config = {"group_id": group, "enable_auto_commit": False}
        member = Member(bootstrap_servers=self.bootstrap, **config)
        with contextlib.closing(member):
            wait_for(self.assign(member.consumer, [TopicPartition(topic, 0)], offset))
            member.commit(topic, offset)

    @staticmethod
    def error_code(function):
        """The protocol's error code that calling `function` raises; fails when it raises none."""
        try:
            function()
        except errors.CommitFailedError:
            # Its own name for an unknown member, and for an illegal generation.
            return errors.UnknownMemberIdError.errno
        except errors.OffsetOutOfRangeError:
            return errors.OffsetOutOfRangeError.errno
        except errors.BrokerResponseError as raised:
            return raised.errno
        raise AssertionError("no error, expected one")


def at(topic, offset, metadata=""):
    return {TopicPartition(topic, 0): OffsetAndMetadata(offset, metadata)}


def as_read(record):
    return Read(
        record.partition,
        record.offset,
        record.key,
        record.value,
        record.headers,
        record.timestamp,
    )
