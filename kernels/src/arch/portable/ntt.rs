//! The number-theoretic transform, for any arithmetic, and the portable one.
//!
//! Polynomials modulo `X^n + 1`, with Cooley-Tukey butterflies forwards and Gentleman-Sande butterflies backwards on tables of powers
//! of a `2n`-th root in bit-reversed order, so that no twisting is needed. Vector units want the same butterfly on
//! neighbours: levels whose halves are [`SIDE`] or longer have that. What is left are transforms of `SIDE` coefficients each;
//! transposing squares of them puts the same coefficient of `SIDE` transforms side by side, and there they stay.

#[cfg(not(target_arch = "x86_64"))]
use crate::ntt::Ntt;
use crate::{
    level::Level,
    ntt::{inverse_mod, mul_mod},
};

/// Side of the squares, and their area.
const SIDE: usize = 64;
const SQUARE: usize = SIDE * SIDE;
/// Levels inside a square.
const INNER: usize = SIDE.trailing_zeros() as usize;

/// Residues as one arithmetic represents them: lazily, with a few multiples of `p` of room.
pub(crate) trait Arithmetic: Copy {
    /// A residue.
    type E: bytemuck::Pod;
    /// After how many levels `x` has to be tidied, forwards and backwards.
    const FORWARD: usize;
    const INVERSE: usize;
    /// Terms of a combination after which the sum has to be tidied.
    const TERMS: usize;
    /// From `0..p`.
    fn load(self, x: u64) -> Self::E;
    /// From a signed number below 2^51, for [`Arithmetic::mul`].
    fn load_signed(self, x: i64) -> Self::E;
    /// To `0..p`.
    fn store(self, x: Self::E) -> u64;
    /// To the smallest representation that is cheap.
    fn tidy(self, x: Self::E) -> Self::E;
    fn add(self, x: Self::E, y: Self::E) -> Self::E;
    fn sub(self, x: Self::E, y: Self::E) -> Self::E;
    /// Prepares a factor in `0..p`.
    fn factor(self, w: u64) -> (Self::E, Self::E);
    /// `x` times a prepared factor.
    fn mul(self, x: Self::E, w: (Self::E, Self::E)) -> Self::E;
    /// The product of two numbers in `0..p`.
    fn mul_any(self, x: u64, y: u64) -> u64;
}

/// 64-bit integers. Residues are in `0..4p`; a product is in `0..2p`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integer {
    p: u64,
    /// A multiple of `p` from 2^51 on.
    offset: u64,
    /// `floor(2^(bits + 63) / p)` and `bits - 1`, where `p` has `bits` bits: a product's quotient by `p` is this number times the shifted product.
    barrett: (u64, u32),
}

impl Integer {
    pub(crate) fn new(p: u64) -> Self {
        let bits = 64 - p.leading_zeros();
        let barrett = ((1u128 << (bits + 63)) / u128::from(p)) as u64;
        Self { p, offset: p * (1u64 << 51).div_ceil(p), barrett: (barrett, bits - 1) }
    }
}

impl Arithmetic for Integer {
    type E = u64;
    const FORWARD: usize = 1;
    const INVERSE: usize = 1;
    const TERMS: usize = 1;

    #[inline(always)]
    fn load(self, x: u64) -> u64 {
        x
    }

    #[inline(always)]
    fn load_signed(self, x: i64) -> u64 {
        (x as u64).wrapping_add(self.offset)
    }

    #[inline(always)]
    fn store(self, x: u64) -> u64 {
        let x = self.tidy(x);
        x.min(x.wrapping_sub(self.p))
    }

    #[inline(always)]
    fn tidy(self, x: u64) -> u64 {
        x.min(x.wrapping_sub(2 * self.p))
    }

    #[inline(always)]
    fn add(self, x: u64, y: u64) -> u64 {
        x + y
    }

    #[inline(always)]
    fn sub(self, x: u64, y: u64) -> u64 {
        x + 2 * self.p - y
    }

    #[inline(always)]
    fn factor(self, w: u64) -> (u64, u64) {
        (w, ((u128::from(w) << 64) / u128::from(self.p)) as u64)
    }

    #[inline(always)]
    fn mul(self, x: u64, (w, quotient): (u64, u64)) -> u64 {
        let multiple = ((u128::from(x) * u128::from(quotient)) >> 64) as u64;
        x.wrapping_mul(w).wrapping_sub(multiple.wrapping_mul(self.p))
    }

    #[inline(always)]
    fn mul_any(self, x: u64, y: u64) -> u64 {
        let product = u128::from(x) * u128::from(y);
        let (reciprocal, shift) = self.barrett;
        // The quotient, or up to two less.
        let multiple = ((product >> shift) * u128::from(reciprocal)) >> 64;
        let rest = (product as u64).wrapping_sub((multiple as u64).wrapping_mul(self.p));
        self.store(rest)
    }
}

/// Powers of the root, prepared as factors: first the numbers, then their companions.
#[derive(Debug)]
pub(crate) struct Twiddles<E> {
    /// Of the levels above the squares: number `m + i` is that of block `i` of `m`.
    outer: [Vec<E>; 2],
    /// Of the levels inside: for every level, for every block of a transform, for every transform.
    inner: [Vec<E>; 2],
}

/// Both directions.
#[derive(Debug)]
pub(crate) struct Table<A: Arithmetic> {
    pub(crate) arithmetic: A,
    forward: Twiddles<A::E>,
    inverse: Twiddles<A::E>,
}

impl<A: Arithmetic> Table<A> {
    pub(crate) fn new(arithmetic: A, p: u64, n: usize, root: u64) -> Self {
        let twiddles = |root: u64| {
            let mut powers = vec![1; n];
            for i in 1..n {
                powers[i] = mul_mod(powers[i - 1], root, p);
            }
            let reversed = |i: usize| powers[i.reverse_bits() >> (usize::BITS - n.trailing_zeros())];
            let rows = n / SIDE;
            let outer: Vec<u64> = (0..rows).map(reversed).collect();
            let level =
                |l: usize| (0..1usize << l).flat_map(move |k| (0..rows).map(move |row| ((rows + row) << l) + k));
            let inner: Vec<u64> = (0..INNER).flat_map(level).map(reversed).collect();
            let prepare = |all: Vec<u64>| {
                let (w, companions) = all.into_iter().map(|w| arithmetic.factor(w)).unzip();
                [w, companions]
            };
            Twiddles { outer: prepare(outer), inner: prepare(inner) }
        };
        Self { arithmetic, forward: twiddles(root), inverse: twiddles(inverse_mod(root, p)) }
    }
}

impl<E: Copy> Twiddles<E> {
    #[inline(always)]
    fn outer(&self, i: usize) -> (E, E) {
        (self.outer[0][i], self.outer[1][i])
    }

    /// Those of a level inside a square, for a block of its transforms.
    #[inline(always)]
    fn inner(&self, rows: usize, level: usize, block: usize, square: usize) -> [&[E; SIDE]; 2] {
        let at = ((1 << level) - 1 + block) * rows + square * SIDE;
        [0, 1].map(|part| self.inner[part][at..].first_chunk().expect("a row of factors"))
    }
}

/// Swaps the axes of all squares.
#[inline(always)]
fn transpose<E: Copy>(x: &mut [E]) {
    const TILE: usize = 8;
    for square in x.chunks_exact_mut(SQUARE) {
        for i in (0..SIDE).step_by(TILE) {
            for j in (0..=i).step_by(TILE) {
                for a in i..i + TILE {
                    for b in j..(j + TILE).min(a) {
                        square.swap(a * SIDE + b, b * SIDE + a);
                    }
                }
            }
        }
    }
}

/// `(x + w y, x - w y)`.
#[inline(always)]
fn cooley_tukey<A: Arithmetic>(a: A, tidy: bool, x: &mut A::E, y: &mut A::E, w: (A::E, A::E)) {
    let first = if tidy { a.tidy(*x) } else { *x };
    let second = a.mul(*y, w);
    (*x, *y) = (a.add(first, second), a.sub(first, second));
}

/// `(x + y, w (x - y))`.
#[inline(always)]
fn gentleman_sande<A: Arithmetic>(a: A, tidy: bool, x: &mut A::E, y: &mut A::E, w: (A::E, A::E)) {
    let (sum, difference) = (a.add(*x, *y), a.sub(*x, *y));
    (*x, *y) = (if tidy { a.tidy(sum) } else { sum }, a.mul(difference, w));
}

/// One level above the squares: blocks of twice `half`.
#[inline(always)]
fn outer_level<A: Arithmetic>(
    x: &mut [A::E],
    half: usize,
    twiddles: &Twiddles<A::E>,
    butterfly: impl Fn(&mut A::E, &mut A::E, (A::E, A::E)),
) {
    let blocks = x.len() / (2 * half);
    for (i, block) in x.chunks_exact_mut(2 * half).enumerate() {
        let w = twiddles.outer(blocks + i);
        let (low, high) = block.split_at_mut(half);
        for (x, y) in low.iter_mut().zip(high) {
            butterfly(x, y, w);
        }
    }
}

/// One level inside the squares: `SIDE` transforms side by side in each.
#[inline(always)]
fn inner_level<A: Arithmetic>(
    x: &mut [A::E],
    level: usize,
    twiddles: &Twiddles<A::E>,
    butterfly: impl Fn(&mut A::E, &mut A::E, (A::E, A::E)),
) {
    let (rows, half) = (x.len() / SIDE, SIDE >> (level + 1));
    for (s, square) in x.chunks_exact_mut(SQUARE).enumerate() {
        for (k, block) in square.chunks_exact_mut(2 * half * SIDE).enumerate() {
            let [w, companions] = twiddles.inner(rows, level, k, s);
            let (low, high) = block.split_at_mut(half * SIDE);
            for (x, y) in low.as_chunks_mut::<SIDE>().0.iter_mut().zip(high.as_chunks_mut::<SIDE>().0) {
                for i in 0..SIDE {
                    butterfly(&mut x[i], &mut y[i], (w[i], companions[i]));
                }
            }
        }
    }
}

/// Coefficients in `0..p` to their transform in `0..p`.
#[inline(always)]
pub(crate) fn transform<A: Arithmetic>(table: &Table<A>, x: &mut [u64]) {
    let a = table.arithmetic;
    let outer = x.len().trailing_zeros() as usize - INNER;
    x.iter_mut().for_each(|x| *x = bytemuck::must_cast(a.load(*x)));
    let y: &mut [A::E] = bytemuck::must_cast_slice_mut(x);
    for level in 0..outer {
        let half = y.len() >> (level + 1);
        if level % A::FORWARD == A::FORWARD - 1 {
            outer_level::<A>(y, half, &table.forward, |x, y, w| cooley_tukey(a, true, x, y, w));
        } else {
            outer_level::<A>(y, half, &table.forward, |x, y, w| cooley_tukey(a, false, x, y, w));
        }
    }
    transpose(y);
    for level in 0..INNER {
        if (outer + level) % A::FORWARD == A::FORWARD - 1 {
            inner_level::<A>(y, level, &table.forward, |x, y, w| cooley_tukey(a, true, x, y, w));
        } else {
            inner_level::<A>(y, level, &table.forward, |x, y, w| cooley_tukey(a, false, x, y, w));
        }
    }
    x.iter_mut().for_each(|x| *x = a.store(bytemuck::must_cast(*x)));
}

/// The inverse, without the division by `n`, times `scale`.
#[inline(always)]
pub(crate) fn transform_back<A: Arithmetic>(table: &Table<A>, scale: u64, x: &mut [u64]) {
    let a = table.arithmetic;
    let outer = x.len().trailing_zeros() as usize - INNER;
    x.iter_mut().for_each(|x| *x = bytemuck::must_cast(a.tidy(a.load(*x))));
    let y: &mut [A::E] = bytemuck::must_cast_slice_mut(x);
    for level in 0..INNER {
        if level % A::INVERSE == A::INVERSE - 1 {
            inner_level::<A>(y, INNER - 1 - level, &table.inverse, |x, y, w| gentleman_sande(a, true, x, y, w));
        } else {
            inner_level::<A>(y, INNER - 1 - level, &table.inverse, |x, y, w| gentleman_sande(a, false, x, y, w));
        }
    }
    transpose(y);
    for level in 0..outer {
        let half = SIDE << level;
        if (INNER + level) % A::INVERSE == A::INVERSE - 1 {
            outer_level::<A>(y, half, &table.inverse, |x, y, w| gentleman_sande(a, true, x, y, w));
        } else {
            outer_level::<A>(y, half, &table.inverse, |x, y, w| gentleman_sande(a, false, x, y, w));
        }
    }
    let scale = a.factor(scale);
    x.iter_mut().for_each(|x| *x = a.store(a.mul(bytemuck::must_cast(*x), scale)));
}

#[inline(always)]
pub(crate) fn product<A: Arithmetic>(a: A, x: &mut [u64], y: &[u64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x = a.mul_any(*x, *y));
}

#[inline(always)]
pub(crate) fn combination<A: Arithmetic>(a: A, terms: &[(&[i64], u64)], constant: u64, out: &mut [u64]) {
    const TILE: usize = 64;
    for (k, out) in out.chunks_mut(TILE).enumerate() {
        let mut sums = [a.load(constant); TILE];
        let sums = &mut sums[..out.len()];
        for (t, (x, factor)) in terms.iter().enumerate() {
            let (x, factor) = (&x[k * TILE..][..sums.len()], a.factor(*factor));
            if t % A::TERMS == A::TERMS - 1 {
                sums.iter_mut().zip(x).for_each(|(s, x)| *s = a.tidy(a.add(*s, a.mul(a.load_signed(*x), factor))));
            } else {
                sums.iter_mut().zip(x).for_each(|(s, x)| *s = a.add(*s, a.mul(a.load_signed(*x), factor)));
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, s)| *out = a.store(a.tidy(*s)));
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Tables = Table<Integer>;

pub(crate) fn tables(_: Level, p: u64, n: usize, root: u64) -> Table<Integer> {
    Table::new(Integer::new(p), p, n, root)
}

#[cfg(not(target_arch = "x86_64"))]
mod native {
    use super::*;

    pub(crate) fn forward(ntt: &Ntt, x: &mut [u64]) {
        transform(&ntt.tables, x);
    }

    pub(crate) fn inverse(ntt: &Ntt, scale: u64, x: &mut [u64]) {
        transform_back(&ntt.tables, scale, x);
    }

    pub(crate) fn multiply(ntt: &Ntt, x: &mut [u64], y: &[u64]) {
        product(ntt.tables.arithmetic, x, y);
    }

    pub(crate) fn combine(ntt: &Ntt, terms: &[(&[i64], u64)], constant: u64, out: &mut [u64]) {
        combination(ntt.tables.arithmetic, terms, constant, out);
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use native::{combine, forward, inverse, multiply};
