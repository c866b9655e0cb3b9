//! Values of a register and how a party holds them: integers as vectors of ring elements or bit planes, and back.

use crate::program::Ty;
use sirnn_backends::inst::Ring;
use sirnn_backends::vector::{Bits, Vector};

/// The low `width` bits, `1..=64`.
pub(super) fn mask(width: u32) -> u64 {
    if width == 64 { u64::MAX } else { (1 << width) - 1 }
}

/// Values as a vector of the given type.
pub fn encode(ty: &Ty, values: &[i128]) -> Vector {
    match ty.ring {
        Ring::Add(w) => Vector::from_u64s(u32::from(w), values.iter().map(|&v| v as u64)),
        Ring::Xor(k) => {
            let mut bits = Bits::zero(usize::from(k), values.len());
            for (i, v) in values.iter().enumerate() {
                for p in 0..usize::from(k) {
                    bits.set(p, i, v >> p & 1 == 1);
                }
            }
            Vector::Bits(bits)
        }
    }
}

/// The words of a register: elements, or planes put together as numbers.
pub fn words(v: &Vector) -> Vec<u64> {
    match v {
        Vector::Bits(b) => (0..b.len).map(|i| (0..b.planes).map(|p| u64::from(b.get(p, i)) << p).sum()).collect(),
        v => v.to_u64s(),
    }
}

/// Puts two shares together.
pub fn combine(ring: Ring, a: &Vector, b: &Vector) -> Vec<u64> {
    let pairs = words(a).into_iter().zip(words(b));
    match ring {
        Ring::Add(w) => pairs.map(|(a, b)| a.wrapping_add(b) & mask(w.into())).collect(),
        Ring::Xor(_) => pairs.map(|(a, b)| a ^ b).collect(),
    }
}

/// Checks the values of one input against its declaration.
///
/// # Errors
/// Their number is not the declared one, or one lies outside the declared range.
pub fn check_range(name: &str, ty: &Ty, v: &[i128]) -> Result<(), String> {
    if v.len() != ty.len {
        return Err(format!("'{name}' has {} values, {} expected", v.len(), ty.len));
    }
    match v.iter().position(|x| *x < ty.lo || *x > ty.hi) {
        Some(i) => Err(format!("'{name}' has a value outside {}..={} at position {i}", ty.lo, ty.hi)),
        None => Ok(()),
    }
}
