//! The cluster as one thing: links to its brokers, metadata, and calls that find their broker.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use highwater_base::{ErrorCode, Now};

use super::clock::Clock;
use super::link::Link;
use super::runtime::Runtime;
use super::signal::Signal;
use crate::calls::{
    AfterFailure, AnswerError, Attempts, Call, FetchMetadata, ListOffsets, OffsetSpec, Target,
};
use crate::connection::RequestHead;
use crate::error::{ClientError, ErrorKind};
use crate::metadata::MetadataCache;

/// Wait before another attempt after a failure that may pass.
pub(super) const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// How the client names itself in the broker's logs.
    pub client_id: String,
    /// How long connecting may take, per address.
    pub connect_timeout_ms: u64,
    /// How long one answer may take.
    pub request_timeout_ms: u64,
    /// How long a call may take, retries included.
    pub call_timeout_ms: u64,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            client_id: "highwater-client".to_string(),
            connect_timeout_ms: 5_000,
            request_timeout_ms: 40_000,
            call_timeout_ms: 15_000,
        }
    }
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Client<R: Runtime> {
    pub(super) inner: Rc<Inner>,
    runtime: PhantomData<R>,
}

pub(super) struct Inner {
    settings: ClientSettings,
    bootstrap: Vec<String>,
    clock: Clock,
    pub(super) metadata: RefCell<MetadataCache>,
    links: RefCell<BTreeMap<i32, Rc<Link>>>,
    bootstrap_link: RefCell<Option<Rc<Link>>>,
    connecting: RefCell<BTreeSet<i32>>,
    refreshing: RefCell<BTreeSet<String>>,
    troubles: RefCell<BTreeMap<Source, ClientError>>,
    /// A link opened or failed, or metadata arrived.
    pub(super) changed: Signal,
    attempts: Cell<usize>,
}

/// What may fail for a while and is tried again in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Metadata,
    ProducerId,
    Broker(i32),
}

/// The addresses of a comma-separated list, each `HOST:PORT`.
fn addresses_of(list: &str) -> Result<Vec<String>, ClientError> {
    let addresses = list.split(',').map(str::trim);
    let addresses: Vec<String> = addresses
        .filter(|address| !address.is_empty())
        .map(String::from)
        .collect();
    let has_port = |address: &String| {
        let parts = address.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    match addresses.iter().find(|address| !has_port(address)) {
        None if !addresses.is_empty() => Ok(addresses),
        wrong => Err(ClientError::Usage(format!(
            "{:?} names no broker; name it as HOST:PORT, for example 127.0.0.1:9092",
            wrong.map_or(list, String::as_str)
        ))),
    }
}

/// Two tasks may have connected at the same time: the link that was there first stays.
fn keep_first(place: &mut Option<Rc<Link>>, link: Rc<Link>) -> Rc<Link> {
    if let Some(first) = place.as_ref().filter(|first| first.is_open()) {
        link.end();
        return Rc::clone(first);
    }
    Rc::clone(place.insert(link))
}

/// Links live in their tasks; the last user of the client ends them.
impl Drop for Inner {
    fn drop(&mut self) {
        let bootstrap = self.bootstrap_link.get_mut().take();
        for link in self.links.get_mut().values().chain(&bootstrap) {
            link.end();
        }
    }
}

impl<R: Runtime> Client<R> {
    /// Connects to one of `bootstrap` (comma-separated `HOST:PORT`) and learns about the brokers.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn connect(bootstrap: &str, settings: ClientSettings) -> Result<Self, ClientError> {
        let bootstrap = addresses_of(bootstrap)?;
        let client = Client {
            inner: Rc::new(Inner {
                settings,
                bootstrap,
                clock: Clock::start(),
                metadata: RefCell::default(),
                links: RefCell::default(),
                bootstrap_link: RefCell::new(None),
                connecting: RefCell::default(),
                refreshing: RefCell::default(),
                troubles: RefCell::default(),
                changed: Signal::default(),
                attempts: Cell::new(0),
            }),
            runtime: PhantomData,
        };
        client.refresh(Some(Vec::new())).await?;
        Ok(client)
    }

    /// The moment, as the client's clock has it.
    #[must_use]
    pub fn now(&self) -> Now {
        self.inner.clock.now()
    }

    /// When a call that begins now gives up.
    pub(super) fn call_deadline_ns(&self) -> u64 {
        self.now().plus_ms(self.inner.settings.call_timeout_ms)
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.settings.request_timeout_ms)
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.inner.settings.connect_timeout_ms)
    }

    /// Looks at the newest metadata.
    pub fn with_metadata<T>(&self, look: impl FnOnce(&MetadataCache) -> T) -> T {
        look(&self.inner.metadata.borrow())
    }

    pub(super) async fn open(&self, address: &str) -> Result<Rc<Link>, ClientError> {
        Link::open::<R>(
            address,
            &self.inner.settings.client_id,
            self.connect_timeout(),
        )
        .await
    }

    /// A link to any broker: an open one, else one of the known brokers, else a bootstrap address.
    pub(super) async fn any_link(&self) -> Result<Rc<Link>, ClientError> {
        let open = |link: &&Rc<Link>| link.is_open();
        if let Some(link) = self.inner.links.borrow().values().find(open) {
            return Ok(Rc::clone(link));
        }
        if let Some(link) = self.inner.bootstrap_link.borrow().as_ref().filter(open) {
            return Ok(Rc::clone(link));
        }
        let mut addresses = self.inner.bootstrap.clone();
        let known = self.with_metadata(|metadata| {
            metadata
                .brokers()
                .map(|one| format!("{}:{}", one.host, one.port))
                .collect::<Vec<_>>()
        });
        addresses.extend(known);
        let first = self.inner.attempts.get();
        self.inner.attempts.set(first + 1);
        let mut last = None;
        for step in 0..addresses.len() {
            match self
                .open(&addresses[(first + step) % addresses.len()])
                .await
            {
                Ok(link) => {
                    let mut place = self.inner.bootstrap_link.borrow_mut();
                    return Ok(keep_first(&mut place, link));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ClientError::Usage("no broker is known".to_string())))
    }

    /// A link to one broker.
    ///
    /// # Errors
    /// The broker is unknown or cannot be reached.
    pub(super) async fn link(&self, broker: i32) -> Result<Rc<Link>, ClientError> {
        if let Some(link) = self.open_link(broker) {
            return Ok(link);
        }
        let address = self.with_metadata(|metadata| {
            metadata
                .broker(broker)
                .map(|one| format!("{}:{}", one.host, one.port))
        });
        let address = address.ok_or(ClientError::UnknownBroker { id: broker })?;
        let link = self.open(&address).await?;
        let mut links = self.inner.links.borrow_mut();
        let mut place = links.remove(&broker);
        let link = keep_first(&mut place, link);
        links.insert(broker, Rc::clone(&link));
        Ok(link)
    }

    /// The open link to a broker, if there is one.
    pub(super) fn open_link(&self, broker: i32) -> Option<Rc<Link>> {
        let links = self.inner.links.borrow();
        links
            .get(&broker)
            .filter(|link| link.is_open())
            .map(Rc::clone)
    }

    /// Whether a broker can take a request now; if it is not connected, connecting begins and
    /// `changed` tells its end.
    pub(super) fn may_use(&self, broker: i32) -> bool {
        if let Some(link) = self.open_link(broker) {
            return link.has_room();
        }
        if !self.inner.connecting.borrow_mut().insert(broker) {
            return false;
        }
        let client = self.clone();
        R::spawn(async move {
            let opened = client.link(broker).await;
            client.note(Source::Broker(broker), &opened);
            if opened.is_ok() {
                // Nobody asks for metadata only to learn that it can be had again.
                client.note(Source::Metadata, &opened);
            } else {
                // The broker may have moved; and one that is down is not tried in a loop.
                let _ = client.refresh(Some(Vec::new())).await;
                R::sleep(RETRY_BACKOFF).await;
            }
            client.inner.connecting.borrow_mut().remove(&broker);
            client.inner.changed.notify();
        });
        false
    }

    /// Asks for metadata of these topics in the background, unless that is under way.
    pub(super) fn refresh_in_background(&self, topics: Vec<String>) {
        let mut refreshing = self.inner.refreshing.borrow_mut();
        let topics: Vec<String> = topics
            .into_iter()
            .filter(|topic| refreshing.insert(topic.clone()))
            .collect();
        drop(refreshing);
        if topics.is_empty() {
            return;
        }
        let client = self.clone();
        R::spawn(async move {
            if client.refresh(Some(topics.clone())).await.is_err() {
                R::sleep(RETRY_BACKOFF).await;
            }
            let mut refreshing = client.inner.refreshing.borrow_mut();
            for topic in &topics {
                refreshing.remove(topic);
            }
            drop(refreshing);
            client.inner.changed.notify();
        });
    }

    /// Renews metadata: of all topics, or of some.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn refresh(&self, topics: Option<Vec<String>>) -> Result<(), ClientError> {
        let refreshed = self.fetch_metadata(topics).await;
        self.note(Source::Metadata, &refreshed);
        refreshed
    }

    async fn fetch_metadata(&self, topics: Option<Vec<String>>) -> Result<(), ClientError> {
        let link = self.any_link().await?;
        let answer = self.call_on(&link, &FetchMetadata { topics }).await?;
        let mut metadata = self.inner.metadata.borrow_mut();
        metadata.update(answer);
        // Nobody waits for a broker that left the cluster.
        let stays = |source: &Source, _: &mut ClientError| match source {
            Source::Broker(id) => metadata.broker(*id).is_some(),
            Source::Metadata | Source::ProducerId => true,
        };
        self.inner.troubles.borrow_mut().retain(stays);
        drop(metadata);
        self.inner.changed.notify();
        Ok(())
    }

    /// Remembers how the newest attempt of this kind ended.
    pub(super) fn note<T>(&self, source: Source, outcome: &Result<T, ClientError>) {
        let mut troubles = self.inner.troubles.borrow_mut();
        match outcome {
            Ok(_) => troubles.remove(&source),
            Err(error) => troubles.insert(source, error.clone()),
        };
    }

    /// What fails at the moment and is tried again in the background.
    #[must_use]
    pub fn trouble(&self) -> Option<ClientError> {
        self.inner.troubles.borrow().values().next().cloned()
    }

    /// Makes sure that a topic's metadata is known; returns its number of partitions. A topic that
    /// was just created may take a moment to get its leaders.
    ///
    /// # Errors
    /// The topic does not exist, or no broker answers.
    pub async fn topic_partitions(&self, topic: &str) -> Result<i32, ClientError> {
        let deadline_ns = self.now().plus_ms(self.inner.settings.call_timeout_ms);
        loop {
            let known = self.with_metadata(|metadata| metadata.partition_count(topic));
            match known {
                Ok(count) => return Ok(count),
                Err(error) if self.now().reached(deadline_ns) => return Err(error),
                Err(_) => {}
            }
            self.refresh(Some(vec![topic.to_string()])).await?;
            match self.with_metadata(|metadata| metadata.partition_count(topic)) {
                Err(error) if error.kind() == ErrorKind::Retriable => {
                    R::sleep(RETRY_BACKOFF).await;
                }
                settled => return settled,
            }
        }
    }

    pub(super) async fn call_on<C: Call>(
        &self,
        link: &Rc<Link>,
        call: &C,
    ) -> Result<C::Answer, ClientError> {
        self.call_within(link, call, self.request_timeout()).await
    }

    /// Runs a call once on a link, whose answer may take this long.
    pub(super) async fn call_within<C: Call>(
        &self,
        link: &Rc<Link>,
        call: &C,
        timeout: Duration,
    ) -> Result<C::Answer, ClientError> {
        let version = link.version(C::API, C::VERSION_MAX)?;
        let head = RequestHead::new(C::API, version);
        let answer = link.send(head, |out| call.encode(version, out))?;
        let response = link.within::<R>(timeout, "the request", answer).await?;
        call.decode(version, &response.body)
            .map_err(|error| match error {
                AnswerError::Refused(error) => error,
                AnswerError::Missing(_) => link.protocol(&error.to_string()),
                AnswerError::Decode(_) => {
                    let error = link.protocol(&error.to_string());
                    link.close(error.clone());
                    error
                }
            })
    }

    async fn target_link(&self, target: Target) -> Result<Rc<Link>, ClientError> {
        let controller = self.with_metadata(MetadataCache::controller_id);
        match (target, controller) {
            (Target::Broker(id), _) | (Target::Controller, Some(id)) => self.link(id).await,
            (Target::Any, _) | (Target::Controller, None) => self.any_link().await,
        }
    }

    /// Runs a call where it belongs, again while its failure may pass and time is left. Only for
    /// calls that may be repeated; one whose answer was lost counts as done when its repetition
    /// finds it done (see [`Call::found_done`]).
    ///
    /// # Errors
    /// The last failure.
    pub async fn call<C: Call>(&self, target: Target, call: &C) -> Result<C::Answer, ClientError> {
        let deadline_ns = self.now().plus_ms(self.inner.settings.call_timeout_ms);
        let mut attempts = Attempts::default();
        loop {
            let result = match self.target_link(target).await {
                Ok(link) => self.call_on(&link, call).await,
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(answer) => {
                    self.until_known(call.made_topic(), deadline_ns).await;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match attempts.failed(call, error) {
                AfterFailure::Done(answer) => {
                    self.until_known(call.made_topic(), deadline_ns).await;
                    return Ok(answer);
                }
                AfterFailure::GiveUp(error) => return Err(error),
                AfterFailure::Repeat(error) if self.now().reached(deadline_ns) => {
                    return Err(error);
                }
                AfterFailure::Repeat(_) => {}
            }
            R::sleep(RETRY_BACKOFF).await;
            let refreshed = self.refresh(Some(Vec::new())).await;
            // With an answer lost, a broker that is down is waited for: it may come back and tell.
            if !attempts.may_have_worked() {
                refreshed?;
            }
        }
    }

    /// Waits until a topic that was made is in the metadata. That it is not is no failure to make it.
    async fn until_known(&self, topic: Option<&str>, deadline_ns: u64) {
        let Some(topic) = topic else { return };
        while !self.now().reached(deadline_ns) {
            // A link that fails is opened anew in the next round.
            let _ = self.refresh(Some(vec![topic.to_string()])).await;
            if self.with_metadata(|metadata| metadata.partition_count(topic).is_ok()) {
                return;
            }
            R::sleep(RETRY_BACKOFF).await;
        }
    }

    /// Runs a call at the leader of a partition, again after leadership moved.
    ///
    /// # Errors
    /// The last failure.
    pub async fn call_leader<C: Call>(
        &self,
        topic: &str,
        partition: i32,
        call: &C,
    ) -> Result<C::Answer, ClientError> {
        self.topic_partitions(topic).await?;
        let (leader, _) = self.with_metadata(|metadata| metadata.leader(topic, partition))?;
        match self.call(Target::Broker(leader), call).await {
            Err(error) if error.code() == Some(ErrorCode::NotLeaderOrFollower) => {
                self.refresh(Some(vec![topic.to_string()])).await?;
                let found = self.with_metadata(|metadata| metadata.leader(topic, partition))?;
                self.call(Target::Broker(found.0), call).await
            }
            result => result,
        }
    }

    /// Looks up one offset of every partition of a topic, at their leaders.
    ///
    /// # Errors
    /// The topic does not exist, or a leader cannot be reached.
    pub async fn list_offsets(
        &self,
        topic: &str,
        spec: OffsetSpec,
    ) -> Result<BTreeMap<i32, Result<Option<i64>, ClientError>>, ClientError> {
        let count = self.topic_partitions(topic).await?;
        let mut offsets = BTreeMap::new();
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in 0..count {
            match self.with_metadata(|metadata| metadata.leader(topic, partition)) {
                Ok((leader, _)) => by_leader.entry(leader).or_default().push(partition),
                Err(error) => {
                    offsets.insert(partition, Err(error));
                }
            }
        }
        for (leader, partitions) in by_leader {
            let call = ListOffsets {
                topic: topic.to_string(),
                partitions,
                spec,
            };
            for found in self.call(Target::Broker(leader), &call).await? {
                offsets.insert(found.partition, found.offset);
            }
        }
        Ok(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_wrong_usage() {
        let listed = addresses_of("a:1, [::1]:9092,,b.c:65535").expect("addresses");
        assert_eq!(listed, ["a:1", "[::1]:9092", "b.c:65535"]);
        for wrong in ["", ",", "a", "a:1,b", "a:", ":1", "a:65536", "a:port"] {
            let error = addresses_of(wrong).expect_err(wrong);
            assert!(error.to_string().contains("HOST:PORT"), "{error}");
            assert!(matches!(error, ClientError::Usage(_)));
        }
    }
}
