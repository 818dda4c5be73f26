//! Frames reach the service whole and in order, and answers come back intact: however the bytes are
//! cut or joined on the way, and on every core.

mod support;

use highwater_base::CoreId;
use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Idle, Outbox, SendPiece};
use support::{Client, Echo, Node, Script, answer, framed, pattern};

const CORES: usize = 2;

#[test]
fn frames_come_back_from_every_core() {
    let node = Node::start(CORES, |_| Echo);
    for core in 0..CORES {
        let mut client = node.client(core);
        for (number, len) in [0, 1, 3, 4096, 16 * 1024, 100_000, 5_000_000, 7, 0]
            .into_iter()
            .enumerate()
        {
            let payload = pattern(number as u64, len);
            client.send(&payload);
            assert!(client.receive() == payload, "core {core}, {len} bytes");
        }
    }
    node.stop();
}

#[test]
fn frames_sent_byte_by_byte_come_whole() {
    let node = Node::start(CORES, |_| Echo);
    let mut client = node.client(1);
    for len in [0, 1, 300] {
        let payload = pattern(len as u64, len);
        for byte in framed(&payload) {
            client.send_raw(&[byte]);
        }
        assert_eq!(client.receive(), payload);
    }
    node.stop();
}

#[test]
fn pipelined_frames_are_answered_in_order() {
    const FRAMES: u64 = 20_000;
    let node = Node::start(CORES, |_| Echo);
    let mut client = node.client(0);
    let payload = |number: u64| pattern(number, (number * 7 % 301) as usize);
    let joined: Vec<u8> = (0..FRAMES).flat_map(|n| framed(&payload(n))).collect();
    // A second thread writes, because the sockets hold less than all of it.
    let writer = client.send_aside(joined);
    for number in 0..FRAMES {
        assert_eq!(client.receive(), payload(number), "frame {number}");
    }
    writer.join().expect("all was taken");
    node.stop();
}

#[test]
fn a_shared_listener_deals_to_all_cores_in_turn() {
    struct WhichCore(CoreId);
    impl Script for WhichCore {
        type Message = ();

        fn frame(
            &mut self,
            from: ConnectionId,
            _: &Frame<'_>,
            out: &mut Outbox<()>,
        ) -> FrameVerdict {
            answer(out, from, &self.0.0.to_be_bytes());
            FrameVerdict::Continue
        }
    }
    let node = Node::start(CORES, WhichCore);
    let mut clients: Vec<Client> = (0..2 * CORES).map(|_| node.dealt_client()).collect();
    let mut counts = [0; CORES];
    for client in &mut clients {
        client.send(b"where am I?");
        let core = client.receive();
        counts[usize::from(u16::from_be_bytes([core[0], core[1]]))] += 1;
    }
    assert_eq!(counts, [2; CORES]);
    node.stop();
}

#[test]
fn cores_that_spin_echo_too() {
    for idle in [Idle::Spin, Idle::Adaptive { spin_us: 200 }] {
        let node = Node::start_with(CORES, |config| config.idle = idle, |_| Echo);
        for core in 0..CORES {
            let mut client = node.client(core);
            for number in 0..100 {
                let payload = pattern(number, 1000);
                client.send(&payload);
                assert_eq!(client.receive(), payload);
            }
        }
        node.stop();
    }
}

/// Keeps slices of the last frames alive and answers each frame with the one ten frames ago.
struct KeepsFrames(Vec<highwater_base::SharedSlice>);

impl Script for KeepsFrames {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        self.0.push(frame.share(frame.bytes()));
        if self.0.len() > 10 {
            out.send(from, SendPiece::Shared(self.0.remove(0)));
        }
        FrameVerdict::Continue
    }
}

#[test]
fn shared_frames_keep_their_bytes() {
    let node = Node::start(1, |_| KeepsFrames(Vec::new()));
    let mut client = node.client(0);
    let payload = |number: u64| pattern(number, 900 + (number % 50) as usize * 10);
    for number in 0..500 {
        client.send(&payload(number));
        if number >= 10 {
            let wanted = payload(number - 10);
            let mut received = vec![0; wanted.len()];
            client.receive_raw(&mut received);
            assert!(received == wanted, "frame {}", number - 10);
        }
    }
    node.stop();
}
