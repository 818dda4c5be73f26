"""The behaviours under test, in the order they run, and which clients must show each.

A client that does not report a behaviour it owes has failed it: a crash half-way cannot pass.
A behaviour that a client cannot show is a limit, named with its reason: never a silent gap.
"""

CLIENTS = (
    "kcat",
    "confluent",
    "kafka-python",
    "aiokafka",
    "rdkafka",
    "java",
    "franz-go",
    "sarama",
    "kafkajs",
)
# kcat sends no admin requests; it joins groups (-G).
ADMIN = tuple(client for client in CLIENTS if client != "kcat")

# name, what it proves, the clients that owe it
BEHAVIOURS = (
    ("create", "creates a topic (kcat: by producing to it)", CLIENTS),
    ("acks-all", "acks=all, every record back in order", CLIENTS),
    ("acks-1", "acks=1", CLIENTS),
    ("acks-0", "acks=0, answered by nothing, stored all the same", CLIENTS),
    ("idempotence", "enable.idempotence=true with a producer id", CLIENTS),
    ("codec-none", "no compression", CLIENTS),
    ("codec-gzip", "gzip, really compressed", CLIENTS),
    ("codec-snappy", "snappy, really compressed", CLIENTS),
    ("codec-lz4", "lz4, really compressed", CLIENTS),
    ("codec-zstd", "zstd, really compressed", CLIENTS),
    ("content", "keys, nulls, empty and binary bytes, headers", CLIENTS),
    ("partitions", "several partitions, each in order", CLIENTS),
    ("many-records", "20,000 records over three partitions", CLIENTS),
    ("large-record", "a record whose value has 1 MiB, with the limits raised for it", CLIENTS),
    ("from-start", "consumes by assignment from the start", CLIENTS),
    ("from-end", "from the end: only what came after", CLIENTS),
    ("from-timestamp", "from a timestamp, also inside a batch", CLIENTS),
    ("from-timestamp-gzip", "from a timestamp inside a compressed batch", ADMIN),
    ("offset-out-of-range", "an offset beyond the end is refused", CLIENTS),
    ("unknown-topic", "error for a topic that does not exist", CLIENTS),
    ("invalid-topic", "error for a topic name that is not allowed", CLIENTS),
    ("too-large", "error for a record above max.message.bytes", CLIENTS),
    ("topic-exists", "error for creating a topic twice", ADMIN),
    ("describe-topic", "partitions, leaders, replicas", ADMIN),
    ("describe-configs", "a topic's configs with their sources", ADMIN),
    ("alter-configs", "incremental set, delete, and a refused value", ADMIN),
    ("create-partitions", "more partitions; fewer are refused", ADMIN),
    ("list-offsets", "earliest, latest, by timestamp, max timestamp", ADMIN),
    ("delete-records", "the beginning moves, the rest stays", ADMIN),
    ("delete-topic", "gone, and empty when created again", ADMIN),
    ("refuse-compact", "cleanup.policy=compact is refused (not with --peer kafka)", ADMIN),
    # Groups. A check uses topics and groups of its own; `crash` means: gone without leaving.
    (
        "group-two-rebalances",
        "a member joins, then one crashes: every partition owned exactly once after each",
        CLIENTS,
    ),
    ("group-cooperative", "cooperative-sticky: nobody loses what it keeps", CLIENTS),
    ("group-static", "a static member restarts within its session: no rebalance", CLIENTS),
    ("commit-sync", "a new member resumes exactly where the last committed", ADMIN),
    ("commit-async", "the same, the answer taken later", CLIENTS),
    ("metadata-commit", "the metadata beside an offset comes back, also empty", ADMIN),
    ("crash-resume", "after a crash the committed offset counts: no record skipped", CLIENTS),
    ("reset-offsets", "refused with members; without, the next member starts there", ADMIN),
    ("list-groups", "listed with its protocol type once it exists, not before", ADMIN),
    ("describe-group", "state, assignor, members and what they own; Empty at the end", ADMIN),
    ("delete-group", "refused with members; then gone together with its offsets", ADMIN),
    ("pause-resume", "a paused partition brings nothing, then all of it", ADMIN),
    ("regex-subscription", "a topic created later is found, others are not", CLIENTS),
    ("fan-in", "three producers, one consumer: every record once", CLIENTS),
    ("fan-out", "three groups: each reads every record", CLIENTS),
)

# client, behaviour: why that client cannot show it. Printed as `limit`, and not run.
NO_ADMIN = "kcat sends no admin requests, nor commits on demand: it imports no such call"
LIMITS = {("kcat", name): NO_ADMIN for name, _, clients in BEHAVIOURS if "kcat" not in clients}
LIMITS["kcat", "pause-resume"] = "kcat pauses nothing (it imports no rd_kafka_pause_partitions)"
LIMITS |= {
    ("aiokafka", "alter-configs"): "no IncrementalAlterConfigs (admin/client.py)",
    ("aiokafka", "list-offsets"): "its consumer asks for no newest timestamp (consumer/fetcher.py)",
    ("aiokafka", "group-cooperative"): "no cooperative assignor (coordinator/assignors)",
    ("aiokafka", "delete-group"): "no DeleteGroups (admin/client.py)",
}

# The subset for CI (--quick): one behaviour of each kind.
QUICK = (
    "create",
    "acks-all",
    "idempotence",
    "codec-zstd",
    "content",
    "from-start",
    "from-timestamp",
    "list-offsets",
    "group-two-rebalances",
    "commit-sync",
    "crash-resume",
    "delete-group",
    "delete-topic",
)

NAMES = tuple(name for name, _, _ in BEHAVIOURS)


def owed_by(client, peer):
    """Names of the behaviours that client must report against that peer, in order."""
    return [
        name
        for name, _, clients in BEHAVIOURS
        if client in clients
        and (client, name) not in LIMITS
        and not (peer == "kafka" and name == "refuse-compact")
    ]
