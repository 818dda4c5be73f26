//! Group commit: which logs are dirty, which writes go out together, and what makes them durable.
//!
//! ```text
//! append ... append          end_turn                     complete (last write)   complete (flush)
//!   dirty = {a, b, c} ──────> group: write a, b, c ──────> one barrier ──────────> ends advance
//! ```
//! One write is under way per log and at most `barriers_in_flight_max` groups per core; what
//! becomes dirty meanwhile joins the next group, which goes out when a group ends. With one or two
//! dirty logs each write is durable itself and there is no barrier.
//!
//! The barrier is a durable write of the marks ledger. It carries the marks of *earlier* groups:
//! a device may persist the ledger's block before the data blocks it is flushed with, and a mark
//! that is ahead of its data would make recovery take a torn tail for rot.

use std::rc::Rc;

use highwater_base::Now;
use highwater_base::disk::{DiskError, DiskOperation, DiskRequest, DiskToken};

use crate::log::{DurableEnd, InFlight, Log, LogId};
use crate::segment::{FileState, block_ceil, block_floor};
use crate::store::{Barrier, Store, StoreEvent, token, token_kind};
use crate::{LedgerFlush, Mark};

/// With so many dirty logs or fewer, each write is its own barrier.
const INDIVIDUALLY_DURABLE_MAX: usize = 2;
/// Segment files being created at once for logs that wait with appends.
const CREATES_IN_FLIGHT_MAX: usize = 64;
/// `group` byte of a token whose request is a `Create`.
const CREATE_GROUP: u64 = 0xff;
/// Times of ended groups that are kept until the host takes them; more are not kept.
const TIMES_KEPT_MAX: usize = 64;

#[derive(Debug, PartialEq, Eq)]
enum GroupState {
    Free,
    Writing,
    Flushing(LedgerFlush),
}

#[derive(Debug)]
struct Group {
    state: GroupState,
    writes_in_flight: u32,
    /// When its writes were issued.
    issued_ns: u64,
    /// Logs whose plain writes wait for the barrier, and up to where.
    waiting: Vec<(LogId, DurableEnd)>,
}

/// Dirty logs and groups under way.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    pub dirty: Vec<LogId>,
    /// The list swapped with `dirty` while that is worked through; kept for its capacity.
    spare: Vec<LogId>,
    groups: Vec<Group>,
    creates_in_flight: usize,
    /// Bytes appended since marks were last handed to the disk.
    pub bytes_since_ledger: u64,
    /// When marks that wait must go out.
    pub ledger_due_at_ns: Option<u64>,
    /// When marks that were written plainly must be followed by a barrier, unless a durable write
    /// was one meanwhile.
    pub confirm_due_at_ns: Option<u64>,
    /// The plain ledger write under way.
    plain_flush: Option<LedgerFlush>,
    /// How long the groups took that ended since the host last asked.
    times_ns: Vec<u64>,
}

/// What a dirty log can do now.
enum Readiness {
    /// Nothing, until something under way ends; that marks it dirty again.
    Waits,
    /// Its segment's file must be created first, which carries the bytes along.
    NeedsCreate,
    Writes,
}

impl GroupCommit {
    pub fn new(groups: usize) -> GroupCommit {
        let group = || Group {
            state: GroupState::Free,
            writes_in_flight: 0,
            issued_ns: 0,
            waiting: Vec::new(),
        };
        GroupCommit {
            dirty: Vec::new(),
            spare: Vec::new(),
            groups: (0..groups).map(|_| group()).collect(),
            creates_in_flight: 0,
            bytes_since_ledger: 0,
            ledger_due_at_ns: None,
            confirm_due_at_ns: None,
            plain_flush: None,
            times_ns: Vec::with_capacity(TIMES_KEPT_MAX),
        }
    }

    pub fn forget_dirty(&mut self, log: LogId) {
        self.dirty.retain(|entry| *entry != log);
    }

    pub fn retain_waiting(&mut self, keeps: impl Fn(&LogId) -> bool) {
        for group in &mut self.groups {
            group.waiting.retain(|(log, _)| keeps(log));
        }
    }

    /// A group's writes are durable: the next one may have its place.
    fn end_group(&mut self, group: usize, now: Now) {
        let group = &mut self.groups[group];
        group.state = GroupState::Free;
        if self.times_ns.len() < TIMES_KEPT_MAX {
            let took_ns = now.monotonic_ns.saturating_sub(group.issued_ns);
            self.times_ns.push(took_ns);
        }
    }

    fn free_group(&self) -> Option<usize> {
        self.groups
            .iter()
            .position(|group| group.state == GroupState::Free)
    }

    /// Whether nothing is dirty and nothing is under way.
    pub fn is_idle(&self) -> bool {
        let all_free = self
            .groups
            .iter()
            .all(|group| group.state == GroupState::Free);
        self.dirty.is_empty() && self.creates_in_flight == 0 && all_free
    }
}

impl Store {
    /// Ends a turn of the event loop: one write per dirty log, one barrier per group.
    pub fn end_turn(&mut self, now: Now, disk: &mut Vec<DiskRequest>) {
        self.checkpoint = None;
        self.has_served = true;
        self.allow_sweep();
        self.lookups.checks.age_chunks();
        self.drain_background(disk);
        if self.failed {
            return;
        }
        self.free_dropped_ids();
        self.issue_writes(now, disk);
        self.flush_log_starts(disk);
        self.flush_ledger_if_due(now, disk);
        self.start_zeroing(disk);
        self.issue_locates(disk);
        self.issue_checks(disk);
    }

    /// Sends out what is dirty, as far as a group is free.
    pub(crate) fn issue_writes(&mut self, now: Now, disk: &mut Vec<DiskRequest>) {
        if self.group_commit.dirty.is_empty() || self.failed {
            return;
        }
        let spare = std::mem::take(&mut self.group_commit.spare);
        let mut dirty = std::mem::replace(&mut self.group_commit.dirty, spare);
        let group = self.group_commit.free_group();
        let mut kept = 0;
        for at in 0..dirty.len() {
            let log = dirty[at];
            match self.readiness(log) {
                Readiness::Waits => self.log_mut(log).is_dirty = false,
                Readiness::NeedsCreate => {
                    if self.group_commit.creates_in_flight < CREATES_IN_FLIGHT_MAX {
                        self.log_mut(log).is_dirty = false;
                        self.create_with_appends(log, disk);
                    } else {
                        self.group_commit.dirty.push(log);
                    }
                }
                Readiness::Writes if group.is_none() => self.group_commit.dirty.push(log),
                Readiness::Writes => {
                    dirty[kept] = log;
                    kept += 1;
                }
            }
            self.issue_load(log, disk);
        }
        dirty.truncate(kept);
        if let (Some(group), false) = (group, dirty.is_empty()) {
            let individually = dirty.len() <= INDIVIDUALLY_DURABLE_MAX;
            let entry = &mut self.group_commit.groups[group];
            (entry.state, entry.issued_ns) = (GroupState::Writing, now.monotonic_ns);
            for &log in &dirty {
                self.log_mut(log).is_dirty = false;
                self.issue_write(now, log, group, individually, disk);
            }
        }
        dirty.clear();
        self.group_commit.spare = dirty;
    }

    /// Tells how long each group of writes took that ended since the last call, from its writes to
    /// their durability.
    pub fn take_group_times(&mut self, mut told: impl FnMut(u64)) {
        self.group_commit.times_ns.drain(..).for_each(&mut told);
    }

    /// Groups of writes under way.
    #[must_use]
    pub fn groups_in_flight(&self) -> usize {
        let groups = self.group_commit.groups.iter();
        groups
            .filter(|group| group.state != GroupState::Free)
            .count()
    }

    fn readiness(&self, log: LogId) -> Readiness {
        let state = self.log(log);
        if (state.in_flight.is_some() && !cfg!(mutant = "S22")) || state.loading.is_some() {
            return Readiness::Waits;
        }
        let Some(buffer) = state.tail.first_unwritten() else {
            return Readiness::Waits;
        };
        let segment = state.segment_of(buffer.segment_base);
        let segment = &state.segments[segment.expect("a buffer has its segment")];
        let file = &segment.file;
        match file.state {
            FileState::Creating => Readiness::Waits,
            FileState::Absent => Readiness::NeedsCreate,
            FileState::Ready => {
                let from = block_floor(buffer.file_start + buffer.written as u64);
                let to = block_ceil(buffer.end_position());
                match &file.zeroing {
                    // Zeros that arrive after the data would destroy it.
                    Some(_) if cfg!(mutant = "S13") => Readiness::Writes,
                    Some(zeroing) if from < zeroing.end && zeroing.start < to => Readiness::Waits,
                    _ => Readiness::Writes,
                }
            }
        }
    }

    fn issue_load(&mut self, log: LogId, disk: &mut Vec<DiskRequest>) {
        let Some(loading) = self.log_mut(log).loading.as_mut() else {
            return;
        };
        if std::mem::replace(&mut loading.issued, true) {
            return;
        }
        let (offset, buffer) = (loading.file_start, Rc::clone(&loading.window));
        let base = loading.end.segment_base;
        let segment = self.log_mut(log).segment_at_base(base);
        let file = segment.expect("its segment exists").file.file;
        let token = self.log_token(token_kind::LOAD, log);
        disk.push(DiskRequest {
            token,
            operation: DiskOperation::Read {
                file,
                offset,
                len: highwater_base::limits::BLOCK_BYTES,
                buffer,
                aside: false,
            },
        });
    }

    /// The first write of a segment whose file does not exist: `Create` carries header and batches.
    fn create_with_appends(&mut self, log: LogId, disk: &mut Vec<DiskRequest>) {
        self.drain_background(disk);
        let state = self.log_mut(log);
        let buffer = state.tail.first_unwritten().expect("it has bytes to write");
        assert_eq!(buffer.file_start, 0, "a file begins with its first buffer");
        let first_block = Rc::clone(&buffer.buffer);
        let (serial, written_to) = (buffer.serial, buffer.buffer.filled());
        let end = DurableEnd {
            offset: buffer.end_offset,
            segment_base: buffer.segment_base,
            position: buffer.end_position(),
        };
        let base = buffer.segment_base;
        let first_len = first_block.zero_block_rest();
        let segment = state.segment_at_base(base).expect("its segment exists");
        segment.file.state = FileState::Creating;
        let (file, size_bytes) = (segment.file.file, segment.file.size_bytes);
        state.in_flight = Some(InFlight {
            serial,
            written_to,
            bytes: 0,
            end,
            durable: true,
            group: None,
        });
        state.operations += 1;
        self.group_commit.creates_in_flight += 1;
        let mut token = token(token_kind::WRITE, log.0);
        token.0 |= CREATE_GROUP << 32;
        disk.push(DiskRequest {
            token,
            operation: DiskOperation::Create {
                file,
                size_bytes,
                first_block,
                first_len,
            },
        });
    }

    fn issue_write(
        &mut self,
        now: Now,
        log: LogId,
        group: usize,
        individually: bool,
        disk: &mut Vec<DiskRequest>,
    ) {
        let barrier = self.config.barrier;
        let state = self.log_mut(log);
        let tail = state.tail.first_unwritten().expect("it has bytes to write");
        let buffer = Rc::clone(&tail.buffer);
        let start = block_floor(tail.written as u64) as usize;
        let written_end = block_ceil(tail.file_start + tail.written as u64);
        let (serial, written_to) = (tail.serial, buffer.filled());
        let offset = tail.file_start + start as u64;
        let end = DurableEnd {
            offset: tail.end_offset,
            segment_base: tail.segment_base,
            position: tail.end_position(),
        };
        let len = buffer.zero_block_rest() - start;
        let to = offset + len as u64;
        let segment = state.segment_at_base(end.segment_base);
        let file = &segment.expect("its segment exists").file;
        assert!(to <= file.size_bytes, "a write stays inside its segment");
        let inside_written_blocks =
            to <= written_end || (file.zeroed.start <= written_end && to <= file.zeroed.end);
        let inside_written_blocks = inside_written_blocks || cfg!(mutant = "S18");
        let durable = match barrier {
            Barrier::DeviceFlush => individually || !inside_written_blocks,
            Barrier::PerWrite => true,
            Barrier::WriteThrough => !inside_written_blocks,
        };
        let file = file.file;
        if durable && barrier == Barrier::DeviceFlush {
            // The device flush it comes with covers the marks as well.
            self.group_commit.confirm_due_at_ns = None;
        }
        let state = self.log_mut(log);
        state.in_flight = Some(InFlight {
            serial,
            written_to,
            bytes: len,
            end,
            durable: durable || barrier == Barrier::WriteThrough || cfg!(mutant = "S01"),
            group: Some(group as u8),
        });
        state.operations += 1;
        self.group_commit.groups[group].writes_in_flight += 1;
        let mut token = token(token_kind::WRITE, log.0);
        token.0 |= (group as u64) << 32;
        disk.push(DiskRequest {
            token,
            operation: DiskOperation::Write {
                file,
                offset,
                buffer,
                start,
                len,
                durable,
            },
        });
        self.prepare_ahead(now, log);
    }

    /// A log's write or first `Create` ended.
    pub(crate) fn write_done(
        &mut self,
        now: Now,
        log: LogId,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let state = self.log_mut(log);
        let Some(in_flight) = state.in_flight.take() else {
            return;
        };
        let is_create = in_flight.group.is_none();
        let failed = match result {
            Ok(_) if cfg!(mutant = "S32") => None,
            Ok(bytes) if is_create || bytes == in_flight.bytes => None,
            // The kernel wrote less than asked: what is on disk is unknown.
            Ok(_) => Some(DiskError::Io(5)),
            Err(DiskError::Full) if is_create => {
                let base = in_flight.end.segment_base;
                return self.discard_from(now, log, base, events);
            }
            Err(DiskError::Io(_)) if cfg!(mutant = "S23") => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            let path = state.directory();
            return self.fail(path, error, events);
        }
        state
            .tail
            .set_written(in_flight.serial, in_flight.written_to);
        if is_create {
            let base = in_flight.end.segment_base;
            let segment = state.segment_at_base(base).expect("its segment exists");
            segment.file.state = FileState::Ready;
            self.found_room(log);
        }
        match (in_flight.durable, in_flight.group) {
            (true, _) => self.advance(now, log, in_flight.end, disk, events),
            (false, Some(group)) => {
                if cfg!(mutant = "S04") {
                    let early = self.log(log).progress_mark(in_flight.end);
                    self.ledger.record(early);
                }
                let group = &mut self.group_commit.groups[usize::from(group)];
                group.waiting.push((log, in_flight.end));
            }
            (false, None) => unreachable!("a create is durable"),
        }
        self.queue_zeroing(log);
        if self.log(log).tail.first_unwritten().is_some() {
            self.mark_dirty(log);
        }
    }

    /// Counts down the group a write belonged to; the last one asks for the barrier.
    pub(crate) fn group_write_done(
        &mut self,
        now: Now,
        completed: DiskToken,
        disk: &mut Vec<DiskRequest>,
    ) {
        let group = completed.0 >> 32 & 0xff;
        if group == CREATE_GROUP {
            self.group_commit.creates_in_flight -= 1;
            return;
        }
        let index = group as usize;
        let group = &mut self.group_commit.groups[index];
        group.writes_in_flight -= 1;
        if group.writes_in_flight > 0 {
            return;
        }
        if group.waiting.is_empty() {
            self.group_commit.end_group(index, now);
        } else if !self.failed {
            let flush = self.ledger.flush(!cfg!(mutant = "S03"), disk);
            group.state = GroupState::Flushing(flush);
            self.group_commit.bytes_since_ledger = 0;
            self.group_commit.ledger_due_at_ns = None;
            self.group_commit.confirm_due_at_ns = None;
        }
    }

    /// Everything recorded in the ledger up to `flush` is written, and if it was a barrier, so is
    /// every write that completed before it.
    pub(crate) fn ledger_flushed(
        &mut self,
        now: Now,
        flush: LedgerFlush,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        self.marked = flush.0;
        let plain = self.group_commit.plain_flush;
        if plain.is_some_and(|plain| plain.0 <= flush.0) {
            self.group_commit.plain_flush = None;
            let due_at_ns = now.plus_ms(self.config.ledger_lag_ms);
            self.group_commit.confirm_due_at_ns = (!cfg!(mutant = "S16")).then_some(due_at_ns);
        }
        for group in 0..self.group_commit.groups.len() {
            let entry = &mut self.group_commit.groups[group];
            let GroupState::Flushing(awaited) = &entry.state else {
                continue;
            };
            if awaited.0 > flush.0 + u64::from(cfg!(mutant = "S02")) {
                continue;
            }
            let mut waiting = std::mem::take(&mut entry.waiting);
            self.group_commit.end_group(group, now);
            for (log, end) in waiting.drain(..) {
                if self.live_log(log).is_some() {
                    self.advance(now, log, end, disk, events);
                }
            }
            self.group_commit.groups[group].waiting = waiting;
        }
        self.log_starts_flushed(flush, events);
        self.drain_background(disk);
        self.issue_writes(now, disk);
    }

    /// The log is durable up to `end`.
    fn advance(
        &mut self,
        now: Now,
        log: LogId,
        end: DurableEnd,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let state = self.log_mut(log);
        if end.offset <= state.durable.offset {
            return;
        }
        assert!(end.offset <= state.end, "durable beyond the end of the log");
        state.durable = end;
        let mark = state.progress_mark(end);
        self.ledger.record(mark);
        let lag_ms = self.config.ledger_lag_ms;
        let due = &mut self.group_commit.ledger_due_at_ns;
        *due = due.or(Some(now.plus_ms(lag_ms)));
        events.push(StoreEvent::HighWatermark {
            log,
            offset: end.offset,
        });
        self.name_for_good(log);
        self.settle_sealed(log);
        self.drain_background(disk);
    }

    /// Marks that waited long enough go out. On a device with a cache they are written plainly and
    /// made durable by the next data write; only when none comes, by a barrier of their own.
    pub(crate) fn flush_ledger_if_due(&mut self, now: Now, disk: &mut Vec<DiskRequest>) {
        let commit = &mut self.group_commit;
        let is_due = |due: Option<u64>| due.is_some_and(|due| now.reached(due));
        if is_due(commit.confirm_due_at_ns) {
            commit.confirm_due_at_ns = None;
            commit.ledger_due_at_ns = None;
            commit.bytes_since_ledger = 0;
            let _ = self.ledger.flush(true, disk);
            return;
        }
        let full = commit.bytes_since_ledger >= self.config.ledger_lag_bytes;
        let waits = commit.ledger_due_at_ns.is_some();
        if !waits || !(full || is_due(commit.ledger_due_at_ns)) {
            return;
        }
        commit.bytes_since_ledger = 0;
        commit.ledger_due_at_ns = None;
        if self.ledger.has_pending() {
            // Where each write is its own barrier, no later one covers a plain write.
            let plain = self.config.barrier != Barrier::PerWrite;
            let flush = self.ledger.flush(!plain, disk);
            if self.config.barrier == Barrier::DeviceFlush {
                self.group_commit.plain_flush = Some(flush);
            }
        }
    }
}

impl Log {
    fn progress_mark(&self, end: DurableEnd) -> Mark {
        Mark::Progress {
            key: self.key,
            epoch: self.epoch_at(end.segment_base),
            position: end.position as u32,
            persisted_end: end.offset,
            high_watermark: end.offset,
        }
    }
}
