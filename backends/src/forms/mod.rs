//! How each interactive instruction is run: what goes into its messages, and how the result is made from them.
//!
//! A form is a state machine without I/O, one value per party and instance ([`start`]). The messages, what they need
//! and when a result is there are defined by [`crate::inst`]; whoever drives the instance calls
//!
//! * [`Instance::produce`] for each message of this party, when its operands are there and the message it follows has
//!   been consumed;
//! * [`Instance::consume`] for each message of the peer;
//! * [`Instance::finish`] once, when [`Inst::ready`] holds. That may be before the party's last `produce`: the share of
//!   a look-up's sender is its mask, which exists before the table is sent.
//!
//! Tickets are drawn at the start, so both parties draw alike if they start instances in the same order.
//! The peer's bytes are untrusted: a wrong length is an error, every value is reduced to its width, and whatever bits
//! come, the outcome is some share, never a panic.
//!
//! Large vectors are worked on in tiles that stay in the L2 cache; tiles run in parallel when there are many.

mod and;
mod chooser;
mod cross;
mod cross_matrix;
mod leaf;
mod linear;
pub mod linear_rlwe;
mod lookup;
mod open;
mod opened;

pub use linear::{LinearShare, linear_offline, linear_offline_cost};

use crate::{
    Error, Party,
    correlation::Correlations,
    inst::{Inst, LookupForm, Table},
    vector::{Bits, Vector, VectorWord},
    with_word_type, with_words,
};
use rayon::prelude::*;
use sirnn_kernels::{
    aes::Prg,
    bits::{bit_plane, words_from_plane},
    ops,
    ring::RingWord,
};
use std::{borrow::Cow, sync::Arc};

/// A register of this party; `None` if the party does not have it (yet).
pub type Operand = Option<Arc<Vector>>;

/// One party's side of a running instruction.
pub trait Instance: Send {
    /// Writes message `message`, which this party sends. `out` has the planned length and is filled completely.
    fn produce(&mut self, message: usize, operands: &[Operand], out: &mut [u8]);
    /// Takes in message `message` from the peer.
    fn consume(&mut self, message: usize, operands: &[Operand], bytes: &[u8]) -> Result<(), Error>;
    /// This party's shares of the results. Called once, as soon as [`Inst::ready`] holds.
    fn finish(&mut self, operands: &[Operand]) -> Vec<Vector>;
}

/// Starts `n` instances of `inst` (`n` input elements for [`Inst::Linear`]): draws the tickets and, from `prg`, this
/// party's masks. `linear` is the offline share of [`Inst::Linear`], which must be given for it.
pub fn start(
    inst: &Inst,
    n: usize,
    party: Party,
    correlations: &mut dyn Correlations,
    prg: &mut Prg,
    linear: Option<LinearShare>,
) -> Result<Box<dyn Instance>, Error> {
    match inst {
        Inst::And { cols } => and::And::start(party, *cols, n, correlations),
        Inst::Cross { chooser, bits, width, top } => {
            cross::start(*chooser == party, cross::Shape { bits: *bits, width: *width, top: *top, n }, correlations)
        }
        Inst::CrossMatrix { chooser, bits, width, flip, shape } => {
            let [rows, inner, outer] = shape.map(|d| d as usize);
            let shape = cross_matrix::Shape { bits: *bits, width: *width, flip: *flip, rows, inner, outer, n };
            cross_matrix::start(*chooser == party, shape, correlations)
        }
        Inst::Lookup { form: LookupForm::Opened { top }, index, table, columns, .. } => {
            let Table::Public(table) = table else { unreachable!("only public tables are picked from") };
            let vectors = LookupForm::vectors(*top, *index, columns);
            opened::start(
                party,
                opened::Shape { vectors, table: table.clone(), columns: columns.clone(), n },
                correlations,
            )
        }
        Inst::Lookup { form: LookupForm::OneOf { sender }, index, xor_index, units, table, columns } => {
            let (table, columns) = (table.clone(), columns.clone());
            let shape = lookup::Shape { index: *index, xor_index: *xor_index, units: *units, table, columns, n };
            if *sender == party {
                lookup::Sender::start(shape, correlations, prg)
            } else {
                lookup::Receiver::start(shape, correlations)
            }
        }
        Inst::Leaf { sender, digit, views, flags } => {
            let shape = leaf::Shape { digit: *digit, views: *views, flags: flags.len(), n };
            if *sender == party {
                leaf::Sender::start(shape, flags, correlations, prg)
            } else {
                leaf::Receiver::start(shape, correlations)
            }
        }
        Inst::Linear { op, weight_bits, width } => {
            let offline = linear.expect("the offline phase precedes the online phase");
            Ok(with_word_type!(*width, W => linear::Linear::<W>::start(*op, *weight_bits, *width, n, offline)))
        }
        Inst::Open { ring, .. } => Ok(open::Open::start(*ring, n)),
    }
}

/// Operand `i`, which the plan promises.
fn operand(operands: &[Operand], i: usize) -> &Vector {
    operands[i].as_deref().expect("an operand that the plan promises is missing")
}

/// Checks the length of a message.
fn expect_len(bytes: &[u8], len: usize) -> Result<(), Error> {
    if bytes.len() == len { Ok(()) } else { Err(Error::Protocol(format!("{} bytes instead of {len}", bytes.len()))) }
}

/// Writes words as little-endian bytes.
pub(crate) fn write_words(out: &mut [u8], words: impl Iterator<Item = u64>) {
    for (bytes, word) in out.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

/// Reads bit planes of `n` bits each.
pub(crate) fn read_planes(bytes: &[u8], planes: usize, n: usize) -> Bits {
    let words = bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b));
    let mut bits = Bits { planes, len: n, words: words.collect() };
    bits.clear_tail();
    bits
}

/// Bits `from..from + len` of a bit vector, as a plane.
pub(crate) fn bit_range(words: &[u64], from: usize, len: usize) -> Vec<u64> {
    let (first, shift) = (from / 64, from % 64);
    let word = |k: usize| words.get(first + k).copied().unwrap_or(0);
    let mut range: Vec<u64> = match shift {
        0 => words[first..][..len.div_ceil(64)].to_vec(),
        _ => (0..len.div_ceil(64)).map(|k| word(k) >> shift | word(k + 1) << (64 - shift)).collect(),
    };
    if let (Some(last), tail @ 1..) = (range.last_mut(), len % 64) {
        *last &= (1 << tail) - 1;
    }
    range
}

/// The words of a register as words of type `W`, low bits only if that is narrower.
fn words<W: VectorWord>(v: &Vector) -> Cow<'_, [W]> {
    with_words!(v, xs => {
        if bits_of(xs) == W::BITS {
            return Cow::Borrowed(W::of(v));
        }
        let mut words = vec![W::default(); xs.len()];
        ops::resize(xs, W::BITS, &mut words);
        Cow::Owned(words)
    })
}

fn bits_of<W: RingWord>(_: &[W]) -> u32 {
    W::BITS
}

/// The elements of bit planes as words: bit `p` is that of plane `p`.
fn words_from_planes<W: VectorWord>(bits: &Bits) -> Vec<W> {
    let mut words = vec![W::default(); bits.len];
    let mut plane = words.clone();
    for p in (0..bits.planes).rev() {
        words_from_plane(bits.plane(p), bits.len, &mut plane);
        words.iter_mut().zip(&plane).for_each(|(w, b)| *w = w.wadd(*w) | *b);
    }
    words
}

/// The inverse of [`words_from_planes`].
fn planes_from_words<W: VectorWord>(planes: u8, words: &[W]) -> Bits {
    let mut bits = Bits::zero(planes.into(), words.len());
    for p in 0..planes {
        bit_plane(words, p.into(), bits.plane_mut(p.into()));
    }
    bits
}

/// Values from which on jobs run in parallel: below, handing them out costs more than it gains. LOCAL.
const PARALLEL: usize = 1 << 15;

/// Does all jobs, `values` values (or hashes) altogether, each with some worker's scratch space.
fn each<J: Send, S>(
    values: usize,
    jobs: impl Iterator<Item = J>,
    scratch: impl Fn() -> S + Send + Sync,
    run: impl Fn(&mut S, J) + Send + Sync,
) {
    if values < PARALLEL {
        let mut scratch = scratch();
        jobs.for_each(|job| run(&mut scratch, job));
    } else {
        let jobs: Vec<J> = jobs.collect();
        jobs.into_par_iter().for_each_init(scratch, run);
    }
}
