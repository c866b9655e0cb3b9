//! What `infer`, `run` and `demo` share: a client's request and the report on it.

use super::Failure;
use super::output::{Bar, write_file};
use super::shard::Shard;
use clap::Args;
use serde_json::{Value, json};
use sirnn::compile;
use sirnn::graph::Reveal;
use sirnn::model::input::Sources;
use sirnn::model::results::Computed;
use sirnn::model::{Description, Items, Results};
use sirnn::run::store::Store;
use sirnn::run::usage::{cpu_seconds, peak_memory};
use sirnn::service::client::{Address, CONNECT_TIMEOUT, Client, Options, Outputs};
use sirnn::service::local::print_line;
use sirnn::service::{Cancellation, Fault, ServiceError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Numbers of an item that are shown.
const SHOWN: usize = 8;

/// Where a client's items are.
#[derive(Args, Clone)]
pub(super) struct ItemFiles {
    /// Items: .npy of shape [N, ...] (of an item's own shape: one item), .csv with one item per line, step after step, or a .wav
    /// recording where the model is for such. Of several inputs each is named (--input NAME=FILE, repeated), or all are in one
    /// folder as NAME.npy or NAME.csv
    #[arg(long = "input", value_name = "[NAME=]FILE", required = true)]
    inputs: Vec<String>,
    /// Where items have different numbers of time steps: a file with one number per line. What stands behind an item's
    /// own length is not read
    #[arg(long, value_name = "FILE")]
    lengths: Option<PathBuf>,
    /// Whole numbers are the integers of the model's format, where it would take them for real numbers
    #[arg(long)]
    integers: bool,
}

impl ItemFiles {
    pub(super) fn sources(&self) -> Sources {
        Sources { inputs: self.inputs.clone(), lengths: self.lengths.clone() }
    }

    pub(super) fn integers(&self) -> bool {
        self.integers
    }
}

/// Reads items, at least one.
pub(super) fn load(
    sources: &Sources,
    integers: bool,
    description: &Description,
    first: Option<usize>,
) -> Result<Items, Failure> {
    let items = Items::load_as(sources, description, integers)?;
    if items.saturated() > 0 {
        let n = items.saturated();
        tracing::warn!("{n} numbers are beyond what the model was made for and count as the nearest that it can take");
    }
    if items.is_empty() {
        return Err(format!("{}: there are no items", sources.inputs.join(", ")).into());
    }
    Ok(first.map_or(items.clone(), |n| items.first(n)))
}

/// Results of a request and what it cost.
pub(super) struct Answer {
    pub(super) results: Results,
    /// The items of the job, and those of the shard.
    pub(super) items: (usize, Range<usize>),
    pub(super) description: Description,
    /// Keys as in every report; the server's own numbers are null.
    pub(super) report: Value,
}

/// Which items to ask for.
pub(super) struct Request<'a> {
    pub(super) sources: &'a Sources,
    /// Whole numbers are integers of the model's format.
    pub(super) integers: bool,
    /// Only the first so many.
    pub(super) first: Option<usize>,
    /// Only those of a part of the job.
    pub(super) shard: Option<Shard>,
    pub(super) batch: Option<usize>,
    /// What was made ahead for it.
    pub(super) store: Option<&'a Path>,
    /// For how long to try again if the server is busy or not there.
    pub(super) retry: Duration,
}

/// Asks, and asks again while servers are busy or not there and there is time. Of several servers of the same model another one is
/// asked as long as no session has started.
pub(super) fn request(servers: &[Address], options: &Options, request: &Request<'_>) -> Result<Answer, Failure> {
    // What cannot be read is found out before anybody is asked.
    request.sources.check_readable()?;
    let end = Instant::now() + request.retry;
    // Where there are several, one that is not there is not waited for.
    let patience = if servers.len() > 1 { CONNECT_TIMEOUT / 4 } else { CONNECT_TIMEOUT };
    loop {
        let mut failure: Option<Failure> = None;
        for server in servers {
            let mut started = false;
            match attempt(server, options.clone(), patience, request, &mut started) {
                Ok(answer) => return Ok(answer),
                Err(e) => {
                    let next = e.retry.is_some() && !started;
                    if next && servers.len() > 1 {
                        tracing::warn!("{e}; asking another server");
                    }
                    failure = Some(e);
                    if !next {
                        break;
                    }
                }
            }
        }
        let failure = failure.ok_or("there is no server to ask")?;
        match failure.retry {
            Some(wait) if Instant::now() + wait <= end => {
                tracing::warn!("{failure}; trying again");
                std::thread::sleep(wait);
            }
            _ => return Err(failure),
        }
    }
}

/// `started` says whether a session has.
fn attempt(
    server: &Address,
    options: Options,
    patience: Duration,
    request: &Request<'_>,
    started: &mut bool,
) -> Result<Answer, Failure> {
    let store = request.store.map(Store::open).transpose()?;
    let client = Client::connect_within(server, options, patience, &Cancellation::default())
        .map_err(|e| of_server(server, e))?;
    let description = client.description().clone();
    let all = load(request.sources, request.integers, &description, request.first)?;
    let range = request.shard.map_or(Ok(0..all.len()), |shard| shard.items(all.len()))?;
    let items = all.slice(range.clone());
    let wanted = facts(&items);
    let mut results = Results::new(&description, items.steps())?.numbered_from(range.start);
    let lengths: Vec<usize> = (0..items.len()).map(|i| items.length(i)).collect();
    let mut bar = Bar::new();
    let (batch, inputs, mut show) = (request.batch, |range| items.inputs(range), |p| bar.show(p));
    let mut accept = |outputs: &Outputs| Ok(results.add(&lengths, outputs)?);
    let (_, summary) = match store {
        Some(store) => client.infer_stored(store, &wanted, batch, &inputs, &mut show, &mut accept),
        None => client.admit(&wanted, batch, &mut show).and_then(|admitted| {
            *started = true;
            admitted.compute(&inputs, &mut show, &mut accept)
        }),
    }
    .map_err(|e| of_server(server, e))?;
    drop(bar);
    results.finish(&description, &lengths)?;
    let mut report = serde_json::to_value(&summary)?;
    report["cpu_seconds"] = json!([null, cpu_seconds()]);
    report["peak_memory"] = json!([null, peak_memory()]);
    results_to(&mut report, &results);
    Ok(Answer { results, items: (all.len(), range), description, report })
}

/// The public facts of a request for items.
fn facts(items: &Items) -> compile::Request {
    compile::Request { items: items.len(), steps: items.steps(), lengths: items.lengths().map(<[usize]>::to_vec) }
}

/// Says which peer an error is about.
pub(super) fn of_server(server: &Address, e: ServiceError) -> Failure {
    let own = matches!(e.fault(), Fault::Input | Fault::Internal) || matches!(e, ServiceError::Limit(_));
    let failure = Failure::from(e);
    if own { failure } else { failure.about(format_args!("server {}", server.addresses[0])) }
}

/// Adds results to a report: the first output's values (or classes), the class of each item, and all outputs where there are several.
pub(super) fn results_to(report: &mut Value, results: &Results) {
    report["output"] = json!(results.rows());
    if !results.computed.is_empty() {
        let one = |c: &Computed| (c.name.clone(), json!({ "shape": c.shape, "values": c.values }));
        report["computed"] = results.computed.iter().map(one).collect::<serde_json::Map<_, _>>().into();
    }
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
    let cut = |words: Vec<String>| {
        let more = if words.len() > SHOWN { format!(" ... ({} in all)", words.len()) } else { String::new() };
        format!("{}{more}", words[..words.len().min(SHOWN)].join(" "))
    };
    for computed in &results.computed {
        let of = if results.computed.len() > 1 { format!(" {}", computed.name) } else { String::new() };
        for (item, values) in computed.values.iter().enumerate() {
            print_line(format_args!("item {item}{of}: {}", cut(values.iter().map(|v| format!("{v:.6}")).collect())));
        }
    }
    for output in &results.outputs {
        let of = if results.outputs.len() > 1 { format!(" {}", output.name) } else { String::new() };
        for item in 0..output.values.len().max(output.classes.len()) {
            let words: Vec<String> = match output.classes.get(item) {
                Some(classes) => classes.iter().map(|&c| output.label(c)).collect(),
                None if !results.computed.is_empty() => continue,
                None => output.values[item].iter().map(|&v| output.real(v).to_string()).collect(),
            };
            print_line(format_args!("item {item}{of}: {}", cut(words)));
        }
    }
}
