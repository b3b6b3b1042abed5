//! Results of checks: under which anchors a signature is valid, and which it was tried against.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::rows::{Instant, ValidRow};
use super::slots::{NONE, chain, push};
use super::{Facts, row, row_mut};
use crate::check::SignedHash;
use crate::digest::Digest;
use crate::key::AnchorId;
use crate::keyless::Evidence;
use crate::signature::SignatureId;

/// Results of all checks. Most signatures were tried against the same anchors, so each such set is kept once.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    pub(super) anchors: Vec<AnchorId>,
    numbers: HashMap<AnchorId, u32>,
    /// Sets of anchors, sorted; the first is the empty one.
    sets: Vec<Box<[u32]>>,
    set_numbers: HashMap<Box<[u32]>, u32>,
    /// (set, anchor) → the set with that anchor.
    steps: HashMap<(u32, u32), u32>,
    pub(super) valid: Vec<ValidRow>,
    /// What certificates' holders signed: (signature, root) → what the root makes of it.
    evidence: HashMap<(u32, u32), Arc<Evidence>>,
    /// (signature, key under a root) → since when the key's signature is proven to be there.
    dated: HashMap<(u32, u32), Instant>,
    /// (attestation, condition): the condition holds for what it says.
    holding: HashSet<(u32, u32)>,
    /// The anchors that are roots, keys under them, or conditions. What they make of signatures is no part of a snapshot: it is computed anew at start.
    roots: BTreeSet<u32>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            anchors: Vec::new(),
            numbers: HashMap::new(),
            sets: vec![Box::default()],
            set_numbers: HashMap::from([(Box::default(), Self::UNTRIED)]),
            steps: HashMap::new(),
            valid: Vec::new(),
            evidence: HashMap::new(),
            dated: HashMap::new(),
            holding: HashSet::new(),
            roots: BTreeSet::new(),
        }
    }
}

/// Whether a condition holds for what an attestation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    Yes,
    No,
    /// Nobody looked yet.
    NotTried,
}

/// Since when a key's signature is proven to be there, by one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dated {
    /// Since then, at the latest.
    At(Timestamp),
    /// The root proves no time.
    Unproven,
    /// Nobody looked yet.
    Not,
}

/// What is known of a signature and an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It is valid, over this hash.
    Valid(SignedHash),
    /// It is not valid.
    Invalid,
    /// Nobody computed it yet.
    Not,
}

impl Checks {
    /// The number of the empty set.
    pub(super) const UNTRIED: u32 = 0;

    pub(super) fn anchor_or_new(&mut self, anchor: AnchorId) -> u32 {
        if let Some(&number) = self.numbers.get(&anchor) {
            return number;
        }
        let number = push(&mut self.anchors, anchor);
        self.numbers.insert(anchor, number);
        number
    }

    pub(super) fn set(&self, number: u32) -> &[u32] {
        row(&self.sets, number).map_or(&[], |set| set)
    }

    fn with(&mut self, set: u32, anchor: u32) -> u32 {
        if let Some(&next) = self.steps.get(&(set, anchor)) {
            return next;
        }
        let mut united = self.set(set).to_vec();
        if let Err(place) = united.binary_search(&anchor) {
            united.insert(place, anchor);
        }
        let united = united.into_boxed_slice();
        let next = match self.set_numbers.get(&united) {
            Some(&number) => number,
            None => {
                let number = push(&mut self.sets, united.clone());
                self.set_numbers.insert(united, number);
                number
            }
        };
        self.steps.insert((set, anchor), next);
        next
    }

    pub(super) fn bytes(&self) -> usize {
        self.valid.capacity() * size_of::<ValidRow>()
            + self.evidence.len() * BYTES_OF_EVIDENCE
            + self.dated.capacity() * size_of::<((u32, u32), Instant)>()
            + self.holding.capacity() * size_of::<(u32, u32)>()
    }

    /// Says whether an anchor is a root.
    pub(super) fn is_root(&self, anchor: u32) -> bool {
        self.roots.contains(&anchor)
    }
}

/// About how many bytes the evidence of one signature takes: texts, certificate facts, proven times.
const BYTES_OF_EVIDENCE: usize = 2048;

impl Facts {
    /// Records what a root makes of a signature: `None` where it is not by a certificate's holder, or not valid.
    pub fn record_evidence(&mut self, signature: SignatureId, root: AnchorId, evidence: Option<Arc<Evidence>>) {
        let Some(number) = self.signature_number(signature) else { return };
        let anchor = self.checks.anchor_or_new(root);
        self.checks.roots.insert(anchor);
        let Some(entry) = row_mut(&mut self.signatures, number) else { return };
        entry.tried = self.checks.with(entry.tried, anchor);
        match evidence {
            Some(evidence) => self.checks.evidence.insert((number, anchor), evidence),
            None => self.checks.evidence.remove(&(number, anchor)),
        };
    }

    /// Records since when a key's signature is proven to be there under a root; `None` where no time is proven.
    pub fn record_dated(&mut self, signature: SignatureId, dated: AnchorId, since: Option<Timestamp>) {
        let Some(number) = self.signature_number(signature) else { return };
        let anchor = self.checks.anchor_or_new(dated);
        self.checks.roots.insert(anchor);
        let Some(entry) = row_mut(&mut self.signatures, number) else { return };
        entry.tried = self.checks.with(entry.tried, anchor);
        match since {
            Some(since) => self.checks.dated.insert((number, anchor), Instant::of(since)),
            None => self.checks.dated.remove(&(number, anchor)),
        };
    }

    /// Returns since when a key's signature is proven to be there, by the numbers of both.
    pub(crate) fn dated(&self, signature: u32, dated: Option<u32>) -> Dated {
        if self.tried(signature, dated) == Tried::Not {
            return Dated::Not;
        }
        let since = dated.and_then(|dated| self.checks.dated.get(&(signature, dated)));
        since.map_or(Dated::Unproven, |since| Dated::At(since.time()))
    }

    /// Records whether a condition holds for what an attestation says.
    pub fn record_condition(&mut self, attestation: SignatureId, condition: AnchorId, holds: bool) {
        let Some(number) = self.signature_number(attestation) else { return };
        let anchor = self.checks.anchor_or_new(condition);
        self.checks.roots.insert(anchor);
        let Some(entry) = row_mut(&mut self.signatures, number) else { return };
        entry.tried = self.checks.with(entry.tried, anchor);
        match holds {
            true => self.checks.holding.insert((number, anchor)),
            false => self.checks.holding.remove(&(number, anchor)),
        };
    }

    /// Returns whether a condition holds, by the numbers of both.
    pub(crate) fn condition(&self, attestation: u32, condition: Option<u32>) -> Holding {
        match condition {
            _ if self.tried(attestation, condition) == Tried::Not => Holding::NotTried,
            Some(condition) if self.checks.holding.contains(&(attestation, condition)) => Holding::Yes,
            _ => Holding::No,
        }
    }

    /// Returns what a root makes of a signature, by their numbers.
    pub(crate) fn evidence(&self, signature: u32, root: Option<u32>) -> Option<&Evidence> {
        self.checks.evidence.get(&(signature, root?)).map(|evidence| &**evidence)
    }

    /// Records the result of a check; nothing happens where the signature is unknown. A later result replaces an earlier one.
    pub fn record_check(&mut self, signature: SignatureId, anchor: AnchorId, result: Option<SignedHash>) {
        let Some(number) = self.signature_number(signature) else { return };
        let anchor = self.checks.anchor_or_new(anchor);
        let Some(entry) = row_mut(&mut self.signatures, number) else { return };
        entry.tried = self.checks.with(entry.tried, anchor);
        let there = chain(&self.checks.valid, entry.first_valid, |valid| valid.next)
            .find(|(_, valid)| valid.anchor == anchor)
            .map(|(number, _)| number);
        match (there.and_then(|valid| row_mut(&mut self.checks.valid, valid)), result) {
            (Some(valid), result) => valid.hash = result,
            (None, None) => {}
            (None, Some(hash)) => {
                let valid = ValidRow { anchor, next: entry.first_valid, hash: Some(hash) };
                entry.first_valid = push(&mut self.checks.valid, valid);
            }
        }
    }

    /// Returns the checks that are missing for these anchors: of every signature, or of those found at or naming `digest`.
    ///
    /// A signature of a format that is not checked, or that names nothing, has none: nothing could come of it.
    pub fn missing_checks(&self, anchors: &[AnchorId], digest: Option<Digest>) -> Vec<(SignatureId, AnchorId)> {
        let signatures: Vec<u32> = match digest {
            None => (0..).zip(&self.signatures).map(|(number, _)| number).collect(),
            Some(digest) => {
                let mut numbers: Vec<u32> = self.named_numbers(digest).chain(self.found_numbers(digest)).collect();
                numbers.sort_unstable();
                numbers.dedup();
                numbers
            }
        };
        let wanted: Vec<(AnchorId, Option<u32>)> =
            anchors.iter().map(|anchor| (*anchor, self.anchor_number(anchor))).collect();
        // Whole sets are compared, for there are few: a million signatures that lack nothing take a glance each.
        let mut lacking: HashMap<u32, Vec<AnchorId>> = HashMap::new();
        let mut missing = Vec::new();
        let is_wanted = |&number: &u32| self.is_checkable(number) && !self.lost.contains(&number);
        for number in signatures.into_iter().filter(is_wanted) {
            let Some(entry) = row(&self.signatures, number) else { continue };
            let lacks = lacking.entry(entry.tried).or_insert_with(|| {
                let tried = self.checks.set(entry.tried);
                let lacks = |number: Option<u32>| number.is_none_or(|number| tried.binary_search(&number).is_err());
                wanted.iter().filter(|(_, number)| lacks(*number)).map(|(anchor, _)| *anchor).collect()
            });
            missing.extend(lacks.iter().map(|anchor| (SignatureId(entry.id), *anchor)));
        }
        missing
    }

    /// Counts the signatures that are valid under an anchor.
    pub fn valid_under(&self, anchor: AnchorId) -> u64 {
        let Some(anchor) = self.anchor_number(&anchor) else { return 0 };
        let valid = |valid: &&ValidRow| valid.anchor == anchor && valid.hash.is_some();
        let lost =
            self.lost.iter().filter(|&&signature| matches!(self.tried(signature, Some(anchor)), Tried::Valid(_)));
        (self.checks.valid.iter().filter(valid).count() as u64).saturating_sub(lost.count() as u64)
    }

    /// Returns the anchor's number; `None` where nothing was ever tried against it.
    pub(crate) fn anchor_number(&self, anchor: &AnchorId) -> Option<u32> {
        self.checks.numbers.get(anchor).copied()
    }

    /// Returns the anchors that a signature is valid under, in any order.
    pub(crate) fn valid_anchors(&self, signature: u32) -> impl Iterator<Item = (&AnchorId, SignedHash)> {
        let first = row(&self.signatures, signature).map_or(NONE, |entry| entry.first_valid);
        chain(&self.checks.valid, first, |valid| valid.next)
            .filter_map(|(_, valid)| Some((row(&self.checks.anchors, valid.anchor)?, valid.hash?)))
    }

    /// Returns what is known of a signature and an anchor, by their numbers.
    pub(crate) fn tried(&self, signature: u32, anchor: Option<u32>) -> Tried {
        let (Some(entry), Some(anchor)) = (row(&self.signatures, signature), anchor) else { return Tried::Not };
        if self.checks.set(entry.tried).binary_search(&anchor).is_err() {
            return Tried::Not;
        }
        let valid = chain(&self.checks.valid, entry.first_valid, |valid| valid.next)
            .find(|(_, valid)| valid.anchor == anchor)
            .and_then(|(_, valid)| valid.hash);
        valid.map_or(Tried::Invalid, Tried::Valid)
    }
}
