#!/usr/bin/env python3
"""Asks a broker which requests it serves, with one ApiVersions request over a plain socket.

Knows nothing else of the protocol. Used to wait for a broker and to say why a client leaves
something out when the broker lacks a request that client insists on.

    api_versions.py HOST:PORT        prints one line "key min max" per request
"""

import socket
import struct
import sys

FIND_COORDINATOR = 10


def api_versions(bootstrap, timeout_s=5.0):
    """Returns {api key: (lowest version, highest version)}; raises OSError or ValueError."""
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    client_id = b"highwater-interop"
    # Request header v1 (key 18, version 0, correlation id 1) with an empty body.
    request = struct.pack(">hhih", 18, 0, 1, len(client_id)) + client_id
    with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">i", exactly(stream, 4))
            if not 10 <= size <= 65536:
                raise ValueError(f"answer of {size} bytes, expected 10 to 65536")
            answer = exactly(stream, size)
    correlation, error, count = struct.unpack_from(">ihi", answer)
    if correlation != 1 or error != 0:
        raise ValueError(f"correlation id {correlation}, error {error}, expected 1 and 0")
    entries = struct.iter_unpack(">hhh", answer[10 : 10 + 6 * count])
    return {key: (lowest, highest) for key, lowest, highest in entries}


def exactly(stream, size):
    data = stream.read(size)
    if len(data) != size:
        raise ValueError(f"connection closed after {len(data)} of {size} bytes")
    return data


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for api_key, (low, high) in sorted(api_versions(sys.argv[1]).items()):
        print(api_key, low, high)
