//! Looks for the knee: the highest rate whose p99 stays under a bound.
//!
//! Climbs by a factor until a rate fails, then halves the interval between the highest that held and
//! the lowest that failed until both are close. A failure at the first rung goes down instead. Owns
//! no clock and sends nothing: it is told whether a rate held.

/// Each rung over the one below, on the way up.
const CLIMB: f64 = 1.6;
/// A knee is known when the rate that failed is at most so much above the one that held.
const PRECISION: f64 = 1.05;
/// Rungs at most, so that a broker without a knee ends the search.
const RUNGS_MAX: usize = 24;

#[derive(Clone, Debug)]
pub struct Ladder {
    next: f64,
    to: f64,
    held: Option<f64>,
    failed: Option<f64>,
    tried: usize,
}

impl Ladder {
    /// From `from` records a second up to `to`.
    pub fn new(from: f64, to: f64) -> Ladder {
        Ladder {
            next: from,
            to,
            held: None,
            failed: None,
            tried: 0,
        }
    }

    /// The rate to try, until the knee is known.
    pub fn rate(&self) -> Option<f64> {
        let close = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held <= PRECISION,
            (Some(held), None) => held >= self.to,
            (None, Some(failed)) => failed <= 1.0,
            (None, None) => false,
        };
        (!close && self.tried < RUNGS_MAX).then_some(self.next)
    }

    /// Tells whether the rate held.
    pub fn tell(&mut self, held: bool) {
        self.tried += 1;
        match held {
            true => self.held = Some(self.held.unwrap_or(0.0).max(self.next)),
            false => self.failed = Some(self.failed.unwrap_or(f64::INFINITY).min(self.next)),
        }
        self.next = match (self.held, self.failed) {
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => (held * CLIMB).min(self.to),
            (None, Some(failed)) => (failed / CLIMB / CLIMB).max(1.0),
            (None, None) => self.next,
        };
    }

    pub fn tried(&self) -> usize {
        self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knee_of(limit: f64, from: f64, to: f64) -> (Option<f64>, usize) {
        let mut ladder = Ladder::new(from, to);
        let mut best = None;
        while let Some(rate) = ladder.rate() {
            let held = rate <= limit;
            if held {
                best = Some(best.unwrap_or(0.0f64).max(rate));
            }
            ladder.tell(held);
        }
        (best, ladder.tried())
    }

    #[test]
    fn a_knee_is_found_from_below_and_from_above() {
        for from in [100.0, 5_000.0, 900_000.0] {
            let (knee, tried) = knee_of(31_400.0, from, 1e7);
            let knee = knee.expect("there is one");
            assert!(
                knee <= 31_400.0 && knee * PRECISION >= 31_400.0,
                "{from}: {knee}"
            );
            assert!(tried <= RUNGS_MAX);
        }
    }

    #[test]
    fn the_ladder_ends_at_its_top_and_without_any_rate_that_holds() {
        assert_eq!(knee_of(f64::INFINITY, 1000.0, 20_000.0).0, Some(20_000.0));
        let (knee, tried) = knee_of(0.0, 1000.0, 20_000.0);
        assert!(knee.is_none() && tried < RUNGS_MAX);
    }
}
