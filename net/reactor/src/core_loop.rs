//! One core's state, shared by its tasks: the service, the outbox, the connections, the files.
//!
//! Every input goes through [`Core::step`], which marks the turn dirty; the turn task runs when all
//! other ready tasks have.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use highwater_base::{CoreId, Now};

use crate::blocking::BlockingHandle;
use crate::clock::now;
use crate::config::ReactorConfig;
use crate::connection::Connection;
use crate::disk::DiskQueues;
use crate::durable_writes::DurableWrites;
use crate::file_table::FileTable;
use crate::file_turns::FileTurns;
use crate::large_frames::LargeFrames;
use crate::mailbox::{Envelope, Post};
use crate::outbox::Outbox;
use crate::receive_budget::ReceiveBudget;
use crate::service::{ConnectionId, Service};
use crate::signal::Signal;

/// State of one core.
pub(crate) struct Core<S: Service> {
    pub id: CoreId,
    pub config: Rc<ReactorConfig>,
    service: RefCell<S>,
    outbox: RefCell<Outbox<S::Message>>,
    pub connections: RefCell<BTreeMap<ConnectionId, Rc<Connection<S::Message>>>>,
    next_connection: Cell<u64>,
    /// Connections of all cores.
    pub connection_count: Arc<AtomicUsize>,
    pub post: RefCell<Post<Envelope<S::Message>>>,
    pub files: RefCell<FileTable>,
    pub file_turns: FileTurns,
    pub receive_budget: ReceiveBudget,
    pub large_frames: LargeFrames,
    pub disk: DiskQueues,
    pub blocking: BlockingHandle,
    /// Mail to another core did not fit its ring.
    pub mail_waits: Cell<bool>,
    pub turn: Signal,
    pub timer: Signal,
    pub idle: Signal,
    /// Durable writes and flushes in flight: the core does not spin meanwhile.
    pub durable_writes: DurableWrites,
    pub last_activity_ns: Cell<u64>,
    pub armed_deadline_ns: Cell<u64>,
    pub shutting_down: Cell<bool>,
    pub stopped: Cell<bool>,
    pub stop: Signal,
}

impl<S: Service> Core<S> {
    pub fn new(
        id: CoreId,
        config: Rc<ReactorConfig>,
        service: S,
        post: Post<Envelope<S::Message>>,
        blocking: BlockingHandle,
        connection_count: Arc<AtomicUsize>,
    ) -> Core<S> {
        let files = FileTable::new(
            config.data_dir.clone(),
            config.direct_io,
            config.open_files_max,
        );
        let receive_budget = ReceiveBudget::new(config.receive_bytes_max);
        let file_turns = FileTurns::new(config.cold_reads_in_flight_max);
        let durable_writes = DurableWrites::new(config.cold_read_share_percent);
        Core {
            id,
            config,
            service: RefCell::new(service),
            outbox: RefCell::new(Outbox::default()),
            connections: RefCell::new(BTreeMap::new()),
            next_connection: Cell::new(0),
            connection_count,
            post: RefCell::new(post),
            files: RefCell::new(files),
            file_turns,
            receive_budget,
            large_frames: LargeFrames::default(),
            disk: DiskQueues::default(),
            blocking,
            mail_waits: Cell::new(false),
            turn: Signal::default(),
            timer: Signal::default(),
            idle: Signal::default(),
            durable_writes,
            last_activity_ns: Cell::new(0),
            armed_deadline_ns: Cell::new(u64::MAX),
            shutting_down: Cell::new(false),
            stopped: Cell::new(false),
            stop: Signal::default(),
        }
    }

    /// Steps the service with one input and makes sure that the turn ends.
    pub fn step<R>(&self, input: impl FnOnce(&mut S, Now, &mut Outbox<S::Message>) -> R) -> R {
        let now = now();
        self.last_activity_ns.set(now.monotonic_ns);
        self.turn.set();
        input(
            &mut self.service.borrow_mut(),
            now,
            &mut self.outbox.borrow_mut(),
        )
    }

    /// Looks at the service without an input.
    pub fn service<R>(&self, look: impl FnOnce(&S) -> R) -> R {
        look(&self.service.borrow())
    }

    /// Works on the outbox, outside of a step.
    pub fn outbox<R>(&self, work: impl FnOnce(&mut Outbox<S::Message>) -> R) -> R {
        work(&mut self.outbox.borrow_mut())
    }

    pub fn connection(&self, id: ConnectionId) -> Option<Rc<Connection<S::Message>>> {
        self.connections.borrow().get(&id).cloned()
    }

    pub fn new_connection_id(&self) -> ConnectionId {
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        ConnectionId(id)
    }
}
