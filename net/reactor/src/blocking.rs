//! The few system calls that would stall a core (creating, renaming, removing, truncating files,
//! syncing directories), on one helper thread for the whole process.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_base::AlignedBuffer;
use highwater_base::disk::{DiskCompletion, DiskError, DiskToken};
use highwater_base::limits::BLOCK_BYTES;

use crate::config::DirectIo;
use crate::mailbox::Doorbell;

/// What the helper does.
#[derive(Debug)]
pub(crate) enum Task {
    Create {
        path: PathBuf,
        size_bytes: u64,
        first: Vec<u8>,
    },
    /// The helper renames as well: here the file has one of both names for sure.
    Truncate {
        path: PathBuf,
        former: Option<PathBuf>,
        size_bytes: u64,
    },
    WriteWhole {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
}

/// A task and where its end is told.
pub(crate) struct Job {
    pub token: DiskToken,
    pub task: Task,
    pub reply: Arc<Doorbell>,
}

/// Where a core sends jobs.
#[derive(Clone)]
pub(crate) struct BlockingHandle {
    pub sender: Sender<Job>,
    pub doorbell: Arc<Doorbell>,
}

impl BlockingHandle {
    pub fn submit(&self, token: DiskToken, task: Task) {
        let job = Job {
            token,
            task,
            reply: Arc::clone(&self.doorbell),
        };
        self.sender
            .send(job)
            .expect("the helper thread lives as long as the cores");
    }
}

/// Starts the helper thread; it ends when the last handle is gone.
pub(crate) fn start(direct: DirectIo) -> io::Result<Sender<Job>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("disk-helper".to_string())
        .spawn(move || serve(&receiver, direct))?;
    Ok(sender)
}

fn serve(jobs: &Receiver<Job>, direct: DirectIo) {
    while let Ok(job) = jobs.recv() {
        let result = perform(&job.task, direct)
            .map(|()| 0)
            .map_err(|error| disk_error(&error));
        job.reply.push_completion(DiskCompletion {
            token: job.token,
            result,
        });
    }
}

/// An I/O error as the Disk port says it.
pub(crate) fn disk_error(error: &io::Error) -> DiskError {
    match error.raw_os_error() {
        Some(errno) => DiskError::from_errno(errno),
        None if error.kind() == io::ErrorKind::NotFound => DiskError::NotFound,
        None => DiskError::Io(libc::EIO),
    }
}

fn perform(task: &Task, direct: DirectIo) -> io::Result<()> {
    match task {
        Task::Create {
            path,
            size_bytes,
            first,
        } => create(path, *size_bytes, first, direct),
        Task::Truncate {
            path,
            former,
            size_bytes,
        } => {
            let path = match former {
                Some(former) if !path.exists() => former,
                _ => path,
            };
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(*size_bytes)?;
            file.sync_all()
        }
        Task::WriteWhole { path, bytes } => write_whole(path, bytes),
        Task::Rename { from, to } => rename(from, to),
        Task::Remove { path } => remove(path),
    }
}

/// Creates a file with its blocks reserved and its first bytes written, all of it durable. A name that
/// is taken is an error, and the file that has it stays as it is. Where the
/// file has whole blocks it is direct I/O: a page cached here would only be in the way later.
fn create(path: &Path, size_bytes: u64, first: &[u8], direct: DirectIo) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        create_directories(parent)?;
    }
    let blocks_bytes = first.len().next_multiple_of(BLOCK_BYTES);
    let flags = match direct {
        DirectIo::Direct if !first.is_empty() && blocks_bytes as u64 <= size_bytes => {
            libc::O_DIRECT
        }
        _ => 0,
    };
    let file = OpenOptions::new()
        .write(true)
        .create_new(!cfg!(mutant = "R11"))
        .create(true)
        .custom_flags(flags)
        .open(path)?;
    let reserved = reserve(&file, size_bytes).and_then(|()| {
        if flags == 0 {
            file.write_all_at(first, 0)?;
        } else {
            let block = AlignedBuffer::with_capacity(blocks_bytes);
            block.append(first);
            let len = block.zero_block_rest();
            block.set_filled(len);
            file.write_all_at(block.slice(0, len), 0)?;
        }
        if !cfg!(mutant = "R03") {
            file.sync_all()?;
        }
        sync_parent(path)
    });
    if reserved.is_err() {
        // A half-made file must neither take the room that is missing nor the name. It is ours: we
        // made it just now.
        let _ = fs::remove_file(path);
    }
    reserved
}

/// Reserves blocks and sets the size; a filesystem without fallocate gets the size alone.
fn reserve(file: &File, size_bytes: u64) -> io::Result<()> {
    if size_bytes == 0 {
        return Ok(());
    }
    // SAFETY: no memory is involved.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size_bytes as libc::off_t) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => file.set_len(size_bytes),
        _ => Err(error),
    }
}

/// Replaces a small file: written aside, synced, renamed over.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        create_directories(parent)?;
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&aside)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_parent(path)
}

/// Moves a file or a directory, durably. A name that is taken is an error, and what has it stays.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        create_directories(parent)?;
    }
    move_to_free_name(from, to)?;
    sync_parent(to)?;
    sync_parent(from)
}

fn move_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (old, new) = (name(from)?, name(to)?);
    let here = libc::AT_FDCWD;
    let flags = match cfg!(mutant = "R12") {
        true => 0,
        false => libc::RENAME_NOREPLACE,
    };
    // SAFETY: both names end with a zero byte.
    let result = unsafe { libc::renameat2(here, old.as_ptr(), here, new.as_ptr(), flags) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The filesystem does not know the flag.
        Some(libc::EINVAL | libc::ENOSYS) => move_by_link(from, to),
        _ => Err(error),
    }
}

/// The same where the filesystem cannot do it in one step. A crash in between leaves a file with both
/// names, of which recovery takes one. Where there are no links either, and for directories, the name
/// is looked for before: nobody else makes files here.
fn move_by_link(from: &Path, to: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(from)?.is_dir() {
        match fs::hard_link(from, to) {
            Ok(()) => return fs::remove_file(from),
            Err(error) if !has_no_links(&error) => return Err(error),
            Err(_) => {}
        }
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EEXIST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
}

fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)
    )
}

/// Removes a file or a tree; what is absent already is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates a directory and its parents, each durably entered in its own parent.
pub(crate) fn create_directories(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_directories(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    if cfg!(mutant = "R02") {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(parent)
    {
        Ok(directory) => directory.sync_all(),
        // The directory went with what was in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_without_the_flag_replaces_nothing_either() {
        let name = format!("highwater-move-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("directory")).expect("directories");
        let (old, new) = (root.join("old"), root.join("new"));
        for (from, to) in [(&old, &new), (&new, &old)] {
            fs::write(from, "old").expect("a file");
            move_by_link(from, to).expect("the name is free");
            assert!(!from.exists() && to.exists());
            fs::write(from, "other").expect("a file");
            for taken in [to, &root.join("directory")] {
                let error = move_by_link(from, taken).expect_err("the name is taken");
                assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
            }
            assert_eq!(fs::read(to).expect("it is there"), b"old");
            fs::remove_file(from).expect("it is there");
        }
        let moved = root.join("moved");
        move_by_link(&root.join("directory"), &moved).expect("the name is free");
        let error = move_by_link(&moved, &old).expect_err("the name is taken");
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        fs::remove_dir_all(&root).expect("it is there");
    }
}
