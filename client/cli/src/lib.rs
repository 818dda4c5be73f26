//! The client commands of the `highwater` binary: topics, configuration, cluster, produce, consume.
//!
//! Every command connects, does one thing and ends. People get aligned tables, programs get JSON
//! with `--json`; errors are one sentence on stderr with what to do about it. Exit codes: 0 done,
//! 1 failed, 2 wrong usage. A reader that closes our output early (`| head`) is not an error.

#![forbid(unsafe_code)]

mod arguments;
mod cluster;
mod config;
mod consume;
mod output;
mod produce;
mod topic;

use std::io;
use std::process::ExitCode;

use clap::Subcommand;
use highwater_client::ClientError;

/// The commands that talk to a broker.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List, create, describe, grow and delete topics.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Show and change the configuration of topics; show that of brokers.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Show who is in the cluster.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Write one record per line of standard input.
    Produce(produce::ProduceArguments),
    /// Read records and print them.
    Consume(consume::ConsumeArguments),
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Arguments that contradict each other or make no sense.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs a command to its end. Prints its own errors.
#[must_use]
pub fn run(command: ClientCommand) -> ExitCode {
    let ended = highwater_client::driver::block_on(async {
        match command {
            ClientCommand::Topic(command) => topic::run(command).await,
            ClientCommand::Config(command) => config::run(command).await,
            ClientCommand::Cluster(command) => cluster::run(command).await,
            ClientCommand::Produce(arguments) => produce::run(arguments).await,
            ClientCommand::Consume(arguments) => consume::run(arguments).await,
        }
    });
    let error = match ended {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(CommandError::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Ok(Err(error)) => error,
        Err(error) => CommandError::Failed(format!(
            "the kernel refuses an io_uring ({error}); `highwater doctor` tells what is missing"
        )),
    };
    eprintln!("highwater: {error}");
    match error {
        CommandError::Usage(_) | CommandError::Client(ClientError::Usage(_)) => ExitCode::from(2),
        CommandError::Client(_)
        | CommandError::Failed(_)
        | CommandError::Input(_)
        | CommandError::Output(_) => ExitCode::FAILURE,
    }
}
