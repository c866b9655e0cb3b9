//! The client: secrets, masks that are ciphertexts, and its shares.

use super::{
    Public, Wide,
    noise::Noise,
    set::{Poly, Ring, Set},
    shape::{Block, REST_BITS, Shape, wide_len},
};
use crate::{Error, forms::LinearShare, inst::section, transport::Channel, vector::Vector};
use rayon::prelude::*;
use sirnn_kernels::{
    ntt::terms,
    pack::{pack, packed_len, unpack},
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Channels that are encrypted at the same time, at least.
const JOBS: usize = 32;

/// The transforms of a session's secrets, by set and block. They live for a session.
pub(super) type Secrets = BTreeMap<Set, Vec<Zeroizing<Poly>>>;

/// Draws the secrets and sends their keys `k = p s + e`.
pub(super) fn keys(
    public: &Public,
    blocks: &[(Set, usize)],
    noise: &mut Noise,
    channel: &mut dyn Channel,
) -> Result<Secrets, Error> {
    let mut secrets = Secrets::new();
    for &(set, blocks) in blocks {
        let ring = set.ring();
        let p = public.keys(set);
        let (bits, _) = set.primes();
        for _ in 0..blocks {
            let secret = Zeroizing::new(noise.secret(set));
            let secret = Zeroizing::new(ring.transform_small(&secret, ring.ntts.len()));
            let mut errors = Zeroizing::new(vec![0; ring.n]);
            noise.errors(&mut errors);
            let mut message = vec![0; packed_len(ring.n, bits)];
            for (i, ntt) in ring.ntts.iter().enumerate() {
                let mut x = p[i].clone();
                ntt.multiply(&mut x, &secret[i]);
                ntt.inverse(1, &mut x);
                let mut k = vec![0; ring.n];
                ntt.combine(&[(terms(&x), 1), (&errors, 1)], 0, &mut k);
                pack(bits, &k, &mut message);
                channel.send(&message)?;
            }
            secrets.entry(set).or_default().push(secret);
        }
    }
    Ok(secrets)
}

/// A mask that was sent.
pub(super) struct Sent {
    mask: Vec<u64>,
}

/// Draws the mask of a matrix and sends it, block after block, channel after channel.
pub(super) fn send(
    public: &Public,
    index: usize,
    shape: &Shape,
    secrets: &Secrets,
    noise: &mut Noise,
    channel: &mut dyn Channel,
) -> Result<Sent, Error> {
    let ring = shape.form.set.ring();
    let channels = shape.channels();
    let mut mask = vec![0; shape.n];
    let mut a: Vec<Option<Poly>> = vec![None; channels];
    for k in 0..shape.blocks() {
        let (block, secret) = (shape.block(k), &secrets[&shape.form.set][k]);
        let scales = Scales::new(ring, shape, &block);
        for (first, a) in (0..).step_by(JOBS).zip(a.chunks_mut(JOBS)) {
            let jobs: Vec<_> = a.iter_mut().enumerate().map(|(i, a)| (first + i, a, noise.split())).collect();
            let done: Vec<_> = jobs
                .into_par_iter()
                .map(|(c, a, mut noise)| {
                    let a = a.get_or_insert_with(|| public.inputs(shape.form.set, index, c));
                    (c, encrypt(ring, shape, &block, a, secret, &scales, &mut noise))
                })
                .collect();
            for (c, (message, part)) in done {
                channel.send(&message)?;
                for ((_, position), r) in block.data.iter().zip(part.iter()) {
                    mask[position * channels + c] = *r;
                }
            }
        }
    }
    Ok(Sent { mask })
}

/// What coefficients are multiplied with: `2^w` where a slot holds an element, and 1 where it holds a zero.
enum Scales {
    Elements,
    Mixed(Poly),
}

impl Scales {
    fn new(ring: &Ring, shape: &Shape, block: &Block) -> Self {
        if block.data.len() == block.sent {
            return Self::Elements;
        }
        let scale = |i: usize| {
            let mut scale = vec![1; ring.n];
            block.data.iter().for_each(|&(slot, _)| scale[slot] = ring.power(i, shape.width));
            scale
        };
        Self::Mixed((0..ring.ntts.len()).map(scale).collect())
    }
}

/// Encrypts a channel of a block: `T = a s + e`, `h = floor(2^w T / q)`, mask `-h`, error `(2^w T mod q) / 2^w`, cut. Where a zero stands all of
/// `T` is sent. Returns the message, errors of elements first, and the masks of the elements.
fn encrypt(
    ring: &Ring,
    shape: &Shape,
    block: &Block,
    a: &Poly,
    secret: &Poly,
    scales: &Scales,
    noise: &mut Noise,
) -> (Vec<u8>, Zeroizing<Vec<u64>>) {
    let (width, bits, cut) = (shape.width, u32::from(shape.form.bits), shape.cut());
    let mut errors = Zeroizing::new(vec![0; ring.n]);
    noise.errors(&mut errors);
    let mut t = Zeroizing::new(ring.zero());
    for (i, ntt) in ring.ntts.iter().enumerate() {
        let mut x = Zeroizing::new(a[i].clone());
        ntt.multiply(&mut x, &secret[i]);
        let scale = if let Scales::Elements = scales { ring.power(i, width) } else { 1 };
        ntt.inverse(scale, &mut x);
        ntt.combine(&[(terms(&x), 1), (&errors, scale)], 0, &mut t[i]);
        if let Scales::Mixed(scales) = scales {
            ntt.multiply(&mut t[i], &scales[i]);
        }
    }
    ring.digits(&mut t);
    let (mut elements, mut zeros) =
        (Wide::new(bits, block.data.len()), Wide::new(bits + width, block.sent - block.data.len()));
    let mut mask = Zeroizing::new(Vec::with_capacity(block.data.len()));
    let low = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let mut next = 0;
    for &(slot, _) in &block.data {
        (next..slot).for_each(|zero| zeros.push(shift_right(ring.number(&t, zero), cut)));
        let v = ring.number(&t, slot);
        elements.push(shift_right(v, cut + width));
        mask.push(ring.mask(v[0]) & low);
        next = slot + 1;
    }
    (next..block.sent).for_each(|zero| zeros.push(shift_right(ring.number(&t, zero), cut)));
    let mut message = vec![0; elements.len() + zeros.len()];
    let (first, rest) = message.split_at_mut(elements.len());
    elements.pack(first);
    zeros.pack(rest);
    (message, mask)
}

#[inline(always)]
fn shift_right(x: [u64; 3], by: u32) -> [u64; 3] {
    let (skip, shift) = ((by / 64) as usize, by % 64);
    let word = |i: usize| x.get(i + skip).copied().unwrap_or(0);
    std::array::from_fn(|i| if shift == 0 { word(i) } else { word(i) >> shift | word(i + 1) << (64 - shift) })
}

/// The server's keys of a matrix, as they came.
pub(super) struct ServerKeys(Vec<u8>);

impl ServerKeys {
    pub(super) fn receive(shape: &Shape, channel: &mut dyn Channel) -> Result<Self, Error> {
        let one = key_len(shape);
        let mut all = vec![0; one * shape.groups * shape.polys()];
        for key in all.chunks_exact_mut(one) {
            channel.recv(key)?;
        }
        Ok(Self(all))
    }
}

fn key_bits(shape: &Shape) -> u32 {
    shape.width + shape.form.set.key_fraction()
}

fn key_len(shape: &Shape) -> usize {
    wide_len(shape.form.set.degree(), key_bits(shape))
}

/// Receives the server's part of the results and makes the client's shares.
pub(super) fn finish(
    shape: &Shape,
    Sent { mask }: Sent,
    keys: &ServerKeys,
    secrets: &Secrets,
    channel: &mut dyn Channel,
) -> Result<LinearShare, Error> {
    let ring = shape.form.set.ring();
    let mut share = vec![0u64; shape.op.output_len(shape.n)];
    for k in 0..shape.blocks() {
        let (block, secret) = (shape.block(k), &secrets[&shape.form.set][k]);
        for group in 0..shape.groups {
            let mut messages = Vec::new();
            for poly in 0..shape.polys() {
                let mut message = vec![0; section(shape.wanted(&block, poly), REST_BITS)];
                channel.recv(&mut message)?;
                messages.push(message);
            }
            let parts: Vec<Vec<(usize, u64)>> = messages
                .par_iter()
                .enumerate()
                .map(|(poly, message)| {
                    let key = &keys.0[(group * shape.polys() + poly) * key_len(shape)..][..key_len(shape)];
                    decrypt(ring, shape, &block, (group, poly), key, secret, message)
                })
                .collect();
            for (at, x) in parts.into_iter().flatten() {
                share[at] = share[at].wrapping_add(x);
            }
        }
    }
    let width = shape.width;
    Ok(LinearShare { mask: Some(Vector::from_u64s(width, mask)), share: Vector::from_u64s(width, share) })
}

/// `round((2^(f - 3) z + 2^(f - 4) - A s) / 2^f)` for the values of a polynomial, with `f` the bits of the key's fraction.
fn decrypt(
    ring: &Ring,
    shape: &Shape,
    block: &Block,
    (group, poly): (usize, usize),
    key: &[u8],
    secret: &Poly,
    message: &[u8],
) -> Vec<(usize, u64)> {
    let fraction = ring.set.key_fraction();
    let product = key_times_secret(ring, key_bits(shape), key, secret);
    let mut rest = vec![0u8; shape.wanted(block, poly)];
    unpack(REST_BITS, message, &mut rest);
    let outputs = block.outputs.iter().filter_map(|&output| Some((output.0, shape.target(group, poly, output)?)));
    outputs
        .zip(rest)
        .map(|((slot, target), z)| {
            let z = u128::from(z) << (fraction - REST_BITS) | 1 << (fraction - REST_BITS - 1);
            let rounded = z.wrapping_sub(product[slot] as u128).wrapping_add(1 << (fraction - 1));
            (target, (rounded >> fraction) as u64)
        })
        .collect()
}

/// `A s` over the integers, for the representative of `A` modulo `2^bits` that is least in absolute value.
fn key_times_secret(ring: &Ring, bits: u32, key: &[u8], secret: &Poly) -> Zeroizing<Vec<i128>> {
    const LOW: u32 = 48;
    let numbers = Wide::unpack(bits, ring.n, key);
    let signed = |at: usize| {
        let x = numbers.get(at);
        let x = u128::from(x[0]) | u128::from(x[1]) << 64;
        (x as i128) << (128 - bits) >> (128 - bits)
    };
    let (mut low, mut high) = (vec![0; ring.n], vec![0; ring.n]);
    for at in 0..ring.n {
        let x = signed(at);
        (low[at], high[at]) = ((x as i64) & ((1 << LOW) - 1), (x >> LOW) as i64);
    }
    // The product is below 2^(bits - 1) nonzeros; primes until their product is more than twice that.
    let (prime_bits, _) = ring.set.primes();
    let log_product = bits - 1 + ring.set.most_nonzeros().ilog2() + 1;
    let count = if log_product + 2 <= prime_bits { 1 } else { 2 };
    let mut x: Zeroizing<Poly> = Zeroizing::new(vec![vec![0; ring.n]; count]);
    for i in 0..count {
        let ntt = &ring.ntts[i];
        ntt.combine(&[(&low, 1), (&high, ring.power(i, LOW))], 0, &mut x[i]);
        ntt.forward(&mut x[i]);
        ntt.multiply(&mut x[i], &secret[i]);
        ntt.inverse(1, &mut x[i]);
    }
    ring.digits(&mut x);
    let modulus: i128 = ring.ntts[..count].iter().map(|ntt| i128::from(ntt.prime())).product();
    let centred = |at: usize| {
        let v = match count {
            1 => i128::from(x[0][at]),
            _ => {
                let [a, b, _] = ring.number(&x, at);
                i128::from(a) | i128::from(b) << 64
            }
        };
        v - (modulus & ((modulus / 2 - v) >> 127))
    };
    Zeroizing::new((0..ring.n).map(centred).collect())
}
