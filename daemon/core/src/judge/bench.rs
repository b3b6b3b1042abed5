//! What holds for a subject by itself, under one set of trust at one instant.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use super::life::{Lens, is_demanded};
use super::proof::{Proven, Proving, Timely};
use crate::check::SignedHash;
use crate::digest::Digest;
use crate::facts::{Facts, Holding, Tried};
use crate::key::AnchorId;
use crate::keyless::{Demands, Finding};
use crate::policy::{Anchor, AttestationDemand, Authority, AuthorityKind, Keyless, Policy, Proof, TrustSet};
use crate::reference::Repository;
use crate::verdict::{Code, Reason, State};

/// The most indexes above a subject that are looked at. Whoever nests more is not accepted through them.
pub(super) const MAX_ANCESTORS: usize = 1000;

/// What is judged with: facts, one set of trust, an instant.
#[derive(Clone, Copy)]
pub(super) struct Bench<'a> {
    pub(super) facts: &'a Facts,
    pub(super) trust: &'a TrustSet,
    pub(super) now: Timestamp,
}

/// A subject, with what of facts and trust is about it.
pub(super) struct Subject<'a> {
    pub(super) repository: &'a Repository,
    pub(super) digest: Digest,
    place: Option<u32>,
    /// The policies that match it.
    pub(super) policies: Vec<(&'a str, &'a Policy)>,
    /// What signs it and can be checked, wherever it was found.
    pub(super) signatures: Vec<u32>,
    /// What attests something about it and can be checked, wherever it was found.
    pub(super) attestations: Vec<u32>,
}

impl Subject<'_> {
    /// Returns everything that names it and can be checked.
    pub(super) fn statements(&self) -> impl Iterator<Item = u32> {
        self.signatures.iter().chain(&self.attestations).copied()
    }
}

/// A signature that counts.
#[derive(Clone)]
pub(super) struct Counted<'a> {
    pub(super) signature: u32,
    pub(super) id: AnchorId,
    /// The key; `None` where a certificate's holder signed, under the root of that id.
    pub(super) anchor: Option<&'a Anchor>,
    /// The name of the key file, or of the authority that the key is written into; or who signed.
    pub(super) name: Cow<'a, str>,
    /// It counts only because it was first seen before its key was retired.
    pub(super) by_first_sight: bool,
}

/// What an acceptance rests on.
pub(super) struct Basis<'a> {
    /// Verified or allowed.
    pub(super) state: State,
    pub(super) counted: Vec<Counted<'a>>,
    /// The policies that hold only by `static: pass`.
    pub(super) passes: Vec<&'a str>,
}

/// An acceptance, by the subject itself or through an index.
pub(super) struct Acceptance<'a> {
    pub(super) through: Option<&'a Subject<'a>>,
    pub(super) basis: Basis<'a>,
}

/// What comes of a policy.
pub(super) enum Outcome<'a> {
    /// It holds by these signatures.
    Signed(Vec<Counted<'a>>),
    /// It holds by `static: pass`.
    Passes,
    /// It does not hold.
    Fails,
}

impl Outcome<'_> {
    pub(super) fn holds(&self) -> bool {
        !matches!(self, Self::Fails)
    }
}

/// What is asked for: who, and what must be signed.
pub(super) struct Demand<'a> {
    pub(super) signer: Signer<'a>,
    pub(super) name: Cow<'a, str>,
    /// The authority that asks, where one does: it may ask for a format, a source, attestations.
    pub(super) authority: Option<&'a Authority>,
}

impl Demand<'_> {
    /// Says whether a key's signature over this hash is one that is asked for.
    pub(super) fn takes(&self, signed: SignedHash) -> bool {
        match &self.signer {
            Signer::Key { anchor, hash, .. } => is_demanded(signed, anchor, *hash),
            Signer::Identity { .. } => false,
        }
    }
}

/// Who is asked for.
pub(super) enum Signer<'a> {
    /// A key, and what must prove its signature.
    Key { id: AnchorId, anchor: &'a Anchor, hash: Option<SignedHash>, proof: Option<Proving<'a>> },
    /// Any of some identities, under any of these roots.
    Identity { keyless: &'a Keyless, roots: Vec<AnchorId> },
}

/// Who a certificate is for, and who vouched for that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The identity.
    pub subject: String,
    /// The OIDC issuer.
    pub issuer: String,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.issuer)
    }
}

/// What came of holding a signature against identities.
pub(super) enum Held<'a> {
    /// It is by this one, who may be denied, with the reason.
    By { who: Who, denied: Option<&'a str> },
    /// It is not, and why, where it is a certificate's holder's at all.
    Refused(Option<Finding>),
    /// Nobody has looked yet.
    NotTried,
}

/// Why an authority asks for nobody whom a signature could be made with.
pub(super) enum NoDemand<'a> {
    Unsupported(&'a str),
    KeyMissing(&'a str),
    RootMissing(&'a str),
    /// What they are called, and their dates.
    RootTooOld(String),
    NotForRepository(&'a str),
    StaticPass,
    StaticFail(Option<&'a str>),
}

impl<'a> Bench<'a> {
    pub(super) fn subject(&self, repository: &'a Repository, digest: Digest) -> Subject<'a> {
        let policies = self.trust.policies.iter().filter(|(_, policy)| policy.matches(repository, &digest));
        let statements = self.facts.named_numbers(digest).filter(|&number| self.facts.is_checkable(number));
        let signs = |number: &u32| self.facts.predicate_type(*number).is_none();
        let (signatures, attestations): (Vec<u32>, Vec<u32>) = statements.partition(signs);
        Subject {
            repository,
            digest,
            place: self.facts.place(repository, digest),
            policies: policies.map(|(name, policy)| (name.as_str(), policy)).collect(),
            signatures: self.facts.in_order(signatures),
            attestations: self.facts.in_order(attestations),
        }
    }

    /// Says why nothing may rescue the subject, if so.
    pub(super) fn denial(&self, subject: &Subject<'_>) -> Option<Reason> {
        if let Some(reason) = self.trust.deny.digests.get(&subject.digest) {
            let detail = Some(reason.clone()).filter(|reason| !reason.is_empty());
            return Some(Reason { code: Code::DeniedDigest, detail });
        }
        let (name, policy) = subject.policies.iter().find(|(_, policy)| policy.denies())?;
        let message = policy.authorities.iter().find_map(|authority| match &authority.kind {
            AuthorityKind::StaticFail { message } => message.as_deref(),
            _ => None,
        });
        Some(Reason::about(Code::StaticFail, message.map_or_else(|| (*name).to_owned(), |m| format!("{name}: {m}"))))
    }

    /// Returns the indexes of the repository above a subject that acceptance may come down from, the nearest first.
    ///
    /// One that is corrupt or denied is never accepted, and lets nothing through from above.
    pub(super) fn ancestors(&self, subject: &Subject<'_>) -> Vec<Subject<'a>> {
        let mut ancestors = Vec::new();
        let Some(place) = subject.place else { return ancestors };
        let mut seen = BTreeSet::from([place]);
        let mut wave = vec![place];
        while !wave.is_empty() {
            let mut above: Vec<(Digest, &'a Repository, u32)> = Vec::new();
            for &child in &wave {
                for parent in self.facts.parent_numbers(child) {
                    if seen.len() > MAX_ANCESTORS {
                        break;
                    }
                    if seen.insert(parent)
                        && let Some((repository, digest)) = self.facts.name_of(parent)
                    {
                        above.push((digest, repository, parent));
                    }
                }
            }
            // In an order that does not depend on who came first.
            above.sort_unstable_by_key(|(digest, ..)| *digest);
            wave.clear();
            for (digest, repository, place) in above {
                let index = self.subject(repository, digest);
                if !self.facts.is_corrupt(digest) && self.denial(&index).is_none() {
                    ancestors.push(index);
                    wave.push(place);
                }
            }
        }
        ancestors
    }

    /// Says whether, and on what, a subject is accepted without its indexes. The caller has seen that it is not denied.
    pub(super) fn own(&self, subject: &Subject<'a>, lens: Lens) -> Option<Basis<'a>> {
        if subject.policies.is_empty() {
            let counted = self.alone(subject, lens);
            return (!counted.is_empty()).then_some(Basis { state: State::Verified, counted, passes: Vec::new() });
        }
        let mut counted = Vec::new();
        let mut passes = Vec::new();
        for (name, policy) in &subject.policies {
            match self.policy(subject, policy, lens) {
                Outcome::Signed(signatures) => counted.extend(signatures),
                Outcome::Passes => passes.push(*name),
                Outcome::Fails => return None,
            }
        }
        if passes.is_empty() {
            return Some(Basis { state: State::Verified, counted, passes });
        }
        let alone = self.alone(subject, lens);
        if alone.is_empty() {
            return Some(Basis { state: State::Allowed, counted, passes });
        }
        counted.extend(alone);
        Some(Basis { state: State::Verified, counted, passes: Vec::new() })
    }

    /// Returns the signatures by keys that stand by themselves for the subject.
    fn alone(&self, subject: &Subject<'a>, lens: Lens) -> Vec<Counted<'a>> {
        if subject.signatures.is_empty() {
            return Vec::new();
        }
        if lens != Lens::Hopeful {
            // Few keys made a signature, so those are asked for first, and not each of thousands.
            let ids: BTreeSet<AnchorId> = subject
                .signatures
                .iter()
                .flat_map(|&signature| self.facts.valid_anchors(signature))
                .map(|(id, _)| *id)
                .collect();
            let known = ids.iter().filter_map(|id| Some((id, self.trust.anchor(id)?)));
            return known.flat_map(|(id, anchor)| self.alone_by(subject, id, anchor, lens)).collect();
        }
        self.trust.each_anchor().flat_map(|(id, anchor)| self.alone_by(subject, id, anchor, lens)).collect()
    }

    fn alone_by(&self, subject: &Subject<'a>, id: &AnchorId, anchor: &'a Anchor, lens: Lens) -> Vec<Counted<'a>> {
        if !anchor.alone.contains(subject.repository, &subject.digest) {
            return Vec::new();
        }
        let name = Cow::Borrowed(anchor.display_name());
        self.signed(
            subject,
            &Demand { signer: Signer::Key { id: *id, anchor, hash: None, proof: None }, name, authority: None },
            lens,
        )
    }

    /// Says what comes of a policy that matches. One signature is enough; where there is none, `static: pass` is.
    pub(super) fn policy(&self, subject: &Subject<'a>, policy: &'a Policy, lens: Lens) -> Outcome<'a> {
        if policy.unsupported.is_some() {
            return Outcome::Fails;
        }
        let mut outcome = Outcome::Fails;
        for authority in &policy.authorities {
            match self.demand(subject, authority) {
                Ok(demand) => {
                    let counted = self.signed(subject, &demand, lens);
                    if !counted.is_empty() {
                        return Outcome::Signed(counted);
                    }
                }
                Err(NoDemand::StaticPass) => outcome = Outcome::Passes,
                Err(_) => {}
            }
        }
        outcome
    }

    /// Returns the key that an authority asks for.
    pub(super) fn demand(&self, subject: &Subject<'_>, authority: &'a Authority) -> Result<Demand<'a>, NoDemand<'a>> {
        if let Some(field) = &authority.unsupported {
            return Err(NoDemand::Unsupported(field));
        }
        let (id, hash, name) = match &authority.kind {
            AuthorityKind::KeyFile { name, hash } => {
                let file = self.trust.keys.get(name).ok_or(NoDemand::KeyMissing(name))?;
                (file.key.id(), *hash, name)
            }
            AuthorityKind::KeyData { key, hash } => (key.id(), *hash, &authority.name),
            AuthorityKind::Keyless(keyless) => return self.keyless(authority, keyless),
            AuthorityKind::StaticPass => return Err(NoDemand::StaticPass),
            AuthorityKind::StaticFail { message } => return Err(NoDemand::StaticFail(message.as_deref())),
            AuthorityKind::Other => return Err(NoDemand::Unsupported("")),
        };
        let anchor = self.trust.anchor(&id).ok_or(NoDemand::KeyMissing(name))?;
        let is_file = matches!(authority.kind, AuthorityKind::KeyFile { .. });
        if is_file && !anchor.scope.contains(subject.repository, &subject.digest) {
            return Err(NoDemand::NotForRepository(name));
        }
        let proof = match &authority.proof {
            None => None,
            Some(by) => Some(Proving { by, roots: self.roots(by.root.as_deref(), |root| by.fits(root))? }),
        };
        let signer = Signer::Key { id, anchor, hash, proof };
        Ok(Demand { signer, name: Cow::Borrowed(name), authority: Some(authority) })
    }

    /// Returns the identities that an authority asks for, and the roots that they may be under.
    fn keyless(&self, authority: &'a Authority, keyless: &'a Keyless) -> Result<Demand<'a>, NoDemand<'a>> {
        let roots = self.roots(keyless.root.as_deref(), |root| keyless.fits(root))?;
        let signer = Signer::Identity { keyless, roots };
        Ok(Demand { signer, name: Cow::Borrowed(&authority.name), authority: Some(authority) })
    }

    /// Says whether whoever is asked for may count at all, whatever is signed.
    pub(super) fn admits(&self, demand: &Demand<'_>, lens: Lens) -> bool {
        match &demand.signer {
            Signer::Key { anchor, .. } => lens.admits(anchor.life.standing(self.now)),
            Signer::Identity { .. } => true,
        }
    }

    /// Returns the signatures of a subject that meet a demand, in the order in which they came; or, where attestations are
    /// demanded, those that meet them, each entry by one: none where an entry is not met.
    pub(super) fn signed(&self, subject: &Subject<'_>, demand: &Demand<'a>, lens: Lens) -> Vec<Counted<'a>> {
        if !self.admits(demand, lens) {
            return Vec::new();
        }
        let wanted = demand.authority.map_or(&[][..], |authority| &authority.attestations);
        if wanted.is_empty() {
            return subject.signatures.iter().filter_map(|&one| self.counted(one, demand, lens)).collect();
        }
        let mut counted = Vec::new();
        for entry in wanted {
            let meeting = self.meeting(subject, entry, demand, lens);
            if meeting.is_empty() {
                return Vec::new();
            }
            counted.extend(meeting);
        }
        counted
    }

    /// Returns the attestations that meet one entry of a demand.
    pub(super) fn meeting(
        &self,
        subject: &Subject<'_>,
        entry: &AttestationDemand,
        demand: &Demand<'a>,
        lens: Lens,
    ) -> Vec<Counted<'a>> {
        if !self.admits(demand, lens) {
            return Vec::new();
        }
        let holds = |one: &u32| match self.holding(*one, entry) {
            Holding::Yes => true,
            Holding::No => false,
            Holding::NotTried => lens == Lens::Hopeful,
        };
        self.attested(subject, entry).filter(holds).filter_map(|one| self.counted(one, demand, lens)).collect()
    }

    /// Says whether an entry's condition holds for an attestation.
    pub(super) fn holding(&self, attestation: u32, entry: &AttestationDemand) -> Holding {
        let Some(condition) = &entry.condition else { return Holding::Yes };
        self.facts.condition(attestation, self.facts.anchor_number(&condition.id()))
    }

    /// Returns the attestations of the type that an entry asks for.
    pub(super) fn attested(&self, subject: &Subject<'_>, entry: &AttestationDemand) -> impl Iterator<Item = u32> {
        let is = |one: &u32| self.facts.predicate_type(*one) == Some(&entry.predicate_type);
        subject.attestations.iter().copied().filter(is)
    }

    /// Counts one signature, if it meets all of a demand: nothing is pieced together from several.
    fn counted(&self, signature: u32, demand: &Demand<'a>, lens: Lens) -> Option<Counted<'a>> {
        if demand.authority.is_some_and(|authority| !self.fits(signature, authority)) {
            return None;
        }
        match &demand.signer {
            Signer::Key { id, anchor, hash, proof } => {
                let tried = self.facts.tried(signature, self.facts.anchor_number(id));
                if !lens.counts(tried, anchor, *hash) {
                    return None;
                }
                match proof.as_ref().map(|proof| self.proven(signature, id, proof)) {
                    Some(Proven::No(_)) => return None,
                    Some(Proven::NotTried) if lens != Lens::Hopeful => return None,
                    None | Some(Proven::Yes | Proven::NotTried) => {}
                }
                let timely = if lens == Lens::Amnesty { Timely::Yes } else { self.timely(signature, id, anchor) };
                match timely {
                    Timely::No => return None,
                    Timely::NotTried if lens != Lens::Hopeful => return None,
                    Timely::Yes | Timely::FirstSeen | Timely::NotTried => {}
                }
                Some(Counted {
                    signature,
                    id: *id,
                    anchor: Some(anchor),
                    name: demand.name.clone(),
                    by_first_sight: timely == Timely::FirstSeen,
                })
            }
            Signer::Identity { keyless, roots } => roots.iter().find_map(|root| {
                let name = match self.identity(signature, root, keyless) {
                    Held::By { who, denied: None } => Cow::Owned(who.to_string()),
                    Held::By { who, denied: Some(_) } if lens == Lens::Amnesty => Cow::Owned(who.to_string()),
                    Held::NotTried if lens == Lens::Hopeful => demand.name.clone(),
                    Held::By { .. } | Held::NotTried | Held::Refused(_) => return None,
                };
                Some(Counted { signature, id: *root, anchor: None, name, by_first_sight: false })
            }),
        }
    }

    /// Holds one signature against identities, under one root.
    pub(super) fn identity(&self, signature: u32, root: &AnchorId, keyless: &Keyless) -> Held<'a> {
        let number = self.facts.anchor_number(root);
        if self.facts.tried(signature, number) == Tried::Not {
            return Held::NotTried;
        }
        let Some(evidence) = self.facts.evidence(signature, number) else { return Held::Refused(None) };
        let mut demands = Demands::keyless(keyless.identities.clone(), self.now);
        demands.sct = keyless.sct;
        if keyless.proof == Proof::Timestamp {
            (demands.logs, demands.signed_timestamps) = (0, true);
        }
        if let Err(finding) = evidence.meets(&demands) {
            return Held::Refused(Some(finding));
        }
        let facts = evidence.certificate.as_ref();
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let subject = text(facts.and_then(|facts| facts.identity.as_ref()));
        let issuer = text(facts.and_then(|facts| facts.issuer.as_ref()));
        let is_denied = |(by, who, _): &&(String, String, String)| *by == issuer && *who == subject;
        let denied = self.trust.deny.identities.iter().find(is_denied).map(|(_, _, reason)| reason.as_str());
        Held::By { who: Who { subject, issuer }, denied }
    }

    /// Says whether a signature has the format, and was found at a source, that an authority asks for.
    pub(super) fn fits(&self, signature: u32, authority: &Authority) -> bool {
        let format = self.facts.format(signature);
        authority.format.is_none_or(|wanted| format.is_some_and(|format| wanted.is(format)))
            && (authority.sources.is_empty() || self.facts.found_in(signature, &authority.sources))
    }
}
