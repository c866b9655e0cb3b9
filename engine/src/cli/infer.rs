//! `sirnn infer`: the party that owns the inputs.

use super::connection::{Spending, Tls, seconds};
use super::output::{check_writable, cost};
use super::request::{ItemFiles, Request, request, write_results};
use super::shard::{Record, Shard, digest_of};
use super::{Failure, LinearArg, Net};
use clap::Args;
use serde_json::json;
use sirnn::model::Description;
use sirnn::run::file::folder;
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
    /// Address and port of the server; repeated, others with the same model, that are asked if it is busy or not there before a
    /// session starts
    #[arg(long, value_name = "ADDR", required = true)]
    connect: Vec<String>,
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
    /// Compute part I of N of the items (I from 0), into a file of its own beside --output, with a record; nothing if that is done. auto/N
    /// takes I from a Kubernetes Indexed Job or a Slurm array, auto also N. sirnn merge joins the parts
    #[arg(long, value_name = "I/N", conflicts_with = "store")]
    shard: Option<Shard>,
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
        let mut servers = Vec::new();
        let mut identity = None;
        for address in &self.connect {
            let (server, own) = self.tls.resolve(address)?;
            servers.push(server);
            identity = own;
        }
        let output = self.shard.map_or(self.output.clone(), |shard| shard.output(&self.output));
        if self.shard.is_some() && self.output == Path::new("-") {
            return Err("a shard writes files: --output - has no name for them".into());
        }
        check_writable(&output)?;
        let sources = self.items.sources();
        let inputs = self.shard.map(|_| digest_of(&sources)).transpose()?;
        if let (Some(shard), Some(inputs)) = (self.shard, &inputs)
            && let Some(record) = Record::read(&shard.record(&self.output))?
            && record.is_done(shard, inputs, folder(&self.output))
        {
            print_line(match self.json {
                true => {
                    json!({ "shard": shard.index, "shards": shard.count, "skipped": true, "instances": record.count })
                        .to_string()
                }
                false => format!("shard {} of {} is done: {}", shard.index, shard.count, output.display()),
            });
            return Ok(());
        }
        let options = Options {
            bounds: self.spending.bounds(),
            connection: self.spending.connection(self.net, identity),
            pinned: self.model.as_deref().map(Description::load).transpose()?,
            watch: Vec::new(),
            linear: self.linear.into(),
        };
        let wanted = Request {
            sources: &sources,
            integers: self.items.integers(),
            first: None,
            shard: self.shard,
            batch: self.batch,
            store: self.store.as_deref(),
            retry: self.retry,
        };
        let answer = request(&servers, &options, &wanted)?;
        match (self.shard, inputs) {
            (Some(shard), Some(inputs)) => {
                let (all, items) = answer.items;
                let record = Record::new(shard, all, items, inputs, &answer.description);
                record.write(&self.output, &answer.results.files(&output))?;
            }
            _ => write_results(&answer.results, &output)?,
        }
        let on_standard_output = self.output == Path::new("-");
        if self.json && !on_standard_output {
            print_line(answer.report);
        } else if !on_standard_output {
            print_line(cost(&answer.report));
            print_line(format_args!("predictions are in {}", output.display()));
        }
        Ok(())
    }
}

/// Seconds, or none.
fn retry(s: &str) -> Result<Duration, String> {
    if s == "0" { Ok(Duration::ZERO) } else { seconds(s) }
}
