//! Partitions that are gone: what is still under way for them, and when their ids may serve again.
//!
//! Queues hold ids, and a dropped log is not searched in all of them: it is passed over where it
//! turns up. Once many ids are of dropped logs, one pass takes them out of every queue, so that
//! topics that come and go leave nothing behind; then the ids are free.
//!
//! The directory of a dropped partition is removed or moved aside, as the host says; what moves ends
//! with the operations under way. Where that fails the host is told and the directory stays.

use std::collections::BTreeMap;
use std::rc::Rc;

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};

use crate::log::LogId;
use crate::store::{Store, StoreEvent, token, token_kind};
use crate::{Mark, PartitionKey};

/// The queues are gone through when this part of all ids are of dropped logs.
const RETIRED_SHARES: usize = 4;

/// A dropped partition whose last disk operations are still under way.
#[derive(Debug)]
struct Dropping {
    log: LogId,
    operations: u32,
    directory: String,
    /// Where the directory goes after that; `None` when it is removed.
    aside: Option<String>,
}

/// What is left of dropped partitions.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    dropping: Vec<Dropping>,
    /// Ids of dropped logs that queues or disk operations may still name.
    retired: Vec<LogId>,
    /// Ids that nothing names any more.
    pub free_ids: Vec<LogId>,
    /// Moves and notes under way, by the number in their token: what stays behind if they fail.
    moving: BTreeMap<u32, String>,
    next_move: u32,
}

impl Store {
    /// Forgets the partition and removes its directory. The caller holds a durable tombstone.
    pub fn drop_partition(&mut self, log: LogId, disk: &mut Vec<DiskRequest>) {
        self.drop_log(log, None, disk);
    }

    /// Forgets the partition and moves its directory to `aside`. True when there is something to
    /// keep: a directory without records is removed. The caller holds a durable tombstone.
    pub fn drop_partition_to(
        &mut self,
        log: LogId,
        aside: String,
        disk: &mut Vec<DiskRequest>,
    ) -> bool {
        let state = self.live_log(log);
        let keeps = state.is_some_and(|log| !log.segments.is_empty() || !log.holes.is_empty());
        self.drop_log(log, keeps.then_some(aside), disk);
        keeps
    }

    /// Moves a file or directory that no log of this store has. [`StoreEvent::StaysBehind`] follows
    /// when that fails; a path that is not there is fine.
    pub fn move_aside(&mut self, from: String, to: String, disk: &mut Vec<DiskRequest>) {
        self.push_move(from.clone(), DiskOperation::Rename { from, to });
        self.drain_background(disk);
    }

    /// Writes a small file beside what was moved. [`StoreEvent::StaysBehind`] follows when that
    /// fails.
    pub fn write_note(&mut self, path: String, bytes: Vec<u8>, disk: &mut Vec<DiskRequest>) {
        self.push_move(path.clone(), DiskOperation::WriteWhole { path, bytes });
        self.drain_background(disk);
    }

    /// Removes a file or directory that no log of this store has.
    pub fn discard(&mut self, path: String, disk: &mut Vec<DiskRequest>) {
        self.push_move(path.clone(), DiskOperation::Remove { path });
        self.drain_background(disk);
    }

    fn push_move(&mut self, path: String, operation: DiskOperation) {
        let number = self.dropped.next_move;
        self.dropped.next_move = number.wrapping_add(1);
        self.dropped.moving.insert(number, path);
        self.background_in_flight += 1;
        self.background.push(DiskRequest {
            token: token(token_kind::MOVE_ASIDE, number),
            operation,
        });
    }

    /// A move or a note has ended.
    pub(crate) fn move_done(
        &mut self,
        number: u32,
        result: Result<usize, DiskError>,
        events: &mut Vec<StoreEvent>,
    ) {
        self.background_in_flight -= 1;
        let path = self.dropped.moving.remove(&number);
        if let (Some(path), Err(error)) = (path, result)
            && error != DiskError::NotFound
        {
            events.push(StoreEvent::StaysBehind { path, error });
        }
    }

    /// What a move is about, for the message.
    pub(crate) fn path_of_move(&self, number: u32) -> String {
        let path = self.dropped.moving.get(&number).cloned();
        path.unwrap_or_else(|| "a file".to_owned())
    }

    fn drop_log(&mut self, log: LogId, aside: Option<String>, disk: &mut Vec<DiskRequest>) {
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
            aside,
        };
        if dropping.operations == 0 {
            self.clear_away(dropping);
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
        self.lookups.checks.retain_waiting(is_live);
        let Dropped {
            dropping,
            retired,
            free_ids,
            ..
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
            self.clear_away(gone);
        }
    }

    fn clear_away(&mut self, gone: Dropping) {
        match gone.aside {
            None => self.remove_path(gone.directory),
            Some(to) => {
                let from = gone.directory;
                self.push_move(from.clone(), DiskOperation::Rename { from, to });
            }
        }
    }
}
