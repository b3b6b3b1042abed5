//! Look-ups. Blocking, but for the smallest of them no longer than a few microseconds.

use std::collections::BTreeSet;

use larder_core::{Digest, Repository, Tag};

use super::layers::{Fault, Layers, Row};
use super::{Index, keys, rows};
use crate::store::error::StoreError;
use crate::store::record::{AttachedTo, HistoryOf, ListKey, ManifestAdded, TagRow};
use crate::store::wire::Wire as _;

/// The most moves of a tag whose digests' verdicts are looked at.
const MAX_MOVES: usize = 10_000;

impl Index {
    /// Looks something up. A fault is answered as "rebuilding": it is noted, and the next start builds the index anew.
    fn look<T>(&self, find: impl FnOnce(&Layers<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        let view = self.view();
        let Some(tree) = view.tree.as_ref().filter(|_| view.rebuilding.is_none()) else {
            return Err(Self::unavailable(&view));
        };
        find(&Layers { upper: &view.pending, lower: None, tree }).map_err(|fault| {
            tracing::error!(%fault, "the look-up index is damaged; a restart builds it anew");
            self.note_doubt();
            StoreError::Rebuilding { done: 0, total: 0 }
        })
    }

    pub(in crate::store) fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagRow>, StoreError> {
        let row = self.look(|layers| layers.get(&keys::tag(repository, tag)))?;
        Ok(row.and_then(|row| TagRow::from_bytes(&row).ok()))
    }

    pub(in crate::store) fn tags(
        &self,
        repository: &Repository,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(Tag, TagRow)>, StoreError> {
        let prefix = keys::tags(repository);
        let from = after.map_or_else(|| prefix.clone(), |after| keys::tags_after(repository, after));
        let found = self.look(|layers| layers.scan(&prefix, &from, limit))?;
        let read = |(key, value): &Row| {
            let (tag, _) = keys::text(key.strip_prefix(prefix.as_slice())?)?;
            Some((tag.parse().ok()?, TagRow::from_bytes(value).ok()?))
        };
        Ok(found.iter().filter_map(read).collect())
    }

    pub(in crate::store) fn tags_of(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        let prefix = keys::tags_of(repository, digest);
        let found = self.look(|layers| layers.scan(&prefix, &prefix, usize::MAX))?;
        Ok(rows::tags_of(&found, repository, digest))
    }

    pub(in crate::store) fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ManifestAdded>, StoreError> {
        self.look(|layers| rows::manifest(layers.get(&keys::manifest(repository, digest))?))
    }

    pub(in crate::store) fn has_repository(&self, repository: &Repository) -> Result<bool, StoreError> {
        let prefix = keys::manifests_of(repository);
        Ok(!self.look(|layers| layers.scan(&prefix, &prefix, 1))?.is_empty())
    }

    /// Lists the repositories that hold manifests, one step through the index for each.
    pub(in crate::store) fn repositories(
        &self,
        after: Option<&Repository>,
        limit: usize,
    ) -> Result<Vec<Repository>, StoreError> {
        let prefix = keys::manifests();
        let mut from = after.map_or_else(|| prefix.clone(), keys::manifests_behind);
        self.look(|layers| {
            let mut repositories: Vec<Repository> = Vec::new();
            while repositories.len() < limit {
                let found = layers.scan(&prefix, &from, 1)?;
                let Some((key, _)) = found.first() else { break };
                let name = key.strip_prefix(prefix.as_slice()).and_then(keys::text);
                match name.and_then(|(name, _)| name.parse().ok()) {
                    Some(repository) => {
                        from = keys::manifests_behind(&repository);
                        repositories.push(repository);
                    }
                    None => from = keys::behind(key.clone()),
                }
            }
            Ok(repositories)
        })
    }

    pub(in crate::store) fn list(&self, after: Option<&ListKey>, limit: usize) -> Result<Vec<ListKey>, StoreError> {
        let key = |entry: &ListKey| keys::list_entry(&entry.repository, entry.tag.as_ref(), &entry.digest);
        let from = after.map(|entry| keys::behind(key(entry))).unwrap_or_default();
        let found = self.look(|layers| layers.scan(&keys::list(), &from, limit))?;
        Ok(found.iter().filter_map(|(key, _)| keys::read_list_entry(key)).collect())
    }

    pub(in crate::store) fn attached(&self, subject: &Digest) -> Result<Vec<ManifestAdded>, StoreError> {
        let prefix = keys::attached_to(subject);
        self.look(|layers| {
            let mut attached = Vec::new();
            for (key, value) in layers.scan(&prefix, &prefix, usize::MAX)? {
                let place = key.strip_prefix(prefix.as_slice()).and_then(keys::text);
                let Some((repository, Some((digest, _)))) = place.map(|(text, rest)| (text, keys::digest(rest))) else {
                    continue;
                };
                let Ok(repository) = repository.parse::<Repository>() else { continue };
                let row = rows::manifest(layers.get(&keys::manifest(&repository, &digest))?)?;
                // One manifest may be found at several subjects, by several tags.
                let at = AttachedTo::from_bytes(&value)?;
                attached.extend(row.map(|row| ManifestAdded { attached: Some(at), ..row }));
            }
            Ok(attached)
        })
    }

    pub(in crate::store) fn listed_by(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Digest>, StoreError> {
        let prefix = keys::edges(repository, digest);
        let found = self.look(|layers| layers.scan(&prefix, &prefix, usize::MAX))?;
        let parent = |(key, _): &Row| Some(keys::digest(key.strip_prefix(prefix.as_slice())?)?.0);
        Ok(found.iter().filter_map(parent).collect())
    }

    pub(in crate::store) fn listed_anywhere(&self, digest: &Digest) -> Result<Vec<(Repository, Digest)>, StoreError> {
        let prefix = keys::edges_anywhere(digest);
        let found = self.look(|layers| layers.scan(&prefix, &prefix, usize::MAX))?;
        let place = |(key, _): &Row| {
            let (repository, parent) = keys::text(key.strip_prefix(prefix.as_slice())?)?;
            Some((repository.parse().ok()?, keys::digest(parent)?.0))
        };
        Ok(found.iter().filter_map(place).collect())
    }

    /// Returns the seqs of a history below `before`, the newest first, at most `limit`.
    pub(in crate::store) fn history(&self, of: &HistoryOf, before: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let seqs = self.look(|layers| match of {
            HistoryOf::All => Ok(BTreeSet::new()),
            HistoryOf::Subject(repository, digest) => {
                let mut seqs = below(layers, keys::subject_history(repository, digest), before, limit)?;
                seqs.extend(below(layers, keys::corruptions(digest), before, limit)?);
                Ok(seqs)
            }
            HistoryOf::Tag(repository, tag) => tag_history(layers, repository, tag, before, limit),
        })?;
        Ok(seqs.into_iter().rev().take(limit).collect())
    }
}

fn below(layers: &Layers<'_>, history: Vec<u8>, before: u64, limit: usize) -> Result<BTreeSet<u64>, Fault> {
    let found = layers.scan(&history, &keys::before(history.clone(), before), limit)?;
    Ok(found.iter().filter_map(|(key, _)| keys::seq(key)).collect())
}

/// A tag's moves, and the verdicts and corruptions of what it named.
fn tag_history(
    layers: &Layers<'_>,
    repository: &Repository,
    tag: &Tag,
    before: u64,
    limit: usize,
) -> Result<BTreeSet<u64>, Fault> {
    let history = keys::tag_history(repository, tag);
    let moves = layers.scan(&history, &history, MAX_MOVES)?;
    let mut seqs: BTreeSet<u64> =
        moves.iter().filter_map(|(key, _)| keys::seq(key)).filter(|seq| *seq < before).collect();
    let named: BTreeSet<Digest> =
        moves.iter().filter_map(|(_, value)| crate::store::wire::digest(value).ok()).collect();
    for digest in named {
        seqs.extend(below(layers, keys::corruptions(&digest), before, limit)?);
        let history = keys::subject_history(repository, &digest);
        let mut from = keys::before(history.clone(), before);
        let mut found = 0;
        // Verdicts lie between other things, so it may take more than one look.
        while found < limit {
            let rows = layers.scan(&history, &from, limit)?;
            let Some((last, _)) = rows.last() else { break };
            from = keys::behind(last.clone());
            let verdicts = rows.iter().filter(|(_, kind)| kind.first() == Some(&rows::VERDICT));
            let before = seqs.len();
            seqs.extend(verdicts.filter_map(|(key, _)| keys::seq(key)));
            found += seqs.len() - before;
        }
    }
    Ok(seqs)
}
