//! Finding the exact position of a batch: a read has to start with the batch that holds the offset
//! asked for, and the sparse index knows only every so many bytes where a batch begins.
//!
//! What is known is kept: index entries, and per log the last few positions that were found or that
//! a read ended at, so that a reader who goes on where it stopped costs nothing. For what is not
//! known the batch headers behind the nearest index entry are walked, in reads of a bounded size;
//! the reader is told to wait and reads again on [`StoreEvent::Located`].

use std::collections::VecDeque;
use std::rc::Rc;

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest, FileId};
use highwater_base::record_batch::HEADER_BYTES;
use highwater_base::{AlignedBuffer, BatchHeader, Epoch, Offset};

use crate::damage::is_damage;
use crate::log::{Log, LogId};
use crate::segment::{HEADER_BLOCK_BYTES, Segment, block_ceil, block_floor};
use crate::store::{Store, StoreEvent, token, token_kind};

/// Bytes read at once.
const CHUNK_BYTES: u64 = 64 << 10;
/// Walks under way at once.
const LOCATES_IN_FLIGHT_MAX: usize = 32;
/// Walks that wait for a place; readers beyond them find out when they read again.
const LOCATES_WAITING_MAX: usize = 256;
/// Positions kept per log.
const POSITIONS_KEPT: usize = 8;

/// Where the batch that holds `offset` begins, or why that could not be found out.
#[derive(Clone, Copy, Debug)]
struct KnownPosition {
    offset: Offset,
    segment_base: Offset,
    position: Result<u64, DiskError>,
}

/// The last positions found in a log.
#[derive(Debug, Default)]
pub(crate) struct KnownPositions {
    entries: Vec<KnownPosition>,
    /// The entry that goes next.
    oldest: usize,
}

impl KnownPositions {
    fn find(&self, segment_base: Offset, offset: Offset) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.offset == offset && entry.segment_base == segment_base)
    }

    /// Keeps an entry in the place of `instead`, or else in that of the oldest.
    fn note(&mut self, entry: KnownPosition, instead: Option<usize>) {
        let known = self.find(entry.segment_base, entry.offset);
        if let Some(at) = known.or(instead) {
            self.entries[at] = entry;
        } else if self.entries.len() < POSITIONS_KEPT {
            self.entries.reserve_exact(POSITIONS_KEPT);
            self.entries.push(entry);
        } else {
            self.entries[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % POSITIONS_KEPT;
        }
    }

    /// Why the position of a batch could not be found, when that was tried and not told yet.
    pub fn failure(&self, segment_base: Offset, offset: Offset) -> Option<DiskError> {
        let at = self.find(segment_base, offset)?;
        self.entries[at].position.err()
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<KnownPosition>()
    }
}

/// A walk through batch headers.
#[derive(Debug)]
struct Walk {
    log: LogId,
    /// Its batch is looked for.
    offset: Offset,
    file: FileId,
    segment_base: Offset,
    epoch: Epoch,
    /// A batch begins here, with this offset.
    at: (u64, Offset),
    /// The batch looked for begins before this position.
    end: u64,
}

/// Where a walk stands after a chunk.
enum Step {
    Found(u64),
    /// The next header is not in the chunk.
    GoOn((u64, Offset)),
    Damaged,
}

impl Walk {
    fn chunk_start(&self) -> u64 {
        block_floor(self.at.0)
    }

    fn step(&self, chunk: &[u8]) -> Step {
        let (mut position, mut next_offset) = self.at;
        while position < self.end {
            let from = (position - self.chunk_start()) as usize;
            let header = match chunk.get(from..).filter(|rest| rest.len() >= HEADER_BYTES) {
                Some(rest) => BatchHeader::parse(rest),
                None if position > self.at.0 => return Step::GoOn((position, next_offset)),
                None => return Step::Damaged,
            };
            let continues = |header: &BatchHeader| {
                header.base_offset == next_offset.0
                    && header.partition_leader_epoch == self.epoch.as_leader_epoch()
            };
            let Some(header) = header.ok().filter(continues) else {
                return Step::Damaged;
            };
            if header.next_offset() > self.offset {
                return Step::Found(position);
            }
            next_offset = header.next_offset();
            position += header.total_bytes() as u64;
        }
        Step::Damaged
    }
}

/// Walks under way and in line.
#[derive(Debug, Default)]
pub(crate) struct Locates {
    slots: Vec<Option<(Walk, Rc<AlignedBuffer>)>>,
    waiting: VecDeque<(LogId, Offset)>,
}

impl Locates {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.iter().all(Option::is_none)
    }

    pub fn retain_waiting(&mut self, keeps: impl Fn(&LogId) -> bool) {
        self.waiting.retain(|(log, _)| keeps(log));
    }

    fn free_slot(&mut self) -> Option<usize> {
        let free = self.slots.iter().position(Option::is_none);
        if free.is_none() && self.slots.len() < LOCATES_IN_FLIGHT_MAX {
            self.slots.push(None);
            return Some(self.slots.len() - 1);
        }
        free
    }
}

impl Log {
    /// Where the batch that holds `offset` begins, when that is known. A failure is told once.
    pub(crate) fn known_position(
        &self,
        segment: &Segment,
        offset: Offset,
    ) -> Option<Result<u64, DiskError>> {
        if let Some(position) = segment.indexed_position(offset) {
            return Some(Ok(position));
        }
        let at = self.positions.find(segment.base_offset, offset)?;
        Some(self.positions.entries[at].position)
    }

    /// A read of the batch with `offset` failed; the reader is told once.
    pub(crate) fn note_failure(&mut self, segment_base: Offset, offset: Offset, error: DiskError) {
        let entry = KnownPosition {
            offset,
            segment_base,
            position: Err(error),
        };
        self.positions.note(entry, None);
    }

    /// A failure was told: the next read tries again.
    pub(crate) fn forget_position(&mut self, offset: Offset) {
        let entries = &mut self.positions.entries;
        entries.retain(|entry| entry.offset != offset);
        self.positions.oldest = 0;
    }

    /// A read from `start` ended at `end`, where a reader goes on.
    pub(crate) fn note_end(&mut self, start: Offset, end: Offset, position: u64) {
        let Some(at) = self.segment_of(end) else {
            return;
        };
        let segment = &self.segments[at];
        if segment.indexed_position(end).is_some() {
            return;
        }
        let segment_base = segment.base_offset;
        // A reader has one place, however far it gets.
        let instead = self.positions.find(segment_base, start);
        let entry = KnownPosition {
            offset: end,
            segment_base,
            position: Ok(position),
        };
        self.positions.note(entry, instead);
    }
}

impl Segment {
    /// Position of the batch that begins with `offset`, if the index has it.
    fn indexed_position(&self, offset: Offset) -> Option<u64> {
        if offset == self.base_offset {
            return Some(HEADER_BLOCK_BYTES);
        }
        let at = self.index.floor_offset(self.base_offset, offset)?;
        let entry = &self.index.entries()[at];
        let relative = offset.0 - self.base_offset.0;
        (i64::from(entry.relative_offset) == relative).then_some(u64::from(entry.position))
    }
}

impl Store {
    /// Puts the offset in line for a walk.
    pub(crate) fn locate(&mut self, log: LogId, offset: Offset) {
        let locates = &mut self.lookups.locates;
        let walks = locates.slots.iter().flatten();
        let known = walks.map(|(walk, _)| (walk.log, walk.offset));
        let mut known = known.chain(locates.waiting.iter().copied());
        if !known.any(|entry| entry == (log, offset)) && locates.waiting.len() < LOCATES_WAITING_MAX
        {
            locates.waiting.push_back((log, offset));
        }
    }

    /// Starts the walks in line, as far as there are places and memory.
    pub(crate) fn issue_locates(&mut self, disk: &mut Vec<DiskRequest>) {
        while let Some(&(log, offset)) = self.lookups.locates.waiting.front() {
            let Some(slot) = self.lookups.locates.free_slot() else {
                return;
            };
            let state = self.live_log(log);
            let Some(walk) = state.and_then(|state| state.walk_to(log, offset)) else {
                self.lookups.locates.waiting.pop_front();
                continue;
            };
            let Some(buffer) = self.take_buffer(chunk_len(walk.at.0, walk.end)) else {
                return;
            };
            self.lookups.locates.waiting.pop_front();
            self.read_chunk(slot, walk, buffer, disk);
        }
    }

    fn read_chunk(
        &mut self,
        slot: usize,
        walk: Walk,
        buffer: Rc<AlignedBuffer>,
        disk: &mut Vec<DiskRequest>,
    ) {
        self.drain_background(disk);
        disk.push(DiskRequest {
            token: token(token_kind::LOCATE, slot as u32),
            operation: DiskOperation::Read {
                file: walk.file,
                offset: walk.chunk_start(),
                len: chunk_len(walk.at.0, walk.end),
                buffer: Rc::clone(&buffer),
                aside: false,
            },
        });
        self.lookups.locates.slots[slot] = Some((walk, buffer));
    }

    /// A chunk was read: the batch is found, or the walk goes on behind it.
    pub(crate) fn finish_locate(
        &mut self,
        slot: u32,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let slot = slot as usize;
        let walk = self.lookups.locates.slots.get_mut(slot);
        let Some((mut walk, buffer)) = walk.and_then(Option::take) else {
            return;
        };
        let step = result.map(|_| walk.step(buffer.slice(0, buffer.filled())));
        self.release(buffer);
        if self.log_has_file(walk.log, walk.segment_base, walk.file) {
            let position = match step {
                Ok(Step::Found(position)) => Ok(position),
                Err(error) if !is_damage(error) => Err(error),
                // The reader goes on waiting: for the check that finds out what is damaged.
                Ok(Step::Damaged) | Err(_) => {
                    self.suspect_in(walk.log, walk.segment_base, walk.at.0);
                    self.issue_locates(disk);
                    return;
                }
                Ok(Step::GoOn(at)) => {
                    walk.at = at;
                    match self.take_buffer(chunk_len(at.0, walk.end)) {
                        Some(buffer) => self.read_chunk(slot, walk, buffer, disk),
                        None => self.locate(walk.log, walk.offset),
                    }
                    return;
                }
            };
            let log = walk.log;
            let entry = KnownPosition {
                offset: walk.offset,
                segment_base: walk.segment_base,
                position,
            };
            self.log_mut(log).positions.note(entry, None);
            events.push(StoreEvent::Located { log });
        }
        self.issue_locates(disk);
    }

    /// Whether the log and the segment a walk was begun for are still there.
    pub(crate) fn log_has_file(&mut self, log: LogId, segment_base: Offset, file: FileId) -> bool {
        let segment = self
            .live_log(log)
            .and_then(|state| state.segment_at_base(segment_base));
        segment.is_some_and(|segment| segment.file.file == file)
    }
}

impl Log {
    /// The walk from a batch boundary at or before `offset` to its batch. `None` when it cannot be
    /// read any more.
    fn walk_to(&self, log: LogId, offset: Offset) -> Option<Walk> {
        self.check_readable(offset).ok()?;
        let segment = &self.segments[self.segment_of(offset)?];
        let bound = self.segment_bound(segment, offset);
        if offset >= bound.1 {
            return None;
        }
        let boundary = |at: usize| {
            let entry = segment.index.entries().get(at)?;
            let offset = segment.base_offset.plus(i64::from(entry.relative_offset));
            Some((u64::from(entry.position), offset))
        };
        let before = segment.index.floor_offset(segment.base_offset, offset);
        let first = (HEADER_BLOCK_BYTES, segment.base_offset);
        let at = before.and_then(boundary).unwrap_or(first);
        let after = boundary(before.map_or(0, |before| before + 1));
        let end = after.map_or(bound.0, |after| after.0.min(bound.0));
        Some(Walk {
            log,
            offset,
            file: segment.file.file,
            segment_base: segment.base_offset,
            epoch: segment.epoch,
            at,
            end,
        })
    }
}

/// Bytes to read for the headers from `position` on, whole blocks.
fn chunk_len(position: u64, end: u64) -> usize {
    let start = block_floor(position);
    (block_ceil(end.max(position + 1)) - start).min(CHUNK_BYTES) as usize
}
