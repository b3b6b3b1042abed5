//! Saves artifacts with everything that is attached to them into an OCI image layout, which somebody else writes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use larder_core::artifact::{AttachedKind, DigestTag, TagSuffix};
use larder_core::digest::Algorithm;
use larder_core::manifest::{Manifest, ManifestError};
use larder_core::signature::simple_signing::{SignatureImage, merge};
use larder_core::{Digest, Reference, Repository, Tag};

use super::Ctx;
use super::load::list as list_names;
use super::pull::AttachedCounts;
use super::push::{PushError, cosign_tag, tagged, whole};
use super::query::{Held, QueryError, resolve};
use super::serve::gate::{self, Standing};
use super::serve::{ServeError, open, passed};
use crate::bundle::{DOCKER_MANIFEST, INDEX, Kind, MARKER, MARKER_BYTES, fallback_index, for_docker};
use crate::store::StoreError;
use crate::store::record::{Actor, Operation, OperationKind};
use crate::transfer::{Flights, Plan, Sink as _, StoreSource, TransferError, copy_blobs};

pub use crate::bundle::{BundleError, Index};
pub use crate::transfer::{LayoutSink, Piece, Progress};

/// An artifact that was saved.
#[derive(Clone, Debug)]
pub struct SavedArtifact {
    /// What it is; the tag is the one that it was asked for by.
    pub held: Held,
    /// The media type of the manifest.
    pub media_type: &'static str,
    /// By which name other tools ask for it in the layout; `None` where it has no tag.
    pub entry_name: Option<String>,
    /// What is attached.
    pub attached: AttachedCounts,
}

/// What a save says on its way.
#[derive(Clone, Debug)]
pub enum Step {
    /// Blobs begin to move.
    Copying(Arc<Progress>),
    /// Something is saved that is not accepted, or left out.
    Warning(String),
}

/// Says why a save failed. What was written until then is no layout.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It is not held.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// It is not whole here.
    #[error("{0}")]
    NotWhole(#[from] PushError),
    /// The gate holds it back.
    #[error("{0}")]
    Gate(#[from] ServeError),
    /// The signature images under one tag could not be united.
    #[error("{tag}: {source}")]
    Merge {
        /// The signature tag.
        tag: Tag,
        /// What is wrong with the manifest.
        source: ManifestError,
    },
    /// The layout that it is added to has too much in it.
    #[error("{0}")]
    Layout(#[from] BundleError),
    /// The copy failed.
    #[error("{0}")]
    Transfer(#[from] TransferError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl SaveError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Query(error) => error.reason(),
            Self::NotWhole(error) => error.reason(),
            Self::Gate(ServeError::Pending { .. }) => "pending",
            Self::Gate(ServeError::Store(error)) => error.reason(),
            Self::Gate(_) => "not-accepted",
            Self::Merge { .. } => "invalid-manifest",
            Self::Layout(error) => error.reason(),
            Self::Transfer(error) => error.reason(),
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it. What the gate holds back says that by itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Query(error) => error.hint(),
            Self::NotWhole(error) => error.hint(),
            Self::Gate(_) => Some("nothing was saved".to_owned()),
            Self::Merge { .. } => Some("`larder tree` shows what lies under this tag".to_owned()),
            Self::Layout(error) => error.hint(),
            Self::Transfer(TransferError::Content { .. }) => {
                Some("its bytes on this disk are damaged; `larder pull` brings them again".to_owned())
            }
            Self::Transfer(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// An artifact that may be saved, with what goes along.
struct Saving {
    held: Held,
    plan: Plan,
}

/// Saves what is held under `references`, as additions to `index`, into `sink`: every file of a layout, `index.json`
/// last. `place` is for the record.
///
/// # Errors
/// Fails where one is not accepted (as the gate is configured), not whole, or cannot be read; the layout has no index then.
#[tracing::instrument(level = "info", skip_all, fields(references = references.len()))]
pub async fn save(
    ctx: &Ctx,
    actor: Actor,
    references: &[Reference],
    mut index: Index,
    place: &str,
    sink: &LayoutSink,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<(Vec<SavedArtifact>, u64), SaveError> {
    let mut all = Vec::new();
    for reference in references {
        all.push(prepare(ctx, reference, step).await?);
    }
    let is_new = index.entries().is_empty();
    sink.put_file(MARKER, Bytes::from_static(MARKER_BYTES)).await?;
    let progress = Arc::new(Progress::default());
    step(Step::Copying(Arc::clone(&progress)));
    let mut saved = Vec::new();
    for Saving { held, plan } in &all {
        let from = StoreSource { store: &ctx.store, repository: &held.repository };
        // One at a time, for they go into one stream; a flight of its own, for it is another copy.
        let copied = copy_blobs(&from, sink, &plan.blobs(), &Flights::default(), 1, &progress).await;
        if let Err(TransferError::Content { digest, .. }) = &copied {
            // It puts itself on record as corrupt when it is read.
            let _ = ctx.store.verify(digest).await;
        }
        copied?;
        let manifests: Vec<&Manifest> = plan.nodes.iter().map(|node| &node.manifest).collect();
        sink.put_manifests(&manifests).await?;
        saved.push(list(&mut index, sink, held, plan).await?);
    }
    if let Some(listed) = docker_list(&all).filter(|_| is_new) {
        sink.put_file(DOCKER_MANIFEST, listed.into()).await?;
    }
    sink.put_file(INDEX, index.to_bytes().into()).await?;
    let names: Vec<String> = references.iter().map(ToString::to_string).collect();
    let operation = Operation {
        kind: OperationKind::Save,
        reference: format!("{} to {place}", list_names(&names)),
        manifests: Vec::new(),
        tags: Vec::new(),
        detached: Vec::new(),
    };
    let seq = ctx.perform(actor, operation).await?;
    Ok((saved, seq))
}

/// Plans an artifact and passes it through the gate.
async fn prepare(ctx: &Ctx, reference: &Reference, step: &(dyn Fn(Step) + Send + Sync)) -> Result<Saving, SaveError> {
    let mut held = resolve(ctx, reference).await?;
    if reference.digest.is_some() {
        // The digest was asked for; nobody looked whether the tag beside it names it.
        held.tag = None;
    }
    let from = StoreSource { store: &ctx.store, repository: &held.repository };
    let mut plan = whole(ctx, &from, reference, held.digest).await?;
    let mut theirs = HashSet::new();
    for node in plan.nodes.iter().filter(|node| node.subject.is_some()) {
        let digest = node.manifest.digest();
        let verdict = ctx.verdict(&held.repository, digest);
        let decision = gate::subject(ctx.gate, Standing::from(&verdict));
        let served = passed(decision, &held.repository, digest, verdict, ())?;
        if let Some(warning) = served.warning.filter(|_| digest == held.digest) {
            step(Step::Warning(warning));
        }
        for blob in node.manifest.successors().filter(|blob| !node.left_out.contains(&blob.digest)) {
            if !node.manifest.is_index() {
                open(ctx, &held.repository, blob.digest).await?;
            }
            theirs.insert(blob.digest);
        }
    }
    let mut held_back = HashSet::new();
    for node in plan.nodes.iter().filter(|node| node.subject.is_none()) {
        if let Err(why) = carried(ctx, &held.repository, &node.manifest, &theirs).await? {
            let digest = node.manifest.digest();
            step(Step::Warning(format!("{} is attached, and was left out: {why}", digest.short())));
            held_back.insert(digest);
        }
    }
    plan.nodes.retain(|node| !held_back.contains(&node.manifest.digest()));
    Ok(Saving { held, plan })
}

/// Says whether the gate lets an attached manifest's content out, here or where it was found; if not, why.
async fn carried(
    ctx: &Ctx,
    repository: &Repository,
    manifest: &Manifest,
    subjects: &HashSet<Digest>,
) -> Result<Result<(), ServeError>, StoreError> {
    for blob in manifest.successors().filter(|blob| !subjects.contains(&blob.digest)) {
        let mut opened = open(ctx, repository, blob.digest).await;
        if matches!(opened, Err(ServeError::BlobUnknown { .. })) {
            for (elsewhere, _) in ctx.store.listed_anywhere(blob.digest).await? {
                opened = open(ctx, &elsewhere, blob.digest).await;
                if opened.is_ok() {
                    break;
                }
            }
        }
        match opened {
            Ok(_) => {}
            Err(ServeError::Store(error)) => return Err(*error),
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(()))
}

/// Lists an artifact and what is attached to it, each by the name that tools ask for.
async fn list(index: &mut Index, sink: &LayoutSink, held: &Held, plan: &Plan) -> Result<SavedArtifact, SaveError> {
    let root = plan.root_node().ok_or(TransferError::MissingRoot(held.digest))?;
    // cosign knows one image a layout: the first.
    let is_cosigns = !index.has_cosigns_image();
    let kind = |kind| Some(kind).filter(|_| is_cosigns);
    let entry_name = held.tag.as_ref().map(|tag| {
        let whole = Reference::by_tag(held.repository.clone(), tag.clone()).to_string();
        let name = index.name_for(tag.as_str(), &whole).to_owned();
        (name, whole)
    });
    let by_digest = Reference::by_digest(held.repository.clone(), held.digest).to_string();
    let (name, whole) = match &entry_name {
        Some((name, whole)) => (Some(name.as_str()), whole.as_str()),
        None => (None, by_digest.as_str()),
    };
    let of_root = if root.manifest.is_index() { Kind::ImageIndex } else { Kind::Image };
    index.add(&root.manifest, name, Some(whole), kind(of_root));
    for (tag, images) in tagged(plan) {
        let attached = united(sink, &tag, &images).await?;
        let names = DigestTag::parse(&tag).filter(|names| names.digest == held.digest);
        let of_root = match names.map(|names| names.suffix) {
            Some(TagSuffix::Signature) => kind(Kind::Signatures),
            Some(TagSuffix::Attestation) => kind(Kind::Attestations),
            _ => None,
        };
        index.add(&attached, Some(tag.as_str()), None, of_root);
    }
    list_referrers(index, sink, plan).await?;
    Ok(SavedArtifact {
        held: held.clone(),
        media_type: root.manifest.media_type(),
        entry_name: entry_name.map(|(name, _)| name),
        attached: AttachedCounts::of(plan, &[]),
    })
}

/// Lists each referrer, and for each subject that has some its fallback tag, for those who copy by tags to a registry
/// without the referrers API. A fallback tag that the layout has already stays: it may list what is not known here.
async fn list_referrers(index: &mut Index, sink: &LayoutSink, plan: &Plan) -> Result<(), SaveError> {
    let mut listed = HashSet::new();
    let mut by_subject: BTreeMap<Digest, Vec<&Manifest>> = BTreeMap::new();
    for node in plan.nodes.iter().filter(|node| cosign_tag(node).is_none()) {
        let Some(attached) = &node.attached else { continue };
        if listed.insert(node.manifest.digest()) {
            index.add(&node.manifest, None, None, None);
        }
        if node.manifest.subject().is_some_and(|subject| subject.digest == attached.subject) {
            by_subject.entry(attached.subject).or_default().push(&node.manifest);
        }
    }
    for (digest, referrers) in by_subject {
        let tag = DigestTag { digest, suffix: TagSuffix::Fallback }.tag();
        let Some(tag) = tag.filter(|tag| index.named(tag.as_str()).is_none()) else { continue };
        let Some(bytes) = fallback_index(referrers) else { continue };
        let fallback = Manifest::parse(bytes.into(), None);
        let fallback = fallback.map_err(|source| SaveError::Merge { tag: tag.clone(), source })?;
        sink.put_manifests(&[&fallback]).await?;
        index.add(&fallback, Some(tag.as_str()), None, None);
    }
    Ok(())
}

/// Lists the images that docker could load: those that have a config and all their layers.
fn docker_list(all: &[Saving]) -> Option<Vec<u8>> {
    let names: Vec<Option<String>> = all
        .iter()
        .map(|Saving { held, .. }| Some(Reference::by_tag(held.repository.clone(), held.tag.clone()?).to_string()))
        .collect();
    let roots = all.iter().zip(&names).filter_map(|(saving, name)| {
        let root = saving.plan.root_node().filter(|root| root.left_out.is_empty())?;
        Some((name.as_deref(), &root.manifest))
    });
    for_docker(roots)
}

/// Unites what lies under one of cosign's tags: signatures that were there at different times become one image.
async fn united(sink: &LayoutSink, tag: &Tag, images: &[&Manifest]) -> Result<Manifest, SaveError> {
    let none = || TransferError::Bundle(BundleError::Empty);
    let (first, rest) = images.split_first().ok_or_else(none)?;
    let unites =
        |image: &&Manifest| matches!(AttachedKind::of(image), AttachedKind::Signature | AttachedKind::Attestation);
    if !images.iter().all(unites) {
        return Ok((*images.last().unwrap_or(first)).clone());
    }
    let mut united = (*first).clone();
    for image in rest {
        if let Some(SignatureImage { manifest, config }) = merge(&united, image) {
            sink.put_small(Algorithm::Sha256, config).await?;
            united = Manifest::parse(manifest, None).map_err(|source| SaveError::Merge { tag: tag.clone(), source })?;
        }
    }
    sink.put_manifests(&[&united]).await?;
    Ok(united)
}
