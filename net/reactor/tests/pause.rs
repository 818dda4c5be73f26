//! A paused connection delivers nothing until it is resumed, and then everything, in order; too many
//! queued answers hold a connection back the same way.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Outbox};
use support::{Client, Node, Script, answer, framed, heard, pattern};

/// Echoes; `pause` pauses its own connection, `resume` resumes the one that was paused last.
#[derive(Default)]
struct Pauses(Option<ConnectionId>);

impl Script for Pauses {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        answer(out, from, frame.bytes());
        match frame.bytes() {
            b"pause" => {
                self.0 = Some(from);
                return FrameVerdict::Pause;
            }
            b"resume" => out.resume(self.0.take().expect("one is paused")),
            _ => {}
        }
        FrameVerdict::Continue
    }
}

/// Echoes, but not `work` as long as it is not `free`.
#[derive(Default)]
struct Defers {
    free: bool,
    waiting: Vec<ConnectionId>,
}

impl Script for Defers {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        match frame.bytes() {
            b"work" if !self.free => {
                self.waiting.push(from);
                return FrameVerdict::Defer;
            }
            b"free" => {
                self.free = true;
                self.waiting.drain(..).for_each(|id| out.resume(id));
            }
            _ => {}
        }
        answer(out, from, frame.bytes());
        FrameVerdict::Continue
    }
}

#[test]
fn a_deferred_frame_comes_again_before_those_behind_it() {
    let node = Node::start(1, |_| Defers::default());
    let mut deferred = node.client(0);
    let mut other = node.client(0);
    deferred.send_raw(&[framed(b"first"), framed(b"work"), framed(b"last")].concat());
    assert_eq!(deferred.receive(), b"first");
    round_trips(&mut other, 20);
    assert_silent(&deferred);
    other.send(b"free");
    assert_eq!(other.receive(), b"free");
    assert_eq!(deferred.receive(), b"work");
    assert_eq!(deferred.receive(), b"last");
    node.stop();
}

/// Shows that the client has nothing to read yet.
fn assert_silent(client: &Client) {
    client.0.set_nonblocking(true).expect("a flag");
    let error = client.0.peek(&mut [0]).expect_err("nothing has come");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    client.0.set_nonblocking(false).expect("a flag");
}

fn round_trips(client: &mut Client, count: usize) {
    for _ in 0..count {
        client.send(b"ping");
        assert_eq!(client.receive(), b"ping");
    }
}

#[test]
fn a_paused_connection_waits_and_loses_nothing() {
    let node = Node::start(1, |_| Pauses::default());
    let mut paused = node.client(0);
    let mut other = node.client(0);
    for round in 0..20u32 {
        // Behind the pause: frames in the same write, and frames in a later one.
        let mut bytes = framed(b"pause");
        for number in 0..100 {
            bytes.extend(framed(&[round, number].map(u32::to_be_bytes).concat()));
        }
        paused.send_raw(&bytes);
        assert_eq!(paused.receive(), b"pause");
        for number in 100..200 {
            paused.send(&[round, number].map(u32::to_be_bytes).concat());
        }
        // The core has answered these behind whatever it would have done for the paused one.
        round_trips(&mut other, 20);
        assert_silent(&paused);
        other.send(b"resume");
        assert_eq!(other.receive(), b"resume");
        for number in 0..200 {
            let wanted = [round, number].map(u32::to_be_bytes).concat();
            assert_eq!(paused.receive(), wanted, "round {round}");
        }
    }
    node.stop();
}

/// Counts frames and answers each with the same large payload.
struct Talks {
    payload: Arc<Vec<u8>>,
    frames: Arc<AtomicUsize>,
    silent: Sender<()>,
}

impl Script for Talks {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        if frame.bytes() == b"ping" {
            answer(out, from, b"ping");
            return FrameVerdict::Continue;
        }
        self.frames.fetch_add(1, Ordering::SeqCst);
        answer(out, from, &self.payload);
        let _ = self.silent.send(());
        FrameVerdict::Continue
    }
}

#[test]
fn a_client_that_does_not_read_is_not_served_on_and_on() {
    const ANSWER_BYTES: usize = 1024 * 1024;
    const QUESTIONS: usize = 400;
    let payload = Arc::new(pattern(5, ANSWER_BYTES));
    let frames = Arc::new(AtomicUsize::new(0));
    let (sender, asked): (_, Receiver<()>) = channel();
    let node = {
        let (payload, frames) = (Arc::clone(&payload), Arc::clone(&frames));
        Node::start_with(
            1,
            |config| config.send_bytes_max = 2 * ANSWER_BYTES,
            move |_| Talks {
                payload: Arc::clone(&payload),
                frames: Arc::clone(&frames),
                silent: sender.clone(),
            },
        )
    };
    let mut greedy = node.client(0);
    let mut other = node.client(0);
    // One write that fits the sockets: the client is not blocked, only silent.
    greedy.send_raw(&framed(b"?").repeat(QUESTIONS));
    heard(&asked);
    round_trips(&mut other, 200);
    // The reader looks at what is queued between turns: it may take a handful of frames in one.
    let served = frames.load(Ordering::SeqCst);
    assert!(
        served < QUESTIONS / 2,
        "{served} answers for a silent client"
    );
    for number in 0..QUESTIONS {
        assert!(greedy.receive() == *payload, "answer {number}");
    }
    node.stop();
}
