//! The client: asks a server for predictions on its own inputs, after having checked what that costs and reveals.

use super::wire::{Choice, Control, Message, Offer, Phases, Purpose, Request, shown, unexpected};
use super::{Agreed, Bounds, Connection, Plans, ServiceError, Summary, Work, connection_id, in_lanes};
use crate::compile;
use crate::model::Description;
use crate::plan::planner::Task;
use crate::program::LinearForms;
use crate::run::Inputs;
use crate::run::store::{Store, Writer, fingerprint};
use sirnn_backends::Party;
use sirnn_backends::random;
use sirnn_backends::transport::connect_with_retry;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long to try to reach a server that is not there yet.
const PATIENCE: Duration = Duration::from_secs(10);
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
    /// Online rounds done, over all batches.
    pub rounds: usize,
    /// Of so many.
    pub total: usize,
}

/// Results by name, items in order.
pub type Outputs = BTreeMap<String, Vec<i128>>;

/// What a client wants.
enum Wish<'a> {
    /// Predictions.
    Compute,
    /// A store for later, if the server's choice is acceptable.
    Make(&'a Path, &'a dyn Fn(&Choice) -> Result<(), String>),
    /// Predictions, with a store.
    Use(Store),
}

/// A connection to a server that has made its offer.
pub struct Client {
    control: Control,
    address: SocketAddr,
    options: Options,
    offer: Offer,
    description: Description,
}

impl Client {
    /// Connects and checks the offer.
    ///
    /// # Errors
    /// No server, one of another version, or an offer that cannot be accepted.
    pub fn connect(addresses: &[SocketAddr], options: Options) -> Result<Self, ServiceError> {
        let stream = connect_with_retry(addresses, PATIENCE.min(options.connection.deadline))?;
        let address = stream.peer_addr()?;
        let mut control = Control::new(stream, options.connection.deadline)?;
        control.send_hello(Party::P1, Purpose::Session)?;
        control.receive_hello(Party::P1)?;
        let offer = match control.receive()? {
            Message::Offer(offer) => offer,
            other => return Err(unexpected(&other)),
        };
        match examine(&offer, options.pinned.as_ref()) {
            Ok(description) => Ok(Self { control, address, options, offer, description }),
            Err(e) => {
                control.refuse(&e);
                Err(e)
            }
        }
    }

    /// The server's model, as far as it is public.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Has items computed, up to `batch` at the same time; `inputs` gives those of a range as the program expects them.
    ///
    /// # Errors
    /// The request is beyond a limit of either side, or a session fails.
    pub fn infer(
        self,
        items: &compile::Request,
        batch: Option<usize>,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Outputs, Summary), ServiceError> {
        self.request(Wish::Compute, items, batch, inputs, progress)
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
    ) -> Result<(Outputs, Summary), ServiceError> {
        let batch = batch.unwrap_or(usize::try_from(store.header().batch).unwrap_or(usize::MAX));
        self.request(Wish::Use(store), items, Some(batch), inputs, progress)
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
        let (_, summary) = self.request(Wish::Make(path, accept), items, batch, &|_| Inputs::new(), &mut |_| {})?;
        Ok(summary)
    }

    fn request(
        mut self,
        wish: Wish<'_>,
        items: &compile::Request,
        batch: Option<usize>,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Outputs, Summary), ServiceError> {
        let agreed = match self.agree(wish, items, batch) {
            Ok(agreed) => agreed,
            Err(e) => {
                if !matches!(e, ServiceError::Refused(_) | ServiceError::Network(_)) {
                    self.control.refuse(&e);
                }
                return Err(e);
            }
        };
        let start = Instant::now();
        let Self { control, address, options: Options { connection, .. }, offer, .. } = self;
        let join = |lane, part| {
            let stream = TcpStream::connect_timeout(&address, connection.deadline)?;
            let mut control = Control::new(stream, connection.deadline)?;
            control.send_hello(Party::P1, Purpose::Join(connection_id(offer.session, lane, part)))?;
            Ok(connection.channel(control.into_stream())?)
        };
        let mut first = connection.channel(control.into_stream())?;
        let plans = &agreed.plans;
        let total = plans.batches().map(|(_, p)| p.plan.frames.len()).sum();
        let progress = Mutex::new((0, progress));
        let done = in_lanes(plans, first.as_mut(), &join, &|lane, (k, range, planned), channels| {
            let mut before = 0;
            let mut count = |now| {
                let mut shown = progress.lock().unwrap_or_else(|e| e.into_inner());
                shown.0 += now - before;
                before = now;
                let rounds = shown.0;
                (shown.1)(Progress { rounds, total });
            };
            let inputs = inputs(range.clone());
            let (results, report) =
                agreed.run(Party::P1, &connection, (lane, k, &planned.plan), channels, &inputs, &mut count)?;
            Ok((range.len(), results, report))
        })?;
        let (mut outputs, mut summary) = (Outputs::new(), Summary::new(plans));
        for (items, results, report) in done {
            summary.add(items, Party::P1, &report);
            for (name, values) in results {
                outputs.entry(name).or_default().extend(values);
            }
        }
        agreed.finish(first.as_mut())?;
        summary.wall_seconds = start.elapsed().as_secs_f64();
        Ok((outputs, summary))
    }

    /// The rest of the handshake. Nothing that depends on items or on a store is said before its end.
    fn agree(
        &mut self,
        wish: Wish<'_>,
        request: &compile::Request,
        batch: Option<usize>,
    ) -> Result<Agreed, ServiceError> {
        let items = request.items;
        if items == 0 {
            return Err(ServiceError::Limit("there are no items".into()));
        }
        let granted = usize::try_from(self.offer.max_batch).unwrap_or(usize::MAX).max(1);
        let batch = batch.unwrap_or(BATCH.min(granted)).clamp(1, items);
        let (phases, made) = match &wish {
            Wish::Compute => (Phases::Both, self.offer.session),
            Wish::Make(..) => (Phases::Offline, self.offer.session),
            Wish::Use(store) => {
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
        let mut work = match wish {
            Wish::Compute => Work::Compute,
            Wish::Make(path, accept) => {
                accept(&choice).map_err(ServiceError::Handshake)?;
                Work::Make(Box::new(Mutex::new(Writer::create(path, &header(), nothing)?)))
            }
            Wish::Use(store) => {
                store.check(&header(), nothing)?;
                Work::Use(store)
            }
        };
        plans.compare(&mut self.control)?;
        if let Work::Use(store) = &mut work {
            store.begin()?;
        }
        Ok(Agreed { plans, work, made, nonce, counted: None })
    }
}

/// Whether an offer can be accepted.
fn examine(offer: &Offer, pinned: Option<&Description>) -> Result<Description, ServiceError> {
    let description = Description::from_bytes(offer.description.as_bytes()).map_err(|e| {
        ServiceError::Handshake(format!("the server's description of its model: {}", shown(&e.to_string())))
    })?;
    if let Some(pinned) = pinned
        && !pinned.is_offered_as(&description)
    {
        let what =
            format!("the server offers another model ('{}') than the pinned one ('{}')", description.name, pinned.name);
        return Err(ServiceError::Handshake(what));
    }
    Ok(description)
}
