//! `highwater group accept-loss`: what is known of groups after part of the log of offsets was lost, and
//! the decision to go on from there.

use clap::Args;
use highwater_base::ErrorCode;
use highwater_client::ClientError;
use highwater_client::calls::{DeleteRecords, FetchStanding, Standing};
use highwater_client::driver::Client;
use serde_json::{Value, json};

use crate::CommandError;
use crate::arguments::Common;
use crate::output::{Lean, Table, print_either};

const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// In DeleteRecords of a damaged partition of offsets: what is known is all there is.
const ALL: i64 = -1;

#[derive(Debug, Args)]
pub struct AcceptLossArguments {
    #[command(flatten)]
    common: Common,
    /// Only these partitions of __consumer_offsets; without it all that are damaged.
    #[arg(long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Go on from what is known; without it that is only shown.
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show what is known: what happens without --execute.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(arguments: AcceptLossArguments) -> Result<(), CommandError> {
    let client = arguments.common.connect.connect().await?;
    match arguments.execute {
        true => accept(&client, &arguments).await,
        false => show(&client, &arguments).await,
    }
}

/// What is known of every group that may have lost a commit.
async fn show(client: &Client, arguments: &AcceptLossArguments) -> Result<(), CommandError> {
    let (groups, is_complete) = client.list_known_groups(&[]).await?;
    let mut table = Table::new(&[
        ("GROUP", Lean::Left),
        ("TOPIC", Lean::Left),
        ("PARTITION", Lean::Right),
        ("COMMITTED", Lean::Left),
    ]);
    let (mut rows, mut is_whole): (Vec<Value>, bool) = (Vec::new(), is_complete);
    for name in groups.keys() {
        let group = name.clone();
        let call = FetchStanding { group };
        let standing = client.call_coordinator(name, &call).await?;
        if !standing.is_damaged {
            continue;
        }
        is_whole = false;
        for (at, known) in standing.partitions {
            let (text, offset) = match &known {
                Standing::Committed(offset) => (format!("{offset}, certain"), Some(*offset)),
                Standing::Uncertain(words) => (words.clone(), None),
            };
            table.row(vec![
                name.clone(),
                at.topic.clone(),
                at.partition.to_string(),
                text.clone(),
            ]);
            rows.push(json!({
                "group": name,
                "topic": at.topic,
                "partition": at.partition,
                "offset": offset,
                "is_certain": offset.is_some(),
                "known": text,
            }));
        }
    }
    let text = match (is_whole, rows.is_empty()) {
        (true, _) => "Nothing of the log of offsets is lost\n".to_string(),
        (false, true) => "Part of the log of offsets is lost, and of no group in it an offset is \
            known; --execute goes on from there\n"
            .to_string(),
        (false, false) => format!(
            "{}\nNothing was changed; --execute goes on from what is known. Offsets and groups \
             that are not listed may be lost too\n",
            table.render()
        ),
    };
    let document = json!({"executed": false, "is_damaged": !is_whole, "offsets": rows});
    Ok(print_either(arguments.common.json, &document, &text)?)
}

async fn accept(client: &Client, arguments: &AcceptLossArguments) -> Result<(), CommandError> {
    let count = client.topic_partitions(OFFSETS_TOPIC).await?;
    let wanted = match arguments.partitions.is_empty() {
        true => (0..count).collect(),
        false => arguments.partitions.clone(),
    };
    let (mut text, mut accepted) = (String::new(), Vec::new());
    for partition in wanted {
        let call = DeleteRecords {
            topic: OFFSETS_TOPIC.to_string(),
            partition,
            before: ALL,
        };
        let done = client.call_leader(OFFSETS_TOPIC, partition, &call).await;
        match done {
            Ok(log_start) => {
                text.push_str(&format!(
                    "{OFFSETS_TOPIC}-{partition} starts at offset {log_start}, with what was known\n"
                ));
                accepted.push(json!({"partition": partition, "log_start": log_start}));
            }
            // It is whole.
            Err(ClientError::Broker {
                code: ErrorCode::PolicyViolation,
                ..
            }) if arguments.partitions.is_empty() => {}
            Err(ClientError::Broker {
                code: ErrorCode::PolicyViolation,
                ..
            }) => {
                return Err(CommandError::Failed(format!(
                    "{OFFSETS_TOPIC}-{partition} is not damaged: there is nothing to accept"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if accepted.is_empty() {
        text.push_str("Nothing of the log of offsets is lost\n");
    }
    let document = json!({"executed": true, "accepted": accepted});
    Ok(print_either(arguments.common.json, &document, &text)?)
}
