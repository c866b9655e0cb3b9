//! Functions of one element, sums and products.

use super::{Emitted, Recogniser, Site};
use crate::import::network::{Function, Node, Op, Sign, ValueId};
use crate::import::tensor::Tensor;

impl Recogniser<'_> {
    pub(super) fn elementwise(&mut self, site: &Site) -> Emitted {
        let function = match site.op() {
            "Sigmoid" => Function::Sigmoid,
            "Tanh" => Function::Tanh,
            "Relu" => Function::Relu,
            "Exp" => Function::Exp,
            "Log" => Function::Log,
            "Sqrt" => Function::Sqrt,
            "Reciprocal" => Function::Reciprocal,
            "Softplus" => Function::Softplus,
            "Erf" => Function::Erf,
            "Sin" => Function::Sin,
            "Cos" => Function::Cos,
            _ => return self.other_elementwise(site),
        };
        Some(site.value(0).map(|x| vec![self.builder.function(site.name(), function, x)]))
    }

    fn other_elementwise(&mut self, site: &Site) -> Emitted {
        let result = match site.op() {
            "Identity" | "Dropout" | "Cast" | "CastLike" => self.same(site),
            "Add" | "Sum" | "Sub" => self.sum(site),
            "Mul" => self.product_of(site, site.maybe_value(0), site.maybe_value(1)),
            "Div" => self.quotient(site),
            "Pow" => self.power(site),
            "Min" | "Max" | "Clip" => self.limits(site),
            "Abs" => site.value(0).and_then(|x| {
                // |x| = 2 max(x, 0) - x
                let positive = self.builder.function(site.name(), Function::Relu, x);
                let twice = self.builder.times(site.name(), positive, 2.0);
                self.builder.add(site.name(), twice, x, Sign::Minus)
            }),
            "Neg" => site.value(0).map(|x| self.builder.times(site.name(), x, -1.0)),
            "LeakyRelu" | "PRelu" => self.leaky(site),
            "HardSigmoid" => site.value(0).and_then(|x| {
                let (alpha, beta) = (site.call.float("alpha", 0.2)?, site.call.float("beta", 0.5)?);
                Ok(self.hard_sigmoid(site.name(), x, alpha, beta))
            }),
            "HardSwish" => site.value(0).and_then(|x| {
                let gate = self.hard_sigmoid(site.name(), x, 1.0 / 6.0, 0.5);
                self.builder.mul(site.name(), x, gate)
            }),
            "Elu" => self.with_parameter(site, "alpha", 1.0, Function::Elu),
            "Swish" => self.with_parameter(site, "alpha", 1.0, Function::Silu),
            "Gelu" => site.value(0).map(|x| self.builder.function(site.name(), Function::Gelu, x)),
            "Where" => self.choice(site),
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or" | "Xor" => {
                Err("a comparison of the client's data is not computed; reveal the values and compare them afterwards"
                    .into())
            }
            _ => return None,
        };
        Some(result.map(|id| vec![id]))
    }

    fn same(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        if site.op() == "Cast" && ![1, 10, 11, 16].contains(&site.call.int("to", 1)?) {
            return Err("the client's data are rounded to integers inside of the network; remove the cast".into());
        }
        Ok(x)
    }

    fn sum(&mut self, site: &Site) -> Result<ValueId, String> {
        let minus = site.op() == "Sub";
        let mut total: Option<ValueId> = None;
        let mut constants = Vec::new();
        for i in 0..site.values.len() {
            let negative = minus && i == 1;
            match (site.maybe_value(i), total) {
                (Some(x), None) if negative => total = Some(self.builder.times(site.name(), x, -1.0)),
                (Some(x), None) => total = Some(x),
                (Some(x), Some(sum)) => {
                    let sign = if negative { Sign::Minus } else { Sign::Plus };
                    total = Some(self.builder.add(site.name(), sum, x, sign)?);
                }
                (None, _) => {
                    let t = site.call.input(i)?;
                    let factor = if negative { -1.0 } else { 1.0 };
                    constants
                        .push(Tensor::floats(t.shape().to_vec(), t.as_floats()?.iter().map(|v| v * factor).collect())?);
                }
            }
        }
        let mut total = total.ok_or("it has no operand")?;
        for constant in constants {
            total = self.grown(site.name(), total, constant.shape())?;
            total = self.builder.bias(site.name(), total, &constant)?;
        }
        Ok(total)
    }

    /// The value in the shape that it and a constant broadcast to.
    fn grown(&mut self, name: &str, x: ValueId, other: &[usize]) -> Result<ValueId, String> {
        let shape = crate::import::tensor::broadcast(self.builder.shape(x), other)?;
        self.expand(name, x, &shape)
    }

    fn product_of(&mut self, site: &Site, a: Option<ValueId>, b: Option<ValueId>) -> Result<ValueId, String> {
        match (a, b) {
            (Some(a), Some(b)) => self.builder.mul(site.name(), a, b),
            (Some(x), None) => self.scaled(site, x, site.call.input(1)?),
            (None, Some(x)) => self.scaled(site, x, site.call.input(0)?),
            (None, None) => Err("it has no operand".into()),
        }
    }

    fn scaled(&mut self, site: &Site, x: ValueId, factor: &Tensor) -> Result<ValueId, String> {
        let x = self.grown(site.name(), x, factor.shape())?;
        self.builder.scale(site.name(), x, factor)
    }

    fn quotient(&mut self, site: &Site) -> Result<ValueId, String> {
        let name = site.name();
        match (site.maybe_value(0), site.maybe_value(1)) {
            (Some(x), None) => {
                let by = site.call.input(1)?;
                let factor = Tensor::floats(by.shape().to_vec(), by.as_floats()?.iter().map(|v| 1.0 / v).collect())?;
                self.scaled(site, x, &factor)
            }
            (None, Some(x)) => {
                let inverse = self.builder.function(name, Function::Reciprocal, x);
                self.scaled(site, inverse, site.call.input(0)?)
            }
            (Some(a), Some(b)) => {
                // A deviation below a quotient is a normalisation.
                if let Some(Node { op: Op::Function(Function::Sqrt), ins, .. }) = self.builder.maker(b) {
                    let square = ins[0];
                    let inverse = self.builder.function(name, Function::Rsqrt, square);
                    return self.builder.mul(name, a, inverse);
                }
                let shape = crate::import::tensor::broadcast(self.builder.shape(a), self.builder.shape(b))?;
                Ok(self.builder.node(name, Op::Div, &[a, b], shape))
            }
            (None, None) => Err("it has no operand".into()),
        }
    }

    fn power(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        let exponent = site.constant(1, "the exponent")?.to_floats();
        match exponent[..] {
            [1.0] => Ok(x),
            [2.0] => self.builder.mul(site.name(), x, x),
            [0.5] => Ok(self.builder.function(site.name(), Function::Sqrt, x)),
            [-0.5] => Ok(self.builder.function(site.name(), Function::Rsqrt, x)),
            [-1.0] => Ok(self.builder.function(site.name(), Function::Reciprocal, x)),
            [3.0] => {
                let square = self.builder.mul(site.name(), x, x)?;
                self.builder.mul(site.name(), square, x)
            }
            _ => Err("powers other than 1, 2, 3, 1/2, -1/2 and -1 are not computed".into()),
        }
    }

    fn limits(&mut self, site: &Site) -> Result<ValueId, String> {
        let bound = |i: usize, name: &str, open: f32| -> Result<f32, String> {
            match site.maybe_constant(i, "a bound")? {
                Some(t) if t.len() == 1 => Ok(t.as_floats()?[0]),
                Some(_) => Err("bounds that differ from element to element are not computed".into()),
                None => site.call.float(name, open),
            }
        };
        if site.op() == "Clip" {
            let (low, high) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
            return Ok(self.clip(site.name(), site.value(0)?, low, high));
        }
        let x = site.maybe_value(0).map_or_else(|| site.value(1), Ok)?;
        let other = if site.maybe_value(0).is_some() { 1 } else { 0 };
        if site.values.len() != 2 || (other == 1 && site.maybe_value(1).is_some()) {
            return Err("the larger or smaller of two values of the client is not computed".into());
        }
        let limit = bound(other, "", 0.0)?;
        let (low, high) = if site.op() == "Max" { (limit, f32::INFINITY) } else { (f32::NEG_INFINITY, limit) };
        Ok(self.clip(site.name(), x, low, high))
    }

    fn clip(&mut self, name: &str, x: ValueId, low: f32, high: f32) -> ValueId {
        match (low, high) {
            (f32::NEG_INFINITY, f32::INFINITY) => x,
            (0.0, f32::INFINITY) => self.builder.function(name, Function::Relu, x),
            _ => self.builder.elementwise(name, Op::Clip(low, high), x),
        }
    }

    /// `alpha x + beta`, kept in 0..=1.
    pub(super) fn hard_sigmoid(&mut self, name: &str, x: ValueId, alpha: f32, beta: f32) -> ValueId {
        let scaled = self.builder.times(name, x, alpha);
        let shifted = self.builder.plus(name, scaled, beta);
        self.clip(name, shifted, 0.0, 1.0)
    }

    /// `a x + (1 - a) max(x, 0)` for the slope `a` below zero.
    pub(super) fn leaky_relu(&mut self, name: &str, x: ValueId, slope: &Tensor) -> Result<ValueId, String> {
        let rest = Tensor::floats(slope.shape().to_vec(), slope.as_floats()?.iter().map(|a| 1.0 - a).collect())?;
        let positive = self.builder.function(name, Function::Relu, x);
        let positive = self.builder.scale(name, positive, &rest)?;
        let all = self.builder.scale(name, x, slope)?;
        self.builder.add(name, all, positive, Sign::Plus)
    }

    fn leaky(&mut self, site: &Site) -> Result<ValueId, String> {
        let x = site.value(0)?;
        let slope = match site.op() {
            "PRelu" => site.constant(1, "the slope")?.clone(),
            _ => Tensor::floats(Vec::new(), vec![site.call.float("alpha", 0.01)?])?,
        };
        self.leaky_relu(site.name(), x, &slope)
    }

    fn with_parameter(&mut self, site: &Site, name: &str, usual: f32, f: Function) -> Result<ValueId, String> {
        if site.call.float(name, usual)? != usual {
            return Err(format!("it is computed for {name} = {usual} alone"));
        }
        Ok(self.builder.function(site.name(), f, site.value(0)?))
    }

    fn choice(&mut self, site: &Site) -> Result<ValueId, String> {
        let condition = site.constant(0, "the condition")?.as_bools()?;
        let all = |value: bool| condition.iter().all(|&c| c == value);
        match (all(true), all(false)) {
            (true, _) => site.value(1),
            (_, true) => site.value(2),
            _ => Err("a choice from element to element is not computed".into()),
        }
    }
}
