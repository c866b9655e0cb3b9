//! Exact sums of products: in 64 bits where a bound on them allows it, else in 128.

use std::ops::{AddAssign, Mul};

/// What sums are kept in.
pub(super) trait Sum: Copy + From<i64> + Into<i128> + Mul<Output = Self> + AddAssign + Send + Sync {}
impl Sum for i64 {}
impl Sum for i128 {}

/// `sums += row * weights` for each group of channels: `row` holds `groups` parts, which meet one after the other the same number of
/// consecutive sums. `weights` has a row of `sums.len()` numbers for each channel of a group.
pub(super) fn add_row<S: Sum>(sums: &mut [S], row: &[i64], weights: &[i64], groups: usize) {
    let (all, per_group, sums_per_group) = (sums.len(), row.len() / groups, sums.len() / groups);
    for (g, (sums, row)) in sums.chunks_exact_mut(sums_per_group).zip(row.chunks_exact(per_group)).enumerate() {
        for (&x, weights) in row.iter().zip(weights.chunks_exact(all)) {
            let (x, weights) = (S::from(x), &weights[g * sums_per_group..][..sums_per_group]);
            for (sum, &w) in sums.iter_mut().zip(weights) {
                *sum += x * S::from(w);
            }
        }
    }
}

/// Whether sums that stay below `bound` fit 64 bits.
pub(super) fn fits_i64(bound: i128) -> bool {
    bound <= i64::MAX.into()
}
