//! Bytes and CPU of the offline phase of `linear` from ring-LWE, both parties in this process: `cargo run --release --example linear_rate`.
//!
//! CPU is that of the process, so other programs on the machine change it little. Shapes: the four matrices of Google-30, 99 steps, and
//! an LSTM layer of 512 units, 100 steps, for several batches; bytes and seconds are per item. "kept": a later session, with the server's
//! keys of an earlier one and forms that were chosen for many sessions.

use sirnn_backends::{
    Party,
    forms::linear_rlwe::{Form, Keys, Public, Task, choose, cost, linear_rlwe_offline, session_key_bytes},
    inst::LinearOp,
    transport::MemChannel,
    vector::Vector,
};
use sirnn_kernels::aes::Prg;

fn matrix(rows: usize, inner: u32, outer: u32, width: u8) -> Task {
    Task { op: LinearOp::MatMul { inner, outer }, weight_bits: 8, width, n: rows * inner as usize }
}

fn cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Sessions that forms are chosen for where keys are kept.
const MANY: u64 = 1000;

/// A session; CPU seconds of both parties.
fn session(tasks: &[(Task, Form)], weights: &[Vector], keys: &mut [Option<Keys>; 2]) -> f64 {
    let public = Public::new(&[1; 16], &[2; 16]);
    let party = |party: Party, keys: &mut Option<Keys>, mut channel: MemChannel| {
        let weights: Vec<_> = weights.iter().map(|w| (party == Party::P0).then_some(w)).collect();
        linear_rlwe_offline(party, &public, tasks, &weights, keys, &mut channel).expect("both parties are here");
    };
    let ((a, b), [ours, theirs]) = (MemChannel::pair(), keys);
    let before = cpu();
    std::thread::scope(|scope| {
        scope.spawn(|| party(Party::P1, theirs, b));
        party(Party::P0, ours, a);
    });
    cpu() - before
}

fn with_forms(tasks: Vec<Task>, sessions: u64) -> Vec<(Task, Form)> {
    let chosen = choose(&tasks, &vec![f64::INFINITY; tasks.len()], sessions);
    tasks.into_iter().zip(chosen).map(|(task, form)| (task, form.expect("a form"))).collect()
}

fn main() {
    let google = |batch: usize| {
        let rows = 99 * batch;
        vec![matrix(rows, 32, 16, 14), matrix(rows, 16, 100, 20), matrix(rows, 100, 35, 23), matrix(rows, 35, 100, 14)]
    };
    let lstm = |batch: usize| vec![matrix(100 * batch, 1024, 2048, 25)];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // Tables of the transforms are made once a process.
    session(&with_forms(vec![matrix(1, 1, 1, 14)], 1), &[Vector::U8(vec![1])], &mut [None, None]);
    for (name, tasks, batch) in [
        ("google", google(1), 1),
        ("google", google(16), 16),
        ("google", google(128), 128),
        ("lstm", lstm(1), 1),
        ("lstm", lstm(64), 64),
    ] {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        for sessions in [1, MANY] {
            let tasks = with_forms(tasks.clone(), sessions);
            let random = |task: &Task| {
                let mut w = vec![0u8; task.op.weights()];
                Prg::new(1).fill_words(8, &mut w);
                Vector::U8(w)
            };
            let weights: Vec<Vector> = tasks.iter().map(|(task, _)| random(task)).collect();
            let mut keys = [None, None];
            if sessions > 1 {
                session(&tasks, &weights, &mut keys);
            }
            let cpu = session(&tasks, &weights, &mut keys);
            let bytes = |(task, form): &(Task, Form)| {
                let c = cost(task, *form);
                c.to_p0 + c.to_p1 - if sessions > 1 { c.keys } else { 0 }
            };
            let bytes = tasks.iter().map(bytes).sum::<u64>() + session_key_bytes(tasks.iter().copied());
            let forms: Vec<String> =
                tasks.iter().map(|(_, f)| format!("{} spread {} bits {}", f.set.name(), f.spread, f.bits)).collect();
            println!(
                "{name} batch {batch}{}: {:.3} MB and {:.2} ms of CPU an item; {}",
                if sessions > 1 { ", kept" } else { "" },
                bytes as f64 / batch as f64 / 1e6,
                cpu * 1e3 / batch as f64,
                forms.join("; ")
            );
        }
    }
}
