"""The behaviours under test, in the order they run, and which clients must show each.

A client that does not report a behaviour it owes has failed it: a crash half-way cannot pass.
"""

CLIENTS = ("kcat", "confluent", "java")
ADMIN = ("confluent", "java")

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
    ("large-record", "a record of 900 KiB", CLIENTS),
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
)

NAMES = tuple(name for name, _, _ in BEHAVIOURS)


def owed_by(client, peer):
    """Names of the behaviours that client must report against that peer, in order."""
    return [
        name
        for name, _, clients in BEHAVIOURS
        if client in clients and not (peer == "kafka" and name == "refuse-compact")
    ]
