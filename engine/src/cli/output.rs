//! Files, numbers and progress for people.

use super::Failure;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use sirnn::run::file;
use sirnn::service::client::Progress;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes a file completely or not at all.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    file::write(path, content).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Fails early if a result could not be written later.
pub(super) fn check_writable(path: &Path) -> Result<(), Failure> {
    file::check(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// How long a run is watched before it is said how long it will take: the first rounds tell nothing.
const WATCHED: Duration = Duration::from_secs(2);

/// A bar over the online rounds, on a terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    begun: Option<Instant>,
    estimates: bool,
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        style(&bar, "{spinner} {msg}");
        bar.set_message("set-up and offline phase");
        Self { bar, begun: None, estimates: false }
    }

    pub(super) fn show(&mut self, progress: Progress) {
        if progress.queued > 0 {
            let queue = format!("the server is busy; place {} in its queue", progress.queued);
            return self.bar.set_message(queue);
        }
        let begun = *self.begun.get_or_insert_with(|| {
            style(&self.bar, "{bar:40} {pos}/{len} rounds");
            // The estimate is about the online phase alone.
            self.bar.reset_elapsed();
            self.bar.reset_eta();
            Instant::now()
        });
        if !self.estimates && begun.elapsed() > WATCHED {
            self.estimates = true;
            style(&self.bar, "{bar:40} {pos}/{len} rounds, {eta} left");
        }
        self.bar.set_length(progress.total as u64);
        self.bar.set_position(progress.rounds as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
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
