//! Whole networks: cleartext and both parties on the ideal machine, bit for bit against the reference.

use sirnn::model::{Description, Extra, Weights, build_with};
use sirnn::pair;
use sirnn::plan::Plan;
use sirnn::program::{Profile, clear, ideal::Machine};
use sirnn::protocols::shift::Rounding;
use std::{collections::HashMap, path::PathBuf};

const GOOGLE30: &str = include_str!("../examples/google30.toml");

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

fn google30_is_exact(rounding: Rounding, suffix: &str, batch: usize, fuse: bool) {
    let Some(root) = data() else { return };
    let (description, weights) = google30(&root, rounding);
    let program = build_with(&description, batch, Profile::default(), Extra { hidden: true, fuse }).unwrap();
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
        let plan = Plan::new(program, Profile::default());
        let [_, (got, _)] = pair::run(&plan, "iknp", &inputs).unwrap();
        assert_eq!(got, want.into_iter().collect(), "real transfers, {suffix}");
    }
}

#[test]
fn google30_rounding_down() {
    for fuse in [false, true] {
        google30_is_exact(Rounding::Floor, "floor", 1, fuse);
        google30_is_exact(Rounding::Floor, "floor", 2, fuse);
    }
}

#[test]
fn google30_toward_zero() {
    for fuse in [false, true] {
        google30_is_exact(Rounding::TowardZero, "div", 1, fuse);
        google30_is_exact(Rounding::TowardZero, "div", 2, fuse);
    }
}
