//! The marks ledger of a core: how far each of its logs is durable, where its epochs begin, what it
//! no longer keeps. Recovery judges by it whether bad bytes are a torn tail or damage.
//!
//! Two copies of everything. Each copy has two files, `a` and `b`; a *generation* lives in one of
//! them (even in `a`, odd in `b`): a snapshot of all partitions, then the marks since, block after
//! block, none ever rewritten. When a file has no room left, the next generation starts in the other
//! one; the old stays whole until the new snapshot is on disk, and a generation without a complete
//! snapshot does not count. At recovery a block is taken from whichever copy has it.
//!
//! Every block carries the run of the node that wrote it. A ledger of a run before the one that the
//! superblock says served last is an old copy that somebody put back: what it says is true of that time
//! and not of now.
//!
//! A durable flush is also the barrier of a group commit: on a device with a volatile cache it
//! flushes every write that completed before it. The second copy is written along plainly and
//! becomes durable with a later flush.

mod image;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use highwater_base::disk::{
    BootDisk, DiskCompletion, DiskError, DiskOperation, DiskRequest, DiskToken, FileId,
};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{AlignedBuffer, CoreId, Epoch, Offset, Position};

use crate::checkpoint;
use crate::marks::{
    BlockHeader, Mark, PartitionKey, RECORDS_PER_BLOCK, SNAPSHOT_ENDS, encode_block,
};

pub use image::LedgerImage;
pub(crate) use image::{cores_found, read_what_can_be};

pub(crate) const DIRECTORY: &str = "marks";
pub(crate) const COPIES: usize = 2;
/// Blocks of a generation's file at least.
const FILE_BLOCKS_MIN: usize = 256;
/// Epoch starts kept per partition; older ones are in the segment headers.
const EPOCHS_MAX: usize = 64;
/// Token kind of the ledger's requests, in the top byte.
const TOKEN_KIND: u64 = 0x01;

/// What the ledgers know of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionMarks {
    /// Epochs and the offsets they begin at, ascending.
    pub epochs: Vec<(Epoch, Offset)>,
    pub persisted_end: Offset,
    /// Where that is in its segment's file; 0 when it is not known.
    pub position: u32,
    pub high_watermark: Offset,
    pub log_start: Offset,
    /// Marks were lost once when the log ended here; of no account when it begins behind it.
    pub unvouched_below: Offset,
    /// Set by a clean stop, gone as soon as the next process has started.
    pub clean: Option<Position>,
}

impl PartitionMarks {
    fn apply(&mut self, mark: &Mark) {
        match *mark {
            Mark::Epoch { epoch, start, .. } => {
                self.epochs.retain(|(known, _)| *known < epoch);
                self.epochs.push((epoch, start));
                if self.epochs.len() > EPOCHS_MAX {
                    self.epochs.remove(0);
                }
            }
            Mark::Progress {
                position,
                persisted_end,
                high_watermark,
                ..
            } => {
                self.position = position;
                self.persisted_end = persisted_end;
                self.high_watermark = high_watermark;
                self.clean = None;
            }
            Mark::Truncated { to, .. } => {
                if to < self.persisted_end {
                    self.position = 0;
                }
                self.persisted_end = self.persisted_end.min(to);
                self.high_watermark = self.high_watermark.min(to);
                self.epochs.retain(|(_, start)| *start <= to);
                self.clean = None;
            }
            Mark::LogStart { offset, .. } => self.log_start = self.log_start.max(offset),
            Mark::Clean { position, .. } => self.clean = Some(position),
            Mark::Dropped { .. } => *self = PartitionMarks::default(),
            Mark::Unvouched { upto, .. } => self.unvouched_below = self.unvouched_below.max(upto),
        }
    }

    fn last_epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    /// The marks that say all of this again.
    fn restate(&self, key: PartitionKey, into: &mut Vec<Mark>) {
        into.extend(self.epochs.iter().map(|(epoch, start)| Mark::Epoch {
            key,
            epoch: *epoch,
            start: *start,
        }));
        into.push(self.progress(key));
        if self.log_start > Offset::ZERO {
            into.push(Mark::LogStart {
                key,
                offset: self.log_start,
            });
        }
        if self.unvouched_below > self.log_start {
            let upto = self.unvouched_below;
            into.push(Mark::Unvouched { key, upto });
        }
    }

    fn progress(&self, key: PartitionKey) -> Mark {
        Mark::Progress {
            key,
            epoch: self.last_epoch(),
            position: self.position,
            persisted_end: self.persisted_end,
            high_watermark: self.high_watermark,
        }
    }
}

/// A ledger that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct LedgerError {
    pub path: String,
    pub error: DiskError,
}

pub(crate) fn path_of(core: CoreId, copy: usize, generation: u64) -> String {
    let half = if generation.is_multiple_of(2) {
        "a"
    } else {
        "b"
    };
    format!("{DIRECTORY}/core-{core}-{copy}{half}")
}

/// Removes what the process before this one left for recovery: the ledgers of cores that are no
/// more, whose CLEAN marks would still count, and all checkpoints, which only fit the clean stop
/// they were written at. Every core's own ledger is durable by now, every log is recovered, and no
/// core serves yet: from its first append on, what is removed here would be wrong.
///
/// # Errors
/// The disk refuses; then no core may serve.
pub fn forget_former_process(boot: &mut dyn BootDisk, cores: usize) -> Result<(), LedgerError> {
    checkpoint::remove_all(boot)?;
    for core in cores_found(boot)? {
        if usize::from(core.0) < cores {
            continue;
        }
        for copy in 0..COPIES {
            for half in 0..2 {
                let path = path_of(core, copy, half);
                boot.remove(&path)
                    .map_err(|error| LedgerError { path, error })?;
            }
        }
    }
    Ok(())
}

/// One flush; later ones are greater, and the first is 1: with 0, none has ended yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LedgerFlush(pub u64);

#[derive(Debug)]
struct Entry {
    marks: PartitionMarks,
    /// Kinds of marks recorded since the last flush.
    pending: u8,
    /// The lowest epoch recorded since then: those from it on are new, an epoch ends all above it.
    epochs_from: Epoch,
    /// The lowest end the log was cut to since then.
    truncated_to: Offset,
}

impl Entry {
    fn new(marks: PartitionMarks) -> Entry {
        Entry {
            marks,
            pending: 0,
            epochs_from: Epoch(u32::MAX),
            truncated_to: Offset(i64::MAX),
        }
    }
}

const PENDING_EPOCH: u8 = 1;
const PENDING_PROGRESS: u8 = 2;
const PENDING_TRUNCATED: u8 = 4;
const PENDING_LOG_START: u8 = 8;
const PENDING_CLEAN: u8 = 16;
const PENDING_DROPPED: u8 = 32;
const PENDING_UNVOUCHED: u8 = 64;

#[derive(Debug)]
struct Flight {
    flush: LedgerFlush,
    writes_left: usize,
    /// Bytes of each write.
    len: usize,
}

/// The running ledger of one core.
#[derive(Debug)]
pub struct MarksLedger {
    core: CoreId,
    /// The run of the node that this ledger is of.
    run: u64,
    partitions: BTreeMap<PartitionKey, Entry>,
    dirty: Vec<PartitionKey>,
    scratch: Vec<Mark>,
    generation: u64,
    next_block: usize,
    /// Blocks of the current file that are there without growing it.
    file_blocks: [usize; 2],
    next_flush: u64,
    flights: VecDeque<Flight>,
    buffers: Vec<Rc<AlignedBuffer>>,
    attached: bool,
    failed: bool,
}

impl MarksLedger {
    /// Starts this core's ledger with a fresh generation that holds what `image` knows of the
    /// partitions it owns. What was there before stays whole until the new one is durable.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn create(
        boot: &mut dyn BootDisk,
        core: CoreId,
        image: &LedgerImage,
        owned: impl Fn(&PartitionKey) -> bool,
    ) -> Result<MarksLedger, LedgerError> {
        let generation = image.next_generation(core);
        let partitions = image
            .partitions()
            .filter(|(key, _)| owned(key))
            .map(|(key, marks)| {
                // From now on the process runs: nothing is clean any more.
                let marks = PartitionMarks {
                    clean: None,
                    ..marks.clone()
                };
                (*key, Entry::new(marks))
            })
            .collect();
        let mut ledger = MarksLedger {
            core,
            run: image.run(),
            partitions,
            dirty: Vec::new(),
            scratch: Vec::new(),
            generation,
            next_block: 0,
            file_blocks: [0; 2],
            next_flush: 0,
            flights: VecDeque::new(),
            buffers: Vec::new(),
            attached: false,
            failed: false,
        };
        let blocks = ledger.snapshot_blocks();
        ledger.next_flush = 1;
        let file_blocks = (4 * blocks.len()).max(FILE_BLOCKS_MIN);
        ledger.file_blocks = [file_blocks; 2];
        let bytes: Vec<u8> = blocks.concat();
        for copy in 0..COPIES {
            for number in [generation, generation + 1] {
                // The other file may hold the only good generation; it is made only when absent.
                let path = path_of(core, copy, number);
                let fresh = number == generation
                    || matches!(boot.read(&path, 0, &mut [0u8; 1]), Err(DiskError::NotFound));
                if fresh {
                    let size = (file_blocks * BLOCK_BYTES) as u64;
                    // What the file held is in the image by now, or in the other one.
                    let made = boot
                        .remove(&path)
                        .and_then(|()| boot.create_zeroed(&path, size));
                    made.map_err(|error| LedgerError {
                        path: path.clone(),
                        error,
                    })?;
                }
            }
        }
        // Only now that both copies are blank: a switch that did not complete may have left blocks
        // of the same number.
        for copy in 0..COPIES {
            let path = path_of(core, copy, generation);
            boot.write(&path, 0, &bytes)
                .map_err(|error| LedgerError { path, error })?;
        }
        ledger.next_block = blocks.len();
        Ok(ledger)
    }

    fn header(&self, index: usize, flags: u16) -> BlockHeader {
        BlockHeader {
            core: self.core,
            run: self.run,
            generation: self.generation,
            index: index as u32,
            flags,
            flush: self.next_flush + 1,
            completed_flush: match self.flights.front() {
                Some(oldest) => oldest.flush.0,
                None => self.next_flush,
            },
        }
    }

    /// The snapshot of the current generation, block by block.
    fn snapshot_blocks(&self) -> Vec<Vec<u8>> {
        let mut marks = Vec::new();
        for (key, entry) in &self.partitions {
            entry.marks.restate(*key, &mut marks);
            if let Some(position) = entry.marks.clean {
                marks.push(Mark::Clean {
                    key: *key,
                    position,
                });
            }
        }
        let count = marks.len().div_ceil(RECORDS_PER_BLOCK).max(1);
        (0..count)
            .map(|index| {
                let from = index * RECORDS_PER_BLOCK;
                let upto = (from + RECORDS_PER_BLOCK).min(marks.len());
                let flags = if index + 1 == count { SNAPSHOT_ENDS } else { 0 };
                let mut block = vec![0; BLOCK_BYTES];
                encode_block(&self.header(index, flags), &marks[from..upto], &mut block);
                block
            })
            .collect()
    }

    /// The run of the node that this ledger is of.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Notes a fact; it becomes durable with a flush.
    pub fn record(&mut self, mark: Mark) {
        let key = mark.key();
        let entry = self
            .partitions
            .entry(key)
            .or_insert_with(|| Entry::new(PartitionMarks::default()));
        if entry.pending == 0 {
            self.dirty.push(key);
        }
        let kind = match mark {
            Mark::Epoch { .. } => PENDING_EPOCH,
            Mark::Progress { .. } => PENDING_PROGRESS,
            Mark::Truncated { .. } => PENDING_TRUNCATED,
            Mark::LogStart { .. } => PENDING_LOG_START,
            Mark::Clean { .. } => PENDING_CLEAN,
            Mark::Dropped { .. } => PENDING_DROPPED,
            Mark::Unvouched { .. } => PENDING_UNVOUCHED,
        };
        entry.marks.apply(&mark);
        match mark {
            Mark::Dropped { .. } => *entry = Entry::new(PartitionMarks::default()),
            Mark::Epoch { epoch, .. } => entry.epochs_from = entry.epochs_from.min(epoch),
            Mark::Truncated { to, .. } => entry.truncated_to = entry.truncated_to.min(to),
            _ => {}
        }
        entry.pending |= kind;
    }

    /// Whether anything was recorded since the last flush.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How much a flush would have to write, roughly.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.dirty.len() * BLOCK_BYTES / RECORDS_PER_BLOCK
    }

    /// Names the ledger's files, which the first flush does otherwise.
    pub fn attach(&mut self, disk: &mut Vec<DiskRequest>) {
        if std::mem::replace(&mut self.attached, true) {
            return;
        }
        for copy in 0..COPIES {
            for half in 0..2u64 {
                let path = path_of(self.core, copy, half);
                let operation = DiskOperation::Attach {
                    file: file_of(copy, half),
                    path,
                    former: None,
                };
                disk.push(DiskRequest {
                    token: DiskToken(TOKEN_KIND << 56),
                    operation,
                });
            }
        }
    }

    /// Writes what was recorded. With `durable` it is a barrier, even if nothing was recorded.
    pub fn flush(&mut self, durable: bool, disk: &mut Vec<DiskRequest>) -> LedgerFlush {
        self.attach(disk);
        self.collect_pending();
        let blocks = self.scratch.len().div_ceil(RECORDS_PER_BLOCK).max(1);
        let half = (self.generation % 2) as usize;
        let switches = self.next_block + blocks > self.file_blocks[half];
        let buffer = if switches {
            self.start_generation()
        } else {
            let buffer = self.take_buffer(blocks);
            for index in 0..blocks {
                let from = index * RECORDS_PER_BLOCK;
                let upto = (from + RECORDS_PER_BLOCK).min(self.scratch.len());
                let header = self.header(self.next_block + index, 0);
                let marks = &self.scratch[from..upto];
                buffer.append_with(BLOCK_BYTES, |block| encode_block(&header, marks, block));
            }
            buffer
        };
        let flush = LedgerFlush(self.next_flush);
        self.next_flush += 1;
        let offset = (self.next_block * BLOCK_BYTES) as u64;
        let len = buffer.filled();
        self.next_block += len / BLOCK_BYTES;
        for copy in 0..COPIES {
            let operation = DiskOperation::Write {
                file: file_of(copy, self.generation % 2),
                offset,
                buffer: Rc::clone(&buffer),
                start: 0,
                len,
                // Flushes behind a snapshot are worth nothing without it.
                durable: (durable || (switches && !cfg!(mutant = "S19"))) && copy == 0,
            };
            disk.push(DiskRequest {
                token: token_of(flush),
                operation,
            });
        }
        self.buffers.push(buffer);
        self.flights.push_back(Flight {
            flush,
            writes_left: COPIES - usize::from(cfg!(mutant = "S26")),
            len,
        });
        flush
    }

    /// Turns what is pending into marks, in `scratch`.
    fn collect_pending(&mut self) {
        self.scratch.clear();
        for key in self.dirty.drain(..) {
            let Some(entry) = self.partitions.get_mut(&key) else {
                continue;
            };
            let pending = std::mem::take(&mut entry.pending);
            let truncated_to = std::mem::replace(&mut entry.truncated_to, Offset(i64::MAX));
            let epochs_from = std::mem::replace(&mut entry.epochs_from, Epoch(u32::MAX));
            let (marks, epoch) = (&entry.marks, entry.marks.last_epoch());
            if pending & PENDING_DROPPED != 0 {
                self.scratch.push(Mark::Dropped { key });
                if pending == PENDING_DROPPED {
                    self.partitions.remove(&key);
                    continue;
                }
            }
            if pending & PENDING_TRUNCATED != 0 {
                let to = truncated_to;
                self.scratch.push(Mark::Truncated { key, epoch, to });
            }
            if pending & PENDING_EPOCH != 0 {
                let new = marks.epochs.iter().filter(|known| known.0 >= epochs_from);
                let restated = new.map(|&(epoch, start)| Mark::Epoch { key, epoch, start });
                self.scratch.extend(restated);
            }
            if pending & (PENDING_PROGRESS | PENDING_TRUNCATED) != 0 {
                self.scratch.push(marks.progress(key));
            }
            if pending & PENDING_LOG_START != 0 {
                self.scratch.push(Mark::LogStart {
                    key,
                    offset: marks.log_start,
                });
            }
            if pending & PENDING_UNVOUCHED != 0 {
                let upto = marks.unvouched_below;
                self.scratch.push(Mark::Unvouched { key, upto });
            }
            if pending & PENDING_CLEAN != 0
                && let Some(position) = marks.clean
            {
                self.scratch.push(Mark::Clean { key, position });
            }
        }
    }

    /// Goes on in the other file with a snapshot of everything, pending marks included. A snapshot
    /// larger than the file makes it grow, which is slower and just as safe.
    fn start_generation(&mut self) -> Rc<AlignedBuffer> {
        self.generation += 1;
        self.next_block = 0;
        let blocks = self.snapshot_blocks();
        let half = (self.generation % 2) as usize;
        self.file_blocks[half] = self.file_blocks[half].max(4 * blocks.len());
        let buffer = self.take_buffer(blocks.len());
        for block in &blocks {
            buffer.append(block);
        }
        buffer
    }

    /// An empty buffer of at least so many blocks; one that nobody holds any more if there is one.
    fn take_buffer(&mut self, blocks: usize) -> Rc<AlignedBuffer> {
        let bytes = blocks * BLOCK_BYTES;
        let free = self
            .buffers
            .iter()
            .position(|buffer| Rc::strong_count(buffer) == 1 && buffer.capacity() >= bytes);
        if let Some(at) = free {
            let mut buffer = self.buffers.swap_remove(at);
            if let Some(sole) = Rc::get_mut(&mut buffer) {
                sole.reset();
                return buffer;
            }
        }
        // Snapshots are rare and large; only buffers for ordinary flushes are kept.
        self.buffers
            .retain(|buffer| Rc::strong_count(buffer) > 1 || buffer.capacity() <= 16 * BLOCK_BYTES);
        Rc::new(AlignedBuffer::with_capacity(bytes.max(4 * BLOCK_BYTES)))
    }

    /// Whether a token is one of the ledger's.
    #[must_use]
    pub fn owns(token: DiskToken) -> bool {
        token.0 >> 56 == TOKEN_KIND
    }

    /// Steps with a finished write of the ledger: the newest flush that is now complete together
    /// with all before it, if this write completed one.
    pub fn complete(
        &mut self,
        completion: DiskCompletion,
    ) -> Option<Result<LedgerFlush, DiskError>> {
        if self.failed {
            return None;
        }
        if let Err(error) = completion.result {
            self.failed = true;
            return Some(Err(error));
        }
        let flush = LedgerFlush(completion.token.0 & !(0xff << 56));
        let flight = self
            .flights
            .iter_mut()
            .find(|flight| flight.flush == flush)?;
        if completion.result != Ok(flight.len) && !cfg!(mutant = "S32") {
            // The kernel wrote less than asked: what is on disk is unknown.
            self.failed = true;
            return Some(Err(DiskError::Io(5)));
        }
        flight.writes_left = flight.writes_left.saturating_sub(1);
        let mut done = None;
        while self
            .flights
            .front()
            .is_some_and(|flight| flight.writes_left == 0)
        {
            done = self.flights.pop_front().map(|flight| Ok(flight.flush));
        }
        done
    }
}

fn token_of(flush: LedgerFlush) -> DiskToken {
    DiskToken(TOKEN_KIND << 56 | flush.0)
}

fn file_of(copy: usize, half: u64) -> FileId {
    FileId(1 + copy as u32 * 2 + half as u32)
}
