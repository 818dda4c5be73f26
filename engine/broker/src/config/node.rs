//! The node's configuration: one commented TOML whose text is also the source of the defaults.
//!
//! Layers, later ones win: the defaults, the file, `HIGHWATER_*` variables, `--set key=value` and
//! flags. Unknown keys and impossible values are refused with the key's name and what is allowed;
//! of the environment, which others write to as well (a Kubernetes service called `highwater` adds
//! `HIGHWATER_PORT`), unknown names are ignored and reported.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::Value;
use highwater_base::NodeId;
use highwater_base::limits::PARTITIONS_PER_TOPIC_MAX;
use highwater_store::store::BARRIERS_IN_FLIGHT_MAX;
use highwater_wire::writer::STRING_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::topic::{self, TopicConfig};

/// The commented defaults, as shipped.
pub const DEFAULTS_TOML: &str = include_str!("../../highwater.toml");

/// Variables that the command line tools read.
const CLIENT_VARIABLES: [&str; 1] = ["HIGHWATER_BOOTSTRAP_SERVER"];

/// Largest `group_bytes_max`: a group is one record, and a batch has to fit a segment of the topic of
/// offsets.
const GROUP_BYTES_LIMIT: usize = 64 << 20;

/// Largest `delete_retention_hours`: ten years.
const DELETE_RETENTION_HOURS_MAX: u64 = 87_600;

/// What a core does when idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdlePolicy {
    Spin,
    Adaptive,
    Sleep,
}

/// What clients are told about the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Advertise {
    Node,
    Core,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Human,
    Json,
}

/// Every setting of a node; `highwater.toml` documents each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    pub node_id: i32,
    pub data_dir: PathBuf,
    pub listen: String,
    pub ops_listen: String,
    pub metrics_topics_max: usize,
    pub advertised: String,
    pub advertise: Advertise,
    pub direct_cores_max: usize,
    pub steering: bool,
    pub cores: usize,
    pub pin_cores: bool,
    pub first_core: usize,
    pub idle: IdlePolicy,
    pub idle_spin_us: u64,
    pub tail_cache_mb: usize,
    pub connections_max: usize,
    pub frame_bytes_max: usize,
    pub send_queue_bytes_max: usize,
    pub open_files_max: usize,
    pub receive_buffers_mb: usize,
    pub frame_receive_timeout_ms: usize,
    pub connection_requests_max: usize,
    pub fetch_sessions_max: usize,
    pub cold_reads_in_flight_max: usize,
    pub cold_read_ahead_bytes: usize,
    pub cold_read_share_percent: usize,
    pub scrub_mb_per_second: usize,
    pub scrub_interval_hours: usize,
    pub auto_create_topics: bool,
    pub num_partitions: i32,
    pub topics_max: usize,
    pub partitions_max: usize,
    pub delete_retention_hours: u64,
    pub allow_no_barrier: bool,
    pub ledger_lag_ms: u64,
    pub ledger_lag_bytes: u64,
    pub barriers_in_flight_max: usize,
    pub first_segment_bytes: u64,
    pub zero_ahead_bytes: u64,
    pub producer_id_expiration_ms: i64,
    pub fetch_bytes_max: usize,
    pub offsets_topic_partitions: u32,
    pub offsets_retention_minutes: u64,
    pub offset_metadata_bytes_max: usize,
    pub group_session_timeout_min_ms: i32,
    pub group_session_timeout_max_ms: i32,
    pub group_initial_rebalance_delay_ms: u64,
    pub group_members_max: usize,
    pub groups_max: usize,
    pub group_bytes_max: usize,
    pub log_level: String,
    pub log_format: LogFormat,
    /// Defaults of topic configurations by Kafka's names.
    pub topic: BTreeMap<String, String>,
    /// `HIGHWATER_*` variables that name no key, for the log.
    #[serde(skip)]
    pub unknown_variables: Vec<String>,
}

/// A configuration that cannot be used, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl NodeConfig {
    /// Reads all layers. `environment` are variables with their values, `sets` the `--set` pairs and
    /// the flags translated into pairs.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, a value of the wrong type or out of its range.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        sets: &[(String, String)],
    ) -> Result<NodeConfig, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS_TOML));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(ConfigError(format!(
                    "configuration file {} does not exist; write one with `highwater \
                     config-template > {}`",
                    path.display(),
                    path.display()
                )));
            }
            figment = figment.merge(Toml::file(path));
        }
        let mut unknown_variables = Vec::new();
        for (name, value) in environment {
            match key_of_variable(&name) {
                VariableKey::Known(key) => figment = merge_pair(figment, &key, &value),
                VariableKey::Unknown => unknown_variables.push(name),
                VariableKey::Foreign => {}
            }
        }
        for (key, value) in sets {
            figment = merge_pair(figment, key, value);
        }
        let mut config: NodeConfig = figment.extract().map_err(|error| {
            ConfigError(format!(
                "{error}; `highwater config-template` prints every key with its default"
            ))
        })?;
        config.check()?;
        config.unknown_variables = unknown_variables;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, value: &dyn std::fmt::Display, allowed: &str| {
            Err(ConfigError(format!(
                "{key} is {value}; allowed is {allowed}"
            )))
        };
        if !(0..NodeId::LIMIT).contains(&self.node_id) {
            return wrong("node_id", &self.node_id, "0 to 1048575");
        }
        if self.cores > 1024 {
            return wrong("cores", &self.cores, "0 (all) to 1024");
        }
        if self.num_partitions < 1 {
            return wrong("num_partitions", &self.num_partitions, "1 or more");
        }
        if self.tail_cache_mb < 16 {
            return wrong("tail_cache_mb", &self.tail_cache_mb, "16 or more");
        }
        if !(1 << 16..=1 << 30).contains(&self.frame_bytes_max) {
            return wrong(
                "frame_bytes_max",
                &self.frame_bytes_max,
                "65536 to 1073741824",
            );
        }
        if self.first_segment_bytes < 65_536 || !self.first_segment_bytes.is_multiple_of(4096) {
            let allowed = "a multiple of 4096, at least 65536";
            return wrong("first_segment_bytes", &self.first_segment_bytes, allowed);
        }
        if self.delete_retention_hours > DELETE_RETENTION_HOURS_MAX {
            let allowed = format!("0 to {DELETE_RETENTION_HOURS_MAX}");
            return wrong(
                "delete_retention_hours",
                &self.delete_retention_hours,
                &allowed,
            );
        }
        if !(1..=BARRIERS_IN_FLIGHT_MAX).contains(&self.barriers_in_flight_max) {
            let allowed = format!("1 to {BARRIERS_IN_FLIGHT_MAX}");
            return wrong(
                "barriers_in_flight_max",
                &self.barriers_in_flight_max,
                &allowed,
            );
        }
        self.check_groups()?;
        self.check_bounds()?;
        self.listen_address()?;
        self.ops_address()?;
        self.topic_defaults()?;
        Ok(())
    }

    fn check_groups(&self) -> Result<(), ConfigError> {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let (low, high) = (
            i64::from(self.group_session_timeout_min_ms),
            i64::from(self.group_session_timeout_max_ms),
        );
        let rows: [(&str, i64, i64, i64); 9] = [
            (
                "offsets_topic_partitions",
                i64::from(self.offsets_topic_partitions),
                1,
                PARTITIONS_PER_TOPIC_MAX as i64,
            ),
            (
                "offsets_retention_minutes",
                i64::try_from(self.offsets_retention_minutes).unwrap_or(i64::MAX),
                1,
                i64::from(i32::MAX),
            ),
            (
                "offset_metadata_bytes_max",
                number(self.offset_metadata_bytes_max),
                0,
                STRING_BYTES_MAX as i64,
            ),
            ("group_session_timeout_min_ms", low, 1, i64::from(i32::MAX)),
            (
                "group_session_timeout_max_ms",
                high,
                low,
                i64::from(i32::MAX),
            ),
            (
                "group_initial_rebalance_delay_ms",
                i64::try_from(self.group_initial_rebalance_delay_ms).unwrap_or(i64::MAX),
                0,
                i64::from(i32::MAX),
            ),
            (
                "group_members_max",
                number(self.group_members_max),
                1,
                i64::from(i32::MAX),
            ),
            (
                "groups_max",
                number(self.groups_max),
                1,
                i64::from(i32::MAX),
            ),
            (
                "group_bytes_max",
                number(self.group_bytes_max),
                4096,
                GROUP_BYTES_LIMIT as i64,
            ),
        ];
        for (key, value, low, high) in rows {
            if !(low..=high).contains(&value) {
                return Err(ConfigError(format!(
                    "{key} is {value}; allowed is {low} to {high}"
                )));
            }
        }
        Ok(())
    }

    /// The bounds that cannot be just any number.
    fn check_bounds(&self) -> Result<(), ConfigError> {
        let frames_mb = (2 * self.frame_bytes_max).div_ceil(1 << 20);
        let ahead = self.cold_read_ahead_bytes;
        let rows = [
            (
                "receive_buffers_mb",
                self.receive_buffers_mb,
                frames_mb..=1 << 20,
                "1048576, and no less than twice frame_bytes_max",
            ),
            (
                "frame_receive_timeout_ms",
                self.frame_receive_timeout_ms,
                1000..=3_600_000,
                "3600000",
            ),
            (
                "connection_requests_max",
                self.connection_requests_max,
                1..=1 << 16,
                "65536",
            ),
            (
                "cold_reads_in_flight_max",
                self.cold_reads_in_flight_max,
                1..=1024,
                "1024",
            ),
            (
                "cold_read_ahead_bytes",
                ahead,
                1 << 17..=1 << 30,
                "1073741824",
            ),
            (
                "cold_read_share_percent",
                self.cold_read_share_percent,
                1..=100,
                "100",
            ),
            (
                "scrub_mb_per_second",
                self.scrub_mb_per_second,
                0..=10_000,
                "10000",
            ),
            (
                "scrub_interval_hours",
                self.scrub_interval_hours,
                0..=87_600,
                "87600",
            ),
        ];
        match rows.iter().find(|row| !row.2.contains(&row.1)) {
            None => Ok(()),
            Some((key, value, range, upto)) => Err(ConfigError(format!(
                "{key} is {value}; allowed is {} to {upto}",
                range.start()
            ))),
        }
    }

    /// The address of `listen`, resolved.
    ///
    /// # Errors
    /// When it is not HOST:PORT or the host does not resolve.
    pub fn listen_address(&self) -> Result<SocketAddr, ConfigError> {
        let text = &self.listen;
        text.to_socket_addrs()
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| ConfigError(format!("listen is {text:?}; allowed is HOST:PORT")))
    }

    /// The address of `ops_listen`, resolved; `None` when there is to be no endpoint.
    ///
    /// # Errors
    /// When it is neither "" nor HOST:PORT, or the host does not resolve.
    pub fn ops_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let text = &self.ops_listen;
        if text.is_empty() {
            return Ok(None);
        }
        let resolved = text.to_socket_addrs().ok();
        let address = resolved.and_then(|mut addresses| addresses.next());
        let allowed = "HOST:PORT, or \"\" for no endpoint";
        address
            .map(Some)
            .ok_or_else(|| ConfigError(format!("ops_listen is {text:?}; allowed is {allowed}")))
    }

    /// Host and port told to clients, given the port really bound.
    #[must_use]
    pub fn advertised_address(&self, bound: SocketAddr) -> (String, u16) {
        if !self.advertised.is_empty() {
            return match self.advertised.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok() => {
                    (host.to_string(), port.parse().unwrap_or(bound.port()))
                }
                _ => (self.advertised.clone(), bound.port()),
            };
        }
        let host = self.listen.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = match host {
            "" | "0.0.0.0" | "::" => hostname().unwrap_or_else(|| "127.0.0.1".to_string()),
            named => named.to_string(),
        };
        (host, bound.port())
    }

    /// The topic configuration a new topic starts from.
    ///
    /// # Errors
    /// An unknown key or a value out of range in `[topic]`.
    pub fn topic_defaults(&self) -> Result<TopicConfig, ConfigError> {
        let mut config = TopicConfig::default();
        for (key, value) in &self.topic {
            config
                .set(key, value)
                .map_err(|error| ConfigError(format!("[topic] {error}")))?;
        }
        Ok(config)
    }
}

/// What an environment variable means for the configuration.
enum VariableKey {
    Known(String),
    /// It has our prefix but names no key.
    Unknown,
    /// Not ours, or read by another part of the binary.
    Foreign,
}

/// `HIGHWATER_IDLE_SPIN_US` is `idle_spin_us`, `HIGHWATER_TOPIC_RETENTION_MS` is
/// `topic.retention.ms`.
fn key_of_variable(name: &str) -> VariableKey {
    let Some(rest) = name.strip_prefix("HIGHWATER_") else {
        return VariableKey::Foreign;
    };
    if CLIENT_VARIABLES.contains(&name) {
        return VariableKey::Foreign;
    }
    let key = rest.to_ascii_lowercase();
    if let Some(topic_key) = key.strip_prefix("topic_") {
        let topic_key = topic_key.replace('_', ".");
        return match topic::KEYS.iter().any(|known| known.name == topic_key) {
            true => VariableKey::Known(format!("topic.{topic_key}")),
            false => VariableKey::Unknown,
        };
    }
    let known = Figment::from(Toml::string(DEFAULTS_TOML)).contains(&key);
    match known && key != "topic" {
        true => VariableKey::Known(key),
        false => VariableKey::Unknown,
    }
}

fn merge_pair(figment: Figment, key: &str, value: &str) -> Figment {
    // `topic.retention.ms=…` names a topic default; everything else is a plain key, in which
    // dots and dashes read as underscores.
    if let Some(topic_key) = key.strip_prefix("topic.") {
        let map = BTreeMap::from([(topic_key.to_string(), value.to_string())]);
        return figment.merge(Serialized::default("topic", map));
    }
    let key = key.replace(['.', '-'], "_");
    // A text stays one where it looks like a number: `--data-dir 2026`.
    let is_text = matches!(figment.find_value(&key), Ok(Value::String(..)));
    if is_text {
        figment.merge(Serialized::default(&key, value))
    } else if let Ok(number) = value.parse::<i64>() {
        figment.merge(Serialized::default(&key, number))
    } else if let Ok(flag) = value.parse::<bool>() {
        figment.merge(Serialized::default(&key, flag))
    } else {
        figment.merge(Serialized::default(&key, value))
    }
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> (String, String) {
        (key.to_string(), value.to_string())
    }

    fn load(
        environment: &[(String, String)],
        sets: &[(String, String)],
    ) -> Result<NodeConfig, ConfigError> {
        NodeConfig::load(None, environment.iter().cloned(), sets)
    }

    #[test]
    fn the_template_is_complete_and_valid() {
        let config = load(&[], &[]).expect("defaults are valid");
        assert_eq!(config.num_partitions, 1);
        assert_eq!(
            config.topic_defaults().expect("valid").max_message_bytes,
            1_048_588
        );
    }

    #[test]
    fn pairs_win_and_kafka_spelling_is_understood() {
        let sets = [
            set("num.partitions", "6"),
            set("steering", "false"),
            set("topic.retention.ms", "1000"),
            set("listen", "127.0.0.1:0"),
            set("data_dir", "2026"),
        ];
        let config = load(&[], &sets).expect("valid");
        assert_eq!((config.num_partitions, config.steering), (6, false));
        assert_eq!(config.data_dir, PathBuf::from("2026"));
        assert_eq!(config.topic_defaults().expect("valid").retention_ms, 1000);
    }

    #[test]
    fn wrong_values_name_key_value_and_range() {
        let error = load(&[], &[set("num_partitions", "0")]).expect_err("refused");
        assert!(
            error
                .to_string()
                .contains("num_partitions is 0; allowed is 1 or more")
        );
        for barriers in ["0", "17"] {
            let error = load(&[], &[set("barriers_in_flight_max", barriers)]);
            let error = error.expect_err("refused").to_string();
            assert!(error.contains("allowed is 1 to 16"), "{error}");
        }
        let error = load(&[], &[set("ops_listen", "nowhere")]).expect_err("refused");
        assert!(error.to_string().contains("ops_listen is \"nowhere\""));
        let off = load(&[], &[set("ops_listen", "")]).expect("valid");
        assert_eq!(off.ops_address().expect("valid"), None);
        for (key, value) in [
            ("receive_buffers_mb", "199"),
            ("frame_receive_timeout_ms", "999"),
            ("connection_requests_max", "0"),
            ("cold_reads_in_flight_max", "0"),
            ("cold_read_ahead_bytes", "4096"),
            ("cold_read_share_percent", "0"),
            ("scrub_mb_per_second", "10001"),
            ("scrub_interval_hours", "87601"),
        ] {
            let error = load(&[], &[set(key, value)]).expect_err("refused");
            assert!(
                error
                    .to_string()
                    .contains(&format!("{key} is {value}; allowed is"))
            );
        }
        let error = load(&[], &[set("no_such_key", "0")]).expect_err("refused");
        assert!(error.to_string().contains("no_such_key"), "{error}");
        let error = load(&[], &[set("topic.cleanup.policy", "compact")]);
        assert!(error.expect_err("refused").to_string().contains("compact"));
    }

    #[test]
    fn variables_are_keys_and_yield_to_pairs() {
        let environment = [
            set("HIGHWATER_NUM_PARTITIONS", "3"),
            set("HIGHWATER_IDLE", "spin"),
            set("HIGHWATER_TOPIC_RETENTION_MS", "5000"),
            set("PATH", "/bin"),
        ];
        let config = load(&environment, &[set("num_partitions", "6")]).expect("valid");
        assert_eq!((config.num_partitions, config.idle), (6, IdlePolicy::Spin));
        assert_eq!(config.topic_defaults().expect("valid").retention_ms, 5000);
        assert!(config.unknown_variables.is_empty());
        let error = load(&[set("HIGHWATER_NUM_PARTITIONS", "0")], &[]).expect_err("refused");
        assert!(error.to_string().contains("num_partitions is 0"));
    }

    #[test]
    fn strangers_variables_are_reported_and_do_not_stop_the_node() {
        let environment = [
            set("HIGHWATER_PORT", "tcp://10.0.0.1:9092"),
            set("HIGHWATER_TOPIC_NO_SUCH_KEY", "1"),
            set("HIGHWATER_BOOTSTRAP_SERVER", "127.0.0.1:9092"),
        ];
        let config = load(&environment, &[]).expect("valid");
        let unknown = ["HIGHWATER_PORT", "HIGHWATER_TOPIC_NO_SUCH_KEY"];
        assert_eq!(config.unknown_variables, unknown);
    }
}
