//! Decides on metadata changes. Lives on core 0; sans-io.
//!
//! Changes queue up here; one at a time is checked against the image and turned into metadata
//! records. Its answer leaves only after (1) the records are durable in the metadata log and
//! (2) every core has applied them, so that whatever the client does next, on whichever core,
//! meets the new state. A change that is refused, or only validated, writes nothing.

mod configure;

use std::collections::{BTreeSet, VecDeque};

use highwater_base::limits::{PARTITIONS_PER_TOPIC_MAX, TOPIC_NAME_BYTES_MAX};
use highwater_base::prng::Prng;
use highwater_base::{CoreId, ErrorCode, TopicId};
use highwater_groups::OFFSETS_TOPIC;

use self::configure::{check_configs, configure_all};
use super::image::{Image, Topic, is_internal};
use super::record::MetadataRecord;
use super::{METADATA_TOPIC, METADATA_TOPIC_ID};
use crate::answer_text::shortened;
use crate::config::topic::OFFSETS_TOPIC_CONFIG;

/// Changes that may wait; beyond it a client is told to retry.
pub const CHANGES_QUEUED_MAX: usize = 10_000;
/// Brokers of a refused assignment that its message names.
const BROKERS_QUOTED_MAX: usize = 8;
/// Producer ids handed to a core at a time (Kafka's block size).
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// A topic as it is named in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    Name(String),
    Id(TopicId),
    /// By both, or by neither.
    Unclear,
}

/// A topic to create. -1 partitions or replicas ask for the broker's default (KIP-464).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i32,
    /// Manual assignment: partition index and broker ids.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub configs: Vec<(String, Option<String>)>,
}

/// One step of IncrementalAlterConfigs (KIP-339).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    Set,
    Delete,
    Append,
    Subtract,
    /// A number Kafka does not define.
    Unknown(i8),
}

/// Whose configuration changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigTarget {
    Topic(String),
    /// A broker by its id as text; no text means all brokers of the cluster.
    Broker(String),
}

/// New configuration of a topic or a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub target: ConfigTarget,
    pub operations: Vec<(String, ConfigOperation, Option<String>)>,
    /// Start from nothing (AlterConfigs) instead of from those in force.
    pub replace: bool,
}

/// Broker ids per added partition.
pub type Assignments = Vec<Vec<i32>>;

/// What is asked of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics {
        topics: Vec<TopicRef>,
    },
    CreatePartitions {
        topics: Vec<(String, i32, Option<Assignments>)>,
        validate_only: bool,
    },
    Configure {
        changes: Vec<ConfigChange>,
        validate_only: bool,
    },
    ProducerIds,
    /// The topic of offsets, unless it exists.
    CreateOffsetsTopic,
}

/// What came of one entry of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Created {
        topic_id: TopicId,
        partitions: u32,
        overrides: Vec<(String, String)>,
    },
    Deleted {
        topic_id: TopicId,
        name: String,
    },
    Done,
    ProducerIds {
        first: i64,
        count: i64,
    },
}

/// Why one entry of a change was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeError {
    pub code: ErrorCode,
    pub message: String,
}

/// One result per entry of the change, in its order.
pub type ChangeOutcome = Vec<Result<Changed, ChangeError>>;

/// Who asked: the answer goes to this core under this ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub core: CoreId,
    pub ticket: u64,
}

/// What the host of the controller does next.
#[derive(Debug)]
pub enum Step {
    /// Append these to the metadata log; then call [`Controller::committed`] or
    /// [`Controller::failed`].
    Log(Vec<MetadataRecord>),
    /// Send this answer.
    Answer(Origin, ChangeOutcome),
    /// Nothing to do now.
    Idle,
}

#[derive(Debug)]
struct InFlight {
    origin: Origin,
    outcome: ChangeOutcome,
    cores_to_apply: usize,
}

/// Who this node is, what it may hold, and defaults for topics whose creator left them open.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// The broker ids clients are told of: the node's, or in direct mode those of its cores in
    /// the cores' order.
    pub broker_ids: Vec<i32>,
    pub num_partitions: i32,
    pub offsets_topic_partitions: u32,
    pub cores: usize,
    pub topics_max: usize,
    pub partitions_max: usize,
}

/// The one place that changes metadata.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    ids: Prng,
    queue: VecDeque<(Origin, Change)>,
    in_flight: Option<InFlight>,
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, ChangeError> {
    Err(ChangeError {
        code,
        message: shortened(message.into()),
    })
}

impl Controller {
    /// A controller with nothing to do. `id_seed` is fresh randomness for topic ids.
    #[must_use]
    pub fn new(config: ControllerConfig, id_seed: u64) -> Controller {
        Controller {
            config,
            ids: Prng::new(id_seed),
            queue: VecDeque::new(),
            in_flight: None,
        }
    }

    /// Queues a change; a full queue answers at once.
    pub fn submit(&mut self, origin: Origin, change: Change) -> Option<(Origin, ChangeOutcome)> {
        if self.queue.len() >= CHANGES_QUEUED_MAX {
            let entries = change.entries();
            let error = ChangeError {
                code: ErrorCode::RequestTimedOut,
                message: format!("{CHANGES_QUEUED_MAX} metadata changes are waiting; try again"),
            };
            return Some((origin, vec![Err(error); entries]));
        }
        self.queue.push_back((origin, change));
        None
    }

    /// The next thing to do. Call until it says `Idle`.
    pub fn step(&mut self, image: &Image) -> Step {
        if self.in_flight.is_some() {
            return Step::Idle;
        }
        let Some((origin, change)) = self.queue.pop_front() else {
            return Step::Idle;
        };
        let mut records = Vec::new();
        let outcome = self.decide(&change, image, &mut records);
        if records.is_empty() {
            return Step::Answer(origin, outcome);
        }
        self.in_flight = Some(InFlight {
            origin,
            outcome,
            cores_to_apply: self.config.cores,
        });
        Step::Log(records)
    }

    /// A core (this one included) has applied the records of the change in flight; the last one
    /// releases the answer.
    pub fn applied(&mut self) -> Option<(Origin, ChangeOutcome)> {
        let in_flight = self.in_flight.as_mut()?;
        in_flight.cores_to_apply = in_flight.cores_to_apply.saturating_sub(1);
        if in_flight.cores_to_apply > 0 {
            return None;
        }
        let done = self.in_flight.take()?;
        Some((done.origin, done.outcome))
    }

    /// The metadata log could not take the change in flight; nothing has happened.
    pub fn failed(&mut self, code: ErrorCode, message: &str) -> Option<(Origin, ChangeOutcome)> {
        let done = self.in_flight.take()?;
        let error = ChangeError {
            code,
            message: message.to_string(),
        };
        let outcome = done.outcome.iter().map(|_| Err(error.clone())).collect();
        Some((done.origin, outcome))
    }

    fn decide(
        &mut self,
        change: &Change,
        image: &Image,
        records: &mut Vec<MetadataRecord>,
    ) -> ChangeOutcome {
        match change {
            Change::CreateTopics {
                topics,
                validate_only,
            } => {
                let mut slot = image.next_core_slot();
                let outcome = self.create_topics(topics, image, &mut slot, records);
                if *validate_only {
                    records.clear();
                }
                outcome
            }
            Change::DeleteTopics { topics } => delete_topics(topics, image, records),
            Change::CreatePartitions {
                topics,
                validate_only,
            } => {
                let outcome = self.create_partitions(topics, image, records);
                if *validate_only {
                    records.clear();
                }
                outcome
            }
            Change::Configure {
                changes,
                validate_only,
            } => {
                let outcome = configure_all(changes, image, &self.config.broker_ids, records);
                if *validate_only {
                    records.clear();
                }
                outcome
            }
            Change::CreateOffsetsTopic => vec![self.create_offsets_topic(image, records)],
            Change::ProducerIds => {
                let first = image.next_producer_id();
                records.push(MetadataRecord::ProducerIds {
                    next: first + PRODUCER_ID_BLOCK,
                });
                vec![Ok(Changed::ProducerIds {
                    first,
                    count: PRODUCER_ID_BLOCK,
                })]
            }
        }
    }

    fn create_offsets_topic(
        &mut self,
        image: &Image,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<Changed, ChangeError> {
        if image.topic_by_name(OFFSETS_TOPIC).is_some() {
            return Ok(Changed::Done);
        }
        let partitions = self.config.offsets_topic_partitions;
        self.check_room(image, 1, partitions as usize)?;
        let config = OFFSETS_TOPIC_CONFIG.map(|(key, value)| (key.to_string(), value.to_string()));
        records.push(MetadataRecord::Topic {
            topic_id: self.new_topic_id(image).0,
            name: OFFSETS_TOPIC.to_string(),
            partitions,
            core_slot_base: image.next_core_slot(),
            config: config.to_vec(),
        });
        Ok(Changed::Done)
    }

    fn create_topics(
        &mut self,
        topics: &[NewTopic],
        image: &Image,
        slot: &mut u32,
        records: &mut Vec<MetadataRecord>,
    ) -> ChangeOutcome {
        let repeated = repeated(topics.iter().map(|topic| topic.name.as_str()));
        let mut added = 0usize;
        topics
            .iter()
            .map(|topic| {
                once(&topic.name, &repeated)?;
                let partitions = self.check_new_topic(topic, image)?;
                self.check_room(image, records.len() + 1, added + partitions as usize)?;
                let overrides = check_configs(&topic.configs, image)?;
                added += partitions as usize;
                let topic_id = self.new_topic_id(image);
                *slot = self.first_slot(topic, *slot);
                records.push(MetadataRecord::Topic {
                    topic_id: topic_id.0,
                    name: topic.name.clone(),
                    partitions,
                    core_slot_base: *slot,
                    config: overrides.clone(),
                });
                *slot = slot.wrapping_add(partitions);
                Ok(Changed::Created {
                    topic_id,
                    partitions,
                    overrides,
                })
            })
            .collect()
    }

    /// The core slot, `next` or soon after it, that puts a topic's first partition where its
    /// assignment wants it. The others follow round the cores whatever they were assigned to: all
    /// ids are this node, and metadata says which core leads.
    fn first_slot(&self, topic: &NewTopic, next: u32) -> u32 {
        let wanted = topic.assignments.iter().find(|(index, _)| *index == 0);
        let core = wanted
            .and_then(|(_, brokers)| brokers.first())
            .filter(|_| self.config.broker_ids.len() > 1)
            .and_then(|wanted| self.config.broker_ids.iter().position(|id| id == wanted));
        let Some(core) = core else { return next };
        let cores = self.config.cores as u32;
        let ahead = (core as u32 + cores - next % cores) % cores;
        next.wrapping_add(ahead)
    }

    /// Whether the node holds so much more than it does.
    fn check_room(
        &self,
        image: &Image,
        topics_added: usize,
        partitions_added: usize,
    ) -> Result<(), ChangeError> {
        let config = &self.config;
        if image.topic_count() + topics_added <= config.topics_max
            && image.partition_count() + partitions_added <= config.partitions_max
        {
            return Ok(());
        }
        refuse(
            ErrorCode::PolicyViolation,
            format!(
                "this node holds at most topics_max={} topics and partitions_max={} partitions",
                config.topics_max, config.partitions_max
            ),
        )
    }

    fn check_new_topic(&self, topic: &NewTopic, image: &Image) -> Result<u32, ChangeError> {
        check_topic_name(&topic.name)?;
        check_not_internal(&topic.name)?;
        if image.topic_by_name(&topic.name).is_some() {
            let message = format!("topic '{}' already exists", topic.name);
            return refuse(ErrorCode::TopicAlreadyExists, message);
        }
        if !topic.assignments.is_empty() {
            return self.check_assignments(topic);
        }
        if topic.replication_factor != -1 && topic.replication_factor != 1 {
            return refuse(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "replication factor is {}; allowed is 1, the number of brokers",
                    topic.replication_factor
                ),
            );
        }
        match topic.partitions {
            -1 => Ok(self.config.num_partitions as u32),
            n if n >= 1 && n as usize <= PARTITIONS_PER_TOPIC_MAX => Ok(n as u32),
            n => refuse(
                ErrorCode::InvalidPartitions,
                format!("number of partitions is {n}; allowed is 1 to {PARTITIONS_PER_TOPIC_MAX}"),
            ),
        }
    }

    fn check_assignments(&self, topic: &NewTopic) -> Result<u32, ChangeError> {
        if topic.partitions != -1 || topic.replication_factor != -1 {
            return refuse(
                ErrorCode::InvalidRequest,
                "a manual assignment excludes number of partitions and replication factor",
            );
        }
        let mut indexes: Vec<i32> = topic.assignments.iter().map(|(index, _)| *index).collect();
        indexes.sort_unstable();
        let consecutive = indexes
            .iter()
            .enumerate()
            .all(|(at, index)| at as i32 == *index);
        if !consecutive || indexes.len() > PARTITIONS_PER_TOPIC_MAX {
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                "assigned partitions must be numbered from 0 without gaps",
            );
        }
        for (index, brokers) in &topic.assignments {
            self.check_brokers(*index, brokers)?;
        }
        Ok(indexes.len() as u32)
    }

    fn check_brokers(&self, index: i32, brokers: &[i32]) -> Result<(), ChangeError> {
        if let [broker] = brokers
            && self.config.broker_ids.contains(broker)
        {
            return Ok(());
        }
        let named = &brokers[..brokers.len().min(BROKERS_QUOTED_MAX)];
        refuse(
            ErrorCode::InvalidReplicaAssignment,
            format!(
                "partition {index} is assigned to {} brokers, {named:?}; allowed is one of {:?}",
                brokers.len(),
                self.config.broker_ids
            ),
        )
    }

    fn create_partitions(
        &self,
        topics: &[(String, i32, Option<Assignments>)],
        image: &Image,
        records: &mut Vec<MetadataRecord>,
    ) -> ChangeOutcome {
        let repeated = repeated(topics.iter().map(|(name, ..)| name.as_str()));
        let mut added = 0usize;
        topics
            .iter()
            .map(|(name, total, assignments)| {
                once(name, &repeated)?;
                let topic = known_topic(name, image)?;
                check_not_internal(name)?;
                let more = self.check_growth(topic, *total, assignments.as_ref())?;
                self.check_room(image, 0, added + more)?;
                added += more;
                records.push(MetadataRecord::Partitions {
                    topic_id: topic.id.0,
                    total: *total as u32,
                });
                Ok(Changed::Done)
            })
            .collect()
    }

    /// How many partitions are added to a topic that is to have `total`.
    fn check_growth(
        &self,
        topic: &Topic,
        total: i32,
        assignments: Option<&Assignments>,
    ) -> Result<usize, ChangeError> {
        if i64::from(total) <= i64::from(topic.partitions)
            || total as usize > PARTITIONS_PER_TOPIC_MAX
        {
            return refuse(
                ErrorCode::InvalidPartitions,
                format!(
                    "topic {} has {} partitions, {total} were asked for; allowed is more, up to \
                     {PARTITIONS_PER_TOPIC_MAX}",
                    topic.name, topic.partitions
                ),
            );
        }
        let added = total as usize - topic.partitions as usize;
        let Some(assignments) = assignments else {
            return Ok(added);
        };
        if assignments.len() != added {
            let message = format!(
                "{added} partitions are added, {} assigned",
                assignments.len()
            );
            return refuse(ErrorCode::InvalidReplicaAssignment, message);
        }
        for (at, brokers) in assignments.iter().enumerate() {
            self.check_brokers(topic.partitions as i32 + at as i32, brokers)?;
        }
        Ok(added)
    }

    fn new_topic_id(&mut self, image: &Image) -> TopicId {
        loop {
            let mut bytes = [0u8; 16];
            self.ids.fill(&mut bytes);
            // Version 4, variant 1 (RFC 9562), as Kafka's ids are.
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let id = TopicId(bytes);
            if id != METADATA_TOPIC_ID && !id.is_zero() && image.topic(id).is_none() {
                return id;
            }
        }
    }
}

impl Change {
    /// Number of results its outcome has.
    #[must_use]
    pub fn entries(&self) -> usize {
        match self {
            Change::CreateTopics { topics, .. } => topics.len(),
            Change::DeleteTopics { topics } => topics.len(),
            Change::CreatePartitions { topics, .. } => topics.len(),
            Change::Configure { changes, .. } => changes.len(),
            Change::ProducerIds | Change::CreateOffsetsTopic => 1,
        }
    }
}

/// Whether a client's topic may have this name, by Kafka's rules.
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = !name.is_empty() && name.len() <= TOPIC_NAME_BYTES_MAX;
    let special = name == "." || name == ".." || name == METADATA_TOPIC;
    fits && !special && name.bytes().all(legal)
}

fn check_topic_name(name: &str) -> Result<(), ChangeError> {
    if is_topic_name(name) {
        return Ok(());
    }
    if name == METADATA_TOPIC {
        let message =
            format!("topic {name} is the broker's own: it is neither created nor changed");
        return refuse(ErrorCode::InvalidRequest, message);
    }
    refuse(
        ErrorCode::InvalidTopicException,
        format!(
            "topic name {name:?} is invalid; allowed are 1 to {TOPIC_NAME_BYTES_MAX} of the \
             characters a-z A-Z 0-9 . _ -, but not \".\" or \"..\""
        ),
    )
}

/// The topic of offsets is the broker's to make and to keep: without it, or with another number of
/// partitions, groups would not be found where they are.
fn check_not_internal(name: &str) -> Result<(), ChangeError> {
    if !is_internal(name) {
        return Ok(());
    }
    refuse(
        ErrorCode::InvalidRequest,
        format!(
            "topic {name} is the broker's own: it is created when the first group comes or a \
             client looks for it, and is neither configured, extended nor deleted"
        ),
    )
}

fn known_topic<'a>(name: &str, image: &'a Image) -> Result<&'a Topic, ChangeError> {
    match image.topic_by_name(name) {
        Some(topic) => Ok(topic),
        None => refuse(
            ErrorCode::UnknownTopicOrPartition,
            format!("topic '{name}' does not exist"),
        ),
    }
}

fn delete_topics(
    topics: &[TopicRef],
    image: &Image,
    records: &mut Vec<MetadataRecord>,
) -> ChangeOutcome {
    let found: Vec<Result<&Topic, ChangeError>> = topics
        .iter()
        .map(|reference| referenced_topic(reference, image))
        .collect();
    // A name and an id may mean the same topic.
    let repeated = repeated(found.iter().flatten().map(|topic| &*topic.name));
    found
        .into_iter()
        .map(|topic| {
            let topic = topic?;
            once(&topic.name, &repeated)?;
            check_not_internal(&topic.name)?;
            records.push(MetadataRecord::TopicDeleted {
                topic_id: topic.id.0,
            });
            Ok(Changed::Deleted {
                topic_id: topic.id,
                name: topic.name.to_string(),
            })
        })
        .collect()
}

fn referenced_topic<'a>(reference: &TopicRef, image: &'a Image) -> Result<&'a Topic, ChangeError> {
    match reference {
        TopicRef::Name(name) => known_topic(name, image),
        TopicRef::Id(id) => match image.topic(*id) {
            Some(topic) => Ok(topic),
            None => {
                let message = format!("there is no topic with id {id}");
                refuse(ErrorCode::UnknownTopicId, message)
            }
        },
        TopicRef::Unclear => refuse(
            ErrorCode::InvalidRequest,
            "a topic is named either by its name or by its id",
        ),
    }
}

/// The names that a request gives more than once. A tree, because a client chooses the names and
/// may choose many.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// Refuses every mention of a name given more than once, as Kafka does: which of them was meant is
/// not known.
fn once(name: &str, repeated: &BTreeSet<&str>) -> Result<(), ChangeError> {
    if !repeated.contains(name) {
        return Ok(());
    }
    refuse(
        ErrorCode::InvalidRequest,
        format!("topic {name} is named more than once in the request"),
    )
}

#[cfg(test)]
mod tests;
