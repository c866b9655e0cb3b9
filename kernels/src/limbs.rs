//! Products of long numbers with small weights: numbers in limbs of 15 bits, weights in 16, sums in 32 and then in 64.
//!
//! A `vpmaddwd` multiplies two limbs with two weights for each 32-bit lane; with AVX-512 `vpdpwssd` also adds to the sums. Against bytes (`vpdpbusd`: four products a
//! lane, 9 limbs for 72 bits instead of 5) it needs a tenth more multiplications, exists in AVX2 without loss to
//! saturation, takes signed limbs, which wrap-around modulo `X^n + 1` wants, and weights of up to 12 bits as they are.

use crate::{
    arch::native,
    level::{Level, level},
};

/// Bits of a limb.
pub const LIMB_BITS: u32 = 15;
/// Slots that a call works on come in multiples of this.
pub const SLOTS: usize = 32;

/// Rows of limbs: `data[2 * (slot + room * (pair + pairs * limb)) + i]` is a limb of number `2 * pair + i` in a slot.
#[derive(Clone, Debug, Default)]
pub struct Limbs {
    /// The limbs.
    pub data: Vec<i16>,
    /// Limbs of a number.
    pub limbs: usize,
    /// Pairs of numbers in a slot.
    pub pairs: usize,
    /// Slots.
    pub room: usize,
}

impl Limbs {
    /// All zero.
    pub fn zero(limbs: usize, numbers: usize, room: usize) -> Self {
        let pairs = numbers.div_ceil(2);
        Self { data: vec![0; 2 * limbs * pairs * room], limbs, pairs, room }
    }

    /// Where the limbs of a number's least significant position stand: in slot `s` at twice `s` further. Those of position `l`
    /// follow at `l` times [`Limbs::stride`].
    pub fn at(&self, number: usize) -> usize {
        2 * self.room * (number / 2) + number % 2
    }

    /// Distance of limb positions.
    pub fn stride(&self) -> usize {
        2 * self.room * self.pairs
    }

    /// Sets a number below `2^(64 * words.len())` in a slot.
    #[inline(always)]
    pub fn set(&mut self, number: usize, slot: usize, words: &[u64]) {
        let (at, stride) = (self.at(number) + 2 * slot, self.stride());
        for l in 0..self.limbs {
            let bit = l * LIMB_BITS as usize;
            let (word, shift) = (bit / 64, bit % 64);
            let low = words.get(word).map_or(0, |w| w >> shift);
            let high =
                if shift > 64 - LIMB_BITS as usize { words.get(word + 1).map_or(0, |w| w << (64 - shift)) } else { 0 };
            self.data[at + l * stride] = ((low | high) & ((1 << LIMB_BITS) - 1)) as i16;
        }
    }
}

/// Pairs whose products with weights of absolute value up to `most` can be summed up in 32 bits.
fn chunk(most: i32) -> usize {
    (i32::MAX / (((1 << LIMB_BITS) - 1) * most) / 2) as usize
}

/// `out[j][l][s] += 2^shift * sum_g (x_g[2 s] * weights[j][g][0] + x_g[2 s + 1] * weights[j][g][1])`, where `x_g` is the row of limb
/// position `l` from `starts[g]` on: all outputs, limbs and slots. A start is [`Limbs::at`] of an even number plus twice the first slot.
/// Weights are up to `most` in absolute value, limbs below 2^15 in absolute value; the number of slots is a multiple of [`SLOTS`].
pub fn multiply_accumulate(
    x: &Limbs,
    starts: &[usize],
    weights: &[[i16; 2]],
    most: i32,
    shift: u32,
    slots: usize,
    out: &mut [i64],
) {
    multiply_accumulate_at(level(), x, starts, weights, most, shift, slots, out);
}

#[doc(hidden)]
pub fn multiply_accumulate_at(
    level: Level,
    x: &Limbs,
    starts: &[usize],
    weights: &[[i16; 2]],
    most: i32,
    shift: u32,
    slots: usize,
    out: &mut [i64],
) {
    assert!(slots > 0 && slots.is_multiple_of(SLOTS) && !starts.is_empty() && x.limbs > 0);
    assert!(weights.len().is_multiple_of(starts.len()));
    assert_eq!(out.len(), weights.len() / starts.len() * x.limbs * slots);
    let chunk = chunk(most);
    assert!(chunk > 0, "weights of up to {most}");
    let end = x.stride();
    assert!(starts.iter().all(|s| s + 2 * slots <= end) && x.data.len() == x.limbs * end);
    native::limbs::multiply_accumulate(level.checked(), x, starts, weights, chunk, shift, slots, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn words(seed: u128, n: usize) -> Vec<u64> {
        let mut x = vec![0u64; n];
        Prg::new(seed).fill_words(64, &mut x);
        x
    }

    #[test]
    fn numbers_come_back_from_limbs() {
        for limbs in [1, 4, 5, 7, 10, 12] {
            let mut x = Limbs::zero(limbs, 3, 5);
            let w = words(limbs as u128, 3);
            x.set(2, 3, &w);
            for l in 0..limbs {
                let bit = |b: usize| w.get(b / 64).map_or(0, |w| w >> (b % 64) & 1);
                let want: i16 = (0..15).map(|b| (bit(15 * l + b) as i16) << b).sum();
                assert_eq!(x.data[x.at(2) + 6 + l * x.stride()], want);
            }
            assert!(x.data.iter().filter(|&&x| x != 0).count() <= limbs);
        }
    }

    #[test]
    fn is_the_sum_of_products() {
        let extremes = |x: u64, most: i64| match x >> 60 {
            0..4 => -most,
            4..8 => most,
            _ => (x % (2 * most as u64 + 1)) as i64 - most,
        };
        for (case, (numbers, outputs, limbs, slots, most)) in [
            (1, 1, 1, 32, 128),
            (7, 4, 5, 64, 128),
            (100, 9, 5, 32, 128),
            (1300, 3, 2, 32, 128),
            (90, 5, 3, 96, 2048),
            (9, 2, 2, 32, 16384),
        ]
        .into_iter()
        .enumerate()
        {
            let mut x = Limbs::zero(limbs, numbers, slots + 3);
            let random = words(case as u128, x.data.len());
            x.data.iter_mut().zip(random).for_each(|(x, r)| *x = extremes(r, 32767) as i16);
            // Every pair at some offset of its own.
            let starts: Vec<usize> = (0..x.pairs).map(|g| x.at(2 * g) + 2 * (g % 4)).collect();
            let w = words(77, outputs * x.pairs * 2);
            let weights: Vec<[i16; 2]> =
                w.chunks(2).map(|w| [extremes(w[0], most as i64) as i16, extremes(w[1], most as i64) as i16]).collect();
            for level in available() {
                let mut out = vec![5i64; outputs * limbs * slots];
                multiply_accumulate_at(level, &x, &starts, &weights, most, 3, slots, &mut out);
                for j in 0..outputs {
                    for l in 0..limbs {
                        for s in 0..slots {
                            let sum: i64 = (0..x.pairs)
                                .map(|g| {
                                    let at = starts[g] + l * x.stride() + 2 * s;
                                    let w = weights[j * x.pairs + g];
                                    i64::from(x.data[at]) * i64::from(w[0])
                                        + i64::from(x.data[at + 1]) * i64::from(w[1])
                                })
                                .sum();
                            assert_eq!(
                                out[(j * limbs + l) * slots + s],
                                5 + 8 * sum,
                                "{level:?} case {case} {j} {l} {s}"
                            );
                        }
                    }
                }
            }
        }
    }
}
