"""An NVMe drive over TCP: just enough of the protocol for Linux to see a disk with a volatile
write cache (`write_cache` "write back") that takes writes through it (`fua` 1).

qemu's own NVMe drive would do for running, not for knowing: what it hands to the host's file does
not tell a write with FUA from one without. Here the bit arrives in the command and is logged.

Owns the queues (one TCP connection each) and the answers to administrative commands. Data of a
write always comes in its command's own capsule, so there is no request to transmit (R2T).
"""

import select
import socket
import struct

NAME = "nqn.2026-01.highwater:power-cut"
TRANSFER_BYTES_MAX = 128 << 10
QUEUE_ENTRIES = 64
CONTROLLER = 1
# PDU types.
CONNECTION_REQUEST, CONNECTION_ANSWER, COMMAND, ANSWER, DATA_TO_HOST = 0, 1, 4, 5, 7
# Commands.
FLUSH, WRITE, READ, FABRICS = 0x00, 0x01, 0x02, 0x7F
GET_LOG_PAGE, IDENTIFY, SET_FEATURES, GET_FEATURES, EVENT, KEEP_ALIVE = 2, 6, 9, 10, 12, 24
# Fabrics commands and properties.
PROPERTY_SET, CONNECT, PROPERTY_GET = 0x00, 0x01, 0x04
CAPABILITIES, VERSION, CONFIGURATION, STATUS = 0x00, 0x08, 0x14, 0x1C
INVALID_OPCODE = 0x01 | 0x4000  # with "do not retry"
FORCE_UNIT_ACCESS = 1 << 14


class Queue:
    """One connection: administrative when its Connect says queue 0."""

    def __init__(self, connection):
        self.socket = connection
        self.received = bytearray()
        self.outgoing = bytearray()
        self.administrative = True

    def take_pdus(self):
        while len(self.received) >= 8:
            length = struct.unpack_from("<I", self.received, 4)[0]
            if len(self.received) < length:
                return
            pdu = bytes(self.received[:length])
            del self.received[:length]
            yield pdu

    def answer(self, command_id, result=0, status=0):
        entry = struct.pack("<QHHHH", result, 0, 0, command_id, status << 1)
        self.outgoing += struct.pack("<BBBBI", ANSWER, 0, 24, 0, 24) + entry

    def answer_data(self, command_id, data):
        last = 0x04
        self.outgoing += struct.pack("<BBBBI", DATA_TO_HOST, last, 24, 24, 24 + len(data))
        self.outgoing += struct.pack("<HHIII", command_id, 0, 0, len(data), 0) + data
        self.answer(command_id)


class Controller:
    """The drive behind its queues, served by one thread."""

    def __init__(self, drive, listener):
        self.drive, self.listener = drive, listener
        self.queues = {}
        self.configuration = 0

    def serve(self, stop):
        """Until `stop` (a pipe) can be read or is closed."""
        while True:
            timeout = self.drive.finish_due()
            self._send_all()
            sources = [self.listener, stop, *self.queues]
            for ready in select.select(sources, [], [], timeout)[0]:
                if ready is stop:
                    return
                if ready is self.listener:
                    connection, _ = self.listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.queues[connection] = Queue(connection)
                else:
                    self._receive(self.queues[ready])

    def _receive(self, queue):
        try:
            data = queue.socket.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            del self.queues[queue.socket]
            queue.socket.close()
            return
        queue.received += data
        for pdu in queue.take_pdus():
            if pdu[0] == CONNECTION_REQUEST:
                queue.outgoing += struct.pack("<BBBBI", CONNECTION_ANSWER, 0, 128, 0, 128)
                queue.outgoing += struct.pack("<HBBI", 0, 0, 0, TRANSFER_BYTES_MAX) + bytes(112)
            elif pdu[0] == COMMAND:
                self._command(queue, pdu[8:72], pdu[pdu[3] :] if pdu[3] else b"")

    def _send_all(self):
        for queue in list(self.queues.values()):
            if queue.outgoing:
                try:
                    queue.socket.sendall(queue.outgoing)
                except ConnectionError:
                    pass  # its end is seen by the next receive
                queue.outgoing.clear()

    def _command(self, queue, entry, data):
        opcode, command_id = entry[0], struct.unpack_from("<H", entry, 2)[0]
        if opcode == FABRICS:
            self._fabrics(queue, entry, command_id, data)
        elif queue.administrative:
            self._administrative(queue, opcode, entry, command_id)
        else:
            self._disk(queue, opcode, entry, command_id, data)

    def _disk(self, queue, opcode, entry, command_id, data):
        def reply():
            queue.answer(command_id)

        block, count, control = struct.unpack_from("<QHH", entry, 40)
        if opcode == WRITE:
            assert len(data) == (count + 1) * 512, "a write whose data is not in its capsule"
            self.drive.write(block * 512, data, bool(control & FORCE_UNIT_ACCESS), reply)
        elif opcode == READ:
            queue.answer_data(command_id, self.drive.read(block * 512, (count + 1) * 512))
        elif opcode == FLUSH:
            self.drive.flush(reply)
        else:
            queue.answer(command_id, status=INVALID_OPCODE)

    def _fabrics(self, queue, entry, command_id, data):
        kind = entry[4]
        if kind == CONNECT:
            queue.administrative = struct.unpack_from("<H", entry, 42)[0] == 0
            queue.answer(command_id, CONTROLLER)
        elif kind == PROPERTY_GET:
            queue.answer(command_id, self._property(struct.unpack_from("<I", entry, 44)[0]))
        elif kind == PROPERTY_SET:
            offset, value = struct.unpack_from("<IQ", entry, 44)
            if offset == CONFIGURATION:
                self.configuration = value
            queue.answer(command_id)
        else:
            queue.answer(command_id, status=INVALID_OPCODE)

    def _property(self, offset):
        if offset == CAPABILITIES:  # entries of a queue, contiguous, 7.5 s to be ready, NVM commands
            return (QUEUE_ENTRIES - 1) | 1 << 16 | 15 << 24 | 1 << 37
        if offset == VERSION:
            return 0x00010200
        if offset == STATUS:  # ready when enabled; shut down when asked to
            return (self.configuration & 1) | (8 if self.configuration & 0xC000 else 0)
        return self.configuration if offset == CONFIGURATION else 0

    def _administrative(self, queue, opcode, entry, command_id):
        first = struct.unpack_from("<I", entry, 40)[0]
        if opcode == IDENTIFY:
            namespace = struct.unpack_from("<I", entry, 4)[0]
            queue.answer_data(command_id, self._identify(first & 0xFF, namespace))
        elif opcode == SET_FEATURES:
            queue.answer(command_id, 0)  # number of queues: one of each kind, counted from 0
        elif opcode == GET_LOG_PAGE:
            queue.answer_data(command_id, bytes(((first >> 16) + 1) * 4))
        elif opcode in (GET_FEATURES, KEEP_ALIVE):
            queue.answer(command_id)
        elif opcode != EVENT:  # that is answered when something happens: never
            queue.answer(command_id, status=INVALID_OPCODE)

    def _identify(self, what, namespace):
        page = bytearray(4096)
        if what == 0:
            blocks = self.drive.bytes // 512
            struct.pack_into("<QQQ", page, 0, blocks, blocks, blocks)
            struct.pack_into("<Q", page, 120, 0x1122334455667788)  # EUI-64
            struct.pack_into("<HBB", page, 128, 0, 9, 0)  # the one format: 512 bytes
        elif what == 1:
            self._identify_controller(page)
        elif what == 2 and namespace == 0:
            struct.pack_into("<I", page, 0, 1)
        return bytes(page)

    def _identify_controller(self, page):
        page[4:24], page[24:64] = b"power-cut".ljust(20), b"a drive that remembers".ljust(40)
        page[64:72] = b"1".ljust(8)
        struct.pack_into("<BHI", page, 77, 5, CONTROLLER, 0x00010200)  # transfers of 2^5 pages
        struct.pack_into("<H", page, 320, 1)  # keep-alive, in 100 ms
        struct.pack_into("<BBHI", page, 512, 0x66, 0x44, QUEUE_ENTRIES, 1)
        page[525] = 1  # a volatile write cache
        struct.pack_into("<I", page, 536, 1 | 1 << 20)  # scatter-gather lists, offsets in capsules
        page[768 : 768 + len(NAME)] = NAME.encode()
        struct.pack_into("<II", page, 1792, (64 + TRANSFER_BYTES_MAX) // 16, 1)
        page[1803] = 1  # one data descriptor
