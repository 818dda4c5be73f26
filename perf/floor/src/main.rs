//! `highwater-floor`: one subcommand per yardstick; `perf/run floor` drives them.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use highwater_floor::{
    create_topic, dsync_latency, durable_load, durable_server, fetch_load, idle_connections,
    sendfile_server, sequential_write,
};

/// Raw yardsticks and load generators; every load prints one JSON object on standard output.
#[derive(Debug, Parser)]
#[command(name = "highwater-floor", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve durable appends: the floor of every acknowledged produce.
    DurableServer(durable_server::DurableServerArgs),
    /// Load a durable server or a Kafka broker with appends, closed loop or at a fixed rate.
    DurableLoad(durable_load::DurableLoadArgs),
    /// Measure the device's sequential write rate.
    SequentialWrite(sequential_write::SequentialWriteArgs),
    /// Measure one durable 4 KiB write at a time.
    DsyncLatency(dsync_latency::DsyncLatencyArgs),
    /// Serve pieces of one file by sendfile: the floor of every fetch.
    SendfileServer(sendfile_server::SendfileServerArgs),
    /// Read from a sendfile server or a Kafka broker and discard.
    FetchLoad(fetch_load::FetchLoadArgs),
    /// Open many connections to a Kafka broker and leave them idle.
    IdleConnections(idle_connections::IdleConnectionsArgs),
    /// Create one topic on a Kafka broker.
    CreateTopic(create_topic::CreateTopicArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::DurableServer(args) => durable_server::run(&args),
        Command::DurableLoad(args) => durable_load::run(&args),
        Command::SequentialWrite(args) => sequential_write::run(&args),
        Command::DsyncLatency(args) => dsync_latency::run(&args),
        Command::SendfileServer(args) => sendfile_server::run(&args),
        Command::FetchLoad(args) => fetch_load::run(&args),
        Command::IdleConnections(args) => idle_connections::run(&args),
        Command::CreateTopic(args) => create_topic::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("highwater-floor: {error}");
            ExitCode::FAILURE
        }
    }
}
