//! Masked tables and comparison leaves.

use crate::{
    level::Level,
    ring::RingWord,
    table::{LeafFlag, LookupTables},
};

/// See [`crate::table::low_words`].
pub(crate) fn low_words<W: RingWord>(_: Level, pads: &[u128], shift: u32, width: u32, out: &mut [W]) {
    let m = W::mask(width);
    out.iter_mut().zip(pads).for_each(|(o, p)| *o = W::from_u128(p >> shift) & m);
}

levels! {
    /// See [`crate::table::lut_send`].
    pub(crate) fn lut_send<W>(lookups: &LookupTables<'_, W>, out: &mut [W]) {
        let LookupTables { index_bits, xor_bits, width, .. } = *lookups;
    let bits = index_bits + xor_bits;
    let m = W::mask(width);
    let low = 1usize << index_bits;
    let mut t = vec![W::zero(); 1 << bits];
    let mut spare = vec![W::zero(); low];
    for (i, &mask) in lookups.masks.iter().enumerate() {
        t.copy_from_slice(&lookups.tables[(i % lookups.units) << bits..][..1 << bits]);
        if let Some(&v) = lookups.xors.get(i) {
            for b in 0..xor_bits {
                let take = W::splat(v >> b & 1 == 1);
                for pair in t.chunks_exact_mut(low << (b + 1)) {
                    let (x, y) = pair.split_at_mut(low << b);
                    for (x, y) in x.iter_mut().zip(y) {
                        let d = (*x ^ *y) & take;
                        *x ^= d;
                        *y ^= d;
                    }
                }
            }
        }
        if let Some(&r) = lookups.rotations.get(i) {
            for b in 0..index_bits {
                let take = W::splat(r >> b & 1 == 1);
                for t in t.chunks_exact_mut(low) {
                    spare.copy_from_slice(t);
                    let (head, tail) = t.split_at_mut(low - (1 << b));
                    for (o, x) in head.iter_mut().zip(&spare[1 << b..]) {
                        *o ^= (*o ^ *x) & take;
                    }
                    for (o, x) in tail.iter_mut().zip(&spare[..1 << b]) {
                        *o ^= (*o ^ *x) & take;
                    }
                }
            }
        }
        let pads = &lookups.pads[i << bits..][..1 << bits];
        for ((o, t), p) in out[i << bits..][..1 << bits].iter_mut().zip(&t).zip(pads) {
            let p = W::from_u128(p >> lookups.pad_shift);
            *o = if lookups.xor { *t ^ mask ^ p } else { t.wsub(mask).wadd(p) } & m;
        }
    }
}

    /// See [`crate::table::leaf_send`].
    pub(crate) fn leaf_send(
    digit_bits: u32,
    flags: &[LeafFlag],
    views: &[&[u8]],
    delta: &[u8],
    pads: &[u128],
    masks: &[u8],
    out: &mut [u64],
) {
    let n = masks.len();
    let slots = n << digit_bits;
    let plane = slots.div_ceil(64);
    out.fill(0);
    for (f, &(carry, t, view)) in flags.iter().enumerate() {
        let (out, views) = (&mut out[f * plane..][..plane], views[usize::from(view)]);
        let m = (1u32 << t) - 1;
        for s in 0..slots {
            let i = s >> digit_bits;
            // The mod N of the slot's digit vanishes in the mod 2^t.
            let sum = (u32::from(views[i]) & m) + ((s as u32).wrapping_add(u32::from(delta[i])) & m);
            let flag = if carry { sum >> t } else { (sum.wrapping_add(1) >> t) & (sum >> t ^ 1) };
            let bit = flag ^ u32::from(masks[i] >> f) ^ (pads[s] >> f) as u32;
            out[s / 64] |= u64::from(bit & 1) << (s % 64);
        }
    }
}
    /// See [`crate::table::leaf_recv`].
    pub(crate) fn leaf_recv(
        digit_bits: u32,
        n_flags: usize,
        section: &[u64],
        choice: &[u8],
        pads: &[u128],
        out: &mut [u64],
    ) {
        let n = choice.len();
        let plane = (n << digit_bits).div_ceil(64);
        out.fill(0);
        for f in 0..n_flags {
            let section = &section[f * plane..][..plane];
            let out = &mut out[f * n.div_ceil(64)..][..n.div_ceil(64)];
            for i in 0..n {
                let c = u64::from(choice[i]);
                let bit = if digit_bits <= 6 {
                    section[(i << digit_bits) / 64] >> (((i << digit_bits) as u64 + c) & 63)
                } else {
                    let words = 1 << (digit_bits - 6);
                    let w = (0..words).fold(0, |w, k| {
                        w | (section[i * words + k] & u64::splat(c >> 6 == k as u64))
                    });
                    w >> (c & 63)
                };
                out[i / 64] |= ((bit ^ (pads[i] >> f) as u64) & 1) << (i % 64);
            }
        }
    }
}
