//! By whom a statement is signed: what is said of an SBOM, which nobody judges by itself.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::bench::Bench;
use super::life::Lens;
use crate::digest::Digest;
use crate::facts::{Facts, Tried};
use crate::key::AnchorId;
use crate::policy::{TrustSet, TrustView};
use crate::reference::Repository;
use crate::signature::SignatureId;

/// A key that a signature is valid under, and that counts for its repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signer {
    /// The key's name in the trust folder.
    pub key: String,
    /// The key.
    pub anchor: AnchorId,
}

/// By whom something is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// No signature names it.
    No,
    /// Signatures name it, and none is by a key that counts.
    Untrusted,
    /// None is yet known to be by a key that counts; a check is missing, or the trust folder.
    Pending,
    /// By these keys, each once, in the order of their names.
    By(Vec<Signer>),
}

/// Says by whom a digest is signed, as far as these signatures say so.
///
/// A key counts where it is usable now and for the repository, whether a policy asks for it or not: this says who signed,
/// and not that the signed thing may be run. What is denied or corrupt is signed by nobody that is trusted. While the trust
/// folder is being edited, those count that count before and after.
pub fn signed(
    facts: &Facts,
    view: &TrustView,
    repository: &Repository,
    digest: Digest,
    signatures: &BTreeSet<SignatureId>,
    now: Timestamp,
) -> Signed {
    let under = |trust: &TrustSet| Bench { facts, trust, now }.signed_by(repository, digest, signatures);
    match view {
        _ if signatures.is_empty() => Signed::No,
        TrustView::Settled(set) => under(set),
        TrustView::Disturbed { settled, readable } => under(settled).and(under(readable)),
        TrustView::Starting | TrustView::Missing { .. } => Signed::Pending,
    }
}

impl Signed {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::By(mut signers), Self::By(others)) => {
                signers.retain(|signer| others.iter().any(|other| other.anchor == signer.anchor));
                if signers.is_empty() { Self::Untrusted } else { Self::By(signers) }
            }
            (Self::By(_), other) | (other, Self::By(_)) => other,
            (Self::Untrusted, _) | (_, Self::Untrusted) => Self::Untrusted,
            (one, _) => one,
        }
    }
}

impl Bench<'_> {
    fn signed_by(&self, repository: &Repository, digest: Digest, signatures: &BTreeSet<SignatureId>) -> Signed {
        let subject = self.subject(repository, digest);
        if self.facts.is_corrupt(digest) || self.denial(&subject).is_some() {
            return Signed::Untrusted;
        }
        let is_one = |number: &u32| {
            let row = self.facts.signature_row(*number).filter(|_| self.facts.is_checkable(*number));
            row.is_some_and(|row| signatures.contains(&row.id))
        };
        let numbers: Vec<u32> = self.facts.named_numbers(digest).filter(is_one).collect();
        let mut signers = Vec::new();
        let mut missing = false;
        let usable = self.trust.each_anchor().filter(|(_, anchor)| {
            Lens::Actual.admits(anchor.life.standing(self.now)) && anchor.scope.contains(repository, &digest)
        });
        for (id, anchor) in usable {
            let number = self.facts.anchor_number(id);
            let tried = |&signature: &u32| self.facts.tried(signature, number);
            if numbers.iter().map(tried).any(|tried| matches!(tried, Tried::Valid(_))) {
                signers.push(Signer { key: anchor.display_name().to_owned(), anchor: *id });
            }
            missing |= numbers.iter().map(tried).any(|tried| tried == Tried::Not);
        }
        signers.sort();
        match (signers.is_empty(), missing) {
            (false, _) => Signed::By(signers),
            (true, true) => Signed::Pending,
            (true, false) => Signed::Untrusted,
        }
    }
}
