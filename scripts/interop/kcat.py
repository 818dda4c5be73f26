#!/usr/bin/env python3
"""kcat (librdkafka as the distribution ships it): one process per step, as a person types it.

kcat has no admin requests. One check creates its topic by producing to it; the topics of all
others are made through confluent-kafka, so that they judge what kcat does with a topic.
"""

import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import api_versions
import kcat_groups
from checks import LARGE_RECORD_BYTES, NO_LZ4, TIMEOUT_S, Read, Record, Skip, arguments
from checks import compressible, delete_own_topics, equal, expect, incompressible, numbered
from checks import run_all, verify
from confluent_groups import GroupBroker

KIB = 1024
# Sizes before bytes, so that keys and values may hold anything.
FORMAT = r"%p %o %T %K %S %h\n%k%s\n"
SOON = ["-X", "topic.metadata.refresh.fast.interval.ms=50", "-X", "fetch.wait.max.ms=50"]


class Kcat:
    def __init__(self, bootstrap, prefix):
        self.bootstrap = bootstrap
        self.prefix = prefix

    def run(self, *words, stdin=b"", fails=False):
        """Runs kcat; returns (stdout, stderr) as bytes and text; checks whether it failed."""
        words = [str(word) for word in words]
        command = ["kcat", "-b", self.bootstrap, *SOON, *words]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            said = (late.stderr or b"nothing").decode(errors="replace")
            raise AssertionError(f"kcat {' '.join(words)}: no end; it said: {said}") from None
        errors = done.stderr.decode(errors="replace")
        if (done.returncode != 0) != fails:
            raise AssertionError(f"kcat {' '.join(words)}: exit {done.returncode}: {errors}")
        return done.stdout, errors

    def topic(self, name):
        return f"{self.prefix}-{name}"

    def produce(self, topic, records, *options, acks="all"):
        """Sends keyed text records of one partition, one per line."""
        partition = {record.partition for record in records}
        equal(len(partition), 1, "partitions in one kcat run")
        lines = b"".join(record.key + b"\t" + record.value + b"\n" for record in records)
        where = ["-t", topic, "-p", partition.pop(), "-K", r"\t", "-X", f"acks={acks}"]
        return self.run("-P", *where, *options, stdin=lines)

    def produce_file(self, topic, path, *options, fails=False):
        return self.run("-P", "-t", topic, "-p", 0, *options, path, fails=fails)

    def read(self, topic, *options, offset="beginning", partition=None):
        """Reads to the end of the partitions, by assignment (kcat -C knows no group)."""
        where = ["-t", topic, *(["-p", partition] if partition is not None else [])]
        stdout, _ = self.run("-C", "-q", *where, "-o", offset, "-e", "-f", FORMAT, *options)
        return parse(stdout)

    def read_in_group(self, group, topic, *options):
        """Reads as the only member of that group, from the start where it has no offset."""
        start = ["-X", "auto.offset.reset=earliest"]
        stdout, _ = self.run("-q", "-f", FORMAT, *start, *options, "-G", group, topic)
        return parse(stdout)


def parse(output):
    """Undoes FORMAT."""
    read, position = [], 0
    while position < len(output):
        line_end = output.index(b"\n", position)
        fields = output[position:line_end].decode().split(" ", 5)
        partition, offset, timestamp, key_size, value_size = map(int, fields[:5])
        pairs = [pair.partition("=") for pair in fields[5].split(",")] if fields[5] else []
        position = line_end + 1
        key = None if key_size < 0 else output[position : position + key_size]
        position += max(key_size, 0)
        value = None if value_size < 0 else output[position : position + value_size]
        position += max(value_size, 0)
        equal(output[position : position + 1], b"\n", "end of a record as kcat prints it")
        position += 1
        headers = [(name, text) for name, _, text in pairs]
        read.append(Read(partition, offset, key, value, headers, timestamp))
    return read


def checks(kcat, broker, served, scratch):
    def round_trip(topic, records, *options, acks="all"):
        kcat.produce(topic, records, *options, acks=acks)
        verify(kcat.read(topic, partition=records[0].partition), records)

    def create():
        topic = kcat.topic("create")
        round_trip(topic, numbered(1))
        stdout, _ = kcat.run("-L", "-t", topic)
        expect(f'topic "{topic}" with'.encode() in stdout, f"not listed: {stdout}")
        return "by auto-creation: kcat has no admin requests"

    def acks(value):
        def check():
            topic = broker.create(f"acks-{value}")
            if value != "0":
                round_trip(topic, numbered(100), acks=value)
                return
            # Nothing answers acks=0, so reading waits for the count.
            kcat.produce(topic, numbered(100), acks="0")
            where = ["-t", topic, "-p", 0, "-o", "beginning", "-c", 100, "-f", FORMAT]
            stdout, _ = kcat.run("-C", "-q", *where)
            verify(parse(stdout), numbered(100))

        return check

    def idempotence():
        topic = broker.create("idempotence")
        options = ["-X", "enable.idempotence=true", "-X", "batch.num.messages=10", "-d", "eos"]
        _, log = kcat.produce(topic, numbered(1000), *options)
        expect(re.search(r"Acquired PID\{Id:\d+", log), "kcat never got a producer id")
        verify(kcat.read(topic, partition=0), numbered(1000))

    def codec(name):
        def check():
            if name != "none":
                features, _ = kcat.run("-X", "dump")
                built_in = re.search(rb"builtin.features = (\S+)", features).group(1).decode()
                if name not in built_in.split(","):
                    raise Skip(f"this kcat is built without {name}: {built_in}")
            topic = broker.create(f"codec-{name}")
            text = compressible(2 * KIB).replace(b"\n", b" ")
            records = [Record(0, b"k%d" % i, text) for i in range(50)]
            options = ["-X", f"compression.codec={name}"]
            round_trip(topic, records, *options)
            if name == "none":
                return
            if name == "lz4" and api_versions.FIND_COORDINATOR not in served:
                raise Skip(NO_LZ4)
            # Above the default max.message.bytes unless kcat compressed it.
            big = scratch / "big"
            big.write_bytes(compressible(2 * KIB * KIB))
            kcat.produce_file(topic, big, *options, "-X", f"message.max.bytes={4 * KIB * KIB}")
            records.append(Record(0, None, big.read_bytes()))
            verify(kcat.read(topic, partition=0), records)

        return check

    def content():
        topic = broker.create("content")
        lines = b"key\tvalue\n\tnull key\nnull value\t\n"
        headers = ["-H", "a=1", "-H", "a=2", "-H", "empty=", "-H", "null"]
        kcat.run("-P", "-t", topic, "-p", 0, "-K", r"\t", "-Z", *headers, stdin=lines)
        binary = scratch / "binary"
        binary.write_bytes(bytes(range(256)))
        kcat.produce_file(topic, binary, "-k", "schl\u00fcssel", "-H", "\u0448=\U0001f30a")
        kcat.run("-P", "-t", topic, "-p", 0, "-K", r"\t", stdin=b"empty value\t\n")
        # This is how kcat itself prints a null header.
        printed = [("a", "1"), ("a", "2"), ("empty", ""), ("null", "NULL")]
        expected = [
            Record(0, b"key", b"value", printed),
            Record(0, None, b"null key", printed),
            Record(0, b"null value", None, printed),
            Record(0, "schl\u00fcssel".encode(), bytes(range(256)), [("\u0448", "\U0001f30a")]),
            Record(0, b"empty value", b""),
        ]
        verify(kcat.read(topic, partition=0), expected)

    def partitions():
        topic = broker.create("partitions", partitions=3)
        for partition in range(3):
            kcat.produce(topic, numbered(100 + partition, partition))
        verify(kcat.read(topic), [r for p in range(3) for r in numbered(100 + p, p)])

    def many_records():
        topic = broker.create("many-records", partitions=3)
        parts = [numbered(count, p) for p, count in enumerate((7000, 7000, 6000))]
        for part in parts:
            kcat.produce(topic, part)
        verify(kcat.read(topic), [record for part in parts for record in part])

    def large_record():
        limit = 2 * LARGE_RECORD_BYTES
        topic = broker.create("large-record", **{"max.message.bytes": str(limit)})
        large = scratch / "large"
        large.write_bytes(incompressible(LARGE_RECORD_BYTES))
        kcat.produce_file(topic, large, "-X", f"message.max.bytes={limit}")
        kcat.produce(topic, numbered(1))
        verify(kcat.read(topic, partition=0), [Record(0, None, large.read_bytes()), *numbered(1)])

    def from_start():
        topic = broker.create("from-start")
        expected = numbered(10) + numbered(10, prefix="second")
        for part in (expected[:10], expected[10:]):
            kcat.produce(topic, part)
        verify(kcat.read(topic, partition=0), expected)
        verify(kcat.read(topic, partition=0, offset=13), expected[13:], first_offset=13)
        verify(kcat.read(topic, partition=0, offset=-3), expected[17:], first_offset=17)

    def from_end():
        topic = broker.create("from-end")
        kcat.produce(topic, numbered(10, prefix="before"))
        where = ["-t", topic, "-p", "0", "-o", "end", "-c", "10", "-f", FORMAT]
        command = ["kcat", "-b", kcat.bootstrap, "-C", *where]
        consumer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # kcat says so once it is positioned; anything else it says first is an error.
            line = consumer.stderr.readline().decode()
            expect("Reached end of topic" in line, f"kcat said: {line!r}")
            after = numbered(10, prefix="after")
            kcat.produce(topic, after)
            stdout, _ = consumer.communicate(timeout=TIMEOUT_S)
            verify(parse(stdout), after, first_offset=10)
        finally:
            consumer.kill()
            consumer.wait()

    def from_timestamp():
        topic = broker.create("from-timestamp")
        # kcat cannot set timestamps: two runs apart in time, then the times they really got.
        kcat.produce(topic, numbered(10))
        last = kcat.read(topic, partition=0)[-1].timestamp
        while time.time() * 1000 < last + 10:
            time.sleep(0.005)
        kcat.produce(topic, numbered(10, prefix="later"))
        times = [record.timestamp for record in kcat.read(topic, partition=0)]
        equal(len(times), 20, "records")
        expect(times[10] > times[9], f"times do not rise: {times[9:11]}")
        for timestamp in (times[9] + 1, times[10]):
            later = kcat.read(topic, partition=0, offset=f"s@{timestamp}")
            verify(later, numbered(10, prefix="later"), first_offset=10)
        stdout, _ = kcat.run("-Q", "-t", f"{topic}:0:{times[10]}")
        equal(stdout.split()[-2:], [b"offset", b"10"], "kcat -Q")

    def offset_out_of_range():
        topic = broker.create("offset-out-of-range")
        kcat.produce(topic, numbered(5))
        strict = ["-X", "topic.auto.offset.reset=error"]
        _, log = kcat.run("-C", "-t", topic, "-p", 0, "-o", 1000, "-e", *strict, fails=True)
        expect("Offset out of range" in log, f"kcat said: {log}")

    def unknown_topic():
        topic = kcat.topic("never-created")
        _, log = kcat.run("-C", "-t", topic, "-o", "beginning", "-e", fails=True)
        expect("Unknown topic or partition" in log, f"kcat said: {log}")

    def invalid_topic():
        _, log = kcat.run("-P", "-t", "bad/name", stdin=b"x\n", fails=True)
        # Where the refusal came before kcat produced, it says so in fewer words.
        words = ("Invalid topic", "Failed to produce message (1 bytes): Local: Unknown topic")
        expect(any(said in log for said in words), f"kcat said: {log}")

    def too_large():
        topic = broker.create("too-large")
        kcat.produce(topic, numbered(1))
        large = scratch / "too-large"
        large.write_bytes(incompressible(2 * KIB * KIB))
        allowed = ["-X", f"message.max.bytes={4 * KIB * KIB}"]
        _, log = kcat.produce_file(topic, large, *allowed, fails=True)
        expect("Message size too large" in log, f"kcat said: {log}")
        verify(kcat.read(topic, partition=0), numbered(1))

    def commit_async():
        """kcat commits by itself, what it has printed, and for the last time when it ends."""
        topic = broker.create("commit-async")
        kcat.produce(topic, numbered(10))
        verify(kcat.read_in_group(topic, topic, "-c", 6), numbered(10)[:6])
        verify(kcat.read_in_group(topic, topic, "-e"), numbered(10)[6:], first_offset=6)

    def fan_in():
        topic = broker.create("fan-in", partitions=3)
        parts = [numbered(200, partition) for partition in range(3)]
        producers = [threading.Thread(target=kcat.produce, args=(topic, one)) for one in parts]
        for producer in producers:
            producer.start()
        verify(kcat.read_in_group(topic, topic, "-c", 600), sum(parts, []))
        for producer in producers:
            producer.join()

    def fan_out():
        topic = broker.create("fan-out")
        kcat.produce(topic, numbered(100))
        for number in range(3):
            verify(kcat.read_in_group(f"{topic}-{number}", topic, "-e"), numbered(100))

    return {
        "commit-async": commit_async,
        "fan-in": fan_in,
        "fan-out": fan_out,
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
        "from-timestamp": from_timestamp,
        "offset-out-of-range": offset_out_of_range,
        "unknown-topic": unknown_topic,
        "invalid-topic": invalid_topic,
        "too-large": too_large,
    }


def main():
    options = arguments(__doc__)
    kcat = Kcat(options.bootstrap, options.prefix)
    broker = GroupBroker(options.bootstrap, options.prefix)
    served = api_versions.api_versions(options.bootstrap)
    with tempfile.TemporaryDirectory(prefix="interop-kcat-") as scratch:
        functions = {
            **checks(kcat, broker, served, Path(scratch)),
            **kcat_groups.checks(kcat, broker, FORMAT, parse),
        }
        run_all("kcat", options.checks, functions)
    delete_own_topics(broker)


if __name__ == "__main__":
    main()
