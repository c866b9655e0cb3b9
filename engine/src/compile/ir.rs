//! What the passes work on: exact integer operations on whole vectors, with the structure of loops.
//!
//! Every value is the vector of one integer per element, over all items of a batch, and exact: products and sums have as many bits
//! as they need, only a [`Shift`](Def::Shift) wraps. Which ring a value is dealt in is decided late ([`super::rings`]).
//! Outside of loops a value of per-item shape `S` is `[items, S]`; in the body of a loop `[items, S of one step]`; what a
//! loop cuts or stacks is `[steps, items, S of one step]`.

use super::server::Recipe;
use crate::fixed::math;
use crate::graph::Number;
use crate::protocols::rescale::Rescale;
use crate::protocols::truncation::Rounding;
use sirnn_backends::inst::LinearOp;
use std::sync::Arc;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Val(pub u32);

impl Val {
    /// Position among the values.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where a value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    /// Outside of loops.
    Top,
    /// In the body of a loop.
    Loop(usize),
}

/// A rescale: `wrap(R(floor(x / 2^floor), shift) << left)`, then `R(., then)`. To nearest is a sum before a floor, so that only two
/// roundings are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    pub floor: u32,
    pub shift: u32,
    pub left: u32,
    /// Width of the wrap, signed; `None` for none.
    pub wrap: Option<u32>,
    /// Whether the value is known not to leave that width.
    pub fits: bool,
    /// In the same mode as `shift`, after the wrap.
    pub then: u32,
    pub rounding: Rounding,
}

impl Shift {
    /// A wrap alone.
    pub(crate) fn wrap(bits: u32) -> Self {
        Self { floor: 0, shift: 0, left: 0, wrap: Some(bits), fits: false, then: 0, rounding: Rounding::Floor }
    }

    /// Whether bits are dropped: only then anything is to be computed.
    pub(crate) fn drops(&self) -> bool {
        self.floor + self.shift + self.then > 0
    }

    /// The same of numbers that are not negative: toward zero is down, up to a wrap.
    pub(crate) fn not_negative(self) -> Self {
        let rounding = if self.wrap.is_none() { Rounding::Floor } else { self.rounding };
        Self { floor: self.floor + self.shift, shift: 0, rounding, ..self }
    }

    /// The protocol, with its result in a ring of `width` bits.
    pub(crate) fn protocol(&self, width: u32) -> Rescale {
        let Shift { floor, shift, left, then, rounding, .. } = *self;
        Rescale { floor, shift, left, out: self.wrap.filter(|_| !self.fits), then, rounding, width }
    }
}

/// A function of one argument, element by element.
#[derive(Clone, Debug)]
pub(crate) enum Unary {
    Sigmoid(math::Sigmoid),
    Tanh(math::Tanh),
    /// `e^x` for `x <= 0`.
    Exp(math::Exp),
    Reciprocal(math::Div),
    Root(math::Root),
    /// `floor(min(max(x, 0), high) / 2^shift)`.
    Relu {
        high: Option<i128>,
        shift: u32,
    },
    /// Rounded to the nearest entry: one per integer of the operand's format.
    Table {
        entries: Arc<Vec<i128>>,
        operand: Number,
    },
    /// 1 if `x < 0`, else 0.
    Negative,
    /// `x / divisor`, rounded.
    DivideBy {
        divisor: i128,
        rounding: Rounding,
    },
}

/// Operations that are neither element by element nor linear, on rows.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// The largest of every `n` consecutive values.
    Max { n: usize },
    /// Its index.
    ArgMax { n: usize },
    /// `[rows, inner]` times `[inner, outer]`, for each of several pairs of matrices.
    MatMul { pairs: usize, inner: usize, outer: usize },
    /// The authors' L2 normalisation of rows of `channels` values.
    Normalise { channels: usize, bits: u32, scale: u32, shift: u32, rounding: Rounding, inverse: (i128, i128) },
    /// Quotients of two vectors.
    Divide { reference: math::DivGeneral },
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Def {
    /// A value of the client: number of the graph's input, and its format.
    Input { index: usize, number: Number },
    /// A public vector, repeated to the length.
    Public(Arc<Vec<i128>>),
    /// A vector of the server, repeated to the length.
    Server(Arc<Recipe>),
    /// A linear map with weights of the server; exact.
    Linear { op: LinearOp, weights: Arc<Recipe> },
    /// `a b`; exact.
    Mul,
    /// `sum_i (+-) x_i 2^up_i + constant`; exact.
    Sum { terms: Vec<(bool, u32)>, constant: i128 },
    /// A rescale.
    Shift(Shift),
    /// The operand, known to lie in `[lo, hi]` by what it is made of.
    Within { lo: i128, hi: i128 },
    /// A function; the operand is `x 2^zeros`, its low bits known to be zero.
    Unary { function: Unary, zeros: u32 },
    /// Anything on rows.
    Rows(Rows),
    /// Operands one after the other.
    Concat,
    /// Element `i` is element `map[i]`.
    Gather(Arc<Vec<u32>>),
    /// One column of a look-up of the operand in tables of the server: see [`super::tables`].
    Column { site: Arc<super::tables::Site>, column: usize },
    /// An entry of what a loop cuts.
    Slice,
    /// A state at the start of a step, in `[lo, hi]`.
    Param { lo: i128, hi: i128 },
    /// A value of a loop's last step.
    Last,
    /// A value of all steps.
    Stack,
}

/// A value with its operands.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub def: Def,
    pub ins: Vec<Val>,
    /// Elements.
    pub len: usize,
    /// Smallest and largest element, from public facts alone.
    pub lo: i128,
    pub hi: i128,
    pub home: Home,
    /// The graph's node, or its value if the value is one of the graph.
    pub name: Arc<str>,
}

/// A state of a loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub init: Val,
    pub param: Val,
    pub next: Val,
}

/// A loop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loop {
    pub name: String,
    pub trips: usize,
    /// What is cut, and an entry of it.
    pub slices: Vec<(Val, Val)>,
    pub states: Vec<State>,
    /// Values of the body in order.
    pub body: Vec<Val>,
    /// Values of the last step: inside, outside.
    pub lasts: Vec<(Val, Val)>,
    /// Values of all steps: inside, outside.
    pub stacks: Vec<(Val, Val)>,
}

/// What is done outside of loops, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Value(Val),
    Loop(usize),
}

/// A result for the client.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub name: String,
    pub value: Val,
}

/// A program before rings are chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ir {
    pub values: Vec<Value>,
    pub loops: Vec<Loop>,
    pub top: Vec<Item>,
    pub outputs: Vec<Output>,
}

impl Ir {
    pub(crate) fn value(&self, v: Val) -> &Value {
        &self.values[v.index()]
    }

    /// Adds a value at the end of its home.
    pub(crate) fn push(&mut self, home: Home, name: &Arc<str>, def: Def, ins: Vec<Val>, len: usize) -> Val {
        let v = self.detached(home, name, def, ins, len);
        match home {
            Home::Top => self.top.push(Item::Value(v)),
            Home::Loop(l) => self.loops[l].body.push(v),
        }
        v
    }

    /// Adds a value that no list of operations contains: what a loop cuts, carries or hands out.
    pub(crate) fn detached(&mut self, home: Home, name: &Arc<str>, def: Def, ins: Vec<Val>, len: usize) -> Val {
        let v = Val(self.values.len() as u32);
        self.values.push(Value { def, ins, len, lo: 0, hi: 0, home, name: name.clone() });
        super::ranges::update(self, v);
        v
    }

    /// Readers of every value: values, and loops and outputs as `None`.
    pub(crate) fn readers(&self) -> Vec<Vec<Option<Val>>> {
        let mut readers = vec![Vec::new(); self.values.len()];
        let mut live = self.order();
        live.retain(|v| !matches!(self.value(*v).def, Def::Slice | Def::Param { .. } | Def::Last | Def::Stack));
        for v in live {
            for x in &self.value(v).ins {
                readers[x.index()].push(Some(v));
            }
        }
        for item in &self.top {
            if let Item::Loop(l) = item {
                let l = &self.loops[*l];
                let outside = l.slices.iter().map(|s| s.0).chain(l.states.iter().flat_map(|s| [s.init, s.next]));
                let inside = l.lasts.iter().chain(&l.stacks).map(|s| s.0);
                outside.chain(inside).for_each(|v| readers[v.index()].push(None));
            }
        }
        self.outputs.iter().for_each(|o| readers[o.value.index()].push(None));
        readers
    }

    /// All values in an order in which operands come first; states of a loop before its body, what it hands out behind.
    pub(crate) fn order(&self) -> Vec<Val> {
        let mut order = Vec::new();
        for item in &self.top {
            match *item {
                Item::Value(v) => order.push(v),
                Item::Loop(l) => {
                    let l = &self.loops[l];
                    order.extend(l.slices.iter().map(|s| s.1).chain(l.states.iter().map(|s| s.param)));
                    order.extend(&l.body);
                    order.extend(l.lasts.iter().chain(&l.stacks).map(|s| s.1));
                }
            }
        }
        order
    }

    /// Replaces every use of `old` by `new`.
    pub(crate) fn substitute(&mut self, old: Val, new: Val) {
        let swap = |v: &mut Val| {
            if *v == old {
                *v = new;
            }
        };
        self.values.iter_mut().flat_map(|v| &mut v.ins).for_each(swap);
        for l in &mut self.loops {
            l.slices.iter_mut().for_each(|s| swap(&mut s.0));
            l.states.iter_mut().for_each(|s| {
                swap(&mut s.init);
                swap(&mut s.next);
            });
            l.lasts.iter_mut().chain(&mut l.stacks).for_each(|s| swap(&mut s.0));
        }
        self.outputs.iter_mut().for_each(|o| swap(&mut o.value));
    }

    /// Drops values that nothing reads.
    pub(crate) fn sweep(&mut self) {
        let mut used = vec![false; self.values.len()];
        self.outputs.iter().for_each(|o| used[o.value.index()] = true);
        for item in self.top.clone().into_iter().rev() {
            match item {
                Item::Value(v) => self.mark(v, &mut used),
                Item::Loop(l) => {
                    let mut body = std::mem::take(&mut self.loops[l]);
                    body.lasts.retain(|s| used[s.1.index()]);
                    body.stacks.retain(|s| used[s.1.index()]);
                    body.lasts.iter().chain(&body.stacks).for_each(|s| used[s.0.index()] = true);
                    // A state lives if its value does: repeat until nothing changes.
                    loop {
                        let before = used.iter().filter(|u| **u).count();
                        for &v in body.body.iter().rev() {
                            self.mark(v, &mut used);
                        }
                        for s in &body.states {
                            if used[s.param.index()] {
                                used[s.next.index()] = true;
                            }
                        }
                        if used.iter().filter(|u| **u).count() == before {
                            break;
                        }
                    }
                    body.states.retain(|s| used[s.param.index()]);
                    body.slices.retain(|s| used[s.1.index()]);
                    body.body.retain(|v| used[v.index()]);
                    body.states.iter().for_each(|s| used[s.init.index()] = true);
                    body.slices.iter().for_each(|s| used[s.0.index()] = true);
                    self.loops[l] = body;
                }
            }
        }
        let loops = &self.loops;
        self.top.retain(|item| match *item {
            Item::Value(v) => used[v.index()],
            Item::Loop(l) => !loops[l].lasts.is_empty() || !loops[l].stacks.is_empty(),
        });
    }

    fn mark(&self, v: Val, used: &mut [bool]) {
        if used[v.index()] {
            self.value(v).ins.iter().for_each(|x| used[x.index()] = true);
        }
    }
}
