//! What a run is to do, independent of how it was asked for.

use highwater_client::producer::ProducerSettings;

use crate::payload::Payload;
use crate::recorder::SeriesKind;

/// What makes the next record due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// An open loop: this many records a second over all producers, `burst` at a time.
    Rate { per_s: f64, burst: u64 },
    /// A closed loop: each producer keeps this many records unanswered.
    Closed { in_flight: usize },
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The client's choice for records without a key: one partition for a while.
    Sticky,
    /// The next partition with each record.
    RoundRobin,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub bootstrap: String,
    pub topic: String,
    pub partitions: i32,
    pub record_bytes: usize,
    pub payload: Payload,
    pub producer: ProducerSettings,
    pub pace: Pace,
    pub spread: Spread,
    /// Connections that produce.
    pub producers: usize,
    /// Consumers that read from the end on, each all partitions.
    pub hot_consumers: usize,
    /// Consumers that read from the beginning, again and again.
    pub cold_consumers: usize,
    pub threads: usize,
    /// Pin thread `i` to CPU `first_core + i`.
    pub first_core: Option<usize>,
    pub warm_up_s: f64,
    pub seconds: f64,
    /// How long answers are waited for at the end.
    pub drain_s: f64,
}

impl Plan {
    /// What is measured.
    pub fn series(&self) -> Vec<SeriesKind> {
        let wanted = [
            (self.producers, SeriesKind::Produce),
            (self.hot_consumers, SeriesKind::EndToEnd),
            (self.cold_consumers, SeriesKind::Fetch),
        ];
        let some = wanted.into_iter().filter(|(count, _)| *count > 0);
        some.map(|(_, kind)| kind).collect()
    }
}

/// Nanoseconds of seconds.
pub fn ns_of(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// How many of `all` thread `thread` of `threads` has.
pub fn share_of(all: usize, thread: usize, threads: usize) -> usize {
    all / threads + usize::from(thread < all % threads)
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_add_up() {
        for all in [0, 1, 7, 100] {
            let shares = (0..3).map(|thread| super::share_of(all, thread, 3));
            assert_eq!(shares.sum::<usize>(), all);
        }
    }
}
