//! One client connection as its shard sees it: answers in request order, where its traffic goes,
//! its fetch session.
//!
//! Each request takes a slot; answers may become ready in any order but leave in slot order. What
//! moves when the connection is steered to another core is [`Travelling`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use highwater_base::CoreId;
use highwater_base::limits::CONNECTION_ANSWER_BYTES_MAX;
use highwater_ops::figures::ClientSoftware;
use highwater_reactor::{ConnectionInfo, SendPiece};

use crate::fetch::session::FetchSession;
use crate::slab::Key;

/// Requests looked at before a connection may be steered.
const STEER_REQUESTS_MIN: u32 = 32;

/// An answer that is ready to leave.
#[derive(Debug)]
pub enum Answer {
    /// One piece, the usual case.
    One(SendPiece),
    /// Several pieces in order.
    Many(Vec<SendPiece>),
    /// The request has no answer (acks=0).
    Silence,
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Answer::One(piece) => piece.len(),
            Answer::Many(pieces) => pieces.iter().map(SendPiece::len).sum(),
            Answer::Silence => 0,
        }
    }
}

/// A request's place in the order of answers, with the bytes it counts for.
#[derive(Debug)]
enum Slot {
    Waiting(usize),
    Ready(Answer, usize),
}

/// How much of a connection's work belongs to which core.
#[derive(Debug, Default)]
struct Traffic {
    bytes_by_core: Vec<u64>,
    requests: u32,
}

/// What is known of a client, and moments of its requests, for the operations endpoint.
#[derive(Debug, Default)]
pub struct ClientFacts {
    pub info: Option<ConnectionInfo>,
    pub software: Option<Arc<ClientSoftware>>,
    /// When the request at the front of its socket was first put off.
    pub deferred_ns: Option<u64>,
    /// When the oldest produce answer was ready that is not with the kernel yet.
    pub answered_ns: Option<u64>,
    /// The same of fetches.
    pub fetch_answered_ns: Option<u64>,
}

/// State of one connection on the core that serves it.
#[derive(Debug)]
pub struct Connection {
    /// Where the client is.
    pub peer: IpAddr,
    slots: VecDeque<Slot>,
    first_sequence: u64,
    /// What all slots count for.
    answer_bytes: usize,
    traffic: Traffic,
    /// The connection's incremental fetch session (KIP-227), if it has one.
    pub session: Option<FetchSession>,
    /// Fetches that have not been answered: they wait for other cores or for something new.
    pub fetches: Vec<Key>,
    /// Requests that coordinators have not answered; a join waits for other members.
    pub group_requests: Vec<Key>,
    /// The core it is about to move to; no further frame is read until it has.
    pub moving_to: Option<CoreId>,
    /// It is not read because too many of its requests are under way.
    pub paused: bool,
    /// Something was handed to the reactor and not yet to the kernel.
    pub unsent: bool,
    /// No answer leaves any more; the socket is being closed.
    pub closing: bool,
    pub client: ClientFacts,
}

/// What goes along when a connection moves to another core.
#[derive(Debug)]
pub struct Travelling {
    pub session: Option<FetchSession>,
    pub software: Option<Arc<ClientSoftware>>,
}

impl Connection {
    /// A connection that has arrived from another core.
    #[must_use]
    pub fn arrived(peer: IpAddr, travelling: Travelling) -> Connection {
        Connection {
            session: travelling.session,
            client: ClientFacts {
                software: travelling.software,
                ..ClientFacts::default()
            },
            ..Connection::new(peer)
        }
    }

    /// A connection that was just accepted.
    #[must_use]
    pub fn new(peer: IpAddr) -> Connection {
        Connection {
            peer,
            slots: VecDeque::new(),
            first_sequence: 0,
            answer_bytes: 0,
            traffic: Traffic::default(),
            session: None,
            fetches: Vec::new(),
            group_requests: Vec::new(),
            moving_to: None,
            paused: false,
            unsent: false,
            closing: false,
            client: ClientFacts::default(),
        }
    }

    /// Reserves the next place in the order of answers.
    pub fn open_slot(&mut self) -> u64 {
        self.slots.push_back(Slot::Waiting(0));
        self.first_sequence + self.slots.len() as u64 - 1
    }

    /// Requests that are not answered.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Bytes its answers under way count for.
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Whether no further request may be taken on, `requests_max` being allowed.
    #[must_use]
    pub fn is_full(&self, requests_max: usize) -> bool {
        self.slots.len() >= requests_max || self.answer_bytes > CONNECTION_ANSWER_BYTES_MAX
    }

    /// Counts bytes that the answer to a pending request may have, until it is filled in. One
    /// answer alone never fills the connection: what comes behind it must be seen.
    pub fn expect_bytes(&mut self, sequence: u64, bytes: usize) {
        let bytes = bytes.min(CONNECTION_ANSWER_BYTES_MAX);
        if let Some(Slot::Waiting(expected)) = self.slot(sequence) {
            let before = std::mem::replace(expected, bytes);
            self.answer_bytes = self.answer_bytes - before + bytes;
        }
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let at = sequence.checked_sub(self.first_sequence)?;
        self.slots.get_mut(at as usize)
    }

    /// Whether every request has been answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// Puts an answer into its slot. A slot that is gone (connection reused) is ignored.
    pub fn fill(&mut self, sequence: u64, answer: Answer) {
        let bytes = answer.bytes();
        let Some(slot) = self.slot(sequence) else {
            return;
        };
        let (Slot::Waiting(before) | Slot::Ready(_, before)) =
            std::mem::replace(slot, Slot::Ready(answer, bytes));
        self.answer_bytes = self.answer_bytes - before + bytes;
    }

    /// The next answer that may leave.
    pub fn pop_ready(&mut self) -> Option<Answer> {
        if !matches!(self.slots.front(), Some(Slot::Ready(..))) {
            return None;
        }
        match self.slots.pop_front() {
            Some(Slot::Ready(answer, bytes)) => {
                self.first_sequence += 1;
                self.answer_bytes -= bytes;
                Some(answer)
            }
            _ => None,
        }
    }

    /// Counts bytes of a request or answer that belong to a core's partitions.
    pub fn count_traffic(&mut self, core: CoreId, cores: usize, bytes: u64) {
        if self.traffic.bytes_by_core.len() < cores {
            self.traffic.bytes_by_core.resize(cores, 0);
        }
        self.traffic.bytes_by_core[core.0 as usize] += bytes;
        self.traffic.requests += 1;
    }

    /// The core to move to: where more than three quarters of the recent traffic belongs, if that
    /// is elsewhere. Looks once per window of requests and forgets the window.
    pub fn steer(&mut self, here: CoreId) -> Option<CoreId> {
        if self.traffic.requests < STEER_REQUESTS_MIN {
            return None;
        }
        let total: u64 = self.traffic.bytes_by_core.iter().sum();
        let best = self
            .traffic
            .bytes_by_core
            .iter()
            .enumerate()
            .max_by_key(|(_, bytes)| **bytes);
        let target = best
            .filter(|(core, bytes)| *core != here.0 as usize && **bytes * 4 > total * 3)
            .map(|(core, _)| CoreId(core as u16));
        self.traffic.requests = 0;
        self.traffic
            .bytes_by_core
            .iter_mut()
            .for_each(|bytes| *bytes = 0);
        target
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn piece(text: &str) -> Answer {
        Answer::One(SendPiece::Bytes(text.as_bytes().to_vec()))
    }

    fn popped(connection: &mut Connection) -> Option<Vec<u8>> {
        match connection.pop_ready()? {
            Answer::One(SendPiece::Bytes(bytes)) => Some(bytes),
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn answers_leave_in_request_order() {
        let mut connection = Connection::new(Ipv4Addr::LOCALHOST.into());
        let (first, second) = (connection.open_slot(), connection.open_slot());
        connection.fill(second, piece("second"));
        assert!(popped(&mut connection).is_none());
        connection.fill(first, piece("first"));
        assert_eq!(popped(&mut connection), Some(b"first".to_vec()));
        assert_eq!(popped(&mut connection), Some(b"second".to_vec()));
        assert!(connection.is_idle());
        assert_eq!(connection.open_slot(), 2);
    }

    #[test]
    fn expected_and_waiting_answers_fill_a_connection() {
        let mut connection = Connection::new(Ipv4Addr::LOCALHOST.into());
        let (first, second) = (connection.open_slot(), connection.open_slot());
        connection.expect_bytes(first, CONNECTION_ANSWER_BYTES_MAX);
        assert!(!connection.is_full(3));
        connection.expect_bytes(second, 6);
        assert!(connection.is_full(3));
        connection.fill(second, piece("second"));
        assert!(connection.is_full(3), "it waits for the first");
        connection.fill(first, piece("first"));
        assert!(!connection.is_full(3));
        assert!(popped(&mut connection).is_some() && popped(&mut connection).is_some());
        assert_eq!(connection.answer_bytes, 0);
    }

    #[test]
    fn a_connection_goes_where_its_bytes_are() {
        let mut connection = Connection::new(Ipv4Addr::LOCALHOST.into());
        for _ in 0..STEER_REQUESTS_MIN {
            connection.count_traffic(CoreId(1), 2, 1000);
            assert!(connection.traffic.requests <= STEER_REQUESTS_MIN);
        }
        assert_eq!(connection.steer(CoreId(0)), Some(CoreId(1)));
        for at in 0..STEER_REQUESTS_MIN {
            connection.count_traffic(CoreId((at % 2) as u16), 2, 1000);
        }
        assert_eq!(connection.steer(CoreId(0)), None, "an even split stays");
    }
}
