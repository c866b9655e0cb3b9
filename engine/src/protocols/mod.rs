//! The protocols: ordinary functions that describe what the two parties do.
//!
//! | module | functions | paper |
//! |---|---|---|
//! | [`carries`] | millionaires', wrap, equality, MSB: one carry tree | III-C, IV-A |
//! | [`bits`] | AND, B2A, MUX, sign | III-A |
//! | [`shift`] | extension, truncate-and-reduce, shifts, toward-zero division | IV-A, IV-B |
//! | [`product`] | mixed-width products | IV-C |
//! | [`linear`] | matrix products with server-owned weights | IV-C |
//! | [`lookup`] | tables at a shared index, digit decomposition | III-A, IV-D |
//! | [`exp`], [`reciprocal`], [`sigmoid`] | math functions | V |
//! | [`select`] | argmax | |

pub mod activation;
pub mod basic;
pub mod bits;
pub mod carries;
pub mod compare;
pub mod division;
pub mod exp;
pub mod linear;
pub mod lookup;
pub mod msnzb;
pub mod pool;
pub mod product;
pub mod reciprocal;
pub mod roots;
pub mod select;
pub mod shift;
pub mod sigmoid;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_library;
