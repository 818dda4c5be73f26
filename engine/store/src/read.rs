//! Reading: pieces of whole batches below the durable end, from memory where the tail still holds
//! them, else as ranges of a segment file.
//!
//! The first piece begins with the batch that holds the offset asked for: clients tell by the
//! first batch where they are, and not all of them skip earlier ones. In memory the headers are
//! walked from the nearest index entry. In a file the position must be known; when it is not,
//! `locate` finds it and the read is tried again. A memory piece ends at any batch, a file piece at
//! an index entry. No piece crosses a hole or the durable end.
//!
//! What was taken on trust at the start is checked before it is given out (`check`): until then a
//! read is told to wait, and it is given the checked bytes. A file piece says what its first batch
//! has to be ([`ExpectedBatch`]), for whoever sends it to look.

use highwater_base::disk::{DiskError, FileId};
use highwater_base::{BatchHeader, BufferSlice, Epoch, Offset};

use crate::log::{Log, LogId};
use crate::segment::{HEADER_BLOCK_BYTES, Segment};
use crate::store::Store;
use crate::stretch::Boundary;
use crate::tail::TailBuffer;

/// A run of whole batches.
#[derive(Clone, Debug)]
pub enum ReadPiece {
    Memory(BufferSlice),
    File {
        file: FileId,
        offset: u64,
        len: usize,
        /// Up to where the file holds readable batches, which a reader that goes on will want
        /// next: the bound of reading ahead.
        readable_end: u64,
        first: ExpectedBatch,
    },
}

/// What the batch at the front of a file piece has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedBatch {
    /// An offset that it holds.
    pub holds: Offset,
    pub epoch: Epoch,
    /// Bytes of the piece: it ends within.
    pub bytes_max: usize,
}

impl ExpectedBatch {
    /// Whether `head`, the first bytes of the piece, is that of such a batch.
    #[must_use]
    pub fn is_met_by(&self, head: &[u8]) -> bool {
        let Ok(header) = BatchHeader::parse(head) else {
            return false;
        };
        (header.base_offset <= self.holds.0 || cfg!(mutant = "S55"))
            && self.holds < header.next_offset()
            && header.partition_leader_epoch == self.epoch.as_leader_epoch()
            && header.total_bytes() <= self.bytes_max
    }
}

/// What a read covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    pub bytes: usize,
    /// First offset after what was returned; the offset asked for when that is nothing.
    pub next_offset: Offset,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// Why there is nothing to read at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the offset lies outside {log_start} to {high_watermark}")]
    OutOfRange {
        log_start: Offset,
        high_watermark: Offset,
    },
    /// The batches from `from` up to `to` are lost or corrupt.
    #[error("the log is damaged from offset {from} to {to}")]
    Hole { from: Offset, to: Offset },
    /// Where the offset lies in its segment is being looked up: read again on
    /// [`crate::StoreEvent::Located`].
    #[error("the position of the offset is being looked up")]
    Locating,
    /// That look-up failed.
    #[error("the position of offset {offset} could not be found: {error}")]
    Unreadable { offset: Offset, error: DiskError },
}

/// A piece, its bytes and the boundary it ends at.
type Piece = (ReadPiece, u64, Boundary);

/// Why a file piece cannot begin.
enum Missing {
    /// Nobody has looked where it is.
    NotLooked,
    /// Nobody has checked what is there.
    Unchecked,
    Failed(DiskError),
}

/// Where the read stands.
struct Cursor {
    offset: Offset,
    /// Position of the batch at `offset`, once a piece ended there.
    position: Option<u64>,
    /// Bytes that may still be returned.
    budget: u64,
    /// The next piece must make progress, even beyond the budget.
    must_progress: bool,
}

impl Store {
    /// Appends pieces that cover whole batches, from the one that holds `offset`, below the
    /// high-water mark, of at most `max_bytes`, but at least one batch when `at_least_one`. Reading
    /// at the high-water mark gives zero bytes.
    ///
    /// # Errors
    /// [`ReadError`]; no piece was added then.
    pub fn read(
        &mut self,
        log: LogId,
        offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
        pieces: &mut Vec<ReadPiece>,
    ) -> Result<ReadOutcome, ReadError> {
        self.read_from(log, offset, max_bytes, at_least_one, true, pieces)
    }

    /// As [`Store::read`], but file ranges only, also of what is in memory: for a reader that would
    /// have to copy it.
    ///
    /// # Errors
    /// [`ReadError`]; no piece was added then.
    pub fn read_files(
        &mut self,
        log: LogId,
        offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
        pieces: &mut Vec<ReadPiece>,
    ) -> Result<ReadOutcome, ReadError> {
        self.read_from(log, offset, max_bytes, at_least_one, false, pieces)
    }

    fn read_from(
        &mut self,
        log: LogId,
        offset: Offset,
        max_bytes: usize,
        at_least_one: bool,
        memory: bool,
        pieces: &mut Vec<ReadPiece>,
    ) -> Result<ReadOutcome, ReadError> {
        self.log(log).check_readable(offset)?;
        let mut cursor = Cursor {
            offset,
            position: None,
            budget: max_bytes as u64,
            must_progress: at_least_one,
        };
        let mut bytes = 0;
        let end = self.log(log).readable_end(offset);
        while cursor.offset < end && (cursor.budget > 0 || cursor.must_progress) {
            let from_memory = memory && self.lend(log, cursor.offset);
            let piece = match self.log(log).next_piece(&cursor, from_memory) {
                Err(Missing::Unchecked) => self.checked_piece(log, &cursor, memory),
                piece => piece,
            };
            let piece = match piece {
                Ok(piece) => piece,
                Err(missing) if bytes > 0 => {
                    // The next read begins here; by then it is known what is there.
                    if let Missing::Unchecked = missing {
                        self.check(log, cursor.offset);
                    }
                    None
                }
                Err(missing) => return Err(self.look_for(log, offset, &missing)),
            };
            let Some((piece, len, next)) = piece else {
                break;
            };
            assert!(next.1 > cursor.offset, "a piece makes progress");
            bytes += len;
            cursor.budget = cursor.budget.saturating_sub(len);
            cursor.must_progress = false;
            cursor.offset = next.1;
            cursor.position = Some(next.0);
            pieces.push(piece);
        }
        let state = self.log_mut(log);
        state.was_used = true;
        if let Some(position) = cursor.position {
            state.note_end(offset, cursor.offset, position);
        }
        Ok(ReadOutcome {
            bytes: bytes as usize,
            next_offset: cursor.offset,
            high_watermark: state.durable.offset,
            log_start: state.log_start,
        })
    }

    /// A piece of what was checked just now.
    fn checked_piece(
        &mut self,
        log: LogId,
        cursor: &Cursor,
        memory: bool,
    ) -> Result<Option<Piece>, Missing> {
        let state = self.log(log);
        let segment = state.segment_of(cursor.offset);
        let segment = &state.segments[segment.ok_or(Missing::Unchecked)?];
        let file = segment.file.file;
        let lent = memory && self.lend_chunk(log, file, cursor.offset);
        let state = self.log(log);
        let chunk = self.lookups.checks.find(log, file, cursor.offset);
        let chunk = chunk.ok_or(Missing::Unchecked)?;
        let segment = state
            .segment_of(cursor.offset)
            .map(|at| &state.segments[at]);
        let segment = segment.ok_or(Missing::Unchecked)?;
        let bound = state.segment_bound(segment, cursor.offset);
        let known = cursor
            .position
            .filter(|position| *position >= chunk.first_position);
        let start = known.unwrap_or_else(|| position_in(chunk, segment, cursor.offset));
        Ok(match lent {
            true => memory_piece(segment, chunk, cursor, start, bound),
            // Too much memory is lent: the file had the same a moment ago.
            false => {
                let bound = bound.min((chunk.end_position(), chunk.end_offset));
                file_piece(segment, cursor, start, bound)
            }
        })
    }

    /// Has what is missing looked up, unless that failed just now.
    fn look_for(&mut self, log: LogId, offset: Offset, missing: &Missing) -> ReadError {
        match *missing {
            Missing::NotLooked => {
                self.locate(log, offset);
                ReadError::Locating
            }
            Missing::Unchecked => {
                self.check(log, offset);
                ReadError::Locating
            }
            Missing::Failed(error) => {
                self.log_mut(log).forget_position(offset);
                ReadError::Unreadable { offset, error }
            }
        }
    }
}

impl Log {
    pub(crate) fn check_readable(&self, offset: Offset) -> Result<(), ReadError> {
        if offset < self.log_start || offset > self.durable.offset {
            return Err(ReadError::OutOfRange {
                log_start: self.log_start,
                high_watermark: self.durable.offset,
            });
        }
        let inside = |hole: &&crate::log::Hole| hole.from <= offset.0 && offset.0 < hole.to;
        match self.holes.iter().find(inside) {
            Some(hole) => Err(ReadError::Hole {
                from: Offset(hole.from),
                to: Offset(hole.to),
            }),
            None => Ok(()),
        }
    }

    /// Where a read that starts at `offset` must stop: the next hole or the durable end.
    fn readable_end(&self, offset: Offset) -> Offset {
        let hole = self.holes.iter().find(|hole| hole.from >= offset.0);
        let durable = if cfg!(mutant = "S08") {
            self.end
        } else {
            self.durable.offset
        };
        hole.map_or(durable, |hole| durable.min(Offset(hole.from)))
    }

    /// The end of what may be read of a segment: durable, and in front of the next hole.
    pub(crate) fn segment_bound(&self, segment: &Segment, offset: Offset) -> Boundary {
        let durable = self.durable;
        let bound = if segment.base_offset == durable.segment_base && !cfg!(mutant = "S08") {
            (durable.position, durable.offset)
        } else {
            (segment.end_position, segment.next_offset)
        };
        let hole = self.holes.iter().find(|hole| hole.from >= offset.0);
        let Some(hole) = hole.filter(|hole| hole.from < bound.1.0) else {
            return bound;
        };
        // The position in front of a hole is that of the batch end recovery recorded there.
        let at = segment.hole_positions.iter().find(|at| at.1.0 == hole.from);
        at.copied().unwrap_or(bound)
    }

    /// The next piece, if there is one.
    fn next_piece(&self, cursor: &Cursor, from_memory: bool) -> Result<Option<Piece>, Missing> {
        let Some(segment) = self.segment_of(cursor.offset) else {
            return Ok(None);
        };
        let segment = &self.segments[segment];
        let bound = self.segment_bound(segment, cursor.offset);
        if cursor.offset >= bound.1 {
            return Ok(None);
        }
        // A position is only good within its segment.
        let position = match cursor.offset == segment.base_offset {
            true => Some(HEADER_BLOCK_BYTES),
            false => cursor.position,
        };
        if let Some(tail) = self.tail.find(cursor.offset) {
            let start = position.unwrap_or_else(|| position_in(tail, segment, cursor.offset));
            if from_memory {
                return Ok(memory_piece(segment, tail, cursor, start, bound));
            }
            // Too much memory is lent: the file has it as well.
            if !self.config.verify_on_fetch {
                return Ok(file_piece(segment, cursor, start, bound));
            }
        }
        let failure = self.positions.failure(segment.base_offset, cursor.offset);
        if let Some(error) = failure {
            return Err(Missing::Failed(error));
        }
        if self.is_unchecked(segment, cursor.offset) {
            return Err(Missing::Unchecked);
        }
        let start = match position {
            Some(position) => position,
            None => match self.known_position(segment, cursor.offset) {
                Some(Ok(position)) => position,
                Some(Err(error)) => return Err(Missing::Failed(error)),
                None => return Err(Missing::NotLooked),
            },
        };
        let bound = self.checked_bound(segment, start, bound);
        let cached = self.tail.first_from(segment.base_offset, cursor.offset);
        let bound = cached.map_or(bound, |tail| {
            bound.min((tail.first_position, tail.first_offset))
        });
        Ok(file_piece(segment, cursor, start, bound))
    }

    /// The last boundary that the index knows in front of what is still to be checked.
    fn checked_bound(&self, segment: &Segment, start: u64, bound: Boundary) -> Boundary {
        let Some(unchecked) = segment.unchecked.first_from(start) else {
            return bound;
        };
        let entry = segment.index.floor_position(unchecked);
        entry.map_or(bound, |at| segment.boundary(at).min(bound))
    }
}

/// Position of the index entry, or else of the buffer's first batch.
fn nearest(segment: &Segment, tail: &TailBuffer, entry: Option<usize>) -> u64 {
    let indexed = entry.map_or(0, |at| u64::from(segment.index.entries()[at].position));
    indexed.max(tail.first_position)
}

/// Where the batch that holds `offset`, which is in this buffer, begins in the file.
fn position_in(tail: &TailBuffer, segment: &Segment, offset: Offset) -> u64 {
    let entry = segment.index.floor_offset(segment.base_offset, offset);
    let mut start = nearest(segment, tail, entry);
    let mut header = tail.header_at(start);
    while header.next_offset() <= offset {
        start += header.total_bytes() as u64;
        header = tail.header_at(start);
    }
    start
}

fn memory_piece(
    segment: &Segment,
    tail: &TailBuffer,
    cursor: &Cursor,
    start: u64,
    bound: Boundary,
) -> Option<Piece> {
    let bound = bound.min((tail.end_position(), tail.end_offset));
    let end = if bound.0 <= start + cursor.budget {
        bound
    } else {
        let target = start + cursor.budget;
        let entry = segment.index.floor_position(target);
        let mut at = nearest(segment, tail, entry).max(start);
        let mut next_offset = None;
        while at < bound.0 {
            let header = tail.header_at(at);
            let first = cursor.must_progress && at == start;
            if at + header.total_bytes() as u64 > target && !first {
                next_offset = Some(Offset(header.base_offset));
                break;
            }
            at += header.total_bytes() as u64;
        }
        (at, next_offset.unwrap_or(bound.1))
    };
    if end.0 <= start {
        return None;
    }
    let len = end.0 - start;
    let from = (start - tail.file_start) as usize;
    let slice = BufferSlice::new(std::rc::Rc::clone(&tail.buffer), from, len as usize);
    Some((ReadPiece::Memory(slice), len, end))
}

fn file_piece(segment: &Segment, cursor: &Cursor, start: u64, bound: Boundary) -> Option<Piece> {
    let entries = segment.index.entries();
    let boundary = |at: usize| segment.boundary(at);
    let target = start + cursor.budget;
    let end = if bound.0 <= target {
        bound
    } else {
        let fitting = segment.index.floor_position(target).map(boundary);
        match fitting.filter(|end| end.0 > start && end.1 > cursor.offset) {
            Some(end) => end.min(bound),
            None if cursor.must_progress => {
                let after = segment
                    .index
                    .floor_offset(segment.base_offset, cursor.offset);
                let next = after.map_or(0, |at| at + 1);
                match next < entries.len() {
                    true => boundary(next).min(bound),
                    false => bound,
                }
            }
            None => return None,
        }
    };
    let len = end.0.checked_sub(start).filter(|len| *len > 0)?;
    let piece = ReadPiece::File {
        file: segment.file.file,
        offset: start,
        len: len as usize,
        readable_end: bound.0,
        first: ExpectedBatch {
            holds: cursor.offset,
            epoch: segment.epoch,
            bytes_max: len as usize,
        },
    };
    Some((piece, len, end))
}
