//! How a request is computed, and what that costs.

use super::{Error, Network, Result};
use crate::compile::Request;
use crate::plan::choice::Objective;
use crate::plan::correlations::offline_cost;
use crate::plan::planner::{self, Candidate, Estimate, Policy, Task};
use crate::plan::speeds::Speeds;
use crate::program::LinearForms;
use crate::service::memory;
use sirnn_backends::ot::{self, BackendSpec};
use sirnn_backends::transport::Link;

/// What the planner makes small. Results never depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Goal {
    /// Time on the link.
    #[default]
    Time,
    /// Rounds, then bytes.
    Rounds,
    /// Bytes, then rounds.
    Bytes,
    /// Bytes of the online phase, then rounds.
    Online,
}

/// Where products with the weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Linear {
    /// For each matrix what is fewer bytes.
    #[default]
    Auto,
    /// Correlated OTs: no client can read weights by sending what the protocol does not allow.
    Cot,
    /// Ring-LWE: far fewer bytes for all but narrow matrices; needs clients that follow the protocol.
    Rlwe,
}

impl From<Linear> for LinearForms {
    fn from(linear: Linear) -> Self {
        match linear {
            Linear::Auto => Self::Auto,
            Linear::Cot => Self::Cot,
            Linear::Rlwe => Self::Rlwe,
        }
    }
}

/// How requests are computed. What is left open is chosen for every request, by the goal.
#[derive(Clone, Debug)]
pub struct Planning {
    goal: Goal,
    link: Link,
    ot: Option<String>,
    fuse: Option<bool>,
    lanes: Option<usize>,
    pub(super) linear: Linear,
}

impl Default for Planning {
    fn default() -> Self {
        Self { goal: Goal::Time, link: Link::LAN, ot: None, fuse: None, lanes: None, linear: Linear::Auto }
    }
}

impl Planning {
    /// What to make small. Default: time.
    pub fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }

    /// The link that times are estimated for. Default: [`Link::LAN`].
    pub fn link(self, link: Link) -> Self {
        Self { link, ..self }
    }

    /// Where correlations come from: `iknp`, `softspoken`, `softspoken:2`, `softspoken:8` or `ferret`.
    pub fn ot(self, name: impl Into<String>) -> Self {
        Self { ot: Some(name.into()), ..self }
    }

    /// Whether functions of narrow values are one look-up each.
    pub fn fuse(self, fuse: bool) -> Self {
        Self { fuse: Some(fuse), ..self }
    }

    /// Batches that are computed at the same time: 1 to 8.
    pub fn lanes(self, lanes: usize) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// Where products with the weights come from. Default: whichever is fewer bytes.
    pub fn linear(self, linear: Linear) -> Self {
        Self { linear, ..self }
    }

    pub(super) fn objective(&self) -> Objective {
        match self.goal {
            Goal::Rounds => Objective::Rounds,
            Goal::Bytes => Objective::Bytes,
            Goal::Online => Objective::Online,
            Goal::Time => Objective::Time {
                bits_per_second: self.link.bits_per_second as u64,
                latency_ns: self.link.latency.as_nanos() as u64,
            },
        }
    }

    pub(super) fn policy(&self) -> Result<Policy> {
        let lookup = |name: &String| -> Result<&'static dyn BackendSpec> {
            ot::lookup(name).map_err(|e| Error::input(e.to_string()))
        };
        if let Some(lanes) = self.lanes.filter(|n| !(1..=planner::MAX_LANES).contains(n)) {
            return Err(Error::input(format!("{lanes} lanes, 1 to {} are possible", planner::MAX_LANES)));
        }
        Ok(Policy {
            goal: self.objective().into(),
            link: self.link,
            backend: self.ot.as_ref().map(lookup).transpose()?,
            fuse: self.fuse,
            lanes: self.lanes,
            linear: self.linear.into(),
        })
    }
}

/// The speeds that times are estimated with.
pub(super) fn speeds() -> Result<Speeds> {
    Speeds::of_this_machine().map_err(|e| Error::input(e.to_string()))
}

/// What a request will cost. Rounds and bytes are exact, and a run that takes others is an error; times are estimates.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// Where correlations come from.
    pub ot: String,
    /// Whether functions of narrow values are one look-up each.
    pub fused: bool,
    /// Batches that are computed at the same time.
    pub lanes: usize,
    /// Items of each of them.
    pub batch: usize,
    /// Online rounds of one batch: one-way delays.
    pub rounds: usize,
    /// Those of its set-up and offline phase.
    pub rounds_offline: u32,
    /// Bytes on the wire, both ways, all phases, all items.
    pub bytes_total: u64,
    /// Of them, before the online phase.
    pub bytes_offline: u64,
    /// Of them, in the online phase.
    pub bytes_online: u64,
    /// Memory of server and client at the peak, beside the program itself.
    pub memory: [u64; 2],
    /// Estimated CPU of both parties.
    pub cpu_seconds: f64,
    /// Estimated time from the handshake to the last result.
    pub seconds: f64,
}

impl Network {
    /// What `items` items of `steps` time steps each (`None`: the most that the network is for) will cost, all computed together.
    ///
    /// # Errors
    /// The network is not for as many steps, or no program can be built.
    pub fn plan(&self, items: usize, steps: Option<usize>, planning: &Planning) -> Result<Cost> {
        if items == 0 {
            return Err(Error::input("there are no items"));
        }
        let steps = steps.unwrap_or(self.0.graph.steps);
        self.0.typed(steps)?;
        let request = Request { items, steps, lengths: None };
        let task = Task { graph: &self.0.graph, request: &request, batch: items, watch: &[] };
        let best = planner::choose(&task, &planning.policy()?, &speeds()?, |_| true)?;
        let Candidate { backend, fuse, lanes, batch, plan, estimate } = &best;
        let Estimate { bytes, bytes_offline, rounds, cpu_seconds, seconds, .. } = *estimate;
        Ok(Cost {
            ot: backend.name().into(),
            fused: *fuse,
            lanes: *lanes,
            batch: *batch,
            rounds,
            rounds_offline: offline_cost(plan, *backend).rounds,
            bytes_total: bytes,
            bytes_offline,
            bytes_online: bytes - bytes_offline,
            memory: memory(plan).map(|m| m.saturating_mul(*lanes as u64)),
            cpu_seconds,
            seconds,
        })
    }
}
