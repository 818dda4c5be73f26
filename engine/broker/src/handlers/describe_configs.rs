//! DescribeConfigs (key 32): every key with value, source, type, synonyms and documentation
//! (KIP-133, KIP-226, KIP-569). Always complete: old clients write back what they read here.

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use highwater_wire::{Array, DecodeError};

use super::alter_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use super::{Request, as_code};
use crate::config::topic::{self, ConfigType};
use crate::message::Message;
use crate::shard::Shard;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// One configuration value, owned until the answer is encoded.
#[derive(Debug)]
struct Entry {
    name: String,
    value: String,
    source: i8,
    kind: ConfigType,
    documentation: &'static str,
    read_only: bool,
    /// Values it would fall back to, nearest first: name, value, source.
    synonyms: Vec<(String, String, i8)>,
}

/// What is known of one resource.
#[derive(Debug)]
struct Resource {
    error: ErrorCode,
    message: Option<String>,
    entries: Vec<Entry>,
}

impl Shard {
    pub(crate) fn handle_describe_configs(
        &mut self,
        request: &Request,
        body: &[u8],
        out: &mut Outbox<Message>,
    ) -> Result<(), DecodeError> {
        let decoded = DescribeConfigsRequest::parse(request.version, body)?;
        let resources: Vec<Resource> = decoded
            .resources
            .iter()
            .map(|asked| {
                let mut found = match asked.resource_type {
                    RESOURCE_TOPIC => self.topic_entries(asked.resource_name),
                    RESOURCE_BROKER => self.broker_entries(asked.resource_name),
                    other => Resource::refused(format!(
                        "resource type {other}; allowed are 2 (topic) and 4 (broker)"
                    )),
                };
                if let Some(keys) = asked.configuration_keys {
                    found
                        .entries
                        .retain(|entry| keys.iter().any(|key| key == entry.name));
                }
                found
            })
            .collect();
        let synonyms: Vec<Vec<Vec<DescribeConfigsSynonym<'_>>>> = resources
            .iter()
            .map(|r| r.entries.iter().map(Entry::synonyms).collect())
            .collect();
        let configs: Vec<Vec<DescribeConfigsResourceResult<'_>>> = resources
            .iter()
            .zip(&synonyms)
            .map(|(resource, synonyms)| {
                let rows = resource.entries.iter().zip(synonyms);
                rows.map(|(entry, synonyms)| {
                    entry.row(
                        synonyms,
                        decoded.include_synonyms,
                        decoded.include_documentation,
                    )
                })
                .collect()
            })
            .collect();
        let results: Vec<DescribeConfigsResult<'_>> = decoded
            .resources
            .iter()
            .zip(&resources)
            .zip(&configs)
            .map(|((asked, resource), configs)| DescribeConfigsResult {
                error_code: as_code(resource.error),
                error_message: resource.message.as_deref(),
                resource_type: asked.resource_type,
                resource_name: asked.resource_name,
                configs: Array::from(configs),
                ..Default::default()
            })
            .collect();
        let response = DescribeConfigsResponse {
            results: Array::from(&results),
            ..Default::default()
        };
        self.respond(request, out, |version, bytes| {
            response.encode(version, bytes)
        });
        Ok(())
    }

    fn topic_entries(&self, name: &str) -> Resource {
        let Some(topic) = self.image.topic_by_name(name) else {
            return Resource {
                error: ErrorCode::UnknownTopicOrPartition,
                message: Some(format!("topic '{name}' does not exist")),
                entries: Vec::new(),
            };
        };
        let entries = topic::KEYS
            .iter()
            .map(|key| {
                let overridden = topic.overrides.iter().any(|(name, _)| name == key.name);
                let (mut source, mut synonyms) = (SOURCE_DEFAULT, Vec::new());
                if overridden {
                    source = SOURCE_TOPIC;
                    synonyms.push((key.name.to_string(), topic.config.value(key), SOURCE_TOPIC));
                }
                let node_default = self.image.defaults().value(key);
                if node_default != key.default {
                    if !overridden {
                        source = SOURCE_STATIC_BROKER;
                    }
                    let name = format!("topic.{}", key.name);
                    synonyms.push((name, node_default, SOURCE_STATIC_BROKER));
                }
                synonyms.push((
                    key.name.to_string(),
                    key.default.to_string(),
                    SOURCE_DEFAULT,
                ));
                Entry {
                    name: key.name.to_string(),
                    value: topic.config.value(key),
                    source,
                    kind: key.kind,
                    documentation: key.documentation,
                    read_only: false,
                    synonyms,
                }
            })
            .collect();
        Resource {
            error: ErrorCode::None,
            message: None,
            entries,
        }
    }

    fn broker_entries(&self, name: &str) -> Resource {
        let known = self
            .node
            .brokers()
            .iter()
            .any(|broker| broker.id.to_string() == name);
        if !known {
            return Resource::refused(format!("there is no broker {name:?}"));
        }
        let config = &self.node.config;
        let (host, port) = &self.node.advertised;
        let rows: [(&str, String, ConfigType, &str); 14] = [
            (
                "advertised.listeners",
                format!("PLAINTEXT://{host}:{port}"),
                ConfigType::String,
                "Where clients are told to connect.",
            ),
            (
                "auto.create.topics.enable",
                config.auto_create_topics.to_string(),
                ConfigType::Boolean,
                "Whether asking for a topic creates it.",
            ),
            (
                "broker.id",
                config.node_id.to_string(),
                ConfigType::Int,
                "This node's id.",
            ),
            (
                "default.replication.factor",
                "1".to_string(),
                ConfigType::Int,
                "Replicas of a new topic.",
            ),
            (
                "delete.topic.enable",
                "true".to_string(),
                ConfigType::Boolean,
                "Whether topics can be deleted.",
            ),
            (
                "fetch.max.bytes",
                config.fetch_bytes_max.to_string(),
                ConfigType::Int,
                "Largest answer to one fetch request.",
            ),
            (
                "log.dirs",
                config.data_dir.display().to_string(),
                ConfigType::String,
                "The data directory.",
            ),
            (
                "log.retention.ms",
                config
                    .topic
                    .get("retention.ms")
                    .cloned()
                    .unwrap_or_default(),
                ConfigType::Long,
                "How long topics keep records unless they say otherwise.",
            ),
            (
                "log.segment.bytes",
                config
                    .topic
                    .get("segment.bytes")
                    .cloned()
                    .unwrap_or_default(),
                ConfigType::Int,
                "Segment size of topics unless they say otherwise.",
            ),
            (
                "message.max.bytes",
                config
                    .topic
                    .get("max.message.bytes")
                    .cloned()
                    .unwrap_or_default(),
                ConfigType::Int,
                "Largest record batch of topics unless they say otherwise.",
            ),
            (
                "node.id",
                config.node_id.to_string(),
                ConfigType::Int,
                "This node's id.",
            ),
            (
                "num.partitions",
                config.num_partitions.to_string(),
                ConfigType::Int,
                "Partitions of a new topic.",
            ),
            (
                "producer.id.expiration.ms",
                config.producer_id_expiration_ms.to_string(),
                ConfigType::Int,
                "When a silent producer id is forgotten.",
            ),
            (
                "socket.request.max.bytes",
                config.frame_bytes_max.to_string(),
                ConfigType::Int,
                "Largest request.",
            ),
        ];
        let entries = rows
            .into_iter()
            .map(|(name, value, kind, documentation)| Entry {
                name: name.to_string(),
                synonyms: vec![(name.to_string(), value.clone(), SOURCE_STATIC_BROKER)],
                value,
                source: SOURCE_STATIC_BROKER,
                kind,
                documentation,
                read_only: true,
            })
            .collect();
        Resource {
            error: ErrorCode::None,
            message: None,
            entries,
        }
    }
}

impl Resource {
    fn refused(message: String) -> Resource {
        Resource {
            error: ErrorCode::InvalidRequest,
            message: Some(message),
            entries: Vec::new(),
        }
    }
}

impl Entry {
    fn synonyms(&self) -> Vec<DescribeConfigsSynonym<'_>> {
        self.synonyms
            .iter()
            .map(|(name, value, source)| DescribeConfigsSynonym {
                name,
                value: Some(value),
                source: *source,
            })
            .collect()
    }

    fn row<'a>(
        &'a self,
        synonyms: &'a Vec<DescribeConfigsSynonym<'a>>,
        include_synonyms: bool,
        include_documentation: bool,
    ) -> DescribeConfigsResourceResult<'a> {
        DescribeConfigsResourceResult {
            name: &self.name,
            value: Some(&self.value),
            read_only: self.read_only,
            config_source: self.source,
            is_sensitive: false,
            synonyms: if include_synonyms {
                Array::from(synonyms)
            } else {
                Array::default()
            },
            config_type: self.kind as i8,
            documentation: include_documentation.then_some(self.documentation),
            ..Default::default()
        }
    }
}
