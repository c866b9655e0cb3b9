//! `sirnn run`: both parties on this machine, as two processes.

use super::connection::Spending;
use super::offline::STORES;
use super::output::{check_writable, cost, write_file};
use super::profile::{self, Profile};
use super::request::{Answer, Request, request};
use super::{Failure, Net, Planning};
use clap::Args;
use sirnn::model::Description;
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
    /// Items: .npy of shape [N, steps, features], or .csv with one item per line, step after step
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where the predictions go, as of `infer`: .csv, one line per item
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the predicted labels alone go, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
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
        let wanted = Request { input: &self.input, first: None, batch: self.batch, store, retry: Duration::ZERO };
        let answer = both(&self.model, &wanted, &self.planning, &self.spending, self.net, self.profile.as_deref())?;
        if let Some(path) = &self.output {
            answer.results.write(path, &answer.description)?;
        }
        let labels = &answer.description.labels;
        if let Some(path) = &self.labels {
            let lines: String = answer.results.classes.iter().map(|&class| format!("{}\n", labels[class])).collect();
            write_file(path, lines.as_bytes())?;
        }
        if self.json {
            print_line(answer.report);
            return Ok(());
        }
        for (i, &class) in answer.results.classes.iter().enumerate() {
            print_line(format_args!("item {i}: {}", labels[class]));
        }
        print_line(cost(&answer.report));
        Ok(())
    }
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
    let options = Options { bounds: spending.bounds(), connection, pinned, hidden: false };
    let mut answer = request(&server.address.into(), &options, wanted)?;
    complete(&mut answer.report, &server.finish()?);
    if let Some(profile) = profile {
        profile.finish()?;
    }
    Ok(answer)
}
