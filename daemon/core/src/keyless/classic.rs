//! The evidence beside a classic signature: the annotations of a `.sig` or `.att` layer (facts/sigstore.md 2.2 and 4.3).

use bytes::Bytes;

use super::annotation::{self, AnnotationError};
use super::demand::{Check, Finding};
use super::{ChainForm, Signer};
use crate::signature::bundle::LogEntry;
use crate::signature::found::Annotations;

/// What a layer's annotations say about its signature; nothing of it is believed yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicEvidence {
    /// The signer's certificate, DER.
    pub certificate: Option<Bytes>,
    /// Its issuers, DER, without the root at the end, which is for the trusted root to name.
    pub chain: Vec<Bytes>,
    /// The log's entry, if any.
    pub entries: Vec<LogEntry>,
    /// The timestamp, if any.
    pub timestamps: Vec<Bytes>,
    /// Annotations that are there and cannot be read. They prove nothing, and are told.
    pub faults: Vec<Finding>,
}

impl ClassicEvidence {
    /// Reads a layer's annotations. What cannot be read is left out and told in [`ClassicEvidence::faults`], so that it is
    /// missing where it is asked for.
    pub fn read(annotations: &Annotations) -> Self {
        let mut found = Self::default();
        let given = |text: &'_ str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        let mut faults = Vec::new();
        let mut told = |check: Check, what: &str, error: AnnotationError| {
            faults.push(Finding::new(check, format!("its {what} cannot be read: {error}")));
        };
        if let Some(text) = given(&annotations.certificate) {
            match annotation::certificates(&text) {
                Ok(certificates) => found.certificate = certificates.into_iter().next(),
                Err(error) => told(Check::Certificate, "certificate", error),
            }
        }
        if let Some(text) = given(&annotations.chain) {
            match annotation::certificates(&text) {
                Ok(mut chain) => {
                    chain.pop();
                    found.chain = chain;
                }
                Err(error) => told(Check::CertificateChain, "certificate chain", error),
            }
        }
        if let Some(text) = given(&annotations.log_entry) {
            match annotation::log_entry(&text) {
                Ok(entry) => found.entries.push(entry),
                Err(error) => told(Check::LogEntry, "log entry", error),
            }
        }
        if let Some(text) = given(&annotations.timestamp) {
            match annotation::timestamp(&text) {
                Ok(timestamp) => found.timestamps.push(timestamp),
                Err(error) => told(Check::Timestamp, "timestamp", error),
            }
        }
        found.faults = faults;
        found
    }

    /// Returns the signer whom the annotations name; `None` where they name none.
    pub fn signer(&self) -> Option<Signer<'_>> {
        let leaf = self.certificate.as_ref()?;
        Some(Signer::Certificate { leaf, more: &self.chain, form: ChainForm::Classic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_and_missing() {
        let broken = || "{".to_owned();
        let broken = Annotations {
            certificate: broken(),
            chain: broken(),
            log_entry: broken(),
            timestamp: broken(),
            ..Annotations::default()
        };
        let found = ClassicEvidence::read(&broken);
        let checks: Vec<Check> = found.faults.iter().map(|fault| fault.check).collect();
        assert_eq!(checks, [Check::Certificate, Check::CertificateChain, Check::LogEntry, Check::Timestamp]);
        assert!(found.signer().is_none() && found.entries.is_empty() && found.timestamps.is_empty());
        assert_eq!(ClassicEvidence::read(&Annotations::default()), ClassicEvidence::default());
    }
}
