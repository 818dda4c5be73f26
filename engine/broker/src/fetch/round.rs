//! Rounds of a pending fetch, on the core that serves the connection and on those that own
//! partitions.

use std::sync::Arc;

use highwater_base::{CoreId, Epoch, ErrorCode, Now, Offset, SharedSlice};
use highwater_reactor::{Outbox, SendPiece};
use highwater_store::{LogId, ReadError, ReadPiece};

use super::session::FetchTarget;
use super::{FetchState, FetchWaiter, PartitionRead, PendingFetch};
use crate::message::{FetchPart, FetchResult, ForeignPiece, Message};
use crate::partition_table::Owner;
use crate::shard::Shard;
use crate::slab::Key;

/// Leader epoch a client sends when it does not know one.
const NO_EPOCH: i32 = -1;

impl Shard {
    /// Checks the epochs a client sent against the partition (KIP-320).
    pub(crate) fn check_leader_epoch(&self, log: LogId, epoch: i32) -> Result<(), ErrorCode> {
        let current = self.store.epoch(log).as_leader_epoch();
        match epoch {
            NO_EPOCH => Ok(()),
            older if older < current => Err(ErrorCode::FencedLeaderEpoch),
            newer if newer > current => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The largest epoch both sides have, if the consumer's position contradicts this log (KIP-595).
    fn divergence(&self, log: LogId, target: &FetchTarget) -> Option<(i32, i64)> {
        let epoch = u32::try_from(target.last_fetched_epoch).ok()?;
        let (common, end) = self.store.epoch_end(log, Epoch(epoch))?;
        let diverges = common.0 < epoch || end.0 < target.offset;
        diverges.then(|| (common.as_leader_epoch(), end.0))
    }

    /// Reads one partition of this core into `pieces`.
    fn read_here(
        &mut self,
        log: LogId,
        target: &FetchTarget,
        bytes_max: usize,
        at_least_one: bool,
        pieces: &mut Vec<SendPiece>,
    ) -> PartitionRead {
        let log_start = self.store.log_start(log).0;
        let high_watermark = self.store.high_watermark(log).0;
        let mut read = PartitionRead::failed(ErrorCode::None);
        (read.high_watermark, read.log_start) = (high_watermark, log_start);
        read.pieces_start = pieces.len();
        if let Err(code) = self.check_leader_epoch(log, target.leader_epoch) {
            return PartitionRead::failed(code);
        }
        read.diverging = self.divergence(log, target);
        if read.diverging.is_some() {
            return read;
        }
        let budget = bytes_max.min(usize::try_from(target.bytes_max).unwrap_or(0));
        self.read_pieces.clear();
        let mut found = std::mem::take(&mut self.read_pieces);
        let outcome = self
            .store
            .read(log, Offset(target.offset), budget, at_least_one, &mut found);
        match outcome {
            Ok(outcome) => {
                read.bytes = outcome.bytes;
                pieces.extend(found.drain(..).map(|piece| match piece {
                    ReadPiece::Memory(slice) => SendPiece::Memory(slice),
                    ReadPiece::File {
                        file,
                        offset,
                        len,
                        readable_end,
                    } => SendPiece::File {
                        file,
                        offset,
                        len,
                        readable_end,
                    },
                }));
                read.pieces_count = pieces.len() - read.pieces_start;
            }
            Err(ReadError::OutOfRange { .. }) => read.error = ErrorCode::OffsetOutOfRange,
            Err(ReadError::Hole { from, to }) => {
                tracing::error!(%from, %to, "fetch meets damaged records");
                read.error = ErrorCode::KafkaStorageError;
            }
            // Woken like a fetch that waits for records, once the position is known.
            Err(ReadError::Locating) => read.locating = true,
            Err(error @ ReadError::Unreadable { .. }) => {
                tracing::error!(%error, "fetch could not read its segment");
                read.error = ErrorCode::KafkaStorageError;
            }
        }
        found.clear();
        self.read_pieces = found;
        read
    }

    /// Where a target's partition is, or the error to tell.
    fn locate(&self, target: &FetchTarget, by_id: bool) -> Result<Owner, ErrorCode> {
        let entry = if by_id {
            self.table
                .by_id(target.topic_id)
                .ok_or(ErrorCode::UnknownTopicId)?
        } else {
            self.table
                .by_name(&target.topic)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?
        };
        entry
            .owner(target.partition, self.cores)
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Starts a request: its first round.
    pub(crate) fn begin_fetch(&mut self, now: Now, fetch: PendingFetch, out: &mut Outbox<Message>) {
        let key = self.fetches.insert(fetch);
        self.fetch_round(now, key, out);
    }

    /// Reads every partition once.
    pub(crate) fn fetch_round(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        let targets = std::mem::take(&mut fetch.targets);
        let mut pieces = std::mem::take(&mut fetch.pieces);
        let mut reads = std::mem::take(&mut fetch.reads);
        let (version, bytes_max, last) = (fetch.version, fetch.bytes_max, fetch.last_round);
        let last = last || now.reached(fetch.deadline_ns);
        fetch.last_round = last;
        fetch.dirty = false;
        pieces.clear();
        reads.clear();
        let mut total = 0usize;
        let mut foreign: Vec<(CoreId, Vec<FetchPart>)> = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let read = match self.locate(target, version >= 13) {
                Err(code) => PartitionRead::failed(code),
                Ok(Owner::Here(log)) => {
                    let budget = bytes_max.saturating_sub(total);
                    let read = self.read_here(log, target, budget, total == 0, &mut pieces);
                    total += read.bytes;
                    read
                }
                Ok(Owner::Elsewhere(core)) => {
                    let part = self.foreign_part(index as u32, target);
                    match foreign.iter_mut().find(|(known, _)| *known == core) {
                        Some((_, parts)) => parts.push(part),
                        None => foreign.push((core, vec![part])),
                    }
                    PartitionRead::failed(ErrorCode::None)
                }
            };
            reads.push(read);
        }
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        (fetch.targets, fetch.pieces, fetch.reads) = (targets, pieces, reads);
        fetch.outstanding = foreign.len();
        fetch.state = FetchState::Reading;
        if foreign.is_empty() {
            self.conclude_round(now, key, out);
            return;
        }
        let ticket = key.to_ticket();
        let bytes_left = bytes_max.saturating_sub(total).max(1);
        for (core, parts) in foreign {
            if let Some(fetch) = self.fetches.get_mut(key)
                && !last
                && !fetch.watching.contains(&core)
            {
                fetch.watching.push(core);
            }
            let message = Message::FetchRead {
                ticket,
                parts,
                bytes_max: bytes_left,
                watch: !last,
            };
            out.mail(core, message);
        }
        if !last {
            self.hang_on_partitions(key);
        }
    }

    fn foreign_part(&self, index: u32, target: &FetchTarget) -> FetchPart {
        let by_name = || self.table.by_name(&target.topic).map(|entry| entry.id);
        let topic_id = if target.topic_id.is_zero() {
            by_name().unwrap_or_default()
        } else {
            target.topic_id
        };
        FetchPart {
            index,
            topic_id,
            partition: target.partition,
            offset: target.offset,
            leader_epoch: target.leader_epoch,
            last_fetched_epoch: target.last_fetched_epoch,
            bytes_max: usize::try_from(target.bytes_max).unwrap_or(0),
        }
    }

    /// All answers of the round are in: answer the client, read again, or park.
    fn conclude_round(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        let total: usize = fetch.reads.iter().map(|read| read.bytes).sum();
        let news = |read: &PartitionRead| read.error != ErrorCode::None || read.diverging.is_some();
        let enough = total >= fetch.bytes_min || fetch.reads.iter().any(news);
        let over = fetch.targets.is_empty() && now.reached(fetch.deadline_ns);
        if (enough || fetch.last_round || over) && !fetch.waits_for_position(now) {
            self.end_fetch(key, out);
            return;
        }
        if fetch.dirty {
            self.fetch_round(now, key, out);
            return;
        }
        fetch.state = FetchState::Parked;
        let connection = fetch.connection;
        if !std::mem::replace(&mut fetch.has_deadline, true) {
            let entry = std::cmp::Reverse((fetch.deadline_ns, key));
            self.fetch_deadlines.push(entry);
        }
        self.hang_on_partitions(key);
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.parked_fetch = Some(key);
        }
    }

    fn hang_on_partitions(&mut self, key: Key) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        let by_id = fetch.version >= 13;
        let targets = std::mem::take(&mut fetch.targets);
        for target in &targets {
            if let Ok(Owner::Here(log)) = self.locate(target, by_id) {
                let waiters = &mut self.partitions[log.0 as usize].fetch_waiters;
                if !waiters.contains(&FetchWaiter::Here(key)) {
                    waiters.push(FetchWaiter::Here(key));
                }
            }
        }
        if let Some(fetch) = self.fetches.get_mut(key) {
            fetch.targets = targets;
        }
    }

    /// Takes a fetch off every list it hangs on.
    fn unhang(&mut self, key: Key, fetch: &mut PendingFetch, out: &mut Outbox<Message>) {
        let by_id = fetch.version >= 13;
        for target in &fetch.targets {
            if let Ok(Owner::Here(log)) = self.locate(target, by_id) {
                self.partitions[log.0 as usize]
                    .fetch_waiters
                    .retain(|waiter| *waiter != FetchWaiter::Here(key));
            }
        }
        for core in fetch.watching.drain(..) {
            out.mail(
                core,
                Message::FetchUnwatch {
                    ticket: key.to_ticket(),
                },
            );
        }
    }

    /// Answers the client with what the last round read.
    fn end_fetch(&mut self, key: Key, out: &mut Outbox<Message>) {
        let Some(mut fetch) = self.fetches.remove(key) else {
            return;
        };
        self.unhang(key, &mut fetch, out);
        if let Some(connection) = self.connections.get_mut(&fetch.connection)
            && connection.parked_fetch == Some(key)
        {
            connection.parked_fetch = None;
        }
        self.answer_fetch(&mut fetch, out);
        self.recycle_fetch(fetch);
    }

    /// Forgets a fetch whose connection is gone.
    pub(crate) fn drop_fetch(&mut self, key: Key, out: &mut Outbox<Message>) {
        let Some(mut fetch) = self.fetches.remove(key) else {
            return;
        };
        self.unhang(key, &mut fetch, out);
        self.recycle_fetch(fetch);
    }

    fn recycle_fetch(&mut self, mut fetch: PendingFetch) {
        fetch.targets.clear();
        fetch.reads.clear();
        fetch.pieces.clear();
        fetch.waited_for_position = false;
        self.fetch_spares.push(fetch);
    }

    /// A partition's high-water mark moved: whoever waits for it reads again at the end of the turn.
    pub(crate) fn wake_fetches(&mut self, log: LogId, out: &mut Outbox<Message>) {
        let partition = &mut self.partitions[log.0 as usize];
        for waiter in partition.fetch_waiters.drain(..) {
            match waiter {
                FetchWaiter::Here(key) => self.woken_fetches.push(key),
                FetchWaiter::Core { core, ticket } => {
                    out.mail(core, Message::FetchWake { ticket });
                }
            }
        }
    }

    /// Reads again for every fetch that was woken in this turn.
    pub(crate) fn run_woken_fetches(&mut self, now: Now, out: &mut Outbox<Message>) {
        let mut woken = std::mem::take(&mut self.woken_fetches);
        for key in woken.drain(..) {
            self.wake_fetch(now, key, out);
        }
        self.woken_fetches = woken;
    }

    /// Something moved for this fetch.
    pub(crate) fn wake_fetch(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        match fetch.state {
            FetchState::Reading => fetch.dirty = true,
            FetchState::Parked => self.fetch_round(now, key, out),
        }
    }

    /// The answer leaves now, with what there is: the deadline has come, another request is behind
    /// it, or the connection wants to move.
    pub(crate) fn hurry_fetch(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        fetch.last_round = true;
        if fetch.state == FetchState::Parked {
            self.fetch_round(now, key, out);
        }
    }

    /// Ends long polls whose time is over.
    pub(crate) fn expire_fetches(&mut self, now: Now, out: &mut Outbox<Message>) {
        while let Some(std::cmp::Reverse((deadline, key))) = self.fetch_deadlines.peek().copied() {
            let gone = self.fetches.get_mut(key).is_none();
            if !gone && !now.reached(deadline) {
                break;
            }
            self.fetch_deadlines.pop();
            if !gone {
                self.hurry_fetch(now, key, out);
            }
        }
    }

    /// Another core reads partitions of this one.
    pub(crate) fn fetch_for(
        &mut self,
        core: CoreId,
        ticket: u64,
        parts: &[FetchPart],
        bytes_max: usize,
        watch: bool,
        out: &mut Outbox<Message>,
    ) {
        let mut results = Vec::with_capacity(parts.len());
        let mut total = 0usize;
        let (mut quiet, mut locating) = (true, false);
        for part in parts {
            let budget = bytes_max.saturating_sub(total);
            let result = self.read_for(part, budget, total == 0, &mut total);
            quiet &= result.error == ErrorCode::None && result.pieces.is_empty();
            locating |= result.locating;
            results.push(result);
        }
        self.counters.forwarded_bytes += total as u64;
        if quiet && (watch || locating) {
            let waiter = FetchWaiter::Core { core, ticket };
            for part in parts {
                if let Some(Owner::Here(log)) = self
                    .table
                    .by_id(part.topic_id)
                    .and_then(|e| e.owner(part.partition, self.cores))
                {
                    let waiters = &mut self.partitions[log.0 as usize].fetch_waiters;
                    if !waiters.contains(&waiter) {
                        waiters.push(waiter);
                        let logs = self.foreign_watches.entry((core, ticket)).or_default();
                        if !logs.contains(&log) {
                            logs.push(log);
                        }
                    }
                }
            }
        }
        out.mail(core, Message::FetchData { ticket, results });
    }

    fn read_for(
        &mut self,
        part: &FetchPart,
        bytes_max: usize,
        at_least_one: bool,
        total: &mut usize,
    ) -> FetchResult {
        let owner = self.table.by_id(part.topic_id).map(|entry| {
            (
                Arc::clone(&entry.name),
                entry.owner(part.partition, self.cores),
            )
        });
        let mut result = FetchResult {
            index: part.index,
            error: ErrorCode::NotLeaderOrFollower,
            high_watermark: -1,
            log_start: -1,
            diverging: None,
            locating: false,
            pieces: Vec::new(),
        };
        let Some((topic, Some(Owner::Here(log)))) = owner else {
            return result;
        };
        let target = FetchTarget {
            topic_id: part.topic_id,
            topic,
            partition: part.partition,
            offset: part.offset,
            leader_epoch: part.leader_epoch,
            last_fetched_epoch: part.last_fetched_epoch,
            bytes_max: i32::try_from(part.bytes_max).unwrap_or(i32::MAX),
        };
        let mut pieces = Vec::new();
        let read = self.read_here(log, &target, bytes_max, at_least_one, &mut pieces);
        *total += read.bytes;
        (result.error, result.diverging) = (read.error, read.diverging);
        (result.high_watermark, result.log_start) = (read.high_watermark, read.log_start);
        result.locating = read.locating;
        for piece in pieces {
            match piece {
                SendPiece::Memory(slice) => {
                    let copy = SharedSlice::from(slice.bytes().to_vec());
                    result.pieces.push(ForeignPiece::Memory(copy));
                }
                SendPiece::File {
                    file,
                    offset,
                    len,
                    readable_end,
                } => {
                    let Some(name) = self.store.file_name(file) else {
                        continue;
                    };
                    let name = Arc::new(name.clone());
                    result.pieces.push(ForeignPiece::File {
                        name,
                        offset,
                        len,
                        readable_end,
                    });
                }
                SendPiece::Bytes(_) | SendPiece::Shared(_) => {
                    unreachable!("the store gives memory slices and file ranges only")
                }
            }
        }
        result
    }

    /// Answers of another core for the current round of a fetch.
    pub(crate) fn fetch_data(
        &mut self,
        now: Now,
        from: CoreId,
        ticket: u64,
        results: Vec<FetchResult>,
        out: &mut Outbox<Message>,
    ) {
        let key = Key::from_ticket(ticket);
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        for result in results {
            let Some(read) = fetch.reads.get_mut(result.index as usize) else {
                continue;
            };
            *read = PartitionRead {
                error: result.error,
                high_watermark: result.high_watermark,
                log_start: result.log_start,
                diverging: result.diverging,
                locating: result.locating,
                pieces_start: fetch.pieces.len(),
                pieces_count: result.pieces.len(),
                bytes: 0,
            };
            if result.locating && !fetch.watching.contains(&from) {
                // It says when it knows, whether it was asked to watch or not.
                fetch.watching.push(from);
            }
            for piece in result.pieces {
                match piece {
                    ForeignPiece::Memory(slice) => {
                        read.bytes += slice.len();
                        fetch.pieces.push(SendPiece::Shared(slice));
                    }
                    ForeignPiece::File {
                        name,
                        offset,
                        len,
                        readable_end,
                    } => {
                        read.bytes += len;
                        let file = self.foreign_files.id_of(now, &name, out.disk());
                        fetch.pieces.push(SendPiece::File {
                            file,
                            offset,
                            len,
                            readable_end,
                        });
                    }
                }
            }
        }
        fetch.outstanding = fetch.outstanding.saturating_sub(1);
        if fetch.outstanding == 0 {
            self.conclude_round(now, key, out);
        }
    }

    /// Another core no longer waits.
    pub(crate) fn fetch_unwatch(&mut self, core: CoreId, ticket: u64) {
        let Some(logs) = self.foreign_watches.remove(&(core, ticket)) else {
            return;
        };
        for log in logs {
            self.partitions[log.0 as usize]
                .fetch_waiters
                .retain(|waiter| *waiter != FetchWaiter::Core { core, ticket });
        }
    }
}

#[cfg(test)]
mod tests {
    use highwater_base::disk::DiskError;
    use highwater_reactor::Service;
    use highwater_store::StoreConfig;

    use super::*;
    use crate::test_shard::{ASKER, TOPIC, TestShard};

    /// Three records a batch, more of them than the cache holds.
    fn cold_shard() -> TestShard {
        let mut shard = TestShard::new(StoreConfig {
            tail_cache_bytes: 64 << 10,
            ..StoreConfig::default()
        });
        shard.create_topic(1, &[]);
        for at in 0..200 {
            shard.append(0, &[at, at, at], 300);
        }
        shard
    }

    fn fetch(shard: &mut TestShard, offset: i64, watch: bool) -> String {
        let part = FetchPart {
            index: 0,
            topic_id: TOPIC,
            partition: 0,
            offset,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            bytes_max: 1 << 20,
        };
        let message = Message::FetchRead {
            ticket: 1,
            parts: vec![part],
            bytes_max: 1 << 20,
            watch,
        };
        shard.step(|shard, now, out| shard.on_message(now, ASKER, message, out))
    }

    #[test]
    fn a_cold_fetch_waits_until_its_position_is_known() {
        for watch in [true, false] {
            let mut shard = cold_shard();
            let said = fetch(&mut shard, 22, watch);
            assert!(said.contains("locating: true, pieces: []"), "{said}");
            let said = shard.settle();
            assert!(said.contains("FetchWake"), "{said}");
            let said = fetch(&mut shard, 22, watch);
            assert!(said.contains("pieces: [File"), "{said}");
        }
    }

    #[test]
    fn a_position_that_cannot_be_read_is_a_storage_error() {
        let mut shard = cold_shard();
        fetch(&mut shard, 22, true);
        let mut said = String::new();
        while !said.contains("FetchWake") {
            said = shard.execute(Some(DiskError::Io(5)));
        }
        let said = fetch(&mut shard, 22, true);
        assert!(said.contains("KafkaStorageError"), "{said}");
    }
}
