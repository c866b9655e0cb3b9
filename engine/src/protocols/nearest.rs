//! Functions rounded to the nearest ([`crate::fixed::nearest`]): a table of all values, one look-up, whatever the function.

use crate::fixed::nearest::{Format, table};
use crate::fixed::{Unsupported, wrap};
use crate::program::{Build, Cx, Function, Reg};
use std::sync::Arc;

/// A function of a number of up to 16 bits.
#[derive(Clone)]
pub struct NearestTable {
    function: String,
    x: Format,
    y: Format,
    entries: Arc<Vec<i64>>,
}

impl NearestTable {
    /// The function of that name from format `x` to format `y`.
    ///
    /// # Errors
    /// As [`table`].
    pub fn new(function: &str, x: Format, y: Format) -> Result<Self, Unsupported> {
        Ok(Self { function: function.into(), x, y, entries: table(function, x, y)?.into() })
    }
}

impl std::fmt::Debug for NearestTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The entries follow from these.
        write!(f, "NearestTable({} from {:?} to {:?})", self.function, self.x, self.y)
    }
}

impl Function for NearestTable {
    fn name(&self) -> &'static str {
        "nearest"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let entry = |&x: &i128| self.entries[wrap(x, self.x.bits, false) as usize].into();
        vec![ins[0].iter().map(entry).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        cx.as_table(self, self.y.bits, ins)
    }
}
