"""The brokers under test, as the rig starts them on a mounted directory."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import kafka_frames as kafka
from broker_process import Broker, free_port

INTEROP = Path(__file__).resolve().parents[2] / "interop"
# Small files, so that segments are rolled, made ahead and renamed all the time.
SETTINGS = (
    "first_segment_bytes=131072", "zero_ahead_bytes=262144", "topic.segment.bytes=1048576",
    "tail_cache_mb=32", "ops_listen=", "log_format=json",
)
KAFKA_SECONDS_MAX = 120


class Highwater:
    name = "Highwater"
    # An idempotent producer that goes on after a cut finds its last five batches known.
    resumes = True

    def __init__(self, binary, cores=2):
        self.binary, self.cores = str(binary), cores

    def prepare(self):
        """Nothing to fetch."""

    def settings(self):
        return [f"cores={self.cores}", *SETTINGS]

    def start(self, directory):
        """On a directory of a mounted file system; has `port`, `kill` and `lines`."""
        data = os.path.join(directory, "highwater")
        return Broker(self.binary, data, free_port(), self.cores, SETTINGS)

    def facts(self, directory):
        """What `highwater doctor` found there, by check."""
        data = os.path.join(directory, "highwater")
        os.makedirs(data, exist_ok=True)
        told = subprocess.run(
            [self.binary, "doctor", "--json", "--data-dir", data], capture_output=True, text=True
        )
        checks = json.loads(told.stdout)["checks"]
        return {"doctor": {check["check"]: check["found"] for check in checks}}

    def examine(self, directory):
        """What `highwater log verify` says is damage, as sentences: of the logs and all else, and of
        the marks ledgers. Blocks of those that were being written when the power went may be torn in
        one copy or in both, and verify cannot always tell them from rotten ones."""
        done = subprocess.run(
            [self.binary, "log", "verify", os.path.join(directory, "highwater"), "--json"],
            capture_output=True, text=True,
        )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        if not told:
            return [f"log verify: {done.stderr.strip()}"], []
        damages, ledgers = [], []
        for one in told:
            if one.get("gravity") == "damage":
                found = ledgers if one["file"].startswith("marks/") else damages
                found.append(f"log verify: {one['file']}: {one['kind']}: {one['detail']}")
        return damages, ledgers


@dataclasses.dataclass
class KafkaNode:
    """A running Apache Kafka."""

    process: subprocess.Popen
    port: int

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Kafka:
    """Apache Kafka, one node, with its defaults or a few more properties."""

    # After a start from a snapshot it knows a producer's last batch only: no part of this.
    resumes = False

    def __init__(self, name, properties=""):
        self.name, self.properties = name, properties

    def prepare(self):
        subprocess.run([INTEROP / "apache-kafka", "fetch"], check=True)

    def start(self, directory):
        script, port = INTEROP / "apache-kafka", free_pair()
        data, file = os.path.join(directory, "kafka"), os.path.join(directory, "kafka.properties")
        text = subprocess.run(
            [script, "properties", str(port), data], check=True, capture_output=True, text=True
        ).stdout
        with open(file, "w") as properties:
            properties.write(text + self.properties)
        if not os.path.exists(os.path.join(data, "meta.properties")):
            subprocess.run([script, "format", file], check=True, capture_output=True)
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                [script, "run", file], stdout=log, stderr=log, start_new_session=True
            )
            node = KafkaNode(process, port)
            deadline = time.monotonic() + KAFKA_SECONDS_MAX
            while not answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    node.kill()
                    log.seek(0)
                    told = [line.strip() for line in log if "ERROR" in line or "xception" in line]
                    raise RuntimeError(f"Apache Kafka did not start: {' '.join(told[:3])[:500]}")
                time.sleep(0.2)
        # The fresh node's own files are not what is asked about.
        subprocess.run(["sync", "--file-system", directory], check=True)
        return node

    def facts(self, directory):
        return {}

    def examine(self, directory):
        return [], []


def free_pair():
    """A free port whose successor, that of Kafka's controller, is free too."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def answers(port):
    """Whether a broker gives out producer ids, which takes a coordinator."""
    try:
        connection = kafka.Connection("127.0.0.1", port, timeout=5)
        try:
            kafka.init_producer_id(connection)
        finally:
            connection.close()
        return True
    except (OSError, AssertionError):
        return False
