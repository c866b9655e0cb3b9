//! From a file and calibration items to a model: what is private, what the client does itself, what stays free.
//!
//! 1. The file's inputs are sorted: known ([`Settings::set`]), initial states that are zeros, and what the client brings.
//! 2. The network is cut where the client's own part ends ([`Settings::client_until`]) or where the client begins
//!    ([`Settings::from`]), and taken over by [`recognise`](fn@recognise) for the calibration's number of time steps. Functions at its end
//!    (softmax, sigmoid) become the client's.
//! 3. Ranges are observed on the calibration items and formats chosen ([`quantise`](mod@quantise)).
//! 4. Where a time axis is free, the same is done for one step more, and what differs stays open ([`time`]).

use super::items::{Items, batch_axis, items};
use super::names::clean;
use super::network::evaluate::evaluate;
use super::network::{Network, Node, ValueId};
use super::onnx::{Dim, Graph as File, Input, Kind, Model as FileModel};
use super::part::{Part, take_suffix};
use super::quantise::{self, Layer, Options, Quantised, quantise_layers};
use super::ranges::Ranges;
use super::recognise::{Port, Request, recognise};
use super::search::{Search, search};
use super::tensor::{Data, Tensor, show};
use super::time;
use crate::graph::ops::{concat, pad, reshape, slice};
use crate::graph::{self, Graph, MAX_STEPS, Number, Reveal};
use crate::model::client::{Client, Constants, Reals};
use crate::model::{Description, Model};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many times the calibration's time steps a request may have, unless it is said.
const MORE_STEPS: usize = 4;
/// Lengths that tensors on the way to a cut are looked at with.
const PROBES: [[usize; 2]; 3] = [[4, 5], [64, 65], [400, 401]];

/// What is to be made of a file.
#[derive(Clone, Default)]
pub struct Settings {
    /// Name of the model.
    pub name: String,
    /// Arrays of calibration items, with the name of what they are for; without a name, for the only thing that the client brings.
    pub calibration: Vec<(Option<String>, Tensor)>,
    /// Each item's number of time steps, if they differ.
    pub lengths: Option<Vec<usize>>,
    /// Widths.
    pub options: Options,
    /// Widths of single layers, by name.
    pub layers: BTreeMap<String, Layer>,
    /// If the cheapest widths are to be found that agree enough with the file.
    pub search: Option<Search>,
    /// Inputs with known values: one number for all elements, or an array.
    pub set: BTreeMap<String, Tensor>,
    /// What is revealed, by the output's name; without a name of all that are not named. Values by default.
    pub reveal: Vec<(Option<String>, Reveal)>,
    /// Names of the classes of the first output whose last axis has as many.
    pub labels: Vec<String>,
    /// The outputs; all of the file's if there are none.
    pub outputs: Vec<String>,
    /// The most time steps of a request; four times the calibration's if nothing is said.
    pub max_steps: Option<usize>,
    /// Tensors up to which the client computes itself, in the clear.
    pub client_until: Vec<String>,
    /// Tensors that the client brings instead of what they are computed from.
    pub from: Vec<String>,
    /// What is subtracted from what the user has.
    pub mean: Option<Tensor>,
    /// What it is divided by then.
    pub std: Option<Tensor>,
    /// Samples per second, if items come from recordings.
    pub rate: Option<u32>,
    /// Of each step of the input, so many elements repeat the last ones of the step before: users do not have them.
    pub context: usize,
}

/// A model, and what is needed to judge it.
#[derive(Debug)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// The calibration items, as the private network's inputs, and their networks' place in `networks`.
    pub items: Vec<(usize, Vec<Tensor>)>,
    /// The networks in floats, for each number of time steps of an item.
    pub networks: Vec<Networks>,
    /// Name and format of the values of [`Networks::private`].
    pub values: HashMap<ValueId, (String, Number)>,
    /// Of values whose channels have scales of their own: by how much each is finer than the format says.
    pub channels: HashMap<ValueId, Vec<i32>>,
    /// The widths that were chosen.
    pub widths: quantise::Settings,
    /// What they are on the calibration items.
    pub ranges: Ranges,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A file's network for one number of time steps.
#[derive(Clone, Debug)]
pub struct Networks {
    /// What the client computes before.
    pub prefix: Option<Network>,
    /// All from there to the file's outputs.
    pub full: Network,
    /// The same without the functions at its end.
    pub private: Network,
    /// Those functions.
    pub suffix: Vec<Node>,
}

type Errors = Vec<String>;

fn one(what: impl ToString) -> Errors {
    vec![what.to_string()]
}

/// Values that some values depend on and no node makes, or at which the way back stops.
fn ends(file: &File, wanted: &[String], stop: &[String]) -> BTreeSet<String> {
    let mut needed: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    for node in file.nodes.iter().rev() {
        let makes = |n: &String| !stop.contains(n) && needed.contains(n.as_str());
        if node.outputs.iter().any(makes) {
            needed.extend(node.reads());
        }
    }
    let known = |n: &&str| file.inputs.iter().any(|i| i.name == **n) || stop.iter().any(|s| s == n);
    needed.into_iter().filter(known).map(String::from).collect()
}

/// Whether an input is an initial state and nothing else.
fn is_state(file: &File, name: &str) -> bool {
    let mut names = BTreeSet::from([name.to_string()]);
    let mut found = false;
    for node in &file.nodes {
        for (i, _) in node.inputs.iter().enumerate().filter(|(_, n)| names.contains(*n)).collect::<Vec<_>>() {
            let state = match node.op.as_str() {
                "LSTM" | "GRU" | "RNN" => i >= 5,
                "Loop" => i >= 2,
                "Scan" => true,
                _ => false,
            };
            let moves = matches!(
                node.op.as_str(),
                "Reshape"
                    | "Transpose"
                    | "Slice"
                    | "Squeeze"
                    | "Unsqueeze"
                    | "Gather"
                    | "Split"
                    | "Identity"
                    | "Concat"
                    | "Expand"
                    | "Cast"
            );
            match (state, moves) {
                (true, _) => found = true,
                (_, true) => names.extend(node.outputs.iter().cloned()),
                _ if node.op == "Shape" => {}
                _ => return false,
            }
        }
        if node.graphs().any(|g| g.captures().iter().any(|c| names.contains(*c))) {
            return false;
        }
    }
    found && !file.outputs.iter().any(|o| names.contains(o))
}

/// Axes of an input that are free and not the batch's.
fn time_axes(input: &Input) -> Vec<usize> {
    let batch = batch_axis(input);
    let dims = input.shape.as_deref().unwrap_or_default().iter().enumerate();
    dims.filter(|(i, d)| matches!(d, Dim::Free(_)) && Some(*i) != batch).map(|(i, _)| i).collect()
}

/// An input as it is for some number of time steps.
fn port(input: &Input, steps: usize) -> Result<Port, String> {
    let dims =
        input.shape.as_ref().ok_or_else(|| format!("input '{}': the file does not say its shape", input.name))?;
    let batch = batch_axis(input);
    let size = |(i, d): (usize, &Dim)| match d {
        _ if Some(i) == batch => 1,
        Dim::Fixed(n) => *n,
        Dim::Free(_) => steps,
    };
    Ok(Port { name: input.name.clone(), shape: dims.iter().enumerate().map(size).collect(), batch })
}

/// The steps of an item that a port is for.
fn steps_of(input: &Input, port: &Port) -> Result<Option<usize>, String> {
    let axes = time_axes(input);
    let sizes: BTreeSet<usize> = axes.iter().map(|&a| port.shape[a]).collect();
    if sizes.len() > 1 {
        return Err(format!("input '{}' has several free axes, of different lengths", input.name));
    }
    Ok(sizes.into_iter().next())
}

struct Conversion<'a> {
    file: &'a FileModel,
    settings: &'a Settings,
    outputs: Vec<String>,
    /// Known inputs.
    set: BTreeMap<String, Tensor>,
    /// Inputs of the file that the client's own part reads.
    prefix: Vec<Input>,
    /// What else the private network begins with, besides the results of that part: inputs of the file and tensors that the client
    /// brings.
    direct: Vec<Input>,
    notes: Vec<String>,
}

/// Makes a model.
///
/// # Errors
/// Everything that is wrong, one line each.
pub fn convert(file: &FileModel, settings: &Settings) -> Result<Imported, Errors> {
    let outputs = if settings.outputs.is_empty() { file.graph.outputs.clone() } else { settings.outputs.clone() };
    let mut conversion = Conversion {
        file,
        settings,
        outputs,
        set: BTreeMap::new(),
        prefix: Vec::new(),
        direct: Vec::new(),
        notes: Vec::new(),
    };
    conversion.sort_inputs()?;
    let calibration = conversion.calibration()?;
    conversion.finish(calibration)
}

/// Calibration items: of the client's own part, or of the private network.
struct Calibration {
    /// Arrays of each item, in the order of what they are for.
    items: Vec<Vec<Tensor>>,
    /// Whether they are what the private network begins with, and not what the user has.
    private: bool,
    /// Time steps of all; none where no time axis is free.
    steps: Option<usize>,
}

impl Conversion<'_> {
    /// Which inputs are known, which are states, and which the client brings.
    fn sort_inputs(&mut self) -> Result<(), Errors> {
        let (graph, settings) = (&self.file.graph, self.settings);
        let cuts: Vec<String> = settings.client_until.iter().chain(&settings.from).cloned().collect();
        let mut errors = Vec::new();
        let known = |name: &String| {
            graph.nodes.iter().any(|n| n.outputs.contains(name)) || graph.inputs.iter().any(|i| i.name == *name)
        };
        for name in cuts.iter().chain(&self.outputs).filter(|n| !known(n)) {
            errors.push(format!("value '{name}': there is no such value in the file"));
        }
        let private = ends(graph, &self.outputs, &cuts);
        for name in cuts.iter().filter(|n| known(n) && !private.contains(*n)) {
            errors.push(format!("value '{name}': no output depends on it"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let prefix = ends(graph, &settings.client_until, &settings.from);
        let named = |name: &str| settings.calibration.iter().any(|(n, _)| n.as_deref() == Some(name));
        for name in settings.set.keys().filter(|n| !graph.inputs.iter().any(|i| i.name == **n)) {
            errors.push(format!("--set {name}: the file has no such input"));
        }
        for input in &graph.inputs {
            let name = &input.name;
            let [of_prefix, of_private] = [prefix.contains(name), private.contains(name)];
            if !of_prefix && !of_private {
                continue;
            }
            if let Some(value) = settings.set.get(name) {
                match known_value(input, value) {
                    Ok(value) => drop(self.set.insert(name.clone(), value)),
                    Err(e) => errors.push(e),
                }
            } else if !named(name) && is_state(graph, name) {
                match known_value(input, &Tensor::floats(vec![], vec![0.0]).expect("a number")) {
                    Ok(zeros) => {
                        self.notes
                            .push(format!("input '{name}' is an initial state: zeros (--set {name}=VALUE changes it)"));
                        self.set.insert(name.clone(), zeros);
                    }
                    Err(e) => errors.push(e),
                }
            } else if input.kind != Kind::Float {
                errors.push(format!("input '{name}' is not of floats; say its value: --set {name}=VALUE"));
            } else {
                if of_prefix {
                    self.prefix.push(input.clone());
                }
                if of_private {
                    self.direct.push(input.clone());
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for name in &settings.from {
            let input = self.tensor(name)?;
            self.direct.push(input);
        }
        Ok(())
    }

    /// A tensor inside of the network, as an input: its axes, which of them is time and which the batch's.
    fn tensor(&self, name: &str) -> Result<Input, Errors> {
        let stop = vec![name.to_string()];
        let needed = ends(&self.file.graph, &stop, &[]);
        let inputs: Vec<&Input> = self.file.graph.inputs.iter().filter(|i| needed.contains(&i.name)).collect();
        let inputs: Vec<&Input> = inputs.into_iter().filter(|i| !self.set.contains_key(&i.name)).collect();
        let shape = |steps: usize| -> Result<Vec<usize>, Errors> {
            let ports = inputs.iter().map(|i| port(i, steps)).collect::<Result<Vec<_>, _>>().map_err(one)?;
            let request = Request { ports, set: self.set.clone(), outputs: stop.clone() };
            let network =
                recognise(self.file, &request).map_err(|r| r.iter().map(ToString::to_string).collect::<Vec<_>>())?;
            Ok(network.shape(network.outputs[0].1).to_vec())
        };
        let mut failed = Vec::new();
        for [a, b] in PROBES {
            match (shape(a), shape(b)) {
                (Ok(x), Ok(y)) if x.len() == y.len() => {
                    let of_inputs = inputs.iter().find_map(|i| batch_axis(i));
                    let batch = of_inputs
                        .filter(|&i| x.get(i) == Some(&1))
                        .or(of_inputs.filter(|_| x.first() == Some(&1)).map(|_| 0));
                    let dim = |(i, (&x, &y)): (usize, (&usize, &usize))| match (x, y) {
                        _ if Some(i) == batch => Ok(Dim::Free("batch".into())),
                        (x, y) if x == y => Ok(Dim::Fixed(x)),
                        (x, y) if (x, y) == (a, b) => Ok(Dim::Free("time".into())),
                        _ => Err(one(format!("value '{name}': an axis depends on time, but is not as long"))),
                    };
                    let dims = x.iter().zip(&y).enumerate().map(dim).collect::<Result<Vec<_>, _>>()?;
                    return Ok(Input { name: name.into(), kind: Kind::Float, shape: Some(dims) });
                }
                (Err(e), _) | (_, Err(e)) => failed = e,
                _ => {}
            }
        }
        Err(failed)
    }

    /// What calibration arrays are for: the client's own part, or the private network.
    fn calibration(&self) -> Result<Calibration, Errors> {
        let settings = self.settings;
        let until = settings.client_until.iter().map(|n| self.tensor(n)).collect::<Result<Vec<_>, _>>()?;
        let private: Vec<Input> = until.into_iter().chain(self.direct.iter().cloned()).collect();
        let mut user = self.prefix.clone();
        user.extend(self.direct.iter().filter(|d| !self.prefix.contains(d)).cloned());
        let names = |inputs: &[Input]| inputs.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
        let given: Vec<Option<&str>> = settings.calibration.iter().map(|(n, _)| n.as_deref()).collect();
        let of_cut = |name: &str| settings.client_until.iter().any(|c| c == name);
        let is_private = settings.client_until.is_empty() || given.iter().flatten().any(|n| of_cut(n));
        let wanted = if is_private { &private } else { &user };
        let mut errors = Vec::new();
        for name in given.iter().flatten().filter(|n| wanted.iter().all(|w| w.name != ***n)) {
            let known = names(wanted).join(", ");
            errors.push(format!("--calibration {name}=..: it is none of what the client brings: {known}"));
        }
        let mut arrays = Vec::new();
        for input in wanted {
            let array = settings.calibration.iter().find(|(n, _)| match n {
                Some(n) => *n == input.name,
                None => wanted.len() == 1,
            });
            match array {
                Some((_, array)) => arrays.push((input, array)),
                None => errors.push(format!("no calibration items for '{0}': --calibration {0}=FILE", input.name)),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut all: Vec<Vec<Tensor>> = Vec::new();
        let mut steps: Option<usize> = None;
        for (input, array) in arrays {
            let array = self.with_context(input, array).map_err(one)?;
            let Items { port, items } = items(input, &array).map_err(one)?;
            let finite = |t: &Tensor| t.to_floats().iter().all(|v| v.is_finite());
            if let Some(i) = items.iter().position(|t| !finite(t)) {
                return Err(one(format!("calibration for '{}': item {i} has a number that is not finite", input.name)));
            }
            if let Some(own) = steps_of(input, &port).map_err(one)? {
                if steps.is_some_and(|s| s != own) {
                    return Err(one(format!(
                        "calibration for '{}': {own} time steps, but another has {steps:?}",
                        input.name
                    )));
                }
                steps = Some(own);
            }
            if all.is_empty() {
                all = vec![Vec::new(); items.len()];
            }
            if all.len() != items.len() {
                return Err(one(format!(
                    "calibration for '{}': {} items, but another has {}",
                    input.name,
                    items.len(),
                    all.len()
                )));
            }
            let floats = |t: Tensor| Tensor::floats(t.shape().to_vec(), t.to_floats());
            for (all, item) in all.iter_mut().zip(items) {
                all.push(floats(item).map_err(one)?);
            }
        }
        if all.is_empty() {
            return Err(one("there is no calibration item: --calibration FILE"));
        }
        if let Some(lengths) = &settings.lengths {
            let Some(most) = steps else { return Err(one("--lengths: the file's time axis is not free")) };
            if lengths.len() != all.len() || lengths.iter().any(|n| !(1..=most).contains(n)) {
                let n = lengths.len();
                return Err(one(format!("--lengths: {n} lengths for {} items of up to {most} steps", all.len())));
            }
            let timed: Vec<bool> = wanted.iter().map(|i| !time_axes(i).is_empty()).collect();
            for (item, &n) in all.iter_mut().zip(lengths) {
                for (t, _) in item.iter_mut().zip(&timed).filter(|(_, timed)| **timed) {
                    let len = t.len() / t.shape()[0] * n;
                    let shape = [&[n], &t.shape()[1..]].concat();
                    *t = Tensor::floats(shape, t.as_floats().map_err(one)?[..len].to_vec()).map_err(one)?;
                }
            }
        }
        Ok(Calibration { items: all, private: is_private, steps })
    }

    /// Calibration arrays of what users have, with what each step repeats of the one before.
    fn with_context(&self, input: &Input, array: &Tensor) -> Result<Tensor, String> {
        let (context, shape) = (self.settings.context, array.shape());
        let width = match input.shape.as_deref() {
            Some([.., Dim::Fixed(n)]) if *n > context => *n,
            _ => return Ok(array.clone()),
        };
        let [.., steps, own] = shape[..] else { return Ok(array.clone()) };
        if context == 0 || own != width - context {
            return Ok(array.clone());
        }
        let mut out = Vec::new();
        for item in array.to_floats().chunks(steps * own) {
            let mut before = vec![0.0; context];
            for step in item.chunks(own) {
                out.extend(&before);
                out.extend(step);
                before = [&before[..], step].concat()[own..].to_vec();
            }
        }
        let mut shape = shape.to_vec();
        *shape.last_mut().expect("an axis") = width;
        Tensor::floats(shape, out)
    }

    /// The networks for a number of time steps.
    fn networks(&self, steps: usize) -> Result<Networks, Errors> {
        let refused = |r: Vec<super::check::Refusal>| r.iter().map(ToString::to_string).collect::<Vec<_>>();
        let ports =
            |inputs: &[Input]| inputs.iter().map(|i| port(i, steps)).collect::<Result<Vec<_>, _>>().map_err(one);
        let known = |inputs: &[Input]| -> BTreeMap<String, Tensor> {
            self.set
                .iter()
                .filter(|(n, _)| inputs.iter().all(|i| i.name != **n))
                .map(|(n, t)| (n.clone(), t.clone()))
                .collect()
        };
        let mut all = Vec::new();
        let prefix = if self.settings.client_until.is_empty() {
            None
        } else {
            let outputs = self.settings.client_until.clone();
            let request = Request { ports: ports(&self.prefix)?, set: known(&self.prefix), outputs };
            let network = recognise(self.file, &request).map_err(refused)?;
            for (name, id) in &network.outputs {
                let batch = batch_axis(&self.tensor(name)?);
                all.push(Port { name: name.clone(), shape: network.shape(*id).to_vec(), batch });
            }
            Some(network)
        };
        all.extend(ports(&self.direct)?);
        let request = Request { ports: all, set: known(&self.direct), outputs: self.outputs.clone() };
        let full = recognise(self.file, &request).map_err(refused)?;
        // The class of scores that were not normalised is the same.
        let (private, suffix) = take_suffix(&full, |_| true);
        Ok(Networks { prefix, full, private, suffix })
    }

    /// The most time steps of a request.
    fn max_steps(&self, calibration: usize) -> usize {
        self.settings.max_steps.unwrap_or(calibration.saturating_mul(MORE_STEPS)).min(MAX_STEPS)
    }

    fn reveal(&self, output: &str) -> Reveal {
        let named = self.settings.reveal.iter().find(|(n, _)| n.as_deref() == Some(output));
        let all = self.settings.reveal.iter().find(|(n, _)| n.is_none());
        named.or(all).map_or(Reveal::Values, |(_, r)| *r)
    }

    fn finish(mut self, calibration: Calibration) -> Result<Imported, Errors> {
        let settings = self.settings;
        // The calibration's length first: it is that of the graph that is shown.
        let mut lengths: Vec<Option<usize>> = vec![calibration.steps];
        let own: Vec<Option<usize>> = match (&settings.lengths, calibration.steps) {
            (Some(all), Some(_)) => all.iter().map(|&n| Some(n)).collect(),
            _ => vec![calibration.steps; calibration.items.len()],
        };
        own.iter().for_each(|n| {
            if !lengths.contains(n) {
                lengths.push(*n)
            }
        });
        let networks = lengths.iter().map(|n| self.networks(n.unwrap_or(1))).collect::<Result<Vec<_>, _>>()?;
        let mut items = Vec::new();
        for (item, n) in calibration.items.into_iter().zip(&own) {
            let at = lengths.iter().position(|l| l == n).expect("added");
            let item = if calibration.private {
                self.normalised(item).map_err(one)?
            } else {
                self.through_prefix(&networks[at], item).map_err(one)?
            };
            items.push((at, item));
        }
        let mut ranges: Option<Ranges> = None;
        for (at, network) in networks.iter().enumerate() {
            let mine: Vec<Vec<Tensor>> = items.iter().filter(|(a, _)| *a == at).map(|(_, i)| i.clone()).collect();
            if mine.is_empty() {
                continue;
            }
            if network.private.values.len() != networks[0].private.values.len() {
                return Err(one(
                    "--lengths: the network depends on the number of time steps; bring items of one length",
                ));
            }
            let found = Ranges::observe(&network.private, &mine).map_err(one)?;
            match &mut ranges {
                Some(all) => all.merge(&found),
                None => ranges = Some(found),
            }
        }
        let ranges = ranges.ok_or_else(|| one("there is no calibration item"))?;
        let mut widths = quantise::Settings { options: settings.options, layers: settings.layers.clone() };
        widths.options.max_steps = calibration.steps.map(|n| self.max_steps(n));
        if let Some(wanted) = settings.search {
            let mine: Vec<Vec<Tensor>> = items.iter().filter(|(a, _)| *a == 0).map(|(_, i)| i.clone()).collect();
            let found = search(&networks[0].private, &ranges, &mine, &widths, wanted).map_err(one)?;
            let Options { weights, activations, .. } = found.settings.options;
            let more = match found.settings.layers.len() {
                0 => String::new(),
                n => format!(", and narrower weights in {n} layers"),
            };
            let trials = found.trials.len();
            self.notes.push(format!(
                "the cheapest of {trials} settings that agrees enough: weights of {weights} bits, activations of {activations}{more}"
            ));
            widths = found.settings;
        }
        let quantised = quantise_layers(&networks[0].private, &ranges, &widths).map_err(one)?;
        let parts = self.parts(&networks[0], &quantised.graph, settings.context > 0).map_err(one)?;
        let (graph, before, after) = match calibration.steps {
            None => (quantised.graph.clone(), parts.before.clone(), parts.after.clone()),
            Some(n) => match self.open(n, &quantised, &parts, &ranges, &widths) {
                Ok(open) => open,
                Err(why) => {
                    self.notes
                        .push(format!("the network is for items of {n} time steps, as the calibration's are: {why}"));
                    (quantised.graph.clone(), parts.before.clone(), parts.after.clone())
                }
            },
        };
        let description = self.description(graph, before, after, parts.constants, calibration.steps).map_err(one)?;
        let model = Model::new(description, quantised.weights.clone()).map_err(one)?;
        let Quantised { values, channels, .. } = quantised;
        Ok(Imported { model, items, networks, values, channels, widths, ranges, notes: self.notes })
    }

    /// An item of the user's after the normalisation.
    fn normalised(&self, mut item: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let (mean, std) = (&self.settings.mean, &self.settings.std);
        if mean.is_none() && std.is_none() {
            return Ok(item);
        }
        if item.len() != 1 {
            return Err("--mean and --std are for networks with one input".into());
        }
        let x = &item[0];
        let [mean, std] = [mean, std].map(|t| t.as_ref().map(|t| t.expanded(x.shape())).transpose());
        let (mean, std) = (mean.map_err(|e| format!("--mean: {e}"))?, std.map_err(|e| format!("--std: {e}"))?);
        let mut values = x.to_floats();
        if let Some(mean) = mean {
            values.iter_mut().zip(mean.to_floats()).for_each(|(v, m)| *v -= m);
        }
        if let Some(std) = std {
            let std = std.to_floats();
            if std.iter().any(|&s| s == 0.0 || !s.is_finite()) {
                return Err("--std: a deviation is zero or no finite number".into());
            }
            values.iter_mut().zip(std).for_each(|(v, s)| *v /= s);
        }
        item[0] = Tensor::floats(x.shape().to_vec(), values)?;
        Ok(item)
    }

    /// A user's item as the private network's inputs.
    fn through_prefix(&self, networks: &Networks, item: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let Some(prefix) = &networks.prefix else { return self.normalised(item) };
        let direct = item[self.prefix.len()..].to_vec();
        let inputs = self.normalised(item[..self.prefix.len()].to_vec())?;
        let mut made = evaluate(prefix, &inputs, &mut |_, _| {})?;
        for (made, &id) in made.iter_mut().zip(&networks.private.inputs) {
            *made = made.reshaped(networks.private.shape(id).to_vec())?;
        }
        made.extend(direct);
        Ok(made)
    }

    /// The client's parts for one number of time steps.
    fn parts(&self, networks: &Networks, graph: &Graph, context: bool) -> Result<Parts, String> {
        let settings = self.settings;
        let names: Vec<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
        let mut parts = Parts::default();
        if networks.prefix.is_some() || settings.mean.is_some() || settings.std.is_some() || context {
            let mut part = Part::new("before: ");
            let mut inputs = Vec::new();
            let mut bring = |part: &mut Part, name: &str, shape: &[usize]| -> Result<String, String> {
                let name = part.name(name);
                let mut own = shape.to_vec();
                if context {
                    *own.last_mut().ok_or("--context: an input without axes")? -=
                        settings.context.min(own[own.len() - 1] - 1);
                }
                inputs.push((name.clone(), own));
                let value = if context { with_context(part, &name, shape, settings.context)? } else { name };
                part.normalise(&value, settings.mean.as_ref(), settings.std.as_ref())
            };
            let mut outputs = Vec::new();
            let mut first = 0;
            if let Some(prefix) = &networks.prefix {
                let mut values = HashMap::new();
                for &id in &prefix.inputs {
                    let value = bring(&mut part, &prefix.values[id.index()].name, prefix.shape(id))?;
                    values.insert(id, value);
                }
                part.add(prefix, &prefix.nodes, &mut values)?;
                first = prefix.outputs.len();
                for (i, (_, id)) in prefix.outputs.iter().enumerate() {
                    let own = networks.private.shape(networks.private.inputs[i]);
                    let mut value = values.get(id).cloned().ok_or("a cut is not computed")?;
                    if prefix.shape(*id) != own {
                        let shape = own.iter().map(|&n| n as i64).collect();
                        value = part.arrange("item", reshape::Reshape { shape }, &[&value]);
                    }
                    outputs.push((names[i].to_string(), value));
                }
            }
            for (i, &id) in networks.private.inputs.iter().enumerate().skip(first) {
                let value = bring(&mut part, names[i], networks.private.shape(id))?;
                outputs.push((names[i].to_string(), value));
            }
            let (before, constants) = part.finish(&inputs, &outputs);
            parts.before = Some(before);
            parts.constants.extend(constants);
        }
        if !networks.suffix.is_empty() {
            let mut part = Part::new("after: ");
            let (mut values, mut inputs, mut outputs) = (HashMap::new(), Vec::new(), Vec::new());
            for (output, (_, id)) in graph.outputs.iter().zip(&networks.private.outputs) {
                let name = part.name(&output.name);
                inputs.push((name.clone(), networks.private.shape(*id).to_vec()));
                values.entry(*id).or_insert(name);
            }
            part.add(&networks.full, &networks.suffix, &mut values)?;
            for (output, (_, id)) in graph.outputs.iter().zip(&networks.full.outputs) {
                outputs.push((output.name.clone(), values.get(id).cloned().unwrap_or_else(|| output.name.clone())));
            }
            let (after, constants) = part.finish(&inputs, &outputs);
            parts.after = Some(after);
            parts.constants.extend(constants);
        }
        Ok(parts)
    }

    /// Graph and parts with a free time axis.
    fn open(
        &self,
        steps: usize,
        quantised: &Quantised,
        parts: &Parts,
        ranges: &Ranges,
        widths: &quantise::Settings,
    ) -> Result<(Graph, Option<Graph>, Option<Graph>), String> {
        let all = |e: Errors| e.join("; ");
        // Where one step is all there is, axes of length 1 hide what is time.
        let lengths = if steps > 1 { [steps, steps + 1] } else { [2, 3] };
        let make = |n: usize| -> Result<(Quantised, Parts), String> {
            let networks = self.networks(n).map_err(all)?;
            let other = quantise_layers(&networks.private, ranges, widths)?;
            let parts = self.parts(&networks, &other.graph, self.settings.context > 0)?;
            Ok((other, parts))
        };
        let base = if steps > 1 {
            (quantised.graph.clone(), parts.clone())
        } else {
            let (q, p) = make(lengths[0])?;
            (q.graph, p)
        };
        let (other, more) = make(lengths[1])?;
        if other.weights != quantised.weights || base.1.constants != more.constants {
            return Err("its tensors depend on the number of time steps".into());
        }
        let part = |a: &Option<Graph>, b: &Option<Graph>| match (a, b) {
            (Some(a), Some(b)) => time::free(a, b, lengths).map(Some),
            _ => Ok(None),
        };
        let graph = time::free(&base.0, &other.graph, lengths)?;
        Ok((graph, part(&base.1.before, &more.before)?, part(&base.1.after, &more.after)?))
    }

    fn description(
        &self,
        mut graph: Graph,
        before: Option<Graph>,
        after: Option<Graph>,
        constants: BTreeMap<String, Reals>,
        steps: Option<usize>,
    ) -> Result<Description, String> {
        let settings = self.settings;
        if graph.steps > 0 {
            let most = self.max_steps(steps.unwrap_or(1));
            if steps.is_some_and(|n| n > most) {
                return Err(format!("--max-steps {most}: the calibration items have {} steps", steps.unwrap_or(0)));
            }
            graph.steps = most;
        } else if settings.max_steps.is_some() {
            return Err("--max-steps: the network has no free time axis".into());
        }
        for (output, name) in graph.outputs.iter_mut().zip(&self.outputs) {
            output.reveal = self.reveal(name);
        }
        for (name, _) in settings.reveal.iter().filter_map(|(n, r)| n.as_ref().map(|n| (n, r))) {
            if !self.outputs.contains(name) {
                return Err(format!("--reveal {name}=..: there is no such output"));
            }
        }
        if !settings.labels.is_empty() {
            let typed = graph.infer(graph.steps).map_err(|e| e.to_string())?;
            let classes: Vec<usize> =
                typed.outputs.iter().map(|&v| typed.ty(v).shape.last().copied().unwrap_or(1)).collect();
            let n = settings.labels.len();
            let at = classes
                .iter()
                .position(|&c| c == n)
                .ok_or_else(|| format!("{n} labels, but the outputs have {classes:?} classes"))?;
            graph.outputs[at].labels = settings.labels.clone();
        }
        // Where the class alone is revealed there is nothing to compute from.
        let after = after.filter(|_| graph.outputs.iter().all(|o| o.reveal != Reveal::Class));
        let mut client = Client { reals: true, rate: settings.rate, ..Client::default() };
        let users: Vec<(&Input, String)> = {
            let mut all: Vec<&Input> = self.prefix.iter().collect();
            all.extend(self.direct.iter().filter(|d| !self.prefix.contains(d)));
            all.into_iter().map(|i| (i, clean(&i.name))).collect()
        };
        for (input, name) in users {
            match batch_axis(input) {
                Some(0) => {}
                axis => drop(client.item_axis.insert(name, axis)),
            }
        }
        let used: BTreeSet<String> = [&before, &after].into_iter().flatten().flat_map(tensors).collect();
        let constants = constants.into_iter().filter(|(name, _)| used.contains(name)).collect();
        client.set_constants(Constants::new(constants).map_err(|e| e.to_string())?);
        client.before = before.map(|g| Graph { steps: if g.steps > 0 { graph.steps } else { 0 }, ..g });
        client.after = after.map(|g| Graph { steps: 0, inputs: Vec::new(), ..g });
        let description = Description { client, ..Description::new(settings.name.clone(), graph) };
        // What is written is what is read: also its length.
        let mut read = Description::parse(&description.to_toml()).map_err(|e| e.to_string())?;
        read.client.attach(description.client.constants.bytes().to_vec(), &read.graph).map_err(|e| e.to_string())?;
        Ok(read)
    }
}

/// Names of the tensors that a part needs.
fn tensors(part: &Graph) -> Vec<String> {
    let of = |node: &graph::Node| {
        let fields = node.op.to_fields().unwrap_or_default();
        let named = ["weights", "bias"]
            .into_iter()
            .filter_map(|key| fields.get(key)?.get("tensor")?.as_str().map(String::from));
        named.collect::<Vec<_>>()
    };
    part.nodes.iter().flat_map(of).collect()
}

/// Steps with the last elements of the one before in front.
fn with_context(part: &mut Part, name: &str, shape: &[usize], context: usize) -> Result<String, String> {
    let [_, width] = shape[..] else { return Err("--context: the input is not [steps, elements]".into()) };
    if context >= width {
        return Err(format!("--context {context}: a step has {width} elements"));
    }
    let start = width - context;
    if start < context {
        return Err(format!("--context {context}: more than the {start} elements of the step before"));
    }
    let slice = |axis, start, end| slice::Slice { axis, start, end, step: 1 };
    let last = part.arrange("last elements", slice(1, (start - context) as i64, None), &[name]);
    let padding = vec![[1, 0], [0, 0]];
    let later = part.arrange("one step later", pad::Pad { padding, border: pad::Border::Zero }, &[&last]);
    let before = part.arrange("of the step before", slice(0, 0, Some(-1)), &[&later]);
    Ok(part.arrange("with context", concat::Concat { axis: 1 }, &[&before, name]))
}

#[derive(Clone, Default)]
struct Parts {
    before: Option<Graph>,
    after: Option<Graph>,
    constants: BTreeMap<String, Reals>,
}

/// A value that the user names for an input: one number for all its elements, or an array.
fn known_value(input: &Input, value: &Tensor) -> Result<Tensor, String> {
    let name = &input.name;
    let port = port(input, 1)?;
    let value = if value.len() == 1 {
        value.reshaped(Vec::new()).and_then(|v| v.expanded(&port.shape))
    } else if value.shape() == port.shape {
        Ok(value.clone())
    } else {
        Err(format!("shape {}, {} is expected", show(value.shape()), show(&port.shape)))
    };
    let value = value.map_err(|e| format!("--set {name}: {e}"))?;
    let floats = value.to_floats();
    let data = match input.kind {
        Kind::Float => Data::Float(floats),
        Kind::Int => Data::Int(floats.iter().map(|&v| v as i64).collect()),
        Kind::Bool => Data::Bool(floats.iter().map(|&v| v != 0.0).collect()),
        Kind::Other => return Err(format!("--set {name}: an input of this type cannot be set")),
    };
    Tensor::new(port.shape, data)
}
