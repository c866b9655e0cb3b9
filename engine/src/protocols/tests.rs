//! Every protocol against its definition on the ideal machine, which checks each call and each range on the way.

use super::test_support::{Inputs, all, check, check_real, inputs, one, program, program_for};
use super::{
    basic::*, bits::*, exp::Exp, linear::*, lookup::*, matmul_shared, product::*, select::ArgMax, sigmoid::*,
    sign::Sign, truncation::*,
};
use crate::fixed::math;
use crate::plan::Plan;
use crate::program::{Bit, Build, Cx, Goal, Int, Own, Profile, Reg, signed};
use crate::run::ideal::Machine;
use proptest::prelude::*;
use sirnn_backends::inst::{LinearOp, Party};

#[test]
fn shifts_exhaustively_at_small_widths() {
    for w in 1..=7u32 {
        for (lo, hi) in [signed(w), (0, (1 << w) - 1), (0, (1 << (w - 1)) - 1), (-(1 << (w - 1)), 0)] {
            for rounding in Rounding::ALL {
                for floor in 0..w {
                    for shift in 0..w - floor {
                        for width in [1, w.saturating_sub(floor + shift).max(1), w, w + 3] {
                            let f = Shift { floor, shift, rounding, width };
                            let mut cx = Cx::new(Profile::default());
                            let own = cx.input("x", Party::P1, w, 1, (lo, hi));
                            let x = cx.share(own);
                            if cx.call(f, &[x.0]).is_err() {
                                // Only where an unsigned number that fills its ring is divided after a public offset.
                                assert!(
                                    lo >= 0 && hi == (1 << w) - 1 || floor + shift >= w - 1,
                                    "{f:?} refused {w} {lo} {hi}"
                                );
                                continue;
                            }
                            for seed in 0..3 {
                                let y = (f.of(lo), f.of(hi));
                                // What is revealed must be determined by the result's ring.
                                if y.1 - y.0 < 1 << width {
                                    one(f, &[(w, (lo, hi))], vec![all(lo, hi)], seed);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn shifts_at_any_width(w in 2u32..=64, a in 0u32..64, b in 0u32..64, which in 0usize..3, extra in 0u32..=8, seed in any::<u64>(), values in prop::collection::vec(any::<i64>(), 70)) {
        let (floor, shift) = (a % w, b % (w - a % w));
        prop_assume!(floor + shift < w);
        let rounding = Rounding::ALL[which];
        // To nearest the largest results are one more than a ring of the bits that are left holds.
        let more = u32::from(rounding == Rounding::Nearest && shift > 0);
        let width = (w - floor - shift + more + extra).min(64);
        let x = values.iter().map(|v| i128::from(*v) >> (64 - w)).collect();
        one(Shift { floor, shift, rounding, width }, &[(w, signed(w))], vec![x], seed.into());
    }

    #[test]
    fn products(wx in 1u32..=20, wy in 1u32..=20, sx in 0u32..3, sy in 0u32..3, ux in any::<bool>(), uy in any::<bool>(), cut in 0u32..10, seed in any::<u64>(), values in prop::collection::vec(any::<(i64, i64)>(), 70)) {
        let range = |w: u32, unsigned: bool| if unsigned { (0, (1i128 << w) - 1) } else { signed(w) };
        let clip = |v: i64, (lo, hi): (i128, i128)| lo + i128::from(v).rem_euclid(hi - lo + 1);
        let (rx, ry) = (range(wx, ux), range(wy, uy));
        let x = values.iter().map(|v| clip(v.0, rx)).collect();
        let y = values.iter().map(|v| clip(v.1, ry)).collect();
        let width = (wx + wy + 2 - cut.min(wx + wy + 1)).max(1);
        let f = Product { width };
        let types = [(wx + sx, rx), (wy + sy, ry)];
        // Compare modulo the ring: the product may be wider.
        let p = program(&[(types[0].0, rx, 70), (types[1].0, ry, 70)], |cx, ins| {
            let y = cx.call_int(f, ins)?;
            Ok(vec![cx.call(Wrap { width }, &[y.0])?[0]])
        }).unwrap();
        check(&p, &inputs(&[x, y]), seed.into()).unwrap();
    }

    #[test]
    fn scaled_products(which in 0usize..3, floor in 0u32..4, shift in 0u32..14, seed in any::<u64>(), values in prop::collection::vec(any::<(i16, i16)>(), 70)) {
        let rounding = Rounding::ALL[which];
        let x = values.iter().map(|v| v.0.into()).collect();
        let y = values.iter().map(|v| (v.1 / 2).into()).collect();
        one(ScaledProduct(Shift { floor, shift, rounding, width: 33 - floor - shift }), &[(16, signed(16)), (16, signed(15))], vec![x, y], seed.into());
    }
}

#[test]
fn bits() {
    one(Sign, &[(9, signed(8))], vec![all(-128, 127)], 1);
    one(Sign, &[(8, signed(8))], vec![all(-128, 127)], 2);
    one(Sign, &[(1, signed(1))], vec![all(-1, 0)], 2);
    for width in [1, 2, 8, 17, 64] {
        let p = program(&[(8, signed(8), 256)], |cx, ins| {
            let sign = cx.call(Sign, ins)?[0];
            cx.call(BitToArithmetic { width }, &[sign])
        });
        check(&p.unwrap(), &inputs(&[all(-128, 127)]), 3).unwrap();
    }
    let p = program(&[(8, signed(8), 256)], |cx, ins| {
        let sign = cx.call(Sign, ins)?[0];
        cx.call(Mux, &[sign, ins[0]])
    });
    check(&p.unwrap(), &inputs(&[all(-128, 127)]), 3).unwrap();
}

#[test]
fn sums_of_products_of_bits() {
    // Bits 0..4 of a number, in products that share factors, one of them alone.
    let terms: [&[usize]; 4] = [&[4], &[0, 1, 2, 3], &[3, 1], &[2]];
    let value = |x: i128| terms.iter().filter(|t| t.iter().all(|j| x >> j & 1 == 1)).count() as i128;
    for width in [1, 3, 8, 64] {
        let p = program(&[(5, (0, 31), 32)], |cx, ins| {
            let bits: Vec<Bit> = (0..5)
                .map(|j| {
                    // Shares of bit j of a number: the sign of what is left when the upper bits are gone.
                    let low = cx.reduce(Int(ins[0]), j + 1);
                    cx.top_bit(low)
                })
                .collect::<Build<_>>()?;
            let terms: Vec<Vec<Bit>> = terms.iter().map(|t| t.iter().map(|&j| bits[j]).collect()).collect();
            let sum = cx.sum_of_products(&terms, width);
            Ok(vec![cx.retype(sum, 0, (1 << width) - 1).0])
        })
        .unwrap();
        let got = Machine::new(&p, 3, true).run(&inputs(&[all(0, 31)])).unwrap();
        let want: Vec<i128> = (0..32).map(|x| value(x) % (1 << width)).collect();
        assert_eq!(got[0].1, want, "{width}");
    }
}

/// Fewest rounds merges the upper levels of a comparison into the change to arithmetic shares.
#[test]
fn carries_as_numbers_take_few_rounds() {
    for (by, rounding, most) in [(14, Rounding::Floor, 3), (31, Rounding::Floor, 3), (14, Rounding::TowardZero, 5)] {
        let f = Shift { floor: 0, shift: by, rounding, width: 40 - by };
        let values: Vec<i128> = (-500i128..500).map(|v| v * 0x3fff_ffff).collect();
        let p = program_for(Goal::Rounds, &[(40, signed(40), values.len())], |cx, ins| cx.call(f, ins)).unwrap();
        let depth = Plan::new(p.clone(), Profile::default()).rounds();
        // One round each for sharing and revealing.
        assert!(depth <= most + 2, "{f:?}: {depth}");
        check_real(p, &inputs(&[values]), "iknp");
    }
}

#[test]
fn lookups_and_digits() {
    for d in [1u32, 3, 8, 12] {
        let n = 1i128 << d;
        let column =
            |width, f: fn(i128) -> i128| Column { width, entries: std::sync::Arc::new((0..n).map(f).collect()) };
        let f = Lookup { columns: vec![column(30, |i| 7 * i * i), column(40, |i| -i)] };
        one(f, &[(d, (0, n - 1))], vec![all(0, n - 1)], 5);
    }
    one(Digits { widths: vec![8, 8] }, &[(16, (0, 65535))], vec![all(0, 65535)], 6);
    one(Digits { widths: vec![2, 8] }, &[(10, (0, 1023))], vec![all(0, 1023)], 7);
    one(Digits { widths: vec![3, 5, 1, 7] }, &[(17, (0, 65535))], vec![all(0, 65535)], 7);
}

#[test]
fn linear_maps() {
    for (inner, outer, rows, rounding) in [(3, 5, 4, Rounding::Floor), (8, 2, 1, Rounding::TowardZero)] {
        let op = LinearOp::MatMul { inner, outer };
        let shift = Shift { floor: 2, shift: 5, rounding, width: 16 };
        let (inner, outer) = (inner as usize, outer as usize);
        let mut cx = Cx::new(Profile::default());
        let w = cx.input("w", Party::P0, 8, inner * outer, signed(8));
        let x = cx.input("x", Party::P1, 16, rows * inner, signed(16));
        let x = cx.share(x);
        let y = cx.call(ScaledLinear { op, shift }, &[w.0, x.0]).unwrap()[0];
        let y = cx.call(Wrap { width: 16 }, &[y]).unwrap()[0];
        let y = cx.call(Reveal { to: Party::P1 }, &[y]).unwrap()[0];
        cx.output("y", Own(y));
        let p = cx.finish();
        let mut values = Inputs::new();
        values.insert("w".into(), (0..inner * outer).map(|i| (i as i128 * 37) % 256 - 128).collect());
        values.insert("x".into(), (0..rows * inner).map(|i| (i as i128 * 30011) % 65536 - 32768).collect());
        let got = Machine::new(&p, 3, true).run(&values).unwrap();
        let want: Vec<i128> = values["x"]
            .chunks(inner)
            .flat_map(|row| {
                let w = &values["w"];
                (0..outer).map(move |j| {
                    let sum = (0..inner).map(|k| row[k] * w[k * outer + j]).sum();
                    crate::fixed::wrap(shift.of(sum), 16, true)
                })
            })
            .collect();
        assert_eq!(got[0].1, want);
    }
}

#[test]
fn exponentials() {
    for (s_in, s_out) in [(12, 12), (8, 14), (8, 8)] {
        let reference = math::Exp::new(16, s_in, s_out).unwrap();
        one(Exp { reference, trailing_zeros: 0, width: 16 }, &[(16, (-32768, 0))], vec![all(-32768, 0)], 9);
    }
    let reference = math::Exp::new(16, 9, 14).unwrap();
    one(Exp { reference, trailing_zeros: 6, width: 16 }, &[(10, (-512, 0))], vec![all(-512, 0)], 9);
    let reference = math::Exp::new(8, 4, 10).unwrap();
    one(Exp { reference, trailing_zeros: 0, width: 12 }, &[(8, (-128, 0))], vec![all(-128, 0)], 9);
    let reference = math::Exp::new(32, 24, 20).unwrap();
    let x: Vec<i128> = (0..1400).map(|i| -(i * i * 1000)).chain([-(1 << 31)]).collect();
    one(Exp { reference, trailing_zeros: 0, width: 22 }, &[(32, (-(1 << 31), 0))], vec![x], 9);
}

#[test]
fn sigmoid_and_tanh_on_every_input() {
    for (s_in, s_out) in [(12, 12), (8, 14), (9, 9)] {
        let reference = math::Sigmoid::new(16, s_in, s_out).unwrap();
        one(Sigmoid { reference, trailing_zeros: 0, width: 16 }, &[(16, signed(16))], vec![all(-32768, 32767)], 9);
        let reference = math::Tanh::new(16, s_in, s_out).unwrap();
        one(Tanh { reference, trailing_zeros: 0, width: 16 }, &[(16, signed(16))], vec![all(-32768, 32767)], 10);
    }
    let reference = math::Tanh::new(16, 9, 9).unwrap();
    one(Tanh { reference, trailing_zeros: 6, width: 16 }, &[(10, signed(10))], vec![all(-512, 511)], 10);
}

/// Any function is one look-up, the same on the ideal machine and with real oblivious transfer.
#[test]
fn functions_rounded_to_the_nearest_are_tables() {
    use super::nearest::NearestTable;
    use crate::fixed::nearest::{Format, NAMES};
    let format = |bits, scale| Format { bits, scale, signed: true };
    for name in NAMES {
        let f = NearestTable::new(name, format(9, 6), format(12, 8)).unwrap();
        one(f, &[(9, signed(9))], vec![all(-256, 255)], 21);
    }
    let gelu = NearestTable::new("gelu", format(16, 12), format(16, 12)).unwrap();
    let values: Vec<i128> = (-32768..32768).step_by(401).collect();
    let p = program(&[(16, signed(16), values.len())], |cx, ins| cx.call(gelu.clone(), ins)).unwrap();
    check_real(p, &inputs(&[values]), "softspoken");
    let wide = NearestTable::new("gelu", format(16, 12), format(16, 12)).unwrap();
    let error = program(&[(17, signed(17), 1)], |cx, ins| cx.call(wide.clone(), ins)).unwrap_err();
    assert!(error.to_string().contains("up to 16 bits"), "{error}");
}

#[test]
fn argmax_keeps_the_first_of_equals() {
    for classes in [1usize, 2, 3, 7, 30] {
        let values: Vec<i128> = (0..40 * classes).map(|i| ((i * i * 31 + i / 7) % 256) as i128 - 128).collect();
        one(ArgMax { classes }, &[(8, signed(8))], vec![values.clone()], 4);
        let few: Vec<i128> = values.iter().map(|v| v.rem_euclid(3) - 1).collect();
        one(ArgMax { classes }, &[(8, signed(8))], vec![few], 4);
    }
}

#[test]
fn loops_carry_state() {
    // h' = floor((h * x_t) / 2^4) wrapped to 8 bits + x_t.
    let mut cx = Cx::new(Profile::default());
    let x = cx.input("x0", Party::P1, 8, 15, signed(8));
    let x = cx.call_int(Share, &[x.0]).unwrap();
    let start = Constant { values: vec![3; 3], width: 8, range: signed(8) };
    let zero = cx.call_int(start, &[]).unwrap();
    let (last, all) = cx
        .scan(5, &[(zero, signed(8))], &[x], |cx, state, xs| {
            let p = cx.call_int(ScaledProduct(Shift::down(4, 16)), &[state[0].0, xs[0].0])?;
            let p = cx.call_int(Wrap { width: 8 }, &[p.0])?;
            let sum = cx.call_int(Add { width: 8 }, &[p.0, xs[0].0])?;
            let h = cx.call_int(Wrap { width: 8 }, &[sum.0])?;
            Ok((vec![h], vec![h]))
        })
        .unwrap();
    for (name, v) in [("y0", last[0]), ("y1", all[0])] {
        let y = cx.call(Reveal { to: Party::P1 }, &[v.0]).unwrap()[0];
        cx.output(name, Own(y));
    }
    let p = cx.finish();
    let x: Vec<i128> = (0..15).map(|i| (i * 97) % 256 - 128).collect();
    let mut h = vec![3i128; 3];
    let mut trace = Vec::new();
    for row in x.chunks(3) {
        for (h, x) in h.iter_mut().zip(row) {
            *h = crate::fixed::wrap(crate::fixed::wrap((*h * x) >> 4, 8, true) + x, 8, true);
        }
        trace.extend(h.clone());
    }
    let got = Machine::new(&p, 11, true).run(&inputs(std::slice::from_ref(&x))).unwrap();
    assert_eq!(got[0].1, h);
    assert_eq!(got[1].1, trace);
    check_real(p, &inputs(&[x]), "iknp");
}

#[test]
fn real_transfers_compute_the_same() {
    let x: Vec<i128> = (0..150).map(|i| (i * i * 977) % 65536 - 32768).collect();
    let y: Vec<i128> = (0..150).map(|i| (i * 4099) % 65536 - 32768).collect();
    let types = [(16, signed(16), 150), (16, signed(16), 150)];
    for backend in sirnn_backends::ot::names() {
        let p = program(&types, |cx, ins| {
            let product = cx.call(Product { width: 32 }, ins)?[0];
            let quotient =
                cx.call(Shift { floor: 2, shift: 7, rounding: Rounding::TowardZero, width: 30 }, &[product])?[0];
            let sign = cx.call(Sign, &[ins[1]])?[0];
            let kept = cx.call(Mux, &[sign, ins[0]])?[0];
            let sigmoid = Sigmoid { reference: math::Sigmoid::new(16, 12, 12).unwrap(), trailing_zeros: 0, width: 16 };
            let sigmoid = cx.call(sigmoid, &[ins[0]])?[0];
            let tanh = Tanh { reference: math::Tanh::new(16, 12, 12).unwrap(), trailing_zeros: 0, width: 16 };
            let tanh = cx.call(tanh, &[ins[1]])?[0];
            let first = cx.call(ArgMax { classes: 15 }, &[ins[0]])?[0];
            Ok(vec![product, quotient, kept, sigmoid, tanh, first])
        })
        .unwrap();
        check_real(p, &inputs(&[x.clone(), y.clone()]), backend);
    }
}

/// What is built from shared operands.
type Lowering<'a> = dyn Fn(&mut Cx, &[Reg]) -> Build<Vec<Reg>> + 'a;

/// Found by fuzzing: an infinite cost times no instances was no number.
#[test]
fn forms_are_chosen_for_no_instances_too() {
    let goal = Goal::Time { bits_per_second: 1e9, latency: 0.01 };
    let mut cx = Cx::new(Profile { goal, ..Profile::default() });
    let x = cx.input("x", Party::P1, 12, 0, (0, 4095));
    let x = cx.share(x);
    cx.call(super::msnzb::Msnzb { width: 4 }, &[x.0]).unwrap();
}

/// Found by fuzzing: every one of these was a panic.
#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |operands: &[(u32, (i128, i128), usize)], f: &Lowering, why: &str| {
        let error = program(operands, f).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    // A product of 64-bit numbers without sign is no integer of 128 bits with one.
    let unsigned = (64, (0, u64::MAX.into()), 2);
    refused(&[unsigned; 2], &|cx, ins| cx.call(Product { width: 64 }, ins), "120 bits");
    refused(&[unsigned; 2], &|cx, ins| cx.call(ScaledProduct(Shift::down(3, 8)), ins), "120 bits");
    let shared = matmul_shared::MatMul { inner: 2, outer: 1, width: 64 };
    refused(&[unsigned; 2], &|cx, ins| cx.call(shared, ins), "120 bits");
    let scale = Linear { op: LinearOp::Scale { period: 1 }, width: 64 };
    refused(
        &[unsigned],
        &|cx, ins| {
            let w = cx.input("w", Party::P0, 64, 1, (0, u64::MAX.into()));
            cx.call(scale, &[w.0, ins[0]])
        },
        "120 bits",
    );
    let numbers = [(8, signed(8), 2), (8, signed(8), 3)];
    refused(&numbers, &|cx, ins| cx.call(Product { width: 16 }, ins), "2 and 3 elements");
    refused(
        &numbers,
        &|cx, ins| {
            let bit = cx.call(Sign, &ins[..1])?[0];
            cx.call(Mux, &[bit, ins[1]])
        },
        "2 bits and 3 numbers",
    );
    for width in [0, 65, 300] {
        let why = format!("no ring of {width} bits");
        refused(&numbers, &|cx, ins| cx.call(Product { width }, &[ins[0], ins[0]]), &why);
        refused(&numbers, &|cx, ins| cx.call(Add { width }, &[ins[0], ins[0]]), &why);
        refused(&numbers, &|cx, ins| cx.call(Wrap { width }, &ins[..1]), &why);
        refused(&numbers, &|cx, _| cx.call(Constant { values: vec![0], width, range: (0, 0) }, &[]), &why);
        refused(
            &numbers,
            &|cx, ins| {
                let bit = cx.call(Sign, &ins[..1])?;
                cx.call(BitToArithmetic { width }, &bit)
            },
            &why,
        );
        let column = Column { width, entries: std::sync::Arc::new(vec![0; 4]) };
        let lookup = Lookup { columns: vec![column] };
        let index = [(2, (0, 3), 1)];
        refused(&index, &|cx, ins| cx.call(lookup.clone(), ins), if width > 128 { "128 bits" } else { &why });
    }
    let lookup = Lookup { columns: vec![Column { width: 3, entries: std::sync::Arc::new(vec![0; 4]) }] };
    refused(&[(2, signed(2), 1)], &|cx, ins| cx.call(lookup.clone(), ins), "an index in -2..=1");
    refused(&[(2, (0, 3), 1)], &|cx, ins| cx.call(Lookup { columns: vec![] }, ins), "between 1 and 128 bits");
    let exp = Exp { reference: math::Exp::new(3, 1, 4).unwrap(), trailing_zeros: 3, width: 6 };
    refused(&[(3, (-4, 0), 1)], &|cx, ins| cx.call(exp.clone(), ins), "3 zero bits in a digit of 3");
}
