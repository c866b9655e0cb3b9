//! The picture of rounds: what a party computed and waited for, round by round, in the Chrome/Perfetto trace format.
//!
//! Times are of the system's monotonic clock, so that the traces of two processes on one machine line up. A trace holds names of
//! layers and protocols, sizes and times: nothing secret.

use sirnn_backends::Party;

/// Microseconds of the monotonic clock.
fn now() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
}

/// What a party did in one round.
#[derive(Clone, Debug)]
struct Round {
    number: usize,
    /// Protocols with a message in this round, and the trips (time steps) they belong to.
    label: String,
    start: f64,
    computed: f64,
    received: f64,
    sent_bytes: usize,
    received_bytes: usize,
}

/// A party's trace.
#[derive(Debug)]
pub struct Trace {
    party: Party,
    lane: usize,
    rounds: Vec<Round>,
}

impl Trace {
    /// An empty trace of a session in this lane.
    pub fn new(party: Party, lane: usize) -> Self {
        Self { party, lane, rounds: Vec::new() }
    }

    pub(crate) fn start(&mut self, number: usize, label: String) {
        let t = now();
        let round = Round { number, label, start: t, computed: t, received: t, sent_bytes: 0, received_bytes: 0 };
        self.rounds.push(round);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Some(r) = self.rounds.last_mut() {
            (r.computed, r.received, r.sent_bytes) = (now(), now(), bytes);
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(r) = self.rounds.last_mut() {
            (r.received, r.received_bytes) = (now(), bytes);
        }
    }

    /// The events: one process per party, in it for each lane one track of compute and one of waiting. Put the events of both parties in one
    /// array to see them together.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let pid = self.party.index();
        let name = ["P0 server", "P1 client"][pid];
        let meta = |what: &str, tid: usize, name: &str| serde_json::json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } });
        let first = 2 * self.lane;
        let track = |what: &str| if self.lane == 0 { what.to_string() } else { format!("{what}, lane {}", self.lane) };
        let mut events = vec![
            meta("process_name", 0, name),
            meta("thread_name", first, &track("compute")),
            meta("thread_name", first + 1, &track("wait")),
        ];
        for r in &self.rounds {
            let mut slice = |tid: usize, from: f64, to: f64, bytes: (&str, usize)| {
                events.push(serde_json::json!({
                    "ph": "X", "name": r.label, "pid": pid, "tid": first + tid, "ts": from, "dur": to - from,
                    "args": { "round": r.number, bytes.0: bytes.1 },
                }));
            };
            slice(0, r.start, r.computed, ("bytes_sent", r.sent_bytes));
            if r.received_bytes > 0 {
                slice(1, r.computed, r.received, ("bytes_received", r.received_bytes));
            }
        }
        events
    }
}
