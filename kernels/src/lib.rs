//! Vector kernels: one vector in, one vector out, per CPU feature.
//!
//! Every kernel exists as portable code and, where it pays, in versions for AES-NI/AVX2 and AVX-512/VAES/GFNI; the
//! [`Level`] is detected once. The portable version is the definition the others are tested against. Nothing here
//! knows of parties or protocols, and no kernel branches on or addresses memory by the *values* it is given, only by
//! lengths, widths and levels: all of them may be fed secrets.
//!
//! | module | kernels |
//! |---|---|
//! | [`aes`] | AES-128 on many blocks, counter-mode generator |
//! | [`hash`] | hash that turns OT rows into pads |
//! | [`transpose`] | 128-column bit matrix to rows |
//! | [`tree`] | GGM trees and sparse sums of silent OT |
//! | [`onehot`] | XOR-shared one-hot vectors, and what they pick from tables |
//! | [`pack`] | dense `w`-bit sections, the wire format |
//! | [`bits`] | bit planes |
//! | [`table`] | masked look-up tables and comparison leaves |
//! | [`cross`] | message assembly of correlated OT |
//! | [`matmul`] | matrix product mod `2^w` |
//! | [`ops`] | element-wise ring arithmetic |
//! | [`ntt`] | polynomials modulo a prime and `X^n + 1` |
//! | [`limbs`] | long numbers times small weights |
//! | [`sample`] | small random numbers |
//! | [`memory`] | (no kernel) room for large vectors |

// Kernels take lengths, widths and every operand apart: a struct per call would only rename the arguments.
#![allow(clippy::too_many_arguments)]

#[macro_use]
mod arch;
mod level;

pub mod aes;
pub mod bits;
pub mod cross;
pub mod hash;
pub mod limbs;
pub mod matmul;
pub mod memory;
pub mod ntt;
pub mod onehot;
pub mod ops;
pub mod pack;
pub mod ring;
pub mod sample;
pub mod table;
pub mod transpose;
pub mod tree;

pub use level::{Level, available, detected, level, override_note};
pub use ring::{RingWord, storage_bits};
