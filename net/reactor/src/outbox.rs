//! What a service wants done; carried out at the end of the turn.

use highwater_base::disk::{DiskRequest, FileId};
use highwater_base::{BufferSlice, CoreId, SharedSlice};

use crate::service::{CloseReason, ConnectionId};

/// Empty byte vectors kept for reuse, at most.
const SPARE_BYTES_MAX: usize = 1024;
/// A vector larger than this is not kept.
const SPARE_CAPACITY_MAX: usize = 64 * 1024;

/// A run of bytes to send.
#[derive(Debug)]
pub enum SendPiece {
    /// Bytes made for this; their memory is used again.
    Bytes(Vec<u8>),
    /// A range of a buffer of this core.
    Memory(BufferSlice),
    /// A range of bytes that crossed cores.
    Shared(SharedSlice),
    /// A range of a file, by sendfile.
    File {
        file: FileId,
        offset: u64,
        len: usize,
        /// Up to where the file may be read ahead for what is sent next; at least the range's end.
        readable_end: u64,
        /// What has to be there, if anything in particular.
        head: Option<HeadCheck>,
    },
}

/// What the first bytes of a range have to be, or none of it is sent.
#[derive(Clone, Copy, Debug)]
pub struct HeadCheck {
    /// So many bytes are looked at.
    pub bytes: usize,
    /// What the host knows of them.
    pub facts: [u64; 3],
    pub accepts: fn(head: &[u8], facts: [u64; 3]) -> bool,
}

impl SendPiece {
    /// Its number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            SendPiece::Bytes(bytes) => bytes.len(),
            SendPiece::Memory(slice) => slice.len(),
            SendPiece::Shared(slice) => slice.len(),
            SendPiece::File { len, .. } => *len,
        }
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something to do for a connection or a core, in the order of the calls.
#[derive(Debug)]
pub enum Command<M> {
    Send(ConnectionId, SendPiece),
    Close(ConnectionId, CloseReason),
    Resume(ConnectionId),
    HandOver(ConnectionId, CoreId, M),
    Mail(CoreId, M),
    Stop,
}

/// Collects what a service wants done in a turn.
#[derive(Debug)]
pub struct Outbox<M> {
    pub(crate) commands: Vec<Command<M>>,
    pub(crate) requests: Vec<DiskRequest>,
    pub(crate) spares: Vec<Vec<u8>>,
}

impl<M> Default for Outbox<M> {
    fn default() -> Outbox<M> {
        Outbox {
            commands: Vec::new(),
            requests: Vec::new(),
            spares: Vec::new(),
        }
    }
}

impl<M> Outbox<M> {
    /// Queues a piece on a connection. Pieces of one connection leave in the order of the calls.
    pub fn send(&mut self, connection: ConnectionId, piece: SendPiece) {
        self.commands.push(Command::Send(connection, piece));
    }

    /// An empty vector, with the memory of an earlier one where there is any.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    /// Takes a vector's memory back.
    pub(crate) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spares.len() < SPARE_BYTES_MAX && bytes.capacity() <= SPARE_CAPACITY_MAX {
            bytes.clear();
            self.spares.push(bytes);
        }
    }

    /// Where disk requests go.
    pub fn disk(&mut self) -> &mut Vec<DiskRequest> {
        &mut self.requests
    }

    /// Sends a message to another core.
    pub fn mail(&mut self, to: CoreId, message: M) {
        self.commands.push(Command::Mail(to, message));
    }

    /// Closes a connection once what is queued on it has been sent.
    pub fn close(&mut self, connection: ConnectionId, reason: CloseReason) {
        self.commands.push(Command::Close(connection, reason));
    }

    /// Reads frames of a paused connection again.
    pub fn resume(&mut self, connection: ConnectionId) {
        self.commands.push(Command::Resume(connection));
    }

    /// Moves a connection that is paused and drained to another core, with its unread bytes and a
    /// message that `on_adopted` gets there. `on_closed` is not called here.
    pub fn hand_over(&mut self, connection: ConnectionId, to: CoreId, message: M) {
        self.commands
            .push(Command::HandOver(connection, to, message));
    }

    /// This core is finished.
    pub fn stop(&mut self) {
        self.commands.push(Command::Stop);
    }
}
