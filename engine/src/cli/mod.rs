//! Commands, their options, and what they share.

mod bench;
mod calibrate;
mod certificate;
#[cfg(feature = "import")]
mod check;
mod connection;
mod cost_table;
mod demo;
mod doctor;
mod failure;
mod generate;
#[cfg(feature = "import")]
mod import;
mod infer;
mod log;
mod merge;
mod offline;
mod output;
mod plan;
mod profile;
mod request;
mod run;
mod serve;
mod settings;
mod shard;
mod show;
mod table;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use sirnn::plan::choice::Objective;
use sirnn::plan::planner::{MAX_LANES, Policy};
use sirnn::plan::speeds::Speeds;
use sirnn::program::LinearForms;
use sirnn::service::Connection;
use sirnn::service::ledger::Ledger;
use sirnn::service::server::{self, Limits, Stores};
use sirnn_backends::ot::{self, BackendSpec};
use sirnn_backends::transport::Link;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use failure::Failure;

/// Secure two-party inference for recurrent neural networks.
///
/// A server owns a trained network, a client owns time series. Together they compute the network's predictions,
/// bit for bit those of its integer program: the client learns its results, the server learns nothing.
/// Secure against parties that follow the protocol and are curious (semi-honest), with 128 bits.
#[derive(Parser)]
#[command(
    name = "sirnn",
    version,
    max_term_width = 110,
    after_help = "\
Start here:
  sirnn demo                                   server and client on this machine, handwritten digits
  sirnn show --model models/digits             the network, node by node
  sirnn import net.onnx --calibration x.npy --out models/mine    your own network, trained elsewhere
  sirnn plan --model models/digits             rounds, bytes, memory, and what the client learns, before anything runs
  sirnn serve --model models/digits --listen 127.0.0.1:7700
  sirnn infer --connect 127.0.0.1:7700 --input models/digits/inputs.npy --output result.csv

Between two machines everything is encrypted, and both parties prove who they are (see sirnn certificate new).

Exit status: 0 done; 1 internal error; 2 usage; 3 input (file, model, store, certificate); 4 the peer broke the
protocol, refused, or is not who it should be; 5 network; 6 a limit of either side; 7 the server is busy; 130 interrupted"
)]
struct Cli {
    /// Take options from this file (TOML, the same names); those of the command line and SIRNN_... variables win
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look, on standard error; SIRNN_LOG says which there are
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Show(show::Show),
    #[cfg(feature = "import")]
    Check(check::Check),
    #[cfg(feature = "import")]
    Import(import::Import),
    Plan(plan::PlanCommand),
    Run(run::Run),
    Serve(serve::Serve),
    Infer(infer::Infer),
    Merge(merge::Merge),
    Offline(offline::Offline),
    Table(table::Table),
    Bench(bench::Bench),
    Doctor(doctor::Doctor),
    Certificate(certificate::Certificate),
    Completions(generate::Completions),
    Man(generate::Man),
}

/// Runs the command that was typed.
pub(crate) fn main() -> ExitCode {
    match settings::arguments().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Standard error may have gone too.
            let _ = writeln!(std::io::stderr(), "sirnn: {e}");
            ExitCode::from(e.fault.status())
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<(), Failure> {
    let cli = Cli::parse_from(arguments);
    let serves = match &cli.command {
        Command::Serve(_) => true,
        Command::Offline(c) => c.serves(),
        _ => false,
    };
    log::start(cli.log_format, if serves { "info" } else { "warn" })?;
    match cli.command {
        Command::Demo(c) => c.run(),
        Command::Show(c) => c.run(),
        #[cfg(feature = "import")]
        Command::Check(c) => c.run(),
        #[cfg(feature = "import")]
        Command::Import(c) => c.run(),
        Command::Plan(c) => c.run(),
        Command::Run(c) => c.run(),
        Command::Serve(c) => c.run(),
        Command::Infer(c) => c.run(),
        Command::Merge(c) => c.run(),
        Command::Offline(c) => c.run(),
        Command::Table(c) => c.run(),
        Command::Bench(c) => c.run(),
        Command::Doctor(c) => c.run(),
        Command::Certificate(c) => c.run(),
        Command::Completions(c) => c.run(),
        Command::Man(c) => c.run(),
    }
}

/// What forms are chosen by.
#[derive(Clone, Copy, ValueEnum)]
enum Optimize {
    /// Least time on the link.
    Time,
    /// Fewest rounds, then bytes.
    Rounds,
    /// Fewest bytes, then rounds.
    Bytes,
    /// Fewest bytes in the online phase, then rounds.
    Online,
}

/// The choices that the plan depends on, besides the model.
#[derive(Args, Clone)]
struct Planning {
    /// Where correlations come from: auto (what is best for the goal), iknp, softspoken[:2|:8], or ferret (fewest bytes)
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = ot_choice)]
    ot: OtChoice,
    /// What to optimise where a protocol has several forms
    #[arg(long, value_name = "GOAL", default_value = "time")]
    optimize: Optimize,
    /// The link that time is estimated for: loopback, lan, wan, or MBIT,MS (bandwidth, round-trip time); default: the
    /// simulated one, or lan
    #[arg(long, value_name = "LINK", value_parser = Link::from_str)]
    link: Option<Link>,
    /// Compute what depends on one narrow value alone, as a cell's activations often do, as one look-up: the same bits, in
    /// fewer rounds and bytes
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    fuse: Fuse,
    /// Batches that are computed at the same time, each on connections of its own: auto, or 1 to 8
    #[arg(long, value_name = "N", default_value = "auto", value_parser = lanes)]
    lanes: Lanes,
    /// Where products with the weights come from: cot (bytes for every weight and row; no client can read weights by sending
    /// what the protocol does not allow), rlwe (bytes for every element, far fewer for all but narrow matrices; needs clients that follow the
    /// protocol), or auto, whichever is fewer bytes for a matrix
    #[arg(long, value_name = "HOW", default_value = "auto")]
    linear: LinearArg,
}

/// Where products with the weights come from.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LinearArg {
    /// For each matrix what is fewer bytes.
    Auto,
    /// Correlated OTs.
    Cot,
    /// Ring-LWE.
    Rlwe,
}

impl From<LinearArg> for LinearForms {
    fn from(how: LinearArg) -> Self {
        match how {
            LinearArg::Auto => Self::Auto,
            LinearArg::Cot => Self::Cot,
            LinearArg::Rlwe => Self::Rlwe,
        }
    }
}

/// Whether cells are fused.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Fuse {
    /// If that is better for the goal.
    Auto,
    On,
    Off,
}

/// An OT backend, `None` for the planner's choice.
#[derive(Clone, Copy)]
struct OtChoice(Option<&'static str>);

fn ot_choice(name: &str) -> Result<OtChoice, String> {
    if name == "auto" { Ok(OtChoice(None)) } else { backend(name).map(|n| OtChoice(Some(n))) }
}

/// A number of lanes, `None` for the planner's choice.
#[derive(Clone, Copy)]
struct Lanes(Option<usize>);

fn lanes(s: &str) -> Result<Lanes, String> {
    let n = s.parse().ok().filter(|n| (1..=MAX_LANES).contains(n));
    if s == "auto" {
        Ok(Lanes(None))
    } else {
        n.map(|n| Lanes(Some(n))).ok_or_else(|| format!("auto, or 1 to {MAX_LANES}"))
    }
}

impl Planning {
    fn objective(&self) -> Objective {
        match self.optimize {
            Optimize::Rounds => Objective::Rounds,
            Optimize::Bytes => Objective::Bytes,
            Optimize::Online => Objective::Online,
            Optimize::Time => Objective::Time {
                bits_per_second: self.link().bits_per_second as u64,
                latency_ns: self.link().latency.as_nanos() as u64,
            },
        }
    }

    fn link(&self) -> Link {
        self.link.unwrap_or(Link::LAN)
    }

    /// The same for a simulated link, unless another was named.
    fn over(&self, net: Net) -> Self {
        Self { link: self.link.or(net.0), ..self.clone() }
    }

    fn fuse(&self) -> Option<bool> {
        match self.fuse {
            Fuse::Auto => None,
            fuse => Some(fuse == Fuse::On),
        }
    }

    fn backend(&self) -> Result<Option<&'static dyn BackendSpec>, Failure> {
        Ok(self.ot.0.map(ot::lookup).transpose()?)
    }

    fn policy(&self) -> Result<Policy, Failure> {
        let (goal, link) = (self.objective().into(), self.link());
        Ok(Policy {
            goal,
            link,
            backend: self.backend()?,
            fuse: self.fuse(),
            lanes: self.lanes.0,
            linear: self.linear.into(),
        })
    }

    /// How a server with these options serves.
    fn server(
        &self,
        connection: Connection,
        net: Net,
        limits: Limits,
        stores: Stores,
        ledger: Ledger,
    ) -> Result<server::Options, Failure> {
        let planning = self.over(net);
        Ok(server::Options {
            backend: planning.backend()?,
            fuse: planning.fuse(),
            lanes: planning.lanes.0,
            linear: planning.linear.into(),
            ledger: Some(ledger),
            objective: planning.objective(),
            link: planning.link(),
            speeds: speeds()?,
            limits,
            connection,
            watch: Vec::new(),
            stores,
        })
    }

    /// The same options for another process.
    fn arguments(&self) -> Vec<String> {
        let name = |v: Option<PossibleValue>| v.map_or_else(String::new, |v| v.get_name().into());
        let values = [
            ("--ot", self.ot.0.unwrap_or("auto").to_string()),
            ("--optimize", name(self.optimize.to_possible_value())),
            ("--link", link_name(self.link())),
            ("--fuse", name(self.fuse.to_possible_value())),
            ("--linear", name(self.linear.to_possible_value())),
            ("--lanes", self.lanes.0.map_or("auto".into(), |n| n.to_string())),
        ];
        values.into_iter().flat_map(|(option, value)| [option.to_string(), value]).collect()
    }
}

/// This machine's speeds.
fn speeds() -> Result<Speeds, Failure> {
    Ok(Speeds::of_this_machine()?)
}

/// A registered OT backend's name.
fn backend(name: &str) -> Result<&'static str, String> {
    ot::names().find(|n| *n == name).ok_or_else(|| format!("known: {}", ot::names().collect::<Vec<_>>().join(", ")))
}

/// A link as [`Link::from_str`] reads it.
fn link_name(link: Link) -> String {
    format!("{},{}", link.bits_per_second / 1e6, link.latency.as_secs_f64() * 2e3)
}

/// A simulated link, or none.
#[derive(Clone, Copy)]
struct Net(Option<Link>);

impl Net {
    /// The same option for another process.
    fn arguments(self) -> Vec<String> {
        self.0.map_or(Vec::new(), |link| vec!["--net".into(), link_name(link)])
    }
}

impl FromStr for Net {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        if s == "none" { Ok(Self(None)) } else { s.parse().map(|link| Self(Some(link))) }
    }
}
