//! Files, and what a peer sends in their format.

use crate::show;
use crate::source::Source;
use sirnn::model::{Description, Extra, Items, Results, Weights, build_with};
use sirnn::plan::Plan;
use sirnn::program::{Holder, Profile};
use sirnn::run::shares;
use sirnn_backends::inst::Party;

/// A small model's description, in which one number of columns has to come from the weights.
pub const DESCRIPTION: &str = include_str!("small.toml");

/// The description of [`DESCRIPTION`].
///
/// # Panics
/// If it has ceased to be valid.
pub fn small() -> Description {
    Description::parse(DESCRIPTION).expect("the small description is valid")
}

/// The same with nothing left open.
pub fn complete() -> Description {
    let mut d = small();
    d.layer[0].w[0].columns = Some(2);
    d
}

/// A description's bytes, as they come from a peer.
///
/// # Panics
/// If one that was accepted cannot be written and read again, or does not give a program or an error.
pub fn description(data: &[u8]) {
    let d = match Description::from_bytes(data) {
        Ok(d) => d,
        Err(e) => return assert!(!e.to_string().contains('\n'), "an error is one line: {e}"),
    };
    let text = d.to_toml();
    assert_eq!(Description::parse(&text).as_ref(), Ok(&d), "a description survives its text:\n{text}");
    d.tensors().expect("checked when it was read");
    if d.item_len() <= 256 && tensors(&d) <= 4096 && d.steps <= 32 {
        buildable(&d);
    }
}

/// Elements of all tensors whose shapes are known.
fn tensors(d: &Description) -> u64 {
    let all = d.tensors().expect("checked when it was read");
    all.values().map(|t| t.shape.iter().map(|n| u64::from(n.unwrap_or(1))).product::<u64>()).sum()
}

/// Builds the programs of a description.
pub fn buildable(d: &Description) {
    for fuse in [false, true] {
        match build_with(d, 2, Profile::default(), Extra { hidden: true, fuse }) {
            Ok(program) => drop(Plan::new(program, Profile::default())),
            Err(e) => show!("refused: {e}"),
        }
    }
}

/// A file of weights.
///
/// # Panics
/// If weights that were accepted do not fit the model's program.
pub fn weights(data: &[u8]) {
    let mut d = small();
    let weights = match Weights::from_bytes(data, &mut d) {
        Ok(weights) => weights,
        Err(e) => return assert!(!e.to_string().contains('\n'), "an error is one line: {e}"),
    };
    let inputs = weights.inputs(&d);
    for fuse in [false, true] {
        let program =
            build_with(&d, 1, Profile::default(), Extra { hidden: false, fuse }).expect("the model is complete");
        for input in program.inputs.iter().filter(|i| program.ty(i.reg).holder == Holder::Only(Party::P0)) {
            shares::check_range(&input.name, program.ty(input.reg), &inputs[&input.name]).expect("checked when read");
        }
    }
}

/// A file of items: the format, the model's part that matters, then the content.
///
/// # Panics
/// If items that were accepted are out of range, or are others when written and read again.
pub fn inputs(data: &[u8]) {
    let s = &mut Source::new(data);
    let csv = s.range(0, 1) == 0;
    let mut d = small();
    (d.steps, d.features) = (s.range(1, 4), s.range(1, 4));
    (d.input.bits, d.input.scale) = (s.range(2, 32), s.range(0, 128) as i32 - 64);
    d.validate().expect("within the bounds of the format");
    let content = s.rest();
    let items = if csv {
        let Ok(text) = std::str::from_utf8(content) else { return };
        Items::from_csv(text, &d)
    } else {
        Items::from_npy(content, &d)
    };
    let items = match items {
        Ok(items) => items,
        Err(e) => return assert!(!e.to_string().contains('\n'), "an error is one line: {e}"),
    };
    let one = d.item_len();
    let flat: Vec<i128> = (0..items.len()).flat_map(|i| items.batch(i..i + 1)).collect();
    assert_eq!(flat.len(), items.len() * one);
    let (lo, hi) = sirnn::program::signed(d.input.bits);
    assert!(flat.iter().all(|v| (lo..=hi).contains(v)), "a number outside {lo}..={hi}");
    let integers: Vec<i64> = flat.iter().map(|&v| v as i64).collect();
    assert_eq!(Items::from_integers(&integers, &d).as_ref(), Ok(&items));
    if !items.is_empty() {
        let line = |item: &[i64]| item.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let text = integers.chunks(one).map(line).collect::<Vec<_>>().join("\n");
        assert_eq!(Items::from_csv(&text, &d).as_ref(), Ok(&items), "items survive their text");
        let (shape, bytes) = (format!("({}, {}, {})", items.len(), d.steps, d.features), integers.iter());
        let npy = npy(&shape, bytes.flat_map(|v| v.to_le_bytes()));
        assert_eq!(Items::from_npy(&npy, &d).as_ref(), Ok(&items), "items survive their array");
    }
    results(&d, &flat);
}

fn npy(shape: &str, data: impl Iterator<Item = u8>) -> Vec<u8> {
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(data);
    file
}

/// Results that a wrong peer made: they are refused, or become a table.
fn results(d: &Description, values: &[i128]) {
    let mut results = Results::default();
    let classes = values.iter().map(|v| v & 3).collect::<Vec<_>>();
    let outputs = [("class".to_string(), classes), ("scores".to_string(), values.to_vec())];
    if results.add(d, &outputs).is_ok() {
        assert_eq!(results.to_csv(d).lines().count(), 1 + results.classes.len());
    }
}
