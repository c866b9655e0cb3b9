//! Making correlations: every OT backend and kind, both parties in one process over memory, set-up apart.
//!
//! Also products with weights from ring-LWE, whole offline phases of `linear` for the shapes of known layers.
//!
//! Two threads, one per party; `correlations/setup` is what a session pays before its first correlation.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sirnn_backends::forms::linear_rlwe::{Public, Task, choose, linear_rlwe_offline};
use sirnn_backends::inst::{Conv, CorrelationKind, LinearOp, Party};
use sirnn_backends::ot::{self, Backend, BackendSpec};
use sirnn_backends::transport::MemChannel;
use sirnn_backends::vector::Vector;
use sirnn_benches::configure;

const SENDER: Party = Party::P0;

fn kinds() -> [(&'static str, CorrelationKind, usize); 5] {
    [
        ("cot", CorrelationKind::Cot { sender: SENDER }, 1 << 18),
        // From a pool: what a small session draws.
        ("cot_4096", CorrelationKind::Cot { sender: SENDER }, 1 << 12),
        ("one_of_16", CorrelationKind::OneOf { sender: SENDER, bits: 4 }, 1 << 16),
        ("one_of_256", CorrelationKind::OneOf { sender: SENDER, bits: 8 }, 1 << 16),
        ("triple", CorrelationKind::Triple { cols: 1 }, 1 << 18),
    ]
}

/// Runs the same on both sides.
fn both<T: Send>(ends: [T; 2], run: impl Fn(Party, &mut T) + Sync) -> [T; 2] {
    let [mut a, mut b] = ends;
    std::thread::scope(|s| {
        s.spawn(|| run(Party::P0, &mut a));
        run(Party::P1, &mut b);
    });
    [a, b]
}

type End = (MemChannel, Option<Box<dyn Backend>>);

fn connect(spec: &dyn BackendSpec, kind: CorrelationKind) -> [End; 2] {
    let (a, b) = MemChannel::pair();
    both([(a, None), (b, None)], |party, (channel, backend)| {
        // As for a large session, whose generator works in large steps.
        let demand = [(kind, 1 << 24)];
        *backend = Some(spec.connect(party, [7; 16], &demand, channel).expect("the peer follows"));
    })
}

fn correlations(c: &mut Criterion) {
    for name in ot::names() {
        let spec = ot::lookup(name).expect("a registered backend");
        let mut group = c.benchmark_group(format!("correlations/{name}"));
        group.sample_size(10);
        for (what, kind, n) in kinds() {
            let mut ends = Some(connect(spec, kind));
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(what, |b| {
                b.iter(|| {
                    let used = both(ends.take().expect("put back"), |_, (channel, backend)| {
                        let backend = backend.as_mut().expect("connected");
                        std::hint::black_box(backend.generate(kind, n, channel).expect("the peer follows"));
                    });
                    ends = Some(used);
                });
            });
        }
        group.finish();
        let mut group = c.benchmark_group("correlations/setup");
        group.sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| connect(spec, CorrelationKind::Cot { sender: SENDER }));
        });
        group.finish();
    }
}

/// The four matrices of Google-30 for a batch, a layer of an LSTM for few steps, and a convolution.
fn linear(c: &mut Criterion) {
    let matrix = |rows: usize, inner: u32, outer: u32, width| {
        let op = LinearOp::MatMul { inner, outer };
        Task { op, weight_bits: 8, width, n: rows * inner as usize }
    };
    let google = |batch: usize| {
        let rows = 99 * batch;
        vec![matrix(rows, 32, 16, 14), matrix(rows, 16, 100, 20), matrix(rows, 100, 35, 23), matrix(rows, 35, 100, 14)]
    };
    let conv = Conv { image: [60, 80, 16], kernel: [3, 3], stride: [1, 1], padding: [1; 4], groups: 1, filters: 16 };
    let conv = Task { op: LinearOp::Conv(conv), weight_bits: 8, width: 25, n: conv.image_len() };
    let mut group = c.benchmark_group("linear_rlwe");
    group.sample_size(10);
    for (name, tasks) in [
        ("google30/1", google(1)),
        ("google30/16", google(16)),
        ("lstm128", vec![matrix(100, 256, 512, 25)]),
        ("conv3x3", vec![conv]),
    ] {
        let forms = choose(&tasks, &vec![f64::INFINITY; tasks.len()], 1);
        let tasks: Vec<_> = tasks.into_iter().zip(forms).map(|(t, f)| (t, f.expect("a form"))).collect();
        let weights: Vec<Vector> =
            tasks.iter().map(|(t, _)| Vector::from_u64s(8, (0..t.op.weights() as u64).map(|i| i * 37))).collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                let (zero, one) = MemChannel::pair();
                both([zero, one], |party, channel| {
                    let weights: Vec<_> = weights.iter().map(|w| (party == Party::P0).then_some(w)).collect();
                    let public = Public::new(&[1; 16], &[2; 16]);
                    let shares = linear_rlwe_offline(party, &public, &tasks, &weights, &mut None, channel);
                    std::hint::black_box(shares.expect("the peer follows"));
                });
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = configure(); targets = correlations, linear }
criterion_main!(benches);
