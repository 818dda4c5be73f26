//! The append: producer check, room in the segment and the window, one copy, offsets.
//!
//! Nothing here touches the disk, and in steady state nothing allocates: the window has room, the
//! index has room, the producer is known. A batch is refused before anything changed, or it is in.

use std::rc::Rc;

use highwater_base::disk::{DiskError, DiskToken};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::record_batch::{patch_offset_and_epoch, stamp_log_append_time};
use highwater_base::{AlignedBuffer, BatchHeader, Now, Offset, Timestamp};

use crate::index::IndexEntry;
use crate::log::{Loading, LogId};
use crate::producer_state::ProducerVerdict;
use crate::segment::{HEADER_BLOCK_BYTES, SEGMENT_BYTES_LIMIT, block_floor};
use crate::shutdown::Shutdown;
use crate::store::{AppendError, Appended, Store};

/// Smallest window for a log that must read its last block back: appends that come before the
/// block is there have to fit.
const RELOAD_WINDOW_BYTES: usize = 64 * 1024;
/// All append windows together grow to at most the cache divided by this, so that windows being
/// filled leave room for those being written and for the readers of the tail.
const WINDOW_SHARES: usize = 4;
/// Errno of fewer bytes than the file must have.
const EIO: i32 = 5;

impl Store {
    /// Appends one whole batch whose header was parsed and whose CRC was verified by the caller.
    /// Assigns offsets, stamps the epoch, and, when `append_time` is given, the append time (then
    /// the CRC is renewed). The batch is durable when [`crate::StoreEvent::HighWatermark`] reaches
    /// its next offset.
    ///
    /// # Errors
    /// [`AppendError`]; nothing changed then.
    pub fn append(
        &mut self,
        log: LogId,
        now: Now,
        header: &BatchHeader,
        batch: &[u8],
        append_time: Option<Timestamp>,
    ) -> Result<Appended, AppendError> {
        assert_eq!(batch.len(), header.total_bytes(), "exactly one whole batch");
        self.admit(log)?;
        if let Some(duplicate) = self.judge_producer(log, now, header)? {
            return Ok(duplicate);
        }
        self.make_room(log, now, batch.len(), header)?;
        let max_timestamp = append_time.unwrap_or(header.max_timestamp);
        let base_offset = self.copy_in(log, now, header, batch, append_time, max_timestamp);
        let state = self.log_mut(log);
        state.was_used = true;
        state.last_append_ms = now.wall_ms;
        if header.is_idempotent() {
            let producers = state.producers.get_or_insert_default();
            producers.note(header, base_offset, now.wall_ms);
        }
        let next_offset = state.end;
        if !state.is_dirty {
            state.is_dirty = true;
            self.group_commit.dirty.push(log);
        }
        self.group_commit.bytes_since_ledger += batch.len() as u64;
        Ok(Appended {
            base_offset,
            next_offset,
            log_append_time: append_time.unwrap_or(-1),
            duplicate: false,
        })
    }

    /// The log takes appends in spite of holes, those that are declared later included, for as long
    /// as this process runs. For a log whose reader judges by offsets what is newer than the damage.
    /// They begin a segment of their own, so that no damaged file is written to.
    pub fn allow_appends_behind_holes(&mut self, log: LogId) {
        let state = self.log_mut(log);
        state.appends_behind_holes = true;
        state.roll_next |= !state.holes.is_empty();
    }

    fn admit(&self, log: LogId) -> Result<(), AppendError> {
        let state = self.log(log);
        if state.is_offline() {
            return Err(AppendError::Offline);
        }
        if state.disk_full {
            return Err(AppendError::DiskFull);
        }
        if self.failed || self.shutdown != Shutdown::Serving {
            return Err(AppendError::Busy);
        }
        Ok(())
    }

    fn judge_producer(
        &mut self,
        log: LogId,
        now: Now,
        header: &BatchHeader,
    ) -> Result<Option<Appended>, AppendError> {
        let state = self.log_mut(log);
        if !header.is_idempotent() {
            return Ok(None);
        }
        let Some(producers) = state.producers.as_mut() else {
            return Ok(None);
        };
        match producers.judge(header, state.durable.offset, now.wall_ms) {
            ProducerVerdict::Fresh => Ok(None),
            ProducerVerdict::Duplicate {
                base_offset,
                next_offset,
            } => Ok(Some(Appended {
                base_offset,
                next_offset,
                log_append_time: -1,
                duplicate: true,
            })),
            ProducerVerdict::OutOfOrderSequence { expected, found } => {
                Err(AppendError::OutOfOrderSequence { expected, found })
            }
            ProducerVerdict::InvalidProducerEpoch { current, found } => {
                Err(AppendError::InvalidProducerEpoch { current, found })
            }
            ProducerVerdict::TooMany => Err(AppendError::TooManyProducers),
        }
    }

    /// Makes sure the active segment and the append window have room for the batch.
    fn make_room(
        &mut self,
        log: LogId,
        now: Now,
        bytes: usize,
        header: &BatchHeader,
    ) -> Result<(), AppendError> {
        let state = self.log(log);
        let segment_limit = state.config.segment_bytes.min(SEGMENT_BYTES_LIMIT);
        if bytes as u64 + HEADER_BLOCK_BYTES > segment_limit.max(BLOCK_BYTES as u64 * 2) {
            return Err(AppendError::TooLarge);
        }
        if self.must_roll(log, now, bytes, header) {
            return self.roll(log, bytes);
        }
        let state = self.log(log);
        match (state.tail.buffers.back(), &state.loading) {
            (Some(window), _) if window.buffer.room() >= bytes => Ok(()),
            (Some(_), _) => self.refill_window(log, bytes),
            (None, Some(loading)) if loading.room() >= bytes => Ok(()),
            (None, Some(_)) => self.continue_loading_window(log, bytes),
            (None, None) => self.reopen_window(log, bytes),
        }
    }

    fn must_roll(&self, log: LogId, now: Now, bytes: usize, header: &BatchHeader) -> bool {
        let state = self.log(log);
        let Some(active) = state.active() else {
            return true;
        };
        let relative_end = state.end.0 - active.base_offset.0 + i64::from(header.last_offset_delta);
        let age_ms = now.wall_ms.saturating_sub(active.first_timestamp);
        state.roll_next
            || active.epoch != state.epoch
            || active.end_position + bytes as u64 > active.file.size_bytes
            || relative_end > i64::from(i32::MAX)
            || (active.first_timestamp >= 0
                && age_ms >= state.config.segment_ms
                && active.data_bytes() > 0)
    }

    /// The window is full: a larger one takes over, beginning with the last partial block.
    fn refill_window(&mut self, log: LogId, bytes: usize) -> Result<(), AppendError> {
        let state = self.log(log);
        let grown = state.tail.next_window_bytes();
        let buffer = self.take_window(grown, BLOCK_BYTES + bytes)?;
        let state = self.log_mut(log);
        let end = state.memory_end();
        let file_start = block_floor(end.position);
        let Some(window) = state.tail.buffers.back() else {
            // Taking a buffer may have evicted this log's own window.
            self.pool.give_back(buffer);
            return self.reopen_window(log, bytes);
        };
        assert_eq!(
            window.end_position(),
            end.position,
            "the window ends the log"
        );
        let partial = (end.position - file_start) as usize;
        let from = window.buffer.filled() - partial;
        buffer.append(window.buffer.slice(from, partial));
        let first = (end.position, end.offset);
        state.tail.push(buffer, end.segment_base, file_start, first);
        self.cache_order.push_back(log);
        Ok(())
    }

    /// The log rested and lost its window: a fresh one, whose first block is read back from disk
    /// when the log ends inside a block.
    fn reopen_window(&mut self, log: LogId, bytes: usize) -> Result<(), AppendError> {
        let end = self.log(log).memory_end();
        let file_start = block_floor(end.position);
        let partial_bytes = (end.position - file_start) as usize;
        let needed = partial_bytes + bytes;
        let first = (end.position, end.offset);
        if partial_bytes == 0 {
            let grown = self.log(log).tail.next_window_bytes();
            let window = self.take_window(grown, needed)?;
            let state = self.log_mut(log);
            state.tail.push(window, end.segment_base, file_start, first);
        } else {
            let grown = needed.saturating_mul(2).max(RELOAD_WINDOW_BYTES);
            let window = self.take_window(grown, needed)?;
            let Some(interim) = self.take_buffer(window.capacity()) else {
                self.pool.give_back(window);
                return Err(AppendError::Busy);
            };
            self.log_mut(log).loading = Some(Box::new(Loading {
                window,
                interim,
                partial_bytes,
                file_start,
                first_offset: end.offset,
                end,
                issued: false,
            }));
        }
        self.join_window_clock(log);
        Ok(())
    }

    /// A window that is still being loaded is full: another one takes over. Where the last block
    /// is not all in memory, that is the first window of a new segment.
    fn continue_loading_window(&mut self, log: LogId, bytes: usize) -> Result<(), AppendError> {
        let state = self.log(log);
        let end = state.memory_end();
        let file_start = block_floor(end.position);
        let partial = (end.position - file_start) as usize;
        let loading = state.loading.as_ref().expect("the caller saw it");
        if loading.interim.filled() < partial {
            return self.roll(log, bytes);
        }
        let grown = state.tail.next_window_bytes();
        let buffer = self.take_window(grown, BLOCK_BYTES + bytes)?;
        let state = self.log_mut(log);
        let loading = state
            .loading
            .as_ref()
            .expect("a log that loads is not quiet");
        let from = loading.interim.filled() - partial;
        buffer.append(loading.interim.slice(from, partial));
        let first = (end.position, end.offset);
        state.tail.push(buffer, end.segment_base, file_start, first);
        Ok(())
    }

    /// A window of `wanted` bytes if this log's share of the cache allows, at least of `needed`.
    pub(crate) fn take_window(
        &mut self,
        wanted: usize,
        needed: usize,
    ) -> Result<Rc<AlignedBuffer>, AppendError> {
        let windows = self.window_clock.len() + 1;
        let share = self.config.tail_cache_bytes / (WINDOW_SHARES * windows);
        let wanted = wanted.min(share).max(needed);
        let window = self.take_buffer(wanted);
        window
            .or_else(|| self.take_buffer(needed))
            .ok_or(AppendError::Busy)
    }

    pub(crate) fn join_window_clock(&mut self, log: LogId) {
        let state = self.log_mut(log);
        if !state.in_window_clock {
            state.in_window_clock = true;
            self.window_clock.push_back(log);
        }
    }

    fn copy_in(
        &mut self,
        log: LogId,
        now: Now,
        header: &BatchHeader,
        batch: &[u8],
        append_time: Option<Timestamp>,
        max_timestamp: Timestamp,
    ) -> Offset {
        let state = self.log_mut(log);
        let (base_offset, epoch) = (state.end, state.epoch);
        let next_offset = base_offset.plus(i64::from(header.last_offset_delta) + 1);
        let interval_bytes = state.config.index_interval_bytes;
        let target = match (state.tail.buffers.back(), &state.loading) {
            (Some(window), _) => &window.buffer,
            (None, Some(loading)) => &loading.interim,
            (None, None) => unreachable!("room was made"),
        };
        target.append_with(batch.len(), |copy| {
            copy.copy_from_slice(batch);
            patch_offset_and_epoch(copy, base_offset, epoch);
            if let Some(time) = append_time {
                stamp_log_append_time(copy, time);
            }
        });
        match (state.tail.buffers.back_mut(), &mut state.loading) {
            (Some(window), _) => window.end_offset = next_offset,
            (None, Some(loading)) => {
                loading.end.offset = next_offset;
                loading.end.position += batch.len() as u64;
            }
            (None, None) => unreachable!("room was made"),
        }
        let active = state.segments.last_mut().expect("room was made");
        assert!(!active.sealed, "appends go to the active segment");
        let reach = batch.len() as u64 * u64::from(cfg!(mutant = "S07"));
        active.index.note(
            IndexEntry {
                relative_offset: (base_offset.0 - active.base_offset.0) as u32,
                position: (active.end_position + reach) as u32,
                max_timestamp_before: active.max_timestamp,
            },
            interval_bytes,
        );
        active.end_position += batch.len() as u64;
        active.next_offset = next_offset;
        active.max_timestamp = active.max_timestamp.max(max_timestamp);
        if active.first_timestamp < 0 {
            active.first_timestamp = now.wall_ms;
        }
        state.end = next_offset;
        base_offset
    }

    /// The last block of a log that lost its window is back: the appends made meanwhile follow it,
    /// and the windows that followed those.
    pub(crate) fn load_done(
        &mut self,
        log: LogId,
        result: Result<usize, DiskError>,
        events: &mut Vec<crate::StoreEvent>,
    ) {
        let state = self.log_mut(log);
        let Some(loading) = state.loading.take() else {
            return;
        };
        let short = loading.window.filled() < loading.partial_bytes;
        let failed = result.err().or(short.then_some(DiskError::Io(EIO)));
        if let Some(error) = failed {
            let at = (loading.first_offset, loading.file_start);
            self.release(loading.window);
            self.release(loading.interim);
            return self.load_failed(log, at, error, events);
        }
        let Loading {
            window,
            interim,
            partial_bytes,
            file_start,
            first_offset,
            end,
            issued: _,
        } = *loading;
        window.set_filled(partial_bytes);
        if cfg!(mutant = "S31") {
            window.set_filled(0);
            window.append_with(partial_bytes, |bytes| bytes.fill(0));
        }
        window.append(interim.slice(0, interim.filled()));
        let first = (file_start + partial_bytes as u64, first_offset);
        let end_position = file_start + window.filled() as u64;
        assert_eq!(end_position, end.position, "the window holds every append");
        let is_continued = !state.tail.buffers.is_empty();
        let (base, end_offset) = (end.segment_base, end.offset);
        state
            .tail
            .push_front(window, base, file_start, first, end_offset);
        if is_continued {
            self.cache_order.push_back(log);
        }
        self.pool.give_back(interim);
        self.mark_dirty(log);
    }

    pub(crate) fn mark_dirty(&mut self, log: LogId) {
        let state = self.log_mut(log);
        if !state.is_dirty {
            state.is_dirty = true;
            self.group_commit.dirty.push(log);
        }
    }

    /// A token that names a log.
    pub(crate) fn log_token(&mut self, kind: u64, log: LogId) -> DiskToken {
        self.log_mut(log).operations += 1;
        crate::store::token(kind, log.0)
    }
}
