//! FIFOs of correlations, one for each kind and direction, filled in chunks.
//!
//! Both parties make the same chunks in the same order: that in which the online phase will first need them. Either all
//! of them are made before the online phase starts, or a thread makes them while it runs, on a channel of its own and
//! within a memory budget. The latter cannot dead-lock: when the online phase waits for a chunk, it has begun to use all
//! chunks made before (but for a few that were made early), hence holds at most one of each kind, and the budget has room
//! for these and two more.
//!
//! A chunk that a party makes without waiting for its peer, because it only sends, is made up to four chunks early:
//! so both directions of the link are busy, and alternating directions cost no round trips.
//!
//! Chunks can also be made ahead of time: [`Streams::store`] writes what is left of streams, [`Streams::stored`] reads
//! it again while the online phase runs, with the same budget.

pub use super::chunks::{Mode, totals};

use super::{
    Backend, BackendSpec, Batch, Session,
    batch::nothing,
    chunks::{AHEAD, chunk_bytes, chunk_len, order, rest, schedule},
    cost::{Cost, Ledger, cost_of},
    extension::domain,
    store,
};
use crate::{
    Error, Party,
    correlation::{Correlations, CotReceiver, CotSender, OneOfReceiver, OneOfSender, Triples},
    inst::CorrelationKind,
    onehot::{OneHots, Shape},
    transport::{Channel, Traffic, Transcript},
};
use sirnn_kernels::{hash::Hasher, memory::SecretVec};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// Exact cost of set-up and generation for a list of needs in the order in which they arise.
pub fn plan_cost(spec: &dyn BackendSpec, needs: &[(CorrelationKind, u64)], mode: Mode) -> Cost {
    let mut meter = spec.meter(&totals(needs));
    let chunks = schedule(needs, mode, |kind| meter.flow(kind));
    let orders = Party::BOTH.map(|party| {
        // The set-up is step 0.
        let order = order(party, &chunks, |kind| meter.flow(kind));
        std::iter::once(0).chain(order.into_iter().map(|i| i + 1)).collect::<Vec<_>>()
    });
    let mut steps = vec![Ledger::default(); chunks.len() + 1];
    meter.setup(&mut steps[0]);
    for ((kind, n), step) in chunks.into_iter().zip(&mut steps[1..]) {
        meter.generate(kind, n, step);
    }
    cost_of(&steps, [&orders[0], &orders[1]])
}

/// What the streams of a session did so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Time that the generator, or the reader of stored correlations, was busy.
    pub generating: Duration,
    /// Time the online phase waited for correlations.
    pub stalled: Duration,
    /// Correlations made or read, by kind.
    pub generated: Vec<(CorrelationKind, u64)>,
    /// What went through the generator's channel, set-up not included.
    pub traffic: Traffic,
    /// The record of that channel, if it keeps one, when the generator is done.
    pub transcript: Option<Transcript>,
    /// When what was made.
    pub chunks: Vec<Made>,
}

/// A chunk of correlations that was made or read.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// What.
    pub kind: CorrelationKind,
    /// How many.
    pub n: usize,
    /// When that began.
    pub start: Instant,
    /// How long it took.
    pub time: Duration,
}

/// The FIFOs.
pub struct Streams {
    party: Party,
    session: u128,
    delta: Zeroizing<u128>,
    fifos: BTreeMap<CorrelationKind, Fifo>,
    shared: Arc<Shared>,
    stalled: Duration,
}

/// The consumer's end of a stream.
struct Fifo {
    hasher: Arc<Hasher>,
    offsets: Arc<SecretVec<u128>>,
    /// Correlations drawn so far.
    position: u64,
    /// Correlations in the plan that were not drawn yet.
    left: u64,
    chunk: Option<Batch>,
    /// Correlations of `chunk` that were drawn.
    taken: usize,
}

/// Between generator and consumer.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: BTreeMap<CorrelationKind, VecDeque<Batch>>,
    /// Bytes of chunks made or being made that are not used up.
    held: usize,
    /// Why there will be no more.
    error: Option<Error>,
    /// No more chunks will come.
    finished: bool,
    /// No more chunks are wanted.
    abandoned: bool,
    generated: BTreeMap<CorrelationKind, u64>,
    report: Report,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(|e| e.into_inner())
    }

    /// Has the generator make all chunks.
    fn generate(
        &self,
        backend: &mut dyn Backend,
        chunks: &[(CorrelationKind, usize)],
        budget: usize,
        channel: &mut dyn Channel,
    ) -> Result<(), Error> {
        let before = channel.traffic();
        let order = order(backend.session().party, chunks, |kind| backend.flow(kind));
        let (mut made, mut last) = (0, 0);
        self.fill(order.into_iter().map(|i| (i, chunks[i])), budget, |i, (kind, n)| {
            // Waiting for the peer to read is safe while it can have read it all: when nothing was made early. By now the
            // online phase has all that was made.
            if last + 1 == made {
                channel.flush()?;
            }
            let batch = backend.generate(kind, n, channel)?;
            last = last.max(i);
            made += 1;
            Ok((batch, channel.traffic().since(before)))
        })?;
        channel.flush()?;
        self.lock().report.transcript = channel.transcript();
        Ok(())
    }

    /// Gets all chunks, each as soon as the budget has room for it. `next` makes the chunk of a number and says what it
    /// sent and received so far.
    fn fill(
        &self,
        chunks: impl Iterator<Item = (usize, (CorrelationKind, usize))>,
        budget: usize,
        mut next: impl FnMut(usize, (CorrelationKind, usize)) -> Result<(Batch, Traffic), Error>,
    ) -> Result<(), Error> {
        for (i, (kind, n)) in chunks {
            let bytes = chunk_bytes(kind, n);
            let mut state = self.lock();
            while state.held + bytes > budget && !state.abandoned {
                state = self.wait(state);
            }
            if state.abandoned {
                return Ok(());
            }
            state.held += bytes;
            drop(state);
            let start = Instant::now();
            let (batch, traffic) = next(i, (kind, n))?;
            let mut state = self.lock();
            state.ready.entry(kind).or_default().push_back(batch);
            let time = start.elapsed();
            state.report.generating += time;
            state.report.chunks.push(Made { kind, n, start, time });
            state.report.traffic = traffic;
            *state.generated.entry(kind).or_insert(0) += n as u64;
            drop(state);
            self.changed.notify_all();
        }
        Ok(())
    }
}

/// Tells the consumer that the generator ended, however it ended.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.finished = true;
        if std::thread::panicking() {
            state.error = Some(Error::Internal("a panic where correlations are made".into()));
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Streams {
    /// Makes everything in `needs` now. Use the same list, with the same order, at both parties.
    pub fn prefilled(
        mut backend: Box<dyn Backend>,
        needs: &[(CorrelationKind, u64)],
        channel: &mut dyn Channel,
    ) -> Result<Self, Error> {
        let streams = Self::new(backend.as_ref(), needs);
        let chunks = schedule(needs, Mode::Prefilled, |kind| backend.flow(kind));
        streams.shared.generate(backend.as_mut(), &chunks, usize::MAX, channel)?;
        streams.shared.lock().finished = true;
        Ok(streams)
    }

    /// Makes what is in `needs` (in the order in which it will be drawn; the same list at both parties) in a thread of
    /// its own, holding at most `budget` bytes of unused correlations (more if one chunk of each kind and a few more
    /// do not fit). The deadline of `channel` has to cover the longest pause of the online phase.
    pub fn live(
        mut backend: Box<dyn Backend>,
        needs: &[(CorrelationKind, u64)],
        mut channel: Box<dyn Channel>,
        budget: usize,
    ) -> Result<Self, Error> {
        let streams = Self::new(backend.as_ref(), needs);
        let chunks = schedule(needs, Mode::Live, |kind| backend.flow(kind));
        streams.spawn(budget, move |shared, budget| {
            shared.generate(backend.as_mut(), &chunks, budget, channel.as_mut())
        })?;
        Ok(streams)
    }

    /// Reads what [`Streams::store`] wrote in a session of this id, in a thread of its own, holding at most `budget` bytes
    /// as [`Streams::live`] does. `needs` are the same as there, `drawn` what had been drawn before.
    ///
    /// # Errors
    /// A head that cannot be read. What is wrong with a record is the error of the draw that needs it.
    pub fn stored(
        session: Session,
        needs: &[(CorrelationKind, u64)],
        drawn: &[(CorrelationKind, u64)],
        mut from: impl Read + Send + 'static,
        budget: usize,
    ) -> Result<Self, Error> {
        let party = session.party;
        let head = store::Head::read(party, needs, &mut from)?;
        let mut streams = Self::with(session, head.delta, needs, |kind| head.offsets.get(&kind).cloned());
        for (kind, n) in totals(drawn) {
            if let Some(fifo) = streams.fifos.get_mut(&kind) {
                fifo.position = n;
                fifo.left = fifo.left.saturating_sub(n);
            }
        }
        let records = rest(needs, drawn);
        streams.spawn(budget, move |shared, budget| {
            let chunks = records.iter().map(|r| (r.kind, r.n)).enumerate();
            shared.fill(chunks, budget, |i, _| Ok((records[i].read(party, &mut from)?, Traffic::default())))
        })?;
        Ok(streams)
    }

    /// Draws everything that is left and writes it: see [`super::store`]. `needs` are those that the streams were made for.
    ///
    /// # Errors
    /// Of the generator, or of what is written to.
    pub fn store(&mut self, needs: &[(CorrelationKind, u64)], to: &mut dyn Write) -> Result<(), Error> {
        let offsets = |(&kind, fifo): (&CorrelationKind, &Fifo)| (kind, fifo.offsets.clone());
        let head = store::Head { delta: self.delta.clone(), offsets: self.fifos.iter().map(offsets).collect() };
        head.write(self.party, needs, to)?;
        let drawn: Vec<_> = self.fifos.iter().map(|(&kind, fifo)| (kind, fifo.position)).collect();
        for record in rest(needs, &drawn) {
            let (batch, ..) = self.draw(record.kind, record.n)?;
            record.write(self.party, &batch, to)?;
        }
        Ok(())
    }

    fn new(backend: &dyn Backend, needs: &[(CorrelationKind, u64)]) -> Self {
        let party = backend.session().party;
        Self::with(backend.session(), backend.delta(), needs, |kind| match kind {
            CorrelationKind::OneOf { sender, bits } if sender == party => Some(Arc::new(backend.offsets(bits))),
            _ => None,
        })
    }

    fn with(
        session: Session,
        delta: Zeroizing<u128>,
        needs: &[(CorrelationKind, u64)],
        offsets: impl Fn(CorrelationKind) -> Option<Arc<SecretVec<u128>>>,
    ) -> Self {
        let id = u128::from_le_bytes(session.id);
        let fifo = |(kind, left)| {
            let mut fifo = Fifo::empty(id, kind);
            fifo.left = left;
            fifo.offsets = offsets(kind).unwrap_or_default();
            (kind, fifo)
        };
        Self {
            party: session.party,
            session: id,
            delta,
            fifos: totals(needs).into_iter().map(fifo).collect(),
            shared: Arc::default(),
            stalled: Duration::ZERO,
        }
    }

    /// Starts the thread that gets chunks, with a budget that has room for one of each kind and a few more.
    fn spawn(
        &self,
        budget: usize,
        mut work: impl FnMut(&Shared, usize) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let chunk =
            |(&kind, fifo): (&CorrelationKind, &Fifo)| chunk_bytes(kind, fifo.left.min(chunk_len(kind)) as usize);
        let largest = self.fifos.iter().map(chunk).max().unwrap_or(0);
        let budget = budget.max((self.fifos.len() + AHEAD + 2) * largest);
        let shared = self.shared.clone();
        std::thread::Builder::new().name("correlations".into()).spawn(move || {
            let finish = Finish(shared);
            if let Err(e) = work(&finish.0, budget) {
                finish.0.lock().error = Some(e);
            }
        })?;
        Ok(())
    }

    /// What was done so far.
    pub fn report(&self) -> Report {
        let state = self.shared.lock();
        let generated = state.generated.iter().map(|(kind, n)| (*kind, *n)).collect();
        Report { stalled: self.stalled, generated, ..state.report.clone() }
    }

    /// Waits until the generator is done, which it is soon when everything was drawn.
    ///
    /// # Errors
    /// Its own.
    pub fn finish(&mut self) -> Result<Report, Error> {
        let mut state = self.shared.lock();
        while !state.finished {
            state = self.shared.wait(state);
        }
        state.error.take().map_or(Ok(()), Err)?;
        drop(state);
        Ok(self.report())
    }

    /// Correlations of the plan that were not drawn.
    pub fn left(&self) -> u64 {
        self.fifos.values().map(|f| f.left).sum()
    }

    /// `n` correlations of a kind, and what goes with them.
    fn draw(&mut self, kind: CorrelationKind, n: usize) -> Result<(Batch, u64, &Fifo), Error> {
        let fifo = self.fifos.entry(kind).or_insert_with(|| Fifo::empty(self.session, kind));
        if fifo.left < n as u64 {
            return Err(Error::Exhausted(format!("{kind:?}")));
        }
        let position = fifo.position;
        let mut out = None;
        let mut filled = 0;
        while filled < n {
            let chunk = match fifo.chunk.take() {
                Some(chunk) => chunk,
                None => {
                    fifo.taken = 0;
                    next_chunk(&self.shared, kind, &mut self.stalled)?
                }
            };
            let (from, len) = (fifo.taken, chunk.len());
            let count = (len - from).min(n - filled);
            fifo.taken += count;
            if fifo.taken == len {
                self.shared.lock().held -= chunk_bytes(kind, len);
                self.shared.changed.notify_all();
            }
            if count == n && count == len {
                out = Some(chunk);
            } else {
                chunk.copy_to(from, count, out.get_or_insert_with(|| chunk.empty(n)), filled);
                fifo.chunk = (fifo.taken < len).then_some(chunk);
            }
            filled += count;
        }
        fifo.position += n as u64;
        fifo.left -= n as u64;
        Ok((out.unwrap_or_else(|| nothing(self.party, kind)), position, fifo))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.shared.lock().abandoned = true;
        self.shared.changed.notify_all();
    }
}

/// The next chunk of a kind, waiting for it.
fn next_chunk(shared: &Shared, kind: CorrelationKind, stalled: &mut Duration) -> Result<Batch, Error> {
    let mut state = shared.lock();
    let mut since = None;
    loop {
        if let Some(chunk) = state.ready.get_mut(&kind).and_then(VecDeque::pop_front) {
            *stalled += since.map_or(Duration::ZERO, |t: Instant| t.elapsed());
            return Ok(chunk);
        }
        if state.finished {
            return Err(state.error.take().unwrap_or(Error::Closed("correlations were being made")));
        }
        since.get_or_insert_with(Instant::now);
        state = shared.wait(state);
    }
}

impl Fifo {
    fn empty(session: u128, kind: CorrelationKind) -> Self {
        Self {
            hasher: Arc::new(Hasher::new(session, domain(kind))),
            offsets: Arc::default(),
            position: 0,
            left: 0,
            chunk: None,
            taken: 0,
        }
    }
}

impl Correlations for Streams {
    fn party(&self) -> Party {
        self.party
    }

    fn cot_send(&mut self, n: usize) -> Result<CotSender, Error> {
        let delta = self.delta.clone();
        match self.draw(CorrelationKind::Cot { sender: self.party }, n)? {
            (Batch::CotSend(rows), position, fifo) => {
                Ok(CotSender { rows, delta, position, hasher: fifo.hasher.clone() })
            }
            _ => unreachable!("the stream's kind"),
        }
    }

    fn cot_recv(&mut self, n: usize) -> Result<CotReceiver, Error> {
        match self.draw(CorrelationKind::Cot { sender: self.party.other() }, n)? {
            (Batch::CotRecv(rows, choices), position, fifo) => {
                Ok(CotReceiver { rows, choices, position, hasher: fifo.hasher.clone() })
            }
            _ => unreachable!("the stream's kind"),
        }
    }

    fn one_of_send(&mut self, bits: u8, n: usize) -> Result<OneOfSender, Error> {
        match self.draw(CorrelationKind::OneOf { sender: self.party, bits }, n)? {
            (Batch::OneOfSend(rows), position, fifo) => {
                let (offsets, hasher) = (fifo.offsets.clone(), fifo.hasher.clone());
                Ok(OneOfSender { bits, rows, offsets, position, hasher })
            }
            _ => unreachable!("the stream's kind"),
        }
    }

    fn one_of_recv(&mut self, bits: u8, n: usize) -> Result<OneOfReceiver, Error> {
        match self.draw(CorrelationKind::OneOf { sender: self.party.other(), bits }, n)? {
            (Batch::OneOfRecv(rows, choices), position, fifo) => {
                Ok(OneOfReceiver { bits, rows, choices, position, hasher: fifo.hasher.clone() })
            }
            _ => unreachable!("the stream's kind"),
        }
    }

    fn triples(&mut self, cols: u8, n: usize) -> Result<Triples, Error> {
        match self.draw(CorrelationKind::Triple { cols }, n)? {
            (Batch::Triples(triples), ..) => Ok(triples),
            _ => unreachable!("the stream's kind"),
        }
    }

    fn one_hots(&mut self, shape: Shape, n: usize) -> Result<OneHots, Error> {
        let (party, session, delta) = (self.party, self.session, self.delta.clone());
        match self.draw(CorrelationKind::OneHot(shape), n)? {
            (Batch::OneHots(_, batch), position, _) => Ok(OneHots::new(party, session, shape, position, batch, delta)),
            _ => unreachable!("the stream's kind"),
        }
    }
}
