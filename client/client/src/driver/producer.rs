//! The producer on its sockets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use highwater_wire::ApiKey;

use super::client::{Client, Source};
use super::link::{Answer, Link};
use super::signal::Signal;
use crate::calls::{InitProducerId, Target};
use crate::connection::RequestHead;
use crate::error::ClientError;
use crate::producer::{
    Delivery, PRODUCE_VERSION_MAX, ProduceRequestPlan, Producer, ProducerSettings, Receipt,
};
use crate::record::RecordToSend;

/// Grace on top of what the broker may take for a request.
const ANSWER_GRACE_MS: u64 = 5_000;
/// How long the sender sleeps when nothing tells it to wake earlier.
const IDLE_MS: u64 = 1_000;

/// A running producer. Clones share it; it ends with the last one.
#[derive(Clone)]
pub struct ProducerHandle {
    shared: Rc<Shared>,
    /// Held by handles only, so that the sender notices when the last one is gone.
    _alive: Rc<Alive>,
}

struct Shared {
    client: Client,
    core: RefCell<Producer>,
    on_delivery: RefCell<OnDelivery>,
    awaited: RefCell<BTreeMap<u64, Option<Delivered>>>,
    token_next: std::cell::Cell<u64>,
    /// There may be something to send.
    work: Signal,
    /// Something was delivered.
    delivered: Signal,
    ended: std::cell::Cell<bool>,
}

type OnDelivery = Box<dyn FnMut(&Delivery)>;
type Delivered = Result<(i32, Option<i64>), ClientError>;

struct Alive(Rc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.ended.set(true);
        self.0.work.notify();
    }
}

impl ProducerHandle {
    /// Starts a producer. `on_delivery` sees the fate of every batch.
    #[must_use]
    pub fn start(
        client: &Client,
        settings: ProducerSettings,
        on_delivery: impl FnMut(&Delivery) + 'static,
    ) -> ProducerHandle {
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
        monoio::spawn(run(Rc::clone(&shared)));
        monoio::spawn(forward_changes(Rc::clone(&shared)));
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

    /// Sends a record and waits until it is delivered. Returns partition and offset.
    ///
    /// # Errors
    /// It was not delivered.
    pub async fn send_and_wait(
        &self,
        topic: &str,
        record: &RecordToSend<'_>,
    ) -> Result<(i32, Option<i64>), ClientError> {
        let token = self.send(topic, record).await?;
        self.shared.awaited.borrow_mut().insert(token, None);
        loop {
            let seen = self.shared.delivered.seen();
            let done = self
                .shared
                .awaited
                .borrow_mut()
                .get_mut(&token)
                .and_then(Option::take);
            if let Some(outcome) = done {
                self.shared.awaited.borrow_mut().remove(&token);
                return outcome;
            }
            self.shared.delivered.changed_since(seen).await;
        }
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
async fn forward_changes(shared: Rc<Shared>) {
    while !shared.ended.get() {
        let seen = shared.client.inner.changed.seen();
        let changed = shared.client.inner.changed.changed_since(seen);
        let _ = monoio::time::timeout(Duration::from_millis(IDLE_MS), changed).await;
        shared.work.notify();
    }
}

async fn run(shared: Rc<Shared>) {
    loop {
        let seen = shared.work.seen();
        let now = shared.client.now();
        shared.core.borrow_mut().handle_timeouts_if_due(now);
        if shared.core.borrow_mut().poll_identity(now) {
            monoio::spawn(identify(Rc::clone(&shared)));
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
                let _ = monoio::time::timeout(Duration::from_nanos(wait), changed).await;
            }
            None => changed.await,
        }
    }
}

fn next_plan(shared: &Rc<Shared>) -> Option<ProduceRequestPlan> {
    let now = shared.client.now();
    let metadata = shared.client.inner.metadata.borrow();
    let mut core = shared.core.borrow_mut();
    core.poll_request(now, &metadata, &mut |broker| shared.client.may_use(broker))
}

fn dispatch(shared: &Rc<Shared>, plan: ProduceRequestPlan) {
    let sent = send_plan(shared, plan);
    if sent.is_err() {
        shared.client.note(Source::Broker(plan.broker), &sent);
    }
    let now = shared.client.now();
    match sent {
        Ok((link, version, answer)) => {
            monoio::spawn(settle(Rc::clone(shared), plan, link, version, answer));
        }
        Err(error) => shared
            .core
            .borrow_mut()
            .handle_unsendable(now, plan.request, &error),
    }
}

fn send_plan(
    shared: &Rc<Shared>,
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

async fn settle(
    shared: Rc<Shared>,
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
        .within(Duration::from_millis(timeout_ms), "Produce", answer)
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

async fn identify(shared: Rc<Shared>) {
    let answer = shared.client.call(Target::Any, &InitProducerId).await;
    let now = shared.client.now();
    shared.client.note(Source::ProducerId, &answer);
    shared.core.borrow_mut().handle_identity(now, answer);
    report(&shared);
    shared.work.notify();
}

/// Tells the fate of what was settled.
fn report(shared: &Rc<Shared>) {
    let mut any = false;
    loop {
        let Some(delivery) = shared.core.borrow_mut().poll_delivery() else {
            break;
        };
        any = true;
        (shared.on_delivery.borrow_mut())(&delivery);
        let mut awaited = shared.awaited.borrow_mut();
        if awaited.is_empty() {
            continue;
        }
        for (index, token) in delivery.tokens.iter().enumerate() {
            if let Some(slot) = awaited.get_mut(token) {
                *slot = Some(outcome_of(&delivery.outcome, delivery.partition, index));
            }
        }
    }
    if any {
        shared.delivered.notify();
    }
}

fn outcome_of(outcome: &Result<Receipt, ClientError>, partition: i32, index: usize) -> Delivered {
    match outcome {
        Ok(receipt) => Ok((
            partition,
            receipt.base_offset.map(|base| base + index as i64),
        )),
        Err(error) => Err(error.clone()),
    }
}
