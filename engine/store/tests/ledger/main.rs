//! The marks ledger against power loss, damage and its own file switches. An oracle applies the
//! recorded marks in the plainest way; what is read back must be what it says.

mod contents;
mod damage;
#[path = "../support/disk/mod.rs"]
mod disk;
mod lives;
mod model;
mod power_loss;
