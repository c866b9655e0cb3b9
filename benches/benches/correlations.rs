//! Making correlations: every OT backend and kind, both parties in one process over memory, set-up apart.
//!
//! Two threads, one per party; `correlations/setup` is what a session pays before its first correlation.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sirnn_backends::inst::{CorrelationKind, Party};
use sirnn_backends::ot::{self, Backend, BackendSpec};
use sirnn_backends::transport::MemChannel;
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

criterion_group! { name = benches; config = configure(); targets = correlations }
criterion_main!(benches);
