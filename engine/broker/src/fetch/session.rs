//! Incremental fetch sessions (KIP-227), kept with the connection they were made on.
//!
//! A client sends what changed, the broker remembers the rest and answers only what is new. A
//! session ends with its connection: a client that comes back on another one is told
//! FETCH_SESSION_ID_NOT_FOUND and starts a new one, as the protocol allows at any time.

use std::sync::Arc;

use highwater_base::limits::FETCH_SESSION_PARTITIONS_MAX;
use highwater_base::{ErrorCode, TopicId};

use crate::metadata::image::LookupMap;

/// One partition a client fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTarget {
    pub topic_id: TopicId,
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub bytes_max: i32,
    /// Where the session keeps the partition, so that it is found without a search. It may have
    /// moved since.
    pub session_place: u32,
}

impl FetchTarget {
    /// Bytes wanted of the partition, at most.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        usize::try_from(self.bytes_max).unwrap_or(0)
    }

    fn key(&self) -> Key {
        Key {
            topic_id: self.topic_id,
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        }
    }

    fn is_same_partition(&self, other: &FetchTarget) -> bool {
        self.partition == other.partition
            && self.topic_id == other.topic_id
            && self.topic == other.topic
    }
}

/// A partition as the client names it: one of id and name is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    topic_id: TopicId,
    topic: Arc<str>,
    partition: i32,
}

#[derive(Clone, Debug)]
struct SessionPartition {
    target: FetchTarget,
    told_high_watermark: i64,
    told_log_start: i64,
    forgotten: bool,
}

/// The partitions a client has asked for and what it was last told of each.
#[derive(Clone, Debug)]
pub struct FetchSession {
    id: i32,
    next_epoch: i32,
    partitions: Vec<SessionPartition>,
    places: LookupMap<Key, u32>,
    any_forgotten: bool,
    /// Where the next answer starts, so that a small `max_bytes` starves no partition.
    rotation: usize,
}

/// What a request's session fields ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// Full fetch, no session wanted, an existing one ends (epoch -1).
    Sessionless,
    /// Full fetch that opens a session (epoch 0).
    Open,
    /// Continue session `id` at `epoch`.
    Continue { id: i32, epoch: i32 },
}

impl SessionRequest {
    /// Sorts the two fields of a request.
    #[must_use]
    pub fn of(id: i32, epoch: i32) -> SessionRequest {
        match epoch {
            -1 => SessionRequest::Sessionless,
            0 => SessionRequest::Open,
            epoch => SessionRequest::Continue { id, epoch },
        }
    }
}

impl FetchSession {
    /// Opens a session over the targets of a full fetch, which learn their places; `None` when there
    /// are too many.
    #[must_use]
    pub fn open(id: i32, targets: &mut [FetchTarget]) -> Option<FetchSession> {
        if targets.len() > FETCH_SESSION_PARTITIONS_MAX {
            return None;
        }
        let mut session = FetchSession {
            id,
            next_epoch: 1,
            partitions: Vec::with_capacity(targets.len()),
            places: LookupMap::default(),
            any_forgotten: false,
            rotation: 0,
        };
        for target in targets {
            target.session_place = session.put(target.clone());
        }
        Some(session)
    }

    /// The session's id, as the client names it.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// How many partitions it holds.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// Accepts the next request of the session.
    ///
    /// # Errors
    /// FETCH_SESSION_ID_NOT_FOUND or INVALID_FETCH_SESSION_EPOCH.
    pub fn advance(&mut self, id: i32, epoch: i32) -> Result<(), ErrorCode> {
        if id != self.id {
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if epoch != self.next_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        self.next_epoch = if self.next_epoch == i32::MAX {
            1
        } else {
            self.next_epoch + 1
        };
        Ok(())
    }

    /// Adds a partition or renews what is wanted of it.
    ///
    /// # Errors
    /// INVALID_REQUEST beyond the bound on partitions.
    pub fn update(&mut self, target: FetchTarget) -> Result<(), ErrorCode> {
        let is_full = self.partitions.len() >= FETCH_SESSION_PARTITIONS_MAX;
        if is_full && !self.places.contains_key(&target.key()) {
            return Err(ErrorCode::InvalidRequest);
        }
        self.put(target);
        Ok(())
    }

    fn put(&mut self, mut target: FetchTarget) -> u32 {
        let key = target.key();
        if let Some(place) = self.places.get(&key) {
            target.session_place = *place;
            self.partitions[*place as usize].target = target;
            return *place;
        }
        let place = self.partitions.len() as u32;
        target.session_place = place;
        self.places.insert(key, place);
        self.partitions.push(SessionPartition::new(target));
        place
    }

    /// Marks a partition as no longer wanted; [`FetchSession::drop_forgotten`] takes all of them out
    /// at once.
    pub fn forget(&mut self, topic_id: TopicId, topic: &Arc<str>, partition: i32) {
        let key = Key {
            topic_id,
            topic: Arc::clone(topic),
            partition,
        };
        if let Some(place) = self.places.remove(&key) {
            self.partitions[place as usize].forgotten = true;
            self.any_forgotten = true;
        }
    }

    /// Takes out what was forgotten. The order of the others stays, and so do the runs of one topic.
    pub fn drop_forgotten(&mut self) {
        if !std::mem::take(&mut self.any_forgotten) {
            return;
        }
        self.partitions.retain(|known| !known.forgotten);
        for (place, known) in self.partitions.iter_mut().enumerate() {
            known.target.session_place = place as u32;
            self.places.insert(known.target.key(), place as u32);
        }
    }

    /// All targets, starting a little further on each time.
    pub fn targets(&mut self) -> impl Iterator<Item = &FetchTarget> {
        let start = if self.partitions.is_empty() {
            0
        } else {
            self.rotation % self.partitions.len()
        };
        self.rotation = self.rotation.wrapping_add(1);
        let (before, after) = self.partitions.split_at(start);
        after
            .iter()
            .chain(before)
            .map(|partition| &partition.target)
    }

    /// Whether an answer without records about this partition says anything new; remembers what is
    /// told.
    pub fn tell(&mut self, target: &FetchTarget, high_watermark: i64, log_start: i64) -> bool {
        let mut place = target.session_place as usize;
        let hit = self.partitions.get(place);
        if !hit.is_some_and(|known| known.target.is_same_partition(target)) {
            // A later request of the client has changed the session.
            match self.places.get(&target.key()) {
                Some(moved) => place = *moved as usize,
                None => return true,
            }
        }
        let known = &mut self.partitions[place];
        let news = known.told_high_watermark != high_watermark || known.told_log_start != log_start;
        known.told_high_watermark = high_watermark;
        known.told_log_start = log_start;
        news
    }
}

impl SessionPartition {
    fn new(target: FetchTarget) -> SessionPartition {
        SessionPartition {
            target,
            told_high_watermark: -1,
            told_log_start: -1,
            forgotten: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(topic: &str, partition: i32, offset: i64) -> FetchTarget {
        FetchTarget {
            topic_id: TopicId::ZERO,
            topic: Arc::from(topic),
            partition,
            offset,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            bytes_max: 1 << 20,
            session_place: 0,
        }
    }

    #[test]
    fn a_session_advances_by_one_and_only_under_its_id() {
        let mut session = FetchSession::open(7, &mut [target("a", 0, 0)]).expect("small");
        assert_eq!(
            session.advance(8, 1),
            Err(ErrorCode::FetchSessionIdNotFound)
        );
        assert_eq!(
            session.advance(7, 2),
            Err(ErrorCode::InvalidFetchSessionEpoch)
        );
        assert_eq!(session.advance(7, 1), Ok(()));
        assert_eq!(session.advance(7, 2), Ok(()));
    }

    #[test]
    fn only_news_is_told() {
        let mut session = FetchSession::open(7, &mut [target("a", 0, 0)]).expect("small");
        assert!(session.tell(&target("a", 0, 0), 5, 0));
        assert!(!session.tell(&target("a", 0, 0), 5, 0));
        assert!(session.tell(&target("a", 0, 0), 6, 0));
    }

    #[test]
    fn partitions_are_updated_forgotten_and_rotated() {
        let mut targets = [target("a", 0, 0), target("a", 1, 0), target("b", 0, 0)];
        let mut session = FetchSession::open(7, &mut targets).expect("small");
        session.update(target("a", 1, 50)).expect("known");
        session.forget(TopicId::ZERO, &Arc::from("a"), 0);
        session.drop_forgotten();
        let first: Vec<i64> = session.targets().map(|target| target.offset).collect();
        let second: Vec<i64> = session.targets().map(|target| target.offset).collect();
        assert_eq!((first, second), (vec![50, 0], vec![0, 50]));
    }

    #[test]
    fn what_was_told_is_remembered_of_the_right_partition_after_changes() {
        let mut targets: Vec<FetchTarget> = (0..4).map(|at| target("a", at, 0)).collect();
        targets.push(target("a", 2, 7));
        let mut session = FetchSession::open(7, &mut targets).expect("small");
        let places: Vec<u32> = targets.iter().map(|target| target.session_place).collect();
        assert_eq!(places, [0, 1, 2, 3, 2], "named twice, kept once");
        assert!(session.tell(&targets[3], 5, 0));
        session.forget(TopicId::ZERO, &Arc::from("a"), 1);
        session.drop_forgotten();
        assert!(!session.tell(&targets[3], 5, 0), "found at its new place");
        assert!(session.tell(&targets[1], 5, 0), "forgotten: always news");
        session.update(target("a", 1, 9)).expect("new again");
        let listed: Vec<FetchTarget> = session.targets().cloned().collect();
        let places: Vec<u32> = listed.iter().map(|target| target.session_place).collect();
        assert_eq!(places, [0, 1, 2, 3]);
        let offsets: Vec<i64> = listed.iter().map(|target| target.offset).collect();
        assert_eq!(offsets, [0, 7, 0, 9]);
        assert!(!session.tell(&listed[2], 5, 0));
    }

    #[test]
    fn the_largest_session_is_changed_without_searching() {
        let all = FETCH_SESSION_PARTITIONS_MAX as i32;
        let topic: Arc<str> = Arc::from("a");
        let named = |partition| FetchTarget {
            topic: Arc::clone(&topic),
            ..target("", partition, 0)
        };
        let mut targets: Vec<FetchTarget> = (0..all).map(named).collect();
        let mut session = FetchSession::open(7, &mut targets).expect("just allowed");
        for partition in (0..all).rev() {
            session.update(named(partition)).expect("known");
            assert!(session.tell(&targets[partition as usize], 1, 0));
        }
        assert_eq!(session.update(named(all)), Err(ErrorCode::InvalidRequest));
        for partition in 0..all {
            session.forget(TopicId::ZERO, &topic, partition);
        }
        session.drop_forgotten();
        assert_eq!(session.targets().count(), 0);
    }
}
