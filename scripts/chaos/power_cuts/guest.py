"""What runs in the virtual machine: an initial file system made here, with the broker's binary,
the tools to set its disk up, and one script.

The script reports facts about the disk on the console, one `FACT name=value` a line, then becomes
the broker. Nothing else in the machine writes to the disk.
"""

import os
import re
import stat
import subprocess

from power_cuts.kernel import module_bytes, module_name

MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "nvme_tcp")
STACKED_MODULES = {
    "lvm": ("dm_mod",),
    "luks": ("dm_mod", "dm_crypt", "xts", "aesni_intel", "algif_skcipher", "sha256_ssse3"),
}
PASSPHRASE = "the passphrase of a test"
LUKS = "--batch-mode --type luks1 --pbkdf-force-iterations 1000 --key-file /passphrase"
MAKE = {
    "ext4": "mkfs.ext4 -q -F -E nodiscard",
    "xfs": "mkfs.xfs -q -f -K -m reflink=0",
    "xfs-reflink": "mkfs.xfs -q -f -K -m reflink=1",
}

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp /run /data
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /run
export PATH=/bin:/sbin:/usr/sbin LVM_SUPPRESS_FD_WARNINGS=1
fail() { echo "FAILED $*"; poweroff -f; }
for module in $(cat /modules/order); do insmod /modules/$module || echo "no module $module"; done
ip addr add 127.0.0.1/8 dev lo; ip link set lo up
ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up
ulimit -n 20000
@DISK@
for try in $(seq 100); do [ -b $disk ] && break; sleep 0.1; done
[ -b $disk ] || fail "there is no $disk"
device=$disk
@STACK@
@MAKE@ $device || fail "the file system could not be made"
mount -t @TYPE@ $device /data || fail "it cannot be mounted"
number=$(stat -c %d /data)
queue=/sys/dev/block/$((number >> 8)):$((number & 255))/queue
echo "FACT disk_write_cache=$(cat /sys/class/block/${disk#/dev/}/queue/write_cache)"
echo "FACT disk_fua=$(cat /sys/class/block/${disk#/dev/}/queue/fua)"
echo "FACT write_cache=$(cat $queue/write_cache)"
echo "FACT fua=$(cat $queue/fua)"
echo "FACT mount=$(grep ' /data ' /proc/mounts)"
mkdir -p /data/highwater
echo "FACT doctor=$(highwater doctor --json --data-dir /data/highwater)"
sync
echo "FACT begin=now"
exec highwater serve --data-dir /data/highwater --listen 0.0.0.0:9092 @SETTINGS@
"""

DISKS = {
    "nvme": (
        "disk=/dev/nvme0n1\n"
        "echo transport=tcp,traddr=10.0.2.2,trsvcid=@PORT@,nqn=@NAME@,hostnqn=@NAME@.host"
        ",hostid=12345678-1234-4321-8765-1234567890ab,nr_io_queues=1,queue_size=64"
        ",keep_alive_tmo=600 > /dev/nvme-fabrics || fail 'no connection to the drive'"
    ),
    "virtio": "disk=/dev/vda",
}
LVM_CONFIGURATION = """
devices { scan = ["/dev"] use_devicesfile = 0 obtain_device_list_from_udev = 0 }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
"""
STACKS = {
    None: "",
    "lvm": (
        "lvm pvcreate -q --dataalignment 1m $disk || fail pvcreate\n"
        "lvm vgcreate -q cut $disk || fail vgcreate\n"
        "lvm lvcreate -q -Zn -Wn -l 90%FREE -n data cut || fail lvcreate\n"
        "device=/dev/mapper/cut-data"
    ),
    "luks": (
        f"printf %s '{PASSPHRASE}' > /passphrase\n"
        f"cryptsetup luksFormat {LUKS} $disk || fail luksFormat\n"
        "cryptsetup open --disable-locks --key-file /passphrase $disk data || fail 'luks open'\n"
        "device=/dev/mapper/data"
    ),
}


class Archive:
    """A cpio archive as the kernel unpacks it, in memory."""

    def __init__(self):
        self.parts = []
        self.names = set()

    def add(self, name, data=b"", mode=stat.S_IFREG | 0o755):
        name = name.lstrip("/")
        if name in self.names:
            return
        parent = os.path.dirname(name)
        if parent:
            self.add(parent, mode=stat.S_IFDIR | 0o755)
        self.names.add(name)
        self._append(name, data, mode)

    def add_program(self, path, name=None):
        """A program and the libraries it is linked with."""
        told = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        for library in re.findall(r"(/\S+) \(0x", told):
            self.add(library, _bytes(library))
        self.add(name or path, _bytes(path))

    def finish(self):
        self._append("TRAILER!!!", b"", 0)
        return b"".join(self.parts)

    def _append(self, name, data, mode):
        raw = name.encode() + b"\0"
        fields = (len(self.parts) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        self.parts.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


def _bytes(path):
    with open(path, "rb") as file:
        return file.read()


def tool(name):
    """Where a program is, also one that only root has in the path."""
    for directory in ("/usr/sbin", "/sbin", "/usr/bin", "/bin"):
        path = os.path.join(directory, name)
        if os.path.exists(path):
            return path
    raise RuntimeError(f"{name} is missing; scripts/chaos/power_cut --install fetches it")


def initial_file_system(kernel, binary, setup, drive_port, nvme_name, settings):
    """The bytes of the archive for one set-up."""
    archive = Archive()
    archive.add_program(tool("busybox"), "bin/busybox")
    archive.add_program(binary, "bin/highwater")
    kind = setup.filesystem.removesuffix("-reflink")
    archive.add_program(tool(f"mkfs.{kind}"), f"sbin/mkfs.{kind}")
    if setup.stack == "lvm":
        archive.add_program(tool("lvm"), "sbin/lvm")
        archive.add("etc/lvm/lvm.conf", LVM_CONFIGURATION.encode())
    if setup.stack == "luks":
        archive.add_program(tool("cryptsetup"), "sbin/cryptsetup")
    wanted = [*MODULES, *STACKED_MODULES.get(setup.stack, ()), kind]
    files = kernel.files_of(wanted)
    for path in files:
        archive.add(f"modules/{module_name(path.name)}", module_bytes(path))
    order = "\n".join(module_name(path.name) for path in files)
    archive.add("modules/order", order.encode())
    script = INIT.replace("@DISK@", DISKS[setup.disk]).replace("@STACK@", STACKS[setup.stack])
    script = script.replace("@MAKE@", MAKE[setup.filesystem]).replace("@TYPE@", kind)
    script = script.replace("@PORT@", str(drive_port)).replace("@NAME@", nvme_name)
    flags = " ".join(f"--set {setting}" for setting in settings)
    script = script.replace("@SETTINGS@", flags)
    archive.add("init", script.encode())
    return archive.finish()
