//! The Disk port: what the storage state machines ask of a disk and what they hear back.
//!
//! Two faces. At run time the store pushes [`DiskRequest`]s into an outbox; whoever hosts it (the
//! reactor, or a simulated disk) performs them in any order and steps the store with
//! [`DiskCompletion`]s. Before a shard serves, [`BootDisk`] offers the same files through plain
//! blocking calls, for recovery.
//!
//! Paths are relative to the data directory. Durability: a `Write` with `durable` and a `Flush`
//! complete only when everything they cover survives power loss; a plain `Write` is made durable by any
//! durable write, flush or creation on the same device that *began* after it completed, provided it
//! changed no file metadata (it stayed inside blocks already written).

use std::rc::Rc;

use crate::AlignedBuffer;

/// A file the store works with: an index the store chooses and attaches to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// Correlates a completion with its request; chosen by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskToken(pub u64);

/// One request to the disk.
#[derive(Debug)]
pub struct DiskRequest {
    pub token: DiskToken,
    pub operation: DiskOperation,
}

/// What to do. Offsets and lengths of `Write`, `Zero` and `Read` are multiples of the block size.
#[derive(Debug)]
pub enum DiskOperation {
    /// Names the file behind an id; opened when first used. `former` is the name it has until a
    /// `Rename` to `path` is done: it is created under that one and found under either. No
    /// completion.
    Attach {
        file: FileId,
        path: String,
        former: Option<String>,
    },
    /// Forgets an id once operations and sends in progress on it are done. No completion.
    Detach { file: FileId },
    /// Creates the attached file with its parent directories, reserves `size_bytes` (blocks
    /// allocated, file size set), writes the first `first_len` bytes of `first_block` at offset 0,
    /// and makes file, size and directory entry durable. That takes a flush of the device, which a
    /// log counts on: writes that had completed when this began are durable with it. Fails with
    /// `Exists` where the name is taken, and leaves what has it as it is; after any other failure the
    /// name is free.
    Create {
        file: FileId,
        size_bytes: u64,
        first_block: Rc<AlignedBuffer>,
        first_len: usize,
    },
    /// Writes zeros over `offset..offset + len` by direct I/O and makes the blocks durable, so
    /// that later appends there change no metadata. Background work.
    Zero { file: FileId, offset: u64, len: u64 },
    /// Writes `buffer[start..start + len]` at `offset`. `len` may reach beyond the buffer's filled
    /// part up to its block end (padding). `start` is block-aligned too. Appends may go on meanwhile:
    /// the host sees to it that no byte changes while the device reads it.
    Write {
        file: FileId,
        offset: u64,
        buffer: Rc<AlignedBuffer>,
        start: usize,
        len: usize,
        durable: bool,
    },
    /// Shortens the attached file to `size_bytes` and makes that durable. Only for bytes that no
    /// reader was ever given.
    Truncate { file: FileId, size_bytes: u64 },
    /// fdatasync of one file.
    Flush { file: FileId },
    /// Reads `len` bytes at `offset` into the front of the empty `buffer`; the host calls
    /// `set_filled` with what it got before completing. Fewer bytes only at the end of the file.
    Read {
        file: FileId,
        offset: u64,
        len: usize,
        buffer: Rc<AlignedBuffer>,
        /// Nobody waits for it: it goes behind everything else.
        aside: bool,
    },
    /// Replaces a small file as a whole: temporary file, fsync, rename, fsync of the directory.
    WriteWhole { path: String, bytes: Vec<u8> },
    /// Moves a file or directory, durably; parents of `to` are created. Fails with `Exists` where that
    /// name is taken: nothing is ever replaced.
    Rename { from: String, to: String },
    /// Deletes a file or a directory tree, durably. Absent is success.
    Remove { path: String },
}

/// The end of one request. `result` counts bytes for `Write` and `Read`, zero otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskCompletion {
    pub token: DiskToken,
    pub result: Result<usize, DiskError>,
}

/// How a disk operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// ENOSPC or EDQUOT: retry when there is room.
    #[error("no space left on the device")]
    Full,
    /// The file does not exist.
    #[error("file not found")]
    NotFound,
    /// The name is taken, by something that is not to be replaced.
    #[error("a file of this name exists already")]
    Exists,
    /// EROFS or EACCES.
    #[error("read-only or not permitted (errno {0})")]
    Denied(i32),
    /// Anything else. After a failed write or flush the dirty state is unknown: never retry and
    /// trust; the process ends and recovery decides.
    #[error("input/output error (errno {0})")]
    Io(i32),
}

impl DiskError {
    /// Sorts an errno.
    #[must_use]
    pub fn from_errno(errno: i32) -> DiskError {
        match errno {
            28 | 122 => DiskError::Full,
            2 => DiskError::NotFound,
            17 => DiskError::Exists,
            1 | 13 | 30 => DiskError::Denied(errno),
            other => DiskError::Io(other),
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    pub name: String,
    pub is_directory: bool,
    /// File size in bytes; zero for a directory.
    pub size_bytes: u64,
}

/// Blocking access to the same files, for recovery before a shard serves and for offline tools.
pub trait BootDisk {
    /// Entries of a directory in name order; `NotFound` when it does not exist.
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, DiskError>;
    /// Reads up to `into.len()` bytes at `offset`; fewer only at the end of the file.
    fn read(&self, path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError>;
    /// Writes all of `bytes` at `offset` into an existing file, durably, by direct I/O where the
    /// filesystem has it (`offset` and length are multiples of the block size).
    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Creates a file of `size_bytes` zero bytes whose blocks are written, with its parents,
    /// durably. `Exists` where the name is taken: who may replace that file removes it first.
    fn create_zeroed(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError>;
    /// Replaces a small file as a whole, durably (temporary file, fsync, rename).
    fn write_whole(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError>;
    /// Shortens an existing file, durably.
    fn truncate(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError>;
    /// Moves a file or directory, durably; parents of `to` are created. `Exists` where that name is
    /// taken.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Deletes a file or directory tree, durably. Absent is success.
    fn remove(&mut self, path: &str) -> Result<(), DiskError>;
}
