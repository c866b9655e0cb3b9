//! The sign of a shared number: its top bit, from the carry into it. Paper III-A (MSB).
//!
//! Rounds: 2 and the depth of the carry tree ([`super::carries`]).

use super::bits::signed_bits;
use super::carries::{Want, carries};
use crate::program::{Bit, Build, Cx, Function, Int, Reg, refuse};
use sirnn_backends::inst::Party;

impl Cx {
    /// Whether `x` is negative, by comparison of the shares. Rounds: 2 and the depth of the carry tree.
    pub fn negative(&mut self, x: Int) -> Build<Bit> {
        let ty = self.ty(x).clone();
        if !ty.exact() {
            return refuse("sign", "the operand's range is wider than its ring");
        }
        let k = signed_bits(ty.lo, ty.hi);
        if k > ty.width() {
            return refuse("sign", format!("{}..={} is not a signed range of {} bits", ty.lo, ty.hi, ty.width()));
        }
        let x = self.reduce(x, k);
        self.top_bit(x)
    }

    /// The top bit of the sum of the shares.
    pub fn top_bit(&mut self, x: Int) -> Build<Bit> {
        let w = self.width(x);
        let (x0, x1) = (self.view(x, Party::P0), self.view(x, Party::P1));
        let (t0, t1) = (self.planes(x0, w - 1, 1), self.planes(x1, w - 1, 1));
        let (t0, t1) = (self.share_bits(t0), self.share_bits(t1));
        let tops = self.xor(t0, t1);
        if w == 1 {
            return Ok(tops);
        }
        let carry = carries(self, x0, x1, &[Want::Carry(w - 1)])?[0];
        Ok(self.xor(tops, carry))
    }
}

/// `x >= 0 ? 0 : 1`, XOR-shared. Paper: MSB.
#[derive(Clone, Copy, Debug)]
pub struct Sign;

impl Function for Sign {
    fn name(&self) -> &'static str {
        "sign"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| i128::from(x < 0)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        Ok(vec![cx.negative(Int(ins[0]))?.0])
    }
}
