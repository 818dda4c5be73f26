//! `highwater bench`: load for any broker that speaks the Kafka protocol, and what it felt like.
//!
//! The data path: [`arguments`] make a [`plan`]; [`measure`] starts a thread a core, each of which
//! runs its share as a [`worker`]: [`producers`] send records at the moments that a [`schedule`]
//! says they are due, [`consumers`] read; a [`recorder`] counts each latency from the moment the
//! record was due, so that a broker that stalls cannot make the load leave out just what matters
//! (coordinated omission). A [`ladder`] of rates looks for the knee. The `highwater-bench-report`
//! crate shows what came out.
//!
//! Deliberately absent: transactions, several machines under one command, and any knowledge of a
//! particular broker.

mod arguments;
mod clock;
mod consumers;
mod ladder;
mod measure;
mod payload;
mod plan;
mod producers;
mod recorder;
mod schedule;
mod topic;
mod worker;
mod workload;

pub use arguments::{BenchCommand, HELP};
pub use workload::run;
