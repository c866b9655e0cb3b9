//! FastGRNNs from arrays of weights, and integers with products multiplied out.
//!
//! `fastgrnn.npz` holds a small random network, items, and what the program in Python that this module took the place of made of
//! them: tensors and scores.

use sirnn::graph::{Graph, Op, Tensor, Weights, evaluate};
use sirnn::import::arrays;
use sirnn::import::fastgrnn::{Chains, Imported, Options, SCAN, collapse, import, scan};
use sirnn::import::tensor::{Data, Tensor as Array};
use sirnn::model::Description;
use std::path::{Path, PathBuf};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fastgrnn.npz")
}

fn array(name: &str) -> Array {
    arrays::npz(&fixture(), name).unwrap()
}

fn whole(name: &str) -> Vec<i64> {
    match array(name).data() {
        Data::Int(v) => v.clone(),
        _ => panic!("{name}"),
    }
}

fn imported(options: &Options) -> Imported {
    import(&fixture(), &array("x"), options).unwrap()
}

/// The scores of all items.
fn scores(graph: &Graph, weights: &Weights) -> Vec<i64> {
    let x = array("x");
    let typed = graph.infer(x.shape()[1]).unwrap();
    let number = graph.inputs[0].number;
    let integer = |v: &f32| (f64::from(*v) * 2f64.powi(number.scale)).round_ties_even() as i64;
    let item = |x: &[f32]| Tensor::new(vec![6, 5], x.iter().map(integer).collect());
    x.as_floats().unwrap().chunks(30).flat_map(|x| evaluate(&typed, weights, &[item(x)]).remove(0).data).collect()
}

#[track_caller]
fn assert_as_before(graph: &Graph, weights: &Weights, tag: &str) {
    for (name, tensor) in weights {
        assert_eq!(tensor.data, whole(&format!("{tag}.{name}")), "{tag}: {name}");
    }
    assert_eq!(scores(graph, weights), whole(&format!("{tag}.scores")), "{tag}");
}

#[test]
fn weights_become_the_integers_that_they_were() {
    let plain = imported(&Options::default());
    assert_as_before(&plain.graph, &plain.weights, "plain");
    assert_eq!(plain.weights.len(), 10);
    let chains = Chains { state: true, ..Chains::default() };
    let collapsed = imported(&Options { collapse: chains, ..Options::default() });
    assert_as_before(&collapsed.graph, &collapsed.weights, "float_u");
    assert_eq!(collapsed.weights.len(), 9);
}

#[test]
fn integers_are_multiplied_out_as_they_were() {
    let options = Options { input_bits: 16, weight_bits: 12, rank_bits: 16, pre_bits: 12, ..Options::default() };
    let wide = imported(&options);
    let own = scores(&wide.graph, &wide.weights);
    for (tag, input, state, pre_bits) in
        [("integer_u", false, true, Some(8)), ("integer_w", true, false, Some(10)), ("integer_uw", true, true, None)]
    {
        let (graph, weights) = collapse(&wide.graph, &wide.weights, Chains { input, state }, 14, pre_bits).unwrap();
        assert_as_before(&graph, &weights, tag);
        assert_ne!(scores(&graph, &weights), own);
    }
    let of = |pre_bits| collapse(&wide.graph, &wide.weights, Chains { input: false, state: true }, 14, pre_bits);
    assert!(of(Some(13)).unwrap_err().contains("12 bits, not 13"));
    let few = collapse(&wide.graph, &wide.weights, Chains { input: true, state: true }, 3, None);
    assert!(few.unwrap_err().contains("4 to 16"));
}

#[test]
fn widths_are_scanned() {
    let found = imported(&Options::default());
    let tried = scan(&found.network, &array("x"), Some(&[0; 30]), &Options::default());
    assert_eq!(tried.iter().map(|t| t.pre_bits).collect::<Vec<_>>(), SCAN.collect::<Vec<_>>());
    assert!(tried.iter().all(|t| t.accuracy.is_some() == t.agreement.is_ok()));
    assert!(tried.last().unwrap().agreement.as_ref().is_ok_and(|a| *a >= 0.9));
}

#[test]
fn wrong_arrays_are_refused_in_one_line() {
    let x = array("x");
    let refused = |options: &Options, x: &Array| import(&fixture(), x, options).unwrap_err().to_string();
    let usual = Options::default();
    let renamed = Options { renames: [("FC".to_string(), "classifier".to_string())].into(), ..usual.clone() };
    assert!(refused(&renamed, &x).contains("no array 'FC' but"));
    assert!(refused(&Options { activated: true, ..usual.clone() }, &x).contains("no result of a sigmoid"));
    assert!(refused(&Options { transposed: true, ..usual.clone() }, &x).contains("is expected"));
    assert!(refused(&usual, &Array::floats(vec![1, 2, 7], vec![0.0; 14]).unwrap()).contains("is expected"));
    assert!(refused(&Options { weight_bits: 3, ..usual.clone() }, &x).contains("from 4 to 16"));
    let nan = Array::floats(vec![1, 1, 5], vec![f32::NAN; 5]).unwrap();
    assert_eq!(refused(&usual, &nan).lines().count(), 1);
}

/// The pinned model with few rounds is what is made of the authors' integers.
#[test]
fn google30_is_multiplied_out() {
    let Some(data) = std::env::var_os("SIRNN_DATA") else { return };
    let [mut original, expected] =
        [include_str!("../examples/google30.toml"), include_str!("../examples/google30_collapsed.toml")]
            .map(|text| Description::parse(text).unwrap());
    let raw = std::fs::read(Path::new(&data).join("google30/weights_i8_12342.bin")).unwrap();
    let mut raw = raw.into_iter().map(|b| i64::from(b as i8));
    let mut weights = Weights::new();
    for (name, shape) in [
        ("W1", vec![32, 16]),
        ("W2", vec![16, 100]),
        ("U1", vec![100, 35]),
        ("U2", vec![35, 100]),
        ("Bg", vec![100]),
        ("Bh", vec![100]),
        ("FC", vec![100, 30]),
        ("FCbias", vec![30]),
    ] {
        let n = shape.iter().product();
        weights.insert(name.into(), Tensor::new(shape, raw.by_ref().take(n).collect()));
    }
    // Of the authors' program: neither is in the file.
    for (name, value) in [("zeta", 30498), ("nu", 22714)] {
        weights.insert(name.into(), Tensor::new(vec![1], vec![value]));
    }
    let chains = Chains { state: true, ..Chains::default() };
    let (graph, weights) = collapse(&original.graph, &weights, chains, 10, Some(9)).unwrap();
    let loops = graph.nodes.iter().filter(|n| matches!(n.op, Op::Scan(_)));
    assert_eq!(loops.count(), 1);
    original.graph = Graph { fits: expected.graph.fits.clone(), ..graph };
    assert_eq!(original.graph, expected.graph);
    let utterance = std::fs::read(Path::new(&data).join("google30/input_i8_99x32.bin")).unwrap();
    let x = Tensor::new(vec![99, 32], utterance.into_iter().map(|b| i64::from(b as i8)).collect());
    let typed = original.graph.infer(99).unwrap();
    let scores = evaluate(&typed, &weights, &[x]).remove(0).data;
    let theirs = std::fs::read(Path::new(&data).join("google30/scores_sirnn_floor_i8_30.bin")).unwrap();
    let first = |v: &[i64]| (0..v.len()).fold(0, |best, i| if v[i] > v[best] { i } else { best });
    assert_eq!(first(&scores), first(&theirs.into_iter().map(|b| i64::from(b as i8)).collect::<Vec<_>>()));
}
