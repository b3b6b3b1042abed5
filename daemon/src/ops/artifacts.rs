//! What is held: listed, shown, and what a registry offers.

use std::collections::HashSet;

use bytes::Bytes;
use larder_core::artifact::{AttachedKind, DigestTag};
use larder_core::glob::{Glob, GlobError};
use larder_core::manifest::{Content, MAX_DEPTH, Manifest};
use larder_core::verdict::Verdict;
use larder_core::{Descriptor, Digest, Reference, Repository, Tag};

use super::Ctx;
use super::pull::PullError;
use super::query::{Answer, Held, QueryError, Question, answer, find};
use crate::remote::{Access, Look, Tags};
use crate::store::StoreError;
use crate::store::record::{ListKey, ManifestAdded, TagRow};

pub use crate::remote::RemoteError;

/// The most tags that are listed of a registry.
const MAX_REMOTE_TAGS: usize = 10_000;
/// The most manifests that one artifact's size is summed over.
const MAX_SUMMED: usize = 4096;
/// The longest config that is returned, in bytes; larger ones are not read.
const MAX_CONFIG: u64 = 4 << 20;

/// One line of a list.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its place in the order.
    pub key: ListKey,
    /// What the store knows of its manifest.
    pub row: ManifestAdded,
    /// Bytes of the manifest and all that it reaches and that is held.
    pub size: u64,
    /// The seq of the record that moved the tag; 0 without one.
    pub seq: u64,
    /// How it is judged.
    pub answer: Answer,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only repositories that match.
    pub filter: Option<Glob>,
    /// Only what is not accepted.
    pub not_accepted: bool,
}

/// Lists what tags name, or what was pulled by digest, after a place in the order.
///
/// # Errors
/// Fails where the index is being rebuilt.
pub async fn list(
    ctx: &Ctx,
    options: &ListOptions,
    after: Option<ListKey>,
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let mut listed = Vec::new();
    let mut after = after;
    while listed.len() < limit {
        let page = ctx.store.list(after.as_ref(), limit).await?;
        let last = page.len() < limit;
        for key in page {
            after = Some(key.clone());
            let wanted = options.filter.as_ref().is_none_or(|glob| glob.may_match(&key.repository))
                && !key.tag.as_ref().is_some_and(DigestTag::is_reserved);
            if !wanted || listed.len() == limit {
                continue;
            }
            let held = Held { repository: key.repository.clone(), tag: key.tag.clone(), digest: key.digest };
            let answer = answer(ctx, held).await;
            if options.not_accepted && answer.verdict.state.is_accepted() {
                continue;
            }
            listed.extend(summary(ctx, key, answer).await?);
        }
        if last {
            break;
        }
    }
    Ok(listed)
}

async fn summary(ctx: &Ctx, key: ListKey, answer: Answer) -> Result<Option<Summary>, StoreError> {
    let Some(row) = ctx.store.manifest_row(&key.repository, key.digest).await? else { return Ok(None) };
    let seq = match &key.tag {
        Some(tag) => ctx.store.tag(&key.repository, tag).await?.map_or(0, |row| row.seq),
        None => 0,
    };
    let size = size_of(ctx, &row).await?;
    Ok(Some(Summary { key, row, size, seq, answer }))
}

/// Sums the manifest and all that it reaches and that is held, each once.
async fn size_of(ctx: &Ctx, root: &ManifestAdded) -> Result<u64, StoreError> {
    let mut seen = HashSet::from([root.digest]);
    let mut sum = root.size;
    let mut wave = vec![root.clone()];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for row in std::mem::take(&mut wave) {
            for successor in row.successors {
                if seen.len() >= MAX_SUMMED * 16 || !seen.insert(successor.digest) {
                    continue;
                }
                if !successor.manifest {
                    sum = sum.saturating_add(if ctx.store.has(&successor.digest) { successor.size } else { 0 });
                } else if let Some(child) = ctx.store.manifest_row(&row.repository, successor.digest).await? {
                    sum = sum.saturating_add(child.size);
                    next.push(child);
                }
            }
        }
        wave = next;
    }
    Ok(sum)
}

/// An artifact with all that belongs to it.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its line.
    pub summary: Summary,
    /// Its manifest.
    pub manifest: Manifest,
    /// What it lists.
    pub successors: Vec<Successor>,
    /// What is attached to it.
    pub attached: Vec<Attached>,
    /// The indexes of the same repository that list it.
    pub parents: Vec<Digest>,
}

/// What a manifest lists.
#[derive(Clone, Debug)]
pub struct Successor {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Whether its content is held.
    pub held: bool,
    /// Whether it was left out on purpose.
    pub left_out: bool,
    /// Of a manifest that is held: how it is judged.
    pub verdict: Option<(Repository, Verdict)>,
}

/// What is attached to a subject.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Its manifest.
    pub row: ManifestAdded,
    /// What it is.
    pub kind: AttachedKind,
    /// Where it was found.
    pub found_at: String,
    /// Its own verdict; shown, never counted for the subject.
    pub verdict: Option<Verdict>,
}

/// Describes one artifact.
///
/// # Errors
/// Fails where it is not held.
pub async fn show(ctx: &Ctx, question: &Question) -> Result<Artifact, QueryError> {
    let held = find(ctx, question).await?;
    let (repository, digest) = (held.repository.clone(), held.digest);
    let key = ListKey { repository: repository.clone(), tag: held.tag.clone(), digest };
    let answer = answer(ctx, held).await;
    let summary = summary(ctx, key, answer).await?.ok_or_else(|| QueryError::NotHeld(digest.to_string()))?;
    let manifest = ctx.store.manifest(&digest).await?;
    let left_out: HashSet<Digest> = summary.row.left_out.iter().copied().collect();
    let successors = manifest
        .successors()
        .map(|descriptor| {
            let is_child = manifest.is_index() && ctx.store.facts().contains(&repository, descriptor.digest);
            Successor {
                descriptor: descriptor.clone(),
                held: if manifest.is_index() { is_child } else { ctx.store.has(&descriptor.digest) },
                left_out: left_out.contains(&descriptor.digest),
                verdict: is_child.then(|| (repository.clone(), ctx.verdict(&repository, descriptor.digest))),
            }
        })
        .collect();
    let parents = ctx.store.facts().parents(&repository, digest);
    let attached = attached_to(ctx, digest).await?;
    Ok(Artifact { summary, manifest, successors, attached, parents })
}

/// Reads an image's config; `None` of an index, and where it is not held or longer than 4 MiB.
///
/// # Errors
/// Fails where its bytes cannot be read, or fail their digest.
pub async fn config(ctx: &Ctx, manifest: &Manifest) -> Result<Option<Bytes>, StoreError> {
    let Content::Image { config, .. } = manifest.content() else { return Ok(None) };
    match ctx.store.length(&config.digest) {
        Some(length) if length <= MAX_CONFIG => ctx.store.read(&config.digest, MAX_CONFIG).await.map(Some),
        Some(_) | None => Ok(None),
    }
}

/// Lists what is attached to a digest, wherever it was found.
///
/// # Errors
/// Fails where the index is being rebuilt.
pub async fn attached_to(ctx: &Ctx, subject: Digest) -> Result<Vec<Attached>, StoreError> {
    let rows = ctx.store.attached(subject).await?;
    let attached = rows.into_iter().filter_map(|row| {
        let to = row.attached.clone()?;
        let found_at = match &to.tag {
            Some(tag) => format!("{}:{tag}", row.repository),
            None => format!("{}@{}", row.repository, row.digest),
        };
        let is_subject = ctx.store.facts().contains(&row.repository, row.digest);
        let verdict = is_subject.then(|| ctx.verdict(&row.repository, row.digest));
        Some(Attached { kind: to.kind, found_at, verdict, row })
    });
    Ok(attached.collect())
}

/// Resolves a reference to what is held under it, and when the tag moved there.
///
/// # Errors
/// Fails where nothing is held under it.
pub async fn resolve(ctx: &Ctx, question: &Question) -> Result<(Held, Option<TagRow>), QueryError> {
    let held = find(ctx, question).await?;
    let row = match &held.tag {
        Some(tag) => ctx.store.tag(&held.repository, tag).await?,
        None => None,
    };
    Ok((held, row))
}

/// Resolves a reference to what its registry offers under it; nothing is fetched but the name.
///
/// # Errors
/// Fails where the registry offers nothing, or cannot say.
pub async fn resolve_remote(ctx: &Ctx, reference: &Reference) -> Result<Held, PullError> {
    let look = Look::new(ctx.remotes.repository(&reference.repository, Access::Pull)?, 1);
    let repository = reference.repository.clone();
    let tag = reference.tag_or_latest().unwrap_or_else(Tag::latest);
    if let Some(digest) = reference.digest {
        return Ok(Held { repository, tag: None, digest });
    }
    let there = look.resolve(&tag, false).await?;
    let there = there.ok_or_else(|| PullError::NotThere { reference: reference.clone(), what: "tag" })?;
    Ok(Held { repository, tag: Some(tag), digest: there.digest })
}

/// Reads a list's filter: a glob, or a repository.
///
/// # Errors
/// Fails where it is neither.
pub fn filter(text: &str) -> Result<Option<Glob>, GlobError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Lists the tags that a registry offers, the first of very many; not those that hold what is attached to a digest.
///
/// # Errors
/// Fails as the registry does.
pub async fn remote_tags(ctx: &Ctx, repository: &Repository) -> Result<Tags, RemoteError> {
    let mut listed = ctx.remotes.repository(repository, Access::Pull)?.tags(MAX_REMOTE_TAGS).await?;
    listed.tags.retain(|tag| !DigestTag::is_reserved(tag));
    Ok(listed)
}
