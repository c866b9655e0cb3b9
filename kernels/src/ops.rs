//! Element-wise arithmetic mod `2^width`.

use crate::ring::RingWord;

levels! {
    /// `out = x + y`.
    pub fn add, add_at<W>(width: u32, x: &[W], y: &[W], out: &mut [W]) {
        let m = W::mask(width);
        assert!([x.len(), y.len()] == [out.len(); 2]);
        out.iter_mut().zip(x).zip(y).for_each(|((o, x), y)| *o = x.wadd(*y) & m);
    }

    /// `out = x - y`.
    pub fn sub, sub_at<W>(width: u32, x: &[W], y: &[W], out: &mut [W]) {
        let m = W::mask(width);
        assert!([x.len(), y.len()] == [out.len(); 2]);
        out.iter_mut().zip(x).zip(y).for_each(|((o, x), y)| *o = x.wsub(*y) & m);
    }

    /// `out = x * y`.
    pub fn mul, mul_at<W>(width: u32, x: &[W], y: &[W], out: &mut [W]) {
        let m = W::mask(width);
        assert!([x.len(), y.len()] == [out.len(); 2]);
        out.iter_mut().zip(x).zip(y).for_each(|((o, x), y)| *o = x.wmul(*y) & m);
    }

    /// `acc += x`.
    pub fn add_into, add_into_at<W>(width: u32, acc: &mut [W], x: &[W]) {
        let m = W::mask(width);
        assert_eq!(x.len(), acc.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a = a.wadd(*x) & m);
    }

    /// `acc -= x`.
    pub fn sub_into, sub_into_at<W>(width: u32, acc: &mut [W], x: &[W]) {
        let m = W::mask(width);
        assert_eq!(x.len(), acc.len());
        acc.iter_mut().zip(x).for_each(|(a, x)| *a = a.wsub(*x) & m);
    }

    /// `out = -x`.
    pub fn neg, neg_at<W>(width: u32, x: &[W], out: &mut [W]) {
        let m = W::mask(width);
        assert_eq!(x.len(), out.len());
        out.iter_mut().zip(x).for_each(|(o, x)| *o = W::zero().wsub(*x) & m);
    }

    /// `out = x + s`.
    pub fn add_scalar, add_scalar_at<W>(width: u32, x: &[W], s: W, out: &mut [W]) {
        let m = W::mask(width);
        assert_eq!(x.len(), out.len());
        out.iter_mut().zip(x).for_each(|(o, x)| *o = x.wadd(s) & m);
    }

    /// `out = x * s`.
    pub fn mul_scalar, mul_scalar_at<W>(width: u32, x: &[W], s: W, out: &mut [W]) {
        let m = W::mask(width);
        assert_eq!(x.len(), out.len());
        out.iter_mut().zip(x).for_each(|(o, x)| *o = x.wmul(s) & m);
    }

    /// Reduces in place.
    pub fn mask, mask_at<W>(width: u32, xs: &mut [W]) {
        let m = W::mask(width);
        xs.iter_mut().for_each(|x| *x &= m);
    }

    /// `out = x >> by`; zero for `by >= W::BITS`.
    pub fn shr, shr_at<W>(x: &[W], by: u32, out: &mut [W]) {
        assert_eq!(x.len(), out.len());
        if by >= <W as RingWord>::BITS {
            out.fill(W::zero());
        } else {
            out.iter_mut().zip(x).for_each(|(o, x)| *o = *x >> by);
        }
    }

    /// `out = x << by`; zero for `by >= W::BITS`.
    pub fn shl, shl_at<W>(width: u32, x: &[W], by: u32, out: &mut [W]) {
        let m = W::mask(width);
        assert_eq!(x.len(), out.len());
        if by >= <W as RingWord>::BITS {
            out.fill(W::zero());
        } else {
            out.iter_mut().zip(x).for_each(|(o, x)| *o = *x << by & m);
        }
    }

    /// `out` = the `bits` bits of `x` from bit `lo` on.
    pub fn digit, digit_at<I, O>(xs: &[I], lo: u32, bits: u32, out: &mut [O]) {
        assert!(lo < <I as RingWord>::BITS && bits <= <O as RingWord>::BITS);
        assert_eq!(xs.len(), out.len());
        let m = O::mask(bits);
        out.iter_mut().zip(xs).for_each(|(o, x)| *o = O::from_u64((*x >> lo).to_u64()) & m);
    }

    /// `out = x mod 2^width` in words of another type.
    pub fn resize, resize_at<I, O>(xs: &[I], width: u32, out: &mut [O]) {
        assert_eq!(xs.len(), out.len());
        let m = O::mask(width);
        out.iter_mut().zip(xs).for_each(|(o, x)| *o = O::from_u64(x.to_u64()) & m);
    }
}
