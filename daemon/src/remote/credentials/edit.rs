//! docker's and podman's files, written: one change at a time, whole or not at all, and all that is not ours kept.

#![expect(
    clippy::disallowed_methods,
    reason = "these files are docker's and podman's, not the store's: the fault points of store::disk are for the store"
)]

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::error::CredentialError;
use super::file::{named, read};
use super::secret::Secret;

/// How long a change waits for another's end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const GLANCE: Duration = Duration::from_millis(20);
/// Nobody but its owner reads a file with passwords.
const MODE: u32 = 0o600;

/// A change of `auths`.
pub(super) enum Change {
    /// Puts an entry, in place of all that name the same.
    Put {
        /// The key.
        key: String,
        /// `user:password` in base64.
        auth: Secret,
    },
    /// Removes all entries that name this.
    Remove {
        /// `HOST` or `HOST/PREFIX`.
        name: String,
    },
    /// Removes every entry.
    RemoveAll,
}

/// Says whether a file is there, or can be made: who has no session has no folder for podman's file of the session.
pub(super) fn may_hold(path: &Path) -> bool {
    // The file's own folder and the one above are ours to make; what is above those is the system's.
    let above =
        path.ancestors().skip(1).take(3).filter(|folder| folder.parent().is_some()).find(|folder| folder.is_dir());
    let can_write = |folder: &Path| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
    path.exists() || above.is_some_and(can_write)
}

/// Changes a file; says whether that changed anything. Two changes at once, even of two daemons, lose nothing.
pub(super) async fn apply(path: PathBuf, change: Change) -> Result<bool, CredentialError> {
    let named = path.clone();
    let applied = tokio::task::spawn_blocking(move || change_file(&path, &change)).await;
    applied.map_err(|_| CredentialError::Write { path: named, why: "it was interrupted".into() })?
}

fn change_file(path: &Path, change: &Change) -> Result<bool, CredentialError> {
    let fail = |error: io::Error| CredentialError::Write { path: path.to_owned(), why: error.kind().to_string() };
    let is_there = fs::symlink_metadata(path).is_ok();
    if !is_there && !matches!(change, Change::Put { .. }) {
        return Ok(false);
    }
    // What a link names is replaced, not the link.
    let target = if is_there { fs::canonicalize(path).map_err(fail)? } else { path.to_owned() };
    let folder = target.parent().unwrap_or_else(|| Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
    let folder = File::open(folder).map_err(fail)?;
    lock(&folder).map_err(fail)?;
    let mut document = document(&target)?;
    if !change.of(&mut document).map_err(|why| CredentialError::File { path: path.to_owned(), why: why.into() })? {
        return Ok(false);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(super::file::MAX_FILE as usize));
    // Tabs, as both tools write it.
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut *bytes, format);
    serde::Serialize::serialize(&document, &mut writer).map_err(|error| fail(error.into()))?;
    bytes.push(b'\n');
    if bytes.len() as u64 > super::file::MAX_FILE {
        return Err(CredentialError::Write { path: path.to_owned(), why: "it would be longer than 1 MiB".into() });
    }
    replace(&target, &bytes).and_then(|()| folder.sync_all()).map_err(fail)?;
    Ok(true)
}

/// Waits for the lock of the folder: a lock on the file itself would be one on a file that is about to be replaced.
fn lock(folder: &File) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => std::thread::sleep(GLANCE),
            Err(error) => return Err(error.into()),
        }
    }
}

fn document(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    // What cannot be read must not be written over.
    super::file::File::load(path)?;
    let Some(bytes) = read(path)? else { return Ok(Map::new()) };
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let why = || CredentialError::File { path: path.to_owned(), why: "it is no JSON object".into() };
    serde_json::from_slice(&bytes).map_err(|_| why())
}

impl Change {
    /// Makes the change; says whether anything is different now.
    fn of(&self, document: &mut Map<String, Value>) -> Result<bool, &'static str> {
        if !matches!(self, Self::Put { .. }) && document.get("auths").is_none_or(Value::is_null) {
            return Ok(false);
        }
        let auths = document.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        let auths = auths.as_object_mut().ok_or("its auths is no object")?;
        match self {
            Self::Put { key, auth } => {
                let name = named(key);
                auths.retain(|other, _| other == key || named(other) != name);
                let entry = json!({"auth": auth.reveal()});
                if auths.get(key) == Some(&entry) {
                    return Ok(false);
                }
                auths.insert(key.clone(), entry);
                Ok(true)
            }
            Self::Remove { name } => {
                let before = auths.len();
                auths.retain(|key, _| named(key) != *name);
                Ok(auths.len() != before)
            }
            Self::RemoveAll => {
                let before = auths.len();
                auths.clear();
                Ok(before != 0)
            }
        }
    }
}

/// Replaces a file so that readers see the old one or the new one; it keeps its owner.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let random = getrandom::u64().map_err(|_| io::Error::other("no random bytes"))?;
    let temporary = folder.join(format!(".{name}.{random:016x}"));
    let written = (|| {
        let mut file = File::options().write(true).create_new(true).mode(MODE).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        if let Ok(about) = fs::metadata(path) {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
                fchown(&file, Some(about.uid()), Some(about.gid()))?;
            }
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, key: &str, auth: &str) -> Result<bool, CredentialError> {
        change_file(path, &Change::Put { key: key.into(), auth: Secret::new(auth.into()) })
    }

    fn remove(path: &Path, name: &str) -> Result<bool, CredentialError> {
        change_file(path, &Change::Remove { name: name.into() })
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("config.json");
        let text = "{\n\t\"zeta\": {\n\t\t\"b\": 1,\n\t\t\"a\": [\n\t\t\tnull,\n\t\t\t\"<\"\n\t\t]\n\t},\n\t\"auths\": {\n\t\t\"https://quay.io/v1/\": {\n\t\t\t\"auth\": \"b2xk\"\n\t\t},\n\t\t\"other.io\": {\n\t\t\t\"auth\": \"eDp5\",\n\t\t\t\"odd\": true\n\t\t}\n\t},\n\t\"alpha\": 2\n}\n";
        fs::write(&path, text).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("mode");
        assert!(put(&path, "quay.io", "dTpw").expect("written"));
        let wanted = text
            .replace(",\n\t\t\"other.io\"", "@")
            .replace("\"https://quay.io/v1/\": {\n\t\t\t\"auth\": \"b2xk\"\n\t\t}@", "\"other.io\"");
        let wanted = wanted.replace(
            "\"odd\": true\n\t\t}",
            "\"odd\": true\n\t\t},\n\t\t\"quay.io\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}",
        );
        assert_eq!(fs::read_to_string(&path).expect("read"), wanted);
        assert_eq!(mode(&path), 0o600);
        assert!(!put(&path, "quay.io", "dTpw").expect("the same"), "nothing to do");
        assert!(remove(&path, "quay.io").expect("removed"));
        assert!(!remove(&path, "quay.io").expect("gone"));
        assert!(change_file(&path, &Change::RemoveAll).expect("cleared"));
        assert!(fs::read_to_string(&path).expect("read").contains("\"alpha\": 2"));
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1, "nothing temporary stays");
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().expect("folder");
        let (real, link) = (folder.path().join("real/auth.json"), folder.path().join("auth.json"));
        fs::create_dir(folder.path().join("real")).expect("folder");
        fs::write(&real, "{}").expect("write");
        std::os::unix::fs::symlink("real/auth.json", &link).expect("link");
        assert!(put(&link, "quay.io", "dTpw").expect("written"));
        assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
        assert!(fs::read_to_string(&real).expect("read").contains("dTpw"));
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).expect("link");
        assert!(put(&folder.path().join("dangling"), "quay.io", "dTpw").is_err());
    }

    #[test]
    fn what_cannot_be_read_is_not_written_over() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("auth.json");
        for text in ["{", "[]", "5", r#"{"auths":[]}"#, r#"{"auths":{"a":5}}"#] {
            fs::write(&path, text).expect("write");
            assert!(put(&path, "quay.io", "dTpw").is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        let new = folder.path().join("new/containers/auth.json");
        assert!(!remove(&new, "quay.io").expect("nothing"));
        assert!(!new.parent().expect("folder").exists());
        assert!(put(&new, "quay.io", "dTpw").expect("written"));
        assert_eq!((mode(&new), mode(new.parent().expect("folder"))), (0o600, 0o700));
    }

    #[test]
    fn changes_at_once_lose_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("auth.json");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let path = &path;
                scope.spawn(move || put(path, &format!("r{number}.io"), "dTpw").expect("written"));
            }
        });
        let document: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        assert_eq!(document["auths"].as_object().map(Map::len), Some(16));
    }
}
