//! How fast this machine makes and uses correlations: what the planner predicts times with.
//!
//! All numbers are nanoseconds of CPU of one party, measured with both parties in one process (`sirnn doctor --calibrate`) or, where nobody has
//! measured, those of a recent x86 server core ([`Speeds::default`]). They never change results, bytes or rounds.

use serde::{Deserialize, Serialize};
use sirnn_backends::inst::CorrelationKind;
use sirnn_backends::ot::BackendSpec;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// A block of 128 bits of a one-hot vector, besides its correlated OTs when it is made.
    #[serde(default)]
    pub one_hot: f64,
}

impl Costs {
    /// For `n` of a kind, where a 1-of-N OT has `each(bits)` bits or pads.
    fn of(&self, &(kind, n): &(CorrelationKind, u64), each: fn(u8) -> f64) -> f64 {
        let one = match kind {
            CorrelationKind::Cot { .. } => self.cot,
            CorrelationKind::Triple { cols } => self.triple * f64::from(cols),
            CorrelationKind::OneOf { bits, .. } => self.one_of + self.one_of_each * each(bits),
            CorrelationKind::OneHot(shape) => self.one_hot * shape.vector_blocks() as f64,
        };
        one * n as f64
    }

    fn all(&self) -> [f64; 5] {
        [self.cot, self.one_of, self.one_of_each, self.triple, self.one_hot]
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
        // One-hot vectors are made from correlated OTs, of which each party makes a part as sender and a part as receiver.
        let cots = |&(kind, n): &(CorrelationKind, u64)| match kind {
            CorrelationKind::OneHot(shape) => 2.0 * self.make.cot * (n as usize * shape.cots()) as f64,
            _ => 0.0,
        };
        needs.iter().map(|need| self.make.of(need, f64::from) + cots(need)).sum::<f64>() * 1e-9
    }

    /// Seconds of online work that these correlations stand for.
    pub fn spending(&self, needs: &[(CorrelationKind, u64)]) -> f64 {
        needs.iter().map(|need| self.spend.of(need, pads)).sum::<f64>() * 1e-9
    }
}

/// Products with the weights from ring-LWE; the mean of both parties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlwe {
    /// A coefficient of a polynomial that is transformed, or made, or rounded.
    pub coefficient: f64,
    /// A weight times a coefficient.
    pub product: f64,
}

impl Default for Rlwe {
    /// Measured with AVX2; a recent core takes a third.
    fn default() -> Self {
        Self { coefficient: 45.0, product: 0.06 }
    }
}

impl Rlwe {
    /// Seconds for so many coefficients and products.
    pub fn seconds(&self, [coefficients, products]: [u64; 2]) -> f64 {
        (coefficients as f64 * self.coefficient + products as f64 * self.product) * 1e-9
    }
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speeds {
    /// One online round: a frame made, sent, awaited and read.
    pub round: f64,
    /// Products with the weights from ring-LWE.
    #[serde(default)]
    pub rlwe: Rlwe,
    /// By name of the OT backend.
    pub backend: BTreeMap<String, Backend>,
}

impl Default for Speeds {
    fn default() -> Self {
        toml::from_str(include_str!("speeds.toml")).expect("the file that comes with the source is valid")
    }
}

/// Why speeds could not be read: the file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}; measure again with: sirnn doctor --calibrate")]
pub struct SpeedsError(String, String);

impl Speeds {
    /// Where this machine's speeds are kept: the file that SIRNN_SPEEDS names, else `sirnn/speeds.toml` among the user's settings.
    pub fn file() -> Option<PathBuf> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let settings = || var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")));
        var("SIRNN_SPEEDS").or_else(|| settings().map(|folder| folder.join("sirnn").join("speeds.toml")))
    }

    /// This machine's: measured if somebody did, else safe guesses.
    ///
    /// # Errors
    /// As [`Speeds::load`].
    pub fn of_this_machine() -> Result<Self, SpeedsError> {
        match Self::file() {
            Some(file) if file.exists() => Self::load(&file),
            _ => Ok(Self::default()),
        }
    }

    /// Reads a file that [`Speeds::to_toml`] made. Backends that it does not know are as by default.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, SpeedsError> {
        let wrong = |what: String| SpeedsError(path.display().to_string(), what);
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let mut speeds: Self = toml::from_str(&text).map_err(|e| wrong(e.message().to_string()))?;
        let numbers =
            speeds.backend.values().flat_map(|b| [b.make.all(), b.spend.all()].concat().into_iter().chain([b.setup]));
        if !numbers
            .chain([speeds.round, speeds.rlwe.coefficient, speeds.rlwe.product])
            .all(|n| (0.0..1e12).contains(&n))
        {
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
