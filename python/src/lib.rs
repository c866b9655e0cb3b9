//! Python bindings: the crate's front door, with arrays as bytes. The package around it (`sirnn/`) turns what Python has into
//! such arrays and back.
//!
//! Calls that take time run in a thread of their own. The calling thread releases the interpreter's lock and looks for signals,
//! so that Ctrl-C ends a call, and tells of its progress.
//!
//! `unsafe` is not forbidden as elsewhere: what pyo3's macros expand to has some. There is none written here.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use sirnn::{Cancellation, Fault, Goal, Inputs, Linear, Planning, Port, Predictions, Progress, Reveal};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A builder with those of its values that are given.
macro_rules! given {
    ($builder:expr, $($method:ident: $value:expr),+ $(,)?) => {{
        let mut builder = $builder;
        $(if let Some(value) = $value {
            builder = builder.$method(value);
        })+
        builder
    }};
}

/// A builder with limits.
macro_rules! limited {
    ($builder:expr, $limits:expr) => {{
        let (bytes, memory, deadline, rate) = $limits;
        let deadline = deadline.map(seconds).transpose()?;
        given!($builder, max_bytes: bytes, max_memory: memory, deadline: deadline, min_rate: rate)
    }};
}

/// How often a call looks for signals and tells of its progress.
const TICK: Duration = Duration::from_millis(50);
/// For how long a call that was interrupted waits for its connections to end.
const LAST_WORD: Duration = Duration::from_secs(2);

/// An exception that the package defines.
fn exception(py: Python<'_>, name: &str, text: &str) -> PyErr {
    let made = py.import("sirnn._errors").and_then(|module| module.getattr(name)?.call1((text,)));
    made.map_or_else(|failed| failed, PyErr::from_value)
}

/// What the caller gave is wrong.
fn wrong(text: impl std::fmt::Display) -> PyErr {
    Python::attach(|py| exception(py, "InputError", &text.to_string()))
}

/// The exception of an error.
fn raised(py: Python<'_>, e: &sirnn::Error) -> PyErr {
    let name = match e.fault() {
        _ if e.is_cancelled() => "CancelledError",
        Fault::Input => "InputError",
        Fault::Peer => "PeerError",
        Fault::Network => "NetworkError",
        Fault::Limit => "LimitError",
        Fault::Busy => "BusyError",
        _ => "InternalError",
    };
    let raised = exception(py, name, &e.to_string());
    if let Some(after) = e.retry_after() {
        // Without it the class's own value stands.
        let _ = raised.value(py).setattr("retry_after", after.as_secs_f64());
    }
    raised
}

/// An array: its input's name, `f` or `i`, doubles or 64-bit integers (little endian), shape, lengths of the items if they differ.
/// With lengths the data are those of all items one after the other, and the shape is that of one step.
type Array = (Option<String>, char, PyBackedBytes, Vec<usize>, Option<Vec<usize>>);

fn decode<T>(bytes: &[u8], read: fn([u8; 8]) -> T) -> Vec<T> {
    bytes.chunks_exact(8).map(|b| read(b.try_into().expect("8 bytes"))).collect()
}

/// The items of sequences that stand one after the other.
fn split<'a, T>(values: &'a [T], lengths: &[usize], step: usize) -> PyResult<Vec<&'a [T]>> {
    let mut rest = values;
    let item = |&steps: &usize| {
        let (own, behind) = rest.split_at_checked(steps * step)?;
        rest = behind;
        Some(own)
    };
    let items: Option<Vec<_>> = lengths.iter().map(item).collect();
    items.filter(|_| rest.is_empty()).ok_or_else(|| wrong("lengths that do not fit the data"))
}

fn inputs(arrays: Vec<Array>) -> PyResult<Inputs> {
    let one = |(name, kind, bytes, shape, lengths): Array| -> PyResult<Inputs> {
        let step = shape.iter().product();
        let inputs = match (kind, lengths) {
            ('f', None) => Inputs::reals(&decode(&bytes, f64::from_le_bytes), &shape),
            ('f', Some(lengths)) => {
                Inputs::real_sequences(split(&decode(&bytes, f64::from_le_bytes), &lengths, step)?, &shape)
            }
            (_, None) => Inputs::integers(&decode(&bytes, i64::from_le_bytes), &shape),
            (_, Some(lengths)) => {
                Inputs::integer_sequences(split(&decode(&bytes, i64::from_le_bytes), &lengths, step)?, &shape)
            }
        };
        Ok(match name {
            Some(name) => inputs.named(&name),
            None => inputs,
        })
    };
    let mut all = arrays.into_iter().map(one);
    let first = all.next().ok_or_else(|| wrong("no arrays"))??;
    all.try_fold(first, |sum, one| Ok(sum.and(one?)))
}

fn name_of(reveal: Reveal) -> &'static str {
    match reveal {
        Reveal::Values => "values",
        Reveal::Scores => "scores",
        Reveal::Class => "class",
    }
}

/// A port as a dictionary.
fn port<'py>(py: Python<'py>, port: &Port) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &port.name)?;
    dict.set_item("shape", &port.shape)?;
    dict.set_item("bits", port.bits)?;
    dict.set_item("scale", port.scale)?;
    dict.set_item("unsigned", port.unsigned)?;
    if let Some(reveal) = port.reveal {
        dict.set_item("reveal", name_of(reveal))?;
        dict.set_item("labels", &port.labels)?;
    }
    Ok(dict)
}

/// Name, steps, inputs, outputs, text.
type NetworkParts<'py> = (String, usize, Vec<Bound<'py, PyDict>>, Vec<Bound<'py, PyDict>>, String);

fn network<'py>(py: Python<'py>, network: &sirnn::Network) -> PyResult<NetworkParts<'py>> {
    let ports = |all: Vec<Port>| all.iter().map(|p| port(py, p)).collect::<PyResult<Vec<_>>>();
    Ok((network.name().into(), network.steps(), ports(network.inputs())?, ports(network.outputs())?, network.to_toml()))
}

/// Predictions: for each output a dictionary, and the summary as JSON.
fn predictions<'py>(py: Python<'py>, all: &Predictions) -> PyResult<(Vec<Bound<'py, PyDict>>, Option<String>)> {
    let output = |output: sirnn::Output<'_>| -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("name", output.name())?;
        dict.set_item("reveal", name_of(output.reveal()))?;
        dict.set_item("labels", output.class_names())?;
        dict.set_item("shape", output.shape())?;
        dict.set_item("per_step", output.is_per_step())?;
        dict.set_item("scale", output.scale())?;
        let items = 0..output.len();
        let (mut integers, mut classes) = (Vec::new(), Vec::new());
        let (mut of_integers, mut of_classes) = (Vec::new(), Vec::new());
        for item in items {
            let (own, own_classes) = (output.integers(item), output.classes(item));
            of_integers.push(own.len());
            of_classes.push(own_classes.len());
            integers.extend(own.iter().flat_map(|v| v.to_le_bytes()));
            classes.extend(own_classes.iter().flat_map(|&c| (c as i64).to_le_bytes()));
        }
        if output.reveal() != Reveal::Class {
            dict.set_item("integers", (PyBytes::new(py, &integers), of_integers))?;
        }
        if output.reveal() != Reveal::Values {
            dict.set_item("classes", (PyBytes::new(py, &classes), of_classes))?;
        }
        Ok(dict)
    };
    let outputs = all.outputs().map(output).collect::<PyResult<_>>()?;
    let summary = all.summary().map(|s| serde_json::to_string(s).expect("numbers have a JSON form"));
    Ok((outputs, summary))
}

/// Waits for something in a thread of its own: without the interpreter's lock, looking for signals, telling of progress. What `work` is
/// given takes the newest progress.
fn wait<T: Send + 'static>(
    py: Python<'_>,
    cancellation: &Cancellation,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(Arc<Mutex<Option<Progress>>>) -> sirnn::Result<T> + Send + 'static,
) -> PyResult<T> {
    let newest = Arc::new(Mutex::new(None::<Progress>));
    let (sender, mut receiver) = channel();
    let shared = newest.clone();
    std::thread::Builder::new().name("sirnn call".into()).spawn(move || {
        // Nobody may wait any more.
        let _ = sender.send(work(shared));
    })?;
    loop {
        // Moved there and back: a receiver is not for several threads.
        let done;
        (done, receiver) = py.detach(move || (receiver.recv_timeout(TICK), receiver));
        let told = newest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut heard = match (told, progress) {
            (Some(Progress { queued, rounds, total }), Some(heard)) => heard.call1((queued, rounds, total)).map(drop),
            _ => Ok(()),
        };
        match done {
            Ok(done) => return heard.and_then(|()| done.map_err(|e| raised(py, &e))),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("internal error: a panic"));
            }
            Err(RecvTimeoutError::Timeout) => heard = heard.and_then(|()| py.check_signals()),
        }
        if let Err(e) = heard {
            cancellation.cancel();
            let end = Instant::now() + LAST_WORD;
            // So that the server hears of it; what it says is of no interest.
            let _ = py.detach(move || receiver.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok());
            return Err(e);
        }
    }
}

fn planning(
    goal: &str,
    link: &str,
    ot: Option<String>,
    fuse: Option<bool>,
    lanes: Option<usize>,
    linear: &str,
) -> PyResult<Planning> {
    let goal = match goal {
        "time" => Goal::Time,
        "rounds" => Goal::Rounds,
        "bytes" => Goal::Bytes,
        "online" => Goal::Online,
        _ => return Err(wrong(format!("goal '{goal}': time, rounds, bytes or online"))),
    };
    let planning = Planning::default().goal(goal).link(link.parse().map_err(wrong)?).linear(form(linear)?);
    Ok(given!(planning, ot: ot, fuse: fuse, lanes: lanes))
}

fn form(linear: &str) -> PyResult<Linear> {
    match linear {
        "auto" => Ok(Linear::Auto),
        "cot" => Ok(Linear::Cot),
        "rlwe" => Ok(Linear::Rlwe),
        _ => Err(wrong(format!("linear '{linear}': auto, cot or rlwe"))),
    }
}

/// How requests are computed.
#[pyclass(frozen, module = "sirnn._sirnn")]
struct Plans(Planning);

#[pymethods]
impl Plans {
    #[new]
    fn new(
        goal: &str,
        link: &str,
        ot: Option<String>,
        fuse: Option<bool>,
        lanes: Option<usize>,
        linear: &str,
    ) -> PyResult<Self> {
        Ok(Self(planning(goal, link, ot, fuse, lanes, linear)?))
    }
}

/// Who a party is: certificate, key, fingerprints, authority, name.
type Identity = (String, String, Vec<String>, Option<String>, Option<String>);

fn identity(py: Python<'_>, parts: Identity) -> PyResult<sirnn::Identity> {
    let (certificate, key, fingerprints, authority, name) = parts;
    let mut identity = sirnn::Identity::new(certificate, key);
    for fingerprint in &fingerprints {
        identity = identity.accept(fingerprint).map_err(|e| raised(py, &e))?;
    }
    if let Some(file) = authority {
        identity = identity.accept_authority(file);
    }
    Ok(match name {
        Some(name) => identity.expect_name(name),
        None => identity,
    })
}

/// Makes `certificate.pem` and `key.pem` in a folder and returns the fingerprint.
#[pyfunction]
fn create_identity(py: Python<'_>, name: &str, folder: &str) -> PyResult<String> {
    sirnn::Identity::create(name, folder).map(|(_, fingerprint)| fingerprint).map_err(|e| raised(py, &e))
}

/// Limits of both parties: most bytes, most memory, deadline in seconds, slowest rate.
type Limits = (Option<u64>, Option<u64>, Option<f64>, Option<u64>);

fn seconds(s: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(s).map_err(|e| wrong(format!("{s} seconds: {e}")))
}

/// A model.
#[pyclass(frozen, module = "sirnn._sirnn")]
struct Model(sirnn::Model);

#[pymethods]
impl Model {
    #[new]
    fn new(py: Python<'_>, folder: std::path::PathBuf) -> PyResult<Self> {
        py.detach(|| sirnn::Model::load(folder)).map(Self).map_err(|e| raised(py, &e))
    }

    fn network<'py>(&self, py: Python<'py>) -> PyResult<NetworkParts<'py>> {
        network(py, self.0.network())
    }

    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        arrays: Vec<Array>,
    ) -> PyResult<(Vec<Bound<'py, PyDict>>, Option<String>)> {
        let (model, inputs) = (self.0.clone(), inputs(arrays)?);
        let done = wait(py, &Cancellation::default(), None, move |_| model.evaluate(inputs))?;
        predictions(py, &done)
    }

    fn run<'py>(
        &self,
        py: Python<'py>,
        arrays: Vec<Array>,
        plans: &Plans,
    ) -> PyResult<(Vec<Bound<'py, PyDict>>, Option<String>)> {
        let (model, inputs, planning) = (self.0.clone(), inputs(arrays)?, plans.0.clone());
        let done = wait(py, &Cancellation::default(), None, move |_| model.run(inputs, &planning))?;
        predictions(py, &done)
    }

    fn plan<'py>(
        &self,
        py: Python<'py>,
        items: usize,
        steps: Option<usize>,
        plans: &Plans,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (network, planning) = (self.0.network().clone(), plans.0.clone());
        let cost = wait(py, &Cancellation::default(), None, move |_| network.plan(items, steps, &planning))?;
        let dict = PyDict::new(py);
        dict.set_item("ot", cost.ot)?;
        dict.set_item("fused", cost.fused)?;
        dict.set_item("lanes", cost.lanes)?;
        dict.set_item("batch", cost.batch)?;
        dict.set_item("rounds", cost.rounds)?;
        dict.set_item("rounds_offline", cost.rounds_offline)?;
        dict.set_item("bytes_total", cost.bytes_total)?;
        dict.set_item("bytes_offline", cost.bytes_offline)?;
        dict.set_item("bytes_online", cost.bytes_online)?;
        dict.set_item("peak_memory", cost.memory)?;
        dict.set_item("cpu_seconds", cost.cpu_seconds)?;
        dict.set_item("seconds", cost.seconds)?;
        Ok(dict)
    }
}

/// A client.
#[pyclass(frozen, module = "sirnn._sirnn")]
struct Client(sirnn::Client);

#[pymethods]
impl Client {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the package has names and defaults for them")]
    fn new(
        py: Python<'_>,
        addresses: Vec<String>,
        parts: Option<Identity>,
        plaintext: bool,
        limits: Limits,
        expect: Option<std::path::PathBuf>,
        batch: Option<usize>,
        linear: &str,
        retry: f64,
    ) -> PyResult<Self> {
        let mut addresses = addresses.into_iter();
        let first = addresses.next().ok_or_else(|| wrong("no address"))?;
        let cancellation = Cancellation::default();
        let builder = sirnn::Client::builder(first).linear(form(linear)?).retry(seconds(retry)?);
        let mut builder = limited!(builder.cancellation(&cancellation), limits);
        for address in addresses {
            builder = builder.or(address);
        }
        if let Some(parts) = parts {
            builder = builder.identity(identity(py, parts)?);
        }
        if plaintext {
            builder = builder.insecure_plaintext();
        }
        if let Some(folder) = expect {
            builder = builder.expect(sirnn::Network::load(folder).map_err(|e| raised(py, &e))?);
        }
        if let Some(items) = batch {
            builder = builder.batch(items);
        }
        wait(py, &cancellation, None, move |_| builder.connect()).map(Self)
    }

    fn network<'py>(&self, py: Python<'py>) -> PyResult<NetworkParts<'py>> {
        network(py, self.0.network())
    }

    fn predict<'py>(
        &self,
        py: Python<'py>,
        arrays: Vec<Array>,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Vec<Bound<'py, PyDict>>, Option<String>)> {
        let (cancellation, inputs) = (Cancellation::default(), inputs(arrays)?);
        let client = self.0.clone().with_cancellation(&cancellation);
        let done = wait(py, &cancellation, progress, move |newest| {
            let tell = move |p| *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(p);
            client.with_progress(tell).predict(inputs)
        })?;
        predictions(py, &done)
    }
}

/// A server.
#[pyclass(frozen, module = "sirnn._sirnn")]
struct Server(Arc<sirnn::Server>);

#[pymethods]
impl Server {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the package has names and defaults for them")]
    fn new(
        py: Python<'_>,
        model: &Model,
        listen: &str,
        parts: Option<Identity>,
        plaintext: bool,
        limits: Limits,
        plans: &Plans,
        counts: (Option<usize>, Option<usize>, Option<usize>, Option<usize>),
        grace: f64,
    ) -> PyResult<Self> {
        let builder = sirnn::Server::builder(&model.0).planning(plans.0.clone()).grace(seconds(grace)?);
        let builder = limited!(builder, limits);
        let (items, batch, sessions, queue) = counts;
        let mut builder = given!(builder, max_items: items, max_batch: batch, max_sessions: sessions, queue: queue);
        if let Some(parts) = parts {
            builder = builder.identity(identity(py, parts)?);
        }
        if plaintext {
            builder = builder.insecure_plaintext();
        }
        let server = py.detach(|| builder.listen(listen)).map_err(|e| raised(py, &e))?;
        Ok(Self(Arc::new(server)))
    }

    fn address(&self) -> String {
        self.0.address().to_string()
    }

    fn load(&self) -> (usize, usize) {
        self.0.handle().load()
    }

    fn metrics(&self) -> String {
        self.0.handle().metrics()
    }

    fn stop(&self) {
        self.0.handle().stop();
    }

    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.0.clone();
        wait(py, &Cancellation::default(), None, move |_| {
            server.wait();
            Ok(())
        })
    }
}

/// What the package `sirnn` is made of.
#[pymodule]
fn _sirnn(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Plans>()?;
    module.add_class::<Model>()?;
    module.add_class::<Client>()?;
    module.add_class::<Server>()?;
    module.add_function(wrap_pyfunction!(create_identity, module)?)
}
