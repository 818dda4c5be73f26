#!/usr/bin/env python3
"""Installs the clients under test, only what is missing, into one cache directory.

    install.py kcat confluent kafka-python aiokafka rdkafka java franz-go sarama

Debian packages come by apt-get (as root or through sudo), confluent-kafka into a virtual
environment, the Java program and kafka-clients by Maven, the Go and Rust programs by their own
compilers, which must be there. A stamp per client holds a digest of everything it was built from,
so a second run does nothing. Versions are pinned here, in java/pom.xml, in go/go.sum and in
rdkafka/Cargo.lock.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(
    os.environ.get("HIGHWATER_INTEROP_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "highwater-interop"
)
# What Debian 12 and 13 and Ubuntu 22.04 and 24.04 ship; apt has one version per release.
KCAT_VERSION = "1.7.1"
CONFLUENT_KAFKA = "confluent-kafka==2.16.1"
# kafka-python and aiokafka are Python alone; the codecs they use are packages of their own.
PURE_PYTHON = (
    "kafka-python==3.0.12",
    "aiokafka==0.14.0",
    "cramjam==2.14.0",
    "lz4==4.4.5",
    "python-snappy==0.7.3",
    "zstandard==0.25.0",
)
# What java/pom.xml compiles for; some distributions' default is older.
JAVA_RELEASE = 17

VENV_PYTHON = CACHE / "venv" / "bin" / "python"
PURE_VENV = CACHE / "pure-python"
PURE_PYTHON_BIN = PURE_VENV / "bin" / "python"
JAVA_CLASSES = CACHE / "java" / "classes"
JAVA_LIBRARIES = CACHE / "java" / "lib"


def say(text):
    print(f"install: {text}", file=sys.stderr, flush=True)


def run(command, **options):
    """Runs quietly; what the command printed is shown only when it fails."""
    result = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if result.returncode != 0:
        sys.stderr.write(result.stdout[-8000:])
        words = " ".join(map(str, command))
        sys.exit(f"install: {words} failed, exit code {result.returncode}")
    return result.stdout


def apt_install(*packages):
    if shutil.which("apt-get") is None:
        sys.exit(f"install: no apt-get here; install these yourself: {' '.join(packages)}")
    say(f"apt-get install {' '.join(packages)}")
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    apt += ["-o", "DPkg::Lock::Timeout=120"]
    run([*apt, "update"])
    run([*apt, "install", "-y", "--no-install-recommends", *packages])


def stamped(name, digest, build):
    """Calls `build` unless the stamp of that name already holds the digest."""
    stamp = CACHE / f"{name}.stamp"
    if stamp.exists() and stamp.read_text() == digest:
        return
    build()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)


def digest_of(*parts):
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def kcat():
    if shutil.which("kcat") is None:
        apt_install("kcat")
    # kcat has no admin requests: its topics are made by confluent-kafka.
    confluent()


def confluent():
    packages_into(CACHE / "venv", "confluent", CONFLUENT_KAFKA)


def pure_python():
    packages_into(PURE_VENV, "pure-python", *PURE_PYTHON)


def packages_into(where, name, *packages):
    """A virtual environment with those packages, and what they need, and no others."""

    def build():
        say(f"{' '.join(packages)} into {where}")
        shutil.rmtree(where, ignore_errors=True)
        # Debian's python3 has the venv module but, without python3-venv, not what it needs.
        probe = [sys.executable, "-c", "import ensurepip, venv"]
        if subprocess.run(probe, capture_output=True).returncode != 0:
            apt_install("python3-venv")
        run([sys.executable, "-m", "venv", where])
        pip = [where / "bin" / "python", "-m", "pip", "install", "--quiet"]
        run([*pip, "--only-binary=:all:", *packages])

    stamped(name, digest_of(*packages, sys.version), build)


def java_tools():
    missing = []
    if shutil.which("javac") is None:
        missing.append("default-jdk-headless")
    if shutil.which("mvn") is None:
        missing.append("maven")
    if missing:
        apt_install(*missing)
    if javac_version() < JAVA_RELEASE:
        apt_install(f"openjdk-{JAVA_RELEASE}-jdk-headless")


def javac_version():
    """The major version: `javac 17.0.15` is 17, `javac 1.8.0_402` is 1."""
    return int(run(["javac", "-version"]).split()[-1].split(".")[0])


def java():
    java_tools()
    project = HERE / "java"
    sources = [project / "pom.xml", *sorted((project / "src").rglob("*.java"))]

    def build():
        say("Maven: kafka-clients and the Java program")
        shutil.rmtree(CACHE / "java", ignore_errors=True)
        where = f"-Dinterop.build={CACHE / 'java'}"
        run(["mvn", "-B", "-q", "-Dstyle.color=never", "-f", project / "pom.xml", where, "compile"])

    stamped("java", digest_of(*(path.read_text() for path in sources)), build)


def go(client):
    """One of the two Go programs; they share go.mod and the checks."""
    need("go", "https://go.dev/doc/install")
    project = HERE / "go"
    names = ("go.mod", "go.sum", *(f"{part}/*.go" for part in ("checks", client)))
    sources = sorted(path for name in names for path in project.glob(name))

    def build():
        say(f"go build {client}")
        # -mod=readonly: what go.sum does not pin is refused.
        words = ["go", "build", "-mod=readonly", "-o", CACHE / "go" / client, f"./{client}"]
        run(words, cwd=project)

    stamped(client, digest_of(*(path.read_text() for path in sources)), build)


def rdkafka():
    need("cargo", "https://rustup.rs")
    project = HERE / "rdkafka"
    sources = [project / "Cargo.toml", project / "Cargo.lock"]
    sources += sorted((project / "src").rglob("*.rs"))

    def build():
        say("cargo build rdkafka, with librdkafka in C (minutes, once)")
        target = CACHE / "rdkafka-target"
        run(["cargo", "build", "--locked", "--release", "--target-dir", target], cwd=project)

    stamped("rdkafka", digest_of(*(path.read_text() for path in sources)), build)


def need(tool, where):
    if shutil.which(tool) is None:
        sys.exit(f"install: {tool} is missing, see {where}")


INSTALLERS = {
    "kcat": kcat,
    "confluent": confluent,
    "kafka-python": pure_python,
    "aiokafka": pure_python,
    "rdkafka": rdkafka,
    "java": java,
    "franz-go": lambda: go("franz-go"),
    "sarama": lambda: go("sarama"),
    "java-tools": java_tools,
}


def install(names):
    for name in names:
        INSTALLERS[name]()


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in INSTALLERS]
    if unknown or len(sys.argv) < 2:
        sys.exit(__doc__)
    install(sys.argv[1:])
