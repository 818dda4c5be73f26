//! `highwater produce`: one record per line of standard input.
//!
//! Lines are sent as they come: what one read brings leaves in one turn, so a typed line leaves at
//! once and a piped file leaves in full batches. Standard input is read on the same ring as the
//! sockets, so deliveries go on while we wait for input.

use std::cell::RefCell;
use std::fs::File as StdFile;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use highwater_client::driver::{Client, ProducerHandle};
use highwater_client::producer::{Delivery, ProducerSettings};
use highwater_client::{ClientError, RecordToSend};
use monoio::fs::File;

use crate::CommandError;
use crate::arguments::{AcksArgument, Compression, Connect, key_value};
use crate::output::{Waiting, grouped};
use crate::record_json::{JsonRecord, parse};

const READ_BYTES: usize = 256 * 1024;
/// Longest line, so that input without line ends does not fill the memory.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// io_uring's way to say "at the current position", which pipes and terminals need.
const CURRENT_POSITION: u64 = u64::MAX;
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Write one record per line of standard input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | highwater produce greetings
  highwater produce orders --key-separator : < orders.txt     lines like customer7:{...}
  highwater produce orders --header source=import --partition 0 < orders.txt
  zcat big.gz | highwater produce archive --compression zstd

With --json a line is an object as `highwater consume --json` prints it, so one topic's records can
be written to another, keys, headers and timestamps included:
  {\"key\": \"customer7\", \"value\": \"paid\", \"headers\": [{\"name\": \"source\", \"value\": \"shop\"}]}
Only value is required; null is a tombstone. key_base64 and value_base64 hold bytes that are no text.")]
pub struct ProduceArguments {
    #[command(flatten)]
    connect: Connect,
    /// Name of the topic; it has to exist.
    topic: String,
    /// Split each line at the first occurrence into key and value; lines without it have no key.
    #[arg(short, long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Key of every record.
    #[arg(long, value_name = "TEXT", conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of every record. May be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// Lines are JSON objects with key, value, headers and timestamp instead of values.
    #[arg(long, conflicts_with_all = ["key_separator", "key"])]
    json: bool,
    /// Send everything to this partition instead of choosing by key.
    #[arg(short, long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How to compress batches.
    #[arg(short = 'z', long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// When a record counts as written: `all` when it is committed (each exactly once), 1 when the
    /// leader has it, 0 when it was sent.
    #[arg(short, long, value_enum, default_value_t = AcksArgument::All)]
    acks: AcksArgument,
}

/// What became of the records so far.
#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    failed: u64,
    first_error: Option<ClientError>,
}

impl Tally {
    fn count(&mut self, delivery: &Delivery) {
        let records = delivery.tokens.len() as u64;
        match &delivery.outcome {
            Ok(_) => self.delivered += records,
            Err(error) => {
                self.failed += records;
                self.first_error.get_or_insert_with(|| error.clone());
            }
        }
    }
}

pub(crate) async fn run(arguments: ProduceArguments) -> Result<(), CommandError> {
    if arguments.key_separator.as_deref() == Some("") {
        let usage = "--key-separator is empty; name the text between key and value, for example :";
        return Err(CommandError::Usage(usage.to_string()));
    }
    let client = arguments.connect.connect().await?;
    client.topic_partitions(&arguments.topic).await?;
    let settings = ProducerSettings {
        acks: arguments.acks.acks(),
        codec: arguments.compression.codec(),
        ..ProducerSettings::default()
    };
    let tally = Rc::new(RefCell::new(Tally::default()));
    let counted = Rc::clone(&tally);
    let producer = ProducerHandle::start(&client, settings, move |delivery| {
        counted.borrow_mut().count(delivery);
    });
    let started_ns = client.now().monotonic_ns;
    match (stdin().is_terminal(), stderr().is_terminal()) {
        (false, true) => {
            let progress = show_progress(client.clone(), producer.clone(), Rc::clone(&tally));
            monoio::spawn(progress);
        }
        (from_terminal, _) => {
            if from_terminal {
                let hint = "Each line is a record; Ctrl-D ends.\n";
                let _ = stderr().write_all(hint.as_bytes());
            }
            monoio::spawn(tell_trouble(producer.clone()));
        }
    }
    let sent = send_lines(&arguments, &producer, &tally).await;
    producer.flush().await;
    let seconds = (client.now().monotonic_ns - started_ns) as f64 / 1e9;
    let tally = tally.borrow();
    let rate = tally.delivered as f64 / seconds.max(1e-9);
    let erase = if stderr().is_terminal() {
        "\r\x1b[K"
    } else {
        ""
    };
    let summary = format!(
        "{erase}{} records to {} in {seconds:.2} s, {} records/s\n",
        grouped(tally.delivered),
        arguments.topic,
        grouped(rate as u64)
    );
    // A closed stderr is no reason to call delivered records a failure.
    let _ = stderr().write_all(summary.as_bytes());
    match &tally.first_error {
        Some(error) => Err(failure(tally.failed, error, producer.trouble())),
        None => sent,
    }
}

fn failure(failed: u64, error: &ClientError, trouble: Option<ClientError>) -> CommandError {
    let failed = grouped(failed);
    let trouble = match (error, trouble) {
        (ClientError::DeliveryTimeout { .. }, Some(trouble)) => format!(" ({trouble})"),
        _ => String::new(),
    };
    CommandError::Failed(format!(
        "{failed} records were not delivered; the first because: {error}{trouble}"
    ))
}

async fn send_lines(
    arguments: &ProduceArguments,
    producer: &ProducerHandle,
    tally: &Rc<RefCell<Tally>>,
) -> Result<(), CommandError> {
    let descriptor = stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(CommandError::Input)?;
    let input = File::from_std(StdFile::from(descriptor)).map_err(CommandError::Input)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut line_start: Vec<u8> = Vec::new();
    let mut line_number = 0u64;
    loop {
        let result;
        (result, buffer) = input.read_at(buffer, CURRENT_POSITION).await;
        let count = result.map_err(CommandError::Input)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(at);
            rest = after.get(1..).unwrap_or_default();
            line_number += 1;
            if line_start.is_empty() {
                send_line(arguments, producer, line, line_number).await?;
            } else {
                line_start.extend_from_slice(line);
                send_line(arguments, producer, &line_start, line_number).await?;
                line_start.clear();
            }
        }
        line_start.extend_from_slice(rest);
        if line_start.len() > LINE_BYTES_MAX {
            let reason = format!("line {} exceeds {LINE_BYTES_MAX} bytes", line_number + 1);
            return Err(CommandError::Failed(reason));
        }
        if count == 0 {
            break;
        }
        // Going on after a failure would leave a hole in the middle of the input.
        if tally.borrow().failed > 0 {
            return Ok(());
        }
    }
    if !line_start.is_empty() {
        send_line(arguments, producer, &line_start, line_number + 1).await?;
    }
    Ok(())
}

async fn send_line(
    arguments: &ProduceArguments,
    producer: &ProducerHandle,
    line: &[u8],
    line_number: u64,
) -> Result<(), CommandError> {
    let failed = |reason: &dyn std::fmt::Display| {
        CommandError::Failed(format!("line {line_number}: {reason}"))
    };
    let parsed = match arguments.json {
        true => parse(line).map_err(|reason| failed(&reason))?,
        false => JsonRecord::default(),
    };
    let (key, value) = match arguments.json {
        true => (parsed.key.as_deref(), parsed.value.as_deref()),
        false => key_and_value(arguments, line),
    };
    let own = parsed.headers.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_deref()));
    let common = arguments.headers.iter();
    let common = common.map(|(name, value)| (name.as_str(), Some(value.as_bytes())));
    let headers: Vec<_> = own.chain(common).collect();
    let record = RecordToSend {
        key,
        value,
        headers: &headers,
        timestamp: parsed.timestamp,
        partition: arguments.partition,
    };
    match producer.send(&arguments.topic, &record).await {
        Ok(_) => Ok(()),
        Err(error @ ClientError::RecordTooLarge { .. }) => Err(failed(&error)),
        Err(error) => Err(error.into()),
    }
}

fn key_and_value<'a>(
    arguments: &'a ProduceArguments,
    line: &'a [u8],
) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let separator = arguments.key_separator.as_deref().map(str::as_bytes);
    let (key, value) = split_key(line, separator);
    let key_of_all = arguments.key.as_deref().map(str::as_bytes);
    (key.or(key_of_all), Some(value))
}

fn split_key<'a>(line: &'a [u8], separator: Option<&[u8]>) -> (Option<&'a [u8]>, &'a [u8]) {
    let Some(separator) = separator else {
        return (None, line);
    };
    match line
        .windows(separator.len())
        .position(|window| window == separator)
    {
        Some(at) => (
            line.get(..at),
            line.get(at + separator.len()..).unwrap_or_default(),
        ),
        None => (None, line),
    }
}

/// Says why records stay undelivered where no progress line does.
async fn tell_trouble(producer: ProducerHandle) {
    let mut waiting = Waiting::default();
    loop {
        monoio::time::sleep(TELL_EVERY).await;
        let held_up = producer.outstanding_records() > 0;
        waiting.tell(producer.trouble().filter(|_| held_up));
    }
}

async fn show_progress(client: Client, producer: ProducerHandle, tally: Rc<RefCell<Tally>>) {
    let (mut last, mut last_ns) = (0, client.now().monotonic_ns);
    loop {
        monoio::time::sleep(PROGRESS_EVERY).await;
        let now_ns = client.now().monotonic_ns;
        let delivered = tally.borrow().delivered;
        let rate = (delivered - last) as f64 * 1e9 / (now_ns - last_ns).max(1) as f64;
        (last, last_ns) = (delivered, now_ns);
        let trouble = producer
            .trouble()
            .map(|error| format!("; {error}"))
            .unwrap_or_default();
        let line = format!(
            "\r\x1b[K{} records, {} records/s{trouble}",
            grouped(delivered),
            grouped(rate as u64)
        );
        if stderr().write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_key;

    #[test]
    fn lines_split_at_the_first_separator() {
        assert_eq!(
            split_key(b"k:v:w", Some(b":")),
            (Some(&b"k"[..]), &b"v:w"[..])
        );
        assert_eq!(
            split_key(b"k->v", Some(b"->")),
            (Some(&b"k"[..]), &b"v"[..])
        );
        assert_eq!(split_key(b":v", Some(b":")), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(split_key(b"v", Some(b":")), (None, &b"v"[..]));
        assert_eq!(split_key(b"k:v", None), (None, &b"k:v"[..]));
    }
}
