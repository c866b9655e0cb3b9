//! A peer that sends anything in the offline phase of `linear` from ring-LWE: an error or some share, soon.

use crate::show;
use crate::source::Source;
use sirnn_backends::Party;
use sirnn_backends::forms::linear_rlwe::{Public, Task, choose, cost, linear_rlwe_offline};
use sirnn_backends::inst::{Conv, LinearOp};
use sirnn_backends::transport::{Channel, Limits, MemChannel};
use sirnn_backends::vector::Vector;
use std::time::Duration;

/// Longest silence that a party puts up with.
const DEADLINE: Duration = Duration::from_millis(30);

/// The target.
///
/// # Panics
/// If the party does, or if it takes what it must not.
pub fn check(data: &[u8]) {
    let mut s = Source::new(data);
    let party = s.pick(&Party::BOTH);
    let (weight_bits, width) = (s.range(1, 16) as u8, s.range(1, 64) as u8);
    let mut small = |most: u32| 1 + s.word() as u32 % most;
    let conv = Conv {
        image: [small(6), small(6), small(3)],
        kernel: [small(3), small(3)],
        stride: [small(2), small(2)],
        padding: [small(3) - 1, small(3) - 1, small(3) - 1, small(3) - 1],
        groups: 1,
        filters: small(3),
    };
    let (inner, outer, rows) = (small(6), small(6), small(20) as usize - 1);
    let (op, n) = if s.one_in(2) && conv.problem().is_none() {
        (LinearOp::Conv(conv), rows % 3 * conv.image_len())
    } else {
        (LinearOp::MatMul { inner, outer }, rows * inner as usize)
    };
    let task = Task { op, weight_bits, width, n };
    let [Some(form)] = choose(&[task], &[f64::INFINITY], 1)[..] else { return };
    show!("{party:?} {task:?} {form:?} {:?}", cost(&task, form));
    let weights = Vector::from_u64s(weight_bits.into(), (0..op.weights()).map(|_| s.word()));
    let weights = (party == Party::P0).then_some(&weights);
    let (mut ours, mut theirs) = MemChannel::pair();
    ours.set_limits(Limits::within(DEADLINE));
    // All that would be read, of bytes that repeat; most of the time residues that are below their primes.
    let wanted = if party == Party::P0 { cost(&task, form).to_p0 + (1 << 17) } else { cost(&task, form).to_p1 };
    let pattern = s.rest();
    let mut sent: Vec<u8> =
        pattern.iter().copied().cycle().take(if pattern.is_empty() { 0 } else { wanted as usize }).collect();
    if s.checksum() % 4 > 0 {
        sent.iter_mut().for_each(|b| *b &= 0x7f);
    }
    if s.checksum() % 5 == 0 {
        sent.truncate(s.checksum() as usize % (sent.len() + 1));
    }
    theirs.send(&sent).expect("the other end is open");
    let public = Public::new(&[1; 16], &[2; 16]);
    match linear_rlwe_offline(party, &public, &[(task, form)], &[weights], &mut None, &mut ours) {
        Ok(shares) => {
            assert_eq!(shares[0].share.len(), op.output_len(n));
            assert!(shares[0].share.to_u64s().iter().all(|x| width == 64 || x >> width == 0));
        }
        Err(e) => show!("{e}"),
    }
}
