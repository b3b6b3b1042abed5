use std::fs;
use std::path::PathBuf;

use larder_core::check::SignedHash;
use larder_core::key::AnchorId;

use super::*;

/// Everything that a store answers.
pub(super) async fn answers(store: &Store) -> String {
    let list = store.list(None, 99).await.expect("a list");
    let after = store.oldest().0 - 1;
    let mut answers = format!("{list:?}\n{:?}\n", store.history_after(after, 99).await.expect("history"));
    for entry in &list {
        let (repository, digest) = (&entry.repository, entry.digest);
        let subject = HistoryOf::Subject(repository.clone(), digest);
        answers += &format!("{:?}\n", store.manifest_row(repository, digest).await.expect("a row"));
        answers += &format!("{:?}\n", store.tags(repository, None, 99).await.expect("tags"));
        answers += &format!("{:?}\n", store.attached(digest).await.expect("attached"));
        answers += &format!("{:?}\n", store.listed_by(repository, digest).await.expect("parents"));
        answers += &format!("{:?}\n", store.history_before(subject, 99, 99).await.expect("history"));
    }
    answers
}

pub(super) async fn fill(store: &Store) {
    let child = image(store, "child", Some(SubjectRole::Child)).await;
    let index = index_of(store, &[&child]).await;
    let set = store.put(Bytes::from_static(b"set")).await.expect("a set");
    let events = [
        pull(vec![child.clone(), index.clone()], &[("x", Some(index.digest))]),
        Event::TrustChanged(record::TrustChanged { changes: vec!["keys/a.pub added".into()], set }),
        told(&[&index, &child]),
        pull(vec![signature_of(store, &index, "sig").await], &[("y", Some(index.digest))]),
        pull(vec![ManifestAdded { subject: Some(SubjectRole::Root), ..child.clone() }], &[("x", Some(child.digest))]),
    ];
    for event in events {
        store.commit(actor(), vec![event]).await.expect("a commit");
    }
}

pub(super) async fn ready(store: &Store) {
    while store.rebuilding().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn views_are_rebuilt_to_the_same() {
    let (folder, store) = new_store();
    let home = folder.path().join("home");
    fill(&store).await;
    let (before, facts, trust) = (answers(&store).await, store.facts().to_bytes(), store.trust_in_force());
    assert!(trust.is_some());
    store.close().expect("closed");
    let garbage = |name: &str| {
        for entry in fs::read_dir(home.join(name)).expect(name) {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                fs::write(path, b"garbage").expect("garbage");
            }
        }
    };
    let remove = |name: &str| fs::remove_dir_all(home.join(name)).expect(name);
    let damages: [&dyn Fn(); 6] = [
        &|| {},
        &|| remove("index"),
        &|| remove("snapshot"),
        &|| {
            remove("index");
            remove("snapshot");
        },
        &|| garbage("index"),
        &|| garbage("snapshot"),
    ];
    for (place, damage) in damages.iter().enumerate() {
        damage();
        let store = open(&home);
        ready(&store).await;
        assert_eq!(answers(&store).await, before, "damage {place}");
        assert_eq!(store.facts().to_bytes(), facts, "damage {place}");
        assert_eq!(store.trust_in_force(), trust);
        // Not closed every time: the index alone is younger then.
        if place != 3 {
            store.close().expect("closed");
        }
    }
}

fn journal(home: &Path) -> PathBuf {
    let mut paths: Vec<_> =
        fs::read_dir(home.join("journal")).expect("journal").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.pop().expect("a segment")
}

async fn filled_home() -> (TempDir, PathBuf) {
    let (folder, store) = new_store();
    fill(&store).await;
    store.close().expect("closed");
    let home = folder.path().join("home");
    (folder, home)
}

#[tokio::test]
async fn a_torn_tail_is_cut_kept_and_told() {
    let (_folder, home) = filled_home().await;
    let path = journal(&home);
    let whole = fs::read(&path).expect("the journal");
    let mut torn = whole.clone();
    torn.extend_from_slice(b"\0\0\x01\0torn");
    fs::write(&path, torn).expect("a torn journal");
    let (store, mended) = Store::open(&home, Arc::new(Clock::default())).expect("open");
    assert!(mended[0].contains("quarantine"), "{mended:?}");
    assert_eq!(*store.read_only().borrow(), None);
    assert_eq!(fs::read(&path).expect("the journal"), whole);
    store.commit(actor(), vec![pull(Vec::new(), &[("x", None)])]).await.expect("a commit");
    store.close().expect("closed");
    let (_, mended) = Store::open(&home, Arc::new(Clock::default())).expect("open");
    assert!(mended.is_empty(), "{mended:?}");
}

#[tokio::test]
async fn a_loss_makes_read_only_and_changes_nothing() {
    type Damage = fn(&mut Vec<u8>);
    let short: Damage = |bytes| bytes.truncate(bytes.len() - 5);
    let tampered: Damage = |bytes| {
        let place = bytes.len() / 3;
        bytes[place] ^= 0x20;
    };
    let empty: Damage = Vec::clear;
    for (damage, without) in [
        (short, &[][..]),
        (short, &["index"]),
        (short, &["snapshot"]),
        (tampered, &[]),
        (tampered, &["index", "snapshot"]),
        (empty, &[]),
    ] {
        let (_folder, home) = filled_home().await;
        let path = journal(&home);
        let mut bytes = fs::read(&path).expect("the journal");
        damage(&mut bytes);
        fs::write(&path, &bytes).expect("damage");
        for view in without {
            fs::remove_dir_all(home.join(view)).expect(view);
        }
        let store = open(&home);
        ready(&store).await;
        let why = store.read_only().borrow().clone().expect("read-only");
        assert!(why.contains("journal"), "{why}");
        assert_eq!(store.put(Bytes::from_static(b"x")).await.expect_err("no writing").reason(), "read-only");
        assert!(matches!(store.commit(actor(), Vec::new()).await, Err(StoreError::ReadOnly { .. })));
        if !without.contains(&"snapshot") {
            assert_eq!(store.facts().len(), 2, "what the snapshot has is served");
        }
        store.list(None, 9).await.expect("look-ups are answered");
        store.close().expect("closed");
        assert_eq!(fs::read(&path).expect("the journal"), bytes, "never a silent repair");
    }
    // Without the views the end that is gone is not missed: it is a crash's.
    let (_folder, home) = filled_home().await;
    let path = journal(&home);
    let length = fs::metadata(&path).expect("the journal").len();
    fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(length - 5)).expect("a cut");
    for view in ["index", "snapshot"] {
        fs::remove_dir_all(home.join(view)).expect(view);
    }
    assert_eq!(*open(&home).read_only().borrow(), None);
}

#[tokio::test]
async fn checks_survive_in_the_snapshot_only() {
    let (folder, store) = new_store();
    let home = folder.path().join("home");
    fill(&store).await;
    let id = SignatureId([3; 32]);
    let anchor = AnchorId([5; 32]);
    let missing = |store: &Store| store.facts().missing_checks(&[anchor], None).len();
    assert_eq!(missing(&store), 1);
    store.with_facts(|facts| facts.record_check(id, anchor, Some(SignedHash::Sha256)));
    assert_eq!(missing(&store), 0);
    store.close().expect("closed");
    let store = open(&home);
    assert_eq!(missing(&store), 0);
    store.close().expect("closed");
    fs::remove_dir_all(home.join("snapshot")).expect("snapshot");
    assert_eq!(missing(&open(&home)), 1);
}
