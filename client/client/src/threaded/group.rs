//! A group's member on the client's thread, polled from any thread.
//!
//! Nothing is read ahead of the caller: what `poll` has returned counts as done at the next `poll`,
//! so records may not wait in a channel.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{COMMANDS_WAITING_MAX, Client, Records};
use crate::driver::{GroupConsumerSettings, on_tokio};
use crate::error::ClientError;
use crate::group::TopicPartition;

type Polled = Result<Option<Records>, ClientError>;
type Done = oneshot::Sender<Result<(), ClientError>>;

enum Command {
    Poll {
        wait: Duration,
        reply: oneshot::Sender<Polled>,
    },
    Commit(Done),
    Close(Done),
}

/// A member of a group. Dropping it ends the member without a word to the coordinator, which finds
/// out by the session timeout; `close` leaves.
#[derive(Debug)]
pub struct GroupConsumer {
    commands: mpsc::Sender<Command>,
}

impl GroupConsumer {
    /// A member of a group, subscribed to topics. It joins with the first `poll`.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn subscribe(
        client: &Client,
        settings: GroupConsumerSettings,
        topics: &[String],
    ) -> Result<GroupConsumer, ClientError> {
        let (commands, waiting) = mpsc::channel(COMMANDS_WAITING_MAX);
        let topics = topics.to_vec();
        client
            .begin(async move |client| {
                let member = on_tokio::GroupConsumer::subscribe(&client, settings, &topics);
                serve(member, waiting).await;
            })
            .await?;
        Ok(GroupConsumer { commands })
    }

    /// The next records, waiting at most `wait` for them. When the returned future is dropped, the
    /// next `poll` returns what this one would have.
    ///
    /// # Errors
    /// The group refuses the member for good, a partition cannot go on, or the client has ended.
    pub async fn poll(&self, wait: Duration) -> Polled {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Poll { wait, reply }).await?;
        answer.await.map_err(|_| ClientError::Ended)?
    }

    /// Commits everything that `poll` has returned.
    ///
    /// # Errors
    /// The group went on without the member, or a partition refuses its offset.
    pub async fn commit(&self) -> Result<(), ClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Commit(reply)).await?;
        answer.await.map_err(|_| ClientError::Ended)?
    }

    /// Commits, where commits are made by interval, and leaves the group.
    ///
    /// # Errors
    /// What was returned last could not be committed.
    pub async fn close(self) -> Result<(), ClientError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Close(reply)).await?;
        answer.await.map_err(|_| ClientError::Ended)?
    }

    async fn command(&self, command: Command) -> Result<(), ClientError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| ClientError::Ended)
    }
}

async fn serve(member: on_tokio::GroupConsumer, mut waiting: mpsc::Receiver<Command>) {
    while let Some(command) = waiting.recv().await {
        match command {
            Command::Poll { wait, mut reply } => {
                // A caller that is gone is not given records.
                let polled = tokio::select! {
                    () = reply.closed() => continue,
                    polled = member.poll(wait) => polled,
                };
                if let Err(polled) = reply.send(polled.map(|some| some.map(Records::from))) {
                    go_back(&member, polled);
                }
            }
            Command::Commit(reply) => {
                let _ = reply.send(member.commit().await);
            }
            Command::Close(reply) => {
                let _ = reply.send(member.close().await);
                return;
            }
        }
    }
}

/// The caller left between its records' arrival and their being taken: they are read again.
fn go_back(member: &on_tokio::GroupConsumer, polled: Polled) {
    let Ok(Some(records)) = polled else { return };
    let Some(first) = records.records.first() else {
        return;
    };
    let at = TopicPartition {
        topic: records.topic.to_string(),
        partition: records.partition,
    };
    member.seek(&at, first.offset);
}
