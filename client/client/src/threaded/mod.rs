//! Handles that may be sent and shared, for programs on tokio's multi-threaded runtime.
//!
//! A [`Client`] has a thread of its own, on which the driver runs inside a `LocalSet`. Handles talk to
//! it through bounded channels: a caller waits when [`JOBS_WAITING_MAX`], [`RECORDS_WAITING_MAX`] or
//! [`COMMANDS_WAITING_MAX`] of its kind are in front of it, and a consumer's fetching waits when
//! [`FETCHED_WAITING_MAX`] of its answers were not taken. The thread ends when the last handle is
//! gone and what was sent is delivered or failed; nobody joins it. A program that has to be sure of
//! its records awaits their deliveries, or `flush`.
//!
//! Handles work under any runtime: nothing in them needs tokio's reactor or timer.

mod consumer;
mod group;
mod producer;
#[cfg(test)]
mod tests;

pub use consumer::{Consumer, Records};
pub use group::GroupConsumer;
pub use producer::{DeliveryFuture, OwnedRecord, Producer};

use std::future::Future;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::calls::{Call, Target};
use crate::driver::{ClientSettings, on_tokio};
use crate::error::ClientError;

/// Jobs that the client's thread has not begun. Begun ones are as many as callers wait for.
pub const JOBS_WAITING_MAX: usize = 64;
/// Records handed to a producer that its buffer has not taken.
pub const RECORDS_WAITING_MAX: usize = 1024;
/// Answers of a consumer that its caller has not taken.
pub const FETCHED_WAITING_MAX: usize = 2;
/// Commands to a group's consumer that it has not begun.
pub const COMMANDS_WAITING_MAX: usize = 8;

type Job = Box<dyn FnOnce(on_tokio::Client) -> Task + Send>;
type Task = Pin<Box<dyn Future<Output = ()>>>;

/// See the module. Clones share the thread.
#[derive(Clone, Debug)]
pub struct Client {
    jobs: mpsc::Sender<Job>,
}

impl Client {
    /// Starts the thread, connects to one of `bootstrap` (comma-separated `HOST:PORT`) and learns
    /// about the brokers.
    ///
    /// # Errors
    /// None of them answers, or the system has no thread to give.
    pub async fn connect(bootstrap: &str, settings: ClientSettings) -> Result<Client, ClientError> {
        let (jobs, waiting) = mpsc::channel(JOBS_WAITING_MAX);
        let (reply, connected) = oneshot::channel();
        let bootstrap = bootstrap.to_string();
        start_thread(move || {
            let ran = on_tokio::block_on(async {
                match on_tokio::Client::connect(&bootstrap, settings).await {
                    Ok(client) => {
                        let _ = reply.send(Ok(()));
                        serve(client, waiting).await;
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            });
            // Without a runtime the caller sees that nobody answers.
            drop(ran);
        })?;
        connected.await.map_err(|_| ClientError::Ended)??;
        Ok(Client { jobs })
    }

    /// Runs a call where it belongs; see `call` of the driver's client.
    ///
    /// # Errors
    /// The last failure.
    pub async fn call<C>(&self, target: Target, call: C) -> Result<C::Answer, ClientError>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
    {
        self.run(async move |client| client.call(target, &call).await)
            .await?
    }

    /// Runs a call at a group's coordinator.
    ///
    /// # Errors
    /// The last failure.
    pub async fn call_coordinator<C>(&self, group: &str, call: C) -> Result<C::Answer, ClientError>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
    {
        let group = group.to_string();
        self.run(async move |client| client.call_coordinator(&group, &call).await)
            .await?
    }

    /// Runs something with the driver's client on the client's thread. It goes on when the returned
    /// future is dropped.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn run<T, F>(&self, work: F) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(on_tokio::Client) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.begin(async move |client| {
            let _ = reply.send(work(client).await);
        })
        .await?;
        answer.await.map_err(|_| ClientError::Ended)
    }

    async fn begin<F>(&self, work: F) -> Result<(), ClientError>
    where
        F: AsyncFnOnce(on_tokio::Client) + Send + 'static,
    {
        let job: Job = Box::new(move |client| Box::pin(async move { work(client).await }));
        self.jobs.send(job).await.map_err(|_| ClientError::Ended)
    }
}

/// The one thread of a client. It is never joined: it ends by itself after its last handle.
fn start_thread(run: impl FnOnce() + Send + 'static) -> Result<(), ClientError> {
    let named = std::thread::Builder::new().name("highwater-client".to_string());
    match named.spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => Err(ClientError::Usage(format!(
            "the system has no thread for the client: {error}; allow the process more"
        ))),
    }
}

/// Begins jobs until every handle is gone, then waits for what was begun.
async fn serve(client: on_tokio::Client, mut waiting: mpsc::Receiver<Job>) {
    let mut begun = JoinSet::new();
    loop {
        tokio::select! {
            job = waiting.recv() => match job {
                Some(job) => {
                    begun.spawn_local(job(client.clone()));
                }
                None => break,
            },
            Some(_) = begun.join_next() => {}
        }
    }
    while begun.join_next().await.is_some() {}
}
