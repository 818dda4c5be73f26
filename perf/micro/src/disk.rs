//! A disk that keeps nothing and says of everything that it is done.
//!
//! What a disk costs is measured elsewhere (`perf/run floor`); here it must cost nothing, and
//! everything that is read is still in memory.

use highwater_base::disk::{
    BootDisk, DirectoryEntry, DiskCompletion, DiskError, DiskOperation, DiskRequest,
};

/// The end of a request that was carried out; `None` for one that has no completion.
///
/// # Panics
/// On a read: the piece is then no longer about what is in memory.
#[must_use]
pub fn acknowledge(request: &DiskRequest) -> Option<DiskCompletion> {
    let bytes = match &request.operation {
        DiskOperation::Attach { .. } | DiskOperation::Detach { .. } => return None,
        DiskOperation::Read { file, offset, .. } => {
            panic!("file {} is read at {offset}; nothing was kept", file.0)
        }
        DiskOperation::Write { len, .. } => *len,
        _ => 0,
    };
    Some(DiskCompletion {
        token: request.token,
        result: Ok(bytes),
    })
}

/// An empty data directory.
#[derive(Debug)]
pub struct EmptyDisk;

impl BootDisk for EmptyDisk {
    fn list(&self, _path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        Err(DiskError::NotFound)
    }

    fn read(&self, _path: &str, _offset: u64, _into: &mut [u8]) -> Result<usize, DiskError> {
        Err(DiskError::NotFound)
    }

    fn write(&mut self, _path: &str, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn create_zeroed(&mut self, _path: &str, _size_bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn write_whole(&mut self, _path: &str, _bytes: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn truncate(&mut self, _path: &str, _size_bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&mut self, _from: &str, _to: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&mut self, _path: &str) -> Result<(), DiskError> {
        Ok(())
    }
}
