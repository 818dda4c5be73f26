//! When records are due: at a fixed rate from a start on, whatever the answers do.
//!
//! Threads share a rate by taking turns: of `threads` threads, number `thread` has every
//! `threads`-th record. A burst makes its records due at one moment, at the same rate on average.
//! Owns no clock.

/// The due moments of one thread.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_ns: u64,
    rate_per_s: f64,
    burst: u64,
    thread: u64,
    threads: u64,
    taken: u64,
}

impl Schedule {
    /// `rate_per_s` over all threads and `burst` records at a time, both more than zero.
    pub fn new(
        start_ns: u64,
        rate_per_s: f64,
        burst: u64,
        (thread, threads): (u64, u64),
    ) -> Schedule {
        assert!(
            rate_per_s > 0.0 && burst > 0,
            "a rate and a burst are more than zero"
        );
        Schedule {
            start_ns,
            rate_per_s,
            burst,
            thread,
            threads,
            taken: 0,
        }
    }

    /// When the next record is due.
    pub fn next_due_ns(&self) -> u64 {
        self.due_ns(self.taken)
    }

    /// Takes the next record.
    pub fn take(&mut self) {
        self.taken += 1;
    }

    /// Records that are due at `now_ns` and were not taken.
    pub fn overdue(&self, now_ns: u64) -> u64 {
        let elapsed_s = now_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        let all = (elapsed_s * self.rate_per_s) as u64;
        (all / self.threads).saturating_sub(self.taken)
    }

    fn due_ns(&self, index: u64) -> u64 {
        let bursts = index / self.burst * self.threads + self.thread;
        let before = (bursts * self.burst) as f64;
        self.start_ns + (before / self.rate_per_s * 1e9) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn due_within(mut schedule: Schedule, until_ns: u64) -> Vec<u64> {
        let mut due = Vec::new();
        while schedule.next_due_ns() < until_ns {
            due.push(schedule.next_due_ns());
            schedule.take();
        }
        due
    }

    #[test]
    fn threads_share_a_rate_without_a_gap() {
        let mut due: Vec<u64> = (0..3)
            .flat_map(|thread| due_within(Schedule::new(5, 900.0, 1, (thread, 3)), 5 + SECOND_NS))
            .collect();
        due.sort_unstable();
        assert_eq!(due.len(), 900);
        let gaps = due.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(
            gaps.into_iter()
                .all(|gap| (1_111_110..=1_111_112).contains(&gap))
        );
    }

    #[test]
    fn a_burst_is_due_at_one_moment_and_the_rate_stays() {
        let due = due_within(Schedule::new(0, 1000.0, 50, (0, 1)), SECOND_NS);
        assert_eq!(due.len(), 1000);
        assert!(due[..50].iter().all(|at| *at == 0));
        assert_eq!(due[50], 50_000_000);
    }

    #[test]
    fn what_is_not_taken_is_overdue() {
        let mut schedule = Schedule::new(0, 1000.0, 1, (0, 2));
        assert_eq!(schedule.overdue(SECOND_NS), 500);
        (0..100).for_each(|_| schedule.take());
        assert_eq!(schedule.overdue(SECOND_NS), 400);
    }
}
