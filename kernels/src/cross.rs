//! Message assembly of products by correlated OT.
//!
//! The chooser has a bit `b`, a random `c` and the pad `r_c`; the other party has `v` and both pads. Messages
//! `d = b ^ c` and `e = v - (r_1 - r_0)` are independent of each other; the shares below add up to `b v`.

use crate::{
    level::{Level, level},
    ring::RingWord,
    table::low_words_at,
};

/// Elements at a time: pads become words of this many first, which is a kernel of its own.
const CHUNK: usize = 256;

/// The message `out_e = v - (one - zero)` and the sender's `out_r0 = zero`, both mod `2^width`. Takes the low bits of
/// pads and of `v`.
pub fn cot_send<W: RingWord>(width: u32, zero: &[u128], one: &[u128], v: &[W], out_e: &mut [W], out_r0: &mut [W]) {
    cot_send_at(level(), width, zero, one, v, out_e, out_r0);
}

#[doc(hidden)]
pub fn cot_send_at<W: RingWord>(
    level: Level,
    width: u32,
    zero: &[u128],
    one: &[u128],
    v: &[W],
    out_e: &mut [W],
    out_r0: &mut [W],
) {
    let n = v.len();
    assert!([zero.len(), one.len(), out_e.len(), out_r0.len()] == [n; 4]);
    let mut r1 = [W::zero(); CHUNK];
    for from in (0..n).step_by(CHUNK) {
        let at = from..n.min(from + CHUNK);
        let (r0, r1) = (&mut out_r0[at.clone()], &mut r1[..at.len()]);
        low_words_at(level, &zero[at.clone()], 0, width, r0);
        low_words_at(level, &one[at.clone()], 0, width, r1);
        difference_at(level, width, &v[at.clone()], r0, r1, &mut out_e[at]);
    }
}

/// The chooser's side of [`cot_send_finish`]: with `r` the low bits of its pad, its share is `r + c e` for `d = 0` and
/// `-(r + c e)` for `d = 1`.
pub fn cot_recv_finish<W: RingWord, A: RingWord>(
    width: u32,
    shift: u32,
    acc_width: u32,
    d: &[u64],
    c: &[u64],
    pads: &[u128],
    e: &[W],
    acc: &mut [A],
) {
    cot_recv_finish_at(level(), width, shift, acc_width, d, c, pads, e, acc);
}

#[doc(hidden)]
pub fn cot_recv_finish_at<W: RingWord, A: RingWord>(
    level: Level,
    width: u32,
    shift: u32,
    acc_width: u32,
    d: &[u64],
    c: &[u64],
    pads: &[u128],
    e: &[W],
    acc: &mut [A],
) {
    let n = acc.len();
    assert!([pads.len(), e.len()] == [n; 2] && [d.len(), c.len()] == [n.div_ceil(64); 2]);
    let mut r = [W::zero(); CHUNK];
    for from in (0..n).step_by(CHUNK) {
        let at = from..n.min(from + CHUNK);
        let words = from / 64..at.end.div_ceil(64);
        let r = &mut r[..at.len()];
        low_words_at(level, &pads[at.clone()], 0, width, r);
        chosen_at(level, width, shift, acc_width, &d[words.clone()], &c[words], r, &e[at.clone()], &mut acc[at]);
    }
}

levels! {
    #[doc(hidden)]
    pub fn difference, difference_at<W>(width: u32, v: &[W], r0: &[W], r1: &[W], out: &mut [W]) {
        let m = W::mask(width);
        let n = out.len();
        let (v, r0, r1) = (&v[..n], &r0[..n], &r1[..n]);
        for i in 0..n {
            out[i] = v[i].wsub(r1[i]).wadd(r0[i]) & m;
        }
    }

    #[doc(hidden)]
    pub fn chosen, chosen_at<W, A>(
        width: u32,
        shift: u32,
        acc_width: u32,
        d: &[u64],
        c: &[u64],
        r: &[W],
        e: &[W],
        acc: &mut [A],
    ) {
        assert!([r.len(), e.len()] == [acc.len(); 2]);
        let (m, acc_m) = (W::mask(width), A::mask(acc_width));
        // Slices taken by position, not by zipped iterators: only so does the loop become vector code.
        for (k, acc) in acc.chunks_mut(64).enumerate() {
            let (r, e) = (&r[k * 64..][..acc.len()], &e[k * 64..][..acc.len()]);
            for i in 0..acc.len() {
                let (d, c) = (W::splat(d[k] >> i & 1 == 1), W::splat(c[k] >> i & 1 == 1));
                let share = (r[i].wadd(e[i] & c) ^ d).wsub(d) & m;
                acc[i] = acc[i].wadd(A::from_u64(share.to_u64()) << shift) & acc_m;
            }
        }
    }

    /// `acc += share << shift mod 2^acc_width`, where the sender's share mod `2^width` is `-r0` for `d = 0` and
    /// `v + r0` for `d = 1`.
    pub fn cot_send_finish, cot_send_finish_at<W, A>(
        width: u32,
        shift: u32,
        acc_width: u32,
        d: &[u64],
        v: &[W],
        r0: &[W],
        acc: &mut [A],
    ) {
        let n = acc.len();
        assert!([v.len(), r0.len()] == [n; 2] && d.len() == n.div_ceil(64));
        let (m, acc_m) = (W::mask(width), A::mask(acc_width));
        for (k, acc) in acc.chunks_mut(64).enumerate() {
            let (v, r0) = (&v[k * 64..][..acc.len()], &r0[k * 64..][..acc.len()]);
            for i in 0..acc.len() {
                let d = W::splat(d[k] >> i & 1 == 1);
                // -r0 = !r0 + 1 and r0 + v share one addition.
                let share = (r0[i] ^ !d).wadd((v[i] & d) | (!d & W::one())) & m;
                acc[i] = acc[i].wadd(A::from_u64(share.to_u64()) << shift) & acc_m;
            }
        }
    }
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

    /// The two shares add up to `b v << shift`, whatever was in the accumulators.
    fn check<W: RingWord, A: RingWord>() {
        let top = <W as RingWord>::BITS;
        for l in available() {
            for n in (0..80).chain([127, 128, 255, 256, 257, 700]) {
                for (width, shift) in [(top, 0), (top - 1, 1), (1, 3), (top / 2, 2)] {
                    let acc_width = (width + shift).min(<A as RingWord>::BITS);
                    let (mut zero, mut one) = (vec![0; n], vec![0; n]);
                    Prg::new(1).fill_blocks(&mut zero);
                    Prg::new(2).fill_blocks(&mut one);
                    let v: Vec<W> = random(3, top, n);
                    let (c, d): (Vec<u64>, Vec<u64>) = (random(4, 64, n.div_ceil(64)), random(5, 64, n.div_ceil(64)));
                    let bit = |p: &[u64], i: usize| p[i / 64] >> (i % 64) & 1;
                    let pads: Vec<u128> = (0..n).map(|i| if bit(&c, i) == 1 { one[i] } else { zero[i] }).collect();
                    let (mut e, mut r0) = (vec![W::zero(); n], vec![W::zero(); n]);
                    cot_send_at(l, width, &zero, &one, &v, &mut e, &mut r0);
                    let (x, y): (Vec<A>, Vec<A>) = (random(6, acc_width, n), random(7, acc_width, n));
                    let (mut s, mut r) = (x.clone(), y.clone());
                    cot_send_finish_at(l, width, shift, acc_width, &d, &v, &r0, &mut s);
                    cot_recv_finish_at(l, width, shift, acc_width, &d, &c, &pads, &e, &mut r);
                    for i in 0..n {
                        let got = s[i].wsub(x[i]).wadd(r[i].wsub(y[i])) & A::mask(acc_width);
                        let b = bit(&c, i) ^ bit(&d, i);
                        let want = A::from_u64((v[i] & W::mask(width)).to_u64() * b) << shift & A::mask(acc_width);
                        assert_eq!(got, want, "{l:?} n={n} width={width} {i}");
                        assert!(e[i] <= W::mask(width) && s[i] <= A::mask(acc_width) && r[i] <= A::mask(acc_width));
                    }
                }
            }
        }
    }

    #[test]
    fn shares_add_up() {
        check::<u8, u8>();
        check::<u8, u32>();
        check::<u16, u16>();
        check::<u16, u64>();
        check::<u32, u32>();
        check::<u64, u64>();
    }
}
