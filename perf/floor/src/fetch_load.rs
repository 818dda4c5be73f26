//! Reads pieces one after another and discards them: from a sendfile server or, as fetches, from a
//! Kafka broker. Both are received by the same loop into the same buffer; of a fetch only the
//! response's head and the batch headers are looked at. Several connections are threads that do the
//! same, each from its own place in the log.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::durable_load::Protocol;
use crate::floor_frames::read_frame;
use crate::kafka_frames::{Target, fetch_request, parse_fetch_response};
use crate::pinning::pin;
use crate::summary::Latencies;

/// A broker may answer with one batch larger than asked for.
const RESPONSE_SLACK_BYTES: usize = 2 << 20;
const LENGTH_BYTES: usize = 4;
const WAIT_MS: i32 = 500;

/// Flags of `fetch-load`.
#[derive(Debug, Args)]
pub struct FetchLoadArgs {
    /// Whose bytes to speak.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Address of the server.
    #[arg(long)]
    connect: SocketAddr,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
    /// Bytes asked for at a time.
    #[arg(long, default_value_t = 1 << 20)]
    piece_bytes: u32,
    /// Where to start: an offset of the partition (kafka) or of the file (floor).
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Where the file ends, in bytes (floor only).
    #[arg(long, default_value_t = 1 << 30)]
    file_bytes: u64,
    /// Connections. The first starts at `start`, the others evenly spread up to the end.
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Start over at the end for this many seconds; absent = read once to the end.
    #[arg(long)]
    seconds: Option<f64>,
    /// Seconds before measuring starts.
    #[arg(long, default_value_t = 0.0)]
    warm_up_seconds: f64,
    /// Topic to fetch (kafka only).
    #[arg(long, default_value = "floor")]
    topic: String,
    /// Partition to fetch (kafka only).
    #[arg(long, default_value_t = 0)]
    partition: i32,
}

/// What one piece brought.
struct Piece {
    bytes: usize,
    /// Where to go on; `None` at the end.
    next: Option<u64>,
}

struct Receiver {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Receiver {
    fn connect(args: &FetchLoadArgs) -> io::Result<Receiver> {
        let socket = TcpStream::connect(args.connect)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let buffer = vec![0; args.piece_bytes as usize + RESPONSE_SLACK_BYTES];
        Ok(Receiver { socket, buffer })
    }

    /// Sends `request` and receives one whole frame, length not included.
    fn exchange(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.socket.write_all(request)?;
        let mut filled = 0;
        let mut end = LENGTH_BYTES;
        while filled < end {
            // One request is in flight, so nothing can follow its answer: read all there is.
            let read = self.socket.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            filled += read;
            if end == LENGTH_BYTES && filled >= LENGTH_BYTES {
                end += self.frame_bytes()?;
            }
        }
        Ok(&self.buffer[LENGTH_BYTES..end])
    }

    fn frame_bytes(&self) -> io::Result<usize> {
        let length = self
            .buffer
            .first_chunk::<LENGTH_BYTES>()
            .expect("the buffer is larger");
        let bytes = u32::from_be_bytes(*length) as usize;
        let allowed = self.buffer.len() - LENGTH_BYTES;
        if bytes <= allowed {
            return Ok(bytes);
        }
        Err(io::Error::other(format!(
            "answer of {bytes} bytes; allowed is up to {allowed}"
        )))
    }
}

/// What one connection has read in the measured window.
struct Outcome {
    latencies: Latencies,
    bytes: u64,
    measured: Duration,
}

/// Runs the load and prints its figures.
///
/// # Errors
/// A connection that fails, an error code of the broker, or nothing to read.
pub fn run(args: &FetchLoadArgs) -> io::Result<()> {
    pin(args.core)?;
    if args.connections == 0 {
        return Err(io::Error::other("connections are at least 1"));
    }
    let outcome = if args.connections == 1 {
        read(args, args.start)?
    } else {
        read_in_parallel(args)?
    };
    print(args, &outcome);
    if outcome.bytes == 0 {
        Err(io::Error::other("nothing to read"))
    } else {
        Ok(())
    }
}

fn read_in_parallel(args: &FetchLoadArgs) -> io::Result<Outcome> {
    let end = log_end(args)?;
    let share = end.saturating_sub(args.start) / u64::from(args.connections);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..u64::from(args.connections))
            .map(|number| scope.spawn(move || read(args, args.start + number * share)))
            .collect();
        let mut all = Outcome {
            latencies: Latencies::new()?,
            bytes: 0,
            measured: Duration::ZERO,
        };
        for reader in readers {
            let one = reader
                .join()
                .map_err(|_| io::Error::other("a reader has panicked"))??;
            all.latencies.merge(&one.latencies)?;
            all.bytes += one.bytes;
            all.measured = all.measured.max(one.measured);
        }
        Ok(all)
    })
}

/// Where the log ends: its high-water mark, or the end of the file.
fn log_end(args: &FetchLoadArgs) -> io::Result<u64> {
    match args.protocol {
        Protocol::Floor => Ok(args.file_bytes),
        Protocol::Kafka => {
            let request = fetch_request(&target(args), 0, 1, 0);
            let mut receiver = Receiver::connect(args)?;
            let fetched = parse_fetch_response(receiver.exchange(&request)?)?;
            u64::try_from(fetched.high_watermark).map_err(io::Error::other)
        }
    }
}

fn target(args: &FetchLoadArgs) -> Target {
    Target {
        topic: args.topic.clone(),
        partition: args.partition,
    }
}

/// Reads on one connection from `first` on.
fn read(args: &FetchLoadArgs, first: u64) -> io::Result<Outcome> {
    let mut receiver = Receiver::connect(args)?;
    let mut latencies = Latencies::new()?;
    let start = Instant::now();
    let mut measure_from = start + Duration::from_secs_f64(args.warm_up_seconds);
    let mut position = first;
    let mut bytes = 0u64;
    loop {
        let asked_at = Instant::now();
        let piece = fetch(args, &mut receiver, position)?;
        let now = Instant::now();
        if asked_at >= measure_from {
            latencies.record(now - asked_at);
            bytes += piece.bytes as u64;
        } else {
            // The window starts with the first piece asked for after the warm-up.
            measure_from = measure_from.max(now);
        }
        let over = args
            .seconds
            .is_some_and(|seconds| now >= measure_from + Duration::from_secs_f64(seconds));
        match piece.next {
            _ if over => break,
            Some(next) => position = next,
            None if args.seconds.is_some() && bytes + piece.bytes as u64 > 0 => {
                position = args.start;
            }
            None if args.seconds.is_none() => break,
            None => return Err(io::Error::other("nothing to read")),
        }
    }
    Ok(Outcome {
        latencies,
        bytes,
        measured: measure_from.elapsed(),
    })
}

fn fetch(args: &FetchLoadArgs, receiver: &mut Receiver, position: u64) -> io::Result<Piece> {
    match args.protocol {
        Protocol::Floor => {
            let frame = receiver.exchange(&read_frame(position, args.piece_bytes))?;
            let next = position + frame.len() as u64;
            Ok(Piece {
                bytes: frame.len(),
                next: (next < args.file_bytes).then_some(next),
            })
        }
        Protocol::Kafka => {
            let offset = i64::try_from(position).map_err(io::Error::other)?;
            let request = fetch_request(&target(args), offset, args.piece_bytes as i32, WAIT_MS);
            let frame = receiver.exchange(&request)?;
            let fetched = parse_fetch_response(frame)?;
            let next = fetched.next_offset.unwrap_or(offset);
            if next <= offset && offset < fetched.high_watermark {
                return Err(io::Error::other(format!(
                    "no complete batch at offset {offset}"
                )));
            }
            let next = (next < fetched.high_watermark).then_some(next as u64);
            Ok(Piece {
                bytes: fetched.record_bytes,
                next,
            })
        }
    }
}

fn print(args: &FetchLoadArgs, outcome: &Outcome) {
    let seconds = outcome.measured.as_secs_f64();
    let mut object = Map::new();
    object.insert("piece_bytes".to_string(), json!(args.piece_bytes));
    object.insert("connections".to_string(), json!(args.connections));
    object.insert("bytes".to_string(), json!(outcome.bytes));
    object.insert("seconds".to_string(), json!(seconds));
    let rate = outcome.bytes as f64 / 1e9 / seconds;
    object.insert("gb_per_s".to_string(), json!(rate));
    outcome.latencies.describe(&mut object);
    println!("{}", Value::Object(object));
}
