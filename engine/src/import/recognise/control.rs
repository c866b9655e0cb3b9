//! Branches with a known condition, and loops: `Loop` as exporters write it around a cell, and `Scan`.
//!
//! A loop's counters and conditions are known for every step before it runs, so its length is; what a step reads at the
//! counter's place is a slice of the sequence; states that no step changes are constants.

use super::{Known, Loop, Recogniser, per_step};
use crate::import::float::{Call, Interpreter, Scope, axis};
use crate::import::network::{Init, Scan, State, ValueId, Yield};
use crate::import::onnx::{Attribute, Graph, Node};
use crate::import::tensor::{Data, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// Most steps of a loop.
const MAX_STEPS: usize = 1 << 16;

type Results = Result<Vec<Known>, String>;

fn body<'a>(node: &'a Node, name: &str) -> Result<&'a Graph, String> {
    match node.attributes.get(name) {
        Some(Attribute::Graph(g)) => Ok(g),
        _ => Err(format!("it has no graph '{name}'")),
    }
}

/// A state of a loop, before the nodes of the body are known.
struct Carried {
    /// Position among the loop's states.
    index: usize,
    now: ValueId,
    init: Init,
}

impl Recogniser<'_> {
    /// Results of a branch or loop, `None` for another operator.
    pub(super) fn control(&mut self, node: &Node, inputs: &[Option<Known>]) -> Option<Results> {
        match node.op.as_str() {
            "If" => Some(self.branch(node, inputs)),
            "Loop" | "Scan" if self.current.is_some() => Some(Err("a loop inside of a loop is not computed".into())),
            "Loop" => Some(self.repeat(node, inputs)),
            "Scan" => Some(self.sequence(node, inputs)),
            _ => None,
        }
    }

    fn branch(&mut self, node: &Node, inputs: &[Option<Known>]) -> Results {
        let condition = match inputs.first() {
            Some(Some(Known::Constant(t))) => t.as_bool()?,
            _ => {
                return Err(
                    "its condition depends on the client's data, which would reveal it; compute both branches".into()
                );
            }
        };
        let chosen = body(node, if condition { "then_branch" } else { "else_branch" })?;
        self.scopes.push(HashMap::new());
        self.graph(chosen, &chosen.outputs.iter().map(String::as_str).collect::<Vec<_>>());
        let results = chosen.outputs.iter().map(|name| self.find(name).unwrap_or(Known::Refused)).collect();
        self.scopes.pop();
        Ok(results)
    }

    /// The constants that a graph inside of a node reads from outside.
    fn captured(&self, graph: &Graph) -> HashMap<String, Arc<Tensor>> {
        let constant = |name: &&str| match self.find(name) {
            Some(Known::Constant(t)) => Some((name.to_string(), t)),
            _ => None,
        };
        graph.captures().iter().filter_map(constant).collect()
    }

    fn repeat(&mut self, node: &Node, inputs: &[Option<Known>]) -> Results {
        let graph = body(node, "body")?;
        let constant = |i: usize| match inputs.get(i) {
            Some(Some(Known::Constant(t))) => Ok(Some(t.clone())),
            Some(Some(_)) => Err("its length depends on the client's data, which would reveal it".to_string()),
            _ => Ok(None),
        };
        let limit = constant(0)?.map(|t| t.as_int()).transpose()?;
        let first = constant(1)?.map(|t| t.as_bool()).transpose()?.unwrap_or(true);
        let states: Vec<Known> = inputs.iter().skip(2).flatten().cloned().collect();
        let n = states.len();
        if graph.inputs.len() != n + 2 || graph.outputs.len() < n + 1 {
            return Err("its body does not fit its inputs".into());
        }
        let unchanged = |i: usize| resolved(graph, &graph.outputs[1 + i]) == graph.inputs[2 + i].name;
        let counted: Vec<usize> = (0..n)
            .filter(|&i| {
                !unchanged(i)
                    && matches!(&states[i], Known::Constant(t) if matches!(t.data(), Data::Int(_) | Data::Bool(_)))
            })
            .collect();
        let (trips, known) = self.schedule(graph, limit, first, &states, &counted, unchanged)?;

        let mut given = known;
        let mut carried = Vec::new();
        for (index, state) in states.iter().enumerate() {
            let name = &graph.inputs[2 + index].name;
            if unchanged(index) {
                given.insert(name.clone(), state.clone());
            } else if !counted.contains(&index) {
                let (now, init) = self.state(name, state)?;
                given.insert(name.clone(), Known::Value(now));
                carried.push(Carried { index, now, init });
            }
        }
        let outputs: Vec<&str> = graph.outputs[1..].iter().map(String::as_str).collect();
        let found = self.walk_body(graph, given, trips, Vec::new(), &outputs)?;
        let (last, every) = found.results.split_at(n);
        let results: Vec<Known> = (0..n)
            .map(|i| match &last[i] {
                _ if unchanged(i) => states[i].clone(),
                Known::PerStep(all) => all.last().map_or(Known::Refused, |t| Known::Constant(t.clone())),
                other => other.clone(),
            })
            .collect();
        let every = every.to_vec();
        self.close_loop(node, found, false, carried, &results, every, trips)
    }

    /// The number of steps, and the values of counters in each of them: what the conditions and counters of a loop are does not
    /// depend on the client's data, so they can be computed before.
    fn schedule(
        &self,
        graph: &Graph,
        limit: Option<i64>,
        first: bool,
        states: &[Known],
        counted: &[usize],
        unchanged: impl Fn(usize) -> bool,
    ) -> Result<(usize, HashMap<String, Known>), String> {
        let mut base = self.captured(graph);
        for (i, state) in states.iter().enumerate() {
            if let (true, Known::Constant(t)) = (unchanged(i), state) {
                base.insert(graph.inputs[2 + i].name.clone(), t.clone());
            }
        }
        let mut counters: Vec<Arc<Tensor>> = Vec::new();
        for &i in counted {
            match &states[i] {
                Known::Constant(t) => counters.push(t.clone()),
                _ => return Err("a counter depends on the client's data".into()),
            }
        }
        let names: Vec<&String> = counted.iter().map(|&i| &graph.inputs[2 + i].name).collect();
        let mut wanted = vec![graph.outputs[0].as_str()];
        wanted.extend(counted.iter().map(|&i| graph.outputs[1 + i].as_str()));
        let interpreter = Interpreter { opset: self.opset, budget: self.budget };
        let mut steps: Vec<Vec<Arc<Tensor>>> = vec![Vec::new(); 2 + counted.len()];
        let mut go_on = first;
        let mut trip = 0;
        while go_on && limit.is_none_or(|limit| trip < limit) {
            if trip as usize >= MAX_STEPS {
                return Err(format!("it takes more than {MAX_STEPS} steps"));
            }
            let own = [Arc::new(Tensor::scalar(trip)), Arc::new(Tensor::truth(go_on))];
            steps.iter_mut().zip(own.iter().chain(&counters)).for_each(|(all, t)| all.push(t.clone()));
            let mut values = base.clone();
            values.extend(graph.inputs[..2].iter().map(|i| i.name.clone()).zip(own));
            values.extend(names.iter().map(|n| n.to_string()).zip(counters.iter().cloned()));
            let mut found = interpreter.graph(graph, Scope { values, outer: None }, &wanted).map_err(|e| {
                format!("its condition or a counter depends on the client's data, which would reveal it ({e})")
            })?;
            go_on = found.remove(0).as_bool()?;
            counters = found;
            trip += 1;
        }
        if trip == 0 {
            return Err("it takes no step".into());
        }
        let all_names = graph.inputs[..2].iter().map(|i| i.name.clone()).chain(names.into_iter().cloned());
        Ok((trip as usize, all_names.zip(steps.into_iter().map(per_step)).collect()))
    }

    /// A state that depends on the client's data.
    fn state(&mut self, name: &str, initial: &Known) -> Result<(ValueId, Init), String> {
        let (shape, init) = match initial {
            Known::Constant(t) if matches!(t.data(), Data::Float(_)) => (t.shape().to_vec(), Init::Constant(t.clone())),
            Known::Value(id) => (self.builder.shape(*id).to_vec(), Init::Value(*id)),
            _ => return Err(format!("its state '{name}' is of a kind that no step can change")),
        };
        Ok((self.builder.value(name, shape), init))
    }

    fn sequence(&mut self, node: &Node, inputs: &[Option<Known>]) -> Results {
        if self.opset < 9 {
            return Err("this form of Scan is of before version 9, export with a newer one".into());
        }
        let graph = body(node, "body")?;
        let call = Call { node, inputs: Vec::new(), opset: self.opset, budget: self.budget };
        let sequences = usize::try_from(call.int("num_scan_inputs", 0)?).unwrap_or(usize::MAX);
        let all: Vec<Known> = inputs.iter().flatten().cloned().collect();
        let n = all.len().checked_sub(sequences).ok_or("it has fewer inputs than sequences")?;
        let outputs = graph.outputs.len().checked_sub(n).ok_or("its body has too few results")?;
        if graph.inputs.len() != all.len() {
            return Err("its body does not fit its inputs".into());
        }
        let list = |name: &str, len: usize| -> Result<Vec<i64>, String> {
            let given = call.ints(name)?.map_or_else(|| vec![0; len], <[i64]>::to_vec);
            if given.len() == len { Ok(given) } else { Err(format!("attribute '{name}' has a wrong length")) }
        };
        let (in_axes, out_axes) = (list("scan_input_axes", sequences)?, list("scan_output_axes", outputs)?);
        let directions: Vec<i64> =
            [list("scan_input_directions", sequences)?, list("scan_output_directions", outputs)?].concat();
        let reverse = directions.contains(&1);
        if directions.contains(&0) && reverse {
            return Err("its sequences run in different directions".into());
        }
        let mut given = HashMap::new();
        let mut carried = Vec::new();
        for (index, state) in all[..n].iter().enumerate() {
            let (now, init) = self.state(&graph.inputs[index].name, state)?;
            given.insert(graph.inputs[index].name.clone(), Known::Value(now));
            carried.push(Carried { index, now, init });
        }
        let mut slices = Vec::new();
        let mut trips = None;
        for (i, sequence) in all[n..].iter().enumerate() {
            let Known::Value(id) = *sequence else {
                return Err("a constant sequence is not computed; make it an input".into());
            };
            let rank = self.builder.shape(id).len();
            let axis = axis(in_axes[i], rank)?;
            let order: Vec<usize> = std::iter::once(axis).chain((0..rank).filter(|&a| a != axis)).collect();
            let id = self.builder.transpose(&node.name, id, &order);
            let shape = self.builder.shape(id).to_vec();
            if *trips.get_or_insert(shape[0]) != shape[0] {
                return Err("its sequences have different lengths".into());
            }
            let slice = self.builder.value(&graph.inputs[n + i].name, shape[1..].to_vec());
            given.insert(graph.inputs[n + i].name.clone(), Known::Value(slice));
            slices.push((id, slice));
        }
        let trips = trips.ok_or("it has no sequence")?;
        let names: Vec<&str> = graph.outputs.iter().map(String::as_str).collect();
        let found = self.walk_body(graph, given, trips, slices, &names)?;
        let last = found.results[..n].to_vec();
        let every = found.results[n..].to_vec();
        let results = self.close_loop(node, found, reverse, carried, &last, every, trips)?;
        let turn = |(i, known): (usize, Known)| match known {
            Known::Value(id) if i >= n => {
                let rank = self.builder.shape(id).len();
                let mut order: Vec<usize> = (1..rank).collect();
                order.insert(axis(out_axes[i - n], rank)?, 0);
                Ok(Known::Value(self.builder.transpose(&node.name, id, &order)))
            }
            other => Ok(other),
        };
        results.into_iter().enumerate().map(turn).collect()
    }

    /// Walks through a body.
    fn walk_body(
        &mut self,
        graph: &Graph,
        given: HashMap<String, Known>,
        trips: usize,
        slices: Vec<(ValueId, ValueId)>,
        outputs: &[&str],
    ) -> Result<Body, String> {
        self.current = Some(Loop { trips, depth: self.scopes.len(), slices });
        self.scopes.push(given);
        self.builder.open();
        self.graph(graph, outputs);
        let nodes = self.builder.close();
        let results: Vec<Known> = outputs.iter().map(|name| self.find(name).unwrap_or(Known::Refused)).collect();
        self.scopes.pop();
        let slices = self.current.take().map_or(Vec::new(), |l| l.slices);
        if results.iter().any(|k| matches!(k, Known::Refused)) {
            // What was refused inside has been said.
            return Err(if self.refusals.is_empty() { "its body lacks a result".into() } else { String::new() });
        }
        Ok(Body { nodes, slices, results })
    }

    /// Adds the loop, and puts its results in the place of the body's.
    #[allow(clippy::too_many_arguments)]
    fn close_loop(
        &mut self,
        node: &Node,
        found: Body,
        reverse: bool,
        carried: Vec<Carried>,
        last: &[Known],
        every: Vec<Known>,
        trips: usize,
    ) -> Results {
        let mut states = Vec::new();
        let mut handed_on = vec![false; last.len()];
        for Carried { index, now, init } in carried {
            handed_on[index] = true;
            let Known::Value(next) = last[index] else {
                return Err("a state does not depend on the steps before".into());
            };
            if self.builder.shape(next) != self.builder.shape(now) {
                return Err("a state changes its shape from step to step".into());
            }
            states.push(State { now, next, init });
        }
        if found.slices.is_empty() || states.is_empty() {
            return Err("a loop that reads no sequence, or hands nothing on, is not computed".into());
        }
        // What is no state that the steps change has the same value outside.
        let results =
            last.iter().zip(handed_on).map(|(k, own)| (k, own, false)).chain(every.iter().map(|k| (k, true, true)));
        let yields = results.clone().filter_map(|(known, own, every)| match known {
            Known::Value(value) if own => Some(Yield { value: *value, every }),
            _ => None,
        });
        let yields = yields.collect();
        let (operands, slices): (Vec<ValueId>, Vec<ValueId>) = found.slices.into_iter().unzip();
        let scan = Scan { reverse, slices, states, body: found.nodes, yields };
        let mut outs = self.builder.scan(&node.name, scan, &operands, trips).into_iter();
        let mut all_results = Vec::new();
        for (known, own, every) in results {
            all_results.push(match known {
                Known::Value(_) if own => Known::Value(outs.next().expect("one for each value")),
                Known::PerStep(all) if every => {
                    Known::Constant(Arc::new(Tensor::stack(&all.iter().map(|t| &**t).collect::<Vec<_>>())?))
                }
                Known::Constant(t) if every => Known::Constant(Arc::new(Tensor::stack(&vec![&**t; trips])?)),
                other => other.clone(),
            });
        }
        Ok(all_results)
    }

    /// An operator that reads a value at a place that depends on the step: a slice of a sequence from outside.
    pub(super) fn slice_of_step(&mut self, call: &Call, inputs: &[Option<Known>]) -> Results {
        let [Some(Known::Value(sequence)), Some(Known::PerStep(at))] = inputs else {
            return Err("what it does differs from step to step of the loop".into());
        };
        let rank = self.builder.shape(*sequence).len();
        let current = self.current.as_ref().ok_or("what it does differs from step to step of the loop")?;
        let outside = self.scopes[..current.depth]
            .iter()
            .any(|s| s.values().any(|k| matches!(k, Known::Value(id) if id == sequence)));
        if call.node.op != "Gather" || axis(call.int("axis", 0)?, rank)? != 0 || !outside {
            return Err("what it does differs from step to step of the loop".into());
        }
        let n = self.builder.shape(*sequence)[0] as i64;
        let shape = at[0].shape().to_vec();
        let mut indices = Vec::new();
        for t in at {
            let i = t.as_int()?;
            indices.push(if (-n..n).contains(&i) {
                (i + if i < 0 { n } else { 0 }) as usize
            } else {
                return Err(format!("step {} reads entry {i} of {n}", indices.len()));
            });
        }
        if !indices.iter().copied().eq(0..current.trips) {
            return Err("the loop reads its sequence in another order than from the first entry to the last".into());
        }
        if current.trips as i64 != n {
            return Err(format!("the loop takes {} steps over a sequence of {n}", current.trips));
        }
        let known = current.slices.iter().find(|(outer, _)| outer == sequence).map(|(_, slice)| *slice);
        let slice = match known {
            Some(slice) => slice,
            None => {
                let inner = self.builder.shape(*sequence)[1..].to_vec();
                let slice = self.builder.value(&call.node.name, inner);
                self.current.as_mut().expect("a loop is open").slices.push((*sequence, slice));
                slice
            }
        };
        // An index with an axis of its own keeps it.
        let mut result = shape;
        result.extend(&self.builder.shape(*sequence)[1..]);
        Ok(vec![Known::Value(self.builder.reshape(&call.node.name, slice, result)?)])
    }
}

/// A body that has been walked through.
struct Body {
    nodes: Vec<crate::import::network::Node>,
    slices: Vec<(ValueId, ValueId)>,
    results: Vec<Known>,
}

/// The name of a value, behind operators that hand it on as it is.
fn resolved<'a>(graph: &'a Graph, mut name: &'a str) -> &'a str {
    // Makers come before their readers, so one walk backward is enough.
    for node in graph.nodes.iter().rev() {
        if let ("Identity", [from], [to]) = (node.op.as_str(), &node.inputs[..], &node.outputs[..])
            && to == name
        {
            name = from;
        }
    }
    name
}
