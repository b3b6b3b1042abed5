//! Describes a manifest for the journal: its successors, and the signatures that it holds.

use std::collections::HashSet;

use larder_core::facts::{MAX_SIGNATURES, SignatureRow};
use larder_core::manifest::{Manifest, is_manifest};
use larder_core::policy::CheckAnchor;
use larder_core::signature::FoundSignature;
use larder_core::signature::found;
use larder_core::{Digest, Repository};

use super::Ctx;
use super::checks::{CheckResult, anchors_of, check_one, read_layer};
use crate::store::StoreError;
use crate::store::record::{AttachedTo, ManifestAdded, SubjectRole, Successor};

/// Describes a manifest whose blobs are in the store. Reads the payloads of signature layers and
/// counts signatures against the limit.
///
/// # Errors
/// Fails where a payload cannot be read from the store.
pub async fn describe(
    ctx: &Ctx,
    repository: &Repository,
    manifest: &Manifest,
    subject: Option<SubjectRole>,
    attached: Option<AttachedTo>,
    left_out: Vec<Digest>,
) -> Result<ManifestAdded, StoreError> {
    let (signatures, uncounted) = match &attached {
        Some(attached) => counted(ctx, repository, manifest, attached.subject).await?,
        None => (Vec::new(), 0),
    };
    let successor = |manifest: bool, descriptor: &larder_core::Descriptor| Successor {
        digest: descriptor.digest,
        size: descriptor.size,
        manifest,
    };
    let mut seen = HashSet::new();
    Ok(ManifestAdded {
        repository: repository.clone(),
        digest: manifest.digest(),
        media_type: manifest.media_type().to_owned(),
        artifact_type: manifest.artifact_type().map(str::to_owned),
        size: manifest.raw().len() as u64,
        subject,
        attached,
        successors: manifest
            .successors()
            .filter(|descriptor| seen.insert(descriptor.digest))
            .map(|descriptor| successor(manifest.is_index() || is_manifest(&descriptor.media_type), descriptor))
            .collect(),
        left_out,
        signatures,
        uncounted,
    })
}

/// Reads the signatures, a layer at a time, and counts them against the limit of one subject and source repository.
///
/// Those that are valid under a known key never count towards the limit, so that junk cannot crowd out a good one.
async fn counted(
    ctx: &Ctx,
    repository: &Repository,
    manifest: &Manifest,
    subject: Digest,
) -> Result<(Vec<SignatureRow>, u32), StoreError> {
    let mut room = MAX_SIGNATURES.saturating_sub(ctx.store.facts().signatures_found(repository, subject));
    let now = ctx.clock.now();
    let mut seen = HashSet::new();
    let (mut rows, mut junk) = (Vec::new(), 0_u32);
    let mut each = async |found: Vec<FoundSignature>| {
        for found in found {
            if !seen.insert(found.id) {
                continue;
            }
            let row = found.row(manifest.digest(), now);
            if ctx.store.facts().signature(found.id).is_some() {
                rows.push(row);
            } else if room > 0 {
                room -= 1;
                rows.push(row);
            } else if is_valid(ctx, found).await? {
                rows.push(row);
            } else {
                junk = junk.saturating_add(1);
            }
        }
        Ok::<(), StoreError>(())
    };
    for layer in found::layers(manifest) {
        each(read_layer(&ctx.store, &layer).await?).await?;
    }
    each(found::bare(manifest).into_iter().collect()).await?;
    Ok((rows, junk))
}

/// Says whether a signature is valid under a known key, or by a certificate of an authority that is known.
async fn is_valid(ctx: &Ctx, found: FoundSignature) -> Result<bool, StoreError> {
    // What else is asked about signatures says nothing of whose they are, and costs more.
    let mut anchors = anchors_of(&ctx.view());
    anchors.retain(|anchor| matches!(anchor, CheckAnchor::Key(_) | CheckAnchor::Root(_)));
    let check = move || check_one(&found, &anchors).iter().any(CheckResult::is_valid);
    ctx.checks.run(check).await.ok_or(StoreError::Stopping)
}
