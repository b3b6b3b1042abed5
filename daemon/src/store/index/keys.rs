//! Keys of the index's rows. Their order is the order in which rows are listed.
//!
//! The first byte says what a row is. A repository ends in a zero byte, which none contains; a tag likewise. A digest is
//! a byte for the algorithm and the hash. Seqs are written downwards, so that the newest comes first.

use larder_core::{Digest, Repository, Tag};

use crate::store::record::ListKey;

/// What the index itself is: see `Meta`.
pub(super) const META: &[u8] = b"!";

const TAG: u8 = b't';
const TAG_OF: u8 = b'T';
const MANIFEST: u8 = b'm';
const ATTACHED: u8 = b'a';
const EDGE: u8 = b'e';
const LIST: u8 = b'l';
const SUBJECT_HISTORY: u8 = b'h';
const TAG_HISTORY: u8 = b'g';
const CORRUPTION: u8 = b'c';

/// Places of an entry in the list: tags first.
const TAGGED: u8 = 1;
const UNTAGGED: u8 = 2;

fn in_repository(kind: u8, repository: &Repository) -> Vec<u8> {
    let mut key = Vec::with_capacity(160);
    key.push(kind);
    key.extend_from_slice(repository.as_str().as_bytes());
    key.push(0);
    key
}

fn with_digest(mut key: Vec<u8>, digest: &Digest) -> Vec<u8> {
    key.push(match digest {
        Digest::Sha256(_) => 1,
        Digest::Sha512(_) => 2,
    });
    key.extend_from_slice(digest.as_bytes());
    key
}

fn with_tag(mut key: Vec<u8>, tag: &str) -> Vec<u8> {
    key.extend_from_slice(tag.as_bytes());
    key.push(0);
    key
}

fn with_seq(mut key: Vec<u8>, seq: u64) -> Vec<u8> {
    key.extend_from_slice(&(!seq).to_be_bytes());
    key
}

/// Reads the seq at a key's end.
pub(super) fn seq(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| !u64::from_be_bytes(*bytes))
}

/// Reads the digest behind a prefix.
pub(super) fn digest(key: &[u8]) -> Option<(Digest, &[u8])> {
    match key.split_first()? {
        (1, rest) => rest.split_first_chunk().map(|(hash, rest)| (Digest::Sha256(*hash), rest)),
        (2, rest) => rest.split_first_chunk().map(|(hash, rest)| (Digest::Sha512(*hash), rest)),
        _ => None,
    }
}

/// Reads text up to a zero byte.
pub(super) fn text(key: &[u8]) -> Option<(&str, &[u8])> {
    let end = key.iter().position(|&byte| byte == 0)?;
    let (text, rest) = key.split_at_checked(end)?;
    Some((std::str::from_utf8(text).ok()?, rest.get(1..)?))
}

pub(super) fn tags(repository: &Repository) -> Vec<u8> {
    in_repository(TAG, repository)
}

/// Returns the key at which the tags behind `after` begin.
pub(super) fn tags_after(repository: &Repository, after: &str) -> Vec<u8> {
    let mut key = with_tag(tags(repository), after);
    key.push(0);
    key
}

pub(super) fn tag(repository: &Repository, tag: &Tag) -> Vec<u8> {
    with_tag(tags(repository), tag.as_str())
}

pub(super) fn tags_of(repository: &Repository, digest: &Digest) -> Vec<u8> {
    with_digest(in_repository(TAG_OF, repository), digest)
}

pub(super) fn tag_of(repository: &Repository, digest: &Digest, tag: &Tag) -> Vec<u8> {
    with_tag(tags_of(repository, digest), tag.as_str())
}

pub(super) fn manifests() -> Vec<u8> {
    vec![MANIFEST]
}

pub(super) fn manifests_of(repository: &Repository) -> Vec<u8> {
    in_repository(MANIFEST, repository)
}

/// Returns the key at which the manifests of the repositories behind `after` begin.
pub(super) fn manifests_behind(after: &Repository) -> Vec<u8> {
    let mut key = manifests_of(after);
    // The zero byte that ends the name: one more is behind all that begin so, and before every longer name.
    key.pop();
    key.push(1);
    key
}

pub(super) fn manifest(repository: &Repository, digest: &Digest) -> Vec<u8> {
    with_digest(in_repository(MANIFEST, repository), digest)
}

pub(super) fn attached_to(subject: &Digest) -> Vec<u8> {
    with_digest(vec![ATTACHED], subject)
}

pub(super) fn attached(subject: &Digest, repository: &Repository, digest: &Digest) -> Vec<u8> {
    let mut key = attached_to(subject);
    key.extend_from_slice(repository.as_str().as_bytes());
    key.push(0);
    with_digest(key, digest)
}

pub(super) fn edges_anywhere(child: &Digest) -> Vec<u8> {
    with_digest(vec![EDGE], child)
}

pub(super) fn edges(repository: &Repository, child: &Digest) -> Vec<u8> {
    let mut key = edges_anywhere(child);
    key.extend_from_slice(repository.as_str().as_bytes());
    key.push(0);
    key
}

pub(super) fn edge(repository: &Repository, child: &Digest, parent: &Digest) -> Vec<u8> {
    with_digest(edges(repository, child), parent)
}

pub(super) fn list() -> Vec<u8> {
    vec![LIST]
}

pub(super) fn list_entry(repository: &Repository, tag: Option<&Tag>, digest: &Digest) -> Vec<u8> {
    let mut key = in_repository(LIST, repository);
    match tag {
        Some(tag) => {
            key.push(TAGGED);
            key = with_tag(key, tag.as_str());
        }
        None => key.push(UNTAGGED),
    }
    with_digest(key, digest)
}

/// Reads an entry of the list.
pub(super) fn read_list_entry(key: &[u8]) -> Option<ListKey> {
    let (repository, rest) = text(key.strip_prefix(&[LIST])?)?;
    let (place, rest) = rest.split_first()?;
    let (tag, rest) = match *place {
        TAGGED => text(rest).and_then(|(tag, rest)| Some((Some(tag.parse().ok()?), rest)))?,
        UNTAGGED => (None, rest),
        _ => return None,
    };
    Some(ListKey { repository: repository.parse().ok()?, tag, digest: digest(rest)?.0 })
}

pub(super) fn subject_history(repository: &Repository, digest: &Digest) -> Vec<u8> {
    with_digest(in_repository(SUBJECT_HISTORY, repository), digest)
}

pub(super) fn subject_history_at(repository: &Repository, digest: &Digest, seq: u64) -> Vec<u8> {
    with_seq(subject_history(repository, digest), seq)
}

pub(super) fn tag_history(repository: &Repository, tag: &Tag) -> Vec<u8> {
    with_tag(in_repository(TAG_HISTORY, repository), tag.as_str())
}

pub(super) fn tag_history_at(repository: &Repository, tag: &Tag, seq: u64) -> Vec<u8> {
    with_seq(tag_history(repository, tag), seq)
}

pub(super) fn corruptions(digest: &Digest) -> Vec<u8> {
    with_digest(vec![CORRUPTION], digest)
}

pub(super) fn corruption_at(digest: &Digest, seq: u64) -> Vec<u8> {
    with_seq(corruptions(digest), seq)
}

/// Returns the key at which a history's rows below `before` begin.
pub(super) fn before(history: Vec<u8>, before: u64) -> Vec<u8> {
    with_seq(history, before.saturating_sub(1))
}

/// Returns the key right behind `key`.
pub(super) fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_entries_do() {
        let repository = |text: &str| text.parse::<Repository>().expect("a repository");
        let mut entries = Vec::new();
        for name in ["quay.io/a", "quay.io/a/b", "quay.io/a-b", "localhost/z"] {
            for tag in [Some("a"), Some("a.b"), Some("A"), Some("ab"), None] {
                for content in [b"1", b"2"] {
                    let tag = tag.map(|tag| tag.parse().expect("a tag"));
                    entries.push(ListKey { repository: repository(name), tag, digest: Digest::of(content) });
                }
            }
        }
        let mut keys: Vec<_> =
            entries.iter().map(|entry| list_entry(&entry.repository, entry.tag.as_ref(), &entry.digest)).collect();
        keys.sort();
        entries.sort();
        let read: Vec<_> = keys.iter().map(|key| read_list_entry(key).expect("an entry")).collect();
        assert_eq!(read, entries);
    }

    #[test]
    fn seqs_are_newest_first() {
        let history = corruptions(&Digest::of(b"x"));
        let key = |seq| with_seq(history.clone(), seq);
        assert!(key(9) < key(8) && key(256) < key(255));
        assert_eq!(seq(&key(7)), Some(7));
        assert_eq!(before(history.clone(), 9), key(8));
    }
}
