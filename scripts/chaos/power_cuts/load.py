"""Produces to many partitions and notes each acknowledgement with the place in the drive's log.

The place is read after the answer has arrived, so it is never before the moment at which the
record was acknowledged: a cut at that place or later must keep it. Batches are numbered within
their partition; every value says whose it is, so no two batches have the same bytes. Partitions
with an even number have an idempotent producer, the others have none.
"""

import random
import select
import time

import kafka_frames as kafka

IN_FLIGHT_MAX = 5
CONNECTIONS = 2
TOPIC_SECONDS_MAX = 60
# Partitions of each topic.
TOPIC_WIDTHS = (16, 4, 4)


class Batch:
    """One batch as sent; `base` is the offset it gets when nothing is lost."""

    __slots__ = ("number", "base", "records", "bytes")

    def __init__(self, number, base, records, data):
        self.number, self.base, self.records, self.bytes = number, base, records, data


def identity(batch_bytes):
    """What a broker must not change of a batch: everything behind base offset, length and epoch."""
    return bytes(batch_bytes[16:])


class Partition:
    def __init__(self, topic, index, producer):
        self.topic, self.index, self.producer = topic, index, producer
        self.batches = []  # every one sent, in order
        self.records = 0
        self.in_flight = []
        self.acknowledged = []  # (place in the log, batch number, offset), in order

    def name(self):
        return f"{self.topic}-{self.index}"

    def acknowledged_records(self):
        return sum(self.batches[number].records for _, number, _ in self.acknowledged)

    def new_batch(self, rng):
        number = len(self.batches)
        sizes = rng.choice(((1, 60), (4, 90), (12, 120), (40, 150), (3, 9000)))
        count = rng.randint(1, sizes[0])
        values = [
            b"%s:%d:%d:" % (self.name().encode(), number, at) + rng.randbytes(rng.randint(1, sizes[1]))
            for at in range(count)
        ]
        idempotent = self.index % 2 == 0
        producer_id, epoch = self.producer if idempotent else (-1, -1)
        sequence = self.records if idempotent else -1
        data = kafka.record_batch(values, producer_id, epoch, sequence, int(time.time() * 1000))
        batch = Batch(number, self.records, count, data)
        self.batches.append(batch)
        self.records += count
        return batch


class Load:
    """All partitions of all topics; `position` tells the place in the drive's log."""

    def __init__(self, port, position, seed):
        self.position, self.rng = position, random.Random(seed)
        self.widths = list(TOPIC_WIDTHS)
        self.connections = [kafka.Connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        self.waiting = {connection.socket: [] for connection in self.connections}
        self.partitions = []
        self.producer = None

    def create_topic(self):
        """The next topic; returns when every partition of it answers."""
        connection = kafka.Connection(*self.connections[0].socket.getpeername())
        if self.producer is None:
            self.producer = init_producer(connection)
        name = f"cut-{len(TOPIC_WIDTHS) - len(self.widths)}"
        width = self.widths.pop(0)
        error = kafka.create_topic(connection, name, width)
        assert error == 0, f"creating {name}: error {error}"
        deadline = time.monotonic() + TOPIC_SECONDS_MAX
        for index in range(width):
            while kafka.fetch(connection, name, index, 0)[0] != 0:
                assert time.monotonic() < deadline, f"{name}-{index} does not come up"
                time.sleep(0.05)
            self.partitions.append(Partition(name, index, self.producer))
        connection.close()

    def run(self, seconds):
        """Moods from a trickle to a flood take turns; now and then a topic appears. The first one
        must be there."""
        started = time.monotonic()
        mood_ends, chosen, depth = 0.0, [], 1
        while (passed := time.monotonic() - started) < seconds:
            if self.widths and passed > seconds * (1 - len(self.widths) / len(TOPIC_WIDTHS)):
                self.create_topic()
            if passed > mood_ends:
                mood_ends = passed + self.rng.uniform(0.2, 0.8)
                width = self.rng.choice((1, 2, 6, 16, len(self.partitions)))
                chosen = self.rng.sample(self.partitions, min(width, len(self.partitions)))
                depth = self.rng.choice((1, 2, IN_FLIGHT_MAX))
            self._send_round([one for one in chosen if len(one.in_flight) < depth])
            self._receive()

    def close(self):
        for connection in self.connections:
            connection.close()

    def _send_round(self, partitions):
        """A batch for each, in one piece, so that the broker finds many partitions in one turn."""
        outgoing = {connection: bytearray() for connection in self.connections}
        for partition in partitions:
            batch = partition.new_batch(self.rng)
            connection = self.connections[partition.index % CONNECTIONS]
            body = kafka.produce_body(partition.topic, partition.index, batch.bytes)
            correlation, frame = connection.frame(kafka.PRODUCE, 8, body)
            outgoing[connection] += frame
            self.waiting[connection.socket].append((correlation, partition, batch))
            partition.in_flight.append(batch)
        for connection, frames in outgoing.items():
            connection.socket.sendall(frames)

    def _receive(self):
        ready, _, _ = select.select(list(self.waiting), [], [], 0.02)
        for connection in self.connections:
            if connection.socket in ready:
                connection.receive_some()
                place = self.position()
                for correlation, answer in connection.take_frames():
                    self._acknowledge(connection, correlation, answer, place)

    def _acknowledge(self, connection, correlation, answer, place):
        expected, partition, batch = self.waiting[connection.socket].pop(0)
        assert correlation == expected, "answers out of order"
        index, error, offset = kafka.parse_produce(answer)
        assert (index, error) == (partition.index, 0), f"{partition.name()}: error {error}"
        assert partition.in_flight.pop(0) is batch
        partition.acknowledged.append((place, batch.number, offset))


def init_producer(connection):
    """A producer id; a coordinator may need a moment after the start."""
    deadline = time.monotonic() + TOPIC_SECONDS_MAX
    while True:
        try:
            return kafka.init_producer_id(connection)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
