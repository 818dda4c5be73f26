//! The operations endpoint: metrics, health and a read-only JSON view of a node over HTTP, on a
//! thread of its own.
//!
//! The thread owns nothing of the node. It asks the cores by [`Cores`], one bounded [`Question`] at a
//! time, and puts their answers together; `METRICS.md` says what each metric means. It decides
//! nothing and changes nothing.

#![forbid(unsafe_code)]

mod api;
pub mod catalog;
pub mod collect;
pub mod figures;
pub mod group_walk;
pub mod metrics;
pub mod node;
pub mod server;
#[cfg(test)]
mod shipped;
pub mod text;

pub use collect::Cores;
pub use figures::{Answer, Asked, Question};
pub use node::{MemoryPool, Node, NodeFacts, QuarantineSource};
pub use server::{Endpoint, OpsError};
