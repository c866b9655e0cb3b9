//! The picture of a session: set-up, products with the weights, correlations, and what a party computed and waited for, round by
//! round, in the Chrome/Perfetto trace format.
//!
//! Times are of the system's monotonic clock, so that the traces of two processes on one machine line up. A trace holds names of
//! layers and protocols, sizes and times: nothing secret.

use crate::plan::correlations::kind_name;
use sirnn_backends::Party;
use sirnn_backends::ot::streams::Made;
use sirnn_backends::transport::Traffic;
use std::time::{Duration, Instant};

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

/// Something beside the rounds: a phase, or a chunk of correlations.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    track: Track,
    start: f64,
    length: Duration,
    args: serde_json::Value,
}

/// The tracks of a lane.
#[derive(Clone, Copy, Debug)]
enum Track {
    Compute,
    Wait,
    Correlations,
}

impl Track {
    const ALL: [(Track, &str); 3] =
        [(Track::Compute, "compute"), (Track::Wait, "wait"), (Track::Correlations, "correlations")];
}

/// A party's trace.
#[derive(Debug)]
pub struct Trace {
    party: Party,
    lane: usize,
    rounds: Vec<Round>,
    spans: Vec<Span>,
}

impl Trace {
    /// An empty trace of a session in this lane.
    pub fn new(party: Party, lane: usize) -> Self {
        Self { party, lane, rounds: Vec::new(), spans: Vec::new() }
    }

    /// A phase that began then and ends now, and the bytes that it sent and received.
    pub(crate) fn phase(&mut self, name: &str, start: Instant, traffic: Traffic) {
        let args = serde_json::json!({ "bytes_sent": traffic.sent, "bytes_received": traffic.received });
        self.span(name.into(), Track::Compute, start, start.elapsed(), args);
    }

    /// Correlations that were made, or read from a store; chunk by chunk.
    pub(crate) fn correlations(&mut self, chunks: &[Made]) {
        for &Made { kind, n, start, time } in chunks {
            self.span(kind_name(kind), Track::Correlations, start, time, serde_json::json!({ "correlations": n }));
        }
    }

    fn span(&mut self, name: String, track: Track, start: Instant, length: Duration, args: serde_json::Value) {
        let start = now() - start.elapsed().as_secs_f64() * 1e6;
        self.spans.push(Span { name, track, start, length, args });
    }

    /// A round begins. Without a label nothing happens in it, and it is not shown.
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

    /// The events: one process per party, in it for each lane a track of compute, one of waiting, and one of correlations being
    /// made. Put the events of both parties in one array to see them together.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let pid = self.party.index();
        let name = ["P0 server", "P1 client"][pid];
        let meta = |what: &str, tid: usize, name: &str| serde_json::json!({ "ph": "M", "name": what, "pid": pid, "tid": tid, "args": { "name": name } });
        let tid = |track: Track| Track::ALL.len() * self.lane + track as usize;
        let mut events = vec![meta("process_name", 0, name)];
        for (track, what) in Track::ALL {
            let name = if self.lane == 0 { what.to_string() } else { format!("{what}, lane {}", self.lane) };
            events.push(meta("thread_name", tid(track), &name));
        }
        let mut slice = |track: Track, name: &str, from: f64, length: f64, args: serde_json::Value| {
            events.push(serde_json::json!({
                "ph": "X", "name": name, "pid": pid, "tid": tid(track), "ts": from, "dur": length, "args": args,
            }));
        };
        for Span { name, track, start, length, args } in &self.spans {
            slice(*track, name, *start, length.as_secs_f64() * 1e6, args.clone());
        }
        for r in self.rounds.iter().filter(|r| !r.label.is_empty()) {
            let args = serde_json::json!({ "round": r.number, "bytes_sent": r.sent_bytes });
            slice(Track::Compute, &r.label, r.start, r.computed - r.start, args);
            if r.received_bytes > 0 {
                let args = serde_json::json!({ "round": r.number, "bytes_received": r.received_bytes });
                slice(Track::Wait, &r.label, r.computed, r.received - r.computed, args);
            }
        }
        events
    }
}
