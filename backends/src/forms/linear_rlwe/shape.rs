//! Where everything stands: which slot of which block holds which element of the mask, what the server multiplies with,
//! which slots of a result are wanted; and from that, before anything runs, bytes, values and bounds.
//!
//! A *block* is a polynomial for every channel of the input, all with the same layout. Slot `m` of a product with `w X^t` is
//! slot `m - t` times `w`. A **matrix** has a row at every `spread`-th slot; polynomial `J` of the weights is `sum_x W[i][J spread + x] X^x`,
//! so that output `J spread + x` of a row stands `x` slots behind the row. A **convolution** has images (or tiles of one) row by row, with zeros where the
//! kernel reaches beyond; a tap is a shift. Tiles share outputs at their edges: the shares are added.
//! Slots that only unwanted results read are not sent.

use super::set::{Ring, Set};
use crate::inst::{Conv, LinearOp, section};
use sirnn_kernels::{
    limbs::LIMB_BITS,
    ntt::MAX_TERM_BITS,
    sample::{BINOMIAL_MAX, Flood},
};
use std::ops::Range;

/// log2 of the number of values that the distance is bounded for.
// SECURITY.
pub const LOG_VALUES: u32 = 36;
/// -log2 of that distance, from what a server whose weights are all zero would send.
// SECURITY.
pub const LOG_DISTANCE: u32 = 40;
/// Most columns of a matrix that share a polynomial.
const MAX_SPREAD: usize = 40;
/// Bits of what the server sends for a value, below its share.
pub(super) const REST_BITS: u32 = 3;
/// Largest absolute value of the flood, and standard deviation, in units of `q / 2^w`.
const FLOOD: f64 = 0.24;
const FLOOD_DEVIATION: f64 = 0.0692;
/// Values of each of its four coarse numbers, and bits of a unit above their last one: `2 * FLOOD_RANGE / 2^34 < FLOOD`, and the
/// deviation is `FLOOD_RANGE / sqrt(3) / 2^34`.
// SECURITY.
const FLOOD_RANGE: u64 = 2_061_000_000;
const FLOOD_COARSE_BITS: u32 = 34;
/// Fisher information of the sum of four uniform numbers, times its variance; rounded up.
const FISHER: f64 = 1.04;
/// Largest weights, in bits, that are multiplied as they are; larger ones are split in two.
const WHOLE_WEIGHT_BITS: u32 = 12;

/// How the products with one matrix are made: agreed by both parties, part of the plan's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Parameter set.
    pub set: Set,
    /// Columns of a matrix that share a polynomial; 1 for convolutions.
    pub spread: u16,
    /// Bits of the mask's error that are sent for each element.
    pub bits: u16,
}

/// What a form costs, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes to P1.
    pub to_p1: u64,
    /// Bytes to P0, without the client's keys.
    pub to_p0: u64,
    /// Blocks: for each the client sends [`key_bytes`] once, whatever the number of matrices.
    pub blocks: u64,
    /// Results that the server sends part of: what the distance is counted in.
    pub values: u64,
    /// Of `to_p1`, the server's keys of the matrix: not sent where they are kept.
    pub keys: u64,
    /// Coefficients of all polynomials that are transformed, and products of coefficients with weights: for estimates of time.
    pub work: [u64; 2],
    /// Of `work`, what making the keys takes.
    pub key_work: [u64; 2],
}

/// Bytes of a client's key for a block.
pub fn key_bytes(set: Set) -> u64 {
    let (bits, count) = set.primes();
    (count * section(set.degree(), bits)) as u64
}

/// `2^k`.
pub(super) fn pow2(k: i32) -> f64 {
    f64::from_bits(((1023 + k) as u64) << 52)
}

/// Bytes of numbers of any width.
pub(super) fn wide_len(n: usize, bits: u32) -> usize {
    words(bits).map(|b| section(n, b)).sum()
}

/// Widths of the words of a number.
pub(super) fn words(bits: u32) -> impl Iterator<Item = u32> {
    (0..bits).step_by(64).map(move |from| (bits - from).min(64))
}

/// A rectangle of images in a block.
#[derive(Clone, Debug)]
struct Tile {
    images: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// One axis of a tile: the places whose kernels reach it, and how far they reach beyond.
struct Reach {
    places: Range<usize>,
    /// Zeros before and after.
    before: usize,
    after: usize,
    /// First coordinate in the tile's layout, which may be negative.
    low: isize,
}

fn reach(tile: &Range<usize>, kernel: usize, stride: usize, padding: usize, output: usize) -> Reach {
    // Place p reads from p stride - padding on.
    let first = (tile.start + padding + 1).saturating_sub(kernel).div_ceil(stride);
    let last = ((tile.end - 1 + padding) / stride).min(output - 1);
    let places = first..(last + 1).max(first);
    if places.is_empty() {
        return Reach { places, before: 0, after: 0, low: tile.start as isize };
    }
    let from = (first * stride) as isize - padding as isize;
    let to = (last * stride + kernel) as isize - padding as isize;
    let low = from.min(tile.start as isize);
    Reach { places, before: (tile.start as isize - low) as usize, after: (to - tile.end as isize).max(0) as usize, low }
}

/// What a block holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    /// Slots that hold elements, ascending, and the position of the element: a row, or a pixel.
    pub(super) data: Vec<(usize, usize)>,
    /// Slots that are sent: those from 0 on.
    pub(super) sent: usize,
    /// Slots of a result that are wanted: slot, row or place, column in the polynomial.
    pub(super) outputs: Vec<(usize, usize, usize)>,
}

/// Everything about the products with one matrix.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) form: Form,
    pub(super) width: u32,
    pub(super) weight_bits: u32,
    pub(super) op: LinearOp,
    /// Elements of the input.
    pub(super) n: usize,
    /// Groups; inputs and outputs of one.
    pub(super) groups: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Shifts of the taps of a polynomial of weights.
    pub(super) shifts: Vec<usize>,
    /// Rows of a block of a matrix, or what the blocks of a convolution are.
    blocks: Blocks,
}

#[derive(Clone, Debug)]
enum Blocks {
    Rows { rows: usize, of: usize },
    Tiles { conv: Conv, tiles: Vec<Tile>, pitch: usize },
}

/// A convolution that is a matrix: every pixel is a row.
fn as_matrix(op: LinearOp) -> LinearOp {
    match op {
        LinearOp::Conv(c) if c.kernel == [1, 1] && c.stride == [1, 1] && c.padding == [0; 4] && c.groups == 1 => {
            LinearOp::MatMul { inner: c.image[2], outer: c.filters }
        }
        op => op,
    }
}

impl Shape {
    /// `None` if the map has no such form: it is element-wise, or a tile does not fit a block.
    pub(super) fn new(op: LinearOp, weight_bits: u8, width: u8, n: usize, form: Form) -> Option<Self> {
        let (width, weight_bits) = (u32::from(width), u32::from(weight_bits));
        let (slots, spread) = (form.set.degree(), usize::from(form.spread));
        let (groups, inputs, outputs, shifts, blocks) = match as_matrix(op) {
            LinearOp::Scale { .. } => return None,
            LinearOp::MatMul { inner, outer } => {
                let (inner, outer) = (inner as usize, outer as usize);
                let of = (slots + 1 - spread) / spread;
                (1, inner, outer, (0..spread).collect(), Blocks::Rows { rows: n / inner, of })
            }
            LinearOp::Conv(conv) => {
                let groups = conv.groups as usize;
                let [high, wide] = conv.kernel.map(|k| k as usize);
                let (tiles, pitch) = tiles(&conv, n / conv.image_len(), slots)?;
                let most = (high - 1) * pitch + wide - 1;
                let shifts = (0..high * wide).map(|t| most - (t / wide * pitch + t % wide)).collect();
                let (channels, filters) = (conv.image[2] as usize, conv.filters as usize);
                (groups, channels / groups, filters / groups, shifts, Blocks::Tiles { conv, tiles, pitch })
            }
        };
        Some(Self { form, width, weight_bits, op, n, groups, inputs, outputs, shifts, blocks })
    }

    /// Polynomials of weights in a group.
    pub(super) fn polys(&self) -> usize {
        self.outputs.div_ceil(self.spread())
    }

    pub(super) fn spread(&self) -> usize {
        self.form.spread.into()
    }

    /// Elements of the input for one position.
    pub(super) fn channels(&self) -> usize {
        self.groups * self.inputs
    }

    /// Number of blocks.
    pub(super) fn blocks(&self) -> usize {
        match &self.blocks {
            Blocks::Rows { rows, of } => rows.div_ceil(*of),
            Blocks::Tiles { tiles, .. } => tiles.len(),
        }
    }

    /// The largest shift.
    pub(super) fn reach(&self) -> usize {
        self.shifts.iter().copied().max().unwrap_or(0)
    }

    /// The weight of input `input`, polynomial `poly` and tap `tap` in a group, as a place in the operand; `None` behind the last column.
    pub(super) fn weight(&self, group: usize, input: usize, poly: usize, tap: usize) -> Option<usize> {
        match as_matrix(self.op) {
            LinearOp::Conv(_) => {
                let taps = self.shifts.len();
                Some(((group * taps + tap) * self.inputs + input) * self.outputs + poly)
            }
            _ => {
                let column = poly * self.spread() + tap;
                (column < self.outputs).then(|| input * self.outputs + column)
            }
        }
    }

    /// The place in the result of a wanted slot of polynomial `poly`; `None` behind the last column.
    pub(super) fn target(
        &self,
        group: usize,
        poly: usize,
        (_, position, column): (usize, usize, usize),
    ) -> Option<usize> {
        let column = poly * self.spread() + column;
        (column < self.outputs).then(|| (position * self.groups + group) * self.outputs + column)
    }

    /// Wanted values of polynomial `poly` in a block.
    pub(super) fn wanted(&self, block: &Block, poly: usize) -> usize {
        match &self.blocks {
            Blocks::Tiles { .. } => block.outputs.len(),
            Blocks::Rows { .. } => {
                let spread = self.spread();
                block.outputs.len() / spread * spread.min(self.outputs - poly * spread)
            }
        }
    }

    /// Lays out a block.
    pub(super) fn block(&self, k: usize) -> Block {
        match &self.blocks {
            Blocks::Rows { rows, of } => {
                let (from, spread) = (k * of, self.spread());
                let rows = from..(from + of).min(*rows);
                let slot = |row: usize| spread - 1 + (row - from) * spread;
                Block {
                    data: rows.clone().map(|row| (slot(row), row)).collect(),
                    sent: spread - 1 + rows.len() * spread,
                    outputs: rows.flat_map(|row| (0..spread).map(move |x| (slot(row) + x, row, x))).collect(),
                }
            }
            Blocks::Tiles { conv, tiles, pitch } => {
                let tile = &tiles[k];
                let grid = Grid::new(conv, tile, *pitch);
                let [_, columns] = conv.output();
                let [height, width] = [conv.image[0] as usize, conv.image[1] as usize];
                let mut block = Block { sent: grid.slots, ..Block::default() };
                for (at, image) in tile.images.clone().enumerate() {
                    let base = at * grid.image;
                    for y in tile.rows.clone() {
                        for x in tile.columns.clone() {
                            let slot = base + grid.slot(y as isize, x as isize);
                            block.data.push((slot, (image * height + y) * width + x));
                        }
                    }
                    for py in grid.axes[0].places.clone() {
                        for px in grid.axes[1].places.clone() {
                            let first = |p: usize, d: usize| {
                                (p * conv.stride[d] as usize) as isize - conv.padding[2 * d] as isize
                            };
                            let slot = base + grid.slot(first(py, 0), first(px, 1)) + self.reach();
                            block.outputs.push((slot, image * conv.places() + py * columns + px, 0));
                        }
                    }
                }
                block
            }
        }
    }

    /// Products that a value is the sum of.
    fn terms(&self) -> usize {
        self.inputs * self.shifts.len()
    }

    /// Bits that the errors of masks lose when they are sent.
    pub(super) fn cut(&self) -> u32 {
        self.form.set.log_q() - self.width - u32::from(self.form.bits)
    }

    /// The flood: within [`FLOOD`] of a unit, over all integers.
    pub(super) fn flood(&self) -> Flood {
        Flood { range: FLOOD_RANGE, fine_bits: self.form.set.log_q() - self.width - FLOOD_COARSE_BITS }
    }

    /// Parts of the weights: their bits, and what they are multiplied with (as a power of two).
    pub(super) fn weight_parts(&self) -> &'static [(u32, u32)] {
        if self.weight_bits <= WHOLE_WEIGHT_BITS { &[(0, 0)] } else { &[(8, 0), (8, 8)] }
    }

    /// How far from an integer the client's result can be before it is rounded, in units of `q / 2^w`, whatever the weights and
    /// whatever was drawn. Below 1/2 every result is exact.
    pub(super) fn error_bound(&self) -> f64 {
        let set = self.form.set;
        let (n, nonzeros) = (set.degree() as f64, set.most_nonzeros() as f64);
        let weights = self.terms() as f64 * pow2(self.weight_bits as i32 - 1);
        let error = BINOMIAL_MAX as f64;
        let noise = weights * (error + pow2(self.cut() as i32 - 1)) + error * (n + nonzeros);
        // q is below 2^(log q) by less than a part in 2^15 times the number of primes.
        let unit = pow2((set.log_q() - self.width) as i32) * (1.0 - pow2(-13));
        let fractions = (1.0 + nonzeros) * pow2(Ring::FRACTION_ERROR + self.width as i32);
        let keys = nonzeros / 2.0 * pow2(-(set.key_fraction() as i32));
        keys + pow2(-(REST_BITS as i32) - 1) + FLOOD + noise / unit + fractions
    }

    /// Bytes of memory, by party: the server's rows of limbs and weights of a group, the client's public polynomials.
    pub(super) fn memory(&self) -> [u64; 2] {
        let (bits, primes) = self.form.set.primes();
        let rows = |limbs: u32| {
            2 * u64::from(limbs) * (self.inputs + 1) as u64 * (self.reach() + self.form.set.degree()) as u64
        };
        let public = primes as u64 * rows(bits.div_ceil(LIMB_BITS));
        let received = rows((self.width + u32::from(self.form.bits)).div_ceil(LIMB_BITS));
        let factors = 4 * (self.groups * self.polys() * self.terms()) as u64;
        [public.max(received) + factors, (8 * primes * self.form.set.degree() * self.channels()) as u64]
    }

    /// Bytes of memory of the keys, by party: factors and seeds at the server, what the client received.
    pub(super) fn kept(&self) -> [u64; 2] {
        let parts = self.weight_parts().len() as u64;
        let polys = (self.groups * self.polys()) as u64;
        let factors = 4 * parts * polys * (self.shifts.len() * self.inputs.div_ceil(2)) as u64;
        [factors + 32 * polys, self.cost().keys]
    }

    /// Exact cost.
    pub(super) fn cost(&self) -> Cost {
        let (width, bits) = (self.width, u32::from(self.form.bits));
        let key = wide_len(self.form.set.degree(), width + self.form.set.key_fraction());
        let keys = (self.groups * self.polys() * key) as u64;
        let (n, blocks) = (self.form.set.degree() as u64, self.blocks() as u64);
        let polys = (self.channels() + self.groups * self.polys()) as u64;
        let factors = (self.groups * self.polys() * self.terms()) as u64;
        // Public polynomials have more limbs than masks, for every prime.
        let key_work = [polys * n, 2 * factors * n];
        let work = [(blocks + 1) * polys * n, (blocks + 2) * factors * n];
        let mut cost = Cost { to_p1: keys, to_p0: 0, blocks, values: 0, keys, work, key_work };
        let mut add = |data: usize, sent: usize, outputs: usize, times: u64| {
            let up = wide_len(data, bits) + wide_len(sent - data, bits + width);
            cost.to_p0 += (self.channels() * up) as u64 * times;
            for poly in 0..self.polys() {
                let wanted = match &self.blocks {
                    Blocks::Tiles { .. } => outputs,
                    Blocks::Rows { .. } => outputs * self.spread().min(self.outputs - poly * self.spread()),
                };
                cost.to_p1 += (self.groups * section(wanted, REST_BITS)) as u64 * times;
                cost.values += (self.groups * wanted) as u64 * times;
            }
        };
        match &self.blocks {
            Blocks::Rows { rows, of } => {
                let spread = self.spread();
                let sent = |rows: usize| spread - 1 + rows * spread;
                add(*of, sent(*of), *of, (rows / of) as u64);
                let rest = rows % of;
                if rest > 0 {
                    add(rest, sent(rest), rest, 1);
                }
            }
            Blocks::Tiles { conv, tiles, pitch } => {
                for tile in tiles {
                    let grid = Grid::new(conv, tile, *pitch);
                    let images = tile.images.len();
                    let places = images * grid.axes.iter().map(|a| a.places.len()).product::<usize>();
                    add(images * tile.rows.len() * tile.columns.len(), grid.slots, places, 1);
                }
            }
        }
        cost
    }
}

/// Slots of the images of a tile.
struct Grid {
    axes: [Reach; 2],
    pitch: usize,
    /// Slots of an image.
    image: usize,
    /// Slots in all.
    slots: usize,
}

impl Grid {
    fn new(conv: &Conv, tile: &Tile, pitch: usize) -> Self {
        let [rows, columns] = conv.output();
        let axis = |d: usize, tile: &Range<usize>, output| {
            reach(tile, conv.kernel[d] as usize, conv.stride[d] as usize, conv.padding[2 * d] as usize, output)
        };
        let axes = [axis(0, &tile.rows, rows), axis(1, &tile.columns, columns)];
        // Zeros behind one image (or row) are those before the next.
        let high = tile.rows.len() + axes[0].before.max(axes[0].after);
        let lines = high * tile.images.len() + axes[0].before.min(axes[0].after);
        let wide = axes[1].before + tile.columns.len() + axes[1].after;
        let slots = lines * pitch + wide.saturating_sub(pitch);
        Self { axes, pitch, image: high * pitch, slots }
    }

    fn slot(&self, y: isize, x: isize) -> usize {
        let [row, column] = [y - self.axes[0].low, x - self.axes[1].low].map(|c| c as usize);
        row * self.pitch + column
    }
}

/// Tiles of `images` images for blocks of `slots` slots, as few as a simple search finds, and the distance of rows.
fn tiles(conv: &Conv, images: usize, slots: usize) -> Option<(Vec<Tile>, usize)> {
    let [height, width] = [conv.image[0] as usize, conv.image[1] as usize];
    let [_, columns] = conv.output();
    // Rows of `wide` columns need one distance for all tiles.
    let pitch = |wide: usize| {
        (0..width)
            .step_by(wide)
            .map(|from| {
                let tile = from..(from + wide).min(width);
                let r =
                    reach(&tile, conv.kernel[1] as usize, conv.stride[1] as usize, conv.padding[2] as usize, columns);
                tile.len() + r.before.max(r.after)
            })
            .max()
            .unwrap_or(wide)
    };
    let fits = |images: usize, high: usize, wide: usize| {
        let pitch = pitch(wide);
        (0..height).step_by(high).all(|from| {
            (0..width).step_by(wide).all(|left| {
                let tile = Tile {
                    images: 0..images,
                    rows: from..(from + high).min(height),
                    columns: left..(left + wide).min(width),
                };
                Grid::new(conv, &tile, pitch).slots <= slots
            })
        })
    };
    let largest = |most: usize, ok: &dyn Fn(usize) -> bool| {
        let (mut good, mut bad) = (0, most + 1);
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            if ok(middle) { good = middle } else { bad = middle }
        }
        (good > 0).then_some(good)
    };
    if images == 0 {
        return Some((Vec::new(), pitch(width)));
    }
    let (many, high, wide) = match largest(images.min(slots), &|k| fits(k, height, width)) {
        Some(many) => (many, height, width),
        None => match largest(height.min(slots), &|h| fits(1, h, width)) {
            Some(high) => (1, high, width),
            None => {
                let wide = largest(width.min(slots), &|w| fits(1, 1, w))?;
                (1, largest(height.min(slots), &|h| fits(1, h, wide))?, wide)
            }
        },
    };
    let mut all = Vec::new();
    for from in (0..images).step_by(many) {
        for top in (0..height).step_by(high) {
            for left in (0..width).step_by(wide) {
                all.push(Tile {
                    images: from..(from + many).min(images),
                    rows: top..(top + high).min(height),
                    columns: left..(left + wide).min(width),
                });
            }
        }
    }
    Some((all, pitch(wide)))
}

/// The fewest bits of errors that keep the distance of [`LOG_DISTANCE`] for `terms` products with weights of `weight_bits` bits: by
/// Hellinger distance it is at most `1/2 sqrt(FISHER N) rms / sigma`, where `rms` is that of what the flood hides (errors and
/// roundings times weights, and the errors of keys) and `sigma` the flood's deviation. Only operations that are the same
/// everywhere: both parties compute it.
fn least_bits(set: Set, weight_bits: u32, width: u32, terms: usize) -> Option<u16> {
    let n = set.degree() as f64;
    let variance = 10.5;
    let keys = variance * n * (2.0 / 3.0 + 0.75);
    let sigma = FLOOD_DEVIATION * (1.0 - pow2(-13)) * pow2((set.log_q().checked_sub(width)?) as i32);
    let most = sigma * sigma * 4.0 / FISHER * pow2(-2 * LOG_DISTANCE as i32 - LOG_VALUES as i32);
    let enough = |bits: &u32| {
        let cut = pow2((set.log_q() - width - bits) as i32);
        let weights = terms as f64 * pow2(2 * weight_bits as i32 - 2);
        weights * (variance + cut * cut / 12.0) + keys <= most
    };
    // At least one bit is cut off.
    (1..(set.log_q() - width).max(1)).find(enough).map(|bits| bits as u16)
}

/// The form with a set and a spread, if it is one, and its shape.
fn form(op: LinearOp, weight_bits: u8, width: u8, n: usize, set: Set, spread: usize) -> Option<Shape> {
    let (terms, most) = match as_matrix(op) {
        LinearOp::MatMul { inner, outer } => (inner as usize * spread, outer as usize),
        LinearOp::Conv(conv) => (conv.patch(), 1),
        LinearOp::Scale { .. } => return None,
    };
    let log_sum = (terms as u64).checked_ilog2()? + 1 + u32::from(weight_bits) - 1 + LIMB_BITS;
    if spread > most || log_sum > MAX_TERM_BITS {
        return None;
    }
    let bits = least_bits(set, weight_bits.into(), width.into(), terms)?;
    let shape = Shape::new(op, weight_bits, width, n, Form { set, spread: spread as u16, bits })?;
    (shape.error_bound() < 0.5 && shape.reach() < set.degree()).then_some(shape)
}

/// The ways to make the products of inputs of `n` elements in all with one matrix, with what they cost.
pub fn forms(op: LinearOp, weight_bits: u8, width: u8, n: usize) -> Vec<(Form, Cost)> {
    let spreads = |set: Set| (1..=MAX_SPREAD).map_while(move |spread| form(op, weight_bits, width, n, set, spread));
    Set::ALL.into_iter().flat_map(spreads).map(|shape| (shape.form, shape.cost())).collect()
}

/// A matrix whose products are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The map.
    pub op: LinearOp,
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Ring.
    pub width: u8,
    /// Elements of all inputs.
    pub n: usize,
}

/// Chooses a form for each of the matrices of a session, where that is fewer bytes than `otherwise` says for the matrix. A set's
/// client keys serve all matrices: a set, or a block more, has to be worth it for all together. The server's keys serve so many
/// `sessions`, of which each counts its part.
pub fn choose(tasks: &[Task], otherwise: &[f64], sessions: u64) -> Vec<Option<Form>> {
    let all: Vec<Vec<(Form, Cost)>> = tasks.iter().map(|t| forms(t.op, t.weight_bits, t.width, t.n)).collect();
    let bytes = |cost: &Cost| (cost.to_p0 + cost.to_p1 - cost.keys) as f64 + cost.keys as f64 / sessions as f64;
    // The cheapest form of a matrix within limits of blocks by set.
    let best = |i: usize, limits: &[u64; 3]| {
        let within = all[i].iter().filter(|(form, cost)| cost.blocks <= limits[form.set as usize]);
        let cheapest = within.min_by(|(_, a), (_, b)| bytes(a).total_cmp(&bytes(b)));
        cheapest.filter(|(_, cost)| bytes(cost) < otherwise[i])
    };
    let total = |limits: &[u64; 3]| {
        let (mut sum, mut blocks) = (0.0, [0; 3]);
        for i in 0..tasks.len() {
            match best(i, limits) {
                Some((form, cost)) => {
                    sum += bytes(cost);
                    let most = &mut blocks[form.set as usize];
                    *most = cost.blocks.max(*most);
                }
                // What cannot be is not compared.
                None if otherwise[i] == f64::INFINITY => sum += 1e30,
                None => sum += otherwise[i],
            }
        }
        sum + Set::ALL.iter().map(|&set| (blocks[set as usize] * key_bytes(set)) as f64).sum::<f64>()
    };
    let counts = Set::ALL.map(|set| {
        let here = all.iter().flatten().filter(|(form, _)| form.set == set);
        let mut counts: Vec<u64> = here.map(|(_, cost)| cost.blocks).chain([0]).collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    });
    // From each set alone, and all together, one limit after the other as long as that helps.
    let starts = (0..=Set::ALL.len())
        .map(|alone| std::array::from_fn(|set| if alone == set || alone == 3 { u64::MAX } else { 0 }));
    let settle = |mut limits: [u64; 3]| {
        let mut least = total(&limits);
        loop {
            let before = least;
            for (set, counts) in counts.iter().enumerate() {
                for &count in counts {
                    let mut other = limits;
                    other[set] = count;
                    let sum = total(&other);
                    if sum < least {
                        (least, limits) = (sum, other);
                    }
                }
            }
            if least == before {
                return (least, limits);
            }
        }
    };
    let (_, limits) = starts.map(settle).min_by(|(a, _), (b, _)| a.total_cmp(b)).expect("there are starts");
    (0..tasks.len()).map(|i| best(i, &limits).map(|(form, _)| *form)).collect()
}

/// Blocks of each set that a session's matrices take.
pub(super) fn blocks<'a>(shapes: impl Iterator<Item = &'a Shape>) -> Vec<(Set, usize)> {
    let mut all: Vec<(Set, usize)> = Vec::new();
    for shape in shapes {
        let (set, blocks) = (shape.form.set, shape.blocks());
        match all.iter_mut().find(|(s, _)| *s == set) {
            Some((_, most)) => *most = blocks.max(*most),
            None => all.push((set, blocks)),
        }
    }
    all.sort_unstable();
    all
}
