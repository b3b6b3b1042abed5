//! Reasons: what of all that was found is worth telling, the telling ones first.

use std::collections::BTreeSet;

use super::bench::{Acceptance, Bench, Counted, Demand, Held, NoDemand, Signer, Subject};
use super::life::Lens;
use super::proof::{Proven, Timely};
use crate::facts::{Holding, Tried};
use crate::key::AnchorId;
use crate::keyless::Finding;
use crate::policy::{Anchor, Policy, Standing};
use crate::verdict::{Code, MAX_REASONS, Reason};

/// Reasons as they are gathered: each once, and few of them.
#[derive(Default)]
struct Gathered(Vec<Reason>);

/// The most that are gathered before the telling ones are picked.
const MAX_GATHERED: usize = 256;

impl Gathered {
    fn add(&mut self, reason: Reason) {
        if self.0.len() < MAX_GATHERED && !self.0.contains(&reason) {
            self.0.push(reason);
        }
    }

    /// Puts the first reason of each code before the others of the same code, and cuts.
    fn finish(self) -> Vec<Reason> {
        let mut codes = BTreeSet::new();
        let (mut first, rest): (Vec<Reason>, Vec<Reason>) =
            self.0.into_iter().partition(|reason| codes.insert(reason.code));
        first.extend(rest);
        first.truncate(MAX_REASONS);
        first
    }
}

fn through(gathered: &mut Gathered, acceptance: &Acceptance<'_>) {
    if let Some(index) = acceptance.through {
        gathered.add(Reason::about(Code::ViaIndex, index.digest.to_string()));
    }
}

/// Says why a subject is accepted.
pub(super) fn of_acceptance(acceptance: &Acceptance<'_>) -> Vec<Reason> {
    let mut gathered = Gathered::default();
    through(&mut gathered, acceptance);
    for counted in &acceptance.basis.counted {
        gathered.add(Reason::about(Code::SignedBy, &*counted.name));
        if counted.by_first_sight {
            gathered.add(Reason::about(Code::FirstSeen, &*counted.name));
        }
    }
    for policy in &acceptance.basis.passes {
        gathered.add(Reason::about(Code::StaticPass, *policy));
    }
    gathered.finish()
}

/// Says which checks are waited for.
pub(super) fn of_hope(bench: &Bench<'_>, hope: &Acceptance<'_>) -> Vec<Reason> {
    let mut gathered = Gathered::default();
    through(&mut gathered, hope);
    let untried = |counted: &&Counted<'_>| {
        let number = bench.facts.anchor_number(&counted.id);
        bench.facts.tried(counted.signature, number) == Tried::Not
    };
    // Where the signatures themselves are checked, what proves their time is not.
    let all = &hope.basis.counted;
    let waited_for: Vec<&Counted<'_>> = all.iter().filter(untried).collect();
    let waited_for = if waited_for.is_empty() { all.iter().collect() } else { waited_for };
    for counted in waited_for {
        gathered.add(Reason::about(Code::CheckMissing, &*counted.name));
    }
    gathered.finish()
}

/// Says which keys no longer count.
pub(super) fn of_revocation(bench: &Bench<'_>, subject: &Subject<'_>, past: &Acceptance<'_>) -> Vec<Reason> {
    let mut gathered = Gathered::default();
    through(&mut gathered, past);
    for Counted { signature, id, anchor, name, .. } in &past.basis.counted {
        match anchor {
            Some(anchor) => {
                let reason = of_key(bench, *signature, id, anchor, name);
                reason.into_iter().for_each(|reason| gathered.add(reason));
            }
            // An identity never ends by itself: it counts no more where it is denied.
            None => gathered.add(Reason::about(Code::KeyRevoked, format!("{name}: denied"))),
        }
    }
    of_policies(bench, subject, &mut gathered);
    gathered.finish()
}

/// Says why a key does not count for one of its signatures, if so.
pub(super) fn of_key(bench: &Bench<'_>, signature: u32, id: &AnchorId, anchor: &Anchor, name: &str) -> Option<Reason> {
    of_life(bench, anchor, name).or_else(|| {
        let is_late = bench.timely(signature, id, anchor) == Timely::No;
        let words = anchor.life.revoked.as_deref().unwrap_or("retired");
        is_late.then(|| Reason::about(Code::KeyRevoked, format!("{name}: {words}")))
    })
}

/// Says why a key counts for nothing, if so.
pub(super) fn of_life(bench: &Bench<'_>, anchor: &Anchor, name: &str) -> Option<Reason> {
    let life = &anchor.life;
    match life.standing(bench.now) {
        Standing::Usable | Standing::Ended => None,
        Standing::Revoked => {
            let words = life.revoked.as_deref().unwrap_or("revoked");
            Some(Reason::about(Code::KeyRevoked, format!("{name}: {words}")))
        }
        Standing::Expired => {
            let end = life.valid_until.map(|end| format!(": until {end}")).unwrap_or_default();
            Some(Reason::about(Code::KeyExpired, format!("{name}{end}")))
        }
        Standing::NotYetValid => {
            let start = life.valid_from.map(|start| format!(": from {start}")).unwrap_or_default();
            Some(Reason::about(Code::KeyNotYetValid, format!("{name}{start}")))
        }
    }
}

/// Says why an authority asks for no key, if that is a reason for a rejection.
pub(super) fn of_no_demand(why: &NoDemand<'_>) -> Option<Reason> {
    match why {
        NoDemand::Unsupported(field) => Some(Reason::about(Code::Unsupported, *field)),
        NoDemand::RootMissing(name) => Some(Reason::about(Code::RootMissing, *name)),
        NoDemand::RootTooOld(which) => Some(Reason::about(Code::RootTooOld, which)),
        NoDemand::KeyMissing(name) => Some(Reason::about(Code::KeyMissing, *name)),
        NoDemand::NotForRepository(name) => Some(Reason::about(Code::KeyNotForRepository, *name)),
        NoDemand::StaticPass | NoDemand::StaticFail(_) => None,
    }
}

/// Says why a subject is neither accepted nor could be.
pub(super) fn of_rejection(bench: &Bench<'_>, subject: &Subject<'_>) -> Vec<Reason> {
    let mut gathered = Gathered::default();
    let is_for = |anchor: &Anchor| anchor.alone.contains(subject.repository, &subject.digest);
    if subject.policies.is_empty() && !bench.trust.each_anchor().any(|(_, anchor)| is_for(anchor)) {
        gathered.add(Reason::about(Code::NoPolicy, subject.repository.as_str()));
    }
    of_policies(bench, subject, &mut gathered);
    of_signatures(bench, subject, &mut gathered);
    gathered.finish()
}

fn of_policies(bench: &Bench<'_>, subject: &Subject<'_>, gathered: &mut Gathered) {
    for (name, policy) in &subject.policies {
        if bench.policy(subject, policy, Lens::Actual).holds() {
            continue;
        }
        gathered.add(Reason::about(Code::PolicyFailed, *name));
        if let Some(field) = &policy.unsupported {
            gathered.add(Reason::about(Code::Unsupported, field));
        }
        for authority in &policy.authorities {
            match bench.demand(subject, authority) {
                Err(why) => of_no_demand(&why).into_iter().for_each(|reason| gathered.add(reason)),
                Ok(demand) => {
                    of_attestations(bench, subject, &demand, gathered);
                    of_identities(bench, subject, &demand, gathered);
                }
            }
        }
    }
}

/// Names the entries of an authority's `attestations` that nothing meets.
fn of_attestations(bench: &Bench<'_>, subject: &Subject<'_>, demand: &Demand<'_>, gathered: &mut Gathered) {
    for entry in demand.authority.into_iter().flat_map(|authority| &authority.attestations) {
        if !bench.meeting(subject, entry, demand, Lens::Actual).is_empty() {
            continue;
        }
        let fails = |one: &u32| bench.holding(*one, entry) == Holding::No;
        if bench.attested(subject, entry).any(|one| fails(&one)) {
            gathered.add(Reason::about(Code::ConditionFailed, &*entry.name));
        } else {
            gathered.add(Reason::about(Code::AttestationMissing, format!("{}: {}", entry.name, entry.predicate_type)));
        }
    }
}

/// Says of certificates' holders' signatures which check they fail.
fn of_identities(bench: &Bench<'_>, subject: &Subject<'_>, demand: &Demand<'_>, gathered: &mut Gathered) {
    let Signer::Identity { keyless, roots } = &demand.signer else { return };
    for signature in subject.statements() {
        for root in roots {
            match bench.identity(signature, root, keyless) {
                Held::Refused(Some(finding)) => {
                    let detail = format!("{}: {}: {}", demand.name, finding.reason(), finding.words);
                    gathered.add(Reason::about(Code::IdentityRefused, detail));
                }
                Held::By { who, denied: Some(reason) } => {
                    gathered.add(Reason::about(Code::KeyRevoked, format!("{who}: denied: {reason}")));
                }
                Held::By { .. } | Held::Refused(None) | Held::NotTried => {}
            }
        }
    }
}

fn of_signatures(bench: &Bench<'_>, subject: &Subject<'_>, gathered: &mut Gathered) {
    let mut unknown = 0_u64;
    for signature in subject.statements() {
        let attests = bench.facts.predicate_type(signature).is_some();
        let mut known = false;
        for (id, hash) in bench.facts.valid_anchors(signature) {
            let Some(anchor) = bench.trust.anchor(id) else { continue };
            known = true;
            let name = anchor.display_name();
            gathered.add(of_key(bench, signature, id, anchor, name).unwrap_or_else(|| {
                let unproven = || demands_of(bench, subject, id).find_map(|demand| unproven(bench, signature, &demand));
                let wrong_hash = demands_of(bench, subject, id).any(|demand| !demand.takes(hash));
                let misfits = || {
                    demands_of(bench, subject, id)
                        .any(|demand| demand.authority.is_some_and(|authority| !bench.fits(signature, authority)))
                };
                if let Some(finding) = unproven() {
                    Reason::about(Code::ProofMissing, format!("{name}: {}: {}", finding.reason(), finding.words))
                } else if attests {
                    Reason::about(Code::OnlyAttested, name)
                } else if wrong_hash {
                    Reason::about(Code::WrongHash, format!("{name}: {}", hash_name(hash)))
                } else if misfits() {
                    Reason::about(Code::NotAsAsked, name)
                } else {
                    Reason::about(Code::OtherKey, name)
                }
            }));
        }
        unknown += u64::from(!known);
    }
    if unknown > 0 {
        gathered.add(Reason::about(Code::UnknownKey, counted(unknown)));
    }
    let mut unreadable = 0_u64;
    let numbers: BTreeSet<u32> = bench.facts.found_numbers(subject.digest).collect();
    for row in numbers.into_iter().filter_map(|number| bench.facts.signature_row(number)) {
        match row.names {
            _ if !row.format.is_checked() => gathered.add(Reason::about(Code::Unsupported, row.format.name())),
            Some(names) if names != subject.digest => {
                gathered.add(Reason::about(Code::NamesAnotherDigest, names.to_string()));
            }
            Some(_) => {}
            None => unreadable += 1,
        }
    }
    if unreadable > 0 {
        gathered.add(Reason::about(Code::UnreadablePayload, counted(unreadable)));
    }
    match bench.facts.uncounted(subject.digest) {
        0 => {}
        beyond => gathered.add(Reason::about(Code::TooManySignatures, beyond.to_string())),
    }
    if !bench.has_signatures(subject) {
        gathered.add(Reason::new(Code::NoSignature));
    }
}

/// Says why nothing proves a key's signature as a demand asks, if so.
pub(super) fn unproven(bench: &Bench<'_>, signature: u32, demand: &Demand<'_>) -> Option<Finding> {
    let Signer::Key { id, proof: Some(proof), .. } = &demand.signer else { return None };
    match bench.proven(signature, id, proof) {
        Proven::No(finding) => Some(finding),
        Proven::Yes | Proven::NotTried => None,
    }
}

/// Returns the demands that the subject's policies make of one key.
fn demands_of<'s>(bench: &Bench<'s>, subject: &Subject<'s>, id: &AnchorId) -> impl Iterator<Item = Demand<'s>> {
    let policies: Vec<&'s Policy> = subject.policies.iter().map(|(_, policy)| *policy).collect();
    let demands: Vec<Demand<'s>> = policies
        .into_iter()
        .flat_map(|policy| &policy.authorities)
        .filter_map(|authority| bench.demand(subject, authority).ok())
        .filter(|demand| matches!(&demand.signer, Signer::Key { id: asked, .. } if asked == id))
        .collect();
    demands.into_iter()
}

pub(super) fn hash_name(hash: crate::check::SignedHash) -> &'static str {
    use crate::check::SignedHash;
    match hash {
        SignedHash::Sha256 => "sha256",
        SignedHash::Sha384 => "sha384",
        SignedHash::Sha512 => "sha512",
        SignedHash::Sha224 => "sha224",
        SignedHash::None => "no hash",
    }
}

fn counted(count: u64) -> String {
    if count == 1 { "1 signature".to_owned() } else { format!("{count} signatures") }
}
