//! The table of what is known about subjects and signatures: everything that a verdict needs, in memory.
//!
//! In come what operations brought (subjects, what lists them, signatures and where they were found) and
//! results of checks; out come answers to [`judge`](crate::judge). A row is a few dozen bytes: what
//! repeats (repositories, digests, anchors, sets of tried anchors) is kept once and named by a number,
//! and lists are chained through the rows. Nothing is ever judged in here.

mod bytes;
mod checks;
mod rows;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use jiff::Timestamp;

use self::checks::Checks;
use self::rows::{DigestRow, EdgeRow, FoundRow, Instant, PlaceRow, SIGNS, SignatureEntry};
use self::slots::{NONE, Slots, chain, push};
use crate::digest::Digest;
use crate::reference::Repository;
use crate::signature::{Format, Says, SignatureId};
use crate::verdict::State;

pub use self::bytes::FactsError;
pub(crate) use self::checks::{Dated, Holding, Tried};

/// The most signatures that count for one subject and source repository, beside those valid under a known key.
///
/// Whoever records signatures keeps to it: [`Facts::signatures_found`] says how many count towards it, and
/// what lies beyond goes to [`Facts::add_uncounted`]. The table itself takes what a record says, so that
/// replaying a journal gives the same table.
pub const MAX_SIGNATURES: usize = 1000;

/// A signature's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRow {
    /// Its id.
    pub id: SignatureId,
    /// Its format.
    pub format: Format,
    /// The digest that it names.
    pub names: Option<Digest>,
    /// What it says about that digest.
    pub says: Says,
    /// When it was first seen here.
    pub first_seen: Timestamp,
    /// The manifest that holds it (a blob) and the layer in it: where its bytes are.
    pub manifest: Digest,
    /// The layer's place in the manifest.
    pub layer: u32,
}

/// What was last told of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The state.
    pub state: State,
    /// The seq of the telling.
    pub seq: u64,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    repositories: Vec<Repository>,
    repository_numbers: HashMap<Repository, u32>,
    digests: Vec<DigestRow>,
    digest_slots: Slots,
    places: Vec<PlaceRow>,
    place_slots: Slots,
    edges: Vec<EdgeRow>,
    edge_slots: Slots,
    signatures: Vec<SignatureEntry>,
    signature_slots: Slots,
    found: Vec<FoundRow>,
    found_slots: Slots,
    /// Rows of `found` that hold no more: what was there was taken away. Few, so that rows need not say it.
    gone: HashSet<u32>,
    /// The signatures that are found nowhere any more.
    lost: HashSet<u32>,
    checks: Checks,
    /// Types of predicates, each once.
    predicate_types: Vec<Arc<str>>,
    predicate_numbers: HashMap<Arc<str>, u16>,
    subjects: usize,
}

fn row<T>(rows: &[T], number: u32) -> Option<&T> {
    rows.get(usize::try_from(number).ok()?)
}

fn row_mut<T>(rows: &mut [T], number: u32) -> Option<&mut T> {
    rows.get_mut(usize::try_from(number).ok()?)
}

/// Writing.
impl Facts {
    /// Adds a subject; nothing happens where it is there.
    pub fn add_subject(&mut self, repository: &Repository, digest: Digest, first_seen: Timestamp) {
        let place = self.place_or_new(repository, digest);
        if let Some(row) = row_mut(&mut self.places, place).filter(|row| !row.subject) {
            row.subject = true;
            row.first_seen = Instant::of(first_seen);
            self.subjects += 1;
        }
    }

    /// Notes that an index lists a subject, in one repository.
    ///
    /// Either may come first; acceptance goes down only from an index that is itself a subject.
    pub fn add_parent(&mut self, repository: &Repository, child: Digest, index: Digest) {
        let (child, parent) = (self.place_or_new(repository, child), self.place_or_new(repository, index));
        let hash = self.edge_slots.hash(&(child, parent));
        let is = |edge: &EdgeRow| edge.child == child && edge.parent == parent;
        if self.edge_slots.find(hash, |number| row(&self.edges, number).is_some_and(is)).is_some() {
            return;
        }
        let next_parent = row(&self.places, child).map_or(NONE, |place| place.first_parent);
        let next_child = row(&self.places, parent).map_or(NONE, |place| place.first_child);
        let edge = push(&mut self.edges, EdgeRow { child, parent, next_parent, next_child });
        let edges = &self.edges;
        let hash_of = |hasher: &RandomState, number| {
            row(edges, number).map_or(0, |edge| hasher.hash_one((edge.child, edge.parent)))
        };
        self.edge_slots.insert(hash, edge, hash_of);
        if let Some(place) = row_mut(&mut self.places, child) {
            place.first_parent = edge;
        }
        if let Some(place) = row_mut(&mut self.places, parent) {
            place.first_child = edge;
        }
    }

    /// Adds a signature that was found at `at` (the digest that it hangs on) in `repository`.
    ///
    /// A signature that is there keeps its row, and the earlier first sight; that it was found here too is added.
    pub fn add_signature(&mut self, row: SignatureRow, repository: &Repository, at: Digest) {
        let place = self.place_or_new(repository, at);
        let signature = self.signature_or_new(&row);
        if let Some(entry) = row_mut(&mut self.signatures, signature) {
            entry.first_seen = entry.first_seen.min(Instant::of(row.first_seen));
        }
        self.add_found(signature, place);
    }

    /// Takes a signature away from where it was found; nothing happens where it was not. What is found nowhere any more
    /// counts for nothing; found again, it has its first sight and its checks as before.
    pub fn remove_signature(&mut self, id: SignatureId, repository: &Repository, at: Digest) {
        let Some(number) = self.signature_number(id) else { return };
        let Some(found) = self.place(repository, at).and_then(|place| self.found_number(number, place)) else { return };
        self.gone.insert(found);
        if self.found_of(number).next().is_none() {
            self.lost.insert(number);
        }
    }

    /// Takes back that signatures beyond the limit were found.
    pub fn remove_uncounted(&mut self, repository: &Repository, at: Digest, count: u32) {
        let place = self.place(repository, at).and_then(|place| row_mut(&mut self.places, place));
        if let Some(place) = place {
            place.uncounted = place.uncounted.saturating_sub(count);
        }
    }

    /// Notes signatures beyond the limit: recorded and not counted, but the subject is not unsigned.
    pub fn add_uncounted(&mut self, repository: &Repository, at: Digest, count: u32) {
        if count == 0 {
            return;
        }
        let place = self.place_or_new(repository, at);
        if let Some(place) = row_mut(&mut self.places, place) {
            place.uncounted = place.uncounted.saturating_add(count);
        }
    }

    /// Marks content as corrupt or healed, in every repository.
    pub fn set_corrupt(&mut self, digest: Digest, corrupt: bool) {
        if !corrupt && self.digest_number(digest).is_none() {
            return;
        }
        let number = self.digest_or_new(digest);
        if let Some(row) = row_mut(&mut self.digests, number) {
            row.corrupt = corrupt;
        }
    }

    /// Notes what was told of a subject; nothing happens where it is not held.
    pub fn set_told(&mut self, repository: &Repository, digest: Digest, told: Told) {
        let place = self.place(repository, digest).and_then(|place| row_mut(&mut self.places, place));
        if let Some(row) = place.filter(|row| row.subject) {
            row.told_state = Some(told.state);
            row.told_seq = told.seq;
        }
    }

    fn repository_or_new(&mut self, repository: &Repository) -> u32 {
        if let Some(&number) = self.repository_numbers.get(repository) {
            return number;
        }
        let number = push(&mut self.repositories, repository.clone());
        self.repository_numbers.insert(repository.clone(), number);
        number
    }

    fn digest_or_new(&mut self, digest: Digest) -> u32 {
        if let Some(number) = self.digest_number(digest) {
            return number;
        }
        let hash = self.digest_slots.hash(&digest);
        let number = push(&mut self.digests, DigestRow::new(digest));
        let digests = &self.digests;
        let hash_of =
            |hasher: &RandomState, number| row(digests, number).map_or(0, |row| hasher.hash_one(row.digest.digest()));
        self.digest_slots.insert(hash, number, hash_of);
        number
    }

    fn place_or_new(&mut self, repository: &Repository, digest: Digest) -> u32 {
        let (repository, digest) = (self.repository_or_new(repository), self.digest_or_new(digest));
        if let Some(place) = self.place_of(repository, digest) {
            return place;
        }
        let next_of_digest = row(&self.digests, digest).map_or(NONE, |row| row.first_place);
        let place = push(
            &mut self.places,
            PlaceRow {
                repository,
                digest,
                next_of_digest,
                first_parent: NONE,
                first_child: NONE,
                uncounted: 0,
                subject: false,
                told_state: None,
                told_seq: 0,
                first_seen: Instant(0),
            },
        );
        let hash = self.place_slots.hash(&(repository, digest));
        let places = &self.places;
        let hash_of = |hasher: &RandomState, number| {
            row(places, number).map_or(0, |place| hasher.hash_one((place.repository, place.digest)))
        };
        self.place_slots.insert(hash, place, hash_of);
        if let Some(row) = row_mut(&mut self.digests, digest) {
            row.first_place = place;
        }
        place
    }

    fn signature_or_new(&mut self, new: &SignatureRow) -> u32 {
        if let Some(number) = self.signature_number(new.id) {
            return number;
        }
        let names = new.names.map(|digest| self.digest_or_new(digest));
        let manifest = self.digest_or_new(new.manifest);
        let next_named = names.and_then(|digest| row(&self.digests, digest)).map_or(NONE, |row| row.first_named);
        let predicate = match &new.says {
            Says::Signed => SIGNS,
            Says::Attested(predicate_type) => self.predicate_or_new(predicate_type),
        };
        let entry = SignatureEntry {
            id: new.id.0,
            first_seen: Instant::of(new.first_seen),
            names: names.unwrap_or(NONE),
            next_named,
            manifest,
            layer: new.layer,
            first_found: NONE,
            first_valid: NONE,
            tried: Checks::UNTRIED,
            predicate,
            format: new.format,
        };
        let hash = self.signature_slots.hash(&new.id.0);
        let number = push(&mut self.signatures, entry);
        let signatures = &self.signatures;
        let hash_of = |hasher: &RandomState, number| row(signatures, number).map_or(0, |row| hasher.hash_one(row.id));
        self.signature_slots.insert(hash, number, hash_of);
        if let Some(row) = names.and_then(|digest| row_mut(&mut self.digests, digest)) {
            row.first_named = number;
        }
        number
    }

    /// Numbers a predicate's type. Types beyond the number's range are the empty type, which nothing asks for.
    fn predicate_or_new(&mut self, predicate_type: &Arc<str>) -> u16 {
        if let Some(&number) = self.predicate_numbers.get(predicate_type) {
            return number;
        }
        let Some(number) = u16::try_from(self.predicate_types.len()).ok().filter(|&number| number < SIGNS - 1) else {
            if self.predicate_types.len() < usize::from(SIGNS) {
                self.predicate_types.push("".into());
            }
            return SIGNS - 1;
        };
        self.predicate_types.push(Arc::clone(predicate_type));
        self.predicate_numbers.insert(Arc::clone(predicate_type), number);
        number
    }

    fn add_found(&mut self, signature: u32, place: u32) {
        self.lost.remove(&signature);
        if let Some(known) = self.found_number(signature, place) {
            self.gone.remove(&known);
            return;
        }
        let hash = self.found_slots.hash(&(signature, place));
        let digest = row(&self.places, place).map_or(NONE, |place| place.digest);
        let next_of_signature = row(&self.signatures, signature).map_or(NONE, |entry| entry.first_found);
        let next_of_digest = row(&self.digests, digest).map_or(NONE, |row| row.first_found);
        let number = push(&mut self.found, FoundRow { signature, place, next_of_signature, next_of_digest });
        let found = &self.found;
        let hash_of = |hasher: &RandomState, number| {
            row(found, number).map_or(0, |found| hasher.hash_one((found.signature, found.place)))
        };
        self.found_slots.insert(hash, number, hash_of);
        if let Some(entry) = row_mut(&mut self.signatures, signature) {
            entry.first_found = number;
        }
        if let Some(row) = row_mut(&mut self.digests, digest) {
            row.first_found = number;
        }
    }
}

/// Reading.
impl Facts {
    /// Returns what was last told.
    pub fn told(&self, repository: &Repository, digest: Digest) -> Option<Told> {
        let place = row(&self.places, self.place(repository, digest)?)?;
        Some(Told { state: place.told_state?, seq: place.told_seq })
    }

    /// Says whether a subject is held in the repository.
    pub fn contains(&self, repository: &Repository, digest: Digest) -> bool {
        self.subject_row(repository, digest).is_some()
    }

    /// Returns when a subject was first seen in the repository.
    pub fn first_seen(&self, repository: &Repository, digest: Digest) -> Option<Timestamp> {
        self.subject_row(repository, digest).map(|place| place.first_seen.time())
    }

    /// Says whether content is corrupt.
    pub fn is_corrupt(&self, digest: Digest) -> bool {
        self.digest_row(digest).is_some_and(|row| row.corrupt)
    }

    /// Returns the repositories that hold a subject of this digest, in order.
    pub fn repositories_of(&self, digest: Digest) -> Vec<Repository> {
        let first = self.digest_row(digest).map_or(NONE, |row| row.first_place);
        let places = chain(&self.places, first, |place| place.next_of_digest).filter(|(_, place)| place.subject);
        let mut repositories: Vec<Repository> =
            places.filter_map(|(_, place)| row(&self.repositories, place.repository).cloned()).collect();
        repositories.sort();
        repositories
    }

    /// Returns every subject.
    pub fn subjects(&self) -> impl Iterator<Item = (&Repository, Digest)> {
        self.subject_numbers().filter_map(|place| self.name_of(place))
    }

    /// Returns the number of subjects.
    pub fn len(&self) -> usize {
        self.subjects
    }

    /// Says whether there is no subject.
    pub fn is_empty(&self) -> bool {
        self.subjects == 0
    }

    /// Returns the indexes of the repository that list a digest and are subjects themselves, in order.
    pub fn parents(&self, repository: &Repository, digest: Digest) -> Vec<Digest> {
        self.place(repository, digest).map_or_else(Vec::new, |place| self.digests_of(self.parent_numbers(place)))
    }

    /// Returns the subjects that an index lists in a repository, in order.
    pub fn children_of(&self, repository: &Repository, index: Digest) -> Vec<Digest> {
        let Some(place) = self.place(repository, index).and_then(|place| row(&self.places, place)) else {
            return Vec::new();
        };
        let edges = chain(&self.edges, place.first_child, |edge| edge.next_child).map(|(_, edge)| edge.child);
        self.digests_of(edges.filter(|&child| row(&self.places, child).is_some_and(|place| place.subject)))
    }

    /// Returns a signature's row; `None` where it is not found anywhere.
    pub fn signature(&self, id: SignatureId) -> Option<SignatureRow> {
        self.signature_row(self.signature_number(id).filter(|number| !self.lost.contains(number))?)
    }

    /// Says whether a signature is found at a digest in a repository.
    pub fn is_found(&self, id: SignatureId, repository: &Repository, at: Digest) -> bool {
        let found = |number| self.found_number(number, self.place(repository, at)?);
        self.signature_number(id).and_then(found).is_some_and(|found| !self.gone.contains(&found))
    }

    /// Returns the signatures that name a digest, in the order of their first sight.
    pub fn named_by(&self, digest: Digest) -> Vec<SignatureId> {
        self.ids_of(self.named_numbers(digest))
    }

    /// Returns the signatures that were found at a digest, in any repository, or that name it, in the order of their first sight.
    pub fn signatures_of(&self, digest: Digest) -> Vec<SignatureId> {
        let numbers: BTreeSet<u32> = self.named_numbers(digest).chain(self.found_numbers(digest)).collect();
        self.ids_of(numbers.into_iter())
    }

    /// Returns where a signature was found: the repositories and what it hung on, in order.
    pub fn found_at(&self, id: SignatureId) -> Vec<(Repository, Digest)> {
        let places = self.signature_number(id).into_iter().flat_map(|number| self.found_of(number));
        let mut places: Vec<(Repository, Digest)> = places
            .filter_map(|place| self.name_of(place))
            .map(|(repository, digest)| (repository.clone(), digest))
            .collect();
        places.sort();
        places
    }

    /// Counts the signatures found at a digest in one repository that count towards [`MAX_SIGNATURES`]: those that are
    /// valid under a known key do not.
    pub fn signatures_found(&self, repository: &Repository, at: Digest) -> usize {
        let Some(place) = self.place(repository, at) else { return 0 };
        let first = self.digest_row(at).map_or(NONE, |row| row.first_found);
        chain(&self.found, first, |found| found.next_of_digest)
            .filter(|(number, found)| found.place == place && !self.gone.contains(number))
            .filter(|(_, found)| self.valid_anchors(found.signature).next().is_none())
            .count()
    }

    /// Returns how many signatures were found at a digest, in any repository, beyond the limit.
    pub fn uncounted(&self, digest: Digest) -> u64 {
        let first = self.digest_row(digest).map_or(NONE, |row| row.first_place);
        chain(&self.places, first, |place| place.next_of_digest).map(|(_, place)| u64::from(place.uncounted)).sum()
    }

    fn digests_of(&self, places: impl Iterator<Item = u32>) -> Vec<Digest> {
        let mut digests: Vec<Digest> =
            places.filter_map(|place| self.name_of(place)).map(|(_, digest)| digest).collect();
        digests.sort();
        digests
    }

    /// Sorts signatures by when they were first seen, then by id: numbers differ from one start to the next.
    pub(crate) fn in_order(&self, mut numbers: Vec<u32>) -> Vec<u32> {
        numbers.sort_by_key(|&number| row(&self.signatures, number).map(|entry| (entry.first_seen, entry.id)));
        numbers.dedup();
        numbers
    }

    fn ids_of(&self, signatures: impl Iterator<Item = u32>) -> Vec<SignatureId> {
        let mut entries: Vec<&SignatureEntry> = signatures.filter_map(|number| row(&self.signatures, number)).collect();
        entries.sort_by_key(|entry| (entry.first_seen, entry.id));
        entries.into_iter().map(|entry| SignatureId(entry.id)).collect()
    }

    fn digest_number(&self, digest: Digest) -> Option<u32> {
        let is = |row: &DigestRow| row.digest.digest() == digest;
        self.digest_slots.find(self.digest_slots.hash(&digest), |number| row(&self.digests, number).is_some_and(is))
    }

    fn digest_row(&self, digest: Digest) -> Option<&DigestRow> {
        row(&self.digests, self.digest_number(digest)?)
    }

    fn place_of(&self, repository: u32, digest: u32) -> Option<u32> {
        let is = |place: &PlaceRow| place.repository == repository && place.digest == digest;
        let hash = self.place_slots.hash(&(repository, digest));
        self.place_slots.find(hash, |number| row(&self.places, number).is_some_and(is))
    }

    fn subject_row(&self, repository: &Repository, digest: Digest) -> Option<&PlaceRow> {
        row(&self.places, self.place(repository, digest)?).filter(|place| place.subject)
    }

    fn found_number(&self, signature: u32, place: u32) -> Option<u32> {
        let is = |found: &FoundRow| found.signature == signature && found.place == place;
        let hash = self.found_slots.hash(&(signature, place));
        self.found_slots.find(hash, |number| row(&self.found, number).is_some_and(is))
    }

    /// Returns the places at which a signature is found.
    fn found_of(&self, signature: u32) -> impl Iterator<Item = u32> {
        let first = row(&self.signatures, signature).map_or(NONE, |entry| entry.first_found);
        chain(&self.found, first, |found| found.next_of_signature)
            .filter(|(number, _)| !self.gone.contains(number))
            .map(|(_, found)| found.place)
    }

    fn signature_number(&self, id: SignatureId) -> Option<u32> {
        let hash = self.signature_slots.hash(&id.0);
        self.signature_slots.find(hash, |number| row(&self.signatures, number).is_some_and(|entry| entry.id == id.0))
    }
}

/// What judging walks over: rows by their numbers, which no one outside keeps.
impl Facts {
    pub(crate) fn place(&self, repository: &Repository, digest: Digest) -> Option<u32> {
        self.place_of(*self.repository_numbers.get(repository)?, self.digest_number(digest)?)
    }

    pub(crate) fn subject_numbers(&self) -> impl Iterator<Item = u32> {
        let numbers = (0..).zip(&self.places);
        numbers.filter(|(_, place)| place.subject).map(|(number, _)| number)
    }

    pub(crate) fn name_of(&self, place: u32) -> Option<(&Repository, Digest)> {
        let place = row(&self.places, place)?;
        Some((row(&self.repositories, place.repository)?, row(&self.digests, place.digest)?.digest.digest()))
    }

    /// Returns the indexes that list a place and are subjects.
    pub(crate) fn parent_numbers(&self, place: u32) -> impl Iterator<Item = u32> {
        let first = row(&self.places, place).map_or(NONE, |place| place.first_parent);
        chain(&self.edges, first, |edge| edge.next_parent)
            .map(|(_, edge)| edge.parent)
            .filter(|&parent| row(&self.places, parent).is_some_and(|place| place.subject))
    }

    /// Returns the signatures that name a digest.
    pub(crate) fn named_numbers(&self, digest: Digest) -> impl Iterator<Item = u32> {
        let first = self.digest_row(digest).map_or(NONE, |row| row.first_named);
        chain(&self.signatures, first, |entry| entry.next_named)
            .map(|(number, _)| number)
            .filter(|number| !self.lost.contains(number))
    }

    /// Returns the signatures that were found at a digest, in any repository; one that was found in two comes twice.
    pub(crate) fn found_numbers(&self, digest: Digest) -> impl Iterator<Item = u32> {
        let first = self.digest_row(digest).map_or(NONE, |row| row.first_found);
        chain(&self.found, first, |found| found.next_of_digest)
            .filter(|(number, _)| !self.gone.contains(number))
            .map(|(_, found)| found.signature)
    }

    pub(crate) fn signature_row(&self, number: u32) -> Option<SignatureRow> {
        let entry = row(&self.signatures, number)?;
        let digest = |number| row(&self.digests, number).map(|row| row.digest.digest());
        Some(SignatureRow {
            id: SignatureId(entry.id),
            format: entry.format,
            names: digest(entry.names),
            says: row(&self.predicate_types, entry.predicate.into())
                .map_or(Says::Signed, |one| Says::Attested(Arc::clone(one))),
            first_seen: entry.first_seen.time(),
            manifest: digest(entry.manifest)?,
            layer: entry.layer,
        })
    }

    /// Returns the type of the predicate that a signature is about; `None` where it signs.
    pub(crate) fn predicate_type(&self, signature: u32) -> Option<&str> {
        let entry = row(&self.signatures, signature)?;
        row(&self.predicate_types, entry.predicate.into()).map(|predicate_type| &**predicate_type)
    }

    /// Says whether a signature was found in one of these repositories.
    pub(crate) fn found_in(&self, signature: u32, repositories: &[Repository]) -> bool {
        self.found_of(signature)
            .filter_map(|place| self.name_of(place))
            .any(|(repository, _)| repositories.contains(repository))
    }

    /// Returns when a signature was first seen here.
    pub(crate) fn signature_seen(&self, signature: u32) -> Option<Timestamp> {
        row(&self.signatures, signature).map(|entry| entry.first_seen.time())
    }

    /// Returns a signature's format.
    pub(crate) fn format(&self, signature: u32) -> Option<Format> {
        row(&self.signatures, signature).map(|entry| entry.format)
    }

    /// Returns whether a signature can be checked at all: its format, and that it names something.
    pub(crate) fn is_checkable(&self, signature: u32) -> bool {
        row(&self.signatures, signature).is_some_and(|entry| entry.format.is_checked() && entry.names != NONE)
    }
}

/// Size.
impl Facts {
    /// Estimates how many bytes the table takes in memory.
    pub fn bytes(&self) -> usize {
        let rows = self.digests.capacity() * size_of::<DigestRow>()
            + self.places.capacity() * size_of::<PlaceRow>()
            + self.edges.capacity() * size_of::<EdgeRow>()
            + self.signatures.capacity() * size_of::<SignatureEntry>()
            + self.found.capacity() * size_of::<FoundRow>();
        let slots = [&self.digest_slots, &self.place_slots, &self.edge_slots, &self.signature_slots, &self.found_slots];
        rows + slots.into_iter().map(Slots::bytes).sum::<usize>() + self.checks.bytes()
    }
}
