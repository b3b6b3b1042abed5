//! Claims of signatures as they are found beside images, in every format.

use super::demand::{Check, Finding};
use super::evidence::{Evidence, examine};
use super::root::TrustedRoot;
use super::{Claim, ClassicEvidence, GivenDigest, Message, Signed, Signer};
use crate::key::PublicKey;
use crate::signature::FoundSignature;
use crate::signature::found::Beside;

/// Examines a signature that is by a certificate's holder; `None` where it is not, or does not verify under its certificate.
pub fn examine_found(found: &FoundSignature, root: &TrustedRoot) -> Option<Evidence> {
    examine_by(found, None, root).filter(|evidence| evidence.certificate.is_some())
}

/// Examines a signature that is by a key; `None` where it is not, or does not verify.
pub fn examine_by_key(found: &FoundSignature, key: &PublicKey, root: &TrustedRoot) -> Option<Evidence> {
    examine_by(found, Some(key), root)
}

/// Returns what is beside a signature and broken, under this root: what cannot be read, and what proves nothing whomever one
/// trusts. By one of `keys`, or by the certificate that is with it.
pub fn broken_beside(found: &FoundSignature, keys: &[PublicKey], root: &TrustedRoot) -> Vec<Finding> {
    let classic = classic_of(found);
    let by_key = keys.iter().find_map(|key| examine_by(found, Some(key), root));
    let evidence = by_key.or_else(|| examine_by(found, None, root));
    classic.faults.into_iter().chain(evidence.iter().flat_map(Evidence::broken)).collect()
}

fn classic_of(found: &FoundSignature) -> ClassicEvidence {
    match &found.beside {
        Beside::Annotations(annotations) => ClassicEvidence::read(annotations),
        Beside::Bundle(_) | Beside::Nothing => ClassicEvidence::default(),
    }
}

fn examine_by(found: &FoundSignature, key: Option<&PublicKey>, root: &TrustedRoot) -> Option<Evidence> {
    if found.fault.is_some() || found.signature.is_empty() {
        return None;
    }
    let classic = classic_of(found);
    let claim = claim_of(found, &classic, key).ok()?;
    Some(examine(&claim, root)).filter(|evidence| evidence.signature.is_ok())
}

/// Makes the claim of a signature; `evidence` is what its annotations say, if it is a classic one.
///
/// # Errors
/// Fails where it is not by the kind of signer that is asked for.
pub fn claim_of<'a>(
    found: &'a FoundSignature,
    evidence: &'a ClassicEvidence,
    key: Option<&'a PublicKey>,
) -> Result<Claim<'a>, Finding> {
    let annotations = match &found.beside {
        Beside::Bundle(bundle) => return Claim::of_bundle(bundle, None, key),
        Beside::Annotations(annotations) => annotations,
        Beside::Nothing => return Err(Finding::new(Check::Signature, "there is nothing to check")),
    };
    let (signed, stamped) = match &found.payload_type {
        None => (Signed::Message(Message::Bytes(&found.payload)), &found.signature),
        Some(payload_type) => {
            let written = Some(&annotations.envelope[..]);
            (Signed::Envelope { payload_type, payload: &found.payload, written }, &annotations.envelope)
        }
    };
    let signer = match key {
        Some(key) => Signer::Key(key),
        None => evidence
            .signer()
            .ok_or_else(|| Finding::new(Check::Certificate, "no certificate was found on the signature"))?,
    };
    Ok(Claim {
        signed,
        signature: &found.signature,
        digest: GivenDigest::NotAsked,
        key_id: found.key_id.as_deref(),
        signer,
        entries: &evidence.entries,
        timestamps: &evidence.timestamps,
        stamped,
    })
}
