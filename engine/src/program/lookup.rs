//! Look-ups in public tables: the form, and functions of one number as a table of all their values.

use super::{Build, Cx, Function, Holder, Int, Own, Reg, Ty, refuse};
use sirnn_backends::inst::{Inst, LookupForm, Party, Ring, Table};
use sirnn_backends::onehot::Shape;
use sirnn_backends::table::PublicTable;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Look-ups in public tables have up to this many index bits.
pub const MAX_INDEX: u32 = Shape::MAX_BITS as u32;

/// Look-ups by 1-of-N OT, and so those in private tables, have up to this many.
pub const MAX_OT_INDEX: u32 = 12;

/// A column of entries with its ring and the range of its values.
#[derive(Clone, Copy, Debug)]
struct ColumnType {
    ring: Ring,
    lo: i128,
    hi: i128,
}

impl ColumnType {
    fn of(ring: Ring, entries: &[i128]) -> Self {
        match ring {
            Ring::Add(_) => {
                let least = entries.iter().min().expect("entries");
                Self { ring, lo: *least, hi: *entries.iter().max().expect("entries") }
            }
            Ring::Xor(k) => Self { ring, lo: 0, hi: (1 << k) - 1 },
        }
    }
}

/// Entries reduced to their ring.
fn reduced(ring: Ring, entries: &[i128]) -> Vec<u64> {
    entries.iter().map(|&e| e as u64 & (u64::MAX >> (64 - ring.bits()))).collect()
}

/// A function's values on a range, as a column of a table.
#[derive(Clone)]
struct Values {
    table: Arc<PublicTable>,
    column: ColumnType,
}

/// Tables of functions that were made already: networks call the same few again and again, and are planned several times.
static MADE: Mutex<Option<HashMap<String, Values>>> = Mutex::new(None);

/// Tables that are kept, of half a megabyte at most.
const KEPT: usize = 64;

/// The values of `function` from `lo` on, for all indices of `bits` bits; beyond `hi` that of `hi`.
fn values(function: &dyn Function, (lo, hi): (i128, i128), bits: u32, ring: Ring) -> Values {
    // What a function is stands in its description: its parameters, tables included.
    let key = format!("{function:?} {lo} {hi} {ring:?}");
    let lock = || MADE.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(values) = lock().get_or_insert_default().get(&key) {
        return values.clone();
    }
    let xs: Vec<i128> = (0..1i128 << bits).map(|i| (lo + i).min(hi)).collect();
    let entries = function.clear(&[&xs]).swap_remove(0);
    let table = Arc::new(PublicTable::new(vec![reduced(ring, &entries)]));
    let values = Values { table, column: ColumnType::of(ring, &entries) };
    let mut made = lock();
    let made = made.get_or_insert_default();
    if made.len() >= KEPT {
        made.clear();
    }
    made.insert(key, values.clone());
    values
}

impl Cx {
    /// Columns of a public table at `(d0 + d1 mod 2^a) + 2^a (x0 xor x1)`: the parties' additive shares `d` of the low part of an index and
    /// their XOR-shares `x` of its high part, either of which may be absent. Two rounds.
    pub(crate) fn table(
        &mut self,
        low: Option<[Own; 2]>,
        high: Option<[Own; 2]>,
        columns: &[(Ring, &[i128])],
    ) -> Vec<Reg> {
        let table = PublicTable::new(columns.iter().map(|(ring, entries)| reduced(*ring, entries)).collect());
        let types: Vec<_> = columns.iter().map(|(ring, entries)| ColumnType::of(*ring, entries)).collect();
        self.look_up(low, high, Arc::new(table), &types)
    }

    fn look_up(
        &mut self,
        low: Option<[Own; 2]>,
        high: Option<[Own; 2]>,
        table: Arc<PublicTable>,
        columns: &[ColumnType],
    ) -> Vec<Reg> {
        let bits = |part: Option<[Own; 2]>| part.map_or(0, |p| self.width(p[0]));
        let (index, xor_index) = (bits(low), bits(high));
        assert!(table.columns().iter().all(|c| c.len() == 1 << (index + xor_index)), "one entry per index");
        let len = self.len(low.or(high).expect("an index")[0]);
        let ins: Vec<Reg> = (0..2).flat_map(|p| low.iter().chain(&high).map(move |part| part[p].0)).collect();
        let rings: Vec<Ring> = columns.iter().map(|c| c.ring).collect();
        let form = self.lookup_form((index, xor_index), len, &rings).expect("an index that a look-up can have");
        let ty = |c: &ColumnType| Ty { ring: c.ring, len, holder: Holder::Both, lo: c.lo, hi: c.hi };
        let tys = columns.iter().map(ty).collect();
        let inst = Inst::Lookup {
            form,
            index: index as u8,
            xor_index: xor_index as u8,
            units: 1,
            table: Table::Public(table),
            columns: rings,
        };
        self.inter(inst, &ins, tys)
    }

    /// The better form of a look-up in a public table with an index of so many bits, shared additively and by XOR; `None` if there
    /// is none.
    pub(crate) fn lookup_form(&self, (index, xor_index): (u32, u32), n: usize, columns: &[Ring]) -> Option<LookupForm> {
        let bits: u32 = columns.iter().map(|ring| ring.bits()).sum();
        let rates = &self.profile.rates;
        let mut forms = Vec::new();
        if index + xor_index <= MAX_OT_INDEX && bits <= 128 {
            let d = index + xor_index;
            let bytes = rates.one_of[d as usize] + f64::from(d + (bits << d)) / 8.0;
            forms.push((self.profile.score(2, bytes, n), LookupForm::OneOf { sender: Party::P0 }));
        }
        if xor_index == 0 && (2..=MAX_INDEX).contains(&index) {
            let rate = rates.one_hot[index as usize];
            let signed: Vec<_> = columns.iter().filter(|ring| matches!(ring, Ring::Add(w) if *w > 1)).collect();
            let values: u32 = signed.iter().map(|ring| ring.bits() - 1).sum();
            let bytes = rate.bytes + f64::from(2 * (index + values)) / 8.0;
            let rounds = if signed.is_empty() { 1 } else { 2 };
            forms.push((self.profile.score(rounds, bytes, n), LookupForm::Opened { top: rate.top }));
        }
        forms.into_iter().min_by(|a, b| a.0.partial_cmp(&b.0).expect("costs are numbers")).map(|(_, form)| form)
    }

    /// Lowers a function in its better form: by its protocol, or as one look-up if it is pointwise on a number of few enough bits.
    ///
    /// # Errors
    /// Those of the protocol: where it refuses its operands, so does the table.
    pub fn best_form(&mut self, function: &dyn Function, ins: &[Reg]) -> Build<Vec<Reg>> {
        let pointwise = function.pointwise().and_then(|width| Some((width, self.index_bits(ins[0])?)));
        let Some((width, bits)) = pointwise else { return function.lower(self, ins) };
        let by_protocol = self.price(ins, |cx, ins| function.lower(cx, ins))?;
        // What it costs does not depend on the entries.
        let empty = Values {
            table: Arc::new(PublicTable::new(vec![vec![0; 1 << bits]])),
            column: ColumnType { ring: Ring::Add(width as u8), lo: 0, hi: 0 },
        };
        let by_table = self.price(ins, |cx, ins| Ok(cx.one_lookup(ins[0], bits, empty)))?;
        let n = self.len(ins[0]);
        let score = |(rounds, bytes)| self.profile.score(rounds, bytes, n);
        if score(by_table) < score(by_protocol) {
            self.as_table(function, width, ins)
        } else {
            function.lower(self, ins)
        }
    }

    /// A function of one operand, element by element, as one look-up with a result of `width` bits.
    ///
    /// # Errors
    /// An operand that is not an exact, additively shared number of up to [`MAX_INDEX`] bits.
    pub fn as_table(&mut self, function: &dyn Function, width: u32, ins: &[Reg]) -> Build<Vec<Reg>> {
        let Ty { lo, hi, .. } = *self.ty(ins[0]);
        let Some(bits) = self.index_bits(ins[0]) else {
            let what = format!("a number in {lo}..={hi}: tables are for shared numbers of up to {MAX_INDEX} bits");
            return refuse(function.name(), what);
        };
        if !(1..=64).contains(&width) {
            return refuse(function.name(), format!("a result of {width} bits"));
        }
        let values = values(function, (lo, hi), bits, Ring::Add(width as u8));
        Ok(self.one_lookup(ins[0], bits, values))
    }

    /// Bits of the index that all values of a shared number make, if it can be one.
    fn index_bits(&self, x: Reg) -> Option<u32> {
        let ty = self.ty(x);
        let bits = ty.span_bits().max(2);
        let shared = matches!(ty.ring, Ring::Add(_)) && ty.holder == Holder::Both;
        (shared && ty.exact() && bits <= MAX_INDEX.min(ty.width())).then_some(bits)
    }

    fn one_lookup(&mut self, x: Reg, bits: u32, Values { table, column }: Values) -> Vec<Reg> {
        let index = self.offset(Int(x), -self.ty(x).lo);
        let index = self.reduce(index, bits);
        let shares = Party::BOTH.map(|p| self.view(index, p));
        self.look_up(Some(shares), None, table, &[column])
    }
}
