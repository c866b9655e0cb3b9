//! A rescale alone: another scale, another width.

use crate::graph::Rescale;
use serde::{Deserialize, Serialize};

/// `y = wrap(R(x))`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rescaling {
    /// What is done.
    #[serde(default, skip_serializing_if = "Rescale::is_identity")]
    pub rescale: Rescale,
}
