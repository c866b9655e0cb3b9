//! What a recurrent layer costs: one call of the library makes the cell, the planner says rounds and bytes per step and unit, and with
//! `--run` two parties compute it on random weights and items and are compared with the evaluator, bit for bit.
//!
//! ```text
//! cargo run --release --example cells -- lstm --units 128 --steps 100 --batch 1 [--optimize time|rounds|bytes] [--run]
//! ```

use clap::{Parser, ValueEnum};
use serde_json::json;
use sirnn::compile::{Request, compile};
use sirnn::graph::builder::{Builder, output, series};
use sirnn::graph::cells::{self, Activation, Cell, Direction, Loop, Preactivation, Product, Reset, Rnn};
use sirnn::graph::ops::scan::Steps;
use sirnn::graph::ops::{Parameter, add::Add, bias::Bias, matmul::MatMul};
use sirnn::graph::{Graph, Number, Rescale, Reveal, Tensor, Weights, evaluate};
use sirnn::plan::planner::{self, Policy, Task};
use sirnn::plan::speeds::Speeds;
use sirnn::program::{Goal, LinearForms, Profile};
use sirnn::protocols::truncation::Rounding;
use sirnn::run::pair;
use sirnn_backends::ot;
use sirnn_backends::transport::Link;
use sirnn_kernels::aes::Prg;
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

/// Plan, and perhaps run, one recurrent layer
#[derive(Parser)]
struct Options {
    /// The cell
    cell: Kind,
    /// Units of the state
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    units: u32,
    /// Features of a step
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    features: u32,
    /// Time steps
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65536))]
    steps: u32,
    /// Items at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Bits of weights
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=16))]
    weights: u32,
    /// Bits of what the activations read; the state and their results have 16
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(6..=16))]
    pre: u32,
    /// OT backend; the planner's choice if none is given
    #[arg(long)]
    ot: Option<String>,
    /// off: every operation on its own; on: what depends on one narrow value is one look-up; auto: what is better for the goal
    #[arg(long, default_value = "auto")]
    fuse: Fuse,
    /// What to optimise
    #[arg(long, default_value = "time")]
    optimize: Objective,
    /// Run it, both parties in this process, on random numbers, and compare with the evaluator
    #[arg(long)]
    run: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fuse {
    Off,
    On,
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum Objective {
    Time,
    Rounds,
    Bytes,
    Online,
}

const INPUT: Number = Number { bits: 16, scale: 12, unsigned: false };
const STATE: Number = Number { bits: 16, scale: 14, unsigned: false };
const MEMORY: Number = Number { bits: 16, scale: 11, unsigned: false };
const GATE: Number = Number { bits: 16, scale: 14, unsigned: false };
const ROUNDING: Rounding = Rounding::Nearest;

impl Options {
    /// Gates read values between -8 and 8.
    fn pre(&self) -> Number {
        Number::new(self.pre, self.pre as i32 - 4)
    }

    /// `W x + U h + b` of some gates.
    fn preactivation(&self, tag: &str, gates: usize) -> Preactivation {
        let columns = gates * self.units as usize;
        // Weights below 1; products of both kinds have the scale of the input's.
        let scale = self.weights as i32 - 1;
        let exact = Number::new(40, scale + INPUT.scale);
        let product = |name: &str, from: Number| {
            let rescale = cells::to_scale(from.scale + scale, exact.scale, ROUNDING);
            let weights = Parameter::new(format!("{name}{tag}"), self.weights);
            vec![Product { op: MatMul { weights, columns, rescale }, out: exact }]
        };
        let to_gates = cells::to_scale(exact.scale, self.pre().scale, ROUNDING);
        let bias = Bias {
            bias: Parameter::new(format!("b{tag}"), 16),
            shape: None,
            operand: Rescale::default(),
            rescale_bias: Rescale::default(),
            rescale: to_gates,
        };
        Preactivation {
            input: product("W", INPUT),
            state: product("U", STATE),
            sum: Add::default(),
            out: exact,
            bias: Some((bias, self.pre())),
        }
    }

    fn cell(&self) -> Box<dyn Cell> {
        let (gate, candidate) = (Activation::sigmoid(GATE), Activation::tanh(GATE));
        let hidden = self.units as usize;
        match self.cell {
            Kind::Lstm => Box::new(cells::Lstm {
                hidden,
                pre: self.preactivation("", 4),
                gate,
                candidate: candidate.clone(),
                memory: MEMORY,
                squash: candidate,
                state: STATE,
                rounding: ROUNDING,
            }),
            Kind::Gru => Box::new(cells::Gru {
                hidden,
                gates: self.preactivation("", 2),
                candidate_pre: self.preactivation("n", 1),
                reset: Reset::State,
                reset_out: STATE,
                state_bias: None,
                gate,
                candidate,
                state: STATE,
                rounding: ROUNDING,
            }),
            Kind::Rnn => Box::new(Rnn { hidden, pre: self.preactivation("", 1), activation: Activation::tanh(STATE) }),
        }
    }

    fn graph(&self) -> Graph {
        let mut builder = Builder::new();
        let how = Loop { direction: Direction::Forward, rows: &[], initial: None, steps: Steps::Last };
        let last = cells::append(&mut builder, "layer", "x", &*self.cell(), &how);
        let inputs = vec![series("x", &[self.features as usize], INPUT)];
        builder.finish(self.steps as usize, inputs, vec![output("state", &last, Reveal::Values)])
    }

    fn goal(&self) -> Goal {
        match self.optimize {
            Objective::Time => {
                Goal::Time { bits_per_second: Link::LAN.bits_per_second, latency: Link::LAN.latency.as_secs_f64() }
            }
            Objective::Rounds => Goal::Rounds,
            Objective::Bytes => Goal::Bytes,
            Objective::Online => Goal::Online,
        }
    }
}

fn main() -> ExitCode {
    match examine(&Options::parse()) {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("cells: {e}");
            ExitCode::FAILURE
        }
    }
}

fn examine(options: &Options) -> Result<serde_json::Value, Box<dyn Error>> {
    let graph = options.graph();
    let (items, steps) = (options.batch as usize, options.steps as usize);
    let request = Request { items, steps, lengths: None };
    let backend = options.ot.as_deref().map(ot::lookup).transpose()?;
    let fuse = match options.fuse {
        Fuse::Off => Some(false),
        Fuse::On => Some(true),
        Fuse::Auto => None,
    };
    let (goal, linear) = (options.goal(), LinearForms::Auto);
    let policy = Policy { goal, link: Link::LAN, backend, fuse, lanes: Some(1), linear };
    let task = Task { graph: &graph, request: &request, batch: items, watch: &[] };
    let start = Instant::now();
    let chosen = planner::choose(&task, &policy, &Speeds::default(), |_| true)?;
    let (estimate, planned) = (chosen.estimate, start.elapsed());
    let per_unit = |bytes: u64| bytes as f64 / (f64::from(options.units) * (steps * items) as f64);
    let mut report = json!({
        "ot": chosen.backend.name(),
        "fused": chosen.fuse,
        "rounds": estimate.rounds,
        "rounds_per_step": estimate.rounds as f64 / steps as f64,
        "bytes": estimate.bytes,
        "bytes_per_unit_and_step": per_unit(estimate.bytes),
        "online_bytes_per_unit_and_step": per_unit(estimate.bytes - estimate.bytes_offline),
        "memory": chosen.plan.memory(),
        "lan_seconds_estimated": estimate.seconds,
        "planning_seconds": planned.as_secs_f64(),
    });
    if options.run {
        let profile = Profile { linear, ..Profile::of(goal, chosen.backend) };
        let compiled = compile(&graph, &request, profile, &task.options(chosen.fuse))?;
        let mut random = Prg::new(1);
        let mut vector = |n: usize, (lo, hi): (i128, i128)| -> Vec<i64> {
            (0..n).map(|_| (lo + i128::from(random.next_block() as u64) % (hi - lo + 1)) as i64).collect()
        };
        let typed = graph.infer(steps)?;
        let tensor = |(name, spec): (&String, &sirnn::graph::ops::ParameterSpec)| {
            (name.clone(), Tensor::new(spec.shape.clone(), vector(spec.shape.iter().product(), spec.range)))
        };
        let weights: Weights = typed.parameters.iter().map(tensor).collect();
        let shape = vec![steps, options.features as usize];
        let x: Vec<Tensor> =
            (0..items).map(|_| Tensor::new(shape.clone(), vector(shape.iter().product(), (-4096, 4096)))).collect();
        let expected: Vec<i64> = x
            .iter()
            .flat_map(|item| evaluate(&typed, &weights, std::slice::from_ref(item)).swap_remove(0).data)
            .collect();
        let mut inputs = compiled.server_inputs(&weights);
        inputs.insert("x".into(), x.iter().flat_map(|item| &item.data).map(|&v| v.into()).collect());
        let plan = sirnn::plan::Plan::new(compiled.program, profile);
        let start = Instant::now();
        let [_, (outputs, _)] = pair::run(&plan, chosen.backend.name(), &inputs)?;
        report["seconds"] = json!(start.elapsed().as_secs_f64());
        report["cpu_seconds"] = json!(sirnn::run::usage::cpu_seconds());
        let wrong = outputs["state"].iter().zip(&expected).filter(|(a, b)| **a != i128::from(**b)).count();
        report["wrong"] = json!(wrong);
    }
    Ok(report)
}
