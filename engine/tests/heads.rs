//! The head detector with its real weights: the evaluator against the publishers' program, stage by stage and bit for bit; two parties
//! against the evaluator on a part of the image. (Two parties on all of it: the example `heads`.) Skipped without `SIRNN_DATA`.

#[path = "../examples/heads/boxes.rs"]
mod boxes;
#[path = "../examples/heads/model.rs"]
mod model;

use sirnn::compile::{Options, Request, compile};
use sirnn::graph::evaluate::evaluate_watched;
use sirnn::graph::{Tensor, evaluate};
use sirnn::plan::Plan;
use sirnn::program::{Goal, LinearForms, Profile};
use sirnn::protocols::truncation::Rounding;
use sirnn::run::pair;
use sirnn_backends::ot;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn directory() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("SIRNN_DATA")?).join("heads-face2");
    directory.exists().then_some(directory)
}

/// The value of the graph that a checkpoint shows, and where it starts there.
fn value_of(checkpoint: &str) -> Option<(String, usize)> {
    const SEQUENCES: usize = 8 * 16;
    Some(match checkpoint {
        "rnn1_rows_first_patch" => ("rnn1.h".into(), 0),
        "rnn1_columns_first_patch" => ("rnn1.h".into(), SEQUENCES),
        "rnn1_rows_last_patch" => ("rnn1.h".into(), 2 * 1130 * SEQUENCES),
        "rnn1_columns_last_patch" => ("rnn1.h".into(), 2 * 1130 * SEQUENCES + SEQUENCES),
        "rnnpool_states_16_bit" => ("states".into(), 0),
        "rnnpool_output" => ("grid".into(), 0),
        "outputs" => ("output".into(), 0),
        // States after every step are not handed out.
        "rnn1_rows_first_patch_by_step" | "rnn1_columns_first_patch_by_step" => return None,
        _ => match checkpoint.strip_suffix("_with_skip") {
            Some(block) => (block.into(), 0),
            None => (checkpoint.into(), 0),
        },
    })
}

fn check(rounding: Rounding, suffix: &str) {
    let Some(directory) = directory() else { return };
    let (graph, weights) = model::load(&directory, model::IMAGE, rounding).unwrap();
    let typed = graph.infer(0).unwrap();
    for (name, spec) in &typed.parameters {
        assert_eq!(weights[name].shape, spec.shape, "{name}");
    }
    let image = model::image(&directory.join("input_i8_240x320.bin")).unwrap();
    let mut values = BTreeMap::new();
    let start = std::time::Instant::now();
    let output = evaluate_watched(&typed, &weights, &[image], &mut |name, value| {
        values.insert(name.to_string(), value.clone());
    });
    println!("evaluated in {:.2?}", start.elapsed());
    let checkpoints = model::arrays(&directory.join(format!("checkpoints_sirnn_{suffix}.npz"))).unwrap();
    let mut seen = 0;
    for (name, array) in &checkpoints {
        let expected = &array.data;
        let Some((value, start)) = value_of(name) else { continue };
        // A block without a skip connection ends with its products.
        let found = values.get(&value).or_else(|| values.get(value.strip_suffix("_y")?));
        let found = &found.unwrap_or_else(|| panic!("no value '{value}'")).data[start..start + expected.len()];
        assert!(found == &expected[..], "{name} differs");
        seen += 1;
    }
    assert_eq!(seen, checkpoints.len() - 2);
    let expected = std::fs::read(directory.join(format!("expected_sirnn_{suffix}_i16_18000.bin"))).unwrap();
    let expected: Vec<i64> = expected.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]).into()).collect();
    assert_eq!(expected.len(), 18_000);
    assert!(output[0].data == expected);
    // The publishers' program finds 24 or 25 heads, depending on its rounding; they are in the image and apart.
    let heads = boxes::heads(&output[0].data);
    assert!((24..=25).contains(&heads.len()), "{} heads", heads.len());
    let [height, width] = model::IMAGE.map(|n| n as f64);
    for head in &heads {
        let [left, top, right, bottom] = head.corners;
        assert!(left < right && top < bottom && right > 0.0 && bottom > 0.0 && left < width && top < height);
        assert!((0.45..=1.0).contains(&head.probability));
    }
}

#[test]
fn heads_rounding_down() {
    check(Rounding::Floor, "floor");
}

#[test]
fn heads_rounding_toward_zero() {
    check(Rounding::TowardZero, "div");
}

/// All layers with their real weights on a corner of the image: 12 patches of 1131.
fn check_corner(rounding: Rounding) {
    const CORNER: [usize; 2] = [32, 40];
    let Some(directory) = directory() else { return };
    let (graph, weights) = model::load(&directory, CORNER, rounding).unwrap();
    let image = model::image(&directory.join("input_i8_240x320.bin")).unwrap();
    let rows = image.data.chunks(model::IMAGE[1]).take(CORNER[0]);
    let corner: Vec<i64> = rows.flat_map(|row| &row[..CORNER[1]]).copied().collect();
    let item = Tensor::new(vec![CORNER[0], CORNER[1], 1], corner.clone());
    let expected = evaluate(&graph.infer(0).unwrap(), &weights, &[item]).swap_remove(0).data;
    // The image is not the same all over, and neither is what is found.
    assert!(expected.iter().any(|v| *v != expected[0]));
    let profile = Profile { linear: LinearForms::Auto, ..Profile::of(Goal::Bytes, ot::lookup("ferret").unwrap()) };
    let request = Request { items: 1, steps: 0, lengths: None };
    let compiled = compile(&graph, &request, profile, &Options { tables: false, watch: Vec::new() }).unwrap();
    let mut inputs = compiled.server_inputs(&weights);
    inputs.insert("image".into(), corner.into_iter().map(i128::from).collect());
    let [_, (outputs, _)] = pair::run(&Plan::new(compiled.program, profile), "ferret", &inputs).unwrap();
    let got = &outputs["boxes"];
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(&expected).all(|(a, b)| *a == i128::from(*b)));
}

#[test]
fn two_parties_on_a_corner_rounding_down() {
    check_corner(Rounding::Floor);
}

#[test]
fn two_parties_on_a_corner_rounding_toward_zero() {
    check_corner(Rounding::TowardZero);
}
