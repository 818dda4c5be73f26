//! One run: starts the threads, gathers what they tell, and makes a run of the report of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use hdrhistogram::Histogram;
use highwater_bench_report::warnings::Seen;
use highwater_bench_report::{Interval, Latency, Run, Series};

use crate::clock::{now_ns, wall_ns};
use crate::plan::{Pace, Plan, ns_of};
use crate::recorder::{SeriesKind, Tally};
use crate::worker::{Common, Times, Told, Worker};

/// What threads told and was not looked at yet; a run of hours tells one piece a second.
const TOLD_MAX: usize = 4096;
/// Between "all are ready" and the first record.
const LEAD_NS: u64 = 100_000_000;
/// Connecting and the first record of every producer.
const SET_UP: Duration = Duration::from_secs(120);
/// What a thread may need beyond the time that answers are waited for.
const GRACE: Duration = Duration::from_secs(30);

/// A run, and what its figures do not show.
pub struct Measured {
    pub run: Run,
    pub seen: Seen,
}

/// A piece of time that all threads have told of.
pub struct Progress<'a> {
    pub interval: &'a Interval,
    /// Seconds since the start, warm-up included.
    pub elapsed_s: f64,
    pub is_warm_up: bool,
}

/// Pieces of one series that begin at the same moment, from all threads.
struct Piece {
    tally: Tally,
    overdue: u64,
    threads: usize,
}

struct Gathered<'a> {
    plan: &'a Plan,
    times: Times,
    pieces: BTreeMap<(u64, SeriesKind), Piece>,
    intervals: Vec<Interval>,
    totals: BTreeMap<SeriesKind, (Tally, Vec<String>)>,
    cpu_ns_max: u64,
    waited_ns_max: u64,
    ended: usize,
}

/// Runs the plan; `progress` sees every second of it.
///
/// # Errors
/// A thread cannot connect, or does not end.
pub fn measure(
    plan: &Plan,
    label: &str,
    progress: &mut dyn FnMut(&Progress<'_>),
) -> Result<Measured, String> {
    let (tell, told) = sync_channel(TOLD_MAX);
    let common = Arc::new(Common::default());
    common.producing.store(plan.threads, Ordering::SeqCst);
    let mark = wall_ns();
    for thread in 0..plan.threads {
        let worker = Worker {
            plan: plan.clone(),
            thread,
            mark,
            common: Arc::clone(&common),
            tell: tell.clone(),
        };
        std::thread::Builder::new()
            .name(format!("load-{thread}"))
            .spawn(move || worker.run())
            .map_err(|error| format!("thread {thread} cannot be started: {error}"))?;
    }
    drop(tell);
    wait_until_ready(&told, plan.threads)?;
    let start_ns = now_ns() + LEAD_NS;
    let wall_offset = wall_ns() as i64 - now_ns() as i64;
    common.start_ns.store(start_ns, Ordering::SeqCst);
    let mut gathered = Gathered {
        plan,
        times: Times::new(plan, start_ns),
        pieces: BTreeMap::new(),
        intervals: Vec::new(),
        totals: BTreeMap::new(),
        cpu_ns_max: 0,
        waited_ns_max: 0,
        ended: 0,
    };
    while gathered.ended < plan.threads {
        let left = gathered.times.drained_ns.saturating_sub(now_ns());
        let told = told.recv_timeout(Duration::from_nanos(left) + GRACE);
        gathered.take(told.map_err(not_ended)?, progress)?;
    }
    let clock_step_ns = wall_ns() as i64 - now_ns() as i64 - wall_offset;
    let seen = Seen {
        wall_clock_step_ms: clock_step_ns.unsigned_abs() as f64 / 1e6,
        waited_share: gathered.waited_ns_max as f64 / ns_of(plan.seconds) as f64,
    };
    Ok(Measured {
        run: gathered.into_run(label),
        seen,
    })
}

fn not_ended(error: RecvTimeoutError) -> String {
    match error {
        RecvTimeoutError::Timeout => "a thread of the load does not end".to_string(),
        RecvTimeoutError::Disconnected => "a thread of the load ended early".to_string(),
    }
}

fn wait_until_ready(told: &Receiver<Told>, threads: usize) -> Result<(), String> {
    for _ in 0..threads {
        match told.recv_timeout(SET_UP) {
            Ok(Told::Ready) => {}
            Ok(Told::Failed(why)) => return Err(why),
            Ok(Told::Piece { .. } | Told::Ended { .. }) => {
                return Err("a thread began before the others were ready".to_string());
            }
            Err(_) => {
                let seconds = SET_UP.as_secs();
                return Err(format!("the load is not connected after {seconds} s"));
            }
        }
    }
    Ok(())
}

impl Gathered<'_> {
    fn take(&mut self, told: Told, progress: &mut dyn FnMut(&Progress<'_>)) -> Result<(), String> {
        match told {
            Told::Ready => {}
            Told::Failed(why) => return Err(why),
            Told::Piece {
                series,
                start_ns,
                tally,
                overdue,
            } => self.take_piece(series, start_ns, &tally, overdue, progress),
            Told::Ended {
                series,
                cpu_ns,
                waited_ns,
            } => {
                self.ended += 1;
                self.waited_ns_max = self.waited_ns_max.max(waited_ns);
                self.cpu_ns_max = self.cpu_ns_max.max(cpu_ns);
                for (kind, tally, examples) in series {
                    let (total, known) = self
                        .totals
                        .entry(kind)
                        .or_insert_with(|| (Tally::new(), Vec::new()));
                    total.merge(&tally);
                    for example in examples {
                        if !known.contains(&example) {
                            known.push(example);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn take_piece(
        &mut self,
        series: SeriesKind,
        start_ns: u64,
        tally: &Tally,
        overdue: u64,
        progress: &mut dyn FnMut(&Progress<'_>),
    ) {
        let piece = self
            .pieces
            .entry((start_ns, series))
            .or_insert_with(|| Piece {
                tally: Tally::new(),
                overdue: 0,
                threads: 0,
            });
        piece.tally.merge(tally);
        piece.overdue += overdue;
        piece.threads += 1;
        if piece.threads < self.plan.threads {
            return;
        }
        let Some(piece) = self.pieces.remove(&(start_ns, series)) else {
            return;
        };
        let interval = self.interval(series, start_ns, &piece);
        let is_warm_up = start_ns < self.times.measured_ns.start;
        progress(&Progress {
            interval: &interval,
            elapsed_s: (start_ns - self.times.start_ns) as f64 / 1e9 + interval.length_s,
            is_warm_up,
        });
        if !is_warm_up {
            self.intervals.push(interval);
        }
    }

    fn interval(&self, series: SeriesKind, start_ns: u64, piece: &Piece) -> Interval {
        let measured = &self.times.measured_ns;
        // The piece that ends where the measured time begins may be a short one.
        let end_ns = match start_ns < measured.start {
            true => {
                let behind = (measured.start - start_ns) % crate::recorder::PIECE_NS;
                start_ns
                    + if behind == 0 {
                        crate::recorder::PIECE_NS
                    } else {
                        behind
                    }
            }
            false => (start_ns + crate::recorder::PIECE_NS).min(measured.end),
        };
        let latency = &piece.tally.latency;
        Interval {
            series: series.name().to_string(),
            start_s: (start_ns as f64 - measured.start as f64) / 1e9,
            length_s: (end_ns - start_ns) as f64 / 1e9,
            records: piece.tally.records,
            bytes: piece.tally.bytes,
            errors: piece.tally.errors,
            p50_us: us_at(latency, 0.5),
            p99_us: us_at(latency, 0.99),
            p99_9_us: us_at(latency, 0.999),
            max_us: us_at(latency, 1.0),
            overdue: piece.overdue,
        }
    }

    fn into_run(mut self, label: &str) -> Run {
        self.count_missing();
        let measured_s = self.plan.seconds;
        let series = self.totals.iter().map(|(kind, (tally, examples))| Series {
            name: kind.name().to_string(),
            records: tally.records,
            bytes: tally.bytes,
            errors: tally.errors,
            error_examples: examples.clone(),
            records_per_s: tally.records as f64 / measured_s,
            bytes_per_s: tally.bytes as f64 / measured_s,
            latency: Latency::of(&tally.latency),
        });
        Run {
            label: label.to_string(),
            rate_target_per_s: match self.plan.pace {
                Pace::Rate { per_s, .. } if self.plan.producers > 0 => Some(per_s),
                Pace::Rate { .. } | Pace::Closed { .. } => None,
            },
            warm_up_s: self.plan.warm_up_s,
            measured_s,
            series: series.collect(),
            intervals: self.intervals,
            client_cpu_share: self.cpu_ns_max as f64 / ns_of(measured_s) as f64,
        }
    }

    /// Records that were acknowledged and reached a consumer too late or never are its errors.
    fn count_missing(&mut self) {
        let produced = self.totals.get(&SeriesKind::Produce);
        let produced = produced.map_or(0, |(tally, _)| tally.latency.len());
        let expected = produced * self.plan.hot_consumers as u64;
        if let Some((tally, examples)) = self.totals.get_mut(&SeriesKind::EndToEnd) {
            let missing = expected.saturating_sub(tally.latency.len());
            if missing > 0 {
                tally.errors += missing;
                examples.push(
                    "acknowledged, but in no consumer's hands when the run ended".to_string(),
                );
            }
        }
    }
}

fn us_at(latency: &Histogram<u64>, quantile: f64) -> f64 {
    match latency.is_empty() {
        true => 0.0,
        false => latency.value_at_quantile(quantile) as f64 / 1e3,
    }
}
