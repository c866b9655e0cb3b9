//! Files, and what a peer sends in their format.

use crate::graphs;
use crate::show;
use crate::source::Source;
use sirnn::compile::{Options, Request, compile};
use sirnn::graph::Dim;
use sirnn::model::{Description, Items, Model, Results, weights};
use sirnn::plan::Plan;
use sirnn::program::{Holder, Profile};
use sirnn::run::shares;
use sirnn_backends::inst::Party;
use std::collections::BTreeMap;

/// A small model's description.
pub const DESCRIPTION: &str = include_str!("small.toml");
/// First byte of a case of [`description`] that is no text but changes to one.
const CHANGES: u8 = 0xff;

/// The description of [`DESCRIPTION`].
///
/// # Panics
/// If it has ceased to be valid.
pub fn small() -> Description {
    Description::parse(DESCRIPTION).expect("the small description is valid")
}

/// A description's bytes, as they come from a peer: any text, or changes to a valid one.
///
/// # Panics
/// If one that was accepted cannot be written and read again, or does not give a program or an error.
pub fn description(data: &[u8]) {
    let changed;
    let bytes = match data {
        [CHANGES, choices @ ..] => {
            changed = altered(&mut Source::new(choices));
            show!("{changed}");
            changed.as_bytes()
        }
        text => text,
    };
    let d = match Description::from_bytes(bytes) {
        Ok(d) => d,
        Err(e) => return assert!(!e.to_string().contains('\n'), "an error is one line: {e}"),
    };
    let text = d.to_toml();
    assert_eq!(Description::parse(&text).as_ref(), Ok(&d), "a description survives its text:\n{text}");
    let typed = d.typed(d.graph.steps).expect("checked when it was read");
    let sizes =
        typed.values.iter().map(|v| v.ty.len()).chain(typed.parameters.values().map(|p| p.shape.iter().product()));
    if sizes.sum::<usize>() <= 1 << 13 && d.graph.steps <= 32 {
        buildable(&d);
    }
}

/// The text of a random graph, or of the small model, with some lines lost, repeated or exchanged, and some words changed.
fn altered(s: &mut Source) -> String {
    let text = match s.range(0, 3) {
        0 => DESCRIPTION.to_string(),
        _ => Description::new("fuzzed", graphs::graph(s)).to_toml(),
    };
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for _ in 0..s.range(1, 4) {
        let (at, other) = (s.below(lines.len()), s.below(lines.len()));
        match s.range(0, 7) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            _ => lines[at] = word(s, &lines[at]),
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join("\n")
}

/// The line with one of its numbers or names changed.
fn word(s: &mut Source, line: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let starts: Vec<usize> = line.match_indices(is_part).map(|m| m.0).collect();
    let starts: Vec<usize> = starts.iter().copied().filter(|&i| i == 0 || !line[..i].ends_with(is_part)).collect();
    let Some(&start) = starts.get(s.below(starts.len())) else { return line.into() };
    let len = line[start..].find(|c| !is_part(c)).unwrap_or(line.len() - start);
    let words = [
        "0",
        "1",
        "-1",
        "2",
        "3",
        "7",
        "16",
        "63",
        "64",
        "65",
        "1024",
        "65536",
        "67108864",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "-9223372036854775808",
        "1e9",
        "nan",
        "true",
        "steps",
        "x0",
        "n1",
        "h0",
        "out",
        "[]",
        "[-1]",
        "[1, 1]",
        "{}",
        "\"\"",
        "\"a/b\"",
        "scan",
        "rescale",
        "channels",
        "unsigned",
    ];
    format!("{}{}{}", &line[..start], s.pick(&words), &line[start + len..])
}

/// Builds the programs of a description.
pub fn buildable(d: &Description) {
    for tables in [false, true] {
        let request = Request { items: 2, steps: d.graph.steps, lengths: None };
        match compile(&d.graph, &request, Profile::default(), &Options { tables, watch: Vec::new() }) {
            Ok(compiled) => drop(Plan::new(compiled.program, Profile::default())),
            Err(e) => show!("refused: {e}"),
        }
    }
}

/// A file of weights.
///
/// # Panics
/// If weights that were accepted do not fit the model's program.
pub fn weights(data: &[u8]) {
    let d = small();
    let model = match weights::parse(data, &d).and_then(|weights| Model::new(d, weights)) {
        Ok(model) => model,
        Err(e) => return assert!(!e.to_string().contains('\n'), "an error is one line: {e}"),
    };
    for tables in [false, true] {
        let graph = &model.description.graph;
        let request = Request { items: 1, steps: graph.steps, lengths: None };
        let options = Options { tables, watch: Vec::new() };
        let compiled = compile(graph, &request, Profile::default(), &options).expect("the model is complete");
        let (program, inputs) = (&compiled.program, compiled.server_inputs(&model.weights));
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
    let (most, features) = (s.range(1, 4) as usize, s.range(1, 4) as usize);
    d.graph.steps = most;
    d.graph.inputs[0].shape = vec![Dim::Steps, Dim::Size(features)];
    let number = &mut d.graph.inputs[0].number;
    (number.bits, number.scale) = (s.range(2, 32), s.range(0, 128) as i32 - 64);
    let bounds = number.range();
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
    let one = items.steps() * features;
    let flat = items.inputs(0..items.len()).remove("x").expect("the only input");
    assert_eq!(flat.len(), items.len() * one);
    assert!(flat.iter().all(|v| (bounds.0..=bounds.1).contains(v)), "a number outside {bounds:?}");
    if !items.is_empty() {
        let integers: Vec<i64> = flat.iter().map(|&v| v as i64).collect();
        let again = Items::from_integers(&d, items.steps(), std::slice::from_ref(&integers), None);
        assert_eq!(again.as_ref(), Ok(&items));
        let line = |item: &[i64]| item.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let text = integers.chunks(one).map(line).collect::<Vec<_>>().join("\n");
        assert_eq!(Items::from_csv(&text, &d).as_ref(), Ok(&items), "items survive their text");
        let array = sirnn::model::npy::integers(&[items.len(), items.steps(), features], &integers);
        assert_eq!(Items::from_npy(&array, &d).as_ref(), Ok(&items), "items survive their array");
    }
    results(&flat);
}

/// Results that a wrong peer made: they are refused, or become a table.
fn results(values: &[i128]) {
    let d = small();
    let classes: Vec<i128> = values.iter().map(|v| v & 3).collect();
    let n = classes.len();
    let mut results = Results::new(&d, d.graph.steps).expect("the small description is valid");
    let outputs = BTreeMap::from([("scores.class".to_string(), classes), ("scores".to_string(), values.repeat(3))]);
    if results.add(&vec![d.graph.steps; n], &outputs).is_ok() {
        assert_eq!(results.to_csv().lines().count(), 1 + n);
    }
}
