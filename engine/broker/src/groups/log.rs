//! The log of offsets: what the coordinator writes, until it is durable or given up.
//!
//! Writes of a partition become durable in order, so that a queue per partition is enough.

use std::collections::VecDeque;

use highwater_base::disk::DiskError;
use highwater_base::{BatchHeader, ErrorCode, Now, Offset};
use highwater_groups::WriteId;
use highwater_reactor::Outbox;
use highwater_store::{AppendError, LogId};

use super::GroupHost;
use crate::message::Message;
use crate::shard::Shard;

/// A write on its way to the disk.
#[derive(Clone, Copy, Debug)]
struct Write {
    id: WriteId,
    base_offset: Offset,
    next_offset: Offset,
}

/// One partition of `__consumer_offsets` on this core.
#[derive(Debug)]
pub(super) struct OffsetsLog {
    pub log: LogId,
    writes: VecDeque<Write>,
}

impl OffsetsLog {
    pub fn new(log: LogId) -> OffsetsLog {
        OffsetsLog {
            log,
            writes: VecDeque::new(),
        }
    }

    /// The oldest write, if it lies in front of `offset`.
    fn pop_durable(&mut self, offset: Offset) -> Option<Write> {
        let first = self.writes.front()?;
        (first.next_offset <= offset).then(|| self.writes.pop_front())?
    }

    /// The first write behind `from`; it and all later ones are taken out.
    fn give_up_from(&mut self, from: Offset) -> Option<WriteId> {
        let first = self
            .writes
            .iter()
            .position(|write| write.next_offset > from)?;
        let id = self.writes[first].id;
        self.writes.truncate(first);
        Some(id)
    }
}

/// What a refused append is for a client.
fn code_of(error: AppendError) -> ErrorCode {
    match error {
        AppendError::DiskFull | AppendError::Offline => ErrorCode::KafkaStorageError,
        AppendError::TooLarge => ErrorCode::RecordListTooLarge,
        // A client asks again: the tail cache is exhausted, or the node is stopping.
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}

impl Shard {
    /// Appends one batch of the coordinator.
    pub(super) fn append_offsets(
        &mut self,
        now: Now,
        partition: u32,
        write: WriteId,
        batch: &[u8],
    ) -> Result<(), ErrorCode> {
        let place = self.groups.logs.get_mut(&partition);
        let place = place.ok_or(ErrorCode::NotCoordinator)?;
        let header = BatchHeader::parse(batch)
            .ok()
            .filter(|header| header.total_bytes() == batch.len());
        let Some(header) = header else {
            tracing::error!(partition, "the coordinator wrote what is no record batch");
            return Err(ErrorCode::UnknownServerError);
        };
        let appended = self.store.append(place.log, now, &header, batch, None);
        let appended = appended.map_err(|error| {
            match code_of(error) {
                // The client asks again, and there may be many of them.
                code @ ErrorCode::CoordinatorNotAvailable => {
                    tracing::debug!(%error, partition, "the log of offsets refuses a write");
                    code
                }
                code => {
                    tracing::warn!(%error, partition, "the log of offsets refuses a write");
                    code
                }
            }
        })?;
        let records = appended.next_offset.0 - appended.base_offset.0;
        let meter = &mut self.partitions[place.log.0 as usize].meter;
        meter.count_in(records, batch.len());
        self.meters.total.count_in(records, batch.len());
        place.writes.push_back(Write {
            id: write,
            base_offset: appended.base_offset,
            next_offset: appended.next_offset,
        });
        Ok(())
    }

    /// A write was refused; the coordinator gives up what depends on it.
    pub(super) fn offsets_write_failed(
        &mut self,
        now: Now,
        partition: u32,
        write: WriteId,
        error: ErrorCode,
    ) {
        let GroupHost {
            coordinator,
            outbox,
            ..
        } = &mut self.groups;
        coordinator.failed(now, partition, write, error, outbox);
    }

    /// A log is durable up to `offset`; it may be one of offsets.
    pub(crate) fn offsets_durable(
        &mut self,
        now: Now,
        log: LogId,
        offset: Offset,
        out: &mut Outbox<Message>,
    ) {
        let Some(&partition) = self.groups.partition_of.get(&log) else {
            return;
        };
        let GroupHost {
            coordinator,
            outbox,
            logs,
            ..
        } = &mut self.groups;
        let Some(place) = logs.get_mut(&partition) else {
            return;
        };
        while let Some(write) = place.pop_durable(offset) {
            coordinator.durable(now, partition, write.id, write.base_offset, outbox);
        }
        self.drive_groups(now, out);
    }

    /// Appends to a log from `from` on were dropped before they were durable; it may be one of
    /// offsets.
    pub(crate) fn offsets_discarded(
        &mut self,
        now: Now,
        log: LogId,
        from: Offset,
        error: DiskError,
        out: &mut Outbox<Message>,
    ) {
        let Some(&partition) = self.groups.partition_of.get(&log) else {
            return;
        };
        let place = self.groups.logs.get_mut(&partition);
        if let Some(write) = place.and_then(|place| place.give_up_from(from)) {
            tracing::error!(%error, partition, "group changes were given up");
            self.offsets_write_failed(now, partition, write, ErrorCode::KafkaStorageError);
            self.drive_groups(now, out);
        }
    }
}
