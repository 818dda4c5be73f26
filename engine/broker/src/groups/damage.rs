//! Damage in the log of offsets: who is told, and how an operator ends it.
//!
//! The carrier is DeleteRecords of a partition of `__consumer_offsets` with the offset -1 ("all there
//! is"), which is refused everywhere else in that topic: of a damaged partition it means that what is
//! known is taken for what there is. `highwater group accept-loss` sends it.
//!
//! What happens then, and why nothing known can be lost on the way: the coordinator writes its live
//! records behind the damage, where the log takes appends in spite of its holes; when they are
//! durable, the log start moves behind the damage; when that is durable, the files go, the holes are
//! of nothing that exists, and the request is answered. A crash before the log start is durable
//! leaves the damage in place and a part of the snapshot behind it; what is in that part is certain
//! then, as the operator wanted, the rest is uncertain as before, and he decides again.

use highwater_base::{ErrorCode, Now, Offset};
use highwater_reactor::Outbox;
use highwater_store::LogId;

use super::GroupHost;
use crate::message::{Message, QueryResult};
use crate::query::{PendingTrim, QueryOrigin};
use crate::shard::Shard;

impl Shard {
    /// An operator takes what is known of a partition for what there is. Answered at once when that
    /// cannot be.
    pub(crate) fn accept_loss(
        &mut self,
        now: Now,
        origin: QueryOrigin,
        log: LogId,
        out: &mut Outbox<Message>,
    ) -> Option<QueryResult> {
        let host = &mut self.groups;
        let Some(&partition) = host.partition_of.get(&log) else {
            return Some(QueryResult::Error(ErrorCode::PolicyViolation));
        };
        let accepted = host
            .coordinator
            .accept_loss(now, partition, &mut host.outbox);
        if let Err(code) = accepted {
            return Some(QueryResult::Error(code));
        }
        tracing::warn!(
            partition,
            "an operator accepts what is known of a damaged partition of offsets"
        );
        host.accepting.push((partition, origin));
        self.drive_groups(now, out);
        None
    }

    /// Everything in front of `offset` has been written again.
    pub(super) fn truncate_offsets(
        &mut self,
        partition: u32,
        offset: Offset,
        out: &mut Outbox<Message>,
    ) {
        let Some(log) = self.groups.logs.get(&partition).map(|place| place.log) else {
            return;
        };
        let accepting = self.groups.take_accepting(partition);
        match self.store.delete_records(log, offset) {
            Ok(()) => {
                let trims = accepting.map(|origin| PendingTrim { origin, offset });
                self.partitions[log.0 as usize].trims.extend(trims);
            }
            Err(error) => {
                tracing::warn!(%error, partition, %offset, "the log of offsets stays long");
                for origin in accepting {
                    let refused = QueryResult::Error(ErrorCode::KafkaStorageError);
                    self.answer_query(origin, refused, out);
                }
            }
        }
    }

    /// What an operator decided could not be written.
    pub(super) fn loss_not_accepted(
        &mut self,
        partition: u32,
        error: ErrorCode,
        out: &mut Outbox<Message>,
    ) {
        tracing::error!(
            code = error.kafka_name(),
            partition,
            "the known offsets cannot be written again; the damage is as it was"
        );
        for origin in self.groups.take_accepting(partition) {
            self.answer_query(origin, QueryResult::Error(error), out);
        }
    }

    /// The start of a log is durable; it may be one of offsets.
    pub(crate) fn offsets_log_start_moved(&mut self, log: LogId, offset: Offset) {
        let Some(&partition) = self.groups.partition_of.get(&log) else {
            return;
        };
        let damaged = self.groups.is_damaged(partition);
        self.groups.coordinator.log_start_moved(partition, offset);
        if damaged && !self.groups.is_damaged(partition) {
            self.partitions[log.0 as usize].is_unvouched = false;
            tracing::info!(partition, "a partition of offsets is whole again");
        }
    }

    /// A log has been found damaged while it is served; it may be one of offsets.
    pub(crate) fn offsets_damaged(&mut self, now: Now, log: LogId, out: &mut Outbox<Message>) {
        let Some(&partition) = self.groups.partition_of.get(&log) else {
            return;
        };
        self.store.allow_appends_behind_holes(log);
        let GroupHost {
            coordinator,
            outbox,
            ..
        } = &mut self.groups;
        coordinator.damaged_while_served(now, partition, outbox);
        self.drive_groups(now, out);
    }

    /// Says what a partition that was loaded lacks.
    pub(super) fn tell_damage(&self, partition: u32) {
        let damaged = self.groups.coordinator.damaged_partitions();
        for damage in damaged.filter(|damage| damage.partition == partition) {
            tracing::error!(
                partition,
                lost = ?damage.lost,
                uncertain_offsets = damage.uncertain_offsets,
                "part of a partition of __consumer_offsets is lost: groups are not told offsets \
                 that may be older than what they committed; `highwater group accept-loss` shows \
                 them and takes what is known for what there is"
            );
        }
    }
}

impl GroupHost {
    fn take_accepting(&mut self, partition: u32) -> impl Iterator<Item = QueryOrigin> + use<> {
        let all = std::mem::take(&mut self.accepting);
        let (taken, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(accepting, _)| *accepting == partition);
        self.accepting = kept;
        taken.into_iter().map(|(_, origin)| origin)
    }

    fn is_damaged(&self, partition: u32) -> bool {
        let mut damaged = self.coordinator.damaged_partitions();
        damaged.any(|damage| damage.partition == partition)
    }
}
