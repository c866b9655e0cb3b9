//! What a text may leave out or say shortly, on the tables of its nodes: [`expand`] before they are read, [`shorten`] before they are written.

use crate::model::ModelError;
use crate::model::client::REAL;
use crate::protocols::truncation::Rounding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// `[default]`: what nodes and tensors have that do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    /// Width of results and states.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<u32>,
    /// Their scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<i32>,
    /// Width of the server's tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_bits: Option<u32>,
}

/// Fields that are rescales.
const RESCALES: [&str; 3] = ["rescale", "operand", "rescale_bias"];
/// Fields that are tensors of the server.
const TENSORS: [&str; 2] = ["weights", "bias"];
/// Operations that round in a field of their own.
const ROUNDING: [&str; 3] = ["mean", "avg_pool", "l2_normalise"];
/// Operations whose results have the format of their operands.
pub(super) const KEEP_FORMAT: [&str; 13] = [
    "max_pool",
    "max",
    "argmax",
    "reshape",
    "transpose",
    "slice",
    "split",
    "concat",
    "pad",
    "gather",
    "reverse",
    "patches",
    "scan",
];
/// Fields of a state that are its format.
const NUMBER: [&str; 3] = ["bits", "scale", "unsigned"];
/// Most bits of a shift.
const MAX_SHIFT: i64 = 63;

fn refuse<T>(field: &str, what: &str) -> Result<T, ModelError> {
    Err(ModelError::new(field, what))
}

fn op(node: &Table) -> String {
    node.get("op").and_then(Value::as_str).unwrap_or_default().to_string()
}

/// Fills in what a node leaves out.
pub(super) fn expand(node: &mut Table, rounding: Rounding, default: &Defaults) -> Result<(), ModelError> {
    let op = op(node);
    if let Some(one @ Value::String(_)) = node.get_mut("in") {
        *one = Value::Array(vec![one.clone()]);
    }
    for key in RESCALES {
        expand_rescale(node, key, rounding)?;
    }
    if let Some(Value::Array(terms)) = node.get_mut("terms") {
        for term in terms.iter_mut().filter_map(Value::as_table_mut) {
            expand_rescale(term, "rescale", rounding)?;
        }
    }
    for key in TENSORS {
        if let Some(tensor) = node.get_mut(key) {
            if let Value::String(name) = tensor {
                *tensor = Value::Table(Table::from_iter([("tensor".to_string(), Value::String(name.clone()))]));
            }
            if let (Value::Table(tensor), Some(bits)) = (tensor, default.tensor_bits) {
                tensor.entry("bits").or_insert(i64::from(bits).into());
            }
        }
    }
    if ROUNDING.contains(&op.as_str()) {
        node.entry("rounding").or_insert(name_of(rounding));
    }
    let computes = !KEEP_FORMAT.contains(&op.as_str());
    if computes && default.bits.is_some() && !node.contains_key("out") {
        node.insert("out".into(), Table::new().into());
    }
    if let Some(Value::Table(out)) = node.get_mut("out") {
        default.fill(out);
    }
    if let Some(Value::Array(states)) = node.get_mut("states") {
        for state in states.iter_mut().filter_map(Value::as_table_mut) {
            let mut number = Table::new();
            number.extend(NUMBER.iter().filter_map(|key| Some((key.to_string(), state.remove(*key)?))));
            default.fill(&mut number);
            if state.insert("number".into(), number.into()).is_some() {
                return refuse("states", "unknown field 'number'");
            }
        }
    }
    if let Some(Value::Array(body)) = node.get_mut("body") {
        for (i, inner) in body.iter_mut().enumerate() {
            let Value::Table(inner) = inner else { return refuse("body", "a list of nodes") };
            let place = super::place("node", inner, i);
            if inner.contains_key("body") {
                return Err(ModelError::new(place, "a loop inside of a loop"));
            }
            expand(inner, rounding, default).map_err(|e| e.inside(&place))?;
        }
    }
    Ok(())
}

impl Defaults {
    /// Of values that are real numbers.
    pub(super) fn reals() -> Self {
        let crate::graph::Number { bits, scale, .. } = REAL;
        Self { bits: Some(bits), scale: Some(scale), tensor_bits: Some(bits) }
    }

    fn fill(&self, number: &mut Table) {
        if let Some(bits) = self.bits {
            number.entry("bits").or_insert(i64::from(bits).into());
        }
        if let Some(scale) = self.scale {
            number.entry("scale").or_insert(i64::from(scale).into());
        }
    }
}

fn name_of(rounding: Rounding) -> Value {
    Value::try_from(rounding).expect("a name")
}

/// A rescale is a shift, a list of shifts, or a table.
fn expand_rescale(node: &mut Table, key: &str, rounding: Rounding) -> Result<(), ModelError> {
    let Some(value) = node.get_mut(key) else { return Ok(()) };
    if matches!(value, Value::Integer(_) | Value::Array(_)) {
        *value = Table::from_iter([("shift".to_string(), value.clone())]).into();
    }
    let Value::Table(table) = value else {
        return refuse(key, "a shift, a list of shifts, or { floor = .., shift = .., left = .., rounding = .. }");
    };
    let bits = |v: &Value| v.as_integer().is_some_and(|n| (0..=MAX_SHIFT).contains(&n));
    for part in ["floor", "shift", "left"] {
        let fine = table.get(part).is_none_or(|v| match v {
            Value::Array(all) => part == "shift" && !all.is_empty() && all.iter().all(bits),
            one => bits(one),
        });
        if !fine {
            return refuse(&format!("{key}.{part}"), &format!("not a number of bits, 0 to {MAX_SHIFT}"));
        }
    }
    table.entry("rounding").or_insert(name_of(rounding));
    if is_identity(table) {
        node.remove(key);
    }
    Ok(())
}

/// Whether a rescale with a valid rounding does nothing.
fn is_identity(table: &Table) -> bool {
    let zero = |v: &Value| v.as_integer() == Some(0);
    let nothing = |(key, v): (&String, &Value)| match key.as_str() {
        "floor" | "left" => zero(v),
        "shift" => zero(v) || v.as_array().is_some_and(|all| all.iter().all(zero)),
        "rounding" => v.clone().try_into::<Rounding>().is_ok(),
        _ => false,
    };
    table.iter().all(nothing)
}

/// Leaves out of a node's complete table what [`expand`] fills in.
pub(super) fn shorten(node: &mut Table, rounding: Rounding, default: &Defaults) {
    let op = op(node);
    if let Some(ins) = node.get_mut("in")
        && let Some([one]) = ins.as_array().map(Vec::as_slice)
    {
        *ins = one.clone();
    }
    for key in RESCALES {
        shorten_rescale(node, key, rounding);
    }
    if let Some(Value::Array(terms)) = node.get_mut("terms") {
        for term in terms.iter_mut().filter_map(Value::as_table_mut) {
            shorten_rescale(term, "rescale", rounding);
        }
    }
    for key in TENSORS {
        if let Some(Value::Table(tensor)) = node.get_mut(key) {
            drop_equal(tensor, "bits", default.tensor_bits.map(i64::from));
            if tensor.len() == 1
                && let Some(name) = tensor.remove("tensor")
            {
                node.insert(key.into(), name);
            }
        }
    }
    if ROUNDING.contains(&op.as_str()) && node.get("rounding") == Some(&name_of(rounding)) {
        node.remove("rounding");
    }
    if let Some(Value::Table(out)) = node.get_mut("out") {
        default.strip(out);
        if out.is_empty() && default.bits.is_some() && !KEEP_FORMAT.contains(&op.as_str()) {
            node.remove("out");
        }
    }
    if let Some(Value::Array(states)) = node.get_mut("states") {
        for state in states.iter_mut().filter_map(Value::as_table_mut) {
            if let Some(Value::Table(mut number)) = state.remove("number") {
                default.strip(&mut number);
                state.extend(number);
            }
            drop_equal(state, "init", Some(0));
        }
    }
    if let Some(Value::Array(body)) = node.get_mut("body") {
        body.iter_mut().filter_map(Value::as_table_mut).for_each(|inner| shorten(inner, rounding, default));
    }
}

impl Defaults {
    fn strip(&self, number: &mut Table) {
        drop_equal(number, "bits", self.bits.map(i64::from));
        drop_equal(number, "scale", Some(self.scale.map_or(0, i64::from)));
    }
}

fn drop_equal(table: &mut Table, key: &str, value: Option<i64>) {
    if value.is_some() && table.get(key).and_then(Value::as_integer) == value {
        table.remove(key);
    }
}

fn shorten_rescale(node: &mut Table, key: &str, rounding: Rounding) {
    let Some(Value::Table(table)) = node.get_mut(key) else { return };
    if is_identity(table) {
        node.remove(key);
        return;
    }
    for part in ["floor", "shift", "left"] {
        drop_equal(table, part, Some(0));
    }
    if table.get("rounding") == Some(&name_of(rounding)) {
        table.remove("rounding");
    }
    if table.len() == 1
        && let Some(shift) = table.remove("shift")
    {
        node.insert(key.into(), shift);
    }
}

/// The widths and the scale that most nodes have.
pub(super) fn most_frequent(nodes: &[Table]) -> Defaults {
    let mut counts = [const { BTreeMap::<i64, usize>::new() }; 3];
    let body = |node: &Table| node.get("body").and_then(Value::as_array).cloned().unwrap_or_default();
    let inner: Vec<Value> = nodes.iter().flat_map(body).collect();
    for node in nodes.iter().chain(inner.iter().filter_map(Value::as_table)) {
        let mut count = |which: usize, table: Option<&Value>, key: &str| {
            if let Some(n) = table.and_then(|t| t.get(key)).and_then(Value::as_integer) {
                *counts[which].entry(n).or_default() += 1;
            }
        };
        count(0, node.get("out"), "bits");
        count(1, node.get("out"), "scale");
        TENSORS.iter().for_each(|key| count(2, node.get(*key), "bits"));
    }
    let [bits, scale, tensor_bits] = counts.map(|c| c.into_iter().filter(|c| c.1 > 1).max_by_key(|c| c.1).map(|c| c.0));
    Defaults {
        bits: bits.and_then(|n| n.try_into().ok()),
        scale: scale.and_then(|n| n.try_into().ok()),
        tensor_bits: tensor_bits.and_then(|n| n.try_into().ok()),
    }
}
