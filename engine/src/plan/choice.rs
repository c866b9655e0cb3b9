//! How a request is computed: what the server chooses and tells its client, in whole numbers, so that both parties plan
//! with the same.

use crate::program::{Goal, LinearForms};
use serde::{Deserialize, Serialize};

/// What is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Objective {
    /// Fewest rounds.
    Rounds,
    /// Fewest bytes.
    Bytes,
    /// Fewest bytes in the online phase.
    Online,
    /// Least time on a link.
    Time {
        /// Bandwidth of one direction.
        bits_per_second: u64,
        /// One-way latency.
        latency_ns: u64,
    },
}

impl From<Objective> for Goal {
    fn from(objective: Objective) -> Goal {
        match objective {
            Objective::Rounds => Goal::Rounds,
            Objective::Bytes => Goal::Bytes,
            Objective::Online => Goal::Online,
            Objective::Time { bits_per_second, latency_ns } => {
                Goal::Time { bits_per_second: bits_per_second.max(1) as f64, latency: latency_ns as f64 * 1e-9 }
            }
        }
    }
}

/// How a request is computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Name of the OT backend.
    pub backend: String,
    /// What forms are chosen by.
    pub objective: Objective,
    /// Whether cells are one look-up each.
    pub fuse: bool,
    /// Where products with the weights come from: something that the client accepts.
    pub linear: LinearForms,
    /// Sessions at the same time.
    pub lanes: u64,
    /// Items of a session; together those at the same time are no more than were asked for.
    pub batch: u64,
}
