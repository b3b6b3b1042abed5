//! Reading a trust folder's files into a set.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::MAX_FILE_BYTES;
use super::{Deny, Fault, KeyFile, Policy, Reading, Root, Rules, TrustFiles, TrustSet};
use super::{clusterimagepolicy, deny, key_file, root_file};
use crate::key::PublicKey;
use crate::keyless::TrustedRoot;

const DENY: &str = "deny.yaml";

/// What reading has given so far.
#[derive(Default)]
struct Reader {
    faults: Vec<Fault>,
    warnings: Vec<(String, String)>,
}

/// Reads all files; what is wrong with one leaves only that one out.
pub(super) fn read(files: &TrustFiles, rules: Rules) -> Reading {
    let mut reader = Reader::default();
    let mut keys = BTreeMap::new();
    let mut policies = BTreeMap::new();
    let mut roots = BTreeMap::new();
    let mut deny = Deny::default();
    for (path, bytes) in &files.0 {
        if bytes.len() > MAX_FILE_BYTES {
            let message = format!("it has {} bytes; {MAX_FILE_BYTES} are the most that are read", bytes.len());
            reader.fault(path, message);
        } else if path == DENY {
            deny = reader.keep(path, deny::read(bytes)).unwrap_or_default();
        } else if let Some(name) = stem(path, "keys/", ".pub") {
            if let Some(file) = reader.key(files, path, name, bytes) {
                keys.insert(name.to_owned(), file);
            }
        } else if let Some(name) = stem(path, "policies/", ".yaml") {
            if let Some(policy) = reader.policy(path, bytes) {
                policies.insert(name.to_owned(), policy);
            }
        } else if let Some(name) = stem(path, "keys/", ".yaml") {
            if !files.0.contains_key(&format!("keys/{name}.pub")) {
                // It is no fault that its key is not there; it is one that nobody would know what it says.
                reader.keep(path, key_file::check(bytes));
                reader.warn(path, format!("there is no keys/{name}.pub that this would be about"));
            }
        } else if let Some(name) = stem(path, "roots/", ".json") {
            if let Some(root) = reader.root(files, path, name, bytes) {
                roots.insert(name.to_owned(), root);
            }
        } else if let Some(name) = stem(path, "roots/", ".yaml") {
            if !files.0.contains_key(&format!("roots/{name}.json")) {
                reader.keep(path, root_file::read(bytes));
                reader.warn(path, format!("there is no roots/{name}.json that this would be about"));
            }
        } else {
            reader.warn(path, "nothing reads a file of this name here".to_owned());
        }
    }
    for name in deny.keys.keys().filter(|name| !keys.contains_key(*name)) {
        reader.warn(DENY, format!("there is no key {name:?} to deny"));
    }
    let set = Arc::new(TrustSet::new(keys, policies, roots, deny, rules));
    Reading { set, faults: reader.faults, warnings: reader.warnings }
}

/// Returns the name in `folder/<name>.extension`; deeper paths have none.
fn stem<'a>(path: &'a str, folder: &str, extension: &str) -> Option<&'a str> {
    let name = path.strip_prefix(folder)?.strip_suffix(extension)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

impl Reader {
    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(Fault { path: path.to_owned(), message });
    }

    fn warn(&mut self, path: &str, message: String) {
        self.warnings.push((path.to_owned(), message));
    }

    fn keep<T>(&mut self, path: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.fault(path, message)).ok()
    }

    /// Reads a key with its settings. Settings that cannot be read leave the key out: they may confine or revoke it.
    fn key(&mut self, files: &TrustFiles, path: &str, name: &str, bytes: &[u8]) -> Option<KeyFile> {
        let key = PublicKey::from_pem(bytes).map_err(|error| format!("it is not a public key: {error}"));
        let key = self.keep(path, key);
        let settings_path = format!("keys/{name}.yaml");
        let settings = files.0.get(&settings_path);
        // Reported as a fault of its own.
        if settings.is_some_and(|bytes| bytes.len() > MAX_FILE_BYTES) {
            return None;
        }
        let parsed = key_file::read(key?, settings.map(|bytes| &bytes[..]));
        let parsed = self.keep(&settings_path, parsed)?;
        self.warnings.extend(parsed.warnings.into_iter().map(|message| (settings_path.clone(), message)));
        Some(parsed.file)
    }

    /// Reads a root with its settings. Settings that cannot be read leave the root out: they may say that it is old.
    fn root(&mut self, files: &TrustFiles, path: &str, name: &str, bytes: &[u8]) -> Option<Root> {
        let root = TrustedRoot::parse(bytes).map_err(|error| format!("it is no trusted root: {error}"));
        let root = self.keep(path, root)?;
        let settings_path = format!("roots/{name}.yaml");
        let as_of = match files.0.get(&settings_path) {
            None => None,
            // Reported as a fault of its own.
            Some(settings) if settings.len() > MAX_FILE_BYTES => return None,
            Some(settings) => self.keep(&settings_path, root_file::read(settings))?,
        };
        Some(Root { id: root.id(), root: Arc::new(root), as_of })
    }

    fn policy(&mut self, path: &str, bytes: &[u8]) -> Option<Policy> {
        let parsed = self.keep(path, clusterimagepolicy::read(bytes))?;
        self.warnings.extend(parsed.warnings.into_iter().map(|message| (path.to_owned(), message)));
        Some(parsed.policy)
    }
}
