"""What kill9_groups runs against a broker: a producer of numbered records, and groups of members.

Members are threads with a consumer each, of confluent-kafka as it is. A group notes what was
delivered, which commits were asked for and which were acknowledged, and judges each takeover.
"""

import random
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

SESSION_MS = 6000
# Bounds both how long a member may not poll and how long a rebalance waits for it.
REBALANCE_MS = 10_000
RECORDS_PER_S = 400


class Failure(AssertionError):
    """What a broker did against a promise."""


def value_of(partition, number):
    return b"%d:%d" % (partition, number)


class Numbers:
    """Numbers the records of each partition from 0, idempotently, so that number equals offset."""

    def __init__(self, bootstrap, topic, partitions):
        self.topic = topic
        self.counts = [0] * partitions
        self.failure = None
        self.ending = threading.Event()
        # Without a time limit: a record outlives every restart of the broker.
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        while not self.ending.is_set():
            for partition in range(len(self.counts)):
                value = value_of(partition, number)
                try:
                    self.producer.produce(
                        self.topic, value, partition=partition, on_delivery=self._delivered
                    )
                except (BufferError, KafkaException) as error:
                    self.failure = self.failure or f"produce: {error}"
                    return
            number += 1
            # While the broker is away, only so much is queued.
            while len(self.producer) > 20_000 and not self.ending.is_set():
                self.producer.poll(0.1)
            self.producer.poll(len(self.counts) / RECORDS_PER_S)
            time.sleep(len(self.counts) / RECORDS_PER_S)

    def _delivered(self, error, message):
        partition = message.partition()
        if error is not None:
            self.failure = self.failure or f"record of partition {partition}: {error}"
        elif message.value() != value_of(partition, message.offset()):
            self.failure = self.failure or f"{message.value()} acknowledged at {message.offset()}"
        else:
            self.counts[partition] = max(self.counts[partition], message.offset() + 1)

    def acknowledged(self):
        """How many records of each partition are acknowledged; they are the first ones."""
        return list(self.counts)

    def stop(self):
        self.ending.set()
        self.thread.join()
        left = self.producer.flush(30)
        self.raise_failure()
        if left:
            raise Failure(f"{left} records are not acknowledged 30 s after the last restart")

    def raise_failure(self):
        if self.failure:
            raise Failure(self.failure)


class Group:
    """One consumer group: its members, and what each partition has seen."""

    def __init__(self, name, kind, bootstrap, topic, partitions, members_max, numbers):
        self.name, self.kind, self.bootstrap, self.topic = name, kind, bootstrap, topic
        self.partitions, self.members_max, self.numbers = partitions, members_max, numbers
        self.lock = threading.Lock()
        self.acknowledged = {partition: None for partition in range(partitions)}
        self.asked = dict.fromkeys(range(partitions), 0)
        self.delivered = [bytearray() for _ in range(partitions)]
        self.failure = None
        self.commits = self.assignments = self.repeated = 0
        self.slots, self.leaving = {}, {}
        self.started = 0
        self._join()

    def _join(self):
        # A static member's name is free again only once its last bearer has ended.
        busy = {slot for slot, one in self.leaving.items() if one.thread.is_alive()}
        free = set(range(self.members_max)) - set(self.slots) - busy
        if free:
            self.started += 1
            self.slots[min(free)] = Member(self, min(free), self.started)

    def join_or_leave(self, rng):
        """One member more or less, but never none."""
        if len(self.slots) == 1 or (len(self.slots) < self.members_max and rng.random() < 0.5):
            self._join()
        else:
            slot = rng.choice(sorted(self.slots))
            self.leaving[slot] = self.slots.pop(slot)
            self.leaving[slot].leave()

    def size(self):
        return len(self.slots)

    def owned(self):
        """The partitions that live members own, in order; a partition owned twice shows twice."""
        return sorted(partition for one in self.slots.values() for partition in list(one.next))

    def acknowledged_commits(self):
        with self.lock:
            return dict(self.acknowledged)

    def missing(self, counts):
        """By partition, how many of the first `counts` records no member was ever given."""
        found = {}
        with self.lock:
            for partition, count in enumerate(counts):
                absent = count - sum(1 for seen in self.delivered[partition][:count] if seen)
                if absent:
                    found[partition] = absent
        return found

    def took_over(self, partition, first, acknowledged_before):
        """Judges the first offset that a new owner is given."""
        with self.lock:
            self.assignments += 1
            lowest, highest = acknowledged_before or 0, self.asked[partition]
        if not lowest <= first <= highest:
            self.fail(
                f"the new owner of partition {partition} starts at {first}; commits up to {lowest} "
                f"are acknowledged and up to {highest} asked for"
            )

    def given(self, partition, offset, value):
        if value != value_of(partition, offset):
            self.fail(f"partition {partition} offset {offset} holds {value}")
        with self.lock:
            seen = self.delivered[partition]
            if len(seen) <= offset:
                seen.extend(bytes(max(offset + 1 - len(seen), 4096)))
            self.repeated += seen[offset]
            seen[offset] = 1

    def ask(self, positions):
        with self.lock:
            for partition, offset in positions.items():
                self.asked[partition] = max(self.asked[partition], offset)

    def acknowledge(self, positions):
        with self.lock:
            self.commits += 1
            for partition, offset in positions.items():
                self.acknowledged[partition] = max(self.acknowledged[partition] or 0, offset)

    def fail(self, what):
        self.failure = self.failure or f"{self.name}: {what}"

    def raise_failure(self):
        if self.failure:
            raise Failure(self.failure)

    def stop(self):
        for member in self.slots.values():
            member.leave()
        for member in self.slots.values():
            member.thread.join(30)
        self.slots.clear()


class Member:
    """One thread that polls and commits until it is told to leave."""

    def __init__(self, group, slot, number):
        self.group = group
        self.random = random.Random(number)
        self.ending = threading.Event()
        # By owned partition, the next offset; None until the first record tells.
        self.next = {}
        self.known_commits = {}
        config = {
            "bootstrap.servers": group.bootstrap,
            "group.id": group.name,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": SESSION_MS,
            "max.poll.interval.ms": REBALANCE_MS,
            "heartbeat.interval.ms": 300,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
            "error_cb": self._failed,
        }
        if group.kind == "cooperative":
            config["partition.assignment.strategy"] = "cooperative-sticky"
        if group.kind == "static":
            config["group.instance.id"] = f"slot-{slot}"
        self.consumer = Consumer(config)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def leave(self):
        self.ending.set()

    def _run(self):
        try:
            self.consumer.subscribe(
                [self.group.topic],
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._revoked,
            )
            while not self.ending.is_set():
                for message in self.consumer.consume(200, 0.05):
                    if message.error() is None:
                        self._take(message)
                    elif message.error().fatal():
                        raise KafkaException(message.error())
                if self.random.random() < 0.5:
                    self._commit()
        except Exception as error:
            self.group.fail(f"a member died of {type(error).__name__}: {error}")
        finally:
            self.next.clear()
            self._close()

    def _close(self):
        """Gives the partitions back before closing: librdkafka 2.16 can wait for itself for ever when
        a consumer is told of their loss while it closes, and holds Python's lock meanwhile."""
        self.consumer.unsubscribe()
        deadline = time.monotonic() + SESSION_MS / 1000
        while self.consumer.assignment() and time.monotonic() < deadline:
            self.consumer.consume(200, 0.05)
        self.consumer.close()

    def _failed(self, error):
        # Such a consumer is of no use any more: a broker's restart must not do that to one.
        if error.fatal():
            self.group.fail(f"a member ended by {error.name()}: {error.str()}")

    def _assigned(self, _, partitions):
        commits = self.group.acknowledged_commits()
        for one in partitions:
            self.known_commits[one.partition] = commits[one.partition]
            self.next[one.partition] = None

    def _revoked(self, _, partitions):
        # A commit here is the last moment at which it is ours to make.
        if self.random.random() < 0.5:
            self._commit()
        for one in partitions:
            self.next.pop(one.partition, None)

    def _take(self, message):
        partition, offset = message.partition(), message.offset()
        if partition not in self.next:
            self.group.fail(f"a record of partition {partition}, which its reader does not own")
            return
        if self.next[partition] is None:
            self.group.took_over(partition, offset, self.known_commits[partition])
        elif self.next[partition] != offset:
            self.group.fail(
                f"partition {partition}: {offset} came where {self.next[partition]} was due"
            )
        self.group.given(partition, offset, message.value())
        self.next[partition] = offset + 1

    def _commit(self):
        positions = {p: offset for p, offset in self.next.items() if offset is not None}
        if not positions:
            return
        offsets = [TopicPartition(self.group.topic, p, at) for p, at in positions.items()]
        self.group.ask(positions)
        try:
            answers = self.consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException:
            # Refused or never answered: the group may have moved on, or the broker be away.
            return
        self.group.acknowledge({one.partition: one.offset for one in answers if not one.error})
