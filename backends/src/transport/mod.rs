//! Byte streams between the two parties: in memory, over TCP, in TLS, with a simulated link; exact counters, limits of
//! time, and a record of all that was said.
//!
//! | file | content |
//! |---|---|
//! | `socket` | a nonblocking socket whose unsent bytes never depend on what its owner does next |
//! | `tls` | TLS 1.3 records around the bytes of a socket |
//! | `link` | a simulated network in front of a socket |
//! | `tcp` | the channel over these |
//! | `mem` | the channel inside one process |

mod link;
mod mem;
mod socket;
mod tcp;
mod tls;

pub use link::Link;
pub use mem::MemChannel;
pub use socket::Handle;
pub use tcp::{TcpChannel, connect_with_retry};

use crate::Error;
use std::time::{Duration, Instant};

/// How long a party waits for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest silence.
    pub deadline: Duration,
    /// Slowest rate at which a message may come, in bits per second: a message is late when it took the deadline and
    /// its length at this rate, however evenly its bytes trickle in.
    pub min_rate: u64,
}

impl Default for Limits {
    /// A minute, and 64 kbit/s.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), min_rate: 64_000 }
    }
}

impl Limits {
    /// The default rate with another deadline.
    pub fn within(deadline: Duration) -> Self {
        Self { deadline, ..Self::default() }
    }

    /// Longest time for a message of `bytes` bytes.
    pub fn message(&self, bytes: usize) -> Duration {
        self.deadline + Duration::from_secs_f64(bytes as f64 * 8.0 / self.min_rate.max(1) as f64)
    }
}

/// What went through a channel so far. Bytes include our own headers, not those of TLS and TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Times in which this party stopped to wait for its peer's next message: receptions right after a sending.
    pub turns: u64,
}

impl Traffic {
    /// What went through after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            received: self.received - before.received,
            turns: self.turns - before.turns,
        }
    }
}

/// Digests of all that a channel sent and received. The peer's are the same, the other way round, unless something
/// changed bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Of the bytes sent.
    pub sent: [u8; 32],
    /// Of the bytes received.
    pub received: [u8; 32],
}

/// A bidirectional ordered byte stream to the peer.
///
/// `send` never waits for the peer to read, so that both parties may send before either receives; and what was sent is
/// under way whatever the sender does next. So a party may sleep for any reason, for instance until correlations were
/// made, and its peer still gets what was sent before.
pub trait Channel: Send {
    /// Gives bytes to the peer.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error>;
    /// Receives exactly `out.len()` bytes, a message. Fails when a limit is reached.
    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error>;
    /// Waits until the system has everything that was sent. It bounds the memory of a sender whose peer is slow, and is
    /// to be called before a process ends.
    fn flush(&mut self) -> Result<(), Error>;
    /// Counters.
    fn traffic(&self) -> Traffic;
    /// For how long the peer is waited for.
    fn set_limits(&mut self, limits: Limits);
    /// What was sent and received, if the channel keeps a record.
    fn transcript(&self) -> Option<Transcript> {
        None
    }
}

/// Counters, the direction of the last call and the record, kept alike by all channels.
#[derive(Debug, Default)]
struct Counter {
    traffic: Traffic,
    sending: bool,
    record: Option<Box<[blake3::Hasher; 2]>>,
}

impl Counter {
    fn record(&mut self) {
        self.record = Some(Box::default());
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.traffic.sent += bytes.len() as u64;
        self.sending |= !bytes.is_empty();
        if let Some(record) = &mut self.record {
            record[0].update(bytes);
        }
    }

    /// To be called when a message was received as a whole.
    fn received(&mut self, bytes: &[u8]) {
        self.traffic.received += bytes.len() as u64;
        if !bytes.is_empty() && std::mem::take(&mut self.sending) {
            self.traffic.turns += 1;
        }
        if let Some(record) = &mut self.record {
            record[1].update(bytes);
        }
    }

    fn transcript(&self) -> Option<Transcript> {
        let [sent, received] = self.record.as_ref()?.each_ref().map(|h| *h.finalize().as_bytes());
        Some(Transcript { sent, received })
    }
}

/// The clock of one message: how long it may still take.
struct Clock {
    limits: Limits,
    bytes: usize,
    start: Instant,
    end: Instant,
    progress: Instant,
}

impl Clock {
    fn new(limits: Limits, bytes: usize) -> Self {
        let now = Instant::now();
        Self { limits, bytes, start: now, end: now + limits.message(bytes), progress: now }
    }

    /// The peer did something.
    fn progress(&mut self) {
        self.progress = Instant::now();
    }

    /// Time since then.
    fn silence(&self) -> Duration {
        self.progress.elapsed()
    }

    /// How long to wait at most for the next thing to happen.
    fn left(&self) -> Result<Duration, Error> {
        let Self { limits: Limits { deadline, .. }, bytes, start, end, progress } = *self;
        let silence = deadline.checked_sub(progress.elapsed()).filter(|d| !d.is_zero());
        let whole = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero());
        match (silence, whole) {
            (Some(silence), Some(whole)) => Ok(silence.min(whole)),
            (None, _) => Err(Error::Deadline(deadline)),
            (_, None) if progress == start => Err(Error::Deadline(deadline)),
            _ => Err(Error::Slow { bytes, limit: end - start }),
        }
    }
}

/// Longest text of a peer that is shown.
const SHOWN: usize = 300;

/// What a peer, or a file, says, as one line of printable characters.
pub fn printable(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    line.trim().to_string()
}
