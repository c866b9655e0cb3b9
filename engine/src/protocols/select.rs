//! Argmax: a tournament of comparisons, all items of a batch at once.
//!
//! `b > a` is the sign of `a - b`, taken in a ring with one slack bit: in the numbers' own ring the difference of two of them can
//! wrap. Of equals the first wins. Value and index are selected by the same bit. Rounds: extension, then
//! comparison + 1 for each of `ceil(log2 classes)` levels.

use super::bits::signed_bits;
use crate::program::{Build, Cx, Function, Int, Reg, bits_for, refuse};

/// Index of the first largest of every `classes` consecutive values.
#[derive(Clone, Copy, Debug)]
pub struct ArgMax {
    /// Values per item.
    pub classes: usize,
}

impl Function for ArgMax {
    fn name(&self) -> &'static str {
        "argmax"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let first_max = |row: &[i128]| {
            let mut best = 0;
            for (i, v) in row.iter().enumerate() {
                if *v > row[best] {
                    best = i;
                }
            }
            best as i128
        };
        vec![ins[0].chunks(self.classes).map(first_max).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let x = Int(ins[0]);
        let ty = cx.ty(x).clone();
        if self.classes == 0 || ty.len % self.classes != 0 {
            return refuse("argmax", format!("{} values are no rows of {}", ty.len, self.classes));
        }
        let items = ty.len / self.classes;
        let width = signed_bits(ty.lo - ty.hi, ty.hi - ty.lo);
        let mut values = cx.extend(x, width)?;
        let index_bits = bits_for(self.classes as i128 - 1).max(1) + 1;
        // Class-major from here on, so that halves of a level are whole slices.
        let by_class = (0..self.classes).flat_map(|c| (0..items).map(move |i| (i * self.classes + c) as u32)).collect();
        values = cx.gather(values, by_class);
        let numbers = (0..self.classes as i128).flat_map(|c| std::iter::repeat_n(c, items)).collect();
        let mut indices = cx.public(index_bits, numbers);
        let mut count = self.classes;
        while count > 1 {
            let pairs = count / 2;
            let every_second = |from: usize| -> Vec<u32> {
                (0..pairs).flat_map(|p| (0..items).map(move |i| ((2 * p + from) * items + i) as u32)).collect()
            };
            let [(a, ia), (b, ib)] =
                [0, 1].map(|from| (cx.gather(values, every_second(from)), cx.gather(indices, every_second(from))));
            let difference = cx.sub(a, b);
            let difference = cx.retype(difference, ty.lo - ty.hi, ty.hi - ty.lo);
            let second = cx.negative(difference)?;
            let gain = cx.neg(difference);
            let gain = cx.mux(second, gain);
            let best = cx.add(a, gain);
            let best = cx.retype(best, ty.lo, ty.hi);
            let distance = cx.sub(ib, ia);
            let distance = cx.mux(second, distance);
            let place = cx.add(ia, distance);
            let place = cx.retype(place, 0, self.classes as i128 - 1);
            // An odd one out waits for the next level, behind the others.
            let rest = |cx: &mut Cx, all: Int, made: Int| {
                if count % 2 == 0 {
                    return made;
                }
                let last = cx.slice(all, (count - 1) * items, items);
                cx.concat(&[made, last])
            };
            values = rest(cx, values, best);
            indices = rest(cx, indices, place);
            count = count.div_ceil(2);
        }
        Ok(vec![indices.0])
    }
}
