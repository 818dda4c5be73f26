//! One segment: every batch in it, and the verdict on the first byte that is none.

use highwater_base::disk::{BootDisk, DiskError};
use highwater_base::record_batch::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL};
use highwater_base::{BatchHeader, Offset};

use super::partition::{FoundSegment, Known, holds_batches, is_new};
use super::sidecars::IndexCheck;
use super::{BatchAt, Finding, FindingKind, PartitionPlace, VerifyHost};
use crate::batch_scan::{BatchFault, BatchScan};
use crate::resume::{Damage, Resumption, resume};
use crate::segment::HEADER_BLOCK_BYTES;

/// Whether the log goes on behind a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    GoesOn,
    LogEnds,
}

/// Where reading failed, and how.
pub(super) type ReadFault = (u64, DiskError);

/// The scan of the first of some segments; the others follow it.
pub(super) struct SegmentScan<'a> {
    boot: &'a dyn BootDisk,
    place: &'a PartitionPlace,
    known: &'a Known,
    files: &'a [FoundSegment],
    index: Option<IndexCheck>,
    pub end_position: u64,
    pub next_offset: Offset,
    pub batches: u64,
    pub records: u64,
    /// Ranges of offsets that damage took.
    pub lost: Vec<(Offset, Offset)>,
    max_timestamp: i64,
}

impl<'a> SegmentScan<'a> {
    pub fn new(
        boot: &'a dyn BootDisk,
        place: &'a PartitionPlace,
        known: &'a Known,
        files: &'a [FoundSegment],
    ) -> SegmentScan<'a> {
        SegmentScan {
            boot,
            place,
            known,
            files,
            index: None,
            end_position: HEADER_BLOCK_BYTES,
            next_offset: files[0].base,
            batches: 0,
            records: 0,
            lost: Vec::new(),
            max_timestamp: -1,
        }
    }

    /// Bytes of batches and of what lies between them.
    pub fn bytes(&self) -> u64 {
        self.end_position - HEADER_BLOCK_BYTES
    }

    pub fn read_index(&mut self, host: &mut dyn VerifyHost) {
        let directory = &self.place.directory;
        self.index = IndexCheck::read(self.boot, directory, &self.files[0], host);
    }

    /// Reads the segment to its end. `expected` is where the log goes on, before and after.
    pub fn run(
        &mut self,
        expected: &mut Offset,
        host: &mut dyn VerifyHost,
    ) -> Result<Ending, ReadFault> {
        let found = &self.files[0];
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        let ending = loop {
            let position = self.end_position;
            let examined = batches.examine(self.boot, position, Some(found.epoch));
            let fault = match examined.map_err(|error| (position, error))? {
                Ok((header, bytes)) if header.base_offset == expected.0 => {
                    self.take(&header, bytes, host);
                    *expected = header.next_offset();
                    if *expected > self.known.durable {
                        self.known.distrust_clean_stop();
                    }
                    continue;
                }
                Ok((header, _)) => Fault::Offset(header),
                Err(fault) => Fault::Batch(fault),
            };
            if let Some(ending) = self.judge(&mut batches, &fault, expected, host)? {
                break ending;
            }
        };
        if let Some((position, error)) = batches.unreadable() {
            let finding = Finding::of(FindingKind::Unreadable, &found.path, error.to_string());
            host.finding(finding.at(position));
        }
        if let Some(index) = self.index.take() {
            let is_sealed = self.files.len() > 1 && ending == Ending::GoesOn;
            let end = (self.end_position, expected.0, self.max_timestamp);
            index.finish(is_sealed, end, host);
        }
        Ok(ending)
    }

    fn take(&mut self, header: &BatchHeader, bytes: &[u8], host: &mut dyn VerifyHost) {
        let (position, file) = (self.end_position, self.files[0].path.as_str());
        if let Some(index) = &mut self.index {
            index.batch(header.base_offset, position, self.max_timestamp, host);
        }
        if let Some(detail) = wrong_field(header) {
            let finding = Finding::of(FindingKind::BatchField, file, detail).at(position);
            host.finding(finding.offset(Offset(header.base_offset)));
        }
        host.batch(&BatchAt {
            place: self.place,
            file,
            position,
            header,
            bytes,
        });
        host.scanned(bytes.len() as u64);
        self.batches += 1;
        self.records += header.record_count as u64;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.end_position += bytes.len() as u64;
        self.next_offset = header.next_offset();
    }

    /// What the first bytes that are no batch mean; `None` when batches follow them.
    fn judge(
        &mut self,
        batches: &mut BatchScan<'_>,
        fault: &Fault,
        expected: &mut Offset,
        host: &mut dyn VerifyHost,
    ) -> Result<Option<Ending>, ReadFault> {
        let found = &self.files[0];
        let (path, position) = (found.path.as_str(), self.end_position);
        let failed = |error| (position, error);
        let next = self.files.get(1).map(|next| next.base);
        let dirty = batches
            .first_nonzero(self.boot, position, found.size_bytes)
            .map_err(failed)?;
        let at_clean_end = self.known.clean_end.get().is_some()
            && next.is_none()
            && !self.known.is_settled(*expected)
            && (dirty.is_none() || !self.resume(*expected).map_err(failed)?.is_followed());
        if next == Some(*expected) || (at_clean_end && !matches!(fault, Fault::Offset(_))) {
            if let Some(dirty) = dirty {
                let detail = format!("the last batch ends at {position}");
                host.finding(Finding::of(FindingKind::PaddingNotZero, path, detail).at(dirty));
            }
            return Ok(Some(Ending::GoesOn));
        }
        let Some(_) = dirty else {
            // The caller tells what is missing behind the last batch.
            let is_end = next.is_none() || !self.known.is_settled(*expected);
            return match is_end && self.may_end(true, expected).map_err(failed)? {
                true => Ok(Some(Ending::LogEnds)),
                false => Ok(Some(Ending::GoesOn)),
            };
        };
        let (kind, detail) = fault.tell(*expected);
        let ends = !self.known.is_settled(*expected);
        if ends && self.may_end(false, expected).map_err(failed)? {
            let finding = Finding::of(FindingKind::TornTail, path, detail).at(position);
            host.finding(finding.offset(*expected));
            self.index = None;
            return Ok(Some(Ending::LogEnds));
        }
        let resumed = self.resume(*expected).map_err(failed)?.batch();
        let to = resumed.map(|(_, header)| Offset(header.base_offset));
        // Where nothing says how far the log went, one record at least was there.
        let least = (!self.known.is_settled(*expected)).then(|| expected.plus(1));
        let to = to.or(next).or(least).filter(|to| *to > *expected);
        let lost = match to {
            Some(to) => format!("; offsets {} to {} are lost", *expected, to.0 - 1),
            None => "; nothing valid follows".to_string(),
        };
        let finding = Finding::of(kind, path, detail + &lost).at(position);
        host.finding(finding.offset(*expected));
        if let Some(to) = to {
            self.lost.push((*expected, to));
            *expected = to;
        }
        if let Some(index) = &mut self.index {
            let end = resumed.map_or(u64::MAX, |(resumed, _)| resumed);
            index.damaged(position, end);
        }
        let Some((resumed, _)) = resumed else {
            return Ok(Some(Ending::GoesOn));
        };
        self.end_position = resumed;
        Ok(None)
    }

    /// Whether a log that is bad here, and not known to have been acknowledged, may end here.
    fn may_end(&self, blank: bool, expected: &Offset) -> Result<bool, DiskError> {
        let rest = &self.files[1..];
        if self.known.clean_end.get().is_some() && (!rest.is_empty() || !blank) {
            let follows = !rest.is_empty() || self.resume(*expected)?.is_followed();
            if follows {
                self.known.distrust_clean_stop();
            }
        }
        if self.known.is_marked() || (blank && rest.is_empty()) {
            return Ok(true);
        }
        let valid_behind = self.resume(*expected)?.is_followed()
            || rest.iter().any(|it| holds_batches(self.boot, it));
        if !valid_behind {
            return Ok(!self.known.stopped_cleanly);
        }
        is_new(self.boot, self.known, self.files, self.end_position)
    }

    /// Where the segment goes on, as recovery decides it.
    fn resume(&self, expected: Offset) -> Result<Resumption, DiskError> {
        let found = &self.files[0];
        let index = self.index.as_ref().map(IndexCheck::index);
        let damage = Damage {
            position: self.end_position,
            expected,
            epoch: found.epoch,
            base: found.base,
            next: self.files.get(1).map(|next| next.base),
            durable: self.known.durable,
            index,
            boundaries: &self.known.boundaries,
        };
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        resume(&mut batches, self.boot, &damage)
    }
}

/// Why bytes do not continue a segment.
enum Fault {
    Batch(BatchFault),
    /// A valid batch of another offset.
    Offset(BatchHeader),
}

impl Fault {
    fn tell(&self, expected: Offset) -> (FindingKind, String) {
        match self {
            Fault::Offset(header) => (
                FindingKind::BatchOffset,
                format!(
                    "base offset is {}, the log goes on at {expected}",
                    header.base_offset
                ),
            ),
            Fault::Batch(BatchFault::NoRoom { have }) => (
                FindingKind::BatchTruncated,
                format!("{have} bytes are left in the file, fewer than a batch header"),
            ),
            Fault::Batch(BatchFault::Header(error)) => {
                (FindingKind::BatchHeader, error.to_string())
            }
            Fault::Batch(BatchFault::Beyond { header, have }) => (
                FindingKind::BatchTruncated,
                format!(
                    "batch_length makes it {} bytes, {have} are left in the file",
                    header.total_bytes()
                ),
            ),
            Fault::Batch(BatchFault::Epoch { header }) => (
                FindingKind::BatchEpoch,
                format!("leader epoch is {}", header.partition_leader_epoch),
            ),
            Fault::Batch(BatchFault::Crc { error, .. }) => {
                (FindingKind::BatchCrc, error.to_string())
            }
        }
    }
}

/// A field that the broker does not accept from producers.
fn wrong_field(header: &BatchHeader) -> Option<String> {
    if header.codec() > 4 {
        return Some(format!(
            "codec {} is unknown, 0 to 4 are known",
            header.codec()
        ));
    }
    if header.attributes & (ATTRIBUTE_TRANSACTIONAL | ATTRIBUTE_CONTROL) != 0 {
        let attributes = header.attributes;
        return Some(format!(
            "attributes {attributes:#06x} name a transaction or a control batch"
        ));
    }
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        let (count, delta) = (header.record_count, header.last_offset_delta);
        return Some(format!(
            "record count {count} with last offset delta {delta}"
        ));
    }
    if header.is_idempotent() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Some(format!(
            "producer id {} with epoch {} and sequence {}",
            header.producer_id, header.producer_epoch, header.base_sequence
        ));
    }
    None
}
