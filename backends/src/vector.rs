//! The contents of a register: a vector of ring elements in the narrowest words that hold them, or bit planes.
//!
//! Registers hold shares, masks and inputs. They are wiped when dropped.

pub use sirnn_kernels::ring::storage_bits;

use crate::with_words;
use sirnn_kernels::memory::wipe;

/// Bit planes: `planes` vectors of `len` bits each. Bit `i` of plane `p` is bit `i % 64` of word
/// `p * words_per_plane + i / 64`. Bits behind `len` in a plane's last word are zero.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bits {
    /// Number of bit vectors.
    pub planes: usize,
    /// Bits in each.
    pub len: usize,
    /// `planes * words_per_plane()` words, plane after plane.
    pub words: Vec<u64>,
}

impl Bits {
    /// All zero.
    pub fn zero(planes: usize, len: usize) -> Self {
        Self { planes, len, words: vec![0; planes * len.div_ceil(64)] }
    }

    /// Words that one plane takes.
    pub fn words_per_plane(&self) -> usize {
        self.len.div_ceil(64)
    }

    /// The words of plane `p`.
    pub fn plane(&self, p: usize) -> &[u64] {
        let n = self.words_per_plane();
        &self.words[p * n..(p + 1) * n]
    }

    /// The words of plane `p`, to write. Bits behind `len` must stay zero: see [`Bits::clear_tail`].
    pub fn plane_mut(&mut self, p: usize) -> &mut [u64] {
        let n = self.words_per_plane();
        &mut self.words[p * n..(p + 1) * n]
    }

    /// Bit `i` of plane `p`.
    pub fn get(&self, p: usize, i: usize) -> bool {
        self.plane(p)[i / 64] >> (i % 64) & 1 == 1
    }

    /// Sets bit `i` of plane `p`.
    pub fn set(&mut self, p: usize, i: usize, bit: bool) {
        let w = &mut self.plane_mut(p)[i / 64];
        *w = *w & !(1 << (i % 64)) | (u64::from(bit) << (i % 64));
    }

    /// Zeroes the bits behind `len` in every plane.
    pub fn clear_tail(&mut self) {
        let tail = self.len % 64;
        if tail != 0 {
            let n = self.words_per_plane();
            for p in 0..self.planes {
                self.words[p * n + n - 1] &= (1 << tail) - 1;
            }
        }
    }
}

impl Drop for Bits {
    fn drop(&mut self) {
        wipe(&mut self.words);
    }
}

/// A register's contents. Words hold values reduced to the register's bitwidth in their low bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vector {
    /// Widths 1..=8.
    U8(Vec<u8>),
    /// Widths 9..=16.
    U16(Vec<u16>),
    /// Widths 17..=32.
    U32(Vec<u32>),
    /// Widths 33..=64.
    U64(Vec<u64>),
    /// XOR-ring values: bit planes.
    Bits(Bits),
}

impl Drop for Vector {
    fn drop(&mut self) {
        match self {
            Vector::Bits(_) => {} // wipes itself
            words => with_words!(words, xs => wipe(xs)),
        }
    }
}

/// Runs `$body` with `$xs` bound to the word vector inside `$v`, whatever its word; panics on [`Vector::Bits`].
#[macro_export]
macro_rules! with_words {
    ($v:expr, $xs:ident => $body:expr) => {
        match $v {
            $crate::vector::Vector::U8($xs) => $body,
            $crate::vector::Vector::U16($xs) => $body,
            $crate::vector::Vector::U32($xs) => $body,
            $crate::vector::Vector::U64($xs) => $body,
            $crate::vector::Vector::Bits(_) => unreachable!("ring words expected, bit planes found"),
        }
    };
}

/// Runs `$body` with `$W` the word type that stores `$width` bits.
#[macro_export]
macro_rules! with_word_type {
    ($width:expr, $W:ident => $body:expr) => {
        match $crate::vector::storage_bits($width as u32) {
            8 => {
                type $W = u8;
                $body
            }
            16 => {
                type $W = u16;
                $body
            }
            32 => {
                type $W = u32;
                $body
            }
            _ => {
                type $W = u64;
                $body
            }
        }
    };
}

/// A word type that [`Vector`] can hold.
pub trait VectorWord: sirnn_kernels::ring::RingWord {
    /// Wraps words.
    fn wrap(words: Vec<Self>) -> Vector;
    /// The words inside, if they are of this type.
    fn of(v: &Vector) -> &[Self];
}

macro_rules! vector_word {
    ($($w:ty => $variant:ident),*) => {$(
        impl VectorWord for $w {
            fn wrap(words: Vec<Self>) -> Vector {
                Vector::$variant(words)
            }
            fn of(v: &Vector) -> &[Self] {
                match v {
                    Vector::$variant(words) => words,
                    _ => unreachable!("a {}-bit register was expected", <$w>::BITS),
                }
            }
        }
    )*};
}
vector_word!(u8 => U8, u16 => U16, u32 => U32, u64 => U64);

impl Vector {
    /// Elements (bits per plane for bit planes).
    pub fn len(&self) -> usize {
        match self {
            Vector::Bits(b) => b.len,
            v => with_words!(v, xs => xs.len()),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap memory that `len` elements of `width` bits take.
    pub fn heap_bytes(width: u32, len: usize) -> usize {
        len * storage_bits(width) as usize / 8
    }

    /// The bit planes; panics on ring words.
    pub fn bits(&self) -> &Bits {
        match self {
            Vector::Bits(b) => b,
            _ => unreachable!("bit planes expected, ring words found"),
        }
    }

    /// From 64-bit values, reduced to `width` bits.
    pub fn from_u64s(width: u32, values: impl IntoIterator<Item = u64>) -> Vector {
        use sirnn_kernels::ring::RingWord;
        with_word_type!(width, W => {
            let m = W::mask(width);
            W::wrap(values.into_iter().map(|x| W::from_u64(x) & m).collect())
        })
    }

    /// Element `i` as 64 bits; panics on bit planes.
    pub fn get(&self, i: usize) -> u64 {
        use sirnn_kernels::ring::RingWord;
        with_words!(self, xs => xs[i].to_u64())
    }

    /// All elements as 64-bit values; panics on bit planes.
    pub fn to_u64s(&self) -> Vec<u64> {
        use sirnn_kernels::ring::RingWord;
        with_words!(self, xs => xs.iter().map(|x| x.to_u64()).collect())
    }
}
