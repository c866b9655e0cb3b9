//! The head detector of the SIRNN paper with its real weights: an image goes in, 18,000 integers come out, bit for bit those of the
//! fixed-point program, and from them the heads.
//!
//! ```text
//! cargo run --release --example heads -- DIR [--rescale floor|div] [--input FILE] [--picture FILE] [--json]
//! ```
//! `DIR` holds `params.json`, `weights.npz` and `input_i8_240x320.bin`. The network is evaluated in the clear.

mod boxes;
mod model;
mod picture;

use clap::{Parser, ValueEnum};
use serde_json::json;
use sirnn::graph::evaluate;
use sirnn::protocols::truncation::Rounding;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Find heads in an image
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
    /// Print one JSON object only
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Rescale {
    Div,
    Floor,
}

impl Rescale {
    fn rounding(self) -> Rounding {
        if self == Rescale::Div { Rounding::TowardZero } else { Rounding::Floor }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("heads: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let (graph, weights) = model::load(&options.directory, options.rescale.rounding())?;
    let path = options.input.clone().unwrap_or_else(|| options.directory.join("input_i8_240x320.bin"));
    let image = model::image(&path)?;
    let start = Instant::now();
    let output = evaluate(&graph.infer(0)?, &weights, std::slice::from_ref(&image)).remove(0).data;
    let seconds = start.elapsed().as_secs_f64();
    let heads = boxes::heads(&output);
    if let Some(path) = &options.picture {
        picture::write(path, &image.data, model::IMAGE, &heads)?;
    }
    if options.json {
        println!("{}", json!({ "output": output, "heads": heads.len(), "seconds": seconds }));
        return Ok(());
    }
    println!("{} heads in {seconds:.1} s:", heads.len());
    for head in &heads {
        let [left, top, right, bottom] = head.corners.map(f64::round);
        println!("  {:3.0} %  from ({left}, {top}) to ({right}, {bottom})", 100.0 * head.probability);
    }
    Ok(())
}
