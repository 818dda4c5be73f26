//! One thread of load: connects its share, waits for the common start, runs, drains, tells.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use highwater_client::ClientError;
use highwater_client::driver::{Client, ClientSettings};

use crate::clock::{Alarm, now_ns, thread_cpu_ns, thread_waited_ns};
use crate::consumers;
use crate::plan::{Pace, Plan, ns_of, share_of};
use crate::producers;
use crate::recorder::{PIECE_NS, Recorder, SeriesKind, Tally};
use crate::schedule::Schedule;

/// Entries of a thread's ring.
const RING_ENTRIES: u32 = 4096;
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a thread tells while it runs and at its end.
pub enum Told {
    Ready,
    /// What ended in the piece of time from `start_ns` on.
    Piece {
        series: SeriesKind,
        start_ns: u64,
        tally: Tally,
        overdue: u64,
    },
    Ended {
        series: Vec<(SeriesKind, Tally, Vec<String>)>,
        /// CPU time within the measured time.
        cpu_ns: u64,
        /// Time within it that the thread was ready to run and had no core.
        waited_ns: u64,
    },
    Failed(String),
}

/// What all threads of a run see.
#[derive(Debug, Default)]
pub struct Common {
    /// Set once all are ready.
    pub start_ns: AtomicU64,
    /// Threads that still produce or wait for answers.
    pub producing: AtomicUsize,
}

/// When things begin and end.
#[derive(Clone, Debug)]
pub struct Times {
    pub start_ns: u64,
    pub measured_ns: Range<u64>,
    /// Until when answers are waited for.
    pub drained_ns: u64,
}

impl Times {
    pub fn new(plan: &Plan, start_ns: u64) -> Times {
        let measured_from = start_ns + ns_of(plan.warm_up_s);
        let end = measured_from + ns_of(plan.seconds);
        Times {
            start_ns,
            measured_ns: measured_from..end,
            drained_ns: end + ns_of(plan.drain_s),
        }
    }

    pub fn end_ns(&self) -> u64 {
        self.measured_ns.end
    }
}

/// The recorders of a thread, one for each series of the plan.
#[derive(Clone)]
pub struct Recorders(Rc<Vec<(SeriesKind, Rc<RefCell<Recorder>>)>>);

impl Recorders {
    fn new(plan: &Plan, measured_ns: &Range<u64>) -> Recorders {
        let recorder = |kind| {
            let recorder = Recorder::new(measured_ns.clone());
            (kind, Rc::new(RefCell::new(recorder)))
        };
        Recorders(Rc::new(plan.series().into_iter().map(recorder).collect()))
    }

    pub fn of(&self, kind: SeriesKind) -> Rc<RefCell<Recorder>> {
        let found = self.0.iter().find(|(known, _)| *known == kind);
        Rc::clone(&found.expect("the plan has this series").1)
    }
}

/// One thread's part of a run.
pub struct Worker {
    pub plan: Plan,
    pub thread: usize,
    pub mark: u64,
    pub common: std::sync::Arc<Common>,
    pub tell: SyncSender<Told>,
}

impl Worker {
    /// Runs to the end on this thread; the end is always told.
    pub fn run(self) {
        if let Some(first) = self.plan.first_core {
            let id = first + self.thread;
            if !core_affinity::set_for_current(core_affinity::CoreId { id }) {
                let why = format!("thread {} cannot be pinned to CPU {id}", self.thread);
                return self.end(Told::Failed(why));
            }
        }
        crate::clock::sharpen_timers();
        let runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .enable_timer()
            .build();
        let told = match runtime {
            Ok(mut runtime) => runtime.block_on(self.load()).unwrap_or_else(Told::Failed),
            Err(error) => Told::Failed(format!("the kernel refuses an io_uring: {error}")),
        };
        self.end(told);
    }

    fn end(&self, told: Told) {
        // Nobody listens when the run was given up.
        let _ = self.tell.send(told);
    }

    async fn load(&self) -> Result<Told, String> {
        let plan = &self.plan;
        let share = |all| share_of(all, self.thread, plan.threads);
        let lanes = producers::connect(self, share(plan.producers)).await?;
        let hot = consumers::connect_hot(self, share(plan.hot_consumers)).await?;
        let cold = consumers::connect_cold(self, share(plan.cold_consumers)).await?;
        self.end(Told::Ready);
        let times = self.common_start().await;
        let recorders = Recorders::new(plan, &times.measured_ns);
        let schedule = match plan.pace {
            Pace::Rate { per_s, burst } if !lanes.is_empty() => {
                let threads = plan.threads.min(plan.producers) as u64;
                let turn = (self.thread as u64, threads);
                Some(Schedule::new(times.start_ns, per_s, burst, turn))
            }
            Pace::Rate { .. } | Pace::Closed { .. } => None,
        };
        let schedule = Rc::new(RefCell::new(schedule));
        let tasks = Tasks {
            times: times.clone(),
            recorders: recorders.clone(),
            mark: self.mark,
        };
        let reading = consumers::start(self, hot, cold, &tasks);
        let cpu = monoio::spawn(cpu_of(times.measured_ns.clone()));
        let pieces = monoio::spawn(tell_pieces(
            self.tell.clone(),
            times.clone(),
            recorders.clone(),
            Rc::clone(&schedule),
        ));
        producers::run(plan, lanes, &tasks, &schedule).await?;
        self.common.producing.fetch_sub(1, Ordering::SeqCst);
        reading.ended().await;
        let (cpu_ns, waited_ns) = cpu.await.map_err(no_timer)?;
        pieces.await.map_err(no_timer)?;
        let series = recorders.0.iter().map(|(kind, recorder)| {
            let recorder = recorder.replace(Recorder::new(0..0));
            let (total, examples) = recorder.into_total();
            (*kind, total, examples)
        });
        Ok(Told::Ended {
            series: series.collect(),
            cpu_ns,
            waited_ns,
        })
    }

    async fn common_start(&self) -> Times {
        loop {
            match self.common.start_ns.load(Ordering::SeqCst) {
                0 => monoio::time::sleep(LOOK_EVERY).await,
                start_ns => return Times::new(&self.plan, start_ns),
            }
        }
    }
}

/// What every task of a thread needs.
#[derive(Clone)]
pub struct Tasks {
    pub times: Times,
    pub recorders: Recorders,
    pub mark: u64,
}

/// CPU time of this thread, and time that it waited for a core, within a range of time.
async fn cpu_of(range: Range<u64>) -> std::io::Result<(u64, u64)> {
    let mut alarm = Alarm::new()?;
    alarm.at(range.start).await?;
    let before = (thread_cpu_ns(), thread_waited_ns());
    alarm.at(range.end).await?;
    let after = (thread_cpu_ns(), thread_waited_ns());
    Ok((after.0 - before.0, after.1.saturating_sub(before.1)))
}

/// Tells each piece of time as it ends.
async fn tell_pieces(
    tell: SyncSender<Told>,
    times: Times,
    recorders: Recorders,
    schedule: Rc<RefCell<Option<Schedule>>>,
) -> std::io::Result<()> {
    let mut alarm = Alarm::new()?;
    // Pieces are counted from the beginning of the measured time, the warm-up's backwards.
    let warm_up_ns = times.measured_ns.start - times.start_ns;
    let mut start_ns = times.start_ns;
    let mut end_ns = times.start_ns + warm_up_ns % PIECE_NS;
    while start_ns < times.end_ns() {
        if end_ns > start_ns {
            alarm.at(end_ns).await?;
            let overdue = schedule
                .borrow()
                .as_ref()
                .map_or(0, |one| one.overdue(now_ns()));
            for (series, recorder) in recorders.0.iter() {
                let told = Told::Piece {
                    series: *series,
                    start_ns,
                    tally: recorder.borrow_mut().take_piece(),
                    overdue,
                };
                // A reader that is behind misses a piece of the picture, not of the result.
                let _ = tell.try_send(told);
            }
        }
        start_ns = end_ns;
        end_ns = (start_ns + PIECE_NS).min(times.end_ns());
    }
    Ok(())
}

/// A client with connections of its own.
pub async fn connect(bootstrap: &str) -> Result<Client, String> {
    let settings = ClientSettings {
        client_id: "highwater-bench".to_string(),
        ..Default::default()
    };
    Client::connect(bootstrap, settings).await.map_err(in_words)
}

/// A timer of the ring that is refused, in words.
pub fn no_timer(error: std::io::Error) -> String {
    format!("a timer cannot be had: {error}")
}

pub fn in_words(error: ClientError) -> String {
    error.to_string()
}
