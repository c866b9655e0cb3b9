//! What `infer`, `run` and `demo` share: a client's request and the report on it.

use super::Failure;
use super::output::{Bar, write_file};
use clap::Args;
use serde_json::{Value, json};
use sirnn::compile;
use sirnn::graph::Reveal;
use sirnn::model::input::Sources;
use sirnn::model::{Description, Items, Results};
use sirnn::run::store::Store;
use sirnn::service::ServiceError;
use sirnn::service::client::{Client, Options};
use sirnn::service::local::{cpu_seconds, peak_memory, say};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Numbers of an item that are shown.
const SHOWN: usize = 8;

/// Where a client's items are.
#[derive(Args, Clone)]
pub(super) struct ItemFiles {
    /// Items: .npy of shape [N, ...], or .csv with one item per line, step after step. Of several inputs each is named (--input
    /// NAME=FILE, repeated), or all are in one folder as NAME.npy or NAME.csv
    #[arg(long = "input", value_name = "[NAME=]FILE", required = true)]
    inputs: Vec<String>,
    /// Where items have different numbers of time steps: a file with one number per line. What stands behind an item's
    /// own length is not read
    #[arg(long, value_name = "FILE")]
    lengths: Option<PathBuf>,
}

impl ItemFiles {
    pub(super) fn sources(self) -> Sources {
        Sources { inputs: self.inputs, lengths: self.lengths }
    }
}

/// Reads items, at least one.
pub(super) fn load(sources: &Sources, description: &Description, first: Option<usize>) -> Result<Items, Failure> {
    let items = Items::load(sources, description)?;
    if items.is_empty() {
        return Err(format!("{}: there are no items", sources.inputs.join(", ")).into());
    }
    Ok(first.map_or(items.clone(), |n| items.first(n)))
}

/// Results of a request and what it cost.
pub(super) struct Answer {
    pub(super) results: Results,
    /// Keys as in every report; the server's own numbers are null.
    pub(super) report: Value,
}

/// Which items to ask for.
pub(super) struct Question<'a> {
    pub(super) sources: &'a Sources,
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
    let items = load(question.sources, &description, question.first)?;
    let request = facts(&items);
    let bar = Bar::new();
    let (batch, inputs, mut show) = (question.batch, |range| items.inputs(range), |p| bar.show(p));
    let (outputs, summary) = match store {
        Some(store) => client.infer_stored(store, &request, batch, &inputs, &mut show),
        None => client.infer(&request, batch, &inputs, &mut show),
    }
    .map_err(|e| of_server(addresses, e))?;
    drop(bar);
    let mut results = Results::new(&description, items.steps())?;
    let lengths: Vec<usize> = (0..items.len()).map(|i| items.length(i)).collect();
    results.add(&lengths, &outputs)?;
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    results_to(&mut report, &results);
    Ok(Answer { results, report })
}

/// The public facts of a request for items.
fn facts(items: &Items) -> compile::Request {
    compile::Request { items: items.len(), steps: items.steps(), lengths: items.lengths().map(<[usize]>::to_vec) }
}

/// Says which peer an error is about.
pub(super) fn of_server(addresses: &[SocketAddr], e: ServiceError) -> Failure {
    match (e, addresses) {
        (e @ (ServiceError::Limit(_) | ServiceError::Build(_) | ServiceError::Store(_)), _) | (e, []) => e.into(),
        (e, [address, ..]) => format!("server {address}: {e}").into(),
    }
}

/// Adds results to a report: the first output's values (or classes), the class of each item, and all outputs where there are several.
pub(super) fn results_to(report: &mut Value, results: &Results) {
    report["output"] = json!(results.rows());
    if let Some(classes) = results.classes() {
        report["class"] = json!(classes);
    }
    if results.outputs.len() > 1 {
        let one = |o: &sirnn::model::results::Revealed| {
            let mut value = json!({ "shape": o.shape });
            if o.reveal != Reveal::Class {
                value["output"] = json!(o.values);
            }
            if o.reveal != Reveal::Values {
                value["class"] = json!(o.classes);
            }
            (o.name.clone(), value)
        };
        report["outputs"] = results.outputs.iter().map(one).collect::<serde_json::Map<_, _>>().into();
    }
}

/// Writes results to the file that was named, and those beside it.
pub(super) fn write_results(results: &Results, path: &Path) -> Result<(), Failure> {
    results.files(path).iter().try_for_each(|(path, bytes)| write_file(path, bytes))
}

/// A line per item and output.
pub(super) fn show_results(results: &Results) {
    for output in &results.outputs {
        let of = if results.outputs.len() > 1 { format!(" {}", output.name) } else { String::new() };
        for item in 0..output.values.len().max(output.classes.len()) {
            let words: Vec<String> = match output.classes.get(item) {
                Some(classes) => classes.iter().map(|&c| output.label(c)).collect(),
                None => output.values[item].iter().map(|&v| output.real(v).to_string()).collect(),
            };
            let more = if words.len() > SHOWN { format!(" ... ({} in all)", words.len()) } else { String::new() };
            say(format_args!("item {item}{of}: {}{more}", words[..words.len().min(SHOWN)].join(" ")));
        }
    }
}
