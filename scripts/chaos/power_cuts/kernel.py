"""A kernel for the virtual machine, from the distribution's own packages; nothing is installed.

Debian: the cloud kernel. Ubuntu: the one for virtual machines. Downloaded once into the user's
cache, unpacked there, and its modules' dependencies are worked out by depmod.
"""

import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "highwater-power-cut"
META_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual")


class Kernel:
    """An unpacked kernel: its image, and where its modules are."""

    def __init__(self, root):
        self.image = next((root / "boot").glob("vmlinuz-*"))
        self.version = self.image.name.removeprefix("vmlinuz-")
        libraries = root / "usr/lib/modules" / self.version
        self.modules = libraries if libraries.exists() else root / "lib/modules" / self.version
        self.dependencies = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, needed = line.partition(":")
            self.dependencies[path] = needed.split()

    def files_of(self, names):
        """Modules in the order in which they are loaded, as paths; built-in ones are left out."""
        by_name = {module_name(path): path for path in self.dependencies}
        wanted = []
        for name in names:
            if name in by_name:
                # Dependencies are listed nearest first.
                wanted += [*reversed(self.dependencies[by_name[name]]), by_name[name]]
        return [self.modules / path for path in dict.fromkeys(wanted)]


def module_name(path):
    return re.sub(r"\.ko(\.\w+)?$", "", path.rsplit("/", 1)[-1]).replace("-", "_")


def module_bytes(path):
    """A module as the kernel takes it."""
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout
    return path.read_bytes()


def fetch(say):
    """The kernel, downloaded unless it is there already."""
    packages = _packages()
    root = CACHE / packages[0]
    if not (root / "complete").exists():
        say(f"downloading {' and '.join(packages)} (about 30 to 150 MB, once)")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        _run(["apt-get", "download", "-qq", *packages], cwd=root)
        for package in root.glob("*.deb"):
            _run(["dpkg-deb", "-x", package.name, "."], cwd=root)
            package.unlink()
        version = next((root / "boot").glob("vmlinuz-*")).name.removeprefix("vmlinuz-")
        if (root / "usr/lib/modules").exists() and not (root / "lib").exists():
            (root / "lib").symlink_to("usr/lib")
        _run(["depmod", "-b", ".", version], cwd=root)
        (root / "complete").touch()
    return Kernel(root)


def _packages():
    """What has to be downloaded: the newest kernel that the distribution offers."""
    for meta in META_PACKAGES:
        told = subprocess.run(["apt-cache", "depends", meta], capture_output=True, text=True)
        found = re.search(r"Depends: (linux-image-(\d\S*))", told.stdout)
        if found:
            ubuntu = meta == "linux-image-virtual"
            more = [f"linux-modules-{found[2]}"] if ubuntu else []
            return [found[1], *more]
    raise RuntimeError(
        "no kernel package found: run `apt-get update` first, on Debian or Ubuntu for x86-64"
    )


def _run(command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
