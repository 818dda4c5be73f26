//! The thread and its HTTP server: connections, headers, time and memory are bounded.
//!
//! Whatever somebody does to this port costs this thread time and the bounded memory below, and
//! costs the cores the questions of one request after another.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::api;
use crate::figures::ProcessFigures;
use crate::node::{Node, NodeFacts, QuarantineSource};

/// Connections served at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's head. Bodies are never read: a request that has one ends its connection.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// How long a request's head may take to arrive, an idle connection included.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long a connection lives at most, whatever happens on it: who does not read must go.
const CONNECTION_WITHIN: Duration = Duration::from_secs(300);
/// Pause after a failed accept.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The address cannot be bound.
    #[error(
        "ops_listen: cannot listen on {address}: {error}; choose another address, port 0 for any \
         free one, or \"\" to do without metrics and health checks"
    )]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    /// The thread or its event loop cannot be started.
    #[error("the operations thread cannot be started: {0}")]
    Thread(io::Error),
}

/// The endpoint while it runs; dropping it ends the thread.
pub struct Endpoint {
    address: SocketAddr,
    node: Arc<Node>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Binds the address and serves. Until [`Node::serves`] is called the node is not ready.
    ///
    /// # Errors
    /// An address that cannot be bound, or no thread.
    pub fn start(
        address: SocketAddr,
        facts: NodeFacts,
        process: fn() -> ProcessFigures,
        quarantine: QuarantineSource,
    ) -> Result<Endpoint, OpsError> {
        let listen = |error| OpsError::Listen { address, error };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let node = Arc::new(Node::new(facts, process, quarantine));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(OpsError::Thread)?;
        let served = Arc::clone(&node);
        let thread = std::thread::Builder::new()
            .name("ops".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = accept(listener, served) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(OpsError::Thread)?;
        Ok(Endpoint {
            address: bound,
            node,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node it tells about.
    #[must_use]
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.node.stops();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, node: Arc<Node>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the operations endpoint cannot accept");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let router = api::router(node);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the operations endpoint pauses");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, router: axum::Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an operations connection failed"),
        Err(_) => tracing::debug!("an operations connection took too long"),
    }
}

#[cfg(test)]
mod tests;
