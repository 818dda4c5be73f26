//! `highwater group`: consumer groups from outside.

mod accept_loss;
mod describe;
mod reset;

use clap::{Args, Subcommand};
use highwater_client::calls::{DeleteGroup, OffsetDelete};
use highwater_client::group::TopicPartition;
use serde_json::json;

use crate::CommandError;
use crate::arguments::Common;
use crate::output::{Lean, Table, print_either};

/// What is said behind a list that may lack groups.
const LACKS_GROUPS: &str = "there may be other groups: part of the log of offsets is lost; \
    `highwater group accept-loss` shows what is known of those above";
/// What is printed instead of an empty table.
const NO_GROUPS: &str = "There are no groups; `highwater consume TOPIC --group NAME` makes one\n";

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups.
    #[command(after_help = "Examples:
  highwater group list
  highwater group list --state Stable --state Empty")]
    List {
        #[command(flatten)]
        common: Common,
        /// Only groups in this state: Stable, Empty, PreparingRebalance, CompletingRebalance, Dead.
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
    },
    /// Show how far groups are in each partition and who reads it.
    #[command(after_help = "Examples:
  highwater group describe billing              offsets, lag and members
  highwater group describe billing --members    who is in it and how much each one has
  highwater group describe --all --state        one line per group")]
    Describe(describe::DescribeArguments),
    /// Move the committed offsets of a group that has no members. Shows what it would do; --execute
    /// does it.
    #[command(after_help = "Examples:
  highwater group reset-offsets billing --topic orders --to-earliest
  highwater group reset-offsets billing --topic orders:0,1 --to-offset 1000 --execute
  highwater group reset-offsets billing --topic orders --to-datetime 2026-01-01T12:00:00Z
  highwater group reset-offsets billing --topic orders --by-duration 15m --execute
  highwater group reset-offsets billing --topic orders --shift-by -100 --execute
  highwater group reset-offsets billing --from-file offsets.csv --execute

Each line of a file is TOPIC,PARTITION,OFFSET. Offsets that lie outside the log are moved to its
nearer end.")]
    ResetOffsets(reset::ResetArguments),
    /// Where part of the log of offsets is lost, take the offsets that are known for what there is.
    /// Shows what is known; --execute does it.
    #[command(after_help = "Examples:
  highwater group accept-loss               what is known, what may be older than what was committed
  highwater group accept-loss --execute     and consumers go on there

Until then consumers wait whose last commit may be lost. A group for which the offset that is known
will not do is moved first, with `highwater group reset-offsets`.")]
    AcceptLoss(accept_loss::AcceptLossArguments),
    /// Delete groups that have no members, with all their committed offsets.
    #[command(after_help = "Example:\n  highwater group delete billing reports")]
    Delete {
        #[command(flatten)]
        common: Common,
        /// Names of the groups.
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Delete a group's committed offsets of topics that no member is subscribed to.
    #[command(after_help = "Examples:
  highwater group delete-offsets billing --topic orders
  highwater group delete-offsets billing --topic orders:0,1")]
    DeleteOffsets {
        #[command(flatten)]
        common: Common,
        /// Name of the group.
        group: String,
        #[command(flatten)]
        topics: TopicArguments,
    },
}

/// Topics, each perhaps with some of its partitions only.
#[derive(Debug, Args)]
pub struct TopicArguments {
    /// A topic, or some of its partitions like orders:0,1; may be repeated.
    #[arg(long = "topic", required = true, value_name = "TOPIC[:P,P]", value_parser = topic_part)]
    pub topics: Vec<TopicPart>,
}

/// A topic or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPart {
    pub topic: String,
    /// `None` for all.
    pub partitions: Option<Vec<i32>>,
}

pub(crate) fn topic_part(text: &str) -> Result<TopicPart, String> {
    let Some((topic, listed)) = text.split_once(':') else {
        let topic = text.to_string();
        return Ok(TopicPart {
            topic,
            partitions: None,
        });
    };
    let wrong = || format!("{text:?} is not TOPIC or TOPIC:P,P, for example orders:0,1");
    let number = |part: &str| part.trim().parse().ok().filter(|index: &i32| *index >= 0);
    let partitions: Option<Vec<i32>> = listed.split(',').map(number).collect();
    match partitions {
        Some(partitions) if !topic.is_empty() => Ok(TopicPart {
            topic: topic.to_string(),
            partitions: Some(partitions),
        }),
        _ => Err(wrong()),
    }
}

/// The partitions that the arguments name; they exist.
pub(crate) async fn partitions_of(
    client: &highwater_client::driver::Client,
    parts: &[TopicPart],
) -> Result<Vec<TopicPartition>, CommandError> {
    let mut named = Vec::new();
    for part in parts {
        let count = client.topic_partitions(&part.topic).await?;
        let all = part.partitions.clone().unwrap_or((0..count).collect());
        for partition in all {
            if partition >= count {
                let (topic, last) = (part.topic.clone(), count - 1);
                return Err(highwater_client::ClientError::UnknownPartition {
                    topic,
                    partition,
                    last,
                }
                .into());
            }
            named.push(TopicPartition::new(&part.topic, partition));
        }
    }
    Ok(named)
}

pub(crate) async fn run(command: GroupCommand) -> Result<(), CommandError> {
    match command {
        GroupCommand::List { common, state } => list(common, state).await,
        GroupCommand::Describe(arguments) => describe::run(arguments).await,
        GroupCommand::ResetOffsets(arguments) => reset::run(arguments).await,
        GroupCommand::AcceptLoss(arguments) => accept_loss::run(arguments).await,
        GroupCommand::Delete { common, groups } => delete(common, groups).await,
        GroupCommand::DeleteOffsets {
            common,
            group,
            topics,
        } => delete_offsets(common, group, topics).await,
    }
}

async fn list(common: Common, states: Vec<String>) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let (groups, is_complete) = client.list_known_groups(&states).await?;
    let mut table = Table::new(&[
        ("GROUP", Lean::Left),
        ("STATE", Lean::Left),
        ("TYPE", Lean::Left),
        ("PROTOCOL", Lean::Left),
    ]);
    let mut rows = Vec::new();
    for group in groups.values() {
        table.row(vec![
            group.group.clone(),
            group.state.clone(),
            group.kind.clone(),
            group.protocol_type.clone(),
        ]);
        rows.push(json!({
            "group": group.group,
            "state": group.state,
            "type": group.kind,
            "protocol_type": group.protocol_type,
        }));
    }
    let text = match rows.is_empty() {
        true => NO_GROUPS.to_string(),
        false => table.render(),
    };
    print_either(common.json, &json!(rows), &text)?;
    match is_complete {
        true => Ok(()),
        false => Err(CommandError::Failed(LACKS_GROUPS.to_string())),
    }
}

async fn delete(common: Common, groups: Vec<String>) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let mut text = String::new();
    for group in &groups {
        let call = DeleteGroup {
            group: group.clone(),
        };
        client.call_coordinator(group, &call).await?;
        text.push_str(&format!("Deleted group {group}\n"));
    }
    Ok(print_either(
        common.json,
        &json!({"deleted": groups}),
        &text,
    )?)
}

async fn delete_offsets(
    common: Common,
    group: String,
    topics: TopicArguments,
) -> Result<(), CommandError> {
    let client = common.connect.connect().await?;
    let partitions = partitions_of(&client, &topics.topics).await?;
    let call = OffsetDelete {
        group: group.clone(),
        partitions,
    };
    let results = client.call_coordinator(&group, &call).await?;
    let mut text = String::new();
    let mut deleted = Vec::new();
    for (at, result) in results {
        result?;
        text.push_str(&format!("Deleted the offset of group {group} in {at}\n"));
        deleted.push(json!({"topic": at.topic, "partition": at.partition}));
    }
    let document = json!({"group": group, "deleted": deleted});
    Ok(print_either(common.json, &document, &text)?)
}
