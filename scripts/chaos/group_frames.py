"""Requests of consumer groups, written by hand like those of kafka_frames, and a member of them.

Non-flexible versions only: OffsetCommit 2, JoinGroup 5, SyncGroup 3, Heartbeat 3, LeaveGroup 2,
ListGroups 2, FindCoordinator 0. Members run in asyncio: thousands of them fit into one process.
"""

import asyncio
import struct

from kafka_frames import string

OFFSET_COMMIT, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP, LIST_GROUPS = (
    8, 10, 11, 12, 13, 14, 16,
)
NO_ERROR, LOADING, NOT_AVAILABLE, UNKNOWN_MEMBER, REBALANCING, MEMBER_ID_REQUIRED = (
    0, 14, 15, 25, 27, 79,
)
GROUP_MAX_SIZE_REACHED = 81

SESSION_MS, REBALANCE_MS = 60_000, 60_000
HEARTBEAT_S = 1.0


def binary(raw):
    return struct.pack(">i", len(raw)) + raw


def read_string(answer, at):
    """(text, where it ends); an absent one is empty."""
    length = struct.unpack_from(">h", answer, at)[0]
    end = at + 2 + max(length, 0)
    return answer[at + 2 : end].decode(), end


def commit_body(group, topic, partition, offset):
    body = string(group) + struct.pack(">i", -1) + string("") + struct.pack(">qi", -1, 1)
    body += string(topic) + struct.pack(">iiq", 1, partition, offset)
    return body + string("")


def commit_error(answer):
    """The error of a response with one partition."""
    _, at = read_string(answer, 4)
    return struct.unpack_from(">ih", answer, at + 4)[1]


def find_coordinator_error(connection, group):
    return struct.unpack_from(">h", connection.call(FIND_COORDINATOR, 0, string(group)))[0]


def list_groups(connection):
    """Names of all groups."""
    answer = connection.call(LIST_GROUPS, 2, b"")
    _, error, count = struct.unpack_from(">ihi", answer)
    assert error == 0, f"ListGroups: error {error}"
    names, at = set(), 10
    for _ in range(count):
        name, at = read_string(answer, at)
        _, at = read_string(answer, at)
        names.add(name)
    return names


class Refused(Exception):
    """A join that the coordinator does not take; `code` says why."""

    def __init__(self, code):
        super().__init__(f"JoinGroup: error {code}")
        self.code = code


class Member:
    """One member on a connection of its own; the leader gives every member its own number."""

    def __init__(self, address, group):
        self.address, self.group = address, group
        self.id, self.generation, self.leads, self.rebalances = "", -1, False, 0
        self.assignment = None
        self.correlation = 0
        self.leaving = asyncio.Event()

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection(*self.address)

    async def call(self, api_key, version, body):
        self.correlation += 1
        header = struct.pack(">hhi", api_key, version, self.correlation) + string("load")
        self.writer.write(struct.pack(">i", len(header) + len(body)) + header + body)
        size = struct.unpack(">i", await self.reader.readexactly(4))[0]
        frame = await self.reader.readexactly(size)
        assert struct.unpack_from(">i", frame)[0] == self.correlation
        return frame[4:]

    def names(self):
        """What SyncGroup and Heartbeat begin with."""
        head = string(self.group) + struct.pack(">i", self.generation)
        return head + string(self.id) + struct.pack(">h", -1)

    async def join(self):
        """One attempt; (error, the ids of all members where this one leads)."""
        body = string(self.group) + struct.pack(">ii", SESSION_MS, REBALANCE_MS)
        body += string(self.id) + struct.pack(">h", -1) + string("consumer")
        body += struct.pack(">i", 1) + string("range") + binary(b"subscription")
        answer = await self.call(JOIN_GROUP, 5, body)
        _, error, self.generation = struct.unpack_from(">ihi", answer)
        _, at = read_string(answer, 10)
        leader, at = read_string(answer, at)
        self.id, at = read_string(answer, at)
        count, at = struct.unpack_from(">i", answer, at)[0], at + 4
        members = []
        for _ in range(count):
            name, at = read_string(answer, at)
            _, at = read_string(answer, at)
            at += 4 + struct.unpack_from(">i", answer, at)[0]
            members.append(name)
        self.leads = error == NO_ERROR and leader == self.id
        return error, members

    async def sync(self, members):
        body = self.names() + struct.pack(">i", len(members))
        for number, name in enumerate(members):
            body += string(name) + binary(b"%d" % number)
        answer = await self.call(SYNC_GROUP, 3, body)
        _, error, length = struct.unpack_from(">ihi", answer)
        return error, answer[10 : 10 + length]

    async def rebalance(self):
        """Joins and synchronises until it has an assignment."""
        self.assignment = None
        while True:
            error, members = await self.join()
            if error in (LOADING, NOT_AVAILABLE, UNKNOWN_MEMBER):
                await asyncio.sleep(0.1)
            elif error not in (NO_ERROR, MEMBER_ID_REQUIRED):
                raise Refused(error)
            if error != NO_ERROR:
                continue
            error, assignment = await self.sync(members)
            if error == NO_ERROR:
                self.assignment = assignment
                self.rebalances += 1
                return
            assert error == REBALANCING, f"SyncGroup: error {error}"

    async def run(self):
        """Stays in the group until it is told to leave."""
        await self.connect()
        try:
            await self.rebalance()
            while not self.leaving.is_set():
                try:
                    await asyncio.wait_for(self.leaving.wait(), HEARTBEAT_S)
                except TimeoutError:
                    await self.beat()
            body = string(self.group) + string(self.id)
            answer = await self.call(LEAVE_GROUP, 2, body)
            assert struct.unpack_from(">ih", answer)[1] == NO_ERROR
        finally:
            self.writer.close()

    async def beat(self):
        answer = await self.call(HEARTBEAT, 3, self.names())
        error = struct.unpack_from(">ih", answer)[1]
        if error == REBALANCING:
            await self.rebalance()
        else:
            assert error == NO_ERROR, f"Heartbeat: error {error}"
