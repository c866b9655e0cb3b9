//! The program as users and strangers meet it: through its command line and its port.

use serde_json::Value;
use sirnn::model::Model;
use sirnn::plan::choice::{Choice, Objective};
use sirnn::program::LinearForms;
use sirnn::service::wire::{Control, Message, Offer, Phases, Purpose, Request, hello};
use sirnn::service::{Part, connection_id};
use sirnn_backends::Party;
use sirnn_backends::transport::Channel;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

mod common;

use common::*;

/// A copy of the digits model in which a file is changed.
fn model(name: &str, file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let path = folder(name);
    for copied in ["model.toml", "weights.safetensors"] {
        std::fs::copy(digits(copied), path.join(copied)).unwrap();
    }
    let changed = change(std::fs::read(path.join(file)).unwrap());
    std::fs::write(path.join(file), changed).unwrap();
    path
}

fn replace(from: &'static str, to: &'static str) -> impl Fn(Vec<u8>) -> Vec<u8> {
    move |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    }
}

#[test]
fn demo_is_exact() {
    let report = json(&["demo", "--items", "5", "--batch", "3", "--lanes", "1", "--json"]);
    assert_eq!(report["exact"], true);
    assert_eq!(report["batches"], 2);
    // Two sessions at the same time: results are in the order of the items all the same.
    let lanes = json(&["demo", "--items", "5", "--batch", "4", "--lanes", "2", "--json"]);
    assert_eq!((&lanes["exact"], &lanes["lanes"]), (&true.into(), &2.into()));
    assert_eq!(lanes["batches"], 3);
    assert_eq!(lanes["output"], report["output"]);
    let output: Vec<Vec<i64>> = serde_json::from_value(report["output"].clone()).unwrap();
    assert_eq!(output, expected_scores()[..5]);
    for key in ["cpu_seconds", "peak_memory"] {
        assert!((0..2).all(|p| report[key][p].as_f64().unwrap() > 0.0), "{key}: {}", report[key]);
    }
    let parts = report["bytes_online"].as_u64().unwrap() + report["bytes_offline"].as_u64().unwrap();
    assert_eq!(report["bytes_total"].as_u64(), Some(parts));
    let people = run(&["demo", "--items", "2"]);
    let people = String::from_utf8(people.stdout).unwrap();
    assert!(people.contains("accuracy: ") && people.contains("equal, bit for bit"), "{people}");
}

#[test]
fn a_run_costs_what_was_planned() {
    let items = folder("planned").join("items.csv");
    std::fs::write(&items, csv(2)).unwrap();
    for options in
        [&["--ot", "iknp"][..], &["--ot", "softspoken", "--optimize", "rounds", "--fuse", "off", "--linear", "rlwe"]]
    {
        let plan = json(&[&["plan", "--model", DIGITS, "--batch", "2", "--json"], options].concat());
        let run = json(&[&["run", "--model", DIGITS, "--input", text(&items), "--json"], options].concat());
        for key in [
            "rounds",
            "rounds_offline",
            "bytes_sent",
            "bytes_received",
            "bytes_total",
            "bytes_online",
            "correlations_used",
        ] {
            assert_eq!(plan[key], run[key], "{key} with {options:?}");
        }
        let output: Vec<Vec<i64>> = serde_json::from_value(run["output"].clone()).unwrap();
        assert_eq!(output, expected_scores()[..2]);
    }
}

/// Several sessions, a smaller last one, lanes, keys that are kept: one number for all, which the run has too.
#[test]
fn a_job_costs_what_was_planned() {
    let numbers = |plan: &Value, key: &str| plan[key].as_u64().unwrap();
    for (linear, batch, lanes, sessions) in [("rlwe", "2", "1", 4), ("auto", "4", "2", 4), ("rlwe", "7", "3", 3)] {
        let options =
            ["--items", "7", "--batch", batch, "--lanes", lanes, "--ot", "iknp", "--linear", linear, "--json"];
        let plan = json(&[&["plan", "--model", DIGITS], &options[..]].concat());
        let run = json(&[&["demo"], &options[..]].concat());
        assert_eq!(run["exact"], true);
        for key in [
            "instances",
            "batches",
            "lanes",
            "rounds",
            "rounds_offline",
            "bytes_sent",
            "bytes_received",
            "bytes_total",
            "bytes_offline",
            "bytes_online",
            "linear_values",
            "correlations_used",
        ] {
            assert_eq!(plan[key], run[key], "{key} with {options:?}");
        }
        assert_eq!(numbers(&plan, "batches"), sessions);
        // A lane is a part of it, and sessions add up to all of it, but for keys.
        assert!((plan["lane"]["bytes_total"] == plan["bytes_total"]) == (lanes == "1"), "{}", plan["lane"]);
        assert_eq!(numbers(&plan["lane"], "batches"), sessions.div_ceil(lanes.parse().unwrap()));
        let apart: u64 = plan["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["count"].as_u64().unwrap() * numbers(&s["each"], "bytes_total"))
            .sum();
        let kept = numbers(&plan, "linear_kept_key_bytes");
        assert_eq!(apart > numbers(&plan, "bytes_total"), kept > 0);
        assert!(kept > 0 || (linear, batch) != ("rlwe", "2"));
        assert_eq!(plan["estimate"]["bytes"], plan["bytes_total"]);
    }
    let people = run(&["plan", "--model", DIGITS, "--items", "7", "--batch", "2", "--linear", "rlwe", "--lanes", "1"]);
    let people = String::from_utf8(people.stdout).unwrap();
    for part in ["7 items in 4 sessions of 2", "request", "a session", "the last", "with kept keys", "time "] {
        assert!(people.contains(part), "'{part}' is not in: {people}");
    }
}

#[test]
fn pictures_have_names() {
    let folder = folder("pictures");
    json(&[
        "run",
        "--model",
        DIGITS,
        "--input",
        text(&digits("inputs.npy")),
        "--batch",
        "64",
        "--profile",
        text(&folder),
        "--json",
    ]);
    let trace: Value = serde_json::from_slice(&std::fs::read(folder.join("trace.json")).unwrap()).unwrap();
    let slices: Vec<&Value> = trace["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "X").collect();
    assert!(slices.iter().all(|s| !s["name"].as_str().unwrap().is_empty() && s["dur"].as_f64().unwrap() >= 0.0));
    for party in 0..2 {
        for name in ["set-up", "products with the weights"] {
            assert!(slices.iter().any(|s| s["pid"] == party && s["name"] == name), "{name} of party {party}");
        }
        // Correlations have a track of their own.
        assert!(slices.iter().any(|s| s["pid"] == party && s["args"]["correlations"].is_u64()));
    }
    let [server, client] = ["p0", "p1"].map(|p| std::fs::read_to_string(folder.join(format!("flamegraph-{p}.svg"))));
    assert!(server.unwrap().contains("P0, the server") && client.unwrap().contains("P1, the client"));
}

#[test]
fn simulated_links_take_their_time() {
    let items = folder("link").join("items.csv");
    std::fs::write(&items, csv(1)).unwrap();
    let report = json(&["run", "--model", DIGITS, "--input", text(&items), "--net", "1000,4", "--json"]);
    let (rounds, seconds) = (report["rounds"].as_f64().unwrap(), report["online_seconds"].as_f64().unwrap());
    assert!(seconds > rounds * 0.0015, "{rounds} rounds in {seconds} s");
}

#[test]
fn serve_and_infer() {
    let mut server = Server::start(&["--once"]);
    let output = folder("infer").join("result.csv");
    let out = server.infer(&output, &["--model", DIGITS, "--batch", "2", "--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let table = std::fs::read_to_string(&output).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0][..3], ["item", "label", "class"]);
    for (row, scores) in rows[1..].iter().zip(expected_scores()) {
        let found: Vec<i64> = row[3..13].iter().map(|v| v.parse().unwrap()).collect();
        assert_eq!(found, scores);
    }
    // The server says what it did, and ends.
    let mut line = String::new();
    server.output.read_line(&mut line).unwrap();
    let theirs: Value = serde_json::from_str(&line).unwrap();
    let ours: Value = serde_json::from_slice(&out.stdout).unwrap();
    for key in ["instances", "batches", "rounds", "bytes_sent", "bytes_received", "bytes_total"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn bad_models_are_named() {
    let items = text(&digits("inputs.npy")).to_string();
    let refused = |model: &Path, parts: &[&str]| {
        refuses(&run(&["run", "--model", text(model), "--input", &items]), parts);
    };
    refused(Path::new("/no/such/folder"), &["/no/such/folder/model.toml"]);
    refused(&model("format", "model.toml", replace("format = 2", "format = 9")), &["model.toml", "format", "9"]);
    refused(&model("toml", "model.toml", |_| b"steps = [".to_vec()), &["model.toml", "line 1"]);
    refused(&model("binary", "model.toml", |_| vec![0xff; 100]), &["model.toml"]);
    refused(&model("short", "weights.safetensors", |b| b[..b.len() / 2].to_vec()), &["weights.safetensors"]);
    refused(
        &model("narrow", "model.toml", replace("[\"steps\", 8]", "[\"steps\", 7]")),
        &["weights.safetensors", "tensor 'W'"],
    );
    let missing = model("missing", "weights.safetensors", |b| b);
    std::fs::remove_file(missing.join("weights.safetensors")).unwrap();
    refused(&missing, &["weights.safetensors", "No such file"]);
    refuses(&run(&["plan", "--model", "/no/such/folder"]), &["model.toml"]);
    refuses(&run(&["plan", "--model", DIGITS, "--max-memory", "1k"]), &["--max-memory", "memory"]);
    refuses(&run(&["plan", "--model", DIGITS, "--max-bytes", "1k"]), &["--max-bytes"]);
}

#[test]
fn bad_inputs_are_named() {
    let folder = folder("inputs");
    let refused = |name: &str, content: &[u8], parts: &[&str]| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        refuses(&run(&["run", "--model", DIGITS, "--input", text(&path)]), &[&[name], parts].concat());
    };
    let good = csv(2);
    let with = |value: &str| good.replacen(|c: char| c.is_ascii_digit(), value, 1).into_bytes();
    refused("word.csv", &with("five"), &["line 1", "five"]);
    refused("wide.csv", &with("1000"), &["item 0", "1000"]);
    refused("nan.csv", &with("nan"), &["item 0", "NaN"]);
    refused("inf.csv", &with("-inf"), &["item 0", "inf"]);
    refused("ragged.csv", format!("{good}1,2,3\n").as_bytes(), &["line 3", "3 numbers"]);
    refused("empty.csv", b"", &[]);
    refused("text.npy", b"hello", &["npy"]);
    refused("image.jpg", b"hello", &[]);
    let npy = std::fs::read(digits("inputs.npy")).unwrap();
    refused("cut.npy", &npy[..npy.len() - 1], &["bytes"]);
    let start = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = String::from_utf8_lossy(&npy[..start]).into_owned();
    assert!(header.contains("(397, 8, 8)"));
    let mut shape = npy.clone();
    let at = npy.windows(11).position(|w| w == b"(397, 8, 8)").unwrap();
    shape[at..at + 11].copy_from_slice(b"(397, 4,16)");
    refused("shape.npy", &shape, &["shape"]);
    let mut large = npy.clone();
    large[start + 4..start + 8].copy_from_slice(&4.5f32.to_le_bytes());
    refused("large.npy", &large, &["item 0, step 0, feature 1", "4.5"]);
    let mut nan = npy;
    nan[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    refused("nan.npy", &nan, &["item 0, step 0, feature 0", "NaN"]);
    refuses(&run(&["run", "--model", DIGITS, "--input", "/no/such/file.npy"]), &["/no/such/file.npy"]);
}

#[test]
fn usage_errors_end_with_2() {
    for arguments in [
        &["run"][..],
        &["plan", "--model", DIGITS, "--ot", "magic"],
        &["table", "cosine"],
        &["plan", "--model", DIGITS, "--batch", "0"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert!(run(&["--help"]).status.success());
}

#[test]
fn plaintext_stays_on_this_machine() {
    refuses(&run(&["serve", "--model", DIGITS, "--listen", "0.0.0.0:0"]), &["--insecure-plaintext"]);
    let items = text(&digits("inputs.npy")).to_string();
    let output = folder("plaintext").join("out.csv");
    let arguments = ["infer", "--connect", "192.0.2.1:7700", "--input", &items, "--output", text(&output)];
    refuses(&run(&arguments), &["192.0.2.1:7700", "--insecure-plaintext"]);
}

#[test]
fn clients_bound_what_they_accept() {
    let server = Server::start(&["--max-batch", "2"]);
    let output = folder("bounds").join("result.csv");
    refuses(&server.infer(&output, &["--max-bytes", "10k"]), &["bytes on the wire", "10240", "--max-bytes"]);
    refuses(&server.infer(&output, &["--max-memory", "10k"]), &["bytes of memory", "--max-memory"]);
    let other = model("pinned", "model.toml", replace("scale = 5", "scale = 4"));
    refuses(&server.infer(&output, &["--model", text(&other)]), &["another model", "digits"]);
    refuses(&server.infer(&output, &["--batch", "3"]), &["the peer refused", "up to", "2"]);
    let items = text(&digits("inputs.npy")).to_string();
    let nowhere = ["infer", "--connect", &server.address, "--input", &items, "--output", "/no/such/folder/x.csv"];
    refuses(&run(&nowhere), &["/no/such/folder/x.csv"]);
    assert!(!output.exists());
    assert!(server.infer(&output, &[]).status.success());
    let left: Vec<_> = std::fs::read_dir(output.parent().unwrap()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only items and result: {left:?}");
}

/// The forms of products with the weights are agreed, what ring-LWE made is counted beside the model, and there is a limit.
#[test]
fn products_from_ring_lwe_are_agreed_and_counted() {
    let model = model("ledger", "model.toml", |bytes| bytes);
    let items = folder("ledger-items").join("items.csv");
    std::fs::write(&items, csv(2)).unwrap();
    let counted = || std::fs::read_to_string(model.join("linear-values")).unwrap_or_default();
    let run = |linear: &str| {
        let shared = ["run", "--model", text(&model), "--input", text(&items), "--ot", "iknp", "--json"];
        let report = json(&[&shared[..], &["--linear", linear]].concat());
        let output: Vec<Vec<i64>> = serde_json::from_value(report["output"].clone()).unwrap();
        assert_eq!(output, expected_scores()[..2], "--linear {linear}");
        report
    };
    let cots = run("cot");
    assert_eq!((cots["linear_values"].as_u64(), counted().as_str()), (Some(0), ""));
    let rlwe = run("rlwe");
    let values = rlwe["linear_values"].as_u64().unwrap();
    assert!(values > 0 && counted().trim_end().ends_with(&format!("{values:020}")), "{}", counted());
    run("rlwe");
    assert!(counted().trim_end().ends_with(&format!("{:020}", 2 * values)), "{}", counted());
    // A server's limit, and a client that wants what the server does not give.
    let output = folder("ledger-output").join("result.csv");
    let limited = Server::of(&model, &["--linear", "rlwe", "--max-values", &(2 * values).to_string()]);
    refuses(&limited.infer(&output, &[]), &["the peer refused", "ledger", "--linear cot"]);
    refuses(&limited.infer(&output, &["--linear", "cot"]), &["the peer refused", "--linear rlwe, not cot"]);
    assert!(!output.exists());
    let strict = Server::of(&model, &["--linear", "cot"]);
    refuses(&strict.infer(&output, &["--linear", "rlwe"]), &["the peer refused", "--linear cot, not rlwe"]);
    assert!(strict.infer(&output, &["--linear", "auto"]).status.success());
}

#[test]
fn servers_bound_what_they_grant() {
    let server = Server::start(&["--max-bytes", "10k"]);
    let output = folder("granted").join("result.csv");
    refuses(&server.infer(&output, &[]), &["the peer refused", "bytes on the wire"]);
    let server = Server::start(&["--max-items", "2"]);
    refuses(&server.infer(&output, &[]), &["the peer refused", "3 items"]);
    assert!(!output.exists());
}

#[test]
fn a_server_survives_bad_clients() {
    let mut server = Server::start(&["--deadline", "2", "--max-sessions", "1", "--queue", "0"]);
    let output = folder("survivor").join("result.csv");
    let raw = |server: &Server, bytes: &[u8]| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let changed = |at: usize, value: u8| {
        let mut h = hello(Party::P1, Purpose::Session);
        h[at] = value;
        h
    };
    // Garbage, silence, departure, other versions and roles, strangers to a session.
    let _open = raw(&server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    server.complains("GET / HT");
    let _open = raw(&server, &[]);
    server.complains("sent nothing for 2s");
    drop(raw(&server, &hello(Party::P1, Purpose::Session)[..20]));
    server.complains("closed the connection");
    let _open = raw(&server, &changed(8, 77));
    server.complains("wire version 77");
    let _open = raw(&server, &hello(Party::P0, Purpose::Session));
    server.complains("wrong role");
    let _open = raw(&server, &hello(Party::P1, Purpose::Join([1; 16])));
    server.complains("no session");
    // In the handshake.
    let mut _open = raw(&server, &hello(Party::P1, Purpose::Session));
    server.complains("sent nothing for 2s");
    for (message, complaint) in [
        (&[0xff, 0xff, 0xff, 0xff][..], "4294967295 bytes"),
        (&[3, 0, 0, 0, 1, 2, 3], "malformed"),
        (
            &[14, 0, 0, 0, b'{', b'"', b'p', b'l', b'a', b'n', b's', b'"', b':', b'[', b'"', b'"', b']', b'}'],
            "out of turn",
        ),
    ] {
        let _open = raw(&server, &[&hello(Party::P1, Purpose::Session)[..], message].concat());
        server.complains(complaint);
    }
    let mut control = server.connect();
    control.send_hello(Party::P1, Purpose::Session).unwrap();
    control.receive_hello(Party::P1).unwrap();
    control.receive().unwrap();
    control
        .send(&Message::Request(Request {
            items: u64::MAX,
            batch: 1,
            steps: 8,
            lengths: None,
            phases: Phases::Both,
            linear: LinearForms::Auto,
            nonce: [9; 16],
        }))
        .unwrap();
    assert!(control.receive().unwrap_err().to_string().contains("grants up to"));
    server.complains("were asked for");
    // A second client meanwhile.
    let (_control, _) = server.request();
    let out = server.infer(&output, &[]);
    refuses(&out, &["busy", "try again"]);
    assert_eq!(out.status.code(), Some(7));
    server.complains("busy");
    // In the session: no second connection, a silent one, garbage on one, garbage on the other.
    server.complains("sent nothing for 2s");
    let (_control, offer) = server.request();
    let _open = raw(&server, &hello(Party::P1, Purpose::Join(connection_id(offer.session, 0, Part::Offline))));
    server.complains("sent nothing for 2s");
    let (_control, offer) = server.request();
    let _open = raw(
        &server,
        &[&hello(Party::P1, Purpose::Join(connection_id(offer.session, 0, Part::Offline)))[..], &[0xee; 1 << 20]]
            .concat(),
    );
    server.complains("peer=");
    let (control, offer) = server.request();
    let _open = raw(&server, &hello(Party::P1, Purpose::Join(connection_id(offer.session, 0, Part::Offline))));
    let mut online = control.into_channel();
    let _ = online.send(&[0xee; 1 << 16]);
    server.complains("peer=");
    let (control, offer) = server.request();
    drop(raw(&server, &hello(Party::P1, Purpose::Join(connection_id(offer.session, 0, Part::Offline)))));
    drop(control);
    server.complains("closed the connection");

    assert!(server.child.try_wait().unwrap().is_none());
    let out = server.infer(&output, &[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// A server of the test's own, at its first connection.
struct Pretender {
    control: Control,
    stream: TcpStream,
    listener: TcpListener,
}

/// What `infer` says to it.
fn pretend(name: &str, play: impl FnOnce(&mut Pretender) + Send + 'static) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        let control = Control::new(stream.try_clone().unwrap(), Duration::from_secs(20)).unwrap();
        let mut server = Pretender { control, stream, listener };
        server.control.receive_hello(Party::P0).unwrap();
        play(&mut server);
        server
    });
    let output = folder(name).join("result.csv");
    let items = text(&digits("inputs.npy")).to_string();
    let start = Instant::now();
    let arguments = ["infer", "--connect", &address, "--input", &items, "--output", text(&output)];
    let out = run(&[&arguments[..], &["--deadline", "1", "--batch", "2"]].concat());
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(std::fs::read_dir(output.parent().unwrap()).unwrap().count(), 0, "no part of a result");
    drop(server.join().unwrap());
    out
}

/// Makes the offer, and answers the request with a choice.
fn choose(control: &mut Control, change: impl FnOnce(&mut Choice)) {
    offer(control, |_| ());
    control.receive().unwrap();
    let mut choice = Choice {
        backend: "iknp".into(),
        objective: Objective::Bytes,
        fuse: true,
        linear: LinearForms::Cot,
        lanes: 1,
        batch: 2,
    };
    change(&mut choice);
    control.send(&Message::Choice(choice)).unwrap();
}

fn offer(control: &mut Control, change: impl FnOnce(&mut Offer)) {
    let mut offer = Offer {
        session: [9; 16],
        description: Model::load(Path::new(DIGITS)).unwrap().description.to_toml(),
        max_items: 1000,
        max_batch: 1000,
    };
    change(&mut offer);
    control.send_hello(Party::P0, Purpose::Session).unwrap();
    control.send(&Message::Offer(offer)).unwrap();
}

#[test]
fn a_client_survives_bad_servers() {
    let bytes = |bytes: &'static [u8]| move |s: &mut Pretender| s.stream.write_all(bytes).unwrap();
    let ahead = |at: usize, value: u8| {
        move |s: &mut Pretender| {
            let mut h = hello(Party::P0, Purpose::Session);
            h[at] = value;
            s.stream.write_all(&h).unwrap();
        }
    };
    refuses(&pretend("garbage", bytes(b"HTTP/1.1 400 Bad Request\r\n")), &["HTTP/1.1"]);
    refuses(&pretend("silence", |_| std::thread::sleep(Duration::from_secs(2))), &["sent nothing for 1s"]);
    refuses(&pretend("version", ahead(9, 1)), &["wire version 26"]);
    refuses(&pretend("role", ahead(12, 1)), &["wrong role"]);
    let refused = |name: &str, change: fn(&mut Offer), parts: &[&str]| {
        refuses(&pretend(name, move |s| offer(&mut s.control, change)), parts);
    };
    refused(
        "description",
        |o| o.description = "format = 1\nname = \"\u{1b}[31m\"".into(),
        &["the server's description"],
    );
    refused("long", |o| o.description = "x".repeat(600_000), &["600000 bytes"]);
    let closes = |s: &mut Pretender| {
        offer(&mut s.control, |_| ());
        s.stream.shutdown(std::net::Shutdown::Both).unwrap();
    };
    refuses(&pretend("closes", closes), &["closed the connection"]);
    let chosen = |name: &str, change: fn(&mut Choice), parts: &[&str]| {
        let play = move |s: &mut Pretender| {
            choose(&mut s.control, change);
            let _ = s.control.receive();
        };
        refuses(&pretend(name, play), parts);
    };
    chosen("backend", |c| c.backend = "magic".into(), &["magic", "iknp"]);
    chosen("lanes", |c| c.lanes = 3, &["3 batches of 2 items", "2 items were asked for"]);
    chosen("no_lanes", |c| c.lanes = 0, &["0 batches"]);
    chosen("batch", |c| c.batch = u64::MAX, &["2 items were asked for"]);
    let disagrees = |s: &mut Pretender| {
        choose(&mut s.control, |_| ());
        s.control.send(&Message::Plans(vec!["00".into()])).unwrap();
        let _ = s.control.receive();
    };
    refuses(&pretend("plans", disagrees), &["planned different programs"]);
    // Beyond the handshake, where only noise and silence are left to it.
    let agree = |s: &mut Pretender| {
        choose(&mut s.control, |_| ());
        let plans = s.control.receive().unwrap();
        s.control.send(&plans).unwrap();
        s.control.send(&Message::Start).unwrap();
        let mut second = Control::new(s.listener.accept().unwrap().0, Duration::from_secs(20)).unwrap();
        assert!(matches!(second.receive_hello(Party::P0), Ok(Purpose::Join(_))));
        second.send_hello(Party::P0, Purpose::Session).unwrap();
        second.send(&Message::Start).unwrap();
        second.into_channel()
    };
    refuses(&pretend("leaves", move |s| drop(agree(s))), &["closed the connection"]);
    let noise = move |s: &mut Pretender| {
        let mut second = agree(s);
        // The client may be gone before it has read everything.
        let _ = second.send(&[0xaa; 1 << 20]).map(|()| s.stream.write_all(&[0xaa; 1 << 20]));
        std::thread::sleep(Duration::from_millis(1500));
    };
    refuses(&pretend("noise", noise), &[]);
    // Nobody there at all.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = folder("nobody").join("result.csv");
    let items = text(&digits("inputs.npy")).to_string();
    let out = run(&["infer", "--connect", &free, "--input", &items, "--output", text(&output), "--deadline", "0.3"]);
    refuses(&out, &[&free]);
}

/// The folder of reference data, if there is one.
fn data(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("SIRNN_DATA").map(PathBuf::from);
    if found.is_none() {
        println!("{test}: skipped what needs SIRNN_DATA, which is not set");
    }
    found
}

#[test]
fn tables_are_exact() {
    let folder = folder("tables");
    let table = |name: &str, options: &[&str]| {
        let path = folder.join(name);
        let out = run(&[&["table"], options, &["--output", text(&path)]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::read(path).unwrap()
    };
    // Between two parties and in the clear; debug builds take fewer inputs.
    let width = if cfg!(debug_assertions) { "10" } else { "16" };
    for (name, bytes) in [("exp", 2), ("tanh", 1)] {
        let out_width = if bytes == 1 { "7" } else { "16" };
        let options = [name, "--width", width, "--scale-in", "6", "--out-width", out_width, "--scale-out", "12"];
        let clear = table("clear", &[&options[..], &["--cleartext"]].concat());
        assert_eq!(clear.len(), bytes << width.parse::<u32>().unwrap());
        assert_eq!(table("two", &options), clear, "{name}");
    }
    refuses(
        &run(&[
            "table",
            "exp",
            "--scale-in",
            "99",
            "--scale-out",
            "12",
            "--cleartext",
            "--output",
            text(&folder.join("no")),
        ]),
        &["exp", "scale 99"],
    );
    assert!(!folder.join("no").exists());

    let Some(data) = data("tables") else { return };
    for (name, s_in, s_out) in
        [("exp", "12", "12"), ("sigmoid", "12", "12"), ("sigmoid", "8", "14"), ("tanh", "12", "12")]
    {
        let options =
            [name, "--width", "16", "--scale-in", s_in, "--out-width", "16", "--scale-out", s_out, "--cleartext"];
        let reference = std::fs::read(data.join(format!("math/{name}_16_{s_in}_16_{s_out}.u16"))).unwrap();
        assert_eq!(table("reference", &options), reference, "{name}");
    }
}

#[test]
fn doctor_is_content() {
    let report = json(&["doctor", "--json"]);
    assert_eq!(report["healthy"], true, "{report}");
    let mut lowered = sirnn(&["doctor", "--json"]);
    let out = lowered.env("SIRNN_SIMD", "portable").output().unwrap();
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["level"], &report["healthy"]), (&"portable".into(), &true.into()), "{report}");
}

#[test]
fn google30_is_exact_between_two_processes() {
    let Some(data) = data("google30").map(|d| d.join("google30")) else { return };
    // Cargo builds examples beside the tests.
    let deps = std::env::current_exe().unwrap();
    let example = deps.ancestors().nth(2).unwrap().join("examples/google30");
    if !example.exists() {
        println!("google30: skipped, the example is not built");
        return;
    }
    let read = |name: &str| std::fs::read(data.join(name)).unwrap();
    for (rescale, fuse) in [("div", "off"), ("floor", "off"), ("div", "on")] {
        let options = ["--rescale", rescale, "--fuse", fuse, "--batch", "2", "--json"];
        let out = Command::new(&example).arg(&data).args(options).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let report: Value =
            serde_json::from_str(String::from_utf8(out.stdout).unwrap().lines().last().unwrap()).unwrap();
        let scores: Vec<i64> =
            read(&format!("scores_sirnn_{rescale}_i8_30.bin")).iter().map(|&b| (b as i8).into()).collect();
        let hidden = read(&format!("hidden_final_{rescale}_i16_100.bin"));
        let hidden: Vec<i64> = hidden.chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]]).into()).collect();
        assert_eq!(report["output"], serde_json::json!([scores, scores]), "{rescale}, fuse {fuse}");
        assert_eq!(report["hidden"], serde_json::json!([hidden, hidden]), "{rescale}, fuse {fuse}");
    }
}

/// Makes a pair of stores over TCP: the server's and the client's, and the client's report.
fn stores(folder: &Path, name: &str, server: &[&str], client: &[&str]) -> ([PathBuf; 2], Value) {
    let paths = ["server", "client"].map(|party| folder.join(format!("{name}.{party}")));
    let mut command = sirnn(&["offline", "--model", DIGITS, "--listen", "127.0.0.1:0", "--json", "--store"]);
    command.arg(&paths[0]).args(server);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    let address = line["listening"].as_str().unwrap().to_string();
    let report = json(
        &[&["offline", "--connect", &address, "--model", DIGITS, "--store", text(&paths[1]), "--json"], client]
            .concat(),
    );
    let theirs: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((report["rounds"].as_u64(), report["bytes_online"].as_u64()), (Some(0), Some(0)));
    for key in ["instances", "batches", "rounds_offline", "bytes_sent", "bytes_received", "bytes_offline"] {
        assert_eq!(report[key], theirs[key], "{key}");
    }
    for (p, report) in [theirs, report.clone()].iter().enumerate() {
        assert_eq!(report["store_bytes"][p].as_u64(), Some(std::fs::metadata(&paths[p]).unwrap().len()));
    }
    (paths, report)
}

fn scores(table: &Path) -> Vec<Vec<i64>> {
    let table = std::fs::read_to_string(table).unwrap();
    let row = |line: &str| line.split(',').skip(3).take(10).map(|v| v.parse().unwrap()).collect();
    table.lines().skip(1).map(row).collect()
}

#[test]
fn stores_replace_the_offline_phase() {
    let folder = folder("stores");
    let output = folder.join("result.csv");
    // With ring-LWE, batches of a lane share keys, also where a store is made in one.
    for (ot, lanes, linear) in [("iknp", "1", "auto"), ("ferret", "2", "rlwe")] {
        let planning = ["--ot", ot, "--lanes", lanes, "--linear", linear];
        let ([server, client], made) = stores(&folder, ot, &planning, &["--items", "3", "--batch", "2", "--ot", ot]);
        let copy = folder.join("copy");
        std::fs::copy(&client, &copy).unwrap();
        let host = Server::start(&[&planning[..], &["--store", text(&server)]].concat());
        let without = host.infer(&output, &["--batch", "2", "--json"]);
        let without: Value = serde_json::from_slice(&without.stdout).unwrap();
        assert_eq!(scores(&output), expected_scores()[..3]);
        std::fs::remove_file(&output).unwrap();
        let with = host.infer(&output, &["--store", text(&client), "--json"]);
        assert!(with.status.success(), "{}", String::from_utf8_lossy(&with.stderr));
        assert_eq!(scores(&output), expected_scores()[..3]);
        // Both together are what happens at once otherwise.
        let with: Value = serde_json::from_slice(&with.stdout).unwrap();
        for key in ["rounds_offline", "bytes_offline", "setup_seconds"] {
            assert_eq!(with[key].as_f64(), Some(0.0), "{key}");
        }
        assert_eq!(with["correlations_generated"], serde_json::json!({}));
        for key in ["bytes_offline", "correlations_generated"] {
            assert_eq!(made[key], without[key], "{key}");
        }
        for key in ["rounds", "bytes_online", "batches", "lanes", "ot", "fused"] {
            assert_eq!(with[key], without[key], "{key}");
        }
        for (kind, n) in without["correlations_used"].as_object().unwrap() {
            let used = |report: &Value| report["correlations_used"][kind].as_u64().unwrap_or(0);
            assert_eq!(used(&made) + used(&with), n.as_u64().unwrap(), "{kind}");
        }
        // Neither party uses its own again, and a copy at one of them meets the other.
        std::fs::remove_file(&output).unwrap();
        refuses(&host.infer(&output, &["--store", text(&client)]), &[text(&client), "already used"]);
        refuses(&host.infer(&output, &["--store", text(&copy)]), &["the peer refused", "already used"]);
        assert!(!output.exists());
    }
    // People read that there is nothing to wait for. A folder of stores is as good as the right one of them, and a store
    // knows how it was planned.
    let ([_, client], _) = stores(&folder, "folder", &["--ot", "iknp"], &["--items", "3"]);
    let host = Server::start(&["--store", text(&folder), "--ot", "ferret", "--fuse", "off", "--optimize", "bytes"]);
    let people = host.infer(&output, &["--store", text(&client)]);
    let people = String::from_utf8(people.stdout).unwrap();
    assert!(people.contains("made ahead") && !people.contains("set-up"), "{people}");
}

#[test]
fn both_parties_make_stores_on_one_machine() {
    let folder = folder("local");
    let items = folder.join("items.csv");
    std::fs::write(&items, csv(3)).unwrap();
    let made = folder.join("made");
    let arguments =
        ["offline", "--model", DIGITS, "--store", text(&made), "--items", "3", "--ot", "softspoken", "--json"];
    let report = json(&arguments);
    let sizes = ["server.store", "client.store"].map(|name| std::fs::metadata(made.join(name)).unwrap().len());
    assert_eq!(report["store_bytes"], serde_json::json!(sizes));
    refuses(&run(&arguments), &["not used yet"]);
    let arguments = ["run", "--model", DIGITS, "--input", text(&items), "--store", text(&made), "--json"];
    let report = json(&arguments);
    assert_eq!(report["ot"], "softspoken");
    assert_eq!(report["bytes_offline"], 0);
    let output: Vec<Vec<i64>> = serde_json::from_value(report["output"].clone()).unwrap();
    assert_eq!(output, expected_scores()[..3]);
    refuses(&run(&arguments), &["already used"]);
}

#[test]
fn stores_for_something_else_are_refused() {
    let folder = folder("other");
    let output = folder.join("result.csv");
    let ([server, client], _) = stores(&folder, "a", &[], &["--items", "3", "--batch", "2"]);
    let ([other_server, other_client], _) = stores(&folder, "b", &[], &["--items", "2"]);
    let refused = |options: &[&str], store: &Path, more: &[&str], parts: &[&str]| {
        let host = Server::start(options);
        refuses(&host.infer(&output, &[&["--store", text(store)], more].concat()), parts);
        assert!(!output.exists());
    };
    let ours: &[&str] = &["--store", text(&server)];
    refused(&[], &client, &[], &["the peer refused", "no stores"]);
    refused(&["--store", text(&other_server)], &client, &[], &["the peer refused", "no store"]);
    refused(&["--store", text(&client)], &client, &[], &["the peer refused", "no store"]);
    refused(ours, &server, &[], &["it is the server's; the client's is needed"]);
    refused(&["--store", text(&other_server)], &other_client, &[], &["2 items in batches of 2, not for 3"]);
    refused(ours, &client, &["--batch", "1"], &["3 items in batches of 2, not for 3 in batches of 1"]);
    refused(ours, &digits("model.toml"), &[], &["model.toml", "no store of correlations"]);
    refused(ours, Path::new("/no/such/file"), &[], &["/no/such/file", "No such file"]);
    // Other models: another description, or only other weights, which the server alone can know.
    let serve_as = |model: &Path, parts: &[&str]| {
        let host = Server::of(model, ours);
        refuses(&host.infer(&output, &["--store", text(&client)]), parts);
    };
    serve_as(&model("store-plan", "model.toml", replace("rescale = 6", "rescale = 5")), &["another plan"]);
    serve_as(
        &model("store-name", "model.toml", replace("name = \"digits\"", "name = \"letters\"")),
        &["'digits', not for 'letters'"],
    );
    let weights = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    serve_as(&model("store-weights", "weights.safetensors", weights), &["the peer refused", "other weights"]);
    // Damage, at either side.
    let damaged = folder.join("damaged");
    for (file, party) in [(&server, 0), (&client, 1)] {
        let good = std::fs::read(file).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 4;
        for (bytes, part) in
            [(&good[..good.len() - 1], "bytes"), (&good[..good.len() / 2], "bytes"), (&flipped[..], "hash")]
        {
            std::fs::write(&damaged, bytes).unwrap();
            match party {
                0 => refused(&["--store", text(&damaged)], &client, &[], &["the peer refused", "damaged", part]),
                _ => refused(ours, &damaged, &[], &[text(&damaged), "damaged", part]),
            }
        }
    }
    // Making and computing are different requests.
    let host = Server::start(&[]);
    let unmade = folder.join("c");
    let arguments = ["offline", "--connect", &host.address, "--items", "3", "--store", text(&unmade)];
    refuses(&run(&arguments), &["the peer refused", "makes no stores"]);
    let mut maker =
        sirnn(&["offline", "--model", DIGITS, "--listen", "127.0.0.1:0", "--json", "--ot", "iknp", "--store"]);
    let mut maker = maker.arg(folder.join("d")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(maker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line["listening"].as_str().unwrap();
    let arguments = ["offline", "--connect", address, "--items", "3", "--store", text(&unmade), "--ot", "ferret"];
    refuses(&run(&arguments), &["the server chose --ot iknp, not ferret"]);
    // A client that wants something else does not end it.
    assert!(maker.try_wait().unwrap().is_none());
    maker.kill().unwrap();
    maker.wait().unwrap();
    assert!(!unmade.exists() && !folder.join("d").exists());
    // After all of that the pair is as good as new.
    let host = Server::start(ours);
    assert!(host.infer(&output, &["--store", text(&client)]).status.success());
    assert_eq!(scores(&output), expected_scores()[..3]);
}

#[test]
fn a_store_is_used_as_soon_as_the_session_begins() {
    let folder = folder("begun");
    let ([server, client], _) = stores(&folder, "a", &[], &["--items", "3"]);
    let (header, used) = sirnn::run::store::peek(&server).unwrap();
    assert!(!used);
    let mut host = Server::start(&["--store", text(&server), "--deadline", "5"]);
    let request = |host: &Server| {
        let mut control = host.connect();
        control.send_hello(Party::P1, Purpose::Session).unwrap();
        control.receive_hello(Party::P1).unwrap();
        control.receive().unwrap();
        control
            .send(&Message::Request(Request {
                items: 3,
                batch: 3,
                steps: 8,
                lengths: None,
                phases: Phases::Online(header.id),
                linear: LinearForms::Auto,
                nonce: [9; 16],
            }))
            .unwrap();
        assert!(matches!(control.receive(), Ok(Message::Choice(_))));
        let plans = control.receive().unwrap();
        assert!(matches!(plans, Message::Plans(_)));
        (control, plans)
    };
    // Who leaves before both have agreed takes nothing along. Meanwhile the store is in use.
    let (control, _) = request(&host);
    let output = folder.join("result.csv");
    refuses(&host.infer(&output, &["--store", text(&client)]), &["the peer refused", "in use"]);
    drop(control);
    // In the order in which they were done with.
    let lines = [host.complaint(), host.complaint()];
    assert!(["in use", "closed the connection"].iter().all(|part| lines.iter().any(|l| l.contains(part))), "{lines:?}");
    assert!(!sirnn::run::store::peek(&server).unwrap().1);
    // Afterwards it is gone.
    let (mut control, plans) = request(&host);
    control.send(&plans).unwrap();
    drop(control);
    host.complains("peer=");
    assert!(sirnn::run::store::peek(&server).unwrap().1);
    assert!(std::fs::metadata(&server).unwrap().len() < 4096);
    refuses(&host.infer(&output, &["--store", text(&client)]), &["the peer refused", "already used"]);
    assert!(!sirnn::run::store::peek(&client).unwrap().1, "nothing of the client's store was used");
}

#[test]
fn half_a_pair_is_not_kept() {
    let folder = folder("half");
    let path = folder.join("server.store");
    let mut command = sirnn(&[
        "offline",
        "--model",
        DIGITS,
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--deadline",
        "2",
        "--store",
        text(&path),
    ]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let mut host = Server { child, output, address: line["listening"].as_str().unwrap().to_string(), line };
    let mut control = host.connect();
    control.send_hello(Party::P1, Purpose::Session).unwrap();
    control.receive_hello(Party::P1).unwrap();
    control.receive().unwrap();
    control
        .send(&Message::Request(Request {
            items: 3,
            batch: 3,
            steps: 8,
            lengths: None,
            phases: Phases::Offline,
            linear: LinearForms::Auto,
            nonce: [9; 16],
        }))
        .unwrap();
    assert!(matches!(control.receive(), Ok(Message::Choice(_))));
    let plans = control.receive().unwrap();
    control.send(&plans).unwrap();
    drop(control);
    // It waits for the second connection, for its generator.
    host.complains("closed the connection");
    assert!(!host.child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}
