//! What the machine offers: io_uring, direct I/O, how the device keeps what it was given.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use highwater_base::AlignedBuffer;
use highwater_base::limits::BLOCK_BYTES;

/// How the file is named, before the process id, that shows whether direct I/O works. A process
/// killed at that moment leaves it behind.
pub const DIRECT_IO_PROBE_PREFIX: &str = ".direct-io-probe-";

/// How a device treats completed writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// They may be in a volatile cache until it is flushed.
    WriteBack,
    /// They are on stable storage.
    WriteThrough,
    /// Not known: treated as volatile.
    Unknown,
}

/// A data directory's filesystem and device.
#[derive(Clone, Debug)]
pub struct DiskProbe {
    pub direct_io: bool,
    pub device: String,
    pub write_cache: WriteCache,
    /// The device takes writes that bypass its cache.
    pub fua: bool,
    pub filesystem: String,
    pub rotational: bool,
    /// The most the kernel reads ahead at once, in bytes.
    pub read_ahead_bytes: usize,
}

/// A directory that could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be examined: {error}", path.display())]
pub struct ProbeError {
    path: PathBuf,
    error: io::Error,
}

/// io_uring cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is not available: {0}")]
pub struct IoUringUnavailable(String);

/// Checks that a ring with the flags we need can be made.
///
/// # Errors
/// Says how to enable it.
pub fn check_io_uring() -> Result<(), IoUringUnavailable> {
    let mut builder =
        io_uring::IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    let error = match builder.build(8) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let advice = match (error.raw_os_error(), disabled.trim()) {
        (_, "1" | "2") => {
            "the kernel has it disabled; run `sysctl -w kernel.io_uring_disabled=0` and put it into \
             /etc/sysctl.d to keep it"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp filter or container policy forbids it; allow io_uring_setup, io_uring_enter \
             and io_uring_register (docker: --security-opt seccomp=unconfined or a profile of your \
             own)"
        }
        (Some(libc::ENOSYS), _) => "this kernel is built without it; use Linux 6.1 or later",
        (Some(libc::EINVAL), _) => "this kernel is too old; use Linux 6.1 or later",
        (Some(libc::ENOMEM), _) => "raise the locked-memory limit (LimitMEMLOCK=infinity)",
        _ => "use Linux 6.1 or later with io_uring enabled",
    };
    Err(IoUringUnavailable(format!("{error}; {advice}")))
}

/// Looks at the filesystem and device below a directory.
///
/// # Errors
/// The directory does not exist or cannot be read.
pub fn probe_disk(path: &Path) -> Result<DiskProbe, ProbeError> {
    let failed = |error| ProbeError {
        path: path.to_path_buf(),
        error,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let queue = queue_directory(major, minor);
    let read = |name: &str| -> Option<String> {
        let text = fs::read_to_string(queue.as_ref()?.join(name)).ok()?;
        Some(text.trim().to_string())
    };
    let write_cache = match read("write_cache").as_deref() {
        Some("write through") => WriteCache::WriteThrough,
        Some("write back") => WriteCache::WriteBack,
        _ => WriteCache::Unknown,
    };
    // A device made of others (dm, md) answers for itself only; its parts may cache.
    let stacked = queue
        .as_ref()
        .and_then(|queue| fs::read_dir(queue.parent()?.join("slaves")).ok())
        .is_some_and(|mut slaves| slaves.next().is_some());
    Ok(DiskProbe {
        direct_io: takes_direct_io(path),
        device: device_name(queue.as_deref(), major, minor),
        write_cache: if stacked {
            WriteCache::Unknown
        } else {
            write_cache
        },
        fua: !stacked && read("fua").as_deref() == Some("1"),
        filesystem: filesystem_name(path),
        rotational: read("rotational").as_deref() == Some("1"),
        read_ahead_bytes: read("read_ahead_kb")
            .and_then(|kibibytes| kibibytes.parse::<usize>().ok())
            .map_or(0, |kibibytes| kibibytes << 10),
    })
}

/// The queue directory of a device; of the whole disk for a partition.
fn queue_directory(major: u32, minor: u32) -> Option<PathBuf> {
    let device = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let own = device.join("queue");
    if own.is_dir() {
        return Some(own);
    }
    let disk = device.parent()?.join("queue");
    disk.is_dir().then_some(disk)
}

fn device_name(queue: Option<&Path>, major: u32, minor: u32) -> String {
    queue
        .and_then(Path::parent)
        .and_then(Path::file_name)
        .map_or_else(
            || format!("{major}:{minor}"),
            |name| name.to_string_lossy().into_owned(),
        )
}

fn filesystem_name(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (point, kind) = (words.nth(1)?, words.next()?);
            path.starts_with(point).then_some((point.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| "unknown".to_string(), |(_, kind)| kind.to_string())
}

/// Whether a block written with O_DIRECT arrives.
fn takes_direct_io(directory: &Path) -> bool {
    let path = directory.join(format!("{DIRECT_IO_PROBE_PREFIX}{}", std::process::id()));
    let attempt = || -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)?;
        let block = AlignedBuffer::with_capacity(BLOCK_BYTES);
        block.append_with(BLOCK_BYTES, |bytes| bytes.fill(0x5a));
        file.write_all_at(block.slice(0, BLOCK_BYTES), 0)?;
        // SAFETY: no memory is involved.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
        if flags & libc::O_DIRECT == 0 {
            Err(io::ErrorKind::Unsupported.into())
        } else {
            Ok(())
        }
    };
    let works = attempt().is_ok();
    let _ = fs::remove_file(&path);
    works
}
