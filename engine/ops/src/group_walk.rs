//! Goes through the groups of all cores, a page at a time, and works out their lags.
//!
//! A node may have a million groups. So many are told in full as were asked for; the others are
//! counted by state, and between two pages a core does its work.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::collect::{Cores, Silent, ask, ask_all};
use crate::figures::{
    Answer, CommittedOffset, GroupDetail, GroupFigures, GroupPlace, GroupsPage, Question,
};

/// Groups a core looks at for one question.
const GROUPS_PER_QUESTION_MAX: usize = 1024;
/// Committed offsets a core tells in one answer before it ends the page.
const OFFSETS_PER_QUESTION_MAX: usize = 4096;
/// Partitions a core looks up for one question.
const MARKS_PER_QUESTION_MAX: usize = 4096;

/// What a walk through all groups found.
#[derive(Debug, Default)]
pub struct Groups {
    /// In the order of the cores and of their partitions.
    pub told: Vec<GroupFigures>,
    /// All groups by state.
    pub states: BTreeMap<&'static str, u64>,
}

/// Where a page of the list begins: behind this group of this core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCursor {
    pub core: u16,
    pub after: Option<GroupPlace>,
}

impl GroupCursor {
    /// The cursor as clients hand it back.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.after {
            None => format!("{}", self.core),
            Some(GroupPlace { partition, group }) => format!("{}.{partition}.{group}", self.core),
        }
    }

    /// Reads it; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<GroupCursor> {
        let mut parts = text.splitn(3, '.');
        let core = parts.next()?.parse().ok()?;
        let after = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(partition), Some(group)) => Some(GroupPlace {
                partition: partition.parse().ok()?,
                group: group.to_owned(),
            }),
            (Some(_), None) => return None,
        };
        Some(GroupCursor { core, after })
    }
}

async fn page(
    cores: &dyn Cores,
    core: u16,
    after: Option<GroupPlace>,
    groups_max: usize,
    detail: GroupDetail,
) -> Result<GroupsPage, Silent> {
    let question = Question::Groups {
        after,
        groups_max,
        offsets_max: OFFSETS_PER_QUESTION_MAX,
        detail,
    };
    match ask(cores, core, question).await? {
        Answer::Groups(page) => Ok(page),
        _ => Ok(GroupsPage::default()),
    }
}

/// All groups: the first `told_max` of each core with their offsets while fewer than `offsets_max`
/// offsets are told, the others as numbers.
///
/// # Errors
/// A core that does not answer.
pub async fn all(cores: &dyn Cores, told_max: usize, offsets_max: usize) -> Result<Groups, Silent> {
    let mut found = Groups::default();
    let mut offsets = 0;
    for core in 0..cores.count() {
        let (mut after, mut told) = (None, 0);
        loop {
            let left = told_max.saturating_sub(told).min(GROUPS_PER_QUESTION_MAX);
            let page = match left > 0 && offsets < offsets_max {
                true => page(cores, core, after, left, GroupDetail::Offsets).await?,
                false => {
                    let groups_max = GROUPS_PER_QUESTION_MAX;
                    page(cores, core, after, groups_max, GroupDetail::Counts).await?
                }
            };
            told += page.groups.len();
            let committed = page.groups.iter().map(|group| group.committed.len());
            offsets += committed.sum::<usize>();
            found.told.extend(page.groups);
            for (state, count) in page.states {
                *found.states.entry(state).or_default() += count;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    add_lags(cores, &mut found.told).await?;
    Ok(found)
}

/// At most `limit` groups with everything there is of them, and where the next page begins.
///
/// # Errors
/// A core that does not answer.
pub async fn list(
    cores: &dyn Cores,
    from: GroupCursor,
    limit: usize,
) -> Result<(Vec<GroupFigures>, Option<GroupCursor>), Silent> {
    let mut told = Vec::new();
    let mut at = from;
    while at.core < cores.count() && told.len() < limit {
        let wanted = (limit - told.len()).min(GROUPS_PER_QUESTION_MAX);
        let page = page(cores, at.core, at.after, wanted, GroupDetail::Members).await?;
        told.extend(page.groups);
        at = match page.next {
            Some(place) => GroupCursor {
                core: at.core,
                after: Some(place),
            },
            None => GroupCursor {
                core: at.core + 1,
                after: None,
            },
        };
    }
    add_lags(cores, &mut told).await?;
    let is_end = at.core >= cores.count();
    Ok((told, (!is_end).then_some(at)))
}

/// One group.
///
/// # Errors
/// A core that does not answer.
pub async fn one(cores: &dyn Cores, group: &str) -> Result<Option<GroupFigures>, Silent> {
    let question = Question::Group {
        group: group.to_owned(),
    };
    let answers = ask_all(cores, &question).await?;
    let mut found: Vec<GroupFigures> = answers
        .into_iter()
        .filter_map(|answer| match answer {
            Answer::Group(group) => group,
            _ => None,
        })
        .collect();
    add_lags(cores, &mut found).await?;
    Ok(found.pop())
}

/// Gives each committed offset its distance to the high-water mark.
async fn add_lags(cores: &dyn Cores, groups: &mut [GroupFigures]) -> Result<(), Silent> {
    let mut marks: BTreeMap<(String, u32), Option<i64>> = BTreeMap::new();
    for committed in groups.iter().flat_map(|group| &group.committed) {
        marks.insert((committed.topic.clone(), committed.partition), None);
    }
    let wanted: Vec<(String, u32)> = marks.keys().cloned().collect();
    for chunk in wanted.chunks(MARKS_PER_QUESTION_MAX) {
        let partitions = Arc::new(chunk.to_vec());
        let question = Question::Marks {
            partitions: Arc::clone(&partitions),
        };
        for answer in ask_all(cores, &question).await? {
            let Answer::Marks(found) = answer else {
                continue;
            };
            for (partition, mark) in partitions.iter().zip(found) {
                if mark.is_some() {
                    marks.insert(partition.clone(), mark);
                }
            }
        }
    }
    for committed in groups.iter_mut().flat_map(|group| &mut group.committed) {
        let CommittedOffset {
            topic, partition, ..
        } = committed;
        let mark = marks.get(&(topic.clone(), *partition)).copied().flatten();
        committed.lag = mark.map(|mark| (mark - committed.offset).max(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_being_handed_out_whatever_the_group_is_called() {
        let place = |group: &str| GroupCursor {
            core: 3,
            after: Some(GroupPlace {
                partition: 49,
                group: group.to_owned(),
            }),
        };
        let start = GroupCursor {
            core: 2,
            after: None,
        };
        for cursor in [start, place("billing"), place("a.b.c"), place("")] {
            assert_eq!(GroupCursor::parse(&cursor.text()), Some(cursor));
        }
        for wrong in ["", "x", "1.2", "1.x.a", "70000"] {
            assert_eq!(GroupCursor::parse(wrong), None, "{wrong}");
        }
    }
}
