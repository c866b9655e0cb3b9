//! `sirnn serve`: the party that owns the model.

use super::connection::{Spending, Tls, seconds};
use super::output::cost;
use super::profile::{self, Profile};
use super::{Failure, Net, Planning};
use clap::Args;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sirnn::model::Model;
use sirnn::service::identity::{Identity, Settings};
use sirnn::service::ledger::{self, Ledger};
use sirnn::service::local::{print_line, report};
use sirnn::service::server::{Controller, Event, Limits, Options, Outcome, Stores};
use sirnn::service::{Server, monitor};
use sirnn_backends::Party;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    spending: Spending,
    /// Most items of a request
    #[arg(long, value_name = "N", default_value_t = Limits::default().items)]
    max_items: usize,
    /// Most items of a request at the same time
    #[arg(long, value_name = "N", default_value_t = Limits::default().batch)]
    max_batch: usize,
    /// Most requests at the same time
    #[arg(long, value_name = "N", default_value_t = Limits::default().sessions)]
    max_sessions: usize,
    /// Most requests that wait for others to end; one more is told to come back later
    #[arg(long, value_name = "N", default_value_t = Limits::default().queue)]
    queue: usize,
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
    #[command(flatten)]
    tls: Tls,
    /// After SIGINT or SIGTERM, let running sessions go on for so many seconds; a second signal ends at once
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    grace: Duration,
    /// Answer /metrics (Prometheus), /healthz and /readyz over HTTP at this address
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// As of `run`: where this process puts its part
    #[arg(long, hide = true, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Print JSON objects: one with the address, then one per session
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (here, identity) = self.tls.resolve(&self.listen)?;
        let model = Model::load(&self.model)?;
        let profile = self.profile.as_deref().map(|f| Profile::start(f, Party::P0)).transpose()?;
        let limits = Limits {
            items: self.max_items,
            batch: self.max_batch,
            sessions: self.max_sessions,
            queue: self.queue,
            bounds: self.spending.bounds(),
            handshake: Limits::default().handshake.min(self.spending.deadline()),
        };
        let stores = self.store.map_or(Stores::None, Stores::Use);
        let connection = self.spending.connection(self.net, identity);
        let ledger = Ledger::beside(&self.model, self.max_values);
        let mut options = self.planning.server(connection, self.net, limits, stores, ledger)?;
        options.connection.trace = profile.as_ref().map(|_| profile::EVENTS);
        raise_descriptors();
        let server = bind(&self.listen, &here.addresses, &model, options)?;
        let greeting = format!("serving {}", model.description.name);
        let running = Running {
            once: self.once,
            json: self.json,
            grace: self.grace,
            metrics: self.metrics.as_deref(),
            identity: self.tls.settings(),
        };
        host(server, &greeting, &running, |line| {
            if let Some(profile) = &profile {
                profile.save()?;
            }
            Ok(cost(line))
        })
    }
}

/// A connection takes a descriptor, and there may be many.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Whatever there is has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

pub(super) fn bind(name: &str, addresses: &[SocketAddr], model: &Model, options: Options) -> Result<Server, Failure> {
    Server::bind(addresses, model, options).map_err(|e| Failure::from(e).about(format_args!("listening on {name}")))
}

/// How a server runs.
#[derive(Default)]
pub(super) struct Running<'a> {
    /// It ends with its first session.
    pub(super) once: bool,
    pub(super) json: bool,
    /// For how long sessions go on after a signal.
    pub(super) grace: Duration,
    pub(super) metrics: Option<&'a str>,
    /// Read again on SIGHUP.
    pub(super) identity: Option<Settings>,
}

/// Exit status after a second signal: as of a process that a signal ended.
const INTERRUPTED: i32 = 130;

/// Does what signals say, in a thread of its own.
fn obey(controller: Controller, grace: Duration, identity: Option<Settings>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match (signal, &identity) {
                (SIGHUP, None) => tracing::info!("SIGHUP: there are no certificates to read again"),
                (SIGHUP, Some(settings)) => match Identity::load(settings) {
                    Ok(identity) => {
                        tracing::info!("SIGHUP: now with the certificate {}", identity.fingerprint());
                        controller.set_identity(identity);
                    }
                    Err(e) => tracing::error!("SIGHUP: the certificates stay as they are: {e}"),
                },
                _ if stopping => std::process::exit(INTERRUPTED),
                _ => {
                    stopping = true;
                    let (running, waiting) = controller.load();
                    tracing::info!(running, waiting, "shutting down; a second signal ends at once");
                    controller.stop();
                    let controller = controller.clone();
                    std::thread::spawn(move || {
                        std::thread::sleep(grace);
                        // Also those that began just now.
                        loop {
                            controller.end_sessions("the server shuts down");
                            std::thread::sleep(Duration::from_millis(100));
                        }
                    });
                }
            }
        }
    })?;
    Ok(())
}

/// Serves until a signal comes, or one session is over. `finish` completes a session's report and says it for people.
pub(super) fn host(
    server: Server,
    greeting: &str,
    running: &Running<'_>,
    mut finish: impl FnMut(&mut Value) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let address = server.address()?;
    let controller = server.controller();
    obey(controller.clone(), running.grace, running.identity.clone())?;
    let monitor =
        |at: &str| monitor::start(at, controller).map_err(|e| Failure::from(e).about(format_args!("metrics on {at}")));
    let metrics = running.metrics.map(monitor).transpose()?;
    if running.json {
        let mut line = json!({ "listening": address.to_string() });
        if let Some(metrics) = metrics {
            line["metrics"] = json!(metrics.to_string());
        }
        print_line(line);
    } else {
        print_line(format_args!("{greeting} on {address}"));
    }
    for Event { peer, outcome } in server.start() {
        let Outcome::Session(done) = outcome else { continue };
        match done {
            Ok(summary) => {
                let mut line = report(&summary);
                line["peer"] = json!(peer.to_string());
                let text = finish(&mut line)?;
                if let Some(total) = line["linear_values_total"].as_u64().filter(|&n| n >= ledger::WARNING) {
                    tracing::warn!(
                        "{total} values were made with these weights from ring-LWE, 2^36 = {} are within a distance of 2^-40",
                        ledger::WARNING
                    );
                }
                if running.json {
                    print_line(line);
                } else {
                    print_line(format_args!("{peer}: {text}"));
                }
            }
            Err(e) if running.once => return Err(Failure::from(e).about(format_args!("client {peer}"))),
            // It is in the log.
            Err(_) => {}
        }
        if running.once {
            break;
        }
    }
    Ok(())
}
