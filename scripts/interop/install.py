#!/usr/bin/env python3
"""Installs the clients under test, only what is missing, into one cache directory.

    install.py kcat confluent kafka-python aiokafka rdkafka java franz-go sarama kafkajs tools

Debian packages come by apt-get (as root or through sudo), confluent-kafka into a virtual
environment, the Java program and kafka-clients by Maven, kafkajs by npm, the Go programs by a Go
of the release that go.mod names (fetched as a module if the one here is older), the Rust program by
cargo, which must be there. `plots`, matplotlib in a virtual environment of its own, is for
`perf/run`. A stamp per client holds a digest of everything it was built from, so a second run does
nothing. Versions are pinned here, in java/pom.xml, go/go.sum, rdkafka/Cargo.lock and
kafkajs/package-lock.json.
"""

import hashlib
import json
import os
import platform
import re
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
# What draws the plots of perf/REPORT.md; 3.10 is the last that runs on Python 3.10.
MATPLOTLIB = "matplotlib==3.10.8"
# What java/pom.xml compiles for; some distributions' default is older.
JAVA_RELEASE = 17
# What kafkajs's program is written for; Debian 12 and Ubuntu 24.04 ship it.
NODE_RELEASE = 18

VENV_PYTHON = CACHE / "venv" / "bin" / "python"
PURE_VENV = CACHE / "pure-python"
PURE_PYTHON_BIN = PURE_VENV / "bin" / "python"
PLOTS_VENV = CACHE / "plots"
JAVA_CLASSES = CACHE / "java" / "classes"
JAVA_LIBRARIES = CACHE / "java" / "lib"
NODE_MODULES = CACHE / "kafkajs" / "node_modules"


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


def plots():
    packages_into(PLOTS_VENV, "plots", MATPLOTLIB)


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


def tools():
    """Kafka's command-line tools and what runs them; their jars come with Apache Kafka's own."""
    run([HERE / "apache-kafka", "fetch"])
    project = HERE / "tools"
    source = project / "ToolDriver.java"

    def build():
        classes = CACHE / "tools" / "classes"
        shutil.rmtree(classes, ignore_errors=True)
        libraries = CACHE / "apache-kafka" / "lib" / "*"
        run(["javac", "-Xlint:all", "-Werror", "-d", classes, "-cp", libraries, source])

    pom = HERE / "java" / "broker-pom.xml"
    stamped("tools", digest_of(source.read_text(), pom.read_text()), build)


def go(client):
    """One of the two Go programs; they share go.mod and the checks."""
    project = HERE / "go"
    names = ("go.mod", "go.sum", *(f"{part}/*.go" for part in ("checks", client)))
    sources = sorted(path for name in names for path in project.glob(name))

    def build():
        say(f"go build {client}")
        # -mod=readonly: what go.sum does not pin is refused.
        words = ["build", "-mod=readonly", "-o", CACHE / "go" / client, f"./{client}"]
        run([*go_command(project), *words], cwd=project)

    stamped(client, digest_of(*(path.read_text() for path in sources)), build)


def go_command(project):
    """Calls a Go of at least the release that go.mod names."""
    lines = (project / "go.mod").read_text().splitlines()
    wanted = next(line.split()[1] for line in lines if line.startswith("go "))
    if shutil.which("go") is None:
        apt_install("golang-go")
    # `go version go1.24.4 linux/amd64`; in a directory without go.mod, which it would obey.
    found = run(["go", "version"], cwd="/").split()[2].removeprefix("go")
    if numbers(found) >= numbers(wanted):
        return ["go"]
    root = CACHE / "go-toolchain" / wanted
    if not (root / "bin" / "go").exists():
        fetch_go(wanted, root)
    return ["env", f"GOROOT={root}", "GOTOOLCHAIN=local", root / "bin" / "go"]


def fetch_go(version, root):
    """Go itself as a module: any Go can fetch it, and checks it like every other module."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    module = f"golang.org/toolchain@v0.0.1-go{version}.linux-{machine}"
    say(f"go mod download {module} (about 70 MB, once)")
    fetched = json.loads(run(["go", "mod", "download", "-json", module], cwd="/"))
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(fetched["Dir"], partial)
    run(["chmod", "-R", "u+w", partial])
    # A module cannot hold go.mod files of others, nor mark files as executable.
    for file in partial.rglob("_go.mod"):
        file.rename(file.with_name("go.mod"))
    run(["chmod", "-R", "+x", partial / "bin", partial / "pkg" / "tool"])
    partial.rename(root)


def numbers(version):
    """`1.26rc1` is (1, 26), `1.26.0` is (1, 26, 0)."""
    return tuple(map(int, re.findall(r"\d+", version.partition("rc")[0])))


def rdkafka():
    need("cargo", "https://rustup.rs")
    compilers()
    project = HERE / "rdkafka"
    sources = [project / "Cargo.toml", project / "Cargo.lock"]
    sources += sorted((project / "src").rglob("*.rs"))

    def build():
        say("cargo build rdkafka, with librdkafka in C (minutes, once)")
        target = CACHE / "rdkafka-target"
        run(["cargo", "build", "--locked", "--release", "--target-dir", target], cwd=project)

    stamped("rdkafka", digest_of(*(path.read_text() for path in sources)), build)


def compilers():
    """For librdkafka and the codecs of kafkajs, which are C and C++."""
    if not all(map(shutil.which, ("cc", "c++", "make"))):
        apt_install("build-essential")


def kafkajs():
    if not all(map(shutil.which, ("node", "npm"))):
        apt_install("nodejs", "npm")
    found = run(["node", "--version"]).strip()
    if numbers(found)[0] < NODE_RELEASE:
        sys.exit(f"install: node is {found}, at least {NODE_RELEASE} is needed")
    project = HERE / "kafkajs"
    files = [project / name for name in ("package.json", "package-lock.json")]

    def build():
        compilers()
        say("npm ci: kafkajs and its codecs, lz4 and zstd in C++ (a minute or two, once)")
        shutil.rmtree(NODE_MODULES.parent, ignore_errors=True)
        NODE_MODULES.parent.mkdir(parents=True)
        for file in files:
            shutil.copy(file, NODE_MODULES.parent)
        # The zstd binding asks for an older C++ than the headers of today's Node are written in.
        words = ["env", "CXXFLAGS=-std=gnu++17", "npm", "ci", "--no-audit", "--no-fund"]
        run(words, cwd=NODE_MODULES.parent)

    stamped("kafkajs", digest_of(found, *(path.read_text() for path in files)), build)


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
    "kafkajs": kafkajs,
    "java-tools": java_tools,
    "tools": tools,
    "plots": plots,
}


def install(names):
    for name in names:
        INSTALLERS[name]()


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in INSTALLERS]
    if unknown or len(sys.argv) < 2:
        sys.exit(__doc__)
    install(sys.argv[1:])
