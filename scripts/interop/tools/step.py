"""What a step is: one call of a tool, or one of the things done between calls.

A command line begins with the tool's name without `kafka-` and `.sh`; words in braces are filled
in from the side it runs on: {bootstrap}, {dir} (a directory of its own), and what `mark` noted.
"""

import enum
import shlex
from dataclasses import dataclass, field

TOOLS_PACKAGE = "org.apache.kafka.tools"
# name: the class with main.
TOOLS = {
    "acls": f"{TOOLS_PACKAGE}.AclCommand",
    "broker-api-versions": f"{TOOLS_PACKAGE}.BrokerApiVersionsCommand",
    "cluster": f"{TOOLS_PACKAGE}.ClusterTool",
    "configs": "kafka.admin.ConfigCommand",
    "console-consumer": f"{TOOLS_PACKAGE}.consumer.ConsoleConsumer",
    "console-producer": f"{TOOLS_PACKAGE}.ConsoleProducer",
    "consumer-groups": f"{TOOLS_PACKAGE}.consumer.group.ConsumerGroupCommand",
    "consumer-perf-test": f"{TOOLS_PACKAGE}.ConsumerPerformance",
    "delete-records": f"{TOOLS_PACKAGE}.DeleteRecordsCommand",
    "e2e-latency": f"{TOOLS_PACKAGE}.EndToEndLatency",
    "features": f"{TOOLS_PACKAGE}.FeatureCommand",
    "get-offsets": f"{TOOLS_PACKAGE}.GetOffsetShell",
    "groups": f"{TOOLS_PACKAGE}.GroupsCommand",
    "leader-election": f"{TOOLS_PACKAGE}.LeaderElectionCommand",
    "log-dirs": f"{TOOLS_PACKAGE}.LogDirsCommand",
    "metadata-quorum": f"{TOOLS_PACKAGE}.MetadataQuorumCommand",
    "producer-perf-test": f"{TOOLS_PACKAGE}.ProducerPerformance",
    "reassign-partitions": f"{TOOLS_PACKAGE}.reassign.ReassignPartitionsCommand",
    "topics": f"{TOOLS_PACKAGE}.TopicCommand",
    "transactions": f"{TOOLS_PACKAGE}.TransactionsCommand",
    "verifiable-consumer": f"{TOOLS_PACKAGE}.VerifiableConsumer",
    "verifiable-producer": f"{TOOLS_PACKAGE}.VerifiableProducer",
}
# Their parsers take the address in front of the subcommand only, others only behind it.
ADDRESS_FIRST = frozenset({"features", "metadata-quorum", "transactions"})
# Registers its hooks with the Runtime, and so needs a JVM that ends; see ToolDriver.java.
OWN_PROCESS = frozenset({"verifiable-producer"})

DEFAULT_LIMIT_S = 20


class Order(enum.Enum):
    """What the order of a tool's lines tells."""

    KEPT = enum.auto()
    # The order of a hash table, or of partitions that were read at once.
    SORTED = enum.auto()
    # Nor does it matter how often a line is printed.
    SET = enum.auto()


@dataclass(frozen=True)
class ByDesign:
    """Why outputs differ, and all that may: each line of the diff must match the pattern.

    What `compare.ALLOWANCES` covers need not be in the pattern.
    """

    reason: str
    pattern: str


@dataclass(frozen=True)
class Step:
    """A tool is run to its end, and what it printed is compared."""

    name: str
    command: str
    # What the tool's exit code must be with Apache Kafka: a step that goes wrong there is itself
    # at fault. A tool that reads on for ever ends with "timeout", after `limit_s`.
    code: int | str = 0
    stdin: str = ""
    limit_s: float = DEFAULT_LIMIT_S
    order: Order = Order.KEPT
    # Normalised further, (pattern, replacement), where this step's output must differ.
    hide: tuple = ()
    by_design: ByDesign | None = None
    # (NAME, pattern): its group in standard output is {NAME} for later steps.
    capture: tuple | None = None
    # For preparation, whose output is of no interest as long as the code is right.
    silent: bool = False

    def words(self, values):
        return words_of(self.command, values)

    def changes(self):
        """Whether it changes metadata."""
        return any(f" --{verb} " in self.command for verb in ("create", "alter", "delete"))


@dataclass(frozen=True)
class Start:
    """A tool is started beside those that follow, and must print `until` before they do."""

    name: str
    command: str
    until: str
    limit_s: float = DEFAULT_LIMIT_S

    def words(self, values):
        return words_of(self.command, values)


@dataclass(frozen=True)
class Stop:
    """SIGTERM for a started tool; then what it printed is compared like a step's output."""

    name: str
    started: str
    code: int = 143
    order: Order = Order.KEPT
    hide: tuple = ()
    by_design: ByDesign | None = None


@dataclass(frozen=True)
class Mark:
    """Notes the time as {NAME_ms} and {NAME_datetime}; later records have later timestamps."""

    name: str


@dataclass(frozen=True)
class File:
    """Writes a file into {dir}."""

    name: str
    text: str


@dataclass(frozen=True)
class Suite:
    """Steps in order; they share one pair of brokers with the other suites, but no topic."""

    name: str
    steps: list = field(default_factory=list)


def words_of(command, values):
    """The class with main, and its arguments."""
    tool, *rest = [word.format_map(values) for word in shlex.split(command)]
    main = TOOLS[tool]
    address = ["--bootstrap-server", values["bootstrap"]]
    return [main, *address, *rest] if tool in ADDRESS_FIRST else [main, *rest, *address]


def tool_of(command):
    return command.split(maxsplit=1)[0]
