//! Every kernel at every level that this CPU has. Sizes stay in L1 or L2 and below the thresholds for threads, except
//! where the name says `large`: protocols work in chunks like these.

#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sirnn_kernels::{
    Level, RingWord, aes, available, bits, cross, hash, limbs, matmul, ntt, ops, pack, sample, table, transpose,
};
use std::hint::black_box;

/// One benchmark per level.
fn levels(c: &mut Criterion, group: &str, case: &str, throughput: Throughput, mut run: impl FnMut(Level)) {
    let mut g = c.benchmark_group(format!("kernels/{group}"));
    g.throughput(throughput);
    for level in available() {
        g.bench_function(BenchmarkId::new(case, level.name()), |b| b.iter(|| run(level)));
    }
    g.finish();
}

fn words<W: RingWord>(width: u32, n: usize) -> Vec<W> {
    let mut v = vec![W::zero(); n];
    aes::Prg::new(1).fill_words(width, &mut v);
    v
}

fn blocks(n: usize) -> Vec<u128> {
    let mut v = vec![0; n];
    aes::Prg::new(2).fill_blocks(&mut v);
    v
}

fn name<W: RingWord>() -> String {
    format!("u{}", <W as RingWord>::BITS)
}

fn aes_and_hash(c: &mut Criterion) {
    for n in [64usize, 1024] {
        let mut out = blocks(n);
        let mut prgs = Level::ALL.map(|l| available().contains(&l).then(|| aes::Prg::new_at(l, 7)));
        levels(c, "aes_ctr", &format!("{n} blocks"), Throughput::Elements(n as u64), |l| {
            prgs[l as usize].as_mut().expect("available").fill_blocks(black_box(&mut out));
        });
    }
    for (n, rows, what) in [(1, 64, ""), (1, 1024, ""), (16, 64, ""), (256, 4, ""), (16, 16384, " large")] {
        let (r, o) = (blocks(rows), blocks(n));
        let mut out = blocks(rows * n);
        let case = format!("{rows} rows x {n}{what}");
        levels(c, "pads", &case, Throughput::Elements((rows * n) as u64), |l| {
            hash::Hasher::new_at(l, 1, 2).pads(5, 0, black_box(&r), &o, &mut out);
        });
    }
    let (r, [mut zero, mut one]) = (blocks(1024), [(); 2].map(|()| blocks(1024)));
    levels(c, "pad_pairs", "1024 rows", Throughput::Elements(1024), |l| {
        hash::Hasher::new_at(l, 1, 2).pad_pairs(5, 0, black_box(&r), 7, &mut zero, &mut one);
    });
    let mut out = blocks(256);
    levels(c, "long_pad", "256 blocks", Throughput::Elements(256), |l| {
        hash::Hasher::new_at(l, 1, 2).long_pad(5, 9, 0, black_box(&mut out));
    });
}

fn transposes(c: &mut Criterion) {
    for m in [1usize, 8, 128, 4096] {
        let (cols, mut rows) = (blocks(128 * m), blocks(128 * m));
        let case = format!("128 x {}{}", 128 * m, if m == 4096 { " large" } else { "" });
        levels(c, "transpose128", &case, Throughput::Bytes(2048 * m as u64), |l| {
            transpose::transpose128_at(l, black_box(&cols), m, &mut rows);
        });
    }
}

fn columns(c: &mut Criterion) {
    let (m, picks) = (16, [(); 128].map(|()| [3, 141, 59, 26, 53, 58, 97, 93]));
    let (cols, mut out) = (blocks(256 * m), blocks(128 * m));
    levels(c, "sum_columns", "128 sums of 8 x 2048 bits", Throughput::Elements(128 * m as u64), |l| {
        bits::sum_columns_at(l, black_box(&cols), m, &picks, &mut out);
    });
}

fn packing(c: &mut Criterion) {
    fn one<W: RingWord>(c: &mut Criterion, width: u32) {
        let n = 4096;
        let mut xs = words::<W>(width, n);
        let mut bytes = vec![0; pack::packed_len(n, width)];
        let case = format!("{} width {width}", name::<W>());
        levels(c, "pack", &case, Throughput::Elements(n as u64), |l| {
            pack::pack_at(l, width, black_box(&xs), &mut bytes);
        });
        levels(c, "unpack", &case, Throughput::Elements(n as u64), |l| {
            pack::unpack_at(l, width, black_box(&bytes), &mut xs);
        });
    }
    one::<u8>(c, 4);
    one::<u16>(c, 13);
    one::<u16>(c, 16);
    one::<u32>(c, 21);
    one::<u64>(c, 37);
}

fn planes(c: &mut Criterion) {
    fn one<W: RingWord>(c: &mut Criterion) {
        let n = 4096;
        let mut xs = words::<W>(<W as RingWord>::BITS, n);
        let mut plane = words::<u64>(64, n / 64);
        let elements = Throughput::Elements(n as u64);
        levels(c, "bit_plane", &name::<W>(), elements.clone(), |l| {
            bits::bit_plane_at(l, black_box(&xs), 5, &mut plane)
        });
        let a = xs.clone();
        levels(c, "select_words", &name::<W>(), elements.clone(), |l| {
            bits::select_words_at(l, black_box(&plane), &a, &mut xs);
        });
        levels(c, "words_from_plane", &name::<W>(), elements, |l| {
            bits::words_from_plane_at(l, black_box(&plane), n, &mut xs);
        });
    }
    one::<u8>(c);
    one::<u16>(c);
    one::<u32>(c);
    one::<u64>(c);
    let n = 1024;
    let x = words::<u64>(64, n);
    let mut out = x.clone();
    levels(c, "and_triple", "65536 bits", Throughput::Elements(64 * n as u64), |l| {
        bits::and_triple_at(l, black_box(&x), &x, &x, &x, &x, true, &mut out);
    });
}

fn tables(c: &mut Criterion) {
    fn one<W: RingWord>(c: &mut Criterion, index: u32, xor: u32, width: u32) {
        let bits = index + xor;
        let n = (1024 >> bits).max(4);
        let (table, masks) = (words::<W>(width, 1 << bits), words::<W>(width, n));
        let (rot, xorv) = (words::<u16>(index, n), words::<u16>(xor, n));
        let (rot, xorv) = (if index > 0 { &rot[..] } else { &[] }, if xor > 0 { &xorv[..] } else { &[] });
        let (rows, offsets) = (blocks(n), blocks(1 << bits));
        let mut pads = blocks(n << bits);
        let mut out = words::<W>(width, n << bits);
        let mut bytes = vec![0; pack::packed_len(n << bits, width)];
        let case = format!("2^{index}+{xor} x {width} bits");
        let instances = Throughput::Elements(n as u64);
        // Borrowed anew for each call, between which the pads are written.
        macro_rules! lookups {
            () => {
                table::LookupTables {
                    tables: &table,
                    units: 1,
                    index_bits: index,
                    xor_bits: xor,
                    rotations: black_box(rot),
                    xors: xorv,
                    pads: &pads,
                    pad_shift: 0,
                    masks: &masks,
                    width,
                    xor: false,
                }
            };
        }
        levels(c, "lut_send", &case, instances.clone(), |l| table::lut_send_at(l, &lookups!(), &mut out));
        levels(c, "lut_send, with pads and packing", &case, instances.clone(), |l| {
            hash::Hasher::new_at(l, 1, 2).pads(5, 0, black_box(&rows), &offsets, &mut pads);
            table::lut_send_at(l, &lookups!(), &mut out);
            pack::pack_at(l, width, &out, &mut bytes);
        });
        let (choice, mut mine) = (words::<u16>(bits, n), words::<W>(width, n));
        levels(c, "lut_recv", &case, instances, |l| {
            table::lut_recv_at(l, black_box(&out), bits, &choice, &pads[..n], 0, width, false, &mut mine);
        });
    }
    one::<u8>(c, 4, 0, 8);
    one::<u16>(c, 4, 1, 12);
    one::<u16>(c, 8, 0, 16);
    one::<u32>(c, 8, 0, 20);
    one::<u64>(c, 12, 0, 40);

    let (digit, n) = (4, 64);
    let flags = [(true, 4, 0), (false, 4, 0)];
    let (a, delta, masks) = (words::<u8>(digit, n), words::<u8>(digit, n), words::<u8>(2, n));
    let pads = blocks(n << digit);
    let mut section = vec![0; 2 * (n << digit) / 64];
    let mut out = vec![0; 2 * n / 64];
    levels(c, "leaf_send", "2^4, 2 flags", Throughput::Elements(n as u64), |l| {
        table::leaf_send_at(l, digit, &flags, &[&a], black_box(&delta), &pads, &masks, &mut section);
    });
    levels(c, "leaf_recv", "2^4, 2 flags", Throughput::Elements(n as u64), |l| {
        table::leaf_recv_at(l, digit, 2, black_box(&section), &delta, &pads[..n], &mut out);
    });
}

fn arithmetic(c: &mut Criterion) {
    fn one<W: RingWord>(c: &mut Criterion) {
        let n = 1024;
        let width = <W as RingWord>::BITS - 1;
        let (x, y) = (words::<W>(width, n), words::<W>(width, n));
        let (mut out, mut r0) = (x.clone(), x.clone());
        let (zero, one) = (blocks(n), blocks(n));
        let d = words::<u64>(64, n / 64);
        let case = name::<W>();
        let elements = Throughput::Elements(n as u64);
        levels(c, "add", &case, elements.clone(), |l| ops::add_at(l, width, black_box(&x), &y, &mut out));
        levels(c, "mul", &case, elements.clone(), |l| ops::mul_at(l, width, black_box(&x), &y, &mut out));
        levels(c, "low_words", &case, elements.clone(), |l| {
            table::low_words_at(l, black_box(&zero), 0, width, &mut out)
        });
        levels(c, "cot_send", &case, elements.clone(), |l| {
            cross::cot_send_at(l, width, black_box(&zero), &one, &x, &mut out, &mut r0);
        });
        levels(c, "cot_send_finish", &case, elements.clone(), |l| {
            cross::cot_send_finish_at(l, width, 1, width, black_box(&d), &x, &y, &mut out);
        });
        levels(c, "cot_recv_finish", &case, elements, |l| {
            cross::cot_recv_finish_at(l, width, 1, width, black_box(&d), &d, &zero, &x, &mut out);
        });
        let (rows, inner, outer) = (32, 128, 128);
        let (x, w) = (words::<W>(width, rows * inner), words::<W>(width, inner * outer));
        let mut y = words::<W>(width, rows * outer);
        levels(c, "matmul", &case, Throughput::Elements((rows * inner * outer) as u64), |l| {
            matmul::matmul_at(l, black_box(&x), &w, &mut y, rows, inner, outer);
        });
    }
    one::<u8>(c);
    one::<u16>(c);
    one::<u32>(c);
    one::<u64>(c);
}

/// What ring-LWE is made of: a transform of 4096 coefficients, a combination of eight terms, products of 72-bit numbers with 8-bit
/// weights (per product), and small random numbers.
fn polynomials(c: &mut Criterion) {
    const N: usize = 4096;
    let p = ntt::primes(50, N, 1)[0];
    let mut x: Vec<u64> = words::<u64>(50, N).into_iter().map(|x| x % p).collect();
    let y = x.clone();
    let at = |l| ntt::Ntt::new_at(l, p, N);
    let transforms: Vec<(Level, ntt::Ntt)> = available().into_iter().map(|l| (l, at(l))).collect();
    let of = |level| &transforms.iter().find(|(l, _)| *l == level).expect("all levels").1;
    let elements = Throughput::Elements(N as u64);
    levels(c, "ntt", "forward", elements.clone(), |l| of(l).forward(black_box(&mut x)));
    levels(c, "ntt", "inverse", elements.clone(), |l| of(l).inverse(3, black_box(&mut x)));
    levels(c, "ntt", "multiply", elements.clone(), |l| of(l).multiply(black_box(&mut x), &y));
    let terms: Vec<(&[i64], u64)> = (2..=9).map(|k| (ntt::terms(&y), p / k)).collect();
    let mut out = vec![0; N];
    levels(c, "ntt", "combine_8", elements.clone(), |l| of(l).combine(black_box(&terms), 1, &mut out));
    let (inner, outer, slots) = (100, 32, 128);
    let rows = limbs::Limbs::zero(5, inner, slots);
    let starts: Vec<usize> = (0..rows.pairs).map(|pair| rows.at(2 * pair)).collect();
    let weights = vec![[77, -128]; outer * rows.pairs];
    let mut sums = vec![0; outer * rows.limbs * slots];
    levels(c, "limbs", "72_bits", Throughput::Elements((inner * outer * slots) as u64), |l| {
        limbs::multiply_accumulate_at(l, black_box(&rows), &starts, &weights, 128, 0, slots, &mut sums);
    });
    let random = words::<u64>(64, N);
    let mut small = vec![0; N];
    levels(c, "sample", "ternary", elements.clone(), |l| sample::ternary_from_at(l, black_box(&random), &mut small));
    levels(c, "sample", "binomial", elements, |l| sample::binomial_from_at(l, black_box(&random), &mut small));
}

criterion_group! {
    name = kernels;
    config = sirnn_benches::configure();
    targets = aes_and_hash, transposes, columns, packing, planes, tables, arithmetic, polynomials
}
criterion_main!(kernels);
