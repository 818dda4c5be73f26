//! Files as a log's segments are: fixed size, blocks either already written (zeroed with direct
//! I/O) or only allocated, opened for direct I/O. Appending inside them changes no file metadata.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::memory::AlignedMemory;

const PIECE_BYTES: usize = 1 << 20;

/// What the blocks of a prepared file have been through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Zeroed with direct I/O: an append is a plain overwrite.
    Written,
    /// Only allocated: the first write of each block also converts an extent.
    Fallocated,
}

/// Creates (or replaces) `path` with `len` bytes and opens it with `O_DIRECT` and `extra_flags`.
///
/// # Errors
/// `len` not a multiple of 1 MiB, or whatever the filesystem says; a filesystem without `O_DIRECT`
/// answers `EINVAL`.
pub fn create(path: &Path, len: u64, blocks: Blocks, extra_flags: i32) -> io::Result<File> {
    if len == 0 || !len.is_multiple_of(PIECE_BYTES as u64) {
        let message =
            format!("file size is {len}; allowed is a positive multiple of {PIECE_BYTES}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    allocate(&file, len)?;
    if blocks == Blocks::Written {
        let zeros = AlignedMemory::zeroed(PIECE_BYTES);
        for piece in 0..len / PIECE_BYTES as u64 {
            file.write_all_at(zeros.bytes(), piece * PIECE_BYTES as u64)?;
        }
    }
    file.sync_all()?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT | extra_flags)
        .open(path)
}

fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = i64::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the call; no memory is passed.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_size_that_is_not_whole_pieces() {
        let error = create(Path::new("/nonexistent/file"), 4096, Blocks::Written, 0).unwrap_err();
        assert!(error.to_string().contains("file size is 4096"), "{error}");
    }
}
