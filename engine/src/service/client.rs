//! The client: asks a server for predictions on its own inputs, after having checked what that costs and reveals.

use super::wire::{Control, Message, Offer, Phases, Purpose, Request, unexpected};
use super::{Agreed, Bounds, Cancellation, Connection, Group, Plans, ServiceError, Summary, Work};
use super::{connection_id, in_lanes};
use crate::compile;
use crate::model::{Description, ModelError};
use crate::plan::choice::Choice;
use crate::plan::planner::Task;
use crate::program::LinearForms;
use crate::run::Inputs;
use crate::run::store::{Store, Writer, fingerprint};
use sirnn_backends::transport::{Channel, TcpChannel, connect_with_retry, printable};
use sirnn_backends::{Error, Party, random};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long to try to reach a server that is not there yet.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most items of a request with lengths: they have to fit one message.
const MAX_LENGTHS: usize = 1 << 16;
/// Items of a batch unless it is said otherwise: enough that latency hardly counts.
const BATCH: usize = 64;

/// What a client accepts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cost of the request.
    pub bounds: Bounds,
    /// Transport.
    pub connection: Connection,
    /// The description that the server must offer.
    pub pinned: Option<Description>,
    /// Values that a server gives beside the outputs. For tests of exactness.
    pub watch: Vec<String>,
    /// Where products with the weights may come from.
    pub linear: LinearForms,
}

/// How far a request is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Requests that come first; 0 when this one is computed.
    pub queued: u64,
    /// Online rounds done, over all batches.
    pub rounds: usize,
    /// Of so many.
    pub total: usize,
}

/// Results by name, items in order.
pub type Outputs = BTreeMap<String, Vec<i128>>;

/// What a client wants.
enum Wanted<'a> {
    /// Predictions.
    Compute,
    /// A store for later, if the server's choice is acceptable.
    Make(&'a Path, &'a dyn Fn(&Choice) -> Result<(), String>),
    /// Predictions, with a store.
    Use(Store),
}

/// Where a server is.
#[derive(Clone, Debug)]
pub struct Address {
    /// Its name, or address, without the port: what its certificate is for.
    pub host: String,
    /// What that resolves to.
    pub addresses: Vec<SocketAddr>,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), addresses: vec![address] }
    }
}

impl Address {
    /// Resolves `HOST:PORT`.
    ///
    /// # Errors
    /// It is no address, or the name is unknown.
    pub fn resolve(address: &str) -> Result<Self, ServiceError> {
        let wrong = |what: &dyn std::fmt::Display| ServiceError::Request(format!("address '{address}'{what}"));
        let found = address.to_socket_addrs().map_err(|e| wrong(&format_args!(": {e}")))?;
        let addresses: Vec<SocketAddr> = found.collect();
        if addresses.is_empty() {
            return Err(wrong(&" does not resolve"));
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        Ok(Self { host: host.into(), addresses })
    }

    /// Whether it is this machine, whatever the name resolved to.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|a| a.ip().is_loopback())
    }
}

/// A connection to a server that has made its offer.
pub struct Client {
    control: Control,
    /// Of all connections of the request.
    group: Arc<Group>,
    address: SocketAddr,
    host: String,
    options: Options,
    offer: Offer,
    description: Description,
}

/// Connects one socket, with TLS if there is an identity.
fn open(stream: TcpStream, host: &str, connection: &Connection) -> Result<Control, ServiceError> {
    let mut channel = TcpChannel::new(stream)?;
    channel.set_limits(connection.limits);
    if let Some(identity) = &connection.identity {
        channel.secure(identity.connect(host)?)?;
    }
    Ok(Control::over(channel, connection.limits))
}

impl Client {
    /// Connects and checks the offer.
    ///
    /// # Errors
    /// No server, one of another version, or an offer that cannot be accepted.
    pub fn connect(server: &Address, options: Options) -> Result<Self, ServiceError> {
        Self::connect_within(server, options, CONNECT_TIMEOUT, &Cancellation::default())
    }

    /// The same for a server that is waited for only so long, and a request that may be cancelled.
    ///
    /// # Errors
    /// As [`Client::connect`], or it was cancelled.
    pub fn connect_within(
        server: &Address,
        options: Options,
        timeout: Duration,
        cancellation: &Cancellation,
    ) -> Result<Self, ServiceError> {
        let group = Arc::new(Group::default());
        cancellation.covers(&group);
        let timeout = timeout.min(options.connection.limits.deadline);
        let stream = connect_with_retry(&server.addresses[..], timeout)?;
        let address = stream.peer_addr()?;
        let mut control = open(stream, &server.host, &options.connection)?;
        group.add(control.channel().handle());
        let offer = offer(&mut control).map_err(|e| group.or_cancelled(e))?;
        let examined = examine(&offer, options.pinned.as_ref()).and_then(|mut description| {
            let n = description.client.stamp.as_ref().map_or(0, |stamp| stamp.bytes);
            let tensors = control.receive_tensors(n)?;
            description.client.attach(tensors, &description.graph).map_err(of_description)?;
            Ok(description)
        });
        match examined {
            Ok(description) => {
                Ok(Self { control, group, address, host: server.host.clone(), options, offer, description })
            }
            Err(e) => {
                control.refuse(&e);
                Err(e)
            }
        }
    }

    /// Leaves without a request, and without the server taking it for a failure.
    ///
    /// # Errors
    /// Those of the network.
    pub fn leave(mut self) -> Result<(), ServiceError> {
        self.echo("").map(drop)
    }

    /// Sends a text and waits until it is back: the way to the server and what is on it, measured. Returns how long it took.
    ///
    /// # Errors
    /// The server takes only so many, of limited length.
    pub fn echo(&mut self, text: &str) -> Result<Duration, ServiceError> {
        let start = Instant::now();
        self.control.send(&Message::Echo(text.into()))?;
        match self.control.receive()? {
            Message::Echo(back) if back == text => Ok(start.elapsed()),
            other => Err(unexpected(&other)),
        }
    }

    /// The server's certificate (DER), if there is TLS.
    pub fn peer_certificate(&mut self) -> Option<Vec<u8>> {
        self.control.channel().peer_certificate().map(<[u8]>::to_vec)
    }

    /// The server's model, as far as it is public.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Has items computed, up to `batch` at the same time; `inputs` gives those of a range as the program expects them.
    /// `accept` says whether the results make sense, before the server hears that all is well.
    ///
    /// # Errors
    /// The request is beyond a limit of either side, a session fails, or what `accept` says.
    pub fn infer(
        self,
        items: &compile::Request,
        batch: Option<usize>,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
        accept: &mut dyn FnMut(&Outputs) -> Result<(), ServiceError>,
    ) -> Result<(Outputs, Summary), ServiceError> {
        self.request(Wanted::Compute, items, batch, inputs, progress, accept)
    }

    /// The same with a store, which has to be for as many items and as many of them at the same time.
    ///
    /// # Errors
    /// As [`Client::infer`], or the store is not for this request, or the server has not the other half of it.
    pub fn infer_stored(
        self,
        store: Store,
        items: &compile::Request,
        batch: Option<usize>,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
        accept: &mut dyn FnMut(&Outputs) -> Result<(), ServiceError>,
    ) -> Result<(Outputs, Summary), ServiceError> {
        let batch = batch.unwrap_or(usize::try_from(store.header().batch).unwrap_or(usize::MAX));
        self.request(Wanted::Use(store), items, Some(batch), inputs, progress, accept)
    }

    /// Makes a store for a request to come: the offline phase alone. `accept` may refuse what the server chose.
    ///
    /// # Errors
    /// As [`Client::infer`], or the file cannot be written.
    pub fn make_store(
        self,
        path: &Path,
        items: &compile::Request,
        batch: Option<usize>,
        accept: &dyn Fn(&Choice) -> Result<(), String>,
    ) -> Result<Summary, ServiceError> {
        let nothing = &mut |_: &Outputs| Ok(());
        let wanted = Wanted::Make(path, accept);
        let (_, summary) = self.request(wanted, items, batch, &|_| Inputs::new(), &mut |_| {}, nothing)?;
        Ok(summary)
    }

    fn request(
        self,
        wanted: Wanted<'_>,
        items: &compile::Request,
        batch: Option<usize>,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
        accept: &mut dyn FnMut(&Outputs) -> Result<(), ServiceError>,
    ) -> Result<(Outputs, Summary), ServiceError> {
        self.admitted(wanted, items, batch, progress)?.compute(inputs, progress, accept)
    }

    /// The first half of [`Client::infer`]: all that comes before a session starts, so that until here another server may do as well.
    ///
    /// # Errors
    /// As [`Client::infer`].
    pub fn admit(
        self,
        items: &compile::Request,
        batch: Option<usize>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Admitted, ServiceError> {
        self.admitted(Wanted::Compute, items, batch, progress)
    }

    fn admitted(
        mut self,
        wanted: Wanted<'_>,
        items: &compile::Request,
        batch: Option<usize>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Admitted, ServiceError> {
        match self.agree(wanted, items, batch, progress) {
            Ok(agreed) => Ok(Admitted { client: self, agreed }),
            Err(e) => {
                let e = self.group.or_cancelled(e);
                self.control.refuse(&e);
                Err(e)
            }
        }
    }

    /// The rest of the handshake. Nothing that depends on items or on a store is said before its end.
    fn agree(
        &mut self,
        wanted: Wanted<'_>,
        request: &compile::Request,
        batch: Option<usize>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Agreed, ServiceError> {
        let items = request.items;
        if items == 0 {
            return Err(ServiceError::Request("there are no items".into()));
        }
        let granted = usize::try_from(self.offer.max_batch).unwrap_or(usize::MAX).max(1);
        let batch = batch.unwrap_or(BATCH.min(granted)).clamp(1, items);
        let (phases, made) = match &wanted {
            Wanted::Compute => (Phases::Both, self.offer.session),
            Wanted::Make(..) => (Phases::Offline, self.offer.session),
            Wanted::Use(store) => {
                store.fits(Party::P1, items, batch)?;
                (Phases::Online(store.header().id), store.header().id)
            }
        };
        let lengths = request.lengths.as_ref().map(|l| l.iter().map(|&n| n as u32).collect::<Vec<_>>());
        if lengths.as_ref().is_some_and(|l| l.len() > MAX_LENGTHS) {
            return Err(ServiceError::Limit(format!(
                "{items} items with lengths, at most {MAX_LENGTHS} in one request"
            )));
        }
        let (count, steps) = (items as u64, request.steps as u64);
        let (linear, nonce) = (self.options.linear, random::bytes()?);
        self.control.send(&Message::Request(Request {
            items: count,
            batch: batch as u64,
            steps,
            lengths,
            phases,
            linear,
            nonce,
        }))?;
        let choice = match self.control.receive()? {
            Message::Choice(choice) => choice,
            other => return Err(unexpected(&other)),
        };
        // What a store was made with was accepted then.
        if !matches!(phases, Phases::Online(_)) && linear.agree(choice.linear) != Some(choice.linear) {
            let what = format!("the server chose --linear {}, not {}", choice.linear.name(), linear.name());
            return Err(ServiceError::Handshake(what));
        }
        let task = Task { graph: &self.description.graph, request, batch, watch: &self.options.watch };
        let plans = Plans::build(&task, None, phases, &choice)?;
        plans.check(Party::P1, self.options.bounds)?;
        let header = || plans.header(Party::P1, made, &self.description.name, &task, &choice);
        let nothing = fingerprint(&made, None);
        let mut work = match wanted {
            Wanted::Compute => Work::Compute,
            Wanted::Make(path, accept) => {
                accept(&choice).map_err(ServiceError::Handshake)?;
                Work::Make(Box::new(Mutex::new(Writer::create(path, &header(), nothing)?)))
            }
            Wanted::Use(store) => {
                store.check(&header(), nothing)?;
                Work::Use(Box::new(store))
            }
        };
        plans.compare(&mut self.control)?;
        loop {
            match self.control.receive()? {
                Message::Start => break,
                Message::Queued(queued) => progress(Progress { queued, rounds: 0, total: 0 }),
                other => return Err(unexpected(&other)),
            }
        }
        if let Work::Use(store) = &mut work {
            store.begin()?;
        }
        Ok(Agreed { plans, work, session: self.offer.session, made, nonce, counted: None })
    }
}

/// A request that the server has a slot for.
pub struct Admitted {
    client: Client,
    agreed: Agreed,
}

impl Admitted {
    /// The second half of [`Client::infer`]: the sessions.
    ///
    /// # Errors
    /// As [`Client::infer`].
    pub fn compute(
        self,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
        accept: &mut dyn FnMut(&Outputs) -> Result<(), ServiceError>,
    ) -> Result<(Outputs, Summary), ServiceError> {
        let Self { client, agreed } = self;
        let Client { mut control, group, address, host, options: Options { connection, .. }, .. } = client;
        let server = (address, host.as_str());
        let computed = compute(&mut control, &group, server, &connection, agreed, inputs, progress, accept);
        if computed.is_err() {
            // So that the last word arrives.
            control.into_channel().close();
        }
        computed.map_err(|e| group.or_cancelled(e))
    }
}

/// The sessions of a request that both parties agreed on.
#[allow(clippy::too_many_arguments)]
fn compute(
    control: &mut Control,
    group: &Group,
    (address, host): (SocketAddr, &str),
    connection: &Connection,
    agreed: Agreed,
    inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
    progress: &mut (dyn FnMut(Progress) + Send),
    accept: &mut dyn FnMut(&Outputs) -> Result<(), ServiceError>,
) -> Result<(Outputs, Summary), ServiceError> {
    let start = Instant::now();
    let server = control.peer_fingerprint();
    let join = |lane, part| {
        let stream = TcpStream::connect_timeout(&address, connection.limits.deadline).map_err(Error::from)?;
        let mut further = open(stream, host, connection)?;
        group.add(further.channel().handle());
        if further.peer_fingerprint() != server {
            return Err(ServiceError::Handshake("the server has another certificate than before".into()));
        }
        further.send_hello(Party::P1, Purpose::Join(connection_id(agreed.session, lane, part)))?;
        further.receive_hello(Party::P1)?;
        match further.receive()? {
            Message::Start => {}
            other => return Err(unexpected(&other)),
        }
        let mut channel = further.into_channel();
        connection.ready(&mut channel)?;
        Ok(Box::new(channel) as Box<dyn Channel>)
    };
    connection.ready(control.channel())?;
    let plans = &agreed.plans;
    let total = plans.batches().map(|(_, p)| p.plan.frames.len()).sum();
    let progress = Mutex::new((0, progress));
    let done = in_lanes(plans, group, control.channel(), &join, &|lane, (k, range, planned), channels| {
        let mut before = 0;
        let mut count = |now| {
            let mut shown = progress.lock().unwrap_or_else(|e| e.into_inner());
            shown.0 += now - before;
            before = now;
            let rounds = shown.0;
            (shown.1)(Progress { queued: 0, rounds, total });
        };
        let inputs = inputs(range.clone());
        let (results, report) =
            agreed.run(Party::P1, connection, (lane, k, &planned.plan), channels, &inputs, &mut count)?;
        Ok((range.len(), results, report))
    })?;
    let (mut outputs, mut summary) = (Outputs::new(), Summary::new(plans));
    for (items, results, report) in done {
        summary.add(items, Party::P1, &report);
        for (name, values) in results {
            outputs.entry(name).or_default().extend(values);
        }
    }
    if let Err(e) = accept(&outputs) {
        // The server must not take this for a success.
        let _ = control.send(&Message::Refusal("the client cannot use the results".into()));
        return Err(e);
    }
    agreed.finish(Party::P1, control)?;
    summary.wall_seconds = start.elapsed().as_secs_f64();
    Ok((outputs, summary))
}

/// The handshake up to the server's offer.
fn offer(control: &mut Control) -> Result<Offer, ServiceError> {
    control.send_hello(Party::P1, Purpose::Session)?;
    control.receive_hello(Party::P1)?;
    match control.receive()? {
        Message::Offer(offer) => Ok(offer),
        other => Err(unexpected(&other)),
    }
}

/// What is wrong with what the server says of its model.
fn of_description(e: ModelError) -> ServiceError {
    ServiceError::Handshake(format!("the server's description of its model: {}", printable(&e.to_string())))
}

/// Whether an offer can be accepted.
fn examine(offer: &Offer, pinned: Option<&Description>) -> Result<Description, ServiceError> {
    let description = Description::from_bytes(offer.description.as_bytes()).map_err(of_description)?;
    if let Some(pinned) = pinned
        && !pinned.is_offered_as(&description)
    {
        let what =
            format!("the server offers another model ('{}') than the pinned one ('{}')", description.name, pinned.name);
        return Err(ServiceError::Handshake(what));
    }
    Ok(description)
}
