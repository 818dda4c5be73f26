//! `highwater`: the broker and its tools in one binary.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use highwater_broker::{config, dev, doctor, log_tool, logging, serve};

/// Counts heap allocations per thread, so that "the hot path allocates nothing" can be shown on the
/// binary that ships.
#[global_allocator]
static ALLOCATOR: highwater_reactor::CountingAllocator = highwater_reactor::CountingAllocator;

/// An event-streaming broker that speaks the Kafka protocol.
///
/// Producers append records to partitioned topics; Highwater keeps them durably (an acknowledged
/// record is on disk) and consumers read them back by offset. Any Kafka client works unchanged.
#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version = highwater_broker::VERSION,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = highwater_cli::HELP_EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Run a throw-away node for trying things out; everything is gone when it ends.
    Dev(DevArgs),
    /// Check kernel, filesystem, limits, CPU and clock, and say what to change.
    Doctor(doctor::DoctorArgs),
    /// Look into the files of a stopped node: print them explained, or check them for damage.
    #[command(subcommand, after_help = log_tool::HELP)]
    Log(log_tool::LogCommand),
    /// Print the configuration file with every key, its default and what it does.
    ConfigTemplate,
    /// Print a completion script for a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(highwater_cli::ClientCommand),
    /// Measure a broker, this one or any that speaks the Kafka protocol: latency and throughput under
    /// a load that does not wait for it.
    #[command(subcommand, after_help = highwater_bench::HELP)]
    Bench(highwater_bench::BenchCommand),
}

/// Flags of `serve`; each overrides the key of the same name in the configuration.
#[derive(Debug, Args)]
struct ServeArgs {
    /// Configuration file (TOML); `highwater config-template` prints one.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that holds everything; created when absent.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address clients connect to.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// CPU cores to use, one shard each; 0 = all.
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// Identity of this node, also its Kafka broker id.
    #[arg(long, value_name = "ID")]
    node_id: Option<i32>,
    /// Any configuration key; `topic.KEY` sets a topic default. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    sets: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct DevArgs {
    /// Address clients connect to.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: String,
    /// CPU cores to use; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 1)]
    cores: usize,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_string(), value.trim().to_string()))
        }
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

impl ServeArgs {
    fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = self.sets.clone();
        let mut flag = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.push((key.to_string(), value));
            }
        };
        flag(
            "data_dir",
            self.data_dir
                .as_ref()
                .map(|path| path.display().to_string()),
        );
        flag("listen", self.listen.clone());
        flag("cores", self.cores.map(|cores| cores.to_string()));
        flag("node_id", self.node_id.map(|id| id.to_string()));
        pairs
    }
}

/// The environment, without what is no text.
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

fn run_serve(args: &ServeArgs) -> Result<(), String> {
    let config = config::NodeConfig::load(args.config.as_deref(), variables(), &args.pairs())
        .map_err(|error| error.to_string())?;
    logging::install(&config.log_level, config.log_format)?;
    for name in &config.unknown_variables {
        tracing::warn!(%name, "environment variable ignored: it names no configuration key");
    }
    serve::serve(config, |_, _| {}).map_err(|error| error.to_string())
}

fn report(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("highwater: {error}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => report(run_serve(&args)),
        Command::Dev(args) => report(dev::run(&args.listen, args.cores)),
        Command::Doctor(args) => doctor::run(&args),
        Command::Log(command) => log_tool::run(&command),
        Command::ConfigTemplate => {
            print!("{}", config::node::DEFAULTS_TOML);
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "highwater",
                &mut std::io::stdout(),
            );
            ExitCode::SUCCESS
        }
        Command::Client(command) => highwater_cli::run(command),
        Command::Bench(command) => highwater_bench::run(command),
    }
}
