//! What administrators and metrics are shown.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use highwater_base::ErrorCode;

use crate::answer::{DescribedGroup, GroupAnswer, ListedGroup};
use crate::coordinator::Coordinator;
use crate::damage::INCOMPLETE;
use crate::group::{Group, GroupState};
use crate::partition::{Partition, Phase, RecordKey};
use crate::partitioning::offsets_partition;
use crate::turn::GroupCounters;

/// ListGroups' name for groups of the protocol served here.
const GROUP_TYPE: &str = "classic";

/// One group in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSummary<'a> {
    pub group: &'a str,
    pub state: GroupState,
    /// Empty if it never had members.
    pub protocol_type: &'a str,
    pub members: usize,
    pub generation: i32,
    /// Partitions it has committed offsets of.
    pub offsets: usize,
}

/// One committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedEntry<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// A later commit may have been lost with a part of the log: clients are not told this one.
    pub is_uncertain: bool,
}

/// One member in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberSummary<'a> {
    pub member: &'a str,
    pub instance: Option<&'a str>,
    pub client_id: &'a str,
    pub client_host: &'a str,
}

/// A group to look at.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// The partition of `__consumer_offsets` it belongs to.
    pub partition: u32,
    group: &'a Group,
    here: &'a Partition,
}

impl<'a> GroupView<'a> {
    /// The group in short.
    #[must_use]
    pub fn summary(&self) -> GroupSummary<'a> {
        let group = self.group;
        GroupSummary {
            group: &group.id,
            state: group.state,
            protocol_type: group.protocol_type.as_deref().unwrap_or_default(),
            members: group.members.len(),
            generation: group.generation,
            offsets: group.offsets.values().map(BTreeMap::len).sum(),
        }
    }

    /// Its members by id.
    pub fn members(&self) -> impl Iterator<Item = MemberSummary<'a>> + use<'a> {
        self.group.members.iter().map(|(id, member)| MemberSummary {
            member: id,
            instance: member.instance.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
        })
    }

    /// Its committed offsets that readers may see.
    pub fn offsets(&self) -> impl Iterator<Item = CommittedEntry<'a>> + use<'a> {
        let (group, here) = (self.group, self.here);
        let topics = group.offsets.iter();
        let slots = topics.flat_map(|(topic, slots)| slots.iter().map(move |slot| (topic, slot)));
        slots.filter_map(move |(topic, (partition, slot))| {
            slot.durable().map(|stored| CommittedEntry {
                group: &group.id,
                topic,
                partition: *partition,
                offset: stored.offset,
                is_uncertain: here.damage.is_some()
                    && here.is_uncertain(&RecordKey::Offset {
                        group: Arc::clone(&group.id),
                        topic: Arc::clone(topic),
                        partition: *partition,
                    }),
            })
        })
    }
}

fn passes(filter: &[String], value: &str) -> bool {
    filter.is_empty()
        || filter
            .iter()
            .any(|wanted| wanted.eq_ignore_ascii_case(value))
}

impl Coordinator {
    fn known_groups(&self) -> impl Iterator<Item = &Group> {
        self.groups_after(None).map(|view| view.group)
    }

    /// The groups behind a place, in the order of their partitions and ids: a walk through all of
    /// them can be interrupted and go on later.
    pub fn groups_after<'a>(
        &'a self,
        place: Option<(u32, &'a str)>,
    ) -> impl Iterator<Item = GroupView<'a>> {
        let (first, behind) = match place {
            None => (0, None),
            Some((partition, group)) => {
                (partition, self.partitions.get(&partition).zip(Some(group)))
            }
        };
        let rest = behind.into_iter().flat_map(|(here, id)| {
            let bounds = (Bound::Excluded(id), Bound::Unbounded);
            let groups = here.groups.range::<str, _>(bounds);
            groups.map(move |(_, group)| (here, group))
        });
        let from = match place {
            None => Bound::Included(first),
            Some(_) => Bound::Excluded(first),
        };
        let others = self.partitions.range((from, Bound::Unbounded));
        let others =
            others.flat_map(|(_, here)| here.groups.values().map(move |group| (here, group)));
        rest.chain(others)
            .filter(|(here, group)| here.phase == Phase::Active && !group.is_unknown())
            .map(|(here, group)| GroupView {
                partition: here.index,
                group,
                here,
            })
    }

    /// One group, if it is known here.
    #[must_use]
    pub fn group_named(&self, id: &str) -> Option<GroupView<'_>> {
        let index = offsets_partition(id, self.config.offsets_partitions);
        let here = self.partitions.get(&index)?;
        let group = here.groups.get(id).filter(|group| !group.is_unknown())?;
        (here.phase == Phase::Active).then_some(GroupView {
            partition: index,
            group,
            here,
        })
    }

    /// Groups in memory, against `groups_max`.
    #[must_use]
    pub fn group_count(&self) -> usize {
        let partitions = self.partitions.values();
        partitions.map(|here| here.groups.len()).sum()
    }

    pub(crate) fn list(
        &self,
        states: &[String],
        types: &[String],
        protocol_types: &[String],
    ) -> GroupAnswer {
        let is_loading = self.loading_partitions() > 0;
        let may_lack_groups = self.partitions.values().any(Partition::may_lack_groups);
        let error = if is_loading {
            ErrorCode::CoordinatorLoadInProgress
        } else if may_lack_groups {
            INCOMPLETE
        } else {
            ErrorCode::None
        };
        let groups = self.known_groups().filter(|group| {
            let protocol_type = group.protocol_type.as_deref().unwrap_or_default();
            passes(states, group.state.name())
                && passes(types, GROUP_TYPE)
                && passes(protocol_types, protocol_type)
        });
        let groups = groups.map(|group| ListedGroup {
            group: group.id.to_string(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            state: group.state.name(),
            group_type: GROUP_TYPE,
        });
        GroupAnswer::List {
            error,
            groups: groups.collect(),
        }
    }

    pub(crate) fn describe(&self, index: u32, id: &str) -> DescribedGroup {
        let here = self.partitions.get(&index);
        let group = here.and_then(|here| here.groups.get(id));
        let Some(group) = group.filter(|group| !group.is_unknown()) else {
            if here.is_some_and(Partition::may_lack_groups) {
                return DescribedGroup::without_members(id, "", INCOMPLETE);
            }
            return DescribedGroup::without_members(id, "Dead", ErrorCode::None);
        };
        let is_stable = group.state == GroupState::Stable;
        let protocol = group.protocol.as_deref().filter(|_| is_stable);
        let members = group.members.iter();
        DescribedGroup {
            error: ErrorCode::None,
            group: id.to_owned(),
            state: group.state.name(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: members
                .map(|(id, member)| member.described(id, protocol))
                .collect(),
        }
    }

    /// All groups that are served.
    pub fn groups(&self) -> impl Iterator<Item = GroupSummary<'_>> {
        self.groups_after(None).map(|view| view.summary())
    }

    /// All committed offsets that readers may see.
    pub fn committed_offsets(&self) -> impl Iterator<Item = CommittedEntry<'_>> {
        self.groups_after(None).flat_map(|view| view.offsets())
    }

    /// How many groups are in each state.
    #[must_use]
    pub fn groups_by_state(&self) -> BTreeMap<GroupState, usize> {
        let mut counts: BTreeMap<_, _> = GroupState::ALL.map(|state| (state, 0)).into();
        for group in self.known_groups() {
            *counts.entry(group.state).or_default() += 1;
        }
        counts
    }

    /// What happened since the process started.
    #[must_use]
    pub fn counters(&self) -> &GroupCounters {
        &self.counters
    }

    /// Writes that are not durable yet.
    #[must_use]
    pub fn pending_writes(&self) -> usize {
        let partitions = self.partitions.values();
        partitions.map(|here| here.pending_writes()).sum()
    }

    /// Partitions whose log is being read.
    #[must_use]
    pub fn loading_partitions(&self) -> usize {
        let partitions = self.partitions.values();
        partitions
            .filter(|here| here.phase == Phase::Loading)
            .count()
    }

    /// What the logs hold, live records and those a snapshot will replace.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        let partitions = self.partitions.values();
        let bytes = partitions.map(|here| here.log_bytes());
        bytes.sum()
    }
}
