//! Every flavour of correlation generator, both parties, against the definitions of the correlations and against its
//! own predicted cost.

use sirnn_backends::{
    Error, Party,
    correlation::{Correlations, CotReceiver, CotSender, OneOfReceiver, OneOfSender, Triples},
    inst::CorrelationKind,
    ot::{
        self, Backend, Batch,
        cost::{Cost, Ledger},
        store,
        streams::{Mode, Streams, plan_cost},
    },
    transport::{Channel, MemChannel},
    vector::Bits,
};
use std::time::Duration;

const SESSION: [u8; 16] = *b"session of tests";

/// Runs the same function as both parties.
fn both<T: Send>(f: impl Fn(Party, MemChannel) -> T + Sync) -> [T; 2] {
    let (a, b) = MemChannel::pair();
    std::thread::scope(|s| {
        let first = s.spawn(|| f(Party::P0, a));
        let second = f(Party::P1, b);
        [first.join().unwrap(), second]
    })
}

fn connect(name: &str, party: Party, demand: &[(CorrelationKind, u64)], channel: &mut MemChannel) -> Box<dyn Backend> {
    ot::lookup(name).unwrap().connect(party, SESSION, demand, channel).unwrap()
}

/// What both channels measured.
fn measured(channels: [&MemChannel; 2]) -> Cost {
    let [a, b] = channels.map(|c| c.traffic());
    assert_eq!((a.sent, b.sent), (b.received, a.received));
    Cost { bytes_from: [a.sent, b.sent], rounds: channels[0].depth().max(channels[1].depth()) }
}

fn kinds() -> Vec<CorrelationKind> {
    let mut kinds: Vec<_> = [1, 2, 5, 130].map(|cols| CorrelationKind::Triple { cols }).into();
    for sender in Party::BOTH {
        kinds.push(CorrelationKind::Cot { sender });
        kinds.extend((1..=12).map(|bits| CorrelationKind::OneOf { sender, bits }));
    }
    kinds
}

/// All kinds in one session; sizes that are no multiples of anything.
#[test]
fn batches_satisfy_their_definitions() {
    let steps: Vec<(CorrelationKind, usize)> =
        kinds().into_iter().flat_map(|kind| [1, 129, 5000].map(|n| (kind, n))).collect();
    let demand: Vec<_> = steps.iter().map(|&(kind, n)| (kind, n as u64)).collect();
    for name in ot::names() {
        let [a, b] = both(|party, mut channel| {
            let mut backend = connect(name, party, &demand, &mut channel);
            let made: Vec<_> = steps
                .iter()
                .map(|&(kind, n)| {
                    let batch = backend.generate(kind, n, &mut channel).unwrap();
                    let offsets = match kind {
                        CorrelationKind::OneOf { sender, bits } if sender == party => backend.offsets(bits),
                        _ => Default::default(),
                    };
                    (batch, offsets)
                })
                .collect();
            (made, backend.delta(), channel)
        });
        let mut ledger = Ledger::default();
        let mut meter = ot::lookup(name).unwrap().meter(&demand);
        meter.setup(&mut ledger);
        for &(kind, n) in &steps {
            meter.generate(kind, n, &mut ledger);
        }
        assert_eq!(measured([&a.2, &b.2]), ledger.cost(), "{name}");
        for (&(kind, n), (x, y)) in steps.iter().zip(a.0.iter().zip(&b.0)) {
            match (&x.0, &y.0) {
                (Batch::CotSend(q), Batch::CotRecv(t, c)) => check_cot(n, q, *a.1, t, c),
                (Batch::CotRecv(t, c), Batch::CotSend(q)) => check_cot(n, q, *b.1, t, c),
                (Batch::OneOfSend(q), Batch::OneOfRecv(t, c)) => check_one_of(n, q, &x.1, t, c),
                (Batch::OneOfRecv(t, c), Batch::OneOfSend(q)) => check_one_of(n, q, &y.1, t, c),
                (Batch::Triples(x), Batch::Triples(y)) => check_triples(n, x, y),
                _ => panic!("{name} {kind:?}: the parties' batches do not fit together"),
            }
        }
    }
}

/// Long enough for what a source does rarely: Ferret starts a round about every 800,000 COTs.
#[test]
fn sources_go_on() {
    let kind = CorrelationKind::Cot { sender: Party::P1 };
    for name in ot::names() {
        let n = if name == "ferret" { 1_800_000 } else { 200_000 };
        let chunks = [1, 70_000, n - 70_001];
        let [a, b] = both(|party, mut channel| {
            let mut backend = connect(name, party, &[(kind, n as u64)], &mut channel);
            let batches = chunks.map(|n| backend.generate(kind, n, &mut channel).unwrap());
            (batches, backend.delta(), channel)
        });
        let mut meter = ot::lookup(name).unwrap().meter(&[(kind, n as u64)]);
        let mut ledger = Ledger::default();
        meter.setup(&mut ledger);
        for n in chunks {
            meter.generate(kind, n, &mut ledger);
        }
        assert_eq!(measured([&a.2, &b.2]), ledger.cost(), "{name}");
        for (n, batches) in chunks.iter().zip(a.0.iter().zip(&b.0)) {
            let (Batch::CotRecv(t, c), Batch::CotSend(q)) = batches else { panic!("{name}: wrong roles") };
            check_cot(*n, q, *b.1, t, c);
        }
    }
}

/// Within six standard deviations of half.
fn assert_balanced(ones: usize, n: usize) {
    let deviation = (ones as f64 - n as f64 / 2.0).abs();
    assert!(deviation <= 3.0 * (n as f64).sqrt() + 1.0, "{ones} ones in {n} bits");
}

fn check_cot(n: usize, q: &[u128], delta: u128, t: &[u128], c: &Bits) {
    assert_eq!((q.len(), t.len(), c.len, c.planes, c.words.len()), (n, n, n, 1, n.div_ceil(64)));
    assert!(delta != 0);
    for i in 0..n {
        assert_eq!(t[i], q[i] ^ if c.get(0, i) { delta } else { 0 }, "{i}");
    }
    assert_balanced((0..n).filter(|&i| c.get(0, i)).count(), n);
    // Bit 0 may be the choice's.
    for bit in 1..128 {
        assert_balanced(q.iter().filter(|&&q| q >> bit & 1 == 1).count(), n);
    }
    assert_clear(c);
}

fn check_one_of(n: usize, q: &[u128], offsets: &[u128], t: &[u128], choices: &[u16]) {
    assert_eq!(choices.len(), n);
    let mut counts = vec![0; offsets.len()];
    for (i, &c) in choices.iter().enumerate() {
        assert_eq!(t[i], q[i] ^ offsets[usize::from(c)]);
        counts[usize::from(c)] += 1;
    }
    for bit in 0..offsets.len().trailing_zeros() {
        assert_balanced(counts.iter().enumerate().filter(|(j, _)| j >> bit & 1 == 1).map(|(_, c)| c).sum(), n);
    }
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), offsets.len(), "offsets are different from each other");
    assert_eq!(offsets[0], 0);
}

fn assert_clear(bits: &Bits) {
    let mut cleared = bits.clone();
    cleared.clear_tail();
    assert_eq!(&cleared, bits);
}

fn check_triples(n: usize, x: &Triples, y: &Triples) {
    for t in [x, y] {
        assert_eq!((t.a.len, t.b.len, t.c.len), (n, n, n));
        assert_eq!((t.a.planes, t.b.planes), (1, t.c.planes));
        for bits in [&t.a, &t.b, &t.c] {
            assert_clear(bits);
            for p in 0..bits.planes {
                assert_balanced((0..n).filter(|&i| bits.get(p, i)).count(), n);
            }
        }
    }
    for p in 0..x.b.planes {
        for i in 0..n {
            let open = |get: fn(&Triples) -> &Bits, p| get(x).get(p, i) ^ get(y).get(p, i);
            assert_eq!(open(|t| &t.c, p), open(|t| &t.a, 0) & open(|t| &t.b, p), "column {p} of {i}");
        }
    }
}

/// What a party drew from its streams.
enum Drawn {
    CotSend(CotSender),
    CotRecv(CotReceiver),
    OneOfSend(OneOfSender),
    OneOfRecv(OneOfReceiver),
    Triples(Triples),
}

fn draw(streams: &mut Streams, kind: CorrelationKind, n: usize) -> Result<Drawn, Error> {
    let me = streams.party();
    Ok(match kind {
        CorrelationKind::Cot { sender } if sender == me => Drawn::CotSend(streams.cot_send(n)?),
        CorrelationKind::Cot { .. } => Drawn::CotRecv(streams.cot_recv(n)?),
        CorrelationKind::OneOf { sender, bits } if sender == me => Drawn::OneOfSend(streams.one_of_send(bits, n)?),
        CorrelationKind::OneOf { bits, .. } => Drawn::OneOfRecv(streams.one_of_recv(bits, n)?),
        CorrelationKind::Triple { cols } => Drawn::Triples(streams.triples(cols, n)?),
        CorrelationKind::OneHot(_) => unreachable!("one-hot vectors have tests of their own"),
    })
}

/// Checks a draw, down to the pads; returns its stream position.
fn check(n: usize, a: &Drawn, b: &Drawn) -> u64 {
    match (a, b) {
        (Drawn::CotSend(s), Drawn::CotRecv(r)) | (Drawn::CotRecv(r), Drawn::CotSend(s)) => {
            check_cot(n, &s.rows, *s.delta, &r.rows, &r.choices);
            let [mut zero, mut one, mut mine] = [(); 3].map(|()| vec![0; n]);
            s.pads(0, &mut zero, &mut one);
            r.pads(0, &mut mine);
            for i in 0..n {
                assert_eq!(mine[i], if r.choices.get(0, i) { one[i] } else { zero[i] });
                assert_ne!(zero[i], one[i]);
            }
            assert_eq!(s.position, r.position);
            s.position
        }
        (Drawn::OneOfSend(s), Drawn::OneOfRecv(r)) | (Drawn::OneOfRecv(r), Drawn::OneOfSend(s)) => {
            check_one_of(n, &s.rows, &s.offsets, &r.rows, &r.choices);
            let mut all = vec![0; n << s.bits];
            let mut mine = vec![0; n];
            s.pads(0, &mut all);
            r.pads(0, &mut mine);
            for i in 0..n {
                let pads = &all[i << s.bits..(i + 1) << s.bits];
                for (j, pad) in pads.iter().enumerate() {
                    assert_eq!(*pad == mine[i], j == usize::from(r.choices[i]));
                }
            }
            assert_eq!(s.position, r.position);
            s.position
        }
        (Drawn::Triples(x), Drawn::Triples(y)) => {
            check_triples(n, x, y);
            0
        }
        _ => panic!("the parties' draws do not fit together"),
    }
}

fn streams(name: &str, mode: Mode, needs: &[(CorrelationKind, u64)], party: Party, mut channel: MemChannel) -> Streams {
    let backend = connect(name, party, needs, &mut channel);
    match mode {
        Mode::Prefilled => Streams::prefilled(backend, needs, &mut channel).unwrap(),
        Mode::Live => Streams::live(backend, needs, Box::new(channel), 0).unwrap(),
    }
}

#[test]
fn draws_cross_chunks_in_both_modes() {
    let cot = |sender| CorrelationKind::Cot { sender };
    let one_of = |sender, bits| CorrelationKind::OneOf { sender, bits };
    let needs: Vec<(CorrelationKind, u64)> = vec![
        (cot(Party::P0), 70_000),
        (one_of(Party::P1, 4), 31),
        (CorrelationKind::Triple { cols: 1 }, 300_001),
        (one_of(Party::P0, 9), 1),
        (cot(Party::P0), 65_536),
        (CorrelationKind::Triple { cols: 2 }, 0),
        (cot(Party::P1), 1),
        (one_of(Party::P1, 4), 40_000),
        (CorrelationKind::Triple { cols: 3 }, 77),
        (cot(Party::P0), 131_073),
        (cot(Party::P1), 64),
    ];
    for name in ot::names() {
        for mode in [Mode::Prefilled, Mode::Live] {
            let [a, b] = both(|party, channel| {
                let mut streams = streams(name, mode, &needs, party, channel);
                let drawn: Vec<_> =
                    needs.iter().map(|&(kind, n)| draw(&mut streams, kind, n as usize).unwrap()).collect();
                assert_eq!(streams.left(), 0);
                for (kind, _) in &needs {
                    assert!(matches!(draw(&mut streams, *kind, 1), Err(Error::Exhausted(_))));
                    draw(&mut streams, *kind, 0).unwrap();
                }
                (drawn, streams.report())
            });
            let mut positions = std::collections::BTreeMap::new();
            for ((kind, n), (x, y)) in needs.iter().zip(a.0.iter().zip(&b.0)) {
                let position = check(*n as usize, x, y);
                if !matches!(kind, CorrelationKind::Triple { .. }) {
                    let expected = positions.entry(*kind).or_insert(0);
                    assert_eq!(position, *expected);
                    *expected += n;
                }
            }
            assert_eq!(a.1.generated, b.1.generated);
            assert_eq!(a.1.generated.iter().map(|(_, n)| n).sum::<u64>(), needs.iter().map(|(_, n)| n).sum());
            assert_eq!((a.1.traffic.sent, b.1.traffic.sent), (b.1.traffic.received, a.1.traffic.received));
        }
    }
}

/// Kinds with draws that are no multiples of chunks; the first one is drawn before the rest is stored.
const STORED: [(CorrelationKind, u64); 7] = [
    (CorrelationKind::Cot { sender: Party::P1 }, 70_001),
    (CorrelationKind::OneOf { sender: Party::P1, bits: 4 }, 33_000),
    (CorrelationKind::Triple { cols: 1 }, 300_001),
    (CorrelationKind::OneOf { sender: Party::P0, bits: 9 }, 3),
    (CorrelationKind::Cot { sender: Party::P0 }, 65_600),
    (CorrelationKind::Cot { sender: Party::P1 }, 70_000),
    (CorrelationKind::Triple { cols: 3 }, 77),
];

/// What each party stores when the first needs were drawn, and their draws.
fn stored(name: &str) -> [(Drawn, Vec<u8>); 2] {
    both(|party, channel| {
        let mut streams = streams(name, Mode::Live, &STORED, party, channel);
        let first = draw(&mut streams, STORED[0].0, STORED[0].1 as usize).unwrap();
        let mut file = Vec::new();
        streams.store(&STORED, &mut file).unwrap();
        assert_eq!(streams.left(), 0);
        let len = store::len(party, &STORED, &STORED[..1]);
        assert_eq!(file.len() as u64, len, "{name}");
        (first, file)
    })
}

fn reopened(party: Party, file: Vec<u8>) -> Result<Streams, Error> {
    let session = ot::Session { party, id: SESSION };
    Streams::stored(session, &STORED, &STORED[..1], std::io::Cursor::new(file), 0)
}

#[test]
fn what_was_stored_is_what_is_read() {
    for name in ot::names() {
        let [(a, x), (b, y)] = stored(name);
        assert_eq!(check(STORED[0].1 as usize, &a, &b), 0);
        let [a, b] = [(Party::P0, x), (Party::P1, y)].map(|(party, file)| {
            let mut streams = reopened(party, file).unwrap();
            let drawn: Vec<_> =
                STORED[1..].iter().map(|&(kind, n)| draw(&mut streams, kind, n as usize).unwrap()).collect();
            assert_eq!(streams.left(), 0);
            assert!(matches!(draw(&mut streams, STORED[0].0, 1), Err(Error::Exhausted(_))));
            drawn
        });
        let positions: Vec<u64> =
            STORED[1..].iter().zip(a.iter().zip(&b)).map(|((_, n), (x, y))| check(*n as usize, x, y)).collect();
        assert_eq!(positions, [0, 0, 0, 0, 70_001, 0]);
    }
}

#[test]
fn stores_that_are_cut_or_mixed_up_are_errors() {
    // Of the first record that is touched, and of all behind it.
    let all = |mut streams: Streams| {
        STORED[1..].iter().try_for_each(|&(kind, n)| draw(&mut streams, kind, n as usize).map(drop))
    };
    for name in ["iknp", "ferret"] {
        for (party, (_, file)) in Party::BOTH.into_iter().zip(stored(name)) {
            assert!(all(reopened(party, file.clone()).unwrap()).is_ok());
            let len = file.len();
            for cut in [0, 15, 16, 17, len / 3, len / 2, len - 1] {
                let result = reopened(party, file[..cut].to_vec()).and_then(all);
                assert!(matches!(&result, Err(Error::Store(e)) if e.contains("too early")), "{cut}: {result:?}");
            }
            // Heads of records: another kind, number, position. The first record follows the offsets, the others are found by their heads.
            let first =
                (0..len - 16).find(|&at| file[at..at + 2] == [1, 0] && file[at + 4..at + 8] == 61_071u32.to_le_bytes());
            let at = first.expect("what is left of the chunk that the first draw began");
            for byte in at..at + 16 {
                let mut changed = file.clone();
                changed[byte] ^= 1;
                let result = reopened(party, changed).and_then(all);
                assert!(matches!(&result, Err(Error::Store(e)) if e.contains("no record of")), "{byte}: {result:?}");
            }
            // The other party's. Those of another backend are of the same form: the file around them tells.
            let peer = reopened(party.other(), file).and_then(all);
            assert!(matches!(peer, Err(Error::Store(_))));
        }
    }
}

#[test]
fn predicted_cost_is_measured() {
    let mut needs = Vec::new();
    for (i, kind) in kinds().into_iter().enumerate() {
        needs.extend([(kind, 1), (kind, 1000 * (i as u64 % 40)), (CorrelationKind::Cot { sender: Party::P1 }, 50_000)]);
    }
    for name in ot::names() {
        for mode in [Mode::Prefilled, Mode::Live] {
            for needs in [&needs[..], &needs[..1], &[(CorrelationKind::Triple { cols: 1 }, 0)]] {
                let [a, b] = both(|party, mut channel| {
                    let backend = connect(name, party, needs, &mut channel);
                    // The live order over a channel that stays in our hands: what the thread would do.
                    let streams = match mode {
                        Mode::Prefilled => Streams::prefilled(backend, needs, &mut channel).unwrap(),
                        Mode::Live => return live_cost(backend, needs, channel),
                    };
                    drop(streams);
                    (channel.traffic().sent, channel.depth())
                });
                let cost = Cost { bytes_from: [a.0, b.0], rounds: a.1.max(b.1) };
                assert_eq!(cost, plan_cost(ot::lookup(name).unwrap(), needs, mode), "{name} {mode:?}");
            }
        }
    }
}

/// Lends a channel to the generator's thread and reads its counters when the thread is done.
fn live_cost(backend: Box<dyn Backend>, needs: &[(CorrelationKind, u64)], channel: MemChannel) -> (u64, u32) {
    struct Lent(Option<MemChannel>, std::sync::mpsc::Sender<(u64, u32)>);
    impl Channel for Lent {
        fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
            self.0.as_mut().unwrap().send(bytes)
        }
        fn recv(&mut self, out: &mut [u8]) -> Result<(), Error> {
            self.0.as_mut().unwrap().recv(out)
        }
        fn flush(&mut self) -> Result<(), Error> {
            Ok(())
        }
        fn traffic(&self) -> sirnn_backends::transport::Traffic {
            self.0.as_ref().unwrap().traffic()
        }
        fn set_deadline(&mut self, deadline: Duration) {
            self.0.as_mut().unwrap().set_deadline(deadline);
        }
    }
    impl Drop for Lent {
        fn drop(&mut self) {
            let channel = self.0.take().unwrap();
            let _ = self.1.send((channel.traffic().sent, channel.depth()));
        }
    }
    let (result, done) = std::sync::mpsc::channel();
    let streams = Streams::live(backend, needs, Box::new(Lent(Some(channel), result)), usize::MAX).unwrap();
    let cost = done.recv().unwrap();
    drop(streams);
    cost
}

#[test]
fn a_dead_peer_is_an_error_where_correlations_are_drawn() {
    let needs = [(CorrelationKind::Cot { sender: Party::P0 }, 1 << 22), (CorrelationKind::Triple { cols: 1 }, 1 << 20)];
    for name in ot::names() {
        both(|party, channel| {
            let mut streams = streams(name, Mode::Live, &needs, party, channel);
            if party == Party::P1 {
                return;
            }
            let mut failed = None;
            for _ in 0..1 << 7 {
                match streams.cot_send(1 << 15) {
                    Ok(_) => assert!(failed.is_none()),
                    Err(e) => failed = Some(e),
                }
            }
            assert!(matches!(failed, Some(Error::Closed(_))), "{failed:?}");
        });
    }
}

#[test]
fn silent_garbled_and_short_peers_are_errors() {
    let demand: Vec<_> = kinds().into_iter().map(|kind| (kind, 1000)).collect();
    for name in ot::names() {
        let spec = ot::lookup(name).unwrap();
        for party in Party::BOTH {
            let attempt = |garbage: &[u8], die: bool| {
                let (mut a, mut b) = MemChannel::pair();
                a.set_deadline(Duration::from_millis(50));
                b.send(garbage).unwrap();
                let kept = (!die).then_some(b);
                let result = spec.connect(party, SESSION, &demand, &mut a);
                drop(kept);
                result.err()
            };
            assert!(matches!(attempt(&[], true), Some(Error::Closed(_))));
            assert!(matches!(attempt(&[], false), Some(Error::Deadline(_))));
            assert!(matches!(attempt(&[0; 31], true), Some(Error::Closed(_))));
            assert!(matches!(attempt(&[0x5a; 4096], false), Some(Error::Protocol(_))));
        }
        // After an honest set-up, bytes are as good as any others to the protocol; missing ones are not.
        let sender = Party::P1;
        for kind in [
            CorrelationKind::Cot { sender },
            CorrelationKind::OneOf { sender, bits: 4 },
            CorrelationKind::Triple { cols: 1 },
        ] {
            both(|party, mut channel| {
                let mut backend = connect(name, party, &[(kind, 1000)], &mut channel);
                channel.set_deadline(Duration::from_millis(100));
                if party == Party::P0 {
                    let _ = channel.send(&[0xa5; 1000]);
                    return;
                }
                match backend.generate(kind, 1000, &mut channel) {
                    Ok(_) | Err(Error::Closed(_) | Error::Deadline(_) | Error::Protocol(_)) => {}
                    Err(e) => panic!("{e}"),
                }
            });
        }
    }
}

#[test]
fn names_are_looked_up() {
    for name in ot::names() {
        assert_eq!(ot::lookup(name).unwrap().name(), name);
    }
    let Err(e) = ot::lookup("silver") else { panic!("insecure and yet there") };
    assert!(e.to_string().contains("iknp"), "{e}");
}

#[test]
fn iknp_bytes_per_correlation() {
    let iknp = ot::lookup("iknp").unwrap();
    let of = |kind| iknp.bytes_per(kind);
    assert_eq!(of(CorrelationKind::Cot { sender: Party::P0 }), 127.0 / 8.0);
    assert_eq!(of(CorrelationKind::OneOf { sender: Party::P0, bits: 4 }), 236.0 / 8.0);
    assert_eq!(of(CorrelationKind::Triple { cols: 1 }), 133.0 / 8.0);
    assert_eq!(of(CorrelationKind::Triple { cols: 2 }), 254.0 / 8.0);
    let setup = iknp.setup_cost(&[(CorrelationKind::Cot { sender: Party::P0 }, 5)]);
    assert_eq!(setup, Cost { bytes_from: [128 * 32, 32], rounds: 2 });
    assert_eq!(iknp.setup_cost(&[(CorrelationKind::Triple { cols: 1 }, 0)]), Cost::default());
}
