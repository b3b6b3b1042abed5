//! What `explain` tells beside the judgement: evidence that is there and broken, and names that differ.
//!
//! Nothing of it decides anything. It is looked up when somebody asks, from the bytes that are held.

use std::collections::{BTreeMap, BTreeSet};

use larder_core::Digest;
use larder_core::facts::SignatureRow;
use larder_core::key::PublicKey;
use larder_core::keyless::{TrustedRoot, broken_beside};
use larder_core::policy::{TrustSet, TrustView};
use larder_core::reference::Repository;
use larder_core::signature::{Format, FoundSignature, SignatureId};

use super::Ctx;
use super::checks::read_signature;
use super::query::Held;

/// The most signatures that are looked at for one answer.
const MAX_LOOKED_AT: usize = 50;

/// Returns what is to be told beside the signatures of a subject.
pub(super) async fn notes(ctx: &Ctx, held: &Held, view: &TrustView) -> BTreeMap<SignatureId, Vec<String>> {
    let rows = rows(ctx, held.digest);
    let set = view.sets().next().cloned().unwrap_or_default();
    let mut notes = BTreeMap::new();
    for row in rows {
        // What cannot be read is told by its missing check.
        let Ok(Some(found)) = read_signature(&ctx.store, &row).await else { continue };
        let (set, repository) = (set.clone(), held.repository.clone());
        let told = ctx.checks.run(move || told(&found, &set, &repository)).await.unwrap_or_default();
        if !told.is_empty() {
            notes.insert(row.id, told);
        }
    }
    notes
}

fn rows(ctx: &Ctx, digest: Digest) -> Vec<SignatureRow> {
    let facts = ctx.store.facts();
    let ids = facts.signatures_of(digest).into_iter().take(MAX_LOOKED_AT);
    ids.filter_map(|id| facts.signature(id)).collect()
}

fn told(found: &FoundSignature, set: &TrustSet, repository: &Repository) -> Vec<String> {
    let keys: Vec<PublicKey> = set.anchors();
    let nobody = TrustedRoot::default();
    let roots: Vec<&TrustedRoot> = set.roots.values().map(|root| &*root.root).collect();
    let roots = if roots.is_empty() { vec![&nobody] } else { roots };
    // What every root finds broken is broken; what one of them makes good is good.
    let mut broken: Option<BTreeSet<String>> = None;
    for root in roots {
        let found = broken_beside(found, &keys, root);
        let words = found.iter().map(|one| format!("{} is broken: {}", one.reason(), one.words)).collect();
        broken = Some(match broken {
            None => words,
            Some(before) => before.intersection(&words).cloned().collect(),
        });
    }
    let mut told: Vec<String> = broken.into_iter().flatten().collect();
    told.extend(other_name(found, repository));
    told
}

/// Says so where a classic payload names another repository than the one that is asked for: cosign looks at the digest alone,
/// and so do verdicts.
fn other_name(found: &FoundSignature, repository: &Repository) -> Option<String> {
    let claimed = found.claims.as_deref().filter(|_| found.format == Format::SimpleSigning)?;
    let named = claimed.parse::<larder_core::Reference>().ok().map(|reference| reference.repository);
    let is_other = named.is_none_or(|named| named != *repository);
    let shown: String = claimed.chars().take(200).collect();
    is_other.then(|| format!("its payload names {shown}, and not this repository"))
}
