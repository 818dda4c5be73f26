//! The durable yardstick is only worth comparing with if it keeps what it acknowledges: every
//! payload it answered lies in the file, whole, in the order of the answers' ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use highwater_floor::floor_frames::{ANSWER_BYTES, append_frame};

const FILE_BYTES: u64 = 16 << 20;
const CONNECTIONS: usize = 3;
const REQUESTS: usize = 40;

struct Server {
    process: Child,
    address: String,
    file: PathBuf,
}

impl Server {
    fn start(name: &str, flags: &[&str]) -> Server {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut process = Command::new(env!("CARGO_BIN_EXE_highwater-floor"))
            .args(["durable-server", "--listen", "127.0.0.1:0", "--file"])
            .arg(&file)
            .args(["--file-bytes", &FILE_BYTES.to_string()])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = process.stdout.take().expect("standard output is piped");
        let mut ready = String::new();
        BufReader::new(output)
            .read_line(&mut ready)
            .expect("a ready line");
        let address = ready
            .strip_prefix("ready ")
            .expect("a ready line")
            .trim()
            .to_string();
        Server {
            process,
            address,
            file,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process
            .kill()
            .expect("the server runs until it is killed");
        self.process.wait().expect("a killed process ends");
        std::fs::remove_file(&self.file).expect("the server has created its file");
    }
}

/// Distinct bytes of a length that crosses block boundaries every now and then.
fn payload(connection: usize, request: usize) -> Vec<u8> {
    let length = 100 + (connection * 7919 + request * 613) % 5000;
    (0..length)
        .map(|at| (at * 7 + connection * 101 + request * 13) as u8)
        .collect()
}

fn read_answer(socket: &mut TcpStream) -> (u32, u64) {
    let mut answer = [0; ANSWER_BYTES];
    socket.read_exact(&mut answer).expect("an answer");
    let number = |at: usize| {
        u32::from_be_bytes(
            *answer[at..]
                .first_chunk()
                .expect("the answer holds the field"),
        )
    };
    let end = u64::from_be_bytes(
        *answer[12..]
            .first_chunk()
            .expect("the answer holds the field"),
    );
    assert_eq!(number(0) as usize, ANSWER_BYTES - 4);
    (number(8), end)
}

fn acknowledged_bytes_are_in_the_file(name: &str, flags: &[&str]) {
    let server = Server::start(name, flags);
    let mut sockets: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(&server.address).expect("the server accepts"))
        .collect();
    for request in 0..REQUESTS {
        for (connection, socket) in sockets.iter_mut().enumerate() {
            socket
                .write_all(&append_frame(&payload(connection, request)))
                .expect("sent");
        }
    }
    let mut end_max = 0;
    for socket in &mut sockets {
        let mut previous = 0;
        for _ in 0..REQUESTS {
            let (error, end) = read_answer(socket);
            assert_eq!(error, 0);
            assert!(end >= previous, "answers of a connection come in order");
            previous = end;
        }
        end_max = end_max.max(previous);
    }
    let content = std::fs::read(&server.file).expect("the file is readable");
    let log = &content[..end_max as usize];
    let mut expected_bytes = 0;
    for connection in 0..CONNECTIONS {
        let mut after = 0;
        for request in 0..REQUESTS {
            let payload = payload(connection, request);
            let at = log[after..]
                .windows(payload.len())
                .position(|bytes| bytes == payload);
            after += at.expect("an acknowledged payload is in the file") + payload.len();
            expected_bytes += payload.len();
        }
    }
    assert_eq!(expected_bytes, log.len(), "nothing else is in the file");
}

#[test]
fn acknowledged_bytes_are_kept_sleeping() {
    acknowledged_bytes_are_in_the_file("sleeping", &["--idle", "sleep"]);
}

#[test]
fn acknowledged_bytes_are_kept_from_registered_buffers() {
    acknowledged_bytes_are_in_the_file("registered", &["--idle", "adaptive", "--registered"]);
}

#[test]
fn a_wrong_checksum_is_refused() {
    let server = Server::start("checksum", &[]);
    let mut socket = TcpStream::connect(&server.address).expect("the server accepts");
    let mut frame = append_frame(b"payload");
    *frame.last_mut().unwrap() ^= 1;
    socket.write_all(&frame).expect("sent");
    assert_eq!(read_answer(&mut socket).0, 1);
}
