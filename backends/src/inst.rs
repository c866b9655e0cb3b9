//! The interactive instructions, and the messages each one is made of.
//!
//! An instruction is a *functionality* on vectors: `n` independent instances of the same small two-party computation.
//! Its form (here one per instruction) says which messages it takes, what each needs, which correlations it consumes,
//! and when its result is there. Scheduling, cost and memory are derived from this page alone; nothing in a form may
//! depend on data.
//!
//! | instruction | function | rounds | bits on the wire per instance |
//! |---|---|---|---|
//! | [`Inst::And`] | shared bit times vector of `k` shared bits | 1 | `2 (1 + k)` |
//! | [`Inst::Cross`] | private `m`-bit number times the other's private value | 1 | `m + sum (l - i)` |
//! | [`Inst::Lookup`] | table entry at an index shared between both | 2 | `d + 2^d * entry` |
//! | [`Inst::Leaf`] | carry / all-ones flags of the sum of two private digits | 2 | `k + 2^k * flags` |
//! | [`Inst::Linear`] | matrix owned by P0 times shared vector | 1, one way | `l` per input element |
//! | [`Inst::Open`] | a party learns a shared value | 1, one way | `w` |

use std::sync::Arc;

/// The two parties. `P0` is the server (owns the model), `P1` the client (owns the inputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Party {
    /// Server.
    P0,
    /// Client.
    P1,
}

impl Party {
    /// Both, in order.
    pub const BOTH: [Party; 2] = [Party::P0, Party::P1];

    /// The peer.
    pub fn other(self) -> Self {
        match self {
            Party::P0 => Party::P1,
            Party::P1 => Party::P0,
        }
    }

    /// 0 or 1.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// How a value is split in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ring {
    /// Additively modulo `2^w`, `1 <= w <= 64`; one word per element.
    Add(u8),
    /// Bitwise: a vector of `k` bits per element, stored as `k` planes.
    Xor(u8),
}

impl Ring {
    /// Bits per element.
    pub fn bits(self) -> u32 {
        match self {
            Ring::Add(w) | Ring::Xor(w) => u32::from(w),
        }
    }
}

/// What a comparison leaf says about the sum of the two digits' low `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flag {
    /// Which statement.
    pub kind: FlagKind,
    /// Low bits of both digits that take part, `1..=digit`.
    pub bits: u8,
    /// Which of the sender's digit operands takes part.
    pub view: u8,
}

/// The two statements a leaf can make: together they are the (generate, propagate) pair of carry look-ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlagKind {
    /// `a + b >= 2^bits`.
    Carry,
    /// `a + b = 2^bits - 1`. With `a` the complement of a digit it says that two digits are equal.
    Ones,
}

/// Where a look-up's entries come from. Instance `i` uses unit `i % units`; entry `e` of unit `u` of a column stands
/// at `(u << index_bits) + e`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Known to both parties: one vector of entries per column, each reduced to the column's width.
    Public(Arc<Vec<Vec<u64>>>),
    /// Known to the sender: one private operand per column.
    Private,
}

/// The linear maps of [`Inst::Linear`]. Inputs and outputs are rows; a row is one time step of one batch item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinearOp {
    /// `y[r][j] = sum_k x[r][k] * W[k][j]`, `W` row-major `[inner, outer]`.
    MatMul {
        /// Elements of an input row.
        inner: u32,
        /// Elements of an output row.
        outer: u32,
    },
    /// `y[i] = W[i % period] * x[i]`.
    Scale {
        /// Number of weights.
        period: u32,
    },
}

impl LinearOp {
    /// Number of weights.
    pub fn weights(self) -> usize {
        match self {
            LinearOp::MatMul { inner, outer } => inner as usize * outer as usize,
            LinearOp::Scale { period } => period as usize,
        }
    }

    /// Length of the result for an input of `n` elements.
    pub fn output_len(self, n: usize) -> usize {
        match self {
            LinearOp::MatMul { inner, outer } => n / inner as usize * outer as usize,
            LinearOp::Scale { .. } => n,
        }
    }
}

/// An interactive instruction. Operands are listed with each; "private" means that only that party has the register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Inst {
    /// Operands: `a` shared `Xor(1)`, `b` shared `Xor(cols)`. Result: `a AND b`, shared `Xor(cols)`.
    And {
        /// Bits of the second operand.
        cols: u8,
    },
    /// Operands: `u` private to the chooser as `Xor(bits)` (plane `i` is bit `i`), `v` private to the other as
    /// `Add(width)`, and, if `top`, `t` private to the other as `Add(width - (bits - 1))`.
    /// Result: `sum_i u_i 2^i v mod 2^width`, shared; with `top` the last term is `u_(bits-1) 2^(bits-1) t`.
    Cross {
        /// Whose bits are the choices.
        chooser: Party,
        /// Bits of `u`, `1..=width`.
        bits: u8,
        /// Width of `v` and of the result.
        width: u8,
        /// Whether the top bit multiplies an operand of its own.
        top: bool,
    },
    /// Operands: sender's private digit `Add(index)` (if `index > 0`), sender's private `Xor(xor_index)` (if
    /// `xor_index > 0`), the receiver's same two, then the private table's columns if there is one.
    /// Result: per column a sharing of the entry at `(s + r mod 2^index) + 2^index * (s' xor r')`.
    Lookup {
        /// Who masks the table.
        sender: Party,
        /// Bits of the additively shared part of the index, `0..=12`.
        index: u8,
        /// Bits of the XOR-shared part, on top of it.
        xor_index: u8,
        /// Number of different tables.
        units: u32,
        /// The entries.
        table: Table,
        /// Rings of the columns of an entry; their bits sum to at most 128.
        columns: Vec<Ring>,
    },
    /// Operands: `views` private digits of the sender, one of the receiver, all `Add(digit)`.
    /// Result: the flags, shared `Xor(flags.len())`.
    Leaf {
        /// Who masks the flags.
        sender: Party,
        /// Bits of a digit, `1..=8`.
        digit: u8,
        /// Digit operands of the sender.
        views: u8,
        /// Statements to make, at most 8.
        flags: Vec<Flag>,
    },
    /// Operands: weights private to P0 as `Add(weight_bits)`, two's complement; input shared `Add(width)`.
    /// Result: shared `Add(width)`. The weights must be an input of the program: the offline phase uses them.
    Linear {
        /// Which map.
        op: LinearOp,
        /// Bits of a weight.
        weight_bits: u8,
        /// Ring of input and output.
        width: u8,
    },
    /// Operand: shared value. Result: the value, private to `to`.
    Open {
        /// Who learns it.
        to: Party,
        /// The value's ring.
        ring: Ring,
    },
}

/// One message of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Sender.
    pub from: Party,
    /// Exact length in bytes: a multiple of 8.
    pub bytes: usize,
    /// Operands (by position) that the sender must have to write it.
    pub needs: Vec<usize>,
    /// Message of the same instance that the sender must have read before.
    pub after: Option<usize>,
}

/// When a party has its share of the results, besides having its own operands in `needs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Messages that must have arrived.
    pub messages: Vec<usize>,
    /// Operands (by position) of the party that the result is made from.
    pub needs: Vec<usize>,
}

/// A kind of correlation; see [`crate::correlation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// Correlated OT: the sender has `q` (and its global delta), the receiver a bit `c` and `q xor c delta`.
    Cot {
        /// Who knows delta.
        sender: Party,
    },
    /// Random 1-of-`2^bits` OT.
    OneOf {
        /// Who knows all pads.
        sender: Party,
        /// log2 of the number of pads, `1..=12`.
        bits: u8,
    },
    /// Bit triples with a common factor: `c_j = a AND b_j` for `cols` columns.
    Triple {
        /// Columns.
        cols: u8,
    },
}

/// Bytes of `n` values of `bits` bits as a dense little-endian section padded to 8 bytes.
pub fn section(n: usize, bits: u32) -> usize {
    (n * bits as usize).div_ceil(64) * 8
}

impl Inst {
    /// The messages for `n` instances (`n` input elements for [`Inst::Linear`]), in the order their numbers refer to.
    pub fn messages(&self, n: usize) -> Vec<Message> {
        let msg = |from, bytes, needs: &[usize], after| Message { from, bytes, needs: needs.to_vec(), after };
        match self {
            Inst::And { cols } => {
                let bytes = (1 + usize::from(*cols)) * section(n, 1);
                vec![msg(Party::P0, bytes, &[0, 1], None), msg(Party::P1, bytes, &[0, 1], None)]
            }
            Inst::Cross { chooser, bits, width, top } => {
                let choices = usize::from(*bits) * section(n, 1);
                let values = (0..*bits).map(|i| section(n, u32::from(width - i))).sum();
                let needs: &[usize] = if *top { &[1, 2] } else { &[1] };
                vec![msg(*chooser, choices, &[0], None), msg(chooser.other(), values, needs, None)]
            }
            Inst::Lookup { sender, index, xor_index, columns, table, .. } => {
                let per_party = usize::from(*index > 0) + usize::from(*xor_index > 0);
                let entries = n << (index + xor_index);
                let mut s: Vec<usize> = (0..per_party).collect();
                if *table == Table::Private {
                    s.extend((0..columns.len()).map(|c| 2 * per_party + c));
                }
                let r: Vec<usize> = (per_party..2 * per_party).collect();
                vec![
                    msg(sender.other(), section(n, u32::from(index + xor_index)), &r, None),
                    msg(*sender, columns.iter().map(|c| section(entries, c.bits())).sum(), &s, Some(0)),
                ]
            }
            Inst::Leaf { sender, digit, views, flags } => {
                let s: Vec<usize> = (0..usize::from(*views)).collect();
                vec![
                    msg(sender.other(), section(n, u32::from(*digit)), &[usize::from(*views)], None),
                    msg(*sender, flags.len() * section(n << digit, 1), &s, Some(0)),
                ]
            }
            Inst::Linear { width, .. } => vec![msg(Party::P1, section(n, u32::from(*width)), &[1], None)],
            Inst::Open { to, ring } => {
                let bytes = match ring {
                    Ring::Add(w) => section(n, u32::from(*w)),
                    Ring::Xor(k) => usize::from(*k) * section(n, 1),
                };
                vec![msg(to.other(), bytes, &[0], None)]
            }
        }
    }

    /// When `party` has its share of the results; `None` if it gets none.
    pub fn ready(&self, party: Party) -> Option<Ready> {
        let ready =
            |messages: &[usize], needs: &[usize]| Some(Ready { messages: messages.to_vec(), needs: needs.to_vec() });
        match self {
            Inst::And { .. } => ready(&[1 - party.index()], &[0, 1]),
            Inst::Cross { chooser, .. } if *chooser == party => ready(&[1], &[0]),
            Inst::Cross { top, .. } => ready(&[0], if *top { &[1, 2] } else { &[1] }),
            // The sender's share is a fresh mask; it exists once the first message is due.
            Inst::Lookup { sender, .. } | Inst::Leaf { sender, .. } if *sender == party => ready(&[0], &[]),
            Inst::Lookup { .. } | Inst::Leaf { .. } => ready(&[1], &[]),
            Inst::Linear { .. } if party == Party::P0 => ready(&[0], &[0, 1]),
            Inst::Linear { .. } => ready(&[], &[]),
            Inst::Open { to, .. } => (*to == party).then(|| Ready { messages: vec![0], needs: vec![0] }),
        }
    }

    /// Correlations that `n` instances consume. [`Inst::Linear`] has its own, made per weight: none here.
    pub fn demand(&self, n: usize) -> Option<(Kind, usize)> {
        match self {
            Inst::And { cols } => Some((Kind::Triple { cols: *cols }, n)),
            Inst::Cross { chooser, bits, .. } => Some((Kind::Cot { sender: chooser.other() }, n * usize::from(*bits))),
            Inst::Lookup { sender, index, xor_index, .. } => {
                Some((Kind::OneOf { sender: *sender, bits: index + xor_index }, n))
            }
            Inst::Leaf { sender, digit, .. } => Some((Kind::OneOf { sender: *sender, bits: *digit }, n)),
            Inst::Linear { .. } | Inst::Open { .. } => None,
        }
    }

    /// Rings of the results.
    pub fn results(&self) -> Vec<Ring> {
        match self {
            Inst::And { cols } => vec![Ring::Xor(*cols)],
            Inst::Cross { width, .. } | Inst::Linear { width, .. } => vec![Ring::Add(*width)],
            Inst::Lookup { columns, .. } => columns.clone(),
            Inst::Leaf { flags, .. } => vec![Ring::Xor(flags.len() as u8)],
            Inst::Open { ring, .. } => vec![*ring],
        }
    }
}
