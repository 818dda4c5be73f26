//! Clocks and randomness, read here and nowhere else.

use std::io::Read;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use highwater_base::Now;

static START: OnceLock<Instant> = OnceLock::new();

/// The present moment on both clocks.
#[must_use]
pub fn now() -> Now {
    let start = START.get_or_init(Instant::now);
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        monotonic_ns: start.elapsed().as_nanos() as u64,
        wall_ms: wall.as_millis() as i64,
    }
}

/// Fresh randomness from the kernel.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    let mut source = std::fs::File::open("/dev/urandom").expect("/dev/urandom can be opened");
    source
        .read_exact(&mut bytes)
        .expect("/dev/urandom can be read");
    bytes
}
