//! What all ledger tests share: the marks they record, the oracle, and a ledger driven by hand.

use std::collections::BTreeMap;

use crate::disk::TestDisk;
use crate::disk::fate::Fate;
use crate::disk::pages::{BLOCK, SECTOR};
use highwater_base::disk::DiskRequest;
use highwater_base::{CoreId, Epoch, Offset, PartitionIndex, Position, TopicId};
use highwater_store::marks::RECORDS_PER_BLOCK;
use highwater_store::{LedgerFlush, LedgerImage, Mark, MarksLedger, PartitionKey, PartitionMarks};

pub const CORE: CoreId = CoreId(0);
pub const SECTORS: usize = BLOCK / SECTOR;
/// Blocks of a ledger file that holds few partitions.
pub const FILE_BLOCKS: usize = 256;
pub const A: [&str; 2] = ["marks/core-0-0a", "marks/core-0-1a"];
pub const B: [&str; 2] = ["marks/core-0-0b", "marks/core-0-1b"];

pub type State = BTreeMap<PartitionKey, PartitionMarks>;

pub fn key(number: i32) -> PartitionKey {
    PartitionKey {
        topic_id: TopicId([3; 16]),
        partition: PartitionIndex(number),
    }
}

pub fn progress(number: i32, to: i64) -> Mark {
    Mark::Progress {
        key: key(number),
        epoch: Epoch(1),
        position: to as u32,
        persisted_end: Offset(to),
        high_watermark: Offset(to - 1),
    }
}

pub fn epoch(number: i32, epoch: u32, start: i64) -> Mark {
    Mark::Epoch {
        key: key(number),
        epoch: Epoch(epoch),
        start: Offset(start),
    }
}

pub fn truncated(number: i32, to: i64) -> Mark {
    Mark::Truncated {
        key: key(number),
        epoch: Epoch(1),
        to: Offset(to),
    }
}

pub fn log_start(number: i32, offset: i64) -> Mark {
    Mark::LogStart {
        key: key(number),
        offset: Offset(offset),
    }
}

pub fn clean(number: i32, epoch: u32, end: i64) -> Mark {
    Mark::Clean {
        key: key(number),
        position: Position {
            epoch: Epoch(epoch),
            end: Offset(end),
        },
    }
}

pub fn dropped(number: i32) -> Mark {
    Mark::Dropped { key: key(number) }
}

/// The oracle's own reading of what a mark means.
pub fn apply(state: &mut State, mark: &Mark) {
    if let Mark::Dropped { key } = mark {
        state.remove(key);
        return;
    }
    let marks = state.entry(mark.key()).or_default();
    match *mark {
        Mark::Epoch { epoch, start, .. } => {
            while marks.epochs.last().is_some_and(|last| last.0 >= epoch) {
                marks.epochs.pop();
            }
            marks.epochs.push((epoch, start));
            let surplus = marks.epochs.len().saturating_sub(64);
            marks.epochs.drain(..surplus);
        }
        Mark::Progress {
            position,
            persisted_end,
            high_watermark,
            ..
        } => {
            marks.position = position;
            marks.persisted_end = persisted_end;
            marks.high_watermark = high_watermark;
            marks.clean = None;
        }
        Mark::Truncated { to, .. } => {
            marks.epochs.retain(|known| known.1 <= to);
            if to < marks.persisted_end {
                marks.position = 0;
            }
            marks.persisted_end = marks.persisted_end.min(to);
            marks.high_watermark = marks.high_watermark.min(to);
            marks.clean = None;
        }
        Mark::LogStart { offset, .. } => marks.log_start = marks.log_start.max(offset),
        Mark::Clean { position, .. } => marks.clean = Some(position),
        Mark::Unvouched { upto, .. } => marks.unvouched_below = marks.unvouched_below.max(upto),
        Mark::Dropped { .. } => unreachable!("handled above"),
    }
}

pub fn state_of(marks: &[Mark]) -> State {
    let mut state = State::new();
    marks.iter().for_each(|mark| apply(&mut state, mark));
    state
}

/// What would be read after power loss at this moment.
pub fn read(disk: &TestDisk) -> LedgerImage {
    LedgerImage::read(&disk.after_power_loss()).expect("damage is not an error")
}

/// What an image says of partitions `0..count`; the state compared with knows no others.
pub fn state_in(image: &LedgerImage, count: i32) -> State {
    let known = |number| Some((key(number), image.get(&key(number))?.clone()));
    (0..count).filter_map(known).collect()
}

/// Compares partition by partition, to say little when there is much.
pub fn difference(found: &State, expected: &State) -> Option<String> {
    let keys = found.keys().chain(expected.keys());
    let mut differ = keys.filter(|key| found.get(key) != expected.get(key));
    let key = differ.next()?;
    let (found, expected) = (found.get(key), expected.get(key));
    Some(format!(
        "{:?}: {found:?}, expected {expected:?}",
        key.partition
    ))
}

#[track_caller]
pub fn assert_holds(disk: &TestDisk, expected: &State) {
    assert_holds_after(disk, expected, "");
}

/// What power loss at this moment would leave is `expected`, and vouched for.
#[track_caller]
pub fn assert_holds_after(disk: &TestDisk, expected: &State, context: &str) {
    let image = read(disk);
    let count = expected.keys().map(|key| key.partition.0 + 1).max();
    let found = state_in(&image, count.unwrap_or(0).max(200));
    let difference = difference(&found, expected);
    assert_eq!(difference, None, "{context}");
    assert!(image.is_readable(), "{context}");
}

pub fn start(disk: &mut TestDisk) -> MarksLedger {
    let image = read(disk);
    MarksLedger::create(disk, CORE, &image, |_| true).expect("the disk is well")
}

/// Writes marks and waits for them.
pub fn write(disk: &mut TestDisk, ledger: &mut MarksLedger, marks: &[Mark]) {
    marks.iter().for_each(|mark| ledger.record(*mark));
    let (flush, requests) = flush(ledger, true);
    assert_eq!(finish(disk, ledger, &requests), Some(flush));
}

pub fn flush(ledger: &mut MarksLedger, durable: bool) -> (LedgerFlush, Vec<DiskRequest>) {
    let mut requests = Vec::new();
    let flush = ledger.flush(durable, &mut requests);
    (flush, requests)
}

/// Executes requests: the newest flush that is complete.
pub fn finish(
    disk: &mut TestDisk,
    ledger: &mut MarksLedger,
    requests: &[DiskRequest],
) -> Option<LedgerFlush> {
    let mut newest = None;
    for request in requests {
        if let Some(completion) = disk.execute(request) {
            let done = ledger.complete(completion);
            newest = done.map(|done| done.expect("it succeeds")).or(newest);
        }
    }
    newest
}

/// Executes only the requests that name files; returns the others.
pub fn attach(disk: &mut TestDisk, requests: Vec<DiskRequest>) -> Vec<DiskRequest> {
    let is_write = |request: &DiskRequest| MarksLedger::owns(request.token) && is_write(request);
    let (writes, names): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_write);
    for request in &names {
        disk.execute(request);
    }
    for request in &writes {
        disk.issued(request);
    }
    writes
}

pub fn is_write(request: &DiskRequest) -> bool {
    use highwater_base::disk::DiskOperation;
    matches!(request.operation, DiskOperation::Write { .. })
}

/// Every way a write of so many sectors can be cut off at one place.
pub fn fates(sectors: usize) -> Vec<Fate> {
    let fronts = (0..=sectors).map(Fate::Front);
    fronts.chain((1..sectors).map(Fate::Rear)).collect()
}

/// Flushes until the current file has room for `room` more blocks. `used` are in it already.
pub fn fill(disk: &mut TestDisk, ledger: &mut MarksLedger, used: usize, room: usize) -> Vec<Mark> {
    let marks = (used..FILE_BLOCKS - room).map(|at| progress(0, 10_000 + at as i64));
    let marks: Vec<Mark> = marks.collect();
    for mark in &marks {
        write(disk, ledger, std::slice::from_ref(mark));
    }
    marks
}

/// A ledger in file `a` with a snapshot of three blocks and five blocks of marks behind it.
pub fn ledger_of_many_blocks() -> (TestDisk, State) {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let count = RECORDS_PER_BLOCK as i32;
    let mut marks: Vec<Mark> = (0..count).map(|at| progress(at, 5)).collect();
    marks.extend((0..count).map(|at| epoch(at, 1, 0)));
    marks.push(log_start(0, 2));
    write(&mut disk, &mut ledger, &marks);
    start(&mut disk);
    ledger = start(&mut disk);
    assert_eq!(disk.written_blocks(A[0]), [0, 1, 2]);
    for at in 0..5 {
        let more = [progress(at, 100), epoch(at, 7, 90)];
        write(&mut disk, &mut ledger, &more);
        marks.extend(more);
    }
    disk.settle();
    (disk, state_of(&marks))
}

/// A ledger whose next flush of two blocks no longer fits into file `a`.
pub fn ledger_at_the_end_of_its_file() -> (TestDisk, MarksLedger, Vec<Mark>) {
    let mut disk = TestDisk::default();
    let mut ledger = start(&mut disk);
    let count = RECORDS_PER_BLOCK as i32;
    let mut marks: Vec<Mark> = (0..count).map(|at| progress(at, 5)).collect();
    marks.extend((0..count).map(|at| epoch(at, 1, 0)));
    write(&mut disk, &mut ledger, &marks);
    marks.extend(fill(&mut disk, &mut ledger, 3, 0));
    assert_eq!(disk.written_blocks(A[0]).len(), FILE_BLOCKS);
    assert_eq!(disk.written_blocks(B[0]).len(), 0);
    disk.settle();
    (disk, ledger, marks)
}
