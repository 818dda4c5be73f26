//! `highwater topic`.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};
use highwater_base::ErrorCode;
use highwater_client::calls::{
    ConfigResource, ConfigSource, CreatePartitions, CreateTopic, DeleteRecords, DeleteTopic,
    DescribeConfigs, DescribeLogDirs, OffsetSpec, PartitionOnDisk, Target,
};
use highwater_client::driver::Client;
use highwater_client::metadata::TopicMetadata;
use highwater_client::{ClientError, MetadataCache};
use serde_json::{Value, json};

use crate::CommandError;
use crate::arguments::{Common, key_value};
use crate::output::{Lean, Table, grouped, listed, print_either};

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// List all topics.
    #[command(after_help = "Examples:
  highwater topic list
  highwater topic list --json | jq -r '.[].name'")]
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Create a topic.
    #[command(after_help = "Examples:
  highwater topic create orders --partitions 6
  highwater topic create clicks --partitions 12 --config retention.ms=86400000 --if-not-exists")]
    Create(CreateArguments),
    /// Show a topic's partitions (leader, offsets, bytes and segments on disk, damage) and what of its
    /// configuration is not the built-in default.
    #[command(after_help = "Examples:
  highwater topic describe orders
  highwater topic describe orders --json | jq '.partitions[].high_water_mark'")]
    Describe {
        #[command(flatten)]
        common: Common,
        /// Name of the topic.
        name: String,
    },
    /// Delete a topic and all its records.
    #[command(after_help = "Examples:
  highwater topic delete orders          asks first
  highwater topic delete orders --yes    for scripts")]
    Delete {
        #[command(flatten)]
        common: Common,
        /// Name of the topic.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Raise a topic's number of partitions. Keys may move to other partitions from then on.
    #[command(after_help = "Example:\n  highwater topic add-partitions orders --total 12")]
    AddPartitions {
        #[command(flatten)]
        common: Common,
        /// Name of the topic.
        name: String,
        /// How many partitions the topic has afterwards.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        total: i32,
    },
    /// Delete the oldest records of one partition.
    #[command(after_help = "Example:
  highwater topic delete-records orders --partition 0 --before 1000    keeps 1000 and later")]
    DeleteRecords {
        #[command(flatten)]
        common: Common,
        /// Name of the topic.
        name: String,
        /// Index of the partition.
        #[arg(long, value_name = "P", value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
        /// First offset that stays.
        #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
        before: i64,
    },
}

#[derive(Debug, Args)]
pub struct CreateArguments {
    #[command(flatten)]
    common: Common,
    /// Name of the topic: letters, digits, dot, underscore, hyphen; at most 249 characters.
    name: String,
    /// Number of partitions; without it the broker's default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Copies of each partition; without it the broker's default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// Configuration of the topic. May be repeated.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// A topic of this name that exists is fine.
    #[arg(long)]
    if_not_exists: bool,
}

pub(crate) async fn run(command: TopicCommand) -> Result<(), CommandError> {
    match command {
        TopicCommand::List { common } => list(common).await,
        TopicCommand::Create(arguments) => create(arguments).await,
        TopicCommand::Describe { common, name } => describe(common, name).await,
        TopicCommand::Delete { common, name, yes } => delete(common, name, yes).await,
        TopicCommand::AddPartitions {
            common,
            name,
            total,
        } => add_partitions(common, name, total).await,
        TopicCommand::DeleteRecords {
            common,
            name,
            partition,
            before,
        } => {
            let client = common.connect.connect().await?;
            let call = DeleteRecords {
                topic: name.clone(),
                partition,
                before,
            };
            let log_start = client.call_leader(&name, partition, &call).await?;
            let text = format!("{name}-{partition} now starts at offset {log_start}\n");
            let document = json!({"topic": name, "partition": partition, "log_start": log_start});
            Ok(print_either(common.json, &document, &text)?)
        }
    }
}

async fn list(common: Common) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    client.refresh(None).await?;
    let mut table = Table::new(&[
        ("TOPIC", Lean::Left),
        ("PARTITIONS", Lean::Right),
        ("REPLICAS", Lean::Right),
        ("", Lean::Left),
    ]);
    let mut document = Vec::new();
    client.with_metadata(|metadata| {
        for topic in metadata.topics() {
            let replicas = replicas_of(topic);
            table.row(vec![
                topic.name.clone(),
                topic.partitions.len().to_string(),
                replicas.to_string(),
                if topic.is_internal { "internal" } else { "" }.to_string(),
            ]);
            document.push(json!({
                "name": topic.name,
                "partitions": topic.partitions.len(),
                "replication_factor": replicas,
                "internal": topic.is_internal,
            }));
        }
    });
    let text = match document.is_empty() {
        true => "No topics yet; `highwater topic create NAME` makes one\n".to_string(),
        false => table.render(),
    };
    Ok(print_either(common.json, &json!(document), &text)?)
}

fn replicas_of(topic: &TopicMetadata) -> usize {
    topic
        .partitions
        .iter()
        .map(|one| one.replicas.len())
        .max()
        .unwrap_or(0)
}

async fn create(arguments: CreateArguments) -> Result<(), CommandError> {
    let CreateArguments {
        common,
        name,
        partitions,
        replication_factor,
        configs,
        if_not_exists,
    } = arguments;
    let client = common.connect.connect().await?;
    let call = CreateTopic {
        name: name.clone(),
        partitions: partitions.unwrap_or(-1),
        replication_factor: replication_factor.unwrap_or(-1),
        configs,
    };
    let created = match client.call(Target::Controller, &call).await {
        Ok(_) => true,
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) && if_not_exists => false,
        Err(error) => return Err(error.into()),
    };
    let partitions = client.topic_partitions(&name).await?;
    let text = match (created, partitions) {
        (true, 1) => format!("Created topic {name} with 1 partition\n"),
        (true, partitions) => format!("Created topic {name} with {partitions} partitions\n"),
        (false, _) => format!("Topic {name} exists already\n"),
    };
    let document = json!({"name": name, "partitions": partitions, "created": created});
    Ok(print_either(common.json, &document, &text)?)
}

async fn add_partitions(common: Common, name: String, total: i32) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let before = client.topic_partitions(&name).await?;
    let call = CreatePartitions {
        topic: name.clone(),
        total,
    };
    // What is asked for is the total, so a repetition has nothing to do.
    if before != total
        && let Err(error) = client.call(Target::Controller, &call).await
    {
        // An attempt whose answer was lost leaves nothing to add for the next.
        client.refresh(Some(vec![name.clone()])).await?;
        let done = error.code() == Some(ErrorCode::InvalidPartitions)
            && client.topic_partitions(&name).await? == total;
        if !done {
            return Err(error.into());
        }
    }
    let added = total - before;
    let text = match added {
        0 => format!("Topic {name} has {total} partitions already\n"),
        _ => format!("Topic {name} has {total} partitions, {added} of them new\n"),
    };
    let document = json!({"name": name, "partitions": total, "added": added});
    Ok(print_either(common.json, &document, &text)?)
}

async fn delete(common: Common, name: String, yes: bool) -> Result<(), CommandError> {
    if !yes && !std::io::stdin().is_terminal() {
        let usage = "deleting a topic deletes its records; confirm with --yes";
        return Err(CommandError::Usage(usage.to_string()));
    }
    let client = common.connect.connect().await?;
    client.topic_partitions(&name).await?;
    let deleted = yes || confirmed(&format!("Delete topic {name} and all its records? [y/N] "))?;
    if deleted {
        client
            .call(Target::Controller, &DeleteTopic { name: name.clone() })
            .await?;
    }
    let text = match deleted {
        true => format!("Deleted topic {name}\n"),
        false => "Nothing was deleted\n".to_string(),
    };
    let document = json!({"name": name, "deleted": deleted});
    Ok(print_either(common.json, &document, &text)?)
}

fn confirmed(question: &str) -> Result<bool, CommandError> {
    let mut error_output = std::io::stderr();
    error_output.write_all(question.as_bytes())?;
    error_output.flush()?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(CommandError::Input)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What the leaders of a topic's partitions say these take on disk, and what is wrong with them there;
/// of a partition without a leader, what its first replica says. A broker that does not tell, or may
/// not, leaves its partitions out.
async fn on_disk(client: &Client, topic: &TopicMetadata) -> BTreeMap<i32, PartitionOnDisk> {
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in &topic.partitions {
        let first = partition.replicas.first().copied();
        if let Some(leader) = partition.leader.or(first) {
            by_leader.entry(leader).or_default().push(partition.index);
        }
    }
    let mut found = BTreeMap::new();
    for (leader, partitions) in by_leader {
        let call = DescribeLogDirs {
            topic: topic.name.clone(),
            partitions,
        };
        if let Ok(told) = client.call(Target::Broker(leader), &call).await {
            found.extend(told);
        }
    }
    found
}

/// The offset of one partition, as a cell and as JSON.
fn offset_text(offset: Option<&Result<Option<i64>, ClientError>>) -> (String, Option<i64>) {
    match offset {
        Some(Ok(Some(offset))) => (offset.to_string(), Some(*offset)),
        _ => ("?".to_string(), None),
    }
}

/// The keys whose value is not the built-in default, whoever set them.
async fn overrides(client: &Client, name: &str) -> Result<Vec<(String, String)>, ClientError> {
    let resource = ConfigResource::Topic(name.to_string());
    let entries = client
        .call(Target::Any, &DescribeConfigs { resource })
        .await?;
    let set = entries
        .into_iter()
        .filter(|entry| entry.source != ConfigSource::Default);
    Ok(set
        .map(|entry| (entry.name, entry.value.unwrap_or_default()))
        .collect())
}

type Offsets = BTreeMap<i32, Result<Option<i64>, ClientError>>;

async fn describe(common: Common, name: String) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    client.topic_partitions(&name).await?;
    let unknown = || ClientError::UnknownTopic {
        topic: name.clone(),
    };
    let known = |metadata: &MetadataCache| metadata.topic(&name).cloned();
    let topic = client.with_metadata(known).ok_or_else(unknown)?;
    let starts = client.list_offsets(&name, OffsetSpec::Beginning).await?;
    let ends = client.list_offsets(&name, OffsetSpec::End).await?;
    let configs = overrides(&client, &name).await?;
    let on_disk = on_disk(&client, &topic).await;
    let (table, rows, total) = partition_rows(&topic, &starts, &ends, &on_disk);
    let document = json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "internal": topic.is_internal,
        "configs": configs.iter().cloned().collect::<BTreeMap<_, _>>(),
        "partitions": rows,
    });
    let set = configs
        .iter()
        .map(|(key, value)| format!("  {key}={value}\n"));
    let configs = match configs.is_empty() {
        true => "Configuration: all defaults\n".to_string(),
        false => format!("Configuration:\n{}", set.collect::<String>()),
    };
    let text = format!(
        "Topic {name}, id {}, {} records\n{configs}\n{}{}",
        topic.id,
        grouped(total),
        table.render(),
        damage_text(&on_disk)
    );
    Ok(print_either(common.json, &document, &text)?)
}

/// What is wrong with partitions, in a sentence for each; nothing when all is well.
fn damage_text(on_disk: &BTreeMap<i32, PartitionOnDisk>) -> String {
    let mut text = String::new();
    let mut say = |partition: &i32, what: String| {
        let lead = if text.is_empty() { "\n" } else { "" };
        text.push_str(&format!("{lead}Partition {partition} {what}\n"));
    };
    for (partition, disk) in on_disk {
        if let Some(reason) = &disk.offline {
            let rest = "everything else is served; the broker's log tells what to do";
            say(partition, format!("is offline: {reason}; {rest}"));
        }
        if !disk.holes.is_empty() {
            let ranges = disk.holes.iter().map(|(from, to)| match to - from {
                1 => from.to_string(),
                _ => format!("{from}-{}", to - 1),
            });
            let ranges: Vec<String> = ranges.collect();
            say(
                partition,
                format!(
                    "has lost offsets {}: reading them fails with KAFKA_STORAGE_ERROR, all others are \
                     served, and it takes no new records",
                    ranges.join(", ")
                ),
            );
        }
        if disk.unvouched {
            let what = "is not vouched for: the marks that say how far it was durable were lost, so \
                        that records at its end may be missing unseen";
            say(partition, what.to_string());
        }
    }
    text
}

fn is_damaged(disk: &PartitionOnDisk) -> bool {
    disk.offline.is_some() || !disk.holes.is_empty() || disk.unvouched
}

/// The partitions as a table and as JSON, and how many records they have together.
fn partition_rows(
    topic: &TopicMetadata,
    starts: &Offsets,
    ends: &Offsets,
    on_disk: &BTreeMap<i32, PartitionOnDisk>,
) -> (Table, Value, u64) {
    let mut table = Table::new(&[
        ("PARTITION", Lean::Right),
        ("LEADER", Lean::Right),
        ("EPOCH", Lean::Right),
        ("REPLICAS", Lean::Left),
        ("IN SYNC", Lean::Left),
        ("LOG START", Lean::Right),
        ("HIGH WATER", Lean::Right),
        ("RECORDS", Lean::Right),
        ("BYTES", Lean::Right),
        ("SEGMENTS", Lean::Right),
    ]);
    let mut rows = Vec::new();
    let mut total = 0;
    for partition in &topic.partitions {
        let (start_text, start) = offset_text(starts.get(&partition.index));
        let (end_text, end) = offset_text(ends.get(&partition.index));
        let records = start
            .zip(end)
            .map(|(start, end)| end.saturating_sub(start).max(0) as u64);
        total += records.unwrap_or(0);
        let disk = on_disk.get(&partition.index);
        let size_bytes = disk.map(|disk| disk.size_bytes);
        let segments = disk.and_then(|disk| disk.segments);
        table.row(vec![
            partition.index.to_string(),
            partition
                .leader
                .map_or("none".to_string(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            listed(&partition.replicas),
            listed(&partition.in_sync),
            start_text,
            end_text,
            records.map_or("?".to_string(), grouped),
            size_bytes.map_or(String::new(), |bytes| grouped(bytes.max(0) as u64)),
            segments.map_or(String::new(), |segments| segments.to_string()),
        ]);
        let holes = disk.map_or(&[][..], |disk| &disk.holes);
        let holes = holes
            .iter()
            .map(|(from, to)| json!({"from": from, "to": to}));
        rows.push(json!({
            "partition": partition.index,
            "damaged": disk.is_some_and(is_damaged),
            "holes": holes.collect::<Vec<_>>(),
            "offline": disk.and_then(|disk| disk.offline.clone()),
            "unvouched": disk.is_some_and(|disk| disk.unvouched),
            "leader": partition.leader,
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas,
            "in_sync": partition.in_sync,
            "log_start": start,
            "high_water_mark": end,
            "records": records,
            "size_bytes": size_bytes,
            "segments": segments,
        }));
    }
    (table, Value::Array(rows), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_said_in_sentences_and_nothing_when_all_is_well() {
        let well = PartitionOnDisk::default();
        assert_eq!(damage_text(&BTreeMap::from([(0, well.clone())])), "");
        assert!(!is_damaged(&well));
        let holes = PartitionOnDisk {
            holes: vec![(5, 6), (8, 11)],
            ..well.clone()
        };
        let offline = PartitionOnDisk {
            offline: Some("x.log: input/output error (errno 5)".to_string()),
            ..well
        };
        assert!(is_damaged(&holes) && is_damaged(&offline));
        let text = damage_text(&BTreeMap::from([(1, holes), (2, offline)]));
        for part in [
            "Partition 1 has lost offsets 5, 8-10:",
            "Partition 2 is offline: x.log: input",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
