//! Recovery of one partition before its shard serves: what is on disk against what the marks ledger
//! says was acknowledged.
//!
//! D is the ledger's `persisted_end`. The first byte that is not a valid next batch, at offset x:
//!
//! | case | verdict |
//! |---|---|
//! | x < D | rot: a hole up to where the log is proven to go on (`resume`); log offline |
//! | x >= D | torn: truncated at x, whatever follows was never acknowledged |
//! | x >= D, unreadable | not decided: the partition is not served |
//! | a segment missing below D | hole |
//! | zeros to the end of the last segment, x >= D | the normal end |
//!
//! After a clean stop D is where the log ended, and the marks of that stop are believed only as long
//! as nothing of the log lies behind it. A log's end is never beyond the larger of D and the end of
//! the batches that follow each other up to it and on. Of a log with a hole nothing is ever cut.
//!
//! Where marks may be missing, D says nothing about what lies behind it: the log begins with the
//! first segment there is, and it is cut only where nothing valid follows. A partition that a
//! readable ledger does not hold is either new, and then cut like others as long as little lies
//! behind the bad byte, or has lost its marks.
//!
//! Header fields outside Kafka's CRC are redundant: the base offset by continuity, the epoch by the
//! segment, the length by the CRC. A sealed segment whose sidecar fits the next segment and lies
//! below D is not scanned: its batches carry CRCs that readers check.
//!
//! Truncation leaves zeros behind, up to [`STALE_REACH_BYTES`]: a stale batch behind the new end
//! would be valid again once an equally long batch is written before it.

mod cut;
mod find;
mod from_checkpoint;
mod segment_scan;
mod walk;

use highwater_base::disk::{BootDisk, DiskError, DiskRequest};
use highwater_base::limits::{BLOCK_BYTES, FRAME_BYTES_MAX};
use highwater_base::{BatchHeader, Epoch, Now, Offset, Position};

use crate::batch_scan::BatchScan;
use crate::checkpoint::CheckpointImage;
use crate::index::IndexEntry;
use crate::log::{Hole, Log, LogId, PartitionSpec};
use crate::producer_state::ProducerTable;
use crate::segment::{HEADER_BLOCK_BYTES, SegmentHeaderError, segment_path};
use crate::store::{BARRIERS_IN_FLIGHT_MAX, Store};
use crate::tail::WINDOW_BYTES_MAX;
use crate::{LedgerImage, Mark, PartitionKey, PartitionMarks};
pub(crate) use walk::Trust;
use walk::Walk;

/// Bytes of one write: at most a window or one batch.
const WRITE_BYTES_MAX: u64 = (WINDOW_BYTES_MAX + FRAME_BYTES_MAX + BLOCK_BYTES) as u64;
/// How far behind the end bytes of unacknowledged writes can lie: one write is under way per log,
/// and those of other groups may wait for their barrier.
pub const STALE_REACH_BYTES: u64 = BARRIERS_IN_FLIGHT_MAX as u64 * WRITE_BYTES_MAX;
/// How much may lie behind the first bad byte of a partition without marks for it to be a torn tail:
/// what a partition gets in its first moments.
pub(crate) const UNMARKED_REACH_BYTES: u64 = 2 * WINDOW_BYTES_MAX as u64;

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub log_start: Offset,
    pub end: Offset,
    pub holes: Vec<Hole>,
    /// Bytes behind the last valid batch were dropped.
    pub torn: bool,
    /// They may have been acknowledged within the ledger's lag.
    pub ambiguous_tail: bool,
    /// The checkpoint of a clean stop was used; nothing was scanned.
    pub from_checkpoint: bool,
    /// False when marks of some core are unreadable: what was acknowledged is not known.
    pub vouch: bool,
    pub segments: usize,
    pub scanned_bytes: u64,
    /// Files in the partition's directory that are kept and are no part of the log.
    pub set_aside: Vec<String>,
}

/// Why a partition could not be recovered. None of these is decided by deleting anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    #[error("{path}: {error}")]
    Disk { path: String, error: DiskError },
    #[error(
        "{path}: its header says that it belongs elsewhere (another cluster, topic, partition or \
         offset), and the log would need its name; put the right file back, or move this one away"
    )]
    Foreign { path: String },
    #[error("{path}: {error}")]
    Header {
        path: String,
        error: SegmentHeaderError,
    },
    #[error("{path}: segment begins at offset {base}, but the log before it ends at {end}")]
    Overlap {
        path: String,
        base: Offset,
        end: Offset,
    },
    #[error("epoch {epoch} is below the log's last epoch {last}")]
    EpochWentBack { epoch: Epoch, last: Epoch },
    #[error("{path}: batch at position {position} is damaged")]
    Damaged { path: String, position: u64 },
}

pub(crate) fn at(path: &str) -> impl Fn(DiskError) -> RecoverError + '_ {
    move |error| RecoverError::Disk {
        path: path.to_owned(),
        error,
    }
}

impl Store {
    /// Recovers one partition before serving. An absent directory is an empty partition.
    ///
    /// # Errors
    /// [`RecoverError`]: the partition is not served then, and nothing was deleted.
    pub fn recover(
        &mut self,
        boot: &mut dyn BootDisk,
        spec: PartitionSpec,
        marks: &LedgerImage,
        now: Now,
    ) -> Result<(LogId, RecoveryReport), RecoverError> {
        let wanted_epoch = spec.epoch;
        let log = self.empty_log(spec);
        let trust = match marks.get(&log.key) {
            _ if !marks.is_readable() => Trust::Unreadable,
            Some(_) => Trust::Marked,
            None => Trust::Unmarked,
        };
        let known = marks.get(&log.key).cloned().unwrap_or_default();
        let clean = known.clean;
        let clean = clean.filter(|_| marks.is_readable() && !self.has_served);
        let checkpoint = self
            .checkpoint
            .get_or_insert_with(|| Box::new(CheckpointImage::read(boot, marks.checkpoint_run())));
        let image = checkpoint.take(log.key).filter(|image| {
            let same_end = |at: Position| at.epoch.0 == image.epoch && at.end.0 == image.end;
            (clean.is_some_and(same_end) || cfg!(mutant = "S20"))
                && image.log_start >= known.log_start.0
        });
        let directory = log.directory();
        let mut walk = Walk {
            boot,
            directory,
            durable: clean.map_or(known.persisted_end, |at| at.end.max(known.persisted_end)),
            clean_end: clean.map(|at| at.end),
            trust,
            stopped_cleanly: marks.stopped_cleanly(),
            wanted_epoch,
            boundaries: marks.boundaries(&log.key),
            leftovers: Vec::new(),
            expected: known.log_start,
            producers: ProducerTable::default(),
            replay_from: Offset::ZERO,
            now_ms: now.wall_ms,
            report: RecoveryReport::default(),
            cluster_id: self.cluster_id,
            log,
        };
        walk.begin(&known);
        // Whatever is wrong with a checkpoint, the batches tell as well.
        let is_taken = image.is_some_and(|image| walk.take_checkpoint(image) == Ok(true));
        if !is_taken {
            walk.begin(&known);
            walk.run()?;
        }
        let Walk {
            mut log,
            mut producers,
            mut report,
            trust,
            ..
        } = walk;
        producers.keep_for_resends(now.wall_ms, self.config.producer_id_expiration_ms);
        if !producers.is_empty() {
            log.producers = Some(Box::new(producers));
        }
        log.forget_holes_below_start();
        finish_epochs(&mut log, wanted_epoch)?;
        report.end = log.end;
        report.log_start = log.log_start;
        report.vouch &= known.unvouched_below <= log.log_start;
        report.holes = log.holes.clone();
        report.segments = log.segments.len();
        self.record_recovered(now, &log, &known, &report, trust);
        for at in 0..log.segments.len() {
            let segment = &log.segments[at];
            let (base, epoch) = (segment.base_offset, segment.epoch);
            let path = segment_path(&log.directory(), base, epoch, "log");
            log.segments[at].file.file = self.attach(path);
        }
        Ok((self.add_log(log), report))
    }

    fn record_recovered(
        &mut self,
        now: Now,
        log: &Log,
        known: &PartitionMarks,
        report: &RecoveryReport,
        trust: Trust,
    ) {
        let key = log.key;
        if log.log_start > known.log_start {
            let offset = log.log_start;
            self.ledger.record(Mark::LogStart { key, offset });
        }
        if known.epochs.last() != log.epochs.last()
            && let Some(&(epoch, start)) = log.epochs.last()
        {
            self.ledger.record(Mark::Epoch { key, epoch, start });
        }
        let epoch = log.segments.last().map_or(log.epoch, |last| last.epoch);
        if !report.vouch && known.unvouched_below <= log.log_start {
            // A log that seems empty may have been anything.
            let upto = log.end.max(log.log_start.plus(1));
            self.ledger.record(Mark::Unvouched { key, upto });
        }
        if report.torn {
            let to = log.end;
            self.ledger.record(Mark::Truncated { key, epoch, to });
        }
        // A mark does not go over a hole, but where marks were lost: what was kept for that reason
        // must be kept by the next start too, which has these marks and believes them.
        let may_go_over = trust != Trust::Marked || cfg!(mutant = "S30");
        if log.end != known.persisted_end && (log.holes.is_empty() || may_go_over) {
            self.ledger.record(Mark::Progress {
                key,
                epoch,
                position: log.durable.position as u32,
                persisted_end: log.end,
                high_watermark: log.end,
            });
        }
        // What is found here is served: the ledger has to say so even if nothing is appended.
        self.ledger_is_due(now);
    }

    fn ledger_is_due(&mut self, now: Now) {
        if self.ledger.has_pending() {
            let due_at_ns = now.plus_ms(self.config.ledger_lag_ms);
            self.group_commit.ledger_due_at_ns.get_or_insert(due_at_ns);
        }
    }

    /// Drops the marks of partitions that are no more, before serving.
    pub fn forget_marks(&mut self, now: Now, gone: impl Iterator<Item = PartitionKey>) {
        for key in gone {
            self.ledger.record(Mark::Dropped { key });
        }
        self.ledger_is_due(now);
    }

    /// Hands over the requests that name recovered files, before the first turn: a read may follow.
    pub fn take_attached(&mut self, disk: &mut Vec<DiskRequest>) {
        self.drain_background(disk);
    }

    /// Walks every batch of a recovered log from the one that holds `from` on, at boot time.
    ///
    /// # Errors
    /// `Damaged` at a batch that is not valid or in front of a hole; `Disk`.
    pub fn scan(
        &self,
        boot: &dyn BootDisk,
        log: LogId,
        from: Offset,
        visit: &mut dyn FnMut(&BatchHeader, &[u8]),
    ) -> Result<(), RecoverError> {
        let state = self.log(log);
        let first = state.segment_of(from).unwrap_or(0);
        for segment in state.segments.iter().skip(first) {
            let path = self
                .file_name(segment.file.file)
                .map_or("", |name| name.path.as_str());
            let entry = segment.index.floor_offset(segment.base_offset, from);
            let mut position = entry.map_or(HEADER_BLOCK_BYTES, |at| {
                u64::from(segment.index.entries()[at].position)
            });
            let mut batches = BatchScan::new(path, segment.end_position);
            while position < segment.end_position {
                let found = batches
                    .batch_at(boot, position, segment.epoch)
                    .map_err(at(path))?;
                let Some((header, bytes)) = found else {
                    let path = path.to_owned();
                    return Err(RecoverError::Damaged { path, position });
                };
                position += header.total_bytes() as u64;
                if header.next_offset() > from {
                    visit(&header, bytes);
                }
            }
        }
        Ok(())
    }
}

/// Completes the epoch table from the segments and with the epoch the partition is opened for.
fn finish_epochs(log: &mut Log, wanted: Epoch) -> Result<(), RecoverError> {
    for segment in &log.segments {
        let found = log.epochs.binary_search_by_key(&segment.epoch, |at| at.0);
        if let Err(at) = found {
            log.epochs.insert(at, (segment.epoch, segment.base_offset));
        }
    }
    let last = log.epochs.last().map_or(Epoch(0), |at| at.0);
    if wanted < last {
        return Err(RecoverError::EpochWentBack {
            epoch: wanted,
            last,
        });
    }
    if log.epochs.is_empty() || wanted > last {
        log.epochs.push((wanted, log.end));
    }
    for at in &mut log.epochs {
        at.1 = at.1.min(log.end);
    }
    log.epoch = wanted;
    Ok(())
}

fn index_entry(
    base: Offset,
    header: &BatchHeader,
    position: u64,
    max_timestamp_before: i64,
) -> IndexEntry {
    IndexEntry {
        relative_offset: (header.base_offset - base.0) as u32,
        position: position as u32,
        max_timestamp_before,
    }
}
