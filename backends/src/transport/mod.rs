//! Frames between the two parties: in memory, over TCP, with a simulated link; exact counters and deadlines.

use crate::Error;
use std::time::Duration;

/// What went through a channel so far. Bytes include our own headers, not TCP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Times in which this party stopped to wait for its peer's next message.
    pub turns: u64,
}

/// A bidirectional ordered byte stream to the peer. `send` never waits for the peer to read (it queues what the
/// system does not take), so that both parties may send before either receives.
pub trait Channel: Send {
    /// Queues bytes for the peer.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error>;
    /// Receives exactly `out.len()` bytes, sending what is queued meanwhile. Fails after the deadline without progress.
    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error>;
    /// Sends everything queued.
    fn flush(&mut self) -> Result<(), Error>;
    /// Counters.
    fn traffic(&self) -> Traffic;
    /// Longest silence that is not an error.
    fn set_deadline(&mut self, deadline: Duration);
}
