//! What proves a key's signature: logs and timestamps of the folder's roots, and the first sight here.

use super::bench::{Bench, NoDemand};
use crate::facts::{Dated, Tried};
use crate::key::AnchorId;
use crate::keyless::{Check, Demands, Finding, TrustedRoot};
use crate::policy::{Anchor, CheckAnchor, KeyProof, Proof, Root};

/// What must prove a key's signature, under any of these roots.
pub(super) struct Proving<'a> {
    pub(super) by: &'a KeyProof,
    pub(super) roots: Vec<AnchorId>,
}

/// What came of looking for what proves a key's signature.
pub(super) enum Proven {
    Yes,
    /// Why not.
    No(Finding),
    /// Nobody has looked yet.
    NotTried,
}

/// How a key's signature stands to the end of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timely {
    /// It was made before, or there is no end.
    Yes,
    /// Nothing proves that but its first sight here.
    FirstSeen,
    /// Not, as far as anybody knows.
    No,
    /// Nobody has looked yet.
    NotTried,
}

impl<'a> Bench<'a> {
    /// Returns the roots that may be leaned on: the one that is named, else all, as far as they fit and are not too old.
    pub(super) fn roots(
        &self,
        wanted: Option<&'a str>,
        fits: impl Fn(&TrustedRoot) -> bool,
    ) -> Result<Vec<AnchorId>, NoDemand<'a>> {
        let named = |name: &str| wanted.is_none_or(|wanted| wanted == name);
        let fitting = self.trust.roots.iter().filter(|(name, root)| named(name) && fits(&root.root));
        let (old, fresh): (Vec<_>, Vec<_>) = fitting.partition(|(_, root)| self.trust.root_end(root).is_over(self.now));
        let roots: Vec<AnchorId> = fresh.into_iter().map(|(_, root)| root.id).collect();
        if roots.is_empty() && !old.is_empty() {
            return Err(NoDemand::RootTooOld(old_roots(&old)));
        }
        if roots.is_empty() {
            return Err(NoDemand::RootMissing(wanted.unwrap_or_default()));
        }
        Ok(roots)
    }

    /// Looks for what must prove a key's signature.
    pub(super) fn proven(&self, signature: u32, key: &AnchorId, proof: &Proving<'_>) -> Proven {
        let mut demands = Demands::key(self.now);
        if proof.by.proof == Proof::Timestamp {
            (demands.logs, demands.signed_timestamps) = (0, true);
        }
        let (mut missing, mut refused) = (false, None);
        for root in &proof.roots {
            let number = self.facts.anchor_number(&CheckAnchor::logged(key, root));
            missing |= self.facts.tried(signature, number) == Tried::Not;
            match self.facts.evidence(signature, number).map(|evidence| evidence.meets(&demands)) {
                Some(Ok(_)) => return Proven::Yes,
                Some(Err(finding)) => refused = refused.or(Some(finding)),
                None => {}
            }
        }
        match refused {
            _ if missing => Proven::NotTried,
            Some(finding) => Proven::No(finding),
            None => Proven::No(Finding::new(Check::Signature, "it does not verify")),
        }
    }

    /// Says whether a key's signature was made before the key's end, as far as the folder's roots prove that, or its first
    /// sight here does.
    pub(super) fn timely(&self, signature: u32, key: &AnchorId, anchor: &Anchor) -> Timely {
        let Some(end) = anchor.life.ends.before() else { return Timely::Yes };
        let (mut missing, mut proven) = (false, None);
        for root in self.trust.roots.values().filter(|root| !self.trust.root_end(root).is_over(self.now)) {
            let number = self.facts.anchor_number(&CheckAnchor::dated(key, &root.id));
            match self.facts.dated(signature, number) {
                Dated::At(time) => proven = [proven, Some(time)].into_iter().flatten().min(),
                Dated::Unproven => {}
                Dated::Not => missing = true,
            }
        }
        let ends = anchor.life.ends;
        let seen = self.facts.signature_seen(signature);
        let seen_before = ends.revoked.is_none() && seen.zip(ends.retired).is_some_and(|(seen, end)| seen < end);
        match proven {
            Some(time) if time < end => Timely::Yes,
            _ if missing => Timely::NotTried,
            None if seen_before => Timely::FirstSeen,
            None | Some(_) => Timely::No,
        }
    }
}

/// Names roots that are too old, each with its date.
fn old_roots(roots: &[(&String, &Root)]) -> String {
    let shown = roots.iter().map(|(name, root)| match root.dated() {
        Some(dated) => format!("{name}, as of {dated}"),
        None => format!("{name}, of no known date"),
    });
    shown.collect::<Vec<_>>().join("; ")
}
