//! A nonblocking socket with a queue for what the system does not take at once.
//!
//! One thread of the process, the *sender*, watches all sockets with queued bytes and hands them over as soon as
//! there is room. So progress of what was sent does not depend on the owner of the socket: it may compute, sleep, wait for
//! another thread or for another socket. That is what rules out dead-locks between two parties, each of which waits for
//! something that the other has sent but not yet handed to its system.

use super::{Clock, Limits, link::Delay};
use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak},
    time::{Duration, Instant},
};

/// How long to try again before blocking: an idle wake-up costs about 25 us, so that spinning twice as long pays off
/// whenever the peer answers promptly.
const SPIN: Duration = Duration::from_micros(50);

/// A queue that was longer gives its memory back when it is empty.
const KEPT: usize = 1 << 20;

/// How often queues without an owner are looked at.
const ORPHANS: Duration = Duration::from_millis(200);

/// A connected socket. When it is dropped what is queued is still delivered, as long as the peer reads.
#[derive(Debug)]
pub(super) struct Socket {
    outgoing: Arc<Outgoing>,
    /// A simulated link that bytes pass before they are sent.
    pub(super) delay: Option<Delay>,
}

/// The half of a socket that the sender sees.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: TcpStream,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<u8>,
    /// Why nothing can be sent any more.
    failed: Option<ErrorKind>,
    /// The sender has it on its list.
    watched: bool,
    /// The owner is gone; nobody but the sender looks at the time.
    orphaned: bool,
    progress: Instant,
    deadline: Duration,
}

/// A way to end a connection from another thread, or to see that the peer ended it. Does not keep it open.
#[derive(Clone, Debug)]
pub struct Handle(Weak<Outgoing>);

impl Handle {
    /// Ends the connection: whoever waits for its peer gets an error.
    pub fn close(&self) {
        if let Some(outgoing) = self.0.upgrade() {
            let _ = outgoing.stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends the direction from the peer: who waits for it gets an error, and can still send.
    pub fn stop_receiving(&self) {
        if let Some(outgoing) = self.0.upgrade() {
            let _ = outgoing.stream.shutdown(Shutdown::Read);
        }
    }

    /// Whether the peer closed the connection, or it was dropped here.
    pub fn is_closed(&self) -> bool {
        self.0.upgrade().is_none_or(|outgoing| hung_up(&outgoing.stream))
    }
}

#[cfg(target_os = "linux")]
fn hung_up(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
}

#[cfg(not(target_os = "linux"))]
fn hung_up(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Result<Self, Error> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let state = State {
            queue: VecDeque::new(),
            failed: None,
            watched: false,
            orphaned: false,
            progress: Instant::now(),
            deadline: Limits::default().deadline,
        };
        let outgoing = Outgoing { stream, state: Mutex::new(state), changed: Condvar::new() };
        Ok(Self { outgoing: Arc::new(outgoing), delay: None })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.outgoing.stream
    }

    pub(super) fn outgoing(&self) -> Arc<Outgoing> {
        self.outgoing.clone()
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(Arc::downgrade(&self.outgoing))
    }

    pub(super) fn set_deadline(&self, deadline: Duration) {
        self.outgoing.lock().deadline = deadline;
    }

    /// Sends, without waiting for the peer.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.delay {
            Some(delay) => delay.push(bytes),
            None => self.outgoing.push(bytes),
        }
    }

    /// Waits until the system has everything.
    pub(super) fn flush(&mut self, limits: Limits) -> Result<(), Error> {
        match &mut self.delay {
            Some(delay) => delay.flush(limits),
            None => self.outgoing.flush(limits),
        }
    }

    /// Reads what is there: 0 bytes at the end of the stream, `None` if there is nothing yet.
    pub(super) fn read(&self, out: &mut [u8]) -> Result<Option<usize>, Error> {
        match self.stream().read(out) {
            Ok(n) => Ok(Some(n)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(e) if gone(e.kind()) => Ok(Some(0)),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until there is something to read, or for a moment: spins at first, then blocks.
    pub(super) fn wait(&self, clock: &Clock) -> Result<(), Error> {
        if clock.silence() < SPIN {
            std::hint::spin_loop();
            return Ok(());
        }
        let left = clock.left()?;
        let timeout = Timespec::try_from(left).map_err(|_| Error::Deadline(left))?;
        match poll(&mut [PollFd::new(self.stream(), PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(io::Error::from(e).into()),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Delivers what a simulated link holds first.
        self.delay = None;
        self.outgoing.lock().orphaned = true;
    }
}

fn gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

impl State {
    fn check(&self) -> Result<(), Error> {
        match self.failed {
            None => Ok(()),
            Some(kind) if gone(kind) => Err(Error::Closed("it was sent a message")),
            Some(kind) => Err(Error::Io(kind.into())),
        }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn push(self: &Arc<Self>, mut bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.lock();
        while state.failed.is_none() && state.queue.is_empty() && !bytes.is_empty() {
            match taken((&self.stream).write(bytes)) {
                Ok(0) => break,
                Ok(n) => bytes = &bytes[n..],
                Err(kind) => state.failed = Some(kind),
            }
        }
        state.check()?;
        if !bytes.is_empty() {
            if state.queue.is_empty() {
                state.progress = Instant::now();
            }
            state.queue.extend(bytes);
            if !std::mem::replace(&mut state.watched, true) {
                drop(state);
                Sender::of_process()?.watch(self.clone());
            }
        }
        Ok(())
    }

    fn flush(&self, limits: Limits) -> Result<(), Error> {
        let mut state = self.lock();
        let mut clock = Clock::new(limits, state.queue.len());
        clock.progress = state.progress.max(clock.progress);
        while !state.queue.is_empty() {
            state.check()?;
            clock.progress = clock.progress.max(state.progress);
            let left = clock.left().map_err(|e| match e {
                Error::Deadline(d) => Error::Unread(d),
                other => other,
            })?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0;
        }
        state.check()
    }

    /// Hands over what the system takes. Returns whether there is more.
    fn pump(&self) -> bool {
        let mut state = self.lock();
        while state.failed.is_none() && !state.queue.is_empty() {
            let (a, b) = state.queue.as_slices();
            match taken((&self.stream).write_vectored(&[IoSlice::new(a), IoSlice::new(b)])) {
                Ok(0) => break,
                Ok(n) => {
                    state.queue.drain(..n);
                    state.progress = Instant::now();
                }
                Err(kind) => state.failed = Some(kind),
            }
        }
        if state.orphaned && state.progress.elapsed() > state.deadline {
            state.failed = Some(ErrorKind::TimedOut);
        }
        if state.failed.is_some() {
            state.queue.clear();
        }
        if state.queue.is_empty() && state.queue.capacity() > KEPT {
            state.queue = VecDeque::new();
        }
        state.watched = !state.queue.is_empty();
        self.changed.notify_all();
        state.watched
    }
}

/// The result of a write: bytes taken, 0 if the socket is full.
fn taken(result: io::Result<usize>) -> Result<usize, ErrorKind> {
    match result {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        other => other.map_err(|e| e.kind()),
    }
}

/// The thread that empties queues.
struct Sender {
    added: Mutex<Vec<Arc<Outgoing>>>,
    /// A byte here wakes it.
    wake: UnixStream,
}

impl Sender {
    /// The only one, started when it is first needed.
    fn of_process() -> Result<&'static Self, Error> {
        static SENDER: OnceLock<Sender> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _alone = STARTING.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(sender) = SENDER.get() {
            return Ok(sender);
        }
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        std::thread::Builder::new().name("sender".into()).spawn(move || SENDER.wait().run(&woken))?;
        Ok(SENDER.get_or_init(|| Sender { added: Mutex::default(), wake }))
    }

    fn added(&self) -> MutexGuard<'_, Vec<Arc<Outgoing>>> {
        self.added.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn watch(&self, outgoing: Arc<Outgoing>) {
        self.added().push(outgoing);
        // If the pipe is full it will wake anyway.
        let _ = (&self.wake).write(&[0]);
    }

    fn run(&self, woken: &UnixStream) {
        let mut watched: Vec<Arc<Outgoing>> = Vec::new();
        loop {
            watched.append(&mut self.added());
            let mut fds = vec![PollFd::new(woken, PollFlags::IN)];
            fds.extend(watched.iter().map(|o| PollFd::new(&o.stream, PollFlags::OUT)));
            let timeout = Timespec::try_from(ORPHANS).ok().filter(|_| !watched.is_empty());
            if poll(&mut fds, timeout.as_ref()).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                let mut bytes = [0; 64];
                while matches!((&*woken).read(&mut bytes), Ok(n) if n > 0) {}
            }
            let mut ready = ready[1..].iter();
            watched.retain(|outgoing| {
                let ready = *ready.next().expect("one for each");
                if ready || outgoing.lock().orphaned { outgoing.pump() } else { true }
            });
        }
    }
}
