//! How large the volume of a directory is and how much of it is free.
//!
//! A network filesystem may keep `statvfs` waiting, so cores never call it: a thread of its own
//! asks at intervals and leaves the answer where they read it. The figures are as old as
//! [`REFRESH_INTERVAL`] at most while the filesystem answers.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often the filesystem is asked.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// What stands for "not known": no volume has so many bytes.
const UNKNOWN: u64 = u64::MAX;

/// The size of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeSpace {
    pub total_bytes: u64,
    /// What an unprivileged process may still use.
    pub usable_bytes: u64,
}

/// Where the latest figures are; clones read the same ones. The thread ends with the last clone.
#[derive(Clone, Debug)]
pub struct VolumeGauge {
    figures: Arc<Figures>,
    _until_dropped: Option<Sender<()>>,
}

#[derive(Debug)]
struct Figures {
    total_bytes: AtomicU64,
    usable_bytes: AtomicU64,
}

impl Default for VolumeGauge {
    /// A gauge of no volume: it knows nothing.
    fn default() -> VolumeGauge {
        VolumeGauge {
            figures: Arc::new(Figures {
                total_bytes: AtomicU64::new(UNKNOWN),
                usable_bytes: AtomicU64::new(UNKNOWN),
            }),
            _until_dropped: None,
        }
    }
}

impl VolumeGauge {
    /// The latest figures, if the filesystem ever gave any.
    #[must_use]
    pub fn read(&self) -> Option<VolumeSpace> {
        let space = VolumeSpace {
            total_bytes: self.figures.total_bytes.load(Ordering::Relaxed),
            usable_bytes: self.figures.usable_bytes.load(Ordering::Relaxed),
        };
        (space.total_bytes != UNKNOWN && space.usable_bytes != UNKNOWN).then_some(space)
    }

    fn note(figures: &Figures, space: VolumeSpace) {
        figures
            .total_bytes
            .store(space.total_bytes, Ordering::Relaxed);
        figures
            .usable_bytes
            .store(space.usable_bytes, Ordering::Relaxed);
    }
}

/// Asks the filesystem once and starts the thread that goes on asking.
///
/// # Errors
/// The directory's filesystem cannot be asked, or no thread can be started.
pub fn watch_volume(directory: &Path) -> io::Result<VolumeGauge> {
    let mut gauge = VolumeGauge::default();
    VolumeGauge::note(&gauge.figures, volume_space(directory)?);
    let (until_dropped, dropped) = channel();
    let figures = Arc::clone(&gauge.figures);
    let directory = directory.to_path_buf();
    std::thread::Builder::new()
        .name("volume-gauge".to_string())
        .spawn(move || refresh(&figures, &directory, &dropped))?;
    gauge._until_dropped = Some(until_dropped);
    Ok(gauge)
}

fn refresh(figures: &Figures, directory: &Path, dropped: &Receiver<()>) {
    while dropped.recv_timeout(REFRESH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // A filesystem that fails to answer leaves the last figures.
        if let Ok(space) = volume_space(directory) {
            VolumeGauge::note(figures, space);
        }
    }
}

/// Asks the filesystem; may block.
fn volume_space(directory: &Path) -> io::Result<VolumeSpace> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte and `found` has room for the answer.
    let result = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed bytes are a valid value of this plain structure, and the call filled it.
    let found = unsafe { found.assume_init() };
    Ok(VolumeSpace {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        usable_bytes: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_has_a_size_and_a_missing_directory_none() {
        let gauge = watch_volume(&std::env::temp_dir()).expect("it exists");
        let space = gauge.read().expect("known at once");
        assert!(space.total_bytes > 0 && space.usable_bytes <= space.total_bytes);
        assert!(watch_volume(Path::new("/no/such/directory")).is_err());
        assert_eq!(VolumeGauge::default().read(), None);
    }
}
