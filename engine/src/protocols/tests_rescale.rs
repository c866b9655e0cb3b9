//! Rescales against their definition on every kind of range, and the names of the roundings in files.

use super::basic::Reveal;
use super::rescale::Rescale;
use super::truncation::Rounding;
use crate::program::{Build, Cx, Function, Own, Profile, Reg};
use crate::run::{clear, ideal::Machine};
use proptest::prelude::*;
use sirnn_backends::inst::Party;
use std::collections::HashMap;

/// A number of `[lo, hi]` as a sharing of which P0 chooses its share at random. Operands: that, and what P1 has.
#[derive(Debug)]
struct Join {
    lo: i128,
    hi: i128,
    width: u32,
}

impl Function for Join {
    fn name(&self) -> &'static str {
        "join"
    }
    fn clear(&self, ins: &[&[i128]]) -> Vec<Vec<i128>> {
        let sum = |(a, b): (&i128, &i128)| self.lo + (a + b - self.lo).rem_euclid(1 << self.width);
        vec![ins[0].iter().zip(ins[1]).map(sum).collect()]
    }
    fn lower(&self, cx: &mut Cx, ins: &[Reg]) -> Build<Vec<Reg>> {
        let (a, b) = (cx.share(Own(ins[0])), cx.share(Own(ins[1])));
        let x = cx.add(a, b);
        Ok(vec![cx.retype(x, self.lo, self.hi).0])
    }
}

/// Runs a rescale on shares of values in `[lo, hi]`, in the ring it asks for and in a wider one.
fn rescale(r: Rescale, lo: i128, hi: i128, values: &[i128], randoms: &[u64]) {
    let ring = r.ring(lo, hi);
    for width in [ring, ring + 3] {
        if width > 64 || hi - lo >= 1 << width {
            // Only known modulo the ring: the products' tests have that.
            continue;
        }
        let mut cx = Cx::new(Profile::default());
        let range = (0, (1i128 << width) - 1);
        let a = cx.input("a", Party::P0, width, values.len(), range);
        let b = cx.input("b", Party::P1, width, values.len(), range);
        let x = cx.call(Join { lo, hi, width }, &[a.0, b.0]).unwrap()[0];
        let y = cx.call(r, &[x]).unwrap_or_else(|e| panic!("{r:?} on {lo}..={hi}: {e}"))[0];
        let y = cx.call(Reveal { to: Party::P1 }, &[y]).unwrap()[0];
        cx.output("y", Own(y));
        let program = cx.finish();
        let modulus = 1i128 << width;
        let a: Vec<i128> = randoms.iter().cycle().map(|&v| i128::from(v) % modulus).take(values.len()).collect();
        let b = values.iter().zip(&a).map(|(v, a)| (v - a).rem_euclid(modulus)).collect();
        let inputs = HashMap::from([("a".to_string(), a), ("b".to_string(), b)]);
        let want: Vec<i128> = values.iter().map(|&v| r.of(v)).collect();
        assert_eq!(clear::evaluate(&program, &inputs).unwrap()[0].1, want, "{r:?} on {lo}..={hi}");
        let got = Machine::new(&program, 5, true).run(&inputs).unwrap_or_else(|e| panic!("{r:?} on {lo}..={hi}: {e}"));
        assert_eq!(got[0].1, want, "{r:?} on {lo}..={hi}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rescales(
        floor in 0u32..8, shift in 0u32..8, left in 0u32..6, above in 1u32..12, wraps in any::<bool>(), then in 0u32..8,
        which in 0usize..3, width in 1u32..24, ends in any::<(i32, i32)>(), size in 1u32..24, positive in any::<bool>(),
        values in prop::collection::vec(any::<u32>(), 20), randoms in prop::collection::vec(any::<u64>(), 7),
    ) {
        let rounding = Rounding::ALL[which];
        let out = wraps.then_some(left + above);
        let r = Rescale { floor, shift, left, out, then, rounding, width };
        let ends = [ends.0 >> (32 - size), ends.1 >> (32 - size)].map(i128::from);
        let (mut lo, mut hi) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        if positive {
            (lo, hi) = (0, hi.abs());
        }
        let mut values: Vec<i128> = values.iter().map(|&v| lo + i128::from(v) % (hi - lo + 1)).collect();
        values.extend([lo, hi]);
        rescale(r, lo, hi, &values, &randoms);
    }
}

#[test]
fn a_rescale_is_what_the_format_says() {
    // wrap_8(R(floor(x / 2^5), 1) << 2), then R(., 3).
    for rounding in Rounding::ALL {
        let r = Rescale { floor: 5, shift: 1, left: 2, out: Some(8), then: 3, rounding, width: 16 };
        for x in -20_000i128..20_000 {
            let divide = |v: i128, by: i128| match rounding {
                Rounding::Floor => v.div_euclid(by),
                Rounding::TowardZero => v / by,
                Rounding::Nearest => (2 * v + by).div_euclid(2 * by),
            };
            let moved = divide(x.div_euclid(32), 2) * 4;
            let wrapped = (moved + 128).rem_euclid(256) - 128;
            assert_eq!(r.of(x), divide(wrapped, 8), "{x}");
        }
    }
}

#[test]
fn roundings_have_names_in_files() {
    for (rounding, name) in Rounding::ALL.into_iter().zip(["floor", "zero", "nearest"]) {
        let json = format!("\"{name}\"");
        assert_eq!(serde_json::to_string(&rounding).unwrap(), json);
        assert_eq!(serde_json::from_str::<Rounding>(&json).unwrap(), rounding);
    }
    assert_eq!(serde_json::from_str::<Rounding>("\"toward-zero\"").unwrap(), Rounding::TowardZero);
}
