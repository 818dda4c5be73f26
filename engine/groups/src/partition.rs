//! One partition of the log of offsets: its groups, and the writes under way to it.
//!
//! Invariants: writes leave and settle in order; what a write changes is noted in the slots of its
//! keys before it leaves. `topics` names exactly the groups that have an offset of a topic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use highwater_base::{Offset, Timestamp};
use highwater_wire::records::RecordBatchBuilder;

use crate::coordinator::{Outbox, Output, WriteId};
use crate::damage::Damage;
use crate::group::Group;
use crate::log_records::{StoredOffset, group_key, offset_key};
use crate::snapshot::Snapshot;
use crate::turn::Gate;

/// Whether a partition's groups can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Absent,
    Loading,
    Active,
    /// Its log cannot be read.
    Unavailable,
}

/// A key of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordKey {
    Group(Arc<str>),
    Offset {
        group: Arc<str>,
        topic: Arc<str>,
        partition: i32,
    },
}

impl RecordKey {
    pub(crate) fn group(&self) -> &Arc<str> {
        match self {
            RecordKey::Group(group) | RecordKey::Offset { group, .. } => group,
        }
    }
}

#[derive(Debug)]
enum Value {
    Group(Option<Arc<[u8]>>),
    Offset(Option<StoredOffset>),
}

/// Records on their way into one batch, with what they change.
#[derive(Debug, Default)]
pub(crate) struct Records {
    batch: RecordBatchBuilder,
    timestamp: Timestamp,
    changes: Vec<(RecordKey, Value)>,
}

impl Records {
    pub(crate) fn at(timestamp: Timestamp) -> Records {
        Records {
            timestamp,
            ..Records::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.record_count() == 0
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    pub(crate) fn count(&self) -> usize {
        self.batch.record_count() as usize
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    /// A record as it is, for a snapshot: it changes nothing.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.batch.append(self.timestamp, Some(key), value, &[]);
    }

    /// The record of a group; `None` removes it.
    pub(crate) fn group(&mut self, group: &Arc<str>, value: Option<Vec<u8>>) {
        self.put(&group_key(group), value.as_deref());
        let key = RecordKey::Group(Arc::clone(group));
        let value = value.map(Arc::from);
        self.changes.push((key, Value::Group(value)));
    }

    /// A committed offset; `None` removes it.
    pub(crate) fn offset(
        &mut self,
        group: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        value: Option<StoredOffset>,
    ) {
        let encoded = value.as_ref().map(StoredOffset::encode);
        self.put(&offset_key(group, topic, partition), encoded.as_deref());
        let key = RecordKey::Offset {
            group: Arc::clone(group),
            topic: Arc::clone(topic),
            partition,
        };
        self.changes.push((key, Value::Offset(value)));
    }
}

/// A write that is not durable yet.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    pub id: WriteId,
    pub keys: Vec<RecordKey>,
    pub gate: Gate,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub index: u32,
    pub phase: Phase,
    pub groups: BTreeMap<Arc<str>, Group>,
    topics: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    writes: VecDeque<PendingWrite>,
    next_write: u64,
    /// Bytes appended since the last snapshot began, its own not counted.
    pub appended_bytes: u64,
    /// What the live records took when they were last counted.
    pub live_bytes: u64,
    pub snapshot: Option<Snapshot>,
    /// Topics that ended or began while the log was read: what it holds of them is of the past.
    pub past_topics: BTreeSet<Arc<str>>,
    /// Part of its log is lost, and nobody has decided about it yet.
    pub damage: Option<Damage>,
}

impl Partition {
    pub(crate) fn new(index: u32) -> Partition {
        Partition {
            index,
            phase: Phase::Absent,
            groups: BTreeMap::new(),
            topics: BTreeMap::new(),
            writes: VecDeque::new(),
            next_write: 0,
            appended_bytes: 0,
            live_bytes: 0,
            snapshot: None,
            past_topics: BTreeSet::new(),
            damage: None,
        }
    }

    /// Forgets everything but the number of the next write.
    pub(crate) fn reset(&mut self, phase: Phase) -> VecDeque<PendingWrite> {
        let writes = std::mem::take(&mut self.writes);
        *self = Partition {
            phase,
            next_write: self.next_write,
            ..Partition::new(self.index)
        };
        writes
    }

    pub(crate) fn pending_writes(&self) -> usize {
        self.writes.len()
    }

    /// The group, made if there is none.
    pub(crate) fn group_or_new(&mut self, id: &Arc<str>) -> &mut Group {
        let group = self.groups.entry(Arc::clone(id));
        group.or_insert_with(|| Group::new(Arc::clone(id)))
    }

    /// The shared name of a topic, and the note that this group has offsets of it.
    pub(crate) fn note_topic(&mut self, topic: &Arc<str>, group: &Arc<str>) -> Arc<str> {
        if let Some((name, _)) = self.topics.get_key_value(topic) {
            let name = Arc::clone(name);
            if let Some(groups) = self.topics.get_mut(&name) {
                groups.insert(Arc::clone(group));
            }
            return name;
        }
        let groups = BTreeSet::from([Arc::clone(group)]);
        self.topics.insert(Arc::clone(topic), groups);
        Arc::clone(topic)
    }

    /// The groups that have offsets of a topic.
    pub(crate) fn groups_with_topic(&self, topic: &str) -> Vec<Arc<str>> {
        let groups = self.topics.get(topic).into_iter().flatten();
        groups.cloned().collect()
    }

    /// All topics somebody has offsets of.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// Sends records on their way.
    pub(crate) fn append(&mut self, records: Records, gate: Gate, out: &mut Outbox) -> WriteId {
        let id = WriteId(self.next_write);
        self.next_write += 1;
        let mut keys = Vec::with_capacity(records.changes.len());
        for (key, value) in records.changes {
            self.note_change(id, &key, value);
            keys.push(key);
        }
        let batch = records.batch.finish();
        if !matches!(gate, Gate::Snapshot) {
            self.appended_bytes += batch.len() as u64;
        }
        self.writes.push_back(PendingWrite { id, keys, gate });
        out.push(Output::Append {
            partition: self.index,
            write: id,
            batch,
        });
        id
    }

    fn note_change(&mut self, id: WriteId, key: &RecordKey, value: Value) {
        match (key, value) {
            (RecordKey::Group(group), Value::Group(value)) => {
                self.group_or_new(group).record.append(id, value);
            }
            (
                RecordKey::Offset {
                    group,
                    topic,
                    partition,
                },
                Value::Offset(value),
            ) => {
                let topic = self.note_topic(topic, group);
                let offsets = &mut self.group_or_new(group).offsets;
                let slots = offsets.entry(topic).or_default();
                slots.entry(*partition).or_default().append(id, value);
            }
            _ => unreachable!("records pair keys and values of one kind"),
        }
    }

    /// The writes up to this one are durable. Returns them for their gates.
    pub(crate) fn settle(&mut self, write: WriteId) -> Vec<PendingWrite> {
        let mut settled = Vec::new();
        while self.writes.front().is_some_and(|front| front.id <= write) {
            let Some(pending) = self.writes.pop_front() else {
                break;
            };
            for key in &pending.keys {
                self.update_slot(key, SlotUpdate::Settle(pending.id));
                self.note_last(|| key.clone());
            }
            settled.push(pending);
        }
        settled
    }

    /// This write and all later ones are given up. Returns them, the last first.
    pub(crate) fn give_up(&mut self, write: WriteId) -> Vec<PendingWrite> {
        let mut given_up = Vec::new();
        while self.writes.back().is_some_and(|back| back.id >= write) {
            given_up.extend(self.writes.pop_back());
        }
        for pending in &given_up {
            for key in &pending.keys {
                self.update_slot(key, SlotUpdate::GiveUp(write));
            }
        }
        given_up
    }

    fn update_slot(&mut self, key: &RecordKey, update: SlotUpdate) {
        let Some(group) = self.groups.get_mut(key.group()) else {
            return;
        };
        match key {
            RecordKey::Group(_) => update.apply(&mut group.record),
            RecordKey::Offset {
                topic, partition, ..
            } => {
                let Some(slots) = group.offsets.get_mut(topic) else {
                    return;
                };
                let Some(slot) = slots.get_mut(partition) else {
                    return;
                };
                update.apply(slot);
                if slot.is_vacant() {
                    slots.remove(partition);
                }
                if slots.is_empty() {
                    group.offsets.remove(topic);
                    let id = Arc::clone(&group.id);
                    self.forget_topic(topic, &id);
                }
            }
        }
    }

    /// A group has no offsets of a topic any more.
    pub(crate) fn forget_topic(&mut self, topic: &str, group: &Arc<str>) {
        if let Some(groups) = self.topics.get_mut(topic) {
            groups.remove(group);
            if groups.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// What the live records take, roughly: to judge when the log is worth writing again.
    pub(crate) fn estimate_live_bytes(&self) -> u64 {
        const RECORD_OVERHEAD_BYTES: usize = 64;
        let mut bytes = 0;
        for (id, group) in &self.groups {
            let record = group.record.latest();
            bytes += record.map_or(0, |r| r.len() + id.len() + RECORD_OVERHEAD_BYTES);
            for (topic, slots) in &group.offsets {
                let each = id.len() + topic.len() + RECORD_OVERHEAD_BYTES;
                let values = slots.values().filter_map(|slot| slot.latest());
                bytes += values.map(|v| v.metadata.len() + each).sum::<usize>();
            }
        }
        bytes as u64
    }

    /// Notes where the first write of a snapshot landed; later ones are not asked for, nor those of
    /// a snapshot that was given up for another.
    pub(crate) fn note_snapshot_offset(&mut self, write: WriteId, base_offset: Offset) {
        if let Some(snapshot) = self.snapshot.as_mut().filter(|it| it.in_flight == write) {
            snapshot.first_offset.get_or_insert(base_offset);
        }
    }
}

#[derive(Clone, Copy)]
enum SlotUpdate {
    Settle(WriteId),
    GiveUp(WriteId),
}

impl SlotUpdate {
    fn apply<T>(self, slot: &mut crate::slot::Slot<T>) {
        match self {
            SlotUpdate::Settle(write) => slot.settle(write),
            SlotUpdate::GiveUp(write) => slot.give_up(write),
        }
    }
}
