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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{aes::Prg, level::available, ring::RingWord};

    fn random<W: RingWord>(seed: u128, width: u32, n: usize) -> Vec<W> {
        let mut v = vec![W::zero(); n];
        Prg::new(seed).fill_words(width, &mut v);
        v
    }

    fn check<W: RingWord>() {
        for l in available() {
            for n in (0..70).chain([127, 129, 255, 1000]) {
                for width in [1, 3, <W as RingWord>::BITS - 1, <W as RingWord>::BITS] {
                    let room: Vec<W> = random(1, width, n + 1);
                    let (x, y): (&[W], Vec<W>) = (&room[1..], random(2, width, n));
                    let m = u64::MAX >> (64 - width);
                    let mut out = vec![W::max_value(); n];
                    let is = |out: &[W], f: &dyn Fn(u64, u64) -> u64, what: &str| {
                        for i in 0..n {
                            let want = f(x[i].to_u64(), y[i].to_u64()) & m;
                            assert_eq!(out[i].to_u64(), want, "{what} {l:?} u{} {width} {n}", <W as RingWord>::BITS);
                        }
                    };
                    add_at(l, width, x, &y, &mut out);
                    is(&out, &u64::wrapping_add, "add");
                    sub_at(l, width, x, &y, &mut out);
                    is(&out, &u64::wrapping_sub, "sub");
                    mul_at(l, width, x, &y, &mut out);
                    is(&out, &u64::wrapping_mul, "mul");
                    out.copy_from_slice(x);
                    add_into_at(l, width, &mut out, &y);
                    is(&out, &u64::wrapping_add, "add_into");
                    out.copy_from_slice(x);
                    sub_into_at(l, width, &mut out, &y);
                    is(&out, &u64::wrapping_sub, "sub_into");
                    add_scalar_at(l, width, x, W::from_u64(77), &mut out);
                    is(&out, &|x, _| x.wrapping_add(77), "add_scalar");
                    mul_scalar_at(l, width, x, W::from_u64(77), &mut out);
                    is(&out, &|x, _| x.wrapping_mul(77), "mul_scalar");
                    out.copy_from_slice(x);
                    mask_at(l, 1, &mut out);
                    is(&out, &|x, _| x & 1, "mask");
                    converts::<W, u8>(l, x);
                    converts::<W, u16>(l, x);
                    converts::<W, u32>(l, x);
                    converts::<W, u64>(l, x);
                }
            }
        }
    }

    fn converts<I: RingWord, O: RingWord>(l: crate::Level, x: &[I]) {
        let mut out = vec![O::max_value(); x.len()];
        for width in [1, 5, <O as RingWord>::BITS] {
            let m = u64::MAX >> (64 - width);
            resize_at(l, x, width, &mut out);
            assert!(out.iter().zip(x).all(|(o, x)| o.to_u64() == x.to_u64() & m));
            for lo in [0, 2, <I as RingWord>::BITS - 1] {
                digit_at(l, x, lo, width, &mut out);
                assert!(out.iter().zip(x).all(|(o, x)| o.to_u64() == x.to_u64() >> lo & m));
            }
        }
    }

    #[test]
    fn arithmetic() {
        check::<u8>();
        check::<u16>();
        check::<u32>();
        check::<u64>();
    }
}
