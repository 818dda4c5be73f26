//! Reading what is stored and holding it against what must be there, before it is sent.
//!
//! A check covers the batches between two boundaries that the index knows, at most some hundred
//! KiB: they are read by direct I/O and walked. Each header must continue the one before it (magic,
//! the segment's epoch, the base offset, a length that leads to the next one), each CRC must be
//! right, and the last batch must end at the second boundary. Before the first one of a segment its
//! header block is held against the file's name. What passes is noted ([`Unchecked`]) and goes out by
//! sendfile from then on; what does not becomes a hole (`damage`). Who waits reads again on
//! [`StoreEvent::Located`].
//!
//! The bytes that were checked are kept for a while, so that the reader who waited is given them
//! and the disk is read once. Of a topic with `verify.on.fetch` nothing else is ever given out.
//!
//! A read that the device refuses is repeated block by block: what cannot be read is damage.
//!
//! [`Unchecked`]: crate::unchecked::Unchecked

use std::collections::VecDeque;
use std::rc::Rc;

use highwater_base::disk::{DiskError, DiskOperation, DiskRequest, FileId};
use highwater_base::limits::BLOCK_BYTES;
use highwater_base::{AlignedBuffer, Offset};

use crate::damage::is_damage;
use crate::log::LogId;
use crate::segment::SegmentHeader;
use crate::store::{Store, StoreEvent, token, token_kind};
use crate::stretch::Stretch;
use crate::tail::TailBuffer;

/// Bytes of one check, unless two boundaries lie further apart; with the blocks around them a power
/// of two.
const CHECK_BYTES: u64 = 504 << 10;
/// The same in a small cache: this share of it.
const CHECK_SHARES: usize = 128;
/// Checks under way at once.
const CHECKS_IN_FLIGHT_MAX: usize = 16;
/// Readers that wait for a place; those beyond find out when they read again.
const CHECKS_WAITING_MAX: usize = 256;
/// Checked chunks kept for the readers that waited for them.
const CHUNKS_KEPT: usize = 32;

/// What is being read for a check.
#[derive(Debug)]
enum Stage {
    /// The header block.
    Header,
    /// All of the batches.
    Batches,
    /// The batches block by block, because the device refused to read them at once; `whole` takes
    /// what could be read.
    Blocks { whole: Rc<AlignedBuffer> },
}

/// Who asked for a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Reader,
    Scrubber,
}

/// What the header block of a segment file says.
pub(crate) enum HeaderVerdict {
    /// It belongs to the file's name, or says nothing.
    Passes,
    /// The file holds another segment: a hole by now.
    Foreign,
    Failed(DiskError),
}

/// What is to be checked for whom.
#[derive(Clone, Copy, Debug)]
struct Asked {
    stretch: Stretch,
    /// A reader looks for it.
    offset: Offset,
    asker: Asker,
}

#[derive(Debug)]
struct Check {
    asked: Asked,
    stage: Stage,
    buffer: Rc<AlignedBuffer>,
}

/// Checked bytes that readers may be given.
#[derive(Debug)]
struct Chunk {
    log: LogId,
    file: FileId,
    bytes: TailBuffer,
    /// Made in this turn: who waits for it has not read yet.
    fresh: bool,
}

/// Checks under way and in line, and what they brought.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    slots: Vec<Option<Check>>,
    waiting: VecDeque<(LogId, Offset)>,
    /// Oldest first.
    chunks: VecDeque<Chunk>,
}

impl Checks {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.iter().all(Option::is_none)
    }

    pub fn retain_waiting(&mut self, keeps: impl Fn(&LogId) -> bool) {
        self.waiting.retain(|(log, _)| keeps(log));
    }

    /// The checked bytes that hold the batch with `offset`.
    pub fn find(&self, log: LogId, file: FileId, offset: Offset) -> Option<&TailBuffer> {
        let holds = |chunk: &&Chunk| {
            chunk.log == log
                && chunk.file == file
                && chunk.bytes.first_offset <= offset
                && offset < chunk.bytes.end_offset
        };
        self.chunks.iter().find(holds).map(|chunk| &chunk.bytes)
    }

    pub fn find_mut(
        &mut self,
        log: LogId,
        file: FileId,
        offset: Offset,
    ) -> Option<&mut TailBuffer> {
        let holds = |chunk: &&mut Chunk| {
            chunk.log == log
                && chunk.file == file
                && chunk.bytes.first_offset <= offset
                && offset < chunk.bytes.end_offset
        };
        let mut chunks = self.chunks.iter_mut();
        chunks.find(holds).map(|chunk| &mut chunk.bytes)
    }

    /// The oldest chunk that was there when the turn began.
    pub fn pop_chunk(&mut self) -> Option<TailBuffer> {
        let oldest = self.chunks.iter().position(|chunk| !chunk.fresh)?;
        self.chunks.remove(oldest).map(|chunk| chunk.bytes)
    }

    /// Lets go of what readers were given and are done with: only the list of what is lent and this
    /// one hold it.
    pub fn forget_read_chunks(&mut self) {
        self.chunks.retain(|chunk| {
            let is_read = chunk.bytes.lent && Rc::strong_count(&chunk.bytes.buffer) == 2;
            chunk.fresh || !is_read
        });
    }

    /// The turn is over: whoever waited has read.
    pub fn age_chunks(&mut self) {
        for chunk in self.chunks.iter_mut().rev().take_while(|chunk| chunk.fresh) {
            chunk.fresh = false;
        }
    }

    fn free_slot(&mut self) -> Option<usize> {
        let free = self.slots.iter().position(Option::is_none);
        if free.is_none() && self.slots.len() < CHECKS_IN_FLIGHT_MAX {
            self.slots.push(None);
            return Some(self.slots.len() - 1);
        }
        free
    }

    fn is_known(&self, log: LogId, offset: Offset) -> bool {
        let under_way = self.slots.iter().flatten().any(|check| {
            let stretch = &check.asked.stretch;
            let covers = stretch.from.1 <= offset && offset < stretch.to.1;
            stretch.log == log && covers && check.asked.asker == Asker::Reader
        });
        under_way || self.waiting.contains(&(log, offset))
    }
}

impl Store {
    /// Puts an offset in line for a check of the batches around it.
    pub(crate) fn check(&mut self, log: LogId, offset: Offset) {
        let checks = &mut self.lookups.checks;
        if !checks.is_known(log, offset) && checks.waiting.len() < CHECKS_WAITING_MAX {
            checks.waiting.push_back((log, offset));
        }
    }

    pub(crate) fn check_bytes(&self) -> u64 {
        let share = self.config.tail_cache_bytes / CHECK_SHARES;
        CHECK_BYTES.min(share.max(BLOCK_BYTES) as u64)
    }

    /// Starts the checks in line, as far as there are places and memory.
    pub(crate) fn issue_checks(&mut self, disk: &mut Vec<DiskRequest>) {
        while let Some(&(log, offset)) = self.lookups.checks.waiting.front() {
            let Some(slot) = self.lookups.checks.free_slot() else {
                return;
            };
            let bytes = self.check_bytes();
            let state = self.live_log(log);
            let stretch = state.and_then(|state| state.stretch_at(log, offset, bytes));
            let Some(stretch) = stretch else {
                self.lookups.checks.waiting.pop_front();
                continue;
            };
            let asked = Asked {
                stretch,
                offset,
                asker: Asker::Reader,
            };
            if !self.begin_check(slot, asked, disk) {
                return;
            }
            self.lookups.checks.waiting.pop_front();
        }
    }

    /// Begins a check for the scrubber; false when there is no place or no memory for it.
    pub(crate) fn begin_scrub(&mut self, stretch: Stretch, disk: &mut Vec<DiskRequest>) -> bool {
        let Some(slot) = self.lookups.checks.free_slot() else {
            return false;
        };
        let asked = Asked {
            stretch,
            offset: stretch.from.1,
            asker: Asker::Scrubber,
        };
        match stretch.is_first() {
            true => self.read_stage(slot, asked, Stage::Header, disk),
            false => self.begin_check(slot, asked, disk),
        }
    }

    /// Begins a check; false when there is no memory for it.
    fn begin_check(&mut self, slot: usize, asked: Asked, disk: &mut Vec<DiskRequest>) -> bool {
        let stage = match self.has_unchecked_header(&asked.stretch) {
            true => Stage::Header,
            false => Stage::Batches,
        };
        self.read_stage(slot, asked, stage, disk)
    }

    fn read_stage(
        &mut self,
        slot: usize,
        asked: Asked,
        stage: Stage,
        disk: &mut Vec<DiskRequest>,
    ) -> bool {
        let len = match stage {
            Stage::Header | Stage::Blocks { .. } => BLOCK_BYTES,
            Stage::Batches => asked.stretch.len(),
        };
        let Some(buffer) = self.take_buffer(len) else {
            return false;
        };
        let check = Check {
            asked,
            stage,
            buffer,
        };
        self.read_for_check(slot, check, disk);
        true
    }

    /// Whether nobody has looked at the header block of the segment.
    pub(crate) fn has_unchecked_header(&mut self, stretch: &Stretch) -> bool {
        let segment = self
            .log_mut(stretch.log)
            .segment_at_base(stretch.segment_base);
        segment.is_some_and(|segment| segment.unchecked.has_header())
    }

    fn read_for_check(&mut self, slot: usize, check: Check, disk: &mut Vec<DiskRequest>) {
        let stretch = &check.asked.stretch;
        let (offset, len) = match &check.stage {
            Stage::Header => (0, BLOCK_BYTES),
            Stage::Batches => (stretch.start(), stretch.len()),
            Stage::Blocks { whole } => (stretch.start() + whole.filled() as u64, BLOCK_BYTES),
        };
        self.drain_background(disk);
        disk.push(DiskRequest {
            token: token(token_kind::CHECK, slot as u32),
            operation: DiskOperation::Read {
                file: stretch.file,
                offset,
                len,
                buffer: Rc::clone(&check.buffer),
                aside: check.asked.asker == Asker::Scrubber,
            },
        });
        self.lookups.checks.slots[slot] = Some(check);
    }

    /// A read for a check has ended.
    pub(crate) fn finish_check(
        &mut self,
        slot: u32,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let slot = slot as usize;
        let check = self.lookups.checks.slots.get_mut(slot);
        let Some(check) = check.and_then(Option::take) else {
            return;
        };
        let stretch = check.asked.stretch;
        if self.log_has_file(stretch.log, stretch.segment_base, stretch.file) {
            match &check.stage {
                Stage::Header => self.header_read(slot, check, result, disk, events),
                Stage::Batches => self.batches_read(slot, check, result, disk, events),
                Stage::Blocks { .. } => self.block_read(slot, check, result, disk, events),
            }
        } else {
            if check.asked.asker == Asker::Scrubber {
                self.scrub_given_up(&stretch);
            }
            self.end_check(check);
        }
        self.issue_checks(disk);
    }

    fn end_check(&mut self, check: Check) {
        self.release(check.buffer);
        if let Stage::Blocks { whole } = check.stage {
            self.release(whole);
        }
    }

    /// The header block of the segment was read.
    fn header_read(
        &mut self,
        slot: usize,
        check: Check,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let asked = check.asked;
        let verdict = self.judge_header(&asked.stretch, result, &check.buffer, events);
        self.end_check(check);
        match verdict {
            HeaderVerdict::Passes => {
                if !self.read_stage(slot, asked, Stage::Batches, disk) {
                    self.ask_again(&asked);
                }
            }
            HeaderVerdict::Foreign => self.checked(&asked, 1, events),
            HeaderVerdict::Failed(error) => self.check_failed(&asked, error, events),
        }
    }

    /// There is no memory for the next read of a check.
    fn ask_again(&mut self, asked: &Asked) {
        match asked.asker {
            Asker::Reader => self.check(asked.stretch.log, asked.offset),
            Asker::Scrubber => self.scrub_waits(),
        }
    }

    /// A check is over; whoever waits reads again.
    fn checked(&mut self, asked: &Asked, holes: usize, events: &mut Vec<StoreEvent>) {
        let log = asked.stretch.log;
        if asked.asker == Asker::Scrubber {
            self.scrubbed(&asked.stretch, holes);
        }
        if asked.asker == Asker::Reader || holes > 0 {
            events.push(StoreEvent::Located { log });
        }
    }

    /// Takes in what was read of the header block of a segment that the log still has.
    pub(crate) fn judge_header(
        &mut self,
        stretch: &Stretch,
        result: Result<usize, DiskError>,
        block: &AlignedBuffer,
        events: &mut Vec<StoreEvent>,
    ) -> HeaderVerdict {
        if let Err(error) = result
            && !is_damage(error)
        {
            return HeaderVerdict::Failed(error);
        }
        let bytes = block.slice(0, block.filled().min(BLOCK_BYTES));
        match SegmentHeader::decode(bytes) {
            Ok(header) if self.is_header_of(&header, stretch) || cfg!(mutant = "S53") => {}
            Ok(_) => {
                self.foreign_segment(stretch, events);
                return HeaderVerdict::Foreign;
            }
            // The batches say as well where they belong.
            Err(error) => self.damaged_header(stretch, error, events),
        }
        let segment = self
            .log_mut(stretch.log)
            .segment_at_base(stretch.segment_base);
        if let Some(segment) = segment {
            segment.unchecked.header_checked();
        }
        HeaderVerdict::Passes
    }

    /// Whether a header block is the one that belongs into the file with this name.
    fn is_header_of(&self, header: &SegmentHeader, stretch: &Stretch) -> bool {
        let key = self.log(stretch.log).key;
        header.cluster_id == self.cluster_id
            && header.topic_id == key.topic_id
            && header.partition == key.partition
            && header.base_offset == stretch.segment_base
            && header.epoch == stretch.epoch
    }

    fn batches_read(
        &mut self,
        slot: usize,
        mut check: Check,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let asked = check.asked;
        match result {
            Ok(_) => self.judge(&asked, check.buffer, events),
            Err(error) if is_damage(error) => {
                let Some(block) = self.take_buffer(BLOCK_BYTES) else {
                    self.end_check(check);
                    return self.check_failed(&asked, error, events);
                };
                let whole = std::mem::replace(&mut check.buffer, block);
                whole.set_filled(0);
                check.stage = Stage::Blocks { whole };
                self.read_for_check(slot, check, disk);
            }
            Err(error) => {
                self.end_check(check);
                self.check_failed(&asked, error, events);
            }
        }
    }

    /// One block of a stretch that could not be read at once.
    fn block_read(
        &mut self,
        slot: usize,
        mut check: Check,
        result: Result<usize, DiskError>,
        disk: &mut Vec<DiskRequest>,
        events: &mut Vec<StoreEvent>,
    ) {
        let asked = check.asked;
        let Stage::Blocks { whole } = check.stage else {
            return self.end_check(check);
        };
        let readable = match result {
            Ok(_) => check.buffer.filled().min(BLOCK_BYTES),
            Err(_) => 0,
        };
        whole.append_with(BLOCK_BYTES, |block| {
            block[..readable].copy_from_slice(check.buffer.slice(0, readable));
            // No batch begins with zeros, and none goes on with them unnoticed.
            block[readable..].fill(0);
        });
        if whole.filled() < asked.stretch.len() {
            check.buffer.set_filled(0);
            check.stage = Stage::Blocks { whole };
            return self.read_for_check(slot, check, disk);
        }
        self.release(check.buffer);
        self.judge(&asked, whole, events);
    }

    /// The bytes of a stretch are there: they pass, or become holes.
    fn judge(&mut self, asked: &Asked, whole: Rc<AlignedBuffer>, events: &mut Vec<StoreEvent>) {
        let stretch = &asked.stretch;
        let holes = self.log(stretch.log).holes.len();
        let passes = self.passes(stretch, &whole, stretch.start(), events);
        match passes && asked.asker == Asker::Reader {
            true => self.keep_chunk(stretch, whole),
            false => self.release(whole),
        }
        let found = self.log(stretch.log).holes.len().saturating_sub(holes);
        let found = found.max(usize::from(!passes));
        self.checked(asked, found, events);
    }

    /// Whether the log still has the file that a stretch is of.
    pub(crate) fn is_of_log(&mut self, stretch: &Stretch) -> bool {
        self.log_has_file(stretch.log, stretch.segment_base, stretch.file)
    }

    /// Whether what was read of a stretch is what must be there; what is not becomes a hole.
    pub(crate) fn passes(
        &mut self,
        stretch: &Stretch,
        whole: &AlignedBuffer,
        start: u64,
        events: &mut Vec<StoreEvent>,
    ) -> bool {
        if !self.is_of_log(stretch) {
            return false;
        }
        let bytes = whole.slice(0, whole.filled());
        let found = self.damage_in(stretch, bytes, start);
        let state = self.log_mut(stretch.log);
        if let Some(segment) = state.segment_at_base(stretch.segment_base) {
            segment.unchecked.remove(stretch.from.0..stretch.to.0);
        }
        self.declare(stretch, &found, events);
        found.is_empty()
    }

    /// Keeps what was checked for the reader that waits for it.
    fn keep_chunk(&mut self, stretch: &Stretch, whole: Rc<AlignedBuffer>) {
        whole.set_filled((stretch.to.0 - stretch.start()) as usize);
        while self.lookups.checks.chunks.len() >= CHUNKS_KEPT && self.drop_chunk() {}
        self.lookups.checks.chunks.push_back(Chunk {
            log: stretch.log,
            file: stretch.file,
            bytes: TailBuffer {
                written: whole.filled(),
                buffer: whole,
                serial: 0,
                segment_base: stretch.segment_base,
                file_start: stretch.start(),
                first_position: stretch.from.0,
                first_offset: stretch.from.1,
                end_offset: stretch.to.1,
                lent: false,
            },
            fresh: true,
        });
    }

    /// The device did not say what is there: whoever waits is told, and nothing is concluded.
    fn check_failed(&mut self, asked: &Asked, error: DiskError, events: &mut Vec<StoreEvent>) {
        let (stretch, log) = (&asked.stretch, asked.stretch.log);
        if asked.asker == Asker::Scrubber {
            return self.scrub_given_up(stretch);
        }
        self.log_mut(log)
            .note_failure(stretch.segment_base, asked.offset, error);
        events.push(StoreEvent::Located { log });
    }
}
