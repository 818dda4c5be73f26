"""The directories that are damaged, and what is known of them.

A base is made once by a real broker: topics with several sealed segments in each partition, plain and
idempotent producers, compressed batches, records whose values are whole batches, groups with commits.
It is stopped cleanly, started again, written to and stopped again, so that copies of an earlier clean
stop exist; a second base goes on from there and is killed in the middle of a load. Of each, every
acknowledged record and commit is known, and checked once against the bytes on disk.
"""

import json
import random
import select
import shutil
import struct
import subprocess
import time
import zlib
from dataclasses import dataclass, field

import damage_format as disk
import group_frames as groups
import kafka_frames as kafka
from broker_process import Broker

# Topic -> partitions. `nested` holds batches in values, `checked` is sent with checksums verified.
TOPICS = {"plain": 2, "idem": 2, "gzip": 1, "nested": 1, "checked": 1}
# Created after the first clean stop: an old copy of the metadata log does not know it.
LATER = "later"
# Under load when the broker is killed; all else has been quiet for longer than the ledger lags.
BUSY = "busy"
GROUPS = [f"group-{number}" for number in range(6)]
SETS = [
    "first_segment_bytes=65536", "topic.segment.bytes=1048576", "offsets_topic_partitions=2",
    "idle=sleep", "ledger_lag_ms=10", "open_files_max=512", "tail_cache_mb=32",
    "group_initial_rebalance_delay_ms=0",
]
CORES = 2
START_ATTEMPTS = 5
EPOCH = 0
QUIET_S = 0.3
GZIP = 1
FAR_OFFSET = 10**12
# How the batch in a value relates to the one around it; `nested_batch` says what each means.
NESTINGS = ("below", "within", "above", "chain", "chain_from_base")


class LoudBroker(Broker):
    """Its whole log is kept: what was said at the start is asked for at the end."""

    LOG_LINES_MAX = 100_000


def start(binary, data_dir, sets=()):
    """A broker on a port of its own choice; of many started at once two may choose the same."""
    for attempt in range(START_ATTEMPTS):
        try:
            broker = LoudBroker(binary, data_dir, 0, CORES, [*SETS, *sets])
            break
        except RuntimeError as error:
            if "Address already in use" not in str(error) or attempt + 1 == START_ATTEMPTS:
                raise
    broker.port = int(broker.lines[-1].split("127.0.0.1:")[1].split()[0])
    return broker


def connect(broker):
    return kafka.Connection("127.0.0.1", broker.port)


def command(binary, broker, *words):
    """A command of the binary against a broker: (exit code, what it printed)."""
    address = f"127.0.0.1:{broker.port}"
    done = subprocess.run(
        [binary, *words, "--bootstrap-server", address], capture_output=True, text=True, timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


@dataclass
class Producer:
    """What an idempotent producer of one partition sends next, and sent last."""

    id: int
    epoch: int
    sequence: int = 0
    last: tuple = ()  # (batch, offset)


@dataclass
class Model:
    """Everything that was acknowledged."""

    ends: dict = field(default_factory=dict)  # partition -> end of what was acknowledged
    batches: dict = field(default_factory=dict)  # partition -> [damage_format.Batch]
    values: dict = field(default_factory=dict)  # partition -> [value of offset 0, 1, ...]
    commits: dict = field(default_factory=dict)  # group -> {partition of `plain`: offset}
    producers: dict = field(default_factory=dict)  # partition -> Producer


def compressed(values, timestamp):
    """A batch whose records are compressed with gzip."""
    plain = kafka.record_batch(values, -1, -1, -1, timestamp)
    packer = zlib.compressobj(wbits=31)
    records = packer.compress(plain[disk.HEADER_BYTES :]) + packer.flush()
    head = bytearray(plain[: disk.HEADER_BYTES])
    struct.pack_into(">i", head, 8, disk.HEADER_BYTES - 12 + len(records))
    struct.pack_into(">h", head, 21, GZIP)
    return disk.with_right_crc(bytes(head) + records)


def nested_batch(nesting, base, timestamp):
    """Values of an outer batch that will begin at `base`, with a whole batch in the last of them.

    The forged one has the partition's epoch and a right checksum. `chain` ends with the outer batch's
    last byte (the record's count of headers, 0, is also its own last byte) and its offsets go on where
    the next real batch begins; `chain_from_base` covers the very offsets of the outer one.
    """
    first, count = {
        "below": (max(base - 5, 0), 2),
        "within": (base + 1, 1),
        "above": (FAR_OFFSET, 2),
        "chain": (base + 1, 2),
        "chain_from_base": (base, 3),
    }[nesting]
    forged = [b"forged-%d-%d" % (base, at) for at in range(count)]
    inner = disk.moved(kafka.record_batch(forged, -1, -1, -1, timestamp), first, EPOCH)
    assert inner[-1] == 0, "a record ends with its count of headers"
    if nesting.startswith("chain"):
        inner = inner[:-1]
    return [b"before-%d" % base, b"between-%d" % base, inner]


class Writer:
    """Produces and commits on a live broker and notes what is acknowledged."""

    def __init__(self, model, seed):
        self.model, self.rng = model, random.Random(seed)
        self.timestamp = int(time.time() * 1000) - 3_600_000

    def attach(self, binary, broker):
        self.binary, self.broker, self.connection = binary, broker, connect(broker)

    def create(self, topic, partitions):
        error = kafka.create_topic(self.connection, topic, partitions)
        assert error == 0, f"CreateTopics {topic}: error {error}"
        for partition in range(partitions):
            self.model.ends[topic, partition] = 0
            self.model.values[topic, partition] = []
        if topic == "idem":
            for partition in range(partitions):
                known = kafka.init_producer_id(self.connection)
                self.model.producers[topic, partition] = Producer(*known)

    def set_config(self, topic, pair):
        code, said = command(self.binary, self.broker, "config", "set", topic, pair)
        assert code == 0, said

    def fresh_values(self, key):
        count = self.rng.choice((1, 2, 3, 5))
        size = self.rng.choice((60, 150, 300, 300, 2500))
        at = self.model.ends[key]
        return [
            f"{key[0]}/{key[1]}/{at + number}/".encode() + self.rng.randbytes(size)
            for number in range(count)
        ]

    def next_batch(self, key):
        """(values, batch as a producer sends it)"""
        self.timestamp += 100
        topic, end = key[0], self.model.ends[key]
        producer = self.model.producers.get(key)
        if topic == "nested":
            nesting = NESTINGS[len(self.model.values[key]) // 3 % len(NESTINGS)]
            values = nested_batch(nesting, end, self.timestamp)
            return values, kafka.record_batch(values, -1, -1, -1, self.timestamp)
        values = self.fresh_values(key)
        if topic == "gzip":
            return values, compressed(values, self.timestamp)
        if producer:
            known = (producer.id, producer.epoch, producer.sequence)
            return values, kafka.record_batch(values, *known, self.timestamp)
        return values, kafka.record_batch(values, -1, -1, -1, self.timestamp)

    def note(self, key, values, batch, offset):
        assert offset == self.model.ends[key], f"{key}: acknowledged at {offset}"
        self.model.values[key] += values
        self.model.ends[key] += len(values)
        producer = self.model.producers.get(key)
        if producer:
            producer.sequence += len(values)
            producer.last = (batch, offset)

    def produce(self, key):
        values, batch = self.next_batch(key)
        body = kafka.produce_body(*key, batch)
        answer = self.connection.call(kafka.PRODUCE, 8, body)
        _, error, offset = kafka.parse_produce(answer)
        assert error == 0, f"{key}: produce: error {error}"
        self.note(key, values, batch, offset)

    def fill(self, topic, partitions, segments, batches=8):
        """So many batches into the active segment of each partition, and into so many new ones."""
        for number in range(segments + 1):
            if number:
                self.set_config(topic, "segment.ms=1")
                for partition in range(partitions):
                    self.produce((topic, partition))
                self.set_config(topic, "segment.ms=604800000")
            for partition in range(partitions):
                for _ in range(batches):
                    self.produce((topic, partition))

    def commit(self, group, partition, offset):
        deadline = time.monotonic() + 10
        while True:
            body = groups.commit_body(group, "plain", partition, offset)
            error = groups.commit_error(self.connection.call(groups.OFFSET_COMMIT, 2, body))
            if error == 0:
                self.model.commits.setdefault(group, {})[partition] = offset
                return
            assert error in (groups.LOADING, groups.NOT_AVAILABLE, 16), f"commit: error {error}"
            assert time.monotonic() < deadline, f"commit of {group}: error {error}"
            groups.find_coordinator_error(self.connection, group)
            time.sleep(0.02)

    def commit_all(self, rounds):
        for _ in range(rounds):
            for group in GROUPS:
                for partition in range(TOPICS["plain"]):
                    known = self.model.commits.get(group, {}).get(partition, 0)
                    offset = self.rng.randint(known, self.model.ends["plain", partition])
                    self.commit(group, partition, offset)

    def load_until_killed(self, key, seconds):
        """Pipelines batches, kills the broker in the middle, notes what was acknowledged."""
        pending, deadline = [], time.monotonic() + seconds
        end, model = self.model.ends[key], self.model
        killed = False
        try:
            while pending or not killed:
                while len(pending) < 4 and not killed:
                    model.ends[key], kept = end, model.ends[key]
                    values, batch = self.next_batch(key)
                    model.ends[key] = kept
                    self.connection.send(kafka.PRODUCE, 8, kafka.produce_body(*key, batch))
                    pending.append((values, batch))
                    end += len(values)
                if select.select([self.connection.socket], [], [], 0.005)[0] or killed:
                    self.connection.receive_some()
                for _, answer in self.connection.take_frames():
                    _, error, offset = kafka.parse_produce(answer)
                    assert error == 0, f"{key}: produce: error {error}"
                    self.note(key, *pending.pop(0), offset)
                if not killed and time.monotonic() > deadline:
                    self.broker.kill()
                    killed = True
        except OSError:
            pass
        assert killed


@dataclass
class Base:
    """One directory to be damaged: never changed itself."""

    variant: str
    directory: str
    olds: list  # directories of earlier clean stops, oldest first
    model: Model
    partitions: dict  # damage_format.scan of it

    def partition(self, topic, index=0):
        return self.partitions[topic, index]


def known_to_disk(model, partitions):
    """The acknowledged values are what lies on disk; keeps the batches they lie in."""
    for key, end in model.ends.items():
        batches = [batch for batch in partitions[key].batches if batch.base < end]
        model.batches[key] = batches
        reached = 0
        for batch in batches:
            assert batch.base == reached, f"{key}: offset {reached} is not on disk"
            reached = batch.end
            assert disk.crc_is_right(batch.data), f"{key}: wrong checksum at {batch.base}"
            if key[0] != "gzip":
                ((_, values),) = kafka.batches(batch.data)
                assert values == model.values[key][batch.base : batch.end], f"{key}: {batch.base}"
        assert reached >= end, f"{key}: acknowledged up to {end}, on disk up to {reached}"


def frozen(variant, directory, olds, model, partitions=None):
    partitions = partitions or disk.scan(directory)
    copied = Model(
        dict(model.ends), {}, {key: list(values) for key, values in model.values.items()},
        {group: dict(offsets) for group, offsets in model.commits.items()},
        {key: Producer(**vars(producer)) for key, producer in model.producers.items()},
    )
    known_to_disk(copied, partitions)
    return Base(variant, directory, olds, copied, partitions)


def durable_ends(binary, data_dir):
    """{(topic, partition): durable mark}, by `log verify`, which must find no damage."""
    done = subprocess.run(
        [binary, "log", "verify", data_dir, "--json"], capture_output=True, text=True,
    )
    assert done.returncode == 0, f"the base is damaged before anything was done: {done.stdout}"
    told = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {}
    for one in told:
        if one.get("type") == "partition":
            _, topic, _, index = one["directory"].split("/")
            ends[topic, int(index)] = one["durable"]
    return ends


def make(binary, root, seed, sets=()):
    """Both bases: {"clean": Base, "kill": Base}."""
    live = f"{root}/live"
    writer = Writer(Model(), seed)
    broker = start(binary, live, sets)
    writer.attach(binary, broker)
    for topic, partitions in TOPICS.items():
        writer.create(topic, partitions)
    # Not every version has it.
    command(binary, broker, "config", "set", "checked", "verify.on.fetch=true")
    writer.commit_all(3)
    for topic, partitions in TOPICS.items():
        writer.fill(topic, partitions, 2)
    writer.commit_all(3)
    broker.stop()
    shutil.copytree(live, f"{root}/first-stop")

    broker = start(binary, live, sets)
    writer.attach(binary, broker)
    writer.create(LATER, 1)
    for topic, partitions in (TOPICS | {LATER: 1}).items():
        writer.fill(topic, partitions, 2)
    writer.commit_all(4)
    broker.stop()
    shutil.copytree(live, f"{root}/clean")
    clean = frozen("clean", f"{root}/clean", [f"{root}/first-stop"], writer.model)

    broker = start(binary, live, sets)
    writer.attach(binary, broker)
    writer.create(BUSY, 1)
    for topic, partitions in (TOPICS | {LATER: 1}).items():
        writer.fill(topic, partitions, 1)
    writer.commit_all(2)
    time.sleep(QUIET_S)
    writer.load_until_killed((BUSY, 0), QUIET_S)
    shutil.move(live, f"{root}/kill")
    olds = [f"{root}/first-stop", f"{root}/clean"]
    kill = frozen("kill", f"{root}/kill", olds, writer.model)
    durable = durable_ends(binary, kill.directory)
    for key, end in kill.model.ends.items():
        quiet = key[0] != BUSY
        assert not quiet or durable[key] >= end, f"{key}: the ledger lags: {durable[key]}, {end}"
    return {"clean": clean, "kill": kill}
