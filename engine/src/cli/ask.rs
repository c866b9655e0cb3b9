//! What `infer`, `run` and `demo` share: a client's request and the report on it.

use super::Failure;
use super::output::Bar;
use serde_json::{Value, json};
use sirnn::model::{Description, Items, Results};
use sirnn::run::store::Store;
use sirnn::service::ServiceError;
use sirnn::service::client::{Client, Options};
use sirnn::service::local::{cpu_seconds, peak_memory};
use std::net::SocketAddr;
use std::path::Path;

/// Results of a request and what it cost.
pub(super) struct Answer {
    pub(super) description: Description,
    pub(super) results: Results,
    /// Keys as in every report; the server's own numbers are null.
    pub(super) report: Value,
}

/// Which items to ask for.
pub(super) struct Question<'a> {
    pub(super) input: &'a Path,
    /// Only the first so many.
    pub(super) first: Option<usize>,
    pub(super) batch: Option<usize>,
    /// What was made ahead for it.
    pub(super) store: Option<&'a Path>,
}

pub(super) fn ask(addresses: &[SocketAddr], options: Options, question: &Question<'_>) -> Result<Answer, Failure> {
    // A store that is of no use is found out before anybody is asked.
    let store = question.store.map(Store::open).transpose().map_err(ServiceError::from)?;
    let client = Client::connect(addresses, options).map_err(|e| of_server(addresses, e))?;
    let description = client.description().clone();
    let items = Items::load(question.input, &description)?;
    if items.is_empty() {
        return Err(format!("{}: there are no items", question.input.display()).into());
    }
    let n = question.first.map_or(items.len(), |n| n.min(items.len()));
    let bar = Bar::new();
    let (batch, inputs, mut show) = (question.batch, |range| items.inputs(range), |p| bar.show(p));
    let (outputs, summary) = match store {
        Some(store) => client.infer_stored(store, n, batch, &inputs, &mut show),
        None => client.infer(n, batch, &inputs, &mut show),
    }
    .map_err(|e| of_server(addresses, e))?;
    drop(bar);
    let mut results = Results::default();
    results.add(&description, &outputs.into_iter().collect::<Vec<_>>())?;
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    report["output"] = json!(rows(&results));
    report["class"] = json!(results.classes);
    Ok(Answer { description, results, report })
}

/// Says which peer an error is about.
pub(super) fn of_server(addresses: &[SocketAddr], e: ServiceError) -> Failure {
    match (e, addresses) {
        (e @ (ServiceError::Limit(_) | ServiceError::Build(_) | ServiceError::Store(_)), _) | (e, []) => e.into(),
        (e, [address, ..]) => format!("server {address}: {e}").into(),
    }
}

/// Per item, what was revealed: scores, or else the class alone.
fn rows(results: &Results) -> Vec<Vec<i64>> {
    match &results.scores[..] {
        [] => results.classes.iter().map(|&c| vec![c as i64]).collect(),
        scores => scores.iter().map(|row| row.iter().map(|&v| v as i64).collect()).collect(),
    }
}
