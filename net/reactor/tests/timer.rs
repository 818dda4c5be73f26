//! A service is called when its deadline comes, however its core idles and however busy it is.

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Idle, Outbox, now};
use support::{Node, Script, answer, heard};

/// A frame asks for a call five milliseconds later; told when it comes.
struct Waits {
    deadline_ns: Option<u64>,
    called: Sender<u64>,
}

impl Script for Waits {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        if frame.bytes() == b"wait" {
            self.deadline_ns = Some(now().monotonic_ns + 5_000_000);
        }
        answer(out, from, frame.bytes());
        FrameVerdict::Continue
    }

    fn timer(&mut self, _: &mut Outbox<()>) {
        let deadline_ns = self.deadline_ns.take().expect("called once a deadline");
        let early = deadline_ns.saturating_sub(now().monotonic_ns);
        let _ = self.called.send(early);
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }
}

/// Never satisfied: its deadline stays in the past.
struct Overdue;

impl Script for Overdue {
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

    fn deadline_ns(&self) -> Option<u64> {
        Some(1)
    }
}

/// What broke: timer and turn woke each other without end, and a core that sleeps got no completion
/// any more.
#[test]
fn a_deadline_that_stays_in_the_past_stops_nothing() {
    for idle in [Idle::Sleep, Idle::Adaptive { spin_us: 100 }, Idle::Spin] {
        let node = Node::start_with(1, |config| config.idle = idle, |_| Overdue);
        let mut client = node.client(0);
        for _ in 0..20 {
            client.send(b"ping");
            assert_eq!(client.receive(), b"ping");
        }
        node.stop();
    }
}

#[test]
fn deadlines_are_kept() {
    for idle in [Idle::Sleep, Idle::Adaptive { spin_us: 100 }, Idle::Spin] {
        let (called, calls): (_, Receiver<u64>) = channel();
        let node = Node::start_with(
            1,
            |config| config.idle = idle,
            move |_| Waits {
                deadline_ns: None,
                called: called.clone(),
            },
        );
        let mut client = node.client(0);
        for _ in 0..20 {
            client.send(b"wait");
            assert_eq!(client.receive(), b"wait");
            assert_eq!(heard(&calls), 0, "not before its time, {idle:?}");
        }
        // The core is never without something to do.
        client.send(b"wait");
        client.receive();
        while calls.try_recv().is_err() {
            client.send(b"busy");
            assert_eq!(client.receive(), b"busy");
        }
        node.stop();
    }
}
