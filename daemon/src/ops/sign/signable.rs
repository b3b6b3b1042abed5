//! What can be signed: subjects that are held, and the SBOMs that are attached to them.

use std::collections::HashSet;

use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::manifest::MAX_DEPTH;
use larder_core::{Digest, Reference, Repository};

use super::SignError;
use crate::ops::Ctx;
use crate::ops::query::{self, Held, QueryError};
use crate::store::StoreError;

/// What of an artifact a signing covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// The artifact alone.
    Artifact,
    /// The artifact and, of an index, every manifest that it lists and that is held.
    Recursive,
    /// The SBOM that is attached to it under cosign's tag, and not the artifact.
    Sbom,
}

/// Lists the digests that a signing covers, the artifact itself first; and their repository.
///
/// # Errors
/// Fails where the artifact is not held, or has no SBOM.
pub async fn signable(
    ctx: &Ctx,
    reference: &Reference,
    covered: Covered,
) -> Result<(Repository, Vec<Digest>), SignError> {
    let Held { repository, digest, .. } = resolve(ctx, reference).await?;
    let digests = match covered {
        Covered::Artifact => vec![digest],
        Covered::Recursive => with_children(ctx, &repository, digest).await?,
        Covered::Sbom => {
            let sbom = sbom_of(ctx, &repository, digest).await?;
            vec![sbom.ok_or_else(|| SignError::NoSbom(Reference::by_digest(repository.clone(), digest)))?]
        }
    };
    Ok((repository, digests))
}

/// Resolves a reference to a subject, or, by its digest, to an SBOM that is attached to one: that is signed, too, and
/// nothing else that is attached is.
pub(super) async fn resolve(ctx: &Ctx, reference: &Reference) -> Result<Held, SignError> {
    let refused = match query::resolve(ctx, reference).await {
        Ok(held) => return Ok(held),
        Err(refused @ QueryError::Attached(_)) => refused,
        Err(error) => return Err(error.into()),
    };
    let Some(digest) = reference.digest else { return Err(refused.into()) };
    let row = ctx.store.manifest_row(&reference.repository, digest).await?;
    let is_sbom = row.and_then(|row| row.attached).is_some_and(|attached| attached.kind == AttachedKind::Sbom);
    if !is_sbom {
        return Err(refused.into());
    }
    Ok(Held { repository: reference.repository.clone(), tag: None, digest })
}

/// Walks an index down to its images, as far as they are held in the repository.
async fn with_children(ctx: &Ctx, repository: &Repository, root: Digest) -> Result<Vec<Digest>, StoreError> {
    let mut digests = vec![root];
    let mut seen = HashSet::from([root]);
    let mut level = vec![root];
    for _ in 0..=MAX_DEPTH {
        let mut below = Vec::new();
        for digest in level {
            for child in ctx.store.manifest(&digest).await?.children() {
                let is_held = ctx.store.facts().contains(repository, child.digest) && ctx.store.has(&child.digest);
                if is_held && seen.insert(child.digest) {
                    below.push(child.digest);
                }
            }
        }
        if below.is_empty() {
            break;
        }
        digests.extend(&below);
        level = below;
    }
    Ok(digests)
}

/// Returns the SBOM under cosign's tag: what the tag names here, else what was found under it when it was pulled.
async fn sbom_of(ctx: &Ctx, repository: &Repository, subject: Digest) -> Result<Option<Digest>, StoreError> {
    let Some(tag) = (DigestTag { digest: subject, suffix: TagSuffix::Sbom }).tag() else { return Ok(None) };
    if let Some(row) = ctx.store.tag(repository, &tag).await? {
        return Ok(Some(row.digest));
    }
    let attached = ctx.store.attached(subject).await?;
    let found = attached
        .into_iter()
        .filter(|row| row.repository == *repository)
        .rev()
        .find(|row| row.attached.as_ref().is_some_and(|attached| attached.tag.as_ref() == Some(&tag)));
    Ok(found.map(|row| row.digest))
}
