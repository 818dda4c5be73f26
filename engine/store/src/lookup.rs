//! Finding batches by timestamp (ListOffsets, KIP-79 and KIP-734): the segment and the index entry
//! bound the bytes in which the first fitting batch lies; the host decodes those. What is read from
//! a file is checked first, each time: whoever asks here goes on from what it is told.

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{BufferSlice, Offset, Timestamp};

use crate::check::{Checks, HeaderVerdict};
use crate::damage::is_damage;
use crate::locate::Locates;
use crate::log::{Log, LogId};
use crate::segment::Segment;
use crate::store::{Store, StoreEvent, token, token_kind};
use crate::stretch::Stretch;

/// Lookup reads under way at once; further ones answer with [`Lookup::Busy`].
pub const LOOKUPS_IN_FLIGHT_MAX: usize = 64;

/// Bytes read at once where the index does not help; with the blocks around them a power of two.
const SCAN_BYTES: u64 = 248 << 10;
/// The same in a small cache: this share of it.
const SCAN_SHARES: usize = 64;
/// EIO, for bytes that were read and are not what must be there.
const DAMAGED: DiskError = DiskError::Io(5);

/// Where a lookup stands.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// No batch qualifies.
    Empty,
    /// The bytes, whole batches.
    Ready(BufferSlice),
    /// A read is under way; [`StoreEvent::LookupRead`] brings the bytes.
    Pending,
    /// No memory or no slot for the read now: ask again.
    Busy,
}

#[derive(Debug)]
struct PendingRead {
    lookup: u64,
    buffer: std::rc::Rc<highwater_base::AlignedBuffer>,
    stretch: Stretch,
    /// The header block of the segment is read first.
    header: bool,
}

/// Reads under way.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    slots: Vec<Option<PendingRead>>,
    pub locates: Locates,
    pub checks: Checks,
}

impl Lookups {
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(Option::is_none) && self.locates.is_idle() && self.checks.is_idle()
    }
}

impl Store {
    /// The bytes among which the first batch from `from` on with a timestamp of at least
    /// `timestamp` lies. They may hold no such batch, when what the index knows of lies before
    /// `from`, before the log start or beyond the high-water mark: then the caller goes on from the
    /// offset behind them.
    pub fn find_timestamp(
        &mut self,
        log: LogId,
        timestamp: Timestamp,
        from: Offset,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        let scan_bytes = SCAN_BYTES.min((self.config.tail_cache_bytes / SCAN_SHARES) as u64);
        let state = self.log(log);
        let range = state.timestamp_range(log, timestamp, from, scan_bytes);
        match range {
            Some(range) => self.fetch_range(log, range, lookup, disk),
            None => Lookup::Empty,
        }
    }

    /// Whole batches from the one with `from` on, some earlier ones before it perhaps, up to the
    /// durable end: as many as one read of bounded size brings. A hole is passed over, so that the
    /// first batch may come later than asked for; behind the last one it is [`Lookup::Empty`].
    pub fn read_batches(
        &mut self,
        log: LogId,
        from: Offset,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        if from >= self.log(log).durable.offset {
            return Lookup::Empty;
        }
        // Every batch has this time or a later one.
        self.find_timestamp(log, Timestamp::MIN, from, lookup, disk)
    }

    /// The largest timestamp the log is known to have in front of the high-water mark, -1 when it
    /// knows of none. Records between the last index entry and the mark may have a larger one, and
    /// the one that has it may lie below the log start.
    #[must_use]
    pub fn largest_timestamp(&self, log: LogId) -> Timestamp {
        let state = self.log(log);
        let segments = state.segments.iter();
        let largest = segments.map(|segment| state.largest_in(segment)).max();
        largest.unwrap_or(-1)
    }

    fn fetch_range(
        &mut self,
        log: LogId,
        range: Stretch,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        let state = self.log(log);
        let tail = state.tail.buffers.iter().find(|tail| {
            tail.segment_base == range.segment_base
                && tail.first_position <= range.from.0
                && range.to.0 <= tail.end_position()
        });
        if let Some(tail) = tail {
            let start = (range.from.0 - tail.file_start) as usize;
            let len = (range.to.0 - range.from.0) as usize;
            let buffer = std::rc::Rc::clone(&tail.buffer);
            return Lookup::Ready(BufferSlice::new(buffer, start, len));
        }
        self.read_range(range, lookup, disk)
    }

    fn read_range(&mut self, range: Stretch, lookup: u64, disk: &mut Vec<DiskRequest>) -> Lookup {
        let slots = &mut self.lookups.slots;
        let slot = match slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if slots.len() < LOOKUPS_IN_FLIGHT_MAX => {
                slots.push(None);
                slots.len() - 1
            }
            None => return Lookup::Busy,
        };
        let Some(buffer) = self.take_buffer(range.len()) else {
            return Lookup::Busy;
        };
        let read = PendingRead {
            lookup,
            buffer,
            stretch: range,
            header: self.has_unchecked_header(&range),
        };
        self.read_slot(slot, read, disk);
        Lookup::Pending
    }

    fn read_slot(&mut self, slot: usize, read: PendingRead, disk: &mut Vec<DiskRequest>) {
        let (offset, len) = match read.header {
            true => (0, BLOCK_BYTES),
            false => (read.stretch.start(), read.stretch.len()),
        };
        self.drain_background(disk);
        disk.push(DiskRequest {
            token: token(token_kind::LOOKUP, slot as u32),
            operation: DiskOperation::Read {
                file: read.stretch.file,
                offset,
                len,
                buffer: std::rc::Rc::clone(&read.buffer),
                aside: false,
            },
        });
        self.lookups.slots[slot] = Some(read);
    }

    pub(crate) fn finish_lookup(
        &mut self,
        slot: u32,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let slot = slot as usize;
        let pending = self.lookups.slots.get_mut(slot);
        let Some(mut read) = pending.and_then(Option::take) else {
            return;
        };
        let stretch = read.stretch;
        let result = match read.header && self.is_of_log(&stretch) {
            true => match self.judge_header(&stretch, result, &read.buffer, events) {
                HeaderVerdict::Passes => {
                    read.buffer.set_filled(0);
                    read.header = false;
                    return self.read_slot(slot, read, disk);
                }
                HeaderVerdict::Foreign => Err(DAMAGED),
                HeaderVerdict::Failed(error) => Err(error),
            },
            false => self.judge_lookup(&read, result, events),
        };
        events.push(StoreEvent::LookupRead {
            lookup: read.lookup,
            result,
        });
        // It is reused when the event's slice is gone.
        self.release(read.buffer);
    }

    /// The bytes a lookup asked for, if they are what must be there.
    fn judge_lookup(
        &mut self,
        read: &PendingRead,
        result: Result<usize, DiskError>,
        events: &mut Vec<StoreEvent>,
    ) -> Result<BufferSlice, DiskError> {
        let stretch = read.stretch;
        if let Err(error) = result {
            if is_damage(error) && self.is_of_log(&stretch) {
                self.suspect_in(stretch.log, stretch.segment_base, stretch.from.0);
            }
            return Err(error);
        }
        if !self.passes(&stretch, &read.buffer, stretch.start(), events) {
            return Err(DAMAGED);
        }
        let buffer = std::rc::Rc::clone(&read.buffer);
        let skip_bytes = (stretch.from.0 - stretch.start()) as usize;
        let bytes = (stretch.to.0 - stretch.from.0) as usize;
        Ok(BufferSlice::new(buffer, skip_bytes, bytes))
    }
}

impl Log {
    fn largest_in(&self, segment: &Segment) -> Timestamp {
        let durable = self.durable.offset;
        if segment.next_offset <= self.log_start {
            return -1;
        }
        if segment.next_offset <= durable {
            return segment.max_timestamp;
        }
        let visible = segment.index.floor_offset(segment.base_offset, durable);
        visible.map_or(-1, |at| segment.index.entries()[at].max_timestamp_before)
    }

    fn timestamp_range(
        &self,
        id: LogId,
        timestamp: Timestamp,
        from: Offset,
        scan_bytes: u64,
    ) -> Option<Stretch> {
        let durable = self.durable.offset;
        let from = from.max(self.log_start);
        // Nothing is found in a hole; what is behind it begins with an index entry.
        let in_hole = self
            .holes
            .iter()
            .find(|hole| hole.from <= from.0 && from.0 < hole.to);
        let from = in_hole.map_or(from, |hole| Offset(hole.to));
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.max_timestamp >= timestamp && segment.next_offset > from)?;
        if segment.base_offset >= durable {
            return None;
        }
        let entries = segment.index.entries();
        let by_time = segment.index.floor_timestamp(timestamp);
        let by_offset = segment.index.floor_offset(segment.base_offset, from);
        let found = by_time.max(by_offset).unwrap_or(0);
        if found >= entries.len() {
            return None;
        }
        let from = segment.boundary(found);
        let bound = self.segment_bound(segment, from.1);
        let after = match by_offset > by_time {
            // The index says nothing about what comes first from here on.
            true => segment.index.floor_position(from.0 + scan_bytes),
            false => None,
        };
        let next = after.unwrap_or(0).max(found + 1);
        let to = match next < entries.len() {
            true => segment.boundary(next).min(bound),
            false => bound,
        };
        (from < to).then_some(Stretch {
            log: id,
            file: segment.file.file,
            segment_base: segment.base_offset,
            epoch: segment.epoch,
            from,
            to,
        })
    }
}
