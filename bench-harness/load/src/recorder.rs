//! Counts what one thread saw of one series, in pieces of a second and over the measured time.
//!
//! A latency belongs to the measured time by the moment its record was due: what was due during the
//! warm-up counts nowhere, however late it was answered, and what was due in the measured time counts
//! although its answer comes after it. Rates count what succeeded within the measured time. Pieces
//! show what ended in them.

use std::ops::Range;

use hdrhistogram::Histogram;

/// Length of a piece.
pub const PIECE_NS: u64 = 1_000_000_000;
/// Longest latency that is told apart from longer ones.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Different failures remembered in words.
const EXAMPLES_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeriesKind {
    Produce,
    EndToEnd,
    Fetch,
}

impl SeriesKind {
    pub fn name(self) -> &'static str {
        match self {
            SeriesKind::Produce => "produce",
            SeriesKind::EndToEnd => "end to end",
            SeriesKind::Fetch => "fetch",
        }
    }
}

/// Counts and latencies (ns).
#[derive(Clone, Debug)]
pub struct Tally {
    pub records: u64,
    pub bytes: u64,
    pub errors: u64,
    pub latency: Histogram<u64>,
}

impl Tally {
    pub fn new() -> Tally {
        let latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS);
        Tally {
            records: 0,
            bytes: 0,
            errors: 0,
            latency: latency.expect("the bounds are in order"),
        }
    }

    pub fn merge(&mut self, other: &Tally) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.latency
            .add(&other.latency)
            .expect("the bounds are the same");
    }

    fn clear(&mut self) {
        (self.records, self.bytes, self.errors) = (0, 0, 0);
        self.latency.reset();
    }
}

/// See the module.
#[derive(Debug)]
pub struct Recorder {
    measured_ns: Range<u64>,
    total: Tally,
    piece: Tally,
    error_examples: Vec<String>,
}

impl Recorder {
    pub fn new(measured_ns: Range<u64>) -> Recorder {
        Recorder {
            measured_ns,
            total: Tally::new(),
            piece: Tally::new(),
            error_examples: Vec::new(),
        }
    }

    /// A record that was due at `due_ns` succeeded at `now_ns`.
    pub fn succeeded(&mut self, due_ns: u64, now_ns: u64, bytes: u64) {
        self.counted(now_ns, 1, bytes);
        self.took(due_ns, now_ns);
    }

    /// Records succeeded at `now_ns`, apart from any latency.
    pub fn counted(&mut self, now_ns: u64, records: u64, bytes: u64) {
        self.piece.records += records;
        self.piece.bytes += bytes;
        if self.measured_ns.contains(&now_ns) {
            self.total.records += records;
            self.total.bytes += bytes;
        }
    }

    /// Something that was due at `due_ns` ended at `now_ns`.
    pub fn took(&mut self, due_ns: u64, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(due_ns).clamp(1, LATENCY_NS_MAX);
        self.piece.latency.saturating_record(latency_ns);
        if self.measured_ns.contains(&due_ns) {
            self.total.latency.saturating_record(latency_ns);
        }
    }

    /// Records that were due at `due_ns` failed.
    pub fn failed(&mut self, due_ns: u64, records: u64, why: &str) {
        self.piece.errors += records;
        if self.measured_ns.contains(&due_ns) {
            self.total.errors += records;
        }
        let known = self.error_examples.iter().any(|example| example == why);
        if !known && self.error_examples.len() < EXAMPLES_MAX {
            self.error_examples.push(why.to_string());
        }
    }

    /// What ended since the last call.
    pub fn take_piece(&mut self) -> Tally {
        let piece = self.piece.clone();
        self.piece.clear();
        piece
    }

    /// The measured time, and the failures in words.
    pub fn into_total(self) -> (Tally, Vec<String>) {
        (self.total, self.error_examples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_belong_to_the_time_in_which_they_were_due_and_rates_to_that_of_their_end() {
        let mut recorder = Recorder::new(100..200);
        recorder.succeeded(90, 110, 1);
        recorder.succeeded(150, 250, 10);
        recorder.succeeded(200, 260, 100);
        recorder.failed(199, 2, "lost");
        recorder.failed(99, 4, "lost");
        let piece = recorder.take_piece();
        assert_eq!((piece.records, piece.bytes, piece.errors), (3, 111, 6));
        assert_eq!(piece.latency.len(), 3);
        assert_eq!(recorder.take_piece().records, 0);
        let (total, examples) = recorder.into_total();
        assert_eq!((total.records, total.bytes, total.errors), (1, 1, 2));
        assert_eq!((total.latency.len(), total.latency.max()), (1, 100));
        assert_eq!(examples, ["lost"]);
    }
}
