use std::fs;
use std::path::PathBuf;

use super::views::{answers, fill, ready};
use super::*;
use crate::store::record::Corruption;

/// Every commit gets a segment of its own.
const SEGMENT: u64 = 100;
const EVERYTHING: Keep = Keep { days: 0, bytes: 0 };

fn open_small(home: &Path) -> (Store, Vec<String>) {
    Store::open_with(home, Arc::new(Clock::default()), SEGMENT).expect("the store opens")
}

fn files_of(home: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.join("journal")).expect("journal").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == kind)).collect();
    paths.sort();
    paths
}

fn remove_views(home: &Path) {
    for view in ["index", "snapshot"] {
        fs::remove_dir_all(home.join(view)).expect(view);
    }
}

/// What is known now, without history.
async fn present(store: &Store) -> String {
    let mut present = format!("{:?} {:?}", store.trust_in_force(), store.facts().len());
    for entry in store.list(None, 99).await.expect("a list") {
        let (repository, digest) = (&entry.repository, entry.digest);
        let row = store.manifest_row(repository, digest).await.expect("a row");
        let tag = match &entry.tag {
            Some(tag) => store.tag(repository, tag).await.expect("a tag"),
            None => None,
        };
        let attached = store.attached(digest).await.expect("attached");
        let facts = store.facts();
        let (told, first) = (facts.told(repository, digest), facts.first_seen(repository, digest));
        let signatures: Vec<_> =
            facts.signatures_of(digest).into_iter().map(|id| (facts.signature(id), facts.found_at(id))).collect();
        let corrupt = facts.is_corrupt(digest);
        present += &format!("\n{entry:?} {row:?} {tag:?} {attached:?} {told:?} {first:?} {signatures:?} {corrupt}");
    }
    present
}

/// A home whose journal has many segments, and something that was said more than once.
async fn long_home() -> (TempDir, PathBuf, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let (store, _) = open_small(&home);
    fill(&store).await;
    let image = image(&store, "again", Some(SubjectRole::Root)).await;
    for round in 0..20 {
        let move_to = if round % 2 == 0 { Some(image.digest) } else { None };
        store.commit(actor(), vec![pull(vec![image.clone()], &[("again", move_to)])]).await.expect("a commit");
        store.commit(actor(), vec![told(&[&image])]).await.expect("a commit");
    }
    let corrupt = |corrupt| Event::Corruption(Corruption { digest: image.digest, corrupt });
    store.commit(actor(), vec![corrupt(true), corrupt(false), corrupt(true)]).await.expect("a commit");
    store.commit(actor(), vec![pull(Vec::new(), &[("last", Some(image.digest))])]).await.expect("a commit");
    (folder, home, store)
}

#[tokio::test]
async fn what_matters_outlives_its_history() {
    let (_folder, home, store) = long_home().await;
    let before = present(&store).await;
    let head = *store.head().borrow();
    let plan = store.prune(EVERYTHING, actor(), true).await.expect("a plan");
    assert!(plan.segments > 40 && plan.until == head - 1, "{plan:?} {head}");
    assert_eq!(store.oldest(), (1, None), "a dry run changes nothing");
    let nothing = store.prune(Keep { days: 1, bytes: 0 }, actor(), false).await.expect("nothing");
    assert_eq!(nothing, Pruning::default(), "all of it is young");
    let nothing = store.prune(Keep { days: 0, bytes: 1 << 20 }, actor(), false).await.expect("nothing");
    assert_eq!(nothing, Pruning::default(), "all of it is short");

    let pruned = store.prune(EVERYTHING, actor(), false).await.expect("a pruning");
    assert_eq!(Pruning { state_bytes: 0, ..pruned.clone() }, plan);
    assert!(pruned.state_bytes > 0 && pruned.state_bytes < pruned.bytes, "{pruned:?}");
    assert_eq!(files_of(&home, "log").len(), 2, "the last one, and that of the pruning's own record");
    assert_eq!(store.oldest().0, head);
    assert_eq!(present(&store).await, before);
    let gone = store.history_after(0, 9).await.expect_err("gone");
    assert!(matches!(gone, StoreError::Pruned { oldest } if oldest == head), "{gone}");
    assert_eq!(gone.reason(), "cursor-pruned");
    assert_eq!(store.history_after(head - 1, 9).await.expect("the tail").len(), 2);
    // What was told last is there with its reasons, its cause and its seq.
    let list = store.list(None, 99).await.expect("a list");
    for entry in &list {
        let told = store.facts().told(&entry.repository, entry.digest);
        let Some(told) = told else { continue };
        let record = store.record_from(told.seq).await.expect("readable").expect("kept");
        let Event::VerdictsTold(verdicts) = &record.event else { panic!("a verdict") };
        assert_eq!((verdicts.changes[0].digest, verdicts.changes[0].to), (entry.digest, told.state));
        assert!(!verdicts.changes[0].reasons.is_empty());
    }
    let of = HistoryOf::Subject(list[0].repository.clone(), list[0].digest);
    assert!(!store.history_before(of, u64::MAX, 2).await.expect("history").is_empty());

    // Nothing but blobs and journal is needed, and it can go on for ever.
    let answered = answers(&store).await;
    store.close().expect("closed");
    for without_views in [false, true] {
        if without_views {
            remove_views(&home);
        }
        let (store, mended) = open_small(&home);
        ready(&store).await;
        assert!(mended.is_empty(), "{mended:?}");
        assert_eq!(present(&store).await, before, "without views: {without_views}");
        store.verified().await.expect("whole");
        if !without_views {
            assert_eq!(answers(&store).await, answered);
        }
        let digest = store.list(None, 1).await.expect("a list")[0].digest;
        store.commit(actor(), vec![pull(Vec::new(), &[("more", Some(digest))])]).await.expect("a commit");
        store.commit(actor(), vec![pull(Vec::new(), &[("more", None)])]).await.expect("a commit");
        let again = store.prune(EVERYTHING, actor(), false).await.expect("again");
        assert!(again.until > pruned.until);
        assert_eq!(files_of(&home, "state").len(), 1, "the older state went");
        assert_eq!(present(&store).await, before);
        store.close().expect("closed");
    }
    let features = fs::read_to_string(home.join("format.json")).expect("format.json");
    assert!(features.contains("pruned-journal"), "an older daemon must not open it: {features}");
}

#[tokio::test]
async fn a_state_does_not_grow_with_what_is_said_again() {
    let (_folder, _, store) = long_home().await;
    let first = store.prune(EVERYTHING, actor(), false).await.expect("a pruning").state_bytes;
    let image = image(&store, "again", Some(SubjectRole::Root)).await;
    for _ in 0..50 {
        store
            .commit(actor(), vec![pull(vec![image.clone()], &[("again", Some(image.digest))])])
            .await
            .expect("a commit");
        store.commit(actor(), vec![told(&[&image])]).await.expect("a commit");
    }
    let second = store.prune(EVERYTHING, actor(), false).await.expect("a pruning").state_bytes;
    assert!(second < first + 1000, "{first} and {second} bytes");
}

type Damage = fn(&Path);

fn change_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let place = bytes.len() / 2;
    bytes[place] ^= 0x20;
    fs::write(path, bytes).expect("an edit");
}

/// Damages that a start sees or that are found soon after it; each makes read-only, and nothing is repaired in silence.
#[tokio::test]
async fn damage_to_the_older_part_is_found() {
    let cases: [(&str, bool, Damage); 9] = [
        ("an edited byte in a sealed segment", false, |home| change_byte(&files_of(home, "log")[5])),
        ("a sealed segment that is cut", false, |home| {
            let path = &files_of(home, "log")[5];
            let length = fs::metadata(path).expect("a segment").len();
            fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(length - 3)).expect("a cut");
        }),
        ("a sealed segment without its last frame", false, |home| {
            let path = &files_of(home, "log")[5];
            fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(68)).expect("a cut");
        }),
        ("a segment that is gone", false, |home| fs::remove_file(&files_of(home, "log")[5]).expect("removed")),
        ("the first segment gone", false, |home| fs::remove_file(&files_of(home, "log")[0]).expect("removed")),
        ("two segments that changed places", false, |home| {
            let segments = files_of(home, "log");
            let beside = home.join("beside");
            fs::rename(&segments[4], &beside).expect("renamed");
            fs::rename(&segments[5], &segments[4]).expect("renamed");
            fs::rename(&beside, &segments[5]).expect("renamed");
        }),
        ("an edited byte in the state", true, |home| change_byte(&files_of(home, "state")[0])),
        ("a state that is gone", true, |home| fs::remove_file(&files_of(home, "state")[0]).expect("removed")),
        ("a state that is cut", true, |home| {
            let path = &files_of(home, "state")[0];
            let length = fs::metadata(path).expect("a state").len();
            fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(length - 12)).expect("a cut");
        }),
    ];
    for (name, pruned, damage) in cases {
        let (_folder, home, store) = long_home().await;
        if pruned {
            store.prune(EVERYTHING, actor(), false).await.expect("a pruning");
        }
        let subjects = store.facts().len();
        store.close().expect("closed");
        damage(&home);
        let files: Vec<_> = [files_of(&home, "log"), files_of(&home, "state")].concat();
        let (store, _) = open_small(&home);
        let mut read_only = store.read_only();
        let why = read_only.wait_for(Option::is_some).await.expect("a reason").clone().expect("a reason");
        assert!(why.contains("journal") && why.contains("put journal/ back"), "{name}: {why}");
        assert_eq!(store.facts().len(), subjects, "{name}: what is known is served");
        let refused = store.prune(EVERYTHING, actor(), false).await.expect_err(name);
        assert_eq!(refused.reason(), "read-only", "{name}");
        store.close().expect("closed");
        assert_eq!([files_of(&home, "log"), files_of(&home, "state")].concat(), files, "{name}: nothing is repaired");
    }
}

/// A state that somebody made from true records, and put in the place of the one on record.
#[tokio::test]
async fn a_state_that_is_not_on_record_is_found() {
    let (_folder, home, store) = long_home().await;
    store.prune(EVERYTHING, actor(), false).await.expect("a pruning");
    store.close().expect("closed");
    let path = files_of(&home, "state").remove(0);
    let mut bytes = fs::read(&path).expect("the state");
    // The time of its writing, with a checksum that fits: nothing but the digest on record tells.
    bytes[72] ^= 1;
    let checksum = crc32fast::hash(&bytes[..80]);
    bytes[80..84].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).expect("a forgery");
    let (store, _) = open_small(&home);
    let why = store.read_only().wait_for(Option::is_some).await.expect("a reason").clone().expect("a reason");
    assert!(why.contains("on record"), "{why}");
}

#[tokio::test]
async fn a_start_reads_the_tail_alone_and_looks_at_the_rest_later() {
    let (_folder, home, store) = long_home().await;
    let answered = answers(&store).await;
    store.close().expect("closed");
    let opened = journal::scan(&home.join("journal"), &[], Some(u64::MAX)).expect("a scan");
    assert!(opened.unread.is_some_and(|chain| chain.seq > 40), "{:?}", opened.unread);
    let (store, _) = open_small(&home);
    // Before, during and after the verification, history is there.
    assert_eq!(answers(&store).await, answered);
    store.verified().await.expect("whole");
    assert_eq!(*store.verifying().borrow(), None);
    assert_eq!(answers(&store).await, answered);
}

#[tokio::test]
async fn a_pruning_that_was_interrupted_is_finished_or_undone() {
    let (_folder, home, store) = long_home().await;
    store.close().expect("closed");
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files_of(&home, "log").into_iter().map(|path| (path.clone(), fs::read(path).expect("a segment"))).collect();
    let (store, _) = open_small(&home);
    let before = present(&store).await;
    let pruned = store.prune(EVERYTHING, actor(), false).await.expect("a pruning");
    store.close().expect("closed");
    let state = files_of(&home, "state").remove(0);
    let state_bytes = fs::read(&state).expect("the state");
    let count = usize::try_from(pruned.segments).expect("a number");
    // So many segments went before it was interrupted.
    for gone in [0, 1, 20, count - 1] {
        for (place, (path, bytes)) in whole.iter().take(count).enumerate() {
            let _ = fs::remove_file(path);
            if place >= gone {
                fs::write(path, bytes).expect("a segment comes back");
            }
        }
        fs::write(&state, &state_bytes).expect("the state");
        let (store, mended) = open_small(&home);
        assert_eq!(*store.read_only().borrow(), None, "{gone} gone");
        ready(&store).await;
        assert!(!mended.is_empty(), "{gone} gone");
        assert_eq!(present(&store).await, before, "{gone} gone");
        store.verified().await.expect("whole");
        assert_eq!(store.oldest().0, if gone == 0 { 1 } else { pruned.until + 1 });
        store.close().expect("closed");
    }
}
