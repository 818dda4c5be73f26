"""The broker under test as confluent-kafka (librdkafka) sees it: create, produce, read.

Consumers never subscribe nor commit. librdkafka still looks for the group's coordinator in the
background because it demands a group.id; that search may fail and must not matter.
"""

import json
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from checks import START, TIMEOUT_S, Read, equal, expect
from confluent_admin import AdminRequests

COORDINATOR_ERRORS = {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._WAIT_COORD,
    KafkaError._UNSUPPORTED_FEATURE,
}


class Broker(AdminRequests):
    """The broker under test as this client sees it; every topic name gets the run's prefix."""

    # librdkafka ties lz4 to the coordinator request that came with the same Kafka release.
    LZ4_NEEDS_COORDINATOR = True
    NULL_HEADERS = True
    NEEDS_KEY_OR_VALUE = False
    DESCRIBE_CREATES = False
    PRODUCE_NAMES_INVALID_TOPIC = True
    CONTENT_NOTE = None

    def __init__(self, bootstrap, prefix):
        self.bootstrap = bootstrap
        self.prefix = prefix
        # Errors that librdkafka reports beside the call that met them.
        self.background_errors = []
        self.admin = AdminClient(self.config())

    def config(self, **more):
        return {
            "bootstrap.servers": self.bootstrap,
            "log_level": 3,
            "error_cb": self.background_errors.append,
            **more,
        }

    def create(self, name, partitions=1, **configs):
        """Creates a topic, one replica each, and returns its full name."""
        topic = f"{self.prefix}-{name}"
        configs = {key.replace("_", "."): value for key, value in configs.items()}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=configs)
        self.admin.create_topics([new], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)
        return topic

    def produce(self, topic, records, acks="all", codec="none", largest=None):
        """Sends all in one flush; returns [(partition, offset)], raises on any delivery error."""
        delivered = []

        def on_delivery(error, message):
            delivered.append((error, message))

        # A linger keeps what is sent together in one batch; flush does not wait it out.
        config = {"acks": acks, "compression.type": codec, "linger.ms": 50}
        if largest is not None:
            config["message.max.bytes"] = largest
        producer = Producer(self.config(**config))
        for record in records:
            while True:
                try:
                    producer.produce(
                        topic,
                        value=record.value,
                        key=record.key,
                        partition=record.partition,
                        headers=list(record.headers),
                        timestamp=record.timestamp or 0,
                        on_delivery=on_delivery,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        equal(producer.flush(TIMEOUT_S), 0, "records not answered in time")
        equal(len(delivered), len(records), "delivery reports")
        for error, _ in delivered:
            if error is not None:
                raise KafkaException(error)
        return [(message.partition(), message.offset()) for _, message in delivered]

    def produce_idempotent(self, topic, records):
        """Sends in small pipelined batches; returns the offsets and the producer's id."""
        states, offsets = [], []
        producer = Producer(
            self.config(
                **{
                    "acks": "all",
                    "enable.idempotence": True,
                    "linger.ms": 0,
                    "batch.num.messages": 10,
                    "statistics.interval.ms": 50,
                    "stats_cb": lambda text: states.append(json.loads(text).get("eos", {})),
                }
            )
        )
        for record in records:
            producer.produce(
                topic,
                record.value,
                record.key,
                partition=0,
                on_delivery=lambda error, message: offsets.append(error or message.offset()),
            )
        equal(producer.flush(TIMEOUT_S), 0, "records not answered in time")
        deadline = time.monotonic() + TIMEOUT_S
        while not any(state.get("producer_id", -1) >= 0 for state in states):
            expect(time.monotonic() < deadline, f"no producer id: {states[-1:]}")
            producer.poll(0.05)
        return offsets, states[-1]["producer_id"]

    def offset_at(self, topic, timestamp):
        consumer = self.consumer()
        try:
            asked = [TopicPartition(topic, 0, timestamp)]
            (found,) = consumer.offsets_for_times(asked, timeout=TIMEOUT_S)
            equal(found.error, None, f"error for timestamp {timestamp}")
            return found.offset
        finally:
            consumer.close()

    def consumer(self, **config):
        return Consumer(
            self.config(
                **{
                    "group.id": "interop-never-joined",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "error",
                    "allow.auto.create.topics": False,
                    # The end is reported when a fetch comes back empty.
                    "fetch.wait.max.ms": 50,
                    **config,
                }
            )
        )

    def read(self, topic, partitions=(0,), offset=START, at_least=0, reset="error"):
        """Reads by assignment up to the end of every partition, and until `at_least` records."""
        consumer = self.consumer(**{"auto.offset.reset": reset})
        try:
            consumer.assign([TopicPartition(topic, p, offset) for p in partitions])
            return self.read_on(consumer, set(partitions), at_least)
        finally:
            consumer.close()

    @staticmethod
    def read_on(consumer, partitions, at_least=0):
        read, ended = [], set()
        deadline = time.monotonic() + TIMEOUT_S
        while ended != partitions or len(read) < at_least:
            expect(time.monotonic() < deadline, f"only {len(read)} records, ends seen: {ended}")
            for message in consumer.consume(1000, 0.2):
                error = message.error()
                if error is None:
                    read.append(as_read(message))
                    ended.discard(message.partition())
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif error.code() not in COORDINATOR_ERRORS:
                    raise KafkaException(error)
        return read


def as_read(message):
    return Read(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers() or (),
        message.timestamp()[1],
    )


def error_code(function):
    """The KafkaError code that calling `function` raises; fails when it raises none."""
    try:
        function()
    except KafkaException as raised:
        code = raised.args[0].code()
        # librdkafka's own name for an offset out of range without a reset policy.
        reset = KafkaError._AUTO_OFFSET_RESET
        return KafkaError.OFFSET_OUT_OF_RANGE if code == reset else code
    raise AssertionError("no error, expected one")
