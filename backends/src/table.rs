//! Tables that both parties know.

use crate::{
    inst::Ring,
    vector::{Vector, VectorWord},
    with_word_type,
};
use sirnn_kernels::bits::bit_plane;
use std::sync::{Arc, OnceLock};

/// A table known to both parties: one vector of entries per column, each reduced to the column's width. Tables are the same if
/// their digests are: plans show these instead of up to 2^16 entries.
pub struct PublicTable {
    columns: Vec<Vec<u64>>,
    digest: [u8; 32],
    picked: OnceLock<(Vec<Ring>, Arc<Vec<PickedColumn>>)>,
}

/// A column in the form in which a one-hot vector picks from it.
#[derive(Debug)]
pub(crate) enum PickedColumn {
    /// Of an additive column: its words.
    Words(Vector),
    /// Of an XOR column: its bit planes, one after the other.
    Planes(Vec<u64>),
}

impl PublicTable {
    /// From the columns' entries.
    pub fn new(columns: Vec<Vec<u64>>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for column in &columns {
            hasher.update(&(column.len() as u64).to_le_bytes());
            for entry in column {
                hasher.update(&entry.to_le_bytes());
            }
        }
        Self { columns, digest: *hasher.finalize().as_bytes(), picked: OnceLock::new() }
    }

    /// The entries of each column.
    pub fn columns(&self) -> &[Vec<u64>] {
        &self.columns
    }

    /// What tells tables apart: a hash of all entries.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The columns for picking, in rings that are the same for all uses of a table but in tests.
    pub(crate) fn picked(&self, rings: &[Ring]) -> Arc<Vec<PickedColumn>> {
        let make = || Arc::new(self.columns.iter().zip(rings).map(|(c, ring)| PickedColumn::new(*ring, c)).collect());
        let (known, columns) = self.picked.get_or_init(|| (rings.to_vec(), make()));
        if known == rings { columns.clone() } else { make() }
    }
}

impl PickedColumn {
    fn new(ring: Ring, entries: &[u64]) -> Self {
        match ring {
            Ring::Add(w) => {
                PickedColumn::Words(with_word_type!(w, W => W::wrap(entries.iter().map(|e| *e as W).collect())))
            }
            Ring::Xor(k) => {
                let words = entries.len().div_ceil(64);
                let mut planes = vec![0; words * usize::from(k)];
                for (p, plane) in planes.chunks_exact_mut(words).enumerate() {
                    bit_plane(entries, p as u32, plane);
                }
                PickedColumn::Planes(planes)
            }
        }
    }
}

impl std::fmt::Debug for PublicTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicTable({})", blake3::Hash::from_bytes(self.digest).to_hex())
    }
}

impl PartialEq for PublicTable {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for PublicTable {}

impl std::hash::Hash for PublicTable {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}
