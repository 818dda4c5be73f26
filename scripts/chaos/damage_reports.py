"""What a node says of its damage: log, /metrics, /health, `highwater topic describe`, `log verify`."""

import json
import re
import subprocess
import urllib.error
import urllib.request

import damage_base as bases
import damage_format as disk

CHANNELS = ("log", "metrics", "health", "describe")
LOUD = re.compile(r"\b(WARN|ERROR)\b")
DAMAGE_GAUGE = re.compile(
    r"highwater_(partitions_offline|partitions_with_holes|partitions_unvouched)\b"
    r'|highwater_quarantine_topics\{.*reason="unknown"'
)


def get(broker, path):
    address = re.search(r"metrics on (http://\S+)/metrics", "".join(broker.lines))[1]
    try:
        with urllib.request.urlopen(address + path, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Reports:
    """Everything a running broker tells; `tells(channel, partition)` is the question."""

    def __init__(self, binary, broker, earlier):
        """`earlier`: the log of the starts before this one; what was put aside then is told once."""
        self.lines = [line for line in [*earlier, *broker.log] if LOUD.search(line)]
        self.gauges = {}
        for line in get(broker, "/metrics")[1].splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                self.gauges[name] = float(value)
        status, self.health_text = get(broker, "/health")
        self.healthy = status == 200
        self.described = {}
        self.binary, self.broker = binary, broker

    def describe(self, topic):
        if topic not in self.described:
            code, said = bases.command(
                self.binary, self.broker, "topic", "describe", topic, "--json"
            )
            try:
                self.described[topic] = json.loads(said)["partitions"] if code == 0 else said
            except (ValueError, KeyError):
                self.described[topic] = said
        return self.described[topic]

    def in_log(self, partition):
        """A loud line that names the topic, or what the whole node has lost."""
        topic = partition[0]
        return [line for line in self.lines if topic in line] or [
            line for line in self.lines if "marks" in line or "ledger" in line
        ]

    def in_metrics(self):
        return [
            name for name, value in self.gauges.items() if DAMAGE_GAUGE.search(name) and value > 0
        ]

    def in_health(self, partition):
        """By name, or as one of those that are not vouched for, or of unknown topics."""
        try:
            told = json.loads(self.health_text)
        except ValueError:
            return not self.healthy
        damage = told.get("damage", {})
        named = [(one["topic"], one["partition"]) for one in damage.get("partitions", [])]
        unnamed = damage.get("unvouched") or told.get("unknown_topics_in_quarantine")
        return partition in named or unnamed

    def in_describe(self, partition):
        topic, index = partition
        told = self.describe(topic)
        # A topic that is not there is told of by an error.
        return isinstance(told, str) or any(
            one["partition"] == index and one.get("damaged") for one in told
        )

    def silent(self, partition):
        """The channels that do not tell of a partition's damage."""
        told = {
            "log": self.in_log(partition), "metrics": self.in_metrics(), "health": self.in_health(partition),
            "describe": self.in_describe(partition),
        }
        return [channel for channel in CHANNELS if not told[channel]]


def verify(binary, data_dir):
    """(exit code, kinds of damage found) of `log verify` on a stopped node."""
    done = subprocess.run(
        [binary, "log", "verify", str(data_dir), "--json"], capture_output=True, text=True, timeout=20,
    )
    kinds = set()
    for line in done.stdout.splitlines():
        one = json.loads(line)
        if one.get("gravity") == "damage":
            kinds.add(one["kind"])
    return done.returncode, sorted(kinds), done.stderr
