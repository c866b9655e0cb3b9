//! The hash that turns correlated OT rows into pads.
//!
//! `H(t, x) = pi(pi(x) ^ t) ^ pi(x)`: the TMMO construction of Guo, Katz, Wang, Yu (IEEE S&P 2020, eprint 2019/074),
//! with `pi` AES-128 under a public key. Assumption: `pi` is a random permutation (ideal cipher); then `H` is tweakable
//! circular correlation robust, which is what OT extension needs when it breaks the correlation of its rows.
//! The cheaper `pi(x) ^ x` is not enough here: rows are hashed more than once (several blocks per pad, one hash per
//! time step), and a protocol makes very many pads, so that an adversary may attack all of them at once. The tweak
//! takes care of the former. For the latter the key changes every 2^10 positions (Guo, Katz, Wang, Weng, Yu, eprint
//! 2019/1168): ideal-cipher work is then spent against few targets, instead of against the whole stream. The session
//! part of the key separates instances of the protocol.
//!
//! The tweak: bits 0..64 position in the stream, 64..96 block, 120..128 domain.
//!
//! Where a row has many pads and is hashed once, every row has a key of its own instead of a tweak: `F(t, x) =
//! pi_t(x) ^ x` with `pi_t` AES-128 under `session ^ t`, the multi-instance hash of eprint 2019/1168 without the linear map
//! that only circular use needs (here the messages do not depend on the secret). In the ideal-cipher model a query can
//! only hit the pads of the row whose key it names: with `N` pads of a row that are unknown to the adversary, each at a
//! uniform distance of 128 bits from the known one, and `q` queries in all, pads are random up to `2 q N / 2^128`, however
//! many rows there are. That is less than for `H`, for half of its work.

use crate::{
    arch::native::aes::{Key, hash_keyed},
    level::{Level, level},
};
use rayon::prelude::*;

/// log2 of the positions that share a key.
// SECURITY: the multi-target term of the bound.
pub const REKEY_BITS: u32 = 10;

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

/// Bit of the keys of `F`, which no key of `H` has.
const KEYED: u128 = 1 << 96;

impl Hasher {
    /// `session` is public and fresh per session; `domain` separates the streams of one session.
    pub fn new(session: u128, domain: u8) -> Self {
        Self::new_at(level(), session, domain)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, session: u128, domain: u8) -> Self {
        Self { level: level.checked(), key: session ^ (u128::from(domain) << 120), domain }
    }

    fn tweak(&self, position: u64, block: u32) -> u128 {
        u128::from(position) | u128::from(block) << 64 | u128::from(self.domain) << 120
    }

    fn cipher(&self, group: u64) -> Key {
        Key::new(self.level, self.key ^ u128::from(group))
    }

    /// `out[i * N + j] = H(t(position + i, block), rows[i] ^ offsets[j])` with `N = offsets.len()`.
    pub fn hash_offsets(&self, position: u64, block: u32, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
        let n = offsets.len();
        assert_eq!(out.len(), rows.len() * n);
        self.by_key(position, n, rows, out, |aes, position, rows, out| {
            aes.hash_rows(self.tweak(position, block), rows, offsets, out);
        });
    }

    /// `out[i * N + j] = F(position + i, rows[i] ^ offsets[j])` with `N = offsets.len()`.
    pub fn hash_keyed(&self, position: u64, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
        let n = offsets.len();
        assert_eq!(out.len(), rows.len() * n);
        if out.is_empty() {
            return;
        }
        let key = self.key ^ KEYED;
        let run = |from: usize, rows: &[u128], out: &mut [u128]| {
            hash_keyed(self.level, key, position + from as u64, rows, offsets, out);
        };
        if out.len() < 2 * PARALLEL {
            return run(0, rows, out);
        }
        let piece = PARALLEL.div_ceil(n);
        let pieces = rows.par_chunks(piece).zip(out.par_chunks_mut(piece * n)).enumerate();
        pieces.for_each(|(i, (rows, out))| run(i * piece, rows, out));
    }

    /// `out[k] = H(t(position, first_block + k), row)`: a long pad from one row.
    pub fn hash_blocks(&self, position: u64, row: u128, first_block: u32, out: &mut [u128]) {
        let t = self.tweak(position, first_block);
        assert!(out.len() as u64 + u64::from(first_block) <= 1 << 32, "block counter overflows");
        let aes = self.cipher(position >> REKEY_BITS);
        out.fill(row);
        let mut tweaks = [0; 64];
        for (c, out) in out.chunks_mut(64).enumerate() {
            let tweaks = &mut tweaks[..out.len()];
            tweaks.iter_mut().zip(64 * c as u128..).for_each(|(tweak, k)| *tweak = t.wrapping_add(k << 64));
            aes.hash(out, tweaks);
        }
    }

    /// Calls `f(cipher, position, rows, out)` for runs of rows that share a key; in parallel if there is enough to do.
    fn by_key<R: Sync>(
        &self,
        position: u64,
        n: usize,
        rows: &[R],
        out: &mut [u128],
        f: impl Fn(&Key, u64, &[R], &mut [u128]) + Sync,
    ) {
        if out.is_empty() {
            return;
        }
        let group = |from: usize| (position + from as u64) >> REKEY_BITS;
        // First row behind the run that starts at `from`.
        let end = |from: usize, most: usize| {
            let limit = (((group(from) + 1) << REKEY_BITS) - position) as usize;
            rows.len().min(limit).min(from + most)
        };
        if out.len() < 2 * PARALLEL {
            let mut from = 0;
            while from < rows.len() {
                let to = end(from, usize::MAX - from);
                f(&self.cipher(group(from)), position + from as u64, &rows[from..to], &mut out[from * n..to * n]);
                from = to;
            }
            return;
        }
        let (mut runs, mut from, mut rest) = (Vec::new(), 0, out);
        while from < rows.len() {
            let to = end(from, PARALLEL.div_ceil(n));
            let (head, tail) = rest.split_at_mut((to - from) * n);
            runs.push((from, &rows[from..to], head));
            (from, rest) = (to, tail);
        }
        runs.into_par_iter().with_min_len((PARALLEL >> REKEY_BITS).div_ceil(n)).for_each(|(from, rows, out)| {
            f(&self.cipher(group(from)), position + from as u64, rows, out);
        });
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

    /// The definition of `H`, from single encryptions.
    fn h(domain: u8, position: u64, block: u32, x: u128) -> u128 {
        let key = SESSION ^ (u128::from(domain) << 120) ^ u128::from(position >> 10);
        let t = u128::from(position) | u128::from(block) << 64 | u128::from(domain) << 120;
        let y = pi(key, x);
        pi(key, y ^ t) ^ y
    }

    /// The definition of `F`.
    fn f(domain: u8, position: u64, x: u128) -> u128 {
        pi(SESSION ^ (u128::from(domain) << 120) ^ u128::from(position) ^ 1 << 96, x) ^ x
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
                        let (mut got, mut keyed) = (vec![0; rows * n], vec![0; rows * n]);
                        hasher.hash_offsets(position, 7, &r, &offsets, &mut got);
                        hasher.hash_keyed(position, &r, &offsets, &mut keyed);
                        for i in 0..rows {
                            for j in 0..n {
                                let p = position + i as u64;
                                let x = r[i] ^ offsets[j];
                                let case = format!("{l:?} n={n} rows={rows} {i} {j}");
                                assert_eq!(got[i * n + j], h(9, p, 7, x), "{case}");
                                assert_eq!(keyed[i * n + j], f(9, p, x), "{case}");
                            }
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
            for n in (0..70).chain([200]) {
                let mut out = vec![0; n];
                hasher.hash_blocks(5000, 42, 10, &mut out);
                for (k, o) in out.iter().enumerate() {
                    assert_eq!(*o, h(3, 5000, 10 + k as u32, 42));
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
                let (mut whole, mut keyed) = (vec![0; rows * n], vec![0; rows * n]);
                hasher.hash_offsets(77, 0, &r, &o, &mut whole);
                hasher.hash_keyed(77, &r, &o, &mut keyed);
                let step = 1000;
                for from in (0..rows).step_by(step) {
                    let to = rows.min(from + step);
                    let mut part = vec![0; (to - from) * n];
                    hasher.hash_offsets(77 + from as u64, 0, &r[from..to], &o, &mut part);
                    assert!(part == whole[from * n..to * n]);
                    hasher.hash_keyed(77 + from as u64, &r[from..to], &o, &mut part);
                    assert!(part == keyed[from * n..to * n]);
                }
            }
        }
    }
}
