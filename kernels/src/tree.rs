//! Correlated GGM trees and the sparse linear map that silent OT applies to their leaves.

use crate::aes::AesKey;

/// Grows a tree by one level. The first half of `nodes` holds the parents `p_i`; afterwards the two halves hold
/// `H(p_i)` and `p_i ^ H(p_i)`, so that the sum over a level never changes (Guo, Yang, Wang, Zhang, Xie, Zhang, Liu,
/// "Half-Tree", EUROCRYPT 2023). `H(x) = pi(s(x)) ^ s(x)` with `s(a, b) = (a ^ b, a)` and `pi` AES with a public key: circular
/// correlation robust if `pi` is a random permutation.
pub fn grow(pi: &AesKey, nodes: &mut [u128]) {
    let half = nodes.len() / 2;
    assert_eq!(nodes.len(), 2 * half);
    let (parents, others) = nodes.split_at_mut(half);
    pi.key.grow(parents, others);
}

levels! {
    /// `nodes[index] ^= value` without addressing memory by `index`.
    pub fn add_at, add_at_at(nodes: &mut [u128], index: usize, value: u128) {
        let [low, high] = [value as u64, (value >> 64) as u64];
        let words: &mut [[u64; 2]] = bytemuck::cast_slice_mut(nodes);
        for (i, w) in words.iter_mut().enumerate() {
            // All ones if i = index: only zero wraps around.
            let take = 0u64.wrapping_sub((((i ^ index) as u64).wrapping_sub(1)) >> 63);
            w[0] ^= low & take;
            w[1] ^= high & take;
        }
    }

    /// `acc ^= sum of x`
    pub fn sum_into, sum_into_at(x: &[u128], acc: &mut u128) {
        // Several sums side by side, so that no addition waits for the one before; in words, which vectorise.
        let (chunks, _) = bytemuck::cast_slice::<u128, u64>(x).as_chunks::<32>();
        let mut sums = [0u64; 32];
        for x in chunks {
            for i in 0..32 {
                sums[i] ^= x[i];
            }
        }
        let sums: [u128; 16] = bytemuck::must_cast(sums);
        *acc = sums.iter().chain(&x[16 * chunks.len()..]).fold(*acc, |a, x| a ^ x);
    }

    /// Adds to every `out[i]` a sum of [`WEIGHT`] entries of the table, which the low bits of the next indices choose. The indices are
    /// public; the length of the table is a power of two.
    pub fn add_sparse, add_sparse_at(table: &[u128], indices: &[u32], out: &mut [u128]) {
        assert!(table.len().is_power_of_two());
        let (indices, _) = indices.as_chunks::<WEIGHT>();
        assert_eq!(out.len(), indices.len());
        for (o, indices) in out.iter_mut().zip(indices) {
            let mut sum = *o;
            for i in indices {
                sum ^= table[*i as usize & (table.len() - 1)];
            }
            *o = sum;
        }
    }
}

/// Entries per sum in [`add_sparse`].
// SECURITY: the row weight of the LPN matrix.
pub const WEIGHT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn random(n: usize) -> Vec<u128> {
        let mut x = vec![0; n];
        Prg::new(n as u128).fill_blocks(&mut x);
        x
    }

    #[test]
    fn growing_keeps_the_sum_and_follows_the_definition() {
        for l in available() {
            let pi = AesKey::new_at(l, 5);
            for n in [1, 2, 64, 65, 200] {
                let parents = random(n);
                let mut nodes = parents.clone();
                nodes.resize(2 * n, 7);
                grow(&pi, &mut nodes);
                for (i, p) in parents.iter().enumerate() {
                    let s = (p << 64) ^ ((p >> 64) << 64) ^ (p >> 64);
                    let mut y = [s];
                    AesKey::new_at(crate::Level::Portable, 5).encrypt_blocks(&mut y);
                    assert_eq!([nodes[i], nodes[n + i]], [y[0] ^ s, y[0] ^ s ^ p], "{l:?} {n} {i}");
                }
                let [mut a, mut b] = [0, 0];
                sum_into_at(l, &nodes, &mut a);
                sum_into_at(l, &parents, &mut b);
                assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn masked_addition_and_sparse_sums() {
        for l in available() {
            let table = random(64);
            for n in [0, 1, 5, 40] {
                let x = random(n);
                for index in 0..n {
                    let mut y = x.clone();
                    add_at_at(l, &mut y, index, 9 << 70 | 3);
                    for i in 0..n {
                        assert_eq!(y[i], x[i] ^ if i == index { 9 << 70 | 3 } else { 0 });
                    }
                }
                let indices: Vec<u32> = random(n * WEIGHT).iter().map(|&i| i as u32).collect();
                let mut y = x.clone();
                add_sparse_at(l, &table, &indices, &mut y);
                for i in 0..n {
                    let sum = indices[i * WEIGHT..][..WEIGHT].iter().fold(x[i], |s, j| s ^ table[*j as usize % 64]);
                    assert_eq!(y[i], sum, "{l:?}");
                }
            }
        }
    }
}
