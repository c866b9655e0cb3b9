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
use sirnn::compile::Request;
use sirnn::fixed::wrap;
use sirnn::model::{Description, Items, Model, Results, weights};
use sirnn::plan::speeds::Speeds;
use sirnn::program::LinearForms;
use sirnn::service::client::{self, Client};
use sirnn::service::ledger::Ledger;
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
/// The final state, revealed for the comparison.
const STATE: &str = "rnn.last";
/// Its width.
const STATE_BITS: u32 = 16;

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
    /// off: every operation of the paper on its own; on: what depends on one narrow value is one look-up; auto: what is better for the
    /// goal
    #[arg(long, default_value = "auto")]
    fuse: Fuse,
    /// Batches at the same time
    #[arg(long, default_value_t = 1)]
    lanes: usize,
    /// Where products with the weights come from
    #[arg(long, default_value = "auto")]
    linear: Products,
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

/// As `--linear` of `sirnn`.
#[derive(Clone, Copy, ValueEnum)]
enum Products {
    Auto,
    Cot,
    Rlwe,
}

impl Options {
    fn linear(&self) -> LinearForms {
        match self.linear {
            Products::Auto => LinearForms::Auto,
            Products::Cot => LinearForms::Cot,
            Products::Rlwe => LinearForms::Rlwe,
        }
    }

    fn description(&self) -> Result<Description, Box<dyn Error>> {
        let text = include_str!("google30.toml");
        let rounding = if self.rescale == Rescale::Div { "rounding = \"zero\"" } else { "rounding = \"floor\"" };
        Ok(Description::parse(&text.replace("rounding = \"floor\"", rounding))?)
    }

    fn model(&self) -> Result<Model, Box<dyn Error>> {
        let description = self.description()?;
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
        let weights = weights::from_arrays(&description, arrays)?;
        Ok(Model::new(description, weights)?)
    }

    fn items(&self, description: &Description) -> Result<Items, Box<dyn Error>> {
        let path = self.directory.join("input_i8_99x32.bin");
        let values = signed_bytes(&path)?;
        let (batch, steps) = (self.batch as usize, description.graph.steps);
        let item: usize = description.typed(steps)?.values[0].ty.len();
        let values = match values.len() {
            n if n == item => values.repeat(batch),
            n if n == item * batch => values,
            n => {
                return Err(format!("{}: {n} values, {item} expected, or {batch} times as many", path.display()).into());
            }
        };
        Ok(Items::from_integers(description, steps, &[values], None)?)
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
        linear: options.linear(),
        ledger: Some(Ledger::beside(&std::env::temp_dir(), u64::MAX)),
        objective: options.objective(),
        link: options.net.parse().unwrap_or(Link::LAN),
        speeds: Speeds::default(),
        limits: Limits { items: batch, batch, sessions: 1, bounds: BOUNDS },
        connection: options.connection()?,
        watch: vec![STATE.into()],
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
    let expected = client::Options {
        bounds: BOUNDS,
        connection: options.connection()?,
        pinned: Some(description.clone()),
        watch: vec![STATE.into()],
        linear: LinearForms::Auto,
    };
    let client = Client::connect(&[server.address], expected)?;
    let request = Request { items: items.len(), steps: items.steps(), lengths: None };
    let (outputs, summary) = client.infer(&request, Some(items.len()), &|range| items.inputs(range), &mut |_| {})?;
    let mut results = Results::new(&description, items.steps())?;
    results.add(&vec![items.steps(); items.len()], &outputs)?;
    let state = outputs.get(STATE).ok_or("the state was not revealed")?;
    let state: Vec<i64> = state.iter().map(|&v| wrap(v, STATE_BITS, true) as i64).collect();
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    complete(&mut report, &server.finish()?);
    if !options.json {
        say(serde_json::to_string_pretty(&report)?);
    }
    report["output"] = json!(results.rows());
    report["hidden"] = json!(state.chunks(state.len() / items.len()).collect::<Vec<_>>());
    report["class"] = json!(results.classes());
    say(report);
    Ok(())
}
