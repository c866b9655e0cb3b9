//! Tables at an additively shared index (paper III-A, LUT) and digit decomposition (IV-D).
//!
//! P0 rotates the table by its share of the index, masks it with fresh shares of the result, and P1 takes the entry at its own share by one
//! 1-of-`2^d` OT. Any number of output columns travel in the same message, each in the ring that its consumer wants: extensions
//! after a look-up are free. Rounds: 2. Bits: `d + 2^d * (sum of column widths)`.

use super::shift::truncate_and_reduce;
use crate::program::{Build, Cx, Function, Holder, Int, Reg, Ty, refuse};
use sirnn_backends::inst::{Inst, Party, Ring, Table};
use std::sync::Arc;

/// A column of a public table: entries as integers, and the ring their sharing lives in.
#[derive(Clone, Debug)]
pub struct Column {
    /// Width of the shares.
    pub width: u32,
    /// One entry per index.
    pub entries: Arc<Vec<i128>>,
}

/// Entries of a public table at a shared index: one result per column. The index is in `Add(d)`, the table has `2^d` entries.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The columns.
    pub columns: Vec<Column>,
}

/// Look-ups up to this many index bits.
pub const MAX_INDEX: u32 = 12;

impl Function for Lookup {
    fn name(&self) -> &'static str {
        "lut"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        self.columns.iter().map(|c| ins[0].iter().map(|&i| c.entries[i as usize]).collect()).collect()
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let ty = cx.ty(ins[0]).clone();
        let d = ty.width();
        if d > MAX_INDEX {
            return refuse("lut", format!("an index of {d} bits; {MAX_INDEX} is the limit"));
        }
        if self.columns.iter().any(|c| c.entries.len() != 1 << d) {
            return refuse("lut", format!("every column needs {} entries", 1u32 << d));
        }
        if self.columns.iter().map(|c| c.width).sum::<u32>() > 128 {
            return refuse("lut", "an entry has more than 128 bits");
        }
        let sender = cx.view(Int(ins[0]), Party::P0);
        let receiver = cx.view(Int(ins[0]), Party::P1);
        let mask = |w: u32| if w == 64 { u64::MAX } else { (1 << w) - 1 };
        let data = self.columns.iter().map(|c| c.entries.iter().map(|&e| e as u64 & mask(c.width)).collect()).collect();
        let inst = Inst::Lookup {
            sender: Party::P0,
            index: d as u8,
            xor_index: 0,
            units: 1,
            table: Table::Public(Arc::new(data)),
            columns: self.columns.iter().map(|c| Ring::Add(c.width as u8)).collect(),
        };
        let tys = self
            .columns
            .iter()
            .map(|c| Ty {
                ring: Ring::Add(c.width as u8),
                len: ty.len,
                holder: Holder::Both,
                lo: *c.entries.iter().min().expect("entries"),
                hi: *c.entries.iter().max().expect("entries"),
            })
            .collect();
        Ok(cx.inter(inst, &[sender.0, receiver.0], tys))
    }
}

/// The digits of a non-negative number, lowest first, each a sharing in a ring of its own width.
#[derive(Clone, Debug)]
pub struct Digits {
    /// Width of each digit.
    pub widths: Vec<u32>,
}

impl Function for Digits {
    fn name(&self) -> &'static str {
        "digits"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let mut lo = 0;
        let mut out = Vec::new();
        for &w in &self.widths {
            out.push(ins[0].iter().map(|x| x >> lo & ((1 << w) - 1)).collect());
            lo += w;
        }
        out
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let total: u32 = self.widths.iter().sum();
        let width = cx.width(ins[0]);
        if total > width || self.widths.contains(&0) {
            return refuse("digits", format!("digits {:?} of a number of {width} bits", self.widths));
        }
        let mut lo = 0;
        let mut cuts = Vec::new();
        for &w in &self.widths {
            cuts.push((lo, w));
            lo += w;
        }
        Ok(truncate_and_reduce(cx, Int(ins[0]), &cuts)?.into_iter().map(|d| d.0).collect())
    }
}
