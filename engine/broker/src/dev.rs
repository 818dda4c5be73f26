//! `highwater dev`: a node for trying things out, in a directory that goes when it ends.

use std::path::{Path, PathBuf};

use crate::config::NodeConfig;
use crate::{logging, serve};

/// Removes the directory when the node has ended.
#[derive(Debug)]
struct ThrowAway(PathBuf);

impl Drop for ThrowAway {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("highwater-dev-{}", std::process::id()))
}

fn pairs(data_dir: &Path, listen: &str, cores: usize) -> Vec<(String, String)> {
    let pair = |key: &str, value: String| (key.to_string(), value);
    vec![
        pair("data_dir", data_dir.display().to_string()),
        pair("listen", listen.to_string()),
        // Any free port: a node for trying things out starts beside whatever else is running.
        pair("ops_listen", "127.0.0.1:0".to_string()),
        pair("cores", cores.to_string()),
        pair("tail_cache_mb", "64".to_string()),
        pair("log_level", "warn".to_string()),
        pair("group_initial_rebalance_delay_ms", "0".to_string()),
        pair("delete_retention_hours", "0".to_string()),
    ]
}

/// Runs until SIGTERM or Ctrl-C.
///
/// # Errors
/// A start that failed, in a sentence that says what to do.
pub fn run(listen: &str, cores: usize) -> Result<(), String> {
    let throw_away = ThrowAway(directory());
    let config = NodeConfig::load(None, [], &pairs(&throw_away.0, listen, cores))
        .map_err(|error| error.to_string())?;
    logging::install(&config.log_level, config.log_format)?;
    serve::serve(config, |_, address| {
        println!(
            "\nTry, in another terminal:\n\n  \
             highwater topic create greetings --partitions 2 --bootstrap-server {address}\n  \
             echo 'hello' | highwater produce greetings --bootstrap-server {address}\n  \
             highwater consume greetings --bootstrap-server {address}\n\n\
             Any Kafka client works too: bootstrap.servers={address}\n\
             Ctrl-C ends it and removes {}.",
            throw_away.0.display()
        );
    })
    .map_err(|error| error.to_string())
}
