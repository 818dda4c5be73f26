//! What a step of one group leaves to its surroundings: answers to send, records to write, and what
//! is to happen when they are durable.
//!
//! Groups know neither their partition nor its log; the coordinator carries these out in order.

use std::sync::Arc;

use highwater_base::prng::Prng;
use highwater_base::{ErrorCode, Now};

use crate::answer::{GroupAnswer, JoinAnswer, SyncAnswer};
use crate::coordinator::{GroupConfig, Ticket};
use crate::group::Replaced;

/// What a write holds back until it is durable.
#[derive(Debug)]
pub(crate) enum Gate {
    None,
    /// An answer, and what it becomes when the write fails.
    Answer(Ticket, GroupAnswer),
    /// The assignment of one generation of a group.
    Assignment {
        group: Arc<str>,
        generation: i32,
        assignments: Vec<(String, Vec<u8>)>,
    },
    /// The new id of a static member.
    Replaced {
        group: Arc<str>,
        replaced: Box<Replaced>,
    },
    /// A part of a snapshot.
    Snapshot,
}

/// What is left to do after a step.
#[derive(Debug)]
pub(crate) enum Action {
    Answer(Ticket, GroupAnswer),
    /// Write this value of the group's own record.
    WriteGroup {
        value: Vec<u8>,
        gate: Gate,
    },
}

/// Numbers for metrics, counted since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounters {
    /// Generations whose assignment became durable.
    pub rebalances_completed: u64,
    /// JoinGroup requests.
    pub joins: u64,
    /// Members removed because their session or rebalance timeout passed.
    pub member_expirations: u64,
    /// Partitions whose offsets were committed durably.
    pub offsets_committed: u64,
    /// OffsetCommit requests.
    pub commits: u64,
    /// Offsets removed because their retention had passed.
    pub offsets_expired: u64,
    /// Records of other protocols that were skipped while loading.
    pub records_skipped: u64,
    /// Snapshots of a partition's live records that replaced the log before them.
    pub snapshots: u64,
    /// Writes that were given up.
    pub writes_failed: u64,
}

/// The surroundings of one step.
pub(crate) struct Turn<'a> {
    pub now: Now,
    pub config: &'a GroupConfig,
    pub ids: &'a mut Prng,
    pub counters: &'a mut GroupCounters,
    pub actions: Vec<Action>,
}

impl Turn<'_> {
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: GroupAnswer) {
        self.actions.push(Action::Answer(ticket, answer));
    }

    pub(crate) fn join(&mut self, ticket: Ticket, answer: JoinAnswer) {
        self.answer(ticket, GroupAnswer::Join(answer));
    }

    pub(crate) fn sync(&mut self, ticket: Ticket, answer: SyncAnswer) {
        self.answer(ticket, GroupAnswer::Sync(answer));
    }

    pub(crate) fn write(&mut self, value: Vec<u8>, gate: Gate) {
        self.actions.push(Action::WriteGroup { value, gate });
    }
}

/// What a client is told when a write was given up: Kafka's own table.
pub(crate) fn write_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}
