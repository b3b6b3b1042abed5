//! Computes the checks that are missing: every signature against every key and root, once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use larder_core::Digest;
use larder_core::check::{Checker, SignedHash};
use larder_core::facts::{Facts, SignatureRow};
use larder_core::key::AnchorId;
use larder_core::keyless::{Evidence, examine_by_key, examine_found};
use larder_core::policy::{CheckAnchor, TrustView};
use larder_core::rego::Condition;
use larder_core::signature::found::{self, SignatureLayer};
use larder_core::signature::{FoundSignature, SignatureId};

use super::Ctx;
use crate::store::{Store, StoreError};

mod pool;

pub use pool::Pool;

/// How many signatures are checked in one slice: with one key, a few milliseconds.
const SLICE: usize = 64;
/// How many bytes of payloads are checked in one slice, beside a last one that is longer.
const SLICE_BYTES: usize = 4 << 20;
/// How many manifests are read at once, so that the pool has something to do while another is read.
const READING: usize = 8;

/// Returns everything that the sets check signatures against that a view judges under.
pub fn anchors_of(view: &TrustView) -> Vec<CheckAnchor> {
    let mut anchors: BTreeMap<AnchorId, CheckAnchor> = BTreeMap::new();
    for anchor in view.sets().flat_map(|set| set.check_anchors()) {
        anchors.entry(anchor.id()).or_insert(anchor);
    }
    anchors.into_values().collect()
}

/// Computes what is missing for signatures at or over these digests, under the keys in force.
pub async fn compute_for(ctx: &Ctx, digests: &BTreeSet<Digest>) {
    let anchors = anchors_of(&ctx.view());
    let ids: Vec<AnchorId> = anchors.iter().map(CheckAnchor::id).collect();
    let missing: BTreeSet<(SignatureId, AnchorId)> = {
        let facts = ctx.store.facts();
        digests.iter().flat_map(|digest| facts.missing_checks(&ids, Some(*digest))).collect()
    };
    compute(ctx, &anchors, missing).await;
}

/// Computes everything that is missing for these anchors.
pub async fn compute_all(ctx: &Ctx, anchors: &[CheckAnchor]) {
    let ids: Vec<AnchorId> = anchors.iter().map(CheckAnchor::id).collect();
    let missing = ctx.store.facts().missing_checks(&ids, None).into_iter().collect();
    compute(ctx, anchors, missing).await;
}

/// A signature cannot be checked where its bytes cannot be read: the check stays missing, it is never a result.
async fn compute(ctx: &Ctx, anchors: &[CheckAnchor], missing: BTreeSet<(SignatureId, AnchorId)>) {
    if missing.is_empty() {
        return;
    }
    let anchors: HashMap<AnchorId, CheckAnchor> = anchors.iter().map(|one| (one.id(), one.clone())).collect();
    let mut by_manifest: BTreeMap<Digest, BTreeMap<SignatureId, Vec<CheckAnchor>>> = BTreeMap::new();
    {
        let facts = ctx.store.facts();
        for (signature, anchor) in missing {
            if let (Some(row), Some(anchor)) = (facts.signature(signature), anchors.get(&anchor)) {
                by_manifest.entry(row.manifest).or_default().entry(signature).or_default().push(anchor.clone());
            }
        }
    }
    let each = |(manifest, wanted)| compute_in(ctx, manifest, wanted);
    stream::iter(by_manifest).for_each_concurrent(READING, each).await;
}

/// Computes what is wanted of one manifest, one of its layers after the other.
async fn compute_in(ctx: &Ctx, manifest: Digest, wanted: BTreeMap<SignatureId, Vec<CheckAnchor>>) {
    if let Err(error) = try_compute_in(ctx, manifest, wanted).await {
        tracing::warn!(%manifest, %error, "signatures cannot be read; their checks stay missing");
    }
}

async fn try_compute_in(
    ctx: &Ctx,
    manifest: Digest,
    wanted: BTreeMap<SignatureId, Vec<CheckAnchor>>,
) -> Result<(), StoreError> {
    let manifest = ctx.store.manifest(&manifest).await?;
    let mut slice: Vec<(FoundSignature, Vec<CheckAnchor>)> = Vec::new();
    let mut bytes = 0;
    for layer in found::layers(&manifest) {
        for found in read_layer(&ctx.store, &layer).await? {
            if let Some(anchors) = wanted.get(&found.id) {
                bytes += found.payload.len();
                slice.push((found, anchors.clone()));
            }
        }
        if slice.len() >= SLICE || bytes >= SLICE_BYTES {
            check_slice(ctx, std::mem::take(&mut slice)).await;
            bytes = 0;
        }
    }
    if !slice.is_empty() {
        check_slice(ctx, slice).await;
    }
    Ok(())
}

async fn check_slice(ctx: &Ctx, slice: Vec<(FoundSignature, Vec<CheckAnchor>)>) {
    // What the pool does not answer stays missing: pending, never a result.
    let checked = ctx.checks.run(move || check_all(&slice)).await;
    ctx.store.with_facts(|facts| checked.unwrap_or_default().into_iter().for_each(|result| result.record(facts)));
}

fn check_all(slice: &[(FoundSignature, Vec<CheckAnchor>)]) -> Vec<CheckResult> {
    slice.iter().flat_map(|(found, anchors)| check_one(found, anchors)).collect()
}

/// Checks one signature against each of these.
pub fn check_one(found: &FoundSignature, anchors: &[CheckAnchor]) -> Vec<CheckResult> {
    let checker = Checker::of(found);
    let check = |anchor: &CheckAnchor| {
        let outcome = match anchor {
            CheckAnchor::Key(key) => Outcome::Key(checker.as_ref().and_then(|checker| checker.check(key))),
            CheckAnchor::Root(root) => Outcome::Root(examine_found(found, &root.root).map(Arc::new)),
            CheckAnchor::Logged { key, root } => Outcome::Logged(examine_by_key(found, key, &root.root).map(Arc::new)),
            CheckAnchor::Dated { key, root } => {
                Outcome::Dated(examine_by_key(found, key, &root.root).and_then(|evidence| evidence.proven_since()))
            }
            CheckAnchor::Condition(condition) => Outcome::Condition(holds(condition, found)),
        };
        CheckResult { signature: found.id, anchor: anchor.id(), outcome }
    };
    anchors.iter().map(check).collect()
}

/// What came of one check.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// The signature.
    pub signature: SignatureId,
    /// The key, or the root.
    pub anchor: AnchorId,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check: nothing where the signature is not valid.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The hash that a key signed over.
    Key(Option<SignedHash>),
    /// What a root makes of a certificate's holder's signature.
    Root(Option<Arc<Evidence>>),
    /// What a root makes of a key's signature.
    Logged(Option<Arc<Evidence>>),
    /// Since when a key's signature is proven to be there, by a root.
    Dated(Option<Timestamp>),
    /// Whether a condition holds for what an attestation says.
    Condition(bool),
}

/// Says whether a condition holds for what is attested; of what it is not about, it says no.
fn holds(condition: &Condition, found: &FoundSignature) -> bool {
    if found.fault.is_some() || !condition.is_about(found.says.predicate_type()) {
        return false;
    }
    let held = condition.check(&found.payload);
    if let Err(error) = &held {
        tracing::debug!(signature = %found.id, %error, "a policy's condition does not hold");
    }
    held.is_ok()
}

impl CheckResult {
    /// Says whether the signature is valid under the key, or is a certificate's holder's whom the root's authorities know.
    pub fn is_valid(&self) -> bool {
        match &self.outcome {
            Outcome::Key(hash) => hash.is_some(),
            Outcome::Root(evidence) => {
                let facts = evidence.as_ref().and_then(|evidence| evidence.certificate.as_ref());
                facts.is_some_and(|facts| !facts.chains.is_empty())
            }
            Outcome::Logged(_) | Outcome::Dated(_) | Outcome::Condition(_) => false,
        }
    }

    /// Records it.
    pub fn record(self, facts: &mut Facts) {
        match self.outcome {
            Outcome::Key(hash) => facts.record_check(self.signature, self.anchor, hash),
            Outcome::Root(evidence) | Outcome::Logged(evidence) => {
                facts.record_evidence(self.signature, self.anchor, evidence);
            }
            Outcome::Dated(since) => facts.record_dated(self.signature, self.anchor, since),
            Outcome::Condition(holds) => facts.record_condition(self.signature, self.anchor, holds),
        }
    }
}

/// Reads the signatures in one layer of a manifest that is held.
///
/// # Errors
/// Fails as the store does; a layer that is too long is no failure, its signature is faulty.
pub async fn read_layer(store: &Store, layer: &SignatureLayer<'_>) -> Result<Vec<FoundSignature>, StoreError> {
    let bytes = match layer.is_read() {
        true => Some(store.read(&layer.descriptor.digest, layer.descriptor.size).await?),
        false => None,
    };
    Ok(layer.read(bytes))
}

/// Reads one signature that is held; `None` where its manifest no longer has it.
///
/// # Errors
/// Fails as the store does.
pub async fn read_signature(store: &Store, row: &SignatureRow) -> Result<Option<FoundSignature>, StoreError> {
    let manifest = store.manifest(&row.manifest).await?;
    for layer in found::layers(&manifest).filter(|layer| layer.place == row.layer) {
        if let Some(found) = read_layer(store, &layer).await?.into_iter().find(|found| found.id == row.id) {
            return Ok(Some(found));
        }
    }
    Ok(found::bare(&manifest).filter(|found| found.id == row.id))
}
