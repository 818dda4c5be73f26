//! Steps a service without a reactor: what its tests hand in and what they find in its outbox.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub use crate::outbox::Command;
use crate::outbox::{Outbox, SendPiece};
use crate::service::{ConnectionId, ConnectionInfo, Frame};

/// A connection's id; the test sees to it that it is unique.
#[must_use]
pub fn connection_id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

/// Where a connection of a test comes from.
#[must_use]
pub fn connection_info() -> ConnectionInfo {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    ConnectionInfo {
        peer: address,
        local: address,
        listener: 0,
    }
}

/// Shows `bytes` as a frame that has arrived.
pub fn with_frame<R>(bytes: Vec<u8>, step: impl FnOnce(&Frame<'_>) -> R) -> R {
    let (len, buffer, shared) = (bytes.len(), Arc::new(bytes), Cell::new(false));
    step(&Frame {
        buffer: &buffer,
        start: 0,
        len,
        shared: &shared,
    })
}

/// What the service wanted done since the last call, except for disk requests.
pub fn take_commands<M>(out: &mut Outbox<M>) -> Vec<Command<M>> {
    std::mem::take(&mut out.commands)
}

/// The same as a turn does it: what was wanted against a vector that was carried out, so that both
/// keep their memory.
pub fn swap_commands<M>(out: &mut Outbox<M>, carried_out: &mut Vec<Command<M>>) {
    std::mem::swap(&mut out.commands, carried_out);
}

/// A piece was handed to the kernel: its memory is used again.
pub fn sent<M>(out: &mut Outbox<M>, piece: SendPiece) {
    if let SendPiece::Bytes(bytes) = piece {
        out.recycle(bytes);
    }
}
