//! Crashes at any moment, again and again: everything below the high-water mark is still there,
//! what follows it is a prefix of what was appended, nothing is taken for rot, no producer's batch
//! is lost or there twice when it is sent again, recovery changes nothing that was acknowledged,
//! and what it serves survives the next power loss.

mod life;
mod partition;
mod rot;
#[path = "../support/mod.rs"]
mod support;

use life::Life;

/// Power losses simulated by default; the variable asks for more.
const POWER_LOSSES: &str = "TEST_POWER_LOSSES";
/// Crashes that each seed goes through.
const LIVES: u64 = 6;

/// Lives that end on a disk that does not keep its promise.
const SEEDS_DAMAGED: u64 = 150;

#[test]
fn rot_below_the_marks_is_a_hole_whatever_the_values_hold() {
    let mut rotten = 0;
    for seed in 0..SEEDS_DAMAGED {
        let mut life = Life::new(seed);
        life.live();
        life.crash_and_recover();
        life.live();
        rotten += u64::from(life.crash_with_rot());
    }
    assert!(rotten > SEEDS_DAMAGED / 3, "only {rotten} logs rotted");
}

#[test]
fn a_shredded_sector_costs_the_block_that_was_written_again_and_no_more() {
    for seed in 0..SEEDS_DAMAGED {
        let mut life = Life::new(seed);
        life.live();
        life.crash_with_shredded_sectors();
    }
}

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
