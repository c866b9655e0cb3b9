//! A simulated network: outgoing bytes wait as long as bandwidth and latency demand, and no longer.

use super::{Limits, socket::Outgoing};
use crate::Error;
use std::{
    str::FromStr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A full-duplex link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Bandwidth of each direction.
    pub bits_per_second: f64,
    /// One-way latency: half of the round-trip time.
    pub latency: Duration,
}

impl Link {
    /// Two processes of one machine: 20 Gbit/s, 0.02 ms round trip.
    pub const LOOPBACK: Self = Self { bits_per_second: 20e9, latency: Duration::from_micros(10) };
    /// The paper's LAN: 3 Gbit/s, 0.8 ms round trip.
    pub const LAN: Self = Self { bits_per_second: 3e9, latency: Duration::from_micros(400) };
    /// The paper's WAN: 200 Mbit/s, 40 ms round trip.
    pub const WAN: Self = Self { bits_per_second: 200e6, latency: Duration::from_millis(20) };

    fn transmission(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 * 8.0 / self.bits_per_second)
    }
}

impl FromStr for Link {
    type Err = String;

    /// `loopback`, `lan`, `wan`, or `MBIT,MS`: bandwidth in Mbit/s and round-trip time in milliseconds.
    fn from_str(s: &str) -> Result<Self, String> {
        let parse = |s: &str| s.trim().parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0);
        match s {
            "loopback" => Ok(Self::LOOPBACK),
            "lan" => Ok(Self::LAN),
            "wan" => Ok(Self::WAN),
            _ => match s.split_once(',').map(|(mbit, ms)| (parse(mbit), parse(ms))) {
                // A link that would take hours for a message is a typing error.
                Some((Some(mbit), Some(ms))) if mbit >= 0.001 && ms <= 60_000.0 => {
                    Ok(Self { bits_per_second: mbit * 1e6, latency: Duration::from_secs_f64(ms / 2e3) })
                }
                _ => {
                    Err(format!("'{s}' is not a link: loopback, lan, wan, or MBIT,MS (bandwidth and round-trip time)"))
                }
            },
        }
    }
}

/// Bytes that may wait for a simulated link before [`super::Channel::flush`] holds the sender back, like a send buffer.
const BACKLOG: usize = 4 << 20;

/// Largest piece that is delivered at once.
const PIECE: usize = 64 << 10;

/// Rest of a wait that is spun instead of slept, because sleeping is not precise.
const SPIN: Duration = Duration::from_micros(80);

/// What stands between a party and its socket: a thread that releases bytes at the time at which a real link would
/// deliver them. Dropping it delivers what is still under way.
#[derive(Debug)]
pub(super) struct Delay {
    to_link: Option<Sender<(Instant, Vec<u8>)>>,
    backlog: Arc<Backlog>,
    thread: Option<JoinHandle<()>>,
}

/// What the link still has to release, and whether it gave up.
#[derive(Debug, Default)]
struct Backlog {
    state: Mutex<(usize, Option<Error>)>,
    changed: Condvar,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, (usize, Option<Error>)> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn release(&self, bytes: usize) {
        self.lock().0 -= bytes;
        self.changed.notify_all();
    }

    fn fail(&self, e: Error) {
        *self.lock() = (0, Some(e));
        self.changed.notify_all();
    }
}

impl Delay {
    pub(super) fn new(socket: Arc<Outgoing>, link: Link) -> Result<Self, Error> {
        let (to_link, from_party) = channel();
        let backlog = Arc::new(Backlog::default());
        let thread = std::thread::Builder::new().name("link".into()).spawn({
            let backlog = backlog.clone();
            move || {
                if let Err(e) = release(&socket, link, &from_party, &backlog) {
                    backlog.fail(e);
                }
            }
        })?;
        Ok(Self { to_link: Some(to_link), backlog, thread: Some(thread) })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut state = self.backlog.lock();
        state.1.take().map_or(Ok(()), Err)?;
        state.0 += bytes.len();
        drop(state);
        let gone = || Error::Closed("it was sent a message");
        let to_link = self.to_link.as_ref().ok_or_else(gone)?;
        to_link.send((Instant::now(), bytes.to_vec())).map_err(|_| gone())
    }

    /// Holds the sender back while too much is under way.
    pub(super) fn flush(&mut self, limits: Limits) -> Result<(), Error> {
        let mut state = self.backlog.lock();
        while state.0 > BACKLOG {
            let before = state.0;
            let (next, timeout) =
                self.backlog.changed.wait_timeout(state, limits.deadline).unwrap_or_else(|e| e.into_inner());
            state = next;
            if timeout.timed_out() && state.0 == before {
                return Err(Error::Unread(limits.deadline));
            }
        }
        state.1.take().map_or(Ok(()), Err)
    }
}

/// The thread's work.
fn release(
    socket: &Arc<Outgoing>,
    link: Link,
    messages: &Receiver<(Instant, Vec<u8>)>,
    backlog: &Backlog,
) -> Result<(), Error> {
    let mut free = Instant::now();
    for (queued, message) in messages {
        free = free.max(queued);
        for piece in message.chunks(PIECE) {
            free += link.transmission(piece.len());
            let at = free + link.latency;
            let left = at.saturating_duration_since(Instant::now());
            if left > SPIN {
                std::thread::sleep(left - SPIN);
            }
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            socket.push(piece)?;
            backlog.release(piece.len());
        }
    }
    Ok(())
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.to_link = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Channel, TcpChannel, Traffic, tcp::tests::sockets},
        *,
    };

    fn pair(link: Link) -> (TcpChannel, TcpChannel) {
        let (a, b) = sockets();
        let end = |s| {
            let mut channel = TcpChannel::new(s).unwrap();
            channel.simulate(link).unwrap();
            channel
        };
        (end(a), end(b))
    }

    #[test]
    fn round_trips_cost_twice_the_latency_and_exchanges_cost_it_once() {
        let link: Link = "1000,10".parse().unwrap();
        let (mut a, mut b) = pair(link);
        let together = std::sync::Barrier::new(2);
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut x = [0; 8];
                for _ in 0..3 {
                    b.recv(&mut x).unwrap();
                    b.send(&x).unwrap();
                }
                together.wait();
                b.send(&x).unwrap();
                b.recv(&mut x).unwrap();
            });
            let mut x = [7; 8];
            let start = Instant::now();
            for _ in 0..3 {
                a.send(&x).unwrap();
                a.recv(&mut x).unwrap();
            }
            assert!(start.elapsed() >= 6 * link.latency, "{:?}", start.elapsed());
            let start = Instant::now();
            together.wait();
            a.send(&x).unwrap();
            a.recv(&mut x).unwrap();
            assert!(start.elapsed() >= link.latency, "{:?}", start.elapsed());
        });
        assert_eq!(a.traffic(), Traffic { sent: 32, received: 32, turns: 4 });
    }

    #[test]
    fn bandwidth_is_respected_and_sending_does_not_wait() {
        let (mut a, mut b) = pair(Link { bits_per_second: 100e6, latency: Duration::from_millis(5) });
        let start = Instant::now();
        a.send(&vec![5; 1_250_000]).unwrap();
        assert!(start.elapsed() < Duration::from_millis(100));
        let mut x = vec![0; 1_250_000];
        b.recv(&mut x).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(105), "{:?}", start.elapsed());
        assert!(x.iter().all(|&y| y == 5));
    }

    #[test]
    fn dropping_delivers_and_death_is_reported() {
        let (mut a, mut b) = pair(Link { bits_per_second: 1e9, latency: Duration::from_millis(2) });
        a.send(&[9; 100]).unwrap();
        drop(a);
        b.recv(&mut [0; 100]).unwrap();
        assert!(matches!(b.recv(&mut [0]), Err(Error::Closed(_))));
    }

    #[test]
    fn names_of_links() {
        assert_eq!("lan".parse(), Ok(Link::LAN));
        assert_eq!("wan".parse(), Ok(Link::WAN));
        let link: Link = "200, 40".parse().unwrap();
        assert_eq!(link, Link::WAN);
        for bad in ["", "none", "1", "0,1", "1,-1", "NaN,1", "inf,1", "1,1e9"] {
            assert!(bad.parse::<Link>().is_err(), "{bad}");
        }
    }
}
