//! Finding batches by timestamp (ListOffsets, KIP-79 and KIP-734): the segment and the index entry
//! bound the bytes in which the first fitting batch lies; the host decodes those.

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest};
use highwater_base::{BufferSlice, Timestamp};

use crate::locate::Locates;
use crate::log::{Log, LogId};
use crate::segment::{block_ceil, block_floor};
use crate::store::{Store, StoreEvent, token, token_kind};

/// Lookup reads under way at once; further ones answer with [`Lookup::Busy`].
pub const LOOKUPS_IN_FLIGHT_MAX: usize = 64;

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
    /// The bytes among which the first batch with a timestamp of at least `timestamp` lies. They
    /// may hold no such batch: then none is visible yet.
    pub fn find_timestamp(
        &mut self,
        log: LogId,
        timestamp: Timestamp,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        let range = self.log(log).timestamp_range(timestamp);
        match range {
            Some(range) => self.fetch_range(log, range, lookup, disk),
            None => Lookup::Empty,
        }
    }

    /// The bytes among which the first batch with the largest timestamp of the log lies.
    pub fn find_max_timestamp(
        &mut self,
        log: LogId,
        lookup: u64,
        disk: &mut Vec<DiskRequest>,
    ) -> Lookup {
        let state = self.log(log);
        let segments = state.segments.iter();
        match segments.map(|segment| segment.max_timestamp).max() {
            Some(timestamp) => self.find_timestamp(log, timestamp, lookup, disk),
            None => Lookup::Empty,
        }
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
    segment_base: highwater_base::Offset,
    file: highwater_base::disk::FileId,
    from: u64,
    to: u64,
}

impl Log {
    fn timestamp_range(&self, timestamp: Timestamp) -> Option<TimestampRange> {
        let durable = self.durable.offset;
        let segment = self.segments.iter().find(|segment| {
            segment.max_timestamp >= timestamp && segment.next_offset > self.log_start
        })?;
        if segment.base_offset >= durable {
            return None;
        }
        let entries = segment.index.entries();
        let found = segment.index.floor_timestamp(timestamp).unwrap_or(0);
        let entry = entries.get(found)?;
        let from = u64::from(entry.position);
        let offset = segment.base_offset.plus(i64::from(entry.relative_offset));
        let bound = self.segment_bound(segment, offset);
        let next = entries.get(found + 1);
        let to = next.map_or(bound.0, |entry| u64::from(entry.position).min(bound.0));
        (from < to).then_some(TimestampRange {
            segment_base: segment.base_offset,
            file: segment.file.file,
            from,
            to,
        })
    }
}
