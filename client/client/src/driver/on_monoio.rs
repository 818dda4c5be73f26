//! The driver on monoio.

use std::future::Future;

use super::any_runtime;
pub use super::runtime::Monoio;
use super::signal::while_ending;

/// See [`any_runtime::Client`].
pub type Client = any_runtime::Client<Monoio>;
/// See [`any_runtime::ProducerHandle`].
pub type ProducerHandle = any_runtime::ProducerHandle<Monoio>;
/// See [`any_runtime::ConsumerHandle`].
pub type ConsumerHandle = any_runtime::ConsumerHandle<Monoio>;
/// See [`any_runtime::GroupConsumer`].
pub type GroupConsumer = any_runtime::GroupConsumer<Monoio>;

/// Entries of the ring that [`block_on`] makes; a client has few operations in flight.
const RING_ENTRIES: u32 = 256;

/// Runs a future on a fresh runtime of this thread.
///
/// # Errors
/// The kernel refuses an io_uring.
pub fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()?;
    let mut ending = Ending(Some(runtime));
    let runtime = ending.0.as_mut().ok_or(std::io::ErrorKind::NotFound)?;
    Ok(runtime.block_on(future))
}

/// Drops the runtime in such a way that handles in the caller's own tasks wake nobody.
struct Ending<R>(Option<R>);

impl<R> Drop for Ending<R> {
    fn drop(&mut self) {
        while_ending(|| drop(self.0.take()));
    }
}
