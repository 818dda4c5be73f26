//! What a path given on the command line is: a data directory, something in one, or a copy of
//! something. While a node uses the data directory, nothing in it is looked at.

use std::path::{Path, PathBuf};

use highwater_reactor::{DirLock, LockError, OsBootDisk, lock_for_inspection};
use highwater_store::inspect::PartitionPlace;

use super::LogToolError;

/// Where to look, and at what.
#[derive(Debug)]
pub(super) struct Target {
    pub disk: OsBootDisk,
    /// What of it was asked for, relative to the root; empty for all.
    pub prefix: String,
    /// Set when the path lies outside a data directory: then it is one partition's directory.
    pub lone_partition: Option<PartitionPlace>,
    /// Keeps nodes away while it lives.
    _lock: Option<DirLock>,
}

impl Target {
    /// Whether a path below the root was asked for.
    pub fn includes(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.prefix);
        self.prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether something below a directory, or all of it, was asked for.
    pub fn reaches_into(&self, directory: &str) -> bool {
        let rest = self.prefix.strip_prefix(directory);
        self.includes(directory) || rest.is_some_and(|rest| rest.starts_with('/'))
    }

    pub fn find(path: &Path) -> Result<Target, LogToolError> {
        let full = path.canonicalize().map_err(|error| {
            let path = path.display();
            LogToolError::Usage(format!(
                "{path}: {error}; name a data directory or a file in one"
            ))
        })?;
        if let Some(root) = full.ancestors().find(|it| is_data_directory(it)) {
            let lock = lock(root)?;
            return Ok(Target {
                disk: OsBootDisk::new(root, false),
                prefix: relative(root, &full),
                lone_partition: None,
                _lock: lock,
            });
        }
        Target::alone(&full)
    }

    fn alone(full: &Path) -> Result<Target, LogToolError> {
        let nowhere = || {
            LogToolError::Usage(format!(
                "{} is neither in a data directory nor in a directory of segments",
                full.display()
            ))
        };
        let directory = match full.is_dir() {
            true => full,
            false => full.parent().ok_or_else(nowhere)?,
        };
        let root = directory.parent().ok_or_else(nowhere)?;
        Ok(Target {
            disk: OsBootDisk::new(root, false),
            prefix: relative(root, full),
            lone_partition: Some(PartitionPlace {
                directory: relative(root, directory),
                topic: String::new(),
                key: None,
            }),
            _lock: None,
        })
    }
}

pub(super) fn is_data_directory(path: &Path) -> bool {
    path.join("superblock").is_file()
        || (path.join("marks").is_dir() && path.join("topics").is_dir())
}

fn relative(root: &Path, path: &Path) -> String {
    let rest = path.strip_prefix(root).map(PathBuf::from);
    rest.unwrap_or_default().to_string_lossy().into_owned()
}

fn lock(root: &Path) -> Result<Option<DirLock>, LogToolError> {
    lock_for_inspection(root).map_err(|error| {
        LogToolError::Usage(match error {
            LockError::InUse(path) => format!(
                "{} is in use by a running node; stop it first (SIGTERM), or look at a copy or a \
                 snapshot of the directory",
                path.display()
            ),
            LockError::Unusable { path, error } => format!(
                "{}: the lock file cannot be opened: {error}; run as the user of the node",
                path.display()
            ),
        })
    })
}
