//! One-hot correlations ([`crate::onehot`]) from correlated OTs, for thousands of instances at a time.
//!
//! Both parties' deltas make one, `D = D0 ^ D1`, and bit 1 of the deltas is fixed, to 1 at P0 and 0 at P1, so that bit 1 of a multiple of
//! `D` is the bit that it is a multiple of.
//!
//! * **Raw bits.** Bit `i` of the mask is the XOR of the parties' random choices `c` in an OT each way. Both have shares of `g_i D`
//!   without a message: `c D_own ^ q ^ r`, `q` the row sent, `r` the row received.
//! * **Strings.** A further bit `a` is multiplied to a shared vector `e` of `n` entries by one message each way,
//!   `H(q) ^ H(q ^ D_own) ^ e_own[1..]`: no choice is corrected, and no further OT drawn.
//! * **Nodes on top.** Shares of `e(v) D` for all `v < 2^top`: for `v` with two or more bits set by an OT each way with `e_own(v)` as
//!   its choice; the others follow, since sums over all `v` with a bit set are known, and the sum over all `v` is `D`.
//! * **Levels** (Half-Tree, EUROCRYPT 2023): the correction is the sum of the `H(node)` and of `g_i D ^ D`, opened.
//! * **Leaf.** `H(node)`, cut, corrected by the sum of all leaves and the string of the lowest bits, opened.
//! * **Mask.** The product of the parties' bits, Gilboa's way, on the same rows with the other half of their hashes. P0 sends.
//! * **Sign.** The vectors' numbers of ones differ by one. Modulo 4, the one of P1 negated, their second bits are shares of the
//!   sign. They are the choices of a last OT each way, with which a use removes the sign.
//!
//! Bits, both ways, for an index of `d = leaf + top + levels` bits: `T(leaf) + T(top) + 2 (2^top - 1 - top) + 256 levels + 2 2^leaf +
//! d (d-1) / 2 + 2 sign` with `T(k) = 2 (2^k - 1 - k)`.
//!
//! Secure against semi-honest parties: everything that is sent is padded by an OT's random choice or by a hash that the peer cannot
//! compute. Nodes need circular correlation robustness, the rest correlation robustness, in 126 bits of `D` (`docs/ot.md`).

use super::cost::Ledger;
use crate::{
    Error, Party,
    forms::{bit_range, read_planes, write_words},
    inst::section,
    onehot::{OneHotBatch, Purpose, Shape, sign_share},
    transport::Channel,
    vector::Bits,
};
use sirnn_kernels::{
    bits::bit_plane,
    hash::Hasher,
    memory::SecretVec,
    onehot::{correct_leaves, half_levels, hash_nodes, join_leaves, string_message, string_step, sums},
    pack::{pack, unpack},
};

/// What a message is made of.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Bit `m` of the index in a leaf times the vector of those below.
    Low(u8),
    /// Bit `m` of the index on top times the vector of those below.
    Top(u8),
    /// Choices of the OTs for nodes on top.
    Nodes,
    /// The correction of a level.
    Level(u8),
    /// The additive mask, from P0 only.
    Mask,
    /// The correction of the leaves.
    Leaf,
    /// Choices of the OTs for the sign.
    Sign,
}

impl Part {
    /// Bytes from a party for `n` instances.
    fn bytes(self, shape: Shape, from: Party, n: usize) -> usize {
        match self {
            Part::Low(m) | Part::Top(m) => section(n, (1 << m) - 1),
            Part::Nodes => shape.further() * section(n, 1),
            Part::Level(_) => 16 * n,
            Part::Mask if from == Party::P0 => mask_widths(shape).map(|w| section(n, w)).sum(),
            Part::Mask => 0,
            Part::Leaf if shape.leaf() == 7 => 16 * n,
            Part::Leaf => section(n, 1 << shape.leaf()),
            Part::Sign => section(n, 1),
        }
    }
}

/// What the parties exchange, one after the other.
fn exchanges(shape: Shape) -> Vec<Vec<Part>> {
    let strings = shape.top.max(shape.leaf()) - 1;
    let nodes = shape.top - 1 + u8::from(shape.further() > 0);
    let leaf = strings.max(nodes + shape.levels());
    let mut all = vec![Vec::new(); usize::from(leaf) + 1];
    (1..shape.leaf()).for_each(|m| all[usize::from(m) - 1].push(Part::Low(m)));
    (1..shape.top).for_each(|m| all[usize::from(m) - 1].push(Part::Top(m)));
    if shape.further() > 0 {
        all[usize::from(nodes) - 1].push(Part::Nodes);
    }
    (0..shape.levels()).for_each(|l| all[usize::from(nodes + l)].push(Part::Level(l)));
    all[usize::from(leaf)].extend([Part::Mask, Part::Leaf]);
    if shape.sign {
        all.push(vec![Part::Sign]);
    }
    all
}

/// Widths of the values that P0 sends for the products of the bits of the mask, lowest bit first; the highest bit needs none.
fn mask_widths(shape: Shape) -> impl Iterator<Item = u32> {
    (1..u32::from(shape.bits)).rev()
}

/// The messages of [`generate`].
pub(super) fn meter(shape: Shape, n: usize, ledger: &mut Ledger) {
    for parts in exchanges(shape) {
        ledger.exchange(Party::BOTH.map(|from| parts.iter().map(|part| part.bytes(shape, from, n) as u64).sum()));
    }
}

/// The COTs of `n` tickets: rows of bit `i` of the mask of all tickets, those of the nodes on top, of the sign.
pub(super) struct Cots<'a> {
    /// Rows `q` as sender.
    pub(super) sent: &'a [u128],
    /// Rows as receiver.
    pub(super) received: &'a [u128],
    /// Choices as receiver.
    pub(super) choices: &'a Bits,
    /// This party's correlation.
    pub(super) delta: u128,
}

/// Nodes of a level, their hashes, and room for their children: kept from one batch to the next, since fresh memory is dear.
#[derive(Default)]
pub(super) struct Room {
    nodes: SecretVec<u128>,
    hashes: SecretVec<u128>,
    children: SecretVec<u128>,
}

/// Makes `n` tickets, the first at stream position `position`.
pub(super) fn generate(
    (party, session): (Party, u128),
    shape: Shape,
    position: u64,
    n: usize,
    cots: Cots<'_>,
    room: &mut Room,
    channel: &mut dyn Channel,
) -> Result<OneHotBatch, Error> {
    let mut making = Making::new(party, session, shape, position, n, cots, room);
    let mut message = Vec::new();
    for parts in exchanges(shape) {
        message.clear();
        for part in &parts {
            let from = message.len();
            message.resize(from + part.bytes(shape, party, n), 0);
            making.send(*part, &mut message[from..]);
        }
        channel.send(&message)?;
        message.clear();
        message.resize(parts.iter().map(|part| part.bytes(shape, party.other(), n)).sum(), 0);
        channel.recv(&mut message)?;
        let mut rest = &message[..];
        for part in &parts {
            let (bytes, after) = rest.split_at(part.bytes(shape, party.other(), n));
            rest = after;
            making.receive(*part, bytes);
        }
    }
    Ok(making.batch)
}

/// A vector of up to 128 bits per instance that grows by a bit of its index at a time.
#[derive(Default)]
struct Strings {
    low: SecretVec<u64>,
    /// Entries from 64 on.
    high: SecretVec<u64>,
    /// Pads of the value 0 of the bit at hand, as sender.
    sent: SecretVec<u128>,
}

impl Strings {
    /// From shares of the first bit.
    fn new(party: Party, bit: &[u64], n: usize) -> Self {
        let not = u64::from(party == Party::P0);
        let pair = |i: usize| {
            let g = bit[i / 64] >> (i % 64) & 1;
            g ^ not | g << 1
        };
        Self { low: (0..n).map(pair).collect::<Vec<_>>().into(), high: vec![0; n].into(), sent: vec![0; n].into() }
    }
}

struct Making<'a> {
    party: Party,
    shape: Shape,
    n: usize,
    cots: Cots<'a>,
    position: u64,
    /// Hashes of rows of the mask's bits, as sender and as receiver; the key of trees.
    strings: [Hasher; 2],
    trees: Hasher,
    /// Pads of the bit at hand: for both values at the peer, and for this party's value.
    pads: [SecretVec<u128>; 3],
    words: Vec<u64>,
    low: Strings,
    top: Strings,
    /// The level at hand of all trees, `len` nodes.
    room: &'a mut Room,
    len: usize,
    /// This party's shares of corrections.
    corrections: SecretVec<u128>,
    /// Words of P0 for the products of the mask's bits, or P1's pads.
    products: SecretVec<u16>,
    batch: OneHotBatch,
}

impl<'a> Making<'a> {
    fn new(
        party: Party,
        session: u128,
        shape: Shape,
        position: u64,
        n: usize,
        cots: Cots<'a>,
        room: &'a mut Room,
    ) -> Self {
        let hasher = |sender| shape.hasher(session, Purpose::Strings { sender });
        let mut making = Self {
            party,
            shape,
            n,
            cots,
            position,
            strings: [hasher(party), hasher(party.other())],
            trees: shape.hasher(session, Purpose::Trees),
            pads: [(); 3].map(|()| vec![0; n].into()),
            words: vec![0; n],
            low: Strings::default(),
            top: Strings::default(),
            room,
            len: 0,
            corrections: vec![0; n].into(),
            products: vec![0; n * (usize::from(shape.bits) - 1)].into(),
            batch: OneHotBatch::zero(shape, n),
        };
        making.low = Strings::new(party, &making.bit(0), n);
        making.top = Strings::new(party, &making.bit(shape.leaf()), n);
        if shape.further() == 0 {
            making.place_nodes(&Bits::default());
        }
        making
    }

    /// Rows of bit `i`, or of the OTs behind the bits.
    fn rows(&self, i: usize) -> std::ops::Range<usize> {
        i * self.n..(i + 1) * self.n
    }

    /// This party's shares of bit `i` of the masks.
    fn bit(&self, i: u8) -> Vec<u64> {
        bit_range(&self.cots.choices.words, usize::from(i) * self.n, self.n)
    }

    /// Whether the products of bit `i` of the masks of both parties are made from the rows with this party as sender or, with `received`, as
    /// receiver.
    fn multiplied(&self, i: u8, received: bool) -> bool {
        i + 1 < self.shape.bits && received == (self.party == Party::P1)
    }

    /// Pads of bit `i` as sender.
    fn pads_sent(&mut self, i: u8) {
        let rows = self.rows(usize::from(i));
        let position = self.row_position(i);
        let [zero, one, _] = &mut self.pads;
        self.strings[0].pad_pairs(position, 0, &self.cots.sent[rows.clone()], self.cots.delta, zero, one);
        if self.multiplied(i, false) {
            let bit = self.bit(i);
            let [zero, one, _] = &self.pads;
            for (k, (p, mask)) in self.products[rows].iter_mut().zip(self.batch.masks.iter_mut()).enumerate() {
                let [zero, one] = [zero[k], one[k]].map(|pad| (pad >> 64) as u16);
                *p = ((bit[k / 64] >> (k % 64) & 1) as u16).wrapping_add(zero).wrapping_sub(one);
                *mask = mask.wrapping_add(zero << i << 1);
            }
        }
    }

    /// Pads of bit `i` as receiver.
    fn pads_received(&mut self, i: u8) {
        let rows = self.rows(usize::from(i));
        let position = self.row_position(i);
        self.strings[1].pads(position, 0, &self.cots.received[rows.clone()], &[0], &mut self.pads[2]);
        if self.multiplied(i, true) {
            let pads = &self.pads[2];
            self.products[rows].iter_mut().zip(pads.iter()).for_each(|(p, pad)| *p = (*pad >> 64) as u16);
        }
    }

    /// Stream position of the first row of bit `i`: tickets have as many rows as bits.
    fn row_position(&self, i: u8) -> u64 {
        self.position * u64::from(self.shape.bits) + u64::from(i) * self.n as u64
    }

    /// Whether bit `i` was hashed for a string.
    fn in_string(&self, i: u8) -> bool {
        let (leaf, top) = (self.shape.leaf(), self.shape.top);
        i < leaf + top && i != 0 && i != leaf
    }

    /// `H` of all nodes at hand, and this party's shares of what the sum of these is for both.
    fn hash(&mut self, per: usize) {
        let Room { nodes, hashes, .. } = &mut *self.room;
        reserve(hashes, self.len);
        // Tickets that share a key stand together, but the first may be in the middle of such a group.
        let shared = self.shape.shared();
        let group = |ticket: usize| (self.position + ticket as u64) >> shared;
        let mut from = 0;
        while from < self.n {
            let to = (((group(from) + 1) << shared) - self.position).min(self.n as u64) as usize;
            let range = from * per..to * per;
            hash_nodes(&self.trees.tree_key(group(from)), &nodes[range.clone()], &mut hashes[range]);
            from = to;
        }
        sums(&hashes[..self.len], per, &mut self.corrections);
    }

    /// This party's share of `g_i D` for ticket `k`.
    fn multiple(&self, i: usize, k: usize) -> u128 {
        let row = i * self.n + k;
        self.cots.sent[row] ^ self.cots.received[row] ^ select(self.cots.choices.get(0, row), self.cots.delta)
    }

    /// The nodes on top, with the peer's planes of corrected choices.
    fn place_nodes(&mut self, theirs: &Bits) {
        let (top, n, leaf) = (usize::from(self.shape.top), self.n, usize::from(self.shape.leaf()));
        let per = 1usize << top;
        let behind_bits = usize::from(self.shape.bits) * n;
        let mut nodes = std::mem::take(&mut self.room.nodes);
        self.len = n * per;
        reserve(&mut nodes, self.len);
        for (k, nodes) in nodes[..self.len].chunks_exact_mut(per).enumerate() {
            for i in 0..top {
                nodes[1 << i] = self.multiple(leaf + i, k);
            }
            let mut all = self.cots.delta;
            for (f, v) in (0..per).filter(|v| v.count_ones() > 1).enumerate() {
                let row = behind_bits + f * n + k;
                let [own, their] = [self.top.low[k] >> v & 1 == 1, theirs.get(f, k)];
                // The sender moves its row so that the receiver's choice is its entry.
                let x = self.cots.sent[row] ^ self.cots.received[row] ^ select(own ^ their, self.cots.delta);
                nodes[v] = x;
                all ^= x;
                for i in 0..top {
                    nodes[1 << i] ^= x & 0u128.wrapping_sub((v >> i & 1) as u128);
                }
            }
            for i in 0..top {
                all ^= nodes[1 << i];
            }
            nodes[0] = all;
        }
        if !self.shape.expanded() {
            let blocks = self.shape.blocks();
            for (ticket, nodes) in self.batch.blocks.chunks_exact_mut(blocks).zip(nodes.chunks_exact(per)) {
                ticket[..per].copy_from_slice(nodes);
            }
        }
        self.room.nodes = nodes;
    }

    /// Nodes per ticket at a level.
    fn per(&self, level: u8) -> usize {
        1 << (self.shape.top + level)
    }

    /// This party's part of a message, which fills `out`.
    fn send(&mut self, part: Part, out: &mut [u8]) {
        let Self { shape, n, .. } = *self;
        match part {
            Part::Low(m) | Part::Top(m) => {
                let low = matches!(part, Part::Low(_));
                self.pads_sent(if low { m } else { shape.leaf() + m });
                let strings = if low { &mut self.low } else { &mut self.top };
                std::mem::swap(&mut strings.sent, &mut self.pads[0]);
                string_message(m.into(), &strings.sent, &self.pads[1], &strings.low, &mut self.words);
                pack((1 << m) - 1, &self.words, out);
            }
            Part::Nodes => {
                let len = section(n, 1);
                let mut plane = vec![0; n.div_ceil(64)];
                let further = (0..1u32 << shape.top).filter(|v| v.count_ones() > 1);
                for (f, (v, out)) in further.zip(out.chunks_exact_mut(len.max(1))).enumerate() {
                    bit_plane(&self.top.low, v, &mut plane);
                    let choices = bit_range(&self.cots.choices.words, (usize::from(shape.bits) + f) * n, n);
                    write_words(out, plane.iter().zip(choices).map(|(e, c)| e ^ c));
                }
            }
            Part::Level(l) => {
                let i = usize::from(shape.leaf() + shape.top + l);
                for k in 0..n {
                    self.corrections[k] = self.multiple(i, k) ^ self.cots.delta;
                }
                self.hash(self.per(l));
                write_blocks(out, &self.corrections);
            }
            Part::Leaf => {
                for ((c, low), high) in self.corrections.iter_mut().zip(self.low.low.iter()).zip(self.low.high.iter()) {
                    *c = u128::from(*low) | u128::from(*high) << 64;
                }
                self.hash(self.per(shape.levels()));
                if shape.leaf() == 7 {
                    write_blocks(out, &self.corrections);
                } else {
                    let mask = u64::MAX >> (64 - (1u32 << shape.leaf()));
                    self.words.iter_mut().zip(self.corrections.iter()).for_each(|(w, c)| *w = *c as u64 & mask);
                    pack(1 << shape.leaf(), &self.words, out);
                }
            }
            Part::Mask => {
                for i in 0..shape.bits - 1 {
                    if !self.in_string(i) {
                        if self.party == Party::P0 {
                            self.pads_sent(i);
                        } else {
                            self.pads_received(i);
                        }
                    }
                }
                for i in 0..shape.bits {
                    let bit = self.bit(i);
                    for (k, mask) in self.batch.masks.iter_mut().enumerate() {
                        *mask = mask.wrapping_add(((bit[k / 64] >> (k % 64) & 1) as u16) << i);
                    }
                }
                if self.party == Party::P0 {
                    let mut rest = out;
                    for (w, products) in mask_widths(shape).zip(self.products.chunks_exact_mut(n.max(1))) {
                        let (out, after) = std::mem::take(&mut rest).split_at_mut(section(n, w));
                        rest = after;
                        products.iter_mut().for_each(|p| *p &= u16::MAX >> (16 - w));
                        pack(w, products, out);
                    }
                    self.reduce_masks();
                }
            }
            Part::Sign => {
                self.batch.signs = self.signs();
                let choices = bit_range(&self.cots.choices.words, (shape.cots() - 1) * n, n);
                write_words(out, self.batch.signs.words.iter().zip(choices).map(|(t, c)| t ^ c));
            }
        }
    }

    /// The peer's part of a message, which has its length.
    fn receive(&mut self, part: Part, bytes: &[u8]) {
        let Self { shape, n, .. } = *self;
        match part {
            Part::Low(m) | Part::Top(m) => {
                let low = matches!(part, Part::Low(_));
                let i = if low { m } else { shape.leaf() + m };
                self.pads_received(i);
                unpack((1 << m) - 1, bytes, &mut self.words);
                let bit = self.bit(i);
                let mut products: SecretVec<u64> = vec![0; n].into();
                let strings = if low { &mut self.low } else { &mut self.top };
                let (sent, mine) = (&strings.sent, &self.pads[2]);
                string_step(m.into(), sent, mine, &bit, &self.words, &mut strings.low, &mut products);
                if m == 6 {
                    strings.high = products;
                } else {
                    strings.low.iter_mut().zip(products.iter()).for_each(|(e, p)| *e |= p << (1 << m));
                }
            }
            Part::Nodes => self.place_nodes(&read_planes(bytes, shape.further(), n)),
            Part::Level(l) => {
                add_blocks(&mut self.corrections, bytes);
                let per = self.per(l);
                let Room { nodes, hashes, children } = &mut *self.room;
                let len = self.len;
                reserve(children, 2 * len);
                half_levels(&nodes[..len], &hashes[..len], per, &self.corrections, &mut children[..2 * len]);
                std::mem::swap(nodes, children);
                self.len = 2 * len;
                self.keep_correction((1 << shape.top) + usize::from(l));
            }
            Part::Leaf => {
                if shape.leaf() == 7 {
                    add_blocks(&mut self.corrections, bytes);
                } else {
                    let mut theirs = vec![0u64; n];
                    unpack(1 << shape.leaf(), bytes, &mut theirs);
                    let own = self.corrections.iter_mut().zip(&self.words);
                    own.zip(theirs).for_each(|((c, own), their)| *c = u128::from(own ^ their));
                }
                let per = shape.leaves();
                let Room { nodes, hashes, .. } = &mut *self.room;
                correct_leaves(&nodes[..self.len], per, &self.corrections, &mut hashes[..self.len]);
                if shape.expanded() {
                    join_leaves(&self.room.hashes[..self.len], per, shape.leaf().into(), &mut self.batch.blocks);
                }
                self.keep_correction((1 << shape.top) + usize::from(shape.levels()));
            }
            Part::Mask => {
                if self.party == Party::P0 {
                    return;
                }
                let mut rest = bytes;
                let mut theirs = vec![0u16; n];
                for (i, w) in (0..).zip(mask_widths(shape)) {
                    let (bytes, after) = rest.split_at(section(n, w));
                    rest = after;
                    unpack(w, bytes, &mut theirs);
                    let bit = self.bit(i);
                    let pads = &self.products[self.rows(i.into())];
                    for (k, mask) in self.batch.masks.iter_mut().enumerate() {
                        let own = 0u16.wrapping_sub((bit[k / 64] >> (k % 64) & 1) as u16);
                        *mask = mask.wrapping_sub(pads[k].wrapping_add(own & theirs[k]) << i << 1);
                    }
                }
                self.reduce_masks();
            }
            Part::Sign => {
                let theirs = read_planes(bytes, 1, n);
                let rows = self.rows(shape.cots() - 1);
                let sent = self.cots.sent[rows.clone()].iter().enumerate();
                self.batch.sent =
                    sent.map(|(k, q)| q ^ select(theirs.get(0, k), self.cots.delta)).collect::<Vec<_>>().into();
                self.batch.received = self.cots.received[rows].to_vec().into();
            }
        }
    }

    fn reduce_masks(&mut self) {
        let mask = u16::MAX >> (16 - self.shape.bits);
        self.batch.masks.iter_mut().for_each(|g| *g &= mask);
    }

    /// Puts the corrections at hand in their place in tickets that hold trees.
    fn keep_correction(&mut self, place: usize) {
        if !self.shape.expanded() {
            let tickets = self.batch.blocks.chunks_exact_mut(self.shape.blocks());
            tickets.zip(self.corrections.iter()).for_each(|(ticket, c)| ticket[place] = *c);
        }
    }

    /// Shares of the signs, from the numbers of ones modulo 4.
    fn signs(&self) -> Bits {
        let vectors = if self.shape.expanded() { &self.batch.blocks[..] } else { &self.room.hashes[..self.len] };
        let mut signs = Bits::zero(1, self.n);
        for (k, vector) in vectors.chunks_exact(self.shape.vector_blocks()).enumerate() {
            signs.words[k / 64] |= u64::from(sign_share(self.party, vector)) << (k % 64);
        }
        signs
    }
}

/// Makes sure that there is room for `len` blocks, whatever they are.
fn reserve(blocks: &mut SecretVec<u128>, len: usize) {
    if blocks.len() < len {
        blocks.resize_zeroed(len);
    }
}

/// `x` if `bit`, else 0; without a branch.
fn select(bit: bool, x: u128) -> u128 {
    x & 0u128.wrapping_sub(bit.into())
}

fn write_blocks(out: &mut [u8], blocks: &[u128]) {
    out.as_chunks_mut().0.iter_mut().zip(blocks).for_each(|(o, b)| *o = b.to_le_bytes());
}

fn add_blocks(sums: &mut [u128], bytes: &[u8]) {
    sums.iter_mut().zip(bytes.as_chunks().0).for_each(|(s, b)| *s ^= u128::from_le_bytes(*b));
}
