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
    if found.fault.is_some() || found.signature.is_empty() {
        return None;
    }
    let classic = match &found.beside {
        Beside::Annotations(annotations) => ClassicEvidence::read(annotations),
        Beside::Bundle(_) | Beside::Nothing => ClassicEvidence::default(),
    };
    let claim = claim_of(found, &classic, None).ok()?;
    Some(examine(&claim, root)).filter(|evidence| evidence.signature.is_ok() && evidence.certificate.is_some())
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
