//! One-hot vectors that two parties share by XOR: how they are made, and how table entries are picked with them.
//!
//! A vector of `2^d` bits is kept as words, entry `v` at bit `v % 64` of word `v / 64`. It is made in three parts: short
//! vectors bit by bit ([`string_message`], [`string_step`]), trees in which the parties' nodes are equal everywhere but on one path,
//! where they differ by a constant ([`hash_nodes`], [`sums`], [`half_levels`]), and leaves of up to 128 bits
//! ([`correct_leaves`], [`join_leaves`]). Who knows all corrections grows a tree with [`half_level`] and [`leaves`]. Bit 1 of a node is its control bit: it differs between the parties exactly on the path.
//! The bit that a level of the tree adds to a node's number is the most significant one so far.

use crate::{
    aes::AesKey,
    arch::native,
    bits::plane_len,
    level::{Level, level},
    ring::RingWord,
};

/// `out[i] = H(nodes[i])`, `H(x) = pi(s(x)) ^ s(x)` with `s(a, b) = (a ^ b, a)`: circular correlation robust if `pi` is a
/// random permutation (Guo, Katz, Wang, Yu, IEEE S&P 2020, section 7.2). Without `s` it would not be.
pub fn hash_nodes(pi: &AesKey, nodes: &[u128], out: &mut [u128]) {
    assert_eq!(nodes.len(), out.len());
    pi.key.hash_nodes(nodes, out);
}

/// A level of a half-tree (Guo, Yang, Wang, Zhang, Xie, Liu, Zhang, EUROCRYPT 2023): the children `H(s) ^ t c` and `H(s) ^ t c ^ s` of
/// every node `s` with control bit `t`, for the level's correction `c`.
pub fn half_level(pi: &AesKey, nodes: &[u128], c: u128, left: &mut [u128], right: &mut [u128]) {
    assert_eq!([left.len(), right.len()], [nodes.len(); 2]);
    pi.key.half_level(nodes, c, left, right);
}

/// The leaves `H(s) ^ t c` of nodes `s` with control bits `t`, for the correction `c`.
pub fn leaves(pi: &AesKey, nodes: &[u128], c: u128, out: &mut [u128]) {
    assert_eq!(nodes.len(), out.len());
    pi.key.leaves(nodes, c, out);
}

/// In lanes, so that loops over them vectorise.
#[inline(always)]
fn lanes(x: u128) -> [u32; 4] {
    bytemuck::must_cast(x)
}

/// All ones if bit 1 is set.
#[inline(always)]
fn control(node: [u32; 4]) -> u32 {
    0u32.wrapping_sub(node[if cfg!(target_endian = "little") { 0 } else { 3 }] >> 1 & 1)
}

levels! {
    /// What a party sends to multiply a further bit to its vectors: entries 1 .. 2^m of each, padded. `zero` and `one` are the pads
    /// for both values of the peer's bit, of which the low halves are used; `m < 7`.
    pub fn string_message, string_message_at(m: u32, zero: &[u128], one: &[u128], vectors: &[u64], out: &mut [u64]) {
        let mask = string_mask(m);
        for ((o, e), (zero, one)) in out.iter_mut().zip(vectors).zip(zero.iter().zip(one)) {
            *o = (*zero as u64 ^ *one as u64 ^ e >> 1) & mask;
        }
    }

    /// The further bit times the vectors, which become the rest: `products` and `vectors` are afterwards shares of the halves of the longer
    /// vectors in which the bit is set, and is not. `sent` are the pads of this party's bit value 0 at the peer, `received` that of its own,
    /// `bits` its shares of the bit (a plane), `theirs` the peer's message.
    pub fn string_step, string_step_at(
        m: u32, sent: &[u128], received: &[u128], bits: &[u64], theirs: &[u64], vectors: &mut [u64], products: &mut [u64],
    ) {
        let mask = string_mask(m);
        assert_eq!(bits.len(), plane_len(vectors.len()));
        for (((k, e), p), ((sent, received), theirs)) in
            vectors.iter_mut().enumerate().zip(products).zip(sent.iter().zip(received).zip(theirs))
        {
            let bit = bits[k / 64] >> (k % 64) & 1;
            let known = 0u64.wrapping_sub(bit) & (theirs ^ *e >> 1);
            let rest = (*sent as u64 ^ *received as u64 ^ known) & mask;
            // The sum of all entries is one: so is that of the products the bit.
            let first = bit ^ u64::from(rest.count_ones() & 1);
            *p = rest << 1 | first;
            *e ^= *p;
        }
    }

    /// `out[i] ^=` the sum of `x[i * per ..][.. per]`.
    pub fn sums, sums_at(x: &[u128], per: usize, out: &mut [u128]) {
        for (out, x) in out.iter_mut().zip(x.chunks_exact(per)) {
            // Several sums side by side, in words, which vectorise.
            let (chunks, rest) = bytemuck::cast_slice::<u128, u64>(x).as_chunks::<16>();
            let mut acc = [0u64; 16];
            for x in chunks {
                for i in 0..16 {
                    acc[i] ^= x[i];
                }
            }
            let acc: [u128; 8] = bytemuck::must_cast(acc);
            *out = acc.iter().chain(bytemuck::cast_slice(rest)).fold(*out, |a, x| a ^ x);
        }
    }

    /// [`half_level`] with the hashes `H(s)` given, for several instances of `per` nodes each, with a correction each.
    pub fn half_levels, half_levels_at(
        nodes: &[u128], hashes: &[u128], per: usize, corrections: &[u128], children: &mut [u128],
    ) {
        let instances = nodes.chunks_exact(per).zip(hashes.chunks_exact(per)).zip(corrections);
        for (((nodes, hashes), c), children) in instances.zip(children.chunks_exact_mut(2 * per)) {
            let (left, right) = children.split_at_mut(per);
            let c = lanes(*c);
            for ((s, h), (left, right)) in nodes.iter().zip(hashes).zip(left.iter_mut().zip(right)) {
                let (s, mut x) = (lanes(*s), lanes(*h));
                let t = control(s);
                for i in 0..4 {
                    x[i] ^= c[i] & t;
                }
                *left = bytemuck::must_cast(x);
                for i in 0..4 {
                    x[i] ^= s[i];
                }
                *right = bytemuck::must_cast(x);
            }
        }
    }

    /// [`leaves`] with the hashes `H(s)` given in their places, for several instances of `per` leaves each, with a correction each.
    pub fn correct_leaves, correct_leaves_at(nodes: &[u128], per: usize, corrections: &[u128], leaves: &mut [u128]) {
        for ((nodes, c), leaves) in nodes.chunks_exact(per).zip(corrections).zip(leaves.chunks_exact_mut(per)) {
            let c = lanes(*c);
            for (leaf, s) in leaves.iter_mut().zip(nodes) {
                let (t, mut x) = (control(lanes(*s)), lanes(*leaf));
                for i in 0..4 {
                    x[i] ^= c[i] & t;
                }
                *leaf = bytemuck::must_cast(x);
            }
        }
    }

    /// Vectors of `per` leaves each, of which the low `2^j` bits count, `j <= 7`; every vector begins with a new block.
    pub fn join_leaves, join_leaves_at(leaves: &[u128], per: usize, j: u32, vectors: &mut [u128]) {
        let in_block = (128usize >> j).min(per);
        let mask = if j == 7 { u128::MAX } else { (1 << (1u32 << j)) - 1 };
        for (block, leaves) in vectors.iter_mut().zip(leaves.chunks_exact(in_block)) {
            *block = leaves.iter().rev().fold(0, |b, leaf| b.unbounded_shl(1 << j) | leaf & mask);
        }
    }

    /// Moves every entry of a vector of `2^d` bits `by` places up, modulo `2^d`. `by` is public.
    pub fn rotate, rotate_at(vector: &[u64], d: u32, by: usize, out: &mut [u64]) {
        let n = vector.len();
        assert_eq!(n, plane_len(1 << d));
        assert!(by < 1 << d && out.len() == n);
        if d < 6 {
            let bits = 1usize << d;
            out[0] = (vector[0] << by | vector[0] >> (bits - by)) & ((1 << bits) - 1);
            return;
        }
        let from = (64 * n - by) % (64 * n);
        let (first, shift) = (from / 64, (from % 64) as u32);
        let word = |low: u64, high: u64| low >> shift | high << 1 << (63 - shift);
        // The words from `first` on, then those before it.
        let (until_end, others) = out.split_at_mut(n - first);
        for (i, o) in others.iter_mut().enumerate() {
            *o = word(vector[i], vector[i + 1]);
        }
        let (last, until_last) = until_end.split_last_mut().expect("a word at least");
        for (o, w) in until_last.iter_mut().zip(vector[first..].windows(2)) {
            *o = word(w[0], w[1]);
        }
        *last = word(vector[n - 1], vector[0]);
    }

    /// `out` bit `p` = parity of the entries of plane `p` at which the vector has a one. Planes are as long as the vector, one after the other.
    pub fn pick_xor, pick_xor_at(vector: &[u64], planes: &[u64], out: &mut u64) {
        *out = 0;
        for (p, plane) in planes.chunks_exact(vector.len()).enumerate() {
            let (e, e_rest) = vector.as_chunks::<16>();
            let (t, t_rest) = plane.as_chunks::<16>();
            let mut acc = [0u64; 16];
            for (e, t) in e.iter().zip(t) {
                for i in 0..16 {
                    acc[i] ^= e[i] & t[i];
                }
            }
            let rest = e_rest.iter().zip(t_rest).fold(0, |a, (e, t)| a ^ e & t);
            let all = acc.iter().fold(rest, |a, x| a ^ x);
            *out |= u64::from(all.count_ones() & 1) << p;
        }
    }
}

/// The sum, modulo the word, of the table's entries at which the vector has a one.
pub fn pick_add<W: RingWord>(vector: &[u64], table: &[W]) -> W {
    pick_add_at(level(), vector, table)
}

#[doc(hidden)]
pub fn pick_add_at<W: RingWord>(level: Level, vector: &[u64], table: &[W]) -> W {
    assert_eq!(vector.len(), plane_len(table.len()));
    native::onehot::pick_add(level, vector, table)
}

/// Entries 1 .. 2^m of a vector, moved to bit 0.
#[inline(always)]
fn string_mask(m: u32) -> u64 {
    assert!(m < 7, "vectors are multiplied up to 64 entries");
    u64::MAX >> 1 >> (64 - (1 << m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn words(seed: u128, n: usize) -> Vec<u64> {
        let mut x = vec![0; n];
        Prg::new(seed).fill_words(64, &mut x);
        x
    }

    fn blocks(seed: u128, n: usize) -> Vec<u128> {
        let mut x = vec![0; n];
        Prg::new(seed).fill_blocks(&mut x);
        x
    }

    #[test]
    fn nodes_are_hashed_by_the_definition() {
        for l in available() {
            let pi = AesKey::new_at(l, 5);
            for n in [0, 1, 3, 15, 16, 33, 64, 200] {
                let nodes = blocks(1, n);
                let mut out = vec![0; n];
                hash_nodes(&pi, &nodes, &mut out);
                for (x, y) in nodes.iter().zip(out) {
                    let s = (x << 64) ^ ((x >> 64) << 64) ^ (x >> 64);
                    let mut want = [s];
                    AesKey::new_at(Level::Portable, 5).encrypt_blocks(&mut want);
                    assert_eq!(y, want[0] ^ s, "{l:?} {n}");
                }
            }
        }
    }

    /// Every value of a bit and every vector of up to four entries, and random ones of up to 64.
    #[test]
    fn strings_multiply_a_bit() {
        for l in available() {
            for m in 1..=6u32 {
                let n = 1usize << m;
                let entries = if n == 64 { u64::MAX } else { (1 << n) - 1 };
                for seed in 0..40u128 {
                    let k = 70;
                    let place = |i: usize| (seed as usize * 7 + i) % n;
                    let mut vectors = [words(seed, k), vec![0; k]];
                    for i in 0..k {
                        vectors[0][i] &= entries;
                        vectors[1][i] = vectors[0][i] ^ 1 << place(i);
                    }
                    let bits = [words(seed + 1, 2), words(seed + 2, 2)];
                    let bit = |p: usize, i: usize| bits[p][i / 64] >> (i % 64) & 1 == 1;
                    // Pads of the bit's values, by the party that knows both.
                    let pads = [0, 1].map(|p| [blocks(seed + 3 + 10 * p, k), blocks(seed + 4 + 10 * p, k)]);
                    let messages = [0, 1].map(|p: usize| {
                        let mut out = vec![0; k];
                        string_message_at(l, m, &pads[p][0], &pads[p][1], &vectors[p], &mut out);
                        assert!(out.iter().all(|x| x >> (n - 1) == 0), "a message has 2^m - 1 bits");
                        out
                    });
                    let before = vectors.clone();
                    let mut products = [vec![0; k], vec![0; k]];
                    for p in 0..2 {
                        let received: Vec<u128> = (0..k).map(|i| pads[1 - p][usize::from(bit(p, i))][i]).collect();
                        let (e, out) = (&mut vectors[p], &mut products[p]);
                        string_step_at(l, m, &pads[p][0], &received, &bits[p], &messages[1 - p], e, out);
                    }
                    for i in 0..k {
                        let a = bit(0, i) ^ bit(1, i);
                        let want = 1u64 << place(i);
                        assert_eq!(before[0][i] ^ before[1][i], want);
                        let [low, high] = [vectors[0][i] ^ vectors[1][i], products[0][i] ^ products[1][i]];
                        assert_eq!([low, high], if a { [0, want] } else { [want, 0] }, "{l:?} {m} {i}");
                    }
                }
            }
        }
    }

    /// Nodes of two parties that are equal but at one place, where they differ by `d`.
    fn on_path(seed: u128, per: usize, place: usize, d: u128) -> [Vec<u128>; 2] {
        let a = blocks(seed, per);
        let mut b = a.clone();
        b[place] ^= d;
        [a, b]
    }

    #[test]
    fn trees_keep_one_path() {
        let d = blocks(9, 1)[0] | 2;
        for l in available() {
            let pi = AesKey::new_at(l, 3);
            for (per, instances) in [(1, 3), (2, 5), (16, 3), (64, 1)] {
                let places: Vec<usize> = (0..instances).map(|i| (5 * i + 3) % per).collect();
                let nodes: Vec<_> = (0..instances).map(|i| on_path(i as u128, per, places[i], d)).collect();
                let nodes = [0, 1].map(|p: usize| nodes.iter().flat_map(|n| n[p].clone()).collect::<Vec<_>>());
                let hashes = [0, 1].map(|p: usize| {
                    let mut h = vec![0; nodes[p].len()];
                    hash_nodes(&pi, &nodes[p], &mut h);
                    h
                });
                for bit in [false, true] {
                    let mut corrections = vec![if bit { 0 } else { d }; instances];
                    hashes.iter().for_each(|h| sums_at(l, h, per, &mut corrections));
                    let children = [0, 1].map(|p: usize| {
                        let mut out = vec![0; 2 * nodes[p].len()];
                        half_levels_at(l, &nodes[p], &hashes[p], per, &corrections, &mut out);
                        out
                    });
                    for i in 0..instances {
                        let range = per * i..per * (i + 1);
                        let (mut left, mut right) = (vec![0; per], vec![0; per]);
                        half_level(&pi, &nodes[1][range], corrections[i], &mut left, &mut right);
                        assert_eq!([left, right].concat(), children[1][2 * per * i..2 * per * (i + 1)]);
                        for v in 0..2 * per {
                            let difference = children[0][2 * per * i + v] ^ children[1][2 * per * i + v];
                            let on = v == places[i] + if bit { per } else { 0 };
                            assert_eq!(difference, if on { d } else { 0 }, "{l:?} {per} {i} {v}");
                        }
                    }
                }
                // Leaves that differ by a string in the place of the path.
                for j in 0..=7 {
                    let mask = if j == 7 { u128::MAX } else { (1u128 << (1 << j)) - 1 };
                    let mut corrections: Vec<u128> = (0..instances).map(|i| 1 << (i % (1 << j))).collect();
                    hashes.iter().for_each(|h| sums_at(l, h, per, &mut corrections));
                    let words = (per << j).div_ceil(128);
                    let vectors = [0, 1].map(|p: usize| {
                        let mut leaves = hashes[p].clone();
                        correct_leaves_at(l, &nodes[p], per, &corrections, &mut leaves);
                        let mut at_once = vec![0; per];
                        super::leaves(&pi, &nodes[p][..per], corrections[0], &mut at_once);
                        assert_eq!(at_once, leaves[..per]);
                        let mut out = vec![!0; words * instances];
                        join_leaves_at(l, &leaves, per, j, &mut out);
                        assert!(mask == u128::MAX || leaves.iter().all(|x| x & mask <= mask));
                        out
                    });
                    for i in 0..instances {
                        for w in 0..words {
                            let place = (places[i] << j) + i % (1 << j);
                            let want = if place / 128 == w { 1u128 << (place % 128) } else { 0 };
                            assert_eq!(vectors[0][i * words + w] ^ vectors[1][i * words + w], want, "{l:?} {per} {j}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rotations_are_exact() {
        for l in available() {
            for d in [1, 2, 5, 6, 7, 9, 10] {
                let n = 1usize << d;
                let vector: Vec<u64> =
                    words(d.into(), plane_len(n)).iter().map(|w| if d < 6 { w & ((1 << n) - 1) } else { *w }).collect();
                let mut out = vec![0; vector.len()];
                let bit = |x: &[u64], i: usize| x[i / 64] >> (i % 64) & 1;
                for by in (0..n).step_by(if d > 7 { 61 } else { 1 }) {
                    rotate_at(l, &vector, d, by, &mut out);
                    for i in 0..n {
                        assert_eq!(bit(&out, (i + by) % n), bit(&vector, i), "{l:?} {d} {by} {i}");
                    }
                    assert!(d >= 6 || out[0] >> n == 0);
                }
            }
        }
    }

    #[test]
    fn picks_are_sums_of_entries() {
        fn sum<W: RingWord>(l: Level, d: u32, vector: &[u64]) {
            let mut table = vec![W::zero(); 1 << d];
            Prg::new(77).fill_words(W::BITS, &mut table);
            let taken = |i: usize| vector[i / 64] >> (i % 64) & 1 == 1;
            let want = (0..1 << d).filter(|i| taken(*i)).fold(W::zero(), |a, i| a.wadd(table[i]));
            assert_eq!(pick_add_at(l, vector, &table), want, "{l:?} {d} {}", W::BITS);
        }
        for l in available() {
            for d in [1, 3, 5, 6, 7, 8, 11] {
                let n = 1usize << d;
                let vector: Vec<u64> =
                    words(50, plane_len(n)).iter().map(|w| if d < 6 { w & ((1 << n) - 1) } else { *w }).collect();
                sum::<u8>(l, d, &vector);
                sum::<u16>(l, d, &vector);
                sum::<u32>(l, d, &vector);
                sum::<u64>(l, d, &vector);
                let planes = words(8, 5 * vector.len());
                let mut got = !0;
                pick_xor_at(l, &vector, &planes, &mut got);
                for (p, plane) in planes.chunks_exact(vector.len()).enumerate() {
                    let ones: u32 = plane.iter().zip(&vector).map(|(a, b)| (a & b).count_ones()).sum();
                    assert_eq!(got >> p & 1, u64::from(ones & 1), "{l:?} {d} {p}");
                }
                assert_eq!(got >> 5, 0);
            }
        }
    }
}
