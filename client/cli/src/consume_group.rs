//! `highwater consume --group`: records as a member of a group, until Ctrl-C.
//!
//! A record counts as done when it is printed: only that is committed, also where the command ends
//! in the middle of a batch.

use std::io::{Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater_client::ClientError;
use highwater_client::calls::OffsetSpec;
use highwater_client::consumer::{ConsumerSettings, Fetched};
use highwater_client::driver::{Client, GroupConsumer, GroupConsumerSettings};
use highwater_client::group::{Assignor, GroupSettings, TopicPartition};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::CommandError;
use crate::consume::{AssignorName, ConsumeArguments, Progress, WAIT_AT_END_MS, print_record};
use crate::output::Waiting;

/// How soon Ctrl-C is seen while no records come.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often somebody who waits is told why, in looks.
const LOOKS_PER_TELL: u32 = 5;
const COMMIT_INTERVAL_MS: u64 = 1_000;

fn assignor_of(name: AssignorName) -> Assignor {
    match name {
        AssignorName::Range => Assignor::Range,
        AssignorName::RoundRobin => Assignor::RoundRobin,
        AssignorName::CooperativeSticky => Assignor::CooperativeSticky,
    }
}

fn settings_of(arguments: &ConsumeArguments) -> GroupConsumerSettings {
    let membership = &arguments.membership;
    let mut group = GroupSettings::new(membership.group.as_deref().unwrap_or_default());
    group.instance_id.clone_from(&membership.instance_id);
    if !membership.assignor.is_empty() {
        let assignors = membership.assignor.iter().map(|name| assignor_of(*name));
        group.assignors = assignors.collect();
    }
    let mut consumer = ConsumerSettings::default();
    if arguments.exit_at_end {
        consumer.max_wait_ms = WAIT_AT_END_MS;
    }
    GroupConsumerSettings {
        group,
        consumer,
        start: match arguments.from_beginning {
            true => OffsetSpec::Beginning,
            false => OffsetSpec::End,
        },
        commit_interval_ms: Some(COMMIT_INTERVAL_MS),
    }
}

/// Set by Ctrl-C; a second one ends the process at once.
fn interrupted() -> Result<Arc<AtomicBool>, CommandError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let second = Arc::clone(&flag);
        let ends = signal_hook::flag::register_conditional_default(signal, second);
        ends.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| CommandError::Failed(format!("cannot wait for Ctrl-C: {error}")))?;
    }
    Ok(flag)
}

pub(crate) async fn run(arguments: &ConsumeArguments) -> Result<(), CommandError> {
    let client = arguments.connect.connect().await?;
    for topic in &arguments.topics {
        client.topic_partitions(topic).await?;
    }
    let interrupted = interrupted()?;
    let consumer = GroupConsumer::subscribe(&client, settings_of(arguments), &arguments.topics);
    let printed = print_records(&client, &consumer, arguments, &interrupted).await;
    // Also after an error: the others need not wait for a session timeout.
    let closed = consumer.close().await;
    printed?;
    Ok(closed?)
}

async fn print_records(
    client: &Client,
    consumer: &GroupConsumer,
    arguments: &ConsumeArguments,
    interrupted: &AtomicBool,
) -> Result<(), CommandError> {
    let mut left = arguments.max_records.unwrap_or(u64::MAX);
    let mut waiting = Waiting::default();
    let mut progress = Progress::start(client.now());
    let mut looks: u32 = 0;
    while left > 0 && !interrupted.load(Ordering::Relaxed) {
        let Some(fetched) = consumer.poll(LOOK_EVERY).await? else {
            if arguments.exit_at_end && consumer.reached_end() {
                break;
            }
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_TELL) {
                tell(&mut waiting, &mut progress, consumer.trouble());
            }
            continue;
        };
        waiting = Waiting::default();
        let count = print_some(consumer, arguments, &fetched, left)?;
        left -= count;
        progress.printed(count, client.now());
    }
    progress.end();
    Ok(())
}

fn tell(waiting: &mut Waiting, progress: &mut Progress, trouble: Option<ClientError>) {
    if trouble.is_none() {
        progress.idle();
    }
    waiting.tell(trouble);
}

/// Prints at most `left` records; the rest, and what cannot be printed, is not done.
fn print_some(
    consumer: &GroupConsumer,
    arguments: &ConsumeArguments,
    fetched: &Fetched,
    left: u64,
) -> Result<u64, CommandError> {
    let wanted = usize::try_from(left).unwrap_or(usize::MAX);
    let at = TopicPartition::new(&fetched.topic, fetched.partition);
    let mut text = Vec::new();
    for record in fetched.records.iter().take(wanted) {
        print_record(arguments.format(), fetched, record, &mut text);
    }
    let mut out = stdout().lock();
    if let Err(error) = out.write_all(&text).and_then(|()| out.flush()) {
        if let Some(first) = fetched.records.first() {
            consumer.seek(&at, first.offset);
        }
        return Err(error.into());
    }
    if let Some(next) = fetched.records.get(wanted) {
        consumer.seek(&at, next.offset);
    }
    Ok(fetched.records.len().min(wanted) as u64)
}
