//! The clocks that the state machines are handed.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use highwater_base::Now;

/// Reads monotonic and wall time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

#[allow(
    clippy::disallowed_methods,
    reason = "the driver is where time is read"
)]
impl Clock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// The moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            // One nanosecond on, so that zero always lies in the past.
            monotonic_ns: self.start.elapsed().as_nanos() as u64 + 1,
            wall_ms: wall.as_millis() as i64,
        }
    }
}
