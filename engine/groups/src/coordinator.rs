//! The coordinator of the groups of one core.
//!
//! A partition is loading, active or not here. While it loads, requests for its groups are answered
//! with COORDINATOR_LOAD_IN_PROGRESS; for one that is not here, with NOT_COORDINATOR.
//!
//! Writes of one partition are numbered and become durable in order; what a write gates (an answer,
//! a committed offset that readers may see) happens when the host calls [`Coordinator::durable`].

use highwater_base::{BatchHeader, ErrorCode, Now, Offset};

use crate::answer::GroupAnswer;
use crate::request::GroupRequest;

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
    /// Everything in front of this offset has been written again: delete it.
    TruncateBefore { partition: u32, offset: Offset },
}

/// Collects what the host has to do.
pub type Outbox = Vec<Output>;

/// All groups of one core.
#[derive(Debug)]
pub struct Coordinator {
    config: GroupConfig,
}

impl Coordinator {
    /// A coordinator without partitions. `id_seed` is fresh randomness for member ids.
    #[must_use]
    pub fn new(config: GroupConfig, id_seed: u64) -> Coordinator {
        let _ = id_seed;
        Coordinator { config }
    }

    /// New bounds and delays, from the dynamic configuration.
    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// A partition is this core's now; its log is being read.
    pub fn begin_loading(&mut self, partition: u32) {
        let _ = partition;
    }

    /// One batch of its log, in order.
    ///
    /// # Errors
    /// Records that cannot be understood, by offset and reason.
    pub fn load_batch(
        &mut self,
        partition: u32,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<(), String> {
        let _ = (partition, header, batch);
        Ok(())
    }

    /// Its log has been read; requests are served from now on. Offsets of topics that are gone are
    /// forgotten.
    pub fn finish_loading(
        &mut self,
        now: Now,
        partition: u32,
        topic_exists: &dyn Fn(&str) -> bool,
        out: &mut Outbox,
    ) {
        let _ = (now, partition, topic_exists, out);
    }

    /// A partition is this core's no more: whoever waits is told NOT_COORDINATOR.
    pub fn resign(&mut self, partition: u32, out: &mut Outbox) {
        let _ = (partition, out);
    }

    /// One request.
    pub fn handle(&mut self, now: Now, ticket: Ticket, request: GroupRequest, out: &mut Outbox) {
        let _ = (now, ticket, request, out);
    }

    /// A request is no longer waited for: its client is gone. A member that was joining stays one.
    pub fn forget(&mut self, ticket: Ticket) {
        let _ = ticket;
    }

    /// A topic was deleted: its committed offsets go.
    pub fn topic_deleted(&mut self, now: Now, topic: &str, out: &mut Outbox) {
        let _ = (now, topic, out);
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
        let _ = (now, partition, write, base_offset, out);
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
        let _ = (now, partition, write, error, out);
    }

    /// `next_deadline_ns` has been reached.
    pub fn tick(&mut self, now: Now, out: &mut Outbox) {
        let _ = (now, out);
    }

    /// When `tick` is wanted next.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        None
    }
}
