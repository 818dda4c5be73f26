//! Time as the state machines see it: a value handed in with each input, never a clock read.

/// Milliseconds since the Unix epoch, Kafka's timestamp unit. -1 means "none".
pub type Timestamp = i64;

/// The moment an input is stepped at. `monotonic_ns` orders and measures; `wall_ms` stamps records.
/// Safety never depends on either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since an arbitrary start of the process; never goes backwards.
    pub monotonic_ns: u64,
    /// Milliseconds since the Unix epoch; may jump.
    pub wall_ms: Timestamp,
}

impl Now {
    /// Whether a monotonic deadline has been reached.
    #[must_use]
    pub fn reached(&self, deadline_ns: u64) -> bool {
        self.monotonic_ns >= deadline_ns
    }

    /// The monotonic time `milliseconds` from now.
    #[must_use]
    pub fn plus_ms(&self, milliseconds: u64) -> u64 {
        self.monotonic_ns
            .saturating_add(milliseconds.saturating_mul(1_000_000))
    }
}
