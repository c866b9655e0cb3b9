//! Stores: what the offline phase of a request made, as a file. One at each party, matched by their id.
//!
//! ```text
//!  0   8  magic
//!  8   4  version of the format
//! 12   4  length of the header
//! 16   1  state: fresh, or used
//! 17  15  zeros
//! 32      header, JSON: what the store is for
//!         body: fingerprint of the weights (32 bytes, zeros at the client), then a section for each batch:
//!           shares of the products with the weights, one task of the plan after the other (at the client the mask before each)
//!           correlations (sirnn_backends::ot::store)
//!     32  BLAKE3 of everything before but the state
//! ```
//! **A store is a secret.** Who reads it and listens to the session that uses it knows what its owner put in; who reads both
//! parties' stores knows everything. Files are readable by their owner alone. The hash detects damage and edits, not somebody
//! who can rewrite the whole file, nor somebody who puts back a copy.
//!
//! **A store is used once.** Correlations that mask two requests reveal their difference. [`Store::begin`] has the disk say
//! *used* before anything that depends on the content leaves; whoever has the file open holds a lock on it. At the end, or when it is next opened, the
//! file is cut down to its header, which goes on saying that it was used. Both parties keep count: a copy at one of them
//! is refused by the other. Against copies at both of them the server keeps a journal of the ids that were used, `.used-stores`
//! in the folder of its stores, which has to stay.

use crate::graph::Weights;
use crate::plan::choice::Choice;
use crate::plan::correlations::CORRELATION_BUDGET;
use crate::plan::{LinearTask, Plan, WIRE_VERSION};
use crate::run::file::{self, Replacement};
use crate::run::{Prepared, RunError};
use serde::{Deserialize, Serialize};
use sirnn_backends::forms::LinearShare;
use sirnn_backends::ot::{self, streams::Streams};
use sirnn_backends::transport::printable;
use sirnn_backends::{Error, Party};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"SIRNNst\x1a";
/// Version of everything in the file that the plan's digest does not cover.
const FORMAT: u32 = 1;
/// Bytes before the header.
const FIXED: usize = 32;
/// Where the state stands.
const STATE: usize = 16;
// No flipped bit makes one of the other.
const FRESH: u8 = 0x5a;
const USED: u8 = 0xa5;
/// Longest header that is read.
const MAX_HEADER: usize = 1 << 16;
/// Bytes of hashes.
const HASH: usize = blake3::OUT_LEN;
/// Bytes that are read or written at a time.
const BUFFER: usize = 1 << 20;

/// Why a store cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong; fit for the peer.
    pub what: String,
}

/// What a store is for. The two parties' differ in `party` and in the bytes of sections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`WIRE_VERSION`] of the program that made it.
    pub wire: u32,
    /// Whose it is.
    pub party: Party,
    /// The same at both parties: the id of the session that made it.
    pub id: [u8; 16],
    /// The model's name.
    pub model: String,
    /// Number of items.
    pub items: u64,
    /// How many of them at the same time were asked for.
    pub batch: u64,
    /// Their time steps.
    pub steps: u64,
    /// How they are computed.
    pub choice: Choice,
    /// For a full batch, and for the rest if there is one.
    pub sections: Vec<SectionHeader>,
}

/// What the sections for batches of one size are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SectionHeader {
    /// Digest of the plan.
    pub plan: String,
    /// Length.
    pub bytes: u64,
}

impl SectionHeader {
    /// Of a plan.
    pub fn new(plan: &Plan, party: Party) -> Self {
        let share = |t: &LinearTask| LinearShare::bytes(party, t.op, t.width, t.n * t.trips) as u64;
        let products: u64 = plan.linear.iter().map(share).sum();
        let correlations = ot::store::len(party, &plan.needs, &[plan.drawn_offline()]);
        Self { plan: blake3::Hash::from(plan.digest).to_hex().to_string(), bytes: products + correlations }
    }
}

impl Header {
    /// Number and length of the full batches' sections, and those of the rest's. `None` if they make no sense.
    fn layout(&self) -> Option<[(u64, u64); 2]> {
        let batch = self.choice.batch;
        let (full, rest) = (self.items.checked_div(batch)?, self.items.checked_rem(batch)?.min(1));
        let bytes: Vec<u64> = self.sections.iter().map(|s| s.bytes).collect();
        match bytes[..] {
            [bytes] if full > 0 && rest == 0 => Some([(full, bytes), (0, 0)]),
            [bytes, last] if full > 0 && rest == 1 => Some([(full, bytes), (1, last)]),
            _ => None,
        }
    }

    /// Bytes of the body.
    fn body(&self) -> Option<u64> {
        self.layout()?.into_iter().try_fold(HASH as u64, |sum, (n, bytes)| sum.checked_add(n.checked_mul(bytes)?))
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        let head = (FIXED + self.text().len() + HASH) as u64;
        self.body().map_or(u64::MAX, |body| body.saturating_add(head))
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a header has a JSON form")
    }

    /// Why this is not a store of this party for so many items.
    fn for_another(&self, party: Party, items: u64, batch: u64) -> Option<String> {
        if self.party != party {
            return Some(format!("it is the {}'s; the {}'s is needed", name(self.party), name(party)));
        }
        ((self.items, self.batch) != (items, batch)).then(|| {
            format!(
                "it was made for {} items in batches of {}, not for {items} in batches of {batch}",
                self.items, self.batch
            )
        })
    }

    /// Why this store is not the one for a request whose header would be `wanted`.
    fn mismatch(&self, wanted: &Header) -> Option<String> {
        let Header { wire, party, id, model, items, batch, steps, choice, sections } = wanted;
        let for_another = || self.for_another(*party, *items, *batch);
        Some(if self.id != *id {
            "it belongs to another pair of stores".into()
        } else if let Some(what) = for_another() {
            what
        } else if self.wire != *wire {
            format!("it was made for wire version {}, this program has {wire}", self.wire)
        } else if self.model != *model {
            format!("it was made for model '{}', not for '{model}'", self.model)
        } else if self.steps != *steps {
            format!("it was made for {} time steps, not for {steps}", self.steps)
        } else if self.choice.backend != choice.backend {
            format!("it was made with OT backend '{}', not with '{}'", self.choice.backend, choice.backend)
        } else if self.choice != *choice {
            "it was made with other options of planning (--optimize, --link, --fuse, --lanes)".into()
        } else if self.sections != *sections {
            "it was made for another plan: the description of the model differs".into()
        } else {
            return None;
        })
    }
}

/// An id as people see it.
pub fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn name(party: Party) -> &'static str {
    ["server", "client"][party.index()]
}

/// Tells the weights of one store's products from others; zeros for the client, who has none.
pub fn fingerprint(id: &[u8; 16], weights: Option<&Weights>) -> [u8; HASH] {
    let Some(weights) = weights else { return [0; HASH] };
    let mut hasher = blake3::Hasher::new_derive_key("sirnn 2026-11 weights of a store");
    hasher.update(id);
    for (name, tensor) in weights {
        for part in [name.len(), tensor.data.len()] {
            hasher.update(&(part as u64).to_le_bytes());
        }
        hasher.update(name.as_bytes());
        for value in &tensor.data {
            hasher.update(&value.to_le_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

/// The server's list of the stores of a folder that were used: a store that was copied before its use still says that it
/// is fresh, and so does its other half.
fn journal(store: &Path) -> PathBuf {
    file::folder(store).join(".used-stores")
}

/// Whether a journal has an id.
fn was_used(journal: &Path, id: &[u8; 16]) -> io::Result<bool> {
    match File::open(journal) {
        Ok(file) => {
            let id = hex(id);
            for line in BufReader::new(file).lines() {
                if line? == id {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// An error about a file, whose content is nothing to be shown as it is.
fn about<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> StoreError {
    |what| StoreError { path: path.into(), what: printable(&what.to_string()) }
}

/// Hashes what it writes.
struct Hashed {
    replacement: Replacement,
    hasher: blake3::Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.replacement.file().write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.replacement.file().flush()
    }
}

/// A store that is being made: sections are written to it, one batch after the other.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<Hashed>,
    bytes: u64,
}

impl Writer {
    /// Begins a store under another name. What is at `path` must be free, or a store that was used.
    ///
    /// # Errors
    /// Those of the file system, or there is something that should not be lost.
    pub fn create(path: &Path, header: &Header, fingerprint: [u8; HASH]) -> Result<Self, StoreError> {
        let fail = about::<io::Error>(path);
        free(path)?;
        let replacement = Replacement::create(path).map_err(&fail)?;
        let text = header.text();
        let mut fixed = [0; FIXED];
        fixed[..8].copy_from_slice(&MAGIC);
        fixed[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        fixed[12..16].copy_from_slice(&(text.len() as u32).to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&fixed);
        fixed[STATE] = FRESH;
        replacement.file().write_all(&fixed).map_err(&fail)?;
        let mut out = BufWriter::with_capacity(BUFFER, Hashed { replacement, hasher });
        out.write_all(&text).and_then(|()| out.write_all(&fingerprint)).map_err(&fail)?;
        Ok(Self { path: path.into(), out, bytes: header.file_bytes() })
    }

    /// Ends the store and gives it its name, all of it on the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn publish(self) -> Result<Published, StoreError> {
        let fail = about::<io::Error>(&self.path);
        let Hashed { replacement, hasher } = self.out.into_inner().map_err(|e| fail(e.into_error()))?;
        let mut file = replacement.file();
        file.write_all(hasher.finalize().as_bytes()).map_err(&fail)?;
        assert_eq!(file.metadata().map_err(&fail)?.len(), self.bytes, "sections have the planned length");
        free(&self.path)?;
        replacement.publish().map_err(&fail)?;
        Ok(Published { path: self.path.clone(), kept: false })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A store that is complete, and removed unless the peer's is complete too.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    kept: bool,
}

impl Published {
    /// The peer has the other half.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether a store may be put here.
fn free(path: &Path) -> Result<(), StoreError> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(about(path)(e)),
        Ok(_) => match peek(path) {
            Ok((_, true)) => Ok(()),
            Ok((_, false)) => Err(about(path)("there is a store that was not used yet; remove it if it is not wanted")),
            Err(_) => Err(about(path)("there is a file that is no store")),
        },
    }
}

/// The header of a store and whether it was used.
///
/// # Errors
/// It is no store of this version.
pub fn peek(path: &Path) -> Result<(Header, bool), StoreError> {
    // A pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(about(path))?.is_file() {
        return Err(about(path)("not a file"));
    }
    let (header, used, _) = read_header(&File::open(path).map_err(about(path))?).map_err(about(path))?;
    Ok((header, used))
}

/// Header, whether it was used, and the length of all before the body.
fn read_header(file: &File) -> Result<(Header, bool, u64), String> {
    const DAMAGED: &str = "it is damaged: ";
    let mut fixed = [0; FIXED];
    file.read_exact_at(&mut fixed, 0).map_err(|_| "it is no store of correlations".to_string())?;
    let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    if fixed[..8] != MAGIC {
        return Err("it is no store of correlations".into());
    }
    if number(8) != FORMAT {
        return Err(format!("it has version {} of the format, this program knows {FORMAT}", number(8)));
    }
    let used = match (fixed[STATE], number(12) as usize) {
        (_, len) if len > MAX_HEADER => return Err(format!("{DAMAGED}a header of {len} bytes")),
        (FRESH, _) => false,
        (USED, _) => true,
        (state, _) => return Err(format!("{DAMAGED}state {state}")),
    };
    let mut text = vec![0; number(12) as usize];
    file.read_exact_at(&mut text, FIXED as u64).map_err(|_| format!("{DAMAGED}the header is cut off"))?;
    let header: Header = serde_json::from_slice(&text).map_err(|e| format!("{DAMAGED}{e}"))?;
    if header.wire != WIRE_VERSION {
        return Err(format!("it was made for wire version {}, this program has {WIRE_VERSION}", header.wire));
    }
    Ok((header, used, (FIXED + text.len()) as u64))
}

/// A party's store, checked and locked. When it is dropped after its [begin](Store::begin), its content goes.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: Arc<File>,
    header: Header,
    /// Where the body begins.
    body: u64,
    begun: bool,
}

impl Store {
    /// Opens a store that was not used, and reads all of it once.
    ///
    /// # Errors
    /// It is none, damaged, used, or in use.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = about::<String>(path);
        peek(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(about(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(fail("it is in use".into())),
            Err(TryLockError::Error(e)) => return Err(about(path)(e)),
        }
        // Again, now that nobody else can change it.
        let (header, used, body) = read_header(&file).map_err(&fail)?;
        if used {
            // What a crash may have left.
            let _ = file.set_len(body);
            return Err(fail("it was already used".into()));
        }
        let len = file.metadata().map_err(about(path))?.len();
        if len != header.file_bytes() {
            return Err(fail(format!("it is damaged: {len} bytes, {} expected", header.file_bytes())));
        }
        if !intact(&file, len).map_err(about(path))? {
            return Err(fail("it is damaged: its content does not have its hash".into()));
        }
        Ok(Self { path: path.into(), file: Arc::new(file), header, body, begun: false })
    }

    /// Opens the server's store with an id: the file itself, or one in a folder.
    ///
    /// # Errors
    /// There is none, or as for [`Store::open`].
    pub fn find(path: &Path, id: &[u8; 16]) -> Result<Self, StoreError> {
        let files: Vec<PathBuf> = if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(about(path))?;
            entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect()
        } else {
            vec![path.into()]
        };
        let is_it = |file: &&PathBuf| peek(file).is_ok_and(|(h, _)| h.id == *id && h.party == Party::P0);
        match files.iter().find(is_it) {
            Some(file) if was_used(&journal(file), id).map_err(about(file))? => {
                Err(about(file)("it was already used: this is a copy"))
            }
            Some(file) => Self::open(file),
            None => Err(about(path)(format!("no store {} is here", hex(id)))),
        }
    }

    /// What it is for.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether it is a party's for a request of so many items, `batch` of them at the same time: what is known before a plan is.
    ///
    /// # Errors
    /// It was made for something else.
    pub fn fits(&self, party: Party, items: usize, batch: usize) -> Result<(), StoreError> {
        self.header.for_another(party, items as u64, batch as u64).map_or(Ok(()), |what| Err(about(&self.path)(what)))
    }

    /// Whether it is the one for a request whose store would have this header and fingerprint.
    ///
    /// # Errors
    /// It was made for something else.
    pub fn check(&self, wanted: &Header, fingerprint: [u8; HASH]) -> Result<(), StoreError> {
        if let Some(what) = self.header.mismatch(wanted) {
            return Err(about(&self.path)(what));
        }
        let mut found = [0; HASH];
        self.file.read_exact_at(&mut found, self.body).map_err(about(&self.path))?;
        if found != fingerprint {
            return Err(about(&self.path)("it was made with other weights"));
        }
        Ok(())
    }

    /// From here on the store is used, whatever happens.
    ///
    /// # Errors
    /// The disk cannot be told. Then nothing may be done with the store.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        let mark = || {
            self.file.write_all_at(&[USED], STATE as u64)?;
            self.file.sync_all()
        };
        mark().map_err(about(&self.path))?;
        if self.header.party == Party::P0 {
            let journal = journal(&self.path);
            let note = || {
                let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&journal)?;
                file.write_all(format!("{}\n", hex(&self.header.id)).as_bytes())?;
                file.sync_all()
            };
            note().map_err(about(&journal))?;
        }
        self.begun = true;
        Ok(())
    }

    /// What was made for batch `batch`, whose session has the id `id`.
    ///
    /// # Errors
    /// There is no such batch.
    pub fn section(&self, batch: usize, id: [u8; 16]) -> Result<Section, StoreError> {
        assert!(self.begun, "nothing of a store is used before it is marked");
        let [(full, bytes), (rest, last)] = self.header.layout().expect("checked when it was opened");
        let k = batch as u64;
        let len = match k {
            _ if k < full => bytes,
            _ if k < full + rest => last,
            _ => return Err(about(&self.path)(format!("it has no batch {batch}"))),
        };
        let at = self.body + HASH as u64 + k.min(full) * bytes;
        Ok(Section {
            session: ot::Session { party: self.header.party, id },
            part: Part { file: self.file.clone(), at, end: at + len },
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.begun {
            let _ = self.file.set_len(self.body);
        }
    }
}

/// Whether a file of `len` bytes has the hash at its end.
fn intact(file: &File, len: u64) -> io::Result<bool> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let (mut at, end) = (0, len - HASH as u64);
    while at < end {
        let n = (end - at).min(BUFFER as u64) as usize;
        file.read_exact_at(&mut buffer[..n], at)?;
        if at == 0 {
            buffer[STATE] = 0;
        }
        hasher.update(&buffer[..n]);
        at += n as u64;
    }
    let mut hash = [0; HASH];
    file.read_exact_at(&mut hash, end)?;
    Ok(hasher.finalize() == hash)
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min((self.end - self.at) as usize);
        let n = self.file.read_at(&mut out[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// What was made for one session.
pub struct Section {
    session: ot::Session,
    part: Part,
}

impl Section {
    /// The session that it was made for.
    pub fn id(&self) -> [u8; 16] {
        self.session.id
    }

    /// The products, and the streams of everything else, which are read as they are drawn.
    ///
    /// # Errors
    /// The file cannot be read, or is another plan's.
    pub fn open(mut self, plan: &Plan) -> Result<(Prepared, Streams), RunError> {
        let party = self.session.party;
        let share = |t: &LinearTask| LinearShare::read(party, t.op, t.width, t.n * t.trips, &mut self.part);
        let prepared = plan.linear.iter().map(share).collect::<Result<_, _>>()?;
        let (drawn, budget) = ([plan.drawn_offline()], CORRELATION_BUDGET as usize);
        let streams = Streams::stored(self.session, &plan.needs, &drawn, self.part, budget)?;
        Ok((prepared, streams))
    }
}

/// Writes a section: what was prepared, and all that is left in the streams.
///
/// # Errors
/// Those of the generator, or of what is written to.
pub fn write_section(plan: &Plan, prepared: &Prepared, streams: &mut Streams, to: &mut dyn Write) -> Result<(), Error> {
    prepared.iter().try_for_each(|share| share.write(to))?;
    streams.store(&plan.needs, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::choice::Objective;
    use crate::program::LinearForms;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sirnn-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn header(party: Party) -> Header {
        Header {
            wire: WIRE_VERSION,
            party,
            id: [7; 16],
            model: "m".into(),
            items: 5,
            batch: 4,
            steps: 8,
            choice: Choice {
                backend: "iknp".into(),
                objective: Objective::Bytes,
                fuse: true,
                linear: LinearForms::Cot,
                lanes: 2,
                batch: 2,
            },
            sections: [30, 20].map(|bytes| SectionHeader { plan: "p".into(), bytes }).into(),
        }
    }

    /// A store with sections that count.
    fn write(path: &Path, header: &Header) -> Result<Published, StoreError> {
        let mut writer = Writer::create(path, header, [3; HASH])?;
        writer.write_all(&(0..80).collect::<Vec<u8>>()).unwrap();
        writer.publish()
    }

    fn complaint(path: &Path) -> String {
        Store::open(path).unwrap_err().what
    }

    #[test]
    fn sections_come_back() {
        let path = folder("sections").join("a");
        let h = header(Party::P1);
        write(&path, &h).unwrap().keep();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), h.file_bytes());
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.header(), &h);
        store.check(&h, [3; HASH]).unwrap();
        store.begin().unwrap();
        for (k, range) in [0..30, 30..60, 60..80].into_iter().enumerate() {
            let mut bytes = Vec::new();
            store.section(k, [0; 16]).unwrap().part.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, range.collect::<Vec<u8>>());
        }
        assert!(store.section(3, [0; 16]).is_err());
    }

    #[test]
    fn a_store_is_used_once() {
        let folder = folder("once");
        let [path, crashed] = ["a", "b"].map(|name| folder.join(name));
        write(&path, &header(Party::P0)).unwrap().keep();
        let mut store = Store::open(&path).unwrap();
        assert_eq!(complaint(&path), "it is in use");
        assert!(!peek(&path).unwrap().1);
        store.begin().unwrap();
        assert!(peek(&path).unwrap().1);
        // As a crash leaves it: with the whole content.
        std::fs::copy(&path, &crashed).unwrap();
        drop(store);
        let left = std::fs::metadata(&path).unwrap().len();
        for path in [&path, &crashed] {
            assert_eq!(complaint(path), "it was already used");
            assert_eq!(std::fs::metadata(path).unwrap().len(), left, "only the header is left");
        }
        assert!(left < header(Party::P0).file_bytes() - 80);
        // It may make way for another one; that may not, and nothing else.
        write(&path, &header(Party::P0)).unwrap().keep();
        assert!(write(&path, &header(Party::P0)).is_err_and(|e| e.what.contains("not used yet")));
        std::fs::write(&crashed, "a diary").unwrap();
        assert!(write(&crashed, &header(Party::P0)).is_err_and(|e| e.what.contains("no store")));
        // The two files and the journal of used stores.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "nothing temporary is left");
    }

    #[test]
    fn what_is_not_finished_is_removed() {
        let folder = folder("unfinished");
        let path = folder.join("a");
        drop(Writer::create(&path, &header(Party::P0), [0; HASH]).unwrap());
        drop(write(&path, &header(Party::P0)).unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn damage_is_found() {
        let folder = folder("damage");
        let path = folder.join("a");
        write(&path, &header(Party::P0)).unwrap().keep();
        let good = std::fs::read(&path).unwrap();
        let damaged = folder.join("b");
        let complaint = |bytes: &[u8]| {
            std::fs::write(&damaged, bytes).unwrap();
            complaint(&damaged)
        };
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let what = complaint(&bytes);
            let expected = match at {
                0..8 => what.contains("no store"),
                8..12 => what.contains("version"),
                _ if at < FIXED + header(Party::P0).text().len() => !what.is_empty(),
                _ => what.contains("hash"),
            };
            assert!(expected, "byte {at}: {what}");
        }
        for len in 0..good.len() {
            let what = complaint(&good[..len]);
            assert!(what.contains("damaged") || len < FIXED && what.contains("no store"), "{len} bytes: {what}");
        }
        assert!(complaint(&[&good[..], b"x"].concat()).contains("bytes"));
        // Lengths that nobody has.
        let mut long = good.clone();
        long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(complaint(&long).contains("a header of 4294967295 bytes"));
        let change = |change: &dyn Fn(&mut Header)| {
            let mut h = header(Party::P0);
            change(&mut h);
            let text = h.text();
            let mut bytes = good[..FIXED].to_vec();
            bytes[12..16].copy_from_slice(&(text.len() as u32).to_le_bytes());
            complaint(&[&bytes[..], &text, &good[good.len() - 100..]].concat())
        };
        assert!(change(&|h| h.wire = 99).contains("wire version 99"));
        for what in [
            change(&|h| h.sections[0].bytes = u64::MAX),
            change(&|h| h.items = u64::MAX),
            change(&|h| h.choice.batch = 0),
            change(&|h| h.items = 1),
            change(&|h| h.sections.clear()),
        ] {
            assert!(what.contains("damaged"), "{what}");
        }
    }

    #[test]
    fn stores_are_found_by_id_and_say_what_they_are_for() {
        let folder = folder("find");
        for (name, party, id) in [("a", Party::P1, 7), ("b", Party::P0, 8), ("c", Party::P0, 7)] {
            write(&folder.join(name), &Header { id: [id; 16], ..header(party) }).unwrap().keep();
        }
        std::fs::write(folder.join("d"), "something else").unwrap();
        assert!(Store::find(&folder, &[9; 16]).is_err_and(|e| e.what.contains("no store 0909")));
        assert!(Store::find(&folder.join("b"), &[7; 16]).is_err());
        let store = Store::find(&folder, &[7; 16]).unwrap();
        assert_eq!(store.path, folder.join("c"));
        let h = header(Party::P0);
        assert!(store.check(&h, [4; HASH]).is_err_and(|e| e.what.contains("other weights")));
        let other = |change: &dyn Fn(&mut Header), part: &str| {
            let mut wanted = h.clone();
            change(&mut wanted);
            let what = store.check(&wanted, [3; HASH]).unwrap_err().what;
            assert!(what.contains(part), "'{part}' is not in: {what}");
        };
        other(&|h| h.party = Party::P1, "it is the server's");
        other(&|h| h.id[3] = 1, "another pair");
        other(&|h| h.model = "n".into(), "model 'm', not for 'n'");
        other(&|h| h.choice.backend = "ferret".into(), "'iknp', not with 'ferret'");
        assert!(store.fits(Party::P0, 5, 4).is_ok() && store.fits(Party::P0, 5, 5).is_err());
        other(&|h| h.steps = 7, "8 time steps, not for 7");
        other(&|h| h.items = 6, "5 items in batches of 4, not for 6");
        other(&|h| h.choice.fuse = false, "other options");
        other(&|h| h.choice.lanes = 1, "other options");
        other(&|h| h.sections[1].plan = "q".into(), "another plan");
    }
}
