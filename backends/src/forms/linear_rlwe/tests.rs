use super::*;
use crate::inst::{Conv, LinearOp};
use crate::transport::MemChannel;
use proptest::prelude::*;
use sirnn_kernels::aes::Prg;

/// The product mod 2^width by definition, for weights in two's complement.
fn definition(op: LinearOp, weight_bits: u8, width: u8, weights: &[u64], x: &[u64]) -> Vec<u64> {
    let signed = |w: u64| (w << (64 - weight_bits)) as i64 >> (64 - weight_bits);
    let mask = u64::MAX >> (64 - width);
    let mut y = vec![0u64; op.output_len(x.len())];
    match op {
        LinearOp::MatMul { inner, outer } => {
            let (inner, outer) = (inner as usize, outer as usize);
            for (y, x) in y.chunks_mut(outer).zip(x.chunks(inner)) {
                for (j, y) in y.iter_mut().enumerate() {
                    let terms = (0..inner).map(|i| x[i].wrapping_mul(signed(weights[i * outer + j]) as u64));
                    *y = terms.fold(0, u64::wrapping_add) & mask;
                }
            }
        }
        LinearOp::Conv(conv) => {
            let (patch, filters) = (conv.patch(), conv.filters as usize);
            let outer = filters / conv.groups as usize;
            for (row, y) in y.chunks_mut(filters).enumerate() {
                for (f, y) in y.iter_mut().enumerate() {
                    let group = f / outer;
                    let terms = (0..patch).map(|at| {
                        let x = conv.source(row, group * patch + at).map_or(0, |s| x[s]);
                        x.wrapping_mul(signed(weights[(group * patch + at) * outer + f % outer]) as u64)
                    });
                    *y = terms.fold(0, u64::wrapping_add) & mask;
                }
            }
        }
        LinearOp::Scale { .. } => unreachable!("no form"),
    }
    y
}

fn random(seed: u64, width: u8, n: usize) -> Vec<u64> {
    let mut x = vec![0u64; n];
    Prg::new(seed.into()).fill_words(width.into(), &mut x);
    x
}

/// Both parties; checks results and cost, and returns the shares.
fn check(tasks: &[(Task, Form)], weights: &[Vec<u64>], seed: u64, noise: [fn() -> Noise; 2]) -> [Vec<LinearShare>; 2] {
    session(tasks, weights, seed, [&noise[0], &noise[1]], &mut [None, None])
}

/// The same with keys that may be kept from an earlier session.
fn session(
    tasks: &[(Task, Form)],
    weights: &[Vec<u64>],
    seed: u64,
    noise: [&(dyn Fn() -> Noise + Sync); 2],
    keys: &mut [Option<Keys>; 2],
) -> [Vec<LinearShare>; 2] {
    let (a, b) = MemChannel::pair();
    let public = Public::new(&[seed as u8; 16], &[1; 16]);
    let new = keys[0].is_none();
    let vectors: Vec<Vector> = tasks
        .iter()
        .zip(weights)
        .map(|((task, _), w)| Vector::from_u64s(task.weight_bits.into(), w.iter().copied()))
        .collect();
    let party = |party: Party, keys: &mut Option<Keys>, mut channel: MemChannel| {
        let weights: Vec<_> = vectors.iter().map(|w| (party == Party::P0).then_some(w)).collect();
        let shares = run(party, &public, tasks, &weights, keys, &mut noise[party.index()](), &mut channel).unwrap();
        (shares, channel.traffic(), channel.depth())
    };
    let [ours, theirs] = keys;
    let [(zero, traffic, _), (one, _, depth)] = std::thread::scope(|scope| {
        let p1 = scope.spawn(|| party(Party::P1, theirs, b));
        [party(Party::P0, ours, a), p1.join().unwrap()]
    });
    let costs: Vec<Cost> = tasks.iter().map(|(task, form)| cost(task, *form)).collect();
    let keys = session_key_bytes(tasks.iter().copied());
    let saved = if new { 0 } else { costs.iter().map(|c| c.keys).sum() };
    assert_eq!(traffic.sent + saved, costs.iter().map(|c| c.to_p1).sum::<u64>());
    assert_eq!(traffic.received, costs.iter().map(|c| c.to_p0).sum::<u64>() + keys);
    if costs.iter().any(|c| c.values > 0) {
        assert_eq!(depth, 2, "two one-way messages");
    }
    for (i, (task, form)) in tasks.iter().enumerate() {
        let mask = one[i].mask.as_ref().expect("P1 has the mask").to_u64s();
        assert!(zero[i].mask.is_none() && mask.len() == task.n);
        let want = definition(task.op, task.weight_bits, task.width, &weights[i], &mask);
        let (a, b) = (zero[i].share.to_u64s(), one[i].share.to_u64s());
        let low = u64::MAX >> (64 - task.width);
        let wrong = (0..want.len()).filter(|&k| a[k].wrapping_add(b[k]) & low != want[k]).count();
        assert_eq!(wrong, 0, "{task:?} {form:?}: of {} values", want.len());
    }
    [zero, one]
}

const FRESH: [fn() -> Noise; 2] = [|| Noise::fresh().unwrap(); 2];

fn extreme(sign: i64) -> Noise {
    Noise::Extreme { sign, prg: Prg::new(9), roundings: None }
}

/// The same, with keys rounded away from the nearest, each coefficient in the way that moves the value of slot `slot` of a first block
/// most, up or down, against the secret that [`extreme`] draws: half a unit on average, which is what the bound has for the nearest.
fn adverse(set: Set, slot: usize, sign: i64, up: bool) -> Noise {
    let (secret, n) = (extreme(1).secret(set), set.degree());
    // X^n = -1.
    let factor = |l: usize| if l <= slot { secret[slot - l] } else { -secret[n + slot - l] };
    let roundings = (0..n).map(|l| (factor(l) > 0) == up).collect();
    Noise::Extreme { sign, prg: Prg::new(9), roundings: Some(std::sync::Arc::new(roundings)) }
}

fn task(op: LinearOp, weight_bits: u8, width: u8, n: usize) -> Task {
    Task { op, weight_bits, width, n }
}

fn matrix(inner: u32, outer: u32, rows: usize, weight_bits: u8, width: u8) -> Task {
    task(LinearOp::MatMul { inner, outer }, weight_bits, width, inner as usize * rows)
}

fn conv(image: [u32; 3], kernel: [u32; 2], stride: [u32; 2], padding: [u32; 4], groups: u32, filters: u32) -> Conv {
    let conv = Conv { image, kernel, stride, padding, groups, filters };
    assert_eq!(conv.problem(), None);
    conv
}

fn all_forms(task: &Task) -> Vec<(Form, Cost)> {
    forms(task.op, task.weight_bits, task.width, task.n)
}

#[test]
fn matrices_of_a_session() {
    let tasks = [matrix(5, 7, 9, 8, 14), matrix(16, 35, 20, 8, 23), matrix(3, 4, 5, 16, 35), matrix(9, 2, 3, 8, 33)];
    let tasks: Vec<(Task, Form)> = tasks.into_iter().map(|t| (t, all_forms(&t)[0].0)).collect();
    let sets: Vec<Set> = tasks.iter().map(|(_, form)| form.set).collect();
    assert_eq!(sets, [Set::N4096Q100, Set::N4096Q100, Set::N8192Q150, Set::N4096Q105]);
    let weights: Vec<_> = tasks.iter().map(|(t, _)| random(1, t.weight_bits, t.op.weights())).collect();
    check(&tasks, &weights, 2, FRESH);
}

#[test]
fn spread_rows() {
    let t = matrix(6, 11, 40, 8, 20);
    let weights = vec![random(3, 8, 66)];
    let all = all_forms(&t);
    assert_eq!(all[..11].iter().map(|(f, _)| f.spread).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    for (form, _) in all.into_iter().skip(1).step_by(4) {
        check(&[(t, form)], &weights, 4, FRESH);
    }
}

#[test]
fn several_blocks() {
    for (t, spread) in [(matrix(2, 3, 4097, 8, 16), 1), (matrix(1, 4, 3000, 4, 9), 2)] {
        let (form, cost) = all_forms(&t)[spread - 1];
        assert_eq!(cost.blocks, 2);
        check(&[(t, form)], &[random(5, t.weight_bits, t.op.weights())], 6, FRESH);
    }
}

#[test]
fn convolutions() {
    for (conv, images) in [
        (conv([5, 6, 3], [3, 3], [1, 1], [1; 4], 1, 4), 2),
        (conv([5, 6, 4], [3, 2], [2, 1], [2, 0, 1, 0], 2, 8), 3),
        (conv([4, 4, 6], [1, 1], [1, 1], [0; 4], 2, 8), 3),
        (conv([4, 4, 3], [1, 1], [1, 1], [0; 4], 1, 5), 2),
        (conv([7, 7, 2], [3, 3], [2, 2], [0, 1, 2, 1], 2, 6), 1),
        // In one dimension, with zeros between the images; strides that skip.
        (conv([1, 50, 2], [1, 3], [1, 1], [0, 0, 1, 1], 1, 3), 7),
        (conv([1, 50, 2], [1, 2], [1, 3], [0, 0, 1, 0], 1, 3), 2),
        (conv([6, 1, 1], [4, 1], [3, 1], [1, 0, 0, 0], 1, 2), 2),
        // Larger than a block: tiles of rows, then of columns.
        (conv([70, 80, 1], [3, 3], [1, 1], [1; 4], 1, 2), 1),
        (conv([3, 5000, 1], [2, 3], [1, 2], [0, 1, 1, 1], 1, 2), 1),
        (conv([3, 3, 1], [3, 3], [1, 1], [0; 4], 1, 1), 0),
    ] {
        let t = task(LinearOp::Conv(conv), 8, 20, images * conv.image_len());
        let (form, _) = all_forms(&t)[0];
        check(&[(t, form)], &[random(7, 8, t.op.weights())], 8, FRESH);
    }
}

#[test]
fn element_wise_maps_have_no_form() {
    assert!(all_forms(&task(LinearOp::Scale { period: 3 }, 8, 16, 9)).is_empty());
    // A kernel that no block holds.
    let huge = conv([200, 200, 1], [100, 100], [1, 1], [0; 4], 1, 1);
    assert!(all_forms(&task(LinearOp::Conv(huge), 8, 16, huge.image_len())).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_matrix(
        inner in 1u32..9, outer in 1u32..9, rows in 0usize..40, weight_bits in 1u8..=16, width in 1u8..=64,
        spread in 0usize..4, seed: u64,
    ) {
        let t = matrix(inner, outer, rows, weight_bits, width);
        let all = all_forms(&t);
        prop_assert!(!all.is_empty(), "every width up to 64 has a form");
        let (form, _) = all[spread.min(all.len() - 1)];
        check(&[(t, form)], &[random(seed, weight_bits, t.op.weights())], seed, FRESH);
    }

    #[test]
    fn any_convolution(
        image in [1u32..9, 1u32..9, 1u32..4], kernel in [1u32..4, 1u32..4], stride in [1u32..4, 1u32..4],
        padding in [0u32..3, 0u32..3, 0u32..3, 0u32..3], groups in 1u32..3, filters in 1u32..4, images in 0usize..4, seed: u64,
    ) {
        let image = [image[0], image[1], image[2] * groups];
        let c = Conv { image, kernel, stride, padding, groups, filters: filters * groups };
        prop_assume!(c.problem().is_none());
        let t = task(LinearOp::Conv(c), 8, 18, images * c.image_len());
        let (form, _) = all_forms(&t)[0];
        check(&[(t, form)], &[random(seed, 8, t.op.weights())], seed, FRESH);
    }

    /// Errors, roundings of errors, the flood and the number of the secret's coefficients at the ends of their ranges, weights
    /// at theirs: still exact, whichever way each party's go.
    #[test]
    fn extremes_are_exact(
        inner in 1u32..200, outer in 1u32..5, rows in 1usize..300, kind in 0usize..4, spread in 0usize..3, seed: u64,
    ) {
        let (weight_bits, width) = [(8, 23), (8, 14), (8, 33), (16, 35)][kind];
        let t = matrix(inner, outer, rows, weight_bits, width);
        let all = all_forms(&t);
        let (form, _) = all[spread.min(all.len() - 1)];
        let ends = [1 << (weight_bits - 1), (1 << (weight_bits - 1)) - 1];
        let signs = random(seed, 1, t.op.weights());
        let mixed: Vec<u64> = signs.iter().map(|&s| ends[s as usize]).collect();
        let same = vec![ends[seed as usize % 2]; t.op.weights()];
        for weights in [mixed, same] {
            check(&[(t, form)], std::slice::from_ref(&weights), seed, [|| extreme(1), || extreme(1)]);
            check(&[(t, form)], std::slice::from_ref(&weights), seed, [|| extreme(-1), || extreme(1)]);
        }
    }

    /// The same for the rounding of keys, against the secret that the client is going to draw, and for convolutions.
    #[test]
    fn adverse_roundings_are_exact(
        inner in 1u32..200, outer in 1u32..4, rows in 1usize..40, kernel in [1u32..4, 1u32..4], filters in 1u32..4, kind in 0usize..5, seed: u64,
    ) {
        let (weight_bits, width) = [(8, 23), (8, 14), (8, 33), (16, 35), (8, 20)][kind];
        let t = match kind {
            4 => {
                let c = conv([5, 7, inner % 8 + 1], kernel, [1, 1], [kernel[0] - 1, 0, 0, kernel[1] - 1], 1, filters);
                task(LinearOp::Conv(c), weight_bits, width, c.image_len())
            }
            _ => matrix(inner, outer, rows, weight_bits, width),
        };
        let (form, _) = all_forms(&t)[0];
        let shape = shape(&t, form);
        let outputs = shape.block(0).outputs;
        let slot = outputs[seed as usize % outputs.len()].0;
        let weights = vec![1 << (weight_bits - 1); t.op.weights()];
        for (sign, up) in [(1, true), (1, false), (-1, true), (-1, false)] {
            let server = || adverse(form.set, slot, sign, up);
            session(&[(t, form)], std::slice::from_ref(&weights), seed, [&server, &|| extreme(-sign)], &mut [None, None]);
        }
    }

    #[test]
    fn bounds_hold_for_every_form(
        inner in 1u32..4000, outer in 1u32..50, rows in 1usize..5000, weight_bits in 1u8..=16, width in 1u8..=64,
    ) {
        for (form, _) in all_forms(&matrix(inner, outer, rows, weight_bits, width)) {
            let shape = shape(&matrix(inner, outer, rows, weight_bits, width), form);
            prop_assert!(shape.error_bound() < 0.4905, "{}", shape.error_bound());
        }
    }
}

/// The table of the docs: bits of errors for common shapes.
#[test]
fn bits_of_errors() {
    let bits = |inner, weight_bits, width| all_forms(&matrix(inner, 1, 1, weight_bits, width))[0].0;
    assert_eq!(bits(100, 8, 23).bits, 70);
    assert_eq!(bits(3000, 8, 23).bits, 72);
    assert_eq!(bits(1024, 8, 25).set, Set::N4096Q100);
    assert!(bits(1024, 16, 35).bits <= 80);
}

/// `z` is uniform: what the client sees of the server's share says nothing by itself. Chi-square with 7 degrees of freedom.
#[test]
fn rests_are_uniform() {
    let t = matrix(3, 4, 4096, 8, 16);
    let (form, _) = all_forms(&t)[0];
    let weights = random(11, 8, 12);
    let [zero, one] = check(&[(t, form)], &[weights], 12, FRESH);
    // The parties' shares, and the mask.
    for values in [&zero[0].share, &one[0].share, one[0].mask.as_ref().unwrap()] {
        for shift in [0, 13] {
            let mut counts = [0f64; 8];
            values.to_u64s().iter().for_each(|x| counts[(x >> shift) as usize % 8] += 1.0);
            let mean = values.len() as f64 / 8.0;
            let chi: f64 = counts.iter().map(|c| (c - mean).powi(2) / mean).sum();
            assert!(chi < 40.0, "{counts:?}");
        }
    }
}

/// Nothing of a session comes again in the next one.
#[test]
fn sessions_are_fresh() {
    let t = matrix(2, 2, 30, 8, 20);
    let (form, _) = all_forms(&t)[0];
    let weights = random(11, 8, 4);
    let masks =
        [0, 1].map(|_| check(&[(t, form)], std::slice::from_ref(&weights), 12, FRESH)[1][0].mask.clone().unwrap());
    assert_ne!(masks[0], masks[1]);
    let [a, b] = [[1; 16], [2; 16]];
    assert_ne!(Public::new(&a, &b), Public::new(&b, &a));
    let public = Public::new(&a, &b);
    let polys =
        [public.inputs(Set::N4096Q100, 0, 0), public.inputs(Set::N4096Q100, 0, 1), public.inputs(Set::N4096Q100, 1, 0)];
    assert!(polys[0] != polys[1] && polys[0] != polys[2] && polys[1] != polys[2]);
    assert!(polys.iter().all(|p| *p != public.keys(Set::N4096Q100)));
}

/// Kept keys: no bytes but for blocks, the same exactness, and masks that are fresh all the same.
#[test]
fn keys_serve_several_sessions() {
    let convolution = conv([5, 6, 4], [3, 2], [2, 1], [2, 0, 1, 0], 2, 8);
    let tasks = [
        matrix(16, 35, 20, 8, 23),
        matrix(3, 4, 5, 16, 35),
        task(LinearOp::Conv(convolution), 8, 20, convolution.image_len()),
    ];
    let tasks: Vec<(Task, Form)> =
        tasks.into_iter().map(|t| (t, all_forms(&t)[1.min(all_forms(&t).len() - 1)].0)).collect();
    let weights: Vec<_> = tasks.iter().map(|(t, _)| random(1, t.weight_bits, t.op.weights())).collect();
    let mut keys = [None, None];
    let mut masks = Vec::new();
    for seed in 0..3 {
        let [_, one] = session(&tasks, &weights, seed, [&FRESH[0], &FRESH[1]], &mut keys);
        masks.push(one[0].mask.as_ref().unwrap().to_u64s());
    }
    // At the ends of all ranges, too.
    session(&tasks, &weights, 3, [&|| extreme(1), &|| extreme(-1)], &mut keys);
    assert!(masks[0] != masks[1] && masks[1] != masks[2] && masks[0] != masks[2]);
    // They are those of the first session.
    assert!(keys.iter().all(|k| k.as_ref().unwrap().public == Public::new(&[0; 16], &[1; 16])));
}

#[test]
fn keys_out_of_range_are_refused() {
    let t = matrix(2, 2, 3, 8, 20);
    let (form, _) = all_forms(&t)[0];
    let (mut ours, mut theirs) = MemChannel::pair();
    let p = Set::N4096Q100.ring().ntts[0].prime();
    let mut key = vec![0u64; 4096];
    key[77] = p;
    let mut message = vec![0; packed_len(4096, 50)];
    pack(50, &key, &mut message);
    theirs.send(&message).unwrap();
    let weights = Vector::from_u64s(8, [1, 2, 3, 4]);
    let public = Public::new(&[0; 16], &[0; 16]);
    let e = linear_rlwe_offline(Party::P0, &public, &[(t, form)], &[Some(&weights)], &mut None, &mut ours).unwrap_err();
    assert!(matches!(&e, Error::Protocol(what) if what.contains("out of range")), "{e}");
}

#[test]
fn choices_are_by_bytes() {
    // A wide matrix, a narrow one with few rows, an element-wise map.
    let tasks = [matrix(100, 35, 99, 8, 23), matrix(4, 2, 10, 8, 16), task(LinearOp::Scale { period: 9 }, 8, 16, 90)];
    let cots: Vec<f64> = tasks.iter().map(|t| t.op.weights() as f64 * 19.5 * (t.n / t.op_inner()) as f64).collect();
    let chosen = choose(&tasks, &cots, 1);
    assert!(chosen[0].is_some_and(|f| f.spread > 1) && chosen[1].is_none() && chosen[2].is_none(), "{chosen:?}");
    // No matrix alone is worth a key, but it is there anyway.
    let keys = key_bytes(Set::N4096Q100) as f64;
    let cheap = cost(&tasks[0], chosen[0].unwrap());
    let alone = choose(&tasks[..1], &[(cheap.to_p0 + cheap.to_p1) as f64 + keys / 2.0], 1);
    assert_eq!(alone, [None]);
    // Keys that serve many sessions need not be few: rows stand closer.
    let kept = choose(&tasks, &cots, 100)[0].unwrap();
    assert!(kept.spread < chosen[0].unwrap().spread, "{kept:?}");
    let session = |form, sessions: u64| {
        let c = cost(&tasks[0], form);
        (c.to_p0 + c.to_p1 - c.keys) * sessions + c.keys
    };
    assert!(session(kept, 100) < session(chosen[0].unwrap(), 100));
    assert_eq!(choose(&tasks, &[f64::INFINITY; 3], 1).iter().flatten().count(), 2);
}

impl Task {
    /// Elements of a row.
    fn op_inner(&self) -> usize {
        match self.op {
            LinearOp::MatMul { inner, .. } => inner as usize,
            LinearOp::Scale { period } => period as usize,
            LinearOp::Conv(conv) => conv.image_len(),
        }
    }
}
