//! A consumer that shares topics with the other members of its group.
//!
//! A background task keeps the membership alive; whatever changes what the caller works on happens
//! inside [`GroupConsumer::poll`], so that nothing is taken away while it works on it. What `poll`
//! has returned counts as done when `poll` is called again: that is what is committed, every
//! interval, before partitions are given up, and by [`GroupConsumer::close`]. The coordinator has a
//! connection of its own, because a join is answered only when the rebalance is over.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::client::{Client, RETRY_BACKOFF};
use super::consumer::ConsumerHandle;
use super::link::Link;
use super::runtime::Runtime;
use super::signal::Signal;
use crate::calls::{Call, CommittedOffset, OffsetFetch, OffsetSpec};
use crate::consumer::{ConsumerSettings, Fetched, Start};
use crate::error::{ClientError, ErrorKind};
use crate::group::{Change, GroupCommand, GroupRequest, GroupSettings, Membership, TopicPartition};

/// Beyond the rebalance timeout, what a join may take.
const JOIN_GRACE_MS: u64 = 5_000;
/// How long the background task sleeps when nothing tells it to wake earlier.
const IDLE_MS: u64 = 1_000;
/// How long leaving may take; the session timeout does it otherwise.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a member consumes.
#[derive(Clone, Debug)]
pub struct GroupConsumerSettings {
    pub group: GroupSettings,
    pub consumer: ConsumerSettings,
    /// Where to start in a partition of which the group has committed nothing.
    pub start: OffsetSpec,
    /// How often what was returned is committed; `None` leaves it to [`GroupConsumer::commit`].
    pub commit_interval_ms: Option<u64>,
}

/// See the module.
pub struct GroupConsumer<R: Runtime> {
    shared: Rc<Shared<R>>,
    fetcher: ConsumerHandle<R>,
    settings: GroupConsumerSettings,
    commit_at_ns: Cell<u64>,
}

struct Shared<R: Runtime> {
    client: Client<R>,
    membership: RefCell<Membership>,
    coordinator: RefCell<Option<Rc<Link>>>,
    join_timeout: Duration,
    /// What the group is known to have committed.
    committed: RefCell<BTreeMap<TopicPartition, i64>>,
    committing: Cell<bool>,
    work: Signal,
    ended: Cell<bool>,
}

impl<R: Runtime> Drop for GroupConsumer<R> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<R: Runtime> GroupConsumer<R> {
    /// A member of a group, subscribed to topics. It joins with the first `poll`.
    #[must_use]
    pub fn subscribe(
        client: &Client<R>,
        settings: GroupConsumerSettings,
        topics: &[String],
    ) -> Self {
        let mut consumer = settings.consumer.clone();
        consumer.out_of_range = Some(settings.start);
        let join_ms = settings.group.poll_interval_max_ms + JOIN_GRACE_MS;
        let shared = Rc::new(Shared {
            client: client.clone(),
            membership: RefCell::new(Membership::new(settings.group.clone(), topics)),
            coordinator: RefCell::new(None),
            join_timeout: Duration::from_millis(join_ms),
            committed: RefCell::default(),
            committing: Cell::new(false),
            work: Signal::default(),
            ended: Cell::new(false),
        });
        R::spawn(run(Rc::clone(&shared)));
        GroupConsumer {
            shared,
            fetcher: ConsumerHandle::idle(client, consumer),
            settings,
            commit_at_ns: Cell::new(0),
        }
    }

    /// The next records, waiting at most `wait` for them. Partitions come and go in here.
    ///
    /// # Errors
    /// The group refuses the member for good, or a partition cannot go on.
    pub async fn poll(&self, wait: Duration) -> Result<Option<Fetched>, ClientError> {
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let clock = &self.shared.client;
        let until_ns = clock.now().monotonic_ns.saturating_add(wait_ns);
        loop {
            self.check_in()?;
            let (group_seen, seen) = (self.shared.work.seen(), self.fetcher.arrived().seen());
            let change = self.shared.membership.borrow().change().cloned();
            if let Some(change) = change {
                self.carry_out(&change).await?;
                continue;
            }
            self.commit_when_due();
            if let Some(fetched) = self.fetcher.poll()? {
                return Ok(Some(fetched));
            }
            let group = self.shared.work.changed_since(group_seen);
            let records = self.fetcher.arrived().changed_since(seen);
            let changed = either(group, records);
            let left_ns = until_ns.saturating_sub(clock.now().monotonic_ns);
            let changed = R::timeout(Duration::from_nanos(left_ns), changed);
            if changed.await.is_none() {
                return Ok(None);
            }
        }
    }

    fn check_in(&self) -> Result<(), ClientError> {
        let now = self.shared.client.now();
        let mut membership = self.shared.membership.borrow_mut();
        if let Some(error) = membership.failure() {
            return Err(error.clone());
        }
        let joins = membership.generation().is_none();
        membership.polled(now);
        drop(membership);
        if joins {
            self.shared.work.notify();
        }
        Ok(())
    }

    async fn carry_out(&self, change: &Change) -> Result<(), ClientError> {
        if !change.revoked.is_empty() && self.settings.commit_interval_ms.is_some() {
            // Whoever gets them reads again what could not be committed.
            let _ = self.commit().await;
        }
        for gone in change.revoked.iter().chain(&change.lost) {
            self.fetcher.unassign(&gone.topic, gone.partition);
            self.shared.committed.borrow_mut().remove(gone);
        }
        if !change.added.is_empty() {
            let committed = self.look_up(change.added.iter().cloned().collect()).await?;
            for added in &change.added {
                let start = match committed.get(added) {
                    Some(known) => Start::Offset(known.offset),
                    None => Start::At(self.settings.start),
                };
                self.fetcher.assign(&added.topic, added.partition, start);
            }
            let known = committed.into_iter().map(|(at, one)| (at, one.offset));
            self.shared.committed.borrow_mut().extend(known);
        }
        let now = self.shared.client.now();
        self.shared.membership.borrow_mut().settled(now);
        self.shared.work.notify();
        Ok(())
    }

    async fn look_up(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let call = OffsetFetch {
            group: self.settings.group.group.clone(),
            partitions: Some(partitions),
            require_stable: true,
        };
        self.shared.patiently(&call, || Ok(())).await
    }

    /// Where the caller is in every partition it works on, as far as that is known.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        let membership = self.shared.membership.borrow();
        let known = membership.owned().iter().filter_map(|at| {
            let position = self.fetcher.position(&at.topic, at.partition)?;
            Some((at.clone(), position))
        });
        known.collect()
    }

    /// Goes on at another offset, in a partition that it works on.
    pub fn seek(&self, at: &TopicPartition, offset: i64) {
        if self.shared.membership.borrow().owned().contains(at) {
            self.fetcher
                .assign(&at.topic, at.partition, Start::Offset(offset));
        }
    }

    /// What is new to the group of where the caller is.
    fn uncommitted(&self) -> BTreeMap<TopicPartition, CommittedOffset> {
        let committed = self.shared.committed.borrow();
        let positions = self.positions().into_iter();
        let new = positions.filter(|(at, offset)| committed.get(at) != Some(offset));
        new.map(|(at, offset)| (at, CommittedOffset::at(offset)))
            .collect()
    }

    /// Commits everything that `poll` has returned.
    ///
    /// # Errors
    /// The group went on without the member, or a partition refuses its offset.
    pub async fn commit(&self) -> Result<(), ClientError> {
        self.shared.commit(self.uncommitted()).await
    }

    /// Like [`GroupConsumer::commit`], without waiting; what fails is in the next commit again.
    pub fn commit_in_background(&self) {
        let offsets = self.uncommitted();
        if offsets.is_empty() || self.shared.committing.replace(true) {
            return;
        }
        let shared = Rc::clone(&self.shared);
        R::spawn(async move {
            let _ = shared.commit(offsets).await;
            shared.committing.set(false);
        });
    }

    fn commit_when_due(&self) {
        let now = self.shared.client.now();
        let Some(interval_ms) = self.settings.commit_interval_ms else {
            return;
        };
        if now.reached(self.commit_at_ns.get()) {
            self.commit_at_ns.set(now.plus_ms(interval_ms));
            self.commit_in_background();
        }
    }

    /// Whether the member has an assignment, and every partition of it was read up to its
    /// high-water mark.
    #[must_use]
    pub fn reached_end(&self) -> bool {
        self.shared.membership.borrow().is_stable() && self.fetcher.reached_end()
    }

    /// What is in the way at the moment; it passes, or becomes an error of `poll`.
    #[must_use]
    pub fn trouble(&self) -> Option<ClientError> {
        let membership = self.shared.membership.borrow();
        let trouble = membership.trouble().cloned();
        trouble.or_else(|| self.fetcher.trouble())
    }

    /// Commits, where commits are made by interval, and leaves the group.
    ///
    /// # Errors
    /// What was returned last could not be committed.
    pub async fn close(self) -> Result<(), ClientError> {
        let committed = match self.settings.commit_interval_ms {
            Some(_) => self.commit().await,
            None => Ok(()),
        };
        let leave = self
            .shared
            .membership
            .borrow_mut()
            .leave("the consumer was closed");
        let link = self.shared.coordinator.borrow().clone();
        if let (Some(leave), Some(link)) = (leave, link) {
            // A coordinator that cannot be told finds out by the session timeout.
            let client = &self.shared.client;
            let _ = client.call_within(&link, &leave, LEAVE_TIMEOUT).await;
        }
        committed
    }
}

impl<R: Runtime> Shared<R> {
    fn end(&self) {
        self.ended.set(true);
        if let Some(link) = self.coordinator.borrow_mut().take() {
            link.end();
        }
        self.work.notify();
    }

    fn link(&self) -> Result<Rc<Link>, ClientError> {
        let link = self.coordinator.borrow().clone();
        link.filter(|link| link.is_open())
            .ok_or_else(|| ClientError::Disconnected {
                address: "the group's coordinator".to_string(),
                reason: "it is being looked for".to_string(),
            })
    }

    async fn commit(
        &self,
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let call = self.membership.borrow().commit(offsets)?;
        let results = self.patiently(&call, || self.membership.borrow().check_commit(&call));
        for (at, result) in results.await.inspect_err(|error| {
            let now = self.client.now();
            let mut membership = self.membership.borrow_mut();
            membership.handle_commit_failure(now, call.generation, error);
            self.work.notify();
        })? {
            result?;
            if let Some(done) = call.offsets.get(&at) {
                self.committed.borrow_mut().insert(at, done.offset);
            }
        }
        Ok(())
    }

    /// A call failed on this link. Only what the present coordinator does concerns the member.
    fn tell_membership(&self, link: Option<&Rc<Link>>, error: &ClientError) {
        let place = self.coordinator.borrow();
        let is_present = match (link, place.as_ref()) {
            (Some(used), Some(present)) => Rc::ptr_eq(used, present),
            (Some(_), None) => false,
            // It was closed before anything could be sent.
            (None, _) => true,
        };
        if is_present {
            let now = self.client.now();
            self.membership.borrow_mut().coordinator_lost(now, error);
            self.work.notify();
        }
    }

    /// Runs a call at the coordinator, again while its failure may pass, time is left and `may_go`
    /// says that it still makes sense.
    async fn patiently<C: Call>(
        &self,
        call: &C,
        may_go: impl Fn() -> Result<(), ClientError>,
    ) -> Result<C::Answer, ClientError> {
        let deadline_ns = self.client.call_deadline_ns();
        loop {
            may_go()?;
            let link = self.link();
            let answer = match &link {
                Ok(link) => self.client.call_on(link, call).await,
                Err(error) => Err(error.clone()),
            };
            match answer {
                Err(error)
                    if error.kind() == ErrorKind::Retriable
                        && !self.client.now().reached(deadline_ns) =>
                {
                    self.tell_membership(link.as_ref().ok(), &error);
                    R::sleep(RETRY_BACKOFF).await;
                }
                settled => return settled,
            }
        }
    }
}

/// Done as soon as one of two signals is.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => other.as_mut().poll(context),
    })
    .await;
}

async fn run<R: Runtime>(shared: Rc<Shared<R>>) {
    while !shared.ended.get() {
        let seen = shared.work.seen();
        loop {
            let now = shared.client.now();
            let command = shared.membership.borrow_mut().poll_request(now);
            let Some(command) = command else { break };
            R::spawn(execute(Rc::clone(&shared), command));
        }
        let now = shared.client.now();
        let deadline_ns = shared.membership.borrow().next_deadline_ns(now);
        let idle = Duration::from_millis(IDLE_MS);
        let until = |at: u64| Duration::from_nanos(at.saturating_sub(now.monotonic_ns));
        let wait = deadline_ns.map_or(idle, |at| until(at).clamp(Duration::from_millis(1), idle));
        let changed = shared.work.changed_since(seen);
        let _ = R::timeout(wait, changed).await;
    }
}

async fn execute<R: Runtime>(shared: Rc<Shared<R>>, command: GroupCommand) {
    let GroupCommand { request, what } = command;
    let client = &shared.client;
    match what {
        GroupRequest::FindCoordinator(call) => {
            let found = connect(&shared, &call).await;
            let mut membership = shared.membership.borrow_mut();
            membership.handle_coordinator(client.now(), request, found);
        }
        GroupRequest::Metadata { topics } => {
            let renewed = client.refresh(Some(topics)).await;
            let metadata = client.inner.metadata.borrow();
            let answer = renewed.map(|()| &*metadata);
            let mut membership = shared.membership.borrow_mut();
            membership.handle_metadata(client.now(), request, answer);
        }
        GroupRequest::Join(call) => {
            let answer = at_coordinator(&shared, &call).await;
            let mut membership = shared.membership.borrow_mut();
            membership.handle_join(client.now(), request, answer);
        }
        GroupRequest::Sync(call) => {
            let answer = at_coordinator(&shared, &call).await;
            let mut membership = shared.membership.borrow_mut();
            membership.handle_sync(client.now(), request, answer);
        }
        GroupRequest::Heartbeat(call) => {
            let answer = at_coordinator(&shared, &call).await;
            let mut membership = shared.membership.borrow_mut();
            membership.handle_heartbeat(client.now(), request, answer);
        }
        GroupRequest::Leave(call) => {
            let _ = at_coordinator(&shared, &call).await;
        }
    }
    shared.work.notify();
}

async fn at_coordinator<R: Runtime, C: Call>(
    shared: &Shared<R>,
    call: &C,
) -> Result<C::Answer, ClientError> {
    let link = shared.link()?;
    shared
        .client
        .call_within(&link, call, shared.join_timeout)
        .await
}

async fn connect<R: Runtime>(
    shared: &Shared<R>,
    call: &crate::calls::FindCoordinator,
) -> Result<(), ClientError> {
    let any = shared.client.any_link().await?;
    let found = shared.client.call_on(&any, call).await?;
    let link = shared.client.open(&found.address()).await?;
    let mut place = shared.coordinator.borrow_mut();
    if let Some(old) = place.replace(link) {
        old.end();
    }
    Ok(())
}
