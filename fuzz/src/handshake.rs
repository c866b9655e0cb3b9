//! A server whose client says anything, and a client whose server does.
//!
//! Real sockets on this machine: a message of the handshake is whatever comes in time.

use crate::files;
use crate::graphs;
use crate::show;
use crate::source::Source;
use sirnn::compile::{self, Options, compile};
use sirnn::graph::Dim;
use sirnn::model::{Description, Model};
use sirnn::plan::Plan;
use sirnn::plan::choice::{Choice, Objective};
use sirnn::plan::speeds::Speeds;
use sirnn::program::{LinearForms, Profile};
use sirnn::run::Inputs;
use sirnn::service::identity::Identity;
use sirnn::service::server::{Event, Limits};
use sirnn::service::wire::{Control, Message, Offer, Phases, Purpose, Request, hello};
use sirnn::service::{Bounds, Client, Connection, Part, Server, client, connection_id, server};
use sirnn_backends::inst::Party;
use sirnn_backends::ot;
use sirnn_backends::transport::{Channel, Limits as Waiting, Link, TcpChannel};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock, mpsc::Receiver};
use std::time::Duration;

/// Longest silence that either side puts up with.
const DEADLINE: Duration = Duration::from_millis(50);
/// By when it has to have given up.
const PATIENCE: Duration = Duration::from_secs(10);
const BOUNDS: Bounds = Bounds { bytes: 1 << 24, memory: 1 << 24 };

/// The target.
///
/// # Panics
/// If a side does, or does not give up.
pub fn check(data: &[u8]) {
    let s = &mut Source::new(data);
    match s.range(0, 15) {
        15 => session(s),
        n if n % 2 == 0 => to_server(s),
        _ => to_client(s),
    }
}

fn connection() -> Connection {
    Connection { limits: Waiting::within(DEADLINE), ..Connection::default() }
}

/// A server that runs until the end, and the digest of its plan for one item.
struct Target {
    address: SocketAddr,
    events: Mutex<Receiver<Event>>,
    digest: String,
}

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| start(None))
}

/// The same with TLS.
fn start(identity: Option<Identity>) -> Target {
    let description = files::small();
    let typed = description.typed(description.graph.steps).expect("the small description is valid");
    let weights = graphs::weights(&mut Source::new(&[]), &typed.parameters);
    let model = Model::new(description, weights).expect("weights in their widths");
    let backend = ot::lookup("iknp").expect("there is IKNP");
    let objective = Objective::Bytes;
    let profile = Profile::of(objective.into(), backend);
    let graph = &model.description.graph;
    let request = compile::Request { items: 1, steps: graph.steps, lengths: None };
    let compiled = compile(graph, &request, profile, &Options::default()).expect("the model is complete");
    let digest = Plan::new(compiled.program, profile).digest.iter().map(|b| format!("{b:02x}")).collect();
    let limits = Limits { items: 4, batch: 2, sessions: 4, queue: 4, bounds: BOUNDS, handshake: DEADLINE };
    let options = server::Options {
        backend: Some(backend),
        fuse: Some(false),
        lanes: None,
        linear: LinearForms::Cot,
        ledger: None,
        objective,
        link: Link::LAN,
        speeds: Speeds::default(),
        limits,
        connection: Connection { identity, ..connection() },
        watch: Vec::new(),
        stores: server::Stores::None,
    };
    let server = Server::bind("127.0.0.1:0", &model, options).expect("a free port");
    let address = server.address().expect("it is bound");
    Target { address, events: Mutex::new(server.start()), digest }
}

/// Messages of a client inside TLS, in pieces that have nothing to do with where messages end.
pub fn sealed_to_server(s: &mut Source, server: Identity, client: Identity) {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| start(Some(server)));
    let mut bytes = hello(Party::P1, Purpose::Session).to_vec();
    let pieces: Vec<usize> = (0..s.below(8)).map(|_| 1 + s.below(100)).collect();
    while !s.is_empty() {
        message(s, target, &mut bytes);
    }
    let mut channel = TcpChannel::new(connect(target)).expect("a socket");
    channel.set_limits(Waiting::within(PATIENCE));
    if let Err(e) = channel.secure(client.connect("localhost").expect("a name")) {
        // On a busy machine the server may not have had its time.
        show!("{e}");
        return outcome(target);
    }
    let mut rest = &bytes[..];
    for n in pieces.into_iter().chain([bytes.len()]) {
        let (piece, more) = rest.split_at(n.min(rest.len()));
        rest = more;
        // The server may have given up already.
        if channel.send(piece).and_then(|()| channel.flush()).is_err() {
            break;
        }
    }
    channel.close();
    outcome(target);
}

/// Sends bytes, and reads all that comes.
fn talk(mut stream: TcpStream, bytes: &[u8]) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    // The peer may have closed already.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    show!("{} bytes came back", answer.len());
}

fn outcome(target: &Target) {
    let events = target.events.lock().expect("one case at a time");
    let event = events.recv_timeout(PATIENCE).expect("the server gives up in time");
    show!("{:?}", event.outcome);
}

fn connect(target: &Target) -> TcpStream {
    TcpStream::connect(target.address).expect("the server listens")
}

fn to_server(s: &mut Source) {
    let target = target();
    let mut bytes = Vec::new();
    if !s.one_in(8) {
        let purpose = if s.one_in(8) { Purpose::Join([0; 16]) } else { Purpose::Session };
        bytes.extend(hello(Party::P1, purpose));
    }
    while !s.is_empty() {
        message(s, target, &mut bytes);
    }
    talk(connect(target), &bytes);
    outcome(target);
}

/// A message, or something like one.
fn message(s: &mut Source, target: &Target, bytes: &mut Vec<u8>) {
    let message = match s.range(0, 10) {
        0 | 1 => {
            let lengths = s.one_in(4).then(|| (0..s.range(0, 5)).map(|_| s.range(0, 5)).collect());
            let steps = if s.one_in(2) { number(s) } else { 2 };
            Message::Request(Request {
                items: number(s),
                batch: number(s),
                steps,
                lengths,
                phases: phases(s),
                linear: linear(s),
                nonce: [9; 16],
            })
        }
        2 => Message::Plans(vec![target.digest.clone(); s.below(3)]),
        3 => Message::Plans(vec![String::from_utf8_lossy(s.rest()).into_owned()]),
        4 => Message::Refusal(String::from_utf8_lossy(s.rest()).into_owned()),
        5 => Message::Offer(offer(s)),
        8 => Message::Choice(choice(s)),
        9 => s.pick(&[Message::Start, Message::Done, Message::Queued(1), Message::Busy(u64::MAX)]),
        10 => Message::Echo(String::from_utf8_lossy(s.rest()).into_owned()),
        kind => {
            let rest = s.rest();
            if kind == 6 {
                bytes.extend((rest.len() as u32).to_le_bytes());
            }
            return bytes.extend(rest);
        }
    };
    let text = serde_json::to_vec(&message).expect("messages have a JSON form");
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text);
}

fn phases(s: &mut Source) -> Phases {
    match s.range(0, 15) {
        14 => Phases::Offline,
        15 => Phases::Online([1; 16]),
        _ => Phases::Both,
    }
}

fn number(s: &mut Source) -> u64 {
    if s.one_in(4) { s.word() } else { s.range(1, 5).into() }
}

fn offer(s: &mut Source) -> Offer {
    let description = match s.range(0, 3) {
        0 => files::small().to_toml(),
        1 => huge(s).to_toml(),
        _ => graphs::description(s).to_toml(),
    };
    let (max_items, max_batch) = (number(s), number(s));
    Offer { session: [1; 16], description, max_items, max_batch }
}

fn choice(s: &mut Source) -> Choice {
    let objective = match s.range(0, 2) {
        0 => Objective::Bytes,
        1 => Objective::Rounds,
        _ => Objective::Time { bits_per_second: number(s), latency_ns: number(s) },
    };
    let backend = s.pick(&["iknp", "softspoken", "ferret", "none"]).into();
    Choice { backend, objective, fuse: s.range(0, 1) == 0, linear: linear(s), lanes: number(s), batch: number(s) }
}

/// Where products with the weights come from.
fn linear(s: &mut Source) -> LinearForms {
    s.pick(&[LinearForms::Cot, LinearForms::Rlwe, LinearForms::Auto])
}

/// A description that asks for more than it should.
fn huge(s: &mut Source) -> Description {
    let mut d = graphs::description(s);
    d.graph.steps = s.pick(&[1, 1 << 10, 1 << 16]);
    d.graph.inputs[0].shape = vec![Dim::Steps, Dim::Size(s.pick(&[1, 1 << 8, 1 << 13]))];
    d
}

fn to_client(s: &mut Source) {
    static LISTENER: OnceLock<(TcpListener, SocketAddr)> = OnceLock::new();
    let (listener, address) = LISTENER.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    });
    let mut bytes = Vec::new();
    if !s.one_in(8) {
        bytes.extend(hello(Party::P0, Purpose::Session));
    }
    if !s.one_in(8) {
        let text = serde_json::to_vec(&Message::Offer(offer(s))).expect("messages have a JSON form");
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text);
    }
    if !s.one_in(4) {
        let text = serde_json::to_vec(&Message::Choice(choice(s))).expect("messages have a JSON form");
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text);
    }
    while !s.is_empty() {
        message(s, target(), &mut bytes);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| talk(listener.accept().expect("the client connects").0, &bytes));
        let options = client::Options {
            bounds: BOUNDS,
            connection: connection(),
            pinned: None,
            watch: Vec::new(),
            linear: LinearForms::Auto,
        };
        let client = match Client::connect(&(*address).into(), options) {
            Ok(client) => client,
            Err(e) => return show!("refused: {e}"),
        };
        let graph = client.description().graph.clone();
        let typed = graph.infer(graph.steps).expect("it was accepted");
        let inputs = |range: std::ops::Range<usize>| -> Inputs {
            let zeros = |v: &sirnn::graph::infer::Value| (v.name.clone(), vec![0; v.ty.len() * range.len()]);
            typed.values[..graph.inputs.len()].iter().map(zeros).collect()
        };
        let request = compile::Request { items: 1, steps: graph.steps, lengths: None };
        match client.infer(&request, None, &inputs, &mut |_| {}, &mut |_| Ok(())) {
            Ok(_) => panic!("nobody computed anything"),
            Err(e) => show!("failed: {e}"),
        }
    });
}

/// A client that keeps to the handshake, and then sends anything in the session itself.
fn session(s: &mut Source) {
    let target = target();
    let mut control = Control::new(connect(target), PATIENCE).expect("a socket");
    control.send_hello(Party::P1, Purpose::Session).expect("the server listens");
    control.receive_hello(Party::P1).expect("the server answers");
    let Message::Offer(offer) = control.receive().expect("the server makes an offer") else {
        panic!("an offer comes first");
    };
    control
        .send(&Message::Request(Request {
            items: 1,
            batch: 1,
            steps: 2,
            lengths: None,
            phases: Phases::Both,
            linear: LinearForms::Auto,
            nonce: [9; 16],
        }))
        .expect("the server listens");
    control.send(&Message::Plans(vec![target.digest.clone()])).expect("the server listens");
    let chosen = control.receive();
    assert!(matches!(chosen, Ok(Message::Choice(_))), "a choice comes next: {chosen:?}");
    match control.receive() {
        Ok(Message::Plans(theirs)) => assert!(theirs.iter().eq([&target.digest]), "plans are the same"),
        other => panic!("plans come next: {other:?}"),
    }
    let started = control.receive();
    assert!(matches!(started, Ok(Message::Start)), "the server has room: {started:?}");
    let mut second = connect(target);
    second
        .write_all(&hello(Party::P1, Purpose::Join(connection_id(offer.session, 0, Part::Offline))))
        .expect("the server listens");
    let online = s.below(64);
    let rest = s.rest();
    let (online, offline) = rest.split_at(online.min(rest.len()));
    std::thread::scope(|scope| {
        scope.spawn(|| talk(second, offline));
        let mut channel = control.into_channel();
        // The server may have given up already.
        let _ = channel.send(online);
        channel.close();
    });
    outcome(target);
}
