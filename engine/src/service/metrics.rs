//! What a server did so far, counted for Prometheus.

use super::{Fault, Summary};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(&'static str, String)>;
type Seconds = Counter<f64, AtomicU64>;

/// The counters. What a peer sends never becomes a label.
pub struct Metrics {
    registry: Registry,
    sessions: Family<Labels, Counter>,
    refusals: Family<Labels, Counter>,
    items: Counter,
    bytes: Family<Labels, Counter>,
    rounds: Family<Labels, Counter>,
    seconds: Family<Labels, Seconds>,
    correlations: Family<Labels, Counter>,
    running: Gauge,
    queued: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sirnn");
        let metrics = Self {
            sessions: Family::default(),
            refusals: Family::default(),
            items: Counter::default(),
            bytes: Family::default(),
            rounds: Family::default(),
            seconds: Family::default(),
            correlations: Family::default(),
            running: Gauge::default(),
            queued: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("sessions", "Sessions that ended, by result", metrics.sessions.clone());
        registry.register("refusals", "Connections that became no session, by reason", metrics.refusals.clone());
        registry.register("items", "Items computed", metrics.items.clone());
        registry.register("bytes", "Bytes on the wire, both ways, by phase", metrics.bytes.clone());
        registry.register("rounds", "One-way delays, by phase", metrics.rounds.clone());
        registry.register("seconds", "Time spent, by phase; stalled is a part of online", metrics.seconds.clone());
        registry.register("correlations", "Correlations made and used, by kind", metrics.correlations.clone());
        registry.register("sessions_running", "Sessions that run", metrics.running.clone());
        registry.register("queue", "Requests that wait for a session", metrics.queued.clone());
        for result in ["ok", "input", "peer", "network", "limit", "internal"] {
            drop(metrics.sessions.get_or_create(&label("result", result)));
        }
        Self { registry, ..metrics }
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.into())]
}

impl Metrics {
    pub(super) fn served(&self, s: &Summary) {
        self.sessions.get_or_create(&label("result", "ok")).inc();
        self.items.inc_by(s.instances);
        let phases = [
            ("offline", s.bytes_offline, s.rounds_offline, s.offline_seconds),
            ("online", s.bytes_online, s.rounds, s.online_seconds),
        ];
        for (phase, bytes, rounds, seconds) in phases {
            self.bytes.get_or_create(&label("phase", phase)).inc_by(bytes);
            self.rounds.get_or_create(&label("phase", phase)).inc_by(rounds);
            self.seconds.get_or_create(&label("phase", phase)).inc_by(seconds);
        }
        for (phase, seconds) in [("setup", s.setup_seconds), ("stalled", s.stalled_seconds)] {
            self.seconds.get_or_create(&label("phase", phase)).inc_by(seconds);
        }
        for (state, counts) in [("made", &s.correlations_generated), ("used", &s.correlations_used)] {
            for (kind, n) in counts {
                self.correlations.get_or_create(&vec![("kind", kind.clone()), ("state", state.into())]).inc_by(*n);
            }
        }
    }

    pub(super) fn failed(&self, fault: Fault) {
        self.sessions.get_or_create(&label("result", fault.name())).inc();
    }

    pub(super) fn refused(&self, fault: Fault) {
        self.refusals.get_or_create(&label("reason", fault.name())).inc();
    }

    pub(super) fn text(&self, running: usize, queued: usize) -> String {
        self.running.set(running as i64);
        self.queued.set(queued as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}
