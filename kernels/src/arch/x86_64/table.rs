//! Masked tables and comparison leaves.
//!
//! Tables are moved as bytes: a rotation by `r` words is one by `r * size` bytes. Whole registers change places by
//! masked loads; the rest is one `vpermb`, whose index may be secret.

use super::*;
use crate::{
    arch::portable,
    ring::RingWord,
    table::{LeafFlag, LookupTables},
};
use std::marker::PhantomData;

/// See [`crate::table::lut_send`]; lengths are checked there.
pub(crate) fn lut_send<W: RingWord>(level: Level, lookups: &LookupTables<'_, W>, out: &mut [W]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 => unsafe { lut_send_avx512(lookups, out) },
        _ => portable::table::lut_send(level, lookups, out),
    }
}

/// See [`crate::table::low_words`].
pub(crate) fn low_words<W: RingWord>(level: Level, pads: &[u128], shift: u32, width: u32, out: &mut [W]) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 => unsafe { low_words_avx512(pads, shift, width, out) },
        _ => portable::table::low_words(level, pads, shift, width, out),
    }
}

/// See [`crate::table::leaf_send`]; lengths are checked there.
pub(crate) fn leaf_send(
    level: Level,
    digit_bits: u32,
    flags: &[LeafFlag],
    views: &[&[u8]],
    delta: &[u8],
    pads: &[u128],
    masks: &[u8],
    out: &mut [u64],
) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 => unsafe { leaf_send_avx512(digit_bits, flags, views, delta, pads, masks, out) },
        _ => portable::table::leaf_send(level, digit_bits, flags, views, delta, pads, masks, out),
    }
}

/// See [`crate::table::leaf_recv`]; lengths are checked there.
pub(crate) fn leaf_recv(
    level: Level,
    digit_bits: u32,
    n_flags: usize,
    section: &[u64],
    choice: &[u8],
    pads: &[u128],
    out: &mut [u64],
) {
    match level.checked() {
        // SAFETY: `checked` has made sure that the CPU has the level's features.
        Level::Avx512 if digit_bits <= 6 => unsafe {
            leaf_recv_avx512(digit_bits, n_flags, section, choice, pads, out)
        },
        _ => portable::table::leaf_recv(level, digit_bits, n_flags, section, choice, pads, out),
    }
}

/// Takes the low words of many 128-bit pads, shifted right.
pub(super) struct Pads<W> {
    shift: u32,
    pick: [__m512i; 16],
    order: __m512i,
    word: PhantomData<W>,
}

impl<W: RingWord> Pads<W> {
    const SIZE: usize = size_of::<W>();
    /// A lane's low word in all its slots.
    const LOW: [u8; 64] = {
        let (mut x, mut i) = ([0; 64], 0);
        while i < 64 {
            x[i] = (i % Self::SIZE) as u8;
            i += 1;
        }
        x
    };
    /// Register j of pads fills slot j of each lane: pad 4 j + lane is at lane, slot.
    const ORDER: [u8; 64] = {
        let (mut x, mut i) = ([0; 64], 0);
        while i < 64 {
            let e = i / Self::SIZE;
            x[i] = (16 * (e % 4) + e / 4 * Self::SIZE + i % Self::SIZE) as u8;
            i += 1;
        }
        x
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
    #[inline]
    pub(super) fn new(shift: u32) -> Self {
        // Whole bytes of the shift are part of the selection. Bytes that this takes from beyond the pad are above the
        // width, which is masked off.
        let whole = if shift.is_multiple_of(8) { shift / 8 } else { 0 };
        let low = _mm512_and_si512(
            _mm512_add_epi8(bytemuck::must_cast(Self::LOW), _mm512_set1_epi8(whole as i8)),
            _mm512_set1_epi8(15),
        );
        let slot = first(Self::SIZE) * 0x0001_0001_0001_0001;
        let pick = std::array::from_fn(|j| {
            let here = slot << (j * Self::SIZE % 16);
            _mm512_mask_mov_epi8(_mm512_set1_epi8(-128), here, low)
        });
        Self { shift, pick, order: bytemuck::must_cast(Self::ORDER), word: PhantomData }
    }

    /// `64 / size` words from as many pads.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
    #[inline]
    pub(super) fn take(&self, pads: &[u128]) -> __m512i {
        let count = _mm512_set1_epi64(i64::from(self.shift));
        if self.shift.is_multiple_of(8) {
            self.merge(pads, |x| x)
        } else if self.shift < 64 {
            self.merge(pads, |x| _mm512_shrdv_epi64(x, _mm512_shuffle_epi32::<0x4e>(x), count))
        } else {
            let count = _mm512_sub_epi64(count, _mm512_set1_epi64(64));
            self.merge(pads, |x| _mm512_srlv_epi64(_mm512_shuffle_epi32::<0x4e>(x), count))
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
    #[inline]
    fn merge(&self, pads: &[u128], prepare: impl Fn(__m512i) -> __m512i) -> __m512i {
        let size = size_of::<W>();
        let pads: &[[u8; 64]] = bytemuck::cast_slice::<u128, u8>(&pads[..64 / size]).as_chunks().0;
        // Two chains, to hide the latency of the merges.
        let mut acc = [_mm512_setzero_si512(); 2];
        macro_rules! slots {
            ($($j:literal)*) => {$(
                if $j < 16 / size {
                    let x = |j: usize| {
                        _mm512_shuffle_epi8(prepare(bytemuck::must_cast(pads[j])), self.pick[j])
                    };
                    acc[$j / 2 % 2] = _mm512_ternarylogic_epi64::<0xfe>(acc[$j / 2 % 2], x($j), x($j + 1));
                }
            )*};
        }
        slots!(0 2 4 6 8 10 12 14);
        _mm512_permutexvar_epi8(self.order, _mm512_or_si512(acc[0], acc[1]))
    }
}

/// `out[i] = (pads[i] >> shift) mod 2^width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn low_words_avx512<W: RingWord>(pads: &[u128], shift: u32, width: u32, out: &mut [W]) {
    let per = 64 / size_of::<W>();
    let keep = bcast(W::mask(width));
    let words = Pads::<W>::new(shift);
    for (out, pads) in out.chunks_mut(per).zip(pads.chunks(per)) {
        let x = if pads.len() == per {
            words.take(pads)
        } else {
            let mut rest = [0; 64];
            rest[..pads.len()].copy_from_slice(pads);
            words.take(&rest)
        };
        store_part(bytemuck::cast_slice_mut(out), _mm512_and_si512(x, keep));
    }
}

/// `t - mask + pad`, or with XOR, reduced.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn masked<W: RingWord>(t: __m512i, mask: __m512i, pad: __m512i, keep: __m512i, xor: bool) -> __m512i {
    let y = if xor {
        _mm512_ternarylogic_epi64::<0x96>(t, mask, pad)
    } else {
        match size_of::<W>() {
            1 => _mm512_add_epi8(_mm512_sub_epi8(t, mask), pad),
            2 => _mm512_add_epi16(_mm512_sub_epi16(t, mask), pad),
            4 => _mm512_add_epi32(_mm512_sub_epi32(t, mask), pad),
            _ => _mm512_add_epi64(_mm512_sub_epi64(t, mask), pad),
        }
    };
    _mm512_and_si512(y, keep)
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn bcast<W: RingWord>(x: W) -> __m512i {
    match size_of::<W>() {
        1 => _mm512_set1_epi8(x.to_u64() as i8),
        2 => _mm512_set1_epi16(x.to_u64() as i16),
        4 => _mm512_set1_epi32(x.to_u64() as i32),
        _ => _mm512_set1_epi64(x.to_u64() as i64),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn lut_send_avx512<W: RingWord>(lookups: &LookupTables<'_, W>, out: &mut [W]) {
    let entries = 1usize << (lookups.index_bits + lookups.xor_bits);
    if entries * size_of::<W>() >= 64 { large(lookups, out) } else { small(lookups, out) }
}

/// Tables of whole registers, one instance at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn large<W: RingWord>(lookups: &LookupTables<'_, W>, out: &mut [W]) {
    let &LookupTables { tables, units, index_bits, xor_bits, rotations, xors, pads, pad_shift, masks, width, xor } =
        lookups;
    let size = size_of::<W>();
    let bits = index_bits + xor_bits;
    let regs = (size << bits) / 64;
    // Bytes of the rotated part, and the registers it takes (0: several rotated parts in one register).
    let part = size << index_bits;
    let group = part / 64;
    let lane = bytes(|i| i as u8);
    let inner = _mm512_set1_epi8(part.min(64).wrapping_sub(1) as u8 as i8);
    let keep = bcast(W::mask(width));
    let pad_words = Pads::<W>::new(pad_shift);
    let table: &[u8] = bytemuck::cast_slice(tables);
    let out: &mut [u8] = bytemuck::cast_slice_mut(out);
    // Two copies of the table, to move registers from one to the other.
    let mut few = [_mm512_setzero_si512(); 32];
    let mut many = vec![_mm512_setzero_si512(); if regs > 16 { 2 * regs } else { 0 }];
    let spare = if regs > 16 { &mut many[..] } else { &mut few[..2 * regs] };
    let (mut a, mut b) = spare.split_at_mut(regs);

    for (i, &mask) in masks.iter().enumerate() {
        let r = rotations.get(i).map_or(0, |&r| usize::from(r) & ((1 << index_bits) - 1)) * size;
        let v = xors.get(i).map_or(0, |&v| usize::from(v) & ((1 << xor_bits) - 1)) * part;
        let unit = &table[i % units * (regs * 64)..][..regs * 64];
        for (a, t) in a.iter_mut().zip(unit.as_chunks::<64>().0) {
            *a = load(t);
        }
        // XOR of the register's number by the part of v that counts registers.
        for bit in group.max(1).ilog2()..regs.ilog2() {
            let take = select(v >> 6, bit);
            for k in 0..regs {
                b[k] = _mm512_mask_mov_epi64(a[k], take, a[k ^ 1 << bit]);
            }
            (a, b) = (b, a);
        }
        let mask = bcast(mask);
        let pads = &pads[i << bits..][..1 << bits];
        let out = &mut out[i * regs * 64..][..regs * 64];
        let per = 64 / size;
        if group >= 1 {
            for bit in 0..group.ilog2() {
                let take = select(r >> 6, bit);
                for base in (0..regs).step_by(group) {
                    for k in 0..group {
                        b[base + k] =
                            _mm512_mask_mov_epi64(a[base + k], take, a[base + ((k + (1 << bit)) & (group - 1))]);
                    }
                }
                (a, b) = (b, a);
            }
            // Bytes r % 64 onwards come from this register, the others from the next.
            let low = r & 63;
            let index = _mm512_add_epi8(lane, _mm512_set1_epi8(low as i8));
            let next = !(u64::MAX >> low);
            for base in (0..regs).step_by(group) {
                let first = _mm512_permutexvar_epi8(index, a[base]);
                let mut this = first;
                for k in 0..group {
                    let that = if k + 1 < group { _mm512_permutexvar_epi8(index, a[base + k + 1]) } else { first };
                    let t = _mm512_mask_mov_epi8(this, next, that);
                    this = that;
                    let at = base + k;
                    let pad = pad_words.take(&pads[at * per..]);
                    store(&mut out[64 * at..], masked::<W>(t, mask, pad, keep, xor));
                }
            }
        } else {
            let index = within(lane, _mm512_set1_epi8(r as i8), _mm512_set1_epi8((v & 63) as i8), inner);
            for k in 0..regs {
                let t = _mm512_permutexvar_epi8(index, a[k]);
                let pad = pad_words.take(&pads[k * per..]);
                store(&mut out[64 * k..], masked::<W>(t, mask, pad, keep, xor));
            }
        }
    }
}

/// Mask for whole registers: all ones if bit `bit` of `x` is set.
#[inline(always)]
fn select(x: usize, bit: u32) -> u8 {
    0u8.wrapping_sub((x >> bit) as u8 & 1)
}

/// Byte `(lane + r)` within the bits of `inner`, `lane ^ v` above.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn within(lane: __m512i, r: __m512i, v: __m512i, inner: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0xca>(inner, _mm512_add_epi8(lane, r), _mm512_xor_si512(lane, v))
}

/// Several tables to a register.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn small<W: RingWord>(lookups: &LookupTables<'_, W>, out: &mut [W]) {
    let &LookupTables { tables, units, index_bits, xor_bits, rotations, xors, pads, pad_shift, masks, width, xor } =
        lookups;
    let size = size_of::<W>();
    let bits = index_bits + xor_bits;
    let bytes_each = size << bits;
    let per = 64 / bytes_each; // tables in a register
    let part = size << index_bits;
    let lane = bytes(|i| i as u8);
    let inner = _mm512_set1_epi8((part - 1) as u8 as i8);
    let keep = bcast(W::mask(width));
    let pad_words = Pads::<W>::new(pad_shift);
    // Instance numbers to the bytes of their tables: from 16-bit words, and from masks.
    let from_u16 = bytes(|i| (i / bytes_each * 2) as u8);
    let from_mask = bytes(|i| (i / bytes_each * size + i % size) as u8);
    // So many copies of the units that a register's tables are contiguous from any unit.
    let copies = (units + per - 1).div_ceil(units);
    let table: Vec<u8> = bytemuck::cast_slice(tables).repeat(copies);
    let scale = |x: &[u16], by: usize| {
        // Products are below 64.
        let x = load_part(bytemuck::cast_slice(&x[..x.len().min(per)]));
        _mm512_permutexvar_epi8(from_u16, _mm512_mullo_epi16(x, _mm512_set1_epi16(by as i16)))
    };
    let mut unit = 0;
    let n = masks.len();
    for i in (0..n).step_by(per) {
        let here = per.min(n - i);
        let t = load(&table[unit * bytes_each..]);
        unit = (unit + per) % units;
        let zero = _mm512_setzero_si512();
        let r = if rotations.is_empty() { zero } else { scale(&rotations[i..], size) };
        let v = if xors.is_empty() { zero } else { scale(&xors[i..], part) };
        let v = _mm512_and_si512(v, _mm512_set1_epi8((bytes_each - 1) as u8 as i8));
        let t = _mm512_permutexvar_epi8(within(lane, r, v, inner), t);
        let mask = load_part(bytemuck::cast_slice(&masks[i..i + here]));
        let mask = _mm512_permutexvar_epi8(from_mask, mask);
        let slots = i << bits;
        let pad = if here == per {
            pad_words.take(&pads[slots..])
        } else {
            let mut rest = [0; 64];
            rest[..pads.len() - slots].copy_from_slice(&pads[slots..]);
            pad_words.take(&rest)
        };
        let y = masked::<W>(t, mask, pad, keep, xor);
        store_part(bytemuck::cast_slice_mut(&mut out[slots..slots + (here << bits)]), y);
    }
}

/// A step makes 64 slots, one byte each.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn leaf_send_avx512(
    digit_bits: u32,
    flags: &[LeafFlag],
    views: &[&[u8]],
    delta: &[u8],
    pads: &[u128],
    masks: &[u8],
    out: &mut [u64],
) {
    let slots = masks.len() << digit_bits;
    let plane = slots.div_ceil(64);
    let pad_bytes = Pads::<u8>::new(0);
    let lane = bytes(|i| i as u8);
    let owner = bytes(|i| (i >> digit_bits) as u8);
    for w in 0..plane {
        let base = 64 * w;
        let here = 64.min(slots - base);
        let (from, to) = (base >> digit_bits, (base + here).div_ceil(1 << digit_bits));
        let spread = |x: &[u8]| _mm512_permutexvar_epi8(owner, load_part(&x[from..to]));
        let pad = if here == 64 {
            pad_bytes.take(&pads[base..])
        } else {
            let mut rest = [0; 64];
            rest[..here].copy_from_slice(&pads[base..]);
            pad_bytes.take(&rest)
        };
        let noise = _mm512_xor_si512(pad, spread(masks));
        // The mod N of the slot's digit vanishes in the mod 2^t below.
        let j = _mm512_add_epi8(_mm512_add_epi8(lane, _mm512_set1_epi8(base as u8 as i8)), spread(delta));
        for (f, &(carry, t, view)) in flags.iter().enumerate() {
            let m = ((1u32 << t) - 1) as u8;
            let low = _mm512_set1_epi8(m as i8);
            let a = _mm512_and_si512(spread(views[usize::from(view)]), low);
            let sum = _mm512_add_epi8(a, _mm512_and_si512(j, low));
            let flag = match (carry, t) {
                (false, _) => _mm512_cmpeq_epi8_mask(sum, low),
                (true, 8) => _mm512_cmplt_epu8_mask(sum, a),
                (true, _) => _mm512_test_epi8_mask(sum, _mm512_set1_epi8((1u8 << t) as i8)),
            };
            let noise = _mm512_test_epi8_mask(noise, _mm512_set1_epi8((1u8 << f) as i8));
            out[f * plane + w] = (flag ^ noise) & first(here);
        }
    }
}

/// For up to 64 slots: eight instances at a time, each a
/// 64-bit lane with its word of the section, shifted by its choice.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn leaf_recv_avx512(digit_bits: u32, n_flags: usize, section: &[u64], choice: &[u8], pads: &[u128], out: &mut [u64]) {
    let n = choice.len();
    let (plane, out_plane) = ((n << digit_bits).div_ceil(64), n.div_ceil(64));
    let words_each = 1usize << digit_bits; // of a section, for 64 instances
    let low = Pads::<u8>::new(0);
    let owner = words(|i| (i << digit_bits) as u64 / 64);
    let base = words(|i| (i << digit_bits) as u64 % 64);
    for w in 0..out_plane {
        let here = 64.min(n - 64 * w);
        let pad = if here == 64 {
            low.take(&pads[64 * w..])
        } else {
            let mut rest = [0; 64];
            rest[..here].copy_from_slice(&pads[64 * w..]);
            low.take(&rest)
        };
        let choice: [u8; 64] = bytemuck::must_cast(load_part(&choice[64 * w..][..here]));
        let (eights, _) = choice.as_chunks::<8>();
        let shift: [__m512i; 8] = std::array::from_fn(|g| {
            let c = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(eights[g])));
            _mm512_add_epi64(base, c)
        });
        for f in 0..n_flags {
            let section = &section[f * plane..][..plane];
            let mut bits = 0u64;
            for g in 0..here.div_ceil(8) {
                let from = ((64 * w + 8 * g) << digit_bits) / 64;
                let upto = plane.min(from + words_each.div_ceil(8));
                let x = load_part(bytemuck::cast_slice(&section[from..upto]));
                // Eight instances of 2 or 4 slots share a word with others: their base is not a lane's.
                let extra = _mm512_set1_epi64((((8 * g) << digit_bits) % 64) as i64);
                let x = _mm512_permutexvar_epi64(owner, x);
                let x = _mm512_srlv_epi64(x, _mm512_add_epi64(shift[g], extra));
                bits |= u64::from(_mm512_test_epi64_mask(x, _mm512_set1_epi64(1))) << (8 * g);
            }
            let pad = _mm512_test_epi8_mask(pad, _mm512_set1_epi8((1u8 << f) as i8));
            out[f * out_plane + w] = (bits ^ pad) & first(here);
        }
    }
}
