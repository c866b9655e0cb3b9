//! What every flavour sends when all its randomness comes from a fixed seed. The bytes on the wire are agreed between the parties: a
//! change on purpose renews the digests here, and after a release it raises the engine's `WIRE_VERSION`.

use super::{BackendSpec, lookup, names, test_session};
use crate::{
    Error, Party,
    inst::CorrelationKind,
    transport::{Channel, MemChannel, Traffic},
};
use sirnn_kernels::aes::Prg;
use std::{cell::RefCell, time::Duration};

thread_local! {
    static RANDOM: RefCell<Option<Prg>> = const { RefCell::new(None) };
}

/// Fills `bytes` from this thread's fixed seed, if it has one.
pub(crate) fn fixed(bytes: &mut [u8]) -> bool {
    RANDOM.with_borrow_mut(|random| match random {
        Some(prg) => {
            prg.fill_words(8, bytes);
            true
        }
        None => false,
    })
}

/// Hashes what is sent.
struct Tap(MemChannel, blake3::Hasher);

impl Channel for Tap {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.1.update(bytes);
        self.0.send(bytes)
    }
    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.0.recv(out)
    }
    fn flush(&mut self) -> Result<(), Error> {
        self.0.flush()
    }
    fn traffic(&self) -> Traffic {
        self.0.traffic()
    }
    fn set_deadline(&mut self, deadline: Duration) {
        self.0.set_deadline(deadline);
    }
}

/// The first bytes of the digest of what both parties send.
fn trace(spec: &dyn BackendSpec) -> String {
    let sender = Party::P0;
    let demand = [
        (CorrelationKind::Cot { sender }, 1000),
        (CorrelationKind::Cot { sender: Party::P1 }, 70_000),
        (CorrelationKind::OneOf { sender, bits: 4 }, 300),
        (CorrelationKind::OneOf { sender, bits: 8 }, 129),
        (CorrelationKind::OneOf { sender, bits: 10 }, 5),
        (CorrelationKind::Triple { cols: 1 }, 500),
        (CorrelationKind::Triple { cols: 2 }, 500),
    ];
    let run = |party: Party, channel: MemChannel| {
        RANDOM.set(Some(Prg::new(party as u128 + 1)));
        let mut tap = Tap(channel, blake3::Hasher::new());
        let mut backend = spec.connect(party, test_session(party).id, &demand, &mut tap).unwrap();
        for (kind, n) in demand {
            backend.generate(kind, n as usize, &mut tap).unwrap();
        }
        tap.flush().unwrap();
        RANDOM.set(None);
        tap.1.finalize()
    };
    let (a, b) = MemChannel::pair();
    let [a, b] = std::thread::scope(|s| {
        let peer = s.spawn(|| run(Party::P0, a));
        let mine = run(Party::P1, b);
        [peer.join().unwrap(), mine]
    });
    let both = [*a.as_bytes(), *b.as_bytes()].concat();
    blake3::hash(&both).to_hex()[..16].to_string()
}

#[test]
fn the_wire_is_as_agreed() {
    let expected = [
        ("iknp", "6e046b623219410a"),
        ("softspoken", "18ad22772970e4e5"),
        ("softspoken:2", "7c1bc9b24f60b103"),
        ("softspoken:8", "68807b96c736bdc3"),
        ("ferret", "c24a84cea391ee53"),
    ];
    let found: Vec<_> = names().map(|name| (name, trace(lookup(name).unwrap()))).collect();
    let found: Vec<_> = found.iter().map(|(name, digest)| (*name, digest.as_str())).collect();
    assert_eq!(found, expected);
}
