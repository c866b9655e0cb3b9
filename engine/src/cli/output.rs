//! Files, numbers and progress for people.

use super::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use sirnn::run::files;
use sirnn::service::client::Progress;
use std::io::IsTerminal;
use std::path::Path;

/// Writes a file completely or not at all.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    files::replace(path, content).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Fails early if a result could not be written later.
pub(super) fn check_writable(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !folder.is_dir() {
        return Err(format!("{}: {} is not a folder", path.display(), folder.display()).into());
    }
    Ok(())
}

/// A bar over the online rounds, on a terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} rounds, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(super) fn show(&self, progress: Progress) {
        self.0.set_length(progress.total as u64);
        self.0.set_position(progress.rounds as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// `12.3 MB`.
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// What a run cost, for people; keys as in the JSON report.
pub(super) fn cost(report: &Value) -> String {
    let number = |v: &Value| v.as_f64().unwrap_or(0.0);
    let size = |v: &Value| bytes(number(v) as u64);
    let (items, batches) = (number(&report["instances"]), number(&report["batches"]));
    let mut text = format!(
        "{items} items in {batches} batches: {} on the wire, {} an item\n",
        size(&report["bytes_total"]),
        size(&report["bytes_per_instance"])
    );
    let phase = |name: &str, seconds: &str, bytes: &str, rounds: &str| {
        let seconds = number(&report[seconds]);
        format!("  {name:<8} {seconds:>10.3} s  {:>12}  {:>7} rounds", size(&report[bytes]), report[rounds])
    };
    if report["rounds_offline"] == 0 {
        text += &format!("  {:<8} made ahead\n", "offline");
    } else {
        text += &format!("  {:<8} {:>10.3} s\n", "set-up", number(&report["setup_seconds"]));
        text += &phase("offline", "offline_seconds", "bytes_offline", "rounds_offline");
        text.push('\n');
    }
    if report["rounds"] == 0 {
        text += &format!("  {:<8} later", "online");
    } else {
        text += &phase("online", "online_seconds", "bytes_online", "rounds");
    }
    let stalled = number(&report["stalled_seconds"]);
    if stalled >= 0.001 {
        text += &format!("  ({stalled:.3} s of it waiting for correlations)");
    }
    if report["cpu_seconds"][0].is_number() && report["cpu_seconds"][1].is_number() {
        let [server, client] = [0, 1].map(|p| (number(&report["cpu_seconds"][p]), size(&report["peak_memory"][p])));
        text += &format!(
            "\n  server {:.2} s CPU, {} at the peak; client {:.2} s CPU, {}",
            server.0, server.1, client.0, client.1
        );
    }
    text
}
