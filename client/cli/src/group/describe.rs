//! `highwater group describe`: offsets and lag, members, or states.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use highwater_client::ClientError;
use highwater_client::calls::{
    DescribeGroup, DescribedGroup, DescribedMember, FetchStanding, OffsetSpec, Standing,
};
use highwater_client::driver::Client;
use highwater_client::group::TopicPartition;
use serde_json::{Value, json};

use super::NO_GROUPS;
use crate::CommandError;
use crate::arguments::Common;
use crate::output::{Lean, Table, print_either};

#[derive(Debug, Args)]
pub struct DescribeArguments {
    #[command(flatten)]
    common: Common,
    /// Names of the groups.
    #[arg(required_unless_present = "all", value_name = "GROUP")]
    groups: Vec<String>,
    /// All groups there are.
    #[arg(long, conflicts_with = "groups")]
    all: bool,
    /// Current offset, log end and lag of each partition: the default.
    #[arg(long, group = "what")]
    offsets: bool,
    /// Who is in the group.
    #[arg(long, group = "what")]
    members: bool,
    /// The group's state and assignor.
    #[arg(long, group = "what")]
    state: bool,
}

/// In the place of an offset that may be older than what was committed last.
const UNCERTAIN: &str = "uncertain";

const OFFSET_COLUMNS: [(&str, Lean); 9] = [
    ("GROUP", Lean::Left),
    ("TOPIC", Lean::Left),
    ("PARTITION", Lean::Right),
    ("CURRENT-OFFSET", Lean::Right),
    ("LOG-END-OFFSET", Lean::Right),
    ("LAG", Lean::Right),
    ("CONSUMER-ID", Lean::Left),
    ("HOST", Lean::Left),
    ("CLIENT-ID", Lean::Left),
];
const MEMBER_COLUMNS: [(&str, Lean); 6] = [
    ("GROUP", Lean::Left),
    ("CONSUMER-ID", Lean::Left),
    ("INSTANCE-ID", Lean::Left),
    ("HOST", Lean::Left),
    ("CLIENT-ID", Lean::Left),
    ("PARTITIONS", Lean::Left),
];
const STATE_COLUMNS: [(&str, Lean); 4] = [
    ("GROUP", Lean::Left),
    ("STATE", Lean::Left),
    ("ASSIGNOR", Lean::Left),
    ("MEMBERS", Lean::Right),
];

pub(crate) async fn run(arguments: DescribeArguments) -> Result<(), CommandError> {
    let client = arguments.common.connect.connect().await?;
    let names = match arguments.all {
        true => client.list_known_groups(&[]).await?.0.into_keys().collect(),
        false => arguments.groups.clone(),
    };
    let mut damaged = Vec::new();
    let mut table = match (arguments.members, arguments.state) {
        (true, _) => Table::new(&MEMBER_COLUMNS),
        (false, true) => Table::new(&STATE_COLUMNS),
        (false, false) => Table::new(&OFFSET_COLUMNS),
    };
    let mut rows = Vec::new();
    for name in &names {
        let group = described(&client, name).await?;
        match (arguments.members, arguments.state) {
            (true, _) => member_rows(name, &group, &mut table, &mut rows),
            (false, true) => state_row(name, &group, &mut table, &mut rows),
            (false, false) => {
                if offset_rows(&client, name, &group, &mut table, &mut rows).await? {
                    damaged.push(name.as_str());
                }
            }
        }
    }
    let text = match (rows.is_empty(), arguments.members) {
        (false, _) => table.render(),
        (true, _) if names.is_empty() => NO_GROUPS.to_string(),
        (true, true) => "There are no members\n".to_string(),
        (true, false) => "There are no members and no committed offsets\n".to_string(),
    };
    print_either(arguments.common.json, &json!(rows), &text)?;
    match damaged.is_empty() {
        true => Ok(()),
        false => Err(CommandError::Failed(format!(
            "part of the log of offsets is lost, and with it perhaps the last commits of {}; \
             `highwater group accept-loss` shows what is known and goes on from there",
            damaged.join(", ")
        ))),
    }
}

/// The group, which exists.
pub(crate) async fn described(client: &Client, name: &str) -> Result<DescribedGroup, CommandError> {
    let call = DescribeGroup {
        group: name.to_string(),
    };
    let group = client.call_coordinator(name, &call).await?;
    match group.is_dead() {
        false => Ok(group),
        true => Err(CommandError::Failed(format!(
            "there is no group {name:?}; `highwater group list` shows what exists"
        ))),
    }
}

fn or_dash(text: Option<&str>) -> String {
    let text = text.filter(|text| !text.is_empty());
    text.unwrap_or("-").to_string()
}

fn number_or_dash(number: Option<i64>) -> String {
    number.map_or("-".to_string(), |number| number.to_string())
}

fn state_row(name: &str, group: &DescribedGroup, table: &mut Table, rows: &mut Vec<Value>) {
    table.row(vec![
        name.to_string(),
        group.state.clone(),
        or_dash(Some(&group.protocol)),
        group.members.len().to_string(),
    ]);
    rows.push(json!({
        "group": name,
        "state": group.state,
        "assignor": group.protocol,
        "members": group.members.len(),
    }));
}

/// `topic(0,1) other(2)`.
fn assigned_text(member: &DescribedMember) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in &member.assigned {
        let partitions = topics.entry(&one.topic).or_default();
        partitions.push(one.partition.to_string());
    }
    let words = topics.iter();
    let words: Vec<String> = words
        .map(|(topic, partitions)| format!("{topic}({})", partitions.join(",")))
        .collect();
    or_dash(Some(&words.join(" ")))
}

fn member_rows(name: &str, group: &DescribedGroup, table: &mut Table, rows: &mut Vec<Value>) {
    for member in &group.members {
        table.row(vec![
            name.to_string(),
            member.member_id.clone(),
            or_dash(member.instance_id.as_deref()),
            member.client_host.clone(),
            member.client_id.clone(),
            assigned_text(member),
        ]);
        let assigned = member.assigned.iter();
        let assigned: Vec<Value> = assigned
            .map(|one| json!({"topic": one.topic, "partition": one.partition}))
            .collect();
        rows.push(json!({
            "group": name,
            "consumer_id": member.member_id,
            "instance_id": member.instance_id,
            "host": member.client_host,
            "client_id": member.client_id,
            "assigned": assigned,
        }));
    }
}

/// The log's end of each partition; a topic that is gone has none.
pub(crate) async fn ends_of(
    client: &Client,
    topics: &BTreeSet<String>,
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, i64>, CommandError> {
    let mut ends = BTreeMap::new();
    for topic in topics {
        let found = match client.list_offsets(topic, spec).await {
            Ok(found) => found,
            Err(ClientError::UnknownTopic { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        for (partition, offset) in found {
            if let Ok(Some(offset)) = offset {
                ends.insert(TopicPartition::new(topic, partition), offset);
            }
        }
    }
    Ok(ends)
}

/// Adds the rows of a group. True when part of the log of its offsets is lost.
async fn offset_rows(
    client: &Client,
    name: &str,
    group: &DescribedGroup,
    table: &mut Table,
    rows: &mut Vec<Value>,
) -> Result<bool, CommandError> {
    let call = FetchStanding {
        group: name.to_string(),
    };
    let standing = client.call_coordinator(name, &call).await?;
    let committed = standing.partitions;
    let mut readers: BTreeMap<&TopicPartition, &DescribedMember> = BTreeMap::new();
    for member in &group.members {
        readers.extend(member.assigned.iter().map(|at| (at, member)));
    }
    let mut shown: BTreeSet<&TopicPartition> = committed.keys().collect();
    shown.extend(readers.keys());
    let topics: BTreeSet<String> = shown.iter().map(|at| at.topic.clone()).collect();
    let ends = ends_of(client, &topics, OffsetSpec::End).await?;
    for at in shown {
        let known = committed.get(at);
        let current = match known {
            Some(Standing::Committed(offset)) => Some(*offset),
            Some(Standing::Uncertain(_)) | None => None,
        };
        let is_uncertain = matches!(known, Some(Standing::Uncertain(_)));
        let end = ends.get(at).copied();
        let lag = current
            .zip(end)
            .map(|(current, end)| (end - current).max(0));
        let reader = readers.get(at);
        table.row(vec![
            name.to_string(),
            at.topic.clone(),
            at.partition.to_string(),
            match is_uncertain {
                true => UNCERTAIN.to_string(),
                false => number_or_dash(current),
            },
            number_or_dash(end),
            number_or_dash(lag),
            or_dash(reader.map(|one| one.member_id.as_str())),
            or_dash(reader.map(|one| one.client_host.as_str())),
            or_dash(reader.map(|one| one.client_id.as_str())),
        ]);
        rows.push(json!({
            "group": name,
            "topic": at.topic,
            "partition": at.partition,
            "current_offset": current,
            "is_uncertain": is_uncertain,
            "log_end_offset": end,
            "lag": lag,
            "consumer_id": reader.map(|one| &one.member_id),
            "host": reader.map(|one| &one.client_host),
            "client_id": reader.map(|one| &one.client_id),
        }));
    }
    Ok(standing.is_damaged)
}
