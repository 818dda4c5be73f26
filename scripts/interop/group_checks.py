"""Checks of consumer groups, the same for every Python client.

A client's broker offers `create`, `produce`, `error_code`, `join`, `committed`, `reset`, `group`
and `delete_group`; `join` gives a member with `poll`, `owned`, `commit`, `pause`, `resume`,
`close`, the partitions `revoked` and the number of `assignments` it got. A member may take part
in rebalances only while it is polled, so every wait polls all members. A crash is a real one: the
member is a process of its own, killed by its parent. Topic and group have the same name.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections import namedtuple

from checks import TIMEOUT_S, equal, expect, numbered, verify

# What a broker's `group` answers: None where the group does not exist, else this. The members
# are one sorted list of owned partitions each.
Group = namedtuple("Group", "state protocol_type assignor members")

COOPERATIVE = {"strategy": "cooperative-sticky"}
# Enough for a session to expire and all others to join again.
SESSION_MS = 6000
UNKNOWN_MEMBER_ID, NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND = 25, 68, 69
MEMBER = "member"


def run_member(connect):
    """Plays the member that is to crash, if this process was started as one."""
    if sys.argv[1:2] != [MEMBER]:
        return
    bootstrap, topic = sys.argv[2:]
    member = connect(bootstrap, "member").join(topic, topic)
    count = 0
    while True:
        count += len(member.poll(50))
        if count == 10:
            member.commit(topic, 5)
            print("committed", flush=True)
            count += 1
        elif member.owned():
            print("owns", flush=True)


@contextlib.contextmanager
def doomed(broker, topic, line, others=()):
    """Such a member from the moment it has said that line; it is killed in the end."""
    command = [sys.executable, sys.argv[0], MEMBER, broker.bootstrap, topic]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said = threading.Event()

    def listen():
        # Goes on reading, so that the member never waits for a full pipe.
        for text in process.stdout:
            if text.strip() == line:
                said.set()

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        eventually(said.is_set, f"the member says {line}", others, said)
        yield
    finally:
        process.kill()
        process.wait()
        listener.join()
        process.stdout.close()


def eventually(condition, what, members=(), event=None):
    """Polls the members until the condition holds; without members it waits for the event."""
    deadline = time.monotonic() + TIMEOUT_S
    pause = event or threading.Event()
    while not condition():
        expect(time.monotonic() < deadline, f"still not so: {what}")
        for member in members:
            equal(member.poll(20), [], "records in the meantime")
        if not members:
            pause.wait(0.05)


def shared(members, topic, count):
    """Waits until the members own that many partitions exactly once, each something."""

    def fair():
        owned = [member.owned() for member in members]
        return all(owned) and sorted(sum(owned, [])) == [(topic, p) for p in range(count)]

    eventually(fair, f"{len(members)} members share {count} partitions", members)


def read_until(member, count):
    read = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(read) < count:
        expect(time.monotonic() < deadline, f"only {len(read)} of {count} records")
        read += member.poll(100)
    return read


def checks(broker):
    return {**membership(broker), **offsets(broker), **requests(broker), **reading(broker)}


@contextlib.contextmanager
def member_of(broker, group, topic, **options):
    member = broker.join(group, topic, **options)
    with contextlib.closing(member):
        yield member


def membership(broker):
    def two_rebalances():
        topic = broker.create("group-two-rebalances", partitions=4)
        with member_of(broker, topic, topic) as first:
            shared([first], topic, 4)
            with member_of(broker, topic, topic) as second:
                shared([first, second], topic, 4)
            shared([first], topic, 4)
            with doomed(broker, topic, "owns", [first]):
                equal(len(first.owned()), 2, "partitions of the first beside another")
            shared([first], topic, 4)

    def cooperative():
        topic = broker.create("group-cooperative", partitions=4)
        with member_of(broker, topic, topic, **COOPERATIVE) as first:
            shared([first], topic, 4)
            with member_of(broker, topic, topic, **COOPERATIVE) as second:
                shared([first, second], topic, 4)
                # Only what moved was taken; what stayed was never given up in between.
                moved = [partition for _, partition in second.owned()]
                equal(sorted(first.revoked), moved, "revoked from the first member")

    def static():
        topic = broker.create("group-static", partitions=4)
        with member_of(broker, topic, topic, instance="first") as first:
            shared([first], topic, 4)
            with member_of(broker, topic, topic, instance="second") as second:
                shared([first, second], topic, 4)
                # Some clients own a partition a moment before they tell their listener.
                eventually(lambda: first.assignments >= 2, "the first is told of it", [first])
                before, assignments = second.owned(), first.assignments
            # A static member that ends sends no LeaveGroup.
            with member_of(broker, topic, topic, instance="second") as second:
                both = [first, second]
                eventually(lambda: second.owned() == before, "it owns what it owned", both)
            equal(first.assignments, assignments, "assignments of the member that stayed")

    return {
        "group-two-rebalances": two_rebalances,
        "group-cooperative": cooperative,
        "group-static": static,
    }


@contextlib.contextmanager
def joined_and_read(broker, name):
    """A topic of ten records and a member of the group of that name which has read them."""
    topic = broker.create(name)
    broker.produce(topic, numbered(10))
    with member_of(broker, topic, topic) as member:
        verify(read_until(member, 10), numbered(10))
        yield topic, member


def resumes(broker, topic, offset):
    """A new member reads the ten records from that offset."""
    with member_of(broker, topic, topic) as member:
        verify(read_until(member, 10 - offset), numbered(10)[offset:], first_offset=offset)


def offsets(broker):
    def commit_sync():
        with joined_and_read(broker, "commit-sync") as (topic, member):
            member.commit(topic, 6)
            equal(broker.committed(topic, topic), (6, ""), "committed")
        resumes(broker, topic, 6)

    def commit_async():
        with joined_and_read(broker, "commit-async") as (topic, member):
            answers = []
            member.commit_later(topic, 4, answers.append)
            eventually(lambda: answers, "the answer", [member])
            equal(answers, [None], "errors of the commit")
            equal(broker.committed(topic, topic), (4, ""), "committed")
        resumes(broker, topic, 4)

    def metadata_commit():
        with joined_and_read(broker, "metadata-commit") as (topic, member):
            for metadata in ("r\u00e9sum\u00e9 at \U0001f30a", ""):
                member.commit(topic, 5, metadata)
                equal(broker.committed(topic, topic), (5, metadata), "committed")

    def crash_resume():
        topic = broker.create("crash-resume")
        broker.produce(topic, numbered(10))
        with doomed(broker, topic, "committed"):
            equal(broker.committed(topic, topic), (5, ""), "committed")
        resumes(broker, topic, 5)

    def reset_offsets():
        with joined_and_read(broker, "reset-offsets") as (topic, member):
            member.commit(topic, 10)
            code = broker.error_code(lambda: broker.reset(topic, topic, 2))
            equal(code, UNKNOWN_MEMBER_ID, "resetting a group that has members")
        for offset in (2, 7):
            broker.reset(topic, topic, offset)
            equal(broker.committed(topic, topic), (offset, ""), "reset")
        resumes(broker, topic, 7)

    return {
        "commit-sync": commit_sync,
        "commit-async": commit_async,
        "metadata-commit": metadata_commit,
        "crash-resume": crash_resume,
        "reset-offsets": reset_offsets,
    }


def requests(broker):
    def list_groups():
        topic = broker.create("list-groups")
        listed = broker.groups()
        expect(topic not in listed, f"listed before it exists: {listed}")
        with member_of(broker, topic, topic) as member:
            shared([member], topic, 1)
            equal(broker.groups().get(topic), "consumer", "protocol type in the list")

    def describe_group():
        topic = broker.create("describe-group", partitions=4)
        with (
            member_of(broker, topic, topic) as first,
            member_of(broker, topic, topic) as second,
        ):
            shared([first, second], topic, 4)
            group = broker.group(topic)
            facts = (group.state, group.protocol_type, group.assignor)
            equal(facts, ("Stable", "consumer", "range"), "state, protocol type, assignor")
            equal(sorted(group.members), sorted([first.owned(), second.owned()]), "members own")
        eventually(lambda: broker.group(topic).state == "Empty", "Empty")
        equal(broker.group(topic).members, [], "members of an empty group")

    def delete_group():
        with joined_and_read(broker, "delete-group") as (topic, member):
            member.commit(topic, 10)
            code = broker.error_code(lambda: broker.delete_group(topic))
            equal(code, NON_EMPTY_GROUP, "a group that has members")
        broker.delete_group(topic)
        expect(topic not in broker.groups(), "listed after deletion")
        code = broker.error_code(lambda: broker.delete_group(topic))
        equal(code, GROUP_ID_NOT_FOUND, "deleting it again")
        resumes(broker, topic, 0)

    return {
        "list-groups": list_groups,
        "describe-group": describe_group,
        "delete-group": delete_group,
    }


def reading(broker):
    def pause_resume():
        topic = broker.create("pause-resume", partitions=2)
        with member_of(broker, topic, topic) as member:
            shared([member], topic, 2)
            member.pause(topic, 0)
            for partition in range(2):
                broker.produce(topic, numbered(5, partition))
            verify(read_until(member, 5), numbered(5, 1))
            equal(member.poll(1000), [], "records of a paused partition")
            member.resume(topic, 0)
            verify(read_until(member, 5), numbered(5, 0))

    def regex_subscription():
        first = broker.create("regex-a")
        broker.create("not-regex")
        pattern = f"^{broker.prefix}-regex-.*"
        with member_of(broker, f"{broker.prefix}-regex-subscription", pattern) as member:
            eventually(lambda: member.owned() == [(first, 0)], "the first topic", [member])
            second = broker.create("regex-b")
            both = [(first, 0), (second, 0)]
            eventually(lambda: member.owned() == both, "the new topic is found", [member])
            broker.produce(second, numbered(3))
            verify(read_until(member, 3), numbered(3))

    def fan_in():
        topic = broker.create("fan-in", partitions=3)
        parts = [numbered(200, partition) for partition in range(3)]
        producers = [threading.Thread(target=broker.produce, args=(topic, one)) for one in parts]
        with member_of(broker, topic, topic) as member:
            for producer in producers:
                producer.start()
            verify(read_until(member, 600), sum(parts, []))
        for producer in producers:
            producer.join()

    def fan_out():
        topic = broker.create("fan-out", partitions=3)
        records = [record for partition in range(3) for record in numbered(100, partition)]
        broker.produce(topic, records)
        with contextlib.ExitStack() as stack:
            groups = [f"{topic}-{number}" for number in range(3)]
            members = [stack.enter_context(member_of(broker, name, topic)) for name in groups]
            for member in members:
                verify(read_until(member, 300), records)

    return {
        "pause-resume": pause_resume,
        "regex-subscription": regex_subscription,
        "fan-in": fan_in,
        "fan-out": fan_out,
    }
