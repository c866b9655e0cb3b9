//! `sirnn import` and what comes after it: models of networks that other programs trained, run by two parties.
//!
//! The files are reference data that is not shipped: `SIRNN_DATA` says where it is.

use sirnn::graph::Weights;
use sirnn::model::npy::{self, Npy, Value};
use sirnn::model::{Description, Items, Results};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of networks, or a word that the test is skipped.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("SIRNN_DATA").map(|d| Path::new(&d).join("onnx")).filter(|d| d.is_dir());
    if folder.is_none() {
        eprintln!("skipped: SIRNN_DATA names no folder with onnx/");
    }
    folder
}

/// An empty folder of a test.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sirnn-import-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn sirnn(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sirnn")).args(arguments).output().unwrap()
}

#[track_caller]
fn works(arguments: &[&str]) -> String {
    let output = sirnn(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The command is refused for its input, in lines that hold these words.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let output = sirnn(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{arguments:?}: {error}");
    for word in words {
        assert!(error.contains(word), "{arguments:?}: no '{word}' in: {error}");
    }
    assert!(error.lines().all(|line| line.starts_with("sirnn: ")), "{error}");
}

/// An array of an archive.
fn entry(archive: &Path, name: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn numbers(bytes: &[u8]) -> (Vec<usize>, Vec<f64>) {
    let array = Npy::parse(bytes).unwrap();
    let real = |v| match v {
        Value::Real(x) => x,
        Value::Whole(n) => n as f64,
    };
    (array.shape.clone(), array.values().map(real).collect())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What two parties compute is what the evaluator says, byte for byte; returns it.
#[track_caller]
fn run_both(model: &Path, items: &Path) -> (Vec<usize>, Vec<f64>) {
    let [clear, two] = ["clear.npy", "two.npy"].map(|name| model.with_extension(name));
    works(&["run", "--model", text(model), "--input", text(items), "--cleartext", "--output", text(&clear)]);
    works(&["run", "--model", text(model), "--input", text(items), "--output", text(&two)]);
    let [clear, two] = [clear, two].map(|path| std::fs::read(path).unwrap());
    assert!(clear == two, "{}: two parties and the evaluator differ", model.display());
    numbers(&clear)
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, |m, d| if d.is_nan() { f64::NAN } else { m.max(d) })
}

/// A network that clients feed `[x, -x]` and of whose result they take the sigmoid.
const PARTS: &str = r#"
format = 2
name = "parts"
steps = 4

[[input]]
name = "x"
shape = ["steps", 2]
bits = 16
scale = 8

[[node]]
name = "y"
op = "relu"
in = "x"
out = { bits = 16, scale = 8 }

[[output]]
name = "y"
reveal = "values"

[client]
reals = true

[[client.before.input]]
name = "raw"
shape = ["steps", 1]

[[client.before.node]]
name = "negative"
op = "add"
in = "raw"
terms = [{ minus = true }]

[[client.before.node]]
name = "both"
op = "concat"
in = ["raw", "negative"]
axis = 1

[[client.before.output]]
name = "x"
value = "both"

[[client.after.node]]
name = "p"
op = "table"
in = "y"
function = "sigmoid"

[[client.after.output]]
name = "y"
value = "p"
"#;

#[test]
fn parts_are_written_read_and_computed() {
    let description = Description::parse(PARTS).unwrap();
    assert_eq!(Description::parse(&description.to_toml()).unwrap(), description);
    let items = Items::from_csv("1,-2", &description).unwrap();
    assert_eq!((items.steps(), items.saturated()), (2, 0));
    assert_eq!(items.inputs(0..1)["x"], [256, -256, -512, 512]);
    let results = Results::evaluate(&description, &Weights::new(), &items).unwrap();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert_eq!(results.computed[0].values, [[sigmoid(1.0), 0.5, 0.5, sigmoid(2.0)]]);
    assert_eq!(results.computed[0].shape, [2, 2]);
    assert!(results.to_csv().starts_with("output,item,position,integer,value\ny,0,0:0,,0.73"));
    // Beyond the range: the nearest number in it.
    let items = Items::from_csv("300", &description).unwrap();
    assert_eq!((items.inputs(0..1)["x"].as_slice(), items.saturated()), (&[32767, -32768][..], 2));
    for (from, to, word) in [
        ("value = \"both\"", "value = \"raw\"", "the network expects"),
        ("function = \"sigmoid\"", "function = \"sigmoid2\"", "sigmoid2"),
        ("op = \"concat\"", "op = \"sigmoid\"", "client.before"),
        ("in = \"y\"\nfunction", "in = \"z\"\nfunction", "client.after"),
        ("reals = true", "reals = true\ntensors = { bytes = 99999999, digest = \"00\" }", "client.tensors"),
    ] {
        let text = PARTS.replacen(from, to, 1);
        assert_ne!(text, PARTS, "{from}");
        let error = Description::parse(&text).unwrap_err().to_string();
        assert!(error.contains(word) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn exported_networks_run_as_imported() {
    let Some(data) = data() else { return };
    let folder = folder("exports");
    for file in [
        "torch/lstm1_last.dynamo",
        "torch/gru2_bi_mean.dynbatch",
        "torch/lstm_seqfirst_softmax.ts",
        "keras/keras_gru_reset_after",
        "keras/keras_cnn_gru",
    ] {
        let archive = data.join(format!("{}.npz", file.split('.').next().unwrap()));
        let stem = file.replace(['/', '.'], "-");
        let (items, model) = (folder.join(format!("{stem}.npy")), folder.join(&stem));
        std::fs::write(&items, entry(&archive, "x")).unwrap();
        let network = data.join(format!("{file}.onnx"));
        works(&["import", text(&network), "--calibration", text(&items), "--out", text(&model)]);
        assert!(model.join("report.md").exists() && model.join("report.json").exists(), "{file}");
        let (_, found) = run_both(&model, &items);
        let difference = largest_difference(&found, &numbers(&entry(&archive, "y")).1);
        assert!(difference < 0.02, "{file}: differs by {difference}");
        works(&["show", "--model", text(&model)]);
        works(&["plan", "--model", text(&model), "--json"]);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_free_time_axis_stays_free() {
    let Some(data) = data() else { return };
    let folder = folder("time");
    let archive = data.join("rnnoise/rnnoise_ref.npz");
    let (items, short, model) = (folder.join("x.npy"), folder.join("short.npy"), folder.join("model"));
    std::fs::write(&items, entry(&archive, "x")).unwrap();
    let (_, x) = numbers(&entry(&archive, "x"));
    const STEPS: usize = 7;
    std::fs::write(&short, npy::reals(&[STEPS, 1, 42], &x[..STEPS * 42])).unwrap();
    let network = data.join("rnnoise/rnnoise.onnx");
    works(&["import", text(&network), "--calibration", text(&items), "--out", text(&model)]);
    let (shape, gains) = run_both(&model, &short);
    // The file's own batch axis, of length 1, is one of the result's.
    assert_eq!(shape, [1, STEPS, 1, 22]);
    let difference = largest_difference(&gains, &numbers(&entry(&archive, "gains")).1[..STEPS * 22]);
    assert!(difference < 0.02, "differs by {difference}");
    // More than four times the calibration's.
    let long = folder.join("long.npy");
    std::fs::write(&long, npy::reals(&[401, 1, 42], &vec![0.0; 401 * 42])).unwrap();
    refused(&["run", "--model", text(&model), "--input", text(&long), "--cleartext"], &["1 to 400"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_client_computes_its_part() {
    let Some(data) = data() else { return };
    let folder = folder("client");
    let silero = data.join("silero");
    let (model, network) = (folder.join("vad"), silero.join("silero_vad_16k_sequence.onnx"));
    let spectrum = "/stft/Sqrt_output_0";
    let calibration = format!("{spectrum}={}", text(&silero.join("calibration_stft_magnitude.npy")));
    works(&[
        "import",
        text(&network),
        "--client-until",
        spectrum,
        "--calibration",
        &calibration,
        "--outputs",
        "speech_probs",
        "--rate",
        "16000",
        "--context",
        "64",
        "--out",
        text(&model),
    ]);
    // The reference has the 64 samples before each chunk in front of it; users have the chunks.
    let archive = silero.join("reference.npz");
    let (_, frames) = numbers(&entry(&archive, "frames"));
    let chunks: Vec<f64> = frames.chunks(576).flat_map(|frame| frame[64..].to_vec()).collect();
    let (steps, all, some) = (frames.len() / 576, folder.join("all.npy"), folder.join("some.npy"));
    std::fs::write(&all, npy::reals(&[steps, 512], &chunks)).unwrap();
    std::fs::write(&some, npy::reals(&[3, 512], &chunks[40 * 512..43 * 512])).unwrap();
    let output = folder.join("speech.npy");
    works(&["run", "--model", text(&model), "--input", text(&all), "--cleartext", "--output", text(&output)]);
    let (shape, found) = numbers(&std::fs::read(&output).unwrap());
    assert_eq!(shape, [1, steps]);
    let (_, expected) = numbers(&entry(&archive, "speech_probs"));
    let same = found.iter().zip(&expected).filter(|(a, b)| (**a > 0.5) == (**b > 0.5)).count();
    println!(
        "{same} of {steps} chunks on the same side of one half, largest difference {}",
        largest_difference(&found, &expected)
    );
    assert!(same * 1000 >= steps * 990, "{same} of {steps}");
    let (shape, _) = run_both(&model, &some);
    assert_eq!(shape, [1, 3]);
    let recording = silero.join("librivox_0880.wav");
    works(&["run", "--model", text(&model), "--input", text(&recording), "--cleartext", "--output", text(&output)]);
    let speech = numbers(&std::fs::read(&output).unwrap()).1;
    assert!(speech.iter().any(|&p| p > 0.9) && speech.iter().any(|&p| p < 0.1));
    // Other rates are not resampled.
    let other = data.join("fsdd/wav/0_george_0.wav");
    refused(&["run", "--model", text(&model), "--input", text(&other), "--cleartext"], &["8000 samples per second"]);
    for words in ["the client computes in the clear before", "the client computes in the clear after", "16000 samples"]
    {
        assert!(works(&["show", "--model", text(&model), "--steps", "2"]).contains(words), "{words}");
    }
    // Another file of tensors is noticed.
    let tensors = model.join("client.safetensors");
    let mut bytes = std::fs::read(&tensors).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&tensors, bytes).unwrap();
    refused(&["show", "--model", text(&model)], &["client.safetensors", "not the one that the description states"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn normalised_items_are_the_clients_business() {
    let Some(data) = data() else { return };
    let folder = folder("normalise");
    let archive = data.join("torch/lstm1_last.npz");
    let (items, raw) = (folder.join("x.npy"), folder.join("raw.npy"));
    let (shape, x) = numbers(&entry(&archive, "x"));
    std::fs::write(&items, entry(&archive, "x")).unwrap();
    std::fs::write(&raw, npy::reals(&shape, &x.iter().map(|v| v * 4.0 + 10.0).collect::<Vec<_>>())).unwrap();
    let network = data.join("torch/lstm1_last.ts.onnx");
    let (plain, own) = (folder.join("plain"), folder.join("own"));
    works(&["import", text(&network), "--calibration", text(&items), "--out", text(&plain)]);
    works(&["import", text(&network), "--calibration", text(&raw), "--mean", "10", "--std", "4", "--out", text(&own)]);
    let output = folder.join("y.npy");
    let clear = |model: &Path, items: &Path| {
        works(&["run", "--model", text(model), "--input", text(items), "--cleartext", "--output", text(&output)]);
        numbers(&std::fs::read(&output).unwrap()).1
    };
    let difference = largest_difference(&clear(&plain, &items), &clear(&own, &raw));
    assert!(difference < 0.01, "differs by {difference}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_left_behind() {
    let Some(data) = data() else { return };
    let folder = folder("refusals");
    let network = data.join("torch/lstm1_last.ts.onnx");
    let archive = data.join("torch/lstm1_last.npz");
    let items = folder.join("x.npy");
    std::fs::write(&items, entry(&archive, "x")).unwrap();
    let (shape, mut x) = numbers(&entry(&archive, "x"));
    let out = folder.join("out");
    let import = |network: &Path, calibration: &Path, more: &[&str], words: &[&str]| {
        let basis = ["import", text(network), "--calibration", text(calibration), "--out", text(&out)];
        refused(&[&basis, more].concat(), words);
        assert!(!out.exists());
        assert!(
            std::fs::read_dir(&folder).unwrap().flatten().all(|e| !e.file_name().to_string_lossy().starts_with('.'))
        );
    };
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    import(&write("net.h5", b"\x89HDF\r\n\x1a\n"), &items, &[], &["export the network to ONNX"]);
    let count: usize = shape.iter().product();
    let wide = write("wide.npy", &npy::reals(&[1, count], &x));
    import(&network, &wide, &[], &["an array of shape"]);
    x[5] = f64::NAN;
    import(&network, &write("nan.npy", &npy::reals(&shape, &x)), &[], &["not finite"]);
    let labels = write("labels.npy", &npy::integers(&[2], &[0, 1]));
    import(&network, &items, &["--labels", text(&labels)], &["2 labels for"]);
    import(&network, &items, &["--outputs", "nothing"], &["'nothing': there is no such value"]);
    import(&network, &items, &["--bits", "weights=99"], &["2 to 24"]);
    import(&network, &items, &["--reveal", "all"], &["values, scores or class"]);
    // All at once.
    import(&network, &items, &["--bits", "weights=99", "--reveal", "all"], &["2 to 24", "values, scores or class"]);
    let refused_node = data.join("torch/op_lstm_peephole.onnx");
    import(&refused_node, &items, &[], &["sirnn: "]);
    // What is there and no model stays.
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "years of work").unwrap();
    let arguments = ["import", text(&network), "--calibration", text(&items), "--out", text(&out)];
    refused(&arguments, &["no model"]);
    assert!(out.join("thesis.txt").exists());
    std::fs::remove_file(out.join("thesis.txt")).unwrap();
    works(&arguments);
    // A model is replaced.
    works(&arguments);
    // Whole numbers of a text mean what `1.0` means.
    let line = |end: &str| vec![format!("1{end}"); count / shape[0]].join(",");
    let [whole, real] = [("whole.csv", ""), ("real.csv", ".0")].map(|(name, end)| write(name, line(end).as_bytes()));
    let [whole, real] =
        [whole, real].map(|path| works(&["run", "--model", text(&out), "--input", text(&path), "--cleartext"]));
    assert_eq!(whole, real);
    std::fs::remove_dir_all(folder).unwrap();
}
