//! A connection moves to another core with the bytes that were received behind the frame that moved
//! it; nothing is lost, doubled or reordered, however often it moves.

mod support;

use highwater_base::CoreId;
use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Outbox};
use support::{Node, Script, answer, framed, pattern};

const CORES: usize = 2;

/// Echoes with its core's number in front; `move` moves the connection to the next core once its
/// answer has left.
struct Moves {
    core: CoreId,
    leaving: Option<ConnectionId>,
    /// Frames this connection has seen on all cores; travels with it.
    frames: u64,
}

impl Moves {
    fn new(core: CoreId) -> Moves {
        Moves {
            core,
            leaving: None,
            frames: 0,
        }
    }
}

fn said(core: usize, frames: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![core as u8];
    bytes.extend_from_slice(&frames.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

impl Script for Moves {
    type Message = u64;

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<u64>,
    ) -> FrameVerdict {
        self.frames += 1;
        let line = said(usize::from(self.core.0), self.frames, frame.bytes());
        answer(out, from, &line);
        if frame.bytes() == b"move" {
            self.leaving = Some(from);
            return FrameVerdict::Pause;
        }
        FrameVerdict::Continue
    }

    fn drained(&mut self, connection: ConnectionId, out: &mut Outbox<u64>) {
        if self.leaving == Some(connection) {
            self.leaving = None;
            let next = CoreId((self.core.0 + 1) % CORES as u16);
            out.hand_over(connection, next, self.frames);
        }
    }

    fn adopted(&mut self, _: ConnectionId, frames: u64, _: &mut Outbox<u64>) {
        self.frames = frames;
    }
}

#[test]
fn unread_frames_move_along_in_order() {
    let node = Node::start(CORES, Moves::new);
    let mut client = node.client(0);
    let mut bytes = framed(b"stay");
    bytes.extend(framed(b"move"));
    // More than a receive buffer holds, so that some of it is still in the socket.
    let payloads: Vec<Vec<u8>> = (0..200)
        .map(|number| pattern(number, number as usize * 5))
        .collect();
    payloads
        .iter()
        .for_each(|payload| bytes.extend(framed(payload)));
    client.send_raw(&bytes);
    assert_eq!(client.receive(), said(0, 1, b"stay"));
    assert_eq!(client.receive(), said(0, 2, b"move"));
    for (payload, number) in payloads.iter().zip(3..) {
        assert_eq!(client.receive(), said(1, number, payload));
    }
    node.stop();
}

#[test]
fn a_half_received_frame_moves_along() {
    let node = Node::start(CORES, Moves::new);
    let mut client = node.client(0);
    let large = pattern(9, 300_000);
    let mut bytes = framed(b"move");
    bytes.extend(framed(&large));
    // Cut within the length, within a small part, and beyond the receive buffer.
    for (round, cut) in [6, 11, 200_000].into_iter().enumerate() {
        client.send_raw(&bytes[..cut + 4]);
        let (from, to) = (round % CORES, (round + 1) % CORES);
        let seen = round as u64 * 2;
        assert_eq!(client.receive(), said(from, seen + 1, b"move"));
        client.send_raw(&bytes[cut + 4..]);
        assert!(client.receive() == said(to, seen + 2, &large), "cut {cut}");
    }
    node.stop();
}

#[test]
fn a_connection_that_moves_again_and_again_keeps_its_order() {
    const MOVES: u64 = 500;
    let node = Node::start(CORES, Moves::new);
    let mut client = node.client(1);
    let mut bytes = Vec::new();
    for number in 0..MOVES {
        bytes.extend(framed(&number.to_be_bytes()));
        bytes.extend(framed(b"move"));
    }
    let writer = client.send_aside(bytes);
    for number in 0..MOVES {
        let core = (1 + number as usize) % CORES;
        let wanted = said(core, number * 2 + 1, &number.to_be_bytes());
        assert_eq!(client.receive(), wanted);
        assert_eq!(client.receive(), said(core, number * 2 + 2, b"move"));
    }
    writer.join().expect("all was taken");
    node.stop();
}
