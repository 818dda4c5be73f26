//! The walk over a partition's segments: which are left over, what producers were known, where the
//! log ends. Which files there are to walk is `find`'s.

use highwater_base::disk::BootDisk;
use highwater_base::{ClusterId, Epoch, Offset};

use super::{RecoverError, RecoveryReport, at};
use crate::log::{DurableEnd, Hole, Log};
use crate::producer_state::ProducerTable;
use crate::segment::{SegmentHeader, SegmentHeaderError, segment_path};
use crate::{PartitionMarks, sidecar};

/// A segment file found in the partition's directory.
#[derive(Debug)]
pub(super) struct Found {
    pub base: Offset,
    pub epoch: Epoch,
    pub path: String,
    pub prepared_number: Option<u32>,
    pub size_bytes: u64,
    pub header: Result<SegmentHeader, SegmentHeaderError>,
}

/// The walk over a partition's segments.
pub(super) struct Walk<'a> {
    pub boot: &'a mut dyn BootDisk,
    pub directory: String,
    pub log: Log,
    /// Everything below was acknowledged, as far as the ledger knows.
    pub durable: Offset,
    /// Where the log ended at the clean stop before this start, if that is what it was.
    pub clean_end: Option<Offset>,
    pub trust: Trust,
    /// By the superblock.
    pub stopped_cleanly: bool,
    /// The epoch the log is opened for.
    pub wanted_epoch: Epoch,
    /// Durable ends that the ledger tells, and their positions.
    pub boundaries: &'a [(Offset, u64)],
    /// Made ready ahead, not blank, and nothing of the log that could be read.
    pub leftovers: Vec<String>,
    pub expected: Offset,
    pub producers: ProducerTable,
    pub replay_from: Offset,
    /// Producers found in the log count as used when recovery ran.
    pub now_ms: i64,
    pub report: RecoveryReport,
    pub cluster_id: ClusterId,
}

/// What the marks ledger says of the partition: it decides what may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It holds the partition: behind D nothing was acknowledged, but for its lag.
    Marked,
    /// It is readable and does not hold the partition, which is new, or its marks were lost.
    Unmarked,
    /// Marks may be missing: nothing valid is cut.
    Unreadable,
}

/// Whether the walk goes on behind a segment.
#[derive(PartialEq, Eq)]
pub(super) enum Step {
    GoOn,
    /// The log ends here: later files hold nothing that was acknowledged.
    Stop,
    /// The log ends before this segment, which holds nothing that was acknowledged either.
    Cut,
}

impl Walk<'_> {
    /// The log as the ledger knows it, and nothing found yet.
    pub(super) fn begin(&mut self, known: &PartitionMarks) {
        self.expected = known.log_start;
        self.log.log_start = known.log_start;
        self.log.epochs = known.epochs.clone();
        self.log.segments.clear();
        self.log.next_prepared_number = 0;
        self.log.has_unsettled = false;
        self.log.holes.clear();
        self.leftovers.clear();
        self.producers = ProducerTable::default();
        self.report = RecoveryReport {
            vouch: self.trust != Trust::Unreadable,
            ..RecoveryReport::default()
        };
    }

    /// Walks the files that are there.
    pub(super) fn run(&mut self) -> Result<(), RecoverError> {
        let mut found = self.find_segments()?;
        self.remove_below_start(&mut found)?;
        self.choose_producers(&found);
        let mut kept = found.len();
        for at in 0..found.len() {
            match self.segment(&found[at..])? {
                Step::GoOn => continue,
                Step::Stop => kept = at + 1,
                Step::Cut => kept = at,
            }
            break;
        }
        self.remove_behind_end(found, kept)?;
        self.log.end = self.expected.max(self.log.log_start);
        if self.log.end < self.durable {
            self.declare_hole(self.log.end, self.durable);
            self.log.end = self.durable;
        }
        self.refuse_taken_names()?;
        self.remove_leftovers()?;
        self.report.ambiguous_tail = self.report.torn && self.clean_end.is_none();
        let last = self.log.segments.len().saturating_sub(1);
        for (at, segment) in self.log.segments.iter_mut().enumerate() {
            segment.sealed = at < last || !self.log.holes.is_empty();
            self.log.has_unsettled |= segment.sealed && !segment.settled;
        }
        self.log.durable = match self.log.segments.last() {
            Some(last) => DurableEnd {
                offset: self.log.end,
                segment_base: last.base_offset,
                position: last.end_position,
            },
            None => DurableEnd::nothing_from(self.log.end),
        };
        Ok(())
    }

    /// Takes away what lies behind the end of the log, the last one first: what an interruption
    /// leaves is still the front of a log. That is a second line of defence: the next recovery ends
    /// the log in the same segment, whatever follows. Where damage was met nothing goes.
    fn remove_behind_end(
        &mut self,
        mut found: Vec<Found>,
        kept: usize,
    ) -> Result<(), RecoverError> {
        if !self.log.holes.is_empty() {
            return Ok(());
        }
        self.report.torn |= kept < found.len();
        if !cfg!(mutant = "S28") {
            found[kept..].reverse();
        }
        for gone in found.drain(kept..) {
            self.remove(&gone)?;
        }
        Ok(())
    }

    /// Segments that a crash left between a durable log start and their removal.
    pub(super) fn remove_below_start(
        &mut self,
        found: &mut Vec<Found>,
    ) -> Result<(), RecoverError> {
        let start = self.log.log_start;
        while found.len() > 1 && found[1].base <= start {
            let gone = found.remove(0);
            self.remove(&gone)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, gone: &Found) -> Result<(), RecoverError> {
        self.boot.remove(&gone.path).map_err(at(&gone.path))?;
        for kind in ["index", "producers"] {
            let path = segment_path(&self.directory, gone.base, gone.epoch, kind);
            self.boot.remove(&path).map_err(at(&path))?;
        }
        Ok(())
    }

    /// The newest producer snapshot that acknowledged data covers; replay begins there.
    pub(super) fn choose_producers(&mut self, found: &[Found]) {
        for segment in found.iter().rev() {
            if let Some((offset, table)) = self.read_producers(segment.base, segment.epoch)
                && (offset <= self.durable || cfg!(mutant = "S17"))
                && offset >= segment.base
            {
                self.producers = table;
                self.replay_from = offset;
                return;
            }
        }
        self.replay_from = Offset::ZERO;
        if found.is_empty() {
            let epoch = self.log.epochs.last().map_or(Epoch(0), |at| at.0);
            self.take_producers_without_segments(self.log.log_start, epoch);
        }
    }

    /// Retention may have taken every segment; the snapshot at the log's end stays.
    pub(super) fn take_producers_without_segments(&mut self, end: Offset, epoch: Epoch) {
        if let Some((offset, table)) = self.read_producers(end, epoch)
            && offset == end
        {
            self.producers = table;
        }
    }

    pub(super) fn read_producers(
        &self,
        base: Offset,
        epoch: Epoch,
    ) -> Option<(Offset, ProducerTable)> {
        let path = segment_path(&self.directory, base, epoch, "producers");
        sidecar::decode_producers(&self.read_small(&path)?)
    }

    pub(super) fn declare_hole(&mut self, from: Offset, to: Offset) {
        assert!(from < to, "a hole has an extent");
        if let Some(last) = self.log.segments.last_mut() {
            let boundary = (last.end_position, from);
            if last.next_offset == from && !last.hole_positions.contains(&boundary) {
                last.hole_positions.push(boundary);
            }
        }
        match self.log.holes.last_mut() {
            Some(hole) if hole.to == from.0 => hole.to = to.0,
            _ => self.log.holes.push(Hole {
                from: from.0,
                to: to.0,
            }),
        }
    }

    /// Whether what lies at `offset` was acknowledged.
    pub(super) fn is_settled(&self, offset: Offset) -> bool {
        offset < self.durable && !cfg!(mutant = "S14")
    }

    /// The log goes on behind the end it had at its clean stop: ledger and checkpoint are older than
    /// the log, and what was acknowledged since then is not known.
    pub(super) fn distrust_clean_stop(&mut self) {
        if self.clean_end.take().is_some() {
            self.trust = Trust::Unreadable;
            self.report.vouch = false;
        }
    }
}
