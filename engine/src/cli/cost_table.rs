//! The table of what every operation costs: ours planned (which a run must meet exactly), the paper's formulas, and what
//! the authors' library sends.

use super::{Failure, bench};
use sirnn::plan::operations::{self, Params};
use std::fmt::Write;

/// A line of the table.
struct Line {
    op: &'static str,
    params: &'static str,
    set: fn(&mut Params),
    /// Ours, in terms of what it is made of.
    formula: &'static str,
    /// The paper's, in bits, with lambda = 128.
    paper: &'static str,
    /// Bytes per instance that the authors' library sends at n = 65,536.
    peer: Option<f64>,
}

const LEAVES: &str = "sum over leaves of OT(2^k) + (k + f 2^k)/8, + nodes of T1 + 1/2 or T2 + 3/4";

const LINES: &[Line] = &[
    Line {
        op: "compare",
        params: "16 bit",
        set: |_| {},
        formula: LEAVES,
        paper: "< lambda l + 14 l",
        peer: Some(218.0),
    },
    Line {
        op: "compare",
        params: "32 bit",
        set: |p| p.width = 32,
        formula: LEAVES,
        paper: "< lambda l + 14 l",
        peer: Some(491.5),
    },
    Line {
        op: "compare",
        params: "64 bit",
        set: |p| p.width = 64,
        formula: LEAVES,
        paper: "< lambda l + 14 l",
        peer: Some(1057.0),
    },
    Line {
        op: "eq",
        params: "32 bit",
        set: |p| p.width = 32,
        formula: "leaves of one flag, nodes of T1 + 1/2",
        paper: "-",
        peer: Some(405.0),
    },
    Line {
        op: "msb",
        params: "32 bit",
        set: |p| p.width = 32,
        formula: "carry into bit l-1",
        paper: "< lambda l + 14 l",
        peer: Some(491.5),
    },
    Line { op: "and", params: "", set: |_| {}, formula: "T1 + 1/2", paper: "lambda + 20", peer: Some(18.0) },
    Line {
        op: "b2a",
        params: "to 32 bit",
        set: |p| p.out_width = 32,
        formula: "C + l/8",
        paper: "lambda + l",
        peer: Some(20.0),
    },
    Line {
        op: "mux",
        params: "32 bit",
        set: |p| p.width = 32,
        formula: "2 (C + (l+1)/8)",
        paper: "2 (lambda + l)",
        peer: Some(40.0),
    },
    Line {
        op: "sext",
        params: "16 to 32",
        set: |p| p.out_width = 32,
        formula: "carry(m) + C + (n-m)/8",
        paper: "lambda (m+1) + 13 m + n",
        peer: Some(236.0),
    },
    Line {
        op: "sext",
        params: "16 to 32, slack",
        set: |p| (p.out_width, p.slack) = (32, true),
        formula: "C + (1+n-m)/8",
        paper: "2 lambda - m + n + 2",
        peer: Some(50.5),
    },
    Line {
        op: "tr",
        params: "32 by 12",
        set: |p| p.width = 32,
        formula: "carry(s) + C + (l-s)/8",
        paper: "lambda (s+1) + l + 13 s",
        peer: Some(163.5),
    },
    Line {
        op: "ars",
        params: "32 by 12",
        set: |p| p.width = 32,
        formula: "carries(s, l) + 2 C + (s+l)/8",
        paper: "lambda (l+3) + 15 l + s + 20",
        peer: Some(524.5),
    },
    Line {
        op: "lrs",
        params: "32 by 12",
        set: |p| p.width = 32,
        formula: "carries(s, l) + 2 C + (s+l)/8",
        paper: "lambda (l+3) + 15 l + s + 20",
        peer: Some(524.5),
    },
    Line {
        op: "divpow2",
        params: "16 by 7",
        set: |p| p.shift = 7,
        formula: "carries(s, zero, l-1, l) + T1 + 3 C + (s+2l)/8",
        paper: "lambda (l + 7s/4 + 4) + 16 l + 23 s - 5",
        peer: Some(406.0),
    },
    Line {
        op: "divpow2",
        params: "32 by 12",
        set: |p| p.width = 32,
        formula: "carries(s, zero, l-1, l) + T1 + 3 C + (s+2l)/8",
        paper: "lambda (l + 7s/4 + 4) + 16 l + 23 s - 5",
        peer: Some(733.0),
    },
    Line {
        op: "digdec",
        params: "32 into 8",
        set: |p| p.width = 32,
        formula: "carries(d, 2d, ..) + (l/d - 1) (C + d/8)",
        paper: "(l/d - 1) (lambda (d+2) + 15 d + 20)",
        peer: Some(446.0),
    },
    Line {
        op: "lut",
        params: "2^8 x 16",
        set: |_| {},
        formula: "OT(2^m) + (m + 2^m n)/8",
        paper: "2 lambda + 2^m n",
        peer: Some(544.0),
    },
    Line {
        op: "mul",
        params: "16 x 16 to 32",
        set: |p| p.out_width = 32,
        formula: "carries of both + (2m + 4) C + crosses",
        paper: "lambda (3m + n + 4) + 2 m n + m^2 + 17 m + 16 n",
        peer: Some(1140.0),
    },
    Line {
        op: "mul",
        params: "16 x 16 to 32, slack",
        set: |p| (p.out_width, p.slack) = (32, true),
        formula: "(2m + 2) C + crosses",
        paper: "lambda (2m + 6) + 2 m n + m^2 + 3 m + 2 n + 4",
        peer: Some(769.0),
    },
    Line {
        op: "exp",
        params: "16 bit, 12 to 12",
        set: |_| {},
        formula: "digits, 2 look-ups, product, tr",
        paper: "2.12 KB",
        peer: Some(2004.5),
    },
    Line {
        op: "sigmoid",
        params: "16 bit, 12 to 12",
        set: |_| {},
        formula: "msb, 2 mux, exp, reciprocal, product, tr",
        paper: "4.88 KB",
        peer: Some(4430.1),
    },
    Line {
        op: "tanh",
        params: "16 bit, 12 to 12",
        set: |_| {},
        formula: "msb, 2 mux, exp, reciprocal, product, tr",
        paper: "-",
        peer: Some(4382.9),
    },
    Line {
        op: "rsqrt",
        params: "16 bit, 12 to 12",
        set: |_| {},
        formula: "one-hot, 6 products, 4 tr, look-up",
        paper: "6 KB",
        peer: Some(5700.8),
    },
    Line {
        op: "sqrt",
        params: "16 bit, 12 to 12",
        set: |_| {},
        formula: "one-hot, 7 products, 5 tr, look-up",
        paper: "-",
        peer: Some(7238.0),
    },
    Line {
        op: "msnzb",
        params: "32 bit, one-hot",
        set: |p| p.width = 32,
        formula: "digits, look-ups, prefix of zero flags",
        paper: "14,660 bits (index)",
        peer: Some(1666.0),
    },
    Line { op: "relu", params: "32 bit", set: |p| p.width = 32, formula: "msb + mux", paper: "-", peer: Some(531.5) },
];

/// The table, as `docs/cost.md` has it.
pub(super) fn markdown() -> Result<String, Failure> {
    let mut text = String::from(
        "# What every operation costs\n\n\
         Made by `sirnn bench --table`: IKNP and KK13, forms chosen for fewest bytes. Bytes are all that both parties send \
         (set-up, offline, online) divided by instances; they are planned, and a run that differs from its plan is an \
         error. Rounds are one-way delays of the online phase.\n\n\
         C: a correlated OT (16 B). OT(2^k): a 1-of-2^k OT (up to 32 B). T1, T2: bit triples with one or two columns \
         (17, 32 B). The paper's formulas are in bits, lambda = 128. The peer is the authors' library, measured at \
         n = 65,536 without its set-up.\n\n\
         | operation | | rounds | n = 1 | n = 100 | n = 65,536 | of it offline | online | made of | paper | peer |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in LINES {
        let Some(op) = operations::find(line.op) else { continue };
        let mut total = Vec::new();
        let (mut offline, mut online, mut rounds) = (0.0, 0.0, 0);
        for n in [1, 100, 65_536] {
            let mut params = Params { n, ..Params::default() };
            (line.set)(&mut params);
            (offline, online, rounds) = bench::planned(op, &params)?;
            total.push(format!("{:.1}", offline + online));
        }
        let peer = line.peer.map_or("-".into(), |b| format!("{b}"));
        writeln!(
            text,
            "| {} | {} | {rounds} | {} | {offline:.1} | {online:.1} | {} | {} | {peer} |",
            line.op,
            line.params,
            total.join(" | "),
            line.formula,
            line.paper,
        )?;
    }
    Ok(text)
}
