//! The producer on its sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use highwater_wire::ApiKey;

use super::client::{Client, Source};
use super::delivery::{Awaited, Delivered, DeliveryFuture};
use super::link::{Answer, Link};
use super::runtime::Runtime;
use super::signal::Signal;
use crate::calls::{InitProducerId, Target};
use crate::connection::RequestHead;
use crate::error::ClientError;
use crate::producer::{
    Delivery, PRODUCE_VERSION_MAX, ProduceRequestPlan, Producer, ProducerSettings,
};
use crate::record::RecordToSend;

/// Grace on top of what the broker may take for a request.
const ANSWER_GRACE_MS: u64 = 5_000;
/// How long the sender sleeps when nothing tells it to wake earlier.
const IDLE_MS: u64 = 1_000;

/// A running producer. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct ProducerHandle<R: Runtime> {
    shared: Rc<Shared<R>>,
    /// Held by handles only, so that the sender notices when the last one is gone.
    _alive: Rc<Alive<R>>,
}

struct Shared<R: Runtime> {
    client: Client<R>,
    core: RefCell<Producer>,
    on_delivery: RefCell<OnDelivery>,
    awaited: RefCell<Awaited>,
    token_next: std::cell::Cell<u64>,
    /// There may be something to send.
    work: Signal,
    /// Something was delivered.
    delivered: Signal,
    ended: std::cell::Cell<bool>,
}

type OnDelivery = Box<dyn FnMut(&Delivery)>;

struct Alive<R: Runtime>(Rc<Shared<R>>);

impl<R: Runtime> Drop for Alive<R> {
    fn drop(&mut self) {
        self.0.ended.set(true);
        self.0.work.notify();
    }
}

impl<R: Runtime> ProducerHandle<R> {
    /// Starts a producer. `on_delivery` sees the fate of every batch.
    #[must_use]
    pub fn start(
        client: &Client<R>,
        settings: ProducerSettings,
        on_delivery: impl FnMut(&Delivery) + 'static,
    ) -> Self {
        let shared = Rc::new(Shared {
            client: client.clone(),
            core: RefCell::new(Producer::new(settings)),
            on_delivery: RefCell::new(Box::new(on_delivery)),
            awaited: RefCell::default(),
            token_next: std::cell::Cell::new(0),
            work: Signal::default(),
            delivered: Signal::default(),
            ended: std::cell::Cell::new(false),
        });
        R::spawn(run(Rc::clone(&shared)));
        R::spawn(forward_changes(Rc::clone(&shared)));
        ProducerHandle {
            _alive: Rc::new(Alive(Rc::clone(&shared))),
            shared,
        }
    }

    /// Queues a record, waiting for room if the buffer is full. It leaves in this thread's next
    /// turn, together with whatever else was queued by then. Returns its token, which comes back in
    /// its delivery.
    ///
    /// # Errors
    /// The topic or partition does not exist, or the record is too large.
    pub async fn send(&self, topic: &str, record: &RecordToSend<'_>) -> Result<u64, ClientError> {
        loop {
            let seen = self.shared.delivered.seen();
            match self.try_send(topic, record) {
                Err(ClientError::UnknownTopic { .. }) => {
                    self.shared.client.topic_partitions(topic).await?;
                }
                Err(ClientError::BufferFull { .. }) => {
                    self.shared.delivered.changed_since(seen).await;
                }
                settled => return settled,
            }
        }
    }

    /// Queues a record if there is room and the topic is known.
    ///
    /// # Errors
    /// See [`Producer::send`].
    pub fn try_send(&self, topic: &str, record: &RecordToSend<'_>) -> Result<u64, ClientError> {
        let token = self.shared.token_next.get();
        let now = self.shared.client.now();
        let metadata = self.shared.client.inner.metadata.borrow();
        self.shared
            .core
            .borrow_mut()
            .send(now, &metadata, topic, record, token)?;
        self.shared.token_next.set(token + 1);
        self.shared.work.notify();
        Ok(token)
    }

    /// Like [`ProducerHandle::send`], and returns what tells the record's fate.
    ///
    /// # Errors
    /// The topic or partition does not exist, or the record is too large.
    pub async fn send_with_delivery(
        &self,
        topic: &str,
        record: &RecordToSend<'_>,
    ) -> Result<DeliveryFuture, ClientError> {
        let token = self.send(topic, record).await?;
        Ok(self.shared.awaited.borrow_mut().wait_for(token))
    }

    /// Sends a record and waits until it is delivered. Returns partition and offset.
    ///
    /// # Errors
    /// It was not delivered.
    pub async fn send_and_wait(&self, topic: &str, record: &RecordToSend<'_>) -> Delivered {
        self.send_with_delivery(topic, record).await?.await
    }

    /// Records neither delivered nor failed yet.
    #[must_use]
    pub fn outstanding_records(&self) -> usize {
        self.shared.core.borrow().outstanding_records()
    }

    /// Waits until everything sent so far is delivered or failed.
    pub async fn flush(&self) {
        loop {
            let seen = self.shared.delivered.seen();
            if self.outstanding_records() == 0 {
                return;
            }
            self.shared.delivered.changed_since(seen).await;
        }
    }

    /// The newest connection trouble, while it lasts: what to tell somebody who waits.
    #[must_use]
    pub fn trouble(&self) -> Option<ClientError> {
        self.shared.client.trouble()
    }
}

/// What the client learns may let something be sent.
async fn forward_changes<R: Runtime>(shared: Rc<Shared<R>>) {
    while !shared.ended.get() {
        let seen = shared.client.inner.changed.seen();
        let changed = shared.client.inner.changed.changed_since(seen);
        let _ = R::timeout(Duration::from_millis(IDLE_MS), changed).await;
        shared.work.notify();
    }
}

async fn run<R: Runtime>(shared: Rc<Shared<R>>) {
    loop {
        let seen = shared.work.seen();
        let now = shared.client.now();
        shared.core.borrow_mut().handle_timeouts_if_due(now);
        if shared.core.borrow_mut().poll_identity(now) {
            R::spawn(identify(Rc::clone(&shared)));
        }
        while let Some(plan) = next_plan(&shared) {
            dispatch(&shared, plan);
        }
        let wanted = shared.core.borrow_mut().take_metadata_wanted();
        shared.client.refresh_in_background(wanted);
        report(&shared);
        if shared.ended.get() && shared.core.borrow().outstanding_records() == 0 {
            return;
        }
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

fn next_plan<R: Runtime>(shared: &Rc<Shared<R>>) -> Option<ProduceRequestPlan> {
    let now = shared.client.now();
    let metadata = shared.client.inner.metadata.borrow();
    let mut core = shared.core.borrow_mut();
    core.poll_request(now, &metadata, &mut |broker| shared.client.may_use(broker))
}

fn dispatch<R: Runtime>(shared: &Rc<Shared<R>>, plan: ProduceRequestPlan) {
    let sent = send_plan(shared, plan);
    if sent.is_err() {
        shared.client.note(Source::Broker(plan.broker), &sent);
    }
    let now = shared.client.now();
    match sent {
        Ok((link, version, answer)) => {
            R::spawn(settle(Rc::clone(shared), plan, link, version, answer));
        }
        Err(error) => shared
            .core
            .borrow_mut()
            .handle_unsendable(now, plan.request, &error),
    }
}

fn send_plan<R: Runtime>(
    shared: &Rc<Shared<R>>,
    plan: ProduceRequestPlan,
) -> Result<(Rc<Link>, i16, Answer), ClientError> {
    let link = shared
        .client
        .open_link(plan.broker)
        .ok_or_else(|| ClientError::Disconnected {
            address: format!("broker {}", plan.broker),
            reason: "the link was closed".to_string(),
        })?;
    let version = link.version(ApiKey::Produce, PRODUCE_VERSION_MAX)?;
    let head = RequestHead {
        answered: plan.answered,
        ..RequestHead::new(ApiKey::Produce, version)
    };
    let core = shared.core.borrow();
    let answer = link.send(head, |out| core.encode_request(&plan, version, out))?;
    Ok((Rc::clone(&link), version, answer))
}

async fn settle<R: Runtime>(
    shared: Rc<Shared<R>>,
    plan: ProduceRequestPlan,
    link: Rc<Link>,
    version: i16,
    answer: Answer,
) {
    if !plan.answered {
        match answer.written().await {
            Ok(()) => shared.core.borrow_mut().handle_sent(plan.request),
            Err(_) => shared
                .core
                .borrow_mut()
                .handle_failure(shared.client.now(), plan.request),
        }
        report(&shared);
        shared.work.notify();
        return;
    }
    let timeout_ms = shared.core.borrow().settings().request_timeout_ms + ANSWER_GRACE_MS;
    let answer = link
        .within::<R>(Duration::from_millis(timeout_ms), "Produce", answer)
        .await;
    shared.client.note(Source::Broker(plan.broker), &answer);
    let now = shared.client.now();
    match answer {
        Ok(response) => {
            let mut core = shared.core.borrow_mut();
            if let Err(error) = core.handle_response(now, plan.request, version, &response.body) {
                link.close(link.protocol(&error.to_string()));
            }
        }
        Err(_) => shared.core.borrow_mut().handle_failure(now, plan.request),
    }
    report(&shared);
    shared.work.notify();
}

async fn identify<R: Runtime>(shared: Rc<Shared<R>>) {
    let answer = shared.client.call(Target::Any, &InitProducerId).await;
    let now = shared.client.now();
    shared.client.note(Source::ProducerId, &answer);
    shared.core.borrow_mut().handle_identity(now, answer);
    report(&shared);
    shared.work.notify();
}

/// Tells the fate of what was settled.
fn report<R: Runtime>(shared: &Rc<Shared<R>>) {
    let mut any = false;
    loop {
        let Some(delivery) = shared.core.borrow_mut().poll_delivery() else {
            break;
        };
        any = true;
        (shared.on_delivery.borrow_mut())(&delivery);
        shared.awaited.borrow_mut().settle(&delivery);
    }
    if any {
        shared.delivered.notify();
    }
}
