//! An **insecure** source of correlations: both parties derive everything from one shared seed, so each knows the
//! other's secrets. For tests and for measuring what forms cost without oblivious transfer.

use crate::{
    Error, Party,
    correlation::{Correlations, CotReceiver, CotSender, OneOfReceiver, OneOfSender, Triples, combinations},
    inst::CorrelationKind,
    onehot::{OneHotBatch, OneHots, Purpose, Shape, grow, sign_share},
    vector::Bits,
};
use sirnn_kernels::{
    aes::{AesKey, Prg},
    hash::Hasher,
    memory::SecretVec,
    onehot::{half_levels, hash_nodes, sums},
};
use std::{collections::BTreeMap, sync::Arc};

/// See the module's description: **not secure**.
#[derive(Debug)]
pub struct InsecureDealer {
    party: Party,
    seed: u64,
    streams: BTreeMap<CorrelationKind, Stream>,
}

#[derive(Debug)]
struct Stream {
    prg: Prg,
    hasher: Arc<Hasher>,
    /// Correlations handed out so far.
    drawn: usize,
    /// Secret of the sender: what to add to a row for pad `j`.
    offsets: Arc<SecretVec<u128>>,
    session: u128,
}

impl Stream {
    fn new(seed: u64, kind: CorrelationKind) -> Self {
        let digest = blake3::hash(format!("insecure dealer {seed} {kind:?}").as_bytes());
        let (key, session) = digest.as_bytes().split_at(16);
        let word = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().expect("16 bytes"));
        let mut prg = Prg::new(word(key));
        let bits = match kind {
            CorrelationKind::Cot { .. } => 1,
            CorrelationKind::OneOf { bits, .. } => bits,
            CorrelationKind::Triple { .. } => 0,
            // The deltas of the two parties.
            CorrelationKind::OneHot(_) => 2,
        };
        // Linear in j, as j * delta is.
        let offsets = combinations((0..bits).map(|_| prg.next_block()));
        let session = word(session);
        Self { prg, hasher: Arc::new(Hasher::new(session, 0)), drawn: 0, offsets: Arc::new(offsets), session }
    }

    /// Takes `n` correlations; gives the position of the first.
    fn draw(&mut self, n: usize) -> u64 {
        let position = self.drawn as u64;
        self.drawn += n;
        position
    }

    fn rows(&mut self, n: usize) -> SecretVec<u128> {
        let mut rows = SecretVec::from(vec![0; n]);
        self.prg.fill_blocks(&mut rows);
        rows
    }

    fn bits(&mut self, planes: usize, n: usize) -> Bits {
        let mut bits = Bits::zero(planes, n);
        self.prg.fill_words(64, &mut bits.words);
        bits.clear_tail();
        bits
    }
}

impl InsecureDealer {
    /// The dealer as `party` sees it. Both parties give the same seed.
    pub fn new(party: Party, seed: u64) -> Self {
        Self { party, seed, streams: BTreeMap::new() }
    }

    /// Correlations handed out so far.
    pub fn drawn(&self) -> BTreeMap<CorrelationKind, usize> {
        self.streams.iter().map(|(kind, stream)| (*kind, stream.drawn)).collect()
    }

    fn stream(&mut self, kind: CorrelationKind) -> &mut Stream {
        self.streams.entry(kind).or_insert_with(|| Stream::new(self.seed, kind))
    }
}

impl Correlations for InsecureDealer {
    fn party(&self) -> Party {
        self.party
    }

    fn cot_send(&mut self, n: usize) -> Result<CotSender, Error> {
        let stream = self.stream(CorrelationKind::Cot { sender: self.party });
        let position = stream.draw(n);
        let rows = stream.rows(n);
        stream.bits(1, n);
        Ok(CotSender { rows, delta: stream.offsets[1].into(), position, hasher: stream.hasher.clone() })
    }

    fn cot_recv(&mut self, n: usize) -> Result<CotReceiver, Error> {
        let stream = self.stream(CorrelationKind::Cot { sender: self.party.other() });
        let position = stream.draw(n);
        let mut rows = stream.rows(n);
        let choices = stream.bits(1, n);
        for (i, row) in rows.iter_mut().enumerate() {
            *row ^= stream.offsets[usize::from(choices.get(0, i))];
        }
        Ok(CotReceiver { rows, choices, position, hasher: stream.hasher.clone() })
    }

    fn one_of_send(&mut self, bits: u8, n: usize) -> Result<OneOfSender, Error> {
        let stream = self.stream(CorrelationKind::OneOf { sender: self.party, bits });
        let position = stream.draw(n);
        let rows = stream.rows(n);
        stream.rows(n);
        Ok(OneOfSender { bits, rows, offsets: stream.offsets.clone(), position, hasher: stream.hasher.clone() })
    }

    fn one_of_recv(&mut self, bits: u8, n: usize) -> Result<OneOfReceiver, Error> {
        let stream = self.stream(CorrelationKind::OneOf { sender: self.party.other(), bits });
        let position = stream.draw(n);
        let mut rows = stream.rows(n);
        let choices: Vec<_> = stream.rows(n).iter().map(|x| *x as u16 & ((1 << bits) - 1)).collect();
        let choices = SecretVec::from(choices);
        for (row, c) in rows.iter_mut().zip(&*choices) {
            *row ^= stream.offsets[usize::from(*c)];
        }
        Ok(OneOfReceiver { bits, rows, choices, position, hasher: stream.hasher.clone() })
    }

    fn triples(&mut self, cols: u8, n: usize) -> Result<Triples, Error> {
        let party = self.party;
        let stream = self.stream(CorrelationKind::Triple { cols });
        stream.draw(n);
        let cols = usize::from(cols);
        // Shares of P0, of P1, and P0's share of the products.
        let [a0, a1] = [stream.bits(1, n), stream.bits(1, n)];
        let [b0, b1] = [stream.bits(cols, n), stream.bits(cols, n)];
        let mut c = stream.bits(cols, n);
        Ok(match party {
            Party::P0 => Triples { a: a0, b: b0, c },
            Party::P1 => {
                let per_plane = a0.words.len().max(1);
                for (k, c) in c.words.iter_mut().enumerate() {
                    let i = k % per_plane;
                    *c ^= (a0.words[i] ^ a1.words[i]) & (b0.words[k] ^ b1.words[k]);
                }
                Triples { a: a1, b: b1, c }
            }
        })
    }

    fn one_hots(&mut self, shape: Shape, n: usize) -> Result<OneHots, Error> {
        let party = self.party;
        let stream = self.stream(CorrelationKind::OneHot(shape));
        let position = stream.draw(n);
        let deltas = [stream.offsets[1] | 2, stream.offsets[2] & !2];
        let keys = shape.hasher(stream.session, Purpose::Trees);
        let mut both = Party::BOTH.map(|_| OneHotBatch::zero(shape, n));
        for i in 0..n {
            let drawn = stream.rows(1 + shape.blocks());
            let (random, drawn) = drawn.split_first().expect("one block and the ticket");
            let limit = u16::MAX >> (16 - shape.bits);
            let [place, mask] = [*random as u16 & limit, (random >> 16) as u16 & limit];
            both[0].masks[i] = mask;
            both[1].masks[i] = place.wrapping_sub(mask) & limit;
            let key = keys.tree_key((position + i as u64) >> shape.shared());
            let tickets = dealt(shape, &key, drawn, place.into(), deltas[0] ^ deltas[1]);
            for (batch, ticket) in both.iter_mut().zip(tickets) {
                batch.blocks[i * shape.blocks()..][..shape.blocks()].copy_from_slice(&ticket);
            }
        }
        if shape.sign {
            let blocks = shape.vector_blocks();
            let [mut scratch, mut vector] = [(); 2].map(|()| vec![0; blocks]);
            let rows = Party::BOTH.map(|_| stream.rows(n));
            for p in Party::BOTH {
                for i in 0..n {
                    let batch = &both[p.index()];
                    let key = keys.tree_key((position + i as u64) >> shape.shared());
                    let ticket = &batch.blocks[i * shape.blocks()..][..shape.blocks()];
                    if shape.expanded() {
                        vector.copy_from_slice(ticket);
                    } else {
                        grow(shape, &key, ticket, &mut scratch, &mut vector);
                    }
                    let sign = sign_share(p, &vector);
                    both[p.index()].signs.set(0, i, sign);
                    let sender = p.other().index();
                    both[sender].sent[i] = rows[sender][i];
                    both[p.index()].received[i] = rows[sender][i] ^ if sign { deltas[sender] } else { 0 };
                }
            }
        }
        let [zero, one] = both;
        let batch = if party == Party::P0 { zero } else { one };
        Ok(OneHots::new(party, stream.session, shape, position, batch, deltas[party.index()].into()))
    }
}

/// Both parties' tickets for the vector that is one at `place`, from random blocks.
fn dealt(shape: Shape, key: &AesKey, random: &[u128], place: usize, d: u128) -> [Vec<u128>; 2] {
    if shape.expanded() {
        let mut zero = random.to_vec();
        if shape.bits < 7 {
            zero[0] &= (1 << (1 << shape.bits)) - 1;
        }
        let mut one = zero.clone();
        one[place / 128] ^= 1 << (place % 128);
        return [zero, one];
    }
    let top = 1usize << shape.top;
    let mut tickets = [random[..top].to_vec(), random[..top].to_vec()];
    let mut on_path = place >> shape.leaf() & (top - 1);
    tickets[1][on_path] ^= d;
    let mut nodes = tickets.clone();
    for level in 0..=shape.levels() {
        let per = nodes[0].len();
        let mut hashes = nodes.clone();
        nodes.iter().zip(&mut hashes).for_each(|(nodes, hashes)| hash_nodes(key, nodes, hashes));
        let bit = place >> (shape.leaf() + shape.top + level) & 1;
        let mut correction = [match level {
            _ if level == shape.levels() => 1 << (place % 128),
            _ if bit == 0 => d,
            _ => 0,
        }];
        hashes.iter().for_each(|hashes| sums(hashes, per, &mut correction));
        tickets.iter_mut().for_each(|ticket| ticket.push(correction[0]));
        nodes = [0, 1].map(|p: usize| {
            let mut children = vec![0; 2 * per];
            half_levels(&nodes[p], &hashes[p], per, &correction, &mut children);
            children
        });
        on_path += bit * per;
        debug_assert_eq!(nodes[0][on_path] ^ nodes[1][on_path] == d, level < shape.levels());
    }
    tickets
}
