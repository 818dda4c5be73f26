//! What the driver needs of an asynchronous runtime, and nothing else.
//!
//! The driver's code is written once against [`Runtime`]; the type parameter picks the runtime when it
//! is compiled, so neither a box nor a branch is paid for the choice, and both may be in one program.
//! Everything is local to a thread: no task, future or stream has to be `Send`.
//!
//! Buffers are handed over and come back, because io_uring works on memory that the kernel has
//! borrowed. A runtime that waits for readiness instead returns them untouched. An operation whose
//! `ended` is done first is over when the call returns: the kernel has let go of buffer and socket.

#[cfg(feature = "monoio")]
mod on_monoio;
#[cfg(feature = "tokio")]
mod on_tokio;

#[cfg(feature = "monoio")]
pub use on_monoio::Monoio;
#[cfg(feature = "tokio")]
pub use on_tokio::Tokio;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How an operation on a socket ended, with its buffer; `None` when it was taken back.
pub type Transfer<T, B> = Option<(io::Result<T>, B)>;

/// A runtime of this thread. Its functions are called from inside it.
pub trait Runtime: Copy + std::fmt::Debug + 'static {
    type Reader: Reader;
    type Writer: Writer;

    /// The addresses behind `HOST:PORT`.
    fn resolve(address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;

    /// A stream without Nagle's delay, as its two directions.
    fn connect(
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<(Self::Reader, Self::Writer)>>;

    /// Runs a task on this thread until it is done.
    fn spawn(task: impl Future<Output = ()> + 'static);

    fn sleep(duration: Duration) -> impl Future<Output = ()>;

    /// `None` when `limit` passed first; the future is dropped then.
    fn timeout<F: Future>(limit: Duration, future: F) -> impl Future<Output = Option<F::Output>>;
}

/// The receiving direction of a stream.
pub trait Reader: 'static {
    /// Reads what there is into the front of `buffer`: at least a byte, or 0 at the end.
    fn read(
        &mut self,
        buffer: Vec<u8>,
        ended: impl Future<Output = ()>,
    ) -> impl Future<Output = Transfer<usize, Vec<u8>>>;
}

/// The sending direction of a stream.
pub trait Writer: 'static {
    /// Writes all of `buffer`.
    fn write_all(
        &mut self,
        buffer: Vec<u8>,
        ended: impl Future<Output = ()>,
    ) -> impl Future<Output = Transfer<(), Vec<u8>>>;
}
