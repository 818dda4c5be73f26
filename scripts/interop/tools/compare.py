"""Makes two outputs comparable, by replacing what must differ, and compares them.

Values are replaced by words of about the same meaning, so that what else stands in a line is still
compared; a whole line goes only where a comment says why. Runs of blanks count as one: columns are as wide as ids are.
"""

import difflib
import re

from step import Order

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

# In this order. Addresses and directories are replaced before, being known.
PATTERNS = (
    (UUID, "UUID"),
    # Topic and cluster ids: 16 bytes in base64 for URLs.
    (r"(TopicId: |Cluster ID: |topicId=|clusterId=)[A-Za-z0-9_-]{22}", r"\1ID"),
    (r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] ", ""),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[:.,]\d{3}", "DATETIME"),
    # Milliseconds since 1970, of this decade or the next.
    (r"(?<![\d.])1[7-9]\d{11}(?!\d)", "TIME"),
    (r"[ \t]+", " "),
    (r" $", ""),
    (r"\b(console|perf)-consumer-\d{1,5}\b", r"\1-consumer-N"),
    # A client asks again for a topic that was made just now; how often is a matter of time.
    (r"^WARN .* reported a recoverable issue .*=(UNKNOWN_TOPIC_OR_P|LEADER_NOT_AV).*\n?", ""),
    # A client out of time says what it was about to do.
    (r"(TimeoutException): .*(Call: |Call\(callName=)(\w+).*", r"\1: \3"),
    (r"correlation id \d+", "correlation id N"),
    # Frames of a stack trace that only say by which way main was called.
    (r"^\s*at (java\.base/|jdk\.internal|ToolDriver).*\n", ""),
    (r"\badminclient-\d+", "adminclient-N"),
    (r"^\s*\.\.\. \d+ more\n", ""),
)

# What may differ in any output, with the reason: only what these leave is compared then.
ALLOWANCES = (
    (
        "the same error, in the broker's own words",
        (
            (r"(org\.apache\.kafka\.common\.errors\.\w+):.*", r"\1: WORDING"),
            (r"^(Error while executing topic command : ).*", r"\1WORDING"),
        ),
    ),
    (
        "a default goes by the topic's key; Kafka's by the broker's key, or not at all",
        ((r"(, )?DEFAULT_CONFIG:[^,}]*", ""),),
    ),
)
# A diff longer than this says no more.
DIFF_LINES_MAX = 60


def normalise(text, side, step):
    text = text.replace(side.values["bootstrap"], "HOST:PORT")
    text = text.replace(side.values["dir"], "DIR")
    text = re.sub(rf"\b{side.values['port']}\b", "PORT", text)
    for pattern, replacement in PATTERNS + tuple(step.hide):
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    lines = text.splitlines()
    # A client logs a warning as often as it tries again, which is a matter of time.
    warnings = sorted({line for line in lines if line.startswith(("WARN ", "ERROR "))})
    others = [line for line in lines if not line.startswith(("WARN ", "ERROR "))]
    if step.order is Order.SET:
        others = set(others)
    return (others if step.order is Order.KEPT else sorted(others)) + warnings


def listing(result, side, step):
    """The whole of a result as lines, exit code first."""
    lines = [f"exit code {result.code}"]
    for name, text in (("stdout", result.out), ("stderr", result.err)):
        lines += [f"-- {name}", *normalise(text, side, step)]
    return lines


def compare(results, sides, step):
    """Returns (status, note, diff); `results` and `sides` are in the order kafka, highwater."""
    kafka, highwater = results
    lines = [listing(result, side, step) for result, side in zip(results, sides)]
    if kafka.code != step.code:
        note = f"exit code {kafka.code} with Apache Kafka, expected {step.code}"
        return "broken", note, lines[0]
    diff = list(difflib.unified_diff(*lines, "kafka", "highwater", lineterm=""))
    if not diff and step.by_design is None:
        return "same", None, []
    # A tool that never ends is nobody's design.
    if highwater.code in ("timeout", "hangs") and highwater.code != kafka.code:
        return "differs", None, diff
    reasons = []
    for reason, replacements in ALLOWANCES:
        allowed = [[replaced(line, replacements) for line in side] for side in lines]
        if allowed != lines:
            reasons.append(reason)
        lines = allowed
        if lines[0] == lines[1] and step.by_design is None:
            return "by design", "; ".join(reasons), diff
    diff = list(difflib.unified_diff(*lines, "kafka", "highwater", lineterm=""))
    if not diff:
        return "broken", "what its reason is for does not differ any more: remove it", []
    changed = [line[1:] for line in diff[2:] if line[0] in "+-"]
    if step.by_design and all(re.search(step.by_design.pattern, line) for line in changed):
        return "by design", step.by_design.reason, diff
    more = len(diff) - DIFF_LINES_MAX
    return "differs", f"{more} more lines" if more > 0 else None, diff[:DIFF_LINES_MAX]


def replaced(line, replacements):
    for pattern, replacement in replacements:
        line = re.sub(pattern, replacement, line)
    return line
