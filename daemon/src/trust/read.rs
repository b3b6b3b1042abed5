//! Reads the trust folder: bounded in every direction, and trusting nothing that others may write.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use larder_core::policy::{Fault, Reading, Rules, TrustFiles, TrustSet};
use rustix::fs::{OFlags, StatVfsMountFlags};

/// The folders in the trust folder, itself first (where only `deny.yaml` is read).
pub(super) const FOLDERS: [&str; 4] = ["", "keys", "policies", "roots"];
/// The only file that is read in the trust folder itself.
pub(super) const DENY: &str = "deny.yaml";
/// What faults of the trust folder itself are about.
const ITSELF: &str = ".";
/// The greatest length of a file.
pub(super) const MAX_FILE_BYTES: u64 = 256 << 10;
/// How many files are read.
pub(super) const MAX_FILES: usize = 4096;
/// How many bytes are read in all.
const MAX_TOTAL_BYTES: usize = 64 << 20;
/// How many entries of one folder are looked at, whatever their names.
const MAX_ENTRIES: usize = 65_536;
/// How often a folder that changes while it is read is read again.
const MAX_ATTEMPTS: usize = 5;
/// Permission for others to write.
const WORLD_WRITABLE: u32 = 0o002;

/// What lies in the trust folder, and what it reads as.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The files that could be read, those that do not parse included.
    pub files: TrustFiles,
    /// What keeps files from being read: ownership, size, links that lead nowhere.
    pub unread: Vec<Fault>,
    /// The folders that are not there or cannot be listed.
    pub missing: Vec<MissingFolder>,
    /// Names that were probably meant to be read.
    pub overlooked: Vec<(String, String)>,
    /// What the files read as. A key whose `.yaml` could not be read is left out.
    pub reading: Arc<Reading>,
}

/// A folder that is missing or unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFolder {
    /// Its name in the trust folder; `.` for the trust folder itself.
    pub folder: &'static str,
    /// Nothing has its name; otherwise something is there that is no readable folder, which nothing excuses.
    pub absent: bool,
    /// What is wrong.
    pub message: String,
}

impl Contents {
    /// Reads the folder. Never fails: what is wrong is part of the result. Blocking. Files equal to `previous` are not parsed again.
    pub(super) fn read(folder: &Path, rules: Rules, previous: Option<&Self>) -> Self {
        let scan = scan(folder);
        if let Some(previous) = previous.filter(|previous| previous.is(&scan)) {
            return Self { overlooked: scan.overlooked, ..previous.clone() };
        }
        let reading = Arc::new(TrustSet::read_under(&scan.readable(), rules));
        let Scan { files, unread, missing, overlooked } = scan;
        Self { files, unread, missing, overlooked, reading }
    }

    /// Reads a folder that nobody watches. Blocking.
    pub fn of(folder: &Path) -> Self {
        Self::read(folder, Rules::default(), None)
    }

    /// Makes the contents of a folder that could not be read at all.
    pub(super) fn unreadable(message: &str) -> Self {
        let missing = vec![MissingFolder { folder: ITSELF, absent: false, message: message.into() }];
        let reading = Arc::new(Reading { set: Arc::default(), faults: Vec::new(), warnings: Vec::new() });
        Self { files: TrustFiles::default(), unread: Vec::new(), missing, overlooked: Vec::new(), reading }
    }

    fn is(&self, scan: &Scan) -> bool {
        self.files == scan.files && self.unread == scan.unread && self.missing == scan.missing
    }

    /// Says whether two readings found the same.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.files == other.files && self.unread == other.unread && self.missing == other.missing
    }

    /// Returns every fault: of reading, then of parsing.
    pub fn faults(&self) -> Vec<Fault> {
        self.unread.iter().chain(&self.reading.faults).cloned().collect()
    }

    /// Says whether anything is at fault.
    pub fn is_faulty(&self) -> bool {
        !self.unread.is_empty() || !self.reading.faults.is_empty()
    }

    /// Returns the missing folders that matter: the trust folder itself, whatever is there and no readable folder, and every folder
    /// from which the last settled set had a file.
    pub(super) fn unexcused(&self, in_force: Option<&TrustFiles>) -> Vec<Fault> {
        let had_files =
            |folder: &str| in_force.is_some_and(|files| files.0.keys().any(|path| folder_of(path) == folder));
        self.missing
            .iter()
            .filter(|missing| !missing.absent || missing.folder == ITSELF || had_files(missing.folder))
            .map(|missing| Fault { path: missing.folder.into(), message: missing.message.clone() })
            .collect()
    }
}

/// Returns the path of one of the folders; joining an empty name would add a slash, which follows links.
pub(super) fn path_of(root: &Path, folder: &str) -> PathBuf {
    if folder.is_empty() { root.to_owned() } else { root.join(folder) }
}

fn folder_of(path: &str) -> &str {
    path.split_once('/').map_or("", |(folder, _)| folder)
}

/// What lies in the folder, not yet parsed.
#[derive(Debug, Default)]
struct Scan {
    files: TrustFiles,
    unread: Vec<Fault>,
    missing: Vec<MissingFolder>,
    overlooked: Vec<(String, String)>,
}

impl Scan {
    /// Returns the files without the keys and roots whose `.yaml` is there but could not be read: it may confine or revoke
    /// the key, or say that the root is old.
    fn readable(&self) -> TrustFiles {
        let mut files = self.files.clone();
        for fault in &self.unread {
            if let Some(name) = fault.path.strip_suffix(".yaml") {
                files.0.remove(&format!("{name}.pub"));
                files.0.remove(&format!("{name}.json"));
            }
        }
        files
    }
}

/// Reads everything, and again where something changed meanwhile, so that no mixture of two states is taken for one.
fn scan(root: &Path) -> Scan {
    let mut survey = Survey::of(root);
    let mut scan = Scan::default();
    for _ in 0..MAX_ATTEMPTS {
        scan = take(root, &survey);
        let after = Survey::of(root);
        if after == survey {
            return scan;
        }
        survey = after;
    }
    scan.unread.push(Fault { path: ITSELF.into(), message: "keeps changing while it is read".into() });
    scan
}

/// What tells one version of a file or folder from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A listing of the folder; links are followed for the stamps.
#[derive(Debug, Default, PartialEq, Eq)]
struct Survey {
    folders: Vec<(u64, u64)>,
    /// By path relative to the folder.
    files: BTreeMap<String, Option<Stamp>>,
    faults: Vec<Fault>,
    missing: Vec<MissingFolder>,
    overlooked: Vec<(String, String)>,
}

impl Survey {
    fn of(root: &Path) -> Self {
        let mut survey = Self::default();
        for folder in FOLDERS {
            survey.list(root, folder);
            if survey.missing.iter().any(|missing| missing.folder == ITSELF) {
                break;
            }
        }
        survey
    }

    fn list(&mut self, root: &Path, folder: &'static str) {
        let path = path_of(root, folder);
        let shown = if folder.is_empty() { ITSELF } else { folder };
        let entries = match open_folder(&path) {
            Ok((metadata, entries)) => {
                if let Some(message) = others_may_write(&metadata, &path) {
                    self.faults.push(Fault { path: shown.into(), message });
                }
                self.folders.push((metadata.dev(), metadata.ino()));
                entries
            }
            Err((absent, message)) => {
                let message = format!("{} {message}", path.display());
                self.missing.push(MissingFolder { folder: shown, absent, message });
                return;
            }
        };
        for (seen, entry) in entries.enumerate() {
            let entry = match entry {
                Ok(entry) if seen < MAX_ENTRIES => entry,
                Ok(_) => return self.fault(shown, format!("holds more than {MAX_ENTRIES} entries")),
                Err(error) => return self.fault(shown, format!("cannot be listed: {error}")),
            };
            let Ok(name) = entry.file_name().into_string() else { continue };
            let relative = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if !is_read(folder, &name) {
                if let Some(message) = looks_meant(folder, &name) {
                    self.overlooked.push((relative, message));
                }
                continue;
            }
            if self.files.len() == MAX_FILES {
                return self.fault(shown, format!("more than {MAX_FILES} files in the trust folder"));
            }
            self.files.insert(relative, fs::metadata(entry.path()).ok().map(|metadata| Stamp::of(&metadata)));
        }
        self.overlooked.sort();
    }

    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(Fault { path: path.into(), message });
    }
}

/// Says whether a name is one that is read: `[A-Za-z0-9][A-Za-z0-9._-]*\.(pub|yaml|json)`, and in the trust folder itself only `deny.yaml`.
fn is_read(folder: &str, name: &str) -> bool {
    if folder.is_empty() {
        return name == DENY;
    }
    name.rsplit_once('.').is_some_and(|(stem, extension)| is_stem(stem) && matches!(extension, "pub" | "yaml" | "json"))
}

/// Says whether a text can be a file's name before its extension.
pub(super) fn is_stem(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Says what is odd about a name that is not read but looks as if it was meant to be.
fn looks_meant(folder: &str, name: &str) -> Option<String> {
    let (_, extension) = name.rsplit_once('.').filter(|(stem, _)| is_stem(stem))?;
    match (folder, extension) {
        ("", "yml") if name == "deny.yml" => Some("is not read: its name must be deny.yaml".into()),
        ("keys", "pem" | "crt" | "key") => Some("is not read: the name of a public key's file ends in .pub".into()),
        ("keys" | "policies", "yml") => Some("is not read: its name must end in .yaml".into()),
        _ => None,
    }
}

/// Opens a folder for listing; the error says whether nothing has the name at all.
fn open_folder(path: &Path) -> Result<(Metadata, fs::ReadDir), (bool, String)> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let dangling = fs::symlink_metadata(path).is_ok();
            let message = if dangling { "is a link that leads nowhere" } else { "is not there" };
            return Err((!dangling, message.into()));
        }
        Err(error) => return Err((false, format!("cannot be read: {error}"))),
    };
    if !metadata.is_dir() {
        return Err((false, "is not a folder".into()));
    }
    let entries = fs::read_dir(path).map_err(|error| (false, format!("cannot be listed: {error}")))?;
    Ok((metadata, entries))
}

/// Reads the files of a listing.
fn take(root: &Path, survey: &Survey) -> Scan {
    let mut scan = Scan {
        unread: survey.faults.clone(),
        missing: survey.missing.clone(),
        overlooked: survey.overlooked.clone(),
        ..Scan::default()
    };
    let mut total = 0;
    for relative in survey.files.keys() {
        match read_file(&root.join(relative)) {
            Ok(bytes) if total + bytes.len() <= MAX_TOTAL_BYTES => {
                total += bytes.len();
                scan.files.0.insert(relative.clone(), bytes);
            }
            Ok(_) => {
                let message = format!("the files before it hold {} MiB, more are not read", MAX_TOTAL_BYTES >> 20);
                scan.unread.push(Fault { path: relative.clone(), message });
            }
            Err(message) => scan.unread.push(Fault { path: relative.clone(), message }),
        }
    }
    scan
}

/// Reads one file; the error is what is wrong with it.
fn read_file(path: &Path) -> Result<Bytes, String> {
    let cannot = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => "is a link that leads nowhere".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let entry = fs::symlink_metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if entry.is_symlink() && !is_owner_trusted(&entry) {
        return Err(format!(
            "is a link that belongs to uid {}, who is neither this daemon's user nor root",
            entry.uid()
        ));
    }
    // Asked before opening, for opening a device can do something; asked again of what was opened.
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let mut options = File::options();
    let file = options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if !is_owner_trusted(&metadata) {
        return Err(format!(
            "belongs to uid {}, who is neither this daemon's user nor root; `chown` it",
            metadata.uid()
        ));
    }
    if metadata.mode() & WORLD_WRITABLE != 0 {
        return Err("can be written by everybody; `chmod o-w` it".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("is longer than {} KiB", MAX_FILE_BYTES >> 10));
    }
    Ok(bytes.into())
}

fn is_owner_trusted(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == rustix::process::geteuid().as_raw()
}

/// Says why others could write in a folder. Kubernetes mounts its volumes with mode 0777, but read-only: nobody can write there.
fn others_may_write(metadata: &Metadata, path: &Path) -> Option<String> {
    if !is_owner_trusted(metadata) {
        return Some(format!(
            "the folder belongs to uid {}, who is neither this daemon's user nor root; `chown` it",
            metadata.uid()
        ));
    }
    let read_only = || rustix::fs::statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    (metadata.mode() & WORLD_WRITABLE != 0 && !read_only())
        .then(|| "the folder can be written by everybody; `chmod o-w` it".into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["keys", "policies", "roots"] {
            fs::create_dir(folder.path().join(name)).expect(name);
        }
        folder
    }

    fn paths(scan: &Scan) -> Vec<&str> {
        scan.files.0.keys().map(String::as_str).collect()
    }

    #[test]
    fn only_the_names_that_are_asked_for() {
        let folder = folder();
        let names = [
            "deny.yaml",
            "deny.json",
            "keys/a.pub",
            "keys/a.yaml",
            "keys/.keep",
            "keys/.tmp-1.pub",
            "keys/-x.pub",
            "keys/a.pub~",
            "keys/b.pem",
            "keys/c.yml",
            "keys/é.pub",
            "keys/.pub",
            "policies/p.yaml",
            "policies/p.txt",
            "roots/r.json",
        ];
        for name in names {
            fs::write(folder.path().join(name), name).expect(name);
        }
        fs::create_dir(folder.path().join("keys/deep")).expect("deep");
        fs::write(folder.path().join("keys/deep/d.pub"), "d").expect("d");
        let scan = scan(folder.path());
        assert_eq!(paths(&scan), ["deny.yaml", "keys/a.pub", "keys/a.yaml", "policies/p.yaml", "roots/r.json"]);
        assert_eq!((scan.unread.len(), scan.missing.len()), (0, 0), "{scan:?}");
        let overlooked: Vec<&str> = scan.overlooked.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(overlooked, ["keys/b.pem", "keys/c.yml"]);
    }

    #[test]
    fn what_others_could_have_written_is_a_fault() {
        let folder = folder();
        let path = folder.path().join("keys/a.pub");
        fs::write(&path, "a").expect("write");
        fs::write(folder.path().join("keys/b.pub"), "b").expect("write");
        fs::write(folder.path().join("keys/b.yaml"), "b").expect("write");
        for name in ["keys/a.pub", "keys/b.yaml", "policies"] {
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o777)).expect("chmod");
        }
        let scan = scan(folder.path());
        assert_eq!(paths(&scan), ["keys/b.pub"]);
        let faults: Vec<&str> = scan.unread.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(faults, ["policies", "keys/a.pub", "keys/b.yaml"]);
        assert!(scan.readable().0.is_empty(), "a key whose .yaml cannot be read must not stand by itself");
    }

    #[test]
    fn links_are_followed_to_regular_files_only() {
        let folder = folder();
        let keys = folder.path().join("keys");
        fs::create_dir(keys.join("..2026")).expect("data");
        fs::write(keys.join("..2026/a.pub"), "first").expect("a");
        symlink("..2026", keys.join("..data")).expect("..data");
        symlink("..data/a.pub", keys.join("a.pub")).expect("a.pub");
        symlink("nowhere", keys.join("b.pub")).expect("b.pub");
        symlink("/dev/null", keys.join("c.pub")).expect("c.pub");
        fs::create_dir(keys.join("d.pub")).expect("d.pub");
        rustix::fs::mknodat(rustix::fs::CWD, keys.join("e.pub"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("fifo");
        let scan = scan(folder.path());
        assert_eq!(scan.files.0.get("keys/a.pub").map(|bytes| &bytes[..]), Some(&b"first"[..]));
        let faults: Vec<&str> = scan.unread.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(faults, ["keys/b.pub", "keys/c.pub", "keys/d.pub", "keys/e.pub"]);
    }

    #[test]
    fn bounded_in_size_and_number() {
        let folder = folder();
        let limit = usize::try_from(MAX_FILE_BYTES).expect("fits");
        fs::write(folder.path().join("keys/fits.pub"), vec![b'x'; limit]).expect("fits");
        fs::write(folder.path().join("keys/long.pub"), vec![b'x'; limit + 1]).expect("long");
        let found = scan(folder.path());
        assert_eq!(paths(&found), ["keys/fits.pub"]);
        assert_eq!(found.unread.first().map(|fault| fault.path.as_str()), Some("keys/long.pub"));
        for number in 0..MAX_FILES {
            fs::write(folder.path().join(format!("policies/{number}.yaml")), "").expect("write");
        }
        let found = scan(folder.path());
        assert!(
            found.unread.iter().any(|fault| fault.path == "policies" && fault.message.contains("4096")),
            "{:?}",
            found.unread
        );
    }

    #[test]
    fn a_missing_folder_is_not_an_empty_one() {
        let folder = folder();
        fs::write(folder.path().join("keys/a.pub"), "a").expect("a");
        fs::remove_dir(folder.path().join("roots")).expect("roots");
        fs::remove_dir(folder.path().join("policies")).expect("policies");
        symlink("nowhere", folder.path().join("policies")).expect("link");
        let Scan { missing, .. } = scan(folder.path());
        let contents = Contents { missing, ..Contents::unreadable("") };
        let matters = |in_force: Option<&TrustFiles>| -> Vec<String> {
            contents.unexcused(in_force).into_iter().map(|fault| fault.path).collect()
        };
        assert_eq!(matters(None), ["policies"], "a dangling link is never excused, what is absent is");
        let had = TrustFiles([("roots/r.json".to_owned(), Bytes::new())].into());
        assert_eq!(matters(Some(&had)), ["policies", "roots"]);
        let gone = scan(&folder.path().join("gone"));
        assert_eq!(gone.missing.len(), 1);
        let file = scan(&folder.path().join("keys/a.pub"));
        assert!(!file.missing.first().expect("missing").absent, "a plain file in its place");
    }
}
