//! One process per data directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::blocking::create_directories;

/// Held while the process uses the directory; released by the kernel when it ends, however it does.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "{} is in use by another process (its lock file is locked); stop that process or choose \
         another data_dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// It cannot be created or written.
    #[error(
        "{} cannot be used as data_dir: {error}; make it writable for this user or choose another",
        path.display()
    )]
    Unusable { path: PathBuf, error: io::Error },
}

/// Creates the directory when absent and locks it.
///
/// # Errors
/// In use, read-only, or not a directory.
pub fn lock_data_dir(path: &Path) -> Result<DirLock, LockError> {
    let unusable = |error| LockError::Unusable {
        path: path.to_path_buf(),
        error,
    };
    create_directories(path).map_err(unusable)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("lock"))
        .map_err(unusable)?;
    // SAFETY: no memory is involved.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if locked == 0 {
        return Ok(DirLock { _file: file });
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Err(LockError::InUse(path.to_path_buf())),
        _ => Err(unusable(error)),
    }
}

/// Keeps nodes from using an existing directory while it is inspected; several may inspect at once.
/// Changes nothing. `None` when there is no lock file: no node ever ran there.
///
/// # Errors
/// A node runs on it, or the lock file cannot be opened.
pub fn lock_for_inspection(path: &Path) -> Result<Option<DirLock>, LockError> {
    let unusable = |error| LockError::Unusable {
        path: path.to_path_buf(),
        error,
    };
    let file = match File::open(path.join("lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(error)),
    };
    // SAFETY: no memory is involved.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) };
    if locked == 0 {
        return Ok(Some(DirLock { _file: file }));
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Err(LockError::InUse(path.to_path_buf())),
        _ => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_with_the_remedy() {
        let path = std::env::temp_dir().join(format!("highwater-lock-{}", std::process::id()));
        let first = lock_data_dir(&path).expect("free");
        let error = lock_data_dir(&path).expect_err("held").to_string();
        assert!(error.contains("in use by another process"), "{error}");
        lock_for_inspection(&path).expect_err("held");
        drop(first);
        let inspecting = lock_for_inspection(&path).expect("free");
        assert!(inspecting.is_some());
        lock_for_inspection(&path).expect("several may look");
        lock_data_dir(&path).expect_err("held while it is looked at");
        drop(inspecting);
        lock_data_dir(&path).expect("free again");
        std::fs::remove_file(path.join("lock")).expect("removed");
        let absent = lock_for_inspection(&path).expect("nothing to lock");
        assert!(absent.is_none() && !path.join("lock").exists());
        std::fs::remove_dir_all(&path).expect("removed");
    }
}
