//! From names to values: resolves references, infers shapes and formats, and refuses what makes no sense before anything
//! is allocated from it. Every error is one line that names the node.

use super::ops::scan::{Scan, State, Steps};
use super::ops::{MAX_PARAMETER_BITS, ParameterSpec, Place};
use super::{
    Dim, Graph, GraphError, Input, MAX_BITS, MAX_ELEMENTS, MAX_NAME, MAX_NODES, MAX_RANK, MAX_STEPS, Node, Number, Op,
    Reveal, ValueType, shown,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A value of a [`Typed`] graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Position in [`Typed::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A node with its references resolved.
#[derive(Clone, Debug)]
pub struct TypedNode<'g> {
    /// The node.
    pub node: &'g Node,
    /// Operands.
    pub ins: Vec<ValueId>,
    /// Types of the operands.
    pub types: Vec<ValueType>,
    /// Results.
    pub outs: Vec<ValueId>,
    /// What a loop consists of.
    pub body: Option<TypedBody<'g>>,
}

impl TypedNode<'_> {
    /// What the operation is told about its place.
    pub fn place(&self) -> Place<'_> {
        Place { ins: &self.types, out: self.node.out }
    }
}

/// The body of a loop.
#[derive(Clone, Debug)]
pub struct TypedBody<'g> {
    /// Steps.
    pub trips: usize,
    /// Entries of the operands, one per operand.
    pub slices: Vec<ValueId>,
    /// States: at the start of a step, its initial value outside if it is not constant, and the next.
    pub states: Vec<TypedState<'g>>,
    /// The nodes.
    pub nodes: Vec<TypedNode<'g>>,
    /// Values of the body that the loop hands out, one per result of the loop.
    pub yields: Vec<(ValueId, Steps)>,
}

/// A state of a loop.
#[derive(Clone, Debug)]
pub struct TypedState<'g> {
    /// Its description.
    pub state: &'g State,
    /// The value that a step reads.
    pub param: ValueId,
    /// The value before the first step, if it is not constant.
    pub from: Option<ValueId>,
    /// The value for the next step.
    pub next: ValueId,
}

/// A value.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its name; values of bodies are called `node/name`.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
}

/// A graph for a number of time steps, with all references resolved.
#[derive(Clone, Debug)]
pub struct Typed<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// Time steps.
    pub steps: usize,
    /// All values: first the inputs, in order.
    pub values: Vec<Value>,
    /// The nodes in order.
    pub nodes: Vec<TypedNode<'g>>,
    /// Values of the outputs, in order.
    pub outputs: Vec<ValueId>,
    /// Values that are known to fit their width.
    pub fits: HashSet<ValueId>,
    /// Tensors of the server, by name.
    pub parameters: BTreeMap<String, ParameterSpec>,
}

impl Graph {
    /// The graph for `steps` time steps.
    ///
    /// # Errors
    /// What makes no sense, naming input, node or output.
    pub fn infer(&self, steps: usize) -> Result<Typed<'_>, GraphError> {
        let timed = self.inputs.iter().any(|i| i.shape.contains(&Dim::Steps));
        let place = "steps";
        match (timed, self.steps) {
            (true, 0) => return Err(GraphError::new(place, "missing, although an input has a time axis")),
            (true, most) if most > MAX_STEPS => {
                return Err(GraphError::new(place, format!("{most}, at most {MAX_STEPS}")));
            }
            (true, most) if !(1..=most).contains(&steps) => {
                return Err(GraphError::new(place, format!("{steps}, but the model is for 1 to {most}")));
            }
            (false, most) if most != 0 => return Err(GraphError::new(place, "no input has a time axis")),
            _ => {}
        }
        let typed = self.typed(steps)?;
        if timed && steps != self.steps {
            // Weights do not change with the number of steps.
            let most = self.typed(self.steps)?;
            let own = typed.parameters.values().zip(most.parameters.values());
            if let Some((_, spec)) = own.into_iter().find(|(own, most)| own != most) {
                let (name, steps) = (shown(&spec.tensor), self.steps);
                return refuse(place, format!("the shape of tensor '{name}' is that for {steps} steps only"));
            }
        }
        Ok(typed)
    }

    fn typed(&self, steps: usize) -> Result<Typed<'_>, GraphError> {
        let typed = Typed {
            graph: self,
            steps,
            values: Vec::new(),
            nodes: Vec::new(),
            outputs: Vec::new(),
            fits: HashSet::new(),
            parameters: BTreeMap::new(),
        };
        let mut inference = Inference { typed, scope: HashMap::new(), count: 0 };
        inference.graph()?;
        Ok(inference.typed)
    }
}

impl Typed<'_> {
    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &ValueType {
        &self.values[value.index()].ty
    }

    /// Name of a value.
    pub fn name(&self, value: ValueId) -> &str {
        &self.values[value.index()].name
    }
}

/// State of the inference.
struct Inference<'g> {
    typed: Typed<'g>,
    /// Values by name.
    scope: HashMap<String, ValueId>,
    /// Nodes so far.
    count: usize,
}

/// Refuses.
fn refuse<T>(place: impl Into<String>, what: impl Into<String>) -> Result<T, GraphError> {
    Err(GraphError::new(place, what))
}

/// Checks a name: it is shown, and written to tables.
pub(crate) fn check_name(place: &str, name: &str) -> Result<(), GraphError> {
    if name.is_empty() || name.len() > MAX_NAME {
        return refuse(place, format!("a name of {} bytes (1 to {MAX_NAME})", name.len()));
    }
    if name.chars().any(char::is_control) {
        return refuse(place, "a name with control characters");
    }
    Ok(())
}

/// Checks a format.
fn check_number(place: &str, number: Number) -> Result<(), GraphError> {
    if !(1..=MAX_BITS).contains(&number.bits) {
        return refuse(place, format!("{} bits (1 to {MAX_BITS})", number.bits));
    }
    if number.scale.unsigned_abs() > 1024 {
        return refuse(place, format!("a scale of {} (-1024 to 1024)", number.scale));
    }
    Ok(())
}

/// Checks a shape.
fn check_shape(place: &str, shape: &[usize]) -> Result<(), GraphError> {
    if shape.len() > MAX_RANK {
        return refuse(place, format!("{} axes, at most {MAX_RANK}", shape.len()));
    }
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64)).filter(|n| *n <= MAX_ELEMENTS);
    match elements {
        Some(0) => refuse(place, format!("the shape {shape:?} has no elements")),
        Some(_) => Ok(()),
        None => refuse(place, format!("the shape {shape:?} has more than {MAX_ELEMENTS} elements")),
    }
}

impl<'g> Inference<'g> {
    fn graph(&mut self) -> Result<(), GraphError> {
        let graph = self.typed.graph;
        if graph.inputs.is_empty() || graph.outputs.is_empty() {
            return refuse("graph", "no inputs or no outputs");
        }
        for input in &graph.inputs {
            self.input(input)?;
        }
        self.typed.nodes = self.nodes(&graph.nodes, "")?;
        self.outputs()?;
        for name in &graph.fits {
            let value = self.typed.values.iter().position(|v| v.name == *name);
            let Some(value) = value else { return refuse("fits", format!("no value '{}'", shown(name))) };
            self.typed.fits.insert(ValueId(value as u32));
        }
        Ok(())
    }

    fn input(&mut self, input: &Input) -> Result<(), GraphError> {
        let place = format!("input '{}'", shown(&input.name));
        check_number(&place, input.number)?;
        if input.shape.iter().skip(1).any(|d| *d == Dim::Steps) {
            return refuse(place, "only the first axis can be the time axis");
        }
        let steps = self.typed.steps;
        let size = |d: &Dim| match *d {
            Dim::Size(n) => n,
            Dim::Steps => steps,
        };
        let shape: Vec<usize> = input.shape.iter().map(size).collect();
        check_shape(&place, &shape)?;
        let timed = input.shape.first() == Some(&Dim::Steps);
        self.define(&place, input.name.clone(), ValueType { shape, number: input.number, timed }).map(drop)
    }

    /// Adds a value and its name.
    fn define(&mut self, place: &str, name: String, ty: ValueType) -> Result<ValueId, GraphError> {
        check_name(place, &name)?;
        check_number(place, ty.number)?;
        check_shape(place, &ty.shape)?;
        let id = ValueId(self.typed.values.len() as u32);
        if self.scope.insert(name.clone(), id).is_some() {
            return refuse(place, format!("the name '{}' is used twice", shown(&name)));
        }
        self.typed.values.push(Value { name, ty });
        Ok(id)
    }

    fn find(&self, place: &str, name: &str) -> Result<ValueId, GraphError> {
        let found = self.scope.get(name).copied();
        found.map_or_else(|| refuse(place, format!("no value '{}' before this node", shown(name))), Ok)
    }

    fn nodes(&mut self, nodes: &'g [Node], prefix: &str) -> Result<Vec<TypedNode<'g>>, GraphError> {
        nodes.iter().map(|node| self.node(node, prefix)).collect()
    }

    fn node(&mut self, node: &'g Node, prefix: &str) -> Result<TypedNode<'g>, GraphError> {
        let place = format!("node '{prefix}{}'", shown(&node.name));
        self.count += 1;
        if self.count > MAX_NODES {
            return refuse(place, format!("more than {MAX_NODES} nodes"));
        }
        if let Some(number) = node.out {
            check_number(&place, number)?;
        }
        let inside = |name: &String| format!("{prefix}{name}");
        // A body's own values come before those outside.
        let find = |cx: &Self, name: &String| {
            let own = cx.scope.get(&inside(name)).copied();
            own.map_or_else(|| cx.find(&place, name), Ok)
        };
        let ins = node.ins.iter().map(|name| find(self, name)).collect::<Result<Vec<_>, _>>()?;
        let types: Vec<ValueType> = ins.iter().map(|&v| self.typed.ty(v).clone()).collect();
        let (outs, body) = match &node.op {
            Op::Scan(scan) if prefix.is_empty() => {
                let (outs, body) = self.scan(node, scan, &place, &types)?;
                (outs, Some(body))
            }
            op => {
                let at = Place { ins: &types, out: node.out };
                let results = op.infer(at).map_err(|what| GraphError::new(&place, what))?;
                for spec in op.parameters(at) {
                    self.parameter(&place, spec)?;
                }
                let several = results.len() > 1;
                let name = |i: usize| if several { format!("{}.{i}", node.name) } else { node.name.clone() };
                let define = |(i, ty)| self.define(&place, inside(&name(i)), ty);
                (results.into_iter().enumerate().map(define).collect::<Result<Vec<_>, _>>()?, None)
            }
        };
        Ok(TypedNode { node, ins, types, outs, body })
    }

    fn parameter(&mut self, place: &str, spec: ParameterSpec) -> Result<(), GraphError> {
        check_name(place, &spec.tensor)?;
        check_shape(place, &spec.shape)?;
        if !(1..=MAX_PARAMETER_BITS).contains(&spec.bits) || spec.range.0 > spec.range.1 {
            let (lo, hi) = spec.range;
            return refuse(place, format!("a tensor of {} bits between {lo} and {hi}", spec.bits));
        }
        match self.typed.parameters.insert(spec.tensor.clone(), spec.clone()) {
            Some(other) if other != spec => refuse(
                place,
                format!("tensor '{}' is used with different shapes, widths or bounds", shown(&spec.tensor)),
            ),
            _ => Ok(()),
        }
    }

    fn scan(
        &mut self,
        node: &'g Node,
        scan: &'g Scan,
        place: &str,
        types: &[ValueType],
    ) -> Result<(Vec<ValueId>, TypedBody<'g>), GraphError> {
        let refused = |what: String| Err(GraphError::new(place, what));
        if node.out.is_some() {
            return refused("a loop's results have the formats of its body's values: 'out' is not expected".into());
        }
        if scan.states.is_empty() || types.is_empty() {
            return refused("a loop without state, or without an operand".into());
        }
        if scan.slices.len() != types.len() {
            return refused(format!("{} names in 'slices' for {} operands", scan.slices.len(), types.len()));
        }
        let Some(&trips) = types[0].shape.first() else { return refused("a scalar has no axis to loop over".into()) };
        if trips > MAX_STEPS {
            return refused(format!("{trips} steps, at most {MAX_STEPS}"));
        }
        if let Some(other) = types.iter().find(|ty| ty.shape.first() != Some(&trips) || ty.timed != types[0].timed) {
            return refused(format!("operands of different lengths: {trips} and {:?}", other.shape));
        }
        let timed = types[0].timed;
        let prefix = format!("{}/", node.name);
        let inside = |name: &str| format!("{prefix}{name}");
        let mut slices = Vec::new();
        for (name, ty) in scan.slices.iter().zip(types) {
            let ty = ValueType { shape: ty.shape[1..].to_vec(), number: ty.number, timed: false };
            slices.push(self.define(place, inside(name), ty)?);
        }
        let mut params = Vec::new();
        for state in &scan.states {
            params.push(self.state(place, state, inside(&state.name))?);
        }
        let nodes = self.nodes(&scan.body, &prefix)?;
        let find = |cx: &Self, name: &str| {
            let found = cx.scope.get(&inside(name)).copied();
            found.map_or_else(|| refuse(place, format!("no value '{}' in the body", shown(name))), Ok)
        };
        let mut states = Vec::new();
        for (state, (param, from)) in scan.states.iter().zip(params) {
            let next = find(self, &state.next)?;
            let (now, then) = (self.typed.ty(param), self.typed.ty(next));
            if (&now.shape, now.number) != (&then.shape, then.number) {
                let name = shown(&state.name);
                return refused(format!("state '{name}' is {now:?}, but the next one, '{}', is {then:?}", state.next));
            }
            states.push(TypedState { state, param, from, next });
        }
        let (mut outs, mut yields) = (Vec::new(), Vec::new());
        for result in &scan.yields {
            let value = find(self, &result.value)?;
            let ty = self.typed.ty(value);
            let shape = match result.steps {
                Steps::Last => ty.shape.clone(),
                Steps::Every => [&[trips], &ty.shape[..]].concat(),
            };
            let ty = ValueType { shape, number: ty.number, timed: timed && result.steps == Steps::Every };
            outs.push(self.define(place, format!("{}.{}", node.name, result.name), ty)?);
            yields.push((value, result.steps));
        }
        if outs.is_empty() {
            return refused("a loop without results".into());
        }
        Ok((outs, TypedBody { trips, slices, states, nodes, yields }))
    }

    fn state(&mut self, place: &str, state: &State, name: String) -> Result<(ValueId, Option<ValueId>), GraphError> {
        let ty = ValueType { shape: state.shape.clone(), number: state.number, timed: false };
        check_number(place, ty.number)?;
        let from = match &state.from {
            None => {
                let (lo, hi) = ty.number.range();
                if !(lo..=hi).contains(&state.init.into()) {
                    return refuse(
                        place,
                        format!("the initial state {} does not fit {} bits", state.init, ty.number.bits),
                    );
                }
                None
            }
            Some(name) => {
                let value = self.find(place, name)?;
                let found = self.typed.ty(value);
                if (&found.shape, found.number) != (&ty.shape, ty.number) {
                    return refuse(place, format!("the initial state '{}' is {found:?}, not {ty:?}", shown(name)));
                }
                Some(value)
            }
        };
        Ok((self.define(place, name, ty)?, from))
    }

    fn outputs(&mut self) -> Result<(), GraphError> {
        let mut names = HashSet::new();
        for output in &self.typed.graph.outputs {
            let place = format!("output '{}'", shown(&output.name));
            check_name(&place, &output.name)?;
            if !names.insert(&output.name) {
                return refuse(place, "the name is used twice");
            }
            let value = match self.scope.get(&output.value) {
                // A value of a body is not one of the graph.
                Some(&value) if !output.value.contains('/') => value,
                _ => return refuse(place, format!("no value '{}'", shown(&output.value))),
            };
            let ty = self.typed.ty(value);
            let classes = ty.shape.last().copied().unwrap_or(1);
            if output.reveal != Reveal::Values && ty.shape.is_empty() {
                return refuse(place, "a scalar has no classes");
            }
            if !output.labels.is_empty() && output.labels.len() != classes {
                return refuse(place, format!("{} labels for {classes} classes", output.labels.len()));
            }
            for label in &output.labels {
                check_name(&place, label)?;
            }
            self.typed.outputs.push(value);
        }
        Ok(())
    }
}
