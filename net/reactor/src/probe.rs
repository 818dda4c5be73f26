//! What the machine offers: io_uring, and what the filesystem and the device below a data directory
//! do with what they are given. Everything is told as it was found, with the reason in words; what
//! follows from it is decided elsewhere. What cannot be found out counts as the worst.

mod device;
mod directories;
mod filesystem;
mod mount;
mod statx;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use device::{Device, WriteCache};
pub use directories::{DIRECT_IO_PROBE_PREFIX, Finding};
pub(crate) use statx::{of_file, why_buffered};

/// A data directory's filesystem and device.
#[derive(Clone, Debug)]
pub struct DiskProbe {
    /// The filesystem's type, `unknown` where that cannot be told.
    pub filesystem: String,
    pub device: Device,
    /// A directory where a write with O_DIRECT is refused or goes through the page cache.
    pub buffered: Option<Finding>,
    /// Why a direct write into written blocks is not known to go where the old bytes were, on the
    /// device that a flush of any file here flushes.
    pub moves: Option<String>,
    /// Why an fsync does not reach the device, and what to do about it.
    pub never_flushed: Option<String>,
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
    let path = fs::canonicalize(path).map_err(failed)?;
    let top = statx::of_path(&path).map_err(failed)?;
    let kernel = filesystem::Kernel {
        proc: Path::new("/proc"),
        sys: Path::new("/sys"),
    };
    let mounts = fs::read(kernel.proc.join("self/mountinfo")).unwrap_or_default();
    let mounts = mount::parse(&mounts);
    let mount = mount::find(&mounts, top.mount_id, top.device, &path);
    let device = device::examine(kernel.sys, top.device);
    let findings = directories::examine(&path, &top);
    let elsewhere = |found: Finding| format!("{}: {}", found.directory.display(), found.why);
    Ok(DiskProbe {
        filesystem: mount
            .map_or("unknown", |mount| &mount.filesystem)
            .to_string(),
        buffered: findings.buffered,
        moves: filesystem::why_moves(&kernel, mount, &device, &path)
            .or(findings.elsewhere.map(elsewhere)),
        never_flushed: filesystem::why_never_flushed(&kernel, mount, &device)
            .or_else(|| device.why_flushes_are_dropped()),
        device,
    })
}
