//! `sirnn demo`: the whole way, with the model that comes with the source.

use super::connection::Spending;
use super::output::cost;
use super::request::{Request, load};
use super::run::both;
use super::{Failure, Net, Planning};
use clap::Args;
use serde_json::json;
use sirnn::graph::Reveal;
use sirnn::model::input::Sources;
use sirnn::model::{Model, Results};
use sirnn::service::local::print_line;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The model that comes with the source.
const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits");
/// Predictions that are shown one by one.
const SHOWN: usize = 10;

/// Classify handwritten digits that the server never sees
///
/// Starts server and client as two processes that talk over loopback TCP. The client's 8x8 images are classified by the
/// server's recurrent network (a FastGRNN that reads them row by row); the result is compared with the labels and with the
/// same integer network in the clear, which it equals bit for bit.
#[derive(Args)]
pub(super) struct Demo {
    /// Model directory with inputs.npy and labels.csv
    #[arg(long, value_name = "DIR", default_value = DIGITS, hide_default_value = true)]
    model: PathBuf,
    /// How many of its items
    #[arg(long, value_name = "N", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// Items that are computed together (default: all, up to 64)
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    spending: Spending,
    /// Simulate a link: none, lan (3 Gbit/s, 0.8 ms), wan (200 Mbit/s, 40 ms), or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let input = self.model.join("inputs.npy");
        let Model { description, weights } = Model::load(&self.model)?;
        let sources = Sources::one(&input);
        let items = load(&sources, false, &description, Some(self.items as usize))?;
        let n = items.len();
        // The definition of correct: the same network on integers, in the clear.
        let expected = Results::evaluate(&description, &weights, &items)?;
        let first = &expected.outputs[0];
        let labels = labels(&self.model.join("labels.csv"), n, first.class_count())?;
        if !self.json {
            let private: usize = weights.values().map(|t| t.data.len()).sum();
            print_line(format_args!(
                "server: the network '{}', its {private} weights private\nclient: {n} items of {} time steps, private",
                description.name,
                items.steps()
            ));
        }
        let wanted = Request {
            sources: &sources,
            integers: false,
            first: Some(n),
            shard: None,
            batch: self.batch,
            store: None,
            retry: Duration::ZERO,
        };
        let answer = both(&self.model, &wanted, &self.planning, &self.spending, self.net, None)?;

        let exact = expected == answer.results;
        let classes = answer.results.classes().ok_or("the model has no output with one class per item")?;
        let right = classes.iter().zip(&labels).filter(|(c, l)| c == l).count();
        let accuracy = right as f64 / n as f64;
        if self.json {
            let mut report = answer.report;
            report["labels"] = json!(labels);
            report["accuracy"] = json!(accuracy);
            report["exact"] = json!(exact);
            print_line(report);
        } else {
            let name = |class: usize| first.label(class);
            for (i, (&class, &label)) in classes.iter().zip(&labels).enumerate().take(SHOWN) {
                let verdict = if class == label { "right" } else { "wrong" };
                print_line(format_args!("  item {i}: it is a {}, predicted {} ({verdict})", name(label), name(class)));
            }
            if n > SHOWN {
                print_line(format_args!("  ... and {} more", n - SHOWN));
            }
            let what = if first.reveal == Reveal::Scores { "scores and classes" } else { "classes" };
            print_line(format_args!("accuracy: {right} of {n} ({:.1} %)", 100.0 * accuracy));
            print_line(format_args!(
                "{what} {} those of the network in the clear",
                if exact { "equal, bit for bit," } else { "DIFFER from" }
            ));
            print_line(cost(&answer.report));
        }
        if exact { Ok(()) } else { Err(Failure::internal("the result differs from the network in the clear")) }
    }
}

/// One class number per line.
fn labels(path: &Path, n: usize, classes: usize) -> Result<Vec<usize>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let parse = |(i, line): (usize, &str)| {
        let class = line.trim().parse().ok().filter(|&c| c < classes);
        class.ok_or_else(|| format!("{}: line {}: not a class number below {classes}", path.display(), i + 1).into())
    };
    let labels: Vec<usize> = text.lines().enumerate().take(n).map(parse).collect::<Result<_, Failure>>()?;
    if labels.len() < n {
        return Err(format!("{}: {} labels for {n} items", path.display(), labels.len()).into());
    }
    Ok(labels)
}
