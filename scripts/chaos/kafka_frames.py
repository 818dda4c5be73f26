"""Just enough of the Kafka protocol to check a broker from outside, written by hand.

Shares no code with the broker or its client: an error common to both would go unnoticed otherwise.
Non-flexible versions only: CreateTopics 4, InitProducerId 1, Produce 8, Fetch 11, ListOffsets 2,
OffsetFetch 5, DescribeGroups 0.
"""

import socket
import struct

CREATE_TOPICS, INIT_PRODUCER_ID, PRODUCE, FETCH, LIST_OFFSETS = 19, 22, 0, 1, 2
OFFSET_FETCH, DESCRIBE_GROUPS = 9, 15

_CRC_TABLE = []
for _byte in range(256):
    _crc = _byte
    for _ in range(8):
        _crc = (_crc >> 1) ^ (0x82F63B78 if _crc & 1 else 0)
    _CRC_TABLE.append(_crc)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(number):
    """Zigzag variable-length integer."""
    number = (number << 1) ^ (number >> 63)
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data, at):
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (result >> 1) ^ -(result & 1), at
        shift += 7


def string(text):
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def record_batch(values, producer_id, producer_epoch, base_sequence, timestamp):
    """A record batch (format v2) of records that have a value and nothing else."""
    records = bytearray()
    for delta, value in enumerate(values):
        body = b"\0" + varint(0) + varint(delta) + varint(-1) + varint(len(value)) + value
        body += varint(0)
        records += varint(len(body)) + body
    covered = struct.pack(
        ">hiqqqhii", 0, len(values) - 1, timestamp, timestamp,
        producer_id, producer_epoch, base_sequence, len(values),
    ) + records
    head = struct.pack(">iBI", -1, 2, crc32c(covered))
    return struct.pack(">qi", 0, len(head) + len(covered)) + head + covered


def batches(data):
    """Yields (base offset, values) of every whole batch; checks magic and CRC."""
    at = 0
    while at + 61 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        magic, crc = struct.unpack_from(">BI", data, at + 16)
        assert magic == 2, f"magic {magic} at offset {base}"
        covered = data[at + 21 : end]
        assert crc32c(covered) == crc, f"wrong CRC in the batch at offset {base}"
        count = struct.unpack_from(">i", covered, 36)[0]
        values, place = [], 40
        for _ in range(count):
            size, place = read_varint(covered, place)
            stop = place + size
            _, inner = read_varint(covered, place + 1)
            _, inner = read_varint(covered, inner)
            key_length, inner = read_varint(covered, inner)
            inner += max(key_length, 0)
            value_length, inner = read_varint(covered, inner)
            values.append(bytes(covered[inner : inner + value_length]))
            place = stop
        yield base, values
        at = end


class Connection:
    """One connection; requests may be pipelined, responses are read in order."""

    def __init__(self, host, port, timeout=30.0):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0
        self.received = bytearray()

    def frame(self, api_key, version, body):
        """(correlation, bytes) of a request, for the caller to send in this order."""
        self.correlation += 1
        header = struct.pack(">hhi", api_key, version, self.correlation) + string("chaos")
        frame = header + body
        return self.correlation, struct.pack(">i", len(frame)) + frame

    def send(self, api_key, version, body):
        correlation, frame = self.frame(api_key, version, body)
        self.socket.sendall(frame)
        return correlation

    def take_frames(self):
        """Splits off the whole frames received so far: (correlation, body)."""
        frames = []
        while len(self.received) >= 4:
            length = struct.unpack_from(">i", self.received)[0]
            if len(self.received) < 4 + length:
                break
            frame = bytes(self.received[4 : 4 + length])
            del self.received[: 4 + length]
            frames.append((struct.unpack_from(">i", frame)[0], frame[4:]))
        return frames

    def receive_some(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the broker closed the connection")
        self.received += data

    def call(self, api_key, version, body):
        correlation = self.send(api_key, version, body)
        while True:
            for found, answer in self.take_frames():
                assert found == correlation, f"answer {found} to request {correlation}"
                return answer
            self.receive_some()

    def close(self):
        self.socket.close()


def create_topic(connection, name, partitions):
    body = struct.pack(">i", 1) + string(name) + struct.pack(">ihii", partitions, 1, 0, 0)
    answer = connection.call(CREATE_TOPICS, 4, body + struct.pack(">i?", 30000, False))
    at = 4 + 4
    length = struct.unpack_from(">h", answer, at)[0]
    return struct.unpack_from(">h", answer, at + 2 + length)[0]


def init_producer_id(connection):
    answer = connection.call(INIT_PRODUCER_ID, 1, struct.pack(">hi", -1, 60000))
    _, error, producer_id, epoch = struct.unpack_from(">ihqh", answer)
    assert error == 0, f"InitProducerId: error {error}"
    return producer_id, epoch


def produce_body(topic, partition, batch, acks=-1):
    return (
        struct.pack(">hhii", -1, acks, 30000, 1) + string(topic)
        + struct.pack(">iii", 1, partition, len(batch)) + batch
    )


def parse_produce(answer):
    """(partition, error, base offset) of a response with one partition."""
    length = struct.unpack_from(">h", answer, 4)[0]
    return struct.unpack_from(">ihq", answer, 4 + 2 + length + 4)


def fetch_body(topic, partition, offset, bytes_max, wait_ms=0):
    """Version 11, one partition, without a session."""
    body = struct.pack(">iiiibii", -1, wait_ms, 1, bytes_max, 0, 0, -1)
    body += struct.pack(">i", 1) + string(topic)
    body += struct.pack(">iiiqqi", 1, partition, -1, offset, -1, bytes_max)
    return body + struct.pack(">i", 0) + string("")


def fetch(connection, topic, partition, offset, bytes_max=8 << 20, wait_ms=0):
    """(error, high-water mark, log start, record bytes)."""
    body = fetch_body(topic, partition, offset, bytes_max, wait_ms)
    answer = connection.call(FETCH, 11, body)
    _, error, _, topics = struct.unpack_from(">ihii", answer)
    assert error == 0 and topics == 1, f"fetch: error {error}, {topics} topics"
    at = 14 + 2 + struct.unpack_from(">h", answer, 14)[0] + 4
    _, error, high_watermark, _, log_start, aborted = struct.unpack_from(">ihqqqi", answer, at)
    at += 34 + max(aborted, 0) * 16 + 4
    length = struct.unpack_from(">i", answer, at)[0]
    return error, high_watermark, log_start, answer[at + 4 : at + 4 + max(length, 0)]


def list_offset_answer(connection, topic, partition, timestamp):
    """(error, offset)"""
    body = struct.pack(">ibi", -1, 0, 1) + string(topic)
    body += struct.pack(">iiq", 1, partition, timestamp)
    answer = connection.call(LIST_OFFSETS, 2, body)
    at = 8
    at += 2 + struct.unpack_from(">h", answer, at)[0] + 4
    _, error, _, offset = struct.unpack_from(">ihqq", answer, at)
    return error, offset


def list_offset(connection, topic, partition, timestamp):
    error, offset = list_offset_answer(connection, topic, partition, timestamp)
    assert error == 0, f"ListOffsets: error {error}"
    return offset


def offset_fetch(connection, group, topic, partitions):
    """(error, {partition: committed offset, -1 for none}); OffsetFetch 5."""
    body = string(group) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    answer = connection.call(OFFSET_FETCH, 5, body)
    topics, at = struct.unpack_from(">i", answer, 4)[0], 8
    offsets, first_error = {}, 0
    for _ in range(topics):
        at += 2 + struct.unpack_from(">h", answer, at)[0]
        count = struct.unpack_from(">i", answer, at)[0]
        at += 4
        for _ in range(count):
            partition, offset, _, metadata = struct.unpack_from(">iqih", answer, at)
            at += 18 + max(metadata, 0)
            first_error = first_error or struct.unpack_from(">h", answer, at)[0]
            at += 2
            offsets[partition] = offset
    return struct.unpack_from(">h", answer, at)[0] or first_error, offsets


def describe_group(connection, group):
    """(error, state, number of members); DescribeGroups 0."""
    answer = connection.call(DESCRIBE_GROUPS, 0, struct.pack(">i", 1) + string(group))
    error, length = struct.unpack_from(">hh", answer, 4)
    at = 8 + length
    texts = []
    for _ in range(3):
        length = struct.unpack_from(">h", answer, at)[0]
        texts.append(answer[at + 2 : at + 2 + max(length, 0)].decode())
        at += 2 + max(length, 0)
    return error, texts[0], struct.unpack_from(">i", answer, at)[0]
