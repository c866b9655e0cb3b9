//! Both parties in one process, one thread each.

use super::{Channel, Clock, Counter, Limits, Traffic, Transcript};
use crate::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

/// One end of an in-memory connection. It also measures rounds: every packet carries the number of one-way delays on
/// the longest chain of messages that led to it.
#[derive(Debug)]
pub struct MemChannel {
    to: Sender<(u32, Vec<u8>)>,
    from: Receiver<(u32, Vec<u8>)>,
    packet: Vec<u8>,
    taken: usize,
    depth: u32,
    counter: Counter,
    limits: Limits,
}

impl MemChannel {
    /// Two connected ends.
    pub fn pair() -> (Self, Self) {
        let (to1, from0) = channel();
        let (to0, from1) = channel();
        let end = |to, from| Self {
            to,
            from,
            packet: Vec::new(),
            taken: 0,
            depth: 0,
            counter: Counter::default(),
            limits: Limits::default(),
        };
        (end(to1, from1), end(to0, from0))
    }

    /// Keeps a record of all that is sent and received from now on.
    pub fn record(&mut self) {
        self.counter.record();
    }

    /// Rounds so far, as this end sees them: one-way delays on the longest chain of messages that ended here.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

impl Channel for MemChannel {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if !bytes.is_empty() {
            self.counter.sent(bytes);
            self.to.send((self.depth + 1, bytes.to_vec())).map_err(|_| Error::Closed("it was sent a message"))?;
        }
        Ok(())
    }

    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        let mut clock = Clock::new(self.limits, out.len());
        while filled < out.len() {
            if self.taken == self.packet.len() {
                let (depth, packet) = self.from.recv_timeout(clock.left()?).map_err(|e| match e {
                    RecvTimeoutError::Timeout => clock.left().err().unwrap_or(Error::Deadline(self.limits.deadline)),
                    RecvTimeoutError::Disconnected => Error::Closed("a message was expected"),
                })?;
                self.depth = self.depth.max(depth);
                self.packet = packet;
                self.taken = 0;
                clock.progress();
            }
            let n = (out.len() - filled).min(self.packet.len() - self.taken);
            out[filled..filled + n].copy_from_slice(&self.packet[self.taken..self.taken + n]);
            self.taken += n;
            filled += n;
        }
        self.counter.received(out);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        self.counter.traffic
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    fn transcript(&self) -> Option<Transcript> {
        self.counter.transcript()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_bytes_turns_and_rounds() {
        let (mut a, mut b) = MemChannel::pair();
        let mut x = [0; 3];
        a.send(b"ab").unwrap();
        a.send(b"c").unwrap();
        b.send(b"xyz").unwrap();
        a.recv(&mut x).unwrap();
        assert_eq!(&x, b"xyz");
        b.recv(&mut x[..1]).unwrap();
        b.recv(&mut x[1..]).unwrap();
        assert_eq!(&x, b"abc");
        a.send(b"d").unwrap();
        b.recv(&mut x[..1]).unwrap();
        assert_eq!(a.traffic(), Traffic { sent: 4, received: 3, turns: 1 });
        assert_eq!(b.traffic(), Traffic { sent: 3, received: 4, turns: 1 });
        assert_eq!((a.depth(), b.depth()), (1, 2));
    }

    #[test]
    fn reports_silence_and_death() {
        let (mut a, b) = MemChannel::pair();
        a.set_limits(Limits::within(std::time::Duration::from_millis(5)));
        assert!(matches!(a.recv(&mut [0]), Err(Error::Deadline(_))));
        drop(b);
        assert!(matches!(a.recv(&mut [0]), Err(Error::Closed(_))));
        assert!(matches!(a.send(&[0]), Err(Error::Closed(_))));
    }
}
