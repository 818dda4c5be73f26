//! DescribeConfigs (key 32): every key with value, source, type, synonyms and documentation
//! (KIP-133, KIP-226, KIP-569). Always complete: old clients write back what they read here.

use std::collections::BTreeMap;

use highwater_base::ErrorCode;
use highwater_reactor::Outbox;
use highwater_wire::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use highwater_wire::{Array, DecodeError};

use super::alter_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use super::{Request, as_code};
use crate::answer_text::shortened;
use crate::config::topic::{self, ConfigType};
use crate::message::Message;
use crate::shard::Shard;

/// Resources described in one answer; some kilobytes each.
const RESOURCES_PER_ANSWER_MAX: usize = 10_000;

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

/// A resource asked about, with the key lists of every place that names it.
#[derive(Debug, PartialEq)]
struct Asked<'a> {
    resource_type: i8,
    name: &'a str,
    keys: Keys<'a>,
}

/// Which keys are wanted.
#[derive(Debug, PartialEq)]
enum Keys<'a> {
    All,
    Listed(Vec<Array<'a, &'a str>>),
}

/// Puts together what is asked of each resource: a small request repeating one would multiply the
/// answer.
fn distinct<'a>(resources: impl Iterator<Item = DescribeConfigsResource<'a>>) -> Vec<Asked<'a>> {
    let mut places: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    let mut distinct: Vec<Asked<'a>> = Vec::new();
    for resource in resources {
        let (resource_type, name) = (resource.resource_type, resource.resource_name);
        let place = *places
            .entry((resource_type, name))
            .or_insert(distinct.len());
        if place == distinct.len() {
            distinct.push(Asked {
                resource_type,
                name,
                keys: Keys::Listed(Vec::new()),
            });
        }
        let asked = &mut distinct[place];
        // An empty list means all, as none does.
        match resource.configuration_keys.filter(|keys| !keys.is_empty()) {
            None => asked.keys = Keys::All,
            Some(more) => {
                if let Keys::Listed(lists) = &mut asked.keys {
                    lists.push(more);
                }
            }
        }
    }
    distinct
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
        let asked = distinct(decoded.resources.iter());
        let mut room = RESOURCES_PER_ANSWER_MAX;
        let resources: Vec<Resource> = asked
            .iter()
            .map(|asked| {
                let found = self.describe(asked, room);
                room -= usize::from(!found.entries.is_empty());
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
        let results: Vec<DescribeConfigsResult<'_>> = asked
            .iter()
            .zip(&resources)
            .zip(&configs)
            .map(|((asked, resource), configs)| DescribeConfigsResult {
                error_code: as_code(resource.error),
                error_message: resource.message.as_deref(),
                resource_type: asked.resource_type,
                resource_name: asked.name,
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

    /// What is known of one resource; `room` is how many more fit the answer.
    fn describe(&self, asked: &Asked<'_>, room: usize) -> Resource {
        let mut found = match asked.resource_type {
            RESOURCE_TOPIC | RESOURCE_BROKER if room == 0 => {
                let message = format!(
                    "one answer holds the configurations of {RESOURCES_PER_ANSWER_MAX} resources; \
                     ask for the others in a further request"
                );
                Resource::refused(ErrorCode::InvalidRequest, message)
            }
            RESOURCE_TOPIC => self.topic_entries(asked.name),
            // No name means settings of the whole cluster changed at run time; there are none.
            RESOURCE_BROKER if asked.name.is_empty() => Resource::described(Vec::new()),
            RESOURCE_BROKER => self.broker_entries(asked.name),
            other => {
                let message =
                    format!("resource type {other}; allowed are 2 (topic) and 4 (broker)");
                Resource::refused(ErrorCode::InvalidRequest, message)
            }
        };
        found.keep(&asked.keys);
        found
    }

    fn topic_entries(&self, name: &str) -> Resource {
        let Some(topic) = self.image.topic_by_name(name) else {
            let message = format!("topic '{name}' does not exist");
            return Resource::refused(ErrorCode::UnknownTopicOrPartition, message);
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
        Resource::described(entries)
    }

    fn broker_entries(&self, name: &str) -> Resource {
        let known = self
            .node
            .brokers()
            .iter()
            .any(|broker| broker.id.to_string() == name);
        if !known {
            let message = format!("there is no broker {name:?}");
            return Resource::refused(ErrorCode::InvalidRequest, message);
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
        Resource::described(entries)
    }
}

impl Resource {
    fn described(entries: Vec<Entry>) -> Resource {
        Resource {
            error: ErrorCode::None,
            message: None,
            entries,
        }
    }

    fn refused(error: ErrorCode, message: String) -> Resource {
        Resource {
            error,
            message: Some(shortened(message)),
            entries: Vec::new(),
        }
    }

    /// Drops the entries that are not wanted.
    fn keep(&mut self, keys: &Keys<'_>) {
        let Keys::Listed(lists) = keys else { return };
        let mut wanted = vec![false; self.entries.len()];
        for key in lists.iter().flat_map(Array::iter) {
            if let Some(at) = self.entries.iter().position(|entry| entry.name == key) {
                wanted[at] = true;
            }
        }
        let mut wanted = wanted.into_iter();
        self.entries.retain(|_| wanted.next().unwrap_or(false));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(name: &'a str, keys: Option<&'a [&'a str]>) -> DescribeConfigsResource<'a> {
        DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: name,
            configuration_keys: keys.map(Array::from),
        }
    }

    fn kept(keys: &Keys<'_>) -> Vec<String> {
        let entry = |key: &'static topic::ConfigKey| Entry {
            name: key.name.to_string(),
            value: key.default.to_string(),
            source: SOURCE_DEFAULT,
            kind: key.kind,
            documentation: key.documentation,
            read_only: false,
            synonyms: Vec::new(),
        };
        let mut resource = Resource::described(topic::KEYS.iter().map(entry).collect());
        resource.keep(keys);
        resource
            .entries
            .into_iter()
            .map(|entry| entry.name)
            .collect()
    }

    #[test]
    fn a_resource_named_often_is_described_once() {
        let asked = distinct(
            [
                asked("a", Some(&["segment.ms"])),
                asked("b", None),
                asked("a", Some(&["no.such.key", "retention.ms", "segment.ms"])),
                asked("b", Some(&["retention.ms"])),
            ]
            .into_iter(),
        );
        let names: Vec<&str> = asked.iter().map(|asked| asked.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(kept(&asked[0].keys), ["retention.ms", "segment.ms"]);
        assert_eq!(kept(&asked[1].keys).len(), topic::KEYS.len());
    }

    #[test]
    fn a_refusal_that_quotes_a_long_name_fits_its_answer() {
        let name = "x".repeat(32_767);
        let refused = Resource::refused(ErrorCode::InvalidRequest, format!("no broker {name}"));
        let result = DescribeConfigsResult {
            error_message: refused.message.as_deref(),
            resource_name: &name,
            ..Default::default()
        };
        let results = [result];
        let response = DescribeConfigsResponse {
            results: Array::from(&results),
            ..Default::default()
        };
        for version in 1..=4 {
            response.encode(version, &mut Vec::new()).expect("fits");
        }
    }

    #[test]
    fn an_empty_list_of_keys_means_all_keys() {
        let asked = distinct([asked("a", Some(&[]))].into_iter());
        assert_eq!(kept(&asked[0].keys).len(), topic::KEYS.len());
    }
}
