//! Opens many connections to a Kafka broker, asks on each what a client asks first (ApiVersions and
//! Metadata), then leaves them alone until standard input ends.
//!
//! All are opened before the first one asks: to the broker that is a storm of clients that come
//! back at the same moment.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::kafka_frames::{api_versions_request, check_first_answers, metadata_request};
use crate::pinning::pin;

const ANSWER_WAIT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Flags of `idle-connections`.
#[derive(Debug, Args)]
pub struct IdleConnectionsArgs {
    /// Address of the broker.
    #[arg(long)]
    connect: SocketAddr,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
    /// Connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

/// Opens the connections, prints a line with `ready` and holds them.
///
/// # Errors
/// A connection that is refused or closed, or an answer that is not one.
pub fn run(args: &IdleConnectionsArgs) -> io::Result<()> {
    pin(args.core)?;
    let started = Instant::now();
    let mut sockets = Vec::with_capacity(args.connections);
    for number in 0..args.connections {
        let socket = TcpStream::connect(args.connect).map_err(|error| of(number, &error))?;
        socket.set_read_timeout(Some(ANSWER_WAIT))?;
        sockets.push(socket);
    }
    let open_s = started.elapsed().as_secs_f64();
    for (number, socket) in sockets.iter_mut().enumerate() {
        greet(socket).map_err(|error| of(number, &error))?;
    }
    let figures = json!({
        "event": "ready",
        "connections": sockets.len(),
        "open_s": open_s,
        "answered_s": started.elapsed().as_secs_f64(),
    });
    println!("{figures}");
    io::stdout().flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn of(number: usize, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("connection {number}: {error}"))
}

fn greet(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(&api_versions_request())?;
    let versions = answer(socket)?;
    socket.write_all(&metadata_request())?;
    check_first_answers(&versions, &answer(socket)?)
}

fn answer(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_BYTES_MAX {
        let message = format!("answer of {length} bytes; is this a Kafka broker?");
        return Err(io::Error::other(message));
    }
    let mut frame = vec![0; length];
    socket.read_exact(&mut frame)?;
    Ok(frame)
}
