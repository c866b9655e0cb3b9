//! Local operations: a closed list, so that programs can be hashed, printed and vectorised.
//!
//! On *shared* registers only linear operations exist; the constructors below hold that border ([`Int`] and [`Bit`]
//! for shared values, [`Own`] for private ones). Both parties execute the same operation on their shares, except that
//! public constants are added by P0 alone.

use super::{Bit, Cx, Holder, Int, Own, Party, Reg, Ring, Ty};
use std::sync::Arc;

/// What a local node does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LocalOp {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`. Private only.
    Mul,
    /// The product of matrices `[rows, inner]` and `[inner, outer]`. Private only.
    MatMul {
        /// Rows, inner, outer.
        shape: [usize; 3],
    },
    /// `a + c`, `c` public.
    Offset(i128),
    /// `a * c`, `c` public.
    Scale(i128),
    /// `(a << by) mod 2^width`. On shares `width <= w + by`.
    Shl {
        /// Shift.
        by: u8,
        /// Width of the result.
        width: u8,
    },
    /// Bits `lo..lo + bits` as a number. Private only.
    Digit {
        /// Lowest bit.
        lo: u8,
        /// Number of bits.
        bits: u8,
    },
    /// Bits `lo..lo + bits` as planes. Private only.
    Planes {
        /// Lowest bit.
        lo: u8,
        /// Number of bits.
        bits: u8,
    },
    /// A bit as a number of the given width. Private only.
    Word {
        /// Width of the result.
        width: u8,
    },
    /// `x` where the bit is set, 0 elsewhere; operands: bit, `x`. Private only.
    Select,
    /// `a xor b`.
    Xor,
    /// Complement.
    Not,
    /// Planes `from..from + count`.
    Pick {
        /// First plane.
        from: u8,
        /// Number of planes.
        count: u8,
    },
    /// The planes of all operands, one after the other.
    Stack,
    /// A share, seen by its holder.
    View,
    /// A private value as a sharing: the owner's share is the value.
    Share,
    /// A public constant as a sharing.
    Public(Arc<Vec<i128>>),
    /// Elements `from..from + len`.
    Slice {
        /// First element.
        from: usize,
        /// Number of elements.
        len: usize,
    },
    /// The elements of all operands, one after the other.
    Concat,
    /// All elements, `times` times over.
    Repeat {
        /// Copies.
        times: usize,
    },
    /// Element `i` of the result is element `map[i]`.
    Gather(Arc<Vec<u32>>),
    /// The same register under another range.
    Retype,
}

// Constructors. Those of shared values are linear; ranges follow.
impl Cx {
    fn like(&self, x: Reg, lo: i128, hi: i128) -> Ty {
        Ty { lo, hi, ..self.ty(x).clone() }
    }

    fn same(&self, a: Reg, b: Reg) {
        let (a, b) = (self.ty(a), self.ty(b));
        assert!(a.ring == b.ring && a.len == b.len && a.holder == b.holder, "operands differ: {a:?} {b:?}");
    }

    /// `a + b` in their common ring.
    pub fn add(&mut self, a: Int, b: Int) -> Int {
        self.same(a.0, b.0);
        let (x, y) = (self.ty(a), self.ty(b));
        let ty = self.like(a.0, x.lo + y.lo, x.hi + y.hi);
        Int(self.local(LocalOp::Add, &[a.0, b.0], ty))
    }

    /// `a - b` in their common ring.
    pub fn sub(&mut self, a: Int, b: Int) -> Int {
        self.same(a.0, b.0);
        let (x, y) = (self.ty(a), self.ty(b));
        let ty = self.like(a.0, x.lo - y.hi, x.hi - y.lo);
        Int(self.local(LocalOp::Sub, &[a.0, b.0], ty))
    }

    /// `a + c`.
    pub fn offset(&mut self, a: Int, c: i128) -> Int {
        if c == 0 {
            return a;
        }
        let ty = self.like(a.0, self.ty(a).lo + c, self.ty(a).hi + c);
        Int(self.local(LocalOp::Offset(c), &[a.0], ty))
    }

    /// `a * c`.
    pub fn scale(&mut self, a: Int, c: i128) -> Int {
        let (x, y) = (self.ty(a).lo * c, self.ty(a).hi * c);
        let ty = self.like(a.0, x.min(y), x.max(y));
        Int(self.local(LocalOp::Scale(c), &[a.0], ty))
    }

    /// `-a`.
    pub fn neg(&mut self, a: Int) -> Int {
        self.scale(a, -1)
    }

    /// `a << by` in a ring of `width <= w + by` bits.
    pub fn shl(&mut self, a: Int, by: u32, width: u32) -> Int {
        let t = self.ty(a);
        assert!(width >= 1 && width <= t.width() + by && width <= 64, "shl of {} bits by {by} to {width}", t.width());
        if by == 0 && width == t.width() {
            return a;
        }
        let ty = Ty { ring: Ring::Add(width as u8), lo: t.lo << by, hi: t.hi << by, ..t.clone() };
        Int(self.local(LocalOp::Shl { by: by as u8, width: width as u8 }, &[a.0], ty))
    }

    /// `a` modulo `2^width`, a smaller ring. The range stays: only the low bits are known from here on.
    pub fn reduce(&mut self, a: Int, width: u32) -> Int {
        self.shl(a, 0, width)
    }

    /// `a` read as the integer of `[lo, hi]`: for an author who has proven it, or who wants wrapping.
    pub fn retype(&mut self, a: Int, lo: i128, hi: i128) -> Int {
        let ty = self.like(a.0, lo, hi);
        Int(self.local(LocalOp::Retype, &[a.0], ty))
    }

    /// The share of `party`, as its private value in `[0, 2^w)`.
    pub fn view(&mut self, a: impl Into<Reg>, party: Party) -> Own {
        let a = a.into();
        let t = self.ty(a);
        assert_eq!(t.holder, Holder::Both, "only shares are viewed");
        let ty = Ty { holder: Holder::Only(party), lo: 0, hi: (1 << t.width()) - 1, ..t.clone() };
        Own(self.local(LocalOp::View, &[a], ty))
    }

    /// A private value as a sharing, at no cost.
    pub fn share(&mut self, a: Own) -> Int {
        let ty = Ty { holder: Holder::Both, ..self.ty(a).clone() };
        Int(self.local(LocalOp::Share, &[a.0], ty))
    }

    /// Private bits as a sharing.
    pub fn share_bits(&mut self, a: Own) -> Bit {
        Bit(self.share(a).0)
    }

    /// A public constant vector.
    pub fn public(&mut self, width: u32, values: Vec<i128>) -> Int {
        let (lo, hi) = (*values.iter().min().unwrap_or(&0), *values.iter().max().unwrap_or(&0));
        let ty = Ty { ring: Ring::Add(width as u8), len: values.len(), holder: Holder::Both, lo, hi };
        Int(self.local(LocalOp::Public(Arc::new(values)), &[], ty))
    }

    /// Elements `from..from + len`.
    pub fn slice(&mut self, a: Int, from: usize, len: usize) -> Int {
        assert!(from + len <= self.len(a), "slice outside");
        let ty = Ty { len, ..self.ty(a).clone() };
        Int(self.local(LocalOp::Slice { from, len }, &[a.0], ty))
    }

    /// All elements of all operands.
    pub fn concat(&mut self, parts: &[Int]) -> Int {
        let first = self.ty(parts[0]).clone();
        let regs: Vec<Reg> = parts.iter().map(|p| p.0).collect();
        assert!(regs.iter().all(|&r| self.ty(r).ring == first.ring), "concat of different rings");
        let ty = Ty {
            len: regs.iter().map(|&r| self.len(r)).sum(),
            lo: regs.iter().map(|&r| self.ty(r).lo).min().expect("parts"),
            hi: regs.iter().map(|&r| self.ty(r).hi).max().expect("parts"),
            ..first
        };
        Int(self.local(LocalOp::Concat, &regs, ty))
    }

    /// The whole vector `times` times over: a bias for every item of a batch.
    pub fn repeat(&mut self, a: Int, times: usize) -> Int {
        if times == 1 {
            return a;
        }
        let ty = Ty { len: self.len(a) * times, ..self.ty(a).clone() };
        Int(self.local(LocalOp::Repeat { times }, &[a.0], ty))
    }

    /// Elements by public index.
    pub fn gather(&mut self, a: Int, map: Vec<u32>) -> Int {
        assert!(map.iter().all(|&i| (i as usize) < self.len(a)), "gather outside");
        let ty = Ty { len: map.len(), ..self.ty(a).clone() };
        Int(self.local(LocalOp::Gather(Arc::new(map)), &[a.0], ty))
    }

    // Bits.

    /// `a xor b`.
    pub fn xor(&mut self, a: Bit, b: Bit) -> Bit {
        self.same(a.0, b.0);
        let ty = self.ty(a).clone();
        Bit(self.local(LocalOp::Xor, &[a.0, b.0], ty))
    }

    /// Complement of all planes.
    pub fn not(&mut self, a: Bit) -> Bit {
        let ty = self.ty(a).clone();
        Bit(self.local(LocalOp::Not, &[a.0], ty))
    }

    /// Planes `from..from + count`.
    pub fn pick(&mut self, a: Bit, from: usize, count: usize) -> Bit {
        let t = self.ty(a);
        assert!(from + count <= t.width() as usize, "pick outside");
        if count == t.width() as usize {
            return a;
        }
        let ty = Ty { ring: Ring::Xor(count as u8), lo: 0, hi: (1 << count) - 1, ..t.clone() };
        Bit(self.local(LocalOp::Pick { from: from as u8, count: count as u8 }, &[a.0], ty))
    }

    /// Planes of all operands.
    pub fn stack(&mut self, parts: &[Bit]) -> Bit {
        let count: u32 = parts.iter().map(|&p| self.width(p)).sum();
        let ty = Ty { ring: Ring::Xor(count as u8), lo: 0, hi: (1 << count) - 1, ..self.ty(parts[0]).clone() };
        let regs: Vec<Reg> = parts.iter().map(|p| p.0).collect();
        Bit(self.local(LocalOp::Stack, &regs, ty))
    }

    // Private values.

    fn own(&self, a: Own) -> Party {
        match self.ty(a).holder {
            Holder::Only(party) => party,
            Holder::Both => unreachable!("private values have one holder"),
        }
    }

    fn own_ty(&self, a: Own, ring: Ring) -> Ty {
        Ty { ring, lo: 0, hi: (1i128 << ring.bits()) - 1, len: self.len(a), holder: Holder::Only(self.own(a)) }
    }

    /// `a + b` modulo the ring.
    pub fn own_add(&mut self, a: Own, b: Own) -> Own {
        self.same(a.0, b.0);
        let ty = self.own_ty(a, self.ty(a).ring);
        Own(self.local(LocalOp::Add, &[a.0, b.0], ty))
    }

    /// `a - b` modulo the ring.
    pub fn own_sub(&mut self, a: Own, b: Own) -> Own {
        self.same(a.0, b.0);
        let ty = self.own_ty(a, self.ty(a).ring);
        Own(self.local(LocalOp::Sub, &[a.0, b.0], ty))
    }

    /// `a * b` modulo the ring.
    pub fn own_mul(&mut self, a: Own, b: Own) -> Own {
        self.same(a.0, b.0);
        let ty = self.own_ty(a, self.ty(a).ring);
        Own(self.local(LocalOp::Mul, &[a.0, b.0], ty))
    }

    /// `a + c` modulo the ring.
    pub fn own_offset(&mut self, a: Own, c: i128) -> Own {
        if c == 0 {
            return a;
        }
        let ty = self.own_ty(a, self.ty(a).ring);
        Own(self.local(LocalOp::Offset(c), &[a.0], ty))
    }

    /// `a * c` modulo the ring.
    pub fn own_scale(&mut self, a: Own, c: i128) -> Own {
        let ty = self.own_ty(a, self.ty(a).ring);
        Own(self.local(LocalOp::Scale(c), &[a.0], ty))
    }

    /// `a << by` modulo `2^width`; wider rings zero-extend.
    pub fn own_shl(&mut self, a: Own, by: u32, width: u32) -> Own {
        if by == 0 && width == self.width(a) {
            return a;
        }
        let ty = self.own_ty(a, Ring::Add(width as u8));
        Own(self.local(LocalOp::Shl { by: by as u8, width: width as u8 }, &[a.0], ty))
    }

    /// Bits `lo..lo + bits` of `a` as a number.
    pub fn digit(&mut self, a: Own, lo: u32, bits: u32) -> Own {
        assert!(bits >= 1 && lo + bits <= self.width(a), "digit outside");
        if lo == 0 && bits == self.width(a) {
            return a;
        }
        let ty = self.own_ty(a, Ring::Add(bits as u8));
        Own(self.local(LocalOp::Digit { lo: lo as u8, bits: bits as u8 }, &[a.0], ty))
    }

    /// Bits `lo..lo + bits` of `a` as planes.
    pub fn planes(&mut self, a: Own, lo: u32, bits: u32) -> Own {
        assert!(bits >= 1 && lo + bits <= self.width(a), "planes outside");
        let ty = self.own_ty(a, Ring::Xor(bits as u8));
        Own(self.local(LocalOp::Planes { lo: lo as u8, bits: bits as u8 }, &[a.0], ty))
    }

    /// Complement of private bits.
    pub fn own_not(&mut self, a: Own) -> Own {
        let ty = self.ty(a).clone();
        Own(self.local(LocalOp::Not, &[a.0], ty))
    }

    /// A private bit as a number 0 or 1 of `width` bits.
    pub fn word(&mut self, bit: Own, width: u32) -> Own {
        assert_eq!(self.width(bit), 1, "one bit expected");
        let ty = Ty { hi: 1, ..self.own_ty(bit, Ring::Add(width as u8)) };
        Own(self.local(LocalOp::Word { width: width as u8 }, &[bit.0], ty))
    }

    /// `x` where the private bit is set, else 0.
    pub fn own_select(&mut self, bit: Own, x: Own) -> Own {
        let ty = self.own_ty(x, self.ty(x).ring);
        Own(self.local(LocalOp::Select, &[bit.0, x.0], ty))
    }
}
