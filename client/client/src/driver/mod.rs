//! Runs the state machines on one thread: sockets, clock, timeouts, reconnecting.
//!
//! Everything here is local to its thread (`Rc`, no locks). A client owns one [`Link`] per broker;
//! producer, consumer and admin calls share them. The code is written once, for any [`Runtime`]:
//! [`any_runtime`] has the types with their parameter, [`on_monoio`] and [`on_tokio`] name them for
//! one runtime each, and the names of [`on_monoio`] are also here.
//!
//! With monoio, use it inside a runtime that has its timer enabled; with tokio, inside a `LocalSet`
//! of a current-thread runtime. Either way `block_on` makes what is needed. Programs on tokio's
//! multi-threaded runtime use `threaded`, whose handles may be sent and shared.

mod client;
mod clock;
mod consumer;
mod delivery;
mod group;
mod group_calls;
mod link;
#[cfg(feature = "monoio")]
pub mod on_monoio;
#[cfg(feature = "tokio")]
pub mod on_tokio;
mod producer;
mod runtime;
mod signal;
#[cfg(test)]
mod tests;

pub use client::ClientSettings;
pub use clock::Clock;
#[cfg(feature = "tokio")]
pub(crate) use delivery::outcome_of;
pub use delivery::{Delivered, DeliveryFuture};
pub use group::GroupConsumerSettings;
pub use link::Link;
#[cfg(feature = "monoio")]
pub use on_monoio::{Client, ConsumerHandle, GroupConsumer, ProducerHandle, block_on};
pub use runtime::Runtime;

/// The driver's types for whoever writes code for both runtimes.
pub mod any_runtime {
    pub use super::client::Client;
    pub use super::consumer::ConsumerHandle;
    pub use super::group::GroupConsumer;
    pub use super::producer::ProducerHandle;
}
