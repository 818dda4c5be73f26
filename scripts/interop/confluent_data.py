"""confluent-kafka: checks of producing and consuming."""

import json
import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, Producer, TopicPartition

import api_versions
from checks import LARGE_RECORD_BYTES, NO_LZ4, TIMEOUT_S, Record, Skip, compressible, equal
from checks import expect, incompressible, numbered, verify
from confluent_broker import as_read, error_code

KIB = 1024
PARKED_MS = 3000


def checks(broker, served):
    """The checks by name. `served` is the broker's own table of requests."""

    def round_trip(topic, records, at_least=0, **config):
        delivered = broker.produce(topic, records, **config)
        partitions = sorted({record.partition for record in records})
        verify(broker.read(topic, partitions, at_least=at_least), records)
        return delivered

    def create():
        topic = broker.create("create", partitions=3)
        partitions = broker.admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        equal(sorted(partitions), [0, 1, 2], "partitions")

    def acks(value):
        def check():
            topic = broker.create(f"acks-{value}")
            records = numbered(100)
            delivered = round_trip(topic, records, at_least=100, acks=value)
            if value != "0":
                equal(delivered, [(0, i) for i in range(100)], "acknowledged offsets")

        return check

    def idempotence():
        topic = broker.create("idempotence")
        states = []
        producer = Producer(
            broker.config(
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
        offsets = []
        records = numbered(1000)
        for record in records:
            producer.produce(
                topic,
                record.value,
                record.key,
                partition=0,
                on_delivery=lambda error, message: offsets.append(error or message.offset()),
            )
        equal(producer.flush(TIMEOUT_S), 0, "records not answered in time")
        equal(offsets, list(range(1000)), "acknowledged offsets")
        deadline = time.monotonic() + TIMEOUT_S
        while not any(state.get("producer_id", -1) >= 0 for state in states):
            expect(time.monotonic() < deadline, f"no producer id: {states[-1:]}")
            producer.poll(0.05)
        verify(broker.read(topic), records)

    def codec(name):
        def check():
            topic = broker.create(f"codec-{name}")
            records = [Record(0, b"k%d" % i, compressible(2 * KIB)) for i in range(50)]
            round_trip(topic, records, **{"compression.type": name})
            if name == "none":
                return
            if name == "lz4" and api_versions.FIND_COORDINATOR not in served:
                raise Skip(NO_LZ4)
            # Above the default max.message.bytes unless the client compressed it.
            big = Record(0, b"big", compressible(2 * KIB * KIB))
            allowed = {"compression.type": name, "message.max.bytes": 4 * KIB * KIB}
            broker.produce(topic, [big], **allowed)
            verify(broker.read(topic), [*records, big])

        return check

    def content():
        topic = broker.create("content")
        headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]
        headers.append(("schl\u00fcssel", b"\0\xff"))
        records = [
            Record(0, b"key", b"value", headers),
            Record(0, None, b"null key"),
            Record(0, b"", b"empty key"),
            Record(0, b"null value", None),
            Record(0, b"empty value", b""),
            Record(0, None, None, [("only", b"header")]),
            Record(0, bytes(range(256)), bytes(range(255, -1, -1))),
            Record(0, "\u0448\u043b\u044e\u0437".encode(), "\U0001f30a".encode()),
        ]
        round_trip(topic, records)

    def partitions():
        topic = broker.create("partitions", partitions=3)
        records = [r for p in range(3) for r in numbered(100 + p, p)]
        records.sort(key=lambda record: record.key)
        round_trip(topic, records)

    def many_records():
        topic = broker.create("many-records", partitions=3)
        records = [Record(i % 3, b"%d" % i, b"record %d" % i) for i in range(20_000)]
        round_trip(topic, records)

    def large_record():
        limit = 2 * LARGE_RECORD_BYTES
        topic = broker.create("large-record", **{"max.message.bytes": str(limit)})
        large = incompressible(LARGE_RECORD_BYTES)
        records = [Record(0, b"large", large), Record(0, b"small", b"after")]
        round_trip(topic, records, **{"message.max.bytes": limit})

    def from_start():
        topic = broker.create("from-start")
        for part in (numbered(10), numbered(10, prefix="second")):
            broker.produce(topic, part)
        expected = numbered(10) + numbered(10, prefix="second")
        verify(broker.read(topic, offset=OFFSET_BEGINNING), expected)
        verify(broker.read(topic, offset=13), expected[13:], first_offset=13)

    def from_end():
        topic = broker.create("from-end")
        broker.produce(topic, numbered(10, prefix="before"))
        # A fetch parked at the end for seconds is woken by the records that come.
        consumer = broker.consumer(**{"fetch.wait.max.ms": PARKED_MS})
        try:
            consumer.assign([TopicPartition(topic, 0, OFFSET_END)])
            # The end of the partition is reported once the position is known.
            equal(broker.read_on(consumer, {0}), [], "records before the end")
            after = numbered(10, prefix="after")
            broker.produce(topic, after)
            produced = time.monotonic()
            read = consumer.consume(len(after), TIMEOUT_S)
            waited_ms = (time.monotonic() - produced) * 1000
            verify([as_read(message) for message in read], after, first_offset=10)
            expect(waited_ms < PARKED_MS / 2, f"the parked fetch slept on for {waited_ms:.0f} ms")
        finally:
            consumer.close()

    def from_timestamp(**config):
        def check():
            topic = broker.create("from-timestamp" + "-".join(["", *config.values()]))
            base = int(time.time()) * 1000 - 60_000
            records = [Record(0, None, b"at %d" % i, (), base + 1000 * i) for i in range(20)]
            for first in range(0, 20, 10):
                broker.produce(topic, records[first : first + 10], **config)
            consumer = broker.consumer()
            try:
                for timestamp, offset in [
                    (base - 1, 0),
                    (base + 7000, 7),
                    (base + 12_500, 13),
                    (base + 19_001, OFFSET_END),
                ]:
                    asked = [TopicPartition(topic, 0, timestamp)]
                    (found,) = consumer.offsets_for_times(asked, timeout=TIMEOUT_S)
                    equal(found.error, None, f"error for timestamp base{timestamp - base:+}")
                    equal(found.offset, offset, f"offset for timestamp base{timestamp - base:+}")
            finally:
                consumer.close()
            verify(broker.read(topic, offset=7), records[7:], first_offset=7)

        return check

    def offset_out_of_range():
        topic = broker.create("offset-out-of-range")
        broker.produce(topic, numbered(5))
        code = error_code(lambda: broker.read(topic, offset=1000))
        expect(
            code in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET),
            f"error code {code}, expected OFFSET_OUT_OF_RANGE",
        )
        read = broker.read(topic, offset=1000, **{"auto.offset.reset": "earliest"})
        verify(read, numbered(5))

    return {
        "create": create,
        "acks-all": acks("all"),
        "acks-1": acks("1"),
        "acks-0": acks("0"),
        "idempotence": idempotence,
        **{f"codec-{name}": codec(name) for name in ("none", "gzip", "snappy", "lz4", "zstd")},
        "content": content,
        "partitions": partitions,
        "many-records": many_records,
        "large-record": large_record,
        "from-start": from_start,
        "from-end": from_end,
        "from-timestamp": from_timestamp(),
        "from-timestamp-gzip": from_timestamp(**{"compression.type": "gzip"}),
        "offset-out-of-range": offset_out_of_range,
    }
