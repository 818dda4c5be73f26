//! Committed offsets: commit, fetch, delete. A commit is answered, and seen by readers, when its
//! records are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_base::{ErrorCode, Now};

use crate::answer::{FetchedOffset, GroupAnswer, GroupOffsets, PartitionResults};
use crate::coordinator::{Coordinator, Outbox, Ticket};
use crate::damage::{INCOMPLETE, UNCERTAIN};
use crate::group::{Group, GroupState, Offsets};
use crate::log_records::StoredOffset;
use crate::partition::{Partition, Phase, RecordKey, Records};
use crate::request::{CommitRequest, CommittedOffset};
use crate::slot::Slot;
use crate::turn::Gate;

/// Largest batch of the log of offsets that a commit may make.
const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// Tombstones are written in batches of about this size.
pub(crate) const TOMBSTONES_BYTES_MAX: usize = 512 * 1024;

/// A topic's name and some of its partitions.
type TopicPartitions = Vec<(Arc<str>, Vec<i32>)>;

impl Coordinator {
    pub(crate) fn commit(
        &mut self,
        now: Now,
        ticket: Ticket,
        index: u32,
        request: CommitRequest,
        out: &mut Outbox,
    ) {
        self.counters.commits += 1;
        if let Err(error) = self.validate_commit(index, &request) {
            let answer = GroupAnswer::Commit(request.results(error));
            return self.answer(ticket, answer, out);
        }
        let id = Arc::from(request.identity.group.as_str());
        self.step(now, index, &id, out, |group, turn| {
            if matches!(
                group.state,
                GroupState::Stable | GroupState::PreparingRebalance
            ) {
                group.renew_session(turn.now, &request.identity.member);
            }
        });
        let metadata_bytes_max = self.config.offset_metadata_bytes_max;
        let (records, results) = commit_records(now, &id, &request, metadata_bytes_max);
        if records.is_empty() {
            return self.answer(ticket, GroupAnswer::Commit(results), out);
        }
        if records.bytes() > COMMIT_BYTES_MAX {
            let error = ErrorCode::InvalidCommitOffsetSize;
            let answer = GroupAnswer::Commit(request.results(error));
            return self.answer(ticket, answer, out);
        }
        if cfg!(mutant = "G01") {
            self.answer(ticket, GroupAnswer::Commit(results.clone()), out);
        }
        if let Some(here) = self.partitions.get_mut(&index) {
            let gate = Gate::Answer(ticket, GroupAnswer::Commit(results));
            here.append(records, gate, out);
        }
    }

    fn validate_commit(&self, index: u32, request: &CommitRequest) -> Result<(), ErrorCode> {
        let here = self.partitions.get(&index);
        let identity = &request.identity;
        match here.and_then(|here| here.groups.get(identity.group.as_str())) {
            Some(group) => group.validate_commit(identity),
            None if identity.generation >= 0 => {
                Err(match here.is_some_and(Partition::may_lack_groups) {
                    // Its group may be lost, and it will find one by joining again.
                    true => ErrorCode::UnknownMemberId,
                    false => ErrorCode::GroupIdNotFound,
                })
            }
            // Kafka has no such bound and no code of its own for it.
            None if self.is_full() => Err(ErrorCode::PolicyViolation),
            None => Ok(()),
        }
    }

    pub(crate) fn fetch_offsets(
        &self,
        index: u32,
        id: &str,
        topics: Option<TopicPartitions>,
    ) -> GroupOffsets {
        let here = self.partitions.get(&index);
        let group = here.and_then(|here| here.groups.get(id));
        let none = BTreeMap::new();
        let offsets = group.map_or(&none, |group| &group.offsets);
        let is_named = topics.is_some();
        let mut topics = match topics {
            Some(topics) => fetch_some(offsets, topics),
            None => fetch_all(offsets),
        };
        let damaged = here.filter(|here| here.damage.is_some());
        if let Some(here) = damaged {
            hide_uncertain(here, id, &mut topics);
        }
        let error = match damaged {
            // What was asked for may not even be known by name.
            Some(_) if !is_named => INCOMPLETE,
            _ => ErrorCode::None,
        };
        GroupOffsets { error, topics }
    }

    pub(crate) fn delete_offsets(
        &mut self,
        now: Now,
        ticket: Ticket,
        index: u32,
        (id, topics): (String, TopicPartitions),
        out: &mut Outbox,
    ) {
        let here = self.partitions.get_mut(&index);
        let group = here.as_ref().and_then(|here| here.groups.get(id.as_str()));
        let missing = missing_group(here.as_deref());
        let is_uncertain = |key: &RecordKey| here.as_ref().is_some_and(|it| it.is_uncertain(key));
        let decided = match group {
            Some(group) => group.delete_offsets(now, topics, missing, is_uncertain),
            None => Err(missing),
        };
        let (records, answer) = match decided {
            Ok((records, topics)) => {
                let error = ErrorCode::None;
                (records, GroupAnswer::DeleteOffsets { error, topics })
            }
            Err(error) => {
                let topics = Vec::new();
                let answer = GroupAnswer::DeleteOffsets { error, topics };
                return self.answer(ticket, answer, out);
            }
        };
        match here {
            Some(here) if !records.is_empty() => {
                here.append(records, Gate::Answer(ticket, answer), out);
            }
            _ => self.answer(ticket, answer, out),
        }
    }

    /// DeleteGroups: the group and its offsets go.
    pub(crate) fn delete(
        &mut self,
        now: Now,
        ticket: Ticket,
        index: u32,
        id: &str,
        out: &mut Outbox,
    ) {
        let here = self.partitions.get_mut(&index);
        let group = here.as_ref().and_then(|here| here.groups.get(id));
        let error = match group {
            Some(group) if group.state != GroupState::Empty => ErrorCode::NonEmptyGroup,
            Some(group) if !group.is_unknown() => ErrorCode::None,
            _ => missing_group(here.as_deref()),
        };
        let answer = GroupAnswer::Delete(error);
        let (Some(here), ErrorCode::None) = (here, error) else {
            return self.answer(ticket, answer, out);
        };
        let Some(group) = here.groups.get_mut(id) else {
            return self.answer(ticket, answer, out);
        };
        // Ids that were given out are of a group that is no more.
        group.pending_joins.clear();
        let mut records = group.offset_tombstones(now, |_| true);
        if let (Some(last), Some(_)) = (records.last_mut(), group.record.latest()) {
            last.group(&group.id, None);
        }
        let id = Arc::clone(&group.id);
        if records.iter().all(Records::is_empty) {
            self.answer(ticket, answer, out);
            return self.remove_if_gone(index, &id);
        }
        here.append_all(records, Gate::Answer(ticket, answer), out);
    }

    /// A topic was deleted, or one of a name that may have been there before was created: what was
    /// committed for it goes.
    pub fn topic_deleted(&mut self, now: Now, topic: &str, out: &mut Outbox) {
        for here in self.partitions.values_mut() {
            match here.phase {
                Phase::Active => {
                    let tombstones = here.topic_tombstones(now, topic);
                    here.append_all(tombstones, Gate::None, out);
                }
                // Its offsets may come later in the log.
                Phase::Loading => {
                    here.past_topics.insert(Arc::from(topic));
                }
                Phase::Absent | Phase::Unavailable => {}
            }
        }
    }
}

impl Partition {
    /// Sends batches on their way, the last of which holds the gate: it must not be empty if there
    /// is one.
    pub(crate) fn append_all(&mut self, batches: Vec<Records>, gate: Gate, out: &mut Outbox) {
        let mut gate = Some(gate);
        let mut batches = batches.into_iter().peekable();
        while let Some(records) = batches.next() {
            let gate = match batches.peek() {
                Some(_) => Gate::None,
                None => gate.take().unwrap_or(Gate::None),
            };
            if !records.is_empty() {
                self.append(records, gate, out);
            }
        }
    }

    /// Removes the offsets of a topic from all groups.
    pub(crate) fn topic_tombstones(&self, now: Now, topic: &str) -> Vec<Records> {
        let mut batches = vec![Records::at(now.wall_ms)];
        for id in self.groups_with_topic(topic) {
            if let Some(group) = self.groups.get(&id) {
                group.add_tombstones(&mut batches, |name| name == topic);
            }
        }
        batches
    }
}

impl Group {
    /// Batches that remove the offsets of the topics `is_chosen` names: at least one, the last of
    /// them with room for the group's own record.
    pub(crate) fn offset_tombstones(
        &self,
        now: Now,
        is_chosen: impl Fn(&str) -> bool,
    ) -> Vec<Records> {
        let mut batches = vec![Records::at(now.wall_ms)];
        self.add_tombstones(&mut batches, is_chosen);
        batches
    }

    fn add_tombstones(&self, batches: &mut Vec<Records>, is_chosen: impl Fn(&str) -> bool) {
        let chosen = self.offsets.iter().filter(|(topic, _)| is_chosen(topic));
        for (topic, slots) in chosen {
            let live = slots.iter().filter(|(_, slot)| slot.latest().is_some());
            for (partition, _) in live {
                let is_full = batches
                    .last()
                    .is_none_or(|b| b.bytes() > TOMBSTONES_BYTES_MAX);
                if is_full {
                    let timestamp = batches.last().map_or(0, Records::timestamp);
                    batches.push(Records::at(timestamp));
                }
                if let Some(batch) = batches.last_mut() {
                    batch.offset(&self.id, topic, *partition, None);
                }
            }
        }
    }

    /// OffsetDelete: the records it makes, and the code of each partition.
    fn delete_offsets(
        &self,
        now: Now,
        topics: TopicPartitions,
        missing: ErrorCode,
        is_uncertain: impl Fn(&RecordKey) -> bool,
    ) -> Result<(Records, Vec<PartitionResults>), ErrorCode> {
        let is_consumer = self.protocol_type.as_deref() == Some("consumer");
        if self.is_unknown() {
            return Err(missing);
        }
        if self.state != GroupState::Empty && !is_consumer {
            return Err(ErrorCode::NonEmptyGroup);
        }
        let subscribed = self.subscribed_topics();
        let mut records = Records::at(now.wall_ms);
        let mut results = Vec::with_capacity(topics.len());
        for (topic, partitions) in topics {
            let is_subscribed = subscribed.as_ref().is_none_or(|all| all.contains(&*topic));
            let error = if is_subscribed && self.state != GroupState::Empty {
                ErrorCode::GroupSubscribedToTopic
            } else {
                ErrorCode::None
            };
            for partition in &partitions {
                let slots = self.offsets.get(&topic);
                let slot = slots.and_then(|slots| slots.get(partition));
                let is_live = slot.is_some_and(|slot| slot.latest().is_some());
                let key = RecordKey::Offset {
                    group: Arc::clone(&self.id),
                    topic: Arc::clone(&topic),
                    partition: *partition,
                };
                if error == ErrorCode::None && (is_live || is_uncertain(&key)) {
                    records.offset(&self.id, &topic, *partition, None);
                }
            }
            results.push(PartitionResults {
                topic,
                partitions: partitions.into_iter().map(|p| (p, error)).collect(),
            });
        }
        Ok((records, results))
    }
}

/// The records of a commit, and the code of each partition once they are durable.
fn commit_records(
    now: Now,
    id: &Arc<str>,
    request: &CommitRequest,
    metadata_bytes_max: usize,
) -> (Records, Vec<PartitionResults>) {
    let mut records = Records::at(now.wall_ms);
    let mut results = Vec::with_capacity(request.offsets.len());
    for (topic, offsets) in &request.offsets {
        let mut partitions = Vec::with_capacity(offsets.len());
        for committed in offsets {
            if committed.metadata.len() > metadata_bytes_max {
                let error = ErrorCode::OffsetMetadataTooLarge;
                partitions.push((committed.partition, error));
                continue;
            }
            partitions.push((committed.partition, ErrorCode::None));
            let stored = StoredOffset {
                offset: committed.offset,
                leader_epoch: committed.leader_epoch,
                metadata: Arc::from(committed.metadata.as_str()),
                commit_timestamp: now.wall_ms,
                expire_timestamp: -1,
            };
            records.offset(id, topic, committed.partition, Some(stored));
        }
        results.push(PartitionResults {
            topic: Arc::clone(topic),
            partitions,
        });
    }
    (records, results)
}

/// What is said of a group that is not known.
fn missing_group(here: Option<&Partition>) -> ErrorCode {
    match here.is_some_and(Partition::may_lack_groups) {
        true => INCOMPLETE,
        false => ErrorCode::GroupIdNotFound,
    }
}

/// Takes out what may be older than what was committed last. What is known is told in the metadata,
/// which no client takes for an offset, to whoever has to decide.
fn hide_uncertain(here: &Partition, id: &str, topics: &mut [(Arc<str>, Vec<FetchedOffset>)]) {
    let group: Arc<str> = Arc::from(id);
    for (topic, rows) in topics {
        for row in rows {
            let key = RecordKey::Offset {
                group: Arc::clone(&group),
                topic: Arc::clone(topic),
                partition: row.committed.partition,
            };
            if here.is_uncertain(&key) {
                let known = row.committed.offset;
                row.error = UNCERTAIN;
                row.committed.offset = -1;
                row.committed.leader_epoch = -1;
                row.committed.metadata = match known >= 0 {
                    true => format!("last known offset {known}; a later one may be lost"),
                    false => "none is known; one may be lost".to_owned(),
                };
            }
        }
    }
}

fn fetched(partition: i32, stored: Option<&StoredOffset>) -> FetchedOffset {
    FetchedOffset {
        error: ErrorCode::None,
        committed: CommittedOffset {
            partition,
            offset: stored.map_or(-1, |s| s.offset),
            leader_epoch: stored.map_or(-1, |s| s.leader_epoch),
            metadata: stored.map_or_else(String::new, |s| s.metadata.to_string()),
        },
    }
}

/// What a reader may see of a key. An offset that is not durable may be gone after a crash, and what
/// was read in front of it would be read again by nobody.
fn visible(slot: &Slot<StoredOffset>) -> Option<&StoredOffset> {
    match cfg!(mutant = "G02") {
        true => slot.latest(),
        false => slot.durable(),
    }
}

fn fetch_some(offsets: &Offsets, topics: TopicPartitions) -> Vec<(Arc<str>, Vec<FetchedOffset>)> {
    let answers = topics.into_iter().map(|(topic, partitions)| {
        let slots = offsets.get(&topic);
        let answers = partitions.into_iter().map(|partition| {
            let slot = slots.and_then(|slots| slots.get(&partition));
            fetched(partition, slot.and_then(|slot| visible(slot)))
        });
        let answers = answers.collect();
        (topic, answers)
    });
    answers.collect()
}

fn fetch_all(offsets: &Offsets) -> Vec<(Arc<str>, Vec<FetchedOffset>)> {
    let answers = offsets.iter().map(|(topic, slots)| {
        let seen = slots.iter().filter(|(_, slot)| visible(slot).is_some());
        let answers = seen.map(|(partition, slot)| fetched(*partition, visible(slot)));
        (Arc::clone(topic), answers.collect::<Vec<_>>())
    });
    answers.filter(|(_, found)| !found.is_empty()).collect()
}
