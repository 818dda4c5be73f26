//! Decides on topic configurations: the overrides a change leaves a topic with.

use std::collections::BTreeSet;

use highwater_base::ErrorCode;

use super::{
    ChangeError, ConfigChange, ConfigOperation, check_not_internal, known_topic, refuse, repeated,
};
use crate::config::topic::{ConfigType, find};
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

pub(super) fn configure(
    change: &ConfigChange,
    image: &Image,
) -> Result<MetadataRecord, ChangeError> {
    let topic = known_topic(&change.topic, image)?;
    check_not_internal(&topic.name)?;
    let keys = change.operations.iter().map(|(name, ..)| name.as_str());
    if let Some(name) = repeated(keys).first() {
        let message = format!("{name} is given more than once for topic {}", topic.name);
        return refuse(ErrorCode::InvalidRequest, message);
    }
    let mut overrides = if change.replace {
        Vec::new()
    } else {
        topic.overrides.clone()
    };
    for (name, operation, value) in &change.operations {
        let known = find(name);
        let Some(known) = known else {
            let message = format!("unknown topic configuration {name}");
            return refuse(ErrorCode::InvalidConfig, message);
        };
        let is_list = known.kind == ConfigType::List;
        let current = overrides
            .iter()
            .find(|(key, _)| key == name)
            .map_or_else(|| known.default.to_string(), |(_, value)| value.clone());
        let wanted = match (operation, value) {
            (ConfigOperation::Delete, _) => None,
            (ConfigOperation::Set, None) => {
                let message = format!("{name} is null; delete it to have the default");
                return refuse(ErrorCode::InvalidRequest, message);
            }
            (ConfigOperation::Set, Some(value)) => Some(value.clone()),
            (ConfigOperation::Unknown(number), _) => {
                return refuse(
                    ErrorCode::InvalidRequest,
                    format!(
                        "operation {number} on {name}; allowed are 0 set, 1 delete, 2 append, \
                         3 subtract"
                    ),
                );
            }
            (_, _) if !is_list => {
                return refuse(
                    ErrorCode::InvalidRequest,
                    format!("{name} is not a list; append and subtract are for lists"),
                );
            }
            (ConfigOperation::Append, value) => Some(list_with(&current, value.as_deref(), true)),
            (ConfigOperation::Subtract, value) => {
                Some(list_with(&current, value.as_deref(), false))
            }
        };
        overrides.retain(|(key, _)| key != name);
        if let Some(wanted) = wanted {
            overrides.push((name.clone(), wanted));
        }
    }
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
