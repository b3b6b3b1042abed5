//! Takes away what is attached to something that is held: as `cosign clean` does, but here and not at the registry.
//!
//! What was seen once stays until somebody says so; this is how. Bytes stay until they are collected, and a later pull brings
//! back what the registry still offers.

use std::collections::BTreeSet;

use larder_core::artifact::AttachedKind;
use larder_core::signature::SignatureId;
use larder_core::{Digest, Reference, Repository, Tag};

use super::Ctx;
use super::query::{Held, QueryError, Question, find};
use crate::store::StoreError;
use crate::store::record::{Actor, Detached, ManifestAdded, Operation, OperationKind, TagMoved};

/// Which of what is attached goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Signatures: classic ones, bundles that sign, Notation's.
    Signatures,
    /// Attestations: classic ones, and bundles that attest.
    Attestations,
    /// SBOMs.
    Sboms,
    /// What refers to it, whatever it is.
    Referrers,
    /// Everything.
    All,
}

/// Whether it is taken away, or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Clean,
    /// Nothing is changed.
    DryRun,
}

/// One thing that was attached.
#[derive(Clone, Debug)]
pub struct Removed {
    /// Its manifest.
    pub manifest: Digest,
    /// What it is.
    pub kind: AttachedKind,
    /// The tag under which it was found, where it was found so.
    pub tag: Option<Tag>,
    /// How many signatures or attestations it holds.
    pub signatures: usize,
}

/// What was taken away, or would be.
#[derive(Clone, Debug)]
pub struct Cleaned {
    /// What it was attached to.
    pub held: Held,
    /// In the order of their manifests.
    pub removed: Vec<Removed>,
    /// Other repositories in which signatures of the same digest are found, that count as before.
    pub elsewhere: Vec<Repository>,
    /// The operation; 0 where nothing changed.
    pub seq: u64,
}

/// Takes away what is attached to a subject in its repository.
///
/// # Errors
/// Fails where the subject is not held, or the store does not answer. Nothing was changed then.
pub async fn clean(
    ctx: &Ctx,
    actor: Actor,
    subject: &Question,
    which: Which,
    mode: Mode,
) -> Result<Cleaned, QueryError> {
    let held = find(ctx, subject).await?;
    let attached = ctx.store.attached(held.digest).await?;
    let here = attached.into_iter().filter(|row| row.repository == held.repository);
    let (gone, kept): (Vec<ManifestAdded>, Vec<ManifestAdded>) = here.partition(|row| which.takes(row));
    let removed = gone.iter().map(removed).collect();
    let elsewhere = elsewhere(ctx, &held);
    if mode == Mode::DryRun || gone.is_empty() {
        return Ok(Cleaned { held, removed, elsewhere, seq: 0 });
    }
    let operation = Operation {
        kind: OperationKind::Clean,
        reference: Reference::by_digest(held.repository.clone(), held.digest).to_string(),
        manifests: Vec::new(),
        tags: untagged(ctx, &gone).await?,
        detached: detached(held.digest, &gone, &kept),
    };
    let seq = ctx.perform(actor, operation).await?;
    Ok(Cleaned { held, removed, elsewhere, seq })
}

impl Which {
    fn takes(self, row: &ManifestAdded) -> bool {
        let Some(attached) = &row.attached else { return false };
        // What a bundle says is known of each of its signatures; one that cannot be read says nothing.
        let attests = |yes: bool| row.signatures.iter().any(|one| one.says.predicate_type().is_some() == yes);
        match (self, attached.kind) {
            (Self::All, _) => true,
            (Self::Referrers, _) => attached.tag.is_none(),
            (Self::Signatures, AttachedKind::Signature | AttachedKind::Notation) => true,
            (Self::Signatures, AttachedKind::Bundle) => attests(false),
            (Self::Attestations, AttachedKind::Attestation) => true,
            (Self::Attestations, AttachedKind::Bundle) => attests(true),
            (Self::Sboms, AttachedKind::Sbom) => true,
            (Self::Signatures | Self::Attestations | Self::Sboms, _) => false,
        }
    }
}

fn removed(row: &ManifestAdded) -> Removed {
    let attached = row.attached.as_ref();
    Removed {
        manifest: row.digest,
        kind: attached.map_or(AttachedKind::Other, |attached| attached.kind),
        tag: attached.and_then(|attached| attached.tag.clone()),
        signatures: row.signatures.len(),
    }
}

/// Returns the tags that name what goes.
async fn untagged(ctx: &Ctx, gone: &[ManifestAdded]) -> Result<Vec<TagMoved>, StoreError> {
    let mut moves = Vec::new();
    for row in gone {
        let Some(tag) = row.attached.as_ref().and_then(|attached| attached.tag.clone()) else { continue };
        if ctx.store.tag(&row.repository, &tag).await?.is_some_and(|there| there.digest == row.digest) {
            moves.push(TagMoved { repository: row.repository.clone(), tag, old: None, new: None });
        }
    }
    Ok(moves)
}

/// A signature goes with what holds it, unless something that stays holds it, too: cosign rewrites its image at each signing.
fn detached(subject: Digest, gone: &[ManifestAdded], kept: &[ManifestAdded]) -> Vec<Detached> {
    let kept: BTreeSet<SignatureId> = kept.iter().flat_map(|row| &row.signatures).map(|one| one.id).collect();
    let detached = |row: &ManifestAdded| Detached {
        repository: row.repository.clone(),
        digest: row.digest,
        subject,
        signatures: row.signatures.iter().map(|one| one.id).filter(|id| !kept.contains(id)).collect(),
        uncounted: row.uncounted,
    };
    gone.iter().map(detached).collect()
}

/// Returns the other repositories in which something is found that names the digest.
fn elsewhere(ctx: &Ctx, held: &Held) -> Vec<Repository> {
    let facts = ctx.store.facts();
    let found = facts.named_by(held.digest).into_iter().flat_map(|id| facts.found_at(id));
    let others = found.map(|(repository, _)| repository).filter(|repository| *repository != held.repository);
    others.collect::<BTreeSet<_>>().into_iter().collect()
}
