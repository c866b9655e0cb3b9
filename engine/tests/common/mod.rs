//! What tests of the command line share.
// Each test file uses a part of it.
#![allow(dead_code)]

use serde_json::Value;
use sirnn::program::LinearForms;
use sirnn::service::wire::{Control, Message, Offer, Phases, Purpose, Request};
use sirnn_backends::Party;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

pub(crate) const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits");

pub(crate) fn digits(file: &str) -> PathBuf {
    Path::new(DIGITS).join(file)
}

pub(crate) fn sirnn(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sirnn"));
    command.args(arguments).stdin(Stdio::null()).env("SIRNN_LOG", "warn");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    sirnn(arguments).output().unwrap()
}

/// The last line of standard output of a command that succeeds.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let out = run(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(String::from_utf8(out.stdout).unwrap().lines().last().unwrap()).unwrap()
}

/// One line that says everything, and an exit status that says whose fault it is.
pub(crate) fn refuses(out: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(matches!(out.status.code(), Some(3..=7)), "{:?}: {text}", out.status);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

/// An empty folder of this test's own.
pub(crate) fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Rows of a little-endian int32 array.
pub(crate) fn expected_scores() -> Vec<Vec<i64>> {
    let bytes = std::fs::read(digits("expected_scores.npy")).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let numbers: Vec<i64> =
        bytes[start..].chunks(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()).collect();
    numbers.chunks(10).map(<[i64]>::to_vec).collect()
}

/// The first `n` digits as integers, as text.
pub(crate) fn csv(n: usize) -> String {
    let bytes = std::fs::read(digits("inputs.npy")).unwrap();
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let pixel = |b: &[u8]| (f32::from_le_bytes([b[0], b[1], b[2], b[3]]) * 32.0 + 0.5).floor() as i64;
    let pixels: Vec<String> = bytes[start..].chunks(4).take(n * 64).map(|b| pixel(b).to_string()).collect();
    pixels.chunks(64).map(|row| row.join(",") + "\n").collect()
}

/// A running `serve`.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) output: BufReader<ChildStdout>,
    pub(crate) address: String,
    /// Its first line.
    pub(crate) line: Value,
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::of(Path::new(DIGITS), options)
    }

    pub(crate) fn of(model: &Path, options: &[&str]) -> Self {
        let mut command = sirnn(&["serve", "--model", text(model), "--listen", "127.0.0.1:0", "--json"]);
        let mut child = command.args(options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["listening"].as_str().unwrap().to_string();
        Self { child, output, address, line }
    }

    pub(crate) fn connect(&self) -> Control {
        Control::new(TcpStream::connect(&self.address).unwrap(), Duration::from_secs(20)).unwrap()
    }

    /// A client that is well-behaved until it has the plans of a request for two items.
    pub(crate) fn request(&self) -> (Control, Offer) {
        let mut control = self.connect();
        control.send_hello(Party::P1, Purpose::Session).unwrap();
        control.receive_hello(Party::P1).unwrap();
        let Message::Offer(offer) = control.receive().unwrap() else { panic!("an offer is expected") };
        control
            .send(&Message::Request(Request {
                items: 2,
                batch: 2,
                steps: 8,
                lengths: None,
                phases: Phases::Both,
                linear: LinearForms::Auto,
                nonce: [9; 16],
            }))
            .unwrap();
        assert!(matches!(control.receive(), Ok(Message::Choice(_))));
        let plans = control.receive().unwrap();
        assert!(matches!(plans, Message::Plans(_)));
        control.send(&plans).unwrap();
        assert!(matches!(control.receive(), Ok(Message::Start)));
        (control, offer)
    }

    /// The next line on standard error.
    pub(crate) fn complaint(&mut self) -> String {
        let mut line = Vec::new();
        let errors = self.child.stderr.as_mut().unwrap();
        let mut byte = [0];
        while errors.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// The next line on standard error says this.
    pub(crate) fn complains(&mut self, of: &str) {
        let line = self.complaint();
        assert!(line.contains(of), "'{of}' is not in: {line}");
    }

    pub(crate) fn infer(&self, output: &Path, options: &[&str]) -> Output {
        let items = output.with_file_name("items.csv");
        std::fs::write(&items, csv(3)).unwrap();
        let mut command =
            sirnn(&["infer", "--connect", &self.address, "--input", text(&items), "--output", text(output)]);
        command.args(options).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
