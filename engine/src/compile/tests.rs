//! Compiled graphs against the evaluator, on the ideal machine in check mode.

use super::*;
use crate::graph::builder::{Body, Builder, output, series};
use crate::graph::ops::scan::Steps;
use crate::graph::ops::{Parameter, activation, add, bias, matmul, mul, scale};
use crate::graph::{Number, Rescale, Reveal, Tensor, Weights, evaluate};
use crate::program::{Goal, Profile};
use crate::protocols::truncation::Rounding;
use crate::run::ideal;

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
                let profile = Profile::of(goal, sirnn_backends::ot::lookup("ferret").unwrap());
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
                let off = crate::plan::correlations::offline_cost(&plan, sirnn_backends::ot::lookup("ferret").unwrap());
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

/// Deterministic numbers of `[lo, hi]`.
fn numbers(n: usize, seed: u64, (lo, hi): (i128, i128)) -> Vec<i64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..n).map(|_| (lo + i128::from(next()) % (hi - lo + 1)) as i64).collect()
}

fn random_weights(graph: &Graph) -> Weights {
    let typed = graph.infer(graph.steps).unwrap();
    let tensor = |(i, spec): (usize, &crate::graph::ops::ParameterSpec)| {
        let data = numbers(spec.shape.iter().product(), 7 + i as u64, spec.range);
        (spec.tensor.clone(), Tensor::new(spec.shape.clone(), data))
    };
    typed.parameters.values().enumerate().map(tensor).collect()
}

/// What a compiled graph costs.
struct Cost {
    rounds: usize,
    bytes: u64,
}

/// Compiles `graph` for items of the given lengths (all of `graph.steps` steps if there are none) in every form, and compares the ideal
/// machine, in check mode, with the evaluator on every item alone. Costs are those of fewest rounds, without tables.
fn check(graph: &Graph, lengths: Option<&[usize]>, items: usize) -> Cost {
    let weights = random_weights(graph);
    let mut graph = graph.clone();
    graph.fits = prove(&graph, &weights);
    let steps = graph.steps;
    let full = graph.infer(steps).unwrap();
    let input = |i: usize, item: usize| {
        let ty = full.ty(crate::graph::ValueId(i as u32));
        Tensor::new(ty.shape.clone(), numbers(ty.len(), 100 + 31 * i as u64 + item as u64, ty.number.range()))
    };
    let inputs: Vec<Vec<Tensor>> =
        (0..items).map(|item| (0..graph.inputs.len()).map(|i| input(i, item)).collect()).collect();
    let length = |item: usize| lengths.map_or(steps, |l| l[item]);
    let expected: Vec<Vec<Tensor>> = (0..items)
        .map(|item| {
            let typed = graph.infer(length(item)).unwrap();
            let cut = |(i, x): (usize, &Tensor)| {
                let ty = typed.ty(crate::graph::ValueId(i as u32));
                Tensor::new(ty.shape.clone(), x.data[..ty.len()].to_vec())
            };
            let own: Vec<Tensor> = inputs[item].iter().enumerate().map(cut).collect();
            evaluate(&typed, &weights, &own)
        })
        .collect();
    let request = Request { items, steps, lengths: lengths.map(<[usize]>::to_vec) };
    let mut cost = Cost { rounds: 0, bytes: 0 };
    for (tables, goal) in [(false, Goal::Bytes), (true, Goal::Bytes), (true, Goal::Rounds), (false, Goal::Rounds)] {
        let profile = Profile { goal, ..Profile::default() };
        let compiled = compile(&graph, &request, profile, &Options { tables, watch: vec![] }).unwrap();
        let mut all = compiled.server_inputs(&weights);
        for (i, declared) in graph.inputs.iter().enumerate() {
            let values = inputs.iter().flat_map(|item| &item[i].data).map(|&v| v.into()).collect();
            all.insert(declared.name.clone(), values);
        }
        let outputs = ideal::Machine::new(&compiled.program, 5, true).run(&all).unwrap();
        for (k, output) in graph.outputs.iter().enumerate() {
            let want: Vec<i128> = expected.iter().flat_map(|item| &item[k].data).map(|&v| v.into()).collect();
            let values = outputs.iter().find(|(name, _)| *name == output.name);
            if output.reveal != Reveal::Class {
                assert_eq!(values.unwrap().1, want, "{} (tables {tables}, {goal:?})", output.name);
            }
        }
        let plan = crate::plan::Plan::new(compiled.program, profile);
        let [a, b] = plan.online_bytes();
        cost = Cost { rounds: plan.rounds(), bytes: a + b };
    }
    cost
}

mod networks {
    use super::*;
    use crate::graph::builder::fixed;
    use crate::graph::cells::{self, Activation, Direction, Layer, Loop, Preactivation, Product};
    use crate::graph::ops::{clip, conv, pool, softmax, transpose};
    use crate::graph::rescale::Shifts;

    const STATE: Number = Number { bits: 16, scale: 12, unsigned: false };
    const PRE: Number = Number { bits: 16, scale: 11, unsigned: false };

    fn pre(tag: &str, columns: usize, rounding: Rounding, out: Number) -> Preactivation {
        let matrix = |name: &str, shift| Product {
            op: matmul::MatMul {
                weights: Parameter::new(format!("{name}{tag}"), 8),
                columns,
                rescale: Rescale::by(shift, rounding),
            },
            out,
        };
        let bias = bias::Bias {
            bias: Parameter::new(format!("b{tag}"), 12),
            shape: None,
            operand: Rescale::default(),
            rescale_bias: Rescale::default(),
            rescale: Rescale::default(),
        };
        let sum = add::Add::default();
        Preactivation { input: vec![matrix("W", 7)], state: vec![matrix("U", 8)], sum, out, bias: Some((bias, out)) }
    }

    pub(super) fn lstm(tag: &str, hidden: usize, rounding: Rounding) -> cells::Lstm {
        cells::Lstm {
            hidden,
            pre: pre(tag, 4 * hidden, rounding, PRE),
            gate: Activation::sigmoid(Number::new(16, 14)),
            candidate: Activation::tanh(Number::new(16, 14)),
            memory: STATE,
            squash: Activation::tanh(Number::new(16, 14)),
            state: STATE,
            rounding,
        }
    }

    fn network(steps: usize, features: usize, reveal: Reveal, build: impl FnOnce(&mut Builder) -> String) -> Graph {
        let mut builder = Builder::new();
        let last = build(&mut builder);
        builder.finish(steps, vec![series("x", &[features], Number::new(12, 8))], vec![output("y", &last, reveal)])
    }

    #[test]
    fn lstms() {
        for rounding in [Rounding::Floor, Rounding::TowardZero, Rounding::Nearest] {
            let (a, b) = (lstm("1", 3, rounding), lstm("2", 2, rounding));
            let stacked = network(4, 3, Reveal::Values, |g| {
                let layers = [Layer::One(&a, Direction::Forward), Layer::One(&b, Direction::Forward)];
                cells::stack(g, "rnn", "x", &layers, &[], Steps::Every)
            });
            let two = check(&stacked, None, 2);
            check(&stacked, Some(&[4, 1, 3]), 3);
            let one = network(4, 3, Reveal::Values, |g| {
                cells::append(
                    g,
                    "rnn",
                    "x",
                    &a,
                    &Loop { direction: Direction::Forward, rows: &[], initial: None, steps: Steps::Every },
                )
            });
            // Layers overlap: two cost little more than one.
            let one = check(&one, None, 2);
            assert!(two.rounds < one.rounds * 3 / 2, "{} rounds, one layer {}", two.rounds, one.rounds);
            assert!(two.bytes > one.bytes);
            let both = network(3, 3, Reveal::Values, |g| {
                cells::stack(g, "rnn", "x", &[Layer::Bidirectional(&a, &b)], &[], Steps::Last)
            });
            check(&both, Some(&[2, 3]), 2);
        }
    }

    #[test]
    fn a_small_cnn() {
        let n = |bits, scale| Number::new(bits, scale);
        for rounding in [Rounding::Floor, Rounding::TowardZero, Rounding::Nearest] {
            let mut g = Builder::new();
            let channels = Rescale { shift: Shifts::Channels(vec![4, 6, 4, 5]), rounding, ..Rescale::default() };
            let conv = |name: &str, filters, kernel: &[usize], groups, rescale| conv::Conv {
                weights: Parameter::new(name, 6),
                filters,
                kernel: kernel.to_vec(),
                stride: vec![],
                dilation: vec![],
                padding: vec![],
                groups,
                rescale,
            };
            g.compute(
                "c1",
                conv::Conv { padding: vec![[1, 1], [1, 0]], ..conv("F1", 4, &[3, 2], 1, channels) },
                &["image"],
                n(14, 6),
            );
            g.compute("r1", clip::Clip { low: -100, high: 500, rescale: Rescale::by(2, rounding) }, &["c1"], n(8, 4));
            g.compute(
                "c2",
                conv::Conv {
                    dilation: vec![2, 1],
                    stride: vec![1, 2],
                    ..conv("F2", 4, &[2, 2], 2, Rescale::by(3, rounding))
                },
                &["r1"],
                n(12, 4),
            );
            g.compute("r2", clip::Relu { rescale: Rescale::by(1, rounding) }, &["c2"], n(12, 3));
            g.arrange("p", pool::MaxPool { size: vec![2, 2], stride: vec![], padding: vec![] }, &["r2"]);
            g.compute(
                "a",
                pool::AvgPool { size: vec![2, 1], stride: vec![1, 1], padding: vec![[1, 0], [0, 0]], rounding },
                &["p"],
                n(12, 3),
            );
            g.arrange("t", transpose::Transpose { axes: vec![2, 0, 1] }, &["a"]);
            g.compute("s", softmax::Softmax {}, &["t"], n(14, 10));
            let graph = g.finish(
                0,
                vec![fixed("image", &[7, 6, 2], n(8, 4))],
                vec![output("y", "s", Reveal::Values), output("z", "a", Reveal::Scores)],
            );
            check(&graph, None, 2);
        }
    }
}

/// Items of different lengths share a program only if what it computes is, at every length, what the graph says of that length.
mod lengths {
    use super::*;
    use crate::graph::ops::{reshape, sum};

    const BYTE: Number = Number { bits: 8, scale: 0, unsigned: false };

    /// Accepted for items of one length, refused for others.
    fn refused(shape: &[usize], reveal: Reveal, build: impl FnOnce(&mut Builder) -> String) -> String {
        let mut builder = Builder::new();
        let value = build(&mut builder);
        let graph = builder.finish(3, vec![series("x", shape, BYTE)], vec![output("y", &value, reveal)]);
        check(&graph, None, 2);
        let request = Request { items: 2, steps: 3, lengths: Some(vec![3, 2]) };
        let profile = Profile::default();
        compile(&graph, &request, profile, &Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_shape_that_fits_one_number_of_steps() {
        // The first says nothing of two steps; the second something else, with more columns.
        for shape in [vec![3, 2], vec![3, -1]] {
            let why = refused(&[2], Reveal::Values, |g| g.arrange("same", reshape::Reshape { shape }, &["x"]));
            assert!(why.contains("2 steps"), "{why}");
        }
    }

    #[test]
    fn time_steps_along_another_axis() {
        let why = refused(&[3, 1], Reveal::Values, |g| {
            g.arrange("flat", reshape::Reshape { shape: vec![-1, 3] }, &["x"]);
            g.compute("sum", add::Add::default(), &["x", "flat"], BYTE)
        });
        assert!(why.contains("'sum' broadcasts time steps"), "{why}");
    }

    #[test]
    fn a_class_of_time_steps() {
        let why = refused(&[], Reveal::Scores, |_| "x".into());
        assert!(why.contains("time step"), "{why}");
    }

    #[test]
    fn weights_of_one_number_of_steps() {
        let mut g = Builder::new();
        let op = matmul::MatMul { weights: Parameter::new("w", 4), columns: 2, rescale: Rescale::default() };
        g.compute("y", op, &["x"], BYTE);
        let graph = g.finish(3, vec![series("x", &[], BYTE)], vec![output("y", "y", Reveal::Values)]);
        check(&graph, None, 2);
        assert!(graph.infer(2).unwrap_err().to_string().contains("tensor 'w'"));
    }

    #[test]
    fn time_steps_mixed_in_a_loop() {
        let why = refused(&[2], Reveal::Values, |g| {
            let mut body = Body { slices: vec!["x_t".into()], ..Body::default() };
            body.nodes.compute("all", sum::Sum { axes: vec![0], rescale: Rescale::default() }, &["x"], BYTE);
            body.nodes.compute("next", add::Add::default(), &["h", "all", "x_t"], BYTE);
            body.state("h", "next", &[2], BYTE);
            body.hand_out("h", "next", Steps::Last);
            g.scan("loop", &["x"], body);
            "loop.h".into()
        });
        assert!(why.contains("mixes time steps"), "{why}");
    }
}

/// Rescales whose parameters are out of the ordinary.
mod rescales {
    use super::*;
    use crate::graph::ops::rescaling::Rescaling;

    fn one(from: Number, rescale: Rescale, to: Number) {
        let mut g = Builder::new();
        g.compute("y", Rescaling { rescale }, &["x"], to);
        let inputs = vec![crate::graph::builder::fixed("x", &[40], from)];
        check(&g.finish(0, inputs, vec![output("y", "y", Reveal::Values)]), None, 2);
    }

    #[test]
    fn everything_moved_out() {
        for rounding in Rounding::ALL {
            for left in [4, 5, 7] {
                one(Number::new(12, 0), Rescale { left, ..Rescale::by(2, rounding) }, Number::new(5, 0));
            }
        }
    }

    /// Low bits of a number that is not negative are no negative number.
    #[test]
    fn toward_zero_of_unsigned_numbers() {
        for bits in [9, 20, 41] {
            for unsigned in [false, true] {
                let from = Number { unsigned: true, ..Number::new(bits, 0) };
                let to = Number { unsigned, ..Number::new(7, 0) };
                one(from, Rescale { left: 3, ..Rescale::by(5, Rounding::TowardZero) }, to);
            }
        }
    }
}

/// A product whose sign is that of one factor is divided toward zero in the rounds in which it is rounded down.
#[test]
fn products_of_known_sign() {
    use crate::graph::builder::fixed;
    let n = |bits, scale| Number::new(bits, scale);
    let graph = |tanh: bool, rounding: Rounding| {
        let mut g = Builder::new();
        // Late, and not negative.
        g.compute("gate", activation::Sigmoid {}, &["x"], n(16, 14));
        let z = scale::Scale {
            weights: Parameter::new("zeta", 10).within(0, 511),
            shape: Some(vec![1]),
            rescale: Rescale::by(9, rounding),
        };
        g.compute("z", z, &["gate"], n(16, 14));
        let factor = if tanh { g.compute("t", activation::Tanh {}, &["h"], n(16, 9)) } else { "h".into() };
        g.compute("y", mul::Mul { rescale: Rescale::by(9, rounding) }, &["z", &factor], n(24, 5));
        let inputs = vec![fixed("x", &[60], n(12, 8)), fixed("h", &[60], n(12, 8))];
        g.finish(0, inputs, vec![output("y", "y", Reveal::Values)])
    };
    for tanh in [false, true] {
        let [down, zero] = [Rounding::Floor, Rounding::TowardZero].map(|r| check(&graph(tanh, r), None, 2));
        assert_eq!(down.rounds, zero.rounds);
    }
}

/// The largest value of a column that its ring just determines.
#[test]
fn columns_in_narrow_rings() {
    use crate::graph::builder::fixed;
    let mut g = Builder::new();
    g.compute("y", activation::Exp {}, &["x"], Number::new(36, 13));
    let inputs = vec![fixed("x", &[600], Number::new(9, 8))];
    check(&g.finish(0, inputs, vec![output("y", "y", Reveal::Values)]), None, 2);
}

/// A loop that hands on what another one made, without an operation of its own.
#[test]
fn a_state_from_outside() {
    use crate::graph::ops::reshape::Reshape;
    let n = Number::new(8, 0);
    let step = |name: &str, of: &str| {
        let mut body = Body { slices: vec![format!("{name}_x")], ..Body::default() };
        body.state(&format!("{name}_h"), &format!("{name}_next"), &[3], n);
        if of.is_empty() {
            let (x, h) = (format!("{name}_x"), format!("{name}_h"));
            body.nodes.compute(&format!("{name}_next"), add::Add::default(), &[&x, &h], n);
        } else {
            body.nodes.arrange(&format!("{name}_next"), Reshape { shape: vec![3] }, &[of]);
        }
        body.hand_out("h", &format!("{name}_h"), Steps::Last);
        body
    };
    let mut g = Builder::new();
    g.scan("first", &["x"], step("a", ""));
    g.scan("second", &["x"], step("b", "first.h"));
    let graph = g.finish(4, vec![series("x", &[3], n)], vec![output("y", "second.h", Reveal::Values)]);
    check(&graph, None, 2);
}

#[test]
fn filters_in_groups() {
    use crate::graph::builder::fixed;
    use crate::graph::ops::conv::Conv;
    for (groups, filters, dilation) in [(3, 6, vec![]), (3, 3, vec![2, 1]), (1, 2, vec![1, 2])] {
        let op = Conv {
            weights: Parameter::new("f", 5),
            filters,
            kernel: vec![2, 2],
            stride: vec![],
            dilation,
            padding: vec![[1, 0], [0, 1]],
            groups,
            rescale: Rescale::by(2, Rounding::Floor),
        };
        let mut g = Builder::new();
        g.compute("y", op, &["x"], Number::new(12, 0));
        let inputs = vec![fixed("x", &[3, 4, 3], Number::new(6, 0))];
        check(&g.finish(0, inputs, vec![output("y", "y", Reveal::Values)]), None, 2);
    }
}
