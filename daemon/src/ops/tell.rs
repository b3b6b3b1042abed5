//! Tells what changed: judges, compares with what was told last, and journals the differences.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use larder_core::facts::Facts;
use larder_core::judge::{Concern, judge_view};
use larder_core::policy::TrustView;
use larder_core::verdict::{State, Verdict};
use larder_core::{Digest, Repository};
use tokio::time::Instant;

use super::Ctx;
use crate::store::StoreError;
use crate::store::record::{Actor, Cause, Event, Operation, VerdictTold, VerdictsTold};
use crate::trust::Condition;

/// The most changes that one record tells.
const MAX_CHANGES: usize = 1000;
/// How long a telling waits for the trust folder to settle before it tells under what is in force meanwhile.
const SETTLING: Duration = Duration::from_secs(2);

/// Tells changes of verdicts. Cheap to clone.
#[derive(Clone, Default)]
pub struct Teller {
    /// Held from judging until the record is durable: two tellings at once would tell one change twice.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Which subjects a telling looks at.
#[derive(Debug)]
pub enum Which {
    /// Every one.
    All,
    /// Those that a change of trust can concern.
    Concerned(Concern),
    /// These.
    These(BTreeSet<(Repository, Digest)>),
}

/// What an operation touched.
#[derive(Debug, Default)]
pub struct Affected {
    /// The subjects whose verdict can be another one now.
    pub subjects: BTreeSet<(Repository, Digest)>,
    /// The digests at which, or over which, signatures may have to be checked.
    pub digests: BTreeSet<Digest>,
}

impl From<Affected> for Which {
    fn from(affected: Affected) -> Self {
        Self::These(affected.subjects)
    }
}

/// Returns what an operation touches: the subjects that it brings, and the digests that the signatures hang on or name which
/// it brings or takes away. Asked before it is committed.
pub fn affected_by(operation: &Operation, facts: &Facts) -> Affected {
    let mut affected = Affected::default();
    for manifest in &operation.manifests {
        if manifest.subject.is_some() {
            affected.subjects.insert((manifest.repository.clone(), manifest.digest));
            affected.digests.insert(manifest.digest);
        }
        affected.digests.extend(manifest.attached.as_ref().map(|attached| attached.subject));
        affected.digests.extend(manifest.signatures.iter().filter_map(|row| row.names));
    }
    for detached in &operation.detached {
        affected.digests.insert(detached.subject);
        let named = detached.signatures.iter().filter_map(|id| facts.signature(*id)?.names);
        affected.digests.extend(named);
    }
    affected
}

impl Affected {
    /// Adds the subjects that the touched digests are, in every repository, and what they list: acceptance goes down.
    pub fn with_children(mut self, ctx: &Ctx) -> Self {
        let facts = ctx.store.facts();
        for digest in &self.digests {
            self.subjects.extend(facts.repositories_of(*digest).into_iter().map(|repository| (repository, *digest)));
        }
        let mut wave: Vec<(Repository, Digest)> = self.subjects.iter().cloned().collect();
        while let Some((repository, index)) = wave.pop() {
            for child in facts.children_of(&repository, index) {
                if self.subjects.insert((repository.clone(), child)) {
                    self.digests.insert(child);
                    wave.push((repository.clone(), child));
                }
            }
        }
        drop(facts);
        self
    }
}

struct Change {
    repository: Repository,
    digest: Digest,
    from: Option<State>,
    previous: u64,
    verdict: Verdict,
}

impl Teller {
    /// Waits until a telling that is under way is durable, at most for `longest`.
    pub async fn rest(&self, longest: Duration) {
        // Whoever waits in vain sees what was told before.
        let _ = tokio::time::timeout(longest, self.turn.lock()).await;
    }

    /// Judges the subjects and tells those whose state is another one than was told last. Returns how many were told.
    ///
    /// Waits until the trust folder is settled, or known to be faulty or missing. *Pending* is an answer, never
    /// told: such a subject is told when its checks are there.
    ///
    /// # Errors
    /// Fails where the journal cannot be written; the changes are told by a later telling then.
    pub async fn tell(&self, ctx: &Ctx, actor: &Actor, cause: Cause, which: Which) -> Result<usize, StoreError> {
        let deadline = Instant::now() + SETTLING;
        let turn = loop {
            settled(ctx, deadline).await;
            let turn = self.turn.lock().await;
            if is_known(ctx.trust.published().borrow().condition) || Instant::now() >= deadline {
                break turn;
            }
        };
        let told = tell(ctx, actor, cause, which, ctx.view()).await;
        drop(turn);
        told
    }

    /// Tells as [`Self::tell`] does, under this view, without waiting: for the one on whom settling waits.
    ///
    /// # Errors
    /// Fails where the journal cannot be written; the changes are told by a later telling then.
    pub async fn tell_under(
        &self,
        ctx: &Ctx,
        actor: &Actor,
        cause: Cause,
        which: Which,
        view: TrustView,
    ) -> Result<usize, StoreError> {
        let turn = self.turn.lock().await;
        let told = tell(ctx, actor, cause, which, view).await;
        drop(turn);
        told
    }
}

async fn tell(ctx: &Ctx, actor: &Actor, cause: Cause, which: Which, view: TrustView) -> Result<usize, StoreError> {
    let now = ctx.clock.now();
    let judging = ctx.clone();
    let changes = tokio::task::spawn_blocking(move || differences(&judging, &view, &which, now))
        .await
        .map_err(|_| StoreError::Stopping)?;
    let told = changes.len();
    let mut changes = changes.into_iter();
    loop {
        let mut part = Vec::new();
        for change in changes.by_ref().take(MAX_CHANGES) {
            let tags = ctx.store.tags_of(&change.repository, change.digest).await.unwrap_or_default();
            part.push(VerdictTold {
                repository: change.repository,
                digest: change.digest,
                tags,
                from: change.from,
                to: change.verdict.state,
                reasons: change.verdict.reasons,
                previous: change.previous,
            });
        }
        if part.is_empty() {
            return Ok(told);
        }
        let event = Event::VerdictsTold(VerdictsTold { cause: cause.clone(), changes: part });
        ctx.commit(actor.clone(), vec![event]).await?;
    }
}

fn is_known(condition: Condition) -> bool {
    !matches!(condition, Condition::Unsettled | Condition::Starting)
}

async fn settled(ctx: &Ctx, deadline: Instant) {
    let mut published = ctx.trust.published();
    let known = published.wait_for(|published| is_known(published.condition));
    if tokio::time::timeout_at(deadline, known).await.is_err() {
        tracing::warn!("the trust folder does not settle; telling under what can be read of it");
    }
}

fn differences(ctx: &Ctx, view: &TrustView, which: &Which, now: Timestamp) -> Vec<Change> {
    let facts = ctx.store.facts();
    let differs = |repository: &Repository, digest: Digest| {
        let verdict = judge_view(&facts, view, repository, digest, now);
        let told = facts.told(repository, digest);
        if verdict.state == State::Pending || told.is_some_and(|told| told.state == verdict.state) {
            return None;
        }
        let (from, previous) = told.map_or((None, 0), |told| (Some(told.state), told.seq));
        Some(Change { repository: repository.clone(), digest, from, previous, verdict })
    };
    let mut changes: Vec<Change> = match which {
        Which::All => facts.subjects().filter_map(|(repository, digest)| differs(repository, digest)).collect(),
        Which::Concerned(concern) => facts
            .subjects()
            .filter(|(repository, digest)| concern.covers(&facts, repository, *digest))
            .filter_map(|(repository, digest)| differs(repository, digest))
            .collect(),
        Which::These(subjects) => subjects
            .iter()
            .filter(|(repository, digest)| facts.contains(repository, *digest))
            .filter_map(|(repository, digest)| differs(repository, *digest))
            .collect(),
    };
    changes.sort_by(|a, b| (&a.repository, a.digest).cmp(&(&b.repository, b.digest)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rests_while_a_telling_is_under_way_and_no_longer_than_said() {
        let teller = Teller::default();
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        teller.rest(second).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nothing is under way");
        let turn = teller.turn.lock().await;
        teller.rest(second).await;
        assert_eq!(begun.elapsed(), second, "it goes on for longer");
        let waiting = tokio::join!(teller.rest(10 * second), async {
            tokio::time::sleep(second).await;
            drop(turn);
        });
        let ((), ()) = waiting;
        assert_eq!(begun.elapsed(), 2 * second, "it ended");
    }
}
