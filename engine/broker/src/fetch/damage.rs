//! Bytes of a file that are not what they must be: how the sender of a range notices, and who is told.

use std::sync::Arc;

use highwater_base::disk::FileId;
use highwater_base::record_batch::HEADER_BYTES;
use highwater_base::{CoreId, Epoch, Offset};
use highwater_reactor::{HeadCheck, Outbox};
use highwater_store::{ExpectedBatch, Hole, LogId};

use crate::message::Message;
use crate::shard::Shard;

/// What the reactor looks at before it sends a range that begins with this batch.
pub(super) fn head_check(first: ExpectedBatch) -> HeadCheck {
    HeadCheck {
        bytes: HEADER_BYTES,
        facts: [
            first.holds.0 as u64,
            u64::from(first.epoch.0),
            first.bytes_max as u64,
        ],
        accepts: |head, facts| expected(facts).is_met_by(head),
    }
}

/// The batch that a check looks for.
pub(super) fn expected_by(check: &HeadCheck) -> ExpectedBatch {
    expected(check.facts)
}

fn expected([holds, epoch, bytes_max]: [u64; 3]) -> ExpectedBatch {
    ExpectedBatch {
        holds: Offset(holds as i64),
        epoch: Epoch(epoch as u32),
        bytes_max: bytes_max as usize,
    }
}

impl Shard {
    /// A range of a file could not be sent: the core whose log it is of checks it.
    pub(crate) fn bad_range(&mut self, file: FileId, position: u64, out: &mut Outbox<Message>) {
        let own = self.store.file_name(file).map(|name| name.path.clone());
        if let Some(path) = own {
            tracing::warn!(
                path,
                position,
                "a range of a segment could not be sent; it is checked"
            );
            self.store.suspect(&path, position);
            return;
        }
        // Whose it is the path does not say.
        if let Some(path) = self.foreign_files.path_of(file) {
            for core in (0..self.cores).map(|core| CoreId(core as u16)) {
                if core != self.core {
                    let path = Arc::clone(&path);
                    out.mail(core, Message::BadRange { path, position });
                }
            }
        }
    }

    /// Batches are damaged.
    pub(crate) fn damaged(&mut self, log: LogId, hole: Hole) {
        let key = self.store.key(log);
        let entry = key.and_then(|key| self.table.by_id(key.topic_id));
        let topic = entry.map_or("", |entry| &entry.name);
        let partition = key.map_or(-1, |key| key.partition.0);
        let (from, to) = (hole.from, hole.to);
        tracing::error!(
            topic,
            partition,
            from,
            to,
            "records are damaged on disk: reads of them fail, and the partition takes no more; \
             `highwater log verify` on the stopped node says what is wrong"
        );
    }
}
