//! The topic under load: made where it does not exist, filled for those who read it cold, and removed
//! again where the run made up its name.

use highwater_client::calls::{CreateTopic, DeleteTopic, ListOffsets, OffsetSpec, Target};
use highwater_client::driver::{Client, ProducerHandle};
use highwater_client::producer::ProducerSettings;
use highwater_client::{ClientError, RecordToSend};

use crate::payload::{Payload, Values};
use crate::worker::in_words;

/// Makes the topic unless it is there; returns its partitions.
pub async fn ensure(client: &Client, topic: &CreateTopic) -> Result<i32, String> {
    match client.topic_partitions(&topic.name).await {
        Ok(partitions) => return Ok(partitions),
        Err(ClientError::UnknownTopic { .. }) => {}
        Err(error) => return Err(in_words(error)),
    }
    client
        .call(Target::Controller, topic)
        .await
        .map_err(in_words)?;
    client.topic_partitions(&topic.name).await.map_err(in_words)
}

pub async fn remove(client: &Client, name: &str) -> Result<(), String> {
    let call = DeleteTopic {
        name: name.to_string(),
    };
    let removed = client.call(Target::Controller, &call).await;
    removed.map(|_| ()).map_err(in_words)
}

/// Records in all partitions.
async fn records(client: &Client, topic: &str, partitions: i32) -> Result<i64, String> {
    let mut all = 0;
    for partition in 0..partitions {
        let leader = client.with_metadata(|metadata| metadata.leader(topic, partition));
        let target = Target::Broker(leader.map_err(in_words)?.0);
        for (spec, sign) in [(OffsetSpec::End, 1), (OffsetSpec::Beginning, -1)] {
            let call = ListOffsets {
                topic: topic.to_string(),
                partitions: vec![partition],
                spec,
            };
            let found = client.call(target, &call).await.map_err(in_words)?;
            for one in found {
                all += sign * one.offset.map_err(in_words)?.unwrap_or(0);
            }
        }
    }
    Ok(all)
}

/// What the topic is to hold before it is read.
pub struct Fill<'a> {
    pub topic: &'a str,
    pub partitions: i32,
    pub bytes: u64,
    pub record_bytes: usize,
    pub payload: &'a Payload,
    pub producer: ProducerSettings,
}

/// Fills the topic up, as fast as the broker takes it; returns the records written.
pub async fn fill(client: &Client, fill: &Fill<'_>) -> Result<u64, String> {
    let wanted = fill.bytes / fill.record_bytes as u64;
    let there = records(client, fill.topic, fill.partitions).await?.max(0) as u64;
    let missing = wanted.saturating_sub(there);
    let producer = ProducerHandle::start(client, fill.producer.clone(), |_| {});
    let mut values = Values::new(fill.payload, fill.record_bytes, 0)?;
    for index in 0..missing {
        let record = RecordToSend {
            value: Some(values.next(0)),
            partition: Some((index % fill.partitions as u64) as i32),
            ..Default::default()
        };
        producer.send(fill.topic, &record).await.map_err(in_words)?;
        if index % 1024 == 0 {
            // Lets what was queued leave.
            monoio::time::sleep(std::time::Duration::ZERO).await;
        }
    }
    producer.flush().await;
    match records(client, fill.topic, fill.partitions).await?.max(0) as u64 {
        found if found >= wanted => Ok(missing),
        found => Err(format!(
            "only {found} of {wanted} records are in {} after filling it",
            fill.topic
        )),
    }
}
