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

use crate::{
    aes::AesKey,
    level::{Level, level},
};

/// log2 of the positions that share a key.
// SECURITY: the multi-target term of the bound.
pub const REKEY_BITS: u32 = 10;

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
        self.by_key(position, rows.len(), |aes, from, to| {
            let (rows, out) = (&rows[from..to], &mut out[from * n..to * n]);
            for (o, r) in out.chunks_exact_mut(n).zip(rows) {
                o.iter_mut().zip(offsets).for_each(|(o, d)| *o = r ^ d);
            }
            tmmo(aes, out, |k| self.tweak(position + (from + k / n) as u64, block));
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
        self.by_key(position, rows.len(), |aes, from, to| {
            let (rows, out) = (&rows[from..to], &mut out[from * n..to * n]);
            for half in 0..2 {
                for (o, r) in out.chunks_exact_mut(n).zip(rows) {
                    for (o, d) in o.iter_mut().zip(offsets) {
                        *o = r[half] ^ d[half] ^ if half == 0 { 0 } else { *o };
                    }
                }
                let flag = SECOND * half as u128;
                tmmo(aes, out, |k| self.tweak(position + (from + k / n) as u64, block) ^ flag);
            }
        });
    }

    /// `out[k] = H(t(position, first_block + k), row)`: a long pad from one row.
    pub fn hash_blocks(&self, position: u64, row: u128, first_block: u32, out: &mut [u128]) {
        let t = self.tweak(position, first_block);
        assert!(out.len() as u64 + u64::from(first_block) <= 1 << 32, "block counter overflows");
        let aes = self.cipher(position >> REKEY_BITS);
        out.fill(row);
        tmmo(&aes, out, |k| t + ((k as u128) << 64));
    }

    /// Calls `f(cipher, from, to)` for the runs of rows that share a key.
    fn by_key(&self, position: u64, rows: usize, mut f: impl FnMut(&AesKey, usize, usize)) {
        let mut from = 0;
        while from < rows {
            let group = (position + from as u64) >> REKEY_BITS;
            let to = rows.min((((group + 1) << REKEY_BITS) - position) as usize);
            f(&self.cipher(group), from, to);
            from = to;
        }
    }
}

/// `x[k] = H(tweak(k), x[k])`.
fn tmmo(aes: &AesKey, x: &mut [u128], tweak: impl Fn(usize) -> u128) {
    const CHUNK: usize = 64;
    let mut keep = [0u128; CHUNK];
    let mut base = 0;
    for x in x.chunks_mut(CHUNK) {
        aes.encrypt_blocks(x);
        let keep = &mut keep[..x.len()];
        keep.copy_from_slice(x);
        x.iter_mut().enumerate().for_each(|(k, x)| *x ^= tweak(base + k));
        aes.encrypt_blocks(x);
        x.iter_mut().zip(keep).for_each(|(x, k)| *x ^= *k);
        base += x.len();
    }
}
