//! Computes the checks that are missing: every signature against every key, once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use larder_core::Digest;
use larder_core::check::{Checker, SignedHash};
use larder_core::key::{AnchorId, PublicKey};
use larder_core::policy::{TrustSet, TrustView};
use larder_core::signature::SignatureId;
use larder_core::signature::simple_signing::{self, FoundSignature, MAX_PAYLOAD_BYTES};

use super::Ctx;
use crate::store::{Store, StoreError};

mod pool;

pub use pool::Pool;

/// How many signatures are checked in one slice: with one key, a few milliseconds.
const SLICE: usize = 64;
/// How many manifests are read at once, so that the pool has something to do while another is read.
const READING: usize = 8;

/// Returns every key of the sets that a view judges under.
pub fn anchors_of(view: &TrustView) -> Vec<PublicKey> {
    let sets: Vec<&TrustSet> = match view {
        TrustView::Starting => Vec::new(),
        TrustView::Settled(set) | TrustView::Missing { settled: set } => vec![set],
        TrustView::Disturbed { settled, readable } => vec![settled, readable],
    };
    let mut keys: BTreeMap<AnchorId, PublicKey> = BTreeMap::new();
    for key in sets.into_iter().flat_map(TrustSet::anchors) {
        keys.entry(key.id()).or_insert(key);
    }
    keys.into_values().collect()
}

/// Computes what is missing for signatures at or over these digests, under the keys in force.
pub async fn compute_for(ctx: &Ctx, digests: &BTreeSet<Digest>) {
    let keys = anchors_of(&ctx.view());
    let ids: Vec<AnchorId> = keys.iter().map(PublicKey::id).collect();
    let missing: BTreeSet<(SignatureId, AnchorId)> = {
        let facts = ctx.store.facts();
        digests.iter().flat_map(|digest| facts.missing_checks(&ids, Some(*digest))).collect()
    };
    compute(ctx, &keys, missing).await;
}

/// Computes everything that is missing for these keys.
pub async fn compute_all(ctx: &Ctx, keys: &[PublicKey]) {
    let ids: Vec<AnchorId> = keys.iter().map(PublicKey::id).collect();
    let missing = ctx.store.facts().missing_checks(&ids, None).into_iter().collect();
    compute(ctx, keys, missing).await;
}

/// A signature cannot be checked where its bytes cannot be read: the check stays missing, it is never a result.
async fn compute(ctx: &Ctx, keys: &[PublicKey], missing: BTreeSet<(SignatureId, AnchorId)>) {
    if missing.is_empty() {
        return;
    }
    let keys: HashMap<AnchorId, PublicKey> = keys.iter().map(|key| (key.id(), key.clone())).collect();
    let mut by_manifest: BTreeMap<Digest, BTreeMap<SignatureId, Vec<PublicKey>>> = BTreeMap::new();
    {
        let facts = ctx.store.facts();
        for (signature, anchor) in missing {
            if let (Some(row), Some(key)) = (facts.signature(signature), keys.get(&anchor)) {
                by_manifest.entry(row.manifest).or_default().entry(signature).or_default().push(key.clone());
            }
        }
    }
    let each = |(manifest, wanted)| compute_in(ctx, manifest, wanted);
    stream::iter(by_manifest).for_each_concurrent(READING, each).await;
}

/// Computes what is wanted of one manifest.
async fn compute_in(ctx: &Ctx, manifest: Digest, wanted: BTreeMap<SignatureId, Vec<PublicKey>>) {
    let found = match read_signatures(&ctx.store, manifest).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%manifest, %error, "signatures cannot be read; their checks stay missing");
            return;
        }
    };
    let mut tasks: Vec<(FoundSignature, Vec<PublicKey>)> =
        found.into_iter().filter_map(|found| wanted.get(&found.id).map(|keys| (found, keys.clone()))).collect();
    while !tasks.is_empty() {
        let slice = tasks.split_off(tasks.len().saturating_sub(SLICE));
        // What the pool does not answer stays missing: pending, never a result.
        let checked = ctx.checks.run(move || check_all(&slice)).await;
        ctx.store.record_checks(&checked.unwrap_or_default());
    }
}

fn check_all(slice: &[(FoundSignature, Vec<PublicKey>)]) -> Vec<(SignatureId, AnchorId, Option<SignedHash>)> {
    let each = |(found, keys): &(FoundSignature, Vec<PublicKey>)| {
        let checker = Checker::of(found);
        let check = |key| checker.as_ref().and_then(|checker| checker.check(key));
        keys.iter().map(|key| (found.id, key.id(), check(key))).collect::<Vec<_>>()
    };
    slice.iter().flat_map(each).collect()
}

/// Reads every signature in a manifest that is held.
///
/// # Errors
/// Fails as the store does; a payload that is too long is no failure, its signature is faulty.
pub async fn read_signatures(store: &Store, manifest: Digest) -> Result<Vec<FoundSignature>, StoreError> {
    let manifest = store.manifest(&manifest).await?;
    let mut payloads: HashMap<Digest, Bytes> = HashMap::new();
    for layer in manifest.layers() {
        if layer.media_type == larder_core::artifact::SIMPLE_SIGNING
            && layer.size <= MAX_PAYLOAD_BYTES
            && !payloads.contains_key(&layer.digest)
        {
            payloads.insert(layer.digest, store.read(&layer.digest, MAX_PAYLOAD_BYTES).await?);
        }
    }
    Ok(simple_signing::read(&manifest, |layer| payloads.get(&layer.digest).cloned()))
}
