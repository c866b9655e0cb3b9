//! What `infer`, `run` and `demo` share: a client's request and the report on it.

use super::Failure;
use super::output::Bar;
use serde_json::{Value, json};
use sirnn::model::{Description, Items, Results};
use sirnn::run::file;
use sirnn::run::store::Store;
use sirnn::run::usage::{cpu_seconds, peak_memory};
use sirnn::service::client::{Address, Client, Options, Outputs};
use sirnn::service::{Fault, ServiceError};
use std::path::Path;
use std::time::{Duration, Instant};

/// Results of a request and what it cost.
pub(super) struct Answer {
    pub(super) description: Description,
    pub(super) results: Results,
    /// Keys as in every report; the server's own numbers are null.
    pub(super) report: Value,
}

/// Which items to ask for.
pub(super) struct Request<'a> {
    pub(super) input: &'a Path,
    /// Only the first so many.
    pub(super) first: Option<usize>,
    pub(super) batch: Option<usize>,
    /// What was made ahead for it.
    pub(super) store: Option<&'a Path>,
    /// For how long to try again if the server is busy or not there.
    pub(super) retry: Duration,
}

/// Asks, and asks again while the server is busy or not there and there is time.
pub(super) fn request(server: &Address, options: &Options, request: &Request<'_>) -> Result<Answer, Failure> {
    // What cannot be read is found out before anybody is asked.
    file::check_readable(request.input).map_err(|e| format!("{}: {e}", request.input.display()))?;
    let end = Instant::now() + request.retry;
    loop {
        match attempt(server, options.clone(), request) {
            Err(e) if e.retry.is_some_and(|wait| Instant::now() + wait <= end) => {
                tracing::warn!("{e}; trying again");
                std::thread::sleep(e.retry.unwrap_or_default());
            }
            done => return done,
        }
    }
}

fn attempt(server: &Address, options: Options, request: &Request<'_>) -> Result<Answer, Failure> {
    let store = request.store.map(Store::open).transpose()?;
    let client = Client::connect(server, options).map_err(|e| of_server(server, e))?;
    let description = client.description().clone();
    let items = Items::load(request.input, &description)?;
    if items.is_empty() {
        return Err(format!("{}: there are no items", request.input.display()).into());
    }
    let n = request.first.map_or(items.len(), |n| n.min(items.len()));
    let mut bar = Bar::new();
    let (batch, inputs, mut show) = (request.batch, |range| items.inputs(range), |p| bar.show(p));
    let mut results = Results::default();
    let mut accept = |outputs: &Outputs| {
        let outputs: Vec<_> = outputs.iter().map(|(name, values)| (name.clone(), values.clone())).collect();
        Ok(results.add(&description, &outputs)?)
    };
    let (_, summary) = match store {
        Some(store) => client.infer_stored(store, n, batch, &inputs, &mut show, &mut accept),
        None => client.infer(n, batch, &inputs, &mut show, &mut accept),
    }
    .map_err(|e| of_server(server, e))?;
    drop(bar);
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    report["output"] = json!(rows(&results));
    report["class"] = json!(results.classes);
    Ok(Answer { description, results, report })
}

/// Says which peer an error is about.
pub(super) fn of_server(server: &Address, e: ServiceError) -> Failure {
    let own = matches!(e.fault(), Fault::Input | Fault::Internal) || matches!(e, ServiceError::Limit(_));
    let failure = Failure::from(e);
    if own { failure } else { failure.about(format_args!("server {}", server.addresses[0])) }
}

/// Per item, what was revealed: scores, or else the class alone.
fn rows(results: &Results) -> Vec<Vec<i64>> {
    match &results.scores[..] {
        [] => results.classes.iter().map(|&c| vec![c as i64]).collect(),
        scores => scores.iter().map(|row| row.iter().map(|&v| v as i64).collect()).collect(),
    }
}
