//! The server: keys that are encryptions of its weights, and its shares.

use super::{
    Public, Wide,
    noise::Noise,
    set::{Poly, Ring, Set},
    shape::{Block, REST_BITS, Shape, wide_len},
};
use crate::{Error, inst::section, transport::Channel, vector::Vector, with_words};
use rayon::prelude::*;
use sirnn_kernels::{
    limbs::{LIMB_BITS, Limbs, SLOTS, multiply_accumulate},
    ntt::{mul_mod, terms},
    pack::{pack, packed_len, unpack},
    ring::RingWord,
    sample::FINE_BITS,
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Polynomials of weights that a job works on.
const JOB: usize = 32;
/// Slots whose sums are held at a time.
const TILE: usize = 128;

/// A matrix as the products need it.
pub(super) struct Weights {
    /// By group and part, then by polynomial, tap and pair of inputs.
    factors: Vec<Vec<Vec<[i16; 2]>>>,
    /// Sums of the weights of a polynomial, by group.
    sums: Vec<Vec<i64>>,
    /// The seeds of `u`, by group.
    seeds: Zeroizing<Vec<Vec<u128>>>,
}

impl Weights {
    pub(super) fn new(shape: &Shape, weights: &Vector, noise: &mut Noise) -> Self {
        let sign = 1i64 << (shape.weight_bits - 1);
        let all: Zeroizing<Vec<i64>> = Zeroizing::new(
            with_words!(weights, xs => xs.iter().map(|x| (x.to_u64() as i64 ^ sign).wrapping_sub(sign)).collect()),
        );
        let pairs = shape.inputs.div_ceil(2);
        let value = |group: usize, input: usize, poly: usize, tap: usize| {
            let real = input < shape.inputs;
            real.then(|| shape.weight(group, input, poly, tap)).flatten().map_or(0, |at| all[at])
        };
        // Signed digits: what is left after the lowest part is the highest.
        let digit = |x: i64, part: usize| match (shape.weight_parts(), part) {
            ([_], _) => x,
            (_, 0) => i64::from(x as i8),
            _ => (x - i64::from(x as i8)) >> 8,
        };
        let part = |group: usize, part: usize| {
            let mut factors = Vec::with_capacity(shape.polys() * shape.shifts.len() * pairs);
            for poly in 0..shape.polys() {
                for tap in 0..shape.shifts.len() {
                    let factor = |input| digit(value(group, input, poly, tap), part) as i16;
                    factors.extend((0..pairs).map(|pair| [factor(2 * pair), factor(2 * pair + 1)]));
                }
            }
            factors
        };
        let sum = |group: usize, poly: usize| -> i64 {
            let taps = 0..shape.shifts.len();
            taps.map(|tap| (0..shape.inputs).map(|input| value(group, input, poly, tap)).sum::<i64>()).sum()
        };
        Self {
            factors: (0..shape.groups).map(|g| (0..shape.weight_parts().len()).map(|p| part(g, p)).collect()).collect(),
            sums: (0..shape.groups).map(|g| (0..shape.polys()).map(|j| sum(g, j)).collect()).collect(),
            seeds: Zeroizing::new(
                (0..shape.groups).map(|_| (0..shape.polys()).map(|_| noise.seed()).collect()).collect(),
            ),
        }
    }

    /// `sums[poly][limb][slot]` over a tile of slots, for some polynomials of a group. `x` has `shape.reach()` slots before the first.
    fn multiply(&self, shape: &Shape, group: usize, polys: &[usize], x: &Limbs, from: usize, out: &mut [i64]) {
        out.fill(0);
        let slots = out.len() / polys.len() / x.limbs;
        let starts: Vec<usize> = shape
            .shifts
            .iter()
            .flat_map(|shift| (0..x.pairs).map(move |pair| x.at(2 * pair) + 2 * (shape.reach() - shift + from)))
            .collect();
        let (first, count) = (polys[0] * starts.len(), polys.len() * starts.len());
        for (factors, &(bits, shift)) in self.factors[group].iter().zip(shape.weight_parts()) {
            // A part's largest absolute value; the highest of two may be one more than a signed byte.
            let most = 1 << if bits == 0 { shape.weight_bits - 1 } else { bits - 1 };
            multiply_accumulate(x, &starts, &factors[first..][..count], most, shift, slots, out);
        }
    }
}

/// Jobs of a group.
fn jobs(shape: &Shape) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..shape.polys()).collect();
    all.chunks(JOB).map(<[usize]>::to_vec).collect()
}

/// Draws `u` and `e` and sends `A = sum_i w_i a_i + p u + e`, rounded, for every polynomial of weights.
pub(super) fn send_keys(
    public: &Public,
    index: usize,
    shape: &Shape,
    weights: &Weights,
    noise: &mut Noise,
    channel: &mut dyn Channel,
) -> Result<(), Error> {
    let ring = shape.form.set.ring();
    let p = public.keys(shape.form.set);
    for group in 0..shape.groups {
        let rows = PublicRows::new(ring, public, index, shape, group);
        let jobs: Vec<_> = jobs(shape).into_iter().map(|polys| (polys, noise.split())).collect();
        // A few at a time: keys of wide layers are large.
        for jobs in in_parts(jobs) {
            let keys: Vec<Vec<Vec<u8>>> = jobs
                .into_par_iter()
                .map(|(polys, mut noise)| key(ring, shape, weights, (group, &polys), &rows, &p, &mut noise))
                .collect();
            for key in keys.into_iter().flatten() {
                channel.send(&key)?;
            }
        }
    }
    Ok(())
}

/// Parts of a list of jobs that run at the same time.
fn in_parts<T>(mut jobs: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let size = 2 * rayon::current_num_threads();
    std::iter::from_fn(move || {
        let rest = jobs.split_off(size.min(jobs.len()));
        Some(std::mem::replace(&mut jobs, rest)).filter(|part| !part.is_empty())
    })
}

/// The public polynomials of a group's inputs in limbs, by prime, with those before the first slot that wrap around.
struct PublicRows {
    by_prime: Vec<Limbs>,
    /// Whether they are coefficients; else they are transforms, which is enough where nothing is shifted.
    coefficients: bool,
}

impl PublicRows {
    fn new(ring: &Ring, public: &Public, index: usize, shape: &Shape, group: usize) -> Self {
        let coefficients = shape.reach() > 0;
        let (pad, bits) = (shape.reach(), ring.set.primes().0);
        let room = pad + ring.n;
        let mut by_prime: Vec<Limbs> =
            ring.ntts.iter().map(|_| Limbs::zero(bits.div_ceil(LIMB_BITS) as usize, shape.inputs, room)).collect();
        for input in 0..shape.inputs {
            let mut a = public.inputs(ring.set, index, group * shape.inputs + input);
            for ((ntt, a), limbs) in ring.ntts.iter().zip(&mut a).zip(&mut by_prime) {
                if coefficients {
                    ntt.inverse(1, a);
                }
                for (slot, x) in a.iter().enumerate() {
                    limbs.set(input, pad + slot, &[*x]);
                }
                // X^n = -1.
                let (at, stride) = (limbs.at(input), limbs.stride());
                for l in 0..limbs.limbs {
                    for slot in 0..pad {
                        limbs.data[at + l * stride + 2 * slot] = -limbs.data[at + l * stride + 2 * (ring.n + slot)];
                    }
                }
            }
        }
        Self { by_prime, coefficients }
    }
}

fn key(
    ring: &Ring,
    shape: &Shape,
    weights: &Weights,
    (group, polys): (usize, &[usize]),
    rows: &PublicRows,
    p: &Poly,
    noise: &mut Noise,
) -> Vec<Vec<u8>> {
    let n = ring.n;
    let count = polys.len();
    // The sums of a_i, times 1: residues by polynomial and prime.
    let mut sums: Vec<Poly> = vec![ring.zero(); count];
    for (i, (ntt, limbs)) in ring.ntts.iter().zip(&rows.by_prime).enumerate() {
        let factors: Vec<u64> = (0..limbs.limbs as u32).map(|l| ring.power(i, l * LIMB_BITS)).collect();
        let mut products = vec![0; count * limbs.limbs * TILE];
        for from in (0..n).step_by(TILE) {
            weights.multiply(shape, group, polys, limbs, from, &mut products);
            for (products, sums) in products.chunks_exact(limbs.limbs * TILE).zip(&mut sums) {
                let terms: Vec<(&[i64], u64)> = products.chunks_exact(TILE).zip(factors.iter().copied()).collect();
                ntt.combine(&terms, 0, &mut sums[i][from..from + TILE]);
            }
        }
    }
    let (mut u, mut errors) = (Zeroizing::new(vec![0; n]), Zeroizing::new(vec![0; n]));
    let mut keys = Vec::new();
    for (&poly, sums) in polys.iter().zip(&sums) {
        Noise::ternary(weights.seeds[group][poly], &mut u);
        noise.errors(&mut errors);
        let mut y = ring.zero();
        let transform = Zeroizing::new(ring.transform_small(&u, ring.ntts.len()));
        for (i, ntt) in ring.ntts.iter().enumerate() {
            let cofactor = ring.cofactors[i];
            let mut x = Zeroizing::new(transform[i].clone());
            ntt.multiply(&mut x, &p[i]);
            if rows.coefficients {
                ntt.inverse(1, &mut x);
                let parts = [(terms(&x), cofactor), (terms(&sums[i]), cofactor), (&errors, cofactor)];
                ntt.combine(&parts, 0, &mut y[i]);
            } else {
                let own = x.clone();
                ntt.combine(&[(terms(&own), 1), (terms(&sums[i]), 1)], 0, &mut x);
                ntt.inverse(1, &mut x);
                ntt.combine(&[(terms(&x), cofactor), (&errors, cofactor)], 0, &mut y[i]);
            }
        }
        let bits = shape.width + ring.set.key_fraction();
        let mut rounded = Wide::new(bits, n);
        for at in 0..n {
            let x = noise.round(ring.fraction(&y, at), bits, at);
            rounded.push([x as u64, (x >> 64) as u64, 0]);
        }
        let mut message = vec![0; rounded.len()];
        rounded.pack(&mut message);
        keys.push(message);
    }
    keys
}

/// The transforms of a session's client keys, by set and block.
pub(super) type ClientKeys = BTreeMap<Set, Vec<Poly>>;

/// Receives the client's keys.
///
/// # Errors
/// A coefficient is not below its prime.
pub(super) fn receive_keys(blocks: &[(Set, usize)], channel: &mut dyn Channel) -> Result<ClientKeys, Error> {
    let mut keys = ClientKeys::new();
    for &(set, blocks) in blocks {
        let ring = set.ring();
        let (bits, _) = set.primes();
        let mut message = vec![0; packed_len(ring.n, bits)];
        for _ in 0..blocks {
            let mut key = ring.zero();
            for (ntt, x) in ring.ntts.iter().zip(&mut key) {
                channel.recv(&mut message)?;
                unpack(bits, &message, x);
                if x.iter().any(|&x| x >= ntt.prime()) {
                    return Err(Error::Protocol("a coefficient of a key is out of range".into()));
                }
                ntt.forward(x);
            }
            keys.entry(set).or_default().push(key);
        }
    }
    Ok(keys)
}

/// Receives the client's masks, sends the rest of the results, and returns the server's share.
pub(super) fn answer(
    shape: &Shape,
    weights: &Weights,
    keys: &ClientKeys,
    noise: &mut Noise,
    channel: &mut dyn Channel,
) -> Result<Vector, Error> {
    let ring = shape.form.set.ring();
    let mut share = vec![0u64; shape.op.output_len(shape.n)];
    for k in 0..shape.blocks() {
        let (block, key) = (shape.block(k), &keys[&shape.form.set][k]);
        for group in 0..shape.groups {
            let rows = receive_rows(shape, &block, channel)?;
            let jobs: Vec<_> = jobs(shape).into_iter().map(|polys| (polys, noise.split())).collect();
            for jobs in in_parts(jobs) {
                let done: Vec<Vec<Answer>> = jobs
                    .into_par_iter()
                    .map(|(polys, mut noise)| {
                        products(ring, shape, &block, weights, (group, &polys), (&rows, key), &mut noise)
                    })
                    .collect();
                for Answer { message, shares } in done.into_iter().flatten() {
                    channel.send(&message)?;
                    for (at, x) in shares {
                        share[at] = share[at].wrapping_add(x);
                    }
                }
            }
        }
    }
    Ok(Vector::from_u64s(shape.width, share))
}

/// The numbers of a block's channels of one group, in limbs.
fn receive_rows(shape: &Shape, block: &Block, channel: &mut dyn Channel) -> Result<Limbs, Error> {
    let (bits, pad) = (u32::from(shape.form.bits), shape.reach());
    let zeros = block.sent - block.data.len();
    let full = if zeros > 0 { bits + shape.width } else { bits };
    let room = pad + block.sent.next_multiple_of(SLOTS);
    let mut rows = Limbs::zero(full.div_ceil(LIMB_BITS) as usize, shape.inputs, room);
    let mut message = vec![0; wide_len(block.data.len(), bits) + wide_len(zeros, bits + shape.width)];
    for input in 0..shape.inputs {
        channel.recv(&mut message)?;
        let (first, rest) = message.split_at(wide_len(block.data.len(), bits));
        let (elements, zeros) =
            (Wide::unpack(bits, block.data.len(), first), Wide::unpack(bits + shape.width, zeros, rest));
        let (mut next, mut zero) = (0, 0);
        for (k, &(slot, _)) in block.data.iter().enumerate() {
            for between in next..slot {
                rows.set(input, pad + between, &zeros.get(zero));
                zero += 1;
            }
            rows.set(input, pad + slot, &elements.get(k));
            next = slot + 1;
        }
        for behind in next..block.sent {
            rows.set(input, pad + behind, &zeros.get(zero));
            zero += 1;
        }
    }
    Ok(rows)
}

/// What comes of a polynomial of weights and a block.
struct Answer {
    message: Vec<u8>,
    shares: Vec<(usize, u64)>,
}

/// `B = sum_i w_i b_i + k u + f`, of which the top `w` bits are the share and the next ones are sent.
fn products(
    ring: &Ring,
    shape: &Shape,
    block: &Block,
    weights: &Weights,
    (group, polys): (usize, &[usize]),
    (rows, key): (&Limbs, &Poly),
    noise: &mut Noise,
) -> Vec<Answer> {
    let (n, cut, flood) = (ring.n, shape.cut(), shape.flood());
    let used = block.sent.next_multiple_of(SLOTS);
    // k u, times the cofactors.
    let masks: Vec<Zeroizing<Poly>> = polys
        .iter()
        .map(|&poly| {
            let mut u = Zeroizing::new(vec![0; n]);
            Noise::ternary(weights.seeds[group][poly], &mut u);
            let mut x = Zeroizing::new(ring.transform_small(&u, ring.ntts.len()));
            for (i, ntt) in ring.ntts.iter().enumerate() {
                ntt.multiply(&mut x[i], &key[i]);
                ntt.inverse(ring.cofactors[i], &mut x[i]);
            }
            x
        })
        .collect();
    // What the limbs of the sums, of the flood, and everything constant are multiplied with.
    let factor = |i: usize, bits: u32| mul_mod(ring.power(i, bits), ring.cofactors[i], ring.ntts[i].prime());
    let fine: Vec<u32> = (0..flood.parts() as u32).map(|k| k * FINE_BITS).collect();
    let constant = |i: usize, sum: i64| {
        let p = ring.ntts[i].prime();
        // Cutting rounds down: half a unit of what is left, for every weight. The flood's middle is 0.
        let middle = 2 * i128::from(flood.range - 1);
        let coarse = mul_mod(ring.residue(i, -middle), ring.power(i, flood.fine_bits), p);
        let half = p - ring.power(i, flood.fine_bits - 1);
        let rounding = mul_mod(ring.residue(i, sum.into()), ring.power(i, cut - 1), p);
        let sum = (u128::from(coarse) + u128::from(half) + u128::from(rounding)) % u128::from(p);
        mul_mod(sum as u64, ring.cofactors[i], p)
    };
    let shift = 128 - shape.width - REST_BITS;
    let mut values: Vec<Vec<u128>> = vec![Vec::with_capacity(used); polys.len()];
    let mut sums = vec![0; polys.len() * rows.limbs * TILE];
    let (mut coarse, mut parts) = (vec![0; TILE], vec![vec![0; TILE]; flood.parts()]);
    let mut y = vec![vec![0; TILE]; ring.ntts.len()];
    for from in (0..used).step_by(TILE) {
        let slots = TILE.min(used - from);
        let sums = &mut sums[..polys.len() * rows.limbs * slots];
        weights.multiply(shape, group, polys, rows, from, sums);
        for (j, sums) in sums.chunks_exact(rows.limbs * slots).enumerate() {
            noise.flood(flood, &mut coarse, &mut parts);
            for (i, ntt) in ring.ntts.iter().enumerate() {
                let mut all: Vec<(&[i64], u64)> = vec![(terms(&masks[j][i][from..from + slots]), 1)];
                all.extend(sums.chunks_exact(slots).zip(0..).map(|(x, l)| (x, factor(i, l * LIMB_BITS + cut))));
                all.push((&coarse[..slots], factor(i, flood.fine_bits)));
                all.extend(parts.iter().zip(&fine).map(|(x, &bits)| (&x[..slots], factor(i, bits))));
                ntt.combine(&all, constant(i, weights.sums[group][polys[j]]), &mut y[i][..slots]);
            }
            values[j].extend((0..slots).map(|at| ring.fraction(&y, at) >> shift));
        }
    }
    let answer = |(&poly, values): (&usize, &Vec<u128>)| {
        let wanted = shape.wanted(block, poly);
        let (mut rest, mut shares) = (Vec::with_capacity(wanted), Vec::with_capacity(wanted));
        for &output in &block.outputs {
            if let Some(target) = shape.target(group, poly, output) {
                let z = values[output.0];
                rest.push(z as u8 & ((1 << REST_BITS) - 1));
                shares.push((target, (z >> REST_BITS) as u64));
            }
        }
        let mut message = vec![0; section(wanted, REST_BITS)];
        pack(REST_BITS, &rest, &mut message);
        Answer { message, shares }
    };
    polys.iter().zip(&values).map(answer).collect()
}
