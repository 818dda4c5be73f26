//! A length that is not allowed ends its connection with a reason, and only that one; a verdict to
//! close lets the answer leave first.

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use highwater_base::CoreId;
use highwater_reactor::{CloseReason, ConnectionId, Frame, FrameVerdict, Outbox};
use support::{Node, Script, answer, framed, heard, pattern};

const FRAME_BYTES_MAX: usize = 100_000;

/// Echoes, tells why connections end, and closes at the client's word.
struct Listens(Sender<String>);

impl Script for Listens {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        answer(out, from, frame.bytes());
        match frame.bytes() {
            b"verdict" => FrameVerdict::Close(CloseReason::new("as the client wishes")),
            b"outbox" => {
                out.close(from, CloseReason::new("as the service wishes"));
                FrameVerdict::Continue
            }
            _ => FrameVerdict::Continue,
        }
    }

    fn closed(&mut self, _: ConnectionId, why: &CloseReason, _: &mut Outbox<()>) {
        let _ = self.0.send(why.to_string());
    }
}

fn node() -> (Node, Receiver<String>) {
    let (reasons, heard_reasons) = channel();
    let node = Node::start_with(
        1,
        |config| config.frame_bytes_max = FRAME_BYTES_MAX,
        move |_: CoreId| Listens(reasons.clone()),
    );
    (node, heard_reasons)
}

#[test]
fn the_longest_frame_passes_and_one_byte_more_does_not() {
    let (node, reasons) = node();
    let mut other = node.client(0);
    other.send(b"before");
    assert_eq!(other.receive(), b"before");

    let mut client = node.client(0);
    let longest = pattern(1, FRAME_BYTES_MAX);
    client.send(&longest);
    assert!(client.receive() == longest);
    // The length alone is enough: the server does not wait for bytes it would not take.
    client.send_raw(&(FRAME_BYTES_MAX as u32 + 1).to_be_bytes());
    assert_eq!(client.receive_to_end(), b"");
    assert_eq!(
        heard(&reasons),
        "frame length 100001; allowed is 0 to 100000"
    );

    other.send(b"after");
    assert_eq!(other.receive(), b"after");
    node.stop();
}

#[test]
fn a_large_frame_that_does_not_arrive_gives_its_room_back() {
    let (reasons, heard_reasons) = channel();
    let node = Node::start_with(
        1,
        |config| {
            config.frame_bytes_max = FRAME_BYTES_MAX;
            config.receive_bytes_max = FRAME_BYTES_MAX;
            config.frame_receive_timeout = Duration::from_millis(100);
        },
        move |_: CoreId| Listens(reasons.clone()),
    );
    let mut stalled = node.client(0);
    stalled.send_raw(&(FRAME_BYTES_MAX as u32).to_be_bytes());
    stalled.send_raw(b"and no more");
    // There is no room for two of this size: it is taken when the other one is given up.
    let mut other = node.client(0);
    let longest = pattern(1, FRAME_BYTES_MAX);
    other.send(&longest);
    assert_eq!(
        heard(&heard_reasons),
        "a request of more than 16384 bytes did not arrive within 100 ms"
    );
    assert!(other.receive() == longest);
    assert_eq!(stalled.receive_to_end(), b"");
    node.stop();
}

#[test]
fn a_negative_length_closes() {
    let (node, reasons) = node();
    let mut other = node.client(0);
    for length in [-1, i32::MIN] {
        let mut client = node.client(0);
        client.send_raw(&i32::to_be_bytes(length));
        assert_eq!(client.receive_to_end(), b"");
        let wanted = format!("frame length {length}; allowed is 0 to 100000");
        assert_eq!(heard(&reasons), wanted);
    }
    other.send(b"still here");
    assert_eq!(other.receive(), b"still here");
    node.stop();
}

#[test]
fn other_protocols_are_named() {
    let (node, reasons) = node();
    let greetings: [(&[u8], &str); 3] = [
        (b"\x16\x03\x01\x02\x00\x01\x00", "this looks like TLS"),
        (b"GET / HTTP/1.1\r\n", "this looks like HTTP"),
        (b"POST / HTTP/1.1\r\n", "this looks like HTTP"),
    ];
    for (greeting, hint) in greetings {
        let mut client = node.client(0);
        client.send_raw(greeting);
        assert_eq!(client.receive_to_end(), b"");
        let reason = heard(&reasons);
        assert!(reason.contains(hint), "{reason}");
    }
    node.stop();
}

#[test]
fn a_client_that_leaves_is_told_to_the_service() {
    let (node, reasons) = node();
    let mut client = node.client(0);
    client.send(b"hello");
    assert_eq!(client.receive(), b"hello");
    // Half a frame is no frame.
    client.send_raw(&framed(b"cut off")[..6]);
    drop(client);
    assert_eq!(heard(&reasons), "closed by the client");
    node.stop();
}

#[test]
fn a_closing_connection_sends_its_answer_first() {
    let (node, reasons) = node();
    for (wish, reason) in [
        ("verdict", "as the client wishes"),
        ("outbox", "as the service wishes"),
    ] {
        let mut client = node.client(0);
        client.send(wish.as_bytes());
        assert_eq!(client.receive_to_end(), framed(wish.as_bytes()));
        assert_eq!(heard(&reasons), reason);
    }
    node.stop();
}

#[test]
fn frames_behind_a_verdict_to_close_are_not_delivered() {
    let (node, reasons) = node();
    let mut client = node.client(0);
    client.send_raw(&[framed(b"first"), framed(b"verdict"), framed(b"late")].concat());
    let wanted = [framed(b"first"), framed(b"verdict")].concat();
    assert_eq!(client.receive_to_end(), wanted);
    assert_eq!(heard(&reasons), "as the client wishes");
    node.stop();
}
