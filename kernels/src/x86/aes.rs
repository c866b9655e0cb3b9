//! AES with AES-NI and VAES.

use std::arch::x86_64::*;

/// Round keys; the owner wipes them.
pub(crate) type RoundKeys = [u128; 11];

/// What the rows of a hash call have in common.
pub(crate) struct HashArgs<'a> {
    /// Tweak of the first row; the next row's is one more.
    pub(crate) tweak: u128,
    /// What the second call's tweak adds (256-bit rows only).
    pub(crate) second: u128,
    pub(crate) keys: &'a RoundKeys,
}

/// Key expansion; constant time. `aesenclast` of four equal columns substitutes the word in each of them and adds
/// the round constant, at a third of the latency of `aeskeygenassist`.
#[target_feature(enable = "aes,sse4.1,ssse3")]
pub(crate) fn expand(key: u128) -> RoundKeys {
    let rotate = _mm_set1_epi32(0x0c0f_0e0d);
    let mut keys = [0; 11];
    let mut k = to_m128(key);
    keys[0] = key;
    for (r, rcon) in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36].into_iter().enumerate() {
        let t = _mm_aesenclast_si128(_mm_shuffle_epi8(k, rotate), _mm_set1_epi32(rcon));
        k = _mm_xor_si128(k, _mm_slli_si128::<4>(k));
        k = _mm_xor_si128(k, _mm_slli_si128::<8>(k));
        k = _mm_xor_si128(k, t);
        keys[r + 1] = from_m128(k);
    }
    keys
}

#[inline(always)]
fn to_m128(x: u128) -> __m128i {
    bytemuck::must_cast(x)
}

#[inline(always)]
fn from_m128(x: __m128i) -> u128 {
    bytemuck::must_cast(x)
}

/// The kernels, from the few operations that differ between register sizes.
macro_rules! kernels {
    ($features:literal, $V:ident, $L:literal, $W:literal) => {
        /// Blocks in a vector.
        pub(crate) const L: usize = $L;
        /// Vectors in flight.
        const W: usize = $W;
        /// Blocks in flight.
        pub(crate) const B: usize = L * W;
        type V = $V;

        #[target_feature(enable = $features)]
        #[inline]
        fn pi(keys: &[V; 11], mut x: [V; W]) -> [V; W] {
            for w in 0..W {
                x[w] = xor(x[w], keys[0]);
            }
            macro_rules! round {
                ($r:literal, $op:ident) => {
                    for w in 0..W {
                        x[w] = $op(x[w], keys[$r]);
                    }
                };
            }
            round!(1, enc);
            round!(2, enc);
            round!(3, enc);
            round!(4, enc);
            round!(5, enc);
            round!(6, enc);
            round!(7, enc);
            round!(8, enc);
            round!(9, enc);
            round!(10, last);
            x
        }

        /// `pi(pi(x) ^ t) ^ pi(x)`
        #[target_feature(enable = $features)]
        #[inline]
        fn tmmo(keys: &[V; 11], x: [V; W], t: [V; W]) -> [V; W] {
            let y = pi(keys, x);
            let mut z = y;
            for w in 0..W {
                z[w] = xor(y[w], t[w]);
            }
            z = pi(keys, z);
            for w in 0..W {
                z[w] = xor(z[w], y[w]);
            }
            z
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn zero() -> [V; W] {
            [bcast(0); W]
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn load_all(x: &[u128; B]) -> [V; W] {
            let mut v = zero();
            for w in 0..W {
                v[w] = load(x[w * L..][..L].try_into().expect("L blocks"));
            }
            v
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn store_all(out: &mut [u128; B], v: [V; W]) {
            for w in 0..W {
                store((&mut out[w * L..][..L]).try_into().expect("L blocks"), v[w]);
            }
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn round_keys(keys: &RoundKeys) -> [V; 11] {
            let mut k = [bcast(0); 11];
            for i in 0..11 {
                k[i] = bcast(keys[i]);
            }
            k
        }

        /// `out[i] = f(i)`, `f` making the `B` blocks from `i` on; ones behind the end are thrown away.
        macro_rules! batches {
            ($out:ident, $i:ident => $blocks:expr) => {{
                let n = $out.len();
                let (full, tail) = $out.as_chunks_mut::<B>();
                for (k, o) in full.iter_mut().enumerate() {
                    let $i = k * B;
                    store_all(o, $blocks);
                }
                if !tail.is_empty() {
                    let $i = n - tail.len();
                    let mut o = [0; B];
                    store_all(&mut o, $blocks);
                    tail.copy_from_slice(&o[..tail.len()]);
                }
            }};
        }

        #[target_feature(enable = $features)]
        pub(crate) fn encrypt(keys: &RoundKeys, blocks: &mut [u128]) {
            let k = round_keys(keys);
            let (full, tail) = blocks.as_chunks_mut::<B>();
            for b in full {
                let x = load_all(b);
                store_all(b, pi(&k, x));
            }
            if !tail.is_empty() {
                let mut b = [0; B];
                b[..tail.len()].copy_from_slice(tail);
                let x = load_all(&b);
                store_all(&mut b, pi(&k, x));
                tail.copy_from_slice(&b[..tail.len()]);
            }
        }

        #[target_feature(enable = $features)]
        pub(crate) fn counter(keys: &RoundKeys, start: u64, out: &mut [u128]) {
            let k = round_keys(keys);
            let mut next = add64(bcast(u128::from(start)), iota());
            batches!(out, _i => {
                let mut x = zero();
                for w in 0..W {
                    x[w] = next;
                    next = add64(next, bcast(L as u128));
                }
                pi(&k, x)
            });
        }

        /// See [`crate::aes::Prg::fold`]; `m` is a multiple of `B`.
        #[target_feature(enable = $features)]
        pub(crate) fn fold(keys: &RoundKeys, start: u64, m: usize, fold: crate::aes::Fold<'_>) {
            let k = round_keys(keys);
            let mut next = add64(bcast(u128::from(start)), iota());
            let block = |i: usize| i..i + B;
            for i in (0..m).step_by(B) {
                let mut x = zero();
                for w in 0..W {
                    x[w] = next;
                    next = add64(next, bcast(L as u128));
                }
                x = pi(&k, x);
                for b in 0..fold.height {
                    let v: &mut [u128; B] = (&mut fold.v[block(b * m + i)]).try_into().expect("B blocks");
                    let partial: &[u128; B] = fold.partial[block(b * m + i)].try_into().expect("B blocks");
                    let (mut sum, other) = (x, load_all(partial));
                    if b + 1 < fold.height || !fold.first {
                        let v = load_all(v);
                        for w in 0..W {
                            sum[w] = xor(sum[w], v[w]);
                        }
                    }
                    store_all(v, sum);
                    for w in 0..W {
                        x[w] = xor(x[w], other[w]);
                    }
                }
                store_all((&mut fold.partial[block(fold.height * m + i)]).try_into().expect("B blocks"), x);
            }
        }

        /// See [`crate::tree::grow`].
        #[target_feature(enable = $features)]
        pub(crate) fn grow(keys: &RoundKeys, parents: &mut [u128], others: &mut [u128]) {
            let k = round_keys(keys);
            let children = |p: &mut [u128; B], o: &mut [u128; B]| {
                let mut p_v = load_all(p);
                let mut x = zero();
                for w in 0..W {
                    x[w] = sigma(p_v[w]);
                }
                let mut y = pi(&k, x);
                for w in 0..W {
                    y[w] = xor(y[w], x[w]);
                    p_v[w] = xor(p_v[w], y[w]);
                }
                store_all(p, y);
                store_all(o, p_v);
            };
            let (p_full, p_tail) = parents.as_chunks_mut::<B>();
            let (o_full, o_tail) = others.as_chunks_mut::<B>();
            for (p, o) in p_full.iter_mut().zip(o_full) {
                children(p, o);
            }
            if !p_tail.is_empty() {
                let (mut p, mut o) = ([0; B], [0; B]);
                p[..p_tail.len()].copy_from_slice(p_tail);
                children(&mut p, &mut o);
                p_tail.copy_from_slice(&p[..p_tail.len()]);
                o_tail.copy_from_slice(&o[..o_tail.len()]);
            }
        }

        /// `out[i] = H(t + i, rows[i] ^ offset)`
        #[target_feature(enable = $features)]
        pub(crate) fn hash_one(args: &HashArgs<'_>, rows: &[u128], offset: u128, out: &mut [u128]) {
            let k = round_keys(args.keys);
            let offset = bcast(offset);
            let mut next = add64(bcast(args.tweak), iota());
            let n = rows.len();
            batches!(out, i => {
                let mut tail = [0; B];
                let x = if let Some(rows) = rows[i..].first_chunk::<B>() {
                    rows
                } else {
                    tail[..n - i].copy_from_slice(&rows[i..]);
                    &tail
                };
                let (mut x, mut t) = (load_all(x), zero());
                for w in 0..W {
                    x[w] = xor(x[w], offset);
                    t[w] = next;
                    next = add64(next, bcast(L as u128));
                }
                tmmo(&k, x, t)
            });
        }

        /// `out[i * N + j] = H(t + i, rows[i] ^ offsets[j])`, `N` a multiple of `L`.
        #[target_feature(enable = $features)]
        pub(crate) fn hash_many(args: &HashArgs<'_>, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
            let k = round_keys(args.keys);
            let (offsets, _) = offsets.as_chunks::<L>();
            let (mut i, mut j) = (0, 0);
            let (mut row, mut tweak) = (bcast(rows[0]), bcast(args.tweak));
            batches!(out, _i => {
                let (mut x, mut t) = (zero(), zero());
                for w in 0..W {
                    x[w] = xor(row, load(&offsets[j]));
                    t[w] = tweak;
                    j += 1;
                    if j == offsets.len() {
                        j = 0;
                        i += 1;
                        row = bcast(*rows.get(i).unwrap_or(&0));
                        tweak = add64(tweak, bcast(1));
                    }
                }
                tmmo(&k, x, t)
            });
        }

        /// `out[i] = H2(t + i; rows[i] ^ offset)`
        #[target_feature(enable = $features)]
        pub(crate) fn hash2_one(args: &HashArgs<'_>, rows: &[[u128; 2]], offset: [u128; 2], out: &mut [u128]) {
            let k = round_keys(args.keys);
            let second = bcast(args.second);
            let mut next = add64(bcast(args.tweak), iota());
            batches!(out, i => {
                let (mut a, mut b) = ([0; B], [0; B]);
                for ((a, b), r) in a.iter_mut().zip(&mut b).zip(&rows[i..]) {
                    (*a, *b) = (r[0] ^ offset[0], r[1] ^ offset[1]);
                }
                let (mut x, mut t) = (load_all(&a), zero());
                for w in 0..W {
                    t[w] = next;
                    next = add64(next, bcast(L as u128));
                }
                x = tmmo(&k, x, t);
                let y = load_all(&b);
                for w in 0..W {
                    x[w] = xor(x[w], y[w]);
                    t[w] = xor(t[w], second);
                }
                tmmo(&k, x, t)
            });
        }

        /// `out[i * N + j] = H2(t + i; rows[i] ^ offsets[j])`, `N` a multiple of `L`; offsets come as two halves.
        #[target_feature(enable = $features)]
        pub(crate) fn hash2_many(args: &HashArgs<'_>, rows: &[[u128; 2]], offsets: [&[u128]; 2], out: &mut [u128]) {
            let k = round_keys(args.keys);
            let [a, b] = offsets.map(|o| o.as_chunks::<L>().0);
            let second = bcast(args.second);
            let (mut i, mut j) = (0, 0);
            let (mut row, mut tweak) = (rows[0].map(|r| bcast(r)), bcast(args.tweak));
            batches!(out, _i => {
                let (mut x, mut y, mut t) = (zero(), zero(), zero());
                for w in 0..W {
                    x[w] = xor(row[0], load(&a[j]));
                    y[w] = xor(row[1], load(&b[j]));
                    t[w] = tweak;
                    j += 1;
                    if j == a.len() {
                        j = 0;
                        i += 1;
                        row = rows.get(i).unwrap_or(&[0; 2]).map(|r| bcast(r));
                        tweak = add64(tweak, bcast(1));
                    }
                }
                x = tmmo(&k, x, t);
                for w in 0..W {
                    x[w] = xor(x[w], y[w]);
                    t[w] = xor(t[w], second);
                }
                tmmo(&k, x, t)
            });
        }

        /// `x[i] = H(t[i], x[i])`
        #[target_feature(enable = $features)]
        pub(crate) fn hash_staged(keys: &RoundKeys, x: &mut [u128], t: &[u128]) {
            let k = round_keys(keys);
            let (full, tail) = x.as_chunks_mut::<B>();
            let (t_full, t_tail) = t.as_chunks::<B>();
            for (x, t) in full.iter_mut().zip(t_full) {
                let h = tmmo(&k, load_all(x), load_all(t));
                store_all(x, h);
            }
            if !tail.is_empty() {
                let (mut x, mut t) = ([0; B], [0; B]);
                x[..tail.len()].copy_from_slice(tail);
                t[..tail.len()].copy_from_slice(t_tail);
                let h = tmmo(&k, load_all(&x), load_all(&t));
                store_all(&mut x, h);
                tail.copy_from_slice(&x[..tail.len()]);
            }
        }
    };
}

/// One block per register.
pub(crate) mod aesni {
    use super::*;

    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn xor(x: V, y: V) -> V {
        _mm_xor_si128(x, y)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn enc(x: V, k: V) -> V {
        _mm_aesenc_si128(x, k)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn last(x: V, k: V) -> V {
        _mm_aesenclast_si128(x, k)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn bcast(x: u128) -> V {
        to_m128(x)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn iota() -> V {
        _mm_setzero_si128()
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn add64(x: V, y: V) -> V {
        _mm_add_epi64(x, y)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn load(x: &[u128; L]) -> V {
        to_m128(x[0])
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn store(out: &mut [u128; L], x: V) {
        out[0] = from_m128(x);
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn sigma(x: V) -> V {
        _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(x), _mm_unpackhi_epi64(_mm_setzero_si128(), x))
    }
    kernels!("aes,avx2", __m128i, 1, 8);
}

/// Two blocks per register.
pub(crate) mod vaes256 {
    use super::*;

    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn xor(x: V, y: V) -> V {
        _mm256_xor_si256(x, y)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn enc(x: V, k: V) -> V {
        _mm256_aesenc_epi128(x, k)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn last(x: V, k: V) -> V {
        _mm256_aesenclast_epi128(x, k)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn bcast(x: u128) -> V {
        _mm256_broadcastsi128_si256(to_m128(x))
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn iota() -> V {
        _mm256_setr_epi64x(0, 0, 1, 0)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn add64(x: V, y: V) -> V {
        _mm256_add_epi64(x, y)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn load(x: &[u128; L]) -> V {
        bytemuck::must_cast(*x)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn store(out: &mut [u128; L], x: V) {
        *out = bytemuck::must_cast(x);
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn sigma(x: V) -> V {
        _mm256_xor_si256(_mm256_shuffle_epi32::<0x4e>(x), _mm256_unpackhi_epi64(_mm256_setzero_si256(), x))
    }
    kernels!("aes,avx2,vaes", __m256i, 2, 8);
}

/// Four blocks per register.
pub(crate) mod avx512 {
    use super::*;

    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn xor(x: V, y: V) -> V {
        _mm512_xor_si512(x, y)
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn enc(x: V, k: V) -> V {
        _mm512_aesenc_epi128(x, k)
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn last(x: V, k: V) -> V {
        _mm512_aesenclast_epi128(x, k)
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn bcast(x: u128) -> V {
        _mm512_broadcast_i32x4(to_m128(x))
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn iota() -> V {
        _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0)
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn add64(x: V, y: V) -> V {
        _mm512_add_epi64(x, y)
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn load(x: &[u128; L]) -> V {
        bytemuck::must_cast(*x)
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn store(out: &mut [u128; L], x: V) {
        *out = bytemuck::must_cast(x);
    }
    #[target_feature(enable = "aes,avx512f,vaes")]
    #[inline]
    fn sigma(x: V) -> V {
        _mm512_xor_si512(_mm512_shuffle_epi32::<0x4e>(x), _mm512_unpackhi_epi64(_mm512_setzero_si512(), x))
    }
    kernels!("aes,avx512f,vaes", __m512i, 4, 8);
}
