//! The server: owns a model, computes for any client that it accepts, survives any that misbehaves.

use super::admission::{Place, Places, Slots, Stage};
use super::identity::{Fingerprint, Identity, describe};
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::wire::{Control, Message, Offer, Phases, Purpose, Request, unexpected};
use super::{
    Agreed, Bounds, Connection, Group, Part, Plans, ServiceError, Summary, Work, bytes, connection_id, in_lanes, memory,
};
use crate::compile;
use crate::graph::Weights;
use crate::model::{Description, Model};
use crate::plan::choice::{Choice, Objective};
use crate::plan::planner::{self, Policy, Task};
use crate::plan::speeds::Speeds;
use crate::program::LinearForms;
use crate::run::store::{Store, Writer, fingerprint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sirnn_backends::ot::BackendSpec;
use sirnn_backends::transport::{Channel, Limits as Waiting, Link, TcpChannel};
use sirnn_backends::{Error, Party, random};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

/// How often a thread that waits looks whether it still should.
const TICK: Duration = Duration::from_millis(20);
/// Longest message that is sent back to measure the way, and how many of them.
const MAX_ECHO: usize = 256 << 10;
const ECHOES: usize = 64;
/// First byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a server grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items of a request.
    pub items: usize,
    /// Items of a request at the same time.
    pub batch: usize,
    /// Requests at the same time.
    pub sessions: usize,
    /// Requests that wait for others to end.
    pub queue: usize,
    /// Cost of a request; the memory is that of all requests at the same time.
    pub bounds: Bounds,
    /// From a connection to its request.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            items: 100_000,
            batch: 1024,
            sessions: 4,
            queue: 16,
            bounds: Bounds::default(),
            handshake: Duration::from_secs(5),
        }
    }
}

/// What a server has to do with stores.
#[derive(Clone, Debug)]
pub enum Stores {
    /// Nothing: all phases of a request are done at once.
    None,
    /// It does offline phases alone, and keeps what they make in this file.
    Make(PathBuf),
    /// Clients may use what this file is, or what is in this folder.
    Use(PathBuf),
}

/// How a model is served. What is left open is chosen for every request ([`crate::plan::planner`]).
#[derive(Clone)]
pub struct Options {
    /// Where correlations come from.
    pub backend: Option<&'static dyn BackendSpec>,
    /// Whether cells are one look-up each.
    pub fuse: Option<bool>,
    /// Sessions of a request at the same time.
    pub lanes: Option<usize>,
    /// Where products with the weights come from.
    pub linear: LinearForms,
    /// Where it is written down how many values ring-LWE made with these weights.
    pub ledger: Option<Ledger>,
    /// What is chosen by.
    pub objective: Objective,
    /// The link that times are estimated for.
    pub link: Link,
    /// This machine.
    pub speeds: Speeds,
    /// What clients get.
    pub limits: Limits,
    /// Transport.
    pub connection: Connection,
    /// Values that clients get beside the outputs; they have to expect them. For tests of exactness.
    pub watch: Vec<String>,
    /// Correlations made ahead.
    pub stores: Stores,
}

impl Options {
    /// The policy of [`crate::plan::planner`].
    pub fn policy(&self) -> Policy {
        let Self { backend, fuse, lanes, linear, objective, link, .. } = *self;
        Policy { goal: objective.into(), link, backend, fuse, lanes, linear }
    }
}

/// What happened to a connection.
#[derive(Debug)]
pub struct Event {
    /// Who it was.
    pub peer: SocketAddr,
    /// What it was.
    pub outcome: Outcome,
}

/// How a connection ended.
#[derive(Debug)]
pub enum Outcome {
    /// A request was computed, or failed.
    Session(Result<Summary, ServiceError>),
    /// It did not become a session.
    Rejected(ServiceError),
    /// The client measured the way here, and asked for nothing.
    Measured,
}

/// A model at an address.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What the threads of a server share.
struct Shared {
    description: Description,
    weights: Weights,
    options: Options,
    /// Of the options; may be replaced.
    identity: RwLock<Option<Identity>>,
    places: Arc<Places>,
    slots: Arc<Slots>,
    /// Held while a request is planned: planning all there is takes all there is of a core.
    planning: Mutex<()>,
    /// Connections that sessions wait for.
    awaited: Mutex<HashMap<[u8; 16], Awaited>>,
    /// The connections of running sessions.
    groups: Mutex<HashMap<[u8; 16], Arc<Group>>>,
    /// What was chosen for requests of some size.
    chosen: Mutex<HashMap<Request, Choice>>,
    metrics: Metrics,
    stopped: AtomicBool,
}

/// A connection that a session waits for: where it goes, and whose it has to be.
struct Awaited {
    to: SyncSender<Control>,
    from: Option<Fingerprint>,
}

/// Most requests whose choice is kept.
const CHOSEN: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Server {
    /// Listens. Connections wait until [`Server::start`].
    ///
    /// # Errors
    /// Those of the socket.
    pub fn bind(address: impl ToSocketAddrs, model: &Model, options: Options) -> Result<Self, ServiceError> {
        let Limits { sessions, queue, bounds, .. } = options.limits;
        let shared = Shared {
            description: model.description.clone(),
            weights: model.weights.clone(),
            identity: RwLock::new(options.connection.identity.clone()),
            places: Arc::default(),
            slots: Arc::new(Slots::new(sessions, bounds.memory, queue)),
            planning: Mutex::default(),
            awaited: Mutex::default(),
            groups: Mutex::default(),
            chosen: Mutex::default(),
            metrics: Metrics::default(),
            stopped: AtomicBool::new(false),
            options,
        };
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn address(&self) -> Result<SocketAddr, ServiceError> {
        Ok(self.listener.local_addr()?)
    }

    /// To look after it while it runs.
    pub fn controller(&self) -> Controller {
        Controller(self.shared.clone())
    }

    /// Serves in threads of its own until it is told to stop. Says what happened to every connection that was more than
    /// a part of a session; the last one was told when all is over.
    pub fn start(self) -> Receiver<Event> {
        let (events, receiver) = channel();
        std::thread::spawn(move || {
            let tick = Timespec::try_from(5 * TICK).expect("it is short");
            while !self.shared.stopped.load(Ordering::Relaxed) {
                let _ = poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&tick));
                let (stream, peer) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(e) => {
                        // Out of descriptors, or the peer is gone already.
                        tracing::debug!("accepting a connection: {e}");
                        std::thread::sleep(TICK);
                        continue;
                    }
                };
                let (shared, events) = (self.shared.clone(), events.clone());
                let serve = move || {
                    let span = tracing::error_span!("connection", %peer, session = tracing::field::Empty);
                    let outcome = span.in_scope(|| {
                        let outcome = shared.connection(stream, peer);
                        if let Some(outcome) = &outcome {
                            shared.note(outcome);
                        }
                        outcome
                    });
                    if let Some(outcome) = outcome {
                        // Nobody may listen any more.
                        let _ = events.send(Event { peer, outcome });
                    }
                };
                // If there is no thread for it the connection closes.
                if let Err(e) = std::thread::Builder::new().name(format!("client {peer}")).spawn(serve) {
                    tracing::warn!("no thread for {peer}: {e}");
                }
            }
        });
        receiver
    }
}

/// Looks after a running server.
#[derive(Clone)]
pub struct Controller(Arc<Shared>);

impl Controller {
    /// Accepts nothing more; whoever waits is told. Running sessions go on.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
        self.0.slots.close();
        self.0.places.clear();
    }

    /// Ends running sessions; clients get the reason.
    pub fn end_sessions(&self, reason: &str) {
        lock(&self.0.groups).values().for_each(|group| group.end(Some(reason)));
    }

    /// Whether it accepts requests.
    pub fn is_ready(&self) -> bool {
        !self.0.stopped.load(Ordering::Relaxed)
    }

    /// Running sessions, and requests that wait.
    pub fn load(&self) -> (usize, usize) {
        self.0.slots.load()
    }

    /// Is another party from the next connection on, and accepts others. Nothing changes for running sessions.
    pub fn set_identity(&self, identity: Identity) {
        *self.0.identity.write().unwrap_or_else(|e| e.into_inner()) = Some(identity);
    }

    /// What happened so far, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let (running, queued) = self.load();
        self.0.metrics.text(running, queued)
    }
}

/// The connections of a running session, as long as it runs.
struct Registered<'a> {
    shared: &'a Shared,
    id: [u8; 16],
    group: Arc<Group>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.shared.groups).remove(&self.id);
    }
}

impl Shared {
    /// Logs and counts how a connection ended.
    fn note(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Session(Ok(summary)) => {
                self.metrics.served(summary);
                let Summary { instances, batches, bytes_total, wall_seconds, .. } = summary;
                tracing::info!(phase = "done", items = instances, batches, bytes = bytes_total, seconds = wall_seconds);
            }
            Outcome::Session(Err(e)) => {
                self.metrics.failed(e.fault());
                tracing::warn!(phase = "session", fault = e.fault().name(), "{e}");
            }
            Outcome::Measured => tracing::info!(phase = "measured"),
            Outcome::Rejected(e) => {
                self.metrics.refused(e.fault());
                tracing::warn!(phase = "handshake", fault = e.fault().name(), "{e}");
            }
        }
    }

    /// `None` if the connection became a part of a session.
    fn connection(&self, stream: TcpStream, peer: SocketAddr) -> Option<Outcome> {
        let accepted = TcpChannel::new(stream).map_err(ServiceError::from).and_then(|channel| {
            let place = self.places.take(peer.ip(), channel.handle());
            let (purpose, control) = self.greet(channel)?;
            place.reach(Stage::Greeted);
            Ok((purpose, control, place))
        });
        match accepted {
            Err(e) => Some(Outcome::Rejected(e)),
            Ok((Purpose::Join(id), control, _place)) => {
                let refused = self.hand_over(id, control)?;
                let stranger = ServiceError::Handshake("no session waits for this connection".into());
                refused.refuse(&stranger);
                Some(Outcome::Rejected(stranger))
            }
            Ok((Purpose::Session, control, place)) => {
                // A panic is a bug here, but it must not take other clients' sessions along.
                let result = catch_unwind(AssertUnwindSafe(|| self.request(control, place)));
                Some(result.unwrap_or_else(|_| Outcome::Session(Err(ServiceError::Internal("a panic".into())))))
            }
        }
    }

    /// Gives a further connection to the session that waits for it, which answers. Returns it if there is none.
    fn hand_over(&self, id: [u8; 16], mut control: Control) -> Option<Control> {
        let from = control.peer_fingerprint();
        let to = lock(&self.awaited).get(&id).filter(|awaited| awaited.from == from).map(|awaited| awaited.to.clone());
        let Some(to) = to else { return Some(control) };
        control.set_end(None);
        to.try_send(control).err().map(|(TrySendError::Full(control) | TrySendError::Disconnected(control))| control)
    }

    /// Sets TLS up, if it is spoken here, and receives the hello.
    fn greet(&self, mut channel: TcpChannel) -> Result<(Purpose, Control), ServiceError> {
        let handshake = self.options.limits.handshake;
        let end = Instant::now() + handshake;
        channel.set_limits(Waiting { deadline: handshake, ..self.options.connection.limits });
        let identity = self.identity.read().unwrap_or_else(|e| e.into_inner()).clone();
        let speaks_tls = channel.first_byte()? == TLS_HANDSHAKE;
        let secured = match &identity {
            Some(identity) if speaks_tls => channel.secure(identity.accept()?).map_err(ServiceError::from),
            Some(_) => Err(ServiceError::Handshake(
                "this server speaks TLS, the client does not: it needs --certificate and --key".into(),
            )),
            None => Ok(()),
        };
        let mut control = Control::over(channel, Waiting { deadline: handshake, ..self.options.connection.limits });
        control.set_end(Some(end));
        let answered = secured.and_then(|()| {
            let purpose = control.receive_hello(Party::P0);
            // Also to a peer of another version or role: its own error then says so. Who joins is answered by the session.
            if !matches!(purpose, Ok(Purpose::Join(_))) {
                control.send_hello(Party::P0, Purpose::Session)?;
            }
            purpose
        });
        match answered {
            Ok(purpose) => Ok((purpose, control)),
            Err(e) => {
                if !speaks_tls && identity.is_some() {
                    let _ = control.send_hello(Party::P0, Purpose::Session);
                    control.refuse(&e);
                } else {
                    // A last word of TLS has to arrive.
                    control.into_channel().close();
                }
                Err(e)
            }
        }
    }

    /// All that comes after the hello.
    fn request(&self, mut control: Control, place: Place) -> Outcome {
        let agreed = match self.agree(&mut control, &place) {
            Ok(Some(agreed)) => agreed,
            Ok(None) => return Outcome::Measured,
            Err(e) => {
                control.refuse(&e);
                return Outcome::Rejected(e);
            }
        };
        let handle = control.channel().handle();
        let admitted = self.slots.take(agreed.plans.memory(Party::P0), |position| {
            if handle.is_closed() {
                return Err(Error::Closed("it waited").into());
            }
            control.send(&Message::Queued(position))
        });
        let _slot = match admitted {
            Ok(slot) => slot,
            Err(e) => {
                control.refuse(&e);
                return Outcome::Rejected(e);
            }
        };
        drop(place);
        Outcome::Session(self.session(control, agreed))
    }

    fn session(&self, mut control: Control, mut agreed: Agreed) -> Result<Summary, ServiceError> {
        let start = Instant::now();
        let id = agreed.session;
        let group = Arc::new(Group::default());
        group.add(control.channel().handle());
        lock(&self.groups).insert(id, group.clone());
        let registered = Registered { shared: self, id, group };
        let from = control.peer_fingerprint();
        let lane = |l| [Part::Online, Part::Offline].map(|part| Expected::new(self, connection_id(id, l, part), from));
        let expected: Vec<_> = (0..agreed.plans.lanes).map(lane).collect();
        // From here on nothing is as if it had not happened.
        let begun = self.begin(&mut agreed);
        let connection = &self.options.connection;
        let ready = begun.and_then(|()| {
            control.send(&Message::Start)?;
            control.set_limits(connection.limits);
            Ok(connection.ready(control.channel())?)
        });
        if let Err(e) = ready {
            control.refuse(&e);
            return Err(e);
        }
        let done = self.compute(&mut control, agreed, &expected, &registered.group);
        drop(registered);
        match done {
            Ok(mut summary) => {
                summary.wall_seconds = start.elapsed().as_secs_f64();
                Ok(summary)
            }
            Err(e) => {
                // So that the last word arrives.
                control.into_channel().close();
                Err(e)
            }
        }
    }

    /// What is used up by the sessions of a request: a store, or values of the ledger, before anything that depends on
    /// the weights leaves.
    fn begin(&self, agreed: &mut Agreed) -> Result<(), ServiceError> {
        let values = agreed.plans.values();
        match (&mut agreed.work, &self.options.ledger) {
            (Work::Use(store), _) => store.begin()?,
            _ if values == 0 => {}
            (_, Some(ledger)) => agreed.counted = Some(ledger.reserve(values)?),
            (_, None) => {
                let what = "this server counts no products from ring-LWE, and so makes none";
                return Err(ServiceError::Request(what.into()));
            }
        }
        Ok(())
    }

    fn compute(
        &self,
        control: &mut Control,
        agreed: Agreed,
        expected: &[[Expected<'_>; 2]],
        group: &Group,
    ) -> Result<Summary, ServiceError> {
        let connection = &self.options.connection;
        let join = |lane: usize, part: Part| {
            let mut further = expected[lane][part as usize].wait(connection.limits, group)?;
            group.add(further.channel().handle());
            further.send_hello(Party::P0, Purpose::Session)?;
            further.send(&Message::Start)?;
            let mut channel = further.into_channel();
            connection.ready(&mut channel)?;
            Ok(Box::new(channel) as Box<dyn Channel>)
        };
        let done = in_lanes(&agreed.plans, group, control.channel(), &join, &|lane, (k, items, planned), channels| {
            let (plan, inputs) = (&planned.plan, &planned.inputs);
            let (_, report) = agreed.run(Party::P0, connection, (lane, k, plan), channels, inputs, &mut |_| {})?;
            Ok((items.len(), report))
        })?;
        let mut summary = Summary::new(&agreed.plans);
        summary.linear_values_total = agreed.counted;
        for (items, report) in done {
            summary.add(items, Party::P0, &report);
        }
        agreed.finish(Party::P0, control)?;
        Ok(summary)
    }

    /// The handshake after the hello, until plans agree. `None` if the client only measured the way.
    fn agree(&self, control: &mut Control, place: &Place) -> Result<Option<Agreed>, ServiceError> {
        let Options { limits, watch, .. } = &self.options;
        let session = random::bytes()?;
        let peer = control.channel().peer_certificate().map(describe);
        tracing::Span::current().record("session", crate::run::store::hex(&session));
        control.send(&Message::Offer(Offer {
            session,
            description: self.description.to_toml(),
            max_items: limits.items as u64,
            max_batch: limits.batch as u64,
        }))?;
        control.send_tensors(self.description.client.constants.bytes())?;
        let mut echoes = 0;
        let asked = loop {
            match control.receive() {
                Ok(Message::Request(request)) => break request,
                Ok(Message::Echo(text)) if echoes < ECHOES && text.len() <= MAX_ECHO => {
                    echoes += 1;
                    control.send(&Message::Echo(text))?;
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(ServiceError::Network(Error::Closed(_))) if echoes > 0 => return Ok(None),
                Err(e) => return Err(e),
            }
        };
        let Request { items, batch, phases, .. } = asked;
        let granted = |n: u64, limit: usize| usize::try_from(n).ok().filter(|n| (1..=limit).contains(n));
        let (Some(items), Some(batch)) = (granted(items, limits.items), granted(batch, limits.batch)) else {
            return Err(ServiceError::Limit(format!(
                "{items} items in batches of {batch} were asked for; this server grants up to {} and {}",
                limits.items, limits.batch
            )));
        };
        place.reach(Stage::Requested);
        // The client plans too, which takes its time.
        control.set_end(None);
        control.set_limits(self.options.connection.limits);
        tracing::info!(phase = "request", items, batch, certificate = peer);
        let request = self.facts(&asked, items)?;
        let task = Task { graph: &self.description.graph, request: &request, batch: batch.min(items), watch };
        let no = |what: &str| Err(ServiceError::Request(what.into()));
        let (made, store) = match (phases, &self.options.stores) {
            (Phases::Online(id), Stores::Use(path)) => (id, Some(Store::find(path, &id)?)),
            (Phases::Online(_), _) => return no("this server has no stores"),
            (Phases::Offline, Stores::None | Stores::Use(_)) => return no("this server makes no stores"),
            (Phases::Both, Stores::Make(_)) => return no("this server makes stores and computes nothing"),
            _ => (session, None),
        };
        let planning = lock(&self.planning);
        let choice = match &store {
            Some(store) => {
                store.fits(Party::P0, items, task.batch)?;
                store.header().choice.clone()
            }
            None => {
                let Some(linear) = self.options.linear.agree(asked.linear) else {
                    return no(&format!(
                        "this server makes products with the weights by --linear {}, not {}",
                        self.options.linear.name(),
                        asked.linear.name()
                    ));
                };
                // The nonce is another one every time, and changes nothing.
                self.choose(&task, &Request { linear, nonce: [0; 16], ..asked.clone() })?
            }
        };
        let plans = Plans::build(&task, Some(&self.weights), phases, &choice)?;
        drop(planning);
        plans.check(Party::P0, limits.bounds)?;
        let header = plans.header(Party::P0, made, &self.description.name, &task, &choice);
        let weights = || fingerprint(&made, Some(&self.weights));
        let work = match (store, &self.options.stores) {
            (Some(store), _) => {
                store.check(&header, weights())?;
                Work::Use(Box::new(store))
            }
            (None, Stores::Make(path)) => Work::Make(Box::new(Mutex::new(Writer::create(path, &header, weights())?))),
            (None, _) => Work::Compute,
        };
        control.send(&Message::Choice(choice))?;
        plans.compare(control)?;
        Ok(Some(Agreed { plans, work, session, made, nonce: asked.nonce, counted: None }))
    }

    /// The public facts of a request, if the network can be computed for them.
    fn facts(&self, asked: &Request, items: usize) -> Result<compile::Request, ServiceError> {
        let no = |what: String| Err(ServiceError::Request(what));
        let Ok(steps) = usize::try_from(asked.steps) else { return no(format!("{} time steps", asked.steps)) };
        self.description.typed(steps)?;
        let lengths = asked.lengths.as_ref().map(|l| l.iter().map(|&n| n as usize).collect::<Vec<_>>());
        if let Some(lengths) = &lengths {
            if lengths.len() != items {
                return no(format!("{} lengths for {items} items", lengths.len()));
            }
            if let Some(other) = lengths.iter().find(|n| !(1..=steps).contains(*n)) {
                return no(format!("an item of length {other}, the longest has {steps}"));
            }
        }
        Ok(compile::Request { items, steps, lengths })
    }

    fn choose(&self, task: &Task<'_>, asked: &Request) -> Result<Choice, ServiceError> {
        let (items, phases, key) = (task.request.items, asked.phases, asked);
        if let Some(choice) = lock(&self.chosen).get(key) {
            return Ok(choice.clone());
        }
        let Options { limits, objective, speeds, .. } = &self.options;
        let sessions = |c: &planner::Candidate| items.div_ceil(c.batch) as u64;
        let allowed = |c: &planner::Candidate| {
            bytes(&c.plan, c.backend, phases).saturating_mul(sessions(c)) <= limits.bounds.bytes
                && memory(&c.plan)[0].saturating_mul(c.lanes as u64) <= limits.bounds.memory
        };
        let policy = Policy { linear: asked.linear, ..self.options.policy() };
        let best = planner::choose(task, &policy, speeds, allowed)?;
        let choice = Choice {
            backend: best.backend.name().into(),
            objective: *objective,
            fuse: best.fuse,
            linear: asked.linear,
            lanes: best.lanes as u64,
            batch: best.batch as u64,
        };
        let mut chosen = lock(&self.chosen);
        if chosen.len() >= CHOSEN {
            chosen.clear();
        }
        // Lengths hardly come twice.
        if asked.lengths.is_none() {
            chosen.insert(key.clone(), choice.clone());
        }
        Ok(choice)
    }
}

/// A connection that a session waits for.
struct Expected<'a> {
    shared: &'a Shared,
    id: [u8; 16],
    /// Locked by the lane that waits; no two do.
    came: Mutex<Receiver<Control>>,
}

impl<'a> Expected<'a> {
    fn new(shared: &'a Shared, id: [u8; 16], from: Option<Fingerprint>) -> Self {
        let (to, came) = sync_channel(1);
        lock(&shared.awaited).insert(id, Awaited { to, from });
        Self { shared, id, came: Mutex::new(came) }
    }

    /// Waits for it, until the session is over.
    fn wait(&self, limits: Waiting, group: &Group) -> Result<Control, Error> {
        let came = lock(&self.came);
        let end = Instant::now() + limits.deadline;
        loop {
            match came.recv_timeout(TICK) {
                Ok(control) => return Ok(control),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed("a further connection was expected")),
                Err(RecvTimeoutError::Timeout) if group.is_over() => {
                    return Err(Error::Closed("a further connection was expected"));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                    return Err(Error::Deadline(limits.deadline));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        lock(&self.shared.awaited).remove(&self.id);
    }
}
