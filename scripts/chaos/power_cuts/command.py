"""What the commands of the rig share: installing what is missing, and measuring one row."""

import os
import shutil
import subprocess
import sys

from power_cuts import report
from power_cuts.rig import Run, Setup

CUTS_OF_A_RUN_MAX = 100
# How a barrier is named here, and by which words it is known.
BARRIERS = {
    "shared": ("DeviceFlush", "share one flush"),
    "each write": ("PerWrite", "its own barrier"),
    "none needed": ("WriteThrough", "completed write is durable"),
}
PACKAGES = (
    "qemu-system-x86", "qemu-utils", "busybox-static", "kmod", "zstd", "lvm2", "cryptsetup-bin",
    "e2fsprogs", "xfsprogs", "btrfs-progs",
)
PROGRAMS = (
    "qemu-system-x86_64", "qemu-img", "busybox", "depmod", "zstd", "lvm", "cryptsetup",
    "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs",
)


def say(text):
    print(text, file=sys.stderr, flush=True)


def install():
    """Whatever of the programs is missing."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [package for program, package in zip(PROGRAMS, PACKAGES) if not shutil.which(program)]
    if missing:
        say(f"installing {' '.join(missing)}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            check=True, env=environment, stdout=subprocess.DEVNULL,
        )


def measure(args, system, setup_name, beside=None):
    """All runs of a system on a set-up; one row. `beside` is something that goes on meanwhile."""
    setup = Setup.named(setup_name, args.kvm)
    row = report.Row(system.name, setup.name())
    while row.outcome.cuts < args.cuts:
        cuts = min(CUTS_OF_A_RUN_MAX, args.cuts - row.outcome.cuts)
        seed = args.seed + row.runs
        say(f"{system.name} on {setup.name()}, seed {seed}: {args.seconds} s of load, {cuts} cuts")
        run = Run(system, setup, seed, args.seconds, say, beside, args.again)
        recording = run.recorded() if args.again else run.record()
        say(f"  {recording.records()} records acknowledged, "
            f"{recording.end - recording.begin} events of the drive")
        outcome = run.cut(recording, cuts)
        row.outcome.add(outcome)
        row.runs += 1
        row.records += recording.records()
        row.facts = recording.facts
        row.barrier = barrier_of(recording.facts)
        row.failures += run.failures
        if outcome.bad() and not args.expect_loss:
            say(f"  kept: {run.directory} (--again cuts it again)")
        elif not args.again and not args.keep:
            run.close()
    return row


def barrier_of(facts):
    """What the broker chose, as `highwater doctor` says it; nothing for others."""
    told = facts.get("doctor", {}).get("durability barrier", "")
    for barrier, words in BARRIERS.items():
        if any(word in told for word in words):
            return barrier
    return told
