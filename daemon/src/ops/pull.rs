//! Pulls an artifact: its manifests, its blobs, and what is attached, as one operation.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use larder_core::artifact::{AttachedKind, DigestTag};
use larder_core::facts::Facts;
use larder_core::manifest::Manifest;
use larder_core::verdict::Verdict;
use larder_core::{Digest, Platform, Reference, Repository, Tag};

use super::Ctx;
use super::added::describe;
use super::offered;
use super::query::{Answer, Held, answer};
use crate::remote::{Access, Look, RemoteError, Tags};
use crate::store::StoreError;
use crate::store::record::{Actor, AttachedTo, ManifestAdded, Operation, OperationKind, SubjectRole, TagMoved};
use crate::transfer::{Node, Plan, RemoteSource, Sink, StoreSink, TransferError, copy_blobs, plan};

pub use crate::transfer::{Moved, Progress, Selection};

/// The most tags of one repository that are looked through for those that can be pulled: with signatures,
/// attestations and SBOMs there are a few for each image.
const MAX_LISTED: usize = 50_000;

/// What to pull of an artifact, and whether to judge it first.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Which images of an index.
    pub selection: Selection,
    /// What happens to what is rejected.
    pub keep: Keep,
}

/// What happens to what is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is kept, and judged when it is asked for.
    All,
    /// It is judged before layers move, and nothing of it is kept.
    Accepted,
}

/// What a pull says on its way.
#[derive(Clone, Debug)]
pub enum Step {
    /// The reference names this digest; from here on only digests count.
    Resolved {
        /// The repository.
        repository: Repository,
        /// The tag, if it was asked for by one.
        tag: Option<Tag>,
        /// The digest.
        digest: Digest,
        /// The media type of the manifest.
        media_type: &'static str,
        /// The platforms that are taken.
        platforms: Vec<Platform>,
        /// How many manifests are left out.
        left_out: usize,
    },
    /// Blobs begin to move.
    Copying(Arc<Progress>),
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// What moved.
    pub moved: Moved,
    /// Manifests that moved.
    pub manifests: u32,
    /// What is attached.
    pub attached: AttachedCounts,
    /// Where attached things were looked for.
    pub looked_at: Vec<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a pull.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is here.
    Held {
        /// How it is judged.
        answer: Answer,
        /// The operation; 0 where nothing changed.
        seq: u64,
    },
    /// It was rejected, and nothing of it is kept.
    Rejected(Held, Verdict),
}

/// How much is attached to what was pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachedCounts {
    /// Signatures, bundles included.
    pub signatures: u32,
    /// Attestations.
    pub attestations: u32,
    /// SBOMs.
    pub sboms: u32,
    /// Anything else.
    pub others: u32,
}

/// Says why a pull failed. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A local repository has no registry to pull from.
    #[error("{0} is a local repository: no registry stands behind it")]
    Local(Reference),
    /// The tag holds what is attached to a digest.
    #[error("{0} names what is attached to another artifact, and is no artifact by itself")]
    Reserved(Reference),
    /// The registry does not have it.
    #[error("{reference} is not there: the registry has no such {what}")]
    NotThere {
        /// What was asked for.
        reference: Reference,
        /// tag, or manifest.
        what: &'static str,
    },
    /// The repository has more tags than one pull takes.
    #[error("{repository} has too many tags to pull them all: at most {limit} are taken")]
    TooManyTags {
        /// The repository.
        repository: Repository,
        /// How many are taken.
        limit: usize,
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

impl PullError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Local(_) => "local-repository",
            Self::Reserved(_) => "not-a-subject",
            Self::NotThere { .. } => "not-found",
            Self::TooManyTags { .. } => "too-many-tags",
            Self::Remote(error) => error.reason(),
            Self::Transfer(error) => error.reason(),
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Local(_) => Some("push it to the endpoint, or name its registry (localhost:PORT/…)".to_owned()),
            Self::Reserved(_) => Some("pull the artifact itself; its signatures come along".to_owned()),
            Self::NotThere { reference, .. } => {
                Some(format!("`larder ls --remote {}` lists the tags that are there", reference.repository))
            }
            Self::TooManyTags { .. } => {
                Some("name the tags that are wanted; `larder pull --from` reads a list".to_owned())
            }
            Self::Remote(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Store(error) => error.hint(),
        }
    }
}

/// What the pulls of one request have in common: their looks at the repositories that they pull from.
pub struct Looks {
    /// How many references there are of each repository.
    wanted: HashMap<Repository, usize>,
    /// Held for look-ups and insertions only.
    begun: Mutex<HashMap<Repository, Arc<Look>>>,
}

impl Looks {
    /// Prepares to pull these; asks nobody.
    pub fn new<'a>(references: impl IntoIterator<Item = &'a Reference>) -> Self {
        let mut wanted = HashMap::new();
        for reference in references {
            *wanted.entry(reference.repository.clone()).or_default() += 1;
        }
        Self { wanted, begun: Mutex::default() }
    }

    fn at(&self, ctx: &Ctx, repository: &Repository) -> Result<Arc<Look>, RemoteError> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = begun.get(repository) {
            return Ok(Arc::clone(look));
        }
        let references = self.wanted.get(repository).copied().unwrap_or(1);
        let look = Arc::new(Look::new(ctx.remotes.repository(repository, Access::Pull)?, references));
        begun.insert(repository.clone(), Arc::clone(&look));
        Ok(look)
    }
}

/// Lists the tags of a repository at its registry, but for those that hold what is attached to digests.
///
/// # Errors
/// Fails where there are more than `limit`: a part of them is not all.
pub async fn all_tags(ctx: &Ctx, repository: &Repository, limit: usize) -> Result<Vec<Tag>, PullError> {
    let Tags { mut tags, cut } = ctx.remotes.repository(repository, Access::Pull)?.tags(MAX_LISTED).await?;
    tags.retain(|tag| !DigestTag::is_reserved(tag));
    if cut || tags.len() > limit {
        return Err(PullError::TooManyTags { repository: repository.clone(), limit });
    }
    Ok(tags)
}

/// Pulls one reference; `looks` is shared with the others of the same request, and with nothing else.
///
/// A tag is resolved once. A tag beside a digest is not: what is pulled is the digest, and no tag moves.
///
/// # Errors
/// Fails where anything that was asked for, signatures included, could not be fetched; nothing is visible then.
#[tracing::instrument(level = "info", skip_all, fields(%reference))]
pub async fn pull(
    ctx: &Ctx,
    actor: Actor,
    reference: &Reference,
    options: &PullOptions,
    looks: &Looks,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<Pulled, PullError> {
    let repository = &reference.repository;
    if repository.is_local() {
        return Err(PullError::Local(reference.clone()));
    }
    ctx.store.check_writable()?;
    let look = looks.at(ctx, repository)?;
    let Target { tag, digest, root } = resolve(ctx, reference, &look).await?;
    let source = RemoteSource { name: repository, look: &look, store: &ctx.store, root };
    let planned = plan(&source, digest, &options.selection).await.map_err(|error| match error {
        TransferError::MissingRoot(_) => PullError::NotThere { reference: reference.clone(), what: "manifest" },
        error => error.into(),
    })?;
    step(Step::Resolved {
        repository: repository.clone(),
        tag: tag.clone(),
        digest,
        media_type: planned.root_node().map_or("", |node| node.manifest.media_type()),
        platforms: planned.platforms(),
        left_out: planned.left_out(),
    });
    let held = Held { repository: repository.clone(), tag: tag.clone(), digest };
    if options.keep == Keep::Accepted {
        let verdict = offered::judge(ctx, repository, &source, &planned).await?.verdict;
        if !verdict.state.is_accepted() {
            let attached = AttachedCounts::of(&planned, &[]);
            let looked_at = planned.looked_at;
            let outcome = Outcome::Rejected(held, verdict);
            return Ok(Pulled { moved: Moved::default(), manifests: 0, attached, looked_at, outcome });
        }
    }

    let sink = StoreSink { store: &ctx.store };
    let progress = Arc::new(Progress::default());
    step(Step::Copying(Arc::clone(&progress)));
    let mut moved = copy_blobs(&source, &sink, &planned.blobs(), &ctx.flights, ctx.concurrency, &progress).await?;
    let manifests: Vec<&Manifest> = planned.nodes.iter().map(|node| &node.manifest).collect();
    let manifests = sink.put_manifests(&manifests).await?;
    moved.bytes += manifests.iter().map(|manifest| manifest.raw().len() as u64).sum::<u64>();
    let manifests = u32::try_from(manifests.len()).unwrap_or(u32::MAX);
    let (added, described) = news(ctx, repository, &planned).await?;
    let tags = moves(ctx, repository, tag, digest, &planned).await?;
    let seq = if added.is_empty() && tags.is_empty() {
        0
    } else {
        let operation = Operation {
            kind: OperationKind::Pull,
            reference: reference.to_string(),
            manifests: added,
            tags,
            detached: Vec::new(),
        };
        ctx.perform(actor, operation).await?
    };
    let attached = AttachedCounts::of(&planned, &described);
    let outcome = Outcome::Held { answer: answer(ctx, held).await, seq };
    Ok(Pulled { moved, manifests, attached, looked_at: planned.looked_at, outcome })
}

/// What a reference names at its registry.
struct Target {
    tag: Option<Tag>,
    digest: Digest,
    /// The manifest, where it came along.
    root: Option<Manifest>,
}

async fn resolve(ctx: &Ctx, reference: &Reference, look: &Look) -> Result<Target, PullError> {
    if let Some(digest) = reference.digest {
        return Ok(Target { tag: None, digest, root: None });
    }
    let tag = reference.tag_or_latest().unwrap_or_else(Tag::latest);
    if DigestTag::is_reserved(&tag) {
        return Err(PullError::Reserved(reference.clone()));
    }
    let is_known = ctx.store.tag(&reference.repository, &tag).await?.is_some();
    match look.resolve(&tag, is_known).await? {
        Some(resolved) => Ok(Target { tag: Some(tag), digest: resolved.digest, root: resolved.manifest }),
        None => {
            Err(PullError::NotThere { reference: Reference::by_tag(reference.repository.clone(), tag), what: "tag" })
        }
    }
}

/// Describes the manifests of a plan; returns those that say something new, and how many signatures each node holds.
pub(super) async fn news(
    ctx: &Ctx,
    repository: &Repository,
    plan: &Plan,
) -> Result<(Vec<ManifestAdded>, Vec<(Digest, u32)>), StoreError> {
    let mut added = Vec::new();
    let mut signatures = Vec::new();
    for Node { manifest, subject, attached, left_out } in &plan.nodes {
        let known = ctx.store.manifest_row(repository, manifest.digest()).await?;
        let known = known.filter(|row| {
            let facts = ctx.store.facts();
            !says_more(row, *subject, attached.as_ref(), left_out)
                && !facts.is_corrupt(row.digest)
                && !has_lost(&facts, row)
        });
        if let Some(row) = known.as_ref().filter(|row| !has_unread(row)) {
            signatures.push((manifest.digest(), u32::try_from(row.signatures.len()).unwrap_or(u32::MAX)));
            continue;
        }
        let new = describe(ctx, repository, manifest, *subject, attached.clone(), left_out.clone()).await?;
        let ids = |row: &ManifestAdded| row.signatures.iter().map(|one| one.id).collect::<Vec<_>>();
        if known.is_some_and(|row| ids(&row) == ids(&new) && !has_lost(&ctx.store.facts(), &row)) {
            signatures.push((manifest.digest(), u32::try_from(new.signatures.len()).unwrap_or(u32::MAX)));
            continue;
        }
        signatures.push((manifest.digest(), u32::try_from(new.signatures.len()).unwrap_or(u32::MAX)));
        added.push(new);
    }
    Ok((added, signatures))
}

/// Says whether signatures of an attached manifest count no more, for they were taken away while it came.
fn has_lost(facts: &Facts, row: &ManifestAdded) -> bool {
    let Some(attached) = &row.attached else { return false };
    row.signatures.iter().any(|one| !facts.is_found(one.id, &row.repository, attached.subject))
}

/// Says whether a manifest holds signatures that could not be read when it came: a later version may read them.
fn has_unread(row: &ManifestAdded) -> bool {
    row.signatures.iter().any(|one| one.names.is_none() && one.format.is_checked())
}

/// Says whether a manifest of a plan tells more than its row: a role, an attachment, or a child that is no longer left out.
fn says_more(
    row: &ManifestAdded,
    subject: Option<SubjectRole>,
    attached: Option<&AttachedTo>,
    left_out: &[Digest],
) -> bool {
    let role = match (row.subject, subject) {
        (_, None) | (Some(SubjectRole::Root), _) | (Some(SubjectRole::Child), Some(SubjectRole::Child)) => false,
        (None, Some(_)) | (Some(SubjectRole::Child), Some(SubjectRole::Root)) => true,
    };
    let attachment = attached.is_some_and(|new| {
        let moved = row.attached.as_ref().is_none_or(|old| old.subject != new.subject);
        // Signatures beyond the limit are looked at again: a key that counts them may be here by now.
        moved || row.uncounted > 0
    });
    let fuller = subject.is_some() && row.left_out.iter().any(|child| !left_out.contains(child));
    role || attachment || fuller
}

/// Returns the tags that move: the pulled one, and those of cosign's tags under which something was found.
async fn moves(
    ctx: &Ctx,
    repository: &Repository,
    tag: Option<Tag>,
    digest: Digest,
    plan: &Plan,
) -> Result<Vec<TagMoved>, PullError> {
    let attached = plan.nodes.iter().filter_map(|node| {
        let tag = node.attached.as_ref()?.tag.clone()?;
        Some((tag, node.manifest.digest()))
    });
    let named: BTreeSet<(Tag, Digest)> = tag.map(|tag| (tag, digest)).into_iter().chain(attached).collect();
    let mut moves = Vec::new();
    for (tag, new) in named {
        if ctx.store.tag(repository, &tag).await?.is_none_or(|row| row.digest != new) {
            moves.push(TagMoved { repository: repository.clone(), tag, old: None, new: Some(new) });
        }
    }
    Ok(moves)
}

impl AttachedCounts {
    /// Counts what is attached; signature manifests by the signatures that they hold, where that is known.
    pub(super) fn of(plan: &Plan, signatures: &[(Digest, u32)]) -> Self {
        let mut counts = Self::default();
        for node in &plan.nodes {
            let Some(attached) = &node.attached else { continue };
            let digest = node.manifest.digest();
            let layers = u32::try_from(node.manifest.layers().len()).unwrap_or(u32::MAX);
            let held = signatures.iter().find(|(manifest, _)| *manifest == digest).map_or(layers, |(_, count)| *count);
            match attached.kind {
                AttachedKind::Signature | AttachedKind::Bundle | AttachedKind::Notation => counts.signatures += held,
                AttachedKind::Attestation => counts.attestations += layers,
                AttachedKind::Sbom => counts.sboms += 1,
                AttachedKind::Other => counts.others += 1,
            }
        }
        counts
    }
}
