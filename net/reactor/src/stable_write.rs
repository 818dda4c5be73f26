//! Bytes that a device reads do not change meanwhile.
//!
//! The last block of a tail is written while it is partly filled, and the next append changes what
//! follows, perhaps while that write is under way. A device or filesystem that takes a checksum of
//! what it is given (btrfs, T10 protection information, md) would find that it does not fit. So what
//! may still change is written from a copy. Each worker has its own memory for that and writes one
//! request at a time; small writes are copied as a whole, because a second write costs more than the
//! copy.

use std::rc::Rc;

use highwater_base::AlignedBuffer;
use highwater_base::limits::BLOCK_BYTES;

/// Writes up to this size are copied as a whole: a few microseconds.
const COPIED_BYTES_MAX: usize = 64 * 1024;

/// A range of a buffer that goes to a place in the file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub buffer: Rc<AlignedBuffer>,
    pub start: usize,
    pub len: usize,
    pub offset: u64,
}

/// A worker's memory for copies.
#[derive(Debug, Default)]
pub(crate) struct PrivateCopy {
    memory: Option<Rc<AlignedBuffer>>,
}

impl PrivateCopy {
    /// The pieces to write instead of `piece`, none of whose bytes will change: what lies in blocks
    /// that are filled where it is, and the rest from a copy that ends in zeros. A copy is given out
    /// again with the next call, when the writes of the last one are done.
    pub fn pieces_of(&mut self, piece: Piece) -> (Option<Piece>, Option<Piece>) {
        let filled = piece.buffer.filled();
        let end = piece.start + piece.len;
        if end <= filled || cfg!(mutant = "R09") {
            return (Some(piece), None);
        }
        let copied_from = match piece.len <= COPIED_BYTES_MAX {
            true => piece.start,
            false => piece.start.max(filled - filled % BLOCK_BYTES),
        };
        let copied = end - copied_from;
        assert!(
            copied <= COPIED_BYTES_MAX && filled >= copied_from,
            "a write reaches no further than the block in which its buffer ends"
        );
        let copy = self.empty();
        copy.append(piece.buffer.slice(copied_from, filled - copied_from));
        copy.append_with(end - filled, |rest| rest.fill(0));
        let kept = copied_from - piece.start;
        let copied = Piece {
            buffer: copy,
            start: 0,
            len: copied,
            offset: piece.offset + kept as u64,
        };
        let kept = (kept > 0).then_some(Piece { len: kept, ..piece });
        (kept, Some(copied))
    }

    /// The memory, empty. Its last user is done, unless its write failed in a way that left the
    /// kernel with it; then it is that write's for good.
    fn empty(&mut self) -> Rc<AlignedBuffer> {
        let mut memory = self.memory.take();
        match memory.as_mut().and_then(Rc::get_mut) {
            Some(sole) => sole.reset(),
            None => memory = None,
        }
        let memory =
            memory.unwrap_or_else(|| Rc::new(AlignedBuffer::with_capacity(COPIED_BYTES_MAX)));
        self.memory = Some(Rc::clone(&memory));
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(filled: usize) -> Rc<AlignedBuffer> {
        let buffer = Rc::new(AlignedBuffer::with_capacity(1 << 20));
        buffer.append_with(filled, |bytes| {
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = (at % 251) as u8 + 1;
            }
        });
        buffer.zero_block_rest();
        buffer
    }

    /// What the device would read of the pieces, in the order of the file.
    fn read(pieces: &(Option<Piece>, Option<Piece>)) -> Vec<(u64, Vec<u8>)> {
        let in_order = [&pieces.0, &pieces.1].into_iter().flatten();
        let read = in_order.map(|piece| {
            // A range that is not filled shows what is in memory now, as the device would.
            let memory = piece.buffer.as_ptr();
            // SAFETY: within the capacity, and nobody writes to it now.
            let bytes = unsafe { std::slice::from_raw_parts(memory.add(piece.start), piece.len) };
            (piece.offset, bytes.to_vec())
        });
        read.collect()
    }

    #[test]
    fn nothing_that_is_being_written_changes_with_the_next_append() {
        let sizes = [1, 4095, 4097, 10_000, 64 * 1024 - 1, 64 * 1024 + 1, 300_000];
        for filled in sizes {
            for start in [0, filled - filled % BLOCK_BYTES] {
                let buffer = tail(filled);
                let end = filled.next_multiple_of(BLOCK_BYTES);
                let mut private = PrivateCopy::default();
                let pieces = private.pieces_of(Piece {
                    buffer: Rc::clone(&buffer),
                    start,
                    len: end - start,
                    offset: 8192 + start as u64,
                });
                let before = read(&pieces);
                buffer.append(&[0xff; 6000]);
                assert_eq!(read(&pieces), before, "{filled} bytes from {start}");
                // Together they are the write, padded with zeros.
                assert_eq!(before[0].0, 8192 + start as u64);
                let written: Vec<u8> = before.into_iter().flat_map(|(_, bytes)| bytes).collect();
                assert_eq!(written.len(), end - start);
                assert_eq!(
                    &written[..filled - start],
                    buffer.slice(start, filled - start)
                );
                assert!(written[filled - start..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn full_blocks_are_written_from_where_they_are() {
        let buffer = tail(8 * BLOCK_BYTES);
        let mut private = PrivateCopy::default();
        let whole = |len: usize| Piece {
            buffer: Rc::clone(&buffer),
            start: 0,
            len,
            offset: 0,
        };
        let (kept, copied) = private.pieces_of(whole(8 * BLOCK_BYTES));
        assert!(copied.is_none() && kept.is_some_and(|kept| Rc::ptr_eq(&kept.buffer, &buffer)));
        assert!(private.memory.is_none(), "nothing was copied");
    }

    #[test]
    fn one_memory_serves_write_after_write() {
        let buffer = tail(100);
        let mut private = PrivateCopy::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (_, copied) = private.pieces_of(Piece {
                buffer: Rc::clone(&buffer),
                start: 0,
                len: BLOCK_BYTES,
                offset: 0,
            });
            seen.push(copied.expect("a copy").buffer.as_ptr());
        }
        assert!(seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
    }
}
