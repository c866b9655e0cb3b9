//! Where correlations come from: oblivious transfer extension in several flavours, and the streams that hand its
//! output to the online phase.
//!
//! Reading order: `base` (random OTs by public-key operations), `softspoken` (many correlated OTs from 128 of them, IKNP
//! included), `ferret` (nearly without communication, with the parameters in `lpn`), `kk13` (1-of-N), `extension` (every kind of correlation from
//! these), `chunks` (in what portions and order they are made), [`streams`] (FIFOs, prefilled, live or stored), [`store`]
//! (what stored ones read), [`cost`] (what all of it costs, exactly and without running it).
//!
//! All protocols are secure against semi-honest parties with 128 bits. Every session has fresh base OTs, deltas and
//! seeds, all from the operating system's generator.

mod base;
mod batch;
mod chunks;
pub mod cost;
mod extension;
mod ferret;
mod kk13;
mod lpn;
mod onehot;
mod softspoken;
pub mod store;
pub mod streams;
mod triples;

pub use batch::Batch;

use crate::{Error, Party, inst::CorrelationKind, transport::Channel};
use cost::{Cost, Ledger, Meter};
use sirnn_kernels::memory::SecretVec;
use zeroize::Zeroizing;

/// COT sources make multiples of this many rows; what is not asked for is thrown away.
// AGREEMENT: the lengths of all messages.
const GRANULE: usize = 128;

/// Which party this is, in which session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// This party.
    pub party: Party,
    /// The same for both parties, different for every connection: it goes into base OT and hashes.
    pub id: [u8; 16],
}

/// One party's end of a running generator of correlations. The peer calls the same functions in the same order.
pub trait Backend: Send {
    /// The session it was made for.
    fn session(&self) -> Session;
    /// This party's correlation as COT sender; 0 if it never is.
    fn delta(&self) -> Zeroizing<u128>;
    /// What to add to the row of a 1-of-`2^bits` OT for each pad, as sender.
    fn offsets(&self, bits: u8) -> SecretVec<u128>;
    /// Makes `n` correlations.
    fn generate(&mut self, kind: CorrelationKind, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error>;
    /// The only party that sends when this kind is made, `None` if both do. Making what flows from P0 and what flows from
    /// P1 are independent of each other: each party may be ahead with its own.
    fn flow(&self, kind: CorrelationKind) -> Option<Party>;
}

/// A flavour of correlation generator: builds it, and knows its cost without building it.
pub trait BackendSpec: Send + Sync {
    /// Name in the registry.
    fn name(&self) -> &str;
    /// Runs the set-up that the demanded kinds need: base OTs, both directions in the same messages.
    fn connect(
        &self,
        party: Party,
        session_id: [u8; 16],
        demand: &[(CorrelationKind, u64)],
        channel: &mut dyn Channel,
    ) -> Result<Box<dyn Backend>, Error>;
    /// Predicts the messages of a backend that is connected with this demand.
    fn meter(&self, demand: &[(CorrelationKind, u64)]) -> Box<dyn Meter>;

    /// Exact cost of the set-up.
    fn setup_cost(&self, demand: &[(CorrelationKind, u64)]) -> Cost {
        let mut ledger = Ledger::default();
        self.meter(demand).setup(&mut ledger);
        ledger.cost()
    }

    /// Exact cost of `n` correlations made at once, right after the set-up.
    fn cost(&self, kind: CorrelationKind, n: usize) -> Cost {
        let mut ledger = Ledger::default();
        self.meter(&[(kind, n as u64)]).generate(kind, n, &mut ledger);
        ledger.cost()
    }

    /// Bytes, both ways, that one correlation costs when many are made: for the choice between forms.
    fn bytes_per(&self, kind: CorrelationKind) -> f64 {
        const MANY: usize = 1 << 24;
        let [a, b] = self.cost(kind, MANY).bytes_from;
        (a + b) as f64 / MANY as f64
    }
}

/// A COT source at the side that knows delta.
trait CotSend: Send {
    fn delta(&self) -> Zeroizing<u128>;
    /// Makes rows `q`; their number is a multiple of [`GRANULE`].
    fn extend(&mut self, rows: &mut [u128], channel: &mut dyn Channel) -> Result<(), Error>;
}

/// A COT source at the side that has choices.
trait CotRecv: Send {
    /// Makes rows `q ^ c delta` and random choices `c`; the number of rows is a multiple of [`GRANULE`].
    fn extend(&mut self, rows: &mut [u128], choices: &mut [u64], channel: &mut dyn Channel) -> Result<(), Error>;
}

/// The sources there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// SoftSpoken with `k = 1`; 1-of-N from KK13.
    Iknp,
    /// Groups of this many bits of delta.
    SoftSpoken(u32),
    /// From LPN.
    Ferret,
}

impl Source {
    /// Bits of delta that share a tree.
    fn group(self) -> u32 {
        match self {
            Source::Iknp => 1,
            Source::SoftSpoken(k) => k,
            Source::Ferret => ferret::BOOTSTRAP,
        }
    }
}

/// A registered flavour.
struct Flavour {
    name: &'static str,
    source: Source,
}

const FLAVOURS: [Flavour; 5] = [
    Flavour { name: "iknp", source: Source::Iknp },
    Flavour { name: "softspoken", source: Source::SoftSpoken(4) },
    Flavour { name: "softspoken:2", source: Source::SoftSpoken(2) },
    Flavour { name: "softspoken:8", source: Source::SoftSpoken(8) },
    Flavour { name: "ferret", source: Source::Ferret },
];

/// Names of all flavours.
pub fn names() -> impl Iterator<Item = &'static str> {
    FLAVOURS.iter().map(|f| f.name)
}

/// The flavour of this name.
pub fn lookup(name: &str) -> Result<&'static dyn BackendSpec, Error> {
    match FLAVOURS.iter().find(|f| f.name == name) {
        Some(f) => Ok(f),
        None => Err(Error::UnknownBackend(name.into(), names().collect::<Vec<_>>().join(", "))),
    }
}

impl BackendSpec for Flavour {
    fn name(&self) -> &str {
        self.name
    }

    fn connect(
        &self,
        party: Party,
        session_id: [u8; 16],
        demand: &[(CorrelationKind, u64)],
        channel: &mut dyn Channel,
    ) -> Result<Box<dyn Backend>, Error> {
        let session = Session { party, id: session_id };
        Ok(Box::new(extension::Extension::connect(self.source, session, demand, channel)?))
    }

    fn meter(&self, demand: &[(CorrelationKind, u64)]) -> Box<dyn Meter> {
        Box::new(extension::ExtensionMeter::new(self.source, demand))
    }
}

#[cfg(test)]
pub(crate) mod tests;

#[cfg(test)]
fn test_session(party: Party) -> Session {
    Session { party, id: *b"a test's session" }
}
