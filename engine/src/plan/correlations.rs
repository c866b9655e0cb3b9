//! The correlations of a plan: how much memory they take, and when they are made.

use super::Plan;
use sirnn_backends::inst::CorrelationKind;
use sirnn_backends::ot::{BackendSpec, cost::Cost, streams::Mode};

/// Correlations that may be held before the online phase starts, or at any time while it runs: bytes per party.
// AGREEMENT: it decides the order of the generator's messages.
pub const CORRELATION_BUDGET: u64 = 384 << 20;

/// Bytes that `needs` take when they are all held at once.
pub fn correlation_bytes(needs: &[(CorrelationKind, u64)]) -> u64 {
    let one = |kind: CorrelationKind| match kind {
        CorrelationKind::Cot { .. } => 17,
        CorrelationKind::OneOf { .. } => 18,
        CorrelationKind::Triple { cols } => u64::from(1 + 2 * cols).div_ceil(8),
        CorrelationKind::OneHot(shape) => shape.bytes() as u64,
    };
    needs.iter().map(|&(kind, n)| one(kind) * n).sum()
}

/// When a plan's correlations are made, if `budget` bytes of them may be held.
pub fn mode(plan: &Plan, budget: u64) -> Mode {
    if correlation_bytes(&plan.needs) <= budget { Mode::Prefilled } else { Mode::Live }
}

/// Exact cost of everything before the online phase.
pub fn offline_cost(plan: &Plan, backend: &dyn BackendSpec) -> Cost {
    plan.offline_cost(backend, mode(plan, CORRELATION_BUDGET))
}

/// Name of a kind of correlation in reports.
pub fn kind_name(kind: CorrelationKind) -> String {
    match kind {
        CorrelationKind::Cot { sender } => format!("cot_p{}", sender.index()),
        CorrelationKind::OneOf { sender, bits } => format!("one_of_{}_p{}", 1u64 << bits, sender.index()),
        CorrelationKind::Triple { cols } => format!("triple_{cols}"),
        CorrelationKind::OneHot(shape) => format!("one_hot_{}", 1u64 << shape.bits),
    }
}
