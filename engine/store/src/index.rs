//! The sparse index of one segment: for about every `index_interval_bytes` of batches, where a
//! batch starts, its offset, and the largest timestamp before it.
//!
//! It is built while appending, saved beside the segment when that is sealed, and rebuilt by a scan
//! when missing or wrong. Never needed for correctness: every entry is a batch boundary that a scan
//! would find too. A sealed segment keeps at most [`SEALED_ENTRIES_MAX`] entries, so that memory
//! grows with the number of segments and not with their size.

use highwater_base::{Offset, Timestamp};

/// Entries kept of a sealed segment, in memory and in the sidecar.
pub const SEALED_ENTRIES_MAX: usize = 8192;
/// Entries reserved at once for a new segment; a larger one grows by doubling.
const RESERVED_ENTRIES_MAX: u64 = 1 << 18;

/// A batch boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct IndexEntry {
    /// Base offset of the batch, relative to the segment's.
    pub relative_offset: u32,
    /// Where the batch starts in the file.
    pub position: u32,
    /// Largest timestamp of all batches before this one in the segment, -1 when there is none.
    pub max_timestamp_before: Timestamp,
}

/// Entries in position order; offsets and timestamps ascend with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseIndex {
    entries: Vec<IndexEntry>,
}

impl SparseIndex {
    /// An empty index with room for a segment of `size_bytes`, so that appends do not allocate.
    #[must_use]
    pub fn with_room_for(size_bytes: u64, interval_bytes: usize) -> SparseIndex {
        let entries = (size_bytes / interval_bytes.max(1) as u64 + 1).min(RESERVED_ENTRIES_MAX);
        SparseIndex {
            entries: Vec::with_capacity(entries as usize),
        }
    }

    /// An index of entries that were loaded; `None` when they do not ascend.
    #[must_use]
    pub fn from_entries(entries: Vec<IndexEntry>) -> Option<SparseIndex> {
        let ascending = entries.windows(2).all(|pair| {
            pair[0].position < pair[1].position
                && pair[0].relative_offset < pair[1].relative_offset
                && pair[0].max_timestamp_before <= pair[1].max_timestamp_before
        });
        ascending.then_some(SparseIndex { entries })
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Notes a batch, if it lies far enough behind the last entry.
    pub fn note(&mut self, entry: IndexEntry, interval_bytes: usize) {
        let far = self.entries.last().is_none_or(|last| {
            entry.position as usize >= last.position as usize + interval_bytes.max(1)
        });
        if far {
            self.entries.push(entry);
        }
    }

    /// Notes a batch that must be an entry: the first one behind a hole.
    pub fn note_always(&mut self, entry: IndexEntry) {
        self.note(entry, 1);
    }

    /// Batches between two positions are damaged: no entry is in them, and `behind`, if batches may
    /// follow, is one.
    pub fn skip(&mut self, from: u64, to: u64, behind: Option<IndexEntry>) {
        self.entries
            .retain(|entry| !(from..to).contains(&u64::from(entry.position)));
        let at = self
            .entries
            .partition_point(|entry| u64::from(entry.position) < to);
        let known = self.entries.get(at);
        let known = known.is_some_and(|entry| u64::from(entry.position) == to);
        if let Some(behind) = behind.filter(|_| !known) {
            self.entries.insert(at, behind);
        }
    }

    /// Drops the entries at or behind a position.
    pub fn cut(&mut self, position: u64) {
        self.entries
            .retain(|entry| u64::from(entry.position) < position);
    }

    /// Index of the last entry whose offset is at most `offset`.
    #[must_use]
    pub fn floor_offset(&self, base: Offset, offset: Offset) -> Option<usize> {
        let relative = offset.0 - base.0;
        self.entries
            .partition_point(|entry| i64::from(entry.relative_offset) <= relative)
            .checked_sub(1)
    }

    /// Index of the last entry at or before `position`.
    #[must_use]
    pub fn floor_position(&self, position: u64) -> Option<usize> {
        self.entries
            .partition_point(|entry| u64::from(entry.position) <= position)
            .checked_sub(1)
    }

    /// Index of the entry from which on the first batch with a timestamp of at least `timestamp` is
    /// found before the next entry; the last one when no later entry has seen such a batch.
    #[must_use]
    pub fn floor_timestamp(&self, timestamp: Timestamp) -> Option<usize> {
        self.entries
            .partition_point(|entry| entry.max_timestamp_before < timestamp)
            .checked_sub(1)
    }

    /// Drops entries evenly until at most [`SEALED_ENTRIES_MAX`] are left, and spare memory. The
    /// entries at `keep` positions (first batches behind holes) stay.
    pub fn seal(&mut self, keep: &[u64]) {
        let step = self.entries.len().div_ceil(SEALED_ENTRIES_MAX).max(1);
        let mut at = 0;
        self.entries.retain(|entry| {
            let stays = at % step == 0 || keep.contains(&u64::from(entry.position));
            at += 1;
            stays
        });
        self.entries.shrink_to_fit();
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(relative_offset: u32, position: u32, max_timestamp_before: i64) -> IndexEntry {
        IndexEntry {
            relative_offset,
            position,
            max_timestamp_before,
        }
    }

    #[test]
    fn finds_by_offset_position_and_time() {
        let mut index = SparseIndex::with_room_for(1 << 20, 4096);
        for at in 0..10u32 {
            index.note(
                entry(at * 5, 4096 + at * 5000, i64::from(at) * 100 - 1),
                4096,
            );
            index.note(entry(at * 5 + 1, 4096 + at * 5000 + 100, 0), 4096);
        }
        assert_eq!(index.entries().len(), 10, "near batches make no entry");
        assert_eq!(index.floor_offset(Offset(100), Offset(104)), Some(0));
        assert_eq!(index.floor_offset(Offset(100), Offset(105)), Some(1));
        assert_eq!(index.floor_offset(Offset(100), Offset(99)), None);
        assert_eq!(index.floor_position(4095), None);
        assert_eq!(index.floor_position(9096), Some(1));
        assert_eq!(index.floor_timestamp(0), Some(0));
        assert_eq!(index.floor_timestamp(100), Some(1));
        assert_eq!(index.floor_timestamp(5000), Some(9));
    }

    #[test]
    fn sealing_thins_and_keeps_what_it_must() {
        let mut index = SparseIndex::default();
        for at in 0..20_000u32 {
            index.note_always(entry(at, 4096 + at * 10, -1));
        }
        index.seal(&[4096 + 10]);
        assert!(index.entries().len() <= SEALED_ENTRIES_MAX + 1);
        assert_eq!(index.entries()[1].relative_offset, 1);
        assert!(SparseIndex::from_entries(index.entries().to_vec()).is_some());
        let backwards = vec![entry(5, 5000, -1), entry(4, 6000, -1)];
        assert!(SparseIndex::from_entries(backwards).is_none());
    }
}
