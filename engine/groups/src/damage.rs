//! What is known of a partition's keys after part of its log was lost.
//!
//! The last record of a key counts, so a lost range may hold a later one for every key whose last
//! known record lies in front of it. Such a key is *uncertain*: its known value may be an older
//! offset, and no value at all may not mean that nothing was committed. Answered as they are, they
//! would send a consumer back, or to `auto.offset.reset`, without a word. A record behind the last
//! lost range is the newest there can be: it makes its key certain, and so does every record that
//! becomes durable while the partition is served. A record whose value is not understood makes its
//! own key uncertain, and no other.
//!
//! | request | in a partition with damage |
//! |---|---|
//! | OffsetFetch of named partitions | uncertain: UNSTABLE_OFFSET_COMMIT, certain: as ever |
//! | OffsetFetch of all | KAFKA_STORAGE_ERROR, with the rows that are known |
//! | OffsetCommit, JoinGroup, SyncGroup, Heartbeat, LeaveGroup | as ever |
//! | OffsetCommit by a member of a group that is not known | UNKNOWN_MEMBER_ID: it joins again |
//! | DescribeGroups, DeleteGroups, OffsetDelete of a known group | as ever |
//! | the same of a group that is not known | KAFKA_STORAGE_ERROR: it may be in the lost range |
//! | ListGroups | KAFKA_STORAGE_ERROR, with the groups that are known |
//!
//! UNSTABLE_OFFSET_COMMIT is what clients wait on: the Java client, librdkafka and franz-go ask again
//! until they get an offset; clients that do not know it fail visibly. Any other code of a partition
//! ends a Java consumer.
//!
//! Of a group whose own record is uncertain the members are not believed: they may be of a former
//! generation, which a later one has fenced, and a static member's old id would fence the member
//! itself. The group is empty then, and everyone joins again.
//!
//! Until an operator decides ([`crate::Coordinator::accept_loss`]), nothing that would decide for
//! him happens to the log: no snapshot, which would write what is uncertain behind the damage and
//! delete the damage, and no expiry. When he has decided, the snapshot does exactly that, and the
//! damage is over when the log starts behind it.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_base::{ErrorCode, Now, Offset};

use crate::coordinator::{Coordinator, Outbox, Output};
use crate::group::{Group, GroupState};
use crate::partition::{Partition, Phase, RecordKey, Records};
use crate::turn::Gate;

/// Ranges that are told apart; further ones extend the last.
const RANGES_KEPT: usize = 64;

/// What OffsetFetch says of an uncertain key.
pub(crate) const UNCERTAIN: ErrorCode = ErrorCode::UnstableOffsetCommit;
/// What is said where something may be missing and no client could wait for it.
pub(crate) const INCOMPLETE: ErrorCode = ErrorCode::KafkaStorageError;

/// The damage of one partition.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Ranges of the log that are lost, ascending.
    lost: Vec<(Offset, Offset)>,
    /// Keys with a record behind the last of them.
    certain: BTreeSet<RecordKey>,
    /// Keys whose last record is not understood.
    unreadable: BTreeSet<RecordKey>,
    /// An operator takes what is known for what there is.
    pub accepted: bool,
}

impl Damage {
    /// Everything between two offsets is lost.
    fn lose(&mut self, from: Offset, to: Offset) {
        self.certain.clear();
        let is_full = self.lost.len() >= RANGES_KEPT;
        match self.lost.last_mut() {
            Some(last) if last.1 >= from || is_full => last.1 = last.1.max(to),
            _ => self.lost.push((from, to)),
        }
    }

    /// A record of this key is the last there can be.
    fn note_last(&mut self, key: RecordKey) {
        self.unreadable.remove(&key);
        if !self.lost.is_empty() {
            self.certain.insert(key);
        }
    }

    pub(crate) fn is_uncertain(&self, key: &RecordKey) -> bool {
        self.unreadable.contains(key) || (!self.lost.is_empty() && !self.certain.contains(key))
    }
}

/// A partition that is damaged, to look at.
#[derive(Clone, Copy, Debug)]
pub struct DamagedPartition<'a> {
    /// The partition of `__consumer_offsets`.
    pub partition: u32,
    /// Lost ranges of its log.
    pub lost: &'a [(Offset, Offset)],
    /// Committed offsets that are known and may be older than what was committed last.
    pub uncertain_offsets: usize,
}

impl Partition {
    fn damage_or_new(&mut self) -> &mut Damage {
        self.damage.get_or_insert_default()
    }

    pub(crate) fn lose(&mut self, from: Offset, to: Offset) {
        self.damage_or_new().lose(from, to);
    }

    /// The value of this key's last record is not understood.
    pub(crate) fn note_unreadable(&mut self, key: RecordKey) {
        let damage = self.damage_or_new();
        damage.certain.remove(&key);
        damage.unreadable.insert(key);
    }

    /// A record of this key was loaded, or has become durable.
    pub(crate) fn note_last(&mut self, key: impl FnOnce() -> RecordKey) {
        if let Some(damage) = &mut self.damage {
            damage.note_last(key());
        }
    }

    pub(crate) fn is_uncertain(&self, key: &RecordKey) -> bool {
        let damage = self.damage.as_ref();
        damage.is_some_and(|damage| damage.is_uncertain(key))
    }

    /// Whether groups may exist that are not known here.
    pub(crate) fn may_lack_groups(&self) -> bool {
        let damage = self.damage.as_ref();
        self.phase == Phase::Unavailable || damage.is_some_and(|damage| !damage.lost.is_empty())
    }

    /// Whether nothing may be done to the log that would decide about what is uncertain.
    pub(crate) fn is_undecided(&self) -> bool {
        let damage = self.damage.as_ref();
        damage.is_some_and(|damage| !damage.accepted)
    }

    fn uncertain_offsets(&self) -> usize {
        let Some(damage) = &self.damage else {
            return 0;
        };
        let groups = self.groups.values();
        let keys = groups.flat_map(|group| {
            let topics = group.offsets.iter();
            topics.flat_map(|(topic, slots)| {
                let live = slots.iter().filter(|(_, slot)| slot.durable().is_some());
                live.map(|(partition, _)| RecordKey::Offset {
                    group: Arc::clone(&group.id),
                    topic: Arc::clone(topic),
                    partition: *partition,
                })
            })
        });
        keys.filter(|key| damage.is_uncertain(key)).count()
    }

    /// Empties the groups whose record may not be their last.
    pub(crate) fn dissolve_uncertain_groups(&mut self, now: Now, out: &mut Outbox) {
        let groups = self.groups.values();
        let uncertain: Vec<Arc<str>> = groups
            .filter(|group| !group.members.is_empty())
            .filter(|group| self.is_uncertain(&RecordKey::Group(Arc::clone(&group.id))))
            .map(|group| Arc::clone(&group.id))
            .collect();
        for id in uncertain {
            let Some(group) = self.groups.get_mut(&id) else {
                continue;
            };
            group.dissolve(now);
            let mut records = Records::at(now.wall_ms);
            records.group(&id, Some(group.encode()));
            self.append(records, Gate::None, out);
        }
    }
}

impl Group {
    /// Nobody is a member any more, and nobody is told: whoever is one joins again.
    fn dissolve(&mut self, now: Now) {
        let members: Vec<String> = self.members.keys().cloned().collect();
        for member in members {
            self.remove(&member);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        (self.protocol, self.leader) = (None, None);
        self.transition(now, GroupState::Empty);
    }
}

impl Coordinator {
    /// What lies between two offsets of a partition that is being loaded cannot be read. What is
    /// loaded later lies behind it.
    pub fn lost(&mut self, partition: u32, from: Offset, to: Offset) {
        let here = self.partitions.get_mut(&partition);
        if let Some(here) = here.filter(|here| here.phase == Phase::Loading) {
            here.lose(from, to);
        }
    }

    /// A partition's log cannot be read at all for now: its groups have no coordinator.
    pub fn unavailable(&mut self, partition: u32) {
        let here = self.partitions.entry(partition);
        let here = here.or_insert_with(|| Partition::new(partition));
        here.reset(Phase::Unavailable);
    }

    /// The log of a partition has been found damaged while it was served. All it holds that counts
    /// is known here: it is written again behind the damage.
    pub fn damaged_while_served(&mut self, now: Now, partition: u32, out: &mut Outbox) {
        let here = self.partitions.get_mut(&partition);
        if let Some(here) = here.filter(|here| here.phase == Phase::Active && !here.is_undecided())
        {
            here.begin_snapshot(now, out);
        }
    }

    /// An operator takes what is known of a damaged partition for what there is: it is written
    /// again, and the log will start behind the damage. [`Coordinator::log_start_moved`] ends it,
    /// [`Output::LossNotAccepted`] says that it has failed.
    ///
    /// # Errors
    /// POLICY_VIOLATION when nothing is damaged, and what other requests hear where the partition is
    /// not served.
    pub fn accept_loss(
        &mut self,
        now: Now,
        partition: u32,
        out: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let here = self.partitions.get_mut(&partition);
        let Some(here) = here.filter(|here| here.phase != Phase::Absent) else {
            return Err(ErrorCode::NotCoordinator);
        };
        match here.phase {
            Phase::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            Phase::Unavailable => return Err(ErrorCode::CoordinatorNotAvailable),
            Phase::Absent | Phase::Active => {}
        }
        let Some(damage) = &mut here.damage else {
            return Err(ErrorCode::PolicyViolation);
        };
        if !std::mem::replace(&mut damage.accepted, true) {
            here.begin_snapshot(now, out);
        }
        Ok(())
    }

    /// The log of a partition starts at `offset`, durably: damage in front of it is over.
    pub fn log_start_moved(&mut self, partition: u32, offset: Offset) {
        let Some(here) = self.partitions.get_mut(&partition) else {
            return;
        };
        let is_over = here.damage.as_ref().is_some_and(|damage| {
            let last = damage.lost.last();
            damage.accepted && last.is_none_or(|(_, to)| *to <= offset)
        });
        if is_over {
            here.damage = None;
        }
    }

    /// Partitions with damage, by number.
    pub fn damaged_partitions(&self) -> impl Iterator<Item = DamagedPartition<'_>> {
        self.partitions.values().filter_map(|here| {
            here.damage.as_ref().map(|damage| DamagedPartition {
                partition: here.index,
                lost: &damage.lost,
                uncertain_offsets: here.uncertain_offsets(),
            })
        })
    }

    /// Partitions whose log cannot be read.
    pub fn unavailable_partitions(&self) -> impl Iterator<Item = u32> {
        let partitions = self.partitions.values();
        let unavailable = partitions.filter(|here| here.phase == Phase::Unavailable);
        unavailable.map(|here| here.index)
    }
}

impl Partition {
    /// A snapshot was given up. Where it was to end damage, the operator has to be told.
    pub(crate) fn loss_not_accepted(&mut self, error: ErrorCode, out: &mut Outbox) {
        if let Some(damage) = self.damage.as_mut().filter(|damage| damage.accepted) {
            damage.accepted = false;
            out.push(Output::LossNotAccepted {
                partition: self.index,
                error,
            });
        }
    }
}
