"""Checks against real brokers: how they are listed, what most of them start with, how they are run."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

import kafka_frames as kafka
from broker_process import Broker, free_port

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@contextlib.contextmanager
def running(args, data_dir=None, **options):
    """A broker on a fresh directory (or the given one) that must stop cleanly at the end."""
    own = data_dir is None
    data_dir = data_dir or tempfile.mkdtemp(prefix="highwater-refusals-")
    broker = Broker(args.binary, data_dir, free_port(), **options)
    try:
        yield broker
        if broker.process.poll() is None:
            broker.stop()
        assert broker.process.returncode == 0, f"exit code {broker.process.returncode}"
    except BaseException:
        print("".join(broker.log[-30:]), file=sys.stderr)
        broker.process.kill()
        raise
    finally:
        if own:
            shutil.rmtree(data_dir, ignore_errors=True)


def connect(broker):
    return kafka.Connection("127.0.0.1", broker.port)


def topic(connection, name, partitions=1):
    error = kafka.create_topic(connection, name, partitions)
    assert error == 0, f"CreateTopics {name}: error {error}"


def produce(connection, name, batch, partition=0):
    answer = connection.call(kafka.PRODUCE, 8, kafka.produce_body(name, partition, batch))
    return kafka.parse_produce(answer)[1:]


def batch(values=(b"value",), sequence=-1, producer_id=-1, epoch=-1):
    return kafka.record_batch(list(values), producer_id, epoch, sequence, int(time.time() * 1000))


def run(name, description):
    """Runs every check, or those asked for, and exits with 1 when one fails."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--binary", required=True, help="the highwater binary")
    parser.add_argument("--only", help="run checks whose name contains this")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    failed = 0
    chosen = [one for one in CHECKS if not args.only or args.only in one.__name__]
    for one in chosen:
        started = time.monotonic()
        print(f"  {one.__name__.replace('_', ' ')} ...", flush=True)
        try:
            one(args)
            print(f"    ok, {time.monotonic() - started:.1f} s", flush=True)
        except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"    FAIL (seed {args.seed}): {error}", flush=True)
    print(f"{name}: {len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
