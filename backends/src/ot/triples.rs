//! Bit triples, two ways.
//!
//! From two COTs, one each way: as receiver a party gets a random bit, its share of `a`; as sender it gets two pads, whose
//! difference is its share of `b`. With these, pads are shares of the two cross terms of `a AND b`. Nothing is sent.
//!
//! From KK13, two triples from one 1-of-16 OT (as in SIRNN): the receiver's choice is its shares `a + 2b + 4a' + 8b'`,
//! message `j` is what its shares of `c` and `c'` are if its choice is `j`. The sender's shares of `c` are such that message
//! 0 is zero; 15 messages of 2 bits are sent.

use super::kk13;
use crate::{Error, correlation::Triples, inst::section, transport::Channel, vector::Bits};
use sirnn_kernels::{
    aes::Prg,
    bits::bit_plane,
    hash::Hasher,
    memory::SecretVec,
    pack::{pack, unpack},
};

/// What `n` COTs each way become. `sent` and `chosen` are this party's rows, `a` its choices; `hashers` those of the streams
/// in which it sends and receives, both at position `at`.
pub(super) fn from_cots(
    delta: u128,
    [sent, chosen]: [&[u128]; 2],
    a: Bits,
    hashers: [&Hasher; 2],
    at: u64,
    cols: u8,
) -> Triples {
    /// Rows hashed at a time, and columns taken from a pad at a time.
    const TILE: usize = 1024;
    const WORD: usize = 64;
    let (n, cols) = (sent.len(), usize::from(cols));
    let (mut b, mut c) = (Bits::zero(cols, n), Bits::zero(cols, n));
    let [mut zero, mut one, mut mine] = [(); 3].map(|()| SecretVec::from(vec![0u128; TILE]));
    let [mut b_words, mut c_words] = [(); 2].map(|()| SecretVec::from(vec![0u64; TILE]));
    for (tile, (sent, chosen)) in sent.chunks(TILE).zip(chosen.chunks(TILE)).enumerate() {
        let rows = sent.len();
        let position = at + (tile * TILE) as u64;
        let plane_words = tile * TILE / 64..(tile * TILE + rows).div_ceil(64);
        for first in (0..cols).step_by(WORD) {
            let (block, half) = ((first / 128) as u32, first % 128);
            if half == 0 {
                hashers[0].pad_pairs(position, block, sent, delta, &mut zero[..rows], &mut one[..rows]);
                hashers[1].pads(position, block, chosen, &[0], &mut mine[..rows]);
            }
            for i in 0..rows {
                b_words[i] = ((zero[i] ^ one[i]) >> half) as u64;
                c_words[i] = ((zero[i] ^ mine[i]) >> half) as u64;
            }
            for p in first..cols.min(first + WORD) {
                let bit = (p - first) as u32;
                bit_plane(&b_words[..rows], bit, &mut b.plane_mut(p)[plane_words.clone()]);
                bit_plane(&c_words[..rows], bit, &mut c.plane_mut(p)[plane_words.clone()]);
            }
        }
    }
    for p in 0..cols {
        for ((c, a), b) in c.plane_mut(p).iter_mut().zip(&a.words).zip(b.plane(p)) {
            *c ^= a & b;
        }
    }
    Triples { a, b, c }
}

/// Bits of payload for the two triples of an OT.
pub(super) const PAYLOAD: u32 = 30;

/// Bits of the 1-of-N OT.
pub(super) const OT_BITS: u8 = 4;

/// `n` triples as sender of the OTs, which are hashed from position `at` on.
pub(super) fn send(
    ots: &mut kk13::Sender,
    hasher: &Hasher,
    at: u64,
    random: &mut Prg,
    n: usize,
    channel: &mut dyn Channel,
) -> Result<Triples, Error> {
    let pairs = n.div_ceil(2);
    let offsets = ots.offsets(OT_BITS);
    let mut t = triples(n);
    random.fill_words(64, &mut t.a.words);
    random.fill_words(64, &mut t.b.words);
    let mut words = vec![0u32; pairs];
    let mut rows = SecretVec::from(vec![0; kk13::ROWS]);
    let mut pads = SecretVec::from(vec![0; 16 * HASHED]);
    for from in (0..pairs).step_by(kk13::ROWS) {
        let rows = &mut rows[..(pairs - from).next_multiple_of(super::GRANULE).min(kk13::ROWS)];
        ots.extend(OT_BITS, rows, channel)?;
        let rows = &rows[..rows.len().min(pairs - from)];
        for (tile, rows) in rows.chunks(HASHED).enumerate() {
            let from = from + tile * HASHED;
            let pads = &mut pads[..16 * rows.len()];
            hasher.pads(at + from as u64, 0, rows, &offsets, pads);
            for (p, pads) in (from..).zip(pads.chunks_exact(16)) {
                let mask = pads.iter().rev().fold(0u32, |w, &pad| w << 2 | pad as u32 & 3);
                let word = mask ^ products(pair(&t.a, p), pair(&t.b, p));
                let share = word & 3;
                xor_pair(&mut t.c, p, share);
                words[p] = (word ^ (share * EVEN)) >> 2;
            }
        }
    }
    let mut payload = vec![0u8; section(pairs, PAYLOAD)];
    pack(PAYLOAD, &words, &mut payload);
    channel.send(&payload)?;
    Ok(clear(t))
}

/// `n` triples as receiver of the OTs.
pub(super) fn receive(
    ots: &mut kk13::Receiver,
    hasher: &Hasher,
    at: u64,
    n: usize,
    channel: &mut dyn Channel,
) -> Result<Triples, Error> {
    let pairs = n.div_ceil(2);
    let mut t = triples(n);
    let mut choices = SecretVec::from(vec![0u16; pairs.next_multiple_of(super::GRANULE)]);
    let [mut rows, mut pads] = [(); 2].map(|()| SecretVec::from(vec![0; kk13::ROWS]));
    for (tile, choices) in choices.chunks_mut(kk13::ROWS).enumerate() {
        let from = tile * kk13::ROWS;
        let rows = &mut rows[..choices.len()];
        ots.extend(OT_BITS, rows, choices, channel)?;
        let used = rows.len().min(pairs - from);
        hasher.pads(at + from as u64, 0, &rows[..used], &[0], &mut pads[..used]);
        for (p, (&j, pad)) in (from..).zip(choices.iter().zip(&pads[..used])) {
            let j = u32::from(j);
            xor_pair(&mut t.a, p, j & 1 | j >> 1 & 2);
            xor_pair(&mut t.b, p, j >> 1 & 1 | j >> 2 & 2);
            xor_pair(&mut t.c, p, *pad as u32 & 3);
        }
    }
    let mut payload = vec![0u8; section(pairs, PAYLOAD)];
    channel.recv(&mut payload)?;
    let mut words = vec![0u32; pairs];
    unpack(PAYLOAD, &payload, &mut words);
    for (p, (&j, word)) in choices.iter().zip(words).enumerate() {
        xor_pair(&mut t.c, p, (word << 2) >> (2 * j) & 3);
    }
    Ok(clear(t))
}

/// OTs whose 16 pads are hashed at a time.
const HASHED: usize = 512;

fn triples(n: usize) -> Triples {
    Triples { a: Bits::zero(1, n), b: Bits::zero(1, n), c: Bits::zero(1, n) }
}

/// The second triple of the last OT may be one too many.
fn clear(mut t: Triples) -> Triples {
    t.a.clear_tail();
    t.b.clear_tail();
    t.c.clear_tail();
    t
}

/// Bits `2p` and `2p + 1` of a plane.
fn pair(bits: &Bits, p: usize) -> u32 {
    (bits.words[p / 32] >> (2 * (p % 32))) as u32 & 3
}

fn xor_pair(bits: &mut Bits, p: usize, value: u32) {
    bits.words[p / 32] ^= u64::from(value) << (2 * (p % 32));
}

/// The low bit of each of 16 two-bit fields.
const EVEN: u32 = 0x5555_5555;

/// Field `j` has `(a + j_0)(b + j_1)` and `(a' + j_2)(b' + j_3)` over GF(2), for `a + 2a'` and `b + 2b'` given.
fn products(a: u32, b: u32) -> u32 {
    /// Field `j` has bit `i` of `j` in its low bit.
    const J: [u32; 4] = [0x4444_4444, 0x5050_5050, 0x5500_5500, 0x5555_0000];
    let all = |bit: u32| EVEN * (bit & 1);
    let low = (all(a) ^ J[0]) & (all(b) ^ J[1]);
    let high = (all(a >> 1) ^ J[2]) & (all(b >> 1) ^ J[3]);
    low | high << 1
}
