//! Google-30, the trained keyword network of the authors, as a graph made by the library's cells: scores and final hidden state are, bit
//! for bit, those of their program in both roundings. Skipped without `SIRNN_DATA`.

use sirnn::graph::builder::{Builder, output, series};
use sirnn::graph::cells::{Activation, Direction, FastGrnn, Loop, Preactivation, Product, Scalar, append};
use sirnn::graph::ops::Parameter;
use sirnn::graph::ops::add::{Add, Term};
use sirnn::graph::ops::bias::Bias;
use sirnn::graph::ops::matmul::MatMul;
use sirnn::graph::ops::scan::Steps;
use sirnn::graph::rescale::Shifts;
use sirnn::graph::{Graph, Number, Rescale, Reveal, Tensor, Weights, evaluate};
use sirnn::protocols::truncation::Rounding;

const STEPS: usize = 99;
const FEATURES: usize = 32;
const HIDDEN: usize = 100;
const CLASSES: usize = 30;

/// Shapes of the weights, in the order of the file.
const SHAPES: [(&str, &[usize]); 8] = [
    ("W1", &[FEATURES, 16]),
    ("W2", &[16, HIDDEN]),
    ("U1", &[HIDDEN, 35]),
    ("U2", &[35, HIDDEN]),
    ("Bg", &[HIDDEN]),
    ("Bh", &[HIDDEN]),
    ("FC", &[HIDDEN, CLASSES]),
    ("FCbias", &[CLASSES]),
];

fn graph(rounding: Rounding) -> Graph {
    let rescale = |floor, shift, left| Rescale { floor, shift: Shifts::All(shift), left, rounding };
    let by = |shift| rescale(0, shift, 0);
    let product = |tensor: &str, rescale, out| {
        let columns = SHAPES.iter().find(|(name, _)| *name == tensor).expect("a tensor").1[1];
        Product { op: MatMul { weights: Parameter::new(tensor, 8), columns, rescale }, out }
    };
    let bias = |tensor: &str, rescale| Bias {
        bias: Parameter::new(tensor, 8),
        shape: None,
        operand: Rescale::default(),
        rescale_bias: Rescale::default(),
        rescale,
    };
    let scalar = |tensor: &str, shift| Scalar { tensor: Parameter::new(tensor, 16), rescale: by(shift) };
    let number = |scale| Number::new(16, scale);
    let terms = vec![Term { minus: false, rescale: by(5) }, Term::default()];
    let cell = FastGrnn {
        hidden: HIDDEN,
        pre: Preactivation {
            input: vec![product("W1", rescale(5, 1, 0), Number::new(8, 0)), product("W2", rescale(4, 0, 4), number(8))],
            state: vec![
                product("U1", rescale(7, 8, 0), Number::new(8, 0)),
                product("U2", rescale(6, 0, 0), Number::new(8, 3)),
            ],
            sum: Add { terms, ..Add::default() },
            out: number(3),
            bias: None,
        },
        gate_bias: (bias("Bg", rescale(0, 0, 6)), number(9)),
        candidate_bias: (bias("Bh", rescale(0, 0, 6)), number(9)),
        gate: Activation::sigmoid(number(14)),
        candidate: Activation::tanh(number(9)),
        zeta: scalar("zeta", 14),
        nu: scalar("nu", 6),
        weight: number(15),
        kept: by(14),
        update: (by(9), number(15)),
        update_out: by(1),
        state: number(14),
    };
    let mut b = Builder::new();
    let how = Loop { direction: Direction::Forward, rows: &[], initial: None, steps: Steps::Last };
    let hidden = append(&mut b, "rnn", "x", &cell, &how);
    let classifier = product("FC", rescale(7, 10, 0), Number::new(8, 2));
    let products = b.compute("products", classifier.op, &[&hidden], classifier.out);
    let bias = Bias { rescale_bias: by(3), ..bias("FCbias", Rescale::default()) };
    let scores = b.compute("logits", bias, &[&products], Number::new(8, 2));
    let outputs = vec![output("scores", &scores, Reveal::Scores), output("hidden", &hidden, Reveal::Values)];
    b.finish(STEPS, vec![series("x", &[FEATURES], Number::new(8, 0))], outputs)
}

fn check(rounding: Rounding, suffix: &str) {
    let Some(data) = std::env::var_os("SIRNN_DATA") else { return };
    let directory = std::path::PathBuf::from(data).join("google30");
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let signed = |name: &str| -> Vec<i64> { read(name).into_iter().map(|b| i64::from(b as i8)).collect() };
    let mut raw = &signed("weights_i8_12342.bin")[..];
    let mut weights = Weights::new();
    for (name, shape) in SHAPES {
        let (own, rest) = raw.split_at(shape.iter().product());
        weights.insert(name.into(), Tensor::new(shape.to_vec(), own.to_vec()));
        raw = rest;
    }
    assert!(raw.is_empty());
    // Of the authors' program: neither is in the file.
    for (name, value) in [("zeta", 30498), ("nu", 22714)] {
        weights.insert(name.into(), Tensor::new(vec![1], vec![value]));
    }
    let graph = graph(rounding);
    let typed = graph.infer(STEPS).unwrap();
    let x = Tensor::new(vec![STEPS, FEATURES], signed("input_i8_99x32.bin"));
    let start = std::time::Instant::now();
    let outputs = evaluate(&typed, &weights, &[x]);
    println!("evaluated in {:.2?}", start.elapsed());
    let hidden = read(&format!("hidden_final_{suffix}_i16_100.bin"));
    let hidden: Vec<i64> = hidden.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]).into()).collect();
    assert_eq!(outputs[0].data, signed(&format!("scores_sirnn_{suffix}_i8_30.bin")));
    assert_eq!(outputs[1].data, hidden);
}

#[test]
fn google30_rounding_down() {
    check(Rounding::Floor, "floor");
}

#[test]
fn google30_rounding_toward_zero() {
    check(Rounding::TowardZero, "div");
}
