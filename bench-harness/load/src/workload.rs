//! `highwater bench`, from its flags to its report.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use highwater_bench_report::live::LiveStep;
use highwater_bench_report::warnings::{self, Seen};
use highwater_bench_report::{Broker, ClientMachine, Knee, Report, Run, Setting, table};
use highwater_client::calls::CreateTopic;
use highwater_client::driver::block_on;

use crate::arguments::{BenchCommand, LoadArguments};
use crate::clock::wall_ns;
use crate::ladder::Ladder;
use crate::measure::{Measured, measure};
use crate::plan::{Pace, Plan};
use crate::progress::Shown;
use crate::topic::{self, Fill};
use crate::worker::connect;

/// A rate that is delivered to less than this share does not hold.
const DELIVERED_SHARE_MIN: f64 = 0.99;

/// Runs a command to its end. Prints its own errors.
#[must_use]
pub fn run(command: BenchCommand) -> ExitCode {
    match bench(&command) {
        Ok(report) => match show(&report, command.arguments()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => failed(&why),
        },
        Err(why) => failed(&why),
    }
}

/// Prints the report, and writes it where that was asked for.
fn show(report: &Report, flags: &LoadArguments) -> Result<(), String> {
    let text = match flags.json {
        true => serde_json::to_string_pretty(report).map_err(|error| error.to_string())? + "\n",
        false => table::summary(report),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(format!("cannot write the output: {error}"));
        }
        _ => {}
    }
    if let Some(directory) = &flags.report_dir {
        for path in report
            .write_to(directory)
            .map_err(|error| error.to_string())?
        {
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(())
}

fn failed(why: &str) -> ExitCode {
    eprintln!("highwater: {why}");
    ExitCode::FAILURE
}

fn bench(command: &BenchCommand) -> Result<Report, String> {
    let flags = command.arguments();
    let name = flags
        .topic
        .clone()
        .unwrap_or_else(|| format!("highwater-bench-{}", wall_ns() / 1_000_000));
    let mut plan = command.plan(&name)?;
    let started_unix_ms = (wall_ns() / 1_000_000) as i64;
    let brokers = on_ring(prepare(flags, &mut plan))?;
    let measured = measure_all(command, &plan);
    if flags.topic.is_none() {
        // What was measured is worth more than a topic that is left.
        if let Err(why) = on_ring(tidy_up(&plan.bootstrap, &name)) {
            eprintln!("highwater: the topic {name} is still there: {why}");
        }
    }
    let (runs, knee, seen) = measured?;
    let mut report = Report {
        title: command.title().to_string(),
        broker: Broker {
            bootstrap: plan.bootstrap.clone(),
            software: flags.broker_name.clone(),
            brokers,
        },
        client: machine(started_unix_ms, plan.threads),
        settings: settings(&plan, flags),
        runs,
        knee,
        warnings: Vec::new(),
    };
    report.warnings = warnings::all(&report, seen);
    Ok(report)
}

fn on_ring<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    block_on(future).map_err(|error| {
        format!(
            "the kernel refuses an io_uring ({error}); `highwater doctor` tells what is missing"
        )
    })?
}

/// Makes and fills the topic; returns how many brokers there are.
async fn prepare(flags: &LoadArguments, plan: &mut Plan) -> Result<usize, String> {
    let client = connect(&plan.bootstrap).await?;
    let wanted = CreateTopic {
        name: plan.topic.clone(),
        partitions: plan.partitions,
        replication_factor: flags.replication_factor,
        configs: flags.topic_configs.clone(),
    };
    plan.partitions = topic::ensure(&client, &wanted).await?;
    if plan.cold_consumers > 0 {
        let fill = Fill {
            topic: &plan.topic,
            partitions: plan.partitions,
            bytes: flags.fill_mb << 20,
            record_bytes: plan.record_bytes,
            payload: &plan.payload,
            producer: plan.producer.clone(),
        };
        topic::fill(&client, &fill).await?;
    }
    Ok(client.with_metadata(|metadata| metadata.brokers().count()))
}

async fn tidy_up(bootstrap: &str, name: &str) -> Result<(), String> {
    topic::remove(&connect(bootstrap).await?, name).await
}

/// The runs, the knee if one was looked for, and what the figures do not show, at its worst.
type AllMeasured = (Vec<Run>, Option<Knee>, Seen);

fn measure_all(command: &BenchCommand, plan: &Plan) -> Result<AllMeasured, String> {
    let flags = command.arguments();
    let mut shown = Shown::new(flags.quiet);
    let mut one = |plan: &Plan, label: &str, step: Option<LiveStep>| {
        shown.begin();
        let measured = measure(plan, label, &mut |progress| {
            shown.take(plan, step, progress)
        });
        shown.end();
        measured
    };
    if !flags.ladder {
        let Measured { run, seen } = one(plan, command.title(), None)?;
        return Ok((vec![run], None, seen));
    }
    let bound_us = flags.p99_bound_ms * 1e3;
    let mut ladder = Ladder::new(flags.rate_from, flags.rate_to);
    let (mut runs, mut knee, mut seen) = (Vec::new(), None::<Knee>, Seen::default());
    while let Some(rate) = ladder.rate() {
        let plan = Plan {
            pace: Pace::Rate {
                per_s: rate,
                burst: flags.burst.unwrap_or(1),
            },
            ..plan.clone()
        };
        let label = format!("{rate:.0}/s");
        let step = LiveStep {
            number: ladder.tried() + 1,
            of: None,
            rate_per_s: rate,
        };
        let measured = one(&plan, &label, Some(step))?;
        seen = worse_of(seen, measured.seen);
        let held = holds(&measured.run, rate, bound_us);
        ladder.tell(held.is_some());
        if let Some(p99_us) = held
            && knee.as_ref().is_none_or(|known| known.rate_per_s < rate)
        {
            knee = Some(Knee {
                p99_bound_us: bound_us,
                rate_per_s: rate,
                p99_us,
                tried: 0,
            });
        }
        runs.push(measured.run);
    }
    if let Some(knee) = &mut knee {
        knee.tried = ladder.tried();
    }
    let target = |run: &Run| run.rate_target_per_s.unwrap_or_default();
    runs.sort_by(|left, right| target(left).total_cmp(&target(right)));
    Ok((runs, knee, seen))
}

/// The p99 of a rate that holds: everything was delivered, in time and without an error.
fn holds(run: &Run, rate: f64, bound_us: f64) -> Option<f64> {
    let holds = run.series.iter().all(|series| {
        let delivered =
            series.name != "produce" || series.records_per_s >= rate * DELIVERED_SHARE_MIN;
        delivered && series.errors == 0 && series.latency.p99_us < bound_us
    });
    let p99_us = run.series.iter().map(|series| series.latency.p99_us);
    holds.then(|| p99_us.fold(0.0, f64::max))
}

fn worse_of(left: Seen, right: Seen) -> Seen {
    Seen {
        wall_clock_step_ms: left.wall_clock_step_ms.max(right.wall_clock_step_ms),
        waited_share: left.waited_share.max(right.waited_share),
    }
}

fn machine(started_unix_ms: i64, threads: usize) -> ClientMachine {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().to_string()
    };
    ClientMachine {
        kernel: read("/proc/sys/kernel/osrelease"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        highwater_version: env!("CARGO_PKG_VERSION").to_string(),
        started_unix_ms,
        threads,
    }
}

fn settings(plan: &Plan, flags: &LoadArguments) -> Vec<Setting> {
    let pace = match plan.pace {
        _ if flags.ladder => format!("ladder, p99 under {} ms", flags.p99_bound_ms),
        Pace::Rate { per_s, burst: 1 } => format!("open loop, {per_s} records/s"),
        Pace::Rate { per_s, burst } => format!("open loop, {per_s} records/s, {burst} at a time"),
        Pace::Closed { in_flight } => format!("closed loop, {in_flight} in flight a producer"),
    };
    let configs = flags.topic_configs.iter();
    let configs: Vec<String> = configs
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let rows = [
        ("pace", pace),
        ("record", format!("{} B", plan.record_bytes)),
        ("payload", plan.payload.to_string()),
        ("acks", format!("{:?}", flags.acks).to_lowercase()),
        (
            "compression",
            format!("{:?}", flags.compression).to_lowercase(),
        ),
        ("topic", plan.topic.clone()),
        ("topic configuration", configs.join(" ")),
        ("partitions", plan.partitions.to_string()),
        ("producers", plan.producers.to_string()),
        ("consumers from the end", plan.hot_consumers.to_string()),
        (
            "consumers from the beginning",
            plan.cold_consumers.to_string(),
        ),
        ("warm-up", format!("{} s", plan.warm_up_s)),
        ("measured", format!("{} s", plan.seconds)),
    ];
    let filled = rows.into_iter().filter(|(_, value)| !value.is_empty());
    filled
        .map(|(name, value)| Setting {
            name: name.to_string(),
            value,
        })
        .collect()
}
