//! Broker configuration under Kafka's names: which keys there are, what each stands for, and the
//! layers that change some of them while the node runs.
//!
//! Changeable are the keys that Kafka marks dynamic and that have a counterpart here: the defaults
//! of topics, and how long silent producers are remembered. Everything else comes from the
//! configuration file. A layer holds texts that were checked before they were logged; a broker's
//! own layer wins over that of the whole cluster, and both over the file.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::node::NodeConfig;
use super::topic::{self, ConfigKey, ConfigType, TopicConfig, TopicConfigError};

/// What a broker key stands for.
#[derive(Clone, Copy, Debug)]
pub enum Setting {
    /// The default of this topic key.
    TopicDefault(&'static str),
    /// `producer_id_expiration_ms`.
    ProducerIdExpiration,
    /// When somebody asked for everything to be scrubbed.
    ScrubRequested,
    /// Something of the configuration file.
    Fixed(fn(&NodeConfig) -> String),
    /// The address clients are told, which is known only when the node listens.
    AdvertisedListeners,
}

/// One key of a broker.
#[derive(Clone, Copy, Debug)]
pub struct BrokerKey {
    pub name: &'static str,
    pub kind: ConfigType,
    pub documentation: &'static str,
    pub setting: Setting,
}

/// Broker keys that are defaults of topic keys, with the topic key.
const TOPIC_DEFAULTS: [(&str, &str); 22] = [
    ("compression.type", "compression.type"),
    ("log.cleaner.delete.retention.ms", "delete.retention.ms"),
    ("log.cleaner.max.compaction.lag.ms", "max.compaction.lag.ms"),
    (
        "log.cleaner.min.cleanable.ratio",
        "min.cleanable.dirty.ratio",
    ),
    ("log.cleaner.min.compaction.lag.ms", "min.compaction.lag.ms"),
    ("log.cleanup.policy", "cleanup.policy"),
    ("log.flush.interval.messages", "flush.messages"),
    ("log.flush.interval.ms", "flush.ms"),
    ("log.index.interval.bytes", "index.interval.bytes"),
    ("log.index.size.max.bytes", "segment.index.bytes"),
    (
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
    ),
    (
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
    ),
    ("log.message.timestamp.type", "message.timestamp.type"),
    ("log.preallocate", "preallocate"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.roll.jitter.ms", "segment.jitter.ms"),
    ("log.roll.ms", "segment.ms"),
    ("log.segment.bytes", "segment.bytes"),
    ("log.segment.delete.delay.ms", "file.delete.delay.ms"),
    ("message.max.bytes", "max.message.bytes"),
    ("min.insync.replicas", "min.insync.replicas"),
];

/// Kafka's coarser spellings, which it does not change at run time either.
const COARSER: [(&str, &str); 4] = [
    ("log.retention.hours", "log.retention.ms"),
    ("log.retention.minutes", "log.retention.ms"),
    ("log.roll.hours", "log.roll.ms"),
    ("log.roll.jitter.hours", "log.roll.jitter.ms"),
];

const PRODUCER_ID_EXPIRATION: &str = "producer.id.expiration.ms";
/// No key of Kafka's; `highwater log scrub` sets it.
const SCRUB_REQUESTED: &str = highwater_cli::SCRUB_REQUESTED;

/// What the file says, with Kafka's name, type and meaning.
type FixedRow = (
    &'static str,
    ConfigType,
    &'static str,
    fn(&NodeConfig) -> String,
);

const FIXED: [FixedRow; 19] = [
    (
        "auto.create.topics.enable",
        ConfigType::Boolean,
        "Whether asking for a topic creates it.",
        |node| node.auto_create_topics.to_string(),
    ),
    ("broker.id", ConfigType::Int, "This node's id.", |node| {
        node.node_id.to_string()
    }),
    (
        "default.replication.factor",
        ConfigType::Int,
        "Replicas of a new topic.",
        |_| "1".to_string(),
    ),
    (
        "delete.topic.enable",
        ConfigType::Boolean,
        "Whether topics can be deleted.",
        |_| "true".to_string(),
    ),
    (
        "fetch.max.bytes",
        ConfigType::Int,
        "Largest answer to one fetch request.",
        |node| node.fetch_bytes_max.to_string(),
    ),
    (
        "group.initial.rebalance.delay.ms",
        ConfigType::Int,
        "How long a new group waits for further members before its first rebalance.",
        |node| node.group_initial_rebalance_delay_ms.to_string(),
    ),
    (
        "group.max.session.timeout.ms",
        ConfigType::Int,
        "Longest session timeout a member may ask for.",
        |node| node.group_session_timeout_max_ms.to_string(),
    ),
    (
        "group.max.size",
        ConfigType::Int,
        "Members a group may have.",
        |node| node.group_members_max.to_string(),
    ),
    (
        "group.min.session.timeout.ms",
        ConfigType::Int,
        "Shortest session timeout a member may ask for.",
        |node| node.group_session_timeout_min_ms.to_string(),
    ),
    (
        "listeners",
        ConfigType::String,
        "Where the node listens.",
        |node| format!("PLAINTEXT://{}", node.listen),
    ),
    (
        "log.dirs",
        ConfigType::String,
        "The data directory.",
        |node| node.data_dir.display().to_string(),
    ),
    (
        "max.connections",
        ConfigType::Int,
        "Connections the node accepts at once.",
        |node| node.connections_max.to_string(),
    ),
    (
        "max.incremental.fetch.session.cache.slots",
        ConfigType::Int,
        "Incremental fetch sessions the node keeps.",
        |node| node.fetch_sessions_max.to_string(),
    ),
    ("node.id", ConfigType::Int, "This node's id.", |node| {
        node.node_id.to_string()
    }),
    (
        "num.partitions",
        ConfigType::Int,
        "Partitions of a new topic.",
        |node| node.num_partitions.to_string(),
    ),
    (
        "offset.metadata.max.bytes",
        ConfigType::Int,
        "Largest text a member may leave with a committed offset.",
        |node| node.offset_metadata_bytes_max.to_string(),
    ),
    (
        "offsets.retention.minutes",
        ConfigType::Int,
        "How long committed offsets outlive the last member of their group.",
        |node| node.offsets_retention_minutes.to_string(),
    ),
    (
        "offsets.topic.num.partitions",
        ConfigType::Int,
        "Partitions of the topic of offsets, when it is created.",
        |node| node.offsets_topic_partitions.to_string(),
    ),
    (
        "socket.request.max.bytes",
        ConfigType::Int,
        "Largest request.",
        |node| node.frame_bytes_max.to_string(),
    ),
];

fn topic_default_key(name: &'static str, of: &'static ConfigKey) -> BrokerKey {
    BrokerKey {
        name,
        kind: of.kind,
        documentation: of.documentation,
        setting: Setting::TopicDefault(of.name),
    }
}

/// Every key, in name order.
pub static KEYS: LazyLock<Vec<BrokerKey>> = LazyLock::new(|| {
    let defaults = TOPIC_DEFAULTS.iter().filter_map(|(name, of)| {
        let of = topic::find(of)?;
        Some(topic_default_key(name, of))
    });
    let unclean = topic::find("unclean.leader.election.enable");
    let unclean = unclean.map(|of| topic_default_key(of.name, of));
    let fixed = FIXED
        .iter()
        .map(|(name, kind, documentation, read)| BrokerKey {
            name,
            kind: *kind,
            documentation,
            setting: Setting::Fixed(*read),
        });
    let others = [
        BrokerKey {
            name: "advertised.listeners",
            kind: ConfigType::String,
            documentation: "Where clients are told to connect.",
            setting: Setting::AdvertisedListeners,
        },
        BrokerKey {
            name: PRODUCER_ID_EXPIRATION,
            kind: ConfigType::Int,
            documentation: "When a silent producer id is forgotten.",
            setting: Setting::ProducerIdExpiration,
        },
        BrokerKey {
            name: SCRUB_REQUESTED,
            kind: ConfigType::Long,
            documentation: "Everything stored is read and checked once more, unless that began at \
                            this time, in milliseconds since 1970, or later.",
            setting: Setting::ScrubRequested,
        },
    ];
    let mut keys: Vec<BrokerKey> = defaults.chain(unclean).chain(fixed).chain(others).collect();
    keys.sort_by_key(|key| key.name);
    keys
});

/// The file's values where nobody wrote one.
static BUILT_IN: LazyLock<NodeConfig> = LazyLock::new(|| {
    NodeConfig::load(None, [], &[]).expect("the shipped defaults are a valid configuration")
});

/// The key with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static BrokerKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// The broker key that is the default of a topic key, where Kafka has one.
#[must_use]
pub fn key_of_default(topic_key: &str) -> Option<&'static BrokerKey> {
    KEYS.iter()
        .find(|key| matches!(key.setting, Setting::TopicDefault(of) if of == topic_key))
}

/// Why a broker key cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerConfigError {
    #[error("unknown broker configuration {0}")]
    Unknown(String),
    #[error("cannot update {0} dynamically: it comes from the configuration file, with a restart")]
    Fixed(&'static str),
    #[error("cannot update {0} dynamically; set {1}, which can be changed at run time")]
    Coarser(&'static str, &'static str),
    #[error("{0}")]
    Value(TopicConfigError),
}

impl BrokerKey {
    /// Whether it can be changed while the node runs.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        match self.setting {
            Setting::TopicDefault(_) | Setting::ProducerIdExpiration | Setting::ScrubRequested => {
                true
            }
            Setting::Fixed(_) | Setting::AdvertisedListeners => false,
        }
    }

    /// Whether a changeable key accepts a value.
    ///
    /// # Errors
    /// The key's name, the value and what is allowed.
    pub fn check(&self, value: &str) -> Result<(), BrokerConfigError> {
        match self.setting {
            Setting::TopicDefault(of) => match topic::find(of) {
                Some(of) => of.check(self.name, value).map_err(BrokerConfigError::Value),
                None => Err(BrokerConfigError::Unknown(self.name.to_string())),
            },
            Setting::ProducerIdExpiration => match value.parse::<i32>() {
                Ok(1..) => Ok(()),
                _ => Err(BrokerConfigError::Value(TopicConfigError(format!(
                    "{} is {value:?}; allowed is 1 to {}",
                    self.name,
                    i32::MAX
                )))),
            },
            Setting::ScrubRequested => match value.parse::<i64>() {
                Ok(0..) => Ok(()),
                _ => Err(BrokerConfigError::Value(TopicConfigError(format!(
                    "{} is {value:?}; allowed is 0 to {}",
                    self.name,
                    i64::MAX
                )))),
            },
            Setting::Fixed(_) | Setting::AdvertisedListeners => {
                Err(BrokerConfigError::Fixed(self.name))
            }
        }
    }

    /// What the node started with: the file's value, and the built-in one.
    #[must_use]
    pub fn at_start(&self, node: &NodeConfig, file_defaults: &TopicConfig) -> (String, String) {
        match self.setting {
            Setting::TopicDefault(of) => match topic::find(of) {
                Some(of) => (file_defaults.value(of), of.default.to_string()),
                None => (String::new(), String::new()),
            },
            Setting::ProducerIdExpiration => (
                node.producer_id_expiration_ms.to_string(),
                BUILT_IN.producer_id_expiration_ms.to_string(),
            ),
            Setting::ScrubRequested => ("0".to_string(), "0".to_string()),
            Setting::Fixed(read) => (read(node), read(&BUILT_IN)),
            Setting::AdvertisedListeners => (node.advertised.clone(), BUILT_IN.advertised.clone()),
        }
    }
}

/// A key that may be changed while the node runs.
///
/// # Errors
/// An unknown key, or one of the configuration file.
pub fn find_dynamic(name: &str) -> Result<&'static BrokerKey, BrokerConfigError> {
    if let Some((coarser, finer)) = COARSER.iter().find(|(coarser, _)| *coarser == name) {
        return Err(BrokerConfigError::Coarser(coarser, finer));
    }
    let key = find(name).ok_or_else(|| BrokerConfigError::Unknown(name.to_string()))?;
    match key.is_dynamic() {
        true => Ok(key),
        false => Err(BrokerConfigError::Fixed(key.name)),
    }
}

/// Whose brokers a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// All brokers of the cluster.
    Cluster,
    /// One, by its node id.
    Node(i32),
}

/// Key and value pairs, in key order.
pub type Pairs = Vec<(String, String)>;

/// Everything that was changed at run time.
#[derive(Clone, Debug, Default)]
pub struct DynamicConfig {
    layers: BTreeMap<Layer, Pairs>,
}

impl DynamicConfig {
    /// Replaces a layer.
    pub fn put(&mut self, layer: Layer, pairs: &[(String, String)]) {
        if pairs.is_empty() {
            self.layers.remove(&layer);
        } else {
            self.layers.insert(layer, pairs.to_vec());
        }
    }

    /// What a layer holds.
    #[must_use]
    pub fn layer(&self, layer: Layer) -> &[(String, String)] {
        self.layers.get(&layer).map_or(&[], |pairs| pairs)
    }

    /// All layers that hold something.
    pub fn layers(&self) -> impl Iterator<Item = (Layer, &[(String, String)])> {
        self.layers
            .iter()
            .map(|(layer, pairs)| (*layer, &pairs[..]))
    }

    /// A layer's value of a key.
    #[must_use]
    pub fn value(&self, layer: Layer, name: &str) -> Option<&str> {
        let mut pairs = self.layer(layer).iter();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }

    /// Topic defaults of a node: the file's with the layers over them. A key that a later version
    /// no longer knows, or narrows, falls back rather than keeping the node down.
    #[must_use]
    pub fn topic_defaults(&self, file_defaults: &TopicConfig, node_id: i32) -> TopicConfig {
        let mut config = file_defaults.clone();
        for layer in [Layer::Cluster, Layer::Node(node_id)] {
            for (name, value) in self.layer(layer) {
                let Some(Setting::TopicDefault(of)) = find(name).map(|key| key.setting) else {
                    continue;
                };
                if let Err(error) = config.set(of, value) {
                    tracing::warn!(%error, "broker configuration change ignored");
                }
            }
        }
        config
    }

    /// `producer.id.expiration.ms`, where it was changed.
    #[must_use]
    pub fn producer_id_expiration_ms(&self, node_id: i32) -> Option<i64> {
        let own = self.value(Layer::Node(node_id), PRODUCER_ID_EXPIRATION);
        let text = own.or_else(|| self.value(Layer::Cluster, PRODUCER_ID_EXPIRATION))?;
        text.parse().ok()
    }

    /// When somebody last asked for a scrub, of this node or of all; 0 when nobody has.
    #[must_use]
    pub fn scrub_requested_ms(&self, node_id: i32) -> i64 {
        let layers = [Layer::Cluster, Layer::Node(node_id)];
        let texts = layers.map(|layer| self.value(layer, SCRUB_REQUESTED));
        let times = texts.into_iter().flatten();
        let times = times.filter_map(|text| text.parse().ok());
        times.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_row_became_a_key_and_every_default_passes_its_rule() {
        assert_eq!(KEYS.len(), TOPIC_DEFAULTS.len() + FIXED.len() + 4);
        for key in KEYS.iter().filter(|key| key.is_dynamic()) {
            let (_, built_in) = key.at_start(&BUILT_IN, &TopicConfig::default());
            key.check(&built_in)
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let doubled = KEYS.windows(2).find(|two| two[0].name >= two[1].name);
        assert!(doubled.is_none(), "{doubled:?}");
    }

    #[test]
    fn a_nodes_own_layer_wins_over_the_clusters_and_both_over_the_file() {
        let mut dynamic = DynamicConfig::default();
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let mut file = TopicConfig::default();
        file.set("retention.bytes", "77").expect("allowed");
        let cluster = [
            pair("log.retention.ms", "5"),
            pair("log.retention.bytes", "6"),
        ];
        dynamic.put(Layer::Cluster, &cluster);
        dynamic.put(Layer::Node(1), &[pair("log.retention.ms", "7")]);
        dynamic.put(Layer::Node(2), &[pair("log.retention.ms", "8")]);
        let of = |dynamic: &DynamicConfig, node_id| {
            let config = dynamic.topic_defaults(&file, node_id);
            (config.retention_ms, config.retention_bytes)
        };
        assert_eq!(of(&dynamic, 1), (7, 6));
        assert_eq!(of(&dynamic, 3), (5, 6));
        dynamic.put(Layer::Cluster, &[]);
        assert_eq!(of(&dynamic, 1), (7, 77));
    }

    #[test]
    fn refusals_say_why_a_key_cannot_be_changed() {
        let refused = |name: &str| find_dynamic(name).expect_err("refused").to_string();
        assert!(refused("num.partitions").starts_with("cannot update num.partitions dynamically"));
        assert!(refused("log.retention.hours").contains("log.retention.ms"));
        assert_eq!(refused("x"), "unknown broker configuration x");
        let key = find_dynamic("log.segment.bytes").expect("dynamic");
        let error = key.check("12").expect_err("too small").to_string();
        assert!(
            error.starts_with("log.segment.bytes is \"12\"; allowed is"),
            "{error}"
        );
    }
}
