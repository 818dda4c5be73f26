//! SIGTERM reaches every core's service; once each has stopped, the reactor ends: every connection
//! is closed, behind what was queued on it, and no core's thread is left (it joins them).

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_base::CoreId;
use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Idle, Outbox, ReactorError, run};
use support::{Client, Node, Script, answer, framed, heard, pattern};

const CORES: usize = 3;

/// Says goodbye to its connections, and stops at once or when a connection says so.
struct Leaves {
    connections: Vec<ConnectionId>,
    waits: bool,
    goodbye: Vec<u8>,
    told: Sender<CoreId>,
    core: CoreId,
}

impl Script for Leaves {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        answer(out, from, frame.bytes());
        match frame.bytes() {
            b"stop" => out.stop(),
            b"pause" => return FrameVerdict::Pause,
            _ => {}
        }
        FrameVerdict::Continue
    }

    fn connection(&mut self, new: ConnectionId, _: &mut Outbox<()>) {
        self.connections.push(new);
    }

    fn shutdown(&mut self, out: &mut Outbox<()>) {
        let _ = self.told.send(self.core);
        for connection in &self.connections {
            answer(out, *connection, &self.goodbye);
        }
        if !self.waits {
            out.stop();
        }
    }
}

fn node(idle: Idle, waits: bool, goodbye: &[u8]) -> (Node, Receiver<CoreId>) {
    let (sender, told) = channel();
    let goodbye = goodbye.to_vec();
    let make = move |core| Leaves {
        connections: Vec::new(),
        waits,
        goodbye: goodbye.clone(),
        told: sender.clone(),
        core,
    };
    let node = Node::start_with(CORES, |config| config.idle = idle, make);
    (node, told)
}

fn greet(client: &mut Client, words: &[u8]) {
    client.send(words);
    assert_eq!(client.receive(), words);
}

#[test]
fn every_core_ends_and_connections_close() {
    for idle in [Idle::Sleep, Idle::Spin] {
        let (node, told) = node(idle, false, b"goodbye");
        let mut clients: Vec<Client> = (0..2 * CORES).map(|n| node.client(n % CORES)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            // A paused connection is closed like any other.
            greet(client, if number < CORES { b"hello" } else { b"pause" });
        }
        node.ask_to_end();
        let mut asked: Vec<CoreId> = (0..CORES).map(|_| heard(&told)).collect();
        asked.sort_unstable();
        assert_eq!(asked, [CoreId(0), CoreId(1), CoreId(2)]);
        for client in &mut clients {
            assert_eq!(client.receive_to_end(), framed(b"goodbye"));
        }
        node.wait_for_end().expect("a clean end");
        assert!(told.try_recv().is_err(), "each is told once");
    }
}

#[test]
fn the_reactor_waits_for_the_last_core() {
    let (node, told) = node(Idle::Sleep, true, b"goodbye");
    let mut clients: Vec<Client> = (0..CORES).map(|core| node.client(core)).collect();
    clients
        .iter_mut()
        .for_each(|client| greet(client, b"hello"));
    node.ask_to_end();
    for _ in 0..CORES {
        heard(&told);
    }
    for client in &mut clients {
        assert_eq!(client.receive(), b"goodbye");
    }
    // Asked a second time: the service is told once.
    node.ask_to_end();
    let mut last = clients.pop().expect("three");
    for client in &mut clients {
        client.send(b"stop");
        assert_eq!(client.receive_to_end(), framed(b"stop"));
    }
    // Two have stopped; the third still serves.
    for _ in 0..100 {
        greet(&mut last, b"still there?");
    }
    assert!(told.try_recv().is_err(), "told once");
    last.send(b"stop");
    assert_eq!(last.receive_to_end(), framed(b"stop"));
    node.wait_for_end().expect("a clean end");
}

#[test]
fn a_long_answer_leaves_before_the_end() {
    // More than the sockets hold: most of it is queued when the core stops.
    let goodbye = pattern(1, 24 * 1024 * 1024);
    let (node, _told) = node(Idle::Sleep, false, &goodbye);
    let mut client = node.client(1);
    greet(&mut client, b"hello");
    node.ask_to_end();
    assert!(client.receive_to_end() == framed(&goodbye));
    node.wait_for_end().expect("a clean end");
}

#[test]
fn a_service_that_cannot_be_made_is_an_error() {
    let config = highwater_reactor::ReactorConfig {
        cores: 2,
        ..Default::default()
    };
    let make = |core: CoreId| -> Result<support::Scripted<support::Echo>, String> {
        match core.0 {
            0 => Ok(support::Scripted(support::Echo)),
            _ => Err("no room".to_string()),
        }
    };
    // Signals stay blocked in the thread that called it, so it has one of its own.
    let thread = support::aside(move || run(config, make, |_, _| panic!("not ready")));
    let result = thread.join().expect("no panic");
    assert!(matches!(result, Err(ReactorError::Service(words)) if words == "no room"));
}
