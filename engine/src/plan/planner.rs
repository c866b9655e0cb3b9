//! The planner: which OT backend, fused cells or not, how many lanes. It plans all there are, predicts what each costs, and takes
//! the best for the goal.
//!
//! Bytes and rounds are exact. Time is an estimate: transfers at the link's bandwidth, a one-way latency per round, and
//! CPU at the speeds of this machine ([`crate::plan::speeds`]), each party with a core of its own.

use crate::compile::{self, Options, Request};
use crate::graph::Graph;
use crate::plan::correlations::{CORRELATION_BUDGET, mode, offline_cost};
use crate::plan::speeds::Speeds;
use crate::plan::{LinearTask, Plan};
use crate::program::{Build, Goal, LinearForms, Profile};
use serde::Serialize;
use sirnn_backends::forms::linear_rlwe;
use sirnn_backends::ot::{self, BackendSpec, cost::Cost, streams::Mode};
use sirnn_backends::transport::Link;
use std::ops::Range;

/// Most lanes of a request.
pub const MAX_LANES: usize = 8;
/// How many times the fewest rounds may be spent for half of the bytes, where rounds count.
const FEW_MORE: f64 = 1.01;
/// What a further lane has to save to be opened.
const WORTH: f64 = 0.9;

/// What is planned: a network, and the public facts of a request for it.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// All items of the request.
    pub request: &'a Request,
    /// Items at the same time.
    pub batch: usize,
    /// Values that are revealed beside the outputs.
    pub watch: &'a [String],
}

impl Task<'_> {
    /// The facts of the session that computes some of the items.
    pub fn session(&self, items: Range<usize>) -> Request {
        let Request { steps, lengths, .. } = self.request;
        Request { items: items.len(), steps: *steps, lengths: lengths.as_ref().map(|l| l[items].to_vec()) }
    }

    /// The facts of a session of as many items as it may have, the longest ones.
    fn largest(&self, batch: usize) -> Request {
        let mut lengths = self.request.lengths.clone();
        if let Some(lengths) = &mut lengths {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.truncate(batch);
        }
        Request { items: batch, steps: self.request.steps, lengths }
    }

    /// Options of the compiler.
    pub fn options(&self, tables: bool) -> Options {
        Options { tables, watch: self.watch.to_vec() }
    }
}

/// What is given, and by what the rest is chosen.
#[derive(Clone, Copy)]
pub struct Policy {
    /// What to optimise.
    pub goal: Goal,
    /// The link that times are estimated for.
    pub link: Link,
    /// Where correlations come from, if it is given.
    pub backend: Option<&'static dyn BackendSpec>,
    /// Whether cells are one look-up each, if it is given.
    pub fuse: Option<bool>,
    /// Sessions at the same time, if it is given.
    pub lanes: Option<usize>,
    /// Where products with the weights come from.
    pub linear: LinearForms,
}

/// Whether batch `k` of these kinds follows one of its own kind in its lane, and uses the keys of products that it left.
pub fn follows(kinds: &[usize], lanes: usize, k: usize) -> bool {
    k >= lanes && kinds[k - lanes] == kinds[k]
}

/// How many batches of a kind share keys, on average.
// AGREEMENT.
pub fn sharing(kinds: &[usize], lanes: usize, kind: usize) -> u64 {
    let all = || (0..kinds.len()).filter(|&k| kinds[k] == kind);
    let first = all().filter(|&k| !follows(kinds, lanes, k)).count();
    all().count().div_ceil(first.max(1)) as u64
}

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Bytes on the wire, both ways, all phases, all items: exact if all sessions are of a size.
    pub bytes: u64,
    /// Of them, before the online phase.
    pub bytes_offline: u64,
    /// Online rounds of one session: exact.
    pub rounds: usize,
    /// Rounds of set-up and offline phase of one session: exact.
    pub rounds_offline: u32,
    /// CPU of both parties.
    pub cpu_seconds: f64,
    /// Set-up and offline phase of one session.
    pub offline_seconds: f64,
    /// Online phase of one session.
    pub online_seconds: f64,
    /// From the handshake to the last result.
    pub seconds: f64,
}

/// A way to compute a request.
pub struct Candidate {
    /// Where correlations come from.
    pub backend: &'static dyn BackendSpec,
    /// Whether cells are one look-up each.
    pub fuse: bool,
    /// Sessions at the same time.
    pub lanes: usize,
    /// Items of a session.
    pub batch: usize,
    /// The plan of a full session.
    pub plan: Plan,
    /// What the request costs.
    pub estimate: Estimate,
}

/// Seconds of CPU of a party to make products from ring-LWE, the mean of both parties, with keys that serve as many sessions as
/// the plan says.
fn products(plan: &Plan, speeds: &Speeds) -> f64 {
    let seconds = |(task, form)| {
        let cost = linear_rlwe::cost(&task, form);
        speeds.rlwe.seconds(cost.work) - speeds.rlwe.seconds(cost.key_work) * (1.0 - 1.0 / plan.profile.sessions as f64)
    };
    plan.linear.iter().filter_map(LinearTask::rlwe).map(seconds).sum()
}

/// What one session costs on a link.
struct SessionCost {
    cpu: f64,
    offline: f64,
    online: f64,
    /// With the link and a core to itself: what sessions at the same time cannot share.
    busy: f64,
}

fn session_cost(plan: &Plan, backend: &dyn BackendSpec, before: &Cost, link: Link, speeds: &Speeds) -> SessionCost {
    let speed = speeds.of(backend);
    let (latency, wire) = (link.latency.as_secs_f64(), |bytes: u64| bytes as f64 * 8.0 / link.bits_per_second);
    let making = speed.making(&plan.needs) + products(plan, speeds);
    let transfer = wire(before.bytes_from[0].max(before.bytes_from[1]));
    // Chunks are sent while others are made.
    let generating = making.max(transfer) + f64::from(before.rounds) * latency;
    let setup = speed.setup * 1e-9;
    let computing = speed.spending(&plan.needs) + plan.rounds() as f64 * speeds.round * 1e-9;
    let sending: f64 = plan.frames.iter().map(|f| wire(f[0].max(f[1]) as u64)).sum();
    // A frame is complete before it leaves, and read when it is complete.
    let talking = computing + sending + plan.rounds() as f64 * latency;
    let busy = setup + (making + computing).max(transfer + sending);
    let (offline, online) = match mode(plan, CORRELATION_BUDGET) {
        Mode::Prefilled => (setup + generating, talking),
        Mode::Live => (setup, talking.max(generating).max(making + computing).max(transfer + sending)),
    };
    SessionCost { cpu: 2.0 * (setup + making + computing), offline, online, busy }
}

impl Candidate {
    fn new(
        task: &Task<'_>,
        lanes: usize,
        (backend, fuse): (&'static dyn BackendSpec, bool),
        policy: &Policy,
        speeds: &Speeds,
    ) -> Build<Self> {
        let (items, batch) = (task.request.items, task.batch.div_ceil(lanes));
        let (sessions, full) = (items.div_ceil(batch), items / batch);
        let first = full.min(lanes);
        let profile = Profile {
            linear: policy.linear,
            sessions: full.div_ceil(first.max(1)) as u64,
            ..Profile::of(policy.goal, backend)
        };
        let compiled = compile::compile(task.graph, &task.largest(batch), profile, &task.options(fuse))?;
        let plan = Plan::new(compiled.program, profile);
        let before = offline_cost(&plan, backend);
        let one = session_cost(&plan, backend, &before, policy.link, speeds);
        // A last, smaller session counts as a full one: an estimate from above, exact where all are of a size.
        let sum = |[a, b]: [u64; 2]| (a + b) * sessions as u64;
        let kept = (full - first) as u64 * plan.kept_key_bytes();
        let (offline, online) = (sum(before.bytes_from) - kept, sum(plan.online_bytes()));
        let in_turn = sessions.div_ceil(lanes) as f64 * (one.offline + one.online);
        let estimate = Estimate {
            bytes: offline + online,
            bytes_offline: offline,
            rounds: plan.rounds(),
            rounds_offline: before.rounds,
            cpu_seconds: one.cpu * sessions as f64,
            offline_seconds: one.offline,
            online_seconds: one.online,
            seconds: in_turn.max(one.busy * sessions as f64),
        };
        Ok(Self { backend, fuse, lanes, batch, plan, estimate })
    }

    /// The plan of the last session of a request for items of one length, if it is smaller than the others.
    ///
    /// # Errors
    /// If no program can be built.
    pub fn rest(&self, task: &Task<'_>) -> Build<Option<Plan>> {
        let request = Request { items: task.request.items % self.batch, lengths: None, ..*task.request };
        if request.items == 0 || task.request.items < self.batch {
            return Ok(None);
        }
        let profile = Profile { sessions: 1, ..self.plan.profile };
        let compiled = compile::compile(task.graph, &request, profile, &task.options(self.fuse))?;
        Ok(Some(Plan::new(compiled.program, profile)))
    }

    /// What is compared, the first number first; less is better.
    fn score(&self, goal: Goal) -> [f64; 3] {
        let e = &self.estimate;
        match goal {
            Goal::Rounds => [e.rounds as f64, e.bytes as f64, 0.0],
            Goal::Bytes => [e.bytes as f64, e.rounds as f64, 0.0],
            Goal::Online => [(e.bytes - e.bytes_offline) as f64, e.rounds as f64, e.bytes as f64],
            Goal::Time { .. } => [e.seconds, e.bytes as f64, 0.0],
        }
    }
}

/// The ways to compute a request, best first. All are in as many lanes as are given, or one.
///
/// # Errors
/// If no program can be built.
pub fn candidates(task: &Task<'_>, policy: &Policy, speeds: &Speeds) -> Build<Vec<Candidate>> {
    let backends: Vec<&'static dyn BackendSpec> = match policy.backend {
        Some(backend) => vec![backend],
        None => ot::names().filter_map(|name| ot::lookup(name).ok()).collect(),
    };
    let lanes = policy.lanes.unwrap_or(1).clamp(1, MAX_LANES.min(task.batch));
    let mut all: Vec<Candidate> = Vec::new();
    for backend in backends {
        let fused = policy.fuse.map_or(vec![true, false], |f| vec![f]);
        for fuse in fused {
            let candidate = Candidate::new(task, lanes, (backend, fuse), policy, speeds)?;
            // Where nothing can be fused both are the same program.
            if all.last().is_none_or(|last| last.plan.digest != candidate.plan.digest) {
                all.push(candidate);
            }
        }
    }
    all.sort_by(|a, b| a.score(policy.goal).partial_cmp(&b.score(policy.goal)).expect("estimates are numbers"));
    if policy.goal == Goal::Rounds {
        // A few more rounds are worth half of the bytes.
        let Estimate { rounds, bytes, .. } = all[0].estimate;
        let worth =
            |c: &Candidate| c.estimate.rounds as f64 <= FEW_MORE * rounds as f64 && 2 * c.estimate.bytes <= bytes;
        if let Some(i) = all.iter().position(worth) {
            all[..=i].rotate_right(1);
        }
    }
    Ok(all)
}

/// The best way to compute a request that `allowed` lets pass (or the best of all if none does), with its lanes.
///
/// # Errors
/// If no program can be built.
pub fn choose(
    task: &Task<'_>,
    policy: &Policy,
    speeds: &Speeds,
    allowed: impl Fn(&Candidate) -> bool,
) -> Build<Candidate> {
    let mut all = candidates(task, policy, speeds)?;
    let place = all.iter().position(&allowed).unwrap_or(0);
    let more = in_more_lanes(task, policy, speeds, &all[place], allowed)?;
    Ok(more.unwrap_or_else(|| all.swap_remove(place)))
}

/// The same as `one`, a candidate in one lane, in as many as are worth it; `None` if no more are, or if their number is given.
///
/// # Errors
/// If no program can be built.
pub fn in_more_lanes(
    task: &Task<'_>,
    policy: &Policy,
    speeds: &Speeds,
    one: &Candidate,
    allowed: impl Fn(&Candidate) -> bool,
) -> Build<Option<Candidate>> {
    let mut best = None;
    if policy.lanes.is_none() && matches!(policy.goal, Goal::Time { .. }) {
        let mut seconds = one.estimate.seconds;
        for lanes in 2..=MAX_LANES.min(task.batch) {
            let more = Candidate::new(task, lanes, (one.backend, one.fuse), policy, speeds)?;
            if more.estimate.seconds < WORTH * seconds && allowed(&more) {
                seconds = more.estimate.seconds;
                best = Some(more);
            }
        }
    }
    Ok(best)
}
