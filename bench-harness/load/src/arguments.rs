//! What `highwater bench` is asked for.
//!
//! Every workload takes the same flags; they differ in what they leave to the plan when a flag is
//! not given.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use highwater_cli::arguments::{AcksArgument, Compression, Connect, key_value};
use highwater_client::producer::ProducerSettings;

use crate::payload::{Payload, STAMP_BYTES};
use crate::plan::{Pace, Plan, Spread};

/// Closes the help of `highwater bench`.
pub const HELP: &str = "How latency is measured:
  Records are due at fixed moments, whatever the broker does, and the latency of each counts from the
  moment it was due until the broker acknowledged it (end to end: until a consumer has it). A broker
  that stops for a moment delays all that became due meanwhile, and every one of them counts. What is
  due during the warm-up does not.

Examples:
  highwater bench produce                                       1,000 records of 1 KiB a second
  highwater bench produce --rate 50000 --seconds 60 --report-dir report
  highwater bench produce --ladder --p99-bound-ms 5             the highest rate with p99 under 5 ms
  highwater bench produce --closed-loop --in-flight 1000        as fast as answers come
  highwater bench end-to-end --rate 10000 --json > result.json
  highwater bench produce -b kafka:9092 --topic-config flush.messages=1
  highwater bench many-partitions --rate 20000
Run broker and load on different cores, better on different machines; `highwater doctor` checks what
makes latencies of this machine unsteady.";

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Produce: from the moment a record is due until it is acknowledged.
    #[command(after_help = "Example:\n  highwater bench produce --rate 20000 --seconds 30")]
    Produce(LoadArguments),
    /// Consume from the beginning, again and again: throughput, and the wait for each answer. The
    /// topic is filled first.
    #[command(after_help = "Example:\n  highwater bench consume --cold-consumers 4 --fill-mb 4096")]
    Consume(LoadArguments),
    /// End to end: from the moment a record is due until a consumer has it.
    #[command(after_help = "Example:\n  highwater bench end-to-end --rate 5000")]
    EndToEnd(LoadArguments),
    /// Many producers (16), one consumer, 8 partitions.
    #[command(after_help = "Example:\n  highwater bench fan-in --connections 64 --rate 20000")]
    FanIn(LoadArguments),
    /// One producer, many consumers (16) that each read everything.
    #[command(after_help = "Example:\n  highwater bench fan-out --consumers 50 --rate 2000")]
    FanOut(LoadArguments),
    /// 1,000 partitions that 100 producers write to in turn.
    #[command(
        after_help = "Example:\n  highwater bench many-partitions --closed-loop --record-bytes 100"
    )]
    ManyPartitions(LoadArguments),
    /// 1,000 connections that each send little.
    #[command(
        after_help = "Example:\n  highwater bench many-connections --connections 5000 --rate 5000"
    )]
    ManyConnections(LoadArguments),
    /// A producer and its consumer beside consumers (4) that read the log from its beginning.
    #[command(after_help = "Example:\n  highwater bench mixed --cold-consumers 20 --fill-mb 8192")]
    Mixed(LoadArguments),
    /// Records that become due 100 at a time.
    #[command(after_help = "Example:\n  highwater bench burst --burst 1000 --rate 10000")]
    Burst(LoadArguments),
}

/// The flags of every workload.
#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    #[command(flatten)]
    pub connect: Connect,
    /// Topic to use; made where it does not exist, and kept. Without it one is made and removed again.
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// Partitions of the topic where it is made.
    #[arg(long, alias = "create-partitions", value_name = "N",
          value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub partitions: Option<i32>,
    /// Replicas of the topic where it is made; -1 is the broker's default.
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    pub replication_factor: i16,
    /// Configuration of the topic where it is made. May be repeated.
    #[arg(long = "topic-config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub topic_configs: Vec<(String, String)>,

    /// Bytes of a record's value.
    #[arg(long, value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(STAMP_BYTES as i64..=64 << 20))]
    pub record_bytes: u32,
    /// What values hold: random, zero, compressible:RATIO or file:PATH.
    #[arg(long, default_value = "random")]
    pub payload: Payload,
    /// When a record counts as written.
    #[arg(short, long, value_enum, default_value_t = AcksArgument::All)]
    pub acks: AcksArgument,
    /// How batches are compressed.
    #[arg(short = 'z', long, value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Largest batch, in bytes before compression.
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1024..=64 << 20))]
    pub batch_bytes_max: u32,
    /// Which partition a record goes to.
    #[arg(long, value_enum)]
    pub spread: Option<SpreadArgument>,

    /// Open loop: records due a second, over all producers.
    #[arg(short, long, value_name = "PER_S", value_parser = rate)]
    pub rate: Option<f64>,
    /// Records that become due at the same moment, at the same rate on average.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub burst: Option<u64>,
    /// Each producer sends its next record when one is answered. For comparison: it leaves out what a
    /// user would have waited for.
    #[arg(long, conflicts_with_all = ["rate", "burst", "ladder"])]
    pub closed_loop: bool,
    /// Records that each producer keeps unanswered in a closed loop.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "closed_loop",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: u32,
    /// Look for the knee: climb from rate to rate, each as long as --seconds says.
    #[arg(long, conflicts_with = "rate")]
    pub ladder: bool,
    /// A rate holds when its p99 is under this.
    #[arg(long, value_name = "MS", default_value_t = 5.0)]
    pub p99_bound_ms: f64,
    /// The ladder's first rate.
    #[arg(long, value_name = "PER_S", default_value = "1000", value_parser = rate)]
    pub rate_from: f64,
    /// The ladder's last rate.
    #[arg(long, value_name = "PER_S", default_value = "10000000", value_parser = rate)]
    pub rate_to: f64,

    /// Producers, each with a connection of its own.
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Consumers that read everything from the end on.
    #[arg(long, value_name = "N")]
    pub consumers: Option<usize>,
    /// Consumers that read from the beginning, again and again.
    #[arg(long, value_name = "N")]
    pub cold_consumers: Option<usize>,
    /// What the topic holds at least before it is read from the beginning, in MiB.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub fill_mb: u64,

    /// Seconds that are measured (of each rate).
    #[arg(short, long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds before them that count nowhere.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub warm_up_seconds: f64,
    /// Seconds that answers are waited for at the end.
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub drain_seconds: f64,
    /// Threads that make the load, one a core.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Pin the threads to this CPU and those that follow it.
    #[arg(long, value_name = "CPU")]
    pub first_core: Option<usize>,

    /// Write report.html, report.json and .hgrm files into this directory.
    #[arg(long, value_name = "DIR")]
    pub report_dir: Option<PathBuf>,
    /// What the broker is called in the report, for example "Apache Kafka 4.2".
    #[arg(long, value_name = "NAME")]
    pub broker_name: Option<String>,
    /// Print the report as one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SpreadArgument {
    /// One partition for a while, as clients do with records that have no key.
    Sticky,
    /// The next partition with each record.
    RoundRobin,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0.001 to 1000000000".to_string()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("seconds are a number from 0 to 1000000".to_string()),
    }
}

/// What a workload does where the flags do not say.
struct Preset {
    title: &'static str,
    connections: usize,
    consumers: usize,
    cold_consumers: usize,
    partitions: i32,
    burst: u64,
    spread: Spread,
}

const PRODUCE: Preset = Preset {
    title: "produce",
    connections: 1,
    consumers: 0,
    cold_consumers: 0,
    partitions: 1,
    burst: 1,
    spread: Spread::Sticky,
};

impl BenchCommand {
    fn preset(&self) -> Preset {
        match self {
            BenchCommand::Produce(_) => PRODUCE,
            BenchCommand::Consume(_) => Preset {
                title: "consume",
                connections: 0,
                cold_consumers: 1,
                ..PRODUCE
            },
            BenchCommand::EndToEnd(_) => Preset {
                title: "end to end",
                consumers: 1,
                ..PRODUCE
            },
            BenchCommand::FanIn(_) => Preset {
                title: "fan-in",
                connections: 16,
                consumers: 1,
                partitions: 8,
                ..PRODUCE
            },
            BenchCommand::FanOut(_) => Preset {
                title: "fan-out",
                consumers: 16,
                ..PRODUCE
            },
            BenchCommand::ManyPartitions(_) => Preset {
                title: "many partitions",
                connections: 100,
                partitions: 1000,
                spread: Spread::RoundRobin,
                ..PRODUCE
            },
            BenchCommand::ManyConnections(_) => Preset {
                title: "many connections",
                connections: 1000,
                ..PRODUCE
            },
            BenchCommand::Mixed(_) => Preset {
                title: "mixed hot and cold readers",
                consumers: 1,
                cold_consumers: 4,
                ..PRODUCE
            },
            BenchCommand::Burst(_) => Preset {
                title: "burst",
                burst: 100,
                ..PRODUCE
            },
        }
    }

    pub fn title(&self) -> &'static str {
        self.preset().title
    }

    pub fn arguments(&self) -> &LoadArguments {
        match self {
            BenchCommand::Produce(arguments)
            | BenchCommand::Consume(arguments)
            | BenchCommand::EndToEnd(arguments)
            | BenchCommand::FanIn(arguments)
            | BenchCommand::FanOut(arguments)
            | BenchCommand::ManyPartitions(arguments)
            | BenchCommand::ManyConnections(arguments)
            | BenchCommand::Mixed(arguments)
            | BenchCommand::Burst(arguments) => arguments,
        }
    }

    /// The plan for this topic.
    ///
    /// # Errors
    /// Flags that contradict each other.
    pub fn plan(&self, topic: &str) -> Result<Plan, String> {
        let (preset, flags) = (self.preset(), self.arguments());
        let producers = flags.connections.unwrap_or(preset.connections);
        let hot_consumers = flags.consumers.unwrap_or(preset.consumers);
        let cold_consumers = flags.cold_consumers.unwrap_or(preset.cold_consumers);
        if producers + hot_consumers + cold_consumers == 0 {
            return Err(
                "there is neither a producer nor a consumer; see --connections".to_string(),
            );
        }
        if producers == 0 && flags.ladder {
            return Err("a ladder of rates needs a producer; see --connections".to_string());
        }
        if flags.seconds == 0.0 {
            return Err("--seconds is 0; allowed is more".to_string());
        }
        let pace = match flags.closed_loop {
            true => Pace::Closed {
                in_flight: flags.in_flight as usize,
            },
            false => Pace::Rate {
                per_s: flags.rate.unwrap_or(1000.0),
                burst: flags.burst.unwrap_or(preset.burst),
            },
        };
        Ok(Plan {
            bootstrap: flags.connect.bootstrap_server.clone(),
            topic: topic.to_string(),
            partitions: flags.partitions.unwrap_or(preset.partitions),
            record_bytes: flags.record_bytes as usize,
            payload: flags.payload.clone(),
            producer: ProducerSettings {
                acks: flags.acks.acks(),
                codec: flags.compression.codec(),
                batch_bytes_max: flags.batch_bytes_max as usize,
                ..ProducerSettings::default()
            },
            pace,
            spread: match flags.spread {
                Some(SpreadArgument::Sticky) => Spread::Sticky,
                Some(SpreadArgument::RoundRobin) => Spread::RoundRobin,
                None => preset.spread,
            },
            producers,
            hot_consumers,
            cold_consumers,
            threads: usize::from(flags.threads),
            first_core: flags.first_core,
            warm_up_s: flags.warm_up_seconds,
            seconds: flags.seconds,
            drain_s: flags.drain_seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "bench")]
    struct Program {
        #[command(subcommand)]
        command: BenchCommand,
    }

    fn plan_of(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let program = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        program.command.plan("t")
    }

    #[test]
    fn the_parser_is_consistent_and_every_example_parses() {
        Program::command().debug_assert();
        let mut texts = vec![HELP.to_string()];
        for command in Program::command().get_subcommands() {
            let help = command.get_after_help().expect("it has an example");
            texts.push(help.to_string());
        }
        let mut parsed = 0;
        for line in texts.iter().flat_map(|text| text.lines()) {
            let Some(line) = line.trim().strip_prefix("highwater bench ") else {
                continue;
            };
            let line = line.split("  ").next().unwrap_or_default();
            let line = line.split(" >").next().unwrap_or_default();
            plan_of(line).expect(line);
            parsed += 1;
        }
        assert!(parsed >= 15, "{parsed}");
    }

    #[test]
    fn workloads_differ_in_what_flags_leave_open() {
        let plan = plan_of("many-partitions").expect("valid");
        assert_eq!((plan.partitions, plan.producers), (1000, 100));
        assert_eq!(plan.spread, Spread::RoundRobin);
        let plan = plan_of("mixed --cold-consumers 9").expect("valid");
        assert_eq!(
            (plan.producers, plan.hot_consumers, plan.cold_consumers),
            (1, 1, 9)
        );
        let plan = plan_of("burst --rate 50").expect("valid");
        let expected = Pace::Rate {
            per_s: 50.0,
            burst: 100,
        };
        assert_eq!(plan.pace, expected);
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "produce --connections 0",
            "consume --ladder",
            "produce --rate 0",
            "produce --closed-loop --rate 5",
            "produce --record-bytes 15",
            "produce --seconds 0",
        ] {
            assert!(plan_of(line).is_err(), "{line}");
        }
    }
}
