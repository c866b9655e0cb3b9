//! The digest of a plan: a hash of its canonical encoding, which both parties compare before anything is sent.
//!
//! The encoding is written out here by hand, so that it depends on what a plan *means* and not on how its parts are called
//! in the source: renaming a type, a variant or a field changes nothing. It starts with a name and [`WIRE_VERSION`] and then
//! lists profile, registers, blocks with their schedules, inputs, outputs and the forms of products with the weights:
//!
//! * a number is 8 bytes, little endian (a value of a register's range or a constant is 16, two's complement; a real number
//!   is the 8 bytes of its IEEE 754 form);
//! * a choice between variants is one byte, a tag, and then the variant's fields;
//! * a list is its length and then its elements; a text is the list of its bytes in UTF-8.
//!
//! Every list has its length in front and every variant its tag, so two different plans have different encodings. Names of
//! scopes and recorded calls are left out: they change no message.
//!
//! **When something is added** (an instruction, a field), the compiler points at the function below that has to encode it:
//! nothing is matched with `..`. Give a new variant a new tag and never use the tag of a removed one again. If plans that
//! existed before change their encoding, raise [`WIRE_VERSION`], so that releases that disagree say so in plain words, and
//! write the new digest into the test.

use super::WIRE_VERSION;
use super::schedule::{BlockSchedule, Times};
use crate::program::cost::OneHotRate;
use crate::program::{
    Block, Carry, Goal, Holder, Input, LinearForms, LocalOp, Node, Op, Profile, Program, Rates, Reg, Ty,
};
use sirnn_backends::forms::linear_rlwe::{Form, Set};
use sirnn_backends::inst::{Conv, Flag, FlagKind, Inst, LinearOp, LookupForm, Party, Ring, Table};

/// Digest of all that both parties must agree on.
pub(super) fn digest(
    program: &Program,
    blocks: &[BlockSchedule],
    profile: &Profile,
    forms: &[Option<Form>],
) -> [u8; 32] {
    // All fields, so that a new one is not forgotten.
    let Program { regs, home, blocks: parts, inputs, outputs, calls: _, scopes: _ } = program;
    let mut e = Encoder::default();
    e.text("sirnn plan");
    e.number(WIRE_VERSION);
    e.profile(profile);
    e.list(regs, Encoder::ty);
    e.list(home, |e, &block| e.size(block));
    e.list(parts, Encoder::block);
    e.list(blocks, Encoder::schedule);
    e.list(inputs, |e, Input { name, reg }| {
        e.text(name);
        e.reg(reg);
    });
    e.list(outputs, |e, (name, reg)| {
        e.text(name);
        e.reg(reg);
    });
    e.list(forms, |e, &form| e.form(form));
    e.finish()
}

/// Hashes an encoding while it is written.
#[derive(Default)]
struct Encoder {
    hasher: blake3::Hasher,
    /// Not hashed yet: one call of the hash for many small parts.
    pending: Vec<u8>,
}

impl Encoder {
    fn bytes(&mut self, bytes: &[u8]) {
        const MANY: usize = 1 << 16;
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= MANY {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.pending);
        *self.hasher.finalize().as_bytes()
    }

    fn tag(&mut self, tag: u8) {
        self.bytes(&[tag]);
    }

    fn number(&mut self, n: impl Into<u64>) {
        self.bytes(&n.into().to_le_bytes());
    }

    fn size(&mut self, n: usize) {
        self.number(n as u64);
    }

    fn value(&mut self, v: i128) {
        self.bytes(&v.to_le_bytes());
    }

    fn real(&mut self, x: f64) {
        self.number(x.to_bits());
    }

    fn text(&mut self, text: &str) {
        self.size(text.len());
        self.bytes(text.as_bytes());
    }

    fn list<T>(&mut self, list: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.size(list.len());
        list.iter().for_each(|item| one(self, item));
    }

    fn numbers<T: Copy + Into<u64>>(&mut self, list: &[T]) {
        self.list(list, |e, &n| e.number(n));
    }

    fn sizes(&mut self, list: &[usize]) {
        self.list(list, |e, &n| e.size(n));
    }

    fn reg(&mut self, &Reg(reg): &Reg) {
        self.number(reg);
    }

    fn pairs(&mut self, list: &[(Reg, Reg)]) {
        self.list(list, |e, (a, b)| {
            e.reg(a);
            e.reg(b);
        });
    }

    fn time(&mut self, time: Option<usize>) {
        match time {
            None => self.tag(0),
            Some(time) => {
                self.tag(1);
                self.size(time);
            }
        }
    }

    fn party(&mut self, party: Party) {
        self.tag(match party {
            Party::P0 => 0,
            Party::P1 => 1,
        });
    }

    fn ring(&mut self, ring: Ring) {
        let (tag, bits) = match ring {
            Ring::Add(bits) => (0, bits),
            Ring::Xor(bits) => (1, bits),
        };
        self.tag(tag);
        self.number(bits);
    }

    fn profile(&mut self, &Profile { goal, rates, linear, sessions }: &Profile) {
        match goal {
            Goal::Rounds => self.tag(0),
            Goal::Bytes => self.tag(1),
            Goal::Online => self.tag(3),
            Goal::Time { bits_per_second, latency } => {
                self.tag(2);
                self.real(bits_per_second);
                self.real(latency);
            }
        }
        let Rates { cot, one_of, triple, triples, one_hot } = rates;
        self.real(cot);
        self.list(&one_of, |e, &rate| e.real(rate));
        self.real(triple);
        self.real(triples);
        self.list(&one_hot, |e, &OneHotRate { top, bytes }| {
            e.number(top);
            e.real(bytes);
        });
        self.tag(match linear {
            LinearForms::Cot => 0,
            LinearForms::Rlwe => 1,
            LinearForms::Auto => 2,
        });
        self.number(sessions);
    }

    fn form(&mut self, form: Option<Form>) {
        match form {
            None => self.tag(0),
            Some(Form { set, spread, bits }) => {
                self.tag(1);
                self.tag(match set {
                    Set::N4096Q100 => 0,
                    Set::N4096Q105 => 1,
                    Set::N8192Q150 => 2,
                });
                self.number(spread);
                self.number(bits);
            }
        }
    }

    fn ty(&mut self, ty: &Ty) {
        let &Ty { ring, len, holder, lo, hi } = ty;
        self.ring(ring);
        self.size(len);
        match holder {
            Holder::Both => self.tag(0),
            Holder::Only(party) => {
                self.tag(1);
                self.party(party);
            }
        }
        self.value(lo);
        self.value(hi);
    }

    fn block(&mut self, block: &Block) {
        let Block { trips, nodes, slices, carries, stacks, finals } = block;
        self.size(*trips);
        self.list(nodes, Self::node);
        self.pairs(slices);
        self.list(carries, |e, Carry { init, param, next }| [init, param, next].into_iter().for_each(|r| e.reg(r)));
        self.pairs(stacks);
        self.pairs(finals);
    }

    fn node(&mut self, node: &Node) {
        let Node { op, ins, outs, scope: _ } = node;
        match op {
            Op::Local(op) => {
                self.tag(0);
                self.local(op);
            }
            Op::Inter(inst) => {
                self.tag(1);
                self.instruction(inst);
            }
        }
        self.list(ins, Self::reg);
        self.list(outs, Self::reg);
    }

    fn local(&mut self, op: &LocalOp) {
        match *op {
            LocalOp::Add => self.tag(0),
            LocalOp::Sub => self.tag(1),
            LocalOp::Mul => self.tag(2),
            LocalOp::MatMul { ref shape } => {
                self.tag(3);
                self.sizes(shape);
            }
            LocalOp::Offset(c) => {
                self.tag(4);
                self.value(c);
            }
            LocalOp::Scale(c) => {
                self.tag(5);
                self.value(c);
            }
            LocalOp::Shl { by, width } => {
                self.tag(6);
                self.number(by);
                self.number(width);
            }
            LocalOp::Digit { lo, bits } => {
                self.tag(7);
                self.number(lo);
                self.number(bits);
            }
            LocalOp::Planes { lo, bits } => {
                self.tag(8);
                self.number(lo);
                self.number(bits);
            }
            LocalOp::Word { width } => {
                self.tag(9);
                self.number(width);
            }
            LocalOp::Select => self.tag(10),
            LocalOp::Xor => self.tag(11),
            LocalOp::Not => self.tag(12),
            LocalOp::Pick { from, count } => {
                self.tag(13);
                self.number(from);
                self.number(count);
            }
            LocalOp::Stack => self.tag(14),
            LocalOp::View => self.tag(15),
            LocalOp::Share => self.tag(16),
            LocalOp::Public(ref values) => {
                self.tag(17);
                self.list(values, |e, &v| e.value(v));
            }
            LocalOp::Slice { from, len } => {
                self.tag(18);
                self.size(from);
                self.size(len);
            }
            LocalOp::Concat => self.tag(19),
            LocalOp::Repeat { times } => {
                self.tag(20);
                self.size(times);
            }
            LocalOp::Gather(ref map) => {
                self.tag(21);
                self.numbers(map);
            }
            LocalOp::Retype => self.tag(22),
        }
    }

    fn instruction(&mut self, inst: &Inst) {
        match *inst {
            Inst::And { cols } => {
                self.tag(0);
                self.number(cols);
            }
            Inst::Cross { chooser, bits, width, top } => {
                self.tag(1);
                self.party(chooser);
                self.number(bits);
                self.number(width);
                self.tag(top.into());
            }
            Inst::CrossMatrix { chooser, bits, width, flip, ref shape } => {
                self.tag(2);
                self.party(chooser);
                self.number(bits);
                self.number(width);
                self.tag(flip.into());
                self.numbers(shape);
            }
            Inst::Lookup { form, index, xor_index, units, ref table, ref columns } => {
                self.tag(3);
                match form {
                    LookupForm::OneOf { sender } => {
                        self.tag(0);
                        self.party(sender);
                    }
                    LookupForm::Opened { top } => {
                        self.tag(1);
                        self.number(top);
                    }
                }
                self.number(index);
                self.number(xor_index);
                self.number(units);
                match table {
                    Table::Public(table) => {
                        self.tag(0);
                        self.bytes(table.digest());
                    }
                    Table::Private => self.tag(1),
                }
                self.list(columns, |e, &ring| e.ring(ring));
            }
            Inst::Leaf { sender, digit, views, ref flags } => {
                self.tag(4);
                self.party(sender);
                self.number(digit);
                self.number(views);
                self.list(flags, |e, &Flag { kind, bits, view }| {
                    e.tag(match kind {
                        FlagKind::Carry => 0,
                        FlagKind::Ones => 1,
                    });
                    e.number(bits);
                    e.number(view);
                });
            }
            Inst::Linear { op, weight_bits, width } => {
                self.tag(5);
                self.linear(op);
                self.number(weight_bits);
                self.number(width);
            }
            Inst::Open { to, ring } => {
                self.tag(6);
                self.party(to);
                self.ring(ring);
            }
        }
    }

    fn linear(&mut self, op: LinearOp) {
        match op {
            LinearOp::MatMul { inner, outer } => {
                self.tag(0);
                self.number(inner);
                self.number(outer);
            }
            LinearOp::Scale { period } => {
                self.tag(1);
                self.number(period);
            }
            LinearOp::Conv(Conv { image, kernel, stride, padding, groups, filters }) => {
                self.tag(2);
                self.numbers(&image);
                self.numbers(&kernel);
                self.numbers(&stride);
                self.numbers(&padding);
                self.number(groups);
                self.number(filters);
            }
        }
    }

    fn schedule(&mut self, schedule: &BlockSchedule) {
        let BlockSchedule { interval, length, nodes, available, first } = schedule;
        self.size(*interval);
        self.size(*length);
        self.list(nodes, |e, times| match times {
            Times::Local(times) => {
                e.tag(0);
                times.iter().for_each(|&time| e.time(time));
            }
            Times::Inter { draw, messages, ready } => {
                e.tag(1);
                e.size(*draw);
                e.sizes(messages);
                ready.iter().for_each(|&time| e.time(time));
            }
        });
        self.list(available, |e, times| times.iter().for_each(|&time| e.size(time)));
        self.number(*first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirnn_backends::table::PublicTable;

    fn digest(program: &Program, blocks: &[BlockSchedule], profile: &Profile) -> [u8; 32] {
        super::digest(program, blocks, profile, &[None])
    }

    use std::sync::Arc;

    fn hash(encode: impl FnOnce(&mut Encoder)) -> String {
        let mut e = Encoder::default();
        encode(&mut e);
        blake3::Hash::from(e.finish()).to_hex()[..16].to_string()
    }

    /// A plan with every part in it, written down and not built, so that only the encoding can change its digest.
    fn everything() -> (Program, Vec<BlockSchedule>, Profile) {
        let ty = |ring, holder| Ty { ring, len: 3, holder, lo: -4, hi: 3 };
        let regs = vec![
            ty(Ring::Add(9), Holder::Only(Party::P0)),
            ty(Ring::Xor(2), Holder::Both),
            ty(Ring::Add(64), Holder::Both),
        ];
        let conv =
            Conv { image: [5, 4, 2], kernel: [3, 2], stride: [2, 1], padding: [1, 1, 0, 1], groups: 2, filters: 4 };
        let flags =
            vec![Flag { kind: FlagKind::Carry, bits: 3, view: 0 }, Flag { kind: FlagKind::Ones, bits: 4, view: 1 }];
        let lookup = |form, table| Inst::Lookup {
            form,
            index: 4,
            xor_index: 1,
            units: 2,
            table,
            columns: vec![Ring::Add(7), Ring::Xor(3)],
        };
        let by_ot = LookupForm::OneOf { sender: Party::P1 };
        let public = || Table::Public(Arc::new(PublicTable::new(vec![vec![1, 2], vec![3]])));
        let linear = |op| Inst::Linear { op, weight_bits: 5, width: 20 };
        let local = [
            LocalOp::Add,
            LocalOp::Sub,
            LocalOp::Mul,
            LocalOp::MatMul { shape: [2, 3, 4] },
            LocalOp::Offset(-7),
            LocalOp::Scale(1 << 70),
            LocalOp::Shl { by: 1, width: 2 },
            LocalOp::Digit { lo: 1, bits: 2 },
            LocalOp::Planes { lo: 1, bits: 2 },
            LocalOp::Word { width: 8 },
            LocalOp::Select,
            LocalOp::Xor,
            LocalOp::Not,
            LocalOp::Pick { from: 1, count: 2 },
            LocalOp::Stack,
            LocalOp::View,
            LocalOp::Share,
            LocalOp::Public(Arc::new(vec![1, -1])),
            LocalOp::Slice { from: 1, len: 2 },
            LocalOp::Concat,
            LocalOp::Repeat { times: 3 },
            LocalOp::Gather(Arc::new(vec![2, 0])),
            LocalOp::Retype,
        ]
        .map(Op::Local);
        let inter = [
            Inst::And { cols: 2 },
            Inst::Cross { chooser: Party::P0, bits: 3, width: 9, top: true },
            Inst::CrossMatrix { chooser: Party::P1, bits: 3, width: 9, flip: false, shape: [1, 2, 3] },
            lookup(by_ot, Table::Private),
            lookup(by_ot, public()),
            lookup(LookupForm::Opened { top: 3 }, public()),
            Inst::Leaf { sender: Party::P0, digit: 4, views: 2, flags },
            linear(LinearOp::MatMul { inner: 2, outer: 3 }),
            linear(LinearOp::Scale { period: 4 }),
            linear(LinearOp::Conv(conv)),
            Inst::Open { to: Party::P1, ring: Ring::Add(9) },
        ]
        .map(Op::Inter);
        let node = |op| Node { op, ins: vec![Reg(0), Reg(1)], outs: vec![Reg(2)], scope: 0 };
        let block = Block {
            trips: 5,
            nodes: local.into_iter().chain(inter).map(node).collect(),
            slices: vec![(Reg(0), Reg(1))],
            carries: vec![Carry { init: Reg(0), param: Reg(1), next: Reg(2) }],
            stacks: vec![(Reg(2), Reg(1))],
            finals: vec![(Reg(1), Reg(0))],
        };
        let schedule = BlockSchedule {
            interval: 2,
            length: 7,
            nodes: vec![
                Times::Local([Some(1), None]),
                Times::Inter { draw: 1, messages: vec![2, 3], ready: [None, Some(4)] },
            ],
            available: vec![[0, 1], [2, 3]],
            first: 1,
        };
        let program = Program {
            regs,
            home: vec![0, 0, 0],
            blocks: vec![block],
            inputs: vec![Input { name: "x".into(), reg: Reg(0) }],
            outputs: vec![("y".into(), Reg(2))],
            ..Program::default()
        };
        let goal = Goal::Time { bits_per_second: 1e9, latency: 0.5e-3 };
        (program, vec![schedule], Profile { goal, rates: Rates::iknp(), linear: LinearForms::Cot, sessions: 1 })
    }

    /// If this fails, read the last paragraph of the module's head.
    #[test]
    fn the_encoding_is_pinned() {
        let (program, blocks, profile) = everything();
        let digest = blake3::Hash::from(digest(&program, &blocks, &profile));
        assert_eq!(digest.to_hex().as_str(), "9614a1280204d7e7b05920712990a198473bee6f94c79312c8f37b6baa47e8d8");
    }

    #[test]
    fn every_part_counts() {
        let (program, blocks, profile) = everything();
        let mut seen = std::collections::HashSet::from([digest(&program, &blocks, &profile)]);
        let nodes = program.blocks[0].nodes.len();
        for i in 0..nodes {
            let mut shorter = program.clone();
            shorter.blocks[0].nodes.remove(i);
            assert!(seen.insert(digest(&shorter, &blocks, &profile)), "node {i}");
        }
        let mut differs = |change: &dyn Fn(&mut Program, &mut BlockSchedule, &mut Profile)| {
            let (mut program, mut blocks, mut profile) = everything();
            change(&mut program, &mut blocks[0], &mut profile);
            assert!(seen.insert(digest(&program, &blocks, &profile)));
        };
        differs(&|p, _, _| p.regs[0].lo -= 1);
        differs(&|p, _, _| p.regs[0].hi += 1);
        differs(&|p, _, _| p.regs[0].len += 1);
        differs(&|p, _, _| p.regs[0].holder = Holder::Only(Party::P1));
        differs(&|p, _, _| p.regs[1].ring = Ring::Add(2));
        differs(&|p, _, _| p.blocks[0].trips += 1);
        differs(&|p, _, _| p.blocks[0].carries[0].next = Reg(1));
        differs(&|p, _, _| p.blocks[0].slices.clear());
        differs(&|p, _, _| p.blocks[0].stacks.clear());
        differs(&|p, _, _| p.blocks[0].finals.clear());
        differs(&|p, _, _| p.inputs[0].name = "z".into());
        differs(&|p, _, _| p.outputs[0].1 = Reg(1));
        differs(&|_, s, _| s.interval += 1);
        differs(&|_, s, _| s.nodes[0] = Times::Local([Some(1), Some(0)]));
        differs(&|_, s, _| s.available[1][0] += 1);
        differs(&|_, _, f| f.goal = Goal::Bytes);
        differs(&|_, _, f| f.rates.one_of[12] += 1.0);
        differs(&|_, _, f| f.linear = LinearForms::Auto);
        differs(&|_, _, f| f.sessions = 2);
        let forms =
            [(Set::N4096Q100, 1, 70), (Set::N4096Q100, 2, 70), (Set::N4096Q100, 1, 71), (Set::N8192Q150, 1, 70)];
        for (set, spread, bits) in forms {
            assert!(seen.insert(super::digest(&program, &blocks, &profile, &[Some(Form { set, spread, bits })])));
        }
        assert!(seen.insert(super::digest(&program, &blocks, &profile, &[])));
    }

    #[test]
    fn lists_do_not_run_into_each_other() {
        let names = |a: &str, b: &str| {
            hash(|e| {
                e.text(a);
                e.text(b);
            })
        };
        assert_ne!(names("ab", "c"), names("a", "bc"));
        let many = vec![7u32; 1 << 15];
        assert_ne!(hash(|e| e.numbers(&many)), hash(|e| e.numbers(&many[1..])));
    }
}
