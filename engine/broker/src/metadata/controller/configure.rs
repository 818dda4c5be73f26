//! Decides on configurations: the overrides a change leaves a topic with, and what it changes of
//! a running broker.

use std::collections::BTreeSet;

use highwater_base::ErrorCode;

use super::{
    ChangeError, ChangeOutcome, Changed, ConfigChange, ConfigOperation, ConfigTarget,
    check_not_internal, known_topic, refuse, repeated,
};
use crate::config::broker::{self, BrokerConfigError, Layer, Setting};
use crate::config::topic::{self, ConfigType};
use crate::metadata::image::Image;
use crate::metadata::record::MetadataRecord;

pub(super) fn check_configs(
    configs: &[(String, Option<String>)],
    image: &Image,
) -> Result<Vec<(String, String)>, ChangeError> {
    let mut parsed = image.defaults().clone();
    let mut overrides: Vec<(String, String)> = Vec::new();
    for (name, value) in configs {
        let Some(value) = value else {
            let message = format!("{name} is null; leave it out to have the default");
            return refuse(ErrorCode::InvalidConfig, message);
        };
        if let Err(error) = parsed.set(name, value) {
            return refuse(ErrorCode::InvalidConfig, error.to_string());
        }
        overrides.retain(|(known, _)| known != name);
        overrides.push((name.clone(), value.trim().to_string()));
    }
    overrides.sort();
    Ok(overrides)
}

/// Decides on the changes of one request. Each entry succeeds or fails by itself.
pub(super) fn configure_all(
    changes: &[ConfigChange],
    image: &Image,
    broker_ids: &[i32],
    records: &mut Vec<MetadataRecord>,
) -> ChangeOutcome {
    let keys: Vec<(u8, &str)> = changes
        .iter()
        .map(|change| target_key(&change.target))
        .collect();
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> = keys.iter().filter(|key| !seen.insert(**key)).collect();
    changes
        .iter()
        .zip(&keys)
        .map(|(change, key)| {
            if repeated.contains(key) {
                let message = format!(
                    "{} is named more than once in the request",
                    spoken(&change.target)
                );
                return refuse(ErrorCode::InvalidRequest, message);
            }
            records.push(match &change.target {
                ConfigTarget::Topic(name) => configure_topic(name, change, image)?,
                ConfigTarget::Broker(name) => configure_broker(name, change, image, broker_ids)?,
            });
            Ok(Changed::Done)
        })
        .collect()
}

/// What makes two targets the same: all ids that a node shows are that node.
fn target_key(target: &ConfigTarget) -> (u8, &str) {
    match target {
        ConfigTarget::Topic(name) => (0, name),
        ConfigTarget::Broker(name) if name.is_empty() => (1, ""),
        ConfigTarget::Broker(_) => (2, ""),
    }
}

fn spoken(target: &ConfigTarget) -> String {
    match target {
        ConfigTarget::Topic(name) => format!("topic {name}"),
        ConfigTarget::Broker(name) if name.is_empty() => "the default of all brokers".to_string(),
        ConfigTarget::Broker(name) => format!("broker {name}"),
    }
}

fn configure_topic(
    name: &str,
    change: &ConfigChange,
    image: &Image,
) -> Result<MetadataRecord, ChangeError> {
    let topic = known_topic(name, image)?;
    check_not_internal(&topic.name)?;
    let overrides = fold_operations(change, &topic.overrides, |name| match topic::find(name) {
        Some(known) => Ok((known.kind, known.default.to_string())),
        None => {
            let message = format!("unknown topic configuration {name}");
            refuse(ErrorCode::InvalidConfig, message)
        }
    })?;
    let pairs: Vec<(String, Option<String>)> = overrides
        .into_iter()
        .map(|(key, value)| (key, Some(value)))
        .collect();
    let config = check_configs(&pairs, image)?;
    Ok(MetadataRecord::TopicConfig {
        topic_id: topic.id.0,
        config,
    })
}

fn configure_broker(
    name: &str,
    change: &ConfigChange,
    image: &Image,
    broker_ids: &[i32],
) -> Result<MetadataRecord, ChangeError> {
    let layer = if name.is_empty() {
        Layer::Cluster
    } else if broker_ids.iter().any(|id| id.to_string() == name) {
        image.own_layer()
    } else {
        let message = format!("unexpected broker id {name:?}; expected is one of {broker_ids:?}");
        return refuse(ErrorCode::InvalidRequest, message);
    };
    let current = image.dynamic().layer(layer);
    let folded = fold_operations(change, current, |name| {
        let key = broker::find_dynamic(name).or_else(|error| {
            let code = match error {
                BrokerConfigError::Fixed(_) | BrokerConfigError::Coarser(..) => {
                    ErrorCode::InvalidRequest
                }
                _ => ErrorCode::InvalidConfig,
            };
            refuse(code, error.to_string())
        })?;
        let in_force = match key.setting {
            Setting::TopicDefault(of) => topic::find(of).map(|of| image.defaults().value(of)),
            _ => None,
        };
        Ok((key.kind, in_force.unwrap_or_default()))
    })?;
    let mut config: Vec<(String, String)> = Vec::with_capacity(folded.len());
    for (name, value) in folded {
        let value = value.trim();
        // What is in force was checked when it came; only what changes is looked at.
        let is_kept = current
            .iter()
            .any(|(key, old)| *key == name && old == value);
        if !is_kept && let Err(error) = broker::find_dynamic(&name).and_then(|key| key.check(value))
        {
            // Kafka's own code for a broker's value; for a topic's it is INVALID_CONFIG.
            return refuse(ErrorCode::InvalidRequest, error.to_string());
        }
        config.push((name, value.to_string()));
    }
    config.sort();
    Ok(MetadataRecord::BrokerConfig {
        node_id: match layer {
            Layer::Cluster => None,
            Layer::Node(node_id) => Some(node_id),
        },
        config,
    })
}

/// What the operations leave of `current`. `known` gives a key's type and the list that appending
/// starts from, or refuses the key.
fn fold_operations(
    change: &ConfigChange,
    current: &[(String, String)],
    known: impl Fn(&str) -> Result<(ConfigType, String), ChangeError>,
) -> Result<Vec<(String, String)>, ChangeError> {
    let keys = change.operations.iter().map(|(name, ..)| name.as_str());
    if let Some(name) = repeated(keys).first() {
        let target = spoken(&change.target);
        let message = format!("{name} is given more than once for {target}");
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let mut values = if change.replace {
        Vec::new()
    } else {
        current.to_vec()
    };
    for (name, operation, value) in &change.operations {
        let (kind, default) = known(name)?;
        let found = values.iter().find(|(key, _)| key == name);
        let list = found.map_or(default, |(_, value)| value.clone());
        let wanted = operated(name, *operation, value.as_deref(), kind, &list)?;
        values.retain(|(key, _)| key != name);
        if let Some(wanted) = wanted {
            values.push((name.clone(), wanted));
        }
    }
    Ok(values)
}

/// The value that one operation leaves a key with, or none.
fn operated(
    name: &str,
    operation: ConfigOperation,
    value: Option<&str>,
    kind: ConfigType,
    current: &str,
) -> Result<Option<String>, ChangeError> {
    match (operation, value) {
        (ConfigOperation::Delete, _) => Ok(None),
        (ConfigOperation::Set, None) => refuse(
            ErrorCode::InvalidRequest,
            format!("{name} is null; delete it to have the default"),
        ),
        (ConfigOperation::Set, Some(value)) => Ok(Some(value.to_string())),
        (ConfigOperation::Unknown(number), _) => refuse(
            ErrorCode::InvalidRequest,
            format!(
                "operation {number} on {name}; allowed are 0 set, 1 delete, 2 append, 3 subtract"
            ),
        ),
        (_, _) if kind != ConfigType::List => refuse(
            ErrorCode::InvalidRequest,
            format!("{name} is not a list; append and subtract are for lists"),
        ),
        (ConfigOperation::Append, value) => Ok(Some(list_with(current, value, true))),
        (ConfigOperation::Subtract, value) => Ok(Some(list_with(current, value, false))),
    }
}

/// A comma-separated list with the entries added that it lacks, or with entries taken away.
fn list_with(current: &str, entries: Option<&str>, add: bool) -> String {
    let entries = entries.unwrap_or("");
    if add {
        let mut seen = BTreeSet::new();
        let both = list_entries(current).chain(list_entries(entries));
        let list: Vec<&str> = both.filter(|entry| seen.insert(*entry)).collect();
        return list.join(",");
    }
    let gone: BTreeSet<&str> = list_entries(entries).collect();
    let list: Vec<&str> = list_entries(current)
        .filter(|entry| !gone.contains(entry))
        .collect();
    list.join(",")
}

fn list_entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}
