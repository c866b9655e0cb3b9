//! The service: a server that owns a model, a client that owns inputs, and what they tell each other before they compute.
//!
//! ```text
//! client                                server
//!   (TLS, both with certificates) <->
//!   hello (magic, version, role)  ->
//!                                 <-      hello
//!                                 <-      offer: description, limits, session id
//!   request: items, batch, phases ->
//!                                 <-      choice: OT backend, goal, fused or not, lanes, batch
//!   plan digests                 <->      plan digests
//!                                 <-      place in the queue, over and over, if there is no room
//!                                 <-      start
//!   per batch: one session on two connections, for the online phase and for making correlations;
//!   in its end both compare what they sent and received
//!   done: the results make sense  ->
//! ```
//! Batches are computed one after the other, or several at the same time, each in a lane with connections of its own: while one waits for
//! the network another computes. This connection is the online one of the first lane; all others join by an id, with the same certificate,
//! and are answered with a start or a refusal. The connections of a request end together.
//!
//! A request may be for the offline phase alone; then both parties keep [stores](crate::run::store), made one batch after the other, and in
//! the end tell each other that they have them. Or it has a store's id and is for the online phase alone; then the server's choice is that of the
//! store, and there are no connections for making correlations.
//!
//! Everything before the sessions is public. Both parties build their plans from the description alone and compare
//! digests, so a disagreement is an error and not a hang. Every message has a largest length and a deadline.
//!
//! | module | content |
//! |---|---|
//! | [`wire`] | hello, messages, deadlines |
//! | [`identity`] | certificates: who a party is, and whom it accepts |
//! | `admission` | places, slots, memory, the queue |
//! | [`server`], [`client`] | the two roles |
//! | [`error`] | what can go wrong, and whose fault it is |
//! | [`ledger`] | how much was made with a model's weights |
//! | [`summary`] | what sessions cost, with the names used in reports |
//! | [`metrics`], [`monitor`] | the same for Prometheus, and health, over HTTP |
//! | [`local`] | both roles as two processes of one machine |

mod admission;
pub mod client;
pub mod config;
pub mod error;
pub mod identity;
pub mod ledger;
pub mod local;
pub mod metrics;
pub mod monitor;
pub mod server;
pub mod summary;
pub mod wire;

pub use client::Client;
pub use error::{Fault, ServiceError};
pub use server::Server;
pub use summary::Summary;

use crate::compile::{self, Request};
use crate::graph::Weights;
use crate::plan::choice::Choice;
use crate::plan::correlations::{CORRELATION_BUDGET, correlation_bytes, offline_cost};
use crate::plan::planner::{self, MAX_LANES, Task};
use crate::plan::{Plan, WIRE_VERSION};
use crate::program::{BuildError, Profile};
use crate::run::session::{Kept, Report, Session, Stored};
use crate::run::store::{Header, SectionHeader, Store, Writer};
use crate::run::trace::Trace;
use crate::run::{self, Inputs, RunError};
use identity::Identity;
use sirnn_backends::ot::{self, BackendSpec};
use sirnn_backends::transport::{Channel, Handle, Limits, Link, TcpChannel, printable};
use sirnn_backends::{Error, Party};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use wire::{Control, Message, Phases, unexpected};

/// How a party talks to its peer.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// For how long the peer is waited for.
    pub limits: Limits,
    /// Simulated link for what this party sends in sessions. The peer has to simulate its own direction.
    pub link: Option<Link>,
    /// Who this party is and whom it accepts; without it nothing is encrypted and nobody is who he says.
    pub identity: Option<Identity>,
    /// Where to put the events of each session's trace ([`crate::run::trace`]).
    pub trace: Option<&'static Mutex<Vec<serde_json::Value>>>,
}

impl Connection {
    /// Makes a channel ready for sessions.
    fn ready(&self, channel: &mut TcpChannel) -> Result<(), Error> {
        channel.set_limits(self.limits);
        self.link.map_or(Ok(()), |link| channel.simulate(link))
    }

    /// Runs something in a lane with a trace, if one is wanted.
    fn traced<T>(
        &self,
        party: Party,
        lane: usize,
        run: impl FnOnce(Option<&mut Trace>) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let mut trace = self.trace.map(|_| Trace::new(party, lane));
        let done = run(trace.as_mut())?;
        if let (Some(all), Some(trace)) = (self.trace, trace) {
            all.lock().unwrap_or_else(|e| e.into_inner()).extend(trace.events());
        }
        Ok(done)
    }
}

/// The connections of a request, which end together.
#[derive(Debug, Default)]
struct Group(Mutex<Members>);

#[derive(Debug, Default)]
struct Members {
    handles: Vec<Handle>,
    ended: bool,
    /// Why, if it is not because one of them failed.
    reason: Option<String>,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn add(&self, handle: Handle) {
        let mut members = self.lock();
        if members.ended {
            handle.stop_receiving();
        }
        members.handles.push(handle);
    }

    /// Whoever waits for the peer stops waiting; a last word can still be sent.
    fn end(&self, reason: Option<&str>) {
        let mut members = self.lock();
        members.ended = true;
        if let (None, Some(reason)) = (&members.reason, reason) {
            members.reason = Some(reason.into());
        }
        members.handles.iter().for_each(Handle::stop_receiving);
    }

    /// Whether it has ended, or the peer has ended one of its connections.
    fn is_over(&self) -> bool {
        let members = self.lock();
        members.ended || members.handles.first().is_some_and(Handle::is_closed)
    }

    fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// At a client: the error, unless what happened is that the request was cancelled.
    fn or_cancelled(&self, e: ServiceError) -> ServiceError {
        if self.reason().is_some() { ServiceError::Cancelled } else { e }
    }
}

/// Cancels requests of this client from another thread: those that run, and those that begin later.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Mutex<Covered>>);

#[derive(Debug, Default)]
struct Covered {
    cancelled: bool,
    groups: Vec<Weak<Group>>,
}

impl Cancellation {
    fn lock(&self) -> MutexGuard<'_, Covered> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Ends what runs, as soon as it waits for the server; the server is told.
    pub fn cancel(&self) {
        let mut covered = self.lock();
        covered.cancelled = true;
        covered.groups.drain(..).filter_map(|g| g.upgrade()).for_each(|g| g.end(Some(CANCELLED)));
    }

    /// Whether [`Cancellation::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    fn covers(&self, group: &Arc<Group>) {
        let mut covered = self.lock();
        if covered.cancelled {
            group.end(Some(CANCELLED));
        }
        covered.groups.retain(|g| g.strong_count() > 0);
        covered.groups.push(Arc::downgrade(group));
    }
}

/// What the server hears of a cancelled request.
const CANCELLED: &str = "the client cancelled the request";

/// What a party is willing to spend on a request. By default 64 GiB on the wire and 4 GiB of memory.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes on the wire, both ways, all phases, for all items.
    pub bytes: u64,
    /// Memory of this party.
    pub memory: u64,
}

impl Bounds {
    /// Refuses a request that takes more: `items`, of which `lanes` batches of `batch` are computed at the same time.
    ///
    /// # Errors
    /// [`ServiceError::Limit`], with the option that would have to be raised.
    pub fn check(&self, [items, lanes, batch]: [usize; 3], bytes: u64, memory: u64) -> Result<(), ServiceError> {
        if bytes > self.bytes {
            let what =
                format!("{items} items take {bytes} bytes on the wire, {} are allowed (--max-bytes)", self.bytes);
            return Err(ServiceError::Limit(what));
        }
        if memory > self.memory {
            let what = format!(
                "{lanes} batches of {batch} items at the same time take {memory} bytes of memory, {} are allowed (--max-memory)",
                self.memory
            );
            return Err(ServiceError::Limit(what));
        }
        Ok(())
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 64 << 30, memory: 4 << 30 }
    }
}

/// What both parties agreed on: the plans of a request. All batches but the last are of one size.
struct Plans {
    items: usize,
    batch: usize,
    lanes: usize,
    /// The lanes that there are when both phases run: batches as far apart share keys. A store is made of the same messages in one lane.
    stride: usize,
    backend: &'static dyn BackendSpec,
    fuse: bool,
    phases: Phases,
    /// Of the batches that differ: a full one, the rest if there is one; of items with lengths perhaps every one.
    plans: Vec<Planned>,
    /// For every batch, which of them.
    kinds: Vec<usize>,
}

/// A plan, and the server's inputs of its program; nothing at the client.
struct Planned {
    plan: Plan,
    inputs: Inputs,
}

/// Most different plans of one request: each is kept until its end.
const MAX_PLANS: usize = 64;

impl Plans {
    /// Plans what the server chose for a request. The server has the weights.
    fn build(
        task: &Task<'_>,
        weights: Option<&Weights>,
        phases: Phases,
        choice: &Choice,
    ) -> Result<Self, ServiceError> {
        let backend = ot::lookup(&choice.backend).map_err(|e| match e {
            Error::UnknownBackend(name, known) => ServiceError::Handshake(format!(
                "the server uses OT backend '{}'; this program knows {known}",
                printable(&name)
            )),
            other => other.into(),
        })?;
        let (items, batch) = (task.request.items, task.batch);
        let within = |n: u64, most: usize| usize::try_from(n).ok().filter(|n| (1..=most).contains(n));
        let lanes = within(choice.lanes, MAX_LANES.min(batch));
        let Some((lanes, size)) = lanes.and_then(|l| Some((l, within(choice.batch, batch.div_ceil(l))?))) else {
            return Err(ServiceError::Handshake(format!(
                "the server wants {} batches of {} items at the same time, {batch} items were asked for",
                choice.lanes, choice.batch
            )));
        };
        let mut requests: Vec<Request> = Vec::new();
        let mut kinds = Vec::new();
        for start in (0..items).step_by(size) {
            let request = task.session(start..(start + size).min(items));
            let kind = requests.iter().position(|r| *r == request).unwrap_or(requests.len());
            if kind == requests.len() {
                requests.push(request);
            }
            kinds.push(kind);
            if requests.len() > MAX_PLANS {
                let what = format!("items of different lengths in more than {MAX_PLANS} different batches (--batch)");
                return Err(ServiceError::Limit(what));
            }
        }
        if phases != Phases::Both && task.request.lengths.is_some() {
            return Err(ServiceError::Limit("stores are for items of one length".into()));
        }
        let stride = lanes;
        let options = task.options(choice.fuse);
        let plan = |(kind, request)| {
            let profile = Profile {
                linear: choice.linear,
                sessions: planner::sharing(&kinds, stride, kind),
                ..Profile::of(choice.objective.into(), backend)
            };
            let compiled = compile::compile(task.graph, request, profile, &options)?;
            let inputs = weights.map(|w| compiled.server_inputs(w)).unwrap_or_default();
            Ok(Planned { plan: Plan::new(compiled.program, profile), inputs })
        };
        let plans = requests.iter().enumerate().map(plan).collect::<Result<_, BuildError>>()?;
        // Stores are written from front to back.
        let lanes = if phases == Phases::Offline { 1 } else { lanes };
        Ok(Self { items, batch: size, lanes, stride, backend, fuse: choice.fuse, phases, plans, kinds })
    }

    /// Items and plan of each batch.
    fn batches(&self) -> impl Iterator<Item = (Range<usize>, &Planned)> {
        let starts = (0..self.items).step_by(self.batch);
        starts.zip(&self.kinds).map(|(start, &kind)| (start..(start + self.batch).min(self.items), &self.plans[kind]))
    }

    /// What the header of a store for this request is.
    fn header(&self, party: Party, id: [u8; 16], model: &str, task: &Task<'_>, choice: &Choice) -> Header {
        Header {
            wire: WIRE_VERSION,
            party,
            id,
            model: model.into(),
            items: self.items as u64,
            batch: task.batch as u64,
            steps: task.request.steps as u64,
            choice: choice.clone(),
            sections: self.plans.iter().map(|p| SectionHeader::new(&p.plan, party)).collect(),
        }
    }

    /// Values of all sessions that ring-LWE makes; see [`Plan::values`].
    fn values(&self) -> u64 {
        self.batches().map(|(_, planned)| planned.plan.values()).sum()
    }

    fn digests(&self) -> Vec<String> {
        self.plans.iter().map(|p| blake3::Hash::from(p.plan.digest).to_hex().to_string()).collect()
    }

    /// Tells the peer what was planned, and compares.
    fn compare(&self, control: &mut Control) -> Result<(), ServiceError> {
        let mine = self.digests();
        control.send(&Message::Plans(mine.clone()))?;
        match control.receive()? {
            Message::Plans(theirs) if theirs == mine => Ok(()),
            Message::Plans(_) => Err(ServiceError::Handshake(
                "the two parties planned different programs for the same description: are both of the same release?"
                    .into(),
            )),
            other => Err(unexpected(&other)),
        }
    }

    /// Bytes of memory of a party, all lanes together.
    fn memory(&self, party: Party) -> u64 {
        let one = self.plans.iter().map(|p| memory(&p.plan)[party.index()]).max().unwrap_or(0);
        one.saturating_mul(self.lanes as u64)
    }

    /// Refuses what exceeds the bounds.
    fn check(&self, party: Party, bounds: Bounds) -> Result<(), ServiceError> {
        let each = |(k, &kind): (usize, &usize)| {
            let plan = &self.plans[kind].plan;
            let made = !matches!(self.phases, Phases::Online(_));
            let kept = made && planner::follows(&self.kinds, self.stride, k);
            bytes(plan, self.backend, self.phases) - if kept { plan.kept_key_bytes() } else { 0 }
        };
        let bytes = self.kinds.iter().enumerate().map(each).fold(0, u64::saturating_add);
        bounds.check([self.items, self.lanes, self.batch], bytes, self.memory(party))
    }
}

/// Which connection of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The online phases of its sessions.
    Online,
    /// The making of correlations, one connection for each session.
    Offline,
}

/// A batch to compute: its number, its items, its plan.
type Batch<'a> = (usize, Range<usize>, &'a Planned);

/// What a lane has for a session: connections, and what the session before left.
struct Lane<'a> {
    online: &'a mut dyn Channel,
    kept: &'a mut Kept,
    /// Makes the one for its generator.
    second: &'a dyn Fn() -> Result<Box<dyn Channel>, ServiceError>,
}

/// Makes a connection of a lane.
type Connect<'a> = dyn Fn(usize, Part) -> Result<Box<dyn Channel>, ServiceError> + Sync + 'a;

/// How long to look for the peer's last word after a connection broke.
const LAST_WORD: Duration = Duration::from_millis(200);

/// What a lane's failure means: tells the peer, unless that is what failed; learns from the peer why it left; ends the other lanes.
fn failed(e: ServiceError, online: &mut dyn Channel, group: &Group) -> ServiceError {
    let e = match (e, group.reason()) {
        (_, Some(reason)) => ServiceError::Ended(reason),
        (e, None) => e,
    };
    if e.is_news() {
        let said = online.send(&run::farewell(&e.for_peer())).and_then(|()| online.flush());
        // The peer may be gone; then nobody needs to know.
        drop(said);
        group.end(None);
        return e;
    }
    online.set_limits(Limits::within(LAST_WORD));
    let last_word = run::last_word(online);
    group.end(None);
    last_word.map_or(e, |reason| Error::Ended(reason).into())
}

/// Computes all batches, `plans.lanes` at the same time, batch `k` in lane `k % lanes`. `first` is the online connection of lane 0;
/// `connect` makes any other, `compute` runs a session. Returns what the sessions returned, in the order of batches.
fn in_lanes<'p, T: Send>(
    plans: &'p Plans,
    group: &Group,
    first: &mut dyn Channel,
    connect: &Connect<'_>,
    compute: &(dyn Fn(usize, Batch<'p>, Lane<'_>) -> Result<T, ServiceError> + Sync),
) -> Result<Vec<T>, ServiceError> {
    let batches: Vec<Batch<'p>> = plans.batches().enumerate().map(|(k, (items, plan))| (k, items, plan)).collect();
    let span = tracing::Span::current();
    let lane = |lane: usize, first: Option<&mut dyn Channel>| -> Result<Vec<T>, ServiceError> {
        let _entered = span.enter();
        let mut own;
        let online = match first {
            Some(first) => first,
            None => {
                own = connect(lane, Part::Online).inspect_err(|_| group.end(None))?;
                own.as_mut()
            }
        };
        let second = || connect(lane, Part::Offline);
        let mut done = Vec::new();
        let mut kept: Vec<Kept> = (0..plans.stride).map(|_| Kept::default()).collect();
        for batch in batches.iter().skip(lane).step_by(plans.lanes) {
            let computed =
                compute(lane, batch.clone(), Lane { online, kept: &mut kept[batch.0 % plans.stride], second: &second });
            done.push(computed.map_err(|e| failed(e, online, group))?);
        }
        // What was sent last must not stay behind when the process ends.
        online.flush()?;
        Ok(done)
    };
    let lanes: Vec<Result<Vec<T>, ServiceError>> = std::thread::scope(|s| {
        let lane = &lane;
        let others: Vec<_> = (1..plans.lanes.min(batches.len())).map(|l| s.spawn(move || lane(l, None))).collect();
        let first = lane(0, Some(first));
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        std::iter::once(first).chain(others.into_iter().map(join)).collect()
    });
    let mut done = Vec::with_capacity(lanes.len());
    let mut failure: Option<ServiceError> = None;
    for lane in lanes {
        match lane {
            Ok(lane) => done.push(lane.into_iter()),
            // One lane's failure ends the others; what tells most is what happened.
            Err(e) if failure.as_ref().is_none_or(|f| !f.is_news() && e.is_news()) => failure = Some(e),
            Err(_) => {}
        }
    }
    if let Some(e) = failure {
        return Err(e);
    }
    let used = done.len();
    Ok((0..batches.len()).map(|k| done[k % used].next().expect("a lane computes all its batches")).collect())
}

/// What is done in the sessions of a request, and where the rest of it is.
enum Work {
    /// Both phases.
    Compute,
    /// The offline phase, for this store.
    Make(Box<Mutex<Writer>>),
    /// The online phase, with this store.
    Use(Box<Store>),
}

/// A request that both parties agreed on.
struct Agreed {
    plans: Plans,
    work: Work,
    /// The id of the request.
    session: [u8; 16],
    /// The session whose offline phase is or was the request's: its own, or the one that made the store.
    made: [u8; 16],
    /// The client's part of what public randomness is drawn from.
    nonce: [u8; 16],
    /// Values that ring-LWE has made with the model's weights, at the server, these included.
    counted: Option<u64>,
}

impl Agreed {
    /// Runs the session of a batch in a lane.
    fn run(
        &self,
        party: Party,
        connection: &Connection,
        (lane, k, plan): (usize, usize, &Plan),
        Lane { online, kept, second }: Lane<'_>,
        inputs: &Inputs,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(BTreeMap<String, Vec<i128>>, Report), ServiceError> {
        let id = batch_id(self.made, k);
        if let Work::Use(store) = &self.work {
            let session = Stored { plan, party, section: store.section(k, id)?, online };
            return Ok(connection.traced(party, lane, |trace| session.run(inputs, progress, trace))?);
        }
        let session = Session {
            plan,
            party,
            backend: self.plans.backend,
            id,
            nonce: self.nonce,
            online,
            kept,
            offline: second()?,
            budget: CORRELATION_BUDGET,
        };
        if let Work::Make(store) = &self.work {
            let mut store = store.lock().unwrap_or_else(|e| e.into_inner());
            return Ok((BTreeMap::new(), session.make(inputs, &mut *store)?));
        }
        Ok(connection.traced(party, lane, |trace| session.run_traced(inputs, progress, trace))?)
    }

    /// Ends the request: the client says that it has results that make sense; of stores either both parties have theirs, or neither will use it.
    fn finish(self, party: Party, control: &mut Control) -> Result<(), ServiceError> {
        let done = |control: &mut Control| match control.receive()? {
            Message::Done => Ok(()),
            other => Err(unexpected(&other)),
        };
        match self.work {
            Work::Make(store) => {
                let store = store.into_inner().unwrap_or_else(|e| e.into_inner()).publish()?;
                control.send(&Message::Done)?;
                done(control)?;
                store.keep();
            }
            _ if party == Party::P0 => done(control)?,
            _ => {
                control.send(&Message::Done)?;
                control.channel().flush()?;
            }
        }
        Ok(())
    }
}

/// Bytes of a session, both ways.
pub fn bytes(plan: &Plan, backend: &dyn BackendSpec, phases: Phases) -> u64 {
    let offline = || offline_cost(plan, backend).bytes_from.iter().sum::<u64>();
    let online = plan.online_bytes().iter().sum::<u64>();
    match phases {
        Phases::Both => offline() + online,
        Phases::Offline => offline(),
        Phases::Online(_) => online,
    }
}

/// Memory of a session at its peak, by party: the plan's and that of waiting correlations.
pub fn memory(plan: &Plan) -> [u64; 2] {
    let waiting = correlation_bytes(&plan.needs).min(CORRELATION_BUDGET);
    plan.memory().map(|m| m + waiting)
}

/// The id of a batch's session. Every batch has its own base OTs, under its own id.
fn batch_id(session: [u8; 16], batch: usize) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("sirnn 2026-11 session of a batch");
    hasher.update(&session).update(&(batch as u64).to_le_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

/// The id under which a connection of a lane joins a session.
pub fn connection_id(session: [u8; 16], lane: usize, part: Part) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("sirnn 2026-11 connection of a lane");
    hasher.update(&session).update(&(lane as u64).to_le_bytes()).update(&[part as u8]);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}
