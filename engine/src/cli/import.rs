//! `sirnn import`: a model out of a trained network in floats.

use super::Failure;
use super::plan::revealed;
use super::speeds;
use clap::Args;
use sirnn::compile::Request;
use sirnn::graph::Reveal;
use sirnn::import::arrays;
use sirnn::import::convert::{Imported, Settings, convert};
use sirnn::import::onnx::Model as FileModel;
use sirnn::import::quantise::{Layer, Options};
use sirnn::import::report::{Cost, Report, measure};
use sirnn::import::search::Search;
use sirnn::import::tensor::{Data, Tensor};
use sirnn::model::Description;
use sirnn::model::weights::check_target;
use sirnn::plan::choice::Objective;
use sirnn::plan::planner::{self, Policy, Task};
use sirnn::program::LinearForms;
use sirnn::service::local::print_line;
use sirnn_backends::transport::Link;
use std::path::{Path, PathBuf};

/// Batches whose cost the report tells.
const BATCHES: [usize; 2] = [1, 64];

/// Make a model of a trained network: an ONNX file, and a few items that are like those it will see
///
/// The network's real numbers become integers. Which formats they need is seen on the calibration items, so these should be
/// typical: some dozens are enough. The result is a model folder for `serve`, `run`, `plan` and `show`, with a report of how close its
/// answers are to those of the file (report.md, report.json).
#[derive(Args)]
#[command(after_help = "\
Examples:
  sirnn check net.onnx                                           # what of it cannot be imported, if anything
  sirnn import net.onnx --calibration x.npy --out models/mine
  sirnn import net.onnx --calibration x.npy --labels y.npy --reveal class --classes yes,no --out models/mine
  sirnn run --model models/mine --input x.npy --output y.npy

  # The client normalises its items itself, and the model's folder says how:
  sirnn import net.onnx --calibration raw.npy --mean mean.npy --std std.npy --out models/mine

  # Everything up to a tensor runs at the client, in the clear; what it computes is public:
  sirnn import vad.onnx --client-until /stft/Sqrt_output_0 --calibration frames.npy --outputs speech_probs --out models/vad

An array has the items first: [items, ...]. If it has as many axes as the file's input, its items lie along the batch axis; if
the file has no batch axis, it is one item.")]
pub(super) struct Import {
    /// An ONNX file; weights outside of it have to be beside it
    #[arg(value_name = "MODEL.onnx")]
    file: PathBuf,
    /// Items like those that the network will see (.npy, .csv); of several inputs NAME=FILE for each
    #[arg(long, value_name = "[NAME=]FILE", required = true)]
    calibration: Vec<String>,
    /// The folder to write; a model that is there is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The right classes of the calibration items (.npy, or one number a line), for the report's accuracy
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Names of the classes: a,b,c, or a file with one a line
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    /// Where calibration items have different numbers of time steps: a file with one number per line
    #[arg(long, value_name = "FILE")]
    lengths: Option<PathBuf>,
    /// Bits of weights (2 to 24) and of activations (4 to 16): fewer cost less, more are closer to the file
    #[arg(long, value_name = "weights=N,activations=N", default_value = "weights=10,activations=16")]
    bits: String,
    /// Bits of one layer, by the name that `show` prints for its node or its loop; repeatable
    #[arg(long, value_name = "NAME:weights=N,activations=N")]
    layer: Vec<String>,
    /// Find the cheapest widths with which the classes agree with the file's in this share of the cases, 0 to 1
    #[arg(long, value_name = "AGREEMENT")]
    search: Option<f64>,
    /// An input's value, the same for all clients: a number or a .npy file. Initial states are zeros where nothing is said
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// What clients learn of an output (without a name: of all): values, scores (and the class), or class alone
    #[arg(long, value_name = "[NAME=]WHAT")]
    reveal: Vec<String>,
    /// The outputs, comma-separated (default: all of the file)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    outputs: Vec<String>,
    /// The most time steps that an item may have (default: four times those of the calibration items)
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// The client computes everything up to this tensor itself, in the clear; what it needs for that becomes public
    #[arg(long, value_name = "TENSOR")]
    client_until: Vec<String>,
    /// The network begins at this tensor: the client brings it, however it comes by it
    #[arg(long, value_name = "TENSOR")]
    from: Vec<String>,
    /// The client subtracts this from its items: a number, numbers a,b,c along the last axis, or a .npy file
    #[arg(long, value_name = "MEAN")]
    mean: Option<String>,
    /// Then it divides by this
    #[arg(long, value_name = "DEVIATION")]
    std: Option<String>,
    /// Items may be recordings (.wav, 16 bits, one channel) of so many samples per second, which fill the input in order
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// The first so many elements of every time step repeat the last ones of the step before: the client puts them there
    #[arg(long, value_name = "N", default_value_t = 0)]
    context: usize,
    /// Write the model even if values were wrapped on the calibration items: its answers are wrong then
    #[arg(long)]
    allow_wraps: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// `NAME=REST`.
fn named(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, rest)) if !Path::new(text).exists() => (Some(name), rest),
        _ => (None, text),
    }
}

/// Numbers of a text file: an item per line.
fn csv(path: &Path) -> Result<Tensor, String> {
    let place = path.display();
    let bytes = sirnn::run::file::read(path, 1 << 30).map_err(|e| format!("{place}: {e}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|e| format!("{place}: {e}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let row: Result<Vec<f32>, _> = line.split(',').map(|t| t.trim().parse()).collect();
        rows.push(row.map_err(|_| format!("{place}: line {}: not numbers with commas between them", i + 1))?);
    }
    let width = rows.first().map_or(0, Vec::len);
    if let Some(i) = rows.iter().position(|r| r.len() != width) {
        return Err(format!("{place}: row {}: {} numbers, the first has {width}", i + 1, rows[i].len()));
    }
    Tensor::floats(vec![rows.len(), width], rows.concat()).map_err(|e| format!("{place}: {e}"))
}

/// An array of a file.
fn array(path: &Path) -> Result<Tensor, String> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => arrays::npy(path).map_err(|e| e.to_string()),
        Some("csv" | "txt") => csv(path),
        _ => Err(format!("{}: arrays are read from .npy and .csv files", path.display())),
    }
}

/// A number, some along the last axis, or an array.
fn values(text: &str) -> Result<Tensor, String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|t| t.trim().parse::<f32>()).collect();
    match numbers {
        Ok(numbers) if numbers.iter().any(|n| !n.is_finite()) => Err(format!("{text}: not a finite number")),
        Ok(numbers) if numbers.len() == 1 => Tensor::floats(Vec::new(), numbers),
        Ok(numbers) => Tensor::floats(vec![numbers.len()], numbers),
        Err(_) => array(Path::new(text)),
    }
}

/// `weights=10,activations=16`.
fn bits(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for part in text.split(',') {
        let value = |text: &str| text.parse::<u32>().map_err(|_| format!("--bits {part}: {text} is no number"));
        match part.trim().split_once('=') {
            Some(("weights", n)) => options.weights = value(n)?,
            Some(("activations", n)) => options.activations = value(n)?,
            _ => return Err(format!("--bits {part}: weights=N or activations=N is expected")),
        }
    }
    if !(2..=24).contains(&options.weights) || !(4..=16).contains(&options.activations) {
        return Err(format!("--bits {text}: weights have 2 to 24 bits, activations 4 to 16"));
    }
    Ok(options)
}

/// `NAME:weights=12,activations=14`.
fn layer(text: &str) -> Result<(String, Layer), String> {
    let wrong = || format!("--layer {text}: NAME:weights=N,activations=N is expected");
    let (name, widths) = text.rsplit_once(':').ok_or_else(wrong)?;
    let mut layer = Layer::default();
    for part in widths.split(',') {
        let (what, n) = part.trim().split_once('=').ok_or_else(wrong)?;
        let n = Some(n.parse().map_err(|_| wrong())?);
        match what {
            "weights" => layer.weights = n,
            "activations" => layer.activations = n,
            _ => return Err(wrong()),
        }
    }
    Ok((name.to_string(), layer))
}

fn reveal(text: &str) -> Result<(Option<String>, Reveal), String> {
    let (name, what) = text.split_once('=').map_or((None, text), |(name, what)| (Some(name.to_string()), what));
    let what = match what {
        "values" => Reveal::Values,
        "scores" => Reveal::Scores,
        "class" => Reveal::Class,
        _ => return Err(format!("--reveal {text}: values, scores or class is expected")),
    };
    Ok((name, what))
}

/// Whole numbers of a file, for labels and lengths.
fn whole(path: &Path) -> Result<Vec<usize>, String> {
    let place = path.display();
    let text = |path: &Path| -> Result<Vec<f32>, String> { Ok(csv(path)?.as_floats()?.to_vec()) };
    let numbers: Vec<f64> = if path.extension().is_some_and(|e| e == "npy") {
        match arrays::npy(path).map_err(|e| e.to_string())?.data() {
            Data::Int(v) => v.iter().map(|&v| v as f64).collect(),
            Data::Float(v) => v.iter().map(|&v| f64::from(v)).collect(),
            Data::Bool(v) => v.iter().map(|&v| f64::from(u8::from(v))).collect(),
        }
    } else {
        text(path)?.into_iter().map(f64::from).collect()
    };
    let number = |v: f64| {
        if v >= 0.0 && v.fract() == 0.0 { Ok(v as usize) } else { Err(format!("{place}: {v} is no class or length")) }
    };
    numbers.into_iter().map(number).collect()
}

fn classes(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = if Path::new(text).is_file() {
        let bytes = sirnn::run::file::read(Path::new(text), 1 << 20).map_err(|e| format!("{text}: {e}"))?;
        let content = String::from_utf8(bytes).map_err(|e| format!("{text}: {e}"))?;
        content.trim_start_matches('\u{feff}').lines().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect()
    } else {
        text.split(',').map(|n| n.trim().to_string()).collect()
    };
    Ok(names)
}

/// Keeps a value, or what is wrong with it.
fn keep<T>(result: Result<T, String>, errors: &mut Vec<String>) -> Option<T> {
    result.map_err(|e| errors.push(e)).ok()
}

/// All that is wrong, one line each.
fn failed(errors: &[String]) -> Failure {
    errors.join("\nsirnn: ").into()
}

impl Import {
    pub(super) fn run(self) -> Result<(), Failure> {
        let files = |report: &str, json: &str| {
            [("report.md", report.as_bytes().to_vec()), ("report.json", json.as_bytes().to_vec())]
        };
        check_target(&self.out, &files("", ""))?;
        let file = FileModel::load(&self.file)?;
        let (mut settings, labels) = self.settings()?;
        if let Some(agreement) = self.search {
            settings.search = Some(Search { agreement, batch: 1, policy: policy()? });
        }
        let imported = convert(&file, &settings).map_err(|errors| failed(&errors))?;
        let mut report = measure(&imported, labels.as_deref())?;
        report.producer = file.producer.clone();
        if !report.wraps.is_empty() && !self.allow_wraps {
            let lines: Vec<String> = report
                .wraps
                .iter()
                .map(|(name, n)| format!("value '{name}': {n} numbers were wrapped on the calibration items; give it more bits (--bits), or say --allow-wraps"))
                .collect();
            return Err(failed(&lines));
        }
        let description = &imported.model.description;
        report.disclosed = revealed(description, description.graph.steps)?;
        report.costs = costs(&imported, &report)?;
        let json = serde_json::to_string_pretty(&report)?;
        imported.model.save(&self.out, &files(&report.markdown(), &json))?;
        if self.json {
            print_line(json);
            return Ok(());
        }
        print_line(report.short().trim_end());
        print_line(format_args!(
            "{}: report.md says more. Try it: sirnn run --model {0} --input FILE",
            self.out.display()
        ));
        Ok(())
    }

    fn settings(&self) -> Result<(Settings, Option<Vec<usize>>), Failure> {
        let mut errors = Vec::new();
        let name = self.out.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
        let mut settings = Settings {
            name: name.chars().filter(|c| !c.is_control()).take(60).collect(),
            outputs: self.outputs.clone(),
            max_steps: self.max_steps,
            client_until: self.client_until.clone(),
            from: self.from.clone(),
            rate: self.rate,
            context: self.context,
            ..Settings::default()
        };
        let e = &mut errors;
        for text in &self.calibration {
            let (name, file) = named(text);
            let found = keep(array(Path::new(file)), e).map(|a| (name.map(String::from), a));
            settings.calibration.extend(found);
        }
        for text in &self.set {
            match text.split_once('=') {
                Some((name, value)) => {
                    let value = keep(values(value).map_err(|e| format!("--set {name}: {e}")), e);
                    settings.set.extend(value.map(|v| (name.to_string(), v)));
                }
                None => e.push(format!("--set {text}: NAME=VALUE is expected")),
            }
        }
        settings.reveal.extend(self.reveal.iter().filter_map(|text| keep(reveal(text), e)));
        settings.options = keep(bits(&self.bits), e).unwrap_or_default();
        settings.layers.extend(self.layer.iter().filter_map(|text| keep(layer(text), e)));
        settings.lengths = self.lengths.as_ref().and_then(|p| keep(whole(p), e));
        settings.labels = self.classes.as_ref().and_then(|c| keep(classes(c), e)).unwrap_or_default();
        settings.mean = self.mean.as_ref().and_then(|m| keep(values(m).map_err(|e| format!("--mean: {e}")), e));
        settings.std = self.std.as_ref().and_then(|m| keep(values(m).map_err(|e| format!("--std: {e}")), e));
        let labels = self.labels.as_ref().and_then(|p| keep(whole(p), e));
        if errors.is_empty() { Ok((settings, labels)) } else { Err(failed(&errors)) }
    }
}

/// The least time on a LAN, with the backend of fewest bytes.
fn policy() -> Result<Policy, Failure> {
    let link = Link::LAN;
    let objective =
        Objective::Time { bits_per_second: link.bits_per_second as u64, latency_ns: link.latency.as_nanos() as u64 };
    Ok(Policy {
        goal: objective.into(),
        link,
        backend: Some(sirnn_backends::ot::lookup("ferret")?),
        fuse: None,
        lanes: Some(1),
        linear: LinearForms::Auto,
    })
}

/// What requests of as many steps as the calibration items have cost.
fn costs(imported: &Imported, report: &Report) -> Result<Vec<Cost>, Failure> {
    let Description { graph, .. } = &imported.model.description;
    let policy = policy()?;
    let mut all = Vec::new();
    for items in BATCHES {
        let request = Request { items, steps: report.steps, lengths: None };
        let task = Task { graph, request: &request, batch: items, watch: &[] };
        let found = planner::candidates(&task, &policy, &speeds()?)?;
        let best = &found[0];
        let layers = best.plan.scope_costs().into_iter().filter(|(path, _)| !path.contains('/'));
        all.push(Cost {
            batch: items,
            rounds: best.estimate.rounds,
            bytes_online: best.estimate.bytes - best.estimate.bytes_offline,
            bytes: best.estimate.bytes,
            seconds: best.estimate.seconds,
            layers: layers.map(|(path, c)| (path, c.depth, c.bytes)).collect(),
        });
    }
    Ok(all)
}
