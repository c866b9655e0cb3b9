//! Frames between the two parties: in memory, over TCP, with a simulated link; exact counters and deadlines.

mod link;
mod mem;
mod tcp;

pub use link::{Link, SimulatedLink};
pub use mem::MemChannel;
pub use tcp::{TcpChannel, connect_with_retry};

use crate::Error;
use std::time::Duration;

/// Longest silence of the peer that is not an error, unless [`Channel::set_deadline`] says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// What went through a channel so far. Bytes include our own headers, not TCP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Times in which this party stopped to wait for its peer's next message: receptions right after a sending.
    pub turns: u64,
}

/// A bidirectional ordered byte stream to the peer. `send` never waits for the peer to read (it queues what the
/// system does not take), so that both parties may send before either receives.
pub trait Channel: Send {
    /// Queues bytes for the peer.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error>;
    /// Receives exactly `out.len()` bytes, sending what is queued meanwhile. Fails after the deadline without progress.
    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error>;
    /// Hands everything queued to the system; waits while the peer does not read. To be called before a party stops
    /// receiving for long or drops the channel.
    fn flush(&mut self) -> Result<(), Error>;
    /// Counters.
    fn traffic(&self) -> Traffic;
    /// Longest silence that is not an error.
    fn set_deadline(&mut self, deadline: Duration);
}

/// Counters and the direction of the last call, kept alike by all channels.
#[derive(Debug, Default)]
struct Counter {
    traffic: Traffic,
    sending: bool,
}

impl Counter {
    fn sent(&mut self, bytes: usize) {
        self.traffic.sent += bytes as u64;
        self.sending |= bytes > 0;
    }

    fn received(&mut self, bytes: usize) {
        self.traffic.received += bytes as u64;
        if bytes > 0 && std::mem::take(&mut self.sending) {
            self.traffic.turns += 1;
        }
    }
}
