//! What a program computes, by every machine there is.

use crate::show;
use sirnn::plan::Plan;
use sirnn::program::{Profile, Program};
use sirnn::run::pair;
use sirnn::run::{self, Inputs, PartyRun, RunError};
use sirnn::run::{clear, ideal::Machine};
use sirnn_backends::dealer::InsecureDealer;
use sirnn_backends::forms::linear_rlwe::Public;
use sirnn_backends::inst::Party;
use sirnn_backends::ot::streams::totals;
use sirnn_backends::transport::{Channel, MemChannel, Traffic};
use sirnn_kernels::aes::Prg;
use std::collections::BTreeMap;

/// A program and its operands.
#[derive(Debug)]
pub struct Case {
    /// What is computed.
    pub program: Program,
    /// How its forms were chosen.
    pub profile: Profile,
    /// Both parties' values.
    pub inputs: Inputs,
    /// The flavour of oblivious transfer to run it with, if any.
    pub backend: Option<&'static str>,
}

/// What one party got.
pub type Outputs = BTreeMap<String, Vec<i128>>;

/// Checks a program whose functions have definitions.
///
/// # Panics
/// If two machines disagree, or a run does not cost what was planned.
pub fn defined(case: Case) {
    let want = clear::evaluate(&case.program, &case.inputs).expect("inputs are as declared");
    let got = Machine::new(&case.program, 1, true).run(&case.inputs);
    let got = got.unwrap_or_else(|e| panic!("the ideal machine differs from the definition: {e}"));
    assert_eq!(got, want, "the ideal machine differs from cleartext");
    real(case, want);
}

/// Runs a program every call of which is checked against its definition, by every machine; returns what it computes.
///
/// # Panics
/// As [`defined`].
pub fn checked(case: Case) -> Outputs {
    let got = Machine::new(&case.program, 1, true).run(&case.inputs);
    let got = got.unwrap_or_else(|e| panic!("the ideal machine differs from a definition: {e}"));
    real(case, got.clone());
    got.into_iter().collect()
}

/// Checks a program of instructions.
///
/// # Panics
/// As [`defined`].
pub fn undefined(case: Case) {
    let want = Machine::new(&case.program, 1, false).run(&case.inputs).expect("inputs are as declared");
    let again = Machine::new(&case.program, 2, false).run(&case.inputs).expect("inputs are as declared");
    assert_eq!(want, again, "a result depends on how values are shared");
    real(case, want);
}

fn real(case: Case, want: Vec<(String, Vec<i128>)>) {
    let Case { program, profile, inputs, backend } = case;
    let plan = Plan::new(program, profile);
    show!("{} nodes, {} rounds", plan.blocks.iter().map(|b| b.nodes.len()).sum::<usize>(), plan.rounds());
    let [a, b] = dealt(&plan, &inputs);
    let (a, b) = (a.expect("an honest peer"), b.expect("an honest peer"));
    assert_eq!(a.1, plan.online_bytes(), "the online phase sent other than planned");
    let got: Outputs = a.0.into_iter().chain(b.0).collect();
    let want: Outputs = want.into_iter().collect();
    assert_eq!(got, want, "forms differ from definitions");
    let _ = (plan.memory(), plan.explain(), plan.revealed());
    if let Some(name) = backend {
        show!("with {name}");
        let [(a, _), (b, _)] = pair::run(&plan, name, &inputs).expect("both parties are honest");
        let got: Outputs = a.into_iter().chain(b).collect();
        assert_eq!(got, want, "a run with {name} differs");
    }
}

/// Outputs of a party, and the online bytes from P0 and from P1 as it saw them.
type Dealt = Result<(Outputs, [u64; 2]), RunError>;

/// Runs the forms of both parties on dealt correlations: all but oblivious transfer, and much faster.
///
/// # Panics
/// If a party draws other correlations than planned.
pub fn dealt(plan: &Plan, inputs: &Inputs) -> [Dealt; 2] {
    let (a, b) = MemChannel::pair();
    dealt_over(plan, inputs, [Box::new(a), Box::new(b)])
}

/// The same over given channels, which need not be honest.
///
/// # Panics
/// As [`dealt`].
pub fn dealt_over(plan: &Plan, inputs: &Inputs, channels: [Box<dyn Channel>; 2]) -> [Dealt; 2] {
    let party = |party: Party, mut channel: Box<dyn Channel>| -> Dealt {
        let inputs = run::bind(plan, party, inputs)?;
        let mut correlations = InsecureDealer::new(party, 7);
        let mut prg = Prg::new(party as u128);
        let mut run = PartyRun {
            plan,
            party,
            correlations: &mut correlations,
            channel: &mut *channel,
            prg: &mut prg,
            trace: None,
        };
        let prepared = run.prepare(&inputs, &Public::new(&[7; 16], &[9; 16]), &mut None)?;
        let before = run.channel.traffic();
        let outputs = run.online(inputs, prepared, &mut |_| {})?;
        let Traffic { sent, received, .. } = channel.traffic();
        let mut bytes = [sent - before.sent, received - before.received];
        if party == Party::P1 {
            bytes.swap(0, 1);
        }
        let planned = totals(&plan.needs).into_iter().filter(|n| n.1 > 0);
        let drawn = correlations.drawn().into_iter().filter(|n| n.1 > 0).map(|(kind, n)| (kind, n as u64));
        assert!(planned.eq(drawn), "{party:?} draws other correlations than planned");
        Ok((outputs, bytes))
    };
    let [a, b] = channels;
    std::thread::scope(|s| {
        let first = s.spawn(|| party(Party::P0, a));
        let second = party(Party::P1, b);
        [first.join().expect("no panic"), second]
    })
}
