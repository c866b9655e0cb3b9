//! The hash that turns correlated OT rows into pads.
//!
//! `F(t, x) = pi_t(x) ^ x` with `pi_t` AES-128 under the key `session ^ t`: every row, and every block of a row's pad, has
//! a key of its own. This is the multi-instance hash of Guo, Katz, Wang, Weng, Yu (eprint 2019/1168), without the linear map
//! that only circular use needs: here the messages do not depend on delta.
//!
//! Assumption: AES is an ideal cipher. Then a query can only hit the pads of the row whose key it names: with `N` pads of a row
//! that are unknown to the adversary, each at a uniform distance of `d` bits from a known one, and `q` queries in all, pads
//! are random up to `2 q N / 2^d`, however many rows there are. `d` is 128, and 127 for Ferret, whose delta has one fixed bit.
//! The session part of the key separates instances of the protocol.
//!
//! A long pad is AES in counter mode under a key that is made like a pad, in a domain of its own. Its counters begin at a place
//! that no other long pad has, so that a guess of a key, too, can only hit one row. Blocks of a pad are distinct, random strings
//! need not be: a pad of `n` blocks adds `n^2 / 2^129` to the bound.
//!
//! The tweak `t`: bits 0..64 position in the stream, 64..96 block, 96 set for keys of long pads, 97 for keys of trees, 112..120
//! part of the domain, 120..128 domain.

use crate::{
    aes::AesKey,
    arch::native::aes::{self as native, Key},
    level::{Level, level},
};
use rayon::prelude::*;

/// Blocks from which a piece of a call is worth a thread: some 10 us of work.
// LOCAL: measured.
const PARALLEL: usize = 1 << 14;

/// The hash of one stream of correlations; see the module's description.
#[derive(Clone)]
pub struct Hasher {
    level: Level,
    key: u128,
    domain: u8,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// Bit of the tweaks of keys of long pads, which no tweak of a pad has.
const LONG: u128 = 1 << 96;

/// Bit of the keys of trees, which no key of a pad has.
const TREES: u128 = 1 << 97;

impl Hasher {
    /// `session` is public and fresh per session; `domain` separates the streams of one session.
    pub fn new(session: u128, domain: u8) -> Self {
        Self::new_at(level(), session, domain)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, session: u128, domain: u8) -> Self {
        Self { level: level.checked(), key: session ^ (u128::from(domain) << 120), domain }
    }

    /// One of 256 parts of a domain. Part 0 is the domain itself.
    pub fn part(self, part: u8) -> Self {
        Self { key: self.key ^ (u128::from(part) << 112), ..self }
    }

    /// The key of the trees of a group: see [`crate::onehot::hash_nodes`].
    pub fn tree_key(&self, group: u64) -> AesKey {
        AesKey::new_at(self.level, self.key ^ TREES ^ u128::from(group))
    }

    /// The key of the row at position 0, for block `block` of its pad.
    fn block_key(&self, block: u32) -> u128 {
        self.key ^ u128::from(block) << 64
    }

    /// Block `block` of all pads of rows: `out[i * N + j] = F(position + i, rows[i] ^ offsets[j])` with `N = offsets.len()`.
    pub fn pads(&self, position: u64, block: u32, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
        self.hash(self.block_key(block), position, rows, offsets, out);
    }

    /// Block `block` of both pads of rows: `zero[i] = F(position + i, rows[i])`, `one[i] = F(position + i, rows[i] ^ delta)`.
    pub fn pad_pairs(
        &self,
        position: u64,
        block: u32,
        rows: &[u128],
        delta: u128,
        zero: &mut [u128],
        one: &mut [u128],
    ) {
        assert!([zero.len(), one.len()] == [rows.len(); 2]);
        native::hash_pairs(self.level, self.block_key(block), position, rows, delta, zero, one);
    }

    /// The keys of rows' long pads.
    pub fn long_pad_keys(&self, position: u64, rows: &[u128], out: &mut [u128]) {
        self.hash(self.key ^ LONG, position, rows, &[0], out);
    }

    /// Blocks from `first_block` on of the long pad of the row at `position`, whose key is given.
    pub fn long_pad(&self, position: u64, key: u128, first_block: u32, out: &mut [u128]) {
        assert!(out.len() as u64 + u64::from(first_block) <= 1 << 32, "block counter overflows");
        Key::new(self.level, key).counter(self.long_pad_start(position) | u128::from(first_block), out);
    }

    /// The counter of the first block of a long pad: the position, seen from this session and domain, above the block.
    fn long_pad_start(&self, position: u64) -> u128 {
        (self.key >> 64 ^ u128::from(position)) << 64
    }

    fn hash(&self, key: u128, position: u64, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
        let n = offsets.len();
        assert_eq!(out.len(), rows.len() * n);
        if out.is_empty() {
            return;
        }
        let run = |from: usize, rows: &[u128], out: &mut [u128]| {
            native::hash(self.level, key, position + from as u64, rows, offsets, out);
        };
        if out.len() < 2 * PARALLEL {
            return run(0, rows, out);
        }
        let piece = PARALLEL.div_ceil(n);
        let pieces = rows.par_chunks(piece).zip(out.par_chunks_mut(piece * n)).enumerate();
        pieces.for_each(|(i, (rows, out))| run(i * piece, rows, out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aes::{AesKey, Prg},
        level::available,
    };

    const SESSION: u128 = 0x0123_4567_89ab_cdef_1122_3344_5566_7788;

    fn pi(key: u128, x: u128) -> u128 {
        let mut b = [x];
        AesKey::new_at(Level::Portable, key).encrypt_blocks(&mut b);
        b[0]
    }

    /// The definition of `F`, from single encryptions.
    fn f(domain: u8, position: u64, block: u32, x: u128) -> u128 {
        let tweak = u128::from(position) | u128::from(block) << 64 | u128::from(domain) << 120;
        pi(SESSION ^ tweak, x) ^ x
    }

    fn random(seed: u128, n: usize) -> Vec<u128> {
        let mut v = vec![0; n];
        Prg::new(seed).fill_blocks(&mut v);
        v
    }

    #[test]
    fn is_the_definition() {
        for l in available() {
            let hasher = Hasher::new_at(l, SESSION, 9);
            for n in [1, 2, 3, 4, 5, 8, 12, 16, 64] {
                let offsets = random(1, n);
                for rows in (0..20).chain([31, 32, 33, 63, 65]) {
                    for position in [0, 1020, (1 << 40) - 3] {
                        let r = random(3, rows);
                        let mut got = vec![0; rows * n];
                        hasher.pads(position, 7, &r, &offsets, &mut got);
                        let [mut zero, mut one] = [(); 2].map(|()| vec![0; rows]);
                        hasher.pad_pairs(position, 7, &r, offsets[n - 1], &mut zero, &mut one);
                        for i in 0..rows {
                            let p = position + i as u64;
                            let case = format!("{l:?} n={n} rows={rows} {i}");
                            for j in 0..n {
                                assert_eq!(got[i * n + j], f(9, p, 7, r[i] ^ offsets[j]), "{case} {j}");
                            }
                            assert_eq!([zero[i], one[i]], [f(9, p, 7, r[i]), got[i * n + n - 1]], "{case}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn long_pads() {
        for l in available() {
            let hasher = Hasher::new_at(l, SESSION, 3);
            let mut keys = [0; 3];
            hasher.long_pad_keys(4998, &[40, 41, 42], &mut keys);
            let key = pi(SESSION ^ 5000 ^ 3 << 120 ^ 1 << 96, 42) ^ 42;
            assert_eq!(keys[2], key);
            for n in (0..70).chain([200]) {
                let mut out = vec![0; n];
                hasher.long_pad(5000, key, 10, &mut out);
                for (k, o) in out.iter().enumerate() {
                    let counter = ((SESSION ^ 3 << 120) >> 64 ^ 5000) << 64 | (10 + k as u128);
                    assert_eq!(*o, pi(key, counter), "{l:?} {n} {k}");
                }
            }
        }
    }

    #[test]
    fn large_calls_split_like_small_ones() {
        for l in available() {
            let hasher = Hasher::new_at(l, SESSION, 200);
            for (rows, n) in [(3 * PARALLEL + 17, 1), (PARALLEL / 8, 32), (40, 4096)] {
                let (r, o) = (random(1, rows), random(2, n));
                let mut whole = vec![0; rows * n];
                hasher.pads(77, 0, &r, &o, &mut whole);
                let step = 1000;
                for from in (0..rows).step_by(step) {
                    let to = rows.min(from + step);
                    let mut part = vec![0; (to - from) * n];
                    hasher.pads(77 + from as u64, 0, &r[from..to], &o, &mut part);
                    assert!(part == whole[from * n..to * n]);
                }
            }
        }
    }
}
