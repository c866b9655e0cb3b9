//! The fault campaign: between a client and a server stands somebody who cuts, stalls, trickles, flips, drops, repeats,
//! replays, swaps and adds bytes, at any place of either direction of either connection, with TLS and without.
//!
//! Whatever happens: the client has the right result or an error, the server takes nothing for a success that is none, both
//! are done in time, and the next honest client is served. Faults follow from a seed; `SIRNN_FAULTS` says how many there are, `SIRNN_FAULTS_FROM` where to begin.

use sirnn::compile::Request;
use sirnn::model::input::Sources;
use sirnn::model::{Items, Model};
use sirnn::plan::choice::Objective;
use sirnn::plan::speeds::Speeds;
use sirnn::program::LinearForms;
use sirnn::service::client::{Address, Client, Outputs};
use sirnn::service::identity::{Identity, Settings, new_certificate};
use sirnn::service::server::{Controller, Event, Limits, Options, Outcome, Stores};
use sirnn::service::wire::{MAGIC, Purpose, hello};
use sirnn::service::{Bounds, Connection, Server, ServiceError, client};
use sirnn_backends::Party;
use sirnn_backends::ot;
use sirnn_backends::transport::{Limits as Waiting, Link};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits");

/// Longest silence, and time of a handshake, in seconds `SIRNN_FAULT_DEADLINE`. Long enough for a busy machine, as a rule.
static DEADLINE: LazyLock<Duration> = LazyLock::new(|| {
    let seconds = std::env::var("SIRNN_FAULT_DEADLINE").ok().and_then(|n| n.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
});
/// By when everything has to be over that follows from one fault.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Faults in the usual run.
const FAULTS: u64 = 330;
/// Trials at the same time: most wait most of the time.
const AT_ONCE: usize = 12;
/// Items of a request.
const N: usize = 2;

static MODEL: LazyLock<(Model, Items)> = LazyLock::new(|| {
    let model = Model::load(Path::new(DIGITS)).unwrap();
    let sources = Sources::one(&Path::new(DIGITS).join("inputs.npy"));
    let items = Items::load(&sources, &model.description).unwrap();
    (model, items)
});

/// Two parties that accept each other.
static IDENTITIES: LazyLock<[Identity; 2]> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("sirnn-faults-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = ["localhost", "client"].map(|name| {
        let from = SystemTime::now() - Duration::from_secs(60);
        let new = new_certificate(name, from, Duration::from_secs(86_400)).unwrap();
        let paths = ["pem", "key"].map(|kind| folder.join(format!("{name}.{kind}")));
        std::fs::write(&paths[0], new.certificate).unwrap();
        std::fs::write(&paths[1], new.key).unwrap();
        (paths, new.fingerprint)
    });
    [0, 1].map(|i| {
        let [certificate, key] = made[i].0.clone();
        let fingerprints = vec![made[1 - i].1];
        let settings = Settings { certificate, key, fingerprints, fingerprint_file: None, authority: None, name: None };
        Identity::load(&settings).unwrap()
    })
});

fn connection(party: Party, tls: bool) -> Connection {
    Connection {
        limits: Waiting { deadline: *DEADLINE, min_rate: 1_000_000 },
        identity: tls.then(|| IDENTITIES[party.index()].clone()),
        ..Connection::default()
    }
}

const BOUNDS: Bounds = Bounds { bytes: 1 << 32, memory: 1 << 32 };

fn serve(tls: bool, sessions: usize, queue: usize) -> (Controller, SocketAddr, Receiver<Event>) {
    let options = Options {
        linear: LinearForms::Cot,
        ledger: None,
        backend: Some(ot::lookup("iknp").unwrap()),
        fuse: Some(true),
        lanes: Some(1),
        objective: Objective::Bytes,
        link: Link::LAN,
        speeds: Speeds::default(),
        limits: Limits { items: 8, batch: 8, sessions, queue, bounds: BOUNDS, handshake: *DEADLINE },
        connection: connection(Party::P0, tls),
        watch: Vec::new(),
        stores: Stores::None,
    };
    let server = Server::bind("127.0.0.1:0", &MODEL.0, options).unwrap();
    let address = server.address().unwrap();
    (server.controller(), address, server.start())
}

fn ask(address: SocketAddr, tls: bool, wait: Duration) -> Result<Outputs, ServiceError> {
    let mut connection = connection(Party::P1, tls);
    connection.limits.deadline = wait;
    let options =
        client::Options { linear: LinearForms::Auto, bounds: BOUNDS, connection, pinned: None, watch: Vec::new() };
    let server = Address { host: "localhost".into(), addresses: vec![address] };
    let client = Client::connect(&server, options)?;
    let inputs = |range| MODEL.1.inputs(range);
    let request = Request { items: N, steps: MODEL.1.steps(), lengths: None };
    client.infer(&request, Some(N), &inputs, &mut |_| {}, &mut |_| Ok(())).map(|(outputs, _)| outputs)
}

/// What an honest run computes.
static RIGHT: LazyLock<Outputs> = LazyLock::new(|| {
    let (_, address, _events) = serve(false, 1, 0);
    ask(address, false, WATCHDOG).unwrap()
});

/// A generator of choices.
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Both directions end.
    Cut,
    /// Nothing more comes.
    Stall,
    /// A byte every now and then.
    Trickle,
    Flip,
    /// Some bytes are lost.
    Lose,
    /// This direction ends.
    Truncate,
    /// Some bytes come twice.
    Duplicate,
    /// What came first comes again.
    Replay,
    /// Two neighbouring pieces change places.
    Reorder,
    /// Bytes that nobody sent.
    Lengthen,
    /// A pause that everybody has to put up with.
    Pause,
}

const KINDS: [Kind; 11] = [
    Kind::Cut,
    Kind::Stall,
    Kind::Trickle,
    Kind::Flip,
    Kind::Lose,
    Kind::Truncate,
    Kind::Duplicate,
    Kind::Replay,
    Kind::Reorder,
    Kind::Lengthen,
    Kind::Pause,
];

#[derive(Clone, Copy, Debug)]
struct Fault {
    kind: Kind,
    /// Which connection of the session, in the order in which they are made.
    connection: usize,
    to_server: bool,
    /// The byte of this direction where it happens.
    at: u64,
    len: usize,
    bit: u8,
}

impl Fault {
    /// The `number`-th, at a place of a direction with so many bytes.
    fn new(number: u64, sizes: &[[u64; 2]; 2]) -> Self {
        let s = &mut Choices(number);
        let kind = KINDS[(number % KINDS.len() as u64) as usize];
        let (connection, to_server) = (s.below(2) as usize, s.below(2) == 0);
        let size = sizes[connection][usize::from(to_server)].max(1);
        // Every phase: most bytes are those of correlations, so a third is near the beginning and a third near the end.
        let near = size.min(3000);
        let at = match s.below(3) {
            0 => s.below(near),
            1 => size - 1 - s.below(near),
            _ => s.below(size),
        };
        Self { kind, connection, to_server, at, len: 1 + s.below(40) as usize, bit: s.below(8) as u8 }
    }
}

/// Stands between clients and a server. Returns where, and counters of the bytes of each connection and direction.
type Counts = Arc<[[AtomicU64; 2]; 2]>;

fn proxy(server: SocketAddr, fault: Option<Fault>) -> (SocketAddr, Counts) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let counts = Counts::default();
    let counted = counts.clone();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().take(2).enumerate() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { return };
            for to_server in [false, true] {
                let [from, to] = if to_server { [&client, &server] } else { [&server, &client] };
                let [from, to] = [from, to].map(|s| s.try_clone().unwrap());
                let fault = fault.filter(|f| f.connection == number && f.to_server == to_server);
                let counted = counted.clone();
                std::thread::spawn(move || {
                    let count = &counted[number][usize::from(to_server)];
                    let _ = forward(&from, &to, fault, count);
                    let _ = to.shutdown(Shutdown::Write);
                    let _ = from.shutdown(Shutdown::Read);
                });
            }
        }
    });
    (address, counts)
}

/// Forwards one direction.
fn forward(mut from: &TcpStream, mut to: &TcpStream, fault: Option<Fault>, count: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let (mut passed, mut first) = (0u64, Vec::new());
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        let piece = &buffer[..n];
        count.fetch_add(n as u64, Ordering::Relaxed);
        if first.len() < 64 {
            first.extend_from_slice(&piece[..n.min(64)]);
        }
        let here = fault.filter(|f| (passed..passed + n as u64).contains(&f.at));
        let Some(Fault { kind, at, len, bit, .. }) = here else {
            to.write_all(piece)?;
            passed += n as u64;
            continue;
        };
        let (before, after) = piece.split_at((at - passed) as usize);
        passed += n as u64;
        to.write_all(before)?;
        let (some, rest) = after.split_at(len.min(after.len()));
        match kind {
            Kind::Cut => {
                let _ = from.shutdown(Shutdown::Both);
                return to.shutdown(Shutdown::Both);
            }
            Kind::Truncate => return Ok(()),
            Kind::Stall => {
                // Until the reader has given up.
                while from.read(&mut buffer)? > 0 {}
                return Ok(());
            }
            Kind::Trickle => {
                for byte in after {
                    to.write_all(&[*byte])?;
                    std::thread::sleep(*DEADLINE / 8);
                }
                while let n @ 1.. = from.read(&mut buffer)? {
                    for byte in &buffer[..n] {
                        to.write_all(&[*byte])?;
                        std::thread::sleep(*DEADLINE / 8);
                    }
                }
                return Ok(());
            }
            Kind::Flip => {
                to.write_all(&[after[0] ^ (1 << bit)])?;
                to.write_all(&after[1..])?;
            }
            Kind::Lose => to.write_all(rest)?,
            Kind::Duplicate => {
                to.write_all(some)?;
                to.write_all(after)?;
            }
            Kind::Replay => {
                to.write_all(&first)?;
                to.write_all(after)?;
            }
            Kind::Reorder => {
                let (a, b) = some.split_at(some.len() / 2);
                to.write_all(b)?;
                to.write_all(a)?;
                to.write_all(rest)?;
            }
            Kind::Lengthen => {
                to.write_all(&vec![0xa5; len])?;
                to.write_all(after)?;
            }
            Kind::Pause => {
                std::thread::sleep(*DEADLINE / 16);
                to.write_all(after)?;
            }
        }
    }
}

/// What came of the faults.
#[derive(Debug, Default)]
struct Tally {
    right: AtomicUsize,
    errors: AtomicUsize,
}

/// One fault and all that has to hold afterwards.
fn trial(fault: Fault, tls: bool, tally: &Tally) {
    let (controller, server, events) = serve(tls, 2, 2);
    let (address, _) = proxy(server, Some(fault));
    let done = ask(address, tls, *DEADLINE);
    let context = format!("{fault:?}, {}", if tls { "TLS" } else { "plaintext" });
    match &done {
        Ok(outputs) => assert_eq!(outputs, &*RIGHT, "{context}: a wrong result"),
        Err(e) => assert!(!e.to_string().contains("internal error"), "{context}: {e}"),
    }
    if fault.kind == Kind::Pause {
        assert!(done.is_ok(), "{context}: {done:?}");
    }
    // The next one is served.
    let next = ask(server, tls, WATCHDOG).unwrap_or_else(|e| panic!("{context}: the next client: {e}"));
    assert_eq!(next, *RIGHT, "{context}");
    controller.stop();
    let mut successes = 0;
    loop {
        match events.recv_timeout(WATCHDOG) {
            Ok(Event { outcome: Outcome::Session(Ok(_)), .. }) => successes += 1,
            Ok(Event { outcome: Outcome::Session(Err(e)) | Outcome::Rejected(e), .. }) => {
                assert!(!e.to_string().contains("internal error"), "{context}: {e}");
            }
            Ok(Event { outcome: Outcome::Measured, .. }) => panic!("{context}: nobody measured anything"),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(e) => panic!("{context}: the server does not end: {e}"),
        }
    }
    assert!(successes > 0 && successes <= 1 + usize::from(done.is_ok()), "{context}: {successes} successes, {done:?}");
    if done.is_ok() { &tally.right } else { &tally.errors }.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn every_fault_ends_in_a_right_result_or_an_error() {
    let number = std::env::var("SIRNN_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(FAULTS);
    // How much an honest session says.
    let sizes = [false, true].map(|tls| {
        let (_, server, _events) = serve(tls, 1, 0);
        let (address, counts) = proxy(server, None);
        assert_eq!(ask(address, tls, WATCHDOG).unwrap(), *RIGHT);
        [0, 1].map(|c| [0, 1].map(|d| counts[c][d].load(Ordering::Relaxed)))
    });
    assert!(sizes.iter().flatten().flatten().all(|n| *n > 100), "{sizes:?}");
    let first = std::env::var("SIRNN_FAULTS_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let (next, tally) = (AtomicU64::new(first), Tally::default());
    std::thread::scope(|s| {
        for _ in 0..AT_ONCE {
            s.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= first + number {
                        break;
                    }
                    let tls = (i / KINDS.len() as u64) % 2 == 1;
                    trial(Fault::new(i, &sizes[usize::from(tls)]), tls, &tally);
                }
            });
        }
    });
    println!("{number} faults: {tally:?}");
    let [right, errors] = [tally.right.into_inner(), tally.errors.into_inner()];
    assert_eq!((right + errors) as u64, number);
    // The campaign hits: most faults are not harmless.
    assert!(errors > right, "{errors} errors, {right} right results");
}

/// Many clients at the same time, all of which get what is theirs.
fn crowd(clients: usize) {
    let (controller, address, events) = serve(false, 4, clients);
    let right = &*RIGHT;
    std::thread::scope(|s| {
        for _ in 0..clients {
            s.spawn(move || assert_eq!(&ask(address, false, WATCHDOG).unwrap(), right));
        }
    });
    controller.stop();
    let served = events.iter().filter(|e| matches!(e.outcome, Outcome::Session(Ok(_)))).count();
    assert_eq!(served, clients);
}

#[test]
fn twenty_clients_at_once() {
    crowd(20);
}

#[test]
fn two_hundred_clients_at_once() {
    crowd(200);
}

#[test]
fn hostile_connections_keep_nobody_out() {
    let (controller, address, events) = serve(false, 2, 16);
    let open = Mutex::new(Vec::new());
    let right = &*RIGHT;
    std::thread::scope(|s| {
        s.spawn(|| {
            for i in 0..1000u64 {
                let Ok(mut stream) = TcpStream::connect(address) else { continue };
                // Silence, a greeting and then silence, half a greeting, garbage, a stranger to a session, a hang-up.
                let greeting = hello(Party::P1, Purpose::Session);
                let _ = match i % 6 {
                    0 => Ok(()),
                    1 => stream.write_all(&greeting),
                    2 => stream.write_all(&MAGIC),
                    3 => stream.write_all(&[0xee; 4096]),
                    4 => stream.write_all(&hello(Party::P1, Purpose::Join([i as u8; 16]))),
                    _ => continue,
                };
                let mut open = open.lock().unwrap();
                open.push(stream);
                // A process has only so many descriptors, and this one is both sides.
                if open.len() > 200 {
                    open.remove(0);
                }
            }
        });
        for _ in 0..10 {
            s.spawn(move || {
                // One that lost its place to a newer connection asks again.
                let outputs = (0..5).find_map(|_| ask(address, false, WATCHDOG).ok());
                assert_eq!(outputs.as_ref(), Some(right));
            });
        }
    });
    drop(open);
    controller.stop();
    let served = events.iter().filter(|e| matches!(e.outcome, Outcome::Session(Ok(_)))).count();
    assert_eq!(served, 10);
}
