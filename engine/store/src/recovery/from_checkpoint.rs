//! Taking a log from the checkpoint of a clean stop: only sidecars are read, and what is missing of
//! those is rebuilt from the batches.
//!
//! A checkpoint can be an old one that somebody put back. So before it is believed the directory is
//! held against it: the segments it names and no others, each of its size and with its own header
//! block, the last batches of the last one where they should be, and nothing behind them.

use highwater_base::disk::{DiskError, FileId};
use highwater_base::record_batch::HEADER_BYTES;
use highwater_base::{Epoch, Offset};

use super::segment_scan::leads_to_end;
use super::walk::Walk;
use super::{RecoverError, at, index_entry};
use crate::batch_scan::BatchScan;
use crate::checkpoint::{LogImage, SegmentImage, read_whole};
use crate::index::SparseIndex;
use crate::segment::{FileName, FileState, HEADER_BLOCK_BYTES, Segment, SegmentFile, segment_path};
use crate::sidecar;
use crate::unchecked::Unchecked;

impl Walk<'_> {
    /// Takes everything from the checkpoint, if the directory is as it says. Otherwise and after an
    /// error the walk has to begin anew.
    pub(super) fn take_checkpoint(&mut self, image: LogImage) -> Result<bool, RecoverError> {
        if !self.fits_directory(&image)? {
            return Ok(false);
        }
        self.report.from_checkpoint = true;
        self.log.log_start = Offset(image.log_start);
        self.log.next_prepared_number = image.next_prepared_number;
        let epochs = image.epochs.iter();
        self.log.epochs = epochs.map(|at| (Epoch(at.0), Offset(at.1))).collect();
        for saved in &image.segments {
            let (base, epoch) = (Offset(saved.base_offset), Epoch(saved.epoch));
            let index = self.read_index(base, epoch).filter(|(image, _)| {
                image.end_position == saved.end_position && image.next_offset == saved.next_offset
            });
            let index = match index {
                Some((_, index)) => index,
                None => self.rebuild_index(base, epoch, saved.end_position)?,
            };
            let is_last = saved.next_offset == image.end;
            if is_last && !self.has_its_last_batches(saved, &index)? {
                return Ok(false);
            }
            let mut file = SegmentFile::absent(FileId(0), saved.size_bytes);
            file.state = FileState::Ready;
            self.log.segments.push(Segment {
                base_offset: base,
                epoch,
                file,
                end_position: saved.end_position,
                next_offset: Offset(saved.next_offset),
                first_timestamp: saved.first_timestamp,
                max_timestamp: saved.max_timestamp,
                index,
                hole_positions: Vec::new(),
                unchecked: Unchecked::upto(saved.end_position),
                sealed: saved.sealed,
                settled: saved.settled,
            });
            self.log.has_unsettled |= saved.sealed && !saved.settled;
        }
        self.log.end = Offset(image.end);
        match self.log.segments.last() {
            Some(last) => match self.read_producers(last.base_offset, last.epoch) {
                Some((offset, table)) if offset == self.log.end => self.producers = table,
                _ => self.replay_all()?,
            },
            None => self.take_producers_without_segments(self.log.end, Epoch(image.epoch)),
        }
        self.log.durable = self.log.memory_end();
        Ok(true)
    }

    /// Whether the directory is as the checkpoint says.
    pub(super) fn fits_directory(&self, image: &LogImage) -> Result<bool, RecoverError> {
        let entries = match self.boot.list(&self.directory) {
            Ok(entries) => entries,
            Err(DiskError::NotFound) => Vec::new(),
            Err(error) => return Err(at(&self.directory)(error)),
        };
        let mut files = 0;
        for entry in entries.iter().filter(|entry| !entry.is_directory) {
            let named = match FileName::parse(&entry.name) {
                Some(FileName::Segment { base_offset, epoch }) => (base_offset, epoch),
                Some(FileName::Prepared(_)) => return Ok(false),
                Some(FileName::Sidecar { .. }) | None => continue,
            };
            let is_this = |it: &&SegmentImage| (Offset(it.base_offset), Epoch(it.epoch)) == named;
            let saved = image.segments.iter().find(is_this);
            // A settled segment may have been shortened after its size was noted.
            if saved.is_none_or(|saved| entry.size_bytes < saved.end_position) {
                return Ok(false);
            }
            files += 1;
        }
        if files != image.segments.len() {
            return Ok(false);
        }
        for saved in &image.segments {
            let (base, epoch) = (Offset(saved.base_offset), Epoch(saved.epoch));
            let path = segment_path(&self.directory, base, epoch, "log");
            let header = self.read_header(&path)?;
            let is_itself = header.is_ok_and(|header| {
                self.is_of_this_log(&header) && (header.base_offset, header.epoch) == (base, epoch)
            });
            if !is_itself {
                return Ok(false);
            }
        }
        self.ends_as_saved(image)
    }

    /// Whether the batches from the last index entry on lead to where the segment ended.
    fn has_its_last_batches(
        &self,
        saved: &SegmentImage,
        index: &SparseIndex,
    ) -> Result<bool, RecoverError> {
        let (base, epoch) = (Offset(saved.base_offset), Epoch(saved.epoch));
        let path = segment_path(&self.directory, base, epoch, "log");
        let end = (saved.end_position, Offset(saved.next_offset));
        let mut batches = BatchScan::new(&path, saved.end_position);
        leads_to_end(&mut batches, &*self.boot, (base, epoch), index, end).map_err(at(&path))
    }

    /// Whether no batch follows the last one that the checkpoint knows.
    fn ends_as_saved(&self, image: &LogImage) -> Result<bool, RecoverError> {
        let Some(last) = image.segments.last() else {
            return Ok(true);
        };
        let (base, epoch) = (Offset(last.base_offset), Epoch(last.epoch));
        let path = segment_path(&self.directory, base, epoch, "log");
        let mut behind = [0; HEADER_BYTES];
        let got = self.boot.read(&path, last.end_position, &mut behind);
        let got = got.map_err(at(&path))?;
        Ok(behind[..got].iter().all(|byte| *byte == 0))
    }

    pub(super) fn read_small(&self, path: &str) -> Option<Vec<u8>> {
        // Sizes of sidecars are not known without listing: read in growing steps.
        let mut size = 64 * 1024;
        loop {
            let bytes = read_whole(self.boot, path, size).ok()?;
            if (bytes.len() as u64) < size {
                return Some(bytes);
            }
            size *= 4;
        }
    }

    pub(super) fn read_index(
        &self,
        base: Offset,
        epoch: Epoch,
    ) -> Option<(sidecar::IndexImage, SparseIndex)> {
        let path = segment_path(&self.directory, base, epoch, "index");
        let (image, index) = sidecar::decode_index(&self.read_small(&path)?)?;
        (image.base_offset == base.0 && image.epoch == epoch.0).then_some((image, index))
    }

    /// The index of a segment that is known to be whole.
    pub(super) fn rebuild_index(
        &mut self,
        base: Offset,
        epoch: Epoch,
        end_position: u64,
    ) -> Result<SparseIndex, RecoverError> {
        let path = segment_path(&self.directory, base, epoch, "log");
        let interval_bytes = self.log.config.index_interval_bytes;
        let mut index = SparseIndex::default();
        let mut batches = BatchScan::new(&path, end_position);
        let (mut position, mut max_timestamp_before) = (HEADER_BLOCK_BYTES, -1);
        while position < end_position {
            let found = batches
                .batch_at(&*self.boot, position, epoch)
                .map_err(at(&path))?;
            let Some((header, _)) = found else {
                return Err(RecoverError::Damaged { path, position });
            };
            let entry = index_entry(base, &header, position, max_timestamp_before);
            index.note(entry, interval_bytes);
            max_timestamp_before = max_timestamp_before.max(header.max_timestamp);
            position += header.total_bytes() as u64;
        }
        Ok(index)
    }

    pub(super) fn replay_all(&mut self) -> Result<(), RecoverError> {
        for at_segment in 0..self.log.segments.len() {
            let segment = &self.log.segments[at_segment];
            let (base, epoch) = (segment.base_offset, segment.epoch);
            let end_position = segment.end_position;
            let path = segment_path(&self.directory, base, epoch, "log");
            let mut batches = BatchScan::new(&path, end_position);
            let mut position = HEADER_BLOCK_BYTES;
            while position < end_position {
                let found = batches
                    .batch_at(&*self.boot, position, epoch)
                    .map_err(at(&path))?;
                let Some((header, _)) = found else {
                    return Err(RecoverError::Damaged { path, position });
                };
                if header.is_idempotent() {
                    let offset = Offset(header.base_offset);
                    self.producers.replay(&header, offset, self.now_ms);
                }
                position += header.total_bytes() as u64;
            }
        }
        Ok(())
    }
}
