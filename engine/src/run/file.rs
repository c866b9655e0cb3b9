//! Files that are written as a whole or not at all, and inputs that end.

use rustix::fs::{AtFlags, CWD, linkat};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of a file that was not there before: predictions, measurements and correlations are nobody else's.
// SECURITY: files hold what the protocol keeps from the peer.
const PRIVATE: u32 = 0o600;

/// The files that this process has open, by number.
const OPEN_FILES: &str = "/proc/self/fd";

/// Where something is to be written.
enum Target {
    Standard,
    /// A file, new or to be replaced; the links to it are followed.
    File(PathBuf),
    /// Something that must not be replaced: a device, a pipe, or a file with several names.
    Through(PathBuf),
}

fn other(what: &str) -> io::Error {
    io::Error::other(what.to_string())
}

fn target(path: &Path) -> io::Result<Target> {
    if path == Path::new("-") {
        return Ok(Target::Standard);
    }
    let path = match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_symlink() => {
            std::fs::canonicalize(path).map_err(|e| other(&format!("a link whose target cannot be written: {e}")))?
        }
        _ => path.into(),
    };
    match std::fs::metadata(&path) {
        Ok(m) if m.is_dir() => Err(other("is a folder, not a file")),
        Ok(m) if m.file_type().is_socket() => Err(other("is a socket")),
        Ok(m) if m.is_file() && m.nlink() == 1 => Ok(Target::File(path)),
        Ok(_) => Ok(Target::Through(path)),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let folder = folder(&path);
            match std::fs::metadata(folder) {
                Ok(m) if m.is_dir() && path.file_name().is_some() => Ok(Target::File(path)),
                Ok(m) if m.is_dir() => Err(other("not the name of a file")),
                Ok(_) => Err(other(&format!("{} is not a folder", folder.display()))),
                Err(e) => Err(other(&format!("the folder {}: {e}", folder.display()))),
            }
        }
        Err(e) => Err(e),
    }
}

/// The folder that a file is in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Fails early if something could not be written later.
///
/// # Errors
/// Why it could not.
pub fn check(path: &Path) -> io::Result<()> {
    target(path).map(drop)
}

/// Writes a file as a whole or not at all; its mode stays, a new one is its owner's alone. `-` is the standard output.
/// Links are followed; devices, pipes and files with several names are written to, not replaced.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    match target(path)? {
        Target::Standard => {
            let mut out = io::stdout().lock();
            out.write_all(content).and_then(|()| out.flush())
        }
        Target::Through(path) => {
            // A pipe that nobody reads would wait for ever.
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            let is_pipe = std::fs::metadata(&path)?.file_type().is_fifo();
            if is_pipe {
                let opened = OpenOptions::new().write(true).custom_flags(nonblocking).open(&path);
                opened.map_err(|_| other("a pipe that nobody reads"))?;
            }
            let mut file = OpenOptions::new().write(true).truncate(!is_pipe).open(&path)?;
            file.write_all(content)
        }
        Target::File(path) => {
            let replacement = Replacement::create(&path)?;
            replacement.file().write_all(content)?;
            replacement.publish()
        }
    }
}

/// A file that takes its name when all of it is there, and is gone otherwise, also when the process is killed: until then it has no
/// name, or, where the file system has no such files, another one.
#[derive(Debug)]
pub struct Replacement {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    named: bool,
}

impl Replacement {
    /// Begins to replace the file at `target`, or nothing: a file beside it, of its mode, or its owner's alone.
    ///
    /// # Errors
    /// Those of the file system; what is there is no file, but a folder, a link, a pipe or a device.
    pub fn create(target: &Path) -> io::Result<Self> {
        let mode = match std::fs::symlink_metadata(target) {
            Ok(found) if found.is_file() => found.permissions().mode() & 0o7777,
            Ok(_) => return Err(other("it is not a regular file and cannot be replaced by one")),
            Err(e) if e.kind() == ErrorKind::NotFound => PRIVATE,
            Err(e) => return Err(e),
        };
        let mut name = OsString::from(".");
        name.push(target.file_name().ok_or_else(|| other("not the name of a file"))?);
        name.push(format!(".{}", std::process::id()));
        let temporary = target.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).mode(PRIVATE);
        // Such a file gets a name by way of /proc.
        let unnamed = Path::new(OPEN_FILES)
            .exists()
            .then(|| options.clone().custom_flags(rustix::fs::OFlags::TMPFILE.bits() as i32).open(folder(target)).ok());
        let (file, named) = match unnamed.flatten() {
            Some(file) => (file, false),
            None => (options.create_new(true).open(&temporary)?, true),
        };
        let this = Self { target: target.into(), temporary, file, named };
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
    pub fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if !self.named {
            let open = Path::new(OPEN_FILES).join(self.file.as_raw_fd().to_string());
            linkat(CWD, &open, CWD, &self.temporary, AtFlags::SYMLINK_FOLLOW)?;
            self.named = true;
        }
        std::fs::rename(&self.temporary, &self.target)?;
        File::open(folder(&self.target))?.sync_all()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After `publish` there is nothing under this name.
        if self.named {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Fails early if something could not be read later.
///
/// # Errors
/// Why it could not.
pub fn check_readable(path: &Path) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(other("not a file"));
    }
    File::open(path).map(drop)
}

/// Reads a file of at most `limit` bytes. Devices and pipes, which may never end, are refused.
///
/// # Errors
/// Those of the file system, or it is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(other("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(other(&format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_there_decides() {
        let folder = std::env::temp_dir().join(format!("sirnn-file-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let [file, link, twin, dangling] = ["file", "link", "twin", "dangling"].map(|name| folder.join(name));
        write(&file, b"1").unwrap();
        assert_eq!(mode(&file), 0o600);
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let unfinished = Replacement::create(&file).unwrap();
        unfinished.file().write_all(b"x").unwrap();
        drop(unfinished);
        assert_eq!(std::fs::read(&file).unwrap(), b"1");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for bad in [folder.as_path(), &link, Path::new("/dev/null")] {
            assert!(Replacement::create(bad).is_err(), "{}", bad.display());
        }
        write(&link, b"2").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"2".to_vec(), 0o640));
        std::fs::hard_link(&file, &twin).unwrap();
        write(&file, b"3").unwrap();
        assert_eq!(std::fs::read(&twin).unwrap(), b"3");
        write(Path::new("/dev/null"), b"4").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let pipe = folder.join("pipe");
        // Without a process of its own: a child holds the locks of other tests until it is another program.
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(write(&pipe, b"5").is_err());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        while write(&pipe, b"6").is_err() {
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap(), b"6");
        std::os::unix::fs::symlink(folder.join("nothing"), &dangling).unwrap();
        for bad in [&dangling, &folder, &folder.join("no/such"), &file.join("x")] {
            assert!(check(bad).is_err() && write(bad, b"7").is_err(), "{}", bad.display());
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 5, "nothing temporary is left");
        for endless in [Path::new("/dev/zero"), &pipe] {
            assert!(read(endless, 10).unwrap_err().to_string().contains("not a file"));
        }
        assert!(read(&file, 0).is_err());
        assert_eq!(read(&file, 1).unwrap(), b"3");
    }
}
