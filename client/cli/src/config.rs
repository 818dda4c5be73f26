//! `highwater config`.

use clap::{Args, Subcommand};
use highwater_client::calls::{
    AlterConfig, AlterConfigs, ConfigOperation, ConfigResource, ConfigSource, DescribeConfigs,
    Target,
};
use serde_json::json;

use crate::CommandError;
use crate::arguments::{Common, key_value};
use crate::output::{Lean, Table, print_either};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration of a topic or a broker: what was set, or everything.
    #[command(after_help = "Examples:
  highwater config describe orders          what was set for the topic
  highwater config describe orders --all    every key, its value and where that comes from
  highwater config describe --broker 1      what was set for broker 1
  highwater config describe --all-brokers   what was changed for all of them while they run")]
    Describe {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        resource: Resource,
        /// Show defaults too.
        #[arg(long)]
        all: bool,
    },
    /// Set configuration of a topic or of running brokers; the other keys stay as they are.
    #[command(after_help = "Examples:
  highwater config set orders retention.ms=86400000       records are kept for a day
  highwater config set orders retention.bytes=1073741824 compression.type=zstd
  highwater config set --broker 1 log.retention.ms=86400000   of topics that say nothing else
  highwater config set --all-brokers message.max.bytes=2097152 --validate-only")]
    Set {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        change: Change,
        /// Name of the topic, unless brokers are meant, and what to set.
        #[arg(required = true, value_name = "TOPIC | KEY=VALUE")]
        words: Vec<String>,
    },
    /// Return configuration of a topic or of running brokers to its default.
    #[command(after_help = "Examples:
  highwater config unset orders retention.ms
  highwater config unset --broker 1 log.retention.ms")]
    Unset {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        change: Change,
        /// Name of the topic, unless brokers are meant, and what to unset.
        #[arg(required = true, value_name = "TOPIC | KEY")]
        words: Vec<String>,
    },
}

/// What `set` and `unset` have in common.
#[derive(Debug, Args)]
pub struct Change {
    /// Change the broker with this id instead of a topic.
    #[arg(long, value_name = "ID", conflicts_with = "all_brokers")]
    broker: Option<i32>,
    /// Change all brokers of the cluster instead of a topic.
    #[arg(long)]
    all_brokers: bool,
    /// Only ask whether the change would be taken; change nothing.
    #[arg(long)]
    validate_only: bool,
}

impl Change {
    /// Whose configuration changes, and the words that say what.
    fn resource(&self, words: Vec<String>) -> Result<(ConfigResource, Vec<String>), CommandError> {
        if let Some(id) = self.broker {
            return Ok((ConfigResource::Broker(id), words));
        }
        if self.all_brokers {
            return Ok((ConfigResource::AllBrokers, words));
        }
        let mut words = words.into_iter();
        let topic = words.next().filter(|word| !word.contains('='));
        let rest: Vec<String> = words.collect();
        match topic {
            Some(topic) if !rest.is_empty() => Ok((ConfigResource::Topic(topic), rest)),
            _ => {
                let usage = "name a topic, --broker ID or --all-brokers, and what to change";
                Err(CommandError::Usage(usage.to_string()))
            }
        }
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Resource {
    /// Name of the topic.
    topic: Option<String>,
    /// Id of the broker; `highwater cluster describe` lists them.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// What was changed at run time for all brokers.
    #[arg(long)]
    all_brokers: bool,
}

pub(crate) async fn run(command: ConfigCommand) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Describe {
            common,
            resource,
            all,
        } => describe(common, resource, all).await,
        ConfigCommand::Set {
            common,
            change,
            words,
        } => {
            let (resource, words) = change.resource(words)?;
            let changes: Result<Vec<AlterConfig>, CommandError> = words
                .iter()
                .map(|word| {
                    let (name, value) = key_value(word).map_err(CommandError::Usage)?;
                    let operation = ConfigOperation::Set(value);
                    Ok(AlterConfig { name, operation })
                })
                .collect();
            alter(&common, resource, changes?, change.validate_only).await
        }
        ConfigCommand::Unset {
            common,
            change,
            words,
        } => {
            let (resource, words) = change.resource(words)?;
            let changes = words.into_iter().map(|name| AlterConfig {
                name,
                operation: ConfigOperation::Unset,
            });
            alter(&common, resource, changes.collect(), change.validate_only).await
        }
    }
}

async fn alter(
    common: &Common,
    resource: ConfigResource,
    changes: Vec<AlterConfig>,
    validate_only: bool,
) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let mut target = Target::Controller;
    match &resource {
        ConfigResource::Topic(topic) => drop(client.topic_partitions(topic).await?),
        ConfigResource::Broker(id) => target = Target::Broker(*id),
        ConfigResource::AllBrokers => {}
    }
    let names: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
    let call = AlterConfigs {
        resource,
        changes,
        validate_only,
    };
    client.call(target, &call).await?;
    let done = match validate_only {
        true => "Could change",
        false => "Changed",
    };
    let subject = match &call.resource {
        ConfigResource::Topic(topic) => format!("topic {topic}"),
        other => other.subject(),
    };
    let text = format!("{done} {} of {subject}\n", names.join(", "));
    let mut document = json!({"changed": names, "validated_only": validate_only});
    match &call.resource {
        ConfigResource::Topic(topic) => document["topic"] = json!(topic),
        ConfigResource::Broker(id) => document["broker"] = json!(id),
        ConfigResource::AllBrokers => document["all_brokers"] = json!(true),
    }
    Ok(print_either(common.json, &document, &text)?)
}

async fn describe(common: Common, resource: Resource, all: bool) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let (resource, target) = match (resource.topic, resource.broker) {
        _ if resource.all_brokers => (ConfigResource::AllBrokers, Target::Any),
        (_, Some(id)) => (ConfigResource::Broker(id), Target::Broker(id)),
        (Some(name), None) => {
            client.topic_partitions(&name).await?;
            (ConfigResource::Topic(name), Target::Any)
        }
        (None, None) => return Err(CommandError::Usage("name a topic or a broker".to_string())),
    };
    let entries = client.call(target, &DescribeConfigs { resource }).await?;
    let mut table = Table::new(&[
        ("KEY", Lean::Left),
        ("VALUE", Lean::Left),
        ("SOURCE", Lean::Left),
    ]);
    let mut document = Vec::new();
    for entry in entries
        .iter()
        .filter(|one| all || one.source != ConfigSource::Default)
    {
        table.row(vec![
            entry.name.clone(),
            entry
                .value
                .clone()
                .unwrap_or_else(|| "(not shown)".to_string()),
            entry.source.name().to_string(),
        ]);
        document.push(json!({
            "key": entry.name,
            "value": entry.value,
            "source": entry.source.name(),
            "read_only": entry.read_only,
            "documentation": entry.documentation,
        }));
    }
    let text = match document.is_empty() {
        true => "Everything has its default; --all shows it\n".to_string(),
        false => table.render(),
    };
    Ok(print_either(common.json, &json!(document), &text)?)
}
