//! The stories, one file each, read from top to bottom. Sees neither tonic nor axum.

pub mod added;
pub mod receive;
pub mod serve;

use std::sync::Arc;

use larder_core::verdict::Verdict;
use larder_core::{Digest, Repository};

use crate::clock::Clock;
use crate::config::GateMode;
use crate::store::record::{Actor, Operation};
use crate::store::{Store, StoreError};

/// What every story works with. Cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    /// The store.
    pub store: Store,
    /// The clock.
    pub clock: Arc<Clock>,
    /// What the endpoint does with subjects that are not accepted.
    pub gate: GateMode,
}

impl Ctx {
    /// Judges a subject now, under what is in force.
    pub fn verdict(&self, _repository: &Repository, _digest: Digest) -> Verdict {
        unimplemented!()
    }
    /// Says whether pushes of subjects are allowed into this repository: local ones, and those that `endpoint.push_to` lists.
    pub fn may_push_to(&self, _repository: &Repository) -> bool {
        unimplemented!()
    }
    /// Performs an operation: commits it, computes the checks that it made missing, tells the verdicts that changed. Returns its seq.
    pub async fn perform(&self, _actor: Actor, _operation: Operation) -> Result<u64, StoreError> {
        unimplemented!()
    }
}
