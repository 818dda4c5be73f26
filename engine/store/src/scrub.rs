//! The scrubber: reads everything that is stored, piece by piece, so that rot is found before a
//! consumer is, and declares what it finds.
//!
//! A pass goes over all logs in the order of their keys, first over their sealed segments, then over
//! what is durable of their last ones. Each stretch is read by direct I/O, behind everything else
//! that the core reads and writes, and checked like one that a reader waits for (`check`): the header
//! block against the file's name, the chain of headers, every CRC. Passes follow each other at an
//! interval; one that was asked for begins at once. How far a pass is, is saved now and then and at a
//! clean stop, so that the next process goes on there.
//!
//! It owns no clock and no pace of the device: so many bytes a second, one stretch at a time.

use highwater_base::disk::{BootDisk, DiskOperation, DiskRequest};
use highwater_base::{CoreId, Now, Offset, PartitionIndex, Timestamp, TopicId};

use crate::PartitionKey;
use crate::checkpoint::read_whole;
use crate::log::LogId;
use crate::shutdown::Shutdown;
use crate::sidecar::{frame, unframe};
use crate::store::{Store, token, token_kind};
use crate::stretch::Stretch;

/// Directory of the files that say how far each core is.
pub const DIRECTORY: &str = "scrub";
const MAGIC: [u8; 8] = *b"HWSCRUB1";
/// Bytes of such a file at most.
const IMAGE_BYTES_MAX: u64 = 4096;
/// How often a pass under way is saved.
const SAVE_INTERVAL_MS: u64 = 5 * 60 * 1000;
/// Logs looked at for the next stretch at once.
const LOGS_PER_STEP_MAX: usize = 256;
/// When there is nothing to do, the time of the next pass is looked at this often.
const IDLE_MS: u64 = 1000;
/// What a late tick owes the pace is made up for, up to this.
const CREDIT_NS: u64 = 100_000_000;

/// Settings of the scrubber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubConfig {
    /// 0 turns it off.
    pub bytes_per_second: u64,
    /// From the beginning of one pass to that of the next; 0 for none unless asked for.
    pub interval_ms: i64,
}

/// What a pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Sealed,
    Active,
}

/// A pass under way.
#[derive(Debug)]
struct Pass {
    /// The logs there were when it began or was resumed, by key.
    logs: Vec<(PartitionKey, LogId)>,
    /// Which of them, and the first offset of it that was not read.
    at: usize,
    offset: Offset,
    phase: Phase,
}

/// What the scrubber has done, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Bytes it has read since the process began.
    pub bytes: u64,
    /// Holes it declared.
    pub holes: u64,
    /// Passes that ended.
    pub passes: u64,
    /// A pass is under way.
    pub running: bool,
    /// When the last pass that ended began, as time of day; 0 when none is known.
    pub last_pass_began_ms: Timestamp,
    /// Logs of the pass under way, in both of its phases, and those that are done.
    pub logs: u64,
    pub logs_done: u64,
}

/// The scrubber of one core.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    config: ScrubConfig,
    pass: Option<Pass>,
    /// When the pass under way began, else the last one.
    began_ms: Timestamp,
    /// A pass that began before this is not enough.
    wanted_ms: Timestamp,
    next_at_ns: u64,
    save_at_ns: u64,
    in_flight: bool,
    progress: ScrubProgress,
    /// Where the process before this one was.
    resumes: Option<Image>,
}

/// How far a core is, as it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Image {
    began_ms: i64,
    last_pass_began_ms: i64,
    /// The next fields say where the pass is; without one it has ended.
    running: bool,
    sealed_phase: bool,
    topic_id: [u8; 16],
    partition: i32,
    offset: i64,
}

fn path(core: CoreId) -> String {
    format!("{DIRECTORY}/core-{core}")
}

impl Store {
    /// Sets the scrubber's pace.
    pub fn set_scrub(&mut self, config: ScrubConfig) {
        self.scrub.config = config;
    }

    /// Reads how far the process before this one was. Without it a pass begins anew.
    pub fn resume_scrub(&mut self, boot: &dyn BootDisk) {
        let bytes = read_whole(boot, &path(self.config.core), IMAGE_BYTES_MAX);
        let payload = bytes.ok().and_then(|bytes| unframe(MAGIC, &bytes));
        let image = payload
            .and_then(|payload| rkyv::from_bytes::<Image, rkyv::rancor::Error>(&payload).ok());
        if let Some(image) = image {
            self.scrub.began_ms = image.began_ms;
            self.scrub.progress.last_pass_began_ms = image.last_pass_began_ms;
            self.scrub.resumes = Some(image).filter(|image| image.running);
        }
    }

    /// Everything is to be read once more, unless a pass began at this time of day or later.
    pub fn request_scrub(&mut self, wanted_ms: Timestamp) {
        self.scrub.wanted_ms = wanted_ms;
        self.scrub.next_at_ns = 0;
    }

    /// What the scrubber has done.
    #[must_use]
    pub fn scrub_progress(&self) -> ScrubProgress {
        let pass = self.scrub.pass.as_ref();
        let phases = |pass: &Pass| pass.at as u64 + pass.logs.len() as u64 * pass.phase as u64;
        ScrubProgress {
            running: pass.is_some(),
            logs: pass.map_or(0, |pass| 2 * pass.logs.len() as u64),
            logs_done: pass.map_or(0, phases),
            ..self.scrub.progress
        }
    }

    /// When the scrubber wants the next tick.
    pub(crate) fn scrub_deadline_ns(&self) -> Option<u64> {
        let idle = self.scrub.config.bytes_per_second == 0 || self.scrub.in_flight;
        let serving = self.shutdown == Shutdown::Serving;
        (!idle && serving && !self.logs.is_empty()).then_some(self.scrub.next_at_ns)
    }

    /// Reads the next stretch, if it is time.
    pub(crate) fn step_scrub(&mut self, now: Now, disk: &mut Vec<DiskRequest>) {
        let scrub = &mut self.scrub;
        let is_off = scrub.config.bytes_per_second == 0 || scrub.in_flight;
        if is_off || self.shutdown != Shutdown::Serving || !now.reached(scrub.next_at_ns) {
            return;
        }
        let due_ns = scrub.next_at_ns;
        scrub.next_at_ns = now.plus_ms(IDLE_MS);
        if !self.has_pass(now) {
            return;
        }
        match self.next_stretch() {
            Next::Read(stretch) => self.read_for_scrub(now, due_ns, stretch, disk),
            Next::LookOn => self.scrub.next_at_ns = now.monotonic_ns,
            Next::Ended => self.end_pass(now),
        }
    }

    /// Whether a pass is under way; one that is due begins.
    fn has_pass(&mut self, now: Now) -> bool {
        let scrub = &mut self.scrub;
        if let Some(image) = scrub.resumes.take() {
            self.begin_pass(now, Some(image));
            return true;
        }
        let interval_ms = scrub.config.interval_ms;
        let next_ms = scrub.began_ms.saturating_add(interval_ms);
        let is_due = interval_ms > 0 && (scrub.began_ms == 0 || now.wall_ms >= next_ms);
        let is_wanted = scrub.began_ms < scrub.wanted_ms;
        if is_wanted || (is_due && scrub.pass.is_none()) {
            scrub.began_ms = now.wall_ms.max(scrub.wanted_ms);
            self.begin_pass(now, None);
        }
        self.scrub.pass.is_some()
    }

    fn begin_pass(&mut self, now: Now, resumed: Option<Image>) {
        let logs = self.logs.iter().enumerate();
        let mut logs: Vec<_> = logs
            .filter_map(|(at, log)| Some((log.as_ref()?.key, LogId(at as u32))))
            .collect();
        logs.sort_unstable();
        let mut pass = Pass {
            logs,
            at: 0,
            offset: Offset::ZERO,
            phase: Phase::Sealed,
        };
        if let Some(image) = resumed {
            let key = PartitionKey {
                topic_id: TopicId(image.topic_id),
                partition: PartitionIndex(image.partition),
            };
            pass.at = pass.logs.partition_point(|(known, _)| *known < key);
            if pass
                .logs
                .get(pass.at)
                .is_some_and(|(known, _)| *known == key)
            {
                pass.offset = Offset(image.offset);
            }
            if !image.sealed_phase {
                pass.phase = Phase::Active;
            }
        }
        self.scrub.pass = Some(pass);
        self.scrub.save_at_ns = now.plus_ms(SAVE_INTERVAL_MS);
    }

    /// What to read next.
    fn next_stretch(&mut self) -> Next {
        for _ in 0..LOGS_PER_STEP_MAX {
            let Some(pass) = &mut self.scrub.pass else {
                return Next::Ended;
            };
            let Some(&(key, log)) = pass.logs.get(pass.at) else {
                if pass.phase == Phase::Active {
                    return Next::Ended;
                }
                (pass.phase, pass.at, pass.offset) = (Phase::Active, 0, Offset::ZERO);
                continue;
            };
            let (phase, offset) = (pass.phase, pass.offset);
            // It may have been dropped, and its id be another's.
            let is_there = self.key(log) == Some(key);
            let stretch = is_there
                .then(|| self.scrub_stretch(log, offset, phase))
                .flatten();
            if let Some(stretch) = stretch {
                return Next::Read(stretch);
            }
            if let Some(pass) = &mut self.scrub.pass {
                (pass.at, pass.offset) = (pass.at + 1, Offset::ZERO);
            }
        }
        Next::LookOn
    }

    /// The next stretch of a log from `offset` on, outside of holes.
    fn scrub_stretch(&self, log: LogId, offset: Offset, phase: Phase) -> Option<Stretch> {
        let state = self.log(log);
        let last = state.segments.last()?;
        let (first, end) = match phase {
            Phase::Sealed => (state.log_start, last.base_offset),
            Phase::Active => (last.base_offset, state.durable.offset),
        };
        let mut offset = offset.max(first).max(state.log_start);
        for hole in &state.holes {
            if hole.from <= offset.0 && offset.0 < hole.to {
                offset = Offset(hole.to);
            }
        }
        if offset >= end {
            return None;
        }
        state.stretch_at(log, offset, self.check_bytes())
    }

    fn read_for_scrub(
        &mut self,
        now: Now,
        due_ns: u64,
        stretch: Stretch,
        disk: &mut Vec<DiskRequest>,
    ) {
        let bytes = stretch.to.0 - stretch.from.0;
        if self.begin_scrub(stretch, disk) {
            self.scrub.in_flight = true;
            let pace = self.scrub.config.bytes_per_second;
            let took_ns = bytes.saturating_mul(1_000_000_000) / pace;
            let from_ns = due_ns.max(now.monotonic_ns.saturating_sub(CREDIT_NS));
            self.scrub.next_at_ns = from_ns + took_ns;
        }
        if now.reached(self.scrub.save_at_ns) {
            self.scrub.save_at_ns = now.plus_ms(SAVE_INTERVAL_MS);
            self.save_scrub();
        }
    }

    /// A stretch was checked: with how many holes.
    pub(crate) fn scrubbed(&mut self, stretch: &Stretch, holes: usize) {
        self.scrub.in_flight = false;
        self.scrub.progress.bytes += stretch.to.0 - stretch.from.0;
        self.scrub.progress.holes += holes as u64;
        self.pass_over(stretch);
    }

    /// A stretch could not be checked, for no fault of its own: its log is looked at again by the
    /// next pass.
    pub(crate) fn scrub_given_up(&mut self, stretch: &Stretch) {
        self.scrub.in_flight = false;
        self.pass_over(stretch);
    }

    /// There was no memory for it: it is read again.
    pub(crate) fn scrub_waits(&mut self) {
        self.scrub.in_flight = false;
    }

    fn pass_over(&mut self, stretch: &Stretch) {
        if let Some(pass) = &mut self.scrub.pass
            && pass.logs.get(pass.at).is_some_and(|at| at.1 == stretch.log)
        {
            pass.offset = stretch.to.1;
        }
    }

    fn end_pass(&mut self, now: Now) {
        self.scrub.pass = None;
        self.scrub.progress.passes += 1;
        self.scrub.progress.last_pass_began_ms = self.scrub.began_ms;
        self.scrub.next_at_ns = now.plus_ms(IDLE_MS);
        self.save_scrub();
    }

    /// Notes on disk how far the scrubber is.
    pub(crate) fn save_scrub(&mut self) {
        let scrub = &self.scrub;
        if scrub.began_ms == 0 {
            return;
        }
        let pass = scrub.pass.as_ref();
        let next = pass.and_then(|pass| pass.logs.get(pass.at));
        let image = Image {
            began_ms: scrub.began_ms,
            last_pass_began_ms: scrub.progress.last_pass_began_ms,
            running: pass.is_some(),
            sealed_phase: pass.is_some_and(|pass| pass.phase == Phase::Sealed),
            topic_id: next.map_or([0xff; 16], |(key, _)| key.topic_id.0),
            partition: next.map_or(i32::MAX, |(key, _)| key.partition.0),
            offset: pass.map_or(0, |pass| pass.offset.0),
        };
        let payload = rkyv::to_bytes::<rkyv::rancor::Error>(&image);
        let bytes = frame(MAGIC, &payload.expect("serialising into memory"));
        self.background_in_flight += 1;
        self.background.push(DiskRequest {
            token: token(token_kind::BACKGROUND, u32::MAX),
            operation: DiskOperation::WriteWhole {
                path: path(self.config.core),
                bytes,
            },
        });
    }
}

/// What the scrubber does next.
enum Next {
    Read(Stretch),
    /// There are more logs to look at.
    LookOn,
    Ended,
}
