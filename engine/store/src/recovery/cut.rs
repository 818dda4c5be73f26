//! Ending a log at a position: what lies behind it is made zero, durably, and with it everything that
//! was found valid.
//!
//! Zeros, because a stale batch behind the new end would be valid again once an equally long batch is
//! written in front of it. In a log with a hole nothing is made zero: what looks like a torn tail may
//! be more of the damage. Nor behind a block that cannot be read: what was in it is not known.

use highwater_base::limits::BLOCK_BYTES;

use super::walk::{Found, Step, Walk};
use super::{RecoverError, STALE_REACH_BYTES, at};
use crate::batch_scan::BatchScan;
use crate::segment::{HEADER_BLOCK_BYTES, Segment, block_ceil, block_floor};

/// Zeros written at once.
const CHUNK_BYTES: usize = 1 << 20;

impl Walk<'_> {
    /// The log ends at `position`.
    pub(super) fn end_log(
        &mut self,
        found: &Found,
        position: u64,
        blank: bool,
        segment: &mut Segment,
    ) -> Result<Step, RecoverError> {
        segment.end_position = position;
        segment.next_offset = self.expected;
        let has_holes = !self.log.holes.is_empty();
        let cuts = !blank && !has_holes;
        if cuts {
            self.refuse_unreadable(found, position)?;
        }
        self.report.torn |= cuts;
        let unconfirmed = self.expected > self.durable && !cfg!(mutant = "S15");
        let is_empty = position == HEADER_BLOCK_BYTES;
        if !is_empty && cuts {
            self.zero_behind(found, position)?;
        }
        if !is_empty && (cuts || unconfirmed) {
            self.rewrite_last_block(found, position, has_holes)?;
        }
        Ok(Step::Stop)
    }

    fn refuse_unreadable(&self, found: &Found, position: u64) -> Result<(), RecoverError> {
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        let end = found.size_bytes.min(position + STALE_REACH_BYTES);
        let dirty = batches.last_nonzero(&*self.boot, position, end);
        dirty.map_err(at(&found.path))?;
        match batches.unreadable() {
            Some((_, error)) => Err(at(&found.path)(error)),
            None => Ok(()),
        }
    }

    fn zero_behind(&mut self, found: &Found, position: u64) -> Result<(), RecoverError> {
        let path = &found.path;
        let end = found.size_bytes.min(position + STALE_REACH_BYTES);
        let mut batches = BatchScan::new(path, found.size_bytes);
        let last = batches
            .last_nonzero(&*self.boot, position, end)
            .map_err(at(path))?;
        let to = block_ceil(last.unwrap_or(position) + 1).min(found.size_bytes);
        let mut zeros_from = block_ceil(position + 4096 * u64::from(cfg!(mutant = "S05")));
        let zeros = vec![0; CHUNK_BYTES];
        while zeros_from < to {
            let len = (to - zeros_from).min(zeros.len() as u64);
            let chunk = &zeros[..len as usize];
            self.boot.write(path, zeros_from, chunk).map_err(at(path))?;
            zeros_from += len;
        }
        Ok(())
    }

    /// Makes the last batch durable; what is in its block behind it becomes zero, or stays as it is
    /// with `keeps_rest`.
    fn rewrite_last_block(
        &mut self,
        found: &Found,
        position: u64,
        keeps_rest: bool,
    ) -> Result<(), RecoverError> {
        let path = &found.path;
        let mut from = block_floor(position);
        let mut kept = (position - from) as usize;
        if kept == 0 {
            // The log ends with a block: rewriting that one is what makes it durable.
            from -= BLOCK_BYTES as u64;
            kept = BLOCK_BYTES;
        }
        if keeps_rest {
            kept = BLOCK_BYTES;
        }
        let mut block = vec![0; BLOCK_BYTES];
        let got = self.boot.read(path, from, &mut block[..kept]);
        let got = got.map_err(at(path))?;
        assert!(got == kept, "the last batch was read from this block");
        self.boot.write(path, from, &block).map_err(at(path))
    }
}
