//! Names for what is held: tags are set and removed; content stays.
//!
//! Under a registry's name a tag says what that registry said: others would make `docker.io/library/alpine:3.22` mean
//! something that Docker Hub never called so. What a tag named before may be put back, so that a removal can be undone.

use std::collections::{BTreeMap, BTreeSet};

use larder_core::artifact::DigestTag;
use larder_core::reference::LOCAL;
use larder_core::{Digest, Reference, Repository, Tag};

use super::Ctx;
use super::query::{Answer, Held, QueryError, Question, answer, find};
use crate::store::StoreError;
use crate::store::record::{
    Actor, AttachedTo, Event, HistoryOf, ManifestAdded, Operation, OperationKind, SubjectRole, TagMoved,
};

/// How far attached things are followed that hang on attached things (an SBOM's own signature).
const MAX_ATTACHED_DEPTH: usize = 3;
/// The most manifests that go along into another repository.
const MAX_MANIFESTS: usize = 8192;
/// How many records of a tag's history are looked at, for what it named before.
const MAX_LOOKED_AT: usize = 10_000;
/// How many of them are read at once.
const PAGE: usize = 256;
/// How many tags an error names.
const NAMED: usize = 5;

/// A tag that was set.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// The tag.
    pub tag: Tag,
    /// What it named before.
    pub old: Option<Digest>,
    /// The operation; 0 where nothing changed.
    pub seq: u64,
    /// What it names, and how that is judged under this repository's name.
    pub answer: Answer,
}

/// Says why a tag was not set. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The source is not held.
    #[error(transparent)]
    Source(#[from] QueryError),
    /// The target has a digest.
    #[error("{0} is no name to give: a digest names its content by itself")]
    Digest(Reference),
    /// The tag is one of those that hold what is attached to a digest.
    #[error("the tag {0} is kept for what is attached to a digest")]
    Reserved(Tag),
    /// The target is under a registry's name.
    #[error("{target} is {registry}'s to name: under a registry's name a tag says what the registry said", registry = .target.repository.registry())]
    Foreign {
        /// The name that was to be given.
        target: Reference,
        /// What was to get it, as it was asked for.
        asked: String,
    },
    /// It consists of more than goes into one operation.
    #[error("{0} has more than {MAX_MANIFESTS} manifests; that is more than goes into another repository at once")]
    TooLarge(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TagError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Source(error) => error.reason(),
            Self::Digest(_) => "invalid-reference",
            Self::Reserved(_) => "reserved-tag",
            Self::Foreign { .. } => "foreign-name",
            Self::TooLarge(_) => "too-large",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Digest(target) => Some(format!("name a tag: {}:TAG", target.repository)),
            Self::Reserved(_) => Some("name it otherwise; what is attached goes along by itself".to_owned()),
            Self::Foreign { target, asked } => {
                let tag = target.tag_or_latest().unwrap_or_else(Tag::latest);
                let path = target.repository.path();
                Some(format!(
                    "`larder tag {asked} {LOCAL}/{path}:{tag}` gives it a local name; endpoint.push_to in config.toml may list {}",
                    target.repository
                ))
            }
            Self::TooLarge(_) => Some("`larder tag` one of its images, by digest".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// Names what is held under `source` by the tag of `target`, in a repository of this machine.
///
/// In another repository it becomes a subject of its own, with what it lists and what is attached to it: it is judged
/// under that repository's name. A tag that names something else moves; the journal keeps what it named.
///
/// # Errors
/// Fails where the source is not held, or the target is under a registry's name that nobody may push to, unless the tag
/// named the same digest before.
pub async fn tag(ctx: &Ctx, actor: Actor, source: &Question, target: &Reference) -> Result<Tagged, TagError> {
    let asked = match source {
        Question::Of(reference) => reference.to_string(),
        Question::Bare(digest) => digest.to_string(),
    };
    if target.digest.is_some() {
        return Err(TagError::Digest(target.clone()));
    }
    let tag = target.tag_or_latest().unwrap_or_else(Tag::latest);
    if DigestTag::is_reserved(&tag) {
        return Err(TagError::Reserved(tag));
    }
    let held = find(ctx, source).await?;
    let repository = &target.repository;
    let named = Held { repository: repository.clone(), tag: Some(tag.clone()), digest: held.digest };
    let old = ctx.store.tag(repository, &tag).await?.map(|row| row.digest);
    if !ctx.may_push_to(repository) && old != Some(held.digest) {
        let was_there = held.repository == *repository && has_named(ctx, repository, &tag, held.digest).await?;
        if !was_there {
            let target = Reference::by_tag(repository.clone(), tag);
            return Err(TagError::Foreign { target, asked });
        }
    }
    let mut along = Along { ctx, from: &held.repository, to: repository, manifests: Vec::new(), tags: BTreeMap::new() };
    if held.repository != *repository {
        along.take(held.digest, &asked).await?;
    }
    let Along { manifests, tags, .. } = along;
    if manifests.is_empty() && old == Some(held.digest) {
        return Ok(Tagged { tag, old, seq: 0, answer: answer(ctx, named).await });
    }
    let moved =
        |tag: Tag, digest: Digest| TagMoved { repository: repository.clone(), tag, old: None, new: Some(digest) };
    let mut moves: Vec<TagMoved> = tags.into_iter().map(|(tag, digest)| moved(tag, digest)).collect();
    moves.push(moved(tag.clone(), held.digest));
    let reference = format!("{asked} as {}", Reference::by_tag(repository.clone(), tag.clone()));
    let operation = Operation { kind: OperationKind::Tag, reference, manifests, tags: moves, detached: Vec::new() };
    let seq = ctx.perform(actor, operation).await?;
    Ok(Tagged { tag, old, seq, answer: answer(ctx, named).await })
}

/// Says whether a tag named a digest at some time, as far back as the journal and [`MAX_LOOKED_AT`] reach.
async fn has_named(ctx: &Ctx, repository: &Repository, tag: &Tag, digest: Digest) -> Result<bool, StoreError> {
    let of = HistoryOf::Tag(repository.clone(), tag.clone());
    let mut before = u64::MAX;
    for _ in 0..MAX_LOOKED_AT / PAGE {
        let records = ctx.store.history_before(of.clone(), before, PAGE).await?;
        let moves = records.iter().filter_map(|record| match &record.event {
            Event::Operation(operation) => Some(&operation.tags),
            _ => None,
        });
        let mut moves = moves.flatten().filter(|moved| moved.repository == *repository && moved.tag == *tag);
        if moves.any(|moved| moved.new == Some(digest)) {
            return Ok(true);
        }
        match records.last() {
            Some(last) if records.len() == PAGE => before = last.seq,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// What goes along into another repository.
struct Along<'a> {
    ctx: &'a Ctx,
    from: &'a Repository,
    to: &'a Repository,
    /// Successors first.
    manifests: Vec<ManifestAdded>,
    /// The tags under which something attached is found there.
    tags: BTreeMap<Tag, Digest>,
}

impl Along<'_> {
    /// Takes a subject, what it lists and is held in its repository, and what is attached to any of that.
    async fn take(&mut self, root: Digest, asked: &str) -> Result<(), TagError> {
        let mut seen = BTreeSet::from([root]);
        let mut wave = vec![(root, SubjectRole::Root)];
        while let Some((digest, role)) = wave.pop() {
            let row = self.ctx.store.manifest_row(self.from, digest).await?;
            let row = row.ok_or_else(|| QueryError::NotHeld(format!("{}@{digest}", self.from)))?;
            for child in row.successors.iter().filter(|successor| successor.manifest) {
                if self.ctx.store.facts().contains(self.from, child.digest) && seen.insert(child.digest) {
                    wave.push((child.digest, SubjectRole::Child));
                }
            }
            self.add(
                ManifestAdded { subject: Some(role), attached: None, signatures: Vec::new(), uncounted: 0, ..row },
                asked,
            )
            .await?;
        }
        // Found from the root down; committed from the leaves up.
        self.manifests.reverse();
        self.take_attached(seen, asked).await
    }

    async fn take_attached(&mut self, subjects: BTreeSet<Digest>, asked: &str) -> Result<(), TagError> {
        let mut wave: Vec<Digest> = subjects.iter().copied().collect();
        let mut seen: BTreeSet<(Digest, Digest)> = BTreeSet::new();
        for _ in 0..MAX_ATTACHED_DEPTH {
            for subject in std::mem::take(&mut wave) {
                for row in self.ctx.store.attached(subject).await? {
                    if row.repository != *self.from || !seen.insert((subject, row.digest)) {
                        continue;
                    }
                    if let Some(AttachedTo { tag: Some(tag), .. }) = &row.attached
                        && self.ctx.store.tag(self.from, tag).await?.is_some_and(|there| there.digest == row.digest)
                        && self.ctx.store.tag(self.to, tag).await?.is_none()
                    {
                        self.tags.insert(tag.clone(), row.digest);
                    }
                    wave.push(row.digest);
                    self.add(ManifestAdded { subject: None, ..row }, asked).await?;
                }
            }
        }
        Ok(())
    }

    /// Adds a row as one of the other repository, unless that has it already.
    async fn add(&mut self, row: ManifestAdded, asked: &str) -> Result<(), TagError> {
        let known = self.ctx.store.manifest_row(self.to, row.digest).await?;
        if known.is_some_and(|known| says_all(&known, &row)) {
            return Ok(());
        }
        if self.manifests.len() >= MAX_MANIFESTS {
            return Err(TagError::TooLarge(asked.to_owned()));
        }
        self.manifests.push(ManifestAdded { repository: self.to.clone(), ..row });
        Ok(())
    }
}

/// Says whether what is known of a manifest in a repository is all that a row says: its role, what it is attached to, its
/// signatures, and that no less of it is held.
fn says_all(known: &ManifestAdded, row: &ManifestAdded) -> bool {
    let role = row.subject.is_none() || known.subject == row.subject || known.subject == Some(SubjectRole::Root);
    let subject_of = |row: &ManifestAdded| row.attached.as_ref().map(|attached| attached.subject);
    let attached = row.attached.is_none() || subject_of(known) == subject_of(row);
    let signatures = row.signatures.iter().all(|new| known.signatures.iter().any(|one| one.id == new.id));
    role && attached && signatures && known.left_out.iter().all(|digest| row.left_out.contains(digest))
}

/// A tag that was removed, or would be.
#[derive(Clone, Debug)]
pub struct Removed {
    /// What it named.
    pub held: Held,
    /// The tags of the repository that still name the same.
    pub other_tags: Vec<Tag>,
}

/// Whether tags are removed, or it is only said what that would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are removed.
    Remove,
    /// Nothing is changed.
    DryRun,
}

/// Says why tags were not removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum UntagError {
    /// There is no such tag.
    #[error("{0} is not held here: there is no such tag")]
    NotHeld(Reference),
    /// It is named by digest.
    #[error("{reference} names content and no tag; content stays until it is collected")]
    Digest {
        /// As asked for.
        reference: Reference,
        /// Tags of the repository that name it.
        tags: Vec<Tag>,
    },
    /// It holds what is attached to a digest.
    #[error("the tag {0} holds what is attached to a digest, and is no name of an artifact")]
    Reserved(Tag),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UntagError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotHeld(_) => "not-held",
            Self::Digest { .. } => "no-tag",
            Self::Reserved(_) => "reserved-tag",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotHeld(reference) => {
                Some(format!("`larder ls {}` lists the tags that are here", reference.repository))
            }
            Self::Digest { tags, .. } if tags.is_empty() => {
                Some("no tag of this repository names it: nothing is left to remove".to_owned())
            }
            Self::Digest { reference, tags } => {
                let names: Vec<String> =
                    tags.iter().take(NAMED).map(|tag| format!("{}:{tag}", reference.repository)).collect();
                Some(format!("`larder rm {}` removes the tags that name it", names.join(" ")))
            }
            Self::Reserved(_) => {
                Some("a signature stays once it was seen; `trust/deny.yaml` takes a key's effect away".to_owned())
            }
            Self::Store(error) => error.hint(),
        }
    }
}

/// Removes tags, all or none. What they named stays held, by its digest. Returns the operation's seq; 0 for a dry run.
///
/// # Errors
/// Fails where one of them is no tag that is here.
pub async fn remove(
    ctx: &Ctx,
    actor: Actor,
    references: &[Reference],
    mode: Mode,
) -> Result<(Vec<Removed>, u64), UntagError> {
    let mut named: BTreeMap<(Repository, Tag), Digest> = BTreeMap::new();
    for reference in references {
        let repository = &reference.repository;
        if let Some(digest) = reference.digest {
            let mut tags = ctx.store.tags_of(repository, digest).await?;
            tags.retain(|tag| !DigestTag::is_reserved(tag));
            return Err(UntagError::Digest { reference: reference.clone(), tags });
        }
        let tag = reference.tag_or_latest().unwrap_or_else(Tag::latest);
        if DigestTag::is_reserved(&tag) {
            return Err(UntagError::Reserved(tag));
        }
        let Some(row) = ctx.store.tag(repository, &tag).await? else {
            return Err(UntagError::NotHeld(Reference::by_tag(repository.clone(), tag)));
        };
        named.insert((repository.clone(), tag), row.digest);
    }
    let mut removed = Vec::new();
    for ((repository, tag), digest) in &named {
        let mut other_tags = ctx.store.tags_of(repository, *digest).await?;
        other_tags.retain(|other| {
            !DigestTag::is_reserved(other) && !named.contains_key(&(repository.clone(), other.clone()))
        });
        let held = Held { repository: repository.clone(), tag: Some(tag.clone()), digest: *digest };
        removed.push(Removed { held, other_tags });
    }
    if mode == Mode::DryRun || named.is_empty() {
        return Ok((removed, 0));
    }
    let names: Vec<String> = named.keys().map(|(repository, tag)| format!("{repository}:{tag}")).collect();
    let tags = named.into_keys().map(|(repository, tag)| TagMoved { repository, tag, old: None, new: None }).collect();
    let operation = Operation {
        kind: OperationKind::Untag,
        reference: named_first(&names),
        manifests: Vec::new(),
        tags,
        detached: Vec::new(),
    };
    let seq = ctx.perform(actor, operation).await?;
    Ok((removed, seq))
}

/// Names the first few; the journal has all of them as moves.
fn named_first(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        text.parse().expect("a reference")
    }

    #[test]
    fn a_registrys_name_has_a_local_one_beside_it() {
        let error = TagError::Foreign { target: reference("alpine:mine"), asked: "alpine:3.22".to_owned() };
        assert_eq!(error.reason(), "foreign-name");
        assert!(error.to_string().starts_with("docker.io/library/alpine:mine is docker.io's to name"), "{error}");
        let hint = error.hint().expect("a hint");
        assert!(hint.contains("`larder tag alpine:3.22 localhost/library/alpine:mine`"), "{hint}");
        assert!(hint.contains("endpoint.push_to"), "{hint}");
    }

    #[test]
    fn a_digest_is_answered_with_its_tags() {
        let digest = Digest::of(b"x");
        let tags = vec!["1.4".parse().expect("a tag"), Tag::latest()];
        let error =
            UntagError::Digest { reference: Reference::by_digest(reference("r.io/a").repository, digest), tags };
        assert_eq!(error.hint().as_deref(), Some("`larder rm r.io/a:1.4 r.io/a:latest` removes the tags that name it"));
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..7).map(|number| format!("r/a:{number}")).collect();
        assert_eq!(named_first(&names), "r/a:0 r/a:1 r/a:2 r/a:3 r/a:4 and 2 more");
        assert_eq!(named_first(&names[..1]), "r/a:0");
    }
}
