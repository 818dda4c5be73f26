//! `highwater group reset-offsets`: where a group goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use highwater_base::ErrorCode;
use highwater_client::ClientError;
use highwater_client::calls::{
    CommittedOffset, DescribeGroup, FetchStanding, GENERATION_NONE, OffsetCommit, OffsetSpec,
    Standing,
};
use highwater_client::driver::Client;
use highwater_client::group::TopicPartition;
use serde_json::json;

use super::describe::ends_of;
use super::{TopicPart, partitions_of, topic_part};
use crate::CommandError;
use crate::arguments::Common;
use crate::moment::Moment;
use crate::output::{Lean, Table, print_either};

#[derive(Debug, Args)]
pub struct ResetArguments {
    #[command(flatten)]
    common: Common,
    /// Name of the group; it need not exist yet.
    group: String,
    /// A topic, or some of its partitions like orders:0,1; may be repeated.
    #[arg(
        long = "topic",
        required_unless_present = "from_file",
        conflicts_with = "from_file",
        value_name = "TOPIC[:P,P]",
        value_parser = topic_part
    )]
    topics: Vec<TopicPart>,
    #[command(flatten)]
    target: TargetArguments,
    /// Commit the new offsets; without it they are only shown.
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show the new offsets: what happens without --execute.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// To the first record that is still there.
    #[arg(long)]
    to_earliest: bool,
    /// To the end: only what comes from now on is read.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later, like 2026-01-01T12:30:00Z (UTC).
    #[arg(long, value_name = "WHEN")]
    to_datetime: Option<Moment>,
    /// By this many records, backwards where negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To what came in this long ago or later, like 15m (s, m, h, d).
    #[arg(long, value_name = "DURATION")]
    by_duration: Option<Moment>,
    /// To what a file says, in lines of TOPIC,PARTITION,OFFSET.
    #[arg(long, value_name = "CSV")]
    from_file: Option<PathBuf>,
}

type Offsets = BTreeMap<TopicPartition, i64>;

pub(crate) async fn run(arguments: ResetArguments) -> Result<(), CommandError> {
    let listed = match &arguments.target.from_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                CommandError::Usage(format!("cannot read {}: {error}", path.display()))
            })?;
            Some(parse_lines(&text)?)
        }
        None => None,
    };
    let client = arguments.common.connect.connect().await?;
    refuse_with_members(&client, &arguments.group).await?;
    let partitions = match &listed {
        Some(listed) => partitions_of(&client, &parts_of(listed)).await?,
        None => partitions_of(&client, &arguments.topics).await?,
    };
    let before = committed(&client, &arguments.group).await?;
    let wanted = wanted(&client, &arguments.target, &partitions, &before, listed).await?;
    if arguments.execute {
        commit(&client, &arguments.group, &wanted).await?;
    }
    show(&arguments, &before, &wanted)
}

/// What is committed for certain: what may be older than that is what a reset is for.
async fn committed(client: &Client, group: &str) -> Result<Offsets, CommandError> {
    let call = FetchStanding {
        group: group.to_string(),
    };
    let standing = client.call_coordinator(group, &call).await?;
    let known = standing.partitions.into_iter();
    let certain = known.filter_map(|(at, standing)| match standing {
        Standing::Committed(offset) => Some((at, offset)),
        Standing::Uncertain(_) => None,
    });
    Ok(certain.collect())
}

/// A member would commit over it at once, and not go on at the new offsets.
async fn refuse_with_members(client: &Client, group: &str) -> Result<(), CommandError> {
    let call = DescribeGroup {
        group: group.to_string(),
    };
    let members = match client.call_coordinator(group, &call).await {
        Ok(described) => described.members,
        // The group may be lost with part of the log of offsets; so are its members.
        Err(ClientError::Broker {
            code: ErrorCode::KafkaStorageError,
            ..
        }) => vec![],
        Err(error) => return Err(error.into()),
    };
    match members.len() {
        0 => Ok(()),
        count => Err(CommandError::Failed(format!(
            "group {group:?} has {count} members, which would go on where they are; stop them \
             (`highwater group describe {group} --members` shows them), wait until the group is \
             Empty and try again"
        ))),
    }
}

fn parse_lines(text: &str) -> Result<Offsets, CommandError> {
    let mut offsets = Offsets::new();
    let lines = text.lines().enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let fields: Vec<&str> = line
            .split(',')
            .map(|field| field.trim().trim_matches('"'))
            .collect();
        let parsed = match fields[..] {
            [topic, partition, offset] => partition.parse().ok().zip(offset.parse().ok()).map(
                |(partition, offset): (i32, i64)| (TopicPartition::new(topic, partition), offset),
            ),
            _ => None,
        };
        let parsed = parsed.filter(|(at, offset)| at.partition >= 0 && *offset >= 0);
        let Some((partition, offset)) = parsed else {
            return Err(CommandError::Usage(format!(
                "line {}: {line:?} is not TOPIC,PARTITION,OFFSET, for example orders,0,1000",
                at + 1
            )));
        };
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

fn parts_of(offsets: &Offsets) -> Vec<TopicPart> {
    let parts = offsets.keys().map(|at| TopicPart {
        topic: at.topic.clone(),
        partitions: Some(vec![at.partition]),
    });
    parts.collect()
}

/// The new offsets, all of them within their logs.
async fn wanted(
    client: &Client,
    target: &TargetArguments,
    partitions: &[TopicPartition],
    before: &Offsets,
    listed: Option<Offsets>,
) -> Result<Offsets, CommandError> {
    let topics: BTreeSet<String> = partitions.iter().map(|at| at.topic.clone()).collect();
    let starts = ends_of(client, &topics, OffsetSpec::Beginning).await?;
    let ends = ends_of(client, &topics, OffsetSpec::End).await?;
    let moment = target.to_datetime.or(target.by_duration);
    let by_time = match moment {
        Some(moment) => {
            let spec = OffsetSpec::Timestamp(moment.wall_ms(client.now().wall_ms));
            ends_of(client, &topics, spec).await?
        }
        None => Offsets::new(),
    };
    let mut wanted = Offsets::new();
    for at in partitions {
        let (Some(start), Some(end)) = (starts.get(at).copied(), ends.get(at).copied()) else {
            return Err(CommandError::Failed(format!(
                "the offsets of {at} are not known, its leader does not tell them; try again"
            )));
        };
        let offset = if let Some(listed) = &listed {
            listed.get(at).copied().unwrap_or(start)
        } else if moment.is_some() {
            by_time.get(at).copied().unwrap_or(end)
        } else if let Some(shift) = target.shift_by {
            let current = before.get(at).ok_or_else(|| {
                CommandError::Failed(format!(
                    "the group has committed nothing in {at}, so there is nothing to shift; \
                     use --to-offset"
                ))
            })?;
            current.saturating_add(shift)
        } else if let Some(offset) = target.to_offset {
            offset
        } else if target.to_latest {
            end
        } else {
            start
        };
        wanted.insert(at.clone(), offset.clamp(start, end.max(start)));
    }
    Ok(wanted)
}

async fn commit(client: &Client, group: &str, offsets: &Offsets) -> Result<(), CommandError> {
    let offsets = offsets.iter();
    let call = OffsetCommit {
        group: group.to_string(),
        generation: GENERATION_NONE,
        member_id: String::new(),
        instance_id: None,
        offsets: offsets
            .map(|(at, offset)| (at.clone(), CommittedOffset::at(*offset)))
            .collect(),
    };
    for (_, result) in client.call_coordinator(group, &call).await? {
        result?;
    }
    Ok(())
}

fn show(
    arguments: &ResetArguments,
    before: &Offsets,
    wanted: &Offsets,
) -> Result<(), CommandError> {
    let mut table = Table::new(&[
        ("GROUP", Lean::Left),
        ("TOPIC", Lean::Left),
        ("PARTITION", Lean::Right),
        ("OFFSET", Lean::Right),
        ("NEW-OFFSET", Lean::Right),
    ]);
    let mut rows = Vec::new();
    for (at, offset) in wanted {
        let old = before.get(at);
        table.row(vec![
            arguments.group.clone(),
            at.topic.clone(),
            at.partition.to_string(),
            old.map_or("-".to_string(), ToString::to_string),
            offset.to_string(),
        ]);
        rows.push(json!({
            "topic": at.topic,
            "partition": at.partition,
            "offset": old,
            "new_offset": offset,
        }));
    }
    let document = json!({
        "group": arguments.group,
        "executed": arguments.execute,
        "partitions": rows,
    });
    let note = match arguments.execute {
        true => "",
        false => "\nNothing was changed; --execute commits these offsets\n",
    };
    let text = format!("{}{note}", table.render());
    Ok(print_either(arguments.common.json, &document, &text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_are_read_and_wrong_ones_named() {
        let read = parse_lines("\"a\",0,5\n\n b , 1 , 7 \n").expect("offsets");
        let expected = [
            (TopicPartition::new("a", 0), 5),
            (TopicPartition::new("b", 1), 7),
        ];
        assert_eq!(read, Offsets::from(expected));
        for wrong in ["a,0", "a,b,c", "a,-1,5", "a,0,-5", "a,0,5,metadata"] {
            let error = parse_lines(&format!("a,0,1\n{wrong}")).expect_err(wrong);
            assert!(error.to_string().starts_with("line 2: "), "{error}");
        }
    }

    #[test]
    fn parts_of_topics_are_read() {
        let part = topic_part("orders:0,2").expect("a part");
        assert_eq!(part.partitions, Some(vec![0, 2]));
        assert_eq!(topic_part("orders").expect("a topic").partitions, None);
        for wrong in ["orders:", ":1", "orders:a", "orders:-1"] {
            assert!(topic_part(wrong).is_err(), "{wrong}");
        }
    }
}
