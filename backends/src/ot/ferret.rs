//! Ferret: silent random correlated OTs, a fraction of a bit each.
//!
//! Yang, Weng, Lan, Zhang, Wang (CCS 2020) with regular noise and primal LPN, against semi-honest parties, with the
//! correlated trees of Guo, Yang, Wang, Zhang, Xie, Zhang, Liu ("Half-Tree", EUROCRYPT 2023). A round stretches
//! `k + t h` COTs to `t 2^h`:
//!
//! * `t` single-point COTs. The sender's tree has leaves `v_j` that sum to delta. `h` COTs (one block is sent for each but
//!   the first) give the receiver all leaves but number `a`, hence `w_j = v_j` for `j != a` and
//!   `w_a = sum of the others = v_a ^ delta`. The position `a` is the complement of the COTs' random choices. The public
//!   permutation of a tree has a key of its own at every level: the unknown nodes on the way to `a` differ from known
//!   ones by delta, and a guess of delta then costs a query for every one of them.
//! * LPN: row `i` of the output is `v_i` (or `w_i`) plus ten of the `k` other rows, taken by a public random matrix that
//!   is fresh in every round. The receiver's choices become `A s + e`, pseudo-random by the LPN assumption (see [`Lpn`]
//!   for the parameters).
//!
//! Some of the output is kept for the next round. The choice travels in the lowest bit of a row: delta has it set, the
//! sender's rows have it clear, which leaves 127 secret bits of delta.
//!
//! The first round starts from SoftSpoken OT. All messages go from the sender to the receiver, one per tree; nobody waits
//! for an answer.

use super::{CotRecv, CotSend, Session, lpn::Lpn, softspoken};
use crate::{Error, Party, transport::Channel};
use sirnn_kernels::{
    aes::{AesKey, Prg},
    memory::SecretVec,
    tree::{WEIGHT, add_at, add_sparse, grow, sum_into},
};
use zeroize::{Zeroize, Zeroizing};

/// Groups of delta's bits for the COTs of the first round.
pub(super) const BOOTSTRAP: u32 = 4;

/// What the meter knows of a source: how far it is in its round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    lpn: Lpn,
    /// Trees of this round grown so far.
    tree: usize,
    /// Rows of the last tree that were not handed out.
    left: usize,
}

/// What to do with the next tree.
enum Next {
    Output,
    Refill,
}

impl Progress {
    pub(super) fn new(lpn: Lpn) -> Self {
        Self { lpn, tree: 0, left: 0 }
    }

    /// Counts the next tree; the last ones of a round go to the next base.
    fn advance(&mut self) -> Next {
        let kept = self.lpn.trees - self.lpn.refill();
        self.tree = if self.tree == self.lpn.trees { 1 } else { self.tree + 1 };
        if self.tree <= kept { Next::Output } else { Next::Refill }
    }

    /// Bytes from the sender for `n` more rows.
    pub(super) fn bytes(&mut self, n: u64) -> u64 {
        let mut missing = n;
        let mut trees = 0;
        loop {
            let taken = missing.min(self.left as u64);
            self.left -= taken as usize;
            missing -= taken;
            if missing == 0 {
                return trees * 16 * self.lpn.message() as u64;
            }
            trees += 1;
            if let Next::Output = self.advance() {
                self.left = self.lpn.leaves();
            }
        }
    }
}

/// What both sides do alike.
struct Expander {
    progress: Progress,
    permutations: Permutations,
    matrix: Prg,
    indices: Vec<u128>,
    /// Rows that this round starts from.
    base: SecretVec<u128>,
    /// Rows for the next round, so far.
    next: SecretVec<u128>,
    /// The current tree: nodes, then rows.
    rows: SecretVec<u128>,
}

/// Rows whose matrix entries are chosen at a time.
const TILE: usize = 64;

impl Expander {
    fn new(lpn: Lpn, session: &Session, sender: Party, base: SecretVec<u128>) -> Self {
        let key = |context| {
            let mut hash = blake3::Hasher::new_derive_key(context);
            hash.update(&session.id).update(&[sender.index() as u8]);
            let mut key = [0; 16];
            hash.finalize_xof().fill(&mut key);
            u128::from_le_bytes(key)
        };
        let tree_key = key("sirnn Ferret tree, version 2");
        Self {
            progress: Progress::new(lpn),
            permutations: Permutations { key: tree_key, tree: 0 },
            matrix: Prg::new(key("sirnn Ferret matrix, version 1")),
            indices: vec![0; TILE * WEIGHT / 4],
            base,
            next: Vec::with_capacity(lpn.refill() * lpn.leaves()).into(),
            rows: vec![0; lpn.leaves()].into(),
        }
    }

    /// Fills `out`; `leaves` makes those of a tree from the COTs for it.
    fn extend(
        &mut self,
        out: &mut [u128],
        mut leaves: impl FnMut(&Permutations, &[u128], &mut [u128]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let lpn = self.progress.lpn;
        let mut filled = 0;
        loop {
            let taken = self.progress.left.min(out.len() - filled);
            let from = self.rows.len() - self.progress.left;
            out[filled..filled + taken].copy_from_slice(&self.rows[from..from + taken]);
            self.progress.left -= taken;
            filled += taken;
            if filled == out.len() {
                return Ok(());
            }
            let next = self.progress.advance();
            if self.progress.tree == 1 && !self.next.is_empty() {
                self.next.truncate(lpn.base());
                std::mem::swap(&mut self.base, &mut self.next);
                self.next.clear();
            }
            self.permutations.tree += 1;
            let (secret, cots) = self.base.split_at(lpn.secret);
            // Straight to where the rows are wanted, if they all are.
            let direct = matches!(next, Next::Output) && out.len() - filled >= lpn.leaves();
            let rows = if direct { &mut out[filled..filled + lpn.leaves()] } else { &mut self.rows[..] };
            leaves(&self.permutations, &cots[(self.progress.tree - 1) * lpn.height..][..lpn.height], rows)?;
            for rows in rows.chunks_mut(TILE) {
                self.matrix.fill_blocks(&mut self.indices);
                add_sparse(secret, bytemuck::cast_slice(&self.indices), rows);
            }
            match next {
                Next::Output if direct => filled += lpn.leaves(),
                Next::Output => self.progress.left = lpn.leaves(),
                Next::Refill => self.next.extend_from_slice(&self.rows),
            }
        }
    }
}

/// The public permutations of the trees: one for every tree and level.
struct Permutations {
    key: u128,
    /// Number of the current tree, in all rounds together.
    tree: u64,
}

impl Permutations {
    /// The one that makes the children of the nodes at depth `level`.
    // SECURITY: no key serves two levels.
    fn at(&self, level: usize) -> AesKey {
        AesKey::new(self.key ^ u128::from(self.tree) ^ (level as u128) << 64)
    }
}

fn sum(nodes: &[u128]) -> u128 {
    let mut sum = 0;
    sum_into(nodes, &mut sum);
    sum
}

/// The side that knows delta.
pub(super) struct Sender {
    delta: Zeroizing<u128>,
    expander: Expander,
}

impl Sender {
    /// `source` makes the COTs of the first round; its delta is odd.
    pub(super) fn new(
        lpn: Lpn,
        session: &Session,
        mut source: softspoken::Sender,
        channel: &mut dyn Channel,
    ) -> Result<Self, Error> {
        let mut base = SecretVec::from(vec![0; lpn.base().next_multiple_of(super::GRANULE)]);
        source.extend(&mut base, channel)?;
        base.truncate(lpn.base());
        base.iter_mut().for_each(|q| *q &= !1);
        let delta = source.delta();
        assert!(*delta & 1 == 1);
        Ok(Self { delta, expander: Expander::new(lpn, session, session.party, base) })
    }
}

impl CotSend for Sender {
    fn delta(&self) -> Zeroizing<u128> {
        self.delta.clone()
    }

    fn extend(&mut self, rows: &mut [u128], channel: &mut dyn Channel) -> Result<(), Error> {
        let delta = *self.delta;
        self.expander.extend(rows, |permutations, cots, nodes| {
            // With the first COT's row as left child of the root nothing has to be sent for it.
            nodes[0] = cots[0];
            nodes[1] = cots[0] ^ delta;
            let mut message = [0; 16];
            for (i, q) in cots.iter().enumerate().skip(1) {
                let nodes = &mut nodes[..2 << i];
                grow(&permutations.at(i), nodes);
                message[i - 1] = q ^ sum(&nodes[..1 << i]);
            }
            nodes.iter_mut().for_each(|v| *v &= !1);
            channel.send(bytemuck::cast_slice(&message[..cots.len() - 1]))
        })
    }
}

/// The side that knows choices.
pub(super) struct Receiver {
    expander: Expander,
}

impl Receiver {
    /// `source` makes the COTs of the first round.
    pub(super) fn new(
        lpn: Lpn,
        session: &Session,
        mut source: softspoken::Receiver,
        channel: &mut dyn Channel,
    ) -> Result<Self, Error> {
        let n = lpn.base().next_multiple_of(super::GRANULE);
        let mut base = SecretVec::from(vec![0; n]);
        let mut choices = Zeroizing::new(vec![0; n / 64]);
        source.extend(&mut base, &mut choices, channel)?;
        base.truncate(lpn.base());
        for (i, t) in base.iter_mut().enumerate() {
            *t = *t & !1 | u128::from(choices[i / 64] >> (i % 64) & 1);
        }
        Ok(Self { expander: Expander::new(lpn, session, session.party.other(), base) })
    }
}

impl CotRecv for Receiver {
    fn extend(&mut self, rows: &mut [u128], choices: &mut [u64], channel: &mut dyn Channel) -> Result<(), Error> {
        self.expander.extend(rows, |permutations, cots, nodes| {
            let mut message = [0u128; 16];
            let message = &mut message[..cots.len() - 1];
            channel.recv(bytemuck::cast_slice_mut(message))?;
            let all = |bit: u128| 0u128.wrapping_sub(bit & 1);

            let choice = all(cots[0]);
            nodes[0] = cots[0] & !choice;
            nodes[1] = cots[0] & choice;
            let mut position = usize::from(cots[0] & 1 == 0);
            for (i, (t, m)) in cots[1..].iter().zip(message.iter()).enumerate() {
                let half = 2 << i;
                let nodes = &mut nodes[..2 * half];
                let pi = permutations.at(i + 1);
                grow(&pi, nodes);
                // Both children of the unknown node, which is kept as zero, are the hash of zero.
                let mut garbage = [0; 2];
                grow(&pi, &mut garbage);
                let garbage = garbage[0];
                let (left, right) = nodes.split_at_mut(half);
                // The COT tells the sum of all nodes on the side of its choice; the other side's child stays unknown.
                let (known, choice) = (t ^ m, all(*t));
                add_at(left, position, garbage & choice | (known ^ sum(left)) & !choice);
                add_at(right, position, garbage & !choice | (known ^ sum(right)) & choice);
                position |= half & !(choice as usize);
            }
            let noisy = sum(nodes) | 1;
            nodes.iter_mut().for_each(|w| *w &= !1);
            add_at(nodes, position, noisy);
            message.zeroize();
            Ok(())
        })?;
        for (word, rows) in choices.iter_mut().zip(rows.chunks(64)) {
            *word = rows.iter().enumerate().fold(0, |w, (i, t)| w | (*t as u64 & 1) << i);
        }
        Ok(())
    }
}
