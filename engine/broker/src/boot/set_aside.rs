//! What lies below `topics/` and is not in the metadata image goes to quarantine when a node starts.
//!
//! Only a tombstone that was read makes data `deleted`: a crash came between the tombstone and the
//! move. Everything else is `unknown`, however whole the metadata log looks: a log that lost its end,
//! or an old copy of it, lacks topics that nobody deleted. Nothing with a file in it is removed here,
//! unless deleted data is not to be kept at all.

use std::collections::BTreeMap;

use highwater_base::TopicId;
use highwater_base::disk::{BootDisk, DiskError};

use crate::metadata::{Image, METADATA_TOPIC, MetadataRecord, Topic};
use crate::quarantine::{DIRECTORY, DeleteRetention, Entry, Note, Reason};

const TOPICS: &str = "topics";
/// Levels below `topics/{topic}/{topic id}` that are looked into for files.
const LEVELS_MAX: u32 = 8;

/// Topics whose tombstone was read, with what they were, where that is known.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    topics: BTreeMap<TopicId, Option<Topic>>,
}

impl Tombstones {
    /// Takes note of a record before the image folds it in.
    pub fn note(&mut self, record: &MetadataRecord, image: &Image) {
        match record {
            MetadataRecord::TopicDeleted { topic_id } => {
                let id = TopicId(*topic_id);
                let was = image.topic(id).cloned();
                let known = self.topics.entry(id).or_default();
                *known = was.or(known.take());
            }
            // It was put back: its tombstone no longer counts.
            MetadataRecord::Topic { topic_id, .. } => {
                self.topics.remove(&TopicId(*topic_id));
            }
            MetadataRecord::Partitions { .. }
            | MetadataRecord::TopicConfig { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::SnapshotBegin
            | MetadataRecord::SnapshotEnd
            | MetadataRecord::BrokerConfig { .. } => {}
        }
    }

    /// Whether the topic was deleted.
    pub fn has(&self, id: TopicId) -> bool {
        self.topics.contains_key(&id) || cfg!(mutant = "B11")
    }

    fn note_of(&self, id: TopicId) -> Option<Note> {
        let topic = self.topics.get(&id)?.as_ref()?;
        Some(Note::of(topic))
    }
}

/// What a start did about one directory of a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// To this entry.
    ToQuarantine { from: String, entry: Entry },
    /// Deleted data that is not kept.
    Removed { from: String },
    /// It stays where it is.
    Failed { from: String, error: DiskError },
}

/// Moves every directory of a topic that the image does not have. What can not be moved stays and is
/// told.
pub(super) fn set_aside(
    boot: &mut dyn BootDisk,
    image: &Image,
    tombstones: &Tombstones,
    retention: DeleteRetention,
    now_ms: i64,
) -> Result<Vec<Moved>, DiskError> {
    let mut all = Vec::new();
    for topic in directories(boot, TOPICS)? {
        if topic == METADATA_TOPIC {
            continue;
        }
        let parent = format!("{TOPICS}/{topic}");
        for name in directories(boot, &parent)? {
            // Names that are not ours are left alone.
            let Some(id) = TopicId::parse(&name) else {
                continue;
            };
            let is_live = image
                .topic(id)
                .is_some_and(|known| *known.name == *topic.as_str());
            if is_live {
                continue;
            }
            let reason = match tombstones.has(id) {
                true => Reason::Deleted,
                false => Reason::Unknown,
            };
            let from = format!("{parent}/{name}");
            let entry = Entry {
                since_ms: now_ms,
                reason,
                topic_id: id,
            };
            let kept = reason == Reason::Unknown || retention.keeps();
            let note = tombstones.note_of(id);
            match take_away(boot, &from, &topic, entry, kept, note) {
                Ok(moved) => all.extend(moved),
                Err(error) => all.push(Moved::Failed { from, error }),
            }
        }
        if boot.list(&parent)?.is_empty() {
            boot.remove(&parent)?;
        }
    }
    Ok(all)
}

fn take_away(
    boot: &mut dyn BootDisk,
    from: &str,
    topic: &str,
    entry: Entry,
    kept: bool,
    note: Option<Note>,
) -> Result<Option<Moved>, DiskError> {
    let from = from.to_owned();
    if !holds_files(boot, &from)? {
        boot.remove(&from)?;
        return Ok(None);
    }
    if !kept {
        boot.remove(&from)?;
        return Ok(Some(Moved::Removed { from }));
    }
    // The other partitions may have gone there before the crash.
    let begun = entries(boot)?.into_iter().find(|known| {
        (known.reason, known.topic_id) == (entry.reason, entry.topic_id)
            && can_join(boot, &from, &known.topic_path(topic))
    });
    let entry = begun.unwrap_or(entry);
    if let Some(note) = note {
        boot.write_whole(&entry.note_path(), &note.encode())?;
    }
    let to = entry.topic_path(topic);
    match begun {
        None => boot.rename(&from, &to)?,
        Some(_) => {
            for child in boot.list(&from)? {
                let name = child.name;
                boot.rename(&format!("{from}/{name}"), &format!("{to}/{name}"))?;
            }
            boot.remove(&from)?;
        }
    }
    Ok(Some(Moved::ToQuarantine { from, entry }))
}

/// Whether nothing in one directory has the name of something in the other.
pub(crate) fn can_join(boot: &dyn BootDisk, from: &str, to: &str) -> bool {
    let (Ok(ours), there) = (boot.list(from), boot.list(to)) else {
        return false;
    };
    match there {
        Err(DiskError::NotFound) => true,
        Err(_) => false,
        Ok(there) => !ours
            .iter()
            .any(|entry| there.iter().any(|other| other.name == entry.name)),
    }
}

/// The entries of the quarantine.
pub(crate) fn entries(boot: &dyn BootDisk) -> Result<Vec<Entry>, DiskError> {
    let names = directories(boot, DIRECTORY)?;
    Ok(names.iter().filter_map(|name| Entry::parse(name)).collect())
}

/// Whether there is anything but directories below `path`. What is too deep to be ours counts.
pub(crate) fn holds_files(boot: &dyn BootDisk, path: &str) -> Result<bool, DiskError> {
    let mut below = vec![(path.to_owned(), 0)];
    while let Some((path, level)) = below.pop() {
        let entries = match boot.list(&path) {
            Ok(entries) => entries,
            Err(DiskError::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        if entries.iter().any(|entry| !entry.is_directory) || level > LEVELS_MAX {
            return Ok(true);
        }
        let inner = entries.iter().map(|entry| &entry.name);
        below.extend(inner.map(|name| (format!("{path}/{name}"), level + 1)));
    }
    Ok(false)
}

pub(crate) fn directories(boot: &dyn BootDisk, path: &str) -> Result<Vec<String>, DiskError> {
    let entries = match boot.list(path) {
        Ok(entries) => entries,
        Err(DiskError::NotFound) => Vec::new(),
        Err(error) => return Err(error),
    };
    let directories = entries.into_iter().filter(|entry| entry.is_directory);
    Ok(directories.map(|entry| entry.name).collect())
}
