//! The head detector of the SIRNN paper with its real weights, between two processes: an image goes in, 18,000 integers come out, bit for
//! bit those of the fixed-point program, and from them the heads.
//!
//! ```text
//! cargo run --release --example heads -- DIR [--rescale floor|div] [--input FILE] [--picture FILE] [--ot NAME] [--json]
//! cargo run --release --example heads -- DIR --cleartext    # the evaluator alone
//! cargo run --release --example heads -- DIR --model models/heads    # a model directory, for `sirnn show`, `plan`, `serve`
//! ```
//! `DIR` holds `params.json`, `weights.npz` and `input_i8_240x320.bin`.

mod boxes;
mod model;
mod picture;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use sirnn::compile::Request;
use sirnn::graph::evaluate;
use sirnn::model::{Description, Items, Model};
use sirnn::plan::choice::Objective;
use sirnn::plan::speeds::Speeds;
use sirnn::program::LinearForms;
use sirnn::protocols::truncation::Rounding;
use sirnn::run::usage::{cpu_seconds, peak_memory};
use sirnn::service::client::{self, Client};
use sirnn::service::ledger::Ledger;
use sirnn::service::local::{Process, complete, host_one, print_line};
use sirnn::service::server::{self, Limits};
use sirnn::service::{Bounds, Connection, Server};
use sirnn_backends::ot;
use sirnn_backends::transport::Link;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Find heads in an image, between two processes
#[derive(Parser, Clone)]
struct Options {
    /// Folder with params.json, weights.npz and input_i8_240x320.bin
    directory: PathBuf,
    /// Rounding of rescales: floor, or div (toward zero)
    #[arg(long, default_value = "floor")]
    rescale: Rescale,
    /// Another image: 240 x 320 signed bytes
    #[arg(long)]
    input: Option<PathBuf>,
    /// Write the image with the heads framed to this PNG
    #[arg(long)]
    picture: Option<PathBuf>,
    /// OT backend
    #[arg(long, default_value = "ferret")]
    ot: String,
    /// Where products with the weights come from
    #[arg(long, default_value = "auto")]
    linear: Products,
    /// What to optimise where a protocol has several forms
    #[arg(long, default_value = "time")]
    optimize: Goal,
    /// Write the network as a model directory, for the commands of sirnn, and compute nothing
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Evaluate in the clear, without a second party
    #[arg(long)]
    cleartext: bool,
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

#[derive(Clone, Copy, ValueEnum)]
enum Products {
    Auto,
    Cot,
    Rlwe,
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    Time,
    Rounds,
    Bytes,
}

/// Both parties are ours: nothing is refused.
const BOUNDS: Bounds = Bounds { bytes: u64::MAX, memory: u64::MAX };

impl Options {
    fn description(&self) -> Result<(Description, sirnn::graph::Weights), Box<dyn Error>> {
        let rounding = if self.rescale == Rescale::Div { Rounding::TowardZero } else { Rounding::Floor };
        let (graph, weights) = model::load(&self.directory, model::IMAGE, rounding)?;
        Ok((Description::new("heads", graph), weights))
    }

    fn linear(&self) -> LinearForms {
        match self.linear {
            Products::Auto => LinearForms::Auto,
            Products::Cot => LinearForms::Cot,
            Products::Rlwe => LinearForms::Rlwe,
        }
    }

    fn objective(&self) -> Objective {
        match self.optimize {
            Goal::Rounds => Objective::Rounds,
            Goal::Bytes => Objective::Bytes,
            Goal::Time => Objective::Time { bits_per_second: 3_000_000_000, latency_ns: 400_000 },
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = if options.server { serve(&options) } else { detect(&options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("heads: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let (description, weights) = options.description()?;
    let served = server::Options {
        backend: Some(ot::lookup(&options.ot)?),
        fuse: Some(true),
        lanes: Some(1),
        linear: options.linear(),
        ledger: Some(Ledger::beside(&std::env::temp_dir(), u64::MAX)),
        objective: options.objective(),
        link: Link::LAN,
        speeds: Speeds::default(),
        limits: Limits {
            items: 1,
            batch: 1,
            sessions: 1,
            queue: 0,
            bounds: BOUNDS,
            handshake: Duration::from_secs(60),
        },
        connection: Connection::default(),
        watch: Vec::new(),
        stores: server::Stores::None,
    };
    host_one(Server::bind("127.0.0.1:0", &Model::new(description, weights)?, served)?)?;
    Ok(())
}

fn detect(options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(directory) = &options.model {
        let (description, weights) = options.description()?;
        return Ok(Model::new(description, weights)?.save(directory, &[])?);
    }
    let path = options.input.clone().unwrap_or_else(|| options.directory.join("input_i8_240x320.bin"));
    let image = model::image(&path)?;
    let (output, mut report) = if options.cleartext { clear(options, &image)? } else { secure(options, &image)? };
    let heads = boxes::heads(&output);
    if let Some(path) = &options.picture {
        picture::write(path, &image.data, model::IMAGE, &heads)?;
    }
    if !options.json {
        print_line(serde_json::to_string_pretty(&report)?);
        for head in &heads {
            let [left, top, right, bottom] = head.corners.map(f64::round);
            print_line(format_args!("{:3.0} %  from ({left}, {top}) to ({right}, {bottom})", 100.0 * head.probability));
        }
        return Ok(());
    }
    report["output"] = json!(output);
    report["heads"] = json!(heads.len());
    print_line(report);
    Ok(())
}

/// What the evaluator says.
fn clear(options: &Options, image: &sirnn::graph::Tensor) -> Result<(Vec<i64>, Value), Box<dyn Error>> {
    let (description, weights) = options.description()?;
    let start = Instant::now();
    let output = evaluate(&description.typed(0)?, &weights, std::slice::from_ref(image)).remove(0).data;
    Ok((output, json!({ "seconds": start.elapsed().as_secs_f64() })))
}

/// What two parties compute: this process is the client, another one the server.
fn secure(options: &Options, image: &sirnn::graph::Tensor) -> Result<(Vec<i64>, Value), Box<dyn Error>> {
    let (description, _) = options.description()?;
    let items = Items::from_integers(&description, 0, std::slice::from_ref(&image.data), None)?;
    let server =
        Process::start(Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).arg("--server"))?;
    let expected = client::Options {
        bounds: BOUNDS,
        connection: Connection::default(),
        pinned: Some(description),
        watch: Vec::new(),
        linear: LinearForms::Auto,
    };
    let client = Client::connect(&server.address.into(), expected)?;
    let request = Request { items: 1, steps: 0, lengths: None };
    let inputs = |range| items.inputs(range);
    let (outputs, summary) = client.infer(&request, Some(1), &inputs, &mut |_| {}, &mut |_| Ok(()))?;
    let output = outputs.get("boxes").ok_or("no output")?.iter().map(|&v| v as i64).collect();
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    complete(&mut report, &server.finish()?);
    Ok((output, report))
}
