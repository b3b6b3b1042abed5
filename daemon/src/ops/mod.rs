//! The stories, one file each, read from top to bottom.
//!
//! In comes what an inbound room has parsed; out goes a result or one error per story, which the room
//! renders. Nothing here knows gRPC or HTTP.

pub mod added;
pub mod artifacts;
pub mod attach;
pub mod attach_evidence;
mod beside;
pub mod catalog;
pub mod checks;
pub mod clean;
pub mod content;
pub mod corruption;
pub mod history;
pub mod load;
pub mod login;
pub mod metrics;
mod offered;
pub mod prune;
pub mod pull;
pub mod push;
pub mod query;
pub mod receive;
pub mod save;
pub mod sboms;
pub mod serve;
pub mod sign;
pub mod status;
pub mod tags;
pub mod tell;
pub mod tree;
pub mod trust_change;
pub mod trust_edit;
pub mod verify;
pub mod verify_asked;
pub mod watch;

use std::sync::Arc;

use larder_core::glob::Glob;
use larder_core::judge::judge_view;
use larder_core::policy::TrustView;
use larder_core::verdict::Verdict;
use larder_core::{Digest, Repository};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::config::GateMode;
use crate::remote::Remotes;
use crate::store::record::{Actor, Cause, Corruption, Event, Operation, OperationKind, Record};
use crate::store::{Store, StoreError};
use crate::telemetry::{Counters, log};
use crate::transfer::Flights;
use crate::trust::Folder;

pub use tell::Teller;

/// What every story works with. Cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    /// The store.
    pub store: Store,
    /// The clock.
    pub clock: Arc<Clock>,
    /// The trust folder.
    pub trust: Folder,
    /// The registries that can be reached.
    pub remotes: Remotes,
    /// What the endpoint does with subjects that are not accepted.
    pub gate: GateMode,
    /// The repositories under a registry's name into which the endpoint takes subjects.
    pub push_to: Arc<[Glob]>,
    /// How many blobs of one transfer move at once.
    pub concurrency: usize,
    /// The blobs that are being pulled right now.
    pub flights: Flights,
    /// Where signatures are checked.
    pub checks: checks::Pool,
    /// Tells changes of verdicts, one telling at a time.
    pub teller: Teller,
    /// Signing appends to what is there: one at a time, so that none is lost.
    pub signing: Arc<tokio::sync::Mutex<()>>,
    /// What is counted.
    pub counters: Counters,
    /// What goes on after its caller has left: tellings of operations that are durable.
    pub tasks: TaskTracker,
}

impl Ctx {
    /// Returns under what is judged right now.
    pub fn view(&self) -> TrustView {
        self.trust.published().borrow().view.clone()
    }

    /// Judges a subject now, under what is in force.
    pub fn verdict(&self, repository: &Repository, digest: Digest) -> Verdict {
        let view = self.view();
        judge_view(&self.store.facts(), &view, repository, digest, self.clock.now())
    }

    /// Says whether pushes of subjects are allowed into this repository: local ones, and those that
    /// `endpoint.push_to` lists.
    pub fn may_push_to(&self, repository: &Repository) -> bool {
        repository.is_local() || self.push_to.iter().any(|glob| glob.may_match(repository))
    }

    /// Makes events durable, and says so in the log and the counters.
    ///
    /// # Errors
    /// Fails as the store's commit does; nothing was changed then.
    pub(super) async fn commit(&self, actor: Actor, events: Vec<Event>) -> Result<Vec<Record>, StoreError> {
        let records = self.store.commit(actor, events).await?;
        for record in &records {
            log::journaled(record);
            self.counters.journaled(record);
        }
        Ok(records)
    }

    /// Performs an operation: commits it, computes the checks that it made missing, tells the
    /// verdicts that changed. Returns its seq.
    ///
    /// Once it is durable, the rest is done whether or not the caller still waits.
    ///
    /// # Errors
    /// Fails as the store's commit does; nothing was changed then.
    pub async fn perform(&self, actor: Actor, operation: Operation) -> Result<u64, StoreError> {
        let ctx = self.clone();
        let performing = async move {
            let cause = cause_of(&operation);
            let affected = tell::affected_by(&operation, &ctx.store.facts());
            let mut events = healed(&ctx, &operation);
            events.push(Event::Operation(operation));
            let records = ctx.commit(actor.clone(), events).await?;
            let seq = records.last().map_or(0, |record| record.seq);
            let affected = affected.with_children(&ctx);
            if affected.subjects.is_empty() {
                return Ok(seq);
            }
            checks::compute_for(&ctx, &affected.digests).await;
            // The operation is done; a telling that fails is made up for by the next sweep.
            if let Err(error) = ctx.teller.tell(&ctx, &actor, cause, affected.into()).await {
                tracing::error!(%error, "verdicts could not be told");
            }
            Ok(seq)
        };
        let performed = self.tasks.spawn(performing.in_current_span());
        performed.await.unwrap_or(Err(StoreError::Stopping))
    }
}

/// What was corrupt and is held again: content under `blobs/` was verified when it was written.
fn healed(ctx: &Ctx, operation: &Operation) -> Vec<Event> {
    let facts = ctx.store.facts();
    let brought = operation.manifests.iter().map(|manifest| manifest.digest);
    brought
        .filter(|digest| facts.is_corrupt(*digest) && ctx.store.has(digest))
        .map(|digest| Event::Corruption(Corruption { digest, corrupt: false }))
        .collect()
}

fn cause_of(operation: &Operation) -> Cause {
    let (code, words) = match operation.kind {
        OperationKind::Pull => ("pulled", "was pulled"),
        OperationKind::Push => ("pushed", "was pushed"),
        OperationKind::Receive => ("received", "was written through the endpoint"),
        OperationKind::Sign => ("signed", "was signed"),
        OperationKind::Tag => ("tagged", "was tagged"),
        OperationKind::Untag => ("untagged", "was removed"),
        OperationKind::Save => ("saved", "was saved"),
        OperationKind::Load => ("loaded", "was loaded"),
        OperationKind::Attach => ("attached", "got an SBOM"),
        OperationKind::Clean => ("cleaned", "lost what was attached to it"),
    };
    Cause { code: code.to_owned(), detail: format!("{} {words}", operation.reference) }
}
