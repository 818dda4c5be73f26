//! Serving allocates nothing once it is warm: the allocator counts per thread, and the core tells
//! its own count.

mod support;

use highwater_reactor::{
    ConnectionId, CountingAllocator, Frame, FrameVerdict, Idle, Outbox, thread_allocations,
};
use support::{Client, Node, Script, answer, pattern};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Echoes; `count` is answered with the allocations of the core's thread so far.
struct Counts;

impl Script for Counts {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        match frame.bytes() {
            b"count" => answer(out, from, &thread_allocations().to_be_bytes()),
            bytes => answer(out, from, bytes),
        }
        FrameVerdict::Continue
    }
}

fn echo(client: &mut Client, requests: usize, payload: &[u8]) {
    for _ in 0..requests {
        client.send(payload);
        assert_eq!(client.receive(), payload);
    }
}

fn count(client: &mut Client) -> u64 {
    client.send(b"count");
    let bytes = client.receive();
    u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
}

#[test]
fn a_thousand_echoes_allocate_nothing() {
    for idle in [Idle::Sleep, Idle::Adaptive { spin_us: 50 }, Idle::Spin] {
        let node = Node::start_with(1, |config| config.idle = idle, |_| Counts);
        let mut client = node.client(0);
        let payload = pattern(1, 1000);
        echo(&mut client, 200, &payload);
        let before = count(&mut client);
        assert!(before > 0, "the allocator counts");
        echo(&mut client, 1000, &payload);
        assert_eq!(count(&mut client) - before, 0, "{idle:?}");
        node.stop();
    }
}

#[test]
fn pipelined_echoes_allocate_nothing() {
    const PIPELINED: usize = 20;
    let node = Node::start(1, |_| Counts);
    let mut client = node.client(0);
    let payload = pattern(2, 100);
    let joined = support::framed(&payload).repeat(PIPELINED);
    let rounds = |count: usize, client: &mut Client| {
        for _ in 0..count {
            client.send_raw(&joined);
            for _ in 0..PIPELINED {
                assert_eq!(client.receive(), payload);
            }
        }
    };
    rounds(50, &mut client);
    let before = count(&mut client);
    rounds(200, &mut client);
    assert_eq!(count(&mut client) - before, 0);
    node.stop();
}
