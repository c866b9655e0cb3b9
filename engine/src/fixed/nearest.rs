//! Functions of one number rounded to the nearest: the best result that a fixed-point number of the output scale can be.
//!
//! They are evaluated in IEEE double precision by portable code without the platform's mathematical library, so that both parties have the same table
//! everywhere. Its error of a few units of 2^-52 is far below what separates the values of any input of 16 bits from the middle between two outputs:
//! tests prove the result right for all of them. Values beyond the output's range saturate, inputs outside of a function's domain count as the
//! nearest point of it that the input scale has.

use super::Unsupported;

/// The functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nearest {
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `e^x`
    Exp,
    /// Natural logarithm; of positive numbers.
    Log,
    /// `x Phi(x)` with the normal distribution's `Phi`: exact, not the approximation by tanh.
    Gelu,
    /// `x / (1 + e^-x)`
    Silu,
    /// `log(1 + e^x)`
    Softplus,
    /// `x` above 0, `e^x - 1` below.
    Elu,
    /// Error function.
    Erf,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// `1 / x`; 0 counts as the smallest positive number.
    Reciprocal,
    /// `1 / sqrt(x)`; of positive numbers.
    Rsqrt,
    /// `sqrt(x)`; of numbers that are not negative.
    Sqrt,
    /// `x^2`
    Square,
}

impl Nearest {
    /// All of them.
    pub const ALL: [Nearest; 15] = [
        Nearest::Sigmoid,
        Nearest::Tanh,
        Nearest::Exp,
        Nearest::Log,
        Nearest::Gelu,
        Nearest::Silu,
        Nearest::Softplus,
        Nearest::Elu,
        Nearest::Erf,
        Nearest::Sin,
        Nearest::Cos,
        Nearest::Reciprocal,
        Nearest::Rsqrt,
        Nearest::Sqrt,
        Nearest::Square,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Nearest::Sigmoid => "sigmoid",
            Nearest::Tanh => "tanh",
            Nearest::Exp => "exp",
            Nearest::Log => "log",
            Nearest::Gelu => "gelu",
            Nearest::Silu => "silu",
            Nearest::Softplus => "softplus",
            Nearest::Elu => "elu",
            Nearest::Erf => "erf",
            Nearest::Sin => "sin",
            Nearest::Cos => "cos",
            Nearest::Reciprocal => "reciprocal",
            Nearest::Rsqrt => "rsqrt",
            Nearest::Sqrt => "sqrt",
            Nearest::Square => "square",
        }
    }

    /// The function of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// The input, or the nearest one that the function is defined for.
    pub fn in_domain(self, x: i128) -> i128 {
        match self {
            Nearest::Log | Nearest::Rsqrt => x.max(1),
            Nearest::Sqrt => x.max(0),
            Nearest::Reciprocal if x == 0 => 1,
            _ => x,
        }
    }

    fn real(self, x: f64) -> f64 {
        match self {
            Nearest::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Nearest::Tanh => libm::tanh(x),
            Nearest::Exp => libm::exp(x),
            Nearest::Log => libm::log(x),
            Nearest::Gelu => 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
            Nearest::Silu => x / (1.0 + libm::exp(-x)),
            Nearest::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Nearest::Elu if x < 0.0 => libm::expm1(x),
            Nearest::Elu => x,
            Nearest::Erf => libm::erf(x),
            Nearest::Sin => libm::sin(x),
            Nearest::Cos => libm::cos(x),
            Nearest::Reciprocal => 1.0 / x,
            Nearest::Rsqrt => 1.0 / x.sqrt(),
            Nearest::Sqrt => x.sqrt(),
            Nearest::Square => x * x,
        }
    }
}

/// A function with its scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rounded {
    /// The function.
    pub function: Nearest,
    /// Scale of the input.
    pub scale_in: u32,
    /// Scale of the result.
    pub scale_out: u32,
    /// Bits of the result, which is signed.
    pub width: u32,
}

impl Rounded {
    /// With scales up to 40 and results of up to 32 bits, where double precision has bits to spare.
    ///
    /// # Errors
    /// Says which parameter is outside.
    pub fn new(function: Nearest, scale_in: u32, scale_out: u32, width: u32) -> Result<Self, Unsupported> {
        let unsupported = |what: String| Err(Unsupported { function: function.name(), what });
        match () {
            _ if scale_in > 40 || scale_out > 40 => {
                unsupported(format!("scales of {scale_in} and {scale_out} (up to 40)"))
            }
            _ if !(2..=32).contains(&width) => unsupported(format!("a result of {width} bits (2 to 32)")),
            _ => Ok(Self { function, scale_in, scale_out, width }),
        }
    }

    /// The result for an input of fewer than 53 bits.
    pub fn eval(&self, x: i128) -> i128 {
        // Powers of two are exact.
        let power = |e: u32| (1u64 << e) as f64;
        let real = self.function.real(self.function.in_domain(x) as f64 / power(self.scale_in));
        let limit = 1i128 << (self.width - 1);
        // A cast saturates; no value here is not a number.
        ((real * power(self.scale_out)).round_ties_even() as i128).clamp(-limit, limit - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_functions() {
        for f in Nearest::ALL {
            assert_eq!(Nearest::named(f.name()), Some(f));
        }
        assert_eq!(Nearest::named("cosine"), None);
    }

    #[test]
    fn edges_have_values() {
        let of = |f, x| Rounded::new(f, 8, 8, 16).unwrap().eval(x);
        assert_eq!([0, 1, 0x7fff].map(|x| of(Nearest::Log, x)), [-1420, -1420, 1242]);
        assert_eq!([0, 1, -1].map(|x| of(Nearest::Reciprocal, x)), [0x7fff, 0x7fff, -0x8000]);
        assert_eq!([-5, 0, 1, 256].map(|x| of(Nearest::Rsqrt, x)), [4096, 4096, 4096, 256]);
        assert_eq!([-5, 0, 1024].map(|x| of(Nearest::Sqrt, x)), [0, 0, 512]);
        assert_eq!([-0x8000, 0x7fff].map(|x| of(Nearest::Exp, x)), [0, 0x7fff]);
        assert_eq!([-0x8000, 0, 0x7fff].map(|x| of(Nearest::Gelu, x)), [0, 0, 0x7fff]);
        assert_eq!([-256, 24].map(|x| of(Nearest::Square, x)), [256, 2]);
        assert!(Rounded::new(Nearest::Sin, 41, 8, 16).is_err() && Rounded::new(Nearest::Sin, 8, 8, 33).is_err());
    }
}
