//! The segment files of a partition: what each is, told by its name, its header block and its
//! batches, and which of two with the same claim is the segment.
//!
//! A file is removed here only when it is blank. One whose header block contradicts its name, or
//! belongs to another partition, is set aside: it stays where it is and is no part of the log, so
//! that the offsets of its name are a hole where they were acknowledged.

use highwater_base::disk::{DirectoryEntry, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{Epoch, Offset};

use super::walk::{Found, Trust, Walk};
use super::{RecoverError, at};
use crate::batch_scan::BatchScan;
use crate::segment::{
    FileName, HEADER_BLOCK_BYTES, SegmentHeader, SegmentHeaderError, segment_path,
};

/// What a file in the partition's directory is.
enum Identity {
    Segment(Offset, Epoch),
    /// Made ready ahead, every byte behind its header block zero.
    Blank,
    /// Made ready ahead, and nothing says what it holds.
    Unknown,
    /// Its header block says that it is something else.
    Misplaced,
}

impl Walk<'_> {
    /// The segment files in (base, epoch) order. Names that are not ours are left alone.
    pub(super) fn find_segments(&mut self) -> Result<Vec<Found>, RecoverError> {
        let entries = match self.boot.list(&self.directory) {
            Ok(entries) => entries,
            Err(DiskError::NotFound) => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.directory)(error)),
        };
        let mut found = Vec::new();
        for entry in entries.into_iter().filter(|entry| !entry.is_directory) {
            found.extend(self.find_segment(&entry)?);
        }
        found.sort_by_key(|it| (it.base, it.epoch, it.prepared_number));
        self.choose_between_rivals(found)
    }

    fn find_segment(&mut self, entry: &DirectoryEntry) -> Result<Option<Found>, RecoverError> {
        let path = format!("{}/{}", self.directory, entry.name);
        let (name, prepared_number) = match FileName::parse(&entry.name) {
            Some(FileName::Segment { base_offset, epoch }) => (Some((base_offset, epoch)), None),
            Some(FileName::Prepared(number)) => (None, Some(number)),
            Some(FileName::Sidecar { .. }) | None => return Ok(None),
        };
        if let Some(number) = prepared_number {
            self.log.next_prepared_number = self.log.next_prepared_number.max(number + 1);
        }
        let header = self.read_header(&path)?;
        let size_bytes = entry.size_bytes - entry.size_bytes % BLOCK_BYTES as u64;
        let (base, epoch) = match self.identify(&path, size_bytes, name, &header)? {
            Identity::Segment(base, epoch) => (base, epoch),
            Identity::Blank => {
                self.boot.remove(&path).map_err(at(&path))?;
                return Ok(None);
            }
            Identity::Unknown => {
                self.leftovers.push(path);
                return Ok(None);
            }
            Identity::Misplaced => {
                self.report.set_aside.push(path);
                return Ok(None);
            }
        };
        Ok(Some(Found {
            base,
            epoch,
            path,
            prepared_number,
            size_bytes,
            header,
        }))
    }

    fn identify(
        &self,
        path: &str,
        size_bytes: u64,
        name: Option<(Offset, Epoch)>,
        header: &Result<SegmentHeader, SegmentHeaderError>,
    ) -> Result<Identity, RecoverError> {
        let says = header.as_ref().map(|it| (it.base_offset, it.epoch));
        let is_ours = header.as_ref().is_ok_and(|it| self.is_of_this_log(it));
        Ok(match (name, says) {
            (_, Ok(_)) if !is_ours => Identity::Misplaced,
            (Some(name), Ok(says)) if name != says => Identity::Misplaced,
            (Some((base, epoch)), _) | (None, Ok((base, epoch))) => Identity::Segment(base, epoch),
            (None, Err(_)) => self.identify_by_content(path, size_bytes)?,
        })
    }

    pub(super) fn is_of_this_log(&self, header: &SegmentHeader) -> bool {
        let key = self.log.key;
        header.cluster_id == self.cluster_id
            && header.topic_id == key.topic_id
            && header.partition == key.partition
    }

    /// What a file made ready ahead holds, told by its first batch when its header is damaged.
    fn identify_by_content(&self, path: &str, size_bytes: u64) -> Result<Identity, RecoverError> {
        let mut batches = BatchScan::new(path, size_bytes);
        let first = batches.first_batch(&*self.boot).map_err(at(path))?;
        if let Some(header) = first {
            let epoch = Epoch(header.partition_leader_epoch as u32);
            return Ok(Identity::Segment(Offset(header.base_offset), epoch));
        }
        let dirty = batches.first_nonzero(&*self.boot, HEADER_BLOCK_BYTES, size_bytes);
        match dirty.map_err(at(path))? {
            None => Ok(Identity::Blank),
            Some(_) => Ok(Identity::Unknown),
        }
    }

    /// A header block that cannot be read is a damaged one.
    pub(super) fn read_header(
        &self,
        path: &str,
    ) -> Result<Result<SegmentHeader, SegmentHeaderError>, RecoverError> {
        let mut block = vec![0; BLOCK_BYTES];
        let got = match self.boot.read(path, 0, &mut block) {
            Err(DiskError::Io(_)) => return Ok(Err(SegmentHeaderError::Damaged)),
            read => read.map_err(at(path))?,
        };
        let header = SegmentHeader::decode(&block[..got]);
        if let Err(error @ SegmentHeaderError::Version(_)) = header {
            let path = path.to_owned();
            return Err(RecoverError::Header { path, error });
        }
        Ok(header)
    }

    /// Of files that claim to be the same segment the one that holds more of it is: a segment whose
    /// creation failed was made again under another name, and either may be the older one.
    fn choose_between_rivals(&mut self, found: Vec<Found>) -> Result<Vec<Found>, RecoverError> {
        let mut chosen: Vec<Found> = Vec::with_capacity(found.len());
        for rival in found {
            let last = chosen.last();
            let is_rival = last.is_some_and(|it| it.base == rival.base && it.epoch == rival.epoch);
            if !is_rival {
                chosen.push(rival);
                continue;
            }
            let mut winner = chosen.pop().expect("looked at just now");
            let mut loser = rival;
            if self.contiguous_end(&loser)? > self.contiguous_end(&winner)? {
                std::mem::swap(&mut winner, &mut loser);
            }
            self.set_aside(&loser)?;
            chosen.push(winner);
        }
        Ok(chosen)
    }

    /// Where the batches at the front of a file end.
    fn contiguous_end(&self, found: &Found) -> Result<Offset, RecoverError> {
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        let (mut position, mut end) = (HEADER_BLOCK_BYTES, found.base);
        loop {
            let batch = batches.batch_at(&*self.boot, position, found.epoch);
            match batch.map_err(at(&found.path))? {
                Some((header, _)) if header.base_offset == end.0 => {
                    position += header.total_bytes() as u64;
                    end = header.next_offset();
                }
                Some(_) | None => return Ok(end),
            }
        }
    }

    /// Gives the name of a segment free. A file that holds batches is kept under another one.
    fn set_aside(&mut self, loser: &Found) -> Result<(), RecoverError> {
        let path = &loser.path;
        if !self.has_batches(path, loser.size_bytes, loser.epoch)? {
            return self.boot.remove(path).map_err(at(path));
        }
        let aside = format!("{path}.superseded");
        self.boot.rename(path, &aside).map_err(at(path))?;
        self.report.set_aside.push(aside);
        Ok(())
    }

    fn has_batches(&self, path: &str, size: u64, epoch: Epoch) -> Result<bool, RecoverError> {
        let mut batches = BatchScan::new(path, size);
        batches.holds_batches(&*self.boot, epoch).map_err(at(path))
    }

    /// The next segment must find its name free: a file that is set aside under it stays, so the log
    /// cannot go on.
    pub(super) fn refuse_taken_names(&self) -> Result<(), RecoverError> {
        let is_taken = |path: &&String| {
            let name = path.rsplit('/').next().and_then(FileName::parse);
            matches!(name, Some(FileName::Segment { base_offset, .. }) if base_offset >= self.log.end)
        };
        match self.report.set_aside.iter().find(is_taken) {
            Some(path) if self.log.holes.is_empty() => {
                Err(RecoverError::Foreign { path: path.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Files made ready ahead whose first write was torn. They go when the log is known to be whole
    /// without them and no batch is in them.
    pub(super) fn remove_leftovers(&mut self) -> Result<(), RecoverError> {
        let is_whole = self.log.holes.is_empty() && self.trust != Trust::Unreadable;
        for path in std::mem::take(&mut self.leftovers) {
            let epochs = self
                .log
                .epochs
                .iter()
                .map(|at| at.0)
                .chain([self.wanted_epoch]);
            let mut holds = false;
            for epoch in epochs.collect::<Vec<_>>() {
                holds |= self.has_batches(&path, u64::MAX, epoch)?;
            }
            if is_whole && !holds {
                self.boot.remove(&path).map_err(at(&path))?;
            } else {
                self.report.set_aside.push(path);
            }
        }
        Ok(())
    }

    /// The path a segment has once it is named for good.
    pub(super) fn final_path(&self, found: &Found) -> String {
        segment_path(&self.directory, found.base, found.epoch, "log")
    }
}
