"""Apache Kafka as a server under measurement, set up as its documentation advises.

`scripts/interop/apache-kafka` fetches it and starts java; what is decided here is the settings,
each with its reason, because the report prints them.
"""

import os
import re
import shutil
import socket
import subprocess
from collections import namedtuple
from pathlib import Path

from .machine import REPOSITORY, CannotMeasure, free_port
from .processes import OrderlyServer

SCRIPT = REPOSITORY / "scripts" / "interop" / "apache-kafka"
POM = REPOSITORY / "scripts" / "interop" / "java" / "broker-pom.xml"
# Releases with long-term support that Kafka 4 runs on; its documentation advises the newest.
JAVA_RELEASES = (25, 21, 17)
JAVA_HOMES = Path("/usr/lib/jvm")
HEAP = "1g"
ANSWER_S = 5.0

Setting = namedtuple("Setting", "name value why")


def java_settings():
    """What java is told, besides what runs."""
    return [
        Setting("-Xms, -Xmx", HEAP, "fixed heap of the size bin/kafka-server-start.sh gives; the "
                "6 GiB of the documentation's example would only raise Kafka's resident memory, "
                "everything else stays with the page cache"),
        Setting("-XX", "+UseG1GC", "as documented; said because java picks another collector "
                "by itself on one core"),
        Setting("-XX", "MaxGCPauseMillis=20", "as documented"),
        Setting("-XX", "InitiatingHeapOccupancyPercent=35", "as documented"),
        Setting("-XX", "+ExplicitGCInvokesConcurrent", "as documented"),
        Setting("-XX", "MetaspaceSize=96m", "as documented"),
        Setting("-XX", "MinMetaspaceFreeRatio=50", "as documented"),
        Setting("-XX", "MaxMetaspaceFreeRatio=80", "as documented"),
    ]


def node_settings(cores, flushes):
    """What is set of a broker beside identity, listeners and directory."""
    found = [
        Setting("num.network.threads", str(cores), "one for each core; the default of 3 is for "
                "more cores than the broker gets here"),
        Setting("num.io.threads", str(2 * cores), "the default of 8 likewise; more than cores, "
                "because they wait for the disk"),
    ]
    if flushes:
        found.append(Setting("log.flush.interval.messages", "1", "no record is acknowledged before "
                             "it is on the disk, as Highwater does it"))
    return found


UNCHANGED = [
    ("log.flush.interval.messages", "unset unless noted: Kafka acknowledges what is in the page "
     "cache, as its documentation recommends"),
    ("log.dirs", "a fresh directory on the filesystem that Highwater writes to"),
    ("vm.dirty_*, vm.swappiness, mount options", "the machine's, the same for both"),
    ("socket.send.buffer.bytes, socket.receive.buffer.bytes", "defaults (100 KiB): larger ones are "
     "advised between data centres"),
    ("log.segment.bytes, log.index.interval.bytes, compression.type", "defaults (1 GiB, 4 KiB, as "
     "produced)"),
    ("log4j", "errors only, on standard output: less than the distribution's INFO log files"),
]


def java_options():
    """The options of `java_settings` as words."""
    options = []
    for name, value, _why in java_settings():
        if name == "-XX":
            options.append(f"-XX:{value}")
        else:
            options += [f"{flag}{value}" for flag in name.split(", ")]
    return options


def properties_of(settings):
    """Lines of server.properties."""
    return "".join(f"{name}={value}\n" for name, value, _why in settings)


def java_home():
    """Where the java to use is: JAVA_HOME, else the newest release that is advised."""
    if os.environ.get("JAVA_HOME"):
        return Path(os.environ["JAVA_HOME"])
    found = {}
    for release in sorted(JAVA_HOMES.glob("*/release")):
        version = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
        if version and (release.parent / "bin" / "java").exists():
            found.setdefault(int(version[1]), release.parent)
    for wanted in JAVA_RELEASES:
        if wanted in found:
            return found[wanted]
    # Whatever `java` is, it is one: the script that fetches Kafka installs it.
    java = shutil.which("java")
    if java is None:
        raise CannotMeasure("no java here; set JAVA_HOME")
    return Path(java).resolve().parents[1]


def fetch():
    """Fetches Kafka, and java and Maven where they are missing."""
    if subprocess.run([SCRIPT, "fetch"], stdout=2, check=False).returncode != 0:
        raise CannotMeasure("Apache Kafka could not be fetched; the reason is above")


def versions():
    """Kafka's version and java's, for the report."""
    kafka = re.search(r"<artifactId>kafka_[\d.]+</artifactId>\s*<version>(.*?)<", POM.read_text())
    java = subprocess.run(
        [java_home() / "bin" / "java", "-version"], capture_output=True, text=True, check=False
    )
    return kafka[1], java.stderr.splitlines()[1].strip()


class KafkaNode:
    """A node's directory and settings; `start` runs it, as often as wanted."""

    def __init__(self, directory, cores, flushes):
        self.directory = directory
        self.cores = cores
        self.file = directory / "server.properties"
        self.environment = {
            "JAVA_HOME": str(java_home()), "KAFKA_OPTS": " ".join(java_options()),
        }
        shutil.rmtree(directory, ignore_errors=True)
        # As for our own broker: deleted blocks may be discarded; have that over before measuring.
        os.sync()
        directory.mkdir(parents=True)
        port = free_pair()
        self.address = f"127.0.0.1:{port}"
        base = subprocess.run(
            [SCRIPT, "properties", str(port), directory / "data"],
            stdout=subprocess.PIPE, text=True, check=True,
        )
        self.file.write_text(base.stdout + properties_of(node_settings(len(cores), flushes)))
        formatted = subprocess.run(
            [SCRIPT, "format", self.file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=os.environ | self.environment, check=False,
        )
        if formatted.returncode != 0:
            raise CannotMeasure(f"Kafka could not format its directory: {formatted.stdout[-2000:]}")

    def start(self, ready=None):
        """The broker on its cores; `ready` says when it serves."""
        return KafkaServer(self, ready)


class KafkaServer(OrderlyServer):
    """A running Kafka."""

    NAME = "Kafka"
    # java's own code for a process that SIGTERM ended in good order.
    CODES = (0, 143)

    def __init__(self, node, ready):
        self.address = node.address
        super().__init__(
            [SCRIPT, "run", node.file], node.cores, node.environment, ready or accepts_connections
        )


def accepts_connections(server):
    """Waits until the broker takes connections, which it does last of all."""
    host, _, port = server.address.rpartition(":")
    server.try_until(
        lambda: socket.create_connection((host, int(port)), ANSWER_S).close(), 0.05,
        "accept a connection",
    )


def free_pair():
    """A free port whose successor, the controller's, is free too."""
    for _ in range(100):
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise CannotMeasure("no two free ports in a row")
