//! `sirnn serve`: the party that owns the model.

use super::output::cost;
use super::profile::{self, Profile};
use super::{Failure, Net, Patience, Planning, resolve};
use clap::Args;
use serde_json::{Value, json};
use sirnn::model::Model;
use sirnn::service::Server;
use sirnn::service::ledger::{self, Ledger};
use sirnn::service::local::{report, say};
use sirnn::service::server::{Event, Limits, Options, Outcome, Stores};
use sirnn_backends::Party;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Serve a model to clients (party P0)
///
/// Weights stay here. Clients get the public description and, per item, what it says under `reveal`.
/// A client that misbehaves loses its connection; nobody else notices.
#[derive(Args)]
pub(super) struct Serve {
    /// Model directory: model.toml and weights.safetensors
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7700")]
    listen: String,
    #[command(flatten)]
    planning: Planning,
    #[command(flatten)]
    patience: Patience,
    /// Most items of a request
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_items: usize,
    /// Most items of a request at the same time
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_batch: usize,
    /// Most requests at the same time
    #[arg(long, value_name = "N", default_value_t = 4)]
    max_sessions: usize,
    /// Stores of `sirnn offline --listen` (a file, or a folder of them) for clients that have the other halves. Each is used up by
    /// one request, which is computed as it was planned then, whatever the options of planning are now
    #[arg(long, value_name = "PATH")]
    store: Option<PathBuf>,
    /// Most values that ring-LWE makes with these weights, over all sessions (counted in the model's directory). After 2^36 of them what clients
    /// see of the weights is within a statistical distance of 2^-40 of nothing, after 2^42 of 2^-37
    #[arg(long, value_name = "N", default_value_t = ledger::LIMIT)]
    max_values: u64,
    /// Exit after one session, with its result
    #[arg(long)]
    once: bool,
    /// Simulate a link for what this side sends: none, lan, wan, or MBIT,MS
    #[arg(long, value_name = "LINK", default_value = "none")]
    net: Net,
    /// Allow connections from other machines without encryption or authentication
    #[arg(long)]
    insecure_plaintext: bool,
    /// As of `run`: where this process puts its part
    #[arg(long, hide = true, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Print JSON objects: one with the address, then one per session
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let addresses = resolve(&self.listen, self.insecure_plaintext)?;
        let model = Model::load(&self.model)?;
        let profile = self.profile.as_deref().map(|f| Profile::start(f, Party::P0)).transpose()?;
        let limits = Limits {
            items: self.max_items,
            batch: self.max_batch,
            sessions: self.max_sessions,
            bounds: self.patience.bounds(),
        };
        let stores = self.store.map_or(Stores::None, Stores::Use);
        let mut options = self.planning.server(
            &self.patience,
            self.net,
            limits,
            stores,
            Ledger::beside(&self.model, self.max_values),
        )?;
        options.connection.trace = profile.as_ref().map(|_| profile::EVENTS);
        let server = bind(&self.listen, &addresses, &model, options)?;
        let greeting = format!("serving {}", model.description.name);
        host(server, &greeting, self.once, self.json, |line| {
            if let Some(profile) = &profile {
                profile.save()?;
            }
            Ok(cost(line))
        })
    }
}

pub(super) fn bind(name: &str, addresses: &[SocketAddr], model: &Model, options: Options) -> Result<Server, Failure> {
    Server::bind(addresses, model, options).map_err(|e| format!("listening on {name}: {e}").into())
}

/// Serves for ever, or until one session is over. `finish` completes a session's report and says it for people.
pub(super) fn host(
    server: Server,
    greeting: &str,
    once: bool,
    json: bool,
    mut finish: impl FnMut(&mut Value) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let address = server.address()?;
    if json {
        say(json!({ "listening": address.to_string() }));
    } else {
        say(format_args!("{greeting} on {address}"));
    }
    for Event { peer, outcome } in server.start() {
        let session = matches!(outcome, Outcome::Session(_));
        match outcome {
            Outcome::Session(Ok(summary)) => {
                let mut line = report(&summary);
                line["peer"] = json!(peer.to_string());
                let text = finish(&mut line)?;
                if let Some(total) = line["linear_values_total"].as_u64().filter(|&n| n >= ledger::WARNING) {
                    eprintln!(
                        "sirnn: {total} values were made with these weights from ring-LWE, 2^36 = {} are within a distance of 2^-40",
                        ledger::WARNING
                    );
                }
                if json {
                    say(line);
                } else {
                    say(format_args!("{peer}: {text}"));
                }
            }
            Outcome::Session(Err(e)) | Outcome::Rejected(e) if !(session && once) => {
                eprintln!("sirnn: client {peer}: {e}");
            }
            Outcome::Session(Err(e)) | Outcome::Rejected(e) => return Err(format!("client {peer}: {e}").into()),
        }
        if session && once {
            break;
        }
    }
    Ok(())
}
