//! P0's private matrix times a shared vector: [`Inst::Linear`](crate::inst::Inst::Linear).
//!
//! Online, with an offline mask `R` of P1 and shares `S_0 + S_1 = W R`: P1 sends `x_1 - R`; then
//! `y_0 = W (x_0 + x_1 - R) + S_0` and `y_1 = S_1`. Rounds: 1, one way. Bits: the width, per input element. Correct by
//! linearity; secure because `R` is used once.
//!
//! Offline ([`linear_offline`]) the bits of `W` are the choices of correlated OTs that are made once and serve all
//! columns: a *column* is what one weight multiplies, the elements of `R` at its place in every row (time step, batch
//! item). For bit `b` of a weight, worth `s = 2^i` (`-2^i` for the sign bit of two's complement), all mod
//! `2^(width - i)`:
//!
//! 1. P0 sends `d = b ^ c` for all OTs;
//! 2. P1, whose pads for `b = 0` and `b = 1` are then `k_0` and `k_1`, sends `e = v + k_0 - k_1` for every element `v` of
//!    the column. Shares of `s b v`: `-s k_0` and `s (k_b + b e)`.
//!
//! A convolution is the product of the matrix of patches with the weights; only its mask has the shape of the images. In the patches, padding is
//! a zero like any other value.
//!
//! A pad is a stream of values, as long as the column, from one row: see [`LongPads`]. Rounds: 2. Bits: one per OT to P1; `sum (width - i)` per weight and row to P0. This is the paper's matrix multiplication with
//! one-sided weights (SIRNN IV-C) where the set-up per weight bit is shared by all products with that weight.
//!
//! Correct: `k_b + b e - k_0 = b v`. Secure: `d` is one-time padded by `c`, `e` by the pad that P0 does not have.

use super::{Instance, Operand, bit_range, each, expect_len, operand, read_planes, words, write_words};
use crate::{
    Error, Party,
    correlation::{Correlations, LongPads},
    inst::{LinearOp, section},
    transport::Channel,
    vector::{Bits, Vector, VectorWord},
    with_word_type, with_words,
};
use sirnn_kernels::{
    aes::Prg,
    bits::bit_plane,
    matmul::matmul,
    memory::SecretVec,
    ops,
    pack::{pack, packed_len, unpack},
    ring::RingWord,
};
use std::{
    io::{Read, Write},
    ops::Range,
};

/// A party's outcome of the offline phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearShare {
    /// The mask `R` of the input; P1 only.
    pub mask: Option<Vector>,
    /// The share of `W R`.
    pub share: Vector,
}

impl LinearShare {
    /// Elements of the mask and of the share, for inputs of `n` elements.
    fn lengths(party: Party, op: LinearOp, n: usize) -> [usize; 2] {
        [if party == Party::P1 { n } else { 0 }, op.output_len(n)]
    }

    /// Bytes that [`LinearShare::write`] writes.
    pub fn bytes(party: Party, op: LinearOp, width: u8, n: usize) -> usize {
        Self::lengths(party, op, n).map(|n| Vector::heap_bytes(width.into(), n)).iter().sum()
    }

    /// Writes mask and share: words of memory, little endian.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut dyn Write) -> Result<(), Error> {
        for vector in self.mask.iter().chain([&self.share]) {
            with_words!(vector, words => to.write_all(bytemuck::cast_slice(words)))
                .map_err(|e| Error::Store(e.to_string()))?;
        }
        Ok(())
    }

    /// Reads what [`LinearShare::write`] wrote.
    ///
    /// # Errors
    /// Those of `from`, or it ends too early.
    pub fn read(party: Party, op: LinearOp, width: u8, n: usize, from: &mut dyn Read) -> Result<Self, Error> {
        let vector = |n| {
            with_word_type!(width, W => {
                let mut words = vec![W::default(); n];
                from.read_exact(bytemuck::cast_slice_mut(&mut words)).map_err(|e| Error::Store(e.to_string()))?;
                let mask = <W as RingWord>::mask(width.into());
                words.iter_mut().for_each(|w| *w &= mask);
                Ok::<_, Error>(W::wrap(words))
            })
        };
        let [mask, share] = Self::lengths(party, op, n).map(vector);
        Ok(Self { mask: (party == Party::P1).then_some(mask?), share: share? })
    }
}

/// The online phase of one party.
pub(super) struct Linear<W> {
    op: LinearOp,
    weight_bits: u32,
    width: u32,
    n: usize,
    offline: LinearShare,
    /// `x_1 - R`, at P0.
    masked: Vec<W>,
}

impl<W: VectorWord> Linear<W> {
    pub(super) fn start(op: LinearOp, weight_bits: u8, width: u8, n: usize, offline: LinearShare) -> Box<dyn Instance> {
        Box::new(Self { op, weight_bits: weight_bits.into(), width: width.into(), n, offline, masked: Vec::<W>::new() })
    }
}

impl<W: VectorWord> Instance for Linear<W> {
    fn produce(&mut self, _: usize, operands: &[Operand], out: &mut [u8]) {
        let mask = self.offline.mask.as_ref().expect("P1 has the mask");
        let mut masked = vec![W::default(); self.n];
        ops::sub(self.width, W::of(operand(operands, 1)), W::of(mask), &mut masked);
        pack(self.width, &masked, out);
    }

    fn consume(&mut self, _: usize, _: &[Operand], bytes: &[u8]) -> Result<(), Error> {
        expect_len(bytes, section(self.n, self.width))?;
        self.masked = vec![W::default(); self.n];
        unpack(self.width, bytes, &mut self.masked);
        Ok(())
    }

    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector> {
        let share = std::mem::replace(&mut self.offline.share, W::wrap(Vec::new()));
        if self.offline.mask.is_some() {
            return vec![share];
        }
        let weights = signed::<W>(self.weight_bits, operand(operands, 0));
        ops::add_into(self.width, &mut self.masked, W::of(operand(operands, 1)));
        let mut y = apply(self.op, &weights, &self.masked);
        ops::add_into(self.width, &mut y, W::of(&share));
        vec![W::wrap(y)]
    }
}

/// Weights in words of another width, with their signs.
fn signed<W: VectorWord>(weight_bits: u32, weights: &Vector) -> Vec<W> {
    let sign = 1u64 << (weight_bits - 1);
    let mut weights = words::<W>(weights).into_owned();
    if weight_bits < W::BITS {
        let sign = W::from_u64(sign);
        weights.iter_mut().for_each(|w| *w = (*w ^ sign).wsub(sign));
    }
    weights
}

/// The map on plain words, wrapping in the word.
fn apply<W: VectorWord>(op: LinearOp, weights: &[W], x: &[W]) -> Vec<W> {
    let mut y = vec![W::default(); op.output_len(x.len())];
    match op {
        LinearOp::MatMul { inner, outer } => {
            let (inner, outer) = (inner as usize, outer as usize);
            matmul(x, weights, &mut y, x.len() / inner, inner, outer);
        }
        LinearOp::Scale { period } => {
            // Short periods are repeated: a kernel call wants more than a few elements.
            let repeated = period as usize * (ROWS / period as usize).max(1);
            let weights: Vec<W> = weights.iter().copied().cycle().take(repeated.min(x.len())).collect();
            for (x, y) in x.chunks(repeated).zip(y.chunks_mut(repeated)) {
                ops::mul(W::BITS, x, &weights[..x.len()], y);
            }
        }
        LinearOp::Conv(conv) => {
            let (patch, places, filters) = (conv.patch(), conv.places(), conv.filters as usize);
            let outer = filters / conv.groups as usize;
            let mut patches = vec![W::default(); places * patch];
            let mut part = vec![W::default(); places * outer];
            for (image, y) in y.chunks_exact_mut(places * filters).enumerate() {
                for (group, weights) in weights.chunks_exact(patch * outer).enumerate() {
                    for (place, row) in patches.chunks_exact_mut(patch).enumerate() {
                        for (at, element) in row.iter_mut().enumerate() {
                            let source = conv.source(image * places + place, group * patch + at);
                            *element = source.map(|s| x[s]).unwrap_or_default();
                        }
                    }
                    matmul(&patches, weights, &mut part, places, patch, outer);
                    for (y, part) in y.chunks_exact_mut(filters).zip(part.chunks_exact(outer)) {
                        y[group * outer..][..outer].copy_from_slice(part);
                    }
                }
            }
        }
    }
    y
}

/// Rows of a column that are worked on at a time; a multiple of 128, so that they begin with a new block of each pad.
// AGREEMENT: with GROUP, the layout of the message.
const ROWS: usize = 1024;
/// Values of one weight bit that make a section; as many weights share a section as have room.
// AGREEMENT.
const GROUP: usize = 8 * ROWS;
/// Tiles of rows whose sections make a message. AGREEMENT.
const WAVE: usize = 8;

/// How the offline phase is cut up; the same at both parties.
#[derive(Clone, Copy)]
struct Layout {
    op: LinearOp,
    width: u32,
    /// Bits of a weight that count mod `2^width`.
    bits: u32,
    /// Whether the last of them is the sign.
    signed: bool,
    weights: usize,
    /// Length of a column.
    rows: usize,
    n: usize,
}

impl Layout {
    fn new(op: LinearOp, weight_bits: u8, width: u8, n: usize) -> Self {
        let mut layout = Self {
            op,
            width: width.into(),
            bits: weight_bits.min(width).into(),
            signed: weight_bits <= width,
            weights: op.weights(),
            rows: 0,
            n,
        };
        layout.rows = match op {
            LinearOp::Conv(conv) => n / conv.image_len() * conv.places(),
            _ => n.div_ceil(layout.columns().0),
        };
        layout
    }

    /// Elements of a row of the input, and of the output.
    fn columns(&self) -> (usize, usize) {
        match self.op {
            LinearOp::MatMul { inner, outer } => (inner as usize, outer as usize),
            LinearOp::Scale { period } => (period as usize, period as usize),
            LinearOp::Conv(conv) => (conv.groups as usize * conv.patch(), conv.filters as usize),
        }
    }

    /// The element of the input that row `row` has in column `column`, if it is not padding or behind the end.
    fn source(&self, row: usize, column: usize) -> Option<usize> {
        match self.op {
            LinearOp::Conv(conv) => conv.source(row, column),
            _ => Some(row * self.columns().0 + column).filter(|&at| at < self.n),
        }
    }

    /// Which column of the input weight `t` multiplies, and to which column of the output that is added.
    fn places(&self, t: usize) -> (usize, usize) {
        match self.op {
            LinearOp::MatMul { outer, .. } => (t / outer as usize, t % outer as usize),
            LinearOp::Scale { .. } => (t, t),
            LinearOp::Conv(conv) => {
                let (patch, outer) = (conv.patch(), (conv.filters / conv.groups) as usize);
                let (group, at) = (t / (patch * outer), t % (patch * outer));
                (group * patch + at / outer, group * outer + at % outer)
            }
        }
    }

    /// OTs: that of bit `i` of weight `t` is `i * weights + t`.
    fn ots(&self) -> usize {
        if self.rows == 0 { 0 } else { self.weights * self.bits as usize }
    }

    /// Bytes of the message to P1.
    fn choices_len(&self) -> usize {
        if self.rows == 0 { 0 } else { self.bits as usize * section(self.weights, 1) }
    }

    /// The width of the values for each bit of a weight, and what the bit is worth.
    fn worth<W: VectorWord>(&self) -> impl Iterator<Item = (u32, W)> {
        (0..self.bits).map(|i| {
            let worth = W::one() << i;
            let sign = self.signed && i == self.bits - 1;
            (self.width - i, if sign { W::zero().wsub(worth) } else { worth })
        })
    }

    /// Runs of rows that share messages.
    fn waves(&self) -> impl Iterator<Item = Range<usize>> {
        let rows = self.rows;
        (0..rows).step_by(WAVE * ROWS).map(move |from| from..rows.min(from + WAVE * ROWS))
    }

    /// Runs of weights that share messages, in a wave of `rows` rows.
    fn groups(&self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let (weights, size) = (self.weights, GROUP / rows.min(ROWS));
        (0..weights).step_by(size).map(move |from| from..weights.min(from + size))
    }

    /// Bytes of the sections of a tile.
    fn tile_len(&self, weights: usize, rows: usize) -> usize {
        (0..self.bits).map(|i| packed_len(weights * rows, self.width - i)).sum()
    }

    /// Bytes of the message for a wave of `rows` rows.
    fn message_len(&self, weights: usize, rows: usize) -> usize {
        rows / ROWS * self.tile_len(weights, ROWS) + self.tile_len(weights, rows % ROWS)
    }
}

/// A tile of rows: columns one after the other.
struct Tile<W> {
    rows: Range<usize>,
    /// The mask, at P1.
    mask: SecretVec<W>,
    /// This party's share of the product.
    share: SecretVec<W>,
}

impl<W: VectorWord> Tile<W> {
    /// The tiles of a wave. `mask` is the whole mask, if this is P1.
    fn wave(layout: &Layout, rows: Range<usize>, mask: Option<&[W]>) -> Vec<Self> {
        let (inner, outer) = layout.columns();
        let tile = |from: usize| {
            let rows = from..rows.end.min(from + ROWS);
            // A last row may be short.
            let column = |mask: &[W], c| {
                rows.clone().map(|r| layout.source(r, c).map(|at| mask[at]).unwrap_or_default()).collect::<Vec<_>>()
            };
            let mask =
                mask.map(|mask| (0..inner).flat_map(|c| column(mask, c)).collect::<Vec<_>>()).unwrap_or_default();
            Self { share: vec![W::default(); outer * rows.len()].into(), mask: mask.into(), rows }
        };
        rows.clone().step_by(ROWS).map(tile).collect()
    }

    /// Puts the share into the whole one.
    fn store(&self, layout: &Layout, share: &mut [W]) {
        let outer = layout.columns().1;
        for (c, column) in self.share.chunks(self.rows.len()).enumerate() {
            for (r, x) in self.rows.clone().zip(column) {
                if let Some(y) = share.get_mut(r * outer + c) {
                    *y = *x;
                }
            }
        }
    }
}

/// Buffers for one tile.
struct Scratch<W> {
    pad: SecretVec<u128>,
    /// Of one column.
    zero: SecretVec<W>,
    one: SecretVec<W>,
    /// Of one section.
    values: Vec<W>,
}

impl<W: VectorWord> Scratch<W> {
    fn new() -> Self {
        let column = SecretVec::from(vec![W::default(); ROWS]);
        Self { pad: vec![0; ROWS / 2].into(), zero: column.clone(), one: column, values: vec![W::default(); GROUP] }
    }
}

/// Values `from..from + out.len()` of the pad of row `row`; `from` is a multiple of [`ROWS`].
pub(super) fn pad<W: VectorWord>(
    pads: &LongPads,
    row: usize,
    width: u32,
    from: usize,
    blocks: &mut [u128],
    out: &mut [W],
) {
    let blocks = &mut blocks[..(out.len() * width as usize).div_ceil(128)];
    pads.fill(row, (from * width as usize / 128) as u32, blocks);
    if cfg!(target_endian = "big") {
        blocks.iter_mut().for_each(|block| *block = block.swap_bytes());
    }
    unpack(width, &bytemuck::cast_slice(blocks)[..packed_len(out.len(), width)], out);
}

/// What [`linear_offline`] costs for inputs of `n` elements in total: correlated OTs with P1 as sender, bytes to P1,
/// bytes to P0.
pub fn linear_offline_cost(op: LinearOp, weight_bits: u8, width: u8, n: usize) -> (usize, usize, usize) {
    let layout = Layout::new(op, weight_bits, width, n);
    let wave = |rows: Range<usize>| -> usize {
        layout.groups(rows.len()).map(|weights| layout.message_len(weights.len(), rows.len())).sum()
    };
    (layout.ots(), layout.choices_len(), layout.waves().map(wave).sum())
}

/// The offline phase of [`Inst::Linear`](crate::inst::Inst::Linear) for inputs of `n` elements in total. P0 gives the
/// weights.
#[allow(clippy::too_many_arguments)] // an entry point: the instruction, its operand, and the party's three resources
pub fn linear_offline(
    party: Party,
    op: LinearOp,
    weight_bits: u8,
    width: u8,
    n: usize,
    weights: Option<&Vector>,
    correlations: &mut dyn Correlations,
    channel: &mut dyn Channel,
    prg: &mut Prg,
) -> Result<LinearShare, Error> {
    let layout = Layout::new(op, weight_bits, width, n);
    with_word_type!(width, W => match party {
        Party::P0 => {
            let weights = weights.expect("P0 has the weights");
            let share = receive::<W>(&layout, weights, correlations, channel)?;
            Ok(LinearShare { mask: None, share: W::wrap(share) })
        }
        Party::P1 => {
            let mut mask = vec![W::default(); n];
            prg.fill_words(width.into(), &mut mask);
            let share = send(&layout, &mask, correlations, channel)?;
            Ok(LinearShare { mask: Some(W::wrap(mask)), share: W::wrap(share) })
        }
    })
}

/// P0: chooses with the bits of the weights.
fn receive<W: VectorWord>(
    layout: &Layout,
    weights: &Vector,
    correlations: &mut dyn Correlations,
    channel: &mut dyn Channel,
) -> Result<Vec<W>, Error> {
    let ticket = correlations.cot_recv(layout.ots())?;
    let mut share = vec![W::default(); layout.op.output_len(layout.n)];
    let mut bits = Bits::zero(layout.bits as usize, layout.weights);
    let mut message = vec![0; layout.choices_len()];
    for (i, section) in message.chunks_exact_mut(section(layout.weights, 1)).enumerate() {
        with_words!(weights, xs => bit_plane(xs, i as u32, bits.plane_mut(i)));
        let choices = bit_range(&ticket.choices.words, i * layout.weights, layout.weights);
        write_words(section, bits.plane(i).iter().zip(&choices).map(|(b, c)| b ^ c));
    }
    channel.send(&message)?;
    channel.flush()?;
    let pads = ticket.long_pads();
    drop(ticket);
    for rows in layout.waves() {
        let mut tiles = Tile::wave(layout, rows.clone(), None);
        for weights in layout.groups(rows.len()) {
            message.resize(layout.message_len(weights.len(), rows.len()), 0);
            channel.recv(&mut message)?;
            let parts = message.chunks(layout.tile_len(weights.len(), ROWS));
            let count = weights.len() * rows.len();
            each(count, tiles.iter_mut().zip(parts), Scratch::<W>::new, |scratch, (tile, mut rest)| {
                let len = tile.rows.len();
                let values = &mut scratch.values[..weights.len() * len];
                let (own, scaled) = (&mut scratch.zero[..len], &mut scratch.one[..len]);
                for (i, (width, worth)) in layout.worth::<W>().enumerate() {
                    let (section, after) = rest.split_at(packed_len(values.len(), width));
                    rest = after;
                    unpack(width, section, values);
                    for (t, values) in weights.clone().zip(values.chunks(len)) {
                        let ot = i * layout.weights + t;
                        pad(&pads, ot, width, tile.rows.start, &mut scratch.pad, own);
                        let bit = W::from_u64(bits.get(i, t).into());
                        ops::mul_scalar(width, values, bit, scaled);
                        ops::add_into(width, own, scaled);
                        ops::mul_scalar(layout.width, own, worth, scaled);
                        let share = &mut tile.share[layout.places(t).1 * len..][..len];
                        ops::add_into(layout.width, share, scaled);
                    }
                }
            });
        }
        tiles.iter().for_each(|tile| tile.store(layout, &mut share));
    }
    Ok(share)
}

/// P1: the values are those of the mask.
fn send<W: VectorWord>(
    layout: &Layout,
    mask: &[W],
    correlations: &mut dyn Correlations,
    channel: &mut dyn Channel,
) -> Result<Vec<W>, Error> {
    let mut ticket = correlations.cot_send(layout.ots())?;
    let mut share = vec![W::default(); layout.op.output_len(layout.n)];
    let mut message = vec![0; layout.choices_len()];
    channel.recv(&mut message)?;
    let d = read_planes(&message, message.len() / section(layout.weights, 1), layout.weights);
    // From here on the row of each OT is that of b = 0.
    for i in 0..d.planes {
        for t in 0..layout.weights {
            ticket.rows[i * layout.weights + t] ^= *ticket.delta & u128::from(d.get(i, t)).wrapping_neg();
        }
    }
    let pads = ticket.long_pads();
    drop(ticket);
    for rows in layout.waves() {
        let mut tiles = Tile::wave(layout, rows.clone(), Some(mask));
        for weights in layout.groups(rows.len()) {
            message.resize(layout.message_len(weights.len(), rows.len()), 0);
            let parts = message.chunks_mut(layout.tile_len(weights.len(), ROWS));
            let count = weights.len() * rows.len();
            each(count, tiles.iter_mut().zip(parts), Scratch::<W>::new, |scratch, (tile, mut rest)| {
                let len = tile.rows.len();
                let values = &mut scratch.values[..weights.len() * len];
                let (zero, one) = (&mut scratch.zero[..len], &mut scratch.one[..len]);
                for (i, (width, worth)) in layout.worth::<W>().enumerate() {
                    for (t, values) in weights.clone().zip(values.chunks_mut(len)) {
                        let ot = i * layout.weights + t;
                        pad(&pads[0], ot, width, tile.rows.start, &mut scratch.pad, zero);
                        pad(&pads[1], ot, width, tile.rows.start, &mut scratch.pad, one);
                        let (source, target) = layout.places(t);
                        ops::sub(width, zero, one, values);
                        ops::add_into(width, values, &tile.mask[source * len..][..len]);
                        ops::mul_scalar(layout.width, zero, worth, one);
                        ops::sub_into(layout.width, &mut tile.share[target * len..][..len], one);
                    }
                    let (section, after) = std::mem::take(&mut rest).split_at_mut(packed_len(values.len(), width));
                    rest = after;
                    pack(width, values, section);
                }
            });
            channel.send(&message)?;
            channel.flush()?; // or a slow link lets the messages pile up
        }
        tiles.iter().for_each(|tile| tile.store(layout, &mut share));
    }
    Ok(share)
}
