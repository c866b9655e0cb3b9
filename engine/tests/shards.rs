//! Parts of a job, and several servers, from the command line.

mod common;

use common::*;
use std::fs;
use std::path::Path;
use std::process::Output;

/// `infer` with options of all tests here.
fn infer(addresses: &[&str], input: &Path, output: &Path, options: &[&str]) -> Output {
    let mut arguments = vec!["infer", "--input", text(input), "--output", text(output)];
    addresses.iter().for_each(|a| arguments.extend(["--connect", a]));
    run(&[&arguments, options].concat())
}

fn succeeds(out: &Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn shards_are_the_whole() {
    let folder = folder("shards");
    let server = Server::start(&["--linear", "cot"]);
    let (items, output) = (folder.join("items.csv"), folder.join("out.csv"));
    fs::write(&items, csv(11)).unwrap();
    let address = [server.address.as_str()];
    for kind in ["csv", "npy"] {
        let whole = folder.join(format!("whole.{kind}"));
        succeeds(&infer(&address, &items, &whole, &[]));
        let output = folder.join(format!("out.{kind}"));
        refuses(&run(&["merge", "--output", text(&output)]), &["there are no shards"]);
        succeeds(&infer(&address, &items, &output, &["--shard", "2/3"]));
        succeeds(&infer(&address, &items, &output, &["--shard", "0/3"]));
        refuses(&run(&["merge", "--output", text(&output)]), &["of 3 shards these are missing: 1"]);
        let mut scheduled =
            sirnn(&["infer", "--connect", &server.address, "--input", text(&items), "--shard", "auto/3"]);
        succeeds(&scheduled.args(["--output", text(&output)]).env("JOB_COMPLETION_INDEX", "1").output().unwrap());
        succeeds(&run(&["merge", "--output", text(&output)]));
        assert_eq!(fs::read(&whole).unwrap(), fs::read(&output).unwrap(), "{kind}");
    }

    // One that is done is not asked for again; one that is damaged, or of other items, is.
    let nowhere = ["127.0.77.1:9"];
    let again = |shard: &str| infer(&nowhere, &items, &output, &["--shard", shard, "--json"]);
    assert!(succeeds(&again("1/3")).contains("\"skipped\":true"));
    let part = folder.join("out.00001-of-00003.csv");
    let good = fs::read(&part).unwrap();
    fs::write(&part, "item,label,class\n").unwrap();
    refuses(&run(&["merge", "--output", text(&output)]), &["00001-of-00003.csv", "not what the shard wrote"]);
    succeeds(&infer(&address, &items, &output, &["--shard", "1/3"]));
    assert_eq!(fs::read(&part).unwrap(), good);
    fs::write(&items, csv(10)).unwrap();
    assert!(!succeeds(&infer(&address, &items, &output, &["--shard", "1/3"])).contains("is done"));
    refuses(&run(&["merge", "--output", text(&output)]), &["of other items or of another model"]);

    // A shard that fails leaves nothing that looks like one.
    let failed = infer(&address, &items, &folder.join("failed.csv"), &["--shard", "0/2", "--max-bytes", "1k"]);
    refuses(&failed, &["are allowed"]);
    assert!(!fs::read_dir(&folder).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().contains("failed")));
    refuses(&infer(&address, &items, &output, &["--shard", "0/11"]), &["11 shards of 10 items"]);
    for bad in ["3/3", "x", "auto"] {
        assert_eq!(infer(&address, &items, &output, &["--shard", bad]).status.code(), Some(2), "{bad}");
    }
}

#[test]
fn another_server_is_asked_before_a_session_starts() {
    let folder = folder("several");
    let (items, output) = (folder.join("items.csv"), folder.join("out.csv"));
    fs::write(&items, csv(2)).unwrap();
    let gone = "127.0.77.1:9";
    let here = Server::start(&["--linear", "cot"]);
    succeeds(&infer(&[gone, &here.address], &items, &output, &[]));
    // Full: its only slot and its queue of none are taken.
    let full = Server::start(&["--linear", "cot", "--max-sessions", "1", "--queue", "0"]);
    let held = full.request();
    refuses(&infer(&[&full.address], &items, &output, &[]), &["busy"]);
    let warned = infer(&[&full.address, &here.address], &items, &output, &[]);
    succeeds(&warned);
    assert!(String::from_utf8_lossy(&warned.stderr).contains("asking another server"));
    drop(held);
    // What is wrong for good is not asked of others.
    let failed = infer(&[&here.address, gone], &items, &output, &["--max-bytes", "1k"]);
    refuses(&failed, &["are allowed"]);
    let nobody = infer(&[gone, gone], &items, &output, &[]);
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(nobody.status.code() == Some(5) && said.lines().last().unwrap().contains("refused"), "{said}");
}
