//! What the tests of the judgement share: real keys, and trust folders written as files.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use bytes::Bytes;
use larder_core::Digest;
use larder_core::facts::SignatureRow;
use larder_core::key::PublicKey;
use larder_core::policy::TrustFiles;
use larder_core::signature::{Format, Says, SignatureId};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

/// Returns the public key of a name: P-256, the same for the same name.
pub(crate) fn key(name: &str) -> PublicKey {
    static KEYS: OnceLock<Mutex<BTreeMap<String, PublicKey>>> = OnceLock::new();
    let mut keys = KEYS.get_or_init(Mutex::default).lock().expect("keys");
    keys.entry(name.to_owned())
        .or_insert_with(|| {
            let seed = Digest::of(format!("key {name}").as_bytes());
            let secret = p256::ecdsa::SigningKey::from_slice(seed.as_bytes()).expect("a scalar in range");
            let public = p256::PublicKey::from(secret.verifying_key());
            let pem = public.to_public_key_pem(LineEnding::LF).expect("PEM");
            PublicKey::from_pem(pem.as_bytes()).expect("a public key")
        })
        .clone()
}

/// Writes a value as a file: JSON is YAML.
pub(crate) fn file(value: &Value) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("JSON"))
}

/// Writes a ClusterImagePolicy around a spec.
pub(crate) fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "policy.sigstore.dev/v1beta1",
        "kind": "ClusterImagePolicy",
        "metadata": {"name": "test"},
        "spec": spec,
    })
}

/// Puts a key into the files, with its settings if it has any.
pub(crate) fn add_key(files: &mut TrustFiles, name: &str, key: &PublicKey, settings: Option<&Value>) {
    files.0.insert(format!("keys/{name}.pub"), Bytes::from(key.to_pem()));
    if let Some(settings) = settings {
        files.0.insert(format!("keys/{name}.yaml"), file(settings));
    }
}

/// Builds the row of a signature; `number` makes it one of its own.
pub(crate) fn signature(number: usize, format: Format, names: Option<Digest>, seen: jiff::Timestamp) -> SignatureRow {
    let id = Digest::of(format!("signature {number}").as_bytes());
    SignatureRow {
        id: SignatureId(id.as_bytes().try_into().expect("32 bytes")),
        format,
        names,
        says: Says::Signed,
        first_seen: seen,
        manifest: Digest::of(format!("manifest of {number}").as_bytes()),
        layer: 0,
    }
}
