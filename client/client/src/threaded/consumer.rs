//! Records from a consumer on the client's thread to any thread.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Client, FETCHED_WAITING_MAX};
use crate::consumer::{ConsumerSettings, Fetched, Start};
use crate::driver::on_tokio;
use crate::error::ClientError;
use crate::record::FetchedRecord;

/// Records of one partition, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    pub topic: Arc<str>,
    pub partition: i32,
    pub records: Vec<FetchedRecord>,
}

impl From<Fetched> for Records {
    fn from(fetched: Fetched) -> Records {
        Records {
            topic: Arc::from(&*fetched.topic),
            partition: fetched.partition,
            records: fetched.records,
        }
    }
}

/// A consumer of partitions that its caller names. It ends when this is dropped.
#[derive(Debug)]
pub struct Consumer {
    fetched: mpsc::Receiver<Result<Records, ClientError>>,
}

impl Consumer {
    /// Starts a consumer of these partitions of one topic.
    ///
    /// # Errors
    /// The topic or a partition does not exist, or the client has ended.
    pub async fn start(
        client: &Client,
        settings: ConsumerSettings,
        topic: &str,
        partitions: &[i32],
        start: Start,
    ) -> Result<Consumer, ClientError> {
        let (sender, fetched) = mpsc::channel(FETCHED_WAITING_MAX);
        let (topic, partitions) = (topic.to_string(), partitions.to_vec());
        let (reply, started) = tokio::sync::oneshot::channel();
        client
            .begin(async move |client| {
                let consumer =
                    on_tokio::ConsumerHandle::start(&client, settings, &topic, &partitions, start);
                match consumer.await {
                    Ok(consumer) => {
                        let _ = reply.send(Ok(()));
                        pump(consumer, sender).await;
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            })
            .await?;
        started.await.map_err(|_| ClientError::Ended)??;
        Ok(Consumer { fetched })
    }

    /// Waits for the next records. Nothing is lost when the returned future is dropped.
    ///
    /// # Errors
    /// A partition cannot go on, or the client has ended.
    pub async fn next(&mut self) -> Result<Records, ClientError> {
        self.fetched.recv().await.unwrap_or(Err(ClientError::Ended))
    }
}

async fn pump(
    consumer: on_tokio::ConsumerHandle,
    sender: mpsc::Sender<Result<Records, ClientError>>,
) {
    loop {
        let next = tokio::select! {
            () = sender.closed() => return,
            next = consumer.next() => next,
        };
        if sender.send(next.map(Records::from)).await.is_err() {
            return;
        }
    }
}
