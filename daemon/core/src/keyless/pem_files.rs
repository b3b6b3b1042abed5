//! A trusted root out of single files of PEM, as older cosign takes it.

use crate::key::PublicKey;

use super::{TrustedRoot, certificates};

/// The most bytes of one file.
const MAX_FILE: usize = 1 << 20;
/// The most keys in one file.
const MAX_KEYS: usize = 100;
const END: &str = "-----END PUBLIC KEY-----";

/// Files of PEM, one block after the other; an empty one says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct RootFiles<'a> {
    /// Certificates of the authority that issues signers' certificates.
    pub authority: &'a [u8],
    /// Certificates of a timestamp authority.
    pub timestamp_authority: &'a [u8],
    /// Keys of transparency logs.
    pub log: &'a [u8],
    /// Keys of certificate transparency logs.
    pub ct_log: &'a [u8],
}

/// Says in words why files are no root.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RootFilesError(String);

impl RootFiles<'_> {
    /// Makes a root of them.
    ///
    /// # Errors
    /// Fails where one is too long, or cannot be read, and where certificates have no root.
    pub fn root(&self) -> Result<TrustedRoot, RootFilesError> {
        let read = |bytes: &[u8]| match bytes.is_empty() {
            true => Ok(Vec::new()),
            false => certificates(bytes).map_err(|error| format!("certificates cannot be read: {error}")),
        };
        let assemble = || {
            let (authority, timestamp_authority) = (read(self.authority)?, read(self.timestamp_authority)?);
            let (log, ct_log) = (keys(self.log)?, keys(self.ct_log)?);
            TrustedRoot::assemble(&authority, &timestamp_authority, log, ct_log).map_err(|error| error.to_string())
        };
        assemble().map_err(RootFilesError)
    }
}

fn keys(bytes: &[u8]) -> Result<Vec<PublicKey>, String> {
    if bytes.len() > MAX_FILE {
        return Err("a file of keys is longer than 1 MiB".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "a file of keys is no text".to_owned())?;
    let blocks: Vec<&str> = text.split_inclusive(END).filter(|block| !block.trim().is_empty()).collect();
    if blocks.len() > MAX_KEYS {
        return Err("a file of keys holds more than 100".to_owned());
    }
    let key = |block: &str| {
        PublicKey::from_pem(block.trim_start().as_bytes())
            .map_err(|error| format!("a public key cannot be read: {error}"))
    };
    blocks.into_iter().map(key).collect()
}
