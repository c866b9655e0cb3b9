//! FastGRNN as a program of two parties: `c = x W + h U; g = sigmoid(c + bg); h~ = tanh(c + bh);
//! h' = (zeta (1 - g) + nu) h~ + g h`, exactly as `tools/README.md` defines it on integers.
//!
//! What decides rounds and bytes:
//!
//! * The first layer's chain `W` runs over all steps and items before the loop. Further layers stand in the same loop
//!   body and read the state that the layer below has just made, so stacked layers overlap.
//! * A product's truncation, its wrap and the extension for the next product are one carry tree ([`super::rescale`]).
//! * Only `16 - left` bits of the pre-activation matter: the chains' results are made in that ring, where their sum is
//!   the wrap, and the activations run on it as it is (`trailing_zeros`). No bit is moved up and down again.
//! * Values are dealt in the ring where they are used next; there a few more bits cost little, while an extension
//!   later costs rounds: `g` in the ring of `zeta (1 - g)`, `z` in that of `z h~`, the state in the widest of its readers'.
//! * Rounding down, `h' = floor((floor(g h / 2^a) 2^s + z h~) / 2^s)`: wrap, second truncation and the extension for
//!   the next step are one tree. `floor(g h / 2^a)` is ready before `z h~` is.
//! * `zeta` and `nu` are not negative and `z` fits 16 bits: facts of the format, checked when weights are loaded.
//!   Hence `zeta (1 - g)` needs no sign, and `z h~` no wrap between its two rescales.

use super::description::{ACTIVATION_BITS, Description, Factor, Layer, Reveal};
use super::fused::FusedCell;
use crate::fixed::{math, wrap};
use crate::program::{Build, Cx, Function, Int, Own, Profile, Program, Reg, refuse, signed};
use crate::protocols::basic::{self, Repeat, Share, SubtractFrom};
use crate::protocols::linear::Linear;
use crate::protocols::product::Product;
use crate::protocols::rescale::Rescale;
use crate::protocols::select::ArgMax;
use crate::protocols::sigmoid::{Sigmoid, Tanh};
use crate::protocols::truncation::{Rounding, Shift};
use sirnn_backends::inst::{LinearOp, Party};

/// Elements of the largest register.
const MAX_ELEMENTS: u64 = 1 << 31;

/// What the two parties agree on beside the description. The results are the same bits in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// The client also gets the last layer's final state, as output `hidden`: `[batch, hidden]`. For tests of exactness.
    pub hidden: bool,
    /// Cells are one look-up each where the pre-activation is narrow enough ([`super::fused`]).
    pub fuse: bool,
}

/// The program of a model for `batch` items.
///
/// Inputs are `x` of the client, `[steps, batch, features]`, and the server's [`super::Weights::inputs`]. Outputs, all to
/// the client: `scores` `[batch, classes]` (if the description says so) and `class` `[batch]`.
///
/// # Errors
/// If a matrix's shape is missing, a product needs more than 64 bits, or the batch is too large.
pub fn build(description: &Description, batch: usize, profile: Profile) -> Build<Program> {
    build_with(description, batch, profile, Extra::default())
}

/// [`build`], with further outputs.
///
/// # Errors
/// As [`build`].
pub fn build_with(description: &Description, batch: usize, profile: Profile, extra: Extra) -> Build<Program> {
    let d = description;
    if let Err(e) = d.validate().and_then(|()| d.require_complete()) {
        return refuse("model", e.to_string());
    }
    let widest =
        d.layer.iter().flat_map(|l| l.w.iter().filter_map(|f| f.columns).chain([l.hidden])).chain([d.features]);
    let per_item = u64::from(d.steps) * u64::from(widest.max().expect("layers")).max(u64::from(d.classes()));
    if batch == 0 || (batch as u64).saturating_mul(per_item) > MAX_ELEMENTS {
        return refuse("model", format!("a batch of {batch} items of {per_item} values per register"));
    }

    // Shapes and rings, from the last reader to the first.
    let classes = d.classes() as usize;
    let last = d.layer.last().expect("validated");
    let out = &d.output;
    let scores = Scores {
        op: LinearOp::MatMul { inner: last.hidden, outer: classes as u32 },
        rescale: Rescale {
            floor: out.floor,
            shift: out.shift,
            left: 0,
            out: None,
            then: 0,
            rounding: d.rounding,
            width: out.out,
        },
        width: out.out,
    };
    let bias_range = min_signed(out.bias.bits.saturating_sub(out.bias.shift).max(1), out.out);
    let scores = scores.with_slack(signed(out.bits), signed(last.state.bits), bias_range);
    let mut readers = vec![scores.ring(signed(out.bits), signed(last.state.bits))];
    let mut plans = Vec::new();
    for (i, layer) in d.layer.iter().enumerate().rev() {
        let inputs = if i == 0 { signed(d.input.bits) } else { signed(d.layer[i - 1].state.bits) };
        let plan = Plan::new(d, layer, d.layer_inputs(i), inputs, &readers, extra.fuse);
        readers = vec![plan.w[0].ring];
        plans.push(plan);
    }
    plans.reverse();

    let mut builder = Cx::new(profile);
    let cx = &mut builder;
    // The client's numbers come in the ring of their first product: its holder extends them.
    let (rows, n) = (d.steps as usize * batch, d.item_len() * batch);
    let x = cx.input("x", Party::P1, readers[0].max(d.input.bits), n, signed(d.input.bits));
    let parameters: Vec<Parameters> = d
        .layer
        .iter()
        .zip(&plans)
        .enumerate()
        .map(|(i, (layer, plan))| Parameters::declare(cx, i, layer, plan))
        .collect();
    let weights = cx.input("output.weights", Party::P0, out.bits, scores.op.weights(), signed(out.bits));
    let bias = cx.input("output.bias", Party::P0, scores.width, classes, bias_range);

    let x = cx.call_int(Share, &[x.0])?;
    let (mut initial, mut shared) = (Vec::new(), Vec::new());
    for ((layer, plan), p) in d.layer.iter().zip(&plans).zip(&parameters) {
        let h = cx.call_int(Zeros { width: plan.cell.width(), len: batch * layer.hidden as usize }, &[])?;
        initial.push((h, signed(layer.state.bits)));
        shared.push(p.constants.share(cx, batch, layer.hidden as usize)?);
    }
    debug_assert_eq!(rows * d.features as usize, n, "rows of the first product");
    let a = cx.named("input products", |cx| chain(cx, &plans[0].w, &parameters[0].w, x))?;

    let (state, _) = cx.scan(d.steps as usize, &initial, &[a], |cx, state, slices| {
        let mut next = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            let (parameters, shared) = (&parameters[i], &shared[i]);
            let h = cx.named(&format!("layer {i}"), |cx| {
                let a = match next.last() {
                    None => slices[0],
                    Some(&below) => chain(cx, &plan.w, &parameters.w, below)?,
                };
                let b = chain(cx, &plan.u, &parameters.u, state[i])?;
                let ins = [shared.as_slice(), &[a.0, b.0, state[i].0]].concat();
                match &plan.cell {
                    Step::Separate(cell) => cx.call_int((**cell).clone(), &ins),
                    Step::Fused(cell) => cx.call_int(*cell, &ins),
                }
            })?;
            next.push(h);
        }
        Ok((next, Vec::new()))
    })?;

    let h = *state.last().expect("layers");
    let reveal = |cx: &mut Cx, name: &str, value: Int| -> Build<()> {
        let revealed = cx.call(basic::Reveal { to: Party::P1 }, &[value.0])?[0];
        cx.output(name, Own(revealed));
        Ok(())
    };
    if extra.hidden {
        reveal(cx, "hidden", h)?;
    }
    let bias = cx.call_int(Share, &[bias.0])?;
    let bias = cx.call_int(Repeat { times: batch }, &[bias.0])?;
    let scores = cx.call_int(scores, &[weights.0, h.0, bias.0])?;
    if d.reveal == Reveal::Scores {
        reveal(cx, "scores", scores)?;
    }
    let class = cx.call_int(ArgMax { classes }, &[scores.0])?;
    reveal(cx, "class", class)?;
    Ok(builder.finish())
}

fn min_signed(a: u32, b: u32) -> (i128, i128) {
    signed(a.min(b))
}

/// Range of a sum of `terms` products.
fn products((a, b): (i128, i128), (c, d): (i128, i128), terms: u32) -> (i128, i128) {
    let all = [a * c, a * d, b * c, b * d].map(|v| v * i128::from(terms));
    (*all.iter().min().expect("four"), *all.iter().max().expect("four"))
}

/// A link of a chain: the map, its rescale, and the ring it is computed in.
#[derive(Clone, Copy, Debug)]
struct Link {
    op: LinearOp,
    rescale: Rescale,
    bits: u32,
    ring: u32,
}

impl Link {
    /// The links of a chain on operands in `range`, rescaled by `then` at the end and left in `width` bits.
    fn chain(
        d: &Description,
        layer: &Layer,
        factors: &[Factor],
        inputs: u32,
        range: (i128, i128),
        then: u32,
        width: u32,
    ) -> Vec<Link> {
        let mut links = Vec::new();
        let mut sums = Vec::new();
        let mut range = range;
        for (i, (f, shape)) in factors.iter().zip(layer.shapes(factors, inputs)).enumerate() {
            let (inner, outer) = (shape.0.expect("complete"), shape.1.expect("complete"));
            let last = i + 1 == factors.len();
            let rescale = Rescale {
                floor: f.floor,
                shift: f.shift,
                left: f.left,
                out: Some(f.out),
                then: if last { then } else { 0 },
                rounding: d.rounding,
                width: if last { width } else { f.out },
            };
            let sum = products(signed(f.bits), range, inner);
            range = rescale.range(sum.0, sum.1);
            sums.push(sum);
            links.push(Link { op: LinearOp::MatMul { inner, outer }, rescale, bits: f.bits, ring: 0 });
        }
        let mut need = width;
        for (link, &(lo, hi)) in links.iter_mut().zip(&sums).rev() {
            // Between products the value stays whole, in the ring of the next.
            link.rescale.width = need.max(link.rescale.width);
            link.ring = link.rescale.ring(lo, hi);
            need = link.ring;
        }
        links
    }
}

impl Function for Link {
    fn name(&self) -> &'static str {
        "chain product"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let sums = Linear { op: self.op, width: 64 }.clear(ins);
        self.rescale.clear(&[&sums[0]])
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let sum = cx.call_int(Linear { op: self.op, width: self.ring }, ins)?;
        Ok(vec![cx.call_int(self.rescale, &[sum.0])?.0])
    }
}

fn chain(cx: &mut Cx, links: &[Link], weights: &[Own], x: Int) -> Build<Int> {
    let mut x = x;
    for (link, w) in links.iter().zip(weights) {
        x = cx.call_int(*link, &[w.0, x.0])?;
    }
    Ok(x)
}

/// What follows the chains in a step.
#[derive(Debug)]
enum Step {
    Separate(Box<Cell>),
    Fused(FusedCell),
}

impl Step {
    /// Ring of the state.
    fn width(&self) -> u32 {
        match self {
            Step::Separate(cell) => cell.width,
            Step::Fused(cell) => cell.width,
        }
    }
}

/// Rings of a layer.
#[derive(Debug)]
struct Plan {
    w: Vec<Link>,
    u: Vec<Link>,
    cell: Step,
}

impl Plan {
    /// `inputs` numbers in `range` come in; `readers` are the rings in which others read the state.
    fn new(d: &Description, layer: &Layer, inputs: u32, range: (i128, i128), readers: &[u32], fuse: bool) -> Self {
        let pre = &layer.pre;
        let significant = ACTIVATION_BITS - pre.left;
        let sum = significant.min(pre.bits);
        let w = Link::chain(d, layer, &layer.w, inputs, range, pre.shift_w, sum);
        let u = Link::chain(d, layer, &layer.u, layer.hidden, signed(layer.state.bits), pre.shift_u, sum);
        let state = readers.iter().copied().chain([u[0].ring, layer.state.bits]).max().expect("readers");
        let cell = match FusedCell::new(d, layer).filter(|_| fuse) {
            // One bit more than the state's own, for the product with the gate.
            Some(cell) => Step::Fused(cell.with_width(state.max(layer.state.bits + 1))),
            None => Step::Separate(Box::new(Cell::new(d, layer, sum, state))),
        };
        Plan { w, u, cell }
    }
}

/// A layer's private inputs.
#[derive(Debug)]
struct Parameters {
    w: Vec<Own>,
    u: Vec<Own>,
    constants: Constants,
}

/// What a step takes beside the chains' results.
#[derive(Debug)]
enum Constants {
    Separate { zeta: Own, nu: Own, gate_bias: Own, candidate_bias: Own },
    Fused { tables: [Own; 2] },
}

impl Parameters {
    fn declare(cx: &mut Cx, index: usize, layer: &Layer, plan: &Plan) -> Self {
        let name = |part: &str| format!("layer{index}.{part}");
        let links = |cx: &mut Cx, letter: &str, links: &[Link]| -> Vec<Own> {
            let declare = |(i, l): (usize, &Link)| {
                cx.input(&name(&format!("{letter}{i}")), Party::P0, l.bits, l.op.weights(), signed(l.bits))
            };
            links.iter().enumerate().map(declare).collect()
        };
        let (w, u) = (links(cx, "w", &plan.w), links(cx, "u", &plan.u));
        let constants = match &plan.cell {
            Step::Fused(cell) => {
                let declare = |(part, width, range)| cx.input(&name(part), Party::P0, width, cell.entries(), range);
                Constants::Fused { tables: cell.tables().map(declare) }
            }
            Step::Separate(cell) => {
                let hidden = layer.hidden as usize;
                let significant = ACTIVATION_BITS - layer.pre.left;
                let bias = min_signed(layer.pre.bias_bits, significant);
                Constants::Separate {
                    zeta: cx.input(&name("zeta"), Party::P0, layer.zeta.bits, 1, (0, layer.max_zeta())),
                    nu: cx.input(&name("nu"), Party::P0, cell.z.width, 1, (0, layer.max_nu())),
                    gate_bias: cx.input(&name("gate_bias"), Party::P0, significant, hidden, bias),
                    candidate_bias: cx.input(&name("candidate_bias"), Party::P0, significant, hidden, bias),
                }
            }
        };
        Parameters { w, u, constants }
    }
}

impl Constants {
    /// The first operands of a step: vectors as shares, once per unit and item.
    fn share(&self, cx: &mut Cx, batch: usize, hidden: usize) -> Build<Vec<Reg>> {
        let mut share = |v: Own, times| -> Build<Reg> {
            let v = cx.call_int(Share, &[v.0])?;
            Ok(cx.call_int(Repeat { times }, &[v.0])?.0)
        };
        Ok(match self {
            Constants::Fused { tables } => tables.map(Reg::from).to_vec(),
            Constants::Separate { zeta, nu, gate_bias, candidate_bias } => {
                vec![zeta.0, share(*nu, batch * hidden)?, share(*gate_bias, batch)?, share(*candidate_bias, batch)?]
            }
        })
    }
}

/// A public vector of zeros.
#[derive(Clone, Copy, Debug)]
struct Zeros {
    width: u32,
    len: usize,
}

impl Function for Zeros {
    fn name(&self) -> &'static str {
        "zeros"
    }
    fn clear(&self, _: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![vec![0; self.len]]
    }
    fn lower(&self, cx: &mut Cx, _: &[Reg]) -> Build<Vec<Reg>> {
        Ok(vec![cx.public(self.width, vec![0; self.len]).0])
    }
}

/// A step behind the chains. Operands: `zeta` (private to P0), `nu` rescaled, biases, the two chains' results modulo
/// `2^sum`, `h`. Result: `h'`.
#[derive(Clone, Debug)]
struct Cell {
    /// Bits of the pre-activation that matter, at most those it is wrapped to.
    sum: u32,
    left: u32,
    sigmoid: math::Sigmoid,
    tanh: math::Tanh,
    rounding: Rounding,
    max_z: i128,
    state_bits: u32,
    gate_shift: u32,
    candidate_shift: u32,
    out_shift: u32,
    /// `zeta (1 - g)`: its ring and rescale, to the ring of `z h~`.
    zeta_ring: u32,
    z: Rescale,
    /// `g h`.
    gated_ring: u32,
    gated: Rescale,
    /// `z h~`: its ring, and its rescale if it is not added to `g h` before that.
    update_ring: u32,
    update: Option<Rescale>,
    /// Rings of the activations.
    gate_width: u32,
    candidate_width: u32,
    /// Ring of the result.
    width: u32,
}

impl Cell {
    /// `readers` is the widest ring in which the state is read.
    fn new(d: &Description, layer: &Layer, sum: u32, readers: u32) -> Self {
        let (pre, state) = (&layer.pre, &layer.state);
        let (gate, candidate) = (layer.gate.scale, layer.candidate.scale);
        let scale = pre.scale as i32;
        let sigmoid = math::Sigmoid::new(ACTIVATION_BITS, scale, gate).expect("validated scales");
        let tanh = math::Tanh::new(ACTIVATION_BITS, scale, candidate).expect("validated scales");
        let (gate_range, candidate_range) = ((0, 1i128 << gate), (-(1i128 << candidate), 1i128 << candidate));

        let range = products(gate_range, signed(state.bits), 1);
        let least = Rescale::by(state.gate_shift, d.rounding, state.bits);
        let width = readers.max(least.ring(range.0, range.1));
        // A state that cannot wrap is dealt in its readers' ring; one that can has to be extended after the sum.
        let dealt = if state.fits() { width } else { state.bits };
        let gated = Rescale { width: dealt, ..least };
        let gated_ring = gated.ring(range.0, range.1);

        let update = Rescale {
            floor: 0,
            shift: state.candidate_shift,
            left: 0,
            out: Some(ACTIVATION_BITS),
            then: state.out_shift,
            rounding: d.rounding,
            width: dealt,
        };
        let (lo, hi) = products((0, layer.max_z()), candidate_range, 1);
        let whole = dealt + state.candidate_shift + state.out_shift;
        let together = d.rounding == Rounding::Floor && !update.wraps(lo, hi) && whole <= 64;
        let update_ring = if together { whole } else { update.ring(lo, hi) };

        let z = Rescale::by(layer.zeta.shift, d.rounding, update_ring.max(ACTIVATION_BITS + 1));
        let zeta_range = products((0, layer.max_zeta()), gate_range, 1);
        let zeta_ring = z.ring(zeta_range.0, zeta_range.1).max(layer.zeta.bits);
        Cell {
            sum,
            left: pre.left,
            sigmoid,
            tanh,
            rounding: d.rounding,
            max_z: layer.max_z(),
            state_bits: state.bits,
            gate_shift: state.gate_shift,
            candidate_shift: state.candidate_shift,
            out_shift: state.out_shift,
            zeta_ring,
            z,
            gated_ring,
            gated,
            update_ring,
            update: (!together).then_some(update),
            gate_width: zeta_ring.max(gate + 2),
            // One bit of slack for the product.
            candidate_width: candidate + 3,
            width,
        }
    }

    /// `zeta (1 - g) + nu`.
    fn mix(&self, cx: &mut Cx, zeta: Reg, nu: Int, g: Int) -> Build<Int> {
        let open = cx.call_int(SubtractFrom(1 << self.sigmoid.exp.s_out), &[g.0])?;
        let op = LinearOp::Scale { period: 1 };
        let product = cx.call_int(Linear { op, width: self.zeta_ring }, &[zeta, open.0])?;
        let product = cx.call_int(self.z, &[product.0])?;
        let z = cx.add(product, nu);
        Ok(cx.retype(z, 0, self.max_z))
    }
}

impl Function for Cell {
    fn name(&self) -> &'static str {
        "fastgrnn"
    }

    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let &[zeta, nu, gate_bias, candidate_bias, a, b, h] = ins else { unreachable!("seven operands") };
        let zeta = zeta[0];
        let rescale = |v, shift| self.rounding.apply(v, shift);
        let step = |i: usize| {
            let c = wrap(a[i] + b[i], self.sum, true);
            let activate = |bias: i128| wrap((c + bias) << self.left, ACTIVATION_BITS, true);
            let g = self.sigmoid.eval(activate(gate_bias[i]));
            let candidate = self.tanh.eval(activate(candidate_bias[i]));
            let product = zeta * ((1 << self.sigmoid.exp.s_out) - g);
            let z = wrap(rescale(product, self.z.shift) + nu[i], ACTIVATION_BITS, true);
            let update = wrap(rescale(z * candidate, self.candidate_shift), ACTIVATION_BITS, true);
            wrap(rescale(g * h[i], self.gate_shift) + rescale(update, self.out_shift), self.state_bits, true)
        };
        vec![(0..h.len()).map(step).collect()]
    }

    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let &[zeta, nu, gate_bias, candidate_bias, a, b, h] = ins else { unreachable!("seven operands") };
        let c = cx.add(Int(a), Int(b));
        let (lo, hi) = signed(self.sum);
        let c = cx.retype(c, lo, hi);
        let significant = ACTIVATION_BITS - self.left;
        let c = cx.extend(c, significant)?;
        let trailing_zeros = self.left.min(math::DIGIT_BITS - 1);
        let activate = |cx: &mut Cx, bias: Reg| {
            let x = cx.add(c, Int(bias));
            let (lo, hi) = signed(significant);
            let x = cx.retype(x, lo, hi);
            cx.shl(x, self.left - trailing_zeros, ACTIVATION_BITS - trailing_zeros)
        };
        let (x, y) = (activate(cx, gate_bias), activate(cx, candidate_bias));
        let sigmoid = Sigmoid { reference: self.sigmoid.clone(), trailing_zeros, width: self.gate_width };
        let tanh = Tanh { reference: self.tanh.clone(), trailing_zeros, width: self.candidate_width };
        let g = cx.call_int(sigmoid, &[x.0])?;
        let candidate = cx.call_int(tanh, &[y.0])?;

        let gated = cx.call_int(Product { width: self.gated_ring }, &[g.0, h])?;
        let gated = cx.call_int(self.gated, &[gated.0])?;
        let z = cx.named("mix", |cx| self.mix(cx, zeta, Int(nu), g))?;
        let update = cx.call_int(Product { width: self.update_ring }, &[z.0, candidate.0])?;
        let (lo, hi) = signed(self.state_bits);
        let next = match self.update {
            None => {
                let down = self.candidate_shift + self.out_shift;
                let kept = cx.shl(gated, down, self.update_ring);
                let sum = cx.add(kept, update);
                let (lo, hi) = signed(self.update_ring);
                let sum = cx.retype(sum, lo, hi);
                cx.call_int(Shift::down(down, self.width), &[sum.0])?
            }
            Some(rescale) => {
                let update = cx.call_int(rescale, &[update.0])?;
                let sum = cx.add(gated, update);
                let sum = cx.retype(sum, lo, hi);
                cx.extend(sum, self.width)?
            }
        };
        Ok(vec![cx.retype(next, lo, hi).0])
    }
}

/// `wrap_out(R(floor(h M / 2^floor), shift) + bias)`. Operands: weights, state, bias rescaled.
#[derive(Clone, Copy, Debug)]
struct Scores {
    op: LinearOp,
    /// `width` there is that of the scores.
    rescale: Rescale,
    /// Ring of the result.
    width: u32,
}

impl Scores {
    fn sums(&self, weights: (i128, i128), h: (i128, i128)) -> (i128, i128) {
        let LinearOp::MatMul { inner, .. } = self.op else { unreachable!("a matrix") };
        products(weights, h, inner)
    }

    /// In a ring one bit wider if nothing can wrap: comparisons then need no extension.
    fn with_slack(self, weights: (i128, i128), h: (i128, i128), bias: (i128, i128)) -> Self {
        let (lo, hi) = self.sums(weights, h);
        let wide = Rescale { width: 64, ..self.rescale };
        let (least, largest) = signed(self.rescale.width);
        let fits = wide.of(lo) + bias.0 >= least && wide.of(hi) + bias.1 <= largest;
        Self { width: self.rescale.width + u32::from(fits), ..self }
    }

    fn ring(&self, weights: (i128, i128), h: (i128, i128)) -> u32 {
        let (lo, hi) = self.sums(weights, h);
        Rescale { width: self.width, ..self.rescale }.ring(lo, hi)
    }
}

impl Function for Scores {
    fn name(&self) -> &'static str {
        "scores"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let sums = Linear { op: self.op, width: 64 }.clear(&ins[..2]);
        let score = |(&sum, &bias): (&i128, &i128)| wrap(self.rescale.value(sum) + bias, self.rescale.width, true);
        vec![sums[0].iter().zip(ins[2]).map(score).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let range = |r: Reg| (cx.ty(r).lo, cx.ty(r).hi);
        let width = self.ring(range(ins[0]), range(ins[1]));
        let sum = cx.call_int(Linear { op: self.op, width }, &ins[..2])?;
        let scaled = cx.call_int(Rescale { width: self.width, ..self.rescale }, &[sum.0])?;
        let scores = cx.add(scaled, Int(ins[2]));
        let (lo, hi) = signed(self.rescale.width);
        Ok(vec![cx.retype(scores, lo, hi).0])
    }
}
