//! Every kind of correlation from a COT source, and the shortcuts of KK13 where the source is IKNP.
//!
//! | kind | from COTs | with KK13 |
//! |---|---|---|
//! | COT | itself | |
//! | 1-of-`2^k` | `k` COTs: `Q = sum x^i q_i` in GF(2^128), pad `j` hashes `Q ^ j delta` | one row of 190..247 bits (`k` = 2..8) |
//! | triple | two COTs, one each way; hashed, nothing is sent | half of a 1-of-16 OT with 30 bits of payload (one column) |
//!
//! The 1-of-`2^k` form needs the hash to be correlation robust for the public multiples `j delta`, `0 < j < 2^k`, of one
//! secret: in the ideal-permutation model this is the usual bound with one term per pad.
//!
//! A triple from two COTs: as receiver a party gets a random bit, its share of `a`; as sender it gets two pads, whose
//! difference is its share of `b`. With these, pads are shares of the two cross terms of `a AND b`.

use super::{
    Backend, Batch, CotRecv, CotSend, GRANULE, Session, Source, base,
    cost::{Ledger, Meter},
    ferret, kk13, os_block, softspoken,
};
use crate::{
    Error, Party,
    correlation::{Rows, Triples},
    inst::{Kind, section},
    transport::Channel,
    vector::Bits,
};
use sirnn_kernels::{
    aes::Prg,
    hash::Hasher,
    pack::{pack, unpack},
    transpose::transpose128,
};
use zeroize::Zeroizing;

/// How a kind is made.
enum Route {
    Cot { sender: Party },
    Kk13 { sender: Party, bits: u8 },
    CombinedCots { sender: Party, bits: u8 },
    TriplesFromKk13,
    TriplesFromCots { cols: u8 },
}

/// Who masks the payload when triples are made with KK13.
const TRIPLE_SENDER: Party = Party::P0;

/// Bits of payload for two triples: all of the 16 messages but the first, which the sender's share makes zero.
const TRIPLE_PAYLOAD: u32 = 30;

impl Route {
    fn of(source: Source, kind: Kind) -> Self {
        let kk13 = source == Source::Iknp;
        match kind {
            Kind::Cot { sender } => Route::Cot { sender },
            // 1-of-2 is a COT in either case; combined it has the shorter row.
            Kind::OneOf { sender, bits: bits @ 2..=8 } if kk13 => Route::Kk13 { sender, bits },
            Kind::OneOf { sender, bits } => {
                assert!((1..=12).contains(&bits), "1-of-2^{bits} OT");
                Route::CombinedCots { sender, bits }
            }
            Kind::Triple { cols: 1 } if kk13 => Route::TriplesFromKk13,
            Kind::Triple { cols } => {
                assert!(cols > 0, "triples without columns");
                Route::TriplesFromCots { cols }
            }
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
}

impl Uses {
    fn of(source: Source, demand: &[(Kind, u64)]) -> Self {
        let mut uses = Self::default();
        for &(kind, n) in demand.iter().filter(|(_, n)| *n > 0) {
            match Route::of(source, kind) {
                Route::Cot { sender } => uses.cots[sender.index()] += n,
                Route::CombinedCots { sender, bits } => uses.cots[sender.index()] += n * u64::from(bits),
                Route::Kk13 { sender, .. } => uses.kk13[sender.index()] = true,
                Route::TriplesFromKk13 => uses.kk13[TRIPLE_SENDER.index()] = true,
                Route::TriplesFromCots { .. } => uses.cots = uses.cots.map(|cots| cots + n),
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
pub(super) fn domain(kind: Kind) -> u8 {
    match kind {
        Kind::Cot { sender } => sender.index() as u8,
        Kind::OneOf { sender, bits } => 2 * bits + sender.index() as u8 + 2,
        // Triples are hashed in here: see TRIPLE_DOMAINS.
        Kind::Triple { .. } => 0x80,
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
    /// Hashes and positions of the triples, as [`TRIPLE_DOMAINS`].
    triples: [(Hasher, u64); 3],
    random: Prg,
}

impl Extension {
    pub(super) fn connect(
        source: Source,
        session: Session,
        demand: &[(Kind, u64)],
        channel: &mut dyn Channel,
    ) -> Result<Self, Error> {
        let uses = Uses::of(source, demand);
        let (me, peer) = (session.party, session.party.other());
        let mut secrets = Zeroizing::new(vec![0u128; uses.blocks(me)]);
        for s in secrets.iter_mut() {
            *s = os_block()?;
        }
        if source == Source::Ferret && uses.cots[me.index()] > 0 {
            // Its rows carry the choice in the lowest bit.
            secrets[0] |= 1;
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
                    let lpn = ferret::Lpn::for_demand(uses.cots[peer.index()]);
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
                    let lpn = ferret::Lpn::for_demand(uses.cots[me.index()]);
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
            triples: TRIPLE_DOMAINS.map(|d| (Hasher::new(id, d), 0)),
            random: Prg::new(os_block()?),
        })
    }

    fn cot_rows(&mut self, n: usize, channel: &mut dyn Channel) -> Result<Vec<u128>, Error> {
        let mut rows = vec![0; n.next_multiple_of(GRANULE)];
        self.cot_send.as_mut().ok_or_else(undeclared)?.extend(&mut rows, channel)?;
        rows.truncate(n);
        Ok(rows)
    }

    fn cot_choices(&mut self, n: usize, channel: &mut dyn Channel) -> Result<(Vec<u128>, Bits), Error> {
        let rounded = n.next_multiple_of(GRANULE);
        let mut rows = vec![0; rounded];
        let mut choices = Bits::zero(1, rounded);
        self.cot_recv.as_mut().ok_or_else(undeclared)?.extend(&mut rows, &mut choices.words, channel)?;
        rows.truncate(n);
        choices.len = n;
        choices.words.truncate(n.div_ceil(64));
        choices.clear_tail();
        Ok((rows, choices))
    }

    /// `n` rows of 1-of-`2^bits` OTs from `n * bits` COTs; bit `i` of a choice is that of COT `i` of the row.
    fn combined(&mut self, sender: Party, bits: u8, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error> {
        /// Rows combined at a time.
        const TILE: usize = 1 << 11;
        let k = usize::from(bits);
        let mut out = Vec::with_capacity(n);
        let mut choices = Vec::new();
        for from in (0..n).step_by(TILE) {
            let rows = TILE.min(n - from);
            let cots = if sender == self.session.party {
                self.cot_rows(rows * k, channel)?
            } else {
                let (cots, c) = self.cot_choices(rows * k, channel)?;
                choices.extend((0..rows).map(|i| bit_field(&c.words, i * k, k) as u16));
                cots
            };
            out.extend(cots.chunks_exact(k).map(combine));
        }
        Ok(if sender == self.session.party {
            Batch::OneOfSend(Rows::Field(out))
        } else {
            Batch::OneOfRecv(Rows::Field(out), choices)
        })
    }

    fn kk13(&mut self, sender: Party, bits: u8, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error> {
        let rounded = n.next_multiple_of(GRANULE);
        let mut rows = vec![[0; 2]; rounded];
        if sender == self.session.party {
            self.kk13_send.as_mut().ok_or_else(undeclared)?.extend(bits, &mut rows, channel)?;
            rows.truncate(n);
            Ok(Batch::OneOfSend(Rows::Code(rows)))
        } else {
            let mut choices = vec![0; rounded];
            let recv = self.kk13_recv.as_mut().ok_or_else(undeclared)?;
            recv.extend(bits, &mut rows, &mut choices, channel)?;
            rows.truncate(n);
            choices.truncate(n);
            Ok(Batch::OneOfRecv(Rows::Code(rows), choices))
        }
    }

    /// Triples `2p` and `2p + 1` from 1-of-16 OT `p`: the receiver's choice is its shares `a + 2b + 4a' + 8b'`, message
    /// `j` is what its shares of `c` and `c'` are if its choice is `j`.
    fn triples_from_kk13(&mut self, n: usize, channel: &mut dyn Channel) -> Result<Triples, Error> {
        /// OTs hashed at a time.
        const TILE: usize = 512;
        let pairs = n.div_ceil(2);
        let batch = self.kk13(TRIPLE_SENDER, 4, pairs, channel)?;
        let (hasher, position) = &mut self.triples[2];
        let at = *position;
        *position += pairs as u64;
        let mut payload = vec![0u8; section(pairs, TRIPLE_PAYLOAD)];
        let mut words = vec![0u32; pairs];
        let mut t = Triples { a: Bits::zero(1, n), b: Bits::zero(1, n), c: Bits::zero(1, n) };
        match batch {
            Batch::OneOfSend(Rows::Code(rows)) => {
                let offsets = self.kk13_send.as_ref().ok_or_else(undeclared)?.offsets(4);
                self.random.fill_words(64, &mut t.a.words);
                self.random.fill_words(64, &mut t.b.words);
                let mut pads = vec![0; 16 * TILE];
                for (tile, rows) in rows.chunks(TILE).enumerate() {
                    let from = tile * TILE;
                    let pads = &mut pads[..16 * rows.len()];
                    hasher.hash_offsets2(at + from as u64, 0, rows, &offsets, pads);
                    for (i, pads) in pads.chunks_exact(16).enumerate() {
                        let p = from + i;
                        let mask = pads.iter().rev().fold(0u32, |w, &pad| w << 2 | pad as u32 & 3);
                        let word = mask ^ products(pair(&t.a, p), pair(&t.b, p));
                        let share = word & 3;
                        set_pair(&mut t.c, p, share);
                        words[p] = (word ^ (share * EVEN)) >> 2;
                    }
                }
                pack(TRIPLE_PAYLOAD, &words, &mut payload);
                channel.send(&payload)?;
            }
            Batch::OneOfRecv(Rows::Code(rows), choices) => {
                let mut pads = vec![0; pairs];
                hasher.hash_offsets2(at, 0, &rows, &[[0, 0]], &mut pads);
                channel.recv(&mut payload)?;
                unpack(TRIPLE_PAYLOAD, &payload, &mut words);
                for (p, ((&j, pad), word)) in choices.iter().zip(pads).zip(words).enumerate() {
                    let j = u32::from(j);
                    set_pair(&mut t.a, p, j & 1 | j >> 1 & 2);
                    set_pair(&mut t.b, p, j >> 1 & 1 | j >> 2 & 2);
                    set_pair(&mut t.c, p, ((word << 2) >> (2 * j) ^ pad as u32) & 3);
                }
            }
            _ => unreachable!("KK13 rows are code words"),
        }
        for bits in [&mut t.a, &mut t.b, &mut t.c] {
            bits.clear_tail();
        }
        Ok(t)
    }

    fn triples_from_cots(&mut self, cols: u8, n: usize, channel: &mut dyn Channel) -> Result<Triples, Error> {
        // The side that only sends comes first: then both directions are on their way at the same time.
        let (rows, (chosen, a)) = match self.source {
            Source::Ferret => (self.cot_rows(n, channel)?, self.cot_choices(n, channel)?),
            _ => {
                let chosen = self.cot_choices(n, channel)?;
                (self.cot_rows(n, channel)?, chosen)
            }
        };
        let delta = self.delta();
        let me = self.session.party.index();
        let at = self.triples[0].1;
        self.triples[0].1 += n as u64;
        let (as_sender, as_receiver) = (&self.triples[me].0, &self.triples[1 - me].0);

        let cols = usize::from(cols);
        let (mut b, mut c) = (Bits::zero(cols, n), Bits::zero(cols, n));
        let [mut zero, mut one, mut mine, mut planes] = [[0u128; 128]; 4];
        for (i, (chosen, rows)) in chosen.chunks(128).zip(rows.chunks(128)).enumerate() {
            let position = at + 128 * i as u64;
            let words = 2 * i..(2 * i + 2).min(a.words.len());
            for first in (0..cols).step_by(128) {
                let block = (first / 128) as u32;
                as_sender.hash_offsets(position, block, rows, &[0], &mut zero[..rows.len()]);
                as_sender.hash_offsets(position, block, rows, &[delta], &mut one[..rows.len()]);
                as_receiver.hash_offsets(position, block, chosen, &[0], &mut mine[..rows.len()]);
                one.iter_mut().zip(&zero).for_each(|(o, z)| *o ^= z);
                mine.iter_mut().zip(&zero).for_each(|(m, z)| *m ^= z);
                transpose128(&one, 1, &mut planes);
                for (p, plane) in planes.iter().take(cols - first).enumerate() {
                    put(b.plane_mut(first + p), &words, *plane);
                }
                transpose128(&mine, 1, &mut planes);
                for (p, plane) in planes.iter().take(cols - first).enumerate() {
                    put(c.plane_mut(first + p), &words, *plane);
                }
            }
        }
        b.clear_tail();
        c.clear_tail();
        for p in 0..cols {
            for ((c, a), b) in c.plane_mut(p).iter_mut().zip(&a.words).zip(b.plane(p)) {
                *c ^= a & b;
            }
        }
        Ok(Triples { a, b, c })
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

    fn delta(&self) -> u128 {
        self.cot_send.as_ref().map_or(0, |s| s.delta())
    }

    fn offsets(&self, bits: u8) -> Vec<[u128; 2]> {
        match Route::of(self.source, Kind::OneOf { sender: self.session.party, bits }) {
            Route::Kk13 { .. } => self.kk13_send.as_ref().map_or(Vec::new(), |s| s.offsets(bits)),
            _ => {
                let mut offsets = vec![[0, 0]];
                let mut basis = self.delta();
                for _ in 0..bits {
                    offsets.extend_from_within(..);
                    let half = offsets.len() / 2;
                    offsets[half..].iter_mut().for_each(|o| o[0] ^= basis);
                    basis = times_x(basis);
                }
                offsets
            }
        }
    }

    fn generate(&mut self, kind: Kind, n: usize, channel: &mut dyn Channel) -> Result<Batch, Error> {
        match Route::of(self.source, kind) {
            Route::Cot { sender } if sender == self.session.party => Ok(Batch::CotSend(self.cot_rows(n, channel)?)),
            Route::Cot { .. } => {
                let (rows, choices) = self.cot_choices(n, channel)?;
                Ok(Batch::CotRecv(rows, choices))
            }
            Route::Kk13 { sender, bits } => self.kk13(sender, bits, n, channel),
            Route::CombinedCots { sender, bits } => self.combined(sender, bits, n, channel),
            Route::TriplesFromKk13 => Ok(Batch::Triples(self.triples_from_kk13(n, channel)?)),
            Route::TriplesFromCots { cols } => Ok(Batch::Triples(self.triples_from_cots(cols, n, channel)?)),
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

/// Writes up to 128 bits to some words of a plane.
fn put(plane: &mut [u64], words: &std::ops::Range<usize>, bits: u128) {
    for (i, w) in plane[words.clone()].iter_mut().enumerate() {
        *w = (bits >> (64 * i)) as u64;
    }
}

/// Bits `2p` and `2p + 1` of a plane.
fn pair(bits: &Bits, p: usize) -> u32 {
    (bits.words[p / 32] >> (2 * (p % 32))) as u32 & 3
}

fn set_pair(bits: &mut Bits, p: usize, value: u32) {
    bits.words[p / 32] |= u64::from(value) << (2 * (p % 32));
}

/// The low bit of each of 16 two-bit fields.
const EVEN: u32 = 0x5555_5555;

/// Field `j` has `(a + j_0)(b + j_1)` and `(a' + j_2)(b' + j_3)` over GF(2), for `a + 2a'` and `b + 2b'` given.
fn products(a: u32, b: u32) -> u32 {
    /// Field `j` has bit `i` of `j` in its low bit.
    const J: [u32; 4] = [0x4444_4444, 0x5050_5050, 0x5500_5500, 0x5555_0000];
    let all = |bit: u32| EVEN * (bit & 1);
    let low = (all(a) ^ J[0]) & (all(b) ^ J[1]);
    let high = (all(a >> 1) ^ J[2]) & (all(b >> 1) ^ J[3]);
    low | high << 1
}

/// The messages of [`Extension`].
pub(super) struct ExtensionMeter {
    source: Source,
    uses: Uses,
    /// By sender, for Ferret.
    progress: [ferret::Progress; 2],
}

impl ExtensionMeter {
    pub(super) fn new(source: Source, demand: &[(Kind, u64)]) -> Self {
        let uses = Uses::of(source, demand);
        let progress = uses.cots.map(|n| ferret::Progress::new(ferret::Lpn::for_demand(n)));
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
    fn setup(&mut self, ledger: &mut Ledger) {
        let receives = Party::BOTH.map(|p| self.uses.blocks(p) as u64);
        ledger.exchange([receives[1], receives[0]].map(|n| n.min(1) * base::POINT as u64));
        ledger.exchange(receives.map(|n| n * 128 * base::POINT as u64));
        let group = self.source.group();
        let from_receiver = self.uses.cots.map(|n| match self.source {
            _ if n == 0 => 0,
            Source::Ferret => {
                let base = ferret::Lpn::for_demand(n).base() as u64;
                softspoken::setup_message(group) + softspoken::message(group, base)
            }
            _ => softspoken::setup_message(group),
        });
        ledger.exchange([from_receiver[1], from_receiver[0]]);
    }

    fn generate(&mut self, kind: Kind, n: usize, ledger: &mut Ledger) {
        let many = n as u64;
        match Route::of(self.source, kind) {
            Route::Cot { sender } => ledger.exchange(self.cots(sender, many)),
            Route::CombinedCots { sender, bits } => ledger.exchange(self.cots(sender, many * u64::from(bits))),
            Route::Kk13 { sender, bits } => ledger.message(sender.other(), kk13::message(many, bits)),
            Route::TriplesFromKk13 => {
                let pairs = n.div_ceil(2);
                ledger.message(TRIPLE_SENDER.other(), kk13::message(pairs as u64, 4));
                ledger.message(TRIPLE_SENDER, section(pairs, TRIPLE_PAYLOAD) as u64);
            }
            Route::TriplesFromCots { .. } => {
                let [a, b] = Party::BOTH.map(|sender| self.cots(sender, many));
                ledger.exchange([a[0] + b[0], a[1] + b[1]]);
            }
        }
    }
}
