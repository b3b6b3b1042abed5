//! What is stored beside a signature, so that others can check who made it, and when: certificates, entries of logs,
//! timestamps. It is what its maker says; nobody believes it before it is checked.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pem::{EncodeConfig, LineEnding, Pem};
use serde::Serialize;

use super::bundle::{
    BundleError, LogEntry, MAX_CERTIFICATE_BYTES, MAX_CHAIN, MAX_ENTRIES, MAX_TIMESTAMP_BYTES, MAX_TIMESTAMPS,
};
use super::go_json;
use super::simple_signing::{CERTIFICATE_ANNOTATION, CHAIN_ANNOTATION, LOG_ENTRY_ANNOTATION, TIMESTAMP_ANNOTATION};
use crate::digest::hex;
use crate::key::PublicKey;
use crate::keyless::{Malformed, Token, certificate_key};

/// Certificates, entries and timestamps of one signature, each of a known shape and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerificationMaterial {
    certificates: Vec<Bytes>,
    entries: Vec<LogEntry>,
    timestamps: Vec<Bytes>,
    /// Of the first certificate.
    key: Option<PublicKey>,
}

/// Says why something cannot be stored beside a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// There is too much of it.
    #[error("there are {count} {what}; at most {most} are stored")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A certificate or a timestamp is too long.
    #[error("{0} is longer than 64 KiB")]
    TooLong(&'static str),
    /// A certificate or a timestamp is none.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The certificate's key cannot be checked with.
    #[error("the certificate's key is of a kind that is not supported")]
    Key,
    /// A log entry cannot be read.
    #[error("a log entry cannot be read: {0}")]
    Entry(#[from] BundleError),
    /// The classic format has room for one entry of Rekor v1 and one timestamp.
    #[error("the classic format cannot hold {0}")]
    NotClassic(&'static str),
}

impl VerificationMaterial {
    /// Reads what a signer brings: certificates (DER, the signer's own first, then its issuers up to the root), entries of logs
    /// ([`LogEntry::parse`]), timestamps (TimeStampResp, DER).
    ///
    /// # Errors
    /// Fails for what is not of its shape, and where there is more than readers read.
    pub fn parse(certificates: Vec<Bytes>, entries: &[Bytes], timestamps: Vec<Bytes>) -> Result<Self, MaterialError> {
        let entries = entries.iter().map(|bytes| LogEntry::parse(bytes)).collect::<Result<Vec<_>, _>>()?;
        Self::new(certificates, entries, timestamps)
    }

    /// Makes it of entries that are read already; as [`VerificationMaterial::parse`] otherwise.
    ///
    /// # Errors
    /// As [`VerificationMaterial::parse`].
    pub fn new(
        certificates: Vec<Bytes>,
        entries: Vec<LogEntry>,
        timestamps: Vec<Bytes>,
    ) -> Result<Self, MaterialError> {
        at_most("certificates", certificates.len(), MAX_CHAIN)?;
        at_most("log entries", entries.len(), MAX_ENTRIES)?;
        at_most("timestamps", timestamps.len(), MAX_TIMESTAMPS)?;
        if certificates.iter().any(|der| der.len() > MAX_CERTIFICATE_BYTES) {
            return Err(MaterialError::TooLong("a certificate"));
        }
        if timestamps.iter().any(|der| der.len() > MAX_TIMESTAMP_BYTES) {
            return Err(MaterialError::TooLong("a timestamp"));
        }
        let mut keys = Vec::with_capacity(certificates.len());
        for der in &certificates {
            keys.push(certificate_key(der)?);
        }
        let key = match keys.into_iter().next() {
            None => None,
            Some(None) => return Err(MaterialError::Key),
            Some(key) => key,
        };
        for der in &timestamps {
            Token::parse(der)?;
        }
        Ok(Self { certificates, entries, timestamps, key })
    }

    /// Says whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.entries.is_empty() && self.timestamps.is_empty()
    }

    /// Returns the certificates, the signer's own first.
    pub fn certificates(&self) -> &[Bytes] {
        &self.certificates
    }

    /// Returns the entries of logs.
    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    /// Returns the timestamps.
    pub fn timestamps(&self) -> &[Bytes] {
        &self.timestamps
    }

    /// Returns the key of the signer's certificate; `None` where there is no certificate.
    pub fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }

    /// Writes it as the annotations of a classic layer, byte for byte as cosign does (facts/sigstore.md 2.2).
    ///
    /// # Errors
    /// Fails where the format has no room for it: it holds one entry, by its promise, and one timestamp.
    pub fn annotations(&self) -> Result<BTreeMap<String, String>, MaterialError> {
        let mut annotations = BTreeMap::new();
        if let [leaf, issuers @ ..] = self.certificates.as_slice() {
            annotations.insert(CERTIFICATE_ANNOTATION.to_owned(), to_pem([leaf]));
            annotations.insert(CHAIN_ANNOTATION.to_owned(), to_pem(issuers));
        }
        match self.entries.as_slice() {
            [] => {}
            [entry] => {
                annotations.insert(LOG_ENTRY_ANNOTATION.to_owned(), classic_entry(entry)?);
            }
            _ => return Err(MaterialError::NotClassic("entries of two logs")),
        }
        match self.timestamps.as_slice() {
            [] => {}
            [timestamp] => {
                let json = TimestampJson { timestamp: STANDARD.encode(timestamp) };
                annotations.insert(TIMESTAMP_ANNOTATION.to_owned(), go_text(&json));
            }
            _ => return Err(MaterialError::NotClassic("two timestamps")),
        }
        Ok(annotations)
    }
}

fn at_most(what: &'static str, count: usize, most: usize) -> Result<(), MaterialError> {
    if count > most { Err(MaterialError::TooMany { what, count, most }) } else { Ok(()) }
}

fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a Bytes>) -> String {
    let blocks: Vec<Pem> = certificates.into_iter().map(|der| Pem::new("CERTIFICATE", der.as_ref())).collect();
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    blocks.iter().map(|block| pem::encode_config(block, config)).collect()
}

fn go_text(value: &impl Serialize) -> String {
    String::from_utf8(go_json::to_vec(value)).unwrap_or_default()
}

/// An entry without its proof: cosign's `RekorBundle`, in the order of Go's struct.
fn classic_entry(entry: &LogEntry) -> Result<String, MaterialError> {
    let (Some(promise), Some(time)) = (&entry.promise, entry.integrated_time) else {
        return Err(MaterialError::NotClassic("a log entry without a signed time, as Rekor v2 writes it"));
    };
    Ok(go_text(&EntryJson {
        promise: STANDARD.encode(promise),
        payload: PayloadJson {
            body: STANDARD.encode(&entry.body),
            integrated_time: time,
            log_index: entry.log_index,
            log_id: hex(&entry.log_id),
        },
    }))
}

#[derive(Serialize)]
struct EntryJson {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: PayloadJson,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PayloadJson {
    body: String,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Serialize)]
struct TimestampJson {
    #[serde(rename = "SignedRFC3161Timestamp")]
    timestamp: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyless::{ClassicEvidence, certificates, log_entry, timestamp_annotation};
    use crate::signature::bundle::{Bundle, Material};
    use crate::signature::found::Annotations;

    /// A bundle of cosign's: its certificate, its entry of Rekor v1 and its timestamp.
    fn given() -> VerificationMaterial {
        let path = "../../tests/fixtures/cosign/keyless/bundles/blob-rekor1_tsa.json";
        let bundle = std::fs::read(path).expect("a bundle");
        let bundle = Bundle::parse(&bundle).expect("a bundle");
        let Material::Certificate(leaf) = bundle.material else { panic!("no certificate") };
        VerificationMaterial::new(vec![leaf], bundle.entries, bundle.timestamps).expect("material")
    }

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let material = given();
        let [entry] = material.entries() else { panic!("one entry") };
        assert!(entry.promise.is_some() && entry.proof.as_ref().is_some_and(|proof| !proof.hashes.is_empty()));
        assert_eq!(LogEntry::parse(&entry.to_json()).as_ref(), Ok(entry));
        let parsed = VerificationMaterial::parse(
            material.certificates().to_vec(),
            &[entry.to_json()],
            material.timestamps().to_vec(),
        );
        assert_eq!(parsed, Ok(material));
    }

    #[test]
    fn annotations_are_read_as_they_are_written() {
        let material = given();
        let [leaf] = material.certificates() else { panic!("one certificate") };
        // Its issuers are of no matter here: any two certificates in a row will do.
        let chained = VerificationMaterial::new(
            vec![leaf.clone(), leaf.clone(), leaf.clone()],
            material.entries().to_vec(),
            material.timestamps().to_vec(),
        );
        let mut written = chained.expect("material").annotations().expect("classic");
        let mut take = |name| written.remove(name).expect(name);
        let annotations = Annotations {
            certificate: take(CERTIFICATE_ANNOTATION),
            chain: take(CHAIN_ANNOTATION),
            log_entry: take(LOG_ENTRY_ANNOTATION),
            timestamp: take(TIMESTAMP_ANNOTATION),
            ..Annotations::default()
        };
        assert!(written.is_empty(), "{written:?}");
        assert_eq!(certificates(annotations.certificate.as_bytes()), Ok(vec![leaf.clone()]));
        let entry = log_entry(annotations.log_entry.as_bytes()).expect("an entry");
        assert_eq!((&entry.body, entry.proof.is_none()), (&material.entries()[0].body, true));
        assert_eq!(timestamp_annotation(annotations.timestamp.as_bytes()).as_ref(), Ok(&material.timestamps()[0]));
        let found = ClassicEvidence::read(&annotations);
        assert!(found.faults.is_empty(), "{:?}", found.faults);
    }

    #[test]
    fn what_the_classic_format_has_no_room_for_is_refused() {
        let material = given();
        let [entry] = material.entries() else { panic!("one entry") };
        let without = LogEntry { promise: None, ..entry.clone() };
        for (entries, timestamps) in [
            (vec![without], Vec::new()),
            (vec![entry.clone(), entry.clone()], Vec::new()),
            (Vec::new(), vec![material.timestamps()[0].clone(); 2]),
        ] {
            let material = VerificationMaterial::new(Vec::new(), entries, timestamps).expect("material");
            assert!(matches!(material.annotations(), Err(MaterialError::NotClassic(_))), "{material:?}");
        }
    }

    #[test]
    fn what_is_no_material_is_refused() {
        let material = given();
        let bad = |certificates: Vec<Bytes>, entries: &[Bytes], timestamps: Vec<Bytes>| {
            VerificationMaterial::parse(certificates, entries, timestamps).expect_err("refused")
        };
        let long = Bytes::from(vec![0x30; MAX_CERTIFICATE_BYTES + 1]);
        assert_eq!(bad(vec![long.clone()], &[], Vec::new()), MaterialError::TooLong("a certificate"));
        assert_eq!(bad(Vec::new(), &[], vec![long]), MaterialError::TooLong("a timestamp"));
        let many = bad(vec![material.certificates()[0].clone(); MAX_CHAIN + 1], &[], Vec::new());
        assert_eq!(many.to_string(), "there are 11 certificates; at most 10 are stored");
        let junk = || Bytes::from_static(b"junk");
        assert!(matches!(bad(vec![junk()], &[], Vec::new()), MaterialError::Malformed(_)));
        assert!(matches!(bad(Vec::new(), &[], vec![junk()]), MaterialError::Malformed(_)));
        assert!(matches!(bad(Vec::new(), &[junk()], Vec::new()), MaterialError::Entry(_)));
    }
}
