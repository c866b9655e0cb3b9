//! Records of the intermediates of the math functions, as numbers or as ranges.
//!
//! The same record holds the values on the way to one result (`i128`) and the ranges of these values over all inputs
//! ([`Interval`]). [`Record::list`] names them.

use super::Interval;

/// A record of numbers (or one number).
pub trait Record<N> {
    /// Appends every number with its name, in order of computation.
    fn visit(&self, name: &str, out: &mut Vec<(String, N)>);

    /// Every number with its name, in order of computation.
    fn list(&self) -> Vec<(String, N)> {
        let mut out = Vec::new();
        self.visit("", &mut out);
        out
    }
}

impl<N, R: Record<N>> Record<N> for Option<R> {
    fn visit(&self, name: &str, out: &mut Vec<(String, N)>) {
        self.iter().for_each(|record| record.visit(name, out));
    }
}

impl<N, R: Record<N>> Record<N> for Vec<R> {
    fn visit(&self, name: &str, out: &mut Vec<(String, N)>) {
        self.iter().enumerate().for_each(|(i, record)| record.visit(&format!("{name}[{i}]"), out));
    }
}

/// Ranges that grow to hold others.
pub(super) trait Hull: Sized {
    fn hull(self, other: Self) -> Self;

    fn of(items: impl IntoIterator<Item = Self>) -> Self {
        items.into_iter().reduce(Self::hull).expect("no table is empty")
    }
}

impl Hull for Interval {
    fn hull(self, other: Self) -> Self {
        Interval::hull(self, other)
    }
}

impl<R: Hull> Hull for Option<R> {
    fn hull(self, other: Self) -> Self {
        self.zip(other).map(|(a, b)| a.hull(b))
    }
}

impl<R: Hull> Hull for Vec<R> {
    fn hull(self, other: Self) -> Self {
        self.into_iter().zip(other).map(|(a, b)| a.hull(b)).collect()
    }
}

macro_rules! records_of {
    ($($number:ty)*) => { $(
        impl Record<$number> for $number {
            fn visit(&self, name: &str, out: &mut Vec<(String, $number)>) {
                out.push((name.into(), *self));
            }
        }
    )* };
}
records_of!(i128 Interval);

/// Declares records of intermediates.
macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name<N> { $($(#[$field_doc])* pub $field: $kind,)* }
        steps!(@record $name i128 $($field)*);
        steps!(@record $name Interval $($field)*);

        impl Hull for $name<Interval> {
            fn hull(self, other: Self) -> Self {
                Self { $($field: self.$field.hull(other.$field),)* }
            }
        }
    )* };
    (@record $name:ident $number:ident $($field:ident)*) => {
        impl Record<$number> for $name<$number> {
            fn visit(&self, name: &str, out: &mut Vec<(String, $number)>) {
                let dot = if name.is_empty() { "" } else { "." };
                $(self.$field.visit(&format!("{name}{dot}{}", stringify!($field)), out);)*
            }
        }
    };
}

steps! {
    /// Intermediates of [`Exp`](super::math::Exp).
    ExpSteps {
        /// Digits of the negated input, least significant first.
        digits: Vec<N>,
        /// Their table entries.
        leaves: Vec<N>,
        /// Products before the shift, in order of computation: neighbours, then neighbours of those.
        products: Vec<N>,
        /// The value.
        result: N,
    }

    /// Intermediates of a reciprocal of a denominator in `[1, 2)`, before any iteration.
    ReciprocalSteps {
        /// The `m` bits after the leading one.
        index: N,
        /// The bits below.
        low: N,
        /// Table entry.
        slope: N,
        /// Table entry.
        intercept: N,
        /// `slope * low`.
        product: N,
        /// `intercept << (s_den - m + 1)` less the product.
        line: N,
        /// The reciprocal, scale `s_out`.
        result: N,
    }

    /// Intermediates of [`Div`](super::math::Div).
    DivSteps {
        /// First approximation of the reciprocal.
        reciprocal: ReciprocalSteps<N>,
        /// `num * reciprocal`.
        product: N,
        /// That `>> s_num`.
        quotient: N,
        /// The iteration, if there is one.
        refinement: Option<RefinementSteps<N>>,
        /// The value.
        result: N,
    }

    /// One Goldschmidt step of a division.
    RefinementSteps {
        /// `den * reciprocal`.
        den_product: N,
        /// That `>> s_den`: nearly one.
        near_one: N,
        /// `2 - near_one`.
        factor: N,
        /// `quotient * factor`.
        product: N,
    }

    /// Intermediates of [`DivGeneral`](super::math::DivGeneral).
    DivGeneralSteps {
        /// `2^(width_den - 1 - msnzb(den))`, scale `width_den - 1 - s_den`.
        adjust: N,
        /// `den * adjust`, in `[1, 2)` with scale `width_den - 1`.
        normalised: N,
        /// First approximation of its reciprocal.
        reciprocal: ReciprocalSteps<N>,
        /// `num * reciprocal`.
        product: N,
        /// That `>> s_num`.
        quotient: N,
        /// `quotient * adjust`.
        adjusted_product: N,
        /// That `>> (width_den - 1 - s_den)`.
        adjusted: N,
        /// The iteration, if there is one, on `adjusted`.
        refinement: Option<RefinementSteps<N>>,
        /// The value.
        result: N,
    }

    /// Intermediates of [`Sigmoid`](super::math::Sigmoid) after the exponential.
    SigmoidSteps {
        /// `exp(-|x|)`.
        exp: N,
        /// `1 + exp`, one unit less where that is 2.
        den: N,
        /// Its reciprocal: `sigmoid(|x|)`.
        div: DivSteps<N>,
        /// 1 for `x >= 0`, otherwise `exp`.
        numerator: N,
        /// `numerator * reciprocal`.
        product: N,
        /// The value.
        result: N,
    }

    /// Intermediates of [`Tanh`](super::math::Tanh) after the exponential.
    TanhSteps {
        /// `exp(-2|x|)`.
        exp: N,
        /// `1 + exp`, one unit less where that is 2.
        den: N,
        /// `1 - exp`.
        numerator: N,
        /// Their quotient: `tanh(|x|)`.
        div: DivSteps<N>,
        /// The value, with the sign of `x`.
        result: N,
    }

    /// Intermediates of [`Root`](super::math::Root).
    RootSteps {
        /// `x << (width - 2 - msnzb(x))`, in `[1, 2)` with scale `width - 2`.
        normalised: N,
        /// The `m` bits after its leading one.
        index: N,
        /// Table entry: `1/sqrt`, scale `m + 2`.
        guess: N,
        /// The input up to an even power of 2: `normalised << parity`, in `[1, 4)` with scale `width - 2`.
        even: N,
        /// sqrt only: `even * guess`.
        start_product: Option<N>,
        /// x before the iterations: the guess, or `start_product >> (width + m - s_out)`.
        start: N,
        /// `even >> (width - 2 - s_out)`.
        residual: N,
        /// One or two.
        iterations: Vec<RootIteration<N>>,
        /// x times the power of 2.
        product: N,
        /// The value.
        result: N,
    }

    /// One Goldschmidt step of a root.
    RootIteration {
        /// `Y * Y`.
        square: N,
        /// Its upper bits: `>> (s_out + 2)`, in the first iteration all of it.
        square_kept: N,
        /// `square_kept * residual`.
        residual_product: N,
        /// The next residual: that `>> (2m + 4)` in the first iteration, `>> s_out` later.
        residual: N,
        /// The next Y: `3 - residual`, which is twice the factor that it stands for (scale `s_out + 1`).
        factor: N,
        /// `x * factor`.
        product: N,
        /// The next x: that `>> (m + 3)` in the first iteration of rsqrt, `>> (s_out + 1)` otherwise.
        x: N,
    }
}
