//! Reports that nobody measured, for tests and for looking at the page.
//!
//! Owns plausible shapes (a bulk, a tail, a stall, a queue that grows beyond the knee), made by
//! formula so that they are the same each time. Never to be taken for a measurement: each says so
//! in its title and its broker.

use hdrhistogram::Histogram;

use crate::model::{Broker, ClientMachine, Interval, Knee, Latency, Report, Run, Series, Setting};
use crate::words::{real, whole};

const RECORD_BYTES: u64 = 1024;
/// The rate beyond which the made-up broker queues.
const CAPACITY_PER_S: f64 = 100_000.0;

/// One run of 60 seconds with a stall in its middle.
#[must_use]
pub fn single() -> Report {
    let mut report = empty("Made up: one rate");
    report
        .runs
        .push(run("50,000/s", 50_000.0, 60, Stall::InTheMiddle));
    report
}

/// A ladder of six rates, of which four hold a p99 of 10 ms.
#[must_use]
pub fn ladder() -> Report {
    let mut report = empty("Made up: a ladder of rates");
    for step in 1..=6 {
        let rate = f64::from(step) * 20_000.0;
        let label = format!("{}/s", crate::words::grouped(whole(rate)));
        report.runs.push(run(&label, rate, 20, Stall::None));
    }
    report.knee = Some(Knee {
        p99_bound_us: 10_000.0,
        rate_per_s: 80_000.0,
        p99_us: report.runs[3].series[0].latency.p99_us,
        tried: 6,
    });
    report
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stall {
    None,
    InTheMiddle,
}

fn empty(title: &str) -> Report {
    let setting = |name: &str, value: &str| Setting {
        name: name.to_string(),
        value: value.to_string(),
    };
    Report {
        title: title.to_string(),
        broker: Broker {
            bootstrap: "broker.example:9092".to_string(),
            software: Some("no broker, made up".to_string()),
            brokers: 1,
        },
        client: ClientMachine {
            kernel: "6.1.0".to_string(),
            cpus: 8,
            clock_source: "tsc".to_string(),
            highwater_version: env!("CARGO_PKG_VERSION").to_string(),
            started_unix_ms: 1_700_000_000_000,
            threads: 4,
        },
        settings: vec![
            setting("topic", "bench, 12 partitions"),
            setting("record", "1,024 bytes, random"),
            setting("acks", "all"),
            setting("connections", "16"),
        ],
        runs: Vec::new(),
        knee: None,
        warnings: Vec::new(),
    }
}

fn run(label: &str, rate: f64, length_s: u32, stall: Stall) -> Run {
    let measured_s = f64::from(length_s);
    let mut run = Run {
        label: label.to_string(),
        rate_target_per_s: Some(rate),
        warm_up_s: 5.0,
        measured_s,
        series: Vec::new(),
        intervals: Vec::new(),
        client_cpu_share: 0.2 + 0.4 * rate / CAPACITY_PER_S,
    };
    for (name, extra_us) in [("produce", 0.0), ("end to end", 450.0)] {
        let mut whole_run = Histogram::new(3).expect("three digits are allowed");
        for second in 0..length_s {
            let stalled = stall == Stall::InTheMiddle && second == length_s / 2;
            let (interval, histogram) = second_of(name, rate, second, extra_us, stalled);
            whole_run.add(&histogram).expect("both grow");
            run.intervals.push(interval);
        }
        let of_it = run
            .intervals
            .iter()
            .filter(|interval| interval.series == name);
        let records = of_it.map(|interval| interval.records).sum();
        run.series.push(Series {
            name: name.to_string(),
            records,
            bytes: records * RECORD_BYTES,
            errors: 0,
            error_examples: Vec::new(),
            records_per_s: real(records) / measured_s,
            bytes_per_s: real(records * RECORD_BYTES) / measured_s,
            latency: Latency::of(&whole_run),
        });
    }
    run
}

/// One second of a series: a bulk and a tail that grow with the load, a queue beyond capacity.
fn second_of(
    name: &str,
    rate: f64,
    second: u32,
    extra_us: f64,
    stalled: bool,
) -> (Interval, Histogram<u64>) {
    let load = (rate / CAPACITY_PER_S).min(0.99);
    let over = (rate / CAPACITY_PER_S - 1.0).max(0.0);
    let records = whole(rate.min(CAPACITY_PER_S));
    let queue_us = over * f64::from(second + 1) * 1e6;
    let mut histogram = Histogram::new(3).expect("three digits are allowed");
    // A thousand values stand for all of the second; each is recorded many times.
    let times = (records / 1_000).max(1);
    for n in 0..1_000_u32 {
        let spread = 1.0 / (1.0 - f64::from(n) / 1_000.0);
        let wave = 1.0 + 0.15 * f64::from(second).sin();
        let tail = spread.powf(0.45) + if load > 0.9 { spread * 0.5 } else { 0.0 };
        let stall_us = if stalled {
            40_000.0 * f64::from(n) / 1_000.0
        } else {
            0.0
        };
        let us = 380.0 * wave * tail / (1.0 - load).powf(0.7) + extra_us + queue_us + stall_us;
        histogram
            .record_n(whole(us * 1e3), times)
            .expect("the histogram grows");
    }
    let latency = Latency::of(&histogram);
    let interval = Interval {
        series: name.to_string(),
        start_s: f64::from(second),
        length_s: 1.0,
        records,
        bytes: records * RECORD_BYTES,
        errors: 0,
        p50_us: latency.p50_us,
        p99_us: latency.p99_us,
        p99_9_us: latency.p99_9_us,
        max_us: latency.max_us,
        overdue: whole(over * CAPACITY_PER_S * f64::from(second + 1)),
    };
    (interval, histogram)
}
