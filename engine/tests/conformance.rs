//! One suite for all: every operation of the library on every OT backend computes what the ideal machine computes, which checks each
//! call against its definition, and costs what was planned.

use sirnn::plan::operations::{OPERATIONS, Params, inputs};
use sirnn::program::{Goal, Profile, Rates};
use sirnn::run::ideal::Machine;
use sirnn::run::pair;
use sirnn_backends::ot;

#[test]
fn every_operation_on_every_backend() {
    for name in ot::names() {
        let rates = Rates::of(ot::lookup(name).unwrap());
        for op in OPERATIONS {
            for goal in [Goal::Bytes, Goal::Rounds] {
                let n = if matches!(op.name, "matmul" | "conv" | "argmax" | "l2norm") { 3 } else { 67 };
                let params = Params { n, out_width: 32, ..Params::default() };
                let plan = op.plan_revealed(&params, Profile { goal, rates, ..Profile::default() }).unwrap();
                assert!(!plan.program.outputs.is_empty(), "{}: nothing to see", op.name);
                let inputs = inputs(&plan.program, 5);
                let want = Machine::new(&plan.program, 3, true).run(&inputs);
                let want = want.unwrap_or_else(|e| panic!("{}, {goal:?}: {e}", op.name));
                // The run itself fails if bytes or rounds differ from the plan.
                let [_, (got, _)] = pair::run(&plan, name, &inputs).unwrap();
                assert_eq!(got, want.into_iter().collect(), "{} with {name}, {goal:?}", op.name);
            }
        }
    }
}
