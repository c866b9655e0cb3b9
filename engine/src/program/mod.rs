//! The program: what the two parties will do, described before anything runs.
//!
//! [`Cx`] records nodes while protocols are *called like functions* on symbolic registers. A program is a list of
//! [`Block`]s; each runs its nodes `trips` times, carrying state from one trip to the next. From it everything else is
//! derived: the schedule of messages in rounds ([`crate::plan::schedule`]), cost and correlation demand
//! ([`crate::plan`]), and its execution in [`crate::run`]: by one party over a channel, by the ideal machine (both
//! parties, no cryptography), or on integers in the clear.
//!
//! Functions ([`Function`]) have two faces: `clear` says on integers what the result *is*, `lower` says how two
//! parties get it. Every call of one is recorded with its operands, so that the ideal machine can compare both at
//! every boundary ([`crate::run::ideal::Machine::new`]) and name the first function that is wrong.

pub mod cost;
pub mod local;
pub mod lookup;

pub use cost::{Goal, LinearForms, Profile, Rates};
pub use local::LocalOp;
use sirnn_backends::inst::{Inst, Party, Ring};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A register: the symbolic value of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(pub u32);

/// Who holds a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Both, each a share.
    Both,
    /// One party, in clear.
    Only(Party),
}

/// A register's type. The value is the one integer of `[lo, hi]` congruent to the sum of the shares; where the range
/// is wider than the ring only the value modulo `2^w` is known. Ranges follow from types alone, never from data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ty {
    /// How it is shared, and how wide.
    pub ring: Ring,
    /// Elements.
    pub len: usize,
    /// Who has it.
    pub holder: Holder,
    /// Smallest value.
    pub lo: i128,
    /// Largest value.
    pub hi: i128,
}

impl Ty {
    /// Bits per element.
    pub fn width(&self) -> u32 {
        self.ring.bits()
    }

    /// Whether the ring determines the value.
    pub fn exact(&self) -> bool {
        self.hi - self.lo < 1i128 << self.width()
    }

    /// The number of bits `b` with `hi - lo < 2^b`.
    pub fn span_bits(&self) -> u32 {
        bits_for(self.hi - self.lo)
    }

    /// The integer that a ring element stands for.
    pub fn decode(&self, word: u64) -> i128 {
        let word = i128::from(word);
        match self.ring {
            Ring::Xor(_) => word,
            Ring::Add(w) => self.lo + (word - self.lo).rem_euclid(1 << w),
        }
    }
}

/// Smallest `b` with `span < 2^b`.
pub fn bits_for(span: i128) -> u32 {
    128 - span.leading_zeros()
}

/// The signed range of `width` bits.
pub fn signed(width: u32) -> (i128, i128) {
    (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub Reg);
        impl From<$name> for Reg {
            fn from(x: $name) -> Reg {
                x.0
            }
        }
    };
}
handle! {
    /// An additively shared value. Only linear operations exist on it; a share is looked at through [`Cx::view`].
    Int
}
handle! {
    /// An XOR-shared vector of bits.
    Bit
}
handle! {
    /// A value that one party holds; arbitrary functions of a closed list may be applied locally.
    Own
}

/// Why a program cannot be built. Names the function and what is wrong with its operands.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("{function}: {what}")]
pub struct BuildError {
    /// The function refused.
    pub function: String,
    /// Parameter and reason.
    pub what: String,
}

/// Result of building.
pub type Build<T> = Result<T, BuildError>;

/// Refuses to build.
pub fn refuse<T>(function: &str, what: impl Into<String>) -> Build<T> {
    Err(BuildError { function: function.into(), what: what.into() })
}

/// A functionality: what is computed (`clear`) and how (`lower`).
pub trait Function: Send + Sync + std::fmt::Debug {
    /// Short name, as in the paper where it has one.
    fn name(&self) -> &'static str;
    /// The definition, on the integers that the operands stand for. XOR-shared operands are unsigned integers.
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>>;
    /// The protocol.
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>>;
    /// The width of the result, if there is one and it is a function of the one operand, element by element: on few enough bits it can
    /// be a table of all values.
    fn pointwise(&self) -> Option<u32> {
        None
    }
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Without communication.
    Local(LocalOp),
    /// An interactive instruction.
    Inter(Inst),
}

/// One step of a block.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Operands.
    pub ins: Vec<Reg>,
    /// Results.
    pub outs: Vec<Reg>,
    /// Index into [`Program::scopes`].
    pub scope: u32,
}

impl Node {
    /// Instances of an interactive node, as its [`Inst`] counts them.
    pub fn instances(&self, regs: &[Ty]) -> usize {
        match &self.op {
            Op::Inter(Inst::Linear { .. }) => regs[self.ins[1].0 as usize].len,
            _ => regs[self.ins[0].0 as usize].len,
        }
    }
}

/// State handed from one trip of a block to the next.
#[derive(Clone, Debug)]
pub struct Carry {
    /// Value before the first trip, from an earlier block.
    pub init: Reg,
    /// The register that the trip reads.
    pub param: Reg,
    /// The register that holds the value for the next trip.
    pub next: Reg,
}

/// A part of the program that is planned once and executed `trips` times.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Number of executions.
    pub trips: usize,
    /// Steps, in an order that respects dependence.
    pub nodes: Vec<Node>,
    /// Trip `t` reads elements `t * len ..` of `.0` in register `.1`.
    pub slices: Vec<(Reg, Reg)>,
    /// Loop state.
    pub carries: Vec<Carry>,
    /// Trip `t` writes register `.0` to elements `t * len ..` of `.1`.
    pub stacks: Vec<(Reg, Reg)>,
    /// Register `.0` of the last trip is register `.1` afterwards.
    pub finals: Vec<(Reg, Reg)>,
}

/// A recorded call of a function.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function.
    pub function: Arc<dyn Function>,
    /// Its operands.
    pub ins: Vec<Reg>,
    /// Its results.
    pub outs: Vec<Reg>,
    /// Block it stands in.
    pub block: usize,
    /// Number of enclosing calls.
    pub depth: usize,
    /// Scope it opened.
    pub scope: u32,
}

/// Values of inputs, by name.
pub type Inputs = HashMap<String, Vec<i128>>;

/// A value that a party brings.
#[derive(Clone, Debug)]
pub struct Input {
    /// Unique name.
    pub name: String,
    /// Private register of its owner.
    pub reg: Reg,
}

/// A complete program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Types of all registers.
    pub regs: Vec<Ty>,
    /// Block of each register (inputs: block 0).
    pub home: Vec<usize>,
    /// Blocks, one after the other.
    pub blocks: Vec<Block>,
    /// What the parties bring.
    pub inputs: Vec<Input>,
    /// What they get: name and private register.
    pub outputs: Vec<(String, Reg)>,
    /// Calls, inner ones before the outer.
    pub calls: Vec<Call>,
    /// Provenance: name and parent.
    pub scopes: Vec<(String, u32)>,
}

impl Program {
    /// The type of a register.
    pub fn ty(&self, reg: Reg) -> &Ty {
        &self.regs[reg.0 as usize]
    }

    /// Path of a scope, as `fastgrnn/sigmoid/exp`.
    pub fn path(&self, mut scope: u32) -> String {
        let mut parts = Vec::new();
        while scope != 0 {
            parts.push(self.scopes[scope as usize].0.as_str());
            scope = self.scopes[scope as usize].1;
        }
        parts.reverse();
        parts.join("/")
    }
}

/// The builder.
#[derive(Debug)]
pub struct Cx {
    program: Program,
    /// How forms are chosen.
    pub profile: Profile,
    depth: usize,
    scope: u32,
    scope_ids: HashMap<(String, u32), u32>,
}

impl Cx {
    /// An empty program.
    pub fn new(profile: Profile) -> Self {
        let program = Program {
            blocks: vec![Block { trips: 1, ..Block::default() }],
            scopes: vec![(String::new(), 0)],
            ..Program::default()
        };
        Self { program, profile, depth: 0, scope: 0, scope_ids: HashMap::new() }
    }

    /// The type of a register.
    pub fn ty(&self, reg: impl Into<Reg>) -> &Ty {
        self.program.ty(reg.into())
    }

    /// Bits per element.
    pub fn width(&self, reg: impl Into<Reg>) -> u32 {
        self.ty(reg).width()
    }

    /// Elements.
    pub fn len(&self, reg: impl Into<Reg>) -> usize {
        self.ty(reg).len
    }

    /// Ends building.
    pub fn finish(self) -> Program {
        self.program
    }

    fn reg(&mut self, ty: Ty) -> Reg {
        self.program.regs.push(ty);
        self.program.home.push(self.program.blocks.len() - 1);
        Reg(self.program.regs.len() as u32 - 1)
    }

    fn node(&mut self, op: Op, ins: Vec<Reg>, tys: Vec<Ty>) -> Vec<Reg> {
        let outs: Vec<Reg> = tys.into_iter().map(|ty| self.reg(ty)).collect();
        let node = Node { op, ins, outs: outs.clone(), scope: self.scope };
        self.program.blocks.last_mut().expect("a program has a block").nodes.push(node);
        outs
    }

    pub(crate) fn local(&mut self, op: LocalOp, ins: &[Reg], ty: Ty) -> Reg {
        self.node(Op::Local(op), ins.to_vec(), vec![ty])[0]
    }

    pub(crate) fn inter(&mut self, inst: Inst, ins: &[Reg], tys: Vec<Ty>) -> Vec<Reg> {
        self.node(Op::Inter(inst), ins.to_vec(), tys)
    }

    fn enter(&mut self, name: &str) -> u32 {
        let parent = self.scope;
        let next = self.program.scopes.len() as u32;
        let id = *self.scope_ids.entry((name.to_string(), parent)).or_insert(next);
        if id == next {
            self.program.scopes.push((name.to_string(), parent));
        }
        self.scope = id;
        parent
    }

    /// Names what is built inside, for reports.
    pub fn named<T>(&mut self, name: &str, body: impl FnOnce(&mut Cx) -> T) -> T {
        let parent = self.enter(name);
        let out = body(self);
        self.scope = parent;
        out
    }

    /// Calls a function: lowers it here and records the call.
    pub fn call(&mut self, function: impl Function + 'static, ins: &[Reg]) -> Build<Vec<Reg>> {
        let function: Arc<dyn Function> = Arc::new(function);
        let parent = self.enter(function.name());
        self.depth += 1;
        let outs = self.best_form(&*function, ins);
        self.depth -= 1;
        let scope = self.scope;
        self.scope = parent;
        let outs = outs?;
        let (block, depth) = (self.program.blocks.len() - 1, self.depth);
        self.program.calls.push(Call { function, ins: ins.to_vec(), outs: outs.clone(), block, depth, scope });
        Ok(outs)
    }

    /// Calls a function with one shared integer result.
    pub fn call_int(&mut self, function: impl Function + 'static, ins: &[Reg]) -> Build<Int> {
        Ok(Int(self.call(function, ins)?[0]))
    }

    /// Declares a private input of a party: `len` values in `[lo, hi]`, held in `width` bits.
    pub fn input(&mut self, name: &str, owner: Party, width: u32, len: usize, (lo, hi): (i128, i128)) -> Own {
        assert_eq!(self.program.blocks.len(), 1, "inputs are declared before the first loop");
        let ty = Ty { ring: Ring::Add(width as u8), len, holder: Holder::Only(owner), lo, hi };
        let reg = self.reg(ty);
        self.program.inputs.push(Input { name: name.into(), reg });
        Own(reg)
    }

    /// Declares a result that a party gets.
    pub fn output(&mut self, name: &str, value: Own) {
        self.program.outputs.push((name.into(), value.0));
    }

    /// Reveals to P1, as outputs `r0`, `r1` ..., every shared value of this block that nothing has read: so that a test sees what a
    /// program computes that keeps its results shared.
    pub fn reveal_unread(&mut self) {
        let block = self.program.blocks.len() - 1;
        let read: HashSet<Reg> =
            self.program.blocks.iter().flat_map(|b| &b.nodes).flat_map(|n| n.ins.clone()).collect();
        for reg in (0..self.program.regs.len() as u32).map(Reg) {
            if self.ty(reg).holder != Holder::Both || self.program.home[reg.0 as usize] != block || read.contains(&reg)
            {
                continue;
            }
            let ty = Ty { holder: Holder::Only(Party::P1), ..self.ty(reg).clone() };
            let out = self.inter(Inst::Open { to: Party::P1, ring: ty.ring }, &[reg], vec![ty])[0];
            self.output(&format!("r{}", self.program.outputs.len()), Own(out));
        }
    }

    /// Values that a node of this block makes: what comes from elsewhere (state handed on untouched, a slice of an input, a value from
    /// before the loop) is made anew, so that every trip has its own.
    fn made_here(&mut self, values: Vec<Int>) -> Build<Vec<Int>> {
        let made =
            |cx: &Self, r: Reg| cx.program.blocks.last().is_some_and(|b| b.nodes.iter().any(|n| n.outs.contains(&r)));
        values.into_iter().map(|v| if made(self, v.0) { Ok(v) } else { self.call_int(Keep, &[v.0]) }).collect()
    }

    /// Runs `body` `trips` times. `state` is carried from trip to trip in registers of the given types (an initial
    /// value and every next one must fit); `xs` are split in `trips` equal slices. Returns the last state and, for
    /// every value in the second part of the body's result, all trips' values one after the other.
    pub fn scan(
        &mut self,
        trips: usize,
        state: &[(Int, (i128, i128))],
        xs: &[Int],
        body: impl FnOnce(&mut Cx, &[Int], &[Int]) -> Build<(Vec<Int>, Vec<Int>)>,
    ) -> Build<(Vec<Int>, Vec<Int>)> {
        if trips == 0 {
            return refuse("scan", "a loop needs at least one trip");
        }
        assert_eq!(self.depth, 0, "loops stand at the top level");
        self.program.blocks.push(Block { trips, ..Block::default() });
        let mut slices = Vec::new();
        for &x in xs {
            let mut ty = self.ty(x).clone();
            if !ty.len.is_multiple_of(trips) {
                return refuse("scan", format!("{} elements do not split into {trips} time steps", ty.len));
            }
            ty.len /= trips;
            slices.push((x.0, self.reg(ty)));
        }
        let mut params = Vec::new();
        for &(init, (lo, hi)) in state {
            let ty = self.ty(init).clone();
            if ty.lo < lo || ty.hi > hi {
                return refuse("scan", "the initial state lies outside the declared range of the state");
            }
            params.push(Int(self.reg(Ty { lo, hi, ..ty })));
        }
        let inner: Vec<Int> = slices.iter().map(|&(_, r)| Int(r)).collect();
        let (next, ys) = self.named("loop", |cx| {
            let (next, ys) = body(cx, &params, &inner)?;
            Ok((cx.made_here(next)?, cx.made_here(ys)?))
        })?;
        let mut carries = Vec::new();
        for ((&(init, _), &param), &next) in state.iter().zip(&params).zip(&next) {
            let (p, n) = (self.ty(param), self.ty(next));
            if n.ring != p.ring || n.len != p.len || n.lo < p.lo || n.hi > p.hi {
                return refuse(
                    "scan",
                    format!(
                        "the next state ({:?}, {}..={}) is not of the state's type ({:?}, {}..={})",
                        n.ring, n.lo, n.hi, p.ring, p.lo, p.hi
                    ),
                );
            }
            carries.push(Carry { init: init.0, param: param.0, next: next.0 });
        }
        let block = self.program.blocks.len() - 1;
        self.program.blocks.push(Block { trips: 1, ..Block::default() });
        let finals: Vec<(Reg, Reg)> = next.iter().map(|&r| (r.0, self.reg(self.ty(r).clone()))).collect();
        let stacks: Vec<(Reg, Reg)> = ys
            .iter()
            .map(|&r| {
                let mut ty = self.ty(r).clone();
                ty.len *= trips;
                (r.0, self.reg(ty))
            })
            .collect();
        let out = finals.iter().map(|&(_, r)| Int(r)).collect();
        let all = stacks.iter().map(|&(_, r)| Int(r)).collect();
        let b = &mut self.program.blocks[block];
        (b.slices, b.carries, b.finals, b.stacks) = (slices, carries, finals, stacks);
        Ok((out, all))
    }
}

/// A value as it is, made anew: what a loop carries or collects although its body did not compute it.
#[derive(Clone, Copy, Debug)]
struct Keep;

impl Function for Keep {
    fn name(&self) -> &'static str {
        "keep"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].to_vec()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let Ty { lo, hi, .. } = *cx.ty(ins[0]);
        Ok(vec![cx.retype(Int(ins[0]), lo, hi).0])
    }
}
