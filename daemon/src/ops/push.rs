//! Pushes an artifact and what is attached to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::signature::simple_signing::{SignatureImage, merge};
use larder_core::{Descriptor, Digest, Reference, Repository, Tag};

use super::Ctx;
use super::pull::AttachedCounts;
use super::query::{QueryError, resolve};
use crate::remote::{Access, RemoteError, RemoteRepository};
use crate::store::StoreError;
use crate::store::record::{Actor, Operation, OperationKind};
use crate::transfer::{
    Flights, Moved, Node, Plan, Progress, RemoteSink, Selection, Sink, StoreSource, TransferError, copy_blobs, plan,
};

/// What of an artifact is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The artifact and what is attached to it.
    Whole,
    /// What is attached to the artifact and to those of its manifests that are held; the artifact is there already.
    Attached,
}

/// What was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// What moved.
    pub moved: Moved,
    /// Manifests that moved.
    pub manifests: u32,
    /// What is attached.
    pub attached: AttachedCounts,
    /// The operation.
    pub seq: u64,
}

/// What a push says on its way.
#[derive(Clone, Debug)]
pub enum Step {
    /// The source is held under this digest, and goes to this repository and tag.
    Resolved {
        /// Where to.
        repository: Repository,
        /// The tag there; `None` where it is pushed by digest only.
        tag: Option<Tag>,
        /// The digest.
        digest: Digest,
        /// The media type of the manifest.
        media_type: &'static str,
    },
    /// Blobs begin to move.
    Copying(Arc<Progress>),
}

/// Says why a push failed. What had moved by then stays at the destination, without a tag.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The source is not held.
    #[error("{0}")]
    Source(#[from] QueryError),
    /// A local repository has no registry to push to.
    #[error("{0} is a local repository: no registry stands behind it")]
    Local(Repository),
    /// The destination names another digest than the source has.
    #[error("the destination names {named}, but the source is {held}")]
    OtherDigest {
        /// The destination's.
        named: Digest,
        /// The source's.
        held: Digest,
    },
    /// The tag is one of those that hold what is attached to a digest.
    #[error("the tag {0} is kept for what is attached to a digest")]
    Reserved(Tag),
    /// Children of an index were left out when it was pulled.
    #[error("the index {0} is not whole: manifests of other platforms were left out when it was pulled")]
    LeftOut(Digest, String),
    /// Only what is attached was to be pushed, and the destination does not hold what it is attached to.
    #[error("{repository} does not hold {digest}, so nothing can be attached to it there")]
    NoSubject {
        /// The destination.
        repository: Repository,
        /// The artifact.
        digest: Digest,
    },
    /// A signature image could not be united with the one at the destination.
    #[error("{tag}: {source}")]
    Merge {
        /// The signature tag.
        tag: Tag,
        /// What is wrong with the manifest.
        source: ManifestError,
    },
    /// The registry could not be asked.
    #[error("{0}")]
    Remote(#[from] RemoteError),
    /// The copy failed.
    #[error("{0}")]
    Transfer(#[from] TransferError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl PushError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source(error) => error.reason(),
            Self::Local(_) => "local-repository",
            Self::OtherDigest { .. } | Self::Reserved(_) => "invalid-reference",
            Self::LeftOut(..) => "left-out",
            Self::NoSubject { .. } => "no-subject",
            Self::Merge { .. } => "invalid-manifest",
            Self::Remote(error) => error.reason(),
            Self::Transfer(error) => error.reason(),
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Local(_) => {
                Some("name a registry as destination: `larder push SRC REGISTRY/REPOSITORY:TAG`".to_owned())
            }
            Self::OtherDigest { .. } => Some("leave the digest away from the destination".to_owned()),
            Self::Reserved(_) => Some("push the artifact itself; what is attached goes along".to_owned()),
            Self::LeftOut(_, reference) => {
                Some(format!("`larder pull --platform all {reference}` brings what is missing"))
            }
            Self::NoSubject { .. } => {
                Some("`larder push` without `--signatures` carries the artifact along".to_owned())
            }
            Self::Merge { .. } => {
                Some("what lies under this tag at the destination is no signature image; remove it there".to_owned())
            }
            Self::Remote(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Pushes what is held under `source` to `destination`, or to where it came from.
///
/// Blobs first, then manifests, children before indexes, then what is attached, and the tag last: nobody finds it
/// there before it is whole.
///
/// # Errors
/// Fails where the source is not whole, or where the registry refuses any of it.
#[tracing::instrument(level = "info", skip_all, fields(reference = %source))]
pub async fn push(
    ctx: &Ctx,
    actor: Actor,
    source: &Reference,
    destination: Option<&Reference>,
    scope: Scope,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<Pushed, PushError> {
    let held = resolve(ctx, source).await?;
    let (repository, tag) = target(source, destination, held.digest)?;
    let remote = ctx.remotes.repository(&repository, Access::Push)?;
    let from = StoreSource { store: &ctx.store, repository: &held.repository };
    let mut planned = match scope {
        Scope::Whole => whole(ctx, &from, source, held.digest).await?,
        Scope::Attached => plan(&from, held.digest, &Selection::Present).await?,
    };
    let root = planned.root_node().cloned().ok_or(TransferError::MissingRoot(held.digest))?;
    step(Step::Resolved {
        repository: repository.clone(),
        tag: tag.clone(),
        digest: held.digest,
        media_type: root.manifest.media_type(),
    });

    if scope == Scope::Attached {
        if remote.manifest(&held.digest).await?.is_none() {
            return Err(PushError::NoSubject { repository, digest: held.digest });
        }
        planned.nodes.retain(|node| node.attached.is_some());
    }

    let sink = RemoteSink { repository: &remote };
    let progress = Arc::new(Progress::default());
    step(Step::Copying(Arc::clone(&progress)));
    // A push has flights of its own: what goes to another registry is another copy.
    let flights = Flights::default();
    let mut moved = copy_blobs(&from, &sink, &planned.blobs(), &flights, ctx.concurrency, &progress).await?;
    let untagged = planned.nodes.iter().filter(|node| cosign_tag(node).is_none());
    let untagged: Vec<&Manifest> = untagged.map(|node| &node.manifest).collect();
    let put = sink.put_manifests(&untagged).await?;
    moved.bytes += put.iter().map(|manifest| manifest.raw().len() as u64).sum::<u64>();
    let mut manifests = u32::try_from(put.len()).unwrap_or(u32::MAX);
    for (tag, images) in tagged(&planned) {
        manifests += u32::from(push_tagged(&remote, &tag, &images).await?);
    }
    if scope == Scope::Whole
        && let Some(tag) = &tag
        && remote.resolve(tag).await?.is_none_or(|there| there.digest != held.digest)
    {
        remote.push_manifest(&root.manifest, Some(tag)).await?;
        manifests += 1;
    }
    let to = Reference { repository, tag, digest: Some(held.digest) };
    let operation = Operation {
        kind: OperationKind::Push,
        reference: format!("{source} to {to}"),
        manifests: Vec::new(),
        tags: Vec::new(),
        detached: Vec::new(),
    };
    let seq = ctx.perform(actor, operation).await?;
    Ok(Pushed { moved, manifests, attached: AttachedCounts::of(&planned, &[]), seq })
}

/// Returns where it goes: the destination's tag, else the source's.
fn target(
    source: &Reference,
    destination: Option<&Reference>,
    held: Digest,
) -> Result<(Repository, Option<Tag>), PushError> {
    let to = destination.unwrap_or(source);
    if to.repository.is_local() {
        return Err(PushError::Local(to.repository.clone()));
    }
    if let Some(named) = to.digest
        && named != held
    {
        return Err(PushError::OtherDigest { named, held });
    }
    let tag = match to.digest {
        Some(_) => to.tag.clone(),
        None => to.tag.clone().or_else(|| source.tag_or_latest()),
    };
    match tag {
        Some(tag) if DigestTag::is_reserved(&tag) => Err(PushError::Reserved(tag)),
        tag => Ok((to.repository.clone(), tag)),
    }
}

/// Plans the whole artifact; an index whose children were left out is refused.
pub(super) async fn whole(
    ctx: &Ctx,
    from: &StoreSource<'_>,
    source: &Reference,
    digest: Digest,
) -> Result<Plan, PushError> {
    let planned = plan(from, digest, &Selection::All).await.map_err(|error| match error {
        TransferError::MissingChild { index, .. } => PushError::LeftOut(index, source.to_string()),
        error => error.into(),
    })?;
    for node in planned.nodes.iter().filter(|node| node.manifest.is_index()) {
        let index = node.manifest.digest();
        let row = ctx.store.manifest_row(from.repository, index).await?;
        // A child that another repository brought is no part of this one.
        if row.is_some_and(|row| !row.left_out.is_empty()) {
            return Err(PushError::LeftOut(index, source.to_string()));
        }
    }
    Ok(planned)
}

/// Returns the one of cosign's tags that an attached manifest goes under.
pub(super) fn cosign_tag(node: &Node) -> Option<(Tag, TagSuffix)> {
    let attached = node.attached.as_ref()?;
    let tag = attached.tag.clone()?;
    let named = DigestTag::parse(&tag)?;
    DigestTag::COSIGN.contains(&named.suffix).then_some((tag, named.suffix))
}

/// Gathers the manifests under each of cosign's tags; a tag that was overwritten upstream has several.
pub(super) fn tagged(plan: &Plan) -> BTreeMap<Tag, Vec<&Manifest>> {
    let mut tagged: BTreeMap<Tag, Vec<&Manifest>> = BTreeMap::new();
    for node in &plan.nodes {
        if let Some((tag, _)) = cosign_tag(node) {
            tagged.entry(tag).or_default().push(&node.manifest);
        }
    }
    tagged
}

/// Pushes what goes under one of cosign's tags, united with what the destination has there: a
/// signature that somebody else put there is not overwritten. Returns whether a manifest moved.
async fn push_tagged(remote: &RemoteRepository, tag: &Tag, images: &[&Manifest]) -> Result<bool, PushError> {
    let there = match remote.resolve(tag).await? {
        Some(resolved) => match resolved.manifest {
            Some(manifest) => Some(manifest),
            None => remote.manifest(&resolved.digest).await?,
        },
        None => None,
    };
    let Some((first, rest)) = images.split_first() else { return Ok(false) };
    let unites = images
        .iter()
        .all(|image| matches!(AttachedKind::of(image), AttachedKind::Signature | AttachedKind::Attestation));
    if !unites {
        let last = images.last().unwrap_or(first);
        if there.is_some_and(|there| there.digest() == last.digest()) {
            return Ok(false);
        }
        remote.push_manifest(last, Some(tag)).await?;
        return Ok(true);
    }
    let mut united = there.clone().unwrap_or_else(|| (*first).clone());
    let ours = if there.is_some() { images } else { rest };
    for image in ours {
        if let Some(SignatureImage { manifest, config }) = merge(&united, image) {
            push_config(remote, &config).await?;
            united = Manifest::parse(manifest, None).map_err(|source| PushError::Merge { tag: tag.clone(), source })?;
        }
    }
    if there.is_some_and(|there| there.digest() == united.digest()) {
        return Ok(false);
    }
    remote.push_manifest(&united, Some(tag)).await?;
    Ok(true)
}

async fn push_config(remote: &RemoteRepository, config: &bytes::Bytes) -> Result<(), RemoteError> {
    let descriptor =
        Descriptor::new("application/vnd.oci.image.config.v1+json", Digest::of(config), config.len() as u64);
    if remote.has_blob(&descriptor.digest).await? {
        return Ok(());
    }
    let read = || {
        let bytes = config.clone();
        async move { Ok(stream::once(async move { Ok(bytes) }).boxed()) }.boxed()
    };
    remote.push_blob(&descriptor, &read).await
}
