//! Functions rounded to the nearest ([`crate::fixed::nearest`]): a table of all values, one look-up. Two rounds, or a few of the paper's look-ups for
//! short inputs, whatever the function.

use crate::fixed::nearest::Rounded;
use crate::program::{Build, Cx, Function, Reg};

/// A function of a signed number of up to 16 bits.
#[derive(Clone, Copy, Debug)]
pub struct NearestTable(pub Rounded);

impl Function for NearestTable {
    fn name(&self) -> &'static str {
        self.0.function.name()
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].iter().map(|&x| self.0.eval(x)).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        cx.as_table(self, self.0.width, ins)
    }
}
