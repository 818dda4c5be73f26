//! One assigned partition: where it stands and what was fetched for it.

use std::collections::VecDeque;
use std::rc::Rc;

use highwater_base::Now;

use super::Start;
use super::batches::{unpack, whole_batches};
use crate::calls::OffsetSpec;
use crate::error::ClientError;
use crate::record::FetchedRecord;

/// Answers kept per partition: the one the caller works on and the next.
const CHUNKS_MAX: usize = 2;
/// Waits before another attempt, doubled up to the maximum.
const BACKOFF_MIN_MS: u64 = 50;
const BACKOFF_MAX_MS: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The start offset is to be looked up.
    LookingUp(OffsetSpec),
    /// `position` is what the caller sees next, `fetch_offset` what is asked for next.
    Fetching { position: i64, fetch_offset: i64 },
    /// Cannot go on, and the caller knows.
    Failed,
    /// Taken away; its place may be used again.
    Released,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    read: usize,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub topic: Rc<str>,
    pub index: i32,
    pub stage: Stage,
    /// A request that concerns it is outstanding.
    pub requested: bool,
    /// The leader epoch that the last fetch named.
    pub leader_epoch: i32,
    pub high_water_mark: Option<i64>,
    pub retry_at_ns: u64,
    /// Why the next attempt waits, until one succeeds.
    pub trouble: Option<ClientError>,
    /// Why it cannot go on; told when the caller has seen what was fetched before.
    failure: Option<ClientError>,
    backoff_ms: u64,
    chunks: VecDeque<Chunk>,
}

impl Partition {
    pub fn new(topic: &str, index: i32, start: Start) -> Partition {
        let stage = match start {
            Start::At(spec) => Stage::LookingUp(spec),
            Start::Offset(offset) => Stage::Fetching {
                position: offset,
                fetch_offset: offset,
            },
        };
        Partition {
            topic: Rc::from(topic),
            index,
            stage,
            requested: false,
            leader_epoch: -1,
            high_water_mark: None,
            retry_at_ns: 0,
            trouble: None,
            failure: None,
            backoff_ms: 0,
            chunks: VecDeque::new(),
        }
    }

    pub fn subject(&self) -> String {
        format!("{}-{}", self.topic, self.index)
    }

    pub fn position(&self) -> Option<i64> {
        match self.stage {
            Stage::Fetching { position, .. } => Some(position),
            Stage::LookingUp(_) | Stage::Failed | Stage::Released => None,
        }
    }

    pub fn reached_end(&self) -> bool {
        match (self.stage, self.high_water_mark) {
            (Stage::Fetching { position, .. }, Some(end)) => position >= end,
            (Stage::Failed | Stage::Released, _) => true,
            (Stage::Fetching { .. } | Stage::LookingUp(_), _) => false,
        }
    }

    pub fn to_look_up(&self, now: Now) -> Option<OffsetSpec> {
        match self.stage {
            Stage::LookingUp(spec) if self.may_ask(now) => Some(spec),
            Stage::LookingUp(_) | Stage::Fetching { .. } | Stage::Failed | Stage::Released => None,
        }
    }

    pub fn to_fetch(&self, now: Now) -> bool {
        matches!(self.stage, Stage::Fetching { .. })
            && self.may_ask(now)
            && self.chunks.len() < CHUNKS_MAX
    }

    fn may_ask(&self, now: Now) -> bool {
        !self.requested && self.failure.is_none() && now.reached(self.retry_at_ns)
    }

    pub fn is_released(&self) -> bool {
        self.stage == Stage::Released
    }

    /// It was taken away.
    pub fn release(&mut self) {
        self.stage = Stage::Released;
        self.chunks.clear();
        self.trouble = None;
        self.failure = None;
    }

    /// Goes on elsewhere, as soon as the caller has seen what was fetched before.
    pub fn go_on_at(&mut self, now: Now, spec: OffsetSpec, why: ClientError) {
        if self.chunks.is_empty() {
            self.stage = Stage::LookingUp(spec);
        }
        self.back_off(now, why);
    }

    /// The start offset was looked up; where no record is as late as asked, the end is next.
    pub fn found(&mut self, offset: Option<i64>) {
        if self.is_released() {
            return;
        }
        self.stage = match offset {
            Some(offset) => Stage::Fetching {
                position: offset,
                fetch_offset: offset,
            },
            None => Stage::LookingUp(OffsetSpec::End),
        };
        self.calm();
    }

    /// An attempt succeeded.
    fn calm(&mut self) {
        self.backoff_ms = 0;
        self.trouble = None;
    }

    /// It cannot go on.
    pub fn fail(&mut self, why: ClientError) {
        self.failure = Some(why);
        self.trouble = None;
    }

    /// An answer says nothing about it, which must not make us ask again at once.
    pub fn left_out(&mut self, now: Now) {
        let why = ClientError::NoLeader {
            topic: self.topic.to_string(),
            partition: self.index,
        };
        self.back_off(now, why);
    }

    pub fn back_off(&mut self, now: Now, why: ClientError) {
        self.trouble = Some(why);
        self.backoff_ms = (self.backoff_ms * 2).clamp(BACKOFF_MIN_MS, BACKOFF_MAX_MS);
        self.retry_at_ns = now.plus_ms(self.backoff_ms);
    }

    /// Keeps the whole batches of an answer.
    pub fn take_in(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.calm();
        let Stage::Fetching {
            position,
            fetch_offset,
        } = self.stage
        else {
            return Ok(());
        };
        let corrupt = |reason| ClientError::CorruptBatch {
            subject: self.subject(),
            offset: fetch_offset,
            reason,
        };
        let (end, next_offset) = whole_batches(bytes).map_err(corrupt)?;
        let Some(next_offset) = next_offset else {
            if bytes.is_empty() {
                return Ok(());
            }
            return Err(corrupt(format!(
                "{} bytes are not a whole batch",
                bytes.len()
            )));
        };
        // Batches that all end before the wanted offset would be fetched for ever.
        if next_offset <= fetch_offset {
            return Err(corrupt(format!(
                "the broker sent batches that end at {next_offset}"
            )));
        }
        let chunk = Chunk {
            bytes: bytes.get(..end).unwrap_or_default().to_vec(),
            read: 0,
        };
        self.chunks.push_back(chunk);
        self.stage = Stage::Fetching {
            position,
            fetch_offset: next_offset,
        };
        Ok(())
    }

    /// The records of the next batch that has any from the position on; then, once, why there are
    /// no more.
    pub fn next_records(
        &mut self,
        unpacked_bytes_max: usize,
    ) -> Result<Option<Vec<FetchedRecord>>, ClientError> {
        match self.unpack_next(unpacked_bytes_max) {
            Ok(None) => {}
            Ok(Some(records)) => return Ok(Some(records)),
            // What follows the damage is not shown: it would hide the hole.
            Err(error) => self.failure = Some(error),
        }
        let Some(error) = self.failure.take() else {
            return Ok(None);
        };
        self.stage = Stage::Failed;
        self.chunks.clear();
        Err(error)
    }

    fn unpack_next(
        &mut self,
        unpacked_bytes_max: usize,
    ) -> Result<Option<Vec<FetchedRecord>>, ClientError> {
        let Stage::Fetching {
            position,
            fetch_offset,
        } = &mut self.stage
        else {
            return Ok(None);
        };
        while let Some(chunk) = self.chunks.front_mut() {
            let rest = chunk.bytes.get(chunk.read..).unwrap_or_default();
            if rest.is_empty() {
                self.chunks.pop_front();
                continue;
            }
            let unpacked = unpack(rest, *position, unpacked_bytes_max);
            let (header, records) = unpacked.map_err(|reason| ClientError::CorruptBatch {
                subject: format!("{}-{}", self.topic, self.index),
                offset: *position,
                reason,
            })?;
            chunk.read += header.total_bytes();
            *position = header.next_offset().0.max(*position);
            *fetch_offset = (*fetch_offset).max(*position);
            if chunk.read >= chunk.bytes.len() {
                self.chunks.pop_front();
            }
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
        Ok(None)
    }
}
