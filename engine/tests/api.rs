//! The front door: what a program sees of it.

use sirnn::{
    Cancellation, Client, Fault, Identity, Inputs, Linear, Model, Network, Planning, Progress, Reveal, Server,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/digits");

/// Ring-LWE would count into a file beside the shipped model.
fn planning() -> Planning {
    Planning::default().linear(Linear::Cot)
}

fn serve(model: &Model) -> Server {
    Server::builder(model).planning(planning()).listen("127.0.0.1:0").unwrap()
}

fn client(server: &Server) -> Client {
    Client::connect(&server.address().to_string()).unwrap()
}

/// Pixels as integers of the network's format, different in every item.
fn pixels(items: usize) -> Vec<i16> {
    (0..items * 64).map(|i| ((i * 7 + i / 64 * 13) % 32) as i16).collect()
}

fn images(items: usize) -> Inputs {
    Inputs::integers(&pixels(items), &[items, 8, 8])
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sirnn-api-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A network with two outputs for each time step, of items of different lengths.
fn per_step() -> Model {
    let folder = folder("steps");
    let text = r#"
        format = 2
        name = "steps"
        steps = 4
        [[input]]
        name = "x"
        shape = ["steps", 2]
        bits = 8
        scale = 4
        [[node]]
        name = "y"
        op = "matmul"
        in = "x"
        weights = { tensor = "W", bits = 8 }
        columns = 3
        out = { bits = 12, scale = 4 }
        [[output]]
        name = "y"
        reveal = "scores"
        labels = ["a", "b", "c"]
    "#;
    std::fs::write(folder.join("model.toml"), text).unwrap();
    let header = r#"{"W":{"dtype":"I8","shape":[2,3],"data_offsets":[0,6]}}"#;
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.bytes());
    weights.extend([1u8, 2, 3, 0xff, 0, 1]);
    std::fs::write(folder.join("weights.safetensors"), weights).unwrap();
    Model::load(folder).unwrap()
}

#[test]
fn all_inputs_and_outputs() {
    let model = Model::load(DIGITS).unwrap();
    let server = serve(&model);
    let client = client(&server);
    assert_eq!(client.network().name(), model.network().name());
    let [input, output] = [&client.network().inputs()[0], &client.network().outputs()[0]];
    assert_eq!((&input.shape[..], input.bits, input.scale), (&[None, Some(8)][..], 8, 5));
    assert_eq!((output.reveal, &output.shape[..]), (Some(Reveal::Scores), &[Some(10)][..]));

    let whole = client.predict(images(3)).unwrap();
    // The same numbers as reals are the same items.
    let reals: Vec<f32> = pixels(3).iter().map(|&v| f32::from(v) / 32.0).collect();
    let real = client.predict(Inputs::reals(&reals, &[3, 8, 8])).unwrap();
    assert!(whole.agree(&real) && whole.agree(&model.evaluate(images(3)).unwrap()));
    let output = whole.outputs().next().unwrap();
    let classes = whole.classes().unwrap();
    assert_eq!((whole.len(), classes.len(), output.len(), output.is_per_step()), (3, 3, 3, false));
    for (item, &class) in classes.iter().enumerate() {
        assert_eq!(output.classes(item), [class]);
        let rows = output.rows(item);
        assert_eq!((rows.len(), rows[0].class, &rows[0].values), (1, Some(class), &output.reals(item)));
        let best = output.integers(item).iter().max().unwrap();
        assert_eq!(output.integers(item)[class], *best);
    }
    let summary = whole.summary().unwrap();
    let cost = model.network().plan(3, None, &planning()).unwrap();
    assert_eq!((summary.bytes_total, summary.instances), (cost.bytes_total, 3));

    // Shorter series, of different lengths: as if each were alone.
    let all = pixels(2);
    let series = [&all[..64], &all[64..64 + 24]];
    let mixed = client.predict(Inputs::integer_sequences(series, &[8])).unwrap();
    assert!(mixed.agree(&model.evaluate(Inputs::integer_sequences(series, &[8])).unwrap()));
    let alone = model.evaluate(Inputs::integers(series[1], &[1, 3, 8])).unwrap();
    assert_eq!(mixed.classes().unwrap()[1], alone.classes().unwrap()[0]);
    server.stop();
}

#[test]
fn outputs_of_time_steps() {
    let model = per_step();
    let series = [&[1i16, 2, 3, 4, 5, 6][..], &[7, 8]];
    let expected = model.evaluate(Inputs::integer_sequences(series, &[2])).unwrap();
    let run = model.run(Inputs::integer_sequences(series, &[2]), &planning()).unwrap();
    assert!(run.agree(&expected));
    let output = run.output("y").unwrap();
    assert!(output.is_per_step() && run.output("z").is_none() && run.classes().is_none());
    // y = x W: of the second item's only step 7 (1, 2, 3) + 8 (-1, 0, 1).
    assert_eq!((output.integers(1), output.rows(1).len(), output.rows(0).len()), (&[-1, 14, 29][..], 1, 3));
    assert_eq!((output.rows(1)[0].class, output.class_names()[2].as_str()), (Some(2), "c"));
}

#[test]
fn bad_inputs_say_what_and_where() {
    let model = Model::load(DIGITS).unwrap();
    let cases = [
        (Inputs::reals(&[0.0; 64], &[1, 8, 4]), "64 numbers for shape"),
        (Inputs::reals(&[0.0; 32], &[1, 8, 4]), "is expected"),
        (Inputs::reals(&[0.0; 72], &[1, 9, 8]), "1 to 8"),
        (Inputs::reals(&[f64::NAN; 64], &[1, 8, 8]), "item 0, step 0, feature 0: NaN is not a finite number"),
        (Inputs::reals(&[9.0; 64], &[1, 8, 8]), "does not fit 8 bits"),
        (Inputs::integers(&[300i16; 64], &[1, 8, 8]), "300 does not fit 8 bits"),
        (Inputs::reals::<f64>(&[], &[0, 8, 8]), "there are no items"),
        (Inputs::real_sequences([&[0.0; 8][..], &[0.0; 3]], &[8]), "item 1 has 3 numbers, a step has 8"),
        (Inputs::real_sequences([&[0.0; 8][..], &[]], &[8]), "item 1 has 0 numbers"),
        (images(1).named("nothing"), "none called 'nothing'"),
        (images(1).and(images(1)), "2 arrays"),
    ];
    for (inputs, part) in cases {
        let e = model.evaluate(inputs).unwrap_err();
        assert!(e.to_string().contains(part) && e.fault() == Fault::Input, "{e}: {part}");
    }
    let plan = |planning: Planning| model.network().plan(1, None, &planning).unwrap_err().to_string();
    assert!(plan(Planning::default().ot("none")).contains("none") && plan(Planning::default().lanes(9)).contains("9"));
}

#[test]
fn the_next_server_takes_over() {
    let model = Model::load(DIGITS).unwrap();
    // An address of this test's own: nobody else gets a port that is free again.
    let serve = || Server::builder(&model).planning(planning()).listen("127.0.77.1:0").unwrap();
    let (gone, here) = (serve(), serve());
    let (first, second) = (gone.address().to_string(), here.address().to_string());
    let client = Client::builder(&first).or(&second).connect().unwrap();
    gone.stop();
    drop(gone);
    assert_eq!(client.predict(images(1)).unwrap().len(), 1);
    here.stop();
    let e = client.predict(images(1)).unwrap_err();
    assert_eq!(e.fault(), Fault::Network, "{e}");
    // Another model under the same address is none that this client asked for.
    let other = Server::builder(&per_step()).planning(planning()).listen("127.0.0.1:0").unwrap();
    let expected = Network::load(DIGITS).unwrap();
    let e = Client::builder(other.address().to_string()).expect(expected).connect().unwrap_err();
    assert!(e.fault() == Fault::Peer && e.to_string().contains("another model"), "{e}");
}

#[test]
fn ends_from_other_threads() {
    let model = Model::load(DIGITS).unwrap();
    let (sessions, told) = mpsc::channel();
    let server = Server::builder(&model)
        .planning(planning().lanes(1))
        .grace(Duration::ZERO)
        .on_session(move |s| sessions.send(s.result.as_ref().map(|r| r.instances).map_err(|e| e.to_string())).unwrap())
        .listen("127.0.0.1:0")
        .unwrap();
    let cancellation = Cancellation::default();
    let rounds = Arc::new(AtomicUsize::new(0));
    let heard = {
        let (cancellation, rounds) = (cancellation.clone(), rounds.clone());
        move |p: Progress| {
            rounds.fetch_max(p.rounds, Ordering::Relaxed);
            if p.rounds == 3 {
                cancellation.cancel();
            }
        }
    };
    let address = server.address().to_string();
    let client = Client::builder(&address).on_progress(heard).cancellation(&cancellation).connect().unwrap();
    let e = client.predict(images(2)).unwrap_err();
    assert!(e.is_cancelled() && rounds.load(Ordering::Relaxed) >= 3, "{e}");
    assert!(told.recv().unwrap().unwrap_err().contains("cancelled"));
    assert!(client.predict(images(1)).unwrap_err().is_cancelled(), "cancelled for good");

    // A graceful stop while a session runs: it is told, since there is no grace.
    let handle = Mutex::new(Some(server.handle()));
    let stop = move |p: Progress| {
        if p.rounds == 3
            && let Some(handle) = handle.lock().unwrap().take()
        {
            handle.stop();
        }
    };
    let client = Client::builder(&address).on_progress(stop).batch(1).connect().unwrap();
    let e = client.predict(images(200)).unwrap_err();
    assert!(e.to_string().contains("shuts down"), "{e}");
    server.wait();
    assert!(told.recv().unwrap().unwrap_err().contains("shuts down"));
    assert_eq!(server.handle().load(), (0, 0));
}

#[test]
fn two_machines_take_identities() {
    let model = Model::load(DIGITS).unwrap();
    let folder = folder("identity");
    let (ours, our_print) = Identity::create("client", folder.join("client")).unwrap();
    let (theirs, their_print) = Identity::create("server", folder.join("server")).unwrap();
    let again = Identity::create("server", folder.join("server")).unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");
    let open = |s: &str| Server::builder(&model).listen(s).unwrap_err().to_string();
    assert!(open("0.0.0.0:0").contains("takes an identity") && open("nowhere").contains("nowhere"));
    assert!(ours.clone().accept("xyz").is_err());
    let server = Server::builder(&model).planning(planning()).identity(theirs.accept(&our_print).unwrap());
    let server = server.listen("127.0.0.1:0").unwrap();
    let connect = |identity: Identity| Client::builder(server.address().to_string()).identity(identity).connect();
    let client = connect(ours.clone().accept(&their_print).unwrap()).unwrap();
    assert_eq!(client.predict(images(1)).unwrap().len(), 1);
    let e = connect(ours.accept(&our_print).unwrap()).unwrap_err();
    assert!(e.fault() == Fault::Peer && e.to_string().contains("not accepted"), "{e}");
    let e = Client::connect(&server.address().to_string()).unwrap_err();
    assert!(e.to_string().contains("TLS"), "{e}");
}
