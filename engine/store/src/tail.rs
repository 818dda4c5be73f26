//! The tail of one log in memory: the append window and the older buffers that can still be read.
//!
//! Buffers are in log order; the last one is the append window. A batch never straddles two
//! buffers. A buffer that follows another one of the same segment starts with a copy of that one's
//! last, partly filled block, because the disk is written in whole blocks. Buffers leave oldest
//! first, unless someone still reads from them, and only when every byte in them is durable; who
//! may take them is the store's decision.

use std::collections::VecDeque;
use std::rc::Rc;

use highwater_base::{AlignedBuffer, BatchHeader, Offset};

/// First size of an append window; each refill takes four times as much.
pub const WINDOW_BYTES_MIN: usize = 16 * 1024;
/// Largest append window, unless one batch needs more.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One buffer of the tail and where it lies in its segment's file.
#[derive(Debug)]
pub(crate) struct TailBuffer {
    pub buffer: Rc<AlignedBuffer>,
    /// Never reused within a log: a write under way names its buffer by it.
    pub serial: u64,
    /// Base offset of the segment it belongs to.
    pub segment_base: Offset,
    /// File position of the buffer's first byte; a multiple of the block size.
    pub file_start: u64,
    /// File position and offset of the first batch that starts in this buffer.
    pub first_position: u64,
    pub first_offset: Offset,
    /// Offset after the last batch in it.
    pub end_offset: Offset,
    /// Bytes from the front that completed writes cover.
    pub written: usize,
    /// A reader was given a part of it and may not be done.
    pub lent: bool,
}

impl TailBuffer {
    /// File position after the last batch in it.
    pub fn end_position(&self) -> u64 {
        self.file_start + self.buffer.filled() as u64
    }

    /// Whether the file holds all of it.
    pub fn is_written(&self) -> bool {
        self.written == self.buffer.filled()
    }

    /// The header of the batch at `position`, which must be the start of one.
    pub fn header_at(&self, position: u64) -> BatchHeader {
        let at = (position - self.file_start) as usize;
        let bytes = self.buffer.slice(at, self.buffer.filled() - at);
        BatchHeader::parse(bytes).expect("the tail holds only batches that were checked")
    }
}

/// All buffers of one log, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub buffers: VecDeque<TailBuffer>,
    /// Leading buffers that are completely written and not the append window.
    pub written_buffers: usize,
    next_serial: u64,
    /// Capacity of the window taken last.
    window_bytes: usize,
}

impl Tail {
    /// Capacity the next window should have, if memory allows.
    pub fn next_window_bytes(&self) -> usize {
        let grown = self.window_bytes.saturating_mul(4);
        grown.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }

    /// Makes `buffer` the append window. Of its bytes, those before `first.0` were copied from the
    /// file or the buffer before it, except in a new segment, where they are the header block.
    pub fn push(
        &mut self,
        buffer: Rc<AlignedBuffer>,
        segment_base: Offset,
        file_start: u64,
        first: (u64, Offset),
    ) {
        self.window_bytes = buffer.capacity();
        let tail = self.placed(buffer, segment_base, file_start, first);
        self.buffers.push_back(tail);
        self.count_written();
    }

    /// Puts the buffer that `push` would have made the append window before all others: its first
    /// block came from the file, and appends did not wait for that.
    pub fn push_front(
        &mut self,
        buffer: Rc<AlignedBuffer>,
        segment_base: Offset,
        file_start: u64,
        first: (u64, Offset),
        end_offset: Offset,
    ) {
        assert_eq!(self.written_buffers, 0, "nothing overtakes it to the disk");
        self.window_bytes = self.window_bytes.max(buffer.capacity());
        let tail = self.placed(buffer, segment_base, file_start, first);
        self.buffers.push_front(TailBuffer { end_offset, ..tail });
    }

    /// A buffer at its place in the log, before its first batch.
    fn placed(
        &mut self,
        buffer: Rc<AlignedBuffer>,
        segment_base: Offset,
        file_start: u64,
        first: (u64, Offset),
    ) -> TailBuffer {
        let written = match file_start {
            0 => 0,
            _ => (first.0 - file_start) as usize,
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        TailBuffer {
            buffer,
            serial,
            segment_base,
            file_start,
            first_position: first.0,
            first_offset: first.1,
            end_offset: first.1,
            written,
            lent: false,
        }
    }

    /// The buffer to write next: the first with bytes the file lacks.
    pub fn first_unwritten(&self) -> Option<&TailBuffer> {
        self.buffers
            .iter()
            .skip(self.written_buffers)
            .find(|tail| !tail.is_written())
    }

    /// Notes that the buffer with this serial is written up to `written`.
    pub fn set_written(&mut self, serial: u64, written: usize) {
        let skip = self.written_buffers;
        let buffer = self.buffers.iter_mut().skip(skip);
        if let Some(tail) = buffer.into_iter().find(|tail| tail.serial == serial) {
            tail.written = written;
        }
        self.count_written();
    }

    fn count_written(&mut self) {
        while self.written_buffers + 1 < self.buffers.len()
            && self.buffers[self.written_buffers].is_written()
        {
            self.written_buffers += 1;
        }
    }

    /// The buffer that holds the batch with `offset`, if it is in memory.
    pub fn find(&self, offset: Offset) -> Option<&TailBuffer> {
        let after = self
            .buffers
            .partition_point(|tail| tail.first_offset <= offset);
        let tail = self.buffers.get(after.checked_sub(1)?)?;
        (offset < tail.end_offset).then_some(tail)
    }

    /// The same, to change it.
    pub fn find_mut(&mut self, offset: Offset) -> Option<&mut TailBuffer> {
        let after = self
            .buffers
            .partition_point(|tail| tail.first_offset <= offset);
        let tail = self.buffers.get_mut(after.checked_sub(1)?)?;
        (offset < tail.end_offset).then_some(tail)
    }

    /// Whether someone else holds the lent buffer with this serial; if not, it is lent no more.
    pub fn is_still_lent(&mut self, serial: u64) -> bool {
        let after = self.buffers.partition_point(|tail| tail.serial <= serial);
        let Some(at) = after.checked_sub(1) else {
            return false;
        };
        let tail = &mut self.buffers[at];
        tail.lent = tail.lent && tail.serial == serial && Rc::strong_count(&tail.buffer) > 1;
        tail.lent
    }

    /// The first buffer of a segment that starts at or after `offset`.
    pub fn first_from(&self, segment_base: Offset, offset: Offset) -> Option<&TailBuffer> {
        let at = self
            .buffers
            .partition_point(|tail| tail.first_offset < offset);
        let tail = self.buffers.get(at)?;
        (tail.segment_base == segment_base).then_some(tail)
    }

    /// Removes the oldest buffer.
    pub fn pop_oldest(&mut self) -> Option<Rc<AlignedBuffer>> {
        let tail = self.buffers.pop_front()?;
        self.written_buffers = self.written_buffers.saturating_sub(1);
        if self.buffers.is_empty() {
            self.window_bytes = 0;
        }
        Some(tail.buffer)
    }

    /// Removes the oldest buffer that is durable, not the append window, and that nobody reads.
    /// What it held is read from the file then, also when older buffers stay.
    pub fn remove_oldest_free(&mut self, durable: Offset) -> Option<Rc<AlignedBuffer>> {
        let at = self
            .buffers
            .iter()
            .take(self.written_buffers)
            .position(|tail| tail.end_offset <= durable && Rc::strong_count(&tail.buffer) == 1)?;
        self.written_buffers -= 1;
        self.buffers.remove(at).map(|tail| tail.buffer)
    }

    /// Removes the oldest buffer, if it belongs to the segment with this base offset.
    pub fn pop_oldest_of(&mut self, segment_base: Offset) -> Option<Rc<AlignedBuffer>> {
        let oldest = self.buffers.front()?;
        match oldest.segment_base == segment_base {
            true => self.pop_oldest(),
            false => None,
        }
    }

    /// Removes the newest buffer, if it belongs to the segment with this base offset.
    pub fn pop_newest_of(&mut self, segment_base: Offset) -> Option<Rc<AlignedBuffer>> {
        let newest = self.buffers.back()?;
        if newest.segment_base != segment_base {
            return None;
        }
        let tail = self.buffers.pop_back()?;
        let others = self.buffers.len().saturating_sub(1);
        self.written_buffers = self.written_buffers.min(others);
        Some(tail.buffer)
    }
}
