//! Argmax and max over an axis: a tournament of comparisons, all items of a batch at once.
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

/// The largest of every `classes` consecutive values, in the ring of the operand.
#[derive(Clone, Copy, Debug)]
pub struct Max {
    /// Values per item.
    pub classes: usize,
}

/// Items of rows of `classes` values, class-major: all items' first values, then all second.
fn by_class(cx: &mut Cx, name: &str, x: Int, classes: usize) -> Build<(Int, usize)> {
    let len = cx.len(x);
    if classes == 0 || !len.is_multiple_of(classes) {
        return refuse(name, format!("{len} values are no rows of {classes}"));
    }
    let items = len / classes;
    let map = (0..classes).flat_map(|c| (0..items).map(move |i| (i * classes + c) as u32)).collect();
    Ok((cx.gather(x, map), items))
}

/// The largest of `count` values of each of `items` items, class-major, and its index if that is wanted.
pub(super) fn tournament(
    cx: &mut Cx,
    name: &str,
    x: Int,
    mut count: usize,
    items: usize,
    index: bool,
) -> Build<(Int, Option<Int>)> {
    let ty = cx.ty(x).clone();
    let classes = count as i128;
    let width = signed_bits(ty.lo - ty.hi, ty.hi - ty.lo);
    if count > 1 && width > 64 {
        return refuse(name, format!("differences of {width} bits, 64 are supported"));
    }
    let mut values = if count > 1 { cx.extend(x, width)? } else { x };
    let index_bits = bits_for(classes - 1).max(1) + 1;
    // Halves of a level are whole slices.
    let mut indices = index.then(|| {
        let numbers = (0..classes).flat_map(|c| std::iter::repeat_n(c, items)).collect();
        cx.public(index_bits, numbers)
    });
    while count > 1 {
        let pairs = count / 2;
        let every_second = |from: usize| -> Vec<u32> {
            (0..pairs).flat_map(|p| (0..items).map(move |i| ((2 * p + from) * items + i) as u32)).collect()
        };
        // An odd one out waits for the next level, behind the others.
        let rest = |cx: &mut Cx, all: Int, made: Int| {
            if count.is_multiple_of(2) {
                return made;
            }
            let last = cx.slice(all, (count - 1) * items, items);
            cx.concat(&[made, last])
        };
        let [a, b] = [0, 1].map(|from| cx.gather(values, every_second(from)));
        let difference = cx.sub(a, b);
        let difference = cx.retype(difference, ty.lo - ty.hi, ty.hi - ty.lo);
        let second = cx.negative(difference)?;
        let gain = cx.neg(difference);
        let gain = cx.mux(second, gain);
        let best = cx.add(a, gain);
        let best = cx.retype(best, ty.lo, ty.hi);
        if let Some(all) = indices {
            let [a, b] = [0, 1].map(|from| cx.gather(all, every_second(from)));
            let distance = cx.sub(b, a);
            let distance = cx.mux(second, distance);
            let place = cx.add(a, distance);
            let place = cx.retype(place, 0, classes - 1);
            indices = Some(rest(cx, all, place));
        }
        values = rest(cx, values, best);
        count = count.div_ceil(2);
    }
    Ok((values, indices))
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
        let (values, items) = by_class(cx, self.name(), Int(ins[0]), self.classes)?;
        let index = tournament(cx, self.name(), values, self.classes, items, true)?.1;
        Ok(vec![index.expect("asked for").0])
    }
}

impl Function for Max {
    fn name(&self) -> &'static str {
        "max"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        vec![ins[0].chunks(self.classes).map(|row| *row.iter().max().expect("a row has values")).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let width = cx.width(ins[0]);
        let (values, items) = by_class(cx, self.name(), Int(ins[0]), self.classes)?;
        let best = tournament(cx, self.name(), values, self.classes, items, false)?.0;
        Ok(vec![cx.extend(best, width)?.0])
    }
}
