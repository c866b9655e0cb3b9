//! Descriptions, weights and files, right and wrong; the shipped model and the documented ones in the clear.

use super::description::FILE;
use super::input::Sources;
use super::*;
use crate::compile::{Options, Request, compile};
use crate::graph::{Tensor, Weights};
use crate::program::Profile;
use proptest::prelude::*;
use safetensors::{Dtype, serialize, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn digits_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/digits")
}

fn digits_text() -> String {
    std::fs::read_to_string(digits_directory().join(FILE)).unwrap()
}

const GOOGLE30: &str = include_str!("../../examples/google30.toml");
const COLLAPSED: &str = include_str!("../../examples/google30_collapsed.toml");
const INDUSTRIAL72: &str = include_str!("../../examples/industrial72.toml");
const GUIDE: &str = include_str!("../../../docs/models.md");

/// The models that the guide writes out in full.
fn documented() -> Vec<&'static str> {
    let blocks = GUIDE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.filter(|text| text.starts_with("format = ")).collect()
}

#[test]
fn descriptions_survive_their_text() {
    let digits = digits_text();
    let all = [digits.as_str(), GOOGLE30, COLLAPSED, INDUSTRIAL72].into_iter().chain(documented());
    for text in all {
        let d = Description::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let again = d.to_toml();
        assert_eq!(Description::from_bytes(again.as_bytes()), Ok(d), "{again}");
        // Nothing is written down more often than in a text that was written by hand.
        assert!(again.len() <= text.len() + 200, "{again}");
    }
}

#[test]
fn the_guide_shows_the_shipped_model() {
    let models = documented();
    assert_eq!(models.len(), 3);
    assert_eq!(Description::parse(models[0]).unwrap(), Description::parse(&digits_text()).unwrap());
}

/// Weights of small numbers.
fn some_weights(d: &Description) -> Weights {
    let typed = d.typed(d.graph.steps).unwrap();
    let value = |i: usize, (lo, hi): (i128, i128)| (lo.max(-9) + (i as i128 * 7) % 19).clamp(lo, hi) as i64;
    let tensor = |(name, spec): (&String, &crate::graph::ops::ParameterSpec)| {
        let n = spec.shape.iter().product();
        (name.clone(), Tensor::new(spec.shape.clone(), (0..n).map(|i| value(i, spec.range)).collect()))
    };
    typed.parameters.iter().map(tensor).collect()
}

#[test]
fn the_guide_s_models_compute() {
    for text in documented() {
        let d = Description::parse(text).unwrap();
        let model = Model::new(d, some_weights(&Description::parse(text).unwrap())).unwrap();
        let d = &model.description;
        let steps = d.graph.steps.min(3);
        let inputs: Vec<Vec<i64>> = d
            .typed(steps)
            .unwrap()
            .values
            .iter()
            .take(d.graph.inputs.len())
            .map(|v| (0..2 * v.ty.len()).map(|i| i as i64 * 37 % 100 - 50).collect())
            .collect();
        let items = Items::from_integers(d, steps, &inputs, None).unwrap();
        let results = Results::evaluate(d, &model.weights, &items).unwrap();
        for output in &results.outputs {
            assert_eq!(output.values.len().max(output.classes.len()), 2, "{}", output.name);
        }
    }
}

#[test]
fn digits_are_what_they_were() {
    let Model { description, weights } = Model::load(&digits_directory()).unwrap();
    let items = Items::load(&Sources::one(&digits_directory().join("inputs.npy")), &description).unwrap();
    let results = Results::evaluate(&description, &weights, &items).unwrap();
    let bytes = std::fs::read(digits_directory().join("expected_scores.npy")).unwrap();
    let expected: Vec<i64> = npy::Npy::parse(&bytes)
        .unwrap()
        .values()
        .map(|v| if let npy::Value::Whole(v) = v { v } else { panic!("integers") })
        .collect();
    assert_eq!(results.rows().concat(), expected);
}

#[test]
fn wrong_descriptions_are_named() {
    let text = digits_text();
    let cases = [
        ("format = 2", "format = 1", "format: 1, this program reads 2"),
        ("format = 2\n", "", "format: missing"),
        ("steps = 8", "steps = 0", "steps: missing"),
        ("steps = 8", "steps = 100000000", "steps: "),
        ("steps = 8", "steps = -1", "line 6: "),
        ("steps = 8", "stops = 8", "line 6: unknown field"),
        ("steps = 8", "steps = = 8", "line 6: "),
        ("shape = [\"steps\", 8]", "shape = [8, \"steps\"]", "input 'x': only the first axis"),
        ("shape = [\"steps\", 8]", "shape = [\"stops\", 8]", "input 'x': a shape is a list of sizes"),
        ("shape = [\"steps\", 8]", "shape = [\"steps\", 99999999]", "input 'x': the shape"),
        ("shape = [\"steps\", 8]", "shape = [\"steps\", 0]", "input 'x': the shape"),
        ("8]\nbits = 8\n", "8]\nbits = 99\n", "input 'x': 99 bits"),
        ("8]\nbits = 8\n", "8]\n", "input 'x': missing field"),
        ("name = \"digits\"", "name = \"a\\u0007\"", "name: a name with control characters"),
        ("rounding = \"floor\"", "rounding = \"up\"", "line 7: unknown variant"),
        ("op = \"tanh\"", "op = \"lstm\"", "node 'rnn': node 't': no operation 'lstm'"),
        ("op = \"scan\"", "op = \"loop\"", "node 'rnn': no operation 'loop'"),
        ("in = \"h\"", "in = \"h_next\"", "node 'rnn/b': no value 'h_next' before this node"),
        ("in = \"h\"", "in = 7", "node 'rnn': node 'b': 'in' is a list of names"),
        ("in = \"rnn.last\"", "in = \"rnn.first\"", "node 'products': no value 'rnn.first'"),
        ("in = \"rnn.last\"", "in = \"logits\"", "node 'products': no value 'logits' before this node"),
        ("name = \"logits\"", "name = \"products\"", "node 'products': the name 'products' is used twice"),
        ("tensor = \"FCbias\", bits = 16", "tensor = \"FCbias\", bits = 300", "node 'logits': a tensor of 300 bits"),
        ("columns = 10", "columns = 0", "node 'products': "),
        ("columns = 10", "columns = 100000000", "node 'products': "),
        ("columns = 10\n", "", "node 'products': missing field `columns`"),
        ("columns = 10\n", "columns = 10\nrows = 3\n", "node 'products': unknown field `rows`"),
        ("columns = 10", "columns = 11", "output 'scores': 10 labels for 11 classes"),
        ("rescale = 7", "rescale = 64", "node 'products': rescale.shift: not a number of bits"),
        ("rescale = 7", "rescale = -1", "node 'products': rescale.shift: not a number of bits"),
        ("rescale = 7", "rescale = [7, 7]", "node 'products': 2 shifts for 10 channels"),
        ("rescale = 7", "rescale = { floor = 60, shift = 7 }", "node 'products': a shift by 67"),
        ("rescale = 7", "rescale = { shoft = 7 }", "node 'products': unknown field `shoft`"),
        ("rescale = 7", "rescale = \"seven\"", "node 'products': rescale: a shift, a list of shifts"),
        ("weights = \"FC\"", "weights = { tensor = \"FC\", bits = 33 }", "node 'products': a tensor of 33 bits"),
        ("weights = \"FC\"", "weights = \"W\"", "node 'products': tensor 'W' is used with different shapes"),
        ("next = \"h_next\"", "next = \"t\"", "node 'rnn': state 'h' is"),
        ("next = \"h_next\"", "next = \"nothing\"", "node 'rnn': no value 'nothing' in the body"),
        ("scale = 13 }]", "scale = 12 }]", "node 'rnn': state 'h' is"),
        ("steps = \"last\"", "steps = \"first\"", "node 'rnn': unknown variant `first`"),
        ("slices = [\"a\"]", "slices = [\"a\", \"b\"]", "node 'rnn': 2 names in 'slices' for 1 operands"),
        ("value = \"logits\"", "value = \"logit\"", "output 'scores': no value 'logit'"),
        ("reveal = \"scores\"", "reveal = \"everything\"", "output 'scores': unknown variant `everything`"),
        ("[[output]]", "[output]", "line "),
        ("[default]", "[defaults]", "line "),
        ("steps = 8\n", "steps = 8\nfits = [\"rnn/nothing\"]\n", "fits: no value 'rnn/nothing'"),
    ];
    for (from, to, want) in cases {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text, "{from}");
        let e = Description::parse(&broken).expect_err(to).to_string();
        assert!(e.contains(want) && !e.contains('\n'), "{to}: {e}");
    }
    let (before, state) = text.split_once("states = [").unwrap();
    let stateless = format!("{before}states = []{}", state.split_once(']').unwrap().1.split_once(']').unwrap().1);
    let e = Description::parse(&stateless).unwrap_err().to_string();
    assert!(e.contains("node 'rnn': a loop without state"), "{e}");
    let many = format!("{text}\n{}", "[[node]]\nname = \"n\"\nop = \"tanh\"\nin = \"x\"\n".repeat(5000));
    assert!(Description::parse(&many).unwrap_err().to_string().contains("node 'n': "));
    let nested = text.replace("  [[node.body]]\n", "").replace("[[node.body]]", "[[node.body.body]]");
    assert!(Description::parse(&nested).is_err());
    assert!(Description::parse(&" ".repeat(1 << 20)).unwrap_err().to_string().contains("bytes"));
    assert!(Description::from_bytes(&[0xff, 0xfe]).is_err());
}

#[test]
fn a_server_may_add_what_fits() {
    let mine = Description::parse(&digits_text()).unwrap();
    let mut theirs = mine.clone();
    theirs.graph.fits.push("rnn/h_next".into());
    assert!(mine.is_offered_as(&theirs) && !theirs.is_offered_as(&mine));
    theirs.graph.steps = 7;
    assert!(!mine.is_offered_as(&theirs));
}

/// Changes bytes, and cuts.
fn mutated(bytes: &[u8], changes: &[(usize, u8)], cut: Option<usize>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, to) in changes {
        let n = bytes.len();
        bytes[at % n] = *to;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut % bytes.len());
    }
    bytes
}

/// One number becomes another: texts that parse, with odd numbers.
fn renumbered(text: &str, changes: &[(usize, u32)]) -> String {
    let mut text = text.to_string();
    for &(at, to) in changes {
        let places: Vec<usize> = text.match_indices("= ").map(|(i, _)| i + 2).collect();
        let start = places[at % places.len()];
        let len = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        if len > 0 {
            text.replace_range(start..start + len, &to.to_string());
        }
    }
    text
}

/// Compiles what is small enough for it.
fn try_to_compile(d: &Description) {
    let typed = d.typed(d.graph.steps).unwrap();
    let most =
        typed.values.iter().map(|v| v.ty.len()).chain(typed.parameters.values().map(|p| p.shape.iter().product()));
    if d.graph.steps <= 128 && most.max().unwrap_or(0) <= 1 << 14 {
        for tables in [false, true] {
            let request = Request { items: 2, steps: d.graph.steps, lengths: None };
            let _ = compile(&d.graph, &request, Profile::default(), &Options { tables, watch: Vec::new() });
        }
    }
}

fn changes() -> impl Strategy<Value = (Vec<(usize, u8)>, Option<usize>)> {
    (prop::collection::vec((any::<usize>(), any::<u8>()), 1..4), prop::option::weighted(0.2, any::<usize>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_description_panics((changes, cut) in changes()) {
        let digits = digits_text();
        for text in [&digits, GOOGLE30].into_iter().chain(documented()) {
            if let Ok(d) = Description::from_bytes(&mutated(text.as_bytes(), &changes, cut)) {
                prop_assert_eq!(Description::parse(&d.to_toml()), Ok(d));
            }
        }
    }

    #[test]
    fn no_weights_panic((changes, cut) in changes()) {
        let bytes = std::fs::read(digits_directory().join(weights::FILE)).unwrap();
        // The header is what can be wrong.
        let changes: Vec<_> = changes.iter().map(|(at, to)| (at % 800, *to)).collect();
        let d = Description::parse(&digits_text()).unwrap();
        if let Ok(weights) = weights::parse(&mutated(&bytes, &changes, cut), &d) {
            let _ = Model::new(d, weights);
        }
    }

    #[test]
    fn no_items_panic((changes, cut) in changes()) {
        let bytes = std::fs::read(digits_directory().join("inputs.npy")).unwrap();
        let changes: Vec<_> = changes.iter().map(|(at, to)| (at % 200, *to)).collect();
        let d = Description::parse(&digits_text()).unwrap();
        let _ = Items::from_npy(&mutated(&bytes, &changes, cut), &d);
        let _ = Items::from_npy(&mutated(&bytes[..500], &changes, cut), &d);
    }

    #[test]
    fn no_table_panics(text in "[0-9a-f.,\n -]{0,300}") {
        let _ = Items::from_csv(&text, &tiny());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_numbers_panic(changes in prop::collection::vec((any::<usize>(), 0u32..70), 1..5)) {
        let digits = digits_text();
        for text in [&digits, GOOGLE30] {
            if let Ok(d) = Description::parse(&renumbered(text, &changes)) {
                try_to_compile(&d);
            }
        }
    }
}

/// Up to two steps of two features.
fn tiny() -> Description {
    let text = digits_text().replace("steps = 8", "steps = 2").replace("[\"steps\", 8]", "[\"steps\", 2]");
    Description::parse(&text).unwrap()
}

#[test]
fn wrong_weights_are_named() {
    let d = Description::parse(&digits_text()).unwrap();
    let good = some_weights(&d);
    assert!(Model::new(d.clone(), good.clone()).is_ok());
    let refused = |name: &str, tensor: Option<(&[usize], i64)>, want: &str| {
        let mut weights = good.clone();
        match tensor {
            Some((shape, value)) => weights.insert(name.into(), Tensor::filled(shape.to_vec(), value)),
            None => weights.remove(name),
        };
        let e = Model::new(d.clone(), weights).unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
    };
    refused("W", None, "tensor 'W': missing");
    refused("W", Some((&[8, 31], 1)), "tensor 'W': shape [8, 31], [8, 32] is expected");
    refused("W", Some((&[8, 32], 128)), "tensor 'W': an element does not fit 8 bits");
    refused("extra", Some((&[1], 1)), "tensor 'extra' is not named");
    refused("zeta", Some((&[1], -1)), "tensor 'zeta': an element is not within the declared bounds 0 to 32767");
    let mut claims = d.clone();
    claims.graph.fits.push("rnn/b".into());
    let mut large = good.clone();
    large.extend(["zeta", "nu"].map(|name| (name.to_string(), Tensor::filled(vec![1], 32767))));
    large.insert("U".into(), Tensor::filled(vec![32, 32], 127));
    let e = Model::new(claims, large).unwrap_err().to_string();
    assert_eq!(e, "fits: 'rnn/b': the weights do not prove it");
}

#[test]
fn wrong_files_of_weights_are_named() {
    let d = Description::parse(GOOGLE30).unwrap();
    let mut data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, p) in d.typed(d.graph.steps).unwrap().parameters {
        let (dtype, size) = if p.bits <= 8 { (Dtype::I8, 1) } else { (Dtype::I16, 2) };
        let n = p.shape.iter().product::<usize>() * size;
        data.push((name, dtype, p.shape, vec![0u8; n]));
    }
    let file = |data: &[(String, Dtype, Vec<usize>, Vec<u8>)]| {
        let views = data.iter().map(|(n, d, s, b)| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
        serialize(views, None).unwrap()
    };
    assert!(weights::parse(&file(&data), &d).is_ok());
    let at = data.iter().position(|t| t.0 == "zeta").unwrap();
    data[at] = ("zeta".into(), Dtype::I8, vec![1], vec![1]);
    let e = weights::parse(&file(&data), &d).unwrap_err().to_string();
    assert_eq!(e, "tensor 'zeta': type I8, I16 is expected for 16 bits");
    data[at].0 = "zetta".into();
    assert_eq!(weights::parse(&file(&data), &d).unwrap_err().to_string(), "tensor 'zeta': missing");
}

#[test]
fn the_shipped_model_loads() {
    let model = Model::load(&digits_directory()).unwrap();
    let shown = format!("{model:?}");
    assert!(shown.contains("\"FC\": Tensor [32, 10]"), "{shown}");
    let e = Model::load(&digits_directory().join("nowhere")).unwrap_err().to_string();
    assert!(e.contains("model.toml: "), "{e}");
}

/// The numbers of the only input.
fn numbers(items: &Items, range: std::ops::Range<usize>) -> Vec<i128> {
    items.inputs(range).remove("x").unwrap()
}

#[test]
fn tables_of_items() {
    let d = tiny();
    let whole = Items::from_csv("1,2,3,4\n\n-5, 6,7,-128\n", &d).unwrap();
    assert_eq!((whole.len(), whole.steps(), numbers(&whole, 0..2)), (2, 2, vec![1, 2, 3, 4, -5, 6, 7, -128]));
    assert_eq!(numbers(&whole, 1..2), [-5, 6, 7, -128]);
    assert_eq!(numbers(&whole.first(1), 0..1), [1, 2, 3, 4]);
    // Scale 5: ties go to the even integer.
    let real = Items::from_csv("1,0.015625,0.046875,0.01\n-3.99,3.96875,3.9,-4", &d).unwrap();
    assert_eq!(numbers(&real, 0..2), [32, 0, 2, 0, -128, 127, 125, -128]);
    // All items shorter than the model allows.
    assert_eq!(Items::from_csv("1,2\n3,4", &d).unwrap().steps(), 1);
    for (text, want) in [
        ("1,2,3", "line 1: 3 numbers, 1 to 2 steps of 2 are expected"),
        ("1,2,3,4,5,6", "line 1: 6 numbers, 1 to 2 steps of 2 are expected"),
        ("1,2,3,4\n1,2,3,4,5", "line 2: 5 numbers"),
        ("1,2,3,4\n1,2", "line 2: 2 numbers, but line 1 has 4: say --lengths"),
        ("1,2,x,4", "line 1, number 3: \"x\" is no number"),
        ("1,2,3,4\n5,128,7,8", "item 1, step 0, feature 1: 128 does not fit 8 bits"),
        ("1,2,3.9,4", "item 0, step 1, feature 1: 4 does not fit 8 bits at scale 5"),
        ("1,2,3.5,nan", "item 0, step 1, feature 1: NaN is not a finite number"),
    ] {
        assert!(Items::from_csv(text, &d).unwrap_err().to_string().contains(want), "{text}");
    }
    assert_eq!(Items::from_integers(&d, 2, &[vec![1, 2, 3, 4]], None).unwrap().len(), 1);
    assert!(Items::from_integers(&d, 2, &[vec![1, 2, 3]], None).is_err());
}

fn npy_file(version: u8, descr: &str, shape: &str, order: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}   \n");
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    let len = header.len() as u32;
    bytes.extend(&len.to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn arrays_of_items() {
    let d = tiny();
    let wants = [-2, 0, 100, 127];
    let encode = |f: &dyn Fn(i64) -> Vec<u8>| wants.iter().flat_map(|&v| f(v)).collect::<Vec<u8>>();
    // -0.0625, 0, 3.125, 3.96875 in half precision.
    let halves: Vec<u8> = [0xac00u16, 0, 0x4240, 0x43f0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let arrays = [
        ("|i1", encode(&|v| vec![v as u8])),
        ("<i2", encode(&|v| (v as i16).to_le_bytes().into())),
        ("<i4", encode(&|v| (v as i32).to_le_bytes().into())),
        ("<i8", encode(&|v| v.to_le_bytes().into())),
        ("<f2", halves),
        ("<f4", encode(&|v| (v as f32 / 32.0).to_le_bytes().into())),
        ("<f8", encode(&|v| (v as f64 / 32.0).to_le_bytes().into())),
    ];
    for (descr, data) in &arrays {
        for version in 1..=3 {
            let items = Items::from_npy(&npy_file(version, descr, "(1, 2, 2)", "False", data), &d).unwrap();
            assert_eq!(numbers(&items, 0..1), wants.map(i128::from), "{descr}");
        }
    }
    let data = [5u8, 6, 7, 8];
    let items = Items::from_npy(&npy_file(1, "|u1", "(2, 1, 2)", "False", &data), &d).unwrap();
    assert_eq!((items.len(), items.steps(), numbers(&items, 0..2)), (2, 1, vec![5, 6, 7, 8]));
    for (bytes, want) in [
        (npy_file(1, "|u1", "(2, 2)", "False", &data), "shape [2, 2], [items, steps (1 to 2), 2] is expected"),
        (npy_file(1, "|u1", "(1, 4, 1)", "False", &data), "[items, steps (1 to 2), 2] is expected"),
        (npy_file(1, "|u1", "(1, 2, 2)", "True", &data), "Fortran order"),
        (npy_file(1, ">i2", "(1, 2, 2)", "False", &[0; 8]), "little endian"),
        (npy_file(1, "|u1", "(1, 2, 2)", "False", &[0; 5]), "5 bytes for shape [1, 2, 2]"),
        (npy_file(1, "|u1", "(18446744073709551615, 2, 2)", "False", &data), "npy data"),
        (npy_file(4, "|u1", "(1, 2, 2)", "False", &data), "unknown version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "its length is wrong"),
        (
            npy_file(1, "|u1", "(1, 2, 2)", "False", &[255, 0, 0, 0]),
            "item 0, step 0, feature 0: 255 does not fit 8 bits",
        ),
        (b"PK".to_vec(), "this is no .npy file"),
    ] {
        let e = Items::from_npy(&bytes, &d).unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
    }
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sirnn-model-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn items_of_different_length() {
    let d = tiny();
    let folder = folder("lengths");
    let [table, lengths] = ["items.csv", "lengths"].map(|name| folder.join(name));
    let sources = Sources { lengths: Some(lengths.clone()), ..Sources::one(&table) };
    let load = |items: &str, of: &str| {
        std::fs::write(&table, items).unwrap();
        std::fs::write(&lengths, of).unwrap();
        Items::load(&sources, &d)
    };
    // What stands behind an item's end is not read, even if it would not fit; it need not be there.
    for text in ["1,2,3,4\n5,6,999,-1000\n", "1,2,3,4\n5,6\n"] {
        let items = load(text, "2\n1\n").unwrap();
        assert_eq!((items.steps(), items.lengths()), (2, Some(&[2, 1][..])), "{text}");
        assert_eq!(numbers(&items, 0..2), [1, 2, 3, 4, 5, 6, 0, 0]);
        assert_eq!((items.item(1)[0].shape.clone(), items.item(1)[0].data.clone()), (vec![1, 2], vec![5, 6]));
    }
    // Equal lengths are none.
    let items = load("1,2,3,4\n5,6,7,8\n", "1\n1\n").unwrap();
    assert_eq!((items.steps(), items.lengths(), numbers(&items, 0..2)), (1, None, vec![1, 2, 5, 6]));
    for (of, want) in [
        ("2\n", "lengths: 1 lengths for 2 items"),
        ("2\n3\n", "lengths: item 1: 3, but the input has 2 steps"),
        ("2\n0\n", "lengths: item 1: 0"),
        ("2\nx\n", "line 2: \"x\" is no length"),
    ] {
        let e = load("1,2,3,4\n5,6,7,8\n", of).unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Two inputs, two outputs, one of them timed.
fn two() -> Description {
    let text = "format = 2\nname = \"two\"\nsteps = 3\n[default]\nbits = 8\n\
        [[input]]\nname = \"x\"\nshape = [\"steps\", 2]\nbits = 8\n[[input]]\nname = \"s\"\nshape = [2]\nbits = 8\n\
        [[node]]\nname = \"y\"\nop = \"add\"\nin = [\"x\", \"s\"]\n\
        [[output]]\nname = \"y\"\nreveal = \"scores\"\nlabels = [\"no\", \"yes\"]\n[[output]]\nname = \"../s\"\nvalue = \"s\"\nreveal = \"values\"\n";
    Description::parse(text).unwrap()
}

#[test]
fn several_inputs_and_outputs() {
    let d = two();
    let folder = folder("several");
    let name = |name: &str| folder.join(name).display().to_string();
    std::fs::write(folder.join("x.csv"), "1,2,3,4,5,6\n7,8,9,10,11,12\n").unwrap();
    std::fs::write(folder.join("s.csv"), "0,-10\n20,0\n").unwrap();
    std::fs::write(folder.join("lengths"), "3\n2\n").unwrap();
    let named = vec![format!("s={}", name("s.csv")), format!("x={}", name("x.csv"))];
    let load = |inputs: Vec<String>| Items::load(&Sources { inputs, lengths: Some(folder.join("lengths")) }, &d);
    let items = load(named.clone()).unwrap();
    assert_eq!(load(vec![folder.display().to_string()]), Ok(items.clone()));
    for (inputs, want) in [
        (vec![name("x.csv")], "the network has 2 inputs (x, s): say NAME=FILE for each"),
        (vec![named[0].clone()], "input 'x': no file was named for it"),
        (vec![named[0].clone(), named[0].clone(), named[1].clone()], "input 's': two files"),
        (vec![named[0].clone(), "z=a.csv".into()], "z=a.csv: not NAME=FILE"),
    ] {
        let e = load(inputs).unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
    }
    let results = Results::evaluate(&d, &Weights::new(), &items).unwrap();
    let y: Vec<Vec<i64>> = vec![vec![1, -8, 3, -6, 5, -4], vec![27, 8, 29, 10]];
    assert_eq!(results.outputs[0].values, y);
    assert_eq!(results.outputs[0].classes, [vec![0, 0, 0], vec![0, 0]]);
    assert_eq!(results.classes(), None);
    // The same from a program's outputs.
    let concat: Vec<i128> = y.concat().into_iter().map(i128::from).collect();
    let outputs = BTreeMap::from([
        ("y".to_string(), concat),
        ("y.class".to_string(), vec![0; 5]),
        ("../s".to_string(), vec![0, -10, 20, 0]),
    ]);
    let mut other = Results::new(&d, 3).unwrap();
    other.add(&[3, 2], &outputs).unwrap();
    assert_eq!(other, results);
    assert!(other.add(&[3, 3], &outputs).is_err());
    let csv = results.to_csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 10 + 5 + 4);
    assert_eq!([lines[0], lines[2]], ["output,item,position,integer,value", "y,0,0:1,-8,-8"]);
    assert!(
        lines.contains(&"y,1,1:0,29,29") && lines.contains(&"y.class,1,1,0,no") && lines.contains(&"../s,0,1,-10,-10")
    );
    let files = results.files(&folder.join("out.npy"));
    assert_eq!(
        files.iter().map(|f| f.0.clone()).collect::<Vec<_>>(),
        [folder.join("out.npy"), folder.join("out.___s.npy")]
    );
    let array = npy::Npy::parse(&files[0].1).unwrap();
    assert_eq!(array.shape, [2, 3, 2]);
    let reals: Vec<npy::Value> = array.values().collect();
    assert_eq!(reals[7], npy::Value::Real(8.0));
    assert!(matches!(reals[11], npy::Value::Real(x) if x.is_nan()), "behind the end of item 1");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn results_are_a_table() {
    let mut d = Description::parse(&digits_text()).unwrap();
    d.graph.outputs[0].labels = (0..10).map(|i| if i == 1 { "no, \"never\"".into() } else { i.to_string() }).collect();
    let mut results = Results::new(&d, 8).unwrap();
    let scores = |first: i128| [vec![first, -3], vec![0; 8]].concat();
    let outputs = |class: Vec<i128>, scores: Vec<i128>| {
        BTreeMap::from([("scores".to_string(), scores), ("scores.class".to_string(), class)])
    };
    results.add(&[8, 8], &outputs(vec![0, 1], [scores(5), scores(4096)].concat())).unwrap();
    assert!(results.add(&[8], &outputs(vec![10], scores(0))).is_err());
    assert!(results.add(&[8], &outputs(vec![-1], scores(0))).is_err());
    assert!(results.add(&[8], &outputs(vec![1], vec![0; 9])).is_err());
    assert!(results.add(&[8], &outputs(vec![1, 1], scores(0))).is_err());
    assert!(results.add(&[8], &BTreeMap::new()).is_err());
    let csv = results.to_csv();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("item,label,class,integer 0,\"integer no, \"\"never\"\"\",integer 2,"));
    assert!(lines[1].starts_with("0,0,0,5,-3,0,") && lines[1].contains(",0.00244140625,-0.00146484375,0"));
    assert!(lines[2].starts_with("1,\"no, \"\"never\"\"\",1,4096,-3,"));
    assert_eq!(results.classes(), Some(vec![0, 1]));
    let array = results.files(std::path::Path::new("a.npy"));
    assert_eq!((array.len(), npy::Npy::parse(&array[0].1).unwrap().shape), (1, vec![2, 10]));
}
