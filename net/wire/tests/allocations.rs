//! Decoding and walking allocate nothing, whatever the message.

#![allow(unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::{for_each_api, samples};

/// Counts allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count_one() {
    // The allocator also runs while a thread's locals are torn down: then nobody counts.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
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
        // SAFETY: `memory` came from `alloc` above, which is the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decoding_and_walking_allocate_nothing() {
    let samples = samples(20, 8);
    for sample in &samples {
        let before = COUNT.get();
        macro_rules! one {
            ($module:ident $message:ident) => {
                if sample.name == stringify!($message) {
                    let message =
                        highwater_wire::$module::$message::parse(sample.version, &sample.bytes);
                    let message = message.expect("a sample decodes");
                    let copy = message;
                    assert_eq!(message, copy, "every element decodes again");
                }
            };
        }
        macro_rules! every {
            ($($module:ident $request:ident $response:ident,)*) => {
                $(one!($module $request); one!($module $response);)*
            };
        }
        for_each_api!(every);
        let count = COUNT.get() - before;
        assert_eq!(count, 0, "{} version {}", sample.name, sample.version);
    }
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(1u64)));
    assert_eq!(COUNT.get() - before, 1);
}
