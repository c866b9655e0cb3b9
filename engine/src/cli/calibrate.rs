//! Measures how fast this machine makes and uses correlations ([`Speeds`]), by running operations with both parties in
//! this process.

use super::Failure;
use sirnn::plan::operations::{self, Params};
use sirnn::plan::speeds::{Backend, Costs, Rlwe, Speeds};
use sirnn::program::{Goal, Profile};
use sirnn::run::pair;
use sirnn::run::usage::cpu_seconds;
use sirnn_backends::forms::linear_rlwe::{Form, Public, Task, choose, cost, linear_rlwe_offline};
use sirnn_backends::inst::{CorrelationKind, LinearOp, Party};
use sirnn_backends::onehot::Shape;
use sirnn_backends::ot::{self, BackendSpec, streams::totals};
use sirnn_backends::transport::MemChannel;
use sirnn_backends::vector::Vector;
use std::collections::BTreeMap;

/// Nanoseconds to spend a bit triple: too few to be measured by themselves.
const TRIPLE: f64 = 1.0;

/// CPU seconds that `work` takes, over all threads of this process, halved: what one of two parties takes.
fn half_cpu<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
    let before = cpu_seconds();
    let done = work()?;
    Ok((done, (cpu_seconds() - before) / 2.0))
}

/// Measures this machine: some seconds. `progress` is told what is being measured.
///
/// # Errors
/// A backend that does not work.
pub(super) fn measure(progress: &mut dyn FnMut(&str)) -> Result<Speeds, Failure> {
    let mut backend = BTreeMap::new();
    for name in ot::names() {
        progress(name);
        backend.insert(name.to_string(), measure_backend(ot::lookup(name)?)?);
    }
    progress("products from ring-LWE");
    let rlwe = measure_rlwe()?;
    progress("rounds");
    let mut round = f64::INFINITY;
    // The least of a few: what else the machine does only adds.
    for _ in 0..5 {
        let run = session("sigmoid", "iknp", Params { n: 1, ..Params::default() })?;
        round = round.min(run.online / run.rounds as f64 * 1e9);
    }
    Ok(Speeds { round, rlwe, backend })
}

fn measure_backend(spec: &dyn BackendSpec) -> Result<Backend, Failure> {
    let kinds = |sender| [CorrelationKind::Cot { sender }, CorrelationKind::OneOf { sender, bits: 4 }];
    let all: Vec<CorrelationKind> = Party::BOTH.into_iter().flat_map(kinds).collect();
    let setup = generate(spec, &all, 1)?;
    // Per correlation: many at once, less the set-up.
    let each = |kind, log: u32| -> Result<f64, Failure> {
        let (few, many) = (1 << (log - 3), 1 << log);
        Ok((generate(spec, &[kind], many)? - generate(spec, &[kind], few)?).max(0.0) / (many - few) as f64 * 1e9)
    };
    let sender = Party::P0;
    let [of_16, of_256] = [4, 8].map(|bits| each(CorrelationKind::OneOf { sender, bits }, 18));
    let (of_16, of_256) = (of_16?, of_256?);
    let bit = ((of_256 - of_16) / 4.0).max(0.0);
    let cot = each(CorrelationKind::Cot { sender }, 21)?;
    let vectors = Shape { bits: 16, top: 4, sign: true };
    let vector = each(CorrelationKind::OneHot(vectors), 12)? - 2.0 * cot * vectors.cots() as f64;
    let make = Costs {
        cot,
        one_hot: (vector / vectors.vector_blocks() as f64).max(0.0),
        one_of: (of_16 - 4.0 * bit).max(0.0),
        one_of_each: bit,
        triple: each(CorrelationKind::Triple { cols: 1 }, 21)?,
    };
    let mut measured = Backend { setup: setup * 1e9, make, spend: Costs { triple: TRIPLE, ..Costs::default() } };

    // Operations that spend few kinds; what is left when all that is known is taken off is the rest's.
    let many = Params { n: 1 << 15, ..Params::default() };
    let rest = |measured: &Backend, op, params, kind: fn(&CorrelationKind) -> bool| -> Result<_, Failure> {
        let run = session(op, spec.name(), params)?;
        let (sought, others): (Vec<_>, Vec<_>) = run.needs.iter().partition(|(k, _)| kind(k));
        let kinds: Vec<CorrelationKind> = run.needs.iter().map(|need| need.0).collect();
        let known = generate(spec, &kinds, 1)? + measured.making(&run.needs) + measured.spending(&others);
        Ok(((run.cpu - known).max(0.0) * 1e9, sought))
    };
    let one_of: fn(&CorrelationKind) -> bool = |k| matches!(k, CorrelationKind::OneOf { .. });
    // Two equations for the two parts of a 1-of-N OT: nearly all pads, and few.
    let (lookups, many_pads) = rest(&measured, "lut", many.clone(), one_of)?;
    let (leaves, few_pads) = rest(&measured, "compare", Params { width: 32, ..many.clone() }, one_of)?;
    let count = |needs: &[(CorrelationKind, u64)]| -> [f64; 2] {
        let instances: f64 = needs.iter().map(|(_, n)| *n as f64).sum();
        let unit = Costs { one_of_each: 1.0, ..Costs::default() };
        let pads = Backend { setup: 0.0, make: Costs::default(), spend: unit }.spending(needs) * 1e9;
        [instances, pads]
    };
    let ([a, b], [c, d]) = (count(&many_pads), count(&few_pads));
    let pad = ((lookups * c - leaves * a) / (b * c - d * a)).clamp(0.0, lookups / b.max(1.0));
    measured.spend.one_of_each = if pad.is_finite() { pad } else { 0.0 };
    measured.spend.one_of = ((lookups - b * measured.spend.one_of_each) / a.max(1.0)).max(0.0);
    let long = Params { digit: 16, n: 1 << 12, ..Params::default() };
    let (picks, tickets) = rest(&measured, "lut", long, |k| matches!(k, CorrelationKind::OneHot(_)))?;
    let blocks: f64 = tickets.iter().map(|(_, n)| *n as f64 * vectors.vector_blocks() as f64).sum();
    measured.spend.one_hot = picks / blocks.max(1.0);
    let (products, cots) = rest(&measured, "mul", many, |k| matches!(k, CorrelationKind::Cot { .. }))?;
    measured.spend.cot = products / count(&cots)[0].max(1.0);
    Ok(measured)
}

/// Two matrices, one of which has many products for its coefficients: two equations.
fn measure_rlwe() -> Result<Rlwe, Failure> {
    let measure = |inner: u32, outer: u32| -> Result<([f64; 2], f64), Failure> {
        let op = LinearOp::MatMul { inner, outer };
        let task = Task { op, weight_bits: 8, width: 20, n: 4096 * inner as usize };
        let form = choose(&[task], &[f64::INFINITY], 1)[0].expect("a form of a matrix");
        let tasks = [(task, form)];
        let least =
            (0..3).map(|_| products(&tasks)).try_fold(f64::INFINITY, |least, s| Ok::<_, Failure>(least.min(s?)))?;
        Ok((cost(&task, form).work.map(|n| n as f64), least * 1e9))
    };
    // What is made once a process is made by the first.
    measure(1, 1)?;
    let (([a, b], few), ([c, d], many)) = (measure(8, 8)?, measure(96, 96)?);
    let product = ((many * a - few * c) / (d * a - b * c)).clamp(0.0, many / d);
    Ok(Rlwe { coefficient: ((few - b * product) / a).max(0.0), product })
}

/// CPU seconds of a party for products from ring-LWE.
fn products(tasks: &[(Task, Form)]) -> Result<f64, Failure> {
    let weights: Vec<Vector> =
        tasks.iter().map(|(t, _)| Vector::U8((0..t.op.weights()).map(|i| i as u8).collect())).collect();
    let party = |party: Party, mut channel: MemChannel| {
        let weights: Vec<_> = weights.iter().map(|w| (party == Party::P0).then_some(w)).collect();
        linear_rlwe_offline(party, &Public::new(&[0; 16], &[1; 16]), tasks, &weights, &mut None, &mut channel).map(drop)
    };
    let (a, b) = MemChannel::pair();
    let ((), seconds) = half_cpu(|| {
        std::thread::scope(|s| {
            let peer = s.spawn(|| party(Party::P0, a));
            party(Party::P1, b)?;
            peer.join().expect("products do not panic")
        })
    })?;
    Ok(seconds)
}

/// CPU seconds of a party that connects and makes `n` correlations of each of some kinds.
fn generate(spec: &dyn BackendSpec, kinds: &[CorrelationKind], n: usize) -> Result<f64, Failure> {
    let (a, b) = MemChannel::pair();
    let demand: Vec<(CorrelationKind, u64)> = kinds.iter().map(|&kind| (kind, n as u64)).collect();
    let party = |party: Party, mut channel: MemChannel| -> Result<(), sirnn_backends::Error> {
        let mut backend = spec.connect(party, [0; 16], &demand, &mut channel)?;
        kinds.iter().try_for_each(|&kind| backend.generate(kind, n, &mut channel).map(drop))
    };
    let ((), seconds) = half_cpu(|| {
        std::thread::scope(|s| {
            let peer = s.spawn(|| party(Party::P0, a));
            party(Party::P1, b)?;
            peer.join().expect("a generator does not panic")
        })
    })?;
    Ok(seconds)
}

/// A session of an operation.
struct Run {
    /// Seconds of a party.
    cpu: f64,
    /// Seconds of wall clock.
    online: f64,
    needs: Vec<(CorrelationKind, u64)>,
    rounds: usize,
}

fn session(op: &str, backend: &str, params: Params) -> Result<Run, Failure> {
    let profile = Profile::of(Goal::Bytes, ot::lookup(backend)?);
    let plan = operations::find(op).expect("a registered operation").plan(&params, profile)?;
    let inputs = operations::inputs(&plan.program, 1);
    let ([_, (_, report)], cpu) = half_cpu(|| pair::run(&plan, backend, &inputs))?;
    Ok(Run { cpu, online: report.online.as_secs_f64(), needs: totals(&plan.needs), rounds: plan.rounds() })
}
