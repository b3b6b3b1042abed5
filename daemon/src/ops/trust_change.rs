//! What follows a change of trust: record, publish, judge, tell.
//!
//! The order is: trust record durable → set published → answers change → differences journaled → told.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use larder_core::Digest;
use larder_core::judge::Concern;
use larder_core::policy::{TrustSet, TrustView};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Ctx;
use super::checks;
use super::tell::Which;
use crate::store::StoreError;
use crate::store::record::{Actor, Cause, Event, TrustChanged};
use crate::trust::{Condition, Published, Settled};

/// How long until a journal that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a set waits for the checks of its keys before it is put in force.
const CHECKING: Duration = Duration::from_secs(2);
/// How long after an instant at which a key begins or ceases to count it is looked at: timers are not exact.
const SLACK: Duration = Duration::from_millis(20);
/// The longest that a timer sleeps, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Follows the trust folder until it is cancelled.
pub async fn follow(ctx: Ctx, mut settled: mpsc::Receiver<Settled>, cancel: CancellationToken) {
    let mut published = ctx.trust.published();
    let mut follower = Follower { ctx, told: None, waiting: None, cause: None, said: None };
    loop {
        let due = follower.due();
        tokio::select! {
            () = cancel.cancelled() => return,
            received = settled.recv() => match received {
                Some(settled) => follower.waiting = Some(settled),
                None => return,
            },
            changed = published.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(due) => {}
        }
        // A newer reading replaces one that waits.
        while let Ok(newer) = settled.try_recv() {
            follower.waiting = Some(newer);
        }
        published.borrow_and_update();
        follower.step().await;
    }
}

struct Follower {
    ctx: Ctx,
    /// Under what, and when, everything was judged and told last; `None` before the first time.
    told: Option<(TrustView, Timestamp)>,
    /// A settled reading that is not in force yet.
    waiting: Option<Settled>,
    /// Why verdicts may differ from what was told: the changes put in force since.
    cause: Option<Cause>,
    /// How the folder was when the log last said so.
    said: Option<Condition>,
}

impl Follower {
    async fn step(&mut self) {
        if let Some(settled) = self.waiting.take() {
            match self.put_in_force(&settled).await {
                Ok(cause) => self.cause = Some(cause),
                Err(error) => {
                    // What narrows is in effect all the same; what widens waits until it is on record.
                    tracing::error!(%error, "a change of trust could not be journaled; trying again");
                    self.waiting = Some(settled);
                }
            }
        }
        let published = self.ctx.trust.published().borrow().clone();
        if matches!(published.condition, Condition::Starting | Condition::Unsettled) {
            return;
        }
        self.say(&published);
        let Published { condition, view, .. } = published;
        let now = self.ctx.clock.now();
        let cause = self.cause.take().unwrap_or_else(|| self.cause_without_change(condition));
        let which = match &self.told {
            None => Which::All,
            Some((before, then)) => Which::Concerned(Concern::between((before, *then), (&view, now))),
        };
        if !self.tell(&cause, which, &view).await {
            return self.again(cause);
        }
        let keys = checks::anchors_of(&view);
        let ids: Vec<_> = keys.iter().map(larder_core::policy::CheckAnchor::id).collect();
        if !self.ctx.store.facts().missing_checks(&ids, None).is_empty() {
            checks::compute_all(&self.ctx, &keys).await;
            if !self.tell(&cause, Which::All, &view).await {
                return self.again(cause);
            }
        }
        self.told = Some((view, now));
    }

    /// Logs when the folder begins or ceases to be faulty or missing: meanwhile nothing new is accepted.
    fn say(&mut self, published: &Published) {
        let before = self.said.replace(published.condition);
        if before == Some(published.condition) {
            return;
        }
        let folder = self.ctx.trust.path().display();
        match (before, published.condition) {
            (_, Condition::Faulty | Condition::Missing) => {
                let condition = published.condition.name();
                tracing::error!(%folder, condition, "nothing new is accepted until the trust folder is mended");
                for fault in &published.faults {
                    tracing::error!(file = fault.path, "{}", fault.message);
                }
            }
            (Some(Condition::Faulty | Condition::Missing), Condition::Settled) => {
                tracing::info!(%folder, "the trust folder is without fault again");
            }
            _ => {}
        }
    }

    /// Makes the trust record durable and then publishes the set. Returns the cause of what follows.
    async fn put_in_force(&self, settled: &Settled) -> Result<Cause, StoreError> {
        let blob = settled.files.to_blob();
        if settled.files.0.is_empty() && self.ctx.store.trust_in_force().is_none() {
            // A new home trusts nothing: that is no change, and starting writes no record.
            self.ctx.trust.put_in_force(settled, Digest::of(&blob), self.ctx.clock.now());
            return Ok(self.cause_without_change(Condition::Settled));
        }
        // What the new keys make of the signatures here is arithmetic and can be known before they count: then nothing
        // has to be pending. In a large store the rest comes after.
        let keys = settled.reading.set.check_anchors();
        let _ = tokio::time::timeout(CHECKING, checks::compute_all(&self.ctx, &keys)).await;
        let set = self.ctx.store.put(blob).await?;
        let event = Event::TrustChanged(TrustChanged { changes: settled.changes.clone(), set });
        let actor = Actor { uid: None, via: "file".to_owned() };
        let records = self.ctx.commit(actor, vec![event]).await?;
        let since = records.last().map_or_else(|| self.ctx.clock.now(), |record| record.time);
        self.ctx.trust.put_in_force(settled, set, since);
        Ok(Cause { code: "trust-changed".to_owned(), detail: settled.changes.join(", ") })
    }

    fn cause_without_change(&self, condition: Condition) -> Cause {
        let (code, detail) = match (condition, &self.told) {
            (Condition::Faulty, _) => ("trust-faulty", "the trust folder is faulty"),
            (Condition::Missing, _) => ("trust-missing", "the trust folder cannot be read"),
            (_, None) => ("recovered", "what was not told before larderd stopped"),
            (_, Some((TrustView::Settled(_), _))) => ("time", "a key or a root began or ceased to count"),
            (_, Some(_)) => ("trust-settled", "the trust folder is without fault again"),
        };
        Cause { code: code.to_owned(), detail: detail.to_owned() }
    }

    /// Has everything judged again at the next step, for the same cause.
    fn again(&mut self, cause: Cause) {
        self.told = None;
        self.cause = Some(cause);
    }

    /// Says whether the telling is durable.
    async fn tell(&self, cause: &Cause, which: Which, view: &TrustView) -> bool {
        let actor = Actor::daemon();
        let told = self.ctx.teller.tell_under(&self.ctx, &actor, cause.clone(), which, view.clone());
        match told.await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "verdicts could not be told; trying again");
                false
            }
        }
    }

    /// Returns how long to sleep at most: until a verdict can change by itself, or something is to be tried again.
    fn due(&self) -> Duration {
        if self.waiting.is_some() {
            return RETRY;
        }
        let Some((view, _)) = &self.told else { return RETRY };
        let sets: Vec<&Arc<TrustSet>> = match view {
            TrustView::Starting => Vec::new(),
            TrustView::Settled(set) | TrustView::Missing { settled: set } => vec![set],
            TrustView::Disturbed { settled, readable } => vec![settled, readable],
        };
        let now = self.ctx.clock.now();
        let next = sets.into_iter().filter_map(|set| set.next_change(now)).min();
        let until = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        until.map_or(LONGEST_SLEEP, |until| (until + SLACK).min(LONGEST_SLEEP))
    }
}
