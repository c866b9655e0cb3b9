//! The protocols: ordinary functions that describe what the two parties do.
//!
//! | module | functions | paper |
//! |---|---|---|
//! | [`carries`] | wrap, carries, zero tests: one carry tree | III-C, IV-A |
//! | [`compare`] | millionaires', equality, wrap, gates, selection | III-A, III-C, IV-A |
//! | [`bits`], [`sign`] | AND, B2A, MUX; sign | III-A |
//! | [`truncation`] | truncate-and-reduce, shifts, division by powers of two in three roundings, extension | IV-A, IV-B |
//! | [`rescale`] | shift, wrap, shift and change of ring in one truncation | IV-B |
//! | [`product`] | mixed-width products, squares | IV-C |
//! | [`linear`], [`conv`] | matrix products and convolutions with server-owned weights | IV-C |
//! | [`matmul_shared`] | products of shared matrices | IV-C |
//! | [`lookup`] | tables at a shared index, public or the server's; digit decomposition | III-A, IV-D |
//! | [`msnzb`] | most significant non-zero bit: index, one-hot; shifts by secret bits | IV-E |
//! | [`exp`], [`reciprocal`], [`division`], [`sigmoid`], [`roots`] | math functions | V |
//! | [`nearest`] | any function rounded to the nearest, as a table | |
//! | [`activation`] | ReLU, ReLU6 | |
//! | [`select`], [`pool`] | argmax, max, maxpool, average pool, public division | |
//! | [`normalise`] | sums with rescaling, batch and L2 normalisation | |

pub mod activation;
pub mod basic;
pub mod bits;
pub mod carries;
pub mod compare;
pub mod conv;
pub mod division;
pub mod exp;
pub mod linear;
pub mod lookup;
pub mod matmul_shared;
pub mod msnzb;
pub mod nearest;
pub mod normalise;
pub mod pool;
pub mod product;
pub mod reciprocal;
pub mod rescale;
pub mod roots;
pub mod select;
pub mod sigmoid;
pub mod sign;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_library;
#[cfg(test)]
mod tests_rescale;
pub mod truncation;
