//! Networks from ONNX files, that other programs wrote and ran, against what those programs computed.
//!
//! The files are reference data that is not shipped: `SIRNN_DATA` says where it is.

use sirnn::compile::{self, prove};
use sirnn::graph::{self, Graph};
use sirnn::import::fidelity::{Fidelity, compare};
use sirnn::import::items::{Items, items};
use sirnn::import::network::evaluate::evaluate;
use sirnn::import::network::{Network, Op};
use sirnn::import::onnx::{Dim, Model};
use sirnn::import::quantise::{Layer, Options, Quantised, Settings, quantise, quantise_layers};
use sirnn::import::ranges::Ranges;
use sirnn::import::recognise::{Port, Request, recognise};
use sirnn::import::search::{MAX_TRIALS, Search, search};
use sirnn::import::tensor::Tensor;
use sirnn::import::{arrays, check, float};
use sirnn::plan::planner::Policy;
use sirnn::program::{Goal, LinearForms, Profile};
use sirnn::run::ideal::Machine;
use sirnn_backends::ot;
use sirnn_backends::transport::Link;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The folder of models, or a word that the test is skipped.
fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("SIRNN_DATA").map(|d| Path::new(&d).join("onnx")).filter(|d| d.is_dir());
    if folder.is_none() {
        eprintln!("skipped: SIRNN_DATA names no folder with onnx/");
    }
    folder
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let pairs = a.as_floats().unwrap().iter().zip(b.as_floats().unwrap());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, |m, d| if d.is_nan() { f32::NAN } else { m.max(d) })
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    let difference = largest_difference(found, expected);
    assert!(difference <= 1e-4, "{what}: differs by {difference}");
}

/// Part `i` of the leading axis.
fn part(t: &Tensor, i: usize, keep: bool) -> Tensor {
    let run: usize = t.shape()[1..].iter().product();
    let mut shape = t.shape()[1..].to_vec();
    if keep {
        shape.insert(0, 1);
    }
    Tensor::floats(shape, t.as_floats().unwrap()[i * run..(i + 1) * run].to_vec()).unwrap()
}

fn run(model: &Model, input: Tensor) -> Vec<Tensor> {
    let wanted: Vec<&str> = model.graph.outputs.iter().map(String::as_str).collect();
    let given = HashMap::from([(model.graph.inputs[0].name.clone(), input)]);
    float::run(model, given, &wanted).unwrap()
}

/// Every model of a folder whose reference holds the input `x` and the output `y`.
fn assert_folder_agrees(name: &str) {
    let Some(folder) = folder() else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let file = path.file_name().unwrap().to_str().unwrap();
        let stem = file.split('.').next().unwrap();
        // The unrolled one and the one with weights outside are `lstm1_last` once more, with other weights.
        let reference = path.with_file_name(format!("{stem}.npz"));
        if !reference.exists() {
            continue;
        }
        let model = Model::load(&path).unwrap();
        let x = arrays::npz(&reference, "x").unwrap();
        let y = arrays::npz(&reference, "y").unwrap();
        let rank = model.graph.inputs[0].shape.as_ref().unwrap().len();
        if x.rank() == rank {
            let found = run(&model, x.clone());
            assert_close(&found[0], &y, file);
            for (result, key) in found[1..].iter().zip(["yh", "yc"]) {
                assert_close(result, &arrays::npz(&reference, key).unwrap(), file);
            }
        } else {
            for item in 0..x.shape()[0] {
                assert_close(&run(&model, part(&x, item, false))[0], &part(&y, item, false), file);
            }
        }
        seen += 1;
    }
    assert!(seen >= 5, "{name}: only {seen} models");
}

#[test]
fn pytorch_exports_agree_with_their_references() {
    assert_folder_agrees("torch");
}

#[test]
fn keras_exports_agree_with_their_references() {
    assert_folder_agrees("keras");
}

#[test]
fn weights_outside_of_the_file_are_read() {
    let Some(folder) = folder() else { return };
    let path = folder.join("torch/dyn_default.onnx");
    let model = Model::load(&path).unwrap();
    let x = Tensor::floats(vec![1, 20, 8], (0..160).map(|i| (i as f32 * 0.37).sin()).collect()).unwrap();
    let y = run(&model, x);
    assert_eq!(y[0].shape(), [1, 5]);
    assert!(y[0].as_floats().unwrap().iter().all(|v| v.is_finite() && *v != 0.0));

    let alone = std::env::temp_dir().join(format!("sirnn-onnx-{}", std::process::id()));
    std::fs::create_dir_all(&alone).unwrap();
    let copy = alone.join("dyn_default.onnx");
    std::fs::copy(&path, &copy).unwrap();
    let error = Model::load(&copy).unwrap_err().to_string();
    assert!(error.contains("dyn_default.onnx.data") && error.contains("beside the model file"), "{error}");
    assert_eq!(error.lines().count(), 1);
    std::fs::remove_dir_all(alone).unwrap();
}

#[test]
fn the_unrolled_cell_is_computed() {
    let Some(folder) = folder() else { return };
    let model = Model::load(&folder.join("torch/dyn_cell_ts.onnx")).unwrap();
    let x = Tensor::floats(vec![1, 20, 8], vec![0.5; 160]).unwrap();
    assert_eq!(run(&model, x)[0].shape(), [1, 5]);
    assert_eq!(check::refusals(&model), []);
}

#[test]
fn silero_agrees_as_a_sequence_and_step_by_step() {
    let Some(folder) = folder() else { return };
    let silero = folder.join("silero");
    let reference = |name: &str| arrays::npz(&silero.join("reference.npz"), name).unwrap();
    let zeros = |shape: Vec<usize>| Tensor::floats(shape.clone(), vec![0.0; shape.iter().product()]).unwrap();

    let model = Model::load(&silero.join("silero_vad_16k_sequence.onnx")).unwrap();
    assert_eq!(model.graph.inputs[0].shape, Some(vec![Dim::Free("sequence_length".into()), Dim::Fixed(576)]));
    let states =
        || HashMap::from([("h".to_string(), zeros(vec![1, 1, 128])), ("c".to_string(), zeros(vec![1, 1, 128]))]);
    let mut given = states();
    given.insert("input".into(), reference("frames"));
    let wanted = ["speech_probs", "hn", "cn", "/stft/Sqrt_output_0"];
    let found = float::run(&model, given, &wanted).unwrap();
    let magnitude = reference("stft_magnitude");
    for (found, name) in found.iter().zip(["speech_probs", "hn", "cn", "stft_magnitude"]) {
        assert_close(found, &reference(name), name);
    }

    // Cut at the spectrum: the frames are not needed.
    let mut given = states();
    given.insert("/stft/Sqrt_output_0".into(), magnitude);
    assert_close(&float::run(&model, given, &wanted[..1]).unwrap()[0], &reference("speech_probs"), "cut");

    // Step by step, with branches on the rate and the state from call to call.
    let model = Model::load(&silero.join("silero_vad_16k_op15.onnx")).unwrap();
    let rate = Tensor::new(Vec::new(), sirnn::import::tensor::Data::Int(vec![16_000])).unwrap();
    let frames = reference("frames");
    let expected = reference("speech_probs");
    let mut state = zeros(vec![2, 1, 128]);
    for step in 0..40 {
        let given = HashMap::from([
            ("input".to_string(), part(&frames, step, true)),
            ("state".to_string(), state),
            ("sr".to_string(), rate.clone()),
        ]);
        let mut found = float::run(&model, given, &["output", "stateN"]).unwrap();
        state = found.remove(1);
        let difference = (found[0].as_floats().unwrap()[0] - expected.as_floats().unwrap()[step]).abs();
        assert!(difference <= 1e-4, "step {step}: differs by {difference}");
    }
}

#[test]
fn legere_agrees() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("legere");
    let model = Model::load(&folder.join("legere_w128.onnx")).unwrap();
    let image = arrays::npz(&folder.join("reference.npz"), "image").unwrap();
    let logits = arrays::npz(&folder.join("reference.npz"), "logits").unwrap();
    for item in 0..image.shape()[0] {
        let found = &run(&model, part(&image, item, false))[0];
        assert_close(found, &part(&logits, item, false), "logits");
    }
}

#[test]
fn rnnoise_agrees() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("rnnoise");
    let model = Model::load(&folder.join("rnnoise.onnx")).unwrap();
    let reference = |name: &str| arrays::npz(&folder.join("rnnoise_ref.npz"), name).unwrap();
    let found = run(&model, reference("x"));
    assert_close(&found[0], &reference("gains"), "gains");
    assert_close(&found[1], &reference("vad"), "vad");
}

#[test]
fn spoken_digits_agree() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("fsdd");
    let model = Model::load(&folder.join("fsdd_cnn_gru.onnx")).unwrap();
    let reference = |name: &str| arrays::npz(&folder.join("reference.npz"), name).unwrap();
    assert_close(&run(&model, reference("logmel"))[0], &reference("logits"), "logits");
}

#[test]
fn what_cannot_be_imported_is_refused_with_a_reason() {
    let Some(folder) = folder() else { return };
    let refusals = |name: &str| {
        let model = Model::load(&folder.join(format!("torch/{name}.onnx"))).unwrap();
        check::refusals(&model).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (name, word) in [
        ("op_lstm_peephole", "peepholes"),
        ("op_lstm_clip", "attribute clip"),
        ("op_lstm_input_forget", "input_forget"),
        ("op_gru_bi_lens", "--lengths"),
    ] {
        let found = refusals(name);
        assert!(found.len() == 1 && found[0].contains(word) && found[0].starts_with("node '"), "{name}: {found:?}");
    }
    for name in ["op_gru_lbr0", "op_lstm_init", "op_lstm_layout1", "op_lstm_hardsigmoid", "gru2_bi_mean.dynbatch"] {
        assert!(refusals(name).is_empty(), "{name}");
    }
}

#[test]
fn files_that_are_no_networks_are_refused_in_one_line() {
    let folder = std::env::temp_dir().join(format!("sirnn-no-onnx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("net.onnx");
    for (content, word) in [
        (&b""[..], "empty"),
        (b"PK\x03\x04rest", "export the network to ONNX"),
        (b"\x89HDF\r\n\x1a\n", "export the network to ONNX"),
        (b"\x80\x02}q\x00.", "export the network to ONNX"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "no ONNX file"),
        (b"just a text", "no ONNX file"),
        // A graph of 2^60 bytes.
        (b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x10", "no ONNX file"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = Model::load(&path).unwrap_err().to_string();
        assert!(error.contains(word) && error.lines().count() == 1, "{error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(Model::load(&path).is_err());
}

/// The network of a file for the items of an array, computed for each; the outputs of the first network output.
fn through_network(model: &Model, input: &str, array: &Tensor, request: Request) -> Vec<Vec<Tensor>> {
    let ports = model.graph.inputs.iter().find(|i| i.name == input).unwrap();
    let Items { port, items } = items(ports, array).unwrap();
    let request = Request { ports: vec![port], ..request };
    let network = recognise(model, &request).unwrap_or_else(|refusals| panic!("{refusals:?}"));
    items.iter().map(|item| evaluate(&network, std::slice::from_ref(item), &mut |_, _| {}).unwrap()).collect()
}

/// The exports of PyTorch and Keras that can be imported and have references: names, models, files of references.
fn exports(folder: &Path) -> Vec<(String, Model, PathBuf)> {
    let mut found = Vec::new();
    for family in ["torch", "keras"] {
        for entry in std::fs::read_dir(folder.join(family)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap().to_string();
            let reference = path.with_file_name(format!("{}.npz", file.split('.').next().unwrap()));
            if !file.ends_with(".onnx") || !reference.exists() {
                continue;
            }
            let model = Model::load(&path).unwrap();
            if check::refusals(&model).is_empty() {
                found.push((file, model, reference));
            }
        }
    }
    found
}

#[test]
fn recognised_networks_compute_what_the_files_do() {
    let Some(folder) = folder() else { return };
    let mut seen = 0;
    for (file, model, reference) in exports(&folder) {
        let (x, y) = (arrays::npz(&reference, "x").unwrap(), arrays::npz(&reference, "y").unwrap());
        let name = model.graph.inputs[0].name.clone();
        let found = through_network(&model, &name, &x, Request::default());
        let flat = found.iter().flat_map(|r| r[0].as_floats().unwrap().to_vec()).collect();
        let flat = Tensor::floats(y.shape().to_vec(), flat).unwrap();
        assert_close(&flat, &y, &file);
        seen += 1;
    }
    assert!(seen >= 25, "only {seen} models");
}

#[test]
fn recognised_speech_and_text_networks_compute_what_the_files_do() {
    let Some(folder) = folder() else { return };
    let read = |file: &str, name: &str| arrays::npz(&folder.join(file), name).unwrap();
    let flat = |found: Vec<Vec<Tensor>>, output: usize, like: &Tensor| {
        let values = found.iter().flat_map(|r| r[output].as_floats().unwrap().to_vec()).collect();
        Tensor::floats(like.shape().to_vec(), values).unwrap()
    };

    let model = Model::load(&folder.join("legere/legere_w128.onnx")).unwrap();
    let found = through_network(&model, "image", &read("legere/reference.npz", "image"), Request::default());
    let logits = read("legere/reference.npz", "logits");
    assert_close(&flat(found, 0, &logits), &logits, "legere");

    let model = Model::load(&folder.join("fsdd/fsdd_cnn_gru.onnx")).unwrap();
    let found = through_network(&model, "logmel", &read("fsdd/reference.npz", "logmel"), Request::default());
    let logits = read("fsdd/reference.npz", "logits");
    assert_close(&flat(found, 0, &logits), &logits, "fsdd");

    let model = Model::load(&folder.join("rnnoise/rnnoise.onnx")).unwrap();
    let found = through_network(&model, "x", &read("rnnoise/rnnoise_ref.npz", "x"), Request::default());
    for (output, name) in ["gains", "vad"].iter().enumerate() {
        let expected = read("rnnoise/rnnoise_ref.npz", name);
        assert_close(&flat(found.clone(), output, &expected), &expected, name);
    }

    // The private part of the voice detector starts at the spectrum; its initial states are zeros.
    let model = Model::load(&folder.join("silero/silero_vad_16k_sequence.onnx")).unwrap();
    let spectrum = read("silero/reference.npz", "stft_magnitude");
    let zeros = Tensor::floats(vec![1, 1, 128], vec![0.0; 128]).unwrap();
    let port = Port { name: "/stft/Sqrt_output_0".into(), shape: spectrum.shape().to_vec(), batch: None };
    let set = [("h".to_string(), zeros.clone()), ("c".to_string(), zeros)].into();
    let request = Request { ports: vec![port], set, outputs: vec!["speech_probs".into()] };
    let network = recognise(&model, &request).unwrap();
    let found = evaluate(&network, &[spectrum], &mut |_, _| {}).unwrap();
    assert_close(&found[0], &read("silero/reference.npz", "speech_probs"), "silero");
}

fn network_for(model: &Model, input: &str, array: &Tensor) -> (Network, Vec<Vec<Tensor>>) {
    let Items { port, items } = items(model.graph.inputs.iter().find(|i| i.name == input).unwrap(), array).unwrap();
    let network = recognise(model, &Request { ports: vec![port], ..Request::default() }).unwrap();
    (network, items.into_iter().map(|item| vec![item]).collect())
}

/// Quantises with the ranges of the first items, on which nothing may wrap, and computes all.
fn quantised(network: &Network, items: &[Vec<Tensor>], calibration: usize, options: Options) -> Fidelity {
    let ranges = Ranges::observe(network, &items[..calibration]).unwrap();
    let quantised = quantise(network, &ranges, options).unwrap();
    compare(network, &quantised, &items[..calibration]).unwrap().without_wraps().unwrap();
    compare(network, &quantised, items).unwrap()
}

/// The largest difference of an output.
fn worst(fidelity: &Fidelity, output: usize) -> f64 {
    let pairs = fidelity.outputs.iter().flat_map(|item| item[output].float.iter().zip(&item[output].fixed));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn argmax(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[test]
fn quantised_spoken_digits_keep_their_classes() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("fsdd");
    let model = Model::load(&folder.join("fsdd_cnn_gru.onnx")).unwrap();
    let reference = |name: &str| arrays::npz(&folder.join("reference.npz"), name).unwrap();
    let (network, items) = network_for(&model, "logmel", &reference("logmel"));
    let found = quantised(&network, &items, 60, Options::default());
    let sirnn::import::tensor::Data::Int(labels) = reference("labels").data().clone() else { panic!("labels") };
    let right = found.outputs.iter().zip(labels).filter(|(o, label)| argmax(&o[0].fixed) as i64 == *label).count();
    println!("fsdd: {right} of 300, largest difference {:.4}", worst(&found, 0));
    assert!(right * 1000 >= 300 * 985, "{right} of 300");
}

#[test]
fn quantised_noise_gains_and_text_stay() {
    let Some(folder) = folder() else { return };
    let model = Model::load(&folder.join("rnnoise/rnnoise.onnx")).unwrap();
    let x = arrays::npz(&folder.join("rnnoise/rnnoise_ref.npz"), "x").unwrap();
    let (network, items) = network_for(&model, "x", &x);
    let found = quantised(&network, &items, 1, Options::default());
    for (output, name) in ["gains", "vad"].iter().enumerate() {
        let worst = worst(&found, output);
        println!("rnnoise {name}: largest difference {worst:.4}");
        assert!(worst <= 0.02, "{name}: differs by {worst}");
    }

    let model = Model::load(&folder.join("legere/legere_w128.onnx")).unwrap();
    let image = arrays::npz(&folder.join("legere/reference.npz"), "image").unwrap();
    let (network, items) = network_for(&model, "image", &image);
    let found = quantised(&network, &items, items.len(), Options::default());
    println!("legere: largest difference {:.4}", worst(&found, 0));
    for (i, outputs) in found.outputs.iter().enumerate() {
        let path = |logits: &[f64]| logits.chunks(122).map(argmax).collect::<Vec<_>>();
        assert_eq!(path(&outputs[0].fixed), path(&outputs[0].float), "image {i}");
    }
}

/// The private part of the voice detector starts at the spectrum; its initial states are zeros.
fn voice_detector(model: &Model, item: &Tensor) -> Network {
    let zeros = Tensor::floats(vec![1, 1, 128], vec![0.0; 128]).unwrap();
    let port = Port { name: "/stft/Sqrt_output_0".into(), shape: item.shape().to_vec(), batch: None };
    let set = [("h".to_string(), zeros.clone()), ("c".to_string(), zeros)].into();
    recognise(model, &Request { ports: vec![port], set, outputs: vec!["speech_probs".into()] }).unwrap()
}

#[test]
fn the_quantised_voice_detector_decides_as_in_floats() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("silero");
    let model = Model::load(&folder.join("silero_vad_16k_sequence.onnx")).unwrap();
    let clips = arrays::npy(&folder.join("calibration_stft_magnitude.npy")).unwrap();
    let clips: Vec<_> = (0..clips.shape()[0]).map(|i| vec![part(&clips, i, false)]).collect();
    let network = voice_detector(&model, &clips[0][0]);
    let ranges = Ranges::observe(&network, &clips).unwrap();
    let recording = vec![arrays::npz(&folder.join("reference.npz"), "stft_magnitude").unwrap()];
    let longer = voice_detector(&model, &recording[0]);
    for weights in [8, 10] {
        let options = Options { weights, max_steps: Some(480), ..Options::default() };
        let on_clips = compare(&network, &quantise(&network, &ranges, options).unwrap(), &clips).unwrap();
        on_clips.without_wraps().unwrap();
        let quantised = quantise(&longer, &ranges, options).unwrap();
        let on_recording = compare(&longer, &quantised, std::slice::from_ref(&recording)).unwrap();
        on_recording.without_wraps().unwrap();
        for (what, found) in [("clips", on_clips), ("recording", on_recording)] {
            let pairs = || found.outputs.iter().flat_map(|item| item[0].float.iter().zip(&item[0].fixed));
            let same = pairs().filter(|(a, b)| (**a > 0.5) == (**b > 0.5)).count();
            let (all, worst) = (pairs().count(), worst(&found, 0));
            println!("silero, {weights} bits, {what}: {same} of {all} chunks, largest difference {worst:.4}");
            // The coarse weights are here for the figure alone.
            assert!(weights == 8 || same * 1000 >= all * 995, "{what}: {same} of {all}");
        }
    }
}

#[test]
fn quantised_exports_stay_close() {
    let Some(folder) = folder() else { return };
    let mut seen = 0;
    for (file, model, reference) in exports(&folder) {
        // A logarithm of softmax is the client's business: it gets the scores.
        if file.starts_with("layernorm_silu_gru") {
            continue;
        }
        let x = arrays::npz(&reference, "x").unwrap();
        let (network, items) = network_for(&model, &model.graph.inputs[0].name, &x);
        // With weights so fine that what is left is the error of activations, and with the usual ones.
        for (weights, bound) in [(16, 0.001), (10, 0.025)] {
            let options = Options { weights, ..Options::default() };
            let ranges = Ranges::observe(&network, &items).unwrap();
            let quantised = quantise(&network, &ranges, options).unwrap_or_else(|e| panic!("{file}: {e}"));
            let found = compare(&network, &quantised, &items).unwrap();
            found.without_wraps().unwrap_or_else(|e| panic!("{file}: {e}"));
            let worst = (0..network.outputs.len()).map(|output| worst(&found, output)).fold(0.0, f64::max);
            println!("{file}, {weights} bits: largest difference {worst:.5}");
            assert!(worst <= bound, "{file}, {weights} bits: differs by {worst}");
        }
        seen += 1;
    }
    assert!(seen >= 24, "only {seen} models");
}

/// Two parties compute, bit for bit, what the graph of integers says: on the ideal machine, every call checked.
fn two_parties_agree(network: &Network, quantised: &Quantised, item: &[Tensor], what: &str) {
    let graph = Graph { fits: prove(&quantised.graph, &quantised.weights), ..quantised.graph.clone() };
    let typed = graph.infer(quantised.steps(network)).unwrap();
    let inputs = quantised.inputs(item).unwrap();
    let want = graph::evaluate(&typed, &quantised.weights, &inputs);
    let request = compile::Request { items: 1, steps: typed.steps, lengths: None };
    for tables in [false, true] {
        let options = compile::Options { tables, watch: Vec::new() };
        let compiled = compile::compile(&graph, &request, Profile::default(), &options).unwrap();
        let mut given = compiled.server_inputs(&quantised.weights);
        given.extend(
            graph
                .inputs
                .iter()
                .zip(&inputs)
                .map(|(input, x)| (input.name.clone(), x.data.iter().map(|&v| v.into()).collect())),
        );
        let got: HashMap<_, _> = Machine::new(&compiled.program, 7, true).run(&given).unwrap().into_iter().collect();
        for (output, want) in graph.outputs.iter().zip(&want) {
            let want: Vec<i128> = want.data.iter().map(|&v| v.into()).collect();
            assert_eq!(got[&output.name], want, "{what}, tables {tables}, output '{}'", output.name);
        }
    }
}

#[test]
fn two_parties_compute_quantised_networks() {
    let Some(folder) = folder() else { return };
    let clamped = Options { clamp: Some(8.0), ..Options::default() };
    for (file, options) in [
        ("torch/lstm1_last.ts", Options::default()),
        ("torch/lstm1_last.ts", clamped),
        ("torch/op_lstm_init", Options::default()),
        ("torch/rnn_relu_last.ts", Options { weights: 8, activations: 14, ..Options::default() }),
        ("torch/gru2_bi_mean.dynbatch", Options::default()),
        ("keras/keras_cnn_gru", Options::default()),
    ] {
        let model = Model::load(&folder.join(format!("{file}.onnx"))).unwrap();
        let x = arrays::npz(&folder.join(format!("{}.npz", file.split('.').next().unwrap())), "x").unwrap();
        let (network, items) = network_for(&model, &model.graph.inputs[0].name, &x);
        let ranges = Ranges::observe(&network, &items).unwrap();
        let quantised = quantise(&network, &ranges, options).unwrap();
        two_parties_agree(&network, &quantised, &items[0], file);
    }
}

#[test]
fn a_layer_has_widths_of_its_own() {
    let Some(folder) = folder() else { return };
    let model = Model::load(&folder.join("keras/keras_cnn_gru.onnx")).unwrap();
    let x = arrays::npz(&folder.join("keras/keras_cnn_gru.npz"), "x").unwrap();
    let (network, items) = network_for(&model, &model.graph.inputs[0].name, &x);
    let ranges = Ranges::observe(&network, &items).unwrap();
    let name = network.nodes.iter().find(|n| matches!(n.op, Op::Conv(_))).unwrap().name.clone();
    let with = |name: &str, layer| {
        let settings = Settings { options: Options::default(), layers: [(name.to_string(), layer)].into() };
        quantise_layers(&network, &ranges, &settings)
    };
    let bits =
        |q: &Quantised| q.weights.values().map(|t| t.data.iter().map(|v| v.abs()).max().unwrap()).collect::<Vec<_>>();
    let all = quantise(&network, &ranges, Options::default()).unwrap();
    let one = with(&name, Layer { weights: Some(4), ..Layer::default() }).unwrap();
    let narrower = bits(&all).iter().zip(bits(&one)).filter(|(a, b)| **a > 31 && *b <= 7).count();
    assert_eq!(narrower, 1, "{name}");
    assert!(with("nowhere", Layer::default()).unwrap_err().contains("'nowhere'"));
    assert!(with(&name, Layer { weights: Some(1), ..Layer::default() }).is_err());
    // The same network, ranges and widths give the same integers.
    let again = quantise(&network, &ranges, Options::default()).unwrap();
    assert_eq!((&again.graph, &again.weights), (&all.graph, &all.weights));
}

#[test]
fn the_search_finds_narrower_weights_that_agree() {
    let Some(folder) = folder() else { return };
    let model = Model::load(&folder.join("keras/keras_lstm.onnx")).unwrap();
    let x = arrays::npz(&folder.join("keras/keras_lstm.npz"), "x").unwrap();
    let (network, items) = network_for(&model, &model.graph.inputs[0].name, &x);
    let ranges = Ranges::observe(&network, &items).unwrap();
    let policy = Policy {
        goal: Goal::Bytes,
        link: Link::LAN,
        backend: Some(ot::lookup("iknp").unwrap()),
        fuse: Some(false),
        lanes: Some(1),
        linear: LinearForms::Cot,
    };
    let find =
        |agreement| search(&network, &ranges, &items, &Settings::default(), Search { agreement, batch: 1, policy });
    let found = find(1.0).unwrap();
    assert_eq!(found.fidelity.agreement(), 1.0);
    assert!(found.trials.len() <= MAX_TRIALS);
    // Of all that agree and were planned none costs less than what was found.
    let agree = || found.trials.iter().filter(|t| t.agreement == 1.0).filter_map(|t| Some((t, t.planned?.bytes)));
    let least = agree().map(|(_, bytes)| bytes).min().unwrap();
    assert!(agree().any(|(t, bytes)| t.settings == found.settings && bytes == least));
    let own = agree().find(|(t, _)| t.settings == Settings { options: t.settings.options, ..Settings::default() });
    assert!(own.is_some_and(|(_, bytes)| bytes >= least));
    assert_eq!(find(1.0).unwrap().settings, found.settings);
    assert!(find(2.0).is_err());
}
