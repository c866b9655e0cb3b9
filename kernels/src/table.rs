//! Masked tables: what the sender of a 1-of-N OT puts on the wire, and how the receiver takes out its entry.
//!
//! Rotations and choices are secret: entries are moved by masks and in-register permutations, never by address.

use crate::{
    arch::native,
    level::{Level, level},
    ring::RingWord,
};

/// What the sender of look-ups masks, for `n` instances of `N = 2^(index_bits + xor_bits)` slots each.
#[derive(Copy, Clone, Debug)]
pub struct LookupTables<'a, W> {
    /// `units` tables of `N` reduced entries; instance `i` uses unit `i % units`.
    pub tables: &'a [W],
    /// How many tables there are.
    pub units: usize,
    /// Low bits of an index, which a rotation moves.
    pub index_bits: u32,
    /// High bits of an index, which an XOR moves.
    pub xor_bits: u32,
    /// A secret rotation per instance; empty: none.
    pub rotations: &'a [u16],
    /// A secret XOR per instance; empty: none.
    pub xors: &'a [u16],
    /// `N` pads per instance.
    pub pads: &'a [u128],
    /// The bit of a pad from which on it is used.
    pub pad_shift: u32,
    /// The sender's share per instance, which is taken off all its entries.
    pub masks: &'a [W],
    /// Bits of an entry.
    pub width: u32,
    /// Whether shares add up by XOR, not mod `2^width`.
    pub xor: bool,
}

/// The sender's masked tables. Slot `k` (low part `k_lo` of `index_bits` bits, high part `k_hi`) of instance `i` stands for
/// entry `e = ((k_lo + rotations[i]) mod 2^index_bits) + 2^index_bits * (k_hi ^ xors[i])` of its unit `u`, and
/// `out[i * N + k] = tables[u * N + e] - masks[i] + (pads[i * N + k] >> pad_shift) mod 2^width`, with XOR in place of `-`
/// and `+` if `xor`.
pub fn lut_send<W: RingWord>(lookups: &LookupTables<'_, W>, out: &mut [W]) {
    lut_send_at(level(), lookups, out);
}

#[doc(hidden)]
pub fn lut_send_at<W: RingWord>(level: Level, lookups: &LookupTables<'_, W>, out: &mut [W]) {
    let (n, bits) = (lookups.masks.len(), lookups.index_bits + lookups.xor_bits);
    let (width, shift) = (lookups.width, lookups.pad_shift);
    assert!(bits <= 16 && width >= 1 && width <= <W as RingWord>::BITS && shift + width <= 128);
    assert_eq!(lookups.tables.len(), lookups.units << bits);
    assert_eq!(out.len(), n << bits);
    assert_eq!(lookups.pads.len(), n << bits);
    assert!(lookups.rotations.is_empty() || lookups.rotations.len() == n);
    assert!(lookups.xors.is_empty() || lookups.xors.len() == n);
    native::table::lut_send(level, lookups, out);
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

/// `out[i] = (pads[i] >> shift) mod 2^width`.
#[doc(hidden)]
pub fn low_words_at<W: RingWord>(level: Level, pads: &[u128], shift: u32, width: u32, out: &mut [W]) {
    assert!(pads.len() == out.len() && width <= <W as RingWord>::BITS && shift + width <= 128);
    native::table::low_words(level, pads, shift, width, out);
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
    native::table::leaf_send(level, digit_bits, flags, views, delta, pads, masks, out);
}

/// The receiver's flags: bit `i` of plane `f` (at word `f * ceil(n / 64)`) is bit `i * N + choice[i]` of flag `f`'s
/// section, XORed with bit `f` of `pads[i]`.
pub fn leaf_recv(digit_bits: u32, n_flags: usize, section: &[u64], choice: &[u8], pads: &[u128], out: &mut [u64]) {
    leaf_recv_at(level(), digit_bits, n_flags, section, choice, pads, out);
}

#[doc(hidden)]
pub fn leaf_recv_at(
    level: Level,
    digit_bits: u32,
    n_flags: usize,
    section: &[u64],
    choice: &[u8],
    pads: &[u128],
    out: &mut [u64],
) {
    let n = choice.len();
    assert!((1..=8).contains(&digit_bits) && n_flags <= 8 && pads.len() == n);
    assert_eq!(section.len(), n_flags * (n << digit_bits).div_ceil(64));
    assert_eq!(out.len(), n_flags * n.div_ceil(64));
    native::table::leaf_recv(level, digit_bits, n_flags, section, choice, pads, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available};

    fn random<W: RingWord>(seed: u128, width: u32, n: usize) -> Vec<W> {
        let mut v = vec![W::zero(); n];
        Prg::new(seed).fill_words(width, &mut v);
        v
    }

    fn pads(n: usize) -> Vec<u128> {
        let mut v = vec![0; n];
        Prg::new(99).fill_blocks(&mut v);
        v
    }

    fn luts<W: RingWord>() {
        let word = <W as RingWord>::BITS;
        for l in available() {
            for (index_bits, xor_bits) in [
                (0, 0),
                (0, 1),
                (1, 0),
                (2, 1),
                (4, 0),
                (3, 2),
                (0, 6),
                (6, 0),
                (8, 0),
                (4, 4),
                (2, 6),
                (7, 2),
                (10, 0),
            ] {
                let bits = index_bits + xor_bits;
                for (case, (units, n)) in
                    [(1, 0), (1, 1), (2, 3), (3, 8), (1, 33), (5, 67), (40, 70)].into_iter().enumerate()
                {
                    let width = [word, word - 1, word / 2, 1][case % 4];
                    let shift = [0, 8, 3, 61, 64, 120 - word, 128 - word][case];
                    let table: Vec<W> = random(1, width, units << bits);
                    let masks: Vec<W> = random(2, width, n);
                    let mut rot: Vec<u16> = random(3, index_bits, n);
                    let mut xorv: Vec<u16> = random(4, xor_bits, n);
                    if index_bits == 0 {
                        rot.clear();
                    }
                    if xor_bits == 0 {
                        xorv.clear();
                    }
                    let pads = pads(n << bits);
                    for xor in [false, true] {
                        let mut got = vec![W::max_value(); n << bits];
                        let lookups = LookupTables {
                            tables: &table,
                            units,
                            index_bits,
                            xor_bits,
                            rotations: &rot,
                            xors: &xorv,
                            pads: &pads,
                            pad_shift: shift,
                            masks: &masks,
                            width,
                            xor,
                        };
                        lut_send_at(l, &lookups, &mut got);
                        for i in 0..n {
                            let (r, v) = (rot.get(i).copied().unwrap_or(0), xorv.get(i).copied().unwrap_or(0));
                            for k in 0..1 << bits {
                                let low = (1 << index_bits) - 1;
                                let e =
                                    ((k + usize::from(r)) & low) + (((k >> index_bits) ^ usize::from(v)) << index_bits);
                                let t = table[((i % units) << bits) + e];
                                let p = W::from_u128(pads[(i << bits) + k] >> shift);
                                let want =
                                    if xor { t ^ masks[i] ^ p } else { t.wsub(masks[i]).wadd(p) } & W::mask(width);
                                assert_eq!(
                                    got[(i << bits) + k],
                                    want,
                                    "{l:?} u{word} {index_bits}+{xor_bits} n={n} {i} {k}"
                                );
                            }
                        }
                        // The receiver undoes it, up to the mask.
                        let choice: Vec<u16> = random(5, bits, n);
                        let mine: Vec<u128> = (0..n).map(|i| pads[(i << bits) + usize::from(choice[i])]).collect();
                        let mut back = vec![W::max_value(); n];
                        lut_recv_at(l, &got, bits, &choice, &mine, shift, width, xor, &mut back);
                        for i in 0..n {
                            let (e, p) = (got[(i << bits) + usize::from(choice[i])], W::from_u128(mine[i] >> shift));
                            assert_eq!(back[i], if xor { e ^ p } else { e.wsub(p) } & W::mask(width));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn luts_u8() {
        luts::<u8>();
    }
    #[test]
    fn luts_u16() {
        luts::<u16>();
    }
    #[test]
    fn luts_u32() {
        luts::<u32>();
    }
    #[test]
    fn luts_u64() {
        luts::<u64>();
    }

    #[test]
    fn leaves() {
        for l in available() {
            for digit in 1..=8u32 {
                for n in (0..20).chain([63, 64, 65, 130]) {
                    let flags: Vec<LeafFlag> = (0..8u8)
                        .map(|f| {
                            (
                                f % 2 == 0,
                                [digit as u8, 1, digit as u8, digit.div_ceil(2) as u8][usize::from(f / 2)],
                                f / 3,
                            )
                        })
                        .collect();
                    let views: Vec<Vec<u8>> = (0..3).map(|s| random(s, digit, n)).collect();
                    let views: Vec<&[u8]> = views.iter().map(|v| v.as_slice()).collect();
                    let delta: Vec<u8> = random(10, digit, n);
                    let masks: Vec<u8> = random(11, 8, n);
                    let pads = pads(n << digit);
                    let plane = (n << digit).div_ceil(64);
                    let mut section = vec![u64::MAX; 8 * plane];
                    leaf_send_at(l, digit, &flags, &views, &delta, &pads, &masks, &mut section);
                    let wanted = |f: usize, i: usize, k: usize| {
                        let (carry, t, view) = flags[f];
                        let j = (k + usize::from(delta[i])) % (1 << digit);
                        let sum = usize::from(views[usize::from(view)][i]) % (1 << t) + j % (1 << t);
                        let flag = if carry { sum >= 1 << t } else { sum == (1 << t) - 1 };
                        u64::from(flag) ^ u64::from(masks[i] >> f & 1)
                    };
                    for f in 0..8 {
                        let section = &section[f * plane..][..plane];
                        for s in 0..n << digit {
                            let (i, k) = (s >> digit, s % (1 << digit));
                            let bit = (section[s / 64] >> (s % 64) & 1) ^ (pads[s] >> f & 1) as u64;
                            assert_eq!(bit, wanted(f, i, k), "{l:?} digit={digit} n={n} flag {f} {i} {k}");
                        }
                        assert!((n << digit) % 64 == 0 || section[plane - 1] >> ((n << digit) % 64) == 0);
                    }
                    let choice: Vec<u8> = random(12, digit, n);
                    let mine: Vec<u128> = (0..n).map(|i| pads[(i << digit) + usize::from(choice[i])]).collect();
                    let words = n.div_ceil(64);
                    let mut out = vec![u64::MAX; 8 * words];
                    leaf_recv_at(l, digit, 8, &section, &choice, &mine, &mut out);
                    for f in 0..8 {
                        for i in 0..64 * words {
                            let want = if i < n { wanted(f, i, usize::from(choice[i])) } else { 0 };
                            assert_eq!(out[f * words + i / 64] >> (i % 64) & 1, want);
                        }
                    }
                }
            }
        }
    }
}
