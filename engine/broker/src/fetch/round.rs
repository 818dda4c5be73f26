//! Rounds of a pending fetch, on the core that serves the connection and on those that own
//! partitions.

use std::sync::Arc;

use highwater_base::{CoreId, Epoch, ErrorCode, Now, Offset};
use highwater_reactor::{ConnectionId, Outbox, SendPiece};
use highwater_store::{LogId, ReadError, ReadPiece};

use super::bounds::{ReadBounds, Shares};
use super::damage::{expected_by, head_check};
use super::session::FetchTarget;
use super::{FetchState, PartitionRead, PendingFetch};
use crate::message::{FetchPart, FetchResult, ForeignPiece, Message};
use crate::partition_table::Owner;
use crate::shard::Shard;
use crate::slab::Key;

/// A list of deadlines this short is not gone through for those that are past caring.
const DEADLINES_KEPT_MIN: usize = 64;

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
        bounds: ReadBounds,
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
        let budget = bounds.bytes_max.min(target.bytes_max());
        self.read_pieces.clear();
        let mut found = std::mem::take(&mut self.read_pieces);
        let (store, offset) = (&mut self.store, Offset(target.offset));
        let outcome = match bounds.memory {
            true => store.read(log, offset, budget, bounds.at_least_one, &mut found),
            false => store.read_files(log, offset, budget, bounds.at_least_one, &mut found),
        };
        match outcome {
            Ok(outcome) => {
                read.bytes = outcome.bytes;
                read.next_offset = outcome.next_offset.0;
                read.more = outcome.next_offset < outcome.high_watermark;
                pieces.extend(found.drain(..).map(|piece| match piece {
                    ReadPiece::Memory(slice) => SendPiece::Memory(slice),
                    ReadPiece::File {
                        file,
                        offset,
                        len,
                        readable_end,
                        first,
                    } => SendPiece::File {
                        file,
                        offset,
                        len,
                        readable_end,
                        head: Some(head_check(first)),
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

    /// Starts a request: its first round. What that does not answer is on its connection's list.
    pub(crate) fn begin_fetch(&mut self, now: Now, fetch: PendingFetch, out: &mut Outbox<Message>) {
        let connection = fetch.connection;
        let key = self.fetches.insert(fetch);
        self.fetch_round(now, key, out);
        if let Some(fetch) = self.fetches.get_mut(key)
            && let Some(connection) = self.connections.get_mut(&connection)
        {
            connection.fetches.push(key);
            connection.expect_bytes(fetch.sequence, fetch.bytes_max);
        }
    }

    /// Reads every partition once.
    pub(crate) fn fetch_round(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        let targets = std::mem::take(&mut fetch.targets);
        let mut pieces = std::mem::take(&mut fetch.pieces);
        let mut reads = std::mem::take(&mut fetch.reads);
        let mut local = std::mem::take(&mut fetch.local);
        let (version, bytes_max) = (fetch.version, fetch.bytes_max);
        if let Some(parked_ns) = fetch.parked_ns.take() {
            let took_ns = now.monotonic_ns.saturating_sub(parked_ns);
            match reads.iter().any(|read| read.locating) {
                true => fetch.located_ns += took_ns,
                false => fetch.waited_ns += took_ns,
            }
        }
        fetch.last_round |= now.reached(fetch.deadline_ns);
        fetch.dirty = false;
        pieces.clear();
        reads.clear();
        local.clear();
        let foreign = self.sort_targets(&targets, version >= 13, &mut reads, &mut local);
        let shares = Shares::of(&targets, bytes_max, foreign.len(), !local.is_empty());
        let mut total = 0usize;
        for (index, log) in &local {
            let at = *index as usize;
            let bounds = ReadBounds {
                bytes_max: shares.local.saturating_sub(total),
                at_least_one: total == 0,
                memory: true,
            };
            let read = self.read_here(*log, &targets[at], bounds, &mut pieces);
            total += read.bytes;
            reads[at] = read;
        }
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        (fetch.targets, fetch.pieces) = (targets, pieces);
        (fetch.reads, fetch.local) = (reads, local);
        fetch.outstanding = foreign.len();
        fetch.state = FetchState::Reading;
        if foreign.is_empty() {
            self.conclude_round(now, key, out);
            return;
        }
        let bytes_left = shares.foreign(bytes_max.saturating_sub(total), foreign.len());
        self.ask_owners(key, foreign, bytes_left, out);
    }

    /// Lists the targets this core owns in `local`, makes parts for the other cores of theirs, and
    /// gives each target a place in `reads`: the error, if nobody owns it.
    fn sort_targets(
        &self,
        targets: &[FetchTarget],
        by_id: bool,
        reads: &mut Vec<PartitionRead>,
        local: &mut Vec<(u32, LogId)>,
    ) -> Vec<(CoreId, Vec<FetchPart>)> {
        let mut foreign: Vec<(CoreId, Vec<FetchPart>)> = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let mut error = ErrorCode::None;
            match self.locate(target, by_id) {
                Err(code) => error = code,
                Ok(Owner::Here(log)) => local.push((index as u32, log)),
                Ok(Owner::Offline) => error = ErrorCode::KafkaStorageError,
                Ok(Owner::Elsewhere(core)) => {
                    let part = self.foreign_part(index as u32, target);
                    match foreign.iter_mut().find(|(known, _)| *known == core) {
                        Some((_, parts)) => parts.push(part),
                        None => foreign.push((core, vec![part])),
                    }
                }
            }
            reads.push(PartitionRead::failed(error));
        }
        foreign
    }

    /// Sends the other cores their parts of a round.
    fn ask_owners(
        &mut self,
        key: Key,
        foreign: Vec<(CoreId, Vec<FetchPart>)>,
        bytes_max: usize,
        out: &mut Outbox<Message>,
    ) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        let watch_below = match fetch.last_round {
            true => 0,
            false => fetch.bytes_min,
        };
        for (core, parts) in foreign {
            if watch_below > 0 && !fetch.watching.contains(&core) {
                fetch.watching.push(core);
            }
            let message = Message::FetchRead {
                ticket: key.to_ticket(),
                parts,
                bytes_max,
                watch_below,
            };
            out.mail(core, message);
        }
        if watch_below > 0 {
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
            bytes_max: target.bytes_max(),
        }
    }

    /// All answers of the round are in: answer the client, read again, or park.
    fn conclude_round(&mut self, now: Now, key: Key, out: &mut Outbox<Message>) {
        let Some(fetch) = self.fetches.get_mut(key) else {
            return;
        };
        if !std::mem::replace(&mut fetch.has_read, true) {
            let took_ns = self.meters.since(fetch.arrived_ns);
            self.meters.fetch_queue.record(took_ns);
        }
        // Without partitions there is nothing to wait for: so a closing consumer says goodbye.
        let ends = fetch.last_round || fetch.targets.is_empty() || fetch.has_enough();
        if ends && !fetch.waits_for_position(now) {
            fetch.keep_to_bytes_max();
            self.end_fetch(key, out);
            return;
        }
        if fetch.dirty {
            self.fetch_round(now, key, out);
            return;
        }
        fetch.state = FetchState::Parked;
        fetch.parked_ns = Some(now.monotonic_ns);
        // The next round reads them again; until then nobody's memory is held.
        fetch.pieces.clear();
        if !std::mem::replace(&mut fetch.has_deadline, true) {
            let deadline_ns = fetch.deadline_ns;
            self.note_deadline(deadline_ns, key);
        }
        self.hang_on_partitions(key);
    }

    /// Puts a deadline on the list. Those of fetches that were answered before are taken off when
    /// the list has grown to twice what is pending.
    fn note_deadline(&mut self, deadline_ns: u64, key: Key) {
        if self.fetch_deadlines.len() > DEADLINES_KEPT_MIN + 2 * self.fetches.len() {
            let fetches = &mut self.fetches;
            self.fetch_deadlines
                .retain(|std::cmp::Reverse((_, key))| fetches.get_mut(*key).is_some());
        }
        self.fetch_deadlines
            .push(std::cmp::Reverse((deadline_ns, key)));
    }

    /// Answers the client with what the last round read.
    fn end_fetch(&mut self, key: Key, out: &mut Outbox<Message>) {
        let Some(mut fetch) = self.fetches.remove(key) else {
            return;
        };
        Shard::unhang(key, &mut fetch, out);
        if let Some(connection) = self.connections.get_mut(&fetch.connection)
            && let Some(at) = connection.fetches.iter().position(|known| *known == key)
        {
            connection.fetches.remove(at);
        }
        self.count_fetch(&fetch);
        self.answer_fetch(&mut fetch, out);
        self.recycle_fetch(fetch);
    }

    /// Counts what leaves, and the time it took.
    fn count_fetch(&mut self, fetch: &PendingFetch) {
        for (index, log) in &fetch.local {
            let at = *index as usize;
            let read = &fetch.reads[at];
            if read.bytes > 0 {
                let records = read.next_offset - fetch.targets[at].offset;
                let meter = &mut self.partitions[log.0 as usize].meter;
                meter.count_out(records, read.bytes);
                self.meters.total.count_out(records, read.bytes);
            }
        }
        let took_ns = self.meters.since(fetch.arrived_ns);
        self.meters
            .fetch
            .record(took_ns.saturating_sub(fetch.waited_ns));
        if let Some(connection) = self.connections.get_mut(&fetch.connection) {
            let client = &mut connection.client;
            client.fetch_answered_ns.get_or_insert(self.meters.now_ns);
        }
        if fetch.located_ns > 0 {
            self.meters.fetch_disk.record(fetch.located_ns);
        }
        if fetch.waited_ns > 0 {
            self.meters.fetch_wait.record(fetch.waited_ns);
        }
    }

    /// Forgets a fetch whose connection is gone.
    pub(crate) fn drop_fetch(&mut self, key: Key, out: &mut Outbox<Message>) {
        let Some(mut fetch) = self.fetches.remove(key) else {
            return;
        };
        Shard::unhang(key, &mut fetch, out);
        self.recycle_fetch(fetch);
    }

    fn recycle_fetch(&mut self, mut fetch: PendingFetch) {
        fetch.targets.clear();
        fetch.reads.clear();
        fetch.local.clear();
        fetch.pieces.clear();
        fetch.waited_for_position = false;
        self.fetch_spares.push(fetch);
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

    /// Every fetch of a connection is answered as soon as it can be.
    pub(crate) fn hurry_fetches_of(
        &mut self,
        now: Now,
        id: ConnectionId,
        out: &mut Outbox<Message>,
    ) {
        let mut at = 0;
        while let Some(key) = self.fetch_of(id, at) {
            self.hurry_fetch(now, key, out);
            // One that still waits for other cores stays on the list, others have left it.
            if self.fetch_of(id, at) == Some(key) {
                at += 1;
            }
        }
    }

    fn fetch_of(&self, id: ConnectionId, at: usize) -> Option<Key> {
        self.connections.get(&id)?.fetches.get(at).copied()
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
        watch_below: usize,
        out: &mut Outbox<Message>,
    ) {
        let mut results = Vec::with_capacity(parts.len());
        let mut reads = Vec::with_capacity(parts.len());
        let (mut total, mut counted) = (0usize, 0usize);
        let (mut urgent, mut locating) = (false, false);
        for part in parts {
            let budget = bytes_max.saturating_sub(total);
            let (read, result) = self.read_for(part, budget, total == 0);
            total += read.bytes;
            counted = counted.saturating_add(read.counted_bytes(part.bytes_max));
            urgent |= read.is_urgent();
            locating |= read.locating;
            results.push(result);
            reads.push((read.next_offset, read.bytes));
        }
        self.counters.forwarded_bytes += total as u64;
        // Else the answer leaves after this round, whatever the other cores have.
        let waits = counted < watch_below || (locating && total == 0);
        if waits && !urgent {
            self.watch_for(core, ticket, parts);
        } else {
            self.count_foreign_reads(parts, &reads);
        }
        out.mail(core, Message::FetchData { ticket, results });
    }

    /// What was read for another core leaves with its answer. With fewer bytes than it wants it reads
    /// again, and that is not counted.
    fn count_foreign_reads(&mut self, parts: &[FetchPart], reads: &[(i64, usize)]) {
        for (part, (next_offset, bytes)) in parts.iter().zip(reads) {
            let entry = self.table.by_id(part.topic_id);
            let owner = entry.and_then(|entry| entry.owner(part.partition, self.cores));
            if let (Some(Owner::Here(log)), true) = (owner, *bytes > 0) {
                let meter = &mut self.partitions[log.0 as usize].meter;
                let records = next_offset - part.offset;
                meter.count_out(records, *bytes);
                self.meters.total.count_out(records, *bytes);
            }
        }
    }

    fn read_for(
        &mut self,
        part: &FetchPart,
        bytes_max: usize,
        at_least_one: bool,
    ) -> (PartitionRead, FetchResult) {
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
            more: false,
            locating: false,
            pieces: Vec::new(),
        };
        if let Some((_, Some(Owner::Offline))) = owner {
            result.error = ErrorCode::KafkaStorageError;
        }
        let Some((topic, Some(Owner::Here(log)))) = owner else {
            return (PartitionRead::failed(result.error), result);
        };
        let target = FetchTarget {
            topic_id: part.topic_id,
            topic,
            partition: part.partition,
            offset: part.offset,
            leader_epoch: part.leader_epoch,
            last_fetched_epoch: part.last_fetched_epoch,
            bytes_max: i32::try_from(part.bytes_max).unwrap_or(i32::MAX),
            session_place: 0,
        };
        let mut pieces = Vec::new();
        let copied_max = bytes_max.min(part.bytes_max);
        let bounds = ReadBounds {
            bytes_max,
            at_least_one,
            memory: self.foreign_copies.has_room(copied_max),
        };
        let read = self.read_here(log, &target, bounds, &mut pieces);
        (result.error, result.diverging) = (read.error, read.diverging);
        result.more = read.more;
        (result.high_watermark, result.log_start) = (read.high_watermark, read.log_start);
        result.locating = read.locating;
        for piece in pieces {
            match piece {
                SendPiece::Memory(slice) => {
                    let copy = self.foreign_copies.copy(slice.bytes());
                    result.pieces.push(ForeignPiece::Memory(copy));
                }
                SendPiece::File {
                    file,
                    offset,
                    len,
                    readable_end,
                    head,
                } => {
                    let Some(first) = head.map(|head| expected_by(&head)) else {
                        continue;
                    };
                    let Some(name) = self.store.file_name(file) else {
                        continue;
                    };
                    let name = Arc::new(name.clone());
                    result.pieces.push(ForeignPiece::File {
                        name,
                        offset,
                        len,
                        readable_end,
                        first,
                    });
                }
                SendPiece::Bytes(_) | SendPiece::Shared(_) => {
                    unreachable!("the store gives memory slices and file ranges only")
                }
            }
        }
        (read, result)
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
                // Its owner has counted the read.
                next_offset: -1,
                more: result.more,
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
                        first,
                    } => {
                        read.bytes += len;
                        let file = self.foreign_files.id_of(now, &name, out.disk());
                        fetch.pieces.push(SendPiece::File {
                            file,
                            offset,
                            len,
                            readable_end,
                            head: Some(head_check(first)),
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

    fn fetch(shard: &mut TestShard, offset: i64, watch_below: usize) -> String {
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
            watch_below,
        };
        shard.step(|shard, now, out| shard.on_message(now, ASKER, message, out))
    }

    #[test]
    fn a_cold_fetch_waits_until_its_position_is_known() {
        for watch_below in [1, 0] {
            let mut shard = cold_shard();
            let said = fetch(&mut shard, 22, watch_below);
            assert!(said.contains("locating: true, pieces: []"), "{said}");
            let said = shard.settle();
            assert!(said.contains("FetchWake"), "{said}");
            let said = fetch(&mut shard, 22, watch_below);
            assert!(said.contains("pieces: [File"), "{said}");
        }
    }

    #[test]
    fn records_that_cannot_be_read_are_a_storage_error_and_those_around_are_served() {
        let mut shard = cold_shard();
        fetch(&mut shard, 22, 1);
        let mut said = String::new();
        while !said.contains("FetchWake") {
            said = shard.execute(Some(DiskError::Io(5)));
        }
        let said = fetch(&mut shard, 22, 1);
        assert!(said.contains("KafkaStorageError"), "{said}");
        let hole = shard.shard.store.holes(shard.log(0))[0];
        let said = fetch(&mut shard, hole.to, 1);
        assert!(said.contains("pieces: [File"), "{said}");
    }
}
