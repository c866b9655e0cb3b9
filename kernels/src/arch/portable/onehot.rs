//! Sums of table entries that a bit vector takes.

use crate::{level::Level, ring::RingWord};

/// See [`crate::onehot::pick_add`].
pub(crate) fn pick_add<W: RingWord>(_: Level, vector: &[u64], table: &[W]) -> W {
    table.chunks(64).zip(vector).fold(W::zero(), |sum, (t, e)| {
        t.iter().enumerate().fold(sum, |sum, (i, t)| sum.wadd(*t & W::splat(e >> i & 1 == 1)))
    })
}
