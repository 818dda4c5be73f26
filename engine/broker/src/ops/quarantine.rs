//! What lies in quarantine, counted by going through its directories, on the operations thread.
//!
//! Core 0 knows only what it has put there; this is what takes room now, whoever put it there or took
//! it away. It is counted anew at most every ten seconds.

use std::path::PathBuf;
use std::sync::Mutex;

use highwater_base::Now;
use highwater_base::disk::{BootDisk, DiskError};
use highwater_ops::QuarantineSource;
use highwater_ops::figures::QuarantineFigures;
use highwater_reactor::OsBootDisk;

use crate::boot::set_aside::entries;
use crate::quarantine::Reason;

/// How long a count holds.
const COUNT_HOLDS_MS: u64 = 10_000;
/// Levels of directories in an entry: topic, partition, files.
const LEVELS_MAX: usize = 4;

/// Counts below a data directory.
#[must_use]
pub fn quarantine_source(data_dir: PathBuf) -> QuarantineSource {
    let counted: Mutex<Option<(u64, Vec<QuarantineFigures>)>> = Mutex::new(None);
    Box::new(move || {
        let now = highwater_reactor::now();
        let mut last = counted
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        fresh_count(&data_dir, now, &mut last)
    })
}

fn fresh_count(
    data_dir: &std::path::Path,
    now: Now,
    last: &mut Option<(u64, Vec<QuarantineFigures>)>,
) -> Vec<QuarantineFigures> {
    if let Some((until_ns, figures)) = last
        && !now.reached(*until_ns)
    {
        return figures.clone();
    }
    let disk = OsBootDisk::new(data_dir, false);
    let figures = count(&disk).unwrap_or_else(|error| {
        tracing::warn!(%error, "quarantine/ cannot be gone through");
        Vec::new()
    });
    *last = Some((now.plus_ms(COUNT_HOLDS_MS), figures.clone()));
    figures
}

fn count(disk: &dyn BootDisk) -> Result<Vec<QuarantineFigures>, DiskError> {
    let mut all = [Reason::Deleted, Reason::Unknown].map(|reason| QuarantineFigures {
        reason: reason.name(),
        ..QuarantineFigures::default()
    });
    for entry in entries(disk)? {
        let name = entry.reason.name();
        if let Some(figures) = all.iter_mut().find(|figures| figures.reason == name) {
            figures.topics += 1;
            figures.bytes += bytes_below(disk, &entry.path())?;
        }
    }
    Ok(all.to_vec())
}

fn bytes_below(disk: &dyn BootDisk, path: &str) -> Result<u64, DiskError> {
    let mut bytes = 0;
    let mut below = vec![(path.to_owned(), 1)];
    while let Some((path, level)) = below.pop() {
        let entries = match disk.list(&path) {
            Ok(entries) => entries,
            // It goes while it is counted.
            Err(DiskError::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        for entry in entries {
            bytes += entry.size_bytes;
            if entry.is_directory && level < LEVELS_MAX {
                below.push((format!("{path}/{}", entry.name), level + 1));
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::disk::TestDisk;

    #[test]
    fn quarantine_is_counted_by_reason() {
        let mut disk = TestDisk::default();
        let id = highwater_base::TopicId([7; 16]);
        for (path, bytes) in [
            (format!("5-deleted-{id}/a/0/x.log"), 10),
            (format!("5-deleted-{id}/a/1/x.log"), 20),
            (format!("6-deleted-{id}/topic.json"), 3),
            (format!("5-unknown-{id}/b/0/x.log"), 40),
            (format!("5-restoring-{id}/topic.json"), 50),
            ("something-else/x".to_owned(), 60),
        ] {
            let path = format!("quarantine/{path}");
            disk.write_whole(&path, &vec![1; bytes]).expect("written");
        }
        let told: Vec<_> = count(&disk)
            .expect("counted")
            .iter()
            .map(|it| (it.reason, it.topics, it.bytes))
            .collect();
        assert_eq!(told, [("deleted", 2, 33), ("unknown", 1, 40)]);
        assert!(count(&TestDisk::default()).is_ok());
    }
}
