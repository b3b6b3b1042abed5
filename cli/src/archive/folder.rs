//! A layout in a folder, read without following a link.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::{MAX_FILES, blob, shown};
use crate::error::words_of;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
}

/// How a folder below the root is opened: never through a link.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn words(error: Errno) -> String {
    words_of(&io::Error::from(error))
}

/// Opens a folder and lists the files of a layout in it.
///
/// # Errors
/// Fails in words where one of them is a link, or anything else that is no file.
pub(super) fn open(path: &Path) -> Result<(Folder, Vec<(String, u64)>), String> {
    let root = openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(words)?;
    let mut files = Vec::new();
    for name in ["index.json", "oci-layout"] {
        files.extend(length(&root, name, name)?.map(|length| (name.to_owned(), length)));
    }
    if let Some(blobs) = below(&root, "blobs", "blobs")? {
        for algorithm in ["sha256", "sha512"] {
            let within = format!("blobs/{algorithm}");
            if let Some(folder) = below(&blobs, algorithm, &within)? {
                list(&folder, &within, &mut files)?;
            }
        }
    }
    files.sort();
    Ok((Folder { root }, files))
}

fn list(folder: &OwnedFd, within: &str, files: &mut Vec<(String, u64)>) -> Result<(), String> {
    for entry in Dir::read_from(folder).map_err(words)? {
        let entry = entry.map_err(words)?;
        let Ok(file) = entry.file_name().to_str() else { continue };
        let name = format!("{within}/{file}");
        // What others leave there (unfinished files, mostly) is nobody's blob.
        if blob(&name).is_none() {
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
        files.extend(length(folder, file, &name)?.map(|length| (name, length)));
    }
    Ok(())
}

/// Returns a file's length; `None` where there is none.
fn length(folder: &OwnedFd, file: &str, name: &str) -> Result<Option<u64>, String> {
    let stat = match statat(folder, file, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(format!("{}: {}", shown(name), words(error))),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Some(u64::try_from(stat.st_size).unwrap_or_default())),
        FileType::Symlink => Err(format!("{} is a link, which is not followed", shown(name))),
        _ => Err(format!("{} is no regular file", shown(name))),
    }
}

/// Opens a folder in a folder; `None` where there is none.
fn below(folder: &OwnedFd, part: &str, name: &str) -> Result<Option<OwnedFd>, String> {
    match openat(folder, part, FOLDER, Mode::empty()) {
        Ok(below) => Ok(Some(below)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            Err(format!("{} is a link or no folder; links are not followed", shown(name)))
        }
        Err(error) => Err(format!("{}: {}", shown(name), words(error))),
    }
}

impl Folder {
    /// Opens a file that was listed with this length.
    pub(super) fn open_file(&self, name: &str, length: u64) -> Result<File, String> {
        let mut parts: Vec<&str> = name.split('/').collect();
        let file = parts.pop().unwrap_or_default();
        let mut within: Option<OwnedFd> = None;
        for part in parts {
            within = below(within.as_ref().unwrap_or(&self.root), part, name)?;
            if within.is_none() {
                return Err("it has gone meanwhile".to_owned());
            }
        }
        // A pipe that was put there meanwhile must not be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(within.as_ref().unwrap_or(&self.root), file, flags, Mode::empty()).map_err(words)?;
        let stat = fstat(&opened).map_err(words)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("it is no regular file any more".to_owned());
        }
        if u64::try_from(stat.st_size).ok() != Some(length) {
            return Err("its length has changed meanwhile".to_owned());
        }
        Ok(opened.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::Archive;
    use super::*;

    fn layout() -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let blob = "a".repeat(64);
        fs::create_dir_all(folder.path().join("blobs/sha256")).expect("folders");
        fs::write(folder.path().join("index.json"), "{}").expect("a file");
        fs::write(folder.path().join("oci-layout"), "{}").expect("a file");
        fs::write(folder.path().join("blobs/sha256").join(&blob), "content").expect("a file");
        (folder, format!("blobs/sha256/{blob}"))
    }

    #[test]
    fn the_files_of_a_layout_and_no_others() {
        let (folder, blob) = layout();
        fs::write(folder.path().join("blobs/sha256/.tmp-x"), "unfinished").expect("a file");
        fs::write(folder.path().join("readme"), "?").expect("a file");
        let archive = Archive::open(folder.path()).expect("a layout");
        let names: Vec<_> = archive.files().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [blob.as_str(), "index.json", "oci-layout"]);
        let mut part = archive.read(&blob, 3, 4).expect("there");
        assert_eq!(part.next(3).expect("read"), (b"ten".to_vec(), false));
        assert_eq!(part.next(3).expect("read"), (b"t".to_vec(), true));
        assert!(archive.read(&blob, 3, 5).is_err(), "behind its end");
        assert!(archive.read("readme", 0, 1).is_err(), "not listed");
    }

    #[test]
    fn links_and_pipes_are_no_files() {
        for name in ["index.json", "blobs/sha256", "blobs", "blob"] {
            let (folder, blob) = layout();
            let path = folder.path().join(if name == "blob" { &blob } else { name });
            let moved = folder.path().join("elsewhere");
            fs::rename(&path, &moved).expect("moved");
            symlink(&moved, &path).expect("a link");
            let error = open(folder.path()).expect_err("a link");
            assert!(error.contains("link"), "{name}: {error}");
        }
        let (folder, blob) = layout();
        let path = folder.path().join(&blob);
        fs::remove_file(&path).expect("removed");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        assert!(open(folder.path()).expect_err("a pipe").contains("no regular file"));
    }

    #[test]
    fn what_changes_meanwhile_is_noticed() {
        let (folder, blob) = layout();
        let archive = Archive::open(folder.path()).expect("a layout");
        fs::write(folder.path().join(&blob), "longer content").expect("a file");
        assert!(archive.read(&blob, 0, 7).expect_err("changed").contains("length"));
        fs::remove_file(folder.path().join(&blob)).expect("removed");
        symlink("/etc/passwd", folder.path().join(&blob)).expect("a link");
        assert!(archive.read(&blob, 0, 7).is_err(), "a link is not followed");
    }
}
