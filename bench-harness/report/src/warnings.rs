//! Reasons to doubt a measurement, found in the measurement itself.
//!
//! Owns the bounds and the words. Pure functions of what was measured; what only the driver of the
//! load could see (a step of the wall clock, time without a core) is handed over. Each text says
//! what was seen, what that means and what to do.

use crate::model::{ClientMachine, Interval, Report, Run, Series, Warning, WarningKind};
use crate::words::{grouped, main_series, percents, rate, real, whole};

/// A percentile needs so many values beyond it, or single events decide it.
pub const SAMPLES_BEYOND_MIN: u64 = 10;
/// Below this share of the rate that was asked for, it was not reached.
pub const RATE_SHARE_MIN: f64 = 0.99;
/// Above this share of a core, the client itself may be what is measured.
pub const CLIENT_CPU_SHARE_MAX: f64 = 0.85;
/// Above this share of time that a load thread waited for its core, it had to share it.
pub const WAITED_SHARE_MAX: f64 = 0.01;
/// Clock sources that are read without a system call.
pub const FAST_CLOCK_SOURCES: &[&str] = &["tsc", "kvm-clock", "arch_sys_counter"];
/// Smaller steps of the wall clock are within what it is disciplined by.
pub const CLOCK_STEP_MS_MIN: f64 = 1.0;

/// Percentiles that are reported, with one in how many values lies beyond each.
const PERCENTILES: &[(&str, u64)] = &[("p99", 100), ("p99.9", 1_000), ("p99.99", 10_000)];
/// Places a warning names before it only counts.
const PLACES_MAX: usize = 4;

/// What the driver of the load saw and the figures do not show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// By how many milliseconds the wall clock ran away from the monotonic one, either way.
    pub wall_clock_step_ms: f64,
    /// Share of measured time that the busiest thread was ready to run and had no core.
    pub waited_share: f64,
}

/// Every reason to doubt this report, the gravest kinds first.
#[must_use]
pub fn all(report: &Report, seen: Seen) -> Vec<Warning> {
    let mut found = Vec::new();
    found.extend(report.runs.iter().filter_map(errors));
    found.extend(report.runs.iter().filter_map(client_bottleneck));
    found.extend(shared_core(seen.waited_share));
    found.extend(report.runs.iter().filter_map(rate_not_reached));
    found.extend(clock(&report.client, seen.wall_clock_step_ms));
    found.extend(too_few_samples(&report.runs));
    found
}

/// Percentiles that too few values back, one warning for each.
#[must_use]
pub fn too_few_samples(runs: &[Run]) -> Vec<Warning> {
    let of = |&(name, one_in): &(&str, u64)| {
        let needed = one_in * SAMPLES_BEYOND_MIN;
        let places: Vec<String> = runs
            .iter()
            .flat_map(|run| run.series.iter().map(move |series| (run, series)))
            .filter(|(_, series)| series.latency.samples < needed)
            .map(|(run, series)| lacking(run, series, needed))
            .collect();
        let text = format!(
            "{name} rests on too few values: fewer than {SAMPLES_BEYOND_MIN} of them lie beyond it, \
             so a few single events decide it. It takes {} values. Measure longer, or do not \
             quote {name}: {}.",
            grouped(needed),
            listed(&places),
        );
        (!places.is_empty()).then_some(Warning {
            kind: WarningKind::TooFewSamples,
            text,
        })
    };
    PERCENTILES.iter().filter_map(of).collect()
}

fn lacking(run: &Run, series: &Series, needed: u64) -> String {
    let samples = series.latency.samples;
    let per_s = real(samples) / run.measured_s;
    let place = format!("{} of \"{}\"", series.name, run.label);
    if samples == 0 || !per_s.is_finite() {
        return format!("{place} has no value at all");
    }
    let more_s = (real(needed - samples) / per_s).ceil();
    format!(
        "{place} has {} and needs {} s more",
        grouped(samples),
        grouped(whole(more_s))
    )
}

fn listed(places: &[String]) -> String {
    let named = places.iter().take(PLACES_MAX).cloned();
    let mut text = named.collect::<Vec<String>>().join("; ");
    if let Some(others) = places.len().checked_sub(PLACES_MAX).filter(|n| *n > 0) {
        text.push_str(&format!("; and {others} more"));
    }
    text
}

/// Whether records went out as fast as they were due.
#[must_use]
pub fn rate_not_reached(run: &Run) -> Option<Warning> {
    let target = run.rate_target_per_s.filter(|target| *target > 0.0)?;
    let series = main_series(run)?;
    let share = series.records_per_s / target;
    let backlog = backlog_growth(run, &series.name);
    // The same measure for both: a hundredth of what was due meanwhile.
    let backlog_max = target * run.measured_s * (1.0 - RATE_SHARE_MIN);
    let what = if share < RATE_SHARE_MIN {
        format!(
            "{} of {} were delivered ({})",
            rate(series.records_per_s),
            rate(target),
            percents(share)
        )
    } else if backlog > backlog_max {
        format!(
            "records due but not yet sent grew by {} during the run",
            grouped(whole(backlog))
        )
    } else {
        return None;
    };
    Some(Warning {
        kind: WarningKind::RateNotReached,
        text: format!(
            "The rate of \"{}\" was not reached: {what}. Latencies then hold the queue that grew \
             and depend on how long was measured; they say nothing of the broker at a rate it \
             can serve. Lower the rate, or give more connections or threads if the client was \
             the limit.",
            run.label
        ),
    })
}

/// By how much the overdue records of the last quarter exceed those of the first.
fn backlog_growth(run: &Run, series: &str) -> f64 {
    let of = |interval: &&Interval| interval.series == series;
    let overdue: Vec<f64> = run
        .intervals
        .iter()
        .filter(of)
        .map(|i| real(i.overdue))
        .collect();
    let quarter = overdue.len() / 4;
    if quarter == 0 {
        return 0.0;
    }
    let first: f64 = overdue[..quarter].iter().sum();
    let last: f64 = overdue[overdue.len() - quarter..].iter().sum();
    (last - first) / real(quarter as u64)
}

/// Whether the client's core was near its limit.
#[must_use]
pub fn client_bottleneck(run: &Run) -> Option<Warning> {
    (run.client_cpu_share > CLIENT_CPU_SHARE_MAX).then(|| Warning {
        kind: WarningKind::ClientBottleneck,
        text: format!(
            "In \"{}\" the busiest load thread used {} of its core: what was measured may be the \
             client and not the broker. Give the load more threads, or a machine of its own.",
            run.label,
            percents(run.client_cpu_share)
        ),
    })
}

/// Whether a load thread waited for a core.
#[must_use]
pub fn shared_core(waited_share: f64) -> Option<Warning> {
    (waited_share > WAITED_SHARE_MAX).then(|| Warning {
        kind: WarningKind::SharedCore,
        text: format!(
            "A load thread was ready to run but had no core for {} of the time: something else ran \
             there, and that wait is part of the latencies. Keep the broker and others off the \
             client's cores, or use a machine of its own.",
            percents(waited_share)
        ),
    })
}

/// Whether time was read well.
#[must_use]
pub fn clock(client: &ClientMachine, wall_clock_step_ms: f64) -> Vec<Warning> {
    let mut found = Vec::new();
    if !FAST_CLOCK_SOURCES.contains(&client.clock_source.as_str()) {
        found.push(format!(
            "The kernel's clock source is \"{}\": each reading costs a system call or more, which \
             slows the client and blurs short latencies. Use one of {}, where the machine offers \
             it in /sys/devices/system/clocksource/clocksource0/available_clocksource.",
            client.clock_source,
            FAST_CLOCK_SOURCES.join(", ")
        ));
    }
    if wall_clock_step_ms.abs() >= CLOCK_STEP_MS_MIN {
        found.push(format!(
            "The wall clock was set by {wall_clock_step_ms:.1} ms during the run. Latencies on one \
             machine are timed by the monotonic clock and hold; whatever compares timestamps \
             of records, or of two machines, does not. Measure again when the clock is steady."
        ));
    }
    let warning = |text| Warning {
        kind: WarningKind::Clock,
        text,
    };
    found.into_iter().map(warning).collect()
}

/// Whether requests failed.
#[must_use]
pub fn errors(run: &Run) -> Option<Warning> {
    let failed: Vec<&Series> = run.series.iter().filter(|s| s.errors > 0).collect();
    let first = failed.first()?;
    let counts: Vec<String> = failed
        .iter()
        .map(|s| {
            format!(
                "{} {} of {}",
                s.name,
                grouped(s.errors),
                grouped(s.errors + s.records)
            )
        })
        .collect();
    let example = match first.error_examples.first() {
        Some(example) => format!(" (\"{example}\")"),
        None => String::new(),
    };
    Some(Warning {
        kind: WarningKind::Errors,
        text: format!(
            "In \"{}\" records failed: {}{example}. Rates and latencies are those of records that \
             succeeded only, and look better than what a client would have seen. Find the \
             cause in the broker's log before quoting any figure.",
            run.label,
            counts.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up;

    fn run() -> Run {
        made_up::single().runs.remove(0)
    }

    #[test]
    fn a_percentile_needs_ten_values_beyond_it() {
        let mut run = run();
        run.measured_s = 10.0;
        run.series.truncate(1);
        run.series[0].latency.samples = 100_000;
        assert_eq!(too_few_samples(&[run.clone()]), vec![]);
        run.series[0].latency.samples = 99_999;
        let found = too_few_samples(&[run.clone()]);
        assert_eq!(found.len(), 1);
        assert!(found[0].text.starts_with("p99.99 "), "{found:?}");
        assert!(found[0].text.contains("needs 1 s more"), "{found:?}");
        run.series[0].latency.samples = 5_000;
        let found = too_few_samples(&[run]);
        assert_eq!(found.len(), 2);
        assert!(found[0].text.starts_with("p99.9 "), "{found:?}");
        assert!(found[0].text.contains("needs 10 s more"), "{found:?}");
        assert!(found[1].text.contains("needs 190 s more"), "{found:?}");
    }

    #[test]
    fn nothing_measured_needs_no_number_of_seconds() {
        let mut run = run();
        run.series.truncate(1);
        run.series[0].latency.samples = 0;
        let found = too_few_samples(&[run]);
        assert_eq!(found.len(), 3);
        assert!(found[0].text.contains("no value at all"), "{found:?}");
    }

    #[test]
    fn many_places_are_counted() {
        let mut run = run();
        run.series.truncate(1);
        run.series[0].latency.samples = 50_000;
        let found = too_few_samples(&vec![run; 9]);
        assert_eq!(found.len(), 1, "one for each percentile, not for each run");
        assert!(found[0].text.ends_with("; and 5 more."), "{found:?}");
    }

    #[test]
    fn a_rate_below_99_of_100_is_not_reached() {
        let mut run = run();
        run.rate_target_per_s = Some(1_000.0);
        run.series[0].records_per_s = 990.0;
        assert_eq!(rate_not_reached(&run), None);
        run.series[0].records_per_s = 980.0;
        let text = rate_not_reached(&run).expect("a warning").text;
        assert!(
            text.contains("980/s of 1,000/s were delivered (98.0 %)"),
            "{text}"
        );
        run.rate_target_per_s = None;
        assert_eq!(rate_not_reached(&run), None, "a closed loop has no target");
    }

    #[test]
    fn a_growing_backlog_is_a_rate_not_reached() {
        let mut run = run();
        run.rate_target_per_s = Some(1_000.0);
        run.measured_s = 10.0;
        run.series[0].records_per_s = 1_000.0;
        run.intervals.retain(|i| i.series == "produce");
        run.intervals.truncate(10);
        let set = |run: &mut Run, overdue: &dyn Fn(u64) -> u64| {
            for (at, interval) in run.intervals.iter_mut().enumerate() {
                interval.overdue = overdue(at as u64);
            }
        };
        set(&mut run, &|_| 5_000);
        assert_eq!(rate_not_reached(&run), None, "steady is no growth");
        set(&mut run, &|at| at * 50);
        let text = rate_not_reached(&run).expect("a warning").text;
        assert!(text.contains("not yet sent grew by 400"), "{text}");
    }

    #[test]
    fn a_core_near_its_limit_is_told() {
        let mut run = run();
        run.client_cpu_share = 0.85;
        assert_eq!(client_bottleneck(&run), None);
        run.client_cpu_share = 0.93;
        let text = client_bottleneck(&run).expect("a warning").text;
        assert!(text.contains("93.0 %"), "{text}");
        assert_eq!(shared_core(0.01), None);
        let warning = shared_core(0.04).expect("a warning");
        assert_eq!(warning.kind, WarningKind::SharedCore);
    }

    #[test]
    fn slow_and_stepped_clocks_are_told() {
        let mut client = made_up::single().client;
        for source in FAST_CLOCK_SOURCES {
            client.clock_source = (*source).to_string();
            assert_eq!(clock(&client, 0.4), vec![]);
        }
        assert!(clock(&client, -250.0)[0].text.contains("-250.0 ms"));
        client.clock_source = "hpet".to_string();
        let found = clock(&client, 3.0);
        assert_eq!(found.len(), 2);
        assert!(found[0].text.contains("\"hpet\""), "{found:?}");
    }

    #[test]
    fn failures_are_told_with_an_example() {
        let mut run = run();
        assert_eq!(errors(&run), None);
        run.series[0].errors = 1_000;
        run.series[0].records = 9_000;
        run.series[0].error_examples = vec!["NOT_LEADER_OR_FOLLOWER".to_string()];
        let text = errors(&run).expect("a warning").text;
        assert!(text.contains("produce 1,000 of 10,000"), "{text}");
        assert!(text.contains("(\"NOT_LEADER_OR_FOLLOWER\")"), "{text}");
    }

    #[test]
    fn a_sound_report_has_no_warning_and_a_poor_one_has_each_kind() {
        let mut report = made_up::single();
        assert_eq!(all(&report, Seen::default()), vec![]);
        report.client.clock_source = "hpet".to_string();
        report.runs[0].client_cpu_share = 1.0;
        report.runs[0].series[0].errors = 1;
        report.runs[0].series[0].records_per_s = 1.0;
        report.runs[0].series[1].latency.samples = 10;
        let seen = Seen {
            waited_share: 0.5,
            ..Seen::default()
        };
        let mut kinds: Vec<WarningKind> = all(&report, seen).iter().map(|w| w.kind).collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }
}
