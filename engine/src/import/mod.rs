//! A trained float network from a file.
//!
//! | module | content |
//! |---|---|
//! | `onnx` | what an ONNX file holds: operators, values, constants |
//! | `tensor` | the values that operators take and give |
//! | `float` | what the operators compute, in floats |
//! | `recognise` | from a file's operators to a [`network`]: cells, loops, constants |
//! | `names` | names of nodes, none twice |
//! | `network` | a network in floats, in the terms of the integer graph that it will become |
//! | `ranges` | what values it takes on calibration items |
//! | `quantise`(mod@quantise) | formats of fixed point, and the graph of integers |
//! | `fidelity` | floats against integers, tensor by tensor; wraps |
//! | `search` | the cheapest widths that keep an agreement |
//! | `part` | what the client computes itself, out of the same networks |
//! | `time` | a free time axis: one graph out of those for two lengths |
//! | `convert` | all of it: from a file and calibration items to a model |
//! | `report` | how close the model's answers are to those of the file |
//! | `fastgrnn` | FastGRNNs from arrays of weights; models of integers with products multiplied out |
//! | `arrays` | arrays from `.npy` and `.npz` files |
//! | `items` | which part of an array is an item, for the inputs of a file |
//! | `check` | what of a network cannot be imported, all at once |
//!
//! Files are not trusted: sizes, lengths and the work of a run are bounded, and what is wrong is said in one line.

pub mod arrays;
mod channels;
pub mod check;
pub mod convert;
pub mod fastgrnn;
pub mod fidelity;
pub mod float;
pub mod items;
mod names;
pub mod network;
pub mod onnx;
pub mod part;
pub mod quantise;
pub mod ranges;
pub mod recognise;
pub mod report;
pub mod search;
pub mod tensor;
pub mod time;

use std::path::Path;

/// Why a network could not be read or computed. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file cannot be used.
    #[error("{file}: {what}")]
    File {
        /// Its path.
        file: String,
        /// The reason, and what to do.
        what: String,
    },
    /// A node cannot be computed.
    #[error("node '{node}' ({op}): {what}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        op: String,
        /// The reason.
        what: String,
    },
    /// A value is missing or of the wrong kind.
    #[error("value '{name}': {what}")]
    Value {
        /// Its name.
        name: String,
        /// The reason.
        what: String,
    },
}

impl ImportError {
    fn file(path: &Path, what: impl Into<String>) -> Self {
        // Texts of other libraries may have several lines.
        let what = what.into().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::File { file: path.display().to_string(), what }
    }

    fn value(name: &str, what: impl Into<String>) -> Self {
        Self::Value { name: name.into(), what: what.into() }
    }
}
