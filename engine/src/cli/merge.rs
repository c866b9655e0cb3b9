//! `sirnn merge`: the results of all shards as one.

use super::Failure;
use super::output::{check_writable, write_file};
use super::shard::{Record, Shard};
use clap::Args;
use serde_json::json;
use sirnn::model::results::{join_csv, join_npy};
use sirnn::run::file::folder;
use sirnn::service::local::print_line;
use std::path::{Path, PathBuf};

/// Join what the shards of a job wrote (infer --shard) to what one run would have written
///
/// All shards have to be there, of the same items and the same model, with the files that they wrote.
#[derive(Args)]
pub(super) struct Merge {
    /// The file that was named to the shards as --output; this is where the whole goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Number of shards (default: that of the only job with this name)
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How many shards the job of this name has, by the records that are there.
fn found(whole: &Path) -> Result<usize, Failure> {
    let within = |e: std::io::Error| format!("{}: {e}", folder(whole).display());
    let mut counts = Vec::new();
    for entry in std::fs::read_dir(folder(whole)).map_err(within)? {
        let path = entry.map_err(within)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = whole.file_stem().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(&*stem).and_then(|rest| rest.strip_prefix('.'));
        let mark = rest.and_then(|rest| rest.split('.').next()?.split_once("-of-"));
        let Some((index, count)) = mark.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?))) else { continue };
        if (Shard { index, count }).record(whole).file_name() == path.file_name() {
            counts.push(count);
        }
    }
    counts.sort_unstable();
    counts.dedup();
    match counts[..] {
        [one] => Ok(one),
        [] => Err(format!("{}: there are no shards of it", whole.display()).into()),
        _ => Err(format!("{}: there are jobs of {counts:?} shards: say --shards", whole.display()).into()),
    }
}

impl Merge {
    pub(super) fn run(self) -> Result<(), Failure> {
        let whole = &self.output;
        check_writable(whole)?;
        let count = self.shards.map_or_else(|| found(whole), Ok)?;
        let path = |index| Shard { index, count }.record(whole);
        let records: Vec<Option<Record>> = (0..count).map(|i| Record::read(&path(i))).collect::<Result<_, _>>()?;
        let missing: Vec<String> = (0..count).filter(|&i| records[i].is_none()).map(|i| i.to_string()).collect();
        if !missing.is_empty() {
            return Err(
                format!("{}: of {count} shards these are missing: {}", whole.display(), missing.join(", ")).into()
            );
        }
        let records: Vec<Record> = records.into_iter().flatten().collect();
        let first = &records[0];
        let mut next = 0;
        for (index, record) in records.iter().enumerate() {
            let of_job = |r: &Record| (r.shards, r.items, r.inputs.clone(), r.description.clone(), r.files.len());
            if of_job(record) != of_job(first) || (record.shard, record.first_item) != (index, next) {
                return Err(format!(
                    "{}: it is of other items or of another model than shard 0",
                    path(index).display()
                )
                .into());
            }
            next += record.count;
        }
        if next != first.items {
            return Err(format!("{}: the shards have {next} items of {}", whole.display(), first.items).into());
        }
        let parts: Vec<Vec<(String, Vec<u8>)>> =
            records.iter().map(|r| r.contents(folder(whole))).collect::<Result<_, _>>()?;
        let mut written = Vec::new();
        for (k, (name, _)) in parts[0].iter().enumerate() {
            let pieces: Vec<&[u8]> = parts.iter().map(|p| p[k].1.as_slice()).collect();
            let joined = if name.ends_with(".npy") { join_npy(&pieces)? } else { join_csv(&pieces)? };
            // The first has the name that was given.
            let to = if k == 0 { whole.clone() } else { whole.with_file_name(name) };
            write_file(&to, &joined)?;
            written.push(to);
        }
        if self.json {
            print_line(json!({ "shards": count, "items": next, "model": first.model, "files": written }));
        } else {
            print_line(format_args!("{next} items of {count} shards are in {}", whole.display()));
        }
        Ok(())
    }
}
