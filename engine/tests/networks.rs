//! Whole networks: cleartext and both parties on the ideal machine, bit for bit against the reference.

use proptest::prelude::*;
use sirnn::fixed::{math, wrap};
use sirnn::model::description::{Factor, Layer};
use sirnn::model::{Description, Extra, Items, Model, Results, Reveal, Weights, build, build_with};
use sirnn::plan::Plan;
use sirnn::program::{Goal, Profile, clear, ideal::Machine};
use sirnn::protocols::truncation::Rounding;
use sirnn::run::pair;
use std::{collections::HashMap, path::PathBuf};

const GOOGLE30: &str = include_str!("../examples/google30.toml");
const GOOGLE30_COLLAPSED: &str = include_str!("../examples/google30_collapsed.toml");

/// The folder of reference data that the project does not ship.
fn data() -> Option<PathBuf> {
    let root = std::env::var_os("SIRNN_DATA");
    if root.is_none() {
        eprintln!("skipped: SIRNN_DATA does not name the folder of reference data");
    }
    root.map(PathBuf::from)
}

fn bytes(root: &std::path::Path, name: &str) -> Vec<i64> {
    std::fs::read(root.join("google30").join(name)).unwrap().into_iter().map(|b| i64::from(b as i8)).collect()
}

/// The description, and the tensors in the order of the file.
fn google30(root: &std::path::Path, rounding: Rounding) -> (Description, Weights) {
    let mut description = Description { rounding, ..Description::parse(GOOGLE30).unwrap() };
    let mut raw = bytes(root, "weights_i8_12342.bin").into_iter();
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
    let mut arrays: HashMap<String, Vec<i64>> =
        sizes.into_iter().map(|(name, n)| (name.into(), raw.by_ref().take(n).collect())).collect();
    assert_eq!(raw.next(), None);
    arrays.insert("zeta".into(), vec![30498]);
    arrays.insert("nu".into(), vec![22714]);
    let weights = Weights::from_arrays(&mut description, arrays).unwrap();
    (description, weights)
}

/// The forms of fewest bytes, and of fewest rounds.
fn profiles() -> [Profile; 2] {
    [Goal::Bytes, Goal::Rounds].map(|goal| Profile { goal, ..Profile::default() })
}

fn google30_is_exact(rounding: Rounding, suffix: &str, batch: usize, fuse: bool, profile: Profile) {
    let Some(root) = data() else { return };
    let (description, weights) = google30(&root, rounding);
    let program = build_with(&description, batch, profile, Extra { hidden: true, fuse }).unwrap();
    let item = bytes(&root, "input_i8_99x32.bin");
    let mut inputs = weights.inputs(&description);
    // Every item of the batch is the same utterance.
    inputs.insert("x".into(), item.chunks(32).flat_map(|row| row.repeat(batch)).map(i128::from).collect());
    let scores: Vec<i128> =
        bytes(&root, &format!("scores_sirnn_{suffix}_i8_30.bin")).into_iter().map(i128::from).collect();
    let hidden: Vec<i128> = std::fs::read(root.join(format!("google30/hidden_final_{suffix}_i16_100.bin")))
        .unwrap()
        .chunks(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]).into())
        .collect();
    let best = scores.iter().max().unwrap();
    let class = scores.iter().position(|v| v == best).unwrap() as i128;
    let want = vec![
        ("hidden".to_string(), hidden.repeat(batch)),
        ("scores".to_string(), scores.repeat(batch)),
        ("class".to_string(), vec![class; batch]),
    ];
    assert_eq!(clear::evaluate(&program, &inputs).unwrap(), want, "cleartext, {suffix}");
    // One item with every call checked against its definition, and with real transfers; several for the layout.
    assert_eq!(Machine::new(&program, 7, batch == 1).run(&inputs).unwrap(), want, "two parties, {suffix}");
    if batch == 1 {
        let [_, (got, _)] = pair::run(&Plan::new(program, profile), "iknp", &inputs).unwrap();
        assert_eq!(got, want.into_iter().collect(), "real transfers, {suffix}");
    }
}

#[test]
fn google30_rounding_down() {
    for fuse in [false, true] {
        for (batch, profile) in (1..).zip(profiles()) {
            google30_is_exact(Rounding::Floor, "floor", batch, fuse, profile);
        }
        google30_is_exact(Rounding::Floor, "floor", 1, fuse, profiles()[1]);
    }
}

#[test]
fn google30_toward_zero() {
    for fuse in [false, true] {
        for (batch, profile) in (1..).zip(profiles()) {
            google30_is_exact(Rounding::TowardZero, "div", batch, fuse, profile);
        }
        google30_is_exact(Rounding::TowardZero, "div", 1, fuse, profiles()[1]);
    }
}

/// The plan of fewest rounds.
fn plan(d: &Description, batch: usize, fuse: bool) -> Plan {
    let [_, profile] = profiles();
    Plan::new(build_with(d, batch, profile, Extra { fuse, ..Extra::default() }).unwrap(), profile)
}

/// Rounds of one time step and of all, with the state known to fit, as the trained weights prove.
fn rounds(text: &str, rounding: Rounding) -> [usize; 2] {
    let mut d = Description { rounding, ..Description::parse(text).unwrap() };
    d.layer[0].state.fits = Some(true);
    let plan = plan(&d, 1, true);
    let path: usize = plan.critical_path(1).iter().map(|s| s.rounds).sum();
    assert_eq!(path, plan.blocks[1].interval, "the critical path is the cycle through the state");
    [plan.blocks[1].interval, plan.rounds()]
}

#[test]
fn google30_takes_few_rounds() {
    let [step, all] = rounds(GOOGLE30, Rounding::Floor);
    assert!(step <= 8 && all <= 820, "{step} {all}");
    let [step, all] = rounds(GOOGLE30_COLLAPSED, Rounding::Floor);
    assert!(step <= 6 && all <= 620, "{step} {all}");
}

fn digits() -> (PathBuf, Model) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    let model = Model::load(&directory).unwrap();
    (directory, model)
}

/// The integers of an array of 32-bit integers in NumPy's format.
fn npy_i32(path: PathBuf) -> Vec<i128> {
    let bytes = std::fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    bytes[10 + header..].chunks(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect()
}

#[test]
fn digits_are_exact() {
    let (directory, Model { description, weights }) = digits();
    let items = Items::load(&directory.join("inputs.npy"), &description).unwrap();
    let expected = npy_i32(directory.join("expected_scores.npy"));
    for (fuse, profile) in [false, true].into_iter().flat_map(|fuse| profiles().map(|profile| (fuse, profile))) {
        let extra = Extra { fuse, ..Extra::default() };
        // All in the clear, the last few by two parties with every call checked.
        for (range, shared) in [(0..items.len(), false), (items.len() - 5..items.len(), true)] {
            let program = build_with(&description, range.len(), profile, extra).unwrap();
            let mut inputs = weights.inputs(&description);
            inputs.extend(items.inputs(range.clone()));
            let want = clear::evaluate(&program, &inputs).unwrap();
            let mut results = Results::default();
            results.add(&description, &want).unwrap();
            assert_eq!(results.scores.concat(), expected[range.start * 10..range.end * 10]);
            if shared {
                assert_eq!(Machine::new(&program, 3, true).run(&inputs).unwrap(), want);
                let [_, (got, _)] = pair::run(&Plan::new(program, profile), "iknp", &inputs).unwrap();
                assert_eq!(got, want.into_iter().collect(), "real transfers");
            }
        }
    }
}

/// The format's definition once more, written down step by step and independent of the programs: scores and last state.
fn reference(d: &Description, tensors: &HashMap<String, Vec<i64>>, item: &[i64]) -> (Vec<i128>, Vec<i128>) {
    let tensor = |name: &str| tensors[name].iter().map(|&v| i128::from(v)).collect::<Vec<_>>();
    let r = |v: i128, shift: u32| match d.rounding {
        Rounding::Floor => v.div_euclid(1 << shift),
        Rounding::TowardZero => v / (1 << shift),
        Rounding::Nearest => (2 * v + (1 << shift)).div_euclid(2 << shift),
    };
    let product = |x: &[i128], w: &[i128]| -> Vec<i128> {
        let columns = w.len() / x.len();
        (0..columns).map(|j| x.iter().enumerate().map(|(i, x)| x * w[i * columns + j]).sum()).collect()
    };
    let chain = |factors: &[Factor], x: &[i128]| {
        factors.iter().fold(x.to_vec(), |x, f| {
            let sums = product(&x, &tensor(&f.tensor));
            sums.iter().map(|s| wrap(r(s.div_euclid(1 << f.floor), f.shift) << f.left, f.out, true)).collect()
        })
    };
    let run = |layer: &Layer, sequence: &[Vec<i128>]| -> Vec<Vec<i128>> {
        let (pre, state) = (&layer.pre, &layer.state);
        let (gate_bias, candidate_bias) = (tensor(&pre.gate_bias), tensor(&pre.candidate_bias));
        let (zeta, nu) = (tensor(&layer.zeta.tensor)[0], tensor(&layer.nu.tensor)[0]);
        let mut h = vec![0i128; layer.hidden as usize];
        let step = |x: &Vec<i128>| {
            let (a, b) = (chain(&layer.w, x), chain(&layer.u, &h));
            for j in 0..h.len() {
                let c = wrap(r(a[j], pre.shift_w) + r(b[j], pre.shift_u), pre.bits, true);
                let input = |bias: i128| wrap((c + bias) << pre.left, 16, true);
                let g = math::sigmoid(input(gate_bias[j]), 16, pre.scale as i32, layer.gate.scale);
                let candidate = math::tanh(input(candidate_bias[j]), 16, pre.scale as i32, layer.candidate.scale);
                let one = 1i128 << layer.gate.scale;
                let z = wrap(r(zeta * (one - g), layer.zeta.shift) + r(nu, layer.nu.shift), 16, true);
                let update = wrap(r(z * candidate, state.candidate_shift), 16, true);
                h[j] = wrap(r(g * h[j], state.gate_shift) + r(update, state.out_shift), state.bits, true);
            }
            h.clone()
        };
        sequence.iter().map(step).collect()
    };
    let features = d.features as usize;
    let mut sequence: Vec<Vec<i128>> = item.chunks(features).map(|x| x.iter().map(|&v| v.into()).collect()).collect();
    for layer in &d.layer {
        sequence = run(layer, &sequence);
    }
    let h = sequence.pop().unwrap();
    let (out, bias) = (&d.output, tensor(&d.output.bias.tensor));
    let sums = product(&h, &tensor(&out.tensor));
    let score = |(s, b): (&i128, &i128)| {
        wrap(r(s.div_euclid(1 << out.floor), out.shift) + r(*b, out.bias.shift), out.out, true)
    };
    (sums.iter().zip(&bias).map(score).collect(), h)
}

/// Everything that may vary in a layer.
#[derive(Clone, Debug)]
struct Variation {
    hidden: u32,
    /// Bits, floor, shift, left and out of two products; columns between them.
    w: [[u32; 5]; 2],
    u: [[u32; 5]; 2],
    rank: u32,
    double: [bool; 2],
    /// Bits, shift_w, shift_u, left, scale, bits of the biases.
    pre: [u32; 6],
    scales: [u32; 2],
    /// Shifts of zeta and nu.
    mix: [u32; 2],
    /// Bits and the three shifts.
    state: [u32; 4],
}

fn factor() -> impl Strategy<Value = [u32; 5]> {
    (2u32..=9, 0u32..=6, 0u32..=8, 0u32..=5, 1u32..=14).prop_map(|(bits, floor, shift, left, above)| {
        // At least as many bits as are left of the number.
        [bits, floor, shift, left, left + above.max(2)]
    })
}

fn variation() -> impl Strategy<Value = Variation> {
    let chains = ([factor(), factor()], [factor(), factor()], 1u32..=4, any::<[bool; 2]>());
    let pre = (2u32..=18, 0u32..=6, 0u32..=6, 0u32..=14, 0u32..=16, 2u32..=12);
    let state = (2u32..=18, 0u32..=16, 0u32..=16, 0u32..=4);
    (1u32..=4, chains, pre, [2u32..=14, 2u32..=14], [0u32..=16, 0u32..=16], state).prop_map(
        |(hidden, (w, u, rank, double), pre, scales, mix, state)| Variation {
            hidden,
            w,
            u,
            rank,
            double,
            pre: pre.into(),
            scales,
            mix,
            state: state.into(),
        },
    )
}

fn description(layers: &[Variation], zero: bool, output: [u32; 4]) -> Description {
    use std::fmt::Write;
    let rounding = if zero { "toward-zero" } else { "floor" };
    let mut text = format!(
        "format = 1\nname = \"random\"\nsteps = 3\nfeatures = 3\nrounding = \"{rounding}\"\n\
         labels = [\"a\", \"b\", \"c\"]\nreveal = \"scores\"\ninput = {{ bits = 6, scale = 0 }}\n"
    );
    for (i, v) in layers.iter().enumerate() {
        let chain = |letter: &str, factors: &[[u32; 5]; 2], double: bool| {
            let one = |j: usize, columns: &str| {
                let [bits, floor, shift, left, out] = factors[j];
                format!(
                    "{{ tensor = \"{letter}{j}{i}\", bits = {bits}, floor = {floor}, shift = {shift}, \
                     left = {left}, out = {out}{columns} }}"
                )
            };
            let columns = format!(", columns = {}", v.rank);
            if double { format!("[{}, {}]", one(0, &columns), one(1, "")) } else { format!("[{}]", one(0, "")) }
        };
        let (w, u) = (chain("w", &v.w, v.double[0]), chain("u", &v.u, v.double[1]));
        let ([bits, shift_w, shift_u, left, scale, bias_bits], [gate, candidate]) = (v.pre, v.scales);
        let ([zeta, nu], [state, gate_shift, candidate_shift, out_shift]) = (v.mix, v.state);
        writeln!(
            text,
            "[[layer]]\ntype = \"fastgrnn\"\nhidden = {}\nw = {w}\nu = {u}\npre = {{ bits = {bits}, shift_w = {shift_w}, \
             shift_u = {shift_u}, left = {left}, scale = {scale}, bias_bits = {bias_bits}, gate_bias = \"g{i}\", \
             candidate_bias = \"c{i}\" }}\ngate = {{ scale = {gate} }}\ncandidate = {{ scale = {candidate} }}\n\
             zeta = {{ tensor = \"z{i}\", bits = 16, shift = {zeta} }}\nnu = {{ tensor = \"n{i}\", bits = 16, shift = {nu} }}\n\
             state = {{ bits = {state}, scale = 0, gate_shift = {gate_shift}, candidate_shift = {candidate_shift}, \
             out_shift = {out_shift} }}",
            v.hidden
        )
        .unwrap();
    }
    let [bits, floor, shift, out] = output;
    write!(
        text,
        "[output]\ntensor = \"FC\"\nbits = {bits}\nfloor = {floor}\nshift = {shift}\nout = {out}\nscale = 0\n\
         bias = {{ tensor = \"b\", bits = 9, shift = 1 }}\n"
    )
    .unwrap();
    Description::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Weights and items from a stream of random numbers: mostly anything, sometimes the ends of the range.
fn random(seed: u64) -> impl FnMut(i128, i128) -> i64 {
    let mut state = seed;
    move |lo, hi| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let v = state >> 33;
        (match v % 8 {
            0 => lo,
            1 => hi,
            _ => lo + i128::from(v / 8) % (hi - lo + 1),
        }) as i64
    }
}

/// Random weights for a description, which they complete, and random items; with what the definition makes of them, one after
/// the other.
struct Case {
    inputs: HashMap<String, Vec<i128>>,
    scores: Vec<i128>,
    hidden: Vec<i128>,
}

fn case(d: &mut Description, batch: usize, seed: u64) -> Case {
    let mut random = random(seed);
    let signed = |bits: u32| (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1);
    let mut arrays = HashMap::new();
    for (name, t) in d.tensors().unwrap() {
        let n = t.shape.iter().map(|n| n.unwrap() as usize).product();
        let (lo, hi) = signed(t.bits);
        arrays.insert(name.to_string(), (0..n).map(|_| random(lo, hi)).collect::<Vec<_>>());
    }
    for layer in &d.layer {
        let nu = random(0, layer.max_nu() << layer.nu.shift.min(15)).min(32767);
        let room = 32767 - (i128::from(nu) >> layer.nu.shift);
        let zeta = random(0, layer.max_zeta().min(((room << layer.zeta.shift) >> layer.gate.scale).min(32767)));
        arrays.insert(layer.zeta.tensor.clone(), vec![zeta]);
        arrays.insert(layer.nu.tensor.clone(), vec![nu]);
    }
    let weights = Weights::from_arrays(d, arrays.clone()).unwrap();
    let items: Vec<i64> = (0..batch * d.item_len()).map(|_| random(-32, 31)).collect();
    let expected: Vec<_> = items.chunks(d.item_len()).map(|item| reference(d, &arrays, item)).collect();
    let mut inputs = weights.inputs(d);
    inputs.extend(Items::from_integers(&items, d).unwrap().inputs(0..batch));
    Case {
        inputs,
        scores: expected.iter().flat_map(|e| e.0.clone()).collect(),
        hidden: expected.iter().flat_map(|e| e.1.clone()).collect(),
    }
}

fn networks_agree(layers: &[Variation], zero: bool, output: [u32; 4], seed: u64) -> Result<(), TestCaseError> {
    let mut d = description(layers, zero, output);
    let batch = 3;
    let Case { inputs, scores, hidden } = case(&mut d, batch, seed);
    for (fuse, profile) in [false, true].into_iter().flat_map(|fuse| profiles().map(|profile| (fuse, profile))) {
        let program = match build_with(&d, batch, profile, Extra { hidden: true, fuse }) {
            Ok(program) => program,
            Err(e) => {
                // Shifts may add up to more than 64 bits.
                prop_assert!(e.to_string().contains(" bits"), "{e}");
                return Ok(());
            }
        };
        let clear = clear::evaluate(&program, &inputs).unwrap();
        prop_assert_eq!(&clear[0].1, &hidden, "{}", fuse);
        prop_assert_eq!(&clear[1].1, &scores);
        let shared = Machine::new(&program, seed.into(), true).run(&inputs);
        prop_assert_eq!(shared.map_err(TestCaseError::fail)?, clear);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_network_is_exact(
        layers in prop::collection::vec(variation(), 1..=2), zero in any::<bool>(), floor in 0u32..8, shift in 0u32..10,
        out in 2u32..20, bits in 2u32..9, seed in any::<u64>(),
    ) {
        networks_agree(&layers, zero, [bits, floor, shift, out], seed)?;
    }
}

/// A network with random weights: the definition's scores and states in clear and between two parties, on `batch` items.
fn is_exact(d: &Description, batch: usize, fuse: bool, real: bool) {
    let mut d = d.clone();
    // Random weights prove nothing about the state.
    d.layer.iter_mut().for_each(|layer| layer.state.fits = None);
    let Case { inputs, scores, hidden } = case(&mut d, batch, 5);
    let [_, profile] = profiles();
    let program = build_with(&d, batch, profile, Extra { hidden: true, fuse }).unwrap();
    let clear = clear::evaluate(&program, &inputs).unwrap();
    assert_eq!(clear[0].1, hidden);
    match d.reveal {
        Reveal::Scores => assert_eq!(clear[1].1, scores),
        Reveal::Class => assert_eq!(clear[1].1, scores.chunks(d.labels.len()).map(first_maximum).collect::<Vec<_>>()),
    }
    assert_eq!(Machine::new(&program, 5, true).run(&inputs).unwrap(), clear);
    if real {
        let [_, (got, _)] = pair::run(&Plan::new(program, profile), "iknp", &inputs).unwrap();
        assert_eq!(got, clear.into_iter().collect());
    }
}

fn first_maximum(scores: &[i128]) -> i128 {
    let best = scores.iter().max().unwrap();
    scores.iter().position(|s| s == best).unwrap() as i128
}

#[test]
fn collapsed_google30_is_exact() {
    let d = Description::parse(GOOGLE30_COLLAPSED).unwrap();
    is_exact(&d, 1, true, true);
    is_exact(&d, 2, true, false);
}

#[test]
fn industrial72_op_by_op() {
    let d = Description::parse(include_str!("../examples/industrial72.toml")).unwrap();
    for batch in [1, 128] {
        for profile in profiles() {
            let rounds = Plan::new(build(&d, batch, profile).unwrap(), profile).rounds();
            assert!(rounds <= 700, "{batch}: {rounds}");
        }
    }
    is_exact(&d, 1, false, true);
    is_exact(&d, 2, false, false);
}

#[test]
fn stacked_layers_are_a_wavefront() {
    let one = digits().1.description;
    let mut two = one.clone();
    let mut upper = one.layer[0].clone();
    // The same cell on the states below, with tensors of its own.
    for factor in upper.w.iter_mut().chain(&mut upper.u) {
        factor.tensor.insert_str(0, "upper");
    }
    for name in [&mut upper.pre.gate_bias, &mut upper.pre.candidate_bias, &mut upper.zeta.tensor, &mut upper.nu.tensor]
    {
        name.insert_str(0, "upper");
    }
    two.layer.push(upper);
    for fuse in [true, false] {
        let (a, b) = (plan(&one, 1, fuse), plan(&two, 1, fuse));
        let (one, two, steps) = (&a.blocks[1], &b.blocks[1], one.steps as usize);
        assert_eq!(one.interval, two.interval, "both layers run in the same rounds");
        assert!(two.rounds(steps) <= (steps + 1) * one.length, "{} {}", two.rounds(steps), one.length);
    }
    is_exact(&two, 1, true, true);
    is_exact(&two, 2, false, false);
}

#[test]
fn the_class_alone_hides_the_scores() {
    let (directory, Model { mut description, weights }) = digits();
    let items = Items::load(&directory.join("inputs.npy"), &description).unwrap();
    let mut inputs = weights.inputs(&description);
    inputs.extend(items.inputs(0..2));
    let with = clear::evaluate(&build(&description, 2, Profile::default()).unwrap(), &inputs).unwrap();
    description.reveal = sirnn::model::Reveal::Class;
    let program = build(&description, 2, Profile::default()).unwrap();
    let without = Machine::new(&program, 1, true).run(&inputs).unwrap();
    assert_eq!(with.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["scores", "class"]);
    assert_eq!(without, with[1..]);
}
