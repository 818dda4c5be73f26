//! One connection of a core: its descriptor, what is queued to leave, and the flags its reader and
//! writer share. The reader task owns the socket; the writer borrows the descriptor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;

use highwater_base::CoreId;

use crate::outbox::SendPiece;
use crate::service::{CloseReason, ConnectionId, ConnectionInfo};
use crate::signal::Signal;

/// Shared state of a connection.
#[derive(Debug)]
pub(crate) struct Connection<M> {
    pub id: ConnectionId,
    pub info: ConnectionInfo,
    /// Open as long as the reader task runs.
    pub fd: RawFd,
    /// Pieces to send, the first one from `sent` bytes on.
    pub queue: RefCell<VecDeque<SendPiece>>,
    pub queued_bytes: Cell<usize>,
    pub sent: Cell<usize>,
    /// The writer task holds the front of the queue; nobody else sends.
    pub writer_busy: Cell<bool>,
    pub writer_started: Cell<bool>,
    pub writer: Signal,
    /// Wakes the reader when it is paused.
    pub reader: Signal,
    pub paused: Cell<bool>,
    /// When room was taken for the large frame that is arriving.
    pub large_frame_began_ns: Cell<Option<u64>>,
    pub closing: RefCell<Option<CloseReason>>,
    pub moving: RefCell<Option<(CoreId, M)>>,
    /// The reader is gone; the descriptor may not be used any more.
    pub ended: Cell<bool>,
}

impl<M> Connection<M> {
    pub fn new(id: ConnectionId, info: ConnectionInfo, fd: RawFd) -> Connection<M> {
        Connection {
            id,
            info,
            fd,
            queue: RefCell::new(VecDeque::new()),
            queued_bytes: Cell::new(0),
            sent: Cell::new(0),
            writer_busy: Cell::new(false),
            writer_started: Cell::new(false),
            writer: Signal::default(),
            reader: Signal::default(),
            paused: Cell::new(false),
            large_frame_began_ns: Cell::new(None),
            closing: RefCell::new(None),
            moving: RefCell::new(None),
            ended: Cell::new(false),
        }
    }

    /// Ends both directions, so that the reader wakes up and cleans up.
    pub fn shut_down(&self) {
        if !self.ended.get() {
            // SAFETY: the descriptor is open while the reader has not ended.
            unsafe { libc::shutdown(self.fd, libc::SHUT_RDWR) };
        }
        self.reader.set();
    }

    /// Records why the connection is to end; the first reason stays.
    pub fn close(&self, reason: CloseReason) {
        let mut closing = self.closing.borrow_mut();
        if closing.is_none() {
            *closing = Some(reason);
        }
    }
}
