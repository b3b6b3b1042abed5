//! What an acceptance rests on: what `verify` prints.

use jiff::Timestamp;

use super::bench::{Acceptance, Bench};
use super::life::Lens;
use super::{Decided, judge, judge_view, worse};
use crate::digest::Digest;
use crate::facts::Facts;
use crate::key::AnchorId;
use crate::policy::{TrustSet, TrustView};
use crate::reference::Repository;
use crate::signature::SignatureId;

/// A signature that an acceptance rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The signature.
    pub signature: SignatureId,
    /// The anchor that it is valid under.
    pub anchor: AnchorId,
    /// The name of the key or authority that counted it.
    pub key: String,
    /// The subject that it signs: this one, or the index that it was accepted through.
    pub subject: Digest,
}

/// Returns the signatures that count for an accepted subject, in the order of their first sight; empty where it is not accepted.
///
/// A subject that is *allowed* without any signature has none, too.
pub fn support(
    facts: &Facts,
    view: &TrustView,
    repository: &Repository,
    digest: Digest,
    now: Timestamp,
) -> Vec<Support> {
    if !judge_view(facts, view, repository, digest, now).state.is_accepted() {
        return Vec::new();
    }
    let trust = match view {
        TrustView::Settled(set) => set,
        TrustView::Disturbed { settled, readable } => deciding(facts, (settled, readable), repository, digest, now),
        TrustView::Starting | TrustView::Missing { .. } => return Vec::new(),
    };
    let bench = Bench { facts, trust, now };
    let subject = bench.subject(repository, digest);
    let ancestors = bench.ancestors(&subject);
    bench
        .acceptance(&subject, &ancestors, Lens::Actual)
        .map_or_else(Vec::new, |acceptance| listed(&bench, &acceptance, digest))
}

/// Returns the set of a disturbed folder whose verdict is the one that is given.
pub(super) fn deciding<'a>(
    facts: &Facts,
    (settled, readable): (&'a TrustSet, &'a TrustSet),
    repository: &Repository,
    digest: Digest,
    now: Timestamp,
) -> &'a TrustSet {
    let under = |trust: &TrustSet| judge(facts, trust, repository, digest, now);
    match worse(under(settled), under(readable)).1 {
        Decided::Settled => settled,
        Decided::Readable => readable,
    }
}

fn listed(bench: &Bench<'_>, acceptance: &Acceptance<'_>, digest: Digest) -> Vec<Support> {
    let subject = acceptance.through.map_or(digest, |index| index.digest);
    let mut rows: Vec<((Timestamp, u32), Support)> = acceptance
        .basis
        .counted
        .iter()
        .filter_map(|counted| {
            let row = bench.facts.signature_row(counted.signature)?;
            let key = counted.name.clone().into_owned();
            // Those that came together are in the order of their layers, as cosign has them.
            Some(((row.first_seen, row.layer), Support { signature: row.id, anchor: counted.id, key, subject }))
        })
        .collect();
    rows.sort_by(|(a, one), (b, other)| (a, one.signature, one.anchor).cmp(&(b, other.signature, other.anchor)));
    // Two policies may count the same signature.
    rows.dedup_by(|(_, one), (_, other)| (one.signature, one.anchor) == (other.signature, other.anchor));
    rows.into_iter().map(|(_, support)| support).collect()
}
