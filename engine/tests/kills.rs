//! Processes that end without a word: `kill -9` of either party, at any byte of either direction of either connection: in the
//! handshake, in the offline and the online phase, while stores are made, and while they are used.
//!
//! Whatever happens: no wrong result and no half of one, no correlation used twice, no store left but whole ones and nothing under
//! other names, and the next honest client is served. `SIRNN_KILLS` says how many there are.

mod common;

use common::*;
use sirnn::run::store::peek;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Kills in the usual run.
const KILLS: u64 = 36;
/// Trials at the same time.
const AT_ONCE: usize = 6;
/// Longest silence that a party puts up with, in seconds.
const DEADLINE: &str = "5";
/// By when everything has to be over that follows from a kill.
const WATCHDOG: Duration = Duration::from_secs(60);
/// How much the lengths of messages of the handshake differ from one time to the next.
const SLACK: u64 = 400;
/// Items of a request.
const ITEMS: usize = 3;

/// Who is killed, and when.
#[derive(Clone, Copy, Debug)]
struct Kill {
    server: bool,
    connection: usize,
    to_server: bool,
    /// When so many bytes of the direction have passed.
    at: u64,
}

/// Bytes that passed, by connection and direction.
type Counts = Arc<[[AtomicU64; 2]; 2]>;

/// Stands between the parties, counts, and says when it is time; then nothing more passes until it is told to go on.
struct Proxy {
    address: String,
    counts: Counts,
    reached: Receiver<()>,
    /// Dropped when the kill was done.
    go_on: Sender<()>,
}

impl Proxy {
    fn start(server: &str, kill: Option<Kill>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let counts = Counts::default();
        let (says, reached) = channel();
        let (go_on, waits) = channel();
        let waits = Arc::new(Mutex::new(waits));
        let (server, counted) = (server.to_string(), counts.clone());
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().take(2).enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { return };
                for to_server in [false, true] {
                    let [from, to] = if to_server { [&client, &server] } else { [&server, &client] };
                    let [from, to] = [from, to].map(|s| s.try_clone().unwrap());
                    let kill = kill.filter(|k| k.connection == number && k.to_server == to_server).map(|k| k.at);
                    let (counted, says, waits) = (counted.clone(), says.clone(), waits.clone());
                    std::thread::spawn(move || {
                        let _ = forward(&from, &to, kill, &counted[number][usize::from(to_server)], &says, &waits);
                        let _ = to.shutdown(Shutdown::Write);
                        let _ = from.shutdown(Shutdown::Read);
                    });
                }
            }
        });
        Self { address, counts, reached, go_on }
    }
}

fn forward(
    mut from: &TcpStream,
    mut to: &TcpStream,
    kill: Option<u64>,
    count: &AtomicU64,
    says: &Sender<()>,
    waits: &Mutex<Receiver<()>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 14];
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        let before = count.load(Ordering::Relaxed);
        let here = kill.filter(|at| (before..before + n as u64).contains(at)).map_or(n, |at| (at - before) as usize);
        to.write_all(&buffer[..here])?;
        count.fetch_add(here as u64, Ordering::Relaxed);
        if here < n {
            says.send(()).unwrap_or_default();
            let _ = waits.lock().unwrap().recv();
            to.write_all(&buffer[here..n])?;
            count.fetch_add((n - here) as u64, Ordering::Relaxed);
        }
    }
}

/// Waits for a process; it must not hang. Returns whether it succeeded.
fn wait(child: &mut Child, context: &str) -> bool {
    let end = Instant::now() + WATCHDOG;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            // A process that failed says whose fault it is, and never that it is its own. One that was killed says nothing.
            assert!(status.code() != Some(1) && status.code() != Some(101), "{context}: {status}");
            return status.success();
        }
        assert!(Instant::now() < end, "{context}: it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts the client, kills who is to be killed when it is time, and waits for the client. Returns whether it succeeded.
fn run_and_kill(
    proxy: Proxy,
    kill: Option<Kill>,
    client: &mut Command,
    server: &mut Child,
    context: &str,
) -> (bool, Counts) {
    let Proxy { counts, reached, go_on, .. } = proxy;
    let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    if let Some(kill) = kill {
        // Every place is reached; but for those that this run's messages are too short for.
        while client.try_wait().unwrap().is_none() {
            if reached.recv_timeout(Duration::from_millis(10)).is_ok() {
                let victim = if kill.server { &mut *server } else { &mut client };
                victim.kill().unwrap();
                victim.wait().unwrap();
                break;
            }
        }
    }
    drop(go_on);
    (wait(&mut client, context), counts)
}

fn infer(address: &str, folder: &Path, more: &[&str]) -> Command {
    let (items, output) = (folder.join("items.csv"), folder.join("result.csv"));
    std::fs::write(&items, csv(ITEMS)).unwrap();
    let mut command = sirnn(&["infer", "--connect", address, "--input", text(&items), "--output", text(&output)]);
    command.args(["--deadline", DEADLINE]).args(more);
    command
}

/// The result: nothing, or all of it and right.
fn result(folder: &Path, context: &str) -> bool {
    let Ok(table) = std::fs::read_to_string(folder.join("result.csv")) else { return false };
    let row = |line: &str| line.split(',').skip(3).take(10).map(|v| v.parse().unwrap()).collect::<Vec<i64>>();
    let rows: Vec<_> = table.lines().skip(1).map(row).collect();
    assert_eq!(rows, expected_scores()[..ITEMS], "{context}");
    std::fs::remove_file(folder.join("result.csv")).unwrap();
    true
}

/// Nothing under names that nobody asked for.
fn no_leftovers(folder: &Path, context: &str) {
    let allowed = ["items.csv", "result.csv", "server.store", "client.store", ".used-stores"];
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(allowed.iter().any(|a| name == *a), "{context}: {name:?} was left behind");
    }
}

const SERVE: [&str; 4] = ["--deadline", DEADLINE, "--ot", "iknp"];

/// Both phases at once.
fn request(folder: &Path, kill: Option<Kill>, context: &str) -> Counts {
    let mut server = Server::start(&SERVE);
    let proxy = Proxy::start(&server.address, kill);
    let mut client = infer(&proxy.address, folder, &[]);
    let (ok, counts) = run_and_kill(proxy, kill, &mut client, &mut server.child, context);
    let there = result(folder, context);
    assert!(there || !ok, "{context}: success without a result");
    assert!(kill.is_some() || ok, "{context}: an honest run fails");
    no_leftovers(folder, context);
    // The next one is served, by the same server if it lives.
    if kill.is_some_and(|k| k.server) {
        server = Server::start(&SERVE);
    }
    assert!(infer(&server.address, folder, &[]).output().unwrap().status.success(), "{context}: the next client");
    assert!(result(folder, context));
    counts
}

fn stores(folder: &Path) -> [PathBuf; 2] {
    ["server.store", "client.store"].map(|name| folder.join(name))
}

/// Starts the server of `sirnn offline`.
fn maker(folder: &Path) -> (Child, String) {
    let mut command = sirnn(&["offline", "--model", DIGITS, "--listen", "127.0.0.1:0", "--json", "--store"]);
    command.arg(&stores(folder)[0]).args(SERVE).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    (child, line["listening"].as_str().unwrap().to_string())
}

/// Makes a pair of stores.
fn make(folder: &Path, kill: Option<Kill>, context: &str) -> Counts {
    let (mut server, address) = maker(folder);
    let proxy = Proxy::start(&address, kill);
    let mut client =
        sirnn(&["offline", "--connect", &proxy.address, "--items", "3", "--deadline", DEADLINE, "--store"]);
    client.arg(&stores(folder)[1]);
    let (ok, counts) = run_and_kill(proxy, kill, &mut client, &mut server, context);
    if !ok && kill.is_none_or(|k| !k.server) {
        // A server that makes one store waits for another client.
        std::thread::sleep(Duration::from_millis(200));
        let _ = server.kill();
    }
    let server_ok = wait(&mut server, context);
    let [mine, theirs] = stores(folder).map(|path| path.exists());
    no_leftovers(folder, context);
    // Who says that it has a store has one, and who lives and fails has none.
    assert!(mine || !server_ok, "{context}: the server has no store");
    assert!(theirs || !ok, "{context}: the client has no store");
    match kill {
        None => assert!(ok && server_ok, "{context}: an honest run fails"),
        Some(Kill { server: true, .. }) => {
            assert!(ok || !theirs, "{context}: the client keeps a store that it gave up")
        }
        Some(_) => {}
    }
    // A pair is used once, half of one never.
    if theirs {
        let host = Server::start(&[&SERVE[..], &["--store", text(folder)]].concat());
        let store = stores(folder)[1].clone();
        let first = infer(&host.address, folder, &["--store", text(&store)]).output().unwrap().status.success();
        assert_eq!(first, mine, "{context}");
        assert_eq!(result(folder, context), first);
        assert!(!infer(&host.address, folder, &["--store", text(&store)]).output().unwrap().status.success());
        assert!(!result(folder, context), "{context}: a store was used twice");
    }
    counts
}

/// Uses a pair of stores; `made` is one that no other trial uses at the same place.
fn using(folder: &Path, made: &Path, handshake: Option<u64>, kill: Option<Kill>, context: &str) -> Counts {
    for (from, to) in stores(made).iter().zip(stores(folder)) {
        std::fs::copy(from, to).unwrap();
    }
    let [_, store] = stores(folder);
    let options = [&SERVE[..], &["--store", text(folder)]].concat();
    let mut server = Server::start(&options);
    let proxy = Proxy::start(&server.address, kill);
    let mut client = infer(&proxy.address, folder, &["--store", text(&store)]);
    let (ok, counts) = run_and_kill(proxy, kill, &mut client, &mut server.child, context);
    let there = result(folder, context);
    assert!(there || !ok, "{context}: success without a result");
    assert!(kill.is_some() || ok, "{context}: an honest run fails");
    no_leftovers(folder, context);
    // What was said with them, no matter how little, was said once: they say so, or their journal does.
    let said = handshake.is_some_and(|h| counts[0][1].load(Ordering::Relaxed) > h + SLACK);
    let marked = stores(folder).map(|path| peek(&path).unwrap().1);
    if said || there {
        assert!(marked[1], "{context}: the client's store is fresh");
    }
    if there {
        assert!(marked[0], "{context}: the server's store is fresh");
    }
    if kill.is_some_and(|k| k.server) {
        server = Server::start(&options);
    }
    let again = infer(&server.address, folder, &["--store", text(&store)]).output().unwrap().status.success();
    assert!(!(again && marked.contains(&true)), "{context}: used twice");
    assert_eq!(result(folder, context), again, "{context}");
    assert!(!infer(&server.address, folder, &["--store", text(&store)]).output().unwrap().status.success());
    assert!(!result(folder, context), "{context}: used twice");
    counts
}

/// Bytes that the client says in the online phase.
fn said_online(folder: &Path, made: &Path) -> u64 {
    for (from, to) in stores(made).iter().zip(stores(folder)) {
        std::fs::copy(from, to).unwrap();
    }
    let host = Server::start(&[&SERVE[..], &["--store", text(folder)]].concat());
    let out = infer(&host.address, folder, &["--store", text(&stores(folder)[1]), "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    report["bytes_received"].as_u64().unwrap()
}

/// A generator of choices.
fn choices(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |n| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

#[test]
fn whoever_is_killed_nothing_is_used_twice_and_the_next_client_is_served() {
    let number = std::env::var("SIRNN_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let made = folder("kills-made");
    let sizes = |counts: Counts| [0, 1].map(|c| [0, 1].map(|d| counts[c][d].load(Ordering::Relaxed)));
    // Honest runs: how much is said in each.
    let of_request = sizes(request(&folder("kills-request"), None, "honest"));
    let of_making = sizes(make(&folder("kills-make"), None, "honest"));
    let (mut server, address) = maker(&made);
    json(&["offline", "--connect", &address, "--items", "3", "--store", text(&stores(&made)[1]), "--json"]);
    assert!(wait(&mut server, "stores"));
    let of_using = sizes(using(&folder("kills-use"), &made, None, None, "honest"));
    // What the client says before and after its online phase: more than the handshake.
    let handshake = of_using[0][1] - said_online(&folder("kills-online"), &made);
    let next = AtomicU64::new(0);
    std::thread::scope(|s| {
        for thread in 0..AT_ONCE {
            let (next, made) = (&next, &made);
            s.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= number {
                        break;
                    }
                    let below = &mut choices(i);
                    let sizes = [of_request, of_making, of_using][(i % 3) as usize];
                    let connection = if i % 3 == 2 { 0 } else { below(2) as usize };
                    let to_server = below(2) == 0;
                    let size = sizes[connection][usize::from(to_server)].max(1);
                    // A third where handshakes are, a third near the end.
                    let near = size.min(3000);
                    let at = match below(3) {
                        0 => below(near),
                        1 => size - 1 - below(near),
                        _ => below(size),
                    };
                    let kill = Kill { server: (i / 3) % 2 == 0, connection, to_server, at };
                    let context = format!("{i}: {kill:?}");
                    let folder = folder(&format!("kills-{thread}"));
                    match i % 3 {
                        0 => request(&folder, Some(kill), &context),
                        1 => make(&folder, Some(kill), &context),
                        _ => using(&folder, made, Some(handshake), Some(kill), &context),
                    };
                }
            });
        }
    });
    println!("{number} kills");
}
