//! AES-128 on many blocks at once, and a generator made from it.
//!
//! A block is a `u128`: byte `i` of the block is bits `8i..8i + 8`.

#[cfg(target_arch = "x86_64")]
use crate::x86::aes as x86;
use crate::{
    bits::xor_blocks_at,
    level::{Level, level},
    ring::RingWord,
};
use ::aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroize;

/// An expanded AES-128 key, wiped when dropped.
pub struct AesKey {
    level: Level,
    schedule: Schedule,
}

// Boxing the rare portable key would cost the others a pointer chase, and the size matters to no one.
#[allow(clippy::large_enum_variant)]
enum Schedule {
    /// Constant-time code of the `aes` crate (fixsliced, or the CPU's AES if that crate finds it).
    Portable(::aes::Aes128Enc),
    /// Round keys in order.
    #[cfg(target_arch = "x86_64")]
    Rounds([u128; 11]),
}

impl Drop for AesKey {
    fn drop(&mut self) {
        match &mut self.schedule {
            // Wiped by its own destructor.
            Schedule::Portable(_) => {}
            #[cfg(target_arch = "x86_64")]
            Schedule::Rounds(keys) => keys.zeroize(),
        }
    }
}

impl AesKey {
    /// Expands `key`.
    pub fn new(key: u128) -> Self {
        Self::new_at(level(), key)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, key: u128) -> Self {
        let schedule = match level.checked() {
            Level::Portable => Schedule::Portable(::aes::Aes128Enc::new(&Array::from(key.to_le_bytes()))),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: all levels above `Portable` have AES-NI and SSE4.1; `checked` has made sure of the level.
            _ => Schedule::Rounds(unsafe { x86::expand(key) }),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!(),
        };
        Self { level, schedule }
    }

    /// Encrypts every block in place.
    pub fn encrypt_blocks(&self, blocks: &mut [u128]) {
        match &self.schedule {
            Schedule::Portable(aes) => portable_encrypt(aes, blocks),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the key was made for this level, so the CPU has its features.
            Schedule::Rounds(keys) => unsafe {
                match self.level {
                    Level::Avx512 => x86::avx512::encrypt(keys, blocks),
                    Level::Vaes256 => x86::vaes256::encrypt(keys, blocks),
                    _ => x86::aesni::encrypt(keys, blocks),
                }
            },
        }
    }

    /// `out[i]` = encryption of the number `start + i mod 2^64`.
    pub(crate) fn counter(&self, start: u64, out: &mut [u128]) {
        match &self.schedule {
            Schedule::Portable(aes) => {
                out.iter_mut().enumerate().for_each(|(i, o)| *o = u128::from(start.wrapping_add(i as u64)));
                portable_encrypt(aes, out);
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the key was made for this level, so the CPU has its features.
            Schedule::Rounds(keys) => unsafe {
                match self.level {
                    Level::Avx512 => x86::avx512::counter(keys, start, out),
                    Level::Vaes256 => x86::vaes256::counter(keys, start, out),
                    _ => x86::aesni::counter(keys, start, out),
                }
            },
        }
    }

    /// See [`crate::onehot::hash_nodes`].
    pub(crate) fn hash_nodes(&self, nodes: &[u128], out: &mut [u128]) {
        match &self.schedule {
            Schedule::Portable(aes) => {
                let sigma = |x: u128| (x << 64) ^ ((x >> 64) << 64) ^ (x >> 64);
                out.iter_mut().zip(nodes).for_each(|(o, x)| *o = sigma(*x));
                portable_encrypt(aes, out);
                out.iter_mut().zip(nodes).for_each(|(o, x)| *o ^= sigma(*x));
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the key was made for this level, so the CPU has its features.
            Schedule::Rounds(keys) => unsafe {
                match self.level {
                    Level::Avx512 => x86::avx512::hash_nodes(keys, nodes, out),
                    Level::Vaes256 => x86::vaes256::hash_nodes(keys, nodes, out),
                    _ => x86::aesni::hash_nodes(keys, nodes, out),
                }
            },
        }
    }

    /// See [`crate::onehot::leaves`].
    pub(crate) fn leaves(&self, nodes: &[u128], c: u128, out: &mut [u128]) {
        match &self.schedule {
            Schedule::Portable(_) => {
                self.hash_nodes(nodes, out);
                crate::onehot::correct_leaves_at(self.level, nodes, nodes.len(), &[c], out);
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the key was made for this level, so the CPU has its features.
            Schedule::Rounds(keys) => unsafe {
                match self.level {
                    Level::Avx512 => x86::avx512::leaves(keys, nodes, c, out),
                    Level::Vaes256 => x86::vaes256::leaves(keys, nodes, c, out),
                    _ => x86::aesni::leaves(keys, nodes, c, out),
                }
            },
        }
    }

    /// See [`crate::onehot::half_level`].
    pub(crate) fn half_level(&self, nodes: &[u128], c: u128, left: &mut [u128], right: &mut [u128]) {
        match &self.schedule {
            Schedule::Portable(_) => {
                self.leaves(nodes, c, left);
                right.iter_mut().zip(nodes).zip(left).for_each(|((r, s), l)| *r = s ^ *l);
            }
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the key was made for this level, so the CPU has its features.
            Schedule::Rounds(keys) => unsafe {
                match self.level {
                    Level::Avx512 => x86::avx512::half_level(keys, nodes, c, left, right),
                    Level::Vaes256 => x86::vaes256::half_level(keys, nodes, c, left, right),
                    _ => x86::aesni::half_level(keys, nodes, c, left, right),
                }
            },
        }
    }

    /// The round keys, where there are kernels that want them.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn rounds(&self) -> Option<&[u128; 11]> {
        match &self.schedule {
            Schedule::Rounds(keys) => Some(keys),
            Schedule::Portable(_) => None,
        }
    }

    /// Which kernels this key uses.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AesKey").field("level", &self.level).finish_non_exhaustive()
    }
}

fn portable_encrypt(aes: &::aes::Aes128Enc, blocks: &mut [u128]) {
    if cfg!(target_endian = "big") {
        blocks.iter_mut().for_each(|b| *b = b.swap_bytes());
    }
    let (arrays, rest) = ::aes::Block::slice_as_chunks_mut(bytemuck::cast_slice_mut(blocks));
    debug_assert!(rest.is_empty());
    aes.encrypt_blocks(arrays);
    if cfg!(target_endian = "big") {
        blocks.iter_mut().for_each(|b| *b = b.swap_bytes());
    }
}

/// A pseudo-random generator: AES-128 in counter mode with a 64-bit block counter. Wiped when dropped.
pub struct Prg {
    key: AesKey,
    counter: u64,
}

/// Where [`Prg::fold`] adds a stream to sums over many streams, each of the same number `m` of blocks.
#[derive(Debug)]
pub struct Fold<'a> {
    /// Number of complete subtrees that this stream ends: the trailing ones of its number.
    pub height: usize,
    /// Whether these are the first subtrees of their heights: the highest one's `v` is written, not added to.
    pub first: bool,
    /// Sums of the even subtrees of each height, at height times `m`.
    pub partial: &'a mut [u128],
    /// Sums of the odd subtrees of each height, at height times `m`.
    pub v: &'a mut [u128],
}

impl std::fmt::Debug for Prg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prg").finish_non_exhaustive()
    }
}

impl Prg {
    /// From a seed.
    pub fn new(seed: u128) -> Self {
        Self::new_at(level(), seed)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, seed: u128) -> Self {
        Self { key: AesKey::new_at(level, seed), counter: 0 }
    }

    /// Blocks handed out so far.
    pub fn position(&self) -> u64 {
        self.counter
    }

    /// The next blocks of the stream.
    pub fn fill_blocks(&mut self, out: &mut [u128]) {
        self.key.counter(self.counter, out);
        self.counter += out.len() as u64;
    }

    /// Adds the next `m` blocks `x` to the sums that a binary count over streams `0..2^k` makes: `v_b ^= x`,
    /// `x ^= partial_b` for `b = 0..height`, then `partial_height = x`. In the end `v_b` is the sum of all streams whose
    /// number has bit `b`, and `partial_k` the sum of all.
    pub fn fold(&mut self, m: usize, fold: Fold<'_>) {
        assert!(fold.v.len() >= fold.height * m && fold.partial.len() >= (fold.height + 1) * m);
        let start = self.counter;
        self.counter += m as u64;
        #[cfg(target_arch = "x86_64")]
        if let Schedule::Rounds(keys) = &self.key.schedule {
            // SAFETY: the key was made for this level, so the CPU has its features.
            unsafe {
                match self.key.level {
                    Level::Avx512 if m.is_multiple_of(x86::avx512::B) => {
                        return x86::avx512::fold(keys, start, m, fold);
                    }
                    Level::Vaes256 if m.is_multiple_of(x86::vaes256::B) => {
                        return x86::vaes256::fold(keys, start, m, fold);
                    }
                    Level::Aesni if m.is_multiple_of(x86::aesni::B) => return x86::aesni::fold(keys, start, m, fold),
                    _ => {}
                }
            }
        }
        let (done, rest) = fold.partial.split_at_mut(fold.height * m);
        let x = &mut rest[..m];
        self.key.counter(start, x);
        for (b, v) in fold.v.chunks_exact_mut(m.max(1)).enumerate().take(fold.height) {
            if b + 1 == fold.height && fold.first {
                v.fill(0);
            }
            xor_blocks_at(self.key.level, v, x);
            xor_blocks_at(self.key.level, x, &done[b * m..][..m]);
        }
    }

    /// The next block.
    pub fn next_block(&mut self) -> u128 {
        let mut b = [0];
        self.fill_blocks(&mut b);
        b[0]
    }

    /// The next blocks as bytes; what is left of the last block is thrown away.
    pub fn fill_bytes(&mut self, out: &mut [u8]) {
        const CHUNK: usize = 256;
        let little = cfg!(target_endian = "little");
        if little && let Ok(blocks) = bytemuck::try_cast_slice_mut(out) {
            return self.fill_blocks(blocks);
        }
        let mut blocks = [0u128; CHUNK];
        for part in out.chunks_mut(16 * CHUNK) {
            let used = &mut blocks[..part.len().div_ceil(16)];
            self.fill_blocks(used);
            if !little {
                used.iter_mut().for_each(|b| *b = b.swap_bytes());
            }
            part.copy_from_slice(&bytemuck::cast_slice(used)[..part.len()]);
        }
        blocks.zeroize();
    }

    /// Uniform words below `2^width`; what is left of the last block is thrown away.
    pub fn fill_words<W: RingWord>(&mut self, width: u32, out: &mut [W]) {
        self.fill_bytes(bytemuck::cast_slice_mut(out));
        if width < W::BITS || cfg!(target_endian = "big") {
            out.iter_mut().for_each(|x| *x = x.le_to_native());
            crate::ops::mask_at(self.key.level, width, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::available;

    fn block(hex: &str) -> u128 {
        u128::from_str_radix(hex, 16).unwrap().swap_bytes()
    }

    #[test]
    fn fips_197() {
        for l in available() {
            let key = AesKey::new_at(l, block("000102030405060708090a0b0c0d0e0f"));
            for n in 1..70 {
                let mut b = vec![block("00112233445566778899aabbccddeeff"); n];
                key.encrypt_blocks(&mut b);
                assert!(b.iter().all(|&b| b == block("69c4e0d86a7b0430d8cdb78070b4c55a")), "{l:?} {n}");
            }
            let key = AesKey::new_at(l, block("2b7e151628aed2a6abf7158809cf4f3c"));
            let mut b = [block("3243f6a8885a308d313198a2e0370734")];
            key.encrypt_blocks(&mut b);
            assert_eq!(b[0], block("3925841d02dc09fbdc118597196a0b32"));
        }
    }

    #[test]
    fn one_stream_at_all_levels() {
        for l in available() {
            for n in (0..70).chain([1000]) {
                let key = AesKey::new_at(Level::Portable, 77);
                let mut want: Vec<u128> = (0..2 * n as u128).collect();
                key.encrypt_blocks(&mut want);
                let mut prg = Prg::new_at(l, 77);
                let mut got = vec![0; 2 * n];
                let (a, b) = got.split_at_mut(n);
                prg.fill_blocks(a);
                prg.fill_blocks(b);
                assert!(got == want, "{l:?} {n}");
                for skip in 0..2 {
                    let mut bytes = vec![0; 16 * n + 5 + skip];
                    let mut prg = Prg::new_at(l, 77);
                    prg.fill_bytes(&mut bytes[skip..]);
                    assert_eq!(prg.position(), n as u64 + 1);
                    let want: &[u8] = bytemuck::cast_slice(&want[..n]);
                    assert!(bytes[skip..][..16 * n] == *want);
                }
            }
        }
    }

    #[test]
    fn words_are_reduced() {
        for l in available() {
            let mut w = [0u32; 999];
            Prg::new_at(l, 5).fill_words(19, &mut w);
            assert!(w.iter().all(|w| w >> 19 == 0));
            assert_eq!(w.iter().fold(0, |a, w| a | w), (1 << 19) - 1);
        }
    }

    #[test]
    fn folds_are_sums_over_streams() {
        for l in available() {
            for k in 1..=4 {
                for m in [1, 3, 8, 16, 17, 32, 64] {
                    let (mut v, mut partial) = (vec![7; k * m], vec![7; (k + 1) * m]);
                    let mut want = vec![0; (k + 1) * m];
                    for x in 0..1usize << k {
                        let mut prg = Prg::new_at(l, x as u128);
                        let mut stream = vec![0; 5 + m];
                        prg.fill_blocks(&mut stream[..5]);
                        let height = x.trailing_ones() as usize;
                        let first = x + 1 == 1 << height;
                        prg.fold(m, Fold { height, first, partial: &mut partial, v: &mut v });
                        assert_eq!(prg.position(), 5 + m as u64);
                        Prg::new_at(Level::Portable, x as u128).fill_blocks(&mut stream);
                        for b in (0..=k).filter(|b| *b == k || x >> b & 1 == 1) {
                            want[b * m..][..m].iter_mut().zip(&stream[5..]).for_each(|(w, s)| *w ^= s);
                        }
                    }
                    assert_eq!(v, want[..k * m], "{l:?} k={k} m={m}");
                    assert_eq!(partial[k * m..], want[k * m..], "{l:?} k={k} m={m}");
                }
            }
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let p = Prg::new(0x1234_5678);
        assert_eq!(format!("{p:?}"), "Prg { .. }");
    }
}
