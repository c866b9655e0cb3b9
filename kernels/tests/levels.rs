//! Every level computes what the portable code does, for shapes that nobody thought of.

use proptest::prelude::*;
use sirnn_kernels::{
    Level, RingWord,
    aes::Prg,
    available, bits, cross, hash, ops, pack, ring,
    table::{self, LookupTables},
    transpose,
};

fn words<W: RingWord>(seed: u64, width: u32, n: usize) -> Vec<W> {
    let mut v = vec![W::zero(); n];
    Prg::new_at(Level::Portable, seed.into()).fill_words(width, &mut v);
    v
}

fn blocks(seed: u64, n: usize) -> Vec<u128> {
    let mut v = vec![0; n];
    Prg::new_at(Level::Portable, seed.into()).fill_blocks(&mut v);
    v
}

/// The same value from every level.
fn agree<T: PartialEq>(run: impl Fn(Level) -> T) {
    let want = run(Level::Portable);
    for l in available() {
        assert!(run(l) == want, "{l:?}");
    }
}

macro_rules! with_word {
    ($width:expr, $W:ident => $body:expr) => {
        match ring::storage_bits($width) {
            8 => {
                type $W = u8;
                $body
            }
            16 => {
                type $W = u16;
                $body
            }
            32 => {
                type $W = u32;
                $body
            }
            _ => {
                type $W = u64;
                $body
            }
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sections(width in 1u32..=64, n in 0usize..600, seed: u64) {
        with_word!(width, W => {
            let xs: Vec<W> = words(seed, width, n);
            let section = |l| {
                let mut out = vec![0xaa; pack::packed_len(n, width)];
                pack::pack_at(l, width, &xs, &mut out);
                out
            };
            agree(section);
            agree(|l| {
                let mut out = vec![W::MAX; n];
                pack::unpack_at(l, width, &section(Level::Portable), &mut out);
                assert!(out == xs);
                out
            });
        });
    }

    #[test]
    fn lookups(
        width in 1u32..=64, index in 0u32..=8, xor in 0u32..=4, units in 1usize..9, n in 0usize..20, xors: bool,
        shift in 0u32..=64, seed: u64,
    ) {
        with_word!(width, W => {
            let bits = index + xor;
            let table: Vec<W> = words(seed, width, units << bits);
            let masks: Vec<W> = words(seed + 1, width, n);
            let (rot, xorv): (Vec<u16>, Vec<u16>) = (words(seed + 2, index, n), words(seed + 3, xor, n));
            let pads = blocks(seed + 4, n << bits);
            agree(|l| {
                let mut out = vec![W::MAX; n << bits];
                let lookups = LookupTables {
                    tables: &table,
                    units,
                    index_bits: index,
                    xor_bits: xor,
                    rotations: &rot,
                    xors: &xorv,
                    pads: &pads,
                    pad_shift: shift,
                    masks: &masks,
                    width,
                    xor: xors,
                };
                table::lut_send_at(l, &lookups, &mut out);
                out
            });
        });
    }

    #[test]
    fn leaves(digit in 1u32..=8, n in 0usize..150, seed: u64, kinds: [bool; 4], t in 1u8..=8) {
        let t = t.min(digit as u8);
        let views: [Vec<u8>; 2] = [words(seed, digit, n), words(seed + 1, digit, n)];
        let flags: Vec<_> = kinds.iter().enumerate().map(|(f, &k)| (k, if f % 2 == 0 { t } else { 1 }, f as u8 / 2)).collect();
        let (delta, masks): (Vec<u8>, Vec<u8>) = (words(seed + 2, digit, n), words(seed + 3, 8, n));
        let pads = blocks(seed + 4, n << digit);
        let send = |l| {
            let mut out = vec![!0; 4 * (n << digit).div_ceil(64)];
            table::leaf_send_at(l, digit, &flags, &[&views[0], &views[1]], &delta, &pads, &masks, &mut out);
            out
        };
        agree(send);
        agree(|l| {
            let mut out = vec![!0; 4 * n.div_ceil(64)];
            table::leaf_recv_at(l, digit, 4, &send(Level::Portable), &delta, &pads[..n], &mut out);
            out
        });
    }

    #[test]
    fn hashes(position: u64, block: u32, rows in 0usize..70, n in 1usize..20, session: u128, domain: u8) {
        let position = position >> 1;
        let (r, o) = (blocks(1, rows), blocks(2, n));
        agree(|l| {
            let mut out = [rows * n, rows, rows, n].map(|len| vec![0; len]);
            let [all, zero, one, long] = &mut out;
            let hasher = hash::Hasher::new_at(l, session, domain);
            hasher.pads(position, block, &r, &o, all);
            hasher.pad_pairs(position, block, &r, o[0], zero, one);
            hasher.long_pad(position, session, block >> 1, long);
            out
        });
    }

    #[test]
    fn rest(width in 1u32..=64, n in 0usize..300, bit in 0u32..64, m in 0usize..12, seed: u64) {
        with_word!(width, W => {
            let (x, y): (Vec<W>, Vec<W>) = (words(seed, width, n), words(seed + 1, width, n));
            let pads = blocks(seed, n);
            let d: Vec<u64> = words(seed, 64, n.div_ceil(64));
            agree(|l| {
                let mut plane = vec![!0; n.div_ceil(64)];
                bits::bit_plane_at(l, &x, bit % W::BITS, &mut plane);
                let mut out = vec![vec![W::MAX; n]; 6];
                bits::select_words_at(l, &d, &x, &mut out[0]);
                table::low_words_at(l, &pads, bit, width, &mut out[1]);
                ops::mul_at(l, width, &x, &y, &mut out[2]);
                let mut acc: Vec<u64> = words(seed, 64, n);
                cross::cot_recv_finish_at(l, width, 64 - width, 64, &d, &plane, &pads, &x, &mut acc);
                cross::cot_send_finish_at(l, width, 64 - width, 64, &d, &x, &y, &mut acc);
                (plane, out, acc)
            });
        });
        let cols = blocks(seed, 128 * m);
        agree(|l| {
            let mut out = vec![0; 128 * m];
            transpose::transpose128_at(l, &cols, m, &mut out);
            out
        });
    }
}
