//! `sirnn offline`: the offline phase of a request, ahead of it.

use super::connection::{Spending, Tls};
use super::output::cost;
use super::serve::{self, Running};
use super::{Failure, Net, Planning};
use clap::Args;
use serde_json::{Value, json};
use sirnn::compile::Request;
use sirnn::model::{Description, Model};
use sirnn::plan::choice::Choice;
use sirnn::run::usage::{cpu_seconds, peak_memory};
use sirnn::service::client::{self, Address, Client};
use sirnn::service::identity::Identity;
use sirnn::service::ledger::{self, Ledger};
use sirnn::service::local::{Process, complete, print_line};
use sirnn::service::server::{Limits, Stores};
use sirnn_backends::transport::printable;
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
    spending: Spending,
    /// Simulate a link for what this side sends: none, lan, wan, or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    #[command(flatten)]
    tls: Tls,
    /// Print one JSON object (at the server, another one before it with the address)
    #[arg(long)]
    json: bool,
}

/// Names of the two stores in a folder.
pub(super) const STORES: [&str; 2] = ["server.store", "client.store"];

impl Offline {
    /// Whether it waits for a client.
    pub(super) fn serves(&self) -> bool {
        self.listen.is_some()
    }

    pub(super) fn run(self) -> Result<(), Failure> {
        match (&self.listen, &self.connect) {
            (Some(address), _) => self.serve(address),
            (None, Some(address)) => {
                let (server, identity) = self.tls.resolve(address)?;
                let pinned = self.model.as_deref().map(Description::load).transpose()?;
                self.show(&self.make(&server, identity, pinned, &self.store)?);
                Ok(())
            }
            (None, None) => self.both(),
        }
    }

    fn serve(&self, address: &str) -> Result<(), Failure> {
        let (here, identity) = self.tls.resolve(address)?;
        let model = Model::load(self.model.as_deref().expect("required"))?;
        let most = |n: Option<u32>, default: usize| n.map_or(default, |n| n as usize);
        let items = most(self.items, usize::MAX);
        let limits = Limits {
            items,
            batch: most(self.batch, items),
            sessions: 1,
            queue: 0,
            bounds: self.spending.bounds(),
            handshake: Limits::default().handshake.min(self.spending.deadline()),
        };
        let stores = Stores::Make(self.store.clone());
        let connection = self.spending.connection(self.net, identity);
        let ledger = Ledger::beside(self.model.as_deref().expect("required"), ledger::LIMIT);
        let options = self.planning.server(connection, self.net, limits, stores, ledger)?;
        let server = serve::bind(address, &here.addresses, &model, options)?;
        let greeting = format!("making a store for {}", model.description.name);
        let running = Running { once: true, json: self.json, ..Running::default() };
        serve::host(server, &greeting, &running, |line| {
            line["store"] = json!(self.store);
            line["store_bytes"] = json!([size(&self.store), null]);
            Ok(text(line))
        })
    }

    /// The client's part.
    fn make(
        &self,
        server: &Address,
        identity: Option<Identity>,
        pinned: Option<Description>,
        path: &Path,
    ) -> Result<Value, Failure> {
        let items = self.items.or(self.batch).ok_or("how many items? say --items or --batch")? as usize;
        let options = client::Options {
            bounds: self.spending.bounds(),
            connection: self.spending.connection(self.net, identity),
            pinned,
            watch: Vec::new(),
            linear: self.planning.linear.into(),
        };
        let of_server = |e| super::request::of_server(server, e);
        let client = Client::connect(server, options).map_err(of_server)?;
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
                    Err(format!("the server chose {option} {}, not {}", printable(&chosen), wanted.unwrap_or_default()))
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
            .args(self.spending.arguments())
            .args(self.net.arguments());
        let process = Process::start(&mut command)?;
        let mut report = self.make(&process.address.into(), None, pinned, &client)?;
        let theirs = process.finish()?;
        complete(&mut report, &theirs);
        report["store"] = json!(self.store);
        report["store_bytes"][0] = theirs["store_bytes"][0].clone();
        self.show(&report);
        Ok(())
    }

    fn show(&self, report: &Value) {
        if self.json { print_line(report) } else { print_line(text(report)) }
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
