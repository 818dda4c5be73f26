//! Answers of memory and file ranges arrive byte for byte, with slow readers too, and whatever
//! becomes of the file while its range is queued; a client that leaves keeps no file open.

mod support;

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};

use highwater_base::disk::{DiskCompletion, DiskOperation, FileId};
use highwater_reactor::{
    CloseReason, ConnectionId, Frame, FrameVerdict, HeadCheck, Outbox, SendPiece,
};
use support::disk::attach;
use support::{Client, Node, Script, answer, ask_disk, heard, pattern};

/// Well beyond what the sockets of a connection hold.
const FILE_BYTES: usize = 32 * 1024 * 1024;
const RANGE: std::ops::Range<usize> = 1001..FILE_BYTES - 77;
const FILE: FileId = FileId(7);

/// Sends a range of the file between two pieces of memory; does things to the file.
#[derive(Clone)]
struct Sends {
    asker: Option<ConnectionId>,
    accepts: bool,
    reasons: Sender<String>,
}

impl Sends {
    fn send(&self, to: ConnectionId, out: &mut Outbox<()>) {
        out.send(to, SendPiece::Bytes(b"head".to_vec()));
        let file = SendPiece::File {
            file: FILE,
            offset: RANGE.start as u64,
            len: RANGE.len(),
            readable_end: FILE_BYTES as u64,
            head: Some(HeadCheck {
                bytes: 61,
                facts: [u64::from(self.accepts), 0, 0],
                accepts: |head, facts| head == &pattern(3, 2000)[1001..1062] && facts[0] == 1,
            }),
        };
        out.send(to, file);
        out.send(to, SendPiece::Bytes(b"tail".to_vec()));
    }
}

impl Script for Sends {
    type Message = ();

    fn frame(
        &mut self,
        from: ConnectionId,
        frame: &Frame<'_>,
        out: &mut Outbox<()>,
    ) -> FrameVerdict {
        for word in frame.bytes().split(|byte| *byte == b' ') {
            self.asker = Some(from);
            match word {
                b"attach" => {
                    ask_disk(out, 0, attach(FILE.0, "some.file"));
                }
                b"send" => self.send(from, out),
                b"expect" => self.accepts = false,
                b"detach" => ask_disk(out, 0, DiskOperation::Detach { file: FILE }),
                b"rename" => {
                    let (from, to) = ("some.file".to_string(), "deep/other.file".to_string());
                    ask_disk(out, 1, DiskOperation::Rename { from, to });
                }
                b"name" => {
                    ask_disk(out, 0, attach(FILE.0, "deep/other.file"));
                }
                b"remove" => {
                    let path = "some.file".to_string();
                    ask_disk(out, 1, DiskOperation::Remove { path });
                }
                _ => answer(out, from, word),
            }
        }
        FrameVerdict::Continue
    }

    fn disk(&mut self, completion: DiskCompletion, out: &mut Outbox<()>) {
        completion.result.expect("the file is there");
        answer(out, self.asker.expect("somebody asked"), b"done");
    }

    fn bad_range(&mut self, file: FileId, position: u64) {
        let _ = self.reasons.send(format!("{file:?} at {position}"));
    }

    fn closed(&mut self, _: ConnectionId, why: &CloseReason, _: &mut Outbox<()>) {
        let _ = self.reasons.send(why.to_string());
    }
}

/// A node whose file is there, and what the file holds.
fn node() -> (Node, Vec<u8>, Receiver<String>) {
    let (reasons, heard_reasons) = channel();
    let sends = Sends {
        asker: None,
        accepts: true,
        reasons,
    };
    let node = Node::start(1, move |_| sends.clone());
    let content = pattern(3, FILE_BYTES);
    fs::write(node.directory.join("some.file"), &content).expect("the file is written");
    (node, content, heard_reasons)
}

/// Reads one answer in steps of `step` bytes, with `between` after each.
fn check_answer(client: &mut Client, content: &[u8], step: usize, mut between: impl FnMut()) {
    let wanted = [b"head", &content[RANGE], b"tail"].concat();
    let mut received = vec![0; wanted.len()];
    for part in received.chunks_mut(step) {
        client.receive_raw(part);
        between();
    }
    let wrong = received
        .iter()
        .zip(&wanted)
        .position(|(left, right)| left != right);
    assert_eq!(wrong, None, "the first wrong byte");
}

#[test]
fn memory_file_memory_arrives_in_order() {
    let (node, content, _) = node();
    let mut client = node.client(0);
    client.send(b"attach send hello send");
    check_answer(&mut client, &content, 1 << 20, || {});
    assert_eq!(client.receive(), b"hello");
    check_answer(&mut client, &content, 1 << 20, || {});
    node.stop();
}

#[test]
fn a_slow_reader_gets_everything_and_holds_nobody_up() {
    let (node, content, _) = node();
    let mut slow = node.client(0);
    let mut other = node.client(0);
    slow.send(b"attach send");
    check_answer(&mut slow, &content, 100_000, || {
        other.send(b"ping");
        assert_eq!(other.receive(), b"ping");
    });
    node.stop();
}

#[test]
fn a_file_that_goes_while_a_send_is_queued_arrives_whole() {
    // In the very turn of the send, or in a later one while most of it is still queued.
    for (at_once, later) in [
        ("attach send remove", ""),
        ("attach send detach remove", ""),
        ("attach send detach", "remove"),
        ("attach send", "detach remove"),
        ("attach send rename", ""),
        ("attach send", "rename name"),
        ("attach send", "rename name detach"),
    ] {
        let (node, content, _) = node();
        let mut other = node.client(0);
        let mut client = node.client(0);
        client.send(at_once.as_bytes());
        // The answer has begun, so its turn is over.
        client.0.peek(&mut [0]).expect("a first byte");
        if !later.is_empty() {
            other.send(later.as_bytes());
            assert_eq!(other.receive(), b"done", "{later}");
        }
        check_answer(&mut client, &content, 1 << 20, || {});
        if later.is_empty() {
            assert_eq!(client.receive(), b"done", "{at_once}");
        }
        assert!(!node.directory.join("some.file").exists());
        node.stop();
    }
}

#[test]
fn a_renamed_file_is_sent_under_its_new_name() {
    let (node, content, _) = node();
    let mut client = node.client(0);
    client.send(b"attach rename");
    assert_eq!(client.receive(), b"done");
    client.send(b"name send");
    check_answer(&mut client, &content, 1 << 20, || {});
    node.stop();
}

#[test]
fn a_missing_file_ends_the_connection_with_a_reason() {
    let (node, _, reasons) = node();
    fs::remove_file(node.directory.join("some.file")).expect("it was there");
    let mut other = node.client(0);
    let mut client = node.client(0);
    client.send(b"attach send");
    let received = client.receive_to_end();
    assert!(received.is_empty() || received == b"head");
    assert_eq!(heard(&reasons), "FileId(7) at 1001");
    let reason = heard(&reasons);
    assert!(reason.starts_with("sending failed: "), "{reason}");
    other.send(b"ping");
    assert_eq!(other.receive(), b"ping");
    node.stop();
}

#[test]
fn nothing_is_sent_of_a_range_with_another_head_than_expected() {
    let (node, _, reasons) = node();
    let mut client = node.client(0);
    client.send(b"attach expect send");
    let received = client.receive_to_end();
    assert!(received.is_empty() || received == b"head");
    assert_eq!(heard(&reasons), "FileId(7) at 1001");
    let reason = heard(&reasons);
    assert!(
        reason.ends_with("something else than what was to be sent"),
        "{reason}"
    );
    node.stop();
}

#[test]
fn a_file_that_ends_early_is_told() {
    let (node, content, reasons) = node();
    fs::write(node.directory.join("some.file"), &content[..300_000]).expect("it is cut");
    let mut client = node.client(0);
    client.send(b"attach send");
    client.receive_to_end();
    assert_eq!(heard(&reasons), "FileId(7) at 300000");
    node.stop();
}

#[test]
fn a_client_that_leaves_keeps_no_file_open() {
    let (node, _, reasons) = node();
    let mut client = node.client(0);
    client.send(b"attach send send detach");
    client.0.peek(&mut [0]).expect("a first byte");
    drop(client);
    heard(&reasons);
    // Whatever is left to clean up is ready by now; each round trip lets all of it run.
    let mut other = node.client(0);
    for _ in 0..100 {
        other.send(b"ping");
        assert_eq!(other.receive(), b"ping");
    }
    let ours = fs::canonicalize(node.directory.join("some.file")).expect("it is there");
    let open = fs::read_dir("/proc/self/fd")
        .expect("the descriptors")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| *path == ours)
        .count();
    assert_eq!(open, 0, "descriptors of {}", ours.display());
    node.stop();
}
