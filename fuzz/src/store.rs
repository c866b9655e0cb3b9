//! Stores that were changed: the file as a whole, and the records in it behind a hash that says they are right.

use crate::show;
use crate::source::Source;
use sirnn::plan::WIRE_VERSION;
use sirnn::plan::choice::{Choice, Objective};
use sirnn::program::LinearForms;
use sirnn::run::store::{Header, SectionHeader, Store, Writer, peek};
use sirnn_backends::correlation::Correlations;
use sirnn_backends::inst::{CorrelationKind, Party};
use sirnn_backends::onehot::Shape;
use sirnn_backends::ot::{self, Session, streams::Streams};
use sirnn_backends::transport::MemChannel;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Of the session that made the records.
const ID: [u8; 16] = [5; 16];
const NEEDS: [(CorrelationKind, u64); 7] = [
    (CorrelationKind::Cot { sender: Party::P1 }, 70),
    (CorrelationKind::OneOf { sender: Party::P0, bits: 3 }, 9),
    (CorrelationKind::Triple { cols: 2 }, 65),
    (CorrelationKind::OneOf { sender: Party::P1, bits: 9 }, 3),
    (CorrelationKind::Cot { sender: Party::P0 }, 5),
    (CorrelationKind::OneHot(Shape { bits: 5, top: 2, sign: true }), 66),
    (CorrelationKind::OneHot(Shape { bits: 13, top: 2, sign: false }), 3),
];

/// The target.
///
/// # Panics
/// If damage to a file is not noticed, or damaged records do more than fail or be other correlations.
pub fn check(data: &[u8]) {
    let s = &mut Source::new(data);
    if s.range(0, 1) == 0 { file(s) } else { records(s) }
}

/// Changes some bytes, perhaps the length; says whether anything is different.
fn damage(s: &mut Source, bytes: &mut Vec<u8>) -> bool {
    let before = bytes.clone();
    while !s.is_empty() {
        match s.range(0, 7) {
            0 => bytes.truncate(s.below(bytes.len() + 1)),
            1 => bytes.extend(s.word().to_le_bytes()),
            2 => {
                let at = s.below(bytes.len() + 1);
                bytes.splice(at.., s.rest().iter().copied());
            }
            _ if bytes.is_empty() => {}
            _ => {
                let at = s.below(bytes.len());
                bytes[at] ^= s.range(0, 255) as u8;
            }
        }
    }
    *bytes != before
}

/// A file and what it was made of.
fn whole() -> &'static (PathBuf, Vec<u8>) {
    static WHOLE: OnceLock<(PathBuf, Vec<u8>)> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("sirnn-fuzz-{}.store", std::process::id()));
        let sections = [30, 20].map(|bytes| SectionHeader { plan: "p".into(), bytes }).into();
        let choice = Choice {
            backend: "iknp".into(),
            objective: Objective::Rounds,
            fuse: true,
            linear: LinearForms::Cot,
            lanes: 1,
            batch: 2,
        };
        let header = Header {
            wire: WIRE_VERSION,
            party: Party::P1,
            id: ID,
            model: "m".into(),
            items: 3,
            batch: 2,
            steps: 2,
            choice,
            sections,
        };
        let mut writer = Writer::create(&path, &header, [0; 32]).expect("a file of our own");
        writer.write_all(&[9; 50]).expect("room for it");
        writer.publish().expect("room for it").keep();
        let bytes = std::fs::read(&path).expect("it was just written");
        (path, bytes)
    })
}

fn file(s: &mut Source) {
    let (path, whole) = whole();
    let mut bytes = whole.clone();
    let changed = damage(s, &mut bytes);
    std::fs::write(path, &bytes).expect("room for it");
    if let Err(e) = peek(path) {
        show!("no header: {e}");
    }
    match Store::open(path) {
        Ok(_) => assert!(!changed, "damage that is not noticed"),
        Err(e) => assert!(changed && !e.to_string().contains('\n'), "an error is one line: {e}"),
    }
}

/// What each party of a session stored, by backend.
fn stored() -> &'static [[Vec<u8>; 2]; 2] {
    static STORED: OnceLock<[[Vec<u8>; 2]; 2]> = OnceLock::new();
    STORED.get_or_init(|| {
        ["iknp", "softspoken"].map(|name| {
            let (a, b) = MemChannel::pair();
            let make = |party, mut channel: MemChannel| {
                let backend = ot::lookup(name).and_then(|spec| spec.connect(party, ID, &NEEDS, &mut channel));
                let mut streams =
                    Streams::prefilled(backend.expect("an honest peer"), &NEEDS, &mut channel).expect("an honest peer");
                let mut bytes = Vec::new();
                streams.store(&NEEDS, &mut bytes).expect("memory takes it");
                bytes
            };
            std::thread::scope(|scope| {
                let first = scope.spawn(|| make(Party::P0, a));
                let second = make(Party::P1, b);
                [first.join().expect("no panic"), second]
            })
        })
    })
}

fn records(s: &mut Source) {
    let (which, party) = (s.below(2), s.pick(&Party::BOTH));
    let mut bytes = stored()[which][party.index()].clone();
    damage(s, &mut bytes);
    let mut streams = match Streams::stored(Session { party, id: ID }, &NEEDS, &[], Cursor::new(bytes), 0) {
        Ok(streams) => streams,
        Err(e) => return show!("refused: {e}"),
    };
    for (kind, n) in NEEDS {
        let n = n as usize;
        let drawn = match kind {
            CorrelationKind::Cot { sender } if sender == party => streams.cot_send(n).map(|c| c.rows.len()),
            CorrelationKind::Cot { .. } => streams.cot_recv(n).map(|c| {
                c.pads(0, &mut vec![0; n]);
                c.choices.len
            }),
            CorrelationKind::OneOf { sender, bits } if sender == party => streams.one_of_send(bits, n).map(|o| {
                o.pads(0, &mut vec![0; n << bits]);
                n
            }),
            CorrelationKind::OneOf { bits, .. } => streams.one_of_recv(bits, n).map(|o| {
                assert!(o.choices.iter().all(|c| c >> bits == 0), "a choice beyond the pads");
                o.choices.len()
            }),
            CorrelationKind::Triple { cols } => streams.triples(cols, n).map(|t| t.c.len),
            CorrelationKind::OneHot(shape) => streams.one_hots(shape, n).map(|o| {
                let blocks = shape.vector_blocks();
                o.vector(n - 1, &mut vec![0; blocks], &mut vec![0; blocks]);
                assert!(o.batch.masks.iter().all(|g| u32::from(*g) >> shape.bits == 0), "a mask beyond the vector");
                o.batch.masks.len()
            }),
        };
        match drawn {
            Ok(drawn) => assert_eq!(drawn, n),
            Err(e) => return show!("failed: {e}"),
        }
    }
}
