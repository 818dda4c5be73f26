"""kcat as a member of a group (-G): what its words about rebalances show.

A member is a kcat that runs on; it names on stderr what it was assigned and what was revoked. It
commits by itself, as often as it is told to.
"""

import itertools
import re
import subprocess
import threading

from checks import TIMEOUT_S, equal, eventually, numbered, verify

SESSION = ["-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300"]
COMMIT_INTERVAL_MS = 100
PARTITION = re.compile(r"(\S+) \[(\d+)\]")


class Member:
    """A kcat in a group, in the background."""

    def __init__(self, bootstrap, group, topic, form, *options):
        often = ["-X", "auto.offset.reset=earliest", "-X", "topic.metadata.refresh.interval.ms=1000"]
        often += ["-X", f"auto.commit.interval.ms={COMMIT_INTERVAL_MS}"]
        command = ["kcat", "-b", bootstrap, "-u", "-f", form, *SESSION, *often, *options]
        self.process = subprocess.Popen(
            [*command, "-G", group, topic], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.owned = set()
        # What it was assigned or had revoked, in order.
        self.changes = []
        self.output = bytearray()
        threading.Thread(target=self._hear, daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while chunk := self.process.stdout.read1():
            self.output += chunk

    def _hear(self):
        for line in self.process.stderr:
            line = line.decode(errors="replace")
            if "rebalanced" not in line:
                continue
            # The word comes in front of the partitions, the member's id may hold anything.
            partitions = {(topic, int(number)) for topic, number in PARTITION.findall(line)}
            is_revoke = " revoked: " in line or "incremental revoke" in line
            self.changes.append(("revoke" if is_revoke else "assign", partitions))
            self.owned = self.owned - partitions if is_revoke else self.owned | partitions

    def crash(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.terminate()
        self.process.wait(TIMEOUT_S)


def share(topic, partitions, *members):
    """Waits until the members own every partition once, each as many as fair."""
    everything = [(topic, partition) for partition in range(partitions)]

    def is_fair():
        owned = [set(member.owned) for member in members]
        together = sorted(itertools.chain(*owned))
        return together == everything and len({len(one) for one in owned}) == 1

    eventually(is_fair, f"{partitions} partitions shared by {len(members)} members")


def checks(kcat, broker, form, parse):
    """By name of the behaviour; `form` is kcat's -f and `parse` undoes it."""
    members = []

    def join(group, topic, *options):
        members.append(Member(kcat.bootstrap, group, topic, form, *options))
        return members[-1]

    def ended(check):
        def run():
            try:
                check()
            finally:
                for member in members:
                    member.crash()
                members.clear()

        return run

    def two_rebalances():
        name = "group-two-rebalances"
        topic, group = broker.create(name, partitions=4), kcat.topic(name)
        first = join(group, topic)
        share(topic, 4, first)
        second = join(group, topic)
        share(topic, 4, first, second)
        second.crash()
        share(topic, 4, first)

    def cooperative():
        name = "group-cooperative"
        topic, group = broker.create(name, partitions=4), kcat.topic(name)
        sticky = ["-X", "partition.assignment.strategy=cooperative-sticky"]
        first = join(group, topic, *sticky)
        share(topic, 4, first)
        second = join(group, topic, *sticky)
        share(topic, 4, first, second)
        kept = set(first.owned)
        revoked = set().union(*(some for what, some in first.changes if what == "revoke"))
        equal(revoked & kept, set(), "revoked of what it keeps")

    def static_member():
        name = "group-static"
        topic, group = broker.create(name, partitions=2), kcat.topic(name)
        named = ["-X", "group.instance.id=the-static-one"]
        first, other = join(group, topic, *named), None
        share(topic, 2, first)
        other = join(group, topic)
        share(topic, 2, first, other)
        owned, changes = set(first.owned), len(other.changes)
        first.close()
        again = join(group, topic, *named)
        eventually(lambda: again.owned == owned, "the static member is back")
        equal(len(other.changes), changes, "rebalances of the other member")

    def crash_resume():
        name = "crash-resume"
        topic, group = broker.create(name), kcat.topic(name)
        kcat.produce(topic, numbered(10))
        member = join(group, topic)
        eventually(lambda: member.output.count(b"\n") >= 20, "ten records came")
        verify(parse(bytes(member.output)), numbered(10))
        # Its own commit: no partition is left behind.
        eventually(lambda: broker.committed(group, topic)[0] == 10, "committed")
        member.crash()
        kcat.produce(topic, numbered(5, prefix="later"))
        later = join(group, topic)
        eventually(lambda: later.output.count(b"\n") >= 10, "five more came")
        verify(parse(bytes(later.output)), numbered(5, prefix="later"), first_offset=10)

    def regex_subscription():
        first = broker.create("regex-a")
        broker.create("not-regex")
        member = join(kcat.topic("regex-subscription"), f"^{kcat.prefix}-regex-.*")
        share(first, 1, member)
        both = {(first, 0), (broker.create("regex-b"), 0)}
        eventually(lambda: member.owned == both, "the new topic is found")

    return {
        "group-two-rebalances": ended(two_rebalances),
        "group-cooperative": ended(cooperative),
        "group-static": ended(static_member),
        "crash-resume": ended(crash_resume),
        "regex-subscription": ended(regex_subscription),
    }
