//! Both parties of a session in one process, over memory: for tests, benchmarks and fuzzing with a real backend.

use crate::plan::Plan;
use crate::plan::correlations::CORRELATION_BUDGET;
use crate::run::session::{Kept, Report, Session};
use crate::run::{Inputs, RunError};
use sirnn_backends::inst::Party;
use sirnn_backends::ot;
use sirnn_backends::random;
use sirnn_backends::transport::MemChannel;
use std::collections::BTreeMap;

/// What one party got and did.
pub type Outcome = (BTreeMap<String, Vec<i128>>, Report);

/// Runs a plan with the named backend. `inputs` holds both parties' values.
///
/// # Errors
/// Those of either party; P0's first.
pub fn run(plan: &Plan, backend: &str, inputs: &Inputs) -> Result<[Outcome; 2], RunError> {
    let spec = ot::lookup(backend)?;
    let (id, nonce) = (random::bytes()?, random::bytes()?);
    let (online, offline) = (MemChannel::pair(), MemChannel::pair());
    let party = |party, mut online: MemChannel, offline: MemChannel| {
        let (online, offline, budget) = (&mut online, Box::new(offline), CORRELATION_BUDGET);
        let kept = &mut Kept::default();
        let session = Session { plan, party, backend: spec, id, nonce, online, offline, kept, budget };
        session.run(inputs, &mut |_| {})
    };
    let (a, b) = std::thread::scope(|s| {
        let server = s.spawn(|| party(Party::P0, online.0, offline.0));
        let client = party(Party::P1, online.1, offline.1);
        (server.join().expect("the server's thread does not panic"), client)
    });
    Ok([a?, b?])
}
