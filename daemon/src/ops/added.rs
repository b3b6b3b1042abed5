//! Describes a manifest for the journal: its successors, and the signatures that it holds.

use std::collections::HashSet;

use larder_core::check::Checker;
use larder_core::facts::{MAX_SIGNATURES, SignatureRow};
use larder_core::manifest::{Manifest, is_manifest};
use larder_core::signature::simple_signing::FoundSignature;
use larder_core::{Digest, Repository};

use super::Ctx;
use super::checks::{anchors_of, read_signatures};
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

/// Reads the signatures and counts them against the limit of one subject and source repository.
///
/// Those that are valid under a known key never count towards the limit, so that junk cannot crowd out a good one.
async fn counted(
    ctx: &Ctx,
    repository: &Repository,
    manifest: &Manifest,
    subject: Digest,
) -> Result<(Vec<SignatureRow>, u32), StoreError> {
    let found = read_signatures(&ctx.store, manifest.digest()).await?;
    if found.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let (known, mut room) = {
        let facts = ctx.store.facts();
        let known: HashSet<_> =
            found.iter().map(|found| found.id).filter(|id| facts.signature(*id).is_some()).collect();
        (known, MAX_SIGNATURES.saturating_sub(facts.signatures_found(repository, subject)))
    };
    let now = ctx.clock.now();
    let row = |found: &FoundSignature| SignatureRow {
        id: found.id,
        format: found.format,
        names: found.names,
        first_seen: now,
        manifest: manifest.digest(),
        layer: found.layer,
    };
    let mut rows = Vec::new();
    let mut beyond = Vec::new();
    let mut seen = HashSet::new();
    for found in found {
        if !seen.insert(found.id) {
            continue;
        }
        if known.contains(&found.id) {
            rows.push(row(&found));
        } else if room > 0 {
            room -= 1;
            rows.push(row(&found));
        } else {
            beyond.push(found);
        }
    }
    if beyond.is_empty() {
        return Ok((rows, 0));
    }
    let keys = anchors_of(&ctx.view());
    let (good, junk): (Vec<_>, Vec<_>) = tokio::task::spawn_blocking(move || {
        beyond.into_iter().partition(|found| {
            Checker::of(found).is_some_and(|checker| keys.iter().any(|key| checker.check(key).is_some()))
        })
    })
    .await
    .map_err(|_| StoreError::Stopping)?;
    rows.extend(good.iter().map(row));
    Ok((rows, u32::try_from(junk.len()).unwrap_or(u32::MAX)))
}
