//! The client: asks a server for predictions on its own inputs, after having checked what that costs and reveals.

use super::wire::{Control, Message, Offer, Purpose, Request, shown, unexpected};
use super::{Bounds, Connection, Plans, ServiceError, Summary, batch_id};
use crate::model::{Description, Extra};
use crate::program::{Profile, Rates};
use crate::run::Inputs;
use crate::session::Session;
use serde_json::Value;
use sirnn_backends::ot::{self, BackendSpec};
use sirnn_backends::transport::connect_with_retry;
use sirnn_backends::{Error, Party};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

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
    backend: &'static dyn BackendSpec,
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
            Ok((description, backend)) => Ok(Self { control, address, options, offer, description, backend }),
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

    /// Has `items` items computed, `batch` at a time; `inputs` gives those of a range as the program expects them.
    ///
    /// # Errors
    /// The request is beyond a limit of either side, or a session fails.
    pub fn infer(
        mut self,
        items: usize,
        batch: Option<usize>,
        inputs: &dyn Fn(Range<usize>) -> Inputs,
        progress: &mut dyn FnMut(Progress),
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
        let Self { control, address, options: Options { connection, .. }, offer, backend, .. } = self;
        let mut online = connection.channel(control.into_stream())?;
        let (mut outputs, mut summary) = (Outputs::new(), Summary::default());
        let total = plans.batches().map(|(_, p)| p.frames.len()).sum();
        let mut before = 0;
        for (k, (range, plan)) in plans.batches().enumerate() {
            let mut second =
                Control::new(TcpStream::connect_timeout(&address, connection.deadline)?, connection.deadline)?;
            second.send_hello(Party::P1, Purpose::Join(offer.session))?;
            let offline = connection.channel(second.into_stream())?;
            let id = batch_id(offer.session, k);
            let session = Session { plan, party: Party::P1, backend, id, online: online.as_mut(), offline };
            let mut count = |rounds| progress(Progress { rounds: before + rounds, total });
            let (results, report) = connection.run(session, &inputs(range.clone()), &mut count)?;
            before += plan.frames.len();
            summary.add(range.len(), Party::P1, plan, &report);
            for (name, values) in results {
                outputs.entry(name).or_default().extend(values);
            }
        }
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
        let profile = Profile { goal: self.offer.objective.into(), rates: Rates::of(self.backend) };
        let extra = Extra { hidden: self.options.hidden, fuse: self.offer.fuse };
        let plans = Plans::build(&self.description, self.backend, profile, extra, (items, batch))?;
        plans.check(Party::P1, self.backend, self.options.bounds)?;
        plans.compare(&mut self.control)?;
        Ok(plans)
    }
}

/// Whether an offer can be accepted.
fn examine(
    offer: &Offer,
    pinned: Option<&Description>,
) -> Result<(Description, &'static dyn BackendSpec), ServiceError> {
    let description = Description::from_bytes(offer.description.as_bytes()).map_err(|e| {
        ServiceError::Handshake(format!("the server's description of its model: {}", shown(&e.to_string())))
    })?;
    let backend = ot::lookup(&offer.backend).map_err(|e| match e {
        Error::UnknownBackend(name, known) => ServiceError::Handshake(format!(
            "the server uses OT backend '{}'; this program knows {known}",
            shown(&name)
        )),
        other => other.into(),
    })?;
    if let Some(pinned) = pinned
        && !equal(pinned, &description)
    {
        let what =
            format!("the server offers another model ('{}') than the pinned one ('{}')", description.name, pinned.name);
        return Err(ServiceError::Handshake(what));
    }
    Ok((description, backend))
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
