//! By whom a statement is signed: what is said of an SBOM, which nobody judges by itself.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::bench::{Bench, Held, Who};
use super::life::Lens;
use super::proof::Timely;
use crate::digest::Digest;
use crate::facts::{Facts, Tried};
use crate::key::AnchorId;
use crate::policy::{TrustSet, TrustView};
use crate::reference::Repository;
use crate::signature::SignatureId;

/// Somebody whose signature counts for a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signer {
    /// A key.
    Key {
        /// Its name in the trust folder.
        name: String,
        /// The key.
        anchor: AnchorId,
    },
    /// A certificate's holder whom a policy for the repository asks for.
    Identity(Who),
}

impl Signer {
    /// Says whether both are the same, whatever a key is called.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key { anchor: one, .. }, Self::Key { anchor: other, .. }) => one == other,
            (one, other) => one == other,
        }
    }
}

/// By whom something is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// No signature names it.
    No,
    /// Signatures name it, and none is by anybody who counts.
    Untrusted,
    /// None is yet known to be by anybody who counts; a check is missing, or the trust folder.
    Pending,
    /// By these, each once, keys first, in the order of their names.
    By(Vec<Signer>),
}

/// Says by whom a digest is signed, as far as these signatures say so.
///
/// A key counts where it is usable now and for the repository, whether a policy asks for it or not; an identity counts where
/// a policy for the repository asks for it, under a root that may be leaned on, for nothing else says whose word is worth
/// anything. This says who signed, and not that the signed thing may be run. What is denied or corrupt is signed by nobody that is trusted. While the trust
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
                signers.retain(|signer| others.iter().any(|other| other.is(signer)));
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
            for &signature in &numbers {
                match (self.facts.tried(signature, number), self.timely(signature, id, anchor)) {
                    (Tried::Valid(_), Timely::Yes | Timely::FirstSeen) => {
                        signers.push(Signer::Key { name: anchor.display_name().to_owned(), anchor: *id });
                    }
                    (Tried::Not, _) | (Tried::Valid(_), Timely::NotTried) => missing = true,
                    (Tried::Valid(_), Timely::No) | (Tried::Invalid, _) => {}
                }
            }
        }
        let authorities = subject.policies.iter().filter(|(_, policy)| policy.unsupported.is_none());
        let authorities = authorities.flat_map(|(_, policy)| &policy.authorities);
        for demand in authorities.filter_map(|authority| self.demand(&subject, authority).ok()) {
            let super::bench::Signer::Identity { keyless, roots } = &demand.signer else { continue };
            for (signature, root) in numbers.iter().flat_map(|one| roots.iter().map(move |root| (*one, root))) {
                match self.identity(signature, root, keyless) {
                    Held::By { who, denied: None } => signers.push(Signer::Identity(who)),
                    Held::NotTried => missing = true,
                    Held::By { .. } | Held::Refused(_) => {}
                }
            }
        }
        signers.sort();
        signers.dedup();
        match (signers.is_empty(), missing) {
            (false, _) => Signed::By(signers),
            (true, true) => Signed::Pending,
            (true, false) => Signed::Untrusted,
        }
    }
}
