//! Incremental fetch sessions (KIP-227), kept with the connection they were made on.
//!
//! A client sends what changed, the broker remembers the rest and answers only what is new. A
//! session ends with its connection: a client that comes back on another one is told
//! FETCH_SESSION_ID_NOT_FOUND and starts a new one, as the protocol allows at any time.

use std::sync::Arc;

use highwater_base::limits::FETCH_SESSION_PARTITIONS_MAX;
use highwater_base::{ErrorCode, TopicId};

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
}

impl FetchTarget {
    /// Bytes wanted of the partition, at most.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        usize::try_from(self.bytes_max).unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
struct SessionPartition {
    target: FetchTarget,
    told_high_watermark: i64,
    told_log_start: i64,
}

/// The partitions a client has asked for and what it was last told of each.
#[derive(Clone, Debug)]
pub struct FetchSession {
    id: i32,
    next_epoch: i32,
    partitions: Vec<SessionPartition>,
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
    /// Opens a session over the targets of a full fetch; `None` when there are too many.
    #[must_use]
    pub fn open(id: i32, targets: &[FetchTarget]) -> Option<FetchSession> {
        if targets.len() > FETCH_SESSION_PARTITIONS_MAX {
            return None;
        }
        let partitions = targets.iter().cloned().map(SessionPartition::new).collect();
        Some(FetchSession {
            id,
            next_epoch: 1,
            partitions,
            rotation: 0,
        })
    }

    /// The session's id, as the client names it.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
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
        let known = self.position(target.topic_id, &target.topic, target.partition);
        match known {
            Some(at) => self.partitions[at].target = target,
            None if self.partitions.len() >= FETCH_SESSION_PARTITIONS_MAX => {
                return Err(ErrorCode::InvalidRequest);
            }
            None => self.partitions.push(SessionPartition::new(target)),
        }
        Ok(())
    }

    /// Forgets a partition.
    pub fn forget(&mut self, topic_id: TopicId, topic: &str, partition: i32) {
        if let Some(at) = self.position(topic_id, topic, partition) {
            self.partitions.remove(at);
        }
    }

    fn position(&self, topic_id: TopicId, topic: &str, partition: i32) -> Option<usize> {
        self.partitions.iter().position(|known| {
            known.target.partition == partition
                && known.target.topic_id == topic_id
                && *known.target.topic == *topic
        })
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
    pub fn tell(
        &mut self,
        topic_id: TopicId,
        topic: &str,
        partition: i32,
        high_watermark: i64,
        log_start: i64,
    ) -> bool {
        let Some(at) = self.position(topic_id, topic, partition) else {
            return true;
        };
        let known = &mut self.partitions[at];
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
        }
    }

    #[test]
    fn a_session_advances_by_one_and_only_under_its_id() {
        let mut session = FetchSession::open(7, &[target("a", 0, 0)]).expect("small");
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
        let mut session = FetchSession::open(7, &[target("a", 0, 0)]).expect("small");
        assert!(session.tell(TopicId::ZERO, "a", 0, 5, 0));
        assert!(!session.tell(TopicId::ZERO, "a", 0, 5, 0));
        assert!(session.tell(TopicId::ZERO, "a", 0, 6, 0));
    }

    #[test]
    fn partitions_are_updated_forgotten_and_rotated() {
        let targets = [target("a", 0, 0), target("a", 1, 0), target("b", 0, 0)];
        let mut session = FetchSession::open(7, &targets).expect("small");
        session.update(target("a", 1, 50)).expect("known");
        session.forget(TopicId::ZERO, "a", 0);
        let first: Vec<i64> = session.targets().map(|target| target.offset).collect();
        let second: Vec<i64> = session.targets().map(|target| target.offset).collect();
        assert_eq!((first, second), (vec![50, 0], vec![0, 50]));
    }
}
