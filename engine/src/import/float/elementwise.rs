//! Functions of one element, and sums, products and comparisons of tensors that broadcast to each other.

use super::{Call, Operator};
use crate::import::onnx::Attribute;
use crate::import::tensor::{Data, Tensor, broadcast, count};
use std::borrow::Cow;

pub(super) fn find(op: &str) -> Option<Operator> {
    Some(match op {
        "Add" => |c| arithmetic(c, |a, b| a + b, i64::checked_add),
        "Sub" => |c| arithmetic(c, |a, b| a - b, i64::checked_sub),
        "Mul" => |c| arithmetic(c, |a, b| a * b, i64::checked_mul),
        "Div" => |c| arithmetic(c, |a, b| a / b, i64::checked_div),
        "Min" => |c| variadic(c, f32::min, |a, b| Some(a.min(b))),
        "Max" => |c| variadic(c, f32::max, |a, b| Some(a.max(b))),
        "Sum" => |c| variadic(c, |a, b| a + b, i64::checked_add),
        "Mean" => |c| {
            let sum = variadic(c, |a, b| a + b, i64::checked_add)?.remove(0);
            let n = c.all().len() as f32;
            one(map(&sum, |x| x / n)?)
        },
        "Mod" => |c| {
            if c.flag("fmod", false)? {
                arithmetic(c, |a, b| a % b, i64::checked_rem)
            } else {
                // The result has the sign of the divisor.
                arithmetic(
                    c,
                    |a, b| a - b * (a / b).floor(),
                    |a, b| {
                        let r = a.checked_rem(b)?;
                        Some(if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
                    },
                )
            }
        },
        "Pow" => pow,
        "PRelu" => |c| one(zip_floats(c.input(0)?, c.input(1)?, |x, slope| if x < 0.0 { x * slope } else { x })?),
        "Equal" => |c| compare(c, |o| o == std::cmp::Ordering::Equal),
        "Less" => |c| compare(c, std::cmp::Ordering::is_lt),
        "LessOrEqual" => |c| compare(c, std::cmp::Ordering::is_le),
        "Greater" => |c| compare(c, std::cmp::Ordering::is_gt),
        "GreaterOrEqual" => |c| compare(c, std::cmp::Ordering::is_ge),
        "And" => |c| logic(c, |a, b| a && b),
        "Or" => |c| logic(c, |a, b| a || b),
        "Xor" => |c| logic(c, |a, b| a != b),
        "Not" => |c| {
            let x = c.input(0)?;
            one(Tensor::new(x.shape().to_vec(), Data::Bool(x.as_bools()?.iter().map(|b| !b).collect()))?)
        },
        "Where" => choose,
        "Abs" => |c| signed(c, f32::abs, i64::checked_abs),
        "Neg" => |c| signed(c, |x| -x, i64::checked_neg),
        "Sign" => |c| signed(c, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }, |x| Some(x.signum())),
        "Sqrt" => |c| unary(c, f32::sqrt),
        "Exp" => |c| unary(c, f32::exp),
        "Log" => |c| unary(c, f32::ln),
        "Sin" => |c| unary(c, f32::sin),
        "Cos" => |c| unary(c, f32::cos),
        "Tanh" => |c| unary(c, f32::tanh),
        "Erf" => |c| unary(c, libm::erff),
        "Reciprocal" => |c| unary(c, |x| 1.0 / x),
        "Floor" => |c| unary(c, f32::floor),
        "Ceil" => |c| unary(c, f32::ceil),
        "Round" => |c| unary(c, f32::round_ties_even),
        "Relu" => |c| signed(c, relu, |x| Some(x.max(0))),
        "Sigmoid" => |c| unary(c, sigmoid),
        "Softplus" => |c| unary(c, softplus),
        "Softsign" => |c| unary(c, softsign),
        "Mish" => |c| unary(c, |x| x * softplus(x).tanh()),
        "HardSwish" => |c| unary(c, |x| x * hard_sigmoid(x, 1.0 / 6.0, 0.5)),
        "HardSigmoid" => |c| {
            let (alpha, beta) = (c.float("alpha", 0.2)?, c.float("beta", 0.5)?);
            unary(c, |x| hard_sigmoid(x, alpha, beta))
        },
        "Elu" => |c| {
            let alpha = c.float("alpha", 1.0)?;
            unary(c, |x| elu(x, alpha))
        },
        "Celu" => |c| {
            let alpha = c.float("alpha", 1.0)?;
            unary(c, |x| x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0))
        },
        "Selu" => |c| {
            let (alpha, gamma) = (c.float("alpha", 1.673_263_2)?, c.float("gamma", 1.050_701)?);
            unary(c, |x| gamma * elu(x, alpha))
        },
        "LeakyRelu" => |c| {
            let alpha = c.float("alpha", 0.01)?;
            unary(c, |x| leaky_relu(x, alpha))
        },
        "ThresholdedRelu" => |c| {
            let alpha = c.float("alpha", 1.0)?;
            unary(c, |x| if x > alpha { x } else { 0.0 })
        },
        "Swish" => |c| {
            let alpha = c.float("alpha", 1.0)?;
            unary(c, |x| x * sigmoid(alpha * x))
        },
        "Gelu" => |c| match c.string("approximate", "none")? {
            "tanh" => {
                let k = (2.0 / std::f32::consts::PI).sqrt();
                unary(c, |x| 0.5 * x * (1.0 + (k * (x + 0.044_715 * x * x * x)).tanh()))
            }
            "none" => unary(c, |x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))),
            other => Err(format!("the approximation '{other}' is not known")),
        },
        "Clip" => clip,
        "Cast" => |c| {
            let to = c.int("to", 0)?;
            one(cast(c.input(0)?, to)?)
        },
        "CastLike" => |c| {
            let to = match c.input(1)?.data() {
                Data::Float(_) => 1,
                Data::Int(_) => 7,
                Data::Bool(_) => 9,
            };
            one(cast(c.input(0)?, to)?)
        },
        // Dropout does nothing outside of training.
        "Identity" | "Dropout" => |c| {
            if c.node.op == "Dropout" && c.optional(2).is_some_and(|t| t.as_bool() != Ok(false)) {
                return Err("it is set to training; export the network for inference (net.eval())".into());
            }
            let x = c.input(0)?.clone();
            let mask = Tensor::new(x.shape().to_vec(), Data::Bool(vec![true; x.len()]))?;
            Ok(if c.wants(1) { vec![x, mask] } else { vec![x] })
        },
        _ => return None,
    })
}

/// `1 / (1 + e^-x)`.
pub(in crate::import) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `max(0, x)`; a NaN stays one.
pub(in crate::import) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `ln(1 + e^x)`.
pub(in crate::import) fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `x / (1 + |x|)`.
pub(in crate::import) fn softsign(x: f32) -> f32 {
    x / (1.0 + x.abs())
}

/// `alpha x + beta`, kept in 0..=1.
pub(in crate::import) fn hard_sigmoid(x: f32, alpha: f32, beta: f32) -> f32 {
    (alpha * x + beta).clamp(0.0, 1.0)
}

/// `x`, or `alpha (e^x - 1)` below zero.
pub(in crate::import) fn elu(x: f32, alpha: f32) -> f32 {
    if x < 0.0 { alpha * x.exp_m1() } else { x }
}

/// `x`, or `alpha x` below zero.
pub(in crate::import) fn leaky_relu(x: f32, alpha: f32) -> f32 {
    if x < 0.0 { alpha * x } else { x }
}

pub(super) fn one(t: Tensor) -> Result<Vec<Tensor>, String> {
    Ok(vec![t])
}

/// The same shape with a function of every element, which are floats.
pub(in crate::import) fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> Result<Tensor, String> {
    Tensor::floats(x.shape().to_vec(), x.as_floats()?.iter().map(|&v| f(v)).collect())
}

fn unary(c: &Call, f: impl Fn(f32) -> f32) -> Result<Vec<Tensor>, String> {
    one(map(c.input(0)?, f)?)
}

fn signed(c: &Call, float: fn(f32) -> f32, int: fn(i64) -> Option<i64>) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    match x.data() {
        Data::Int(v) => {
            let v: Option<Vec<i64>> = v.iter().map(|&a| int(a)).collect();
            one(Tensor::new(x.shape().to_vec(), Data::Int(v.ok_or("an integer overflows")?))?)
        }
        _ => unary(c, float),
    }
}

/// Both tensors in the shape that they broadcast to.
fn aligned<'a>(a: &'a Tensor, b: &'a Tensor) -> Result<(Cow<'a, Tensor>, Cow<'a, Tensor>), String> {
    if a.shape() == b.shape() {
        return Ok((Cow::Borrowed(a), Cow::Borrowed(b)));
    }
    let shape = broadcast(a.shape(), b.shape())?;
    count(&shape)?;
    let fit = |t: &'a Tensor| {
        if t.shape() == shape { Ok(Cow::Borrowed(t)) } else { t.expanded(&shape).map(Cow::Owned) }
    };
    Ok((fit(a)?, fit(b)?))
}

/// A function of the elements of two tensors of floats.
pub(in crate::import) fn zip_floats(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32) -> Result<Tensor, String> {
    let (a, b) = aligned(a, b)?;
    let values = a.as_floats()?.iter().zip(b.as_floats()?).map(|(&x, &y)| f(x, y)).collect();
    Tensor::floats(a.shape().to_vec(), values)
}

fn combine(
    a: &Tensor,
    b: &Tensor,
    float: fn(f32, f32) -> f32,
    int: fn(i64, i64) -> Option<i64>,
) -> Result<Tensor, String> {
    if let (Data::Int(_), Data::Int(_)) = (a.data(), b.data()) {
        let (a, b) = aligned(a, b)?;
        let values: Option<Vec<i64>> = a.as_ints()?.iter().zip(b.as_ints()?).map(|(&x, &y)| int(x, y)).collect();
        let values = values.ok_or("an integer overflows or is divided by zero")?;
        Tensor::new(a.shape().to_vec(), Data::Int(values))
    } else {
        zip_floats(a, b, float)
    }
}

fn arithmetic(c: &Call, float: fn(f32, f32) -> f32, int: fn(i64, i64) -> Option<i64>) -> Result<Vec<Tensor>, String> {
    one(combine(c.input(0)?, c.input(1)?, float, int)?)
}

fn variadic(c: &Call, float: fn(f32, f32) -> f32, int: fn(i64, i64) -> Option<i64>) -> Result<Vec<Tensor>, String> {
    let mut total = c.input(0)?.clone();
    for next in &c.all()[1..] {
        total = combine(&total, next, float, int)?;
    }
    one(total)
}

/// The exponent may be of another type than the base, whose type the result has.
fn pow(c: &Call) -> Result<Vec<Tensor>, String> {
    let (base, exponent) = (c.input(0)?, c.input(1)?);
    let floats = |t: &Tensor| Tensor::floats(t.shape().to_vec(), t.to_floats());
    match (base.data(), exponent.data()) {
        (Data::Int(_), Data::Int(_)) => arithmetic(c, f32::powf, |a, b| a.checked_pow(u32::try_from(b).ok()?)),
        (Data::Float(_), _) => {
            let power = |x: f32, p: f32| if p == 2.0 { x * x } else { x.powf(p) };
            one(zip_floats(base, &floats(exponent)?, power)?)
        }
        _ => Err("this mixture of types is not computed".into()),
    }
}

fn compare(c: &Call, holds: fn(std::cmp::Ordering) -> bool) -> Result<Vec<Tensor>, String> {
    let (a, b) = aligned(c.input(0)?, c.input(1)?)?;
    let values: Vec<bool> = match (a.data(), b.data()) {
        // Nothing is less than, equal to or greater than a NaN.
        (Data::Float(x), Data::Float(y)) => x.iter().zip(y).map(|(p, q)| p.partial_cmp(q).is_some_and(holds)).collect(),
        (Data::Int(x), Data::Int(y)) => x.iter().zip(y).map(|(p, q)| holds(p.cmp(q))).collect(),
        (Data::Bool(x), Data::Bool(y)) => x.iter().zip(y).map(|(p, q)| holds(p.cmp(q))).collect(),
        _ => return Err("its inputs have different types".into()),
    };
    one(Tensor::new(a.shape().to_vec(), Data::Bool(values))?)
}

fn logic(c: &Call, f: fn(bool, bool) -> bool) -> Result<Vec<Tensor>, String> {
    let (a, b) = aligned(c.input(0)?, c.input(1)?)?;
    let values = a.as_bools()?.iter().zip(b.as_bools()?).map(|(&p, &q)| f(p, q)).collect();
    one(Tensor::new(a.shape().to_vec(), Data::Bool(values))?)
}

fn choose(c: &Call) -> Result<Vec<Tensor>, String> {
    let (condition, yes, no) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let shape = broadcast(&broadcast(condition.shape(), yes.shape())?, no.shape())?;
    let (condition, yes, no) = (condition.expanded(&shape)?, yes.expanded(&shape)?, no.expanded(&shape)?);
    let condition = condition.as_bools()?;
    fn pick<T: Copy>(condition: &[bool], yes: &[T], no: &[T]) -> Vec<T> {
        condition.iter().zip(yes.iter().zip(no)).map(|(&c, (&y, &n))| if c { y } else { n }).collect()
    }
    let data = match (yes.data(), no.data()) {
        (Data::Float(y), Data::Float(n)) => Data::Float(pick(condition, y, n)),
        (Data::Int(y), Data::Int(n)) => Data::Int(pick(condition, y, n)),
        (Data::Bool(y), Data::Bool(n)) => Data::Bool(pick(condition, y, n)),
        _ => return Err("its inputs have different types".into()),
    };
    one(Tensor::new(shape, data)?)
}

/// The bounds are inputs, in old files attributes.
fn clip(c: &Call) -> Result<Vec<Tensor>, String> {
    let x = c.input(0)?;
    if let Data::Int(v) = x.data() {
        let bound = |i: usize, default: i64| c.optional(i).map_or(Ok(default), Tensor::as_int);
        let (lo, hi) = (bound(1, i64::MIN)?, bound(2, i64::MAX)?);
        return one(Tensor::new(x.shape().to_vec(), Data::Int(v.iter().map(|&a| a.max(lo).min(hi)).collect()))?);
    }
    let bound = |i: usize, name: &str, default: f32| match c.optional(i) {
        Some(t) if t.len() == 1 => Ok(t.as_floats()?[0]),
        Some(_) => Err("a bound is one number".to_string()),
        None => c.float(name, default),
    };
    let (lo, hi) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    one(map(x, |v| if v < lo { lo } else { v }.min(hi))?)
}

/// Floats become integers toward zero; integers of every width are kept whole.
fn cast(x: &Tensor, to: i64) -> Result<Tensor, String> {
    let data = match (to, x.data()) {
        (1 | 10 | 11 | 16, _) => Data::Float(x.to_floats()),
        (9, Data::Float(v)) => Data::Bool(v.iter().map(|&a| a != 0.0).collect()),
        (9, Data::Int(v)) => Data::Bool(v.iter().map(|&a| a != 0).collect()),
        (2..=7 | 12 | 13, Data::Float(v)) => Data::Int(v.iter().map(|&a| a as i64).collect()),
        (2..=7 | 12 | 13, Data::Bool(v)) => Data::Int(v.iter().map(|&a| i64::from(a)).collect()),
        (9, Data::Bool(_)) | (2..=7 | 12 | 13, Data::Int(_)) => x.data().clone(),
        _ => return Err(format!("the type {to} is not known")),
    };
    Tensor::new(x.shape().to_vec(), data)
}

/// The value of a `Constant` node.
pub(super) fn constant(c: &Call) -> Result<Vec<Tensor>, String> {
    let (name, value) = c.node.attributes.iter().next().ok_or("it has no value")?;
    one(match value {
        Attribute::Tensor(t) => (**t).clone(),
        Attribute::Float(f) => Tensor::floats(Vec::new(), vec![*f])?,
        Attribute::Int(i) => Tensor::scalar(*i),
        Attribute::Floats(v) => Tensor::floats(vec![v.len()], v.clone())?,
        Attribute::Ints(v) => Tensor::vector(v.clone()),
        _ => return Err(format!("attribute '{name}' is none that is read here")),
    })
}
