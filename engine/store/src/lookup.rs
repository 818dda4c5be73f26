//! Finding batches by timestamp (ListOffsets, KIP-79 and KIP-734): the segment and the index entry
//! bound the bytes in which the first fitting batch lies; the host decodes those.

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};
use highwater_base::{BufferSlice, Offset, Timestamp};

use crate::locate::Locates;
use crate::log::{Log, LogId};
use crate::segment::{Segment, block_ceil, block_floor};
use crate::store::{Store, StoreEvent, token, token_kind};

/// Lookup reads under way at once; further ones answer with [`Lookup::Busy`].
pub const LOOKUPS_IN_FLIGHT_MAX: usize = 64;

/// Bytes read at once where the index does not help; with the blocks around them a power of two.
const SCAN_BYTES: u64 = 248 << 10;
/// The same in a small cache: this share of it.
const SCAN_SHARES: usize = 64;

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
    skip_bytes: usize,
    bytes: usize,
}

/// Reads under way.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    slots: Vec<Option<PendingRead>>,
    pub locates: Locates,
}

impl Lookups {
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(Option::is_none) && self.locates.is_idle()
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
        let range = state.timestamp_range(timestamp, from, scan_bytes);
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
        range: TimestampRange,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        let state = self.log(log);
        let tail = state.tail.buffers.iter().find(|tail| {
            tail.segment_base == range.segment_base
                && tail.first_position <= range.from
                && range.to <= tail.end_position()
        });
        if let Some(tail) = tail {
            let start = (range.from - tail.file_start) as usize;
            let len = (range.to - range.from) as usize;
            let buffer = std::rc::Rc::clone(&tail.buffer);
            return Lookup::Ready(BufferSlice::new(buffer, start, len));
        }
        self.read_range(range, lookup, disk)
    }

    fn read_range(
        &mut self,
        range: TimestampRange,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        let slots = &mut self.lookups.slots;
        let slot = match slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if slots.len() < LOOKUPS_IN_FLIGHT_MAX => {
                slots.push(None);
                slots.len() - 1
            }
            None => return Lookup::Busy,
        };
        let offset = block_floor(range.from);
        let len = (block_ceil(range.to) - offset) as usize;
        let Some(buffer) = self.take_buffer(len) else {
            return Lookup::Busy;
        };
        self.lookups.slots[slot] = Some(PendingRead {
            lookup,
            buffer: std::rc::Rc::clone(&buffer),
            skip_bytes: (range.from - offset) as usize,
            bytes: (range.to - range.from) as usize,
        });
        self.drain_background(disk);
        disk.push(DiskRequest {
            token: token(token_kind::LOOKUP, slot as u32),
            operation: DiskOperation::Read {
                file: range.file,
                offset,
                len,
                buffer,
            },
        });
        Lookup::Pending
    }

    pub(crate) fn finish_lookup(
        &mut self,
        slot: u32,
        result: Result<usize, DiskError>,
        events: &mut Vec<StoreEvent>,
    ) {
        let slot = self.lookups.slots.get_mut(slot as usize);
        let Some(read) = slot.and_then(Option::take) else {
            return;
        };
        let complete = read.buffer.filled() >= read.skip_bytes + read.bytes;
        let result = match (result, complete) {
            (Ok(_), true) => {
                let buffer = std::rc::Rc::clone(&read.buffer);
                Ok(BufferSlice::new(buffer, read.skip_bytes, read.bytes))
            }
            (Ok(_), false) => Err(DiskError::Io(5)),
            (Err(error), _) => Err(error),
        };
        events.push(StoreEvent::LookupRead {
            lookup: read.lookup,
            result,
        });
        // It is reused when the event's slice is gone.
        self.release(read.buffer);
    }
}

struct TimestampRange {
    segment_base: Offset,
    file: highwater_base::disk::FileId,
    from: u64,
    to: u64,
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
        timestamp: Timestamp,
        from: Offset,
        scan_bytes: u64,
    ) -> Option<TimestampRange> {
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
        let entry = entries.get(found)?;
        let from = u64::from(entry.position);
        let offset = segment.base_offset.plus(i64::from(entry.relative_offset));
        let bound = self.segment_bound(segment, offset);
        let after = match by_offset > by_time {
            // The index says nothing about what comes first from here on.
            true => segment.index.floor_position(from + scan_bytes),
            false => None,
        };
        let next = entries.get(after.unwrap_or(0).max(found + 1));
        let to = next.map_or(bound.0, |entry| u64::from(entry.position).min(bound.0));
        (from < to).then_some(TimestampRange {
            segment_base: segment.base_offset,
            file: segment.file.file,
            from,
            to,
        })
    }
}
