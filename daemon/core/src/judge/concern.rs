//! Which subjects a change of trust, or the passing of time, can concern.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::bench::MAX_ANCESTORS;
use crate::digest::Digest;
use crate::facts::{Facts, Tried};
use crate::glob::Glob;
use crate::key::AnchorId;
use crate::policy::{Anchor, Root, TrustSet, TrustView};
use crate::reference::Repository;

/// Says which subjects the step from one view to another can concern.
///
/// A cheap test that never misses: where it does not cover a subject, state and gate are the same on both sides, under the same facts. It may
/// cover subjects for which nothing changes. Reasons alone do not concern anybody, for they are not told.
#[derive(Debug, Default)]
pub struct Concern {
    /// Everything: the step begins or ends where there is no set, or no folder.
    all: bool,
    /// Digests whose denial changed.
    digests: BTreeSet<Digest>,
    /// The globs of policies that changed.
    globs: BTreeSet<Glob>,
    /// Keys that came, went, or count in another way.
    anchors: BTreeSet<AnchorId>,
}

impl Concern {
    /// Compares two views (and their instants, for validFor).
    pub fn between(before: (&TrustView, Timestamp), after: (&TrustView, Timestamp)) -> Self {
        let mut concern = Self::default();
        let same_kind = matches!(
            (before.0, after.0),
            (TrustView::Starting, TrustView::Starting)
                | (TrustView::Missing { .. }, TrustView::Missing { .. })
                | (
                    TrustView::Settled(_) | TrustView::Disturbed { .. },
                    TrustView::Settled(_) | TrustView::Disturbed { .. }
                )
        );
        if !same_kind {
            concern.all = true;
            return concern;
        }
        // What is the same under every set on both sides has the same verdicts, and so the same worse of two.
        let at = |(view, time): (&'_ TrustView, Timestamp)| {
            view.sets().map(|set| (Arc::clone(set), time)).collect::<Vec<_>>()
        };
        let sets: Vec<(Arc<TrustSet>, Timestamp)> = at(before).into_iter().chain(at(after)).collect();
        if let Some(((base, then), others)) = sets.split_first() {
            for (set, time) in others {
                concern.compare((base, *then), (set, *time));
            }
        }
        concern
    }

    fn compare(&mut self, (a, then): (&Arc<TrustSet>, Timestamp), (b, now): (&Arc<TrustSet>, Timestamp)) {
        let names: BTreeSet<&AnchorId> = a.each_anchor().chain(b.each_anchor()).map(|(id, _)| id).collect();
        for id in names {
            if !same_anchor((a.anchor(id), then), (b.anchor(id), now)) {
                self.anchors.insert(*id);
            }
        }
        // Roots and denied identities concern whoever asks for identities or for proof, and keys that have an end.
        let (old, new) = (standing_of_roots(a, then), standing_of_roots(b, now));
        if old != new || a.deny.identities != b.deny.identities {
            let policies = a.leaning_policies().chain(b.leaning_policies());
            self.globs.extend(policies.flat_map(|policy| policy.globs.iter().cloned()));
            let ended =
                a.each_anchor().chain(b.each_anchor()).filter(|(_, anchor)| anchor.life.ends.before().is_some());
            self.anchors.extend(ended.map(|(id, _)| *id));
        }
        if Arc::ptr_eq(a, b) {
            return;
        }
        let digests: BTreeSet<&Digest> = a.deny.digests.keys().chain(b.deny.digests.keys()).collect();
        let changed =
            |digest: &&&Digest| a.deny.digests.contains_key(**digest) != b.deny.digests.contains_key(**digest);
        self.digests.extend(digests.iter().filter(changed).copied());
        let names: BTreeSet<&String> = a.policies.keys().chain(b.policies.keys()).collect();
        for name in names {
            let (old, new) = (a.policies.get(name), b.policies.get(name));
            if old != new {
                let globs = old.into_iter().chain(new).flat_map(|policy| policy.globs.iter().cloned());
                self.globs.extend(globs);
            }
        }
    }

    /// Says whether nothing can be concerned.
    pub fn is_empty(&self) -> bool {
        !self.all && self.digests.is_empty() && self.globs.is_empty() && self.anchors.is_empty()
    }

    /// Says whether the subject's verdict can differ between the two.
    pub fn covers(&self, facts: &Facts, repository: &Repository, digest: Digest) -> bool {
        if self.all {
            return true;
        }
        if self.is_empty() {
            return false;
        }
        let test = Test::new(self, facts);
        match facts.place(repository, digest) {
            Some(place) => test.covers(place),
            None => test.touches(repository, digest),
        }
    }

    /// Returns the subjects that are covered: one sweep over the table.
    pub fn subjects<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = (&'a Repository, Digest)> + 'a {
        let test = Test::new(self, facts);
        let numbers = (!self.is_empty()).then(|| facts.subject_numbers()).into_iter().flatten();
        numbers.filter(move |&place| self.all || test.covers(place)).filter_map(|place| facts.name_of(place))
    }
}

/// Says of each root what it is, whether it may be leaned on, and which of its logs' keys are valid.
fn standing_of_roots(set: &TrustSet, time: Timestamp) -> BTreeMap<String, (AnchorId, bool, Vec<bool>)> {
    let of = |root: &Root| {
        let logs = root.root.logs.iter().map(|log| log.window.contains(time)).collect();
        (root.id, set.root_end(root).is_over(time), logs)
    };
    set.roots.iter().map(|(name, root)| (name.clone(), of(root))).collect()
}

/// Says whether a key counts in the same way: by its files, what they are for, and its life. Names of authorities are only labels.
fn same_anchor((a, then): (Option<&Anchor>, Timestamp), (b, now): (Option<&Anchor>, Timestamp)) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            a.files == b.files
                && a.scope == b.scope
                && a.alone == b.alone
                && a.life.standing(then) == b.life.standing(now)
                && a.life.ends == b.life.ends
        }
        (None, None) => true,
        _ => false,
    }
}

/// A concern, ready to be asked about many subjects of one table.
struct Test<'a> {
    concern: &'a Concern,
    facts: &'a Facts,
    anchors: Vec<Option<u32>>,
}

impl<'a> Test<'a> {
    fn new(concern: &'a Concern, facts: &'a Facts) -> Self {
        let anchors = concern.anchors.iter().map(|anchor| facts.anchor_number(anchor)).collect();
        Self { concern, facts, anchors }
    }

    /// Says whether a place is touched, or an index above it, for acceptance goes down.
    fn covers(&self, place: u32) -> bool {
        let touched =
            |place| self.facts.name_of(place).is_some_and(|(repository, digest)| self.touches(repository, digest));
        if touched(place) {
            return true;
        }
        let mut seen = BTreeSet::from([place]);
        let mut waiting = vec![place];
        while let Some(child) = waiting.pop() {
            for parent in self.facts.parent_numbers(child) {
                if seen.insert(parent) {
                    // Beyond the bound the judgement stops looking; where it stops is not worth knowing here.
                    if touched(parent) || seen.len() > MAX_ANCESTORS {
                        return true;
                    }
                    waiting.push(parent);
                }
            }
        }
        false
    }

    fn touches(&self, repository: &Repository, digest: Digest) -> bool {
        let counts = |signature: u32| {
            self.facts.is_checkable(signature)
                && self.anchors.iter().any(|&anchor| self.facts.tried(signature, anchor) != Tried::Invalid)
        };
        self.concern.digests.contains(&digest)
            || self.concern.globs.iter().any(|glob| glob.matches(repository, &digest))
            || (!self.anchors.is_empty() && self.facts.named_numbers(digest).any(counts))
    }
}
