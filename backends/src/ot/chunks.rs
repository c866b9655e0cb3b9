//! In which portions correlations are made, and in which order.
//!
//! Everything here follows from the list of needs, so that both parties, the predicted cost and stored correlations agree
//! without a message.

use crate::{Party, inst::CorrelationKind};
use std::collections::BTreeMap;

/// When correlations are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of them, before the online phase.
    Prefilled,
    /// While the online phase runs.
    Live,
}

/// Correlations made at a time: a megabyte of rows. Triples are small, and their messages wait for each other, so that
/// their chunks are larger.
// AGREEMENT: the order of messages.
pub(super) fn chunk_len(kind: CorrelationKind) -> u64 {
    match kind {
        CorrelationKind::Cot { .. } => 1 << 16,
        CorrelationKind::OneOf { .. } => 1 << 15,
        CorrelationKind::Triple { .. } => 1 << 18,
        // As many as keep the leaves in 4 megabytes while they are made: their messages wait for each other, too.
        CorrelationKind::OneHot(shape) => ((1 << 18) / shape.leaves() as u64).min(1 << 15),
    }
}

/// Memory that a chunk takes, at most.
pub(super) fn chunk_bytes(kind: CorrelationKind, n: usize) -> usize {
    match kind {
        CorrelationKind::Cot { .. } => 16 * n + n / 8,
        CorrelationKind::OneOf { .. } => 18 * n,
        CorrelationKind::Triple { cols } => (1 + 2 * usize::from(cols)) * n.div_ceil(64) * 8,
        CorrelationKind::OneHot(shape) => n * shape.bytes(),
    }
}

/// Sums of a list of needs, in the order of kinds; kinds that are not needed are left out.
pub fn totals(needs: &[(CorrelationKind, u64)]) -> Vec<(CorrelationKind, u64)> {
    let mut totals = BTreeMap::new();
    for &(kind, n) in needs.iter().filter(|(_, n)| *n > 0) {
        *totals.entry(kind).or_insert(0) += n;
    }
    totals.into_iter().collect()
}

/// How many chunks a party may be ahead with those for which it only sends.
// AGREEMENT: the budget at the peer reckons with it.
pub(super) const AHEAD: usize = 4;

/// The chunks to make, in order.
pub(super) fn schedule(
    needs: &[(CorrelationKind, u64)],
    mode: Mode,
    flow: impl Fn(CorrelationKind) -> Option<Party>,
) -> Vec<(CorrelationKind, usize)> {
    let totals: BTreeMap<CorrelationKind, u64> = totals(needs).into_iter().collect();
    let mut made: BTreeMap<CorrelationKind, u64> = BTreeMap::new();
    let mut used: BTreeMap<CorrelationKind, u64> = BTreeMap::new();
    let mut chunks = Vec::new();
    for &(kind, n) in needs.iter().filter(|(_, n)| *n > 0) {
        let (used, made) = (used.entry(kind).or_default(), made.entry(kind).or_default());
        *used += n;
        while *made < *used {
            let chunk = chunk_len(kind).min(totals[&kind] - *made);
            *made += chunk;
            chunks.push((kind, chunk as usize));
        }
    }
    if mode == Mode::Prefilled {
        // Nothing is used before all is there: both directions evenly, then what needs both.
        let mut one_way = [Vec::new(), Vec::new()];
        let mut two_way = Vec::new();
        for chunk in chunks {
            match flow(chunk.0) {
                Some(from) => one_way[from.index()].push(chunk),
                None => two_way.push(chunk),
            }
        }
        let [a, b] = one_way.map(|list| {
            let n = list.len() as u64;
            list.into_iter().enumerate().map(move |(i, chunk)| (((2 * i as u64 + 1) << 32) / n, chunk))
        });
        let mut even: Vec<_> = a.chain(b).collect();
        even.sort_by_key(|(place, _)| *place);
        chunks = even.into_iter().map(|(_, chunk)| chunk).chain(two_way).collect();
    }
    chunks
}

/// The order in which a party makes the chunks: those for which it only sends come earlier, but never before one in which
/// both send.
pub(super) fn order(
    party: Party,
    chunks: &[(CorrelationKind, usize)],
    flow: impl Fn(CorrelationKind) -> Option<Party>,
) -> Vec<usize> {
    let mut first = 0;
    let mut places: Vec<(usize, bool, usize)> = Vec::with_capacity(chunks.len());
    for (i, &(kind, _)) in chunks.iter().enumerate() {
        // Places are counted double, so that there is one right behind a chunk in which both send.
        places.push(match flow(kind) {
            Some(from) if from == party => ((2 * i).saturating_sub(2 * AHEAD).max(first), false, i),
            Some(_) => (2 * i, true, i),
            None => {
                first = 2 * i + 1;
                (2 * i, true, i)
            }
        });
    }
    places.sort_unstable();
    places.into_iter().map(|(.., i)| i).collect()
}

/// Successive correlations of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) kind: CorrelationKind,
    /// Position of the first one.
    pub(super) position: u64,
    pub(super) n: usize,
}

/// What is left of chunks in the live order when those in `drawn` were drawn, in that order.
pub(super) fn rest(needs: &[(CorrelationKind, u64)], drawn: &[(CorrelationKind, u64)]) -> Vec<Span> {
    let drawn: BTreeMap<CorrelationKind, u64> = totals(drawn).into_iter().collect();
    let mut made: BTreeMap<CorrelationKind, u64> = BTreeMap::new();
    let mut spans = Vec::new();
    for (kind, n) in schedule(needs, Mode::Live, |_| None) {
        let made = made.entry(kind).or_default();
        let position = drawn.get(&kind).map_or(*made, |&drawn| drawn.max(*made));
        *made += n as u64;
        if position < *made {
            spans.push(Span { kind, position, n: (*made - position) as usize });
        }
    }
    spans
}
