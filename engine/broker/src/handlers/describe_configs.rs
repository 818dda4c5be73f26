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
use super::list_config_resources::RESOURCE_BROKER_LOGGER;
use super::{Request, as_code};
use crate::answer_text::shortened;
use crate::config::broker::{self, BrokerKey, Layer, Setting};
use crate::config::topic::{self, ConfigKey, ConfigType};
use crate::message::Message;
use crate::shard::Shard;

/// Resources described in one answer; some kilobytes each.
const RESOURCES_PER_ANSWER_MAX: usize = 10_000;

/// Source number of a topic's own value.
pub(super) const SOURCE_TOPIC: i8 = 1;
const SOURCE_DYNAMIC_BROKER: i8 = 2;
const SOURCE_DYNAMIC_DEFAULT: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_DYNAMIC_LOGGER: i8 = 6;

/// One configuration value, owned until the answer is encoded.
#[derive(Debug)]
struct Entry {
    name: String,
    value: String,
    source: i8,
    kind: ConfigType,
    documentation: &'static str,
    read_only: bool,
    /// Its value and those it would fall back to, nearest first: name, value, source.
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
            RESOURCE_TOPIC | RESOURCE_BROKER | RESOURCE_BROKER_LOGGER if room == 0 => {
                let message = format!(
                    "one answer holds the configurations of {RESOURCES_PER_ANSWER_MAX} resources; \
                     ask for the others in a further request"
                );
                Resource::refused(ErrorCode::InvalidRequest, message)
            }
            RESOURCE_TOPIC => self.topic_entries(asked.name),
            RESOURCE_BROKER if asked.name.is_empty() => self.cluster_entries(),
            RESOURCE_BROKER => self.broker_entries(asked.name),
            RESOURCE_BROKER_LOGGER => self.logger_entries(asked.name),
            other => {
                let message = format!(
                    "resource type {other}; allowed are 2 (topic), 4 (broker) and 8 (broker logger)"
                );
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
        let entries = topic::KEYS.iter().map(|key| {
            let mut chain = Vec::new();
            if topic.overrides.iter().any(|(name, _)| name == key.name) {
                chain.push((key.name.to_string(), topic.config.value(key), SOURCE_TOPIC));
            }
            chain.extend(self.default_chain(key));
            Entry {
                name: key.name.to_string(),
                // The topic of offsets has values of its own, whatever its overrides are.
                value: topic.config.value(key),
                source: source_of(&chain),
                kind: key.kind,
                documentation: key.documentation,
                read_only: false,
                synonyms: chain,
            }
        });
        Resource::described(entries.collect())
    }

    /// Where a topic key's value comes from when the topic has none of its own, nearest first.
    fn default_chain(&self, key: &ConfigKey) -> Vec<(String, String, i8)> {
        match broker::key_of_default(key.name) {
            Some(default) => self.broker_chain(default),
            None => {
                let value = self.image.file_defaults().value(key);
                file_chain(key.name, (value, key.default.to_string()))
            }
        }
    }

    /// Source number of the value that a topic without one of its own has.
    pub(super) fn default_source(&self, key: &ConfigKey) -> i8 {
        source_of(&self.default_chain(key))
    }

    /// Where a broker key's value comes from, nearest first.
    fn broker_chain(&self, key: &BrokerKey) -> Vec<(String, String, i8)> {
        let dynamic = self.image.dynamic();
        let layers = [
            (self.image.own_layer(), SOURCE_DYNAMIC_BROKER),
            (Layer::Cluster, SOURCE_DYNAMIC_DEFAULT),
        ];
        let mut chain = Vec::new();
        for (layer, source) in layers {
            if let Some(value) = dynamic.value(layer, key.name) {
                chain.push((key.name.to_string(), value.to_string(), source));
            }
        }
        let at_start = match key.setting {
            Setting::AdvertisedListeners => {
                let (host, port) = &self.node.advertised;
                (format!("PLAINTEXT://{host}:{port}"), String::new())
            }
            _ => key.at_start(&self.node.config, self.image.file_defaults()),
        };
        chain.extend(file_chain(key.name, at_start));
        chain
    }

    fn broker_entries(&self, name: &str) -> Resource {
        if let Some(refused) = self.refuse_stranger(name) {
            return refused;
        }
        let entries = broker::KEYS
            .iter()
            .map(|key| Entry::of_broker(key, self.broker_chain(key)));
        Resource::described(entries.collect())
    }

    /// No name means what was changed at run time for all brokers of the cluster.
    fn cluster_entries(&self) -> Resource {
        let changed = self.image.dynamic().layer(Layer::Cluster).iter();
        let entries = changed.filter_map(|(name, value)| {
            let key = broker::find(name)?;
            let chain = vec![(name.clone(), value.clone(), SOURCE_DYNAMIC_DEFAULT)];
            Some(Entry::of_broker(key, chain))
        });
        Resource::described(entries.collect())
    }

    /// The log levels that the configuration file gives: one for everything, others by module.
    fn logger_entries(&self, name: &str) -> Resource {
        if let Some(refused) = self.refuse_stranger(name) {
            return refused;
        }
        let directives = self.node.config.log_level.split(',').map(str::trim);
        let entries = directives.filter(|text| !text.is_empty()).map(|text| {
            let (logger, level) = text.rsplit_once('=').unwrap_or(("root", text));
            Entry {
                name: logger.to_string(),
                value: level.to_ascii_uppercase(),
                source: SOURCE_DYNAMIC_LOGGER,
                kind: ConfigType::String,
                documentation: "",
                read_only: true,
                synonyms: Vec::new(),
            }
        });
        Resource::described(entries.collect())
    }

    /// The answer about a broker that is not this node.
    fn refuse_stranger(&self, name: &str) -> Option<Resource> {
        let brokers = self.node.brokers();
        if brokers.iter().any(|broker| broker.id.to_string() == name) {
            return None;
        }
        let message = format!("there is no broker {name:?}");
        Some(Resource::refused(ErrorCode::InvalidRequest, message))
    }
}

/// Where the value in force comes from: the nearest of a chain.
fn source_of(chain: &[(String, String, i8)]) -> i8 {
    let nearest = chain.first();
    nearest.map_or(SOURCE_DEFAULT, |(_, _, source)| *source)
}

/// The file's value, where it is not the built-in one, and the built-in one.
fn file_chain(name: &str, (value, built_in): (String, String)) -> Vec<(String, String, i8)> {
    let mut chain = Vec::new();
    if value != built_in {
        chain.push((name.to_string(), value, SOURCE_STATIC_BROKER));
    }
    chain.push((name.to_string(), built_in, SOURCE_DEFAULT));
    chain
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
    /// A broker key whose value is the first of `chain`.
    fn of_broker(key: &BrokerKey, chain: Vec<(String, String, i8)>) -> Entry {
        let value = chain.first().map(|(_, value, _)| value.clone());
        Entry {
            name: key.name.to_string(),
            value: value.unwrap_or_default(),
            source: source_of(&chain),
            kind: key.kind,
            documentation: key.documentation,
            read_only: !key.is_dynamic(),
            synonyms: chain,
        }
    }

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
