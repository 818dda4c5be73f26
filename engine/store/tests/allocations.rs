//! The append path allocates nothing in steady state: append, end of turn, completion, ledger, and
//! reading at the end of the log.

#![allow(unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use highwater_base::disk::{DiskCompletion, DiskOperation, DiskRequest};
use highwater_base::{BatchHeader, Now, Offset};
use highwater_store::{LogConfig, LogId, ReadPiece, Store, StoreConfig, StoreEvent};
use support::{Batch, World, spec, test_config};

/// Counts allocations of the thread that asks for it.
struct Counting;

thread_local! {
    static COUNTED: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count_one() {
    // The allocator also runs while a thread's locals are torn down: then nobody counts.
    let _ = COUNTED.try_with(|counted| counted.set(counted.get().map(|count| count + 1)));
}

// SAFETY: every call is passed on to the system allocator unchanged; the counter is a plain cell
// that allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps `alloc`'s contract, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `alloc` or `realloc` above, which are the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(work: impl FnOnce()) -> u64 {
    COUNTED.with(|counted| counted.set(Some(0)));
    work();
    COUNTED.with(|counted| counted.take()).unwrap_or_default()
}

/// Completes everything at once, without a disk behind it.
struct Turns {
    requests: Vec<DiskRequest>,
    next: Vec<DiskRequest>,
    events: Vec<StoreEvent>,
    /// The ledger began a new generation in this turn: a snapshot, which is not steady state.
    snapshot: bool,
    pieces: Vec<ReadPiece>,
    /// Where the reader of each log is.
    read_to: Vec<Offset>,
}

impl Turns {
    fn turn(&mut self, store: &mut Store, now: Now, logs: &[LogId], batch: &[u8]) {
        let header = BatchHeader::parse(batch).expect("valid");
        for &log in logs {
            store.append(log, now, &header, batch, None).expect("room");
        }
        store.end_turn(now, &mut self.requests);
        while !self.requests.is_empty() {
            for request in self.requests.drain(..) {
                let bytes = match &request.operation {
                    DiskOperation::Attach { .. } | DiskOperation::Detach { .. } => continue,
                    DiskOperation::Write { len, offset, .. } => {
                        self.snapshot |= *offset == 0;
                        *len
                    }
                    _ => 0,
                };
                let completion = DiskCompletion {
                    token: request.token,
                    result: Ok(bytes),
                };
                store.complete(now, completion, &mut self.next, &mut self.events);
            }
            std::mem::swap(&mut self.requests, &mut self.next);
        }
        self.events.clear();
        for (log, offset) in logs.iter().zip(&mut self.read_to) {
            let read = store.read(*log, *offset, 1 << 20, true, &mut self.pieces);
            *offset = read.expect("in range").next_offset;
            self.pieces.clear();
        }
    }
}

fn allocations_per_thousand_turns(logs: i32) -> u64 {
    let mut world = World::new(StoreConfig {
        tail_cache_bytes: 8 << 20,
        // Large segments: rolling is not steady state.
        first_segment_bytes: 256 << 20,
        ..test_config()
    });
    let config = LogConfig::default();
    let logs: Vec<LogId> = (0..logs)
        .map(|at| world.store.create(spec(at, 0, config.clone()), world.now))
        .collect();
    let batch = Batch::of(1, 500).bytes();
    let mut turns = Turns {
        requests: Vec::with_capacity(1024),
        next: Vec::with_capacity(1024),
        events: Vec::with_capacity(1024),
        snapshot: false,
        pieces: Vec::with_capacity(16),
        read_to: vec![Offset::ZERO; logs.len()],
    };
    let mut now = world.now;
    let mut allocations = 0;
    let mut snapshots = 0;
    let warm_up = 60_000 / logs.len();
    for round in 0..warm_up + 1000 {
        now.monotonic_ns += 200_000;
        turns.snapshot = false;
        let count = counted(|| turns.turn(&mut world.store, now, &logs, &batch));
        // Before that the cache has not turned over once.
        if round >= warm_up {
            snapshots += u64::from(turns.snapshot);
            allocations += if turns.snapshot { 0 } else { count };
        }
    }
    assert!(snapshots < 10, "{snapshots} turns were left out");
    allocations
}

#[test]
fn one_log_allocates_nothing() {
    assert_eq!(allocations_per_thousand_turns(1), 0);
}

#[test]
fn a_group_of_logs_allocates_nothing() {
    assert_eq!(allocations_per_thousand_turns(16), 0);
}
