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
//! The tweak: bits 0..64 position in the stream, 64..96 block, 96 second half of a 256-bit row, 120..128 domain.

#[cfg(target_arch = "x86_64")]
use crate::x86::aes as x86;
use crate::{
    aes::AesKey,
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

/// Bit of the tweak that marks the second call for a 256-bit row.
const SECOND: u128 = 1 << 96;

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

    fn cipher(&self, group: u64) -> AesKey {
        AesKey::new_at(self.level, self.key ^ u128::from(group))
    }

    /// `out[i * N + j] = H(t(position + i, block), rows[i] ^ offsets[j])` with `N = offsets.len()`.
    pub fn hash_offsets(&self, position: u64, block: u32, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
        let n = offsets.len();
        assert_eq!(out.len(), rows.len() * n);
        self.by_key(position, n, rows, out, |aes, position, rows, out| {
            let tweak = self.tweak(position, block);
            #[cfg(target_arch = "x86_64")]
            if let Some(keys) = aes.rounds() {
                let args = x86::HashArgs { tweak, second: 0, keys };
                // SAFETY: a key with round keys was made for its level, so the CPU has the features.
                unsafe {
                    match aes.level() {
                        Level::Avx512 if n == 1 => return x86::avx512::hash_one(&args, rows, offsets[0], out),
                        Level::Vaes256 if n == 1 => return x86::vaes256::hash_one(&args, rows, offsets[0], out),
                        Level::Avx512 if n.is_multiple_of(x86::avx512::L) => {
                            return x86::avx512::hash_many(&args, rows, offsets, out);
                        }
                        Level::Vaes256 if n.is_multiple_of(x86::vaes256::L) => {
                            return x86::vaes256::hash_many(&args, rows, offsets, out);
                        }
                        Level::Aesni if n == 1 => return x86::aesni::hash_one(&args, rows, offsets[0], out),
                        Level::Aesni => return x86::aesni::hash_many(&args, rows, offsets, out),
                        _ => {}
                    }
                }
            }
            for (out, row) in out.chunks_exact_mut(n).zip(rows) {
                out.iter_mut().zip(offsets).for_each(|(out, offset)| *out = row ^ offset);
            }
            tmmo(aes, out, per_row(tweak, n));
        });
    }

    /// `out[i * N + j] = H2(t(position + i, block); rows[i] ^ offsets[j])` with
    /// `H2(t; a, b) = H(t', H(t, a) ^ b)` and `t'` differing from `t` in a bit of its own.
    pub fn hash_offsets2(
        &self,
        position: u64,
        block: u32,
        rows: &[[u128; 2]],
        offsets: &[[u128; 2]],
        out: &mut [u128],
    ) {
        let n = offsets.len();
        assert_eq!(out.len(), rows.len() * n);
        #[cfg(target_arch = "x86_64")]
        let halves = [0, 1].map(|h| offsets.iter().map(|o| o[h]).collect::<Vec<_>>());
        self.by_key(position, n, rows, out, |aes, position, rows, out| {
            let tweak = self.tweak(position, block);
            #[cfg(target_arch = "x86_64")]
            if let Some(keys) = aes.rounds() {
                let args = x86::HashArgs { tweak, second: SECOND, keys };
                let offsets = [halves[0].as_slice(), halves[1].as_slice()];
                // SAFETY: a key with round keys was made for its level, so the CPU has the features.
                unsafe {
                    match aes.level() {
                        _ if n == 1 => {
                            let offset = [offsets[0][0], offsets[1][0]];
                            return match aes.level() {
                                Level::Avx512 => x86::avx512::hash2_one(&args, rows, offset, out),
                                Level::Vaes256 => x86::vaes256::hash2_one(&args, rows, offset, out),
                                _ => x86::aesni::hash2_one(&args, rows, offset, out),
                            };
                        }
                        Level::Avx512 if n.is_multiple_of(x86::avx512::L) => {
                            return x86::avx512::hash2_many(&args, rows, offsets, out);
                        }
                        Level::Vaes256 if n.is_multiple_of(x86::vaes256::L) => {
                            return x86::vaes256::hash2_many(&args, rows, offsets, out);
                        }
                        Level::Aesni => return x86::aesni::hash2_many(&args, rows, offsets, out),
                        _ => {}
                    }
                }
            }
            for (out, row) in out.chunks_exact_mut(n).zip(rows) {
                out.iter_mut().zip(offsets).for_each(|(out, offset)| *out = row[0] ^ offset[0]);
            }
            tmmo(aes, out, per_row(tweak, n));
            for (out, row) in out.chunks_exact_mut(n).zip(rows) {
                out.iter_mut().zip(offsets).for_each(|(out, offset)| *out ^= row[1] ^ offset[1]);
            }
            tmmo(aes, out, per_row(tweak ^ SECOND, n));
        });
    }

    /// `out[k] = H(t(position, first_block + k), row)`: a long pad from one row.
    pub fn hash_blocks(&self, position: u64, row: u128, first_block: u32, out: &mut [u128]) {
        let t = self.tweak(position, first_block);
        assert!(out.len() as u64 + u64::from(first_block) <= 1 << 32, "block counter overflows");
        let aes = self.cipher(position >> REKEY_BITS);
        out.fill(row);
        let mut next = t;
        tmmo(&aes, out, || {
            let now = next;
            next = next.wrapping_add(1 << 64);
            now
        });
    }

    /// Calls `f(cipher, position, rows, out)` for runs of rows that share a key; in parallel if there is enough to do.
    fn by_key<R: Sync>(
        &self,
        position: u64,
        n: usize,
        rows: &[R],
        out: &mut [u128],
        f: impl Fn(&AesKey, u64, &[R], &mut [u128]) + Sync,
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

/// `n` times the first tweak, `n` times the next, and so on.
fn per_row(first: u128, n: usize) -> impl FnMut() -> u128 {
    let (mut tweak, mut left) = (first, n);
    move || {
        if left == 0 {
            (tweak, left) = (tweak + 1, n);
        }
        left -= 1;
        tweak
    }
}

/// `x[k] = H(t, x[k])` with `t` the next of the tweaks.
fn tmmo(aes: &AesKey, x: &mut [u128], mut tweak: impl FnMut() -> u128) {
    const CHUNK: usize = 64;
    let mut other = [0u128; CHUNK];
    for x in x.chunks_mut(CHUNK) {
        let other = &mut other[..x.len()];
        #[cfg(target_arch = "x86_64")]
        if let Some(keys) = aes.rounds() {
            other.iter_mut().for_each(|t| *t = tweak());
            // SAFETY: a key with round keys was made for its level, so the CPU has the features.
            unsafe {
                match aes.level() {
                    Level::Avx512 => x86::avx512::hash_staged(keys, x, other),
                    Level::Vaes256 => x86::vaes256::hash_staged(keys, x, other),
                    _ => x86::aesni::hash_staged(keys, x, other),
                }
            }
            continue;
        }
        aes.encrypt_blocks(x);
        other.copy_from_slice(x);
        x.iter_mut().for_each(|x| *x ^= tweak());
        aes.encrypt_blocks(x);
        x.iter_mut().zip(other).for_each(|(x, k)| *x ^= *k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    const SESSION: u128 = 0x0123_4567_89ab_cdef_1122_3344_5566_7788;

    /// The definition, one block at a time, from single encryptions.
    fn h(domain: u8, position: u64, block: u32, second: bool, x: u128) -> u128 {
        let key = SESSION ^ (u128::from(domain) << 120) ^ u128::from(position >> 10);
        let aes = AesKey::new_at(Level::Portable, key);
        let pi = |x| {
            let mut b = [x];
            aes.encrypt_blocks(&mut b);
            b[0]
        };
        let t = u128::from(position) | u128::from(block) << 64 | u128::from(second) << 96 | u128::from(domain) << 120;
        pi(pi(x) ^ t) ^ pi(x)
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
                let (o1, o2) = (random(1, n), random(2, n));
                let offsets2: Vec<_> = o1.iter().zip(&o2).map(|(a, b)| [*a, *b]).collect();
                for rows in (0..20).chain([31, 32, 33, 63, 65]) {
                    for position in [0, 1020, (1 << 40) - 3] {
                        let (r1, r2) = (random(3, rows), random(4, rows));
                        let rows2: Vec<_> = r1.iter().zip(&r2).map(|(a, b)| [*a, *b]).collect();
                        let (mut got, mut got2) = (vec![0; rows * n], vec![0; rows * n]);
                        hasher.hash_offsets(position, 7, &r1, &o1, &mut got);
                        hasher.hash_offsets2(position, 7, &rows2, &offsets2, &mut got2);
                        for i in 0..rows {
                            for j in 0..n {
                                let p = position + i as u64;
                                let first = h(9, p, 7, false, r1[i] ^ o1[j]);
                                assert_eq!(got[i * n + j], first, "{l:?} n={n} rows={rows} {i} {j}");
                                let second = h(9, p, 7, true, first ^ r2[i] ^ o2[j]);
                                assert_eq!(got2[i * n + j], second, "{l:?} n={n} rows={rows} {i} {j}");
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
                    assert_eq!(*o, h(3, 5000, 10 + k as u32, false, 42));
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
                hasher.hash_offsets(77, 0, &r, &o, &mut whole);
                let step = 1000;
                for from in (0..rows).step_by(step) {
                    let to = rows.min(from + step);
                    let mut part = vec![0; (to - from) * n];
                    hasher.hash_offsets(77 + from as u64, 0, &r[from..to], &o, &mut part);
                    assert!(part == whole[from * n..to * n]);
                }
            }
        }
    }
}
