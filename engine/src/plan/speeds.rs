//! How fast this machine makes and uses correlations: what the planner predicts times with.
//!
//! All numbers are nanoseconds of CPU of one party, measured with both parties in one process ([`measure`]) or, where nobody has
//! measured, those of a recent x86 server core ([`Speeds::default`]). They never change results, bytes or rounds.

use crate::plan::operations::{self, Params};
use crate::program::{Goal, Profile, Rates};
use crate::run::RunError;
use crate::run::pair;
use crate::run::session::totals;
use serde::{Deserialize, Serialize};
use sirnn_backends::Error;
use sirnn_backends::inst::{CorrelationKind, Party};
use sirnn_backends::ot::{self, BackendSpec};
use sirnn_backends::transport::MemChannel;
use std::collections::BTreeMap;
use std::path::Path;

/// Nanoseconds of CPU for one correlation of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// A correlated OT.
    pub cot: f64,
    /// A 1-of-N OT, ...
    pub one_of: f64,
    /// ... and what each bit of its index (when it is made) or each of its pads (when it is spent) adds.
    pub one_of_each: f64,
    /// A bit triple.
    pub triple: f64,
}

impl Costs {
    /// For `n` of a kind, where a 1-of-N OT has `each(bits)` bits or pads.
    fn of(&self, &(kind, n): &(CorrelationKind, u64), each: fn(u8) -> f64) -> f64 {
        let one = match kind {
            CorrelationKind::Cot { .. } => self.cot,
            CorrelationKind::Triple { cols } => self.triple * f64::from(cols),
            CorrelationKind::OneOf { bits, .. } => self.one_of + self.one_of_each * each(bits),
        };
        one * n as f64
    }

    fn all(&self) -> [f64; 4] {
        [self.cot, self.one_of, self.one_of_each, self.triple]
    }
}

/// Pads of a 1-of-`2^bits` OT.
fn pads(bits: u8) -> f64 {
    f64::from(bits).exp2()
}

/// One OT backend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Base OTs, and what precedes the first correlation.
    pub setup: f64,
    /// Generation.
    pub make: Costs,
    /// Online: hashing, messages, and the local work that goes with it.
    pub spend: Costs,
}

impl Backend {
    /// Seconds to make these correlations, set-up excluded.
    pub fn making(&self, needs: &[(CorrelationKind, u64)]) -> f64 {
        needs.iter().map(|need| self.make.of(need, f64::from)).sum::<f64>() * 1e-9
    }

    /// Seconds of online work that these correlations stand for.
    pub fn spending(&self, needs: &[(CorrelationKind, u64)]) -> f64 {
        needs.iter().map(|need| self.spend.of(need, pads)).sum::<f64>() * 1e-9
    }
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speeds {
    /// One online round: a frame made, sent, awaited and read.
    pub round: f64,
    /// By name of the OT backend.
    pub backend: BTreeMap<String, Backend>,
}

impl Default for Speeds {
    fn default() -> Self {
        toml::from_str(include_str!("speeds.toml")).expect("the file that comes with the source is valid")
    }
}

/// Why speeds could not be read or measured.
#[derive(Debug, thiserror::Error)]
pub enum SpeedsError {
    /// The file.
    #[error("{0}: {1}; measure again with: sirnn doctor --calibrate")]
    File(String, String),
    /// A measurement.
    #[error("{0}")]
    Run(#[from] RunError),
    /// A program to measure with.
    #[error("{0}")]
    Build(#[from] crate::program::BuildError),
}

impl From<Error> for SpeedsError {
    fn from(e: Error) -> Self {
        Self::Run(e.into())
    }
}

impl Speeds {
    /// Reads a file that [`Speeds::to_toml`] made. Backends that it does not know are as by default.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, SpeedsError> {
        let wrong = |what: String| SpeedsError::File(path.display().to_string(), what);
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let mut speeds: Self = toml::from_str(&text).map_err(|e| wrong(e.message().to_string()))?;
        let numbers =
            speeds.backend.values().flat_map(|b| [b.make.all(), b.spend.all()].concat().into_iter().chain([b.setup]));
        if !numbers.chain([speeds.round]).all(|n| (0.0..1e12).contains(&n)) {
            return Err(wrong("not all numbers are times in nanoseconds".into()));
        }
        for (name, backend) in Self::default().backend {
            speeds.backend.entry(name).or_insert(backend);
        }
        Ok(speeds)
    }

    /// As text, for a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers have a TOML form")
    }

    /// Those of a backend.
    pub fn of(&self, backend: &dyn BackendSpec) -> Backend {
        // A backend that nobody measured is thought to be like the most expensive one.
        let worst = || self.backend.values().copied().max_by(|a, b| a.make.cot.total_cmp(&b.make.cot));
        self.backend.get(backend.name()).copied().or_else(worst).expect("there are backends")
    }
}

/// Nanoseconds to spend a bit triple: too few to be measured by themselves.
const TRIPLE: f64 = 1.0;

/// CPU seconds that `work` takes, over all threads of this process, halved: what one of two parties takes.
fn half_cpu<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let before = crate::run::usage::cpu_seconds();
    let done = work()?;
    Ok((done, (crate::run::usage::cpu_seconds() - before) / 2.0))
}

/// Measures this machine: some seconds. `progress` is told what is being measured.
///
/// # Errors
/// A backend that does not work.
pub fn measure(progress: &mut dyn FnMut(&str)) -> Result<Speeds, SpeedsError> {
    let mut backend = BTreeMap::new();
    for name in ot::names() {
        progress(name);
        backend.insert(name.to_string(), measure_backend(ot::lookup(name)?)?);
    }
    progress("rounds");
    let mut round = f64::INFINITY;
    // The least of a few: what else the machine does only adds.
    for _ in 0..5 {
        let run = session("sigmoid", "iknp", Params { n: 1, ..Params::default() })?;
        round = round.min(run.online / run.rounds as f64 * 1e9);
    }
    Ok(Speeds { round, backend })
}

fn measure_backend(spec: &dyn BackendSpec) -> Result<Backend, SpeedsError> {
    let kinds = |sender| [CorrelationKind::Cot { sender }, CorrelationKind::OneOf { sender, bits: 4 }];
    let all: Vec<CorrelationKind> = Party::BOTH.into_iter().flat_map(kinds).collect();
    let setup = generate(spec, &all, 1)?;
    // Per correlation: many at once, less the set-up.
    let each = |kind, log: u32| -> Result<f64, Error> {
        let (few, many) = (1 << (log - 3), 1 << log);
        Ok((generate(spec, &[kind], many)? - generate(spec, &[kind], few)?).max(0.0) / (many - few) as f64 * 1e9)
    };
    let sender = Party::P0;
    let [of_16, of_256] = [4, 8].map(|bits| each(CorrelationKind::OneOf { sender, bits }, 18));
    let (of_16, of_256) = (of_16?, of_256?);
    let bit = ((of_256 - of_16) / 4.0).max(0.0);
    let make = Costs {
        cot: each(CorrelationKind::Cot { sender }, 21)?,
        one_of: (of_16 - 4.0 * bit).max(0.0),
        one_of_each: bit,
        triple: each(CorrelationKind::Triple { cols: 1 }, 21)?,
    };
    let mut measured = Backend { setup: setup * 1e9, make, spend: Costs { triple: TRIPLE, ..Costs::default() } };

    // Operations that spend few kinds; what is left when all that is known is taken off is the rest's.
    let many = Params { n: 1 << 15, ..Params::default() };
    let rest = |measured: &Backend, op, params, kind: fn(&CorrelationKind) -> bool| -> Result<_, SpeedsError> {
        let run = session(op, spec.name(), params)?;
        let (sought, others): (Vec<_>, Vec<_>) = run.needs.iter().partition(|(k, _)| kind(k));
        let kinds: Vec<CorrelationKind> = run.needs.iter().map(|need| need.0).collect();
        let known = generate(spec, &kinds, 1)? + measured.making(&run.needs) + measured.spending(&others);
        Ok(((run.cpu - known).max(0.0) * 1e9, sought))
    };
    let one_of: fn(&CorrelationKind) -> bool = |k| matches!(k, CorrelationKind::OneOf { .. });
    // Two equations for the two parts of a 1-of-N OT: nearly all pads, and few.
    let (lookups, many_pads) = rest(&measured, "lut", many.clone(), one_of)?;
    let (leaves, few_pads) = rest(&measured, "compare", Params { width: 32, ..many.clone() }, one_of)?;
    let count = |needs: &[(CorrelationKind, u64)]| -> [f64; 2] {
        let instances: f64 = needs.iter().map(|(_, n)| *n as f64).sum();
        let unit = Costs { one_of_each: 1.0, ..Costs::default() };
        [instances, needs.iter().map(|need| unit.of(need, pads)).sum()]
    };
    let ([a, b], [c, d]) = (count(&many_pads), count(&few_pads));
    let pad = ((lookups * c - leaves * a) / (b * c - d * a)).clamp(0.0, lookups / b.max(1.0));
    measured.spend.one_of_each = if pad.is_finite() { pad } else { 0.0 };
    measured.spend.one_of = ((lookups - b * measured.spend.one_of_each) / a.max(1.0)).max(0.0);
    let (products, cots) = rest(&measured, "mul", many, |k| matches!(k, CorrelationKind::Cot { .. }))?;
    measured.spend.cot = products / count(&cots)[0].max(1.0);
    Ok(measured)
}

/// CPU seconds of a party that connects and makes `n` correlations of each of some kinds.
fn generate(spec: &dyn BackendSpec, kinds: &[CorrelationKind], n: usize) -> Result<f64, Error> {
    let (a, b) = MemChannel::pair();
    let demand: Vec<(CorrelationKind, u64)> = kinds.iter().map(|&kind| (kind, n as u64)).collect();
    let party = |party: Party, mut channel: MemChannel| -> Result<(), Error> {
        let mut backend = spec.connect(party, [0; 16], &demand, &mut channel)?;
        kinds.iter().try_for_each(|&kind| backend.generate(kind, n, &mut channel).map(drop))
    };
    let ((), seconds) = half_cpu(|| {
        std::thread::scope(|s| {
            let peer = s.spawn(|| party(Party::P0, a));
            party(Party::P1, b)?;
            peer.join().expect("a generator does not panic")
        })
    })?;
    Ok(seconds)
}

/// A session of an operation.
struct Run {
    /// Seconds of a party.
    cpu: f64,
    /// Seconds of wall clock.
    online: f64,
    needs: Vec<(CorrelationKind, u64)>,
    rounds: usize,
}

fn session(op: &str, backend: &str, params: Params) -> Result<Run, SpeedsError> {
    let profile = Profile { goal: Goal::Bytes, rates: Rates::of(ot::lookup(backend)?) };
    let plan = operations::find(op).expect("a registered operation").plan(&params, profile)?;
    let inputs = operations::inputs(&plan.program, 1);
    let ([_, (_, report)], cpu) = half_cpu(|| pair::run(&plan, backend, &inputs))?;
    Ok(Run { cpu, online: report.online.as_secs_f64(), needs: totals(&plan.needs), rounds: plan.rounds() })
}
