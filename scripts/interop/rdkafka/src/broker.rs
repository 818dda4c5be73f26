//! The broker under test as this client sees it: topics, sending, reading, and what is compared.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

/// Longest wait for any single answer; a healthy broker on loopback needs milliseconds.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A record as it is sent and as it must come back; without timestamp the client chooses one.
#[derive(Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Option<Vec<u8>>)>,
    pub timestamp_ms: Option<i64>,
}

pub fn numbered(count: usize, partition: i32, prefix: &str) -> Vec<Record> {
    let one = |number| Record {
        partition,
        key: Some(format!("key-{number}").into_bytes()),
        value: Some(format!("{prefix}-{partition}-{number}").into_bytes()),
        ..Record::default()
    };
    (0..count).map(one).collect()
}

/// Text that every codec shrinks at least fivefold.
pub fn compressible(size: usize) -> Vec<u8> {
    let line = b"the high-water mark is the offset below which all is committed\n";
    line.iter().copied().cycle().take(size).collect()
}

/// Bytes without visible pattern, the same on every run.
pub fn incompressible(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Checks count, offset continuity from `first_offset` in every partition, and all content.
pub fn verify(read: &[OwnedMessage], expected: &[Record], first_offset: i64) {
    assert_eq!(read.len(), expected.len(), "records read");
    let mut wanted: BTreeMap<i32, Vec<&Record>> = BTreeMap::new();
    for record in expected {
        wanted.entry(record.partition).or_default().push(record);
    }
    for (partition, wanted) in wanted {
        let got: Vec<_> = read
            .iter()
            .filter(|one| one.partition() == partition)
            .collect();
        assert_eq!(got.len(), wanted.len(), "records of partition {partition}");
        for (index, (actual, want)) in got.iter().zip(wanted).enumerate() {
            let offset = first_offset + index as i64;
            let at = format!("partition {partition} offset {offset}");
            assert_eq!(actual.offset(), offset, "{at}: offset");
            assert_eq!(actual.key(), want.key.as_deref(), "{at}: key");
            assert!(
                actual.payload() == want.value.as_deref(),
                "{at}: value differs"
            );
            let headers: Vec<_> = actual
                .headers()
                .into_iter()
                .flat_map(|all| all.iter())
                .collect();
            assert_eq!(headers.len(), want.headers.len(), "{at}: headers");
            for (header, (name, value)) in headers.iter().zip(&want.headers) {
                assert_eq!(
                    (header.key, header.value),
                    (*name, value.as_deref()),
                    "{at}: header"
                );
            }
            let timestamp = actual.timestamp().to_millis().unwrap_or(0);
            assert!(timestamp > 0, "{at}: no timestamp");
            assert_eq!(
                want.timestamp_ms.unwrap_or(timestamp),
                timestamp,
                "{at}: timestamp"
            );
        }
    }
}

/// Waits for a condition; it may poll.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Expects a failure with that error code.
pub fn fails<T>(result: Result<T, KafkaError>, expected: RDKafkaErrorCode, what: &str) {
    match result {
        Ok(_) => panic!("{what}: no error, expected {expected:?}"),
        // rdkafka_error_code() knows nothing of the errors of admin requests.
        Err(KafkaError::AdminOp(code)) => assert_eq!(code, expected, "{what}"),
        Err(error) => assert_eq!(
            error.rdkafka_error_code(),
            Some(expected),
            "{what}: {error}"
        ),
    }
}

/// Takes the answer about the one thing that was asked.
pub fn only<T, N>(
    answers: Result<Vec<Result<T, (N, RDKafkaErrorCode)>>, KafkaError>,
) -> Result<T, KafkaError> {
    let first = answers?.into_iter().next().expect("an answer");
    first.map_err(|(_, code)| KafkaError::AdminOp(code))
}

/// Collects what became of each record, by its place in the order of sending.
#[derive(Default)]
struct Deliveries(Mutex<BTreeMap<usize, Result<i64, KafkaError>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<usize>) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        self.0
            .lock()
            .expect("no check panics in here")
            .insert(*place, outcome);
    }
}

pub struct Broker {
    pub bootstrap: String,
    prefix: String,
    pub admin: AdminClient<DefaultClientContext>,
    pub options: AdminOptions,
}

impl Broker {
    pub fn new(bootstrap: &str, prefix: &str) -> Broker {
        let admin = config(bootstrap, &[]).create().expect("an admin client");
        let options = AdminOptions::new()
            .operation_timeout(Some(LIMIT))
            .request_timeout(Some(LIMIT));
        Broker {
            bootstrap: bootstrap.to_string(),
            prefix: prefix.to_string(),
            admin,
            options,
        }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub fn try_create(
        &self,
        topic: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<String, KafkaError> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in configs {
            new = new.set(name, value);
        }
        only(block_on(self.admin.create_topics([&new], &self.options)))
    }

    /// Creates a topic and returns its full name once every partition has a leader.
    pub fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
        let topic = self
            .try_create(&self.name(name), partitions, configs)
            .expect("created");
        eventually("described after its creation", || {
            self.leaders(&topic) == partitions as usize
        });
        topic
    }

    /// How many partitions of the topic have a leader.
    pub fn leaders(&self, topic: &str) -> usize {
        let metadata = self
            .admin
            .inner()
            .fetch_metadata(Some(topic), LIMIT)
            .expect("metadata");
        let partitions = metadata.topics()[0].partitions();
        partitions
            .iter()
            .filter(|one| one.error().is_none() && one.leader() >= 0)
            .count()
    }

    /// Sends all in one flush; returns the offsets in the order sent, or the first error.
    pub fn produce(
        &self,
        topic: &str,
        records: &[Record],
        more: &[(&str, &str)],
    ) -> Result<Vec<i64>, KafkaError> {
        let mut config = config(&self.bootstrap, &[("acks", "all"), ("linger.ms", "20")]);
        for (name, value) in more {
            config.set(*name, *value);
        }
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default())?;
        for (place, record) in records.iter().enumerate() {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header {
                    key,
                    value: value.as_ref(),
                });
            }
            let mut sent =
                BaseRecord::<[u8], [u8], Box<usize>>::with_opaque_to(topic, Box::new(place))
                    .partition(record.partition)
                    .headers(headers);
            sent.key = record.key.as_deref();
            sent.payload = record.value.as_deref();
            sent.timestamp = record.timestamp_ms;
            producer.send(sent).map_err(|(error, _)| error)?;
        }
        producer.flush(LIMIT)?;
        let outcomes = std::mem::take(&mut *producer.context().0.lock().expect("unpoisoned"));
        assert_eq!(outcomes.len(), records.len(), "delivery reports");
        outcomes.into_values().collect()
    }

    pub fn send(&self, topic: &str, records: &[Record]) {
        self.produce(topic, records, &[]).expect("produced");
    }

    pub fn consumer(&self) -> BaseConsumer {
        let more = [
            ("group.id", "interop-never-joined"),
            ("auto.offset.reset", "error"),
        ];
        config(&self.bootstrap, &more).create().expect("a consumer")
    }

    /// Reads `count` records of the first partitions by assignment, each from that offset.
    pub fn read(
        &self,
        topic: &str,
        partitions: i32,
        from: Offset,
        count: usize,
    ) -> Result<Vec<OwnedMessage>, KafkaError> {
        let consumer = self.consumer();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, from)?;
        }
        consumer.assign(&assignment)?;
        poll(&consumer, count)
    }

    /// Leaves the broker as it was found; what cannot be deleted is no failure here.
    pub fn delete_own_topics(&self) {
        let Ok(metadata) = self.admin.inner().fetch_metadata(None, LIMIT) else {
            return;
        };
        let names = metadata.topics().iter().map(|topic| topic.name());
        let own: Vec<&str> = names
            .filter(|name| name.starts_with(&self.prefix))
            .collect();
        if let Err(error) = block_on(self.admin.delete_topics(&own, &self.options)) {
            eprintln!("topics of this run stay: {error}");
        }
    }
}

pub fn config(bootstrap: &str, more: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "3");
    for (name, value) in more {
        config.set(*name, *value);
    }
    if more.iter().any(|(name, _)| *name == "group.id") {
        config
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50");
    }
    config
}

/// Polls until that many records have come, and a little longer to see that no more do.
pub fn poll<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    count: usize,
) -> Result<Vec<OwnedMessage>, KafkaError> {
    let mut read = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while read.len() < count {
        assert!(
            Instant::now() < deadline,
            "only {} of {count} records",
            read.len()
        );
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            read.push(message?.detach());
        }
    }
    while let Some(message) = consumer.poll(Duration::from_millis(50)) {
        read.push(message?.detach());
    }
    Ok(read)
}
