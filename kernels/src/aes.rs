//! AES-128 on many blocks at once, and a generator made from it.
//!
//! A block is a `u128`: byte `i` of the block is bits `8i..8i + 8`.

use crate::{
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

enum Schedule {
    /// Constant-time code of the `aes` crate (fixsliced, or the CPU's AES if that crate finds it).
    Portable(::aes::Aes128),
}

impl AesKey {
    /// Expands `key`.
    pub fn new(key: u128) -> Self {
        Self::new_at(level(), key)
    }

    #[doc(hidden)]
    pub fn new_at(level: Level, key: u128) -> Self {
        let schedule = Schedule::Portable(::aes::Aes128::new(&Array::from(key.to_le_bytes())));
        Self { level: level.checked(), schedule }
    }

    /// Encrypts every block in place.
    pub fn encrypt_blocks(&self, blocks: &mut [u128]) {
        match &self.schedule {
            Schedule::Portable(aes) => portable_encrypt(aes, blocks),
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

fn portable_encrypt(aes: &::aes::Aes128, blocks: &mut [u128]) {
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
        for (i, o) in out.iter_mut().enumerate() {
            *o = u128::from(self.counter + i as u64);
        }
        self.counter += out.len() as u64;
        self.key.encrypt_blocks(out);
    }

    /// The next block.
    pub fn next_block(&mut self) -> u128 {
        let mut b = [0];
        self.fill_blocks(&mut b);
        b[0]
    }

    /// The next blocks as bytes; what is left of the last block is thrown away.
    pub fn fill_bytes(&mut self, out: &mut [u8]) {
        const CHUNK: usize = 64;
        let mut blocks = [0u128; CHUNK];
        for part in out.chunks_mut(16 * CHUNK) {
            let used = &mut blocks[..part.len().div_ceil(16)];
            self.fill_blocks(used);
            if cfg!(target_endian = "big") {
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
            let m = W::mask(width);
            out.iter_mut().for_each(|x| *x = x.le_to_native() & m);
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
    fn debug_shows_no_key() {
        let p = Prg::new(0x1234_5678);
        assert_eq!(format!("{p:?}"), "Prg { .. }");
    }
}
