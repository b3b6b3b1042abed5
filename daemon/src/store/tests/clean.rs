//! What was taken away from where it was attached: at once, after a restart, in views built anew, and in a pruned journal.

use std::fs;

use super::views::{answers, ready};
use super::*;
use crate::store::record::Detached;

fn clean(gone: &[&ManifestAdded], subject: Digest, tags: &[&str]) -> Event {
    let moved =
        |name: &&str| TagMoved { repository: repository("quay.io/team/app"), tag: tag(name), old: None, new: None };
    let detached = |row: &&ManifestAdded| Detached {
        repository: row.repository.clone(),
        digest: row.digest,
        subject,
        signatures: row.signatures.iter().map(|one| one.id).collect(),
        uncounted: row.uncounted,
    };
    Event::Operation(Operation {
        kind: OperationKind::Clean,
        reference: "quay.io/team/app".into(),
        manifests: Vec::new(),
        tags: tags.iter().map(moved).collect(),
        detached: gone.iter().map(detached).collect(),
    })
}

/// An image with two signatures and an attached index that is a subject, too.
struct Stage {
    image: ManifestAdded,
    first: ManifestAdded,
    other: ManifestAdded,
    both: ManifestAdded,
}

async fn stage(store: &Store) -> Stage {
    let image = image(store, "image", Some(SubjectRole::Root)).await;
    let first = ManifestAdded { uncounted: 3, ..signature_of(store, &image, "one").await };
    let other = signature_of(store, &image, "other").await;
    let both = ManifestAdded { subject: Some(SubjectRole::Root), ..signature_of(store, &image, "subject").await };
    let tags = [("x", Some(image.digest)), ("sig", Some(first.digest)), ("both", Some(both.digest))];
    let manifests = vec![image.clone(), first.clone(), other.clone(), both.clone()];
    store.commit(actor(), vec![pull(manifests, &tags)]).await.expect("a commit");
    Stage { image, first, other, both }
}

fn ids(store: &Store, digest: Digest) -> Vec<SignatureId> {
    store.facts().named_by(digest)
}

#[tokio::test]
async fn what_was_taken_away_stays_away_until_it_comes_again() {
    let (folder, store) = new_store();
    let home = folder.path().join("home");
    let Stage { image, first, other, both } = stage(&store).await;
    assert_eq!((ids(&store, image.digest).len(), store.facts().uncounted(image.digest)), (3, 3));
    let event = clean(&[&first, &both], image.digest, &["sig"]);
    store.commit(actor(), vec![event]).await.expect("a commit");
    assert_eq!(ids(&store, image.digest), [other.signatures[0].id]);
    assert_eq!(store.facts().uncounted(image.digest), 0);
    assert_eq!(store.facts().signatures_of(image.digest), [other.signatures[0].id]);
    assert_eq!(store.facts().signature(first.signatures[0].id), None);
    let attached = store.attached(image.digest).await.expect("attached");
    assert_eq!(attached.iter().map(|row| row.digest).collect::<Vec<_>>(), [other.digest]);
    assert_eq!(store.tag(&image.repository, &tag("sig")).await.expect("a tag"), None);
    assert_eq!(store.manifest_row(&image.repository, first.digest).await.expect("a row"), None);
    let layer = first.successors[0].digest;
    let parents = store.listed_by(&image.repository, layer).await.expect("parents");
    assert!(parents.is_empty(), "nothing leads to its bytes: {parents:?}");
    assert!(store.has(&first.digest) && store.has(&layer), "bytes stay");
    let row = store.manifest_row(&image.repository, both.digest).await.expect("a row").expect("it is a subject still");
    assert_eq!((row.subject, row.attached, row.signatures), (Some(SubjectRole::Root), None, Vec::new()));
    let (before, facts) = (answers(&store).await, store.facts().to_bytes());
    store.close().expect("closed");
    for views in [&[][..], &["index"], &["snapshot"], &["index", "snapshot"]] {
        for view in views {
            fs::remove_dir_all(home.join(view)).expect("a view");
        }
        let store = open(&home);
        ready(&store).await;
        assert_eq!(answers(&store).await, before, "{views:?}");
        assert_eq!(store.facts().to_bytes(), facts, "{views:?}");
        store.close().expect("closed");
    }
    let store = open(&home);
    ready(&store).await;
    store.commit(actor(), vec![pull(vec![first.clone()], &[("sig", Some(first.digest))])]).await.expect("a commit");
    assert_eq!(ids(&store, image.digest).len(), 2);
    assert!(store.facts().is_found(first.signatures[0].id, &image.repository, image.digest));
    assert_eq!(store.facts().uncounted(image.digest), 3);
    assert_eq!(store.attached(image.digest).await.expect("attached").len(), 2);
}

#[tokio::test]
async fn a_signature_found_elsewhere_counts_as_before() {
    let (_folder, store) = new_store();
    let Stage { image, first, .. } = stage(&store).await;
    let elsewhere = ManifestAdded { repository: repository("quay.io/other/app"), ..first.clone() };
    store.commit(actor(), vec![pull(vec![elsewhere], &[])]).await.expect("a commit");
    store.commit(actor(), vec![clean(&[&first], image.digest, &["sig"])]).await.expect("a commit");
    let id = first.signatures[0].id;
    assert!(ids(&store, image.digest).contains(&id));
    assert_eq!(store.facts().found_at(id), [(repository("quay.io/other/app"), image.digest)]);
    assert_eq!(store.attached(image.digest).await.expect("attached").len(), 3, "two here and one elsewhere");
}

#[tokio::test]
async fn a_pruned_journal_forgets_what_was_taken_away() {
    const SEGMENT: u64 = 100;
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let (store, _) = Store::open_with(&home, Arc::new(Clock::default()), SEGMENT).expect("the store opens");
    let Stage { image, first, other, both } = stage(&store).await;
    store.commit(actor(), vec![clean(&[&first, &both], image.digest, &["sig"])]).await.expect("a commit");
    store.commit(actor(), vec![clean(&[&other], image.digest, &[])]).await.expect("a commit");
    store.commit(actor(), vec![pull(vec![other.clone()], &[])]).await.expect("it came again");
    store.commit(actor(), vec![pull(Vec::new(), &[("last", Some(image.digest))])]).await.expect("a commit");
    let present = async |store: &Store| {
        let attached = store.attached(image.digest).await.expect("attached");
        let row = store.manifest_row(&image.repository, both.digest).await.expect("a row");
        (ids(store, image.digest), store.facts().uncounted(image.digest), attached, row)
    };
    let before = present(&store).await;
    assert_eq!(before.0, [other.signatures[0].id]);
    let pruned = store.prune(Keep { days: 0, bytes: 0 }, actor(), false).await.expect("pruned");
    assert!(pruned.segments > 2, "{pruned:?}");
    store.close().expect("closed");
    for view in ["index", "snapshot"] {
        fs::remove_dir_all(home.join(view)).expect(view);
    }
    let (store, _) = Store::open_with(&home, Arc::new(Clock::default()), SEGMENT).expect("the store opens");
    ready(&store).await;
    assert_eq!(present(&store).await, before);
}
