//! The rescale that a product or a sum may carry: `wrap(R(floor(x / 2^floor), shift) << left)`.

use super::Number;
use crate::protocols::truncation::Rounding;
use serde::{Deserialize, Serialize};

/// Most bits that a rescale drops or moves.
const MAX_SHIFT: u32 = 63;

/// Bits dropped, per tensor or per channel of the last axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shifts {
    /// The same for all.
    All(u32),
    /// One per channel.
    Channels(Vec<u32>),
}

impl Default for Shifts {
    fn default() -> Self {
        Shifts::All(0)
    }
}

impl Shifts {
    /// The shift of element `i` of a tensor whose last axis the channels are.
    pub fn of(&self, i: usize) -> u32 {
        match self {
            Shifts::All(shift) => *shift,
            Shifts::Channels(shifts) => shifts[i % shifts.len()],
        }
    }

    /// The largest.
    pub fn most(&self) -> u32 {
        match self {
            Shifts::All(shift) => *shift,
            Shifts::Channels(shifts) => shifts.iter().copied().max().unwrap_or(0),
        }
    }
}

/// `R(floor(x / 2^floor), shift) << left`; see `networks.md` 1.0 of the paper's program: `R` rounds down, toward zero, or
/// to nearest (half added before rounding down).
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rescale {
    /// Bits dropped rounding down.
    pub floor: u32,
    /// Bits dropped in the rounding mode, after that.
    pub shift: Shifts,
    /// Bits moved up.
    pub left: u32,
    /// The rounding mode.
    pub rounding: Rounding,
}

/// Rescales that do the same are equal: where no bit is dropped in the rounding mode, the mode does not matter.
impl PartialEq for Rescale {
    fn eq(&self, other: &Self) -> bool {
        let dropped = |r: &Self| r.shift.most() > 0;
        let shifts =
            (self.shift == other.shift && self.rounding == other.rounding) || !(dropped(self) || dropped(other));
        self.floor == other.floor && self.left == other.left && shifts
    }
}

impl Default for Rescale {
    fn default() -> Self {
        Self { floor: 0, shift: Shifts::All(0), left: 0, rounding: Rounding::Floor }
    }
}

impl Rescale {
    /// One shift.
    pub fn by(shift: u32, rounding: Rounding) -> Self {
        Self { shift: Shifts::All(shift), rounding, ..Self::default() }
    }

    /// Whether nothing is changed.
    pub fn is_identity(&self) -> bool {
        self.floor == 0 && self.left == 0 && self.shift.most() == 0
    }

    /// Of element `i`, before it is wrapped.
    pub fn value(&self, i: usize, x: i128) -> i128 {
        self.rounding.apply(x >> self.floor, self.shift.of(i)) << self.left
    }

    /// Range of values before they are wrapped, of operands between `lo` and `hi`; none beyond `i128`.
    pub fn range(&self, lo: i128, hi: i128) -> Option<(i128, i128)> {
        let shifts: &[u32] = match &self.shift {
            Shifts::All(shift) => std::slice::from_ref(shift),
            Shifts::Channels(shifts) => shifts,
        };
        let up = |x: i128| x.checked_mul(1 << self.left);
        let of = |x: i128| shifts.iter().map(move |&s| up(self.rounding.apply(x >> self.floor, s)));
        let lo = of(lo).collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let hi = of(hi).collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some((lo, hi))
    }

    /// Of element `i`, wrapped to `number`.
    pub fn of(&self, i: usize, x: i128, number: Number) -> i128 {
        number.wrap(self.value(i, x))
    }

    /// Of a row of channels, wrapped to `number`, appended to `to`.
    pub(super) fn row<S: Copy + Into<i128>>(&self, row: &[S], number: Number, to: &mut Vec<i64>) {
        to.extend(row.iter().enumerate().map(|(i, &x)| self.of(i, x.into(), number) as i64));
    }

    /// Checks shifts against the number of channels of the last axis.
    ///
    /// # Errors
    /// Shifts that are too large, or not one per channel.
    pub fn check(&self, channels: usize) -> Result<(), String> {
        let total = self.floor.saturating_add(self.shift.most());
        if total > MAX_SHIFT || self.left > MAX_SHIFT {
            return Err(format!("a shift by {} (at most {MAX_SHIFT})", total.max(self.left)));
        }
        match &self.shift {
            Shifts::Channels(shifts) if shifts.len() != channels => {
                Err(format!("{} shifts for {channels} channels", shifts.len()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescales_that_do_the_same_are_equal() {
        let zeros = Rescale { shift: Shifts::Channels(vec![0, 0]), ..Rescale::by(0, Rounding::TowardZero) };
        assert_eq!(zeros, Rescale::default());
        assert_ne!(Rescale::by(1, Rounding::TowardZero), Rescale::by(1, Rounding::Floor));
        assert_ne!(Rescale { floor: 1, ..zeros.clone() }, zeros);
        assert_ne!(Rescale { left: 1, ..zeros.clone() }, zeros);
    }
}
