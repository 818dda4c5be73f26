//! The floor of every durable append: one thread, one ring, TCP in, one group commit at a time into
//! a prepared file, an answer once the bytes are on disk.
//!
//! ```text
//! receive -> check CRC32C -> copy to staging -> [write in flight?] -> answer
//!                               ^ everything that arrives meanwhile rides the next write
//! ```
//! It deliberately has no topics, no offsets, no index, no recovery and no back-pressure beyond
//! [`STAGING_BYTES`]: what is left is what the kernel and the device cost.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use io_uring::{cqueue, opcode, types};

use crate::floor_frames::{Append, ERROR_CRC, ERROR_NONE, answer, crc32c};
use crate::frame_splitter::FrameSplitter;
use crate::pinning::pin;
use crate::prepared_file::{self, Blocks};
use crate::receive_ring::ReceiveRing;
use crate::ring::{Idle, Ring, moved, unpack, user_data};
use crate::staging::{STAGING_BYTES, Staging, Waiting};

/// Two areas must fit before the end, or the log could not start over in time.
const FILE_BYTES_MIN: u64 = 4 * STAGING_BYTES as u64;

const ACCEPT: u32 = 1;
const RECEIVE: u32 = 2;
const SEND: u32 = 3;
const WRITE: u32 = 4;

/// Flags of `durable-server`.
#[derive(Debug, Args)]
pub struct DurableServerArgs {
    /// Address to serve on; port 0 picks one, which the `ready` line names.
    #[arg(long, default_value = "127.0.0.1:9300")]
    listen: SocketAddr,
    /// File that takes the appends; replaced at start.
    #[arg(long)]
    file: PathBuf,
    /// Size of the file in bytes; appends start over at its end.
    #[arg(long, default_value_t = 512 << 20)]
    file_bytes: u64,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
    /// How to wait for work.
    #[arg(long, value_enum, default_value_t = Idle::Sleep)]
    idle: Idle,
    /// How long `--idle adaptive` spins before it parks.
    #[arg(long, default_value_t = 20)]
    idle_spin_us: u64,
    /// Write from registered buffers (WRITE_FIXED) to a registered file.
    #[arg(long)]
    registered: bool,
    /// Write to blocks that are only allocated instead of already written.
    #[arg(long)]
    fallocated: bool,
    /// Answer without writing anything: the floor of the network alone.
    #[arg(long)]
    memory_only: bool,
}

struct Connection {
    socket: OwnedFd,
    splitter: FrameSplitter,
    /// Answers the kernel is sending, and those that wait behind them.
    sending: Vec<u8>,
    sent: usize,
    queued: Vec<u8>,
    /// Appends not yet answered; the slot is kept while there are any.
    unanswered: usize,
    closing: bool,
}

struct DurableServer {
    ring: Ring,
    receive: ReceiveRing,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    file: File,
    file_bytes: u64,
    registered: bool,
    memory_only: bool,
    /// The area being filled and the one being written.
    areas: [Staging; 2],
    filling: usize,
    writing_bytes: Option<usize>,
    touched: Vec<usize>,
}

/// Serves until the process is ended.
///
/// # Errors
/// Whatever the kernel says while preparing the file or serving.
pub fn run(args: &DurableServerArgs) -> io::Result<()> {
    pin(args.core)?;
    if args.file_bytes < FILE_BYTES_MIN {
        let message = format!(
            "file size is {}; allowed from {FILE_BYTES_MIN}",
            args.file_bytes
        );
        return Err(io::Error::other(message));
    }
    let blocks = if args.fallocated {
        Blocks::Fallocated
    } else {
        Blocks::Written
    };
    let file = prepared_file::create(&args.file, args.file_bytes, blocks, libc::O_DSYNC)?;
    let listener = TcpListener::bind(args.listen)?;
    let ring = Ring::new(args.idle, Duration::from_micros(args.idle_spin_us))?;
    let receive = ReceiveRing::register(&ring)?;
    let mut server = DurableServer {
        ring,
        receive,
        listener,
        connections: Vec::new(),
        file,
        file_bytes: args.file_bytes,
        registered: args.registered,
        memory_only: args.memory_only,
        areas: [Staging::new(), Staging::new()],
        filling: 0,
        writing_bytes: None,
        touched: Vec::with_capacity(1024),
    };
    server.register()?;
    server.accept()?;
    println!("ready {}", server.listener.local_addr()?);
    io::stdout().flush()?;
    let mut completions = Vec::with_capacity(1024);
    loop {
        server
            .ring
            .wait(server.writing_bytes.is_some(), &mut completions)?;
        for completion in completions.drain(..) {
            server.complete(&completion)?;
        }
        server.commit()?;
        server.flush_answers()?;
    }
}

impl DurableServer {
    fn register(&mut self) -> io::Result<()> {
        if !self.registered {
            return Ok(());
        }
        let buffers = [0, 1].map(|index: usize| libc::iovec {
            iov_base: self.areas[index].memory.as_ptr().cast(),
            iov_len: self.areas[index].memory.len(),
        });
        let submitter = self.ring.uring().submitter();
        // SAFETY: the areas live as long as the server and its ring.
        unsafe { submitter.register_buffers(&buffers)? };
        submitter.register_files(&[self.file.as_raw_fd()])
    }

    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd()))
            .build()
            .user_data(user_data(ACCEPT, 0));
        // SAFETY: the listener lives as long as the server; no memory is named.
        unsafe { self.ring.push(&entry) }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (operation, index) = unpack(completion.user_data());
        match operation {
            ACCEPT => {
                // SAFETY: a fresh descriptor from accept that nobody else owns.
                let socket = unsafe { OwnedFd::from_raw_fd(moved(completion.result())? as RawFd) };
                if !cqueue::more(completion.flags()) {
                    self.accept()?;
                }
                self.open(socket)
            }
            RECEIVE => self.received(index, completion),
            SEND => self.sent(index, completion.result()),
            WRITE => self.written(completion.result()),
            other => unreachable!("operation {other} was never submitted"),
        }
    }

    fn open(&mut self, socket: OwnedFd) -> io::Result<()> {
        set_nodelay(&socket)?;
        let index = self
            .connections
            .iter()
            .position(Option::is_none)
            .unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
        let receive = ReceiveRing::receive(socket.as_raw_fd(), user_data(RECEIVE, index));
        self.connections[index] = Some(Connection {
            socket,
            splitter: FrameSplitter::new(STAGING_BYTES),
            sending: Vec::with_capacity(4096),
            sent: 0,
            queued: Vec::with_capacity(4096),
            unanswered: 0,
            closing: false,
        });
        // SAFETY: the socket is closed only after its last receive has completed.
        unsafe { self.ring.push(&receive) }
    }

    fn received(&mut self, index: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let more = cqueue::more(completion.flags());
        let bytes = match moved(completion.result()) {
            Ok(bytes) => bytes,
            // Every buffer is in use for a moment; the receive is armed again below.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                let receive =
                    ReceiveRing::receive(connection.socket.as_raw_fd(), user_data(RECEIVE, index));
                // SAFETY: the socket is closed only after its last receive has completed.
                return unsafe { self.ring.push(&receive) };
            }
            Err(_) => 0,
        };
        let mut fine = bytes > 0;
        if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
            let area = &mut self.areas[self.filling];
            let unanswered = &mut connection.unanswered;
            let fed = connection
                .splitter
                .feed(self.receive.bytes(buffer, bytes), |frame| {
                    *unanswered += 1;
                    append(area, index, frame)
                });
            self.receive.give_back(buffer);
            if let Err(error) = fed {
                eprintln!("connection {index} closed: {error}");
                fine = false;
            }
        }
        if !fine {
            connection.closing = true;
            if !more {
                self.close_if_done(index);
            } else {
                shut(&connection.socket);
            }
            return Ok(());
        }
        if !more {
            let receive =
                ReceiveRing::receive(connection.socket.as_raw_fd(), user_data(RECEIVE, index));
            // SAFETY: the socket is closed only after its last receive has completed.
            unsafe { self.ring.push(&receive)? };
        }
        Ok(())
    }

    fn close_if_done(&mut self, index: usize) {
        if let Some(connection) = &self.connections[index]
            && connection.closing
            && connection.unanswered == 0
            && connection.sending.is_empty()
        {
            self.connections[index] = None;
        }
    }

    /// Starts the next write when none is in flight and something waits for it.
    fn commit(&mut self) -> io::Result<()> {
        if self.writing_bytes.is_some() || self.areas[self.filling].waiting.is_empty() {
            return Ok(());
        }
        let writing = self.filling;
        let bytes = self.areas[writing].seal();
        let start = self.areas[writing].start;
        let address = self.areas[writing].memory.as_ptr();
        self.filling = 1 - writing;
        let [first, second] = &mut self.areas;
        let (done, next) = if writing == 0 {
            (first, second)
        } else {
            (second, first)
        };
        // The next area must fit wholly before the end of the file.
        let wrap = done.end() + 2 * STAGING_BYTES as u64 > self.file_bytes;
        next.continue_after(done, wrap);
        self.writing_bytes = Some(bytes);
        if self.memory_only {
            return self.written(i32::try_from(bytes).map_err(io::Error::other)?);
        }
        let length = bytes as u32;
        let entry = if self.registered {
            opcode::WriteFixed::new(types::Fixed(0), address, length, writing as u16)
                .offset(start)
                .build()
        } else {
            opcode::Write::new(types::Fd(self.file.as_raw_fd()), address, length)
                .offset(start)
                .build()
        };
        // SAFETY: the area is neither freed nor filled until `written` has seen the completion.
        unsafe { self.ring.push(&entry.user_data(user_data(WRITE, writing))) }
    }

    fn written(&mut self, result: i32) -> io::Result<()> {
        let expected = self.writing_bytes.take();
        let bytes = moved(result)?;
        if expected != Some(bytes) {
            return Err(io::Error::other(format!(
                "wrote {bytes} of {expected:?} bytes"
            )));
        }
        let area = &mut self.areas[1 - self.filling];
        let end = area.end();
        for waiting in area.waiting.drain(..) {
            let connection = self.connections[waiting.connection]
                .as_mut()
                .expect("a connection is kept while an append of it is unanswered");
            connection.unanswered -= 1;
            if connection.queued.is_empty() {
                self.touched.push(waiting.connection);
            }
            connection
                .queued
                .extend_from_slice(&answer(waiting.correlation, waiting.error, end));
        }
        Ok(())
    }

    /// Sends what a finished write has answered; after `commit`, so that the device works already.
    fn flush_answers(&mut self) -> io::Result<()> {
        while let Some(index) = self.touched.pop() {
            self.send(index)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        if !connection.sending.is_empty() || connection.queued.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut connection.sending, &mut connection.queued);
        connection.sent = 0;
        self.send_rest(index)
    }

    fn send_rest(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &self.connections[index] else {
            return Ok(());
        };
        let rest = &connection.sending[connection.sent..];
        let entry = opcode::Send::new(
            types::Fd(connection.socket.as_raw_fd()),
            rest.as_ptr(),
            rest.len() as u32,
        )
        .flags(libc::MSG_NOSIGNAL)
        .build()
        .user_data(user_data(SEND, index));
        // SAFETY: `sending` is not touched until `sent` has seen the completion.
        unsafe { self.ring.push(&entry) }
    }

    fn sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        match moved(result) {
            Ok(bytes) => connection.sent += bytes,
            Err(_) => {
                connection.sent = connection.sending.len();
                connection.queued.clear();
            }
        }
        if connection.sent < connection.sending.len() {
            return self.send_rest(index);
        }
        connection.sending.clear();
        self.send(index)?;
        self.close_if_done(index);
        Ok(())
    }
}

fn append(area: &mut Staging, connection: usize, frame: &[u8]) -> io::Result<()> {
    let Some(append) = Append::parse(frame) else {
        return Err(io::Error::other(format!(
            "append of {} bytes; at least 8",
            frame.len()
        )));
    };
    let mut error = ERROR_NONE;
    if crc32c(append.payload) != append.crc32c {
        error = ERROR_CRC;
    } else if !area.append(append.payload) {
        return Err(io::Error::other(format!(
            "more than {STAGING_BYTES} bytes in flight"
        )));
    }
    area.waiting.push(Waiting {
        connection,
        correlation: append.correlation,
        error,
    });
    Ok(())
}

fn set_nodelay(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is one int that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn shut(socket: &OwnedFd) {
    // SAFETY: an open descriptor; its pending receive then completes with zero bytes.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}
