//! The schedule: stacked layers run as wavefronts, directions share rounds, and a round is what a link makes of it.

use sirnn::plan::Plan;
use sirnn::program::{Build, Cx, Function, Int, Own, Profile, signed};
use sirnn::protocols::basic::{Add, Constant, Gather, Reveal, Share, Wrap};
use sirnn::protocols::product::ScaledProduct;
use sirnn::protocols::truncation::Shift;
use sirnn::run::{Inputs, pair};
use sirnn::run::{clear, ideal::Machine};
use sirnn_backends::inst::Party;

const STEPS: usize = 9;
const UNITS: usize = 4;

/// A cell with a product and a truncation on its path: `h' = wrap(floor(h x / 16) + x)`.
fn cell(cx: &mut Cx, h: Int, x: Int) -> Build<Int> {
    let product = cx.call_int(ScaledProduct(Shift::down(4, 16)), &[h.0, x.0])?;
    let product = cx.call_int(Wrap { width: 8 }, &[product.0])?;
    let sum = cx.call_int(Add { width: 8 }, &[product.0, x.0])?;
    cx.call_int(Wrap { width: 8 }, &[sum.0])
}

/// `layers` cells on top of each other, for the input as it is and, if `backward`, for the input reversed in time.
fn network(layers: usize, backward: bool) -> Plan {
    let mut cx = Cx::new(Profile::default());
    let x = cx.input("x", Party::P1, 8, STEPS * UNITS, signed(8));
    let x = cx.call_int(Share, &[x.0]).unwrap();
    let mut xs = vec![x];
    if backward {
        let map = (0..STEPS).rev().flat_map(|t| (0..UNITS).map(move |u| (t * UNITS + u) as u32)).collect();
        xs.push(cx.call_int(Gather { map }, &[x.0]).unwrap());
    }
    let start = Constant { values: vec![3; UNITS], width: 8, range: signed(8) };
    let start = cx.call_int(start, &[]).unwrap();
    let state = vec![(start, signed(8)); layers * xs.len()];
    let (last, _) = cx
        .scan(STEPS, &state, &xs, |cx, state, xs| {
            let mut next = Vec::new();
            for (direction, &x) in xs.iter().enumerate() {
                let mut below = x;
                for layer in 0..layers {
                    below = cell(cx, state[direction * layers + layer], below)?;
                    next.push(below);
                }
            }
            Ok((next, Vec::new()))
        })
        .unwrap();
    for (i, h) in last.iter().enumerate() {
        let revealed = cx.call(Reveal { to: Party::P1 }, &[h.0]).unwrap()[0];
        cx.output(&format!("h{i}"), Own(revealed));
    }
    let profile = cx.profile;
    Plan::new(cx.finish(), profile)
}

fn check(plan: &Plan) {
    let values = (0..(STEPS * UNITS) as i128).map(|i| (i * 97) % 256 - 128).collect();
    let inputs = Inputs::from([("x".to_string(), values)]);
    let want = clear::evaluate(&plan.program, &inputs).unwrap();
    assert_eq!(Machine::new(&plan.program, 3, true).run(&inputs).unwrap(), want);
    let [_, (got, report)] = pair::run(plan, "iknp", &inputs).unwrap();
    assert_eq!(got, want.into_iter().collect());
    assert_eq!(report.rounds, plan.rounds());
}

#[test]
fn stacked_layers_are_a_wavefront() {
    let (one, two, three) = (network(1, false), network(2, false), network(3, false));
    let (interval, length) = (one.blocks[1].interval, one.blocks[1].length);
    assert_eq!(one.blocks[1].rounds(STEPS), (STEPS - 1) * interval + length);
    for (layers, plan) in [(2, &two), (3, &three)] {
        let s = &plan.blocks[1];
        assert_eq!(s.interval, interval, "the layers of {layers} run in the same rounds");
        // T + L - 1 steps of one cell each.
        assert!(s.rounds(STEPS) <= (STEPS - 1) * interval + layers * length);
        assert!(s.rounds(STEPS) <= (STEPS + layers - 1) * length);
        check(plan);
    }
}

#[test]
fn directions_share_rounds() {
    let (one, both) = (network(1, false), network(1, true));
    assert_eq!(both.rounds(), one.rounds());
    check(&both);
}

/// Two registers that change places, one that stays, one that is overwritten from outside; an input collected as it is.
#[test]
fn state_may_be_handed_on_untouched() {
    let mut cx = Cx::new(Profile::default());
    let x = cx.input("x", Party::P1, 8, STEPS * UNITS, signed(8));
    let x = cx.call_int(Share, &[x.0]).unwrap();
    let constant = |cx: &mut Cx, v: i128| {
        cx.call_int(Constant { values: vec![v; UNITS], width: 8, range: signed(8) }, &[]).unwrap()
    };
    let state = [1, 2, 3, 4].map(|v| (constant(&mut cx, v), signed(8)));
    let outside = constant(&mut cx, 77);
    let (last, all) = cx
        .scan(STEPS, &state, &[x], |cx, s, xs| {
            let y = cell(cx, s[2], xs[0])?;
            Ok((vec![s[1], s[0], s[2], outside], vec![xs[0], s[0], s[3], y]))
        })
        .unwrap();
    for (i, v) in last.into_iter().chain(all).enumerate() {
        let revealed = cx.call(Reveal { to: Party::P1 }, &[v.0]).unwrap()[0];
        cx.output(&format!("v{i}"), Own(revealed));
    }
    let profile = cx.profile;
    check(&Plan::new(cx.finish(), profile));
}

#[test]
fn critical_path_explains_the_interval() {
    let plan = network(2, false);
    let path = plan.critical_path(1);
    assert_eq!(path.iter().map(|s| s.rounds).sum::<usize>(), plan.blocks[1].interval);
    let text = plan.explain();
    assert!(text.contains("critical path") && text.contains("scaled product"), "{text}");
    let dot = plan.dot();
    assert!(dot.starts_with("digraph") && dot.contains("color=red"));
}

#[test]
fn digests_tell_programs_apart() {
    assert_eq!(network(2, false).digest, network(2, false).digest);
    assert_ne!(network(2, false).digest, network(3, false).digest);
    let mut cx = Cx::new(Profile::default());
    let x = cx.input("x", Party::P1, 8, 1, signed(8));
    let x = cx.share(x);
    cx.call(Shift::down(1, 4), &[x.0]).unwrap();
    let a = Plan::new(cx.finish(), Profile::default());
    let mut cx = Cx::new(Profile::default());
    let x = cx.input("x", Party::P1, 8, 1, (0, 255));
    let x = cx.share(x);
    Shift::down(1, 4).lower(&mut cx, &[x.0]).unwrap();
    let b = Plan::new(cx.finish(), Profile::default());
    assert_ne!(a.digest, b.digest, "ranges are agreed");
}
