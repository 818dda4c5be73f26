//! A run of batches of one segment between two boundaries that the index knows: what is read and
//! checked as a whole, and what each batch in it has to be.

use highwater_base::disk::FileId;
use highwater_base::{BatchHeader, Epoch, Offset};

use crate::log::{Log, LogId};
use crate::segment::{HEADER_BLOCK_BYTES, Segment, block_ceil, block_floor};

/// A batch boundary: a file position and the offset that starts there.
pub(crate) type Boundary = (u64, Offset);

/// A run of batches to be checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub log: LogId,
    pub file: FileId,
    pub segment_base: Offset,
    pub epoch: Epoch,
    pub from: Boundary,
    pub to: Boundary,
}

impl Stretch {
    /// The batch at `at`, if it is whole and the one that must be there. `bytes` begin at `start`.
    pub fn batch_at(&self, bytes: &[u8], start: u64, at: Boundary) -> Option<BatchHeader> {
        let rest = bytes.get((at.0 - start) as usize..)?;
        let header = BatchHeader::parse(rest).ok()?;
        let continues = (header.base_offset == at.1.0 || cfg!(mutant = "S50"))
            && (header.partition_leader_epoch == self.epoch.as_leader_epoch()
                || cfg!(mutant = "S51"))
            && at.0 + header.total_bytes() as u64 <= self.to.0
            && header.next_offset() <= self.to.1;
        let whole = header.verify_crc(rest).is_ok() || cfg!(mutant = "S52");
        (continues && whole).then_some(header)
    }

    /// Where the blocks with it begin.
    pub fn start(&self) -> u64 {
        block_floor(self.from.0)
    }

    /// Bytes of the blocks with it.
    pub fn len(&self) -> usize {
        (block_ceil(self.to.0) - self.start()) as usize
    }

    /// Whether it is the first one of its segment.
    pub fn is_first(&self) -> bool {
        self.from.0 == HEADER_BLOCK_BYTES
    }
}

impl Log {
    /// What to check so that the batch with `offset` may be sent: about `bytes`. `None` when it
    /// cannot be read any more.
    pub(crate) fn stretch_at(&self, id: LogId, offset: Offset, bytes: u64) -> Option<Stretch> {
        self.check_readable(offset).ok()?;
        let segment = &self.segments[self.segment_of(offset)?];
        let bound = self.segment_bound(segment, offset);
        if offset >= bound.1 {
            return None;
        }
        let before = segment.index.floor_offset(segment.base_offset, offset);
        let first = (HEADER_BLOCK_BYTES, segment.base_offset);
        let from = before.map_or(first, |at| segment.boundary(at));
        Some(self.stretch(id, segment, before, (from, bound), bytes))
    }

    /// About `bytes` from the index entry `before`, which is at `from`, up to another one.
    fn stretch(
        &self,
        id: LogId,
        segment: &Segment,
        before: Option<usize>,
        (from, bound): (Boundary, Boundary),
        bytes: u64,
    ) -> Stretch {
        let next = before.map_or(0, |before| before + 1);
        let far = segment.index.floor_position(from.0 + bytes);
        let last = far.unwrap_or(0).max(next);
        let entries = segment.index.entries();
        let to = match last < entries.len() && segment.boundary(last).0 > from.0 {
            true => segment.boundary(last).min(bound),
            false => bound,
        };
        Stretch {
            log: id,
            file: segment.file.file,
            segment_base: segment.base_offset,
            epoch: segment.epoch,
            from,
            to,
        }
    }

    /// Whether what a file holds of this offset may not be sent as it is.
    pub(crate) fn is_unchecked(&self, segment: &Segment, offset: Offset) -> bool {
        if self.config.verify_on_fetch || segment.unchecked.has_header() {
            return true;
        }
        if segment.unchecked.is_empty() {
            return false;
        }
        let before = segment.index.floor_offset(segment.base_offset, offset);
        let from = before.map_or(HEADER_BLOCK_BYTES, |at| segment.boundary(at).0);
        let next = before.map_or(0, |before| before + 1);
        let to = match next < segment.index.entries().len() {
            true => segment.boundary(next).0,
            false => segment.end_position,
        };
        segment.unchecked.touches(&(from..to))
    }
}
