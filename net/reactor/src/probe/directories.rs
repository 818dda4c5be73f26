//! What holds for every directory of a node: direct writes are direct, and all of them go to one
//! device. A directory may differ from the one above it: a mount, a link, an encryption policy, a
//! flag. One that does decides for the whole node.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use highwater_base::AlignedBuffer;
use highwater_base::limits::BLOCK_BYTES;

use super::statx::{self, Facts, why_buffered};

/// How the file is named, before the process id, that shows whether direct I/O works. A process
/// killed at that moment leaves it behind.
pub const DIRECT_IO_PROBE_PREFIX: &str = ".direct-io-probe-";

/// Directories below the data directory whose files are appended to by direct I/O, and how many
/// levels of directories they have below them.
const WRITTEN_DIRECTORIES: [(&str, usize); 2] = [("topics", DIRECTORIES_DEEP), ("marks", 0)];
const DIRECTORIES_DEEP: usize = 3;

/// A directory, and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub directory: PathBuf,
    pub why: String,
}

/// The first directory with each trouble.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub buffered: Option<Finding>,
    pub elsewhere: Option<Finding>,
}

impl Findings {
    fn found_buffered(&mut self, directory: &Path, why: String) {
        let directory = directory.to_path_buf();
        self.buffered.get_or_insert(Finding { directory, why });
    }

    fn found_elsewhere(&mut self, directory: &Path, why: String) {
        let directory = directory.to_path_buf();
        self.elsewhere.get_or_insert(Finding { directory, why });
    }

    /// Holds a directory against the one at the top.
    fn compare(&mut self, directory: &Path, top: &Facts) {
        let examined = statx::of_path(directory)
            .and_then(|facts| Ok((facts, statx::journals_data(&File::open(directory)?))));
        let (facts, journals) = match examined {
            Ok(examined) => examined,
            Err(error) => {
                return self.found_buffered(directory, format!("it cannot be examined: {error}"));
            }
        };
        if facts.device != top.device {
            let (major, minor) = facts.device;
            let why = format!("it is on another device ({major}:{minor}) than the data directory");
            self.found_elsewhere(directory, why);
        }
        if facts.encrypted && !top.encrypted {
            let why = "it has an encryption policy of its own".to_string();
            self.found_buffered(directory, why);
        }
        if journals {
            let why = "its files have their bytes journaled (`lsattr` shows j)".to_string();
            self.found_buffered(directory, why);
        }
    }
}

/// Examines a data directory, or the one it will be made in.
pub(super) fn examine(root: &Path, top: &Facts) -> Findings {
    let mut findings = Findings::default();
    findings.compare(root, top);
    try_direct(root, &mut findings);
    for (name, levels) in WRITTEN_DIRECTORIES {
        let directory = root.join(name);
        if !directory.is_dir() {
            continue;
        }
        findings.compare(&directory, top);
        try_direct(&directory, &mut findings);
        let mut level = vec![directory];
        for _ in 0..levels {
            level = level
                .iter()
                .flat_map(|parent| directories_in(parent))
                .collect();
            for directory in &level {
                findings.compare(directory, top);
            }
        }
    }
    findings
}

fn directories_in(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

/// Writes a block to a file of the directory with O_DIRECT and asks where it went.
fn try_direct(directory: &Path, findings: &mut Findings) {
    let path = directory.join(format!("{DIRECT_IO_PROBE_PREFIX}{}", std::process::id()));
    let attempt = || -> io::Result<Option<String>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)?;
        // A file may change its mind with its first bytes.
        let empty = why_buffered(&statx::of_file(&file)?);
        let block = AlignedBuffer::with_capacity(BLOCK_BYTES);
        block.append_with(BLOCK_BYTES, |bytes| bytes.fill(0x5a));
        match file.write_all_at(block.slice(0, BLOCK_BYTES), 0) {
            Ok(()) => Ok(empty.or(why_buffered(&statx::of_file(&file)?))),
            // A full disk says nothing about how it is written: the empty file has to do.
            Err(error) if is_full(&error) => Ok(empty),
            Err(error) => Err(error),
        }
    };
    let result = attempt();
    let _ = fs::remove_file(&path);
    match result.or_else(|error| {
        of_a_file_there(directory)
            .filter(|_| is_full(&error))
            .ok_or(error)
    }) {
        Ok(None) => {}
        Ok(Some(why)) => findings.found_buffered(directory, why),
        Err(error) => {
            let why = match error.raw_os_error() {
                Some(libc::EINVAL) => "it refuses O_DIRECT".to_string(),
                _ => format!("direct I/O cannot be tried: {error}"),
            };
            findings.found_buffered(directory, why);
        }
    }
}

/// What the kernel says of a file that is there already, in the directory or below it: on a full disk
/// none can be made. What differs between directories is compared anyway.
fn of_a_file_there(directory: &Path) -> Option<Option<String>> {
    let mut level = vec![directory.to_path_buf()];
    for _ in 0..=DIRECTORIES_DEEP {
        let entries = level.iter().flat_map(fs::read_dir);
        let mut paths = entries.flatten().flatten().map(|entry| entry.path());
        if let Some(file) = paths.find(|path| path.is_file()) {
            let facts = statx::of_path(&file).ok()?;
            return Some(why_buffered(&facts));
        }
        level = level
            .iter()
            .flat_map(|parent| directories_in(parent))
            .collect();
    }
    None
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let name = format!("highwater-directories-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(path.join("topics/orders/id/0")).expect("directories");
            fs::create_dir_all(path.join("marks")).expect("directories");
            Directory(path)
        }

        fn top(&self) -> Facts {
            statx::of_path(&self.0).expect("it is there")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_directory_on_another_device_is_found_however_deep_it_is() {
        // Memory is never the device of anything else.
        let elsewhere = Path::new("/dev/shm");
        let directory = Directory::new("elsewhere");
        assert_eq!(examine(&directory.0, &directory.top()).elsewhere, None);
        let partition = directory.0.join("topics/orders/id/0");
        fs::remove_dir(&partition).expect("it is empty");
        std::os::unix::fs::symlink(elsewhere, &partition).expect("a link");
        let found = examine(&directory.0, &directory.top()).elsewhere;
        assert_eq!(found.map(|found| found.directory), Some(partition));
    }

    #[test]
    fn on_a_full_disk_a_file_that_is_there_tells_what_a_new_one_would() {
        let directory = Directory::new("full");
        let topics = directory.0.join("topics");
        assert_eq!(of_a_file_there(&topics), None, "there is none");
        let segment = topics.join("orders/id/0/segment");
        fs::write(&segment, "bytes").expect("a file");
        let facts = statx::of_path(&segment).expect("it is there");
        assert_eq!(of_a_file_there(&topics), Some(why_buffered(&facts)));
        for (errno, full) in [
            (libc::ENOSPC, true),
            (libc::EDQUOT, true),
            (libc::EINVAL, false),
        ] {
            assert_eq!(is_full(&io::Error::from_raw_os_error(errno)), full);
        }
    }

    #[test]
    fn memory_takes_direct_writes_and_keeps_them_in_the_page_cache() {
        let path = Path::new("/dev/shm");
        let top = statx::of_path(path).expect("it is there");
        let found = examine(path, &top).buffered;
        assert_eq!(found.map(|found| found.directory), Some(path.to_path_buf()));
        // Nothing of the trial stays.
        let left = directories_in(path);
        assert!(
            !left
                .iter()
                .any(|name| name.ends_with(DIRECT_IO_PROBE_PREFIX))
        );
    }
}
