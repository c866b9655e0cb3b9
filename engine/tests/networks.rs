//! Whole networks: what two parties compute, on the ideal machine with every call checked and over real transfers, is bit for bit what
//! the cleartext evaluator says, and that is the reference data.

use sirnn::compile::{Options, Request, compile};
use sirnn::fixed::wrap;
use sirnn::graph::{Reveal, Tensor, Weights};
use sirnn::model::input::Sources;
use sirnn::model::{Description, Items, Model, Results, weights};
use sirnn::plan::Plan;
use sirnn::program::{Goal, LinearForms, Profile};
use sirnn::run::{ideal::Machine, pair};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const GOOGLE30: &str = include_str!("../examples/google30.toml");
const GOOGLE30_COLLAPSED: &str = include_str!("../examples/google30_collapsed.toml");
const INDUSTRIAL72: &str = include_str!("../examples/industrial72.toml");
const GUIDE: &str = include_str!("../../docs/models.md");
/// The final state of a FastGRNN.
const STATE: &str = "rnn.last";

/// The folder of reference data that the project does not ship.
fn data() -> Option<PathBuf> {
    let root = std::env::var_os("SIRNN_DATA");
    if root.is_none() {
        eprintln!("skipped: SIRNN_DATA does not name the folder of reference data");
    }
    root.map(PathBuf::from)
}

/// The forms of fewest bytes, and of fewest rounds.
fn profiles() -> [Profile; 2] {
    [Goal::Bytes, Goal::Rounds].map(|goal| Profile { goal, ..Profile::default() })
}

/// Which parties compute.
#[derive(Clone, Copy, PartialEq)]
enum Parties {
    /// On the ideal machine, with every call checked against its definition.
    Ideal,
    /// There, and over real transfers.
    Real,
}

/// Two parties compute items; returns their outputs by name.
fn outputs(
    model: &Model,
    items: &Items,
    profile: Profile,
    options: &Options,
    parties: Parties,
) -> BTreeMap<String, Vec<i128>> {
    let lengths = items.lengths().map(<[usize]>::to_vec);
    let request = Request { items: items.len(), steps: items.steps(), lengths };
    let compiled = compile(&model.description.graph, &request, profile, options).unwrap();
    let mut inputs = compiled.server_inputs(&model.weights);
    inputs.extend(items.inputs(0..items.len()));
    let want: BTreeMap<_, _> = Machine::new(&compiled.program, 7, true).run(&inputs).unwrap().into_iter().collect();
    if parties == Parties::Real {
        let [_, (got, _)] = pair::run(&Plan::new(compiled.program, profile), "iknp", &inputs).unwrap();
        assert_eq!(got, want, "real transfers");
    }
    want
}

/// Two parties compute what the evaluator says.
fn is_exact(model: &Model, items: &Items, parties: Parties) {
    let d = &model.description;
    let want = Results::evaluate(d, &model.weights, items).unwrap();
    let lengths: Vec<usize> = (0..items.len()).map(|i| items.length(i)).collect();
    for (tables, profile) in [false, true].into_iter().flat_map(|t| profiles().map(|p| (t, p))) {
        let options = Options { tables, watch: Vec::new() };
        let mut got = Results::new(d, items.steps()).unwrap();
        got.add(&lengths, &outputs(model, items, profile, &options, parties)).unwrap();
        assert_eq!(got, want, "{}, tables {tables}, {:?}", d.name, profile.goal);
    }
}

/// Numbers from a stream: mostly anything, sometimes the ends of the range.
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

/// A model with random weights, and random items.
fn case(text: &str, steps: usize, n: usize, seed: u64) -> (Model, Items) {
    let d = Description::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut next = random(seed);
    let typed = d.typed(steps).unwrap();
    let mut tensor = |(lo, hi): (i128, i128), shape: &[usize]| {
        Tensor::new(shape.to_vec(), (0..shape.iter().product()).map(|_| next(lo, hi)).collect())
    };
    let weights: Weights = typed.parameters.iter().map(|(name, p)| (name.clone(), tensor(p.range, &p.shape))).collect();
    let inputs: Vec<Vec<i64>> = typed.values[..d.graph.inputs.len()]
        .iter()
        .map(|v| tensor(v.ty.number.range(), &[n * v.ty.len()]).data)
        .collect();
    let items = Items::from_integers(&d, steps, &inputs, None).unwrap();
    drop(typed);
    let bare = Description { graph: sirnn::graph::Graph { fits: Vec::new(), ..d.graph.clone() }, ..d };
    (Model::new(bare, weights).unwrap(), items)
}

fn bytes(root: &Path, name: &str) -> Vec<i64> {
    std::fs::read(root.join("google30").join(name)).unwrap().into_iter().map(|b| i64::from(b as i8)).collect()
}

/// The trained network.
fn google30(root: &Path, rounding: &str) -> Model {
    let text = GOOGLE30.replace("rounding = \"floor\"", &format!("rounding = \"{rounding}\""));
    let description = Description::parse(&text).unwrap();
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
    let weights = weights::from_arrays(&description, arrays).unwrap();
    Model::new(description, weights).unwrap()
}

fn google30_is_exact(rounding: &str, suffix: &str) {
    let Some(root) = data() else { return };
    let model = google30(&root, rounding);
    let item = bytes(&root, "input_i8_99x32.bin");
    let scores = bytes(&root, &format!("scores_sirnn_{suffix}_i8_30.bin"));
    let hidden: Vec<i128> = std::fs::read(root.join(format!("google30/hidden_final_{suffix}_i16_100.bin")))
        .unwrap()
        .chunks(2)
        .map(|b| i16::from_le_bytes([b[0], b[1]]).into())
        .collect();
    let [by_bytes, by_rounds] = profiles();
    // One item with real transfers; several, which are all the same utterance, for the layout.
    for (batch, tables, profile, parties) in [
        (1, false, by_bytes, Parties::Ideal),
        (1, true, by_rounds, Parties::Real),
        (1, true, Profile { linear: LinearForms::Rlwe, ..by_bytes }, Parties::Real),
        (2, false, by_rounds, Parties::Ideal),
        (2, true, by_bytes, Parties::Ideal),
    ] {
        let items = Items::from_integers(&model.description, 99, &[item.repeat(batch)], None).unwrap();
        let clear = Results::evaluate(&model.description, &model.weights, &items).unwrap();
        assert_eq!(clear.rows(), vec![scores.clone(); batch], "the evaluator, {suffix}");
        let options = Options { tables, watch: vec![STATE.into()] };
        let outputs = outputs(&model, &items, profile, &options, parties);
        let mut got = Results::new(&model.description, 99).unwrap();
        got.add(&vec![99; batch], &outputs).unwrap();
        assert_eq!(got, clear, "two parties, {suffix}");
        let state: Vec<i128> = outputs[STATE].iter().map(|&v| wrap(v, 16, true)).collect();
        assert_eq!(state, hidden.repeat(batch), "the final state, {suffix}");
    }
}

#[test]
fn google30_rounding_down() {
    google30_is_exact("floor", "floor");
}

#[test]
fn google30_toward_zero() {
    google30_is_exact("zero", "div");
}

/// The plan of fewest rounds for one item.
fn plan(d: &Description, tables: bool) -> Plan {
    let [_, profile] = profiles();
    let request = Request { items: 1, steps: d.graph.steps, lengths: None };
    let options = Options { tables, watch: Vec::new() };
    Plan::new(compile(&d.graph, &request, profile, &options).unwrap().program, profile)
}

#[test]
fn google30_takes_few_rounds() {
    let Some(root) = data() else { return };
    let plan = plan(&google30(&root, "floor").description, true);
    assert!(plan.rounds() <= 820, "{}", plan.rounds());
}

/// Products of the recurrence from ring-LWE take the bytes that `docs/linear.md` says, and a plan says how they are made.
#[test]
fn google30_products_take_few_bytes() {
    let d = Description::parse(GOOGLE30).unwrap();
    for (items, most) in [(1, 1.7e6), (16, 0.4e6)] {
        let [auto, cot] = [LinearForms::Auto, LinearForms::Cot].map(|linear| {
            let profile = Profile { linear, ..Profile::default() };
            let request = Request { items, steps: d.graph.steps, lengths: None };
            let options = Options { tables: true, watch: Vec::new() };
            Plan::new(compile(&d.graph, &request, profile, &options).unwrap().program, profile)
        });
        let made: Vec<_> = auto.linear.iter().filter(|task| task.form.is_some()).collect();
        let bytes = made.iter().map(|t| t.offline_cost().1 + t.offline_cost().2).sum::<u64>() + auto.key_bytes();
        assert!(made.len() >= 4 && (bytes as f64) < most * items as f64, "{} matrices, {bytes} bytes", made.len());
        assert!(auto.values() >= (99 * 251 * items) as u64);
        assert!(cot.linear.iter().all(|task| task.form.is_none()) && cot.values() == 0 && cot.key_bytes() == 0);
        assert_ne!(auto.digest, cot.digest);
    }
}

#[test]
fn collapsed_google30_takes_few_rounds() {
    // Its file says what the weights prove.
    let plan = plan(&Description::parse(GOOGLE30_COLLAPSED).unwrap(), true);
    assert!(plan.rounds() <= 620, "{}", plan.rounds());
}

#[test]
fn collapsed_google30_is_exact() {
    let text = GOOGLE30_COLLAPSED.replace("fits = [\"rnn/h_next\"]\n", "");
    let (model, items) = case(&text, 6, 2, 3);
    is_exact(&model, &items, Parties::Real);
}

#[test]
fn industrial72_op_by_op() {
    let (model, items) = case(INDUSTRIAL72, 7, 1, 4);
    is_exact(&model, &items, Parties::Ideal);
    let rounds = plan(&Description::parse(INDUSTRIAL72).unwrap(), false).rounds();
    assert!(rounds <= 700, "{rounds}");
}

/// The models that the guide writes out: a FastGRNN, an LSTM, a convolutional network with an RNN.
#[test]
fn the_guide_s_models_are_exact() {
    let blocks = GUIDE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let models: Vec<&str> = blocks.filter(|text| text.starts_with("format = ")).collect();
    assert_eq!(models.len(), 3);
    for (text, steps) in models.into_iter().zip([3, 3, 0]) {
        let (model, items) = case(text, steps, 2, 5);
        is_exact(&model, &items, Parties::Ideal);
    }
}

fn digits() -> (PathBuf, Model) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    let model = Model::load(&directory).unwrap();
    (directory, model)
}

#[test]
fn digits_are_exact() {
    let (directory, model) = digits();
    let items = Items::load(&Sources::one(&directory.join("inputs.npy")), &model.description).unwrap();
    is_exact(&model, &items.first(5), Parties::Real);
}

/// The first digits, of which some end early.
fn short_digits(d: &Description, directory: &Path) -> Items {
    let items = Items::load(&Sources::one(&directory.join("inputs.npy")), d).unwrap().first(4);
    let values = items.inputs(0..4).remove("x").unwrap().into_iter().map(|v| v as i64).collect();
    Items::from_integers(d, 8, &[values], Some(vec![8, 3, 1, 6])).unwrap()
}

#[test]
fn items_end_at_their_own_length() {
    let (directory, mut model) = digits();
    is_exact(&model, &short_digits(&model.description, &directory), Parties::Real);
    // The same read from the end, and at every step.
    let text = std::fs::read_to_string(directory.join("model.toml")).unwrap();
    let text = text
        .replace("op = \"scan\"\n", "op = \"scan\"\nreverse = true\n")
        .replace("steps = \"last\"", "steps = \"every\"");
    model.description = Description::parse(&text).unwrap();
    is_exact(&model, &short_digits(&model.description, &directory), Parties::Ideal);
}

#[test]
fn the_class_alone_hides_the_scores() {
    let (directory, mut model) = digits();
    let items = Items::load(&Sources::one(&directory.join("inputs.npy")), &model.description).unwrap().first(2);
    let with = outputs(&model, &items, Profile::default(), &Options::default(), Parties::Ideal);
    model.description.graph.outputs[0].reveal = Reveal::Class;
    let without = outputs(&model, &items, Profile::default(), &Options::default(), Parties::Ideal);
    assert_eq!(with.keys().collect::<Vec<_>>(), ["scores", "scores.class"]);
    assert_eq!(without, BTreeMap::from([("scores.class".to_string(), with["scores.class"].clone())]));
}
