//! What survives a power loss, seen from the kernel: which descriptors sync each write, which blocks
//! the filesystem still counts as unwritten when an operation has ended, and that no name is taken
//! from a file that has it. In buffered mode, where a sync that is left out shows.
//!
//! Syncs of directories and of what goes through system calls are held to what strace sees by
//! `scripts/chaos/system_calls`.

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use highwater_base::disk::{BootDisk, DiskError, DiskOperation, FileId};
use highwater_reactor::{ConnectionId, DirectIo, Frame, FrameVerdict, OsBootDisk, Outbox};
use support::disk::{BLOCK, Disk, attach, create, rename, write};
use support::{Node, Script, ask_disk, pattern};

/// Flags that a descriptor of `path` has which this process holds.
fn flags_of_descriptors(path: &Path) -> Vec<i32> {
    let path = fs::canonicalize(path).expect("the file is there");
    let descriptors = fs::read_dir("/proc/self/fd").expect("procfs");
    let names = descriptors.flatten().map(|entry| entry.file_name());
    let of_file = names.filter(|name| {
        let link = fs::read_link(Path::new("/proc/self/fd").join(name));
        link.is_ok_and(|target| target == path)
    });
    let flags = of_file.filter_map(|name| {
        let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(name)).ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        i32::from_str_radix(line.trim(), 8).ok()
    });
    flags.collect()
}

#[test]
fn a_durable_write_goes_through_a_descriptor_that_syncs_each() {
    let mut disk = Disk::start();
    disk.attach(1, "file");
    assert_eq!(disk.run(|| create(1, 4 * BLOCK as u64, b"first")), Ok(0));
    let path = disk.path("file");
    assert_eq!(
        disk.run(|| write(1, 0, &pattern(1, BLOCK), false)),
        Ok(BLOCK)
    );
    let plain = flags_of_descriptors(&path);
    assert!(
        plain.iter().all(|flags| flags & libc::O_DSYNC == 0),
        "{plain:?}"
    );
    assert_eq!(plain.len(), 1);
    assert_eq!(
        disk.run(|| write(1, 0, &pattern(2, BLOCK), true)),
        Ok(BLOCK)
    );
    let both = flags_of_descriptors(&path);
    let durable = both.iter().filter(|flags| **flags & libc::O_DSYNC != 0);
    assert_eq!((both.len(), durable.count()), (2, 1), "{both:?}");
    disk.node.stop();
}

/// Whether every block of a range is written as the filesystem sees it: not reserved alone, not
/// waiting in memory for its place.
fn is_written(path: &Path, from: u64, len: u64) -> bool {
    const FIEMAP: libc::Ioctl = 0xc020_660b;
    const UNKNOWN: u32 = 0x2;
    const DELAYED: u32 = 0x4;
    const UNWRITTEN: u32 = 0x800;
    const EXTENTS: usize = 64;
    const WORDS: usize = 4 + EXTENTS * 7;
    let file = File::open(path).expect("the file is there");
    let mut map = [0u64; WORDS];
    (map[0], map[1], map[3]) = (from, len, EXTENTS as u64);
    // SAFETY: the kernel fills no more extents than there is room for.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP, map.as_mut_ptr()) };
    let error = std::io::Error::last_os_error();
    assert_eq!(
        result, 0,
        "{error}: these tests ask a filesystem for its extents; build on ext4, XFS or btrfs"
    );
    let count = (map[2] >> 32) as usize;
    let mut covered = from;
    for extent in map[4..4 + count * 7].chunks_exact(7) {
        let (start, length, flags) = (extent[0], extent[2], extent[5] as u32);
        if start > covered || flags & (UNKNOWN | DELAYED | UNWRITTEN) != 0 {
            return false;
        }
        covered = start + length;
    }
    covered >= from + len
}

/// Room for a file, none of it written.
fn reserve(path: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let file = file.expect("a new file");
    // SAFETY: no memory is involved.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    assert!(!is_written(path, 0, bytes), "it is only reserved");
}

#[test]
fn a_created_file_is_written_when_it_is_told() {
    let mut disk = Disk::start_with(|config| config.direct_io = DirectIo::Buffered);
    disk.attach(1, "file");
    assert_eq!(
        disk.run(|| create(1, 64 * BLOCK as u64, &pattern(1, BLOCK))),
        Ok(0)
    );
    assert!(is_written(&disk.path("file"), 0, BLOCK as u64));
    disk.node.stop();
}

#[test]
fn zeroed_blocks_are_written_when_it_is_told() {
    let mut disk = Disk::start_with(|config| config.direct_io = DirectIo::Buffered);
    let path = disk.path("file");
    reserve(&path, 64 * BLOCK as u64);
    disk.attach(1, "file");
    let (offset, len) = (4 * BLOCK as u64, 8 * BLOCK as u64);
    let file = FileId(1);
    assert_eq!(
        disk.run(move || DiskOperation::Zero { file, offset, len }),
        Ok(0)
    );
    assert!(is_written(&path, offset, len));
    disk.node.stop();
}

#[test]
fn a_durable_write_is_written_when_it_is_told() {
    let mut disk = Disk::start_with(|config| config.direct_io = DirectIo::Buffered);
    let path = disk.path("file");
    reserve(&path, 64 * BLOCK as u64);
    disk.attach(1, "file");
    let offset = 3 * BLOCK as u64;
    assert_eq!(
        disk.run(move || write(1, offset, b"bytes", true)),
        Ok(BLOCK)
    );
    assert!(is_written(&path, offset, BLOCK as u64));
    disk.node.stop();
}

#[test]
fn what_recovery_writes_is_written_when_it_returns() {
    let disk = Disk::start();
    let mut boot = OsBootDisk::new(&disk.node.directory, false);
    let path = disk.path("file");
    reserve(&path, 64 * BLOCK as u64);
    boot.write("file", BLOCK as u64, &pattern(1, BLOCK))
        .expect("written");
    assert!(is_written(&path, BLOCK as u64, BLOCK as u64));
    boot.create_zeroed("blank", 8 * BLOCK as u64)
        .expect("created");
    assert!(is_written(&disk.path("blank"), 0, 8 * BLOCK as u64));
    disk.node.stop();
}

/// What broke: a segment could be created over another one, or renamed over it.
#[test]
fn a_name_that_is_taken_keeps_its_file() {
    let mut disk = Disk::start();
    let mut boot = OsBootDisk::new(&disk.node.directory, false);
    for name in ["taken", "other"] {
        fs::write(disk.path(name), name).expect("a file");
    }
    disk.ask(|out| ask_disk(out, 0, attach(1, "taken")));
    assert_eq!(
        disk.run(|| create(1, 1 << 20, b"new")),
        Err(DiskError::Exists)
    );
    assert_eq!(
        disk.run(|| rename("other", "taken")),
        Err(DiskError::Exists)
    );
    let made = boot.create_zeroed("taken", BLOCK as u64);
    assert_eq!(made, Err(DiskError::Exists));
    assert_eq!(boot.rename("other", "taken"), Err(DiskError::Exists));
    fs::create_dir(disk.path("empty")).expect("a directory");
    fs::create_dir(disk.path("moved")).expect("a directory");
    assert_eq!(boot.rename("moved", "empty"), Err(DiskError::Exists));
    assert_eq!(disk.bytes("taken"), b"taken");
    assert_eq!(disk.bytes("other"), b"other");
    disk.node.stop();
}

/// Panics with the first frame.
struct Panics;

impl Script for Panics {
    type Message = ();

    fn frame(&mut self, _: ConnectionId, _: &Frame<'_>, _: &mut Outbox<()>) -> FrameVerdict {
        panic!("as the test wants");
    }
}

#[test]
fn a_panic_of_one_core_ends_the_process() {
    const CHILD: &str = "HIGHWATER_TEST_PANICS";
    let name = "a_panic_of_one_core_ends_the_process";
    if std::env::var_os(CHILD).is_some() {
        let node = Node::start(2, |_| Panics);
        let mut client = node.client(1);
        client.send(b"frame");
        // Ends when the core is gone, or when patience does: the process should be gone first.
        client.receive_to_end();
        std::process::exit(0);
    }
    let binary = std::env::current_exe().expect("this test");
    let mut child = Command::new(binary);
    child.args(["--exact", name]).env(CHILD, "1");
    let end = child.output().expect("a child").status;
    assert_eq!(end.signal(), Some(libc::SIGABRT), "{end:?}");
}
