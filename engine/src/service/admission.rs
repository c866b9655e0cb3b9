//! Who gets in: places for connections that have not yet agreed on a request, and slots, memory and a queue for those that have.
//!
//! A stranger costs a server a thread and a socket until it has said what it wants, so that there is only a number of places
//! for such. When all are taken the newest connection gets the place of another: of the address that has most of them, of one that
//! has said least, of the oldest. Whoever speaks promptly is not the one who has to go.

use super::ServiceError;
use sirnn_backends::transport::Handle;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Connections that have not agreed on a request: in all.
const PLACES: usize = 512;
/// Of one address.
const PLACES_OF_ADDRESS: usize = 256;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has said nothing.
    Connected,
    /// It speaks the protocol.
    Greeted,
    /// It has made a request that could be granted.
    Requested,
}

/// The places.
#[derive(Default)]
pub(super) struct Places(Mutex<Guests>);

#[derive(Default)]
struct Guests {
    next: u64,
    /// By number, which is by age.
    guests: HashMap<u64, Guest>,
}

struct Guest {
    address: IpAddr,
    stage: Stage,
    handle: Handle,
}

/// A place; free again when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a place for a connection; another may lose its own.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, handle: Handle) -> Place {
        let mut state = self.lock();
        let mut of_address: HashMap<IpAddr, usize> = HashMap::new();
        for guest in state.guests.values() {
            *of_address.entry(guest.address).or_default() += 1;
        }
        let here = of_address.get(&address).copied().unwrap_or(0);
        let crowded = if here >= PLACES_OF_ADDRESS {
            Some(address)
        } else if state.guests.len() >= PLACES {
            of_address.into_iter().max_by_key(|(_, n)| *n).map(|(address, _)| address)
        } else {
            None
        };
        if let Some(crowded) = crowded {
            let guests = state.guests.iter().filter(|(_, g)| g.address == crowded);
            if let Some(number) = guests.min_by_key(|(number, g)| (g.stage, **number)).map(|(number, _)| *number)
                && let Some(guest) = state.guests.remove(&number)
            {
                guest.handle.close();
            }
        }
        let number = state.next;
        state.next += 1;
        state.guests.insert(number, Guest { address, stage: Stage::Connected, handle });
        Place { places: self.clone(), number }
    }

    /// Ends all connections that have a place.
    pub(super) fn clear(&self) {
        self.lock().guests.drain().for_each(|(_, guest)| guest.handle.close());
    }
}

impl Place {
    /// The connection is a step further.
    pub(super) fn reach(&self, stage: Stage) {
        if let Some(guest) = self.places.lock().guests.get_mut(&self.number) {
            guest.stage = stage;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().guests.remove(&self.number);
    }
}

/// What sessions share.
pub(super) struct Slots {
    /// Sessions at the same time.
    sessions: usize,
    /// Bytes of memory of all of them.
    memory: u64,
    /// Most requests that wait.
    queue: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    memory: u64,
    next: u64,
    waiting: VecDeque<u64>,
    closed: bool,
    /// Mean duration of a session, of late.
    duration: Duration,
}

/// A running session's share; free again when it is dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    memory: u64,
    since: Instant,
}

/// How often the position is told, and looked after.
const TICK: Duration = Duration::from_millis(100);

impl Slots {
    pub(super) fn new(sessions: usize, memory: u64, queue: usize) -> Self {
        Self { sessions, memory, queue, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn has_room(&self, state: &State, memory: u64) -> bool {
        state.running < self.sessions && state.memory.saturating_add(memory) <= self.memory
    }

    /// Waits for a slot and `memory` bytes, in the order of arrival. Meanwhile `waiting` is told, over and over, how many
    /// requests come first; its error ends the wait.
    ///
    /// # Errors
    /// The queue is full, the server ends, or `waiting` says so.
    pub(super) fn take(
        self: &Arc<Self>,
        memory: u64,
        mut waiting: impl FnMut(u64) -> Result<(), ServiceError>,
    ) -> Result<Slot, ServiceError> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let must_wait = !state.waiting.is_empty() || !self.has_room(&state, memory);
        if must_wait && state.waiting.len() >= self.queue {
            // The time in which those before will be served, roughly.
            let turns = (state.waiting.len() + 1).div_ceil(self.sessions.max(1)) as u32;
            let retry = (state.duration * turns).clamp(Duration::from_secs(1), Duration::from_secs(600));
            return Err(ServiceError::Busy(retry));
        }
        state.waiting.push_back(number);
        let mut told = Instant::now();
        let mut first = true;
        loop {
            if state.closed {
                state.waiting.retain(|n| *n != number);
                return Err(ServiceError::Ended("the server shuts down".into()));
            }
            let position = state.waiting.iter().position(|n| *n == number).unwrap_or(0);
            if position == 0 && self.has_room(&state, memory) {
                state.waiting.pop_front();
                state.running += 1;
                state.memory += memory;
                self.changed.notify_all();
                return Ok(Slot { slots: self.clone(), memory, since: Instant::now() });
            }
            if std::mem::take(&mut first) || told.elapsed() >= TICK {
                drop(state);
                let goes_on = waiting(position as u64 + 1);
                told = Instant::now();
                state = self.lock();
                if let Err(e) = goes_on {
                    state.waiting.retain(|n| *n != number);
                    self.changed.notify_all();
                    return Err(e);
                }
                // Something may have happened meanwhile.
                continue;
            }
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Nobody gets a slot any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Running sessions and waiting requests.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting.len())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.running -= 1;
        state.memory -= self.memory;
        let took = self.since.elapsed();
        state.duration = if state.duration.is_zero() { took } else { (state.duration * 3 + took) / 4 };
        drop(state);
        self.slots.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirnn_backends::transport::TcpChannel;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::mpsc::channel;

    #[test]
    fn slots_are_taken_in_order_and_within_memory() {
        let slots = Arc::new(Slots::new(2, 100, 2));
        let first = slots.take(60, |_| panic!("there is room")).unwrap();
        let (told, positions) = channel();
        std::thread::scope(|s| {
            let mut others = Vec::new();
            for memory in [60, 10] {
                let (slots, told) = (slots.clone(), told.clone());
                others.push(s.spawn(move || {
                    let tell = |position| told.send(position).map_err(|e| ServiceError::Internal(e.to_string()));
                    slots.take(memory, tell).map(drop)
                }));
                // The second one would fit, but came later.
                let expected = others.len() as u64;
                while positions.recv().unwrap() != expected {}
            }
            assert!(matches!(slots.take(1, |_| Ok(())), Err(ServiceError::Busy(_))));
            assert_eq!(slots.load(), (1, 2));
            drop(first);
            others.into_iter().for_each(|t| t.join().unwrap().unwrap());
        });
        assert_eq!(slots.load(), (0, 0));
        let _all = slots.take(100, |_| Ok(())).unwrap();
        assert!(matches!(slots.take(1, |_| Err(ServiceError::Ended("gone".into()))), Err(ServiceError::Ended(_))));
        assert_eq!(slots.load(), (1, 0));
        slots.close();
        assert!(slots.take(1, |_| Ok(())).is_err());
    }

    #[test]
    fn the_silent_make_room() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let places = Arc::new(Places::default());
        let mut kept = Vec::new();
        let mut connect = |ip: IpAddr| {
            let peer = TcpStream::connect(address).unwrap();
            let channel = TcpChannel::new(listener.accept().unwrap().0).unwrap();
            let place = places.take(ip, channel.handle());
            let handle = channel.handle();
            kept.push((channel, peer));
            (place, handle)
        };
        let (crowd, other) = (IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V4(Ipv4Addr::new(2, 2, 2, 2)));
        let (honest, honest_handle) = connect(crowd);
        honest.reach(Stage::Greeted);
        let (_alone, alone_handle) = connect(other);
        let silent: Vec<_> = (1..PLACES_OF_ADDRESS).map(|_| connect(crowd)).collect();
        assert!(silent.iter().all(|(_, handle)| !handle.is_closed()));
        let _newest = connect(crowd);
        assert!(silent[0].1.is_closed() && !silent[1].1.is_closed());
        assert!(!honest_handle.is_closed() && !alone_handle.is_closed());
    }
}
