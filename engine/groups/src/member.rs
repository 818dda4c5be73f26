//! One member of a group: what it announced, what it waits for, and until when it is believed alive.

use highwater_base::Now;

use crate::answer::DescribedMember;
use crate::coordinator::Ticket;
use crate::log_records::StoredMember;
use crate::request::{JoinRequest, Protocol};

/// How long a member that has not been in a generation yet may wait for its first: longer than a
/// session, because it does not send heartbeats while it waits.
const NEW_MEMBER_TIMEOUT_MS: u64 = 5 * 60 * 1000;
/// A deadline that is only set when what is waited for has happened.
const NEVER_NS: u64 = u64::MAX;

/// Whether a member has been part of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    New,
    Established,
}

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    pub protocols: Vec<Protocol>,
    pub assignment: Vec<u8>,
    pub session_deadline_ns: u64,
    pub standing: Standing,
    /// Its JoinGroup that waits for the next generation.
    pub join: Option<Ticket>,
    /// Its SyncGroup that waits for the assignment.
    pub sync: Option<Ticket>,
}

/// A timeout of a request or record; a negative one counts as none.
fn timeout_ms(timeout: i32) -> u64 {
    u64::try_from(timeout).unwrap_or(0)
}

impl Member {
    /// A member that joins.
    pub(crate) fn joining(now: Now, request: &JoinRequest, ticket: Ticket) -> Member {
        Member {
            instance: request.instance.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout_ms: timeout_ms(request.session_timeout_ms),
            rebalance_timeout_ms: timeout_ms(request.rebalance_timeout_ms),
            protocols: request.protocols.clone(),
            assignment: Vec::new(),
            session_deadline_ns: now.plus_ms(NEW_MEMBER_TIMEOUT_MS),
            standing: Standing::New,
            join: Some(ticket),
            sync: None,
        }
    }

    /// A member of a loaded group; its session starts when loading ends.
    pub(crate) fn loaded(stored: StoredMember, protocol: &str) -> Member {
        let session_timeout_ms = timeout_ms(stored.session_timeout_ms);
        Member {
            instance: stored.instance,
            client_id: stored.client_id,
            client_host: stored.client_host,
            session_timeout_ms,
            rebalance_timeout_ms: u64::try_from(stored.rebalance_timeout_ms)
                .unwrap_or(session_timeout_ms),
            protocols: vec![Protocol {
                name: protocol.to_owned(),
                metadata: stored.subscription,
            }],
            assignment: stored.assignment,
            session_deadline_ns: NEVER_NS,
            standing: Standing::Established,
            join: None,
            sync: None,
        }
    }

    /// Takes over what a repeated join announces.
    pub(crate) fn update(&mut self, request: &JoinRequest) {
        self.session_timeout_ms = timeout_ms(request.session_timeout_ms);
        self.rebalance_timeout_ms = timeout_ms(request.rebalance_timeout_ms);
        self.protocols.clone_from(&request.protocols);
    }

    /// A sign of life.
    pub(crate) fn renew_session(&mut self, now: Now) -> u64 {
        self.session_deadline_ns = now.plus_ms(self.session_timeout_ms);
        self.session_deadline_ns
    }

    /// Whether the session has ended. A member that waits for a rebalance cannot send heartbeats:
    /// its session starts again with the answer.
    pub(crate) fn has_expired(&mut self, now: Now) -> bool {
        if !now.reached(self.session_deadline_ns) {
            return false;
        }
        let waits = self.join.is_some() || self.sync.is_some();
        if waits && self.standing == Standing::Established {
            self.session_deadline_ns = NEVER_NS;
            return false;
        }
        true
    }

    /// Its subscription under a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> &[u8] {
        let found = self.protocols.iter().find(|known| known.name == protocol);
        found.map_or(&[], |known| &known.metadata)
    }

    /// What it counts for in `group_bytes_max`.
    pub(crate) fn bytes(&self) -> usize {
        let protocols = self.protocols.iter();
        let protocols: usize = protocols.map(|p| p.name.len() + p.metadata.len()).sum();
        let instance = self.instance.as_ref().map_or(0, String::len);
        let client = self.client_id.len() + self.client_host.len();
        protocols + self.assignment.len() + instance + client
    }

    /// Its part of the group's record.
    pub(crate) fn stored(&self, id: &str, protocol: &str, assignment: &[u8]) -> StoredMember {
        let stored_ms = |timeout: u64| i32::try_from(timeout).unwrap_or(i32::MAX);
        StoredMember {
            member: id.to_owned(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: stored_ms(self.rebalance_timeout_ms),
            session_timeout_ms: stored_ms(self.session_timeout_ms),
            subscription: self.metadata(protocol).to_vec(),
            assignment: assignment.to_vec(),
        }
    }

    /// As DescribeGroups shows it; `protocol` is the one in force, if the group is stable.
    pub(crate) fn described(&self, id: &str, protocol: Option<&str>) -> DescribedMember {
        DescribedMember {
            member: id.to_owned(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol.map_or_else(Vec::new, |name| self.metadata(name).to_vec()),
            assignment: protocol.map_or_else(Vec::new, |_| self.assignment.clone()),
        }
    }
}
