//! The channel over TCP, with or without TLS, with or without a simulated link.

use super::{
    Channel, Clock, Counter, Handle, Limits, Link, Traffic, Transcript,
    link::Delay,
    socket::Socket,
    tls::{Found, Tls},
};
use crate::Error;
use std::{
    io::{self, ErrorKind},
    net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

/// How long [`TcpChannel::close`] waits for the peer to close too.
const LINGER: Duration = Duration::from_millis(500);

/// A TCP connection.
#[derive(Debug)]
pub struct TcpChannel {
    // Dropped first: it says that nothing more will come.
    tls: Option<Box<Tls>>,
    socket: Socket,
    counter: Counter,
    limits: Limits,
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
        let socket = Socket::new(stream)?;
        Ok(Self { tls: None, socket, counter: Counter::default(), limits: Limits::default() })
    }

    /// Sets TLS up; from here on everything is sealed.
    ///
    /// # Errors
    /// Either side does not accept the other, or the peer does not speak TLS. That the peer does not accept this side's
    /// certificate may become known only when something is received.
    pub fn secure(&mut self, connection: rustls::Connection) -> Result<(), Error> {
        let mut tls = Tls::new(connection);
        let mut clock = Clock::new(self.limits, 0);
        tls.push(&mut self.socket)?;
        while tls.is_handshaking() {
            match tls.read(&mut self.socket, &mut [])? {
                // Progress is no reason for more time: a handshake is one message.
                Found::Bytes(_) | Found::Progress => {}
                Found::Nothing => self.socket.wait(&clock)?,
                Found::End => return Err(Error::Closed("TLS was being set up")),
            }
            clock.left()?;
        }
        clock.progress();
        self.tls = Some(Box::new(tls));
        Ok(())
    }

    /// The peer's certificate (DER), if there is TLS.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.peer_certificate()
    }

    /// Simulates a link for what this party sends from now on. The peer has to simulate its own direction.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn simulate(&mut self, link: Link) -> Result<(), Error> {
        self.socket.delay = Some(Delay::new(self.socket.outgoing(), link)?);
        Ok(())
    }

    /// Keeps a record of all that is sent and received from now on.
    pub fn record(&mut self) {
        self.counter.record();
    }

    /// For other threads.
    pub fn handle(&self) -> Handle {
        self.socket.handle()
    }

    /// Who the peer is.
    ///
    /// # Errors
    /// It is gone.
    pub fn peer_address(&self) -> Result<SocketAddr, Error> {
        Ok(self.socket.stream().peer_addr()?)
    }

    /// The first byte that the peer sends, which stays where it is: it tells TLS from plain bytes.
    ///
    /// # Errors
    /// It sends nothing, or is gone.
    pub fn first_byte(&mut self) -> Result<u8, Error> {
        let clock = Clock::new(self.limits, 1);
        let mut byte = [0];
        loop {
            match self.socket.stream().peek(&mut byte) {
                Ok(0) => return Err(Error::Closed("a message was expected")),
                Ok(_) => return Ok(byte[0]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.socket.wait(&clock)?;
                }
                Err(_) => return Err(Error::Closed("a message was expected")),
            }
        }
    }

    /// Ends the connection such that what was sent last arrives: a socket that is closed while something is unread
    /// takes back what the peer has not read.
    pub fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.end(&mut self.socket);
        }
        let _ = self.socket.flush(Limits { deadline: LINGER, ..self.limits });
        let _ = self.socket.stream().shutdown(Shutdown::Write);
        let clock = Clock::new(Limits::within(LINGER), 0);
        let mut unread = [0; 4096];
        while clock.left().is_ok() {
            match self.socket.read(&mut unread) {
                Ok(Some(0)) | Err(_) => break,
                Ok(Some(_)) => {}
                Ok(None) => {
                    if self.socket.wait(&clock).is_err() {
                        break;
                    }
                }
            }
        }
    }

    /// Reads what is there.
    fn read(&mut self, out: &mut [u8]) -> Result<Found, Error> {
        match &mut self.tls {
            Some(tls) => tls.read(&mut self.socket, out),
            None => Ok(match self.socket.read(out)? {
                None => Found::Nothing,
                Some(0) => Found::End,
                Some(n) => Found::Bytes(n),
            }),
        }
    }

    /// Receives a message of which `clock` may have seen a part.
    fn receive(&mut self, out: &mut [u8], mut clock: Clock) -> Result<(), Error> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read(&mut out[filled..])? {
                Found::Bytes(n) => {
                    filled += n;
                    clock.progress();
                    // Too slow is too slow, also without a pause.
                    if filled < out.len() {
                        clock.left()?;
                    }
                }
                Found::Progress => {}
                Found::Nothing => self.socket.wait(&clock)?,
                Found::End => return Err(Error::Closed("a message was expected")),
            }
        }
        self.counter.received(out);
        Ok(())
    }

    /// Receives a message that has to be there at `end`.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn recv_until(&mut self, out: &mut [u8], end: Instant) -> Result<(), Error> {
        let clock = Clock { end, ..Clock::new(self.limits, out.len()) };
        self.receive(out, clock)
    }
}

impl Channel for TcpChannel {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.counter.sent(bytes);
        match &mut self.tls {
            Some(tls) => tls.send(&mut self.socket, bytes),
            None => self.socket.push(bytes),
        }
    }

    fn recv(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let clock = Clock::new(self.limits, out.len());
        self.receive(out, clock)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.socket.flush(self.limits)
    }

    fn traffic(&self) -> Traffic {
        self.counter.traffic
    }

    fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.socket.set_deadline(limits.deadline);
    }

    fn transcript(&self) -> Option<Transcript> {
        self.counter.transcript()
    }
}

impl Drop for TcpChannel {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.end(&mut self.socket);
        }
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
    fn what_was_sent_arrives_whatever_the_sender_does() {
        const N: usize = 64 << 20;
        let (mut a, mut b) = pair();
        let (asleep, wake) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|s| {
            s.spawn(move || {
                a.send(&vec![7; N]).unwrap();
                // Not a call to the channel until the peer has everything.
                wake.recv().unwrap();
                a.send(&[8]).unwrap();
                drop(a);
            });
            let mut x = vec![0; N];
            b.recv(&mut x).unwrap();
            assert!(x.iter().all(|&y| y == 7));
            asleep.send(()).unwrap();
            b.recv(&mut x[..1]).unwrap();
            assert_eq!(x[0], 8);
        });
        // Also to be gone.
        let (mut a, mut b) = pair();
        a.send(&vec![9; N]).unwrap();
        drop(a);
        let mut x = vec![0; N];
        b.recv(&mut x).unwrap();
        assert!(x.iter().all(|&y| y == 9));
        assert!(matches!(b.recv(&mut [0]), Err(Error::Closed(_))));
    }

    #[test]
    fn reports_silence_and_death() {
        let (mut a, mut b) = pair();
        a.set_limits(Limits::within(Duration::from_millis(20)));
        b.send(&[1]).unwrap();
        assert!(matches!(a.recv(&mut [0; 2]), Err(Error::Deadline(_))));
        b.set_limits(Limits::within(Duration::from_millis(20)));
        b.send(&vec![0; 64 << 20]).unwrap();
        assert!(matches!(b.flush(), Err(Error::Unread(_))));
        let handle = b.handle();
        assert!(!handle.is_closed());
        handle.close();
        let mut all = vec![0; 65 << 20];
        assert!(matches!(a.recv(&mut all), Err(Error::Closed(_))));
        assert!(a.handle().is_closed());
    }

    #[test]
    fn a_message_that_trickles_is_late() {
        let (mut a, mut b) = pair();
        // 10 bytes at 1 kbit/s are 80 ms.
        a.set_limits(Limits { deadline: Duration::from_millis(100), min_rate: 1_000 });
        let trickle = std::thread::spawn(move || {
            while b.send(&[1]).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        assert!(matches!(a.recv(&mut [0; 10]), Err(Error::Slow { bytes: 10, .. })));
        drop(a);
        trickle.join().unwrap();
    }

    #[test]
    fn records_agree_unless_bytes_differ() {
        let (mut a, mut b) = pair();
        a.record();
        b.record();
        a.send(b"ab").unwrap();
        a.send(b"c").unwrap();
        let mut x = [0; 3];
        b.recv(&mut x).unwrap();
        b.send(b"d").unwrap();
        a.recv(&mut x[..1]).unwrap();
        let (mine, theirs) = (a.transcript().unwrap(), b.transcript().unwrap());
        assert_eq!((mine.sent, mine.received), (theirs.received, theirs.sent));
        a.send(b"e").unwrap();
        assert_ne!(a.transcript().unwrap().sent, b.transcript().unwrap().received);
    }

    #[test]
    fn retries_until_the_timeout() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(connect_with_retry(free, Duration::from_millis(60)), Err(Error::Io(_))));
    }
}
