//! Which bytes of a segment nobody has looked at since this process began.
//!
//! What this process wrote, and what recovery, a fetch or the scrubber walked (headers and CRC), is
//! checked; what was taken from a checkpoint or on the word of a sidecar is not, until somebody
//! does. A range is checked as a whole, between two batch boundaries. The list is bounded: where it
//! would grow beyond, two ranges become one again, and what lies between them is checked once more.

use std::ops::Range;

use crate::segment::HEADER_BLOCK_BYTES;

/// Ranges kept of one segment.
const RANGES_MAX: usize = 64;

/// Bytes of one segment that are to be checked before they are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unchecked {
    /// Ascending, with checked bytes between them.
    ranges: Vec<Range<u64>>,
    /// The header block was not held against the file's name.
    header: bool,
}

impl Unchecked {
    /// A segment with batches up to `end_position` that were taken on trust.
    pub fn upto(end_position: u64) -> Unchecked {
        let mut unchecked = Unchecked {
            ranges: Vec::new(),
            header: true,
        };
        if cfg!(mutant = "S54") {
            return Unchecked::default();
        }
        unchecked.add(HEADER_BLOCK_BYTES..end_position);
        unchecked
    }

    /// Whether everything was checked.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.header
    }

    pub fn has_header(&self) -> bool {
        self.header
    }

    pub fn header_checked(&mut self) {
        self.header = false;
    }

    /// The first byte at or behind `position` that is to be checked.
    pub fn first_from(&self, position: u64) -> Option<u64> {
        let after = self.ranges.partition_point(|range| range.end <= position);
        self.ranges
            .get(after)
            .map(|range| range.start.max(position))
    }

    /// Whether any byte of a range is to be checked.
    pub fn touches(&self, range: &Range<u64>) -> bool {
        self.first_from(range.start)
            .is_some_and(|first| first < range.end)
    }

    /// The bytes of `range` are checked.
    pub fn remove(&mut self, range: Range<u64>) {
        if !self.touches(&range) {
            return;
        }
        let mut left = Vec::with_capacity(self.ranges.len() + 1);
        let mut cut_at = 0;
        for known in &self.ranges {
            for part in [
                known.start..known.end.min(range.start),
                known.start.max(range.end)..known.end,
            ] {
                if part.start < part.end {
                    cut_at += usize::from(part.end <= range.start);
                    left.push(part);
                }
            }
        }
        if left.len() > RANGES_MAX {
            join_closest(&mut left, cut_at);
        }
        self.ranges = left;
    }

    /// The bytes of `range` are to be checked, again perhaps.
    pub fn add(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        let mut joined = range;
        self.ranges.retain(|known| {
            let apart = known.end < joined.start || joined.end < known.start;
            if !apart {
                joined = joined.start.min(known.start)..joined.end.max(known.end);
            }
            apart
        });
        let at = self
            .ranges
            .partition_point(|known| known.end < joined.start);
        self.ranges.insert(at, joined);
        if self.ranges.len() > RANGES_MAX {
            join_closest(&mut self.ranges, 0);
        }
    }
}

/// Makes one of the two ranges with the least between them, but not of those on both sides of the
/// range that begins at index `fresh`: what was just checked has to be read.
fn join_closest(ranges: &mut Vec<Range<u64>>, fresh: usize) {
    let closest = (1..ranges.len())
        .filter(|&at| at != fresh)
        .min_by_key(|&at| ranges[at].start - ranges[at - 1].end);
    if let Some(at) = closest {
        ranges[at - 1].end = ranges[at].end;
        ranges.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_is_taken_out_and_comes_back() {
        let mut unchecked = Unchecked::upto(100_000);
        assert!(unchecked.has_header() && !unchecked.is_empty());
        unchecked.header_checked();
        unchecked.remove(20_000..30_000);
        assert_eq!(unchecked.first_from(4096), Some(4096));
        assert_eq!(unchecked.first_from(20_000), Some(30_000));
        assert!(!unchecked.touches(&(20_000..30_000)));
        assert!(unchecked.touches(&(19_999..30_000)));
        unchecked.remove(4096..20_000);
        unchecked.remove(30_000..100_000);
        assert!(unchecked.is_empty());
        unchecked.add(5000..6000);
        unchecked.add(6000..7000);
        assert_eq!(unchecked.ranges, vec![5000..7000]);
        assert_eq!(unchecked.first_from(7000), None);
    }

    #[test]
    fn a_bounded_list_keeps_what_was_checked_last() {
        let mut unchecked = Unchecked::upto(10_000_000);
        let mut at = 4096;
        while at + 1000 < 10_000_000 {
            unchecked.remove(at..at + 1000);
            assert!(unchecked.ranges.len() <= RANGES_MAX);
            assert!(!unchecked.touches(&(at..at + 1000)), "at {at}");
            at += 3000;
        }
        // Backwards and forwards it ends.
        unchecked.remove(4096..10_000_000);
        assert!(unchecked.ranges.is_empty());
    }
}
