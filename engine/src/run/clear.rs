//! The cleartext evaluator: interprets the functions of a program on integers. It is the definition of correct.

use super::shares::check_range;
use crate::program::{Block, Program, Reg};
use std::collections::HashMap;

/// Values of registers as the integers they stand for.
pub type Values = HashMap<Reg, Vec<i128>>;

/// Evaluates the outermost calls of `program` on the given inputs (by name). Returns the outputs in program order.
///
/// # Errors
/// Names the input that is missing, has the wrong length, or lies outside its declared range.
pub fn evaluate(program: &Program, inputs: &HashMap<String, Vec<i128>>) -> Result<Vec<(String, Vec<i128>)>, String> {
    let mut values = bind(program, inputs)?;
    for (b, block) in program.blocks.iter().enumerate() {
        run_block(program, b, block, &mut values);
    }
    Ok(program.outputs.iter().map(|(name, reg)| (name.clone(), values[reg].clone())).collect())
}

/// Checks inputs against their declarations.
pub fn bind(program: &Program, inputs: &HashMap<String, Vec<i128>>) -> Result<Values, String> {
    let mut values = Values::new();
    for input in &program.inputs {
        let ty = program.ty(input.reg);
        let v = inputs.get(&input.name).ok_or_else(|| format!("input '{}' is missing", input.name))?;
        check_range(&input.name, ty, v)?;
        values.insert(input.reg, v.clone());
    }
    Ok(values)
}

fn run_block(program: &Program, index: usize, block: &Block, values: &mut Values) {
    // Outermost nodes and calls in program order: a node inside a call is covered by the call.
    let calls: Vec<_> = program.calls.iter().filter(|c| c.block == index && c.depth == 0).collect();
    for trip in 0..block.trips {
        for &(outer, inner) in &block.slices {
            let len = program.ty(inner).len;
            let slice = values[&outer][trip * len..(trip + 1) * len].to_vec();
            values.insert(inner, slice);
        }
        let state: Vec<_> = block
            .carries
            .iter()
            .map(|c| (c.param, values[if trip == 0 { &c.init } else { &c.next }].clone()))
            .collect();
        values.extend(state);
        for call in &calls {
            let ins: Vec<&[i128]> = call.ins.iter().map(|r| values[r].as_slice()).collect();
            let outs = call.function.clear(&ins);
            values.extend(call.outs.iter().copied().zip(outs));
        }
        for &(inner, outer) in &block.stacks {
            let part = values[&inner].clone();
            let all = values.entry(outer).or_default();
            if trip == 0 {
                all.clear();
            }
            all.extend(part);
        }
    }
    for &(inner, outer) in &block.finals {
        let last = values[&inner].clone();
        values.insert(outer, last);
    }
}
