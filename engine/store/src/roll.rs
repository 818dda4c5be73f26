//! Rolling: sealing the active segment, beginning the next one, and its file: made ready ahead,
//! renamed when it holds something, dropped again when the disk has no room.
//!
//! ```text
//! absent ──first write: Create with the bytes──────────────────────> ready, final name
//! absent ─over half full: Create prepared-n─> ready ──first durable write──> Rename to final name
//! ```

use std::rc::Rc;

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{AlignedBuffer, Now, Offset};

use crate::index::SparseIndex;
use crate::log::LogId;
use crate::segment::{
    FileState, HEADER_BLOCK_BYTES, NO_PREVIOUS_EPOCH, SEGMENT_BYTES_LIMIT, Segment, SegmentFile,
    SegmentHeader, block_ceil, prepared_path, segment_path,
};
use crate::sidecar;
use crate::store::{AppendError, Store, StoreEvent, token_kind};
use crate::unchecked::Unchecked;

/// Each segment reserves so many times what the one before it did.
const SIZE_GROWTH: u64 = 4;
/// With less room than this left, the next segment's file is made ready even when the active one is
/// not half full...
const PREPARE_ROOM_BYTES: u64 = 4 << 20;
/// ...provided so much was appended: a partition with a few records reserves no second file.
const PREPARE_DATA_BYTES_MIN: u64 = 16 << 10;
/// How long a full disk is left alone.
pub(crate) const FULL_DISK_RETRY_MS: u64 = 500;
/// Logs that try again at once after a full disk: little is lost when there is no room yet, and each
/// that finds room lets the next one try.
const FULL_DISK_RETRIES_MAX: usize = 8;
/// Waiting logs looked at to find one that can try.
const FULL_DISK_LOOKS_MAX: usize = 64;
/// Times a segment's size is quartered at most when there is no room for a larger one.
const SIZE_QUARTERED_MAX: u8 = 8;

impl Store {
    /// Size of the next segment of a log, with room for a batch of `bytes`.
    fn next_segment_bytes(&self, log: LogId, bytes: usize) -> u64 {
        let state = self.log(log);
        let block = BLOCK_BYTES as u64;
        let largest = state.config.segment_bytes.min(SEGMENT_BYTES_LIMIT);
        let largest = (largest - largest % block).max(2 * block);
        // A settled segment is as small as its data; growth continues from what it had reserved.
        let wanted = match state.segments.last() {
            Some(last) => last
                .data_bytes()
                .max(last.file.size_bytes)
                .max(self.config.first_segment_bytes)
                .saturating_mul(SIZE_GROWTH),
            None => self.config.first_segment_bytes,
        };
        // What a nearly full disk still has room for is found by trying smaller files.
        let fitting = (wanted.min(largest) >> (2 * u32::from(state.size_quartered)))
            .max(self.config.first_segment_bytes.min(largest));
        let needed = block_ceil(HEADER_BLOCK_BYTES + bytes as u64);
        block_ceil(fitting).max(needed)
    }

    /// A file of the wanted size found no room: the next attempt is for a smaller one.
    fn found_no_room(&mut self, log: LogId) {
        let state = self.log_mut(log);
        state.size_quartered = (state.size_quartered + 1).min(SIZE_QUARTERED_MAX);
    }

    /// A file could be made: the one after it may be larger again.
    pub(crate) fn found_room(&mut self, log: LogId) {
        let state = self.log_mut(log);
        state.size_quartered = state.size_quartered.saturating_sub(1);
    }

    /// Seals the active segment, if there is one, and begins the next with room for `bytes`.
    pub(crate) fn roll(&mut self, log: LogId, bytes: usize) -> Result<(), AppendError> {
        let needed = BLOCK_BYTES + bytes;
        let grown = self.log(log).tail.next_window_bytes();
        let buffer = self.take_window(grown, needed)?;
        let file = self.next_file(log, bytes);
        let cluster_id = self.cluster_id;
        let state = self.log_mut(log);
        let (base_offset, epoch) = (state.end, state.epoch);
        let last = state.segments.last();
        let header = SegmentHeader {
            cluster_id,
            topic_id: state.key.topic_id,
            partition: state.key.partition,
            epoch,
            base_offset,
            prev_epoch: last.map_or(NO_PREVIOUS_EPOCH, |segment| segment.epoch),
            prev_end: base_offset,
        };
        buffer.append_with(BLOCK_BYTES, |block| header.encode(block));
        let index = SparseIndex::with_room_for(file.size_bytes, state.config.index_interval_bytes);
        self.seal_active(log);
        let state = self.log_mut(log);
        state.roll_next = false;
        state.unnamed_segments += u32::from(file.prepared_number.is_some());
        let prepared = file.prepared_number.map(|number| (file.file, number));
        state.segments.push(Segment {
            base_offset,
            epoch,
            file,
            end_position: HEADER_BLOCK_BYTES,
            next_offset: base_offset,
            first_timestamp: -1,
            max_timestamp: -1,
            index,
            hole_positions: Vec::new(),
            unchecked: Unchecked::default(),
            sealed: false,
            settled: false,
        });
        let had_window = !state.tail.buffers.is_empty();
        let first = (HEADER_BLOCK_BYTES, base_offset);
        state.tail.push(buffer, base_offset, 0, first);
        if had_window {
            self.cache_order.push_back(log);
        }
        self.join_window_clock(log);
        self.snapshot_producers(log);
        if let Some((file, number)) = prepared {
            let directory = self.log(log).directory();
            let path = segment_path(&directory, base_offset, epoch, "log");
            self.name_file(file, path, Some(prepared_path(&directory, number)));
        }
        Ok(())
    }

    /// The active segment takes no more appends.
    pub(crate) fn seal_active(&mut self, log: LogId) {
        let state = self.log_mut(log);
        if let Some(active) = state.segments.last_mut()
            && !active.sealed
        {
            active.sealed = true;
            state.has_unsettled = true;
            self.settle_sealed(log);
        }
    }

    /// The file made ready ahead, or a name for one that its first write creates.
    fn next_file(&mut self, log: LogId, bytes: usize) -> SegmentFile {
        let needed = HEADER_BLOCK_BYTES + bytes as u64;
        let state = self.log_mut(log);
        if let Some(prepared) = &state.prepared
            && prepared.size_bytes >= needed
        {
            let prepared = state.prepared.take().expect("it is there");
            return *prepared;
        }
        let size_bytes = self.next_segment_bytes(log, bytes);
        let state = self.log(log);
        let path = segment_path(&state.directory(), state.end, state.epoch, "log");
        let file = self.attach(path);
        SegmentFile::absent(file, size_bytes)
    }

    /// Producer state as of the log's end, where a segment begins: recovery replays no older one,
    /// and finds what producers did in those that retention removed.
    pub(crate) fn snapshot_producers(&mut self, log: LogId) {
        let state = self.log(log);
        let nobody = state.producers.as_ref().is_none_or(|all| all.is_empty());
        if state.segments.len() < 2 && nobody {
            return;
        }
        let none = Default::default();
        let producers = state.producers.as_deref().unwrap_or(&none);
        let path = segment_path(&state.directory(), state.end, state.epoch, "producers");
        let bytes = sidecar::encode_producers(state.end, producers);
        self.push_background(log, DiskOperation::WriteWhole { path, bytes });
    }

    /// Makes the next segment's file ready when the active one fills up.
    pub(crate) fn prepare_ahead(&mut self, now: Now, log: LogId) {
        let state = self.log(log);
        let Some(active) = state.active() else {
            return;
        };
        let room = active.file.size_bytes - active.end_position;
        let filling = active.end_position > active.file.size_bytes / 2
            || (room < PREPARE_ROOM_BYTES && active.data_bytes() >= PREPARE_DATA_BYTES_MIN);
        let idle = state.prepared.is_none() && active.file.state == FileState::Ready;
        if filling && idle && now.reached(self.retry_full_at_ns) {
            self.create_prepared(log);
        }
    }

    fn create_prepared(&mut self, log: LogId) {
        let size_bytes = self.next_segment_bytes(log, 0);
        let state = self.log_mut(log);
        let number = state.next_prepared_number;
        state.next_prepared_number += 1;
        let path = prepared_path(&state.directory(), number);
        let file = self.attach(path);
        let token = self.log_token(token_kind::CREATE_PREPARED, log);
        let mut prepared = SegmentFile::absent(file, size_bytes);
        prepared.state = FileState::Creating;
        prepared.prepared_number = Some(number);
        self.log_mut(log).prepared = Some(Box::new(prepared));
        let blank = AlignedBuffer::with_capacity(BLOCK_BYTES);
        blank.append_with(BLOCK_BYTES, |block| block.fill(0));
        self.background.push(DiskRequest {
            token,
            operation: DiskOperation::Create {
                file,
                size_bytes,
                first_block: Rc::new(blank),
                first_len: BLOCK_BYTES,
            },
        });
    }

    /// The file made ready ahead is there, or could not be; it may be the active one by now.
    pub(crate) fn prepared_done(
        &mut self,
        now: Now,
        log: LogId,
        result: Result<usize, DiskError>,
        events: &mut Vec<StoreEvent>,
    ) {
        let state = self.log_mut(log);
        let waits_ahead = match &mut state.prepared {
            Some(prepared) if prepared.state == FileState::Creating => Some(prepared.file),
            _ => None,
        };
        match (result, waits_ahead) {
            (Ok(_), Some(_)) => {
                if let Some(prepared) = &mut state.prepared {
                    prepared.state = FileState::Ready;
                }
                let waited = std::mem::replace(&mut state.disk_full, false);
                self.found_room(log);
                self.queue_zeroing(log);
                if waited {
                    self.retry_full_logs(1);
                }
            }
            (Ok(_), None) => {
                if let Some(segment) = state.segment_being_prepared() {
                    segment.file.state = FileState::Ready;
                    self.mark_dirty(log);
                }
            }
            (Err(DiskError::Full), Some(file)) => {
                state.prepared = None;
                let waits = state.disk_full;
                self.found_no_room(log);
                self.retry_full_at_ns = now.plus_ms(FULL_DISK_RETRY_MS);
                self.forget_file(file);
                if waits {
                    self.full_logs.push_back(log);
                }
            }
            (Err(DiskError::Full), None) => {
                if let Some(base) = state.segment_being_prepared().map(|it| it.base_offset) {
                    self.discard_from(now, log, base, events);
                }
            }
            (Err(error), _) => {
                let path = state.directory();
                self.fail(path, error, events);
            }
        }
    }

    fn forget_file(&mut self, file: highwater_base::disk::FileId) {
        let name = self.files.get(&file).cloned();
        self.detach(file);
        if let Some(name) = name {
            self.remove_path(name.into_current());
        }
    }

    /// The file of the segment at `from` could not be created: its appends and those of segments
    /// after it, none of them acknowledged, are taken back.
    pub(crate) fn discard_from(
        &mut self,
        now: Now,
        log: LogId,
        from: Offset,
        events: &mut Vec<StoreEvent>,
    ) {
        self.found_no_room(log);
        let state = self.log_mut(log);
        assert!(
            from >= state.durable.offset,
            "durable bytes are never dropped"
        );
        state.end = from;
        state.disk_full = true;
        if let Some(producers) = &mut state.producers
            && !cfg!(mutant = "S21")
        {
            producers.roll_back(from);
        }
        for epoch in &mut state.epochs {
            epoch.1 = epoch.1.min(from);
        }
        self.drop_segments_from(log, from);
        self.full_logs.push_back(log);
        self.retry_full_at_ns = now.plus_ms(FULL_DISK_RETRY_MS);
        events.push(StoreEvent::Discarded {
            log,
            from,
            error: DiskError::Full,
        });
    }

    /// Takes back segments that begin at or behind `from` and hold nothing durable.
    pub(crate) fn drop_segments_from(&mut self, log: LogId, from: Offset) {
        while let Some(segment) = self.log_mut(log).pop_segment_from(from) {
            let base = segment.base_offset;
            let unnamed = u32::from(segment.file.prepared_number.is_some());
            self.log_mut(log).unnamed_segments -= unnamed;
            while let Some(buffer) = self.log_mut(log).tail.pop_newest_of(base) {
                self.release(buffer);
            }
            // The leftover must be gone before its name is used again: retries wait until nothing
            // is under way for the log.
            if let Some(name) = self.files.get(&segment.file.file).cloned() {
                let path = name.into_current();
                self.push_background(log, DiskOperation::Remove { path });
            }
            self.detach(segment.file.file);
        }
    }

    /// Gives logs that wait for room another try, a few at a time.
    pub(crate) fn retry_full_disk(&mut self, now: Now) {
        if self.full_logs.is_empty() || !now.reached(self.retry_full_at_ns) {
            return;
        }
        self.retry_full_at_ns = now.plus_ms(FULL_DISK_RETRY_MS);
        self.retry_full_logs(FULL_DISK_RETRIES_MAX);
    }

    fn retry_full_logs(&mut self, mut tries: usize) {
        for _ in 0..self.full_logs.len().min(FULL_DISK_LOOKS_MAX) {
            if tries == 0 {
                return;
            }
            let Some(log) = self.full_logs.pop_front() else {
                return;
            };
            match self.live_log(log) {
                None => {}
                Some(state) if !state.disk_full => {}
                Some(state) if state.operations > 0 || state.prepared.is_some() => {
                    if state
                        .prepared
                        .as_ref()
                        .is_some_and(|file| file.state == FileState::Ready)
                    {
                        state.disk_full = false;
                    } else {
                        self.full_logs.push_back(log);
                    }
                }
                Some(_) => {
                    tries -= 1;
                    self.create_prepared(log);
                }
            }
        }
    }

    /// After its first durable batch a file made ready ahead gets its final name.
    pub(crate) fn name_for_good(&mut self, log: LogId) {
        let state = self.log_mut(log);
        let Some(at) = state.first_unnamed().filter(|_| !state.renaming) else {
            return;
        };
        let segment = &state.segments[at];
        let Some(number) = segment.file.prepared_number else {
            return;
        };
        if state.durable.offset <= segment.base_offset && !cfg!(mutant = "S27") {
            return;
        }
        let directory = state.directory();
        let to = segment_path(&directory, segment.base_offset, segment.epoch, "log");
        let from = prepared_path(&directory, number);
        state.renaming = true;
        let token = self.log_token(token_kind::RENAME, log);
        self.background.push(DiskRequest {
            token,
            operation: DiskOperation::Rename { from, to },
        });
    }

    /// The file has its final name: later opens use it.
    pub(crate) fn rename_done(
        &mut self,
        log: LogId,
        result: Result<usize, DiskError>,
        events: &mut Vec<StoreEvent>,
    ) {
        let state = self.log_mut(log);
        state.renaming = false;
        if result == Err(DiskError::Exists) {
            // Somebody else's file has the name. What is acknowledged is in ours, under its former
            // name, and only recovery can tell which of them is the segment.
            let path = state.directory();
            return self.fail(path, DiskError::Exists, events);
        }
        let (Some(at), Ok(_)) = (state.first_unnamed(), result) else {
            // Recovery finds it under the old name as well; the next durable write tries again.
            return;
        };
        let directory = state.directory();
        let segment = &mut state.segments[at];
        segment.file.prepared_number = None;
        state.unnamed_segments -= 1;
        let path = segment_path(&directory, segment.base_offset, segment.epoch, "log");
        let file = segment.file.file;
        self.name_file(file, path, None);
        self.name_for_good(log);
    }

    /// Saves the index of sealed segments whose every byte is durable and gives back the space they
    /// did not need. A log with a hole keeps every byte: what lies behind the end of a segment may be
    /// what is missing.
    pub(crate) fn settle_sealed(&mut self, log: LogId) {
        if !self.log(log).has_unsettled {
            return;
        }
        let directory = self.log(log).directory();
        let mut requests = Vec::new();
        let state = self.log_mut(log);
        let durable = state.durable.offset;
        let is_whole = state.holes.is_empty();
        let mut remain = false;
        for segment in state.segments.iter_mut().filter(|segment| segment.sealed) {
            if segment.settled {
                continue;
            }
            if segment.next_offset > durable || segment.file.zeroing.is_some() {
                remain = true;
                continue;
            }
            segment.settled = true;
            segment.index.seal(&[]);
            let (base, epoch) = (segment.base_offset, segment.epoch);
            requests.push(DiskOperation::WriteWhole {
                path: segment_path(&directory, base, epoch, "index"),
                bytes: sidecar::encode_index(segment),
            });
            let size_bytes = block_ceil(segment.end_position);
            if is_whole && size_bytes < segment.file.size_bytes {
                segment.file.size_bytes = size_bytes;
                let file = segment.file.file;
                requests.push(DiskOperation::Truncate { file, size_bytes });
            }
        }
        state.has_unsettled = remain;
        for operation in requests {
            self.push_background(log, operation);
        }
    }
}
