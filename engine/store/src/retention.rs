//! Housekeeping: retention by time and size, DeleteRecords, rolling by time, producer expiry.
//!
//! A segment goes only when the log start behind it is durable in the marks ledger: a crash between
//! the two leaves a segment that recovery removes, never a log that seems to lack its front. The
//! active segment goes by age only after it was rolled.

use std::collections::VecDeque;

use highwater_base::disk::DiskRequest;
use highwater_base::{Now, Offset};

use crate::log::{Log, LogId};
use crate::read::ReadError;
use crate::segment::segment_path;
use crate::shutdown::Shutdown;
use crate::store::{FileName, Store, StoreEvent};
use crate::{LedgerFlush, Mark};

/// How often every log is looked at.
const HOUSEKEEPING_INTERVAL_MS: u64 = 1000;
/// Logs looked at in one tick.
const LOGS_PER_TICK_MAX: usize = 256;

/// Log starts that wait for the ledger.
#[derive(Debug, Default)]
pub(crate) struct LogStarts {
    recorded: Vec<LogId>,
    flushing: VecDeque<(LedgerFlush, LogId, Offset)>,
}

impl LogStarts {
    pub fn is_idle(&self) -> bool {
        self.recorded.is_empty() && self.flushing.is_empty()
    }

    pub fn retain(&mut self, keeps: impl Fn(&LogId) -> bool) {
        self.recorded.retain(&keeps);
        self.flushing.retain(|(_, log, _)| keeps(log));
    }
}

impl Store {
    /// DeleteRecords: the log starts at `offset` from now on. [`StoreEvent::LogStart`] follows when
    /// that is durable; then whole segments below it go. An offset below the log start changes
    /// nothing and is confirmed all the same. What is deleted in one turn shares a flush.
    ///
    /// # Errors
    /// `OutOfRange` above the high-water mark.
    pub fn delete_records(&mut self, log: LogId, offset: Offset) -> Result<(), ReadError> {
        let state = self.log(log);
        if offset > state.durable.offset {
            return Err(ReadError::OutOfRange {
                log_start: state.log_start,
                high_watermark: state.durable.offset,
            });
        }
        if state
            .pending_log_start
            .is_none_or(|pending| offset > pending)
        {
            self.move_log_start(log, offset);
        }
        Ok(())
    }

    /// Housekeeping: marks that lag, rolling by time, retention, zeroing ahead, retries after a
    /// full disk.
    pub fn tick(&mut self, now: Now, disk: &mut Vec<DiskRequest>, events: &mut Vec<StoreEvent>) {
        self.drain_background(disk);
        if self.failed {
            return;
        }
        if self.shutdown == Shutdown::Serving {
            self.retry_full_disk(now);
            if now.reached(self.housekeeping_at_ns) {
                self.housekeep(now);
            }
        }
        self.step_scrub(now, disk);
        self.flush_log_starts(disk);
        self.drain_background(disk);
        self.issue_writes(now, disk);
        self.flush_ledger_if_due(now, disk);
        self.start_zeroing(disk);
        self.issue_locates(disk);
        self.issue_checks(disk);
        self.step_shutdown(disk, events);
    }

    /// When `tick` has something to do next.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let housekeeping = (!self.logs.is_empty()).then_some(self.housekeeping_at_ns);
        let retry = (!self.full_logs.is_empty()).then_some(self.retry_full_at_ns);
        let ledger = self.group_commit.ledger_due_at_ns;
        let confirm = self.group_commit.confirm_due_at_ns;
        let all = [
            housekeeping,
            retry,
            ledger,
            confirm,
            self.scrub_deadline_ns(),
        ];
        all.into_iter().flatten().min()
    }

    /// Looks at the next few logs; a round over all of them is due every second.
    fn housekeep(&mut self, now: Now) {
        let from = self.housekeeping_next_log;
        let to = self.logs.len().min(from + LOGS_PER_TICK_MAX);
        for at in from..to {
            let log = LogId(at as u32);
            if self.live_log(log).is_some() {
                self.housekeep_log(now, log);
            }
        }
        if to == self.logs.len() {
            self.housekeeping_next_log = 0;
            // Whoever waited for checked bytes has read them long since.
            while self.drop_chunk() {}
            self.housekeeping_at_ns = now.plus_ms(HOUSEKEEPING_INTERVAL_MS);
        } else {
            self.housekeeping_next_log = to;
        }
    }

    fn housekeep_log(&mut self, now: Now, log: LogId) {
        let expiration_ms = self.config.producer_id_expiration_ms;
        let state = self.log_mut(log);
        let durable = state.durable.offset;
        if let Some(producers) = &mut state.producers {
            producers.expire(now.wall_ms, expiration_ms, durable);
            if producers.is_empty() {
                state.producers = None;
            }
        }
        if state.segments.is_empty() || state.is_offline() {
            return;
        }
        if state.active_is_due(now) {
            self.seal_active(log);
        }
        let state = self.log(log);
        if let Some(start) = state.retention_start(now)
            && start > state.log_start
        {
            self.move_log_start(log, start);
        }
    }

    fn move_log_start(&mut self, log: LogId, offset: Offset) {
        let state = self.log_mut(log);
        let current = state.pending_log_start.unwrap_or(state.log_start);
        let offset = offset.max(current);
        state.pending_log_start = Some(offset);
        let key = state.key;
        let is_recorded = std::mem::replace(&mut state.log_start_recorded, true);
        self.ledger.record(Mark::LogStart { key, offset });
        if !is_recorded {
            self.log_starts.recorded.push(log);
        }
        if cfg!(mutant = "S10") {
            self.log_mut(log).log_start = offset;
            self.remove_below_start(log);
        }
    }

    /// One durable flush for all log starts recorded since the last one.
    pub(crate) fn flush_log_starts(&mut self, disk: &mut Vec<DiskRequest>) {
        if self.log_starts.recorded.is_empty() {
            return;
        }
        let flush = self.ledger.flush(!cfg!(mutant = "S09"), disk);
        let mut recorded = std::mem::take(&mut self.log_starts.recorded);
        for log in recorded.drain(..) {
            let Some(state) = self.live_log(log) else {
                continue;
            };
            state.log_start_recorded = false;
            if let Some(offset) = state.pending_log_start {
                self.log_starts.flushing.push_back((flush, log, offset));
            }
        }
        self.log_starts.recorded = recorded;
    }

    /// Log starts recorded before `flush` are durable: whole segments below them go.
    pub(crate) fn log_starts_flushed(&mut self, flush: LedgerFlush, events: &mut Vec<StoreEvent>) {
        while let Some(&(awaited, log, offset)) = self.log_starts.flushing.front() {
            if awaited.0 > flush.0 {
                return;
            }
            self.log_starts.flushing.pop_front();
            let Some(state) = self.live_log(log) else {
                continue;
            };
            if state.pending_log_start == Some(offset) {
                state.pending_log_start = None;
            }
            state.log_start = offset;
            state.forget_holes_below_start();
            events.push(StoreEvent::LogStart { log, offset });
            self.remove_below_start(log);
        }
    }

    fn remove_below_start(&mut self, log: LogId) {
        let state = self.log_mut(log);
        let start = state.log_start;
        let gone = state
            .segments
            .iter()
            .take_while(|segment| segment.is_removable() && segment.next_offset <= start)
            .count();
        if gone == 0 {
            return;
        }
        let directory = state.directory();
        let removed: Vec<_> = state.segments.drain(..gone).collect();
        state.epochs_below(start);
        if state.segments.is_empty() {
            // The last snapshot goes with its segment.
            self.snapshot_producers(log);
        }
        for segment in removed {
            while let Some(buffer) = self.log_mut(log).tail.pop_oldest_of(segment.base_offset) {
                self.release(buffer);
            }
            let file = segment.file.file;
            let name = self.files.get(&file).cloned();
            let path = name.map(FileName::into_current);
            self.detach(file);
            let (base, epoch) = (segment.base_offset, segment.epoch);
            let sidecars = ["index", "producers"];
            let sidecars = sidecars.map(|kind| segment_path(&directory, base, epoch, kind));
            for path in path.into_iter().chain(sidecars) {
                self.remove_path(path);
            }
        }
    }
}

impl Log {
    /// Whether the active segment must be rolled though nothing is appended: it is past
    /// `segment.ms`, or everything in it is past retention.
    fn active_is_due(&self, now: Now) -> bool {
        let Some(active) = self.active().filter(|segment| segment.data_bytes() > 0) else {
            return false;
        };
        if !self.is_quiet() || active.file.prepared_number.is_some() {
            return false;
        }
        let age_ms = now.wall_ms.saturating_sub(active.first_timestamp);
        let by_age = active.first_timestamp >= 0 && age_ms >= self.config.segment_ms;
        by_age || self.is_expired(active, now)
    }

    fn is_expired(&self, segment: &crate::segment::Segment, now: Now) -> bool {
        let retention_ms = self.config.retention_ms;
        retention_ms >= 0
            && segment.max_timestamp >= 0
            && now.wall_ms.saturating_sub(segment.max_timestamp) > retention_ms
    }

    /// Where the log should start by retention: behind the last segment that has to go.
    fn retention_start(&self, now: Now) -> Option<Offset> {
        let droppable = |segment: &&crate::segment::Segment| segment.is_removable();
        let mut start = None;
        let mut kept_bytes = self.size_bytes();
        for segment in self.segments.iter().take_while(droppable) {
            let below = segment.next_offset <= self.log_start;
            let bytes = segment.data_bytes();
            let too_large = self.config.retention_bytes >= 0
                && kept_bytes - bytes >= self.config.retention_bytes as u64;
            if !(below || too_large || self.is_expired(segment, now)) {
                break;
            }
            kept_bytes -= bytes;
            start = Some(segment.next_offset);
        }
        start
    }

    /// Epochs that ended before the log start are forgotten, except the one that holds it.
    fn epochs_below(&mut self, start: Offset) {
        let after = self.epochs.partition_point(|entry| entry.1 <= start);
        self.epochs.drain(..after.saturating_sub(1));
    }
}
