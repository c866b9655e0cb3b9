//! Masked tables: what the sender of a 1-of-N OT puts on the wire, and how the receiver takes out its entry.
//!
//! Rotations and choices are secret: entries are moved by masks and in-register permutations, never by address.

use crate::{
    level::{Level, level},
    ring::RingWord,
};

/// The sender's masked tables. Instance `i` uses unit `u = i % units` of `table`; with
/// `N = 2^(index_bits + xor_bits)`, slot `k` (low part `k_lo` of `index_bits` bits, high part `k_hi`) stands for entry
/// `e = ((k_lo + rot[i]) mod 2^index_bits) + 2^index_bits * (k_hi ^ xorv[i])`, and
/// `out[i * N + k] = table[u * N + e] - masks[i] + (pads[i * N + k] >> pad_shift) mod 2^width`,
/// with XOR in place of `-` and `+` if `xor`. An empty `rot` or `xorv` stands for zeros.
pub fn lut_send<W: RingWord>(
    table: &[W],
    units: usize,
    index_bits: u32,
    xor_bits: u32,
    rot: &[u16],
    xorv: &[u16],
    pads: &[u128],
    pad_shift: u32,
    masks: &[W],
    width: u32,
    xor: bool,
    out: &mut [W],
) {
    lut_send_at(level(), table, units, index_bits, xor_bits, rot, xorv, pads, pad_shift, masks, width, xor, out);
}

#[doc(hidden)]
pub fn lut_send_at<W: RingWord>(
    level: Level,
    table: &[W],
    units: usize,
    index_bits: u32,
    xor_bits: u32,
    rot: &[u16],
    xorv: &[u16],
    pads: &[u128],
    pad_shift: u32,
    masks: &[W],
    width: u32,
    xor: bool,
    out: &mut [W],
) {
    let (n, bits) = (masks.len(), index_bits + xor_bits);
    assert!(bits <= 16 && width >= 1 && width <= <W as RingWord>::BITS && pad_shift + width <= 128);
    assert_eq!(table.len(), units << bits);
    assert_eq!(out.len(), n << bits);
    assert_eq!(pads.len(), n << bits);
    assert!(rot.is_empty() || rot.len() == n);
    assert!(xorv.is_empty() || xorv.len() == n);
    let _ = level.checked();
    lut_send_portable(table, units, index_bits, xor_bits, rot, xorv, pads, pad_shift, masks, width, xor, out);
}

fn lut_send_portable<W: RingWord>(
    table: &[W],
    units: usize,
    index_bits: u32,
    xor_bits: u32,
    rot: &[u16],
    xorv: &[u16],
    pads: &[u128],
    pad_shift: u32,
    masks: &[W],
    width: u32,
    xor: bool,
    out: &mut [W],
) {
    let bits = index_bits + xor_bits;
    let m = W::mask(width);
    let low = 1usize << index_bits;
    let mut t = vec![W::zero(); 1 << bits];
    let mut spare = vec![W::zero(); low];
    for (i, &mask) in masks.iter().enumerate() {
        t.copy_from_slice(&table[(i % units) << bits..][..1 << bits]);
        if let Some(&v) = xorv.get(i) {
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
        if let Some(&r) = rot.get(i) {
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
        let pads = &pads[i << bits..][..1 << bits];
        for ((o, t), p) in out[i << bits..][..1 << bits].iter_mut().zip(&t).zip(pads) {
            let p = W::from_u128(p >> pad_shift);
            *o = if xor { *t ^ mask ^ p } else { t.wsub(mask).wadd(p) } & m;
        }
    }
}

levels! {
    /// The receiver's entries: with `N = 2^index_bits_total`,
    /// `out[i] = entries[i * N + choice[i]] - (pads[i] >> pad_shift) mod 2^width`, with XOR in place of `-` if `xor`.
    pub fn lut_recv, lut_recv_at<W>(
        entries: &[W],
        index_bits_total: u32,
        choice: &[u16],
        pads: &[u128],
        pad_shift: u32,
        width: u32,
        xor: bool,
        out: &mut [W],
    ) {
        let n = out.len();
        assert!(index_bits_total <= 16 && pad_shift < 128);
        assert_eq!(entries.len(), n << index_bits_total);
        assert!([choice.len(), pads.len()] == [n; 2]);
        let m = W::mask(width);
        for i in 0..n {
            let entries = &entries[i << index_bits_total..][..1 << index_bits_total];
            let mut e = W::zero();
            for (k, x) in entries.iter().enumerate() {
                e |= *x & W::splat(k as u16 == choice[i]);
            }
            let p = W::from_u128(pads[i] >> pad_shift);
            out[i] = if xor { e ^ p } else { e.wsub(p) } & m;
        }
    }
}

/// A statement about the low `bits` bits of the sum of two digits: `(carry, bits, view)`. `carry`: the sum reaches
/// `2^bits`; otherwise: the sum is `2^bits - 1`. `view` says which of the sender's digits takes part.
pub type LeafFlag = (bool, u8, u8);

/// The sender's masked flags of comparison leaves. With `N = 2^digit_bits`, slot `k` of instance `i` stands for the
/// receiver's digit `j = (k + delta[i]) mod N`; flag `f` of it is the statement `flags[f]` about
/// `views[view][i]` and `j`, XORed with bit `f` of `masks[i]` and bit `f` of `pads[i * N + k]`. Output is flag-major:
/// flag `f` is a dense section of `n * N` bits from word `f * ceil(n N / 64)` on.
pub fn leaf_send(
    digit_bits: u32,
    flags: &[LeafFlag],
    views: &[&[u8]],
    delta: &[u8],
    pads: &[u128],
    masks: &[u8],
    out: &mut [u64],
) {
    leaf_send_at(level(), digit_bits, flags, views, delta, pads, masks, out);
}

#[doc(hidden)]
pub fn leaf_send_at(
    level: Level,
    digit_bits: u32,
    flags: &[LeafFlag],
    views: &[&[u8]],
    delta: &[u8],
    pads: &[u128],
    masks: &[u8],
    out: &mut [u64],
) {
    let n = masks.len();
    assert!((1..=8).contains(&digit_bits) && flags.len() <= 8);
    assert!(flags.iter().all(|&(_, t, v)| 1 <= t && u32::from(t) <= digit_bits && usize::from(v) < views.len()));
    assert!(views.iter().all(|v| v.len() == n) && delta.len() == n && pads.len() == n << digit_bits);
    assert_eq!(out.len(), flags.len() * (n << digit_bits).div_ceil(64));
    let _ = level.checked();
    leaf_send_portable(digit_bits, flags, views, delta, pads, masks, out);
}

fn leaf_send_portable(
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

levels! {
    /// The receiver's flags: bit `i` of plane `f` (at word `f * ceil(n / 64)`) is bit `i * N + choice[i]` of flag
    /// `f`'s section, XORed with bit `f` of `pads[i]`.
    pub fn leaf_recv, leaf_recv_at(
        digit_bits: u32,
        n_flags: usize,
        section: &[u64],
        choice: &[u8],
        pads: &[u128],
        out: &mut [u64],
    ) {
        let n = choice.len();
        let plane = (n << digit_bits).div_ceil(64);
        assert!((1..=8).contains(&digit_bits) && n_flags <= 8 && pads.len() == n);
        assert_eq!(section.len(), n_flags * plane);
        assert_eq!(out.len(), n_flags * n.div_ceil(64));
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
