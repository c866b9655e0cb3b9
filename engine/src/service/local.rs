//! Both roles on one machine, as two processes: the client starts its own program again as the server.
//!
//! The server process prints one line of JSON when it listens and one when its only session is over.

use super::server::{Event, Outcome};
use super::{Fault, Server, ServiceError, Summary};
use crate::run::usage::{cpu_seconds, peak_memory};
use serde_json::{Value, json};
use sirnn_backends::transport::printable;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Prints a line to standard output. Whoever reads it may have gone.
pub fn print_line(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A server's report on a session.
pub fn report(summary: &Summary) -> Value {
    let mut line = serde_json::to_value(summary).expect("numbers have a JSON form");
    line["cpu_seconds"] = json!([cpu_seconds(), null]);
    line["peak_memory"] = json!([peak_memory(), null]);
    line
}

/// Fills the server's own numbers into a client's report.
pub fn complete(client: &mut Value, server: &Value) {
    for key in ["cpu_seconds", "peak_memory"] {
        client[key][0] = server[key][0].clone();
    }
}

/// The server process: serves one session.
///
/// # Errors
/// That of the session.
pub fn host_one(server: Server) -> Result<(), ServiceError> {
    print_line(json!({ "listening": server.address()?.to_string() }));
    for Event { outcome, .. } in server.start() {
        if let Outcome::Session(result) = outcome {
            print_line(report(&result?));
            return Ok(());
        }
    }
    Ok(())
}

/// Environment variables that a server process on this machine inherits.
const KEPT: [&str; 3] = ["SIRNN_SIMD", "SIRNN_SPEEDS", "SIRNN_DATA"];

/// A server process that this one started. It ends with this value at the latest.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a command that calls [`host_one`], and waits until it listens.
    ///
    /// # Errors
    /// What the process said on standard error, if it ended.
    pub fn start(command: &mut Command) -> Result<Self, ServiceError> {
        // Settings of this process are given as options, if they are meant for the other one too.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|n| n.starts_with("SIRNN_") && !KEPT.contains(&n)) {
                command.env_remove(name);
            }
        }
        command.env("SIRNN_LOG", "off");
        let failed = |e: std::io::Error| ServiceError::Process {
            what: format!("it cannot be started: {e}"),
            fault: Fault::Internal,
        };
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = piped.map_err(failed)?;
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = serde_json::from_str::<Value>(&line)
            .ok()
            .and_then(|v| v["listening"].as_str().and_then(|a| a.parse::<SocketAddr>().ok()));
        match address {
            Some(address) => Ok(Self { child, output, address }),
            None => Err(complaint(&mut child)),
        }
    }

    /// Waits for the end of its session and returns its report.
    ///
    /// # Errors
    /// What the process said on standard error, if it failed.
    pub fn finish(mut self) -> Result<Value, ServiceError> {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let report = rest.lines().last().and_then(|l| serde_json::from_str(l).ok());
        match report {
            Some(report) if self.child.wait()?.success() => Ok(report),
            _ => Err(complaint(&mut self.child)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process that ended says on standard error, in its last line.
fn complaint(child: &mut Child) -> ServiceError {
    let mut text = String::new();
    if let Some(errors) = &mut child.stderr {
        let _ = errors.read_to_string(&mut text);
    }
    let status = child.wait().ok().and_then(|status| status.code());
    let said = text.lines().last().map(|line| printable(line.strip_prefix("sirnn: ").unwrap_or(line)));
    ServiceError::Process {
        what: said.unwrap_or_else(|| "it ended without a word".into()),
        fault: Fault::of_status(status.unwrap_or(1)),
    }
}
