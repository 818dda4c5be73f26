//! The driver's needs on monoio: one io_uring of this thread.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use monoio::io::{CancelableAsyncReadRent, CancelableAsyncWriteRentExt, Canceller, Splitable};
use monoio::net::TcpStream;
use monoio::net::tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf};

use super::{Reader, Runtime, Transfer, Writer};
use crate::driver::signal::{unless, while_ending};

/// A monoio runtime whose timer is enabled.
#[derive(Clone, Copy, Debug)]
pub struct Monoio;

impl Runtime for Monoio {
    type Reader = TcpOwnedReadHalf;
    type Writer = TcpOwnedWriteHalf;

    /// Blocks this thread while the system looks a name up; io_uring has no operation for it.
    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(address.to_socket_addrs()?.collect())
    }

    async fn connect(address: SocketAddr) -> io::Result<(Self::Reader, Self::Writer)> {
        let stream = TcpStream::connect_addr(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into_split())
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        monoio::spawn(Owned(Some(Box::pin(task))));
    }

    async fn sleep(duration: Duration) {
        monoio::time::sleep(duration).await;
    }

    async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        monoio::time::timeout(limit, future).await.ok()
    }
}

/// A task of the client. A runtime that ends drops it before it is done; see [`while_ending`].
struct Owned<F: Future<Output = ()>>(Option<Pin<Box<F>>>);

impl<F: Future<Output = ()>> Future for Owned<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.0 else {
            return Poll::Ready(());
        };
        ready!(task.as_mut().poll(context));
        // Here, where others can still be woken.
        self.0 = None;
        Poll::Ready(())
    }
}

impl<F: Future<Output = ()>> Drop for Owned<F> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            while_ending(|| drop(task));
        }
    }
}

impl Reader for TcpOwnedReadHalf {
    async fn read(
        &mut self,
        buffer: Vec<u8>,
        ended: impl Future<Output = ()>,
    ) -> Transfer<usize, Vec<u8>> {
        let canceller = Canceller::new();
        let operation = self.cancelable_read(buffer, canceller.handle());
        until_ended(operation, canceller, ended).await
    }
}

impl Writer for TcpOwnedWriteHalf {
    async fn write_all(
        &mut self,
        buffer: Vec<u8>,
        ended: impl Future<Output = ()>,
    ) -> Transfer<(), Vec<u8>> {
        let canceller = Canceller::new();
        let operation = CancelableAsyncWriteRentExt::write_all(self, buffer, canceller.handle());
        let (result, buffer) = until_ended(operation, canceller, ended).await?;
        Some((result.map(|_| ()), buffer))
    }
}

/// Takes the operation back from the kernel when `ended` is done: dropping it would leave the kernel
/// waiting for a peer that hangs.
async fn until_ended<T>(
    operation: impl Future<Output = T>,
    canceller: Canceller,
    ended: impl Future<Output = ()>,
) -> Option<T> {
    let mut operation = pin!(operation);
    let outcome = unless(ended, operation.as_mut()).await;
    if outcome.is_none() {
        canceller.cancel();
        let _ = operation.await;
    }
    outcome
}
