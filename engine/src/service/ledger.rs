//! How many values ring-LWE made with a model's weights, over all sessions, processes and clients: a file beside the model.
//!
//! What a client sees of the products is within a statistical distance of 2^-40 of what says nothing about the weights, summed up over
//! 2^36 values of the model ([`LOG_VALUES`]); at 2^42 it is 2^-37. So the server counts, and stops at a limit. A session's values are
//! written down, on the disk, before anything that depends on the weights leaves; what a session then does not use is lost.
//!
//! The file is one line of fixed length. It is locked while it is read and written. Whoever puts new weights under the same name, and
//! knows that they have nothing to do with the old ones, may remove it.

use super::ServiceError;
use sirnn_backends::forms::linear_rlwe::LOG_VALUES;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Name of the file beside a model.
pub const FILE: &str = "linear-values";
/// Values from which on a server warns.
pub const WARNING: u64 = 1 << LOG_VALUES;
/// Most values, unless it is said otherwise.
pub const LIMIT: u64 = 1 << 42;
/// What stands before the number.
const HEAD: &str = "values of linear from ring-LWE: ";
/// Digits of the number: any 64-bit number fits.
const DIGITS: usize = 20;

/// A file that counts.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    limit: u64,
}

impl Ledger {
    /// That of the model in a folder.
    pub fn beside(model: &Path, limit: u64) -> Self {
        Self { path: model.join(FILE), limit }
    }

    /// Writes down `values` more, and returns how many there are then.
    ///
    /// # Errors
    /// That would be more than the limit, or the file cannot be read, written or locked, or is damaged. Then nothing may be made.
    pub fn reserve(&self, values: u64) -> Result<u64, ServiceError> {
        let fail = |what: &dyn std::fmt::Display| {
            ServiceError::Limit(format!(
                "the ledger of values from ring-LWE ({}): {what}; --linear cot needs none",
                self.path.display()
            ))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path).map_err(|e| fail(&e))?;
        file.lock().map_err(|e| fail(&e))?;
        let before = read(&mut file).map_err(|e| fail(&e))?;
        let total = before.checked_add(values).filter(|&total| total <= self.limit).ok_or_else(|| {
            fail(&format!(
                "{before} values were made with these weights, {values} are wanted, {} are allowed",
                self.limit
            ))
        })?;
        let mut write = || {
            file.rewind()?;
            file.write_all(format!("{HEAD}{total:0DIGITS$}\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(|e| fail(&e))?;
        Ok(total)
    }
}

fn read(file: &mut File) -> Result<u64, String> {
    const LEN: usize = HEAD.len() + DIGITS + 1;
    let mut text = String::new();
    file.take(LEN as u64 + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.is_empty() {
        return Ok(0);
    }
    let number =
        text.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix('\n')).filter(|digits| digits.len() == DIGITS);
    number.and_then(|digits| digits.parse().ok()).ok_or_else(|| "it is damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sirnn-ledger-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn counts_up_to_its_limit() {
        let folder = folder("counts");
        let ledger = Ledger::beside(&folder, 100);
        assert_eq!(ledger.reserve(60).unwrap(), 60);
        let e = ledger.reserve(41).unwrap_err().to_string();
        assert!(e.contains("60 values") && e.contains("100 are allowed") && e.contains("--linear cot"), "{e}");
        assert_eq!(Ledger::beside(&folder, 100).reserve(40).unwrap(), 100);
        assert!(ledger.reserve(u64::MAX).is_err() && ledger.reserve(1).is_err());
        assert_eq!(ledger.reserve(0).unwrap(), 100);
    }

    /// As from several processes: every opening has a lock of its own.
    #[test]
    fn nothing_is_counted_twice_or_lost() {
        let ledger = Ledger::beside(&folder("threads"), LIMIT);
        let mut totals: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..25).map(|_| ledger.reserve(3).unwrap()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        totals.sort_unstable();
        assert_eq!(totals, (1..=100).map(|k| 3 * k).collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_found() {
        let folder = folder("damage");
        let ledger = Ledger::beside(&folder, LIMIT);
        ledger.reserve(5).unwrap();
        let path = folder.join(FILE);
        let good = std::fs::read(&path).unwrap();
        for bad in [&good[..good.len() - 1], &[&good[..], b"x"].concat(), b"\xff", b"a diary\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(ledger.reserve(1).is_err(), "{bad:?}");
            assert_eq!(std::fs::read(&path).unwrap(), bad, "it is left as it is");
        }
        assert!(Ledger::beside(&folder.join("none"), LIMIT).reserve(1).is_err());
    }
}
