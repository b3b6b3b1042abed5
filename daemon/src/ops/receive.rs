//! What the endpoint writes: uploaded blobs, and manifests, which become operations like any other.

pub mod role;
pub mod uploads;

use std::collections::BTreeSet;

use bytes::Bytes;
use larder_core::artifact::{AttachedKind, DigestTag, is_foreign};
use larder_core::manifest::{MAX_DEPTH, Manifest, ManifestError, is_index};
use larder_core::verdict::State;
use larder_core::{Digest, Reference, Repository, Tag};

use super::serve::gate::Decision;
use super::serve::{self, Named};
use super::{Ctx, added};
use crate::config::GateMode;
use crate::store::StoreError;
use crate::store::record::{Actor, AttachedTo, ManifestAdded, Operation, OperationKind, SubjectRole, TagMoved};
use role::{Children, Role, RoleError};
use uploads::Uploads;

/// How many missing blobs an error names.
const MAX_NAMED: usize = 10;

/// A manifest that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its digest.
    pub digest: Digest,
    /// The digest that it was recorded as a referrer of, where its `subject` says so.
    pub subject: Option<Digest>,
    /// The seq of the operation.
    pub seq: u64,
}

/// Says why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is no manifest, or not the one that it was announced as.
    #[error("{reference} is refused: {source}")]
    Manifest {
        /// What it was pushed as.
        reference: Reference,
        /// What is wrong.
        source: ManifestError,
    },
    /// It may not be here as what it is.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// It lists what is not here.
    #[error("{reference} lists {count} blobs or manifests that were not pushed to {}: {}", reference.repository, list(.missing))]
    Missing {
        /// What it was pushed as.
        reference: Reference,
        /// How many are missing.
        count: usize,
        /// The first of them.
        missing: Vec<Digest>,
    },
    /// It says another length of a blob than that has.
    #[error("{reference} says that {digest} has {said} bytes; it has {actual}")]
    Length {
        /// What it was pushed as.
        reference: Reference,
        /// The blob.
        digest: Digest,
        /// What the manifest says.
        said: u64,
        /// What is true.
        actual: u64,
    },
    /// Indexes list indexes too deep.
    #[error("{0} nests indexes deeper than {MAX_DEPTH}")]
    TooDeep(Reference),
    /// There is no such tag.
    #[error("{0} is not held here")]
    NoSuchTag(Reference),
    /// The tag says what signatures are of.
    #[error("{0} belongs to signatures: such tags are not removed through the endpoint")]
    Reserved(Reference),
    /// The tag is the registry's, which may have it still.
    #[error(
        "{0} is a tag of a registry: the endpoint removes those of local repositories, and of those that endpoint.push_to in config.toml lists"
    )]
    RegistrysTag(Reference),
    /// The store failed.
    #[error(transparent)]
    Store(Box<StoreError>),
}

impl From<StoreError> for ReceiveError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

fn list(digests: &[Digest]) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Takes in a manifest: stores its bytes, and performs the operation that makes it visible.
///
/// # Errors
/// Fails where it is malformed, may not be in this repository, or lists what is not here; nothing is visible then.
pub async fn manifest(
    ctx: &Ctx,
    actor: Actor,
    repository: &Repository,
    named: &Named,
    announced: Option<&str>,
    raw: Bytes,
) -> Result<Received, ReceiveError> {
    let reference = named.within(repository);
    let parsed = match named {
        Named::Tag(_) => Manifest::parse(raw, announced),
        Named::Digest(digest) => Manifest::parse_as(raw, announced, *digest),
    };
    let manifest = parsed.map_err(|source| ReceiveError::Manifest { reference: reference.clone(), source })?;
    let subject = manifest.subject().map(|descriptor| descriptor.digest);
    let role = role::decide(repository, named, subject, ctx.may_push_to(repository))?;

    let left_out = present(ctx, &reference, &manifest).await?;
    nested(ctx, &reference, &manifest).await?;
    store(ctx, &manifest).await?;

    let mut manifests = children(ctx, repository, &manifest, &role).await?;
    let attached = role.attached_to.map(|subject| AttachedTo {
        subject,
        kind: AttachedKind::of(&manifest),
        tag: role.found_by_tag.clone(),
    });
    let described = added::describe(ctx, repository, &manifest, role.subject, attached, left_out).await?;
    manifests.push(described);
    let tags = match named {
        Named::Tag(tag) => {
            vec![TagMoved { repository: repository.clone(), tag: tag.clone(), old: None, new: Some(manifest.digest()) }]
        }
        Named::Digest(_) => Vec::new(),
    };
    let operation = Operation {
        kind: OperationKind::Receive,
        reference: reference.to_string(),
        manifests,
        tags,
        detached: Vec::new(),
    };
    let seq = ctx.perform(actor, operation).await?;
    Ok(Received {
        digest: manifest.digest(),
        subject: subject.filter(|subject| role.attached_to == Some(*subject)),
        seq,
    })
}

/// Removes a tag; what it named stays, and can be read by its digest.
///
/// # Errors
/// Fails where there is no such tag, or this repository takes no pushes of it.
pub async fn remove_tag(ctx: &Ctx, actor: Actor, repository: &Repository, tag: &Tag) -> Result<(), ReceiveError> {
    let reference = Reference::by_tag(repository.clone(), tag.clone());
    if DigestTag::is_reserved(tag) {
        return Err(ReceiveError::Reserved(reference));
    }
    if !ctx.may_push_to(repository) {
        return Err(ReceiveError::RegistrysTag(reference));
    }
    if ctx.store.tag(repository, tag).await?.is_none() {
        return Err(ReceiveError::NoSuchTag(reference));
    }
    let tags = vec![TagMoved { repository: repository.clone(), tag: tag.clone(), old: None, new: None }];
    let operation = Operation {
        kind: OperationKind::Receive,
        reference: reference.to_string(),
        manifests: Vec::new(),
        tags,
        detached: Vec::new(),
    };
    ctx.perform(actor, operation).await?;
    Ok(())
}

/// Makes sure that all that a manifest lists is here: blobs in the store, manifests in the
/// repository. Returns the layers that are not, because registries must not distribute them.
async fn present(ctx: &Ctx, reference: &Reference, manifest: &Manifest) -> Result<Vec<Digest>, ReceiveError> {
    let mut missing = Vec::new();
    let mut left_out = Vec::new();
    for descriptor in manifest.successors() {
        let digest = descriptor.digest;
        let length = ctx.store.length(&digest);
        let mut here = length.is_some();
        if here && manifest.is_index() {
            let row = ctx.store.manifest_row(&reference.repository, digest).await?;
            if let Some(row) = &row
                && !descriptor.media_type.is_empty()
                && row.media_type != descriptor.media_type
            {
                // Two readers would see two different things.
                let (own, announced) = (row.media_type.clone(), descriptor.media_type.chars().take(120).collect());
                let source = ManifestError::MediaTypeMismatch { own, announced };
                return Err(ReceiveError::Manifest { reference: reference.clone(), source });
            }
            here = row.is_some();
        }
        match length {
            Some(actual) if here && actual != descriptor.size => {
                return Err(ReceiveError::Length {
                    reference: reference.clone(),
                    digest,
                    said: descriptor.size,
                    actual,
                });
            }
            Some(_) if here => {}
            _ if is_foreign(&descriptor.media_type) => left_out.push(digest),
            _ => missing.push(digest),
        }
    }
    if missing.is_empty() {
        return Ok(left_out);
    }
    let count = missing.len();
    missing.truncate(MAX_NAMED);
    Err(ReceiveError::Missing { reference: reference.clone(), count, missing })
}

/// Makes sure that indexes are not nested too deep. The levels below were pushed before, each as deep as it may be.
async fn nested(ctx: &Ctx, reference: &Reference, manifest: &Manifest) -> Result<(), ReceiveError> {
    let indexes = |manifest: &Manifest| -> BTreeSet<Digest> {
        let may_be = |media_type: &str| media_type.is_empty() || is_index(media_type);
        manifest.children().iter().filter(|child| may_be(&child.media_type)).map(|child| child.digest).collect()
    };
    let mut level = indexes(manifest);
    for _ in 1..MAX_DEPTH {
        let mut below = BTreeSet::new();
        for digest in level {
            if ctx.store.has(&digest) {
                below.extend(indexes(&ctx.store.manifest(&digest).await?));
            }
        }
        if below.is_empty() {
            return Ok(());
        }
        level = below;
    }
    Err(ReceiveError::TooDeep(reference.clone()))
}

async fn store(ctx: &Ctx, manifest: &Manifest) -> Result<(), StoreError> {
    if matches!(manifest.digest(), Digest::Sha256(_)) {
        return ctx.store.put(manifest.raw().clone()).await.map(drop);
    }
    let length = manifest.raw().len() as u64;
    let mut ingest = ctx.store.ingest(Some((manifest.digest(), Some(length)))).await?;
    ingest.write(manifest.raw().clone()).await?;
    ingest.commit(None).await.map(drop)
}

/// Describes the children of an index that do not have yet the role which the index gives them.
async fn children(
    ctx: &Ctx,
    repository: &Repository,
    manifest: &Manifest,
    role: &Role,
) -> Result<Vec<ManifestAdded>, StoreError> {
    let mut described = Vec::new();
    let mut seen = BTreeSet::new();
    for child in manifest.children() {
        if !seen.insert(child.digest) {
            continue;
        }
        let Some(row) = ctx.store.manifest_row(repository, child.digest).await? else { continue };
        let (subject, attached_to) = match role.children {
            Children::Subjects if row.subject.is_none() => (Some(SubjectRole::Child), None),
            Children::Attached(to) if row.subject.is_none() && row.attached.is_none() => (None, Some(to)),
            Children::Subjects | Children::Attached(_) | Children::AsTheyAre => continue,
        };
        let child = ctx.store.manifest(&child.digest).await?;
        let attached = attached_to.map(|subject| AttachedTo { subject, kind: AttachedKind::of(&child), tag: None });
        described.push(added::describe(ctx, repository, &child, subject, attached, row.left_out).await?);
    }
    Ok(described)
}

/// Takes a blob over from another repository without its bytes, where the client could read it there.
pub async fn mount(ctx: &Ctx, uploads: &Uploads, from: &Repository, to: &Repository, digest: Digest) -> bool {
    let uploaded = uploaded(ctx, uploads, from, digest).await;
    let may =
        matches!(uploaded, Some(Decision::Serve | Decision::Warn)) || serve::open(ctx, from, digest).await.is_ok();
    if may {
        uploads.remember(to, digest);
    }
    may
}

/// Decides on a blob that no manifest of the repository lists yet; `None` where it was not uploaded there either.
///
/// Nothing judges it, so that a gate that enforces holds it back: else a rejected image's layer, uploaded anew under another
/// algorithm's digest, could be read by that. Where a manifest lists it elsewhere it is that one's, and uploading it again
/// changes nothing.
pub async fn uploaded(ctx: &Ctx, uploads: &Uploads, repository: &Repository, digest: Digest) -> Option<Decision> {
    if !uploads.was_uploaded(repository, digest) || !ctx.store.has(&digest) {
        return None;
    }
    let state = ctx.verdict(repository, digest).state;
    if ctx.gate == GateMode::Off {
        return (state != State::Corrupt).then_some(Decision::Serve);
    }
    let is_elsewhere = !ctx.store.listed_anywhere(digest).await.is_ok_and(|listed| listed.is_empty());
    if is_elsewhere || matches!(state, State::Corrupt | State::Denied) {
        return None;
    }
    Some(if ctx.gate == GateMode::Warn { Decision::Warn } else { Decision::Refuse })
}
