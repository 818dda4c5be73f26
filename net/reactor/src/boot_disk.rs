//! The data directory through plain blocking calls, for recovery and offline tools.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use highwater_base::AlignedBuffer;
use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError};
use highwater_base::limits::BLOCK_BYTES;

use crate::blocking::{self, disk_error};

/// Bytes written at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// [`BootDisk`] over a directory.
#[derive(Debug)]
pub struct OsBootDisk {
    root: PathBuf,
    direct: bool,
}

impl OsBootDisk {
    /// Works below `root`; `direct` writes use O_DIRECT.
    #[must_use]
    pub fn new(root: &Path, direct: bool) -> OsBootDisk {
        OsBootDisk {
            root: root.to_path_buf(),
            direct,
        }
    }

    fn open_for_write(&self, path: &Path, create: bool) -> io::Result<File> {
        let flags = if self.direct { libc::O_DIRECT } else { 0 };
        OpenOptions::new()
            .write(true)
            .create_new(create && !cfg!(mutant = "R11"))
            .create(create)
            .custom_flags(flags)
            .open(path)
    }

    fn write_blocks(file: &File, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            // Direct I/O wants aligned memory, which the caller's need not be.
            let block = AlignedBuffer::with_capacity(chunk.len());
            block.append(chunk);
            file.write_all_at(block.slice(0, chunk.len()), offset)?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }
}

fn sort<T>(result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|error| disk_error(&error))
}

/// What an entry is, or is a link to. `None` for a link to nothing, and for pipes, sockets and
/// devices: whoever opened one of those to read it would wait for a writer that never comes.
fn behind(entry: &fs::DirEntry) -> io::Result<Option<fs::Metadata>> {
    let metadata = match fs::metadata(entry.path()) {
        Err(_) if entry.file_type()?.is_symlink() => return Ok(None),
        other => other?,
    };
    Ok(Some(metadata).filter(|it| it.is_dir() || it.is_file()))
}

impl BootDisk for OsBootDisk {
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        let mut entries = Vec::new();
        for entry in sort(fs::read_dir(self.root.join(path)))? {
            let entry = sort(entry)?;
            let Some(metadata) = sort(behind(&entry))? else {
                continue;
            };
            entries.push(DirectoryEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_directory: metadata.is_dir(),
                size_bytes: if metadata.is_dir() { 0 } else { metadata.len() },
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn read(&self, path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let file = sort(File::open(self.root.join(path)))?;
        let mut done = 0;
        while done < into.len() {
            match file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(disk_error(&error)),
            }
        }
        Ok(done)
    }

    fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.len().is_multiple_of(BLOCK_BYTES),
            "boot writes are whole blocks"
        );
        let file = sort(self.open_for_write(&self.root.join(path), false))?;
        let written = sort(Self::write_blocks(&file, offset, bytes));
        match cfg!(mutant = "R06") {
            true => written,
            false => written.and_then(|()| sort(file.sync_data())),
        }
    }

    fn create_zeroed(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        let path = self.root.join(path);
        if let Some(parent) = path.parent() {
            sort(blocking::create_directories(parent))?;
        }
        let create = || -> io::Result<()> {
            let file = self.open_for_write(&path, true)?;
            let zeros = vec![0u8; CHUNK_BYTES.min(size_bytes as usize)];
            let mut offset = 0;
            while offset < size_bytes {
                let chunk = ((size_bytes - offset) as usize).min(CHUNK_BYTES);
                Self::write_blocks(&file, offset, &zeros[..chunk])?;
                offset += chunk as u64;
            }
            file.sync_all()?;
            blocking::sync_parent(&path)
        };
        sort(create())
    }

    fn write_whole(&mut self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        sort(blocking::write_whole(&self.root.join(path), bytes))
    }

    fn truncate(&mut self, path: &str, size_bytes: u64) -> Result<(), DiskError> {
        let shorten = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(self.root.join(path))?;
            file.set_len(size_bytes)?;
            file.sync_all()
        };
        sort(shorten())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        sort(blocking::rename(&self.root.join(from), &self.root.join(to)))
    }

    fn remove(&mut self, path: &str) -> Result<(), DiskError> {
        sort(blocking::remove(&self.root.join(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_links_to_nothing_are_not_listed() {
        let root = std::env::temp_dir().join(format!("highwater-listed-{}", std::process::id()));
        fs::create_dir_all(root.join("directory")).unwrap();
        fs::write(root.join("file"), b"12345").unwrap();
        std::os::unix::fs::symlink("file", root.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        let pipe = std::process::Command::new("mkfifo")
            .arg(root.join("pipe"))
            .status();
        assert!(pipe.unwrap().success());
        let listed = OsBootDisk::new(&root, false).list("").unwrap();
        fs::remove_dir_all(&root).unwrap();
        let told: Vec<_> = listed
            .iter()
            .map(|entry| (entry.name.as_str(), entry.is_directory, entry.size_bytes))
            .collect();
        let wanted = [
            ("directory", true, 0),
            ("file", false, 5),
            ("link", false, 5),
        ];
        assert_eq!(told, wanted);
    }
}
