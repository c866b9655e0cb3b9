//! Stub of the compiler's interface until the real one is merged.

use crate::graph::{Graph, Weights};
use crate::program::{Build, Profile, Program, refuse};
use crate::run::Inputs;

/// Public facts of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Items.
    pub items: usize,
    /// Time steps.
    pub steps: usize,
    /// One per item, `1..=steps`.
    pub lengths: Option<Vec<usize>>,
}

/// Choices that do not change results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Cells become look-ups where that is possible.
    pub tables: bool,
    /// Further values that are revealed.
    pub watch: Vec<String>,
}

/// A program with what belongs to it.
pub struct Compiled {
    /// The program.
    pub program: Program,
}

impl Compiled {
    /// The server's inputs.
    pub fn server_inputs(&self, _weights: &Weights) -> Inputs {
        Inputs::new()
    }
}

/// Makes a program of a graph.
pub fn compile(_graph: &Graph, _request: &Request, _profile: Profile, _options: &Options) -> Build<Compiled> {
    refuse("compile", "not there yet")
}

/// Values that cannot wrap.
pub fn prove(_graph: &Graph, _weights: &Weights) -> Vec<String> {
    Vec::new()
}
