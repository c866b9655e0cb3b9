//! Random programs of interactive instructions, with no protocol around them.
//!
//! Operands are inputs, or made by local operations of results of earlier instructions; a private operand is an opened one, since a
//! share is a random number. Every result is opened in the end.

use crate::oracle::{self, Case};
use crate::programs;
use crate::show;
use crate::source::Source;
use sirnn::program::{Block, Holder, LocalOp, Node, Op, Program, Reg, Ty};
use sirnn::run::Inputs;
use sirnn_backends::inst::{Flag, FlagKind, Inst, LinearOp, LookupForm, Party, Ring, Table};
use sirnn_backends::onehot::Shape;
use sirnn_backends::table::PublicTable;
use std::sync::Arc;

/// Bits of a look-up's index, at most.
const MAX_INDEX: u32 = 12;
/// Elements that a register may have to be an operand.
const MAX_LEN: usize = 300;

/// The target.
pub fn check(data: &[u8]) {
    oracle::undefined(case(&mut Source::new(data)));
}

/// A program of instructions with operands.
pub fn case(s: &mut Source) -> Case {
    let profile = programs::profile(s);
    let backend = programs::backend(s);
    let mut g = Generator { len: s.len(), s, program: Program::default(), inputs: Inputs::new(), made: Vec::new() };
    g.program.blocks.push(Block { trips: 1, ..Block::default() });
    g.program.scopes.push((String::new(), 0));
    for _ in 0..g.s.range(1, 5) {
        g.instruction();
    }
    for (i, reg) in g.made.clone().into_iter().enumerate() {
        let Ty { ring, holder, .. } = *g.program.ty(reg);
        let own = match holder {
            Holder::Only(_) => reg,
            Holder::Both => {
                let to = g.s.pick(&Party::BOTH);
                g.inter(Inst::Open { to, ring }, &[reg], &[(ring, Holder::Only(to))])[0]
            }
        };
        g.program.outputs.push((format!("o{i}"), own));
    }
    Case { program: g.program, profile, inputs: g.inputs, backend }
}

struct Generator<'s, 'd> {
    s: &'s mut Source<'d>,
    /// Elements of operands.
    len: usize,
    program: Program,
    inputs: Inputs,
    /// Results.
    made: Vec<Reg>,
}

fn unsigned(ring: Ring, holder: Holder, len: usize) -> Ty {
    Ty { ring, len, holder, lo: 0, hi: (1i128 << ring.bits()) - 1 }
}

impl Generator<'_, '_> {
    fn reg(&mut self, ty: Ty) -> Reg {
        self.program.regs.push(ty);
        self.program.home.push(0);
        Reg(self.program.regs.len() as u32 - 1)
    }

    fn node(&mut self, op: Op, ins: &[Reg], tys: Vec<Ty>) -> Vec<Reg> {
        let outs: Vec<Reg> = tys.into_iter().map(|ty| self.reg(ty)).collect();
        self.program.blocks[0].nodes.push(Node { op, ins: ins.to_vec(), outs: outs.clone(), scope: 0 });
        outs
    }

    fn local(&mut self, op: LocalOp, ins: &[Reg], ring: Ring, holder: Holder) -> Reg {
        let len = self.program.ty(ins[0]).len;
        self.node(Op::Local(op), ins, vec![unsigned(ring, holder, len)])[0]
    }

    fn inter(&mut self, inst: Inst, ins: &[Reg], results: &[(Ring, Holder)]) -> Vec<Reg> {
        let len = match &inst {
            Inst::Linear { op, .. } => op.output_len(self.program.ty(ins[1]).len),
            Inst::CrossMatrix { shape, .. } => (shape[0] * shape[2]) as usize,
            _ => self.program.ty(ins[0]).len,
        };
        let short: String = format!("{inst:?}").chars().take(200).collect();
        show!("{short} of {:?}", ins.iter().map(|&r| self.program.ty(r)).collect::<Vec<_>>());
        assert!(results.iter().map(|r| r.0).eq(inst.results()), "the generator knows what instructions make");
        self.node(Op::Inter(inst), ins, results.iter().map(|&(ring, holder)| unsigned(ring, holder, len)).collect())
    }

    fn input(&mut self, party: Party, width: u32, len: usize) -> Reg {
        let ty = unsigned(Ring::Add(width as u8), Holder::Only(party), len);
        let values = self.s.values(len, (0, ty.hi));
        let reg = self.reg(ty);
        let name = format!("i{}", self.inputs.len());
        self.program.inputs.push(sirnn::program::Input { name: name.clone(), reg });
        self.inputs.insert(name, values);
        reg
    }

    /// A result of this length that fits, rather a late one.
    fn earlier(&mut self, len: usize, fits: impl Fn(&Ty) -> bool) -> Option<Reg> {
        let all: Vec<Reg> = self.made.iter().rev().copied().collect();
        let all: Vec<Reg> =
            all.into_iter().filter(|&r| self.program.ty(r).len == len && fits(self.program.ty(r))).collect();
        // The first choice is an input.
        let at = self.s.below(all.len() + 1);
        at.checked_sub(1).map(|at| all[at])
    }

    /// A number of a party's own.
    fn private(&mut self, party: Party, width: u32, len: usize) -> Reg {
        let holder = Holder::Only(party);
        let usable = |ty: &Ty| match ty.ring {
            Ring::Add(w) => u32::from(w) >= width && ty.holder == holder,
            Ring::Xor(_) => false,
        };
        let Some(own) = self.earlier(len, usable) else { return self.input(party, width, len) };
        let ring = self.program.ty(own).ring;
        if ring.bits() == width {
            return own;
        }
        let lo = self.s.range(0, ring.bits() - width) as u8;
        self.local(LocalOp::Digit { lo, bits: width as u8 }, &[own], Ring::Add(width as u8), holder)
    }

    /// Bits of a party's own.
    fn private_bits(&mut self, party: Party, planes: u32, len: usize) -> Reg {
        let (holder, ring) = (Holder::Only(party), Ring::Xor(planes as u8));
        let usable = |ty: &Ty| matches!(ty.ring, Ring::Xor(k) if u32::from(k) >= planes) && ty.holder == holder;
        if let Some(own) = self.earlier(len, usable) {
            return self.picked(own, planes);
        }
        let (width, lo) = (self.s.range(planes, 64), 0);
        let number = self.private(party, width, len);
        self.local(LocalOp::Planes { lo, bits: planes as u8 }, &[number], ring, holder)
    }

    fn picked(&mut self, bits: Reg, planes: u32) -> Reg {
        let Ty { ring, holder, .. } = *self.program.ty(bits);
        if ring.bits() == planes {
            return bits;
        }
        let from = self.s.range(0, ring.bits() - planes) as u8;
        self.local(LocalOp::Pick { from, count: planes as u8 }, &[bits], Ring::Xor(planes as u8), holder)
    }

    /// A shared value.
    fn shared(&mut self, ring: Ring, len: usize) -> Reg {
        let bits = ring.bits();
        let usable = |ty: &Ty| {
            let same = matches!((ty.ring, ring), (Ring::Add(_), Ring::Add(_)) | (Ring::Xor(_), Ring::Xor(_)));
            same && ty.ring.bits() >= bits && ty.holder == Holder::Both
        };
        if let Some(source) = self.earlier(len, usable) {
            return match ring {
                Ring::Xor(_) => self.picked(source, bits),
                Ring::Add(width) if self.program.ty(source).width() > bits => {
                    self.local(LocalOp::Shl { by: 0, width }, &[source], ring, Holder::Both)
                }
                Ring::Add(_) => source,
            };
        }
        let parts = Party::BOTH.map(|p| {
            let own = match ring {
                Ring::Add(_) => self.private(p, bits, len),
                Ring::Xor(_) => self.private_bits(p, bits, len),
            };
            self.local(LocalOp::Share, &[own], ring, Holder::Both)
        });
        let op = if matches!(ring, Ring::Add(_)) { LocalOp::Add } else { LocalOp::Xor };
        self.local(op, &parts, ring, Holder::Both)
    }

    fn ring(&mut self, bits: u32) -> Ring {
        if self.s.range(0, 1) == 0 { Ring::Add(bits as u8) } else { Ring::Xor(bits as u8) }
    }

    fn instruction(&mut self) {
        let n = self.len;
        let made = match self.s.range(0, 7) {
            0 => {
                let cols = self.s.pick(&[1, 2, 3, 8, 33, 64]);
                let ins = [self.shared(Ring::Xor(1), n), self.shared(Ring::Xor(cols), n)];
                self.inter(Inst::And { cols }, &ins, &[(Ring::Xor(cols), Holder::Both)])
            }
            1 => {
                let width = self.s.width();
                let bits = if self.s.range(0, 1) == 0 { self.s.range(1, width.min(4)) } else { self.s.range(1, width) };
                let (chooser, top) = (self.s.pick(&Party::BOTH), self.s.range(0, 1) == 1);
                let other = chooser.other();
                let mut ins = vec![self.private_bits(chooser, bits, n), self.private(other, width, n)];
                if top {
                    ins.push(self.private(other, width - (bits - 1), n));
                }
                let (bits, width) = (bits as u8, width as u8);
                self.inter(Inst::Cross { chooser, bits, width, top }, &ins, &[(Ring::Add(width), Holder::Both)])
            }
            2 | 3 => self.lookup(),
            4 => {
                let (sender, digit) = (self.s.pick(&Party::BOTH), self.s.range(1, 8));
                let views = self.s.range(1, 3);
                let flags: Vec<Flag> = (0..self.s.range(1, 8))
                    .map(|_| Flag {
                        kind: self.s.pick(&[FlagKind::Carry, FlagKind::Ones]),
                        bits: self.s.range(1, digit) as u8,
                        view: self.s.range(0, views - 1) as u8,
                    })
                    .collect();
                let mut ins: Vec<Reg> = (0..views).map(|_| self.private(sender, digit, n)).collect();
                ins.push(self.private(sender.other(), digit, n));
                let ring = Ring::Xor(flags.len() as u8);
                let inst = Inst::Leaf { sender, digit: digit as u8, views: views as u8, flags };
                self.inter(inst, &ins, &[(ring, Holder::Both)])
            }
            5 => {
                let op = programs::linear(self.s);
                let rows = self.s.range(0, 4) as usize;
                let n = match op {
                    LinearOp::MatMul { inner, .. } => rows * inner as usize,
                    LinearOp::Scale { .. } => n,
                    LinearOp::Conv(conv) => rows * conv.image_len(),
                };
                let (weight_bits, width) = (self.s.width(), self.s.width() as u8);
                let ins = [self.input(Party::P0, weight_bits, op.weights()), self.shared(Ring::Add(width), n)];
                let weight_bits = weight_bits as u8;
                self.inter(Inst::Linear { op, weight_bits, width }, &ins, &[(Ring::Add(width), Holder::Both)])
            }
            6 => {
                let shape: [u32; 3] = std::array::from_fn(|i| self.s.range(u32::from(i > 0), 7));
                let (rows, inner, outer) = (shape[0] as usize, shape[1] as usize, shape[2] as usize);
                let (chooser, flip, width) = (self.s.pick(&Party::BOTH), self.s.range(0, 1) == 1, self.s.width());
                let (bits, other) = (self.s.range(1, width), chooser.other());
                let mut ins =
                    vec![self.private_bits(chooser, bits, rows * inner), self.private(other, width, inner * outer)];
                if flip {
                    ins.push(self.private_bits(other, 1, rows * inner));
                }
                let (bits, width) = (bits as u8, width as u8);
                let inst = Inst::CrossMatrix { chooser, bits, width, flip, shape };
                self.inter(inst, &ins, &[(Ring::Add(width), Holder::Both)])
            }
            _ => {
                let (bits, to) = (self.s.width(), self.s.pick(&Party::BOTH));
                let ring = self.ring(bits);
                let x = self.shared(ring, n);
                self.inter(Inst::Open { to, ring }, &[x], &[(ring, Holder::Only(to))])
            }
        };
        for reg in made {
            let Ty { ring, holder, len, .. } = *self.program.ty(reg);
            if len > MAX_LEN {
                continue;
            }
            self.made.push(reg);
            if holder == Holder::Both && self.s.range(0, 1) == 1 {
                let to = self.s.pick(&Party::BOTH);
                let opened = self.inter(Inst::Open { to, ring }, &[reg], &[(ring, Holder::Only(to))]);
                self.made.extend(opened);
            }
        }
    }

    fn lookup(&mut self) -> Vec<Reg> {
        let n = self.len;
        let opened = self.s.range(0, 2) == 0;
        let most = if self.s.one_in(8) { if opened { 14 } else { MAX_INDEX } } else { 6 };
        let bits = self.s.range(if opened { 2 } else { 1 }, most);
        let form = if opened {
            let tops = Shape::tops(bits as u8);
            LookupForm::Opened { top: self.s.range((*tops.start()).into(), (*tops.end()).into()) as u8 }
        } else {
            LookupForm::OneOf { sender: self.s.pick(&Party::BOTH) }
        };
        let sender = form.first();
        let xor_index = if opened || self.s.range(0, 1) == 0 { 0 } else { self.s.range(1, bits) };
        let (index, units) = (bits - xor_index, if opened { 1 } else { self.s.range(1, 3) });
        let mut columns = Vec::new();
        let mut left = 128;
        for _ in 0..self.s.range(1, 4) {
            let bits = self.s.width().min(left);
            if bits > 0 {
                columns.push(self.ring(bits));
                left -= bits;
            }
        }
        let mut ins = Vec::new();
        for party in [sender, sender.other()] {
            if index > 0 {
                ins.push(self.private(party, index, n));
            }
            if xor_index > 0 {
                ins.push(self.private_bits(party, xor_index, n));
            }
        }
        let entries = (units as usize) << bits;
        let table = if opened || self.s.range(0, 1) == 0 {
            let entries = columns.iter().map(|c| {
                let values = self.s.values(entries, (0, (1 << c.bits()) - 1));
                values.into_iter().map(|v| v as u64).collect()
            });
            Table::Public(Arc::new(PublicTable::new(entries.collect())))
        } else {
            for c in &columns {
                let column = match c {
                    Ring::Add(w) => self.private(sender, (*w).into(), entries),
                    Ring::Xor(k) => self.private_bits(sender, (*k).into(), entries),
                };
                ins.push(column);
            }
            Table::Private
        };
        let results: Vec<_> = columns.iter().map(|&c| (c, Holder::Both)).collect();
        let (index, xor_index) = (index as u8, xor_index as u8);
        self.inter(Inst::Lookup { form, index, xor_index, units, table, columns }, &ins, &results)
    }
}
