//! The table as the bytes of a snapshot: the same table gives the same bytes, whatever the order in which it was filled.
//!
//! Everything is sorted and numbered anew. Numbers are little-endian; lists have their length before them.

use std::collections::BTreeMap;

use super::rows::{DigestRow, Instant, SignatureEntry};
use super::slots::{NONE, chain};
use super::{Facts, SignatureRow, Told, row};
use crate::check::SignedHash;
use crate::digest::Digest;
use crate::key::AnchorId;
use crate::reference::Repository;
use crate::signature::{Format, Says, SignatureId};
use crate::verdict::State;

/// What a snapshot begins with. The last byte is the version, of the table's form and of what [`check`](crate::check) finds
/// valid: where either changes it is raised, so that no result of an older check is kept.
const MAGIC: &[u8; 8] = b"LRFACTS\x03";
/// Stands for an absent digest.
const ABSENT: u32 = u32::MAX;

/// Says why bytes are no snapshot of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// They begin with something else.
    #[error("the snapshot of the facts has another version or is none")]
    Version,
    /// They end in the middle of something, or do not end.
    #[error("the snapshot of the facts is cut or has too many bytes, at {0} bytes before its end")]
    Length(usize),
    /// Something in them cannot be.
    #[error("the snapshot of the facts has a malformed {0}")]
    Malformed(&'static str),
}

const FORMATS: [Format; 4] = [Format::SimpleSigning, Format::Bundle, Format::Attestation, Format::Notation];
const HASHES: [SignedHash; 5] =
    [SignedHash::Sha256, SignedHash::Sha384, SignedHash::Sha512, SignedHash::None, SignedHash::Sha224];

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn long(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.number(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
    }

    fn place_of<T: PartialEq>(&mut self, all: &[T], one: &T) {
        let place = all.iter().position(|other| other == one).and_then(|place| u8::try_from(place).ok());
        self.byte(place.unwrap_or(u8::MAX));
    }
}

/// The new numbers of rows: the old number is the place.
fn renumber(order: &[u32]) -> Vec<u32> {
    renumber_some(order, order.len())
}

/// The new numbers of some of the rows; the others have none.
fn renumber_some(order: &[u32], rows: usize) -> Vec<u32> {
    let mut numbers = vec![ABSENT; rows];
    for (new, &old) in (0..).zip(order) {
        if let Some(number) = usize::try_from(old).ok().and_then(|old| numbers.get_mut(old)) {
            *number = new;
        }
    }
    numbers
}

/// The numbers of rows, sorted by what they say.
fn sorted<'a, T, K: Ord>(rows: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<u32> {
    let mut keyed: Vec<(K, u32)> = rows.iter().map(key).zip(0..).collect();
    keyed.sort();
    keyed.into_iter().map(|(_, number)| number).collect()
}

fn new_number(numbers: &[u32], old: u32) -> u32 {
    row(numbers, old).copied().unwrap_or(ABSENT)
}

impl Facts {
    /// Writes the table for a snapshot; the same table gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        let repositories = sorted(&self.repositories, |repository| repository);
        out.length(repositories.len());
        for name in repositories.iter().filter_map(|&number| row(&self.repositories, number)) {
            out.text(name.as_str());
        }
        let digests = sorted(&self.digests, |row| row.digest.digest());
        out.length(digests.len());
        for row in digests.iter().filter_map(|&number| row(&self.digests, number)) {
            write_digest(&mut out, row);
        }
        let (repository_numbers, digest_numbers) = (renumber(&repositories), renumber(&digests));
        let key = |place: &super::PlaceRow| {
            (new_number(&repository_numbers, place.repository), new_number(&digest_numbers, place.digest))
        };
        let places = sorted(&self.places, key);
        let place_numbers = renumber(&places);
        out.length(places.len());
        for place in places.iter().filter_map(|&number| row(&self.places, number)) {
            let (repository, digest) = key(place);
            out.number(repository);
            out.number(digest);
            out.number(place.uncounted);
            out.byte(u8::from(place.subject));
            out.long(place.first_seen.0.cast_unsigned());
            match place.told_state {
                None => out.byte(u8::MAX),
                Some(state) => out.place_of(&State::ALL, &state),
            }
            out.long(place.told_seq);
        }
        let mut edges: Vec<(u32, u32)> = self
            .edges
            .iter()
            .map(|edge| (new_number(&place_numbers, edge.child), new_number(&place_numbers, edge.parent)))
            .collect();
        edges.sort_unstable();
        out.length(edges.len());
        for (child, parent) in edges {
            out.number(child);
            out.number(parent);
        }
        let mut anchors = sorted(&self.checks.anchors, |anchor| *anchor);
        anchors.retain(|&anchor| !self.checks.is_root(anchor));
        let anchor_numbers = renumber_some(&anchors, self.checks.anchors.len());
        out.length(anchors.len());
        for anchor in anchors.iter().filter_map(|&number| row(&self.checks.anchors, number)) {
            out.0.extend(anchor.0);
        }
        self.write_signatures(&mut out, &digest_numbers, &place_numbers, &anchor_numbers);
        out.0
    }

    fn write_signatures(&self, out: &mut Writer, digests: &[u32], places: &[u32], anchors: &[u32]) {
        // The sets of tried anchors that are in use, in an order of their own.
        let mut sets: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let set_of = |entry: &SignatureEntry| {
            let mut set: Vec<u32> = self
                .checks
                .set(entry.tried)
                .iter()
                .map(|&anchor| new_number(anchors, anchor))
                .filter(|&anchor| anchor != ABSENT)
                .collect();
            set.sort_unstable();
            set
        };
        for entry in &self.signatures {
            sets.entry(set_of(entry)).or_insert(0);
        }
        out.length(sets.len());
        for (number, (set, place)) in (0..).zip(&mut sets) {
            *place = number;
            out.length(set.len());
            set.iter().for_each(|&anchor| out.number(anchor));
        }
        let signatures = sorted(&self.signatures, |entry| entry.id);
        out.length(signatures.len());
        for entry in signatures.iter().filter_map(|&number| row(&self.signatures, number)) {
            out.0.extend(entry.id);
            out.place_of(&FORMATS, &entry.format);
            out.number(new_number(digests, entry.names));
            out.long(entry.first_seen.0.cast_unsigned());
            out.number(new_number(digests, entry.manifest));
            out.number(entry.layer);
            match row(&self.predicate_types, entry.predicate.into()) {
                None => out.byte(0),
                Some(predicate_type) => {
                    out.byte(1);
                    out.text(predicate_type);
                }
            }
            out.number(sets.get(&set_of(entry)).copied().unwrap_or(ABSENT));
            let mut valid: Vec<(u32, SignedHash)> = chain(&self.checks.valid, entry.first_valid, |valid| valid.next)
                .filter_map(|(_, valid)| Some((new_number(anchors, valid.anchor), valid.hash?)))
                .collect();
            valid.sort_unstable();
            out.length(valid.len());
            for (anchor, hash) in valid {
                out.number(anchor);
                out.place_of(&HASHES, &hash);
            }
            // One that was taken away from everywhere is kept with no place, for the sake of its first sight.
            let mut found: Vec<u32> = chain(&self.found, entry.first_found, |found| found.next_of_signature)
                .filter(|(number, _)| !self.gone.contains(number))
                .map(|(_, found)| new_number(places, found.place))
                .collect();
            found.sort_unstable();
            out.length(found.len());
            found.into_iter().for_each(|place| out.number(place));
        }
    }
}

fn write_digest(out: &mut Writer, row: &DigestRow) {
    let digest = row.digest.digest();
    out.byte(match digest {
        Digest::Sha256(_) => 0,
        Digest::Sha512(_) => 1,
    });
    out.0.extend(digest.as_bytes());
    out.byte(u8::from(row.corrupt));
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FactsError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(FactsError::Length(self.0.len()))?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, FactsError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u32, FactsError> {
        self.array().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, FactsError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a length. No list is trusted to be as long as it says: its items are read one by one.
    fn length(&mut self) -> Result<u32, FactsError> {
        self.number()
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, FactsError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FactsError::Malformed(what)),
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T], what: &'static str) -> Result<T, FactsError> {
        let place = usize::from(self.byte()?);
        all.get(place).copied().ok_or(FactsError::Malformed(what))
    }

    fn text(&mut self) -> Result<&str, FactsError> {
        let length = usize::try_from(self.length()?).map_err(|_| FactsError::Malformed("name"))?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(FactsError::Length(self.0.len()))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| FactsError::Malformed("name"))
    }

    /// Reads a number of a row in `rows`.
    fn row<'r, T>(&mut self, rows: &'r [T], what: &'static str) -> Result<&'r T, FactsError> {
        let number = self.number()?;
        row(rows, number).ok_or(FactsError::Malformed(what))
    }
}

impl Facts {
    /// Reads a snapshot's bytes; the caller has verified their checksum, and still nothing here panics.
    ///
    /// # Errors
    /// Fails where the bytes are not those of a table of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FactsError> {
        let mut input = Reader(bytes.strip_prefix(MAGIC).ok_or(FactsError::Version)?);
        let mut facts = Self::default();
        let mut repositories: Vec<Repository> = Vec::new();
        for _ in 0..input.length()? {
            let text = input.text()?;
            let name: Repository = text.parse().map_err(|_| FactsError::Malformed("repository"))?;
            if name.as_str() != text {
                return Err(FactsError::Malformed("repository"));
            }
            facts.repository_or_new(&name);
            repositories.push(name);
        }
        let digests = facts.read_digests(&mut input)?;
        let places = facts.read_places(&mut input, &repositories, &digests)?;
        for _ in 0..input.length()? {
            let (repository, child) = input.row(&places, "edge")?;
            let (other, index) = input.row(&places, "edge")?;
            if repository != other {
                return Err(FactsError::Malformed("edge"));
            }
            facts.add_parent(repository, *child, *index);
        }
        facts.read_signatures(&mut input, &digests, &places)?;
        if input.0.is_empty() { Ok(facts) } else { Err(FactsError::Length(input.0.len())) }
    }

    fn read_digests(&mut self, input: &mut Reader<'_>) -> Result<Vec<Digest>, FactsError> {
        let mut digests = Vec::new();
        for _ in 0..input.length()? {
            let digest = match input.byte()? {
                0 => Digest::Sha256(input.array()?),
                1 => Digest::Sha512(input.array()?),
                _ => return Err(FactsError::Malformed("digest")),
            };
            self.digest_or_new(digest);
            self.set_corrupt(digest, input.flag("mark of corruption")?);
            digests.push(digest);
        }
        Ok(digests)
    }

    fn read_places<'r>(
        &mut self,
        input: &mut Reader<'_>,
        repositories: &'r [Repository],
        digests: &[Digest],
    ) -> Result<Vec<(&'r Repository, Digest)>, FactsError> {
        let mut places = Vec::new();
        for _ in 0..input.length()? {
            let repository = input.row(repositories, "place")?;
            let digest = *input.row(digests, "place")?;
            let uncounted = input.number()?;
            let subject = input.flag("subject")?;
            let first_seen = Instant(input.long()?.cast_signed());
            let told = input.byte()?;
            let seq = input.long()?;
            self.place_or_new(repository, digest);
            self.add_uncounted(repository, digest, uncounted);
            if subject {
                self.add_subject(repository, digest, first_seen.time());
            }
            if told != u8::MAX {
                let state = State::ALL.get(usize::from(told)).copied().ok_or(FactsError::Malformed("state"))?;
                self.set_told(repository, digest, Told { state, seq });
            }
            places.push((repository, digest));
        }
        Ok(places)
    }

    fn read_signatures(
        &mut self,
        input: &mut Reader<'_>,
        digests: &[Digest],
        places: &[(&Repository, Digest)],
    ) -> Result<(), FactsError> {
        let mut anchors: Vec<AnchorId> = Vec::new();
        for _ in 0..input.length()? {
            let anchor = AnchorId(input.array()?);
            self.checks.anchor_or_new(anchor);
            anchors.push(anchor);
        }
        let mut sets: Vec<Vec<AnchorId>> = Vec::new();
        for _ in 0..input.length()? {
            let mut set = Vec::new();
            for _ in 0..input.length()? {
                set.push(*input.row(&anchors, "anchor")?);
            }
            sets.push(set);
        }
        for _ in 0..input.length()? {
            let id = SignatureId(input.array()?);
            let format = input.one_of(&FORMATS, "format")?;
            let names = match input.number()? {
                NONE => None,
                number => Some(*row(digests, number).ok_or(FactsError::Malformed("digest"))?),
            };
            let first_seen = Instant(input.long()?.cast_signed()).time();
            let manifest = *input.row(digests, "digest")?;
            let layer = input.number()?;
            let says = if input.flag("predicate")? { Says::Attested(input.text()?.into()) } else { Says::Signed };
            let set = input.row(&sets, "set of anchors")?;
            let number = self.signature_or_new(&SignatureRow { id, format, names, says, first_seen, manifest, layer });
            self.lost.insert(number);
            set.iter().for_each(|anchor| self.record_check(id, *anchor, None));
            for _ in 0..input.length()? {
                let anchor = *input.row(&anchors, "anchor")?;
                let hash = input.one_of(&HASHES, "hash")?;
                self.record_check(id, anchor, Some(hash));
            }
            for _ in 0..input.length()? {
                let (repository, at) = *input.row(places, "place")?;
                let (place, signature) = (self.place(repository, at), self.signature_number(id));
                if let (Some(place), Some(signature)) = (place, signature) {
                    self.add_found(signature, place);
                }
            }
        }
        Ok(())
    }
}
