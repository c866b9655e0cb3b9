//! `sirnn bench`: one operation between two processes, and the table of what all of them cost.

use super::{Failure, Optimize, output};
use clap::Args;
use serde_json::json;
use sirnn::plan::correlations::CORRELATION_BUDGET;
use sirnn::plan::correlations::offline_cost;
use sirnn::plan::operations::{self, OPERATIONS, Operation, Params};
use sirnn::program::{Goal, Profile};
use sirnn::run::session::{Kept, Session};
use sirnn::run::usage;
use sirnn::service::{Summary, local};
use sirnn_backends::ot::{self, BackendSpec};
use sirnn_backends::transport::{Channel, TcpChannel, connect_with_retry};
use sirnn_backends::{Party, random};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

/// Measure one operation between two processes over loopback TCP
///
/// Operands are fresh sharings of random values. Bytes are everything on the wire, set-up included.
#[derive(Args)]
pub(super) struct Bench {
    /// Operation; see --list
    #[arg(required_unless_present_any = ["list", "table"])]
    op: Option<String>,
    /// List the operations and the parameters they use
    #[arg(long)]
    list: bool,
    /// Round the function to the nearest, with one look-up: sigmoid, tanh, exp, log, gelu, silu, softplus, elu, erf, sin, cos,
    /// reciprocal, rsqrt, sqrt, square of numbers of up to 16 bits
    #[arg(long)]
    nearest: bool,
    /// Print the cost of every operation as a Markdown table (planned, which is exact)
    #[arg(long)]
    table: bool,
    /// Bits of the operands
    #[arg(long, default_value_t = 16)]
    width: u32,
    /// Bits of the result
    #[arg(long, default_value_t = 16)]
    out_width: u32,
    /// Fraction bits of the operand
    #[arg(long, default_value_t = 12)]
    scale_in: u32,
    /// Fraction bits of the result
    #[arg(long, default_value_t = 12)]
    scale_out: u32,
    /// Bits shifted out
    #[arg(long, default_value_t = 12)]
    shift: u32,
    /// Bits of a digit, or of a look-up's index
    #[arg(long, default_value_t = 8)]
    digit: u32,
    /// Operands leave the top bit of their rings free
    #[arg(long)]
    slack: bool,
    /// Instances
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    n: u32,
    /// Instances at a time; all at once without it
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Where correlations come from
    #[arg(long, value_name = "NAME", default_value = "iknp", value_parser = super::backend)]
    ot: &'static str,
    /// What to optimise where an operation has several forms
    #[arg(long, value_name = "GOAL", default_value = "bytes")]
    optimize: Optimize,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// The other party's process: the session's id
    #[arg(long, hide = true, value_name = "HEX")]
    host: Option<String>,
}

impl Bench {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.list {
            for op in OPERATIONS {
                local::print_line(format_args!("{:<12} {}", op.name, op.about));
            }
            return Ok(());
        }
        if self.table {
            local::print_line(super::cost_table::markdown()?);
            return Ok(());
        }
        let name = self.op.as_deref().unwrap_or_default();
        let missing = || format!("no operation '{name}'; sirnn bench --list shows all");
        let rounded;
        let op = if self.nearest {
            rounded = operations::nearest(name).ok_or_else(missing)?;
            &rounded
        } else {
            operations::find(name).ok_or_else(missing)?
        };
        let backend = ot::lookup(self.ot)?;
        match &self.host {
            Some(id) => self.serve(op, backend, u128::from_str_radix(id, 16)?),
            None => self.measure(op, backend),
        }
    }

    fn profile(&self, backend: &dyn BackendSpec) -> Profile {
        let goal = match self.optimize {
            Optimize::Rounds => Goal::Rounds,
            Optimize::Bytes => Goal::Bytes,
            Optimize::Online => Goal::Online,
            Optimize::Time => Goal::Time { bits_per_second: 3e9, latency: 4e-4 },
        };
        Profile::of(goal, backend)
    }

    /// Sizes of the runs.
    fn runs(&self) -> impl Iterator<Item = u32> {
        let (n, batch) = (self.n, self.batch.unwrap_or(self.n));
        (0..n.div_ceil(batch)).map(move |i| batch.min(n - i * batch))
    }

    /// One party's sessions, one for each run; `connect` gives the two channels of each.
    fn party(
        &self,
        op: &Operation,
        backend: &dyn BackendSpec,
        party: Party,
        id: u128,
        mut connect: impl FnMut() -> Result<[TcpChannel; 2], Failure>,
    ) -> Result<Summary, Failure> {
        let mut summary = Summary::default();
        for (i, n) in self.runs().enumerate() {
            let &Self { width, out_width, scale_in, scale_out, shift, digit, slack, .. } = self;
            let params = Params { width, out_width, scale_in, scale_out, shift, digit, slack, n: n as usize };
            let plan = op.plan(&params, self.profile(backend))?;
            // Both parties know both shares: these values are nobody's secret.
            let inputs = operations::inputs(&plan.program, 1);
            let [mut online, offline] = connect()?;
            let id = (id ^ i as u128).to_le_bytes();
            let offline: Box<dyn Channel> = Box::new(offline);
            let session = Session {
                plan: &plan,
                party,
                backend,
                id,
                nonce: [0; 16],
                online: &mut online,
                offline,
                kept: &mut Kept::default(),
                budget: CORRELATION_BUDGET,
            };
            let (_, report) = session.run(&inputs, &mut |_| {})?;
            summary.add(n as usize, party, &report);
        }
        Ok(summary)
    }

    fn serve(&self, op: &Operation, backend: &dyn BackendSpec, id: u128) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        local::print_line(json!({ "listening": listener.local_addr()?.to_string() }));
        let accept = || -> Result<_, Failure> { Ok(TcpChannel::new(listener.accept()?.0)?) };
        let summary = self.party(op, backend, Party::P0, id, || Ok([accept()?, accept()?]))?;
        local::print_line(local::report(&summary));
        Ok(())
    }

    fn measure(&self, op: &Operation, backend: &dyn BackendSpec) -> Result<(), Failure> {
        let id = u128::from_le_bytes(random::bytes()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).args(["--host", &format!("{id:x}")]);
        let server = local::Process::start(&mut command)?;
        let connect = |addr: SocketAddr| -> Result<_, Failure> {
            Ok(TcpChannel::new(connect_with_retry(addr, Duration::from_secs(10))?)?)
        };
        let summary =
            self.party(op, backend, Party::P1, id, || Ok([connect(server.address)?, connect(server.address)?]))?;
        let server = server.finish()?;
        let mut report = serde_json::to_value(&summary)?;
        report["cpu_seconds"] = json!([null, usage::cpu_seconds()]);
        report["peak_memory"] = json!([null, usage::peak_memory()]);
        local::complete(&mut report, &server);
        report["op"] = json!(op.name);
        report["ot"] = json!(backend.name());
        if !self.json {
            local::print_line(output::cost(&report));
            let cpu: f64 = [0, 1].iter().filter_map(|p| report["cpu_seconds"][*p].as_f64()).sum();
            local::print_line(format_args!(
                "  {:.1} B and {:.3} us CPU (both parties, set-up included) an instance",
                summary.bytes_per_instance,
                cpu * 1e6 / f64::from(self.n)
            ));
        } else {
            local::print_line(report);
        }
        Ok(())
    }
}

/// Offline and online bytes per instance, and rounds, of a planned operation with IKNP and KK13.
pub(super) fn planned(op: &Operation, params: &Params) -> Result<(f64, f64, usize), Failure> {
    let backend = ot::lookup("iknp")?;
    let plan = op.plan(params, Profile::of(Goal::Bytes, backend))?;
    let n = params.n as f64;
    let sum = |[a, b]: [u64; 2]| (a + b) as f64 / n;
    Ok((sum(offline_cost(&plan, backend).bytes_from), sum(plan.online_bytes()), plan.rounds()))
}
