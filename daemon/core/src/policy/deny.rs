//! `deny.yaml`: what is refused whatever else holds.

use serde::Deserialize;

use super::{Deny, yaml};
use crate::digest::Digest;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    digests: Vec<DeniedDigest>,
    #[serde(default)]
    keys: Vec<DeniedKey>,
    #[serde(default)]
    identities: Vec<DeniedIdentity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeniedDigest {
    digest: Digest,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeniedKey {
    key: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeniedIdentity {
    issuer: String,
    subject: String,
    #[serde(default)]
    reason: String,
}

/// Reads the file.
pub(super) fn read(bytes: &[u8]) -> Result<Deny, String> {
    let document: Document = yaml::parse(bytes)?;
    // Whoever writes the file's name with its extension means the key, too.
    let name = |key: String| key.strip_suffix(".pub").map(str::to_owned).unwrap_or(key);
    Ok(Deny {
        digests: document.digests.into_iter().map(|denied| (denied.digest, denied.reason)).collect(),
        keys: document.keys.into_iter().map(|denied| (name(denied.key), denied.reason)).collect(),
        identities: document.identities.into_iter().map(|who| (who.issuer, who.subject, who.reason)).collect(),
    })
}
