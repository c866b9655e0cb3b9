//! Google-30, the keyword network of the SIRNN authors, between two processes: the trained weights and an utterance go
//! in, scores and the final hidden state come out, bit for bit those of the fixed-point program.
//!
//! ```text
//! cargo run --release --example google30 -- DIR [--rescale div|floor] [--batch N] [--ot NAME] [--net none|lan|wan] [--json]
//! ```
//! `DIR` holds `weights_i8_12342.bin` (W1, W2, U1, U2, Bg, Bh, FC, FCbias, row-major) and `input_i8_99x32.bin` (one item, or
//! as many as the batch).

use clap::{Parser, ValueEnum};
use serde_json::json;
use sirnn::model::{Description, Model, Weights};
use sirnn::plan::speeds::Speeds;
use sirnn::protocols::truncation::Rounding;
use sirnn::run::Inputs;
use sirnn::service::client::{self, Client};
use sirnn::service::local::{Process, complete, cpu_seconds, host_one, peak_memory, say};
use sirnn::service::server::{self, Limits};
use sirnn::service::wire::Objective;
use sirnn::service::{Bounds, Connection, Server};
use sirnn_backends::ot;
use sirnn_backends::transport::Link;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Of the authors' program: neither is in the file of weights.
const ZETA: i64 = 30498;
const NU: i64 = 22714;
/// Run Google-30 between two processes
#[derive(Parser, Clone)]
struct Options {
    /// Folder with weights_i8_12342.bin and input_i8_99x32.bin
    directory: PathBuf,
    /// Rounding of rescales: div (toward zero, as the authors' library), or floor
    #[arg(long, default_value = "div")]
    rescale: Rescale,
    /// Items; a file with one is repeated
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// OT backend, or auto
    #[arg(long, default_value = "iknp")]
    ot: String,
    /// off: every operation of the paper on its own; on: a cell's activations are one look-up; auto: what is better for the goal
    #[arg(long, default_value = "off")]
    fuse: Fuse,
    /// Batches at the same time
    #[arg(long, default_value_t = 1)]
    lanes: usize,
    /// Simulated link: none, lan, wan, or MBIT,MS
    #[arg(long, default_value = "none")]
    net: String,
    /// What to optimise where a protocol has several forms
    #[arg(long, default_value = "time")]
    optimize: Goal,
    /// Print one JSON object only
    #[arg(long)]
    json: bool,
    /// This process is the server
    #[arg(long, hide = true)]
    server: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Rescale {
    Div,
    Floor,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Fuse {
    Off,
    On,
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    Time,
    Rounds,
    Bytes,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = if options.server { serve(&options) } else { infer(&options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("google30: {e}");
            ExitCode::FAILURE
        }
    }
}

fn signed_bytes(path: &Path) -> Result<Vec<i64>, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.into_iter().map(|b| i64::from(b as i8)).collect())
}

impl Options {
    fn description(&self) -> Result<Description, Box<dyn Error>> {
        let description = Description::parse(include_str!("google30.toml"))?;
        let rounding = if self.rescale == Rescale::Div { Rounding::TowardZero } else { Rounding::Floor };
        Ok(Description { rounding, ..description })
    }

    fn model(&self) -> Result<Model, Box<dyn Error>> {
        let mut description = self.description()?;
        let path = self.directory.join("weights_i8_12342.bin");
        let raw = signed_bytes(&path)?;
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
        let total = sizes.iter().map(|(_, n)| n).sum::<usize>();
        if raw.len() != total {
            return Err(format!("{}: {} weights, {total} expected", path.display(), raw.len()).into());
        }
        let mut rest = raw.into_iter();
        let tensor = |(name, n): (&str, usize)| (name.to_string(), rest.by_ref().take(n).collect());
        let mut arrays: std::collections::HashMap<String, Vec<i64>> = sizes.into_iter().map(tensor).collect();
        arrays.extend([("zeta".to_string(), vec![ZETA]), ("nu".to_string(), vec![NU])]);
        let weights = Weights::from_arrays(&mut description, arrays)?;
        Ok(Model { description, weights })
    }

    /// The items, one after the other.
    fn items(&self, description: &Description) -> Result<Vec<i64>, Box<dyn Error>> {
        let path = self.directory.join("input_i8_99x32.bin");
        let values = signed_bytes(&path)?;
        let (batch, item) = (self.batch as usize, description.item_len());
        match values.len() {
            n if n == item => Ok(values.repeat(batch)),
            n if n == item * batch => Ok(values),
            n => Err(format!("{}: {n} values, {item} expected, or {batch} times as many", path.display()).into()),
        }
    }

    fn connection(&self) -> Result<Connection, Box<dyn Error>> {
        let link = if self.net == "none" { None } else { Some(self.net.parse::<Link>()?) };
        Ok(Connection { link, ..Connection::default() })
    }

    fn objective(&self) -> Objective {
        match self.optimize {
            Goal::Rounds => Objective::Rounds,
            Goal::Bytes => Objective::Bytes,
            Goal::Time => Objective::Time { bits_per_second: 3_000_000_000, latency_ns: 400_000 },
        }
    }
}

const BOUNDS: Bounds = Bounds { bytes: u64::MAX, memory: u64::MAX };

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let batch = options.batch as usize;
    let served = server::Options {
        backend: if options.ot == "auto" { None } else { Some(ot::lookup(&options.ot)?) },
        fuse: if options.fuse == Fuse::Auto { None } else { Some(options.fuse == Fuse::On) },
        lanes: Some(options.lanes),
        objective: options.objective(),
        link: options.net.parse().unwrap_or(Link::LAN),
        speeds: Speeds::default(),
        limits: Limits { items: batch, batch, sessions: 1, bounds: BOUNDS },
        connection: options.connection()?,
        hidden: true,
        stores: server::Stores::None,
    };
    host_one(Server::bind("127.0.0.1:0", &options.model()?, served)?)?;
    Ok(())
}

fn infer(options: &Options) -> Result<(), Box<dyn Error>> {
    let description = options.description()?;
    let items = options.items(&description)?;
    let server =
        Process::start(Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg("--server"))?;
    let (batch, features, hidden) =
        (options.batch as usize, description.features as usize, description.layer[0].hidden as usize);
    let expected =
        client::Options { bounds: BOUNDS, connection: options.connection()?, pinned: Some(description), hidden: true };
    let client = Client::connect(&[server.address], expected)?;
    let classes = client.description().classes() as usize;
    let item = client.description().item_len();
    // Time-major: the program wants all items of a step together.
    let inputs = |range: std::ops::Range<usize>| {
        let row = |step: usize, i: usize| &items[i * item + step * features..][..features];
        let steps = 0..item / features;
        let x = steps.flat_map(|step| range.clone().flat_map(move |i| row(step, i))).map(|&v| v.into()).collect();
        Inputs::from([("x".to_string(), x)])
    };
    let (outputs, summary) = client.infer(batch, Some(batch), &inputs, &mut |_| {})?;

    let nested = |name: &str, width: usize| {
        let rows = outputs[name].chunks(width).map(|row| row.iter().map(|&v| v as i64).collect::<Vec<_>>());
        rows.collect::<Vec<_>>()
    };
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    complete(&mut report, &server.finish()?);
    if !options.json {
        say(serde_json::to_string_pretty(&report)?);
    }
    report["output"] = json!(nested("scores", classes));
    report["hidden"] = json!(nested("hidden", hidden));
    report["class"] = json!(outputs["class"].iter().map(|&c| c as i64).collect::<Vec<_>>());
    say(report);
    Ok(())
}
