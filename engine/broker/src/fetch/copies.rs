//! What was copied out of this core's cache for fetches of other cores and is not sent yet.
//!
//! Memory cannot cross cores by reference, so records in the cache are copied for a foreign fetch.
//! The copy lives until its consumer has taken it, which may be long; what lives is bounded, and
//! beyond the bound foreign fetches get ranges of files: everything they may read is in one.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use highwater_base::SharedSlice;
use highwater_base::limits::FOREIGN_COPY_BYTES_MAX;

/// Copies looked at for each read. More than one, so that the list gets shorter than what was added.
const LOOKED_AT: usize = 4;

/// The copies that may still be in use, oldest first.
#[derive(Debug, Default)]
pub struct ForeignCopies {
    /// Each with its number of bytes.
    copies: VecDeque<(Weak<Vec<u8>>, usize)>,
    bytes: usize,
}

impl ForeignCopies {
    /// Whether so many more bytes may be copied.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        for _ in 0..LOOKED_AT.min(self.copies.len()) {
            let Some((copy, len)) = self.copies.pop_front() else {
                break;
            };
            if copy.strong_count() == 0 {
                self.bytes -= len;
            } else {
                self.copies.push_back((copy, len));
            }
        }
        self.bytes.saturating_add(bytes) <= FOREIGN_COPY_BYTES_MAX
    }

    /// Bytes that may still be in use, as far as was looked.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A copy that may cross cores.
    pub fn copy(&mut self, bytes: &[u8]) -> SharedSlice {
        let len = bytes.len();
        let copy = Arc::new(bytes.to_vec());
        self.copies.push_back((Arc::downgrade(&copy), len));
        self.bytes += len;
        SharedSlice::new(copy, 0, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_in_use_are_bounded_and_others_are_not_counted() {
        let mut copies = ForeignCopies::default();
        let part = vec![0; FOREIGN_COPY_BYTES_MAX / 8];
        let mut held: VecDeque<SharedSlice> = VecDeque::new();
        for _ in 0..8 {
            assert!(copies.has_room(part.len()));
            held.push_back(copies.copy(&part));
        }
        assert!(!copies.has_room(1));
        held.drain(3..6);
        // The three are found after as many looks as there are copies.
        assert!((0..2).any(|_| copies.has_room(1)));
        copies.has_room(0);
        assert_eq!(copies.bytes, 5 * part.len());
        held.clear();
        for _ in 0..10_000 {
            assert!(copies.has_room(part.len()));
            held.push_back(copies.copy(&part[..10]));
            held.truncate(1);
        }
        assert!(copies.copies.len() < 10, "{} kept", copies.copies.len());
    }
}
