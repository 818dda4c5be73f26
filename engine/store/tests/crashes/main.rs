//! Crashes at any moment, again and again: everything below the high-water mark is still there,
//! what follows it is a prefix of what was appended, nothing is taken for rot, no producer's batch
//! is lost or there twice when it is sent again, recovery changes nothing that was acknowledged,
//! and what it serves survives the next power loss.

mod life;
mod partition;
#[path = "../support/mod.rs"]
mod support;

use life::Life;

/// Power losses simulated by default; the variable asks for more.
const POWER_LOSSES: &str = "TEST_POWER_LOSSES";
/// Crashes that each seed goes through.
const LIVES: u64 = 6;

#[test]
fn crash_after_crash_loses_nothing_acknowledged() {
    let losses: u64 = std::env::var(POWER_LOSSES)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(480);
    for seed in 0..losses.div_ceil(LIVES) {
        let mut life = Life::new(seed);
        for _ in 0..LIVES {
            life.live();
            life.crash_and_recover();
        }
    }
}
