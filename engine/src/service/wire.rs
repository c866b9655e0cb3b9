//! Hello and messages of the handshake.
//!
//! A hello is 32 bytes of fixed layout, so that any two versions understand each other's: 8 bytes magic, version (4, little
//! endian), role, purpose, 2 zeros, 16 bytes session id (zeros unless it joins one). Messages are JSON behind
//! a length of 4 bytes; nothing longer than [`MAX_MESSAGE`] is read.

use super::ServiceError;
use super::identity::Fingerprint;
use crate::plan::WIRE_VERSION;
use crate::plan::choice::Choice;
use crate::program::LinearForms;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sirnn_backends::transport::{Channel, Limits, TcpChannel, printable};
use sirnn_backends::{Error, Party};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// First bytes of every connection.
pub const MAGIC: [u8; 8] = *b"SIRNN\r\n\x1a";
/// Length of a hello.
pub const HELLO: usize = 32;
/// Longest message of the handshake.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Longest time in milliseconds after which a server may say to try again: a day.
const MAX_RETRY: u64 = 86_400_000;

/// Bytes of a part of the client's tensors: in base64 well within a message.
pub const TENSORS_PART: usize = 1 << 19;

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
    /// Server to client, after the offer of a model whose client computes something itself: a part of the public tensors for that, in
    /// base64, until as many bytes are there as the description states.
    Tensors(String),
    /// Client to server.
    Request(Request),
    /// Server to client.
    Choice(Choice),
    /// Both ways: digests of the plans, for a full batch and for the rest.
    Plans(Vec<String>),
    /// Server to client: so many requests come before this one. Repeated while it waits.
    Queued(u64),
    /// Server to client: the request is computed now, or the further connection is a part of it.
    Start,
    /// Server to client, instead of any other: there is no room; try again in so many milliseconds.
    Busy(u64),
    /// Client to server: the results are there and make sense. Both ways: the store is complete.
    Done,
    /// Client to server, instead of a request: send this back. It measures the way.
    Echo(String),
    /// Instead of any other: the reason why the connection ends.
    Refusal(String),
}

/// Messages on a connection: during the handshake, and at the end of a request.
#[derive(Debug)]
pub struct Control {
    channel: TcpChannel,
    limits: Limits,
    /// When all messages have to be there, whatever the limits say.
    end: Option<Instant>,
}

impl Control {
    /// Wraps a connected socket. A record is kept of all that is said.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn new(stream: TcpStream, deadline: Duration) -> Result<Self, ServiceError> {
        Ok(Self::over(TcpChannel::new(stream)?, Limits::within(deadline)))
    }

    /// The same over a channel.
    pub fn over(mut channel: TcpChannel, limits: Limits) -> Self {
        channel.set_limits(limits);
        channel.record();
        Self { channel, limits, end: None }
    }

    /// Until when all messages have to be there.
    pub(super) fn set_end(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.channel.set_limits(limits);
    }

    /// What is below.
    pub fn channel(&mut self) -> &mut TcpChannel {
        &mut self.channel
    }

    /// What is below, after the handshake.
    pub fn into_channel(self) -> TcpChannel {
        self.channel
    }

    /// The peer's certificate, if there is TLS.
    pub(super) fn peer_fingerprint(&self) -> Option<Fingerprint> {
        self.channel.peer_certificate().map(Fingerprint::of)
    }

    /// Sends a hello.
    ///
    /// # Errors
    /// If the peer is gone.
    pub fn send_hello(&mut self, role: Party, purpose: Purpose) -> Result<(), ServiceError> {
        Ok(self.channel.send(&hello(role, purpose))?)
    }

    /// Receives the peer's hello.
    ///
    /// # Errors
    /// If the peer is something else, has another version, or the wrong role.
    pub fn receive_hello(&mut self, me: Party) -> Result<Purpose, ServiceError> {
        let mut hello = [0; HELLO];
        let (magic, rest) = hello.split_at_mut(MAGIC.len());
        self.read(magic)?;
        if magic != MAGIC {
            // A TLS record: a handshake or an alert.
            if matches!(magic, [0x15 | 0x16, 3, ..]) {
                return Err(ServiceError::Handshake(
                    "the peer speaks TLS, this side does not: it needs --certificate and --key".into(),
                ));
            }
            let text: String =
                magic.iter().map(|&b| if (b' '..=b'~').contains(&b) { b as char } else { '.' }).collect();
            return Err(ServiceError::Handshake(format!("the peer does not speak this protocol; it sent \"{text}\"")));
        }
        self.read(rest)?;
        accept(me, &hello)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the peer is gone.
    pub fn send(&mut self, message: &Message) -> Result<(), ServiceError> {
        let text = serde_json::to_vec(message).expect("messages have a JSON form");
        debug_assert!(text.len() <= MAX_MESSAGE);
        Ok(self.channel.send(&[&(text.len() as u32).to_le_bytes(), &text[..]].concat())?)
    }

    /// Tells the peer why the connection ends, if there is something to tell, and ends it such that it arrives.
    pub fn refuse(mut self, reason: &ServiceError) {
        // It may be gone; then nobody needs to know.
        let _ = match reason {
            ServiceError::Busy(retry) => self.send(&Message::Busy(retry.as_millis() as u64)),
            reason if reason.is_news() => self.send(&Message::Refusal(reason.for_peer())),
            _ => Ok(()),
        };
        self.channel.close();
    }

    /// Sends the public tensors of a model's client.
    ///
    /// # Errors
    /// If the peer is gone.
    pub fn send_tensors(&mut self, bytes: &[u8]) -> Result<(), ServiceError> {
        bytes.chunks(TENSORS_PART).try_for_each(|part| self.send(&Message::Tensors(BASE64.encode(part))))
    }

    /// Receives them: `n` bytes, which the caller has bounded.
    ///
    /// # Errors
    /// If the peer sent something else.
    pub fn receive_tensors(&mut self, n: usize) -> Result<Vec<u8>, ServiceError> {
        let mut bytes = Vec::new();
        while bytes.len() < n {
            let part = match self.receive()? {
                Message::Tensors(part) => BASE64.decode(part).unwrap_or_default(),
                other => return Err(unexpected(&other)),
            };
            if part.is_empty() || part.len() > n - bytes.len() {
                return Err(ServiceError::Handshake("the peer sent malformed tensors".into()));
            }
            bytes.extend(part);
        }
        Ok(bytes)
    }

    /// Receives a message.
    ///
    /// # Errors
    /// If the peer refused, or sent something that is not a message.
    pub fn receive(&mut self) -> Result<Message, ServiceError> {
        let mut len = [0; 4];
        self.read(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_MESSAGE {
            let what = format!("the peer announced a message of {len} bytes, {MAX_MESSAGE} are allowed");
            return Err(ServiceError::Handshake(what));
        }
        let mut text = vec![0; len];
        self.read(&mut text)?;
        match serde_json::from_slice(&text) {
            Ok(Message::Refusal(reason)) => Err(ServiceError::Refused(printable(&reason))),
            Ok(Message::Busy(retry)) => Err(ServiceError::Busy(Duration::from_millis(retry.min(MAX_RETRY)))),
            Ok(message) => Ok(message),
            Err(e) => {
                let what = format!("the peer sent a malformed message: {}", printable(&e.to_string()));
                Err(ServiceError::Handshake(what))
            }
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let end = Instant::now() + self.limits.message(out.len());
        self.channel.recv_until(out, self.end.map_or(end, |all| end.min(all)))
    }
}

/// The message that should have been another.
pub(super) fn unexpected(message: &Message) -> ServiceError {
    let name = match message {
        Message::Offer(_) => "an offer",
        Message::Tensors(_) => "tensors",
        Message::Request(_) => "a request",
        Message::Choice(_) => "a choice",
        Message::Plans(_) => "plans",
        Message::Queued(_) => "a place in the queue",
        Message::Start => "a start",
        Message::Busy(_) => "that it is busy",
        Message::Done => "that it is done",
        Message::Echo(_) => "an echo",
        Message::Refusal(_) => "a refusal",
    };
    ServiceError::Handshake(format!("the peer sent {name} out of turn"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
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
    fn the_whole_handshake_has_an_end() {
        let (mut control, mut peer) = pair();
        control.set_end(Some(Instant::now() + Duration::from_millis(150)));
        let trickle = std::thread::spawn(move || {
            while peer.write_all(&[0]).is_ok() {
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        let e = control.receive_hello(Party::P0).unwrap_err();
        assert!(matches!(e, ServiceError::Network(Error::Slow { .. })), "{e}");
        drop(control);
        trickle.join().unwrap();
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
