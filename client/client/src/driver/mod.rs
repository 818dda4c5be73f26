//! Runs the state machines on one thread with monoio: sockets, clock, timeouts, reconnecting.
//!
//! Everything here is local to its thread (`Rc`, no locks). A [`Client`] owns one [`Link`] per
//! broker; producer, consumer and admin calls share them. Use it inside a monoio runtime that has
//! its timer enabled, or through [`block_on`].

mod client;
mod clock;
mod consumer;
mod group;
mod group_calls;
mod link;
mod producer;
mod signal;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientSettings};
pub use clock::Clock;
pub use consumer::ConsumerHandle;
pub use group::{GroupConsumer, GroupConsumerSettings};
pub use link::Link;
pub use producer::ProducerHandle;

use std::future::Future;

/// Entries of the ring that [`block_on`] makes; a client has few operations in flight.
const RING_ENTRIES: u32 = 256;

/// Runs a future on a fresh runtime of this thread.
///
/// # Errors
/// The kernel refuses an io_uring.
pub fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()?;
    Ok(runtime.block_on(future))
}
