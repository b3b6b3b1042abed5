//! Signed certificate timestamps that a certificate brings in itself (RFC 6962, 3.2 and 3.3).

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::root::Log;
use crate::check::{Checker, SignedHash};
use crate::key::{AnchorId, KeyAlgorithm};

/// The most SCTs that are looked at.
const MAX_SCTS: usize = 32;
/// TLS's numbers (RFC 5246, 7.4.1.4.1).
const SHA256: u8 = 4;
const RSA: u8 = 1;
const ECDSA: u8 = 3;

/// A certificate's log that vouched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sct {
    /// The log.
    pub log: AnchorId,
    /// When it saw the certificate.
    pub at: Timestamp,
}

/// Checks every SCT in a certificate that was issued by the key `issuer_spki`; returns the good ones, and what is wrong
/// with each other, in words.
pub(super) fn check(leaf: &Certificate, issuer_spki: &[u8], logs: &[Log]) -> (Vec<Sct>, Vec<String>) {
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    let Some(list) = &leaf.scts else { return (good, vec!["the certificate has none".to_owned()]) };
    let Some(scts) = split(list) else { return (good, vec!["the list is malformed".to_owned()]) };
    for sct in scts.iter().take(MAX_SCTS) {
        match check_one(sct, leaf, issuer_spki, logs) {
            Ok(sct) => good.push(sct),
            Err(fault) => faults.push(fault),
        }
    }
    (good, faults)
}

/// An SCT as it is written.
struct Written<'a> {
    log_id: &'a [u8],
    milliseconds: u64,
    extensions: &'a [u8],
    algorithms: (u8, u8),
    signature: &'a [u8],
}

fn check_one(bytes: &[u8], leaf: &Certificate, issuer_spki: &[u8], logs: &[Log]) -> Result<Sct, String> {
    let sct = parse(bytes).ok_or("an SCT is malformed, or not of version 1")?;
    let at = i64::try_from(sct.milliseconds).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
    let at = at.ok_or("an SCT's time is out of range")?;
    let signed = signed(&sct, leaf, issuer_spki).ok_or("the certificate is too long for an SCT")?;
    let named = logs.iter().filter(|log| log.log_id == sct.log_id);
    let mut fault = "it is of a log that is not in the trusted root".to_owned();
    for log in named {
        let algorithm = match log.key.algorithm() {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521 => ECDSA,
            KeyAlgorithm::Rsa => RSA,
            KeyAlgorithm::Ed25519 => continue,
        };
        if !log.window.contains(at) {
            fault = format!("it is of {at}, when its log's key was not valid");
        } else if sct.algorithms == (SHA256, algorithm)
            && Checker::new(&signed, sct.signature).check(&log.key) == Some(SignedHash::Sha256)
        {
            return Ok(Sct { log: log.id, at });
        } else {
            fault = "its signature does not verify".to_owned();
        }
    }
    Err(fault)
}

/// Writes what the log signed (RFC 6962, 3.2, `digitally-signed struct`).
fn signed(sct: &Written<'_>, leaf: &Certificate, issuer_spki: &[u8]) -> Option<Vec<u8>> {
    const VERSION_1: u8 = 0;
    const CERTIFICATE_TIMESTAMP: u8 = 0;
    const PRECERT_ENTRY: u16 = 1;
    let length = u32::try_from(leaf.precertificate.len()).ok().filter(|length| *length < 1 << 24)?;
    let extensions_length = u16::try_from(sct.extensions.len()).ok()?;
    let mut bytes = vec![VERSION_1, CERTIFICATE_TIMESTAMP];
    bytes.extend(sct.milliseconds.to_be_bytes());
    bytes.extend(PRECERT_ENTRY.to_be_bytes());
    bytes.extend(Sha256::digest(issuer_spki));
    bytes.extend(length.to_be_bytes().into_iter().skip(1));
    bytes.extend_from_slice(&leaf.precertificate);
    bytes.extend(extensions_length.to_be_bytes());
    bytes.extend_from_slice(sct.extensions);
    Some(bytes)
}

/// Splits the list into its SCTs.
fn split(list: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, end) = vector(list)?;
    if !end.is_empty() {
        return None;
    }
    let mut scts = Vec::new();
    while !rest.is_empty() {
        let (sct, after) = vector(rest)?;
        scts.push(sct);
        rest = after;
    }
    Some(scts)
}

fn parse(bytes: &[u8]) -> Option<Written<'_>> {
    let (version, rest) = bytes.split_first()?;
    let (log_id, rest) = rest.split_at_checked(32)?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let (extensions, rest) = vector(rest)?;
    let (algorithms, rest) = rest.split_first_chunk::<2>()?;
    let (signature, rest) = vector(rest)?;
    (*version == 0 && rest.is_empty()).then(|| Written {
        log_id,
        milliseconds: u64::from_be_bytes(*time),
        extensions,
        algorithms: (algorithms[0], algorithms[1]),
        signature,
    })
}

/// Takes a vector with a length of two bytes; returns it and what follows.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_end_where_their_lengths_say() {
        assert_eq!(split(&[0, 0]), Some(vec![]));
        assert_eq!(split(&[0, 3, 0, 1, 7]), Some(vec![&[7][..]]));
        for bad in [&[][..], &[0], &[0, 1], &[0, 1, 0, 0], &[0, 3, 0, 2, 7], &[0, 2, 0, 0, 9]] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
        let sct = [&[0; 41][..], &[0, 0, 4, 3, 0, 1, 9]].concat();
        assert!(parse(&sct).is_some());
        assert!(parse(&sct[..sct.len() - 1]).is_none());
        assert!(parse(&[&sct[..], &[0]].concat()).is_none());
        assert!(parse(&[&[1], &sct[1..]].concat()).is_none(), "another version");
    }
}
