//! Quarantine: where the data of topics waits that the metadata does not have.
//!
//! `quarantine/{unix ms}-{reason}-{topic id}/{topic}/{partition}/...` below the data directory. Data of
//! a deleted topic (its tombstone was read) waits there for `delete_retention_hours` and is removed
//! then. Data that no tombstone explains is `unknown`: it is never removed by the broker. An entry
//! `restoring` holds no data: it says that the next start registers the topic again, whose data the
//! command `highwater log quarantine restore` has put back below `topics/`.
//!
//! This file has the names, the note that is kept with an entry, and core 0's list of what is to be
//! removed when. It does no I/O; a start moves what it finds (`boot::set_aside`), the deletion of a
//! topic moves its partitions, each on its own core.

use std::collections::BTreeSet;
use std::fmt;

use highwater_base::{Now, TopicId};
use serde::{Deserialize, Serialize};

use crate::metadata::{MetadataRecord, Topic};

/// Below the data directory.
pub const DIRECTORY: &str = "quarantine";
/// The note in an entry.
const NOTE: &str = "topic.json";
/// Removals that are remembered; what is deleted beyond that is removed after the next start.
const REMOVALS_MAX: usize = 100_000;
/// The wall clock may be set: it is looked at again at least so often.
const LOOK_AGAIN_MS: u64 = 60_000;

const MS_PER_HOUR: i64 = 3_600_000;

/// Why data is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The topic's tombstone was read.
    Deleted,
    /// Neither the topic nor its tombstone is in the metadata log.
    Unknown,
    /// The next start registers the topic.
    Restoring,
}

impl Reason {
    /// Its name in paths and output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Deleted => "deleted",
            Reason::Unknown => "unknown",
            Reason::Restoring => "restoring",
        }
    }

    fn parse(name: &str) -> Option<Reason> {
        let all = [Reason::Deleted, Reason::Unknown, Reason::Restoring];
        all.into_iter().find(|reason| reason.name() == name)
    }
}

/// An entry: its directory's name says all that is needed to decide about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub since_ms: i64,
    pub reason: Reason,
    pub topic_id: TopicId,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.reason.name();
        write!(f, "{}-{reason}-{}", self.since_ms, self.topic_id)
    }
}

impl Entry {
    /// The entry with this name; `None` when the name is not ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Entry> {
        let (since_ms, rest) = name.split_once('-')?;
        let (reason, id) = rest.split_once('-')?;
        let is_number = since_ms.bytes().all(|byte| byte.is_ascii_digit());
        Some(Entry {
            since_ms: since_ms.parse().ok().filter(|_| is_number)?,
            reason: Reason::parse(reason)?,
            topic_id: TopicId::parse(id)?,
        })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{DIRECTORY}/{self}")
    }

    /// Where the directories of its partitions are.
    #[must_use]
    pub fn topic_path(&self, topic: &str) -> String {
        format!("{DIRECTORY}/{self}/{topic}")
    }

    /// Where its note is.
    #[must_use]
    pub fn note_path(&self) -> String {
        format!("{DIRECTORY}/{self}/{NOTE}")
    }
}

/// What is known of a topic besides its data: enough to register it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub topic: String,
    pub partitions: u32,
    #[serde(default)]
    pub config: Vec<(String, String)>,
}

impl Note {
    #[must_use]
    pub fn of(topic: &Topic) -> Note {
        Note {
            topic: topic.name.to_string(),
            partitions: topic.partitions,
            config: topic.overrides.clone(),
        }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("names and numbers are JSON")
    }

    /// `None` when the bytes are no note.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Note> {
        serde_json::from_slice(bytes).ok()
    }

    /// What registers the topic again, its partitions from core slot `core_slot_base` on.
    #[must_use]
    pub fn record(&self, topic_id: TopicId, core_slot_base: u32) -> MetadataRecord {
        MetadataRecord::Topic {
            topic_id: topic_id.0,
            name: self.topic.clone(),
            partitions: self.partitions,
            core_slot_base,
            config: self.config.clone(),
        }
    }
}

/// How long the data of deleted topics is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteRetention {
    hours: u64,
}

impl DeleteRetention {
    #[must_use]
    pub const fn hours(hours: u64) -> DeleteRetention {
        DeleteRetention { hours }
    }

    /// Whether deleted data is kept at all.
    #[must_use]
    pub fn keeps(self) -> bool {
        self.hours > 0
    }

    fn ends_ms(self, entry: Entry) -> i64 {
        let hours = i64::try_from(self.hours).unwrap_or(i64::MAX);
        entry
            .since_ms
            .saturating_add(hours.saturating_mul(MS_PER_HOUR))
    }
}

/// What core 0 removes when its time has come.
#[derive(Debug)]
pub struct Removals {
    retention: DeleteRetention,
    /// By when they go.
    due: BTreeSet<(i64, Entry)>,
    look_at_ns: Option<u64>,
}

impl Removals {
    /// Nothing to remove yet.
    #[must_use]
    pub fn new(retention: DeleteRetention) -> Removals {
        Removals {
            retention,
            due: BTreeSet::new(),
            look_at_ns: None,
        }
    }

    /// Takes an entry into the list, if it is one that goes by itself.
    pub fn add(&mut self, now: Now, entry: Entry) {
        match entry.reason {
            Reason::Deleted if self.due.len() < REMOVALS_MAX => {
                self.due.insert((self.retention.ends_ms(entry), entry));
                self.plan(now);
            }
            Reason::Deleted | Reason::Unknown | Reason::Restoring => {}
        }
    }

    /// The next entry whose time has come; it is taken off the list.
    pub fn pop_due(&mut self, now: Now) -> Option<Entry> {
        let (ends_ms, entry) = *self.due.first()?;
        if ends_ms > now.wall_ms {
            self.plan(now);
            return None;
        }
        self.due.pop_first();
        self.plan(now);
        Some(entry)
    }

    /// When to ask for what is due.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.look_at_ns
    }

    fn plan(&mut self, now: Now) {
        self.look_at_ns = self.due.first().map(|(ends_ms, _)| {
            let left_ms = ends_ms.saturating_sub(now.wall_ms).max(0) as u64;
            now.plus_ms(left_ms.min(LOOK_AGAIN_MS))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(since_ms: i64, reason: Reason, id: u8) -> Entry {
        Entry {
            since_ms,
            reason,
            topic_id: TopicId([id; 16]),
        }
    }

    fn at_ms(ms: i64) -> Now {
        Now {
            monotonic_ns: ms as u64 * 1_000_000,
            wall_ms: ms,
        }
    }

    #[test]
    fn the_name_of_an_entry_says_what_it_is() {
        for id in 0..=255 {
            for reason in [Reason::Deleted, Reason::Unknown, Reason::Restoring] {
                let entry = entry(1_764_559_200_000, reason, id);
                assert_eq!(Entry::parse(&entry.to_string()), Some(entry));
            }
        }
        let id = TopicId([7; 16]).to_string();
        for name in [
            format!("-5-deleted-{id}"),
            format!("+5-deleted-{id}"),
            format!("5-removed-{id}"),
            format!("5-deleted-{id}x"),
            "5-deleted".to_string(),
            String::new(),
        ] {
            assert_eq!(Entry::parse(&name), None, "{name}");
        }
    }

    #[test]
    fn only_deleted_data_goes_and_only_when_its_time_has_come() {
        let mut removals = Removals::new(DeleteRetention::hours(2));
        let early = entry(1000, Reason::Deleted, 1);
        let late = entry(5000, Reason::Deleted, 2);
        for entry in [
            late,
            early,
            entry(0, Reason::Unknown, 3),
            entry(0, Reason::Restoring, 4),
        ] {
            removals.add(at_ms(5000), entry);
        }
        assert_eq!(removals.pop_due(at_ms(7_200_999)), None);
        assert_eq!(removals.pop_due(at_ms(7_201_000)), Some(early));
        assert_eq!(removals.pop_due(at_ms(7_201_000)), None);
        let next = removals.next_deadline_ns().expect("one is left");
        assert!(next <= at_ms(7_205_000).monotonic_ns, "{next}");
        assert_eq!(removals.pop_due(at_ms(7_205_000)), Some(late));
        assert_eq!(removals.pop_due(at_ms(i64::MAX / 2_000_000)), None);
        assert_eq!(removals.next_deadline_ns(), None);
    }

    /// The clock is set forward while nothing happens: it is looked at again before the day is over.
    #[test]
    fn a_clock_that_is_set_is_noticed() {
        let mut removals = Removals::new(DeleteRetention::hours(24));
        removals.add(at_ms(1000), entry(1000, Reason::Deleted, 1));
        let next = removals.next_deadline_ns().expect("one waits");
        assert!(next <= at_ms(1000).plus_ms(LOOK_AGAIN_MS));
    }

    #[test]
    fn a_note_registers_the_topic_as_it_was() {
        let note = Note {
            topic: "orders".to_owned(),
            partitions: 3,
            config: vec![("retention.ms".to_owned(), "5".to_owned())],
        };
        assert_eq!(Note::decode(&note.encode()), Some(note.clone()));
        assert_eq!(Note::decode(b"{}"), None);
        let MetadataRecord::Topic { partitions, .. } = note.record(TopicId([1; 16]), 7) else {
            panic!("a topic");
        };
        assert_eq!(partitions, 3);
    }
}
