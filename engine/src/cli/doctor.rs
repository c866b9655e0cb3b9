//! `sirnn doctor`: which kernels this machine uses, and whether they work.

use super::output::write_file;
use super::{Failure, calibrate, speeds_file};
use clap::Args;
use serde_json::json;
use sirnn::service::local::say;
use sirnn_kernels::aes::Prg;
use sirnn_kernels::{
    Level, available, bits, detected, hash::Hasher, level, matmul, ops, override_note, pack, transpose,
};
use std::io::IsTerminal;

/// Say which CPU features are used, and test that everything works here
///
/// The environment variable SIRNN_SIMD (portable, aesni, vaes256, avx512) lowers the level that was detected.
#[derive(Args)]
pub(super) struct Doctor {
    /// Measure how fast this machine makes and uses correlations (some seconds), and keep it for `--ot auto` and `plan`
    #[arg(long)]
    calibrate: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.calibrate {
            return self.calibrate();
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
            say(json!({
                "level": level().name(), "detected": detected().name(), "why": why,
                "levels": levels.iter().map(entry).collect::<Vec<_>>(),
                "two_party": two_party.as_ref().map_or_else(ToString::to_string, |()| "ok".into()),
                "healthy": healthy,
            }));
        } else {
            say(format_args!("kernels: {} ({why})", level().name()));
            for (l, agrees) in &levels {
                let state = match agrees {
                    _ if *l > detected() => "this CPU does not have it",
                    None => "switched off by SIRNN_SIMD",
                    Some(true) => "available, computes what portable code does",
                    Some(false) => "available, but COMPUTES SOMETHING ELSE",
                };
                say(format_args!("  {:<10} {state}; chosen by SIRNN_SIMD={}", l.name(), l.name()));
            }
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            say(format_args!("threads: {threads}"));
            match &two_party {
                Ok(()) => say("two parties in this process: sigmoid over real OT, exact"),
                Err(e) => say(format_args!("two parties in this process: {e}")),
            }
        }
        if healthy { Ok(()) } else { Err("the self-test failed".into()) }
    }

    fn calibrate(&self) -> Result<(), Failure> {
        let file = speeds_file().ok_or("there is no folder for settings: name a file in SIRNN_SPEEDS")?;
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
            say(json!({ "file": file, "speeds": speeds }));
            return Ok(());
        }
        say("nanoseconds of CPU of one party; a 1-of-N OT and each of its bits (make) or pads (spend)");
        say(format_args!("{:<14} {:>12} {:>9} {:>9} {:>9} {:>9}", "", "set-up", "COT", "1-of-N", "each", "triple"));
        for (name, b) in &speeds.backend {
            for (what, setup, c) in [("make", Some(b.setup), &b.make), ("spend", None, &b.spend)] {
                let setup = setup.map_or(String::new(), |s| format!("{s:.0}"));
                say(format_args!(
                    "{:<14} {setup:>12} {:>9.1} {:>9.1} {:>9.1} {:>9.1}  {what}",
                    if what == "make" { name } else { "" },
                    c.cot,
                    c.one_of,
                    c.one_of_each,
                    c.triple
                ));
            }
        }
        say(format_args!("a round: {:.0}", speeds.round));
        say(format_args!("kept in {}", file.display()));
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
