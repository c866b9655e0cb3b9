//! AES by the `aes` crate: constant-time code (fixsliced, or the CPU's AES if that crate finds it).

use crate::{aes::Fold, bits::xor_blocks_at, level::Level, onehot::correct_leaves_at};
use ::aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// An expanded key. The crate wipes it.
pub(crate) struct Key(::aes::Aes128Enc);

impl Key {
    pub(crate) fn new(_: Level, key: u128) -> Self {
        Self(::aes::Aes128Enc::new(&Array::from(key.to_le_bytes())))
    }

    /// See [`crate::aes::AesKey::encrypt_blocks`].
    pub(crate) fn encrypt(&self, blocks: &mut [u128]) {
        if cfg!(target_endian = "big") {
            blocks.iter_mut().for_each(|b| *b = b.swap_bytes());
        }
        let (arrays, rest) = ::aes::Block::slice_as_chunks_mut(bytemuck::cast_slice_mut(blocks));
        debug_assert!(rest.is_empty());
        self.0.encrypt_blocks(arrays);
        if cfg!(target_endian = "big") {
            blocks.iter_mut().for_each(|b| *b = b.swap_bytes());
        }
    }

    /// `out[i]` = encryption of `start + i`, where the sum is that of the low 64 bits, without a carry into the others.
    pub(crate) fn counter(&self, start: u128, out: &mut [u128]) {
        let high = start & !u128::from(u64::MAX);
        out.iter_mut().enumerate().for_each(|(i, o)| *o = high | u128::from((start as u64).wrapping_add(i as u64)));
        self.encrypt(out);
    }

    /// See [`crate::aes::Prg::fold`].
    pub(crate) fn fold(&self, start: u128, m: usize, sums: Fold<'_>) {
        fold(Level::Portable, |x| self.counter(start, x), m, sums);
    }

    /// See [`crate::tree::grow`].
    pub(crate) fn grow(&self, parents: &mut [u128], others: &mut [u128]) {
        for (p, o) in parents.iter_mut().zip(others) {
            let s = (*p << 64) ^ ((*p >> 64) << 64) ^ (*p >> 64);
            let mut y = [s];
            self.encrypt(&mut y);
            let child = y[0] ^ s;
            *o = *p ^ child;
            *p = child;
        }
    }

    /// See [`crate::onehot::hash_nodes`].
    pub(crate) fn hash_nodes(&self, nodes: &[u128], out: &mut [u128]) {
        let sigma = |x: u128| (x << 64) ^ ((x >> 64) << 64) ^ (x >> 64);
        out.iter_mut().zip(nodes).for_each(|(o, x)| *o = sigma(*x));
        self.encrypt(out);
        out.iter_mut().zip(nodes).for_each(|(o, x)| *o ^= sigma(*x));
    }

    /// See [`crate::onehot::leaves`].
    pub(crate) fn leaves(&self, nodes: &[u128], c: u128, out: &mut [u128]) {
        self.hash_nodes(nodes, out);
        correct_leaves_at(Level::Portable, nodes, nodes.len(), &[c], out);
    }

    /// See [`crate::onehot::half_level`].
    pub(crate) fn half_level(&self, nodes: &[u128], c: u128, left: &mut [u128], right: &mut [u128]) {
        self.leaves(nodes, c, left);
        right.iter_mut().zip(nodes).zip(left).for_each(|((r, s), l)| *r = s ^ *l);
    }
}

/// [`Key::fold`] for a generator whose next blocks `next` makes.
pub(crate) fn fold(level: Level, next: impl FnOnce(&mut [u128]), m: usize, sums: Fold<'_>) {
    let (done, rest) = sums.partial.split_at_mut(sums.height * m);
    let x = &mut rest[..m];
    next(x);
    for (b, v) in sums.v.chunks_exact_mut(m.max(1)).enumerate().take(sums.height) {
        if b + 1 == sums.height && sums.first {
            v.fill(0);
        }
        xor_blocks_at(level, v, x);
        xor_blocks_at(level, x, &done[b * m..][..m]);
    }
}

/// `out[i * N + j] = F(position + i, rows[i] ^ offsets[j])` with `N = offsets.len()` and the hash of [`crate::hash`], whose
/// keys are `key ^ position`.
pub(crate) fn hash(level: Level, key: u128, position: u64, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
    for ((out, row), t) in out.chunks_exact_mut(offsets.len()).zip(rows).zip(position..) {
        out.iter_mut().zip(offsets).for_each(|(out, offset)| *out = row ^ offset);
        Key::new(level, key ^ u128::from(t)).encrypt(out);
        out.iter_mut().zip(offsets).for_each(|(out, offset)| *out ^= row ^ offset);
    }
}

/// `zero[i] = F(position + i, rows[i])`, `one[i] = F(position + i, rows[i] ^ delta)`: see [`hash`].
pub(crate) fn hash_pairs(
    level: Level,
    key: u128,
    position: u64,
    rows: &[u128],
    delta: u128,
    zero: &mut [u128],
    one: &mut [u128],
) {
    for (((row, zero), one), t) in rows.iter().zip(zero).zip(one).zip(position..) {
        let mut both = [0; 2];
        hash(level, key, t, &[*row], &[0, delta], &mut both);
        [*zero, *one] = both;
    }
}
