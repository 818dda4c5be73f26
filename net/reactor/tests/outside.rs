//! A thread that is no core writes to cores: its mail arrives once and in order, wakes a core that
//! sleeps, and says what the reactor knows of the core.

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_base::CoreId;
use highwater_reactor::{
    ConnectionId, CoreGauges, Frame, FrameVerdict, Idle, Outbox, OutsideFull, OutsidePost,
};
use support::{Node, Script, answer, heard};

/// Passes on what it hears from outside.
struct Listens {
    core: CoreId,
    heard: Sender<(CoreId, u32, CoreGauges)>,
}

impl Script for Listens {
    type Message = u32;

    fn frame(&mut self, from: ConnectionId, _: &Frame<'_>, out: &mut Outbox<u32>) -> FrameVerdict {
        answer(out, from, b"yes");
        FrameVerdict::Continue
    }

    fn outside(&mut self, gauges: &CoreGauges, message: u32, _: &mut Outbox<u32>) {
        let _ = self.heard.send((self.core, message, gauges.clone()));
    }
}

type Heard = Receiver<(CoreId, u32, CoreGauges)>;

fn node(idle: Idle) -> (Node, OutsidePost<u32>, Heard) {
    let (sender, receiver) = channel();
    let make = move |core| Listens {
        core,
        heard: sender.clone(),
    };
    let (node, post) = Node::start_with_post(2, |config| config.idle = idle, make);
    (node, post, receiver)
}

#[test]
fn mail_from_outside_wakes_a_core_and_keeps_its_order() {
    for idle in [Idle::Sleep, Idle::Spin] {
        let (node, post, receiver) = node(idle);
        for round in 0..200 {
            // One by one, so that the core falls asleep in between.
            let to = CoreId(round as u16 % 2);
            post.send(to, round).expect("room");
            let (core, message, _) = heard(&receiver);
            assert_eq!((core, message), (to, round));
        }
        let mut wanted = 0;
        for number in 0..5000u32 {
            let mut message = number;
            while let Err(OutsideFull(back)) = post.send(CoreId(1), message) {
                message = back;
                assert_eq!(heard(&receiver).1, wanted);
                wanted += 1;
            }
        }
        while wanted < 5000 {
            assert_eq!(heard(&receiver).1, wanted);
            wanted += 1;
        }
        node.stop();
    }
}

#[test]
fn the_reactor_tells_what_it_knows_of_a_core() {
    let (node, post, receiver) = node(Idle::Sleep);
    let mut clients = [node.client(0), node.client(1)];
    clients.iter_mut().for_each(|client| {
        client.send(b"here?");
        assert_eq!(client.receive(), b"yes");
    });
    post.send(CoreId(0), 1).expect("room");
    let (_, _, gauges) = heard(&receiver);
    assert_eq!(gauges.process_connections, 2);
    assert_eq!((gauges.mail_waiting, gauges.send_queue_bytes), (0, 0));
    assert!(gauges.open_files_max > 0);
    node.stop();
}
