//! One partition: the chain of its segments against what the marks ledger says was acknowledged.
//!
//! Follows recovery's walk (see `recovery`): the same order of files, the same verdicts, nothing
//! changed, and no segment taken on trust.

use std::cell::Cell;

use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{Epoch, Offset};

use super::places::{list, tell_unknown};
use super::segment::{Ending, SegmentScan};
use super::{FileKind, Finding, FindingKind, NodeFacts, PartitionPlace, VerifyHost};
use crate::batch_scan::BatchScan;
use crate::recovery::{Trust, UNMARKED_REACH_BYTES};
use crate::segment::{HEADER_BLOCK_BYTES, SegmentHeader, SegmentHeaderError, segment_path};
use crate::{Hole, PartitionMarks};

/// A segment's file as found.
#[derive(Clone, Debug)]
pub(super) struct FoundSegment {
    pub base: Offset,
    pub epoch: Epoch,
    pub path: String,
    pub is_prepared: bool,
    pub size_bytes: u64,
}

/// What is known before any batch is looked at.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub marks: PartitionMarks,
    /// Everything below was acknowledged, as far as the ledger knows.
    pub durable: Offset,
    /// Changes when the log turns out to be newer than the marks of its clean stop.
    pub trust: Cell<Trust>,
    pub clean_end: Cell<Option<Offset>>,
    /// By the superblock.
    pub stopped_cleanly: bool,
    /// Durable ends that the ledger tells, and their positions.
    pub boundaries: Vec<(Offset, u64)>,
}

impl Known {
    fn of(facts: &NodeFacts, place: &PartitionPlace) -> Known {
        let marks = place
            .key
            .and_then(|key| facts.ledgers.as_ref()?.get(&key).cloned());
        let ledgers = facts.ledgers.as_ref().zip(place.key);
        let readable = facts.ledgers.as_ref().is_some_and(|all| all.is_readable());
        let trust = match &marks {
            _ if !readable => Trust::Unreadable,
            Some(_) => Trust::Marked,
            None => Trust::Unmarked,
        };
        let marks = marks.unwrap_or_default();
        let clean_end = marks.clean.filter(|_| readable).map(|at| at.end);
        Known {
            durable: clean_end.map_or(marks.persisted_end, |end| end.max(marks.persisted_end)),
            trust: Cell::new(trust),
            clean_end: Cell::new(clean_end),
            stopped_cleanly: ledgers.is_some_and(|(all, _)| all.stopped_cleanly()),
            boundaries: ledgers.map_or_else(Vec::new, |(all, key)| all.boundaries(&key).to_vec()),
            marks,
        }
    }

    /// Whether what lies at `offset` was acknowledged.
    pub fn is_settled(&self, offset: Offset) -> bool {
        offset < self.durable
    }

    pub fn is_marked(&self) -> bool {
        self.trust.get() == Trust::Marked
    }

    /// As recovery does: the log goes on behind the end it had at its clean stop.
    pub fn distrust_clean_stop(&self) {
        if self.clean_end.take().is_some() {
            self.trust.set(Trust::Unreadable);
        }
    }

    /// Whether a crash may have torn what lies at `offset`: the ledger is there to say so.
    fn is_torn_at(&self, offset: Offset) -> bool {
        let is_known = self.trust.get() != Trust::Unreadable;
        is_known && self.clean_end.get().is_none() && !self.is_settled(offset)
    }
}

/// What verification found of a partition as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionVerdict {
    pub log_start: Offset,
    /// Behind the last record, valid or lost.
    pub end: Offset,
    /// The ledger's durable mark, where it is known.
    pub durable: Option<Offset>,
    pub segments: usize,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    /// Offsets that are lost, as recovery declares them when it scans everything.
    pub holes: Vec<Hole>,
    /// Per segment: base offset, next offset, end position.
    pub ends: Vec<(Offset, Offset, u64)>,
}

/// Verifies one partition.
pub fn verify_partition(
    boot: &dyn BootDisk,
    place: &PartitionPlace,
    facts: &NodeFacts,
    host: &mut dyn VerifyHost,
) -> PartitionVerdict {
    let known = Known::of(facts, place);
    let expected = known.marks.log_start;
    let mut check = Check {
        boot,
        place,
        facts,
        verdict: PartitionVerdict {
            log_start: expected,
            end: expected,
            durable: known.is_marked().then_some(known.durable),
            segments: 0,
            batches: 0,
            records: 0,
            bytes: 0,
            holes: Vec::new(),
            ends: Vec::new(),
        },
        known,
        expected,
        host,
    };
    check.run();
    check.verdict
}

struct Check<'a> {
    boot: &'a dyn BootDisk,
    place: &'a PartitionPlace,
    facts: &'a NodeFacts,
    known: Known,
    /// Where the log goes on.
    expected: Offset,
    verdict: PartitionVerdict,
    host: &'a mut dyn VerifyHost,
}

impl Check<'_> {
    fn run(&mut self) {
        let entries = list(self.boot, &self.place.directory, self.host);
        let mut found = self.find_segments(&entries);
        if self.known.trust.get() == Trust::Unmarked && !found.is_empty() {
            let detail = format!("{} has {} segments", self.place.name(), found.len());
            let kind = FindingKind::NoMarks;
            self.host
                .finding(Finding::of(kind, &self.place.directory, detail));
        }
        while found.len() > 1 && found[1].base <= self.known.marks.log_start {
            let gone = found.remove(0);
            let start = self.known.marks.log_start;
            let detail = format!("begins at {}, the log at {start}", gone.base);
            let kind = FindingKind::SegmentBelowStart;
            self.tell(Finding::of(kind, &gone.path, detail).offset(gone.base));
        }
        for at in 0..found.len() {
            if self.segment(&found[at..]) == Ending::LogEnds {
                self.tell_torn(&found[at + 1..]);
                break;
            }
        }
        self.finish(&found);
        self.sidecars(&entries, &found);
    }

    fn tell(&mut self, finding: Finding) {
        self.host.finding(finding);
    }

    fn lose(&mut self, from: Offset, to: Offset) {
        match self.verdict.holes.last_mut() {
            Some(hole) if hole.to == from.0 => hole.to = to.0,
            _ => self.verdict.holes.push(Hole {
                from: from.0,
                to: to.0,
            }),
        }
    }

    fn tell_torn(&mut self, files: &[FoundSegment]) {
        for file in files {
            let detail = format!("the log ends at {}", self.expected);
            self.tell(Finding::of(FindingKind::TornSegment, &file.path, detail).offset(file.base));
        }
    }

    /// The segment files in order; what is not ours is told.
    fn find_segments(&mut self, entries: &[DirectoryEntry]) -> Vec<FoundSegment> {
        let mut found = Vec::new();
        for entry in entries {
            let path = format!("{}/{}", self.place.directory, entry.name);
            match FileKind::of(&path).filter(|_| !entry.is_directory) {
                Some(FileKind::Segment { named }) => {
                    found.extend(self.open_segment(path, entry.size_bytes, named));
                }
                Some(FileKind::Index { .. } | FileKind::Producers { .. }) => {}
                _ => tell_unknown(&path, entry, self.host),
            }
        }
        found.sort_by_key(|it| (it.base, it.epoch, !it.is_prepared));
        found.dedup_by(|second, first| first.base == second.base && first.epoch == second.epoch);
        found
    }

    fn open_segment(
        &mut self,
        path: String,
        size_bytes: u64,
        named: Option<(Offset, Epoch)>,
    ) -> Option<FoundSegment> {
        let block = BLOCK_BYTES as u64;
        if !size_bytes.is_multiple_of(block) {
            let detail = format!("{size_bytes} bytes, no multiple of {block}");
            let kind = FindingKind::SegmentSize;
            self.tell(Finding::of(kind, &path, detail).at(size_bytes - size_bytes % block));
        }
        let mut head = vec![0; BLOCK_BYTES];
        let header = match self.boot.read(&path, 0, &mut head) {
            Ok(got) => SegmentHeader::decode(&head[..got]),
            Err(error) => {
                self.unreadable(&path, 0, error);
                Err(SegmentHeaderError::Damaged)
            }
        };
        let mut batches = BatchScan::new(&path, size_bytes);
        let first = batches.first_batch(self.boot).unwrap_or_default();
        let identity = named.or(match (header, first) {
            (Ok(header), _) => Some((header.base_offset, header.epoch)),
            (Err(_), Some(batch)) => Some((
                Offset(batch.base_offset),
                Epoch(batch.partition_leader_epoch as u32),
            )),
            (Err(_), None) => None,
        });
        let Some((base, epoch)) = identity else {
            let detail = format!("{size_bytes} bytes, blank");
            self.tell(Finding::of(FindingKind::PreparedSegment, &path, detail));
            return None;
        };
        if named.is_none() {
            let detail = format!("holds the log from {base} on, in epoch {epoch}");
            self.tell(Finding::of(FindingKind::UnnamedSegment, &path, detail).offset(base));
        }
        let is_misplaced = !self.check_header(&path, &header, base, epoch);
        if is_misplaced {
            return None;
        }
        Some(FoundSegment {
            base,
            epoch,
            path,
            is_prepared: named.is_none(),
            size_bytes: size_bytes - size_bytes % block,
        })
    }

    /// Whether the file can be the segment it is named for: a damaged header does not say.
    fn check_header(
        &mut self,
        path: &str,
        header: &Result<SegmentHeader, SegmentHeaderError>,
        base: Offset,
        epoch: Epoch,
    ) -> bool {
        let header = match header {
            Ok(header) => header,
            Err(error) => {
                // It is written together with the first batch.
                let is_version = matches!(error, SegmentHeaderError::Version(_));
                let kind = match is_version || !self.known.is_torn_at(base) {
                    true => FindingKind::SegmentHeader,
                    false => FindingKind::TornHeader,
                };
                self.tell(Finding::of(kind, path, error.to_string()).at(0));
                return true;
            }
        };
        let is_named_well = (header.base_offset, header.epoch) == (base, epoch);
        if !is_named_well {
            let detail = format!(
                "the header says offset {} in epoch {}, the name {base} in {epoch}",
                header.base_offset, header.epoch
            );
            self.tell(Finding::of(FindingKind::SegmentHeader, path, detail).at(52));
        }
        let cluster_fits = self
            .facts
            .cluster_id
            .is_none_or(|id| id == header.cluster_id);
        let key_fits = self
            .place
            .key
            .is_none_or(|key| key.topic_id == header.topic_id && key.partition == header.partition);
        if !cluster_fits || !key_fits {
            let detail = format!(
                "the header says cluster {}, topic {}, partition {}",
                header.cluster_id, header.topic_id, header.partition.0
            );
            self.tell(Finding::of(FindingKind::SegmentForeign, path, detail).at(12));
        }
        is_named_well && cluster_fits && key_fits
    }

    fn unreadable(&mut self, path: &str, position: u64, error: DiskError) {
        let kind = FindingKind::Unreadable;
        self.tell(Finding::of(kind, path, error.to_string()).at(position));
    }

    /// Takes in the first of these segments; the others follow it.
    fn segment(&mut self, files: &[FoundSegment]) -> Ending {
        let found = &files[0];
        let is_first = self.verdict.segments == 0;
        if is_first && found.base <= self.expected {
            self.expected = found.base;
        }
        let (base, expected) = (found.base, self.expected);
        if base < expected {
            let detail = format!("begins at {base}, but the log before it ends at {expected}");
            let kind = FindingKind::SegmentOverlap;
            self.tell(Finding::of(kind, &found.path, detail).at(0).offset(base));
            self.expected = base;
        }
        if base > expected && !self.close_gap(files) {
            self.tell_torn(&files[..1]);
            return Ending::LogEnds;
        }
        self.verdict.segments += 1;
        let mut scan = SegmentScan::new(self.boot, self.place, &self.known, files);
        scan.read_index(self.host);
        let ending = scan.run(&mut self.expected, self.host);
        self.verdict.batches += scan.batches;
        self.verdict.records += scan.records;
        self.verdict.bytes += scan.bytes();
        let lost = std::mem::take(&mut scan.lost);
        self.verdict
            .ends
            .push((base, scan.next_offset, scan.end_position));
        for (from, to) in lost {
            self.lose(from, to);
        }
        self.expected = self.expected.max(expected);
        match ending {
            Ok(ending) => ending,
            Err((position, error)) => {
                self.unreadable(&found.path, position, error);
                Ending::GoesOn
            }
        }
    }

    /// Offsets are missing before the first of these segments. False when the log ends there.
    fn close_gap(&mut self, files: &[FoundSegment]) -> bool {
        let (base, expected) = (files[0].base, self.expected);
        if !self.known.is_settled(expected) {
            self.known.distrust_clean_stop();
        }
        let is_first = self.verdict.segments == 0;
        let holds = || files.iter().any(|file| holds_batches(self.boot, file));
        let has_batches = (is_first || !self.known.is_marked()) && holds();
        if is_first && has_batches && !self.known.is_marked() {
            // Retention took what came before, and nothing says so.
            self.verdict.log_start = base;
            self.known.marks.log_start = base;
        } else if has_batches || self.known.is_settled(expected) {
            let detail = format!(
                "begins at {base}, the log before it ends at {expected}: {} records are missing",
                base.0 - expected.0
            );
            let kind = FindingKind::SegmentGap;
            self.lose(expected, base);
            self.tell(
                Finding::of(kind, &files[0].path, detail)
                    .at(0)
                    .offset(expected),
            );
        } else {
            return false;
        }
        self.expected = base;
        true
    }

    fn finish(&mut self, found: &[FoundSegment]) {
        let durable = self.known.durable;
        let end = self.expected.max(self.known.marks.log_start);
        self.verdict.end = end;
        let last = found.get(self.verdict.segments.saturating_sub(1));
        let path = last.map_or(self.place.directory.as_str(), |it| it.path.as_str());
        let position = self.verdict.ends.last().map(|end| end.2);
        let mut finding = None;
        if end < durable {
            self.lose(end, durable);
            self.verdict.end = durable;
            let detail = format!("the log ends at {end}, the ledger says durable up to {durable}");
            finding = Some(Finding::of(FindingKind::RecordsMissing, path, detail));
        } else if end > durable && self.known.is_marked() && self.verdict.segments > 0 {
            let detail = format!("the log ends at {end}, the ledger says durable up to {durable}");
            finding = Some(Finding::of(FindingKind::UnconfirmedTail, path, detail));
        }
        if let Some(mut finding) = finding {
            let at = match finding.kind {
                FindingKind::UnconfirmedTail => durable,
                _ => end,
            };
            if finding.kind == FindingKind::RecordsMissing {
                finding.position = position;
            }
            self.tell(finding.offset(at));
        }
    }

    fn sidecars(&mut self, entries: &[DirectoryEntry], found: &[FoundSegment]) {
        let has = |base: Offset, epoch: Epoch| {
            found.iter().any(|it| it.base == base && it.epoch == epoch)
        };
        for entry in entries.iter().filter(|entry| !entry.is_directory) {
            let path = format!("{}/{}", self.place.directory, entry.name);
            match FileKind::of(&path) {
                Some(FileKind::Index { base_offset, epoch }) if !has(base_offset, epoch) => {
                    let detail = format!("no segment begins at {base_offset} in epoch {epoch}");
                    self.tell(Finding::of(FindingKind::StraySidecar, &path, detail));
                }
                Some(FileKind::Producers { base_offset, epoch }) => {
                    let is_end = base_offset == self.verdict.end;
                    if !has(base_offset, epoch) && !is_end {
                        let detail = format!("no segment begins at {base_offset} in epoch {epoch}");
                        self.tell(Finding::of(FindingKind::StraySidecar, &path, detail));
                    }
                    self.producers(&path, entry.size_bytes, base_offset);
                }
                _ => {}
            }
        }
        let sealed = found.len().min(self.verdict.segments).saturating_sub(1);
        for file in &found[..sealed] {
            let path = segment_path(&self.place.directory, file.base, file.epoch, "index");
            if !entries.iter().any(|entry| path.ends_with(&entry.name)) {
                let detail = format!("belongs to {}", file.path);
                self.tell(Finding::of(FindingKind::IndexMissing, &path, detail));
            }
        }
    }

    fn producers(&mut self, path: &str, size_bytes: u64, base: Offset) {
        let decoded = match super::read_producers(self.boot, path, size_bytes) {
            Ok(decoded) => decoded,
            Err(error) => return self.unreadable(path, 0, error),
        };
        let detail = match decoded {
            None => "the frame, its checksum or what is in it does not match".to_string(),
            Some((offset, _)) if offset < base => {
                format!("is of offset {offset}, its segment begins at {base}")
            }
            Some(_) => return,
        };
        self.tell(Finding::of(FindingKind::ProducersDamaged, path, detail).at(0));
    }
}

/// Whether a segment holds a valid batch.
pub(super) fn holds_batches(boot: &dyn BootDisk, found: &FoundSegment) -> bool {
    let mut batches = BatchScan::new(&found.path, found.size_bytes);
    batches.holds_batches(boot, found.epoch).unwrap_or(false)
}

/// Whether a log without marks is so new that what lies behind `position` is a torn tail.
pub(super) fn is_new(
    boot: &dyn BootDisk,
    known: &Known,
    files: &[FoundSegment],
    position: u64,
) -> Result<bool, DiskError> {
    let mut bytes = 0;
    let mut from = position;
    for found in files {
        let mut batches = BatchScan::new(&found.path, found.size_bytes);
        let last = batches.last_nonzero(boot, from, found.size_bytes)?;
        bytes += last.map_or(0, |last| last + 1 - from);
        from = HEADER_BLOCK_BYTES;
    }
    let is_from_zero = known.marks.log_start == Offset::ZERO;
    let is_unmarked = known.trust.get() == Trust::Unmarked;
    Ok(is_unmarked && is_from_zero && bytes <= UNMARKED_REACH_BYTES)
}
