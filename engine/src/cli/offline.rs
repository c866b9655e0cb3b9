//! `sirnn offline`: the offline phase of a request, ahead of it.

use super::output::cost;
use super::{Failure, Net, Patience, Planning, resolve, serve};
use clap::Args;
use serde_json::{Value, json};
use sirnn::compile::Request;
use sirnn::model::{Description, Model};
use sirnn::service::client::{self, Client};
use sirnn::service::ledger::{self, Ledger};
use sirnn::service::local::{Process, complete, cpu_seconds, peak_memory, say};
use sirnn::service::server::{Limits, Stores};
use sirnn::service::wire::{Choice, shown};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Make what a request consumes ahead of time: afterwards only its online phase is left
///
/// Everything that does not depend on the items can be made before they are there: base OTs, correlations, products of
/// the weights with random masks. Server and client run this command once with each other; each writes a store, and
/// the two belong together. With neither --connect nor --listen both parties are on this machine, and --store names a
/// folder for `sirnn run --store`.
///
/// A pair of stores serves one request, for exactly as many items of the same model, planned as the server's options say
/// now. It is used up when that request begins, even if it fails. Keep stores secret and do not copy them: who reads one
/// can see through the request that uses it, and two requests with the same correlations give each other away.
#[derive(Args)]
#[command(after_help = "\
Two machines, or two terminals:
  sirnn offline --model models/digits --listen 127.0.0.1:7700 --store server.store
  sirnn offline --connect 127.0.0.1:7700 --items 10 --store client.store
and later:
  sirnn serve --model models/digits --store server.store
  sirnn infer --connect 127.0.0.1:7700 --store client.store --input ten.npy --output result.csv")]
pub(super) struct Offline {
    /// Model directory; needed where the weights are. With --connect: accept only the model described there
    #[arg(long, value_name = "DIR", required_unless_present = "connect")]
    model: Option<PathBuf>,
    /// Be the server: address and port to listen on, for one client
    #[arg(long, value_name = "ADDR", conflicts_with = "connect")]
    listen: Option<String>,
    /// Be the client of the server at this address
    #[arg(long, value_name = "ADDR")]
    connect: Option<String>,
    /// Where the store goes. Nothing is overwritten but a store that was used
    #[arg(long, value_name = "FILE")]
    store: PathBuf,
    /// Items of the request to come (default: one batch). At the server: the most that are granted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: Option<u32>,
    /// Items that will be computed at the same time (default: all, up to 64 or what the server grants). At the server: the most that are granted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Time steps of the items to come, which have one length (default: the most that the model is for)
    #[arg(long, value_name = "N", conflicts_with = "listen")]
    steps: Option<usize>,
    /// How it is planned is for the server to say; with --connect, --ot, --fuse and --lanes only tell what is accepted
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    patience: Patience,
    /// Simulate a link for what this side sends: none, lan, wan, or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    /// Allow a peer on another machine without encryption or authentication
    #[arg(long)]
    insecure_plaintext: bool,
    /// Print one JSON object (at the server, another one before it with the address)
    #[arg(long)]
    json: bool,
}

/// Names of the two stores in a folder.
pub(super) const STORES: [&str; 2] = ["server.store", "client.store"];

impl Offline {
    pub(super) fn run(self) -> Result<(), Failure> {
        match (&self.listen, &self.connect) {
            (Some(address), _) => self.serve(address),
            (None, Some(address)) => {
                let addresses = resolve(address, self.insecure_plaintext)?;
                let pinned = self.model.as_deref().map(Description::load).transpose()?;
                self.show(&self.ask(&addresses, pinned, &self.store)?);
                Ok(())
            }
            (None, None) => self.both(),
        }
    }

    fn serve(&self, address: &str) -> Result<(), Failure> {
        let addresses = resolve(address, self.insecure_plaintext)?;
        let model = Model::load(self.model.as_deref().expect("required"))?;
        let most = |n: Option<u32>, default: usize| n.map_or(default, |n| n as usize);
        let items = most(self.items, usize::MAX);
        let limits = Limits { items, batch: most(self.batch, items), sessions: 1, bounds: self.patience.bounds() };
        let stores = Stores::Make(self.store.clone());
        let ledger = Ledger::beside(self.model.as_deref().expect("required"), ledger::LIMIT);
        let options = self.planning.server(&self.patience, self.net, limits, stores, ledger)?;
        let server = serve::bind(address, &addresses, &model, options)?;
        let greeting = format!("making a store for {}", model.description.name);
        serve::host(server, &greeting, true, self.json, |line| {
            line["store"] = json!(self.store);
            line["store_bytes"] = json!([size(&self.store), null]);
            Ok(text(line))
        })
    }

    /// The client's part.
    fn ask(&self, addresses: &[SocketAddr], pinned: Option<Description>, path: &Path) -> Result<Value, Failure> {
        let items = self.items.or(self.batch).ok_or("how many items? say --items or --batch")? as usize;
        let options = client::Options {
            bounds: self.patience.bounds(),
            connection: self.patience.connection(self.net),
            pinned,
            watch: Vec::new(),
            linear: self.planning.linear.into(),
        };
        let of_server = |e| super::ask::of_server(addresses, e);
        let client = Client::connect(addresses, options).map_err(of_server)?;
        let steps = self.steps.unwrap_or(client.description().graph.steps);
        let request = Request { items, steps, lengths: None };
        let accept = |choice: &Choice| {
            let fuse = |on: bool| if on { "on" } else { "off" }.to_string();
            let wanted = [
                ("--ot", self.planning.ot.0.map(String::from), choice.backend.clone()),
                ("--fuse", self.planning.fuse().map(fuse), fuse(choice.fuse)),
                ("--lanes", self.planning.lanes.0.map(|n| n.to_string()), choice.lanes.to_string()),
            ];
            let differs = wanted.into_iter().find(|(_, wanted, chosen)| wanted.as_ref().is_some_and(|w| w != chosen));
            match differs {
                Some((option, wanted, chosen)) => {
                    Err(format!("the server chose {option} {}, not {}", shown(&chosen), wanted.unwrap_or_default()))
                }
                None => Ok(()),
            }
        };
        let summary = client.make_store(path, &request, self.batch.map(|n| n as usize), &accept).map_err(of_server)?;
        let mut report = serde_json::to_value(&summary)?;
        report["cpu_seconds"] = json!([null, cpu_seconds()]);
        report["peak_memory"] = json!([null, peak_memory()]);
        report["store"] = json!(path);
        report["store_bytes"] = json!([null, size(path)]);
        Ok(report)
    }

    fn both(&self) -> Result<(), Failure> {
        let model = self.model.as_deref().expect("required");
        let pinned = Some(Description::load(model)?);
        std::fs::create_dir_all(&self.store).map_err(|e| format!("{}: {e}", self.store.display()))?;
        let [server, client] = STORES.map(|name| self.store.join(name));
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command
            .args(["offline", "--json", "--listen", "127.0.0.1:0", "--model"])
            .arg(model)
            .arg("--store")
            .arg(&server);
        command
            .args(self.planning.over(self.net).arguments())
            .args(self.patience.arguments())
            .args(self.net.arguments());
        let process = Process::start(&mut command)?;
        let mut report = self.ask(&[process.address], pinned, &client)?;
        let theirs = process.finish()?;
        complete(&mut report, &theirs);
        report["store"] = json!(self.store);
        report["store_bytes"][0] = theirs["store_bytes"][0].clone();
        self.show(&report);
        Ok(())
    }

    fn show(&self, report: &Value) {
        if self.json { say(report) } else { say(text(report)) }
    }
}

/// Bytes of a file that was just written.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

fn text(report: &Value) -> String {
    let sizes: Vec<_> = [0, 1].iter().filter_map(|&p| report["store_bytes"][p].as_u64()).collect();
    let sizes = sizes.into_iter().map(super::output::bytes).collect::<Vec<_>>().join(" and ");
    format!("{}\n  store    {} in {}", cost(report), sizes, report["store"].as_str().unwrap_or_default())
}
