//! Both roles on one machine, as two processes: the client starts its own program again as the server.
//!
//! The server process prints one line of JSON when it listens and one when its only session is over.

use super::server::{Event, Outcome};
use super::{Server, ServiceError, Summary};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// CPU seconds of this process so far.
pub fn cpu_seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Largest resident memory of this process so far, in bytes; 0 where the system does not say.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Prints a line to standard output. Whoever reads it may have gone.
pub fn say(line: impl std::fmt::Display) {
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
    say(json!({ "listening": server.address()?.to_string() }));
    for Event { outcome, .. } in server.start() {
        if let Outcome::Session(result) = outcome {
            say(report(&result?));
            return Ok(());
        }
    }
    Ok(())
}

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
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = serde_json::from_str::<Value>(&line)
            .ok()
            .and_then(|v| v["listening"].as_str().and_then(|a| a.parse::<SocketAddr>().ok()));
        match address {
            Some(address) => Ok(Self { child, output, address }),
            None => Err(ServiceError::Handshake(complaint(&mut child))),
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
            _ => Err(ServiceError::Handshake(complaint(&mut self.child))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line that a process wrote to standard error before it ended.
fn complaint(child: &mut Child) -> String {
    let _ = child.kill();
    let mut text = String::new();
    if let Some(errors) = &mut child.stderr {
        let _ = errors.read_to_string(&mut text);
    }
    let _ = child.wait();
    text.lines().last().map_or("the server process ended without a word".into(), super::wire::shown)
}
