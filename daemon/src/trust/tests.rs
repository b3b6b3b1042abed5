//! Real folders, real file events: an owner that journals at once, and what watchers see meanwhile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use larder_core::Digest;
use larder_core::policy::{Rules, TrustFiles, TrustSet, TrustView};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::edit::{Edit, EditError};
use super::{Condition, Folder, InForceError, Published};

/// Two P-256 keys, made by cosign 2.6.1 (`generate-key-pair`).
const RELEASE: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEpaBwxXCFpd/8DBzJQzvzL5jVHLX3
mzpbaGqsKQpS6MeVPJ5iiVk13JZxBjISbWi0sZI0t3mDfjEFZX5yfb45Hw==
-----END PUBLIC KEY-----
";
const OTHER: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEpRj2O2+OUn7FB12179sDj0g+Oggq
6nDZWMJcsq+e0IyZHwJriy+jjJU2wclsub5GKvF0lUPgISTHuqaticT77A==
-----END PUBLIC KEY-----
";
/// Long for a busy machine; every wait ends with the event that it waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A watched folder whose owner puts every settled set in force at once and notes what changed.
struct Larder {
    home: tempfile::TempDir,
    folder: Folder,
    published: watch::Receiver<Published>,
    journal: watch::Receiver<Vec<Vec<String>>>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Larder {
    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("home");
        for name in ["keys", "policies", "roots"] {
            fs::create_dir_all(home.path().join("trust").join(name)).expect(name);
        }
        home
    }

    async fn start() -> Self {
        Self::with(Self::home(), None).await
    }

    async fn with(home: tempfile::TempDir, last: Option<(TrustFiles, Digest, Timestamp)>) -> Self {
        let larder = Self::begin(home, last);
        larder.until("settled", |published| published.condition == Condition::Settled).await;
        larder
    }

    fn begin(home: tempfile::TempDir, last: Option<(TrustFiles, Digest, Timestamp)>) -> Self {
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (folder, mut settled) =
            Folder::watch(home.path().join("trust"), Rules::default(), last, cancel.clone(), &tasks);
        let (note, journal) = watch::channel(Vec::new());
        let owner = folder.clone();
        tasks.spawn(async move {
            while let Some(settled) = settled.recv().await {
                note.send_modify(|records: &mut Vec<Vec<String>>| records.push(settled.changes.clone()));
                owner.put_in_force(&settled, Digest::of(&settled.files.to_blob()), Timestamp::UNIX_EPOCH);
            }
        });
        tasks.close();
        Self { home, published: folder.published(), folder, journal, cancel, tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("trust").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect(name);
    }

    fn now(&self) -> Published {
        self.published.borrow().clone()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Published) -> bool) -> Published {
        let mut published = self.published.clone();
        let found = tokio::time::timeout(PATIENCE, published.wait_for(|published| wanted(published))).await;
        found.unwrap_or_else(|_| panic!("never {what}: {:?}", self.now())).expect("watched").clone()
    }

    /// Waits until these files, and no others, are in force and the folder is settled.
    async fn until_in_force(&self, wanted: &[&str]) {
        let folder = self.folder.clone();
        self.until(&format!("{wanted:?} in force"), |published| {
            published.condition == Condition::Settled
                && matches!(published.view, TrustView::Settled(_))
                && published.in_force.is_some()
        })
        .await;
        let mut updates = folder.shared.updates.subscribe();
        let wait = async {
            while folder.files_in_force().0.keys().map(String::as_str).collect::<Vec<_>>() != wanted {
                updates.changed().await.expect("watched");
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} never in force, but {:?}", folder.files_in_force().0.keys()));
        self.until("settled", |published| published.condition == Condition::Settled).await;
    }

    fn journaled(&self) -> Vec<Vec<String>> {
        self.journal.borrow().clone()
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("every task ends");
    }
}

/// The keys that are judged with, whatever view it is.
fn readable(published: &Published) -> Vec<String> {
    let set = match &published.view {
        TrustView::Settled(set) | TrustView::Disturbed { readable: set, .. } => set,
        TrustView::Starting | TrustView::Missing { .. } => return Vec::new(),
    };
    set.keys.iter().filter(|(_, key)| key.revoked.is_none()).map(|(name, _)| name.clone()).collect()
}

#[tokio::test]
async fn a_key_comes_and_goes() {
    let larder = Larder::start().await;
    larder.write("keys/release.pub", RELEASE);
    larder.until_in_force(&["keys/release.pub"]).await;
    assert_eq!(readable(&larder.now()), ["release"]);
    fs::remove_file(larder.path("keys/release.pub")).expect("removed");
    let first = larder.until("without it", |published| readable(published).is_empty()).await;
    assert!(matches!(first.view, TrustView::Disturbed { .. } | TrustView::Settled(_)));
    larder.until_in_force(&[]).await;
    assert_eq!(larder.journaled()[1..], [["keys/release.pub added"], ["keys/release.pub removed"]]);
    larder.stop().await;
}

#[tokio::test]
async fn events_tell_long_before_the_poll() {
    let larder = Larder::start().await;
    let rounds = async {
        for round in 0..10 {
            let name = format!("keys/k{round}.pub");
            larder.write(&name, RELEASE);
            larder.until_in_force(&[&name]).await;
            fs::remove_file(larder.path(&name)).expect("removed");
            larder.until_in_force(&[]).await;
        }
    };
    // By polls alone these 20 changes would take 40 s.
    tokio::time::timeout(PATIENCE, rounds).await.expect("events, not polls");
    larder.stop().await;
}

#[tokio::test]
async fn a_key_written_before_what_revokes_it_never_counts() {
    let larder = Larder::start().await;
    larder.write("keys/old.pub", RELEASE);
    larder.write("keys/old.yaml", "revoked:\n  since: 2020-01-01T00:00:00Z\n  reason: leaked\n");
    larder.until_in_force(&["keys/old.pub", "keys/old.yaml"]).await;
    assert_eq!(
        larder.journaled().last().expect("journaled"),
        &["keys/old.pub added", "keys/old.yaml added"],
        "one step"
    );
    assert!(readable(&larder.now()).is_empty(), "it is revoked");
    larder.stop().await;
}

#[tokio::test]
async fn a_half_written_key_is_completed() {
    let larder = Larder::start().await;
    larder.write("keys/a.pub", &RELEASE[..60]);
    larder.until("seen", |published| !published.faults.is_empty()).await;
    larder.write("keys/a.pub", RELEASE);
    larder.until_in_force(&["keys/a.pub"]).await;
    assert!(larder.now().faults.is_empty());
    larder.stop().await;
}

#[tokio::test]
async fn a_fault_stops_what_is_new_and_not_what_narrows() {
    let larder = Larder::start().await;
    larder.write("keys/release.pub", RELEASE);
    larder.until_in_force(&["keys/release.pub"]).await;
    larder.write("keys/bad.pub", "no key at all");
    let faulty = larder.until("faulty", |published| published.condition == Condition::Faulty).await;
    assert_eq!(faulty.faults.first().expect("a fault").path, "keys/bad.pub");
    larder.write("keys/other.pub", OTHER);
    larder.until("seen", |published| readable(published).len() == 2).await;
    let TrustView::Disturbed { settled, .. } = larder.now().view else { panic!("not disturbed") };
    assert_eq!(settled.keys.len(), 1, "the new key is not in force");
    fs::remove_file(larder.path("keys/release.pub")).expect("removed");
    larder.until("narrowed", |published| readable(published) == ["other"]).await;
    assert_eq!(larder.now().condition, Condition::Faulty);
    fs::remove_file(larder.path("keys/bad.pub")).expect("removed");
    larder.until_in_force(&["keys/other.pub"]).await;
    larder.stop().await;
}

#[tokio::test]
async fn a_file_that_everybody_may_write_is_a_fault() {
    let larder = Larder::start().await;
    larder.write("keys/release.pub", RELEASE);
    larder.until_in_force(&["keys/release.pub"]).await;
    let mode =
        |mode| fs::set_permissions(larder.path("keys/release.pub"), fs::Permissions::from_mode(mode)).expect("chmod");
    mode(0o666);
    let faulty = larder.until("faulty", |published| published.condition == Condition::Faulty).await;
    assert!(readable(&faulty).is_empty());
    assert!(faulty.faults.first().expect("a fault").message.contains("chmod"));
    mode(0o644);
    larder.until("settled", |published| published.condition == Condition::Settled).await;
    assert_eq!(larder.journaled().len(), 2, "as it was: nothing to record");
    larder.stop().await;
}

#[tokio::test]
async fn a_mounted_config_map_is_swapped() {
    let larder = Larder::start().await;
    let version = |name: &str, key: &str| {
        fs::create_dir(larder.path(&format!("keys/{name}"))).expect(name);
        larder.write(&format!("keys/{name}/release.pub"), key);
        symlink(name, larder.path("keys/..data_tmp")).expect("link");
        fs::rename(larder.path("keys/..data_tmp"), larder.path("keys/..data")).expect("swapped");
    };
    version("..2026_1", RELEASE);
    symlink("..data/release.pub", larder.path("keys/release.pub")).expect("link");
    larder.until_in_force(&["keys/release.pub"]).await;
    version("..2026_2", OTHER);
    let changed = |records: &Vec<Vec<String>>| records.last().is_some_and(|last| last == &["keys/release.pub changed"]);
    let mut journal = larder.journal.clone();
    let swapped = tokio::time::timeout(PATIENCE, journal.wait_for(changed)).await;
    swapped.expect("the swap is seen").expect("watched");
    larder.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_gone_is_not_an_empty_one() {
    let larder = Larder::start().await;
    larder.write("keys/release.pub", RELEASE);
    larder.until_in_force(&["keys/release.pub"]).await;
    let (keys, aside) = (larder.path("keys"), larder.home.path().join("aside"));
    for stand_in in ["nothing", "a plain file", "a dangling link"] {
        fs::rename(&keys, &aside).expect("moved away");
        match stand_in {
            "a plain file" => fs::write(&keys, "").expect(stand_in),
            "a dangling link" => symlink("nowhere", &keys).expect(stand_in),
            _ => {}
        }
        let missing = larder.until(stand_in, |published| published.condition == Condition::Missing).await;
        assert!(matches!(missing.view, TrustView::Missing { .. }), "{stand_in}");
        assert_eq!(missing.faults.first().expect("named").path, "keys", "{stand_in}");
        if stand_in != "nothing" {
            fs::remove_file(&keys).expect(stand_in);
        }
        fs::rename(&aside, &keys).expect("put back");
        larder.until("settled", |published| published.condition == Condition::Settled).await;
    }
    assert_eq!(larder.journaled().len(), 2, "as it was: nothing to record");
    // The same for the whole folder, and events still come after it was swapped.
    let trust = larder.home.path().join("trust");
    fs::rename(&trust, &aside).expect("moved away");
    larder.until("missing", |published| published.condition == Condition::Missing).await;
    fs::rename(&aside, &trust).expect("put back");
    larder.until("settled", |published| published.condition == Condition::Settled).await;
    larder.write("keys/other.pub", OTHER);
    larder.until_in_force(&["keys/other.pub", "keys/release.pub"]).await;
    // A folder that never had a file may go.
    fs::remove_dir(larder.path("roots")).expect("roots");
    fs::remove_file(larder.path("keys/other.pub")).expect("other");
    larder.until_in_force(&["keys/release.pub"]).await;
    larder.stop().await;
}

#[tokio::test]
async fn a_restart_begins_with_the_set_last_in_force() {
    let home = Larder::home();
    fs::write(home.path().join("trust/keys/release.pub"), RELEASE).expect("key");
    let last = TrustFiles([("keys/release.pub".to_owned(), RELEASE.into())].into());
    let digest = Digest::of(&last.to_blob());
    let larder = Larder::with(home, Some((last, digest, Timestamp::UNIX_EPOCH))).await;
    assert!(larder.journaled().is_empty(), "starting writes no record");
    assert_eq!(larder.now().in_force, Some((digest, Timestamp::UNIX_EPOCH)));
    larder.stop().await;
    // Removed while nothing ran: seen before anything is accepted under it.
    let last = TrustFiles([("keys/release.pub".to_owned(), RELEASE.into())].into());
    let larder = Larder::begin(Larder::home(), Some((last, digest, Timestamp::UNIX_EPOCH)));
    assert!(matches!(larder.now().view, TrustView::Missing { .. }));
    larder.until_in_force(&[]).await;
    assert_eq!(larder.journaled(), [["keys/release.pub removed"]]);
    larder.stop().await;
}

#[tokio::test]
async fn keys_are_added_and_removed_by_edits() {
    let larder = Larder::start().await;
    let folder = &larder.folder;
    let globs = ["ghcr.io/team/**".to_owned()];
    let edit = Edit::add_key(&folder.current().await, Some("release"), RELEASE.as_bytes(), &globs).expect("planned");
    let preview = edit.preview(&folder.files_in_force());
    assert_eq!(preview.0.keys().collect::<Vec<_>>(), ["keys/release.pub", "keys/release.yaml"]);
    assert!(TrustSet::read(&preview).faults.is_empty(), "{:?}", TrustSet::read(&preview).faults);
    folder.apply(&edit).await.expect("written");
    folder.await_in_force(&edit).await.expect("in force");
    assert_eq!(folder.files_in_force(), preview);

    let contents = folder.current().await;
    let again = Edit::add_key(&contents, Some("release"), RELEASE.as_bytes(), &globs).expect("planned");
    assert!(again.is_unchanged());
    folder.await_in_force(&again).await.expect("there is nothing to wait for");
    let taken = Edit::add_key(&contents, Some("release"), OTHER.as_bytes(), &globs).expect_err("another key");
    assert!(matches!(taken, EditError::NameTaken { .. }));
    let bad = Edit::add_key(&contents, Some("x"), OTHER.as_bytes(), &["not a glob".into()]).expect_err("glob");
    assert_eq!(bad.reason(), "bad-glob");
    assert_eq!(Edit::add_key(&contents, Some("x"), b"no key", &[]).expect_err("key").reason(), "bad-key");
    let unknown = Edit::remove_key(&contents, "nobody").expect_err("no such key");
    assert!(unknown.hint().expect("hint").contains("release"));

    let removal = Edit::remove_key(&contents, "release").expect("planned");
    assert!(removal.preview(&contents.files).0.is_empty());
    folder.apply(&removal).await.expect("removed");
    folder.await_in_force(&removal).await.expect("in force");
    assert!(folder.files_in_force().0.is_empty());
    larder.stop().await;
}

#[tokio::test]
async fn what_revokes_a_key_is_not_overwritten() {
    let larder = Larder::start().await;
    larder.write("keys/old.yaml", "revoked:\n  reason: leaked\n");
    let contents = larder.folder.current().await;
    let prepared = Edit::add_key(&contents, Some("old"), RELEASE.as_bytes(), &[]).expect_err("prepared");
    assert_eq!(prepared.reason(), "settings-there");
    larder.write("keys/old.pub", RELEASE);
    let contents = larder.folder.current().await;
    let scoped = Edit::add_key(&contents, Some("old"), RELEASE.as_bytes(), &["a.io/**".into()]).expect_err("revoked");
    assert_eq!(scoped.reason(), "settings-there");
    larder.stop().await;
}

#[tokio::test]
async fn an_edit_in_a_faulty_folder_stays_and_says_why() {
    let larder = Larder::start().await;
    let folder = &larder.folder;
    larder.write("keys/bad.pub", "no key at all");
    larder.until("faulty", |published| published.condition == Condition::Faulty).await;
    let edit = Edit::add_key(&folder.current().await, Some("release"), RELEASE.as_bytes(), &[]).expect("planned");
    folder.apply(&edit).await.expect("written");
    let error = folder.await_in_force(&edit).await.expect_err("faulty");
    assert!(matches!(&error, InForceError::Faulty(faults) if faults.iter().any(|fault| fault.path == "keys/bad.pub")));
    assert!(larder.path("keys/release.pub").exists(), "what was written stays");
    // An edit that heals the folder is not refused for what it heals.
    let removal = Edit::remove_key(&folder.current().await, "bad").expect("planned");
    folder.apply(&removal).await.expect("removed");
    folder.await_in_force(&removal).await.expect("healed");
    folder.await_in_force(&edit).await.expect("in force by itself");
    larder.stop().await;
}

#[tokio::test]
async fn a_glob_is_allowed_unsigned() {
    let larder = Larder::start().await;
    let folder = &larder.folder;
    let edit = Edit::allow(&folder.current().await, "docker.io/library/**").expect("planned");
    assert_eq!(edit.name(), "allow-docker.io-library");
    folder.apply(&edit).await.expect("written");
    folder.await_in_force(&edit).await.expect("in force");
    assert_eq!(folder.files_in_force().0.keys().collect::<Vec<_>>(), ["policies/allow-docker.io-library.yaml"]);
    assert!(larder.now().faults.is_empty() && larder.now().warnings.is_empty(), "{:?}", larder.now());
    let contents = folder.current().await;
    assert!(Edit::allow(&contents, "docker.io/library/**").expect("planned").is_unchanged());
    let similar = Edit::allow(&contents, "docker.io/library/*").expect("planned");
    assert_ne!(similar.name(), edit.name(), "another glob of the same slug");
    assert_eq!(Edit::allow(&contents, "no glob!").expect_err("glob").reason(), "bad-glob");
    larder.stop().await;
}

#[tokio::test]
async fn stops_while_the_owner_is_away() {
    let home = Larder::home();
    let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (folder, settled) = Folder::watch(home.path().join("trust"), Rules::default(), None, cancel.clone(), &tasks);
    drop(settled);
    tasks.close();
    let edit = Edit::allow(&folder.current().await, "**").expect("planned");
    folder.apply(&edit).await.expect("written");
    cancel.cancel();
    assert_eq!(folder.await_in_force(&edit).await, Err(InForceError::Stopped));
    tokio::time::timeout(PATIENCE, tasks.wait()).await.expect("ends");
}
