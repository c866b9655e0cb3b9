//! Message assembly of products by correlated OT.
//!
//! The chooser has a bit `b`, a random `c` and the pad `r_c`; the other party has `v` and both pads. Messages
//! `d = b ^ c` and `e = v - (r_1 - r_0)` are independent of each other; the shares below add up to `b v`.

levels! {
    /// The message `out_e = v - (one - zero)` and the sender's `out_r0 = zero`, both mod `2^width`. Takes the low bits
    /// of pads and of `v`.
    pub fn cot_send, cot_send_at<W>(width: u32, zero: &[u128], one: &[u128], v: &[W], out_e: &mut [W], out_r0: &mut [W]) {
        let n = v.len();
        assert!([zero.len(), one.len(), out_e.len(), out_r0.len()] == [n; 4]);
        let m = W::mask(width);
        for i in 0..n {
            let (r0, r1) = (W::from_u128(zero[i]), W::from_u128(one[i]));
            out_e[i] = v[i].wsub(r1).wadd(r0) & m;
            out_r0[i] = r0 & m;
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

    /// The chooser's side of [`cot_send_finish`]: with `r` the low bits of its pad, its share is `r + c e` for
    /// `d = 0` and `-(r + c e)` for `d = 1`.
    pub fn cot_recv_finish, cot_recv_finish_at<W, A>(
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
        let (m, acc_m) = (W::mask(width), A::mask(acc_width));
        for (k, acc) in acc.chunks_mut(64).enumerate() {
            let (pads, e) = (&pads[k * 64..][..acc.len()], &e[k * 64..][..acc.len()]);
            for i in 0..acc.len() {
                let d = W::splat(d[k] >> i & 1 == 1);
                let c = W::splat(c[k] >> i & 1 == 1);
                let r = W::from_u128(pads[i]).wadd(e[i] & c);
                let share = (r ^ d).wsub(d) & m;
                acc[i] = acc[i].wadd(A::from_u64(share.to_u64()) << shift) & acc_m;
            }
        }
    }
}
