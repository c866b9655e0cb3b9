//! `sirnn doctor`: which kernels this machine uses, and whether they work.

use super::connection::{Tls, seconds};
use super::output::write_file;
use super::{Failure, calibrate};
use clap::Args;
use serde_json::json;
use sirnn::plan::WIRE_VERSION;
use sirnn::plan::speeds::Speeds;
use sirnn::program::LinearForms;
use sirnn::service::client::{self, Client};
use sirnn::service::identity::{Fingerprint, describe};
use sirnn::service::local::print_line;
use sirnn::service::{Bounds, Connection};
use sirnn_backends::transport::Limits;
use sirnn_kernels::aes::Prg;
use sirnn_kernels::{
    Level, available, bits, detected, hash::Hasher, level, matmul, ops, override_note, pack, transpose,
};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Say which CPU features are used, and test that everything works here
///
/// The environment variable SIRNN_SIMD (portable, aesni, vaes256, avx512) lowers the level that was detected.
#[derive(Args)]
pub(super) struct Doctor {
    /// Measure how fast this machine makes and uses correlations (some seconds), and keep it for `--ot auto` and `plan`
    #[arg(long)]
    calibrate: bool,
    /// Check the way to the server at this address instead: name, port, TLS, versions, round trip, bandwidth
    #[arg(long, value_name = "ADDR")]
    connect: Option<String>,
    #[command(flatten)]
    tls: Tls,
    /// Longest silence of that server in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    deadline: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Messages that are sent to measure the round trip.
const PINGS: usize = 10;
/// Messages that are sent to measure the bandwidth, and their length.
const LOADS: usize = 12;
const LOAD: usize = 256 << 10;

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.calibrate {
            return self.calibrate();
        }
        if let Some(address) = &self.connect {
            return self.check_way(address);
        }
        let why = override_note().unwrap_or_else(|| {
            format!("the highest that this CPU has; SIRNN_SIMD={} changes nothing", detected().name())
        });
        let reference = fingerprint(Level::Portable);
        let levels: Vec<(Level, Option<bool>)> = Level::ALL
            .into_iter()
            .map(|l| (l, available().contains(&l).then(|| fingerprint(l) == reference)))
            .collect();
        let two_party = super::table::self_test();
        let healthy = two_party.is_ok() && levels.iter().all(|(_, agrees)| *agrees != Some(false));
        if self.json {
            let entry = |&(l, agrees): &(Level, Option<bool>)| json!({ "level": l.name(), "available": l <= detected(), "used": l == level(), "agrees": agrees });
            print_line(json!({
                "level": level().name(), "detected": detected().name(), "why": why,
                "levels": levels.iter().map(entry).collect::<Vec<_>>(),
                "two_party": two_party.as_ref().map_or_else(ToString::to_string, |()| "ok".into()),
                "healthy": healthy,
            }));
        } else {
            print_line(format_args!("kernels: {} ({why})", level().name()));
            for (l, agrees) in &levels {
                let state = match agrees {
                    _ if *l > detected() => "this CPU does not have it",
                    None => "switched off by SIRNN_SIMD",
                    Some(true) => "available, computes what portable code does",
                    Some(false) => "available, but COMPUTES SOMETHING ELSE",
                };
                print_line(format_args!("  {:<10} {state}; chosen by SIRNN_SIMD={}", l.name(), l.name()));
            }
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            print_line(format_args!("threads: {threads}"));
            match &two_party {
                Ok(()) => print_line("two parties in this process: sigmoid over real OT, exact"),
                Err(e) => print_line(format_args!("two parties in this process: {e}")),
            }
        }
        if healthy { Ok(()) } else { Err(Failure::internal("the self-test failed")) }
    }

    /// The way to a server, step by step: the first that fails is the error.
    fn check_way(&self, address: &str) -> Result<(), Failure> {
        let told = |line: std::fmt::Arguments<'_>| {
            if !self.json {
                print_line(line);
            }
        };
        let (server, identity) = self.tls.resolve(address)?;
        told(format_args!("name        {} is {}", server.host, server.addresses[0]));
        let limits = Limits::within(self.deadline);
        let connection = Connection { limits, identity, ..Connection::default() };
        let bounds = Bounds { bytes: u64::MAX, memory: u64::MAX };
        let options =
            client::Options { bounds, connection, pinned: None, watch: Vec::new(), linear: LinearForms::Auto };
        let start = Instant::now();
        let mut client = Client::connect(&server, options).map_err(|e| super::request::of_server(&server, e))?;
        let connected = start.elapsed().as_secs_f64();
        let certificate = client.peer_certificate();
        let peer = certificate.as_deref().map(|c| (describe(c), Fingerprint::of(c).to_string()));
        match &peer {
            Some((name, fingerprint)) => told(format_args!("TLS         1.3 with {name}, fingerprint {fingerprint}")),
            None => told(format_args!("TLS         none: everybody on the way can read and change everything")),
        }
        told(format_args!("versions    wire {WIRE_VERSION} on both sides"));
        told(format_args!("model       {}", client.description().name));
        let failed = |e| super::request::of_server(&server, e);
        let mut trips: Vec<f64> = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            trips.push(client.echo("").map_err(failed)?.as_secs_f64());
        }
        trips.sort_by(f64::total_cmp);
        let trip = trips[PINGS / 2];
        told(format_args!("round trip  {:.3} ms", trip * 1e3));
        let load = "x".repeat(LOAD);
        let mut seconds = 0.0;
        for _ in 0..LOADS {
            seconds += (client.echo(&load).map_err(failed)?.as_secs_f64() - trip).max(1e-9);
        }
        // Each way in turn.
        let bits = (2 * LOADS * LOAD * 8) as f64 / seconds;
        told(format_args!("bandwidth   {:.0} Mbit/s", bits / 1e6));
        if self.json {
            print_line(json!({
                "address": server.addresses[0].to_string(), "tls": peer.is_some(),
                "certificate": peer.as_ref().map(|p| &p.0), "fingerprint": peer.as_ref().map(|p| &p.1),
                "wire_version": WIRE_VERSION, "model": client.description().name,
                "connect_seconds": connected, "round_trip_seconds": trip, "bits_per_second": bits,
            }));
        }
        Ok(())
    }

    fn calibrate(&self) -> Result<(), Failure> {
        let file = Speeds::file().ok_or("there is no folder for settings: name a file in SIRNN_SPEEDS")?;
        let terminal = std::io::stderr().is_terminal();
        let speeds = calibrate::measure(&mut |what| {
            if terminal {
                eprintln!("measuring {what}");
            }
        })?;
        if let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        write_file(&file, speeds.to_toml().as_bytes())?;
        if self.json {
            print_line(json!({ "file": file, "speeds": speeds }));
            return Ok(());
        }
        print_line("nanoseconds of CPU of one party; a 1-of-N OT and each of its bits (make) or pads (spend)");
        print_line(format_args!(
            "{:<14} {:>12} {:>9} {:>9} {:>9} {:>9}",
            "", "set-up", "COT", "1-of-N", "each", "triple"
        ));
        for (name, b) in &speeds.backend {
            for (what, setup, c) in [("make", Some(b.setup), &b.make), ("spend", None, &b.spend)] {
                let setup = setup.map_or(String::new(), |s| format!("{s:.0}"));
                print_line(format_args!(
                    "{:<14} {setup:>12} {:>9.1} {:>9.1} {:>9.1} {:>9.1}  {what}",
                    if what == "make" { name } else { "" },
                    c.cot,
                    c.one_of,
                    c.one_of_each,
                    c.triple
                ));
            }
        }
        print_line(format_args!("a round: {:.0}", speeds.round));
        print_line(format_args!("kept in {}", file.display()));
        Ok(())
    }
}

/// Digest of what a level's kernels compute on fixed inputs.
fn fingerprint(level: Level) -> blake3::Hash {
    const N: usize = 1000;
    let mut hasher = blake3::Hasher::new();
    let put = |hasher: &mut blake3::Hasher, blocks: &[u128]| {
        blocks.iter().for_each(|b| {
            hasher.update(&b.to_le_bytes());
        });
    };
    let mut rows = vec![0; 1024];
    Prg::new_at(level, 1).fill_blocks(&mut rows);
    put(&mut hasher, &rows);
    let mut out = vec![0; 2 * rows.len()];
    Hasher::new_at(level, 2, 3).pads(5, 0, &rows, &[0, 7], &mut out);
    put(&mut hasher, &out);
    transpose::transpose128_at(level, &rows, rows.len() / 128, &mut out[..rows.len()]);
    put(&mut hasher, &out);

    let mut x = vec![0u16; N];
    Prg::new_at(level, 4).fill_words(13, &mut x);
    let mut packed = vec![0; pack::packed_len(N, 13)];
    pack::pack_at(level, 13, &x, &mut packed);
    hasher.update(&packed);
    let mut plane = vec![0; N.div_ceil(64)];
    bits::bit_plane_at(level, &x, 7, &mut plane);
    let mut y = vec![0u16; N];
    bits::select_words_at(level, &plane, &x, &mut y);
    let mut z = vec![0u16; N];
    ops::mul_at(level, 13, &x, &y, &mut z);
    let mut product = vec![0u16; 100];
    matmul::matmul_at(level, &x[..500], &z[..500], &mut product, 10, 50, 10);
    z.iter().chain(&product).for_each(|w| {
        hasher.update(&w.to_le_bytes());
    });
    hasher.finalize()
}
