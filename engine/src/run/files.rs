//! Files that are written completely or not at all, for their owner alone.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What new files may be read and written by: predictions, measurements and correlations are nobody else's.
// SECURITY: files hold what the protocol keeps from the peer.
pub const PRIVATE: u32 = 0o600;

/// A file under another name, which takes its own when all of it is there, and is removed otherwise.
#[derive(Debug)]
pub struct Replacement {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Replacement {
    /// Begins to replace what is at `target`, or nothing: a file of mode [`PRIVATE`] beside it. An existing file hands on its
    /// mode.
    ///
    /// # Errors
    /// Those of the file system; what is there is no file, but a folder, a link, a pipe or a device.
    pub fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or_else(|| io::Error::other("not a file name"))?;
        let mode = match std::fs::symlink_metadata(target) {
            Ok(found) if found.is_file() => found.permissions().mode() & 0o777,
            Ok(_) => return Err(io::Error::other("it is not a regular file and cannot be replaced by one")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => PRIVATE,
            Err(e) => return Err(e),
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let temporary = target.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&temporary)?;
        let this = Self { target: target.into(), temporary, file };
        this.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(this)
    }

    /// The file, to be written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, all of it on the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.target)?;
        let folder = self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After `publish` there is nothing under this name.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Writes a file.
///
/// # Errors
/// Those of [`Replacement`].
pub fn replace(target: &Path, content: &[u8]) -> io::Result<()> {
    let replacement = Replacement::create(target)?;
    replacement.file().write_all(content)?;
    replacement.publish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_private_complete_and_only_files_are_replaced() {
        let folder = std::env::temp_dir().join(format!("sirnn-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("predictions.csv");
        replace(&file, b"one").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"one".to_vec(), 0o600));
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"two".to_vec(), 0o640));
        let unfinished = Replacement::create(&file).unwrap();
        unfinished.file().write_all(b"thr").unwrap();
        drop(unfinished);
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        let link = folder.join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for bad in [folder.as_path(), &link, Path::new("/dev/null"), Path::new("..")] {
            assert!(replace(bad, b"x").is_err(), "{}", bad.display());
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
