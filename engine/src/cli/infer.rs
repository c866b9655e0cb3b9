//! `sirnn infer`: the party that owns the inputs.

use super::connection::{Spending, Tls, seconds};
use super::output::{check_writable, cost};
use super::request::{ItemFiles, Request, request, write_results};
use super::{Failure, LinearArg, Net};
use clap::Args;
use sirnn::model::Description;
use sirnn::service::client::Options;
use sirnn::service::local::print_line;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// real numbers, further outputs in FILE.NAME.npy; - is standard output
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
    /// If the server is busy or not there, try again for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = retry)]
    retry: Duration,
    /// Where products with the weights may come from: cot, rlwe, or auto for what the server wants
    #[arg(long, value_name = "HOW", default_value = "auto")]
    linear: LinearArg,
    #[command(flatten)]
    spending: Spending,
    /// Simulate a link for what this side sends: none, lan, wan, or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    #[command(flatten)]
    tls: Tls,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Infer {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (server, identity) = self.tls.resolve(&self.connect)?;
        check_writable(&self.output)?;
        let options = Options {
            bounds: self.spending.bounds(),
            connection: self.spending.connection(self.net, identity),
            pinned: self.model.as_deref().map(Description::load).transpose()?,
            watch: Vec::new(),
            linear: self.linear.into(),
        };
        let sources = self.items.sources();
        let wanted = Request {
            sources: &sources,
            integers: self.items.integers(),
            first: None,
            batch: self.batch,
            store: self.store.as_deref(),
            retry: self.retry,
        };
        let answer = request(&server, &options, &wanted)?;
        write_results(&answer.results, &self.output)?;
        let on_standard_output = self.output == Path::new("-");
        if self.json && !on_standard_output {
            print_line(answer.report);
        } else if !on_standard_output {
            print_line(cost(&answer.report));
            print_line(format_args!("predictions are in {}", self.output.display()));
        }
        Ok(())
    }
}

/// Seconds, or none.
fn retry(s: &str) -> Result<Duration, String> {
    if s == "0" { Ok(Duration::ZERO) } else { seconds(s) }
}
