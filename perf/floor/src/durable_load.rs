//! A load of durable appends. In a closed loop each connection keeps a fixed number of requests in
//! flight and sends the next one when an answer arrives. With a rate the loop is open: requests are
//! due at fixed moments and their time counts from then, whether or not one could be sent.
//!
//! One thread, one sleeping ring. The yardstick's protocol and Kafka's take the same path through
//! this file and differ only in the bytes of a request and the function that checks an answer, so
//! that the client costs both servers the same. A closed loop measures service time, not what an
//! open system would feel under overload; both sides are measured alike.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use io_uring::{cqueue, opcode, types};
use serde_json::{Map, json};

use crate::floor_frames;
use crate::frame_splitter::FrameSplitter;
use crate::kafka_frames::{self, Target};
use crate::pacing::Pacing;
use crate::pinning::pin;
use crate::receive_ring::ReceiveRing;
use crate::ring::{Idle, Ring, moved, unpack, user_data};
use crate::summary::Latencies;

const RECEIVE: u32 = 1;
const SEND: u32 = 2;
const DUE: u32 = 3;
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Whose bytes are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// The yardstick servers' own.
    Floor,
    /// A Kafka broker's.
    Kafka,
}

/// Flags of `durable-load`.
#[derive(Debug, Args)]
pub struct DurableLoadArgs {
    /// Whose bytes to speak.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Address of the server.
    #[arg(long)]
    connect: SocketAddr,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Fill each request's batch with records up to this many bytes (kafka only); absent = one
    /// record.
    #[arg(long)]
    batch_bytes: Option<usize>,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Requests in flight on each connection; with a rate, at most.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Requests due per second over all connections; absent = closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before measuring starts.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Stop after this many bytes of batches were acknowledged, warm-up included.
    #[arg(long)]
    total_bytes: Option<u64>,
    /// Topic to produce to; it exists already (kafka only).
    #[arg(long, default_value = "floor")]
    topic: String,
    /// Partition to produce to (kafka only).
    #[arg(long, default_value_t = 0)]
    partition: i32,
}

/// A request as bytes, and how to read its answer: all that differs between protocols.
struct Dialect {
    frame: Vec<u8>,
    correlation_at: usize,
    payload_bytes: usize,
    check: fn(&[u8]) -> io::Result<u32>,
}

struct Slot {
    frame: Vec<u8>,
    sent_at: Instant,
}

struct Connection {
    socket: TcpStream,
    splitter: FrameSplitter,
    slots: Vec<Slot>,
    /// Answers come in request order: the slot answered next, and the one sent next.
    answered: usize,
    next: usize,
    waiting_to_send: usize,
    /// Requests without an answer, sent or waiting to be.
    open: usize,
    /// Bytes of the frame on its way that have left, while a send is in flight.
    sending: Option<usize>,
}

struct Load {
    ring: Ring,
    receive: ReceiveRing,
    connections: Vec<Connection>,
    dialect: Dialect,
    /// When requests are due; absent in a closed loop.
    pacing: Option<Pacing>,
    /// How long the timer sleeps that is in the ring, if one is: the kernel reads it on submission.
    due_in: Box<types::Timespec>,
    timer_runs: bool,
    latencies: Latencies,
    measure_from: Instant,
    acknowledged: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Runs the load and prints its figures.
///
/// # Errors
/// A connection that fails or is closed by the server, a request that is refused (the figures are
/// printed all the same), or no measured answer at all.
pub fn run(args: &DurableLoadArgs) -> io::Result<()> {
    pin(args.core)?;
    if args.connections == 0 || args.in_flight == 0 {
        return Err(io::Error::other("connections and in-flight are at least 1"));
    }
    if args.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err(io::Error::other("rate is more than 0"));
    }
    let ring = Ring::new(Idle::Sleep, Duration::ZERO)?;
    let receive = ReceiveRing::register(&ring)?;
    let start = Instant::now();
    let mut load = Load {
        ring,
        receive,
        connections: Vec::with_capacity(args.connections),
        dialect: dialect(args)?,
        pacing: args.rate.map(|rate| Pacing::new(start, rate)),
        due_in: Box::new(types::Timespec::new()),
        timer_runs: false,
        latencies: Latencies::new()?,
        measure_from: start + Duration::from_secs_f64(args.warm_up_seconds),
        acknowledged: 0,
        errors: 0,
        first_error: None,
    };
    for _ in 0..args.connections {
        load.connect(args)?;
    }
    let end = load.measure_from + Duration::from_secs_f64(args.seconds);
    let requests_max = args.total_bytes.map_or(u64::MAX, |total_bytes| {
        total_bytes.div_ceil(load.dialect.payload_bytes as u64)
    });
    let measured = load.drive(end, requests_max)?;
    load.print(args, measured)
}

fn dialect(args: &DurableLoadArgs) -> io::Result<Dialect> {
    match args.protocol {
        Protocol::Floor => {
            let payload: Vec<u8> = (0..args.size).map(|at| (at * 31 % 251) as u8).collect();
            Ok(Dialect {
                frame: floor_frames::append_frame(&payload),
                correlation_at: floor_frames::CORRELATION_AT,
                payload_bytes: args.size,
                check: floor_frames::check_answer,
            })
        }
        Protocol::Kafka => {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
            let timestamp_ms = since_epoch.map_err(io::Error::other)?.as_millis() as i64;
            let records = args
                .batch_bytes
                .map_or(1, |bytes| kafka_frames::records_in_batch(args.size, bytes));
            let batch = kafka_frames::record_batch(args.size, records, timestamp_ms);
            let target = Target {
                topic: args.topic.clone(),
                partition: args.partition,
            };
            Ok(Dialect {
                frame: kafka_frames::produce_request(&target, &batch),
                correlation_at: kafka_frames::CORRELATION_AT,
                payload_bytes: batch.len(),
                check: kafka_frames::check_produce_response,
            })
        }
    }
}

impl Load {
    fn connect(&mut self, args: &DurableLoadArgs) -> io::Result<()> {
        let socket = TcpStream::connect(args.connect)?;
        socket.set_nodelay(true)?;
        let slots = (0..args.in_flight).map(|_| Slot {
            frame: self.dialect.frame.clone(),
            sent_at: self.measure_from,
        });
        let index = self.connections.len();
        let receive = ReceiveRing::receive(socket.as_raw_fd(), user_data(RECEIVE, index));
        self.connections.push(Connection {
            splitter: FrameSplitter::new(ANSWER_BYTES_MAX),
            slots: slots.collect(),
            answered: 0,
            next: 0,
            waiting_to_send: 0,
            open: 0,
            sending: None,
            socket,
        });
        // SAFETY: sockets are kept until the program ends.
        unsafe { self.ring.push(&receive)? };
        if self.pacing.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        for _ in 0..args.in_flight {
            self.request(index, now)?;
        }
        Ok(())
    }

    /// Puts every request in flight that is due and finds a connection with room, then sets the timer
    /// for the next one.
    fn request_due(&mut self, now: Instant) -> io::Result<()> {
        let in_flight_max = self.connections.first().map_or(0, |one| one.slots.len());
        loop {
            let emptiest = (0..self.connections.len()).min_by_key(|at| self.connections[*at].open);
            let Some(index) = emptiest.filter(|at| self.connections[*at].open < in_flight_max)
            else {
                // The next answer makes room.
                return Ok(());
            };
            let due = self.pacing.as_mut().and_then(|pacing| pacing.take(now));
            match due {
                Some(due) => self.request(index, due)?,
                None => return self.set_timer(now),
            }
        }
    }

    fn set_timer(&mut self, now: Instant) -> io::Result<()> {
        let Some(pacing) = self.pacing.as_ref().filter(|_| !self.timer_runs) else {
            return Ok(());
        };
        let wait = pacing.next_due().saturating_duration_since(now);
        *self.due_in = types::Timespec::from(wait);
        self.timer_runs = true;
        let entry = opcode::Timeout::new(&raw const *self.due_in)
            .build()
            .user_data(user_data(DUE, 0));
        // SAFETY: the box lives as long as the ring and is written only when no timer runs.
        unsafe { self.ring.push(&entry) }
    }

    /// Requests that were due and have no answer when the time is over count with the age they have:
    /// left out, the worst would be.
    fn record_unanswered(&mut self, now: Instant) {
        let measure_from = self.measure_from;
        let mut record = |due: Instant| {
            if due >= measure_from {
                self.latencies.record(now.saturating_duration_since(due));
            }
        };
        for connection in &self.connections {
            let slots = connection.slots.len();
            for at in 0..connection.open {
                record(connection.slots[(connection.answered + at) % slots].sent_at);
            }
        }
        while let Some(due) = self.pacing.as_mut().and_then(|pacing| pacing.take(now)) {
            record(due);
        }
    }

    /// Puts one more request in flight. A request's time starts at `now`, so waiting behind an
    /// earlier one of the same connection counts.
    fn request(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let slots = connection.slots.len();
        let slot = (connection.next + connection.waiting_to_send) % slots;
        connection.slots[slot].sent_at = now;
        connection.waiting_to_send += 1;
        connection.open += 1;
        self.send(index)
    }

    /// Sends the next waiting request unless one is on its way.
    fn send(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        if connection.sending.is_some() || connection.waiting_to_send == 0 {
            return Ok(());
        }
        let at = self.dialect.correlation_at;
        let correlation = connection.next as u32;
        connection.slots[connection.next].frame[at..at + 4]
            .copy_from_slice(&correlation.to_be_bytes());
        connection.sending = Some(0);
        self.send_rest(index)
    }

    fn send_rest(&mut self, index: usize) -> io::Result<()> {
        let connection = &self.connections[index];
        let sent = connection.sending.expect("a send is in flight");
        let rest = &connection.slots[connection.next].frame[sent..];
        let socket = types::Fd(connection.socket.as_raw_fd());
        let entry = opcode::Send::new(socket, rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(user_data(SEND, index));
        // SAFETY: a slot's frame is not touched before its answer, which follows its send.
        unsafe { self.ring.push(&entry) }
    }

    fn sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let bytes = moved(result)?;
        let connection = &mut self.connections[index];
        let sent = connection.sending.expect("a send was in flight") + bytes;
        connection.sending = Some(sent);
        if sent < self.dialect.frame.len() {
            return self.send_rest(index);
        }
        connection.sending = None;
        connection.waiting_to_send -= 1;
        connection.next = (connection.next + 1) % connection.slots.len();
        self.send(index)
    }

    /// Runs until `end` or until `requests_max` were answered; gives the measured time.
    fn drive(&mut self, end: Instant, requests_max: u64) -> io::Result<Duration> {
        let mut completions = Vec::with_capacity(1024);
        loop {
            if self.pacing.is_some() {
                self.request_due(Instant::now())?;
            }
            self.ring.wait(false, &mut completions)?;
            let now = Instant::now();
            for completion in completions.drain(..) {
                let (operation, index) = unpack(completion.user_data());
                match operation {
                    RECEIVE => self.received(index, &completion)?,
                    SEND => self.sent(index, completion.result())?,
                    DUE => self.timer_runs = false,
                    other => unreachable!("operation {other} was never submitted"),
                }
            }
            if now >= end || self.acknowledged >= requests_max {
                if self.pacing.is_some() {
                    self.record_unanswered(now);
                }
                return Ok(now.saturating_duration_since(self.measure_from));
            }
        }
    }

    fn received(&mut self, index: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let bytes = match moved(completion.result()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => None,
            Err(error) => return Err(error),
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(bytes) => Some(bytes),
        };
        let mut answers = 0;
        if let (Some(bytes), Some(buffer)) = (bytes, cqueue::buffer_select(completion.flags())) {
            answers = self.take_answers(index, buffer, bytes)?;
            self.receive.give_back(buffer);
        }
        if !cqueue::more(completion.flags()) {
            let socket = self.connections[index].socket.as_raw_fd();
            // SAFETY: sockets are kept until the program ends.
            unsafe {
                self.ring
                    .push(&ReceiveRing::receive(socket, user_data(RECEIVE, index)))?
            };
        }
        self.connections[index].open -= answers;
        if self.pacing.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        for _ in 0..answers {
            self.request(index, now)?;
        }
        Ok(())
    }

    fn take_answers(&mut self, index: usize, buffer: u16, bytes: usize) -> io::Result<usize> {
        let now = Instant::now();
        let Connection {
            splitter,
            slots,
            answered,
            ..
        } = &mut self.connections[index];
        let mut answers = 0;
        splitter.feed(self.receive.bytes(buffer, bytes), |frame| {
            match (self.dialect.check)(frame) {
                Ok(correlation) if correlation as usize != *answered => {
                    let message = format!("answer {correlation} where {answered} is due");
                    return Err(io::Error::other(message));
                }
                // In an open loop what counts is when a request was due, not when it was answered.
                Ok(_)
                    if self
                        .pacing
                        .as_ref()
                        .map_or(now, |_| slots[*answered].sent_at)
                        >= self.measure_from =>
                {
                    self.latencies.record(now - slots[*answered].sent_at);
                }
                Ok(_) => {}
                Err(error) => {
                    self.errors += 1;
                    self.first_error.get_or_insert_with(|| error.to_string());
                }
            }
            *answered = (*answered + 1) % slots.len();
            answers += 1;
            self.acknowledged += 1;
            Ok(())
        })?;
        Ok(answers)
    }

    fn print(&self, args: &DurableLoadArgs, measured: Duration) -> io::Result<()> {
        let seconds = measured.as_secs_f64();
        let count = self.latencies.count();
        let mut object = Map::new();
        object.insert("connections".to_string(), json!(args.connections));
        object.insert("in_flight".to_string(), json!(args.in_flight));
        object.insert(
            "payload_bytes".to_string(),
            json!(self.dialect.payload_bytes),
        );
        object.insert("seconds".to_string(), json!(seconds));
        self.latencies.describe(&mut object);
        let rate = if seconds > 0.0 {
            count as f64 / seconds
        } else {
            0.0
        };
        object.insert("rate_per_s".to_string(), json!(rate));
        let megabytes = rate * self.dialect.payload_bytes as f64 / 1e6;
        object.insert("mb_per_s".to_string(), json!(megabytes));
        object.insert("acknowledged".to_string(), json!(self.acknowledged));
        object.insert("errors".to_string(), json!(self.errors));
        object.insert("first_error".to_string(), json!(self.first_error));
        println!("{}", serde_json::Value::Object(object));
        if let Some(error) = &self.first_error {
            let message = format!("{} requests failed, the first: {error}", self.errors);
            return Err(io::Error::other(message));
        }
        if count == 0 && args.total_bytes.is_none() {
            return Err(io::Error::other(
                "no request was answered in the measured time",
            ));
        }
        Ok(())
    }
}
