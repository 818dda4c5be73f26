//! The coordinator of the groups of one core.
//!
//! A partition is loading, active, unavailable or not here. While it loads, requests for its groups
//! are answered with COORDINATOR_LOAD_IN_PROGRESS; for one whose log cannot be read, with
//! COORDINATOR_NOT_AVAILABLE; for one that is not here, with NOT_COORDINATOR. Never is a group said
//! to be empty because its log is missing; one that is damaged in part is `damage`.
//!
//! Writes of one partition are numbered and become durable in order; what a write gates (an answer,
//! a committed offset that readers may see) happens when the host calls [`Coordinator::durable`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_base::prng::Prng;
use highwater_base::{ErrorCode, Now, Offset};

use crate::answer::{GroupAnswer, JoinAnswer};
use crate::expiry::Sweep;
use crate::group::Group;
use crate::partition::{Partition, PendingWrite, Phase, Records};
use crate::partitioning::offsets_partition;
use crate::request::GroupRequest;
use crate::timers::Timers;
use crate::turn::{Action, Gate, GroupCounters, Turn};

/// Groups whose deadlines are looked at in one tick; the others follow in the next.
const FIRED_PER_TICK_MAX: usize = 1000;

/// The host's name for a request; comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A write to one partition of the log of offsets; grows by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// Bounds and delays, by their names in the configuration.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// Partitions of the topic of offsets.
    pub offsets_partitions: u32,
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    pub initial_rebalance_delay_ms: u64,
    /// Members of one group.
    pub group_members_max: usize,
    /// Groups of one core, those that are only offsets included.
    pub groups_max: usize,
    /// Metadata and assignments of all members of one group.
    pub group_bytes_max: usize,
    /// Longest metadata of a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// How long offsets are kept after their group became empty.
    pub offsets_retention_ms: u64,
}

/// What the host has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this answer.
    Answer(Ticket, GroupAnswer),
    /// Append this record batch to the partition, behind the writes before it; then report
    /// [`Coordinator::durable`] or [`Coordinator::failed`].
    Append {
        partition: u32,
        write: WriteId,
        batch: Vec<u8>,
    },
    /// Everything in front of this offset has been written again: delete it, and report
    /// [`Coordinator::log_start_moved`].
    TruncateBefore { partition: u32, offset: Offset },
    /// What [`Coordinator::accept_loss`] began could not be written; the damage is as it was.
    LossNotAccepted { partition: u32, error: ErrorCode },
}

/// Collects what the host has to do.
pub type Outbox = Vec<Output>;

/// All groups of one core.
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) config: GroupConfig,
    ids: Prng,
    pub(crate) partitions: BTreeMap<u32, Partition>,
    timers: Timers,
    pub(crate) counters: GroupCounters,
    /// Requests that have not been answered and whose clients still wait.
    open: BTreeSet<Ticket>,
    pub(crate) sweep: Sweep,
}

impl Coordinator {
    /// A coordinator without partitions. `id_seed` is fresh randomness for member ids.
    #[must_use]
    pub fn new(config: GroupConfig, id_seed: u64) -> Coordinator {
        Coordinator {
            config,
            ids: Prng::new(id_seed),
            partitions: BTreeMap::new(),
            timers: Timers::default(),
            counters: GroupCounters::default(),
            open: BTreeSet::new(),
            sweep: Sweep::default(),
        }
    }

    /// The bounds and delays in force.
    #[must_use]
    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// New bounds and delays, from the dynamic configuration.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// A partition is this core's no more: whoever waits is told NOT_COORDINATOR.
    pub fn resign(&mut self, partition: u32, out: &mut Outbox) {
        let Some(here) = self.partitions.get_mut(&partition) else {
            return;
        };
        let groups = std::mem::take(&mut here.groups);
        let writes = here.reset(Phase::Absent);
        let error = ErrorCode::NotCoordinator;
        for group in groups.values() {
            self.timers.disarm(partition, group);
            for member in group.members.values() {
                if let Some(ticket) = member.join {
                    self.answer(ticket, GroupAnswer::join_failed("", error), out);
                }
                if let Some(ticket) = member.sync {
                    self.answer(ticket, GroupAnswer::sync_failed(error), out);
                }
            }
        }
        for write in writes {
            match write.gate {
                Gate::Answer(ticket, mut answer) => {
                    answer.fail(error);
                    self.answer(ticket, answer, out);
                }
                Gate::Joins(answers) => self.fail_joins(answers, error, out),
                _ => {}
            }
        }
    }

    /// One request.
    pub fn handle(&mut self, now: Now, ticket: Ticket, request: GroupRequest, out: &mut Outbox) {
        self.open.insert(ticket);
        if let GroupRequest::List {
            states,
            types,
            protocol_types,
        } = &request
        {
            let answer = self.list(states, types, protocol_types);
            return self.answer(ticket, answer, out);
        }
        let group = request.group().to_owned();
        let index = offsets_partition(&group, self.config.offsets_partitions);
        let phase = self.partitions.get(&index).map(|here| here.phase);
        let refusal = match phase {
            _ if group.is_empty() && request.needs_group_id() => Some(ErrorCode::InvalidGroupId),
            None | Some(Phase::Absent) => Some(ErrorCode::NotCoordinator),
            Some(Phase::Loading) => Some(ErrorCode::CoordinatorLoadInProgress),
            Some(Phase::Unavailable) => Some(ErrorCode::CoordinatorNotAvailable),
            Some(Phase::Active) => None,
        };
        match refusal {
            Some(error) => self.answer(ticket, GroupAnswer::refusal(&request, error), out),
            None => self.dispatch(now, ticket, index, request, out),
        }
    }

    fn dispatch(
        &mut self,
        now: Now,
        ticket: Ticket,
        index: u32,
        request: GroupRequest,
        out: &mut Outbox,
    ) {
        let id = request.group().to_owned();
        match request {
            GroupRequest::Join(_) => self.join(now, ticket, index, request, out),
            GroupRequest::Commit(commit) => self.commit(now, ticket, index, commit, out),
            GroupRequest::DeleteOffsets { topics, .. } => {
                self.delete_offsets(now, ticket, index, (id, topics), out);
            }
            GroupRequest::Delete { .. } => self.delete(now, ticket, index, &id, out),
            GroupRequest::FetchOffsets { topics, .. } => {
                let offsets = self.fetch_offsets(index, &id, topics);
                self.answer(ticket, GroupAnswer::FetchOffsets(offsets), out);
            }
            GroupRequest::Describe { .. } => {
                let group = self.describe(index, &id);
                self.answer(ticket, GroupAnswer::Describe(group), out);
            }
            // It was answered before.
            GroupRequest::List { .. } => {}
            GroupRequest::Sync(_) | GroupRequest::Heartbeat(_) | GroupRequest::Leave { .. } => {
                if !self.has_group(index, &id) {
                    let error = ErrorCode::UnknownMemberId;
                    return self.answer(ticket, GroupAnswer::refusal(&request, error), out);
                }
                self.step(now, index, &id, out, |group, turn| match request {
                    GroupRequest::Sync(sync) => group.sync(turn, ticket, sync),
                    GroupRequest::Heartbeat(identity) => {
                        let error = group.heartbeat(turn, &identity);
                        turn.answer(ticket, GroupAnswer::Heartbeat(error));
                    }
                    GroupRequest::Leave { members, .. } => group.leave(turn, ticket, members),
                    _ => unreachable!("only these three were let through"),
                });
            }
        }
    }

    fn join(
        &mut self,
        now: Now,
        ticket: Ticket,
        index: u32,
        request: GroupRequest,
        out: &mut Outbox,
    ) {
        self.counters.joins += 1;
        let refused = self.join_refusal(index, &request);
        let GroupRequest::Join(join) = request else {
            return;
        };
        if let Some(error) = refused {
            let answer = GroupAnswer::join_failed(&join.member, error);
            return self.answer(ticket, answer, out);
        }
        if let Some(here) = self.partitions.get_mut(&index) {
            here.group_or_new(&Arc::from(join.group.as_str()));
        }
        self.step(now, index, &join.group, out, |group, turn| {
            group.join(turn, ticket, &join);
        });
    }

    /// Why a join is refused before its group is looked at.
    fn join_refusal(&self, index: u32, request: &GroupRequest) -> Option<ErrorCode> {
        let GroupRequest::Join(join) = request else {
            return None;
        };
        let config = &self.config;
        let allowed = config.session_timeout_min_ms..=config.session_timeout_max_ms;
        if !allowed.contains(&join.session_timeout_ms) {
            return Some(ErrorCode::InvalidSessionTimeout);
        }
        if self.has_group(index, &join.group) {
            return None;
        }
        if !join.member.is_empty() {
            return Some(ErrorCode::UnknownMemberId);
        }
        self.is_full().then_some(ErrorCode::GroupMaxSizeReached)
    }

    fn has_group(&self, index: u32, id: &str) -> bool {
        let here = self.partitions.get(&index);
        here.is_some_and(|here| here.groups.contains_key(id))
    }

    /// Whether there is no room for another group.
    pub(crate) fn is_full(&self) -> bool {
        let groups = self.partitions.values().map(|here| here.groups.len());
        groups.sum::<usize>() >= self.config.groups_max
    }

    /// A request is no longer waited for: its client is gone. A member that was joining stays one.
    pub fn forget(&mut self, ticket: Ticket) {
        self.open.remove(&ticket);
    }

    /// A write, appended at `base_offset`, is durable.
    pub fn durable(
        &mut self,
        now: Now,
        partition: u32,
        write: WriteId,
        base_offset: Offset,
        out: &mut Outbox,
    ) {
        let Some(here) = self.partitions.get_mut(&partition) else {
            return;
        };
        for settled in here.settle(write) {
            let is_part = settled.id == write && matches!(settled.gate, Gate::Snapshot);
            if let (true, Some(here)) = (is_part, self.partitions.get_mut(&partition)) {
                here.note_snapshot_offset(write, base_offset);
            }
            self.open_gate(now, partition, settled, out);
        }
        if let Some(here) = self.partitions.get_mut(&partition) {
            here.snapshot_if_due(now, out);
        }
    }

    fn open_gate(&mut self, now: Now, index: u32, settled: PendingWrite, out: &mut Outbox) {
        match settled.gate {
            Gate::None => {}
            Gate::Answer(ticket, answer) => {
                if let GroupAnswer::Commit(results) = &answer {
                    let partitions = results.iter().flat_map(|topic| &topic.partitions);
                    let done = partitions.filter(|(_, error)| *error == ErrorCode::None);
                    self.counters.offsets_committed += done.count() as u64;
                }
                self.answer(ticket, answer, out);
            }
            Gate::Joins(answers) => {
                for (ticket, answer) in answers {
                    self.answer(ticket, GroupAnswer::Join(answer), out);
                }
            }
            Gate::Assignment {
                group,
                generation,
                assignments,
            } => self.step(now, index, &group, out, |group, turn| {
                group.assignment_durable(turn, generation, assignments);
            }),
            Gate::Replaced { group, replaced } => {
                self.step(now, index, &group, out, |group, turn| {
                    group.replacement_durable(turn, &replaced);
                });
            }
            Gate::Snapshot => {
                if let Some(here) = self.partitions.get_mut(&index) {
                    let is_complete = here.continue_snapshot(now, settled.id, out);
                    self.counters.snapshots += u64::from(is_complete);
                }
            }
        }
        self.drop_if_gone(index, &settled.keys);
    }

    /// Who was to be told a new generation joins again; a member that knows its id is let into the
    /// generation at once.
    fn fail_joins(
        &mut self,
        answers: Vec<(Ticket, JoinAnswer)>,
        error: ErrorCode,
        out: &mut Outbox,
    ) {
        for (ticket, _) in answers {
            self.answer(ticket, GroupAnswer::join_failed("", error), out);
        }
    }

    /// This write and all later ones of the partition were given up. `error` is the reason:
    /// KAFKA_STORAGE_ERROR for a full disk.
    pub fn failed(
        &mut self,
        now: Now,
        partition: u32,
        write: WriteId,
        error: ErrorCode,
        out: &mut Outbox,
    ) {
        let Some(here) = self.partitions.get_mut(&partition) else {
            return;
        };
        for given_up in here.give_up(write) {
            self.counters.writes_failed += 1;
            match given_up.gate {
                Gate::None => {}
                Gate::Answer(ticket, mut answer) => {
                    answer.fail(crate::turn::write_error(error));
                    self.answer(ticket, answer, out);
                }
                Gate::Joins(answers) => {
                    self.fail_joins(answers, crate::turn::write_error(error), out);
                }
                Gate::Assignment {
                    group, generation, ..
                } => self.step(now, partition, &group, out, |group, turn| {
                    group.assignment_failed(turn, generation, error);
                }),
                Gate::Replaced { group, replaced } => {
                    self.step(now, partition, &group, out, |group, turn| {
                        group.replacement_failed(turn, &replaced, error);
                    });
                }
                Gate::Snapshot => {
                    if let Some(here) = self.partitions.get_mut(&partition) {
                        here.abandon_snapshot();
                        here.loss_not_accepted(error, out);
                    }
                }
            }
            self.drop_if_gone(partition, &given_up.keys);
        }
    }

    /// `next_deadline_ns` has been reached.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..FIRED_PER_TICK_MAX {
            let Some((partition, group)) = self.timers.pop_due(now) else {
                break;
            };
            self.step(now, partition, &group, out, |group, turn| {
                group.armed_ns = None;
                group.fire(turn);
            });
        }
        self.sweep_expired(now, out);
    }

    /// When `tick` is wanted next.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let sweep = self.sweep_deadline_ns();
        self.timers.next_ns().into_iter().chain(sweep).min()
    }

    /// Sends an answer, unless the client is gone.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: GroupAnswer, out: &mut Outbox) {
        if self.open.remove(&ticket) {
            out.push(Output::Answer(ticket, answer));
        }
    }

    /// One step of one group, and what it leaves to do.
    pub(crate) fn step(
        &mut self,
        now: Now,
        index: u32,
        id: &str,
        out: &mut Outbox,
        act: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) {
        let Some(here) = self.partitions.get_mut(&index) else {
            return;
        };
        let Some(group) = here.groups.get_mut(id) else {
            return;
        };
        let mut turn = Turn {
            now,
            config: &self.config,
            ids: &mut self.ids,
            counters: &mut self.counters,
            actions: Vec::new(),
        };
        act(group, &mut turn);
        self.timers.arm(index, group);
        let (id, is_gone) = (Arc::clone(&group.id), group.is_gone());
        let is_settled = turn.actions.is_empty();
        for action in turn.actions {
            match action {
                Action::Answer(ticket, answer) => {
                    if self.open.remove(&ticket) {
                        out.push(Output::Answer(ticket, answer));
                    }
                }
                Action::WriteGroup { value, gate } => {
                    let mut records = Records::at(now.wall_ms);
                    records.group(&id, Some(value));
                    here.append(records, gate, out);
                }
            }
        }
        if is_gone || !is_settled {
            self.remove_if_gone(index, &id);
        }
    }

    pub(crate) fn remove_if_gone(&mut self, index: u32, id: &Arc<str>) {
        let Some(here) = self.partitions.get_mut(&index) else {
            return;
        };
        let is_gone = here.groups.get(id).is_some_and(Group::is_gone);
        if let (true, Some(group)) = (is_gone, here.groups.get(id)) {
            self.timers.disarm(index, group);
            here.groups.remove(id);
        }
    }

    fn drop_if_gone(&mut self, index: u32, keys: &[crate::partition::RecordKey]) {
        let mut last = None;
        for key in keys {
            if last != Some(key.group()) {
                self.remove_if_gone(index, key.group());
                last = Some(key.group());
            }
        }
    }
}
