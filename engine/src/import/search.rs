//! The cheapest widths that keep an agreement with the network in floats.
//!
//! First the widths of all layers: for every width of activations the narrowest weights that agree, and of these the cheapest by
//! the exact figures of its plan. Then layer after layer, the largest first, narrower weights where the agreement allows them.
//! Deterministic, and bounded: at most [`MAX_TRIALS`] settings are tried.

use super::fidelity::{Fidelity, compare};
use super::network::{Network, Node, Op};
use super::quantise::{Layer, Quantised, Settings, quantise_layers};
use super::ranges::Ranges;
use super::tensor::Tensor;
use crate::compile::{Request, prove};
use crate::graph::Graph;
use crate::plan::planner::{Estimate, Policy, Task, candidates};
use crate::plan::speeds::Speeds;
use crate::program::Goal;

/// Widths of weights that are tried.
pub const WEIGHTS: [u32; 4] = [8, 10, 12, 16];
/// Widths of activations that are tried.
pub const ACTIVATIONS: [u32; 3] = [12, 14, 16];
/// Most settings that are tried.
pub const MAX_TRIALS: usize = 40;

/// What a search looks for.
#[derive(Clone, Copy)]
pub struct Search {
    /// The least part of the decisions that are as in floats, 0 to 1; see [`Fidelity::agreement`].
    pub agreement: f64,
    /// Items of the request whose cost counts.
    pub batch: usize,
    /// How it is planned; its goal says what has to be small.
    pub policy: Policy,
}

/// A setting that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The widths.
    pub settings: Settings,
    /// The part of the decisions that are as in floats.
    pub agreement: f64,
    /// What a request costs; of settings that could be the result.
    pub planned: Option<Estimate>,
    /// Why this setting makes no network, or wraps.
    pub refused: Option<String>,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The cheapest setting.
    pub settings: Settings,
    /// The network with it.
    pub quantised: Quantised,
    /// How far it is from the one in floats.
    pub fidelity: Fidelity,
    /// All that was tried, in order.
    pub trials: Vec<Trial>,
}

struct Run<'a> {
    network: &'a Network,
    ranges: &'a Ranges,
    items: &'a [Vec<Tensor>],
    search: Search,
    trials: Vec<Trial>,
}

/// Finds the cheapest widths for which the network of integers decides on `items` as the one in floats. What `base` says beside
/// widths of all layers stays.
///
/// # Errors
/// If no setting agrees enough: says how much the best does.
pub fn search(
    network: &Network,
    ranges: &Ranges,
    items: &[Vec<Tensor>],
    base: &Settings,
    search: Search,
) -> Result<Found, String> {
    if !(0.0..=1.0).contains(&search.agreement) || search.batch == 0 {
        return Err("the agreement asked for is between 0 and 1, and a request has items".into());
    }
    let mut run = Run { network, ranges, items, search, trials: Vec::new() };
    let mut best: Option<(Found, Estimate)> = None;
    for activations in ACTIVATIONS {
        for weights in WEIGHTS {
            let mut settings = base.clone();
            (settings.options.activations, settings.options.weights) = (activations, weights);
            if run.better(settings, &mut best) {
                break;
            }
        }
    }
    let Some((mut found, cost)) = best else {
        let most = run.trials.iter().map(|t| t.agreement).fold(0.0, f64::max);
        return Err(format!(
            "no setting decides as in floats in {:.2} % of the cases; the best does in {:.2} %",
            100.0 * search.agreement,
            100.0 * most
        ));
    };
    let all = found.settings.options.weights;
    let mut cheapest = cost;
    for layer in layers(network) {
        for weights in [4, 6, 8, 10, 12].into_iter().filter(|&w| w < all) {
            if run.trials.len() >= MAX_TRIALS || found.settings.layers.contains_key(&layer) {
                break;
            }
            let mut settings = found.settings.clone();
            settings.layers.insert(layer.clone(), Layer { weights: Some(weights), ..Layer::default() });
            let mut best = Some((found, cheapest));
            run.better(settings, &mut best);
            (found, cheapest) = best.expect("it was there");
        }
    }
    found.trials = run.trials;
    Ok(found)
}

/// Layers with weights, the largest first.
fn layers(network: &Network) -> Vec<String> {
    let size = |node: &Node| match &node.op {
        Op::MatMul(w) => w.len(),
        Op::Conv(c) => c.weights.len(),
        _ => 0,
    };
    let of = |node: &Node| match &node.op {
        Op::Scan(scan) => scan.body.iter().map(size).sum(),
        _ => size(node),
    };
    let mut all: Vec<(usize, &str)> = network.nodes.iter().map(|n| (of(n), n.name.as_str())).collect();
    all.retain(|(size, _)| *size > 0);
    all.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    all.dedup_by(|a, b| a.1 == b.1);
    all.into_iter().map(|(_, name)| name.to_string()).collect()
}

impl Run<'_> {
    /// Tries a setting; it becomes the best if it agrees enough and costs less. Returns whether it agrees.
    fn better(&mut self, settings: Settings, best: &mut Option<(Found, Estimate)>) -> bool {
        let mut trial = Trial { settings: settings.clone(), agreement: 0.0, planned: None, refused: None };
        match self.measured(&settings) {
            Err(what) => trial.refused = Some(what),
            Ok((quantised, fidelity)) => {
                trial.agreement = fidelity.agreement();
                if trial.agreement >= self.search.agreement {
                    match self.planned(&quantised) {
                        Err(what) => trial.refused = Some(what),
                        Ok(cost) => {
                            trial.planned = Some(cost);
                            if best.as_ref().is_none_or(|(_, least)| self.cheaper(&cost, least)) {
                                *best = Some((Found { settings, quantised, fidelity, trials: Vec::new() }, cost));
                            }
                        }
                    }
                }
            }
        }
        let agrees = trial.planned.is_some();
        self.trials.push(trial);
        agrees
    }

    fn measured(&self, settings: &Settings) -> Result<(Quantised, Fidelity), String> {
        let quantised = quantise_layers(self.network, self.ranges, settings)?;
        let fidelity = compare(self.network, &quantised, self.items)?;
        fidelity.without_wraps()?;
        Ok((quantised, fidelity))
    }

    fn cheaper(&self, a: &Estimate, b: &Estimate) -> bool {
        let order = |e: &Estimate| match self.search.policy.goal {
            Goal::Rounds => [e.rounds as f64, e.bytes as f64],
            Goal::Bytes => [e.bytes as f64, e.rounds as f64],
            Goal::Online => [(e.bytes - e.bytes_offline) as f64, e.rounds as f64],
            Goal::Time { .. } => [e.seconds, e.bytes as f64],
        };
        order(a) < order(b)
    }

    /// What the network as it would be served costs.
    fn planned(&self, quantised: &Quantised) -> Result<Estimate, String> {
        let graph = Graph { fits: prove(&quantised.graph, &quantised.weights), ..quantised.graph.clone() };
        let steps = quantised.steps(self.network);
        let request = Request { items: self.search.batch, steps, lengths: None };
        let task = Task { graph: &graph, request: &request, batch: self.search.batch, watch: &[] };
        let all = candidates(&task, &self.search.policy, &Speeds::default()).map_err(|e| e.to_string())?;
        let first = all.first().ok_or("there is no plan")?;
        Ok(first.estimate)
    }
}
