//! The client commands alone, without the broker's binary around them.

use std::process::ExitCode;

use clap::Parser;

/// Highwater's client commands.
#[derive(Parser)]
#[command(
    name = "highwater",
    arg_required_else_help = true,
    after_help = highwater_cli::HELP_EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: highwater_cli::ClientCommand,
}

fn main() -> ExitCode {
    highwater_cli::run(Arguments::parse().command)
}
