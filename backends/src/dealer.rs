//! An **insecure** source of correlations: both parties derive everything from one shared seed, so each knows the
//! other's secrets. For tests and for measuring what forms cost without oblivious transfer.

use crate::{
    Error, Party,
    correlation::{Correlations, CotReceiver, CotSender, OneOfReceiver, OneOfSender, Triples, combinations},
    inst::CorrelationKind,
    vector::Bits,
};
use sirnn_kernels::{aes::Prg, hash::Hasher, memory::SecretVec};
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
        };
        // Linear in j, as j * delta is.
        let offsets = combinations((0..bits).map(|_| prg.next_block()));
        Self { prg, hasher: Arc::new(Hasher::new(word(session), 0)), drawn: 0, offsets: Arc::new(offsets) }
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
}
