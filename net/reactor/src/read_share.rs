//! How much of the time cold reads may take beside durable writes.
//!
//! A write that comes while a read is in the device waits for it, whatever the order in which both
//! were asked for; how many writes do is the share of the time in which there is a read. So each read
//! moves the moment of the next one by what it took and the rest of its share (the generic cell rate
//! algorithm, ITU-T I.371, with time as what is spent). Owns no clock and waits for nothing.

/// Shorter pauses are not made but owed: timers tick in milliseconds.
const PAUSE_NS_MIN: u64 = 1_000_000;
/// What is not used in time is lost, up to this: it makes up for a timer that rang late.
const CREDIT_NS_MAX: u64 = 2_000_000;
/// The most one read is charged for: a device that stalled must not hold up reads for long.
const READ_NS_MAX: u64 = 5_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadShare {
    percent: u64,
    /// When the reads so far will have taken their share and no more.
    even_ns: u64,
}

impl ReadShare {
    /// `percent` is between 1 and 100; 100 never pauses.
    pub fn new(percent: u64) -> ReadShare {
        ReadShare {
            percent: percent.clamp(1, 100),
            even_ns: 0,
        }
    }

    /// Whether reads may take all of the time.
    pub fn is_whole(&self) -> bool {
        self.percent == 100
    }

    /// How long the next read has yet to wait; 0 when it may start.
    pub fn pause_ns(&self, now_ns: u64) -> u64 {
        match self.even_ns.saturating_sub(now_ns) {
            owed if owed < PAUSE_NS_MIN => 0,
            owed => owed,
        }
    }

    /// A read took from `started_ns` to `ended_ns`.
    pub fn used(&mut self, started_ns: u64, ended_ns: u64) {
        let took_ns = ended_ns.saturating_sub(started_ns).min(READ_NS_MAX);
        let from_ns = self.even_ns.max(started_ns.saturating_sub(CREDIT_NS_MAX));
        self.even_ns = from_ns + took_ns * 100 / self.percent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_NS: u64 = 200_000;

    /// Reads back to back for a second, pauses as long as told and `late_ns` longer; the time reading.
    fn reading_ns_in_a_second(mut share: ReadShare, late_ns: u64) -> u64 {
        let (mut now_ns, mut reading_ns) = (1_000_000_000, 0);
        while now_ns < 2_000_000_000 {
            let pause_ns = share.pause_ns(now_ns);
            if pause_ns > 0 {
                now_ns += pause_ns + late_ns;
            }
            share.used(now_ns, now_ns + READ_NS);
            now_ns += READ_NS;
            reading_ns += READ_NS;
        }
        reading_ns
    }

    #[test]
    fn reads_take_their_share_though_timers_are_late() {
        for late_ns in [0, 1_000_000] {
            let found_ns = reading_ns_in_a_second(ReadShare::new(25), late_ns);
            assert!(
                (245_000_000..=256_000_000).contains(&found_ns),
                "{found_ns}"
            );
        }
    }

    #[test]
    fn a_whole_share_never_pauses() {
        let found_ns = reading_ns_in_a_second(ReadShare::new(100), 0);
        assert_eq!(found_ns, 1_000_000_000);
    }

    #[test]
    fn a_stalled_read_is_charged_up_to_a_bound() {
        let mut share = ReadShare::new(25);
        share.used(1_000_000_000, 9_000_000_000);
        assert_eq!(share.pause_ns(9_000_000_000), 0);
        share.used(9_000_000_000, 9_000_000_000 + READ_NS_MAX);
        let pause_ns = share.pause_ns(9_000_000_000 + READ_NS_MAX);
        assert_eq!(pause_ns, 3 * READ_NS_MAX - CREDIT_NS_MAX);
    }
}
