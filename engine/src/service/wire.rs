//! Hello and messages of the handshake.
//!
//! A hello is 32 bytes of fixed layout, so that any two versions understand each other's: 8 bytes magic, version (4, little
//! endian), role, purpose, 2 zeros, 16 bytes session id (zeros unless it joins one). Messages are JSON behind
//! a length of 4 bytes; nothing longer than [`MAX_MESSAGE`] is read.

use super::ServiceError;
use crate::plan::WIRE_VERSION;
use crate::program::{Goal, LinearForms};
use serde::{Deserialize, Serialize};
use sirnn_backends::{Error, Party};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// First bytes of every connection.
pub const MAGIC: [u8; 8] = *b"SIRNN\r\n\x1a";
/// Length of a hello.
pub const HELLO: usize = 32;
/// Longest message of the handshake.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Longest text of a peer that is shown.
const MAX_SHOWN: usize = 300;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Handshake and online phases.
    Session,
    /// A further connection of a session: the one that waits under this id.
    Join([u8; 16]),
}

/// The first message of a connection.
pub fn hello(role: Party, purpose: Purpose) -> [u8; HELLO] {
    let mut hello = [0; HELLO];
    hello[..8].copy_from_slice(&MAGIC);
    hello[8..12].copy_from_slice(&WIRE_VERSION.to_le_bytes());
    hello[12] = role.index() as u8;
    if let Purpose::Join(id) = purpose {
        hello[13] = 1;
        hello[16..].copy_from_slice(&id);
    }
    hello
}

/// Reads a hello of the party that is not `me`.
fn accept(me: Party, hello: &[u8; HELLO]) -> Result<Purpose, ServiceError> {
    let refuse = |what: String| Err(ServiceError::Handshake(what));
    let version = u32::from_le_bytes([hello[8], hello[9], hello[10], hello[11]]);
    if version != WIRE_VERSION {
        return refuse(format!("the peer speaks wire version {version}, this program {WIRE_VERSION}"));
    }
    if usize::from(hello[12]) != me.other().index() {
        let role = ["server", "client"][me.index()];
        return refuse(format!("the peer has the wrong role: a {role} cannot talk to a {role}"));
    }
    match (hello[13], &hello[14..16]) {
        (0, [0, 0]) => Ok(Purpose::Session),
        (1, [0, 0]) => Ok(Purpose::Join(hello[16..].try_into().expect("16 bytes"))),
        _ => refuse("the peer's hello is malformed".into()),
    }
}

/// What the server optimises, in whole numbers so that both parties compute with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// Fewest rounds.
    Rounds,
    /// Fewest bytes.
    Bytes,
    /// Fewest bytes in the online phase.
    Online,
    /// Least time on a link.
    Time {
        /// Bandwidth of one direction.
        bits_per_second: u64,
        /// One-way latency.
        latency_ns: u64,
    },
}

impl From<Objective> for Goal {
    fn from(objective: Objective) -> Goal {
        match objective {
            Objective::Rounds => Goal::Rounds,
            Objective::Bytes => Goal::Bytes,
            Objective::Online => Goal::Online,
            Objective::Time { bits_per_second, latency_ns } => {
                Goal::Time { bits_per_second: bits_per_second.max(1) as f64, latency: latency_ns as f64 * 1e-9 }
            }
        }
    }
}

/// What the server offers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Fresh for every connection.
    pub session: [u8; 16],
    /// The public part of the model.
    pub description: String,
    /// Most items of a request.
    pub max_items: u64,
    /// Most items at the same time.
    pub max_batch: u64,
}

/// What the client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Number of items.
    pub items: u64,
    /// Most items at the same time.
    pub batch: u64,
    /// Time steps of the longest; 0 if the network has no time axis.
    pub steps: u64,
    /// Length of each item, if they differ: `1..=steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<Vec<u32>>,
    /// What is to be done for them.
    pub phases: Phases,
    /// Where the client accepts that products with the weights come from.
    pub linear: LinearForms,
    /// The client's part of what public randomness is drawn from.
    pub nonce: [u8; 16],
}

/// How the server wants to compute a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Name of the OT backend.
    pub backend: String,
    /// What forms are chosen by.
    pub objective: Objective,
    /// Whether cells are one look-up each.
    pub fuse: bool,
    /// Where products with the weights come from: something that the client accepts.
    pub linear: LinearForms,
    /// Sessions at the same time.
    pub lanes: u64,
    /// Items of a session; together those at the same time are no more than were asked for.
    pub batch: u64,
}

/// Which phases the sessions of a request have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phases {
    /// All.
    Both,
    /// The offline phase alone: both parties keep what it made in stores.
    Offline,
    /// The online phase alone, with the stores of this id.
    Online([u8; 16]),
}

/// A message of the handshake.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Server to client.
    Offer(Offer),
    /// Client to server.
    Request(Request),
    /// Server to client.
    Choice(Choice),
    /// Both ways: digests of the plans, for a full batch and for the rest.
    Plans(Vec<String>),
    /// Instead of any other: the reason why the connection ends.
    Refusal(String),
}

/// A connection during the handshake: a message that is not complete after `deadline` ends it, however slowly it comes.
#[derive(Debug)]
pub struct Control {
    stream: TcpStream,
    deadline: Duration,
}

impl Control {
    /// Wraps a connected socket.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn new(stream: TcpStream, deadline: Duration) -> Result<Self, ServiceError> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(deadline))?;
        Ok(Self { stream, deadline })
    }

    /// The socket, after the handshake.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends a hello.
    ///
    /// # Errors
    /// If the peer is gone.
    pub fn send_hello(&mut self, role: Party, purpose: Purpose) -> Result<(), ServiceError> {
        self.write(&hello(role, purpose))
    }

    /// Receives the peer's hello.
    ///
    /// # Errors
    /// If the peer is something else, has another version, or the wrong role.
    pub fn receive_hello(&mut self, me: Party) -> Result<Purpose, ServiceError> {
        let end = Instant::now() + self.deadline;
        let mut hello = [0; HELLO];
        let (magic, rest) = hello.split_at_mut(MAGIC.len());
        self.read(magic, end)?;
        if magic != MAGIC {
            let text: String =
                magic.iter().map(|&b| if (b' '..=b'~').contains(&b) { b as char } else { '.' }).collect();
            return Err(ServiceError::Handshake(format!("the peer does not speak this protocol; it sent \"{text}\"")));
        }
        self.read(rest, end)?;
        accept(me, &hello)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the peer is gone.
    pub fn send(&mut self, message: &Message) -> Result<(), ServiceError> {
        let text = serde_json::to_vec(message).expect("messages have a JSON form");
        debug_assert!(text.len() <= MAX_MESSAGE);
        self.write(&[&(text.len() as u32).to_le_bytes(), &text[..]].concat())
    }

    /// Tells the peer why the connection ends. It may be gone; then nobody needs to know.
    pub fn refuse(&mut self, reason: &ServiceError) {
        let text = match reason {
            // Names of files are not the peer's business.
            ServiceError::Store(e) => format!("its store: {}", e.what),
            other => other.to_string(),
        };
        let _ = self.send(&Message::Refusal(text));
    }

    /// Receives a message.
    ///
    /// # Errors
    /// If the peer refused, or sent something that is not a message.
    pub fn receive(&mut self) -> Result<Message, ServiceError> {
        let end = Instant::now() + self.deadline;
        let mut len = [0; 4];
        self.read(&mut len, end)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_MESSAGE {
            let what = format!("the peer announced a message of {len} bytes, {MAX_MESSAGE} are allowed");
            return Err(ServiceError::Handshake(what));
        }
        let mut text = vec![0; len];
        self.read(&mut text, end)?;
        match serde_json::from_slice(&text) {
            Ok(Message::Refusal(reason)) => Err(ServiceError::Refused(shown(&reason))),
            Ok(message) => Ok(message),
            Err(e) => {
                Err(ServiceError::Handshake(format!("the peer sent a malformed message: {}", shown(&e.to_string()))))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        self.stream.write_all(bytes).map_err(|e| self.lost(&e, "it was sent a message").into())
    }

    fn read(&mut self, mut out: &mut [u8], end: Instant) -> Result<(), Error> {
        const EXPECTED: &str = "a message was expected";
        while !out.is_empty() {
            let left = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero());
            self.stream.set_read_timeout(Some(left.ok_or(Error::Deadline(self.deadline))?))?;
            match self.stream.read(out) {
                Ok(0) => return Err(Error::Closed(EXPECTED)),
                Ok(n) => out = &mut out[n..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.lost(&e, EXPECTED)),
            }
        }
        Ok(())
    }

    fn lost(&self, e: &std::io::Error, what: &'static str) -> Error {
        match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Deadline(self.deadline),
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::WriteZero => Error::Closed(what),
            kind => Error::Io(kind.into()),
        }
    }
}

/// A text of the peer in one line of printable characters.
pub fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect();
    line.trim().to_string()
}

/// The message that should have been another.
pub(super) fn unexpected(message: &Message) -> ServiceError {
    let name = match message {
        Message::Offer(_) => "an offer",
        Message::Request(_) => "a request",
        Message::Choice(_) => "a choice",
        Message::Plans(_) => "plans",
        Message::Refusal(_) => "a refusal",
    };
    ServiceError::Handshake(format!("the peer sent {name} out of turn"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Control, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Control::new(listener.accept().unwrap().0, Duration::from_millis(200)).unwrap(), peer)
    }

    #[test]
    fn hellos_say_version_role_and_purpose() {
        for purpose in [Purpose::Session, Purpose::Join([7; 16])] {
            let h = hello(Party::P1, purpose);
            assert_eq!(accept(Party::P0, &h).unwrap(), purpose);
            assert!(accept(Party::P1, &h).unwrap_err().to_string().contains("wrong role"));
            let mut other = h;
            other[8] = 99;
            assert!(accept(Party::P0, &other).unwrap_err().to_string().contains("wire version 99"));
            let mut other = h;
            other[14] = 1;
            assert!(accept(Party::P0, &other).is_err());
        }
    }

    #[test]
    fn garbage_is_named_at_once() {
        let (mut control, mut peer) = pair();
        peer.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let start = Instant::now();
        let e = control.receive_hello(Party::P0).unwrap_err().to_string();
        assert!(e.contains("\"GET / HT\""), "{e}");
        assert!(start.elapsed() < Duration::from_millis(150));
    }

    #[test]
    fn a_message_that_trickles_in_is_late() {
        let (mut control, mut peer) = pair();
        let trickle = std::thread::spawn(move || {
            for _ in 0..20 {
                let _ = peer.write_all(&[0]);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        peer_is_late(&mut control);
        trickle.join().unwrap();
    }

    fn peer_is_late(control: &mut Control) {
        let start = Instant::now();
        let mut all = [0; 64];
        let end = start + control.deadline;
        assert!(matches!(control.read(&mut all, end), Err(Error::Deadline(_))));
        assert!(start.elapsed() < Duration::from_millis(600));
    }

    #[test]
    fn long_and_malformed_messages_are_refused() {
        let (mut control, mut peer) = pair();
        peer.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(control.receive().unwrap_err().to_string().contains("4294967295 bytes"));
        let (mut control, mut peer) = pair();
        peer.write_all(&[3, 0, 0, 0, b'{', b'}', b'!']).unwrap();
        assert!(control.receive().unwrap_err().to_string().contains("malformed"));
        let (mut control, peer) = pair();
        Control::new(peer, Duration::from_secs(1)).unwrap().refuse(&ServiceError::Limit("no\nway\u{7}".into()));
        let e = control.receive().unwrap_err().to_string();
        assert_eq!(e, "the peer refused: no way");
    }
}
