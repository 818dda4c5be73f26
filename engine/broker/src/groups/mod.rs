//! The groups of one core: routes requests to the core that has a group, drives its coordinator, and
//! brings answers back to the slots of the requests.
//!
//! A group lives on the core that owns its partition of `__consumer_offsets`. A client's request
//! becomes one [`GroupGather`] on the core of its connection and one message for each core with
//! groups in it; answers are encoded where they were asked for. Answers of a connection leave in the
//! order of its requests, as Kafka gives them: what is sent behind a join on the same connection
//! waits for it.
//!
//! What the coordinator writes and reads is in `log` and `loading`, damage to it in `damage`. What a
//! group is, is not known here: `highwater_groups` decides.

mod damage;
#[cfg(test)]
mod damage_tests;
mod loading;
mod log;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_base::{CoreId, ErrorCode, Now};
use highwater_groups::{
    Coordinator, DescribedGroup, GroupAnswer, GroupConfig, GroupOffsets, GroupRequest, JoinAnswer,
    OFFSETS_TOPIC, Output, PartitionResults, SyncAnswer, Ticket, offsets_partition,
};
use highwater_reactor::{ConnectionId, Outbox};
use highwater_store::LogId;
use highwater_wire::ApiKey;

use self::loading::Loads;
use self::log::OffsetsLog;
use crate::config::NodeConfig;
use crate::message::{GroupPart, Message};
use crate::metadata::image::LookupMap;
use crate::query::QueryOrigin;
use crate::shard::Shard;
use crate::slab::{Key, Slab};

/// The bytes of one group's members are at most the tail cache divided by this: they are one record,
/// and its batch has to fit an append window beside those of other partitions.
const GROUP_BYTES_SHARES: usize = 16;

/// Who asked a question that this core's coordinator has not answered.
#[derive(Clone, Copy, Debug)]
struct GroupOrigin {
    core: CoreId,
    ticket: u64,
    index: u32,
}

/// Answers to other cores of this turn, by core and ticket.
type GroupAnswers = BTreeMap<(CoreId, u64), Vec<(u32, GroupAnswer)>>;

/// A client's request that waits for coordinators.
#[derive(Debug)]
pub struct GroupGather {
    pub connection: ConnectionId,
    pub sequence: u64,
    pub api_key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// The request's body, decoded again for the answer, where the answer names what was asked.
    pub body: Vec<u8>,
    /// What the host refused by itself: one code for each partition or topic of the request.
    pub refused: Vec<ErrorCode>,
    /// One per question, in the order of the request.
    pub answers: Vec<Option<GroupAnswer>>,
    pub remaining: usize,
    /// Cores that were asked.
    pub cores: Vec<CoreId>,
}

/// The coordinator of this core and what it waits for.
#[derive(Debug)]
pub struct GroupHost {
    coordinator: Coordinator,
    outbox: Vec<Output>,
    pending: Slab<GroupOrigin>,
    /// The same by who asked, so that a request can be forgotten.
    waiting: BTreeSet<(CoreId, u64, Key)>,
    answers: GroupAnswers,
    logs: BTreeMap<u32, OffsetsLog>,
    partition_of: LookupMap<LogId, u32>,
    loads: Loads,
    /// Operators who take what is known of a damaged partition for what there is, by partition.
    accepting: Vec<(u32, QueryOrigin)>,
}

/// The coordinator's part of the node's configuration.
fn group_config(config: &NodeConfig, cores: usize, offsets_partitions: u32) -> GroupConfig {
    let cache_share = (config.tail_cache_mb << 20) / GROUP_BYTES_SHARES;
    GroupConfig {
        offsets_partitions,
        session_timeout_min_ms: config.group_session_timeout_min_ms,
        session_timeout_max_ms: config.group_session_timeout_max_ms,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        group_members_max: config.group_members_max,
        groups_max: config.groups_max.div_ceil(cores.max(1)),
        group_bytes_max: config.group_bytes_max.min(cache_share),
        offset_metadata_bytes_max: config.offset_metadata_bytes_max,
        offsets_retention_ms: config.offsets_retention_minutes * 60_000,
    }
}

impl GroupHost {
    /// A host without partitions. `id_seed` is fresh randomness for member ids.
    #[must_use]
    pub fn new(config: &NodeConfig, cores: usize, id_seed: u64) -> GroupHost {
        let config = group_config(config, cores, config.offsets_topic_partitions);
        GroupHost {
            coordinator: Coordinator::new(config, id_seed),
            outbox: Vec::new(),
            pending: Slab::default(),
            waiting: BTreeSet::new(),
            answers: BTreeMap::new(),
            logs: BTreeMap::new(),
            partition_of: LookupMap::default(),
            loads: Loads::default(),
            accepting: Vec::new(),
        }
    }

    /// What decides about the groups, to look at.
    #[must_use]
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// Questions the coordinator has not answered.
    #[must_use]
    pub fn requests_waiting(&self) -> usize {
        self.pending.len()
    }

    /// When [`Shard::tick_groups`] is wanted next.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let deadlines = [self.coordinator.next_deadline_ns(), self.loads.retry_at_ns];
        deadlines.into_iter().flatten().min()
    }
}

impl Shard {
    /// The core that has a group.
    pub(crate) fn core_of_group(&self, group: &str) -> Result<CoreId, ErrorCode> {
        let topic = self.image.topic_by_name(OFFSETS_TOPIC);
        let topic = topic.ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let partition = offsets_partition(group, topic.partitions);
        Ok(topic.core_of(partition, self.cores))
    }

    /// Asks the coordinators of these groups; [`Shard::answer_groups`] has the last word.
    pub(crate) fn ask_groups(
        &mut self,
        now: Now,
        gather: GroupGather,
        parts: Vec<(String, GroupRequest)>,
        out: &mut Outbox<Message>,
    ) {
        let routed = parts
            .into_iter()
            .map(|(group, request)| (self.core_of_group(&group), request))
            .collect();
        self.ask_cores(now, gather, routed, out);
    }

    /// The same with the cores known, or with the reason why there is none.
    pub(crate) fn ask_cores(
        &mut self,
        now: Now,
        mut gather: GroupGather,
        parts: Vec<(Result<CoreId, ErrorCode>, GroupRequest)>,
        out: &mut Outbox<Message>,
    ) {
        let connection = gather.connection;
        let mut by_core: BTreeMap<CoreId, Vec<GroupPart>> = BTreeMap::new();
        for (index, (core, request)) in parts.into_iter().enumerate() {
            let index = index as u32;
            match core {
                Err(code) => gather.answers.push(Some(refusal(&request, code))),
                Ok(core) => {
                    gather.answers.push(None);
                    gather.remaining += 1;
                    let parts = by_core.entry(core).or_default();
                    parts.push(GroupPart { index, request });
                }
            }
        }
        if gather.remaining == 0 {
            self.answer_groups(gather, out);
            return;
        }
        gather.cores = by_core.keys().copied().collect();
        let key = self.group_gathers.insert(gather);
        if let Some(state) = self.connections.get_mut(&connection) {
            state.group_requests.push(key);
        }
        let ticket = key.to_ticket();
        let here = by_core.remove(&self.core);
        for (core, parts) in by_core {
            out.mail(core, Message::Groups { ticket, parts });
        }
        if let Some(parts) = here {
            self.groups_for(now, self.core, ticket, parts, out);
        }
    }

    /// A core, this one or another, asks the coordinator here.
    pub(crate) fn groups_for(
        &mut self,
        now: Now,
        core: CoreId,
        ticket: u64,
        parts: Vec<GroupPart>,
        out: &mut Outbox<Message>,
    ) {
        for GroupPart { index, request } in parts {
            let host = &mut self.groups;
            let origin = GroupOrigin {
                core,
                ticket,
                index,
            };
            let key = host.pending.insert(origin);
            host.waiting.insert((core, ticket, key));
            let ticket = Ticket(key.to_ticket());
            let GroupHost {
                coordinator,
                outbox,
                ..
            } = host;
            coordinator.handle(now, ticket, request, outbox);
        }
        self.drive_groups(now, out);
    }

    /// Does what the coordinator wants, until it wants nothing more.
    pub(crate) fn drive_groups(&mut self, now: Now, out: &mut Outbox<Message>) {
        let mut outputs: VecDeque<Output> = self.groups.outbox.drain(..).collect();
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Answer(ticket, answer) => self.deliver_group_answer(ticket, answer, out),
                Output::Append {
                    partition,
                    write,
                    batch,
                } => {
                    if let Err(code) = self.append_offsets(now, partition, write, &batch) {
                        // Later writes of the partition go with it.
                        outputs.retain(|output| {
                            !matches!(output, Output::Append { partition: other, .. }
                                if *other == partition)
                        });
                        self.offsets_write_failed(now, partition, write, code);
                    }
                }
                Output::TruncateBefore { partition, offset } => {
                    self.truncate_offsets(partition, offset, out);
                }
                Output::LossNotAccepted { partition, error } => {
                    self.loss_not_accepted(partition, error, out);
                }
            }
            outputs.extend(self.groups.outbox.drain(..));
        }
    }

    fn deliver_group_answer(
        &mut self,
        ticket: Ticket,
        answer: GroupAnswer,
        out: &mut Outbox<Message>,
    ) {
        let key = Key::from_ticket(ticket.0);
        let Some(origin) = self.groups.pending.remove(key) else {
            return;
        };
        self.groups
            .waiting
            .remove(&(origin.core, origin.ticket, key));
        if origin.core == self.core {
            self.groups_done(origin.ticket, vec![(origin.index, answer)], out);
        } else {
            let place = (origin.core, origin.ticket);
            let answers = self.groups.answers.entry(place).or_default();
            answers.push((origin.index, answer));
        }
    }

    /// The answers of a turn leave together: a mailbox holds fewer messages than a request may have
    /// groups.
    pub(crate) fn send_group_answers(&mut self, out: &mut Outbox<Message>) {
        while let Some(((core, ticket), results)) = self.groups.answers.pop_first() {
            out.mail(core, Message::GroupsDone { ticket, results });
        }
    }

    /// Coordinators have answered; the last one releases the response.
    pub(crate) fn groups_done(
        &mut self,
        ticket: u64,
        results: Vec<(u32, GroupAnswer)>,
        out: &mut Outbox<Message>,
    ) {
        let key = Key::from_ticket(ticket);
        let Some(gather) = self.group_gathers.get_mut(key) else {
            return;
        };
        for (index, answer) in results {
            if let Some(place @ None) = gather.answers.get_mut(index as usize) {
                *place = Some(answer);
                gather.remaining -= 1;
            }
        }
        if gather.remaining > 0 {
            return;
        }
        if let Some(gather) = self.group_gathers.remove(key) {
            if let Some(state) = self.connections.get_mut(&gather.connection) {
                state.group_requests.retain(|other| *other != key);
            }
            self.answer_groups(gather, out);
        }
    }

    /// The client of a request is gone: nobody waits for its answers.
    pub(crate) fn drop_group_request(&mut self, key: Key, out: &mut Outbox<Message>) {
        let Some(gather) = self.group_gathers.remove(key) else {
            return;
        };
        let ticket = key.to_ticket();
        for core in gather.cores {
            if core == self.core {
                self.forget_groups(core, ticket);
            } else {
                out.mail(core, Message::GroupsForget { ticket });
            }
        }
    }

    /// A core waits for the answers to one of its requests no more.
    pub(crate) fn forget_groups(&mut self, core: CoreId, ticket: u64) {
        let host = &mut self.groups;
        let mut keys = host.waiting.split_off(&(core, ticket, Key::FIRST));
        let mut later = keys.split_off(&(core, ticket.saturating_add(1), Key::FIRST));
        host.waiting.append(&mut later);
        for (.., key) in keys {
            host.pending.remove(key);
            host.coordinator.forget(Ticket(key.to_ticket()));
        }
        host.answers.remove(&(core, ticket));
    }

    /// A topic is gone, and with it what was committed for it.
    pub(crate) fn groups_lose_topic(&mut self, now: Now, topic: &str, out: &mut Outbox<Message>) {
        let GroupHost {
            coordinator,
            outbox,
            ..
        } = &mut self.groups;
        coordinator.topic_deleted(now, topic, outbox);
        self.drive_groups(now, out);
    }

    /// Time has passed.
    pub(crate) fn tick_groups(&mut self, now: Now, out: &mut Outbox<Message>) {
        let host = &mut self.groups;
        let due = host.coordinator.next_deadline_ns();
        if due.is_some_and(|deadline| now.reached(deadline)) {
            host.coordinator.tick(now, &mut host.outbox);
            self.drive_groups(now, out);
        }
        self.retry_loads(now, out);
    }
}

/// The answer to a request whose group has no coordinator: the reason, or that there is no such
/// group to those who only look.
fn refusal(request: &GroupRequest, error: ErrorCode) -> GroupAnswer {
    let refused =
        |topic: &std::sync::Arc<str>, partitions: &mut dyn Iterator<Item = i32>| PartitionResults {
            topic: std::sync::Arc::clone(topic),
            partitions: partitions.map(|partition| (partition, error)).collect(),
        };
    match request {
        GroupRequest::Join(join) => GroupAnswer::Join(JoinAnswer {
            error,
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member: join.member.clone(),
            members: Vec::new(),
        }),
        GroupRequest::Sync(_) => GroupAnswer::Sync(SyncAnswer {
            error,
            protocol_type: None,
            protocol_name: None,
            assignment: Vec::new(),
        }),
        GroupRequest::Heartbeat(_) => GroupAnswer::Heartbeat(error),
        GroupRequest::Leave { .. } => GroupAnswer::Leave {
            error,
            members: Vec::new(),
        },
        GroupRequest::Commit(commit) => GroupAnswer::Commit(
            commit
                .offsets
                .iter()
                .map(|(topic, offsets)| {
                    refused(topic, &mut offsets.iter().map(|offset| offset.partition))
                })
                .collect(),
        ),
        GroupRequest::FetchOffsets { .. } => GroupAnswer::FetchOffsets(GroupOffsets {
            error,
            topics: Vec::new(),
        }),
        GroupRequest::DeleteOffsets { .. } => GroupAnswer::DeleteOffsets {
            error,
            topics: Vec::new(),
        },
        GroupRequest::List { .. } => GroupAnswer::List {
            error: ErrorCode::None,
            groups: Vec::new(),
        },
        GroupRequest::Describe { group } => GroupAnswer::Describe(DescribedGroup {
            error: ErrorCode::None,
            group: group.clone(),
            state: "Dead",
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }),
        GroupRequest::Delete { .. } => GroupAnswer::Delete(error),
    }
}
