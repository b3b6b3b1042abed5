//! The PEM block in a file, and what a file is that has none.

use super::{KeyError, MAX_KEY_BYTES};

const BEGIN: &str = "-----BEGIN ";
/// The most characters of a foreign label that an error repeats.
const MAX_LABEL_SHOWN: usize = 60;

/// The kinds of PEM block that hold a public key.
pub(super) enum BlockKind {
    /// `PUBLIC KEY`: a SubjectPublicKeyInfo (RFC 7468, section 13).
    Pkix,
    /// `RSA PUBLIC KEY`: a bare RSAPublicKey (RFC 8017, A.1.1).
    Pkcs1,
}

/// A PEM block, decoded.
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) der: Vec<u8>,
}

/// Finds the one PEM block.
///
/// More than one is refused rather than the first taken: whoever appended a second key to a file
/// believes that it counts.
pub(super) fn single_block(bytes: &[u8]) -> Result<Block, KeyError> {
    if bytes.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong(bytes.len()));
    }
    let text = str::from_utf8(bytes).map_err(|_| not_text(bytes))?;
    let Some((_, after)) = text.split_once(BEGIN) else { return Err(no_block(text)) };
    let blocks = text.matches(BEGIN).count();
    if blocks > 1 {
        return Err(KeyError::SeveralBlocks(blocks));
    }
    let Some((label, _)) = after.split_once("-----").filter(|(label, _)| !label.contains(['\r', '\n'])) else {
        return Err(KeyError::Malformed("the BEGIN line is not complete".into()));
    };
    let kind = match label {
        "PUBLIC KEY" => BlockKind::Pkix,
        "RSA PUBLIC KEY" => BlockKind::Pkcs1,
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => return Err(KeyError::Certificate),
        label => {
            let shown: String = label.chars().take(MAX_LABEL_SHOWN).collect();
            let is_private = label.ends_with("PRIVATE KEY");
            return Err(if is_private { KeyError::PrivateKey(shown) } else { KeyError::OtherBlock(shown) });
        }
    };
    let block = pem::parse(text).map_err(|error| KeyError::Malformed(error.to_string()))?;
    Ok(Block { kind, der: block.into_contents() })
}

/// Says what bytes are that are no text.
fn not_text(bytes: &[u8]) -> KeyError {
    // 0x30 begins every DER SEQUENCE, and so every key and certificate.
    if bytes.first() == Some(&0x30) { KeyError::Der } else { KeyError::NoPem }
}

/// Says what a text is that has no PEM block.
fn no_block(text: &str) -> KeyError {
    let start = text.trim_start();
    if start.is_empty() {
        KeyError::Empty
    } else if ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN SSH2"].iter().any(|s| start.starts_with(s)) {
        KeyError::OpenSsh
    } else {
        KeyError::NoPem
    }
}
