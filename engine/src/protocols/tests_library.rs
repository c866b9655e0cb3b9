//! The rest of the library against its definitions, and its cost.

use super::test_support::{Inputs, all, check, check_real, inputs, one, program};
use super::{
    activation::Relu,
    basic::{Reveal, Share},
    compare::*,
    conv::SharedConv,
    division::*,
    linear::ScaledLinear,
    lookup::PrivateLookup,
    matmul_shared::MatMul,
    msnzb::*,
    normalise::*,
    pool::*,
    product::Product,
    roots::Root,
    select::Max,
    sigmoid::*,
    sign::Sign,
    truncation::*,
};
use crate::fixed::{math, wrap};
use crate::plan::Plan;
use crate::plan::operations::{self, Params};
use crate::program::{Build, Cx, Function, Int, Own, Profile, Program, Reg, signed};
use crate::run::ideal::Machine;
use sirnn_backends::inst::{Conv, LinearOp, Party};
use sirnn_backends::ot::{self, streams::Mode};

/// Rounds, and bytes per instance in all, of a plan for `n` instances with IKNP and KK13.
fn cost(plan: &Plan, n: usize) -> (usize, f64) {
    let offline = plan.offline_cost(ot::lookup("iknp").unwrap(), Mode::Prefilled);
    let bytes: u64 = offline.bytes_from.iter().chain(&plan.online_bytes()).sum();
    (plan.rounds(), bytes as f64 / n as f64)
}

/// Prints the cost of every operation.
#[test]
#[ignore = "prints a table"]
fn figures() {
    let p = |f: fn(&mut Params)| {
        let mut p = Params::default();
        f(&mut p);
        p
    };
    let rows: Vec<(&str, Params, f64, usize)> = vec![
        ("compare", p(|p| p.width = 16), 175.0, 4),
        ("compare", p(|p| p.width = 32), 400.0, 5),
        ("compare", p(|p| p.width = 64), 850.0, 6),
        ("tr", p(|p| (p.width, p.shift) = (32, 12)), 130.0, 5),
        ("ars", p(|p| (p.width, p.shift) = (32, 12)), 430.0, 7),
        ("divpow2", p(|p| (p.width, p.shift) = (16, 7)), 280.0, 7),
        ("divpow2", p(|p| (p.width, p.shift) = (32, 12)), 540.0, 8),
        ("sext", p(|p| (p.width, p.out_width) = (16, 32)), 190.0, 5),
        ("sext", p(|p| (p.width, p.out_width, p.slack) = (16, 32, true)), 20.0, 1),
        ("digdec", p(|p| (p.width, p.digit) = (32, 8)), 400.0, 6),
        ("mul", p(|p| (p.width, p.out_width) = (16, 32)), 1040.0, 6),
        ("mul", p(|p| (p.width, p.out_width, p.slack) = (16, 32, true)), 680.0, 1),
        ("exp", p(|_| ()), 1750.0, 13),
        ("sigmoid", p(|_| ()), 3400.0, 36),
        ("tanh", p(|_| ()), 3300.0, 37),
    ];
    let n = 65_536;
    type Lower<'a> = &'a dyn Fn(&mut Cx, &[Reg]) -> Build<Vec<Reg>>;
    let show = |name: &str, types: &[(u32, (i128, i128))], f: Lower, target: f64| {
        let mut cx = Cx::new(Profile::default());
        let ins: Vec<Reg> = types
            .iter()
            .enumerate()
            .map(|(i, &(width, range))| {
                let own = cx.input(&format!("x{i}"), Party::P1, width, n, range);
                cx.share(own).0
            })
            .collect();
        f(&mut cx, &ins).unwrap();
        let plan = Plan::new(cx.finish(), Profile::default());
        let (r, b) = cost(&plan, n);
        println!("{name:24} {b:8.1} B (<= {target:6.1})  {r:2} rounds");
    };
    let u16s = (16, (0, 32767));
    show("rsqrt 16 12 12", &[u16s], &|cx, ins| cx.call(root(true, 16, 12, 12, 16), ins), 4200.0);
    show("rsqrt 16 12 11", &[u16s], &|cx, ins| cx.call(root(true, 16, 12, 11, 16), ins), 4200.0);
    show("sqrt 16 12 12", &[u16s], &|cx, ins| cx.call(root(false, 16, 12, 12, 16), ins), 4900.0);
    show("rsqrt 32 20 22", &[(32, (0, i32::MAX.into()))], &|cx, ins| cx.call(root(true, 32, 20, 22, 32), ins), 0.0);
    show("one-hot 32", &[(32, (0, u32::MAX.into()))], &|cx, ins| cx.call(OneHot { bits: 32 }, ins), 1350.0);
    show("msnzb index 32", &[(32, (0, u32::MAX.into()))], &|cx, ins| cx.call(Msnzb { width: 6 }, ins), 1350.0);
    show(
        "one-hot 32 numbers",
        &[(32, (0, u32::MAX.into()))],
        &|cx, ins| cx.call(OneHotNumbers { bits: 32, width: 32 }, ins),
        0.0,
    );
    show("relu 16", &[(16, signed(16))], &|cx, ins| cx.call(Relu { limit: None, shift: 0, width: 16 }, ins), 251.0);
    let limit = Some(6 << 26);
    show("relu6 32 >> 15", &[(32, signed(32))], &|cx, ins| cx.call(Relu { limit, shift: 15, width: 16 }, ins), 1058.0);
    let div = math::Div::new(12, 12, 12).unwrap();
    let den = (13, (4096, 8191));
    show(
        "div 16 12",
        &[(16, signed(16)), den],
        &|cx, ins| cx.call(Divide { reference: div.clone(), width: 16 }, ins),
        0.0,
    );
    let div = math::DivGeneral::new(12, 16, 12, 12).unwrap();
    let den = (16, (0, 65535));
    show(
        "div general 16 12",
        &[(16, signed(16)), den],
        &|cx, ins| cx.call(DivideGeneral { reference: div.clone(), width: 16 }, ins),
        0.0,
    );
    let both = [(16, signed(16)), (16, signed(16))];
    show("equal 32", &[(32, signed(32)), (32, signed(32))], &|cx, ins| cx.call(Equal, ins), 404.0);
    show("square 16 -> 32, slack", &[(16, signed(15))], &|cx, ins| cx.call(Product { width: 32 }, &[ins[0]; 2]), 0.0);
    let norm = L2Normalise::new(64, 16, 12, 7, Rounding::Floor, 16).unwrap();
    show("l2norm 64 channels", &both[..1], &|cx, ins| cx.call(norm.clone(), ins), 0.0);
    show("max of 16, per number", &both[..1], &|cx, ins| cx.call(Max { classes: 16 }, ins), 0.0);
    // 256 x 256 times 256 x 256, per element of an operand.
    show(
        "matmul 256, slack",
        &[(16, signed(15)); 2],
        &|cx, ins| cx.call(MatMul { inner: 256, outer: 256, width: 40 }, ins),
        0.0,
    );
    let sigmoid = Sigmoid { reference: math::Sigmoid::new(32, 20, 20).unwrap(), trailing_zeros: 0, width: 22 };
    show("sigmoid 32 20 20", &[(32, signed(32))], &|cx, ins| cx.call(sigmoid.clone(), ins), 0.0);
    for (name, params, bytes, rounds) in rows {
        let plan = operations::find(name).unwrap().plan(&params, Profile::default()).unwrap();
        let (r, b) = cost(&plan, params.n);
        let Params { width, out_width, shift, slack, .. } = params;
        println!(
            "{name:8} {width:2} out {out_width:2} shift {shift:2} slack {slack:5} {b:8.1} B (<= {bytes:6.1})  {r:2} rounds (<= {rounds})"
        );
    }
}

fn spread(count: usize, (lo, hi): (i128, i128)) -> Vec<i128> {
    let walk = (0..count as i128).map(|i| lo + (i * i * 0x9E37_79B9_7F4A_7C15 + i * 31) % (hi - lo + 1));
    [lo, hi, (lo + hi) / 2].into_iter().chain(walk).take(count).collect()
}

/// All pairs of numbers.
fn pairs((a, b): (i128, i128), (c, d): (i128, i128)) -> [Vec<i128>; 2] {
    let pairs: Vec<_> = (a..=b).flat_map(|x| (c..=d).map(move |y| (x, y))).collect();
    [pairs.iter().map(|p| p.0).collect(), pairs.iter().map(|p| p.1).collect()]
}

/// A function of a private number of each party; `first` holds the first operand.
fn private(
    function: impl Function + 'static,
    first: Party,
    width: u32,
    ranges: [(i128, i128); 2],
    values: [Vec<i128>; 2],
) -> (Program, Inputs) {
    let mut cx = Cx::new(Profile::default());
    let a = cx.input("x0", first, width, values[0].len(), ranges[0]);
    let b = cx.input("x1", first.other(), width, values[1].len(), ranges[1]);
    for (i, out) in cx.call(function, &[a.0, b.0]).unwrap().into_iter().enumerate() {
        let out = cx.call(Reveal { to: Party::P1 }, &[out]).unwrap()[0];
        cx.output(&format!("y{i}"), Own(out));
    }
    (cx.finish(), inputs(&values))
}

#[test]
fn comparisons_of_private_numbers() {
    let ranges = [(0, 15), (0, 15)];
    let values = || pairs(ranges[0], ranges[1]);
    let run = |(p, i): (Program, Inputs)| check(&p, &i, 3).unwrap();
    for first in Party::BOTH {
        run(private(Greater, first, 4, ranges, values()));
        run(private(Equal, first, 4, ranges, values()));
        let signed = [(-8, 7), (-3, 9)];
        run(private(Greater, first, 5, signed, pairs(signed[0], signed[1])));
        run(private(Equal, first, 5, signed, pairs(signed[0], signed[1])));
    }
    run(private(Wraps { width: 4 }, Party::P0, 4, ranges, values()));
    run(private(WrapsAndOnes { width: 4 }, Party::P0, 4, ranges, values()));
    for width in [1, 2, 7, 16, 31, 33, 63, 64] {
        let range = (0, (1i128 << width) - 1);
        let mut values = [spread(120, range), spread(240, range).split_off(120)];
        let [a, b] = &mut values;
        b[..40].clone_from_slice(&a[..40]);
        for i in 40..80 {
            b[i] = range.1 - a[i] + i128::from(a[i] > 0 && i % 2 == 0);
        }
        for first in Party::BOTH {
            run(private(Greater, first, width, [range; 2], values.clone()));
            run(private(Equal, first, width, [range; 2], values.clone()));
        }
        run(private(Wraps { width }, Party::P0, width, [range; 2], values.clone()));
        run(private(WrapsAndOnes { width }, Party::P0, width, [range; 2], values.clone()));
        for n in [0, 1] {
            let few = values.clone().map(|v| v[..n].to_vec());
            run(private(WrapsAndOnes { width }, Party::P0, width, [range; 2], few));
        }
    }
}

#[test]
fn comparisons_of_shared_numbers() {
    for (a, b) in [((-8, 7), (-8, 7)), ((0, 15), (0, 15)), ((-3, 9), (5, 12)), ((0, 15), (-8, 7)), ((0, 3), (10, 12))] {
        let values = pairs(a, b);
        for seed in 0..3 {
            one(Greater, &[(4, a), (4, b)], values.to_vec(), seed);
            one(Equal, &[(4, a), (4, b)], values.to_vec(), seed);
        }
    }
    for width in [1, 2, 17, 32, 61, 63, 64] {
        let values = vec![
            spread(90, signed(width)),
            [spread(30, signed(width)), spread(80, signed(width)).split_off(20)].concat(),
        ];
        one(Greater, &[(width, signed(width)); 2], values.clone(), 5);
        one(Equal, &[(width, signed(width)); 2], values, 5);
    }
    let p = program(&[(64, signed(64), 1), (64, (0, u64::MAX.into()), 1)], |cx, ins| cx.call(Greater, ins));
    assert!(p.unwrap_err().to_string().contains("64 bits"));
}

#[test]
fn functions_of_bits() {
    let bits =
        |cx: &mut Cx, ins: &[Reg]| -> Build<Vec<Reg>> { ins.iter().map(|&x| Ok(cx.call(Sign, &[x])?[0])).collect() };
    for gate in [Gate::And, Gate::Or, Gate::Xor] {
        let p = program(&[(3, signed(3), 64), (3, signed(3), 64)], |cx, ins| {
            let bits = bits(cx, ins)?;
            cx.call(gate, &bits)
        });
        check(&p.unwrap(), &inputs(&pairs(signed(3), signed(3))), 1).unwrap();
    }
    let p = program(&[(3, signed(3), 64), (3, signed(3), 64), (5, signed(5), 64)], |cx, ins| {
        let bits = bits(cx, &ins[..1])?;
        let not = cx.call(Not, &bits)?[0];
        let chosen = cx.call(Select { width: 7 }, &[not, ins[1], ins[2]])?[0];
        Ok(vec![not, chosen])
    });
    let [a, b] = pairs(signed(3), signed(3));
    check(&p.unwrap(), &inputs(&[a, b, spread(64, signed(5))]), 1).unwrap();
    // The wrap of a sharing from its sign.
    for width in [1u32, 4, 16, 64] {
        let mut cx = Cx::new(Profile::default());
        let range = (0, (1i128 << width) - 1);
        let a = cx.input("x0", Party::P0, width, 256, range);
        let b = cx.input("x1", Party::P1, width, 256, range);
        let (s, t) = (cx.share(a), cx.share(b));
        let sum = cx.add(s, t);
        let sign = cx.top_bit(sum).unwrap();
        let wraps = cx.call(WrapsGivenSign { width }, &[a.0, b.0, sign.0]).unwrap();
        let out = cx.call(Reveal { to: Party::P0 }, &wraps).unwrap();
        cx.output("y", Own(out[0]));
        let values = inputs(&[spread(256, range), spread(512, range).split_off(256)]);
        let want: Vec<i128> =
            values["x0"].iter().zip(&values["x1"]).map(|(a, b)| i128::from(a + b > range.1)).collect();
        assert_eq!(Machine::new(&cx.finish(), 1, true).run(&values).unwrap()[0].1, want);
    }
}

#[test]
fn most_significant_bits() {
    for bits in 1..=9 {
        let range = (0, (1i128 << bits) - 1);
        for ring in [bits, bits + 1] {
            one(Msnzb { width: 5 }, &[(ring, range)], vec![all(range.0, range.1)], 2);
            one(OneHot { bits }, &[(ring, range)], vec![all(range.0, range.1)], 2);
            one(OneHotNumbers { bits, width: 3 }, &[(ring, range)], vec![all(range.0, range.1)], 2);
        }
    }
    one(Msnzb { width: 6 }, &[(16, (0, 65535))], vec![all(0, 65535)], 2);
    one(OneHot { bits: 16 }, &[(16, (0, 65535))], vec![all(0, 65535)], 2);
    for bits in [15, 24, 31, 32, 33, 47, 63, 64] {
        let range = (0, (1i128 << bits) - 1);
        let values: Vec<i128> =
            spread(400, range).into_iter().enumerate().map(|(i, v)| v >> (i % bits as usize)).chain([0, 1]).collect();
        one(Msnzb { width: 7 }, &[(bits, range)], vec![values.clone()], 2);
        one(OneHot { bits }, &[(bits, range)], vec![values], 2);
    }
    one(OneHot { bits: 32 }, &[(32, (0, u32::MAX.into()))], vec![vec![]], 2);
    assert!(program(&[(8, signed(8), 1)], |cx, ins| cx.call(Msnzb { width: 4 }, ins)).is_err());
}

fn root(inverse: bool, width: u32, s_in: i32, s_out: u32, out: u32) -> Root {
    let reference = if inverse { math::Root::rsqrt } else { math::Root::sqrt }(width, s_in, s_out).unwrap();
    Root { reference, width: out }
}

/// The result reduced to `width` bits, as unsigned numbers.
#[derive(Debug)]
struct Low {
    width: u32,
}

impl Function for Low {
    fn name(&self) -> &'static str {
        "low"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| wrap(x, self.width, false)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let low = cx.reduce(Int(ins[0]), self.width);
        Ok(vec![cx.retype(low, 0, (1 << self.width) - 1).0])
    }
}

fn roots(f: Root, ring: u32, range: (i128, i128), x: Vec<i128>) {
    let width = f.width;
    let what = format!("{} {} {} {} on {range:?}", f.name(), f.reference.width, f.reference.s_in, f.reference.s_out);
    let p = program(&[(ring, range, x.len())], |cx, ins| {
        let y = cx.call(f, ins)?;
        cx.call(Low { width }, &y)
    });
    check(&p.unwrap_or_else(|e| panic!("{what}: {e}")), &inputs(&[x]), 4).unwrap_or_else(|e| panic!("{what}: {e}"));
}

#[test]
fn roots_of_every_16_bit_number() {
    for inverse in [true, false] {
        for (s_in, s_out) in [(12, 11), (12, 12), (11, 12), (9, 13), (15, 4), (0, 14)] {
            roots(root(inverse, 16, s_in, s_out, 16), 16, (0, 32767), all(0, 32767));
        }
        roots(root(inverse, 16, 12, 12, 30), 15, (3, 3000), all(3, 3000));
        roots(root(inverse, 8, 5, 6, 9), 8, (0, 127), all(0, 127));
        roots(root(inverse, 3, 1, 1, 4), 3, (0, 3), all(0, 3));
        roots(root(inverse, 16, 12, 12, 16), 16, (0, 32767), vec![]);
    }
}

#[test]
fn roots_of_wide_numbers() {
    for inverse in [true, false] {
        for (w, s_in, s_out, out) in
            [(32, 20, 22, 24), (32, 13, 15, 16), (25, 24, 14, 30), (40, 12, 20, 20), (20, 10, 16, 20)]
        {
            let range = (0, (1i128 << (w - 1)) - 1);
            let x = spread(600, range).into_iter().enumerate().map(|(i, v)| v >> (i % w as usize)).chain([0, 1, 2, 3]);
            roots(root(inverse, w, s_in, s_out, out), w, range, x.collect());
        }
    }
}

/// The tables of the authors' library, if `SIRNN_DATA` says where they are.
#[test]
fn rsqrt_equals_the_reference_table() {
    let Some(dir) = std::env::var_os("SIRNN_DATA") else { return };
    let bytes = std::fs::read(std::path::Path::new(&dir).join("math/rsqrt_16_12_16_11.u16")).unwrap();
    let table: Vec<i128> = bytes.chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect();
    let p = program(&[(16, (0, 32767), 32767)], |cx, ins| {
        let y = cx.call(root(true, 16, 12, 11, 16), ins)?;
        cx.call(Low { width: 16 }, &y)
    });
    let got = Machine::new(&p.unwrap(), 7, true).run(&inputs(&[all(1, 32767)])).unwrap();
    let differ = got[0].1.iter().zip(&table[1..32768]).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 0);
}

#[test]
fn divisions_by_normalised_denominators() {
    for (s_num, s_den, s_out, width) in
        [(12, 12, 12, 16), (8, 14, 14, 20), (0, 12, 9, 24), (3, 5, 1, 12), (10, 4, 2, 16)]
    {
        let reference = math::Div::new(s_num, s_den, s_out).unwrap();
        let den = (1i128 << s_den, (2i128 << s_den) - 1);
        let dens: Vec<i128> = all(den.0, den.1).into_iter().cycle().take(8192).collect();
        let nums = spread(8192, signed(16));
        one(
            Low12(Divide { reference: reference.clone(), width }),
            &[(16, signed(16)), (s_den + 1, den)],
            vec![nums, dens.clone()],
            3,
        );
        if s_out <= 12 {
            let reference = math::Div::new(0, s_den, s_out).unwrap();
            one(Reciprocal { reference, width: s_out + 3 }, &[(s_den + 2, den)], vec![dens], 3);
        }
    }
    for (s_den, s_out) in [(20, 19), (24, 24), (30, 22)] {
        let reference = math::Div::new(s_out, s_den, s_out).unwrap();
        let den = (1i128 << s_den, (2i128 << s_den) - 1);
        let values = vec![spread(700, signed(24)), spread(700, den)];
        one(Divide { reference, width: 26 }, &[(24, signed(24)), (s_den + 1, den)], values, 3);
        let reference = math::Div::new(0, s_den, s_out).unwrap();
        one(Reciprocal { reference, width: s_out + 2 }, &[(s_den + 1, den)], vec![spread(700, den)], 3);
    }
}

/// A function whose results are taken modulo the ring.
#[derive(Clone, Debug)]
struct Low12<F>(F);

impl<F: Function> Function for Low12<F> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        self.0.clear(ins).into_iter().map(|v| v.into_iter().map(|x| wrap(x, 12, false)).collect()).collect()
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let y = self.0.lower(cx, ins)?;
        cx.call(Low { width: 12 }, &y)
    }
}

#[test]
fn divisions_by_any_denominator() {
    for (s_num, w, s_den, s_out) in [(12, 16, 12, 12), (4, 9, 0, 8), (8, 10, 9, 7), (0, 16, 5, 14)] {
        let reference = math::DivGeneral::new(s_num, w, s_den, s_out).unwrap();
        for den in [(0, (1i128 << w) - 1), (3, 100)] {
            let dens: Vec<i128> = all(den.0, den.1.min(3000)).into_iter().chain(spread(800, den)).collect();
            let nums = spread(dens.len(), signed(16));
            let f = Low12(DivideGeneral { reference: reference.clone(), width: 16 });
            one(f, &[(16, signed(16)), (w, den)], vec![nums, dens], 3);
        }
    }
    let reference = math::DivGeneral::new(10, 24, 12, 20).unwrap();
    let den = (0, (1i128 << 24) - 1);
    let dens: Vec<i128> = spread(700, den).into_iter().enumerate().map(|(i, v)| v >> (i % 24)).collect();
    one(
        Low12(DivideGeneral { reference, width: 20 }),
        &[(16, signed(16)), (24, den)],
        vec![spread(700, signed(16)), dens],
        3,
    );
}

#[test]
fn sigmoid_and_tanh_of_wide_numbers() {
    for (width, s_in, s_out) in [(32, 20, 20), (24, 12, 19), (32, 24, 24), (20, 10, 12)] {
        let x: Vec<i128> =
            spread(900, signed(width)).into_iter().enumerate().map(|(i, v)| v >> (i % 20)).chain([0, 1, -1]).collect();
        let reference = math::Sigmoid::new(width, s_in, s_out).unwrap();
        one(Sigmoid { reference, trailing_zeros: 0, width: s_out + 2 }, &[(width, signed(width))], vec![x.clone()], 9);
        let reference = math::Tanh::new(width, s_in, s_out).unwrap();
        one(Tanh { reference, trailing_zeros: 0, width: s_out + 2 }, &[(width, signed(width))], vec![x], 9);
    }
}

#[test]
fn relu_and_relu6() {
    for (w, range) in [(7, signed(7)), (8, signed(7)), (7, (-20, 63)), (7, (0, 90)), (7, (-64, -3)), (9, (-3, 60))] {
        for limit in [None, Some(24), Some(1), Some(63), Some(6), Some(100)] {
            for shift in [0, 1, 3, 5, 6] {
                for width in [1, 4, 7, 12] {
                    one(Low1(Relu { limit, shift, width }), &[(w, range)], vec![all(range.0, range.1)], 1);
                }
            }
        }
    }
    one(Relu { limit: Some(6 << 26), shift: 15, width: 16 }, &[(32, signed(32))], vec![spread(500, signed(32))], 1);
    one(Relu { limit: None, shift: 0, width: 64 }, &[(64, signed(64))], vec![spread(90, signed(64))], 1);
    one(Relu { limit: None, shift: 0, width: 16 }, &[(16, signed(16))], vec![vec![]], 1);
    assert!(
        program(&[(8, signed(8), 1)], |cx, ins| cx.call(Relu { limit: Some(0), shift: 0, width: 8 }, ins)).is_err()
    );
}

/// Results modulo 2, or as many bits as there are up to that.
#[derive(Clone, Debug)]
struct Low1(Relu);

impl Function for Low1 {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        self.0.clear(ins).into_iter().map(|v| v.into_iter().map(|x| wrap(x, self.0.width, false)).collect()).collect()
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let y = self.0.lower(cx, ins)?;
        cx.call(Low { width: self.0.width }, &y)
    }
}

#[test]
fn pools() {
    let image = [5, 6, 3];
    let x = spread(2 * 5 * 6 * 3, signed(8));
    for (size, stride, padding) in [
        ([2, 2], [2, 2], [0; 4]),
        ([3, 3], [2, 1], [1, 1, 1, 1]),
        ([5, 6], [1, 1], [0; 4]),
        ([1, 1], [1, 2], [0; 4]),
        ([3, 2], [1, 1], [2, 0, 1, 0]),
    ] {
        let window = Window { image, size, stride, padding };
        one(MaxPool(window), &[(8, signed(8))], vec![x.clone()], 1);
        for rounding in Rounding::ALL {
            one(AveragePool { window, rounding, width: 8 }, &[(8, signed(8))], vec![x.clone()], 1);
        }
        assert!(program(&[(8, signed(8), 7)], |cx, ins| cx.call(MaxPool(window), ins)).is_err());
    }
    for classes in [1, 2, 5] {
        one(Max { classes }, &[(8, signed(8))], vec![x[..160].to_vec()], 1);
        one(Sum { terms: classes, width: 12 }, &[(8, signed(8))], vec![x[..160].to_vec()], 1);
    }
    for divisor in [1, 2, 3, 5, 6, 7, 9, 49, 100, 127, 128, 255, 1000] {
        for rounding in Rounding::ALL {
            for (w, range) in [(8, signed(8)), (9, signed(8)), (8, (0, 255)), (8, (-128, 0)), (8, (-5, 100))] {
                let p = program(&[(w, range, 0)], |cx, ins| cx.call(DivideBy { divisor, rounding, width: 9 }, ins));
                if divisor.count_ones() == 1 && p.is_err() {
                    continue; // shifts have limits of their own
                }
                one(DivideBy { divisor, rounding, width: 9 }, &[(w, range)], vec![all(range.0, range.1)], 1);
            }
            one(DivideBy { divisor, rounding, width: 31 }, &[(30, signed(30))], vec![spread(300, signed(30))], 1);
        }
    }
}

#[test]
fn tables_of_the_server() {
    for (d, units) in [(1u32, 1usize), (4, 3), (9, 2)] {
        let size = units << d;
        let mut cx = Cx::new(Profile::default());
        let x = cx.input("x0", Party::P1, d, 70, (0, (1 << d) - 1));
        let tables = [("x1", 11), ("x2", 64)].map(|(name, w)| cx.input(name, Party::P0, w, size, signed(w)).0);
        let x = cx.call(Share, &[x.0]).unwrap()[0];
        let found = cx.call(PrivateLookup { units }, &[x, tables[0], tables[1]]).unwrap();
        for (i, y) in found.into_iter().enumerate() {
            let y = cx.call(Reveal { to: Party::P1 }, &[y]).unwrap()[0];
            cx.output(&format!("y{i}"), Own(y));
        }
        let p = cx.finish();
        let values = inputs(&[spread(70, (0, (1 << d) - 1)), spread(size, signed(11)), spread(size, signed(64))]);
        check(&p, &values, 1).unwrap();
        check_real(p, &values, "iknp");
    }
}

#[test]
fn squares() {
    for (w, range) in [(8, signed(8)), (9, signed(8)), (8, (0, 255)), (8, (-3, 60)), (7, (5, 70))] {
        for width in [1, 4, 9, 10, 16, 17, 20] {
            let p = program(&[(w, range, (range.1 - range.0 + 1) as usize)], |cx, ins| {
                let y = cx.call(Product { width }, &[ins[0], ins[0]])?;
                cx.call(Low { width }, &y)
            });
            for seed in 0..3 {
                check(&p.clone().unwrap(), &inputs(&[all(range.0, range.1)]), seed)
                    .unwrap_or_else(|e| panic!("{w} {range:?} {width}: {e}"));
            }
        }
    }
}

#[test]
fn sums_of_scaled_numbers_and_normalisations() {
    for rounding in Rounding::ALL {
        for (first, second, last, minus) in [(0, 0, 0, false), (3, 1, 0, false), (2, 0, 3, true), (0, 5, 1, true)] {
            let f = AddScaled { first, second, last, minus, rounding, width: 20 };
            one(f, &[(16, signed(16)), (12, signed(12))], vec![spread(120, signed(16)), spread(40, signed(12))], 2);
        }
        for (input, bias, product) in [(3, 0, 8), (0, -4, 5), (-2, 2, 0), (1, 1, -3)] {
            let mut cx = Cx::new(Profile::default());
            let w = cx.input("w", Party::P0, 8, 5, signed(8));
            let b = cx.input("b", Party::P0, 10, 5, signed(10));
            let x = cx.input("x", Party::P1, 16, 60, signed(16));
            let x = cx.share(x);
            let f = BatchNorm { input, bias, product, rounding, width: 40 };
            let y = cx.call(f, &[x.0, b.0, w.0]).unwrap();
            let y = cx.call(Reveal { to: Party::P1 }, &y).unwrap()[0];
            cx.output("y", Own(y));
            let mut values = Inputs::new();
            values.insert("w".into(), spread(5, signed(8)));
            values.insert("b".into(), spread(5, signed(10)));
            values.insert("x".into(), spread(60, signed(16)));
            Machine::new(&cx.finish(), 1, true).run(&values).unwrap();
        }
        for (channels, bits, scale, shift) in [(16, 16, 12, 7), (5, 16, 10, 9), (1, 12, 8, 5), (64, 16, 12, 6)] {
            let range = signed(bits);
            let f = L2Normalise::new(channels, bits, scale, shift, rounding, 40).unwrap();
            let x: Vec<i128> = (0..channels * 30)
                .map(|i| ((i * i * 7919) as i128 % 32768) >> (16 - bits + (i / channels) as u32 % 13))
                .collect();
            one(f, &[(bits, range)], vec![x], 2);
        }
    }
    assert!(L2Normalise::new(0, 16, 12, 7, Rounding::Floor, 16).is_err());
}

#[test]
fn products_of_shared_matrices() {
    for (rows, inner, outer) in [(1, 1, 1), (3, 4, 5), (1, 7, 2), (9, 2, 1), (0, 3, 2)] {
        for (x, y) in
            [((8, signed(8)), (6, signed(6))), ((9, signed(8)), (7, signed(6))), ((8, (0, 255)), (6, (-3, 20)))]
        {
            for width in [5, 12, 18, 30] {
                let values = inputs(&[spread(rows * inner, x.1), spread(inner * outer, y.1)]);
                let p = program(&[(x.0, x.1, rows * inner), (y.0, y.1, inner * outer)], |cx, ins| {
                    let y = cx.call(MatMul { inner, outer, width }, ins)?;
                    cx.call(Low { width }, &y)
                });
                for seed in 0..3 {
                    check(&p.clone().unwrap(), &values, seed).unwrap();
                }
            }
        }
    }
}

fn shapes() -> Vec<(Conv, usize)> {
    let conv =
        |image, kernel, stride, padding, groups, filters| Conv { image, kernel, stride, padding, groups, filters };
    vec![
        (conv([5, 6, 3], [3, 3], [1, 1], [1; 4], 1, 4), 2),
        (conv([5, 6, 4], [3, 2], [2, 1], [2, 0, 1, 0], 4, 4), 1),
        (conv([4, 4, 6], [1, 1], [1, 1], [0; 4], 2, 8), 2),
        (conv([3, 3, 1], [3, 3], [1, 1], [0; 4], 1, 1), 0),
    ]
}

#[test]
fn convolutions() {
    for (conv, images) in shapes() {
        let (n, weights) = (images * conv.image_len(), LinearOp::Conv(conv).weights());
        let (x, w) = (spread(n, signed(8)), spread(weights, signed(6)));
        one(SharedConv { conv, width: 22 }, &[(8, signed(8)), (6, signed(6))], vec![x.clone(), w.clone()], 3);
        let mut cx = Cx::new(Profile::default());
        let own = cx.input("x1", Party::P0, 6, weights, signed(6));
        let input = cx.input("x0", Party::P1, 8, n, signed(8));
        let input = cx.call(Share, &[input.0]).unwrap()[0];
        let shift = Shift::down(3, 20);
        let y = cx.call(ScaledLinear { op: LinearOp::Conv(conv), shift }, &[own.0, input]).unwrap();
        let y = cx.call(Reveal { to: Party::P1 }, &y).unwrap()[0];
        cx.output("y", Own(y));
        let p = cx.finish();
        check(&p, &inputs(&[x.clone(), w.clone()]), 5).unwrap();
        check_real(p, &inputs(&[x, w]), "iknp");
    }
    let bad = Conv { groups: 2, ..shapes()[0].0 };
    let p = program(&[(8, signed(8), 90), (6, signed(6), 108)], |cx, ins| {
        cx.call(SharedConv { conv: bad, width: 22 }, ins)
    });
    assert!(p.unwrap_err().to_string().contains("groups"));
}

/// Everything once with real oblivious transfer: results, rounds and bytes as planned.
#[test]
fn real_transfers_compute_the_library() {
    let x = spread(130, signed(16));
    let y = spread(260, signed(16)).split_off(130);
    let z = spread(130, (0, 32767));
    let den = spread(130, (4096, 8191));
    let types = [(16, signed(16), 130), (16, signed(16), 130), (16, (0, 32767), 130), (13, (4096, 8191), 130)];
    for backend in ["iknp", "softspoken"] {
        let p = program(&types, |cx, ins| {
            let (x, y, z, den) = (ins[0], ins[1], ins[2], ins[3]);
            let greater = cx.call(Greater, &[x, y])?[0];
            let equal = cx.call(Equal, &[x, y])?[0];
            let or = cx.call(Gate::Or, &[greater, equal])?[0];
            let chosen = cx.call(Select { width: 18 }, &[or, x, y])?[0];
            let index = cx.call(Msnzb { width: 5 }, &[z])?[0];
            let hot = cx.call(OneHot { bits: 15 }, &[z])?[0];
            let rsqrt = cx.call(root(true, 16, 12, 12, 22), &[z])?[0];
            let sqrt = cx.call(root(false, 16, 12, 12, 16), &[z])?[0];
            let quotient = cx.call(Divide { reference: math::Div::new(12, 12, 12).unwrap(), width: 18 }, &[x, den])?[0];
            let general = DivideGeneral { reference: math::DivGeneral::new(2, 16, 10, 12).unwrap(), width: 30 };
            let general = cx.call(Low12(general), &[x, z])?[0];
            let relu = cx.call(Relu { limit: None, shift: 2, width: 16 }, &[x])?[0];
            let relu6 = cx.call(Relu { limit: Some(6 << 11), shift: 3, width: 12 }, &[x])?[0];
            let max = cx.call(Max { classes: 13 }, &[x])?[0];
            let window = Window { image: [13, 5, 2], size: [3, 2], stride: [2, 1], padding: [1, 1, 0, 1] };
            let pooled = cx.call(MaxPool(window), &[x])?[0];
            let mean = cx.call(AveragePool { window, rounding: Rounding::TowardZero, width: 16 }, &[x])?[0];
            let norm = L2Normalise::new(13, 16, 12, 7, Rounding::Floor, 40)?;
            let norm = cx.call(norm, &[x])?[0];
            let sum = AddScaled { first: 2, second: 1, last: 1, minus: true, rounding: Rounding::Floor, width: 16 };
            let sum = cx.call(sum, &[x, y])?[0];
            let product = cx.call(MatMul { inner: 10, outer: 13, width: 36 }, &[x, y])?[0];
            let wide = Sigmoid { reference: math::Sigmoid::new(16, 12, 20).unwrap(), trailing_zeros: 0, width: 22 };
            let wide = cx.call(wide, &[x])?[0];
            Ok(vec![
                or, chosen, index, hot, rsqrt, sqrt, quotient, general, relu, relu6, max, pooled, mean, norm, sum,
                product, wide,
            ])
        });
        let values = inputs(&[x.clone(), y.clone(), z.clone(), den.clone()]);
        let p = p.unwrap();
        check(&p, &values, 6).unwrap();
        check_real(p, &values, backend);
    }
}

/// No instances, and one: nothing is sent for none, and nobody waits.
#[test]
fn real_transfers_of_none_and_one() {
    for n in [0, 1] {
        let types = [(16, signed(16), n), (16, (0, 32767), n)];
        let p = program(&types, |cx, ins| {
            let greater = cx.call(Greater, ins)?[0];
            let rsqrt = cx.call(root(true, 16, 12, 12, 22), &[ins[1]])?[0];
            let product = cx.call(Product { width: 32 }, ins)?[0];
            let sigmoid = Sigmoid { reference: math::Sigmoid::new(16, 12, 12).unwrap(), trailing_zeros: 0, width: 16 };
            let sigmoid = cx.call(sigmoid, &ins[..1])?[0];
            let relu6 = cx.call(Relu { limit: Some(6 << 11), shift: 3, width: 12 }, &ins[..1])?[0];
            let matrix = cx.call(MatMul { inner: 1, outer: 1, width: 20 }, &ins[..1].repeat(2));
            assert_eq!(matrix.is_ok(), n == 1);
            Ok(vec![greater, rsqrt, product, sigmoid, relu6])
        });
        check_real(p.unwrap(), &inputs(&[spread(n, signed(16)), spread(n, (0, 32767))]), "iknp");
    }
}
