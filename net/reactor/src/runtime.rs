//! Starts one pinned thread per core, waits for signals, stops them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use highwater_base::CoreId;
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::blocking::{self, BlockingHandle};
use crate::config::{Deal, ReactorConfig};
use crate::core_loop::Core;
use crate::listener::Bound;
use crate::mailbox::{
    CONTROL_COUNTERS, CONTROL_OUTSIDE, CONTROL_SHUTDOWN, Doorbell, Envelope, Letterbox, Post,
    mailboxes,
};
use crate::outside::{OutsideMail, OutsidePost};
use crate::parking::Parking;
use crate::service::{Service, UserSignal};
use crate::{descriptors, disk, gauges, idle, large_frames, listener, signal, timer, turn};

/// Entries of a core's submission queue.
const RING_ENTRIES: u32 = 4096;
/// Mail taken before the turn ends and other tasks run: a core that is sent more than it can do
/// must still get to answering.
pub(crate) const ENVELOPES_IN_A_ROW_MAX: usize = 1024;
/// Connections that may wait to be accepted; the system cuts it to its own bound.
const BACKLOG_CONNECTIONS: libc::c_int = 16_384;
/// How long a stopping core waits for answers to leave.
const LINGER: Duration = Duration::from_secs(1);

/// Why the reactor could not run.
#[derive(Debug, thiserror::Error)]
pub enum ReactorError {
    /// A service could not be made.
    #[error("{0}")]
    Service(String),
    /// An address could not be bound.
    #[error("cannot listen on {address}: {error}; is another process using the port?")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    /// A system resource is missing.
    #[error("{what}: {error}")]
    System {
        what: &'static str,
        error: io::Error,
    },
    /// A core ended without being asked to.
    #[error("core {0} ended unexpectedly")]
    CoreEnded(usize),
}

fn system(what: &'static str) -> impl Fn(io::Error) -> ReactorError {
    move |error| ReactorError::System { what, error }
}

/// What a core's thread is started with.
struct Seed<M> {
    id: CoreId,
    config: ReactorConfig,
    post: Post<Envelope<M>>,
    letterbox: Letterbox<Envelope<M>, M>,
    blocking: BlockingHandle,
    connection_count: Arc<AtomicUsize>,
    made: Sender<Result<(), String>>,
    go: Receiver<Vec<Bound>>,
    accepting: Sender<()>,
    ended: Arc<Doorbell>,
}

/// Runs until SIGTERM or SIGINT has been obeyed by every core.
///
/// `make` builds each core's service on that core's thread; it may block. `ready` is called once
/// every core runs and every listener accepts, with the bound addresses in listener order and a way
/// to write to the cores from other threads.
///
/// # Errors
/// A service that could not be made, an address that is taken, a missing system resource.
pub fn run<S: Service>(
    config: ReactorConfig,
    make: impl Fn(CoreId) -> Result<S, String> + Send + Sync + 'static,
    ready: impl FnOnce(&[SocketAddr], OutsidePost<S::Message>) + Send,
) -> Result<(), ReactorError> {
    let config = descriptors::fit(config, descriptors::raise_limit());
    abort_on_panic();
    let signals = SignalFd::new().map_err(system("signalfd"))?;
    let ended = Arc::new(Doorbell::new().map_err(system("eventfd"))?);
    let helper = blocking::start(config.direct_io).map_err(system("starting the disk helper"))?;
    let boxes = mailboxes(config.cores).map_err(system("eventfd"))?;
    let doorbells: Vec<Arc<Doorbell>> = boxes
        .iter()
        .map(|(_, inbox)| Arc::clone(&inbox.doorbell))
        .collect();
    let outside: Vec<Arc<OutsideMail<S::Message>>> =
        (0..config.cores).map(|_| Arc::default()).collect();
    let post = outside.iter().cloned().zip(doorbells.iter().cloned());
    let outside_post = OutsidePost::new(post.collect());
    let connection_count = Arc::new(AtomicUsize::new(0));
    let make = Arc::new(make);
    let (made, made_results) = channel();
    let (accepting, accepting_signals) = channel();
    let mut gates = Vec::new();
    let mut threads = Vec::new();
    for (index, (post, inbox)) in boxes.into_iter().enumerate() {
        let (gate, go) = channel();
        gates.push(gate);
        let blocking = BlockingHandle {
            sender: helper.clone(),
            doorbell: Arc::clone(&inbox.doorbell),
        };
        let seed = Seed {
            id: CoreId(index as u16),
            config: config.clone(),
            post,
            letterbox: Letterbox {
                inbox,
                outside: Arc::clone(&outside[index]),
            },
            blocking,
            connection_count: Arc::clone(&connection_count),
            made: made.clone(),
            go,
            accepting: accepting.clone(),
            ended: Arc::clone(&ended),
        };
        let make = Arc::clone(&make);
        let thread = std::thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(move || core_thread(seed, &*make))
            .map_err(system("starting a core"))?;
        threads.push(thread);
    }
    drop((made, accepting, helper));
    for _ in 0..config.cores {
        match made_results.recv() {
            Ok(Ok(())) => {}
            // The other cores end when their gates are dropped.
            Ok(Err(error)) => return Err(ReactorError::Service(error)),
            Err(_) => return Err(ReactorError::CoreEnded(0)),
        }
    }
    let addresses = open_gates(&config, gates)?;
    for _ in 0..config.cores {
        accepting_signals
            .recv()
            .map_err(|_| ReactorError::CoreEnded(0))?;
    }
    ready(&addresses, outside_post);
    obey_signals(&signals, &ended, &doorbells, config.cores)?;
    for (index, thread) in threads.into_iter().enumerate() {
        thread.join().map_err(|_| ReactorError::CoreEnded(index))?;
    }
    Ok(())
}

/// Binds the listeners and gives each to the core that accepts on it.
fn open_gates(
    config: &ReactorConfig,
    gates: Vec<Sender<Vec<Bound>>>,
) -> Result<Vec<SocketAddr>, ReactorError> {
    let mut addresses = Vec::new();
    let mut per_core: Vec<Vec<Bound>> = (0..config.cores).map(|_| Vec::new()).collect();
    for (index, wanted) in config.listeners.iter().enumerate() {
        let address = wanted.address;
        let listener =
            TcpListener::bind(address).map_err(|error| ReactorError::Listen { address, error })?;
        deepen_backlog(&listener).map_err(|error| ReactorError::Listen { address, error })?;
        let address = listener
            .local_addr()
            .map_err(system("reading a bound address"))?;
        addresses.push(address);
        let core = match wanted.deal {
            Deal::RoundRobin => 0,
            Deal::Own(core) => core.0 as usize % config.cores,
        };
        per_core[core].push(Bound {
            listener,
            index,
            deal: wanted.deal,
            address,
        });
    }
    for (gate, listeners) in gates.into_iter().zip(per_core) {
        let _ = gate.send(listeners);
    }
    Ok(addresses)
}

/// The standard library asks for 128. When all clients come back at once, those beyond it would each
/// lose their first packet and wait a second.
fn deepen_backlog(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::listen(listener.as_raw_fd(), BACKLOG_CONNECTIONS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn core_thread<S: Service>(seed: Seed<S::Message>, make: &dyn Fn(CoreId) -> Result<S, String>) {
    if seed.config.pin {
        pin(seed.config.first_core + seed.id.0 as usize);
    }
    let service = match make(seed.id) {
        Ok(service) => service,
        Err(error) => {
            let _ = seed.made.send(Err(error));
            return;
        }
    };
    let _ = seed.made.send(Ok(()));
    // A closed gate means that another core could not start.
    let Ok(listeners) = seed.go.recv() else {
        return;
    };
    let mut ring = io_uring::IoUring::builder();
    // Completions run on any entry into the kernel. With DEFER_TASKRUN they would wait for the core
    // to park, and a core with a task that is always ready does not.
    ring.setup_single_issuer().setup_coop_taskrun();
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()
        .expect("check_io_uring succeeded, so a ring can be made");
    let ended = Arc::clone(&seed.ended);
    runtime.block_on(serve(seed, service, listeners));
    ended.count_one();
}

async fn serve<S: Service>(seed: Seed<S::Message>, service: S, listeners: Vec<Bound>) {
    let config = Rc::new(seed.config);
    let core = Rc::new(Core::new(
        seed.id,
        config,
        service,
        seed.post,
        seed.blocking,
        seed.connection_count,
    ));
    disk::start(&core);
    monoio::spawn(signal::wake_yielded());
    monoio::spawn(turn::run(Rc::clone(&core)));
    monoio::spawn(timer::run(Rc::clone(&core)));
    monoio::spawn(idle::run(Rc::clone(&core)));
    monoio::spawn(large_frames::run(Rc::clone(&core)));
    core.step(|service, now, out| service.on_start(now, out));
    for bound in listeners {
        monoio::spawn(listener::run(Rc::clone(&core), bound));
    }
    monoio::spawn(read_mail(Rc::clone(&core), seed.letterbox));
    let _ = seed.accepting.send(());
    core.stop.wait().await;
    linger(&core).await;
}

/// Gives answers that are still queued a moment to leave.
async fn linger<S: Service>(core: &Rc<Core<S>>) {
    let all_sent = async {
        loop {
            let queued = core
                .connections
                .borrow()
                .values()
                .any(|connection| connection.queued_bytes.get() > 0);
            if !queued {
                return;
            }
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = monoio::time::timeout(LINGER, all_sent).await;
    for connection in core.connections.borrow().values() {
        connection.shut_down();
    }
}

/// Takes mail, completions of the disk helper and the main thread's wishes.
async fn read_mail<S: Service>(
    core: Rc<Core<S>>,
    letterbox: Letterbox<Envelope<S::Message>, S::Message>,
) {
    let Letterbox { inbox, outside } = letterbox;
    let bell = inbox
        .doorbell
        .reader()
        .expect("a descriptor for the doorbell");
    let bell = monoio::fs::File::from_std(bell.into()).expect("an eventfd is a file");
    let mut parking = Parking::new().expect("an eventfd can be made");
    let mut counter = vec![0u8; 8];
    let mut completions = Vec::new();
    loop {
        let mut busy = false;
        for _ in 0..ENVELOPES_IN_A_ROW_MAX {
            let Some(envelope) = inbox.receive() else {
                break;
            };
            busy = true;
            receive(&core, envelope);
        }
        inbox.doorbell.take_completions(&mut completions);
        for completion in completions.drain(..) {
            busy = true;
            core.step(|service, now, out| service.on_disk(now, completion, out));
        }
        let control = inbox.doorbell.take_control();
        if control & CONTROL_COUNTERS != 0 {
            core.step(|service, now, out| {
                service.on_signal(now, UserSignal::Counters, out);
            });
        }
        if control & CONTROL_OUTSIDE != 0 {
            while let Some(message) = outside.take() {
                let gauges = gauges::read(&core, &inbox);
                core.step(|service, now, out| service.on_outside(now, &gauges, message, out));
            }
        }
        if control & CONTROL_SHUTDOWN != 0 && !core.shutting_down.replace(true) {
            core.step(|service, now, out| service.on_shutdown(now, out));
        }
        if busy || control != 0 {
            // Others first: what arrives meanwhile is taken in the next round.
            signal::yield_now().await;
            parking.pass_by(core.last_activity_ns.get()).await;
            continue;
        }
        inbox.doorbell.prepare_to_wait();
        if !inbox.is_empty() || inbox.doorbell.has_work() {
            inbox.doorbell.awake();
            continue;
        }
        let (_, returned) = bell.read_at(counter, 0).await;
        counter = returned;
        inbox.doorbell.awake();
    }
}

fn receive<S: Service>(core: &Rc<Core<S>>, envelope: Envelope<S::Message>) {
    match envelope {
        Envelope::Message(from, message) => {
            core.step(|service, now, out| service.on_message(now, from, message, out));
        }
        Envelope::Accepted(socket) => turn::open_connection(core, socket, None),
        Envelope::Arrival(socket, unread, message) => {
            turn::open_connection(core, socket, Some((unread, message)));
        }
    }
}

fn pin(cpu: usize) {
    let known = core_affinity::get_core_ids().unwrap_or_default();
    match known.iter().find(|core| core.id == cpu) {
        Some(core) if core_affinity::set_for_current(*core) => {}
        _ => tracing::warn!(cpu, "this core could not be pinned to its CPU"),
    }
}

/// A panic anywhere ends the process: recovery is tested, limping is not.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if cfg!(mutant = "R08") {
            return;
        }
        std::process::abort();
    }));
}

/// Blocks the signals that [`run`] obeys in this thread and those it starts from now on: a host that
/// starts threads of its own before `run` calls it first, or a signal would end the process there.
/// What arrives meanwhile waits for `run`.
pub fn hold_signals() {
    let set = obeyed_signals();
    // SAFETY: the set lives for the call.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

fn obeyed_signals() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// The obeyed signals as a descriptor; they are blocked in every thread started afterwards.
struct SignalFd(std::os::fd::OwnedFd);

impl SignalFd {
    fn new() -> io::Result<SignalFd> {
        use std::os::fd::FromRawFd;
        hold_signals();
        let set = obeyed_signals();
        // SAFETY: the set lives for the call; descriptors are checked.
        unsafe {
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(SignalFd(std::os::fd::OwnedFd::from_raw_fd(fd)))
        }
    }

    fn read(&self) -> io::Result<i32> {
        use std::os::fd::AsRawFd;
        // SAFETY: the struct lives for the call and has the size given.
        unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            let read = libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size);
            if read != size as isize {
                return Err(io::Error::last_os_error());
            }
            Ok(info.ssi_signo as i32)
        }
    }
}

/// Passes signals on to the cores until all of them have ended.
fn obey_signals(
    signals: &SignalFd,
    ended: &Doorbell,
    doorbells: &[Arc<Doorbell>],
    cores: usize,
) -> Result<(), ReactorError> {
    use std::os::fd::AsRawFd;
    let bell = ended
        .reader()
        .map_err(system("the doorbell of ended cores"))?;
    let mut left = cores;
    let mut asked = false;
    while left > 0 {
        let mut polled = [
            libc::pollfd {
                fd: signals.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: bell.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        // SAFETY: the array lives for the call.
        if unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) } < 0 {
            continue;
        }
        if polled[1].revents != 0 {
            let mut count = 0u64;
            // SAFETY: reads the eight bytes of `count`.
            unsafe { libc::read(bell.as_raw_fd(), (&raw mut count).cast(), 8) };
            left = left.saturating_sub(count as usize);
            continue;
        }
        match signals.read().map_err(system("reading a signal"))? {
            libc::SIGUSR1 => {
                doorbells
                    .iter()
                    .for_each(|bell| bell.set_control(CONTROL_COUNTERS));
            }
            libc::SIGINT if asked => {
                eprintln!("interrupted again: stopping without a clean end");
                std::process::exit(130);
            }
            _ => {
                asked = true;
                doorbells
                    .iter()
                    .for_each(|bell| bell.set_control(CONTROL_SHUTDOWN));
            }
        }
    }
    Ok(())
}
