//! Topic configuration under Kafka's names: one table that gives each key its type, default,
//! range and documentation, and the parsed form the data path reads.
//!
//! Keys marked "no effect" are accepted so that tools which write them keep working; each says why
//! it has none. `cleanup.policy` accepts only `delete` until compaction exists.

use std::collections::BTreeMap;

use highwater_store::LogConfig;
use highwater_wire::writer::STRING_BYTES_MAX;

/// Kafka's type numbers in DescribeConfigs answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// What values a key accepts.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Range(i64, i64),
    OneOf(&'static [&'static str]),
    Boolean,
    Ratio,
    Any,
}

/// One key of the table.
#[derive(Debug)]
pub struct ConfigKey {
    pub name: &'static str,
    pub kind: ConfigType,
    pub default: &'static str,
    pub documentation: &'static str,
    rule: Rule,
}

const fn key(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    rule: Rule,
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default,
        documentation,
        rule,
    }
}

const LONG_MAX: i64 = i64::MAX;
const INT_MAX: i64 = i32::MAX as i64;

/// Every key, in name order.
pub const KEYS: &[ConfigKey] = &[
    key(
        "cleanup.policy",
        ConfigType::List,
        "delete",
        Rule::OneOf(&["delete"]),
        "What happens to old segments. Only delete: compaction does not exist yet.",
    ),
    key(
        "compression.type",
        ConfigType::String,
        "producer",
        Rule::OneOf(&["producer"]),
        "Batches are stored as the producer sent them; the broker never recompresses.",
    ),
    key(
        "delete.retention.ms",
        ConfigType::Long,
        "86400000",
        Rule::Range(0, LONG_MAX),
        "No effect: it belongs to compaction.",
    ),
    key(
        "file.delete.delay.ms",
        ConfigType::Long,
        "60000",
        Rule::Range(0, LONG_MAX),
        "No effect: a file being read stays readable until its last reader is done.",
    ),
    key(
        "flush.messages",
        ConfigType::Long,
        "1",
        Rule::Range(1, LONG_MAX),
        "No effect: every acknowledged record is on disk.",
    ),
    key(
        "flush.ms",
        ConfigType::Long,
        "0",
        Rule::Range(0, LONG_MAX),
        "No effect: every acknowledged record is on disk.",
    ),
    key(
        "index.interval.bytes",
        ConfigType::Int,
        "4096",
        Rule::Range(512, 1 << 20),
        "Bytes of log between two entries of the offset index.",
    ),
    key(
        "max.message.bytes",
        ConfigType::Int,
        "1048588",
        Rule::Range(0, 100 * 1024 * 1024),
        "Largest record batch accepted, in bytes, header included.",
    ),
    key(
        "message.timestamp.after.max.ms",
        ConfigType::Long,
        "3600000",
        Rule::Range(0, LONG_MAX),
        "How far a record's timestamp may lie ahead of the broker's clock.",
    ),
    key(
        "message.timestamp.before.max.ms",
        ConfigType::Long,
        "9223372036854775807",
        Rule::Range(0, LONG_MAX),
        "How far a record's timestamp may lie behind the broker's clock.",
    ),
    key(
        "message.timestamp.type",
        ConfigType::String,
        "CreateTime",
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whether records carry the producer's time or the broker's append time.",
    ),
    key(
        "min.insync.replicas",
        ConfigType::Int,
        "1",
        Rule::Range(1, 1),
        "Replicas that must have a record on disk before it is acknowledged.",
    ),
    key(
        "preallocate",
        ConfigType::Boolean,
        "true",
        Rule::Boolean,
        "No effect: segments are always prepared ahead.",
    ),
    key(
        "retention.bytes",
        ConfigType::Long,
        "-1",
        Rule::Range(-1, LONG_MAX),
        "Bytes a partition keeps; older segments are deleted. -1 keeps all.",
    ),
    key(
        "retention.ms",
        ConfigType::Long,
        "604800000",
        Rule::Range(-1, LONG_MAX),
        "How long records are kept, in milliseconds. -1 keeps all.",
    ),
    key(
        "segment.bytes",
        ConfigType::Int,
        "1073741824",
        Rule::Range(1 << 20, INT_MAX),
        "Largest size of one segment file.",
    ),
    key(
        "segment.index.bytes",
        ConfigType::Int,
        "10485760",
        Rule::Range(4, INT_MAX),
        "No effect: index files take what they need.",
    ),
    key(
        "segment.jitter.ms",
        ConfigType::Long,
        "0",
        Rule::Range(0, LONG_MAX),
        "No effect: rolling a segment is not a burst here.",
    ),
    key(
        "segment.ms",
        ConfigType::Long,
        "604800000",
        Rule::Range(1, LONG_MAX),
        "Age after which a segment is closed even if it is not full.",
    ),
    key(
        "verify.on.fetch",
        ConfigType::Boolean,
        "false",
        Rule::Boolean,
        "Whether each fetch that reads from files checks the CRC of every batch and sends them from \
         memory. Costs CPU and the zero-copy path; damage is found by every read instead of by the \
         client.",
    ),
    key(
        "min.cleanable.dirty.ratio",
        ConfigType::Double,
        "0.5",
        Rule::Ratio,
        "No effect: it belongs to compaction.",
    ),
    key(
        "min.compaction.lag.ms",
        ConfigType::Long,
        "0",
        Rule::Range(0, LONG_MAX),
        "No effect: it belongs to compaction.",
    ),
    key(
        "max.compaction.lag.ms",
        ConfigType::Long,
        "9223372036854775807",
        Rule::Range(1, LONG_MAX),
        "No effect: it belongs to compaction.",
    ),
    key(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        "false",
        Rule::OneOf(&["false"]),
        "Acknowledged records are never traded for availability.",
    ),
    key(
        "leader.replication.throttled.replicas",
        ConfigType::List,
        "",
        Rule::Any,
        "No effect with a single replica.",
    ),
    key(
        "follower.replication.throttled.replicas",
        ConfigType::List,
        "",
        Rule::Any,
        "No effect with a single replica.",
    ),
    key(
        "remote.storage.enable",
        ConfigType::Boolean,
        "false",
        Rule::OneOf(&["false"]),
        "Tiered storage does not exist here.",
    ),
];

/// How Kafka configures `__consumer_offsets`.
pub const OFFSETS_TOPIC_CONFIG: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
];

/// Looks a key up.
#[must_use]
pub fn find(name: &str) -> Option<&'static ConfigKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// The parsed configuration of one topic, with the overrides it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub max_message_bytes: usize,
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub index_interval_bytes: usize,
    pub verify_on_fetch: bool,
    values: BTreeMap<String, String>,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            max_message_bytes: 1_048_588,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            index_interval_bytes: 4096,
            verify_on_fetch: false,
            values: BTreeMap::new(),
        }
    }
}

/// A key or value that is refused: names the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TopicConfigError(pub String);

impl TopicConfig {
    /// Sets one key.
    ///
    /// # Errors
    /// Unknown key, or a value outside what the key allows.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TopicConfigError> {
        let known = find(name)
            .ok_or_else(|| TopicConfigError(format!("unknown topic configuration {name}")))?;
        let value = value.trim();
        known.check(name, value)?;
        self.put(name, value);
        Ok(())
    }

    /// The configuration of the topic of offsets: it says that it is compacted, as tools expect,
    /// though its coordinator does that. The store keeps everything that the coordinator does not
    /// delete, whatever the node's defaults are.
    pub fn set_offsets_topic(&mut self) {
        for (name, value) in OFFSETS_TOPIC_CONFIG {
            self.put(name, value);
        }
        self.retention_ms = -1;
        self.retention_bytes = -1;
    }

    fn put(&mut self, name: &str, value: &str) {
        let number = || value.parse::<i64>().unwrap_or(0);
        match name {
            "max.message.bytes" => self.max_message_bytes = number() as usize,
            "message.timestamp.type" => self.log_append_time = value == "LogAppendTime",
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms = number(),
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms = number(),
            "retention.ms" => self.retention_ms = number(),
            "retention.bytes" => self.retention_bytes = number(),
            "segment.bytes" => self.segment_bytes = (number() as u64).next_multiple_of(4096),
            "segment.ms" => self.segment_ms = number(),
            "index.interval.bytes" => self.index_interval_bytes = number() as usize,
            "verify.on.fetch" => self.verify_on_fetch = value == "true",
            _ => {}
        }
        self.values.insert(name.to_string(), value.to_string());
    }

    /// The value of a key as text: what was set, else the built-in default.
    #[must_use]
    pub fn value(&self, key: &ConfigKey) -> String {
        self.values
            .get(key.name)
            .cloned()
            .unwrap_or_else(|| key.default.to_string())
    }

    /// What the store needs of it.
    #[must_use]
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            index_interval_bytes: self.index_interval_bytes,
            verify_on_fetch: self.verify_on_fetch,
        }
    }
}

impl ConfigKey {
    /// Whether the key accepts a value; `called` is its name where the value was given.
    ///
    /// # Errors
    /// The name, the value and what is allowed.
    pub fn check(&self, called: &str, value: &str) -> Result<(), TopicConfigError> {
        let refuse = |allowed: String| {
            Err(TopicConfigError(format!(
                "{called} is {value:?}; allowed is {allowed}"
            )))
        };
        if value.len() > STRING_BYTES_MAX {
            let bytes = value.len();
            return Err(TopicConfigError(format!(
                "{called} has {bytes} bytes; allowed are {STRING_BYTES_MAX}"
            )));
        }
        match self.rule {
            Rule::Any => Ok(()),
            Rule::Boolean if value == "true" || value == "false" => Ok(()),
            Rule::Boolean => refuse("true or false".to_string()),
            Rule::OneOf(values) if values.contains(&value) => Ok(()),
            Rule::OneOf(values) if self.name == "cleanup.policy" => refuse(format!(
                "{} (compaction does not exist yet, so compact is refused)",
                values.join(", ")
            )),
            Rule::OneOf(values) => refuse(values.join(", ")),
            Rule::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                _ => refuse("0.0 to 1.0".to_string()),
            },
            Rule::Range(low, high) => match value.parse::<i64>() {
                Ok(number) if (low..=high).contains(&number) => Ok(()),
                _ => refuse(format!("{low} to {high}")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_rule() {
        for key in KEYS {
            key.check(key.name, key.default)
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn compaction_is_refused_with_a_reason() {
        let error = TopicConfig::default()
            .set("cleanup.policy", "compact")
            .expect_err("refused");
        assert!(
            error.to_string().contains("compaction does not exist yet"),
            "{error}"
        );
    }

    #[test]
    fn the_topic_of_offsets_keeps_everything_and_says_compact() {
        let mut config = TopicConfig::default();
        config.set("retention.bytes", "4096").expect("allowed");
        config.set_offsets_topic();
        let log = config.log_config();
        assert_eq!((log.retention_ms, log.retention_bytes), (-1, -1));
        assert_eq!(log.segment_bytes, 104_857_600);
        let policy = find("cleanup.policy").expect("known");
        assert_eq!(config.value(policy), "compact");
    }

    #[test]
    fn values_are_parsed_and_kept_as_text() {
        let mut config = TopicConfig::default();
        config.set("retention.ms", "-1").expect("allowed");
        config
            .set("message.timestamp.type", "LogAppendTime")
            .expect("allowed");
        assert_eq!((config.retention_ms, config.log_append_time), (-1, true));
        let key = find("retention.ms").expect("known");
        assert_eq!(config.value(key), "-1");
        assert!(config.set("segment.bytes", "12").is_err());
        assert!(config.set("segment.colour", "blue").is_err());
    }
}
