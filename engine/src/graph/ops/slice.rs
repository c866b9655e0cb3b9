//! Parts of an axis.

use serde::{Deserialize, Serialize};

/// Entries `start`, `start + step`, .. below `end` of an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The axis.
    pub axis: usize,
    /// The first entry; counted from the end where negative.
    pub start: i64,
    /// The entry behind the last; counted from the end where negative, by default the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Distance of entries, positive.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub step: usize,
}

/// An axis cut into parts of the given sizes, called `name.0`, `name.1`, ...
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The axis.
    pub axis: usize,
    /// Sizes of the parts, two or more.
    pub sizes: Vec<usize>,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}
