//! What sessions cost, under the names that reports use everywhere.

use super::Plans;
use super::wire::Phases;
use crate::plan::correlations::kind_name;
use crate::run::session::Report;
use serde::Serialize;
use sirnn_backends::Party;
use sirnn_backends::inst::CorrelationKind;
use sirnn_backends::ot::streams::totals;
use std::collections::BTreeMap;
use std::time::Duration;

/// The sum over the sessions of a request. Bytes sent and received are those of P0, whoever reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// OT backend.
    pub ot: String,
    /// Whether cells are one look-up each.
    pub fused: bool,
    /// Sessions at the same time.
    pub lanes: u64,
    /// Values that ring-LWE made for products with the weights.
    pub linear_values: u64,
    /// Those made with the weights so far, by any session; the server's.
    pub linear_values_total: Option<u64>,
    /// Items computed.
    pub instances: u64,
    /// Sessions: each computes one batch.
    pub batches: u64,
    /// One-way delays of the online phases.
    pub rounds: u64,
    /// One-way delays of set-up and offline phases.
    pub rounds_offline: u64,
    /// P0 to P1.
    pub bytes_sent: u64,
    /// P1 to P0.
    pub bytes_received: u64,
    /// Both ways.
    pub bytes_total: u64,
    /// Both ways, set-up included.
    pub bytes_offline: u64,
    /// Both ways.
    pub bytes_online: u64,
    /// `bytes_total / instances`.
    pub bytes_per_instance: f64,
    /// From the handshake to the last result; all else counts sessions that run at the same time one by one.
    pub wall_seconds: f64,
    /// Base OTs.
    pub setup_seconds: f64,
    /// Generator busy.
    pub offline_seconds: f64,
    /// Wall clock of the online phases.
    pub online_seconds: f64,
    /// Online phases waiting for correlations.
    pub stalled_seconds: f64,
    /// Correlations that the sessions drew for themselves, by kind.
    pub correlations_used: BTreeMap<String, u64>,
    /// Correlations that were made, by kind.
    pub correlations_generated: BTreeMap<String, u64>,
}

impl Summary {
    /// Of no sessions yet.
    pub(super) fn new(plans: &Plans) -> Self {
        let linear_values = if matches!(plans.phases, Phases::Online(_)) { 0 } else { plans.values() };
        Self {
            ot: plans.backend.name().into(),
            fused: plans.fuse,
            lanes: plans.lanes as u64,
            linear_values,
            ..Self::default()
        }
    }

    /// Adds a session of `items` items.
    pub fn add(&mut self, items: usize, party: Party, report: &Report) {
        let (online, offline) = (report.online_traffic, report.offline_traffic);
        let (sent, received) = (online.sent + offline.sent, online.received + offline.received);
        let (sent, received) = if party == Party::P0 { (sent, received) } else { (received, sent) };
        self.instances += items as u64;
        self.batches += 1;
        self.rounds += report.rounds as u64;
        self.rounds_offline += u64::from(report.rounds_offline);
        self.bytes_sent += sent;
        self.bytes_received += received;
        self.bytes_total += sent + received;
        self.bytes_offline += offline.sent + offline.received;
        self.bytes_online += online.sent + online.received;
        self.bytes_per_instance = self.bytes_total as f64 / self.instances.max(1) as f64;
        let seconds = |sum: &mut f64, d: Duration| *sum += d.as_secs_f64();
        seconds(&mut self.setup_seconds, report.setup);
        seconds(&mut self.offline_seconds, report.offline);
        seconds(&mut self.online_seconds, report.online);
        seconds(&mut self.stalled_seconds, report.stalled);
        let count = |sums: &mut BTreeMap<String, u64>, needs: &[(CorrelationKind, u64)]| {
            for (kind, n) in totals(needs) {
                *sums.entry(kind_name(kind)).or_default() += n;
            }
        };
        count(&mut self.correlations_used, &report.used);
        count(&mut self.correlations_generated, &report.generated);
    }
}
