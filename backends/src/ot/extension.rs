//! Every kind of correlation from a COT source, and the shortcuts of KK13 where the source is IKNP.
//!
//! | kind | from COTs | with KK13 |
//! |---|---|---|
//! | COT | itself | |
//! | 1-of-`2^k` | `k` COTs: `Q = sum x^i q_i` in GF(2^128), pad `j` hashes `Q ^ j delta` | 190..247 bits for one row (`k` = 2..8) |
//! | triple | two COTs, one each way; hashed, nothing is sent | half of a 1-of-16 OT with 30 bits of payload (one column) |
//! | one-hot vector | COTs each way and a few rounds: see `onehot` | |
//!
//! The 1-of-`2^k` form needs the hash to be correlation robust for the public multiples `j delta`, `0 < j < 2^k`, of one
//! secret: in the ideal-permutation model this is the usual bound with one term per pad.

use super::{
    Backend, Batch, CotRecv, CotSend, GRANULE, Session, Source, base,
    cost::{Ledger, Meter},
    ferret, kk13,
    lpn::Lpn,
    onehot, softspoken, triples,
};
use crate::{
    Error, Party,
    correlation::{Triples, combinations},
    inst::{CorrelationKind, section},
    onehot::{OneHotBatch, Shape},
    random,
    transport::Channel,
    vector::Bits,
};
use sirnn_kernels::{
    aes::Prg,
    hash::Hasher,
    memory::{self, SecretVec},
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// How a kind is made.
enum Route {
    Cot { sender: Party },
    Kk13 { sender: Party, bits: u8 },
    CombinedCots { sender: Party, bits: u8 },
    TriplesFromKk13,
    TriplesFromCots { cols: u8 },
    OneHot(Shape),
}

/// The party that masks the payload when triples are made with KK13.
const TRIPLE_SENDER: Party = Party::P0;

impl Route {
    fn of(source: Source, kind: CorrelationKind) -> Self {
        let kk13 = source == Source::Iknp;
        match kind {
            CorrelationKind::Cot { sender } => Route::Cot { sender },
            // 1-of-2 is a COT in either case; combined it has the shorter row.
            CorrelationKind::OneOf { sender, bits: bits @ 2..=8 } if kk13 => Route::Kk13 { sender, bits },
            CorrelationKind::OneOf { sender, bits } => {
                assert!((1..=12).contains(&bits), "1-of-2^{bits} OT");
                Route::CombinedCots { sender, bits }
            }
            CorrelationKind::Triple { cols: 1 } if kk13 => Route::TriplesFromKk13,
            CorrelationKind::Triple { cols } => {
                assert!(cols > 0, "triples without columns");
                Route::TriplesFromCots { cols }
            }
            CorrelationKind::OneHot(shape) => Route::OneHot(shape),
        }
    }

    /// See [`Backend::flow`].
    fn flow(&self, source: Source) -> Option<Party> {
        match self {
            Route::Cot { sender } | Route::CombinedCots { sender, .. } if source == Source::Ferret => Some(*sender),
            Route::Cot { sender } | Route::CombinedCots { sender, .. } | Route::Kk13 { sender, .. } => {
                Some(sender.other())
            }
            Route::TriplesFromKk13 | Route::TriplesFromCots { .. } | Route::OneHot(_) => None,
        }
    }
}

/// What a demand takes, by sender.
#[derive(Clone, Copy, Default)]
struct Uses {
    /// Number of COTs.
    cots: [u64; 2],
    /// Whether KK13 is needed.
    kk13: [bool; 2],
    /// Whether bit 1 of the deltas tells the parties apart.
    one_hot: bool,
}

impl Uses {
    fn of(source: Source, demand: &[(CorrelationKind, u64)]) -> Self {
        let mut uses = Self::default();
        for &(kind, n) in demand.iter().filter(|(_, n)| *n > 0) {
            match Route::of(source, kind) {
                Route::Cot { sender } => uses.cots[sender.index()] += n,
                Route::CombinedCots { sender, bits } => uses.cots[sender.index()] += n * u64::from(bits),
                Route::Kk13 { sender, .. } => uses.kk13[sender.index()] = true,
                Route::TriplesFromKk13 => uses.kk13[TRIPLE_SENDER.index()] = true,
                Route::TriplesFromCots { .. } => uses.cots = uses.cots.map(|cots| cots + n),
                Route::OneHot(shape) => {
                    uses.cots = uses.cots.map(|cots| cots + n * shape.cots() as u64);
                    uses.one_hot = true;
                }
            }
        }
        uses
    }

    /// Blocks of 128 base OTs that `party` receives, to be a sender of extensions.
    fn blocks(self, party: Party) -> usize {
        usize::from(self.cots[party.index()] > 0) + 2 * usize::from(self.kk13[party.index()])
    }
}

/// Domain bytes of the hashes: one for each use, direction and number of pads, so that tweaks never repeat.
pub(super) fn domain(kind: CorrelationKind) -> u8 {
    match kind {
        CorrelationKind::Cot { sender } => sender.index() as u8,
        CorrelationKind::OneOf { sender, bits } => 2 * bits + sender.index() as u8 + 2,
        // Triples are hashed in here: see TRIPLE_DOMAINS.
        CorrelationKind::Triple { .. } => 0x80,
        // So are one-hot vectors, by hashers of their own.
        CorrelationKind::OneHot(_) => 0x84,
    }
}

/// For triples: from COTs by sender, from KK13.
const TRIPLE_DOMAINS: [u8; 3] = [0x81, 0x82, 0x83];

/// OT extension behind [`Backend`].
pub(super) struct Extension {
    source: Source,
    session: Session,
    cot_send: Option<Box<dyn CotSend>>,
    cot_recv: Option<Box<dyn CotRecv>>,
    kk13_send: Option<kk13::Sender>,
    kk13_recv: Option<kk13::Receiver>,
    /// As [`TRIPLE_DOMAINS`].
    triple_hashers: [Hasher; 3],
    /// Triples made from COTs, and 1-of-16 OTs used for others.
    triple_positions: [u64; 2],
    /// One-hot vectors made, by shape.
    one_hot_positions: BTreeMap<Shape, u64>,
    random: Prg,
    /// Rows that do not leave: as sender, as receiver.
    scratch: [SecretVec<u128>; 2],
    /// Nodes that do not leave.
    room: onehot::Room,
}

impl Extension {
    pub(super) fn connect(
        source: Source,
        session: Session,
        demand: &[(CorrelationKind, u64)],
        channel: &mut dyn Channel,
    ) -> Result<Self, Error> {
        let uses = Uses::of(source, demand);
        let (me, peer) = (session.party, session.party.other());
        let mut secrets = Zeroizing::new(vec![0u128; uses.blocks(me)]);
        for s in secrets.iter_mut() {
            *s = *random::block()?;
        }
        if source == Source::Ferret && uses.cots[me.index()] > 0 {
            // Its rows carry the choice in the lowest bit.
            secrets[0] |= 1;
        }
        if uses.one_hot {
            // SECURITY: of the COTs' deltas only, and public.
            secrets[0] = secrets[0] & !2 | u128::from(me == Party::P0) << 1;
        }
        let seeds = base::run(&session, 128 * uses.blocks(peer), &secrets, channel)?;
        let (mut s, mut chosen, mut pairs) = (&secrets[..], &seeds.chosen[..], &seeds.pairs[..]);
        let mut cot_send: Option<Box<dyn CotSend>> = None;
        let mut cot_recv: Option<Box<dyn CotRecv>> = None;
        if uses.cots[peer.index()] > 0 {
            let mine = pairs.split_off(..128).expect("one block was demanded");
            let receiver = softspoken::Receiver::new(source.group(), mine, channel)?;
            cot_recv = Some(match source {
                Source::Ferret => {
                    let lpn = Lpn::for_demand(uses.cots[peer.index()]);
                    Box::new(ferret::Receiver::new(lpn, &session, receiver, channel)?)
                }
                _ => Box::new(receiver),
            });
        }
        if uses.cots[me.index()] > 0 {
            let delta = s.split_off_first().expect("one block was demanded");
            let mine = chosen.split_off(..128).expect("one block was demanded");
            let sender = softspoken::Sender::new(source.group(), *delta, mine, channel)?;
            cot_send = Some(match source {
                Source::Ferret => {
                    let lpn = Lpn::for_demand(uses.cots[me.index()]);
                    Box::new(ferret::Sender::new(lpn, &session, sender, channel)?)
                }
                _ => Box::new(sender),
            });
        }
        let kk13_send = (!s.is_empty()).then(|| kk13::Sender::new([s[0], s[1]], chosen));
        let kk13_recv = (!pairs.is_empty()).then(|| kk13::Receiver::new(pairs));
        let id = u128::from_le_bytes(session.id);
        Ok(Self {
            source,
            session,
            cot_send,
            cot_recv,
            kk13_send,
            kk13_recv,
            triple_hashers: TRIPLE_DOMAINS.map(|d| Hasher::new(id, d)),
            triple_positions: [0; 2],
            random: Prg::new(*random::block()?),
            one_hot_positions: BTreeMap::new(),
            scratch: Default::default(),
            room: onehot::Room::default(),
        })
    }

    /// Rows of `n` COTs as sender.
    fn cot_send(&mut self, n: usize, rows: &mut SecretVec<u128>, channel: &mut dyn Channel) -> Result<(), Error> {
        rows.resize_zeroed(n.next_multiple_of(GRANULE));
        self.cot_send.as_mut().ok_or_else(undeclared)?.extend(rows, channel)?;
        rows.truncate(n);
        Ok(())
    }

    /// Rows of `n` COTs as receiver; returns the choices.
    fn cot_recv(&mut self, n: usize, rows: &mut SecretVec<u128>, channel: &mut dyn Channel) -> Result<Bits, Error> {
        let rounded = n.next_multiple_of(GRANULE);
        let mut choices = Bits::zero(1, rounded);
        rows.resize_zeroed(rounded);
        self.cot_recv.as_mut().ok_or_else(undeclared)?.extend(rows, &mut choices.words, channel)?;
        rows.truncate(n);
        choices.len = n;
        choices.words.truncate(n.div_ceil(64));
        choices.clear_tail();
        Ok(choices)
    }

    /// `n` rows of 1-of-`2^bits` OTs from `n * bits` COTs; bit `i` of a choice is that of COT `i` of the row.
    fn combined(&mut self, sender: Party, bits: u8, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error> {
        /// Rows combined at a time.
        const TILE: usize = 1 << 11;
        let k = usize::from(bits);
        let mut out = SecretVec::from(memory::with_capacity(n));
        let mut choices = SecretVec::from(Vec::new());
        let mut cots = SecretVec::default();
        if sender != self.session.party {
            choices.reserve(n);
        }
        for from in (0..n).step_by(TILE) {
            let rows = TILE.min(n - from);
            if sender == self.session.party {
                self.cot_send(rows * k, &mut cots, channel)?;
            } else {
                let c = self.cot_recv(rows * k, &mut cots, channel)?;
                choices.extend((0..rows).map(|i| bit_field(&c.words, i * k, k) as u16));
            }
            out.extend(cots.chunks_exact(k).map(combine));
        }
        Ok(if sender == self.session.party { Batch::OneOfSend(out) } else { Batch::OneOfRecv(out, choices) })
    }

    fn kk13(&mut self, sender: Party, bits: u8, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error> {
        let rounded = n.next_multiple_of(GRANULE);
        let mut rows = SecretVec::from(memory::zeroed(rounded));
        if sender == self.session.party {
            self.kk13_send.as_mut().ok_or_else(undeclared)?.extend(bits, &mut rows, channel)?;
            rows.truncate(n);
            Ok(Batch::OneOfSend(rows))
        } else {
            let mut choices = SecretVec::from(vec![0; rounded]);
            let recv = self.kk13_recv.as_mut().ok_or_else(undeclared)?;
            recv.extend(bits, &mut rows, &mut choices, channel)?;
            rows.truncate(n);
            choices.truncate(n);
            Ok(Batch::OneOfRecv(rows, choices))
        }
    }

    fn triples_from_kk13(&mut self, n: usize, channel: &mut dyn Channel) -> Result<Triples, Error> {
        let at = self.triple_positions[1];
        self.triple_positions[1] += n.div_ceil(2) as u64;
        let hasher = &self.triple_hashers[2];
        if self.session.party == TRIPLE_SENDER {
            let ots = self.kk13_send.as_mut().ok_or_else(undeclared)?;
            triples::send(ots, hasher, at, &mut self.random, n, channel)
        } else {
            triples::receive(self.kk13_recv.as_mut().ok_or_else(undeclared)?, hasher, at, n, channel)
        }
    }

    /// `n` COTs both ways into the two vectors; returns the choices.
    fn both_ways(
        &mut self,
        n: usize,
        [sent, chosen]: [&mut SecretVec<u128>; 2],
        channel: &mut dyn Channel,
    ) -> Result<Bits, Error> {
        // The side that only sends comes first: then both directions are on their way at the same time.
        if self.source == Source::Ferret {
            self.cot_send(n, sent, channel)?;
            self.cot_recv(n, chosen, channel)
        } else {
            let choices = self.cot_recv(n, chosen, channel)?;
            self.cot_send(n, sent, channel)?;
            Ok(choices)
        }
    }

    fn one_hots(&mut self, shape: Shape, n: usize, channel: &mut dyn Channel) -> Result<OneHotBatch, Error> {
        let [mut sent, mut chosen] = std::mem::take(&mut self.scratch);
        let choices = self.both_ways(n * shape.cots(), [&mut sent, &mut chosen], channel)?;
        let next = self.one_hot_positions.entry(shape).or_default();
        let position = *next;
        *next += n as u64;
        let who = (self.session.party, u128::from_le_bytes(self.session.id));
        let cots = onehot::Cots { sent: &sent, received: &chosen, choices: &choices, delta: *self.delta() };
        let made = onehot::generate(who, shape, position, n, cots, &mut self.room, channel)?;
        self.scratch = [sent, chosen];
        Ok(made)
    }

    fn triples_from_cots(&mut self, cols: u8, n: usize, channel: &mut dyn Channel) -> Result<Triples, Error> {
        let [mut sent, mut chosen] = std::mem::take(&mut self.scratch);
        let a = self.both_ways(n, [&mut sent, &mut chosen], channel)?;
        let at = self.triple_positions[0];
        self.triple_positions[0] += n as u64;
        let me = self.session.party.index();
        let hashers = [&self.triple_hashers[me], &self.triple_hashers[1 - me]];
        let made = triples::from_cots(*self.delta(), [&sent, &chosen], a, hashers, at, cols);
        self.scratch = [sent, chosen];
        Ok(made)
    }
}

/// Why a correlation that was not in the demand cannot be made.
fn undeclared() -> Error {
    Error::Exhausted("of a kind that was not demanded at the set-up".into())
}

impl Backend for Extension {
    fn session(&self) -> Session {
        self.session
    }

    fn delta(&self) -> Zeroizing<u128> {
        self.cot_send.as_ref().map_or(Zeroizing::new(0), |s| s.delta())
    }

    fn offsets(&self, bits: u8) -> SecretVec<u128> {
        match Route::of(self.source, CorrelationKind::OneOf { sender: self.session.party, bits }) {
            Route::Kk13 { .. } => self.kk13_send.as_ref().map_or(SecretVec::default(), |s| s.offsets(bits)),
            _ => {
                let mut next = *self.delta();
                combinations((0..bits).map(|_| {
                    let multiple = next;
                    next = times_x(next);
                    multiple
                }))
            }
        }
    }

    fn flow(&self, kind: CorrelationKind) -> Option<Party> {
        Route::of(self.source, kind).flow(self.source)
    }

    fn generate(&mut self, kind: CorrelationKind, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error> {
        match Route::of(self.source, kind) {
            Route::Cot { sender } => {
                let mut rows = SecretVec::from(memory::zeroed(n.next_multiple_of(GRANULE)));
                if sender == self.session.party {
                    self.cot_send(n, &mut rows, channel)?;
                    Ok(Batch::CotSend(rows))
                } else {
                    let choices = self.cot_recv(n, &mut rows, channel)?;
                    Ok(Batch::CotRecv(rows, choices))
                }
            }
            Route::Kk13 { sender, bits } => self.kk13(sender, bits, n, channel),
            Route::CombinedCots { sender, bits } => self.combined(sender, bits, n, channel),
            Route::TriplesFromKk13 => Ok(Batch::Triples(self.triples_from_kk13(n, channel)?)),
            Route::TriplesFromCots { cols } => Ok(Batch::Triples(self.triples_from_cots(cols, n, channel)?)),
            Route::OneHot(shape) => Ok(Batch::OneHots(shape, self.one_hots(shape, n, channel)?)),
        }
    }
}

/// `x * a` in GF(2^128) modulo `x^128 + x^7 + x^2 + x + 1`.
fn times_x(a: u128) -> u128 {
    a << 1 ^ 0x87 & 0u128.wrapping_sub(a >> 127)
}

/// `sum x^i q_i`.
fn combine(q: &[u128]) -> u128 {
    q.iter().rev().fold(0, |acc, q| times_x(acc) ^ q)
}

/// Bits `from..from + n` of a plane, `n <= 32`.
fn bit_field(words: &[u64], from: usize, n: usize) -> u64 {
    let low = words[from / 64] >> (from % 64);
    let high = words.get(from / 64 + 1).map_or(0, |w| w << 1 << (63 - from % 64));
    (low | high) & ((1 << n) - 1)
}

/// The messages of [`Extension`].
pub(super) struct ExtensionMeter {
    source: Source,
    uses: Uses,
    /// By sender, for Ferret.
    progress: [ferret::Progress; 2],
}

impl ExtensionMeter {
    pub(super) fn new(source: Source, demand: &[(CorrelationKind, u64)]) -> Self {
        let uses = Uses::of(source, demand);
        let progress = uses.cots.map(|n| ferret::Progress::new(Lpn::for_demand(n)));
        Self { source, uses, progress }
    }

    /// Bytes from P0 and P1 for `n` COTs.
    fn cots(&mut self, sender: Party, n: u64) -> [u64; 2] {
        let (from, bytes) = match self.source {
            Source::Ferret => (sender, self.progress[sender.index()].bytes(n.next_multiple_of(GRANULE as u64))),
            source => (sender.other(), softspoken::message(source.group(), n)),
        };
        let mut both = [0; 2];
        both[from.index()] = bytes;
        both
    }
}

impl Meter for ExtensionMeter {
    fn flow(&self, kind: CorrelationKind) -> Option<Party> {
        Route::of(self.source, kind).flow(self.source)
    }

    fn setup(&mut self, ledger: &mut Ledger) {
        let receives = Party::BOTH.map(|p| self.uses.blocks(p) as u64);
        ledger.exchange([receives[1], receives[0]].map(|n| n.min(1) * base::POINT as u64));
        ledger.exchange(receives.map(|n| n * 128 * base::POINT as u64));
        let group = self.source.group();
        let from_receiver = self.uses.cots.map(|n| match self.source {
            _ if n == 0 => 0,
            Source::Ferret => {
                let base = Lpn::for_demand(n).base() as u64;
                softspoken::setup_message(group) + softspoken::message(group, base)
            }
            _ => softspoken::setup_message(group),
        });
        ledger.exchange([from_receiver[1], from_receiver[0]]);
    }

    fn generate(&mut self, kind: CorrelationKind, n: usize, ledger: &mut Ledger) {
        let many = n as u64;
        match Route::of(self.source, kind) {
            Route::Cot { sender } => ledger.exchange(self.cots(sender, many)),
            Route::CombinedCots { sender, bits } => ledger.exchange(self.cots(sender, many * u64::from(bits))),
            Route::Kk13 { sender, bits } => ledger.message(sender.other(), kk13::message(many, bits)),
            Route::TriplesFromKk13 => {
                let pairs = n.div_ceil(2);
                ledger.message(TRIPLE_SENDER.other(), kk13::message(pairs as u64, triples::OT_BITS));
                ledger.message(TRIPLE_SENDER, section(pairs, triples::PAYLOAD) as u64);
            }
            Route::TriplesFromCots { .. } => {
                let [a, b] = Party::BOTH.map(|sender| self.cots(sender, many));
                ledger.exchange([a[0] + b[0], a[1] + b[1]]);
            }
            Route::OneHot(shape) => {
                let [a, b] = Party::BOTH.map(|sender| self.cots(sender, many * shape.cots() as u64));
                ledger.exchange([a[0] + b[0], a[1] + b[1]]);
                onehot::meter(shape, n, ledger);
            }
        }
    }
}
