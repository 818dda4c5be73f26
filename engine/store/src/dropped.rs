//! Partitions that are gone: what is still under way for them, and when their ids may serve again.
//!
//! Queues hold ids, and a dropped log is not searched in all of them: it is passed over where it
//! turns up. Once many ids are of dropped logs, one pass takes them out of every queue, so that
//! topics that come and go leave nothing behind; then the ids are free.

use std::rc::Rc;

use highwater_base::disk::DiskRequest;

use crate::log::LogId;
use crate::store::Store;
use crate::{Mark, PartitionKey};

/// The queues are gone through when this part of all ids are of dropped logs.
const RETIRED_SHARES: usize = 4;

/// A dropped partition whose last disk operations are still under way.
#[derive(Debug)]
struct Dropping {
    log: LogId,
    operations: u32,
    directory: String,
}

/// What is left of dropped partitions.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    dropping: Vec<Dropping>,
    /// Ids of dropped logs that queues or disk operations may still name.
    retired: Vec<LogId>,
    /// Ids that nothing names any more.
    pub free_ids: Vec<LogId>,
}

impl Store {
    /// Forgets the partition and removes its directory. The caller holds a durable tombstone.
    pub fn drop_partition(&mut self, log: LogId, disk: &mut Vec<DiskRequest>) {
        let Some(mut state) = self.logs[log.0 as usize].take() else {
            return;
        };
        self.ledger.record(Mark::Dropped { key: state.key });
        let prepared = state.prepared.iter().map(|prepared| prepared.file);
        let files = state.segments.iter().map(|segment| segment.file.file);
        for file in files.chain(prepared) {
            self.detach(file);
        }
        while let Some(buffer) = state.tail.pop_oldest() {
            self.release(buffer);
        }
        if let Some(loading) = state.loading.take() {
            self.release(loading.window);
            self.release(loading.interim);
        }
        self.group_commit.forget_dirty(log);
        // The map's, and the one here.
        if Rc::strong_count(&state.topic) == 2 {
            self.topics.remove(&state.key.topic_id);
        }
        let dropping = Dropping {
            log,
            operations: state.operations,
            directory: state.directory(),
        };
        if dropping.operations == 0 {
            self.remove_path(dropping.directory);
        } else {
            self.dropped.dropping.push(dropping);
        }
        self.dropped.retired.push(log);
        self.drain_background(disk);
    }

    /// Takes ids of dropped logs out of every queue and makes them free, when there are many.
    /// Between two turns, because the host may still be told of what they did in this one.
    pub(crate) fn free_dropped_ids(&mut self) {
        let retired = self.dropped.retired.len();
        if retired == 0 || retired * RETIRED_SHARES < self.logs.len() {
            return;
        }
        self.sweep_lent();
        let logs = &self.logs;
        let is_live = |log: &LogId| logs[log.0 as usize].is_some();
        self.window_clock.retain(is_live);
        self.cache_order.retain(is_live);
        self.zero_queue.retain(is_live);
        self.full_logs.retain(is_live);
        self.log_starts.retain(is_live);
        self.group_commit.retain_waiting(is_live);
        self.lookups.locates.retain_waiting(is_live);
        let Dropped {
            dropping,
            retired,
            free_ids,
        } = &mut self.dropped;
        let mut busy: Vec<LogId> = dropping.iter().map(|entry| entry.log).collect();
        busy.sort_unstable();
        retired.retain(|log| {
            let is_busy = busy.binary_search(log).is_ok();
            if !is_busy {
                free_ids.push(*log);
            }
            is_busy
        });
    }

    /// The partition behind an id, unless it was dropped. What was asked of a partition may end
    /// after that, and its id may be another one's by then.
    #[must_use]
    pub fn key(&self, log: LogId) -> Option<PartitionKey> {
        let log = self.logs.get(log.0 as usize)?.as_deref();
        log.map(|log| log.key)
    }

    /// Where a failed operation of a log was, for the message.
    pub(crate) fn directory_of(&mut self, log: LogId) -> String {
        if let Some(state) = self.live_log(log) {
            return state.directory();
        }
        let dropping = self.dropped.dropping.iter().find(|entry| entry.log == log);
        dropping.map_or("a file".to_owned(), |entry| entry.directory.clone())
    }

    /// Counts down the operations of a log, and removes a dropped one after its last.
    pub(crate) fn operation_done(&mut self, log: LogId) {
        if let Some(state) = self.live_log(log) {
            state.operations -= 1;
            return;
        }
        let Some(at) = self
            .dropped
            .dropping
            .iter()
            .position(|entry| entry.log == log)
        else {
            return;
        };
        self.dropped.dropping[at].operations -= 1;
        if self.dropped.dropping[at].operations == 0 {
            let gone = self.dropped.dropping.swap_remove(at);
            self.remove_path(gone.directory);
        }
    }
}
