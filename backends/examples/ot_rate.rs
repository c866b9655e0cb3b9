//! Correlations per second and bytes per correlation, both parties on this machine over loopback TCP, one thread each.
//!
//! `cargo run --release -p sirnn-backends --example ot_rate -- [FLAVOUR [cot|rot|oneof4|oneof8|triple1|triple2 [LOG2]]]`

use rustix::time::{ClockId, clock_gettime};
use sirnn_backends::{
    Party,
    correlation::{CotReceiver, CotSender, OneOfReceiver, OneOfSender},
    inst::CorrelationKind,
    ot::{self, Batch},
    transport::{Channel, TcpChannel, connect_with_retry},
};
use sirnn_kernels::{hash::Hasher, memory::SecretVec};
use std::{
    net::TcpListener,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let names: Vec<&str> = arg(0).map_or_else(|| ot::names().collect(), |name| vec![name]);
    let whats = arg(1).map_or_else(|| vec!["cot", "rot", "oneof4", "oneof8", "triple1", "triple2"], |what| vec![what]);
    println!(
        "{:14} {:8} {:>10} {:>22} {:>9} {:>10} {:>9}",
        "flavour", "kind", "M/s", "M/cpu-s send, receive", "bytes", "set-up ms", "first ms"
    );
    for name in names {
        for what in &whats {
            let log = arg(2).map_or(if what.starts_with("oneof") { 22 } else { 24 }, |n| n.parse().expect("a number"));
            measure(name, what, 1 << log);
        }
    }
}

fn measure(name: &str, what: &str, n: usize) {
    let sender = Party::P0;
    let (kind, chunk) = match what {
        "cot" | "rot" => (CorrelationKind::Cot { sender }, 1 << 16),
        "oneof4" => (CorrelationKind::OneOf { sender, bits: 4 }, 1 << 15),
        "oneof8" => (CorrelationKind::OneOf { sender, bits: 8 }, 1 << 15),
        "triple1" => (CorrelationKind::Triple { cols: 1 }, 1 << 18),
        "triple2" => (CorrelationKind::Triple { cols: 2 }, 1 << 18),
        _ => panic!("unknown kind {what}"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let together = Barrier::new(2);
    let run = |party: Party| {
        let socket = match party {
            Party::P0 => listener.accept().unwrap().0,
            Party::P1 => connect_with_retry(addr, Duration::from_secs(5)).unwrap(),
        };
        let mut channel = TcpChannel::new(socket).unwrap();
        together.wait();
        let start = Instant::now();
        let spec = ot::lookup(name).unwrap();
        let mut backend = spec.connect(party, [7; 16], &[(kind, n as u64)], &mut channel).unwrap();
        let setup = start.elapsed();
        let mut pads = Pads::new(what, backend.as_ref());
        let mut step = |at: usize| {
            let batch = backend.generate(kind, chunk, &mut channel).unwrap();
            channel.flush().unwrap();
            pads.hash(batch, at);
        };
        step(0);
        let first = start.elapsed();
        together.wait();
        let (start, cpu) = (Instant::now(), cpu_seconds());
        for at in (chunk..n).step_by(chunk) {
            step(at);
        }
        let rate = |seconds: f64| (n - chunk) as f64 / seconds / 1e6;
        let (own, cpu) = (start.elapsed(), rate(cpu_seconds() - cpu));
        together.wait();
        (own, cpu, channel.traffic(), setup, first)
    };
    let (a, b) = std::thread::scope(|s| {
        let a = s.spawn(|| run(Party::P0));
        let b = run(Party::P1);
        (a.join().unwrap(), b)
    });
    let rate = (n - chunk) as f64 / a.0.max(b.0).as_secs_f64() / 1e6;
    let bytes = (a.2.sent + b.2.sent) as f64 / n as f64;
    let (setup, first) = (a.3.max(b.3).as_secs_f64() * 1e3, a.4.max(b.4).as_secs_f64() * 1e3);
    println!("{name:14} {what:8} {rate:10.1} {:11.1} {:10.1} {bytes:9.4} {setup:10.1} {first:9.1}", a.1, b.1);
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Turns rows to pads, as the online phase would.
struct Pads {
    wanted: bool,
    delta: Zeroizing<u128>,
    offsets: Arc<SecretVec<u128>>,
    hasher: Arc<Hasher>,
    out: [Vec<u128>; 2],
}

impl Pads {
    fn new(what: &str, backend: &dyn ot::Backend) -> Self {
        let bits = what.strip_prefix("oneof").map(|bits| bits.parse().unwrap());
        Self {
            wanted: what != "cot",
            delta: backend.delta(),
            offsets: Arc::new(bits.map_or(Default::default(), |bits| backend.offsets(bits))),
            hasher: Arc::new(Hasher::new(7, 1)),
            out: [(); 2].map(|()| vec![0; 1 << 17]),
        }
    }

    /// Tile by tile, so that pads stay in the cache.
    fn hash(&mut self, batch: Batch, at: usize) {
        if !self.wanted {
            return;
        }
        let (position, hasher) = (at as u64, self.hasher.clone());
        match batch {
            Batch::CotSend(rows) => {
                let n = rows.len();
                let ticket = CotSender { rows, delta: self.delta.clone(), position, hasher };
                let [zero, one] = &mut self.out;
                for from in (0..n).step_by(4096) {
                    ticket.pads(from, &mut zero[..4096], &mut one[..4096]);
                }
            }
            Batch::CotRecv(rows, choices) => {
                let n = rows.len();
                let ticket = CotReceiver { rows, choices, position, hasher };
                for from in (0..n).step_by(4096) {
                    ticket.pads(from, &mut self.out[0][..4096]);
                }
            }
            Batch::OneOfSend(rows) => {
                let bits = self.offsets.len().trailing_zeros() as u8;
                let ticket = OneOfSender { bits, rows, offsets: self.offsets.clone(), position, hasher };
                for from in (0..1 << 15).step_by(256) {
                    ticket.pads(from, &mut self.out[0][..256 << bits]);
                }
            }
            Batch::OneOfRecv(rows, choices) => {
                let ticket = OneOfReceiver { bits: 0, rows, choices, position, hasher };
                for from in (0..1 << 15).step_by(4096) {
                    ticket.pads(from, &mut self.out[0][..4096]);
                }
            }
            Batch::Triples(_) | Batch::OneHots(..) => {}
        }
        std::hint::black_box(&self.out);
    }
}
