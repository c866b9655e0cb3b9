//! The head detector with its real weights: the evaluator against the publishers' program, stage by stage and bit for bit. Skipped
//! without `SIRNN_DATA`.

#[path = "../examples/heads/boxes.rs"]
mod boxes;
#[path = "../examples/heads/model.rs"]
mod model;

use sirnn::graph::evaluate::evaluate_watched;
use sirnn::protocols::truncation::Rounding;
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
    let (graph, weights) = model::load(&directory, rounding).unwrap();
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
    assert_eq!(expected.len(), model::OUTPUTS);
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
