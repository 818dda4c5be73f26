//! What the reactor's tests share: a node of N cores that runs a small script on each, and a client
//! that speaks length-prefixed frames.
//!
//! A failed assertion ends the whole test process: the reactor aborts on any panic, by design.

#![allow(dead_code)] // Each test file uses its own part of this.

pub mod disk;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use highwater_base::disk::{DiskCompletion, DiskOperation, DiskRequest, DiskToken, FileId};
use highwater_base::{CoreId, Now};
use highwater_reactor::{
    CloseReason, ConnectionId, ConnectionInfo, CoreGauges, Deal, DirectIo, Frame, FrameVerdict,
    Listener, Outbox, OutsidePost, ReactorConfig, ReactorError, SendPiece, Service, UserSignal,
    probe_disk, run,
};

/// Long enough for any machine; only a lost event takes it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A test's part of a [`Service`]; what it does not name does nothing.
pub trait Script: Sized + 'static {
    type Message: Send + 'static;

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<Self::Message>,
    ) -> FrameVerdict;
    fn connection(&mut self, _new: ConnectionId, _out: &mut Outbox<Self::Message>) {}
    fn drained(&mut self, _connection: ConnectionId, _out: &mut Outbox<Self::Message>) {}
    fn closed(
        &mut self,
        _connection: ConnectionId,
        _why: &CloseReason,
        _out: &mut Outbox<Self::Message>,
    ) {
    }
    fn adopted(
        &mut self,
        _new: ConnectionId,
        _message: Self::Message,
        _out: &mut Outbox<Self::Message>,
    ) {
    }
    fn disk(&mut self, _completion: DiskCompletion, _out: &mut Outbox<Self::Message>) {}
    fn bad_range(&mut self, _file: FileId, _position: u64) {}
    fn timer(&mut self, _out: &mut Outbox<Self::Message>) {}
    fn deadline_ns(&self) -> Option<u64> {
        None
    }
    fn message(
        &mut self,
        _from: CoreId,
        _message: Self::Message,
        _out: &mut Outbox<Self::Message>,
    ) {
    }
    fn outside(
        &mut self,
        _gauges: &CoreGauges,
        _message: Self::Message,
        _out: &mut Outbox<Self::Message>,
    ) {
    }
    fn shutdown(&mut self, out: &mut Outbox<Self::Message>) {
        out.stop();
    }
}

pub struct Scripted<T>(pub T);

impl<T: Script> Service for Scripted<T> {
    type Message = T::Message;

    fn on_start(&mut self, _now: Now, _out: &mut Outbox<T::Message>) {}

    fn on_connection(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        _info: &ConnectionInfo,
        out: &mut Outbox<T::Message>,
    ) {
        self.0.connection(connection, out);
    }

    fn on_frame(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<T::Message>,
    ) -> FrameVerdict {
        self.0.frame(connection, frame, out)
    }

    fn on_drained(&mut self, _now: Now, connection: ConnectionId, out: &mut Outbox<T::Message>) {
        self.0.drained(connection, out);
    }

    fn on_closed(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        reason: &CloseReason,
        out: &mut Outbox<T::Message>,
    ) {
        self.0.closed(connection, reason, out);
    }

    fn on_adopted(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        _info: &ConnectionInfo,
        message: T::Message,
        out: &mut Outbox<T::Message>,
    ) {
        self.0.adopted(connection, message, out);
    }

    fn on_disk(&mut self, _now: Now, completion: DiskCompletion, out: &mut Outbox<T::Message>) {
        self.0.disk(completion, out);
    }

    fn on_bad_range(
        &mut self,
        _now: Now,
        file: FileId,
        position: u64,
        _out: &mut Outbox<T::Message>,
    ) {
        self.0.bad_range(file, position);
    }

    fn on_message(
        &mut self,
        _now: Now,
        from: CoreId,
        message: T::Message,
        out: &mut Outbox<T::Message>,
    ) {
        self.0.message(from, message, out);
    }

    fn on_outside(
        &mut self,
        _now: Now,
        gauges: &CoreGauges,
        message: T::Message,
        out: &mut Outbox<T::Message>,
    ) {
        self.0.outside(gauges, message, out);
    }

    fn on_timer(&mut self, _now: Now, out: &mut Outbox<T::Message>) {
        self.0.timer(out);
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.0.deadline_ns()
    }

    fn end_turn(&mut self, _now: Now, _out: &mut Outbox<T::Message>) {}

    fn on_shutdown(&mut self, _now: Now, out: &mut Outbox<T::Message>) {
        self.0.shutdown(out);
    }

    fn on_signal(&mut self, _now: Now, _signal: UserSignal, _out: &mut Outbox<T::Message>) {}
}

/// A running reactor with its own data directory.
pub struct Node {
    /// Listener `i` is core `i`'s own; the last one deals to all cores in turn.
    pub addresses: Vec<SocketAddr>,
    pub directory: PathBuf,
    thread: Option<JoinHandle<Result<(), ReactorError>>>,
}

impl Node {
    /// Starts `cores` cores with default settings.
    pub fn start<T: Script>(
        cores: usize,
        make: impl Fn(CoreId) -> T + Send + Sync + 'static,
    ) -> Node {
        Node::start_with(cores, |_| {}, make)
    }

    /// Starts `cores` cores with settings changed by `change`.
    pub fn start_with<T: Script>(
        cores: usize,
        change: impl FnOnce(&mut ReactorConfig),
        make: impl Fn(CoreId) -> T + Send + Sync + 'static,
    ) -> Node {
        Node::start_with_post(cores, change, make).0
    }

    /// The same, with a way to write to the cores from outside.
    pub fn start_with_post<T: Script>(
        cores: usize,
        change: impl FnOnce(&mut ReactorConfig),
        make: impl Fn(CoreId) -> T + Send + Sync + 'static,
    ) -> (Node, OutsidePost<T::Message>) {
        let directory = fresh_directory();
        let probe = probe_disk(&directory).expect("the directory can be examined");
        let any_port: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut deals: Vec<Deal> = (0..cores).map(|i| Deal::Own(CoreId(i as u16))).collect();
        deals.push(Deal::RoundRobin);
        let mut config = ReactorConfig {
            cores,
            listeners: deals
                .into_iter()
                .map(|deal| Listener {
                    address: any_port,
                    deal,
                })
                .collect(),
            data_dir: directory.clone(),
            direct_io: match probe.buffered {
                None => DirectIo::Direct,
                Some(_) => DirectIo::Buffered,
            },
            ..ReactorConfig::default()
        };
        change(&mut config);
        let (ready, addresses) = channel();
        let thread = aside(move || {
            let make = move |core| Ok(Scripted(make(core)));
            run(config, make, move |addresses, post| {
                let _ = ready.send((addresses.to_vec(), post));
            })
        });
        let (addresses, post) = heard(&addresses);
        let node = Node {
            addresses,
            directory,
            thread: Some(thread),
        };
        (node, post)
    }

    /// A client of one core.
    pub fn client(&self, core: usize) -> Client {
        Client::connect(self.addresses[core])
    }

    /// A client dealt to whichever core is next.
    pub fn dealt_client(&self) -> Client {
        Client::connect(self.addresses[self.addresses.len() - 1])
    }

    /// Asks all cores to end, as SIGTERM to the process would.
    pub fn ask_to_end(&self) {
        if let Some(thread) = &self.thread {
            // SAFETY: the thread was not joined, so its handle is valid. It has blocked the signal
            // and reads it from a descriptor; signals to other threads would end the test.
            let result = unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGTERM) };
            assert_eq!(result, 0, "the reactor's thread takes the signal");
        }
    }

    /// Waits until every core has ended.
    pub fn wait_for_end(mut self) -> Result<(), ReactorError> {
        let thread = self.thread.take().expect("waited for once");
        let result = thread.join().expect("the reactor does not panic");
        let _ = std::fs::remove_dir_all(&self.directory);
        result
    }

    pub fn stop(self) {
        self.ask_to_end();
        self.wait_for_end().expect("the reactor ends cleanly");
    }
}

fn fresh_directory() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("reactor-{}-{number}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("a directory for the test");
    directory
}

/// Runs `work` on a thread of its own.
pub fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().spawn(work).expect("a thread")
}

/// The next event; panics when none comes.
pub fn heard<T>(events: &Receiver<T>) -> T {
    events.recv_timeout(PATIENCE).expect("an event comes")
}

/// A blocking client.
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the listener accepts");
        stream.set_nodelay(true).expect("no delay");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a read timeout");
        Client(stream)
    }

    pub fn send(&mut self, payload: &[u8]) {
        self.send_raw(&framed(payload));
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server takes bytes");
    }

    /// Sends from a thread of its own what the sockets cannot hold at once.
    pub fn send_aside(&self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut writing = self.0.try_clone().expect("a second handle");
        aside(move || writing.write_all(&bytes).expect("the server takes bytes"))
    }

    pub fn receive(&mut self) -> Vec<u8> {
        let mut prefix = [0; 4];
        self.receive_raw(&mut prefix);
        let mut payload = vec![0; u32::from_be_bytes(prefix) as usize];
        self.receive_raw(&mut payload);
        payload
    }

    pub fn receive_raw(&mut self, into: &mut [u8]) {
        self.0.read_exact(into).expect("an answer comes");
    }

    /// Everything until the server closes. A reset is an end too: it closed with bytes unread.
    pub fn receive_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the server closes: {error}"),
        }
    }
}

/// A payload behind its length.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// Sends a payload as a frame, in memory that is used again.
pub fn answer<M>(out: &mut Outbox<M>, to: ConnectionId, payload: &[u8]) {
    let mut bytes = out.take_bytes();
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    out.send(to, SendPiece::Bytes(bytes));
}

/// Asks for a disk operation.
pub fn ask_disk<M>(out: &mut Outbox<M>, token: u64, operation: DiskOperation) {
    out.disk().push(DiskRequest {
        token: DiskToken(token),
        operation,
    });
}

/// Bytes that differ from block to block, the same for the same seed.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 11).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The script of most tests: every frame comes back.
pub struct Echo;

impl Script for Echo {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        answer(out, from, frame.bytes());
        FrameVerdict::Continue
    }
}
