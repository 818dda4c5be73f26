//! What a group commit gathers: bytes for one direct write, and who is to be answered after it.
//!
//! A staging area starts at a 4 KiB boundary of the file. The log's last, partly filled block is
//! copied to the front of the next area, so that each write rewrites it with identical leading
//! bytes, and no memory changes while the device reads it.

use crate::memory::{AlignedMemory, BLOCK_BYTES};

/// Bytes one group commit can hold.
pub const STAGING_BYTES: usize = 4 << 20;

/// A connection that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub connection: usize,
    pub correlation: u32,
    pub error: u32,
}

/// One group of appends.
#[derive(Debug)]
pub struct Staging {
    pub memory: AlignedMemory,
    /// Where the area starts in the log; a multiple of [`BLOCK_BYTES`].
    pub start: u64,
    pub filled: usize,
    pub waiting: Vec<Waiting>,
}

impl Staging {
    /// An empty area at the log's start.
    #[must_use]
    pub fn new() -> Staging {
        Staging {
            memory: AlignedMemory::zeroed(STAGING_BYTES),
            start: 0,
            filled: 0,
            waiting: Vec::with_capacity(4096),
        }
    }

    /// Appends `payload`; false when the area is full.
    #[must_use]
    pub fn append(&mut self, payload: &[u8]) -> bool {
        let end = self.filled + payload.len();
        let Some(room) = self.memory.bytes_mut().get_mut(self.filled..end) else {
            return false;
        };
        room.copy_from_slice(payload);
        self.filled = end;
        true
    }

    /// Bytes to write: whole blocks, the last one padded with zeros.
    pub fn seal(&mut self) -> usize {
        let end = self.filled.next_multiple_of(BLOCK_BYTES);
        self.memory.bytes_mut()[self.filled..end].fill(0);
        end
    }

    /// Log offset of the end of what is gathered.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.filled as u64
    }

    /// Makes this area follow on `previous`. With `wrap`, the log starts again at zero.
    pub fn continue_after(&mut self, previous: &Staging, wrap: bool) {
        self.waiting.clear();
        if wrap {
            self.start = 0;
            self.filled = 0;
            return;
        }
        let whole = previous.filled / BLOCK_BYTES * BLOCK_BYTES;
        let partial = &previous.memory.bytes()[whole..previous.filled];
        self.memory.bytes_mut()[..partial.len()].copy_from_slice(partial);
        self.start = previous.start + whole as u64;
        self.filled = partial.len();
    }
}

impl Default for Staging {
    fn default() -> Staging {
        Staging::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_area_starts_with_the_partial_block() {
        let mut first = Staging::new();
        assert!(first.append(&[1; 5000]));
        assert_eq!(first.seal(), 8192);
        let mut second = Staging::new();
        second.continue_after(&first, false);
        assert_eq!(
            (second.start, second.filled, second.end()),
            (4096, 904, 5000)
        );
        assert_eq!(&second.memory.bytes()[..904], &[1; 904][..]);
    }

    #[test]
    fn a_full_area_says_so() {
        let mut area = Staging::new();
        assert!(area.append(&vec![0; STAGING_BYTES]));
        assert!(!area.append(&[0]));
        assert_eq!(area.seal(), STAGING_BYTES);
    }
}
