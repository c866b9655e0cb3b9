//! `sirnn infer`: the party that owns the inputs.

use super::ask::{ItemFiles, Question, ask, write_results};
use super::output::{check_writable, cost};
use super::{Failure, LinearArg, Net, Patience, resolve};
use clap::Args;
use sirnn::model::Description;
use sirnn::service::client::Options;
use sirnn::service::local::say;
use std::path::PathBuf;

/// Have a server classify your items without showing them (party P1)
///
/// Nothing is sent before the server's public description was read, the items were checked against it, and its cost
/// was found within --max-bytes and --max-memory.
#[derive(Args)]
pub(super) struct Infer {
    /// Address and port of the server
    #[arg(long, value_name = "ADDR")]
    connect: String,
    #[command(flatten)]
    items: ItemFiles,
    /// Where the predictions go: .csv, one line per item (per number, where an item has more than one row of scores); or .npy,
    /// real numbers, further outputs in FILE.NAME.npy
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Accept only the model described in this directory
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Items that are computed together (default: all, up to 64 or what the server grants)
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Do the online phase alone, with this store of `sirnn offline --connect`; it is used up
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Where products with the weights may come from: cot, rlwe, or auto for what the server wants
    #[arg(long, value_name = "HOW", default_value = "auto")]
    linear: LinearArg,
    #[command(flatten)]
    patience: Patience,
    /// Simulate a link for what this side sends: none, lan, wan, or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    /// Allow a server on another machine without encryption or authentication
    #[arg(long)]
    insecure_plaintext: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Infer {
    pub(super) fn run(self) -> Result<(), Failure> {
        let addresses = resolve(&self.connect, self.insecure_plaintext)?;
        check_writable(&self.output)?;
        let options = Options {
            bounds: self.patience.bounds(),
            connection: self.patience.connection(self.net),
            pinned: self.model.as_deref().map(Description::load).transpose()?,
            watch: Vec::new(),
            linear: self.linear.into(),
        };
        let sources = self.items.sources();
        let question = Question { sources: &sources, first: None, batch: self.batch, store: self.store.as_deref() };
        let answer = ask(&addresses, options, &question)?;
        write_results(&answer.results, &self.output)?;
        if self.json {
            say(answer.report);
        } else {
            say(cost(&answer.report));
            say(format_args!("predictions are in {}", self.output.display()));
        }
        Ok(())
    }
}
