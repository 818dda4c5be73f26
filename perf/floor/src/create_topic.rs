//! Creates a topic on a Kafka broker, so that the harness depends on nobody's tools.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use crate::kafka_frames;

const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Flags of `create-topic`.
#[derive(Debug, Args)]
pub struct CreateTopicArgs {
    /// Address of the broker.
    #[arg(long)]
    connect: SocketAddr,
    /// Name of the topic.
    #[arg(long)]
    topic: String,
    /// Partitions.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// A topic configuration by Kafka's name; may be repeated.
    #[arg(long = "config", value_name = "NAME=VALUE")]
    configs: Vec<String>,
}

/// Creates the topic.
///
/// # Errors
/// An error code of the broker, or a connection that fails.
pub fn run(args: &CreateTopicArgs) -> io::Result<()> {
    let mut configs = Vec::with_capacity(args.configs.len());
    for config in &args.configs {
        configs.push(config.split_once('=').ok_or_else(|| {
            io::Error::other(format!("config is {config:?}; allowed is NAME=VALUE"))
        })?);
    }
    let request = kafka_frames::create_topic_request(&args.topic, args.partitions, &configs);
    let mut socket = TcpStream::connect(args.connect)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    socket.write_all(&request)?;
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::other(format!(
            "answer of {length} bytes; is this a Kafka broker?"
        )));
    }
    let mut frame = vec![0; length];
    socket.read_exact(&mut frame)?;
    kafka_frames::check_create_topic_response(&frame)
}
