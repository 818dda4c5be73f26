//! The producers of a thread: each has connections of its own and sends when a record is due.
//!
//! A record that is due and finds its producer's buffer full stays due: it is sent later and its
//! latency still counts from its moment. Nothing waits for an answer before the next record is sent,
//! except in a closed loop, which says so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use highwater_client::driver::ProducerHandle;
use highwater_client::producer::{Delivery, ProducerSettings};
use highwater_client::{ClientError, RecordToSend};

use crate::clock::{Alarm, now_ns};
use crate::payload::Values;
use crate::plan::{Pace, Plan, Spread};
use crate::recorder::{Recorder, SeriesKind};
use crate::schedule::Schedule;
use crate::worker::{self, Tasks, Worker, in_words, no_timer};

/// Before a full buffer is tried again.
const FULL_NS: u64 = 200_000;
/// How often the end is looked for while nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Records sent before answers are looked at, when many are due at once.
const TURN_RECORDS: usize = 256;

/// A producer and what it has not been told yet.
pub struct Lane {
    handle: ProducerHandle,
    waiting: Rc<Waiting>,
    values: Values,
    topic: String,
    partitions: i32,
    spread: Spread,
    sent: u64,
}

/// The due moments of records that are not settled, by token.
#[derive(Default)]
struct Waiting {
    due: RefCell<Due>,
    recorder: RefCell<Option<Rc<RefCell<Recorder>>>>,
    record_bytes: u64,
    outstanding: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Due {
    first_token: u64,
    due_ns: VecDeque<Option<u64>>,
}

impl Due {
    fn put(&mut self, token: u64, due_ns: u64) {
        if self.due_ns.is_empty() {
            self.first_token = token;
        }
        assert_eq!(
            token,
            self.first_token + self.due_ns.len() as u64,
            "tokens count up"
        );
        self.due_ns.push_back(Some(due_ns));
    }

    fn take(&mut self, token: u64) -> Option<u64> {
        let at = token.checked_sub(self.first_token)?;
        let found = self.due_ns.get_mut(at as usize)?.take();
        while let Some(None) = self.due_ns.front() {
            self.due_ns.pop_front();
            self.first_token += 1;
        }
        found
    }
}

impl Waiting {
    fn settle(&self, delivery: &Delivery) {
        let now = now_ns();
        let recorder = self.recorder.borrow();
        let mut recorder = recorder.as_ref().map(|one| one.borrow_mut());
        for token in &delivery.tokens {
            let Some(due_ns) = self.due.borrow_mut().take(*token) else {
                continue;
            };
            self.outstanding.set(self.outstanding.get() - 1);
            match (&mut recorder, &delivery.outcome) {
                (Some(recorder), Ok(_)) => recorder.succeeded(due_ns, now, self.record_bytes),
                (Some(recorder), Err(error)) => recorder.failed(due_ns, 1, &error.to_string()),
                (None, _) => {}
            }
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until fewer than `count` are outstanding.
    async fn fewer_than(&self, count: usize) {
        poll_fn(|context| {
            if self.outstanding.get() < count {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Makes the producers of a thread and lets each send one record, so that connections and producer
/// ids are there before the first one counts.
pub async fn connect(worker: &Worker, count: usize) -> Result<Vec<Lane>, String> {
    let plan = &worker.plan;
    let mut lanes = Vec::new();
    for index in 0..count {
        let client = worker::connect(&plan.bootstrap).await?;
        client
            .topic_partitions(&plan.topic)
            .await
            .map_err(in_words)?;
        let waiting = Rc::new(Waiting {
            record_bytes: plan.record_bytes as u64,
            ..Waiting::default()
        });
        let settings = ProducerSettings {
            sticky_start: (index * plan.threads + worker.thread) as u32,
            ..plan.producer.clone()
        };
        let settled = Rc::clone(&waiting);
        let seed = worker
            .mark
            .wrapping_add((index * plan.threads + worker.thread) as u64);
        let mut lane = Lane {
            handle: ProducerHandle::start(&client, settings, move |delivery| {
                settled.settle(delivery);
            }),
            waiting,
            values: Values::new(&plan.payload, plan.record_bytes, seed)?.marked(worker.mark),
            topic: plan.topic.clone(),
            partitions: plan.partitions,
            spread: plan.spread,
            sent: (index * plan.threads + worker.thread) as u64,
        };
        lane.first().await?;
        lanes.push(lane);
    }
    Ok(lanes)
}

impl Lane {
    async fn first(&mut self) -> Result<(), String> {
        let value = self.values.unmarked();
        let record = RecordToSend {
            value: Some(value),
            ..Default::default()
        };
        let sent = self.handle.send_and_wait(&self.topic, &record).await;
        sent.map(|_| ()).map_err(in_words)
    }

    /// Sends the record that was due then; `false` when the buffer is full.
    fn send(&mut self, due_ns: u64) -> bool {
        let partition = match self.spread {
            Spread::Sticky => None,
            Spread::RoundRobin => Some((self.sent % self.partitions as u64) as i32),
        };
        let record = RecordToSend {
            value: Some(self.values.next(due_ns)),
            partition,
            ..Default::default()
        };
        match self.handle.try_send(&self.topic, &record) {
            Ok(token) => {
                self.waiting.due.borrow_mut().put(token, due_ns);
                self.waiting
                    .outstanding
                    .set(self.waiting.outstanding.get() + 1);
            }
            Err(ClientError::BufferFull { .. }) => return false,
            Err(error) => self.failed(due_ns, &error.to_string()),
        }
        self.sent += 1;
        true
    }

    fn failed(&self, due_ns: u64, why: &str) {
        if let Some(recorder) = self.waiting.recorder.borrow().as_ref() {
            recorder.borrow_mut().failed(due_ns, 1, why);
        }
    }
}

/// Runs the producers to the end and waits for their answers.
pub async fn run(
    plan: &Plan,
    mut lanes: Vec<Lane>,
    tasks: &Tasks,
    schedule: &Rc<RefCell<Option<Schedule>>>,
) -> Result<(), String> {
    if lanes.is_empty() {
        return Ok(());
    }
    for lane in &lanes {
        let recorder = tasks.recorders.of(SeriesKind::Produce);
        *lane.waiting.recorder.borrow_mut() = Some(recorder);
    }
    let waiting: Vec<Rc<Waiting>> = lanes.iter().map(|lane| Rc::clone(&lane.waiting)).collect();
    // Producers end with their handles; they stay until everything is answered.
    let handles: Vec<ProducerHandle> = lanes.iter().map(|lane| lane.handle.clone()).collect();
    match plan.pace {
        Pace::Rate { .. } => {
            open_loop(&mut lanes, tasks, schedule)
                .await
                .map_err(no_timer)?;
            drop(lanes);
        }
        Pace::Closed { in_flight } => {
            let loops = lanes
                .into_iter()
                .map(|lane| monoio::spawn(closed_loop(lane, in_flight, tasks.times.clone())));
            for one in loops.collect::<Vec<_>>() {
                one.await.map_err(no_timer)?;
            }
        }
    }
    let outstanding = || waiting.iter().any(|one| one.outstanding.get() > 0);
    while outstanding() && now_ns() < tasks.times.drained_ns {
        monoio::time::sleep(LOOK_EVERY).await;
    }
    for lane in &waiting {
        let recorder = tasks.recorders.of(SeriesKind::Produce);
        for due_ns in lane.due.borrow().due_ns.iter().flatten() {
            let why = "not answered in time after the end";
            recorder.borrow_mut().failed(*due_ns, 1, why);
        }
    }
    drop(handles);
    Ok(())
}

async fn open_loop(
    lanes: &mut [Lane],
    tasks: &Tasks,
    schedule: &Rc<RefCell<Option<Schedule>>>,
) -> std::io::Result<()> {
    let mut alarm = Alarm::new()?;
    let mut next_lane = 0;
    alarm.at(tasks.times.start_ns).await?;
    loop {
        let mut wake_ns = 0;
        for _ in 0..TURN_RECORDS {
            let mut schedule = schedule.borrow_mut();
            let schedule = schedule.as_mut().expect("an open loop has a schedule");
            let due_ns = schedule.next_due_ns();
            if due_ns >= tasks.times.end_ns() {
                return Ok(());
            }
            if due_ns > now_ns() {
                wake_ns = due_ns;
                break;
            }
            let count = lanes.len();
            if !lanes[next_lane % count].send(due_ns) {
                wake_ns = now_ns() + FULL_NS;
                break;
            }
            schedule.take();
            next_lane += 1;
        }
        if now_ns() >= tasks.times.drained_ns {
            return Ok(());
        }
        match wake_ns {
            // More is due, but what was queued has to leave, too.
            0 => alarm.at(now_ns() + 1).await?,
            wake_ns => alarm.at(wake_ns).await?,
        }
    }
}

async fn closed_loop(
    mut lane: Lane,
    in_flight: usize,
    times: crate::worker::Times,
) -> std::io::Result<()> {
    Alarm::new()?.at(times.start_ns).await?;
    loop {
        let mut now = now_ns();
        while now < times.end_ns() && lane.waiting.outstanding.get() < in_flight && lane.send(now) {
            now = now_ns();
        }
        if now >= times.end_ns() {
            return Ok(());
        }
        let room = lane.waiting.outstanding.get().clamp(1, in_flight);
        let _ = monoio::time::timeout(LOOK_EVERY, lane.waiting.fewer_than(room)).await;
    }
}
