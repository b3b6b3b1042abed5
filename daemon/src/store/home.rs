//! The home: its lock, its format, its folders.
//!
//! A home appears whole: `format.json` is written last. What is not a home, or one of a newer format, is refused
//! before anything in it changes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::disk::{self, FaultPoint, FaultPoints};
use super::error::OpenError;
use super::journal;

/// The format that this daemon writes.
const VERSION: u64 = 1;
/// The longest `format.json` that is read.
const MAX_FORMAT_BYTES: u64 = 64 << 10;
/// The journal begins with a state: an older daemon would take it for damaged.
const PRUNED_JOURNAL: &str = "pruned-journal";
/// The features that this daemon knows.
const KNOWN: [&str; 1] = [PRUNED_JOURNAL];
const FORMAT: &str = "format.json";
const LOCK: &str = "lock";
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Folders that hold what cannot be made again, or where something is kept for people.
const FOLDERS: [&str; 8] =
    ["blobs", "blobs/sha256", "blobs/sha512", "journal", "snapshot", "index", "ingest", "quarantine"];
/// Folders that may be removed while the daemon is stopped; they are made again.
const DISPENSABLE: [&str; 4] = ["snapshot", "index", "ingest", "quarantine"];
/// The trust folders are created together with the home only: a missing one later is not "no keys".
const TRUST_FOLDERS: [&str; 4] = ["trust", "trust/keys", "trust/roots", "trust/policies"];

/// Features by which a newer format may say what an older daemon must not do.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Format {
    version: u64,
    /// May be ignored.
    #[serde(default)]
    compatible: Vec<String>,
    /// Must be known to write.
    #[serde(default)]
    read_only_compatible: Vec<String>,
    /// Must be known to read.
    #[serde(default)]
    incompatible: Vec<String>,
}

/// A home that this process holds.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    /// Held until dropped.
    lock: File,
    /// Why it may only be read.
    pub(super) read_only: Option<String>,
    /// What was mended.
    pub(super) mended: Vec<String>,
}

impl Home {
    /// Takes hold of a home, and creates it where there is none yet.
    pub(super) fn hold(path: &Path) -> Result<Self, OpenError> {
        refuse_strangers(path)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(path)
            .map_err(OpenError::io("create the folder", path))?;
        let lock = lock(path)?;
        // Again, for somebody may have been faster.
        refuse_strangers(path)?;
        let mut home = Self { path: path.to_owned(), lock, read_only: None, mended: Vec::new() };
        match read_format(path)? {
            Some(format) => home.check(&format)?,
            None => home.create()?,
        }
        home.close_to_others()?;
        for name in DISPENSABLE {
            home.create_folder(name)?;
        }
        Ok(home)
    }

    /// Returns a path in the home.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn check(&mut self, format: &Format) -> Result<(), OpenError> {
        if format.version > VERSION {
            return Err(OpenError::Newer { home: self.path.clone(), found: format.version, known: VERSION });
        }
        let unknown = |features: &[String]| -> Vec<String> {
            let unknown: Vec<String> =
                features.iter().filter(|feature| !KNOWN.contains(&feature.as_str())).cloned().collect();
            shown(&unknown)
        };
        let features = unknown(&format.incompatible);
        if !features.is_empty() {
            return Err(OpenError::Features { home: self.path.clone(), features });
        }
        let features = unknown(&format.read_only_compatible).join(", ");
        if !features.is_empty() {
            self.read_only =
                Some(format!("the home uses features that this larderd can only read ({features}); use the newer one"));
        }
        Ok(())
    }

    fn create(&self) -> Result<(), OpenError> {
        for name in FOLDERS.iter().chain(&TRUST_FOLDERS) {
            self.create_folder(name)?;
        }
        for name in &TRUST_FOLDERS[1..] {
            let keep = self.join(name).join(".keep");
            match disk::write_new(&keep, b"", 0o644, FaultPoint::HomeFile) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(OpenError::io("create", &keep)(error));
                }
                _ => {}
            }
        }
        journal::create(&self.join("journal"))?;
        let format = self.join(FORMAT);
        let bytes = serde_json::to_vec_pretty(&Format { version: VERSION, ..Format::default() })
            .map_err(|error| OpenError::io("write", &format)(error.into()))?;
        disk::write_atomic(&format, &bytes, PRIVATE_FILE, FaultPoints::FORMAT).map_err(OpenError::io("write", &format))
    }

    /// Notes that the journal begins with a state, before it does.
    pub(super) fn note_pruned_journal(&self) -> io::Result<()> {
        let mut format = read_format(&self.path).map_err(io::Error::other)?.unwrap_or_default();
        if format.incompatible.iter().any(|feature| feature == PRUNED_JOURNAL) {
            return Ok(());
        }
        format.incompatible.push(PRUNED_JOURNAL.to_owned());
        let bytes = serde_json::to_vec_pretty(&format)?;
        disk::write_atomic(&self.join(FORMAT), &bytes, PRIVATE_FILE, FaultPoints::FORMAT)
    }

    fn create_folder(&self, name: &str) -> Result<(), OpenError> {
        let path = self.join(name);
        disk::create_folder(&path, PRIVATE_FOLDER, FaultPoint::HomeFolder)
            .map_err(OpenError::io("create the folder", &path))
    }

    /// Takes away what others may do in the home.
    fn close_to_others(&mut self) -> Result<(), OpenError> {
        let failed = || OpenError::io("look at", &self.path);
        let mode = fs::metadata(&self.path).map_err(failed())?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(PRIVATE_FOLDER)).map_err(failed())?;
            self.mended.push(format!("{} was open to others; its mode is 0700 now", self.path.display()));
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Closing would do, were there not children being started, which have the file open for an instant too.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Refuses a folder that is neither empty nor a home, nor what an interrupted creation leaves.
fn refuse_strangers(path: &Path) -> Result<(), OpenError> {
    let not_a_home = |why: String| OpenError::NotAHome { home: path.to_owned(), why };
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::io("list", path)(error)),
        Ok(entries) => entries,
    };
    if read_format(path)?.is_some() {
        return Ok(());
    }
    for entry in entries {
        let entry = entry.map_err(OpenError::io("list", path))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !is_ours(&name) {
            return Err(not_a_home(format!("it has no {FORMAT}, and holds {name:?}")));
        }
    }
    if journal::has_frames(&path.join("journal")).map_err(OpenError::io("read", &path.join("journal")))? {
        return Err(not_a_home(format!("{FORMAT} is missing, though there is a journal with records; put it back")));
    }
    Ok(())
}

/// Says whether a home may have a file or folder of this name before it is whole.
fn is_ours(name: &str) -> bool {
    let folder = |folders: &[&str]| folders.contains(&name);
    folder(&FOLDERS)
        || folder(&TRUST_FOLDERS)
        || matches!(name, LOCK | "config.toml" | "larder.sock" | "endpoint.token" | ".keep")
        || name.starts_with(disk::TEMPORARY_PREFIX)
        || name.starts_with("larderd.")
}

fn read_format(home: &Path) -> Result<Option<Format>, OpenError> {
    let path = home.join(FORMAT);
    let bytes = match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("look at", &path)(error)),
        Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_FORMAT_BYTES => Vec::new(),
        Ok(_) => fs::read(&path).map_err(OpenError::io("read", &path))?,
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| OpenError::NotAHome {
        home: home.to_owned(),
        why: format!("its {FORMAT} is not Larder's ({error})"),
    })
}

/// Takes the lock, of which the system lets go when the process ends.
fn lock(home: &Path) -> Result<File, OpenError> {
    let path = home.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE_FILE)
        .open(&path)
        .map_err(OpenError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Held { home: home.to_owned() }),
        Err(error) => Err(OpenError::io("lock", &path)(io::Error::from(error))),
    }
}

/// Names from a file, fit to be shown.
fn shown(names: &[String]) -> Vec<String> {
    names.iter().take(8).map(|name| name.chars().filter(|letter| !letter.is_control()).take(40).collect()).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage homes as disks and people do")]
mod tests {
    use super::*;

    fn put(home: &Path, json: &str) {
        fs::write(home.join(FORMAT), json).expect("format.json");
    }

    #[test]
    fn a_new_home_is_whole_and_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/home");
        let home = Home::hold(&path).expect("a home");
        for name in FOLDERS.iter().chain(&TRUST_FOLDERS) {
            let mode = fs::metadata(path.join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{name}");
        }
        assert!(path.join("trust/keys/.keep").exists());
        assert!(matches!(Home::hold(&path), Err(OpenError::Held { .. })));
        drop(home);
        // The trust folders belong to the creation; what can be made again is made again.
        fs::remove_dir(path.join("index")).expect("index");
        fs::remove_dir_all(path.join("trust")).expect("trust");
        let home = Home::hold(&path).expect("held again");
        assert!(path.join("index").exists() && !path.join("trust").exists());
        assert!(home.mended.is_empty());
    }

    #[test]
    fn strangers_and_newer_homes_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let listing = || {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .expect("a list")
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            names.sort();
            names
        };
        fs::write(folder.path().join("thesis.tex"), "x").expect("a file");
        let before = listing();
        let error = Home::hold(folder.path()).expect_err("a stranger's folder");
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(listing(), before);
        fs::write(folder.path().join(FORMAT), "{\"some\": \"other\"}").expect("a file");
        let error = Home::hold(folder.path()).expect_err("another program's file");
        assert!(error.to_string().contains(FORMAT), "{error}");
    }

    #[test]
    fn versions_and_features() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Home::hold(folder.path()).expect("a home"));
        put(folder.path(), "{\"version\": 999}");
        assert!(matches!(Home::hold(folder.path()), Err(OpenError::Newer { found: 999, .. })));
        put(folder.path(), "{\"version\": 1, \"incompatible\": [\"packs\"]}");
        assert!(matches!(Home::hold(folder.path()), Err(OpenError::Features { .. })));
        put(folder.path(), "{\"version\": 1, \"read_only_compatible\": [\"packs\"], \"compatible\": [\"y\"]}");
        assert!(Home::hold(folder.path()).expect("readable").read_only.is_some());
    }
}
