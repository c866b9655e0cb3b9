//! What parties draw.

use super::set::Set;
use crate::Error;
use sirnn_kernels::{
    aes::Prg,
    sample::{self, Flood},
};

/// A source of secrets, errors and floods.
pub(super) enum Noise {
    /// Seeded by the operating system.
    Random(Prg),
    /// Everything at one end of its range, for tests of exactness.
    #[cfg(test)]
    Extreme {
        /// Which end.
        sign: i64,
        /// Draws signs of secrets.
        prg: Prg,
        /// Which way each coefficient of a key is rounded, if not to the nearest.
        roundings: Option<std::sync::Arc<Vec<bool>>>,
    },
}

impl Noise {
    /// Freshly seeded.
    pub(super) fn fresh() -> Result<Self, Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).map_err(|e| Error::Io(std::io::Error::other(e.to_string())))?;
        Ok(Self::Random(Prg::new(u128::from_le_bytes(seed))))
    }

    fn prg(&mut self) -> &mut Prg {
        match self {
            Self::Random(prg) => prg,
            #[cfg(test)]
            Self::Extreme { prg, .. } => prg,
        }
    }

    /// A seed, for [`Noise::ternary`].
    pub(super) fn seed(&mut self) -> u128 {
        self.prg().next_block()
    }

    /// A source of its own for a job that runs beside others.
    pub(super) fn split(&mut self) -> Self {
        let prg = Prg::new(self.prg().next_block());
        match self {
            Self::Random(_) => Self::Random(prg),
            #[cfg(test)]
            Self::Extreme { sign, roundings, .. } => Self::Extreme { sign: *sign, prg, roundings: roundings.clone() },
        }
    }

    /// The top `bits` of a fraction in units of `2^-128`, rounded: coefficient `at` of a server's key.
    #[inline(always)]
    pub(super) fn round(&self, x: u128, bits: u32, #[cfg_attr(not(test), allow(unused))] at: usize) -> u128 {
        #[cfg(test)]
        if let Self::Extreme { roundings: Some(up), .. } = self {
            return (x >> (128 - bits)) + u128::from(up[at]);
        }
        ((x >> (127 - bits)) + 1) >> 1
    }

    /// Centred binomial errors.
    pub(super) fn errors(&mut self, out: &mut [i64]) {
        match self {
            Self::Random(prg) => sample::binomial(prg, out),
            #[cfg(test)]
            Self::Extreme { sign, .. } => out.fill(*sign * sample::BINOMIAL_MAX),
        }
    }

    /// A client's secret: ternary, and drawn again if it has too many coefficients that are not zero.
    pub(super) fn secret(&mut self, set: Set) -> Vec<i64> {
        let mut s = vec![0; set.degree()];
        loop {
            sample::ternary(self.prg(), &mut s);
            #[cfg(test)]
            if let Self::Extreme { .. } = self {
                // As many as are allowed.
                let mut left = set.most_nonzeros();
                for x in &mut s {
                    let sign = if *x == 0 { 1 } else { *x };
                    *x = if left > 0 { sign } else { 0 };
                    left = left.saturating_sub(1);
                }
            }
            if s.iter().map(|x| x.unsigned_abs() as usize).sum::<usize>() <= set.most_nonzeros() {
                return s;
            }
        }
    }

    /// The ternary polynomial of a seed.
    pub(super) fn ternary(seed: u128, out: &mut [i64]) {
        sample::ternary(&mut Prg::new(seed), out);
    }

    /// A flood; see [`Flood::sample`].
    pub(super) fn flood(&mut self, flood: Flood, coarse: &mut [i64], fine: &mut [Vec<i64>]) {
        match self {
            Self::Random(prg) => flood.sample(prg, coarse, fine),
            #[cfg(test)]
            Self::Extreme { sign, .. } => {
                coarse.fill(if *sign > 0 { 4 * (flood.range as i64 - 1) } else { 0 });
                for (k, part) in fine.iter_mut().enumerate() {
                    let bits = (flood.fine_bits - k as u32 * sample::FINE_BITS).min(sample::FINE_BITS);
                    part.fill(if *sign > 0 { (1 << bits) - 1 } else { 0 });
                }
            }
        }
    }
}
