//! Edits a trust folder as a person or a configuration tool would: by its files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::signer::Signer;

/// A trust folder.
#[derive(Clone, Debug)]
pub struct TrustFolder {
    path: PathBuf,
}

impl TrustFolder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folders, for a home in which no daemon ran.
    pub fn create(&self) {
        for folder in ["keys", "roots", "policies"] {
            fs::create_dir_all(self.path.join(folder)).expect("a trust folder");
        }
    }

    /// Writes a file beside and renames it into place.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let file = self.file(name);
        let beside = file
            .with_file_name(format!(".{}.new", file.file_name().and_then(|name| name.to_str()).unwrap_or_default()));
        fs::write(&beside, bytes).unwrap_or_else(|error| panic!("{}: {error}", beside.display()));
        fs::rename(&beside, &file).expect("a rename in the trust folder");
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Puts a key.
    pub fn key(&self, name: &str, signer: &Signer) {
        self.write(&format!("keys/{name}.pub"), signer.public_pem());
    }

    /// Removes a key.
    pub fn remove_key(&self, name: &str) {
        self.remove(&format!("keys/{name}.pub"));
    }

    /// Puts a key's `.yaml` (as JSON, which is YAML).
    pub fn key_scope(&self, name: &str, says: &Value) {
        self.write(&format!("keys/{name}.yaml"), says.to_string());
    }

    /// Puts a policy with this `spec`.
    pub fn policy(&self, name: &str, spec: &Value) {
        let document = json!({"apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy",
            "metadata": {"name": name}, "spec": spec});
        self.write(&format!("policies/{name}.yaml"), document.to_string());
    }

    /// Puts a policy that accepts these globs when one of these keys signed.
    pub fn policy_of_keys(&self, name: &str, globs: &[&str], keys: &[&str]) {
        let images: Vec<_> = globs.iter().map(|glob| json!({"glob": glob})).collect();
        let authorities: Vec<_> =
            keys.iter().map(|key| json!({"name": key, "key": {"secretRef": {"name": key}}})).collect();
        self.policy(name, &json!({"images": images, "authorities": authorities}));
    }

    /// Puts a policy with one static authority.
    pub fn policy_static(&self, name: &str, glob: &str, action: &str) {
        self.policy(
            name,
            &json!({"images": [{"glob": glob}], "authorities": [{"name": "static", "static": {"action": action}}]}),
        );
    }

    /// Puts `deny.yaml`.
    pub fn deny(&self, says: &Value) {
        self.write("deny.yaml", says.to_string());
    }
}
