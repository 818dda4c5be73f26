//! Tells the live view what each second of a run brought.

use highwater_bench_report::Interval;
use highwater_bench_report::live::{Live, LiveMode, LivePhase, LiveSample, LiveSeries, LiveStep};

use crate::measure::Progress;
use crate::plan::Plan;

/// What the view shows and remembers.
pub struct Shown {
    live: Live,
    /// The series of the second that is being told.
    series: Vec<LiveSeries>,
    /// Failures of the run so far, by series.
    errors: Vec<(String, u64)>,
}

impl Shown {
    pub fn new(quiet: bool) -> Shown {
        let mode = match quiet {
            true => LiveMode::Quiet,
            false => LiveMode::of_stderr(),
        };
        Shown {
            live: Live::new(mode),
            series: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// A run begins.
    pub fn begin(&mut self) {
        self.errors.clear();
        self.series.clear();
    }

    /// One series of one second; the second is shown with its last series.
    pub fn take(&mut self, plan: &Plan, step: Option<LiveStep>, progress: &Progress<'_>) {
        let series = self.series_of(progress.interval);
        self.series.push(series);
        if self.series.len() < plan.series().len() {
            return;
        }
        let (phase, elapsed_s, total_s) = match progress.is_warm_up {
            true => (LivePhase::WarmUp, progress.elapsed_s, plan.warm_up_s),
            false => {
                let elapsed_s = progress.elapsed_s - plan.warm_up_s;
                (LivePhase::Measured, elapsed_s, plan.seconds)
            }
        };
        self.live.update(&LiveSample {
            step,
            phase,
            elapsed_s,
            total_s,
            series: std::mem::take(&mut self.series),
        });
    }

    pub fn end(&mut self) {
        self.live.end();
    }

    fn series_of(&mut self, interval: &Interval) -> LiveSeries {
        let known = self
            .errors
            .iter_mut()
            .find(|(name, _)| *name == interval.series);
        let errors = match known {
            Some((_, errors)) => {
                *errors += interval.errors;
                *errors
            }
            None => {
                self.errors.push((interval.series.clone(), interval.errors));
                interval.errors
            }
        };
        LiveSeries {
            name: interval.series.clone(),
            records_per_s: interval.records as f64 / interval.length_s,
            bytes_per_s: interval.bytes as f64 / interval.length_s,
            p50_us: interval.p50_us,
            p99_us: interval.p99_us,
            p99_9_us: interval.p99_9_us,
            errors,
            overdue: interval.overdue,
        }
    }
}
