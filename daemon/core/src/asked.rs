//! Signatures held against what somebody asks for at this moment, beside all stored trust.
//!
//! [`Asked`] is what flags of a command line come to: keys or identities, a trusted root, and how much of the evidence must be
//! there. [`Asked::holds`] says of one signature whether it is one of those that are asked for, about this digest, and what was
//! checked. Nothing is remembered, and nothing that a signature brings widens what is asked for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::digest::Digest;
use crate::key::{AnchorId, PublicKey};
use crate::keyless::{
    Accepted, CertificateFacts, Check, ClassicEvidence, Demands, Evidence, Finding, Identity, TrustedRoot, claim_of,
    examine,
};
use crate::signature::dsse::{COSIGN_SIGN, Statement};
use crate::signature::found::Beside;
use crate::signature::{Format, FoundSignature, Says};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose signatures count.
    pub signers: Signers,
    /// Whom logs, authorities and their times are believed by; an empty root proves nothing.
    pub root: TrustedRoot,
    /// What the evidence must show.
    pub demands: Demands,
    /// Whether what is in a classic format must name the digest.
    pub claims: Claims,
    /// What must be said beside the digest.
    pub annotations: BTreeMap<String, String>,
    /// What must be said.
    pub says: Wanted,
}

/// Whose signatures count.
#[derive(Clone, Debug)]
pub enum Signers {
    /// Those of any of these keys.
    Keys(Vec<PublicKey>),
    /// Those of the identities in the demands.
    Identities,
}

/// Whether what a classic signature or attestation says is checked: cosign's `--check-claims`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claims {
    /// It must name the digest.
    Checked,
    /// It may name any.
    Ignored,
}

/// What must be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That the digest is signed.
    Signature,
    /// That, or a bundle with any attestation, as cosign has it.
    SignatureOrBundle,
    /// A predicate of this type; of any type where there is none.
    Attestation(Option<String>),
}

/// A signature that is as asked for, and what was checked.
#[derive(Clone, Debug)]
pub struct Held {
    /// The key that made it.
    pub key: Option<AnchorId>,
    /// The certificate of who made it.
    pub certificate: Option<CertificateFacts>,
    /// What the evidence showed.
    pub accepted: Accepted,
    /// Whether it was checked to name the digest.
    pub names_digest: bool,
    /// What is beside it and broken, though nobody asked for it.
    pub broken: Vec<Finding>,
}

/// How much of the evidence is asked for, by cosign's flags.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strictness {
    /// `--insecure-ignore-tlog`: no entry in a transparency log is asked for.
    pub ignore_log: bool,
    /// `--insecure-ignore-sct`: no promise of a certificate transparency log is asked for.
    pub ignore_sct: bool,
    /// `--use-signed-timestamps`: a timestamp is asked for.
    pub signed_timestamps: bool,
    /// `--allow-certificate-chain`: a bundle v0.3 may bring a chain.
    pub certificate_chain: bool,
}

impl Strictness {
    /// Returns what evidence must show of these identities' signatures; of keys' where there are none.
    ///
    /// What a key signed needs no log, unless a root says by which logs to check.
    pub fn demands(self, identities: Vec<Identity>, root: Option<&TrustedRoot>, now: Timestamp) -> Demands {
        let by_key = identities.is_empty();
        let mut demands = Demands::keyless(identities, now);
        demands.signed_timestamps = self.signed_timestamps;
        demands.certificate_chain = self.certificate_chain;
        demands.sct = !self.ignore_sct && !by_key;
        demands.logs = usize::from(!self.ignore_log && (!by_key || root.is_some()));
        demands
    }
}

impl Asked {
    /// Says whether a signature is of the kind that is asked for at all, whoever made it.
    pub fn concerns(&self, found: &FoundSignature) -> bool {
        // A classic attestation that cannot be read does not say what it attests; a signature it is not.
        let signs = found.says == Says::Signed && found.format != Format::Attestation;
        match (&self.says, &found.says) {
            (Wanted::Signature, _) => signs,
            (Wanted::SignatureOrBundle, _) => signs || found.format == Format::Bundle,
            (Wanted::Attestation(_), Says::Attested(_)) => true,
            // What cannot be read may be one.
            (Wanted::Attestation(_), Says::Signed) => found.fault.is_some() && found.format != Format::SimpleSigning,
        }
    }

    /// Holds a signature that was found at a digest, or names it, against what is asked for.
    ///
    /// # Errors
    /// Fails with the first check that fails.
    pub fn holds(&self, found: &FoundSignature, digest: Digest) -> Result<Held, Finding> {
        if let Some(fault) = &found.fault {
            return Err(Finding::new(Check::Artifact, fault.clone()));
        }
        if !found.format.is_checked() {
            return Err(Finding::new(
                Check::Signature,
                format!("{} is a format that is not checked", found.format.name()),
            ));
        }
        let held = match &self.signers {
            Signers::Identities => self.by_certificate(found)?,
            Signers::Keys(keys) => self.by_keys(found, keys)?,
        };
        let names_digest = self.check_digest(found, digest)?;
        self.check_type(found)?;
        self.check_annotations(found, digest)?;
        Ok(Held { names_digest, ..held })
    }

    fn by_certificate(&self, found: &FoundSignature) -> Result<Held, Finding> {
        let evidence = self.evidence(found)?;
        let claim = claim_of(found, &evidence, None)?;
        let proven = examine(&claim, &self.root);
        let accepted = proven.meets(&self.demands)?;
        let broken = all_broken(&evidence, &proven);
        Ok(Held { key: None, certificate: proven.certificate, accepted, names_digest: false, broken })
    }

    /// Tries each key; where none fits, the words are those of the first.
    fn by_keys(&self, found: &FoundSignature, keys: &[PublicKey]) -> Result<Held, Finding> {
        let evidence = self.evidence(found)?;
        let mut first = None;
        for key in keys {
            let proven = claim_of(found, &evidence, Some(key)).map(|claim| examine(&claim, &self.root));
            match proven.and_then(|proven| Ok((proven.meets(&self.demands)?, all_broken(&evidence, &proven)))) {
                Ok((accepted, broken)) => {
                    return Ok(Held { key: Some(key.id()), certificate: None, accepted, names_digest: false, broken });
                }
                Err(finding) => first = first.or(Some(finding)),
            }
        }
        Err(first.unwrap_or_else(|| Finding::new(Check::Signer, "no key is given")))
    }

    /// Reads what came with a classic signature. What is asked for and broken is told by its own name.
    fn evidence(&self, found: &FoundSignature) -> Result<ClassicEvidence, Finding> {
        let Beside::Annotations(annotations) = &found.beside else { return Ok(ClassicEvidence::default()) };
        let evidence = ClassicEvidence::read(annotations);
        let by_certificate = matches!(self.signers, Signers::Identities);
        let is_asked_for = |fault: &&Finding| match fault.check {
            Check::Certificate | Check::CertificateChain => by_certificate,
            Check::LogEntry => self.demands.logs > 0,
            _ => self.demands.signed_timestamps,
        };
        match evidence.faults.iter().find(is_asked_for) {
            Some(fault) => Err(fault.clone()),
            None => Ok(evidence),
        }
    }

    /// Says whether the digest was compared. What a bundle names always is, as with cosign.
    fn check_digest(&self, found: &FoundSignature, digest: Digest) -> Result<bool, Finding> {
        if found.format != Format::Bundle && self.claims == Claims::Ignored {
            return Ok(false);
        }
        match found.names {
            Some(named) if named == digest => Ok(true),
            Some(named) => Err(Finding::new(Check::Artifact, format!("it is about another digest: {named}"))),
            None => Err(Finding::new(Check::Artifact, "it names no digest")),
        }
    }

    fn check_type(&self, found: &FoundSignature) -> Result<(), Finding> {
        let Wanted::Attestation(Some(wanted)) = &self.says else { return Ok(()) };
        match found.says.predicate_type() {
            Some(given) if given == wanted => Ok(()),
            given => {
                let given = given.unwrap_or(COSIGN_SIGN);
                Err(Finding::new(Check::Artifact, format!("its predicate is of the type {given}, not {wanted}")))
            }
        }
    }

    fn check_annotations(&self, found: &FoundSignature, digest: Digest) -> Result<(), Finding> {
        if self.annotations.is_empty() {
            return Ok(());
        }
        let said = said(found, digest);
        for (name, wanted) in &self.annotations {
            if said.get(name) != Some(wanted) {
                let words = match said.get(name) {
                    None => format!("it does not say {name}={wanted}"),
                    Some(other) => format!("it says {name}={other}, not {wanted}"),
                };
                return Err(Finding::new(Check::Artifact, words));
            }
        }
        Ok(())
    }
}

impl Held {
    /// Returns the names of the checks that ran.
    pub fn checks(&self, asked_annotations: bool) -> Vec<&'static str> {
        let is_keyless = self.key.is_none() && self.certificate.is_some();
        let accepted = &self.accepted;
        let ran = [
            (true, Check::Signature.name()),
            (self.names_digest, "digest"),
            (asked_annotations, "annotations"),
            (!accepted.entries.is_empty(), Check::LogEntry.name()),
            (!accepted.timestamps.is_empty(), Check::Timestamp.name()),
            (accepted.chain.is_some(), Check::CertificateChain.name()),
            (accepted.sct, Check::Sct.name()),
            (is_keyless, Check::Identity.name()),
        ];
        ran.into_iter().filter(|(ran, _)| *ran).map(|(_, name)| name).collect()
    }

    /// Returns a classic layer's log entry and timestamp as they are written, where they were checked.
    pub fn written(&self, found: &FoundSignature) -> (String, String) {
        let Beside::Annotations(annotations) = &found.beside else { return Default::default() };
        let keep = |checked: bool, text: &String| if checked { text.clone() } else { String::new() };
        (
            keep(!self.accepted.entries.is_empty(), &annotations.log_entry),
            keep(!self.accepted.timestamps.is_empty(), &annotations.timestamp),
        )
    }
}

/// Returns what is beside a signature and broken: what cannot be read, and what proves nothing whomever one trusts.
fn all_broken(classic: &ClassicEvidence, proven: &Evidence) -> Vec<Finding> {
    classic.faults.iter().cloned().chain(proven.broken()).collect()
}

/// Returns what a signature says beside the digest: a payload's `optional`, or a subject's annotations.
pub fn said(found: &FoundSignature, digest: Digest) -> BTreeMap<String, String> {
    if found.format != Format::SimpleSigning {
        let statement = Statement::parse(&found.payload).ok();
        let subjects = statement.map(|statement| statement.subjects).unwrap_or_default();
        let about = subjects.into_iter().find(|subject| subject.digests.contains(&digest));
        return about.map(|subject| subject.annotations).unwrap_or_default();
    }
    // It was read before, without a field that is there twice; names of fields are in any case (facts/sigstore.md 2.1).
    let Ok(Value::Object(payload)) = serde_json::from_slice(&found.payload) else { return BTreeMap::new() };
    let optional = payload.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("optional"));
    let Some((_, Value::Object(optional))) = optional else { return BTreeMap::new() };
    let texts = optional.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
    texts.collect()
}

#[cfg(test)]
mod tests;
