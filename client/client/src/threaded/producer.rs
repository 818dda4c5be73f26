//! Records from any thread to a producer on the client's thread, and their fates back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use highwater_base::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{Client, RECORDS_WAITING_MAX};
use crate::driver::{Delivered, on_tokio, outcome_of};
use crate::error::ClientError;
use crate::producer::ProducerSettings;
use crate::record::RecordToSend;

/// A record that travels to the client's thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Decides the partition unless `partition` does.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone in compacted topics.
    pub value: Option<Vec<u8>>,
    /// Name and value of each header.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the Unix epoch; `None` takes the time of sending.
    pub timestamp: Option<Timestamp>,
    /// An explicit partition.
    pub partition: Option<i32>,
}

enum Command {
    Send {
        topic: String,
        record: OwnedRecord,
        fate: oneshot::Sender<Delivered>,
    },
    Flush(oneshot::Sender<()>),
}

/// A producer. Clones share it. Records that one task sends one after the other keep their order;
/// one whose topic is still being looked up holds up those behind it.
#[derive(Clone, Debug)]
pub struct Producer {
    commands: mpsc::Sender<Command>,
}

impl Producer {
    /// Starts a producer.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn start(
        client: &Client,
        settings: ProducerSettings,
    ) -> Result<Producer, ClientError> {
        let (commands, waiting) = mpsc::channel(RECORDS_WAITING_MAX);
        client
            .begin(async move |client| pump(client, settings, waiting).await)
            .await?;
        Ok(Producer { commands })
    }

    /// Hands a record over, waiting for room. What comes back resolves when the record is delivered
    /// or failed; dropping it changes nothing for the record.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn send(
        &self,
        topic: &str,
        record: OwnedRecord,
    ) -> Result<DeliveryFuture, ClientError> {
        let (fate, told) = oneshot::channel();
        let topic = topic.to_string();
        self.command(Command::Send {
            topic,
            record,
            fate,
        })
        .await?;
        Ok(DeliveryFuture { told })
    }

    /// Waits until everything sent before is delivered or failed.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let (done, told) = oneshot::channel();
        self.command(Command::Flush(done)).await?;
        told.await.map_err(|_| ClientError::Ended)
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| ClientError::Ended)
    }
}

/// Resolves to partition and offset of a record, or to why it was not delivered.
#[derive(Debug)]
#[must_use = "a record is sent whether or not its delivery is awaited"]
pub struct DeliveryFuture {
    told: oneshot::Receiver<Delivered>,
}

impl Future for DeliveryFuture {
    type Output = Delivered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Delivered> {
        let told = Pin::new(&mut self.told).poll(context);
        told.map(|fate| fate.unwrap_or(Err(ClientError::Ended)))
    }
}

/// Who is told about which token. Bounded like the producer's buffer: every entry is a record in it.
type Fates = Rc<RefCell<BTreeMap<u64, oneshot::Sender<Delivered>>>>;

async fn pump(
    client: on_tokio::Client,
    settings: ProducerSettings,
    mut waiting: mpsc::Receiver<Command>,
) {
    let fates = Fates::default();
    let told = Rc::clone(&fates);
    let producer = on_tokio::ProducerHandle::start(&client, settings, move |delivery| {
        let mut fates = told.borrow_mut();
        for (index, token) in delivery.tokens.iter().enumerate() {
            if let Some(fate) = fates.remove(token) {
                // Whoever dropped the future does not want to know.
                let _ = fate.send(outcome_of(delivery, index));
            }
        }
    });
    while let Some(command) = waiting.recv().await {
        match command {
            Command::Send {
                topic,
                record,
                fate,
            } => match send(&producer, &topic, &record).await {
                Ok(token) => {
                    fates.borrow_mut().insert(token, fate);
                }
                Err(error) => {
                    let _ = fate.send(Err(error));
                }
            },
            Command::Flush(done) => {
                producer.flush().await;
                let _ = done.send(());
            }
        }
    }
    producer.flush().await;
}

async fn send(
    producer: &on_tokio::ProducerHandle,
    topic: &str,
    record: &OwnedRecord,
) -> Result<u64, ClientError> {
    let headers: Vec<(&str, Option<&[u8]>)> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    let record = RecordToSend {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        timestamp: record.timestamp,
        partition: record.partition,
    };
    producer.send(topic, &record).await
}
