//! Logs: what happened when, in which session, with whom, in which phase. On standard error; never a secret.

use clap::ValueEnum;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// How log lines look.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Starts logging, at `level` unless SIRNN_LOG says otherwise (error, warn, info, debug, trace, off, or filters by module).
pub(super) fn start(format: Format, level: &str) -> Result<(), String> {
    let filter = match std::env::var("SIRNN_LOG").ok().filter(|v| !v.is_empty()) {
        Some(text) => EnvFilter::try_new(&text).map_err(|e| format!("SIRNN_LOG '{text}': {e}"))?,
        None => EnvFilter::new(level),
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(SystemTime);
    let started = match format {
        Format::Text => logs.with_target(false).try_init(),
        Format::Json => logs.json().with_target(false).flatten_event(true).try_init(),
    };
    started.map_err(|e| e.to_string())
}
