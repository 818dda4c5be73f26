//! When the requests of an open loop are due: at a fixed rate from a start on, whatever the answers
//! do.
//!
//! A request's latency counts from the moment it was due. A client that sends late because the
//! server was slow would otherwise leave out just what it is to measure.

use std::time::{Duration, Instant};

/// The moments at which requests are due.
#[derive(Clone, Debug)]
pub struct Pacing {
    start: Instant,
    rate_per_s: f64,
    taken: u64,
}

impl Pacing {
    /// `rate_per_s` requests a second from `start` on; more than zero.
    #[must_use]
    pub fn new(start: Instant, rate_per_s: f64) -> Pacing {
        assert!(rate_per_s > 0.0, "a rate is more than zero");
        Pacing {
            start,
            rate_per_s,
            taken: 0,
        }
    }

    /// When the next request is due.
    #[must_use]
    pub fn next_due(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.taken as f64 / self.rate_per_s)
    }

    /// Takes the next request if it is due at `now`: the moment it was due.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        self.taken += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_however_late_they_are_taken() {
        let start = Instant::now();
        let mut pacing = Pacing::new(start, 1000.0);
        assert_eq!(pacing.take(start), Some(start));
        assert_eq!(pacing.take(start), None);
        let late = start + Duration::from_millis(10);
        let due: Vec<Duration> = std::iter::from_fn(|| pacing.take(late))
            .map(|due| due - start)
            .collect();
        assert_eq!(due.len(), 10);
        assert_eq!(due[4], Duration::from_millis(5));
        assert_eq!(pacing.next_due(), start + Duration::from_millis(11));
    }
}
