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
//! | [`Inst::CrossMatrix`] | private matrix of `m`-bit numbers times the other's private matrix | 1 | `m + outer * sum (l - i)` |
//! | [`Inst::Lookup`] | table entry at an index shared between both, by OT | 2 | `d + 2^d * entry` |
//! | | the same in a public table, by opening the masked index | 2, or 1 for XOR columns | `2 d + 2 (w - 1)` an additive column |
//! | [`Inst::Leaf`] | carry / all-ones flags of the sum of two private digits | 2 | `k + 2^k * flags` |
//! | [`Inst::Linear`] | matrix owned by P0 times shared vector | 1, one way | `l` per input element |
//! | [`Inst::Open`] | a party learns a shared value | 1, one way | `w` |

use crate::{onehot::Shape, table::PublicTable};
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
    /// Known to both parties.
    Public(Arc<PublicTable>),
    /// Known to the sender: one private operand per column.
    Private,
}

/// How a look-up is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupForm {
    /// By a 1-of-N OT: the sender masks the whole table, and the other party takes an entry.
    OneOf {
        /// Who masks the table.
        sender: Party,
    },
    /// By opening the masked index: both pick from a public table of one unit with a one-hot vector of the mask. The index is shared
    /// additively in `2..=16` bits.
    Opened {
        /// See [`Shape::top`].
        top: u8,
    },
}

impl LookupForm {
    /// The party whose digits are the first operands.
    pub fn first(self) -> Party {
        match self {
            LookupForm::OneOf { sender } => sender,
            LookupForm::Opened { .. } => Party::P0,
        }
    }

    /// The one-hot vectors for a look-up with these parameters.
    pub fn vectors(top: u8, index: u8, columns: &[Ring]) -> Shape {
        Shape { bits: index, top, sign: signed(columns) }
    }
}

/// Whether there are columns whose picks have a sign: it is nothing modulo 2.
fn signed(columns: &[Ring]) -> bool {
    columns.iter().any(|ring| matches!(ring, Ring::Add(w) if *w > 1))
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
    /// A convolution of images; inputs are whole images.
    Conv(Conv),
}

/// A grouped 2-D convolution. Images are `[height, width, channels]`, results `[rows, columns, filters]`, and weights
/// `[groups, kernel height, kernel width, channels / groups, filters / groups]`: group `g` maps the channels and filters of its number.
///
/// It is the product of a matrix of *patches*, one row per place of the result, with the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Height, width and channels of an image.
    pub image: [u32; 3],
    /// Height and width of the kernel.
    pub kernel: [u32; 2],
    /// Distance of places, down and across.
    pub stride: [u32; 2],
    /// Rows and columns of zeros: above, below, left, right.
    pub padding: [u32; 4],
    /// Parts of the channels that are mapped apart; as many as channels for a depthwise convolution.
    pub groups: u32,
    /// Channels of the result.
    pub filters: u32,
}

impl Conv {
    /// Why the shape makes no sense, if it does not.
    pub fn problem(&self) -> Option<&'static str> {
        let zero = [&self.image[..], &self.kernel, &self.stride, &[self.groups, self.filters]].concat().contains(&0);
        match () {
            _ if zero => Some("a size of 0"),
            _ if !self.image[2].is_multiple_of(self.groups) => Some("channels that do not split into groups"),
            _ if !self.filters.is_multiple_of(self.groups) => Some("filters that do not split into groups"),
            _ if (0..4).any(|i| self.padding[i] >= self.kernel[i / 2]) => Some("padding as large as the kernel"),
            _ if self.output().contains(&0) => Some("a kernel larger than the image"),
            _ => None,
        }
    }

    /// Rows and columns of the result.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|d| {
            let padded = self.image[d] + self.padding[2 * d] + self.padding[2 * d + 1];
            padded.checked_sub(self.kernel[d]).map_or(0, |rest| (rest / self.stride[d] + 1) as usize)
        })
    }

    /// Elements of an image.
    pub fn image_len(&self) -> usize {
        self.image.iter().map(|&d| d as usize).product()
    }

    /// Places of a result: rows of the matrix of patches per image.
    pub fn places(&self) -> usize {
        self.output().iter().product()
    }

    /// Elements of a patch in one group.
    pub fn patch(&self) -> usize {
        self.kernel.iter().map(|&k| k as usize).product::<usize>() * (self.image[2] / self.groups) as usize
    }

    /// The element of the images in row `row` of the matrix of patches, column `column`, groups one after the other; none in the padding.
    pub fn source(&self, row: usize, column: usize) -> Option<usize> {
        let [height, width, channels] = self.image.map(|d| d as usize);
        let [_, columns] = self.output();
        let (image, place) = (row / self.places(), row % self.places());
        let (group, at) = (column / self.patch(), column % self.patch());
        let depth = channels / self.groups as usize;
        let (tap, channel) = (at / depth, at % depth);
        let across = self.kernel[1] as usize;
        let coordinate = |d: usize, out: usize, tap: usize| {
            (out * self.stride[d] as usize + tap).checked_sub(self.padding[2 * d] as usize)
        };
        let y = coordinate(0, place / columns, tap / across).filter(|&y| y < height)?;
        let x = coordinate(1, place % columns, tap % across).filter(|&x| x < width)?;
        Some(((image * height + y) * width + x) * channels + group * depth + channel)
    }
}

impl LinearOp {
    /// Number of weights.
    pub fn weights(self) -> usize {
        match self {
            LinearOp::MatMul { inner, outer } => inner as usize * outer as usize,
            LinearOp::Scale { period } => period as usize,
            LinearOp::Conv(conv) => conv.patch() * conv.filters as usize,
        }
    }

    /// Length of the result for an input of `n` elements.
    pub fn output_len(self, n: usize) -> usize {
        match self {
            LinearOp::MatMul { inner, outer } => n / inner as usize * outer as usize,
            LinearOp::Scale { .. } => n,
            LinearOp::Conv(conv) => n / conv.image_len() * conv.places() * conv.filters as usize,
        }
    }

    /// The map's definition, in any ring: every element of the result is a sum of products of a weight and an input, made from
    /// `zero` by `add_product(sum, weight, input)`. What computes the map fast is tested against it.
    pub fn apply<T: Copy>(self, weights: &[T], x: &[T], zero: T, add_product: impl Fn(T, T, T) -> T) -> Vec<T> {
        let terms = match self {
            LinearOp::MatMul { inner, .. } => inner as usize,
            LinearOp::Scale { .. } => 1,
            LinearOp::Conv(conv) => conv.patch(),
        };
        // Positions of the factors of term `k` of element `i`; none where the input is padding.
        let factors = |i: usize, k: usize| match self {
            LinearOp::MatMul { inner, outer } => {
                let (inner, outer) = (inner as usize, outer as usize);
                Some((k * outer + i % outer, i / outer * inner + k))
            }
            LinearOp::Scale { period } => Some((i % period as usize, i)),
            LinearOp::Conv(conv) => {
                let (patch, filters) = (conv.patch(), conv.filters as usize);
                let outer = filters / conv.groups as usize;
                let (group, j) = (i % filters / outer, i % outer);
                let column = group * patch + k;
                conv.source(i / filters, column).map(|at| (column * outer + j, at))
            }
        };
        let element = |i: usize| {
            let factors = (0..terms).filter_map(|k| factors(i, k));
            factors.fold(zero, |sum, (weight, at)| add_product(sum, weights[weight], x[at]))
        };
        (0..self.output_len(x.len())).map(element).collect()
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
    /// Operands: `u`, a matrix `[rows, inner]` private to the chooser as `Xor(bits)`, `v`, a matrix `[inner, outer]` private to the other as
    /// `Add(width)`, and, if `flip`, a bit per element of `u`, private to the other as `Xor(1)`. Instances are the elements of `u`.
    /// Result: the matrix product, shared `Add(width)`; with `flip` the top bit of an element multiplies `-v` where its bit is set.
    CrossMatrix {
        /// Whose bits are the choices.
        chooser: Party,
        /// Bits of an element of `u`, `1..=width`.
        bits: u8,
        /// Width of `v` and of the result.
        width: u8,
        /// Whether there is a third operand.
        flip: bool,
        /// Rows, inner, outer.
        shape: [u32; 3],
    },
    /// Operands: the sender's (or P0's) private digit `Add(index)` (if `index > 0`), its private `Xor(xor_index)` (if
    /// `xor_index > 0`), the other's same two, then the private table's columns if there is one.
    /// Result: per column a sharing of the entry at `(s + r mod 2^index) + 2^index * (s' xor r')`.
    Lookup {
        /// How it is done.
        form: LookupForm,
        /// Bits of the additively shared part of the index, `0..=12`, or up to 16 where it is opened.
        index: u8,
        /// Bits of the XOR-shared part, on top of it.
        xor_index: u8,
        /// Number of different tables.
        units: u32,
        /// The entries.
        table: Table,
        /// Rings of the columns of an entry, of at most 64 bits; with 1-of-N OT their bits sum to at most 128.
        columns: Vec<Ring>,
    },
    /// Operands: `views` private digits of the sender, one of the receiver, all `Add(digit)`.
    /// Result: the flags, shared `Xor(flags.len())`.
    Leaf {
        /// The party that masks the flags.
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
        /// The party that learns it.
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
pub enum CorrelationKind {
    /// Correlated OT: the sender has `q` (and its global delta), the receiver a bit `c` and `q xor c delta`.
    Cot {
        /// The party that knows delta.
        sender: Party,
    },
    /// Random 1-of-`2^bits` OT.
    OneOf {
        /// The party that knows all pads.
        sender: Party,
        /// log2 of the number of pads, `1..=12`.
        bits: u8,
    },
    /// Bit triples with a common factor: `c_j = a AND b_j` for `cols` columns.
    Triple {
        /// Columns.
        cols: u8,
    },
    /// A random mask shared additively, and the one-hot vector of it shared by XOR.
    OneHot(Shape),
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
            Inst::CrossMatrix { chooser, bits, width, flip, shape } => {
                let choices = usize::from(*bits) * section(n, 1);
                let values = (0..*bits).map(|i| section(n * shape[2] as usize, u32::from(width - i))).sum();
                let needs: &[usize] = if *flip { &[1, 2] } else { &[1] };
                vec![msg(*chooser, choices, &[0], None), msg(chooser.other(), values, needs, None)]
            }
            Inst::Lookup { form: LookupForm::Opened { .. }, index, columns, .. } => {
                let opening = section(n, u32::from(*index));
                let mut messages = vec![msg(Party::P0, opening, &[0], None), msg(Party::P1, opening, &[1], None)];
                if signed(columns) {
                    let widths = columns.iter().filter(|ring| matches!(ring, Ring::Add(_))).map(|ring| ring.bits() - 1);
                    let values: usize = widths.map(|w| section(n, w)).sum();
                    messages.push(msg(Party::P0, values, &[0], Some(1)));
                    messages.push(msg(Party::P1, values, &[1], Some(0)));
                }
                messages
            }
            Inst::Lookup { form: LookupForm::OneOf { sender }, index, xor_index, columns, table, .. } => {
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
            Inst::Cross { chooser, .. } | Inst::CrossMatrix { chooser, .. } if *chooser == party => ready(&[1], &[0]),
            Inst::Cross { top: more, .. } | Inst::CrossMatrix { flip: more, .. } => {
                ready(&[0], if *more { &[1, 2] } else { &[1] })
            }
            // The sender's share is a fresh mask; it exists once the first message is due.
            Inst::Lookup { form: LookupForm::Opened { .. }, columns, .. } => {
                let (own, peer) = (party.index(), 1 - party.index());
                let messages = [peer, 2 + peer];
                ready(&messages[..if signed(columns) { 2 } else { 1 }], &[own])
            }
            Inst::Lookup { form: LookupForm::OneOf { sender }, .. } | Inst::Leaf { sender, .. } if *sender == party => {
                ready(&[0], &[])
            }
            Inst::Lookup { .. } | Inst::Leaf { .. } => ready(&[1], &[]),
            Inst::Linear { .. } if party == Party::P0 => ready(&[0], &[0, 1]),
            Inst::Linear { .. } => ready(&[], &[]),
            Inst::Open { to, .. } => (*to == party).then(|| Ready { messages: vec![0], needs: vec![0] }),
        }
    }

    /// Correlations that `n` instances consume. [`Inst::Linear`] has its own, made per weight: none here.
    pub fn demand(&self, n: usize) -> Option<(CorrelationKind, usize)> {
        match self {
            Inst::And { cols } => Some((CorrelationKind::Triple { cols: *cols }, n)),
            Inst::Cross { chooser, bits, .. } | Inst::CrossMatrix { chooser, bits, .. } => {
                Some((CorrelationKind::Cot { sender: chooser.other() }, n * usize::from(*bits)))
            }
            Inst::Lookup { form: LookupForm::Opened { top }, index, columns, .. } => {
                Some((CorrelationKind::OneHot(LookupForm::vectors(*top, *index, columns)), n))
            }
            Inst::Lookup { form: LookupForm::OneOf { sender }, index, xor_index, .. } => {
                Some((CorrelationKind::OneOf { sender: *sender, bits: index + xor_index }, n))
            }
            Inst::Leaf { sender, digit, .. } => Some((CorrelationKind::OneOf { sender: *sender, bits: *digit }, n)),
            Inst::Linear { .. } | Inst::Open { .. } => None,
        }
    }

    /// Rings of the results.
    pub fn results(&self) -> Vec<Ring> {
        match self {
            Inst::And { cols } => vec![Ring::Xor(*cols)],
            Inst::Cross { width, .. } | Inst::CrossMatrix { width, .. } | Inst::Linear { width, .. } => {
                vec![Ring::Add(*width)]
            }
            Inst::Lookup { columns, .. } => columns.clone(),
            Inst::Leaf { flags, .. } => vec![Ring::Xor(flags.len() as u8)],
            Inst::Open { ring, .. } => vec![*ring],
        }
    }
}
