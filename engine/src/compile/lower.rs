//! Pass 7, lower: every operation calls the protocol that exists for it.

use super::ir::{Def, Ir, Item, Rows, Shift, Unary, Val};
use super::rings::Rings;
use super::server::{Brought, Recipe};
use super::tables::Site;
use crate::graph::Graph;
use crate::program::{Bit, Build, Cx, Int, Own, Profile, Program, signed};
use crate::protocols::activation;
use crate::protocols::basic::{self, Share};
use crate::protocols::bits::signed_bits;
use crate::protocols::division::{DivideGeneral, Reciprocal};
use crate::protocols::exp::Exp;
use crate::protocols::linear::Linear;
use crate::protocols::lookup::{Column, Lookup, PrivateLookup};
use crate::protocols::matmul_shared::MatMul;
use crate::protocols::normalise::L2Normalise;
use crate::protocols::pool::DivideBy;
use crate::protocols::product::Product;
use crate::protocols::roots::Root;
use crate::protocols::select::{ArgMax, Max};
use crate::protocols::sigmoid::{Sigmoid, Tanh};
use crate::protocols::sign::Sign;
use sirnn_backends::inst::Party;
use std::collections::HashMap;
use std::sync::Arc;

/// A program, and how the server's inputs are made.
pub(super) struct Lowered {
    pub program: Program,
    pub server: Vec<Brought>,
}

/// Lowers everything.
pub(super) fn lower(graph: &Graph, ir: &Ir, rings: &Rings, profile: Profile) -> Build<Lowered> {
    let mut cx = Cx::new(profile);
    let mut lowering = Lowering {
        ir,
        rings,
        regs: vec![None; ir.values.len()],
        owned: HashMap::new(),
        sites: HashMap::new(),
        server: Vec::new(),
    };
    lowering.declare(&mut cx, graph)?;
    for item in &ir.top {
        match *item {
            Item::Value(v) => lowering.named(&mut cx, v)?,
            Item::Loop(l) => lowering.scan(&mut cx, l)?,
        }
    }
    for output in &ir.outputs {
        let value = lowering.reg(output.value);
        let revealed = cx.named("reveal", |cx| cx.call(basic::Reveal { to: Party::P1 }, &[value.0]))?[0];
        cx.output(&output.name, Own(revealed));
    }
    Ok(Lowered { program: cx.finish(), server: lowering.server })
}

/// Private inputs of the server, by what they are made of and the ring in which they are held.
type Key = (*const Recipe, u32);

struct Lowering<'a> {
    ir: &'a Ir,
    rings: &'a Rings,
    regs: Vec<Option<Int>>,
    owned: HashMap<Key, Own>,
    /// Columns of look-ups, by site and index value; before the look-up its tables.
    sites: HashMap<(*const Site, Val), Vec<Int>>,
    server: Vec<Brought>,
}

impl Lowering<'_> {
    fn ring(&self, v: Val) -> u32 {
        self.rings[v.index()]
    }

    fn reg(&self, v: Val) -> Int {
        self.regs[v.index()].unwrap_or_else(|| unreachable!("operands come first"))
    }

    /// Declares everything that the parties bring: before the first loop.
    fn declare(&mut self, cx: &mut Cx, graph: &Graph) -> Build<()> {
        for v in self.ir.order() {
            let value = self.ir.value(v);
            match &value.def {
                Def::Input { index, number } => {
                    // Its holder extends it to the ring of the first reader.
                    let width = self.ring(v).max(number.bits);
                    let own = cx.input(&graph.inputs[*index].name, Party::P1, width, value.len, number.range());
                    self.regs[v.index()] = Some(cx.call_int(Share, &[own.0])?);
                }
                Def::Server(recipe) => {
                    let ring = self.ring(v);
                    self.bring(cx, recipe, ring);
                }
                Def::Linear { weights, .. } => self.bring(cx, weights, weights.spec.bits),
                Def::Column { site, .. } if !site.public() => {
                    let key = Arc::as_ptr(site);
                    if !self.server.iter().any(|b| b.is_of(key)) {
                        for column in 0..site.columns.len() {
                            let name = format!("{}.table{column}", value.name);
                            let width = site.width(column, self.rings);
                            let own =
                                cx.input(&name, Party::P0, width, site.units << site.bits, site.held(width, column));
                            self.server.push(Brought::table(name, site.clone(), column, width, own));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn bring(&mut self, cx: &mut Cx, recipe: &Arc<Recipe>, width: u32) {
        let key = (Arc::as_ptr(recipe), width);
        if self.owned.contains_key(&key) {
            return;
        }
        let tensor = &recipe.spec.tensor;
        let uses =
            self.server.iter().filter(|b| b.name == *tensor || b.name.starts_with(&format!("{tensor}#"))).count();
        let name = if uses == 0 { tensor.clone() } else { format!("{tensor}#{uses}") };
        let (lo, hi) = recipe.range();
        // In a ring that is narrower than the numbers only their low bits are asked for.
        let range = if signed_bits(lo, hi) > width { signed(width) } else { (lo, hi) };
        let own = cx.input(&name, Party::P0, width, recipe.len(), range);
        self.owned.insert(key, own);
        self.server.push(Brought::tensor(name, recipe.clone(), width));
    }

    fn named(&mut self, cx: &mut Cx, v: Val) -> Build<()> {
        let name = self.ir.value(v).name.clone();
        let node = name.rsplit('/').next().unwrap_or_default().to_string();
        let reg = cx.named(&node, |cx| self.value(cx, v));
        let reg = reg.map_err(|e| crate::program::BuildError { what: format!("node '{name}': {}", e.what), ..e })?;
        self.regs[v.index()] = Some(reg);
        Ok(())
    }

    fn scan(&mut self, cx: &mut Cx, index: usize) -> Build<()> {
        let l = &self.ir.loops[index];
        let range = |v: Val| (self.ir.value(v).lo, self.ir.value(v).hi);
        let state: Vec<_> = l.states.iter().map(|s| (self.reg(s.init), range(s.param))).collect();
        let xs: Vec<Int> = l.slices.iter().map(|s| self.reg(s.0)).collect();
        let (lasts, stacks) = cx.named(&l.name, |cx| {
            cx.scan(l.trips, &state, &xs, |cx, params, slices| {
                for (s, &reg) in l.states.iter().zip(params) {
                    self.regs[s.param.index()] = Some(reg);
                }
                for (s, &reg) in l.slices.iter().zip(slices) {
                    self.regs[s.1.index()] = Some(reg);
                }
                for &v in &l.body {
                    self.named(cx, v)?;
                }
                let next = l.states.iter().map(|s| self.dealt(cx, s.next, self.ring(s.param)));
                let next = next.collect::<Build<Vec<Int>>>()?;
                // What only the last step hands out is a state that nobody reads.
                let stacks = l.stacks.iter().map(|s| self.reg(s.0)).collect();
                Ok((next, stacks))
            })
        })?;
        for &(inner, outer) in &l.lasts {
            let state = l.states.iter().position(|s| s.next == inner).expect("made a state by `super::close_lasts`");
            self.regs[outer.index()] = Some(lasts[state]);
        }
        for (&(_, outer), &reg) in l.stacks.iter().zip(&stacks) {
            self.regs[outer.index()] = Some(reg);
        }
        Ok(())
    }

    /// A value in a ring of exactly `width` bits.
    fn dealt(&self, cx: &mut Cx, v: Val, width: u32) -> Build<Int> {
        cx.extend(self.reg(v), width)
    }

    fn value(&mut self, cx: &mut Cx, v: Val) -> Build<Int> {
        let value = self.ir.value(v);
        let ring = self.ring(v);
        let operand = |i: usize| value.ins[i];
        let reg = match &value.def {
            Def::Input { .. } => return Ok(self.reg(v)),
            Def::Public(values) => {
                let values = values.iter().copied().cycle().take(value.len).collect();
                let (lo, hi) = (value.lo, value.hi);
                let public = cx.public(ring, values);
                cx.retype(public, lo, hi)
            }
            Def::Server(recipe) => {
                let own = self.owned[&(Arc::as_ptr(recipe), ring)];
                let shared = cx.call_int(Share, &[own.0])?;
                cx.repeat(shared, value.len / recipe.len())
            }
            Def::Linear { op, weights } => {
                let own = self.owned[&(Arc::as_ptr(weights), weights.spec.bits)];
                cx.call_int(Linear { op: *op, width: ring }, &[own.0, self.reg(operand(0)).0])?
            }
            Def::Mul => {
                let ins = [self.reg(operand(0)).0, self.reg(operand(1)).0];
                cx.call_int(Product { width: ring }, &ins)?
            }
            Def::Sum { terms, constant } => self.sum(cx, v, terms, *constant)?,
            Def::Shift(shift) => self.shift(cx, v, shift)?,
            Def::Within { .. } => self.reg(operand(0)),
            Def::Unary { function, zeros } => self.unary(cx, v, function, *zeros)?,
            Def::Rows(rows) => self.rows(cx, v, rows)?,
            Def::Concat => {
                let parts = value.ins.iter().map(|&x| self.dealt(cx, x, ring)).collect::<Build<Vec<Int>>>()?;
                cx.concat(&parts)
            }
            Def::Gather(map) => cx.gather(self.reg(operand(0)), map.to_vec()),
            Def::Column { site, column } => self.column(cx, operand(0), site, *column)?,
            Def::Slice | Def::Param { .. } | Def::Last | Def::Stack => unreachable!("set by the loop"),
        };
        // What is known of the value, in the ring that its readers ask for.
        let reg = if cx.width(reg) < ring { cx.extend(reg, ring)? } else { reg };
        Ok(self.known(cx, v, reg))
    }

    /// The value's own range: types may know less than the passes.
    fn known(&self, cx: &mut Cx, v: Val, reg: Int) -> Int {
        let value = self.ir.value(v);
        let ty = cx.ty(reg);
        if (ty.lo, ty.hi) == (value.lo, value.hi) { reg } else { cx.retype(reg, value.lo, value.hi) }
    }

    fn sum(&self, cx: &mut Cx, v: Val, terms: &[(bool, u32)], constant: i128) -> Build<Int> {
        let ring = self.ring(v);
        let mut sum: Option<Int> = None;
        for (&x, &(minus, up)) in self.ir.value(v).ins.iter().zip(terms) {
            let term = if up >= ring {
                // Nothing of it is left in the ring.
                let n = self.ir.value(x).len;
                cx.public(ring, vec![0; n])
            } else {
                let low = self.dealt(cx, x, ring - up)?;
                cx.shl(low, up, ring)
            };
            sum = Some(match (sum, minus) {
                (None, false) => term,
                (None, true) => cx.neg(term),
                (Some(sum), false) => cx.add(sum, term),
                (Some(sum), true) => cx.sub(sum, term),
            });
        }
        let sum = sum.expect("a sum has terms");
        Ok(cx.offset(sum, constant))
    }

    fn shift(&self, cx: &mut Cx, v: Val, shift: &Shift) -> Build<Int> {
        let value = self.ir.value(v);
        let (ring, x) = (self.ring(v), self.reg(value.ins[0]));
        if shift.drops() {
            return cx.call_int(shift.protocol(ring), &[x.0]);
        }
        let (lo, hi) = (self.ir.value(value.ins[0]).lo, self.ir.value(value.ins[0]).hi);
        let wraps = shift.wrap.filter(|_| shift.may_wrap(lo, hi));
        let width = wraps.map_or(ring, |bits| ring.min(bits));
        if shift.left >= width {
            return Ok(cx.public(width, vec![0; value.len]));
        }
        let low = cx.extend(x, width - shift.left)?;
        let moved = cx.shl(low, shift.left, width);
        // A wrapped number, before it is extended.
        Ok(match wraps {
            Some(bits) if bits == width => {
                let (lo, hi) = signed(bits);
                cx.retype(moved, lo, hi)
            }
            _ => moved,
        })
    }

    fn unary(&self, cx: &mut Cx, v: Val, function: &Unary, zeros: u32) -> Build<Int> {
        let value = self.ir.value(v);
        let (ring, x) = (self.ring(v), self.reg(value.ins[0]));
        Ok(match function {
            Unary::Sigmoid(f) => {
                let width = ring.max(f.exp.s_out + 2);
                cx.call_int(Sigmoid { reference: f.clone(), trailing_zeros: zeros, width }, &[x.0])?
            }
            Unary::Tanh(f) => {
                let width = ring.max(f.exp.s_out + 2);
                cx.call_int(Tanh { reference: f.clone(), trailing_zeros: zeros, width }, &[x.0])?
            }
            Unary::Exp(f) => {
                cx.call_int(Exp { reference: f.clone(), trailing_zeros: zeros, width: ring.max(f.s_out + 2) }, &[x.0])?
            }
            Unary::Reciprocal(f) => {
                cx.call_int(Reciprocal { reference: f.clone(), width: ring.max(f.s_out + 2) }, &[x.0])?
            }
            Unary::Root(f) => cx.call_int(Root { reference: f.clone(), width: ring.max(f.s_out + 2) }, &[x.0])?,
            Unary::Relu { high, shift } => {
                let width = ring.max(signed_bits(value.lo, value.hi));
                cx.call_int(activation::Relu { limit: *high, shift: *shift, width }, &[x.0])?
            }
            Unary::Table { entries, operand } => {
                let low = cx.extend(x, operand.bits)?;
                let index = cx.retype(low, 0, (1 << operand.bits) - 1);
                let column = Column { width: ring, entries: entries.clone() };
                cx.call_int(Lookup { columns: vec![column] }, &[index.0])?
            }
            Unary::Negative => {
                let bit = Bit(cx.call(Sign, &[x.0])?[0]);
                cx.b2a(bit, ring)
            }
            Unary::DivideBy { divisor, rounding } => {
                cx.call_int(DivideBy { divisor: *divisor, rounding: *rounding, width: ring }, &[x.0])?
            }
        })
    }

    fn rows(&self, cx: &mut Cx, v: Val, rows: &Rows) -> Build<Int> {
        let value = self.ir.value(v);
        let ring = self.ring(v);
        let x = self.reg(value.ins[0]);
        Ok(match *rows {
            Rows::Max { n } => cx.call_int(Max { classes: n }, &[x.0])?,
            Rows::ArgMax { n } => cx.call_int(ArgMax { classes: n }, &[x.0])?,
            Rows::MatMul { pairs, inner, outer } => {
                let y = self.reg(value.ins[1]);
                let (a, b) = (cx.len(x) / pairs, cx.len(y) / pairs);
                let mut parts = Vec::new();
                for pair in 0..pairs {
                    let (x, y) = (cx.slice(x, pair * a, a), cx.slice(y, pair * b, b));
                    parts.push(cx.call_int(MatMul { inner, outer, width: ring }, &[x.0, y.0])?);
                }
                cx.concat(&parts)
            }
            Rows::Normalise { channels, bits, scale, shift, rounding, .. } => {
                cx.call_int(L2Normalise::new(channels, bits, scale, shift, rounding, ring)?, &[x.0])?
            }
            Rows::Divide { ref reference } => {
                let ins = [x.0, self.reg(value.ins[1]).0];
                cx.call_int(DivideGeneral { reference: reference.clone(), width: ring }, &ins)?
            }
        })
    }

    /// One column of a look-up; the first that is asked for looks up all.
    fn column(&mut self, cx: &mut Cx, index: Val, site: &Arc<Site>, column: usize) -> Build<Int> {
        let key = (Arc::as_ptr(site), index);
        if let Some(columns) = self.sites.get(&key) {
            return Ok(columns[column]);
        }
        let x = cx.reduce(self.reg(index), site.bits);
        let x = cx.retype(x, 0, (1 << site.bits) - 1);
        let columns = if site.public() {
            let columns = (0..site.columns.len())
                .map(|c| {
                    let width = site.width(c, self.rings);
                    Column { width, entries: Arc::new(site.held_entries(c, width, &Default::default())) }
                })
                .collect();
            cx.call(Lookup { columns }, &[x.0])?
        } else {
            let tables = self.server.iter().filter(|b| b.is_of(key.0)).map(|b| b.own().0);
            let ins: Vec<_> = [x.0].into_iter().chain(tables).collect();
            cx.call(PrivateLookup { units: site.units }, &ins)?
        };
        let columns: Vec<Int> = columns.into_iter().map(Int).collect();
        self.sites.insert(key, columns.clone());
        Ok(columns[column])
    }
}
