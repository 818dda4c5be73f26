//! The driver on tokio: inside a `LocalSet` of a current-thread runtime.

use std::future::Future;

use super::any_runtime;
pub use super::runtime::Tokio;

/// See [`any_runtime::Client`].
pub type Client = any_runtime::Client<Tokio>;
/// See [`any_runtime::ProducerHandle`].
pub type ProducerHandle = any_runtime::ProducerHandle<Tokio>;
/// See [`any_runtime::ConsumerHandle`].
pub type ConsumerHandle = any_runtime::ConsumerHandle<Tokio>;
/// See [`any_runtime::GroupConsumer`].
pub type GroupConsumer = any_runtime::GroupConsumer<Tokio>;

/// Runs a future on a fresh runtime of this thread, inside a `LocalSet`.
///
/// # Errors
/// The system refuses what the runtime needs.
pub fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let local = tokio::task::LocalSet::new();
    Ok(local.block_on(&runtime, future))
}
