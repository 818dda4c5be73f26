"""One record, produced and acknowledged over a plain socket: for the time from start to service.

A whole client would spend a good part of that time on itself. The bytes are Kafka's Produce v3 with
one record batch v2, encoded here without the broker's codec or another client's.
"""

import socket
import struct
import time

from .machine import CannotMeasure

PRODUCE = 0
VERSION = 3
CLIENT_ID = b"highwater-perf"
TIMEOUT_MS = 30_000
# Of one attempt: a broker that is starting may accept a connection long before it answers.
ATTEMPT_S = 5.0
ANSWER_BYTES_MAX = 64 << 10
CRC32C_POLYNOMIAL = 0x82F63B78


def crc32c_table():
    """The checksum of each byte."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data):
    """The checksum of a record batch."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def varint(value):
    """A record's signed number: zigzag, seven bits a byte."""
    value = value << 1 ^ value >> 63
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def record_batch(value, timestamp_ms):
    """A batch of one record without key, at the broker's choice of offset."""
    record = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    # Attributes, last offset delta, two timestamps, no producer, one record.
    checked = struct.pack(">hiqqqhii", 0, 0, timestamp_ms, timestamp_ms, -1, -1, -1, 1)
    checked += varint(len(record)) + record
    behind_length = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(behind_length)) + behind_length


def produce_request(topic, value, timestamp_ms):
    """The frame that appends one record to partition 0 and asks for acks=all."""
    name, batch = topic.encode(), record_batch(value, timestamp_ms)
    body = struct.pack(">hhih", PRODUCE, VERSION, 1, len(CLIENT_ID)) + CLIENT_ID
    body += struct.pack(">hhi", -1, -1, TIMEOUT_MS)
    body += struct.pack(">ih", 1, len(name)) + name
    body += struct.pack(">iii", 1, 0, len(batch)) + batch
    return struct.pack(">i", len(body)) + body


def check_answer(answer, topic):
    """The record's offset; raises ValueError for a refusal or a malformed answer."""
    name = topic.encode()
    head = struct.pack(">iih", 1, 1, len(name)) + name + struct.pack(">ii", 1, 0)
    if not answer.startswith(head) or len(answer) < len(head) + 10:
        raise ValueError(f"malformed answer to Produce: {answer[:80]!r}")
    error, offset = struct.unpack_from(">hq", answer, len(head))
    if error != 0:
        raise ValueError(f"Produce was refused with error code {error}")
    return offset


def exactly(stream, size):
    """That many bytes of a stream."""
    data = stream.read(size)
    if len(data) != size:
        raise ValueError(f"the connection was closed after {len(data)} of {size} bytes")
    return data


def produce_one(address, topic, value):
    """Appends a record; its offset. Raises OSError or ValueError when that did not work."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), ATTEMPT_S) as connection:
        # Of now: what is older than the topic's retention is deleted at the next start.
        connection.sendall(produce_request(topic, value, time.time_ns() // 1_000_000))
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", exactly(stream, 4))
            if not 0 < size <= ANSWER_BYTES_MAX:
                raise ValueError(f"an answer of {size} bytes; allowed are 1 to {ANSWER_BYTES_MAX}")
            return check_answer(exactly(stream, size), topic)


def acknowledges(topic, record_bytes, interval_s=0.002):
    """For a server's `ready`: tries to append a record until that is acknowledged."""
    value = bytes(index * 31 % 251 for index in range(record_bytes))

    def ready(server):
        offset = server.try_until(
            lambda: produce_one(server.address, topic, value), interval_s, "acknowledge a record"
        )
        if offset < 0:
            raise CannotMeasure(f"{server.command[0]} acknowledged a record at offset {offset}")

    return ready
