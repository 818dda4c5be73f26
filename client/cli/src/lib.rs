//! The client commands of the `highwater` binary: topics, configuration, cluster, groups,
//! produce, consume.
//!
//! Every command connects, does one thing and ends. People get aligned tables, programs get JSON
//! with `--json`; errors are one sentence on stderr with what to do about it. Exit codes: 0 done,
//! 1 failed, 2 wrong usage. A reader that closes our output early (`| head`) is not an error.

#![forbid(unsafe_code)]

pub mod arguments;
mod cluster;
mod config;
mod consume;
mod consume_group;
mod group;
mod moment;
mod output;
mod produce;
mod record_json;
mod scrub;
mod topic;

use std::io;
use std::process::ExitCode;

use clap::Subcommand;
use highwater_client::ClientError;

pub use scrub::{SCRUB_REQUESTED, ScrubArguments};

/// Closes the help of the whole program: the first steps, and what holds for every command.
pub const HELP_EXAMPLES: &str = "First steps:
  highwater dev                                            a broker to try things out with
  highwater topic create greetings --partitions 3
  echo hello | highwater produce greetings
  highwater consume greetings --from-beginning --exit-at-end

Commands find the broker by --bootstrap-server or $HIGHWATER_BOOTSTRAP_SERVER. Exit codes: 0 done,
1 failed, 2 wrong usage.";

const HELP_TOPIC: &str = "Examples:
  highwater topic create orders --partitions 6
  highwater topic describe orders
  highwater config set orders retention.ms=86400000    changes what create --config set";

const HELP_CONFIG: &str = "Examples:
  highwater config describe orders --all               every key, its value and its source
  highwater config set orders retention.ms=86400000
  highwater config unset orders retention.ms";

const HELP_GROUP: &str = "Examples:
  highwater group list
  highwater group describe billing                     how far each partition is, and who reads it
  highwater group reset-offsets billing --topic orders --to-earliest --execute";

/// The commands that talk to a broker.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List, create, describe, grow and delete topics.
    #[command(subcommand, after_help = HELP_TOPIC)]
    Topic(topic::TopicCommand),
    /// Show and change the configuration of topics and of running brokers.
    #[command(subcommand, after_help = HELP_CONFIG)]
    Config(config::ConfigCommand),
    /// Show who is in the cluster.
    #[command(
        subcommand,
        after_help = "Example:\n  highwater cluster describe --json"
    )]
    Cluster(cluster::ClusterCommand),
    /// Show consumer groups and their lag, move their offsets, delete them.
    #[command(subcommand, after_help = HELP_GROUP)]
    Group(group::GroupCommand),
    /// Write one record per line of standard input: values, keys and values, or JSON.
    Produce(produce::ProduceArguments),
    /// Read records and print them: values, keys and values, or JSON.
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
    end(highwater_client::driver::block_on(async {
        match command {
            ClientCommand::Topic(command) => topic::run(command).await,
            ClientCommand::Config(command) => config::run(command).await,
            ClientCommand::Cluster(command) => cluster::run(command).await,
            ClientCommand::Group(command) => group::run(command).await,
            ClientCommand::Produce(arguments) => produce::run(arguments).await,
            ClientCommand::Consume(arguments) => consume::run(arguments).await,
        }
    }))
}

/// Runs `log scrub`, which stands among the commands about files.
#[must_use]
pub fn run_scrub(arguments: &ScrubArguments) -> ExitCode {
    end(highwater_client::driver::block_on(scrub::run(arguments)))
}

/// Prints why a command failed, if it did.
fn end(ended: io::Result<Result<(), CommandError>>) -> ExitCode {
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        _command: ClientCommand,
    }

    /// Every command that does something, with its path.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        for one in command.get_subcommands() {
            let path = format!("{path} {}", one.get_name());
            match one.has_subcommands() {
                true => leaves(one, &path, found),
                false => found.push((path, one.clone())),
            }
        }
    }

    #[test]
    fn the_parser_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut found = Vec::new();
        leaves(&Program::command(), "highwater", &mut found);
        assert!(found.len() >= 10, "{found:?}");
        for (path, command) in found {
            let help = command.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let examples = help
                .lines()
                .filter_map(|line| line.find(&path).map(|at| &line[at..]));
            let mut count = 0;
            for example in examples {
                // What follows two spaces explains; what follows a pipe is another program's.
                let words = example.split("  ").next().unwrap_or_default();
                let words = words.split(" |").next().unwrap_or_default();
                let words = words.split(" <").next().unwrap_or_default();
                let parsed = Program::try_parse_from(words.split_whitespace());
                assert!(parsed.is_ok(), "{words}: {parsed:?}");
                count += 1;
            }
            assert!(count > 0, "{path} has no example");
        }
    }

    #[test]
    fn every_command_speaks_json() {
        let mut found = Vec::new();
        leaves(&Program::command(), "highwater", &mut found);
        for (path, command) in found {
            let has_json = command.get_arguments().any(|one| one.get_id() == "json");
            assert!(has_json, "{path} has no --json");
        }
    }
}
