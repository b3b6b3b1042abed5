//! The judgement: facts and trust in, verdict out. Pure.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::facts::Facts;
use crate::policy::{TrustSet, TrustView};
use crate::reference::Repository;
use crate::verdict::Verdict;

/// Judges a subject under one settled set.
pub fn judge(_facts: &Facts, _trust: &TrustSet, _repository: &Repository, _digest: Digest, _now: Timestamp) -> Verdict {
    unimplemented!()
}

/// Judges a subject under what is in force and what can be read meanwhile: the worse of two verdicts.
pub fn judge_view(_facts: &Facts, _view: &TrustView, _repository: &Repository, _digest: Digest, _now: Timestamp) -> Verdict {
    unimplemented!()
}

/// Says which subjects the step from one view to another can concern.
#[derive(Debug)]
pub struct Concern {}

impl Concern {
    /// Compares two views (and their instants, for validFor).
    pub fn between(_before: (&TrustView, Timestamp), _after: (&TrustView, Timestamp)) -> Self {
        unimplemented!()
    }
    /// Says whether the subject's verdict can differ between the two.
    pub fn covers(&self, _facts: &Facts, _repository: &Repository, _digest: Digest) -> bool {
        unimplemented!()
    }
}

/// How a verdict came about: a tree for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// subject, policy, authority, keys, key, signature, index, trust, note
    pub kind: &'static str,
    /// What it is called.
    pub label: String,
    /// Good, bad, pending or none.
    pub mark: Mark,
    /// What came of it, in words.
    pub outcome: String,
    /// A reason code, or empty.
    pub code: &'static str,
    /// What it rests on.
    pub children: Vec<Node>,
}

/// A node's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// ✔
    Good,
    /// ✘
    Bad,
    /// …
    Pending,
    /// neither
    None,
}

/// Explains a verdict. (`origin` says where a signature was found and whether upstream still offers it, for its line.)
pub fn explain(_facts: &Facts, _view: &TrustView, _repository: &Repository, _digest: Digest, _now: Timestamp) -> (Verdict, Node) {
    unimplemented!()
}

/// A signature that an acceptance rests on: what `verify` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The signature.
    pub signature: crate::signature::SignatureId,
    /// The anchor that it is valid under.
    pub anchor: crate::key::AnchorId,
    /// The name of the key or authority that counted it.
    pub key: String,
    /// The subject that it signs: this one, or the index that it was accepted through.
    pub subject: Digest,
}

/// Returns the signatures that count for an accepted subject, in a stable order; empty where it is not accepted.
pub fn support(_facts: &Facts, _view: &TrustView, _repository: &Repository, _digest: Digest, _now: Timestamp) -> Vec<Support> {
    unimplemented!()
}
