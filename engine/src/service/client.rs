//! The client: asks a server for predictions on its own inputs, after having checked what that costs and reveals.

use super::wire::{Control, Message, Offer, Purpose, Request, shown, unexpected};
use super::{Bounds, Connection, Plans, ServiceError, Summary, batch_id, connection_id, in_lanes};
use crate::model::Description;
use crate::run::Inputs;
use crate::session::Session;
use serde_json::Value;
use sirnn_backends::Party;
use sirnn_backends::transport::connect_with_retry;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long to try to reach a server that is not there yet.
const PATIENCE: Duration = Duration::from_secs(10);
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
    /// Also ask for the final state, of a server that gives it.
    pub hidden: bool,
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

    /// Has `items` items computed, up to `batch` at the same time; `inputs` gives those of a range as the program expects them.
    ///
    /// # Errors
    /// The request is beyond a limit of either side, or a session fails.
    pub fn infer(
        mut self,
        items: usize,
        batch: Option<usize>,
        inputs: &(dyn Fn(Range<usize>) -> Inputs + Sync),
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<(Outputs, Summary), ServiceError> {
        let plans = match self.agree(items, batch) {
            Ok(plans) => plans,
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
        let total = plans.batches().map(|(_, p)| p.frames.len()).sum();
        let progress = Mutex::new((0, progress));
        let done =
            in_lanes(&plans, connection.channel(control.into_stream())?, &join, &|lane, batch, online, offline| {
                let (k, range, plan) = batch;
                let id = batch_id(offer.session, k);
                let session = Session { plan, party: Party::P1, backend: plans.backend, id, online, offline };
                let mut before = 0;
                let mut count = |now| {
                    let mut shown = progress.lock().unwrap_or_else(|e| e.into_inner());
                    shown.0 += now - before;
                    before = now;
                    let rounds = shown.0;
                    (shown.1)(Progress { rounds, total });
                };
                let (results, report) = connection.run(lane, session, &inputs(range.clone()), &mut count)?;
                Ok((range.len(), plan, results, report))
            })?;
        let (mut outputs, mut summary) = (Outputs::new(), Summary::new(&plans));
        for (items, plan, results, report) in done {
            summary.add(items, Party::P1, plan, &report);
            for (name, values) in results {
                outputs.entry(name).or_default().extend(values);
            }
        }
        summary.wall_seconds = start.elapsed().as_secs_f64();
        Ok((outputs, summary))
    }

    /// The rest of the handshake. Nothing secret exists yet.
    fn agree(&mut self, items: usize, batch: Option<usize>) -> Result<Plans, ServiceError> {
        if items == 0 {
            return Err(ServiceError::Limit("there are no items".into()));
        }
        let granted = usize::try_from(self.offer.max_batch).unwrap_or(usize::MAX).max(1);
        let batch = batch.unwrap_or(BATCH.min(granted)).clamp(1, items);
        self.control.send(&Message::Request(Request { items: items as u64, batch: batch as u64 }))?;
        let choice = match self.control.receive()? {
            Message::Choice(choice) => choice,
            other => return Err(unexpected(&other)),
        };
        let plans = Plans::build(&self.description, self.options.hidden, (items, batch), &choice)?;
        plans.check(Party::P1, self.options.bounds)?;
        plans.compare(&mut self.control)?;
        Ok(plans)
    }
}

/// Whether an offer can be accepted.
fn examine(offer: &Offer, pinned: Option<&Description>) -> Result<Description, ServiceError> {
    let description = Description::from_bytes(offer.description.as_bytes()).map_err(|e| {
        ServiceError::Handshake(format!("the server's description of its model: {}", shown(&e.to_string())))
    })?;
    if let Some(pinned) = pinned
        && !equal(pinned, &description)
    {
        let what =
            format!("the server offers another model ('{}') than the pinned one ('{}')", description.name, pinned.name);
        return Err(ServiceError::Handshake(what));
    }
    Ok(description)
}

/// Whether the server's description is the pinned one. What a description may leave open the server fills in.
fn equal(pinned: &Description, offered: &Description) -> bool {
    fn fits(pinned: &Value, offered: &Value) -> bool {
        match (pinned, offered) {
            (Value::Object(a), Value::Object(b)) => a.iter().all(|(key, a)| b.get(key).is_some_and(|b| fits(a, b))),
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fits(a, b)),
            _ => pinned == offered,
        }
    }
    let [pinned, offered] = [pinned, offered].map(|d| serde_json::to_value(d).expect("descriptions have a JSON form"));
    fits(&pinned, &offered)
}
