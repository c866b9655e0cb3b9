//! A session: set-up, offline phase, online phase of one party, and the report of what it cost.
//!
//! Two channels: one for the online phase (and the products with the weights, before it), one for the generator of correlations.
//! Correlations are made before the online phase if they fit the memory budget, else beside it; the plan
//! knows which, so that both parties do the same. A session can also end after its offline phase, leaving a section of a
//! [store](crate::run::store) ([`Session::make`]), and another one begin with that ([`Stored`]). Sessions that follow each other with one
//! plan, peer and weights can share the keys of products from ring-LWE ([`Kept`]).

use crate::plan::correlations::mode;
use crate::plan::{FRAME_HEADER, Plan};
use crate::program::Reg;
use crate::run::store::{Section, write_section};
use crate::run::trace::Trace;
use crate::run::{self, Inputs, PartyRun, Prepared, RunError};
use sirnn_backends::forms::linear_rlwe::{Keys, Public};
use sirnn_backends::inst::{CorrelationKind, Party};
use sirnn_backends::ot::BackendSpec;
use sirnn_backends::ot::streams::{Mode, Streams, totals};
use sirnn_backends::transport::{Channel, Traffic, Transcript};
use sirnn_backends::vector::Vector;
use sirnn_backends::{Error, random};
use sirnn_kernels::aes::Prg;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a session leaves for the next one of its lane: the keys of products from ring-LWE, if the plan keeps them.
#[derive(Debug, Default)]
pub struct Kept(Option<([u8; 32], Keys)>);

impl Kept {
    /// The keys for a session of this plan; those of another plan go.
    fn take(&mut self, plan: &Plan) -> Option<Keys> {
        self.0.take().filter(|(digest, _)| *digest == plan.digest).map(|(_, keys)| keys)
    }
}

/// What a session needs beside the plan.
pub struct Session<'a> {
    /// The plan, the same at both parties.
    pub plan: &'a Plan,
    /// Which party.
    pub party: Party,
    /// Where correlations come from.
    pub backend: &'a dyn BackendSpec,
    /// The same at both parties, never used before; the server's choice.
    pub id: [u8; 16],
    /// The client's part of what public randomness is drawn from.
    pub nonce: [u8; 16],
    /// Online channel.
    pub online: &'a mut dyn Channel,
    /// Generator's channel.
    pub offline: Box<dyn Channel>,
    /// What the session before in its lane left. Both parties have the same before them.
    pub kept: &'a mut Kept,
    /// Bytes of correlations that may be held: [`CORRELATION_BUDGET`](crate::plan::correlations::CORRELATION_BUDGET), at both parties.
    pub budget: u64,
}

/// What a session did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Base OTs.
    pub setup: Duration,
    /// Generator busy (or who reads a store), and products with the weights; wall clock where there is nothing else.
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
    /// Correlations drawn, other than for a store.
    pub used: Vec<(CorrelationKind, u64)>,
    /// Correlations made.
    pub generated: Vec<(CorrelationKind, u64)>,
}

/// Outputs by name.
type Outputs = BTreeMap<String, Vec<i128>>;

impl<'a> Session<'a> {
    /// Runs the session. `progress` is called with the number of online rounds done. Returns the outputs this party gets.
    ///
    /// # Errors
    /// A bad input, a peer that misbehaves, or a run that did not cost what was planned.
    pub fn run(self, inputs: &Inputs, progress: &mut dyn FnMut(usize)) -> Result<(Outputs, Report), RunError> {
        self.run_traced(inputs, progress, None)
    }

    /// The same, noting in `trace` what the online phase did when.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_traced(
        self,
        inputs: &Inputs,
        progress: &mut dyn FnMut(usize),
        trace: Option<&mut Trace>,
    ) -> Result<(Outputs, Report), RunError> {
        let plan = self.plan;
        let inputs = run::bind(plan, self.party, inputs)?;
        let (party, id, mode) = (self.party, self.id, mode(plan, self.budget));
        let mut trace = trace;
        let (mut offline, channel) = self.offline(&inputs, mode, trace.as_deref_mut())?;
        let outputs = offline.ready.online(channel, inputs, progress, trace.as_deref_mut())?;
        offline.ready.report.used = totals(&plan.needs);
        let (report, generator) = offline.finish(trace)?;
        compare(channel, party, &id, generator)?;
        Ok((outputs, report))
    }

    /// Runs the offline phase alone and writes what it made. The server's `inputs` are the weights; the client needs none.
    ///
    /// # Errors
    /// As [`Session::run`], or what is written to fails.
    pub fn make(self, inputs: &Inputs, to: &mut dyn Write) -> Result<Report, RunError> {
        let (plan, party) = (self.plan, self.party);
        let inputs = match party {
            Party::P0 => run::bind(plan, party, inputs)?,
            Party::P1 => HashMap::new(),
        };
        let start = Instant::now();
        let id = self.id;
        // Live: memory stays bounded, whatever is made.
        let (mut offline, channel) = self.offline(&inputs, Mode::Live, None)?;
        let Ready { streams, prepared, .. } = &mut offline.ready;
        write_section(plan, prepared, streams, to)?;
        offline.ready.report.used = vec![plan.drawn_offline()];
        let (mut report, generator) = offline.finish(None)?;
        report.offline = start.elapsed() - report.setup;
        compare(channel, party, &id, generator)?;
        Ok(report)
    }

    /// Set-up, generator and products. Gives the online channel back.
    fn offline(
        mut self,
        inputs: &HashMap<Reg, Arc<Vector>>,
        mode: Mode,
        mut trace: Option<&mut Trace>,
    ) -> Result<(Offline<'a>, &'a mut dyn Channel), RunError> {
        let (plan, party, backend) = (self.plan, self.party, self.backend);
        let mut report = Report::default();
        let start = Instant::now();
        let before = self.offline.traffic();
        let generator = backend.connect(party, self.id, &totals(&plan.needs), self.offline.as_mut())?;
        report.setup = start.elapsed();
        tracing::debug!(phase = "set-up", seconds = report.setup.as_secs_f64());
        let setup = self.offline.traffic().since(before);
        if let Some(trace) = &mut trace {
            trace.phase("set-up", start, setup);
        }

        let mut streams = match mode {
            Mode::Prefilled => Streams::prefilled(generator, &plan.needs, self.offline.as_mut())?,
            Mode::Live => Streams::live(generator, &plan.needs, self.offline, self.budget as usize)?,
        };
        let start = Instant::now();
        let before = self.online.traffic();
        let (correlations, channel) = (&mut streams, &mut *self.online);
        let public = Public::new(&self.id, &self.nonce);
        let mut keys = self.kept.take(plan);
        let new_keys = keys.is_none();
        let prepared = PartyRun { plan, party, correlations, channel, prg: &mut prg()?, trace: None }
            .prepare(inputs, &public, &mut keys)?;
        self.kept.0 = keys.filter(|_| plan.keeps_keys()).map(|keys| (plan.digest, keys));
        report.offline = start.elapsed();
        tracing::debug!(phase = "products", seconds = report.offline.as_secs_f64());
        let products = self.online.traffic().since(before);
        if let Some(trace) = trace.filter(|_| !plan.linear.is_empty()) {
            trace.phase("products with the weights", start, products);
        }
        let ready = Ready { plan, party, streams, prepared, report };
        Ok((Offline { ready, backend, mode, new_keys, traffic: [setup, products] }, self.online))
    }
}

/// A session whose correlations were made ahead: the online phase alone, on one channel.
pub struct Stored<'a> {
    /// The plan that the correlations were made for.
    pub plan: &'a Plan,
    /// Which party.
    pub party: Party,
    /// What was made for this session.
    pub section: Section,
    /// Online channel.
    pub online: &'a mut dyn Channel,
}

impl Stored<'_> {
    /// Runs the session, as [`Session::run_traced`] does.
    ///
    /// # Errors
    /// As [`Session::run`], or the store cannot be read.
    pub fn run(
        self,
        inputs: &Inputs,
        progress: &mut dyn FnMut(usize),
        mut trace: Option<&mut Trace>,
    ) -> Result<(Outputs, Report), RunError> {
        let (plan, party) = (self.plan, self.party);
        let inputs = run::bind(plan, party, inputs)?;
        let start = Instant::now();
        let id = self.section.id();
        let (prepared, streams) = self.section.open(plan)?;
        if let Some(trace) = &mut trace {
            trace.phase("read the store", start, Traffic::default());
        }
        let report = Report { offline: start.elapsed(), ..Report::default() };
        let mut ready = Ready { plan, party, streams, prepared, report };
        let outputs = ready.online(self.online, inputs, progress, trace.as_deref_mut())?;
        let (product, drawn) = plan.drawn_offline();
        let rest = |(kind, n)| (kind, if kind == product { n - drawn } else { n });
        ready.report.used = totals(&plan.needs).into_iter().map(rest).collect();
        let read = ready.streams.finish()?;
        ready.report.offline += read.generating;
        if let Some(trace) = trace {
            trace.correlations(&read.chunks);
        }
        compare(self.online, party, &id, None)?;
        Ok((outputs, ready.report))
    }
}

/// All that the online phase needs.
struct Ready<'a> {
    plan: &'a Plan,
    party: Party,
    streams: Streams,
    prepared: Prepared,
    /// What was done so far.
    report: Report,
}

impl Ready<'_> {
    fn online(
        &mut self,
        channel: &mut dyn Channel,
        inputs: HashMap<Reg, Arc<Vector>>,
        progress: &mut dyn FnMut(usize),
        trace: Option<&mut Trace>,
    ) -> Result<Outputs, RunError> {
        let Self { plan, party, streams, prepared, report } = self;
        let (plan, party, prepared) = (*plan, *party, std::mem::take(prepared));
        let before = channel.traffic();
        let start = Instant::now();
        let outputs = PartyRun { plan, party, correlations: streams, channel, prg: &mut prg()?, trace }
            .online(inputs, prepared, progress)?;
        report.online = start.elapsed();
        tracing::debug!(phase = "online", seconds = report.online.as_secs_f64());
        report.online_traffic = channel.traffic().since(before);
        report.stalled = streams.report().stalled;
        report.rounds = plan.rounds();
        check("online", party, plan.online_bytes(), report.online_traffic)?;
        if streams.left() != 0 {
            return Err(Error::Internal(format!("{} planned correlations were not used", streams.left())).into());
        }
        Ok(outputs)
    }
}

/// An offline phase that is over but for the generator.
struct Offline<'a> {
    ready: Ready<'a>,
    backend: &'a dyn BackendSpec,
    mode: Mode,
    /// Whether the server sent keys, and did not use those of a session before.
    new_keys: bool,
    /// Of set-up and products.
    traffic: [Traffic; 2],
}

impl Offline<'_> {
    /// The report, when all correlations were drawn, and the record of the generator's channel.
    fn finish(self, trace: Option<&mut Trace>) -> Result<(Report, Option<Transcript>), RunError> {
        let Ready { plan, party, mut streams, mut report, .. } = self.ready;
        let made = streams.finish()?;
        if let Some(trace) = trace {
            trace.correlations(&made.chunks);
        }
        let [setup, products] = self.traffic;
        report.offline += made.generating;
        report.offline_traffic = Traffic {
            sent: setup.sent + made.traffic.sent + products.sent,
            received: setup.received + made.traffic.received + products.received,
            turns: setup.turns + made.traffic.turns + products.turns,
        };
        report.generated = made.generated;
        let mut expected = plan.offline_cost(self.backend, self.mode);
        expected.bytes_from[0] -= if self.new_keys { 0 } else { plan.kept_key_bytes() };
        report.rounds_offline = expected.rounds;
        check("offline", party, expected.bytes_from, report.offline_traffic)?;
        Ok((report, made.transcript))
    }
}

/// A generator of masks, seeded by the operating system.
fn prg() -> Result<Prg, Error> {
    Ok(Prg::new(*random::block()?))
}

fn check(phase: &str, party: Party, planned: [u64; 2], measured: Traffic) -> Result<(), RunError> {
    let (sent, received) = (planned[party.index()], planned[party.other().index()]);
    if (sent, received) == (measured.sent, measured.received) {
        return Ok(());
    }
    Err(Error::Internal(format!(
        "the {phase} phase sent {} and received {} bytes, {sent} and {received} were planned",
        measured.sent, measured.received
    ))
    .into())
}

/// The end of a session, if its channels keep records: both parties compare what they sent and received on the online
/// channel, since it was connected, and on the generator's. Only then is there a result. One exchange, which is no round
/// of the plan; it tells the peer nothing that it does not know.
fn compare(
    online: &mut dyn Channel,
    party: Party,
    session: &[u8; 16],
    generator: Option<Transcript>,
) -> Result<(), RunError> {
    let Some(transcript) = online.transcript() else { return Ok(()) };
    let tag = |of: Party| {
        let mut hasher = blake3::Hasher::new_derive_key("sirnn 2026-11 transcript of a session");
        hasher.update(session).update(&[of.index() as u8, u8::from(generator.is_some())]);
        for t in std::iter::once(transcript).chain(generator) {
            let (from_p0, from_p1) = if party == Party::P0 { (t.sent, t.received) } else { (t.received, t.sent) };
            hasher.update(&from_p0).update(&from_p1);
        }
        hasher.finalize()
    };
    let mut frame = [0; FRAME_HEADER + blake3::OUT_LEN];
    frame[..FRAME_HEADER].copy_from_slice(&run::header(COMPARISON, blake3::OUT_LEN));
    frame[FRAME_HEADER..].copy_from_slice(tag(party).as_bytes());
    online.send(&frame)?;
    run::expect_frame(online, COMPARISON, blake3::OUT_LEN)?;
    let mut theirs = [0; blake3::OUT_LEN];
    online.recv(&mut theirs)?;
    if tag(party.other()) != theirs { Err(Error::Transcript.into()) } else { Ok(()) }
}

/// Number of the frame that compares records.
const COMPARISON: usize = u32::MAX as usize - 1;
