//! Taking in one segment: its place in the chain, its batches, and the verdict on the first byte
//! that is not one. How the log is cut, where that is the verdict, is `cut`'s.

use highwater_base::disk::{BootDisk, DiskError, FileId};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{BatchHeader, Epoch, Offset};

use super::walk::{Found, Step, Trust, Walk};
use super::{RecoverError, STALE_REACH_BYTES, UNMARKED_REACH_BYTES, at, index_entry};
use crate::batch_scan::BatchScan;
use crate::index::SparseIndex;
use crate::resume::{Damage, Resumption, resume};
use crate::segment::{
    FileState, HEADER_BLOCK_BYTES, NO_PREVIOUS_EPOCH, Segment, SegmentFile, SegmentHeader,
    block_ceil,
};
use crate::sidecar::IndexImage;
use crate::unchecked::Unchecked;

impl Walk<'_> {
    /// Takes in the first of these segments; the others follow it.
    pub(super) fn segment(&mut self, files: &[Found]) -> Result<Step, RecoverError> {
        let found = &files[0];
        let next = files.get(1).map(|next| next.base);
        if self.log.segments.is_empty() && found.base <= self.expected {
            self.expected = found.base;
        }
        if found.base < self.expected {
            return Err(RecoverError::Overlap {
                path: found.path.clone(),
                base: found.base,
                end: self.expected,
            });
        }
        if found.base > self.expected && !self.close_gap(files)? {
            return Ok(Step::Cut);
        }
        if self.take_unscanned(found, next)? {
            return Ok(Step::GoOn);
        }
        let mut segment = self.blank_segment(found);
        let step = self.scan_segment(files, &mut segment)?;
        let nothing = segment.end_position == HEADER_BLOCK_BYTES;
        if nothing && segment.hole_positions.is_empty() && !self.is_settled(found.base) {
            // Created, and never durably written to.
            if step == Step::GoOn {
                self.remove(found)?;
                return Ok(step);
            }
            return Ok(Step::Cut);
        }
        // Its first batch says whose segment it is; with a hole in it nothing is written to it.
        let begins_well =
            segment.index.entries().first().is_some_and(|first| {
                first.relative_offset == 0 && segment.hole_positions.is_empty()
            });
        if found.header.is_err() && begins_well {
            self.rewrite_header(found)?;
        }
        self.name_for_good(found, &mut segment)?;
        self.log.segments.push(segment);
        Ok(step)
    }

    /// Offsets are missing before the first of these segments. False when it goes as well.
    fn close_gap(&mut self, files: &[Found]) -> Result<bool, RecoverError> {
        let base = files[0].base;
        if !self.is_settled(self.expected) {
            self.distrust_clean_stop();
        }
        let is_first = self.log.segments.is_empty();
        let is_marked = self.trust == Trust::Marked;
        let has_batches = (is_first || !is_marked) && self.hold_batches(files)?;
        if has_batches && is_first && !is_marked {
            // Retention took what came before; the mark that said so is lost.
            self.log.log_start = base;
        } else if has_batches || self.is_settled(self.expected) {
            self.declare_hole(self.expected, base);
        } else {
            return Ok(false);
        }
        self.expected = base;
        Ok(true)
    }

    /// Whether there is a valid batch in any of these segments.
    fn hold_batches(&self, files: &[Found]) -> Result<bool, RecoverError> {
        for found in files {
            let mut batches = BatchScan::new(&found.path, found.size_bytes);
            let holds = batches.holds_batches(&*self.boot, found.epoch);
            if holds.map_err(at(&found.path))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the log, which has no valid batch at `position` of the first of these segments, ends
    /// there: nothing that was acknowledged can have been there.
    fn ends_at(
        &mut self,
        files: &[Found],
        position: u64,
        blank: bool,
    ) -> Result<bool, RecoverError> {
        let rest = &files[1..];
        if self.is_settled(self.expected) {
            return Ok(false);
        }
        if self.clean_end.is_some() && (!rest.is_empty() || !blank) {
            let follows = !rest.is_empty() || self.resume(files, position)?.is_followed();
            if follows {
                self.distrust_clean_stop();
            }
        }
        if self.trust == Trust::Marked || (blank && rest.is_empty()) {
            return Ok(true);
        }
        let valid_behind = self.resume(files, position)?.is_followed();
        if !valid_behind && !self.hold_batches(rest)? {
            // A clean stop leaves no torn tail.
            return Ok(!self.stopped_cleanly);
        }
        // A new partition has no marks for as long as the ledger lags: its few torn writes are told
        // from a log whose marks were lost by what lies behind them.
        let is_new = self.trust == Trust::Unmarked && self.log.log_start == Offset::ZERO;
        Ok(is_new && self.bytes_from(files, position)? <= UNMARKED_REACH_BYTES)
    }

    /// Bytes from `position` of the first of these segments to the last one written.
    fn bytes_from(&self, files: &[Found], position: u64) -> Result<u64, RecoverError> {
        let mut bytes = 0;
        let mut from = position;
        for found in files {
            let mut batches = BatchScan::new(&found.path, found.size_bytes);
            let last = batches.last_nonzero(&*self.boot, from, found.size_bytes);
            let last = last.map_err(at(&found.path))?;
            bytes += last.map_or(0, |last| last + 1 - from);
            from = HEADER_BLOCK_BYTES;
        }
        Ok(bytes)
    }

    pub(super) fn blank_segment(&self, found: &Found) -> Segment {
        let mut file = SegmentFile::absent(FileId(0), found.size_bytes);
        file.state = FileState::Ready;
        file.prepared_number = found.prepared_number;
        Segment {
            base_offset: found.base,
            epoch: found.epoch,
            file,
            end_position: HEADER_BLOCK_BYTES,
            next_offset: found.base,
            first_timestamp: -1,
            max_timestamp: -1,
            index: SparseIndex::default(),
            hole_positions: Vec::new(),
            unchecked: Unchecked::default(),
            sealed: false,
            settled: false,
        }
    }

    /// A sealed, acknowledged segment with a fitting sidecar needs no scan. That it lies below D is
    /// asked for as a second line of defence: the producers' snapshot that is replayed from does.
    pub(super) fn take_unscanned(
        &mut self,
        found: &Found,
        next: Option<Offset>,
    ) -> Result<bool, RecoverError> {
        let Some(next) = next.filter(|next| *next <= self.durable || cfg!(mutant = "S24")) else {
            return Ok(false);
        };
        if found.header.is_err() || self.replay_from < next {
            return Ok(false);
        }
        let Some((image, index)) = self.read_index(found.base, found.epoch) else {
            return Ok(false);
        };
        let fits = image.next_offset == next.0
            && image.end_position <= found.size_bytes
            && !image.is_damaged
            && self.ends_with(found, &image, &index)?;
        if fits {
            let mut segment = self.blank_segment(found);
            segment.index = index;
            segment.end_position = image.end_position;
            segment.unchecked = Unchecked::upto(image.end_position);
            segment.next_offset = next;
            segment.first_timestamp = image.first_timestamp;
            segment.max_timestamp = image.max_timestamp;
            segment.settled = block_ceil(image.end_position) == found.size_bytes;
            self.name_for_good(found, &mut segment)?;
            self.log.segments.push(segment);
            self.expected = next;
        }
        Ok(fits)
    }

    /// Whether the batches from the last index entry on lead to where the index says that the segment
    /// ends: it does not in an older copy of the file.
    fn ends_with(
        &self,
        found: &Found,
        image: &IndexImage,
        index: &SparseIndex,
    ) -> Result<bool, RecoverError> {
        let end = (image.end_position, Offset(image.next_offset));
        let mut batches = BatchScan::new(&found.path, image.end_position);
        leads_to_end(
            &mut batches,
            &*self.boot,
            (found.base, found.epoch),
            index,
            end,
        )
        .map_err(at(&found.path))
    }

    /// A file made ready ahead that turned out to hold batches gets its final name.
    pub(super) fn name_for_good(
        &mut self,
        found: &Found,
        segment: &mut Segment,
    ) -> Result<(), RecoverError> {
        if segment.file.prepared_number.take().is_some() {
            let to = self.final_path(found);
            self.boot
                .rename(&found.path, &to)
                .map_err(at(&found.path))?;
        }
        Ok(())
    }

    pub(super) fn scan_segment(
        &mut self,
        files: &[Found],
        segment: &mut Segment,
    ) -> Result<Step, RecoverError> {
        let found = &files[0];
        let next = files.get(1).map(|next| next.base);
        let interval_bytes = self.log.config.index_interval_bytes;
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        loop {
            let position = segment.end_position;
            let valid = self.next_batch(&mut batches, found, position)?;
            if let Some(header) = valid {
                self.take_batch(segment, &header, position, interval_bytes);
                continue;
            }
            let at_seam = next == Some(self.expected);
            if at_seam {
                return Ok(Step::GoOn);
            }
            let blank = self.is_blank(found, position)?;
            if self.ends_at(files, position, blank)? {
                return self.end_log(found, position, blank, segment);
            }
            segment.hole_positions.push((position, self.expected));
            let resumed = self.resume(files, position)?.batch();
            let to = resumed
                .map(|(_, header)| Offset(header.base_offset))
                .or(next)
                .or(self.least_lost());
            let Some(to) = to.filter(|to| *to > self.expected) else {
                // Nothing follows in this file: the caller closes the hole at D.
                return Ok(Step::GoOn);
            };
            self.declare_hole(self.expected, to);
            self.expected = to;
            let Some((position, header)) = resumed else {
                return Ok(Step::GoOn);
            };
            segment.end_position = position;
            let before = segment.max_timestamp;
            let entry = index_entry(found.base, &header, position, before);
            segment.index.note_always(entry);
        }
    }

    /// Damage at the end of a log of which nothing says how far it went: one record at least was there.
    /// Whatever more it was, no offset is given out again.
    fn least_lost(&self) -> Option<Offset> {
        (!self.is_settled(self.expected)).then(|| self.expected.plus(1))
    }

    pub(super) fn take_batch(
        &mut self,
        segment: &mut Segment,
        header: &BatchHeader,
        position: u64,
        interval_bytes: usize,
    ) {
        let before = segment.max_timestamp;
        let entry = index_entry(segment.base_offset, header, position, before);
        segment.index.note(entry, interval_bytes);
        segment.end_position += header.total_bytes() as u64;
        segment.next_offset = header.next_offset();
        segment.max_timestamp = before.max(header.max_timestamp);
        if segment.first_timestamp < 0 {
            segment.first_timestamp = header.max_timestamp;
        }
        if header.is_idempotent() && header.base_offset >= self.replay_from.0 {
            let base = Offset(header.base_offset);
            self.producers.replay(header, base, self.now_ms);
        }
        self.expected = header.next_offset();
        if self.expected > self.durable {
            self.distrust_clean_stop();
        }
        self.report.scanned_bytes += header.total_bytes() as u64;
    }

    /// The valid batch at `position` that continues the log, if there is one.
    pub(super) fn next_batch(
        &self,
        batches: &mut BatchScan<'_>,
        found: &Found,
        position: u64,
    ) -> Result<Option<BatchHeader>, RecoverError> {
        let batch = batches.batch_at(&*self.boot, position, found.epoch);
        let batch = batch.map_err(at(&found.path))?;
        let header = batch.map(|(header, _)| header);
        let anywhere = cfg!(mutant = "S25");
        Ok(header.filter(|header| header.base_offset == self.expected.0 || anywhere))
    }

    fn is_blank(&self, found: &Found, position: u64) -> Result<bool, RecoverError> {
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        let end = found.size_bytes.min(position + STALE_REACH_BYTES);
        let dirty = batches.last_nonzero(&*self.boot, position, end);
        Ok(dirty.map_err(at(&found.path))?.is_none())
    }

    /// Where the first of these segments goes on behind damage at `position`.
    fn resume(&self, files: &[Found], position: u64) -> Result<Resumption, RecoverError> {
        let found = &files[0];
        let index = self.read_index(found.base, found.epoch);
        let damage = Damage {
            position,
            expected: self.expected,
            epoch: found.epoch,
            base: found.base,
            next: files.get(1).map(|next| next.base),
            durable: self.durable,
            index: index.as_ref().map(|(_, index)| index),
            boundaries: self.boundaries,
        };
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        resume(&mut batches, &*self.boot, &damage).map_err(at(&found.path))
    }

    /// The header repeats what the name and the neighbours say.
    pub(super) fn rewrite_header(&mut self, found: &Found) -> Result<(), RecoverError> {
        let previous = self.log.segments.last();
        let header = SegmentHeader {
            cluster_id: self.cluster_id,
            topic_id: self.log.key.topic_id,
            partition: self.log.key.partition,
            epoch: found.epoch,
            base_offset: found.base,
            prev_epoch: previous.map_or(NO_PREVIOUS_EPOCH, |segment| segment.epoch),
            prev_end: found.base,
        };
        let mut block = vec![0; BLOCK_BYTES];
        header.encode(&mut block);
        let path = &found.path;
        self.boot.write(path, 0, &block).map_err(at(path))
    }
}

/// Whether the batches from the last index entry of a segment on lead to this position and offset.
pub(super) fn leads_to_end(
    batches: &mut BatchScan<'_>,
    boot: &dyn BootDisk,
    (base, epoch): (Offset, Epoch),
    index: &SparseIndex,
    (end_position, next_offset): (u64, Offset),
) -> Result<bool, DiskError> {
    let last = index.entries().last();
    let mut position = last.map_or(HEADER_BLOCK_BYTES, |entry| u64::from(entry.position));
    let mut offset = last.map_or(base, |it| base.plus(i64::from(it.relative_offset)));
    while position < end_position {
        match batches.batch_at(boot, position, epoch)? {
            Some((header, _)) if header.base_offset == offset.0 => {
                position += header.total_bytes() as u64;
                offset = header.next_offset();
            }
            Some(_) | None => return Ok(false),
        }
    }
    Ok(offset == next_offset)
}
