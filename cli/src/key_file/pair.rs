//! Key files on disk: several at once, whole or not at all.
//!
//! Each is written beside its place and synced; only when all are there do they take their names. What had a name before
//! keeps it until then, and gets it back where a later file fails.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// What happens to files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// They stay, and nothing is written.
    Stay,
    /// They are overwritten.
    Go,
}

/// A file to be written.
#[derive(Clone, Copy)]
pub(crate) struct NewFile<'a> {
    /// Its name.
    pub(crate) path: &'a Path,
    /// What goes into it.
    pub(crate) bytes: &'a [u8],
    /// Its permissions.
    pub(crate) mode: u32,
}

/// Writes all files, or none; the error comes with the path that it is about.
///
/// # Errors
/// Fails where a file cannot be written, or is there and stays: `AlreadyExists`.
pub(crate) fn write(files: &[NewFile<'_>], existing: Existing) -> Result<(), (PathBuf, io::Error)> {
    let about = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let mut beside = Vec::new();
    for file in files {
        beside.push(Beside::write(file).map_err(about(file.path))?);
    }
    for at in 0..beside.len() {
        if let Err(error) = beside[at].place(existing) {
            let path = beside[at].path.clone();
            for placed in beside[..at].iter_mut().rev() {
                placed.take_back();
            }
            return Err((path, error));
        }
    }
    for file in files {
        sync_folder(file.path).map_err(about(file.path))?;
    }
    Ok(())
}

/// How a file took its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    No,
    /// Nobody had it.
    New,
    /// It changed places with the file that had it, which is beside now.
    Exchanged,
}

/// A file beside the place where it belongs; what is beside when this is dropped is removed.
struct Beside {
    temporary: PathBuf,
    path: PathBuf,
    placed: Placed,
}

impl Beside {
    fn write(file: &NewFile<'_>) -> io::Result<Self> {
        let name = file.path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}", u64::from_be_bytes(random)));
        let temporary = file.path.with_file_name(hidden);
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(file.mode).open(&temporary)?;
        let beside = Self { temporary, path: file.path.to_owned(), placed: Placed::No };
        opened.write_all(file.bytes)?;
        opened.sync_all()?;
        Ok(beside)
    }

    fn place(&mut self, existing: Existing) -> io::Result<()> {
        match renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.placed = Placed::New;
                return Ok(());
            }
            Err(rustix::io::Errno::EXIST) if existing == Existing::Go => {}
            // Not every file system can; a second name for the file takes no other's place either.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::hard_link(&self.temporary, &self.path)?;
                self.placed = Placed::New;
                return fs::remove_file(&self.temporary);
            }
            Err(error) => return Err(error.into()),
        }
        if fs::symlink_metadata(&self.path)?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::EXCHANGE)?;
        self.placed = Placed::Exchanged;
        Ok(())
    }

    fn take_back(&mut self) {
        // Whoever cannot undo it either is told of the first error, which is the cause.
        let _ = match self.placed {
            Placed::No => Ok(()),
            Placed::New => fs::rename(&self.path, &self.temporary),
            Placed::Exchanged => {
                renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::EXCHANGE).map_err(Into::into)
            }
        };
        self.placed = Placed::No;
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.placed != Placed::New {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files<'a>(paths: &'a [PathBuf; 2], text: &'a str) -> [NewFile<'a>; 2] {
        [(0, 0o600), (1, 0o644)].map(|(at, mode)| NewFile { path: &paths[at], bytes: text.as_bytes(), mode })
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn both_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.key", "a.pub"].map(|name| folder.path().join(name));
        write(&files(&paths, "first"), Existing::Stay).expect("a pair");
        assert_eq!(names(folder.path()), ["a.key", "a.pub"]);
        assert_eq!(fs::metadata(&paths[0]).expect("metadata").permissions().mode() & 0o077, 0);
        for taken in ["a.key", "b.pub"] {
            fs::write(folder.path().join("b.pub"), "there").expect("a file");
            let paths =
                [folder.path().join(if taken == "a.key" { "a.key" } else { "b.key" }), folder.path().join("b.pub")];
            let (path, error) = write(&files(&paths, "second"), Existing::Stay).expect_err("one is there");
            assert_eq!((path, error.kind()), (folder.path().join(taken), io::ErrorKind::AlreadyExists));
            assert_eq!(names(folder.path()), ["a.key", "a.pub", "b.pub"], "nothing new, and nothing beside");
        }
        assert_eq!(fs::read_to_string(&paths[0]).expect("a key"), "first");
    }

    #[test]
    fn overwritten_with_consent_and_brought_back_where_it_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.key", "a.pub"].map(|name| folder.path().join(name));
        write(&files(&paths, "first"), Existing::Go).expect("a pair");
        write(&files(&paths, "second"), Existing::Go).expect("a pair");
        assert_eq!(fs::read_to_string(&paths[1]).expect("a key"), "second");
        assert_eq!(names(folder.path()), ["a.key", "a.pub"]);
        let with_folder = [paths[0].clone(), folder.path().join("folder")];
        fs::create_dir(&with_folder[1]).expect("a folder");
        let (path, _) = write(&files(&with_folder, "third"), Existing::Go).expect_err("a folder is no key");
        assert_eq!(path, with_folder[1]);
        assert_eq!(fs::read_to_string(&paths[0]).expect("the key"), "second", "the old one is back");
        assert_eq!(names(folder.path()), ["a.key", "a.pub", "folder"]);
        let nowhere = [paths[0].clone(), folder.path().join("none/b.pub")];
        write(&files(&nowhere, "fourth"), Existing::Go).expect_err("no such folder");
        assert_eq!(fs::read_to_string(&paths[0]).expect("the key"), "second");
        assert_eq!(names(folder.path()), ["a.key", "a.pub", "folder"]);
    }
}
