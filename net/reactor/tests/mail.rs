//! Messages between cores arrive once and in order, also when there are more at once than a mailbox
//! holds, and when both sides are full at the same time.

mod support;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};

use highwater_base::CoreId;
use highwater_base::limits::MAILBOX_MESSAGES_MAX;
use highwater_reactor::{ConnectionId, Frame, FrameVerdict, Idle, Outbox};
use support::{Node, Script, answer, heard};

const CORES: usize = 2;

/// What a frame asks for: how many messages to which core, and whether to wait for the other core
/// before they are sent.
fn order(count: u64, to: u8, together: bool) -> Vec<u8> {
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[to, u8::from(together)]);
    bytes
}

/// Sends as ordered; checks what it gets and tells when a series is complete.
struct Mails {
    core: CoreId,
    together: Arc<Barrier>,
    wanted: u64,
    complete: Sender<(CoreId, CoreId, u64)>,
}

struct Mail {
    number: u64,
    count: u64,
    /// Heap memory that must be freed exactly once.
    words: String,
}

impl Script for Mails {
    type Message = Mail;

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<Mail>,
    ) -> FrameVerdict {
        answer(out, from, b"sending");
        let (count, rest) = frame.bytes().split_first_chunk::<8>().expect("an order");
        let count = u64::from_be_bytes(*count);
        if rest[1] == 1 {
            // Both cores fill their mailboxes in this very turn.
            self.together.wait();
        }
        for number in 0..count {
            let mail = Mail {
                number,
                count,
                words: number.to_string(),
            };
            out.mail(CoreId(u16::from(rest[0])), mail);
        }
        FrameVerdict::Continue
    }

    fn message(&mut self, from: CoreId, mail: Mail, _: &mut Outbox<Mail>) {
        assert_eq!(mail.number, self.wanted, "in order");
        assert_eq!(mail.words, mail.number.to_string());
        self.wanted += 1;
        if self.wanted == mail.count {
            self.wanted = 0;
            let _ = self.complete.send((from, self.core, mail.count));
        }
    }
}

fn node(idle: Idle) -> (Node, Receiver<(CoreId, CoreId, u64)>) {
    let (complete, completed) = channel();
    let together = Arc::new(Barrier::new(CORES));
    let make = move |core| Mails {
        core,
        together: Arc::clone(&together),
        wanted: 0,
        complete: complete.clone(),
    };
    let node = Node::start_with(CORES, |config| config.idle = idle, make);
    (node, completed)
}

#[test]
fn messages_arrive_in_order_whatever_their_number() {
    let (node, completed) = node(Idle::Sleep);
    let mut client = node.client(0);
    let full = MAILBOX_MESSAGES_MAX as u64;
    for count in [1, 2, 1000, full - 1, full, full + 1, 10 * full + 7, 5] {
        client.send(&order(count, 1, false));
        assert_eq!(client.receive(), b"sending");
        assert_eq!(heard(&completed), (CoreId(0), CoreId(1), count));
    }
    node.stop();
}

#[test]
fn thousands_of_single_messages_arrive() {
    let (node, completed) = node(Idle::Sleep);
    let mut client = node.client(1);
    for _ in 0..3000 {
        // Each one wakes a core that sleeps, or comes just as it falls asleep.
        client.send(&order(1, 0, false));
        assert_eq!(client.receive(), b"sending");
    }
    for _ in 0..3000 {
        assert_eq!(heard(&completed), (CoreId(1), CoreId(0), 1));
    }
    node.stop();
}

#[test]
fn a_core_can_write_to_itself() {
    let (node, completed) = node(Idle::Sleep);
    let mut client = node.client(0);
    let count = 3 * MAILBOX_MESSAGES_MAX as u64;
    client.send(&order(count, 0, false));
    assert_eq!(heard(&completed), (CoreId(0), CoreId(0), count));
    node.stop();
}

#[test]
fn two_full_mailboxes_do_not_block_each_other() {
    for idle in [Idle::Sleep, Idle::Spin, Idle::Adaptive { spin_us: 100 }] {
        let (node, completed) = node(idle);
        let mut clients = [node.client(0), node.client(1)];
        for round in 1..6 {
            let count = round * 2 * MAILBOX_MESSAGES_MAX as u64;
            clients[0].send(&order(count, 1, true));
            clients[1].send(&order(count, 0, true));
            let mut both = [heard(&completed), heard(&completed)];
            both.sort_unstable();
            let wanted = [(CoreId(0), CoreId(1), count), (CoreId(1), CoreId(0), count)];
            assert_eq!(both, wanted, "{idle:?}");
            clients.iter_mut().for_each(|client| {
                assert_eq!(client.receive(), b"sending");
            });
        }
        node.stop();
    }
}
