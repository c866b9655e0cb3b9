//! The server: owns a model, computes for any client that asks, survives any that misbehaves.

use super::ledger::Ledger;
use super::wire::{Choice, Control, Message, Objective, Offer, Phases, Purpose, Request, unexpected};
use super::{
    Agreed, Bounds, Connection, Part, Plans, ServiceError, Summary, Work, bytes, connection_id, in_lanes, memory,
};
use crate::compile;
use crate::graph::Weights;
use crate::model::{Description, Model};
use crate::plan::planner::{self, MAX_LANES, Policy, Task};
use crate::plan::speeds::Speeds;
use crate::program::LinearForms;
use crate::run::store::{Store, Writer, fingerprint};
use sirnn_backends::ot::BackendSpec;
use sirnn_backends::transport::Link;
use sirnn_backends::{Error, Party, random};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Connections beyond those of sessions that may be in their first message.
const PENDING: usize = 32;

/// What a server grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items of a request.
    pub items: usize,
    /// Items of a request at the same time.
    pub batch: usize,
    /// Requests at the same time.
    pub sessions: usize,
    /// Cost of a request.
    pub bounds: Bounds,
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
    sessions: Arc<AtomicUsize>,
    /// Connections that sessions wait for.
    waiting: Mutex<HashMap<[u8; 16], SyncSender<TcpStream>>>,
    /// What was chosen for requests of some size: planning all there is takes longer than a small request.
    chosen: Mutex<HashMap<Request, Choice>>,
}

/// Most requests whose choice is kept.
const CHOSEN: usize = 256;

/// One of a limited number of things that run at the same time.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(counter: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let taken = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1));
        taken.ok().map(|_| Self(counter.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Listens. Connections wait until [`Server::start`].
    ///
    /// # Errors
    /// Those of the socket.
    pub fn bind(address: impl ToSocketAddrs, model: &Model, options: Options) -> Result<Self, ServiceError> {
        let shared = Shared {
            description: model.description.clone(),
            weights: model.weights.clone(),
            options,
            sessions: Arc::default(),
            waiting: Mutex::default(),
            chosen: Mutex::default(),
        };
        Ok(Self { listener: TcpListener::bind(address)?, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn address(&self) -> Result<SocketAddr, ServiceError> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves in threads of its own until the process ends. Says what happened to every connection that was more than
    /// a part of a session.
    pub fn start(self) -> Receiver<Event> {
        let (events, receiver) = channel();
        let connections = Arc::default();
        let most = 2 * MAX_LANES * self.shared.options.limits.sessions + PENDING;
        std::thread::spawn(move || {
            loop {
                let Ok((stream, peer)) = self.listener.accept() else {
                    // Out of descriptors, or the peer is gone already.
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                };
                let Some(slot) = Slot::take(&connections, most) else { continue };
                let (shared, events) = (self.shared.clone(), events.clone());
                let serve = move || {
                    let _slot = slot;
                    if let Some(outcome) = shared.connection(stream) {
                        // Nobody may listen any more.
                        let _ = events.send(Event { peer, outcome });
                    }
                };
                // If there is no thread for it the connection closes.
                let _ = std::thread::Builder::new().name(format!("client {peer}")).spawn(serve);
            }
        });
        receiver
    }
}

impl Shared {
    /// `None` if the connection became a part of a session.
    fn connection(&self, stream: TcpStream) -> Option<Outcome> {
        let hello = || {
            let mut control = Control::new(stream, self.options.connection.deadline)?;
            let purpose = control.receive_hello(Party::P0);
            // Also to a peer of another version or role: its own error then says so.
            if !matches!(purpose, Ok(Purpose::Join(_))) {
                control.send_hello(Party::P0, Purpose::Session)?;
            }
            Ok((purpose?, control))
        };
        match hello() {
            Err(e) => Some(Outcome::Rejected(e)),
            Ok((Purpose::Join(id), control)) => {
                let handed = self.waiting().get(&id).is_some_and(|s| s.try_send(control.into_stream()).is_ok());
                (!handed)
                    .then(|| Outcome::Rejected(ServiceError::Handshake("no session waits for this connection".into())))
            }
            Ok((Purpose::Session, mut control)) => {
                let Some(_slot) = Slot::take(&self.sessions, self.options.limits.sessions) else {
                    let busy = ServiceError::Limit("the server is busy".into());
                    control.refuse(&busy);
                    return Some(Outcome::Rejected(busy));
                };
                // A panic is a bug here, but it must not take other clients' sessions along.
                let result = catch_unwind(AssertUnwindSafe(|| self.session(control)));
                let bug = || Err(ServiceError::Limit("internal error".into()));
                Some(Outcome::Session(result.unwrap_or_else(|_| bug())))
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<[u8; 16], SyncSender<TcpStream>>> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn session(&self, mut control: Control) -> Result<Summary, ServiceError> {
        let id = random::bytes()?;
        let (agreed, doors) = match self.agree(&mut control, id) {
            Ok(agreed) => agreed,
            Err(e) => {
                if !matches!(e, ServiceError::Refused(_) | ServiceError::Network(_)) {
                    control.refuse(&e);
                }
                return Err(e);
            }
        };
        let start = Instant::now();
        let connection = self.options.connection;
        let join = |lane: usize, part: Part| {
            let stream = doors[lane][part as usize].wait(connection.deadline)?;
            Ok(connection.channel(stream)?)
        };
        let mut first = connection.channel(control.into_stream())?;
        let done = in_lanes(&agreed.plans, first.as_mut(), &join, &|lane, (k, items, planned), channels| {
            let (plan, inputs) = (&planned.plan, &planned.inputs);
            let (_, report) = agreed.run(Party::P0, &connection, (lane, k, plan), channels, inputs, &mut |_| {})?;
            Ok((items.len(), report))
        })?;
        let mut summary = Summary::new(&agreed.plans);
        summary.linear_values_total = agreed.counted;
        for (items, report) in done {
            summary.add(items, Party::P0, &report);
        }
        agreed.finish(first.as_mut())?;
        summary.wall_seconds = start.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// The handshake after the hello. The doors, by lane and part, are open before the client learns of them.
    fn agree(&self, control: &mut Control, session: [u8; 16]) -> Result<(Agreed, Vec<[Door<'_>; 2]>), ServiceError> {
        let Options { limits, watch, .. } = &self.options;
        control.send(&Message::Offer(Offer {
            session,
            description: self.description.to_toml(),
            max_items: limits.items as u64,
            max_batch: limits.batch as u64,
        }))?;
        let asked = match control.receive()? {
            Message::Request(request) => request,
            other => return Err(unexpected(&other)),
        };
        let Request { items, batch, phases, .. } = asked;
        let granted = |n: u64, limit: usize| usize::try_from(n).ok().filter(|n| (1..=limit).contains(n));
        let (Some(items), Some(batch)) = (granted(items, limits.items), granted(batch, limits.batch)) else {
            return Err(ServiceError::Limit(format!(
                "{items} items in batches of {batch} were asked for; this server grants up to {} and {}",
                limits.items, limits.batch
            )));
        };
        let request = self.facts(&asked, items)?;
        let task = Task { graph: &self.description.graph, request: &request, batch: batch.min(items), watch };
        let no = |what: &str| Err(ServiceError::Limit(what.into()));
        let (made, store) = match (phases, &self.options.stores) {
            (Phases::Online(id), Stores::Use(path)) => (id, Some(Store::find(path, &id)?)),
            (Phases::Online(_), _) => return no("this server has no stores"),
            (Phases::Offline, Stores::None | Stores::Use(_)) => return no("this server makes no stores"),
            (Phases::Both, Stores::Make(_)) => return no("this server makes stores and computes nothing"),
            _ => (session, None),
        };
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
        plans.check(Party::P0, limits.bounds)?;
        let header = plans.header(Party::P0, made, &self.description.name, &task, &choice);
        let weights = || fingerprint(&made, Some(&self.weights));
        let mut work = match (store, &self.options.stores) {
            (Some(store), _) => {
                store.check(&header, weights())?;
                Work::Use(store)
            }
            (None, Stores::Make(path)) => Work::Make(Box::new(Mutex::new(Writer::create(path, &header, weights())?))),
            (None, _) => Work::Compute,
        };
        let lane = |l| [Part::Online, Part::Offline].map(|part| Door::open(self, connection_id(session, l, part)));
        let doors = (0..plans.lanes).map(lane).collect();
        // Before anything that depends on the weights leaves.
        let counted = match &self.options.ledger {
            _ if matches!(phases, Phases::Online(_)) || plans.values() == 0 => None,
            Some(ledger) => Some(ledger.reserve(plans.values())?),
            None => return no("this server counts no products from ring-LWE, and so makes none"),
        };
        control.send(&Message::Choice(choice))?;
        plans.compare(control)?;
        if let Work::Use(store) = &mut work {
            store.begin()?;
        }
        Ok((Agreed { plans, work, made, nonce: asked.nonce, counted }, doors))
    }

    /// The public facts of a request, if the network can be computed for them.
    fn facts(&self, asked: &Request, items: usize) -> Result<compile::Request, ServiceError> {
        let no = |what: String| Err(ServiceError::Limit(what));
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
        if let Some(choice) = self.chosen.lock().unwrap_or_else(|e| e.into_inner()).get(key) {
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
        let mut chosen = self.chosen.lock().unwrap_or_else(|e| e.into_inner());
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

/// Where a connection of a session is waited for.
struct Door<'a> {
    shared: &'a Shared,
    id: [u8; 16],
    /// Locked by the lane that waits; no two do.
    came: Mutex<Receiver<TcpStream>>,
}

impl<'a> Door<'a> {
    fn open(shared: &'a Shared, id: [u8; 16]) -> Self {
        let (sender, came) = sync_channel(1);
        shared.waiting().insert(id, sender);
        Self { shared, id, came: Mutex::new(came) }
    }

    fn wait(&self, deadline: Duration) -> Result<TcpStream, Error> {
        let came = self.came.lock().unwrap_or_else(|e| e.into_inner());
        came.recv_timeout(deadline).map_err(|e| match e {
            RecvTimeoutError::Timeout => Error::Deadline(deadline),
            RecvTimeoutError::Disconnected => Error::Closed("a further connection was expected"),
        })
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.id);
    }
}
