//! What the names in a data directory say: which files are ours, and where the partitions are.

use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError};
use highwater_base::{Epoch, Offset, PartitionIndex, TopicId};

use super::{Finding, FindingKind, VerifyHost};
use crate::checkpoint::DIRECTORY as CHECKPOINT_DIRECTORY;
use crate::ledger::DIRECTORY as MARKS_DIRECTORY;
use crate::marks::PartitionKey;
use crate::segment::FileName;
use crate::superblock::PATH as SUPERBLOCK;

const TOPICS_DIRECTORY: &str = "topics";
/// What a small file is called while it is written.
const UNFINISHED_SUFFIX: &str = ".new";

/// What a file is, told by its name and the directory it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Superblock,
    Ledger,
    Checkpoint,
    /// A segment; its name tells where it begins unless it was made ready ahead.
    Segment {
        named: Option<(Offset, Epoch)>,
    },
    Index {
        base_offset: Offset,
        epoch: Epoch,
    },
    Producers {
        base_offset: Offset,
        epoch: Epoch,
    },
}

impl FileKind {
    /// What the file at `path` is; `None` when it is not ours.
    #[must_use]
    pub fn of(path: &str) -> Option<FileKind> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = parent.rsplit('/').next().unwrap_or_default();
        let by_name = match FileName::parse(name) {
            Some(FileName::Segment { base_offset, epoch }) => Some(FileKind::Segment {
                named: Some((base_offset, epoch)),
            }),
            Some(FileName::Prepared(_)) => Some(FileKind::Segment { named: None }),
            Some(FileName::Sidecar { base_offset, epoch }) if name.ends_with(".index") => {
                Some(FileKind::Index { base_offset, epoch })
            }
            Some(FileName::Sidecar { base_offset, epoch }) => {
                Some(FileKind::Producers { base_offset, epoch })
            }
            None => None,
        };
        by_name.or(match (parent, name) {
            (_, SUPERBLOCK) => Some(FileKind::Superblock),
            (MARKS_DIRECTORY, _) if is_ledger(name) => Some(FileKind::Ledger),
            (CHECKPOINT_DIRECTORY, _) if core_of(name).is_some() => Some(FileKind::Checkpoint),
            // A copy of one file, taken elsewhere.
            _ if is_ledger(name) => Some(FileKind::Ledger),
            _ => None,
        })
    }
}

/// `core-{core}-{copy}{half}`
pub(super) fn is_ledger(name: &str) -> bool {
    let rest = name.strip_prefix("core-").and_then(|it| it.split_once('-'));
    rest.is_some_and(|(core, file)| {
        core.parse::<u16>().is_ok() && matches!(file, "0a" | "0b" | "1a" | "1b")
    })
}

/// The core a checkpoint is of.
pub(super) fn core_of(name: &str) -> Option<u16> {
    name.strip_prefix("core-")?.parse().ok()
}

/// A partition's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlace {
    /// Relative to the data directory.
    pub directory: String,
    pub topic: String,
    /// `None` where a partition's directory lies outside a data directory: nothing says whose it is.
    pub key: Option<PartitionKey>,
}

impl PartitionPlace {
    /// Told by its path, `topics/{topic}/{topic id}/{partition}`.
    #[must_use]
    pub fn of(directory: &str) -> Option<PartitionPlace> {
        let parts: Vec<&str> = directory.split('/').collect();
        let [TOPICS_DIRECTORY, topic, id, partition] = parts[..] else {
            return None;
        };
        let partition = partition.parse().ok().filter(|index| *index >= 0)?;
        Some(PartitionPlace {
            directory: directory.to_string(),
            topic: topic.to_string(),
            key: Some(PartitionKey {
                topic_id: TopicId::parse(id)?,
                partition: PartitionIndex(partition),
            }),
        })
    }

    /// `topic-partition`, or the directory.
    #[must_use]
    pub fn name(&self) -> String {
        match self.key {
            Some(key) => format!("{}-{}", self.topic, key.partition.0),
            None => self.directory.clone(),
        }
    }
}

/// A file that is not ours, or not finished.
pub(super) fn tell_unknown(path: &str, entry: &DirectoryEntry, host: &mut dyn VerifyHost) {
    let what = match entry.is_directory {
        true => "a directory".to_string(),
        false => format!("{} bytes", entry.size_bytes),
    };
    let finished = path.strip_suffix(UNFINISHED_SUFFIX);
    let kind = match finished.and_then(FileKind::of) {
        Some(_) => FindingKind::UnfinishedFile,
        None => FindingKind::UnknownFile,
    };
    host.finding(Finding::of(kind, path, what));
}

/// The entries of a directory, none when it is not there. What cannot be listed is told.
pub(super) fn list(
    boot: &dyn BootDisk,
    path: &str,
    host: &mut dyn VerifyHost,
) -> Vec<DirectoryEntry> {
    match boot.list(path) {
        Ok(entries) => entries,
        Err(DiskError::NotFound) => Vec::new(),
        Err(error) => {
            host.finding(Finding::of(
                FindingKind::Unreadable,
                path,
                error.to_string(),
            ));
            Vec::new()
        }
    }
}

/// Every partition below `topics/`, the metadata log first; what lies between them and is not ours
/// is told.
pub fn find_partitions(boot: &dyn BootDisk, host: &mut dyn VerifyHost) -> Vec<PartitionPlace> {
    let mut places = Vec::new();
    descend(boot, TOPICS_DIRECTORY, &mut places, host);
    places.sort_by_key(|place| {
        let of_clients = !place.topic.starts_with("__cluster_metadata");
        (of_clients, place.topic.clone(), place.key)
    });
    places
}

fn descend(
    boot: &dyn BootDisk,
    path: &str,
    places: &mut Vec<PartitionPlace>,
    host: &mut dyn VerifyHost,
) {
    let depth = path.split('/').count();
    for entry in list(boot, path, host) {
        let below = format!("{path}/{}", entry.name);
        let is_level = entry.is_directory && depth < 3;
        let id_fits = depth != 2 || TopicId::parse(&entry.name).is_some();
        if is_level && id_fits {
            descend(boot, &below, places, host);
        } else if let Some(place) = PartitionPlace::of(&below).filter(|_| entry.is_directory) {
            places.push(place);
        } else {
            tell_unknown(&below, &entry, host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let named = Some((Offset(17), Epoch(2)));
        for (path, kind) in [
            ("superblock", Some(FileKind::Superblock)),
            ("marks/core-0-1b", Some(FileKind::Ledger)),
            ("checkpoint/core-3", Some(FileKind::Checkpoint)),
            (
                "d/00000000000000000017-2.log",
                Some(FileKind::Segment { named }),
            ),
            ("d/prepared-4.log", Some(FileKind::Segment { named: None })),
            ("marks/core-0-2a", None),
            ("d/core-3", None),
            ("lock", None),
        ] {
            assert_eq!(FileKind::of(path), kind, "{path}");
        }
        let index = FileKind::of("d/00000000000000000017-2.index");
        assert!(matches!(index, Some(FileKind::Index { .. })), "{index:?}");
    }

    #[test]
    fn a_partition_is_told_by_its_path() {
        let id = TopicId([7; 16]);
        let place = PartitionPlace::of(&format!("topics/t/{id}/3")).expect("a partition");
        assert_eq!(place.name(), "t-3");
        assert_eq!(place.key.map(|key| key.topic_id), Some(id));
        for path in ["topics/t/x/3", "topics/t", "marks/a/b/3"] {
            assert_eq!(PartitionPlace::of(path), None, "{path}");
        }
    }
}
