//! The store as others use it, in real folders.

mod clean;
mod crash;
mod history;
mod prune;
mod views;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use larder_core::artifact::AttachedKind;
use larder_core::facts::SignatureRow;
use larder_core::manifest::{OCI_INDEX, OCI_MANIFEST};
use larder_core::signature::{Format, Says, SignatureId};
use tempfile::TempDir;

use super::record::{
    AttachedTo, Cause, Operation, OperationKind, SubjectRole, Successor, TagMoved, VerdictTold, VerdictsTold,
};
use super::*;
use crate::config::Keep;

pub(super) fn open(home: &Path) -> Store {
    Store::open(home, Arc::new(Clock::default())).expect("the store opens").0
}

pub(super) fn new_store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("home"));
    (folder, store)
}

pub(super) fn repository(text: &str) -> Repository {
    text.parse().expect("a repository")
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

pub(super) fn actor() -> Actor {
    Actor { uid: Some(1000), via: "test".into() }
}

/// Puts a manifest with one layer into the store; returns what an operation says of it.
pub(super) async fn image(store: &Store, name: &str, role: Option<SubjectRole>) -> ManifestAdded {
    let layer = Bytes::from(format!("layer of {name}"));
    let manifest = Bytes::from(format!("manifest {name}"));
    let size = manifest.len() as u64;
    let digests = store
        .put_many(vec![layer.clone(), manifest].into_iter().map(|blob| (Algorithm::Sha256, blob)).collect())
        .await
        .expect("blobs");
    ManifestAdded {
        repository: repository("quay.io/team/app"),
        digest: digests[1],
        media_type: OCI_MANIFEST.into(),
        artifact_type: None,
        size,
        subject: role,
        attached: None,
        successors: vec![Successor { digest: digests[0], size: layer.len() as u64, manifest: false }],
        left_out: Vec::new(),
        signatures: Vec::new(),
        uncounted: 0,
    }
}

pub(super) async fn index_of(store: &Store, children: &[&ManifestAdded]) -> ManifestAdded {
    let mut index = image(store, "index", Some(SubjectRole::Root)).await;
    index.media_type = OCI_INDEX.into();
    index.successors =
        children.iter().map(|child| Successor { digest: child.digest, size: child.size, manifest: true }).collect();
    index
}

pub(super) async fn signature_of(store: &Store, subject: &ManifestAdded, name: &str) -> ManifestAdded {
    let mut manifest = image(store, name, None).await;
    manifest.attached = Some(AttachedTo { subject: subject.digest, kind: AttachedKind::Signature, tag: None });
    manifest.signatures = vec![SignatureRow {
        id: SignatureId([name.len() as u8; 32]),
        format: Format::SimpleSigning,
        names: Some(subject.digest),
        says: Says::Signed,
        first_seen: Timestamp::from_nanosecond(1_700_000_000_123_456_789).expect("a time"),
        manifest: manifest.digest,
        layer: 0,
    }];
    manifest
}

pub(super) fn pull(manifests: Vec<ManifestAdded>, tags: &[(&str, Option<Digest>)]) -> Event {
    let moved = |(name, new): &(&str, Option<Digest>)| TagMoved {
        repository: repository("quay.io/team/app"),
        tag: tag(name),
        old: None,
        new: *new,
    };
    Event::Operation(Operation {
        kind: OperationKind::Pull,
        reference: "quay.io/team/app:x".into(),
        manifests,
        tags: tags.iter().map(moved).collect(),
        detached: Vec::new(),
    })
}

pub(super) fn told(subjects: &[&ManifestAdded]) -> Event {
    use larder_core::verdict::{Code, Reason, State};
    let change = |subject: &&ManifestAdded| VerdictTold {
        repository: subject.repository.clone(),
        digest: subject.digest,
        tags: vec![tag("latest")],
        from: Some(State::Unsigned),
        to: State::Verified,
        reasons: vec![Reason { code: Code::SignedBy, detail: Some("release".into()) }],
        previous: 0,
    };
    Event::VerdictsTold(VerdictsTold {
        cause: Cause { code: "pulled".into(), detail: "quay.io/team/app".into() },
        changes: subjects.iter().map(change).collect(),
    })
}

#[tokio::test]
async fn a_commit_appears_whole() {
    let (_folder, store) = new_store();
    let mut head = store.head();
    let child = image(&store, "child", Some(SubjectRole::Child)).await;
    let index = index_of(&store, &[&child]).await;
    let signature = signature_of(&store, &index, "signature").await;
    let events = vec![
        pull(vec![child.clone(), index.clone(), signature.clone()], &[("1.0", Some(index.digest))]),
        told(&[&index, &child]),
    ];
    let records = store.commit(actor(), events).await.expect("a commit");
    assert_eq!(records.iter().map(|record| (record.seq, record.seqs())).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    assert_eq!(*head.borrow_and_update(), 3);
    let app = repository("quay.io/team/app");
    let row = store.tag(&app, &tag("1.0")).await.expect("a look-up").expect("a tag");
    assert_eq!((row.digest, row.seq, row.moved), (index.digest, 1, records[0].time));
    assert_eq!(store.tags_of(&app, index.digest).await.expect("tags"), [tag("1.0")]);
    assert_eq!(store.listed_anywhere(child.digest).await.expect("parents"), [(app.clone(), index.digest)]);
    assert_eq!(store.listed_by(&app, child.digest).await.expect("parents"), [index.digest]);
    let attached = store.attached(index.digest).await.expect("attached");
    assert_eq!(attached.len(), 1);
    assert_eq!(attached[0].signatures[0].first_seen.as_nanosecond() % 1_000_000, 0, "milliseconds are kept");
    let listed = store.list(None, 10).await.expect("a list");
    assert_eq!(listed, [ListKey { repository: app.clone(), tag: Some(tag("1.0")), digest: index.digest }]);
    let facts = store.facts();
    assert_eq!(facts.parents(&app, child.digest), [index.digest]);
    assert_eq!(facts.told(&app, child.digest).map(|told| told.seq), Some(3));
    assert_eq!(facts.signatures_of(index.digest).len(), 1);
}

#[tokio::test]
async fn what_would_break_an_invariant_is_refused() {
    let (_folder, store) = new_store();
    let mut broken = image(&store, "broken", Some(SubjectRole::Root)).await;
    let absent = Digest::of(b"absent");
    broken.successors.push(Successor { digest: absent, size: 6, manifest: false });
    let refused = |result: Result<Vec<Record>, StoreError>| {
        let missing = match &result {
            Err(StoreError::NotHeld { digest: missing } | StoreError::Incomplete { missing, .. }) => missing,
            other => panic!("{other:?}"),
        };
        assert_eq!(*missing, absent);
    };
    refused(store.commit(actor(), vec![pull(vec![broken.clone()], &[])]).await);
    refused(store.commit(actor(), vec![pull(Vec::new(), &[("x", Some(absent))])]).await);
    refused(store.commit(actor(), vec![pull(vec![ManifestAdded { digest: absent, ..broken.clone() }], &[])]).await);
    let set = Event::TrustChanged(record::TrustChanged { changes: Vec::new(), set: absent });
    refused(store.commit(actor(), vec![set]).await);
    // One bad event, and nothing of the commit is there.
    refused(store.commit(actor(), vec![told(&[&broken]), pull(vec![broken.clone()], &[])]).await);
    assert!(matches!(store.commit(actor(), vec![told(&[])]).await, Err(StoreError::Invalid(_))));
    let many = vec![&broken; 1001];
    assert!(matches!(store.commit(actor(), vec![told(&many)]).await, Err(StoreError::Invalid(_))));
    assert_eq!(*store.head().borrow(), 0);
    assert_eq!(store.facts().len(), 0);
    // Left out on purpose, it goes.
    broken.left_out = vec![absent];
    store.commit(actor(), vec![pull(vec![broken], &[])]).await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_frames_and_none_is_lost() {
    let (folder, store) = new_store();
    let subject = image(&store, "many", Some(SubjectRole::Root)).await;
    store.commit(actor(), vec![pull(vec![subject.clone()], &[])]).await.expect("the subject");
    let mut tasks = task::JoinSet::new();
    for number in 0..200 {
        let (store, subject) = (store.clone(), subject.clone());
        tasks.spawn(async move {
            let events = vec![told(&[&subject]), pull(Vec::new(), &[(&format!("t{number}"), Some(subject.digest))])];
            let records = store.commit(actor(), events).await.expect("a commit");
            assert_eq!(records[0].last_seq() + 1, records[1].seq, "a commit's records are together");
            records[1].seq
        });
    }
    let mut seqs: Vec<u64> = tasks.join_all().await;
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!((seqs.len(), *store.head().borrow()), (200, 401));
    assert_eq!(store.tags_of(&subject.repository, subject.digest).await.expect("tags").len(), 200);
    let before = store.history_after(0, 1000).await.expect("records");
    drop(store);
    let store = open(&folder.path().join("home"));
    assert_eq!(store.history_after(0, 1000).await.expect("records"), before);
}

#[tokio::test]
async fn tags_know_what_they_named() {
    let (_folder, store) = new_store();
    let (one, two) =
        (image(&store, "one", Some(SubjectRole::Root)).await, image(&store, "two", Some(SubjectRole::Root)).await);
    let moves = [
        vec![pull(vec![one.clone()], &[("x", Some(one.digest))])],
        // Twice within a commit.
        vec![pull(vec![two.clone()], &[("x", Some(two.digest))]), pull(Vec::new(), &[("x", Some(one.digest))])],
        vec![pull(Vec::new(), &[("x", None)])],
    ];
    let mut old = Vec::new();
    for events in moves {
        for record in store.commit(actor(), events).await.expect("a commit") {
            let Event::Operation(operation) = record.event else { panic!("an operation") };
            old.push(operation.tags[0].old);
        }
    }
    assert_eq!(old, [None, Some(one.digest), Some(two.digest), Some(one.digest)]);
    assert_eq!(store.tag(&one.repository, &tag("x")).await.expect("a look-up"), None);
    let untagged: Vec<_> = store.list(None, 9).await.expect("a list").into_iter().map(|entry| entry.tag).collect();
    assert_eq!(untagged, [None, None], "both were asked for, and no tag names them");
}

#[tokio::test]
async fn blobs_are_verified_as_they_come_and_as_they_are_read() {
    let (folder, store) = new_store();
    let home = folder.path().join("home");
    let content = Bytes::from(vec![7_u8; 3 << 20]);
    let digest = Digest::of(&content);
    let length = content.len() as u64;
    let mut ingest = store.ingest(Some((digest, Some(length)))).await.expect("an ingest");
    ingest.write(content.slice(..1 << 20)).await.expect("a chunk");
    assert!(!store.has(&digest));
    ingest.write(content.slice(1 << 20..)).await.expect("a chunk");
    assert_eq!(ingest.commit(None).await.expect("a blob"), (digest, length));
    assert_eq!(store.length(&digest), Some(length));
    assert_eq!(store.read(&digest, length).await.expect("the blob"), content);
    assert!(matches!(store.read(&digest, length - 1).await, Err(StoreError::TooLong { .. })));
    assert_eq!(store.bytes(), length);

    // By sha512, known only at the end.
    let long = Digest::with(Algorithm::Sha512, &content);
    let mut ingest = store.ingest(None).await.expect("an ingest");
    ingest.write(content.clone()).await.expect("a chunk");
    assert_eq!(ingest.commit(Some(long)).await.expect("a blob").0, long);
    store.verify(&long).await.expect("whole");

    // Too many, too few, other bytes; dropped.
    let other = Digest::of(b"other");
    let mut ingest = store.ingest(Some((other, Some(5)))).await.expect("an ingest");
    let error = ingest.write(Bytes::from_static(b"others")).await.expect_err("a byte too many");
    assert_eq!(error.reason(), "length-mismatch");
    drop(ingest);
    let mut ingest = store.ingest(Some((other, Some(5)))).await.expect("an ingest");
    ingest.write(Bytes::from_static(b"oth")).await.expect("a chunk");
    assert_eq!(ingest.commit(None).await.expect_err("two bytes missing").reason(), "length-mismatch");
    let mut ingest = store.ingest(Some((other, None))).await.expect("an ingest");
    ingest.write(Bytes::from_static(b"OTHER")).await.expect("a chunk");
    assert_eq!(ingest.commit(None).await.expect_err("other bytes").reason(), "digest-mismatch");
    assert!(!store.has(&other));
    let quarantined = || std::fs::read_dir(home.join("quarantine")).expect("quarantine").count();
    assert_eq!(quarantined(), 1);

    // A disk that forgets.
    let path = home.join("blobs/sha256").join(digest.hex());
    let mut bytes = content.to_vec();
    bytes[5] ^= 1;
    std::fs::rename(&path, home.join("ingest/gone")).expect("the file goes");
    std::fs::write(&path, bytes).expect("a bad file comes");
    assert!(
        matches!(store.read(&digest, length).await, Err(StoreError::DigestMismatch { expected, .. }) if expected == digest)
    );
    let mut corrupt = store.corrupt().expect("the first to ask");
    assert_eq!((corrupt.try_recv(), store.corrupt().is_none()), (Ok(digest), true));
    assert!(!store.has(&digest), "it is not held any more");
    assert_eq!(quarantined(), 2);
    assert!(matches!(store.read(&digest, length).await, Err(StoreError::NotHeld { .. })));
    store.close().expect("closed");
    let left = std::fs::read_dir(home.join("ingest")).expect("ingest").count();
    assert_eq!(left, 1, "only the file that the test put there");
    drop(open(&home));
    assert_eq!(std::fs::read_dir(home.join("ingest")).expect("ingest").count(), 0);
}

#[tokio::test]
async fn a_closed_store_says_so_and_the_home_is_free() {
    let (folder, store) = new_store();
    let home = folder.path().join("home");
    let held = Store::open(&home, Arc::new(Clock::default())).expect_err("held");
    assert!(matches!(held, OpenError::Held { .. }), "{held}");
    store.close().expect("closed");
    store.close().expect("closed twice");
    assert!(matches!(store.commit(actor(), Vec::new()).await, Err(StoreError::Stopping)));
    assert!(matches!(store.list(None, 1).await, Err(StoreError::Stopping)));
    drop(open(&home));
}
