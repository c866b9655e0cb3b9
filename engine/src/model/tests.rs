//! Descriptions, weights and files that are wrong.

use super::description::FORMAT;
use super::*;
use crate::program::Profile;
use proptest::prelude::*;
use safetensors::{Dtype, serialize, tensor::TensorView};
use std::{collections::HashMap, path::PathBuf};

fn digits_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/digits")
}

fn digits_text() -> String {
    std::fs::read_to_string(digits_directory().join(description::FILE)).unwrap()
}

const GOOGLE30: &str = include_str!("../../examples/google30.toml");

#[test]
fn a_description_survives_its_text() {
    for text in [digits_text(), GOOGLE30.to_string()] {
        let d = Description::parse(&text).unwrap();
        assert_eq!(Description::from_bytes(d.to_toml().as_bytes()).unwrap(), d);
    }
}

#[test]
fn wrong_descriptions_are_named() {
    let text = digits_text();
    let cases = [
        ("format = 1", "format = 2", "format: 2, this program reads 1"),
        ("steps = 8 ", "steps = 0 ", "steps: 0 is not in 1..=65536"),
        ("steps = 8 ", "steps = 100000000 ", "steps: "),
        ("steps = 8 ", "steps = -1 ", "line 6: "),
        ("steps = 8 ", "stops = 8 ", "line 6: unknown field"),
        ("features = 8 ", "features = 99999 ", "features: "),
        ("name = \"digits\"", "name = \"a\\u0007\"", "name: control characters"),
        ("rounding = \"floor\"", "rounding = \"up\"", "line 8: unknown variant"),
        ("type = \"fastgrnn\"", "type = \"lstm\"", "unknown variant"),
        ("hidden = 32", "hidden = 0", "layer[0].hidden: 0 is not"),
        ("shift = 6, left = 0", "shift = 64, left = 0", "layer[0].w[0].shift: 64"),
        ("floor = 0, shift = 6", "floor = 60, shift = 6", "layer[0].w[0].floor + shift: 66"),
        ("left = 0, out = 10 },\n]\nu", "left = 10, out = 10 },\n]\nu", "layer[0].w[0].left: 10"),
        ("out = 10 },\n]\nu", "out = 10, columns = 31 },\n]\nu", "layer[0].w[0].columns: 31"),
        ("left = 6, scale", "left = 15, scale", "layer[0].pre.left: 15"),
        ("gate = { scale = 14 }", "gate = { scale = 15 }", "layer[0].gate.scale: 15"),
        ("tensor = \"nu\", bits = 16", "tensor = \"nu\", bits = 33", "layer[0].nu.bits: 33"),
        ("tensor = \"nu\"", "tensor = \"U\"", "tensor 'U': used twice"),
        ("[output]", "[output]\n[output]", "line "),
        ("out = 16\n", "out = 1\n", "output.out: 1"),
        ("[output]", "", "unknown field `bias`"),
    ];
    for (from, to, want) in cases {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text, "{from}");
        let e = Description::parse(&broken).expect_err(to).to_string();
        assert!(e.contains(want) && !e.contains('\n'), "{to}: {e}");
    }
    assert!(Description::parse(&" ".repeat(1 << 20)).unwrap_err().to_string().contains("bytes"));
    assert!(Description::from_bytes(&[0xff, 0xfe]).is_err());
    assert_eq!(Description::parse(&text).unwrap().format, FORMAT);
}

#[test]
fn a_client_needs_every_shape() {
    let text = GOOGLE30.replace(", columns = 16", "");
    let d = Description::parse(&text).unwrap();
    let e = build(&d, 1, Profile::default()).unwrap_err().to_string();
    assert_eq!(e, "model: layer[0].w[0].columns: missing, and there are no weights to take it from");
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

/// One digit of a number becomes others: texts that parse, with odd numbers.
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

fn changes() -> impl Strategy<Value = (Vec<(usize, u8)>, Option<usize>)> {
    (prop::collection::vec((any::<usize>(), any::<u8>()), 1..4), prop::option::weighted(0.2, any::<usize>()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_description_panics((changes, cut) in changes()) {
        for text in [digits_text(), GOOGLE30.to_string()] {
            if let Ok(d) = Description::from_bytes(&mutated(text.as_bytes(), &changes, cut)) {
                let _ = build(&d, 1, Profile::default());
            }
        }
    }

    #[test]
    fn no_numbers_panic(changes in prop::collection::vec((any::<usize>(), 0u32..70), 1..5)) {
        for text in [digits_text(), GOOGLE30.to_string()] {
            if let Ok(d) = Description::parse(&renumbered(&text, &changes)) {
                let _ = build(&d, 2, Profile::default());
            }
        }
    }

    #[test]
    fn no_weights_panic((changes, cut) in changes()) {
        let bytes = std::fs::read(digits_directory().join(weights::FILE)).unwrap();
        // The header is what can be wrong.
        let changes: Vec<_> = changes.iter().map(|(at, to)| (at % 800, *to)).collect();
        let mut d = Description::parse(&digits_text()).unwrap();
        if let Ok(weights) = Weights::from_bytes(&mutated(&bytes, &changes, cut), &mut d) {
            weights.inputs(&d);
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
        let d = tiny();
        let _ = Items::from_csv(&text, &d);
    }
}

/// Two steps of two features.
fn tiny() -> Description {
    let text = digits_text().replace("steps = 8", "steps = 2").replace("features = 8", "features = 2");
    Description::parse(&text).unwrap()
}

fn digits_arrays(d: &Description) -> HashMap<String, Vec<i64>> {
    let mut arrays = HashMap::new();
    for (name, tensor) in d.tensors().unwrap() {
        let n = tensor.shape.iter().map(|n| n.unwrap() as usize).product();
        arrays.insert(name.to_string(), vec![1; n]);
    }
    arrays
}

#[test]
fn wrong_weights_are_named() {
    let d = Description::parse(&digits_text()).unwrap();
    let good = digits_arrays(&d);
    assert!(Weights::from_arrays(&mut d.clone(), good.clone()).is_ok());
    let refused = |name: &str, values: Option<Vec<i64>>, want: &str| {
        let mut arrays = good.clone();
        match values {
            Some(values) => arrays.insert(name.into(), values),
            None => arrays.remove(name),
        };
        let e = Weights::from_arrays(&mut d.clone(), arrays).unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
    };
    refused("W", None, "tensor 'W': missing");
    refused("W", Some(vec![1; 255]), "tensor 'W': shape [");
    refused("W", Some(vec![128; 256]), "tensor 'W': a value does not fit 8 bits");
    refused("Bg", Some(vec![1; 31]), "tensor 'Bg': shape [31], [32] is expected");
    refused("extra", Some(vec![1]), "tensor 'extra' is not named");
    refused("zeta", Some(vec![-1]), "tensor 'zeta': negative");
    refused("nu", Some(vec![-32]), "tensor 'nu': negative");
}

#[test]
fn zeta_and_nu_must_fit_together() {
    let d = Description::parse(&digits_text()).unwrap();
    let mut arrays = digits_arrays(&d);
    arrays.insert("nu".into(), vec![32]);
    arrays.insert("zeta".into(), vec![32766]);
    assert!(Weights::from_arrays(&mut d.clone(), arrays.clone()).is_ok());
    arrays.insert("zeta".into(), vec![32767]);
    let e = Weights::from_arrays(&mut d.clone(), arrays).unwrap_err().to_string();
    assert_eq!(e, "tensors 'zeta' and 'nu': zeta (1 - g) + nu does not fit 16 bits for every g");
}

#[test]
fn shapes_come_from_the_weights() {
    let text = GOOGLE30.replace(", columns = 16", "").replace(", columns = 35", "");
    let (mut d, whole) = (Description::parse(&text).unwrap(), Description::parse(GOOGLE30).unwrap());
    let weights = Weights::from_arrays(&mut d, digits_arrays(&whole)).unwrap();
    let columns = |d: &Description| d.tensors().unwrap().values().map(|t| t.shape.clone()).collect::<Vec<_>>();
    assert_eq!(columns(&d), columns(&whole));
    assert!(format!("{weights:?}").contains("[32, 16]"));
    let mut data = Vec::new();
    for (name, t) in whole.tensors().unwrap() {
        let shape: Vec<usize> = t.shape.iter().map(|n| n.unwrap() as usize).collect();
        let (dtype, size) = if t.bits <= 8 { (Dtype::I8, 1) } else { (Dtype::I16, 2) };
        data.push((name, dtype, shape.clone(), vec![0u8; shape.iter().product::<usize>() * size]));
    }
    let file = |data: &[(&str, Dtype, Vec<usize>, Vec<u8>)]| {
        let views = data.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
        serialize(views, None).unwrap()
    };
    let mut d = Description::parse(&text).unwrap();
    Weights::from_bytes(&file(&data), &mut d).unwrap();
    assert_eq!(columns(&d), columns(&whole));
    let at = data.iter().position(|t| t.0 == "zeta").unwrap();
    data[at] = ("zeta", Dtype::I8, vec![1], vec![1]);
    let e = Weights::from_bytes(&file(&data), &mut d).unwrap_err().to_string();
    assert_eq!(e, "tensor 'zeta': type I8, I16 is expected for 16 bits");
}

#[test]
fn the_shipped_model_loads() {
    let model = Model::load(&digits_directory()).unwrap();
    let shown = format!("{model:?}");
    assert!(shown.contains("\"FC\": [32, 10]"), "{shown}");
    let e = Model::load(&digits_directory().join("nowhere")).unwrap_err().to_string();
    assert!(e.contains("model.toml: "), "{e}");
}

#[test]
fn tables_of_items() {
    let d = tiny();
    let whole = Items::from_csv("1,2,3,4\n\n-5, 6,7,-128\n", &d).unwrap();
    assert_eq!((whole.len(), whole.batch(0..2)), (2, vec![1, 2, -5, 6, 3, 4, 7, -128]));
    assert_eq!(whole.batch(1..2), [-5, 6, 7, -128]);
    // Scale 5: ties go to the even integer.
    let real = Items::from_csv("1,0.015625,0.046875,0.01\n-3.99,3.96875,3.9,-4", &d).unwrap();
    assert_eq!(real.batch(0..2), [32, 0, -128, 127, 2, 0, 125, -128]);
    for (text, want) in [
        ("1,2,3", "line 1: 3 numbers, 2 steps of 2 are expected"),
        ("1,2,3,4\n1,2,3,4,5", "line 2: 5 numbers"),
        ("1,2,x,4", "line 1, number 3: \"x\" is no number"),
        ("1,2,3,4\n5,128,7,8", "item 1, step 0, feature 1: 128 does not fit 8 bits"),
        ("1,2,3.9,4", "item 0, step 1, feature 1: 4 does not fit 8 bits at scale 5"),
        ("1,2,3.5,nan", "item 0, step 1, feature 1: NaN is not a finite number"),
    ] {
        assert!(Items::from_csv(text, &d).unwrap_err().to_string().contains(want), "{text}");
    }
    assert_eq!(Items::from_integers(&[1, 2, 3, 4], &d).unwrap().len(), 1);
    assert!(Items::from_integers(&[1, 2, 3], &d).is_err());
}

fn npy(version: u8, descr: &str, shape: &str, order: &str, data: &[u8]) -> Vec<u8> {
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
    let arrays = [
        ("|i1", encode(&|v| vec![v as u8])),
        ("<i2", encode(&|v| (v as i16).to_le_bytes().into())),
        ("<i4", encode(&|v| (v as i32).to_le_bytes().into())),
        ("<i8", encode(&|v| v.to_le_bytes().into())),
        ("<f4", encode(&|v| (v as f32 / 32.0).to_le_bytes().into())),
        ("<f8", encode(&|v| (v as f64 / 32.0).to_le_bytes().into())),
    ];
    for (descr, data) in &arrays {
        for version in 1..=3 {
            let items = Items::from_npy(&npy(version, descr, "(1, 2, 2)", "False", data), &d).unwrap();
            assert_eq!(items.batch(0..1), wants.map(i128::from), "{descr}");
        }
    }
    let data = [5u8, 6, 7, 8];
    assert_eq!(Items::from_npy(&npy(1, "|u1", "(1, 2, 2)", "False", &data), &d).unwrap().batch(0..1), [5, 6, 7, 8]);
    for (bytes, want) in [
        (npy(1, "|u1", "(2, 2)", "False", &data), "shape [2, 2], [items, 2, 2] is expected"),
        (npy(1, "|u1", "(1, 2, 2)", "True", &data), "Fortran order"),
        (npy(1, ">i2", "(1, 2, 2)", "False", &[0; 8]), "little endian"),
        (npy(1, "|u1", "(1, 2, 2)", "False", &[0; 5]), "5 bytes for shape [1, 2, 2]"),
        (npy(1, "|u1", "(18446744073709551615, 2, 2)", "False", &data), "npy data"),
        (npy(4, "|u1", "(1, 2, 2)", "False", &data), "unknown version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(), "its length is wrong"),
        (npy(1, "|u1", "(1, 2, 2)", "False", &[255, 0, 0, 0]), "item 0, step 0, feature 0: 255 does not fit 8 bits"),
        (b"PK".to_vec(), "this is no .npy file"),
    ] {
        let e = Items::from_npy(&bytes, &d).unwrap_err().to_string();
        assert!(e.contains(want), "{e}");
    }
}

#[test]
fn results_are_complete_or_not_there() {
    let mut d = Description::parse(&digits_text()).unwrap();
    d.labels = vec!["yes".into(), "no, \"never\"".into()];
    let mut results = Results::default();
    let outputs =
        |class: Vec<i128>, scores: Vec<i128>| vec![("scores".to_string(), scores), ("class".to_string(), class)];
    results.add(&d, &outputs(vec![0, 1], vec![5, -3, 2, 4096])).unwrap();
    assert!(results.add(&d, &outputs(vec![2], vec![0, 0])).is_err());
    assert!(results.add(&d, &outputs(vec![-1], vec![0, 0])).is_err());
    assert!(results.add(&d, &outputs(vec![1], vec![0, 0, 0])).is_err());
    assert!(results.add(&d, &[]).is_err());
    let want = "item,label,class,integer yes,\"integer no, \"\"never\"\"\",score yes,\"score no, \"\"never\"\"\"\n\
        0,yes,0,5,-3,0.00244140625,-0.00146484375\n\
        1,\"no, \"\"never\"\"\",1,2,4096,0.0009765625,2\n";
    assert_eq!(results.to_csv(&d), want);
    let directory = std::env::temp_dir().join(format!("sirnn-results-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("out.csv");
    results.write(&path, &d).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    assert!(results.write(&directory.join("no/where.csv"), &d).is_err());
    std::fs::remove_dir_all(&directory).unwrap();
}
