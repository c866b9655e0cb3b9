//! Errors of the math functions in units of the last place, over all inputs of 16 bits, against arbitrary precision.
//!
//! The bounds are those of the SIRNN paper (section V-D): exp 3, sigmoid 3 and tanh 4 for all input and output scales from 8
//! to 14, rsqrt 4 for scales from 4 to 13 and inputs from 0.1. The error is the distance from the exact value rounded to
//! the nearest integer of the output scale. Run with `--release --nocapture` to see the largest error of every pair.

use dashu_float::FBig;
use sirnn::fixed::{
    math::{Exp, Root, Sigmoid, Tanh},
    tables,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A number with 192 significant bits, results rounded toward zero.
type Real = FBig;

fn real(n: i128) -> Real {
    Real::from(n).with_precision(192).value()
}

/// Fractional bits to which exact values are cut.
const BITS: u32 = 64;

/// The first bits of a positive number. Whether it rounds up at a lower scale can be seen from them.
fn cut(x: &Real) -> u128 {
    (x.clone() << BITS as isize).to_int().value().try_into().expect("positive and below 2^64")
}

/// The nearest integer of a scale; ties go up.
fn round(cut: u128, scale: u32) -> i128 {
    ((cut + (1 << (BITS - 1 - scale))) >> (BITS - scale)) as i128
}

fn exp_minus(n: i128, scale: i32) -> Real {
    if n == 0 { real(1) } else { (-(real(n) >> scale as isize)).exp() }
}

/// `exp(-n / 2^scale)` for `n` from 0 to `2^15`, from 385 exponentials.
fn exponentials(scale: i32) -> Vec<Real> {
    let low: Vec<Real> = (0..256).map(|n| exp_minus(n, scale)).collect();
    let high = (0..=128).map(|n| exp_minus(n, scale - 8));
    high.flat_map(|high| low.iter().map(move |low| &high * low).collect::<Vec<_>>()).take((1 << 15) + 1).collect()
}

/// Calls `work` for every item, on all cores.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// Largest errors of one function, by input and output scale.
#[derive(Default)]
struct Errors(Mutex<BTreeMap<(i32, u32), (i128, i128)>>);

impl Errors {
    /// Takes note of the largest error of the triples `(input, value, exact)`.
    fn add(&self, s_in: i32, s_out: u32, values: impl Iterator<Item = (i128, i128, i128)>) {
        let errors = values.map(|(x, value, exact)| ((value - exact).abs(), x));
        self.0.lock().unwrap().insert((s_in, s_out), errors.max().unwrap());
    }

    /// Prints all and fails where one is above the bound.
    fn report(&self, name: &str, bound: i128) {
        let errors = self.0.lock().unwrap();
        // The scales of inputs and outputs are the same.
        let scales: BTreeSet<u32> = errors.keys().map(|&(_, s_out)| s_out).collect();
        let mut text = format!("{name}: largest error in ULP; rows: input scale, columns: output scale\n     ");
        scales.iter().for_each(|s| text += &format!("{s:4}"));
        for &s_in in &scales {
            text += &format!("\n{s_in:5}");
            scales.iter().for_each(|&s_out| text += &format!("{:4}", errors[&(s_in as i32, s_out)].0));
        }
        println!("{text}");
        let worst: Vec<_> = errors.iter().filter(|(_, (error, _))| *error > bound).collect();
        assert!(worst.is_empty(), "{name}: errors above {bound} ULP, ((s_in, s_out), (error, input)): {worst:?}");
    }
}

#[test]
fn exp_sigmoid_tanh() {
    let [exp_errors, sigmoid_errors, tanh_errors] = [(); 3].map(|()| Errors::default());
    in_parallel(&[14, 13, 12, 11, 10, 9, 8], |&s_in| {
        let one = real(1);
        let (e, e_squared) = (exponentials(s_in), exponentials(s_in - 1));
        let exp: Vec<u128> = e.iter().map(cut).collect();
        // At |x| and at -|x|.
        let sigmoid: Vec<_> = e.iter().map(|e| &one / (&one + e)).map(|s| (cut(&s), cut(&(&one - s)))).collect();
        let tanh: Vec<u128> = e_squared.iter().map(|e| cut(&((&one - e) / (&one + e)))).collect();
        for s_out in 8..=14 {
            let inputs = || -1i128 << 15..1 << 15;
            let f = Exp::new(16, s_in, s_out).unwrap();
            let exact = |x: i128| round(exp[x.unsigned_abs() as usize], s_out);
            exp_errors.add(s_in, s_out, (-1 << 15..=0).map(|x| (x, f.eval(x), exact(x))));

            let f = Sigmoid::new(16, s_in, s_out).unwrap();
            let exact = |x: i128| {
                let (positive, negative) = sigmoid[x.unsigned_abs() as usize];
                round(if x < 0 { negative } else { positive }, s_out)
            };
            sigmoid_errors.add(s_in, s_out, inputs().map(|x| (x, f.eval(x), exact(x))));

            let f = Tanh::new(16, s_in, s_out).unwrap();
            let exact = |x: i128| x.signum() * round(tanh[x.unsigned_abs() as usize], s_out);
            tanh_errors.add(s_in, s_out, inputs().map(|x| (x, f.eval(x), exact(x))));
        }
    });
    exp_errors.report("exp", 3);
    sigmoid_errors.report("sigmoid", 3);
    tanh_errors.report("tanh", 4);
}

#[test]
fn rsqrt() {
    let errors = Errors::default();
    in_parallel(&(4..=13).rev().collect::<Vec<i32>>(), |&s_in| {
        // From 0.1, rounded up.
        let from = ((1 << s_in) + 9) / 10;
        let numerator = real(1 << s_in).sqrt();
        let exact: Vec<u128> = (from..1 << 15).map(|x| cut(&(&numerator / real(x).sqrt()))).collect();
        for s_out in 4..=13 {
            let f = Root::rsqrt(16, s_in, s_out).unwrap();
            let values = (from..1 << 15).zip(&exact).map(|(x, &exact)| (x, f.eval(x), round(exact, s_out)));
            errors.add(s_in, s_out, values);
        }
    });
    errors.report("rsqrt", 4);
}

/// The exponential's tables hold the exact values rounded down.
#[test]
fn tables_of_exp_are_exact() {
    // An argument depends on the digit and the input scale only through its exponent.
    in_parallel(&(-24..=21).collect::<Vec<i32>>(), |&exponent| {
        let exact: Vec<u128> = (0..256).map(|v| cut(&exp_minus(v, -exponent))).collect();
        for s_out in 4..=24 {
            let table = tables::exp_digit(0, 8, -exponent, s_out);
            assert!(table.iter().zip(&exact).all(|(&entry, exact)| u128::from(entry) == exact >> (BITS - s_out)));
        }
    });
}
