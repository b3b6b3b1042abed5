//! Evidence: what a claim proves under a trusted root, and what of it is broken. Facts only.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::chain::{CODE_SIGNING, paths};
use super::demand::{Check, Finding};
use super::key_id;
use super::log::{self, Entry};
use super::message::{Hashes, Message};
use super::root::{Authority, TrustedRoot};
use super::sct::{self, Sct};
use super::timestamp::{NO_AUTHORITY, ProvenTime, Token};
use super::window::Window;
use super::{ChainForm, Claim, GivenDigest, Signed, Signer};
use crate::check::SignedHash;
use crate::key::{AnchorId, PublicKey};
use crate::signature::dsse;

/// What was found out about a claim.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The hash that the signature is valid over, under the claim's own signer; or why it is not valid.
    pub signature: Result<SignedHash, Finding>,
    /// The key that the reader chose; `None` where the signer is a certificate's holder.
    pub key: Option<AnchorId>,
    /// The certificate's facts; `None` where the signer is a key, or the certificate cannot be read.
    pub certificate: Option<CertificateFacts>,
    /// Each log entry, in the claim's order.
    pub entries: Vec<Entry>,
    /// Some entry claims a time, proven or not.
    pub(super) claims_time: bool,
    /// Some entry is there twice.
    pub(super) has_doubles: bool,
    /// Each timestamp, in the claim's order: who signed which time, or what is wrong with it.
    pub timestamps: Vec<Result<ProvenTime, String>>,
}

/// What a certificate says, and who stands behind it.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// The SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// When it is valid by itself.
    pub validity: Window,
    /// Who it is for: the first URI, else the first e-mail address, else Fulcio's OtherName.
    pub identity: Option<String>,
    /// The OIDC issuer.
    pub issuer: Option<String>,
    /// Fulcio's extensions by their last number (facts/sigstore.md 6.4).
    pub extensions: BTreeMap<u8, String>,
    /// The ways to a trusted authority.
    pub chains: Vec<ChainFacts>,
    /// Why other authorities did not issue it, in words.
    pub chain_faults: Vec<String>,
    /// How it came.
    pub(super) form: ChainForm,
    /// What is wrong with the certificates that came with it.
    pub(super) more_fault: Option<String>,
}

/// A way from a certificate to a trusted authority.
#[derive(Clone, Debug)]
pub struct ChainFacts {
    /// The authority.
    pub authority: AnchorId,
    /// When the certificate, everyone between and the authority are valid.
    pub window: Window,
    /// The logs that vouched for the certificate, as issued this way.
    pub scts: Vec<Sct>,
    /// What is wrong with other SCTs, in words.
    pub sct_faults: Vec<String>,
}

/// Examines a claim under a trusted root: pure arithmetic, without a clock.
pub fn examine(claim: &Claim<'_>, root: &TrustedRoot) -> Evidence {
    let encoded = match &claim.signed {
        Signed::Message(_) => Vec::new(),
        Signed::Envelope { payload_type, payload, .. } => dsse::pae(payload_type, payload),
    };
    let message = match &claim.signed {
        Signed::Message(message) => *message,
        Signed::Envelope { .. } => Message::Bytes(&encoded),
    };
    let hashes = message.hashes();
    let leaf = claim.signer.certificate().map(Certificate::parse);
    let signature = check_signature(claim, &message, &hashes, &leaf);
    let leaf = leaf.and_then(Result::ok);
    let validity = leaf.as_ref().map(|leaf| leaf.validity);
    let entries = claim.entries.iter().map(|entry| log::examine(entry, claim, &hashes, validity, root)).collect();
    let names: Vec<_> = claim.entries.iter().map(|entry| (&entry.log_id, entry.log_index)).collect();
    let has_doubles =
        names.iter().enumerate().any(|(place, name)| names.iter().skip(place + 1).any(|other| other == name));
    let timestamps = claim.timestamps.iter().map(|bytes| {
        let token = Token::parse(bytes).map_err(|error| error.to_string())?;
        token.verify(claim.stamped, &root.timestamp_authorities)
    });
    Evidence {
        signature,
        key: claim.signer.key().map(PublicKey::id),
        certificate: leaf.map(|leaf| certificate_facts(&leaf, claim.signer, root)),
        entries,
        claims_time: claim.entries.iter().any(|entry| entry.integrated_time.is_some()),
        has_doubles,
        timestamps: timestamps.collect(),
    }
}

fn check_signature(
    claim: &Claim<'_>,
    message: &Message<'_>,
    hashes: &Hashes,
    leaf: &Option<Result<Certificate, super::Malformed>>,
) -> Result<SignedHash, Finding> {
    match claim.digest {
        GivenDigest::NotAsked => {}
        GivenDigest::Given(None) => {
            return Err(Finding::new(Check::Artifact, "the bundle does not say which message it signs"));
        }
        GivenDigest::Given(Some(given)) => {
            if hashes.by_name(given.algorithm).is_none_or(|hash| hash != given.value) {
                return Err(Finding::new(Check::Artifact, "it is a signature over another message"));
            }
        }
    }
    let key = match leaf {
        None => claim.signer.public_key(),
        Some(Err(error)) => return Err(Finding::new(Check::Certificate, error.to_string())),
        Some(Ok(leaf)) => PublicKey::from_der(&leaf.spki).ok(),
    };
    let key = key
        .ok_or_else(|| Finding::new(Check::Certificate, "the certificate's key is of a kind that is not supported"))?;
    if let Some(key_id) = claim.key_id.filter(|key_id| !key_id::is_of(key_id, &key)) {
        let shown = crate::protojson::shown(key_id);
        return Err(Finding::new(Check::Signature, format!("its envelope names another key ({shown:?})")));
    }
    message.check(claim.signature, &key).ok_or_else(|| {
        Finding::new(Check::Signature, "it does not verify: it is by another key, or over something else")
    })
}

fn certificate_facts(leaf: &Certificate, signer: Signer<'_>, root: &TrustedRoot) -> CertificateFacts {
    let (more, form) = match signer {
        Signer::Certificate { more, form, .. } => (more, form),
        Signer::Key(_) => (&[][..], ChainForm::Single),
    };
    let (mut chains, mut chain_faults) = (Vec::new(), Vec::new());
    for authority in &root.authorities {
        match chains_to(authority, leaf, more, form, root) {
            Ok(found) => chains.extend(found),
            Err(words) => chain_faults.push(words),
        }
    }
    CertificateFacts {
        fingerprint: Sha256::digest(&leaf.der).into(),
        validity: leaf.validity,
        identity: leaf.identity.clone(),
        issuer: leaf.oidc_issuer().map(str::to_owned),
        extensions: leaf.extensions.clone(),
        chains,
        chain_faults,
        form,
        more_fault: more_fault(more, form),
    }
}

fn chains_to(
    authority: &Authority,
    leaf: &Certificate,
    more: &[bytes::Bytes],
    form: ChainForm,
    root: &TrustedRoot,
) -> Result<Vec<ChainFacts>, String> {
    let is_for_code = leaf.usages.is_some() && leaf.allows(CODE_SIGNING);
    if !is_for_code {
        return Err("is not for signing code".to_owned());
    }
    let more = match form {
        ChainForm::NewBundle => more,
        ChainForm::Classic if authority.chain.len() == 1 => more,
        ChainForm::Single | ChainForm::OldBundle | ChainForm::Classic => &[],
    };
    let found = paths(leaf, &authority.chain, more, CODE_SIGNING)?;
    let facts = found.into_iter().map(|path| {
        let (scts, sct_faults) = sct::check(leaf, &path.issuer_spki, &root.ct_logs);
        ChainFacts { authority: authority.id, window: path.window.and(authority.window), scts, sct_faults }
    });
    Ok(facts.collect())
}

/// Looks at the certificates that came with a bundle v0.3: authorities', and no root.
fn more_fault(more: &[bytes::Bytes], form: ChainForm) -> Option<String> {
    if form != ChainForm::NewBundle {
        return None;
    }
    more.iter().find_map(|der| match Certificate::parse(der) {
        Err(error) => Some(format!("{error} in the bundle's chain")),
        Ok(one) if one.issuer == one.subject => Some("the bundle's chain has a root in it".to_owned()),
        Ok(one) if !one.is_ca => Some("the bundle's chain has a certificate in it that is no authority's".to_owned()),
        Ok(_) => None,
    })
}

impl Evidence {
    /// Returns what is there and broken, whomever one trusts: [`Self::findings`] without what is only by somebody else.
    pub fn broken(&self) -> Vec<Finding> {
        let mut found = self.findings();
        found.retain(|finding| {
            finding.check != Check::CertificateChain && ![NO_AUTHORITY, log::UNKNOWN_LOG].contains(&&*finding.words)
        });
        found
    }

    /// Returns everything that is there and broken, or proves nothing, for people to read: whether it matters is for
    /// [`Demands`](super::Demands) to say.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.signature.as_ref().err().cloned().into_iter().collect();
        for entry in &self.entries {
            if let Entry::NotCounted(words) | Entry::Broken(words) = entry {
                found.push(Finding::new(Check::LogEntry, words.clone()));
            }
        }
        let stamps = self.timestamps.iter().filter_map(|stamp| stamp.as_ref().err());
        found.extend(stamps.map(|words| Finding::new(Check::Timestamp, words.clone())));
        if let Some(certificate) = &self.certificate {
            if certificate.chains.is_empty() {
                let faults = certificate.chain_faults.iter().map(|words| format!("the certificate {words}"));
                found.extend(faults.map(|words| Finding::new(Check::CertificateChain, words)));
            }
            let more = certificate.more_fault.iter();
            found.extend(more.map(|words| Finding::new(Check::CertificateChain, words.clone())));
            let scts = certificate.chains.iter().flat_map(|chain| &chain.sct_faults);
            found.extend(scts.map(|words| Finding::new(Check::Sct, words.clone())));
        }
        found
    }
}
