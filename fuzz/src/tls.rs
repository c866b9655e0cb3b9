//! TLS around our frames, with somebody on the way who changes records, and with peers who are no peers at all.
//!
//! Real sockets on this machine. Whatever is done to the sealed bytes: what a party reads is what the other sent, up to some
//! place, and then there is an error, soon. What the handshake of the service makes of messages that come in any pieces inside TLS is the other half.

use crate::handshake;
use crate::show;
use crate::source::Source;
use sirnn::service::identity::{Identity, Settings, new_certificate};
use sirnn_backends::Error;
use sirnn_backends::inst::Party;
use sirnn_backends::transport::{Channel, Limits, TcpChannel};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Longest silence that either side puts up with.
const DEADLINE: Duration = Duration::from_millis(60);
/// By when everything has to be over.
const PATIENCE: Duration = Duration::from_secs(10);

/// The target.
///
/// # Panics
/// If bytes arrive that nobody sent, or a side panics or does not give up.
pub fn check(data: &[u8]) {
    let s = &mut Source::new(data);
    let start = Instant::now();
    match s.range(0, 3) {
        0 => stranger(s),
        1 => handshake::sealed_to_server(s, identity(Party::P0), identity(Party::P1)),
        _ => changed(s),
    }
    assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
}

/// Two parties that accept each other.
fn identity(party: Party) -> Identity {
    static BOTH: OnceLock<[Identity; 2]> = OnceLock::new();
    let both = BOTH.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("sirnn-fuzz-tls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for certificates");
        let made = ["localhost", "client"].map(|name| {
            let from = SystemTime::now() - Duration::from_secs(60);
            let new = new_certificate(name, from, Duration::from_secs(30 * 86_400)).expect("a certificate");
            let paths = ["pem", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
            std::fs::write(&paths[0], new.certificate).expect("the folder is there");
            std::fs::write(&paths[1], new.key).expect("the folder is there");
            (paths, new.fingerprint)
        });
        let both = [0, 1].map(|i| {
            let [certificate, key] = made[i].0.clone();
            let fingerprints = vec![made[1 - i].1];
            let settings =
                Settings { certificate, key, fingerprints, fingerprint_file: None, authority: None, name: None };
            Identity::load(&settings).expect("it was made for this")
        });
        std::fs::remove_dir_all(&folder).expect("it is ours");
        both
    });
    both[party.index()].clone()
}

fn sockets() -> [TcpStream; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let a = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (b, _) = listener.accept().expect("somebody connected");
    [a, b]
}

/// One end with TLS.
fn secured(party: Party, stream: TcpStream, patience: Duration) -> Result<TcpChannel, Error> {
    let mut channel = TcpChannel::new(stream)?;
    channel.set_limits(Limits::within(patience));
    let identity = identity(party);
    let connection = if party == Party::P0 { identity.accept() } else { identity.connect("localhost") };
    channel.secure(connection.expect("the name is one"))?;
    Ok(channel)
}

/// Bytes that are no TLS, or look like it.
fn stranger(s: &mut Source) {
    let party = if s.one_in(2) { Party::P1 } else { Party::P0 };
    let mut bytes = Vec::new();
    while !s.is_empty() {
        // A record's head now and then: type, version, length.
        if !s.one_in(3) {
            let kind = s.pick(&[22u8, 20, 21, 23, 24, 0]);
            let length = s.pick(&[1u16, 0, 4, 64, 512, 16_384, 16_640, 16_641, u16::MAX]);
            bytes.extend([kind, 3, s.pick(&[3, 1, 4])]);
            bytes.extend(length.to_be_bytes());
            // A handshake message's: type, length.
            if kind == 22 {
                bytes.extend([
                    s.pick(&[1u8, 2, 8, 11, 15, 20, 24]),
                    s.pick(&[0, 0, 1, 255]),
                    s.pick(&[0, 1, 255]),
                    s.pick(&[4, 0, 255]),
                ]);
            }
        }
        let n = s.below(40);
        bytes.extend((0..n).map(|_| s.word() as u8));
        if n == 0 {
            bytes.extend(s.rest());
        }
    }
    let [ours, mut theirs] = sockets();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = theirs.write_all(&bytes).and_then(|()| theirs.shutdown(Shutdown::Write));
            let _ = theirs.set_read_timeout(Some(PATIENCE));
            let _ = std::io::copy(&mut theirs, &mut std::io::sink());
        });
        let e = secured(party, ours, DEADLINE).expect_err("nobody proved who it is");
        show!("{e}");
    });
}

/// What is done to the bytes of a direction, from the `at`-th on.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Flip(u8),
    Lose(usize),
    Repeat(usize),
    Insert(usize),
    End,
    /// The record that begins there, or later, comes after the next one.
    Swap,
    /// It comes twice.
    Twice,
}

/// An honest conversation through somebody who changes sealed bytes.
fn changed(s: &mut Source) {
    let faults: [Option<(u64, Fault)>; 2] = std::array::from_fn(|_| {
        let n = 1 + s.below(64);
        let fault = match s.range(0, 7) {
            0 => return None,
            1 => Fault::Flip(1 << s.range(0, 7)),
            2 => Fault::Lose(n),
            3 => Fault::Repeat(n),
            4 => Fault::Insert(n),
            5 => Fault::End,
            6 => Fault::Swap,
            _ => Fault::Twice,
        };
        // The handshake is some 1.3 kB each way.
        Some((u64::from(s.range(0, 4000)), fault))
    });
    let sizes: Vec<usize> = (0..1 + s.below(6)).map(|_| s.pick(&[1, 8, 100, 0, 4096, 20_000])).collect();
    show!("{faults:?}, messages of {sizes:?}");
    // A busy machine is no fault.
    let honest = faults.iter().all(Option::is_none);
    let patience = if honest { PATIENCE } else { DEADLINE };
    let ([a, b], [c, d]) = (sockets(), sockets());
    std::thread::scope(|scope| {
        for (from, to, fault) in [(&b, &c, faults[0]), (&c, &b, faults[1])] {
            let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
            scope.spawn(move || {
                let _ = forward(&from, &to, fault);
                let _ = to.shutdown(Shutdown::Write);
                let _ = from.shutdown(Shutdown::Read);
            });
        }
        let sizes = &sizes;
        let server = scope.spawn(move || converse(Party::P0, d, sizes, patience));
        let client = converse(Party::P1, a, sizes, patience);
        let server = server.join().expect("the server does not panic");
        if honest {
            assert!(client.is_ok() && server.is_ok(), "nothing was changed: {client:?}, {server:?}");
        }
        show!("client: {client:?}; server: {server:?}");
    });
}

/// Byte `i` of a party's messages.
fn byte(party: Party, i: usize) -> u8 {
    (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ party.index() as u8
}

/// Both send, and both read what the other sent: nothing else.
fn converse(party: Party, stream: TcpStream, sizes: &[usize], patience: Duration) -> Result<(), Error> {
    let mut channel = secured(party, stream, patience)?;
    let mut at = 0;
    for &n in sizes {
        let message: Vec<u8> = (at..at + n).map(|i| byte(party, i)).collect();
        channel.send(&message)?;
        let mut theirs = vec![0; n];
        channel.recv(&mut theirs)?;
        let expected = |(i, b): (usize, &u8)| *b == byte(party.other(), at + i);
        assert!(theirs.iter().enumerate().all(expected), "{party:?} read what {:?} did not send", party.other());
        at += n;
    }
    channel.flush()?;
    // The end is said inside TLS, so that a cut is not taken for it.
    channel.close();
    Ok(())
}

/// Forwards a direction.
fn forward(mut from: &TcpStream, mut to: &TcpStream, fault: Option<(u64, Fault)>) -> std::io::Result<()> {
    from.set_read_timeout(Some(PATIENCE))?;
    let (mut passed, mut held, mut done) = (0u64, None::<Vec<u8>>, false);
    // Record by record.
    loop {
        let mut record = vec![0; 5];
        if from.read_exact(&mut record).is_err() {
            return held.map_or(Ok(()), |held| to.write_all(&held));
        }
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        from.read_exact(&mut record[5..])?;
        let start = passed;
        passed += record.len() as u64;
        if let Some(held) = held.take() {
            to.write_all(&record)?;
            to.write_all(&held)?;
            continue;
        }
        let Some((at, fault)) = fault.filter(|(at, _)| !done && *at < passed) else {
            to.write_all(&record)?;
            continue;
        };
        done = true;
        let at = at.saturating_sub(start) as usize;
        match fault {
            Fault::Flip(bit) => record[at] ^= bit,
            Fault::Lose(n) => drop(record.drain(at..(at + n).min(record.len()))),
            Fault::Repeat(n) => {
                let again = record[at..(at + n).min(record.len())].to_vec();
                drop(record.splice(at..at, again));
            }
            Fault::Insert(n) => drop(record.splice(at..at, std::iter::repeat_n(0x17, n))),
            Fault::End => return to.write_all(&record[..at]),
            Fault::Swap => {
                held = Some(record);
                continue;
            }
            Fault::Twice => to.write_all(&record)?,
        }
        to.write_all(&record)?;
    }
}
