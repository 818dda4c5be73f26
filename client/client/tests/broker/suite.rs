//! What the behaviours share: a connected client, names of their own, records in and out.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater_client::calls::{CreateTopic, OffsetSpec, Target};
use highwater_client::consumer::{ConsumerSettings, Start};
use highwater_client::driver::any_runtime::{Client, ConsumerHandle, ProducerHandle};
use highwater_client::driver::{ClientSettings, Runtime};
use highwater_client::producer::ProducerSettings;
use highwater_client::{ClientError, FetchedRecord, RecordToSend};

pub const VARIABLE: &str = "HIGHWATER_TEST_BOOTSTRAP_SERVER";
/// How long a behaviour waits for what has to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime that a behaviour can be run on.
pub trait Harness: Runtime {
    fn block_on<F: Future>(future: F) -> std::io::Result<F::Output>;
}

#[cfg(feature = "monoio")]
impl Harness for highwater_client::driver::on_monoio::Monoio {
    fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
        highwater_client::driver::on_monoio::block_on(future)
    }
}

#[cfg(feature = "tokio")]
impl Harness for highwater_client::driver::on_tokio::Tokio {
    fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
        highwater_client::driver::on_tokio::block_on(future)
    }
}

/// The broker to test against; without one, says once that everything is skipped.
pub fn bootstrap() -> Option<String> {
    static SAID: Once = Once::new();
    let address = std::env::var(VARIABLE).ok().filter(|one| !one.is_empty());
    if address.is_none() {
        // Past the capture of the test harness, which hides what a passing test prints.
        let line = format!("\nskipped: {VARIABLE} names no broker (HOST:PORT)\n");
        SAID.call_once(|| drop(std::io::stderr().write_all(line.as_bytes())));
    }
    address
}

/// A name that nobody else uses, in this run or another.
pub fn name(what: &str, wall_ms: i64) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("rust-{what}-{wall_ms}-{}-{number}", std::process::id())
}

/// Runs a behaviour with a connected client.
pub fn run<R: Harness>(behaviour: impl AsyncFnOnce(Suite<R>)) {
    let Some(bootstrap) = bootstrap() else { return };
    R::block_on(async {
        let settings = ClientSettings::default();
        let client = Client::<R>::connect(&bootstrap, settings).await;
        let client = client.expect("the broker answers");
        behaviour(Suite { client, bootstrap }).await;
    })
    .expect("a runtime");
}

/// See the module.
pub struct Suite<R: Runtime> {
    pub client: Client<R>,
    pub bootstrap: String,
}

impl<R: Runtime> Suite<R> {
    pub fn name(&self, what: &str) -> String {
        name(what, self.client.now().wall_ms)
    }

    pub async fn topic(&self, what: &str, partitions: i32) -> String {
        self.topic_with(what, partitions, &[]).await
    }

    pub async fn topic_with(
        &self,
        what: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> String {
        let name = self.name(what);
        let configs = configs.iter();
        let call = CreateTopic {
            name: name.clone(),
            partitions,
            configs: configs
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            replication_factor: 1,
            ..CreateTopic::default()
        };
        let created = self.client.call(Target::Controller, &call).await;
        created.expect("a topic");
        let known = self.client.topic_partitions(&name).await;
        assert_eq!(known, Ok(partitions));
        name
    }

    pub fn producer(&self, settings: ProducerSettings) -> ProducerHandle<R> {
        ProducerHandle::start(&self.client, settings, |_| ())
    }

    /// Sends values to a partition, one after the other, and returns their offsets.
    pub async fn fill(&self, topic: &str, partition: i32, values: &[&str]) -> Vec<i64> {
        let producer = self.producer(ProducerSettings::default());
        let mut offsets = Vec::new();
        for value in values {
            let record = RecordToSend {
                value: Some(value.as_bytes()),
                partition: Some(partition),
                ..RecordToSend::default()
            };
            let sent = producer.send_and_wait(topic, &record).await;
            offsets.push(sent.expect("delivered").1.expect("an offset"));
        }
        offsets
    }

    pub async fn consumer(
        &self,
        topic: &str,
        partitions: &[i32],
        start: Start,
    ) -> ConsumerHandle<R> {
        let settings = ConsumerSettings::default();
        let started = ConsumerHandle::start(&self.client, settings, topic, partitions, start);
        started.await.expect("a consumer")
    }

    /// Reads a partition from a start until `count` records came.
    pub async fn read(
        &self,
        topic: &str,
        partition: i32,
        start: Start,
        count: usize,
    ) -> Vec<FetchedRecord> {
        let consumer = self.consumer(topic, &[partition], start).await;
        take(&consumer, count).await
    }

    /// Everything in a topic, by partition.
    pub async fn read_everything(
        &self,
        topic: &str,
        partitions: i32,
    ) -> BTreeMap<i32, Vec<FetchedRecord>> {
        let all: Vec<i32> = (0..partitions).collect();
        let start = Start::At(OffsetSpec::Beginning);
        let consumer = self.consumer(topic, &all, start).await;
        let mut read: BTreeMap<i32, Vec<FetchedRecord>> = BTreeMap::new();
        loop {
            let next = R::timeout(PATIENCE, consumer.next_before_end()).await;
            match next.expect("in time").expect("records") {
                Some(fetched) => {
                    let place = read.entry(fetched.partition).or_default();
                    place.extend(fetched.records);
                }
                None => return read,
            }
        }
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline_ns = self.client.now().plus_ms(PATIENCE.as_millis() as u64);
        while !holds().await {
            assert!(!self.client.now().reached(deadline_ns), "never: {what}");
            R::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The next `count` records of a consumer.
pub async fn take<R: Runtime>(consumer: &ConsumerHandle<R>, count: usize) -> Vec<FetchedRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let next = R::timeout(PATIENCE, consumer.next()).await;
        records.extend(next.expect("in time").expect("records").records);
    }
    records
}

pub fn values(records: &[FetchedRecord]) -> Vec<String> {
    let values = records.iter().filter_map(|record| record.value.as_deref());
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// An error's sentence has to name these.
pub fn assert_says(error: &ClientError, parts: &[&str]) {
    let said = error.to_string();
    for part in parts {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
}
