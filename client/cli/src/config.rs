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
  highwater config describe --broker 1      what was set for broker 1")]
    Describe {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        resource: Resource,
        /// Show defaults too.
        #[arg(long)]
        all: bool,
    },
    /// Set configuration of a topic; the other keys stay as they are.
    #[command(after_help = "Examples:
  highwater config set orders retention.ms=86400000       records are kept for a day
  highwater config set orders retention.bytes=1073741824 compression.type=zstd")]
    Set {
        #[command(flatten)]
        common: Common,
        /// Name of the topic.
        topic: String,
        /// What to set.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_value)]
        values: Vec<(String, String)>,
    },
    /// Return configuration of a topic to its default.
    #[command(after_help = "Example:\n  highwater config unset orders retention.ms")]
    Unset {
        #[command(flatten)]
        common: Common,
        /// Name of the topic.
        topic: String,
        /// What to unset.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Resource {
    /// Name of the topic.
    topic: Option<String>,
    /// Id of the broker; `highwater cluster describe` lists them.
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
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
            topic,
            values,
        } => {
            let changes = values.into_iter().map(|(name, value)| AlterConfig {
                name,
                operation: ConfigOperation::Set(value),
            });
            alter(&common, topic, changes.collect()).await
        }
        ConfigCommand::Unset {
            common,
            topic,
            keys,
        } => {
            let changes = keys.into_iter().map(|name| AlterConfig {
                name,
                operation: ConfigOperation::Unset,
            });
            alter(&common, topic, changes.collect()).await
        }
    }
}

async fn alter(
    common: &Common,
    topic: String,
    changes: Vec<AlterConfig>,
) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    client.topic_partitions(&topic).await?;
    let names: Vec<String> = changes.iter().map(|change| change.name.clone()).collect();
    let call = AlterConfigs {
        resource: ConfigResource::Topic(topic.clone()),
        changes,
    };
    client.call(Target::Controller, &call).await?;
    let text = format!("Changed {} of topic {topic}\n", names.join(", "));
    let document = json!({"topic": topic, "changed": names});
    Ok(print_either(common.json, &document, &text)?)
}

async fn describe(common: Common, resource: Resource, all: bool) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let (resource, target) = match (resource.topic, resource.broker) {
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
