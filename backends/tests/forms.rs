//! Every form, both parties in one process, against the definition of its instruction.

use proptest::prelude::*;
use sirnn_backends::{
    Error, Party,
    correlation::Correlations,
    dealer::InsecureDealer,
    forms::{Instance, LinearShare, Operand, linear_offline, linear_offline_cost, start},
    inst::{Conv, CorrelationKind, Flag, FlagKind, Inst, LinearOp, LookupForm, Ring, Table},
    onehot::Shape,
    ot::{self, streams::Streams},
    table::PublicTable,
    transport::{Channel, MemChannel},
    vector::{Bits, Vector, storage_bits},
};
use sirnn_kernels::aes::Prg;
use std::sync::Arc;

/// Lengths at which words, tiles and nothing at all begin and end.
const LENGTHS: [usize; 6] = [0, 1, 63, 64, 65, 1000];

/// How a driver may interleave what the contract leaves open.
#[derive(Clone, Copy, Debug)]
struct Order {
    /// Unordered messages are ferried last first. (Buffers also begin with other contents.)
    reversed: bool,
    /// Results are asked for as early as possible, or after all messages.
    early: bool,
    /// Operands are shown only where the contract promises them.
    hidden: bool,
}

fn order() -> impl Strategy<Value = Order> {
    any::<(bool, bool, bool)>().prop_map(|(reversed, early, hidden)| Order { reversed, early, hidden })
}

/// A source of test values.
struct Values(u64);

impl Values {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn take(&mut self, ring: Ring, n: usize) -> Vec<u64> {
        (0..n).map(|_| self.next() & mask(ring.bits())).collect()
    }
}

fn mask(bits: u32) -> u64 {
    if bits == 0 { 0 } else { u64::MAX >> (64 - bits) }
}

fn vector(ring: Ring, values: &[u64]) -> Vector {
    match ring {
        Ring::Add(w) => Vector::from_u64s(w.into(), values.iter().copied()),
        Ring::Xor(k) => {
            let mut bits = Bits::zero(k.into(), values.len());
            for (i, value) in values.iter().enumerate() {
                for p in 0..usize::from(k) {
                    bits.set(p, i, value >> p & 1 == 1);
                }
            }
            Vector::Bits(bits)
        }
    }
}

/// The elements of a register, after checking that it is in its normal form.
fn elements(ring: Ring, v: &Vector) -> Vec<u64> {
    match (ring, v) {
        (Ring::Xor(k), Vector::Bits(bits)) => {
            assert_eq!(bits.planes, usize::from(k));
            let mut clean = bits.clone();
            clean.clear_tail();
            assert_eq!(&clean, bits, "bits behind the end");
            (0..bits.len).map(|i| (0..bits.planes).map(|p| u64::from(bits.get(p, i)) << p).sum()).collect()
        }
        (Ring::Add(w), v) => {
            let stored = match v {
                Vector::U8(_) => 8,
                Vector::U16(_) => 16,
                Vector::U32(_) => 32,
                Vector::U64(_) => 64,
                Vector::Bits(_) => panic!("bit planes in an additive register"),
            };
            assert_eq!(stored, storage_bits(w.into()));
            let values = v.to_u64s();
            assert!(values.iter().all(|x| x & !mask(w.into()) == 0), "not reduced");
            values
        }
        _ => panic!("ring words in an XOR register"),
    }
}

fn combine(ring: Ring, a: u64, b: u64) -> u64 {
    match ring {
        Ring::Add(w) => a.wrapping_add(b) & mask(w.into()),
        Ring::Xor(_) => a ^ b,
    }
}

/// Splits values: one register per party.
fn split(ring: Ring, values: &[u64], rng: &mut Values) -> [Vector; 2] {
    let zero = rng.take(ring, values.len());
    let one: Vec<u64> = values
        .iter()
        .zip(&zero)
        .map(|(v, z)| match ring {
            Ring::Add(w) => v.wrapping_sub(*z) & mask(w.into()),
            Ring::Xor(_) => v ^ z,
        })
        .collect();
    [vector(ring, &zero), vector(ring, &one)]
}

/// The operands of both parties, in the order of the instruction.
#[derive(Clone, Default)]
struct Operands([Vec<Operand>; 2]);

impl Operands {
    fn shared(mut self, [zero, one]: [Vector; 2]) -> Self {
        self.0[0].push(Some(Arc::new(zero)));
        self.0[1].push(Some(Arc::new(one)));
        self
    }

    fn private(mut self, owner: Party, v: Vector) -> Self {
        self.0[owner.index()].push(Some(Arc::new(v)));
        self.0[owner.other().index()].push(None);
        self
    }
}

type Linear = [Option<LinearShare>; 2];
/// What the network does to a message.
type Tamper<'a> = &'a mut dyn FnMut(&mut Vec<u8>);

/// Runs both parties on dealt correlations as `order` says and gives each one's results.
fn run(
    inst: &Inst,
    n: usize,
    operands: &Operands,
    linear: Linear,
    order: Order,
    seed: u64,
    tamper: Tamper,
) -> Result<[Option<Vec<Vector>>; 2], Error> {
    let mut dealers = Party::BOTH.map(|party| InsecureDealer::new(party, seed));
    let [zero, one] = &mut dealers;
    let results = run_on([zero, one], inst, n, operands, linear, order, seed, tamper);
    for dealer in &dealers {
        assert_eq!(dealer.drawn(), inst.demand(n).into_iter().collect());
    }
    results
}

/// Runs both parties on any correlations.
#[allow(clippy::too_many_arguments)]
fn run_on(
    sources: [&mut dyn Correlations; 2],
    inst: &Inst,
    n: usize,
    operands: &Operands,
    linear: Linear,
    order: Order,
    seed: u64,
    tamper: Tamper,
) -> Result<[Option<Vec<Vector>>; 2], Error> {
    let mut linear = linear.into_iter();
    let mut instances = sources.map(|source| {
        let party = source.party();
        let mut prg = Prg::new(u128::from(seed) << 1 | party.index() as u128);
        start(inst, n, party, source, &mut prg, linear.next().unwrap()).unwrap()
    });
    let messages = inst.messages(n);
    let mut arrived = vec![false; messages.len()];
    let mut results = [None, None];
    let mut finish = |instances: &mut [Box<dyn Instance>; 2], arrived: &[bool]| {
        for party in Party::BOTH {
            let p = party.index();
            let Some(ready) = inst.ready(party) else { continue };
            if results[p].is_none() && ready.messages.iter().all(|m| arrived[*m]) {
                results[p] = Some(instances[p].finish(&shown(&operands.0[p], order, &ready.needs)));
            }
        }
        results.clone()
    };
    while let Some(m) = {
        let mut open = (0..messages.len()).filter(|m| !arrived[*m] && messages[*m].after.is_none_or(|a| arrived[a]));
        if order.reversed { open.next_back() } else { open.next() }
    } {
        let from = messages[m].from.index();
        // Whatever the buffer held before.
        let mut bytes = vec![if order.reversed { 0 } else { 0xff }; messages[m].bytes];
        instances[from].produce(m, &shown(&operands.0[from], order, &messages[m].needs), &mut bytes);
        tamper(&mut bytes);
        instances[1 - from].consume(m, &shown(&operands.0[1 - from], order, &[]), &bytes)?;
        arrived[m] = true;
        if order.early {
            finish(&mut instances, &arrived);
        }
    }
    Ok(finish(&mut instances, &arrived))
}

fn shown(operands: &[Operand], order: Order, needs: &[usize]) -> Vec<Operand> {
    let show = |(i, o): (usize, &Operand)| if !order.hidden || needs.contains(&i) { o.clone() } else { None };
    operands.iter().enumerate().map(show).collect()
}

/// The values of the results, where both parties have a share.
fn reconstruct(inst: &Inst, results: &[Option<Vec<Vector>>; 2]) -> Vec<Vec<u64>> {
    let [zero, one] = results.each_ref().map(|r| r.as_ref().expect("both parties have a share"));
    let rings = inst.results();
    assert_eq!((zero.len(), one.len()), (rings.len(), rings.len()));
    let column = |(c, ring): (usize, &Ring)| {
        let (a, b) = (elements(*ring, &zero[c]), elements(*ring, &one[c]));
        assert_eq!(a.len(), b.len());
        a.iter().zip(&b).map(|(a, b)| combine(*ring, *a, *b)).collect()
    };
    rings.iter().enumerate().map(column).collect()
}

fn check(inst: &Inst, n: usize, operands: &Operands, linear: Linear, order: Order, seed: u64, expected: &[Vec<u64>]) {
    let results = run(inst, n, operands, linear, order, seed, &mut |_| {}).unwrap();
    for (c, (got, expected)) in reconstruct(inst, &results).iter().zip(expected).enumerate() {
        assert_eq!(got.len(), expected.len(), "{inst:?}");
        for i in 0..got.len() {
            assert_eq!(got[i], expected[i], "{inst:?} n={n} column {c} element {i}");
        }
    }
}

fn digits(ring: Ring, values: impl Iterator<Item = u64>) -> Vector {
    vector(ring, &values.collect::<Vec<_>>())
}

type Case = (Inst, Operands, Vec<Vec<u64>>);

// And ---------------------------------------------------------------------------------------------------------------

fn and_case(cols: u8, n: usize, rng: &mut Values) -> Case {
    let (a, b) = (rng.take(Ring::Xor(1), n), rng.take(Ring::Xor(cols), n));
    let expected = a.iter().zip(&b).map(|(a, b)| a * b).collect();
    let operands = Operands::default().shared(split(Ring::Xor(1), &a, rng)).shared(split(Ring::Xor(cols), &b, rng));
    (Inst::And { cols }, operands, vec![expected])
}

// Cross -------------------------------------------------------------------------------------------------------------

fn cross_case(chooser: Party, bits: u8, width: u8, top: bool, n: usize, rng: &mut Values) -> Case {
    let u = rng.take(Ring::Xor(bits), n);
    let v = rng.take(Ring::Add(width), n);
    let last = Ring::Add(width - (bits - 1));
    let t = rng.take(last, n);
    let mut operands = Operands::default()
        .private(chooser, vector(Ring::Xor(bits), &u))
        .private(chooser.other(), vector(Ring::Add(width), &v));
    if top {
        operands = operands.private(chooser.other(), vector(last, &t));
    }
    let term = |i: usize, j: u8| {
        let x = if top && j == bits - 1 { t[i] } else { v[i] };
        (u[i] >> j & 1).wrapping_mul(x) << j
    };
    let sum = |i: usize| (0..bits).fold(0u64, |sum, j| sum.wrapping_add(term(i, j))) & mask(width.into());
    (Inst::Cross { chooser, bits, width, top }, operands, vec![(0..n).map(sum).collect()])
}

// Cross of matrices -------------------------------------------------------------------------------------------------

fn cross_matrix_case(chooser: Party, bits: u8, width: u8, flip: bool, shape: [u32; 3], rng: &mut Values) -> Case {
    let [rows, inner, outer] = shape.map(|d| d as usize);
    let u = rng.take(Ring::Xor(bits), rows * inner);
    let v = rng.take(Ring::Add(width), inner * outer);
    let flags = rng.take(Ring::Xor(1), rows * inner);
    let mut operands = Operands::default()
        .private(chooser, vector(Ring::Xor(bits), &u))
        .private(chooser.other(), vector(Ring::Add(width), &v));
    if flip {
        operands = operands.private(chooser.other(), vector(Ring::Xor(1), &flags));
    }
    let number = |e: usize| {
        let top = (u[e] >> (bits - 1)) << (bits - 1);
        if flip && flags[e] == 1 { (u[e] ^ top).wrapping_sub(top) } else { u[e] }
    };
    let entry = |at: usize| {
        let (i, j) = (at / outer, at % outer);
        let term = |k: usize| number(i * inner + k).wrapping_mul(v[k * outer + j]);
        (0..inner).fold(0u64, |sum, k| sum.wrapping_add(term(k))) & mask(width.into())
    };
    let inst = Inst::CrossMatrix { chooser, bits, width, flip, shape };
    (inst, operands, vec![(0..rows * outer).map(entry).collect()])
}

// Lookup ------------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct LookupShape {
    form: LookupForm,
    index: u8,
    xor_index: u8,
    units: u32,
    private: bool,
    columns: Vec<Ring>,
}

/// A look-up of all the given index shares: `(s, s', r, r')` per instance.
fn lookup_case(shape: &LookupShape, shares: &[[u64; 4]], rng: &mut Values) -> Case {
    let LookupShape { form, index, xor_index, units, private, columns } = shape.clone();
    let total = index + xor_index;
    let entries = (units as usize) << total;
    let table: Vec<Vec<u64>> = columns.iter().map(|c| rng.take(*c, entries)).collect();
    let sender = form.first();
    let mut operands = Operands::default();
    for (owner, at) in [(sender, 0), (sender.other(), 2)] {
        if index > 0 {
            operands = operands.private(owner, digits(Ring::Add(index), shares.iter().map(|x| x[at])));
        }
        if xor_index > 0 {
            operands = operands.private(owner, digits(Ring::Xor(xor_index), shares.iter().map(|x| x[at + 1])));
        }
    }
    if private {
        for (ring, column) in columns.iter().zip(&table) {
            operands = operands.private(sender, vector(*ring, column));
        }
    }
    let entry = |i: usize| {
        let [s, s2, r, r2] = shares[i];
        let e = (s + r) & mask(index.into()) | (s2 ^ r2) << index;
        ((i % units as usize) << total) + e as usize
    };
    let expected = table.iter().map(|column| (0..shares.len()).map(|i| column[entry(i)]).collect()).collect();
    let table = if private { Table::Private } else { Table::Public(Arc::new(PublicTable::new(table))) };
    (Inst::Lookup { form, index, xor_index, units, table, columns }, operands, expected)
}

fn opened(bits: u8, top: u8, columns: Vec<Ring>) -> LookupShape {
    let form = LookupForm::Opened { top: top.min(*Shape::tops(bits).end()) };
    LookupShape { form, index: bits, xor_index: 0, units: 1, private: false, columns }
}

fn random_shares(index: u8, xor_index: u8, n: usize, rng: &mut Values) -> Vec<[u64; 4]> {
    let (lo, hi) = (mask(index.into()), mask(xor_index.into()));
    (0..n).map(|_| [rng.next() & lo, rng.next() & hi, rng.next() & lo, rng.next() & hi]).collect()
}

fn column() -> impl Strategy<Value = Ring> {
    prop_oneof![
        (1u8..=64).prop_map(Ring::Add),
        (1u8..=64).prop_map(Ring::Xor),
        prop_oneof![Just(1u8), Just(8), Just(16), Just(32)].prop_map(Ring::Add),
        (1u8..=4).prop_map(Ring::Xor),
    ]
}

/// Some columns, as many as fit into a pad.
fn columns() -> impl Strategy<Value = Vec<Ring>> {
    proptest::collection::vec(column(), 1..=5).prop_map(|mut columns| {
        while columns.iter().map(|c| c.bits()).sum::<u32>() > 128 {
            columns.pop();
        }
        columns
    })
}

fn party() -> impl Strategy<Value = Party> {
    prop_oneof![Just(Party::P0), Just(Party::P1)]
}

fn length() -> impl Strategy<Value = usize> {
    proptest::sample::select(LENGTHS.to_vec())
}

// Leaf --------------------------------------------------------------------------------------------------------------

fn leaf_case(sender: Party, digit: u8, flags: &[Flag], views: &[Vec<u64>], b: &[u64]) -> Case {
    let mut operands = Operands::default();
    for a in views {
        operands = operands.private(sender, vector(Ring::Add(digit), a));
    }
    operands = operands.private(sender.other(), vector(Ring::Add(digit), b));
    let flag = |f: &Flag, i: usize| {
        let m = mask(f.bits.into());
        let sum = (views[usize::from(f.view)][i] & m) + (b[i] & m);
        match f.kind {
            FlagKind::Carry => sum > m,
            FlagKind::Ones => sum == m,
        }
    };
    let value = |i: usize| flags.iter().enumerate().map(|(j, f)| u64::from(flag(f, i)) << j).sum();
    let expected = (0..b.len()).map(value).collect();
    (Inst::Leaf { sender, digit, views: views.len() as u8, flags: flags.to_vec() }, operands, vec![expected])
}

fn flag(digit: u8, views: u8) -> impl Strategy<Value = Flag> {
    (any::<bool>(), 1..=digit, 0..views).prop_map(|(carry, bits, view)| Flag {
        kind: if carry { FlagKind::Carry } else { FlagKind::Ones },
        bits,
        view,
    })
}

// Linear ------------------------------------------------------------------------------------------------------------

fn linear_definition(op: LinearOp, weight_bits: u8, width: u8, weights: &[u64], x: &[u64]) -> Vec<u64> {
    let signed = |w: u64| (w << (64 - weight_bits)) as i64 >> (64 - weight_bits);
    let m = mask(width.into());
    match op {
        LinearOp::Scale { period } => {
            let w = |i: usize| signed(weights[i % period as usize]) as u64;
            x.iter().enumerate().map(|(i, x)| w(i).wrapping_mul(*x) & m).collect()
        }
        LinearOp::MatMul { inner, outer } => {
            let (inner, outer) = (inner as usize, outer as usize);
            let entry = |row: &[u64], j: usize| {
                let product = |k: usize| (signed(weights[k * outer + j]) as u64).wrapping_mul(row[k]);
                (0..inner).fold(0u64, |sum, k| sum.wrapping_add(product(k))) & m
            };
            x.chunks_exact(inner).flat_map(|row| (0..outer).map(move |j| entry(row, j))).collect()
        }
        LinearOp::Conv(conv) => {
            // From the images' side: every element goes to all places whose patch it is in.
            let [height, wide, channels] = conv.image.map(|d| d as usize);
            let [rows, columns] = conv.output();
            let filters = conv.filters as usize;
            let (depth, outer) = (channels / conv.groups as usize, filters / conv.groups as usize);
            let mut y = vec![0u64; op.output_len(x.len())];
            for (i, x) in x.iter().enumerate() {
                let (channel, at) = (i % channels, i / channels);
                let (at_x, at_y, image) = (at % wide, at / wide % height, at / wide / height);
                for tap_y in 0..conv.kernel[0] as usize {
                    for tap_x in 0..conv.kernel[1] as usize {
                        let place = |at: usize, tap: usize, d: usize, limit: usize| {
                            let from = (at + conv.padding[2 * d] as usize).checked_sub(tap)?;
                            let stride = conv.stride[d] as usize;
                            (from % stride == 0 && from / stride < limit).then_some(from / stride)
                        };
                        let (Some(row), Some(column)) = (place(at_y, tap_y, 0, rows), place(at_x, tap_x, 1, columns))
                        else {
                            continue;
                        };
                        let group = channel / depth;
                        let tap = (group * conv.kernel[0] as usize + tap_y) * conv.kernel[1] as usize + tap_x;
                        for j in 0..outer {
                            let w = signed(weights[(tap * depth + channel % depth) * outer + j]) as u64;
                            let y = &mut y[((image * rows + row) * columns + column) * filters + group * outer + j];
                            *y = y.wrapping_add(w.wrapping_mul(*x)) & m;
                        }
                    }
                }
            }
            y
        }
    }
}

/// The offline phase, both parties on threads of their own; gives the shares after checking the cost.
fn linear_shares(op: LinearOp, weight_bits: u8, width: u8, n: usize, weights: &Vector, seed: u64) -> [LinearShare; 2] {
    let (cots, to_p1, to_p0) = linear_offline_cost(op, weight_bits, width, n);
    let (a, b) = MemChannel::pair();
    let offline = |party: Party, mut channel: MemChannel| {
        let mut dealer = InsecureDealer::new(party, seed);
        let mut prg = Prg::new(u128::from(seed) << 1 | party.index() as u128);
        let weights = (party == Party::P0).then_some(weights);
        let share =
            linear_offline(party, op, weight_bits, width, n, weights, &mut dealer, &mut channel, &mut prg).unwrap();
        assert_eq!(dealer.drawn().values().sum::<usize>(), cots);
        assert!(dealer.drawn().keys().all(|kind| *kind == CorrelationKind::Cot { sender: Party::P1 }));
        (share, channel.traffic())
    };
    std::thread::scope(|scope| {
        let p1 = scope.spawn(|| offline(Party::P1, b));
        let (zero, traffic) = offline(Party::P0, a);
        assert_eq!((traffic.sent, traffic.received), (to_p1 as u64, to_p0 as u64));
        [zero, p1.join().unwrap().0]
    })
}

/// Both phases of a linear layer on `n` input elements.
fn linear_check(op: LinearOp, weight_bits: u8, width: u8, n: usize, order: Order, seed: u64) {
    let mut rng = Values(seed);
    let ring = Ring::Add(width);
    let weights = rng.take(Ring::Add(weight_bits), op.weights());
    let x = rng.take(ring, n);
    let expected = linear_definition(op, weight_bits, width, &weights, &x);
    let weights = vector(Ring::Add(weight_bits), &weights);
    let shares = linear_shares(op, weight_bits, width, n, &weights, seed).map(Some);
    let operands = Operands::default().private(Party::P0, weights).shared(split(ring, &x, &mut rng));
    check(&Inst::Linear { op, weight_bits, width }, n, &operands, shares, order, seed, &[expected]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn and(cols in 1u8..=9, n in length(), order in order(), seed: u64) {
        let (inst, operands, expected) = and_case(cols, n, &mut Values(seed));
        check(&inst, n, &operands, [None, None], order, seed, &expected);
    }

    #[test]
    fn cross(
        chooser in party(), width in 1u8..=64, bits in 1u8..=64, top: bool, n in length(), order in order(), seed: u64,
    ) {
        let (inst, operands, expected) = cross_case(chooser, bits.min(width), width, top, n, &mut Values(seed));
        check(&inst, n, &operands, [None, None], order, seed, &expected);
    }

    #[test]
    fn cross_matrix(
        chooser in party(), width in 1u8..=64, bits in 1u8..=64, flip: bool,
        rows in 0u32..=9, inner in 1u32..=20, outer in 1u32..=70, order in order(), seed: u64,
    ) {
        let shape = [rows, inner, outer];
        let case = cross_matrix_case(chooser, bits.min(width), width, flip, shape, &mut Values(seed));
        check(&case.0, (rows * inner) as usize, &case.1, [None, None], order, seed, &case.2);
    }

    #[test]
    fn opened_lookups(
        bits in 2u8..=16, top in 1u8..=6, columns in columns(), n in length(), order in order(), seed: u64,
    ) {
        // Long tables take a while to make.
        let n = if bits > 12 { n.min(65) } else { n };
        let mut rng = Values(seed);
        let shares = random_shares(bits, 0, n, &mut rng);
        let (inst, operands, expected) = lookup_case(&opened(bits, top, columns), &shares, &mut rng);
        check(&inst, n, &operands, [None, None], order, seed, &expected);
    }

    #[test]
    fn lookup(
        sender in party(), total in 1u8..=7, xor_index in 0u8..=7, units in 1u32..=5, private: bool,
        columns in columns(), n in length(), order in order(), seed: u64,
    ) {
        let xor_index = xor_index.min(total);
        let shape = LookupShape { form: LookupForm::OneOf { sender }, index: total - xor_index, xor_index, units, private, columns };
        let mut rng = Values(seed);
        let shares = random_shares(shape.index, shape.xor_index, n, &mut rng);
        let (inst, operands, expected) = lookup_case(&shape, &shares, &mut rng);
        check(&inst, n, &operands, [None, None], order, seed, &expected);
    }

    #[test]
    fn leaf(
        sender in party(),
        (digit, flags) in (1u8..=8).prop_flat_map(|d| (Just(d), proptest::collection::vec(flag(d, 2), 1..=8))),
        n in length(), order in order(), seed: u64,
    ) {
        let mut rng = Values(seed);
        let views = [rng.take(Ring::Add(digit), n), rng.take(Ring::Add(digit), n)];
        let b = rng.take(Ring::Add(digit), n);
        let (inst, operands, expected) = leaf_case(sender, digit, &flags, &views, &b);
        check(&inst, n, &operands, [None, None], order, seed, &expected);
    }

    #[test]
    fn matmul(
        inner in 1u32..=9, outer in 1u32..=9, weight_bits in 1u8..=64, width in 1u8..=64, rows in length(),
        order in order(), seed: u64,
    ) {
        // Weights of 64 bits and 1000 rows are for a release build.
        let rows = if weight_bits > 16 { rows.min(65) } else { rows };
        linear_check(LinearOp::MatMul { inner, outer }, weight_bits, width, rows * inner as usize, order, seed);
    }

    #[test]
    fn scale(
        period in 1u32..=70, weight_bits in 1u8..=16, width in 1u8..=64, n in length(), order in order(), seed: u64,
    ) {
        linear_check(LinearOp::Scale { period }, weight_bits, width, n, order, seed);
    }

    #[test]
    fn open(to in party(), ring in column(), n in length(), order in order(), seed: u64) {
        let mut rng = Values(seed);
        let values = rng.take(ring, n);
        let inst = Inst::Open { to, ring };
        let operands = Operands::default().shared(split(ring, &values, &mut rng));
        let results = run(&inst, n, &operands, [None, None], order, seed, &mut |_| {}).unwrap();
        prop_assert!(results[to.other().index()].is_none());
        prop_assert_eq!(elements(ring, &results[to.index()].as_ref().unwrap()[0]), values);
    }
}

#[test]
fn convolutions() {
    let conv = |image, kernel, stride, padding, groups, filters| {
        let conv = Conv { image, kernel, stride, padding, groups, filters };
        assert_eq!(conv.problem(), None);
        LinearOp::Conv(conv)
    };
    let order = Order { reversed: false, early: true, hidden: true };
    for (op, images) in [
        (conv([5, 6, 3], [3, 3], [1, 1], [1; 4], 1, 4), 2),
        (conv([5, 6, 4], [3, 2], [2, 1], [2, 0, 1, 0], 4, 4), 1),
        (conv([4, 4, 6], [1, 1], [1, 1], [0; 4], 2, 8), 3),
        (conv([7, 7, 2], [3, 3], [2, 2], [1; 4], 2, 6), 1),
        (conv([40, 33, 2], [3, 3], [1, 1], [1; 4], 2, 2), 1),
        (conv([3, 3, 1], [3, 3], [1, 1], [0; 4], 1, 1), 0),
    ] {
        let LinearOp::Conv(shape) = op else { unreachable!() };
        linear_check(op, 8, 23, images * shape.image_len(), order, 17);
    }
}

#[test]
fn and_of_all_inputs() {
    // All shares of both operands' bits, in all lanes of a word.
    let (mut zero, mut one) = ([vec![], vec![]], [vec![], vec![]]);
    for i in 0..256u64 {
        zero[0].push(i & 1);
        zero[1].push(i >> 1 & 1);
        one[0].push(i >> 2 & 1);
        one[1].push(i >> 3 & 1);
    }
    let expected = (0..256).map(|i| (zero[0][i] ^ one[0][i]) & (zero[1][i] ^ one[1][i])).collect();
    let ring = Ring::Xor(1);
    let operands = Operands::default()
        .shared([vector(ring, &zero[0]), vector(ring, &one[0])])
        .shared([vector(ring, &zero[1]), vector(ring, &one[1])]);
    let order = Order { reversed: false, early: true, hidden: true };
    check(&Inst::And { cols: 1 }, 256, &operands, [None, None], order, 1, &[expected]);
}

#[test]
fn cross_of_every_storage_type_and_many_tiles() {
    let mut rng = Values(2);
    for (bits, width) in [(1, 1), (8, 8), (1, 16), (16, 16), (16, 32), (32, 32), (1, 64), (64, 64)] {
        for (chooser, top) in [(Party::P0, false), (Party::P1, true)] {
            let n = 9001;
            let (inst, operands, expected) = cross_case(chooser, bits, width, top, n, &mut rng);
            let order = Order { reversed: top, early: true, hidden: false };
            check(&inst, n, &operands, [None, None], order, 3, &expected);
        }
    }
}

#[test]
fn matmul_of_many_tiles() {
    let order = Order { reversed: false, early: true, hidden: true };
    for (inner, outer, rows) in [(3, 2, 10_000), (40, 30, 99), (1, 1, 1024)] {
        linear_check(LinearOp::MatMul { inner, outer }, 8, 23, inner as usize * rows, order, 13);
    }
    linear_check(LinearOp::Scale { period: 3 }, 8, 31, 40_000, order, 14);
}

#[test]
fn lookup_of_all_index_shares() {
    let mut rng = Values(4);
    for total in 1..=4u8 {
        for xor_index in 0..=total {
            let units = 3;
            let index = total - xor_index;
            let (lo, hi) = (mask(index.into()), mask(xor_index.into()));
            let columns = vec![Ring::Add(13), Ring::Xor(3), Ring::Add(37)];
            let shape = LookupShape {
                form: LookupForm::OneOf { sender: Party::P1 },
                index,
                xor_index,
                units,
                private: total % 2 == 0,
                columns,
            };
            let share = |i: u64| {
                let i = i / u64::from(units);
                let (s, r) = (i & mask(total.into()), i >> total);
                [s & lo, s >> index & hi, r & lo, r >> index & hi]
            };
            let shares: Vec<_> = (0..u64::from(units) << (2 * total)).map(share).collect();
            let (inst, operands, expected) = lookup_case(&shape, &shares, &mut rng);
            let order = Order { reversed: false, early: true, hidden: true };
            check(&inst, shares.len(), &operands, [None, None], order, 5, &expected);
        }
    }
}

/// Every index and every pair of shares of short indices.
#[test]
fn opened_lookups_of_every_index() {
    let mut rng = Values(61);
    for bits in 2..=5u8 {
        for top in Shape::tops(bits) {
            let columns = vec![Ring::Add(13), Ring::Xor(3), Ring::Add(1), Ring::Add(37)];
            let shares: Vec<_> = (0..1u64 << (2 * bits)).map(|i| [i & mask(bits.into()), 0, i >> bits, 0]).collect();
            let (inst, operands, expected) = lookup_case(&opened(bits, top, columns), &shares, &mut rng);
            let order = Order { reversed: top % 2 == 0, early: true, hidden: true };
            check(&inst, shares.len(), &operands, [None, None], order, 7, &expected);
        }
    }
}

#[test]
fn lookup_of_wide_indices() {
    let mut rng = Values(6);
    for (index, xor_index, columns) in [(8, 0, vec![Ring::Add(16)]), (11, 1, vec![Ring::Add(64), Ring::Add(64)])] {
        let shape = LookupShape {
            form: LookupForm::OneOf { sender: Party::P0 },
            index,
            xor_index,
            units: 2,
            private: false,
            columns,
        };
        let shares = random_shares(index, xor_index, 67, &mut rng);
        let (inst, operands, expected) = lookup_case(&shape, &shares, &mut rng);
        let order = Order { reversed: false, early: false, hidden: true };
        check(&inst, shares.len(), &operands, [None, None], order, 7, &expected);
    }
}

#[test]
fn leaf_of_all_digits_and_flags() {
    for digit in 1..=8u8 {
        let all = 1u64 << digit;
        let a: Vec<u64> = (0..all * all).map(|i| i % all).collect();
        let b: Vec<u64> = (0..all * all).map(|i| i / all).collect();
        let complement: Vec<u64> = a.iter().map(|a| !a & mask(digit.into())).collect();
        for kind in [FlagKind::Carry, FlagKind::Ones] {
            let view = u8::from(kind == FlagKind::Ones);
            let flags: Vec<Flag> = (1..=digit).map(|bits| Flag { kind, bits, view }).collect();
            let views = [a.clone(), complement.clone()];
            let (inst, operands, expected) = leaf_case(Party::P0, digit, &flags, &views, &b);
            let order = Order { reversed: false, early: true, hidden: true };
            check(&inst, b.len(), &operands, [None, None], order, 8, &expected);
        }
    }
}

/// Which bits differ between any of the vectors.
#[derive(Default)]
struct Varying {
    first: Vec<u64>,
    bits: Vec<u64>,
}

impl Varying {
    fn add(&mut self, words: Vec<u64>) {
        if self.bits.is_empty() {
            self.bits = vec![0; words.len()];
            self.first = words;
        } else {
            let both = self.first.iter().zip(words);
            self.bits.iter_mut().zip(both).for_each(|(v, (a, b))| *v |= a ^ b);
        }
    }

    fn count(&self) -> usize {
        self.bits.iter().map(|v| v.count_ones() as usize).sum()
    }
}

/// With operands that stay the same, every bit that is sent and every bit of a result's share is random: the number
/// of bits that change from session to session is that of the bits without padding.
#[test]
fn masks_cover_every_bit() {
    let n = 67;
    let mut rng = Values(15);
    for (inst, operands, expected) in some_of_each(n, &mut rng) {
        let sent: &[usize] = match &inst {
            Inst::And { cols } => &[n * (1 + usize::from(*cols)); 2],
            Inst::Cross { bits, width, .. } => {
                &[n * usize::from(*bits), n * (0..*bits).map(|j| usize::from(width - j)).sum::<usize>()]
            }
            Inst::CrossMatrix { bits, width, shape, .. } => {
                let values = n * shape[2] as usize;
                &[n * usize::from(*bits), values * (0..*bits).map(|j| usize::from(width - j)).sum::<usize>()]
            }
            Inst::Lookup { form: LookupForm::Opened { .. }, index, columns, .. } => {
                let values = columns.iter().filter(|c| matches!(c, Ring::Add(_))).map(|c| c.bits() as usize - 1);
                let values = n * values.sum::<usize>();
                let index = n * usize::from(*index);
                &[index, index, values, values][..if values > 0 { 4 } else { 2 }]
            }
            Inst::Lookup { index, xor_index, columns, .. } => {
                let entry: u32 = columns.iter().map(|c| c.bits()).sum();
                &[n * usize::from(index + xor_index), (n << (index + xor_index)) * entry as usize]
            }
            Inst::Leaf { digit, flags, .. } => &[n * usize::from(*digit), (n << digit) * flags.len()],
            Inst::Linear { .. } | Inst::Open { .. } => continue,
        };
        let mut messages: Vec<Varying> = sent.iter().map(|_| Varying::default()).collect();
        let mut shares = [Varying::default(), Varying::default()];
        let order = Order { reversed: false, early: false, hidden: false };
        for seed in 0..40 {
            let mut m = 0;
            let mut record = |bytes: &mut Vec<u8>| {
                messages[m].add(bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect());
                m += 1;
            };
            let results = run(&inst, n, &operands, [None, None], order, seed, &mut record).unwrap();
            for (varying, columns) in shares.iter_mut().zip(results.iter().flatten()) {
                varying.add(inst.results().iter().zip(columns).flat_map(|(r, c)| elements(*r, c)).collect());
            }
        }
        assert_eq!(messages.iter().map(Varying::count).collect::<Vec<_>>(), sent, "{inst:?}");
        let share =
            expected.first().map_or(n, Vec::len) * inst.results().iter().map(|r| r.bits() as usize).sum::<usize>();
        assert_eq!(shares.map(|s| s.count()), [share; 2], "{inst:?}");
    }
}

/// One case of each instruction.
fn some_of_each(n: usize, rng: &mut Values) -> Vec<Case> {
    let mut cases = vec![and_case(3, n, rng)];
    cases.push(cross_case(Party::P0, 7, 20, false, n, rng));
    cases.push(cross_case(Party::P1, 64, 64, true, n, rng));
    cases.push(cross_matrix_case(Party::P0, 5, 21, true, [1, n as u32, 3], rng));
    for (index, xor_index) in [(4, 0), (0, 2), (5, 1)] {
        let columns = vec![Ring::Add(12), Ring::Xor(2), Ring::Add(64)];
        let shape = LookupShape {
            form: LookupForm::OneOf { sender: Party::P1 },
            index,
            xor_index,
            units: 3,
            private: index == 4,
            columns,
        };
        let shares = random_shares(index, xor_index, n, rng);
        cases.push(lookup_case(&shape, &shares, rng));
    }
    for (bits, columns) in [(6, vec![Ring::Add(12), Ring::Xor(2), Ring::Add(64)]), (13, vec![Ring::Xor(4)])] {
        let shares = random_shares(bits, 0, n, rng);
        cases.push(lookup_case(&opened(bits, 3, columns), &shares, rng));
    }
    let flags: Vec<Flag> = (1..=5).map(|bits| Flag { kind: FlagKind::Carry, bits, view: bits % 2 }).collect();
    let views = [rng.take(Ring::Add(5), n), rng.take(Ring::Add(5), n)];
    let b = rng.take(Ring::Add(5), n);
    cases.push(leaf_case(Party::P0, 5, &flags, &views, &b));
    for ring in [Ring::Add(23), Ring::Xor(3)] {
        let values = rng.take(ring, n);
        let operands = Operands::default().shared(split(ring, &values, rng));
        cases.push((Inst::Open { to: Party::P0, ring }, operands, vec![]));
    }
    cases
}

#[test]
fn messages_are_written_completely() {
    for (inst, operands, _) in some_of_each(65, &mut Values(16)) {
        let sent = [false, true].map(|reversed| {
            let mut sent = Vec::new();
            let order = Order { reversed, early: false, hidden: false };
            run(&inst, 65, &operands, [None, None], order, 17, &mut |bytes| sent.push(bytes.clone())).unwrap();
            sent.sort();
            sent
        });
        assert!(sent[0] == sent[1], "{inst:?}");
    }
}

#[test]
fn real_correlations() {
    let order = Order { reversed: false, early: true, hidden: true };
    for name in ot::names() {
        for (inst, operands, expected) in some_of_each(65, &mut Values(18)) {
            let Some((kind, n)) = inst.demand(65) else { continue };
            let needs = [(kind, n as u64)];
            let (zero, one) = MemChannel::pair();
            let make = |party, mut channel: MemChannel| {
                let spec = ot::lookup(name).unwrap();
                let backend = spec.connect(party, [1; 16], &needs, &mut channel).unwrap();
                Streams::prefilled(backend, &needs, &mut channel).unwrap()
            };
            let mut sources = std::thread::scope(|scope| {
                let other = scope.spawn(|| make(Party::P1, one));
                [make(Party::P0, zero), other.join().unwrap()]
            });
            let [a, b] = &mut sources;
            let results = run_on([a, b], &inst, 65, &operands, [None, None], order, 19, &mut |_| {}).unwrap();
            assert_eq!(reconstruct(&inst, &results), expected, "{name} {inst:?}");
            assert_eq!(sources.map(|s| s.left()), [0, 0]);
        }
    }
}

#[test]
fn garbage_gives_shares_and_wrong_lengths_give_errors() {
    let mut rng = Values(9);
    for n in [0, 1, 65, 1000] {
        for (inst, operands, expected) in some_of_each(n, &mut rng) {
            for early in [false, true] {
                let order = Order { reversed: early, early, hidden: early };
                let mut noise = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|b| *b = rng.next() as u8);
                let results = run(&inst, n, &operands, [None, None], order, 10, &mut noise).unwrap();
                for columns in results.iter().flatten() {
                    for (ring, column) in inst.results().iter().zip(columns) {
                        assert_eq!(elements(*ring, column).len(), expected.first().map_or(n, Vec::len));
                    }
                }
            }
            let order = Order { reversed: false, early: false, hidden: false };
            let longer = run(&inst, n, &operands, [None, None], order, 11, &mut |bytes| bytes.extend([0; 8]));
            assert!(matches!(longer, Err(Error::Protocol(_))), "{inst:?}");
            if n > 0 {
                let shorter =
                    run(&inst, n, &operands, [None, None], order, 12, &mut |bytes| bytes.truncate(bytes.len() - 1));
                assert!(matches!(shorter, Err(Error::Protocol(_))), "{inst:?}");
            }
        }
    }
}

#[test]
fn garbage_in_linear_layers() {
    let mut rng = Values(20);
    let (op, weight_bits, width, n) = (LinearOp::MatMul { inner: 5, outer: 3 }, 4, 13, 5 * 1100);
    let ring = Ring::Add(width);
    let weights = vector(Ring::Add(weight_bits), &rng.take(Ring::Add(weight_bits), op.weights()));
    let (_, to_p1, to_p0) = linear_offline_cost(op, weight_bits, width, n);
    let mut offline = |party: Party, peer_sends: usize| {
        let (mut channel, mut peer) = MemChannel::pair();
        let bytes: Vec<u8> = (0..peer_sends).map(|_| rng.next() as u8).collect();
        peer.send(&bytes).unwrap();
        let (dealer, prg) = (&mut InsecureDealer::new(party, 21), &mut Prg::new(22));
        linear_offline(party, op, weight_bits, width, n, Some(&weights), dealer, &mut channel, prg)
    };
    for party in Party::BOTH {
        let from_peer = [to_p0, to_p1][party.index()];
        let share = offline(party, from_peer).unwrap();
        assert_eq!(elements(ring, &share.share).len(), op.output_len(n));
        assert_eq!(share.mask.map(|mask| elements(ring, &mask).len()), (party == Party::P1).then_some(n));
    }
    let inst = Inst::Linear { op, weight_bits, width };
    let x = rng.take(ring, n);
    let operands = Operands::default().private(Party::P0, weights.clone()).shared(split(ring, &x, &mut rng));
    let shares = linear_shares(op, weight_bits, width, n, &weights, 23).map(Some);
    let order = Order { reversed: false, early: true, hidden: true };
    let mut noise = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|b| *b = rng.next() as u8);
    let results = run(&inst, n, &operands, shares.clone(), order, 24, &mut noise).unwrap();
    assert_eq!(reconstruct(&inst, &results)[0].len(), op.output_len(n));
    let longer = run(&inst, n, &operands, shares, order, 25, &mut |bytes| bytes.push(0));
    assert!(matches!(longer, Err(Error::Protocol(_))));
}

#[test]
fn a_peer_that_is_gone_is_an_error() {
    let (mut channel, peer) = MemChannel::pair();
    drop(peer);
    let op = LinearOp::Scale { period: 2 };
    let weights = Vector::from_u64s(8, [1, 2]);
    for party in Party::BOTH {
        let (dealer, prg) = (&mut InsecureDealer::new(party, 26), &mut Prg::new(27));
        let share = linear_offline(party, op, 8, 16, 10, Some(&weights), dealer, &mut channel, prg);
        assert!(matches!(share, Err(Error::Closed(_))));
    }
}
