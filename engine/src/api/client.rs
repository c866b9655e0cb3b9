//! The party that owns the inputs.

use super::planning::Linear;
use super::{Cancellation, Error, Identity, Inputs, Network, Peer, Predictions, Progress, Result, peer_options};
use crate::compile;
use crate::model::{Items, Results};
use crate::service::ServiceError;
use crate::service::client::{self, Address, CONNECT_TIMEOUT, Options, Outputs};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Hears how far requests are.
type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// How long to wait before servers that were not there are tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Has servers compute predictions on this party's items, which they never see.
///
/// Every request is a connection of its own, with correlations of its own, so that a client may be used by several threads at once, and
/// for as long as there is a server. It takes no other model than it was connected to.
#[derive(Clone)]
pub struct Client {
    settings: ClientBuilder,
    servers: Vec<Address>,
    network: Network,
    /// The server that did it last.
    current: Arc<AtomicUsize>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} at {})", self.network.name(), self.settings.addresses.join(", "))
    }
}

/// How a [`Client`] is to be.
#[derive(Clone)]
pub struct ClientBuilder {
    addresses: Vec<String>,
    peer: Peer,
    expected: Option<Network>,
    batch: Option<usize>,
    linear: Linear,
    retry: Duration,
    progress: Option<OnProgress>,
    cancellation: Cancellation,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientBuilder({})", self.addresses.join(", "))
    }
}

impl ClientBuilder {
    peer_options!();

    /// A further server with the same model. When one is not there, or is busy, or refuses, before a session starts, the next one is asked.
    pub fn or(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Accepts this network alone. What a server proves about its weights it may add.
    pub fn expect(mut self, network: Network) -> Self {
        self.expected = Some(network);
        self
    }

    /// Items that are computed together. Default: all, up to 64 or what the server grants.
    pub fn batch(mut self, items: usize) -> Self {
        self.batch = Some(items);
        self
    }

    /// Where products with the weights may come from. Default: where the server wants.
    pub fn linear(mut self, linear: Linear) -> Self {
        self.linear = linear;
        self
    }

    /// While all servers are busy or not there, asks again for so long. Default: once; a server that is just starting is waited for 10
    /// seconds.
    pub fn retry(mut self, time: Duration) -> Self {
        self.retry = time;
        self
    }

    /// Hears of every place in a queue and every online round, in threads that compute.
    pub fn on_progress(mut self, heard: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(heard));
        self
    }

    /// What ends this client's requests from another thread.
    pub fn cancellation(mut self, cancellation: &Cancellation) -> Self {
        self.cancellation = cancellation.clone();
        self
    }

    /// Asks a server for its network, and checks that it is acceptable.
    ///
    /// # Errors
    /// No server is there, or none that accepts this party and is accepted, or it offers another network than expected.
    pub fn connect(self) -> Result<Client> {
        let servers: Vec<Address> = self.addresses.iter().map(|a| Ok(Address::resolve(a)?)).collect::<Result<_>>()?;
        servers.iter().try_for_each(|server| self.peer.check(server))?;
        let current = AtomicUsize::new(0);
        let network = self.first_of(&servers, &current, self.expected.as_ref(), |options, server, wait| {
            let client = client::Client::connect_within(server, options, wait, &self.cancellation)?;
            let description = client.description().clone();
            client.leave()?;
            Ok(Network(Arc::new(description)))
        })?;
        Ok(Client { settings: self, servers, network, current: Arc::new(current) })
    }

    fn options(&self, expected: Option<&Network>) -> Result<Options> {
        Ok(Options {
            bounds: self.peer.bounds,
            connection: self.peer.connection()?,
            pinned: expected.map(|n| (*n.0).clone()),
            watch: Vec::new(),
            linear: self.linear.into(),
        })
    }

    /// Tries servers, from the current one on, until one succeeds, one fails for good, or there is no more time.
    fn first_of<T>(
        &self,
        servers: &[Address],
        current: &AtomicUsize,
        expected: Option<&Network>,
        mut attempt: impl FnMut(Options, &Address, Duration) -> std::result::Result<T, ServiceError>,
    ) -> Result<T> {
        let options = self.options(expected)?;
        let start = Instant::now();
        // Where there are several, one that is not there is not waited for.
        let wait = if servers.len() > 1 { CONNECT_TIMEOUT / 4 } else { CONNECT_TIMEOUT };
        loop {
            let first = current.load(Ordering::Relaxed);
            let mut failure = None;
            for i in (0..servers.len()).map(|k| (first + k) % servers.len()) {
                match attempt(options.clone(), &servers[i], wait).map_err(Error::from) {
                    Ok(done) => {
                        current.store(i, Ordering::Relaxed);
                        return Ok(done);
                    }
                    Err(e) if e.is_transient() && !self.cancellation.is_cancelled() => {
                        tracing::debug!("server {}: {e}", self.addresses[i]);
                        failure = Some(e);
                    }
                    Err(e) => return Err(e),
                }
            }
            let failure = failure.ok_or_else(|| Error::input("there is no address of a server"))?;
            let pause = failure.retry_after().unwrap_or(PAUSE);
            if start.elapsed() + pause > self.retry {
                return Err(failure);
            }
            std::thread::sleep(pause);
        }
    }
}

impl Client {
    /// A client of the server at `HOST:PORT`, with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn connect(address: &str) -> Result<Self> {
        Self::builder(address).connect()
    }

    /// A client of the server at `HOST:PORT`.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            addresses: vec![address.into()],
            peer: Peer::default(),
            expected: None,
            batch: None,
            linear: Linear::Auto,
            retry: Duration::ZERO,
            progress: None,
            cancellation: Cancellation::default(),
        }
    }

    /// The same client, whose requests something else hears of.
    pub fn with_progress(mut self, heard: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.settings = self.settings.on_progress(heard);
        self
    }

    /// The same client, whose requests something else ends.
    pub fn with_cancellation(mut self, cancellation: &Cancellation) -> Self {
        self.settings = self.settings.cancellation(cancellation);
        self
    }

    /// The network, as far as it is public.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Has items computed. Nothing is sent about them before the request was planned and found within the limits; their numbers
    /// and lengths are public, and nothing else.
    ///
    /// # Errors
    /// Items that do not fit the network, no server that has room, a limit of either side, a connection that breaks, or it was
    /// cancelled. Nothing is computed in part.
    pub fn predict(&self, inputs: impl Into<Inputs>) -> Result<Predictions> {
        let items = inputs.into().quantise(&self.network)?;
        self.request(&items)
    }

    fn request(&self, items: &Items) -> Result<Predictions> {
        let ClientBuilder { batch, progress, cancellation, .. } = &self.settings;
        let wanted = compile::Request {
            items: items.len(),
            steps: items.steps(),
            lengths: items.lengths().map(<[usize]>::to_vec),
        };
        let mut heard = |p| progress.iter().for_each(|f| f(p));
        let admitted =
            self.settings.first_of(&self.servers, &self.current, Some(&self.network), |options, server, wait| {
                let client = client::Client::connect_within(server, options, wait, cancellation)?;
                client.admit(&wanted, *batch, &mut heard)
            })?;
        let mut results = Results::new(&self.network.0, items.steps())?;
        let lengths: Vec<usize> = (0..items.len()).map(|i| items.length(i)).collect();
        let mut accept = |outputs: &Outputs| Ok(results.add(&lengths, outputs)?);
        let (_, summary) = admitted.compute(&|range| items.inputs(range), &mut heard, &mut accept)?;
        Ok(Predictions::new(results, Some(summary)))
    }
}
