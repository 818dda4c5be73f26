//! Arguments that every command takes.

use clap::{Args, ValueEnum};
use highwater_client::ClientError;
use highwater_client::driver::{Client, ClientSettings};
use highwater_client::producer::Acks;
use highwater_wire::compression::Codec;

/// How to reach the cluster.
#[derive(Clone, Debug, Args)]
pub struct Connect {
    /// A broker to begin with, or several separated by commas; the others are learned from it.
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        env = "HIGHWATER_BOOTSTRAP_SERVER",
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap_server: String,
}

impl Connect {
    /// # Errors
    /// No broker answers.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let settings = ClientSettings {
            client_id: "highwater-cli".to_string(),
            ..Default::default()
        };
        Client::connect(&self.bootstrap_server, settings).await
    }
}

/// How to reach the cluster and how to print.
#[derive(Clone, Debug, Args)]
pub struct Common {
    #[command(flatten)]
    pub connect: Connect,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcksArgument {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl Compression {
    /// As batches name it.
    #[must_use]
    pub fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

impl AcksArgument {
    /// As the producer names it.
    #[must_use]
    pub fn acks(self) -> Acks {
        match self {
            AcksArgument::None => Acks::None,
            AcksArgument::Leader => Acks::Leader,
            AcksArgument::All => Acks::All,
        }
    }
}

/// `KEY=VALUE` as an argument.
///
/// # Errors
/// There is no `=` or nothing before it.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_string(), value.to_string()))
        }
        _ => Err(format!(
            "{text:?} is not KEY=VALUE, for example retention.ms=86400000"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::key_value;

    #[test]
    fn pairs_keep_their_value_as_it_is() {
        assert_eq!(
            key_value("a=b=c "),
            Ok(("a".to_string(), "b=c ".to_string()))
        );
        assert_eq!(key_value("a="), Ok(("a".to_string(), String::new())));
        assert!(key_value("a").is_err());
        assert!(key_value("=b").is_err());
    }
}
