//! AES with AES-NI and VAES.

use crate::{aes::Fold, arch::portable, level::Level};
use std::arch::x86_64::*;
use zeroize::Zeroizing;

/// Round keys in order.
type RoundKeys = [u128; 11];

/// An expanded key, wiped when dropped.
// Boxing the rare portable key would cost the others a pointer chase, and the size matters to no one.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Key {
    Portable(portable::aes::Key),
    /// With the level that the key was made for: one that the CPU has, above `Portable`.
    Rounds(Level, Zeroizing<RoundKeys>),
}

/// Runs `$f` of the module of a level above `Portable` that the CPU has.
macro_rules! at_level {
    ($level:expr, $f:ident($($a:expr),*)) => {
        // SAFETY: `Level::checked` has seen the level, here or where the key was made for it.
        unsafe {
            match $level {
                Level::Avx512 => avx512::$f($($a),*),
                Level::Vaes256 => vaes256::$f($($a),*),
                _ => aesni::$f($($a),*),
            }
        }
    };
}

/// Blocks in flight at a level.
fn batch(level: Level) -> usize {
    match level {
        Level::Avx512 => avx512::B,
        Level::Vaes256 => vaes256::B,
        _ => aesni::B,
    }
}

impl Key {
    pub(crate) fn new(level: Level, key: u128) -> Self {
        match level.checked() {
            Level::Aesni | Level::Vaes256 | Level::Avx512 => {
                // SAFETY: these levels have AES-NI and SSE4.1; `checked` has made sure of the level.
                Self::Rounds(level, unsafe { expand(key) }.into())
            }
            _ => Self::Portable(portable::aes::Key::new(level, key)),
        }
    }

    /// See [`crate::aes::AesKey::encrypt_blocks`].
    pub(crate) fn encrypt(&self, blocks: &mut [u128]) {
        match self {
            Self::Portable(key) => key.encrypt(blocks),
            Self::Rounds(level, keys) => at_level!(level, encrypt(keys, blocks)),
        }
    }

    /// See [`portable::aes::Key::counter`].
    pub(crate) fn counter(&self, start: u128, out: &mut [u128]) {
        match self {
            Self::Portable(key) => key.counter(start, out),
            Self::Rounds(level, keys) => at_level!(level, counter(keys, start, out)),
        }
    }

    /// See [`crate::aes::Prg::fold`].
    pub(crate) fn fold(&self, start: u128, m: usize, sums: Fold<'_>) {
        match self {
            Self::Portable(key) => key.fold(start, m, sums),
            Self::Rounds(level, keys) if m.is_multiple_of(batch(*level)) => {
                at_level!(level, fold(keys, start, m, sums));
            }
            Self::Rounds(level, _) => portable::aes::fold(*level, |x| self.counter(start, x), m, sums),
        }
    }

    /// See [`crate::tree::grow`].
    pub(crate) fn grow(&self, parents: &mut [u128], others: &mut [u128]) {
        match self {
            Self::Portable(key) => key.grow(parents, others),
            Self::Rounds(level, keys) => at_level!(level, grow(keys, parents, others)),
        }
    }

    /// See [`crate::onehot::hash_nodes`].
    pub(crate) fn hash_nodes(&self, nodes: &[u128], out: &mut [u128]) {
        match self {
            Self::Portable(key) => key.hash_nodes(nodes, out),
            Self::Rounds(level, keys) => at_level!(level, hash_nodes(keys, nodes, out)),
        }
    }

    /// See [`crate::onehot::leaves`].
    pub(crate) fn leaves(&self, nodes: &[u128], c: u128, out: &mut [u128]) {
        match self {
            Self::Portable(key) => key.leaves(nodes, c, out),
            Self::Rounds(level, keys) => at_level!(level, leaves(keys, nodes, c, out)),
        }
    }

    /// See [`crate::onehot::half_level`].
    pub(crate) fn half_level(&self, nodes: &[u128], c: u128, left: &mut [u128], right: &mut [u128]) {
        match self {
            Self::Portable(key) => key.half_level(nodes, c, left, right),
            Self::Rounds(level, keys) => at_level!(level, half_level(keys, nodes, c, left, right)),
        }
    }
}

/// See [`portable::aes::hash`].
pub(crate) fn hash(level: Level, key: u128, position: u64, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
    match level.checked() {
        Level::Aesni | Level::Vaes256 | Level::Avx512 => at_level!(level, hash(key, position, rows, offsets, out)),
        _ => portable::aes::hash(level, key, position, rows, offsets, out),
    }
}

/// See [`portable::aes::hash_pairs`].
pub(crate) fn hash_pairs(
    level: Level,
    key: u128,
    position: u64,
    rows: &[u128],
    delta: u128,
    zero: &mut [u128],
    one: &mut [u128],
) {
    match level.checked() {
        Level::Aesni | Level::Vaes256 | Level::Avx512 => {
            at_level!(level, hash_pairs(key, position, rows, delta, zero, one));
        }
        _ => portable::aes::hash_pairs(level, key, position, rows, delta, zero, one),
    }
}

/// Key expansion; constant time. `aesenclast` of four equal columns substitutes the word in each of them and adds
/// the round constant, at a third of the latency of `aeskeygenassist`.
#[target_feature(enable = "aes,sse4.1,ssse3")]
fn expand(key: u128) -> RoundKeys {
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
        const L: usize = $L;
        /// Vectors in flight.
        const W: usize = $W;
        /// Blocks in flight.
        pub(crate) const B: usize = L * W;
        type V = $V;

        #[target_feature(enable = $features)]
        #[inline]
        fn pi<const M: usize>(keys: &[V; 11], mut x: [V; M]) -> [V; M] {
            for w in 0..M {
                x[w] = xor(x[w], keys[0]);
            }
            macro_rules! round {
                ($r:literal, $op:ident) => {
                    for w in 0..M {
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
        pub(crate) fn counter(keys: &RoundKeys, start: u128, out: &mut [u128]) {
            let k = round_keys(keys);
            let mut next = add64(bcast(start), iota());
            let (full, tail) = out.as_chunks_mut::<B>();
            for out in full {
                let mut x = zero();
                for w in 0..W {
                    x[w] = next;
                    next = add64(next, bcast(L as u128));
                }
                store_all(out, pi(&k, x));
            }
            // Half a batch at a time: OT extension asks for 16 blocks of many streams.
            for out in tail.chunks_mut(B / 2) {
                let mut x = [next; W / 2];
                for x in &mut x {
                    *x = next;
                    next = add64(next, bcast(L as u128));
                }
                let mut blocks = [[0; L]; W / 2];
                for (blocks, x) in blocks.iter_mut().zip(pi(&k, x)) {
                    store(blocks, x);
                }
                out.copy_from_slice(&blocks.as_flattened()[..out.len()]);
            }
        }

        /// See [`crate::aes::Prg::fold`]; `m` is a multiple of `B`.
        #[target_feature(enable = $features)]
        pub(crate) fn fold(keys: &RoundKeys, start: u128, m: usize, fold: Fold<'_>) {
            let k = round_keys(keys);
            let mut next = add64(bcast(start), iota());
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

        /// `B` blocks of `x` from `i` on, with zeros behind its end.
        #[target_feature(enable = $features)]
        #[inline]
        fn load_from(x: &[u128], i: usize) -> [V; W] {
            match x[i..].first_chunk::<B>() {
                Some(x) => load_all(x),
                None => {
                    let mut tail = [0; B];
                    tail[..x.len() - i].copy_from_slice(&x[i..]);
                    load_all(&tail)
                }
            }
        }

        /// `H(x)` of [`crate::onehot::hash_nodes`].
        #[target_feature(enable = $features)]
        #[inline]
        fn circular(keys: &[V; 11], x: [V; W]) -> [V; W] {
            let mut s = x;
            for w in 0..W {
                s[w] = sigma(x[w]);
            }
            let mut y = pi(keys, s);
            for w in 0..W {
                y[w] = xor(y[w], s[w]);
            }
            y
        }

        /// See [`crate::onehot::hash_nodes`].
        #[target_feature(enable = $features)]
        pub(crate) fn hash_nodes(keys: &RoundKeys, nodes: &[u128], out: &mut [u128]) {
            let k = round_keys(keys);
            batches!(out, i => circular(&k, load_from(nodes, i)));
        }

        /// See [`crate::onehot::leaves`].
        #[target_feature(enable = $features)]
        pub(crate) fn leaves(keys: &RoundKeys, nodes: &[u128], c: u128, out: &mut [u128]) {
            let (k, c) = (round_keys(keys), bcast(c));
            batches!(out, i => {
                let s = load_from(nodes, i);
                let mut y = circular(&k, s);
                for w in 0..W {
                    y[w] = xor(y[w], where_bit_1(s[w], c));
                }
                y
            });
        }

        /// See [`crate::onehot::half_level`].
        #[target_feature(enable = $features)]
        pub(crate) fn half_level(keys: &RoundKeys, nodes: &[u128], c: u128, left: &mut [u128], right: &mut [u128]) {
            let (k, c) = (round_keys(keys), bcast(c));
            let n = nodes.len();
            for i in (0..n).step_by(B) {
                let mut s = load_from(nodes, i);
                let mut y = circular(&k, s);
                for w in 0..W {
                    y[w] = xor(y[w], where_bit_1(s[w], c));
                    s[w] = xor(s[w], y[w]);
                }
                for (out, x) in [(&mut left[i..], y), (&mut right[i..], s)] {
                    match out.first_chunk_mut::<B>() {
                        Some(out) => store_all(out, x),
                        None => {
                            let mut tail = [0; B];
                            store_all(&mut tail, x);
                            out.copy_from_slice(&tail[..n - i]);
                        }
                    }
                }
            }
        }

        /// The next round keys; constant time. See [`expand`].
        #[target_feature(enable = $features)]
        #[inline]
        fn next_keys<const M: usize>(k: &mut [V; M], rcon: i32) {
            let (rotate, rcon) = (bcast(from_m128(_mm_set1_epi32(0x0c0f_0e0d))), bcast(from_m128(_mm_set1_epi32(rcon))));
            for k in k {
                let t = last(shuffle8(*k, rotate), rcon);
                *k = xor(*k, shift_left::<4>(*k));
                *k = xor(*k, shift_left::<8>(*k));
                *k = xor(*k, t);
            }
        }

        /// See [`portable::aes::hash`].
        #[target_feature(enable = $features)]
        pub(crate) fn hash(key: u128, position: u64, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
            let n = offsets.len();
            if n.is_multiple_of(L) {
                return hash_many(key, position, rows, offsets, out);
            }
            let mut one = [0; 8 * B];
            for (b, (rows, out)) in rows.chunks(8 * B).zip(out.chunks_mut(8 * B * n)).enumerate() {
                let position = position + (b * 8 * B) as u64;
                for (j, &offset) in offsets.iter().enumerate() {
                    hash_one(key, position, rows, offset, &mut one[..rows.len()]);
                    out[j..].iter_mut().step_by(n).zip(&one).for_each(|(out, one)| *out = *one);
                }
            }
        }

        /// One block for each key: keys are expanded along with it.
        #[target_feature(enable = $features)]
        fn hash_one(key: u128, position: u64, rows: &[u128], offset: u128, out: &mut [u128]) {
            let (key, offset) = (bcast(key), bcast(offset));
            let mut next = add64(bcast(u128::from(position)), iota());
            let n = rows.len();
            batches!(out, i => {
                let mut tail = [0; B];
                let x = if let Some(rows) = rows[i..].first_chunk::<B>() {
                    rows
                } else {
                    tail[..n - i].copy_from_slice(&rows[i..]);
                    &tail
                };
                let (mut x, mut k) = (load_all(x), zero());
                for w in 0..W {
                    x[w] = xor(x[w], offset);
                    k[w] = xor(key, next);
                    next = add64(next, bcast(L as u128));
                }
                let mut y = x;
                for w in 0..W {
                    y[w] = xor(y[w], k[w]);
                }
                for rcon in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b] {
                    next_keys(&mut k, rcon);
                    for w in 0..W {
                        y[w] = enc(y[w], k[w]);
                    }
                }
                next_keys(&mut k, 0x36);
                for w in 0..W {
                    y[w] = xor(last(y[w], k[w]), x[w]);
                }
                y
            });
        }

        /// See [`portable::aes::hash_pairs`]: two blocks for each key, half a batch of keys at a time.
        #[target_feature(enable = $features)]
        pub(crate) fn hash_pairs(
            key: u128,
            position: u64,
            rows: &[u128],
            delta: u128,
            zero: &mut [u128],
            one: &mut [u128],
        ) {
            const M: usize = W / 2;
            let (key, delta) = (bcast(key), bcast(delta));
            let mut next = add64(bcast(u128::from(position)), iota());
            for ((rows, zero), one) in rows.chunks(B / 2).zip(zero.chunks_mut(B / 2)).zip(one.chunks_mut(B / 2)) {
                let mut blocks = [[0; L]; M];
                blocks.as_flattened_mut()[..rows.len()].copy_from_slice(rows);
                let (mut x, mut k) = ([bcast(0); M], [bcast(0); M]);
                for w in 0..M {
                    x[w] = load(&blocks[w]);
                    k[w] = xor(key, next);
                    next = add64(next, bcast(L as u128));
                }
                let (mut y, mut z) = (x, x);
                for w in 0..M {
                    y[w] = xor(x[w], k[w]);
                    z[w] = xor(y[w], delta);
                }
                for rcon in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b] {
                    next_keys(&mut k, rcon);
                    for w in 0..M {
                        y[w] = enc(y[w], k[w]);
                        z[w] = enc(z[w], k[w]);
                    }
                }
                next_keys(&mut k, 0x36);
                for w in 0..M {
                    store(&mut blocks[w], xor(last(y[w], k[w]), x[w]));
                }
                zero.copy_from_slice(&blocks.as_flattened()[..zero.len()]);
                for w in 0..M {
                    store(&mut blocks[w], xor(last(z[w], k[w]), xor(x[w], delta)));
                }
                one.copy_from_slice(&blocks.as_flattened()[..one.len()]);
            }
        }

        /// Many blocks for each key: keys are expanded for `L` rows at a time.
        #[target_feature(enable = $features)]
        fn hash_many(key: u128, position: u64, rows: &[u128], offsets: &[u128], out: &mut [u128]) {
            let (offsets, _) = offsets.as_chunks::<L>();
            let key = bcast(key);
            let mut next = add64(bcast(u128::from(position)), iota());
            let mut round = [[0; L]; 11];
            for (rows, out) in rows.chunks(L).zip(out.chunks_mut(L * L * offsets.len())) {
                let mut k = [xor(key, next)];
                next = add64(next, bcast(L as u128));
                store(&mut round[0], k[0]);
                for (r, rcon) in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36].into_iter().enumerate() {
                    next_keys(&mut k, rcon);
                    store(&mut round[r + 1], k[0]);
                }
                for ((lane, row), out) in rows.iter().enumerate().zip(out.chunks_exact_mut(L * offsets.len())) {
                    let k: RoundKeys = std::array::from_fn(|r| round[r][lane]);
                    let (k, row) = (round_keys(&k), bcast(*row));
                    let (out, _) = out.as_chunks_mut::<L>();
                    let (full, tail) = out.as_chunks_mut::<W>();
                    let (offsets, tail_offsets) = offsets.as_chunks::<W>();
                    for (out, offsets) in full.iter_mut().zip(offsets) {
                        let mut x = zero();
                        for w in 0..W {
                            x[w] = xor(row, load(&offsets[w]));
                        }
                        let y = pi(&k, x);
                        for w in 0..W {
                            store(&mut out[w], xor(y[w], x[w]));
                        }
                    }
                    for (out, offset) in tail.iter_mut().zip(tail_offsets) {
                        let x = xor(row, load(offset));
                        store(out, xor(pi(&k, [x])[0], x));
                    }
                }
            }
        }
    };
}

/// One block per register.
mod aesni {
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
    fn shuffle8(x: V, i: V) -> V {
        _mm_shuffle_epi8(x, i)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn shift_left<const BYTES: i32>(x: V) -> V {
        _mm_slli_si128::<BYTES>(x)
    }
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn sigma(x: V) -> V {
        _mm_xor_si128(_mm_shuffle_epi32::<0x4e>(x), _mm_unpackhi_epi64(_mm_setzero_si128(), x))
    }
    /// `c` in the blocks of `x` whose bit 1 is set, 0 in the others.
    #[target_feature(enable = "aes,avx2")]
    #[inline]
    fn where_bit_1(x: V, c: V) -> V {
        // The low lane of every block everywhere; its bit 1 becomes the sign, and that all bits.
        let low = _mm_shuffle_epi32::<0>(x);
        _mm_and_si128(c, _mm_srai_epi32::<31>(_mm_slli_epi32::<30>(low)))
    }
    kernels!("aes,avx2", __m128i, 1, 8);
}

/// Two blocks per register.
mod vaes256 {
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
    fn shuffle8(x: V, i: V) -> V {
        _mm256_shuffle_epi8(x, i)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn shift_left<const BYTES: i32>(x: V) -> V {
        _mm256_slli_si256::<BYTES>(x)
    }
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn sigma(x: V) -> V {
        _mm256_xor_si256(_mm256_shuffle_epi32::<0x4e>(x), _mm256_unpackhi_epi64(_mm256_setzero_si256(), x))
    }
    /// `c` in the blocks of `x` whose bit 1 is set, 0 in the others.
    #[target_feature(enable = "aes,avx2,vaes")]
    #[inline]
    fn where_bit_1(x: V, c: V) -> V {
        // The low lane of every block everywhere; its bit 1 becomes the sign, and that all bits.
        let low = _mm256_shuffle_epi32::<0>(x);
        _mm256_and_si256(c, _mm256_srai_epi32::<31>(_mm256_slli_epi32::<30>(low)))
    }
    kernels!("aes,avx2,vaes", __m256i, 2, 8);
}

/// Four blocks per register.
mod avx512 {
    use super::*;

    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn xor(x: V, y: V) -> V {
        _mm512_xor_si512(x, y)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn enc(x: V, k: V) -> V {
        _mm512_aesenc_epi128(x, k)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn last(x: V, k: V) -> V {
        _mm512_aesenclast_epi128(x, k)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn bcast(x: u128) -> V {
        _mm512_broadcast_i32x4(to_m128(x))
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn iota() -> V {
        _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn add64(x: V, y: V) -> V {
        _mm512_add_epi64(x, y)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn load(x: &[u128; L]) -> V {
        bytemuck::must_cast(*x)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn store(out: &mut [u128; L], x: V) {
        *out = bytemuck::must_cast(x);
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn shuffle8(x: V, i: V) -> V {
        _mm512_shuffle_epi8(x, i)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn shift_left<const BYTES: i32>(x: V) -> V {
        _mm512_bslli_epi128::<BYTES>(x)
    }
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn sigma(x: V) -> V {
        _mm512_xor_si512(_mm512_shuffle_epi32::<0x4e>(x), _mm512_unpackhi_epi64(_mm512_setzero_si512(), x))
    }
    /// `c` in the blocks of `x` whose bit 1 is set, 0 in the others.
    #[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
    #[inline]
    fn where_bit_1(x: V, c: V) -> V {
        // The low lane of every block everywhere; its bit 1 becomes the sign, and that all bits.
        let low = _mm512_shuffle_epi32::<0>(x);
        _mm512_and_si512(c, _mm512_srai_epi32::<31>(_mm512_slli_epi32::<30>(low)))
    }
    kernels!("aes,avx512f,avx512bw,vaes", __m512i, 4, 8);
}
