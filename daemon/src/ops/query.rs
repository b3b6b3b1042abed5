//! "May I run this, and why (not)?": answered from what is held.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use larder_core::artifact::DigestTag;
use larder_core::judge::{Node, explain as explain_judgement, judge_view};
use larder_core::reference::ReferenceError;
use larder_core::verdict::{State, Verdict};
use larder_core::{Digest, Reference, Repository, Tag};

use super::{Ctx, beside};
use crate::store::StoreError;

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A repository's tag or digest.
    Of(Reference),
    /// A digest, wherever it is held.
    Bare(Digest),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(reference) => reference.fmt(f),
            Self::Bare(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for Question {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse() {
            Ok(digest) => Ok(Self::Bare(digest)),
            Err(_) => text.parse().map(Self::Of),
        }
    }
}

/// Says why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is no reference.
    #[error("{0}")]
    Reference(#[from] ReferenceError),
    /// Nothing is held under it.
    #[error("{0} is not held here")]
    NotHeld(String),
    /// What is held under it is no subject, but attached to one.
    #[error("{0} is no subject: it holds what is attached to another artifact")]
    Attached(String),
    /// The store did not answer.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl QueryError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Reference(_) => "invalid-reference",
            Self::NotHeld(_) => "not-held",
            Self::Attached(_) => "not-a-subject",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(error) => Some(error.hint().to_owned()),
            Self::NotHeld(what) if what.starts_with("localhost/") => Some(
                "`larder ls` lists what is here; a local repository is filled by pushing to the endpoint".to_owned(),
            ),
            Self::NotHeld(what) => Some(format!("`larder pull {what}` brings it, `larder ls` lists what is here")),
            Self::Attached(_) => Some("`larder show` on its subject lists what is attached".to_owned()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// A subject that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its repository.
    pub repository: Repository,
    /// The tag that it was asked for by.
    pub tag: Option<Tag>,
    /// Its digest.
    pub digest: Digest,
}

/// A verdict and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The subject.
    pub held: Held,
    /// All tags of the repository that name it.
    pub tags: Vec<Tag>,
    /// When it was first seen in the repository.
    pub first_seen: Option<Timestamp>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Resolves a reference to the subject that is held under it.
///
/// # Errors
/// Fails where nothing, or no subject, is held under it.
pub async fn resolve(ctx: &Ctx, reference: &Reference) -> Result<Held, QueryError> {
    let tag = reference.tag_or_latest();
    let digest = match (reference.digest, &tag) {
        (Some(digest), _) => digest,
        (None, Some(tag)) if DigestTag::is_reserved(tag) => return Err(QueryError::Attached(reference.to_string())),
        (None, Some(tag)) => match ctx.store.tag(&reference.repository, tag).await? {
            Some(row) => row.digest,
            None => return Err(QueryError::NotHeld(reference.to_string())),
        },
        (None, None) => return Err(QueryError::NotHeld(reference.to_string())),
    };
    if ctx.store.facts().contains(&reference.repository, digest) {
        return Ok(Held { repository: reference.repository.clone(), tag, digest });
    }
    match ctx.store.manifest_row(&reference.repository, digest).await? {
        Some(_) => Err(QueryError::Attached(reference.to_string())),
        None => Err(QueryError::NotHeld(reference.to_string())),
    }
}

/// Resolves a question: for a bare digest, to the repository that judges it worst.
///
/// # Errors
/// Fails as [`resolve`] does.
pub async fn find(ctx: &Ctx, question: &Question) -> Result<Held, QueryError> {
    match question {
        Question::Of(reference) => resolve(ctx, reference).await,
        Question::Bare(digest) => {
            let (view, now) = (ctx.view(), ctx.clock.now());
            let facts = ctx.store.facts();
            facts
                .repositories_of(*digest)
                .into_iter()
                .min_by_key(|repository| {
                    (judge_view(&facts, &view, repository, *digest, now).state, repository.clone())
                })
                .map(|repository| Held { repository, tag: None, digest: *digest })
                .ok_or_else(|| QueryError::NotHeld(digest.to_string()))
        }
    }
}

/// Judges what is held under a reference.
///
/// # Errors
/// Fails as [`find`] does.
pub async fn query(ctx: &Ctx, question: &Question) -> Result<Answer, QueryError> {
    let held = find(ctx, question).await?;
    Ok(answer(ctx, held).await)
}

/// Judges a subject that is held.
pub async fn answer(ctx: &Ctx, held: Held) -> Answer {
    // Tags are shown beside the verdict; while the index is rebuilt they are not known.
    let tags = ctx.store.tags_of(&held.repository, held.digest).await.unwrap_or_default();
    let verdict = ctx.verdict(&held.repository, held.digest);
    let first_seen = ctx.store.facts().first_seen(&held.repository, held.digest);
    Answer { held, tags, first_seen, verdict }
}

/// Says how a verdict came about.
///
/// # Errors
/// Fails as [`find`] does.
pub async fn explain(ctx: &Ctx, question: &Question) -> Result<(Answer, Node), QueryError> {
    let held = find(ctx, question).await?;
    let tags = ctx.store.tags_of(&held.repository, held.digest).await.unwrap_or_default();
    let view = ctx.view();
    let (verdict, node, first_seen) = {
        let facts = ctx.store.facts();
        let (verdict, node) = explain_judgement(&facts, &view, &held.repository, held.digest, ctx.clock.now());
        (verdict, node, facts.first_seen(&held.repository, held.digest))
    };
    let mut node = node;
    node.annotate(&beside::notes(ctx, &held, &view).await);
    Ok((Answer { held, tags, first_seen, verdict }, node))
}

/// All subjects by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many are in each state, worse first; states without a subject are left out.
    pub counts: Vec<(State, u64)>,
    /// How many are held.
    pub subjects: u64,
    /// How many are not accepted.
    pub not_accepted_total: u64,
    /// The first of them: worse first, then by name.
    pub not_accepted: Vec<Answer>,
}

/// Judges every subject that is held, and lists at most `limit` of those that are not accepted.
pub async fn summarize(ctx: &Ctx, limit: usize) -> Summary {
    let judging = ctx.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let (view, now) = (judging.view(), judging.clock.now());
        let facts = judging.store.facts();
        let mut counts = [0_u64; State::ALL.len()];
        let mut not_accepted = Vec::new();
        for (repository, digest) in facts.subjects() {
            let state = judge_view(&facts, &view, repository, digest, now).state;
            if let Some(count) = State::ALL.iter().position(|one| *one == state).and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
            if !state.is_accepted() {
                not_accepted.push((state, repository.clone(), digest));
            }
        }
        not_accepted.sort();
        (counts, not_accepted)
    });
    // The blocking pool refuses only while the daemon stops.
    let Ok((counts, not_accepted)) = judged.await else { return Summary::default() };
    let mut summary = Summary {
        subjects: counts.iter().sum(),
        counts: State::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect(),
        not_accepted_total: not_accepted.len() as u64,
        not_accepted: Vec::new(),
    };
    for (_, repository, digest) in not_accepted.into_iter().take(limit) {
        summary.not_accepted.push(answer(ctx, Held { repository, tag: None, digest }).await);
    }
    summary
}
