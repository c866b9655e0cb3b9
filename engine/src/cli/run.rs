//! `sirnn run`: both parties on this machine, as two processes.

use super::ask::{Answer, Question, ask};
use super::offline::STORES;
use super::output::cost;
use super::profile::{self, Profile};
use super::{Failure, Net, Patience, Planning};
use clap::Args;
use sirnn::model::Description;
use sirnn::service::client::Options;
use sirnn::service::local::{Process, complete, say};
use sirnn_backends::Party;
use std::path::{Path, PathBuf};

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
    /// Items that are computed together (default: all, up to 64)
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Do the online phase alone, with what `sirnn offline` put into this folder
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    patience: Patience,
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
        let question = Question { input: &self.input, first: None, batch: self.batch, store };
        let answer = both(&self.model, &question, &self.planning, &self.patience, self.net, self.profile.as_deref())?;
        if self.json {
            say(answer.report);
            return Ok(());
        }
        let labels = &answer.description.labels;
        for (i, &class) in answer.results.classes.iter().enumerate() {
            say(format_args!("item {i}: {}", labels[class]));
        }
        say(cost(&answer.report));
        Ok(())
    }
}

/// Starts the server as a process of its own and asks it.
pub(super) fn both(
    model: &Path,
    question: &Question<'_>,
    planning: &Planning,
    patience: &Patience,
    net: Net,
    folder: Option<&Path>,
) -> Result<Answer, Failure> {
    // Errors that are the client's own come without a server.
    let pinned = Some(Description::load(model)?);
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(["serve", "--once", "--json", "--listen", "127.0.0.1:0", "--model"]).arg(model);
    command.args(planning.over(net).arguments());
    command.args(["--max-items", "1000000000", "--max-batch", "1000000000"]);
    command.args(patience.arguments()).args(net.arguments());
    if let Some(folder) = question.store.and_then(Path::parent) {
        command.arg("--store").arg(folder.join(STORES[0]));
    }
    if let Some(folder) = folder {
        command.arg("--profile").arg(folder);
    }
    let profile = folder.map(|f| Profile::start(f, Party::P1)).transpose()?;
    let server = Process::start(&mut command)?;
    let mut connection = patience.connection(net);
    connection.trace = profile.as_ref().map(|_| profile::EVENTS);
    let options =
        Options { bounds: patience.bounds(), connection, pinned, hidden: false, linear: planning.linear.into() };
    let mut answer = ask(&[server.address], options, question)?;
    complete(&mut answer.report, &server.finish()?);
    if let Some(profile) = profile {
        profile.finish()?;
    }
    Ok(answer)
}
