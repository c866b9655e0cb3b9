//! Whole sessions in one process, both parties over memory: every operation of the library on every OT backend, and the
//! shipped network. Set-up included; use `sirnn bench` and `sirnn run` for two processes and a real socket.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sirnn::compile::{Options, Request, compile};
use sirnn::graph::Weights;
use sirnn::model::input::Sources;
use sirnn::model::{Description, Items, Model, weights};
use sirnn::plan::Plan;
use sirnn::plan::operations::{OPERATIONS, Params, inputs};
use sirnn::program::{Goal, Profile, Rates};
use sirnn::run::{Inputs, pair};
use sirnn_backends::ot;
use sirnn_benches::configure;
use std::collections::HashMap;
use std::path::Path;

fn profile(backend: &str, goal: Goal) -> Profile {
    Profile { goal, rates: Rates::of(ot::lookup(backend).expect("a registered backend")), ..Profile::default() }
}

/// The plan of a model for a batch, and the server's inputs.
fn planned(
    description: &Description,
    weights: &Weights,
    items: usize,
    profile: Profile,
    tables: bool,
) -> (Plan, Inputs) {
    let request = Request { items, steps: description.graph.steps, lengths: None };
    let options = Options { tables, ..Options::default() };
    let compiled = compile(&description.graph, &request, profile, &options).expect("a valid model");
    let inputs = compiled.server_inputs(weights);
    (Plan::new(compiled.program, profile), inputs)
}

fn operations(c: &mut Criterion) {
    for backend in ["iknp", "ferret"] {
        let mut group = c.benchmark_group(format!("operation/{backend}"));
        group.sample_size(10);
        for op in OPERATIONS {
            // Matrices and tournaments work on rows: fewer of them.
            let n = if matches!(op.name, "matmul" | "conv" | "argmax" | "l2norm") { 64 } else { 4096 };
            let params = Params { n, out_width: 32, ..Params::default() };
            let plan = match op.plan(&params, profile(backend, Goal::Bytes)) {
                Ok(plan) => plan,
                Err(e) => panic!("{}: {e}", op.name),
            };
            let inputs = inputs(&plan.program, 1);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(op.name, |b| {
                b.iter(|| pair::run(&plan, backend, &inputs).expect("both parties follow the plan"));
            });
        }
        group.finish();
    }
}

fn digits(c: &mut Criterion) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    let Model { description, weights } = Model::load(&folder).expect("the shipped model");
    let items = Items::load(&Sources::one(&folder.join("inputs.npy")), &description).expect("its inputs");
    let mut group = c.benchmark_group("digits");
    group.sample_size(10);
    for (fuse, batch) in [(true, 1), (true, 32), (false, 1), (false, 32)] {
        let profile = profile("iknp", Goal::Time { bits_per_second: 3e9, latency: 4e-4 });
        let (plan, mut inputs) = planned(&description, &weights, batch, profile, fuse);
        inputs.extend(items.inputs(0..batch));
        group.throughput(Throughput::Elements(batch as u64));
        let name = if fuse { "fused" } else { "separate" };
        group.bench_function(BenchmarkId::new(name, batch), |b| {
            b.iter(|| pair::run(&plan, "iknp", &inputs).expect("both parties follow the plan"));
        });
    }
    group.finish();
}

/// Google-30's shape with weights of no meaning: the cost is that of the trained network.
fn google30(c: &mut Criterion) {
    let description = Description::parse(include_str!("../../engine/examples/google30.toml")).expect("a valid file");
    let sizes = [
        ("W1", 32 * 16),
        ("W2", 16 * 100),
        ("U1", 100 * 35),
        ("U2", 35 * 100),
        ("Bg", 100),
        ("Bh", 100),
        ("FC", 100 * 30),
        ("FCbias", 30),
    ];
    let arrays = sizes.map(|(name, n)| (name.to_string(), (0..n).map(|i: i64| i * 37 % 15 - 7).collect()));
    let mut arrays = HashMap::from(arrays);
    arrays.extend([("zeta".to_string(), vec![30_000]), ("nu".to_string(), vec![22_000])]);
    let weights = weights::from_arrays(&description, arrays).expect("weights of the right shapes");
    let Model { description, weights } = Model::new(description, weights).expect("a valid model");
    let mut group = c.benchmark_group("google30");
    group.sample_size(10);
    for backend in ["iknp", "softspoken", "ferret"] {
        for (name, fuse) in [("fused", true), ("separate", false)] {
            let profile = profile(backend, Goal::Time { bits_per_second: 3e9, latency: 4e-4 });
            let (plan, mut inputs) = planned(&description, &weights, 1, profile, fuse);
            inputs.insert("x".into(), (0..99 * 32).map(|i: i128| i * 29 % 255 - 127).collect());
            group.bench_function(BenchmarkId::new(name, backend), |b| {
                b.iter(|| pair::run(&plan, backend, &inputs).expect("both parties follow the plan"));
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = configure(); targets = operations, digits, google30 }
criterion_main!(benches);
