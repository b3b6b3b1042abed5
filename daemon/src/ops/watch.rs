//! Follows verdicts: what was told last, then every change, losing none.

use jiff::Timestamp;
use larder_core::verdict::{Reason, State};
use larder_core::{Digest, Repository, Tag};
use tokio::sync::mpsc;

use super::Ctx;
use crate::store::StoreError;
use crate::store::record::{Cause, Event, Record, VerdictTold};
use crate::trust::{Condition, Published};

/// How many records are read from the journal at once.
const PAGE: usize = 256;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the states last told.
    Snapshot,
    /// With what comes from now on.
    Now,
    /// With the oldest that is kept.
    Start,
    /// With what came after this seq.
    After(u64),
}

/// One thing on a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The seq; of a notice the last one before it.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub what: What,
}

/// What a watch shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A state that was told last.
    State(Subject, Cause),
    /// The snapshot is complete.
    Complete,
    /// A state changed.
    Change(Subject, Cause),
    /// A trust set was put in force.
    Trust(Cause),
    /// The trust folder or the store is in trouble, or well again.
    Notice(Cause),
}

/// A subject and its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its repository.
    pub repository: Repository,
    /// Its digest.
    pub digest: Digest,
    /// Its tags when it was told.
    pub tags: Vec<Tag>,
    /// What was told before; in a snapshot and at a first telling `None`.
    pub from: Option<State>,
    /// The state.
    pub to: State,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl Subject {
    fn told(change: VerdictTold) -> Self {
        let VerdictTold { repository, digest, tags, from, to, reasons, .. } = change;
        Self { repository, digest, tags, from, to, reasons }
    }
}

/// Says why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The cursor is one that the journal has not reached.
    #[error("the cursor {cursor} is ahead of the journal, which is at {head}")]
    Ahead {
        /// The cursor.
        cursor: u64,
        /// The journal's last seq.
        head: u64,
    },
    /// What came after the cursor is not all there any more.
    #[error("the cursor {cursor} is of history that was pruned; the journal begins at seq {oldest}")]
    Pruned {
        /// The cursor.
        cursor: u64,
        /// The oldest seq that there is.
        oldest: u64,
    },
    /// The store failed.
    #[error("{0}")]
    Store(StoreError),
}

impl WatchError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Ahead { .. } => "cursor-ahead",
            Self::Pruned { .. } => "cursor-pruned",
            Self::Store(error) => error.reason(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ahead { .. } => Some("watch without a cursor: the home was replaced or restored".to_owned()),
            Self::Pruned { oldest, .. } => {
                let before = oldest.saturating_sub(1);
                Some(format!(
                    "watch without a cursor, which tells every state anew and then what changes; --from {before} begins with \
                     the oldest change that is kept"
                ))
            }
            Self::Store(error) => error.hint(),
        }
    }

    /// Returns the oldest seq that there is, where that is what the error is about.
    pub fn oldest(&self) -> Option<u64> {
        match self {
            Self::Pruned { oldest, .. } => Some(*oldest),
            Self::Ahead { .. } | Self::Store(_) => None,
        }
    }

    /// A store's error at this cursor.
    fn at(cursor: u64) -> impl FnOnce(StoreError) -> Self {
        move |error| match error {
            StoreError::Pruned { oldest } => Self::Pruned { cursor, oldest },
            error => Self::Store(error),
        }
    }
}

/// Sends what a watch shows until the receiver is gone.
///
/// # Errors
/// Fails where the cursor is ahead of the journal, or of history that was pruned, or the journal cannot be read.
pub async fn watch(ctx: &Ctx, from: From, items: &mpsc::Sender<Item>) -> Result<(), WatchError> {
    let mut head = ctx.store.head();
    let mut published = ctx.trust.published();
    let mut read_only = ctx.store.read_only();
    let now = *head.borrow_and_update();
    let mut cursor = match from {
        From::Snapshot => match snapshot(ctx, now, items).await.map_err(WatchError::at(now))? {
            Some(cursor) => cursor,
            None => return Ok(()),
        },
        From::Now => now,
        From::Start => ctx.store.oldest().0.saturating_sub(1),
        From::After(cursor) if cursor > now => return Err(WatchError::Ahead { cursor, head: now }),
        From::After(cursor) => cursor,
    };
    let mut condition = Condition::Settled;
    loop {
        let notice = notice_of(&mut condition, &published.borrow_and_update());
        let notices = notice.into_iter().chain(read_only_notice(&mut read_only));
        for cause in notices {
            let item = Item { seq: cursor, time: ctx.clock.now(), what: What::Notice(cause) };
            if items.send(item).await.is_err() {
                return Ok(());
            }
        }
        loop {
            let records = ctx.store.history_after(cursor, PAGE).await.map_err(WatchError::at(cursor))?;
            if records.is_empty() {
                break;
            }
            for record in records {
                for (seq, item) in changes(record, cursor) {
                    cursor = cursor.max(seq);
                    if let Some(item) = item
                        && items.send(item).await.is_err()
                    {
                        return Ok(());
                    }
                }
            }
        }
        tokio::select! {
            changed = head.changed() => if changed.is_err() { return Ok(()) },
            changed = published.changed() => if changed.is_err() { return Ok(()) },
            changed = read_only.changed() => if changed.is_err() { return Ok(()) },
            () = items.closed() => return Ok(()),
        }
    }
}

/// Sends the states last told, in the order of their telling. Returns where the tail begins; `None` where nobody listens any more.
async fn snapshot(ctx: &Ctx, head: u64, items: &mpsc::Sender<Item>) -> Result<Option<u64>, StoreError> {
    let mut told: Vec<(u64, Repository, Digest)> = {
        let facts = ctx.store.facts();
        let told = facts
            .subjects()
            .filter_map(|(repository, digest)| Some((facts.told(repository, digest)?.seq, repository.clone(), digest)));
        told.collect()
    };
    told.sort();
    // Facts are applied record by record: whoever sees one telling sees all before it.
    let cursor = told.last().map_or(head, |(seq, ..)| head.max(*seq));
    let mut read: Vec<(u64, Timestamp, VerdictTold, Cause)> = Vec::new();
    for (seq, ..) in told {
        if !read.iter().any(|(read, ..)| *read == seq) {
            read.clear();
            if let Some(record) = ctx.store.record_from(seq).await? {
                let time = record.time;
                if let Event::VerdictsTold(told) = record.event {
                    let cause = told.cause;
                    read.extend(
                        (record.seq..).zip(told.changes).map(|(seq, change)| (seq, time, change, cause.clone())),
                    );
                }
            }
        }
        let Some(at) = read.iter().position(|(read, ..)| *read == seq) else { continue };
        let (seq, time, change, cause) = read.swap_remove(at);
        let subject = Subject { from: None, ..Subject::told(change) };
        if items.send(Item { seq, time, what: What::State(subject, cause) }).await.is_err() {
            return Ok(None);
        }
    }
    let complete = Item { seq: cursor, time: ctx.clock.now(), what: What::Complete };
    Ok(items.send(complete).await.is_ok().then_some(cursor))
}

/// Parts a record into what a watch shows of it, each with the seq that it takes.
fn changes(record: Record, after: u64) -> Vec<(u64, Option<Item>)> {
    let Record { seq, time, event, .. } = record;
    match event {
        Event::VerdictsTold(told) => {
            let cause = told.cause;
            (seq..)
                .zip(told.changes)
                .filter(|(seq, _)| *seq > after)
                .map(|(seq, change)| {
                    (seq, Some(Item { seq, time, what: What::Change(Subject::told(change), cause.clone()) }))
                })
                .collect()
        }
        Event::TrustChanged(changed) => {
            let cause = Cause { code: "trust-changed".to_owned(), detail: changed.changes.join(", ") };
            vec![(seq, Some(Item { seq, time, what: What::Trust(cause) }))]
        }
        Event::Operation(_) | Event::Corruption(_) | Event::Pruned(_) => vec![(seq, None)],
    }
}

/// Says that a time of trouble in the trust folder begins or ends. Settling takes some milliseconds and is no trouble.
fn notice_of(before: &mut Condition, published: &Published) -> Option<Cause> {
    let now = published.condition;
    if now == Condition::Unsettled || now == *before {
        return None;
    }
    *before = now;
    let faults: Vec<String> =
        published.faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    let (code, detail) = match now {
        Condition::Settled => ("trust-settled", "the trust folder is settled and without fault".to_owned()),
        Condition::Faulty => ("trust-faulty", format!("nothing new is accepted: {}", faults.join("; "))),
        Condition::Missing => ("trust-missing", format!("whatever was accepted is pending: {}", faults.join("; "))),
        Condition::Starting | Condition::Unsettled => ("trust-starting", "the trust folder is being read".to_owned()),
    };
    Some(Cause { code: code.to_owned(), detail })
}

fn read_only_notice(read_only: &mut tokio::sync::watch::Receiver<Option<String>>) -> Option<Cause> {
    if !read_only.has_changed().unwrap_or(false) {
        return None;
    }
    let why = read_only.borrow_and_update().clone()?;
    Some(Cause { code: "read-only".to_owned(), detail: why })
}
