//! What a host implements: one state machine per core.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use highwater_base::disk::{DiskCompletion, FileId};
use highwater_base::{CoreId, Now, SharedSlice};

use crate::gauges::CoreGauges;
use crate::outbox::Outbox;

/// One connection; unique within its core while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Index of the listener that accepted it.
    pub listener: usize,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason(String);

impl CloseReason {
    /// A reason in words.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> CloseReason {
        CloseReason(reason.into())
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What becomes of a connection after a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameVerdict {
    /// Go on reading.
    Continue,
    /// Read no further frame until `Outbox::resume`.
    Pause,
    /// Not now: the same frame again after `Outbox::resume`.
    Defer,
    /// Close once what is queued has been sent.
    Close(CloseReason),
}

/// A user signal to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSignal {
    /// SIGUSR1: tell the counters.
    Counters,
}

/// A whole frame as it lies in the receive buffer, without its length prefix.
#[derive(Debug)]
pub struct Frame<'a> {
    pub(crate) buffer: &'a Arc<Vec<u8>>,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) shared: &'a Cell<bool>,
}

impl Frame<'_> {
    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    /// Keeps a part of the frame's bytes alive beyond this call, without a copy: the connection
    /// takes a fresh buffer instead. Nothing may come from anywhere. Panics when other bytes lie
    /// outside the frame.
    #[must_use]
    pub fn share(&self, part: &[u8]) -> SharedSlice {
        let start = match part.is_empty() {
            true => 0,
            false => (part.as_ptr() as usize).wrapping_sub(self.bytes().as_ptr() as usize),
        };
        let end = start.checked_add(part.len());
        assert!(end.is_some_and(|end| end <= self.len));
        self.shared.set(true);
        SharedSlice::new(Arc::clone(self.buffer), self.start + start, part.len())
    }
}

/// One core's state machine. Calls never overlap; each may fill the outbox, which is carried out at
/// the end of the turn.
pub trait Service: Sized + 'static {
    /// What cores say to each other.
    type Message: Send + 'static;

    /// The core runs; nothing else has been called yet.
    fn on_start(&mut self, now: Now, out: &mut Outbox<Self::Message>);

    /// A client has connected.
    fn on_connection(
        &mut self,
        now: Now,
        connection: ConnectionId,
        info: &ConnectionInfo,
        out: &mut Outbox<Self::Message>,
    );

    /// A whole frame has arrived.
    fn on_frame(
        &mut self,
        now: Now,
        connection: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<Self::Message>,
    ) -> FrameVerdict;

    /// Everything queued on a connection has been handed to the kernel.
    fn on_drained(&mut self, now: Now, connection: ConnectionId, out: &mut Outbox<Self::Message>);

    /// A connection is gone.
    fn on_closed(
        &mut self,
        now: Now,
        connection: ConnectionId,
        reason: &CloseReason,
        out: &mut Outbox<Self::Message>,
    );

    /// A connection was handed over by another core, with the state that core sent along.
    fn on_adopted(
        &mut self,
        now: Now,
        connection: ConnectionId,
        info: &ConnectionInfo,
        message: Self::Message,
        out: &mut Outbox<Self::Message>,
    );

    /// A disk request has ended.
    fn on_disk(&mut self, now: Now, completion: DiskCompletion, out: &mut Outbox<Self::Message>);

    /// Another core says something.
    fn on_message(
        &mut self,
        now: Now,
        from: CoreId,
        message: Self::Message,
        out: &mut Outbox<Self::Message>,
    );

    /// A thread that is no core says something, by [`crate::OutsidePost`]; with what the reactor knows
    /// of the core at this moment.
    fn on_outside(
        &mut self,
        now: Now,
        gauges: &CoreGauges,
        message: Self::Message,
        out: &mut Outbox<Self::Message>,
    );

    /// A range of a file could not be sent, and its connection was closed for it: at `position` the
    /// device cannot read it, the file has ended, or its head is not what it has to be.
    fn on_bad_range(
        &mut self,
        _now: Now,
        _file: FileId,
        _position: u64,
        _out: &mut Outbox<Self::Message>,
    ) {
    }

    /// `next_deadline_ns` has been reached.
    fn on_timer(&mut self, now: Now, out: &mut Outbox<Self::Message>);

    /// When `on_timer` is wanted next, on the monotonic clock.
    fn next_deadline_ns(&self) -> Option<u64>;

    /// All inputs of the turn have been stepped.
    fn end_turn(&mut self, now: Now, out: &mut Outbox<Self::Message>);

    /// The process is to end: finish, then call `Outbox::stop`.
    fn on_shutdown(&mut self, now: Now, out: &mut Outbox<Self::Message>);

    /// A user signal.
    fn on_signal(&mut self, now: Now, signal: UserSignal, out: &mut Outbox<Self::Message>);
}
