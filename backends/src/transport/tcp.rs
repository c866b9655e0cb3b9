//! TCP without threads: a nonblocking socket, a queue for what it does not take, brief spinning before blocking.

use super::{Channel, Counter, DEFAULT_DEADLINE, Traffic};
use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

/// How long to try again before blocking: an idle wake-up costs about 25 us, so that spinning twice as long pays off
/// whenever the peer answers promptly.
const SPIN: Duration = Duration::from_micros(50);

/// A TCP connection.
#[derive(Debug)]
pub struct TcpChannel {
    stream: TcpStream,
    queue: VecDeque<u8>,
    pub(super) counter: Counter,
    deadline: Duration,
}

/// Connects, trying again while the server is not there yet, for at most `timeout`.
pub fn connect_with_retry(addr: impl ToSocketAddrs, timeout: Duration) -> Result<TcpStream, Error> {
    let start = Instant::now();
    let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "the name has no address");
    loop {
        for a in addr.to_socket_addrs()? {
            let left = timeout.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&a, left) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            }
        }
        if start.elapsed() >= timeout {
            return Err(last.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl TcpChannel {
    /// Wraps a connected socket.
    pub fn new(stream: TcpStream) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, queue: VecDeque::new(), counter: Counter::default(), deadline: DEFAULT_DEADLINE })
    }

    /// The socket, for a second writer.
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes what the socket takes; whether it took anything.
    fn pump(&mut self) -> Result<bool, Error> {
        let mut progress = false;
        while !self.queue.is_empty() {
            let (a, b) = self.queue.as_slices();
            match taken((&self.stream).write_vectored(&[IoSlice::new(a), IoSlice::new(b)]))? {
                0 => break,
                n => {
                    self.queue.drain(..n);
                    progress = true;
                }
            }
        }
        Ok(progress)
    }
}

/// The result of a write: bytes taken, 0 if the socket is full.
fn taken(result: io::Result<usize>) -> Result<usize, Error> {
    match result {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(e) if gone(&e) => Err(Error::Closed("it was sent a message")),
        other => Ok(other?),
    }
}

fn gone(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

/// Waits between attempts: spins at first, then blocks in poll(2) until the socket is ready, fails at the deadline.
/// To be made anew after every progress.
pub(super) struct Waiter {
    since: Option<Instant>,
    deadline: Duration,
}

impl Waiter {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { since: None, deadline }
    }

    pub(super) fn wait(&mut self, stream: &TcpStream, flags: PollFlags) -> Result<(), Error> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited < SPIN {
            std::hint::spin_loop();
            return Ok(());
        }
        let left = self.deadline.checked_sub(waited).ok_or(Error::Deadline(self.deadline))?;
        let timeout = Timespec::try_from(left).map_err(|_| Error::Deadline(self.deadline))?;
        match poll(&mut [PollFd::new(stream, flags)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(io::Error::from(e).into()),
        }
    }
}

impl Channel for TcpChannel {
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.counter.sent(bytes.len());
        self.pump()?;
        while self.queue.is_empty() && !bytes.is_empty() {
            match taken((&self.stream).write(bytes))? {
                0 => break,
                n => bytes = &bytes[n..],
            }
        }
        self.queue.extend(bytes);
        Ok(())
    }

    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.counter.received(out.len());
        let mut filled = 0;
        let mut waiter = Waiter::new(self.deadline);
        while filled < out.len() {
            let mut progress = self.pump()?;
            match (&self.stream).read(&mut out[filled..]) {
                Ok(0) => return Err(Error::Closed("a message was expected")),
                Ok(n) => {
                    filled += n;
                    progress = true;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) if gone(&e) => return Err(Error::Closed("a message was expected")),
                Err(e) => return Err(e.into()),
            }
            if progress {
                waiter = Waiter::new(self.deadline);
            } else {
                let also = if self.queue.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                waiter.wait(&self.stream, PollFlags::IN | also)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut waiter = Waiter::new(self.deadline);
        loop {
            let progress = self.pump()?;
            if self.queue.is_empty() {
                return Ok(());
            }
            if progress {
                waiter = Waiter::new(self.deadline);
            } else {
                waiter.wait(&self.stream, PollFlags::OUT)?;
            }
        }
    }

    fn traffic(&self) -> Traffic {
        self.counter.traffic
    }

    fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Both ends of a loopback connection.
    pub(in super::super) fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let a = connect_with_retry(addr, Duration::from_secs(5)).unwrap();
        (a, listener.accept().unwrap().0)
    }

    fn pair() -> (TcpChannel, TcpChannel) {
        let (a, b) = sockets();
        (TcpChannel::new(a).unwrap(), TcpChannel::new(b).unwrap())
    }

    #[test]
    fn both_may_send_much_before_either_receives() {
        const N: usize = 32 << 20;
        let (mut a, mut b) = pair();
        let run = |c: &mut TcpChannel, mine: u8, theirs: u8| {
            c.send(&vec![mine; N]).unwrap();
            let mut x = vec![0; N];
            c.recv(&mut x).unwrap();
            c.flush().unwrap();
            assert!(x.iter().all(|&y| y == theirs));
            assert_eq!(c.traffic(), Traffic { sent: N as u64, received: N as u64, turns: 1 });
        };
        std::thread::scope(|s| {
            s.spawn(|| run(&mut a, 1, 2));
            run(&mut b, 2, 1);
        });
    }

    #[test]
    fn reports_silence_and_death() {
        let (mut a, mut b) = pair();
        a.set_deadline(Duration::from_millis(20));
        b.send(&[1]).unwrap();
        assert!(matches!(a.recv(&mut [0; 2]), Err(Error::Deadline(_))));
        b.set_deadline(Duration::from_millis(20));
        b.send(&vec![0; 64 << 20]).unwrap();
        assert!(matches!(b.flush(), Err(Error::Deadline(_))));
        drop(b);
        let mut all = vec![0; 65 << 20];
        assert!(matches!(a.recv(&mut all), Err(Error::Closed(_))));
    }

    #[test]
    fn retries_until_the_timeout() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(connect_with_retry(free, Duration::from_millis(60)), Err(Error::Io(_))));
    }
}
