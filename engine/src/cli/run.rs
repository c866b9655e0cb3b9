//! `sirnn run`: both parties on this machine, as two processes.

use super::connection::Spending;
use super::offline::STORES;
use super::output::{check_writable, cost, write_file};
use super::profile::{self, Profile};
use super::request::{Answer, ItemFiles, Request, load, request, results_to, show_results, write_results};
use super::{Failure, Net, Planning};
use clap::Args;
use serde_json::json;
use sirnn::model::input::Sources;
use sirnn::model::{Description, Model, Results};
use sirnn::run::usage::{cpu_seconds, peak_memory};
use sirnn::service::client::Options;
use sirnn::service::local::{Process, complete, print_line};
use sirnn_backends::Party;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Run server and client on this machine, as two processes over loopback TCP
///
/// For trying out a model and for measurements: the protocol, the bytes and the rounds are those of `serve` and `infer`.
#[derive(Args)]
pub(super) struct Run {
    /// Model directory: model.toml and weights.safetensors
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    items: ItemFiles,
    /// Where the results go, as in `infer`: .csv or .npy
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the predicted labels alone go, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Without two parties: what the model says in the clear, which is what two parties compute bit for bit
    #[arg(long, conflicts_with_all = ["store", "profile", "batch", "labels"])]
    cleartext: bool,
    /// Items that are computed together (default: all, up to 64)
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Do the online phase alone, with what `sirnn offline` put into this folder
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    spending: Spending,
    /// Simulate a link: none, lan (3 Gbit/s, 0.8 ms), wan (200 Mbit/s, 40 ms), or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    /// Write flame graphs of both processes and a trace of all rounds (for ui.perfetto.dev) to this folder
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let stores = self.store.as_ref().map(|folder| STORES.map(|name| folder.join(name)));
        let store = stores.as_ref().map(|[_, client]| client.as_path());
        for path in self.output.iter().chain(&self.labels) {
            check_writable(path)?;
        }
        let (sources, integers) = (self.items.sources(), self.items.integers());
        if self.cleartext {
            return cleartext(&self.model, &sources, integers, self.output.as_deref(), self.json);
        }
        let wanted = Request {
            sources: &sources,
            integers,
            first: None,
            shard: None,
            batch: self.batch,
            store,
            retry: Duration::ZERO,
        };
        let answer = both(&self.model, &wanted, &self.planning, &self.spending, self.net, self.profile.as_deref())?;
        if let Some(path) = &self.output {
            write_results(&answer.results, path)?;
        }
        if let Some(path) = &self.labels {
            let classes = answer.results.classes().ok_or("the model has no output with one class per item")?;
            let first = &answer.results.outputs[0];
            let lines: String = classes.iter().map(|&class| format!("{}\n", first.label(class))).collect();
            write_file(path, lines.as_bytes())?;
        }
        if self.json {
            print_line(answer.report);
            return Ok(());
        }
        if self.output.is_none() {
            show_results(&answer.results);
        }
        print_line(cost(&answer.report));
        Ok(())
    }
}

/// Evaluates the model on integers.
fn cleartext(
    model: &Path,
    sources: &Sources,
    integers: bool,
    output: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let Model { description, weights } = Model::load(model)?;
    let items = load(sources, integers, &description, None)?;
    let results = Results::evaluate(&description, &weights, &items)?;
    if let Some(path) = output {
        write_results(&results, path)?;
    }
    if as_json {
        let mut report = json!({ "instances": items.len() });
        report["cpu_seconds"] = json!([cpu_seconds(), null]);
        report["peak_memory"] = json!([peak_memory(), null]);
        results_to(&mut report, &results);
        print_line(report);
    } else if output.is_none() {
        show_results(&results);
    }
    Ok(())
}

/// Starts the server as a process of its own and asks it.
pub(super) fn both(
    model: &Path,
    wanted: &Request<'_>,
    planning: &Planning,
    spending: &Spending,
    net: Net,
    folder: Option<&Path>,
) -> Result<Answer, Failure> {
    // Errors that are the client's own come without a server.
    let pinned = Some(Description::load(model)?);
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(["serve", "--once", "--json", "--listen", "127.0.0.1:0", "--model"]).arg(model);
    command.args(planning.over(net).arguments());
    command.args(["--max-items", "1000000000", "--max-batch", "1000000000"]);
    command.args(spending.arguments()).args(net.arguments());
    if let Some(folder) = wanted.store.and_then(Path::parent) {
        command.arg("--store").arg(folder.join(STORES[0]));
    }
    if let Some(folder) = folder {
        command.arg("--profile").arg(folder);
    }
    let profile = folder.map(|f| Profile::start(f, Party::P1)).transpose()?;
    let server = Process::start(&mut command)?;
    let mut connection = spending.connection(net, None);
    connection.trace = profile.as_ref().map(|_| profile::EVENTS);
    let options =
        Options { bounds: spending.bounds(), connection, pinned, watch: Vec::new(), linear: planning.linear.into() };
    let mut answer = request(&[server.address.into()], &options, wanted)?;
    complete(&mut answer.report, &server.finish()?);
    if let Some(profile) = profile {
        profile.finish()?;
    }
    Ok(answer)
}
