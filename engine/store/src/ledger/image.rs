//! The ledgers as they are found at a start: the newest whole generation of each core, merged, and
//! whether they can be believed.

use std::collections::BTreeMap;

use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{CoreId, Offset};

use super::{COPIES, DIRECTORY, FILE_BLOCKS_MIN, LedgerError, PartitionMarks, path_of};
use crate::marks::{BlockHeader, Mark, PartitionKey, SNAPSHOT_ENDS, decode_block};
use crate::superblock::Runs;

/// Where the partitions are.
const TOPICS_DIRECTORY: &str = "topics";

/// The ledgers of all cores as they were found at start, merged: the number of cores may have
/// changed since they were written.
#[derive(Clone, Debug, Default)]
pub struct LedgerImage {
    partitions: BTreeMap<PartitionKey, PartitionMarks>,
    /// Durable ends and where they are, as far as the ledgers still tell.
    boundaries: BTreeMap<PartitionKey, Vec<(Offset, u64)>>,
    generations: BTreeMap<CoreId, u64>,
    unreadable: bool,
    runs: Runs,
    /// The latest run that any ledger is of.
    newest_run: u64,
    /// Ledgers of an earlier run than the one that served last.
    old: Vec<CoreId>,
    /// Cores that served last and have no ledger.
    missing: Vec<CoreId>,
    /// The run of this process.
    run: u64,
}

impl LedgerImage {
    /// Reads every ledger there is, of whatever run.
    ///
    /// # Errors
    /// The disk cannot be read. Damage is not an error: see [`LedgerImage::is_readable`].
    pub fn read(boot: &dyn BootDisk) -> Result<LedgerImage, LedgerError> {
        LedgerImage::read_of(boot, Runs::default())
    }

    /// Reads every ledger there is; `runs` says which are of the present.
    ///
    /// # Errors
    /// The disk cannot be read. Damage is not an error: see [`LedgerImage::is_readable`].
    pub fn read_of(boot: &dyn BootDisk, runs: Runs) -> Result<LedgerImage, LedgerError> {
        let mut image = LedgerImage {
            runs,
            ..LedgerImage::default()
        };
        let mut found = cores_found(boot)?;
        let missing = (0..runs.cores)
            .map(CoreId)
            .filter(|core| !found.contains(core));
        image.missing.extend(missing);
        // Left by a start that was interrupted before it removed the ledgers of cores that are no more:
        // what they say is in those of the cores there are.
        found.retain(|core| {
            core.0 < runs.cores.max(1) || runs.served == 0 || !is_former(boot, *core, runs.served)
        });
        for core in found {
            let mut best: Option<Generation> = None;
            let mut damaged_snapshot = None;
            let mut anything = false;
            for half in 0..2 {
                let found = Generation::read(boot, core, half)?;
                anything |= found.anything;
                damaged_snapshot = damaged_snapshot.max(found.damaged_snapshot);
                if let Some(found) = found.generation
                    && best.as_ref().is_none_or(|best| best.number < found.number)
                {
                    best = Some(found);
                }
            }
            match best {
                Some(best) => {
                    image.newest_run = image.newest_run.max(best.run);
                    if best.run < runs.served {
                        image.old.push(core);
                    }
                    // An older generation does not stand in for one that was damaged.
                    image.unreadable |= best.gap || damaged_snapshot > Some(best.number);
                    image.generations.insert(core, best.number);
                    let mut partitions = best.partitions();
                    if runs.served > 0 && best.run != runs.served {
                        // A clean stop of another run than the last.
                        partitions.values_mut().for_each(|marks| marks.clean = None);
                    }
                    image.merge(partitions);
                    best.add_boundaries(&mut image.boundaries);
                }
                None => image.unreadable |= anything,
            }
        }
        image.unreadable |= !image.old.is_empty() || !image.missing.is_empty();
        // Marks come before data: where there is data, somebody took them away.
        image.unreadable |= image.generations.is_empty() && has_data(boot)?;
        Ok(image)
    }

    /// The further of two entries wins; a partition's former owner may hold an older one.
    fn merge(&mut self, partitions: BTreeMap<PartitionKey, PartitionMarks>) {
        for (key, marks) in partitions {
            let known = self.partitions.entry(key).or_default();
            let log_start = known.log_start.max(marks.log_start);
            let unvouched_below = known.unvouched_below.max(marks.unvouched_below);
            if marks.persisted_end >= known.persisted_end {
                *known = marks;
            }
            known.log_start = log_start;
            known.unvouched_below = unvouched_below;
        }
    }

    /// What is known of a partition.
    #[must_use]
    pub fn get(&self, key: &PartitionKey) -> Option<&PartitionMarks> {
        self.partitions.get(key)
    }

    /// Boundaries of batches that are known of a partition: an offset at which its log was durable, and
    /// the position of that in its segment's file. Not in order.
    #[must_use]
    pub fn boundaries(&self, key: &PartitionKey) -> &[(Offset, u64)] {
        self.boundaries.get(key).map_or(&[], Vec::as_slice)
    }

    /// The partitions that anything is known of.
    pub fn keys(&self) -> impl Iterator<Item = &PartitionKey> {
        self.partitions.keys()
    }

    /// False when some ledger is missing, old, or damaged in both copies: marks may be missing.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.unreadable
    }

    /// Cores whose ledger is of an earlier run than the one that served last: an old copy.
    #[must_use]
    pub fn old_copies(&self) -> &[CoreId] {
        &self.old
    }

    /// Cores that served last and whose ledger is not there.
    #[must_use]
    pub fn missing(&self) -> &[CoreId] {
        &self.missing
    }

    /// The latest run that any ledger is of: the superblock's sequence is beyond it, unless that is
    /// the old copy.
    #[must_use]
    pub fn newest_run(&self) -> u64 {
        self.newest_run
    }

    /// Whether the last process that served stopped cleanly, by the superblock.
    #[must_use]
    pub fn stopped_cleanly(&self) -> bool {
        self.runs.served > 0 && self.runs.stopped_cleanly
    }

    /// The run whose checkpoint is believed.
    #[must_use]
    pub fn checkpoint_run(&self) -> u64 {
        match self.runs.served {
            0 => self.newest_run,
            served => served,
        }
    }

    /// Sets the run of this process, which its ledgers are of.
    pub fn begin_run(&mut self, run: u64) {
        self.run = run;
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    pub(super) fn next_generation(&self, core: CoreId) -> u64 {
        self.generations.get(&core).map_or(0, |number| number + 1)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (&PartitionKey, &PartitionMarks)> {
        self.partitions.iter()
    }
}

/// Whether everything in a core's ledger is of runs before this one.
fn is_former(boot: &dyn BootDisk, core: CoreId, served_run: u64) -> bool {
    let halves = (0..2).map(|half| Generation::read(boot, core, half));
    let runs = halves.map(|half| half.ok().and_then(|half| half.generation));
    runs.flatten().all(|generation| generation.run < served_run)
}

/// Whether the directory holds partitions.
fn has_data(boot: &dyn BootDisk) -> Result<bool, LedgerError> {
    match boot.list(TOPICS_DIRECTORY) {
        Ok(entries) => Ok(!entries.is_empty()),
        Err(DiskError::NotFound) => Ok(false),
        Err(error) => Err(LedgerError {
            path: TOPICS_DIRECTORY.to_string(),
            error,
        }),
    }
}

/// Cores that have a ledger.
pub(crate) fn cores_found(boot: &dyn BootDisk) -> Result<Vec<CoreId>, LedgerError> {
    let entries = match boot.list(DIRECTORY) {
        Ok(entries) => entries,
        Err(DiskError::NotFound) => return Ok(Vec::new()),
        Err(error) => {
            return Err(LedgerError {
                path: DIRECTORY.to_string(),
                error,
            });
        }
    };
    let mut cores: Vec<CoreId> = entries
        .iter()
        .filter_map(|entry| {
            let number = entry.name.strip_prefix("core-")?.split('-').next()?;
            number.parse().ok().map(CoreId)
        })
        .collect();
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// A block as read back.
type Block = (BlockHeader, Vec<Mark>);

/// One generation as read back.
struct Generation {
    number: u64,
    /// The run of the process that wrote its last block.
    run: u64,
    marks: Vec<Mark>,
    /// A block before the last one is damaged in both copies.
    gap: bool,
}

struct Half {
    generation: Option<Generation>,
    /// A newer generation whose snapshot is damaged in both copies.
    damaged_snapshot: Option<u64>,
    anything: bool,
}

impl Generation {
    fn read(boot: &dyn BootDisk, core: CoreId, half: u64) -> Result<Half, LedgerError> {
        let mut blocks: BTreeMap<(u64, u32), Block> = BTreeMap::new();
        // Blocks that are neither blank nor readable, and in how many copies.
        let mut damaged: BTreeMap<u32, usize> = BTreeMap::new();
        let mut anything = false;
        let mut sizes_bytes = [0u64; COPIES];
        for (copy, size_bytes) in sizes_bytes.iter_mut().enumerate() {
            let path = path_of(core, copy, half);
            let mut bytes = vec![0u8; 64 * BLOCK_BYTES];
            let mut offset = 0u64;
            loop {
                let read = match read_what_can_be(boot, &path, offset, &mut bytes) {
                    Ok(read) => read,
                    Err(DiskError::NotFound) => 0,
                    Err(error) => return Err(LedgerError { path, error }),
                };
                for (at, block) in bytes[..read].chunks_exact(BLOCK_BYTES).enumerate() {
                    let written = block.iter().any(|byte| *byte != 0);
                    anything |= written;
                    match decode_block(block) {
                        Some((header, marks)) if header.core == core => {
                            let place = (header.generation, header.index);
                            blocks.insert(place, (header, marks));
                        }
                        _ if written => {
                            let index = offset / BLOCK_BYTES as u64 + at as u64;
                            *damaged.entry(index as u32).or_default() += 1;
                        }
                        _ => {}
                    }
                }
                offset += read as u64;
                *size_bytes = offset;
                if read < bytes.len() {
                    break;
                }
                bytes.fill(0);
            }
        }
        let (mut generation, damaged_snapshot) = Self::newest(&blocks, &damaged);
        // Files are made at their full size before the first block is written.
        let is_cut = sizes_bytes
            .iter()
            .all(|size| *size < (FILE_BLOCKS_MIN * BLOCK_BYTES) as u64);
        if let Some(generation) = generation.as_mut() {
            generation.gap |= is_cut;
        }
        Ok(Half {
            generation,
            damaged_snapshot,
            anything,
        })
    }

    /// The newest generation with a complete snapshot. A block that is missing behind the snapshot
    /// was still on its way when a later one arrived; one that is damaged in both copies is a gap,
    /// unless it may have been on its way as well.
    /// Then the newest one above it with a gap in its snapshot.
    fn newest(
        blocks: &BTreeMap<(u64, u32), Block>,
        damaged: &BTreeMap<u32, usize>,
    ) -> (Option<Generation>, Option<u64>) {
        let mut numbers: Vec<u64> = blocks.keys().map(|(number, _)| *number).collect();
        numbers.dedup();
        let mut damaged_snapshot = None;
        let newest = numbers.into_iter().rev().find_map(|number| {
            let mut marks = Vec::new();
            let (mut contiguous, mut complete, mut last) = (0u32, false, 0u32);
            let mut run = 0;
            for ((_, index), (header, found)) in blocks.range((number, 0)..=(number, u32::MAX)) {
                contiguous += u32::from(*index == contiguous);
                run = run.max(header.run);
                complete |= header.flags & SNAPSHOT_ENDS != 0 && contiguous == *index + 1;
                last = *index;
                marks.extend_from_slice(found);
            }
            let of = |from: u32, to: u32| blocks.range((number, from)..(number, to));
            let is_gap = |(index, copies): (&u32, &usize)| {
                let before = of(0, *index).next_back().map(|(_, (header, _))| header);
                let later = of(*index, u32::MAX).map(|(_, (header, _))| header.completed_flush);
                let later = later.max().unwrap_or_default();
                *copies == COPIES
                    && *index < last
                    && !blocks.contains_key(&(number, *index))
                    && !(complete && before.is_some_and(|it| it.next_was_in_flight(later)))
            };
            let gap = damaged.iter().any(is_gap);
            if gap && !complete {
                damaged_snapshot = damaged_snapshot.or(Some(number));
            }
            complete.then_some(Generation {
                number,
                run,
                marks,
                gap,
            })
        });
        (newest, damaged_snapshot)
    }

    fn add_boundaries(&self, boundaries: &mut BTreeMap<PartitionKey, Vec<(Offset, u64)>>) {
        for mark in &self.marks {
            let of_log = boundaries.entry(mark.key()).or_default();
            match *mark {
                Mark::Progress {
                    position,
                    persisted_end,
                    ..
                } if position > 0 => of_log.push((persisted_end, u64::from(position))),
                Mark::Truncated { to, .. } => of_log.retain(|(end, _)| *end <= to),
                Mark::Dropped { .. } => of_log.clear(),
                Mark::Progress { .. }
                | Mark::Epoch { .. }
                | Mark::LogStart { .. }
                | Mark::Unvouched { .. }
                | Mark::Clean { .. } => {}
            }
        }
    }

    fn partitions(&self) -> BTreeMap<PartitionKey, PartitionMarks> {
        let mut partitions: BTreeMap<PartitionKey, PartitionMarks> = BTreeMap::new();
        for mark in &self.marks {
            if let Mark::Dropped { key } = mark {
                partitions.remove(key);
            } else {
                partitions.entry(mark.key()).or_default().apply(mark);
            }
        }
        partitions
    }
}

/// Reads like [`BootDisk::read`]. A block that cannot be read is damage to this copy of it: it is
/// returned filled with ones, which no block is.
pub(crate) fn read_what_can_be(
    boot: &dyn BootDisk,
    path: &str,
    offset: u64,
    into: &mut [u8],
) -> Result<usize, DiskError> {
    match boot.read(path, offset, into) {
        Err(DiskError::Io(_)) => {}
        result => return result,
    }
    let entries = boot.list(DIRECTORY)?;
    let is_file = |entry: &&DirectoryEntry| path.ends_with(&format!("/{}", entry.name));
    let size = entries.iter().find(is_file).map_or(0, |at| at.size_bytes);
    let left = size.saturating_sub(offset).min(into.len() as u64) as usize;
    for (at, block) in into[..left].chunks_mut(BLOCK_BYTES).enumerate() {
        match boot.read(path, offset + (at * BLOCK_BYTES) as u64, block) {
            Ok(_) => {}
            Err(DiskError::Io(_)) => block.fill(0xff),
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}
