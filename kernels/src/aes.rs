//! AES-128 on many blocks at once, and a generator made from it.
//!
//! A block is a `u128`: byte `i` of the block is bits `8i..8i + 8`.

use crate::{
    arch::native,
    level::{Level, level},
    ring::RingWord,
};
use zeroize::Zeroize;

/// An expanded AES-128 key, wiped when dropped.
pub struct AesKey {
    level: Level,
    pub(crate) key: native::aes::Key,
}

impl AesKey {
    /// Expands `key`.
    pub fn new(key: u128) -> Self {
        Self::new_at(level(), key)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, key: u128) -> Self {
        Self { level, key: native::aes::Key::new(level, key) }
    }

    /// Encrypts every block in place.
    pub fn encrypt_blocks(&self, blocks: &mut [u128]) {
        self.key.encrypt(blocks);
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AesKey").field("level", &self.level).finish_non_exhaustive()
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
        self.key.key.counter(self.counter.into(), out);
        self.counter += out.len() as u64;
    }

    /// Adds the next `m` blocks `x` to the sums that a binary count over streams `0..2^k` makes: `v_b ^= x`,
    /// `x ^= partial_b` for `b = 0..height`, then `partial_height = x`. In the end `v_b` is the sum of all streams whose
    /// number has bit `b`, and `partial_k` the sum of all.
    pub fn fold(&mut self, m: usize, fold: Fold<'_>) {
        assert!(fold.v.len() >= fold.height * m && fold.partial.len() >= (fold.height + 1) * m);
        let start = self.counter;
        self.counter += m as u64;
        self.key.key.fold(start.into(), m, fold);
    }

    /// The next block.
    pub fn next_block(&mut self) -> u128 {
        let mut b = [0];
        self.fill_blocks(&mut b);
        b[0]
    }

    /// The next blocks as bytes; what is left of the last block is thrown away.
    fn fill_bytes(&mut self, out: &mut [u8]) {
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
