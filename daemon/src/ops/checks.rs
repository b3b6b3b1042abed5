//! Computes the checks that are missing: every signature against every key, once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::stream::{self, StreamExt as _};
use larder_core::Digest;
use larder_core::check::{Checker, SignedHash};
use larder_core::facts::SignatureRow;
use larder_core::key::{AnchorId, PublicKey};
use larder_core::policy::{TrustSet, TrustView};
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

/// Computes what is wanted of one manifest, one of its layers after the other.
async fn compute_in(ctx: &Ctx, manifest: Digest, wanted: BTreeMap<SignatureId, Vec<PublicKey>>) {
    if let Err(error) = try_compute_in(ctx, manifest, wanted).await {
        tracing::warn!(%manifest, %error, "signatures cannot be read; their checks stay missing");
    }
}

async fn try_compute_in(
    ctx: &Ctx,
    manifest: Digest,
    wanted: BTreeMap<SignatureId, Vec<PublicKey>>,
) -> Result<(), StoreError> {
    let manifest = ctx.store.manifest(&manifest).await?;
    let mut slice: Vec<(FoundSignature, Vec<PublicKey>)> = Vec::new();
    let mut bytes = 0;
    for layer in found::layers(&manifest) {
        for found in read_layer(&ctx.store, &layer).await? {
            if let Some(keys) = wanted.get(&found.id) {
                bytes += found.payload.len();
                slice.push((found, keys.clone()));
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

async fn check_slice(ctx: &Ctx, slice: Vec<(FoundSignature, Vec<PublicKey>)>) {
    // What the pool does not answer stays missing: pending, never a result.
    let checked = ctx.checks.run(move || check_all(&slice)).await;
    ctx.store.record_checks(&checked.unwrap_or_default());
}

fn check_all(slice: &[(FoundSignature, Vec<PublicKey>)]) -> Vec<(SignatureId, AnchorId, Option<SignedHash>)> {
    let each = |(found, keys): &(FoundSignature, Vec<PublicKey>)| {
        let checker = Checker::of(found);
        let check = |key| checker.as_ref().and_then(|checker| checker.check(key));
        keys.iter().map(|key| (found.id, key.id(), check(key))).collect::<Vec<_>>()
    };
    slice.iter().flat_map(each).collect()
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
