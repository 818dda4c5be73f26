"""A broker to run something of our own against: Highwater, or Apache Kafka under the same roof.

Each is a context manager that starts it on a free port, gives its bootstrap address, and leaves no
process behind. What clients of others are run against is started by `broker.py` and `runner.py`,
where starting and stopping are checks of their own.
"""

import contextlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "chaos"))

from broker_process import Broker, free_port  # noqa: E402

# As `apache-kafka` does: a new group does not wait for more members.
SETTINGS = ["group_initial_rebalance_delay_ms=0"]


@contextlib.contextmanager
def highwater(binary):
    with tempfile.TemporaryDirectory(prefix="highwater-interop-") as directory:
        port = free_port()
        broker = Broker(binary, Path(directory) / "data", port, sets=SETTINGS)
        try:
            yield f"127.0.0.1:{port}"
        except BaseException:
            broker.kill()
            raise
        broker.stop()


@contextlib.contextmanager
def kafka(or_else=""):
    """`or_else` follows the remedy when one runs already."""
    script, port = HERE / "apache-kafka", free_pair()
    if subprocess.run([script, "status"], check=False).returncode == 0:
        sys.exit(f"Apache Kafka runs already: `{script} stop` ends it{or_else}")
    try:
        # Standard output may be a document of its own.
        subprocess.run([script, "start", str(port)], check=True, stdout=sys.stderr)
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([script, "stop"], check=True, stdout=sys.stderr)


def free_pair():
    """A free port whose successor, that of Kafka's controller, is free too."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def add_options(parser, root):
    """Which brokers: --binary and --kafka."""
    parser.add_argument("--binary", type=Path, default=root / "target" / "release" / "highwater")
    parser.add_argument("--kafka", action="store_true", help="run it against Apache Kafka as well")


def chosen(parser, options):
    """The brokers asked for, not started yet, by name."""
    if not options.binary.exists():
        parser.error(f"{options.binary} does not exist; build it or name one with --binary")
    brokers = {"highwater": highwater(options.binary.resolve())}
    return brokers | ({"kafka": kafka()} if options.kafka else {})
