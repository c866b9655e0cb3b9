//! Tables at an additively shared index (paper III-A, LUT) and digit decomposition (IV-D).
//!
//! P0 rotates the table by its share of the index, masks it with fresh shares of the result, and P1 takes the entry at its own share by one
//! 1-of-`2^d` OT. Any number of output columns travel in the same message, each in the ring that its consumer wants: extensions
//! after a look-up are free. Rounds: 2. Bits: `d + 2^d * (sum of column widths)`.

use super::bits::require_ring;
use super::truncation::truncate_and_reduce;
use crate::program::{Build, Cx, Function, Holder, Int, Reg, Ty, refuse};
use sirnn_backends::inst::{Inst, LookupForm, Party, Ring, Table};
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

pub use crate::program::lookup::{MAX_INDEX, MAX_OT_INDEX};

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
        if self.columns.is_empty() || self.columns.iter().any(|c| c.width > 128) {
            return refuse("lut", "an entry has between 1 and 128 bits");
        }
        if ty.lo < 0 || ty.hi >= 1 << d {
            return refuse("lut", format!("an index in {}..={} where 0..2^{d} is expected", ty.lo, ty.hi));
        }
        for column in &self.columns {
            require_ring("lut", column.width)?;
        }
        let columns: Vec<_> = self.columns.iter().map(|c| (Ring::Add(c.width as u8), c.entries.as_slice())).collect();
        let rings: Vec<Ring> = columns.iter().map(|c| c.0).collect();
        if cx.lookup_form((d, 0), cx.len(ins[0]), &rings).is_none() {
            return refuse("lut", "an entry has between 1 and 128 bits");
        }
        let index = Party::BOTH.map(|p| cx.view(Int(ins[0]), p));
        Ok(cx.table(Some(index), None, &columns))
    }
}

/// Entries of a table that is private to the server, at a shared index. Instance `i` uses table `i % units`. Operands: the index in
/// `Add(d)`, then one private vector per column: `units` tables of `2^d` entries.
#[derive(Clone, Copy, Debug)]
pub struct PrivateLookup {
    /// Number of different tables.
    pub units: usize,
}

impl Function for PrivateLookup {
    fn name(&self) -> &'static str {
        "private lut"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let size = |column: &[i128]| column.len() / self.units;
        let entry = |column: &[i128], i: usize, index: i128| column[i % self.units * size(column) + index as usize];
        let all = |column: &&[i128]| ins[0].iter().enumerate().map(|(i, &at)| entry(column, i, at)).collect();
        ins[1..].iter().map(all).collect()
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (d, len) = (cx.width(ins[0]), cx.len(ins[0]));
        if d > MAX_OT_INDEX {
            return refuse(self.name(), format!("an index of {d} bits; {MAX_OT_INDEX} is the limit"));
        }
        let ty = cx.ty(ins[0]);
        if ty.lo < 0 || ty.hi >= 1 << d {
            return refuse(self.name(), format!("an index in {}..={} where 0..2^{d} is expected", ty.lo, ty.hi));
        }
        let columns: Vec<Ty> = ins[1..].iter().map(|&c| cx.ty(c).clone()).collect();
        if self.units == 0 || columns.iter().any(|c| c.holder != Holder::Only(Party::P0) || c.len != self.units << d) {
            let what =
                format!("every column is a vector of the server of {} tables of {} entries", self.units, 1u32 << d);
            return refuse(self.name(), what);
        }
        if columns.is_empty() || columns.iter().map(Ty::width).sum::<u32>() > 128 {
            return refuse(self.name(), "an entry has between 1 and 128 bits");
        }
        let index = Party::BOTH.map(|p| cx.view(Int(ins[0]), p).0);
        let inst = Inst::Lookup {
            form: LookupForm::OneOf { sender: Party::P0 },
            index: d as u8,
            xor_index: 0,
            units: self.units as u32,
            table: Table::Private,
            columns: columns.iter().map(|c| c.ring).collect(),
        };
        let operands: Vec<Reg> = index.into_iter().chain(ins[1..].iter().copied()).collect();
        let tys = columns.into_iter().map(|c| Ty { len, holder: Holder::Both, ..c }).collect();
        Ok(cx.inter(inst, &operands, tys))
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
