"""Whether `highwater group describe` says of a group what kafka-consumer-groups says of it.

Kafka's tool asks by its Java AdminClient; both asked the same broker, one after the other, while no
record came and nothing was committed.
"""

import json
import subprocess

LIMIT_S = 20
# Kafka's column, and our key.
COLUMNS = {
    "GROUP": "group",
    "TOPIC": "topic",
    "PARTITION": "partition",
    "CURRENT-OFFSET": "current_offset",
    "LOG-END-OFFSET": "log_end_offset",
    "LAG": "lag",
}


def described_by_kafka(printed):
    """A row for each partition in the tool's tables; none where it printed no lag."""
    rows, heads = [], []
    for line in printed.splitlines():
        words = line.split()
        if words[:1] == ["GROUP"]:
            heads = words if "LAG" in words else []
        elif heads and len(words) == len(heads):
            cells = dict(zip(heads, words))
            rows.append(tuple(cells[column] for column in COLUMNS))
    return rows


def described_by_highwater(binary, bootstrap, group):
    """The same rows by our own command."""
    done = subprocess.run(
        [binary, "group", "describe", group, "-b", bootstrap, "--json"],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )
    if done.returncode != 0:
        return [("exit code", str(done.returncode), done.stderr.strip())]
    cells = [[row[key] for key in COLUMNS.values()] for row in json.loads(done.stdout)]
    return [tuple("-" if cell is None else str(cell) for cell in row) for row in cells]


def differences(binary, bootstrap, printed):
    """What each says that the other does not; None where Kafka's tool printed no lag."""
    theirs = described_by_kafka(printed)
    if not theirs:
        return None
    groups = sorted({row[0] for row in theirs})
    ours = [row for group in groups for row in described_by_highwater(binary, bootstrap, group)]
    said = [f"kafka-consumer-groups: {' '.join(row)}" for row in theirs if row not in ours]
    return said + [f"highwater: {' '.join(row)}" for row in ours if row not in theirs]
