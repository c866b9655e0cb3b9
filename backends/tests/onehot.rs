//! One-hot vectors from every flavour and from the dealer: one at the mask, the sign, uniform, at the predicted cost.

use sirnn_backends::{
    Party,
    correlation::Correlations,
    dealer::InsecureDealer,
    inst::CorrelationKind,
    onehot::{OneHots, Shape},
    ot::{
        self,
        cost::Cost,
        store,
        streams::{Mode, Streams, plan_cost},
    },
    transport::{Channel, MemChannel},
};

const SESSION: [u8; 16] = *b"session of tests";

fn both<T: Send>(f: impl Fn(Party, MemChannel) -> T + Sync) -> [T; 2] {
    let (a, b) = MemChannel::pair();
    std::thread::scope(|s| {
        let first = s.spawn(|| f(Party::P0, a));
        let second = f(Party::P1, b);
        [first.join().unwrap(), second]
    })
}

fn vector(tickets: &OneHots, i: usize) -> Vec<u128> {
    let blocks = tickets.shape.vector_blocks();
    let (mut scratch, mut out) = (vec![!0; blocks], vec![!0; blocks]);
    tickets.vector(i, &mut scratch, &mut out);
    out
}

/// Checks tickets against the definition; returns the masks.
fn check(shape: Shape, n: usize, [a, b]: [&OneHots; 2]) -> Vec<usize> {
    let size = 1usize << shape.bits;
    let mut places = Vec::new();
    let mut ones = 0;
    for i in 0..n {
        let place = usize::from(a.batch.masks[i].wrapping_add(b.batch.masks[i])) & (size - 1);
        let (x, y) = (vector(a, i), vector(b, i));
        for (k, (x, y)) in x.iter().zip(&y).enumerate() {
            let want = if place / 128 == k { 1 << (place % 128) } else { 0 };
            assert_eq!(x ^ y, want, "{shape:?} {i} {k}");
        }
        ones += x.iter().map(|x| x.count_ones() as usize).sum::<usize>();
        if shape.sign {
            let first = x[place / 128] >> (place % 128) & 1 == 1;
            assert_eq!(a.batch.signs.get(0, i) ^ b.batch.signs.get(0, i), !first, "{shape:?} {i}");
        } else {
            assert_eq!((a.batch.signs.planes, a.batch.sent.len(), a.batch.received.len()), (0, 0, 0));
        }
        places.push(place);
    }
    let bits = n * size;
    assert!((ones as f64 - bits as f64 / 2.0).abs() <= 3.0 * (bits as f64).sqrt() + 1.0, "{ones} of {bits}");
    if shape.sign {
        // Pads of the two parties fit together, for both directions and two columns.
        for (s, r) in [(a, b), (b, a)] {
            for column in 0..2 {
                let [mut zero, mut one, mut own] = [(); 3].map(|()| vec![0; n]);
                s.sign_pads_sent(0, column, &mut zero, &mut one);
                r.sign_pads_received(0, column, &mut own);
                for i in 0..n {
                    assert_eq!(own[i], if r.batch.signs.get(0, i) { one[i] } else { zero[i] });
                    assert_ne!(zero[i], one[i]);
                }
            }
        }
    }
    places
}

fn shapes() -> Vec<Shape> {
    let all = (2..=16).flat_map(|bits| {
        let tops: Vec<u8> = match bits {
            ..=5 => Shape::tops(bits).collect(),
            10 | 12 | 16 => vec![1, 3, 4, 5],
            _ => vec![2, 4],
        };
        tops.into_iter().map(move |top| Shape { bits, top: top.min(bits - 1), sign: top % 2 == bits % 2 })
    });
    let mut all: Vec<_> = all.collect();
    all.dedup();
    all
}

#[test]
fn every_flavour_makes_them() {
    let draws: Vec<(Shape, usize)> =
        shapes().into_iter().flat_map(|shape| [(shape, 1), (shape, 70), (shape, 3)]).collect();
    let needs: Vec<_> = draws.iter().map(|&(shape, n)| (CorrelationKind::OneHot(shape), n as u64)).collect();
    for name in ot::names() {
        let spec = ot::lookup(name).unwrap();
        let made = both(|party, mut channel| {
            let backend = spec.connect(party, SESSION, &needs, &mut channel).unwrap();
            let mut streams = Streams::prefilled(backend, &needs, &mut channel).unwrap();
            let tickets: Vec<_> = draws.iter().map(|&(shape, n)| streams.one_hots(shape, n).unwrap()).collect();
            (tickets, channel)
        });
        let [a, b] = [&made[0].1, &made[1].1].map(|c| (c.traffic(), c.depth()));
        let measured = Cost { bytes_from: [a.0.sent, b.0.sent], rounds: a.1.max(b.1) };
        assert_eq!(measured, plan_cost(spec, &needs, Mode::Prefilled), "{name}");
        for (k, &(shape, n)) in draws.iter().enumerate() {
            check(shape, n, [&made[0].0[k], &made[1].0[k]]);
        }
    }
}

#[test]
fn the_dealer_hands_out_the_same() {
    let mut dealers = Party::BOTH.map(|party| InsecureDealer::new(party, 5));
    for shape in shapes() {
        for n in [1, 40] {
            let [a, b] = dealers.each_mut().map(|d| d.one_hots(shape, n).unwrap());
            check(shape, n, [&a, &b]);
        }
    }
}

/// Chi-square over all places, and of a party's share of the mask.
#[test]
fn masks_are_uniform() {
    let shape = Shape { bits: 6, top: 3, sign: false };
    let n = 64 * 400;
    let needs = [(CorrelationKind::OneHot(shape), n as u64)];
    let [a, b] = both(|party, mut channel| {
        let spec = ot::lookup("softspoken").unwrap();
        let backend = spec.connect(party, SESSION, &needs, &mut channel).unwrap();
        let mut streams = Streams::prefilled(backend, &needs, &mut channel).unwrap();
        streams.one_hots(shape, n).unwrap()
    });
    let uniform = |places: &mut dyn Iterator<Item = usize>| {
        let mut counts = [0f64; 64];
        places.for_each(|p| counts[p] += 1.0);
        let chi: f64 = counts.iter().map(|c| (c - 400.0).powi(2) / 400.0).sum();
        // 63 degrees of freedom: beyond 140 once in 10^7.
        assert!(chi < 140.0, "{chi}");
    };
    uniform(&mut check(shape, n, [&a, &b]).into_iter());
    for t in [&a, &b] {
        uniform(&mut t.batch.masks.iter().map(|m| usize::from(*m)));
    }
}

#[test]
fn stores_keep_them() {
    let shapes = [(Shape { bits: 10, top: 4, sign: true }, 300), (Shape { bits: 14, top: 3, sign: false }, 40)];
    let needs: Vec<_> = shapes.iter().map(|&(shape, n)| (CorrelationKind::OneHot(shape), n as u64)).collect();
    let files = both(|party, mut channel| {
        let spec = ot::lookup("softspoken").unwrap();
        let backend = spec.connect(party, SESSION, &needs, &mut channel).unwrap();
        let mut streams = Streams::prefilled(backend, &needs, &mut channel).unwrap();
        let mut file = Vec::new();
        streams.store(&needs, &mut file).unwrap();
        assert_eq!(file.len() as u64, store::len(party, &needs, &[]));
        (party, file)
    });
    let [mut a, mut b] = files.map(|(party, file)| {
        let session = ot::Session { party, id: SESSION };
        Streams::stored(session, &needs, &[], std::io::Cursor::new(file), 1 << 20).unwrap()
    });
    for (shape, n) in shapes {
        for part in [1, n - 1] {
            let [a, b] = [&mut a, &mut b].map(|s| s.one_hots(shape, part).unwrap());
            check(shape, part, [&a, &b]);
        }
    }
}
