//! The party that owns a model.

use super::planning::speeds;
use super::{Error, Identity, Model, Peer, Planning, Result, Summary, peer_options};
use crate::service::client::Address;
use crate::service::ledger::{self, Ledger};
use crate::service::server::{Controller, Event, Limits, Options, Outcome, Stores};
use crate::service::{self, Bounds};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Hears of sessions.
type OnSession = Box<dyn FnMut(&Served) + Send>;

/// How often a server that ends looks whether its sessions are over.
const TICK: Duration = Duration::from_millis(20);

/// A request that a server computed, or failed to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Served {
    /// Whose it was.
    pub peer: SocketAddr,
    /// What it cost.
    pub result: Result<Summary>,
}

/// How a [`Server`] is to be.
pub struct ServerBuilder {
    model: Model,
    peer: Peer,
    planning: Planning,
    limits: Limits,
    max_values: u64,
    grace: Duration,
    heard: Option<OnSession>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerBuilder({})", self.model.network().name())
    }
}

impl ServerBuilder {
    peer_options!();

    /// How requests are computed.
    pub fn planning(mut self, planning: Planning) -> Self {
        self.planning = planning;
        self
    }

    /// Most items of a request. Default: 100,000.
    pub fn max_items(mut self, items: usize) -> Self {
        self.limits.items = items;
        self
    }

    /// Most items of a request at the same time. Default: 1,024.
    pub fn max_batch(mut self, items: usize) -> Self {
        self.limits.batch = items;
        self
    }

    /// Most requests at the same time. Default: 4.
    pub fn max_sessions(mut self, requests: usize) -> Self {
        self.limits.sessions = requests;
        self
    }

    /// Most requests that wait for others to end. Default: 16.
    pub fn queue(mut self, requests: usize) -> Self {
        self.limits.queue = requests;
        self
    }

    /// Most values that ring-LWE makes with these weights, over all sessions, counted in the model's directory. Default: 2^42.
    pub fn max_values(mut self, values: u64) -> Self {
        self.max_values = values;
        self
    }

    /// For how long running sessions may go on when the server is told to stop. Default: 30 seconds.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Hears of every session when it is over, in a thread of the server's.
    pub fn on_session(mut self, heard: impl FnMut(&Served) + Send + 'static) -> Self {
        self.heard = Some(Box::new(heard));
        self
    }

    /// Serves at `HOST:PORT`, in threads of its own; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be listened on, or is not on this machine and there is no identity.
    pub fn listen(self, address: &str) -> Result<Server> {
        let Self { model, peer, planning, limits, max_values, grace, heard } = self;
        let place = Address::resolve(address)?;
        peer.check(&place)?;
        let policy = planning.policy()?;
        let connection = peer.connection()?;
        let handshake = limits.handshake.min(connection.limits.deadline);
        let options = Options {
            backend: policy.backend,
            fuse: policy.fuse,
            lanes: policy.lanes,
            linear: policy.linear,
            ledger: Some(Ledger::beside(&model.folder, max_values)),
            objective: planning.objective(),
            link: policy.link,
            speeds: speeds()?,
            limits: Limits { bounds: Bounds { ..peer.bounds }, handshake, ..limits },
            connection,
            watch: Vec::new(),
            stores: Stores::None,
        };
        let server = service::Server::bind(&place.addresses[..], &model.model, options)?;
        let (address, controller) = (server.address()?, server.controller());
        let events = server.start();
        let mut heard = heard.unwrap_or_else(|| Box::new(|_| {}));
        let tell = move || {
            for Event { peer, outcome } in events {
                if let Outcome::Session(done) = outcome {
                    heard(&Served { peer, result: done.map_err(Error::from) });
                }
            }
        };
        let thread = std::thread::Builder::new().name("sessions".into()).spawn(tell);
        let thread = thread.map_err(service::ServiceError::from)?;
        let handle = ServerHandle { controller, grace, address };
        Ok(Server { handle, thread: Arc::new(Mutex::new(Some(thread))) })
    }
}

/// A model that is being served. When it is dropped it stops, without grace.
pub struct Server {
    handle: ServerHandle,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.address())
    }
}

impl Server {
    /// Serves a model at `HOST:PORT`, with the defaults of [`Server::builder`].
    ///
    /// # Errors
    /// As [`ServerBuilder::listen`].
    pub fn listen(model: &Model, address: &str) -> Result<Self> {
        Self::builder(model).listen(address)
    }

    /// A server of a model.
    pub fn builder(model: &Model) -> ServerBuilder {
        ServerBuilder {
            model: model.clone(),
            peer: Peer::default(),
            planning: Planning::default(),
            limits: Limits::default(),
            max_values: ledger::LIMIT,
            grace: Duration::from_secs(30),
            heard: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.handle.address
    }

    /// What looks after it from other threads.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Waits until it was stopped ([`ServerHandle::stop`]) and all is over.
    pub fn wait(&self) {
        let thread = self.thread.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(thread) = thread {
            // A panic in the caller's callback is the caller's.
            thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        }
    }

    /// Accepts nothing more, lets running sessions go on for the time of grace, and returns when all is over.
    pub fn stop(&self) {
        self.handle.stop();
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.controller.stop();
        self.handle.controller.end_sessions("the server shuts down");
    }
}

/// Looks after a server from any thread.
#[derive(Clone)]
pub struct ServerHandle {
    controller: Controller,
    grace: Duration,
    address: SocketAddr,
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerHandle({})", self.address)
    }
}

impl ServerHandle {
    /// Accepts nothing more; who waits is told. Running sessions go on for the time of grace, then clients get the reason. Does not
    /// wait: [`Server::wait`] does.
    pub fn stop(&self) {
        if !self.controller.is_ready() {
            return;
        }
        self.controller.stop();
        let (controller, end) = (self.controller.clone(), Instant::now() + self.grace);
        std::thread::spawn(move || {
            // After the end also those that began just then.
            while controller.load().0 > 0 || Instant::now() < end {
                if Instant::now() >= end {
                    controller.end_sessions("the server shuts down");
                } else if controller.load().0 == 0 {
                    break;
                }
                std::thread::sleep(TICK);
            }
        });
    }

    /// Running sessions, and requests that wait.
    pub fn load(&self) -> (usize, usize) {
        self.controller.load()
    }

    /// What happened so far, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.controller.metrics()
    }

    /// Is another party from the next connection on, and accepts others. Nothing changes for running sessions.
    ///
    /// # Errors
    /// Its files cannot be used; then nothing changes.
    pub fn set_identity(&self, identity: &Identity) -> Result<()> {
        self.controller.set_identity(identity.load()?);
        Ok(())
    }
}
