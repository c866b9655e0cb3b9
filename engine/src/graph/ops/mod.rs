//! The operations, a file each: parameters (the fields of the model file), shape rule and bounds, the weights, and the definition on
//! integers.
//!
//! To add one: a file with a struct that implements [`Operation`], a line in `operations!` below, an arm in
//! `compile::expand`.

use super::{Number, Rescale, Tensor, ValueType, Weights};
use serde::{Deserialize, Serialize};

mod index_map;
mod products;
mod windows;

pub use index_map::{IndexMap, broadcast_map};
pub use windows::Windows;

/// What an operation is told about its place in a graph.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Types of the operands.
    pub ins: &'a [ValueType],
    /// Declared format of the result, where the node has one.
    pub out: Option<Number>,
}

/// A tensor of the server that an operation needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Name, in the file of weights.
    pub tensor: String,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Width: what is stored must fit as a signed number.
    pub bits: u32,
    /// Smallest and largest value: public facts.
    pub range: (i128, i128),
}

/// Widest element of a tensor of the server.
pub const MAX_PARAMETER_BITS: u32 = 32;

/// How a node refers to a tensor of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Name, in the file of weights.
    pub tensor: String,
    /// Width of its elements, signed.
    pub bits: u32,
    /// No element is smaller. By default what `bits` allow. Public, and checked when weights are loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// No element is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

impl Parameter {
    /// A tensor of `bits` bits.
    pub fn new(tensor: impl Into<String>, bits: u32) -> Self {
        Self { tensor: tensor.into(), bits, min: None, max: None }
    }

    /// The same with public bounds.
    pub fn within(self, min: i64, max: i64) -> Self {
        Self { min: Some(min), max: Some(max), ..self }
    }

    /// Smallest and largest value.
    pub fn range(&self) -> (i128, i128) {
        // What a stranger's file says is checked by the inference, which refuses more bits.
        let (lo, hi) = crate::program::signed(self.bits.clamp(1, MAX_PARAMETER_BITS));
        (self.min.map_or(lo, |min| lo.max(min.into())), self.max.map_or(hi, |max| hi.min(max.into())))
    }

    /// What is needed of the file of weights.
    pub fn spec(&self, shape: Vec<usize>) -> ParameterSpec {
        ParameterSpec { tensor: self.tensor.clone(), shape, bits: self.bits, range: self.range() }
    }
}

/// An operation of a graph.
pub trait Operation {
    /// Types of the results.
    ///
    /// # Errors
    /// Why operands or parameters make no sense, without the node's name.
    fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String>;

    /// Tensors of the server. Called after [`Operation::infer`] accepted the place.
    fn parameters(&self, _place: Place<'_>) -> Vec<ParameterSpec> {
        Vec::new()
    }

    /// For an operation that only moves elements and puts zeros: where those of each result come from. The others have
    /// none.
    fn gather(&self, _place: Place<'_>) -> Option<Vec<IndexMap>> {
        None
    }

    /// The definition, on one item. Called after [`Operation::infer`] accepted the place, with operands of those types.
    fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor>;
}

/// Declares the enumeration of all operations and what is the same for each: name, file entry, dispatch.
macro_rules! operations {
    ($($(#[$doc:meta])* $module:ident :: $kind:ident = $name:literal,)*) => {
        /// An operation with its parameters.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $kind($module::$kind),)*
        }

        /// Names of all operations, as the model file writes them.
        pub const NAMES: &[&str] = &[$($name),*];

        impl Op {
            /// Name in the model file.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$kind(_) => $name,)* }
            }

            /// Reads the parameters of the operation `name` from a node's remaining fields.
            ///
            /// # Errors
            /// An unknown operation, or fields that it does not have.
            pub fn from_fields(name: &str, fields: toml::Table) -> Result<Self, String> {
                match name {
                    $($name => fields.try_into().map(Op::$kind).map_err(|e| e.message().to_string()),)*
                    _ => Err(format!("no operation '{name}'; there are {}", NAMES.join(", "))),
                }
            }

            /// The parameters as fields of the model file.
            ///
            /// # Errors
            /// Numbers that the file format cannot hold.
            pub fn to_fields(&self) -> Result<toml::Table, String> {
                match self { $(Op::$kind(op) => toml::Table::try_from(op).map_err(|e| e.to_string()),)* }
            }

            fn operation(&self) -> &dyn Operation {
                match self { $(Op::$kind(op) => op,)* }
            }
        }
        $(
            impl From<$module::$kind> for Op {
                fn from(op: $module::$kind) -> Op {
                    Op::$kind(op)
                }
            }
        )*
    };
}

pub mod activation;
pub mod add;
pub mod bias;
pub mod clip;
pub mod concat;
pub mod conv;
pub mod div;
pub mod gather;
pub mod l2_normalise;
pub mod matmul;
pub mod matmul_shared;
pub mod mul;
pub mod pad;
pub mod patches;
pub mod pool;
pub mod rescaling;
pub mod reshape;
pub mod reverse;
pub mod scale;
pub mod scan;
pub mod select;
pub mod slice;
pub mod softmax;
pub mod sum;
pub mod table;
pub mod transpose;

operations! {
    /// Rows times a matrix of the server.
    matmul::MatMul = "matmul",
    /// Convolution with filters of the server, 1-d and 2-d.
    conv::Conv = "conv",
    /// Product with a vector of the server, broadcast.
    scale::Scale = "scale",
    /// Sum with a vector of the server, broadcast.
    bias::Bias = "bias",
    /// Product of two matrices of shared values.
    matmul_shared::MatMulShared = "matmul_shared",
    /// Element-wise product of two shared values.
    mul::Mul = "mul",
    /// Sum of several values, each with its own rescale.
    add::Add = "add",
    /// Sum over axes.
    sum::Sum = "sum",
    /// Mean over axes.
    sum::Mean = "mean",
    /// A rescale alone.
    rescaling::Rescaling = "rescale",
    /// `1 / (1 + e^-x)`, the authors' function.
    activation::Sigmoid = "sigmoid",
    /// Hyperbolic tangent, the authors' function.
    activation::Tanh = "tanh",
    /// `e^-x` for `x >= 0`, the authors' function.
    activation::Exp = "exp",
    /// `1 / x` for `x` in `[1, 2)`, the authors' function.
    activation::Reciprocal = "reciprocal",
    /// `1 / sqrt(x)` for `x > 0`, the authors' function.
    activation::Rsqrt = "rsqrt",
    /// `sqrt(x)` for `x > 0`, the authors' function.
    activation::Sqrt = "sqrt",
    /// `max(x, 0)`.
    clip::Relu = "relu",
    /// `min(max(x, low), high)`.
    clip::Clip = "clip",
    /// Any function of at most 16 bits, rounded to nearest.
    table::Table = "table",
    /// Quotient of two shared values.
    div::Div = "div",
    /// Largest value of each window.
    pool::MaxPool = "max_pool",
    /// Mean of each window.
    pool::AvgPool = "avg_pool",
    /// Largest value along an axis.
    select::Max = "max",
    /// Index of the largest value along an axis.
    select::ArgMax = "argmax",
    /// Rows divided by their Euclidean length.
    l2_normalise::L2Normalise = "l2_normalise",
    /// Softmax along the last axis.
    softmax::Softmax = "softmax",
    /// The same elements under another shape.
    reshape::Reshape = "reshape",
    /// Axes in another order.
    transpose::Transpose = "transpose",
    /// A part of an axis.
    slice::Slice = "slice",
    /// An axis cut into parts.
    slice::Split = "split",
    /// Values one after the other along an axis.
    concat::Concat = "concat",
    /// A border of zeros or of the nearest element.
    pad::Pad = "pad",
    /// Entries of an axis by public index.
    gather::Gather = "gather",
    /// An axis in reverse order.
    reverse::Reverse = "reverse",
    /// Overlapping windows of an image.
    patches::Patches = "patches",
    /// A loop over the first axis.
    scan::Scan = "scan",
}

impl Op {
    /// See [`Operation::infer`].
    ///
    /// # Errors
    /// As [`Operation::infer`].
    pub fn infer(&self, place: Place<'_>) -> Result<Vec<ValueType>, String> {
        self.operation().infer(place)
    }

    /// See [`Operation::parameters`].
    pub fn parameters(&self, place: Place<'_>) -> Vec<ParameterSpec> {
        self.operation().parameters(place)
    }

    /// See [`Operation::gather`].
    pub fn gather(&self, place: Place<'_>) -> Option<Vec<IndexMap>> {
        self.operation().gather(place)
    }

    /// See [`Operation::clear`].
    pub fn clear(&self, place: Place<'_>, ins: &[&Tensor], weights: &Weights) -> Vec<Tensor> {
        self.operation().clear(place, ins, weights)
    }
}

/// The number of operands that an operation has.
pub(super) fn operands(place: Place<'_>, n: usize) -> Result<(), String> {
    if place.ins.len() == n { Ok(()) } else { Err(format!("the number of operands is {}, not {n}", place.ins.len())) }
}

/// The declared format of the result.
pub(super) fn declared(place: Place<'_>) -> Result<Number, String> {
    place.out.ok_or_else(|| "the result's format is missing: out = { bits = .., scale = .. }".into())
}

/// Refuses a declared format where the operation keeps its operand's.
pub(super) fn undeclared(place: Place<'_>) -> Result<(), String> {
    match place.out {
        None => Ok(()),
        Some(_) => Err("the result has its operand's format: 'out' is not expected".into()),
    }
}

/// Bits of exact sums and products, sign included: with a rescale's half a unit, they fit `i128`.
const EXACT_BITS: u32 = 126;

/// Sizes of what an operation computes, refused where exact integers would be too large for the definition.
fn exact(bound: Option<i128>) -> Result<i128, String> {
    bound
        .filter(|b| b.unsigned_abs() < 1 << (EXACT_BITS - 1))
        .ok_or_else(|| format!("exact sums and products of more than {EXACT_BITS} bits"))
}

/// Largest absolute value.
fn reach((lo, hi): (i128, i128)) -> i128 {
    lo.abs().max(hi.abs())
}

/// Bound on a sum of products.
pub(super) fn exact_products(a: (i128, i128), b: (i128, i128), terms: usize) -> Result<i128, String> {
    exact(reach(a).checked_mul(reach(b)).and_then(|p| p.checked_mul(terms as i128)))
}

/// Range of rescaled values that are not wrapped yet.
pub(super) fn exact_rescale(rescale: &Rescale, (lo, hi): (i128, i128)) -> Result<(i128, i128), String> {
    let (lo, hi) = rescale.range(lo, hi).ok_or_else(|| exact(None).expect_err("no bound"))?;
    Ok((exact(Some(lo))?, exact(Some(hi))?))
}

/// The size of the last axis; 1 for a scalar.
pub(super) fn channels(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// An operation that looks at one element at a time: the operand's type with the declared format.
pub(super) fn element_wise(place: Place<'_>) -> Result<Vec<ValueType>, String> {
    operands(place, 1)?;
    let x = &place.ins[0];
    Ok(vec![ValueType { shape: x.shape.clone(), number: declared(place)?, timed: x.timed }])
}

/// Refuses an axis that is not there.
pub(super) fn check_axis(axis: usize, shape: &[usize]) -> Result<(), String> {
    if axis < shape.len() { Ok(()) } else { Err(format!("no axis {axis} in the shape {shape:?}")) }
}

/// The shape to which operands are broadcast (numpy's rule: aligned at the last axis, sizes equal or 1).
pub(crate) fn broadcast<'a>(shapes: impl IntoIterator<Item = &'a [usize]>) -> Result<Vec<usize>, String> {
    let mut result: Vec<usize> = Vec::new();
    for shape in shapes {
        let missing = shape.len().saturating_sub(result.len());
        result.splice(0..0, std::iter::repeat_n(1, missing));
        let skip = result.len() - shape.len();
        let all = result.clone();
        for (size, &other) in result[skip..].iter_mut().zip(shape) {
            match (*size, other) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *size = b,
                _ => return Err(format!("the shapes {all:?} and {shape:?} cannot be broadcast to one")),
            }
        }
    }
    Ok(result)
}

/// Type of an element-wise operation on operands that are broadcast to one shape. It is timed if whatever has a first axis of
/// its own is.
pub(super) fn broadcast_type(place: Place<'_>) -> Result<ValueType, String> {
    let shape = broadcast(place.ins.iter().map(|x| &x.shape[..]))?;
    let whole = |x: &&ValueType| x.shape.len() == shape.len() && (x.shape.first() == shape.first() || x.timed);
    let mut with_first_axis = place.ins.iter().filter(whole).peekable();
    let timed = with_first_axis.peek().is_some() && with_first_axis.all(|x| x.timed && x.shape[0] == shape[0]);
    Ok(ValueType { shape, number: declared(place)?, timed })
}

/// Refuses a vector of the server that is not broadcast to an operand's shape.
pub(super) fn check_broadcast(vector: &[usize], operand: &[usize]) -> Result<(), String> {
    if broadcast([operand, vector])? == operand {
        return Ok(());
    }
    Err(format!("a vector of shape {vector:?} cannot be broadcast to the operand's {operand:?}"))
}

/// A result, element by element.
pub(super) fn tensor(shape: &[usize], data: impl Iterator<Item = i128>) -> Vec<Tensor> {
    vec![Tensor::new(shape.to_vec(), data.map(|x| x as i64).collect())]
}

/// The element-wise result of one operand.
pub(super) fn mapped(x: &Tensor, f: impl Fn(usize, i128) -> i128) -> Vec<Tensor> {
    tensor(&x.shape, x.data.iter().enumerate().map(|(i, &x)| f(i, x.into())))
}

#[cfg(test)]
mod testing;
