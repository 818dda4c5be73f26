//! Random lives of a ledger: marks, flushes that finish in any order, power loss at any moment,
//! starts that are interrupted, bits that flip while it stands still.

use std::collections::{BTreeSet, VecDeque};

use highwater_base::disk::DiskRequest;
use highwater_base::prng::Prng;
use highwater_store::{Mark, MarksLedger};

use crate::disk::TestDisk;
use crate::disk::fate::Fate;
use crate::model::*;

const SEEDS: u64 = 200;
const LIVES: usize = 4;
/// Flushes that need not survive, at most: the oracle tries every subset of them.
const AT_RISK_MAX: usize = 6;

struct Flush {
    number: u64,
    marks: Vec<Mark>,
    durable: bool,
    /// Flushes below it were complete when it was issued: with it they are durable.
    covers: u64,
}

struct Life {
    prng: Prng,
    disk: TestDisk,
    ledger: MarksLedger,
    partitions: i32,
    /// What the process believes.
    live: State,
    /// What must survive: everything before the flushes below.
    base: State,
    flushes: VecDeque<Flush>,
    guaranteed: BTreeSet<u64>,
    /// All flushes below it are complete.
    complete: u64,
    under_way: Vec<DiskRequest>,
    pending: Vec<Mark>,
    next_epoch: u32,
}

impl Life {
    fn record(&mut self) {
        let number = self.prng.below(self.partitions as u64) as i32;
        let end = self.live.get(&key(number));
        let end = end.map_or(0, |marks| marks.persisted_end.0);
        let further = end + 1 + self.prng.below(100) as i64;
        let less = self.prng.below(end as u64 + 1) as i64;
        self.next_epoch += 1;
        let marks = match self.prng.below(12) {
            0 => vec![epoch(number, self.next_epoch, end)],
            1 => vec![truncated(number, less), progress(number, less)],
            2 => vec![log_start(number, less)],
            3 => vec![clean(number, self.next_epoch, end)],
            4 => vec![dropped(number)],
            5 => vec![dropped(number), epoch(number, self.next_epoch, 0)],
            _ => vec![progress(number, further)],
        };
        for mark in &marks {
            self.ledger.record(*mark);
            apply(&mut self.live, mark);
        }
        self.pending.extend(marks);
    }

    fn flush(&mut self) {
        let last = self.flushes.len() + 1 >= AT_RISK_MAX;
        if last {
            // Everything complete, so that the durable one covers it.
            self.finish();
        }
        let durable = last || self.prng.chance(1, 2);
        let mut requests = Vec::new();
        let flush = self.ledger.flush(durable, &mut requests);
        self.under_way.extend(attach(&mut self.disk, requests));
        self.flushes.push_back(Flush {
            number: flush.0,
            marks: std::mem::take(&mut self.pending),
            durable,
            covers: self.complete,
        });
        if last {
            self.finish();
            assert!(self.flushes.is_empty(), "a durable flush covers all before");
        }
    }

    fn finish(&mut self) {
        while !self.under_way.is_empty() {
            self.step();
        }
    }

    /// One request ends, any of them.
    fn step(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let at = self.prng.below(self.under_way.len() as u64) as usize;
        let request = self.under_way.swap_remove(at);
        let completion = self.disk.execute(&request).expect("a write");
        if let Some(done) = self.ledger.complete(completion) {
            self.complete = done.expect("the disk is well").0 + 1;
        }
        for flush in &self.flushes {
            if flush.durable && flush.number < self.complete {
                self.guaranteed.insert(flush.number);
                self.guaranteed.extend(0..flush.covers);
            }
        }
        while let Some(flush) = self.flushes.front()
            && self.guaranteed.contains(&flush.number)
        {
            flush
                .marks
                .iter()
                .for_each(|mark| apply(&mut self.base, mark));
            self.flushes.pop_front();
        }
    }

    /// Whether `found` is what some of the flushes at risk leave, and all that are not at risk.
    fn explains(&self, found: &State) -> bool {
        (0..1u32 << self.flushes.len()).any(|subset| {
            let kept = |at: usize| subset >> at & 1 != 0;
            let mut state = self.base.clone();
            for (at, flush) in self.flushes.iter().enumerate() {
                if !kept(at) && self.guaranteed.contains(&flush.number) {
                    return false;
                }
                if kept(at) {
                    flush.marks.iter().for_each(|mark| apply(&mut state, mark));
                }
            }
            state == *found
        })
    }

    /// The life ends by power loss, or by a stop after which bits may flip: the state it leaves.
    fn end(&mut self, seed: u64) -> State {
        let stopped = self.prng.chance(1, 3);
        if stopped {
            self.finish();
            self.disk.settle();
            self.flip_bits();
        } else {
            let prng = &mut self.prng;
            self.disk
                .lose_power(&self.under_way, |it| Fate::random(prng, it.sectors));
        }
        let image = read(&self.disk);
        let found = state_in(&image, self.partitions);
        if stopped {
            self.pending.clear();
            let mut written = self.base.clone();
            let marks = self.flushes.iter().flat_map(|flush| &flush.marks);
            marks.for_each(|mark| apply(&mut written, mark));
            assert_eq!(difference(&found, &written), None, "seed {seed}");
            assert!(image.is_readable(), "seed {seed}");
        }
        assert!(
            self.explains(&found),
            "seed {seed}: {:?}",
            difference(&found, &self.base)
        );
        found
    }

    /// Each block in one copy at most.
    fn flip_bits(&mut self) {
        for pair in [A, B] {
            for block in self.disk.written_blocks(pair[0]) {
                if self.prng.chance(1, 2) {
                    let path = pair[self.prng.below(2) as usize];
                    let bit = self.prng.below(8 * 4096) as usize;
                    self.disk.flip(path, block, bit);
                }
            }
        }
    }
}

/// A start, interrupted now and then.
fn begin(prng: &mut Prng, disk: &mut TestDisk, expected: &mut State) -> MarksLedger {
    while prng.chance(1, 3) {
        disk.steps = 0;
        let fate = Fate::random(prng, 24);
        disk.crash_at = Some((prng.below(6) as usize, fate));
        let image = read(disk);
        let ended = MarksLedger::create(disk, CORE, &image, |_| true);
        disk.crash_at = None;
        let found = state_in(&read(disk), 200);
        // Its snapshot, once complete, says that nothing is clean.
        let mut unclean = expected.clone();
        unclean.values_mut().for_each(|marks| marks.clean = None);
        if ended.is_ok() || found != *expected {
            *expected = unclean;
        }
        assert_eq!(difference(&found, expected), None);
    }
    let ledger = start(disk);
    expected.values_mut().for_each(|marks| marks.clean = None);
    ledger
}

fn lives(seed: u64) {
    let mut prng = Prng::new(seed);
    let mut disk = TestDisk::default();
    let mut expected = State::new();
    // Of several blocks in some seeds.
    let partitions = [3, 40, 150][prng.below(3) as usize];
    for _ in 0..LIVES {
        let mut ledger = begin(&mut prng, &mut disk, &mut expected);
        let mut at_once: Vec<Mark> = Vec::new();
        if prng.chance(1, 3) {
            at_once.extend((0..partitions).map(|at| progress(at, 20)));
            write(&mut disk, &mut ledger, &at_once);
        }
        if prng.chance(1, 4) {
            // Close to a switch of files.
            for at in 0..240 {
                let mark = progress(at as i32 % partitions, 1000 + at);
                write(&mut disk, &mut ledger, &[mark]);
                at_once.push(mark);
            }
        }
        at_once.iter().for_each(|mark| apply(&mut expected, mark));
        // The numbers of the flushes go on.
        let mut requests = Vec::new();
        let first = ledger.flush(true, &mut requests);
        finish(&mut disk, &mut ledger, &requests);
        let mut life = Life {
            prng: Prng::new(prng.next_u64()),
            disk,
            ledger,
            partitions,
            live: expected.clone(),
            base: expected,
            flushes: VecDeque::new(),
            guaranteed: BTreeSet::new(),
            complete: first.0 + 1,
            under_way: Vec::new(),
            pending: Vec::new(),
            next_epoch: 1000 + prng.below(1000) as u32,
        };
        for _ in 0..life.prng.below(120) {
            match life.prng.below(4) {
                0 => life.flush(),
                1 => life.record(),
                _ => life.step(),
            }
        }
        expected = life.end(seed);
        disk = life.disk;
    }
}

#[test]
fn whatever_happens_nothing_durable_is_lost_or_mixed() {
    for seed in 0..SEEDS {
        lives(seed);
    }
}
