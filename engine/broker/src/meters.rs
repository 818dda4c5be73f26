//! What a core counts and times about itself, for the operations endpoint.
//!
//! Recording allocates nothing and reads no clock: every input of the core has its moment, and all
//! times are differences of those. A part of a request that begins and ends with one input takes no
//! time as it is measured here.

use hdrhistogram::Histogram;
use highwater_base::Now;
use highwater_ops::figures::{ApiRequests, Distribution, Times};
use highwater_wire::ApiKey;

/// API keys that are counted lie below it.
const API_KEYS_MAX: usize = 128;
/// What is shorter counts as this.
const SHORTEST_NS: u64 = 1_000;
/// What is longer counts as this.
const LONGEST_NS: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;

/// Times of one kind.
#[derive(Debug)]
pub struct Timer {
    histogram: Histogram<u64>,
    sum_ns: u64,
}

impl Default for Timer {
    fn default() -> Timer {
        let histogram = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, SIGNIFICANT_DIGITS)
            .expect("the bounds are in order");
        Timer {
            histogram,
            sum_ns: 0,
        }
    }
}

impl Timer {
    /// Counts a time.
    pub fn record(&mut self, took_ns: u64) {
        self.histogram.saturating_record(took_ns);
        self.sum_ns = self.sum_ns.saturating_add(took_ns);
    }

    fn distribution(&self) -> Distribution {
        let mut times = Distribution::default();
        for step in self.histogram.iter_recorded() {
            // The lowest value of the step: the highest would move a time that is exactly the end
            // of a bucket into the next one.
            let value_ns = self.histogram.lowest_equivalent(step.value_iterated_to());
            times.add(value_ns, step.count_at_value());
        }
        times.sum_ns = self.sum_ns;
        times
    }
}

/// What was appended to a partition and read from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionMeter {
    pub records_in: u64,
    pub bytes_in: u64,
    pub records_out: u64,
    pub bytes_out: u64,
}

impl PartitionMeter {
    /// Records were appended.
    pub fn count_in(&mut self, records: i64, bytes: usize) {
        self.records_in += records.max(0) as u64;
        self.bytes_in += bytes as u64;
    }

    /// An answer carries records.
    pub fn count_out(&mut self, records: i64, bytes: usize) {
        self.records_out += records.max(0) as u64;
        self.bytes_out += bytes as u64;
    }
}

/// All meters of a core.
#[derive(Debug)]
pub struct Meters {
    /// The moment of the input that is being stepped.
    pub now_ns: u64,
    /// When the request that is being handled arrived, here or on the core it came over.
    pub arrived_ns: u64,
    pub deferrals: u64,
    /// Of all partitions together.
    pub total: PartitionMeter,
    pub produce: Timer,
    pub produce_queue: Timer,
    pub produce_disk: Timer,
    pub produce_reply: Timer,
    pub fetch: Timer,
    pub fetch_queue: Timer,
    pub fetch_disk: Timer,
    pub fetch_reply: Timer,
    pub fetch_wait: Timer,
    pub barrier: Timer,
    turn: Timer,
    /// The first input of the turn.
    turn_began_ns: Option<u64>,
    requests: [u64; API_KEYS_MAX],
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            now_ns: 0,
            arrived_ns: 0,
            deferrals: 0,
            total: PartitionMeter::default(),
            produce: Timer::default(),
            produce_queue: Timer::default(),
            produce_disk: Timer::default(),
            produce_reply: Timer::default(),
            fetch: Timer::default(),
            fetch_queue: Timer::default(),
            fetch_disk: Timer::default(),
            fetch_reply: Timer::default(),
            fetch_wait: Timer::default(),
            barrier: Timer::default(),
            turn: Timer::default(),
            turn_began_ns: None,
            requests: [0; API_KEYS_MAX],
        }
    }
}

impl Meters {
    /// An input begins.
    pub fn input(&mut self, now: Now) {
        self.now_ns = now.monotonic_ns;
        self.arrived_ns = now.monotonic_ns;
        self.turn_began_ns.get_or_insert(now.monotonic_ns);
    }

    /// The turn ends.
    pub fn end_turn(&mut self, now: Now) {
        self.now_ns = now.monotonic_ns;
        if let Some(began_ns) = self.turn_began_ns.take() {
            self.turn.record(now.monotonic_ns.saturating_sub(began_ns));
        }
    }

    /// How long ago something was.
    #[must_use]
    pub fn since(&self, began_ns: u64) -> u64 {
        self.now_ns.saturating_sub(began_ns)
    }

    /// A request was taken.
    pub fn count_request(&mut self, api: ApiKey) {
        if let Some(count) = self.requests.get_mut(api as usize) {
            *count += 1;
        }
    }

    /// Requests by API, of those that have come at all.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequests> {
        let counts = ApiKey::ALL.iter().filter_map(|api| {
            let requests = *self.requests.get(*api as usize)?;
            let api = format!("{api:?}");
            (requests > 0).then_some(ApiRequests { api, requests })
        });
        counts.collect()
    }

    /// All times.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            produce: self.produce.distribution(),
            produce_queue: self.produce_queue.distribution(),
            produce_disk: self.produce_disk.distribution(),
            produce_reply: self.produce_reply.distribution(),
            fetch: self.fetch.distribution(),
            fetch_queue: self.fetch_queue.distribution(),
            fetch_disk: self.fetch_disk.distribution(),
            fetch_reply: self.fetch_reply.distribution(),
            fetch_wait: self.fetch_wait.distribution(),
            barrier: self.barrier.distribution(),
            turn: self.turn.distribution(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_reach_their_bucket_within_a_percent() {
        let mut timer = Timer::default();
        for took_ns in [0, 9_000, 10_000, 12_000, 2_000_000, 90_000_000_000] {
            timer.record(took_ns);
        }
        let times = timer.distribution();
        assert_eq!(times.buckets[..2], [3, 1]);
        assert_eq!((times.buckets[7], times.count), (1, 6));
        assert_eq!(times.sum_ns, 90_002_031_000);
    }

    #[test]
    fn a_turn_lasts_from_its_first_input_to_its_end() {
        let at = |monotonic_ns| Now {
            monotonic_ns,
            wall_ms: 0,
        };
        let mut meters = Meters::default();
        meters.input(at(1_000_000));
        meters.input(at(2_000_000));
        meters.end_turn(at(4_000_000));
        meters.end_turn(at(9_000_000));
        let turn = meters.times().turn;
        assert_eq!((turn.count, turn.sum_ns), (1, 3_000_000));
    }
}
