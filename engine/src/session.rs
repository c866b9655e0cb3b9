//! A session: set-up, offline phase, online phase of one party, and the report of what it cost.
//!
//! Two channels: one for the online phase (and the products with the weights, before it), one for the generator of correlations.
//! Correlations are made before the online phase if they fit the memory budget, else beside it; the plan
//! knows which, so that both parties do the same.

use crate::plan::Plan;
use crate::run::{self, Inputs, PartyRun, RunError};
use crate::trace::Trace;
use sirnn_backends::Error;
use sirnn_backends::inst::{Kind, Party};
use sirnn_backends::ot::{BackendSpec, cost::Cost, streams::Mode, streams::Streams};
use sirnn_backends::transport::{Channel, Traffic};
use sirnn_kernels::aes::Prg;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Correlations that may be held before the online phase starts, or at any time beside it: bytes per party.
// AGREEMENT: it decides the order of the generator's messages.
pub const CORRELATION_BUDGET: u64 = 384 << 20;

/// What a session needs beside the plan.
pub struct Session<'a> {
    /// The plan, the same at both parties.
    pub plan: &'a Plan,
    /// Which party.
    pub party: Party,
    /// Where correlations come from.
    pub backend: &'a dyn BackendSpec,
    /// The same at both parties, never used before.
    pub id: [u8; 16],
    /// Online channel.
    pub online: &'a mut dyn Channel,
    /// Generator's channel.
    pub offline: Box<dyn Channel>,
}

/// What a session did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Base OTs.
    pub setup: Duration,
    /// Generator busy, and products with the weights.
    pub offline: Duration,
    /// Wall clock of the online phase.
    pub online: Duration,
    /// Online phase waiting for correlations.
    pub stalled: Duration,
    /// Online rounds.
    pub rounds: usize,
    /// Rounds of set-up and offline phase.
    pub rounds_offline: u32,
    /// What the online phase sent and received.
    pub online_traffic: Traffic,
    /// What set-up and offline phase sent and received.
    pub offline_traffic: Traffic,
    /// Correlations made.
    pub generated: Vec<(Kind, u64)>,
}

/// Bytes that `needs` take when they are all held at once.
pub fn correlation_bytes(needs: &[(Kind, u64)]) -> u64 {
    let one = |kind: Kind| match kind {
        Kind::Cot { .. } => 17,
        Kind::OneOf { .. } => 34,
        Kind::Triple { cols } => u64::from(1 + 2 * cols).div_ceil(8),
    };
    needs.iter().map(|&(kind, n)| one(kind) * n).sum()
}

/// When a plan's correlations are made.
pub fn mode(plan: &Plan) -> Mode {
    if correlation_bytes(&plan.needs) <= CORRELATION_BUDGET { Mode::Prefilled } else { Mode::Live }
}

/// Exact cost of everything before the online phase.
pub fn offline_cost(plan: &Plan, backend: &dyn BackendSpec) -> Cost {
    plan.offline_cost(backend, mode(plan))
}

fn since(before: Traffic, now: Traffic) -> Traffic {
    Traffic { sent: now.sent - before.sent, received: now.received - before.received, turns: now.turns - before.turns }
}

impl Session<'_> {
    /// Runs the session. `progress` is called with the number of online rounds done. Returns the outputs this party gets.
    ///
    /// # Errors
    /// A bad input, a peer that misbehaves, or a run that did not cost what was planned.
    pub fn run(
        self,
        inputs: &Inputs,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(BTreeMap<String, Vec<i128>>, Report), RunError> {
        self.run_traced(inputs, progress, None)
    }

    /// The same, noting in `trace` what the online phase did when.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_traced(
        mut self,
        inputs: &Inputs,
        progress: &mut dyn FnMut(usize),
        trace: Option<&mut Trace>,
    ) -> Result<(BTreeMap<String, Vec<i128>>, Report), RunError> {
        let (plan, party) = (self.plan, self.party);
        let inputs = run::bind(plan, party, inputs)?;
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).map_err(|e| Error::Io(std::io::Error::other(e.to_string())))?;
        let mut prg = Prg::new(u128::from_le_bytes(seed));
        let mut report = Report::default();

        let start = Instant::now();
        let before_setup = self.offline.traffic();
        let totals = totals(&plan.needs);
        let generator = self.backend.connect(party, self.id, &totals, self.offline.as_mut())?;
        report.setup = start.elapsed();
        let setup = since(before_setup, self.offline.traffic());

        let mut streams = match mode(plan) {
            Mode::Prefilled => Streams::prefilled(generator, &plan.needs, self.offline.as_mut())?,
            Mode::Live => Streams::live(generator, &plan.needs, self.offline, CORRELATION_BUDGET as usize)?,
        };
        let start = Instant::now();
        let before_online = self.online.traffic();
        let mut run = PartyRun { plan, party, correlations: &mut streams, channel: self.online, prg: &mut prg, trace };
        let prepared = run.prepare(&inputs)?;
        report.offline = start.elapsed();
        let before_rounds = run.channel.traffic();
        let start = Instant::now();
        let outputs = run.online(inputs, prepared, progress)?;
        report.online = start.elapsed();
        report.online_traffic = since(before_rounds, self.online.traffic());

        let made = streams.report();
        report.offline += made.generating;
        report.stalled = made.stalled;
        let products = since(before_online, before_rounds);
        report.offline_traffic = Traffic {
            sent: setup.sent + made.traffic.sent + products.sent,
            received: setup.received + made.traffic.received + products.received,
            turns: setup.turns + made.traffic.turns + products.turns,
        };
        report.generated = made.generated.into_iter().collect();
        let expected = offline_cost(plan, self.backend);
        report.rounds = plan.rounds();
        report.rounds_offline = expected.rounds;
        let online = plan.online_bytes();
        check("online", party, online, report.online_traffic)?;
        check("offline", party, expected.bytes_from, report.offline_traffic)?;
        if streams.left() != 0 {
            return Err(Error::Protocol(format!("{} planned correlations were not used", streams.left())).into());
        }
        Ok((outputs, report))
    }
}

fn check(phase: &str, party: Party, planned: [u64; 2], measured: Traffic) -> Result<(), RunError> {
    let (sent, received) = (planned[party.index()], planned[party.other().index()]);
    if (sent, received) == (measured.sent, measured.received) {
        return Ok(());
    }
    Err(Error::Protocol(format!(
        "the {phase} phase sent {} and received {} bytes, {sent} and {received} were planned",
        measured.sent, measured.received
    ))
    .into())
}

/// Sums of a list of needs by kind.
pub fn totals(needs: &[(Kind, u64)]) -> Vec<(Kind, u64)> {
    let mut sums = BTreeMap::new();
    for &(kind, n) in needs {
        *sums.entry(kind).or_insert(0) += n;
    }
    sums.into_iter().collect()
}
