//! What happened: to everything, to a subject, to a tag.

use std::time::Duration;

use jiff::Timestamp;
use larder_core::{Digest, Reference};

use super::Ctx;
use super::query::{QueryError, Question};
use crate::store::record::{
    Actor, Cause, Event, HistoryOf, OperationKind, Pruned, Record, TagMoved, TrustChanged, VerdictTold,
};

/// How long history waits for a telling that is under way.
const TELLING: Duration = Duration::from_secs(2);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its seq.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A verdict was told.
    Verdict(VerdictTold, Cause),
    /// A tag moved.
    Tag(TagMoved),
    /// An operation ended.
    Operation {
        /// Which kind.
        kind: OperationKind,
        /// The reference as asked for.
        reference: String,
        /// How many manifests it brought.
        manifests: usize,
        /// How many signatures those hold.
        signatures: usize,
    },
    /// A trust set was put in force.
    Trust(TrustChanged),
    /// Content failed its digest (true), or is whole again (false).
    Corruption(Digest, bool),
    /// The oldest part of the journal was replaced by what still matters of it.
    Pruned(Pruned),
}

/// A page of history, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins; 0 on the last.
    pub next_before: u64,
    /// On the last page: up to which seq history was pruned, and when. Of that there is only what still matters.
    pub pruned: Option<(u64, Timestamp)>,
}

/// Lists what happened before a seq, at most `limit` records of it.
///
/// # Errors
/// Fails where the reference is none, or the index is being rebuilt.
pub async fn history(ctx: &Ctx, reference: &str, before: u64, limit: usize) -> Result<Page, QueryError> {
    let of = scope(ctx, reference).await?;
    // Whoever has just changed something wants to see what that did.
    ctx.teller.rest(TELLING).await;
    let before = if before == 0 { u64::MAX } else { before };
    let records = ctx.store.history_before(of.clone(), before, limit).await?;
    let next_before = if records.len() < limit { 0 } else { records.last().map_or(0, |record| record.seq) };
    let current = match &of {
        HistoryOf::Tag(repository, tag) => ctx.store.tag(repository, tag).await?.map(|row| row.digest),
        _ => None,
    };
    let entries: Vec<Entry> =
        records.into_iter().flat_map(|record| entries(record, &of, current).into_iter().rev()).collect();
    let (oldest, pruned) = ctx.store.oldest();
    let pruned = pruned.filter(|_| next_before == 0).map(|time| (oldest.saturating_sub(1), time));
    Ok(Page { entries, next_before, pruned })
}

async fn scope(ctx: &Ctx, reference: &str) -> Result<HistoryOf, QueryError> {
    if reference.is_empty() {
        return Ok(HistoryOf::All);
    }
    let question: Question = reference.parse()?;
    Ok(match question {
        Question::Of(Reference { repository, digest: Some(digest), .. }) => HistoryOf::Subject(repository, digest),
        Question::Of(reference) => {
            let tag = reference.tag_or_latest().unwrap_or_else(larder_core::Tag::latest);
            HistoryOf::Tag(reference.repository, tag)
        }
        Question::Bare(digest) => {
            let repositories = ctx.store.facts().repositories_of(digest);
            let repository = repositories.into_iter().next();
            HistoryOf::Subject(repository.ok_or_else(|| QueryError::NotHeld(digest.to_string()))?, digest)
        }
    })
}

/// Parts a record into its entries, those alone that are about what was asked for.
fn entries(record: Record, of: &HistoryOf, current: Option<Digest>) -> Vec<Entry> {
    let Record { seq, time, actor, event } = record;
    let entry = |seq: u64, what: What| Entry { seq, time, actor: actor.clone(), what };
    match event {
        Event::Operation(operation) => {
            let what = What::Operation {
                kind: operation.kind,
                reference: operation.reference,
                signatures: operation.manifests.iter().map(|manifest| manifest.signatures.len()).sum(),
                manifests: operation.manifests.len(),
            };
            let moved = operation.tags.into_iter().filter(|moved| match of {
                HistoryOf::All => true,
                HistoryOf::Tag(repository, tag) => moved.repository == *repository && moved.tag == *tag,
                HistoryOf::Subject(repository, digest) => {
                    moved.repository == *repository && [moved.old, moved.new].contains(&Some(*digest))
                }
            });
            let mut all = vec![entry(seq, what)];
            all.extend(moved.map(|moved| entry(seq, What::Tag(moved))));
            all
        }
        Event::TrustChanged(changed) => vec![entry(seq, What::Trust(changed))],
        Event::VerdictsTold(told) => {
            let cause = told.cause;
            let of_interest = |change: &VerdictTold| match of {
                HistoryOf::All => true,
                HistoryOf::Subject(repository, digest) => change.repository == *repository && change.digest == *digest,
                HistoryOf::Tag(repository, tag) => {
                    change.repository == *repository && (change.tags.contains(tag) || Some(change.digest) == current)
                }
            };
            (seq..)
                .zip(told.changes)
                .filter(|(_, change)| of_interest(change))
                .map(|(seq, change)| entry(seq, What::Verdict(change, cause.clone())))
                .collect()
        }
        Event::Pruned(pruned) => vec![entry(seq, What::Pruned(pruned))],
        Event::Corruption(corruption) => vec![entry(seq, What::Corruption(corruption.digest, corruption.corrupt))],
    }
}
