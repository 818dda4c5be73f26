//! Where counting is on: inside [`counted`] and nowhere else.
//!
//! Callgrind is told to collect only while this function is on the stack (`--toggle-collect`), so
//! setting up, warming up and the disk's part are not counted. `perf/count` knows its name.

use std::hint::black_box;

/// Whether what is run is collected by callgrind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Warming up, or timed by a clock outside.
    Idle,
    /// To be counted.
    Counting,
}

impl Meter {
    /// Runs a part of the path that is measured.
    pub fn run<R>(self, operation: impl FnOnce() -> R) -> R {
        match self {
            Meter::Idle => operation(),
            Meter::Counting => counted(operation),
        }
    }
}

/// Never inlined, and its result passes through a black box: the call is neither merged into its
/// caller nor turned into a jump, which callgrind would not see end.
#[inline(never)]
fn counted<R>(operation: impl FnOnce() -> R) -> R {
    black_box(operation())
}
