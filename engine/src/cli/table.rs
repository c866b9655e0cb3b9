//! `sirnn table`: a math function on every input, between two parties or in the clear.

use super::output::{check_writable, cost, write_file};
use super::{Failure, Planning};
use clap::{Args, ValueEnum};
use serde_json::json;
use sirnn::fixed::nearest::Format;
use sirnn::fixed::{math, wrap};
use sirnn::plan::Plan;
use sirnn::program::{Cx, Function, Own, Profile, signed};
use sirnn::protocols::basic::{Reveal, Share, Wrap};
use sirnn::protocols::nearest::NearestTable;
use sirnn::protocols::{exp, roots, sigmoid};
use sirnn::run::Inputs;
use sirnn::service::Summary;
use sirnn::service::local::say;
use sirnn_backends::Party;
use std::path::PathBuf;

/// Widest input: a table has 2^width entries.
const MAX_WIDTH: u32 = 20;

/// Evaluate a math function on every input and write the table of results
///
/// One value per bit pattern 0, 1, ... 2^width - 1 (inputs are signed), modulo 2^out-width, little endian, in the smallest
/// word that holds it. Between two parties inside this process over real OT, or with --cleartext without them: the files
/// are equal.
#[derive(Args)]
pub(super) struct Table {
    /// The function
    #[arg(value_name = "FN")]
    function: Name,
    /// Bits of an input
    #[arg(long, value_name = "BITS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_WIDTH)))]
    width: u32,
    /// Scale of the inputs: they stand for integer / 2^S
    #[arg(long, value_name = "S")]
    scale_in: u32,
    /// Bits of a result
    #[arg(long, value_name = "BITS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    out_width: u32,
    /// Scale of the results
    #[arg(long, value_name = "T")]
    scale_out: u32,
    /// Round to the nearest what the function is, instead of the function of the paper's authors; results beyond the output saturate, and
    /// inputs outside of the function's domain count as the nearest of it. Inputs of up to 16 bits
    #[arg(long)]
    nearest: bool,
    /// Without two parties
    #[arg(long)]
    cleartext: bool,
    #[command(flatten)]
    planning: Planning,
    /// Where the table goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// e^x for x <= 0; inputs above 0 are taken as 0
    Exp,
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
    /// 1 / sqrt(x); the input's sign bit is cleared, 0 is taken as 1
    Rsqrt,
    /// sqrt(x); the input's sign bit is cleared, 0 is taken as 1
    Sqrt,
    /// Natural logarithm; with --nearest, as all that follow
    Log,
    /// x times the normal distribution's function
    Gelu,
    /// x / (1 + e^-x)
    Silu,
    /// log(1 + e^x)
    Softplus,
    /// x, or e^x - 1 below 0
    Elu,
    /// Error function
    Erf,
    /// Sine
    Sin,
    /// Cosine
    Cos,
    /// 1 / x
    Reciprocal,
    /// x^2
    Square,
}

/// A function of one operand with its parameters, and the inputs it takes.
struct Entry {
    function: Box<dyn Function>,
    domain: (i128, i128),
}

impl Entry {
    fn new(function: impl Function + 'static, domain: (i128, i128)) -> Self {
        Self { function: Box::new(function), domain }
    }

    /// The input that a bit pattern stands for.
    fn input(&self, pattern: i128, width: u32) -> i128 {
        let (lo, hi) = self.domain;
        if lo == 0 { wrap(pattern, width - 1, false) } else { wrap(pattern, width, true).clamp(lo, hi) }
    }

    fn clear(&self, xs: &[i128]) -> Vec<i128> {
        self.function.clear(&[xs]).swap_remove(0)
    }
}

impl Table {
    fn entry(&self) -> Result<Entry, Failure> {
        if self.nearest {
            let name = self.function.to_possible_value().expect("no function is hidden");
            let format = |bits, scale: u32| Format { bits, scale: scale as i32, signed: true };
            let (x, y) = (format(self.width, self.scale_in), format(self.out_width, self.scale_out));
            return Ok(Entry::new(NearestTable::new(name.get_name(), x, y)?, signed(self.width)));
        }
        let (w, s, t) = (self.width, self.scale_in as i32, self.scale_out);
        // The ring that the protocols need; what is asked for is cut out of it.
        let (trailing_zeros, width) = (0, self.out_width.max(t + 2));
        let (lo, hi) = signed(w);
        Ok(match self.function {
            Name::Exp => Entry::new(exp::Exp { reference: math::Exp::new(w, s, t)?, trailing_zeros, width }, (lo, 0)),
            Name::Sigmoid => Entry::new(
                sigmoid::Sigmoid { reference: math::Sigmoid::new(w, s, t)?, trailing_zeros, width },
                (lo, hi),
            ),
            Name::Tanh => {
                Entry::new(sigmoid::Tanh { reference: math::Tanh::new(w, s, t)?, trailing_zeros, width }, (lo, hi))
            }
            Name::Rsqrt => Entry::new(roots::Root { reference: math::Root::rsqrt(w, s, t)?, width }, (0, hi)),
            Name::Log
            | Name::Gelu
            | Name::Silu
            | Name::Softplus
            | Name::Elu
            | Name::Erf
            | Name::Sin
            | Name::Cos
            | Name::Reciprocal
            | Name::Square => return Err("this function has no protocol of its own: use --nearest".into()),
            Name::Sqrt => Entry::new(roots::Root { reference: math::Root::sqrt(w, s, t)?, width }, (0, hi)),
        })
    }

    pub(super) fn run(self) -> Result<(), Failure> {
        check_writable(&self.output)?;
        let entry = self.entry()?;
        let xs: Vec<i128> = (0..1i128 << self.width).map(|p| entry.input(p, self.width)).collect();
        let (values, summary) = if self.cleartext {
            (entry.clear(&xs), Summary::default())
        } else {
            // One operation for few values: where correlations come from hardly matters.
            let ot = self.planning.ot.0.unwrap_or("iknp");
            let profile = Profile::of(self.planning.objective().into(), sirnn_backends::ot::lookup(ot)?);
            between_two(&entry, (self.width, self.out_width), ot, profile, xs)?
        };
        let bytes = match self.out_width {
            ..=8 => 1,
            9..=16 => 2,
            17..=32 => 4,
            _ => 8,
        };
        let word = |&v: &i128| wrap(v, self.out_width, false).to_le_bytes().into_iter().take(bytes);
        let table: Vec<u8> = values.iter().flat_map(word).collect();
        write_file(&self.output, &table)?;
        if self.json {
            let mut report = serde_json::to_value(&summary)?;
            report["instances"] = json!(values.len());
            report["cpu_seconds"] = json!([sirnn::service::local::cpu_seconds(), null]);
            report["peak_memory"] = json!([sirnn::service::local::peak_memory(), null]);
            say(report);
        } else {
            if !self.cleartext {
                say(cost(&serde_json::to_value(&summary)?));
            }
            say(format_args!("{} values of {bytes} bytes are in {}", values.len(), self.output.display()));
        }
        Ok(())
    }
}

/// The client brings the inputs and gets the results; the server takes part in every step.
fn between_two(
    entry: &Entry,
    (width, out_width): (u32, u32),
    ot: &str,
    profile: Profile,
    xs: Vec<i128>,
) -> Result<(Vec<i128>, Summary), Failure> {
    let mut cx = Cx::new(profile);
    let n = xs.len();
    let x = cx.input("x", Party::P1, width, n, entry.domain);
    let x = cx.call_int(Share, &[x.0])?;
    let y = cx.named(entry.function.name(), |cx| cx.best_form(&*entry.function, &[x.0]))?[0];
    let y = cx.call_int(Wrap { width: out_width }, &[y])?;
    let y = cx.call(Reveal { to: Party::P1 }, &[y.0])?[0];
    cx.output("y", Own(y));
    let plan = Plan::new(cx.finish(), profile);
    let inputs = Inputs::from([("x".to_string(), xs)]);
    let [_, (mut outputs, report)] = sirnn::run::pair::run(&plan, ot, &inputs)?;
    let mut summary = Summary::default();
    summary.add(n, Party::P1, &report);
    Ok((outputs.remove("y").unwrap_or_default(), summary))
}

/// A few sigmoids between two parties over real OT, compared with the clear.
pub(super) fn self_test() -> Result<(), Failure> {
    let reference = math::Sigmoid::new(16, 12, 12)?;
    let entry = Entry::new(sigmoid::Sigmoid { reference, trailing_zeros: 0, width: 16 }, signed(16));
    let xs: Vec<i128> = (-32768..32768).step_by(657).collect();
    let (values, _) = between_two(&entry, (16, 16), "iknp", Profile::default(), xs.clone())?;
    if values == entry.clear(&xs) { Ok(()) } else { Err("the result differs from the clear".into()) }
}
