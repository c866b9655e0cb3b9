//! Compiled graphs against the evaluator, on the ideal machine in check mode.

use super::*;
use crate::graph::builder::{Body, Builder, output, series};
use crate::graph::ops::scan::Steps;
use crate::graph::ops::{Parameter, activation, add, bias, matmul, mul, scale};
use crate::graph::{Number, Rescale, Reveal, Tensor, Weights, evaluate};
use crate::program::{Goal, Profile, Rates, ideal};
use crate::protocols::truncation::Rounding;

fn google30(rounding: Rounding) -> Graph {
    let n8 = |scale| Number::new(8, scale);
    let n16 = |scale| Number::new(16, scale);
    let r = |floor: u32, shift: u32, left: u32| Rescale { floor, left, ..Rescale::by(shift, rounding) };
    let product =
        |tensor: &str, columns, rescale| matmul::MatMul { weights: Parameter::new(tensor, 8), columns, rescale };
    let mut body = Body { slices: vec!["x_t".into()], ..Body::default() };
    let b = &mut body.nodes;
    b.compute("w1", product("W1", 16, r(5, 1, 0)), &["x_t"], n8(0));
    b.compute("a", product("W2", 100, r(4, 0, 4)), &["w1"], n16(0));
    b.compute("u1", product("U1", 35, r(7, 8, 0)), &["h"], n8(0));
    b.compute("b", product("U2", 100, r(6, 0, 0)), &["u1"], n8(0));
    let shifted = |shift| add::Term { rescale: Rescale::by(shift, rounding), ..add::Term::default() };
    b.compute("c", add::Add { terms: vec![shifted(5), shifted(0)], ..add::Add::default() }, &["a", "b"], n16(3));
    let up = Rescale { left: 6, ..Rescale::default() };
    let offset = |tensor: &str| bias::Bias {
        bias: Parameter::new(tensor, 8),
        shape: None,
        operand: Rescale::default(),
        rescale_bias: Rescale::default(),
        rescale: up.clone(),
    };
    b.compute("gate_in", offset("Bg"), &["c"], n16(9));
    b.compute("candidate_in", offset("Bh"), &["c"], n16(9));
    b.compute("g", activation::Sigmoid {}, &["gate_in"], n16(14));
    b.compute("candidate", activation::Tanh {}, &["candidate_in"], n16(9));
    b.compute("gh", mul::Mul { rescale: Rescale::by(14, rounding) }, &["g", "h"], n16(14));
    let minus = add::Term { minus: true, ..add::Term::default() };
    b.compute("open", add::Add { terms: vec![minus], constant: 1 << 14, ..add::Add::default() }, &["g"], n16(14));
    let zeta = Parameter::new("zeta", 16).within(0, 32767);
    b.compute(
        "mixed",
        scale::Scale { weights: zeta, shape: Some(vec![1]), rescale: Rescale::by(14, rounding) },
        &["open"],
        n16(15),
    );
    let nu = bias::Bias {
        bias: Parameter::new("nu", 16).within(0, 32767),
        shape: Some(vec![1]),
        operand: Rescale::default(),
        rescale_bias: Rescale::by(6, rounding),
        rescale: Rescale::default(),
    };
    b.compute("z", nu, &["mixed"], n16(15));
    b.compute("update", mul::Mul { rescale: Rescale::by(9, rounding) }, &["z", "candidate"], n16(15));
    b.compute(
        "next",
        add::Add { terms: vec![shifted(0), shifted(1)], ..add::Add::default() },
        &["gh", "update"],
        n16(14),
    );
    body.state("h", "next", &[100], n16(14));
    body.hand_out("h", "next", Steps::Last);
    let mut g = Builder::new();
    g.scan("rnn", &["x"], body);
    g.compute("fc", product("FC", 30, r(7, 10, 0)), &["rnn.h"], n8(2));
    let last = bias::Bias {
        bias: Parameter::new("FCbias", 8),
        shape: None,
        operand: Rescale::default(),
        rescale_bias: Rescale::by(3, rounding),
        rescale: Rescale::default(),
    };
    g.compute("scores", last, &["fc"], n8(2));
    let mut graph = g.finish(99, vec![series("x", &[32], n8(0))], vec![output("scores", "scores", Reveal::Scores)]);
    graph.fits = vec!["rnn/z".into(), "rnn/next".into()];
    graph
}

fn weights(directory: &std::path::Path) -> (Weights, Tensor) {
    let read = |name: &str| -> Vec<i64> {
        std::fs::read(directory.join(name)).unwrap().into_iter().map(|b| i64::from(b as i8)).collect()
    };
    let all = read("weights_i8_12342.bin");
    let mut at = 0;
    let mut weights = Weights::new();
    for (name, shape) in [
        ("W1", vec![32, 16]),
        ("W2", vec![16, 100]),
        ("U1", vec![100, 35]),
        ("U2", vec![35, 100]),
        ("Bg", vec![100]),
        ("Bh", vec![100]),
        ("FC", vec![100, 30]),
        ("FCbias", vec![30]),
    ] {
        let n: usize = shape.iter().product();
        weights.insert(name.into(), Tensor::new(shape, all[at..at + n].to_vec()));
        at += n;
    }
    weights.insert("zeta".into(), Tensor::new(vec![1], vec![30498]));
    weights.insert("nu".into(), Tensor::new(vec![1], vec![22714]));
    (weights, Tensor::new(vec![99, 32], read("input_i8_99x32.bin")))
}

#[test]
fn google30_as_a_graph() {
    let Ok(data) = std::env::var("SIRNN_DATA") else { return eprintln!("skipped: SIRNN_DATA is not set") };
    let directory = std::path::Path::new(&data).join("google30");
    let (weights, x) = weights(&directory);
    for rounding in [Rounding::TowardZero, Rounding::Floor] {
        let mut graph = google30(rounding);
        let known = std::mem::take(&mut graph.fits);
        graph.fits = prove(&graph, &weights);
        assert!(known.iter().all(|name| graph.fits.contains(name)), "{:?}", graph.fits);
        let name = if rounding == Rounding::Floor { "floor" } else { "div" };
        let expected = std::fs::read(directory.join(format!("scores_sirnn_{name}_i8_30.bin"))).unwrap();
        let expected: Vec<i64> = expected.into_iter().map(|b| i64::from(b as i8)).collect();
        let typed = graph.infer(99).unwrap();
        let clear = evaluate(&typed, &weights, std::slice::from_ref(&x));
        assert_eq!(clear[0].data, expected);
        for tables in [false, true] {
            for goal in [Goal::Bytes, Goal::Rounds] {
                let profile = Profile { goal, rates: Rates::of(sirnn_backends::ot::lookup("ferret").unwrap()) };
                let request = Request { items: 1, steps: 99, lengths: None };
                let compiled = compile(&graph, &request, profile, &Options { tables, watch: vec![] }).unwrap();
                let mut inputs = compiled.server_inputs(&weights);
                inputs.insert("x".into(), x.data.iter().map(|&v| v.into()).collect());
                let mut machine = ideal::Machine::new(&compiled.program, 1, true);
                let outputs = machine.run(&inputs).unwrap();
                let scores: Vec<i64> = outputs[0].1.iter().map(|&v| v as i64).collect();
                assert_eq!(scores, expected, "{name} {tables}");
                let plan = crate::plan::Plan::new(compiled.program, profile);
                let bytes = plan.online_bytes();
                let off = crate::run::session::offline_cost(&plan, sirnn_backends::ot::lookup("ferret").unwrap());
                eprintln!(
                    "{name} tables {tables} {goal:?}: {} rounds, online {:.2} MB, all {:.2} MB",
                    plan.rounds(),
                    (bytes[0] + bytes[1]) as f64 / 1e6,
                    (bytes[0] + bytes[1] + off.bytes_from[0] + off.bytes_from[1]) as f64 / 1e6
                );
            }
        }
    }
}
