//! Models, and what is public of them.

use super::{Client, Inputs, Planning, Predictions, Result, Server};
use crate::graph::{Dim, Number, Reveal};
use crate::model::{self, Description, Results};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model: a public network, and private weights. It stays with the server.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) model: Arc<model::Model>,
    /// Where the weights' ledger is kept.
    pub(super) folder: PathBuf,
    network: Network,
}

impl Model {
    /// Reads a model directory: `model.toml` and `weights.safetensors`.
    ///
    /// # Errors
    /// Names the file and the node or tensor that is wrong.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let model = model::Model::load(folder)?;
        let network = Network(Arc::new(model.description.clone()));
        Ok(Self { model: Arc::new(model), folder: folder.into(), network })
    }

    /// The public part.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Computes items in the clear, which is what two parties compute, bit for bit.
    ///
    /// # Errors
    /// Items that do not fit the network.
    pub fn evaluate(&self, inputs: impl Into<Inputs>) -> Result<Predictions> {
        let items = inputs.into().quantise(&self.network)?;
        let results = Results::evaluate(&self.model.description, &self.model.weights, &items)?;
        Ok(Predictions::new(results, None))
    }

    /// Computes items as two parties, both in this process, over loopback: for trying out, and for measurements.
    ///
    /// # Errors
    /// Those of either party.
    pub fn run(&self, inputs: impl Into<Inputs>, planning: &Planning) -> Result<Predictions> {
        let many = usize::MAX;
        let server = Server::builder(self).planning(planning.clone()).max_items(many).max_batch(many);
        let server = server.listen("127.0.0.1:0")?;
        Client::connect(&server.address().to_string())?.predict(inputs)
    }
}

/// The public part of a model, which its clients get: operations, shapes, widths and scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Network(pub(super) Arc<Description>);

/// An input or an output of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Of one item; `None` is the time axis.
    pub shape: Vec<Option<usize>>,
    /// Bits of a number.
    pub bits: u32,
    /// A number stands for itself times 2^-scale.
    pub scale: i32,
    /// Whether there are no negative numbers.
    pub unsigned: bool,
    /// Of an output: what the client learns.
    pub reveal: Option<Reveal>,
    /// Of an output: names of the classes, if they have any.
    pub labels: Vec<String>,
}

impl Port {
    fn new(name: &str, shape: Vec<Option<usize>>, number: Number) -> Self {
        let Number { bits, scale, unsigned } = number;
        Self { name: name.into(), shape, bits, scale, unsigned, reveal: None, labels: Vec::new() }
    }
}

impl Network {
    /// Reads `model.toml` in a folder: what a client may insist on.
    ///
    /// # Errors
    /// Names the node, or the line, that is wrong.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(Arc::new(Description::load(folder.as_ref())?)))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Most time steps of an item; 0 if no input has a time axis.
    pub fn steps(&self) -> usize {
        self.0.graph.steps
    }

    /// What a client has to bring.
    pub fn inputs(&self) -> Vec<Port> {
        let dim = |d: &Dim| if let Dim::Size(n) = d { Some(*n) } else { None };
        let port = |i: &crate::graph::Input| Port::new(&i.name, i.shape.iter().map(dim).collect(), i.number);
        self.0.graph.inputs.iter().map(port).collect()
    }

    /// What a client learns.
    pub fn outputs(&self) -> Vec<Port> {
        // It was checked when it was read.
        let Ok(typed) = self.0.typed(self.steps()) else { return Vec::new() };
        let port = |(output, &value): (&crate::graph::Output, _)| {
            let ty = typed.ty(value);
            let mut shape: Vec<Option<usize>> = ty.shape.iter().copied().map(Some).collect();
            if ty.timed {
                shape[0] = None;
            }
            let port = Port::new(&output.name, shape, ty.number);
            Port { reveal: Some(output.reveal), labels: output.labels.clone(), ..port }
        };
        self.0.graph.outputs.iter().zip(&typed.outputs).map(port).collect()
    }

    /// All of it, as the text of a `model.toml`.
    pub fn to_toml(&self) -> String {
        self.0.to_toml()
    }
}
