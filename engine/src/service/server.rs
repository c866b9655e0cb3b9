//! The server: owns a model, computes for any client that asks, survives any that misbehaves.

use super::wire::{Control, Message, Objective, Offer, Purpose, Request, unexpected};
use super::{Bounds, Connection, Plans, ServiceError, Summary, batch_id};
use crate::model::{Description, Extra, Model};
use crate::program::{Profile, Rates};
use crate::run::Inputs;
use crate::session::Session;
use sirnn_backends::ot::BackendSpec;
use sirnn_backends::{Error, Party};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Connections beyond those of sessions that may be in their first message.
const PENDING: usize = 32;

/// What a server grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items of a request.
    pub items: usize,
    /// Items of a batch.
    pub batch: usize,
    /// Requests at the same time.
    pub sessions: usize,
    /// Cost of a request.
    pub bounds: Bounds,
}

/// How a model is served.
#[derive(Clone, Copy)]
pub struct Options {
    /// Where correlations come from.
    pub backend: &'static dyn BackendSpec,
    /// What forms are chosen by.
    pub objective: Objective,
    /// What clients get.
    pub limits: Limits,
    /// Transport.
    pub connection: Connection,
    /// What programs have beside the description's; clients have to expect `hidden`.
    pub extra: Extra,
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
    inputs: Inputs,
    options: Options,
    sessions: Arc<AtomicUsize>,
    /// Sessions that wait for their generator's connection.
    waiting: Mutex<HashMap<[u8; 16], SyncSender<TcpStream>>>,
}

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
            inputs: model.weights.inputs(&model.description),
            options,
            sessions: Arc::default(),
            waiting: Mutex::default(),
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
        let most = 2 * self.shared.options.limits.sessions + PENDING;
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
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|e| Error::Io(std::io::Error::other(e.to_string())))?;
        let (sender, joined) = sync_channel(1);
        let _entry = Entry::new(self, id, sender);
        let plans = match self.agree(&mut control, id) {
            Ok(plans) => plans,
            Err(e) => {
                if !matches!(e, ServiceError::Refused(_) | ServiceError::Network(_)) {
                    control.refuse(&e);
                }
                return Err(e);
            }
        };
        let Options { backend, connection, .. } = self.options;
        let mut online = connection.channel(control.into_stream())?;
        let mut summary = Summary::default();
        for (k, (items, plan)) in plans.batches().enumerate() {
            let stream = joined.recv_timeout(connection.deadline).map_err(|e| match e {
                RecvTimeoutError::Timeout => Error::Deadline(connection.deadline),
                RecvTimeoutError::Disconnected => Error::Closed("its second connection was expected"),
            })?;
            let offline = connection.channel(stream)?;
            let id = batch_id(id, k);
            let session = Session { plan, party: Party::P0, backend, id, online: online.as_mut(), offline };
            let (_, report) = connection.run(session, &self.inputs, &mut |_| {})?;
            summary.add(items.len(), Party::P0, plan, &report);
        }
        Ok(summary)
    }

    /// The handshake after the hello.
    fn agree(&self, control: &mut Control, session: [u8; 16]) -> Result<Plans, ServiceError> {
        let Options { backend, objective, limits, extra, .. } = self.options;
        control.send(&Message::Offer(Offer {
            session,
            description: self.description.to_toml(),
            backend: backend.name().into(),
            objective,
            fuse: extra.fuse,
            max_items: limits.items as u64,
            max_batch: limits.batch as u64,
        }))?;
        let Request { items, batch } = match control.receive()? {
            Message::Request(request) => request,
            other => return Err(unexpected(&other)),
        };
        let granted = |n: u64, limit: usize| usize::try_from(n).ok().filter(|n| (1..=limit).contains(n));
        let (Some(items), Some(batch)) = (granted(items, limits.items), granted(batch, limits.batch)) else {
            return Err(ServiceError::Limit(format!(
                "{items} items in batches of {batch} were asked for; this server grants up to {} and {}",
                limits.items, limits.batch
            )));
        };
        let profile = Profile { goal: objective.into(), rates: Rates::of(backend) };
        let plans = Plans::build(&self.description, backend, profile, extra, (items, batch.min(items)))?;
        plans.check(Party::P0, backend, limits.bounds)?;
        plans.compare(control)?;
        Ok(plans)
    }
}

/// A session's entry among those that wait.
struct Entry<'a>(&'a Shared, [u8; 16]);

impl<'a> Entry<'a> {
    fn new(shared: &'a Shared, id: [u8; 16], sender: SyncSender<TcpStream>) -> Self {
        shared.waiting().insert(id, sender);
        Self(shared, id)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}
