//! Chains of certificates (RFC 5280), by webpki; and when they are valid.
//!
//! webpki judges a path at an instant. What is kept as a fact is the span in which every certificate of a path is valid, so
//! that a certificate need not be looked at again for another instant.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use p256::pkcs8::ObjectIdentifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::certificate::Certificate;
use super::window::Window;

/// The usage of certificates that sign code.
pub(super) const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// The usage of certificates that sign timestamps.
pub(super) const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The most instants at which one chain is tried.
const MAX_PROBES: usize = 12;

/// A path from a certificate to a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// When every certificate of it is valid.
    pub(super) window: Window,
    /// The key that signed the leaf: a SubjectPublicKeyInfo, DER.
    pub(super) issuer_spki: Vec<u8>,
}

/// Finds the paths from `leaf` to the last certificate of `chain`, by way of the others and of `more`.
///
/// Where there is none, says why, in words that follow the leaf's name.
pub(super) fn paths(
    leaf: &Certificate,
    chain: &[Bytes],
    more: &[Bytes],
    usage: ObjectIdentifier,
) -> Result<Vec<Path>, String> {
    let (root, others) = chain.split_last().ok_or("has no chain to go by")?;
    let root_certificate = Certificate::parse(root).map_err(|error| error.to_string())?;
    let root_der = CertificateDer::from(&root[..]);
    let anchor = webpki::anchor_from_trusted_cert(&root_der).map_err(|error| in_words(&error))?;
    let anchors = [anchor];
    let issuers: Vec<&Bytes> = others.iter().chain(more).collect();
    let between: Vec<CertificateDer<'_>> = issuers.iter().map(|der| CertificateDer::from(&der[..])).collect();
    let leaf_der = CertificateDer::from(&leaf.der[..]);
    let end_entity = EndEntityCert::try_from(&leaf_der).map_err(|error| in_words(&error))?;
    let parsed: Vec<Certificate> = issuers.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
    let starts = parsed.iter().chain([leaf, &root_certificate]).filter_map(|certificate| certificate.validity.start);
    let probes: BTreeSet<Timestamp> = starts.filter(|start| leaf.validity.contains(*start)).collect();
    let (mut found, mut fault) = (Vec::<Path>::new(), None);
    for probe in probes.into_iter().take(MAX_PROBES) {
        let seconds = u64::try_from(probe.as_second()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let path = match end_entity.verify_for_usage(algorithms, &anchors, &between, at, Usage(usage), None, None) {
            Ok(path) => path,
            Err(error) => {
                fault.get_or_insert_with(|| in_words(&error));
                continue;
            }
        };
        // An issuer that cannot be read here has dates and a key usage that nobody looked at, whatever webpki made of it.
        let read = |der: &[u8]| parsed.iter().find(|one| one.der == der);
        let on_path: Option<Vec<&Certificate>> = path.intermediate_certificates().map(|one| read(&one.der())).collect();
        let Some(mut issuing) = on_path else {
            fault.get_or_insert_with(|| "has an issuer whose certificate cannot be read".to_owned());
            continue;
        };
        let between = issuing.len();
        issuing.push(&root_certificate);
        // To webpki a root is a name and a key; Go, and so cosign, asks of it what it asks of any issuer.
        if root_certificate.has_unknown_critical {
            fault.get_or_insert_with(|| in_words(&Error::UnsupportedCriticalExtension));
            continue;
        }
        if root_certificate.path_length.is_some_and(|length| between > length) {
            fault.get_or_insert_with(|| in_words(&Error::PathLenConstraintViolated));
            continue;
        }
        if !issuing.iter().all(|one| one.may_issue && one.allows(usage)) {
            fault.get_or_insert_with(|| "has an issuer whose key usage does not let it issue it".to_owned());
            continue;
        }
        let window = issuing.iter().fold(leaf.validity, |window, one| window.and(one.validity));
        let path = Path { window, issuer_spki: path.issuer_spki().to_vec() };
        if !window.is_empty() && !found.contains(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        Err(fault.unwrap_or_else(|| "is never valid together with its issuers".to_owned()))
    } else {
        Ok(found)
    }
}

/// Lets a certificate through that is for this usage, for any, or does not say: Go's rule for issuers. Whether a leaf must
/// say is asked elsewhere.
struct Usage(ObjectIdentifier);

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        const ANY: [usize; 5] = [2, 5, 29, 37, 0];
        let wanted: Vec<usize> = self.0.arcs().map(|arc| arc as usize).collect();
        let mut is_silent = true;
        for usage in usages {
            let arcs = usage?.to_decoded_oid();
            if arcs == wanted || arcs == ANY {
                return Ok(());
            }
            is_silent = false;
        }
        if is_silent { Ok(()) } else { Err(Error::ExtensionValueInvalid) }
    }
}

fn in_words(error: &Error) -> String {
    match error {
        Error::UnknownIssuer => "was not issued by it".to_owned(),
        Error::CertExpired { .. } | Error::CertNotValidYet { .. } => {
            "is never valid together with its issuers".to_owned()
        }
        Error::ExtensionValueInvalid => "is not for this usage, or an issuer is not".to_owned(),
        Error::EndEntityUsedAsCa => "has an issuer that is no authority".to_owned(),
        Error::CaUsedAsEndEntity => "is itself an authority's certificate".to_owned(),
        Error::UnsupportedCriticalExtension => "has a critical extension that is not known".to_owned(),
        Error::PathLenConstraintViolated => "has more issuers between it and the root than they allow".to_owned(),
        other => format!("does not chain up ({other:?})"),
    }
}
