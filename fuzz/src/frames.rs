//! Peers that send something else: bytes flipped, lost, repeated, or nothing at all.

use crate::oracle::{self, Case};
use crate::programs;
use crate::show;
use crate::source::Source;
use sirnn::plan::Plan;
use sirnn::plan::correlations::CORRELATION_BUDGET;
use sirnn::run::session::{Kept, Session};
use sirnn_backends::inst::Party;
use sirnn_backends::transport::{Channel, Limits, MemChannel, Traffic};
use sirnn_backends::{Error, ot};
use std::time::{Duration, Instant};

/// Longest silence that parties put up with.
const DEADLINE: Duration = Duration::from_millis(30);
/// By when both parties have to be done.
const PATIENCE: Duration = Duration::from_secs(5);

/// The target.
///
/// # Panics
/// If a party does, or takes too long.
pub fn check(data: &[u8]) {
    let mut s = Source::new(data);
    let faults: Vec<Fault> = (0..s.range(1, 4)).map(|_| Fault::any(&mut s)).collect();
    let (who, offline) = (s.pick(&Party::BOTH), s.checksum().is_multiple_of(64));
    let Some(Case { program, profile, inputs, .. }) = programs::case(&mut s) else { return };
    let plan = Plan::new(program, profile);
    show!("{who:?} sends {faults:?}, of {:?}", plan.online_bytes());
    let channels = || {
        let (a, b) = MemChannel::pair();
        let mut party = 0;
        [a, b].map(|inner| {
            let faults = if party == who.index() { faults.clone() } else { Vec::new() };
            party += 1;
            let mut channel = Tampered { inner, faults, sent: 0 };
            channel.set_limits(Limits::within(DEADLINE));
            Box::new(channel) as Box<dyn Channel>
        })
    };
    let start = Instant::now();
    if offline {
        generators(&plan, &inputs, channels());
    } else {
        // Errors and wrong results are what such a peer gets.
        drop(oracle::dealt_over(&plan, &inputs, channels()));
    }
    assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
}

/// Sessions whose generators of correlations talk over these channels.
fn generators(plan: &Plan, inputs: &sirnn::run::Inputs, offline: [Box<dyn Channel>; 2]) {
    let online = MemChannel::pair();
    let backend = ot::lookup("iknp").expect("there is IKNP");
    let run = |party, mut online: MemChannel, offline| {
        online.set_limits(Limits::within(DEADLINE));
        let (id, nonce, online, kept) = ([7; 16], [8; 16], &mut online, &mut Kept::default());
        let session = Session { plan, party, backend, id, nonce, online, offline, kept, budget: CORRELATION_BUDGET };
        drop(session.run(inputs, &mut |_| {}));
    };
    let [a, b] = offline;
    std::thread::scope(|s| {
        s.spawn(|| run(Party::P0, online.0, a));
        run(Party::P1, online.1, b);
    });
}

/// What happens to the bytes that a party sends, from its `at`-th byte on.
#[derive(Clone, Debug)]
enum Fault {
    Flip { at: u64, mask: u8 },
    Lose { at: u64, len: u64 },
    Repeat { at: u64, times: u8 },
    Stop { at: u64 },
}

impl Fault {
    fn any(s: &mut Source) -> Self {
        let most = s.pick(&[0x3f, 0x3ff, 0xffff]);
        let at = s.word() & most;
        match s.range(0, 5) {
            0..=2 => Fault::Flip { at, mask: s.range(1, 255) as u8 },
            3 => Fault::Lose { at, len: s.range(1, 40).into() },
            4 => Fault::Repeat { at, times: s.range(1, 40) as u8 },
            _ => Fault::Stop { at },
        }
    }
}

/// One end of a connection that does not send what it is told to.
struct Tampered {
    inner: MemChannel,
    faults: Vec<Fault>,
    sent: u64,
}

impl Channel for Tampered {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = Vec::with_capacity(bytes.len());
        for (position, &byte) in (self.sent..).zip(bytes) {
            let (mut byte, mut copies) = (byte, 1);
            for fault in &self.faults {
                match *fault {
                    Fault::Flip { at, mask } if at == position => byte ^= mask,
                    Fault::Lose { at, len } if (at..at + len).contains(&position) => copies = 0,
                    Fault::Repeat { at, times } if at == position => copies += usize::from(times),
                    Fault::Stop { at } if at <= position => copies = 0,
                    _ => {}
                }
            }
            out.extend(std::iter::repeat_n(byte, copies));
        }
        self.sent += bytes.len() as u64;
        self.inner.send(&out)
    }

    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.inner.recv(out)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.inner.flush()
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }

    fn set_limits(&mut self, limits: Limits) {
        self.inner.set_limits(limits);
    }
}
