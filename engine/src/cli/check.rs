//! `sirnn check`: what of a trained network cannot be imported.

use super::Failure;
use sirnn::import::check::refusals;
use sirnn::import::onnx::{Dim, Input, Model};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Says what of a trained network cannot be imported, all of it at once
#[derive(clap::Args)]
pub(super) struct Check {
    /// An ONNX file
    #[arg(value_name = "MODEL.onnx")]
    file: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let model = Model::load(&self.file)?;
        let found = refusals(&model);
        if !found.is_empty() {
            for refusal in &found {
                println!("{refusal}");
            }
            let n = found.len();
            let noun = if n == 1 { "part" } else { "parts" };
            return Err(format!("{}: {n} {noun} cannot be imported", self.file.display()).into());
        }
        let mut operators = BTreeMap::<&str, usize>::new();
        model.graph.walk(&mut |node| *operators.entry(&node.op).or_default() += 1);
        println!("{}: every node can be imported", self.file.display());
        for input in &model.graph.inputs {
            println!("input '{}' {}", input.name, shape(input));
        }
        for output in &model.graph.outputs {
            println!("output '{output}'");
        }
        let operators: Vec<String> = operators.iter().map(|(op, n)| format!("{n} {op}")).collect();
        println!("nodes: {}", operators.join(", "));
        Ok(())
    }
}

/// Lengths of an input's axes, a star where the caller chooses.
fn shape(input: &Input) -> String {
    let Some(dims) = &input.shape else { return "of any shape".into() };
    let dims = dims.iter().map(|d| match d {
        Dim::Fixed(n) => n.to_string(),
        Dim::Free(name) if name.is_empty() => "*".into(),
        Dim::Free(name) => name.clone(),
    });
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}
