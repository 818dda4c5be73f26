//! Damage that is met while the process runs: what it is, where the log goes on behind it, and the
//! hole it becomes.
//!
//! A hole declared here is as good as one of recovery: nothing is cut, the log takes no more
//! appends, a read in it is told so, and everything around it is served. It lasts until the process
//! ends, and the next start finds it again by itself: a log with holes is in no checkpoint, and the
//! sidecar that would spare the segment a scan is removed.
//!
//! Where the log goes on is decided by the evidence that recovery asks for (`resume`), with the end of
//! what was read as the landmark: a boundary that the index knows.

use highwater_base::disk::{BootDisk, DirectoryEntry, DiskError, DiskOperation};
use highwater_base::{Offset, Timestamp};

use crate::batch_scan::BatchScan;
use crate::index::IndexEntry;
use crate::log::{Hole, Log, LogId};
use crate::resume::{Damage, Resumption, resume};
use crate::segment::{HEADER_BLOCK_BYTES, Segment, SegmentHeaderError, segment_path};
use crate::store::{Store, StoreEvent};
use crate::stretch::{Boundary, Stretch};

/// What a device says of bytes that it has lost: EIO, ENODATA, EBADMSG, EILSEQ, EUCLEAN. Anything
/// else (no descriptors, no memory) says nothing about them.
const LOST_BYTES: [i32; 5] = [5, 61, 74, 84, 117];

/// Whether a failed read means that the bytes are lost.
pub(crate) fn is_damage(error: DiskError) -> bool {
    match error {
        DiskError::NotFound => true,
        DiskError::Io(errno) => LOST_BYTES.contains(&errno) && !cfg!(mutant = "S57"),
        DiskError::Full | DiskError::Exists | DiskError::Denied(_) => false,
    }
}

/// Batches that are not what they must be, and where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub at: Boundary,
    pub resumes: Boundary,
}

impl Store {
    /// What is wrong in a stretch whose bytes begin at `start`.
    pub(crate) fn damage_in(&self, stretch: &Stretch, bytes: &[u8], start: u64) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        let mut at = stretch.from;
        while at.0 < stretch.to.0 {
            if let Some(header) = stretch.batch_at(bytes, start, at) {
                at = (at.0 + header.total_bytes() as u64, header.next_offset());
                continue;
            }
            let resumes = self
                .log(stretch.log)
                .resumption(stretch, (bytes, start), at);
            match found.last_mut() {
                Some(last) if last.resumes == at => last.resumes = resumes,
                _ => found.push(Found { at, resumes }),
            }
            at = resumes;
        }
        if at.1 < stretch.to.1 {
            let resumes = stretch.to;
            found.push(Found { at, resumes });
        }
        found
    }

    /// Makes holes of what was found.
    pub(crate) fn declare(
        &mut self,
        stretch: &Stretch,
        found: &[Found],
        events: &mut Vec<StoreEvent>,
    ) {
        let log = stretch.log;
        let state = self.log_mut(log);
        let mut declared = false;
        for damage in found {
            let hole = Hole {
                from: damage.at.1.0,
                to: damage.resumes.1.0,
            };
            if state.add_hole(stretch.segment_base, damage) {
                events.push(StoreEvent::Damaged { log, hole });
                declared = true;
            }
        }
        // Should the log take appends again, they go into a file of their own.
        state.roll_next |= declared;
        if declared && !cfg!(mutant = "S56") {
            // With it the next start would take the segment without a look.
            let directory = state.directory();
            let path = segment_path(&directory, stretch.segment_base, stretch.epoch, "index");
            self.push_background(log, DiskOperation::Remove { path });
        }
    }

    /// The file holds another segment than its name says: nothing in it is of this log's place.
    pub(crate) fn foreign_segment(&mut self, stretch: &Stretch, events: &mut Vec<StoreEvent>) {
        let log = stretch.log;
        let state = self.log_mut(log);
        let durable = state.durable;
        let Some(segment) = state.segment_at_base(stretch.segment_base) else {
            return;
        };
        segment.unchecked = Default::default();
        let resumes = match segment.base_offset == durable.segment_base {
            true => (durable.position, durable.offset),
            false => (segment.end_position, segment.next_offset),
        };
        let found = Found {
            at: (HEADER_BLOCK_BYTES, stretch.segment_base),
            resumes,
        };
        self.declare(stretch, &[found], events);
    }

    /// A header block that says nothing: its batches do.
    pub(crate) fn damaged_header(
        &mut self,
        stretch: &Stretch,
        error: SegmentHeaderError,
        events: &mut Vec<StoreEvent>,
    ) {
        let name = self.file_name(stretch.file);
        let path = name.map_or_else(String::new, |name| name.path.clone());
        let log = stretch.log;
        events.push(StoreEvent::DamagedHeader { log, path, error });
    }

    /// Somebody could not read what is at a position of a file, or met other bytes than there must
    /// be: nothing around it is sent before it was checked again. False when no log has the file.
    pub fn suspect(&mut self, path: &str, position: u64) -> bool {
        let mut files = self.files.iter();
        let named = files.find(|(_, name)| name.path == path);
        let Some(file) = named.map(|(file, _)| *file) else {
            return false;
        };
        for at in 0..self.logs.len() {
            let log = LogId(at as u32);
            let Some(state) = self.live_log(log) else {
                continue;
            };
            let mut segments = state.segments.iter();
            let Some(base) = segments
                .find(|segment| segment.file.file == file)
                .map(|segment| segment.base_offset)
            else {
                continue;
            };
            self.suspect_in(log, base, position);
            return true;
        }
        false
    }

    /// The batches around a position of a segment are to be checked, again.
    pub(crate) fn suspect_in(&mut self, log: LogId, segment_base: Offset, position: u64) {
        let Some(segment) = self.log_mut(log).segment_at_base(segment_base) else {
            return;
        };
        let before = segment.index.floor_position(position);
        let first = (HEADER_BLOCK_BYTES, segment_base);
        let from = before.map_or(first, |at| segment.boundary(at));
        let next = before.map_or(0, |before| before + 1);
        let to = match next < segment.index.entries().len() {
            true => segment.boundary(next).0,
            false => segment.end_position,
        };
        segment.unchecked.add(from.0..to);
        self.check(log, from.1);
    }

    /// The last block of a log cannot be read, so that nothing can be appended behind it: what came
    /// meanwhile is taken back, nobody was told of it, and the block is checked.
    pub(crate) fn load_failed(
        &mut self,
        log: LogId,
        (from, file_start): (Offset, u64),
        error: DiskError,
        events: &mut Vec<StoreEvent>,
    ) {
        let state = self.log_mut(log);
        assert_eq!(
            from, state.durable.offset,
            "durable bytes are never dropped"
        );
        let durable = state.durable;
        state.end = from;
        if let Some(producers) = &mut state.producers {
            producers.roll_back(from);
        }
        for epoch in &mut state.epochs {
            epoch.1 = epoch.1.min(from);
        }
        self.drop_segments_from(log, from);
        while let Some(buffer) = self.log_mut(log).tail.pop_oldest() {
            self.release(buffer);
        }
        let segment = self.log_mut(log).segment_at_base(durable.segment_base);
        let segment = segment.expect("the durable end is in a segment");
        segment.end_position = durable.position;
        segment.next_offset = from;
        segment.index.cut(durable.position);
        self.suspect_in(log, durable.segment_base, file_start);
        events.push(StoreEvent::Discarded { log, from, error });
    }
}

impl Log {
    /// Where a stretch, whose bytes begin at `start`, goes on behind the damage at `at`.
    fn resumption(
        &self,
        stretch: &Stretch,
        (bytes, start): (&[u8], u64),
        at: Boundary,
    ) -> Boundary {
        let segment = self.segment_of(stretch.segment_base);
        let segment = &self.segments[segment.expect("the stretch is of one of its segments")];
        let damage = Damage {
            position: at.0,
            expected: at.1,
            epoch: stretch.epoch,
            base: stretch.segment_base,
            next: Some(stretch.to.1),
            durable: stretch.to.1,
            index: Some(&segment.index),
            boundaries: &[],
        };
        let read = InMemory { bytes, start };
        let mut batches = BatchScan::new("", stretch.to.0);
        let resumed = resume(&mut batches, &read, &damage);
        match resumed.map(Resumption::batch) {
            Ok(Some((position, header))) => (position, Offset(header.base_offset)),
            Ok(None) | Err(_) => stretch.to,
        }
    }

    /// Adds a hole, joined with those it meets. False when it was there.
    fn add_hole(&mut self, segment_base: Offset, damage: &Found) -> bool {
        let (mut from, mut to) = (damage.at.1.0, damage.resumes.1.0);
        assert!(from < to, "a hole has an extent");
        let known = |hole: &Hole| hole.from <= from && to <= hole.to;
        if self.holes.iter().any(known) {
            return false;
        }
        self.holes.retain(|hole| {
            let apart = hole.to < from || to < hole.from;
            if !apart {
                (from, to) = (from.min(hole.from), to.max(hole.to));
            }
            apart
        });
        let at = self.holes.partition_point(|hole| hole.from < from);
        self.holes.insert(at, Hole { from, to });
        let last_base = self.segments.last().map(|last| last.base_offset);
        if let Some(segment) = self.segment_at_base(segment_base) {
            segment.note_hole(damage, last_base == Some(segment_base));
        }
        true
    }
}

/// What was read of a file, as a disk: nothing else can be asked of it.
struct InMemory<'a> {
    bytes: &'a [u8],
    start: u64,
}

const NOT_THERE: DiskError = DiskError::Denied(13);

impl BootDisk for InMemory<'_> {
    fn read(&self, _path: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let from = offset.checked_sub(self.start).ok_or(NOT_THERE)?;
        let rest = self.bytes.get(from as usize..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn list(&self, _path: &str) -> Result<Vec<DirectoryEntry>, DiskError> {
        Err(NOT_THERE)
    }

    fn write(&mut self, _path: &str, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(NOT_THERE)
    }

    fn create_zeroed(&mut self, _path: &str, _size_bytes: u64) -> Result<(), DiskError> {
        Err(NOT_THERE)
    }

    fn write_whole(&mut self, _path: &str, _bytes: &[u8]) -> Result<(), DiskError> {
        Err(NOT_THERE)
    }

    fn truncate(&mut self, _path: &str, _size_bytes: u64) -> Result<(), DiskError> {
        Err(NOT_THERE)
    }

    fn rename(&mut self, _from: &str, _to: &str) -> Result<(), DiskError> {
        Err(NOT_THERE)
    }

    fn remove(&mut self, _path: &str) -> Result<(), DiskError> {
        Err(NOT_THERE)
    }
}

impl Segment {
    /// The boundary of an index entry.
    pub(crate) fn boundary(&self, at: usize) -> Boundary {
        let entry = &self.index.entries()[at];
        let offset = self.base_offset.plus(i64::from(entry.relative_offset));
        (u64::from(entry.position), offset)
    }

    /// Where a hole begins, and, if batches may follow it, that a read can begin behind it.
    fn note_hole(&mut self, damage: &Found, takes_appends: bool) {
        if !self.hole_positions.contains(&damage.at) {
            self.hole_positions.push(damage.at);
        }
        let is_end = damage.resumes.0 >= self.end_position && !takes_appends;
        let entry = (!is_end).then(|| IndexEntry {
            relative_offset: (damage.resumes.1.0 - self.base_offset.0) as u32,
            position: damage.resumes.0 as u32,
            max_timestamp_before: self.max_timestamp_behind(damage.resumes.0),
        });
        self.index.skip(damage.at.0, damage.resumes.0, entry);
    }

    /// What the index says of the next batches: no less than what was before them.
    fn max_timestamp_behind(&self, position: u64) -> Timestamp {
        let entries = self.index.entries();
        let next = entries.partition_point(|entry| u64::from(entry.position) < position);
        let next = entries.get(next).map(|entry| entry.max_timestamp_before);
        next.unwrap_or(self.max_timestamp)
    }
}
