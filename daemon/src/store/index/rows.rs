//! What a record means for the index's rows.
//!
//! Rows depend on the records and their order alone, so that a rebuilt index answers as the one before it. Applying
//! records again in order, from any place at or before the last one applied, changes nothing.

use larder_core::artifact::DigestTag;
use larder_core::{Digest, Repository, Tag};

use super::keys;
use super::layers::{Draft, Fault};
use crate::store::record::{AttachedTo, Detached, Event, ManifestAdded, Record, SubjectRole, TagMoved, TagRow};
use crate::store::wire::{Malformed, Wire as _, digest_bytes};

/// In a subject's history: a verdict that was told.
pub(super) const VERDICT: u8 = b'v';
/// In a subject's history: anything else.
pub(super) const OTHER: u8 = b'o';

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self(format!("a row of it: {error}"))
    }
}

/// Applies a record.
pub(super) fn apply(draft: &mut Draft<'_>, record: &Record) -> Result<(), Fault> {
    match &record.event {
        Event::Operation(operation) => {
            for manifest in &operation.manifests {
                add_manifest(draft, record.seq, manifest)?;
            }
            for detached in &operation.detached {
                detach(draft, record.seq, detached)?;
            }
            for moved in &operation.tags {
                move_tag(draft, record, moved)?;
            }
        }
        Event::VerdictsTold(told) => {
            for (seq, change) in (record.seq..).zip(&told.changes) {
                draft.put(keys::subject_history_at(&change.repository, &change.digest, seq), vec![VERDICT]);
            }
        }
        Event::Corruption(corruption) => {
            draft.put(keys::corruption_at(&corruption.digest, record.seq), Vec::new());
        }
        Event::TrustChanged(_) | Event::Pruned(_) => {}
    }
    Ok(())
}

fn add_manifest(draft: &mut Draft<'_>, seq: u64, added: &ManifestAdded) -> Result<(), Fault> {
    let (repository, digest) = (&added.repository, &added.digest);
    let row = match manifest(draft.get(&keys::manifest(repository, digest))?)? {
        Some(known) => unite(known, added.clone()),
        None => added.clone(),
    };
    draft.put(keys::manifest(repository, digest), row.to_bytes());
    for successor in &added.successors {
        draft.put(keys::edge(repository, &successor.digest, digest), Vec::new());
    }
    if row.subject.is_some() {
        note(draft, repository, digest, seq);
    }
    if let Some(attached) = &added.attached {
        draft.put(keys::attached(&attached.subject, repository, digest), attached.to_bytes());
        note(draft, repository, &attached.subject, seq);
    }
    list(draft, repository, digest)
}

/// Takes a manifest away from what it was attached to. Where it is nothing else, nothing leads to it any more.
fn detach(draft: &mut Draft<'_>, seq: u64, detached: &Detached) -> Result<(), Fault> {
    let Detached { repository, digest, subject, .. } = detached;
    draft.remove(keys::attached(subject, repository, digest));
    note(draft, repository, subject, seq);
    let Some(row) = manifest(draft.get(&keys::manifest(repository, digest))?)? else { return Ok(()) };
    if row.attached.as_ref().is_none_or(|attached| attached.subject != *subject) {
        return Ok(());
    }
    if row.subject.is_some() {
        let row = ManifestAdded { attached: None, signatures: Vec::new(), uncounted: 0, ..row };
        draft.put(keys::manifest(repository, digest), row.to_bytes());
        return Ok(());
    }
    for successor in &row.successors {
        draft.remove(keys::edge(repository, &successor.digest, digest));
    }
    draft.remove(keys::manifest(repository, digest));
    list(draft, repository, digest)
}

fn move_tag(draft: &mut Draft<'_>, record: &Record, moved: &TagMoved) -> Result<(), Fault> {
    let TagMoved { repository, tag, old, new } = moved;
    let value = new.as_ref().map(digest_bytes).unwrap_or_default();
    draft.put(keys::tag_history_at(repository, tag, record.seq), value);
    if let Some(old) = old {
        draft.remove(keys::tag_of(repository, old, tag));
        draft.remove(keys::list_entry(repository, Some(tag), old));
        note(draft, repository, old, record.seq);
    }
    match new {
        Some(digest) => {
            let row = TagRow { digest: *digest, seq: record.seq, moved: record.time };
            draft.put(keys::tag(repository, tag), row.to_bytes());
            draft.put(keys::tag_of(repository, digest, tag), Vec::new());
            note(draft, repository, digest, record.seq);
        }
        None => draft.remove(keys::tag(repository, tag)),
    }
    for digest in [old, new].into_iter().flatten() {
        list(draft, repository, digest)?;
    }
    Ok(())
}

/// Puts a seq into a subject's history.
fn note(draft: &mut Draft<'_>, repository: &Repository, digest: &Digest, seq: u64) {
    draft.put(keys::subject_history_at(repository, digest, seq), vec![OTHER]);
}

/// Brings a digest's entries in the list up to date: under each of its tags where it is a subject, without a tag where it
/// was asked for itself and no tag names it. Tags of digests (`sha256-….sig`) never show.
fn list(draft: &mut Draft<'_>, repository: &Repository, digest: &Digest) -> Result<(), Fault> {
    let role = manifest(draft.get(&keys::manifest(repository, digest))?)?.and_then(|row| row.subject);
    let mut tagged = false;
    for tag in tags_of(&draft.scan(&keys::tags_of(repository, digest))?, repository, digest) {
        if DigestTag::is_reserved(&tag) {
            continue;
        }
        tagged = true;
        let key = keys::list_entry(repository, Some(&tag), digest);
        if role.is_some() {
            draft.put(key, Vec::new());
        } else {
            draft.remove(key);
        }
    }
    let untagged = keys::list_entry(repository, None, digest);
    if role == Some(SubjectRole::Root) && !tagged {
        draft.put(untagged, Vec::new());
    } else {
        draft.remove(untagged);
    }
    Ok(())
}

/// Reads the tags from rows of [`keys::tags_of`].
pub(super) fn tags_of(rows: &[super::layers::Row], repository: &Repository, digest: &Digest) -> Vec<Tag> {
    let prefix = keys::tags_of(repository, digest);
    rows.iter().filter_map(|(key, _)| keys::text(key.strip_prefix(prefix.as_slice())?)?.0.parse().ok()).collect()
}

/// Reads a manifest's row.
pub(super) fn manifest(bytes: Option<Vec<u8>>) -> Result<Option<ManifestAdded>, Fault> {
    Ok(bytes.map(|bytes| ManifestAdded::from_bytes(&bytes)).transpose()?)
}

/// Unites what is known of a manifest with what is said of it now: roles unite, left-outs shrink, first sights stay.
fn unite(known: ManifestAdded, added: ManifestAdded) -> ManifestAdded {
    let mut row = added;
    row.artifact_type = row.artifact_type.or(known.artifact_type);
    row.subject = match (known.subject, row.subject) {
        (Some(SubjectRole::Root), _) | (_, Some(SubjectRole::Root)) => Some(SubjectRole::Root),
        (known, added) => known.or(added),
    };
    row.attached = match (known.attached, row.attached) {
        (Some(known), Some(added)) if known.subject == added.subject => {
            Some(AttachedTo { tag: added.tag.or(known.tag), ..added })
        }
        (known, added) => added.or(known),
    };
    row.left_out.retain(|digest| known.left_out.contains(digest));
    row.uncounted = row.uncounted.max(known.uncounted);
    let news = std::mem::replace(&mut row.signatures, known.signatures);
    for new in news {
        match row.signatures.iter_mut().find(|signature| signature.id == new.id) {
            Some(signature) => signature.first_seen = signature.first_seen.min(new.first_seen),
            None => row.signatures.push(new),
        }
    }
    row
}
