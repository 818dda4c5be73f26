//! Keeps the log of a partition bounded: the live records are written again at its end, part by
//! part, and everything in front of the first part is deleted.
//!
//! A part holds the latest appended value of each key. Whatever is appended while a snapshot runs
//! lands behind its first part and survives, so no key can fall back: a key that changed before its
//! part was made is in it with the new value, one that changed later has a later record. When a
//! write fails, all later ones fail with it, and the snapshot is given up.

use std::ops::Bound;
use std::sync::Arc;

use highwater_base::{Now, Offset};

use crate::coordinator::{Outbox, Output, WriteId};
use crate::group::Group;
use crate::log_records::{StoredOffset, group_key, offset_key};
use crate::partition::{Partition, Records};
use crate::turn::Gate;

/// Bytes of one part; a single record may be larger.
const PART_BYTES_MAX: usize = 512 * 1024;
/// What a record takes besides key and value, at most.
const RECORD_OVERHEAD_BYTES: usize = 32;
/// A log is left alone until this much was appended since its last snapshot…
const APPENDED_BYTES_MIN: u64 = 1024 * 1024;
/// …and this many times what is live.
const APPENDED_PER_LIVE: u64 = 4;

/// How far a snapshot has come: what was written last.
#[derive(Clone, Debug)]
enum Cursor {
    Start,
    Record(Arc<str>),
    Offset(Arc<str>, Arc<str>, i32),
}

impl Cursor {
    fn group(&self) -> Option<&Arc<str>> {
        match self {
            Cursor::Start => None,
            Cursor::Record(group) | Cursor::Offset(group, ..) => Some(group),
        }
    }

    fn is_before(&self, group: &str, topic: &str, partition: i32) -> bool {
        match self {
            Cursor::Offset(last, last_topic, last_partition) if **last == *group => {
                (&**last_topic, *last_partition) < (topic, partition)
            }
            _ => true,
        }
    }
}

/// A snapshot under way.
#[derive(Debug)]
pub(crate) struct Snapshot {
    cursor: Cursor,
    /// Where its first part landed.
    pub first_offset: Option<Offset>,
    bytes: u64,
    /// What had been appended when it began, and is still there until it ends.
    replaces_bytes: u64,
    pub in_flight: WriteId,
    is_last: bool,
}

fn fits(records: &Records, key: &[u8], value: &[u8]) -> bool {
    let bytes = records.bytes() + key.len() + value.len() + RECORD_OVERHEAD_BYTES;
    records.is_empty() || bytes <= PART_BYTES_MAX
}

impl Partition {
    /// Begins a snapshot if the log has grown enough.
    pub(crate) fn snapshot_if_due(&mut self, now: Now, out: &mut Outbox) {
        let limit = APPENDED_BYTES_MIN.max(APPENDED_PER_LIVE * self.live_bytes);
        if self.snapshot.is_some() || self.appended_bytes <= limit || self.is_undecided() {
            return;
        }
        self.begin_snapshot(now, out);
    }

    /// Begins to write the live records again, whatever the log's length. One that is under way
    /// begins anew: what it has written is replaced too.
    pub(crate) fn begin_snapshot(&mut self, now: Now, out: &mut Outbox) {
        self.abandon_snapshot();
        let (mut records, cursor, is_last) = self.part_after(now, Cursor::Start);
        if records.is_empty() {
            // Nothing is live; the log still needs a record to begin with. That no group has the
            // empty id is true then.
            records.put(&group_key(""), None);
        }
        let replaces_bytes = std::mem::take(&mut self.appended_bytes);
        self.write_part(records, cursor, is_last, out);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.replaces_bytes = replaces_bytes;
        }
    }

    fn write_part(&mut self, records: Records, cursor: Cursor, is_last: bool, out: &mut Outbox) {
        let bytes = records.bytes() as u64;
        let in_flight = self.append(records, Gate::Snapshot, out);
        let former = self.snapshot.take();
        self.snapshot = Some(Snapshot {
            cursor,
            first_offset: former.as_ref().and_then(|s| s.first_offset),
            bytes: former.as_ref().map_or(0, |s| s.bytes) + bytes,
            replaces_bytes: former.map_or(0, |s| s.replaces_bytes),
            in_flight,
            is_last,
        });
    }

    /// A part is durable: the next one follows, or the log in front of the first goes.
    pub(crate) fn continue_snapshot(&mut self, now: Now, write: WriteId, out: &mut Outbox) -> bool {
        let Some(snapshot) = &self.snapshot else {
            return false;
        };
        if snapshot.in_flight != write {
            return false;
        }
        if !snapshot.is_last && !cfg!(mutant = "G04") {
            let (records, cursor, is_last) = self.part_after(now, snapshot.cursor.clone());
            if !records.is_empty() {
                self.write_part(records, cursor, is_last, out);
                return false;
            }
        }
        let Some(snapshot) = self.snapshot.take() else {
            return false;
        };
        self.live_bytes = snapshot.bytes;
        let Some(offset) = snapshot.first_offset else {
            return false;
        };
        out.push(Output::TruncateBefore {
            partition: self.index,
            offset,
        });
        true
    }

    /// What the log holds, live and replaced, roughly.
    pub(crate) fn log_bytes(&self) -> u64 {
        let running = self.snapshot.as_ref();
        let running = running.map_or(0, |snapshot| snapshot.replaces_bytes + snapshot.bytes);
        self.live_bytes + self.appended_bytes + running
    }

    /// A write of the snapshot was given up; the log stays as it is.
    pub(crate) fn abandon_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.appended_bytes += snapshot.replaces_bytes + snapshot.bytes;
        }
    }

    /// The records behind the cursor that fit one part, and whether they are the last.
    fn part_after(&self, now: Now, mut cursor: Cursor) -> (Records, Cursor, bool) {
        let mut records = Records::at(now.wall_ms);
        let from = match cursor.group() {
            None => Bound::Unbounded,
            Some(group) => Bound::Included(Arc::clone(group)),
        };
        for group in self.groups.range((from, Bound::Unbounded)) {
            if !add_group(&mut records, &mut cursor, group.1) {
                return (records, cursor, false);
            }
        }
        (records, cursor, true)
    }
}

/// Adds what the cursor has not passed. False when the part is full.
fn add_group(records: &mut Records, cursor: &mut Cursor, group: &Group) -> bool {
    let id = &group.id;
    if cursor.group() != Some(id) {
        if let Some(value) = group.record.latest() {
            let key = group_key(id);
            if !fits(records, &key, value) {
                return false;
            }
            records.put(&key, Some(value));
        }
        *cursor = Cursor::Record(Arc::clone(id));
    }
    for (topic, slots) in &group.offsets {
        for (partition, slot) in slots {
            if !cursor.is_before(id, topic, *partition) {
                continue;
            }
            let latest = match cfg!(mutant = "G03") {
                true => slot.durable(),
                false => slot.latest(),
            };
            let Some(value) = latest.map(StoredOffset::encode) else {
                continue;
            };
            let key = offset_key(id, topic, *partition);
            if !fits(records, &key, &value) {
                return false;
            }
            records.put(&key, Some(&value));
            *cursor = Cursor::Offset(Arc::clone(id), Arc::clone(topic), *partition);
        }
    }
    true
}
