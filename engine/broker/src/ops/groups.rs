//! The consumer groups of this core, as the operations thread sees them.

use highwater_groups::GroupView;
use highwater_ops::figures::{
    BoundFigure, BoundScope, CommittedOffset, CoordinatorFigures, GroupDetail, GroupFigures,
    GroupPlace, GroupsPage, MEMBERS_TOLD_MAX, MemberFigures, OFFSETS_TOLD_MAX,
};

use crate::partition_table::Owner;
use crate::shard::Shard;

impl Shard {
    /// The coordinator's own numbers.
    pub(super) fn coordinator_figures(&self) -> CoordinatorFigures {
        let coordinator = self.groups.coordinator();
        let counters = coordinator.counters();
        let (mut damaged, mut uncertain) = (0, 0);
        for damage in coordinator.damaged_partitions() {
            damaged += 1;
            uncertain += damage.uncertain_offsets as u64;
        }
        CoordinatorFigures {
            rebalances: counters.rebalances_completed,
            joins: counters.joins,
            member_expirations: counters.member_expirations,
            commits: counters.commits,
            offsets_committed: counters.offsets_committed,
            offsets_expired: counters.offsets_expired,
            records_skipped: counters.records_skipped,
            snapshots: counters.snapshots,
            writes_failed: counters.writes_failed,
            pending_writes: coordinator.pending_writes() as u64,
            log_bytes: coordinator.log_bytes(),
            requests_waiting: self.groups.requests_waiting() as u64,
            partitions_loading: coordinator.loading_partitions() as u64,
            partitions_damaged: damaged,
            partitions_unavailable: coordinator.unavailable_partitions().count() as u64,
            offsets_uncertain: uncertain,
        }
    }

    /// The bounds on groups. The largest group is not looked for: there may be a million.
    pub(super) fn group_bounds(&self) -> Vec<BoundFigure> {
        let coordinator = self.groups.coordinator();
        let limits = coordinator.config();
        let bound = |name, limit: usize, used: Option<usize>| BoundFigure {
            name,
            limit: limit as u64,
            used: used.map(|used| used as u64),
            met: None,
            scope: BoundScope::Core,
        };
        let groups = coordinator.group_count();
        vec![
            bound("groups", limits.groups_max, Some(groups)),
            bound("group_bytes", limits.group_bytes_max, None),
        ]
    }

    /// The groups behind a place.
    pub(super) fn group_page(
        &self,
        after: Option<&GroupPlace>,
        groups_max: usize,
        offsets_max: usize,
        detail: GroupDetail,
    ) -> GroupsPage {
        let after = after.map(|place| (place.partition, place.group.as_str()));
        let mut page = GroupsPage::default();
        let (mut looked_at, mut offsets) = (0, 0);
        for view in self.groups.coordinator().groups_after(after) {
            let summary = view.summary();
            *page.states.entry(summary.state.name()).or_default() += 1;
            if detail != GroupDetail::Counts {
                let figures = self.figures_of(view, detail);
                offsets += figures.committed.len();
                page.groups.push(figures);
            }
            looked_at += 1;
            if looked_at >= groups_max || offsets >= offsets_max {
                page.next = Some(GroupPlace {
                    partition: view.partition,
                    group: summary.group.to_owned(),
                });
                break;
            }
        }
        page
    }

    /// One group, if this core coordinates it.
    pub(super) fn group_figures(&self, group: &str) -> Option<GroupFigures> {
        let view = self.groups.coordinator().group_named(group)?;
        Some(self.figures_of(view, GroupDetail::Members))
    }

    fn figures_of(&self, view: GroupView<'_>, detail: GroupDetail) -> GroupFigures {
        let summary = view.summary();
        let members = match detail {
            GroupDetail::Members => MEMBERS_TOLD_MAX,
            GroupDetail::Counts | GroupDetail::Offsets => 0,
        };
        let members = view.members().take(members).map(|member| MemberFigures {
            member: member.member.to_owned(),
            instance: member.instance.map(str::to_owned),
            client_id: member.client_id.to_owned(),
            client_host: member.client_host.to_owned(),
        });
        let committed = view.offsets().take(OFFSETS_TOLD_MAX);
        let committed = committed.map(|entry| CommittedOffset {
            topic: entry.topic.to_owned(),
            partition: entry.partition.unsigned_abs(),
            offset: entry.offset,
            lag: None,
            is_uncertain: entry.is_uncertain,
        });
        GroupFigures {
            group: summary.group.to_owned(),
            core: self.core.0,
            state: summary.state.name().to_owned(),
            protocol_type: summary.protocol_type.to_owned(),
            generation: summary.generation,
            member_count: summary.members as u64,
            members: members.collect(),
            committed_count: summary.offsets as u64,
            committed: committed.collect(),
        }
    }

    /// The high-water mark of a partition of this core.
    pub(super) fn mark_of(&self, topic: &str, partition: u32) -> Option<i64> {
        let entry = self.table.by_name(topic)?;
        match entry.owner(i32::try_from(partition).ok()?, self.cores)? {
            Owner::Here(log) => Some(self.store.high_watermark(log).0),
            Owner::Offline | Owner::Elsewhere(_) => None,
        }
    }
}
