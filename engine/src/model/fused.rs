//! The fused FastGRNN cell: gate, candidate, biases, `zeta` and `nu` as one look-up.
//!
//! All of them depend on one number per unit, the pre-activation `c`, and on the server's constants. So
//! `h' = R(g h, gate_shift) + q` with `(g, q)` an entry of a table that the server computes in clear, one per unit, from the
//! very functions that the separate operations are defined by: where `c` has at most [`MAX_INDEX`] significant bits (it is
//! wrapped to `16 - left` of them), the result is the same bits for every input.
//!
//! Rounds per step: the chain's, then look-up 2, product 1, rescale. Bytes online: `2^d (bits of g + bits of q) / 8` per unit.
//! Privacy: the client learns one masked entry per look-up, hence nothing of biases, `zeta` and `nu`; the server nothing of `c`.
//!
//! The tables also prove that the state does not wrap, where types cannot: [`Tables::state_fits`] iterates intervals over
//! the known number of steps, every entry of every unit at every step. It is a fact about the weights that the server
//! adds to the public description (`state.fits`), and that saves the comparison that extending a wrapped state costs.

use super::description::{ACTIVATION_BITS, Description, Layer};
use crate::fixed::{math, wrap};
use crate::program::{Build, Cx, Function, Holder, Int, Own, Reg, Ty, bits_for, refuse, signed};
use crate::protocols::lookup::MAX_INDEX;
use crate::protocols::product::Product;
use crate::protocols::rescale::Rescale;
use crate::protocols::truncation::Rounding;
use sirnn_backends::inst::{Inst, Party, Ring, Table};

/// Table entries times steps up to which the state is followed: seconds.
const MAX_PROOF: u64 = 1 << 31;

/// The tables of a layer: entry `e` of unit `u` stands at `(u << index) + e`; `e` is `c` modulo `2^index`.
pub struct Tables {
    /// Bits of the index.
    pub index: u32,
    /// `g = sigmoid(.)`.
    pub gate: Vec<i128>,
    /// `q = R(R(z h~, candidate_shift), out_shift)`.
    pub update: Vec<i128>,
}

/// A layer's constants, as the program uses them.
pub struct Constants<'a> {
    /// One per unit.
    pub gate_bias: &'a [i128],
    /// One per unit.
    pub candidate_bias: &'a [i128],
    /// Not rescaled.
    pub zeta: i128,
    /// Rescaled.
    pub nu: i128,
}

/// Bits of the pre-activation that decide the activations; `None` if they are too many for a table.
pub fn index_bits(layer: &Layer) -> Option<u32> {
    Some((ACTIVATION_BITS - layer.pre.left).min(layer.pre.bits)).filter(|&d| d <= MAX_INDEX)
}

impl Tables {
    /// Evaluates every entry by the functions of the cell; `None` if they are too many.
    pub fn new(layer: &Layer, rounding: Rounding, constants: &Constants<'_>) -> Option<Self> {
        let index = index_bits(layer)?;
        let scale = layer.pre.scale as i32;
        let sigmoid = math::Sigmoid::new(ACTIVATION_BITS, scale, layer.gate.scale).expect("validated scales");
        let tanh = math::Tanh::new(ACTIVATION_BITS, scale, layer.candidate.scale).expect("validated scales");
        let (mut gate, mut update) = (Vec::new(), Vec::new());
        for (gate_bias, candidate_bias) in constants.gate_bias.iter().zip(constants.candidate_bias) {
            for e in 0..1i128 << index {
                let c = wrap(e, index, true);
                let activate = |bias: &i128| wrap((c + bias) << layer.pre.left, ACTIVATION_BITS, true);
                let g = sigmoid.eval(activate(gate_bias));
                let candidate = tanh.eval(activate(candidate_bias));
                let mixed = rounding.apply(constants.zeta * ((1 << layer.gate.scale) - g), layer.zeta.shift);
                let z = wrap(mixed + constants.nu, ACTIVATION_BITS, true);
                let first = wrap(rounding.apply(z * candidate, layer.state.candidate_shift), ACTIVATION_BITS, true);
                gate.push(g);
                update.push(rounding.apply(first, layer.state.out_shift));
            }
        }
        Some(Self { index, gate, update })
    }

    /// Whether every state of every input stays in the state's width for `steps` steps: intervals of all states after
    /// each step, over every entry, from 0 on.
    pub fn state_fits(&self, layer: &Layer, rounding: Rounding, steps: u32) -> bool {
        let (least, most) = signed(layer.state.bits);
        let mut units = self.gate.chunks(1 << self.index).zip(self.update.chunks(1 << self.index));
        self.gate.len() as u64 * u64::from(steps) <= MAX_PROOF
            && units.all(|(gate, update)| {
                let (mut lo, mut hi) = (0i128, 0i128);
                for _ in 0..steps {
                    let before = (lo, hi);
                    for (g, q) in gate.iter().zip(update) {
                        // g is not negative, so that g h grows with h.
                        lo = lo.min(rounding.apply(g * before.0, layer.state.gate_shift) + q);
                        hi = hi.max(rounding.apply(g * before.1, layer.state.gate_shift) + q);
                    }
                    if lo < least || hi > most {
                        return false;
                    }
                    if (lo, hi) == before {
                        break;
                    }
                }
                true
            })
    }
}

/// A step behind the chains, fused. Operands: gate table, update table (private to P0), the two chains' results
/// modulo `2^index`, `h`. Result: `h'`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FusedCell {
    index: u32,
    units: u32,
    gate_shift: u32,
    rounding: Rounding,
    state_bits: u32,
    /// Whether the state is known not to wrap.
    fits: bool,
    /// Ranges of the table's columns.
    gate: (i128, i128),
    update: (i128, i128),
    /// Ring of the result.
    pub(super) width: u32,
}

impl FusedCell {
    /// `None` if the pre-activation has too many bits. Set `width` to what the readers of the state need.
    pub(super) fn new(d: &Description, layer: &Layer) -> Option<Self> {
        let index = index_bits(layer)?;
        let scale = layer.pre.scale as i32;
        let sigmoid = math::Sigmoid::new(ACTIVATION_BITS, scale, layer.gate.scale).expect("validated scales");
        let tanh = math::Tanh::new(ACTIVATION_BITS, scale, layer.candidate.scale).expect("validated scales");
        let (gate, candidate) = (sigmoid.ranges().result, tanh.ranges().result);
        // R(wrap(R(z h~, candidate_shift)), out_shift)
        let update = Rescale {
            out: Some(ACTIVATION_BITS),
            then: layer.state.out_shift,
            ..Rescale::by(layer.state.candidate_shift, d.rounding, 64)
        };
        Some(Self {
            index,
            units: layer.hidden,
            gate_shift: layer.state.gate_shift,
            rounding: d.rounding,
            state_bits: layer.state.bits,
            fits: layer.state.fits(),
            gate: (gate.lo, gate.hi),
            update: update.range(layer.max_z() * candidate.lo, layer.max_z() * candidate.hi),
            width: layer.state.bits,
        })
    }

    /// The same with its result in a ring of `width` bits.
    pub(super) fn with_width(self, width: u32) -> Self {
        Self { width, ..self }
    }

    /// Rings of the table's columns, with a slack bit.
    fn columns(&self) -> [u32; 2] {
        [self.gate, self.update].map(|(lo, hi)| bits_for(hi - lo) + 1)
    }

    /// The private inputs: name, width and range of each table.
    pub(super) fn tables(&self) -> [(&'static str, u32, (i128, i128)); 2] {
        let [gate, update] = self.columns();
        [("gate_table", gate, self.gate), ("update_table", update, self.update)]
    }

    /// Entries of a table.
    pub(super) fn entries(&self) -> usize {
        (self.units as usize) << self.index
    }

    fn gated(&self) -> Rescale {
        Rescale::by(self.gate_shift, self.rounding, if self.fits { self.width } else { self.state_bits })
    }
}

impl Function for FusedCell {
    fn name(&self) -> &'static str {
        "fused fastgrnn"
    }

    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let &[gate, update, a, b, h] = ins else { unreachable!("five operands") };
        let step = |i: usize| {
            let c = (a[i] + b[i]).rem_euclid(1 << self.index) as usize;
            let e = ((i % self.units as usize) << self.index) + c;
            wrap(self.rounding.apply(gate[e] * h[i], self.gate_shift) + update[e], self.state_bits, true)
        };
        vec![(0..h.len()).map(step).collect()]
    }

    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let &[gate, update, a, b, h] = ins else { unreachable!("five operands") };
        if cx.len(gate) != self.entries() || cx.len(update) != self.entries() {
            return refuse("fused fastgrnn", format!("tables of {} entries are expected", self.entries()));
        }
        let c = cx.add(Int(a), Int(b));
        let c = cx.reduce(c, self.index);
        let shares = Party::BOTH.map(|p| cx.view(c, p));
        let columns = self.columns().map(|w| Ring::Add(w as u8));
        let inst = Inst::Lookup {
            sender: Party::P0,
            index: self.index as u8,
            xor_index: 0,
            units: self.units,
            table: Table::Private,
            columns: columns.to_vec(),
        };
        let len = cx.len(h);
        let tys = self.tables().map(|(_, width, (lo, hi))| Ty {
            ring: Ring::Add(width as u8),
            len,
            holder: Holder::Both,
            lo,
            hi,
        });
        let ins = [shares[0].0, shares[1].0, Own(gate).0, Own(update).0];
        let looked_up = cx.named("table", |cx| cx.inter(inst, &ins, tys.to_vec()));
        let (g, q) = (Int(looked_up[0]), Int(looked_up[1]));

        let (lo, hi) = signed(self.state_bits);
        let gated = self.gated();
        let ring = gated.ring(lo * self.gate.1, hi * self.gate.1);
        let product = cx.call_int(Product { width: ring }, &[g.0, h])?;
        let kept = cx.call_int(gated, &[product.0])?;
        let q = cx.extend(q, cx.width(kept))?;
        let sum = cx.add(kept, q);
        let sum = cx.retype(sum, lo, hi);
        Ok(vec![cx.extend(sum, self.width)?.0])
    }
}
