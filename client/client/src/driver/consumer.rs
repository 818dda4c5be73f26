//! The consumer on its sockets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use highwater_wire::ApiKey;

use super::client::Client;
use super::link::{Answer, Link};
use super::runtime::Runtime;
use super::signal::Signal;
use crate::calls::{ListOffsets, Target};
use crate::connection::RequestHead;
use crate::consumer::{
    Consumer, ConsumerRequest, ConsumerSettings, FETCH_VERSION_MAX, Fetched, Start,
};
use crate::error::ClientError;

/// How long the fetcher sleeps when nothing tells it to wake earlier.
const IDLE_MS: u64 = 1_000;

/// A running consumer. It ends when this is dropped.
pub struct ConsumerHandle<R: Runtime> {
    shared: Rc<Shared<R>>,
}

struct Shared<R: Runtime> {
    client: Client<R>,
    core: RefCell<Consumer>,
    /// There may be something to ask for.
    work: Signal,
    /// There may be records.
    arrived: Signal,
    ended: Cell<bool>,
}

impl<R: Runtime> Drop for ConsumerHandle<R> {
    fn drop(&mut self) {
        self.shared.ended.set(true);
        self.shared.work.notify();
    }
}

impl<R: Runtime> ConsumerHandle<R> {
    /// Starts a consumer of these partitions of one topic.
    ///
    /// # Errors
    /// The topic or a partition does not exist.
    pub async fn start(
        client: &Client<R>,
        settings: ConsumerSettings,
        topic: &str,
        partitions: &[i32],
        start: Start,
    ) -> Result<Self, ClientError> {
        let count = client.topic_partitions(topic).await?;
        let handle = ConsumerHandle::idle(client, settings);
        for partition in partitions {
            if !(0..count).contains(partition) {
                let (topic, partition) = (topic.to_string(), *partition);
                return Err(ClientError::UnknownPartition {
                    topic,
                    partition,
                    last: count - 1,
                });
            }
            handle.assign(topic, *partition, start);
        }
        Ok(handle)
    }

    /// Starts a consumer without partitions.
    #[must_use]
    pub fn idle(client: &Client<R>, settings: ConsumerSettings) -> Self {
        let shared = Rc::new(Shared {
            client: client.clone(),
            core: RefCell::new(Consumer::new(settings)),
            work: Signal::default(),
            arrived: Signal::default(),
            ended: Cell::new(false),
        });
        R::spawn(run(Rc::clone(&shared)));
        R::spawn(forward_changes(Rc::clone(&shared)));
        ConsumerHandle { shared }
    }

    /// Adds a partition, or moves one that there is.
    pub fn assign(&self, topic: &str, partition: i32, start: Start) {
        let mut core = self.shared.core.borrow_mut();
        core.unassign(topic, partition);
        core.assign(topic, partition, start);
        drop(core);
        self.shared.work.notify();
    }

    /// Takes a partition away; what was fetched of it is dropped.
    pub fn unassign(&self, topic: &str, partition: i32) {
        self.shared.core.borrow_mut().unassign(topic, partition);
    }

    /// The next offset the caller will see, where it is known.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.shared.core.borrow().position(topic, partition)
    }

    /// Whether every partition was read up to its high-water mark as last heard.
    #[must_use]
    pub fn reached_end(&self) -> bool {
        self.shared.core.borrow().reached_end()
    }

    pub(super) fn arrived(&self) -> &Signal {
        &self.shared.arrived
    }

    /// Records that are already here.
    ///
    /// # Errors
    /// See [`Consumer::poll`].
    pub fn poll(&self) -> Result<Option<Fetched>, ClientError> {
        let polled = self.shared.core.borrow_mut().poll()?;
        if polled.is_some() {
            self.shared.work.notify();
        }
        Ok(polled)
    }

    /// Waits for the next records.
    ///
    /// # Errors
    /// See [`Consumer::poll`].
    pub async fn next(&self) -> Result<Fetched, ClientError> {
        loop {
            let seen = self.shared.arrived.seen();
            if let Some(fetched) = self.poll()? {
                return Ok(fetched);
            }
            self.shared.arrived.changed_since(seen).await;
        }
    }

    /// Like [`ConsumerHandle::next`], but `None` once every partition was read up to its
    /// high-water mark.
    ///
    /// # Errors
    /// See [`Consumer::poll`].
    pub async fn next_before_end(&self) -> Result<Option<Fetched>, ClientError> {
        loop {
            let seen = self.shared.arrived.seen();
            if let Some(fetched) = self.poll()? {
                return Ok(Some(fetched));
            }
            if self.shared.core.borrow().reached_end() {
                return Ok(None);
            }
            self.shared.arrived.changed_since(seen).await;
        }
    }

    /// Why records are not coming, where something is in their way: what to tell somebody who
    /// waits. It passes by itself or becomes an error of [`ConsumerHandle::next`].
    #[must_use]
    pub fn trouble(&self) -> Option<ClientError> {
        let core = self.shared.core.borrow();
        core.trouble()
            .cloned()
            .or_else(|| self.shared.client.trouble())
    }
}

async fn forward_changes<R: Runtime>(shared: Rc<Shared<R>>) {
    while !shared.ended.get() {
        let seen = shared.client.inner.changed.seen();
        let changed = shared.client.inner.changed.changed_since(seen);
        let _ = R::timeout(Duration::from_millis(IDLE_MS), changed).await;
        shared.work.notify();
    }
}

async fn run<R: Runtime>(shared: Rc<Shared<R>>) {
    while !shared.ended.get() {
        let seen = shared.work.seen();
        while let Some(request) = next_request(&shared) {
            match request {
                ConsumerRequest::Offsets {
                    request,
                    broker,
                    call,
                } => {
                    R::spawn(look_up(Rc::clone(&shared), request, broker, call));
                }
                ConsumerRequest::Fetch { request, broker } => fetch(&shared, request, broker),
            }
        }
        let wanted = shared.core.borrow_mut().take_metadata_wanted();
        shared.client.refresh_in_background(wanted);
        let now = shared.client.now();
        let deadline_ns = shared.core.borrow().next_deadline_ns(now);
        let changed = shared.work.changed_since(seen);
        match deadline_ns {
            Some(at) => {
                let wait = at.saturating_sub(now.monotonic_ns).max(1_000_000);
                let _ = R::timeout(Duration::from_nanos(wait), changed).await;
            }
            None => changed.await,
        }
    }
}

fn next_request<R: Runtime>(shared: &Rc<Shared<R>>) -> Option<ConsumerRequest> {
    let now = shared.client.now();
    let metadata = shared.client.inner.metadata.borrow();
    let mut core = shared.core.borrow_mut();
    let request = core.poll_request(now, &metadata, &mut |broker| shared.client.may_use(broker));
    drop(core);
    // A partition that turned out to be missing is the caller's to hear of.
    shared.arrived.notify();
    request
}

async fn look_up<R: Runtime>(shared: Rc<Shared<R>>, request: u64, broker: i32, call: ListOffsets) {
    let answer = shared.client.call(Target::Broker(broker), &call).await;
    let now = shared.client.now();
    match answer {
        Ok(answer) => shared
            .core
            .borrow_mut()
            .handle_offsets(now, request, answer),
        Err(error) => shared
            .core
            .borrow_mut()
            .handle_failure(now, request, &error),
    }
    shared.work.notify();
    shared.arrived.notify();
}

fn fetch<R: Runtime>(shared: &Rc<Shared<R>>, request: u64, broker: i32) {
    match send_fetch(shared, request, broker) {
        Ok((link, version, answer)) => {
            R::spawn(settle(Rc::clone(shared), request, link, version, answer));
        }
        Err(error) => {
            let now = shared.client.now();
            shared
                .core
                .borrow_mut()
                .handle_failure(now, request, &error);
        }
    }
}

fn send_fetch<R: Runtime>(
    shared: &Rc<Shared<R>>,
    request: u64,
    broker: i32,
) -> Result<(Rc<Link>, i16, Answer), ClientError> {
    let link = shared
        .client
        .open_link(broker)
        .ok_or_else(|| ClientError::Disconnected {
            address: format!("broker {broker}"),
            reason: "the link was closed".to_string(),
        })?;
    let version = link.version(ApiKey::Fetch, FETCH_VERSION_MAX)?;
    let core = shared.core.borrow();
    let head = RequestHead::new(ApiKey::Fetch, version);
    let answer = link.send(head, |out| core.encode_fetch(request, version, out))?;
    Ok((Rc::clone(&link), version, answer))
}

async fn settle<R: Runtime>(
    shared: Rc<Shared<R>>,
    request: u64,
    link: Rc<Link>,
    version: i16,
    answer: Answer,
) {
    let timeout = shared.client.request_timeout();
    let answer = link.within::<R>(timeout, "Fetch", answer).await;
    let now = shared.client.now();
    let mut core = shared.core.borrow_mut();
    match answer {
        Ok(response) => {
            if let Err(error) = core.handle_fetch(now, request, version, &response.body) {
                let error = link.protocol(&error.to_string());
                core.handle_failure(now, request, &error);
                link.close(error);
            }
        }
        Err(error) => core.handle_failure(now, request, &error),
    }
    drop(core);
    shared.work.notify();
    shared.arrived.notify();
}
