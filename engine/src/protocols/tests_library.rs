//! The rest of the library against its definitions, and its cost.

use super::test_support::{Inputs, all, check, inputs, one, program};
use super::{basic::Reveal, bits::Sign, compare::*, msnzb::*, roots::Root};
use crate::fixed::{math, wrap};
use crate::ops::{self, Params};
use crate::plan::Plan;
use crate::program::{Build, Cx, Function, Int, Own, Profile, Program, Reg, ideal::Machine, signed};
use sirnn_backends::inst::Party;
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
    for (name, params, bytes, rounds) in rows {
        let plan = ops::find(name).unwrap().plan(&params, Profile::default()).unwrap();
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
    for width in [1, 2, 17, 32, 61, 62] {
        let values = vec![
            spread(90, signed(width)),
            [spread(30, signed(width)), spread(80, signed(width)).split_off(20)].concat(),
        ];
        one(Greater, &[(width, signed(width)); 2], values.clone(), 5);
        one(Equal, &[(width, signed(width)); 2], values, 5);
    }
    // A private operand after all may be as wide as a ring; a shared difference of such is not.
    let p = program(&[(64, signed(64), 1), (64, signed(64), 1)], |cx, ins| cx.call(Greater, ins));
    assert!(p.unwrap_err().to_string().contains("65 bits"));
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
