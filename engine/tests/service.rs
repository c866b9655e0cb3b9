//! A service between two machines: who is let in, what happens when it is full or ends, and where options come from.

mod common;

use common::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sirnn::service::identity::new_certificate;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

/// A party's certificate, key and fingerprint.
struct Party {
    certificate: PathBuf,
    key: PathBuf,
    fingerprint: String,
}

impl Party {
    fn new(folder: &Path, name: &str) -> Self {
        let out = folder.join(name);
        let made = json(&["certificate", "new", "--name", name, "--out", text(&out), "--json"]);
        let path = |key: &str| PathBuf::from(made[key].as_str().unwrap());
        Self {
            certificate: path("certificate"),
            key: path("key"),
            fingerprint: made["fingerprint"].as_str().unwrap().into(),
        }
    }

    /// Options of this party, with more.
    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--certificate", text(&self.certificate), "--key", text(&self.key)], more].concat()
    }
}

/// Waits until something is true; what it takes depends on the machine.
fn wait_until(mut what: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_child(&server.child);
    kill_process(pid, signal).unwrap();
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn parties_with_certificates() {
    let folder = folder("tls");
    let [server, client, stranger] = ["127.0.0.1", "client", "stranger"].map(|name| Party::new(&folder, name));
    let mode =
        |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(mode(&server.key), 0o600);
    let shown = run(&["certificate", "show", text(&server.certificate)]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), server.fingerprint);
    let again = run(&["certificate", "new", "--name", "x", "--out", text(&folder.join("client"))]);
    refuses(&again, &["key.pem", "exists"]);

    let mut host = Server::start(&server.options(&["--peer-fingerprint", &client.fingerprint, "--ot", "iknp"]));
    let output = folder.join("result.csv");
    let knows = ["--peer-fingerprint", &server.fingerprint];
    let out = host.infer(&output, &[&client.options(&knows)[..], &["--json", "--batch", "2"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    // TLS is around what was planned, and not in it.
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let plan =
        |batch: &str| json(&["plan", "--model", DIGITS, "--batch", batch, "--ot", "iknp", "--lanes", "1", "--json"]);
    if report["lanes"] == 1 {
        let bytes = ["2", "1"].map(|batch| plan(batch)["bytes_total"].as_u64().unwrap());
        assert_eq!(report["bytes_total"].as_u64(), Some(bytes[0] + bytes[1]));
    }
    let way = json(&[&["doctor", "--json", "--connect", &host.address], &client.options(&knows)[..]].concat());
    assert_eq!((&way["tls"], &way["fingerprint"]), (&true.into(), &server.fingerprint.clone().into()));
    assert!(way["round_trip_seconds"].as_f64().unwrap() > 0.0 && way["bits_per_second"].as_f64().unwrap() > 0.0);

    // One that the server does not know; a server that the client does not know; neither speaks what the other does.
    let refused = |host: &mut Server, options: &[&str], ours: &[&str], theirs: &[&str]| {
        std::fs::remove_file(&output).unwrap_or_default();
        let out = host.infer(&output, options);
        refuses(&out, ours);
        assert_eq!(out.status.code(), Some(4), "it is the peer's fault");
        let line = host.complaint();
        assert!(theirs.iter().all(|part| line.contains(part)), "{theirs:?} is not in: {line}");
        assert!(!output.exists());
    };
    refused(
        &mut host,
        &stranger.options(&knows),
        &["TLS", "does not accept this party's certificate"],
        &[&stranger.fingerprint, "not accepted"],
    );
    refused(
        &mut host,
        &client.options(&["--peer-fingerprint", &stranger.fingerprint]),
        &["TLS", &server.fingerprint, "not accepted"],
        &["TLS", "does not accept"],
    );
    refused(&mut host, &[], &["this server speaks TLS"], &["the client does not"]);
    let mut plain = Server::start(&[]);
    refused(&mut plain, &client.options(&knows), &["TLS", "does not speak TLS"], &["the peer speaks TLS"]);

    // By authority: a certificate that signed itself is its own. Then the name counts.
    let authority = ["--peer-ca", text(&server.certificate)];
    assert!(host.infer(&output, &client.options(&authority)).status.success());
    let other = [&authority[..], &["--peer-name", "elsewhere"]].concat();
    refused(&mut host, &client.options(&other), &["TLS", "for another name"], &["TLS"]);
    let another = ["--peer-ca", text(&stranger.certificate)];
    refused(&mut host, &client.options(&another), &["TLS", "no accepted authority"], &["TLS"]);

    // Expired, which its owner is told first.
    let old = new_certificate("old", SystemTime::UNIX_EPOCH, Duration::from_secs(86_400)).unwrap();
    let [certificate, key] = ["old.pem", "old.key"].map(|name| folder.join(name));
    std::fs::write(&certificate, old.certificate).unwrap();
    std::fs::write(&key, old.key).unwrap();
    let expired = ["--certificate", text(&certificate), "--key", text(&key), knows[0], knows[1]];
    let out = host.infer(&output, &expired);
    refuses(&out, &["old.pem", "Expired"]);
    assert_eq!(out.status.code(), Some(3));
}

#[test]
fn certificates_are_read_again() {
    let folder = folder("reload");
    let [server, client] = ["server", "client"].map(|name| Party::new(&folder, name));
    let accepted = folder.join("accepted");
    std::fs::write(&accepted, format!("# nobody yet\n{}\n", server.fingerprint)).unwrap();
    let host = Server::start(&server.options(&["--peer-fingerprint-file", text(&accepted)]));
    let output = folder.join("result.csv");
    let options = client.options(&["--peer-fingerprint", &server.fingerprint]);
    refuses(&host.infer(&output, &options), &["does not accept"]);
    std::fs::write(&accepted, format!("{} # the client\n", client.fingerprint)).unwrap();
    signal(&host, Signal::HUP);
    wait_until(|| host.infer(&output, &options).status.success());
    // What cannot be read changes nothing.
    std::fs::write(&accepted, "nonsense\n").unwrap();
    signal(&host, Signal::HUP);
    assert!(host.infer(&output, &options).status.success());
}

#[test]
fn a_full_server_queues_and_then_refuses() {
    let folder = folder("full");
    let output = folder.join("result.csv");
    let host = Server::start(&["--max-sessions", "1", "--queue", "1", "--metrics", "127.0.0.1:0"]);
    let metrics = host.line["metrics"].as_str().unwrap();
    let (running, _) = host.request();
    let second = folder.join("second.csv");
    std::thread::scope(|s| {
        let waits = s.spawn(|| host.infer(&output, &[]));
        wait_until(|| get(metrics, "/metrics").contains("sirnn_queue 1"));
        let out = host.infer(&second, &[]);
        refuses(&out, &["busy", "try again"]);
        assert_eq!(out.status.code(), Some(7));
        let patient = s.spawn({
            let (host, second) = (&host, &second);
            move || host.infer(second, &["--retry", "60"])
        });
        drop(running);
        assert!(waits.join().unwrap().status.success());
        assert!(patient.join().unwrap().status.success());
    });
    let text = get(metrics, "/metrics");
    for line in [
        "sirnn_items_total 6",
        "sirnn_queue 0",
        "sirnn_refusals_total{reason=\"busy\"}",
        "sirnn_sessions_total{result=\"ok\"} 2",
    ] {
        assert!(text.contains(line), "'{line}' is not in: {text}");
    }
    assert!(get(metrics, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(metrics, "/else").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_server_ends_in_good_order() {
    // Nothing runs: at once.
    let mut host = Server::start(&[]);
    signal(&host, Signal::TERM);
    assert_eq!(host.child.wait().unwrap().code(), Some(0));
    // A session runs, and is told why it ends.
    let mut host = Server::start(&["--grace", "0.3", "--metrics", "127.0.0.1:0"]);
    let metrics = host.line["metrics"].as_str().unwrap().to_string();
    assert!(get(&metrics, "/readyz").starts_with("HTTP/1.1 200"));
    let (control, _) = host.request();
    signal(&host, Signal::INT);
    wait_until(|| TcpStream::connect(&host.address).is_err());
    assert_eq!(host.child.wait().unwrap().code(), Some(0));
    use sirnn_backends::transport::Channel;
    let mut last = [0; 8];
    let mut channel = control.into_channel();
    channel.recv(&mut last).unwrap();
    let mut reason = vec![0; usize::from(last[4])];
    channel.recv(&mut reason).unwrap();
    assert_eq!(String::from_utf8_lossy(&reason), "the server shuts down");
    // Two signals: now.
    let mut host = Server::start(&["--grace", "1000"]);
    let (_control, _) = host.request();
    signal(&host, Signal::INT);
    wait_until(|| TcpStream::connect(&host.address).is_err());
    signal(&host, Signal::INT);
    assert_eq!(host.child.wait().unwrap().code(), Some(130));
}

#[test]
fn options_come_from_files_and_variables_too() {
    let folder = folder("config");
    let config = folder.join("sirnn.toml");
    std::fs::write(&config, "[plan]\nmodel = \"/no/such/model\"\nbatch = 3\njson = true\n").unwrap();
    let plan = |arguments: &[&str], variables: &[(&str, &str)]| {
        let out = sirnn(arguments).envs(variables.iter().copied()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        report["instances"].as_u64().unwrap() * report["lanes"].as_u64().unwrap()
    };
    let arguments = ["plan", "--config", text(&config), "--model", DIGITS, "--ot", "iknp", "--lanes", "1"];
    assert_eq!(plan(&arguments, &[]), 3);
    assert_eq!(plan(&arguments, &[("SIRNN_BATCH", "2")]), 2);
    assert_eq!(plan(&[&arguments[..], &["--batch", "1"]].concat(), &[("SIRNN_BATCH", "2")]), 1);
    std::fs::write(&config, "[plan]\nbach = 3\n").unwrap();
    let out = run(&arguments);
    refuses(&out, &["sirnn.toml", "'sirnn plan' has no option 'bach'"]);
    assert_eq!(out.status.code(), Some(3));
}

#[test]
fn results_go_where_they_should() {
    let folder = folder("output");
    let items = folder.join("items.csv");
    std::fs::write(&items, csv(2)).unwrap();
    let [table, labels] = ["table.csv", "labels"].map(|name| folder.join(name));
    let arguments = ["run", "--model", DIGITS, "--input", text(&items), "--json"];
    let report = json(&[&arguments[..], &["--output", text(&table), "--labels", text(&labels)]].concat());
    assert_eq!(std::fs::read_to_string(&table).unwrap().lines().count(), 3);
    let lines = std::fs::read_to_string(&labels).unwrap();
    let classes: Vec<u64> = serde_json::from_value(report["class"].clone()).unwrap();
    assert_eq!(lines.lines().map(|l| l.parse().unwrap()).collect::<Vec<u64>>(), classes);
    let host = Server::start(&[]);
    let infer = |output: &str| run(&["infer", "--connect", &host.address, "--input", text(&items), "--output", output]);
    let out = infer("-");
    assert_eq!(String::from_utf8(out.stdout).unwrap(), std::fs::read_to_string(&table).unwrap());
    assert!(infer("/dev/null").status.success());
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    refuses(&infer("/tmp"), &["/tmp", "is a folder"]);
    for endless in ["/dev/zero", "/dev/stdin"] {
        let arguments = ["infer", "--connect", &host.address, "--input", endless, "--output", "-"];
        let out = sirnn(&arguments).stdin(Stdio::piped()).output().unwrap();
        refuses(&out, &[endless, "not a file"]);
    }
}

#[test]
fn failures_have_their_status() {
    let code = |arguments: &[&str]| run(arguments).status.code();
    let items = digits("inputs.npy");
    let infer = |address: &str, more: &[&str]| {
        let arguments = ["infer", "--connect", address, "--input", text(&items), "--output", "-"];
        run(&[&arguments[..], more].concat()).status.code()
    };
    assert_eq!(code(&["plan"]), Some(2));
    assert_eq!(code(&["plan", "--model", "/no/such/folder"]), Some(3));
    let host = Server::start(&["--max-items", "2"]);
    assert_eq!(infer(&host.address, &[]), Some(4));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(infer(&free, &["--deadline", "0.3"]), Some(5));
    let host = Server::start(&[]);
    assert_eq!(infer(&host.address, &["--max-bytes", "1k"]), Some(6));
    for shell in ["bash", "zsh", "fish"] {
        let out = run(&["completions", shell]);
        assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("peer-fingerprint"), "{shell}");
    }
    let manual = String::from_utf8(run(&["man"]).stdout).unwrap();
    assert!(manual.contains(".TH") && manual.contains("Exit status"), "{manual}");
}

#[test]
fn copies_of_both_stores_are_of_no_use() {
    let folder = folder("copies");
    let items = folder.join("items.csv");
    std::fs::write(&items, csv(2)).unwrap();
    let made = folder.join("made");
    json(&["offline", "--model", DIGITS, "--store", text(&made), "--items", "2", "--ot", "iknp", "--json"]);
    let names = ["server.store", "client.store"];
    for name in names {
        std::fs::copy(made.join(name), folder.join(name)).unwrap();
    }
    let arguments = ["run", "--model", DIGITS, "--input", text(&items), "--store", text(&made), "--json"];
    json(&arguments);
    for name in names {
        std::fs::copy(folder.join(name), made.join(name)).unwrap();
    }
    refuses(&run(&arguments), &["already used", "copy"]);
}

#[test]
fn logs_tell_session_and_peer() {
    let folder = folder("logs");
    let mut host = Server::start(&["--once", "--log-format", "json"]);
    host.child.kill().unwrap();
    let mut command =
        sirnn(&["serve", "--model", DIGITS, "--listen", "127.0.0.1:0", "--json", "--once", "--log-format", "json"]);
    let mut child = command.env("SIRNN_LOG", "info").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line["listening"].as_str().unwrap().to_string();
    let mut host = Server { child, output, address, line };
    assert!(host.infer(&folder.join("result.csv"), &[]).status.success());
    let mut logs = String::new();
    host.child.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
    let done = logs.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).find(|l| l["phase"] == "done").unwrap();
    assert_eq!(done["items"], 3);
    assert!(done["timestamp"].is_string() && done["span"]["peer"].is_string(), "{done}");
    assert_eq!(done["span"]["session"].as_str().unwrap().len(), 32);
}
