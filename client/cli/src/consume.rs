//! `highwater consume`: records to standard output.

use std::fs::File;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::os::fd::AsFd;
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater_base::Now;
use highwater_client::calls::OffsetSpec;
use highwater_client::consumer::{ConsumerSettings, Fetched, Start};
use highwater_client::driver::{Client, ConsumerHandle};
use highwater_client::{ClientError, FetchedRecord};

use crate::CommandError;
use crate::arguments::Connect;
use crate::consume_group;
use crate::moment::Moment;
use crate::output::{Waiting, grouped};
use crate::record_json::line_of;

/// How long a broker may wait for records when we only want what is there.
pub(crate) const WAIT_AT_END_MS: i32 = 20;
/// How often somebody who waits is told why, when the reason changed.
const TELL_EVERY: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Read records and print them, one per line.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  highwater consume orders                                 what comes in from now on
  highwater consume orders --from-beginning --exit-at-end  everything that is there
  highwater consume orders --from-timestamp 15m            from a quarter of an hour ago on
  highwater consume orders --format key-value              key, tab, value
  highwater consume orders --partition 0 --offset 42 --max-records 1 --json
  highwater consume orders --from-beginning -e --json | highwater produce copy --json
  highwater consume orders --group billing                 shares the topic with other members
  highwater consume orders clicks -g billing --from-beginning --instance-id worker-1

With --group every member gets some of the partitions. What was printed is committed, and the next
start goes on there; --from-beginning counts where nothing is committed yet.")]
pub struct ConsumeArguments {
    #[command(flatten)]
    pub connect: Connect,
    /// Name of the topic; with --group there may be several.
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,
    #[command(flatten)]
    pub membership: MembershipArguments,
    /// Read this partition only.
    #[arg(
        short,
        long,
        value_name = "P",
        conflicts_with = "group",
        value_parser = clap::value_parser!(i32).range(0..)
    )]
    partition: Option<i32>,
    /// Start at the oldest record instead of the end.
    #[arg(long, group = "start")]
    pub from_beginning: bool,
    /// Start at this offset, in every partition that is read; mostly used with --partition.
    #[arg(
        short,
        long,
        group = "start",
        conflicts_with = "group",
        value_name = "N",
        value_parser = clap::value_parser!(i64).range(0..)
    )]
    offset: Option<i64>,
    /// Start at the first record of this time or later: milliseconds since 1970, a date and time in
    /// UTC like 2026-01-01T12:30:00Z, or how long ago like 15m (s, m, h, d).
    #[arg(
        long,
        visible_alias = "timestamp",
        group = "start",
        conflicts_with = "group",
        value_name = "WHEN"
    )]
    from_timestamp: Option<Moment>,
    /// End after this many records.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_records: Option<u64>,
    /// End when every partition was read up to its high-water mark.
    #[arg(short, long)]
    pub exit_at_end: bool,
    /// What to print of each record: its value, key and value with a tab between, or all as JSON.
    #[arg(short, long, value_enum, default_value_t = Format::Value)]
    format: Format,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Value,
    KeyValue,
    Json,
}

impl ConsumeArguments {
    fn start(&self, now_wall_ms: i64) -> Start {
        match (self.from_beginning, self.offset, self.from_timestamp) {
            (true, _, _) => Start::At(OffsetSpec::Beginning),
            (false, Some(offset), _) => Start::Offset(offset),
            (false, None, Some(moment)) => {
                Start::At(OffsetSpec::Timestamp(moment.wall_ms(now_wall_ms)))
            }
            (false, None, None) => Start::At(OffsetSpec::End),
        }
    }

    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// Being a member of a group.
#[derive(Debug, Args)]
pub struct MembershipArguments {
    /// Read as a member of this group: its members share the partitions and commit what they read.
    #[arg(short, long, value_name = "GROUP")]
    pub group: Option<String>,
    /// A name that stays the same over restarts: the member gets its partitions back without a
    /// rebalance if it returns within its session timeout.
    #[arg(long, value_name = "ID", requires = "group")]
    pub instance_id: Option<String>,
    /// How partitions are shared; all members need one in common. Repeat it for several, best
    /// first. Without it: range and cooperative-sticky, as Java's consumers have it.
    #[arg(long, value_enum, requires = "group", value_name = "NAME")]
    pub assignor: Vec<AssignorName>,
}

/// The assignors by the names they have in every Kafka client.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AssignorName {
    Range,
    #[value(name = "roundrobin")]
    RoundRobin,
    CooperativeSticky,
}

pub(crate) async fn run(arguments: ConsumeArguments) -> Result<(), CommandError> {
    if arguments.membership.group.is_some() {
        return consume_group::run(&arguments).await;
    }
    let [topic] = arguments.topics.as_slice() else {
        let usage = "several topics are read as a member of a group; name one with --group";
        return Err(CommandError::Usage(usage.to_string()));
    };
    let client = arguments.connect.connect().await?;
    let count = client.topic_partitions(topic).await?;
    let partitions = match arguments.partition {
        Some(partition) => vec![partition],
        None => (0..count).collect(),
    };
    let mut settings = ConsumerSettings::default();
    if arguments.exit_at_end {
        settings.max_wait_ms = WAIT_AT_END_MS;
    }
    let start = arguments.start(client.now().wall_ms);
    let consumer = ConsumerHandle::start(&client, settings, topic, &partitions, start).await?;
    print_records(&client, &consumer, &arguments).await
}

async fn print_records(
    client: &Client,
    consumer: &ConsumerHandle,
    arguments: &ConsumeArguments,
) -> Result<(), CommandError> {
    let mut left = arguments.max_records.unwrap_or(u64::MAX);
    let mut text = Vec::new();
    let mut waiting = Waiting::default();
    let mut progress = Progress::start(client.now());
    while left > 0 {
        let next = next(consumer, arguments.exit_at_end);
        let Ok(fetched) = monoio::time::timeout(TELL_EVERY, next).await else {
            let trouble = consumer.trouble();
            if trouble.is_none() {
                progress.idle();
            }
            waiting.tell(trouble);
            continue;
        };
        let Some(fetched) = fetched? else {
            break;
        };
        waiting = Waiting::default();
        text.clear();
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        let records = fetched.records.iter().take(wanted);
        let count = records.len() as u64;
        for record in records {
            print_record(arguments.format(), &fetched, record, &mut text);
        }
        left -= count;
        let mut out = stdout().lock();
        out.write_all(&text)?;
        out.flush()?;
        progress.printed(count, client.now());
    }
    progress.end();
    Ok(())
}

/// What somebody at a terminal sees while records go elsewhere, or while none come.
pub(crate) struct Progress {
    records: u64,
    shown_records: u64,
    shown_at_ns: u64,
    /// Records go to a file, and somebody reads stderr. Behind a pipe another program may print.
    shows_rate: bool,
    /// Records go to a terminal, where nothing at all would look like a hang.
    hints: bool,
}

impl Progress {
    pub fn start(now: Now) -> Progress {
        let read = stderr().is_terminal();
        Progress {
            records: 0,
            shown_records: 0,
            shown_at_ns: now.monotonic_ns,
            shows_rate: read && prints_to_file(),
            hints: read && stdout().is_terminal(),
        }
    }

    pub fn idle(&mut self) {
        if self.hints && self.records == 0 {
            let hint = "Waiting for new records; --from-beginning shows those that are there. \
                        Ctrl-C ends.\n";
            let _ = stderr().write_all(hint.as_bytes());
        }
        self.hints = false;
    }

    pub fn printed(&mut self, count: u64, now: Now) {
        self.records += count;
        let elapsed_ns = now.monotonic_ns - self.shown_at_ns;
        if !self.shows_rate || u128::from(elapsed_ns) < PROGRESS_EVERY.as_nanos() {
            return;
        }
        let rate = (self.records - self.shown_records) as f64 * 1e9 / elapsed_ns.max(1) as f64;
        let line = format!(
            "\r\x1b[K{} records, {} records/s",
            grouped(self.records),
            grouped(rate as u64)
        );
        let _ = stderr().write_all(line.as_bytes());
        (self.shown_records, self.shown_at_ns) = (self.records, now.monotonic_ns);
    }

    pub fn end(&self) {
        if self.shows_rate {
            let line = format!("\r\x1b[K{} records\n", grouped(self.records));
            let _ = stderr().write_all(line.as_bytes());
        }
    }
}

fn prints_to_file() -> bool {
    let descriptor = stdout().as_fd().try_clone_to_owned();
    let metadata = descriptor.and_then(|descriptor| File::from(descriptor).metadata());
    metadata.is_ok_and(|metadata| metadata.is_file())
}

/// The next records, or `None` at the end if that is where to stop.
async fn next(
    consumer: &ConsumerHandle,
    exit_at_end: bool,
) -> Result<Option<Fetched>, ClientError> {
    match exit_at_end {
        true => consumer.next_before_end().await,
        false => consumer.next().await.map(Some),
    }
}

pub(crate) fn print_record(
    format: Format,
    fetched: &Fetched,
    record: &FetchedRecord,
    out: &mut Vec<u8>,
) {
    match format {
        Format::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
        Format::KeyValue => {
            out.extend_from_slice(record.key.as_deref().unwrap_or_default());
            out.push(b'\t');
            out.extend_from_slice(record.value.as_deref().unwrap_or_default());
        }
        Format::Json => out.extend_from_slice(line_of(fetched, record).as_bytes()),
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn records_print_as_asked_and_json_loses_nothing() {
        let record = FetchedRecord {
            offset: 7,
            timestamp: 9,
            key: Some(b"k".to_vec()),
            value: Some(vec![0xff]),
            headers: vec![("h".to_string(), None)],
        };
        let fetched = Fetched {
            topic: Rc::from("t"),
            partition: 1,
            records: Vec::new(),
        };
        let printed = |format| {
            let mut out = Vec::new();
            print_record(format, &fetched, &record, &mut out);
            out
        };
        assert_eq!(printed(Format::Value), b"\xff\n");
        assert_eq!(printed(Format::KeyValue), b"k\t\xff\n");
        let parsed: Value = serde_json::from_slice(&printed(Format::Json)).expect("JSON");
        let expected = json!({
            "topic": "t", "partition": 1, "offset": 7, "timestamp": 9, "key": "k",
            "value_base64": "/w==", "headers": [{"name": "h", "value": null}],
        });
        assert_eq!(parsed, expected);
    }
}
