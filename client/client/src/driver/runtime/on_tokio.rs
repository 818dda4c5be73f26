//! The driver's needs on tokio: a current-thread runtime and a `LocalSet`.
//!
//! Readiness is waited for and then the socket is tried, so there is nothing to take back when an
//! operation is given up.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Reader, Runtime, Transfer, Writer};
use crate::driver::signal::unless;

/// A tokio runtime of this thread, inside a [`tokio::task::LocalSet`], with I/O and time enabled.
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

impl Runtime for Tokio {
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(address).await?.collect())
    }

    async fn connect(address: SocketAddr) -> io::Result<(Self::Reader, Self::Writer)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream.into_split())
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(limit, future).await.ok()
    }
}

impl Reader for OwnedReadHalf {
    async fn read(
        &mut self,
        mut buffer: Vec<u8>,
        ended: impl Future<Output = ()>,
    ) -> Transfer<usize, Vec<u8>> {
        let result = unless(ended, read_some(self, &mut buffer)).await?;
        Some((result, buffer))
    }
}

impl Writer for OwnedWriteHalf {
    async fn write_all(
        &mut self,
        buffer: Vec<u8>,
        ended: impl Future<Output = ()>,
    ) -> Transfer<(), Vec<u8>> {
        let result = unless(ended, write_whole(self, &buffer)).await?;
        Some((result, buffer))
    }
}

async fn read_some(half: &OwnedReadHalf, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        half.readable().await?;
        match half.try_read(buffer) {
            Err(error) if is_not_ready(&error) => {}
            settled => return settled,
        }
    }
}

async fn write_whole(half: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        half.writable().await?;
        match half.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if is_not_ready(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Readiness may be reported in vain.
fn is_not_ready(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
