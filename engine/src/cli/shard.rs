//! Parts of a job: which items are whose, the file of each part, and the record that says that it is done.
//!
//! Shard `i` of `n` of `items` items computes those from `i items / n` to `(i + 1) items / n` and writes `NAME.00003-of-00010.csv`, then, when all of
//! it is on the disk, the record `NAME.00003-of-00010.csv.json`: of which items it is, of which model, and the digest of each file. So a
//! shard is there as a whole or not at all, and one that is there is not computed again.

use super::Failure;
use super::output::write_file;
use serde::{Deserialize, Serialize};
use sirnn::model::Description;
use sirnn::model::input::Sources;
use sirnn::run::file;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Most shards of a job: numbers have five digits.
const MAX_SHARDS: usize = 100_000;
/// Bytes of a record.
const MAX_RECORD: u64 = 1 << 20;
/// Bytes of a file of results.
pub(super) const MAX_RESULTS: u64 = 1 << 36;

/// One of the parts of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) count: usize,
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// The part that a scheduler gave this process: its number, and how many there are if the scheduler says.
fn scheduled(variable: &dyn Fn(&str) -> Option<String>) -> Result<(usize, Option<usize>), String> {
    let value = |name: &str| -> Result<Option<usize>, String> {
        variable(name).map(|v| number(&v).ok_or(format!("{name} is '{v}', not a number"))).transpose()
    };
    // Kubernetes numbers from 0 and does not say how many there are.
    if let Some(index) = value("JOB_COMPLETION_INDEX")? {
        return Ok((index, value("JOB_COMPLETIONS")?));
    }
    if let Some(id) = value("SLURM_ARRAY_TASK_ID")? {
        let (first, step) = (value("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0), value("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1));
        let index = id.checked_sub(first).filter(|n| step > 0 && n.is_multiple_of(step)).map(|n| n / step);
        let index = index.ok_or_else(|| format!("task {id} is none of those from {first} in steps of {step}"))?;
        return Ok((index, value("SLURM_ARRAY_TASK_COUNT")?));
    }
    Err("neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID is set".into())
}

fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let (index, count) = match text.split_once('/') {
        Some(("auto", n)) => (scheduled(variable)?.0, number(n)),
        Some((i, n)) => (number(i).ok_or_else(|| format!("'{i}' is no number"))?, number(n)),
        None if text == "auto" => {
            let (index, count) = scheduled(variable)?;
            (index, Some(count.ok_or("the scheduler does not say how many shards there are: say auto/N")?))
        }
        None => return Err("I/N, auto/N or auto".into()),
    };
    match count {
        Some(count @ 1..=MAX_SHARDS) if index < count => Ok(Shard { index, count }),
        Some(count @ 1..=MAX_SHARDS) => Err(format!("shard {index} of {count}: they are numbered from 0")),
        _ => Err(format!("a number of shards from 1 to {MAX_SHARDS} is expected behind the /")),
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `I/N`, or what a scheduler says: `auto`, `auto/N`.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, &|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    }
}

impl Shard {
    /// Its items; at least one.
    pub(super) fn items(self, all: usize) -> Result<Range<usize>, Failure> {
        if all < self.count {
            return Err(format!("{} shards of {all} items: some would have none", self.count).into());
        }
        Ok(self.index * all / self.count..(self.index + 1) * all / self.count)
    }

    /// What stands in its files' names.
    fn mark(self) -> String {
        format!("{:05}-of-{:05}", self.index, self.count)
    }

    /// Its file of a job's results.
    pub(super) fn output(self, whole: &Path) -> PathBuf {
        let mut name = OsString::from(whole.file_stem().unwrap_or_default());
        name.push(format!(".{}", self.mark()));
        if let Some(extension) = whole.extension() {
            name.push(".");
            name.push(extension);
        }
        whole.with_file_name(name)
    }

    /// Its record.
    pub(super) fn record(self, whole: &Path) -> PathBuf {
        let mut name = self.output(whole).into_os_string();
        name.push(".json");
        name.into()
    }

    /// The name that one of its files has in the whole.
    fn whole_name(self, part: &str) -> String {
        part.replacen(&format!(".{}", self.mark()), "", 1)
    }
}

/// A shard that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) shard: usize,
    pub(super) shards: usize,
    /// Of the job.
    pub(super) items: usize,
    /// Of the shard: number of the first, and how many.
    pub(super) first_item: usize,
    pub(super) count: usize,
    /// Digest of the job's input files.
    pub(super) inputs: String,
    /// Name and digest of the description of the model that computed it.
    pub(super) model: String,
    pub(super) description: String,
    /// Its files, beside the record, the one that was named first.
    pub(super) files: Vec<Content>,
}

/// A file and what it contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    name: String,
    bytes: u64,
    blake3: String,
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Digest of the files that items are read from.
pub(super) fn digest_of(sources: &Sources) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    for path in sources.all_files()? {
        let part = file::read(&path, MAX_RESULTS).map_err(|e| format!("{}: {e}", path.display()))?;
        hasher.update(&(part.len() as u64).to_le_bytes()).update(&part);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

impl Record {
    pub(super) fn new(
        shard: Shard,
        all: usize,
        items: Range<usize>,
        inputs: String,
        description: &Description,
    ) -> Self {
        Self {
            shard: shard.index,
            shards: shard.count,
            items: all,
            first_item: items.start,
            count: items.len(),
            inputs,
            model: description.name.clone(),
            description: digest(description.to_toml().as_bytes()),
            files: Vec::new(),
        }
    }

    /// Writes a shard: its files, then its record.
    pub(super) fn write(mut self, whole: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<(), Failure> {
        for (path, bytes) in files {
            write_file(path, bytes)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.files.push(Content { name, bytes: bytes.len() as u64, blake3: digest(bytes) });
        }
        let text = serde_json::to_string_pretty(&self)? + "\n";
        write_file(&self.of().record(whole), text.as_bytes())
    }

    fn of(&self) -> Shard {
        Shard { index: self.shard, count: self.shards }
    }

    /// The record of a shard, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = file::read(path, MAX_RECORD).map_err(|e| wrong(&e))?;
        let record: Self =
            serde_json::from_slice(&bytes).map_err(|e| wrong(&format_args!("no record of a shard: {e}")))?;
        // The names are those of files beside the record, and of no others.
        let plain = |c: &Content| Path::new(&c.name).file_name().is_some_and(|n| n == c.name.as_str());
        if record.files.is_empty() || !record.files.iter().all(plain) {
            return Err(wrong(&"no record of a shard: its files").into());
        }
        Ok(Some(record))
    }

    /// The files of a shard, as they were written: the name that each has in the whole, and its content.
    pub(super) fn contents(&self, folder: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let read = |content: &Content| {
            let path = folder.join(&content.name);
            let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
            let bytes = file::read(&path, MAX_RESULTS).map_err(|e| wrong(&e))?;
            if digest(&bytes) != content.blake3 {
                return Err(wrong(&"it is not what the shard wrote; remove it, and let the shard run again").into());
            }
            Ok((self.of().whole_name(&content.name), bytes))
        };
        self.files.iter().map(read).collect()
    }

    /// Whether it says that this shard of these inputs is done, and its files are there.
    pub(super) fn is_done(&self, shard: Shard, inputs: &str, folder: &Path) -> bool {
        self.of() == shard && self.inputs == inputs && self.contents(folder).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_said_or_scheduled() {
        let with = |text: &str, set: &[(&str, &str)]| {
            parse(text, &|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string()))
        };
        let shard = |index, count| Ok(Shard { index, count });
        assert_eq!(with("3/10", &[]), shard(3, 10));
        assert_eq!(with("auto/10", &[("JOB_COMPLETION_INDEX", "9")]), shard(9, 10));
        assert_eq!(with("auto", &[("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "4")]), shard(2, 4));
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "5"),
        ];
        assert_eq!(with("auto", &slurm), shard(3, 5));
        for (text, set) in [
            ("10/10", &[][..]),
            ("x/3", &[]),
            ("1/0", &[]),
            ("1/100001", &[]),
            ("3", &[]),
            ("auto", &[]),
            ("auto", &[("JOB_COMPLETION_INDEX", "1")]),
            ("auto/2", &[("JOB_COMPLETION_INDEX", "2")]),
            ("auto", &[("SLURM_ARRAY_TASK_ID", "x")]),
        ] {
            assert!(with(text, set).is_err(), "{text} {set:?}");
        }
    }

    #[test]
    fn items_and_names() {
        let all: Vec<usize> = (0..7).flat_map(|index| Shard { index, count: 7 }.items(30).unwrap()).collect();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
        assert!(Shard { index: 0, count: 7 }.items(6).is_err());
        let shard = Shard { index: 3, count: 10 };
        let whole = Path::new("a/b.c.npy");
        assert_eq!(shard.output(whole), Path::new("a/b.c.00003-of-00010.npy"));
        assert_eq!(shard.record(whole), Path::new("a/b.c.00003-of-00010.npy.json"));
        assert_eq!(shard.whole_name("b.c.00003-of-00010.y.npy"), "b.c.y.npy");
    }
}
